//! A line and the event that it says, both ways: which field becomes what.
//!
//! What an export would write differently (an event_id that is no UUID in lower case, a time that
//! is not in UTC) or has no place in an event (fields that are not known, a metadata that is not an
//! object) is *kept*: it stands in front of the metadata, under [`KEPT`], as the line had it.

use super::json::{self, Fault, Field, Text};
use super::{base64, ids, time, DEPTH_MAX};
use crate::eventstore::{NewEvent, ReadEvent};
use crate::format::event::{EventId, TAG_COUNT_MAX};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Field of the metadata in which is kept what has no other place.
const KEPT: &str = "duralog.ndjson";
const KEPT_BEGIN: &str = "{\"duralog.ndjson\":";
const JSON_TYPE: &str = "application/json";
/// Digits of an event_id that is an integer.
const INTEGER_LEN_MAX: usize = 1000;

/// Fields that mean something: no others are kept under `more`.
const KNOWN: [&str; 13] = [
    "event_id",
    "stream_id",
    "event_type",
    "data",
    "data_base64",
    "timestamp",
    "metadata",
    "metadata_base64",
    "tags",
    "schema_version",
    "content_type",
    "correlation_id",
    "causation_id",
];

type Result<T> = std::result::Result<T, Fault>;

/// An event that a line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LineEvent {
    pub(super) id: EventId,
    stream: String,
    event_type: String,
    data: Vec<u8>,
    metadata: Vec<u8>,
    /// In ascending order, each once.
    pub(super) tags: Vec<String>,
    schema_version: u64,
    content_type: String,
    occurred_ns: Option<i64>,
    correlation_id: Option<EventId>,
    causation_id: Option<EventId>,
}

impl LineEvent {
    /// The event as the store takes it; `tags` are its own.
    pub(super) fn as_new<'a>(&'a self, tags: &'a [&'a str]) -> NewEvent<'a> {
        NewEvent {
            stream: &self.stream,
            event_type: &self.event_type,
            data: &self.data,
            metadata: &self.metadata,
            tags,
            id: Some(self.id),
            schema_version: self.schema_version,
            content_type: &self.content_type,
            occurred_ns: self.occurred_ns,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
        }
    }

    /// Whether an event of the store, which has the same id, is this one.
    pub(super) fn is(&self, event: &ReadEvent<'_>) -> bool {
        self.stream == event.stream
            && self.event_type == event.event_type
            && self.data == event.data
            && self.metadata == event.metadata
            && self.tags.iter().map(String::as_str).eq(event.tags())
            && self.schema_version == event.schema_version
            && self.content_type == event.content_type
            && self.occurred_ns == event.occurred_ns
            && self.correlation_id == event.correlation_id
            && self.causation_id == event.causation_id
    }
}

// ---- from a line --------------------------------------------------------------------------------

/// What is kept of a line: each value as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Kept<'a> {
    event_id: Option<Cow<'a, str>>,
    timestamp: Option<Cow<'a, str>>,
    /// An object: the fields that are not known.
    more: Option<Cow<'a, str>>,
    metadata: Option<&'a str>,
}

impl Kept<'_> {
    fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("event_id", self.event_id.as_deref()),
            ("timestamp", self.timestamp.as_deref()),
            ("more", self.more.as_deref()),
            ("metadata", self.metadata),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// The fields of a line that nobody has taken yet.
struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|field| field.name.as_str() == Some(name))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let is_it = |field: &Field<'_>| field.name.as_str() == Some(name);
        let index = self.0.iter().position(is_it)?;
        Some(self.0.remove(index).value)
    }

    fn required(&mut self, name: &str) -> Result<&'a str> {
        self.take(name)
            .ok_or_else(|| Fault::new(format!("has no {name}")))
    }
}

