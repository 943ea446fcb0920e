//! Whatever a power cut, the death of the process or a failing disk does to an event store, every
//! acknowledged append is there whole, none is there twice, and the index changes no answer.
//!
//! A small bank (`common/bank.rs`) runs on the simulated disk, with layers of the index so small
//! that runs are made and merged all the time. The disk knows every state that a death at any moment
//! may leave. What is checked of each image:
//!
//! * the store opens; the bank is whole: its sum, positions and stream versions without gaps, no
//!   debit without its credit; all transfers that were acknowledged, perhaps some that were issued;
//! * every reading gives the same as with `index/` deleted;
//! * the bank goes on: what was asked for is asked again with the same event ids, and is there once;
//! * in a sample of the images, opening dies in each of its own operations, and what that leaves is
//!   checked like any image.
//!
//! Then every call on the disk fails, at each place where it is made. An append that is in doubt is
//! settled by asking again. When it is a file of the index that fails, no append fails and no answer
//! changes.
//!
//! `DURALOG_SEED` chooses another run, `DURALOG_CRASH_IMAGES` a longer one (20000).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/bank.rs"]
mod bank;

use bank::{Guard, Transfer};
use duralog::eventstore::{
    AppendRequest, Direction, EventStore, EventStoreOptions, IndexLimits, NameKind, Query,
    QueryItem, Read, Selection, SideRecord,
};
use duralog::vfs::sim::{
    errno, Call, CrashState, CrashStates, Fault, FaultPlan, Fill, Image, Rng, SimDisk,
};
use duralog::{Durability, ErrorKind, SyncMode, WalOptions};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

const PATH: &str = "/bank";
const ACCOUNTS: u64 = 4;
const FILLS: [Fill; 3] = [Fill::Zero, Fill::Stale, Fill::Random];

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

fn options(sync_mode: SyncMode) -> EventStoreOptions {
    EventStoreOptions {
        wal: WalOptions {
            sync_mode,
            segment_bytes_max: 64 << 10,
            // The batch that opens the accounts takes several frames.
            frame_payload_target: 300,
            ..WalOptions::default()
        },
        index: IndexLimits {
            freeze_events: 4,
            tier_runs: 3,
            close_events: 2,
            cache_bytes: 0,
            ..IndexLimits::default()
        },
        ..EventStoreOptions::default()
    }
}

fn open_on(disk: &SimDisk, sync_mode: SyncMode) -> Result<EventStore, duralog::Error> {
    EventStore::open_on(Arc::new(disk.clone()), PATH, &options(sync_mode))
}

