//! Holds: cameras whose live events wait for a subscriber, because their topic had one before and now has none. The
//! first event is sent again and again until somebody hears it or it is late. The events of the camera after it wait.
//! No I/O; the caller passes the time.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{
    clock::{Moment, Timestamp},
    event_log::StoredEvent,
    ids::{CameraId, Seq},
};

/// Maximum number of events that wait. If there are more, no event waits for [`SUSPENDED_FOR`]: all are delivered
/// although nobody hears them.
const MAX_EVENTS: usize = 100_000;
const SUSPENDED_FOR: Duration = Duration::from_mins(1);

/// How long the events of a camera wait if they never become late.
const WAIT_AT_MOST: Duration = Duration::from_hours(24 * 7);

/// Maximum number of cameras whose topics are known to have a subscriber. If there are more, all are forgotten, and
/// the next event of each of them is sent alone.
const MAX_CONFIRMED: usize = 10_000;

/// Returns how long to wait before an event that nobody heard after this many attempts is sent again.
fn pause(attempts: u32) -> Duration {
    Duration::from_secs(match attempts {
        1 => 1,
        2 => 2,
        3 => 4,
        _ => 5,
    })
}

/// The events of a camera that wait.
#[derive(Debug)]
struct Hold {
    /// All of them.
    waiting: BTreeSet<Seq>,
    /// Those of them that were sent.
    sent: BTreeSet<Seq>,
    /// The first of them; `None` if the live lane must read it again.
    first: Option<StoredEvent>,
    /// How often it was sent and nobody heard it.
    attempts: u32,
    /// When it is sent again; `None` while it is in flight or must be read.
    retry_at: Option<Instant>,
    topic: String,
    since: Timestamp,
}

/// What is known about a topic on this link.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// The first event is in flight. Those after it must not overtake it if nobody hears it.
    Probing,
    /// It has a subscriber.
    Confirmed {
        /// The last event that was heard.
        last: Seq,
        /// The last event that waited for a subscriber.
        waited: Seq,
    },
}

/// What to do with the next live event of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is sent like any other.
    Free,
    /// It must wait for the acknowledgement of an earlier event, and so must the events after it.
    Blocked,
    /// It waits for a subscriber.
    Held,
    /// It is the first event of the camera that waits for a subscriber. It is sent, to find out whether there is one.
    First,
}

/// A camera whose events no longer wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The events that were waiting.
    pub waiting: BTreeSet<Seq>,
    /// Those of them that were sent, but that nobody heard.
    pub sent: BTreeSet<Seq>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Holds {
    holds: HashMap<CameraId, Hold>,
    events: usize,
    known: HashMap<CameraId, Known>,
    suspended_until: Option<Instant>,
}

impl Holds {
    /// Forgets everything but a suspension, because a new link starts at the first unsettled event again.
    pub fn clear(&mut self) {
        *self = Self { suspended_until: self.suspended_until, ..Self::default() };
    }

    /// Returns the number of events that wait.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Returns up to `limit` topics that have no subscriber any more, and since when events have been waiting for
    /// one.
    pub fn topics(&self, limit: usize) -> Vec<(String, Timestamp)> {
        let mut topics: Vec<_> = self.holds.values().map(|hold| (hold.topic.clone(), hold.since)).collect();
        topics.sort_by(|(topic, since), (other, other_since)| since.cmp(other_since).then(topic.cmp(other)));
        topics.truncate(limit);
        topics
    }

    /// Decides about the next live event of a camera; `is_awaited` is whether its topic had a subscriber before.
    pub fn turn(&self, camera_id: &CameraId, seq: Seq, is_awaited: impl FnOnce() -> bool) -> Turn {
        if let Some(hold) = self.holds.get(camera_id) {
            return match hold.waiting.first() {
                Some(first) if seq < *first => Turn::Free,
                Some(first) if seq == *first && hold.first.is_none() => Turn::First,
                _ => Turn::Held,
            };
        }
        match self.known.get(camera_id) {
            Some(Known::Probing) if is_awaited() => Turn::Blocked,
            _ => Turn::Free,
        }
    }

    /// Returns whether an event that is late waits for an earlier one of its camera that is not.
    pub fn holds_late(&self, camera_id: &CameraId, seq: Seq) -> bool {
        let first = self.holds.get(camera_id).and_then(|hold| hold.waiting.first());
        first.is_some_and(|first| seq > *first)
    }

