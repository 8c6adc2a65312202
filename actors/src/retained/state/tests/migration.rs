//! Devices that move to other discovery topics.

use super::*;

#[test]
fn a_device_migrates_in_order() {
    let mut bench = Bench::new();
    bench.put(migrating("door", &[("old1", "a"), ("old2", "b")], &["new"]));
    bench.run(A_WHILE);
    bench.put(migrating("door", &[("new", "c")], &["old1", "old2"]));
    assert_eq!(
        bench.run_and_take_sent(A_WHILE),
        ["old1: migration notice", "old2: migration notice", "new: c", "old2: nothing", "old1: nothing"]
    );
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_device_migrates_in_order_when_only_the_table_knows_its_old_topic() {
    let mut bench = Bench::new();
    bench.put(migrating("door", &[("old", "a")], &["new"]));
    bench.run(A_WHILE);
    bench.state = RetainedState::default();
    bench.put_all(Owner::Discovery, &[migrating("door", &[("new", "b")], &["old"])]);
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["old: migration notice", "new: b", "old: nothing"]);
}

#[test]
fn a_device_can_migrate_back_before_its_migration_is_complete() {
    let mut bench = Bench::new();
    bench.put(migrating("door", &[("old", "a")], &["new"]));
    bench.run(A_WHILE);
    bench.put(migrating("door", &[("new", "b")], &["old"]));
    bench.write_rows();
    for expected in ["old: migration notice", "new: b"] {
        let job = bench.state.next_job(bench.now).unwrap();
        assert_eq!(describe(&job), expected);
        bench.answer(&job, true);
    }
    bench.put(migrating("door", &[("old", "a")], &["new"]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["new: migration notice", "old: a", "new: nothing"]);
}

#[test]
fn a_refusal_does_not_block_a_migration() {
    let refusals: [fn(&Job) -> bool; 3] =
        [|job| job.target == Target::MigrationNotice, |job| job.topic == "new", |job| job.topic == "old"];
    for refuses in refusals {
        let mut bench = Bench::new();
        bench.put(migrating("door", &[("old", "a")], &["new"]));
        bench.run(A_WHILE);
        bench.refuses = refuses;
        bench.put(migrating("door", &[("new", "b")], &["old"]));
        assert_eq!(bench.run_and_take_sent(A_WHILE), ["old: migration notice", "new: b", "old: nothing"]);
        // It can still be announced whenever it changes.
        bench.put(migrating("door", &[("new", "c")], &["old"]));
        assert_eq!(bench.run_and_take_sent(A_WHILE), ["new: c"]);
        bench.state.republish(Kind::Discovery, bench.now);
        assert_eq!(bench.run_and_take_sent(A_WHILE), ["new: c"]);
        // The rest is done on the next connection.
        bench.refuses = |_| false;
        bench.state.link_down();
        bench.link_up();
        bench.run(A_WHILE);
        assert_eq!(bench.retained(), ["new: c"]);
        assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["new"]);
    }
}

#[test]
fn topics_of_another_program_are_migrated_once_at_the_first_announcement() {
    let mut bench = Bench::new();
    let door = |text| migrating("door", &[("d", text)], &["legacy"]);
    bench.put(door("a"));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["legacy: migration notice", "d: a", "legacy: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["d"]);
    bench.put(door("b"));
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: b"]);
    bench.state.link_down();
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: b"]);
    bench.state = RetainedState::default();
    bench.put_all(Owner::Discovery, &[door("b")]);
    bench.link_up();
    assert_eq!(bench.run_and_take_sent(A_WHILE), ["d: b"]);
}

#[test]
fn topics_of_another_program_remain_if_nothing_is_announced() {
    let mut bench = Bench::new();
    bench.put(migrating("door", &[], &["legacy"]));
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
}
