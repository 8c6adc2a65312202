//! The rules one by one.

use super::*;

const ME: NodeId = NodeId(Uuid::from_u128(1));
const OTHER: NodeId = NodeId(Uuid::from_u128(2));

/// An owner of which nothing else is known.
impl From<Owner> for Seen {
    fn from(owner: Owner) -> Self {
        Self {
            owner,
            owner_has_ended: false,
            term_age: Duration::MAX,
            has_others: false,
            has_older_twin: false,
        }
    }
}

pub fn term(number: u128) -> Term {
    Term(Uuid::from_u128(number))
}

fn owner(node: Option<NodeId>, number: u128, beat: i64) -> Owner {
    Owner { node, term: term(number), beat }
}

pub fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    Instant::now()
}

pub fn after(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A node whose claim of a released log, made at this time, was granted at once.
fn owner_since(now: Instant) -> Lease {
    let mut lease = Lease::new(ME, true);
    assert_eq!(lease.beat_answered(now, now, owner(None, 1, 0)), None);
    let claim = lease.wanted_claim(now, term(2)).unwrap();
    assert_eq!(claim, Claim { seen: term(1), beat: None, term: term(2) });
    assert_eq!(lease.wanted_claim(now, term(3)), None, "one claim at a time");
    lease.claim_answered(claim, ClaimOutcome::Granted, now, now);
    assert_eq!(lease.term(), Some(term(2)));
    lease
}

#[test]
fn the_log_is_claimed_after_the_owner_has_not_beaten_for_five_seconds() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    for second in 0..5 {
        let now = start + after(second * 1000);
        lease.beat_answered(now, now, owner(Some(OTHER), 1, 7));
        assert_eq!(lease.wanted_claim(now, term(2)), None, "{second} s");
    }
    let now = start + STANDSTILL;
    lease.beat_answered(now, now, owner(Some(OTHER), 1, 7));
    assert_eq!(lease.wanted_claim(now, term(2)), Some(Claim { seen: term(1), beat: Some(7), term: term(2) }));
}

#[test]
fn an_owner_that_beats_or_that_was_not_observed_is_left_alone() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    for second in 0..60 {
        let now = start + after(second * 1000);
        lease.beat_answered(now, now, owner(Some(OTHER), 1, i64::try_from(second / 4).unwrap()));
        assert_eq!(lease.wanted_claim(now, term(2)), None, "it beats, if slowly");
    }
    let mut lease = Lease::new(ME, true);
    for second in [0, 1, 2, 30, 31, 32, 33] {
        let now = start + after(second * 1000);
        lease.beat_answered(now, now, owner(Some(OTHER), 1, 7));
        assert_eq!(lease.wanted_claim(now, term(2)), None, "this node was paused");
    }
    assert_eq!(lease.wanted_claim(start + after(60_000), term(2)), None, "what it knows is old");
}

#[test]
fn a_node_that_cannot_connect_waits_for_those_that_can() {
    for node in [None, Some(OTHER)] {
        let (start, mut lease) = (start(), Lease::new(ME, false));
        let claims = |second: &u64| {
            let now = start + after(second * 1000);
            lease.beat_answered(now, now, owner(node, 1, 7));
            lease.wanted_claim(now, term(2)).is_some()
        };
        assert_eq!((0..100).find(claims), Some(25));
    }
}

#[test]
fn a_node_that_can_no_longer_decrypt_the_settings_waits_for_those_that_can() {
    let wait = |inspections: &[(bool, bool)]| {
        let (start, mut lease) = (start(), Lease::new(ME, true));
        for (reads_settings, has_able_others) in inspections {
            lease.inspected(*reads_settings, *has_able_others);
        }
        let claims = |second: &u64| {
            let now = start + after(second * 1000);
            lease.beat_answered(now, now, owner(None, 1, 0));
            lease.wanted_claim(now, term(2)).is_some()
        };
        (0..100).find(claims)
    };
    assert_eq!(wait(&[(true, true)]), Some(0));
    assert_eq!(wait(&[(false, true)]), Some(25));
    assert_eq!(wait(&[(false, false)]), Some(0), "no other node can");
    assert_eq!(wait(&[(false, true), (false, false)]), Some(25), "the one that can is being restarted");
    assert_eq!(wait(&[(false, true), (true, true)]), Some(0));
}

