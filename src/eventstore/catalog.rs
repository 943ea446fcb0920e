//! All layers of the index: which there are, what they answer together, and how they are made.
//!
//! ```text
//! positions  1 ........................................ last
//!            [ run            ][ run ][ run ][frozen][active]
//! ```
//!
//! A layer answers for a range of positions; together they cover all of them, without overlap. What
//! a layer covers of the log is said in sequence numbers, though: where programs save positions and
//! state without appending events, a layer has values only, and its range of positions is empty. The
//! active one is in memory and grows with every group that is acknowledged. When it is large it is
//! frozen and another begins; a frozen layer becomes a run (a file), and runs of about the same size
//! become one, in tiers. So a question meets few layers at any number of events, and memory holds
//! no more than a few layers.
//!
//! Everything here can be made from the log again. A file that is missing, damaged, or of another
//! history of the log (its anchor is not there) is left out when the store is opened, and what it
//! covered is read from the log. A block that turns out to be damaged later has the same effect.
//!
//! Here is which layers there are; in files of their own what they answer (`catalog/answers.rs`), how they
//! grow and merge (`merging.rs`), and how they are made from the log (`making.rs`), also when one turns out
//! to be damaged (`healing.rs`); and whether they say what the log says (`verifying.rs`).
//!
//! Concurrency: `layers` is replaced as a whole, under a lock that is held for as long as that takes.
//! A snapshot holds the layers that it began with, so what it answers is of one moment, but for the
//! active layer, which may have grown: who asks bounds positions by what was published.

mod answers;
mod healing;
mod making;
mod merging;
mod verifying;

pub(super) use answers::Snapshot;
pub use verifying::{IndexDamage, IndexReport};

use super::anchor::{Cover, LogPlace};
use super::index::{run_file_numbers, write_run, BlockCache, Layer, MemoryIndex, Run};
use super::replay::{add_record, Follower};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Seq;
use crate::sync::{Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use crate::vfs::Vfs;
use crate::wal::Wal;
use making::Progress;
use merging::Work;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// When layers are made, and what of them is kept in memory. Meant for tests; what the store
/// answers does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// Events and values of a layer in memory at which it is frozen; at least 2.
    pub freeze_events: u64,
    /// Bytes of a layer in memory at which it is frozen.
    pub freeze_bytes: usize,
    /// So many adjacent runs of one tier become one.
    pub tier_runs: usize,
    /// A layer with fewer events and values is not worth a file when the store is closed: reading
    /// them from the log again takes a few milliseconds.
    pub close_events: u64,
    /// Bytes of the blocks of runs that are kept in memory.
    pub cache_bytes: usize,
    /// Leaves of a run that are compared with the log at once: so much of what is known of keys is in memory.
    pub verify_leaves: usize,
    /// Keys of state that were deleted within a run's records, at once.
    pub verify_hashes: usize,
}

impl Default for IndexLimits {
    fn default() -> IndexLimits {
        IndexLimits {
            freeze_events: 32_768,
            freeze_bytes: 8 << 20,
            tier_runs: 8,
            close_events: 2_048,
            cache_bytes: 16 << 20,
            verify_leaves: 128 << 10,
            verify_hashes: 128 << 10,
        }
    }
}

impl IndexLimits {
    fn is_large(&self, index: &MemoryIndex) -> bool {
        // A run is of at least one record.
        let count = index.record_count();
        count >= self.freeze_events || (count > 0 && index.bytes() >= self.freeze_bytes)
    }

    /// Runs of one tier have about the same weight: each tier eight times that of the one below.
    fn tier_of(&self, weight: u64) -> u32 {
        let layers = weight / (self.freeze_events / 2).max(1);
        layers.checked_ilog2().map_or(0, |bits| bits / 3)
    }
}

/// A layer in memory, and up to where in the log it goes.
pub(super) struct Memory {
    pub(super) index: RwLock<MemoryIndex>,
    /// Set by who adds to the index.
    pub(super) covered: Mutex<Cover>,
}

impl Memory {
    fn new(first_position: u64, behind: LogPlace) -> Arc<Memory> {
        Memory::with(MemoryIndex::new(first_position), behind)
    }

    /// An empty one that goes on behind this one.
    fn successor(&self) -> Arc<Memory> {
        Memory::with(self.index().successor(), self.covered().end)
    }

    fn with(index: MemoryIndex, behind: LogPlace) -> Arc<Memory> {
        Arc::new(Memory {
            index: RwLock::new(index),
            covered: Mutex::new(Cover::behind(behind)),
        })
    }

    fn index(&self) -> RwLockReadGuard<'_, MemoryIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn covered(&self) -> Cover {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_end(&self, place: LogPlace) {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        covered.end = place;
    }

    fn is_large(&self, limits: &IndexLimits) -> bool {
        limits.is_large(&self.index())
    }
}

#[derive(Clone)]
enum Stored {
    Memory(Arc<Memory>),
    Run(Arc<Run>),
}

