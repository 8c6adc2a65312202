//! Clearing of topics that are no longer wanted, and of a broker that the service leaves.

use super::*;
use crate::retained::state::action::QUIET_PERIOD;

#[test]
fn a_row_that_could_not_be_removed_is_returned_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    bench.run(NOW);
    bench.put(state("door", &[]));
    bench.now += QUIET_PERIOD;
    let clear = bench.state.next_job(bench.now).unwrap();
    bench.answer(&clear, true);
    let cleared = bench.state.take_cleared();
    assert_eq!(cleared, ["s"]);
    bench.state.rows_failed(cleared.clone(), Vec::new());
    assert_eq!(bench.state.take_cleared(), cleared);
}

#[test]
fn discovery_is_cleared_first_and_states_after_a_quiet_period() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s1", "a"), ("s2", "b")]));
    bench.put(device("door", &[("d", "c")]));
    bench.run(A_WHILE);
    let removed = (bench.now - bench.started).as_millis();
    bench.sent.clear();
    bench.put(state("door", &[]));
    bench.put(device("door", &[]));
    bench.run(A_WHILE);
    assert_eq!(bench.sent[0], (removed, "d: nothing".to_owned()));
    for (sent, topic) in bench.sent[1..].iter().zip(["s1", "s2"]) {
        assert_eq!(sent.1, format!("{topic}: nothing"));
        assert!(
            sent.0 >= removed + QUIET_PERIOD.as_millis() && sent.0 < removed + 2 * QUIET_PERIOD.as_millis()
        );
    }
    assert_eq!((bench.sent.len(), bench.table.len()), (3, 0));
}

#[test]
fn orphaned_topics_are_cleared_when_every_owner_has_reported() {
    let mut bench = Bench::disconnected();
    for (topic, kind) in [("d/gone", Kind::Discovery), ("s/gone", Kind::State), ("s", Kind::State)] {
        bench.table.insert(topic.to_owned(), kind);
    }
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
    bench.put_all(Owner::Cameras, &[state("door", &[("s", "a")])]);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: a"]);
    bench.put_all(Owner::Discovery, &[]);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d/gone: nothing", "s/gone: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn groups_that_an_owner_omits_are_cleared_and_those_of_the_other_owner_remain() {
    let mut bench = Bench::new();
    bench.put_all(Owner::Cameras, &[state("door", &[("s", "a")]), state("yard", &[("t", "b")])]);
    bench.put_all(Owner::Discovery, &[device("door", &[("d", "c")])]);
    bench.run(A_WHILE);
    bench.put_all(Owner::Cameras, &[state("yard", &[("t", "b")])]);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: nothing"]);
    bench.put_all(Owner::Discovery, &[]);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: nothing"]);
    assert_eq!(bench.retained(), ["t: b"]);
}

#[test]
fn a_topic_belongs_to_the_last_group_that_wants_it() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a"), ("shared", "door's")]));
    bench.run(A_WHILE);
    bench.put(state("door", &[("s", "a")]));
    bench.put(state("yard", &[("shared", "yard's")]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["shared: yard's"]);
    bench.put(state("door", &[]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: nothing"], "the topic no longer belongs to the door");
    bench.put(state("yard", &[]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["shared: nothing"]);
    assert!(bench.state.groups.is_empty() && bench.state.entries.is_empty(), "no entry and no group remains");
}

#[test]
fn a_topic_wanted_again_while_it_is_cleared_is_published() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.run(A_WHILE);
    bench.put(state("door", &[]));
    bench.now += QUIET_PERIOD;
    let clear = bench.state.next_job(bench.now).unwrap();
    bench.put(state("door", &[("s", "a")]));
    bench.answer(&clear, true);
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["s: a"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn a_row_that_was_written_again_is_removed_with_its_topic() {
    let mut bench = Bench::new();
    let door = |wanted| Group { wanted, ..state("door", &[]) };
    bench.put(door(vec![external("event", false)]));
    bench.run(A_WHILE);
    bench.put(door(Vec::new()));
    bench.now += QUIET_PERIOD;
    let clear = bench.state.next_job(bench.now).unwrap();
    bench.put(door(vec![external("event", false)]));
    bench.answer(&clear, true);
    bench.run(A_WHILE);
    assert_eq!(bench.table.len(), 1);
    bench.put(door(Vec::new()));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["event: nothing"]);
    assert_eq!(bench.table.len(), 0);
}

#[test]
fn external_content_is_never_published_and_cleared_when_unwanted() {
    let mut bench = Bench::new();
    let group = |wanted| Group { wanted, ..state("/availability", &[]) };
    bench.put(group(vec![external("one", true)]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["one"]);
    bench.put(group(vec![external("two", true)]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["one: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["two"]);
}

#[test]
fn a_broker_that_is_left_keeps_only_the_availability() {
    let mut bench = Bench::new();
    let events = Group { wanted: vec![external("event", false)], ..state("events", &[]) };
    let availability = Group { wanted: vec![external("status", true)], ..state("/availability", &[]) };
    for group in [events, availability, state("door", &[("s", "a")]), device("door", &[("d", "b")])] {
        bench.put(group);
    }
    bench.run(A_WHILE);
    bench.state.leave(bench.now);
    assert!(!bench.state.has_left());
    // This request applies to the next broker.
    bench.put(state("door", &[("s", "later")]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: nothing", "s: nothing", "event: nothing"]);
    assert!(bench.state.has_left());
    assert_eq!(
        bench.table.keys().collect::<Vec<_>>(),
        ["event", "status"],
        "external topics keep their rows"
    );
    bench.state.link_down();
    bench.table.clear();
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: b", "s: later"]);
}

#[test]
fn a_broker_that_is_left_before_its_rows_are_known_is_cleared_too() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.put(device("door", &[("d", "b")]));
    bench.run(A_WHILE);
    bench.table.insert("gone".to_owned(), Kind::State);
    bench.state.link_down();
    bench.state.leave(bench.now);
    assert!(!bench.state.has_left());
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: nothing", "s: nothing", "gone: nothing"]);
    assert!(bench.state.has_left());
}

#[test]
fn a_broker_that_refuses_to_clear_topics_can_be_left() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.run(A_WHILE);
    bench.refuses = |_| true;
    bench.state.leave(bench.now);
    bench.run(A_WHILE);
    assert!(bench.state.has_left());
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"], "the row remains for the next connection");
}
