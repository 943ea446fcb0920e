//! The event store does what a list of events and a few maps would do.
//!
//! Thousands of random operations go to a store and to the model of `common/store_model.rs`, and
//! every answer is the same: receipts, all conflicts, what is refused and why, every page, name and
//! value. The layers of the index hold a few events each, so that runs are made and merged all the
//! time; and the index suffers everything that must not matter: it is deleted, cut and damaged,
//! while the store is closed and while it is open, and files that were there once come back.
//!
//! Subscriptions are pulled in between, and each gives the next events of its selection: also after
//! its store was closed, until it has given all, and in the next store from its saved position on.
//! Snapshots are saved, loaded, deleted and spoilt. The store is closed, dropped, killed, and on the
//! simulated disk loses its power: then what was synced is there, and of the rest a first part.
//!
//! With many threads the order is not known beforehand: the events themselves tell it, and each
//! answer must be right at some moment between the call and its return.
//!
//! A few runs are long, many are short: what goes wrong at the beginning of a store's life has many chances.
//! The first seed is another one each time, and printed. `DURALOG_SEED` chooses it, `DURALOG_MODEL_RUNS`
//! how many long runs there are (14), and runs with threads, `DURALOG_MODEL_SHORT_RUNS` how many short
//! ones (600):
//!
//! ```text
//! DURALOG_SEED=7 DURALOG_MODEL_RUNS=1000 cargo test --release --test eventstore_model
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/snapshot_model.rs"]
mod snapshot_model;
#[path = "common/store_bench.rs"]
mod store_bench;
#[path = "common/store_maker.rs"]
mod store_maker;
#[path = "common/store_model.rs"]
mod store_model;

use duralog::eventstore::{
    AppendReceipt, EventStore, EventStoreOptions, Expected, IndexLimits, NameKind, Read,
    SubscribeFrom, Subscription,
};
use duralog::format::event::derived_id;
use duralog::vfs::sim::{Rng, SimDisk};
use duralog::{BatchStatus, Durability, ErrorKind, Lsn, OpenHow, WalOptions};
use snapshot_model::Snapshots;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store_bench::{Bench, End};
use store_maker::{below, id, pick, stream, Maker, KINDS, NAMES};
use store_model::{Content, Following, Model, Request, Side, Verdict};

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

/// The first seed; said before anything is done with it, in case that never ends.
fn first_seed() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let first = number("DURALOG_SEED", u64::from(clock.subsec_micros()));
        say(&format!("DURALOG_SEED={first}"));
        first
    })
}

/// How often things were done, and what came of them.
#[derive(Default)]
struct Tally {
    operations: u64,
    events: u64,
    verdicts: BTreeMap<&'static str, u64>,
    runs: u64,
    harmed: u64,
    opened: u64,
    /// Powers cut, and what was appended and lost by that, not being synced.
    cuts: u64,
    lost: u64,
    /// Pages pulled by subscriptions, and those that gave all that a closed store held.
    pulled: u64,
    drained: u64,
    snapshots_loaded: u64,
    snapshots_displaced: u64,
    snapshots_harmed: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        for (kind, count) in other.verdicts {
            *self.verdicts.entry(kind).or_default() += count;
        }
        for (sum, count) in [
            (&mut self.operations, other.operations),
            (&mut self.events, other.events),
            (&mut self.runs, other.runs),
            (&mut self.harmed, other.harmed),
            (&mut self.opened, other.opened),
            (&mut self.cuts, other.cuts),
            (&mut self.lost, other.lost),
            (&mut self.pulled, other.pulled),
            (&mut self.drained, other.drained),
            (&mut self.snapshots_loaded, other.snapshots_loaded),
            (&mut self.snapshots_displaced, other.snapshots_displaced),
            (&mut self.snapshots_harmed, other.snapshots_harmed),
        ] {
            *sum += count;
        }
    }
}

/// What changed the store, in order: of which a power cut leaves a first part.
enum Step {
    Appended(Request, AppendReceipt),
    Acknowledged(String, u64),
}

impl Step {
    fn repeat(&self, model: &mut Model) {
        match self {
            Step::Appended(request, receipt) => model.accept(request, receipt),
            Step::Acknowledged(name, position) => model.acknowledge(name, *position),
        }
    }
}

/// A store, what it should say, and who follows it.
struct Run<'t> {
    bench: Bench,
    model: Model,
    maker: Maker,
    rng: Rng,
    steps: Vec<Step>,
    /// So many steps are durable.
    synced: usize,
    followers: Vec<(Subscription, Following)>,
    snapshots: Snapshots,
    tally: &'t mut Tally,
}

