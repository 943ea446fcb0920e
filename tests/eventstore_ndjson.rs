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
//! `DURALOG_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

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

// ---- random events ------------------------------------------------------------------------------

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

/// What stands in a text of JSON, as it may be written.
fn random_text(random: &mut Random) -> String {
    let mut text = String::from('"');
    for _ in 0..random.below(12) {
        let piece = match random.below(10) {
            0 => char::from_u32(random.below(0x11_0000) as u32)
                .unwrap_or('x')
                .to_string(),
            1 => format!("\\u{:04x}", random.below(0x1_0000)),
            2 => format!("\\u{:04X}", random.below(0x80)),
            3 => pick(
                random,
                &["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"],
            )
            .into(),
            4 => pick(
                random,
                &[
                    "ä", "😀", "\u{2028}", "\u{7f}", "[", "{", "}", "'", "\u{feff}",
                ],
            )
            .into(),
            _ => char::from(b'a' + random.below(26) as u8).to_string(),
        };
        match piece.as_str() {
            bad if bad.bytes().any(|byte| byte < 32) => {}
            "\"" | "\\" => {}
            _ => text.push_str(&piece),
        }
    }
    text.push('"');
    text
}

fn random_space(random: &mut Random) -> &'static str {
    pick(random, &["", "", "", " ", "\t", "  "])
}

/// A value of JSON as it may be written on one line.
fn random_value(random: &mut Random, depth: u64) -> String {
    let kind = random.below(if depth == 0 { 5 } else { 8 });
    match kind {
        0 => pick(random, &["null", "true", "false"]).into(),
        1 => (random.next() as i64).to_string(),
        2 => {
            let digits = random.next() % 1000;
            let rest = pick(
                random,
                &[
                    "",
                    ".0",
                    ".50",
                    "e5",
                    "E-7",
                    "e+400",
                    ".1234567890123456789012",
                ],
            );
            format!("{}{digits}{rest}", pick(random, &["", "-"]))
        }
        3 | 4 => random_text(random),
        5 => random_object(random, depth),
        _ => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| random_space(random).to_owned() + &random_value(random, depth - 1))
                .collect();
            format!("[{}{}]", items.join(","), random_space(random))
        }
    }
}

fn random_object(random: &mut Random, depth: u64) -> String {
    let fields: Vec<String> = (0..random.below(4))
        .map(|index| {
            let name = random_text(random);
            format!(
                "{}{}{index}\"{}:{}{}",
                random_space(random),
                &name[..name.len() - 1],
                random_space(random),
                random_space(random),
                random_value(random, depth.saturating_sub(1)),
            )
        })
        .collect();
    match fields.len() {
        0 => "{}".into(), // what would be inside is not kept beside what is
        _ => format!("{{{}{}}}", fields.join(","), random_space(random)),
    }
}

/// A line as an export writes it: so importing and exporting it must give every byte back.
fn random_line(random: &mut Random, number: u64) -> String {
    let id = match random.below(4) {
        0 => format!("{number}"),
        1 => format!("\"e-{number}\""),
        2 => format!("\"\\u00e4 \\ud800 {number}\""),
        _ => format!("\"2ed6657d-e927-568b-95e1-{number:012x}\""),
    };
    let time = match random.below(6) {
        0 => "2010-10-02T09:20:39.266000+02:00".to_owned(),
        1 => pick(
            random,
            &[
                "",
                "soon",
                "2010-10-02",
                "2010-13-02T09:20:39Z",
                "9999-12-31T23:59:59Z",
            ],
        )
        .to_owned(),
        2 => format!("1969-12-31 23:59:59.{number}-00:00"),
        3 => format!("2020-02-29T00:00:00.{:09}+00:00", 1_000 * number + 1),
        _ => format!("2020-02-29T00:00:{:02}+00:00", number % 60),
    };
    let metadata = match random.below(4) {
        0 => "{}".into(),
        1 => random_value(random, 3),
        2 => format!("{{\"duralog.ndjson\":{}}}", random_value(random, 2)),
        _ => random_object(random, 3),
    };
    let mut line = format!(
        "{{\"event_id\": {id}, \"stream_id\": \"s-{}\", \"event_type\": \"T{}\", \"data\": {}, \
         \"timestamp\": \"{time}\", \"metadata\": {metadata}",
        random.below(5),
        pick(random, &["", "ä", "\\n", "\\\\", "\u{7f}", "\\u0000"]),
        random_value(random, 4),
    );
    if random.below(4) == 0 {
        line += ", \"tags\": [\"a\", \"ä\\\"\"], \"schema_version\": 18446744073709551615";
    }
    if random.below(4) == 0 {
        line += ", \"content_type\": \"\"";
    }
    if random.below(4) == 0 {
        line += ", \"causation_id\": \"2ed6657d-e927-568b-95e1-2665a8aea6a2\"";
    }
    for name in 0..random.below(3) {
        let _ = write!(line, ", \"more {name}\": {}", random_value(random, 2));
    }
    line + "}\n"
}

