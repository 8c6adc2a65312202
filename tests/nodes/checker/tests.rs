//! Each check finds the fault that it is for, and nothing in a run without one.

use std::time::Duration;

use liveobject_test_support::PacketKind;

use super::{Check, check, outages};
use crate::records::{Arrival, Fault, Publication, Receipt, Records, Row, SentPacket, Session, Term, Write};

const CAMERA: &str = "cam-0";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn event(seq: u64) -> String {
    format!("e-{seq}")
}

fn receipt(seq: u64, began: u64) -> Receipt {
    Receipt {
        event: event(seq),
        seq,
        sender: 0,
        node: 0,
        is_first: true,
        began: at(began),
        at: at(began) + Duration::from_millis(10),
    }
}

fn arrival(seq: u64) -> Arrival {
    Arrival { event: event(seq), camera: CAMERA.to_owned(), seq, is_late: false, at: at(seq) }
}

fn packet(session: usize, seq: u64) -> SentPacket {
    let publish = liveobject_test_support::mqtt5::Publish {
        topic: format!("liveobject/camera/{CAMERA}/event"),
        payload: format!(r#"{{"seq":{seq}}}"#).into_bytes().into(),
        qos: 1,
        packet_id: u16::try_from(seq).expect("few events"),
        ..Default::default()
    };
    SentPacket { session, what: PacketKind::Event(publish) }
}

fn publication(session: usize) -> Publication {
    Publication { session, topic: format!("liveobject/camera/{CAMERA}/event") }
}

/// Returns the records of a run in which node 0 is killed after 4 events, and node 1 sends the last of them again.
fn good() -> Records {
    let mut records = Records::default();
    for seq in 1..=6 {
        records.sent.insert(event(seq), CAMERA.to_owned());
        // Node 1 took over at second 16.
        records.receipts.push(receipt(seq, if seq < 5 { seq } else { 12 + seq }));
        records.arrivals.push(arrival(seq));
        records.end.log.push(Row { seq, event: event(seq), camera: CAMERA.to_owned() });
        let writer = Some(if seq < 5 { (0, at(0)) } else { (1, at(16)) });
        records.writes.push(Write { first: seq, last: seq, writer, at: receipt_time(seq) });
    }
    let session = |node, port, began| Session { node, number: 1, port, began };
    records.sessions = vec![session(0, 1, at(1)), session(1, 2, at(16) + Duration::from_millis(50))];
    let packets = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4), (1, 5), (1, 6)];
    records.packets = packets.into_iter().map(|(session, seq)| packet(session, seq)).collect();
    let settled = (1..=3).map(|id| SentPacket { session: 0, what: PacketKind::Settled(id) });
    records.packets.splice(4..4, settled);
    records.publishes = [0, 0, 0, 0, 1, 1, 1].map(publication).into();
    records.terms = vec![Term { node: Some(0), at: at(0) }, Term { node: Some(1), at: at(16) }];
    records.faults.push(Fault {
        kind: "kill",
        text: "node 0: kill -9".to_owned(),
        node: Some(0),
        of_owner: true,
        is_alone: true,
        prevents: Duration::ZERO,
        from: at(10),
        to: at(18),
    });
    records.end.counted.insert(CAMERA.to_owned(), 6);
    let retained = [
        ("liveobject/status".to_owned(), "online".to_owned()),
        (format!("homeassistant/device/{CAMERA}/config"), "{}".to_owned()),
        (format!("liveobject/camera/{CAMERA}/last_event"), r#"{"event_id":"e-6"}"#.to_owned()),
    ];
    records.end.retained = retained.map(|(topic, payload)| (topic, payload.into_bytes())).into();
    records
}

fn receipt_time(seq: u64) -> Duration {
    if seq < 5 { at(seq) } else { at(12 + seq) }
}

/// Asserts that a run with this change has exactly these findings.
#[track_caller]
fn assert_found(change: impl FnOnce(&mut Records), expected: &[Check]) {
    let mut records = good();
    change(&mut records);
    let findings = check(&records);
    let found: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(found, expected, "{findings:#?}");
}

#[test]
fn a_run_without_a_fault_of_the_service_has_no_finding() {
    assert_found(|_| {}, &[]);
    let records = good();
    let outage = outages(&records).next().expect("the fault is judged");
    assert_eq!((outage.length, outage.claimed), (Some(at(7) + Duration::from_millis(10)), Some(at(6))));
}

#[test]
fn a_lost_event_is_found() {
    assert_found(|records| _ = records.arrivals.remove(2), &[Check::Lost]);
    assert_found(|records| _ = records.end.dead.insert(records.arrivals.remove(2).seq), &[]);
    assert_found(|records| _ = records.receipts.remove(2), &[]);
    let without_receipt =
        |records: &mut Records| _ = (records.receipts.remove(2), records.arrivals.remove(2));
    assert_found(without_receipt, &[Check::Lost]);
    let not_logged = |records: &mut Records| {
        records.end.log.remove(2);
        records.end.counted.insert(CAMERA.to_owned(), 5);
    };
    assert_found(not_logged, &[Check::Lost]);
}

