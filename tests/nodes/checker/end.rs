//! Checks of the final state.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::records::Records;

pub fn miscounted(records: &Records) -> Vec<String> {
    let mut logged = BTreeMap::<&str, u64>::new();
    for row in &records.end.log {
        *logged.entry(&row.camera).or_default() += 1;
    }
    let counted: BTreeMap<_, _> =
        records.end.counted.iter().map(|(camera, count)| (camera.as_str(), *count)).collect();
    let case = || format!("the log contains {logged:?}, and {counted:?} are counted");
    (!counted.is_empty() && logged != counted).then(case).into_iter().collect()
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
