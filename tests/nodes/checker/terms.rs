//! Checks of the ownership: at the broker, and in the database.

use std::time::Duration;

use crate::records::{Records, Session, Term};

/// Returns the messages that reached the broker after one of a later term. A session belongs to the last term of its
/// node that had begun when it was opened.
pub fn stale_publications(records: &Records) -> Vec<String> {
    let term_of = |session: &Session| {
        let is_own = |term: &Term| term.node == Some(session.node) && term.at <= session.began;
        records.terms.iter().rposition(is_own)
    };
    let terms: Vec<_> = records.sessions.iter().map(term_of).collect();
    let mut latest: Option<(usize, usize)> = None;
    let mut cases = Vec::new();
    for publication in &records.publishes {
        let session = publication.session;
        let describe =
            || format!("{} of session {session} ({:?})", publication.topic, records.sessions[session]);
        match (terms[session], latest) {
            (None, _) => cases.push(format!("{}: the node had not owned the log", describe())),
            (Some(term), Some((highest, by))) if term < highest => {
                cases.push(format!("{}: after session {by} ({:?})", describe(), records.sessions[by]));
            }
            (Some(term), _) => latest = Some((term, session)),
        }
    }
    cases
}

/// Returns the groups of events that were committed in another term than that of their connection, or in none. A node
/// opens new connections for each term.
pub fn stale_writes(records: &Records) -> Vec<String> {
    let mut cases = Vec::new();
    for write in &records.writes {
        let Some(current) = index_at(&records.terms, write.at) else { continue };
        let Some((node, connected)) = write.writer else { continue };
        let is_own = |term: &Term| term.node == Some(node) && term.at <= connected;
        // The first term began before it was recorded.
        let own = records.terms.iter().rposition(is_own).unwrap_or(0);
        if own != current || records.terms[own].node != Some(node) {
            cases.push(format!(
                "seq {} to {}, committed at {:.3?} by node {node}, connected at {connected:.3?}; the owner was {:?}",
                write.first, write.last, write.at, records.terms[current]
            ));
        }
    }
    cases
}

/// Returns the owner at this time; `None` before the first known one.
pub fn owner_at(terms: &[Term], at: Duration) -> Option<&Term> {
    index_at(terms, at).map(|index| &terms[index])
}

fn index_at(terms: &[Term], at: Duration) -> Option<usize> {
    terms.iter().take_while(|term| term.at <= at).count().checked_sub(1)
}
