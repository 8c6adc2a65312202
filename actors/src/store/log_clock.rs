//! The table `log_clock`: one row, which ties the log time to the machine's uptime.

use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ConnectionTrait, DbBackend, DbErr, EntityTrait, Iterable as _,
    entity::prelude::*,
    sea_query::OnConflict,
};

use super::{StoreError, dialect};
use crate::domain::clock::{self, Clock, JumpDetector, LogTime, Moment};

/// How much of the time between two boots is added to the log time. The wall clock of a machine that was off
/// may be wrong by years, and must not make everything in the log old at once.
const MAX_OFF_MICROS: i64 = 86_400_000_000;

/// By how much the server's clock and a machine's uptime may differ after the longest time between two notes.
const MAX_DRIFT_MICROS: i64 = 10_000_000;

/// Maximum lag of the stored clocks, which are written every six hours.
const NOTED_MICROS: i64 = 6 * 3_600_000_000 + 60_000_000;

/// The row's only id.
const ID: i64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "log_clock")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub boot_id: String,
    pub uptime_offset: i64,
    pub boot_began: i64,
    pub last_log: i64,
    pub last_wall: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The service's clock, and the detector that continues where the last run ended.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The clock.
    pub clock: Clock,
    /// Reports changes of the wall clock since the last run, too.
    pub jumps: JumpDetector,
}

impl Default for Clocks {
    /// Returns the clocks of a database that has never been used.
    fn default() -> Self {
        Self { clock: Clock::new(0, LogTime(i64::MIN)), jumps: JumpDetector::new(0) }
    }
}

/// Continues the log time of the last run, and stores how it relates to the current boot. On a server, it must be
/// called in a transaction.
pub async fn resume(db: &impl ConnectionTrait) -> Result<Clocks, DbErr> {
    let (clocks, row) = continued(db).await?;
    let replace = OnConflict::column(Column::Id)
        .update_columns(Column::iter().filter(|column| !matches!(column, Column::Id)))
        .to_owned();
    Entity::insert(ActiveModel::from(row).reset_all())
        .on_conflict(replace)
        .exec_without_returning(db)
        .await?;
    if db.get_database_backend() == DbBackend::Postgres {
        note_server_clock(db).await?;
    }
    Ok(clocks)
}

/// Returns the clocks that continue the last run, and stores nothing: the process does not write to the log, and may
/// be on another machine than the one that does.
pub async fn peek(db: &impl ConnectionTrait) -> Result<Clocks, DbErr> {
    continued(db).await.map(|(clocks, _)| clocks)
}

/// Returns the clocks, and the row that describes how they relate to the current boot.
async fn continued(db: &impl ConnectionTrait) -> Result<(Clocks, Model), DbErr> {
    let previous = Entity::find_by_id(ID).one(db).await?;
    let newest = match newest(db, NEWEST_EVENT).await {
        // The newest event is damaged. The clocks are stored every six hours, so it was accepted before `latest`.
        Err(error) if StoreError::from(error.clone()).is_corruption() => {
            let latest =
                previous.as_ref().map_or(0, |previous| previous.last_log.saturating_add(NOTED_MICROS));
            newest(db, "0").await?.max(latest)
        }
        newest => newest?,
    };
    let passed = match db.get_database_backend() {
        DbBackend::Postgres => passed_on_server(db).await?,
        _ => None,
    };
    let now = clock::to_micros(clock::now());
    let row = resumed(previous.clone(), &boot_id(), now, clock::uptime(), newest, passed);
    let clock = Clock::new(row.uptime_offset, LogTime(row.boot_began));
    let jumps = JumpDetector::new(compared_with(previous.as_ref(), &row).difference());
    Ok((Clocks { clock, jumps }, row))
}

/// The server's clock, in microseconds.
const SERVER_CLOCK: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";

/// Stores the server's clock, which belongs to the row's log time.
async fn note_server_clock(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let sql = format!("UPDATE log_clock SET server_clock = {SERVER_CLOCK}");
    db.execute_raw(dialect::statement(db, sql, [])).await.map(drop)
}

/// Returns how much time has passed on the server since the clocks were stored; `None` if that is unknown. A server
/// that has started since then may have been off, and its clock may have been wrong at first.
async fn passed_on_server(db: &impl ConnectionTrait) -> Result<Option<i64>, DbErr> {
    let sql = format!(
        "SELECT {SERVER_CLOCK} - server_clock AS passed FROM log_clock \
         WHERE pg_postmaster_start_time() < to_timestamp(server_clock / 1000000.0)"
    );
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    row.map(|row| row.try_get("", "passed")).transpose()
}

/// Returns the row with which the clocks are compared at the start: that of the last run, unless the machine
/// may have been off for longer than the log time has advanced.
fn compared_with<'a>(previous: Option<&'a Model>, row: &'a Model) -> &'a Model {
    let is_new_boot = row.last_log == row.boot_began;
    previous.filter(|previous| !is_new_boot || row.last_wall < previous.last_wall).unwrap_or(row)
}