#[test]
fn what_came_in_goes_out_byte_for_byte() {
    let seed = seed();
    say(&format!("ndjson: random lines, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    let text: String = (1..=3000)
        .map(|number| random_line(&mut random, number))
        .collect();
    let report = load(&store, text.as_bytes(), 97).unwrap_or_else(|failed| {
        let line = text.lines().nth(failed.report.bad_line as usize - 1);
        panic!("seed {seed}: {failed}: {line:?}")
    });
    assert_eq!(report.imported, 3000, "seed {seed}");
    let out = dump(&store);
    for (found, given) in out.lines().zip(text.lines()) {
        assert_eq!(found, given, "seed {seed}");
    }
    assert_eq!(out, text, "seed {seed}");
    assert_eq!(
        load(&store, text.as_bytes(), 100).unwrap().known,
        3000,
        "seed {seed}"
    );
    // The peer makes the same of it.
    compare_with_peer(directory.path(), &text, seed);
}

/// An event with bytes of every kind.
fn random_event_parts(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let part = |random: &mut Random| match random.below(6) {
        0 => Vec::new(),
        1 => (0..random.below(20)).map(|_| random.next() as u8).collect(),
        2 => format!("{{\"duralog.ndjson\":{}}}", random_value(random, 3)).into_bytes(),
        3 => b"{\"duralog.ndjson\":{\"more\":{\"tags\":[]}}}".to_vec(),
        4 => format!("{{\n\"a\": {}\r\n}}", random_value(random, 3)).into_bytes(),
        _ => random_value(random, 4).into_bytes(),
    };
    (part(random), part(random))
}

#[test]
fn events_that_were_not_imported_come_back_in_another_store() {
    let seed = seed();
    say(&format!("ndjson: random events, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    for number in 0..1500_u64 {
        let (data, metadata) = random_event_parts(&mut random);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.next().to_le_bytes());
        id[8..].copy_from_slice(&number.to_le_bytes());
        let some = |random: &mut Random| random.below(2) == 0;
        let event = NewEvent {
            stream: pick(&mut random, &["a", "ä\"\\", "s-\n\u{7f}", "\u{10ffff}"]),
            event_type: pick(&mut random, &["T", "ä\0"]),
            data: &data,
            metadata: &metadata,
            tags: if some(&mut random) {
                &["x", "ä", "\t"]
            } else {
                &[]
            },
            id: some(&mut random).then_some(id),
            schema_version: random.below(2) * random.next(),
            content_type: pick(&mut random, &["", "application/json", "text/plain"]),
            occurred_ns: some(&mut random).then(|| random.next() as i64),
            correlation_id: some(&mut random).then_some(id),
            causation_id: some(&mut random).then_some(id),
        };
        let request = AppendRequest {
            events: &[event],
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }
    let out = dump(&store);
    let out_lines: Vec<&str> = out.lines().collect();
    assert_eq!(out_lines.len(), 1500);
    let other = open(&directory.path().join("other"));
    load(&other, out.as_bytes(), 100).unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
    let on_one_line = |bytes: &[u8]| -> Vec<u8> {
        let blank = |byte: &u8| if b"\r\n".contains(byte) { b' ' } else { *byte };
        bytes.iter().map(blank).collect()
    };
    for position in 1..=1500 {
        let (page, copied) = (
            store.event_at(position).unwrap(),
            other.event_at(position).unwrap(),
        );
        let (event, copy) = (page.get(0).unwrap(), copied.get(0).unwrap());
        let what = format!("seed {seed}, position {position}");
        assert_eq!(event.stream, copy.stream, "{what}");
        assert_eq!(event.stream_version, copy.stream_version, "{what}");
        assert_eq!(event.event_type, copy.event_type, "{what}");
        assert_eq!(event.id, copy.id, "{what}");
        assert_eq!(event.tag_bytes, copy.tag_bytes, "{what}");
        assert_eq!(event.schema_version, copy.schema_version, "{what}");
        assert_eq!(event.content_type, copy.content_type, "{what}");
        assert_eq!(event.correlation_id, copy.correlation_id, "{what}");
        assert_eq!(event.causation_id, copy.causation_id, "{what}");
        let occurred_ns = event.occurred_ns.unwrap_or(event.time_ns as i64);
        assert_eq!(Some(occurred_ns), copy.occurred_ns, "{what}");
        if out_lines[position as usize - 1].contains(", \"data\": ") {
            assert_eq!(on_one_line(event.data).trim_ascii(), copy.data, "{what}");
        } else {
            assert_eq!(event.data, copy.data, "{what}");
        }
    }
    assert_eq!(dump(&other), out, "seed {seed}");
    // And the peer writes the same.
    store.close().unwrap();
    let path = directory.path().join("peer.ndjson");
    let mut command = peer_tool();
    output_of(
        command
            .arg("export")
            .arg(directory.path().join("store"))
            .arg(&path),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), out, "seed {seed}");
}

// ---- the peer -----------------------------------------------------------------------------------

/// `python3 -m duralog.ndjson`
fn peer_tool() -> Command {
    python("ndjson_peer.py")
}

/// Everything that an importer decides, for each event in order.
fn described(store: &EventStore) -> Vec<String> {
    let mut reader = store.read(Read::default()).unwrap();
    let mut found = Vec::new();
    loop {
        let page = reader.next_page(1000).unwrap();
        if page.is_empty() {
            return found;
        }
        for event in page.iter() {
            let tags: Vec<&str> = event.tags().collect();
            found.push(format!(
                "{} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {:?}",
                event.position,
                event.stream_version,
                event.id,
                event.has_own_id,
                event.stream,
                event.event_type,
                event.data.escape_ascii().to_string(),
                event.metadata.escape_ascii().to_string(),
                tags,
                event.schema_version,
                event.content_type,
                event.occurred_ns,
                (event.correlation_id, event.causation_id),
            ));
        }
    }
}

/// From the same file, both importers make the same events, and from the same events the same file.
fn compare_with_peer(directory: &Path, text: &str, seed: u64) {
    let (ours, theirs) = (directory.join("ours"), directory.join("theirs"));
    let [given, out] = ["given.ndjson", "out.ndjson"].map(|name| directory.join(name));
    fs::write(&given, text).unwrap();
    output_of(peer_tool().arg("import").arg(&theirs).arg(&given));
    output_of(peer_tool().arg("export").arg(&theirs).arg(&out));
    let store = open(&ours);
    import_file(&store, &given, &ImportOptions::default(), &mut go_on).unwrap();
    let their_store = open(&theirs);
    for (our, their) in described(&store).iter().zip(&described(&their_store)) {
        assert_eq!(our, their, "seed {seed}");
    }
    assert_eq!(
        store.last_position().unwrap(),
        their_store.last_position().unwrap()
    );
    assert!(
        dump(&store) == fs::read_to_string(&out).unwrap(),
        "seed {seed}: exports"
    );
    // Each knows again what the other imported.
    let known = import_file(&their_store, &given, &ImportOptions::default(), &mut go_on);
    assert_eq!(known.unwrap().imported, 0, "seed {seed}");
    their_store.close().unwrap();
    store.close().unwrap();
    let told = output_of(peer_tool().arg("import").arg(&ours).arg(&given));
    assert!(
        told.contains(": 0 events imported, "),
        "seed {seed}: {told}"
    );
}

fn change(line: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const TELLING: [&[u8]; 20] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\ud800",
        b"\\u00e4",
        b"null",
        b"-0",
        b"1e5",
        b" ",
        b"\xff",
        b"\n",
        b"\"tags\": [\"a\"], ",
        b"\"data_base64\": \"AA==\", ",
        b"\"more\": 1, ",
        b"duralog.ndjson",
    ];
    for _ in 0..=random.below(2) {
        let at = random.below(line.len() as u64 + 1) as usize;
        let len = (random.below(20) as usize).min(line.len() - at);
        match random.below(6) {
            0 if at < line.len() => line[at] ^= 1 << random.below(8),
            1 => drop(line.drain(at..at + len)),
            2 => line.truncate(at),
            3 => {
                let from = random.below(other.len() as u64) as usize;
                let piece = other[from..].iter().take(len).copied();
                drop(line.splice(at..at, piece));
            }
            _ => {
                let piece = TELLING[random.below(TELLING.len() as u64) as usize];
                drop(line.splice(at..at, piece.iter().copied()));
            }
        }
    }
}

#[test]
fn both_importers_judge_changed_lines_alike() {
    let seed = seed();
    say(&format!("ndjson: changed lines, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    let mut changed: Vec<Vec<u8>> = Vec::new();
    for number in 0..6000 {
        let mut line = random_line(&mut random, number).into_bytes();
        let other = random_line(&mut random, number).into_bytes();
        change(&mut line, &other, &mut random);
        // One line: what would be two is cut behind the first.
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end + 1);
        }
        if !line
            .iter()
            .all(|byte| byte.is_ascii_whitespace() || *byte == 11)
        {
            changed.push(line);
        }
    }
    let file = directory.path().join("lines");
    let with_len = |line: &Vec<u8>| [&(line.len() as u32).to_le_bytes(), &line[..]].concat();
    fs::write(
        &file,
        changed.iter().flat_map(with_len).collect::<Vec<u8>>(),
    )
    .unwrap();
    let theirs = output_of(peer_tool().arg("judge").arg(&file));
    let theirs: Vec<&str> = theirs.lines().collect();
    assert_eq!(theirs.len(), changed.len());

    let hex = |bytes: &[u8]| -> String {
        match bytes {
            [] => "-".into(),
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    };
    let mut counts = BTreeMap::<&str, u32>::new();
    for (line, their) in changed.iter().zip(theirs) {
        let ours = match load(&store, line, 1) {
            Ok(report) if report.torn_line > 0 => "torn".to_owned(),
            Ok(report) if report.known > 0 => continue,
            Ok(report) => {
                assert_eq!(report.imported, 1);
                let position = store.last_position().unwrap();
                let page = store.event_at(position).unwrap();
                let event = page.get(0).unwrap();
                let mut parts: Vec<String> = [
                    &event.id[..],
                    event.stream.as_bytes(),
                    event.event_type.as_bytes(),
                    event.data,
                    event.metadata,
                    event.content_type.as_bytes(),
                ]
                .map(hex)
                .into();
                parts.extend(event.tags().map(|tag| hex(tag.as_bytes())));
                parts.push(event.schema_version.to_string());
                parts.push(event.occurred_ns.map_or("None".into(), |ns| ns.to_string()));
                for id in [event.correlation_id, event.causation_id] {
                    parts.push(id.map_or("None".into(), |id| hex(&id)));
                }
                parts.join(" ")
            }
            // An id that was there with another content: the line itself was good.
            Err(failed) if failed.to_string().contains("its event_id belongs to") => continue,
            Err(failed) => {
                assert_eq!(failed.error.kind(), ErrorKind::BadLine, "{failed}");
                "bad".to_owned()
            }
        };
        let line = String::from_utf8_lossy(line);
        assert_eq!(ours, their, "seed {seed}: {line:?}");
        let kind = if ours.len() > 4 { "event" } else { their };
        *counts.entry(kind).or_default() += 1;
    }
    say(&format!("ndjson: changed lines: {counts:?}"));
    assert!(
        counts.len() == 3 && counts.values().all(|count| *count > 100),
        "{counts:?}"
    );
}

// ---- the receipt log ----------------------------------------------------------------------------

/// The real file; `None`, with a message, if it is not there.
fn receipts() -> Option<(PathBuf, String)> {
    let path = std::env::var_os("DURALOG_RECEIPTS").map_or_else(
        || root().join("../shared/data/receipt.ndjson"),
        PathBuf::from,
    );
    let Ok(text) = fs::read_to_string(&path) else {
        say(&format!("ndjson: skipped, there is no {}", path.display()));
        return None;
    };
    assert_eq!(text.lines().count(), 8577, "the file is the one we know");
    Some((path, text))
}

/// The text between `before` and `after` in a line of JSON.
fn between<'a>(line: &'a str, before: &str, after: &str) -> &'a str {
    let begin = line.find(before).unwrap() + before.len();
    line[begin..].split(after).next().unwrap()
}

