//! Event stores of which every byte is made here, and what the two readers say of a store: the engine
//! and the pure-Python reader, each event as one line of the same form.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::differential::python_reader;
use crate::example::{created, segment_header, Files, CONTROL, SALT, SECOND, SEGMENT, TIME_NS};
use duralog::eventstore::{EventStore, EventStoreOptions, Read, ReadEvent};
use duralog::format::checksum::crc32;
use duralog::format::control::SLOT_LEN;
use duralog::format::digest::Digest;
use duralog::format::event::{
    encode_place, event_flag, EventBody, RequestNote, OP_EVENT, OP_REQUEST, OP_SAVED_POSITION,
};
use duralog::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN};
use duralog::format::record::encode_header;
use duralog::format::segment_header::HEADER_SIZE;
use duralog::{Lsn, OpenHow, Result};
use std::fmt::Write as _;
use std::path::Path;

// ---- stores that are encoded here --------------------------------------------------------------

/// A record: op, key, value.
pub(crate) type Rec = (u8, Vec<u8>, Vec<u8>);

/// A store of one segment, each batch in a frame of its own, at `times` or a second apart; and where
/// the frames begin, with the end of the last one.
pub(crate) fn encode_store(batches: &[Vec<Rec>], times: Option<&[u64]>) -> (Files, Vec<u64>) {
    let header = segment_header();
    let mut segment = header.encode().to_vec();
    segment.resize(HEADER_SIZE as usize, 0);
    let mut link = header.link();
    let mut first_seq = 1;
    let mut frames = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let at = segment.len() as u64;
        frames.push(at);
        let payload: Vec<u8> = batch.iter().flat_map(record_bytes).collect();
        let head = FrameHeader {
            payload_crc: crc32(&payload),
            payload_len: u32::try_from(payload.len()).unwrap(),
            frame_type: frame_type::BATCH,
            flags: frame_flag::BEGIN | frame_flag::COMMIT,
            link,
            salt: SALT,
            lsn: Lsn(at),
            first_seq,
            record_count: u32::try_from(batch.len()).unwrap(),
            durable_lsn: Lsn(at),
            time_ns: times.map_or(TIME_NS + SECOND * (index as u64 + 1), |times| times[index]),
        };
        let encoded = head.encode();
        link = crc32(&encoded[4..]);
        segment.extend_from_slice(&encoded);
        segment.extend_from_slice(&payload);
        segment.resize(segment.len().next_multiple_of(8), 0);
        first_seq += batch.len() as u64 + 1;
    }
    frames.push(segment.len() as u64);
    segment.resize(segment.len() + HEADER_LEN, 0);
    let mut control = vec![0; 2 * SLOT_LEN];
    for (slot, generation) in [(0, 1), (1, 2)] {
        let bytes = duralog::format::control::Control {
            generation,
            ..created()
        }
        .encode();
        control[slot * SLOT_LEN..][..128].copy_from_slice(&bytes);
    }
    let files = [(SEGMENT.to_owned(), segment), (CONTROL.to_owned(), control)];
    (Files::from(files), frames)
}

pub(crate) fn record_bytes((op, key, value): &Rec) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let header = encode_header(*op, len(key), len(value));
    [&header[..], key, value].concat()
}

pub(crate) fn event_record(
    stream: &str,
    batch_flags: u8,
    place: (u64, u64),
    body: &EventBody<'_>,
    tags: &[&str],
) -> Rec {
    let mut value = Vec::new();
    encode_place(&mut value, body.flags() | batch_flags, place.0, place.1);
    body.encode(&mut value, tags.iter().map(|tag| tag.as_bytes()));
    (OP_EVENT, stream.into(), value)
}

pub(crate) fn saved_position(name: &str, position: u64, flags: u8) -> Rec {
    let value = [&position.to_le_bytes()[..], &[flags]].concat();
    (OP_SAVED_POSITION, name.into(), value)
}

/// An idempotency key behind these records, with the digest of section 20.5. Positions and versions
/// of `records` are below 128, so they take one byte each.
pub(crate) fn request_record(key: &str, first_position: u64, records: &[Rec]) -> Rec {
    let mut digest = Digest::default();
    let mut event_count = 0;
    for record in records {
        let mut record = record.clone();
        if record.0 == OP_EVENT {
            event_count += 1;
            record.2[0] &= !(event_flag::FIRST | event_flag::LAST);
            record.2[1..3].fill(0);
        }
        digest.update(&record_bytes(&record));
    }
    let note = RequestNote {
        digest: digest.finish(),
        first_position,
        event_count,
    };
    (OP_REQUEST, key.into(), note.encode().to_vec())
}

