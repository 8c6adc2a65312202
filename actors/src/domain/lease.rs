//! Which of several nodes owns the event log, and whether a node may act as its owner now. No clock, no I/O.
//!
//! The nodes share one database. It has a row for the owner: its node and a *term*, a random id that each change of
//! ownership replaces. Every write of the owner is conditional on its term (a *fence*), so the log itself is safe
//! whatever this state machine decides. It decides when to claim the log, and when to stop publishing.
//!
//! - *Beat.* About once a second, each node adds 1 to its counter in the database, and learns the owner, its term and
//!   its counter. Nobody compares clocks of different machines: a node only observes whether the counter changes,
//!   with its own monotonic clock. The owner's beat contains its term. Beats of another run of the same node do not
//!   change the counter: only the run that owns the log keeps others from claiming it.
//! - *Claim.* A node claims the log if it has no owner, or if the owner's counter has not changed for [`STANDSTILL`]
//!   in at least [`MIN_POLLS`] polls. The database grants the claim only if term *and counter* are still those seen,
//!   in one transaction that waits for beats under way.
//! - *Restart.* If the owner is an earlier run of this node that has surely ended, the node claims the log at once,
//!   unless another node waits, and this one cannot decrypt the settings or its service had run for less than
//!   [`LASTING`], which means that the earlier run did not last: the other node gets the log after [`STANDSTILL`].
//!   See [`Seen::owner_has_ended`] for what is known to have ended.
//! - *Failed start.* A node that cannot start its service with its term [gives the log up](Lease::give_up), and claims
//!   nothing for [`PAUSE_AFTER_FAILURE`] if there is another one, which gets it.
//! - *Trust.* The owner trusts itself for [`TRUST`] after the start of its last successful beat or fenced write, and
//!   at most for [`TRUST_WITHOUT_BEAT`] after that of the beat. As the latter is shorter than [`STANDSTILL`], the
//!   trust has ended before another node can own the log.
//!
//! An owner that does not trust itself hands out no message, but stays connected: if the database confirms it, it
//! goes on. It is no longer the owner once a fence or a beat shows another term.
//!
//! Two running nodes can have one id if a data directory was copied, although only one process can use a directory. One
//! of them must end, and it must not be the owner:
//!
//! - A node whose id owns the log, with a term that it does not have, ends if the owner's counter changes: only a run
//!   that has this term can change it. That takes [`TWIN_BEATS`] beats, and so less than [`STANDSTILL`], before which
//!   the node does not claim the log, because it does not know that the owner has ended.
//! - If neither is the owner, the one that has started later ends. Each beat shows whether another run of the node has
//!   beaten since the last one, and which of them started earlier.
//! - One change proves nothing: it can be the last request of a run that has just ended, and that the server gets late.
//!   Nor does another term of this node: a database that is restored, or fails over to a standby that was behind, goes
//!   back to an earlier one.
//! - An owner that does not beat for [`STANDSTILL`] loses the log to its copy, as to any other node, and then ends.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// How long the owner trusts itself after the start of its last successful beat or fenced write.
pub const TRUST: Duration = Duration::from_secs(3);

/// How long the owner trusts itself at most after the start of its last successful beat, even if its writes succeed.
/// Other nodes see only the beats.
pub const TRUST_WITHOUT_BEAT: Duration = Duration::from_millis(4500);

/// How long the owner's counter must not have changed before another node claims the log.
pub const STANDSTILL: Duration = Duration::from_secs(5);

/// In at least this many polls the counter must not have changed. A node that was paused itself has seen nothing.
pub const MIN_POLLS: u32 = 4;

/// If two polls are further apart than this, the observation begins again: this node, or the database, was away, and
/// the owner may not have been able to beat, either.
pub const MAX_POLL_GAP: Duration = Duration::from_millis(2500);

/// A node that cannot connect to the broker, because it cannot decrypt the settings, waits this many times longer.
const UNABLE: u32 = 5;

/// If the service has run this long in a term, the next run of the same node continues at once.
pub const LASTING: Duration = Duration::from_mins(1);

/// How long a node claims nothing after it has given up the log, if another node runs. It is longer than a node tries
/// to start (15 s), so that another node has tried before this one tries again.
pub const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(20);

/// A run ends when this many of its beats have shown another run with the same id.
pub const TWIN_BEATS: u32 = 3;

/// How much time may pass from one of these beats to the next.
const TWIN_WITHIN: Duration = Duration::from_secs(10);

const _: () = assert!(TRUST_WITHOUT_BEAT.as_millis() < STANDSTILL.as_millis());

/// A node's id. It is kept in the node's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub Uuid);

/// A period of ownership. Random, so that no two are equal, even after the database has lost some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term(pub Uuid);

/// The owner, as a beat has shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The node; `None` if it has released the log, or nobody has owned it yet.
    pub node: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// Its counter.
    pub beat: i64,
}