/// The event that a line says.
pub(super) fn event_of_line(line: &[u8], namespace: &EventId) -> Result<LineEvent> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let good = error.valid_up_to();
        Fault::new(format!("is not UTF-8 from byte {good} on"))
    })?;
    let mut fields = Fields(json::fields(text)?);
    let mut kept = Kept::default();

    let (id, id_to_keep) = id_of(fields.required("event_id")?, namespace)?;
    kept.event_id = id_to_keep.map(Cow::Owned);
    let stream = text_of("stream_id", fields.required("stream_id")?)?;
    let event_type = text_of("event_type", fields.required("event_type")?)?;
    let (occurred_ns, time_to_keep) = occurred_of(fields.required("timestamp")?)?;
    kept.timestamp = time_to_keep.map(Cow::Owned);
    let tags = fields.take("tags").map(tags_of).transpose()?;
    let schema_version = fields.take("schema_version").map(version_of).transpose()?;
    let content_type = fields
        .take("content_type")
        .map(|value| text_of("content_type", value))
        .transpose()?;
    let mut uuid_in = |name| {
        let value = fields.take(name);
        value.map(|value| uuid_of(name, value)).transpose()
    };
    let correlation_id = uuid_in("correlation_id")?;
    let causation_id = uuid_in("causation_id")?;
    let is_json = !fields.has("data_base64");
    let data = match fields.take("data_base64") {
        Some(value) => {
            let bytes = bytes_of("data_base64", value)?;
            if fields.has("data") {
                return Err(Fault::new("has data_base64 and also data"));
            }
            bytes
        }
        None => within_depth(fields.take("data").unwrap_or("null"))?.into(),
    };
    let metadata = match fields.take("metadata_base64") {
        Some(value) => {
            let bytes = bytes_of("metadata_base64", value)?;
            refuse_what_has_no_place(&kept, &fields.0)?;
            bytes
        }
        None => {
            let value = fields.take("metadata").unwrap_or("{}");
            if !fields.0.is_empty() {
                kept.more = Some(Cow::Owned(object_of(&fields.0)));
            }
            within_depth(&metadata_with(kept, value))?.into()
        }
    };
    let content_type = content_type.unwrap_or(if is_json { JSON_TYPE.into() } else { "".into() });
    Ok(LineEvent {
        id,
        stream: stream.into_owned(),
        event_type: event_type.into_owned(),
        data,
        metadata,
        tags: tags.unwrap_or_default(),
        schema_version: schema_version.unwrap_or(0),
        content_type: content_type.into_owned(),
        occurred_ns,
        correlation_id,
        causation_id,
    })
}

/// An id, and the event_id in the form to be kept if the id does not say it.
fn id_of(value: &str, namespace: &EventId) -> Result<(EventId, Option<String>)> {
    let mut name = String::new();
    match Text::of(value) {
        Some(text) => {
            let known = text
                .as_str()
                .and_then(ids::parse)
                .filter(|id| *id != [0; 16]);
            text.write_ascii(&mut name);
            if let Some(id) = known {
                let mut written = String::from('"');
                ids::write(&mut written, &id);
                written.push('"');
                return Ok((id, (written != name).then_some(name)));
            }
        }
        None if is_integer(value) => name.push_str(if value == "-0" { "0" } else { value }),
        None => return Err(Fault::new("event_id is not a text or an integer")),
    }
    // The JSON text tells "1" from 1, and is ASCII whatever the text has in it.
    Ok((ids::of_name(namespace, &name), Some(name)))
}

