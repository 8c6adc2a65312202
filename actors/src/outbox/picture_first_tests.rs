use bytes::Bytes;

use super::*;
use crate::domain::settings::QoS;

fn outgoing(seq: i64, topic: &str) -> Outgoing {
    Outgoing {
        seq: Seq(seq),
        topic: format!("liveobject/camera/door/{topic}"),
        payload: Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        expiry_seconds: None,
        asked: None,
    }
}

fn live(seqs: impl IntoIterator<Item = i64>) -> Deliver {
    Deliver { events: seqs.into_iter().map(|seq| outgoing(seq, "event")).collect(), pauses: 0 }
}

/// Events 1 to 10 are known; these have pictures.
fn with_pictures(seqs: impl IntoIterator<Item = i64>) -> PictureFirst {
    let mut pictures = PictureFirst::new(Seq(0));
    pictures.committed(seqs.into_iter().map(Seq), Seq(1), Seq(10));
    pictures
}

fn add(pictures: &mut PictureFirst, deliver: Deliver, now: Instant) {
    pictures.add(deliver, now, |_| false);
}

fn ready(pictures: &mut PictureFirst, now: Instant) -> Vec<i64> {
    pictures.ready(now).into_iter().flat_map(|deliver| deliver.events).map(|event| event.seq.0).collect()
}

fn wanted(pictures: &mut PictureFirst) -> Option<(u64, i64)> {
    pictures.wanted().map(|wanted| (wanted.ticket, wanted.seq.0))
}

#[test]
fn an_event_waits_for_its_picture_and_later_events_wait_behind_it() {
    let (mut pictures, now) = (with_pictures([2, 4]), Instant::now());
    assert!(pictures.lets_pass(&live([1, 3]).events));
    add(&mut pictures, live(1..=5), now);
    assert!(!pictures.lets_pass(&live([6]).events), "it would overtake");
    assert_eq!(ready(&mut pictures, now), [1]);
    assert_eq!((wanted(&mut pictures), wanted(&mut pictures)), (Some((1, 2)), None));
    assert_eq!(ready(&mut pictures, now), [0; 0]);
    pictures.handed_over(1, true, now);
    assert_eq!(ready(&mut pictures, now), [2, 3]);
    assert_eq!(wanted(&mut pictures), Some((2, 4)));
    pictures.handed_over(1, true, now);
    assert_eq!(ready(&mut pictures, now), [0; 0], "the first attempt is over");
    pictures.handed_over(2, true, now);
    assert_eq!(ready(&mut pictures, now), [4, 5]);
    assert!(pictures.lets_pass(&live([6]).events));
}

#[test]
fn an_event_waits_for_a_second_and_then_the_events_of_its_camera_do_not_wait() {
    let (mut pictures, now) = (with_pictures(1..=10), Instant::now());
    add(&mut pictures, live(1..=2), now);
    let Some((ticket, 1)) = wanted(&mut pictures) else { panic!("the first picture is wanted") };
    add(&mut pictures, live([3]), now + MAX_WAIT / 2);
    pictures.handed_over(ticket, false, now + MAX_WAIT);
    assert_eq!(ready(&mut pictures, now + MAX_WAIT), [1, 2, 3]);
    add(&mut pictures, live([4]), now + MAX_WAIT + GIVE_UP_FOR / 2);
    assert_eq!(ready(&mut pictures, now + MAX_WAIT + GIVE_UP_FOR / 2), [4]);
    add(&mut pictures, live([5]), now + MAX_WAIT + GIVE_UP_FOR);
    assert_eq!(ready(&mut pictures, now + MAX_WAIT + GIVE_UP_FOR), [0; 0]);
}

#[test]
fn an_event_that_must_not_wait_takes_the_events_before_it_along() {
    let (mut pictures, now) = (with_pictures(1..=3), Instant::now());
    pictures.add(live(1..=3), now, |seq| seq == Seq(2));
    assert_eq!(ready(&mut pictures, now), [1, 2]);
    assert_eq!(wanted(&mut pictures), Some((1, 3)));
}

#[test]
fn a_late_event_does_not_wait() {
    let (mut pictures, now) = (with_pictures([1]), Instant::now());
    let late = Deliver { events: vec![outgoing(1, "history")], pauses: 0 };
    assert!(pictures.lets_pass(&late.events));
    add(&mut pictures, late, now);
    assert_eq!(ready(&mut pictures, now), [1]);
}

#[test]
fn events_from_before_the_start_wait_until_it_is_known_whether_they_have_a_picture() {
    let (mut pictures, now) = (PictureFirst::new(Seq(3)), Instant::now());
    add(&mut pictures, live(2..=4), now);
    assert_eq!(pictures.take_unknown(), [Seq(2), Seq(3)]);
    assert_eq!(pictures.take_unknown(), [], "once");
    assert_eq!((ready(&mut pictures, now), wanted(&mut pictures)), (vec![], None));
    pictures.found(&HashMap::from([(Seq(2), false), (Seq(3), true)]));
    assert_eq!(ready(&mut pictures, now), [2]);
    assert_eq!(wanted(&mut pictures), Some((1, 3)));
}

#[test]
fn what_waits_is_dropped_with_the_link() {
    let (mut pictures, now) = (with_pictures([1, 2]), Instant::now());
    add(&mut pictures, live(1..=2), now);
    assert_eq!(wanted(&mut pictures), Some((1, 1)));
    pictures.link_down();
    add(&mut pictures, live(1..=2), now);
    assert_eq!(wanted(&mut pictures), Some((2, 1)), "the events are sent again");
    pictures.handed_over(1, true, now);
    assert_eq!(ready(&mut pictures, now), [0; 0], "the attempt belongs to the link before");
}

#[test]
fn events_keep_the_number_of_pauses_at_which_they_were_planned() {
    let (mut pictures, now) = (with_pictures([1]), Instant::now());
    add(&mut pictures, live(1..=2), now);
    add(&mut pictures, Deliver { pauses: 1, ..live([3]) }, now);
    let ready: Vec<_> =
        pictures.ready(now + MAX_WAIT).iter().map(|one| (one.events.len(), one.pauses)).collect();
    assert_eq!(ready, [(2, 0), (1, 1)]);
}

#[test]
fn the_memory_for_known_pictures_is_bounded() {
    let mut pictures = PictureFirst::new(Seq(0));
    let last = i64::try_from(MAX_KNOWN).unwrap();
    pictures.committed((1..=last).map(Seq), Seq(1), Seq(last));
    assert_eq!(pictures.known.len(), MAX_KNOWN);
    pictures.committed([Seq(last + 1)].into_iter(), Seq(2), Seq(last + 1));
    assert_eq!(pictures.known.len(), MAX_KNOWN, "a settled event is forgotten");
    pictures.committed([Seq(last + 2)].into_iter(), Seq(2), Seq(last + 2));
    assert!(pictures.known.is_empty());
    add(&mut pictures, live([5]), Instant::now());
    assert_eq!(pictures.take_unknown(), [Seq(5)]);
}