fn check_receipts(path: &Path, text: &str) {
    let mut by_stream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut by_type: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        by_stream
            .entry(between(line, "\"stream_id\": \"", "\""))
            .or_default()
            .push(line);
        by_type
            .entry(between(line, "\"event_type\": \"", "\""))
            .or_default()
            .push(line);
    }
    assert_eq!((by_stream.len(), by_type.len()), (1434, 27));
    let how = EventStoreOptions {
        wal: WalOptions {
            how: OpenHow::ReadOnly,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open(path, &how).unwrap();
    let check = |selection: Selection, expected: &[&str]| {
        let read = Read {
            selection: selection.clone(),
            ..Read::default()
        };
        let mut reader = store.read(read).unwrap();
        let mut expected = expected.iter();
        let mut version = 0;
        loop {
            let page = reader.next_page(100).unwrap();
            if page.is_empty() {
                break;
            }
            for event in page.iter() {
                let line = expected.next().unwrap();
                let data = between(line, "\"data\": ", ", \"timestamp\": ");
                assert_eq!(event.data, data.as_bytes(), "{selection:?}");
                assert_eq!(event.event_type, between(line, "\"event_type\": \"", "\""));
                assert_eq!(event.stream, between(line, "\"stream_id\": \"", "\""));
                if matches!(selection, Selection::Stream(_)) {
                    version += 1;
                    assert_eq!(event.stream_version, version, "{selection:?}");
                }
            }
        }
        assert_eq!(expected.next(), None, "{selection:?}");
    };
    for (stream, expected) in &by_stream {
        check(Selection::Stream((*stream).to_owned()), expected);
    }
    for (event_type, expected) in &by_type {
        let item = QueryItem {
            types: vec![(*event_type).to_owned()],
            tags: vec![],
        };
        check(Selection::Query(Query { items: vec![item] }), expected);
    }
    check(Selection::All, &text.lines().collect::<Vec<_>>());
    assert!(
        dump(&store) == text,
        "the export is the file, byte for byte"
    );
}

#[test]
fn real_events_are_imported_read_and_exported_byte_for_byte() {
    let Some((path, text)) = receipts() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("store");
    for imported in [8577, 0] {
        let store = EventStore::open(&place, &EventStoreOptions::default()).unwrap();
        let report = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
        let expected = ImportReport {
            line_count: 8577,
            imported,
            known: 8577 - imported,
            ..ImportReport::default()
        };
        assert_eq!(report, expected);
        store.close().unwrap();
        check_receipts(&place, &text);
    }
    compare_with_peer(directory.path(), &text, 0);
}

/// Where the child finds its store, and the file.
const CHILD: &str = "DURALOG_NDJSON_CHILD";

/// Not a test of its own: what is killed below.
#[test]
fn child_that_imports() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (store, file) = told.split_once('\n').unwrap();
    let store = EventStore::open(store, &EventStoreOptions::default()).unwrap();
    let mut tell = |now: Progress| {
        println!("\n@{}", now.events);
        true
    };
    import_file(&store, file, &batches_of(50), &mut tell).unwrap();
    println!("\n@done");
}

