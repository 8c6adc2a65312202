//! Settings that come from the configuration at each start.

use super::*;

fn managed() -> Home {
    Home { managed: true, ..Home::new() }
}

#[actix_rt::test(system = "crate::System")]
async fn managed_settings_replace_the_stored_ones_at_each_start() {
    let mut home = Home::new();
    let first = home.start().await;
    first.put(broker()).await.unwrap();
    first.stop().await;
    home.managed = true;
    let second = home.start_with(Some(json!({"broker_host": "other.lan", "password": "second"}))).await;
    let view = second.view().await;
    assert_eq!(
        (view.settings.broker_host.as_str(), view.has_password, view.managed),
        ("other.lan", true, true)
    );
    assert_eq!(view.settings.username, None, "a setting that is not configured has its default");
    assert_eq!(second.last_notification().await, (Some("second".to_owned()), None));
    second.stop().await;
    let third = home.start_with(Some(json!({"broker_host": "other.lan"}))).await;
    assert!(!third.view().await.has_password, "a secret that is not configured is removed");
    third.stop().await;
    let fourth = home.start_with(None).await;
    assert_eq!(fourth.view().await.settings.broker_host, "");
}

#[actix_rt::test(system = "crate::System")]
async fn managed_settings_that_are_stored_already_are_not_stored_again() {
    let home = managed();
    let first = home.start_with(Some(broker())).await;
    let stored_at = first.view().await.updated_at;
    assert!(stored_at.is_some());
    first.stop().await;
    let second = home.start_with(Some(broker())).await;
    assert_eq!(second.view().await.updated_at, stored_at);
    assert_eq!(second.last_notification().await, (Some(PASSWORD.to_owned()), None));
}

#[actix_rt::test(system = "crate::System")]
async fn managed_settings_cannot_be_replaced() {
    let home = managed();
    let running = home.start_with(Some(broker())).await;
    assert_eq!(running.put(json!({"broker_host": "other.lan"})).await.unwrap_err(), ReplaceError::Managed);
    assert_eq!(running.view().await.settings.broker_host, broker()["broker_host"]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_managed_password_survives_the_loss_of_the_key() {
    let home = managed();
    home.start_with(Some(broker())).await.stop().await;
    fs::remove_file(home.identity()).unwrap();
    let again = home.start_with(Some(broker())).await;
    assert_eq!(again.last_notification().await, (Some(PASSWORD.to_owned()), None));
}
