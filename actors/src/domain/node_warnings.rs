//! The warnings about the nodes that share a database. No clock, no I/O.

use chrono::TimeDelta;

use super::{
    clock::Timestamp,
    node::{KnownNode, NodeName, NodeView},
    status::{Warning, WarningKind, severity_of},
};

/// For how long a node that is away is reported if no standby is left. It was probably needed, and somebody may look
/// only after the weekend. Its row in the database is removed after the same time.
const REPORTED_FOR: TimeDelta = TimeDelta::days(7);

/// For how long a node that is away is reported if another standby can take over. It may have been replaced by that.
const REPORTED_WITH_STANDBY_FOR: TimeDelta = TimeDelta::days(1);

/// Returns what is wrong with the nodes, as the active node sees it. A standby returns nothing, because its requests
/// are answered by the active node.
pub fn node_warnings(view: &NodeView, now: Timestamp) -> Vec<Warning> {
    reported(view, now).into_iter().map(|(_, warning)| warning).collect()
}

/// Returns the warnings, each with the name and the URL of its node.
pub fn reported(view: &NodeView, now: Timestamp) -> Vec<(&NodeName, Warning)> {
    if view.role.term().is_none() {
        return Vec::new();
    }
    let is_unable = |node: &&KnownNode| !node.reads.settings;
    let is_keyless = |node: &&KnownNode| node.reads.settings && !node.reads.keys;
    let has_other_clock = |node: &&KnownNode| node.clock_ahead_seconds != 0;
    let away = away_nodes(view, now).map(|(node, since)| (node, away(view, node, since)));
    away.chain(working(view).filter(is_unable).map(|node| (node, unable(node))))
        .chain(working(view).filter(is_keyless).map(|node| (node, keyless(node))))
        .chain(working(view).filter(has_other_clock).map(|node| (node, clock_differs(node))))
        .map(|(node, warning)| (&node.name, warning))
        .collect()
}

/// Returns the nodes that are reported to be away, and since when they are.
fn away_nodes(view: &NodeView, now: Timestamp) -> impl Iterator<Item = (&KnownNode, Timestamp)> {
    let reported_for = if has_standby(view) { REPORTED_WITH_STANDBY_FOR } else { REPORTED_FOR };
    view.nodes.iter().filter_map(move |node| {
        let since = node.away_since.filter(|since| now - *since < reported_for)?;
        (!is_working(view, node) && !is_replaced(view, node)).then_some((node, since))
    })
}

fn is_own(view: &NodeView, node: &KnownNode) -> bool {
    node.boot == view.boot
}

fn is_working(view: &NodeView, node: &KnownNode) -> bool {
    is_own(view, node) || node.is_alive
}

fn working(view: &NodeView) -> impl Iterator<Item = &KnownNode> {
    view.nodes.iter().filter(|node| is_working(view, node))
}

fn has_standby(view: &NodeView) -> bool {
    view.nodes.iter().any(|node| node.is_alive && !is_own(view, node))
}

/// Returns whether a node with the same name and URL works, for example with a new data directory.
fn is_replaced(view: &NodeView, gone: &KnownNode) -> bool {
    view.nodes.iter().any(|node| is_working(view, node) && node.name == gone.name)
}

fn away(view: &NodeView, node: &KnownNode, since: Timestamp) -> Warning {
    let (name, since) = (&node.name.name, since.format("%F %T UTC"));
    let has_standby = has_standby(view);
    let message = if has_standby {
        format!(
            "Node {name} has not reported to the database since {since}. Another standby can take over. Start it \
             again. If it is gone for good, nothing needs to be done: this warning goes away after a day."
        )
    } else {
        format!(
            "Node {name} has not reported to the database since {since}, and no other standby is left: if the \
             active node fails, no node takes over. Start it again. If it is gone for good and no standby is \
             needed, nothing needs to be done: this warning goes away after 7 days."
        )
    };
    Warning::new(WarningKind::NodeAway, message).with_severity((!has_standby).into())
}

fn unable(node: &KnownNode) -> Warning {
    let name = &node.name.name;
    let message = format!(
        "Node {name} cannot decrypt the settings with its identity, so it cannot log in to the broker if it becomes \
         active. Stop it, copy identity.age there from the data directory of a node without this warning, and start \
         it again. Do not enter the password of the broker again: the other nodes could not decrypt it then."
    );
    Warning::new(WarningKind::NodeUnable, message)
}

fn keyless(node: &KnownNode) -> Warning {
    let name = &node.name.name;
    let message = format!(
        "Node {name} cannot decrypt the keys that the nodes share: while it is active, links to pictures and sessions \
         of the page from other nodes are not valid, nor are its own on other nodes. Stop it, copy identity.age \
         there from the data directory of a node without this warning, and start it again."
    );
    Warning::new(WarningKind::NodeKeysDiffer, message)
}

