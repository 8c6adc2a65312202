//! Random nodes that share a database, with delays, lost answers, pauses and crashes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use proptest::{prelude::*, test_runner::Config};
use rand::{SeedableRng as _, rngs::StdRng};

use super::{
    tests::{after, start, term},
    *,
};

const NODES: usize = 3;
/// The number of a node that has the id of another one, in another data directory.
const COPY: usize = NODES;
const BEAT_EVERY: u64 = 1000;
const BEAT_DEADLINE: u64 = 1000;
const CLAIM_DEADLINE: u64 = 2000;
const WRITE_EVERY: u64 = 200;
const WRITE_DEADLINE: u64 = 3000;
const CHECK_EVERY: u64 = 50;

/// What happens at a time. `usize` is a node, and the first `u64` its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Check,
    /// The node sends a request of this kind, if none is under way.
    Begins(usize, u64, Kind),
    /// The database carries out the request with this number.
    Arrives(usize, u64, Kind, u64),
    /// The node receives the answer, or gives up.
    Ends(usize, u64, Kind, u64),
    Fault,
    Starts(usize, u64),
    /// The service of the node has not started with this term.
    GivesUp(usize, u64, Uuid),
    /// The database ends this term, which a node has given up.
    Released(Uuid),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Beat,
    Claim,
    Write,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    number: u64,
    started: u64,
    claim: Option<Claim>,
    term: Option<Term>,
    /// When this run has started, as the database has shown it.
    run_started_at: Option<u64>,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    /// With the time at which the run has started.
    Seen(Seen, u64),
    Done(bool),
}

struct Node {
    id: NodeId,
    lease: Lease,
    run: u64,
    run_started_at: Option<u64>,
    is_running: bool,
    paused_until: u64,
    /// Where its data directory is. Only an earlier run in the same place is known to have ended.
    place: u64,
    /// Whether its service never starts.
    fails: bool,
    /// Whether it has noticed that another node has its id.
    is_duplicate: bool,
    requests: [Option<Request>; 3],
}

/// The row of a node's id.
#[derive(Debug, Clone, Copy)]
struct Row {
    beat: i64,
    boot: (usize, u64),
    started_at: u64,
    seen_at: u64,
}

/// What the database contains.
#[derive(Debug, Clone)]
struct Database {
    owner: Option<usize>,
    /// The place of the owner.
    place: u64,
    term: Term,
    since: u64,
    rows: BTreeMap<u128, Row>,
}

/// Three nodes, perhaps a copy of one of them, and their database. Times are milliseconds since the start.
struct World {
    rng: StdRng,
    start: Instant,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    numbers: u64,
    nodes: Vec<Node>,
    database: Database,
    /// What an asynchronous standby contains, if the database can go back to that.
    standby: Option<Database>,
    /// Until then, two nodes may trust themselves, because the database went back.
    went_back_until: u64,
    /// The beats that are on their way, by the number of the request. They have an effect even if the node has ended.
    beats: BTreeMap<u64, Request>,
    database_away_until: u64,
    slow_until: u64,
    faults_until: u64,
    terms: u64,
}

impl World {
    /// Creates a world in which all nodes start.
    fn new(seed: u64, faults_until: u64) -> Self {
        let mut world = Self::empty(seed, faults_until);
        for node in 0..NODES {
            let delay = world.below(1000);
            world.at(delay, What::Starts(node, 0));
        }
        world
    }

