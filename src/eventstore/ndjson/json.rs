//! JSON as it is written: the fields of an object with the text of each value, which a parser of
//! values would lose.
//!
//! `serde_json` says where a value ends and that it is one; it does so without recursion and keeps
//! no more than a byte for each level. What a text means is decoded here, since JSON's texts are of
//! UTF-16 units: half a surrogate pair can stand alone in them, and has to come back.

use super::{DEPTH_MAX, FIELD_COUNT_MAX};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;

/// Why a line says no event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault(String);

impl Fault {
    pub(super) fn new(reason: impl Into<String>) -> Fault {
        Fault(reason.into())
    }

    pub(super) fn reason(&self) -> &str {
        &self.0
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// A text, decoded. There is one way to say each, so texts that mean the same are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Text<'a> {
    /// One that Unicode has.
    Whole(Cow<'a, str>),
    /// One with half a surrogate pair, in UTF-16 units.
    Broken(Vec<u16>),
}

impl<'a> Text<'a> {
    /// The text that `value`, which is JSON, is; `None` if it is something else.
    pub(super) fn of(value: &'a str) -> Option<Text<'a>> {
        let inner = value.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Text::Whole(Cow::Borrowed(inner)));
        }
        let mut units = Vec::with_capacity(inner.len());
        let mut pieces = inner.split('\\');
        units.extend(pieces.next()?.encode_utf16());
        while let Some(piece) = pieces.next() {
            let mut behind = piece.chars();
            let unit = match behind.next() {
                // Two backslashes in a row leave nothing between them; what follows is no escape.
                None => {
                    units.push(u16::from(b'\\'));
                    units.extend(pieces.next()?.encode_utf16());
                    continue;
                }
                Some('u') => {
                    let digits = piece.get(1..5)?;
                    behind = piece.get(5..)?.chars();
                    u16::from_str_radix(digits, 16).ok()?
                }
                Some('b') => 8,
                Some('f') => 12,
                Some('n') => 10,
                Some('r') => 13,
                Some('t') => 9,
                Some(own) => u16::try_from(u32::from(own)).ok()?,
            };
            units.push(unit);
            units.extend(behind.as_str().encode_utf16());
        }
        Some(match String::from_utf16(&units) {
            Ok(text) => Text::Whole(Cow::Owned(text)),
            Err(_) => Text::Broken(units),
        })
    }

    /// The text, if Unicode has it.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Text::Whole(text) => Some(text),
            Text::Broken(_) => None,
        }
    }

    /// As JSON, behind `out`, in ASCII: the one form that is the same whatever wrote it.
    pub(super) fn write_ascii(&self, out: &mut String) {
        out.push('"');
        match self {
            Text::Whole(text) => text.encode_utf16().for_each(|unit| write_unit(out, unit)),
            Text::Broken(units) => units.iter().for_each(|unit| write_unit(out, *unit)),
        }
        out.push('"');
    }

    /// As JSON, behind `out`, in Unicode as far as that has it.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Text::Whole(text) => write_text(out, text),
            Text::Broken(_) => self.write_ascii(out),
        }
    }
}

fn write_unit(out: &mut String, unit: u16) {
    match u8::try_from(unit) {
        Ok(byte) if (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\') => {
            out.push(char::from(byte));
        }
        _ => write_escape(out, unit),
    }
}

fn write_escape(out: &mut String, unit: u16) {
    let short = match unit {
        0x22 => '"',
        0x5C => '\\',
        8 => 'b',
        9 => 't',
        10 => 'n',
        12 => 'f',
        13 => 'r',
        _ => {
            out.push_str("\\u");
            let digit = |shift: u16| char::from_digit(u32::from(unit >> shift & 15), 16);
            out.extend([12, 8, 4, 0].into_iter().filter_map(digit));
            return;
        }
    };
    out.push('\\');
    out.push(short);
}

