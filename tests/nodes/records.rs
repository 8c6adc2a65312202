//! What a run has observed. All times are durations since its start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use liveobject_test_support::PacketKind;

/// Everything that the checker needs.
#[derive(Debug, Default)]
pub struct Records {
    /// The events that were sent at least once, with their cameras.
    pub sent: HashMap<String, String>,
    pub receipts: Vec<Receipt>,
    /// What the subscriber has received, in this order.
    pub arrivals: Vec<Arrival>,
    /// The nodes' connections to the broker, in the order in which they were opened.
    pub sessions: Vec<Session>,
    /// What passed on them, in this order. It may not have reached the broker.
    pub packets: Vec<SentPacket>,
    /// What the broker received, in this order.
    pub publishes: Vec<Publication>,
    /// The owners of the event log, in this order.
    pub terms: Vec<Term>,
    pub writes: Vec<Write>,
    pub faults: Vec<Fault>,
    pub end: End,
    /// What the test has noticed on its way, such as a node that has exited.
    pub problems: Vec<String>,
}

/// An acknowledgement: 202.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub event: String,
    pub seq: u64,
    pub sender: usize,
    /// The node that sent it.
    pub node: usize,
    /// Whether it is the first one of this event, which its sender had waited for.
    pub is_first: bool,
    /// When the request was sent.
    pub began: Duration,
    pub at: Duration,
}

/// An event that the subscriber received.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub event: String,
    pub camera: String,
    pub seq: u64,
    /// Whether it arrived on the history topic.
    pub is_late: bool,
    pub at: Duration,
}

/// A connection of a node to the broker.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    pub node: usize,
    /// The number of the connection on the node's proxy.
    pub number: usize,
    /// The port from which it arrived at the broker.
    pub port: u16,
    pub began: Duration,
}

#[derive(Debug, Clone)]
pub struct SentPacket {
    /// Index of the session.
    pub session: usize,
    pub what: PacketKind,
}

/// A message that the broker received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Index of the session.
    pub session: usize,
    pub topic: String,
}

/// A change of the owner.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// `None` if the owner has released the log, or is unknown.
    pub node: Option<usize>,
    /// When the change was committed.
    pub at: Duration,
}

/// A group of events that was committed.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    pub first: u64,
    pub last: u64,
    /// The node whose connection it was, and when that was opened; `None` if it is unknown.
    pub writer: Option<(usize, Duration)>,
    /// When it was committed.
    pub at: Duration,
}

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its kind, for the statistics.
    pub kind: &'static str,
    pub text: String,
    /// The node; `None` if it affects all of them.
    pub node: Option<usize>,
    pub of_owner: bool,
    /// Whether there was no other fault at the same time or shortly before.
    pub is_alone: bool,
    /// How long it prevents a takeover by other means than the failure of the owner.
    pub prevents: Duration,
    pub from: Duration,
    pub to: Duration,
}

/// The state after the last fault, when everything has been delivered.
#[derive(Debug, Default)]
pub struct End {
    /// The retained messages.
    pub retained: BTreeMap<String, Vec<u8>>,
    /// The event log.
    pub log: Vec<Row>,
    /// The number of today's events of each camera, according to the API; empty if the run began on another day.
    pub counted: BTreeMap<String, u64>,
    /// The dead events.
    pub dead: BTreeSet<u64>,
}

/// A row of the event log.
#[derive(Debug, Clone)]
pub struct Row {
    pub seq: u64,
    pub event: String,
    pub camera: String,
}