    fn empty(seed: u64, faults_until: u64) -> Self {
        let node = |number: usize| {
            let id = NodeId(Uuid::from_u128(100 + number as u128));
            Node {
                id,
                lease: Lease::new(id, true),
                run: 0,
                run_started_at: None,
                is_running: false,
                paused_until: 0,
                place: 0,
                fails: false,
                is_duplicate: false,
                requests: [None; 3],
            }
        };
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            start: start(),
            now: 0,
            queue: BinaryHeap::new(),
            numbers: 1000,
            nodes: (0..=NODES).map(node).collect(),
            database: Database { owner: None, place: 0, term: term(1), since: 0, rows: BTreeMap::new() },
            standby: None,
            went_back_until: 0,
            beats: BTreeMap::new(),
            database_away_until: 0,
            slow_until: 0,
            faults_until,
            terms: 0,
        };
        world.at(0, What::Check);
        world.at(5000, What::Fault);
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound)
    }

    fn at(&mut self, delay: u64, what: What) {
        self.numbers += 1;
        self.queue.push(Reverse((self.now + delay, self.numbers, what)));
    }

    fn instant(&self, millis: u64) -> Instant {
        self.start + after(millis)
    }

    /// Returns the running nodes that may publish now.
    fn trusted(&self) -> Vec<usize> {
        let now = self.instant(self.now);
        let is_trusted =
            |node: &Node| node.is_running && node.paused_until <= self.now && node.lease.is_trusted(now);
        (0..self.nodes.len()).filter(|number| is_trusted(&self.nodes[*number])).collect()
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((time, number, what))) = self.queue.pop() {
            if time > end {
                self.queue.push(Reverse((time, number, what)));
                break;
            }
            self.now = time;
            self.happens(what);
            let trusted = self.trusted();
            assert!(
                trusted.len() <= 1 || time < self.went_back_until,
                "nodes {trusted:?} trust themselves at {time} ms"
            );
        }
        self.now = end;
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Check => self.at(CHECK_EVERY, What::Check),
            What::Fault => self.fault(),
            What::Starts(number, run) => {
                let node = &mut self.nodes[number];
                node.is_running = true;
                self.at(0, What::Begins(number, run, Kind::Beat));
                self.at(0, What::Begins(number, run, Kind::Write));
            }
            What::Begins(number, run, kind) if self.acts(number, run, what) => self.begins(number, run, kind),
            What::Arrives(number, run, kind, request) => self.arrives(number, run, kind, request),
            What::Ends(number, run, kind, request) if self.acts(number, run, what) => {
                self.ends(number, run, kind, request);
            }
            What::GivesUp(number, run, term) if self.acts(number, run, what) => {
                let now = self.instant(self.now);
                if self.nodes[number].lease.give_up(Term(term), now) {
                    let delay = self.latency();
                    self.at(delay, What::Released(term));
                }
            }
            What::Released(term) if Term(term) == self.database.term => self.database.owner = None,
            What::Begins(..) | What::Ends(..) | What::GivesUp(..) | What::Released(_) => {}
        }
    }

    /// Returns whether the node can act now. While it is paused, it does so later.
    fn acts(&mut self, number: usize, run: u64, what: What) -> bool {
        let node = &self.nodes[number];
        if node.run != run || !node.is_running || node.is_duplicate {
            return false;
        }
        if node.paused_until > self.now {
            let delay = node.paused_until - self.now;
            self.at(delay, what);
            return false;
        }
        true
    }

    fn latency(&mut self) -> u64 {
        let bound = if self.slow_until > self.now { 1500 } else { 300 };
        self.below(bound)
    }

    fn begins(&mut self, number: usize, run: u64, kind: Kind) {
        let (every, deadline) = match kind {
            Kind::Beat => (BEAT_EVERY, BEAT_DEADLINE),
            Kind::Claim => (0, CLAIM_DEADLINE),
            Kind::Write => (WRITE_EVERY, WRITE_DEADLINE),
        };
        if every > 0 {
            self.at(every, What::Begins(number, run, kind));
        }
        let term = self.nodes[number].lease.term();
        if self.nodes[number].requests[kind as usize].is_some() || (kind == Kind::Write && term.is_none()) {
            return;
        }
        let mut claim = None;
        if kind == Kind::Claim {
            self.numbers += 1;
            let (now, new) = (self.instant(self.now), Term(Uuid::from_u128(self.numbers.into())));
            claim = self.nodes[number].lease.wanted_claim(now, new);
            if claim.is_none() {
                return;
            }
        }
        self.numbers += 1;
        let run_started_at = self.nodes[number].run_started_at;
        let request =
            Request { number: self.numbers, started: self.now, claim, term, run_started_at, answer: None };
        self.nodes[number].requests[kind as usize] = Some(request);
        if kind == Kind::Beat {
            self.beats.insert(request.number, request);
        }
        let there = self.latency();
        self.at(there, What::Arrives(number, run, kind, request.number));
        self.at(deadline, What::Ends(number, run, kind, request.number));
    }

    /// The database carries out a request, even if the node has given it up or has ended.
    fn arrives(&mut self, number: usize, run: u64, kind: Kind, request: u64) {
        let slot = self.nodes[number].requests[kind as usize].filter(|found| found.number == request);
        let beat = self.beats.remove(&request);
        if self.database_away_until > self.now {
            return;
        }
        // The model forgets what a node has given up, except for a claim and a beat, which still have an effect.
        let answer = match (kind, slot) {
            (Kind::Beat, _) => {
                let Some(beat) = beat else { return };
                self.beat(number, run, beat)
            }
            (Kind::Claim, Some(Request { claim: Some(claim), .. })) => {
                Answer::Done(self.grant(number, claim))
            }
            (Kind::Write, Some(Request { term, .. })) => Answer::Done(term == Some(self.database.term)),
            (Kind::Claim | Kind::Write, _) => return,
        };
        let is_lost = self.slow_until > self.now && self.below(10) == 0;
        if let Some(slot) = &mut self.nodes[number].requests[kind as usize]
            && slot.number == request
            && !is_lost
        {
            slot.answer = Some(answer);
            let back = self.latency();
            self.at(back, What::Ends(number, run, kind, request));
        }
    }

    /// Does what the statement of a beat does.
    fn beat(&mut self, number: usize, run: u64, Request { term, run_started_at, .. }: Request) -> Answer {
        let (now, id, boot) = (self.now, self.nodes[number].id, (number, run));
        let is_recent = |row: &Row| row.seen_at + 5000 > now;
        let place = self.nodes[number].place;
        let before = self.database.rows.get(&id.0.as_u128()).copied();
        let owner = self.database.owner.map(|owner| self.nodes[owner].id);
        let counts = owner != Some(id) || term == Some(self.database.term);
        let started_at = match before {
            Some(row) if row.boot == boot => row.started_at,
            _ => run_started_at.unwrap_or(now),
        };
        let beat = before.map_or(0, |row| row.beat) + i64::from(counts);
        self.database.rows.insert(id.0.as_u128(), Row { beat, boot, started_at, seen_at: now });
        let was_silent = run_started_at.is_none() && !before.is_some_and(|row| is_recent(&row));
        let is_older = |row: Row| run_started_at.is_some_and(|own| (row.started_at, row.boot) < (own, boot));
        let seen = Seen {
            owner: Owner { node: owner, term: self.database.term, beat: self.counter() },
            owner_has_ended: (self.database.owner == Some(number) && self.database.place == place)
                || was_silent,
            term_age: after(now - self.database.since),
            has_others: self
                .database
                .rows
                .iter()
                .any(|(other, row)| *other != id.0.as_u128() && is_recent(row)),
            has_older_twin: before.is_some_and(|row| row.boot != boot && is_older(row)),
        };
        Answer::Seen(seen, started_at)
    }

    /// Returns the counter of the owner.
    fn counter(&self) -> i64 {
        let Database { owner, rows, .. } = &self.database;
        let row = owner.and_then(|owner| rows.get(&self.nodes[owner].id.0.as_u128()));
        row.map_or(0, |row| row.beat)
    }

    fn grant(&mut self, number: usize, claim: Claim) -> bool {
        let is_granted = claim.seen == self.database.term
            && claim.beat.is_none_or(|seen| self.database.owner.is_none() || seen == self.counter());
        if is_granted {
            let place = self.nodes[number].place;
            (self.database.owner, self.database.place) = (Some(number), place);
            (self.database.term, self.database.since) = (claim.term, self.now);
            self.terms += 1;
        }
        is_granted
    }

    fn ends(&mut self, number: usize, run: u64, kind: Kind, request: u64) {
        let (now, world_start) = (self.instant(self.now), self.start);
        let node = &mut self.nodes[number];
        let Some(found) = node.requests[kind as usize].take_if(|found| found.number == request) else {
            return;
        };
        let started = world_start + after(found.started);
        let lease = &mut node.lease;
        let change = match (kind, found.answer) {
            (Kind::Beat, Some(Answer::Seen(seen, started_at))) => {
                node.run_started_at = Some(started_at);
                lease.beat_answered(started, now, seen)
            }
            (Kind::Write, Some(Answer::Done(true))) => {
                lease.written(found.term.unwrap(), started);
                None
            }
            (Kind::Write, Some(Answer::Done(false))) => lease.fenced(found.term.unwrap()),
            (Kind::Claim, answer) => {
                let outcome = match answer {
                    Some(Answer::Done(true)) => ClaimOutcome::Granted,
                    Some(_) => ClaimOutcome::Refused,
                    None => ClaimOutcome::Unknown,
                };
                lease.claim_answered(found.claim.unwrap(), outcome, started, now);
                None
            }
            _ => None,
        };
        node.is_duplicate |= change == Some(Change::TwoNodes);
        let failing = node.lease.term().filter(|_| node.fails && kind == Kind::Claim);
        if let Some(term) = failing {
            self.at(START_WITHIN, What::GivesUp(number, run, term.0));
        }
        if kind == Kind::Beat {
            self.at(0, What::Begins(number, run, Kind::Claim));
        }
    }

    fn fault(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        let (number, duration) =
            (usize::try_from(self.below(self.nodes.len() as u64)).unwrap(), self.below(12_000));
        match self.below(6) {
            0 | 1 => self.nodes[number].paused_until = self.now + duration,
            2 if self.nodes[number].is_running => {
                // The machine has started again, or the directory was moved.
                self.nodes[number].place += u64::from(self.below(3) == 0);
                self.restart(number, duration);
            }
            3 if self.standby.is_some() => self.go_back(duration),
            3 | 4 => self.database_away_until = self.now + duration,
            _ => self.slow_until = self.now + duration,
        }
        let pause = self.below(15_000);
        self.at(pause, What::Fault);
    }

    /// The standby, which lacks what was written since the last call, becomes the database. It is copied again.
    fn go_back(&mut self, away: u64) {
        let before = self.standby.replace(self.database.clone());
        self.database = before.expect("there is a standby");
        self.database_away_until = self.now + away;
        self.went_back_until = self.now + away + CONVERGED_AFTER;
    }

    fn kill(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        (node.is_running, node.run, node.requests) = (false, node.run + 1, [None; 3]);
        (node.lease, node.run_started_at) = (Lease::new(node.id, true), None);
    }

    /// Ends a node, and starts it again.
    fn restart(&mut self, number: usize, pause: u64) {
        self.kill(number);
        let run = self.nodes[number].run;
        self.at(pause, What::Starts(number, run));
    }

    /// Starts a node with the id of this one.
    fn copy(&mut self, number: usize) {
        let id = self.nodes[number].id;
        (self.nodes[COPY].id, self.nodes[COPY].lease) = (id, Lease::new(id, true));
        let run = self.nodes[COPY].run;
        self.at(0, What::Starts(COPY, run));
    }

    fn duplicates(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_duplicate).collect()
    }
}