/// A text as JSON, behind `out`.
pub(super) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut begin = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte < b' ' || matches!(byte, b'"' | b'\\') {
            out.push_str(text.get(begin..at).unwrap_or_default());
            write_escape(out, u16::from(byte));
            begin = at + 1;
        }
    }
    out.push_str(text.get(begin..).unwrap_or_default());
    out.push('"');
}

/// A field of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: Text<'a>,
    /// Its value as it is written.
    pub(super) value: &'a str,
}

/// The fields of the object that `text` is, each name once.
pub(super) fn fields(text: &str) -> Result<Vec<Field<'_>>> {
    if is_deeper_than(text, DEPTH_MAX + 1) {
        return Err(too_deep());
    }
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut names = HashSet::new();
    walk(text, |field| {
        if !names.insert(field.name.clone()) {
            let name = field.name.as_str().unwrap_or("a field");
            return Err(Fault::new(format!("has {name} twice")));
        }
        if fields.len() == FIELD_COUNT_MAX {
            let what = format!("has more than {FIELD_COUNT_MAX} fields");
            return Err(Fault::new(what));
        }
        fields.push(field);
        Ok(())
    })?;
    Ok(fields)
}

/// Whether the object that `text` is has a field of this name.
pub(super) fn has_field(text: &str, name: &str) -> bool {
    // Only an escape can say it otherwise.
    if !text.contains(name) && !text.contains('\\') {
        return false;
    }
    let mut has = false;
    let walked = walk(text, |field| {
        has |= field.name.as_str() == Some(name);
        Ok(())
    });
    walked.is_ok() && has
}

/// Shows the fields of an object in their order.
fn walk<'a>(text: &'a str, mut show: impl FnMut(Field<'a>) -> Result<()>) -> Result<()> {
    let mut at = skip_space(text, 0);
    if !text[at..].starts_with('{') {
        return Err(Fault::new("is not a JSON object"));
    }
    at = skip_space(text, at + 1);
    let mut is_first = true;
    while !text[at..].starts_with('}') {
        if !is_first {
            at = skip_space(text, pass(text, at, ',')?);
        }
        is_first = false;
        if at < text.len() && !text[at..].starts_with('"') {
            return Err(Fault::new("has a field whose name is no text"));
        }
        let name = value_at(text, at)?;
        let lost = || Fault::new("has a field without a name");
        let decoded = Text::of(name).ok_or_else(lost)?;
        at = pass(text, skip_space(text, at + name.len()), ':')?;
        at = skip_space(text, at);
        let value = value_at(text, at)?;
        show(Field {
            name: decoded,
            value,
        })?;
        at = skip_space(text, at + value.len());
    }
    at = skip_space(text, at + 1);
    if at < text.len() {
        return Err(Fault::new(format!(
            "has more behind its object, from byte {at} on"
        )));
    }
    Ok(())
}

/// The values in an array, which is JSON, each as it is written; `None` if it is no array.
pub(super) fn items(array: &str) -> Option<impl Iterator<Item = &str>> {
    let mut at = skip_space(array, usize::from(array.starts_with('[')));
    array
        .starts_with('[')
        .then_some(std::iter::from_fn(move || {
            let item = value_at(array, at).ok()?; // there is none where it ends
            at = skip_space(array, at + item.len());
            at = skip_space(array, at + 1); // behind the comma
            Some(item)
        }))
}

/// The value that begins at `at`, as it is written.
pub(super) fn value_at(text: &str, at: usize) -> Result<&str> {
    let rest = text.get(at..).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(value)) if rest.starts_with(value.get()) => Ok(value.get()),
        Some(Err(error)) => {
            // Its place counts from `at`, and is of no use here.
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let place = at + error.column().saturating_sub(1);
            Err(Fault::new(format!("{what} at byte {place}")))
        }
        _ => Err(Fault::new(format!("expected value at byte {at}"))),
    }
}

fn pass(text: &str, at: usize, expected: char) -> Result<usize> {
    if text[at..].starts_with(expected) {
        return Ok(at + 1);
    }
    Err(Fault::new(format!("expected `{expected}` at byte {at}")))
}