/// The owner is an earlier run of this node that has ended. Another node waits.
fn ended(term_age: Duration) -> Seen {
    Seen { owner_has_ended: true, has_others: true, term_age, ..owner(Some(ME), 1, 7).into() }
}

#[test]
fn an_earlier_run_of_this_node_that_has_ended_is_followed_at_once_if_it_has_lasted_or_nobody_else_waits() {
    let followed = Some(Claim { seen: term(1), beat: Some(7), term: term(2) });
    let young = Duration::from_secs(59);
    let alone = Seen { has_others: false, ..ended(Duration::ZERO) };
    let unknown = Seen { owner_has_ended: false, ..ended(LASTING) };
    for (seen, at_once) in [(ended(LASTING), true), (alone, true), (ended(young), false), (unknown, false)] {
        let (start, mut lease) = (start(), Lease::new(ME, true));
        let mut claim_at = |second: u64| {
            let now = start + after(second * 1000);
            lease.beat_answered(now, now, seen);
            lease.wanted_claim(now, term(2))
        };
        let claims: Vec<_> = (0..=5).map(&mut claim_at).collect();
        if at_once {
            assert_eq!(claims[0], followed);
        } else {
            assert_eq!(claims[..5], [None; 5]);
            assert_eq!(claims[5], followed);
        }
    }
}

#[test]
fn a_node_that_cannot_decrypt_the_settings_follows_its_earlier_run_only_if_no_other_node_can() {
    for (has_others, second) in [(true, 25), (false, 0)] {
        let (start, mut lease) = (start(), Lease::new(ME, false));
        let claims = |second: &u64| {
            let now = start + after(second * 1000);
            lease.beat_answered(now, now, Seen { has_others, ..ended(LASTING) });
            lease.wanted_claim(now, term(2)).is_some()
        };
        assert_eq!((0..100).find(claims), Some(second));
    }
}

#[test]
fn a_run_that_was_silent_when_this_one_started_has_ended_for_good() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    lease.beat_answered(start, start, ended(Duration::ZERO));
    assert_eq!(lease.wanted_claim(start, term(2)), None, "another node waits");
    let now = start + after(1000);
    let alone = Seen { owner_has_ended: false, has_others: false, ..ended(after(1000)) };
    lease.beat_answered(now, now, alone);
    assert!(lease.wanted_claim(now, term(2)).is_some());
}

#[test]
fn a_copy_of_the_owner_ends_after_a_few_beats_and_does_not_claim_the_log() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    for beat in 0..4 {
        let now = start + after(u64::try_from(beat).unwrap() * 1000);
        let change = lease.beat_answered(now, now, owner(Some(ME), 1, beat));
        assert_eq!(change, (beat == 3).then_some(Change::TwoNodes), "{beat}");
        assert_eq!(lease.wanted_claim(now, term(2)), None);
    }
}

#[test]
fn the_last_beats_of_a_run_that_has_ended_do_not_end_the_next_one() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    let late = Seen { has_older_twin: true, ..owner(Some(OTHER), 1, 7).into() };
    for second in [0, 1, 12, 13, 30] {
        let now = start + after(second * 1000);
        assert_eq!(lease.beat_answered(now, now, late), None, "{second} s");
    }
    let change_at = |second: u64, lease: &mut Lease| {
        let now = start + after(second * 1000);
        lease.beat_answered(now, now, late)
    };
    assert_eq!((change_at(31, &mut lease), change_at(40, &mut lease)), (None, Some(Change::TwoNodes)));
    assert_eq!(lease.wanted_claim(start + after(40_000), term(2)), None, "it must not take part any more");

    let mut owner = owner_since(start);
    for second in 0..9 {
        let now = start + after(second * 1000);
        let seen = Owner { node: Some(ME), term: term(2), beat: 1 };
        let twin = Seen { has_older_twin: true, ..seen.into() };
        assert_eq!(owner.beat_answered(now, now, twin), None, "the owner goes on");
    }
}