impl Stored {
    fn ask<T>(&self, question: impl FnOnce(&dyn Layer) -> Result<T>) -> Result<T> {
        match self {
            Stored::Memory(memory) => question(&*memory.index()),
            Stored::Run(run) => question(run.as_ref()),
        }
    }

    /// Up to where in the log it goes.
    fn end(&self) -> LogPlace {
        match self {
            Stored::Memory(memory) => memory.covered().end,
            Stored::Run(run) => Cover::decode(&run.anchor()).end,
        }
    }

    /// First and last position; the last is one less than the first if there are none.
    fn range(&self) -> (u64, u64) {
        let range = match self {
            Stored::Memory(memory) => memory.index().range(),
            Stored::Run(run) => run.range(),
        };
        (*range.start(), *range.end())
    }
}

/// See the module. What is behind `background` is done by a thread of its own, or in calls.
pub(super) struct Catalog {
    vfs: Arc<dyn Vfs>,
    wal: Arc<Wal>,
    dir: PathBuf,
    cache: Arc<BlockCache>,
    limits: IndexLimits,
    /// Ascending; the last one is the active layer.
    layers: RwLock<Arc<[Stored]>>,
    /// Whether files may be written and deleted.
    writes: bool,
    /// Whether files are read through mappings.
    mapped: bool,
    work: Mutex<Work>,
    work_done: Condvar,
    /// Held while runs are merged, and while a damaged one is made again.
    healing: Mutex<()>,
    /// Held while frozen layers become runs; whoever needs both has `healing` first.
    writing: Mutex<()>,
    /// Why nothing can be answered any more.
    lost: OnceLock<Error>,
    /// What the thread at work has done of what, in keys; nothing of nothing while none is.
    work_done_keys: AtomicU64,
    work_total_keys: AtomicU64,
    /// Held while the active layer of a handle that only reads follows the log.
    follower: Mutex<Option<Following>>,
}

/// Who follows the log for a handle that only reads.
struct Following {
    follower: Follower,
    /// Files of runs were looked for up to this number: those that could not be used then are not
    /// tried again and again.
    looked_at: Seq,
}

impl Following {
    fn new(follower: Follower) -> Following {
        Following {
            follower,
            looked_at: 0,
        }
    }
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CatalogStat {
    pub(super) run_count: u64,
    /// Events of layers in memory.
    pub(super) memory_events: u64,
    pub(super) work_done: u64,
    pub(super) work_total: u64,
}

impl Catalog {
    /// The catalog of an open log: what there is in `index/`, and for the rest the log itself.
    /// `progress` is told how much of it was read.
    pub(super) fn open(
        vfs: Arc<dyn Vfs>,
        wal: Arc<Wal>,
        dir: PathBuf,
        writes: bool,
        mapped: bool,
        limits: IndexLimits,
        progress: &mut Progress<'_>,
    ) -> Result<Catalog> {
        let cache = Arc::new(BlockCache::new(limits.cache_bytes));
        let catalog = Catalog {
            vfs,
            wal,
            dir,
            cache,
            limits,
            layers: RwLock::new(Arc::new([])),
            writes,
            mapped,
            work: Mutex::default(),
            work_done: Condvar::new(),
            healing: Mutex::new(()),
            writing: Mutex::new(()),
            lost: OnceLock::new(),
            work_done_keys: AtomicU64::new(0),
            work_total_keys: AtomicU64::new(0),
            follower: Mutex::new(None),
        };
        catalog.work().fork_count = catalog.vfs.fork_count();
        if writes {
            // It may be there; and without it the index is in memory.
            let _ = catalog.vfs.create_dir(&catalog.dir);
        }
        let (layers, follower) = catalog.layers_of_log(progress)?;
        *catalog
            .follower
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = follower.map(Following::new);
        catalog.replace(layers);
        catalog.remove_leftovers();
        Ok(catalog)
    }

    fn read_layers(&self) -> Arc<[Stored]> {
        Arc::clone(&self.layers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, layers: Vec<Stored>) {
        *self.layers.write().unwrap_or_else(PoisonError::into_inner) = layers.into();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            layers: self.read_layers(),
        }
    }

    /// The layer that is added to, by who leads a group.
    pub(super) fn active(&self) -> Arc<Memory> {
        let layers = self.read_layers();
        match layers.last() {
            Some(Stored::Memory(memory)) => Arc::clone(memory),
            // There always is one once the catalog is open.
            _ => Memory::new(1, LogPlace::default()),
        }
    }

    pub(super) fn last_position(&self) -> u64 {
        self.read_layers()
            .last()
            .map_or(0, |stored| stored.range().1)
    }

    /// When the last batch was committed.
    pub(super) fn last_time_ns(&self) -> u64 {
        self.active().covered().end.time_ns
    }

    fn open_run(&self, path: &Path) -> Result<Run> {
        let (vfs, log_id) = (self.vfs.as_ref(), self.wal.log_id());
        Run::open(vfs, path, log_id, &self.cache, self.mapped)
    }

    // ---- files -------------------------------------------------------------------------------

