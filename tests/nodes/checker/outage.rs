//! How long no event was accepted after a fault of the owner.

use std::time::Duration;

use super::terms::owner_at;
use crate::records::{Fault, Records};

/// In this time another node must have taken over.
const MAX_OUTAGE: Duration = Duration::from_secs(10);

/// What a fault of the owner led to.
#[derive(Debug, Clone, Copy)]
pub struct Outage<'a> {
    pub fault: &'a Fault,
    /// The time until an event was accepted that was sent after the fault began; `None` if none was.
    pub length: Option<Duration>,
    /// The time until another node owned the log, if that is how it ended.
    pub claimed: Option<Duration>,
}

/// Returns the outages after those faults of the owner that occurred alone.
pub fn outages(records: &Records) -> impl Iterator<Item = Outage<'_>> {
    let judged = records.faults.iter().filter(|fault| fault.of_owner && fault.is_alone);
    judged.map(|fault| {
        let later = records.receipts.iter().filter(|receipt| receipt.began >= fault.from);
        let next = later.map(|receipt| receipt.at).min();
        let owner = next.and_then(|at| owner_at(&records.terms, at));
        let other = owner.filter(|term| term.node != fault.node && term.at >= fault.from);
        Outage {
            fault,
            length: next.map(|at| at.saturating_sub(fault.from)),
            claimed: other.map(|term| term.at.saturating_sub(fault.from)),
        }
    })
}

pub fn too_long(records: &Records) -> Vec<String> {
    let is_long = |Outage { fault, length, .. }: &Outage<'_>| {
        length.is_none_or(|length| length > MAX_OUTAGE + fault.prevents)
    };
    let long = outages(records).filter(is_long);
    long.map(|Outage { fault, length, .. }| {
        format!("{} at {:.1?}: {length:.1?} until an event was accepted", fault.text, fault.from)
    })
    .collect()
}
