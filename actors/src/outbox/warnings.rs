//! The warnings that the outbox adds to the status. No I/O.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::time::Instant;

use super::reporting::Held;
use crate::disk::DiskSpace;
use crate::domain::{
    clock::{Jump, Timestamp},
    event_log::SeqGap,
    ids::CameraId,
    status::{Warning, WarningKind, severity_of},
};

/// How long a jump of the wall clock is reported.
const JUMP_SHOWN_FOR: Duration = Duration::from_hours(1);

/// How long a warning is shown, and the minimum time between its log lines.
const SHOWN_FOR: Duration = Duration::from_mins(10);

/// The current warnings of the outbox.
#[derive(Debug, Default)]
pub struct Warnings {
    unheard: Option<Unheard>,
    /// The events that wait for a subscriber.
    pub held: Option<Held>,
    /// Whether anybody subscribed to a `history` topic when an event was sent there.
    history_was_heard: bool,
    late_arrival: Option<LateArrival>,
    unregistered: Option<Unregistered>,
    clock_jump: Option<(Jump, Instant)>,
    /// The space on the disk, if it is almost full.
    pub low_disk: Option<DiskSpace>,
    /// Number of standbys of the database server that can lack accepted events.
    pub asynchronous_standbys: u64,
    /// Number of dead events whose rows are damaged and that are not dismissed.
    pub unreadable: u64,
    /// Number of events whose rows are missing in the database.
    pub missing: u64,
    /// The events that are not in the database because it is older than the one that was used last.
    pub restored: Option<SeqGap>,
    /// The file with the last seq, if it cannot be written.
    pub failed_seq_file: Option<PathBuf>,
}

/// Events that had no subscriber.
#[derive(Debug)]
struct Unheard {
    count: u64,
    since: Timestamp,
    /// The topic of the newest one.
    topic: String,
    at: Instant,
    /// Whether a later event on the same topic had a subscriber.
    heard_again: bool,
}

#[derive(Debug)]
struct Unregistered {
    camera_id: CameraId,
    max: u32,
    at: Instant,
    logged_at: Instant,
}

#[derive(Debug)]
struct LateArrival {
    camera_id: CameraId,
    seconds: i64,
    at: Instant,
    logged_at: Instant,
}

impl Warnings {
    /// Records that the broker has acknowledged an event that had a subscriber. `late` states whether its
    /// topic is a `history` topic.
    pub fn heard(&mut self, topic: &str, late: bool) {
        self.history_was_heard |= late;
        if let Some(unheard) = &mut self.unheard {
            unheard.heard_again |= unheard.topic == topic;
        }
    }

    /// Records that the broker has acknowledged an event that had no subscriber. Nobody needs to subscribe to
    /// `history`, so this is a fault there only if somebody did before.
    pub fn unheard(&mut self, topic: String, late: bool, now: Instant, wall: Timestamp) {
        if late && !self.history_was_heard {
            return;
        }
        let is_current = |unheard: &Unheard| now.saturating_duration_since(unheard.at) < SHOWN_FOR;
        let (count, since) = match self.unheard.take().filter(is_current) {
            Some(Unheard { count, since, .. }) => (count + 1, since),
            None => (1, wall),
        };
        self.unheard = Some(Unheard { count, since, topic, at: now, heard_again: false });
    }

    /// Forgets which topics had subscribers, because events go to other topics from now on.
    pub fn topics_changed(&mut self) {
        (self.unheard, self.history_was_heard) = (None, false);
    }

    /// Records that an event was late when it arrived. Returns whether to log it, which happens at most once
    /// in ten minutes.
    pub fn late_on_arrival(&mut self, camera_id: &CameraId, seconds: i64, now: Instant) -> bool {
        let logged_at = self
            .late_arrival
            .as_ref()
            .map(|arrival| arrival.logged_at)
            .filter(|at| now.saturating_duration_since(*at) < SHOWN_FOR);
        self.late_arrival = Some(LateArrival {
            camera_id: camera_id.clone(),
            seconds,
            at: now,
            logged_at: logged_at.unwrap_or(now),
        });
        logged_at.is_none()
    }

