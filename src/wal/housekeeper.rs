//! One thread per process that keeps the promises of the mode `interval` while nobody calls.
//!
//! An append syncs by itself once the interval has passed; this thread syncs for a log to which
//! nobody appends any more. It looks at every registered log each few milliseconds, sleeps while
//! there is none, and is started by the first log that needs it: a process without such logs has
//! no thread of ours.

use super::append::group_committer::GroupCommitter;
use super::append::segment_writer::SegmentWriter;
use once_cell::sync::Lazy;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// A log as the housekeeper knows it: gone as soon as its handle is.
type Charge = Weak<GroupCommitter<SegmentWriter>>;

#[derive(Default)]
struct Charges {
    logs: Vec<(Charge, Duration)>,
    /// The thread runs. It ends when no log is left, so that a process which closed its logs has
    /// none.
    running: bool,
    fork_count: u64,
}

static CHARGES: Lazy<(Mutex<Charges>, Condvar)> = Lazy::new(Default::default);

/// Has `log` synced when `interval` has passed since its first unsynced batch.
pub(crate) fn watch(log: &Arc<GroupCommitter<SegmentWriter>>, interval: Duration, fork_count: u64) {
    let (charges, _) = &*CHARGES;
    let mut charges = charges.lock().unwrap_or_else(PoisonError::into_inner);
    if charges.fork_count != fork_count {
        // Threads do not survive a fork, nor do the parent's handles.
        *charges = Charges {
            fork_count,
            ..Charges::default()
        };
    }
    charges.logs.push((Arc::downgrade(log), interval));
    if !charges.running {
        let started = thread::Builder::new()
            .name("duralog".to_string())
            .spawn(keep_house);
        // Without a thread the interval is kept by appends and close alone.
        charges.running = started.is_ok();
    }
}

/// Lets the thread notice that a log was closed.
pub(crate) fn wake() {
    CHARGES.1.notify_all();
}

fn keep_house() {
    let (charges, changed) = &*CHARGES;
    loop {
        let mut logs = Vec::new();
        {
            let mut charges = charges.lock().unwrap_or_else(PoisonError::into_inner);
            charges.logs.retain(|(log, _)| log.strong_count() > 0);
            if charges.logs.is_empty() {
                charges.running = false;
                return;
            }
            let shortest = charges.logs.iter().map(|(_, interval)| *interval).min();
            let pause = shortest.unwrap_or(Duration::from_millis(100)) / 2;
            let pause = pause.max(Duration::from_millis(1));
            let (charges, _) = changed
                .wait_timeout(charges, pause)
                .unwrap_or_else(PoisonError::into_inner);
            logs.extend(charges.logs.iter().filter_map(|(log, _)| log.upgrade()));
        }
        for log in logs {
            // An error poisons the handle, and its owner learns of it with the next call.
            let _ = log.alone_if(SegmentWriter::wants_sync, SegmentWriter::sync);
        }
    }
}
