//! Pictures that are handed over before their events.

use super::*;
use crate::{
    domain::ids::Seq,
    retained::state::{
        action::PACE_INTERVAL,
        hand_over::{FOLLOW_EVENTS_FOR, MAX_HANDED_OVER},
    },
};

/// The states of the camera `door`, the last one of which is this picture.
fn door(picture: Option<i64>) -> Group {
    let mut group = state("door", &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")]);
    group.wanted.extend(picture.map(|seq| {
        let content = Content::Thumbnail { seq: Seq(seq), version: 0 };
        Wanted { topic: "p".to_owned(), content }
    }));
    group
}

impl Bench {
    fn hand_over(&mut self, seq: i64) -> HandOver {
        self.state.hand_over(&"door".into(), "p", Seq(seq), self.now)
    }

    /// Hands over a picture, up to the connection's mailbox.
    fn handed_over(&mut self, seq: i64) -> Job {
        let handed_over = self.hand_over(seq);
        let HandOver::Send(job) = handed_over else { panic!("picture {seq}: {handed_over:?}") };
        assert_eq!(word(&job.target), format!("picture {seq}"));
        self.state.submitted("p");
        job
    }
}

/// Picture 1 of the camera is published.
fn published() -> Bench {
    let mut bench = Bench::new();
    bench.put(door(Some(1)));
    bench.run(PACE_INTERVAL * 2);
    assert_eq!(bench.broker["p"], "picture 1");
    bench
}

#[test]
fn a_picture_is_handed_over_at_once_and_not_published_again() {
    let mut bench = published();
    for seq in 2..=20 {
        let job = bench.handed_over(seq);
        bench.answer(&job, true);
        assert_eq!(bench.hand_over(seq), HandOver::Done);
    }
    // The camera actor is behind.
    bench.put(door(Some(12)));
    assert_eq!(bench.run_and_take_sent(FOLLOW_EVENTS_FOR / 2), [""; 0], "an older picture");
    bench.put(door(Some(20)));
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
}

#[test]
fn the_wanted_picture_is_published_when_the_others_are_handed_over() {
    let mut bench = published();
    bench.put(door(Some(9)));
    let job = bench.handed_over(3);
    bench.answer(&job, true);
    assert_eq!(bench.run_and_take_sent(FOLLOW_EVENTS_FOR), ["p: picture 9"]);
}

#[test]
fn pictures_are_handed_over_before_the_one_before_is_answered_up_to_a_limit() {
    let mut bench = published();
    let limit = i64::try_from(MAX_HANDED_OVER).unwrap();
    let jobs: Vec<Job> = (2..2 + limit).map(|seq| bench.handed_over(seq)).collect();
    assert_eq!(bench.hand_over(2 + limit), HandOver::Wait);
    bench.answer(&jobs[0], true);
    let last = bench.handed_over(2 + limit);
    for job in jobs[1..].iter().chain([&last]) {
        bench.answer(job, true);
    }
    bench.put(door(Some(2 + limit)));
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
    assert_eq!((bench.state.in_flight, bench.state.pictures_in_flight), (0, 0));
}

#[test]
fn a_picture_waits_while_another_one_is_being_read() {
    let mut bench = published();
    assert!(matches!(bench.hand_over(2), HandOver::Send(_)));
    assert_eq!((bench.hand_over(2), bench.hand_over(3)), (HandOver::Wait, HandOver::Wait));
    bench.state.submitted("p");
    assert_eq!(bench.hand_over(2), HandOver::Done);
    assert!(matches!(bench.hand_over(3), HandOver::Send(_)));
}

#[test]
fn the_first_picture_waits_for_the_camera_and_its_row_but_not_for_the_pace() {
    let mut bench = Bench::new();
    assert_eq!(bench.hand_over(1), HandOver::Wait, "the camera is not known yet");
    bench.put(door(None));
    bench.run(NOW);
    assert_eq!(bench.hand_over(1), HandOver::Wait, "the camera has no picture yet");
    bench.put(door(Some(1)));
    assert_eq!(bench.hand_over(1), HandOver::Wait, "its topic has no row");
    bench.write_rows();
    let job = bench.handed_over(1);
    bench.answer(&job, true);
    assert_eq!(bench.run_and_take_sent(A_WHILE), [""; 0]);
}

#[test]
fn no_event_waits_for_the_picture_of_a_disabled_camera_or_for_a_broker_that_is_left() {
    let mut bench = published();
    bench.put(Group { wanted: vec![external("event", false)], ..state("door", &[]) });
    assert_eq!(bench.hand_over(2), HandOver::Done);
    bench.put(door(Some(1)));
    bench.state.leave(bench.now);
    assert_eq!(bench.hand_over(2), HandOver::Done);
}

#[test]
fn a_refused_picture_does_not_stop_the_next_one() {
    let mut bench = published();
    let job = bench.handed_over(2);
    bench.answer(&job, false);
    assert_eq!(bench.hand_over(2), HandOver::Done);
    bench.handed_over(3);
}

#[test]
fn after_a_new_connection_a_picture_is_handed_over_again() {
    let mut bench = published();
    bench.handed_over(2);
    bench.state.link_down();
    assert_eq!(bench.hand_over(2), HandOver::Wait);
    bench.link_up();
    let job = bench.handed_over(2);
    bench.answer(&job, true);
    bench.put(door(Some(2)));
    bench.run(A_WHILE);
    assert_eq!(bench.broker["p"], "picture 2");
}
