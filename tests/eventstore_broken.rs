//! Records of the event store that break a rule of FORMAT.md section 20, behind checksums that hold:
//! the engine and the pure-Python reader refuse what section 20.6 says that they do.

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
#[path = "common/store_bytes.rs"]
mod store_bytes;

use differential::{compare_with_python, scratch};
use duralog::format::event::{
    derived_id, encode_place, event_flag, RequestNote, OP_EVENT, OP_REQUEST, OP_SAVED_POSITION,
    OP_STATE_DELETE, OP_STATE_PUT,
};
use duralog::{ErrorKind, Result};
use example::{LOG_ID, TIME_NS};
use process::say;
use std::fmt::Write as _;
use std::path::Path;
use store_bytes::{
    encode_store, read_by_engine, read_by_python, request_record, saved_position, write_files, Rec,
};

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
