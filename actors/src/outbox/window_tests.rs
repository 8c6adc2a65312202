//! The window alone: examples, and random operations compared with a simple model.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use proptest::prelude::*;

use super::*;
use crate::domain::clock;

const LINK: LinkId = LinkId(1);

fn window() -> Window<()> {
    Window::new(Seq(0), [], [], moment(0))
}

fn moment(millis: i64) -> Moment {
    Moment::at(clock::from_micros(millis * 1000))
}

fn at(late: bool) -> Settlement {
    settled_at(0, late)
}

fn settled_at(millis: i64, late: bool) -> Settlement {
    Settlement { at: moment(millis), late, heard: None }
}

fn send(window: &mut Window<()>, count: usize) -> Vec<i64> {
    let mut sent = Vec::new();
    while sent.len() < count && window.room() > 0 {
        let seq = window.next(Lane::Live).unwrap();
        let again = window.next_again(Lane::Live).next();
        if let Some(again) = again {
            window.sent_again(again, ());
            sent.push(again.0);
        } else {
            window.sent(Lane::Live, seq, ());
            sent.push(seq.0);
        }
    }
    sent
}

#[test]
fn at_most_the_limit_is_in_flight() {
    let mut window = window();
    assert_eq!(window.room(), 0, "there is no link");
    window.link_up(LINK, 3);
    assert_eq!(send(&mut window, 10), [1, 2, 3]);
    assert!(window.settle(LINK, Seq(2), at(false)).is_some());
    assert_eq!(send(&mut window, 10), [4]);
}

#[test]
fn the_cursor_stays_before_the_first_unacknowledged_event() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 4);
    for seq in [2, 4, 3] {
        window.settle(LINK, Seq(seq), at(false));
    }
    assert_eq!((window.cursor(), window.settled_above_cursor()), (Seq(0), 3));
    window.settle(LINK, Seq(1), at(false));
    assert_eq!((window.cursor(), window.settled_above_cursor()), (Seq(4), 0));
}

fn gap(first: i64, last: i64) -> SeqGap {
    SeqGap { first: Seq(first), last: Seq(last) }
}

#[test]
fn a_gap_is_neither_sent_nor_pending_and_the_cursor_skips_it() {
    let mut window = Window::new(Seq(1), [Seq(2)], [], moment(0))
        .with_gaps([gap(4, 1_000_000), gap(1_000_001, 1_000_003)]);
    assert_eq!((window.cursor(), window.in_gaps()), (Seq(2), 1_000_000));
    window.link_up(LINK, 3);
    assert_eq!(send(&mut window, 3), [3, 1_000_004, 1_000_005]);
    window.settle(LINK, Seq(1_000_004), at(true));
    assert_eq!((window.cursor(), window.in_gaps()), (Seq(2), 1_000_000));
    window.settle(LINK, Seq(3), at(false));
    assert_eq!((window.cursor(), window.in_gaps()), (Seq(1_000_004), 0));
    let range = |up_to, late| SettledRange { up_to: Seq(up_to), settlement: at(late) };
    assert_eq!(window.take_ranges(), [range(1_000_003, false), range(1_000_004, true)]);
}

#[test]
fn a_gap_right_after_the_cursor_is_passed_at_once() {
    let mut window: Window<()> = Window::new(Seq(10), [], [], moment(0)).with_gaps([gap(2, 5), gap(11, 15)]);
    assert_eq!((window.cursor(), window.in_gaps(), window.first_open()), (Seq(15), 0, Seq(16)));
    assert_eq!(window.take_ranges(), [SettledRange { up_to: Seq(15), settlement: at(false) }]);
}

#[test]
fn a_resend_starts_at_the_first_unacknowledged_event_and_skips_acknowledged_ones() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 5);
    for seq in [1, 3, 5] {
        window.settle(LINK, Seq(seq), at(false));
    }
    assert!(window.link_down(LINK).is_some());
    window.link_up(LinkId(2), 10);
    assert_eq!(send(&mut window, 3), [2, 4, 6]);
}

#[test]
fn outcomes_of_an_earlier_link_are_ignored() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 2);
    window.link_up(LinkId(2), 10);
    send(&mut window, 2);
    assert!(window.settle(LINK, Seq(1), at(false)).is_none());
    assert!(window.link_down(LINK).is_none());
    assert_eq!(window.in_flight(), 2);
}

