//! Events in and out as lines of JSON: what is imported is exported with the same content, byte for
//! byte where the line was written as an export writes it; twice, or again after being killed, adds
//! nothing; what is damaged or torn is named, and nothing is in by halves.
//!
//! * The receipt log, 8,577 real events of 1,434 cases (`../shared/data/receipt.ndjson`, or where
//!   `DURALOG_RECEIPTS` says; without it these tests say so and end): imported, read in every way,
//!   exported, imported again, and all of it after the import was killed, several times.
//! * `duralog.ndjson` of the Python package is the peer: of the receipt log, random events and
//!   thousands of lines, each changed at random, both say the same.
//! * Random events, with every character, number and nesting, come back as they were.
//! * On the simulated disk every call fails once, and the disk loses power: repeated, the import is
//!   whole.
//! * The C face, with good and bad arguments, also under valgrind.
//!
//! The first four have files of their own in `eventstore_ndjson/`. Here are fields, and importing and
//! exporting by hand. `DURALOG_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "eventstore_ndjson/failing_disk.rs"]
mod failing_disk;
#[path = "eventstore_ndjson/peer.rs"]
mod peer;
#[path = "common/process.rs"]
mod process;
#[path = "eventstore_ndjson/random_events.rs"]
mod random_events;
#[path = "eventstore_ndjson/receipts.rs"]
mod receipts;

use common::root;
use duralog::eventstore::ndjson::{
    export, export_file, import, import_file, ExportOptions, ExportReport, ImportFailed,
    ImportOptions, ImportReport, Progress, DEPTH_MAX, FIELD_COUNT_MAX, LINE_LEN_MAX, NAMESPACE,
};
use duralog::eventstore::{
    AppendRequest, EventStore, EventStoreOptions, NewEvent, Query, QueryItem, Read, Selection,
};
use duralog::vfs::sim::{errno, CrashStates, Fault, FaultPlan, Fill, SimDisk};
use duralog::{Durability, ErrorKind, OpenHow, SyncMode, WalOptions};
use process::{output_of, python, say, seed, Random, Reporter};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const LINE: &str = r#"{"event_id": "e-1", "stream_id": "case-1", "event_type": "Opened", "data": {"n": 1}, "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}"#;

fn options() -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            sync_mode: SyncMode::Manual,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    }
}

fn open(path: &Path) -> EventStore {
    EventStore::open(path, &options()).unwrap()
}

/// A store in a directory of its own.
fn new_store() -> (tempfile::TempDir, EventStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store"));
    (directory, store)
}

fn go_on(_: Progress) -> bool {
    true
}

fn batches_of(batch_count: usize) -> ImportOptions {
    ImportOptions {
        batch_count,
        ..ImportOptions::default()
    }
}

fn load(
    store: &EventStore,
    mut lines: &[u8],
    batch_count: usize,
) -> Result<ImportReport, ImportFailed> {
    let len = lines.len() as u64;
    import(store, &mut lines, len, &batches_of(batch_count), &mut go_on)
}

fn dump(store: &EventStore) -> String {
    let mut bytes = Vec::new();
    let report = export(store, &mut bytes, 1, &mut go_on).unwrap();
    assert_eq!(report.last_position, store.last_position().unwrap());
    String::from_utf8(bytes).unwrap()
}

/// The usual line, with another event_id and, in place of `old`, `new`.
fn line_with(number: usize, old: &str, new: &str) -> String {
    let line = LINE.replacen("e-1", &format!("e-{number}"), 1);
    assert!(line.contains(old), "{old}");
    line.replacen(old, new, 1) + "\n"
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| line_with(number, "", "")).collect()
}

// ---- fields -------------------------------------------------------------------------------------

