//! One thread per process for what must happen while nobody calls.
//!
//! * In the mode `interval`, what was written is synced when its time is up.
//! * When a log falls idle, a MARK and a note in the control file promise what the last group could
//!   not promise about itself, which keeps the window of FORMAT.md section 17 ("the residue") short.
//! * When a writer comes near the end of the space that is prepared, it *calls*, and the thread
//!   prepares more before it is needed (`append/room.rs`). A log that is idle calls nobody.
//!
//! An append *stirs* its log, which costs one atomic operation while the log is stirred already.
//! The thread looks at stirred logs only, ends when there is none, and is started again by the
//! next stir: a process whose logs are idle has no thread of ours.

use super::append::group_committer::GroupCommitter;
use super::append::room::Room;
use super::append::segment_writer::SegmentWriter;
use super::layout::Layout;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::vfs::per_process::PerProcess;
use crate::vfs::Vfs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A log to which nothing was appended for this long is idle.
const IDLE: Duration = Duration::from_millis(200);
/// The thread looks at most this often.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// What the housekeeper and a handle share.
#[derive(Debug)]
pub(crate) struct Charge {
    committer: Weak<GroupCommitter<SegmentWriter>>,
    room: Arc<Room>,
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    /// How often the log wants to be looked at.
    look: Duration,
    /// The log is on the list. Set by a stir; taken back by the thread *before* it looks for the
    /// last time, so that a stir which comes too late for that look puts the log on the list again.
    stirred: AtomicBool,
}

/// A stirred log, as the thread keeps it.
struct Stirred {
    charge: Arc<Charge>,
    /// Groups written when it was looked at last, and when that number changed last.
    groups: u64,
    changed: Instant,
}

#[derive(Default)]
struct Household {
    arrivals: Vec<Arc<Charge>>,
    running: bool,
    /// A writer wants space. Whose room it is, the rooms themselves say.
    called: bool,
}

/// What all logs of a process share with its housekeeper.
#[derive(Default)]
struct House {
    household: Mutex<Household>,
    /// Signalled when `called` is set, and when somebody arrives who can't wait for the next look.
    called: Condvar,
}

impl House {
    fn household(&self) -> MutexGuard<'_, Household> {
        self.household
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

static HOUSE: PerProcess<House> = PerProcess::new();

/// A writer wants space, and has told its room. Nothing happens before the log is stirred, by the
/// end of the append that calls; where there is no thread, the writer helps itself.
pub(crate) fn call(fork_count: u64) {
    let house = HOUSE.get(fork_count);
    house.household().called = true;
    house.called.notify_all();
}

impl Charge {
    pub(crate) fn new(
        committer: &Arc<GroupCommitter<SegmentWriter>>,
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        interval: Option<Duration>,
    ) -> Charge {
        Charge {
            committer: Arc::downgrade(committer),
            room: committer.inspect(|writer| Arc::clone(writer.room())),
            vfs,
            layout,
            look: interval.map_or(IDLE, |interval| interval.min(IDLE)) / 2,
            stirred: AtomicBool::new(false),
        }
    }

    /// Prepares the space that the writer has asked for.
    pub(crate) fn prepare(&self) {
        self.room.prepare(self.vfs.as_ref(), &self.layout);
    }

