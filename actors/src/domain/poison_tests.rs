//! The rule, one end of a connection at a time. `connection/send_queue/model_tests.rs` tests it against random
//! brokers.

use super::*;
use crate::domain::clock::LogTime;

fn event(seq: i64) -> MessageRef {
    event_of(seq, "liveobject/camera/door/event", 300)
}

fn event_of(seq: i64, topic: &str, bytes: usize) -> MessageRef {
    MessageRef { seq: Some(Seq(seq)), topic: topic.to_owned(), bytes }
}

fn state(topic: &str) -> MessageRef {
    sized(topic, 100)
}

fn sized(topic: &str, bytes: usize) -> MessageRef {
    MessageRef { seq: None, topic: topic.to_owned(), bytes }
}

fn by_broker(in_flight: &[MessageRef]) -> Ending {
    Ending { end: End::ByBroker, in_flight: in_flight.to_vec(), accepted_any: true }
}

fn of(end: End, in_flight: &[MessageRef]) -> Ending {
    Ending { end, in_flight: in_flight.to_vec(), accepted_any: true }
}

struct Fixture {
    poison: Poison,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        Self { poison: Poison::new(&MqttSettings::defaults("c")), now }
    }

    fn ended(&mut self, ending: Ending) -> bool {
        self.poison.ended(ending, self.now).retry_soon
    }

    fn verdict(&self, message: &MessageRef) -> Option<Cause> {
        self.poison.verdict(message, self.now)
    }

    fn condemn(&mut self, message: &MessageRef) {
        for _ in 0..message.required_strikes() / FULL {
            assert_eq!(self.verdict(message), None);
            assert!(self.ended(by_broker(std::slice::from_ref(message))));
        }
        assert_eq!(self.verdict(message), Some(Cause::Closes));
        if let Some(seq) = message.seq {
            self.poison.executed(seq);
        }
    }
}

#[test]
fn an_event_that_is_alone_at_three_ends_in_a_row_is_at_fault() {
    let mut it = Fixture::new();
    assert!(it.ended(by_broker(&[event(1), event(2), state("s")])), "soon: the suspects travel alone");
    assert_eq!(it.poison.suspected_events(), 2);
    for message in [event(1), event(2), state("s")] {
        assert_eq!(it.poison.treatment(&message), Treatment::Alone);
    }
    assert_eq!(it.poison.treatment(&event(3)), Treatment::Normal);
    it.poison.answered(&event(1), true);
    it.poison.answered(&state("s"), true);
    assert!(it.ended(by_broker(&[event(2)])));
    assert_eq!(it.poison.treatment(&event(2)), Treatment::AloneAfterQuiet);
    it.condemn(&event(7));
    assert!(it.ended(by_broker(&[event(2)])));
    assert_eq!(it.verdict(&event(2)), None);
    assert!(it.ended(by_broker(&[event(2)])));
    assert_eq!(it.verdict(&event(2)).map(Cause::dead_reason), Some(DeadReason::ConnectionClosedByBroker));
}

#[test]
fn an_answer_to_a_live_event_does_not_clear_late_ones_that_were_accepted_before_it() {
    let late = |seq| event_of(seq, "liveobject/camera/door/history", 300);
    let mut it = Fixture::new();
    for _ in 0..EVENT_STRIKES {
        assert_eq!(it.verdict(&late(5)), None);
        assert!(it.ended(by_broker(&[late(5)])));
        it.poison.answered(&event(100), true);
    }
    assert_eq!(it.verdict(&late(5)), Some(Cause::Closes));
    it.poison.answered(&late(6), true);
    assert_eq!(it.verdict(&late(5)), None, "it was settled in another way");
}

#[test]
fn late_events_are_not_left_out_because_of_a_replayed_event() {
    let mut it = Fixture::new();
    let topic = "liveobject/camera/door/history";
    for _ in 0..STATE_STRIKES {
        it.ended(by_broker(&[state(topic)]));
    }
    for _ in 0..2 {
        it.ended(of(End::AfterRefusal(state(topic), DeadReason::NotAuthorized), &[]));
    }
    assert_eq!(it.verdict(&event_of(7, topic, 300)), None);
    assert_eq!(it.verdict(&state(topic)), None);
    assert!(it.poison.left_out().is_empty());
}

