//! The workloads of the event store, in its Rust face, and of a table of events in SQLite.
//!
//! Event number n (from 0) is of stream n modulo the number of streams, so that the events of a
//! stream lie scattered over the whole store. One in ten thousand or so is of a rare type and has a
//! tag.

use crate::c_face::{Log, Mode};
use crate::log_work::{fill_and_kill, touch, wait_for_death};
use crate::meter::{Latencies, Measured, Meter};
use crate::payload::Payload;
use crate::scale::{streams_of, Scale, RARE_EVENTS, RECORD_LEN};
use crate::system;
use crate::writers::{raw_replay, sqlite_open, Places, Raw, Writer};
use duralog::eventstore::{
    AppendRequest, Condition, EventStore, EventStoreOptions, Expectation, Expected, NewEvent,
    Query, QueryItem, Read, Selection,
};
use duralog::{Durability, ErrorKind, SyncMode, WalOptions};
use rusqlite::{params, Connection};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const BULK: u64 = 1_000;
const RARE_TYPE: &str = "AccountFrozen";
const TYPES: [&str; 16] = [
    "AccountOpened",
    "MoneyDeposited",
    "MoneyWithdrawn",
    "TransferSent",
    "TransferReceived",
    "TransferRefused",
    "InterestPaid",
    "FeeCharged",
    "LimitRaised",
    "LimitLowered",
    "CardIssued",
    "CardBlocked",
    "StatementSent",
    "AddressChanged",
    "OwnerAdded",
    "OwnerRemoved",
];

/// What the events are called; made once, as a caller has it.
pub struct Names {
    streams: Vec<String>,
    tags: Vec<String>,
    rare_every: u64,
}

impl Names {
    pub fn new(events: u64) -> Names {
        Names {
            streams: (0..streams_of(events))
                .map(|n| format!("account-{n:06}"))
                .collect(),
            tags: (0..RARE_EVENTS).map(|n| format!("case:{n}")).collect(),
            rare_every: (events / RARE_EVENTS).max(1),
        }
    }

    fn stream_count(&self) -> u64 {
        self.streams.len() as u64
    }

    fn stream(&self, number: u64) -> &str {
        &self.streams[(number % self.stream_count()) as usize]
    }

    /// Type of an event, and its tag if it has one.
    fn kind(&self, number: u64) -> (&'static str, Option<&str>) {
        if number % self.rare_every == self.rare_every / 2 {
            let tag = (number / self.rare_every) as usize % self.tags.len();
            return (RARE_TYPE, Some(&self.tags[tag]));
        }
        // Not in step with the streams.
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
        (TYPES[mixed as usize], None)
    }
}

/// An event store, or what takes its place.
trait Store {
    /// Events from `first` on, in one batch, whatever the versions are.
    fn append_bulk(&mut self, payload: &Payload, names: &Names, first: u64, count: u64);
    /// What a caller of `append_bulk` must know of a store that is not empty.
    fn learn_versions(&mut self, _: &Names) {}
    fn version(&mut self, stream: &str) -> u64;
    /// One event, if its stream has this version.
    fn append_at(&mut self, stream: &str, version: u64, event_type: &str, data: &[u8]);
    /// All events of a stream.
    fn read_stream(&mut self, stream: &str, sum: &mut u64) -> u64;
    fn scan(&mut self, sum: &mut u64) -> u64;
    fn read_type(&mut self, event_type: &str, sum: &mut u64) -> u64;
    /// An append that must be refused, since an event of the rare type with this tag is there.
    fn refused(&mut self, stream: &str, tag: &str, data: &[u8]);
    fn count(&mut self) -> u64;
    fn close(self: Box<Self>);
}

fn open(contender: &str, dir: &Path, durable: bool) -> Box<dyn Store> {
    match contender {
        "duralog" => Box::new(Duralog::open(&dir.join("store"), durable, false)),
        "sqlite" => Box::new(Sqlite::open(&dir.join("store.db"), durable)),
        other => panic!("no contender {other:?} here"),
    }
}