    /// Records that a camera is above the limit. Returns whether to log it, which happens at most once in ten
    /// minutes.
    pub fn too_many_cameras(&mut self, camera_id: CameraId, max: u32, now: Instant) -> bool {
        let logged_at = self
            .unregistered
            .as_ref()
            .map(|unregistered| unregistered.logged_at)
            .filter(|at| now.saturating_duration_since(*at) < SHOWN_FOR);
        self.unregistered =
            Some(Unregistered { camera_id, max, at: now, logged_at: logged_at.unwrap_or(now) });
        logged_at.is_none()
    }

    /// Records that the wall clock was set.
    pub fn clock_jumped(&mut self, jump: Jump, now: Instant) {
        self.clock_jump = Some((jump, now));
    }

    /// Returns the current warnings.
    pub fn shown(&self, now: Instant) -> Vec<Warning> {
        let mut shown = Vec::new();
        shown.extend(self.no_subscribers(now));
        shown.extend(self.held.as_ref().filter(|held| held.events > 0).map(waiting_for_subscriber));
        let arrival = self.late_arrival.as_ref().filter(|a| now.saturating_duration_since(a.at) < SHOWN_FOR);
        if let Some(LateArrival { camera_id, seconds, .. }) = arrival {
            let message = format!(
                "An event from camera {camera_id} was {} old when it arrived, and was sent to the history \
                 topic. Either a clock is wrong (here or at the source) or the source is slow.",
                age(*seconds)
            );
            shown.push(
                Warning::new(WarningKind::LateOnArrival, message)
                    .with_severity(severity_of(seconds.unsigned_abs())),
            );
        }
        let unregistered =
            self.unregistered.as_ref().filter(|camera| now.saturating_duration_since(camera.at) < SHOWN_FOR);
        if let Some(Unregistered { camera_id, max, .. }) = unregistered {
            let message = format!(
                "Camera {camera_id} is not registered, because the limit of {max} cameras is reached. \
                 Its events are published, but it has no state and is not announced to Home Assistant. \
                 Delete cameras that no longer exist, or raise [cameras] max."
            );
            shown.push(Warning::new(WarningKind::TooManyCameras, message));
        }
        if let Some(DiskSpace { free, total }) = self.low_disk {
            let mib = |bytes: u64| bytes / (1024 * 1024);
            let message = format!(
                "The disk of the database is almost full: {} of {} MiB are free. When it is full, the oldest \
                 pictures are removed first, and then no events are accepted. Free some space, or lower \
                 [pictures] max_bytes or [outbox] retention_days.",
                mib(free),
                mib(total)
            );
            shown.push(
                Warning::new(WarningKind::DiskAlmostFull, message).with_severity(64 - severity_of(mib(free))),
            );
        }
        if self.asynchronous_standbys > 0 {
            let message = "Commits of the database server do not wait for a standby. If the server fails and a standby \
                takes over, it can lack events that were accepted, and their seq is given to other events. Set \
                synchronous_standby_names on the server, for example to ANY 1 (*), or let no standby take over.";
            shown.push(Warning::new(WarningKind::DatabaseAsynchronous, message));
        }
        if self.unreadable > 0 {
            let (events, are, them) = words(self.unreadable);
            let message = format!(
                "{} {events} cannot be read because the database is damaged, and {are} dead. Stop the service \
                 and restore a backup, or repair the file with `sqlite3 FILE .recover`; then send {them} \
                 again. To give {them} up, dismiss the dead events with the reason unreadable.",
                self.unreadable
            );
            shown.push(Warning::new(WarningKind::EventsUnreadable, message).with_severity(self.unreadable));
        }
        if self.missing > 0 {
            let (events, are, them) = words(self.missing);
            let message = format!(
                "{} pending {events} {are} no longer in the database. This service did not remove {them} and \
                 cannot deliver {them}. Another program has changed the database, or it is damaged: stop the \
                 service and check it with `sqlite3 FILE \"PRAGMA integrity_check\"`, or restore a backup. This \
                 warning is shown until the service is restarted.",
                self.missing
            );
            shown.push(Warning::new(WarningKind::EventsMissing, message).with_severity(self.missing));
        }
        shown.extend(self.restored.map(database_restored));
        shown.extend(self.failed_seq_file.as_deref().map(seq_file_failed));
        if let Some((Jump { by, to }, at)) = self.clock_jump
            && now.saturating_duration_since(at) < JUMP_SHOWN_FOR
        {
            let direction = if by < TimeDelta::zero() { "back" } else { "forward" };
            let message = format!(
                "The clock of this machine was set {direction} by {}, to {}. The ages of events are \
                 measured independently of it, but times that were recorded before may be wrong. \
                 Synchronize the clock with NTP, and start the service after it is synchronized.",
                age((by.abs() + TimeDelta::milliseconds(500)).num_seconds()),
                to.format("%F %T UTC"),
            );
            shown.push(
                Warning::new(WarningKind::ClockJumped, message)
                    .with_severity(severity_of(by.num_seconds().unsigned_abs())),
            );
        }
        shown
    }
}

