//! Two readers of the event store's records agree: the engine, and the pure-Python reader, which was
//! written from FORMAT.md alone.
//!
//! Stores of random events, with every field at its limits too, are written by the engine and read
//! by the pure-Python reader: it must print, line by line, what `EventStore` reads. `DURALOG_SEED`
//! gives a run again.

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

use differential::scratch;
use duralog::eventstore::{AppendRequest, EventStore, EventStoreOptions, NewEvent, SideRecord};
use duralog::format::event::{RequestNote, OP_REQUEST, OP_SAVED_POSITION, OP_STATE_PUT};
use duralog::Durability;
use process::{say, seed, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store_bytes::{
    assert_same_lines, base64, hex, json_text, open_to_read, read_by_engine, read_by_python,
};

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
