//! Standby servers that receive commits only after they were confirmed.

use sea_orm::{ConnectionTrait, DbErr};

use crate::store::dialect;

/// Counts the standbys if none of them is waited for. Not counted: PostgreSQL's own programs for backups, and
/// subscribers of logical replication, to which nobody fails over. A user who may not see what a connection is for sees
/// that there is one.
const COUNT: &str = "SELECT COUNT(*) FROM pg_stat_replication r \
    WHERE btrim(current_setting('synchronous_standby_names')) = '' \
      AND COALESCE(r.application_name, '') NOT IN ('pg_basebackup', 'pg_receivewal') \
      AND NOT EXISTS (SELECT 1 FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')";

/// Returns the number of standbys that can lack confirmed commits; 0 if commits wait for a standby.
pub async fn count_asynchronous(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    let row = db.query_one_raw(dialect::statement(db, COUNT, [])).await?;
    let standbys: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u64::try_from(standbys).unwrap_or(0))
}