#[test]
fn fields_become_those_of_the_event() {
    let (_directory, store) = new_store();
    let own = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
    let text = format!(
        "{LINE}\n{}\n{{\"timestamp\":\"2010-10-02T07:20:39.266000+00:00\",\"event_type\":\"\\u0054\",\
         \"event_id\":7,\"stream_id\":\"s\",\"tags\":[\"b\",\"a\",\"b\"],\"schema_version\":3,\
         \"causation_id\":\"{own}\",\"more\":1.50}}",
        LINE.replace("e-1", &own.to_uppercase())
    );
    load(&store, text.as_bytes(), 1000).unwrap();
    let page = store.event_at(1).unwrap();
    let event = page.get(0).unwrap();
    assert_eq!((event.stream, event.event_type), ("case-1", "Opened"));
    assert_eq!(event.data, b"{\"n\": 1}");
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.occurred_ns, Some(1_286_004_039_266_000_000));
    assert_eq!(
        std::str::from_utf8(event.metadata).unwrap(),
        r#"{"duralog.ndjson":{"event_id":"e-1","timestamp":"2010-10-02T09:20:39.266000+02:00"},"group": "G1"}"#
    );
    let page = store.event_at(2).unwrap();
    let id = page.get(0).unwrap().id;
    assert_eq!(id[..4], [0x2e, 0xd6, 0x65, 0x7d]);
    let page = store.event_at(3).unwrap();
    let event = page.get(0).unwrap();
    assert_eq!(event.tags().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((event.schema_version, event.event_type), (3, "T"));
    assert_eq!(event.causation_id, Some(id));
    assert_eq!(event.data, b"null");
    let kept = r#"{"duralog.ndjson":{"event_id":7,"more":{"more":1.50}}}"#;
    assert_eq!(std::str::from_utf8(event.metadata).unwrap(), kept);
}

// ---- importing ----------------------------------------------------------------------------------

#[test]
fn again_adds_nothing_whatever_the_batches() {
    let (_directory, store) = new_store();
    let text = lines(0..100);
    let report = load(&store, text.as_bytes(), 30).unwrap();
    assert_eq!(
        (report.line_count, report.imported, report.known),
        (100, 100, 0)
    );
    for batch_count in [30, 1, 7, 100, 1000] {
        let report = load(&store, text.as_bytes(), batch_count).unwrap();
        assert_eq!((report.imported, report.known), (0, 100));
    }
    let report = load(&store, lines(0..120).as_bytes(), 33).unwrap();
    assert_eq!((report.imported, report.known), (20, 100));
    // In another order, so that no batch is what an earlier one was.
    let mixed: String = (0..150).map(|n| line_with(n * 77 % 150, "", "")).collect();
    let report = load(&store, mixed.as_bytes(), 40).unwrap();
    assert_eq!((report.imported, report.known), (30, 120));
    assert_eq!(store.last_position().unwrap(), 150);
    assert!(dump(&store).starts_with(&lines(0..120)));
    // And what the store itself exports, with ids that were derived, is known to it.
    let request = AppendRequest {
        events: &[NewEvent {
            stream: "s",
            event_type: "T",
            occurred_ns: Some(5),
            content_type: "application/json",
            data: b"{}",
            metadata: b"{}",
            ..NewEvent::default()
        }],
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).unwrap();
    let report = load(&store, dump(&store).as_bytes(), 60).unwrap();
    assert_eq!((report.imported, report.known), (0, 151));
}