/// The first place at or behind `at` where there is no white space.
pub(super) fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    at + rest.iter().take_while(is_space).count()
}

/// Whether arrays and objects are nested deeper than this. Of what is no JSON it may say anything.
pub(super) fn is_deeper_than(text: &str, depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => {
                let _ = bytes.next();
            }
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

pub(super) fn too_deep() -> Fault {
    Fault::new(format!("is nested deeper than {DEPTH_MAX} levels"))
}

/// The bytes as a text, if they are one value of JSON that an import would take.
pub(super) fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value = only_value(text)?;
    (!is_deeper_than(value, DEPTH_MAX)).then_some(text)
}

/// Whether the bytes are one object of JSON, whole, whatever it says and however deep it is. Of a
/// line without a newline this tells one that was written to its end from one that was cut.
pub(super) fn is_object(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    let value = text.and_then(only_value);
    value.is_some_and(|value| value.starts_with('{'))
}

/// The value that `text` is, without the white space around it.
fn only_value(text: &str) -> Option<&str> {
    let begin = skip_space(text, 0);
    let value = value_at(text, begin).ok()?;
    (skip_space(text, begin + value.len()) == text.len()).then_some(value)
}

/// Writes a value behind `out` on one line. Outside of texts, where alone they can be, line ends
/// are the same as blanks.
pub(super) fn write_on_one_line(out: &mut String, text: &str) {
    let mut pieces = text.split(['\n', '\r']);
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        out.push(' ');
        out.push_str(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(value: &str) -> String {
        let mut out = String::new();
        Text::of(value).unwrap().write_ascii(&mut out);
        out
    }

    #[test]
    fn texts_mean_the_same_however_they_are_written() {
        for (value, expected) in [
            (r#""""#, ""),
            (r#""a""#, "a"),
            (r#""\u0061\"\\\/\b\f\n\r\t""#, "a\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\\\\u0061\\n\\""#, r"\\u0061\n\"),
            (r#""\ud83d\ude00ä\u00E4""#, "😀ää"),
            (r#""\n\\\n\u0041B""#, "\n\\\nAB"),
        ] {
            assert_eq!(Text::of(value).unwrap().as_str(), Some(expected), "{value}");
            let mut written = String::new();
            write_text(&mut written, expected);
            assert_eq!(Text::of(&written), Text::of(value), "{value}");
            assert_eq!(Text::of(&ascii(value)), Text::of(value), "{value}");
        }
        assert_eq!(Text::of("5"), None);
        assert_eq!(Text::of("\""), None);
    }

    #[test]
    fn half_a_pair_comes_back() {
        let text = Text::of(r#""a\ud800ä""#).unwrap();
        assert_eq!(text.as_str(), None);
        assert_eq!(ascii(r#""a\uD800ä""#), r#""a\ud800\u00e4""#);
        assert_eq!(Text::of(r#""\ude00\ud83d""#).unwrap().as_str(), None);
    }

    #[test]
    fn ascii_has_the_form_that_python_gives() {
        let all: String = (0..0x250).filter_map(char::from_u32).collect();
        let mut out = String::new();
        Text::Whole(Cow::Borrowed(&all)).write_ascii(&mut out);
        assert!(out.is_ascii());
        assert!(out.starts_with(
            r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e"#
        ));
        assert!(
            out.contains(r##" !\"#$%"##)
                && out.contains(r"[\\]^")
                && out.contains(r"|}~\u007f\u0080")
        );
        assert_eq!(Text::of(&out).unwrap().as_str(), Some(&all[..]));
    }

    #[test]
    fn fields_keep_their_text() {
        let text = " { \"a\" : [1.50 , {}]\t,\"\\u0062\":\"x\\ud800\", \"\" :1E400 } \r\n";
        let found = fields(text).unwrap();
        let values: Vec<(&str, &str)> = found
            .iter()
            .map(|field| (field.name.as_str().unwrap(), field.value))
            .collect();
        assert_eq!(
            values,
            [("a", "[1.50 , {}]"), ("b", "\"x\\ud800\""), ("", "1E400")]
        );
        assert_eq!(fields("{}").unwrap(), []);
    }

    #[test]
    fn a_cut_line_is_no_object_and_a_strange_one_says_why() {
        let text = r#"{"a": [1, "x\u00e4", {"b": null}], "ä": -1.5e3, "c": true}"#;
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(fields(text).is_ok() && is_object(text.as_bytes()));
        for end in 0..text.len() {
            assert!(!is_object(&text.as_bytes()[..end]), "{end}");
            if let Some(cut) = text.get(..end) {
                assert!(fields(cut).is_err(), "{end}");
            }
        }
        for whole in [" {} \r\n", r#"{"a":1,"a":2}"#, &deep] {
            assert!(is_object(whole.as_bytes()), "{whole}");
        }
        for other in ["{}\0", "\0", "{} {}", "5", "[]", "\u{feff}{}", &deep[1..]] {
            assert!(!is_object(other.as_bytes()), "{other}");
        }
        for (text, reason) in [
            ("", "is not a JSON object"),
            ("[1]", "is not a JSON object"),
            ("\u{feff}{}", "is not a JSON object"),
            ("{1:1}", "has a field whose name is no text"),
            ("{,}", "has a field whose name is no text"),
            (r#"{"a":1,}"#, "has a field whose name is no text"),
            (r#"{"a":1,"\u0061":2}"#, "has a twice"),
        ] {
            assert_eq!(fields(text), Err(Fault::new(reason)), "{text}");
        }
        for text in [
            r#"{"a":1 2}"#,
            r#"{"a" 1}"#,
            r#"{"a":NaN}"#,
            r#"{"a":01}"#,
            r#"{"a":"\x"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a":1}5"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":1.}"#,
        ] {
            assert!(fields(text).is_err(), "{text}");
            assert!(!is_object(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn nesting_and_fields_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (levels, is_good) in [
            (1, true),
            (DEPTH_MAX, true),
            (DEPTH_MAX + 1, false),
            (1_000_000, false),
        ] {
            let value = nested(levels);
            assert_eq!(text_of(value.as_bytes()).is_some(), is_good, "{levels}");
            assert_eq!(
                fields(&format!("{{\"a\":{value}}}")).is_ok(),
                is_good,
                "{levels}"
            );
        }
        let flat = format!("[{}\"[[\\\"[[\"]", "[],".repeat(100_000));
        assert!(text_of(flat.as_bytes()).is_some());
        let many = |count: usize| -> String {
            let fields: Vec<String> = (0..count).map(|name| format!("\"{name}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert_eq!(
            fields(&many(FIELD_COUNT_MAX)).unwrap().len(),
            FIELD_COUNT_MAX
        );
        assert!(fields(&many(FIELD_COUNT_MAX + 1)).is_err());
    }

    #[test]
    fn items_keep_their_text() {
        let found = |array| items(array).map(|items| items.collect::<Vec<_>>());
        assert_eq!(found("[]"), Some(vec![]));
        assert_eq!(found("[ ]"), Some(vec![]));
        let array = "[1 , \"],\",[ ],{\"a\":[0]} ,null]";
        let expected = vec!["1", "\"],\"", "[ ]", "{\"a\":[0]}", "null"];
        assert_eq!(found(array), Some(expected));
        assert_eq!(found("{}"), None);
        assert_eq!(found("5"), None);
    }

    #[test]
    fn a_field_is_found_under_any_spelling() {
        assert!(has_field(r#"{"a":1,"b":2,"a":3}"#, "b"));
        assert!(has_field(r#"{"\u0062":2}"#, "b"));
        assert!(!has_field(r#"{"a":"b"}"#, "b"));
        assert!(!has_field(r#"{"a":{"b":1}}"#, "b"));
    }
}