/// For reading only, with the option for it if that is what is measured.
fn open_to_read(contender: &str, dir: &Path, mapped: bool) -> Box<dyn Store> {
    match contender {
        "duralog" if mapped => Box::new(Duralog::open(&dir.join("store"), true, true)),
        _ => open(contender, dir, true),
    }
}

struct Duralog(EventStore);

impl Duralog {
    fn open(path: &Path, durable: bool, mapped: bool) -> Duralog {
        let sync_mode = if durable {
            SyncMode::Every
        } else {
            SyncMode::Manual
        };
        let options = EventStoreOptions {
            wal: WalOptions {
                sync_mode,
                ..WalOptions::default()
            },
            mapped,
            ..EventStoreOptions::default()
        };
        Duralog(EventStore::open(path, &options).expect("the store opens"))
    }

    fn read(&self, selection: Selection, sum: &mut u64) -> u64 {
        let read = Read {
            selection,
            ..Read::default()
        };
        let mut reader = self.0.read(read).expect("a reading begins");
        let mut count = 0;
        loop {
            let page = reader.next_page(1024).expect("a page");
            if page.is_empty() {
                return count;
            }
            for event in page.iter() {
                touch_event(sum, event.position, event.stream, event.event_type);
                touch(sum, event.data);
                count += 1;
            }
        }
    }
}

fn touch_event(sum: &mut u64, position: u64, stream: &str, event_type: &str) {
    *sum = sum.wrapping_add(position ^ (stream.len() + event_type.len()) as u64);
}

impl Store for Duralog {
    fn append_bulk(&mut self, payload: &Payload, names: &Names, first: u64, count: u64) {
        let data = payload.records(first, count as usize, RECORD_LEN);
        let tags: Vec<Option<&str>> = (0..count).map(|n| names.kind(first + n).1).collect();
        let events: Vec<NewEvent<'_>> = (0..count)
            .zip(data.chunks_exact(RECORD_LEN).zip(&tags))
            .map(|(n, (data, tag))| NewEvent {
                stream: names.stream(first + n),
                event_type: names.kind(first + n).0,
                data,
                tags: tag.as_slice(),
                ..NewEvent::default()
            })
            .collect();
        let request = AppendRequest {
            events: &events,
            ..AppendRequest::default()
        };
        let appended = self.0.append(&request, Durability::AsOpened);
        appended.expect("a batch is appended");
    }

    fn version(&mut self, stream: &str) -> u64 {
        let info = self.0.stream_info(stream).expect("a stream is known");
        info.map_or(0, |info| info.stream_version)
    }

    fn append_at(&mut self, stream: &str, version: u64, event_type: &str, data: &[u8]) {
        let events = [NewEvent {
            stream,
            event_type,
            data,
            ..NewEvent::default()
        }];
        let expected = match version {
            0 => Expected::None,
            _ => Expected::Exact(version),
        };
        let request = AppendRequest {
            events: &events,
            expectations: &[Expectation { stream, expected }],
            ..AppendRequest::default()
        };
        let appended = self.0.append(&request, Durability::AsOpened);
        appended.expect("an event is appended");
    }

    fn read_stream(&mut self, stream: &str, sum: &mut u64) -> u64 {
        self.read(Selection::Stream(stream.to_owned()), sum)
    }

    fn scan(&mut self, sum: &mut u64) -> u64 {
        self.read(Selection::All, sum)
    }

    fn read_type(&mut self, event_type: &str, sum: &mut u64) -> u64 {
        let item = QueryItem {
            types: vec![event_type.to_owned()],
            tags: Vec::new(),
        };
        self.read(Selection::Query(Query { items: vec![item] }), sum)
    }

    fn refused(&mut self, stream: &str, tag: &str, data: &[u8]) {
        let item = QueryItem {
            types: vec![RARE_TYPE.to_owned()],
            tags: vec![tag.to_owned()],
        };
        let query = Query { items: vec![item] };
        let events = [NewEvent {
            stream,
            event_type: TYPES[0],
            data,
            ..NewEvent::default()
        }];
        let request = AppendRequest {
            events: &events,
            conditions: &[Condition {
                query: &query,
                after: 0,
            }],
            ..AppendRequest::default()
        };
        let refused = self.0.append(&request, Durability::AsOpened);
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Conflict), "the append is refused");
    }

    fn count(&mut self) -> u64 {
        self.0.last_position().expect("the store can be asked")
    }

    fn close(self: Box<Self>) {
        self.0.close().expect("the store closes");
    }
}