/// How long a node tries to start its service.
const START_WITHIN: u64 = 15_000;

/// Time after which a former owner has noticed that the database went back: its trust has ended, or it has seen another
/// term.
const CONVERGED_AFTER: u64 = 5000;

proptest! {
    #![proptest_config(Config::with_cases(200))]

    #[test]
    fn at_most_one_node_trusts_itself_at_any_time(seed: u64) {
        let mut world = World::new(seed, 150_000);
        world.run_until(190_000);
        prop_assert_eq!(world.trusted().len(), 1, "the faults have ended");
        prop_assert_eq!(world.duplicates(), Vec::<usize>::new());
    }

    #[test]
    fn at_most_one_node_trusts_itself_even_if_one_is_a_copy_or_does_not_start(seed: u64) {
        let mut world = World::new(seed, 150_000);
        world.nodes[2].fails = true;
        let begins = world.below(100_000);
        world.run_until(begins);
        world.copy(0);
        world.run_until(240_000);
        let trusted = world.trusted();
        prop_assert!(trusted.len() == 1 && trusted != [2], "{:?}", trusted);
        let duplicates = world.duplicates();
        prop_assert!([vec![0], vec![COPY]].contains(&duplicates), "one of both has ended: {:?}", duplicates);
    }

    #[test]
    fn one_node_owns_the_log_in_the_end_even_if_the_database_goes_back(seed: u64) {
        let mut world = World::new(seed, 150_000);
        world.standby = Some(world.database.clone());
        world.run_until(190_000);
        prop_assert_eq!(world.trusted().len(), 1, "the faults have ended");
        prop_assert_eq!(world.duplicates(), Vec::<usize>::new());
    }

    #[test]
    fn an_owner_without_a_fault_stays_the_owner(seed: u64) {
        let mut world = World::new(seed, 0);
        world.run_until(60_000);
        prop_assert_eq!((world.terms, world.trusted().len()), (1, 1));
    }

    #[test]
    fn another_node_owns_the_log_within_ten_seconds_after_the_owner_was_killed(seed: u64) {
        let mut world = World::new(seed, 0);
        world.run_until(20_000);
        let killed = world.trusted()[0];
        world.kill(killed);
        world.run_until(30_000);
        prop_assert_eq!((world.terms, world.trusted().len()), (2, 1));
    }

    #[test]
    fn a_node_in_a_crash_loop_leaves_the_log_to_another_one(seed: u64) {
        let mut world = World::new(seed, 0);
        world.run_until(20_000);
        let crashing = world.trusted()[0];
        while world.now < 32_000 {
            let (pause, life) = (world.below(4000), 1 + world.below(5000));
            world.restart(crashing, pause);
            world.run_until(world.now + pause + life);
        }
        let trusted = world.trusted();
        prop_assert!(trusted.len() == 1 && trusted != [crashing] && world.terms == 2, "{:?}", trusted);
    }

    #[test]
    fn a_node_that_starts_again_owns_the_log_at_once_if_its_term_has_lasted_or_it_is_alone(seed: u64) {
        for is_alone in [false, true] {
            let mut world = if is_alone { World::empty(seed, 0) } else { World::new(seed, 0) };
            world.at(0, What::Starts(0, 0));
            world.run_until(if is_alone { 10_000 } else { 70_000 });
            let owner = world.trusted()[0];
            world.restart(owner, 10);
            // If the last beat of the earlier run comes late, the claim is refused once.
            world.run_until(world.now + 3000);
            prop_assert_eq!((world.terms, world.trusted()), (2, vec![owner]));
        }
    }

    #[test]
    fn a_copy_of_a_node_ends_and_changes_nothing(seed: u64) {
        let mut world = World::new(seed, 0);
        let begins = 5000 + world.below(100_000);
        world.run_until(begins);
        let (owner, copied) = (world.trusted(), usize::try_from(world.below(NODES as u64)).unwrap());
        world.copy(copied);
        world.run_until(begins + 10_000);
        prop_assert_eq!((world.duplicates(), world.terms, world.trusted()), (vec![COPY], 1, owner));
    }

    #[test]
    fn a_node_whose_service_does_not_start_leaves_the_log_to_another_one(seed: u64) {
        let mut world = World::new(seed, 0);
        world.nodes[0].fails = true;
        world.nodes[1].fails = true;
        world.run_until(60_000);
        prop_assert_eq!((world.trusted(), world.duplicates()), (vec![2], vec![]));
    }

    #[test]
    fn a_node_whose_service_does_not_start_tries_again_for_ever_if_it_is_alone(seed: u64) {
        let mut world = World::empty(seed, 0);
        world.nodes[0].fails = true;
        world.at(0, What::Starts(0, 0));
        world.run_until(300_000);
        prop_assert!((17..=20).contains(&world.terms), "{} terms", world.terms);
    }
}