fn transfer(seed: u64, number: u64) -> Transfer {
    let mut rng = Rng::new(seed ^ (number << 20));
    let from = rng.below(ACCOUNTS);
    Transfer {
        number,
        from,
        to: (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS,
        amount: 1 + rng.below(400),
        guard: if number % 2 == 0 {
            Guard::Versions
        } else {
            Guard::Tags
        },
    }
}

/// A batch without events: up to which transfer somebody has read.
fn save(store: &EventStore, number: u64) -> Result<(), duralog::Error> {
    let request = AppendRequest {
        side_records: &[
            SideRecord::SavePosition {
                name: "auditor",
                position: number,
                reset: false,
            },
            SideRecord::PutState {
                key: &number.to_le_bytes(),
                value: b"audited",
            },
        ],
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened).map(drop)
}

/// Everything that a store answers about a bank, as one text.
fn answers(store: &EventStore) -> Result<Vec<String>, duralog::Error> {
    let mut selections = vec![Selection::All, Selection::Category("account".to_owned())];
    for account in 0..ACCOUNTS {
        selections.push(Selection::Stream(format!("account-{account}")));
        let item = QueryItem {
            types: vec!["Withdrawn".to_owned(), "Opened".to_owned()],
            tags: vec![format!("account:{account}")],
        };
        selections.push(Selection::Query(Query { items: vec![item] }));
    }
    let mut all = Vec::new();
    let mut ids = Vec::new();
    for (at, selection) in selections.into_iter().enumerate() {
        let direction = if at % 2 == 0 {
            Direction::Backward
        } else {
            Direction::Forward
        };
        let mut reader = store.read(Read {
            selection,
            direction,
            ..Read::default()
        })?;
        loop {
            let page = reader.next_page(7)?;
            if page.is_empty() {
                break;
            }
            for event in page.iter() {
                all.push(format!("{at}: {event:?}"));
                if at == 0 {
                    ids.push(event.id);
                }
            }
        }
    }
    for id in ids.iter().step_by(5) {
        let page = store.event_by_id(id)?;
        all.push(format!("{:?}", page.get(0)));
    }
    for kind in [
        NameKind::Stream,
        NameKind::Category,
        NameKind::Type,
        NameKind::Tag,
    ] {
        all.push(format!("{:?}", store.names(kind, None, "", 100)?));
    }
    let saved = store.saved_position("auditor")?;
    all.push(format!("{saved:?}"));
    for number in 0..=saved.unwrap_or(0) {
        all.push(format!("{:?}", store.state(&number.to_le_bytes())?));
    }
    Ok(all)
}

/// What was asked of a bank and what it said, at one moment.
#[derive(Clone, Debug, Default, Hash)]
struct Ledger {
    seed: u64,
    /// Asked for, by number from 1; at most these are there.
    issued: u64,
    /// Acknowledged: these are there, at these positions.
    acknowledged: BTreeMap<u64, u64>,
    saved: u64,
}

/// Opens an image and checks everything that is promised.
fn check(image: &Image, ledger: &Ledger) -> Result<(), String> {
    let disk = SimDisk::from_image(image, 99);
    let store = open_on(&disk, SyncMode::Every).map_err(|error| format!("opening: {error}"))?;
    let found = bank::check(&store)?;
    for (number, position) in &ledger.acknowledged {
        if found.get(number) != Some(position) {
            return Err(format!("LOST: transfer {number} was acknowledged"));
        }
    }
    if let Some(number) = found.keys().find(|&&number| number > ledger.issued) {
        return Err(format!("transfer {number} was never asked for"));
    }
    let said = answers(&store).map_err(|error| format!("reading: {error}"))?;
    let saved = store.saved_position("auditor").unwrap().unwrap_or(0);
    if saved < ledger.saved {
        return Err(format!("LOST: saved position {saved}"));
    }
    let mut bare = image.clone();
    for path in bare.paths() {
        if path.starts_with(format!("{PATH}/index")) {
            bare.remove(path);
        }
    }
    let bare_disk = SimDisk::from_image(&bare, 98);
    let bare = open_on(&bare_disk, SyncMode::Every).map_err(|error| format!("bare: {error}"))?;
    let without = answers(&bare).map_err(|error| format!("reading without index: {error}"))?;
    if said != without {
        let differs = said.iter().zip(&without).find(|(a, b)| a != b);
        return Err(format!("the index changes an answer: {differs:?}"));
    }
    // Go on: what was asked before is asked again.
    bank::open_accounts(&store, ACCOUNTS).map_err(|error| format!("accounts: {error}"))?;
    for number in 1..=ledger.issued + 1 {
        let told = transfer(ledger.seed, number).carry_out(&store);
        let (receipt, _) = told.map_err(|error| format!("transfer {number}: {error}"))?;
        if receipt.duplicate != found.contains_key(&number) {
            return Err(format!(
                "transfer {number}: duplicate {}",
                receipt.duplicate
            ));
        }
    }
    if bank::check(&store)?.len() as u64 != ledger.issued + 1 {
        return Err("a transfer is missing after going on".to_owned());
    }
    let said = answers(&store).map_err(|error| format!("reading at the end: {error}"))?;
    store.close().map_err(|error| format!("closing: {error}"))?;
    drop(store);
    let store = open_on(&disk, SyncMode::Every).map_err(|error| format!("again: {error}"))?;
    let again = answers(&store).map_err(|error| format!("reading again: {error}"))?;
    if said != again {
        return Err("opening again changes an answer".to_owned());
    }
    Ok(())
}

fn examine(image: &Image, ledger: &Ledger) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| check(image, ledger)))
        .unwrap_or_else(|_| Err("PANIC".to_owned()))
}

/// A bank that has run, on a disk that remembers everything.
struct Run {
    disk: SimDisk,
    seed: u64,
    /// What was told with each token.
    told: Vec<Told>,
    mode: SyncMode,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Nothing,
    Transfer(u64, u64),
    Saved(u64),
}

