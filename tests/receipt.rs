//! Real events through the whole library: 8,577 events of 1,434 building-permit cases, appended from
//! Python with one batch for each case, are read back in C, in pure Python, through the Python
//! package and in Rust, and are the bytes of the file.
//!
//! The data lies beside the repository, in `../shared/data/receipt.ndjson`; without it the test says
//! so and ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use process::{python, say, READERS};
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

/// The text between `before` and `after` in a line of JSON.
fn between<'a>(line: &'a str, before: &str, after: char) -> &'a str {
    let begin = line.find(before).unwrap() + before.len();
    line[begin..].split(after).next().unwrap()
}

#[test]
fn real_events_come_back_byte_for_byte_in_every_language() {
    let source = common::root().join("../shared/data/receipt.ndjson");
    let Ok(text) = fs::read_to_string(&source) else {
        say(&format!(
            "receipt: skipped, there is no {}",
            source.display()
        ));
        return;
    };
    // What is expected, made here without the writer's help.
    let mut order = Vec::new();
    let mut cases: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for line in text.lines() {
        let case = between(line, "\"stream_id\": \"", '"');
        let event = between(line, "\"event_id\": ", ',');
        let events = cases.entry(case).or_default();
        if events.is_empty() {
            order.push(case);
        }
        events.push((event, line));
    }
    let events: usize = cases.values().map(Vec::len).sum();
    assert_eq!(
        (events, order.len()),
        (8577, 1434),
        "the file is the one we know"
    );

    let directory = tempfile::tempdir().unwrap();
    let dump_log = process::build_dump_c(directory.path());
    let log = directory.path().join("log");
    let begin = Instant::now();
    let mut writer = python("receipt_writer.py");
    let told = process::output_of(writer.arg(&log).arg(&source));
    assert_eq!(told.trim(), "8577 events in 1434 batches");
    let written = begin.elapsed();
    for reader in READERS {
        let begin = Instant::now();
        let dump = reader.dump(&log, &dump_log);
        let elapsed = begin.elapsed();
        assert_eq!(dump.error, None, "{reader:?}");
        let batches: Vec<_> = dump
            .records
            .chunk_by(|a, b| a.batch_id == b.batch_id)
            .collect();
        assert_eq!(batches.len(), order.len(), "{reader:?}");
        let mut next_seq = 1;
        for (batch, case) in batches.iter().zip(&order) {
            let expected = &cases[case];
            assert_eq!(batch.len(), expected.len(), "{reader:?}: {case}");
            for (record, (event, line)) in batch.iter().zip(expected) {
                assert_eq!(record.seq, next_seq, "{reader:?}: event {event}");
                assert_eq!(record.op, 1, "{reader:?}: event {event}");
                assert_eq!(record.key, event.as_bytes(), "{reader:?}: event {event}");
                assert_eq!(record.value, line.as_bytes(), "{reader:?}: event {event}");
                next_seq += 1;
            }
            // The COMMIT has a number too.
            next_seq += 1;
        }
        // And put back into the order of the file, they are the file.
        let mut records: Vec<_> = dump.records.iter().collect();
        records.sort_by_key(|record| -> u64 {
            std::str::from_utf8(&record.key).unwrap().parse().unwrap()
        });
        let mut whole = Vec::new();
        for record in records {
            whole.extend_from_slice(&record.value);
            whole.push(b'\n');
        }
        assert!(whole == fs::read(&source).unwrap(), "{reader:?}: the file");
        say(&format!(
            "receipt: {events} events in {} batches read by {reader:?} in {} ms",
            batches.len(),
            elapsed.as_millis()
        ));
    }
    say(&format!(
        "receipt: written by Python, each batch durable, in {} ms",
        written.as_millis()
    ));
}
