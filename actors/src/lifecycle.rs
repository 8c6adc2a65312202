//! The end of an actor: on request, or by a panic.

use tokio::sync::mpsc::UnboundedSender;

/// Reports a panic of the actor that owns it, so that the service can shut down the process in order.
///
/// An actor that panics is dropped while its thread unwinds. An actor that stops is dropped without
/// unwinding.
#[derive(Debug)]
pub(crate) struct CrashGuard {
    actor: &'static str,
    crashed: UnboundedSender<&'static str>,
}

impl CrashGuard {
    /// Creates a guard that sends the actor's name to `crashed` if the actor panics.
    pub(crate) fn new(actor: &'static str, crashed: UnboundedSender<&'static str>) -> Self {
        Self { actor, crashed }
    }
}

impl Drop for CrashGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The receiver no longer exists if the service is already stopping.
            let _stopping = self.crashed.send(self.actor);
        }
    }
}

/// Implements `Handler<Stop>` for an actor that has nothing to do before it stops.
macro_rules! stops_on_request {
    ($actor:ty) => {
        impl actix::Handler<$crate::messages::service::Stop> for $actor {
            type Result = ();

            fn handle(&mut self, _: $crate::messages::service::Stop, ctx: &mut Self::Context) {
                actix::ActorContext::stop(ctx);
            }
        }
    };
}

pub(crate) use stops_on_request;

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn only_a_panic_is_reported() {
        let (crash, mut crashed) = mpsc::unbounded_channel();
        drop(CrashGuard::new("outbox", crash.clone()));
        assert!(crashed.try_recv().is_err(), "an actor that stops has not crashed");
        let panicked = std::panic::catch_unwind(move || {
            let _guard = CrashGuard::new("outbox", crash);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(crashed.try_recv(), Ok("outbox"));
    }
}