impl Run {
    /// A workload from a seed. Step n has token n; it is acknowledged with 2n when its call
    /// returns, and with 2n+1 when it is durable.
    fn new(seed: u64, steps: u64) -> Run {
        let disk = SimDisk::new(seed);
        let mut rng = Rng::new(seed);
        let mode = [SyncMode::Every, SyncMode::Every, SyncMode::Manual]
            [usize::try_from(seed % 3).unwrap()];
        let mut run = Run {
            disk: disk.clone(),
            seed,
            told: Vec::new(),
            mode,
        };
        let mut store = open_on(&disk, mode).unwrap();
        let mut durable = 0;
        bank::open_accounts(&store, ACCOUNTS).unwrap();
        store.sync().unwrap();
        let mut number = 0;
        for _ in 0..steps {
            let token = run.told.len();
            disk.issue(token as u64);
            let mut synced = mode == SyncMode::Every;
            let told = match rng.below(12) {
                0 => {
                    store.close().unwrap();
                    drop(store);
                    store = open_on(&disk, mode).unwrap();
                    synced = true;
                    Told::Nothing
                }
                1 => {
                    // The dead close nothing.
                    std::mem::forget(store);
                    disk.restart_process();
                    store = open_on(&disk, mode).unwrap();
                    synced = true;
                    Told::Nothing
                }
                2 => {
                    store.sync().unwrap();
                    synced = true;
                    Told::Nothing
                }
                3 => {
                    let position = number + 1;
                    let saved = store.saved_position("auditor").unwrap();
                    if saved.is_none_or(|saved| saved < position) {
                        save(&store, position).unwrap();
                    }
                    Told::Saved(position)
                }
                4 if number > 0 => {
                    // What is known already must be durable too when that is asked for.
                    let again = transfer(seed, number);
                    let told = again.attempt_with(&store, Durability::Durable).unwrap();
                    assert!(told.duplicate);
                    synced = true;
                    Told::Nothing
                }
                _ => {
                    number += 1;
                    let told = transfer(seed, number).carry_out(&store).unwrap();
                    Told::Transfer(number, told.0.first_position)
                }
            };
            run.told.push(told);
            disk.acknowledge(2 * token as u64);
            if synced {
                for token in durable..=token {
                    disk.acknowledge(2 * token as u64 + 1);
                }
                durable = token + 1;
            }
        }
        std::mem::forget(store);
        run
    }

    /// What must be and may be there after a death at `at`.
    fn ledger(&self, at: u64, power: bool) -> Ledger {
        let mut ledger = Ledger {
            seed: self.seed,
            ..Ledger::default()
        };
        for token in self.disk.issued(at) {
            let token = usize::try_from(token).unwrap();
            if let Told::Transfer(number, _) = self.told[token] {
                ledger.issued = number;
            }
        }
        for told in self.disk.acknowledged(at) {
            if told % 2 != u64::from(power) {
                continue;
            }
            match self.told[usize::try_from(told / 2).unwrap()] {
                Told::Transfer(number, position) => {
                    ledger.acknowledged.insert(number, position);
                }
                Told::Saved(position) => ledger.saved = position,
                Told::Nothing => {}
            }
        }
        ledger
    }
}

/// Counts and keeps apart what was checked.
#[derive(Default)]
struct Explorer {
    seen: HashSet<u64>,
    laid_out: u64,
    checked: u64,
    recoveries: u64,
    moments: u64,
    with_runs: u64,
}

