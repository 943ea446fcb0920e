//! Whatever a power cut or the death of the process does to an event store, every acknowledged append
//! is there whole, none is there twice, and the index changes no answer.
//!
//! A bank (`common/bank.rs`) runs on the simulated disk, which knows every state that a death at any
//! moment may leave; what is checked of each is written in `common/bank_images.rs`. One bank is small
//! and does one thing after another, also closing, dying and opening again. The other is of 16
//! threads that share their syncs, with an auditor who follows them: after a death in any operation
//! everything that any of them was told is there.
//!
//! `DURALOG_SEED` chooses another run, `DURALOG_CRASH_IMAGES` a longer one (20000). How threads meet is
//! never quite the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "common/bank.rs"]
mod bank;
#[path = "common/bank_images.rs"]
mod bank_images;

use bank::{Auditor, Transfer};
use bank_images::{number, open_on, say, Explorer, Ledger};
use duralog::vfs::sim::{Rng, SimDisk};
use duralog::{Durability, SyncMode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Of the small bank.
const ACCOUNTS: u64 = 4;

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
    Audited(u64),
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
                    let mut auditor = Auditor::resume(&store).unwrap();
                    match auditor.step(&store, Duration::ZERO).unwrap() {
                        Some(position) => Told::Audited(position),
                        None => Told::Nothing,
                    }
                }
                4 | 5 if number > 0 => {
                    // What is known already must be durable too when that is asked for.
                    let again = Transfer::from_seed(seed, number, ACCOUNTS);
                    let told = again.attempt_with(&store, Durability::Durable).unwrap();
                    assert!(told.duplicate);
                    synced = true;
                    Told::Nothing
                }
                _ => {
                    number += 1;
                    let told = Transfer::from_seed(seed, number, ACCOUNTS)
                        .carry_out(&store)
                        .unwrap();
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
            accounts: ACCOUNTS,
            ..Ledger::default()
        };
        for token in self.disk.issued(at) {
            let token = usize::try_from(token).unwrap();
            if let Told::Transfer(number, _) = self.told[token] {
                ledger.issued.insert(number);
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
                Told::Audited(position) => ledger.audited = position,
                Told::Nothing => {}
            }
        }
        ledger
    }
}

/// Lets two threads explore, each from seeds of its own, until so many images were checked.
fn explore(wanted: u64, attempt: impl Fn(u64, &mut Explorer) + Sync) -> Explorer {
    let begun = Instant::now();
    let first = number("DURALOG_SEED", 1);
    let next = AtomicU64::new(first);
    let checked = AtomicU64::new(0);
    let explorers: Vec<Explorer> = std::thread::scope(|scope| {
        let work = || {
            let mut explorer = Explorer::default();
            while checked.load(Ordering::Relaxed) < wanted {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let before = explorer.checked;
                attempt(seed, &mut explorer);
                checked.fetch_add(explorer.checked - before, Ordering::Relaxed);
            }
            explorer
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().unwrap()).into()
    });
    let sum = Explorer::sum(explorers);
    say(&format!(
        "{sum}, seeds {first} to {}, {:.1} s",
        next.into_inner() - 1,
        begun.elapsed().as_secs_f64()
    ));
    assert!(sum.checked >= wanted);
    sum
}

#[test]
fn every_death_leaves_a_whole_bank() {
    let sum = explore(number("DURALOG_CRASH_IMAGES", 20_000), |seed, explorer| {
        let run = Run::new(seed, 24);
        let what = format!("{:?}", run.mode);
        explorer.explore(&run.disk, &what, 24, |at, power| run.ledger(at, power));
    });
    assert!(sum.recoveries > 0);
    assert!(sum.with_runs * 2 > sum.checked);
}

// ---- threads -------------------------------------------------------------------------------------

/// What the auditor was told has this token and the position.
const AUDITED: u64 = 1 << 32;

/// A bank of 100 accounts and 16 threads, on a disk that remembers everything.
struct Crowd {
    disk: SimDisk,
    seed: u64,
    /// Where each transfer came to be.
    positions: BTreeMap<u64, u64>,
}

impl Crowd {
    const ACCOUNTS: u64 = 100;
    const THREADS: u64 = 16;
    const EACH: u64 = 3;

    /// A transfer's token is its number.
    fn new(seed: u64) -> Crowd {
        let disk = SimDisk::new(seed);
        let store = open_on(&disk, SyncMode::Every).unwrap();
        bank::open_accounts(&store, Self::ACCOUNTS).unwrap();
        // Groups of many requests form while a sync takes its time.
        disk.set_sync_delay(Duration::from_micros(300));
        let positions = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let last = Self::ACCOUNTS + 2 * Self::THREADS * Self::EACH;
                let mut auditor = Auditor::resume(&store).unwrap();
                let mut audited = 0;
                while audited < last {
                    let patience = Duration::from_secs(60);
                    audited = auditor.step(&store, patience).unwrap().unwrap();
                    disk.acknowledge(AUDITED + audited);
                }
            });
            for thread in 0..Self::THREADS {
                let (disk, store, positions) = (&disk, &store, &positions);
                scope.spawn(move || {
                    for round in 0..Self::EACH {
                        let number = 1 + thread * Self::EACH + round;
                        let transfer = Transfer::from_seed(seed, number, Self::ACCOUNTS);
                        disk.issue(number);
                        let (receipt, _) = transfer.carry_out(store).unwrap();
                        disk.acknowledge(number);
                        let position = receipt.first_position;
                        positions.lock().unwrap().insert(number, position);
                    }
                });
            }
        });
        std::mem::forget(store);
        Crowd {
            disk,
            seed,
            positions: positions.into_inner().unwrap(),
        }
    }

    fn ledger(&self, at: u64) -> Ledger {
        let mut ledger = Ledger {
            seed: self.seed,
            accounts: Self::ACCOUNTS,
            issued: self.disk.issued(at).into_iter().collect(),
            ..Ledger::default()
        };
        for told in self.disk.acknowledged(at) {
            match told.checked_sub(AUDITED) {
                Some(position) => ledger.audited = position,
                None => drop(ledger.acknowledged.insert(told, self.positions[&told])),
            }
        }
        ledger
    }
}

#[test]
fn every_death_of_a_bank_with_threads_leaves_it_whole() {
    let wanted = number("DURALOG_CRASH_IMAGES", 20_000) / 10;
    let sum = explore(wanted, |seed, explorer| {
        let crowd = Crowd::new(seed);
        explorer.explore(&crowd.disk, "16 threads", 3, |at, _| crowd.ledger(at));
    });
    assert!(sum.with_runs > 0);
}