fn is_integer(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    !digits.is_empty()
        && digits.len() <= INTEGER_LEN_MAX
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// When it occurred, and the timestamp in the form to be kept if the time does not say it.
fn occurred_of(value: &str) -> Result<(Option<i64>, Option<String>)> {
    let text = Text::of(value).ok_or_else(|| Fault::new("timestamp is not a text"))?;
    let occurred_ns = text.as_str().and_then(time::parse);
    if let Some(time_ns) = occurred_ns {
        let mut written = String::new();
        time::write(&mut written, i128::from(time_ns));
        if text.as_str() == Some(&written[..]) {
            return Ok((occurred_ns, None));
        }
    }
    let mut kept = String::new();
    text.write_ascii(&mut kept);
    Ok((occurred_ns, Some(kept)))
}

fn text_of<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>> {
    match Text::of(value) {
        Some(Text::Whole(text)) => Ok(text),
        Some(Text::Broken(_)) => Err(Fault::new(format!("{name} is no text that UTF-8 has"))),
        None => Err(Fault::new(format!("{name} is not a text"))),
    }
}

fn tags_of(value: &str) -> Result<Vec<String>> {
    let mut tags = BTreeSet::new();
    let items = json::items(value).ok_or_else(|| Fault::new("tags is not a list"))?;
    for item in items {
        let tag = match Text::of(item) {
            Some(_) => text_of("a tag", item)?,
            None => return Err(Fault::new("tags is not a list of texts")),
        };
        tags.insert(tag.into_owned());
        if tags.len() > TAG_COUNT_MAX {
            let what = format!("has more than {TAG_COUNT_MAX} tags");
            return Err(Fault::new(what));
        }
    }
    Ok(tags.into_iter().collect())
}

fn version_of(value: &str) -> Result<u64> {
    let wrong = || match is_integer(value) {
        true => Fault::new(format!(
            "schema_version is {value}, expected 0 to {}",
            u64::MAX
        )),
        false => Fault::new("schema_version is not an integer"),
    };
    match value {
        "-0" => Ok(0),
        _ if is_integer(value) => value.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn uuid_of(name: &str, value: &str) -> Result<EventId> {
    let text = Text::of(value).ok_or_else(|| Fault::new(format!("{name} is not a text")))?;
    match text.as_str().and_then(ids::parse) {
        Some(id) if id == [0; 16] => Err(Fault::new(format!(
            "{name} is all zero, which means that there is none"
        ))),
        Some(id) => Ok(id),
        None => Err(Fault::new(format!("{name} is not a UUID"))),
    }
}

fn bytes_of(name: &str, value: &str) -> Result<Vec<u8>> {
    let text = Text::of(value).ok_or_else(|| Fault::new(format!("{name} is not a text")))?;
    text.as_str()
        .and_then(base64::decode)
        .ok_or_else(|| Fault::new(format!("{name} is not base64")))
}

/// What is deeper would come back as bytes that are no JSON.
fn within_depth(text: &str) -> Result<&str> {
    if json::is_deeper_than(text, DEPTH_MAX) {
        return Err(json::too_deep());
    }
    Ok(text)
}

fn refuse_what_has_no_place(kept: &Kept<'_>, fields: &[Field<'_>]) -> Result<()> {
    let names = fields
        .iter()
        .map(|field| field.name.as_str().unwrap_or("a field"));
    let without_place: Vec<&str> = kept.entries().map(|(name, _)| name).chain(names).collect();
    if without_place.is_empty() {
        return Ok(());
    }
    Err(Fault::new(format!(
        "has metadata_base64 and also {}, for which there is no place",
        without_place.join(", ")
    )))
}

fn object_of(fields: &[Field<'_>]) -> String {
    let mut object = String::from('{');
    for field in fields {
        if object.len() > 1 {
            object.push(',');
        }
        field.name.write_ascii(&mut object);
        object.push(':');
        object.push_str(field.value);
    }
    object.push('}');
    object
}

/// The metadata, with what must be kept in front.
fn metadata_with<'a>(mut kept: Kept<'a>, value: &'a str) -> Cow<'a, str> {
    let is_object = value.starts_with('{');
    // What looks as if it had been kept must not be taken for it.
    let looks_kept = is_object && json::has_field(value, KEPT);
    if kept == Kept::default() && !looks_kept {
        return Cow::Borrowed(value);
    }
    let mut rest = "}";
    if looks_kept || !is_object {
        kept.metadata = Some(value);
    } else if !value[json::skip_space(value, 1)..].starts_with('}') {
        rest = &value[1..];
    }
    let mut metadata = String::from(KEPT_BEGIN);
    for (index, (name, value)) in kept.entries().enumerate() {
        metadata.push(if index == 0 { '{' } else { ',' });
        json::write_text(&mut metadata, name);
        metadata.push(':');
        metadata.push_str(value);
    }
    metadata.push('}');
    if rest != "}" {
        metadata.push(',');
    }
    metadata.push_str(rest);
    Cow::Owned(metadata)
}

// ---- to a line ----------------------------------------------------------------------------------

/// Writes the line that says an event, with its newline, behind `out`.
pub(super) fn write_line(out: &mut String, event: &ReadEvent<'_>) {
    let metadata_text = match event.metadata {
        [] => Some("{}"),
        bytes => json::text_of(bytes),
    };
    let split = metadata_text.and_then(split_kept);
    let (kept, metadata) = match split {
        Some((kept, metadata)) => (kept, Some(metadata)),
        None => (Kept::default(), metadata_text.map(Cow::Borrowed)),
    };
    let data = json::text_of(event.data);

    write_name(out, "event_id");
    match &kept.event_id {
        Some(value) => json::write_on_one_line(out, value),
        None => write_uuid(out, &event.id),
    }
    write_name(out, "stream_id");
    json::write_text(out, event.stream);
    write_name(out, "event_type");
    json::write_text(out, event.event_type);
    write_json_or_bytes(out, ["data", "data_base64"], data, event.data);
    write_name(out, "timestamp");
    match (&kept.timestamp, event.occurred_ns) {
        (Some(value), _) => json::write_on_one_line(out, value),
        (None, Some(time_ns)) => write_time(out, i128::from(time_ns)),
        (None, None) => write_time(out, i128::from(event.time_ns)),
    }
    let names = ["metadata", "metadata_base64"];
    write_json_or_bytes(out, names, metadata.as_deref(), event.metadata);
    if event.tag_count > 0 {
        write_name(out, "tags");
        for (index, tag) in event.tags().enumerate() {
            out.push_str(if index == 0 { "[" } else { ", " });
            json::write_text(out, tag);
        }
        out.push(']');
    }
    if event.schema_version != 0 {
        write_name(out, "schema_version");
        out.push_str(&event.schema_version.to_string());
    }
    if event.content_type != data.map_or("", |_| JSON_TYPE) {
        write_name(out, "content_type");
        json::write_text(out, event.content_type);
    }
    for (name, id) in [
        ("correlation_id", &event.correlation_id),
        ("causation_id", &event.causation_id),
    ] {
        if let Some(id) = id {
            write_name(out, name);
            write_uuid(out, id);
        }
    }
    for field in more_of(&kept).unwrap_or_default() {
        out.push_str(", ");
        field.name.write(out);
        out.push_str(": ");
        json::write_on_one_line(out, field.value);
    }
    out.push_str("}\n");
}

fn write_name(out: &mut String, name: &str) {
    // The one field that is always there, and first.
    out.push_str(if name == "event_id" { "{" } else { ", " });
    json::write_text(out, name);
    out.push_str(": ");
}

fn write_uuid(out: &mut String, id: &EventId) {
    out.push('"');
    ids::write(out, id);
    out.push('"');
}

fn write_time(out: &mut String, time_ns: i128) {
    out.push('"');
    time::write(out, time_ns);
    out.push('"');
}

fn write_json_or_bytes(out: &mut String, names: [&str; 2], text: Option<&str>, bytes: &[u8]) {
    match text {
        Some(text) => {
            write_name(out, names[0]);
            json::write_on_one_line(out, text);
        }
        None => {
            write_name(out, names[1]);
            out.push('"');
            base64::encode(out, bytes);
            out.push('"');
        }
    }
}

fn more_of<'k>(kept: &'k Kept<'_>) -> Option<Vec<Field<'k>>> {
    json::fields(kept.more.as_deref()?).ok()
}

/// What was kept in a metadata, which is JSON, and the metadata as it was. `None` if nothing was:
/// also if somebody else wrote what no import would have.
fn split_kept(metadata: &str) -> Option<(Kept<'_>, Cow<'_, str>)> {
    metadata.strip_prefix(KEPT_BEGIN)?;
    let object = json::value_at(metadata, KEPT_BEGIN.len()).ok()?;
    let behind = metadata.get(KEPT_BEGIN.len() + object.len()..)?;
    let rest = match behind.as_bytes().first()? {
        b'}' => Cow::Borrowed("{}"),
        b',' => Cow::Owned(format!("{{{}", &behind[1..])),
        _ => return None,
    };
    let mut kept = Kept::default();
    for field in json::fields(object).ok()? {
        let value = field.value;
        match field.name.as_str()? {
            "event_id" if is_integer(value) || value.starts_with('"') => {
                kept.event_id = Some(Cow::Borrowed(value));
            }
            "timestamp" if value.starts_with('"') => kept.timestamp = Some(Cow::Borrowed(value)),
            "more" => kept.more = Some(Cow::Borrowed(value)),
            "metadata" => kept.metadata = Some(value),
            _ => return None,
        }
    }
    if let Some(more) = &kept.more {
        let fields = json::fields(more).ok()?;
        let is_known =
            |field: &Field<'_>| KNOWN.iter().any(|name| field.name.as_str() == Some(name));
        if fields.is_empty() || fields.iter().any(is_known) {
            return None;
        }
    }
    let metadata = match kept.metadata {
        Some(value) => Cow::Borrowed(value),
        None => rest,
    };
    (kept != Kept::default()).then_some((kept, metadata))
}