#[test]
fn same_id_with_another_content_is_refused() {
    let (_directory, store) = new_store();
    load(&store, lines(0..10).as_bytes(), 1000).unwrap();
    for (old, new) in [
        ("{\"n\": 1}", "{\"n\":1}"),
        ("case-1", "b"),
        ("Opened", "b"),
        ("G1", "G2"),
        ("+02:00", "+01:00"),
        ("}}", "}, \"tags\": [\"a\"]}"),
        ("}}", "}, \"schema_version\": 1}"),
        ("}}", "}, \"content_type\": \"\"}"),
        (
            "}}",
            "}, \"causation_id\": \"2ed6657d-e927-568b-95e1-2665a8aea6a2\"}",
        ),
    ] {
        let text = lines(0..6) + &line_with(6, old, new) + &lines(7..10);
        for batch_count in [10, 3, 100] {
            let failed = load(&store, text.as_bytes(), batch_count).unwrap_err();
            assert_eq!(failed.error.kind(), ErrorKind::BadLine);
            assert_eq!(
                failed.to_string(),
                "line 7: its event_id belongs to the event at position 7, which says something else"
            );
            assert_eq!((failed.report.bad_line, failed.report.imported), (7, 0));
        }
    }
    assert_eq!(store.last_position().unwrap(), 10);
    // In one batch, and of a source that has event_ids of its own.
    let twice = line_with(20, "", "").repeat(3);
    assert_eq!(load(&store, twice.as_bytes(), 1000).unwrap().known, 2);
    let text = lines(30..32) + &line_with(30, "G1", "G2");
    let failed = load(&store, text.as_bytes(), 1000).unwrap_err();
    let expected = "line 3: has the event_id of line 1, but says something else";
    assert_eq!(failed.to_string(), expected);
    let other = ImportOptions {
        namespace: [7; 16],
        ..ImportOptions::default()
    };
    let text = lines(0..10);
    let report = import(&store, &mut text.as_bytes(), 0, &other, &mut go_on).unwrap();
    assert_eq!((report.imported, other.namespace == NAMESPACE), (10, false));
}

#[test]
fn damaged_line_names_its_number_and_nothing_of_its_batch_is_in() {
    let (_directory, store) = new_store();
    load(&store, lines(0..10).as_bytes(), 1000).unwrap();
    let whole = line_with(99, "", "");
    let with = |old: &str, new: &str| line_with(99, old, new).into_bytes();
    let nested = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
    let many: Vec<String> = (0..=FIELD_COUNT_MAX)
        .map(|n| format!("\"{n}\":0"))
        .collect();
    let tags: Vec<String> = (0..65).map(|n| format!("\"{n}\"")).collect();
    let large = format!("\"{}\"", "x".repeat(67_108_864));
    let damaged: Vec<(Vec<u8>, &str)> = vec![
        (b"{\n".to_vec(), "expected value"),
        (b"no json\n".to_vec(), "is not a JSON object"),
        (b"[1]\n".to_vec(), "is not a JSON object"),
        (b"\xff\n".to_vec(), "is not UTF-8 from byte 0 on"),
        (b"\0\0\0\0\n".to_vec(), "is not a JSON object"),
        (
            whole.replace("}}", "},}").into_bytes(),
            "has a field whose name is no text",
        ),
        (whole.replace("}}", "} 5}").into_bytes(), "expected `,`"),
        (
            whole.replace("}}", "}}5").into_bytes(),
            "more behind its object",
        ),
        (b"{\"a\":NaN}\n".to_vec(), "expected value at byte 5"),
        (b"{\"a\":1,\"a\":2}\n".to_vec(), "has a twice"),
        (b"{1:1}\n".to_vec(), "has a field whose name is no text"),
        (b"{\"a\" 1}\n".to_vec(), "expected `:` at byte 5"),
        (
            format!("{{\"data\":{}\n", "[".repeat(100_000)).into_bytes(),
            "nested deeper than 500",
        ),
        (
            with("{\"n\": 1}", &nested),
            "is nested deeper than 500 levels",
        ),
        (
            with("{\"group\": \"G1\"}", &nested[2..nested.len() - 2]),
            "nested deeper than 500",
        ),
        (
            format!("{{{}}}\n", many.join(",")).into_bytes(),
            "has more than 1000 fields",
        ),
        (with("\"event_id\"", "\"e\""), "has no event_id"),
        (with("stream_id", "s"), "has no stream_id"),
        (with("event_type", "s"), "has no event_type"),
        (with("timestamp", "s"), "has no timestamp"),
        (
            with("\"e-99\"", "null"),
            "event_id is not a text or an integer",
        ),
        (
            with("\"e-99\"", "1.5"),
            "event_id is not a text or an integer",
        ),
        (
            with("\"e-99\"", "true"),
            "event_id is not a text or an integer",
        ),
        (with("\"case-1\"", "5"), "stream_id is not a text"),
        (with("\"Opened\"", "{}"), "event_type is not a text"),
        (
            with("\"2010-10-02T09:20:39.266000+02:00\"", "5"),
            "timestamp is not a text",
        ),
        (with("}}", "},\"tags\":\"a\"}"), "tags is not a list"),
        (with("}}", "},\"tags\":[1]}"), "tags is not a list of texts"),
        (
            with("}}", "},\"tags\":[\"\\ud800\"]}"),
            "a tag is no text that UTF-8 has",
        ),
        (
            with("}}", &format!("}},\"tags\":[{}]}}", tags.join(","))),
            "has more than 64 tags",
        ),
        (with("}}", "},\"tags\":[\"\"]}"), "a tag has 0 bytes"),
        (
            with("}}", "},\"schema_version\":-1}"),
            "schema_version is -1",
        ),
        (
            with("}}", "},\"schema_version\":1.0}"),
            "schema_version is not an integer",
        ),
        (
            with("}}", "},\"correlation_id\":\"a\"}"),
            "correlation_id is not a UUID",
        ),
        (
            with(
                "}}",
                "},\"causation_id\":\"00000000-0000-0000-0000-000000000000\"}",
            ),
            "causation_id is all zero",
        ),
        (
            with("\"data\": {\"n\": 1}", "\"data_base64\": \"ä\""),
            "data_base64 is not base64",
        ),
        (
            with("}}", "},\"data_base64\":\"AA==\"}"),
            "has data_base64 and also data",
        ),
        (
            with("}}", "},\"metadata_base64\":\"AA==\"}"),
            "has metadata_base64 and also event_id, timestamp, metadata, for which there is no",
        ),
        (with("case-1", ""), "stream has 0 bytes"),
        (with("case-1", &"a".repeat(1025)), "stream has 1025 bytes"),
        (
            with("case-1", "\\ud800"),
            "stream_id is no text that UTF-8 has",
        ),
        (with("Opened", ""), "event_type has 0 bytes"),
        (
            with(
                "}}",
                &format!("}},\"content_type\":\"{}\"}}", "a".repeat(256)),
            ),
            "content_type has 256",
        ),
        (with("{\"n\": 1}", &large), "at most 67108852 are allowed"),
    ];
    let good = lines(0..24);
    for (bad, reason) in damaged {
        let start = String::from_utf8_lossy(&bad[..bad.len().min(60)]).into_owned();
        let text = [good.as_bytes(), &bad, lines(100..101).as_bytes()].concat();
        let failed = load(&store, &text, 10).unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::BadLine, "{start}: {failed}");
        let message = failed.to_string();
        assert!(message.starts_with("line 25: "), "{start}: {message}");
        assert!(message.contains(reason), "{start}: {message}");
        assert_eq!(failed.report.bad_line, 25, "{start}");
        assert_eq!(store.last_position().unwrap(), 20, "{start}");
    }
    let report = load(&store, (good + &lines(100..101)).as_bytes(), 10).unwrap();
    assert_eq!((report.imported, report.known), (5, 20));
}

