//! Publishing: order, rate and limits, refusals and lost connections.

use super::*;
use crate::{
    domain::ids::Seq,
    retained::state::action::{ANNOUNCE_AGAIN_AFTER, PACE_INTERVAL},
};

#[test]
fn the_newest_content_wins_while_a_message_is_in_flight() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    bench.write_rows();
    let first = bench.state.next_job(bench.now).unwrap();
    for text in ["two", "three"] {
        bench.put(state("door", &[("s", text)]));
        assert_eq!(bench.state.next_job(bench.now), None);
    }
    bench.answer(&first, true);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: three"]);
}

#[test]
fn nothing_is_sent_before_its_row_is_written() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    assert_eq!(bench.state.next_job(bench.now), None);
    let unrecorded = bench.state.take_unrecorded();
    assert_eq!(unrecorded, [("s".to_owned(), Kind::State)]);
    assert_eq!(bench.state.take_unrecorded(), []);
    bench.state.rows_failed(Vec::new(), unrecorded.clone());
    assert_eq!(bench.state.next_job(bench.now), None);
    assert_eq!(bench.state.take_unrecorded(), unrecorded, "returned again");
    bench.state.rows_written(&unrecorded, bench.now);
    assert!(bench.state.next_job(bench.now).is_some());
}

#[test]
fn the_states_of_a_group_are_rate_limited() {
    let mut bench = Bench::new();
    for i in 0..300 {
        bench.put(state("door", &[("s", &format!("{i}")), ("other", &format!("{}", i / 50))]));
        bench.put(state("yard", &[("t", &format!("{}", i / 100))]));
        bench.run(Duration::from_millis(10));
    }
    bench.run(A_WHILE);
    let door: Vec<_> =
        bench.sent.iter().filter(|(_, line)| !line.starts_with('t')).map(|(at, _)| *at).collect();
    for window in door.windows(STATES_PER_INTERVAL + 1) {
        assert!(window[STATES_PER_INTERVAL] - window[0] >= PACE_INTERVAL.as_millis(), "{window:?}");
    }
    assert!((10..20).contains(&door.len()), "{door:?}");
    let yard: Vec<_> = bench.sent.iter().filter(|(_, line)| line.starts_with('t')).collect();
    assert_eq!(
        yard.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [0, 1000, 2000],
        "the limit of the other group does not apply"
    );
    assert_eq!(bench.retained(), ["other: 5", "s: 299", "t: 2"]);
}

#[test]
fn a_device_is_announced_again_only_after_a_while_and_with_its_newest_content() {
    let mut bench = Bench::new();
    for text in ["one", "two", "three"] {
        bench.put(device("door", &[("d", text)]));
        bench.run(Duration::from_secs(1));
    }
    bench.run(A_WHILE);
    let again = ANNOUNCE_AGAIN_AFTER.as_millis();
    assert_eq!(bench.sent, [(0, "d: one".to_owned()), (again, "d: three".to_owned())]);
}

#[test]
fn a_row_that_was_requested_twice_is_written_once() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    let first = bench.state.take_unrecorded();
    bench.put(state("door", &[]));
    bench.put(state("door", &[("s", "a")]));
    bench.state.rows_written(&first, bench.now);
    assert_eq!(bench.state.take_unrecorded(), []);
    assert_eq!(describe(&bench.state.next_job(bench.now).unwrap()), "s: a");
}

#[test]
fn everything_is_published_again_after_the_connection_ends_at_any_step() {
    for steps in 0..12 {
        let mut bench = Bench::new();
        bench.put(state("door", &[("s1", "a"), ("s2", "b")]));
        bench.put(migrating("door", &[("d", "c")], &["legacy"]));
        bench.write_rows();
        // The connection ends after this many steps, with messages in flight.
        let mut in_flight = Vec::new();
        for step in 0..steps {
            match bench.state.next_job(bench.now) {
                Some(job) => in_flight.push(job),
                None if in_flight.is_empty() => break,
                None => bench.answer(&in_flight.remove(0), step % 2 == 0),
            }
        }
        bench.state.link_down();
        assert_eq!((bench.state.next_job(bench.now), bench.state.next_due()), (None, None));
        // The broker has lost everything.
        bench.broker.clear();
        bench.link_up();
        bench.run(A_WHILE);
        assert_eq!(bench.retained(), ["d: c", "s1: a", "s2: b"], "after {steps} steps");
    }
}

#[test]
fn a_refused_message_is_not_sent_again_on_the_same_connection() {
    let mut bench = Bench::new();
    bench.refuses = |_| true;
    bench.put(state("door", &[("s", "a")]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: a"]);
    assert_eq!(bench.state.acceptance("s"), Some(false));
    bench.put(state("door", &[("s", "a")]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
    bench.put(state("door", &[("s", "b")]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: b"]);
    bench.state.link_down();
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: b"]);
}

#[test]
fn a_message_without_a_clear_answer_is_sent_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.write_rows();
    let job = bench.state.next_job(bench.now).unwrap();
    bench.state.answered(&job, None, bench.now);
    assert_eq!(bench.state.acceptance("s"), None);
    assert_eq!(bench.run_and_take_sent(RETRY_AFTER.mul_f64(0.9)), [""; 0]);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: a"]);
    // The broker may no longer retain the message from before.
    bench.put(state("door", &[("s", "b")]));
    let job = bench.state.next_job(bench.now).unwrap();
    bench.put(state("door", &[("s", "a")]));
    bench.state.answered(&job, None, bench.now);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: a"]);
}

#[test]
fn all_messages_of_a_kind_can_be_published_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    for name in ["door", "yard"] {
        bench.put(device(name, &[(&format!("{name}/d"), "b")]));
    }
    bench.run(A_WHILE);
    let groups = bench.state.republish(Kind::Discovery, bench.now);
    assert_eq!(groups.keys().map(|name| &**name).collect::<Vec<_>>(), ["door", "yard"]);
    assert_eq!(bench.state.acceptance("door/d"), None);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["door/d: b", "yard/d: b"]);
    assert_eq!(bench.state.acceptance("door/d"), Some(true));
}

#[test]
fn messages_and_pictures_in_flight_are_limited() {
    let mut bench = Bench::new();
    for i in 0..60 {
        let picture = Content::Thumbnail { seq: Seq(i), version: 0 };
        let picture = Wanted { topic: format!("p{i}"), content: picture };
        let (name, topic) = (format!("camera {i}"), format!("s{i}"));
        let mut group = state(&name, &[(&topic, "a")]);
        group.wanted.insert(0, picture);
        bench.put(group);
    }
    bench.write_rows();
    let mut in_flight: VecDeque<Job> = std::iter::from_fn(|| bench.state.next_job(bench.now)).collect();
    assert_eq!(in_flight.len(), MAX_IN_FLIGHT);
    let pictures = |in_flight: &VecDeque<Job>| in_flight.iter().filter(|job| job.target.is_picture()).count();
    assert_eq!(pictures(&in_flight), MAX_PICTURES);
    // Each answer makes room for the next message at once: everything is sent without any time passing.
    while let Some(job) = in_flight.pop_front() {
        bench.answer(&job, true);
        in_flight.extend(std::iter::from_fn(|| bench.state.next_job(bench.now)));
        assert!(in_flight.len() <= MAX_IN_FLIGHT && pictures(&in_flight) <= MAX_PICTURES);
    }
    assert_eq!(bench.broker.len(), 120);
}
