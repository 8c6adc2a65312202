//! Commits, notes and checkpoints of the writer.

use super::*;
use crate::{
    domain::{
        clock,
        delivery::{EventTimes, Settlement},
        event::{DetectionEvent, EventInput},
        event_log::StoredEvent,
        ids::CameraId,
        store_fault::StoreFault,
    },
    outbox::commit_queue::Answer,
};

fn writer() -> Writer {
    Writer::new(Seq(10), Seq(5), Unmerged::default(), DatabasePlace::File)
}

fn events(count: usize) -> Vec<DetectionEvent> {
    let input = EventInput { camera_id: "c".into(), description: "d".into(), ..EventInput::default() };
    vec![input.validate().unwrap(); count]
}

fn range(up_to: i64) -> Vec<SettledRange> {
    let settlement = Settlement::unpublished(Moment::at(clock::from_micros(0)));
    vec![SettledRange { up_to: Seq(up_to), settlement }]
}

/// A range at a time of its own, so that it is not merged with others.
fn settled(seq: i64) -> Vec<SettledRange> {
    let settlement = Settlement::unpublished(Moment::at(clock::from_micros(seq * 1_000_000)));
    vec![SettledRange { up_to: Seq(seq), settlement }]
}

fn stored(seq: i64) -> StoredEvent {
    let now = clock::now();
    StoredEvent {
        seq: Seq(seq),
        camera_id: CameraId::parse("door".to_owned()).unwrap(),
        times: EventTimes::new(now, Moment::at(now)),
        payload: Vec::new().into(),
    }
}

fn committed(last_seq: i64) -> Committed {
    Committed {
        receipts: Vec::new(),
        stored: Vec::new(),
        last_seq: Seq(last_seq),
        seen: Vec::new(),
        came_online: false,
        unregistered: None,
        decided: Vec::new(),
        dead_and_retrying: None,
    }
}

#[tokio::test]
async fn notes_wait_briefly_to_be_committed_together_with_events() {
    let mut writer = writer();
    let start = Instant::now();
    assert_eq!(writer.notes_due(start), NotesDue::Never);
    assert_eq!(writer.notes_may_wait(start), None, "there are no notes");
    writer.add_ranges(range(6));
    assert_eq!(writer.notes_due(start), NotesDue::After(NOTE_WITHIN));
    let left = |millis| writer.notes_may_wait(start + Duration::from_millis(millis));
    assert_eq!(left(10), Some(Duration::from_millis(40)), "earlier notes were committed with an event");
    assert_eq!(left(50), None);
    assert_eq!(left(5000), None);
}

#[tokio::test]
async fn many_settled_events_are_recorded_at_once() {
    let mut writer = writer();
    for _ in 0..NOTE_EVERY {
        writer.count_delivered();
    }
    writer.add_ranges(range(6));
    assert_eq!(writer.notes_due(Instant::now()), NotesDue::Now);
    assert_eq!(writer.start(), Start::Commit);
    writer.take().unwrap();
    writer.add_ranges(range(7));
    assert_eq!(writer.notes_due(Instant::now()), NotesDue::After(NOTE_WITHIN));
}

#[test]
fn few_checkpoints_are_committed_without_a_sync_until_the_next_event_syncs_them() {
    let mut writer = writer();
    let mut commits = |settled: usize, with_event: bool| {
        (0..settled).for_each(|_| writer.count_delivered());
        writer.add_ranges(range(6));
        if with_event {
            writer.queue.add(events(1), Vec::new(), Answer::Several(oneshot::channel().0));
        }
        writer.start();
        let skips_sync = writer.take().unwrap().0.skips_sync;
        writer.succeeded(&committed(12));
        skips_sync
    };
    assert!(commits(MAX_UNSYNCED - 1, false));
    assert!(commits(1, false));
    assert!(!commits(1, false), "more would be sent twice after a power failure");
    assert!(commits(MAX_UNSYNCED, false));
    assert!(!commits(0, true), "events are synced, and what was written before with them");
    assert!(commits(MAX_UNSYNCED, false));
    assert!(!commits(MAX_UNSYNCED + 1, false));
}

/// Delivers an event and notes that.
fn note_delivery(writer: &mut Writer, seq: i64, now: Instant) -> bool {
    writer.count_delivered();
    writer.add_ranges(settled(seq));
    let notes = writer.notable();
    if let Some(notes) = &notes {
        writer.noted(notes, now);
    }
    notes.is_some()
}

