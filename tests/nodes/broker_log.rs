//! The order in which the broker received messages, from its log. This module does no I/O.
//!
//! Mosquitto is single-threaded and logs each packet when it handles it, so this is the order in which it forwards the
//! messages.

use std::collections::{HashMap, VecDeque};

use crate::records::{Publication, Session};

/// Returns the messages that the broker received on these sessions, in order. Those of other clients are left out, and
/// so are the messages of connection tests.
pub fn publications(log: &str, sessions: &[Session]) -> Vec<Publication> {
    // A port may be used again, but hardly ever by two of the sessions.
    let mut by_port = HashMap::<u16, VecDeque<usize>>::new();
    for (index, session) in sessions.iter().enumerate() {
        by_port.entry(session.port).or_default().push_back(index);
    }
    let mut current = HashMap::<&str, usize>::new();
    let mut publications = Vec::new();
    for line in log.lines() {
        if let Some((port, client)) = connected(line) {
            match by_port.get_mut(&port).and_then(VecDeque::pop_front) {
                Some(session) => _ = current.insert(client, session),
                None => _ = current.remove(client),
            }
        } else if let Some((client, topic)) = published(line)
            && let Some(session) = current.get(client)
            && !topic.contains("/~test/")
        {
            publications.push(Publication { session: *session, topic: topic.to_owned() });
        }
    }
    publications
}

/// Parses `…: New client connected from 127.0.0.1:54316 as ID (p5, c1, k60).`
fn connected(line: &str) -> Option<(u16, &str)> {
    let (_, rest) = line.split_once(": New client connected from 127.0.0.1:")?;
    let (port, rest) = rest.split_once(" as ")?;
    let (client, _) = rest.rsplit_once(" (p")?;
    Some((port.parse().ok()?, client))
}

/// Parses `…: Received PUBLISH from ID (d0, q1, r1, m1, 'TOPIC', ... (5 bytes))`.
fn published(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(": Received PUBLISH from ")?;
    let (client, rest) = rest.split_once(" (d")?;
    let (_, rest) = rest.split_once(", '")?;
    let (topic, _) = rest.rsplit_once("', ... (")?;
    Some((client, topic))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_belong_to_the_newest_connection_of_their_client() {
        let log = "\
2026-11-30T00:33:53: New connection from 127.0.0.1:54316 on port 23999.
2026-11-30T00:33:53: New client connected from 127.0.0.1:54316 as abc (p5, c1, k60).
2026-11-30T00:33:53: Received PUBLISH from abc (d0, q1, r1, m1, 'x/y', ... (5 bytes))
2026-11-30T00:33:53: New client connected from 127.0.0.1:54399 as other (p2, c1, k60).
2026-11-30T00:33:53: Received PUBLISH from other (d0, q0, r0, m0, 'x/z', ... (5 bytes))
2026-11-30T00:33:53: Received PUBLISH from abc (d0, q1, r1, m2, 'x/camera/~test/event', ... (5 bytes))
2026-11-30T00:33:53: Client abc already connected, closing old connection.
2026-11-30T00:33:53: New client connected from 127.0.0.1:54318 as abc (p2, c1, k60, u'ann').
2026-11-30T00:33:53: Received PUBLISH from abc (d0, q2, r0, m1, 'x/y', ... (5 bytes))";
        let session = |port| Session { node: 0, number: 1, port, began: Duration::ZERO };
        let expected = [0, 1].map(|session| Publication { session, topic: "x/y".to_owned() });
        assert_eq!(publications(log, &[session(54316), session(54318)]), expected);
    }
}
