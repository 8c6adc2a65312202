//! STUB
use crate::{
    camera::Camera,
    ids::CameraId,
    settings::{DiscoveryFormat, MqttSettings},
    topic::TopicPrefix,
};
use bytes::Bytes;
#[derive(Debug)]
pub struct About {
    pub version: &'static str,
    pub public_url: String,
}
pub struct Announcement {
    pub topic: String,
    pub payload: Bytes,
}
pub struct Device {
    id: String,
}
impl Device {
    pub fn announcements(&self, settings: &MqttSettings) -> Vec<Announcement> {
        vec![Announcement {
            topic: match settings.discovery_format {
                DiscoveryFormat::Device => format!("{}/device/{}/config", settings.discovery_prefix, self.id),
                DiscoveryFormat::Component => {
                    format!("{}/sensor/{}_event/config", settings.discovery_prefix, self.id)
                }
            },
            payload: Bytes::from_static(br#"{"stub": true}"#),
        }]
    }
}
pub fn camera_device(camera: &Camera, _: &MqttSettings, _: &About) -> Device {
    Device { id: camera_device_id(&camera.camera_id) }
}
pub fn service_device(s: &MqttSettings, _: &About) -> Device {
    Device { id: service_device_id(s) }
}
pub fn camera_device_id(id: &CameraId) -> String {
    format!("liveobject_{id}")
}
pub fn service_device_id(_: &MqttSettings) -> String {
    "liveobject-service".to_owned()
}
pub struct Legacy {
    pub topic: String,
    pub migrates: bool,
}
pub fn legacy_topics(_: &TopicPrefix, _: &CameraId) -> Vec<Legacy> {
    Vec::new()
}