impl Model {
    fn difference(&self) -> i64 {
        self.last_wall.saturating_sub(self.last_log)
    }
}

/// Selects the log time of the newest event.
const NEWEST_EVENT: &str =
    "COALESCE((SELECT COALESCE(log_time, received_at) FROM events ORDER BY seq DESC LIMIT 1), 0)";

/// Returns the newest log time in the event log, which may be later than the clocks were last stored. In rows
/// without one, the wall-clock time counts. `newest_event` selects that of the newest event.
async fn newest(db: &impl ConnectionTrait, newest_event: &str) -> Result<i64, DbErr> {
    let sql = format!(
        "SELECT MAX({newest_event}, \
        COALESCE((SELECT COALESCE(log_time, acked_at) FROM deliveries ORDER BY up_to_seq DESC LIMIT 1), 0), \
        COALESCE((SELECT MAX(COALESCE(log_time, at)) FROM dead_events), 0), \
        COALESCE((SELECT MAX(COALESCE(asked_log_time, asked_at)) FROM retries), 0)) AS newest"
    );
    let row = db.query_one_raw(dialect::statement(db, sql, [])).await?;
    row.map_or(Ok(0), |row| row.try_get("", "newest"))
}

/// Returns the row for a run that starts now. `newest` is the newest log time in the event log. `passed` is the time
/// since the previous row was stored, if a clock shows it that does not depend on the boot, as that of a server. The
/// log time then continues even on another machine, and the ages of all events remain known.
fn resumed(
    previous: Option<Model>,
    boot_id: &str,
    wall: i64,
    uptime: i64,
    newest: i64,
    passed: Option<i64>,
) -> Model {
    let Some(previous) = previous else {
        // The first start. Rows without a log time have only a wall-clock time, which counts as one. If they are
        // ahead of the wall clock, it is wrong, and their ages are unknown.
        let log = wall.max(newest.saturating_add(1));
        return Model {
            id: ID,
            boot_id: boot_id.to_owned(),
            uptime_offset: log.saturating_sub(uptime),
            boot_began: if log > wall { log } else { i64::MIN },
            last_log: log,
            last_wall: wall,
        };
    };
    let log = uptime.saturating_add(previous.uptime_offset);
    if previous.boot_id == boot_id && log >= previous.last_log {
        return Model { last_log: log, last_wall: wall, ..previous };
    }
    if let Some(log) = passed.map(|passed| previous.last_log.saturating_add(passed))
        && log >= previous.last_log.max(newest.saturating_sub(MAX_DRIFT_MICROS))
    {
        let log = log.max(newest.saturating_add(1));
        return Model {
            boot_id: boot_id.to_owned(),
            uptime_offset: log.saturating_sub(uptime),
            last_log: log,
            last_wall: wall,
            ..previous
        };
    }
    let off = wall.saturating_sub(previous.last_wall).clamp(1, MAX_OFF_MICROS);
    let log = previous.last_log.saturating_add(off).max(newest.saturating_add(1));
    Model {
        id: ID,
        boot_id: boot_id.to_owned(),
        uptime_offset: log.saturating_sub(uptime),
        boot_began: log,
        last_log: log,
        last_wall: wall,
    }
}

/// Stores both clocks, so that the next boot continues from here. On a server, it must be called in a transaction.
pub async fn note(db: &impl ConnectionTrait, now: Moment) -> Result<(), DbErr> {
    let changed = ActiveModel {
        id: Unchanged(ID),
        last_log: Set(now.log.0),
        last_wall: Set(clock::to_micros(now.wall)),
        ..<ActiveModel as ActiveModelTrait>::default()
    };
    Entity::update(changed).exec(db).await?;
    if db.get_database_backend() == DbBackend::Postgres { note_server_clock(db).await } else { Ok(()) }
}