fn clock_differs(node: &KnownNode) -> Warning {
    let (name, seconds) = (&node.name.name, node.clock_ahead_seconds.unsigned_abs());
    let direction = if node.clock_ahead_seconds > 0 { "ahead of" } else { "behind" };
    let message = format!(
        "Node {name} has a clock that is {seconds} s {direction} that of the database server, so the times of events \
         jump when another node becomes active, and live events may count as late. Synchronize the clocks of all \
         nodes and of the database server with NTP, for example with chrony."
    );
    Warning::new(WarningKind::NodeClockDiffers, message).with_severity(severity_of(seconds.into()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        clock,
        lease::Term,
        node::{NodeRole, Readable},
    };

    fn time(seconds: i64) -> Timestamp {
        clock::from_micros(seconds * 1_000_000)
    }

    fn node(name: &str) -> KnownNode {
        KnownNode {
            name: NodeName { name: name.to_owned(), url: format!("http://{name}:8080") },
            version: "1".to_owned(),
            is_alive: true,
            boot: Uuid::from_u128(name.bytes().map(u128::from).sum()),
            away_since: None,
            reads: Readable::ALL,
            clock_ahead_seconds: 0,
        }
    }

    fn away_node(name: &str, since: i64) -> KnownNode {
        KnownNode { is_alive: false, away_since: Some(time(since)), ..node(name) }
    }

    /// What the node `a` sees while it is active.
    fn view(others: impl IntoIterator<Item = KnownNode>) -> NodeView {
        NodeView {
            role: NodeRole::Active { term: Term(Uuid::nil()), is_suspended: false },
            active: None,
            is_connected: true,
            nodes: std::iter::once(node("a")).chain(others).collect(),
            boot: node("a").boot,
        }
    }

    fn warnings(view: &NodeView, now: i64) -> Vec<(WarningKind, u64, String)> {
        let warnings = node_warnings(view, time(now)).into_iter();
        warnings.map(|Warning { kind, message, severity }| (kind, severity, message)).collect()
    }

    #[test]
    fn a_standby_that_is_away_is_reported_until_it_is_back_or_for_a_week() {
        let alone = view([away_node("b", 60)]);
        let [(kind, severity, message)] = &warnings(&alone, 100)[..] else { panic!("one warning") };
        assert_eq!((*kind, *severity), (WarningKind::NodeAway, 1));
        assert!(
            message
                .starts_with("Node b has not reported to the database since 1970-01-01 00:01:00 UTC, and no")
        );
        assert_eq!(warnings(&view([node("b")]), 100), []);
        let week = 7 * 86_400;
        assert_eq!(warnings(&alone, week + 59).len(), 1);
        assert_eq!(warnings(&alone, week + 60), []);
        let moment = KnownNode { away_since: None, ..away_node("b", 0) };
        assert_eq!(warnings(&view([moment]), 100), [], "it is being started again");
    }

    #[test]
    fn a_node_that_is_away_is_reported_for_a_day_if_another_one_can_take_over() {
        let safe = view([away_node("b", 60), node("c")]);
        let [(_, severity, message)] = &warnings(&safe, 100)[..] else { panic!("one warning") };
        assert!(*severity == 0 && message.contains("Another standby can take over"), "{message}");
        assert_eq!(warnings(&safe, 86_400 + 60), []);
        assert_eq!(warnings(&view([away_node("b", 60), away_node("c", 90)]), 100).len(), 2);
    }

    #[test]
    fn a_node_that_was_replaced_is_not_reported() {
        let reinstalled = KnownNode { boot: Uuid::from_u128(7), ..away_node("b", 60) };
        assert_eq!(warnings(&view([reinstalled.clone(), node("b")]), 100), []);
        let mut neighbor = node("b");
        neighbor.name.url = "http://b:8081".to_owned();
        assert_eq!(warnings(&view([reinstalled, neighbor]), 100).len(), 1, "another one on the same machine");
        let own = KnownNode { boot: Uuid::from_u128(8), ..away_node("a", 60) };
        assert_eq!(warnings(&view([own]), 100), [], "the former data directory of this node");
    }

    #[test]
    fn nodes_that_cannot_decrypt_something_are_reported_while_they_run() {
        let unable = KnownNode { reads: Readable { settings: false, keys: false }, ..node("b") };
        let keyless = KnownNode { reads: Readable { settings: true, keys: false }, ..node("c") };
        let both = view([unable.clone(), keyless]);
        let found = warnings(&both, 0);
        let kinds: Vec<_> = found.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [WarningKind::NodeUnable, WarningKind::NodeKeysDiffer]);
        assert!(found[0].2.starts_with("Node b ") && found[1].2.starts_with("Node c "), "{found:?}");
        assert_eq!(warnings(&view([KnownNode { is_alive: false, ..unable }]), 0), []);
        let mut own = view([node("b")]);
        own.nodes = [KnownNode { reads: Readable { settings: false, keys: true }, ..node("a") }].into();
        assert_eq!(warnings(&own, 0)[0].0, WarningKind::NodeUnable);
    }

    #[test]
    fn clocks_that_differ_are_reported_for_each_node() {
        let ahead = |name, clock_ahead_seconds| KnownNode { clock_ahead_seconds, ..node(name) };
        let found = warnings(&view([ahead("b", 5), ahead("c", -70)]), 0);
        assert!(found.iter().all(|(kind, ..)| *kind == WarningKind::NodeClockDiffers));
        assert!(found[0].2.starts_with("Node b has a clock that is 5 s ahead of that"), "{found:?}");
        assert!(
            found[1].2.starts_with("Node c has a clock that is 70 s behind that") && found[1].1 > found[0].1
        );
    }

    #[test]
    fn a_standby_reports_nothing() {
        let unable = KnownNode { reads: Readable { settings: false, keys: false }, ..node("c") };
        let standby = NodeView { role: NodeRole::Standby, ..view([away_node("b", 60), unable]) };
        assert_eq!(warnings(&standby, 100), []);
    }
}
