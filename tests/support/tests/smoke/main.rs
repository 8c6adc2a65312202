//! Tests of the test infrastructure against real servers and clients, so that system tests can rely on it.

mod client;
mod mosquitto;
mod proxy;
mod scripted;
mod subscriber;
mod visitor;