#[test]
fn torn_last_line_is_reported_and_left_out_at_every_length() {
    let (_directory, store) = new_store();
    let first = line_with(0, "", "");
    let last = line_with(1, "{\"n\": 1}", "\"ä\\u00e4\"");
    let last = last.trim_end().as_bytes();
    for length in 1..last.len() {
        let text = [first.as_bytes(), &last[..length]].concat();
        let report = load(&store, &text, 1000).unwrap();
        assert_eq!(
            (
                report.torn_line,
                report.line_count,
                report.imported + report.known
            ),
            (2, 2, 1),
            "{length}"
        );
    }
    assert_eq!(store.last_position().unwrap(), 1);
    // Whole, though without a newline.
    let report = load(&store, &[first.as_bytes(), last].concat(), 1000).unwrap();
    assert_eq!((report.torn_line, report.imported), (0, 1));
    // The same piece of a line with a newline behind it was not torn.
    let cut = [first.as_bytes(), &last[..last.len() - 5], b"\n"].concat();
    assert_eq!(load(&store, &cut, 1000).unwrap_err().report.bad_line, 2);
}

/// Tails that are no whole object, whatever else is wrong with them, and objects that are whole and wrong.
fn ends_without_newline() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let whole = line_with(1, "", "");
    let whole = whole.trim_end();
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep = whole.replacen("{\"n\": 1}", &nested, 1);
    let many: Vec<String> = (0..=FIELD_COUNT_MAX)
        .map(|n| format!("\"{n}\":0"))
        .collect();
    let many = many.join(",");
    let torn: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        vec![0; 4096],
        [whole.as_bytes(), &[0; 100]].concat(),
        [&whole.as_bytes()[..30], &[0; 100]].concat(),
        [b" \t".as_slice(), &[0; 100]].concat(),
        b"5".to_vec(),
        b"no json".to_vec(),
        b"\xff".to_vec(),
        b"{1:1}".to_vec(),
        b"{\"a\":1,\"a\":2".to_vec(),
        format!("{whole} {{").into_bytes(),
        format!("{{\"data\":{}", "[".repeat(5000)).into_bytes(),
        deep[..deep.len() - 1].into(),
        deep.replacen("]]", "]\0]", 1).into_bytes(),
        format!("{{{many}").into_bytes(),
    ];
    let wrong: Vec<Vec<u8>> = vec![
        b"{}".to_vec(),
        b"{\"a\":1,\"a\":2}".to_vec(),
        whole.replacen("case-1", "", 1).into_bytes(),
        deep.clone().into_bytes(),
        format!("{{{many}}}").into_bytes(),
    ];
    (torn, wrong)
}

