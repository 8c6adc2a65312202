//! The database is moved or replaced under the service, and pictures fill the disk. At the end, the event log is
//! compared with the ledgers.

use std::{fs, path::Path, time::Duration};

use liveobject_test_support::{Api, wait_until};
use serde_json::Value;
use tokio::time::sleep;

use super::{Demand, Dice, FaultLog, LONG_TIMEOUT, Origin, RETRY_DELAY, SystemUnderTest, TIMEOUT, lock};
use crate::helpers::PNG;

/// Maximum time until the responses to events that were accepted before the database was moved have arrived.
const RESPONSES: Duration = Duration::from_secs(1);
/// Free space that the pictures of one fault exceed.
const FREE_FOR_PICTURES: usize = 48 << 20;
const PICTURES: usize = 40;
const PICTURE_BYTES: usize = 3 << 19;
/// Number of events whose rows in the event log are checked at the end.
const CHECKED_ROWS: usize = 300;

impl SystemUnderTest {
    /// Moves the database away, or replaces it with a copy, and puts it back after a while. The service must
    /// accept nothing in the meantime.
    pub(super) async fn replace_database(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (pause, copies) = (dice.millis(0, 5000), dice.below(2) == 0);
        let kills = dice.below(3) == 0 && self.can_restart();
        let what = if copies { "replaced with a copy" } else { "moved away" };
        fault_log.record(&format!(
            "database: {what} for {pause:?}{}",
            if kills { "; service: kill -9" } else { "" }
        ));
        let file = self.service.data_dir().join("liveobject.db");
        let aside = file.with_file_name("aside.db");
        fs::rename(&file, &aside).expect("the database can be moved");
        if copies {
            fs::copy(&aside, &file).expect("the database can be copied");
        }
        let api = self.service.api();
        let is_ready =
            async || api.try_get("/health/ready").await.is_ok_and(|response| response.status == 200);
        wait_until("the service notices that its database is gone", TIMEOUT, async || !is_ready().await)
            .await;
        sleep(RESPONSES).await;
        let before = lock(&self.ledgers).highest(Origin::Rest);
        sleep(pause).await;
        let after = lock(&self.ledgers).highest(Origin::Rest);
        if after > before {
            self.violation(format!("events were accepted without the database: {before} to {after}"));
        }
        let status = self.service.status().await;
        if !has_warning(&status, "database_unavailable") {
            self.violation(format!("no warning that the database is gone: {status}"));
        }
        if kills {
            self.kill_service().await;
        }
        fs::rename(&aside, &file).expect("the database can be moved back");
        if kills {
            self.start_service().await;
        }
        wait_until("the service is ready again", TIMEOUT, is_ready).await;
        self.wait_until_warning_is_gone("database_unavailable").await;
    }

    /// Stores more pictures than there is free space. Old pictures must make room, and events must still be
    /// accepted.
    pub(super) async fn fill_disk_with_pictures(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let Some(disk) = &self.disk else { return };
        fault_log.record(&format!("disk: {PICTURES} pictures on too little space"));
        disk.shrink_to(FREE_FOR_PICTURES + (dice.below(16) as usize) * (1 << 20));
        self.steady();
        sleep(Duration::from_secs(2)).await;
        let events: Vec<u64> = {
            let ledgers = lock(&self.ledgers);
            ledgers.receipts(Origin::Rest).iter().rev().take(PICTURES).map(|(number, _)| *number).collect()
        };
        for number in events {
            let mut status = self.put_picture(number).await;
            // The pictures of new events may take the room that was made for it.
            for _ in 0..5 {
                if status == 503 {
                    sleep(RETRY_DELAY).await;
                    status = self.put_picture(number).await;
                }
            }
            // The last bytes are reserved for events. A picture may need them only if no older one can make room.
            let is_reserved = status == 503 && self.pictures_on_disk() == 0;
            if status != 204 && !is_reserved {
                self.violation(format!("a picture was refused with {status}"));
            }
        }
        let is_warned = async || has_warning(&self.service.status().await, "disk_almost_full");
        wait_until("the status warns of the disk", TIMEOUT, is_warned).await;
        let before = lock(&self.ledgers).highest(Origin::Rest);
        let is_accepted = async || lock(&self.ledgers).highest(Origin::Rest) > before + 20;
        wait_until("events are accepted while pictures fill the disk", TIMEOUT, is_accepted).await;
        self.free_disk();
        self.wait_until_warning_is_gone("disk_almost_full").await;
        self.set_demand(Demand::Random);
    }

    fn pictures_on_disk(&self) -> usize {
        let files = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let shards = files(&self.service.data_dir().join("thumbnails")).filter(|path| path.is_dir());
        shards.flat_map(|shard| files(&shard).collect::<Vec<_>>()).count()
    }

    async fn put_picture(&self, number: u64) -> u16 {
        let mut picture = PNG.to_vec();
        picture.resize(PICTURE_BYTES, 0);
        let path = format!("/api/v1/events/{}/thumbnail", Origin::Rest.event_id(number));
        let request = self.service.request(reqwest::Method::PUT, &path).header("content-type", "image/png");
        Api::try_send(request.body(picture)).await.map_or(0, |response| response.status)
    }

    async fn wait_until_warning_is_gone(&self, kind: &str) {
        let is_gone = async || !has_warning(&self.service.status().await, kind);
        wait_until(&format!("the warning {kind} is gone"), TIMEOUT, is_gone).await;
    }

    /// Compares a sample of accepted events with the event log. None of them is old enough to be removed,
    /// whatever the clock showed. An event that is submitted again must get its first receipt.
    pub async fn check_event_log(&self) {
        let receipts = lock(&self.ledgers).receipts(Origin::Rest).to_vec();
        let step = (receipts.len() / CHECKED_ROWS).max(1);
        for (number, seq) in receipts.into_iter().step_by(step) {
            let path = format!("/api/v1/events/{}", Origin::Rest.event_id(number));
            let row = self.service.get(&path).await;
            if row.status != 200 || row.body["seq"] != seq || row.body["delivery"]["state"] == "pending" {
                self.violation(format!("event {seq} is not in the event log as accepted: {row:?}"));
            }
            let again = self.service.post_event(&crate::soak::load::event(number)).await;
            if again.status != 202 || again.body["duplicate"] != true || again.body["seq"] != seq {
                self.violation(format!("event {seq} was accepted twice: {again:?}"));
            }
        }
    }

    /// Waits until all warnings are gone whose cause is gone, and reports the others.
    pub async fn check_warnings(&self) {
        let mut rest = Vec::new();
        let are_gone = async || {
            let status = self.service.status().await;
            let warnings = status["warnings"].as_array().expect("an array");
            rest = warnings.iter().filter(|warning| !outlasts_its_cause(&warning["kind"])).cloned().collect();
            rest.is_empty()
        };
        let wait = wait_until("no warning is left", LONG_TIMEOUT, are_gone);
        // The remaining warnings are reported below.
        let _elapsed = tokio::time::timeout(TIMEOUT, wait).await;
        if !rest.is_empty() {
            self.violation(format!("warnings without a cause: {rest:?}"));
        }
    }
}

/// Returns whether a warning is shown for some time after its cause is gone.
fn outlasts_its_cause(kind: &Value) -> bool {
    ["clock_jumped", "late_on_arrival", "no_subscribers", "availability_overwritten"]
        .iter()
        .any(|lasting| kind == lasting)
}

pub(super) fn has_warning(status: &Value, kind: &str) -> bool {
    status["warnings"]
        .as_array()
        .is_some_and(|warnings| warnings.iter().any(|warning| warning["kind"] == kind))
}
