//! Events in and out as NDJSON: one JSON object a line.
//!
//! ```text
//! {"event_id": "e-1", "stream_id": "case-891", "event_type": "Opened", "data": {"by": "R26"},
//!  "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}
//! ```
//!
//! ```text
//! import   lines (whole, bounded) → line (fields → event) → batch → store
//! export   store → page → line (event → fields) → file
//! ```
//!
//! What becomes of each field, so that an export gives back the content of what was imported, line
//! by line:
//!
//! ```text
//! event_id    text or integer. A UUID is the id of the event as it is; anything else gives the
//!             UUIDv5 of its JSON text in a namespace, so that the same event_id is always the
//!             same event
//! stream_id   the stream
//! event_type  the type
//! data        the data: its JSON text, byte for byte. Absent: null
//! timestamp   when it occurred. A text that is no time with an offset gives none, and is kept
//! metadata    the metadata: its JSON text. Absent: {}
//! ```
//!
//! An export writes an id as a UUID in lower case and a time as UTC. What would not come back by
//! that is kept in the metadata, in front, under the key "duralog.ndjson": the event_id, the
//! timestamp, fields of the line that are not known here, a metadata that is not an object. All
//! other metadata stays readable where it was.
//!
//! Events that were not imported can have more to say. It is written in fields of the same line,
//! and
//! understood by an import: tags, schema_version, content_type (absent: application/json),
//! correlation_id, causation_id; data_base64 and metadata_base64 for bytes that are no JSON. What
//! does not say when it occurred has the time when it was recorded.
//!
//! The Python package has the same in `duralog.ndjson`: from the same file both make the same
//! events, and from the same events the same file, byte for byte. A change here is one there.
//!
//! A file that is imported may come from anyone. What it can make this code need is bounded: by
//! [`LINE_LEN_MAX`] bytes a line, by [`DEPTH_MAX`] levels of nesting, by the fields of a line, and
//! by the bytes of a batch.

mod base64;
mod export;
mod ids;
mod import;
mod json;
mod line;
mod time;

pub use export::{export, export_file, ExportOptions, ExportReport};
pub use import::{import, import_file, ImportFailed, ImportOptions, ImportReport};

use crate::format::event::EventId;

/// Bytes of a line at most, without its newline: what the largest event takes in base64, and the names around it.
pub const LINE_LEN_MAX: usize = 96 << 20;
/// Levels to which data and metadata may be nested. Others who read them may do so recursively.
pub const DEPTH_MAX: usize = 500;
/// Fields of a line at most.
pub const FIELD_COUNT_MAX: usize = 1000;

/// For the ids of events whose event_id is no UUID: the UUIDv5 of "duralog.ndjson" in the namespace
/// of URLs. A source whose event_ids mean other events needs another one.
pub const NAMESPACE: EventId = [
    0xe5, 0x28, 0x72, 0x49, 0x71, 0x4e, 0x5b, 0x75, 0x9b, 0xfc, 0x18, 0x80, 0x7b, 0x48, 0x7d, 0xdc,
];

/// How far an import or export is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes of the file that were dealt with.
    pub bytes: u64,
    /// Events that were dealt with.
    pub events: u64,
    /// Of an import, bytes of the file, 0 if that is not known; of an export, events that it will
    /// write.
    pub total: u64,
}
