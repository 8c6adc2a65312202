//! Checks of the final state.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::records::Records;

pub fn miscounted(records: &Records) -> Vec<String> {
    let (logged, counted) = (records.end.log.len(), records.end.counted);
    let case = || format!("{logged} events are in the log, and {counted} are counted");
    (i64::try_from(logged) != Ok(counted)).then(case).into_iter().collect()
}

pub fn wrongly_retained(records: &Records) -> Vec<String> {
    let retained = &records.end.retained;
    let text = |topic: &str| retained.get(topic).map(|payload| String::from_utf8_lossy(payload));
    let mut cases = Vec::new();
    let status = text("liveobject/status");
    if status.as_deref() != Some("online") {
        cases.push(format!("the service's status is {status:?}"));
    }
    let mut newest = BTreeMap::new();
    for row in &records.end.log {
        newest.insert(&row.camera, &row.event);
    }
    for (camera, event) in newest {
        let is_config = |topic: &&String| topic.ends_with("/config") && topic.contains(camera.as_str());
        let configs: Vec<_> = retained.keys().filter(is_config).collect();
        if configs.len() != 1 {
            cases.push(format!("the discovery messages of {camera} are {configs:?}"));
        }
        let last = text(&format!("liveobject/camera/{camera}/last_event")).unwrap_or_default();
        let shown = serde_json::from_str::<Value>(&last).unwrap_or_default();
        if shown["event_id"] != *event {
            cases.push(format!("the last event of {camera} is {event}, and {shown} is retained"));
        }
    }
    cases
}