pub(crate) fn write_files(dir: &Path, files: &Files) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

// ---- what the readers say ----------------------------------------------------------------------

pub(crate) fn open_to_read(dir: &Path) -> Result<EventStore> {
    let mut options = EventStoreOptions::default();
    options.wal.how = OpenHow::ReadOnly;
    EventStore::open(dir, &options)
}

/// Text as Python's `json` writes it.
pub(crate) fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(char),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("\"");
    for part in bytes.chunks(3) {
        let byte = |index: usize| u32::from(part.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4u32 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            let filled = index as usize <= part.len();
            out.push(if filled { char::from(digit) } else { '=' });
        }
    }
    out.push('"');
    out
}

pub(crate) fn uuid(id: Option<[u8; 16]>) -> String {
    let Some(id) = id else {
        return "null".to_owned();
    };
    let hex = hex(&id);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    format!("\"{}\"", parts.join("-"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that the Python reader must print for an event.
pub(crate) fn line_of(event: &ReadEvent<'_>, batch_id: u64, seq: u64) -> String {
    let tags: Vec<String> = event.tags().map(json_text).collect();
    assert_eq!(tags.len(), event.tag_count);
    let occurred = event
        .occurred_ns
        .map_or("null".to_owned(), |ns| ns.to_string());
    format!(
        "{{\"position\": {}, \"stream\": {}, \"stream_version\": {}, \"type\": {}, \
         \"tags\": [{}], \"id\": {}, \"has_own_id\": {}, \"schema_version\": {}, \
         \"content_type\": {}, \"occurred_ns\": {occurred}, \"correlation_id\": {}, \
         \"causation_id\": {}, \"metadata\": {}, \"data\": {}, \"time_ns\": {}, \
         \"first_of_batch\": {}, \"last_of_batch\": {}, \"batch_id\": {batch_id}, \"seq\": {seq}}}",
        event.position,
        json_text(event.stream),
        event.stream_version,
        json_text(event.event_type),
        tags.join(", "),
        uuid(Some(event.id)),
        event.has_own_id,
        event.schema_version,
        json_text(event.content_type),
        uuid(event.correlation_id),
        uuid(event.causation_id),
        base64(event.metadata),
        base64(event.data),
        event.time_ns,
        event.first_of_batch,
        event.last_of_batch,
    )
}

/// What the engine reads: a line for each event, up to the first error.
pub(crate) fn read_by_engine(dir: &Path) -> (Vec<String>, Result<()>) {
    let mut lines = Vec::new();
    let outcome = (|| {
        let store = open_to_read(dir)?;
        // Batch and number of each event as the log has them.
        let mut places = Vec::new();
        let mut cursor = store.wal().cursor(0)?;
        while let Some(entry) = cursor.next()? {
            if entry.op == OP_EVENT {
                places.push((entry.batch_id.0, entry.seq));
            }
        }
        let mut reader = store.read(Read::default())?;
        loop {
            let page = reader.next_page(17)?;
            if page.is_empty() {
                return Ok(());
            }
            for event in page.iter() {
                let (batch_id, seq) = places[usize::try_from(event.position).unwrap() - 1];
                lines.push(line_of(&event, batch_id, seq));
            }
        }
    })();
    (lines, outcome)
}

/// What the Python reader prints, and what it says if it refuses.
pub(crate) fn read_by_python(
    dir: &Path,
    how: &[&str],
) -> (Vec<String>, std::result::Result<(), String>) {
    let mut command = python_reader();
    let output = command.arg("events").args(how).arg(dir).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let outcome = if output.status.success() {
        assert_eq!(said, "");
        Ok(())
    } else {
        Err(said)
    };
    (lines.lines().map(str::to_owned).collect(), outcome)
}

pub(crate) fn assert_same_lines(what: &str, engine: &[String], python: &[String]) {
    for (index, (engine, python)) in engine.iter().zip(python).enumerate() {
        assert!(
            engine == python,
            "{what}: line {index} differs\nengine {engine}\npython {python}"
        );
    }
    assert_eq!(engine.len(), python.len(), "{what}: number of lines");
}
