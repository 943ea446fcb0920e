//! The event store does what a list of events and a few maps would do.
//!
//! Thousands of random operations go to a store and to the model of `common/store_model.rs`, and
//! every answer is the same: receipts, all conflicts, what is refused and why, every page, name and
//! value. The layers of the index hold a few events each, so that runs are made and merged all the
//! time; and the index suffers everything that must not matter: it is deleted, cut and damaged,
//! while the store is closed and while it is open.
//!
//! With many threads the order is not known beforehand: the events themselves tell it, and each
//! answer must be right at some moment between the call and its return.
//!
//! `DURALOG_SEED` chooses the first seed, `DURALOG_MODEL_RUNS` how many runs there are (14):
//!
//! ```text
//! DURALOG_SEED=7 DURALOG_MODEL_RUNS=1000 cargo test --release --test eventstore_model
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/store_model.rs"]
mod store_model;

use duralog::eventstore::{
    Direction, EventStore, EventStoreOptions, Expected, IndexLimits, NameKind, Query, QueryItem,
    Read, Selection,
};
use duralog::format::event::derived_id;
use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{Rng, SimDisk};
use duralog::vfs::{OpenMode, Vfs};
use duralog::{Durability, ErrorKind, OpenHow, SyncMode, WalOptions};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use store_model::{Content, Model, Request, Side, Verdict};

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(error) => panic!("{variable}={text}: {error}"),
        },
        Err(_) => otherwise,
    }
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[below(rng, choices.len())]
}

const STREAMS: [&str; 12] = [
    "a-1",
    "a-2",
    "a-3",
    "b-1",
    "b-2-x",
    "b",
    "-x",
    "",
    "ärger-ß",
    "z",
    "a",
    "long",
];
const TYPES: [&str; 4] = ["Opened", "Changed", "Closed", "Ö"];
const TAGS: [&str; 8] = [
    "t",
    "t1",
    "t2",
    "course:1",
    "course:2",
    "student:1",
    "ü",
    "q",
];
const NAMES: [&str; 4] = ["projection", "p", "mail", "ö"];
const KINDS: [NameKind; 4] = [
    NameKind::Stream,
    NameKind::Category,
    NameKind::Type,
    NameKind::Tag,
];

