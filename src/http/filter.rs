//! The parameters that select events, for lists and counts.

use liveobject_actors::{
    CameraId,
    domain::{
        clock::Timestamp,
        fields::Faults,
        search::{EventFilter, MAX_CAMERAS, SearchText, parse_object},
    },
};

/// Reads one parameter. Returns whether it is one of a filter. Periods are read elsewhere.
pub(super) fn read(filter: &mut EventFilter, name: &str, value: &str, faults: &mut Faults) -> bool {
    match name {
        "camera_id" => filter.cameras = faults.check(name, cameras(value)).unwrap_or_default(),
        "object" => filter.object = faults.check(name, parse_object(value)),
        "q" => filter.text = faults.check(name, SearchText::parse(value)),
        _ => return false,
    }
    true
}

/// Adds a fault unless the period begins before it ends.
pub(super) fn check_period(from: Option<Timestamp>, to: Option<Timestamp>, mut faults: Faults) -> Faults {
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        faults.push("to", "must be after from");
    }
    faults
}

/// Parses ids that are separated by commas.
fn cameras(text: &str) -> Result<Vec<CameraId>, String> {
    let mut cameras = text.split(',').map(CameraId::parse).collect::<Result<Vec<_>, _>>()?;
    cameras.sort_unstable();
    cameras.dedup();
    match cameras.len() {
        number if number > MAX_CAMERAS => Err(format!("{number} cameras, must be at most {MAX_CAMERAS}")),
        _ => Ok(cameras),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_32_cameras_are_separated_by_commas() {
        let ids = |number: usize| (0..number).map(|i| format!("c{i:02}")).collect::<Vec<_>>().join(",");
        assert_eq!(cameras(&ids(32)).unwrap().len(), 32);
        assert_eq!(cameras(&ids(33)).unwrap_err(), "33 cameras, must be at most 32");
        assert_eq!(cameras("b,a,b").unwrap(), [CameraId::parse("a").unwrap(), CameraId::parse("b").unwrap()]);
        assert!(cameras("a,").is_err());
    }
}
