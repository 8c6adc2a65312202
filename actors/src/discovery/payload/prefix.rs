//! The topic prefix as a part of identifiers, so that several services can share a broker.

use std::fmt::Write as _;

use crate::domain::topic::TopicPrefix;

pub(super) const DEFAULT_PREFIX: &str = "liveobject";

/// Encodes a topic prefix for identifiers and discovery topics, or returns `None` for the default prefix, which
/// is omitted. Different prefixes have different encodings. Each `_` in it is followed by two hexadecimal
/// digits, so the encoding ends where two `_` follow each other.
pub(super) fn encoded(prefix: &TopicPrefix) -> Option<String> {
    let prefix = prefix.as_str();
    (prefix != DEFAULT_PREFIX).then(|| {
        let mut encoded = String::with_capacity(prefix.len());
        for byte in prefix.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                encoded.push(char::from(byte));
            } else {
                let _infallible = write!(encoded, "_{byte:02x}");
            }
        }
        encoded
    })
}
