//! Retained messages of the demo broker.
//!
//! Owns the last retained message of each topic, in memory, gone with the broker. `rmqtt` brings the tree of topics,
//! but leaves it switched off: whoever embeds it is to say where messages are kept.

use std::time::Duration;

use async_trait::async_trait;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

/// Keeps one message for each topic, as long as the broker lives or until the message expires.
pub struct Retained(DefaultRetainStorage);

impl Retained {
    pub fn new() -> Self {
        Self(DefaultRetainStorage::new())
    }
}

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    /// Keeps a message, or forgets the topic's message if this one is empty. No expiry, and one of zero (which the
    /// broker gives to messages without an expiry of their own), mean for ever.
    async fn set(&self, topic: &TopicName, message: Retain, expiry: Option<Duration>) -> rmqtt::Result<()> {
        let expiry = expiry.filter(|expiry| !expiry.is_zero());
        self.0.set_with_timeout(topic, message, expiry).await
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        self.0.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.0.count().await
    }

    async fn max(&self) -> isize {
        self.0.max().await
    }
}
