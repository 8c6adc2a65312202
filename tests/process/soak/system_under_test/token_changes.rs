//! The senders get another API token, which is revoked while they use it.

use liveobject_test_support::{Api, wait_until};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{Dice, FaultLog, SystemUnderTest, TIMEOUT};

const TOKENS: &str = "/api/v1/tokens";

impl SystemUnderTest {
    /// Creates a token, lets the senders use it for a while, and revokes it. Until the senders have another
    /// one, their requests fail with 401.
    pub(super) async fn replace_token(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (used, refused) = (dice.millis(200, 5000), dice.millis(0, 1500));
        let restarts = dice.below(3) == 0 && self.can_restart();
        self.tokens_created += 1;
        let name = format!("sender-{}", self.tokens_created);
        fault_log.record(&format!("token {name}: created, used for {used:?}, revoked"));
        let body = json!({ "name": name, "scopes": ["events:write"] });
        let created = self.service.post(TOKENS, &body).await.expect(201);
        let token = created["token"].as_str().expect("the token").to_owned();
        self.tokens.set_current(&token);
        sleep(used).await;
        if restarts {
            fault_log.record("service: kill -9, while the senders use another token");
            self.kill_service().await;
            self.start_service().await;
        }
        self.tokens.revoke(&token);
        let _ = self.service.delete(&format!("{TOKENS}/{name}")).await.expect(204);
        let api = self.service.with_token(&token);
        let is_refused = async || {
            // An empty batch is invalid, so it is not accepted in any case.
            let response = Api::try_send(api.request(Method::POST, "/api/v1/events/batch").json(&json!([])));
            // After several failed logins, the service responds to a wrong token with 429.
            response.await.is_ok_and(|response| matches!(response.status, 401 | 429))
        };
        wait_until("the revoked token is refused", TIMEOUT, is_refused).await;
        sleep(refused).await;
        self.tokens.set_current(&self.service.token());
    }
}
