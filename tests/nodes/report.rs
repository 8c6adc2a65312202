//! The results of a run, for people.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    checker::{Check, Finding, outages, repeats_by_session},
    records::Records,
};

#[derive(Debug)]
pub struct Report<'a> {
    pub records: &'a Records,
    pub findings: &'a [Finding],
    pub load: String,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, findings, load } = self;
        writeln!(f, "{load}")?;
        let (arrived, logged) = (records.arrivals.len(), records.end.log.len());
        writeln!(f, "{logged} events in the log, {arrived} arrivals, {} dead", records.end.dead.len())?;
        let terms = records.terms.iter().filter(|term| term.node.is_some()).count();
        let repeats = repeats_by_session(records);
        writeln!(
            f,
            "{} faults, {terms} terms, {} sessions, {} events sent again, at most {} by one session",
            records.faults.len(),
            records.sessions.len(),
            repeats.values().sum::<usize>(),
            repeats.values().max().unwrap_or(&0),
        )?;
        let mut receipts: Vec<_> =
            records.receipts.iter().map(|receipt| receipt.at.saturating_sub(receipt.began)).collect();
        receipts.sort();
        writeln!(
            f,
            "a receipt took {:.1?} (median)",
            receipts.get(receipts.len() / 2).unwrap_or(&Duration::ZERO)
        )?;
        let mut by_kind = BTreeMap::<_, Vec<Duration>>::new();
        for outage in outages(records) {
            let end = if outage.claimed.is_some() { "another node" } else { "the same node" };
            by_kind.entry((outage.fault.kind, end)).or_default().extend(outage.length);
        }
        for ((kind, end), mut lengths) in by_kind {
            lengths.sort();
            let (Some(median), Some(longest)) = (lengths.get(lengths.len() / 2), lengths.last()) else {
                continue;
            };
            writeln!(
                f,
                "owner {kind:<20} until {end} accepts: median {median:>6.2?}, at most {longest:>6.2?} (n = {})",
                lengths.len()
            )?;
        }
        for Finding { check, text } in *findings {
            writeln!(f, "FOUND {check:?}: {text}")?;
        }
        let count = |check: Check| findings.iter().filter(|finding| finding.check == check).count();
        write!(f, "findings={} lost={}", findings.len(), count(Check::Lost))
    }
}
