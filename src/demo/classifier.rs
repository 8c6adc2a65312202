//! A classifier actor: analyzes the pictures of one camera and publishes an event for each visitor.

use std::time::Duration;

use actix::{Actor, AsyncContext as _, Context, Recipient, WrapFuture as _};
use image::{GrayImage, codecs::jpeg::JpegEncoder};
use liveobject_actors::{EventInput, PublishEvent, domain::causes::with_causes};
use tokio::time::Instant;

use super::{
    camera::Camera,
    ledger::Ledger,
    shape::Detection,
    watcher::{Watcher, describe},
};

const PICTURE_EVERY: Duration = Duration::from_millis(150);
/// On a scale from 1 to 100.
const JPEG_QUALITY: u8 = 80;
const SEED: u32 = 1;

/// The classifier of one camera.
#[derive(Debug)]
pub struct Classifier {
    camera: Camera,
    watcher: Watcher,
    publish: Recipient<PublishEvent>,
    ledger: Ledger,
    started: Instant,
}

impl Classifier {
    /// Returns a classifier for this camera. It starts when the actor starts.
    pub fn new(camera: Camera, publish: Recipient<PublishEvent>, ledger: Ledger) -> Self {
        Self { camera, watcher: Watcher::new(camera, SEED), publish, ledger, started: Instant::now() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some((detection, picture)) = self.watcher.look(self.started.elapsed()) else { return };
        match event(self.camera, &detection).validate() {
            Ok(event) => {
                let event = with_picture(PublishEvent::new(event), &picture);
                let (publish, ledger) = (self.publish.clone(), self.ledger.clone());
                let sent = async move {
                    match publish.send(event).await {
                        Ok(Ok(receipt)) => ledger.record_accepted(receipt.seq.0),
                        Ok(Err(error)) => {
                            tracing::error!(error = %with_causes(&error), "the service did not accept an event");
                        }
                        Err(error) => {
                            tracing::error!(error = %with_causes(&error), "the service does not respond");
                        }
                    }
                };
                ctx.spawn(sent.into_actor(self));
            }
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "the classifier created an invalid event");
            }
        }
    }
}

fn event(camera: Camera, detection: &Detection) -> EventInput {
    let label = detection.label.as_str();
    EventInput {
        camera_id: camera.id().to_owned(),
        camera_name: Some(camera.name().to_owned()),
        description: describe(camera, detection.label),
        objects_detected: vec![label.to_owned()],
        confidence: Some(detection.confidence.min(100)),
        source_type: Some("demo".to_owned()),
        smart_detection_type: Some(label.to_owned()),
        ..EventInput::default()
    }
}

fn with_picture(event: PublishEvent, picture: &GrayImage) -> PublishEvent {
    let mut jpeg = Vec::new();
    match JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode_image(picture) {
        Ok(()) => event.with_thumbnail(jpeg),
        Err(error) => {
            tracing::error!(error = %with_causes(&error), "cannot encode a picture");
            event
        }
    }
}

impl Actor for Classifier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(PICTURE_EVERY, Self::look);
    }
}
