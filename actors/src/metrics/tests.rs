use super::*;

#[test]
fn every_documented_metric_is_exposed() {
    let metrics = Metrics::new();
    metrics.count_error("refused");
    metrics.events_dead.get_or_create(&ReasonLabel { reason: "expired" }).inc();
    metrics.set_certificate_ends("broker", Some(clock::from_micros(1_777_636_800_500_000)));
    metrics.set_certificate_ends("client", Some(clock::now()));
    metrics.set_certificate_ends("client", None);
    metrics.database_bytes.set(5);
    let text = metrics.encode(Format::OpenMetrics).unwrap();
    // It is missing until it is known.
    assert!(!text.contains("\nliveobject_disk_free_bytes "), "{text}");
    assert!(!text.contains("certificate=\"client\""), "{text}");
    for line in [
        "liveobject_certificate_expiry_timestamp_seconds{certificate=\"broker\"} 1777636800",
        "mqtt_connection_status 0",
        "mqtt_messages_published_total 0",
        "mqtt_publish_errors_total{reason=\"refused\"} 1",
        "mqtt_reconnect_attempts_total 0",
        "liveobject_events_accepted_total 0",
        "liveobject_outbox_pending_events 0",
        "liveobject_outbox_oldest_pending_seconds 0.0",
        "liveobject_outbox_in_flight_events 0",
        "liveobject_events_late_total 0",
        "liveobject_replayed_events_total 0",
        "liveobject_events_unheard_total 0",
        "liveobject_events_held 0",
        "liveobject_events_heard_after_waiting_total 0",
        "liveobject_events_dead_total{reason=\"expired\"} 1",
        "liveobject_outbox_dead_events 0",
        "liveobject_outbox_max_pending 0",
        "liveobject_database_bytes 5",
        "liveobject_outbox_commit_seconds_count 0",
        "liveobject_event_delivery_seconds_count 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn every_known_reason_is_counted_from_zero() {
    let text = Metrics::new().encode(Format::OpenMetrics).unwrap();
    for reason in ["not_authorized", "packet_too_large", "quota_exceeded", "unspecified_error"] {
        let line = format!("mqtt_publish_errors_total{{reason=\"{reason}\"}} 0");
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    for reason in DeadReason::ALL.map(DeadReason::as_str) {
        let line = format!("liveobject_events_dead_total{{reason=\"{reason}\"}} 0");
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn the_format_of_prometheus_has_the_same_samples_and_the_names_with_suffixes() {
    let metrics = Metrics::new();
    // Without those of the process, which change all the time.
    let is_sample = |line: &&str| !line.starts_with(['#', 'p']) && !line.contains("disk_written");
    let samples = |text: &str| -> Vec<_> { text.lines().filter(is_sample).map(str::to_owned).collect() };
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert_eq!(samples(&text), samples(&metrics.encode(Format::OpenMetrics).unwrap()));
    for line in [
        "# HELP liveobject_build_info The version of liveobject.",
        "# TYPE liveobject_build_info gauge",
        "# HELP liveobject_events_accepted_total Accepted events, without duplicates.",
        "# TYPE liveobject_events_accepted_total counter",
        "# TYPE liveobject_outbox_pending_events gauge",
        "# TYPE liveobject_outbox_commit_seconds histogram",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("EOF"), "{text}");
}

#[test]
fn the_age_of_the_oldest_pending_event_increases() {
    let metrics = Metrics::new();
    metrics.set_oldest_pending(Some(Duration::from_secs(90)));
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert!(text.contains("liveobject_outbox_oldest_pending_seconds 90."), "{text}");
}

/// Returns the values of all samples of one name, by their labels.
fn samples<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let after = |line: &'t str| {
        let rest = line.strip_prefix(name)?;
        let rest = ["_total", "_bucket", "_sum", "_count", "_info"]
            .iter()
            .find_map(|suffix| rest.strip_prefix(suffix));
        let rest = rest.or_else(|| line.strip_prefix(name))?;
        rest.starts_with([' ', '{']).then_some(rest)
    };
    text.lines().filter_map(after).collect()
}

/// Returns the lines `# TYPE` as names and types.
fn families(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
}

#[test]
fn every_metric_has_a_value_from_the_start_and_begins_with_the_name_of_the_program() {
    let metrics = Metrics::new();
    // These are known when the database is open.
    metrics.database_bytes.set(1);
    metrics.disk_free.set(1);
    let text = metrics.encode(Format::OpenMetrics).unwrap();
    let mut old = 0;
    for (name, _) in families(&text) {
        // Its labels are methods, routes and status codes. The HTTP server creates those that are known.
        let has_labels_of_requests = name.ends_with("http_request_duration_seconds");
        assert!(
            has_labels_of_requests || !samples(&text, name).is_empty(),
            "{name} has no samples in\n{text}"
        );
        let is_own = name.starts_with(PREFIX) || name.starts_with("process_");
        let is_old = text.contains(&format!("# HELP {name} Replaced by {PREFIX}"));
        old += usize::from(is_old);
        let is_specified = [
            "mqtt_connection_status",
            "mqtt_messages_published",
            "mqtt_publish_errors",
            "mqtt_reconnect_attempts",
        ];
        assert!(is_own || is_old || is_specified.contains(&name), "{name}");
    }
    assert!(old > 10, "{text}");
}

#[test]
fn an_old_name_has_the_samples_of_the_new_one_and_its_help_names_it() {
    let metrics = Metrics::new();
    metrics.events_accepted.inc_by(3);
    metrics.events_dead.get_or_create(&ReasonLabel { reason: MISSING }).inc_by(2);
    metrics.event_delivery_seconds.observe(0.1);
    metrics.set_certificate_ends("broker", Some(clock::now()));
    let text = metrics.encode(Format::Prometheus).unwrap();
    let mut replaced = Vec::new();
    for line in text.lines() {
        let Some((old, rest)) =
            line.strip_prefix("# HELP ").and_then(|line| line.split_once(" Replaced by "))
        else {
            continue;
        };
        let (new, _) = rest.split_once(';').unwrap();
        assert_eq!(samples(&text, old), samples(&text, new), "{line}");
        replaced.push((old, new));
    }
    for pair in [
        ("events_accepted_total", "liveobject_events_accepted_total"),
        ("events_dead_total", "liveobject_events_dead_total"),
        ("event_delivery_seconds", "liveobject_event_delivery_seconds"),
        ("mqtt_certificate_expiry_timestamp_seconds", "liveobject_certificate_expiry_timestamp_seconds"),
    ] {
        assert!(replaced.contains(&pair), "{pair:?} is not in {replaced:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_measured() {
    let text = Metrics::new().encode(Format::OpenMetrics).unwrap();
    for (name, kind) in [
        ("liveobject_disk_written_bytes", "counter"),
        ("process_cpu_seconds", "counter"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ] {
        assert!(families(&text).any(|family| family == (name, kind)), "{name} is missing in\n{text}");
        assert_eq!(samples(&text, name).len(), 1, "{name}");
    }
}
