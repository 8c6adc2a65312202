//! A broker that Home Assistant's Supervisor provides.

use super::*;
use crate::domain::{
    settings::provided::{ProvidedBroker, Provision},
    status::FailureKind,
};

const SECRET: &str = "from-the-supervisor";

fn broker_of(service: &Value) -> Provision {
    let service = service.as_object().unwrap().clone();
    Provision::Broker(ProvidedBroker::read(service).unwrap().unwrap())
}

fn mosquitto() -> Provision {
    broker_of(&json!({ "host": "core-mosquitto", "port": 1883, "username": "addons", "password": SECRET }))
}

fn home() -> Home {
    Home { provided: true, ..Home::new() }
}

impl Running {
    async fn provide(&self, provision: Provision) -> Vec<SettingsChanged> {
        self.addr.send(ProvideBroker(provision)).await.unwrap();
        crate::testing::settle().await;
        self.notified.take()
    }
}

fn kind(changed: &SettingsChanged) -> Option<FailureKind> {
    changed.unusable.as_ref().map(|failure| failure.kind)
}

#[actix_rt::test(system = "crate::System")]
async fn a_provided_broker_is_used_and_shown_but_never_stored() {
    let home = home();
    let running = home.start().await;
    let changed = running.provide(mosquitto()).await.pop().unwrap();
    assert_eq!((changed.settings.broker(), kind(&changed)), ("core-mosquitto:1883".to_owned(), None));
    assert_eq!(changed.settings.exposed_password(), Some(SECRET));
    assert_eq!(changed.change, SettingsChange::Other, "the first answer is not a move to another broker");
    let view = running.view().await;
    assert!(view.settings.enabled && view.has_password && view.updated_at.is_none());
    assert_eq!(view.provided, ProvidedBroker::FIELDS);
    assert!(running.provide(mosquitto()).await.is_empty(), "the same broker again changes nothing");
    let report = running.test_connection(json!({})).await.unwrap();
    assert!(report.message.contains("core-mosquitto:1883") && report.message.contains(SECRET));

    // What the page sends: all fields as they were shown, and one that was changed.
    let request = with(serde_json::to_value(&view).unwrap(), "qos", 2);
    let saved = running.put(request).await.unwrap();
    assert_eq!((saved.settings.qos.level(), saved.settings.broker_host.as_str()), (2, "core-mosquitto"));
    assert!(!home.contains(SECRET) && !home.contains("core-mosquitto"));
    running.stop().await;
    let again = home.start().await;
    assert_eq!(again.view().await.settings.broker_host, "", "another start asks again");
    assert_eq!(again.view().await.settings.qos.level(), 2);
}

#[actix_rt::test(system = "crate::System")]
async fn provided_settings_cannot_be_replaced_while_they_are_provided() {
    let home = home();
    let running = home.start().await;
    running.put(broker()).await.unwrap();
    running.provide(mosquitto()).await;
    for (field, value) in [
        ("broker_host", json!("other")),
        ("password", json!("x")),
        ("enabled", json!(false)),
        ("tls_insecure", json!(true)),
    ] {
        let refused = running.put(with(json!({}), field, value)).await.unwrap_err();
        assert_eq!(refused, ReplaceError::Provided(vec![field]));
    }
    assert_eq!(
        running.put(json!({ "password": null })).await.unwrap_err(),
        ReplaceError::Provided(vec!["password"])
    );
    running.put(json!({ "client_key": null, "username": "addons", "topic_prefix": "a" })).await.unwrap();
    // The broker that was entered before is kept, with its password.
    let changed = running.provide(Provision::None).await.pop().unwrap();
    assert_eq!((changed.settings.broker(), kind(&changed)), ("broker.lan:1883".to_owned(), None));
    assert_eq!(changed.settings.exposed_password(), Some(PASSWORD));
    assert_eq!((changed.settings.topic_prefix.as_str(), changed.change), ("a", SettingsChange::Broker));
    assert!(running.view().await.provided.is_empty());
    running.put(with(broker(), "broker_host", "other.lan")).await.unwrap();
}

#[actix_rt::test(system = "crate::System")]
async fn no_broker_is_used_until_the_supervisor_has_answered() {
    let home = home();
    let first = home.start().await;
    first.put(broker()).await.unwrap();
    let changed = first.notified.take().pop().unwrap();
    assert_eq!(kind(&changed), Some(FailureKind::BrokerNotProvided));
    assert!(changed.settings.enabled && changed.settings.exposed_password().is_none());
    assert_eq!(changed.settings.broker_host, "", "the stored broker may be outdated");
    assert!(changed.unusable.unwrap().message.contains("is being asked"));
    let reason = Provision::Unknown("does not accept the token".to_owned());
    let changed = first.provide(reason.clone()).await.pop().unwrap();
    assert!(changed.unusable.unwrap().message.contains("does not accept the token. Events are stored"));
    first.provide(mosquitto()).await;
    assert!(first.provide(reason).await.is_empty(), "a known broker remains in use");
}

#[actix_rt::test(system = "crate::System")]
async fn without_a_broker_in_home_assistant_and_in_the_settings_the_message_explains_what_to_do() {
    let home = home();
    let running = home.start().await;
    let changed = running.provide(Provision::None).await.pop().unwrap();
    let failure = changed.unusable.unwrap();
    assert_eq!(failure.kind, FailureKind::BrokerNotProvided);
    assert!(failure.message.contains("Mosquitto broker") && failure.message.contains("in the settings"));
    running.put(broker()).await.unwrap();
    assert_eq!(kind(&running.notified.take().pop().unwrap()), None);
}

#[actix_rt::test(system = "crate::System")]
async fn a_changed_password_of_the_same_broker_is_a_change_that_reconnects() {
    let home = home();
    let running = home.start().await;
    running.provide(mosquitto()).await;
    let other = json!({ "host": "core-mosquitto", "port": 1883, "username": "addons", "password": "other" });
    let changed = running.provide(broker_of(&other)).await.pop().unwrap();
    assert_eq!((changed.change, changed.settings.exposed_password()), (SettingsChange::Other, Some("other")));
}

#[actix_rt::test(system = "crate::System")]
async fn a_service_that_chooses_its_broker_in_the_settings_ignores_a_provided_one() {
    let home = Home::new();
    let running = home.start().await;
    running.put(broker()).await.unwrap();
    running.notified.take();
    assert!(running.provide(mosquitto()).await.is_empty());
    assert_eq!(running.view().await.settings.broker_host, "broker.lan");
}