struct Sqlite {
    db: Connection,
    /// The versions that a bulk append goes on from, which its caller knows.
    versions: Vec<u64>,
}

impl Sqlite {
    fn open(path: &Path, durable: bool) -> Sqlite {
        let db = sqlite_open(path, durable);
        // Events touch pages all over the table: its log may grow to 64 MiB before they are copied
        // back, which makes bulk appends half as fast again.
        db.execute_batch(
            "PRAGMA wal_autocheckpoint=16000;
             CREATE TABLE IF NOT EXISTS events(
                 position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
                 type TEXT NOT NULL, time INTEGER NOT NULL, data BLOB NOT NULL,
                 UNIQUE(stream, version));
             CREATE INDEX IF NOT EXISTS events_type ON events(type);
             CREATE TABLE IF NOT EXISTS tags(
                 tag TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(tag, position)
             ) WITHOUT ROWID;",
        )
        .expect("SQLite makes its tables");
        Sqlite {
            db,
            versions: Vec::new(),
        }
    }

    fn read(&self, sql: &str, parameters: impl rusqlite::Params, sum: &mut u64) -> u64 {
        let mut select = self.db.prepare_cached(sql).expect("prepare");
        let mut rows = select.query(parameters).expect("select");
        let mut count = 0;
        while let Some(row) = rows.next().expect("step") {
            let text = |index| {
                let column = row.get_ref(index).expect("a column");
                column.as_str().expect("text")
            };
            let position = row.get(0).expect("a number");
            let _version: u64 = row.get(2).expect("a number");
            let _time: i64 = row.get(4).expect("a number");
            touch_event(sum, position, text(1), text(3));
            let data = row.get_ref(5).expect("a column");
            touch(sum, data.as_blob().expect("bytes"));
            count += 1;
        }
        count
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> usize {
        let mut statement = self.db.prepare_cached(sql).expect("prepare");
        statement.execute(parameters).expect("execute")
    }
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    since.as_nanos() as i64
}

const COLUMNS: &str = "SELECT position, stream, version, type, time, data FROM events";

impl Store for Sqlite {
    fn append_bulk(&mut self, payload: &Payload, names: &Names, first: u64, count: u64) {
        let data = payload.records(first, count as usize, RECORD_LEN);
        let time = now();
        self.versions.resize(names.streams.len(), 0);
        self.execute("BEGIN IMMEDIATE", []);
        {
            let sql = "INSERT INTO events(stream, version, type, time, data)
                       VALUES(?1, ?2, ?3, ?4, ?5)";
            let mut insert = self.db.prepare_cached(sql).expect("prepare");
            for (number, data) in (first..).zip(data.chunks_exact(RECORD_LEN)) {
                let version = &mut self.versions[(number % names.stream_count()) as usize];
                *version += 1;
                let (event_type, tag) = names.kind(number);
                let row = params![names.stream(number), *version, event_type, time, data];
                insert.execute(row).expect("insert");
                if let Some(tag) = tag {
                    let position = self.db.last_insert_rowid();
                    let sql = "INSERT INTO tags(tag, position) VALUES(?1, ?2)";
                    self.execute(sql, params![tag, position]);
                }
            }
        }
        self.execute("COMMIT", []);
    }

    fn learn_versions(&mut self, names: &Names) {
        self.versions = names
            .streams
            .iter()
            .map(|stream| self.version(stream))
            .collect();
    }

    fn version(&mut self, stream: &str) -> u64 {
        let sql = "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?1";
        let version = self.db.query_row(sql, [stream], |row| row.get(0));
        version.expect("select")
    }

