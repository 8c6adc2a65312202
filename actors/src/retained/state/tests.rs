//! The shelf with given times, at a broker that answers at once.

use std::collections::BTreeMap;

use super::{
    action::{ANNOUNCE_AGAIN_AFTER, QUIET, SPAN},
    *,
};
use crate::domain::ids::Seq;

pub(super) fn bytes(text: &str) -> Content {
    Content::Bytes(text.to_owned().into())
}

fn wanted(topics: &[(&str, &str)]) -> Vec<Wanted> {
    topics.iter().map(|(topic, text)| Wanted { topic: (*topic).to_owned(), content: bytes(text) }).collect()
}

fn group(kind: Kind, name: &str, topics: &[(&str, &str)]) -> Group {
    Group { kind, name: name.into(), wanted: wanted(topics), former: Vec::new() }
}

fn state(name: &str, topics: &[(&str, &str)]) -> Group {
    group(Kind::State, name, topics)
}

fn device(name: &str, topics: &[(&str, &str)]) -> Group {
    group(Kind::Discovery, name, topics)
}

/// A device that was announced at these topics before, and moves.
fn moving(name: &str, topics: &[(&str, &str)], former: &[&str]) -> Group {
    let former = former.iter().map(|topic| PreviousTopic {
        topic: (*topic).to_owned(),
        migrates: true,
        foreign: topic.starts_with("legacy"),
    });
    Group { former: former.collect(), ..device(name, topics) }
}

fn elsewhere(topic: &str, stays: bool) -> Wanted {
    Wanted { topic: topic.to_owned(), content: Content::External { stays } }
}

/// What a mark says, in a word.
fn word(mark: &Target) -> String {
    match mark {
        Target::Content(Content::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        Target::Content(Content::Thumbnail { seq, .. }) => format!("picture {}", seq.0),
        Target::Content(Content::External { .. }) => panic!("others publish there"),
        Target::Moves => "moves".to_owned(),
        Target::Nothing => "nothing".to_owned(),
    }
}

/// A shelf, its table, and a broker that answers at once.
struct Bench {
    shelf: RetainedState,
    now: Instant,
    started: Instant,
    table: BTreeMap<String, Kind>,
    broker: BTreeMap<String, String>,
    refuses: fn(&Job) -> bool,
    /// What was sent, and after how many milliseconds.
    sent: Vec<(u128, String)>,
}

impl Bench {
    /// With a link, at a broker where nothing stands; every owner has said that nothing is wanted.
    fn new() -> Self {
        let mut bench = Self::without_link();
        for owner in [Owner::Cameras, Owner::Discovery] {
            bench.shelf.put_all(owner, Vec::new(), bench.now);
        }
        bench.link_up();
        bench
    }

    fn without_link() -> Self {
        let now = Instant::now();
        Self {
            shelf: RetainedState::default(),
            now,
            started: now,
            table: BTreeMap::new(),
            broker: BTreeMap::new(),
            refuses: |_| false,
            sent: Vec::new(),
        }
    }

    fn link_up(&mut self) {
        self.shelf.link_up(self.table.clone().into_iter().collect(), self.now);
    }

    fn put(&mut self, group: Group) {
        let owner = if group.kind == Kind::State { Owner::Cameras } else { Owner::Discovery };
        self.shelf.put(owner, group, self.now);
    }

    fn put_all(&mut self, owner: Owner, groups: &[Group]) {
        self.shelf.put_all(owner, groups.to_vec(), self.now);
    }

    fn see_to_rows(&mut self) {
        for topic in self.shelf.take_cleared() {
            self.table.remove(&topic);
        }
        let unrecorded = self.shelf.take_rowless();
        self.table.extend(unrecorded.clone());
        self.shelf.rows_written(&unrecorded, self.now);
    }

    fn answer(&mut self, job: &Job, taken: bool) {
        if taken {
            match &job.mark {
                Target::Nothing => self.broker.remove(&job.topic),
                mark => self.broker.insert(job.topic.clone(), word(mark)),
            };
        }
        self.shelf.answered(job, Some(taken), self.now);
    }

    /// Lets so much time pass, in which all that is due happens.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.see_to_rows();
            if let Some(job) = self.shelf.next(self.now) {
                assert!(self.table.contains_key(&job.topic), "{} has no row", job.topic);
                self.sent.push(((self.now - self.started).as_millis(), line(&job)));
                self.answer(&job, !(self.refuses)(&job));
            } else if let Some(due) = self.shelf.due().filter(|due| *due <= end) {
                assert!(due > self.now, "it is due and not sent");
                self.now = due;
            } else {
                break;
            }
        }
        self.now = end;
    }

    /// The same, and what was sent meanwhile.
    fn sends(&mut self, time: Duration) -> Vec<String> {
        self.sent.clear();
        self.run(time);
        self.sent.iter().map(|(_, line)| line.clone()).collect()
    }

    fn standing(&self) -> Vec<String> {
        self.broker.iter().map(|(topic, word)| format!("{topic}: {word}")).collect()
    }
}