    /// Records that an event on a topic that had a subscriber before was sent.
    pub fn sent(&mut self, camera_id: &CameraId) {
        if let Some(hold) = self.holds.get_mut(camera_id) {
            hold.retry_at = None;
        } else if !self.known.contains_key(camera_id) {
            if self.known.len() >= MAX_CONFIRMED {
                self.known.clear();
            }
            self.known.insert(camera_id.clone(), Known::Probing);
        }
    }

    /// Adds an event that waits because an earlier one of its camera does. Returns `false` if there are too many.
    pub fn add(&mut self, camera_id: &CameraId, seq: Seq) -> bool {
        if self.events >= MAX_EVENTS {
            return false;
        }
        if let Some(hold) = self.holds.get_mut(camera_id)
            && hold.waiting.insert(seq)
        {
            self.events += 1;
        }
        true
    }

    /// Records that nobody heard an event, and that it waits. Returns `false` if it does not wait: a later event was
    /// heard, it has waited long enough, or too many events wait.
    pub fn unheard(&mut self, event: &StoredEvent, topic: &str, now: Instant, moment: Moment) -> bool {
        let (camera_id, seq) = (&event.camera_id, event.seq);
        let known = self.known.remove(camera_id);
        let is_overtaken = matches!(known, Some(Known::Confirmed { last, .. }) if last > seq);
        let is_suspended = self.suspended_until.is_some_and(|until| now < until);
        let has_waited = moment.age(event.times.accepted).is_none_or(|age| age >= WAIT_AT_MOST);
        if is_overtaken || is_suspended || has_waited || self.events >= MAX_EVENTS {
            return false;
        }
        let hold = self.holds.entry(camera_id.clone()).or_insert_with(|| Hold {
            waiting: BTreeSet::new(),
            sent: BTreeSet::new(),
            first: None,
            attempts: 0,
            retry_at: None,
            topic: topic.to_owned(),
            since: moment.wall,
        });
        self.events += usize::from(hold.waiting.insert(seq));
        hold.sent.insert(seq);
        if hold.waiting.first() == Some(&seq) {
            hold.attempts += 1;
            hold.retry_at = Some(now + pause(hold.attempts));
            hold.first = Some(event.clone());
        }
        true
    }

    /// Returns when the next event is sent again.
    pub fn next_due(&self) -> Option<Instant> {
        self.holds.values().filter_map(|hold| hold.retry_at.filter(|_| hold.first.is_some())).min()
    }

    /// Returns an event that is sent again now. No other event of its camera may be in flight, because that one could
    /// be heard first; `in_flight` returns whether there is one.
    pub fn due(&self, now: Instant, in_flight: impl Fn(&CameraId) -> bool) -> Option<&StoredEvent> {
        let camera_is_free =
            |hold: &Hold| hold.first.as_ref().is_some_and(|event| !in_flight(&event.camera_id));
        let is_due = |hold: &&Hold| hold.retry_at.is_some_and(|at| at <= now) && camera_is_free(hold);
        self.holds.values().filter(is_due).find_map(|hold| hold.first.as_ref())
    }

    /// Removes the first event of a camera, which is late or gone. Returns the next one, which the live lane must
    /// read again.
    pub fn remove_first(&mut self, camera_id: &CameraId) -> Option<Seq> {
        let hold = self.holds.get_mut(camera_id)?;
        if let Some(first) = hold.waiting.pop_first() {
            hold.sent.remove(&first);
            self.events -= 1;
        }
        (hold.first, hold.retry_at, hold.attempts) = (None, None, 0);
        let next = hold.waiting.first().copied();
        if next.is_none() {
            self.holds.remove(camera_id);
        }
        next
    }

    /// Records that an event was heard. Returns the other events of its camera that were waiting: those before it,
    /// which were overtaken, and those after it.
    pub fn heard(&mut self, camera_id: &CameraId, seq: Seq) -> Option<Released> {
        let hold = self.holds.remove(camera_id);
        let (mut waiting, sent) = hold.map(|hold| (hold.waiting, hold.sent)).unwrap_or_default();
        self.events -= waiting.len();
        waiting.remove(&seq);
        let after = waiting.last().copied().unwrap_or(Seq(0));
        let has_room = self.known.len() < MAX_CONFIRMED;
        match self.known.get_mut(camera_id) {
            Some(Known::Confirmed { last, waited }) => {
                (*last, *waited) = (seq.max(*last), after.max(*waited));
            }
            Some(known) => *known = Known::Confirmed { last: seq, waited: after },
            None if has_room => {
                self.known.insert(camera_id.clone(), Known::Confirmed { last: seq, waited: after });
            }
            None => {}
        }
        (!waiting.is_empty()).then_some(Released { waiting, sent })
    }

