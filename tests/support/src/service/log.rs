//! Reads the service's JSON log line by line.

use std::net::SocketAddr;

use serde_json::Value;

/// Returns the lines that are JSON objects. If a line nests its fields in an object `fields`, they are moved
/// to the top level.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| {
        let mut line: Value = serde_json::from_str(line).ok()?;
        let top = line.as_object_mut()?;
        if let Some(Value::Object(fields)) = top.remove("fields") {
            top.extend(fields);
        }
        Some(line)
    })
}

/// Returns the port from the latest line that reports where the service listens.
pub(super) fn listening_port(text: &str) -> Option<u16> {
    let listening = lines(text).filter(|line| line["message"] == "listening").last()?;
    let address: SocketAddr = listening["address"].as_str()?.parse().ok()?;
    Some(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_flat_and_nested_lines() {
        let flat = r#"{"level":"INFO","message":"listening","address":"127.0.0.1:8080"}"#;
        let nested = r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:8081"}}"#;
        assert_eq!(listening_port(flat), Some(8080));
        assert_eq!(listening_port(&format!("not JSON\n{flat}\n{nested}\n")), Some(8081));
    }

    #[test]
    fn incomplete_and_unrelated_lines_are_ignored() {
        assert_eq!(listening_port(r#"{"message":"listening","addre"#), None);
        assert_eq!(listening_port(r#"{"message":"connected","address":"127.0.0.1:1883"}"#), None);
    }
}
