//! The Grafana dashboard, the Prometheus alert rules and the documented table of metrics, compared with what the
//! service exports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use liveobject_test_support::wait_until;

use crate::helpers::{Pair, TIMEOUT, service, try_get};

const RULES: &str = "packaging/prometheus/liveobject.rules.yml";
const RULE_TESTS: &str = "packaging/prometheus/liveobject.test.yml";
const DASHBOARD: &str = "packaging/grafana/liveobject.json";
/// Labels that Prometheus adds, and the one of histograms.
const COMMON_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Names of samples, each with the labels that it has.
type Exported = BTreeMap<String, BTreeSet<String>>;

/// Returns what a new service with a TLS certificate exports.
async fn exported() -> (Exported, String) {
    let pair = Pair::new();
    let certificate = pair.renew();
    let mut service = service().config(&pair.config()).build();
    service.spawn();
    let port = service.port();
    let get = async || try_get(port, &certificate, "/metrics", "").await;
    wait_until("the service responds over TLS", TIMEOUT, async || get().await.is_ok()).await;
    let response = get().await.expect("a response").text;
    let (_, text) = response.split_once("\r\n\r\n").expect("a body");
    let mut exported = Exported::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = selector(line);
        exported.entry(name.to_owned()).or_default().extend(labels);
    }
    assert!(exported.contains_key("mqtt_connection_status"), "{text}");
    (exported, text.to_owned())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the name at the beginning of a text and the labels in the braces behind it.
fn selector(text: &str) -> (&str, Vec<String>) {
    let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let Some(rest) = rest.strip_prefix('{') else { return (name, Vec::new()) };
    // The parts between quotation marks, every second one of which is a value, until the brace after a value.
    let mut labels = Vec::new();
    for part in rest.split('"').step_by(2) {
        let (part, ends) = part.split_once('}').map_or((part, false), |(part, _)| (part, true));
        let label = part.trim_matches(|c| !is_name(c));
        labels.extend((!label.is_empty()).then(|| label.to_owned()));
        if ends {
            break;
        }
    }
    (name, labels)
}

/// Returns the metrics in a PromQL expression, with the labels in their selectors and in `by`.
fn metrics_in(expression: &str) -> Vec<(String, Vec<String>)> {
    let grouped: Vec<_> = expression
        .split("by (")
        .skip(1)
        .flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','))
        .map(|label| label.trim().to_owned())
        .collect();
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, c) in expression.char_indices() {
        let rest = &expression[at..];
        let prefixes = ["liveobject_", "mqtt_", "process_"];
        if !is_name(before) && prefixes.iter().any(|prefix| rest.starts_with(prefix)) {
            let (name, labels) = selector(rest);
            found.push((name.to_owned(), [labels, grouped.clone()].concat()));
        }
        before = c;
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the file can be read")
}

/// Returns the expressions of the dashboard's panels and variables.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (key, member) in members {
                match member.as_str() {
                    Some(text) if ["expr", "query"].contains(&key.as_str()) => found.push(text.to_owned()),
                    _ => expressions(member, found),
                }
            }
        }
        serde_json::Value::Array(elements) => elements.iter().for_each(|element| expressions(element, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_metric_in_the_dashboard_and_in_the_alert_rules_is_exported_with_the_labels_used() {
    let (exported, _) = exported().await;
    let dashboard = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.extend(read(RULES).split("- alert: ").skip(1).map(str::to_owned));
    let mut used = BTreeSet::new();
    for (name, labels) in found.iter().flat_map(|expression| metrics_in(expression)) {
        let present = exported.get(&name).unwrap_or_else(|| panic!("{name} is not exported"));
        let known = |label: &String| COMMON_LABELS.contains(&label.as_str()) || present.contains(label);
        for label in labels.iter().filter(|label| !known(label)) {
            panic!("{name} has no label {label}; it has {present:?}");
        }
        assert!(!exported.contains_key(&format!("liveobject_{name}")), "{name} is an old name");
        used.insert(name);
    }
    assert!(used.len() > 20, "{used:?}");
}

#[test]
fn a_selector_is_split_into_its_name_and_labels() {
    let expression =
        r#"sum by (le, a) (rate(liveobject_x_total{route=~"/a,{b}", status!="5"}[5m])) > mqtt_y"#;
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>();
    let expected = vec![
        ("liveobject_x_total".to_owned(), labels(&["route", "status", "le", "a"])),
        ("mqtt_y".to_owned(), labels(&["le", "a"])),
    ];
    assert_eq!(metrics_in(expression), expected);
}

#[tokio::test]
async fn the_documentation_lists_exactly_the_metrics_of_the_service() {
    let (_, text) = exported().await;
    let families = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let current: BTreeSet<_> =
        families.filter(|(_, help)| !help.starts_with("Replaced by ")).map(|(name, _)| name).collect();
    let page = read("docs/operation.md");
    let (_, section) = page.split_once("\n## Metrics\n").expect("a section");
    let (table, _) = section.split_once("\n### ").unwrap_or((section, ""));
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: BTreeSet<_> =
        rows.flat_map(|names| names.split("`, `")).map(|name| selector(name).0).collect();
    assert_eq!(documented, current);
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests() {
    let promtool = |arguments: [&str; 2], file: &str| {
        let file = Path::new(file);
        let output = Command::new("promtool")
            .current_dir(root().join(file.parent().expect("a directory")))
            .args(arguments)
            .arg(file.file_name().expect("a name"))
            .output()
            .expect("promtool is installed");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    };
    promtool(["check", "rules"], RULES);
    promtool(["test", "rules"], RULE_TESTS);
    let (rules, tests, page) = (read(RULES), read(RULE_TESTS), read("docs/operation.md"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}")), "{name} has no test");
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
}