/// Commits an event. Returns how many ranges are in its commit.
fn commit_event(writer: &mut Writer, seq: i64) -> usize {
    writer.queue.add(events(1), Vec::new(), Answer::Several(oneshot::channel().0));
    assert_eq!(writer.start(), Start::Commit);
    let (batch, _) = writer.take().unwrap();
    assert!(!batch.skips_sync);
    writer.succeeded(&Committed { stored: vec![stored(seq)], ..committed(seq) });
    batch.ranges.len()
}

#[tokio::test]
async fn lone_deliveries_are_noted_and_every_eighth_event_commits_them() {
    let (mut writer, now) = (writer(), Instant::now());
    let commits: Vec<usize> = (11..=27)
        .map(|seq| {
            let ranges = commit_event(&mut writer, seq);
            assert!(note_delivery(&mut writer, seq, now));
            assert_eq!(writer.position(), Position { seq: Seq(seq), checkpoint: Seq(seq) });
            assert_eq!((writer.notes_due(now), writer.start()), (NotesDue::Never, Start::Nothing));
            ranges
        })
        .collect();
    assert_eq!(commits, [0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8]);
    let after = writer.queue.only_ranges().unwrap().len();
    assert_eq!(after, 1, "only the last one is not committed");
}

#[tokio::test]
async fn no_more_is_noted_than_may_be_lost_by_a_power_failure() {
    let (mut writer, now) = (writer(), Instant::now());
    assert!(!note_delivery(&mut writer, 6, now), "this process has committed no event");
    assert_eq!(commit_event(&mut writer, 20), 1);
    assert!((7..7 + 8).all(|seq| note_delivery(&mut writer, seq, now)));
    assert!(!note_delivery(&mut writer, 15, now));
    assert_eq!(writer.notes_due(now), NotesDue::After(NOTE_WITHIN));
    assert_eq!(writer.start(), Start::Commit);
    let (batch, _) = writer.take().unwrap();
    assert_eq!((batch.ranges.len(), batch.skips_sync), (9, false));
    assert!(!note_delivery(&mut writer, 16, now), "it follows ranges that are not committed yet");
    writer.succeeded(&committed(20));
    assert_eq!(writer.notable().map(|notes| notes.after), Some(Seq(15)));
}

#[tokio::test]
async fn dead_events_are_committed_before_a_range_that_contains_them() {
    let (mut writer, now) = (writer(), Instant::now());
    commit_event(&mut writer, 20);
    writer.add_dead(Seq(6), DeadReason::Expired, Moment::at(clock::from_micros(0)));
    assert!(!note_delivery(&mut writer, 7, now));
    assert_eq!(writer.start(), Start::Commit);
    writer.take().unwrap();
    assert!(!note_delivery(&mut writer, 8, now), "the commit may fail");
    writer.succeeded(&committed(20));
    assert!(note_delivery(&mut writer, 9, now));
}

#[tokio::test]
async fn what_is_noted_is_committed_after_a_while_and_when_the_database_failed() {
    let (mut writer, now) = (writer(), Instant::now());
    commit_event(&mut writer, 20);
    note_delivery(&mut writer, 6, now);
    assert!(!writer.is_noted_for_long(now + NOTED_FOR / 2));
    assert!(writer.is_noted_for_long(now + NOTED_FOR));
    writer.write_noted();
    assert_eq!(writer.start(), Start::Commit);
    let (batch, commit) = writer.take().unwrap();
    assert_eq!((batch.ranges.len(), batch.skips_sync), (1, true));
    writer.failed(&StoreError::timeout(), commit);
    assert!(!note_delivery(&mut writer, 7, now), "the state of the database is unknown");
    assert_eq!(writer.start(), Start::Commit);
    assert_eq!(writer.take().unwrap().0.ranges.len(), 2);
    writer.succeeded(&committed(20));
    assert!(!writer.is_noted_for_long(now + NOTED_FOR));
}