    fn append_at(&mut self, stream: &str, version: u64, event_type: &str, data: &[u8]) {
        // One statement that judges and inserts: the fewest steps that keep a stream gapless.
        let sql = "INSERT INTO events(stream, version, type, time, data)
                   SELECT ?1, ?2 + 1, ?3, ?4, ?5 WHERE
                   (SELECT coalesce(max(version), 0) FROM events WHERE stream = ?1) = ?2";
        let inserted = self.execute(sql, params![stream, version, event_type, now(), data]);
        assert_eq!(inserted, 1, "the stream has the version expected");
    }

    fn read_stream(&mut self, stream: &str, sum: &mut u64) -> u64 {
        let sql = format!("{COLUMNS} WHERE stream = ?1 ORDER BY version");
        self.read(&sql, [stream], sum)
    }

    fn scan(&mut self, sum: &mut u64) -> u64 {
        self.read(&format!("{COLUMNS} ORDER BY position"), [], sum)
    }

    fn read_type(&mut self, event_type: &str, sum: &mut u64) -> u64 {
        let sql = format!("{COLUMNS} WHERE type = ?1 ORDER BY position");
        self.read(&sql, [event_type], sum)
    }

    fn refused(&mut self, stream: &str, tag: &str, data: &[u8]) {
        let sql = "INSERT INTO events(stream, version, type, time, data)
                   SELECT ?1, (SELECT coalesce(max(version), 0) + 1 FROM events WHERE stream = ?1),
                          ?2, ?3, ?4
                   WHERE NOT EXISTS (SELECT 1 FROM tags JOIN events USING (position)
                                     WHERE tag = ?5 AND type = ?6 AND position > 0)";
        let row = params![stream, TYPES[0], now(), data, tag, RARE_TYPE];
        assert_eq!(self.execute(sql, row), 0, "the append is refused");
    }

    fn count(&mut self) -> u64 {
        let count = self
            .db
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0));
        count.expect("select")
    }

    fn close(self: Box<Self>) {
        self.db.close().expect("SQLite closes");
    }
}

/// Makes the store that is read, or the one that is appended to.
pub fn fill_fixture(contender: &str, dir: &Path, events: u64) {
    let payload = Payload::new();
    let names = Names::new(events);
    let mut store = open(contender, dir, false);
    let mut first = 0;
    while first < events {
        let count = BULK.min(events - first);
        store.append_bulk(&payload, &names, first, count);
        first += count;
    }
    assert_eq!(store.count(), events, "events there, and appended");
    store.close();
}

/// A new store, filled in batches.
pub fn bulk(contender: &str, places: Places<'_>, events: u64, out: &mut Measured) {
    let payload = Payload::new();
    let names = Names::new(events);
    let mut meter = Meter::new();
    if contender == "raw" {
        let mut raw = Raw::open(places.fixtures, true);
        meter.begin();
        for first in (0..events).step_by(BULK as usize) {
            let count = BULK.min(events - first) as usize;
            raw.write(payload.records(first, count, RECORD_LEN), RECORD_LEN);
        }
        meter.end();
    } else {
        let mut store = open(contender, places.work, true);
        meter.begin();
        for first in (0..events).step_by(BULK as usize) {
            let count = BULK.min(events - first);
            store.append_bulk(&payload, &names, first, count);
        }
        meter.end();
        meter.tell_memory(out);
        store.close();
        // Seen before it is opened again.
        let disk = system::disk_bytes(places.work);
        out.set("disk", disk as f64 / events as f64);
        let mut store = open(contender, places.work, true);
        assert_eq!(store.count(), events, "events after reopening, and before");
        let mut sum = 0u64;
        assert_eq!(store.scan(&mut sum), events, "events read");
        std::hint::black_box(sum);
        store.close();
    }
    out.set("events_per_s", events as f64 / meter.seconds());
    meter.tell_writes(events, out);
}

