//! The system's time zone.
//!
//! The name of the zone is in `TZ`, in the symbolic link `/etc/localtime` or in `/etc/timezone`. In a container,
//! the names are those of the image, often `Etc/UTC`, even if the host's `/etc/localtime` is mounted over the
//! image's. What counts is the content of that file. If the name does not agree with it, the zone is found by its
//! rules.

use std::{cmp::Reverse, path::Path};

use chrono::{Datelike as _, Local, NaiveDate, NaiveDateTime, Offset as _, TimeDelta, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::domain::clock;

const LOCAL_TIME: &str = "/etc/localtime";
/// How many years from the beginning of the current one the rules must agree.
const YEARS: i32 = 3;
/// The regions whose names people recognize. Other names are mostly older ones of the same zones.
const REGIONS: [&str; 7] = ["Europe/", "America/", "Asia/", "Africa/", "Australia/", "Pacific/", "Atlantic/"];

/// Returns the zone, or why it cannot be determined.
pub(super) fn detect() -> Result<Tz, String> {
    let variable = std::env::var("TZ").ok().filter(|text| !text.is_empty());
    let name = match &variable {
        Some(text) => Ok(text.trim_start_matches(':').to_owned()),
        None => iana_time_zone::get_timezone().map_err(|error| error.to_string()),
    };
    let named = name
        .as_deref()
        .map_err(Clone::clone)
        .and_then(|name| name.parse::<Tz>().map_err(|_| format!("{name:?} is not the name of a time zone")));
    let has_rules = match (&variable, &name) {
        // A file, or rules such as CET-1CEST,M3.5.0,M10.5.0/3.
        (Some(_), Ok(text)) => named.is_err() && (Path::new(text).is_file() || is_posix_rule(text)),
        _ => Path::new(LOCAL_TIME).is_file(),
    };
    if !has_rules {
        return named;
    }
    find(&|utc| offset(&Local, utc), named.as_ref().ok().copied(), clock::now().naive_utc()).ok_or_else(
        || format!("no known time zone has the rules of {}", variable.as_deref().unwrap_or(LOCAL_TIME)),
    )
}

/// Returns whether the value of `TZ` contains the offset itself instead of a name.
fn is_posix_rule(text: &str) -> bool {
    let standard_time = text.split(',').next().unwrap_or_default();
    !standard_time.contains('/') && standard_time.contains(|c: char| c.is_ascii_digit())
}

/// Returns the zone in which local time is as far from UTC as `local` states: `named` if it agrees, otherwise the
/// one that agrees for the longest time in the past. If none does, our rules may be older than the system's, and
/// `named` only has to agree `now`.
fn find(local: &dyn Fn(NaiveDateTime) -> i32, named: Option<Tz>, now: NaiveDateTime) -> Option<Tz> {
    let year = now.year();
    let current: Vec<_> = moments(year, YEARS, TimeDelta::hours(6)).map(|utc| (utc, local(utc))).collect();
    let agrees = |zone: Tz| current.iter().all(|(utc, seconds)| offset(&zone, *utc) == *seconds);
    if let Some(zone) = named.filter(|zone| agrees(*zone)) {
        return Some(zone);
    }
    let past: Vec<_> = moments(1970, year - 1970, TimeDelta::days(30)).map(|utc| (utc, local(utc))).collect();
    let rank = |zone: &Tz| {
        let matches = past.iter().filter(|(utc, seconds)| offset(zone, *utc) == *seconds).count();
        let region = REGIONS.iter().position(|region| zone.name().starts_with(region));
        (matches, Reverse(region.unwrap_or(REGIONS.len())))
    };
    // `max_by_key` returns the last maximum; the first one is the more common name.
    let found = TZ_VARIANTS.into_iter().rev().filter(|zone| agrees(*zone)).max_by_key(rank);
    found.or_else(|| named.filter(|zone| offset(zone, now) == local(now)))
}

fn moments(year: i32, years: i32, step: TimeDelta) -> impl Iterator<Item = NaiveDateTime> {
    let start = |year| NaiveDate::from_yo_opt(year, 1).unwrap_or_default().and_time(chrono::NaiveTime::MIN);
    let end = start(year + years);
    std::iter::successors(Some(start(year)), move |time| time.checked_add_signed(step))
        .take_while(move |time| *time < end)
}

/// Returns how many seconds local time is ahead of UTC.
fn offset(zone: &impl TimeZone, utc: NaiveDateTime) -> i32 {
    zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn now() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2026, 11, 5).unwrap().and_time(chrono::NaiveTime::MIN)
    }

    fn rules_of(zone: Tz) -> impl Fn(NaiveDateTime) -> i32 {
        move |utc| offset(&zone, utc)
    }

    #[test]
    fn the_content_of_the_file_counts_and_not_its_name() {
        for zone in [Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Kolkata, Tz::Australia__Sydney] {
            let found = find(&rules_of(zone), Some(Tz::Etc__UTC), now()).unwrap();
            let history = moments(1970, 59, TimeDelta::days(7));
            assert!(
                history.into_iter().all(|utc| offset(&found, utc) == offset(&zone, utc)),
                "{zone} {found}"
            );
            assert!(found.name().split('/').next() == zone.name().split('/').next(), "{zone} {found}");
        }
    }

    #[test]
    fn a_name_that_agrees_is_kept() {
        for zone in [Tz::UTC, Tz::Etc__UTC, Tz::Europe__Paris, Tz::Africa__Ceuta] {
            assert_eq!(find(&rules_of(zone), Some(zone), now()), Some(zone));
        }
    }

    #[test]
    fn a_zone_whose_future_rules_have_changed_is_kept() {
        let change = NaiveDate::from_ymd_opt(2028, 1, 1).unwrap().and_time(chrono::NaiveTime::MIN);
        let berlin = rules_of(Tz::Europe__Berlin);
        let rules = |utc: NaiveDateTime| if utc < change { berlin(utc) } else { 7200 };
        assert_eq!(find(&rules, Some(Tz::Europe__Berlin), now()), Some(Tz::Europe__Berlin));
    }

    #[test]
    fn rules_that_no_zone_has_are_not_taken_for_utc() {
        let odd = FixedOffset::east_opt(1234).unwrap();
        assert_eq!(find(&|utc| offset(&odd, utc), Some(Tz::UTC), now()), None);
    }

    #[test]
    fn only_an_offset_is_a_rule() {
        for rule in ["CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT", "<+03>-3"] {
            assert!(is_posix_rule(rule), "{rule}");
        }
        for name in ["Europe/Berlin", "Nowhere", "/etc/zone1"] {
            assert!(!is_posix_rule(name), "{name}");
        }
    }
}
