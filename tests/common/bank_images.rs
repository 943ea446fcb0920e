//! A bank on the simulated disk, and everything that is checked of what a death leaves of it. Layers
//! of the index are so small that runs are made and merged all the time. Of each image:
//!
//! * the store opens; the bank is whole: its sum, positions and stream versions without gaps, no
//!   debit without its credit; all transfers that were acknowledged, perhaps some that were issued;
//! * what the auditor saved is a count of each event once, up to the position saved with it, and it
//!   goes on from there;
//! * every reading gives the same as with `index/` deleted;
//! * the bank goes on: what was asked for is asked again with the same event ids, and is there once;
//! * in a sample of the images, opening dies in each of its own operations, and what that leaves is
//!   checked like any image.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::bank::{self, Transfer};
use duralog::eventstore::{
    Direction, EventStore, EventStoreOptions, IndexLimits, NameKind, Query, QueryItem, Read,
    Selection,
};
use duralog::vfs::sim::{CrashState, CrashStates, Fill, Image, Rng, SimDisk};
use duralog::{SyncMode, WalOptions};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

const PATH: &str = "/bank";
const FILLS: [Fill; 3] = [Fill::Zero, Fill::Stale, Fill::Random];

pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(error) => panic!("{variable}={text}: {error}"),
        },
        Err(_) => otherwise,
    }
}

pub(crate) fn options(sync_mode: SyncMode) -> EventStoreOptions {
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

pub(crate) fn open_on(disk: &SimDisk, sync_mode: SyncMode) -> Result<EventStore, duralog::Error> {
    EventStore::open_on(Arc::new(disk.clone()), PATH, &options(sync_mode))
}

/// Everything that a store answers about a bank, as one text.
pub(crate) fn answers(store: &EventStore, accounts: u64) -> Result<Vec<String>, duralog::Error> {
    let mut selections = vec![Selection::All, Selection::Category("account".to_owned())];
    // Some of many.
    let step = usize::try_from(accounts / 4).unwrap().max(1);
    for account in (0..accounts).step_by(step) {
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
    all.push(format!("{:?}", bank::saved_books(store)?));
    Ok(all)
}

/// What was asked of a bank and what it said, at one moment.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ledger {
    pub(crate) seed: u64,
    pub(crate) accounts: u64,
    /// Asked for, by number; at most these are there.
    pub(crate) issued: BTreeSet<u64>,
    /// Acknowledged: these are there, at these positions.
    pub(crate) acknowledged: BTreeMap<u64, u64>,
    /// The auditor was told that this position is saved.
    pub(crate) audited: u64,
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
    if let Some(number) = found.keys().find(|number| !ledger.issued.contains(number)) {
        return Err(format!("transfer {number} was never asked for"));
    }
    let said = answers(&store, ledger.accounts).map_err(|error| format!("reading: {error}"))?;
    let audited = bank::check_audit(&store)?;
    if audited < ledger.audited {
        return Err(format!("LOST: audited up to {audited}"));
    }
    let mut bare = image.clone();
    for path in bare.paths() {
        if path.starts_with(format!("{PATH}/index")) {
            bare.remove(path);
        }
    }
    let bare_disk = SimDisk::from_image(&bare, 98);
    let bare = open_on(&bare_disk, SyncMode::Every).map_err(|error| format!("bare: {error}"))?;
    let without = answers(&bare, ledger.accounts)
        .map_err(|error| format!("reading without index: {error}"))?;
    if said != without {
        let differs = said.iter().zip(&without).find(|(a, b)| a != b);
        return Err(format!("the index changes an answer: {differs:?}"));
    }
    // Go on: what was asked before is asked again.
    let opened = bank::open_accounts(&store, ledger.accounts);
    opened.map_err(|error| format!("accounts: {error}"))?;
    let new = ledger.issued.last().unwrap_or(&0) + 1;
    for &number in ledger.issued.iter().chain([&new]) {
        let transfer = Transfer::from_seed(ledger.seed, number, ledger.accounts);
        let told = transfer.carry_out(&store);
        let (receipt, _) = told.map_err(|error| format!("transfer {number}: {error}"))?;
        if receipt.duplicate != found.contains_key(&number) {
            return Err(format!(
                "transfer {number}: duplicate {}",
                receipt.duplicate
            ));
        }
    }
    if bank::check(&store)?.len() != ledger.issued.len() + 1 {
        return Err("a transfer is missing after going on".to_owned());
    }
    bank::audit_the_rest(&store)?;
    let said =
        answers(&store, ledger.accounts).map_err(|error| format!("reading at the end: {error}"))?;
    store.close().map_err(|error| format!("closing: {error}"))?;
    drop(store);
    let store = open_on(&disk, SyncMode::Every).map_err(|error| format!("again: {error}"))?;
    let again =
        answers(&store, ledger.accounts).map_err(|error| format!("reading again: {error}"))?;
    if said != again {
        return Err("opening again changes an answer".to_owned());
    }
    Ok(())
}

fn examine(image: &Image, ledger: &Ledger) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| check(image, ledger)))
        .unwrap_or_else(|_| Err("PANIC".to_owned()))
}

/// Counts and keeps apart what was checked.
#[derive(Default)]
pub(crate) struct Explorer {
    seen: HashSet<u64>,
    pub(crate) laid_out: u64,
    pub(crate) checked: u64,
    pub(crate) recoveries: u64,
    pub(crate) moments: u64,
    pub(crate) with_runs: u64,
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

    /// Cuts the power of `disk` and kills its process at each moment, and checks up to `states`
    /// states of each. `ledger` says what must be there after a death at a moment; of a power cut if
    /// the second argument says so.
    pub(crate) fn explore(
        &mut self,
        disk: &SimDisk,
        what: &str,
        states: u64,
        ledger: impl Fn(u64, bool) -> Ledger,
    ) {
        self.seen.clear();
        let mut rng = Rng::new(ledger(0, true).seed);
        for power in [true, false] {
            let moments = if power {
                disk.crash_moments()
            } else {
                disk.every_moment()
            };
            for moment in moments {
                self.moments += 1;
                let ledger = ledger(moment.at, power);
                let how = format!(
                    "{what}, dies in operation {}, {}, power {power}; again: DURALOG_SEED={}",
                    moment.operation, moment.why, ledger.seed
                );
                let fills = if power { &FILLS[..] } else { &FILLS[..1] };
                for &fill in fills {
                    let possible = if power {
                        CrashStates::new(disk, moment.at, fill)
                    } else {
                        CrashStates::killed(disk, moment.at)
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

    /// With the counts of others.
    pub(crate) fn sum(explorers: Vec<Explorer>) -> Explorer {
        let mut sum = Explorer::default();
        for explorer in explorers {
            sum.laid_out += explorer.laid_out;
            sum.checked += explorer.checked;
            sum.recoveries += explorer.recoveries;
            sum.moments += explorer.moments;
            sum.with_runs += explorer.with_runs;
        }
        sum
    }
}

impl std::fmt::Display for Explorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} distinct images ({} laid out, {} with runs) of {} moments, {} recoveries killed in \
             each operation",
            self.checked, self.laid_out, self.with_runs, self.moments, self.recoveries
        )
    }
}
