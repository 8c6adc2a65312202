//! What the outbox warns of in the status. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{
    ids::CameraId,
    status::{Warning, WarningKind},
};

/// How long a late arrival is shown, and how often it is logged.
const SHOWN_FOR: Duration = Duration::from_mins(10);

/// What was seen lately.
#[derive(Debug, Default)]
pub struct Warnings {
    /// The topic on which the newest acknowledged event had no subscriber.
    unheard_on: Option<String>,
    late_arrival: Option<LateArrival>,
    unregistered: Option<Unregistered>,
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
    /// The broker acknowledged an event; `unheard_on` is its topic when nobody subscribes to it.
    pub fn acknowledged(&mut self, unheard_on: Option<String>) {
        self.unheard_on = unheard_on;
    }

    /// An event was late when it arrived. Answers whether that is worth a log line (not more than one in ten minutes).
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

    /// A camera was one too many. Answers whether that is worth a log line (not more than one in ten minutes).
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

    /// What to show now.
    pub fn shown(&self, now: Instant) -> Vec<Warning> {
        let mut shown = Vec::new();
        if let Some(topic) = &self.unheard_on {
            shown.push(Warning {
                kind: WarningKind::NoSubscribers,
                message: format!(
                    "The broker has taken the newest event, but nobody subscribes to {topic}. Check the topic prefix \
                     and the subscriber."
                ),
            });
        }
        let arrival = self.late_arrival.as_ref().filter(|a| now.saturating_duration_since(a.at) < SHOWN_FOR);
        if let Some(LateArrival { camera_id, seconds, .. }) = arrival {
            shown.push(Warning {
                kind: WarningKind::LateOnArrival,
                message: format!(
                    "An event of camera {camera_id} was {} old when it arrived, and went to the history topic. \
                     Either a clock is wrong (here or at the source) or the source is slow.",
                    age(*seconds)
                ),
            });
        }
        let one_too_many =
            self.unregistered.as_ref().filter(|one| now.saturating_duration_since(one.at) < SHOWN_FOR);
        if let Some(Unregistered { camera_id, max, .. }) = one_too_many {
            shown.push(Warning {
                kind: WarningKind::TooManyCameras,
                message: format!(
                    "Camera {camera_id} is not registered: {max} cameras are known already. Its events are published, but \
                     it has no state and is not announced to Home Assistant. Delete cameras that are gone, or raise \
                     [cameras] max."
                ),
            });
        }
        shown
    }
}

/// A time as people say it: `26 h`, `3 days`.
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
    async fn a_late_arrival_is_logged_once_in_ten_minutes_and_shown_as_long() {
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
    async fn a_late_arrival_is_as_old_as_people_say_it() {
        for (seconds, words) in [(119, "119 s"), (400, "6 min"), (26 * 3600, "26 h"), (200_000, "2 days")] {
            let mut warnings = Warnings::default();
            warnings.late_on_arrival(&CameraId::parse("door").unwrap(), seconds, Instant::now());
            let message = &warnings.shown(Instant::now())[0].message;
            assert!(message.contains(&format!("was {words} old")), "{message}");
        }
    }

    #[tokio::test]
    async fn no_subscribers_is_over_when_somebody_hears() {
        let mut warnings = Warnings::default();
        warnings.acknowledged(Some("a/b".to_owned()));
        assert_eq!(warnings.shown(Instant::now())[0].kind, WarningKind::NoSubscribers);
        warnings.acknowledged(None);
        assert_eq!(warnings.shown(Instant::now()), []);
    }
}
