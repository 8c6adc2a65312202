//! Whether events had a subscriber.

use super::*;

#[actix_rt::test(system = "crate::System")]
async fn the_topics_of_live_events_that_had_a_subscriber_are_recorded_per_broker() {
    let mut it = Fixture::new().await;
    let other = EventInput {
        event_id: Some("unheard".to_owned()),
        camera_id: "gate".to_owned(),
        description: "nobody listens".to_owned(),
        ..EventInput::default()
    };
    it.publish_many(1..=1).await;
    it.publish(other.validate().unwrap()).await.unwrap();
    it.link_up(100).await;
    it.sent(2).await;
    it.answer([(1, Outcome::Delivered { unheard: false }), (2, Outcome::Delivered { unheard: true })]).await;
    let recorded = async || it.store.heard_topics("broker:1883", 10).await.unwrap();
    wait_until("the topic is recorded", async || !recorded().await.is_empty()).await;
    let topics: Vec<_> = recorded().await.into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["liveobject/camera/door/event"]);
    assert_eq!(it.store.heard_topics("other:1883", 10).await.unwrap(), []);
}

#[actix_rt::test(system = "crate::System")]
async fn events_without_subscribers_are_counted_and_reported() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=2).await;
    it.link_up(100).await;
    it.sent(2).await;
    it.answer([(1, Outcome::Delivered { unheard: true })]).await;
    assert_eq!(it.status().await.warnings[0].kind, WarningKind::NoSubscribers);
    assert_eq!(it.metrics.events_unheard.get(), 1);
    it.acknowledge([2]).await;
    let status = it.status().await;
    assert!(status.warnings[0].message.contains("Somebody subscribes to it again"), "{status:?}");
    it.wait_for_checkpoint(2).await;
    assert_eq!((it.delivery("e1").await.heard, it.delivery("e2").await.heard), (Some(false), Some(true)));
}

#[actix_rt::test(system = "crate::System")]
async fn whether_events_were_heard_is_unknown_if_the_broker_does_not_report_it() {
    for (qos, reports_subscribers) in [(QoS::AtMostOnce, true), (QoS::AtLeastOnce, false)] {
        let mut it = Fixture::with(MqttSettings { qos, ..MqttSettings::defaults("c") }).await;
        it.publish_many(1..=2).await;
        it.link_up_with(100, reports_subscribers).await;
        it.sent(2).await;
        assert_eq!(it.delivery("e1").await.heard, None, "it is pending");
        it.acknowledge(1..=2).await;
        it.wait_for_checkpoint(2).await;
        assert_eq!(it.delivery("e1").await.heard, None);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn whether_each_event_was_heard_is_stored() {
    let settings = MqttSettings { wait_for_subscribers: false, ..MqttSettings::defaults("c") };
    let mut it = Fixture::with(settings).await;
    it.publish_many(1..=600).await;
    it.link_up(100).await;
    let mut answered = 0;
    while answered < 600 {
        let sent = it.sent_seqs(1).await;
        answered += sent.len();
        it.answer(sent.into_iter().map(|seq| (seq, Outcome::Delivered { unheard: seq % 2 == 0 }))).await;
    }
    it.wait_for_checkpoint(600).await;
    let dir = it.crash().await.unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    for seq in [1, 2, 299, 300, 599, 600] {
        assert_eq!(it.delivery(&format!("e{seq}")).await.heard, Some(seq % 2 == 1), "{seq}");
    }
}
