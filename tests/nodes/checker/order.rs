//! Checks of the order of events, and of repeats.

use std::collections::{BTreeMap, BTreeSet};

use liveobject_test_support::{Ledger, PacketKind, Wire};
use serde_json::Value;

use crate::records::Records;

/// What a node has in flight (500), and what the broker has acknowledged and the node has not yet written (500).
const MAX_REPEATS: usize = 1000;

/// Returns the events that were overtaken: as they arrived, and as the nodes sent them. For the latter, all nodes count
/// as one publisher.
pub fn overtaken(records: &Records) -> Vec<String> {
    let mut ledger = Ledger::<u64>::default();
    for arrival in &records.arrivals {
        let topic = if arrival.is_late { "history" } else { "event" };
        ledger.delivered(&format!("{}/{topic}", arrival.camera), arrival.seq, arrival.seq);
    }
    let arrived = ledger
        .out_of_order()
        .into_iter()
        .map(|case| format!("arrived: {case:?}, among {:?}", ledger.around(case.seq())));
    let mut wire = Wire::default();
    for packet in &records.packets {
        wire.record(packet.session + 1, &packet.what, seq);
    }
    let sent = wire.overtaken().iter().map(|case| {
        let session = records.sessions.get(case.connection - 1);
        format!("sent: seq {} after {}, session {} ({session:?})", case.seq, case.by, case.connection - 1)
    });
    arrived.chain(sent).collect()
}

/// Returns the events whose sender had the receipt of a later one when it sent them.
pub fn against_real_time(records: &Records) -> Vec<String> {
    let mut first: Vec<_> = records.receipts.iter().filter(|receipt| receipt.is_first).collect();
    first.sort_by_key(|receipt| receipt.at);
    let mut highest = BTreeMap::<usize, u64>::new();
    let mut cases = Vec::new();
    for receipt in first {
        let highest = highest.entry(receipt.sender).or_default();
        if receipt.seq <= *highest {
            let (event, seq, at) = (&receipt.event, receipt.seq, receipt.at);
            cases.push(format!("{event} has seq {seq} at {at:.1?}, after the receipt of {highest}"));
        }
        *highest = receipt.seq.max(*highest);
    }
    cases
}

/// Returns the sessions that sent too many events again.
pub fn repeats(records: &Records) -> Vec<String> {
    let mut cases = Vec::new();
    for (session, repeats) in repeats_by_session(records) {
        if repeats > MAX_REPEATS {
            cases.push(format!(
                "session {session} sent {repeats} events again: {:?}",
                records.sessions[session]
            ));
        }
    }
    cases
}

/// Returns how many events each session sent that an earlier one had sent.
pub fn repeats_by_session(records: &Records) -> BTreeMap<usize, usize> {
    let mut sent = BTreeMap::<usize, BTreeSet<u64>>::new();
    for packet in &records.packets {
        if let PacketKind::Event(publish) = &packet.what {
            sent.entry(packet.session).or_default().extend(seq(&publish.payload));
        }
    }
    let mut earlier = BTreeSet::new();
    let mut count = |(session, seqs): (usize, BTreeSet<u64>)| {
        let repeats = seqs.iter().filter(|seq| !earlier.insert(**seq)).count();
        (session, repeats)
    };
    sent.into_iter().map(&mut count).collect()
}

fn seq(payload: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(payload).ok()?["seq"].as_u64()
}