impl Warnings {
    fn no_subscribers(&self, now: Instant) -> Option<Warning> {
        let unheard = self.unheard.as_ref();
        let unheard = unheard.filter(|unheard| now.saturating_duration_since(unheard.at) < SHOWN_FOR)?;
        let Unheard { count, since, topic, heard_again, .. } = unheard;
        let (events, since) = (if *count == 1 { "event" } else { "events" }, since.format("%F %T UTC"));
        let advice = if *heard_again {
            "Somebody subscribes to it again. Automations have missed these events."
        } else {
            "Check that the subscriber is connected, and that it uses the same topic prefix."
        };
        let message = format!(
            "The broker has accepted {count} {events} since {since} for which there was no subscriber, the newest \
             on {topic}. {advice}"
        );
        Some(Warning::new(WarningKind::NoSubscribers, message).with_severity(severity_of(*count)))
    }
}

fn waiting_for_subscriber(held: &Held) -> Warning {
    let Held { events, home_assistant_since, topics } = held;
    let events =
        if *events == 1 { "1 live event waits".to_owned() } else { format!("{events} live events wait") };
    let message = match (home_assistant_since, topics.as_slice()) {
        (None, [(topic, since), others @ ..]) => {
            // There may be more topics than those in the list.
            let others = match others.len() {
                0 => "",
                1 => " and one other topic",
                _ => " and other topics",
            };
            format!(
                "{events}, because nobody subscribes to {topic} (since {}){others}. They are sent when somebody does, \
                 or go to the history topic when they are late. Check that the subscriber is \
                 connected. If it was only a test, nothing needs to be done: a topic without subscribers is forgotten \
                 after 30 days. To wait for no subscriber at all, not even for Home Assistant, set \
                 wait_for_subscribers to false.",
                since.format("%F %T UTC")
            )
        }
        (since, _) => {
            let since = since.map(|since| since.format(" (since %F %T UTC)").to_string()).unwrap_or_default();
            format!(
                "{events} for Home Assistant{since}, which is not connected to the broker or is still starting. They \
                 are sent when it is back, but at the latest after 30 seconds. If Home Assistant is no longer used \
                 with this broker, set discovery_enabled or wait_for_subscribers to false."
            )
        }
    };
    Warning::new(WarningKind::WaitingForSubscriber, message).with_severity(severity_of(held.events))
}

fn database_restored(gap: SeqGap) -> Warning {
    let (events, are, _) = words(gap.events());
    let message = format!(
        "The database is older than the one that was used last: {} {events} that had been accepted (seq {} to \
         {}) {are} not in it. New events get higher seqs. If this is not intended, stop the service and \
         restore a newer backup. This warning is shown until the service is restarted.",
        gap.events(),
        gap.first,
        gap.last
    );
    Warning::new(WarningKind::DatabaseRestored, message).with_severity(gap.events())
}