fn stream(rng: &mut Rng) -> String {
    match pick(rng, &STREAMS) {
        "long" => "l".repeat(1024),
        "" => format!("many-{}", rng.below(200)),
        name => name.to_owned(),
    }
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

/// Makes requests; some come again, whole, in part, or changed.
struct Maker {
    rng: Rng,
    next: u64,
    before: Vec<Request>,
    /// Bytes of an event's data, at most.
    data_max: usize,
}

impl Maker {
    fn new(seed: u64, data_max: usize) -> Maker {
        Maker {
            rng: Rng::new(seed),
            next: seed << 32,
            before: Vec::new(),
            data_max,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn content(&mut self) -> Content {
        let rng = &mut self.rng;
        let mut data = vec![0; below(rng, self.data_max)];
        rng.fill(&mut data);
        let tags = (0..rng.below(4))
            .map(|_| pick(rng, &TAGS))
            .collect::<Vec<_>>();
        let stream = stream(rng);
        let mut content = Content::new(&stream, pick(rng, &TYPES), &tags, &data);
        if rng.percent(20) {
            content.metadata = b"{\"by\":1}".to_vec();
            content.schema_version = rng.below(300);
            content.content_type = "application/json".to_owned();
        }
        if rng.percent(20) {
            content.occurred_ns = Some(-5);
            content.correlation_id = Some([9; 16]);
        }
        if rng.percent(10) {
            content.causation_id = Some([8; 16]);
        }
        content
    }

    fn query(&mut self) -> Query {
        let rng = &mut self.rng;
        if rng.percent(5) {
            return Query::default();
        }
        let items = (0..1 + rng.below(2))
            .map(|_| {
                let mut item = QueryItem::default();
                for _ in 0..rng.below(3) {
                    item.types.push(pick(rng, &TYPES).to_owned());
                }
                for _ in 0..rng.below(3) {
                    item.tags.push(pick(rng, &TAGS).to_owned());
                }
                if item.types.is_empty() && item.tags.is_empty() {
                    item.tags.push("never".to_owned());
                }
                item
            })
            .collect();
        Query { items }
    }

    /// A request that nobody has made before; its preconditions hold more often than not.
    fn new_request(&mut self, model: &Model) -> Request {
        let mut request = Request::default();
        let count = match self.rng.below(20) {
            0 => 0,
            1 => 30,
            2..=5 => 3,
            _ => 1,
        };
        let with_ids = self.rng.percent(35);
        for _ in 0..count {
            let mut content = self.content();
            if with_ids && self.rng.percent(95) {
                content.id = Some(id(self.fresh()));
            }
            request.events.push(content);
        }
        for _ in 0..[0, 0, 0, 1, 2][below(&mut self.rng, 5)] {
            let stream = stream(&mut self.rng);
            let version = model.version(&stream);
            let expected = match self.rng.below(10) {
                0 => Expected::None,
                1 => Expected::Exists,
                2 => Expected::Any,
                3 => Expected::Exact(self.rng.below(version + 3)),
                _ if version == 0 => Expected::None,
                _ => Expected::Exact(version),
            };
            if request.expectations.iter().all(|(name, _)| *name != stream) {
                request.expectations.push((stream, expected));
            }
        }
        if self.rng.percent(15) {
            let after = match self.rng.below(3) {
                0 => self.rng.below(model.last() + 3),
                _ => model.last().saturating_sub(self.rng.below(4)),
            };
            let query = self.query();
            request.conditions.push((query, after));
        }
        if self.rng.percent(15) || count == 0 {
            for _ in 0..1 + self.rng.below(2) {
                let side = self.side(model);
                let same = |other: &Side| match (&side, other) {
                    (Side::Save(a, ..), Side::Save(b, ..)) => a == b,
                    (Side::Save(..), _) | (_, Side::Save(..)) => false,
                    (Side::Put(a, _) | Side::Delete(a), Side::Put(b, _) | Side::Delete(b)) => {
                        a == b
                    }
                };
                if !request.sides.iter().any(same) {
                    request.sides.push(side);
                }
            }
        }
        if self.rng.percent(8) {
            request.key = Some(self.fresh().to_le_bytes().to_vec());
        }
        request
    }

    fn side(&mut self, model: &Model) -> Side {
        let rng = &mut self.rng;
        let key = format!("k{}", rng.below(60)).into_bytes();
        match rng.below(4) {
            0 => Side::Delete(key),
            1 => {
                let len = if rng.percent(40) {
                    9_000
                } else {
                    below(rng, 40)
                };
                let mut value = vec![0; len];
                rng.fill(&mut value);
                Side::Put(key, value)
            }
            _ => {
                let name = pick(rng, &NAMES);
                let saved = model.saved(name).unwrap_or(0);
                let position = (saved + rng.below(6)).saturating_sub(1);
                Side::Save(name.to_owned(), position, rng.percent(20))
            }
        }
    }

    /// One that came before, or nearly that.
    fn repeated(&mut self) -> Option<Request> {
        let many = self.before.len();
        let at = match self.rng.below(3) {
            0 => below(&mut self.rng, many.max(1)),
            _ => many.saturating_sub(1 + below(&mut self.rng, 5)),
        };
        let mut request = self.before.get(at)?.clone();
        match self.rng.below(9) {
            0 => drop(request.events.pop()),
            1 => request.events.reverse(),
            2 => request.events.push(self.content()),
            3 => drop(request.events.drain(..request.events.len().min(1))),
            4 => {
                // What is known is known by its id, whatever else is said.
                for event in &mut request.events {
                    event.data.push(1);
                }
            }
            5 => request.key = Some(self.fresh().to_le_bytes().to_vec()),
            _ => {}
        }
        if request.events.is_empty() && request.sides.is_empty() {
            request.bad = Some(ErrorKind::EmptyBatch);
        }
        Some(request)
    }

    /// Something that no store takes.
    fn bad(&mut self, model: &Model) -> Request {
        let mut request = Request::of(vec![self.content()]);
        let event = &mut request.events[0];
        let mut kind = ErrorKind::InvalidArgument;
        match self.rng.below(14) {
            0 => event.stream = String::new(),
            1 => event.stream = "x".repeat(1025),
            2 => event.event_type = String::new(),
            3 => event.event_type = "x".repeat(256),
            4 => event.tags = (0..65).map(|tag| tag.to_string()).collect(),
            5 => event.tags = vec![String::new()],
            6 => event.id = Some([0; 16]),
            7 => event.id = Some(derived_id(&model.log_id, model.last() + 1)),
            8 => {
                event.id = Some(id(3));
                request.events.push(request.events[0].clone());
            }
            9 => {
                let expectation = ("a".to_owned(), Expected::Any);
                request.expectations = vec![expectation.clone(), expectation];
            }
            10 => {
                let query = Query {
                    items: vec![QueryItem::default()],
                };
                request.conditions.push((query, 0));
            }
            11 => request.sides = vec![Side::Delete(b"k".to_vec()); 2],
            12 => request.key = Some(vec![1; 256]),
            _ => {
                request.events.clear();
                kind = ErrorKind::EmptyBatch;
            }
        }
        request.bad = Some(kind);
        request
    }

    fn request(&mut self, model: &Model) -> Request {
        match self.rng.below(100) {
            0..=4 => self.bad(model),
            5 => {
                // An id that the store made itself, of an event that is there or of one that has
                // another.
                let position = 1 + self.rng.below(model.last().max(1));
                let mut content = self.content();
                content.id = Some(derived_id(&model.log_id, position));
                Request::of(vec![content])
            }
            6..=20 => match self.repeated() {
                Some(request) => request,
                None => self.new_request(model),
            },
            _ => self.new_request(model),
        }
    }

    fn read(&mut self, model: &Model) -> (Read, usize) {
        let selection = match self.rng.below(4) {
            0 => Selection::All,
            1 => Selection::Stream(stream(&mut self.rng)),
            2 => {
                let name = ["a", "b", "many", "", "z", "nothing", "ärger"];
                Selection::Category(pick(&mut self.rng, &name).to_owned())
            }
            _ => Selection::Query(self.query()),
        };
        let high = match &selection {
            Selection::Stream(name) => model.version(name),
            _ => model.last(),
        };
        let rng = &mut self.rng;
        let mut bound = || {
            let exact = rng.below(high + 3);
            pick(rng, &[0, 0, exact, exact, u64::MAX])
        };
        let (from, to) = (bound(), bound());
        let read = Read {
            selection,
            direction: pick(rng, &[Direction::Forward, Direction::Backward]),
            from,
            to,
            limit: pick(rng, &[0, 0, 1, 5, 40]),
        };
        (read, pick(rng, &[1, 3, 10, 100, 1000]))
    }
}

/// A store under test and what it lies on.
struct Bench {
    vfs: Arc<dyn Vfs>,
    sim: Option<SimDisk>,
    path: PathBuf,
    options: EventStoreOptions,
    store: Option<EventStore>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let rng = &mut Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        // The real disk has the threads, the simulated one always does the same.
        let sim = (seed % 2 == 0).then(|| SimDisk::new(seed));
        let path = match &sim {
            Some(_) => PathBuf::from("/store"),
            None => dir.path().join("store"),
        };
        let vfs: Arc<dyn Vfs> = match &sim {
            Some(sim) => Arc::new(sim.clone()),
            None => Arc::new(RealDisk::new()),
        };
        let options = EventStoreOptions {
            wal: WalOptions {
                sync_mode: SyncMode::Manual,
                segment_bytes_max: 64 << 10,
                frame_payload_target: pick(rng, &[200, 2_000, 4 << 20]),
                ..WalOptions::default()
            },
            mapped: rng.percent(50),
            index: IndexLimits {
                freeze_events: 2 + rng.below(60),
                freeze_bytes: pick(rng, &[20_000, 8 << 20]),
                tier_runs: 2 + below(rng, 7),
                close_events: rng.below(20),
                cache_bytes: pick(rng, &[0, 1 << 20]),
            },
        };
        let mut bench = Bench {
            vfs,
            sim,
            path,
            options,
            store: None,
            _dir: dir,
        };
        bench.open();
        bench
    }

    fn open(&mut self) {
        let vfs = Arc::clone(&self.vfs);
        self.store = Some(EventStore::open_on(vfs, &self.path, &self.options).unwrap());
    }

    fn store(&self) -> &EventStore {
        self.store.as_ref().unwrap()
    }

    /// Ends the store's life, in one of the ways it may end.
    fn end(&mut self, rng: &mut Rng) {
        match (&self.sim, rng.below(3)) {
            (Some(sim), 0) => {
                std::mem::forget(self.store.take());
                sim.restart_process();
            }
            (_, 1) => self.store = None,
            _ => {
                self.store().close().unwrap();
                let error = self.store().last_position().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Closed);
                self.store = None;
            }
        }
    }

    /// Does harm to files of the index: what is there is for speed only.
    fn harm(&self, rng: &mut Rng) {
        let dir = self.path.join("index");
        // A file may go while we look: it has been merged.
        let mut files = self.vfs.list(&dir).unwrap_or_default();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        for _ in 0..1 + rng.below(3) {
            if files.is_empty() {
                return;
            }
            let path = dir.join(&files[below(rng, files.len())].name);
            if rng.percent(20) {
                let _ = self.vfs.unlink(&path);
                continue;
            }
            let _ = self.harm_file(rng, &path);
        }
        if rng.percent(15) {
            for entry in files {
                let _ = self.vfs.unlink(&dir.join(entry.name));
            }
        }
    }

    fn harm_file(&self, rng: &mut Rng, path: &Path) -> std::io::Result<()> {
        let file = self.vfs.open(path, OpenMode::ReadWrite)?;
        let len = file.len()?;
        // Cutting off what is mapped is a signal, as the option says.
        let may_cut = self.sim.is_some() || !self.options.mapped;
        match rng.below(4) {
            0 if may_cut => file.set_len(rng.below(len + 1)),
            1 => {
                let mut noise = vec![0; 1 + below(rng, 5_000)];
                rng.fill(&mut noise);
                file.write_at(rng.below(len + 1), &noise).map(drop)
            }
            _ => {
                let at = rng.below(len.max(1));
                let mut byte = [0];
                file.read_at(at, &mut byte)?;
                byte[0] ^= 1 << rng.below(8);
                file.write_at(at, &byte).map(drop)
            }
        }
    }
}

/// How often the index was met with harm, and the like.
#[derive(Default)]
struct Tally {
    operations: u64,
    events: u64,
    verdicts: BTreeMap<&'static str, u64>,
    runs: u64,
    harmed: u64,
    opened: u64,
}

fn run(seed: u64, operations: u64, tally: &mut Tally) {
    let mut bench = Bench::new(seed);
    let mut model = Model::new(bench.store().stat().unwrap().log_id);
    let data_max = [20, 100, 2_000][usize::try_from(seed % 3).unwrap()];
    let mut maker = Maker::new(seed, data_max);
    let mut rng = Rng::new(!seed);
    for _ in 0..operations {
        tally.operations += 1;
        match rng.below(1000) {
            0..=599 => {
                let request = maker.request(&model);
                let durability = if rng.percent(2) {
                    Durability::Durable
                } else {
                    Durability::AsOpened
                };
                let told = request.append(bench.store(), durability);
                let verdict = model.apply(&request, &told);
                let kind = match &verdict {
                    Verdict::Accepted(_) => "accepted",
                    Verdict::Again(_) => "again",
                    Verdict::Conflicts(_) => "conflict",
                    Verdict::Known(_) => "known in part",
                    Verdict::Refused(_) => "refused",
                };
                *tally.verdicts.entry(kind).or_default() += 1;
                if matches!(verdict, Verdict::Accepted(_)) {
                    maker.before.push(request);
                }
            }
            600..=779 => {
                let (read, page_len) = maker.read(&model);
                model.compare_read(bench.store(), &read, page_len);
            }
            780..=799 => read_on(&bench, &mut model, &mut maker),
            800..=839 => {
                let position = rng.below(model.last() + 3);
                model.compare_position(bench.store(), position);
            }
            840..=879 => {
                let known = id(maker.next - rng.below(50));
                model.compare_id(bench.store(), &known);
                let derived = derived_id(&model.log_id, 1 + rng.below(model.last() + 2));
                model.compare_id(bench.store(), &derived);
            }
            880..=899 => {
                let kind = pick(&mut rng, &KINDS);
                let after = pick(&mut rng, &[None, Some("a"), Some("b-1"), Some("t1")]);
                let prefix = pick(&mut rng, &["", "", "a", "many-1", "t", "course:"]);
                let count = pick(&mut rng, &[1, 2, 10, 1000]);
                model.compare_names(bench.store(), kind, after, prefix, count);
            }
            900..=919 => model.compare_stream(bench.store(), &stream(&mut rng)),
            920..=959 => {
                model.compare_saved(bench.store(), pick(&mut rng, &NAMES));
                let key = format!("k{}", rng.below(60));
                model.compare_state(bench.store(), key.as_bytes());
            }
            960..=969 => compare_reader(&bench, &model, &mut maker),
            970..=984 => {
                tally.harmed += 1;
                bench.harm(&mut rng);
            }
            985..=986 => model.compare(bench.store()),
            _ => {
                tally.opened += 1;
                bench.end(&mut rng);
                if rng.percent(40) {
                    tally.harmed += 1;
                    bench.harm(&mut rng);
                }
                bench.open();
                assert_eq!(bench.store().last_position().unwrap(), model.last());
            }
        }
    }
    model.compare(bench.store());
    tally.events += model.last();
    let left = bench.vfs.list(&bench.path.join("index"));
    tally.runs += left.map_or(0, |files| files.len() as u64);
}

/// A reader at the end goes on with what comes then.
fn read_on(bench: &Bench, model: &mut Model, maker: &mut Maker) {
    let selection = maker.read(model).0.selection;
    let read = Read {
        selection,
        ..Read::default()
    };
    let mut reader = bench.store().read(read.clone()).unwrap();
    let mut found = Vec::new();
    for round in 0..3 {
        loop {
            let page = reader.next_page(7).unwrap();
            if page.is_empty() {
                break;
            }
            for event in page.iter() {
                model.compare_event(&event);
                found.push(event.position);
            }
        }
        assert_eq!(found, model.positions(&read), "{read:?}, round {round}");
        let request = maker.new_request(model);
        let told = request.append(bench.store(), Durability::AsOpened);
        if matches!(model.apply(&request, &told), Verdict::Accepted(_)) {
            maker.before.push(request);
        }
    }
}

/// Another handle, for reading only, sees the same.
fn compare_reader(bench: &Bench, model: &Model, maker: &mut Maker) {
    bench.store().sync().unwrap();
    let options = EventStoreOptions {
        wal: WalOptions {
            how: OpenHow::ReadOnly,
            ..bench.options.wal.clone()
        },
        ..bench.options.clone()
    };
    let reader = EventStore::open_on(Arc::clone(&bench.vfs), &bench.path, &options).unwrap();
    assert_eq!(reader.last_position().unwrap(), model.last());
    for _ in 0..3 {
        let (read, page_len) = maker.read(model);
        model.compare_read(&reader, &read, page_len);
    }
    model.compare_names(&reader, NameKind::Tag, None, "", 3);
    model.compare_saved(&reader, NAMES[0]);
    let request = Request::of(vec![Content::new("a", "T", &[], b"")]);
    let told = request.append(&reader, Durability::AsOpened);
    assert_eq!(told.unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn random_operations_are_answered_as_by_a_list_and_a_few_maps() {
    const OPERATIONS: u64 = 3_000;
    let first = number("DURALOG_SEED", 1);
    let runs = number("DURALOG_MODEL_RUNS", 14);
    let begun = Instant::now();
    let next = Mutex::new(first);
    let tallies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut tally = Tally::default();
                loop {
                    let seed = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    if seed >= first + runs {
                        break;
                    }
                    let failed = SayOnPanic(seed);
                    run(seed, OPERATIONS, &mut tally);
                    std::mem::forget(failed);
                }
                tallies.lock().unwrap().push(tally);
            });
        }
    });
    let mut all = Tally::default();
    for tally in tallies.into_inner().unwrap() {
        all.operations += tally.operations;
        all.events += tally.events;
        all.runs += tally.runs;
        all.harmed += tally.harmed;
        all.opened += tally.opened;
        for (kind, count) in tally.verdicts {
            *all.verdicts.entry(kind).or_default() += count;
        }
    }
    say(&format!(
        "{} operations of seeds {first} to {}, {} events, appends {:?}, {} runs at the end, index \
         harmed {} times, opened {} times, {:.1} s",
        all.operations,
        first + runs - 1,
        all.events,
        all.verdicts,
        all.runs,
        all.harmed,
        all.opened,
        begun.elapsed().as_secs_f64()
    ));
    assert!(all.verdicts.len() == 5, "each kind of answer was given");
    assert!(all.runs > 0, "runs were made");
}

