//! Retained messages of the demo broker.
//!
//! Keeps the last retained message of each topic in memory. `rmqtt` contains the implementation but disables
//! it by default: an embedder has to choose the storage.

use std::time::Duration;

use async_trait::async_trait;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

/// Stores one message per topic until it expires or the broker stops.
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

    /// Stores a message; an empty one clears the topic. A message without an expiry never expires. The broker
    /// passes an expiry of zero for such a message.
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