fn line(job: &Job) -> String {
    format!("{}: {}", job.topic, word(&job.mark))
}

const NOW: Duration = Duration::ZERO;
const A_WHILE: Duration = Duration::from_secs(20);

#[test]
fn the_newest_wins_while_one_is_on_its_way() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    bench.see_to_rows();
    let first = bench.shelf.next(bench.now).unwrap();
    for text in ["two", "three"] {
        bench.put(state("door", &[("s", text)]));
        assert_eq!(bench.shelf.next(bench.now), None);
    }
    bench.answer(&first, true);
    assert_eq!(bench.sends(A_WHILE), ["s: three"]);
}

#[test]
fn nothing_is_sent_before_its_row_is_written() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    assert_eq!(bench.shelf.next(bench.now), None);
    let unrecorded = bench.shelf.take_rowless();
    assert_eq!(unrecorded, [("s".to_owned(), Kind::State)]);
    assert_eq!(bench.shelf.take_rowless(), []);
    bench.shelf.rows_failed(Vec::new(), unrecorded.clone());
    assert_eq!(bench.shelf.next(bench.now), None);
    assert_eq!(bench.shelf.take_rowless(), unrecorded, "told again");
    bench.shelf.rows_written(&unrecorded, bench.now);
    assert!(bench.shelf.next(bench.now).is_some());
}

#[test]
fn a_row_that_could_not_be_removed_is_told_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "one")]));
    bench.run(NOW);
    bench.put(state("door", &[]));
    bench.now += QUIET;
    let clear = bench.shelf.next(bench.now).unwrap();
    bench.answer(&clear, true);
    let cleared = bench.shelf.take_cleared();
    assert_eq!(cleared, ["s"]);
    bench.shelf.rows_failed(cleared.clone(), Vec::new());
    assert_eq!(bench.shelf.take_cleared(), cleared);
}

#[test]
fn of_a_group_no_more_than_so_many_states_leave_in_a_span() {
    let mut bench = Bench::new();
    for i in 0..300 {
        bench.put(state("door", &[("s", &format!("{i}")), ("other", &format!("{}", i / 50))]));
        bench.put(state("yard", &[("t", &format!("{}", i / 100))]));
        bench.run(Duration::from_millis(10));
    }
    bench.run(A_WHILE);
    let of_door: Vec<_> =
        bench.sent.iter().filter(|(_, line)| !line.starts_with('t')).map(|(at, _)| *at).collect();
    for window in of_door.windows(STATES_PER_SPAN + 1) {
        assert!(window[STATES_PER_SPAN] - window[0] >= SPAN.as_millis(), "{window:?}");
    }
    assert!((10..20).contains(&of_door.len()), "{of_door:?}");
    let yard: Vec<_> = bench.sent.iter().filter(|(_, line)| line.starts_with('t')).collect();
    assert_eq!(
        yard.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [0, 1000, 2000],
        "it has a pace of its own"
    );
    assert_eq!(bench.standing(), ["other: 5", "s: 299", "t: 2"]);
}

