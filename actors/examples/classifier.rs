//! A classifier in the same process as the service: starts the service and sends it one event.
//!
//! Run with `cargo run -p liveobject-actors --example classifier`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints to the terminal")]

use actix::prelude::*;
use liveobject_actors::{EventInput, PublishEvent, Service, ServiceOptions};

/// Turns frames into events. The only part of the service that it needs is a recipient.
struct Classifier {
    publish: Recipient<PublishEvent>,
}

impl Actor for Classifier {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Frame;

impl Handler<Frame> for Classifier {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Frame, _: &mut Self::Context) -> Self::Result {
        let input = EventInput {
            camera_id: "front_door".into(),
            camera_name: Some("Front Door".into()),
            description: "Person at the door with a package".into(),
            objects_detected: vec!["person".into(), "package".into()],
            confidence: Some(91),
            ..EventInput::default()
        };
        let publish = self.publish.clone();
        Box::pin(async move {
            match input.validate() {
                // The receipt arrives once the event is on disk; it does not depend on the broker.
                Ok(event) => println!("{:?}", publish.send(PublishEvent::new(event)).await),
                Err(invalid) => eprintln!("{invalid}"),
            }
        })
    }
}

#[actix_rt::main(system = "liveobject_actors::System")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = Service::start(ServiceOptions::in_dir("data")).await?;
    let classifier = Classifier { publish: service.handle().publish }.start();
    classifier.send(Frame).await?;
    service.stop().await;
    Ok(())
}