#[test]
fn a_last_line_that_is_no_whole_object_is_torn_as_the_peer_says() {
    let (directory, store) = new_store();
    let first = line_with(0, "", "");
    load(&store, first.as_bytes(), 1000).unwrap();
    let (torn, wrong) = ends_without_newline();
    for last in &torn {
        let start = String::from_utf8_lossy(&last[..last.len().min(60)]).into_owned();
        let report = load(&store, &[first.as_bytes(), last].concat(), 1000).unwrap();
        assert_eq!((report.torn_line, report.known), (2, 1), "{start}");
        // The first of two is not the last, and neither is one with a newline behind it.
        for behind in ["\n", "\n{}"] {
            let text = [first.as_bytes(), last, behind.as_bytes()].concat();
            let failed = load(&store, &text, 1000).unwrap_err();
            assert_eq!(failed.report.bad_line, 2, "{start}");
        }
    }
    for last in &wrong {
        let start = String::from_utf8_lossy(&last[..last.len().min(60)]).into_owned();
        let failed = load(&store, &[first.as_bytes(), last].concat(), 1000).unwrap_err();
        assert_eq!(failed.report.bad_line, 2, "{start}");
    }
    assert_eq!(store.last_position().unwrap(), 1);
    let told = peer::judged(directory.path(), &[torn.clone(), wrong].concat());
    let expected = (0..told.len()).map(|at| if at < torn.len() { "torn" } else { "bad" });
    assert_eq!(told, expected.collect::<Vec<_>>());
}

#[test]
fn lines_that_are_all_long_make_batches_of_their_own() {
    let (_directory, store) = new_store();
    // 33 of these and a bit are 32 MiB, at which a batch ends; blank lines count like others.
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    let mut text = String::new();
    for number in 0..40 {
        text += &line_with(number, "{\"n\": 1}", &long);
    }
    text += &format!("{}\n", " ".repeat(999_999)).repeat(28);
    text += &lines(40..42);
    let mut told = Vec::new();
    let mut tell = |now: Progress| {
        told.push(now.events);
        true
    };
    let options = ImportOptions::default();
    import(&store, &mut text.as_bytes(), 0, &options, &mut tell).unwrap();
    assert_eq!(told, [34, 40, 42]);
}