    /// Returns whether an event waited for a subscriber.
    pub fn has_waited(&self, camera_id: &CameraId, seq: Seq) -> bool {
        let was_held = self.holds.get(camera_id).is_some_and(|hold| hold.waiting.contains(&seq));
        was_held
            || matches!(self.known.get(camera_id), Some(Known::Confirmed { waited, .. }) if seq <= *waited)
    }

    /// Records that an event is no longer in flight, although the broker has not answered it. If it is the first one
    /// that waits, it is due again at `now`.
    pub fn gave_back(&mut self, camera_id: &CameraId, now: Instant) {
        self.does_not_wait(camera_id);
        if let Some(hold) = self.holds.get_mut(camera_id)
            && hold.first.is_some()
        {
            hold.retry_at = Some(hold.retry_at.map_or(now, |at| at.min(now)));
        }
    }

    /// Records that an event is no longer in flight, and that those after it need not wait for its answer.
    pub fn does_not_wait(&mut self, camera_id: &CameraId) {
        if matches!(self.known.get(camera_id), Some(Known::Probing)) {
            self.known.remove(camera_id);
        }
    }

    /// Returns whether this event waits for its next attempt, or is in flight because of one.
    pub fn retries(&self, camera_id: &CameraId, seq: Seq) -> bool {
        let first = self.holds.get(camera_id).and_then(|hold| hold.first.as_ref());
        first.is_some_and(|event| event.seq == seq)
    }

    /// Returns the camera for which this is the first event that waits.
    pub fn camera_of_first(&self, seq: Seq) -> Option<CameraId> {
        let is_it = |hold: &Hold| hold.waiting.first() == Some(&seq);
        self.holds.iter().find(|(_, hold)| is_it(hold)).map(|(camera_id, _)| camera_id.clone())
    }

    /// Returns whether this is the first event of a camera that waits.
    pub fn is_first(&self, camera_id: &CameraId, seq: Seq) -> bool {
        self.holds.get(camera_id).is_some_and(|hold| hold.waiting.first() == Some(&seq))
    }

    /// Returns whether nothing waits for a subscriber or for the acknowledgement of a first event.
    #[cfg(test)]
    pub fn is_quiet(&self) -> bool {
        self.holds.is_empty() && !self.known.values().any(|known| matches!(known, Known::Probing))
    }

    /// Ends all holds. Returns the events that were waiting.
    pub fn end(&mut self) -> BTreeSet<Seq> {
        self.events = 0;
        self.known.clear();
        self.holds.drain().flat_map(|(_, hold)| hold.waiting).collect()
    }

    /// Ends all holds, because too many events wait. None will be held for a while.
    pub fn suspend(&mut self, now: Instant) -> BTreeSet<Seq> {
        tracing::warn!(
            events = self.events,
            "too many events wait for a subscriber; they are sent although nobody subscribes"
        );
        self.suspended_until = Some(now + SUSPENDED_FOR);
        self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock, delivery::EventTimes};

    fn event(seq: i64) -> StoredEvent {
        let at = clock::from_micros(0);
        StoredEvent {
            seq: Seq(seq),
            camera_id: door(),
            times: EventTimes::new(at, Moment::at(at)),
            payload: "{}".into(),
        }
    }

    fn door() -> CameraId {
        CameraId::parse("door").unwrap()
    }

    struct Scene {
        holds: Holds,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { holds: Holds::default(), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn unheard(&mut self, seq: i64, seconds: u64) -> bool {
            let moment = Moment::at(clock::from_micros(0) + Duration::from_secs(seconds));
            self.holds.unheard(&event(seq), "t", self.at(seconds), moment)
        }

        fn turn(&self, seq: i64) -> Turn {
            self.holds.turn(&door(), Seq(seq), || true)
        }
    }