#[test]
fn dead_events_and_the_first_commit_after_a_failed_one_are_synced() {
    let mut writer = writer();
    writer.add_dead(Seq(6), DeadReason::Expired, Moment::at(clock::from_micros(0)));
    writer.start();
    let (batch, commit) = writer.take().unwrap();
    assert!(!batch.skips_sync);
    writer.failed(&StoreError::timeout(), commit);
    let mut writer = self::writer();
    writer.count_delivered();
    writer.add_ranges(range(6));
    writer.start();
    let (batch, commit) = writer.take().unwrap();
    assert!(batch.skips_sync);
    writer.failed(&StoreError::timeout(), commit);
    writer.start();
    assert!(!writer.take().unwrap().0.skips_sync, "the database may be in any state");
}

#[test]
fn one_commit_runs_at_a_time_and_moves_the_checkpoint() {
    let mut writer = writer();
    assert_eq!(writer.start(), Start::Nothing, "the queue is empty");
    writer.add_ranges(range(8));
    assert_eq!(writer.start(), Start::Commit);
    assert_eq!(writer.start(), Start::Nothing, "a commit is running");
    writer.take().unwrap();
    assert!(writer.is_committing());
    writer.succeeded(&committed(12));
    assert!(!writer.is_committing());
    assert_eq!(writer.position(), Position { seq: Seq(12), checkpoint: Seq(8) });
}

#[test]
fn the_end_of_a_commit_is_awaited_whether_it_succeeds_or_fails() {
    let mut writer = writer();
    assert_eq!(writer.commit_ended().try_recv(), Ok(()), "no commit is running");
    writer.add_ranges(range(8));
    writer.start();
    let mut ended = writer.commit_ended();
    let (_, commit) = writer.take().unwrap();
    assert!(ended.try_recv().is_err(), "the commit is running");
    writer.failed(&StoreError::timeout(), commit);
    assert_eq!(ended.try_recv(), Ok(()));
    writer.start();
    writer.take().unwrap();
    let mut ended = writer.commit_ended();
    assert!(ended.try_recv().is_err(), "the commit is running");
    writer.succeeded(&committed(12));
    assert_eq!(ended.try_recv(), Ok(()));
}

#[test]
fn a_failed_commit_makes_the_last_seq_uncertain_until_one_succeeds() {
    let mut writer = writer();
    let (sender, mut receiver) = oneshot::channel();
    writer.queue.add(events(3), Vec::new(), Answer::Several(sender));
    writer.add_ranges(range(8));
    writer.start();
    let (_, commit) = writer.take().unwrap();
    writer.failed(&StoreError::timeout(), commit);
    assert_eq!(receiver.try_recv().unwrap(), Err(PublishError::Storage(StoreFault::Locked)));
    assert_eq!((writer.database_unavailable(), writer.certain_last_seq()), (true, None));
    assert_eq!(writer.start(), Start::Commit, "the notes are queued again");
    let (batch, _) = writer.take().unwrap();
    assert_eq!((batch.events.len(), batch.ranges), (0, range(8)));
    writer.succeeded(&committed(13));
    assert_eq!((writer.database_unavailable(), writer.certain_last_seq()), (false, Some(Seq(13))));
}

#[test]
fn an_idle_writer_checks_a_database_that_failed() {
    let mut writer = writer();
    writer.queue.add(events(1), Vec::new(), Answer::Several(oneshot::channel().0));
    writer.start();
    let (_, commit) = writer.take().unwrap();
    writer.failed(&StoreError::timeout(), commit);
    assert_eq!(writer.start(), Start::CheckDatabase);
    writer.database_works();
    assert_eq!(writer.start(), Start::Nothing);
}

#[test]
fn room_includes_committing_queued_and_pending_events() {
    let mut writer = writer();
    writer.queue.add(events(3), Vec::new(), Answer::Several(oneshot::channel().0));
    writer.start();
    writer.take().unwrap();
    writer.queue.add(events(2), Vec::new(), Answer::Several(oneshot::channel().0));
    assert_eq!(writer.check_room(5, 10, 20), Ok(()));
    let full = PublishError::Full { pending: 10, max_pending: 20 };
    assert_eq!(writer.check_room(6, 10, 20), Err(full));
    assert_eq!(writer.check_room(MAX_QUEUED, 0, u64::MAX), Err(PublishError::Busy));
}

#[test]
fn too_many_notes_pause_delivery() {
    let mut writer = writer();
    for seq in 0..=i64::try_from(MAX_NOTES).unwrap() {
        assert!(!writer.has_too_many_notes());
        writer.add_dead(Seq(seq), DeadReason::Expired, Moment::at(clock::from_micros(0)));
    }
    assert!(writer.has_too_many_notes());
}