#[test]
fn empty_lines_mean_nothing_and_progress_is_told_after_each_batch() {
    let (directory, store) = new_store();
    let text = format!("\n \r\n{LINE}\n\n\t\x0B\x0C\n ");
    let report = load(&store, text.as_bytes(), 1000).unwrap();
    assert_eq!(
        (report.line_count, report.imported, report.torn_line),
        (6, 1, 0)
    );
    assert_eq!(load(&store, b"", 1000).unwrap(), ImportReport::default());

    let path = directory.path().join("events.ndjson");
    let text = lines(0..25);
    fs::write(&path, &text).unwrap();
    let mut told = Vec::new();
    let mut tell = |now: Progress| {
        told.push(now);
        true
    };
    import_file(&store, &path, &batches_of(10), &mut tell).unwrap();
    let total = text.len() as u64;
    let events: Vec<u64> = told.iter().map(|now| now.events).collect();
    assert_eq!(events, [10, 20, 25]);
    assert!(told.iter().all(|now| now.total == total), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].bytes < pair[1].bytes));
    assert_eq!(told[2].bytes, total);

    let text = lines(50..75);
    let mut stop = |_: Progress| false;
    let options = batches_of(10);
    let report = import(&store, &mut text.as_bytes(), 0, &options, &mut stop).unwrap();
    assert_eq!(
        (report.stopped, report.imported, report.line_count),
        (true, 10, 10)
    );
    let missing = import_file(&store, directory.path().join("none"), &options, &mut go_on);
    assert_eq!(missing.unwrap_err().error.kind(), ErrorKind::NotFound);
    let unreadable = import_file(&store, directory.path(), &options, &mut go_on);
    assert_eq!(unreadable.unwrap_err().error.kind(), ErrorKind::Io);
    let zero = load(&store, text.as_bytes(), 0).unwrap_err();
    assert_eq!(zero.error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn hostile_files_are_errors_and_nothing_else() {
    let (_directory, store) = new_store();
    // A line that never ends.
    let mut endless = LINE.as_bytes().chain(std::io::repeat(b' '));
    let failed = import(&store, &mut endless, 0, &batches_of(1), &mut go_on).unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::BadLine);
    assert_eq!(
        failed.to_string(),
        format!("line 1: is longer than {LINE_LEN_MAX} bytes")
    );
    // Nested so deep that a reader that calls itself would have no stack left; texts, names,
    // numbers and lists that are as long as a line can be.
    let long = 8 << 20;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"\":[", "]}]")] {
        for close in [close, ""] {
            let value = format!("{}1{}", open.repeat(long), close.repeat(long));
            let text = line_with(1, "{\"n\": 1}", &value);
            assert_eq!(
                load(&store, text.as_bytes(), 1)
                    .unwrap_err()
                    .report
                    .bad_line,
                1
            );
        }
    }
    for (old, new) in [
        ("case-1", "\\u0000".repeat(long)),
        ("\"case-1\"", "9".repeat(long)),
        ("\"e-1\"", "9".repeat(long)),
        ("}}", format!("}}, \"tags\": [{}\"\"]}}", "0,".repeat(long))),
        (
            "}}",
            format!("}}, \"data_base64\": \"{}\"}}", "A".repeat(long + 1)),
        ),
        (
            "\"event_id\"",
            format!("\"{}\": 1, \"event_id\"", "\\n".repeat(long)) + &",".repeat(long),
        ),
    ] {
        let text = LINE.replacen(old, &new, 1) + "\n";
        let failed = load(&store, text.as_bytes(), 1).unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::BadLine, "{old}");
    }
    assert_eq!(store.last_position().unwrap(), 0);
    // Numbers mean nothing here, so none is too large.
    let text = line_with(
        1,
        "{\"n\": 1}",
        &format!("{}e{}", "9".repeat(100_000), "9".repeat(100_000)),
    );
    assert_eq!(load(&store, text.as_bytes(), 1).unwrap().imported, 1);
    assert_eq!(dump(&store), text);
}

// ---- exporting ----------------------------------------------------------------------------------