/// One event at a time into a store with a past, each at the version that its stream has.
pub fn append(
    contender: &str,
    places: Places<'_>,
    scale: Scale,
    durable: bool,
    out: &mut Measured,
) {
    let appends = match (durable, contender) {
        (true, _) => scale.appends,
        (false, "sqlite") => scale.event_appends_unsynced / 5,
        (false, _) => scale.event_appends_unsynced,
    };
    let payload = Payload::new();
    let names = Names::new(scale.events);
    // Streams in an order that has nothing to do with that in which they began.
    let stream_of = |n: u64| n * 7919 % names.stream_count();
    let mut latencies = Latencies::with_capacity(appends as usize);
    let mut meter = Meter::new();
    let data = |n: u64| payload.records(n, 1, RECORD_LEN);
    match contender {
        "raw" => {
            let mut raw = Raw::open(places.fixtures, durable);
            meter.begin();
            for n in 0..appends {
                latencies.time(|| raw.write(data(n), RECORD_LEN));
            }
            meter.end();
        }
        // The log alone, without what an event store adds.
        "wal" => {
            let mode = if durable { Mode::Durable } else { Mode::Manual };
            let log = Log::open(&places.work.join("log"), mode);
            meter.begin();
            for n in 0..appends {
                latencies.time(|| log.append(data(n)));
            }
            meter.end();
            log.close();
        }
        _ => {
            let dir = places.fixtures.join("events-append");
            let mut store = open(contender, &dir, durable);
            let before = store.count();
            let mut versions: Vec<u64> = (0..names.stream_count())
                .map(|n| store.version(names.stream(n)))
                .collect();
            meter.begin();
            for n in 0..appends {
                let number = stream_of(n);
                let version = &mut versions[number as usize];
                let stream = names.stream(number);
                let event_type = TYPES[n as usize % TYPES.len()];
                latencies.time(|| store.append_at(stream, *version, event_type, data(n)));
                *version += 1;
            }
            meter.end();
            meter.tell_memory(out);
            store.close();
            let mut store = open(contender, &dir, durable);
            assert_eq!(
                store.count(),
                before + appends,
                "events after reopening, and appended"
            );
            let (number, last) = (stream_of(0), names.stream(stream_of(0)));
            let version = versions[number as usize];
            assert_eq!(store.version(last), version, "version after reopening");
            store.close();
        }
    }
    out.set("events_per_s", appends as f64 / meter.seconds());
    latencies.tell(out);
    meter.tell_writes(appends, out);
}

/// Streams of events that lie scattered over the store, one after the other.
pub fn read_streams(
    contender: &str,
    places: Places<'_>,
    scale: Scale,
    mapped: bool,
    out: &mut Measured,
) {
    let names = Names::new(scale.events);
    let stream_of = |n: u64| n * 7919 % names.stream_count();
    let mut latencies = Latencies::with_capacity(scale.stream_reads as usize);
    let mut sum = 0u64;
    let mut found = 0;
    let mut meter = Meter::new();
    if contender == "raw" {
        // As many reads of as many bytes, each with its checksum, at the same distances.
        let file = File::open(places.fixtures.join("raw")).expect("the written file is there");
        let len = file.metadata().expect("it has a length").len();
        let records = len / RECORD_LEN as u64;
        let each = scale.events / names.stream_count();
        let mut record = [0; RECORD_LEN];
        meter.begin();
        for n in 0..scale.stream_reads {
            latencies.time(|| {
                for nth in 0..each {
                    let number = (nth * names.stream_count() + stream_of(n)) % records;
                    let at = number * RECORD_LEN as u64;
                    file.read_exact_at(&mut record, at).expect("pread");
                    sum = sum.wrapping_add(u64::from(crc32fast::hash(&record)));
                }
            });
            found += each;
        }
        meter.end();
    } else {
        let mut store = open_to_read(contender, &places.fixtures.join("events"), mapped);
        meter.begin();
        let first_tenth = scale.stream_reads / 10;
        let begun = Instant::now();
        for n in 0..scale.stream_reads {
            let stream = names.stream(stream_of(n));
            found += latencies.time(|| store.read_stream(stream, &mut sum));
            if n + 1 == first_tenth {
                let us = begun.elapsed().as_secs_f64() * 1e6;
                out.set("first_tenth_us", us / first_tenth as f64);
            }
        }
        meter.end();
        store.close();
    }
    std::hint::black_box(sum);
    let expected = scale.stream_reads * (scale.events / names.stream_count());
    assert_eq!(found, expected, "events read, and there");
    meter.tell_memory(out);
    out.set("us", meter.seconds() * 1e6 / scale.stream_reads as f64);
    latencies.tell(out);
}

