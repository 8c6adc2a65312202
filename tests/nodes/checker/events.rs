//! Checks of single events: none is lost, none is invented, each has one seq.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map};

use crate::records::{Receipt, Records};

pub fn lost(records: &Records) -> Vec<String> {
    let arrived: BTreeSet<_> = records.arrivals.iter().map(|arrival| arrival.seq).collect();
    let logged: BTreeSet<_> = records.end.log.iter().map(|row| row.seq).collect();
    let acknowledged: BTreeMap<_, _> =
        records.receipts.iter().map(|receipt| (receipt.seq, receipt)).collect();
    let mut lost = Vec::new();
    for (seq, receipt) in acknowledged {
        let (event, at) = (&receipt.event, receipt.at);
        if !logged.contains(&seq) {
            lost.push(format!("seq {seq} ({event}, acknowledged at {at:.1?}) is not in the log"));
        }
        if !arrived.contains(&seq) && !records.end.dead.contains(&seq) {
            lost.push(format!("seq {seq} ({event}, acknowledged at {at:.1?}) did not arrive"));
        }
    }
    // Nobody has received a receipt for these.
    for row in &records.end.log {
        if !arrived.contains(&row.seq) && !records.end.dead.contains(&row.seq) {
            lost.push(format!("seq {} ({}) is in the log and did not arrive", row.seq, row.event));
        }
    }
    lost
}

pub fn unexpected(records: &Records) -> Vec<String> {
    let arrived = records.arrivals.iter().map(|arrival| (&arrival.event, &arrival.camera, "arrived"));
    let logged = records.end.log.iter().map(|row| (&row.event, &row.camera, "in the log"));
    let mut unexpected = Vec::new();
    for (event, camera, place) in arrived.chain(logged) {
        match records.sent.get(event) {
            None => unexpected.push(format!("{event} of {camera}, {place}: nobody has sent it")),
            Some(sent) if sent != camera => {
                unexpected.push(format!("{event}, {place}: of {camera} instead of {sent}"));
            }
            Some(_) => {}
        }
    }
    unexpected
}

pub fn contradictions(records: &Records) -> Vec<String> {
    let (mut seqs, mut events) = (HashMap::<&str, u64>::new(), BTreeMap::<u64, &str>::new());
    let place = |receipt: &Receipt| format!("receipt of node {} at {:.1?}", receipt.node, receipt.at);
    let receipts =
        records.receipts.iter().map(|receipt| (receipt.event.as_str(), receipt.seq, place(receipt)));
    let arrivals =
        records.arrivals.iter().map(|arrival| (arrival.event.as_str(), arrival.seq, "arrival".to_owned()));
    let log = records.end.log.iter().map(|row| (row.event.as_str(), row.seq, "row".to_owned()));
    let mut contradictions = Vec::new();
    // The receipts come first: they are what others rely on.
    for (event, seq, what) in receipts.chain(arrivals).chain(log) {
        match seqs.entry(event) {
            hash_map::Entry::Occupied(known) if *known.get() != seq => {
                contradictions.push(format!("{what}: {event} has seq {seq} and seq {}", known.get()));
            }
            hash_map::Entry::Occupied(_) => {}
            hash_map::Entry::Vacant(new) => _ = new.insert(seq),
        }
        match events.entry(seq) {
            btree_map::Entry::Occupied(known) if *known.get() != event => {
                contradictions.push(format!("{what}: seq {seq} is {event} and {}", known.get()));
            }
            btree_map::Entry::Occupied(_) => {}
            btree_map::Entry::Vacant(new) => _ = new.insert(event),
        }
    }
    contradictions
}

/// Returns the events that arrived on the history topic. The test does not let events get late.
pub fn late(records: &Records) -> Vec<String> {
    let late = records.arrivals.iter().filter(|arrival| arrival.is_late);
    late.map(|arrival| format!("{} (seq {}) at {:.1?}", arrival.event, arrival.seq, arrival.at)).collect()
}