    #[tokio::test]
    async fn an_event_that_nobody_heard_is_sent_again_after_1_2_4_5_5_seconds() {
        let mut scene = Scene::new();
        let (mut seconds, mut pauses) = (0, Vec::new());
        for _ in 0..6 {
            assert!(scene.unheard(1, seconds));
            let due = scene.holds.next_due().unwrap();
            assert!(scene.holds.due(due - Duration::from_millis(1), |_| false).is_none());
            assert_eq!(scene.holds.due(due, |_| false), Some(&event(1)));
            assert_eq!(scene.holds.due(due, |camera_id| *camera_id == door()), None);
            scene.holds.sent(&door());
            assert_eq!(scene.holds.next_due(), None, "it is in flight");
            pauses.push((due - scene.at(seconds)).as_secs());
            seconds = (due - scene.start).as_secs();
        }
        assert_eq!(pauses, [1, 2, 4, 5, 5, 5]);
    }

    #[tokio::test]
    async fn the_events_after_it_wait_and_are_released_when_it_is_heard() {
        let mut scene = Scene::new();
        assert!(scene.unheard(3, 0));
        assert_eq!((scene.turn(2), scene.turn(4)), (Turn::Free, Turn::Held));
        assert!(scene.holds.holds_late(&door(), Seq(4)) && !scene.holds.holds_late(&door(), Seq(2)));
        for seq in [4, 6, 5, 6] {
            assert!(scene.holds.add(&door(), Seq(seq)));
        }
        assert_eq!(scene.holds.events(), 4);
        assert!(scene.holds.has_waited(&door(), Seq(3)));
        let released = scene.holds.heard(&door(), Seq(3)).unwrap();
        assert_eq!(released.waiting, [Seq(4), Seq(5), Seq(6)].into());
        assert_eq!((scene.holds.events(), scene.turn(4)), (0, Turn::Free));
        assert!(scene.holds.has_waited(&door(), Seq(6)) && !scene.holds.has_waited(&door(), Seq(7)));
    }

    #[tokio::test]
    async fn when_the_first_event_is_late_the_next_one_takes_its_place() {
        let mut scene = Scene::new();
        assert!(scene.unheard(3, 0) && scene.holds.add(&door(), Seq(5)));
        assert_eq!(scene.holds.remove_first(&door()), Some(Seq(5)));
        assert_eq!((scene.turn(5), scene.holds.next_due()), (Turn::First, None));
        assert!(scene.unheard(5, 300));
        assert_eq!(scene.holds.next_due(), Some(scene.at(301)));
        assert_eq!(scene.holds.remove_first(&door()), None);
        assert_eq!((scene.holds.events(), scene.turn(6)), (0, Turn::Free));
    }

    #[tokio::test]
    async fn the_first_event_on_a_link_is_sent_alone_until_it_is_known_to_be_heard() {
        let mut scene = Scene::new();
        scene.holds.sent(&door());
        assert_eq!(scene.turn(2), Turn::Blocked);
        assert_eq!(scene.holds.turn(&door(), Seq(2), || false), Turn::Free, "nobody ever listened");
        scene.holds.gave_back(&door(), scene.at(0));
        assert_eq!(scene.turn(1), Turn::Free);
        scene.holds.sent(&door());
        assert_eq!(scene.holds.heard(&door(), Seq(1)), None);
        assert_eq!(scene.turn(2), Turn::Free);
    }

    #[tokio::test]
    async fn an_event_that_was_overtaken_by_one_that_was_heard_does_not_wait() {
        let mut scene = Scene::new();
        scene.holds.heard(&door(), Seq(2));
        assert!(!scene.unheard(1, 0));
        assert!(scene.unheard(3, 0));
    }

    #[tokio::test]
    async fn if_too_many_events_wait_none_does_for_a_while() {
        let mut scene = Scene::new();
        assert!(scene.unheard(1, 0));
        let last = i64::try_from(MAX_EVENTS).unwrap();
        assert!((2..=last).all(|seq| scene.holds.add(&door(), Seq(seq))));
        assert!(!scene.holds.add(&door(), Seq(last + 1)));
        let at = scene.at(0);
        assert_eq!(scene.holds.suspend(at).len(), MAX_EVENTS);
        assert!(!scene.unheard(1, 59) && scene.unheard(1, 60));
    }

    #[tokio::test]
    async fn an_event_that_never_becomes_late_waits_for_a_week() {
        let mut scene = Scene::new();
        let week = WAIT_AT_MOST.as_secs();
        assert!(scene.unheard(1, 0) && scene.unheard(1, week - 1) && !scene.unheard(1, week));
    }
}