fn run(seed: u64, operations: u64, tally: &mut Tally) {
    let bench = Bench::new(seed);
    let model = Model::new(bench.store().stat().unwrap().log_id);
    let data_max = [20, 100, 2_000][usize::try_from(seed % 3).unwrap()];
    let mut run = Run {
        bench,
        model,
        maker: Maker::new(seed, data_max),
        rng: Rng::new(!seed),
        steps: Vec::new(),
        synced: 0,
        followers: Vec::new(),
        snapshots: Snapshots::default(),
        tally,
    };
    for _ in 0..operations {
        run.tally.operations += 1;
        run.step();
    }
    for at in (0..run.followers.len()).rev() {
        run.pull(at);
    }
    run.model.compare(run.bench.store());
    run.tally.events += run.model.last();
    let left = run.bench.vfs.list(&run.bench.path.join("index"));
    run.tally.runs += left.map_or(0, |files| files.len() as u64);
    run.tally.snapshots_loaded += run.snapshots.loaded;
    run.tally.snapshots_displaced += run.snapshots.displaced;
    run.tally.snapshots_harmed += run.snapshots.harmed;
}

impl Run<'_> {
    fn step(&mut self) {
        let Run {
            bench,
            model,
            maker,
            rng,
            snapshots,
            tally,
            ..
        } = self;
        match rng.below(1210) {
            0..=599 => {
                let request = maker.request(model);
                let durability = if rng.percent(2) {
                    Durability::Durable
                } else {
                    Durability::AsOpened
                };
                self.append(request, durability);
            }
            600..=779 => {
                let (read, page_len) = maker.read(model);
                model.compare_read(bench.store(), &read, page_len);
            }
            780..=799 => self.read_on(),
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
                let kind = pick(rng, &KINDS);
                let after = pick(rng, &[None, Some("a"), Some("b-1"), Some("t1")]);
                let prefix = pick(rng, &["", "", "a", "many-1", "t", "course:"]);
                let count = pick(rng, &[1, 2, 10, 1000]);
                model.compare_names(bench.store(), kind, after, prefix, count);
            }
            900..=919 => model.compare_stream(bench.store(), &stream(rng)),
            920..=959 => {
                model.compare_saved(bench.store(), pick(rng, &NAMES));
                let key = format!("k{}", rng.below(60));
                model.compare_state(bench.store(), key.as_bytes());
            }
            960..=969 => self.compare_reader(),
            970..=984 => {
                tally.harmed += 1;
                bench.harm(rng);
            }
            985..=986 => model.compare(bench.store()),
            987..=996 => self.end(),
            997..=999 => self.cut_power(),
            1000..=1019 => self.subscribe(),
            1020..=1129 if !self.followers.is_empty() => {
                let at = below(rng, self.followers.len());
                self.pull(at);
            }
            1130..=1149 if !self.followers.is_empty() => self.acknowledge(),
            1150..=1164 => snapshots.save(bench.store(), model, rng),
            1165..=1189 => snapshots.compare(bench.store(), rng),
            1190 => snapshots.delete(bench.store(), rng),
            1191..=1204 => snapshots.harm(bench, rng),
            _ => {}
        }
    }

    fn append(&mut self, request: Request, durability: Durability) {
        let told = request.append(self.bench.store(), durability);
        let verdict = self.model.apply(&request, &told);
        let kind = match &verdict {
            Verdict::Accepted(_) => "accepted",
            Verdict::Again(_) => "again",
            Verdict::Conflicts(_) => "conflict",
            Verdict::Known(_) => "known in part",
            Verdict::Refused(_) => "refused",
        };
        *self.tally.verdicts.entry(kind).or_default() += 1;
        let Ok(receipt) = told else { return };
        if !receipt.duplicate {
            self.maker.before.push(request.clone());
            self.steps.push(Step::Appended(request, receipt));
        }
        if durability == Durability::Durable {
            self.synced = self.steps.len();
        }
    }

    /// A reader at the end goes on with what comes then.
    fn read_on(&mut self) {
        let read = Read {
            selection: self.maker.read(&self.model).0.selection,
            ..Read::default()
        };
        let mut reader = self.bench.store().read(read.clone()).unwrap();
        let mut found = Vec::new();
        for round in 0..3 {
            loop {
                let page = reader.next_page(7).unwrap();
                if page.is_empty() {
                    break;
                }
                for event in page.iter() {
                    self.model.compare_event(&event);
                    found.push(event.position);
                }
            }
            let expected = self.model.positions(&read);
            assert_eq!(found, expected, "{read:?}, round {round}");
            let request = self.maker.new_request(&self.model);
            self.append(request, Durability::AsOpened);
        }
    }

    /// Another handle, for reading only, sees the same.
    fn compare_reader(&mut self) {
        let Run {
            bench,
            model,
            maker,
            snapshots,
            ..
        } = self;
        bench.store().sync().unwrap();
        self.synced = self.steps.len();
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
        snapshots.compare(&reader, &mut self.rng);
        let selection = maker.read(model).0.selection;
        let name = Some(NAMES[0]);
        let from = SubscribeFrom::Saved;
        let mut following = model.follow(selection.clone(), &from, name);
        let mut subscription = reader.subscribe(selection, &from, name).unwrap();
        for page_len in [1, 10, 1000] {
            model.compare_pull(&mut subscription, &mut following, page_len);
        }
        let refused = subscription.ack(1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly);
        let request = Request::of(vec![Content::new("a", "T", &[], b"")]);
        let told = request.append(&reader, Durability::AsOpened);
        assert_eq!(told.unwrap_err().kind(), ErrorKind::ReadOnly);
    }

    // ---- following ---------------------------------------------------------------------------

    fn subscribe(&mut self) {
        const FOLLOWERS_MAX: usize = 5;
        let rng = &mut self.rng;
        let from = match rng.below(6) {
            0 => SubscribeFrom::Beginning,
            1 => SubscribeFrom::End,
            2 => SubscribeFrom::After(rng.below(self.model.last() + 3)),
            _ => SubscribeFrom::Saved,
        };
        let named = from == SubscribeFrom::Saved || rng.percent(50);
        let name = named.then(|| pick(rng, &NAMES));
        let selection = self.maker.read(&self.model).0.selection;
        let following = self.model.follow(selection.clone(), &from, name);
        let subscription = self
            .bench
            .store()
            .subscribe(selection, &from, name)
            .unwrap();
        if self.followers.len() == FOLLOWERS_MAX {
            let at = below(rng, FOLLOWERS_MAX);
            self.followers.swap_remove(at);
        }
        self.followers.push((subscription, following));
    }

    /// Pulls a page; a subscription of a closed store that has given everything is over.
    fn pull(&mut self, at: usize) {
        let (subscription, following) = &mut self.followers[at];
        let count_max = pick(&mut self.rng, &[1, 3, 10, 100, 1000]);
        self.tally.pulled += 1;
        if !self.model.compare_pull(subscription, following, count_max) {
            self.tally.drained += 1;
            self.followers.swap_remove(at);
        }
    }

    fn acknowledge(&mut self) {
        let at = below(&mut self.rng, self.followers.len());
        let (subscription, following) = &self.followers[at];
        let given = following.next - 1;
        let position = match self.rng.below(6) {
            0 | 1 => self.rng.below(given + 1),
            2 => given + 1 + self.rng.below(3),
            _ => given,
        };
        let told = subscription.ack(position);
        match &following.name {
            Some(_) if position > given => {
                assert_eq!(told.unwrap_err().kind(), ErrorKind::InvalidArgument);
            }
            None => assert_eq!(told.unwrap_err().kind(), ErrorKind::InvalidArgument),
            Some(_) if following.end.is_some() => {
                assert_eq!(told.unwrap_err().kind(), ErrorKind::Closed);
            }
            Some(name) => {
                told.unwrap();
                self.model.acknowledge(name, position);
                self.steps.push(Step::Acknowledged(name.clone(), position));
            }
        }
    }

    // ---- ends and beginnings -----------------------------------------------------------------

    fn open(&mut self) {
        if self.rng.percent(40) {
            self.tally.harmed += 1;
            self.bench.harm(&mut self.rng);
        }
        if self.rng.percent(40) {
            self.bench.bring_back(&mut self.rng);
        }
        self.tally.opened += 1;
        self.bench.open();
    }

    /// The store ends and is opened again; those who follow it still get what it had.
    fn end(&mut self) {
        match self.bench.end(&mut self.rng) {
            End::Closed => {
                for (_, following) in &mut self.followers {
                    following.end = following.end.or(Some(self.model.last()));
                }
            }
            End::Killed => self.followers.clear(),
        }
        self.open();
        self.synced = self.steps.len();
        assert_eq!(
            self.bench.store().last_position().unwrap(),
            self.model.last()
        );
    }

    /// What was synced is there afterwards, and of the rest a first part.
    fn cut_power(&mut self) {
        if self.bench.sim.is_none() {
            return;
        }
        self.followers.clear();
        self.bench.cut_power(&mut self.rng);
        self.open();
        let store = self.bench.store();
        let is_there = |step: &Step| match step {
            Step::Appended(_, receipt) => {
                let status = store.wal().batch_status(Lsn(receipt.batch_id)).unwrap();
                Some(status == BatchStatus::Committed)
            }
            Step::Acknowledged(..) => None,
        };
        let there: Vec<Option<bool>> = self.steps.iter().map(is_there).collect();
        let behind_last = |step: usize| step + 1;
        let least = there.iter().rposition(|there| *there == Some(true));
        let most = there.iter().position(|there| *there == Some(false));
        let least = least.map_or(0, behind_last).max(self.synced);
        let most = most.unwrap_or(self.steps.len());
        assert!(
            least <= most,
            "{least} steps are there, and step {most} is not"
        );
        let mut model = Model::new(self.model.log_id);
        let mut left = 0;
        // How many acknowledgements at the end are there is seen by what is saved.
        let is_it = |model: &Model| {
            let same = |name: &&str| store.saved_position(name).unwrap() == model.saved(name);
            NAMES.iter().all(same)
        };
        while left < least || !is_it(&model) {
            assert!(left < most, "nothing explains the saved positions");
            self.steps[left].repeat(&mut model);
            left += 1;
        }
        self.tally.cuts += 1;
        self.tally.lost += (self.steps.len() - left) as u64;
        self.steps.truncate(left);
        self.synced = left;
        self.model = model;
        self.model.compare(store);
        self.snapshots.settle(store, &self.model);
    }
}

