//! QR codes for the page.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// The margin that scanners need, in modules.
const MARGIN: usize = 4;

/// Returns the QR code of a link as SVG, dark on white. `None` if the link is too long for a QR code.
pub(super) fn svg(link: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::M).ok()?;
    let width = code.width();
    let size = width + 2 * MARGIN;
    let mut path = String::new();
    for (i, _) in code.to_colors().iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        // Writing to a string does not fail.
        let _ = write!(path, "M{} {}h1v1h-1z", i % width + MARGIN, i / width + MARGIN);
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_has_its_three_finder_patterns_and_a_margin() {
        let svg = svg("http://192.168.1.5:8080/#code=00").unwrap();
        let is_dark = |x: usize, y: usize| svg.contains(&format!("M{x} {y}h1v1h-1z"));
        let size: usize =
            svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let end = size - MARGIN - 1;
        for (x, y) in [(MARGIN, MARGIN), (end, MARGIN), (MARGIN, end)] {
            assert!(is_dark(x, y), "{x} {y}: {svg}");
        }
        assert!(!(0..size).any(|i| is_dark(i, MARGIN - 1) || is_dark(end + 1, i)));
    }

    #[test]
    fn a_link_that_does_not_fit_has_no_code() {
        assert_eq!(svg(&"x".repeat(10_000)), None);
    }
}