#[test]
fn a_deferred_event_stops_sending_until_nothing_is_in_flight() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 3);
    assert!(window.defer(LINK, Seq(1), Lane::Live));
    assert_eq!(window.room(), 0);
    assert!(!window.resume(), "two are still in flight");
    window.settle(LINK, Seq(2), at(false));
    window.settle(LINK, Seq(3), at(false));
    assert!(window.resume());
    assert_eq!(send(&mut window, 2), [1, 4]);
}

#[test]
fn ranges_separate_late_events_from_others() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 5);
    for (seq, late) in [(1, true), (2, true), (4, false), (3, false), (5, true)] {
        window.settle(LINK, Seq(seq), at(late));
    }
    let ranges: Vec<_> = window.take_ranges().iter().map(|r| (r.up_to.0, r.settlement.late)).collect();
    assert_eq!(ranges, [(2, true), (4, false), (5, true)]);
    assert_eq!(window.take_ranges(), []);
}

#[test]
fn a_range_has_the_time_of_its_acknowledgements_and_not_that_of_the_events_before_it() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 5);
    for (seq, millis) in [(1, 0), (2, 9), (4, 20), (5, 21), (3, 500)] {
        window.settle(LINK, Seq(seq), settled_at(millis, false));
    }
    let ranges: Vec<_> = window.take_ranges().iter().map(|r| (r.up_to.0, r.settlement.at)).collect();
    assert_eq!(ranges, [(2, moment(9)), (3, moment(500)), (5, moment(21))]);
}

#[test]
fn one_unacknowledged_event_does_not_let_memory_grow() {
    let mut window = window();
    window.link_up(LINK, 2);
    send(&mut window, 1);
    for _ in 0..100 {
        for seq in send(&mut window, 1) {
            window.settle(LINK, Seq(seq), at(false));
        }
    }
    assert_eq!(window.room(), 0);
    assert_eq!(window.settled_above_cursor(), 15);
}

#[test]
fn retries_are_sent_before_events_that_were_never_sent() {
    let mut window = window();
    window.link_up(LINK, 10);
    send(&mut window, 4);
    for seq in 1..=4 {
        window.settle(LINK, Seq(seq), at(false));
    }
    for seq in [3, 2] {
        window.send_again(Seq(seq));
    }
    assert_eq!((window.to_send_again(), window.first_open(), window.cursor()), (2, Seq(2), Seq(4)));
    assert_eq!(send(&mut window, 3), [2, 3, 5]);
    assert_eq!(window.settle(LINK, Seq(2), at(true)), Some(Settled { again: true, note: () }));
    assert_eq!(window.settle(LINK, Seq(2), at(true)), None);
    let again = window.to_send_again();
    window.link_up(LinkId(2), 10);
    assert_eq!((again, send(&mut window, 2)), (1, vec![3, 5]), "an unacknowledged retry is sent once more");
}

#[derive(Debug, Clone)]
enum Op {
    Up(u16),
    Down,
    Send(usize),
    /// Settles the nth event in flight.
    Settle(usize),
    /// Defers the nth event in flight.
    Defer(usize),
    /// The nth event in flight dies.
    Die(usize),
    /// Retries the nth dead event.
    Retry(usize),
    Resume,
    Stale(i64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (1u16..6).prop_map(Op::Up),
        1 => Just(Op::Down),
        6 => (1usize..5).prop_map(Op::Send),
        8 => (0usize..8).prop_map(Op::Settle),
        1 => (0usize..8).prop_map(Op::Defer),
        3 => (0usize..8).prop_map(Op::Die),
        3 => (0usize..8).prop_map(Op::Retry),
        2 => Just(Op::Resume),
        1 => (1i64..40).prop_map(Op::Stale),
    ]
}

