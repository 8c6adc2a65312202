//! The ledger's own tests.

use serde_json::json;

use super::*;

fn ledger(accepted: &[u64], delivered: &[u64]) -> Ledger {
    let mut ledger = Ledger::new();
    for seq in accepted {
        ledger.accepted(format!("event-{seq}"), *seq);
    }
    for seq in delivered {
        ledger.delivered("t", format!("event-{seq}"), *seq);
    }
    ledger
}

fn disorder(delivered: &[u64]) -> Vec<Disorder> {
    ledger(&[], delivered).out_of_order()
}

#[test]
fn an_undisturbed_stream_is_complete_and_in_order() {
    let ledger = ledger(&[1, 2, 3], &[1, 2, 3]);
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert_eq!((ledger.duplicates(), ledger.resends(), ledger.resend_regressions()), (0, 0, 0));
}

#[test]
fn an_accepted_event_that_never_arrived_is_lost_unless_it_is_dead() {
    let mut ledger = ledger(&[1, 2, 3, 4], &[1, 4]);
    assert_eq!(ledger.lost(), [2, 3]);
    ledger.dead(2);
    assert_eq!(ledger.lost(), [3]);
}

#[test]
#[should_panic(expected = "lost 1: [2]")]
fn the_failure_names_the_lost_event() {
    ledger(&[1, 2], &[1]).assert_nothing_lost();
}

#[test]
#[should_panic(expected = "out of order 1: [Late { seq: 3, after: 4 }]")]
fn the_failure_names_the_overtaken_event() {
    ledger(&[], &[1, 2, 4, 3]).assert_in_order();
}

#[test]
fn resends_from_the_first_unacknowledged_event_are_in_order() {
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 3, 4, 5]), []);
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 3, 3, 4, 5, 6]), []);
    assert_eq!(disorder(&[1, 2, 3, 3, 4]), []);
    let ledger = ledger(&[], &[1, 2, 3, 4, 2, 3, 3, 4, 1, 2, 3, 4, 5]);
    assert_eq!((ledger.duplicates(), ledger.resends(), ledger.resend_regressions()), (8, 3, 1));
}

#[test]
fn each_topic_has_an_order_of_its_own() {
    let mut ledger = Ledger::new();
    for (seq, late) in [(4, false), (1, true), (5, false), (2, true)] {
        ledger.delivered_event(
            &json!({"event_id": seq.to_string(), "seq": seq, "camera_id": "c", "late": late}),
        );
    }
    ledger.assert_in_order();
    assert_eq!(ledger.resends(), 0);
    ledger.delivered_event(&json!({"event_id": "3", "seq": 3, "camera_id": "c"}));
    assert_eq!(ledger.out_of_order(), [Disorder::Late { seq: 3, after: 5 }]);
    ledger.delivered_event(&json!({"event_id": "4", "seq": 4, "camera_id": "c", "late": true}));
    assert_eq!(ledger.out_of_order().len(), 1, "it was sent again, as a late one");
}

#[test]
fn events_that_were_sent_again_on_request_can_be_left_out() {
    let ledger = ledger(&[1, 2, 3, 4], &[1, 3, 4, 2, 4]);
    let ordered = ledger.without_deliveries(&[2].into());
    assert_eq!((ordered.out_of_order(), ordered.lost()), (vec![], vec![2]));
    assert_eq!((ledger.out_of_order().len(), ordered.duplicates()), (1, 1));
}

#[test]
fn a_resend_may_skip_acknowledged_events() {
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 5, 6]), []);
}

#[test]
fn an_overtaking_resend_is_detected() {
    let overtaken = |seq, by| Disorder::ResendOvertaken { seq, by };
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 4, 3, 4]), [overtaken(3, 4)]);
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 5, 3, 4]), [overtaken(3, 5), overtaken(4, 5)]);
    assert_eq!(disorder(&[1, 2, 3, 4, 2, 6, 5]), [Disorder::Late { seq: 5, after: 6 }]);
}

#[test]
fn resends_after_a_crash_that_loses_acknowledgements_are_in_order() {
    assert_eq!(disorder(&[1, 2, 3, 4, 3, 4, 5, 2, 3, 4, 5]), []);
}

#[test]
fn gaps_in_the_seqs_are_in_order() {
    let ledger = ledger(&[3, 7, 20], &[3, 7, 20]);
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
}

#[test]
fn deliveries_without_a_receipt_are_permitted_and_counted() {
    let ledger = ledger(&[1], &[1, 2, 2]);
    ledger.assert_nothing_lost();
    assert_eq!(ledger.unconfirmed(), [2]);
}

#[test]
fn one_event_has_one_seq_and_one_seq_has_one_event() {
    let mut ledger = ledger(&[1, 1], &[1]);
    assert!(ledger.contradictions().is_empty());
    ledger.accepted("event-1", 2);
    ledger.delivered("t", "another", 1);
    assert_eq!(ledger.contradictions().len(), 2, "{:?}", ledger.contradictions());
}

#[test]
fn receipts_and_payloads_are_parsed_and_replays_are_ignored() {
    let mut ledger = Ledger::new();
    ledger.accepted_receipt(&json!({ "event_id": "a", "seq": 1, "duplicate": false }));
    ledger.delivered_event(&json!({ "event_id": "a", "seq": 1, "replay": true }));
    assert_eq!(ledger.lost(), [1]);
    ledger.delivered_event(&json!({ "event_id": "a", "seq": 1, "late": true }));
    ledger.assert_nothing_lost();
    assert_eq!(ledger.summary().split(", ").count(), 8);
}