/// Runs of so many seeds, on two threads.
fn run_seeds(variable: &'static str, runs: u64, operations: impl Fn(u64) -> u64 + Sync) {
    let first = first_seed();
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
                    let failed = SayOnPanic(seed, variable);
                    run(seed, operations(seed), &mut tally);
                    std::mem::forget(failed);
                }
                tallies.lock().unwrap().push(tally);
            });
        }
    });
    let mut all = Tally::default();
    for tally in tallies.into_inner().unwrap() {
        all.add(tally);
    }
    say(&format!(
        "{} operations of seeds {first} to {}, {} events, appends {:?}, {} runs at the end, index \
         harmed {} times, opened {} times, {} power cuts that lost {} appends, {} pages pulled, {} \
         subscriptions drained, {} snapshots loaded, {} harmed, {} displaced, {:.1} s",
        all.operations,
        first + runs - 1,
        all.events,
        all.verdicts,
        all.runs,
        all.harmed,
        all.opened,
        all.cuts,
        all.lost,
        all.pulled,
        all.drained,
        all.snapshots_loaded,
        all.snapshots_harmed,
        all.snapshots_displaced,
        begun.elapsed().as_secs_f64()
    ));
    // A few runs, to repeat what failed, may not have it all.
    if runs >= 14 {
        assert!(all.verdicts.len() == 5, "each kind of answer was given");
        assert!(all.runs > 0, "runs were made");
        assert!(all.drained > 0 && all.snapshots_loaded > 0 && all.snapshots_harmed > 0);
        // A short run saves too few of one key.
        assert!(all.snapshots_displaced > 0 || operations(first) < 1000);
        assert!(all.lost > 0, "power cuts lost something");
    }
}