/// What a beat has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The owner.
    pub owner: Owner,
    /// Whether the owner is an earlier run of this node that has surely ended: it used the same data directory, which
    /// is locked by one process at a time, since the machine was booted; or no run of this node had beaten for
    /// [`STANDSTILL`] before the first beat of this one.
    pub owner_has_ended: bool,
    /// How long the service has run in this term, by the clock of the database; zero while it starts.
    pub term_age: Duration,
    /// Whether another node runs that can connect to the broker.
    pub has_others: bool,
    /// Whether another run of this node, which has started earlier, has beaten since the last beat of this run.
    pub has_older_twin: bool,
}

/// A request to become the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The term that must be the current one.
    pub seen: Term,
    /// The value that the owner's counter must still have; `None` if there is no owner. Even an earlier run of this
    /// node that had been silent for long may have come back since the beat.
    pub beat: Option<i64>,
    /// The term that begins.
    pub term: Term,
}

/// The outcome of a [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// This node is the owner.
    Granted,
    /// The owner was another one, or has beaten in between.
    Refused,
    /// The database did not answer in time. It may have granted the claim.
    Unknown,
}

/// What has become of the ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// This node was the owner and is not any more. It must stop publishing and writing.
    Lost,
    /// Another node has the same id, for example because a data directory was copied. It is the owner, or has started
    /// earlier. This node must stop for good.
    TwoNodes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Standby,
    Claiming(Claim),
    Owner {
        term: Term,
        /// When the claim was known to be granted. Beats that began before may show the previous owner.
        since: Instant,
        beat_at: Instant,
        write_at: Instant,
    },
    /// It does not claim the log again.
    Ended,
}

/// A series of polls that all showed the same owner.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// What the last one has shown.
    seen: Seen,
    since: Instant,
    last: Instant,
    polls: u32,
}

/// The ownership as one node knows it. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Lease {
    me: NodeId,
    /// Whether the node can connect to the broker.
    able: bool,
    role: Role,
    watch: Option<Watch>,
    /// The term of a claim that the database may have granted to this run.
    unknown: Option<Term>,
    /// Until when this node claims nothing, unless it is alone.
    pauses_until: Option<Instant>,
    /// See [`Lease::has_failed`].
    has_failed: bool,
    /// In how many beats another run with the same id was noticed, and when the last time.
    twins: Option<(u32, Instant)>,
}

impl Lease {
    /// Creates the state of a node that has just started. `able` states whether it can connect to the broker.
    pub fn new(me: NodeId, able: bool) -> Self {
        Self {
            me,
            able,
            role: Role::Standby,
            watch: None,
            unknown: None,
            pauses_until: None,
            has_failed: false,
            twins: None,
        }
    }

    /// Returns the term of which this node is the owner.
    pub fn term(&self) -> Option<Term> {
        match self.role {
            Role::Owner { term, .. } => Some(term),
            _ => None,
        }
    }

    /// Returns whether this node is the owner and may publish now.
    pub fn is_trusted(&self, now: Instant) -> bool {
        let Role::Owner { beat_at, write_at, .. } = self.role else { return false };
        now < (beat_at.max(write_at) + TRUST).min(beat_at + TRUST_WITHOUT_BEAT)
    }

    /// Returns whether a beat or a fenced write that began at `since` or later has shown that this node is the owner.
    pub fn is_confirmed_since(&self, since: Instant) -> bool {
        matches!(self.role, Role::Owner { beat_at, write_at, .. } if beat_at.max(write_at) >= since)
    }

    /// Records the answer to a beat that began at `started`.
    pub fn beat_answered(&mut self, started: Instant, now: Instant, seen: impl Into<Seen>) -> Option<Change> {
        let seen = seen.into();
        match &mut self.role {
            Role::Owner { since, .. } if started < *since => None,
            Role::Owner { term, beat_at, .. } if seen.owner.term == *term => {
                *beat_at = started.max(*beat_at);
                None
            }
            Role::Owner { .. } => {
                self.become_standby();
                self.observe(seen, now);
                Some(Change::Lost)
            }
            Role::Standby => {
                if self.notices_twin(seen, now) {
                    return Some(self.end());
                }
                if seen.owner.node.is_some_and(|node| node != self.me) {
                    self.has_failed = false;
                }
                self.observe(seen, now);
                None
            }
            Role::Claiming(_) | Role::Ended => None,
        }
    }

    /// Records whether the node can decrypt the settings, which may have changed, and whether another node that runs
    /// can. If no node can, what was determined before remains, because waiting would gain nothing.
    pub fn inspected(&mut self, reads_settings: bool, has_able_others: bool) {
        if reads_settings || has_able_others {
            self.able = reads_settings;
        }
    }

    /// Returns for how long the counter of the owner has not changed, as far as this node has seen it.
    pub fn still_for(&self) -> Duration {
        self.watch.map_or(Duration::ZERO, |watch| watch.last.saturating_duration_since(watch.since))
    }

