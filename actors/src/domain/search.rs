//! What to look for in the event log: cameras, an object, words, a period.

use std::collections::BTreeSet;

use serde::Deserialize;
use unicode_normalization::{UnicodeNormalization as _, char::decompose_canonical};

use crate::domain::{
    clock::Timestamp,
    event_log::StoredEvent,
    ids::{CameraId, Seq},
};

/// Maximum number of cameras in a query.
pub const MAX_CAMERAS: usize = 32;
/// Maximum length of a text to search for, in characters.
pub const MAX_TEXT_CHARS: usize = 200;
/// Maximum number of different words in a text to search for.
pub const MAX_WORDS: usize = 8;
/// Maximum number of different Chinese characters and Japanese syllables in a text to search for, in addition to words.
pub const MAX_CHARACTERS: usize = 32;
/// Maximum length of the name of an object, in bytes.
const MAX_OBJECT_BYTES: usize = 64;
/// Longer words are cut to this many characters, in events and in queries.
const MAX_WORD_CHARS: usize = 32;

/// The text of an event, as far as queries use it.
#[derive(Debug, Default, Deserialize)]
struct Text {
    #[serde(default)]
    camera_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    objects_detected: Vec<String>,
}

/// What a query can find an event by, in addition to its camera and its time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTerms {
    /// The words of its description, of the name of its camera and of its objects.
    pub words: BTreeSet<String>,
    /// Its objects, in lower case.
    pub objects: BTreeSet<String>,
}

impl EventTerms {
    /// Reads them from a payload. A damaged one has none.
    pub fn of(payload: &[u8]) -> Self {
        let text: Text = serde_json::from_slice(payload).unwrap_or_default();
        let objects: BTreeSet<_> = text.objects_detected.iter().map(|object| folded(object)).collect();
        let texts = [&text.camera_name, &text.description].into_iter().chain(&text.objects_detected);
        Self { words: texts.flat_map(|text| words(text)).collect(), objects }
    }
}

/// Returns the name of an object in the form in which objects are compared.
fn folded(object: &str) -> String {
    object.trim().to_lowercase()
}

/// Returns the words of a text, in lower case and Latin letters without accents: the longest sequences of letters and
/// digits. Each Chinese character and each Japanese syllable is a word, because these languages do not separate words
/// by spaces. The index contains words in this form: after a change of it, a migration must empty `event_blocks`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut length = 0;
    for c in text.nfc().flat_map(char::to_lowercase).filter_map(without_accent) {
        let is_alone = is_word_alone(c);
        if (is_alone || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
            length = 0;
        }
        if is_alone {
            words.push(c.to_string());
        } else if c.is_alphanumeric() && length < MAX_WORD_CHARS {
            word.push(c);
            length += 1;
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Returns a Latin letter without its accents, and any other character unchanged; `None` for an accent of its own.
fn without_accent(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(c);
    }
    if matches!(c, '\u{300}'..='\u{36f}') {
        return None;
    }
    let mut base = None;
    decompose_canonical(c, |part| _ = base.get_or_insert(part));
    base.filter(char::is_ascii_alphabetic).or(Some(c))
}

fn is_word_alone(c: char) -> bool {
    matches!(u32::from(c), 0x3041..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x2_fa1f)
        && c.is_alphanumeric()
}

/// Words to search for. An event matches if it contains all of them; of the last one, the beginning is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchText {
    /// The complete words.
    pub words: BTreeSet<String>,
    /// The beginning of a word.
    pub prefix: String,
}

impl SearchText {
    /// Parses what a person has typed. The error describes what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if length > MAX_TEXT_CHARS {
            return Err(format!("{length} characters, must be at most {MAX_TEXT_CHARS}"));
        }
        let mut words = words(text);
        let prefix = words.pop().ok_or("must contain a letter or a digit")?;
        let words: BTreeSet<_> = words.into_iter().collect();
        let characters = words.iter().filter(|word| word.chars().all(is_word_alone)).count();
        if words.len() - characters >= MAX_WORDS {
            return Err(format!("more than {MAX_WORDS} words"));
        }
        if characters >= MAX_CHARACTERS {
            return Err(format!("more than {MAX_CHARACTERS} Chinese or Japanese characters"));
        }
        Ok(Self { words, prefix })
    }

    fn matches(&self, terms: &EventTerms) -> bool {
        let begins = terms.words.range(self.prefix.clone()..).next();
        begins.is_some_and(|word| word.starts_with(&self.prefix)) && self.words.is_subset(&terms.words)
    }
}

/// Which events to select. An empty filter selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of these cameras, at most [`MAX_CAMERAS`]; of all cameras if it is empty.
    pub cameras: Vec<CameraId>,
    /// Only events with this object, in lower case.
    pub object: Option<String>,
    /// Only events that contain these words.
    pub text: Option<SearchText>,
    /// Only events whose `timestamp` is at or after this time.
    pub from: Option<Timestamp>,
    /// Only events whose `timestamp` is before this time.
    pub to: Option<Timestamp>,
}

impl EventFilter {
    /// Returns whether it selects by more than the camera.
    pub fn needs_search(&self) -> bool {
        self.needs_payload() || self.from.is_some() || self.to.is_some()
    }