#[test]
fn an_unexpected_event_is_found() {
    assert_found(|records| _ = records.sent.remove("e-3"), &[Check::Unexpected]);
    assert_found(|records| _ = records.sent.insert(event(3), "cam-1".to_owned()), &[Check::Unexpected]);
}

#[test]
fn two_seqs_of_one_event_and_two_events_with_one_seq_are_found() {
    let repeated = Receipt { seq: 7, is_first: false, ..receipt(3, 20) };
    assert_found(|records| records.receipts.push(repeated), &[Check::Lost, Check::Identity]);
    let other = |records: &mut Records| {
        records.sent.insert("other".to_owned(), CAMERA.to_owned());
        records.arrivals.push(Arrival { event: "other".to_owned(), ..arrival(6) });
    };
    assert_found(other, &[Check::Identity]);
}

#[test]
fn an_overtaken_event_is_found() {
    assert_found(|records| records.arrivals.swap(1, 2), &[Check::Order]);
    assert_found(|records| records.packets.swap(1, 2), &[Check::Order]);
    let skipped = |records: &mut Records| {
        // Session 1 begins with 5, and sends 4 in its next session.
        let again = SentPacket { session: 2, ..records.packets.remove(7) };
        records.sessions.push(Session { port: 3, ..records.sessions[1] });
        records.packets.push(again);
    };
    assert_found(skipped, &[Check::Order]);
}

#[test]
fn a_seq_that_goes_back_in_real_time_is_found() {
    let swapped = |records: &mut Records| {
        let (first, second) = (records.receipts[1].at, records.receipts[2].at);
        (records.receipts[1].at, records.receipts[2].at) = (second, first);
    };
    assert_found(swapped, &[Check::RealTime]);
    let other_sender = |records: &mut Records| {
        swapped(records);
        records.receipts[1].sender = 1;
    };
    assert_found(other_sender, &[]);
}

#[test]
fn a_message_of_an_earlier_term_after_one_of_a_later_term_is_found() {
    assert_found(|records| records.publishes.push(publication(0)), &[Check::Terms]);
    let never_owner = |records: &mut Records| {
        records.sessions.push(Session { node: 2, number: 1, port: 3, began: at(17) });
        records.publishes.push(publication(2));
    };
    assert_found(never_owner, &[Check::Terms]);
    let own_again = |records: &mut Records| {
        records.sessions.push(Session { node: 0, number: 2, port: 3, began: at(31) });
        records.publishes.push(publication(2));
        records.terms.push(Term { node: Some(0), at: at(30) });
    };
    assert_found(own_again, &[]);
    let connected_before_the_claim = |records: &mut Records| {
        own_again(records);
        records.sessions[2].began = at(29);
    };
    assert_found(connected_before_the_claim, &[Check::Terms]);
}

#[test]
fn a_write_of_a_node_that_is_not_the_owner_is_found() {
    assert_found(|records| records.writes[3].at = at(17), &[Check::Fence]);
    assert_found(|records| records.writes[4].at = at(15), &[Check::Fence]);
    assert_found(|records| records.writes[4].writer = None, &[]);
    let of_an_earlier_term = |records: &mut Records| {
        records.terms.push(Term { node: Some(1), at: at(17) });
    };
    assert_found(of_an_earlier_term, &[Check::Fence]);
}

#[test]
fn too_many_repeats_are_found() {
    let repeated = |records: &mut Records| {
        records.packets.truncate(7);
        records
            .packets
            .extend([0, 1].into_iter().flat_map(|session| (5..=1500).map(move |seq| packet(session, seq))));
    };
    assert_found(repeated, &[Check::Repeats]);
}

#[test]
fn a_takeover_that_takes_too_long_is_found() {
    assert_found(|records| records.faults[0].from = at(6), &[Check::Outage]);
    let without_end = |records: &mut Records| records.faults[0].from = at(30);
    assert_found(without_end, &[Check::Outage]);
    let together = |records: &mut Records| {
        records.faults[0].from = at(6);
        records.faults[0].is_alone = false;
    };
    assert_found(together, &[]);
    let prevented = |records: &mut Records| {
        records.faults[0].from = at(6);
        records.faults[0].prevents = at(2);
    };
    assert_found(prevented, &[]);
}

#[test]
fn a_wrong_count_is_found() {
    assert_found(|records| _ = records.end.counted.insert(CAMERA.to_owned(), 7), &[Check::Counts]);
}

#[test]
fn wrong_retained_messages_are_found() {
    let set = |topic: &str, payload: &str| {
        let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
        move |records: &mut Records| _ = records.end.retained.insert(topic, payload)
    };
    assert_found(set("liveobject/status", "offline"), &[Check::Retained]);
    assert_found(set("homeassistant/device/old_cam-0/config", "{}"), &[Check::Retained]);
    assert_found(set("liveobject/camera/cam-0/last_event", r#"{"event_id":"e-5"}"#), &[Check::Retained]);
}

#[test]
fn a_late_event_is_found() {
    assert_found(|records| records.arrivals[2].is_late = true, &[Check::History]);
}

#[test]
fn a_problem_on_the_way_is_found() {
    assert_found(|records| records.problems.push("node 1 has exited".to_owned()), &[Check::Problem]);
}
