//! The event store's records (FORMAT.md section 20), held to account.
//!
//! The worked example of section 20.8 is encoded with the types of `duralog::format`, listed byte by
//! byte, and compared with FORMAT.md, with the golden files in `tests/golden/1.0/event_store/`, and
//! with what the engine writes; see tests/worked_example.rs for how, and for `DURALOG_BLESS=1`.
//!
//! Stores of random events, with every field at its limits too, are written by the engine and read
//! by the pure-Python reader, which was written from FORMAT.md alone: it must print, line by line,
//! what `EventStore` reads. Then records are broken behind checksums that hold, and both readers
//! must refuse what section 20.6 says that they do. `DURALOG_SEED` gives a run again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "common/differential.rs"]
mod differential;
#[path = "common/example.rs"]
mod example;
#[path = "common/process.rs"]
mod process;

use differential::{compare_with_python, python_reader, scratch};
use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, NewEvent, Read, ReadEvent, SideRecord,
};
use duralog::format::checksum::crc32;
use duralog::format::control::SLOT_LEN;
use duralog::format::digest::Digest;
use duralog::format::event::{
    derived_id, encode_place, event_flag, EventBody, RequestNote, OP_EVENT, OP_REQUEST,
    OP_SAVED_POSITION, OP_STATE_DELETE, OP_STATE_PUT,
};
use duralog::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN};
use duralog::format::record::encode_header;
use duralog::format::segment_header::HEADER_SIZE;
use duralog::vfs::sim::SimDisk;
use duralog::{Durability, ErrorKind, Lsn, OpenHow, Result, WalOptions};
use example::{
    assert_golden, assert_listed, assert_same, blessing, created, listed, made_up_control,
    made_up_segment, parse, root, segment_header, Files, Listing, APPLICATION_ID, CONTROL, LOG_ID,
    SALT, SECOND, SEGMENT, TIME_NS,
};
use process::{say, seed, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

// ---- stores that are encoded here --------------------------------------------------------------

/// A record: op, key, value.
type Rec = (u8, Vec<u8>, Vec<u8>);

/// A store of one segment, each batch in a frame of its own, at `times` or a second apart; and where
/// the frames begin, with the end of the last one.
fn encode_store(batches: &[Vec<Rec>], times: Option<&[u64]>) -> (Files, Vec<u64>) {
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

fn record_bytes((op, key, value): &Rec) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let header = encode_header(*op, len(key), len(value));
    [&header[..], key, value].concat()
}

fn event_record(
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

fn saved_position(name: &str, position: u64, flags: u8) -> Rec {
    let value = [&position.to_le_bytes()[..], &[flags]].concat();
    (OP_SAVED_POSITION, name.into(), value)
}

/// An idempotency key behind these records, with the digest of section 20.5. Positions and versions
/// of `records` are below 128, so they take one byte each.
fn request_record(key: &str, first_position: u64, records: &[Rec]) -> Rec {
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

fn write_files(dir: &Path, files: &Files) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

// ---- what the readers say ----------------------------------------------------------------------

fn open_to_read(dir: &Path) -> Result<EventStore> {
    let mut options = EventStoreOptions::default();
    options.wal.how = OpenHow::ReadOnly;
    EventStore::open(dir, &options)
}

/// Text as Python's `json` writes it.
fn json_text(text: &str) -> String {
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

fn base64(bytes: &[u8]) -> String {
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

fn uuid(id: Option<[u8; 16]>) -> String {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that the Python reader must print for an event.
fn line_of(event: &ReadEvent<'_>, batch_id: u64, seq: u64) -> String {
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
fn read_by_engine(dir: &Path) -> (Vec<String>, Result<()>) {
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
fn read_by_python(dir: &Path, how: &[&str]) -> (Vec<String>, std::result::Result<(), String>) {
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

fn assert_same_lines(what: &str, engine: &[String], python: &[String]) {
    for (index, (engine, python)) in engine.iter().zip(python).enumerate() {
        assert!(
            engine == python,
            "{what}: line {index} differs\nengine {engine}\npython {python}"
        );
    }
    assert_eq!(engine.len(), python.len(), "{what}: number of lines");
}

// ---- the worked example ------------------------------------------------------------------------

const BEGIN_MARK: &str = "<!-- event store example: listed by tests/eventstore_format.rs -->\n";
const END_MARK: &str = "<!-- event store example: end -->\n";

const TAGS: [&str; 2] = ["order:1", "region:eu"];
const OCCURRED_NS: i64 = 1_699_999_999_000_000_000;

fn full_event() -> NewEvent<'static> {
    NewEvent {
        stream: "order-1",
        event_type: "Opened",
        data: b"{\"total\":42}",
        metadata: b"{\"by\":\"ann\"}",
        tags: &TAGS,
        id: Some([0xA1; 16]),
        schema_version: 2,
        content_type: "application/json",
        occurred_ns: Some(OCCURRED_NS),
        correlation_id: Some([0xC0; 16]),
        causation_id: Some([0xCA; 16]),
    }
}

/// The two appends, encoded.
fn example_batches() -> [Vec<Rec>; 2] {
    let full = full_event();
    let body = EventBody {
        id: full.id,
        event_type: full.event_type.as_bytes(),
        schema_version: full.schema_version,
        content_type: full.content_type.as_bytes(),
        occurred_ns: full.occurred_ns,
        correlation_id: full.correlation_id,
        causation_id: full.causation_id,
        metadata: full.metadata,
        data: full.data,
    };
    let noted = EventBody {
        event_type: b"Noted",
        ..EventBody::default()
    };
    let closed = EventBody {
        event_type: b"Closed",
        data: b"bye",
        ..EventBody::default()
    };
    let both = event_flag::FIRST | event_flag::LAST;
    let mut first = vec![
        event_record("order-1", event_flag::FIRST, (1, 1), &body, &TAGS),
        event_record("customer-7", event_flag::LAST, (2, 1), &noted, &[]),
        saved_position("billing", 2, 0),
        (OP_STATE_PUT, b"total".to_vec(), b"42".to_vec()),
    ];
    first.push(request_record("req-1", 1, &first));
    [
        first,
        vec![event_record("order-1", both, (3, 2), &closed, &[])],
    ]
}

fn example() -> (Files, Vec<u64>) {
    encode_store(&example_batches(), None)
}

fn listing() -> String {
    let (files, frames) = example();
    let mut list = Listing::new(SEGMENT, &files[SEGMENT], HEADER_SIZE as usize);
    let at = |index: usize| usize::try_from(frames[index]).unwrap();
    let flags = "flags: BEGIN, COMMIT";
    list.frame(
        at(0),
        "first append",
        flags,
        "link: crc of the segment header",
    );

    list.record("record: event with every field (sections 6 and 20.2)");
    list.text(7, "key, the stream");
    list.field(
        1,
        "flags: ID, FIRST, METADATA, OCCURRED, CORRELATION, CAUSATION",
    );
    list.fields(&[(1, "position"), (1, "stream_version"), (16, "id")]);
    list.number(1, "length of event_type");
    list.text(6, "event_type");
    list.number(1, "tag_count");
    for tag in TAGS {
        list.number(1, "length of the tag");
        list.text(tag.len(), "tag");
    }
    list.number(1, "schema_version");
    list.number(1, "length of content_type");
    list.text(16, "content_type");
    list.number(8, "occurred_ns");
    list.fields(&[(16, "correlation_id"), (16, "causation_id")]);
    list.number(1, "length of metadata");
    list.text(12, "metadata");
    list.text(12, "data");

    list.record("record: event with what it must have (sections 6 and 20.2)");
    list.text(10, "key, the stream");
    list.field(1, "flags: LAST");
    list.fields(&[(1, "position"), (1, "stream_version")]);
    list.number(1, "length of event_type");
    list.text(5, "event_type");
    list.fields(&[(1, "tag_count"), (1, "schema_version")]);
    list.number(1, "length of content_type");

    list.record("record: saved position (section 20.4)");
    list.text(7, "key, the name");
    list.number(8, "position");
    list.field(1, "flags: none");

    list.record("record: state (section 20.4)");
    list.text(5, "key");
    list.text(2, "value");

    list.record("record: idempotency key (section 20.5)");
    list.text(5, "key");
    list.field(16, "digest: bytes 0..16");
    list.field(16, "digest: bytes 16..32");
    list.number(8, "position of the first event");
    list.number(8, "count of events");
    list.padding();

    let link = format!("link: header_crc of the frame at {}", at(0));
    list.frame(at(1), "second append", flags, &link);
    list.record("record: event (sections 6 and 20.2)");
    list.text(7, "key, the stream");
    list.field(1, "flags: FIRST, LAST");
    list.fields(&[(1, "position"), (1, "stream_version")]);
    list.number(1, "length of event_type");
    list.text(6, "event_type");
    list.fields(&[(1, "tag_count"), (1, "schema_version")]);
    list.number(1, "length of content_type");
    list.text(3, "data");
    list.padding();
    assert_eq!(list.at, at(2));
    format!("```\n{}```\n", list.finish())
}

fn golden_dir() -> PathBuf {
    root().join("tests/golden/1.0/event_store")
}

#[test]
fn the_listing_in_format_md_is_what_is_encoded() {
    assert_listed(BEGIN_MARK, END_MARK, &listing());
}

#[test]
fn the_golden_files_are_what_is_encoded() {
    let (files, _) = example();
    assert_golden(&golden_dir(), &files);
    // The header is that of section 18.
    let other = root().join("tests/golden/1.0/worked_example").join(SEGMENT);
    let header = HEADER_SIZE as usize;
    assert!(std::fs::read(other).unwrap()[..header] == files[SEGMENT][..header]);
}

#[test]
fn the_bytes_in_format_md_are_read_back_by_both_readers() {
    let text = if blessing() {
        listing()
    } else {
        listed(BEGIN_MARK, END_MARK)
    };
    let (wanted, _) = example();
    let mut files = parse(&text);
    let header = HEADER_SIZE as usize;
    files.get_mut(SEGMENT).unwrap()[..header].copy_from_slice(&wanted[SEGMENT][..header]);
    files.insert(CONTROL.to_owned(), wanted[CONTROL].clone());
    assert!(files == wanted);
    let dir = scratch();
    write_files(dir.path(), &files);

    compare_with_python(&[dir.path().to_owned()]);
    let (engine, outcome) = read_by_engine(dir.path());
    outcome.unwrap();
    let (python, outcome) = read_by_python(dir.path(), &[]);
    outcome.unwrap();
    assert_same_lines("the example", &engine, &python);
    assert_eq!(engine.len(), 3);
    assert!(engine[1].contains("\"id\": \"00010203-0405-8607-8000-000000000002\""));

    let store = open_to_read(dir.path()).unwrap();
    assert_eq!(store.saved_position("billing").unwrap(), Some(2));
    assert_eq!(store.state(b"total").unwrap().as_deref(), Some(&b"42"[..]));
    let (side, outcome) = read_by_python(dir.path(), &["--side"]);
    outcome.unwrap();
    let digest = hex(&example_batches()[0][4].2[..32]);
    let wanted = [
        "{\"kind\": \"saved_position\", \"name\": \"billing\", \"position\": 2, \
         \"reset\": false, \"seq\": 3}"
            .to_owned(),
        "{\"kind\": \"state\", \"key\": \"dG90YWw=\", \"value\": \"NDI=\", \"seq\": 4}".to_owned(),
        format!(
            "{{\"kind\": \"idempotency\", \"key\": \"cmVxLTE=\", \"digest\": \"{digest}\", \
             \"first_position\": 1, \"event_count\": 2, \"batch_id\": 4096, \"seq\": 5}}"
        ),
    ];
    assert_same_lines("side records", &wanted, &side);
}

#[test]
fn the_engine_writes_the_same_but_for_what_is_made_up() {
    let disk = SimDisk::new(1);
    let options = EventStoreOptions {
        wal: WalOptions {
            application_id: APPLICATION_ID,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open_on(Arc::new(disk.clone()), "/log", &options).unwrap();
    let noted = NewEvent {
        stream: "customer-7",
        event_type: "Noted",
        ..NewEvent::default()
    };
    let closed = NewEvent {
        stream: "order-1",
        event_type: "Closed",
        data: b"bye",
        ..NewEvent::default()
    };
    let side_records = [
        SideRecord::SavePosition {
            name: "billing",
            position: 2,
            reset: false,
        },
        SideRecord::PutState {
            key: b"total",
            value: b"42",
        },
    ];
    let first = AppendRequest {
        events: &[full_event(), noted],
        side_records: &side_records,
        idempotency_key: Some(b"req-1"),
        ..AppendRequest::default()
    };
    store.append(&first, Durability::AsOpened).unwrap();
    let second = AppendRequest {
        events: &[closed],
        ..AppendRequest::default()
    };
    store.append(&second, Durability::AsOpened).unwrap();
    let (wanted, frames) = example();
    let read = |name: &str| disk.read_file(Path::new("/log").join(name)).unwrap();
    let segment = made_up_segment(&read(SEGMENT), &frames[..2]);
    let control = made_up_control(&read(CONTROL), [(0, TIME_NS), (SLOT_LEN, TIME_NS)]);
    let found = [(SEGMENT.to_owned(), segment), (CONTROL.to_owned(), control)];
    assert_same(Files::from(found), &wanted);
}

// ---- random stores -----------------------------------------------------------------------------

/// Text of `least` to `most` bytes, often of exactly so many, with what is awkward in it.
fn text(random: &mut Random, least: usize, most: usize) -> String {
    const PARTS: [&str; 14] = [
        "a",
        "-",
        "order",
        "é",
        "日本",
        "😀",
        "\"",
        "\\",
        "\n",
        "\0",
        "\u{7f}",
        " ",
        "\u{10ffff}",
        "\u{fffd}",
    ];
    let len = match random.below(8) {
        0 => least,
        1 => most,
        _ => least + usize::try_from(random.below(20)).unwrap(),
    }
    .min(most);
    let mut text = String::new();
    loop {
        let part = PARTS[usize::try_from(random.below(14)).unwrap()];
        if text.len() + part.len() > len {
            break;
        }
        text.push_str(part);
    }
    let rest = len - text.len();
    text.push_str(&"x".repeat(rest));
    text
}

fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    let len = match random.below(6) {
        0 => 0,
        1 => most,
        _ => random.below(most.min(60) + 1),
    };
    (0..len).map(|_| random.next() as u8).collect()
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(3) == 0).then(|| make(random))
}

fn id(random: &mut Random) -> [u8; 16] {
    let halves = [random.next().to_be_bytes(), random.next().to_be_bytes()];
    halves.concat().try_into().unwrap()
}

/// What an event is given, owned.
#[derive(Debug)]
struct Given {
    stream: String,
    event_type: String,
    tags: Vec<String>,
    content_type: String,
    metadata: Vec<u8>,
    data: Vec<u8>,
    id: Option<[u8; 16]>,
    schema_version: u64,
    occurred_ns: Option<i64>,
    correlation_id: Option<[u8; 16]>,
    causation_id: Option<[u8; 16]>,
}

impl Given {
    fn new(random: &mut Random, streams: &[String]) -> Given {
        let tag_count = match random.below(10) {
            0 => 64,
            count => count / 2,
        };
        // Different ones: the last bytes number them.
        let tags = (0..tag_count)
            .map(|number| text(random, 0, 253) + &format!("{number:02}"))
            .collect();
        Given {
            stream: streams[usize::try_from(random.below(streams.len() as u64)).unwrap()].clone(),
            event_type: text(random, 1, 255),
            tags,
            content_type: text(random, 0, 255),
            metadata: bytes(random, 300),
            data: bytes(random, 5000),
            id: maybe(random, id),
            schema_version: [0, 1, 127, 128, u64::MAX, random.next()][random.below(6) as usize],
            occurred_ns: maybe(random, |random| {
                [0, -1, i64::MIN, i64::MAX, random.next() as i64][random.below(5) as usize]
            }),
            correlation_id: maybe(random, |random| {
                if random.below(4) == 0 {
                    [0; 16]
                } else {
                    id(random)
                }
            }),
            causation_id: maybe(random, id),
        }
    }

    fn event<'a>(&'a self, tags: &'a [&'a str]) -> NewEvent<'a> {
        NewEvent {
            stream: &self.stream,
            event_type: &self.event_type,
            data: &self.data,
            metadata: &self.metadata,
            tags,
            id: self.id,
            schema_version: self.schema_version,
            content_type: &self.content_type,
            occurred_ns: self.occurred_ns,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
        }
    }
}

/// What side records must come to.
#[derive(Default)]
struct Side {
    saved: BTreeMap<String, (u64, bool)>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    requests: BTreeSet<Vec<u8>>,
}

/// What a batch carries beside events.
enum GivenSide {
    Save(String, u64, bool),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl Side {
    /// Up to three side records, each key once, that the store accepts.
    fn give(&mut self, random: &mut Random, names: &[String]) -> Vec<GivenSide> {
        let mut used = BTreeSet::new();
        let mut given = Vec::new();
        for _ in 0..random.below(4) {
            let name = names[usize::try_from(random.below(names.len() as u64)).unwrap()].clone();
            let key = name.clone().into_bytes();
            let kind = random.below(3);
            if !used.insert((kind == 0, name.clone())) {
                continue;
            }
            match kind {
                0 => {
                    let before = self.saved.get(&name).map(|saved| saved.0);
                    let reset = random.below(3) == 0;
                    let position = match before {
                        Some(before) if !reset => before + 1 + random.below(1000),
                        _ => random.below(1 << 50),
                    };
                    self.saved.insert(name.clone(), (position, reset));
                    given.push(GivenSide::Save(name, position, reset));
                }
                1 => {
                    let most = if random.below(20) == 0 { 1 << 20 } else { 2000 };
                    let value = bytes(random, most);
                    self.state.insert(key.clone(), value.clone());
                    given.push(GivenSide::Put(key, value));
                }
                _ => {
                    self.state.remove(&key);
                    given.push(GivenSide::Delete(key));
                }
            }
        }
        given
    }

    /// The lines that the Python reader must print, with the values that the engine has; numbers and
    /// notes are those of the log.
    fn lines(&self, dir: &Path) -> Vec<String> {
        let store = open_to_read(dir).unwrap();
        let mut newest = BTreeMap::new();
        let mut cursor = store.wal().cursor(0).unwrap();
        while let Some(entry) = cursor.next().unwrap() {
            let found = (entry.seq, entry.batch_id.0, entry.value.to_vec());
            newest.insert((entry.op, entry.key.to_vec()), found);
        }
        let mut lines = Vec::new();
        for (name, (position, reset)) in &self.saved {
            assert_eq!(store.saved_position(name).unwrap(), Some(*position));
            let (seq, ..) = newest[&(OP_SAVED_POSITION, name.clone().into_bytes())];
            lines.push(format!(
                "{{\"kind\": \"saved_position\", \"name\": {}, \"position\": {position}, \
                 \"reset\": {reset}, \"seq\": {seq}}}",
                json_text(name)
            ));
        }
        for (key, value) in &self.state {
            assert_eq!(store.state(key).unwrap().as_ref(), Some(value));
            let (seq, ..) = newest[&(OP_STATE_PUT, key.clone())];
            lines.push(format!(
                "{{\"kind\": \"state\", \"key\": {}, \"value\": {}, \"seq\": {seq}}}",
                base64(key),
                base64(value)
            ));
        }
        for key in &self.requests {
            let (seq, batch_id, value) = &newest[&(OP_REQUEST, key.clone())];
            let note = RequestNote::decode(value).unwrap();
            lines.push(format!(
                "{{\"kind\": \"idempotency\", \"key\": {}, \"digest\": \"{}\", \"first_position\": {}, \
                 \"event_count\": {}, \"batch_id\": {batch_id}, \"seq\": {seq}}}",
                base64(key),
                hex(&note.digest),
                note.first_position,
                note.event_count
            ));
        }
        lines
    }
}

/// Writes a store; says how many batches had more than one frame, at least.
fn write_store(random: &mut Random, dir: &Path, batch_count: u64) -> Side {
    let streams: Vec<String> = (0..6).map(|_| text(random, 1, 1024)).collect();
    let mut names: Vec<String> = (0..5).map(|_| text(random, 1, 255)).collect();
    names.sort();
    names.dedup();
    let mut options = EventStoreOptions::default();
    options.wal.segment_bytes_max = 64 << 10;
    let targets = [300, 4000, 4 << 20];
    let mut side = Side::default();
    let mut store = None;
    for number in 0..batch_count {
        if random.below(10) == 0 {
            store = None;
        }
        let store = store.get_or_insert_with(|| {
            options.wal.frame_payload_target = targets[random.below(3) as usize];
            EventStore::open(dir, &options).unwrap()
        });
        let event_count = match random.below(20) {
            0 => 150,
            1 => 0,
            count => 1 + count % 4,
        };
        let given: Vec<Given> = (0..event_count)
            .map(|_| Given::new(random, &streams))
            .collect();
        let side_given = side.give(random, &names);
        if given.is_empty() && side_given.is_empty() {
            continue;
        }
        let tags: Vec<Vec<&str>> = given
            .iter()
            .map(|given| given.tags.iter().map(String::as_str).collect())
            .collect();
        let events: Vec<NewEvent<'_>> = given
            .iter()
            .zip(&tags)
            .map(|(given, tags)| given.event(tags))
            .collect();
        let side_records: Vec<SideRecord<'_>> = side_given
            .iter()
            .map(|given| match given {
                GivenSide::Save(name, position, reset) => SideRecord::SavePosition {
                    name,
                    position: *position,
                    reset: *reset,
                },
                GivenSide::Put(key, value) => SideRecord::PutState { key, value },
                GivenSide::Delete(key) => SideRecord::DeleteState { key },
            })
            .collect();
        let key = maybe(random, |random| {
            let mut key = bytes(random, 247);
            key.extend(number.to_be_bytes());
            key
        });
        let request = AppendRequest {
            events: &events,
            side_records: &side_records,
            idempotency_key: key.as_deref(),
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
        side.requests.extend(key);
    }
    side
}

#[test]
fn random_stores_are_read_alike_by_engine_and_python() {
    let seed = seed();
    say(&format!("event stores of DURALOG_SEED={seed:#x}"));
    let random = &mut Random::new(seed);
    let dir = scratch();
    let (mut events, mut beside) = (0, 0);
    for number in 0..10 {
        let path = dir.path().join(number.to_string());
        let side = write_store(random, &path, 60);
        let what = format!("seed {seed:#x}, store {number}");
        let (engine, outcome) = read_by_engine(&path);
        outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (python, outcome) = read_by_python(&path, &[]);
        outcome.unwrap_or_else(|said| panic!("{what}: {said}"));
        assert_same_lines(&what, &engine, &python);
        let engine_side = side.lines(&path);
        let (python, outcome) = read_by_python(&path, &["--side"]);
        outcome.unwrap_or_else(|said| panic!("{what}: {said}"));
        assert_same_lines(&what, &engine_side, &python);
        events += engine.len();
        beside += engine_side.len();
    }
    say(&format!(
        "{events} events and {beside} side records read alike"
    ));
    assert!(events > 500 && beside > 20);
}

// ---- broken records ----------------------------------------------------------------------------

/// A batch behind a good one that breaks a rule, and what the engine says when it opens or reads the
/// store: section 20.6 leaves some rules to a checker, which the Python reader is.
struct Broken {
    rule: &'static str,
    batch: Vec<Rec>,
    engine: Option<ErrorKind>,
    /// What the Python reader names.
    python: &'static str,
}

/// The value of an event: flags, position, version, then the type `T` and nothing else.
fn value(flags: u8, position: u64, version: u64) -> Vec<u8> {
    raw(flags, position, version, &[1, b'T', 0, 0, 0])
}

fn raw(flags: u8, position: u64, version: u64, rest: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    encode_place(&mut value, flags, position, version);
    value.extend_from_slice(rest);
    value
}

const WHOLE: u8 = event_flag::FIRST | event_flag::LAST;

/// The good batch: position 1 in stream `a`, saved position `p` = 5, idempotency key `k`.
fn good_batch() -> Vec<Rec> {
    let mut batch = vec![event("a", value(WHOLE, 1, 1)), saved_position("p", 5, 0)];
    batch.push(request_record("k", 1, &batch));
    batch
}

fn event(stream: &str, value: Vec<u8>) -> Rec {
    (OP_EVENT, stream.into(), value)
}

/// Length and bytes.
fn sized(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    duralog::format::varint::put(&mut bytes, len as u64);
    bytes.resize(bytes.len() + len, b'x');
    bytes
}

fn broken_batches() -> Vec<Broken> {
    let mut all = Vec::new();
    let mut add = |rule, batch: Vec<Rec>, engine, python| {
        all.push(Broken {
            rule,
            batch,
            engine,
            python,
        });
    };
    let corrupt = Some(ErrorKind::Corrupt);
    // The value of one event.
    let mut one = |rule, value: Vec<u8>, engine, python| {
        add(rule, vec![event("b", value)], engine, python);
    };
    let with = |flag: u8, rest: &[u8]| raw(WHOLE | flag, 2, 1, rest);
    one("20.2 an empty value", vec![], corrupt, "event flags");
    one(
        "20.2 flag bit 7",
        value(WHOLE | 0x80, 2, 1),
        Some(ErrorKind::Newer),
        "flag bit 7",
    );
    one("20.2 position 0", value(WHOLE, 0, 1), corrupt, "position");
    one(
        "20.2 position beyond 2^62",
        value(WHOLE, 1 << 62, 1),
        corrupt,
        "position",
    );
    one(
        "20.2 a position left out",
        value(WHOLE, 3, 1),
        corrupt,
        "position",
    );
    one(
        "20.2 a position again",
        value(WHOLE, 1, 1),
        corrupt,
        "position",
    );
    one(
        "20.2 stream_version 0",
        value(WHOLE, 2, 0),
        corrupt,
        "stream_version",
    );
    let needless = vec![WHOLE, 0x82, 0, 1, 1, b'T', 0, 0, 0];
    one(
        "20.1 a needless byte in a varint",
        needless,
        corrupt,
        "position",
    );
    let eleven = [&[WHOLE][..], &[0x82; 10], &[0, 1, 1, b'T', 0, 0, 0]].concat();
    one("20.1 a varint of 11 bytes", eleven, corrupt, "position");
    let over = [&[1, b'T', 0][..], &[0xFF; 9], &[2, 0]].concat();
    one(
        "20.1 a varint above 2^64 - 1",
        with(0, &over),
        corrupt,
        "schema_version",
    );
    one(
        "20.2 an empty type",
        with(0, &[0, 0, 0, 0]),
        corrupt,
        "event_type length",
    );
    let long = [&sized(256)[..], &[0, 0, 0]].concat();
    one(
        "20.2 a type of 256 bytes",
        with(0, &long),
        corrupt,
        "event_type length",
    );
    let tags: Vec<u8> = (0..65).flat_map(|tag| [1, b'!' + tag]).collect();
    let tags = [&[1, b'T', 65][..], &tags, &[0, 0]].concat();
    one("20.2 65 tags", with(0, &tags), corrupt, "tag_count");
    let long = [&[1, b'T', 1][..], &sized(256), &[0, 0]].concat();
    one(
        "20.2 a tag of 256 bytes",
        with(0, &long),
        corrupt,
        "tag 0 length",
    );
    let long = [&[1, b'T', 0, 0][..], &sized(256)].concat();
    one(
        "20.2 a content_type of 256 bytes",
        with(0, &long),
        corrupt,
        "content_type length",
    );
    let cut = [&[7; 15][..]].concat();
    one("20.2 a cut id", with(event_flag::ID, &cut), corrupt, "id");
    let cut = [1, b'T', 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
    one(
        "20.2 a cut occurred_ns",
        with(event_flag::OCCURRED, &cut),
        corrupt,
        "occurred_ns",
    );
    one(
        "20.2 a cut correlation_id",
        with(event_flag::CORRELATION, &cut),
        corrupt,
        "correlation_id",
    );
    one(
        "20.2 a cut causation_id",
        with(event_flag::CAUSATION, &cut),
        corrupt,
        "causation_id",
    );
    let cut = [1, b'T', 0, 0, 0, 9, b'm'];
    one(
        "20.2 cut metadata",
        with(event_flag::METADATA, &cut),
        corrupt,
        "metadata",
    );
    one(
        "20.2 cut before content_type",
        with(0, &[1, b'T', 0, 0]),
        corrupt,
        "content_type",
    );

    // What needs more than the fields' own sizes.
    let empty = [1, b'T', 0, 0, 0, 0];
    one(
        "20.2 empty metadata",
        with(event_flag::METADATA, &empty),
        corrupt,
        "metadata length",
    );
    one(
        "20.2 an empty tag",
        with(0, &[1, b'T', 1, 0, 0, 0]),
        corrupt,
        "tag 0 length",
    );
    let tags = [1, b'T', 2, 1, b'b', 1, b'a', 0, 0];
    one("20.2 tags out of order", with(0, &tags), corrupt, "tag 1");
    let tags = [1, b'T', 2, 1, b'a', 1, b'a', 0, 0];
    one("20.2 a tag twice", with(0, &tags), corrupt, "tag 1");
    one(
        "20.1 a type that is not UTF-8",
        with(0, &[1, 0xFF, 0, 0, 0]),
        corrupt,
        "event_type",
    );
    one(
        "20.1 a tag that is not UTF-8",
        with(0, &[1, b'T', 1, 1, 0xFF, 0, 0]),
        corrupt,
        "tag 0",
    );
    one(
        "20.1 a content_type that is not UTF-8",
        with(0, &[1, b'T', 0, 0, 1, 0xFF]),
        corrupt,
        "content_type",
    );
    let id = |id: &[u8]| with(event_flag::ID, &[id, &[1, b'T', 0, 0, 0]].concat());
    one("20.3 an id of zeros", id(&[0; 16]), corrupt, "id");

    // Rules between records, which are left to a checker.
    one(
        "20.3 an id of a later position",
        id(&derived_id(&LOG_ID, 9)),
        None,
        "id of its own",
    );
    one(
        "20.3 an id of the event's own position",
        id(&derived_id(&LOG_ID, 2)),
        None,
        "id of its own",
    );
    one(
        "20.3 the derived id of another event",
        id(&derived_id(&LOG_ID, 1)),
        None,
        "id",
    );
    one(
        "20.2 without FIRST",
        value(event_flag::LAST, 2, 1),
        None,
        "flag FIRST",
    );
    one(
        "20.2 without LAST",
        value(event_flag::FIRST, 2, 1),
        None,
        "flag LAST",
    );
    one(
        "20.2 a stream that begins at 2",
        value(WHOLE, 2, 2),
        None,
        "stream_version",
    );

    // An event that is right, for batches with more.
    let second = || event("b", value(WHOLE, 2, 1));
    let of_stream = |name: &[u8]| vec![(OP_EVENT, name.to_vec(), value(WHOLE, 2, 1))];
    add(
        "20.2 a stream without a name",
        of_stream(b""),
        corrupt,
        "stream name length",
    );
    add(
        "20.2 a name of 1025 bytes",
        of_stream(&[b'n'; 1025]),
        corrupt,
        "stream name length",
    );
    add(
        "20.1 a name that is not UTF-8",
        of_stream(b"\xC3("),
        corrupt,
        "stream name",
    );
    let again = vec![event("a", value(WHOLE, 2, 3))];
    add(
        "20.2 a stream version left out",
        again,
        corrupt,
        "stream_version",
    );
    let twice = vec![
        event(
            "b",
            [&raw(3, 2, 1, &[7; 16])[..], &[1, b'T', 0, 0, 0]].concat(),
        ),
        event(
            "b",
            [&raw(5, 3, 2, &[7; 16])[..], &[1, b'T', 0, 0, 0]].concat(),
        ),
    ];
    add("20.3 an id twice", twice, None, "id");
    let pair = vec![event("b", value(WHOLE, 2, 1)), event("b", value(4, 3, 2))];
    add("20.2 LAST in the first of two", pair, None, "flag LAST");
    let pair = vec![event("b", value(2, 2, 1)), event("b", value(WHOLE, 3, 2))];
    add("20.2 FIRST in the last of two", pair, None, "flag FIRST");

    // Side records.
    let mut side = |rule, record: Rec, engine, python| {
        add(rule, vec![second(), record], engine, python);
    };
    let name = || b"q".to_vec();
    side(
        "20.4 a saved position of 8 bytes",
        (OP_SAVED_POSITION, name(), vec![1; 8]),
        corrupt,
        "value of a saved position",
    );
    side(
        "20.4 a saved position of 10 bytes",
        (OP_SAVED_POSITION, name(), vec![1; 10]),
        corrupt,
        "value of a saved position",
    );
    side(
        "20.4 a saved position without a name",
        saved_position("", 1, 0),
        None,
        "name of a saved position",
    );
    side(
        "20.4 a name of 256 bytes",
        saved_position(&"n".repeat(256), 1, 0),
        None,
        "name of a saved position",
    );
    side(
        "20.1 a name that is not UTF-8",
        (OP_SAVED_POSITION, vec![0xFF], vec![0; 9]),
        None,
        "name of a saved position",
    );
    side(
        "20.4 a saved position of 2^62",
        saved_position("q", 1 << 62, 0),
        None,
        "saved position",
    );
    side(
        "20.4 the same position saved again",
        saved_position("p", 5, 0),
        None,
        "saved position",
    );
    side(
        "20.4 state without a key",
        (OP_STATE_PUT, vec![], vec![]),
        None,
        "key of state",
    );
    side(
        "20.4 a state key of 1025 bytes",
        (OP_STATE_DELETE, vec![1; 1025], vec![]),
        None,
        "key of state",
    );
    side(
        "20.4 state of more than 1 MiB",
        (OP_STATE_PUT, name(), vec![0; (1 << 20) + 1]),
        None,
        "value of state",
    );
    side(
        "20.4 deleted state with a value",
        (OP_STATE_DELETE, name(), vec![1]),
        None,
        "value of deleted state",
    );
    side(
        "20.5 an idempotency key of 47 bytes",
        (OP_REQUEST, name(), vec![0; 47]),
        corrupt,
        "value of an idempotency key",
    );
    side(
        "20.5 an idempotency key of 49 bytes",
        (OP_REQUEST, name(), vec![0; 49]),
        corrupt,
        "value of an idempotency key",
    );
    let request = |key: &str, change: &dyn Fn(&mut RequestNote)| {
        let (op, key, value) = request_record(key, 2, &[second()]);
        let mut note = RequestNote::decode(&value).unwrap();
        change(&mut note);
        (op, key, note.encode().to_vec())
    };
    side("20.5 no key", request("", &|_| ()), None, "idempotency key");
    side(
        "20.5 a key of 256 bytes",
        request(&"k".repeat(256), &|_| ()),
        None,
        "idempotency key",
    );
    side(
        "20.5 a key that another batch has",
        request("k", &|_| ()),
        None,
        "idempotency key",
    );
    side(
        "20.5 another position",
        request("l", &|note| note.first_position = 1),
        None,
        "position of the idempotency key",
    );
    side(
        "20.5 another count",
        request("l", &|note| note.event_count = 2),
        None,
        "event count",
    );
    side(
        "20.5 another digest",
        request("l", &|note| note.digest[31] ^= 1),
        None,
        "digest",
    );

    let two = || {
        vec![
            second(),
            saved_position("q", 1, 0),
            saved_position("q", 2, 0),
        ]
    };
    add("20.4 a key twice in a batch", two(), None, "side record");
    let late = vec![saved_position("q", 1, 0), second()];
    add(
        "20.6 an event behind a side record",
        late,
        None,
        "order in the batch",
    );
    let late = vec![second(), request("l", &|_| ()), saved_position("q", 1, 0)];
    add(
        "20.6 a side record behind the idempotency key",
        late,
        None,
        "order in the batch",
    );
    let pair = vec![second(), request("l", &|_| ()), request("m", &|_| ())];
    add(
        "20.6 two idempotency keys",
        pair,
        None,
        "order in the batch",
    );
    all
}

/// What both readers say.
struct Said {
    engine: Result<()>,
    python_lines: usize,
    python: std::result::Result<(), String>,
}

/// Both readers on a store in `dir` whose second batch is this one.
fn read_broken(dir: &Path, batch: Vec<Rec>, times: Option<&[u64]>) -> Said {
    let (files, _) = encode_store(&[good_batch(), batch], times);
    write_files(dir, &files);
    let (lines, python) = read_by_python(dir, &[]);
    Said {
        engine: read_by_engine(dir).1,
        python_lines: lines.len(),
        python,
    }
}

#[test]
fn what_breaks_no_rule_is_read_by_both() {
    let second = event("b", value(WHOLE, 2, 1));
    let request = request_record("l", 2, std::slice::from_ref(&second));
    let unknown = (21, b"key".to_vec(), b"value".to_vec());
    let reset = saved_position("p", 1, 1);
    for batch in [
        vec![second.clone()],
        vec![second.clone(), request],
        vec![second.clone(), reset, saved_position("q", 0, 0xFE)],
        vec![unknown.clone(), second.clone(), unknown],
        vec![(OP_STATE_DELETE, b"no such".to_vec(), vec![])],
    ] {
        let said = read_broken(scratch().path(), batch, None);
        said.engine.unwrap();
        said.python.unwrap();
    }
}

#[test]
fn broken_records_are_refused() {
    let dir = scratch();
    let mut wrong = String::new();
    let mut dirs = Vec::new();
    for (index, broken) in broken_batches().into_iter().enumerate() {
        let path = dir.path().join(index.to_string());
        let said = read_broken(&path, broken.batch, None);
        dirs.push(path);
        let engine = said.engine.err().map(|error| error.kind());
        if engine != broken.engine {
            let _ = writeln!(wrong, "{}: engine {engine:?}", broken.rule);
        }
        let python = said.python.err().unwrap_or_default();
        let newer = broken.engine == Some(ErrorKind::Newer);
        let refused = if newer {
            python.starts_with("NewerFormat: ") && python.contains(broken.python)
        } else {
            let place = format!(": {}", broken.python);
            python.starts_with("CorruptRecord: record ") && python.contains(&place)
        };
        if !refused || said.python_lines != 1 {
            let lines = said.python_lines;
            let _ = writeln!(wrong, "{}: {lines} lines, Python {python:?}", broken.rule);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // To the log, all is well.
    let count = compare_with_python(&dirs);
    say(&format!("{count} kinds of broken records"));
}

#[test]
fn a_recorded_time_that_decreases_is_for_a_checker() {
    let times = [TIME_NS + 1, TIME_NS];
    let second = vec![event("b", value(WHOLE, 2, 1))];
    let said = read_broken(scratch().path(), second, Some(&times));
    said.engine.unwrap();
    assert_eq!(said.python_lines, 1);
    let python = said.python.unwrap_err();
    assert!(
        python.contains(": recorded time: expected at least"),
        "{python}"
    );
}