impl Explorer {
    /// Checks an image unless it was seen.
    fn take(&mut self, state: &CrashState<'_>, ledger: &Ledger, how: &str) -> bool {
        self.laid_out += 1;
        let image = state.image();
        let mut told = image.clone();
        told.remove(format!("{PATH}/LOCK"));
        told.remove(format!("{PATH}/tail"));
        let mut hasher = DefaultHasher::new();
        (told.hash(), ledger).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return false;
        }
        self.checked += 1;
        let of_index = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "run");
        self.with_runs += u64::from(image.paths().iter().any(of_index));
        if let Err(what) = examine(&image, ledger) {
            let smallest = state.shrink(|image| examine(image, ledger).is_err());
            let still = examine(&smallest.image(), ledger).err();
            panic!(
                "{what}\n{how}\n{ledger:?}\nsmallest state that fails ({}):\n{}",
                still.unwrap_or_default(),
                smallest.describe()
            );
        }
        true
    }

    /// Opening dies in each of its operations.
    fn kill_recovery(&mut self, image: &Image, ledger: &Ledger, how: &str) {
        self.recoveries += 1;
        for operations in 0.. {
            let disk = SimDisk::from_image(image, 7);
            disk.die_after(operations);
            let opened = open_on(&disk, SyncMode::Every);
            if !disk.is_off() {
                break;
            }
            // It may be open: what dies behind the log is of no consequence.
            std::mem::forget(opened);
            let how = format!("{how}; opening dies after {operations} operations");
            let at = disk.now();
            for state in CrashStates::new(&disk, at, Fill::Random).states(operations, 6) {
                self.take(&state, ledger, &how);
            }
            for state in CrashStates::killed(&disk, at).states(operations, 2) {
                self.take(&state, ledger, &how);
            }
        }
    }

    fn explore(&mut self, run: &Run, states: u64) {
        let mut rng = Rng::new(run.seed);
        for power in [true, false] {
            let moments = if power {
                run.disk.crash_moments()
            } else {
                run.disk.every_moment()
            };
            for moment in moments {
                self.moments += 1;
                let ledger = run.ledger(moment.at, power);
                let how = format!(
                    "{:?}, dies in operation {}, {}, power {power}; again: DURALOG_SEED={}",
                    run.mode, moment.operation, moment.why, run.seed
                );
                let fills = if power { &FILLS[..] } else { &FILLS[..1] };
                for &fill in fills {
                    let possible = if power {
                        CrashStates::new(&run.disk, moment.at, fill)
                    } else {
                        CrashStates::killed(&run.disk, moment.at)
                    };
                    for state in possible.states(rng.next_u64(), states) {
                        if self.take(&state, &ledger, &how) && rng.below(150) == 0 {
                            self.kill_recovery(&state.image(), &ledger, &how);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_death_leaves_a_whole_bank() {
    let begun = Instant::now();
    let wanted = number("DURALOG_CRASH_IMAGES", 20_000);
    let first = number("DURALOG_SEED", 1);
    let next = std::sync::atomic::AtomicU64::new(first);
    let checked = std::sync::atomic::AtomicU64::new(0);
    let explorers: Vec<Explorer> = std::thread::scope(|scope| {
        let work = || {
            let mut explorer = Explorer::default();
            use std::sync::atomic::Ordering::Relaxed;
            while checked.load(Relaxed) < wanted {
                let seed = next.fetch_add(1, Relaxed);
                let before = explorer.checked;
                explorer.seen.clear();
                explorer.explore(&Run::new(seed, 24), 24);
                checked.fetch_add(explorer.checked - before, Relaxed);
            }
            explorer
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let sum = |part: fn(&Explorer) -> u64| explorers.iter().map(part).sum::<u64>();
    say(&format!(
        "{} distinct images ({} laid out, {} with runs) of {} moments, {} recoveries killed in each \
         operation, seeds {first} to {}, {:.1} s",
        sum(|e| e.checked),
        sum(|e| e.laid_out),
        sum(|e| e.with_runs),
        sum(|e| e.moments),
        sum(|e| e.recoveries),
        next.into_inner() - 1,
        begun.elapsed().as_secs_f64()
    ));
    assert!(sum(|e| e.checked) >= wanted && sum(|e| e.recoveries) > 0);
    assert!(sum(|e| e.with_runs) * 2 > sum(|e| e.checked));
}

// ---- failing calls -------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
struct Case {
    call: Call,
    nth: u64,
    fault: Fault,
    lasting: bool,
    index_only: bool,
}

const TRANSFERS: u64 = 16;

/// What came of a bank on a disk that fails.
#[derive(Default)]
struct Outcome {
    acknowledged: BTreeMap<u64, u64>,
    /// Only reopening tells.
    doubtful: BTreeSet<u64>,
    errors: Vec<ErrorKind>,
}

/// Opens accounts, transfers, closes, opens, transfers; whatever fails is opened again.
fn workload(disk: &SimDisk) -> Outcome {
    let mut outcome = Outcome::default();
    let mut store = None;
    for number in 0..=TRANSFERS {
        if number % 6 == 5 {
            if let Some(Err(error)) = store.take().map(|store: EventStore| store.close()) {
                outcome.errors.push(error.kind());
            }
        }
        for _ in 0..2 {
            if store.is_none() {
                match open_on(disk, SyncMode::Every) {
                    Ok(opened) => store = Some(opened),
                    Err(error) => outcome.errors.push(error.kind()),
                }
            }
        }
        let Some(open) = &store else { continue };
        let told = match bank::open_accounts(open, ACCOUNTS) {
            Ok(_) if number > 0 => transfer(1, number).attempt(open),
            told => told,
        };
        match told {
            Ok(receipt) if number > 0 => {
                assert!(!receipt.duplicate, "transfer {number}");
                outcome.acknowledged.insert(number, receipt.first_position);
            }
            Ok(_) => {}
            Err(error) => {
                outcome.errors.push(error.kind());
                match error.kind() {
                    ErrorKind::Indeterminate => drop(outcome.doubtful.insert(number)),
                    ErrorKind::Full | ErrorKind::Io | ErrorKind::NoMemory | ErrorKind::NotFound => {
                    }
                    ErrorKind::Poisoned => {}
                    kind => panic!("transfer {number}: {kind:?}: {error}"),
                }
                if error.kind() != ErrorKind::Full {
                    store = None;
                }
            }
        }
    }
    if let Some(Err(error)) = store.map(|store| store.close()) {
        outcome.errors.push(error.kind());
    }
    outcome
}

fn faults(call: Call) -> Vec<Fault> {
    let mut faults = vec![Fault::Error(errno::EIO)];
    match call {
        Call::Write | Call::Allocate | Call::SyncData | Call::SyncDir => {
            faults.push(Fault::Error(errno::ENOSPC));
            faults.push(Fault::ErrorAfter(errno::EIO));
        }
        Call::Create | Call::Rename | Call::SetLen => {
            faults.push(Fault::Error(errno::ENOSPC));
            faults.push(Fault::ErrorAfter(errno::EIO));
        }
        Call::Unlink => faults.push(Fault::ErrorAfter(errno::EIO)),
        _ => {}
    }
    faults
}

fn cases(index_only: bool) -> Vec<Case> {
    let disk = SimDisk::new(1);
    let whole = workload(&disk);
    assert!(whole.errors.is_empty(), "{:?}", whole.errors);
    let counts = disk.counts();
    let mut cases = Vec::new();
    for call in Call::ALL {
        for fault in faults(call) {
            for nth in 1..=counts.of(call) {
                for lasting in [false, true] {
                    cases.push(Case {
                        call,
                        nth,
                        fault,
                        lasting,
                        index_only,
                    });
                }
            }
        }
    }
    cases
}

fn run_case(case: &Case) -> Outcome {
    let disk = SimDisk::new(1);
    let mut plan = FaultPlan::new(case.call, case.nth, case.fault);
    if case.lasting {
        plan = plan.lasting();
    }
    if case.index_only {
        plan = plan.on("index");
    }
    disk.fail(plan);
    let outcome = workload(&disk);
    disk.clear_faults();
    let store = open_on(&disk, SyncMode::Every).unwrap();
    let found = bank::check(&store).unwrap();
    for (number, position) in &outcome.acknowledged {
        assert_eq!(
            found.get(number),
            Some(position),
            "transfer {number} is lost"
        );
    }
    for number in found.keys() {
        let known = outcome.acknowledged.contains_key(number) || outcome.doubtful.contains(number);
        assert!(known, "transfer {number} was said not to be there");
    }
    bank::open_accounts(&store, ACCOUNTS).unwrap();
    for number in 1..=TRANSFERS {
        let (receipt, _) = transfer(1, number).carry_out(&store).unwrap();
        assert_eq!(receipt.duplicate, found.contains_key(&number));
    }
    assert_eq!(bank::check(&store).unwrap().len() as u64, TRANSFERS);
    let said = answers(&store).unwrap();
    drop(store);
    assert_eq!(
        said,
        answers(&open_on(&disk, SyncMode::Every).unwrap()).unwrap()
    );
    outcome
}

fn run_cases(what: &str, cases: &[Case], judge: impl Fn(&Case, &Outcome) + Sync) {
    let begun = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (failing, doubtful) = (AtomicCount::default(), AtomicCount::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(case) = cases.get(at) else { return };
                let run = AssertUnwindSafe(|| {
                    let outcome = run_case(case);
                    judge(case, &outcome);
                    failing.add(usize::from(!outcome.errors.is_empty()));
                    doubtful.add(outcome.doubtful.len());
                });
                assert!(catch_unwind(run).is_ok(), "{case:?}");
            });
        }
    });
    say(&format!(
        "{what}: {} runs, {} with an error, {} transfers in doubt settled, {:.1} s",
        cases.len(),
        failing.get(),
        doubtful.get(),
        begun.elapsed().as_secs_f64()
    ));
}

#[derive(Default)]
struct AtomicCount(std::sync::atomic::AtomicUsize);

impl AtomicCount {
    fn add(&self, count: usize) {
        self.0
            .fetch_add(count, std::sync::atomic::Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn a_failing_call_loses_and_doubles_nothing() {
    let cases = cases(false);
    assert!(cases.len() > 1_000, "{}", cases.len());
    run_cases("every call fails", &cases, |_, _| {});
}

#[test]
fn a_failing_index_fails_no_append() {
    let cases = cases(true);
    run_cases("every call on the index fails", &cases, |case, outcome| {
        assert!(outcome.errors.is_empty(), "{case:?}: {:?}", outcome.errors);
        assert_eq!(outcome.acknowledged.len() as u64, TRANSFERS);
    });
}