#[test]
fn killed_half_way_and_repeated_the_import_is_the_same() {
    let Some((path, text)) = receipts() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("store");
    let mut there = 0;
    for wanted in [50, 2000, 6000] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "child_that_imports",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(CHILD, format!("{}\n{}", place.display(), path.display()));
        let mut child = Reporter::start(&mut command);
        loop {
            let line = child.line();
            assert_ne!(line, "done", "it was done before it was killed");
            if line.parse::<u64>().unwrap() >= wanted {
                break;
            }
        }
        drop(child); // which kills it
        let store = open(&place);
        there = store.last_position().unwrap();
        assert_eq!(there % 50, 0, "no batch is in by halves");
        assert!((wanted..8577).contains(&there), "{there}");
        store.close().unwrap();
    }
    let store = open(&place);
    let report = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
    assert_eq!((report.imported, report.known), (8577 - there, there));
    store.close().unwrap();
    check_receipts(&place, &text);
}

// ---- the simulated disk -------------------------------------------------------------------------

fn open_on(disk: &SimDisk) -> duralog::Result<EventStore> {
    EventStore::open_on(
        Arc::new(disk.clone()),
        "/store",
        &EventStoreOptions::default(),
    )
}

/// After whatever happened, the import is repeated, and is whole.
fn repeat_on(disk: &SimDisk, text: &str, batch_count: u64, what: &str) {
    let store = open_on(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let there = store.last_position().unwrap();
    let count = text.lines().count() as u64;
    assert!(
        there % batch_count == 0 || there == count,
        "{what}: {there}"
    );
    let report = load(&store, text.as_bytes(), 7).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(
        (report.known, report.imported),
        (there, count - there),
        "{what}"
    );
    assert!(dump(&store) == text, "{what}");
}

#[test]
fn an_import_on_a_failing_disk_is_repeated_and_whole() {
    let text = lines(0..40);
    let mut nth = 0;
    let mut failed = 0;
    loop {
        nth += 1;
        let disk = SimDisk::new(nth);
        let store = open_on(&disk).unwrap();
        disk.fail(FaultPlan::any(nth, Fault::Error(errno::EIO)));
        let outcome = load(&store, text.as_bytes(), 10);
        disk.clear_faults();
        let calls = disk.counts().total();
        if let Err(error) = &outcome {
            failed += 1;
            assert_ne!(
                error.error.kind(),
                ErrorKind::BadLine,
                "call {nth}: {error}"
            );
            assert_eq!(error.report.imported % 10, 0, "call {nth}");
            let read = store.last_position().unwrap();
            assert!(read >= error.report.imported, "call {nth}");
        }
        drop(store);
        repeat_on(&disk, &text, 10, &format!("call {nth}"));
        disk.reset_counts();
        if outcome.is_ok() && nth > calls {
            break;
        }
    }
    assert!(failed >= 4, "{failed} of {nth} calls failed the import");
}

#[test]
fn an_import_that_loses_power_is_repeated_and_whole() {
    let seed = seed();
    let text = lines(0..40);
    let disk = SimDisk::new(seed);
    let store = open_on(&disk).unwrap();
    let teller = disk.clone();
    let mut tell = |now: Progress| {
        teller.acknowledge(now.events);
        true
    };
    import(&store, &mut text.as_bytes(), 0, &batches_of(10), &mut tell).unwrap();
    drop(store);
    let mut images = 0;
    for moment in disk.crash_moments() {
        let acknowledged = disk.acknowledged(moment.at).into_iter().max().unwrap_or(0);
        for fill in [Fill::Zero, Fill::Random] {
            for state in CrashStates::new(&disk, moment.at, fill).sampled(seed, 2) {
                let what = format!("seed {seed}, {}: {}", moment.why, state.describe());
                let cut = SimDisk::from_image(&state.image(), seed);
                let store = open_on(&cut).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(store.last_position().unwrap() >= acknowledged, "{what}");
                drop(store);
                repeat_on(&cut, &text, 10, &what);
                images += 1;
            }
        }
    }
    say(&format!(
        "ndjson: {images} images of power cuts, DURALOG_SEED={seed}"
    ));
    assert!(images > 20, "{images}");
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