#[test]
fn resumed_after_any_cut_it_is_the_same() {
    let (directory, store) = new_store();
    load(&store, lines(0..2500).as_bytes(), 1000).unwrap();
    let whole = dump(&store);
    let path = directory.path().join("out.ndjson");
    let run = |from, resume| {
        let options = ExportOptions { from, resume };
        export_file(&store, &path, &options, &mut go_on)
    };
    let first = whole.find('\n').unwrap() + 1;
    for kept in [
        0,
        1,
        first - 1,
        first,
        first + 1,
        whole.len() / 2,
        whole.len() - 1,
        whole.len(),
    ] {
        fs::write(&path, &whole[..kept]).unwrap();
        let report = run(0, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "{kept}");
        let written = 2500 - whole[..kept].matches('\n').count() as u64;
        assert_eq!((report.event_count, report.last_position), (written, 2500));
    }
    load(&store, lines(3000..3001).as_bytes(), 1000).unwrap();
    assert_eq!(run(1, true).unwrap().event_count, 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), dump(&store));

    // A file that is there is not overwritten, and a strange one not resumed.
    assert_eq!(run(1, false).unwrap_err().kind(), ErrorKind::Exists);
    let second = whole.lines().nth(1).unwrap();
    for strange in [
        "hello\n",
        &format!("{second}\n"),
        &(whole.clone() + "\n"),
        &(whole.clone() + &whole),
    ] {
        fs::write(&path, strange).unwrap();
        let error = run(1, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(
            error.to_string().contains("it is no export of this store"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), strange);
    }

    // From a position on.
    fs::remove_file(&path).unwrap();
    assert_eq!(run(2401, false).unwrap().event_count, 101);
    let last: String = dump(&store).split_inclusive('\n').skip(2400).collect();
    assert_eq!(fs::read_to_string(&path).unwrap(), last);
    assert_eq!(run(2401, true).unwrap().event_count, 0);
    let beyond = export(&store, &mut Vec::new(), 5000, &mut go_on).unwrap();
    let nothing = ExportReport {
        last_position: 4999,
        ..ExportReport::default()
    };
    assert_eq!(beyond, nothing);
}

#[test]
fn progress_of_an_export_is_told_and_can_stop() {
    let (directory, store) = new_store();
    load(&store, lines(0..2500).as_bytes(), 1000).unwrap();
    let path = directory.path().join("out.ndjson");
    let mut told = Vec::new();
    let mut stop = |now: Progress| {
        // What is told is in the file.
        told.push((
            now.events,
            now.total,
            fs::metadata(&path).unwrap().len() == now.bytes,
        ));
        now.events < 2000
    };
    let report = export_file(&store, &path, &ExportOptions::default(), &mut stop).unwrap();
    assert_eq!(told, [(1000, 2500, true), (2000, 2500, true)]);
    assert_eq!(
        (report.stopped, report.event_count, report.last_position),
        (true, 2000, 2000)
    );
    let options = ExportOptions {
        resume: true,
        ..ExportOptions::default()
    };
    let mut told = Vec::new();
    let mut tell = |now: Progress| {
        told.push((now.events, now.total));
        true
    };
    let report = export_file(&store, &path, &options, &mut tell).unwrap();
    assert_eq!((report.event_count, told), (500, vec![(500, 500)]));
    assert_eq!(fs::read_to_string(&path).unwrap(), dump(&store));
}

/// A file on a device that is full.
#[test]
fn a_target_that_fails_is_an_error_and_the_store_is_not_concerned() {
    let (directory, store) = new_store();
    load(&store, lines(0..10).as_bytes(), 1000).unwrap();
    let mut full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = export(&store, &mut full, 1, &mut go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let path = directory.path().join("no/such/folder");
    let error = export_file(&store, path, &ExportOptions::default(), &mut go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(dump(&store), lines(0..10));
}

// ---- the C face ---------------------------------------------------------------------------------

#[test]
fn arguments_from_c_are_checked_and_outcomes_told() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("eventstore_ndjson");
    let source = root().join("tests/c/eventstore_ndjson.c");
    common::compile_c(&[&source], &program);
    let mut runs = vec![Command::new(&program)];
    runs.extend(common::valgrind(&program));
    for (number, mut command) in runs.into_iter().enumerate() {
        let empty = directory.path().join(number.to_string());
        fs::create_dir(&empty).unwrap();
        let printed = common::run(command.arg(&empty));
        let checks: u32 = printed.split(' ').next().unwrap().parse().unwrap();
        assert!(checks >= 50, "{printed:?}");
    }
}