#[test]
fn a_device_is_not_announced_again_at_once_and_then_as_it_is() {
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
fn a_device_moves_in_order() {
    let mut bench = Bench::new();
    bench.put(moving("door", &[("old1", "a"), ("old2", "b")], &["new"]));
    bench.run(A_WHILE);
    bench.put(moving("door", &[("new", "c")], &["old1", "old2"]));
    assert_eq!(
        bench.sends(A_WHILE),
        ["old1: moves", "old2: moves", "new: c", "old2: nothing", "old1: nothing"]
    );
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_device_moves_in_order_also_when_only_the_table_knows_where_it_was() {
    let mut bench = Bench::new();
    bench.put(moving("door", &[("old", "a")], &["new"]));
    bench.run(A_WHILE);
    bench.shelf = RetainedState::default();
    bench.put_all(Owner::Discovery, &[moving("door", &[("new", "b")], &["old"])]);
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["old: moves", "new: b", "old: nothing"]);
}

#[test]
fn a_device_that_moves_back_meanwhile_moves_back() {
    let mut bench = Bench::new();
    bench.put(moving("door", &[("old", "a")], &["new"]));
    bench.run(A_WHILE);
    bench.put(moving("door", &[("new", "b")], &["old"]));
    bench.see_to_rows();
    for expected in ["old: moves", "new: b"] {
        let job = bench.shelf.next(bench.now).unwrap();
        assert_eq!(line(&job), expected);
        bench.answer(&job, true);
    }
    bench.put(moving("door", &[("old", "a")], &["new"]));
    assert_eq!(bench.sends(A_WHILE), ["new: moves", "old: a", "new: nothing"]);
}

#[test]
fn a_refusal_holds_up_no_move() {
    let refusals: [fn(&Job) -> bool; 3] =
        [|job| job.mark == Target::Moves, |job| job.topic == "new", |job| job.topic == "old"];
    for refuses in refusals {
        let mut bench = Bench::new();
        bench.put(moving("door", &[("old", "a")], &["new"]));
        bench.run(A_WHILE);
        bench.refuses = refuses;
        bench.put(moving("door", &[("new", "b")], &["old"]));
        assert_eq!(bench.sends(A_WHILE), ["old: moves", "new: b", "old: nothing"]);
        // It can still be announced, as often as it changes.
        bench.put(moving("door", &[("new", "c")], &["old"]));
        assert_eq!(bench.sends(A_WHILE), ["new: c"]);
        bench.shelf.again(Kind::Discovery, bench.now);
        assert_eq!(bench.sends(A_WHILE), ["new: c"]);
        // What is left is seen to on the next link.
        bench.refuses = |_| false;
        bench.shelf.link_down();
        bench.link_up();
        bench.run(A_WHILE);
        assert_eq!(bench.standing(), ["new: c"]);
        assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["new"]);
    }
}

#[test]
fn what_another_program_left_is_migrated_once_at_the_first_announcement() {
    let mut bench = Bench::new();
    let door = |text| moving("door", &[("d", text)], &["legacy"]);
    bench.put(door("a"));
    assert_eq!(bench.sends(A_WHILE), ["legacy: moves", "d: a", "legacy: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["d"]);
    bench.put(door("b"));
    assert_eq!(bench.sends(A_WHILE), ["d: b"]);
    bench.shelf.link_down();
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["d: b"]);
    bench.shelf = RetainedState::default();
    bench.put_all(Owner::Discovery, &[door("b")]);
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["d: b"]);
}

#[test]
fn what_another_program_left_stays_where_nothing_is_announced() {
    let mut bench = Bench::new();
    bench.put(moving("door", &[], &["legacy"]));
    assert_eq!(bench.sends(A_WHILE), [""; 0]);
}

#[test]
fn discovery_goes_first_and_states_when_it_has_been_quiet() {
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
        assert!(sent.0 >= removed + QUIET.as_millis() && sent.0 < removed + 2 * QUIET.as_millis());
    }
    assert_eq!((bench.sent.len(), bench.table.len()), (3, 0));
}

#[test]
fn what_nobody_wants_is_cleared_when_everybody_has_spoken() {
    let mut bench = Bench::without_link();
    for (topic, kind) in [("d/gone", Kind::Discovery), ("s/gone", Kind::State), ("s", Kind::State)] {
        bench.table.insert(topic.to_owned(), kind);
    }
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), [""; 0]);
    bench.put_all(Owner::Cameras, &[state("door", &[("s", "a")])]);
    assert_eq!(bench.sends(A_WHILE), ["s: a"]);
    bench.put_all(Owner::Discovery, &[]);
    assert_eq!(bench.sends(A_WHILE), ["d/gone: nothing", "s/gone: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn what_an_owner_leaves_out_is_cleared_and_the_other_ones_stays() {
    let mut bench = Bench::new();
    bench.put_all(Owner::Cameras, &[state("door", &[("s", "a")]), state("yard", &[("t", "b")])]);
    bench.put_all(Owner::Discovery, &[device("door", &[("d", "c")])]);
    bench.run(A_WHILE);
    bench.put_all(Owner::Cameras, &[state("yard", &[("t", "b")])]);
    assert_eq!(bench.sends(A_WHILE), ["s: nothing"]);
    bench.put_all(Owner::Discovery, &[]);
    assert_eq!(bench.sends(A_WHILE), ["d: nothing"]);
    assert_eq!(bench.standing(), ["t: b"]);
}

#[test]
fn a_topic_that_another_group_wants_is_that_ones() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a"), ("shared", "door's")]));
    bench.run(A_WHILE);
    bench.put(state("door", &[("s", "a")]));
    bench.put(state("yard", &[("shared", "yard's")]));
    assert_eq!(bench.sends(A_WHILE), ["shared: yard's"]);
    bench.put(state("door", &[]));
    assert_eq!(bench.sends(A_WHILE), ["s: nothing"], "it is not the door's any more");
    bench.put(state("yard", &[]));
    assert_eq!(bench.sends(A_WHILE), ["shared: nothing"]);
    assert!(bench.shelf.groups.is_empty() && bench.shelf.entries.is_empty(), "nothing is kept of it");
}

