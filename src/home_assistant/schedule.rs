//! Decides when to ask the Supervisor again. Pure: the caller passes the time.

use std::time::Duration;

use liveobject_actors::{
    domain::{
        settings::provided::Provision,
        status::{ConnectionState, FailureKind},
    },
    messages::supervisor::ConnectionStatus,
};
use tokio::time::Instant;

/// The shortest pause between two requests. It doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// After this many failed attempts to connect in a row, the broker may have another address.
const FAILURES: u32 = 3;

/// The requests to the Supervisor so far.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    knows_broker: bool,
    asked_at: Option<Instant>,
    /// Requests since the connection to the broker was last up.
    in_a_row: u32,
}

impl Schedule {
    /// Records an answer.
    pub(super) fn asked(&mut self, provision: &Provision, now: Instant) {
        self.knows_broker = match provision {
            Provision::Broker(_) => true,
            Provision::None => false,
            // A known broker remains in use.
            Provision::Asking | Provision::Unknown(_) => self.knows_broker,
        };
        self.asked_at = Some(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    /// Returns whether to ask again.
    pub(super) fn is_due(&mut self, status: &ConnectionStatus, now: Instant) -> bool {
        if self.knows_broker {
            if status.state == ConnectionState::Connected {
                self.in_a_row = 0;
            }
            let is_refused = status.last_error.as_ref().is_some_and(|error| {
                matches!(error.kind, FailureKind::BadCredentials | FailureKind::NotAuthorized)
            });
            let is_suspicious = status.state == ConnectionState::Waiting
                && (is_refused || status.reconnect_attempt >= FAILURES);
            if !is_suspicious {
                return false;
            }
        }
        self.asked_at.is_none_or(|at| now.duration_since(at) >= self.pause())
    }

    fn pause(&self) -> Duration {
        let doubled = SHORTEST * 2_u32.pow(self.in_a_row.saturating_sub(1).min(8));
        doubled.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use liveobject_actors::domain::{clock, settings::provided::ProvidedBroker, status::LastError};

    use super::*;

    fn status(state: ConnectionState, kind: Option<FailureKind>, failures: u32) -> ConnectionStatus {
        ConnectionStatus {
            state,
            broker: None,
            protocol: None,
            last_connected_at: None,
            last_error: kind.map(|kind| LastError { kind, message: String::new(), at: clock::now() }),
            reconnect_attempt: failures,
            next_attempt_at: None,
            warnings: Vec::new(),
        }
    }

    fn broker() -> Provision {
        let service = serde_json::json!({ "host": "a" }).as_object().unwrap().clone();
        Provision::Broker(ProvidedBroker::read(service).unwrap().unwrap())
    }

    /// Returns after how many seconds each of the next questions is due.
    fn pauses(schedule: &mut Schedule, answer: &Provision, status: &ConnectionStatus) -> Vec<u64> {
        let (mut now, mut pauses) = (Instant::now(), Vec::new());
        schedule.asked(answer, now);
        while pauses.len() < 7 {
            let asked = now;
            while !schedule.is_due(status, now) {
                now += Duration::from_secs(1);
                assert!(now.duration_since(asked) < LONGEST * 2, "never asked: {pauses:?}");
            }
            pauses.push(now.duration_since(asked).as_secs());
            schedule.asked(answer, now);
        }
        pauses
    }

    #[test]
    fn without_a_broker_the_supervisor_is_asked_until_it_has_one_with_longer_and_longer_pauses() {
        let waiting = status(ConnectionState::Waiting, Some(FailureKind::BrokerNotProvided), 0);
        for answer in [Provision::None, Provision::Unknown(String::new())] {
            assert_eq!(pauses(&mut Schedule::default(), &answer, &waiting), [1, 2, 4, 8, 16, 30, 30]);
        }
    }

    #[test]
    fn a_known_broker_is_asked_for_again_when_the_login_or_several_attempts_fail() {
        use ConnectionState as S;
        use FailureKind as F;
        let due = |state, kind, failures| {
            let mut schedule = Schedule::default();
            let now = Instant::now();
            schedule.asked(&broker(), now);
            schedule.is_due(&status(state, kind, failures), now + SHORTEST)
        };
        assert!(due(S::Waiting, Some(F::BadCredentials), 1) && due(S::Waiting, Some(F::NotAuthorized), 1));
        assert!(due(S::Waiting, Some(F::Refused), FAILURES));
        assert!(!due(S::Waiting, Some(F::Refused), FAILURES - 1) && !due(S::Connecting, None, 0));
        // The latest failure stays in the status for a while.
        assert!(!due(S::Connected, Some(F::NotAuthorized), 0));
        let refused = status(S::Waiting, Some(F::BadCredentials), 1);
        assert_eq!(pauses(&mut Schedule::default(), &broker(), &refused), [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_connection_ends_the_long_pauses() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        for _ in 0..10 {
            schedule.asked(&broker(), now);
        }
        let refused = status(ConnectionState::Waiting, Some(FailureKind::BadCredentials), 1);
        assert!(!schedule.is_due(&refused, now + SHORTEST));
        assert!(!schedule.is_due(&status(ConnectionState::Connected, None, 0), now + SHORTEST));
        assert!(schedule.is_due(&refused, now + SHORTEST));
    }
}