#[test]
fn a_database_that_went_back_to_an_earlier_term_of_this_node_is_not_another_node() {
    let now = start();
    let mut lease = owner_since(now);
    assert_eq!(lease.beat_answered(now, now, ended(LASTING)), Some(Change::Lost));
    assert!(lease.wanted_claim(now, term(3)).is_some());
}

#[test]
fn a_node_that_has_given_the_log_up_claims_it_again_after_a_pause() {
    let start = start();
    let mut lease = owner_since(start);
    assert!(!lease.give_up(term(1), start), "it is an earlier term");
    assert!(lease.give_up(term(2), start) && lease.has_failed());
    assert_eq!((lease.term(), lease.give_up(term(2), start)), (None, false));
    let claim_at = |lease: &mut Lease, millis| {
        let now = start + after(millis);
        lease.beat_answered(now, now, Seen { has_others: true, ..owner(None, 2, 1).into() });
        lease.wanted_claim(now, term(3))
    };
    assert_eq!((claim_at(&mut lease, 1000), claim_at(&mut lease, 19_999)), (None, None));
    let claim = claim_at(&mut lease, 20_000).unwrap();
    let now = start + after(20_000);
    lease.claim_answered(claim, ClaimOutcome::Granted, now, now);
    assert!(lease.has_failed(), "the service has not started");
    assert!(lease.service_started() && !lease.has_failed() && !lease.service_started());

    assert!(lease.give_up(term(3), now));
    lease.beat_answered(now, now, owner(Some(OTHER), 4, 1));
    assert!(!lease.has_failed(), "another node goes on");

    let mut alone = owner_since(start);
    assert!(alone.give_up(term(2), start));
    alone.beat_answered(start, start, owner(None, 2, 1));
    assert!(alone.wanted_claim(start, term(3)).is_some());
}

#[test]
fn trust_ends_three_seconds_after_the_last_beat_or_write_and_comes_back() {
    let start = start();
    let at = |millis| start + after(millis);
    let mut lease = owner_since(start);
    assert!(lease.is_trusted(at(2999)) && !lease.is_trusted(at(3000)));
    lease.written(term(2), at(1000));
    assert!(lease.is_trusted(at(3999)) && !lease.is_trusted(at(4000)));
    lease.written(term(2), at(4000));
    assert!(lease.is_trusted(at(4499)) && !lease.is_trusted(at(4500)), "other nodes see only beats");
    lease.written(term(1), at(9000));
    assert_eq!(lease.beat_answered(at(9000), at(9900), owner(Some(ME), 2, 8)), None);
    assert!(lease.is_trusted(at(11_999)) && !lease.is_trusted(at(12_000)), "from its start");
    lease.beat_answered(at(8000), at(9950), owner(Some(ME), 2, 7));
    assert!(lease.is_trusted(at(11_999)), "an earlier one changes nothing");
}

#[test]
fn another_term_ends_the_ownership() {
    let now = start();
    let mut lease = owner_since(now);
    assert_eq!(lease.fenced(term(1)), None, "an earlier term");
    assert_eq!(lease.fenced(term(2)), Some(Change::Lost));
    assert_eq!((lease.term(), lease.is_trusted(now)), (None, false));

    let mut lease = owner_since(now);
    assert_eq!(lease.beat_answered(now, now, owner(Some(OTHER), 3, 0)), Some(Change::Lost));
    assert_eq!((lease.term(), lease.wanted_claim(now, term(4))), (None, None));
}

/// Returns the changes that these beats of the owner's counter lead to, one a second, with another term of this node.
fn changes(lease: &mut Lease, start: Instant, beats: &[i64]) -> Vec<Option<Change>> {
    let beat_at = |(second, beat): (u64, &i64)| {
        let now = start + after(second * 1000);
        lease.beat_answered(now, now, owner(Some(ME), 3, *beat))
    };
    (0..).zip(beats).map(beat_at).collect()
}