#[test]
fn what_is_wanted_again_while_it_is_cleared_stands_in_the_end() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.run(A_WHILE);
    bench.put(state("door", &[]));
    bench.now += QUIET;
    let clear = bench.shelf.next(bench.now).unwrap();
    bench.put(state("door", &[("s", "a")]));
    bench.answer(&clear, true);
    assert_eq!(bench.sends(A_WHILE), ["s: a"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn a_row_that_came_back_goes_again_with_its_topic() {
    let mut bench = Bench::new();
    let door = |wanted| Group { wanted, ..state("door", &[]) };
    bench.put(door(vec![elsewhere("event", false)]));
    bench.run(A_WHILE);
    bench.put(door(Vec::new()));
    bench.now += QUIET;
    let clear = bench.shelf.next(bench.now).unwrap();
    bench.put(door(vec![elsewhere("event", false)]));
    bench.answer(&clear, true);
    bench.run(A_WHILE);
    assert_eq!(bench.table.len(), 1);
    bench.put(door(Vec::new()));
    assert_eq!(bench.sends(A_WHILE), ["event: nothing"]);
    assert_eq!(bench.table.len(), 0);
}

#[test]
fn a_row_that_was_asked_for_twice_is_written_once() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    let first = bench.shelf.take_rowless();
    bench.put(state("door", &[]));
    bench.put(state("door", &[("s", "a")]));
    bench.shelf.rows_written(&first, bench.now);
    assert_eq!(bench.shelf.take_rowless(), []);
    assert_eq!(line(&bench.shelf.next(bench.now).unwrap()), "s: a");
}

#[test]
fn what_others_publish_is_never_published_and_cleared_when_it_is_not_wanted() {
    let mut bench = Bench::new();
    let group = |wanted| Group { wanted, ..state("/availability", &[]) };
    bench.put(group(vec![elsewhere("one", true)]));
    assert_eq!(bench.sends(A_WHILE), [""; 0]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["one"]);
    bench.put(group(vec![elsewhere("two", true)]));
    assert_eq!(bench.sends(A_WHILE), ["one: nothing"]);
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["two"]);
}

#[test]
fn a_broker_that_is_left_keeps_only_that_nobody_is_there() {
    let mut bench = Bench::new();
    let events = Group { wanted: vec![elsewhere("event", false)], ..state("events", &[]) };
    let availability = Group { wanted: vec![elsewhere("status", true)], ..state("/availability", &[]) };
    for group in [events, availability, state("door", &[("s", "a")]), device("door", &[("d", "b")])] {
        bench.put(group);
    }
    bench.run(A_WHILE);
    bench.shelf.leave(bench.now);
    assert!(!bench.shelf.has_left());
    // What is wanted now is wanted of the next one.
    bench.put(state("door", &[("s", "later")]));
    assert_eq!(bench.sends(A_WHILE), ["d: nothing", "s: nothing", "event: nothing"]);
    assert!(bench.shelf.has_left());
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["event", "status"], "others may publish there");
    bench.shelf.link_down();
    bench.table.clear();
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["d: b", "s: later"]);
}

#[test]
fn a_broker_that_is_left_before_its_rows_are_known_is_cleared_too() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.put(device("door", &[("d", "b")]));
    bench.run(A_WHILE);
    bench.table.insert("gone".to_owned(), Kind::State);
    bench.shelf.link_down();
    bench.shelf.leave(bench.now);
    assert!(!bench.shelf.has_left());
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["d: nothing", "s: nothing", "gone: nothing"]);
    assert!(bench.shelf.has_left());
}

#[test]
fn a_broker_that_refuses_to_clear_can_be_left() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.run(A_WHILE);
    bench.refuses = |_| true;
    bench.shelf.leave(bench.now);
    bench.run(A_WHILE);
    assert!(bench.shelf.has_left());
    assert_eq!(bench.table.keys().collect::<Vec<_>>(), ["s"], "remembered for the next time");
}

