//! The test message that an administrator publishes over the current connection.

use std::time::Duration;

use actix::{Handler, Recipient, ResponseFuture};

use super::{Mode, SupervisorActor};
use crate::{
    domain::{
        clock,
        status::{Failure, FailureKind},
    },
    messages::{
        connection::PublishState,
        supervisor::{PublishTestMessage, TestMessageError, TestMessageSent},
    },
};

/// How long to wait for the broker to acknowledge the test message.
const TIMEOUT: Duration = Duration::from_secs(10);

async fn publish(
    publish: Recipient<PublishState>,
    topic: String,
) -> Result<TestMessageSent, TestMessageError> {
    let payload = serde_json::json!({
        "message": "Test message from liveobject",
        "timestamp": clock::rfc3339(clock::now()),
    });
    let message = PublishState { topic: topic.clone(), payload: payload.to_string().into(), retain: false };
    match publish.send(message).timeout(TIMEOUT).await {
        Ok(acknowledged) => {
            acknowledged?;
        }
        Err(actix::MailboxError::Closed) => return Err(TestMessageError::NotConnected),
        Err(actix::MailboxError::Timeout) => {
            let text = "The broker did not acknowledge the test message within 10 s.";
            return Err(Failure::new(FailureKind::Timeout, text).into());
        }
    }
    Ok(TestMessageSent { topic })
}

impl Handler<PublishTestMessage> for SupervisorActor {
    type Result = ResponseFuture<Result<TestMessageSent, TestMessageError>>;

    fn handle(&mut self, _: PublishTestMessage, _: &mut Self::Context) -> Self::Result {
        let (Mode::Connected { running, .. }, Some(settings)) = (&self.mode, &self.settings) else {
            return Box::pin(async { Err(TestMessageError::NotConnected) });
        };
        let sent = publish(running.publish.clone(), settings.topic_prefix.test());
        Box::pin(async move {
            let result = sent.await;
            if let Err(TestMessageError::Failed(failure)) = &result {
                tracing::warn!(kind = failure.kind.as_str(), "could not publish the test message");
            }
            result
        })
    }
}