#[test]
fn an_owner_whose_copy_has_claimed_the_log_ends_once_it_has_seen_the_copy_beat() {
    let now = start();
    let mut lease = owner_since(now);
    let expected = [Some(Change::Lost), None, None, Some(Change::TwoNodes), None];
    assert_eq!(changes(&mut lease, now, &[1, 2, 3, 4, 5]), expected);
    assert_eq!(lease.wanted_claim(now + after(5000), term(4)), None, "it must not take part any more");
}

#[test]
fn a_database_that_went_back_to_an_earlier_owner_of_the_same_id_does_not_end_the_node() {
    let now = start();
    let mut lease = owner_since(now);
    let expected = [Some(Change::Lost), None, None, None, None, None];
    assert_eq!(changes(&mut lease, now, &[1; 6]), expected);
    assert!(lease.wanted_claim(now + after(5000), term(4)).is_some());
}

#[test]
fn a_write_that_another_node_with_the_same_id_has_ended_is_noticed_with_the_next_beats() {
    let now = start();
    let mut lease = owner_since(now);
    let own = lease.term().unwrap();
    assert_eq!(lease.fenced(own), Some(Change::Lost));
    // This beat began before the other node's claim.
    assert_eq!(lease.beat_answered(now, now, Owner { node: Some(ME), term: own, beat: 1 }), None);
    let expected = [None, None, None, Some(Change::TwoNodes)];
    assert_eq!(changes(&mut lease, now, &[2, 3, 4, 5]), expected);
    assert_eq!(lease.wanted_claim(now, term(4)), None, "it must not take part any more");

    let mut lease = owner_since(now);
    assert_eq!(lease.fenced(own), Some(Change::Lost));
    assert_eq!(lease.beat_answered(now, now, owner(Some(OTHER), 3, 0)), None);
    assert_eq!(lease.beat_answered(now, now, owner(None, 3, 0)), None);
    assert!(lease.wanted_claim(now, term(4)).is_some());
}

#[test]
fn a_beat_from_before_the_claim_was_granted_does_not_end_the_ownership() {
    let (start, mut lease) = (start(), Lease::new(ME, true));
    lease.beat_answered(start, start, owner(None, 1, 0));
    let claim = lease.wanted_claim(start, term(2)).unwrap();
    lease.claim_answered(claim, ClaimOutcome::Granted, start, start + after(20));
    assert_eq!(lease.beat_answered(start + after(10), start + after(30), owner(None, 1, 0)), None);
    assert_eq!(lease.term(), Some(term(2)));
}

#[test]
fn a_claim_with_an_unknown_outcome_is_repeated_if_it_was_granted() {
    let (now, mut lease) = (start(), Lease::new(ME, true));
    lease.beat_answered(now, now, owner(None, 1, 0));
    let claim = lease.wanted_claim(now, term(2)).unwrap();
    lease.claim_answered(claim, ClaimOutcome::Unknown, now, now);
    assert_eq!(lease.wanted_claim(now, term(3)), None, "a beat shows what has become of it");
    lease.beat_answered(now, now, owner(Some(ME), 2, 1));
    assert_eq!(lease.wanted_claim(now, term(3)), Some(Claim { seen: term(2), beat: Some(1), term: term(3) }));
}

#[test]
fn a_node_that_stops_releases_what_it_owns_or_may_own() {
    let now = start();
    let mut lease = owner_since(now);
    assert_eq!(lease.release(), Some(term(2)));
    assert_eq!((lease.is_trusted(now), lease.release()), (false, None));
    lease.beat_answered(now, now, owner(None, 2, 0));
    assert_eq!(lease.wanted_claim(now, term(3)), None);

    let mut lease = Lease::new(ME, true);
    assert_eq!(lease.release(), None);
    let mut lease = Lease::new(ME, true);
    lease.beat_answered(now, now, owner(None, 1, 0));
    let claim = lease.wanted_claim(now, term(2)).unwrap();
    assert_eq!(lease.release(), Some(term(2)));
    lease.claim_answered(claim, ClaimOutcome::Granted, now, now);
    assert_eq!(lease.term(), None);
}