#[test]
fn an_answer_clears_a_message() {
    let mut it = Fixture::new();
    it.ended(by_broker(&[event(1)]));
    it.ended(by_broker(&[event(1)]));
    it.poison.answered(&event(1), true);
    assert!(it.poison.is_empty());
    it.condemn(&event(1));
}

#[test]
fn a_broker_that_ends_connections_without_a_message_accuses_nobody() {
    let mut it = Fixture::new();
    it.ended(by_broker(&[event(1)]));
    it.ended(by_broker(&[event(1)]));
    assert!(!it.ended(by_broker(&[])), "with the usual wait");
    it.condemn(&event(1));
}

#[test]
fn a_broker_that_accepts_nothing_at_all_needs_twice_as_many_ends() {
    let mut it = Fixture::new();
    for _ in 0..5 {
        assert!(!it.ended(Ending { accepted_any: false, ..by_broker(&[event(1)]) }), "with the usual wait");
        assert_eq!(it.verdict(&event(1)), None);
    }
    it.ended(Ending { accepted_any: false, ..by_broker(&[event(1)]) });
    assert_eq!(it.verdict(&event(1)), Some(Cause::Closes));
}

#[test]
fn after_two_dead_events_the_topic_is_at_fault_for_a_minute() {
    let mut it = Fixture::new();
    it.condemn(&event(1));
    assert_eq!(it.verdict(&event(2)), None, "it may have been the event");
    it.condemn(&event(2));
    assert_eq!(it.verdict(&event(3)), Some(Cause::Closes));
    assert_eq!(it.verdict(&event_of(3, "liveobject/camera/yard/event", 300)), None);
    assert_eq!(it.verdict(&event_of(3, &event(1).topic, 299)), None, "a shorter one may be accepted");
    it.now += EVENTS_LEFT_OUT_FOR;
    assert_eq!(it.verdict(&event(3)), None, "one is tried again");
    it.condemn(&event(3));
    assert_eq!(it.verdict(&event(4)), Some(Cause::Closes));
    assert!(it.poison.left_out()[0].is_current(it.now));
    it.now += EVENTS_LEFT_OUT_FOR;
    assert!(!it.poison.left_out()[0].is_current(it.now));
    it.poison.answered(&event(5), true);
    assert!(it.poison.is_empty());
}

#[test]
fn a_state_is_left_out_for_an_hour_after_two_ends() {
    let mut it = Fixture::new();
    let picture = sized("liveobject/camera/door/thumbnail", 5000);
    it.condemn(&picture);
    assert_eq!(it.verdict(&sized(&picture.topic, 4999)), None, "a shorter one may be accepted");
    assert_eq!(it.verdict(&sized(&picture.topic, 9999)), Some(Cause::Closes));
    it.poison.answered(&sized(&picture.topic, 4999), true);
    assert_eq!(it.verdict(&picture), Some(Cause::Closes), "a shorter one proves nothing");
    it.now += STATES_LEFT_OUT_FOR;
    assert_eq!(it.verdict(&picture), None);
    it.ended(by_broker(std::slice::from_ref(&picture)));
    assert_eq!(it.verdict(&picture), Some(Cause::Closes), "one more end is enough");
    it.now += STATES_LEFT_OUT_FOR;
    it.poison.answered(&picture, true);
    it.condemn(&picture);
}

#[test]
fn a_family_is_left_out_after_three_of_its_topics() {
    let mut it = Fixture::new();
    let device = |n: u32| state(&format!("homeassistant/device/liveobject_{n}/config"));
    for n in 1..=3 {
        assert_eq!(it.verdict(&device(n)), None);
        it.condemn(&device(n));
    }
    assert_eq!(it.verdict(&device(4)), Some(Cause::Closes));
    assert_eq!(it.verdict(&state("liveobject/camera/door/counts")), None);
    assert_eq!(it.verdict(&event(1)), None);
    let left_out =
        |it: &Fixture| it.poison.left_out().into_iter().map(|left_out| left_out.topic).collect::<Vec<_>>();
    assert_eq!(left_out(&it), ["homeassistant/#"]);
    it.now += STATES_LEFT_OUT_FOR;
    assert_eq!(it.verdict(&device(4)), None);
    assert!(it.poison.answered(&device(4), true), "it is permitted again");
    assert_eq!(left_out(&it).len(), 3, "of the others, this is not known");
}