    /// Deletes what a writer left behind, and runs that are not in use.
    fn remove_leftovers(&self) {
        if !self.writes {
            return;
        }
        let used: Vec<String> = self
            .read_layers()
            .iter()
            .filter_map(|stored| match stored {
                Stored::Run(run) => Some(run.path().file_name()?.to_str()?.to_string()),
                Stored::Memory(_) => None,
            })
            .collect();
        for entry in self.vfs.list(&self.dir).unwrap_or_default() {
            if entry.is_file && !used.contains(&entry.name) {
                // A file that stays is not used, and tried again next time.
                let _ = self.vfs.unlink(&self.dir.join(&entry.name));
            }
        }
    }

    fn write(&self, memory: &Memory) -> Result<Arc<Run>> {
        let mut covered = memory.covered();
        covered.end = covered.end.identified(&mut self.wal.cursor_of_view(0)?)?;
        let index = memory.index();
        let write = || {
            write_run(
                self.vfs.as_ref(),
                &self.dir,
                covered.numbers(),
                self.wal.log_id(),
                &covered.encode(),
                self.limits.tier_of(index.record_count()),
                &index,
            )
        };
        let path = match write() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The directory was deleted under the open store.
                let _ = self.vfs.create_dir(&self.dir);
                write()
            }
            written => written,
        }?;
        let run = self.open_run(&path)?;
        Ok(Arc::new(run))
    }

    // ---- following, closing ------------------------------------------------------------------

    /// Lets a handle that only reads see what was appended since; gives the last position.
    pub(super) fn follow(self: &Arc<Catalog>) -> Result<u64> {
        let mut guard = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Following {
            follower,
            looked_at,
        }) = guard.as_mut()
        else {
            return Ok(self.last_position());
        };
        loop {
            let active = self.active();
            let mut write = active.index.write().unwrap_or_else(PoisonError::into_inner);
            let mut next = write.range().end() + 1;
            let more = follower.next(&mut |entry, at, _| {
                let is_event = add_record(&mut write, next, entry.op, entry.key, entry.value, at)?;
                next += u64::from(is_event);
                Ok(())
            })?;
            drop(write);
            active.set_end(follower.place);
            if !more {
                return Ok(next - 1);
            }
            if !active.is_large(&self.limits) {
                continue;
            }
            let Some(newest) = self.new_runs(*looked_at) else {
                self.freeze(&active);
                continue;
            };
            *looked_at = newest;
            // The writer made runs of what is in memory here.
            let (layers, behind) = self.layers_of_log(&mut |_, _| true)?;
            self.replace(layers);
            if let Some(behind) = behind {
                *follower = behind;
            }
        }
    }

    /// Up to which number files of runs go, if that is further than those in use, and than
    /// `looked_at`.
    fn new_runs(&self, looked_at: Seq) -> Option<Seq> {
        let used = self.read_layers();
        let used = used.iter().filter_map(|stored| match stored {
            Stored::Run(_) => Some(stored.end().end_seq),
            Stored::Memory(_) => None,
        });
        let known = used.max().unwrap_or(0).max(looked_at);
        let entries = self.vfs.list(&self.dir).unwrap_or_default();
        let there = entries.iter().filter_map(|e| run_file_numbers(&e.name));
        there
            .map(|numbers| *numbers.end())
            .max()
            .filter(|&newest| newest > known)
    }

    /// What is done of what in the background, of one piece of work and not of two; nothing of nothing
    /// also while one begins or ends.
    fn work_keys(&self) -> (u64, u64) {
        let total = self.work_total_keys.load(Ordering::Acquire);
        let done = self.work_done_keys.load(Ordering::Acquire);
        match self.work_total_keys.load(Ordering::Relaxed) {
            still if still == total => (done.min(total), total),
            _ => (0, 0),
        }
    }

    /// What there is, for who wants to know how far the index is.
    pub(super) fn stat(&self) -> CatalogStat {
        let (work_done, work_total) = self.work_keys();
        let mut stat = CatalogStat {
            work_done,
            work_total,
            ..CatalogStat::default()
        };
        for stored in self.read_layers().iter() {
            match stored {
                Stored::Run(_) => stat.run_count += 1,
                Stored::Memory(memory) => stat.memory_events += memory.index().event_count(),
            }
        }
        stat
    }

    /// Waits for work that was begun, and keeps what memory holds if that spares the next opening
    /// more than it costs now.
    pub(super) fn close(&self) {
        let mut work = self.work();
        if work.fork_count != self.vfs.fork_count() {
            return;
        }
        work.closing = true;
        while work.running {
            work = self
                .work_done
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(work);
        // A run that is being made right now is the last.
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        let _writing = self.writing();
        let active = self.active();
        if self.writes && active.index().record_count() >= self.limits.close_events {
            // What can't be written is read from the log next time.
            let _ = self.write(&active);
        }
    }
}

fn is_same(a: &Stored, b: &Stored) -> bool {
    match (a, b) {
        (Stored::Memory(a), Stored::Memory(b)) => Arc::ptr_eq(a, b),
        (Stored::Run(a), Stored::Run(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
