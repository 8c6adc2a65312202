//! Reads query strings: every fault is reported by name, and no parameter is silently ignored.

use std::{fmt::Display, str::FromStr};

use actix_web::web::Query;
use liveobject_actors::{
    Invalid, Seq,
    domain::{
        clock::{self, Timestamp},
        fields::Faults,
    },
};

/// Returns the parameters of a query string, percent-decoded and in order.
pub(super) fn parameters(text: &str) -> Result<Vec<(String, String)>, Invalid> {
    Query::from_query(text)
        .map(Query::into_inner)
        .map_err(|_| Invalid::one("", "the query must have the form name=value&name=value"))
}

/// Calls `read` with the name and the value of each parameter; it returns whether it knows the name. A
/// repeated parameter is a fault. Returns the faults found, so that the caller can add others.
pub(super) fn read(
    text: &str,
    mut read: impl FnMut(&str, String, &mut Faults) -> bool,
) -> Result<Faults, Invalid> {
    let mut faults = Faults::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in parameters(text)? {
        if seen.contains(&name) {
            faults.push(&name, "given more than once");
            continue;
        }
        if !read(&name, value, &mut faults) {
            faults.push(&name, "unknown parameter");
        }
        seen.push(name);
    }
    Ok(faults)
}

/// Parses a whole number within bounds.
pub(super) fn integer<T: FromStr + PartialOrd + Display>(text: &str, min: T, max: T) -> Result<T, String> {
    let is_within = |n: &T| (&min..=&max).contains(&n);
    text.parse().ok().filter(is_within).ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// Parses the position of an event.
pub(super) fn position(text: &str) -> Result<Seq, String> {
    integer(text, 1, i64::MAX).map(Seq)
}

/// Parses an RFC 3339 time, with the precision of the times of events. The plus sign of an offset is a space in a query
/// string unless it is written as `%2B`; both are accepted.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    /// The length of `2026-05-01T12:00:00`.
    const TIME: usize = 19;
    let (time, offset) = text.split_at_checked(TIME).unwrap_or((text, ""));
    let text = format!("{time}{}", offset.replace(' ', "+"));
    let wrong = "must be an RFC 3339 time with a zone, such as 2026-05-01T12:00:00Z";
    text.parse().ok().filter(|_| text.contains('T')).map(clock::truncated).ok_or_else(|| wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_precise_as_those_of_events() {
        let parsed = |text| time(text).map(clock::rfc3339);
        assert_eq!(parsed("2026-05-01T12:00:00.0000019Z").unwrap(), "2026-05-01T12:00:00.000001Z");
        assert_eq!(parsed("2026-05-01T12:00:00 02:00").unwrap(), "2026-05-01T10:00:00Z", "a plus sign");
        for wrong in ["2026-05-01", "2026-05-01 12:00:00Z", "2026-05-01T12:00:00", "yesterday", ""] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