    /// Returns the claim to make now, if any. `term` must be new and random. The outcome must be reported by
    /// [`Lease::claim_answered`].
    pub fn wanted_claim(&mut self, now: Instant, term: Term) -> Option<Claim> {
        let (Role::Standby, Some(watch)) = (self.role, self.watch) else { return None };
        let is_old = now.saturating_duration_since(watch.last) > MAX_POLL_GAP;
        let must_pause = watch.seen.has_others && self.pauses_until.is_some_and(|until| now < until);
        if is_old || must_pause {
            return None;
        }
        let still_for = watch.last.saturating_duration_since(watch.since);
        let stands_still = |patience| watch.polls >= MIN_POLLS && still_for >= patience;
        let Owner { node, term: seen, beat } = watch.seen.owner;
        let is_own = self.unknown == Some(seen) || self.continues(watch.seen);
        let wants = match (node, self.able) {
            _ if is_own => true,
            (None, true) => true,
            (Some(_), true) => stands_still(STANDSTILL),
            (_, false) => stands_still(STANDSTILL * UNABLE),
        };
        wants.then(|| {
            let claim = Claim { seen, beat: node.map(|_| beat), term };
            self.role = Role::Claiming(claim);
            claim
        })
    }

    /// Records the outcome of the claim that began at `started`. If it is unknown, a later beat shows whether it was
    /// granted. The log is then claimed again: the new term ends everything that was sent with the old one.
    pub fn claim_answered(&mut self, claim: Claim, outcome: ClaimOutcome, started: Instant, now: Instant) {
        if self.role != Role::Claiming(claim) {
            return;
        }
        self.become_standby();
        self.unknown = (outcome == ClaimOutcome::Unknown).then_some(claim.term);
        if outcome == ClaimOutcome::Granted {
            let term = claim.term;
            self.role = Role::Owner { term, since: now, beat_at: started, write_at: started };
        }
    }

    /// Records that a write with this term, which began at `started`, has succeeded.
    pub fn written(&mut self, term: Term, started: Instant) {
        if let Role::Owner { term: current, write_at, .. } = &mut self.role
            && *current == term
        {
            *write_at = started.max(*write_at);
        }
    }

    /// Records that a write with this term has changed nothing, because the term has ended.
    pub fn fenced(&mut self, term: Term) -> Option<Change> {
        (self.term() == Some(term)).then(|| {
            self.become_standby();
            Change::Lost
        })
    }

    /// Records that the service has started. Returns whether that had failed before.
    pub fn service_started(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Returns whether this node has given the log up, and no other node has claimed it since.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Ends the ownership because the service does not start. Returns whether this term must be ended in the database,
    /// because it was that of this node. The node claims the log again after a pause, or at once if it is alone.
    pub fn give_up(&mut self, term: Term, now: Instant) -> bool {
        let is_own = self.term() == Some(term);
        if is_own {
            self.become_standby();
            (self.pauses_until, self.has_failed) = (Some(now + PAUSE_AFTER_FAILURE), true);
        }
        is_own
    }

    /// Ends the ownership for good. Returns the term to end in the database. A claim may have begun it that is not
    /// answered yet.
    pub fn release(&mut self) -> Option<Term> {
        match std::mem::replace(&mut self.role, Role::Ended) {
            Role::Owner { term, .. } | Role::Claiming(Claim { term, .. }) => Some(term),
            Role::Standby | Role::Ended => None,
        }
    }

    fn become_standby(&mut self) {
        (self.role, self.watch) = (Role::Standby, None);
    }

    fn end(&mut self) -> Change {
        self.role = Role::Ended;
        Change::TwoNodes
    }

    /// Returns whether this run follows an earlier one of this node at once.
    fn continues(&self, seen: Seen) -> bool {
        let is_preferred = (self.able && seen.term_age >= LASTING) || !seen.has_others;
        seen.owner.node == Some(self.me) && seen.owner_has_ended && is_preferred
    }

    /// Returns whether another run with the same id, which goes on, has been noticed often enough.
    fn notices_twin(&mut self, seen: Seen, now: Instant) -> bool {
        let Owner { node, term, beat } = seen.owner;
        let has_beaten = |last: Owner| last.node == node && last.term == term && last.beat != beat;
        let is_owner = node == Some(self.me) && self.watch.is_some_and(|watch| has_beaten(watch.seen.owner));
        if !is_owner && !seen.has_older_twin {
            return false;
        }
        let recent = self.twins.filter(|(_, at)| now.saturating_duration_since(*at) <= TWIN_WITHIN);
        let count = recent.map_or(0, |(count, _)| count) + 1;
        self.twins = Some((count, now));
        count >= TWIN_BEATS
    }

    fn observe(&mut self, seen: Seen, now: Instant) {
        match &mut self.watch {
            Some(watch)
                if watch.seen.owner == seen.owner
                    && now.saturating_duration_since(watch.last) <= MAX_POLL_GAP =>
            {
                let owner_has_ended = seen.owner_has_ended || watch.seen.owner_has_ended;
                watch.seen = Seen { owner_has_ended, ..seen };
                watch.last = now;
                watch.polls = watch.polls.saturating_add(1);
            }
            watch => *watch = Some(Watch { seen, since: now, last: now, polls: 1 }),
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lease_model_tests.rs"]
mod model_tests;
