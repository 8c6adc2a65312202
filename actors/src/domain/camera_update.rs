//! Changes to a camera that a client requests.

use crate::domain::{
    camera::Camera,
    event,
    fields::{Fields, Invalid, bytes_within, no_control},
};

const MAX_SOURCE_TYPE_BYTES: usize = 64;

/// A requested change of a camera's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameUpdate {
    /// The name that a person gives: 1–100 characters, no control characters. It wins over the names in events.
    Given(String),
    /// The camera's own name, which its events report.
    Own,
}

/// A requested change to a camera. Its values are validated. A field that is `None` remains unchanged; in a
/// new camera, it gets its default value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(
        as = CameraInput,
        description = "Changes to a camera. Omitted fields keep their value; in a new camera, they get their default."
    )
)]
pub struct CameraUpdate {
    /// A name for the camera, which wins over the names in its events; `null` returns to the camera's own name.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 1, max_length = 100))]
    pub camera_name: Option<NameUpdate>,
    /// The kind of source.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub source_type: Option<String>,
    /// Whether the camera has a doorbell.
    pub is_doorbell: Option<bool>,
    /// Whether its state and its entities are published.
    pub enabled: Option<bool>,
}

impl CameraUpdate {
    /// The names of all fields that [`CameraUpdate::from_json`] accepts.
    pub const FIELDS: [&'static str; 4] = ["camera_name", "source_type", "is_doorbell", "enabled"];

    /// Reads an update from a JSON object. The error lists every problem: wrong types, values out of range
    /// and unknown fields.
    pub fn from_json(value: serde_json::Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let camera_name = match fields.has("camera_name").then(|| fields.text("camera_name")) {
            None => None,
            Some(None) => Some(NameUpdate::Own),
            Some(Some(name)) => {
                fields.faults.check("camera_name", event::camera_name(name)).map(NameUpdate::Given)
            }
        };
        let source_type = fields.text("source_type");
        let source_type = source_type.and_then(|text| {
            let checked = bytes_within(text, 1, MAX_SOURCE_TYPE_BYTES).and_then(no_control);
            fields.faults.check("source_type", checked)
        });
        let (is_doorbell, enabled) = (fields.boolean("is_doorbell"), fields.boolean("enabled"));
        fields.finish().finish()?;
        Ok(Self { camera_name, source_type, is_doorbell, enabled })
    }

    /// Applies the change to a camera.
    pub(crate) fn apply(self, camera: &mut Camera) {
        match self.camera_name {
            Some(NameUpdate::Given(name)) => camera.give_name(name),
            Some(NameUpdate::Own) => camera.use_own_name(),
            None => {}
        }
        if let Some(source_type) = self.source_type {
            camera.source_type = source_type;
        }
        camera.is_doorbell = self.is_doorbell.unwrap_or(camera.is_doorbell);
        camera.enabled = self.enabled.unwrap_or(camera.enabled);
    }
}