#[test]
fn two_refusals_before_the_end_are_sufficient() {
    let mut it = Fixture::new();
    let birth = state("liveobject/status");
    let (refused, cause) = (
        End::AfterRefusal(birth.clone(), DeadReason::NotAuthorized),
        Cause::Refuses(DeadReason::NotAuthorized),
    );
    let first = it.poison.ended(of(refused.clone(), &[event(1)]), it.now);
    assert_eq!(first, Lesson { retry_soon: true, found: None }, "the broker may have been restarted");
    assert_eq!(it.verdict(&birth), None);
    let lesson = it.poison.ended(of(refused, &[event(1)]), it.now);
    assert_eq!(lesson, Lesson { retry_soon: true, found: Some((birth.clone(), cause)) });
    assert_eq!(it.verdict(&birth), Some(cause));
    assert_eq!(it.verdict(&sized("liveobject/status", 0)), Some(cause), "of any length");
    assert!(it.poison.suspects_nobody(), "the refusal explains the end");
    let [left_out] = it.poison.left_out().try_into().unwrap();
    let warning = left_out.warning(&MqttSettings::defaults("c"));
    assert!(warning.message.contains("on liveobject/status (not_authorized) and then closes the connection"));
}

#[test]
fn a_broker_that_stops_after_a_refusal_is_not_one_that_ends_the_connection_over_it() {
    let mut it = Fixture::new();
    let birth = state("liveobject/status");
    for _ in 0..5 {
        it.ended(of(End::AfterRefusal(birth.clone(), DeadReason::NotAuthorized), &[]));
        assert_eq!(it.verdict(&birth), None);
        it.now += REFUSED_TWICE_WITHIN;
    }
    assert!(it.poison.is_empty());
}

#[test]
fn a_failing_network_accuses_nobody() {
    let mut it = Fixture::new();
    for _ in 0..20 {
        assert!(!it.ended(of(End::Network, &[])));
        it.ended(of(End::Network, &[event(1)]));
    }
    assert_eq!(it.verdict(&event(1)), None);
    assert_eq!(it.poison.treatment(&event(1)), Treatment::Alone, "it travels alone from the second end on");
    it.poison.answered(&event(1), true);
    assert!(it.poison.is_empty());
}

#[test]
fn a_large_message_that_ends_two_connections_is_left_out_even_if_it_looks_like_a_network_failure() {
    let mut it = Fixture::new();
    let picture = sized("liveobject/camera/door/thumbnail", 2_000_000);
    assert!(it.ended(of(End::Network, &[event(1), picture.clone()])));
    assert_eq!(it.poison.treatment(&event(1)), Treatment::Normal);
    assert_eq!(it.poison.treatment(&picture), Treatment::Alone);
    it.ended(of(End::Network, std::slice::from_ref(&picture)));
    assert_eq!(it.verdict(&picture), None);
    it.ended(of(End::Network, std::slice::from_ref(&picture)));
    assert_eq!(it.verdict(&picture), Some(Cause::Closes));
}

#[test]
fn an_ignored_event_is_watched_and_at_fault_after_three_times() {
    let mut it = Fixture::new();
    let other = event_of(2, "liveobject/camera/yard/event", 300);
    for _ in 0..3 {
        assert_eq!(it.verdict(&event(1)), None);
        it.ended(of(End::Ignored(event(1)), &[event(1), other.clone()]));
    }
    assert_eq!(it.verdict(&event(1)).map(Cause::dead_reason), Some(DeadReason::IgnoredByBroker));
    it.ended(of(End::Ignored(other.clone()), std::slice::from_ref(&other)));
    assert_eq!(it.poison.treatment(&other), Treatment::Watched);
    assert_eq!(it.poison.suspected_events(), 0, "others travel with it");
}