/// Names the seed of a run that fails.
struct SayOnPanic(u64);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        say(&format!(
            "again: DURALOG_SEED={} DURALOG_MODEL_RUNS=1",
            self.0
        ));
    }
}

// ---- threads -------------------------------------------------------------------------------------

/// What a thread asked, what it was told, and the last positions before and after.
struct Told {
    request: Request,
    verdict: Verdict,
    before: u64,
    after: u64,
}

/// Threads that get in each other's way: few streams, few tags, the same requests.
fn rivals(store: &EventStore, seed: u64, threads: u64, each: u64) -> Vec<Told> {
    let all = Mutex::new(Vec::new());
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    let model = Model::default();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (all, barrier, model) = (&all, &barrier, &model);
            scope.spawn(move || {
                let mut rng = Rng::new(seed ^ (thread << 40));
                barrier.wait();
                for round in 0..each {
                    let before = store.last_position().unwrap();
                    let mut maker = Maker::new(rng.next_u64() >> 40, 30);
                    let mut request = Request::of(vec![maker.content()]);
                    request.events[0].stream = pick(&mut rng, &["a", "b"]).to_owned();
                    match rng.below(6) {
                        0 | 1 => {
                            let stream = request.events[0].stream.clone();
                            let info = store.stream_info(&stream).unwrap();
                            let version = info.map_or(0, |info| info.stream_version);
                            let expected = Expected::Exact(version);
                            request.expectations.push((stream, expected));
                        }
                        2 => request.conditions.push((maker.query(), before)),
                        3 => {
                            // Two threads at least ask the same.
                            let mut content = Content::new("b", "Closed", &["t"], b"same");
                            content.id = Some(id(round * threads + rng.below(threads / 2)));
                            request = Request::of(vec![content]);
                        }
                        4 => {
                            let content = Content::new("a", "Opened", &["q"], b"same");
                            request = Request::of(vec![content.clone(), content]);
                            let key = round * threads + rng.below(threads / 2);
                            request.key = Some(key.to_le_bytes().to_vec());
                        }
                        _ => {
                            let side = maker.side(model);
                            if let Side::Save(name, _, _) = side {
                                request.sides.push(Side::Save(name, before, false));
                            }
                        }
                    }
                    let told = request.append(store, Durability::AsOpened);
                    let verdict = Verdict::of(&told);
                    let after = store.last_position().unwrap();
                    all.lock().unwrap().push(Told {
                        request,
                        verdict,
                        before,
                        after,
                    });
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn requests_of_many_threads_are_answered_as_if_one_came_after_another() {
    let begun = Instant::now();
    let first = number("DURALOG_SEED", 1);
    let (mut accepted, mut again, mut conflicts) = (0, 0, 0);
    for seed in first..first + number("DURALOG_MODEL_RUNS", 14) {
        let failed = SayOnPanic(seed);
        let disk = SimDisk::new(seed);
        // Groups of many requests form while a sync takes its time.
        disk.set_sync_delay(Duration::from_micros(300));
        let options = EventStoreOptions {
            index: IndexLimits {
                freeze_events: 8 + seed % 50,
                tier_runs: 3,
                ..IndexLimits::default()
            },
            ..EventStoreOptions::default()
        };
        let store = EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap();
        let told = rivals(&store, seed, 8, 40);
        let mut model = Model::new(store.stat().unwrap().log_id);
        // What was accepted, in the order that the store gave; the rest waits for its moment.
        let (mut order, mut waiting): (Vec<Told>, Vec<Told>) = told
            .into_iter()
            .partition(|told| matches!(told.verdict, Verdict::Accepted(_)));
        order.sort_by_key(|told| first_position(&told.verdict));
        let total = waiting.len();
        let settle = |waiting: &mut Vec<Told>, model: &Model| {
            waiting.retain(|told| {
                let now = (told.before..=told.after).contains(&model.last());
                !now || model.judge(&told.request) != told.verdict
            });
        };
        settle(&mut waiting, &model);
        for told in order {
            let Verdict::Accepted(receipt) = &told.verdict else {
                continue;
            };
            let right = model.judge(&told.request);
            assert_eq!(told.verdict.clone().plain(), right, "{:?}", told.request);
            model.accept(&told.request, receipt);
            accepted += 1;
            settle(&mut waiting, &model);
        }
        if let Some(told) = waiting.first() {
            panic!(
                "{:?} was told {:?}, which was right at no moment from {} to {}",
                told.request, told.verdict, told.before, told.after
            );
        }
        model.compare(&store);
        store.close().unwrap();
        drop(store);
        let store = EventStore::open_on(Arc::new(disk), "/store", &options).unwrap();
        model.compare(&store);
        let same = model.events.iter().filter(|e| e.content.data == b"same");
        again += same.count();
        conflicts += total;
        std::mem::forget(failed);
    }
    say(&format!(
        "{accepted} requests of 8 threads accepted in turn, {conflicts} refused or known, {again} \
         events of repeated requests, {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    assert!(conflicts > 0 && again > 0);
}

fn first_position(verdict: &Verdict) -> u64 {
    match verdict {
        Verdict::Accepted(receipt) => receipt.first_position,
        _ => 0,
    }
}