/// Everything, from the beginning.
pub fn scan(contender: &str, places: Places<'_>, scale: Scale, mapped: bool, out: &mut Measured) {
    let mut sum = 0u64;
    let mut meter = Meter::new();
    let found = if contender == "raw" {
        let len = system::file_len(&places.fixtures.join("raw"));
        let records = scale.events.min(len / RECORD_LEN as u64);
        meter.begin();
        let bytes = records * RECORD_LEN as u64;
        let path = places.fixtures.join("raw");
        let found = raw_replay(&path, bytes, |value| touch(&mut sum, value));
        meter.end();
        found
    } else {
        let mut store = open_to_read(contender, &places.fixtures.join("events"), mapped);
        meter.begin();
        let found = store.scan(&mut sum);
        meter.end();
        assert_eq!(found, scale.events, "events read, and there");
        store.close();
        found
    };
    std::hint::black_box(sum);
    meter.tell_memory(out);
    out.set("events_per_s", found as f64 / meter.seconds());
}

/// All events of the rare type, again and again.
pub fn rare(contender: &str, places: Places<'_>, scale: Scale, out: &mut Measured) {
    let mut sum = 0u64;
    let mut latencies = Latencies::with_capacity(scale.queries as usize);
    let mut meter = Meter::new();
    let mut store = open(contender, &places.fixtures.join("events"), true);
    meter.begin();
    for _ in 0..scale.queries {
        let found = latencies.time(|| store.read_type(RARE_TYPE, &mut sum));
        assert_eq!(found, RARE_EVENTS, "events of the rare type");
    }
    meter.end();
    std::hint::black_box(sum);
    meter.tell_memory(out);
    out.set("us", meter.seconds() * 1e6 / scale.queries as f64);
    latencies.tell(out);
    store.close();
}

/// Appends whose condition does not hold.
pub fn refused(contender: &str, places: Places<'_>, scale: Scale, out: &mut Measured) {
    let payload = Payload::new();
    let names = Names::new(scale.events);
    let mut latencies = Latencies::with_capacity(scale.queries as usize);
    let mut meter = Meter::new();
    let mut store = open(contender, &places.fixtures.join("events"), true);
    meter.begin();
    for n in 0..scale.queries {
        let data = payload.records(n, 1, RECORD_LEN);
        let tag = &names.tags[n as usize % names.tags.len()];
        latencies.time(|| store.refused(names.stream(n), tag, data));
    }
    meter.end();
    assert_eq!(store.count(), scale.events, "events after, and before");
    meter.tell_memory(out);
    out.set("us", meter.seconds() * 1e6 / scale.queries as f64);
    latencies.tell(out);
    store.close();
}

/// Opening the store up to its first answer.
pub fn reopen(contender: &str, places: Places<'_>, scale: Scale, killed: bool, out: &mut Measured) {
    let name = if killed { "events-append" } else { "events" };
    let dir = places.fixtures.join(name);
    let mut expected = scale.events;
    if killed {
        expected = fill_and_kill("fill-events", contender, places.work, places.fixtures);
    }
    let mut meter = Meter::new();
    meter.begin();
    let mut store = open(contender, &dir, true);
    let version = store.version("account-000000");
    meter.end();
    assert!(version > 0, "the first stream is there");
    meter.tell_memory(out);
    out.set("ms", meter.seconds() * 1e3);
    assert_eq!(store.count(), expected, "events found, and acknowledged");
    store.close();
}

/// What is started to be killed: durable batches on top of what is there.
pub fn fill(contender: &str, places: Places<'_>, scale: Scale) -> ! {
    let payload = Payload::new();
    let names = Names::new(scale.events);
    let mut store = open(contender, &places.fixtures.join("events-append"), true);
    let before = store.count();
    store.learn_versions(&names);
    let more = (scale.events / 20).min(50_000);
    for first in (before..before + more).step_by(BULK as usize) {
        let count = BULK.min(before + more - first);
        store.append_bulk(&payload, &names, first, count);
    }
    wait_for_death(before + more)
}