#[test]
fn random_operations_are_answered_as_by_a_list_and_a_few_maps() {
    const VARIABLE: &str = "DURALOG_MODEL_RUNS";
    run_seeds(VARIABLE, number(VARIABLE, 14), |_| 3_000);
}

#[test]
fn so_are_the_first_operations_of_many_stores() {
    const VARIABLE: &str = "DURALOG_MODEL_SHORT_RUNS";
    run_seeds(VARIABLE, number(VARIABLE, 600), |seed| 60 + seed % 41);
}

/// Names the seed of a run that fails, and the variable that says how many of its kind follow.
struct SayOnPanic(u64, &'static str);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        say(&format!("again: DURALOG_SEED={} {}=1", self.0, self.1));
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
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    let model = Model::default();
    std::thread::scope(|scope| {
        let begin = |thread| {
            let (barrier, model) = (&barrier, &model);
            scope.spawn(move || {
                let mut all = Vec::new();
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
                    all.push(Told {
                        request,
                        verdict,
                        before,
                        after,
                    });
                }
                all
            })
        };
        // ThreadSanitizer sees who waits for a thread, but not the end of a scope.
        let begun: Vec<_> = (0..threads).map(begin).collect();
        let told = begun.into_iter().map(|thread| thread.join().unwrap());
        told.flatten().collect()
    })
}

#[test]
fn requests_of_many_threads_are_answered_as_if_one_came_after_another() {
    let begun = Instant::now();
    let first = first_seed();
    let (mut accepted, mut again, mut conflicts) = (0, 0, 0);
    for seed in first..first + number("DURALOG_MODEL_RUNS", 14) {
        let failed = SayOnPanic(seed, "DURALOG_MODEL_RUNS");
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
