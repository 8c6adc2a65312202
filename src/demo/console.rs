//! Formats a received MQTT message as one line for a terminal.
//!
//! No control character, escape sequence or invisible character of a topic or a payload reaches the terminal,
//! and a line is not much longer than a screen is wide.

use std::fmt::Write as _;

use chrono::{DateTime, Local};

use super::summary::{Summary, Tone};
use crate::terminal::is_harmless;

/// Maximum number of characters that are shown of a topic.
const TOPIC_LIMIT: usize = 80;
/// Maximum number of characters that are shown of a payload.
const TEXT_LIMIT: usize = 140;

const DIM: &str = "\x1b[2m";
const BLUE: &str = "\x1b[36m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What is shown, and how.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether all messages are shown, with their topics. Otherwise only events are.
    pub shows_all: bool,
    pub has_color: bool,
}

impl Style {
    /// Returns the line for a message, without its line feed: time, topic, and a summary of the payload. Returns `None`
    /// if the message is not shown.
    ///
    /// Payloads of liveobject are summarized, other text is shown unchanged, and other bytes are shown as their
    /// size.
    pub fn line(self, at: DateTime<Local>, topic: &str, payload: &[u8], retained: bool) -> Option<String> {
        let summary = Summary::of(payload);
        (self.shows_all || summary.tone == Tone::Event).then(|| self.format(at, topic, summary, retained))
    }

    fn format(self, at: DateTime<Local>, topic: &str, summary: Summary, retained: bool) -> String {
        let paint = |color_on: &'static str| if self.has_color { (color_on, PLAIN) } else { ("", "") };
        let (dim, dim_end) = paint(DIM);
        let (blue, blue_end) = paint(BLUE);
        let mut line = format!("{dim}{}{dim_end} ", at.format("%H:%M:%S"));
        if self.shows_all {
            // Writing to a String cannot fail.
            let _ = write!(line, "{blue}{}{blue_end}  ", clean(topic, TOPIC_LIMIT));
        }
        let Summary { text, tone, marks } = summary;
        let (tone, tone_end) = match tone {
            Tone::Event => paint(GREEN),
            Tone::State => paint(DIM),
            Tone::Other => ("", ""),
        };
        let _ = write!(line, "{tone}{}{tone_end}", clean(&text, TEXT_LIMIT));
        let (yellow, yellow_end) = paint(YELLOW);
        for mark in marks {
            let _ = write!(line, " {yellow}[{mark}]{yellow_end}");
        }
        if retained {
            let _ = write!(line, " {dim}[retained]{dim_end}");
        }
        line
    }
}

/// Returns the text in one line of at most `limit` characters. White space becomes single spaces, characters
/// that a terminal could interpret or hide become `·`, and a truncated line ends with `…`.
fn clean(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut room = limit;
    for word in text.split_whitespace() {
        for c in (!line.is_empty()).then_some(' ').into_iter().chain(word.chars()) {
            if room == 0 {
                // Replace the last character.
                line.pop();
                line.push('…');
                return line;
            }
            room -= 1;
            line.push(if is_harmless(c) { c } else { '·' });
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    const EVENT: &str = r#"{"event_id":"1","camera_id":"front_door","camera_name":"Front Door","seq":7,
        "description":"Person at the \"door\"","objects_detected":["person","package"],"confidence":93}"#;

    const ALL: Style = Style { shows_all: true, has_color: false };

    fn show(topic: &str, payload: impl AsRef<[u8]>) -> String {
        let at = Local.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        ALL.line(at, topic, payload.as_ref(), false).unwrap()
    }

    #[test]
    fn an_event_is_summarized() {
        assert_eq!(
            show("liveobject/camera/front_door/event", EVENT),
            "03:04:05 liveobject/camera/front_door/event  \
             Front Door: Person at the \"door\" (93%, person, package)",
        );
    }

    #[test]
    fn unless_all_messages_are_shown_an_event_has_a_short_line_and_others_have_none() {
        let at = Local.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        let short = |payload: &[u8]| {
            Style { shows_all: false, ..ALL }.line(at, "liveobject/camera/a/event", payload, false)
        };
        assert_eq!(
            short(EVENT.as_bytes()).unwrap(),
            "03:04:05 Front Door: Person at the \"door\" (93%, person, package)"
        );
        for other in [&br#"{"camera_id":"a","state":"ON"}"#[..], b"online", b"\xff\xd8\xff", b""] {
            assert_eq!(short(other), None);
        }
    }

    #[test]
    fn late_events_and_replays_are_marked() {
        let late = EVENT.replace("\"seq\"", "\"late\":true,\"seq\"");
        assert!(show("t", &late).ends_with("(93%, person, package) [late]"));
        let replay = late.replace("\"seq\"", "\"replay\":true,\"seq\"");
        assert!(show("t", replay).ends_with("[late] [replay]"));
    }

    #[test]
    fn a_retained_message_is_marked() {
        let at = Local.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        assert_eq!(ALL.line(at, "t", b"online", true).unwrap(), "03:04:05 t  online [retained]");
    }

    #[test]
    fn other_json_is_shown_unchanged() {
        assert_eq!(
            show("t", "{\"camera_id\":\"x\",\n \"mood\":\"ON\"}"),
            "03:04:05 t  {\"camera_id\":\"x\", \"mood\":\"ON\"}"
        );
    }

    #[test]
    fn pictures_and_other_bytes_are_shown_as_their_size() {
        assert!(show("t", b"\xff\xd8\xff\xe0....").ends_with("(JPEG picture, 8 bytes)"));
        assert!(show("t", [&b"\x89PNG"[..], &[0; 8_296]].concat()).ends_with("(PNG picture, 8.3 kB)"));
        assert!(show("t", b"\xfe\x01").ends_with("(2 bytes of data)"));
        assert!(show("t", b"").ends_with("(empty)"));
    }

    #[test]
    fn a_long_text_is_truncated_at_a_character() {
        let shown = show("t", "ä".repeat(5_000));
        assert_eq!(shown, format!("03:04:05 t  {}…", "ä".repeat(TEXT_LIMIT - 1)));
        assert_eq!(show("t", "ä".repeat(TEXT_LIMIT)), format!("03:04:05 t  {}", "ä".repeat(TEXT_LIMIT)));
        assert!(show(&"t/".repeat(1_000), "x").chars().count() < 100);
    }

    #[test]
    fn no_control_character_of_a_message_reaches_the_terminal() {
        let evil = "a\x1b[2J\x1b]0;title\x07b\r\nc\u{9b}31m\u{202e}d\u{200b}e\0f\x7f\u{85}g";
        let json = serde_json::json!({
            "camera_name": evil, "description": evil, "objects_detected": [evil], "confidence": 1
        });
        for payload in [evil.to_owned(), json.to_string()] {
            let shown = show(evil, payload);
            assert!(shown.chars().all(is_harmless), "{shown:?}");
            assert!(shown.contains("a·[2J·]0;title·b"), "{shown:?}");
        }
    }

    #[test]
    fn colors_are_switched_off_again_and_change_nothing_else() {
        let at = Local.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        let plain = ALL.line(at, "t", EVENT.as_bytes(), true).unwrap();
        let style = Style { has_color: true, ..ALL };
        let mut shown = style.line(at, "t", EVENT.as_bytes(), true).unwrap();
        assert!(shown.matches(PLAIN).count() == 4 && shown.ends_with(PLAIN));
        for code in [DIM, BLUE, GREEN, YELLOW, PLAIN] {
            shown = shown.replace(code, "");
        }
        assert_eq!(shown, plain);
    }
}