#[test]
fn all_stands_again_after_each_link_whatever_was_on_its_way() {
    for steps in 0..12 {
        let mut bench = Bench::new();
        bench.put(state("door", &[("s1", "a"), ("s2", "b")]));
        bench.put(moving("door", &[("d", "c")], &["legacy"]));
        bench.see_to_rows();
        // So many things happen, then the link goes, with whatever is on its way.
        let mut flying = Vec::new();
        for step in 0..steps {
            match bench.shelf.next(bench.now) {
                Some(job) => flying.push(job),
                None if flying.is_empty() => break,
                None => bench.answer(&flying.remove(0), step % 2 == 0),
            }
        }
        bench.shelf.link_down();
        assert_eq!((bench.shelf.next(bench.now), bench.shelf.due()), (None, None));
        // A broker that has forgotten everything.
        bench.broker.clear();
        bench.link_up();
        bench.run(A_WHILE);
        assert_eq!(bench.standing(), ["d: c", "s1: a", "s2: b"], "after {steps} steps");
    }
}

#[test]
fn what_the_broker_refused_is_not_offered_again_on_this_link() {
    let mut bench = Bench::new();
    bench.refuses = |_| true;
    bench.put(state("door", &[("s", "a")]));
    assert_eq!(bench.sends(A_WHILE), ["s: a"]);
    assert_eq!(bench.shelf.stands("s"), Some(false));
    bench.put(state("door", &[("s", "a")]));
    assert_eq!(bench.sends(A_WHILE), [""; 0]);
    bench.put(state("door", &[("s", "b")]));
    assert_eq!(bench.sends(A_WHILE), ["s: b"]);
    bench.shelf.link_down();
    bench.link_up();
    assert_eq!(bench.sends(A_WHILE), ["s: b"]);
}

#[test]
fn a_message_whose_answer_is_not_known_is_sent_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    bench.see_to_rows();
    let job = bench.shelf.next(bench.now).unwrap();
    bench.shelf.answered(&job, None, bench.now);
    assert_eq!(bench.shelf.stands("s"), None);
    assert_eq!(bench.sends(TRY_AGAIN_AFTER.mul_f64(0.9)), [""; 0]);
    assert_eq!(bench.sends(A_WHILE), ["s: a"]);
    // What stood before may stand no more.
    bench.put(state("door", &[("s", "b")]));
    let job = bench.shelf.next(bench.now).unwrap();
    bench.put(state("door", &[("s", "a")]));
    bench.shelf.answered(&job, None, bench.now);
    assert_eq!(bench.sends(A_WHILE), ["s: a"]);
}

#[test]
fn all_of_a_kind_can_be_sent_again() {
    let mut bench = Bench::new();
    bench.put(state("door", &[("s", "a")]));
    for name in ["door", "yard"] {
        bench.put(device(name, &[(&format!("{name}/d"), "b")]));
    }
    bench.run(A_WHILE);
    let groups = bench.shelf.again(Kind::Discovery, bench.now);
    assert_eq!(groups.keys().map(|name| &**name).collect::<Vec<_>>(), ["door", "yard"]);
    assert_eq!(bench.shelf.stands("door/d"), None);
    assert_eq!(bench.sends(A_WHILE), ["door/d: b", "yard/d: b"]);
    assert_eq!(bench.shelf.stands("door/d"), Some(true));
}

#[test]
fn few_messages_and_fewer_pictures_are_on_their_way_at_a_time() {
    let mut bench = Bench::new();
    for i in 0..60 {
        let picture = Content::Thumbnail { seq: Seq(i), version: 0 };
        let picture = Wanted { topic: format!("p{i}"), content: picture };
        let (name, topic) = (format!("camera {i}"), format!("s{i}"));
        let mut group = state(&name, &[(&topic, "a")]);
        group.wanted.insert(0, picture);
        bench.put(group);
    }
    bench.see_to_rows();
    let mut flying: VecDeque<Job> = std::iter::from_fn(|| bench.shelf.next(bench.now)).collect();
    assert_eq!(flying.len(), MAX_FLYING);
    let pictures = |flying: &VecDeque<Job>| flying.iter().filter(|job| job.mark.is_picture()).count();
    assert_eq!(pictures(&flying), MAX_PICTURES);
    // Whoever makes room is followed at once: no time passes until all are there.
    while let Some(job) = flying.pop_front() {
        bench.answer(&job, true);
        flying.extend(std::iter::from_fn(|| bench.shelf.next(bench.now)));
        assert!(flying.len() <= MAX_FLYING && pictures(&flying) <= MAX_PICTURES);
    }
    assert_eq!(bench.broker.len(), 120);
}