fn seq_file_failed(path: &Path) -> Warning {
    let message = format!(
        "The file {} cannot be written. Events are accepted and delivered, but if the database is restored from \
         a backup or deleted, seqs may be reused. Check the permissions of the file and its directory, \
         and the free space on the disk.",
        path.display()
    );
    Warning::new(WarningKind::SeqFileFailed, message)
}

/// Returns the noun, the verb and the pronoun for this number of events.
fn words(events: u64) -> (&'static str, &'static str, &'static str) {
    if events == 1 { ("event", "is", "it") } else { ("events", "are", "them") }
}

/// Formats a duration for people: `26 h`, `3 days`.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn warnings_get_worse_with_each_lost_event_and_with_half_the_free_space() {
        let now = Instant::now();
        let severity = |warnings: &Warnings| warnings.shown(now)[0].severity;
        let mut missing = Warnings { missing: 3, ..Warnings::default() };
        let before = severity(&missing);
        missing.missing = 4;
        assert!(severity(&missing) > before);
        let of_disk = |mib: u64| {
            let space = DiskSpace { free: mib * 1024 * 1024, total: u64::MAX };
            severity(&Warnings { low_disk: Some(space), ..Warnings::default() })
        };
        let camera = CameraId::parse("door").unwrap();
        let of_arrival = |seconds| {
            let mut warnings = Warnings::default();
            warnings.late_on_arrival(&camera, seconds, now);
            severity(&warnings)
        };
        assert!(of_arrival(4000) > of_arrival(400));
        let of_unreadable = |unreadable| severity(&Warnings { unreadable, ..Warnings::default() });
        assert!(of_unreadable(2) > of_unreadable(1));
        let to = crate::domain::clock::from_micros(0);
        let of_jump = |days| {
            let mut warnings = Warnings::default();
            warnings.clock_jumped(Jump { by: TimeDelta::days(days), to }, now);
            severity(&warnings)
        };
        assert!(of_jump(-9) > of_jump(-3) && of_jump(9) > of_jump(3));
        let of_held = |events| {
            let held = Held { events, home_assistant_since: None, topics: vec![("t".to_owned(), to)] };
            severity(&Warnings { held: Some(held), ..Warnings::default() })
        };
        assert!(of_held(9) > of_held(3));
        assert_eq!(of_disk(70), of_disk(100));
        assert!(of_disk(50) > of_disk(100));
        assert!(of_disk(0) > of_disk(1));
    }

    #[tokio::test]
    async fn a_late_arrival_is_shown_for_ten_minutes_and_logged_once_in_that_time() {
        let camera = CameraId::parse("door").unwrap();
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let mut warnings = Warnings::default();
        assert!(warnings.late_on_arrival(&camera, 400, start));
        assert!(!warnings.late_on_arrival(&camera, 400, start + minute));
        assert_eq!(warnings.shown(start + 10 * minute)[0].kind, WarningKind::LateOnArrival);
        assert!(warnings.late_on_arrival(&camera, 400, start + 10 * minute));
        assert_eq!(warnings.shown(start + 20 * minute), []);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_is_reported_for_an_hour() {
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let mut warnings = Warnings::default();
        let to = crate::domain::clock::from_micros(1_780_000_000_000_000);
        warnings.clock_jumped(Jump { by: TimeDelta::days(-3), to }, start);
        let shown = warnings.shown(start + 59 * minute);
        assert_eq!(shown[0].kind, WarningKind::ClockJumped);
        assert!(shown[0].message.contains("set back by 3 days, to 2026-05-28 20:26:40 UTC"), "{shown:?}");
        assert_eq!(warnings.shown(start + 60 * minute), []);
    }

    #[tokio::test]
    async fn events_that_wait_for_a_subscriber_are_reported_until_they_do_not_wait() {
        let since = crate::domain::clock::from_micros(1_780_000_000_000_000);
        let shown = |held| Warnings { held: Some(held), ..Warnings::default() }.shown(Instant::now());
        let none = Held { events: 0, home_assistant_since: Some(since), topics: Vec::new() };
        assert_eq!(shown(none.clone()), []);
        let for_home_assistant = shown(Held { events: 1, ..none.clone() });
        assert_eq!(for_home_assistant[0].kind, WarningKind::WaitingForSubscriber);
        let text = &for_home_assistant[0].message;
        assert!(
            text.starts_with("1 live event waits for Home Assistant (since 2026-05-28 20:26:40 UTC),"),
            "{text}"
        );
        let topics = vec![("a/event".to_owned(), since), ("b/event".to_owned(), since)];
        let text = &shown(Held { events: 7, home_assistant_since: None, topics })[0].message;
        let expected = "7 live events wait, because nobody subscribes to a/event (since 2026-05-28 20:26:40 UTC) \
             and one other topic.";
        assert!(text.starts_with(expected), "{text}");
    }

    #[tokio::test]
    async fn the_age_of_a_late_arrival_is_rounded() {
        for (seconds, words) in [(119, "119 s"), (400, "6 min"), (26 * 3600, "26 h"), (200_000, "2 days")] {
            let mut warnings = Warnings::default();
            warnings.late_on_arrival(&CameraId::parse("door").unwrap(), seconds, Instant::now());
            let message = &warnings.shown(Instant::now())[0].message;
            assert!(message.contains(&format!("was {words} old")), "{message}");
        }
    }

    fn no_subscribers(warnings: &Warnings, now: Instant) -> Option<String> {
        warnings.no_subscribers(now).map(|warning| warning.message)
    }

    #[tokio::test]
    async fn missing_subscribers_are_reported_with_a_count_until_ten_minutes_after_the_last_such_event() {
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let wall = crate::domain::clock::from_micros(1_780_000_000_000_000);
        let mut warnings = Warnings::default();
        warnings.unheard("a/event".to_owned(), false, start, wall);
        let later = start + 9 * minute;
        warnings.unheard("b/event".to_owned(), false, later, wall + TimeDelta::minutes(9));
        let shown = no_subscribers(&warnings, later + 9 * minute).unwrap();
        assert!(shown.contains("accepted 2 events since 2026-05-28 20:26:40 UTC"), "{shown}");
        assert!(shown.contains("newest on b/event. Check that the subscriber"), "{shown}");
        warnings.heard("a/event", false);
        assert_eq!(no_subscribers(&warnings, later).unwrap(), shown, "that is another topic");
        warnings.heard("b/event", false);
        let shown = no_subscribers(&warnings, later).unwrap();
        assert!(shown.contains("newest on b/event. Somebody subscribes to it again."), "{shown}");
        assert_eq!(no_subscribers(&warnings, later + 10 * minute), None);
        let next = later + 11 * minute;
        warnings.unheard("a/event".to_owned(), false, next, wall + TimeDelta::minutes(20));
        let shown = no_subscribers(&warnings, next).unwrap();
        assert!(shown.contains("accepted 1 event since 2026-05-28 20:46:40 UTC"), "{shown}");
    }

    #[tokio::test]
    async fn a_history_topic_without_subscribers_is_reported_only_if_it_had_one_before() {
        let (now, wall) = (Instant::now(), crate::domain::clock::from_micros(0));
        let mut warnings = Warnings::default();
        let unheard = |warnings: &mut Warnings| {
            warnings.unheard("a/history".to_owned(), true, now, wall);
            no_subscribers(warnings, now).is_some()
        };
        assert!(!unheard(&mut warnings), "Home Assistant does not need it");
        warnings.heard("a/event", false);
        assert!(!unheard(&mut warnings));
        warnings.heard("b/history", true);
        assert!(unheard(&mut warnings), "somebody wants late events");
        warnings.topics_changed();
        assert!(!unheard(&mut warnings), "these are other topics");
    }
}