#[test]
fn if_the_broker_ignores_a_topic_its_events_travel_alone_and_the_second_one_needs_one_time() {
    let mut it = Fixture::new();
    let others = [event(2), event_of(3, "liveobject/camera/yard/event", 300)];
    it.ended(of(End::Ignored(event(1)), &[event(1), others[0].clone(), others[1].clone()]));
    for suspect in [event(1), event(2)] {
        assert_eq!(it.poison.patience(&suspect), Some(PATIENCE));
    }
    assert_eq!(it.poison.treatment(&event(1)), Treatment::AloneAfterQuiet);
    assert_eq!(it.poison.treatment(&event(2)), Treatment::Alone);
    assert_eq!(it.poison.treatment(&others[1]), Treatment::Normal);
    for _ in 0..2 {
        assert_eq!(it.verdict(&event(1)), None);
        it.ended(of(End::Ignored(event(1)), &[event(1)]));
    }
    assert_eq!(it.verdict(&event(1)), Some(Cause::Ignores));
    it.poison.executed(Seq(1));
    it.ended(of(End::Ignored(event(2)), &[event(2)]));
    assert_eq!(it.verdict(&event(3)), Some(Cause::Ignores), "the topic is at fault");
}

#[test]
fn a_stall_accuses_nobody_unless_the_broker_has_acknowledged_something_before() {
    let mut it = Fixture::new();
    for _ in 0..20 {
        it.ended(Ending { accepted_any: false, ..of(End::Stalled, &[state("liveobject/status"), event(1)]) });
    }
    assert!(it.poison.suspects_nobody());
    it.ended(of(End::Stalled, &[event(1), event(2)]));
    assert_eq!(it.poison.treatment(&event(1)), Treatment::Alone);
    assert_eq!(it.poison.patience(&event(1)), Some(PATIENCE));
    assert_eq!(it.poison.patience(&event(3)), None);
    it.poison.answered(&event(2), true);
    it.poison.answered(&event(1), true);
    assert!(it.poison.is_empty());
}

#[test]
fn suspects_that_are_settled_in_another_way_are_forgotten() {
    let mut it = Fixture::new();
    it.ended(by_broker(&[event(1), event(2), event(3)]));
    it.poison.answered(&event(2), true);
    assert_eq!(it.poison.suspected_events(), 1, "event 1 has expired");
}

#[test]
fn an_event_that_is_sent_again_gets_all_its_attempts() {
    let asked = LogTime(1);
    for strikes in 1..=3 {
        let mut it = Fixture::new();
        for _ in 0..strikes {
            it.ended(by_broker(&[event(1)]));
        }
        // It expires before it is sent once more. A user asks for it to be sent again.
        it.poison.sent_again(Seq(1), asked);
        assert_eq!(it.poison.suspected_events(), 0);
        for _ in 0..3 {
            it.poison.sent_again(Seq(1), asked);
            assert_eq!(it.verdict(&event(1)), None, "after {strikes} strikes");
            it.ended(by_broker(&[event(1)]));
        }
        it.poison.sent_again(Seq(1), asked);
        assert_eq!(it.verdict(&event(1)), Some(Cause::Closes));
        it.now += EVENTS_LEFT_OUT_FOR;
        it.poison.sent_again(Seq(1), LogTime(2));
        assert_eq!(it.verdict(&event(1)), None, "it is asked for again");
    }
}

#[test]
fn what_is_known_about_an_event_is_forgotten_when_a_later_one_is_answered() {
    let mut it = Fixture::new();
    for _ in 0..3 {
        it.ended(by_broker(&[event(1)]));
    }
    it.ended(by_broker(&[event(2)]));
    it.poison.sent_again(Seq(3), LogTime(1));
    // Both have expired.
    it.poison.answered(&event(4), true);
    it.ended(of(End::Unrelated, &[]));
    assert!(it.poison.is_empty());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut it = Fixture::new();
    for n in 0..MAX_TOPICS + 10 {
        let refused = End::AfterRefusal(state(&format!("topic/{n}")), DeadReason::NotAuthorized);
        it.now += Duration::from_millis(1);
        it.ended(of(refused.clone(), &[]));
        it.ended(of(refused, &[]));
    }
    assert_eq!(it.poison.topics.len(), MAX_TOPICS);
    assert_eq!(it.verdict(&state("topic/0")), None, "the oldest is forgotten");
}
