//! The Grafana dashboard, the Prometheus alert rules and the documented table of metrics, compared with what the
//! service exports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use liveobject_test_support::{Postgres, wait_until};

use crate::helpers::{Pair, TIMEOUT, service, try_get};

const RULES: &str = "packaging/prometheus/liveobject.rules.yml";
const RULE_TESTS: &str = "packaging/prometheus/liveobject.test.yml";
const DASHBOARD: &str = "packaging/grafana/liveobject.json";
/// Labels that Prometheus adds, and the one of histograms.
const COMMON_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Keywords of queries before a list of labels.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// The other keywords of queries, and the metric that Prometheus adds itself.
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "up"];

/// Names of samples, each with the labels that it has.
type Exported = BTreeMap<String, BTreeSet<String>>;

/// Returns what a new service with a TLS certificate exports. Its database is at this URL, or is a file.
async fn exported(database: Option<String>) -> (Exported, String) {
    let pair = Pair::new();
    let certificate = pair.renew();
    let mut builder = service().config(&pair.config());
    if let Some(url) = database {
        builder = builder.env("LIVEOBJECT__DATABASE__URL", url);
    }
    let mut service = builder.build();
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

/// Returns the metrics in a query, with the labels in their selectors and those that the expression groups
/// or matches by. Every name is a metric unless it is a function, a keyword, or within braces, brackets or a grouping.
fn metrics_in(expression: &str) -> Vec<(String, Vec<String>)> {
    let (mut found, mut grouped) = (Vec::new(), Vec::new());
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let (name, labels) = selector(rest);
        let behind = &rest[name.len()..];
        rest = if name.is_empty() {
            match c {
                '{' => skip_to(rest, '}'),
                '[' => skip_to(rest, ']'),
                _ => &rest[c.len_utf8()..],
            }
        } else if GROUPINGS.contains(&name) {
            let end = skip_to(behind, ')');
            let names = behind[..behind.len() - end.len()].split(|c| !is_name(c));
            grouped.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            end
        } else {
            // An aggregation may have its grouping before its arguments.
            let is_function =
                ["(", "by ", "without "].iter().any(|next| behind.trim_start().starts_with(next));
            if !is_function && !KEYWORDS.contains(&name) && !name.starts_with(|c: char| c.is_ascii_digit()) {
                found.push((name.to_owned(), labels));
            }
            behind
        };
    }
    found.into_iter().map(|(name, labels)| (name, [labels, grouped.clone()].concat())).collect()
}

/// Returns the text behind the first `end` that is not in quotation marks.
fn skip_to(text: &str, end: char) -> &str {
    let mut is_quoted = false;
    let is_end = |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c == end
    };
    text.find(is_end).map_or("", |at| &text[at + 1..])
}

/// Returns the expressions of the alert rules.
fn rule_expressions() -> Vec<String> {
    let rules = read(RULES);
    let expression = |rule: &str| {
        let (_, rest) = rule.split_once("expr: ").expect("an expression");
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|key| rest.find(key)).min();
        rest[..end.expect("an end")].trim_start_matches(">-").to_owned()
    };
    rules.split("- alert: ").skip(1).map(expression).collect()
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
                    Some(text) if key == "expr" => found.push(text.to_owned()),
                    // `label_values(METRIC, LABEL)`
                    Some(text) if key == "query" && text.starts_with("label_values(") => {
                        let arguments = text.trim_start_matches("label_values(");
                        found.push(arguments.rsplit_once(',').expect("two arguments").0.to_owned());
                    }
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
    let postgres = Postgres::shared();
    let (mut all, _) = exported(None).await;
    all.append(&mut exported(Some(postgres.url(&postgres.create_database()))).await.0);
    let exported = all;
    let dashboard = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 20, "{found:?}");
    found.extend(rule_expressions());
    let mut used = BTreeSet::new();
    for (name, labels) in found.iter().flat_map(|expression| metrics_in(expression)) {
        let present = exported.get(&name).unwrap_or_else(|| panic!("{name} is not exported"));
        let known = |label: &String| COMMON_LABELS.contains(&label.as_str()) || present.contains(label);
        let unknown: Vec<_> = labels.iter().filter(|label| !known(label)).collect();
        assert!(unknown.is_empty(), "{name} has no label {unknown:?}; it has {present:?}");
        assert!(!exported.contains_key(&format!("liveobject_{name}")), "{name} is an old name");
        used.insert(name);
    }
    assert!(used.len() > 20, "{used:?}");
}

#[test]
fn a_selector_is_split_into_its_name_and_labels() {
    let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>();
    let expression = r#"sum by (le, a) (rate(x_total{route=~"/a,{b}", status!="5"}[5m])) > 2 * y or up == 0"#;
    let expected = vec![
        ("x_total".to_owned(), labels(&["route", "status", "le", "a"])),
        ("y".to_owned(), labels(&["le", "a"])),
    ];
    assert_eq!(metrics_in(expression), expected);
}

#[tokio::test]
async fn the_documentation_lists_exactly_the_metrics_of_the_service() {
    let (_, text) = exported(None).await;
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
