//! The window by itself: examples, and random operations against a simple model.

use proptest::prelude::*;

use super::*;

const LINK: LinkId = LinkId(1);

fn send(window: &mut Window, count: usize) -> Vec<i64> {
    let mut sent = Vec::new();
    while sent.len() < count && window.room() > 0 {
        let seq = window.next().unwrap();
        if window.is_settled(seq) {
            window.skipped(seq);
        } else {
            window.sent(seq);
            sent.push(seq.0);
        }
    }
    sent
}

#[test]
fn at_most_the_limit_is_in_flight() {
    let mut window = Window::new(Seq(0), []);
    assert_eq!(window.room(), 0, "there is no link");
    window.link_up(LINK, 3);
    assert_eq!(send(&mut window, 10), [1, 2, 3]);
    assert!(window.settle(LINK, Seq(2), false));
    assert_eq!(send(&mut window, 10), [4]);
}

#[test]
fn the_cursor_waits_for_the_first_unanswered_event() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 10);
    send(&mut window, 4);
    for seq in [2, 4, 3] {
        window.settle(LINK, Seq(seq), false);
    }
    assert_eq!((window.cursor(), window.settled_above_cursor()), (Seq(0), 3));
    window.settle(LINK, Seq(1), false);
    assert_eq!((window.cursor(), window.settled_above_cursor()), (Seq(4), 0));
}

#[test]
fn a_resend_starts_at_the_first_unanswered_event_and_leaves_out_the_answered() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 10);
    send(&mut window, 5);
    for seq in [1, 3, 5] {
        window.settle(LINK, Seq(seq), false);
    }
    assert!(window.link_down(LINK));
    window.link_up(LinkId(2), 10);
    assert_eq!(send(&mut window, 3), [2, 4, 6]);
}

#[test]
fn what_an_earlier_link_says_is_ignored() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 10);
    send(&mut window, 2);
    window.link_up(LinkId(2), 10);
    send(&mut window, 2);
    assert!(!window.settle(LINK, Seq(1), false));
    assert!(!window.link_down(LINK));
    assert_eq!(window.in_flight(), 2);
}

#[test]
fn a_deferred_event_holds_the_later_ones_back_until_all_is_answered() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 10);
    send(&mut window, 3);
    assert!(window.defer(LINK, Seq(1)));
    assert_eq!(window.room(), 0);
    assert!(!window.resume(), "two are still in flight");
    window.settle(LINK, Seq(2), false);
    window.settle(LINK, Seq(3), false);
    assert!(window.resume());
    assert_eq!(send(&mut window, 2), [1, 4]);
}

#[test]
fn runs_tell_late_from_in_time() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 10);
    send(&mut window, 5);
    for (seq, late) in [(1, true), (2, true), (4, false), (3, false), (5, true)] {
        window.settle(LINK, Seq(seq), late);
    }
    let runs: Vec<_> = window.take_runs().iter().map(|r| (r.up_to.0, r.late)).collect();
    assert_eq!(runs, [(2, true), (4, false), (5, true)]);
    assert_eq!(window.take_runs(), []);
}

#[test]
fn one_event_without_an_answer_does_not_let_memory_grow() {
    let mut window = Window::new(Seq(0), []);
    window.link_up(LINK, 2);
    send(&mut window, 1);
    for _ in 0..100 {
        for seq in send(&mut window, 1) {
            window.settle(LINK, Seq(seq), false);
        }
    }
    assert_eq!(window.room(), 0);
    assert_eq!(window.settled_above_cursor(), 15);
}

#[derive(Debug, Clone)]
enum Op {
    Up(u16),
    Down,
    Send(usize),
    /// Settle, fail or defer the nth of those in flight.
    Settle(usize),
    Defer(usize),
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
        2 => Just(Op::Resume),
        1 => (1i64..40).prop_map(Op::Stale),
    ]
}

proptest! {
    /// Whatever happens: within one link and between resumes places only grow; nothing settled is sent; nothing but
    /// settled events lies below the cursor; the limit holds.
    #[test]
    fn invariant_3_a_resend_never_overtakes(ops in proptest::collection::vec(op(), 1..200)) {
        let mut window = Window::new(Seq(0), []);
        let mut settled = BTreeSet::new();
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
                    prop_assert_eq!(window.link_down(link), up);
                    in_flight.clear();
                    up = false;
                }
                Op::Send(n) => {
                    for seq in send(&mut window, n) {
                        prop_assert!(up, "nothing is sent without a link");
                        prop_assert!(seq > last_sent, "{seq} after {last_sent}");
                        prop_assert!(!settled.contains(&seq), "{seq} was settled");
                        last_sent = seq;
                        in_flight.push(seq);
                    }
                }
                Op::Settle(n) if n < in_flight.len() => {
                    let seq = in_flight.remove(n);
                    settled.insert(seq);
                    prop_assert!(window.settle(link, Seq(seq), false));
                }
                Op::Defer(n) if n < in_flight.len() => {
                    prop_assert!(window.defer(link, Seq(in_flight.remove(n))));
                }
                Op::Resume => {
                    if window.resume() {
                        prop_assert!(in_flight.is_empty());
                        last_sent = 0;
                    }
                }
                Op::Stale(seq) => {
                    prop_assert!(!window.settle(LinkId(u64::MAX), Seq(seq), false));
                }
                Op::Settle(_) | Op::Defer(_) => {}
            }
            prop_assert_eq!(window.in_flight(), in_flight.len());
            prop_assert!(in_flight.len() <= limit || !up);
            let first_open = (1..=i64::MAX).find(|n| !settled.contains(n)).unwrap();
            prop_assert_eq!(window.cursor().0, first_open - 1);
            let above = settled.iter().filter(|n| **n > window.cursor().0).count();
            prop_assert_eq!(window.settled_above_cursor(), above);
        }
    }
}
