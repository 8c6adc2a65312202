//! The service publishes with QoS 0, and the connection may be cut in the meantime.

use serde_json::json;
use tokio::time::sleep;

use super::{Demand, Dice, FaultLog, LONG_TIMEOUT, Origin, SystemUnderTest, lock, merged};

impl SystemUnderTest {
    /// Publishes with QoS 0 for a while. No other fault affects the network in the meantime, so only a cut of
    /// this fault may lose events: those that were written to the connection last.
    pub(super) async fn use_qos_0(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let _network = self.alone_with(&self.plain_settings()).await;
        // A cut may lose their messages too.
        self.cancel_replays().await;

        let (before, after) = (dice.millis(500, 6000), dice.millis(500, 4000));
        let cut = *dice.pick(&[None, Some("cut"), Some("reset")]);
        let protocol = *dice.pick(&["5", "3.1.1"]);
        let first = lock(&self.ledgers).first_missing(Origin::Rest);
        fault_log.record(&format!("service: QoS 0 with MQTT {protocol} for {:?}", before + after));
        self.put_settings(&merged(&self.plain_settings(), json!({ "qos": 0, "protocol": protocol }))).await;
        self.service.wait_connected(LONG_TIMEOUT).await;
        sleep(before).await;
        if let Some(what) = cut {
            fault_log.record(&format!("broker 0: connection {what}, while the service uses QoS 0"));
            match what {
                "cut" => self.proxies[0].cut().await,
                _ => self.proxies[0].reset().await,
            }
        }
        sleep(after).await;
        self.service.wait_connected(LONG_TIMEOUT).await;
        self.put_settings(&self.plain_settings()).await;
        if cut.is_some() {
            let mut ledgers = lock(&self.ledgers);
            let last = ledgers.highest(Origin::Rest);
            ledgers.permit_loss(first..=last);
        }
        self.service.wait_connected(LONG_TIMEOUT).await;
        self.set_demand(Demand::Random);
    }
}
