//! Whatever call on the disk fails, at each place where it is made, an event store loses nothing and
//! doubles nothing. An append that is in doubt is settled by asking again. When it is a file of the
//! index that fails, no append fails and no answer changes.
//!
//! The appends are transfers of a small bank (`common/bank.rs`), on the simulated disk.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/bank.rs"]
mod bank;
#[path = "common/bank_images.rs"]
mod bank_images;

use bank::Transfer;
use bank_images::{answers, open_on, say};
use duralog::eventstore::EventStore;
use duralog::vfs::sim::{errno, Call, Fault, FaultPlan, SimDisk};
use duralog::{ErrorKind, SyncMode};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Instant;

const ACCOUNTS: u64 = 4;

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
            Ok(_) if number > 0 => Transfer::from_seed(1, number, ACCOUNTS).attempt(open),
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
        let (receipt, _) = Transfer::from_seed(1, number, ACCOUNTS)
            .carry_out(&store)
            .unwrap();
        assert_eq!(receipt.duplicate, found.contains_key(&number));
    }
    assert_eq!(bank::check(&store).unwrap().len() as u64, TRANSFERS);
    let said = answers(&store, ACCOUNTS).unwrap();
    drop(store);
    assert_eq!(
        said,
        answers(&open_on(&disk, SyncMode::Every).unwrap(), ACCOUNTS).unwrap()
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
