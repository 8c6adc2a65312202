//! Reading, replacing and testing settings.

use super::*;

fn fault(result: Result<impl fmt::Debug, ReplaceError>) -> String {
    match result.unwrap_err() {
        ReplaceError::Invalid(invalid) => invalid.to_string(),
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_fresh_installation_has_defaults_and_a_client_id_of_its_own() {
    let home = Home::new();
    let first = home.start().await;
    let view = first.view().await;
    let id = view.settings.client_id.clone();
    assert!(id.starts_with("liveobject-") && id.len() == 19, "{id}");
    assert_eq!((view.has_password, view.has_client_key, view.updated_at), (false, false, None));
    assert_eq!(first.last_notification().await, (None, None));
    first.stop().await;
    assert_eq!(home.start().await.view().await.settings.client_id, id);
}

#[actix_rt::test(system = "crate::System")]
async fn replaced_settings_survive_a_restart() {
    let home = Home::new();
    let first = home.start().await;
    let put = first.put(broker()).await.unwrap();
    assert!(put.has_password && put.updated_at.is_some());
    assert_eq!(first.last_notification().await, (Some(PASSWORD.to_owned()), None));
    first.stop().await;
    let again = home.start().await;
    assert_eq!(serde_json::to_value(again.view().await).unwrap(), serde_json::to_value(put).unwrap());
    assert_eq!(again.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn settings_that_have_changed_are_not_replaced() {
    let home = Home::new();
    let config = home.start().await;
    let first = config.view().await.revision;
    let second = config.put_if(&first, broker()).await.unwrap().revision;
    assert_ne!(first, second);
    let refused = config.put_if(&first, with(broker(), "qos", 2)).await;
    assert_eq!(refused.unwrap_err(), ReplaceError::Changed);
    assert_eq!(config.view().await.revision, second);
    // A new password is a change, although it is not shown.
    let third = config.put_if(&second, with(broker(), "password", "another")).await.unwrap().revision;
    assert_ne!(second, third);
    config.stop().await;
    assert_eq!(home.start().await.view().await.revision, third);
}

#[actix_rt::test(system = "crate::System")]
async fn of_two_replacements_of_the_same_settings_only_one_succeeds() {
    let home = Home::new();
    let config = home.start().await;
    let revision = config.view().await.revision;
    let replace = |prefix: &str| config.put_if(&revision, with(broker(), "topic_prefix", prefix));
    let (first, second) = futures_util::join!(replace("a"), replace("b"));
    assert_eq!(second.unwrap_err(), ReplaceError::Changed);
    assert_eq!(config.view().await.revision, first.unwrap().revision);
}

#[actix_rt::test(system = "crate::System")]
async fn every_new_revision_is_reported_to_the_streams() {
    let home = Home::new();
    let config = home.start().await;
    let first = config.view().await.revision;
    let second = config.put(broker()).await.unwrap().revision;
    config.put(with(broker(), "qos", 3)).await.unwrap_err();
    let mut reported = Vec::new();
    let mut are_reported = async || {
        reported.extend(config.revisions.take());
        reported.len() >= 2
    };
    crate::testing::wait_until("the revisions", &mut are_reported).await;
    assert_eq!(reported, [first, second].map(SettingsRevised));
}

#[actix_rt::test(system = "crate::System")]
async fn the_password_is_in_no_file_message_or_response() {
    if crate::testing::database::is_served() {
        return;
    }
    let home = Home::new();
    let first = home.start().await;
    let put = first.put(broker()).await.unwrap();
    assert!(home.files().iter().any(|path| path.ends_with("l.db-wal")));
    assert!(!home.contains(PASSWORD));
    assert!(!format!("{put:?}").contains(PASSWORD));
    assert!(
        !format!("{:?} {:?}", ReplaceSettings::new(broker()), TestConnection::new(Some(broker())))
            .contains(PASSWORD)
    );
    assert!(!serde_json::to_string(&put).unwrap().contains(PASSWORD));
    assert!(!format!("{:?}", first.notified.take()).contains(PASSWORD));
    first.stop().await;
    assert!(home.contains("broker.lan"));
    assert!(!home.contains(PASSWORD));
}

#[actix_rt::test(system = "crate::System")]
async fn a_password_is_kept_cleared_or_set() {
    let config = Home::new();
    let config = config.start().await;
    config.put(broker()).await.unwrap();
    config.put(with(without_password(), "qos", 2)).await.unwrap();
    assert_eq!(config.last_notification().await.0.as_deref(), Some(PASSWORD));
    config.put(with(broker(), "password", "another")).await.unwrap();
    assert_eq!(config.last_notification().await.0.as_deref(), Some("another"));
    let cleared = config.put(with(broker(), "password", Value::Null)).await.unwrap();
    assert!(!cleared.has_password);
    assert_eq!(config.last_notification().await, (None, None));
}

#[actix_rt::test(system = "crate::System")]
async fn a_kept_secret_keeps_its_ciphertext() {
    let home = Home::new();
    let config = home.start().await;
    config.put(broker()).await.unwrap();
    let before = config.store.load_settings().await.unwrap().unwrap().password;
    config.put(with(without_password(), "qos", 2)).await.unwrap();
    let after = config.store.load_settings().await.unwrap().unwrap().password;
    assert!(before.is_some());
    assert_eq!(before, after);
}

#[actix_rt::test(system = "crate::System")]
async fn a_new_destination_requires_the_secrets_again() {
    let home = Home::new();
    let config = home.start().await;
    config.put(secured()).await.unwrap();
    config.notified.take();
    let elsewhere = with(without_password(), "broker_host", "evil.example");
    let message = fault(config.put(elsewhere.clone()).await);
    assert_eq!(
        message,
        "password: enter the password again, because broker_host, broker_port and use_tls changed; \
         client_key: enter the client key again, because broker_host, broker_port and use_tls changed"
    );
    assert_eq!(config.test_connection(elsewhere.clone()).await.unwrap_err().to_string(), message);
    assert_eq!(config.view().await.settings.broker_host, "broker.lan");
    assert!(config.notified.take().is_empty());
    for (field, value) in
        [("username", json!("other")), ("use_tls", json!(false)), ("broker_port", json!(1883))]
    {
        let message = fault(config.put(with(without_password(), field, value)).await);
        assert!(message.contains("again, because ") && message.contains(field), "{message}");
    }
    let entered = with(with(elsewhere, "password", "new"), "client_key", Value::Null);
    config.put(entered).await.unwrap();
    assert_eq!(config.last_notification().await.0.as_deref(), Some("new"));
}

#[actix_rt::test(system = "crate::System")]
async fn invalid_settings_change_nothing_and_notify_nobody() {
    let home = Home::new();
    let config = home.start().await;
    config.put(broker()).await.unwrap();
    config.notified.take();
    let bad = config.put(json!({"qos": 7, "colour": 1, "password": "xyzzy-xyzzy"})).await;
    let text = fault(bad);
    assert!(text.contains("qos") && text.contains("colour") && !text.contains("xyzzy"), "{text}");
    assert_eq!(config.view().await.settings.broker_host, "broker.lan");
    crate::testing::settle().await;
    assert!(config.notified.take().is_empty());
}

#[actix_rt::test(system = "crate::System")]
async fn replacements_are_handled_in_the_order_in_which_they_arrive() {
    let home = Home::new();
    let config = home.start().await;
    config.notified.take();
    let hosts: Vec<_> = (0..10).map(|n| format!("host{n}")).collect();
    let puts = hosts.iter().map(|host| config.put(with(broker(), "broker_host", host.as_str())));
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let notified = config.notified.take();
    assert_eq!(notified.iter().map(|t| t.settings.broker_host.as_str()).collect::<Vec<_>>(), hosts);
}

#[actix_rt::test(system = "crate::System")]
async fn the_initial_settings_are_stored_once() {
    let home = Home::new();
    let first = home.start_with(Some(broker())).await;
    assert_eq!(first.last_notification().await, (Some(PASSWORD.to_owned()), None));
    assert!(first.view().await.updated_at.is_some());
    first.stop().await;
    assert!(!home.contains(PASSWORD));
    let again = home.start_with(Some(with(broker(), "broker_host", "other.lan"))).await;
    assert_eq!(again.view().await.settings.broker_host, "broker.lan");
    assert_eq!(again.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn a_connection_test_uses_the_stored_password_only_for_its_own_destination() {
    let home = Home::new();
    let config = home.start().await;
    assert_eq!(
        config.test_connection(json!({})).await.unwrap_err().to_string(),
        "broker_host: must not be empty"
    );
    config.put(broker()).await.unwrap();
    let known = format!("broker.lan:1883 Some({PASSWORD:?})");
    assert_eq!(config.test_connection(json!({})).await.unwrap().message, known);
    assert_eq!(config.addr.send(TestConnection::new(None)).await.unwrap().unwrap().message, known);
    assert_eq!(config.test_connection(with(without_password(), "qos", 0)).await.unwrap().message, known);
    let other = json!({"broker_host": "x", "password": "typed"});
    assert_eq!(config.test_connection(other).await.unwrap().message, "x:1883 Some(\"typed\")");
    assert_eq!(config.view().await.settings.broker_host, "broker.lan");
}

#[actix_rt::test(system = "crate::System")]
async fn a_third_concurrent_test_is_refused_and_other_requests_are_served() {
    let home = Home::new();
    let config = home.start().await;
    let slow = || config.addr.send(TestConnection::new(Some(json!({"broker_host": "slow"}))));
    let (one, two) = (slow(), slow());
    let third = async {
        let refused = config.test_connection(json!({"broker_host": "x"})).await.unwrap_err();
        assert!(refused.to_string().contains("2 connection tests are already running"), "{refused}");
        config.put(broker()).await.unwrap();
    };
    tokio::select! {
        _ = one => panic!("a slow test returned"),
        _ = two => panic!("a slow test returned"),
        () = third => {}
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_panic_in_a_connection_test_fails_only_the_test() {
    let home = Home::new();
    let mut config = home.start().await;
    let report = config.test_connection(json!({"broker_host": "fault"})).await.unwrap();
    assert!(!report.success && report.message.contains("bug in liveobject"));
    config.put(broker()).await.unwrap();
    assert!(config.crashed.try_recv().is_err());
}

#[actix_rt::test(system = "crate::System")]
async fn only_a_panic_is_reported_as_a_crash() {
    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Panic;
    impl Handler<Panic> for ConfigActor {
        type Result = ();
        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("panic on request");
        }
    }
    let home = Home::new();
    let Running { addr, mut crashed, .. } = home.start().await;
    assert!(addr.send(Panic).await.is_err());
    assert_eq!(crashed.recv().await, Some("config"));
    let Running { addr, mut crashed, .. } = home.start().await;
    drop(addr);
    assert_eq!(crashed.recv().await, None);
}

/// An actor that appends its name to a list when it is notified.
struct Notified(&'static str, Arc<std::sync::Mutex<Vec<&'static str>>>);

impl Actor for Notified {
    type Context = Context<Self>;
}

impl Handler<SettingsChanged> for Notified {
    type Result = ();

    fn handle(&mut self, _: SettingsChanged, _: &mut Self::Context) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn listeners_are_notified_in_order_and_the_supervisor_is_the_last() {
    let order = Arc::default();
    let listener = |name| Notified(name, Arc::clone(&order)).start().recipient();
    let listeners = SettingsListeners {
        supervisor: listener("supervisor"),
        discovery: listener("discovery"),
        cameras: listener("cameras"),
        replays: listener("replays"),
        retained: listener("retained"),
        outbox: listener("outbox"),
        status: crate::testing::Recorder::start_new().0.recipient(),
        streams: crate::testing::Recorder::start_new().0.recipient(),
    };
    // Actors begin to run in the order in which they were started, which is reversed here.
    crate::testing::settle().await;
    listeners.notify(&SettingsChanged {
        settings: Arc::new(MqttSettings::defaults("c")),
        change: SettingsChange::Other,
        unusable: None,
    });
    crate::testing::settle().await;
    assert_eq!(
        *order.lock().unwrap(),
        ["outbox", "retained", "replays", "cameras", "discovery", "supervisor"]
    );
}