proptest! {
    /// Within one link and between resumes, sent seqs only increase, except those of retries, and a retry is
    /// never sent before an event with a lower seq. Settled events are not sent. All events below the cursor
    /// are settled. The limit is never exceeded. A retry is sent once until it is answered.
    #[test]
    fn invariant_3_a_resend_never_overtakes(
        ops in proptest::collection::vec(op(), 1..200),
        gaps in proptest::collection::btree_set(1i64..60, 0..20),
    ) {
        let mut window = window().with_gaps(gaps.iter().map(|seq| gap(*seq, *seq)));
        let mut settled = gaps.clone();
        let mut dead: Vec<i64> = Vec::new();
        let mut again: BTreeSet<i64> = BTreeSet::new();
        let mut in_flight: Vec<i64> = Vec::new();
        let mut last_sent = 0;
        let mut link = LinkId(0);
        let mut limit = 0;
        let mut up = false;
        for op in ops {
            match op {
                Op::Up(n) => {
                    link.0 += 1;
                    limit = usize::from(n);
                    window.link_up(link, limit);
                    in_flight.clear();
                    last_sent = 0;
                    up = true;
                }
                Op::Down => {
                    prop_assert_eq!(window.link_down(link).is_some(), up);
                    in_flight.clear();
                    up = false;
                }
                Op::Send(n) => {
                    for seq in send(&mut window, n) {
                        prop_assert!(!gaps.contains(&seq), "there is no event at {seq}");
                        prop_assert!(up, "nothing is sent without a link");
                        prop_assert!(!in_flight.contains(&seq), "{seq} is in flight");
                        if again.contains(&seq) {
                            let passed = |n: i64| settled.contains(&n) || n <= last_sent;
                            prop_assert!((1..seq).all(passed), "{seq} overtakes earlier events");
                        } else {
                            prop_assert!(seq > last_sent, "{seq} after {last_sent}");
                            prop_assert!(!settled.contains(&seq), "{seq} was settled");
                            last_sent = seq;
                        }
                        in_flight.push(seq);
                    }
                }
                Op::Settle(n) if n < in_flight.len() => {
                    let seq = in_flight.remove(n);
                    let was_again = again.remove(&seq);
                    prop_assert_eq!(settled.insert(seq), !was_again);
                    let expected = Settled { again: was_again, note: () };
                    prop_assert_eq!(window.settle(link, Seq(seq), at(false)), Some(expected));
                }
                Op::Die(n) if n < in_flight.len() => {
                    let seq = in_flight.remove(n);
                    again.remove(&seq);
                    settled.insert(seq);
                    dead.push(seq);
                    prop_assert!(window.settle(link, Seq(seq), at(false)).is_some());
                }
                Op::Retry(n) if n < dead.len() => {
                    let seq = dead.remove(n);
                    again.insert(seq);
                    window.send_again(Seq(seq));
                }
                Op::Defer(n) if n < in_flight.len() => {
                    prop_assert!(window.defer(link, Seq(in_flight.remove(n)), Lane::Live));
                }
                Op::Resume => {
                    if window.resume() {
                        prop_assert!(in_flight.is_empty());
                        last_sent = 0;
                    }
                }
                Op::Stale(seq) => {
                    prop_assert!(window.settle(LinkId(u64::MAX), Seq(seq), at(false)).is_none());
                }
                Op::Settle(_) | Op::Defer(_) | Op::Die(_) | Op::Retry(_) => {}
            }
            prop_assert_eq!(window.in_flight(), in_flight.len());
            prop_assert!(in_flight.len() <= limit || !up);
            let first_open = (1..=i64::MAX).find(|n| !settled.contains(n)).unwrap();
            prop_assert_eq!(window.cursor().0, first_open - 1);
            let above = settled.iter().filter(|n| **n > window.cursor().0).count() as u64;
            let in_gaps = window.in_gaps();
            prop_assert_eq!(window.settled_above_cursor() + in_gaps, above);
            prop_assert_eq!(window.to_send_again(), again.len());
            prop_assert_eq!(window.first_open().0, again.first().map_or(first_open, |n| first_open.min(*n)));
        }
        // Afterwards, a link without limits sends all retries, in order.
        window.link_up(LinkId(u64::MAX - 1), 1000);
        let sent = send(&mut window, 300);
        let resent: Vec<_> = sent.iter().copied().filter(|seq| again.contains(seq)).collect();
        prop_assert_eq!(resent, again.into_iter().collect::<Vec<_>>());
        prop_assert!(sent.is_sorted(), "{sent:?}");
    }
}
