//! The warnings that the outbox adds to the status. No I/O.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use crate::disk::DiskSpace;
use crate::domain::{
    clock::Jump,
    ids::CameraId,
    status::{Warning, WarningKind},
};

/// How long a jump of the wall clock is reported.
const JUMP_SHOWN_FOR: Duration = Duration::from_hours(1);

/// How long a warning is shown, and the minimum time between its log lines.
const SHOWN_FOR: Duration = Duration::from_mins(10);

/// The current warnings of the outbox.
#[derive(Debug, Default)]
pub struct Warnings {
    /// The topic on which the newest acknowledged event had no subscriber.
    unheard_on: Option<String>,
    late_arrival: Option<LateArrival>,
    unregistered: Option<Unregistered>,
    clock_jump: Option<(Jump, Instant)>,
    /// The space on the disk, if it is almost full.
    pub low_disk: Option<DiskSpace>,
    /// Number of dead events whose rows are damaged and that are not dismissed.
    pub unreadable: u64,
    /// Number of events whose rows are missing in the database.
    pub missing: u64,
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
    /// Records that the broker has acknowledged an event. `unheard_on` is its topic if it had no subscriber.
    pub fn acknowledged(&mut self, unheard_on: Option<String>) {
        self.unheard_on = unheard_on;
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
        if let Some(topic) = &self.unheard_on {
            shown.push(Warning {
                kind: WarningKind::NoSubscribers,
                message: format!(
                    "The broker has accepted the newest event, but nobody subscribes to {topic}. \
                     Check the topic prefix and the subscriber."
                ),
            });
        }
        let arrival = self.late_arrival.as_ref().filter(|a| now.saturating_duration_since(a.at) < SHOWN_FOR);
        if let Some(LateArrival { camera_id, seconds, .. }) = arrival {
            shown.push(Warning {
                kind: WarningKind::LateOnArrival,
                message: format!(
                    "An event from camera {camera_id} was {} old when it arrived, and was sent to the history \
                     topic. Either a clock is wrong (here or at the source) or the source is slow.",
                    age(*seconds)
                ),
            });
        }
        let unregistered =
            self.unregistered.as_ref().filter(|camera| now.saturating_duration_since(camera.at) < SHOWN_FOR);
        if let Some(Unregistered { camera_id, max, .. }) = unregistered {
            shown.push(Warning {
                kind: WarningKind::TooManyCameras,
                message: format!(
                    "Camera {camera_id} is not registered, because the limit of {max} cameras is reached. \
                     Its events are published, but it has no state and is not announced to Home Assistant. \
                     Delete cameras that no longer exist, or raise [cameras] max."
                ),
            });
        }
        if let Some(DiskSpace { free, total }) = self.low_disk {
            let mib = |bytes: u64| bytes / (1024 * 1024);
            shown.push(Warning {
                kind: WarningKind::DiskAlmostFull,
                message: format!(
                    "The disk of the database is almost full: {} of {} MiB are free. When it is full, the oldest \
                     pictures are removed first, and then no events are accepted. Free some space, or lower \
                     [pictures] max_bytes or [outbox] retention_days.",
                    mib(free),
                    mib(total)
                ),
            });
        }
        if self.unreadable > 0 {
            shown.push(Warning {
                kind: WarningKind::EventsUnreadable,
                message: format!(
                    "{} events cannot be read because the database is damaged, and are dead. Stop the service \
                     and restore a backup, or repair the file with `sqlite3 FILE .recover`; then send them \
                     again. To give them up, dismiss the dead events with the reason unreadable.",
                    self.unreadable
                ),
            });
        }
        if self.missing > 0 {
            shown.push(Warning {
                kind: WarningKind::EventsMissing,
                message: format!(
                    "{} pending events are no longer in the database, although this service did not remove \
                     them. They cannot be delivered. Another program has changed the database, or it is \
                     damaged: stop the service and check it with `sqlite3 FILE \"PRAGMA integrity_check\"`, or \
                     restore a backup. This warning is shown until the service is restarted.",
                    self.missing
                ),
            });
        }
        if let Some((Jump { by, to }, at)) = self.clock_jump
            && now.saturating_duration_since(at) < JUMP_SHOWN_FOR
        {
            let direction = if by < TimeDelta::zero() { "back" } else { "forward" };
            shown.push(Warning {
                kind: WarningKind::ClockJumped,
                message: format!(
                    "The clock of this machine was set {direction} by {}, to {}. The ages of events are \
                     measured independently of it, but times that were recorded before may be wrong. \
                     Synchronize the clock with NTP, and start the service after it is synchronized.",
                    age((by.abs() + TimeDelta::milliseconds(500)).num_seconds()),
                    to.format("%F %T UTC"),
                ),
            });
        }
        shown
    }
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
    async fn the_age_of_a_late_arrival_is_rounded() {
        for (seconds, words) in [(119, "119 s"), (400, "6 min"), (26 * 3600, "26 h"), (200_000, "2 days")] {
            let mut warnings = Warnings::default();
            warnings.late_on_arrival(&CameraId::parse("door").unwrap(), seconds, Instant::now());
            let message = &warnings.shown(Instant::now())[0].message;
            assert!(message.contains(&format!("was {words} old")), "{message}");
        }
    }

    #[tokio::test]
    async fn the_warning_about_missing_subscribers_ends_once_an_event_has_a_subscriber() {
        let mut warnings = Warnings::default();
        warnings.acknowledged(Some("a/b".to_owned()));
        assert_eq!(warnings.shown(Instant::now())[0].kind, WarningKind::NoSubscribers);
        warnings.acknowledged(None);
        assert_eq!(warnings.shown(Instant::now()), []);
    }
}