    /// Something was appended.
    pub(crate) fn stir(self: &Arc<Charge>, fork_count: u64) {
        // Looked at first: a look costs next to nothing. It can't miss that the mark was taken back: the
        // thread looks at the log once more after that, under a lock which the append took before.
        let stirred = self.stirred.load(Ordering::SeqCst);
        if stirred || self.stirred.swap(true, Ordering::SeqCst) {
            return;
        }
        let house = HOUSE.get(fork_count);
        let mut household = house.household();
        household.arrivals.push(Arc::clone(self));
        if !household.running {
            let started = thread::Builder::new()
                .name("duralog".to_string())
                .spawn(|| keep_house(house));
            // Without a thread, appends and close do what they can.
            household.running = started.is_ok();
        } else if self.look < IDLE / 2 {
            // The thread may be waiting for longer than that.
            house.called.notify_all();
        }
    }
}

fn keep_house(house: &House) {
    let mut stirred: Vec<Stirred> = Vec::new();
    let mut next_look = Instant::now();
    loop {
        let mut household = house.household();
        if stirred.is_empty() && household.arrivals.is_empty() {
            household.running = false;
            return;
        }
        let pause = next_look.saturating_duration_since(Instant::now());
        if !household.called && household.arrivals.is_empty() && !pause.is_zero() {
            household = house
                .called
                .wait_timeout(household, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let known = stirred.len();
        let now = Instant::now();
        // After the wait: who calls may have arrived meanwhile.
        stirred.extend(household.arrivals.drain(..).map(|charge| Stirred {
            charge,
            groups: 0,
            changed: now,
        }));
        let called = std::mem::take(&mut household.called);
        drop(household);
        // Who has just arrived may have called before, when nobody knew whose call it was.
        let first = if called { 0 } else { known };
        for log in &stirred[first..] {
            log.charge.prepare();
        }
        next_look = next_look.min(next_look_at(now, &stirred[known..]));
        if Instant::now() >= next_look {
            stirred.retain_mut(look_after);
            next_look = next_look_at(Instant::now(), &stirred);
        }
    }
}

/// When the first of these logs wants to be looked at, if that was done to all of them just now.
fn next_look_at(now: Instant, stirred: &[Stirred]) -> Instant {
    let pause = stirred.iter().map(|log| log.charge.look).min();
    now + pause.unwrap_or(IDLE).max(LOOK_MIN)
}

/// Looks at one log; false if it needs no more looks until it is stirred again.
fn look_after(log: &mut Stirred) -> bool {
    let Some(committer) = log.charge.committer.upgrade() else {
        return false;
    };
    let now = Instant::now();
    let idle_since = log.changed;
    let mut groups = None;
    // An error poisons the handle, and its owner learns of it with the next call.
    committer.write_buffered();
    let looked = committer.alone_if(
        |writer| {
            groups = Some(writer.counters.groups);
            writer.wants_sync()
        },
        SegmentWriter::sync,
    );
    if looked.is_err() {
        return false;
    }
    // While a group is being written there is no number to be had: a log whose groups take long is not
    // idle, however often they are met under way.
    if groups != Some(log.groups) {
        log.groups = groups.unwrap_or(log.groups);
        log.changed = now;
        return true;
    }
    if now.duration_since(idle_since) < IDLE {
        return true;
    }
    log.charge.stirred.store(false, Ordering::SeqCst);
    let _ = committer.alone_if(
        |writer| writer.counters.groups == log.groups && writer.wants_mark(),
        SegmentWriter::mark,
    );
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::SimDisk;
    use crate::wal::{Durability, Record, Wal, WalOptions};
    use std::path::Path;
    use std::sync::mpsc;

    #[test]
    fn a_log_is_not_idle_while_a_group_is_being_written() {
        let disk = SimDisk::new(1);
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let wal = Wal::open_on(Arc::clone(&vfs), "/log", &WalOptions::default()).unwrap();
        let append = || wal.append(Record::put(b"a", b"1"), Durability::Durable);
        append().unwrap();
        let committer = wal.committer.as_ref().unwrap();
        let groups = committer.inspect(|writer| writer.counters.groups);
        let charge = Charge::new(committer, vfs, Layout::new(Path::new("/log")), None);
        let charge = Arc::new(charge);
        let unchanged_for_long = || Stirred {
            charge: Arc::clone(&charge),
            groups,
            changed: Instant::now().checked_sub(2 * IDLE).unwrap(),
        };
        let (tell, told) = mpsc::channel();
        let mut log = unchanged_for_long();
        disk.during_next_sync(move || tell.send(look_after(&mut log)).unwrap());
        append().unwrap();
        assert!(
            told.recv().unwrap(),
            "taken for idle in the middle of an append"
        );

        let groups = committer.inspect(|writer| writer.counters.groups);
        let mut log = unchanged_for_long();
        assert!(look_after(&mut log), "a group was written since");
        assert_eq!(log.groups, groups);
        log.changed = Instant::now().checked_sub(2 * IDLE).unwrap();
        assert!(!look_after(&mut log), "nothing happens any more");
    }
}