    /// Returns whether it selects by the payload.
    pub fn needs_payload(&self) -> bool {
        self.object.is_some() || self.text.is_some()
    }

    /// Returns whether it selects this event.
    pub fn matches(&self, event: &StoredEvent) -> bool {
        let at = event.times.occurred_at;
        let is_of_camera = self.cameras.is_empty() || self.cameras.contains(&event.camera_id);
        let is_in_time = self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to);
        is_of_camera
            && is_in_time
            && (!self.needs_payload() || self.matches_terms(&EventTerms::of(&event.payload)))
    }

    fn matches_terms(&self, terms: &EventTerms) -> bool {
        self.object.as_ref().is_none_or(|object| terms.objects.contains(object))
            && self.text.as_ref().is_none_or(|text| text.matches(terms))
    }
}

/// Parses the name of an object to look for. The error describes what is wrong with it.
pub fn parse_object(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        n if n > MAX_OBJECT_BYTES => Err(format!("{n} bytes, must be at most {MAX_OBJECT_BYTES}")),
        _ => Ok(folded(text)),
    }
}

/// A question for the number of events in each step of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DensityQuery {
    /// The beginning of the first step.
    pub from: Timestamp,
    /// The end of the last step.
    pub to: Timestamp,
    /// The length of a step in seconds, at least 1. The last step may be shorter.
    pub step_seconds: u32,
    /// Which events to count. Its times are not used.
    pub filter: EventFilter,
    /// Only events with a lower `seq`.
    pub before: Option<Seq>,
}

/// The number of events in each step of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Density {
    /// One number for each step, in order.
    pub events: Vec<u64>,
    /// Older events are not counted yet if it is set: repeat the question with this `before`, and add the numbers.
    pub next_before: Option<Seq>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> SearchText {
        SearchText::parse(text).unwrap()
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            words("A red CAR, plate AB-123: it's Ärger."),
            ["a", "red", "car", "plate", "ab", "123", "it", "s", "arger"]
        );
        assert_eq!(words(" \t-!"), [""; 0]);
        assert_eq!(words("门口有人 at 3"), ["门", "口", "有", "人", "at", "3"]);
        assert_eq!(words(&"x".repeat(40)), ["x".repeat(32)]);
    }

    #[test]
    fn accents_of_latin_letters_make_no_difference() {
        for text in ["Café", "CAFÉ", "Cafe\u{301}", "cafe"] {
            assert_eq!(words(text), ["cafe"], "{text}");
        }
        assert_eq!(words("Tür İstanbul Việt naïve ǖ"), ["tur", "istanbul", "viet", "naive", "u"]);
        // These are other letters, or other syllables.
        assert_eq!(words("Straße Øre Łódź чай がか"), ["straße", "øre", "łodz", "чай", "が", "か"]);
        assert_eq!(words("か\u{3099}"), ["が"]);
        assert_eq!(words("\u{301}"), [""; 0]);
    }

    #[test]
    fn a_sentence_in_chinese_or_japanese_is_a_query() {
        let terms = EventTerms::of(r#"{"description":"门口有一个人拿着包裹"}"#.as_bytes());
        assert!(search("门口有一个人拿着包裹").matches(&terms));
        assert!(!search("门口有一个人拿着包裹在").matches(&terms));
        search("玄関に荷物を持った人がいます");
        let characters = |count: u32| (0x4e00..0x4e00 + count).filter_map(char::from_u32).collect::<String>();
        search(&characters(32));
        let error = SearchText::parse(&characters(33)).unwrap_err();
        assert_eq!(error, "more than 32 Chinese or Japanese characters");
        search(&format!("a b c d e f g {}", characters(32)));
        assert_eq!(SearchText::parse("a b c d e f g h 门 i").unwrap_err(), "more than 8 words");
    }

    #[test]
    fn a_query_is_bounded_and_has_a_word() {
        assert_eq!(SearchText::parse("").unwrap_err(), "must contain a letter or a digit");
        assert_eq!(SearchText::parse("?!").unwrap_err(), "must contain a letter or a digit");
        assert_eq!(SearchText::parse(&"x".repeat(201)).unwrap_err(), "201 characters, must be at most 200");
        assert_eq!(SearchText::parse("a b c d e f g h i").unwrap_err(), "more than 8 words");
        assert_eq!(search("a a a a a a a a a b").words.len(), 1);
        assert_eq!(parse_object("").unwrap_err(), "must not be empty");
        assert_eq!(parse_object(&"x".repeat(65)).unwrap_err(), "65 bytes, must be at most 64");
        assert_eq!(parse_object("Person").unwrap(), "person");
    }

    #[test]
    fn all_words_must_match_and_the_last_one_by_its_beginning() {
        let payload = br#"{"camera_name":"Front Door","description":"Person with a package",
            "objects_detected":["Delivery van"]}"#;
        let terms = EventTerms::of(payload);
        for found in ["person", "pers", "package person", "FRONT pack", "a", "delivery", "van"] {
            assert!(search(found).matches(&terms), "{found}");
        }
        for missing in ["pers package", "persons", "erson", "person dog", "packages person"] {
            assert!(!search(missing).matches(&terms), "{missing}");
        }
        assert_eq!(terms.objects, BTreeSet::from(["delivery van".to_owned()]));
        assert_eq!(EventTerms::of(b"damaged"), EventTerms::default());
    }
}