/// Returns the id of the machine's current boot. Without one, each run counts as a boot of its own.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| uuid::Uuid::now_v7().to_string(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const WALL: i64 = 1_780_000_000_000_000;

    /// Without a server.
    fn resumed(previous: Option<Model>, boot_id: &str, wall: i64, uptime: i64, newest: i64) -> Model {
        super::resumed(previous, boot_id, wall, uptime, newest, None)
    }

    #[test]
    fn on_another_machine_the_log_time_continues_with_the_clock_of_the_server() {
        let first = resumed(None, "a", WALL, 5 * HOUR, 0);
        let after = |passed, newest| {
            let first = Some(first.clone());
            let row = super::resumed(first, "b", 0, 9 * HOUR, newest, Some(passed));
            assert_eq!(row.uptime_offset, row.last_log - 9 * HOUR);
            (row.last_log, row.boot_began == i64::MIN)
        };
        assert_eq!(after(HOUR, WALL + HOUR - 1), (WALL + HOUR, true), "ages stay known");
        assert_eq!(after(48 * HOUR, 0), (WALL + 48 * HOUR, true));
        assert_eq!(after(HOUR, WALL + HOUR + 7), (WALL + HOUR + 8, true), "it never goes back");
        assert!(!after(HOUR, WALL + 2 * HOUR).1, "the server's clock is wrong");
        assert!(!after(-1, 0).1, "the server's clock is wrong");
        let same = super::resumed(Some(first), "a", 0, 6 * HOUR, 0, Some(7 * HOUR));
        assert_eq!(same.last_log, WALL + HOUR, "the uptime is more exact");
    }

    #[test]
    fn the_log_time_begins_as_the_wall_clock_time() {
        let row = resumed(None, "a", WALL, 5 * HOUR, 0);
        assert_eq!((row.last_log, row.uptime_offset), (WALL, WALL - 5 * HOUR));
    }

    #[test]
    fn after_an_upgrade_under_a_clock_that_is_behind_the_log_time_begins_after_everything_in_the_log() {
        let newest = WALL + 100 * HOUR;
        let row = resumed(None, "a", WALL, 5 * HOUR, newest);
        assert_eq!((row.last_log, row.boot_began), (newest + 1, newest + 1), "older ages are unknown");
        assert_eq!(row.uptime_offset, newest + 1 - 5 * HOUR);
        let later = resumed(Some(row), "a", WALL + 100 * HOUR, 6 * HOUR, newest);
        assert_eq!(later.last_log, newest + 1 + HOUR);
        let row = resumed(None, "a", newest + 1, 5 * HOUR, newest);
        assert_eq!((row.last_log, row.boot_began), (newest + 1, i64::MIN), "the clock is not behind");
    }

    #[test]
    fn a_restart_in_the_same_boot_ignores_the_wall_clock() {
        let first = resumed(None, "a", WALL, 5 * HOUR, 0);
        for wall in [0, WALL - 24 * HOUR, WALL + 720 * HOUR] {
            let row = resumed(Some(first.clone()), "a", wall, 6 * HOUR, 0);
            assert_eq!((row.last_log, row.uptime_offset), (WALL + HOUR, first.uptime_offset));
            assert_eq!(row.boot_began, i64::MIN);
        }
    }

    #[test]
    fn after_a_reboot_the_log_time_continues_and_ages_from_before_are_unknown() {
        let first = resumed(None, "a", WALL, 5 * HOUR, 0);
        let log_after = |wall| resumed(Some(first.clone()), "b", wall, HOUR, 0).last_log;
        assert_eq!(log_after(WALL + 2 * HOUR), WALL + 2 * HOUR);
        assert_eq!(log_after(0), WALL + 1, "it never goes back");
        assert_eq!(log_after(WALL + 7200 * HOUR), WALL + 24 * HOUR, "a wrong clock makes nothing old");
        let row = resumed(Some(first), "b", WALL + HOUR, HOUR, 0);
        assert_eq!(row.boot_began, row.last_log);
        let later = resumed(Some(row.clone()), "b", 0, 3 * HOUR, 0);
        assert_eq!((later.boot_began, later.last_log), (row.boot_began, row.last_log + 2 * HOUR));
    }

    #[test]
    fn a_clock_that_was_set_between_two_runs_is_noticed_but_a_long_rest_is_not() {
        let first = resumed(None, "a", WALL, 5 * HOUR, 0);
        let jump_of = |boot_id, wall| {
            let row = resumed(Some(first.clone()), boot_id, wall, 6 * HOUR, 0);
            let log = LogTime(row.last_log);
            let now = Moment { wall: clock::from_micros(wall), log, boot_began: LogTime(row.boot_began) };
            let jump = JumpDetector::new(compared_with(Some(&first), &row).difference()).check(now);
            jump.map(|jump| jump.by.num_hours())
        };
        assert_eq!(jump_of("a", WALL + HOUR), None);
        assert_eq!(jump_of("a", WALL - 2 * HOUR), Some(-3));
        assert_eq!(jump_of("a", WALL + 3 * HOUR), Some(2));
        assert_eq!(jump_of("b", WALL + 7200 * HOUR), None);
        assert_eq!(jump_of("b", WALL - 2 * HOUR), Some(-2));
    }

    #[test]
    fn every_event_from_before_a_boot_is_of_unknown_age_even_if_the_clocks_were_stored_long_before() {
        let first = resumed(None, "a", WALL, 5 * HOUR, 0);
        let newest = WALL + HOUR / 2;
        for wall in [0, WALL + 1, WALL + HOUR / 4] {
            let row = resumed(Some(first.clone()), "b", wall, HOUR, newest);
            assert!(row.boot_began > newest, "{row:?}");
        }
    }

    #[test]
    fn an_uptime_that_went_back_is_another_boot() {
        let row = resumed(Some(resumed(None, "a", WALL, 5 * HOUR, 0)), "a", WALL + HOUR, HOUR, 0);
        assert_eq!((row.boot_began, row.last_log), (WALL + HOUR, WALL + HOUR));
    }
}
