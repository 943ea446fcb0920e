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
//! Concurrency: `layers` is replaced as a whole, under a lock that is held for as long as that takes.
//! A snapshot holds the layers that it began with, so what it answers is of one moment, but for the
//! active layer, which may have grown: who asks bounds positions by what was published.

mod making;

use super::anchor::{Cover, LogPlace};
use super::index::{
    merge_runs, run_file_numbers, write_run, BlockCache, KeyKind, Layer, ListHead, MemoryIndex,
    Place, Run, Value,
};
use super::replay::{add_record, Follower};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::{Lsn, Seq};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use crate::vfs::Vfs;
use crate::wal::Wal;
use making::{Part, Progress, Watch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Frozen layers that may wait; with more, who appends helps.
const FROZEN_MAX: usize = 3;

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
}

impl Default for IndexLimits {
    fn default() -> IndexLimits {
        IndexLimits {
            freeze_events: 32_768,
            freeze_bytes: 8 << 20,
            tier_runs: 8,
            close_events: 2_048,
            cache_bytes: 16 << 20,
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
        Arc::new(Memory {
            index: RwLock::new(MemoryIndex::new(first_position)),
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
    /// Held while a damaged run is made again.
    healing: Mutex<()>,
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

#[derive(Default)]
struct Work {
    /// A thread is at work.
    running: bool,
    closing: bool,
    fork_count: u64,
}

/// A thread at work. However it ends, it is known that it did.
struct Working(Arc<Catalog>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.work().running = false;
        self.0.work_done.notify_all();
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

/// The layers at one moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    layers: Arc<[Stored]>,
}

impl Snapshot {
    /// The answer of the newest layer that has one.
    pub(super) fn newest<T>(
        &self,
        question: impl Fn(&dyn Layer) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for stored in self.layers.iter().rev() {
            if let Some(answer) = stored.ask(&question)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    pub(super) fn stream_version(&self, stream: &[u8]) -> Result<u64> {
        let head = self.newest(|layer| layer.head(KeyKind::Stream, stream))?;
        Ok(head.map_or(0, |head| head.first_version + head.count - 1))
    }

    pub(super) fn value(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(match self.newest(|layer| layer.value(kind, key))? {
            Some(Value::Bytes(bytes)) => Some(bytes),
            Some(Value::Deleted) | None => None,
        })
    }

    pub(super) fn position_of_version(&self, stream: &[u8], version: u64) -> Result<Option<u64>> {
        self.newest(|layer| layer.position_of_version(stream, version))
    }

    /// What is known of a list, over all layers.
    pub(super) fn head(&self, kind: KeyKind, key: &[u8]) -> Result<Option<ListHead>> {
        let mut whole: Option<ListHead> = None;
        for stored in self.layers.iter() {
            if let Some(head) = stored.ask(|layer| layer.head(kind, key))? {
                whole = Some(join(whole, head));
            }
        }
        Ok(whole)
    }

    /// See [`Layer::positions`].
    pub(super) fn positions(
        &self,
        kind: KeyKind,
        key: &[u8],
        from: u64,
        backward: bool,
        count_max: usize,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        let end = out.len() + count_max;
        let mut ask = |stored: &Stored| {
            let (first, last) = stored.range();
            let beyond = if backward { first > from } else { last < from };
            if out.len() < end && !beyond {
                let wanted = end - out.len();
                stored.ask(|layer| layer.positions(kind, key, from, backward, wanted, out))?;
            }
            Ok(())
        };
        if backward {
            self.layers.iter().rev().try_for_each(&mut ask)
        } else {
            self.layers.iter().try_for_each(&mut ask)
        }
    }

    /// Where the events at these positions stand; all of them exist.
    pub(super) fn places(&self, positions: &[u64], out: &mut Vec<Place>) -> Result<()> {
        let mut rest = positions;
        while let Some(&position) = rest.first() {
            let Some((stored, first, last)) = self.layer_of(position) else {
                let message = format!("the index knows nothing of position {position}");
                return Err(Error::new(ErrorKind::Internal, message));
            };
            let here = rest
                .iter()
                .take_while(|p| (first..=last).contains(*p))
                .count();
            let (now, later) = rest.split_at(here.max(1));
            stored.ask(|layer| layer.places(now, out))?;
            rest = later;
        }
        Ok(())
    }

    /// Where the event at a position stands, for who does not go there; `None` if there is none.
    pub(super) fn place(&self, position: u64) -> Result<Option<Place>> {
        match self.layer_of(position) {
            Some((stored, _, _)) => stored.ask(|layer| layer.place(position)),
            None => Ok(None),
        }
    }

    fn layer_of(&self, position: u64) -> Option<(&Stored, u64, u64)> {
        let behind = self
            .layers
            .partition_point(|stored| stored.range().0 <= position);
        let stored = self.layers.get(behind.checked_sub(1)?)?;
        let (first, last) = stored.range();
        (first..=last)
            .contains(&position)
            .then_some((stored, first, last))
    }

    /// Keys in ascending order, behind `after`, that begin with `prefix`.
    pub(super) fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        count_max: usize,
    ) -> Result<Vec<(Vec<u8>, ListHead)>> {
        let mut found: BTreeMap<Vec<u8>, ListHead> = BTreeMap::new();
        let mut keys = Vec::new();
        // A layer that gave its last key of a page may have more: what lies behind the smallest
        // such key is left for the next page.
        let mut horizon: Option<Vec<u8>> = None;
        for stored in self.layers.iter() {
            keys.clear();
            stored.ask(|layer| layer.keys(kind, after, prefix, count_max, &mut keys))?;
            if keys.len() >= count_max {
                if let Some((last, _)) = keys.last() {
                    if horizon.as_ref().is_none_or(|horizon| last < horizon) {
                        horizon = Some(last.clone());
                    }
                }
            }
            for (key, head) in keys.drain(..) {
                let whole = found.remove(&key);
                found.insert(key, join(whole, head));
            }
        }
        let behind = |key: &Vec<u8>| horizon.as_ref().is_some_and(|horizon| key > horizon);
        let page = found.into_iter().take_while(|(key, _)| !behind(key));
        Ok(page.take(count_max).collect())
    }
}

/// One list in two layers that follow each other.
fn join(older: Option<ListHead>, newer: ListHead) -> ListHead {
    match older {
        None => newer,
        Some(older) => ListHead {
            count: older.count + newer.count,
            first: older.first,
            last: newer.last,
            first_version: older.first_version,
        },
    }
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
        let path = write_run(
            self.vfs.as_ref(),
            &self.dir,
            covered.numbers(),
            self.wal.log_id(),
            &covered.encode(),
            self.limits.tier_of(index.record_count()),
            &index,
        )?;
        let run = self.open_run(&path)?;
        Ok(Arc::new(run))
    }

    // ---- freezing, merging -------------------------------------------------------------------

    /// Called by who leads a group, after it: freezes the active layer if it is large.
    pub(super) fn grown(self: &Arc<Catalog>) -> Result<()> {
        let active = self.active();
        if !active.is_large(&self.limits) {
            return Ok(());
        }
        let frozen = self.freeze(&active);
        if !self.vfs.background() || frozen > FROZEN_MAX {
            return self.work_on();
        }
        self.begin_work()
    }

    /// Begins another active layer. Gives how many frozen ones wait now.
    fn freeze(&self, active: &Memory) -> usize {
        let next = active.index().range().end() + 1;
        let fresh = Memory::new(next, active.covered().end);
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = layers.to_vec();
        all.push(Stored::Memory(fresh));
        *layers = all.into();
        let in_memory = layers.iter().filter(|s| matches!(s, Stored::Memory(_)));
        in_memory.count() - 1
    }

    /// Lets a thread of its own do what is to be done, if there is something and none is at it. It
    /// ends when it is through.
    pub(super) fn begin_work(self: &Arc<Catalog>) -> Result<()> {
        if self.oldest_frozen().is_none() && self.mergeable().is_none() {
            return Ok(());
        }
        if !self.vfs.background() {
            return self.work_on();
        }
        let mut work = self.work();
        if work.running || work.closing {
            return Ok(());
        }
        work.running = true;
        drop(work);
        let working = Working(Arc::clone(self));
        let thread = std::thread::Builder::new().name("duralog-index".to_string());
        // What can't be written stays in memory, and is tried again with the next layer. So is
        // everything if there is no thread to be had: the guard was dropped with the closure.
        let _ = thread.spawn(move || working.0.work_on());
        Ok(())
    }

    /// Whether this handle may write and delete files of the index now: not once it was closed,
    /// though it goes on reading, for the next one may be at work on them.
    fn may_write(&self) -> bool {
        self.writes && !self.work().closing
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes runs of frozen layers, oldest first, and merges runs, until nothing is to be done. A
    /// failure is no failure of the store: what could not be written stays in memory.
    fn work_on(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        // One thread at a time: two would make the same run twice.
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(frozen) = self.oldest_frozen() {
            let run = self.write(&frozen)?;
            self.swap(&[Stored::Memory(frozen)], Stored::Run(run));
        }
        while let Some(runs) = self.mergeable() {
            if self.work().closing {
                return Ok(());
            }
            match self.merge(&runs) {
                Err(error) if runs.iter().any(|run| is_about(&error, run)) => {
                    self.make_again(error)?;
                }
                merged => merged?,
            }
        }
        Ok(())
    }

    fn oldest_frozen(&self) -> Option<Arc<Memory>> {
        let layers = self.read_layers();
        let (_, frozen) = layers.split_last()?;
        frozen.iter().find_map(|stored| match stored {
            Stored::Memory(memory) => Some(Arc::clone(memory)),
            Stored::Run(_) => None,
        })
    }

    /// The newest runs of one tier, if there are enough of them next to each other.
    fn mergeable(&self) -> Option<Vec<Arc<Run>>> {
        let layers = self.read_layers();
        let mut runs: Vec<Arc<Run>> = Vec::new();
        let tier = |run: &Run| self.limits.tier_of(run.weight());
        for stored in layers.iter() {
            match stored {
                Stored::Run(run) => {
                    if runs.last().is_some_and(|last| tier(last) != tier(run)) {
                        runs.clear();
                    }
                    runs.push(Arc::clone(run));
                }
                Stored::Memory(_) => runs.clear(),
            }
            if runs.len() == self.limits.tier_runs {
                return Some(runs);
            }
        }
        None
    }

    fn merge(&self, runs: &[Arc<Run>]) -> Result<()> {
        let weight: u64 = runs.iter().map(|run| run.weight()).sum();
        let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else {
            return Ok(());
        };
        let cover = Cover {
            begin_seq: Cover::decode(&oldest.anchor()).begin_seq,
            end: Cover::decode(&newest.anchor()).end,
        };
        let keys = runs.iter().map(|run| run.key_count()).sum();
        self.work_done_keys.store(0, Ordering::Relaxed);
        self.work_total_keys.store(keys, Ordering::Relaxed);
        let path = merge_runs(
            self.vfs.as_ref(),
            &self.dir,
            cover.numbers(),
            runs,
            &cover.encode(),
            self.limits.tier_of(weight),
            &|done| {
                self.work_done_keys.store(done, Ordering::Relaxed);
                !self.work().closing
            },
        );
        self.work_done_keys.store(0, Ordering::Relaxed);
        self.work_total_keys.store(0, Ordering::Relaxed);
        let path = match path {
            Err(error) if error.kind() == ErrorKind::Stopped => return Ok(()),
            path => path?,
        };
        let run = self.open_run(&path)?;
        let old: Vec<Stored> = runs.iter().cloned().map(Stored::Run).collect();
        self.swap(&old, Stored::Run(Arc::new(run)));
        for run in runs {
            // A file that stays is removed when the store is opened next.
            let _ = self.vfs.unlink(run.path());
        }
        Ok(())
    }

    /// Puts `new` in the place of `old`, layers that follow each other.
    fn swap(&self, old: &[Stored], new: Stored) {
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(layers.len());
        let mut new = Some(new);
        for stored in layers.iter() {
            if old.iter().any(|old| is_same(old, stored)) {
                all.extend(new.take());
            } else {
                all.push(stored.clone());
            }
        }
        *layers = all.into();
    }

    // ---- damage ------------------------------------------------------------------------------

    /// Asks `question`; if a run turns out to be damaged, makes it from the log again and asks once
    /// more.
    pub(super) fn ask<T>(&self, mut question: impl FnMut(&Snapshot) -> Result<T>) -> Result<T> {
        if let Some(error) = self.lost.get() {
            return Err(error.duplicate());
        }
        loop {
            match question(&self.snapshot()) {
                Err(error) if self.is_of_index(&error) => self.heal(error)?,
                answer => return answer,
            }
        }
    }

    /// Lets all runs check what they read once more.
    pub(super) fn distrust(&self) {
        for stored in self.read_layers().iter() {
            if let Stored::Run(run) = stored {
                run.distrust();
            }
        }
    }

    fn is_of_index(&self, error: &Error) -> bool {
        let path = error.place().path.as_ref();
        matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::NotFound
        ) && path.and_then(|path| path.parent()) == Some(self.dir.as_path())
    }

    /// Makes the layer again that `error` is about. An error if that can't be done.
    fn heal(&self, error: Error) -> Result<()> {
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_again(error)
    }

    /// The same for who holds the lock.
    fn make_again(&self, error: Error) -> Result<()> {
        let layers = self.read_layers();
        let damaged = layers.iter().enumerate().find_map(|(index, stored)| {
            let Stored::Run(run) = stored else {
                return None;
            };
            is_about(&error, run).then(|| (index, Arc::clone(run)))
        });
        let Some((index, run)) = damaged else {
            // Somebody else made it again meanwhile, or it was merged.
            return Ok(());
        };
        let cover = Cover::decode(&run.anchor());
        let before = index.checked_sub(1).and_then(|before| layers.get(before));
        let before = before.map(Stored::end).unwrap_or_default();
        let part = Part {
            place: LogPlace {
                end_seq: cover.begin_seq,
                ..before
            },
            next: *run.range().start(),
            until: cover.end.end_seq,
        };
        if self.may_write() {
            let _ = self.vfs.unlink(run.path());
        }
        let made = self.index_from_log(part, &Watch::default(), &mut |_, _| true)?;
        if made.next != run.range().end() + 1 {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the log holds events up to position {} where {} was expected",
                    made.next - 1,
                    run.range().end()
                ),
            ));
        }
        let mut made = made.layers;
        let mut guard = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for stored in guard.iter() {
            if is_same(stored, &Stored::Run(Arc::clone(&run))) {
                all.append(&mut made);
            } else {
                all.push(stored.clone());
            }
        }
        *guard = all.into();
        Ok(())
    }

    /// Whether a batch is known that does not stand before `end`.
    pub(super) fn goes_beyond(&self, end: Lsn) -> bool {
        let layers = self.read_layers();
        layers.iter().any(|stored| stored.end().batch_id >= end)
    }

    /// After a failed sync: forgets what readers must not see any more, since the log no longer
    /// vouches for it. All layers are made anew, which takes as long as opening the store.
    pub(super) fn withdraw(&self) {
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.layers_of_log(&mut |_, _| true) {
            Ok((layers, _)) => self.replace(layers),
            // Better no answers than those of a state that may never have been.
            Err(error) => {
                let _ = self.lost.set(error.into_kind(
                    ErrorKind::Poisoned,
                    "what is durable could not be read after a failed sync; open the store again",
                ));
            }
        }
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

    /// What there is, for who wants to know how far the index is.
    pub(super) fn stat(&self) -> CatalogStat {
        let mut stat = CatalogStat {
            work_done: self.work_done_keys.load(Ordering::Relaxed),
            work_total: self.work_total_keys.load(Ordering::Relaxed),
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
        // A run that is being made again right now is the last.
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        let active = self.active();
        if self.writes && active.index().record_count() >= self.limits.close_events {
            // What can't be written is read from the log next time.
            let _ = self.write(&active);
        }
    }
}

/// Whether reading this run led to `error`.
fn is_about(error: &Error, run: &Run) -> bool {
    error.place().path.as_deref() == Some(run.path())
}

fn is_same(a: &Stored, b: &Stored) -> bool {
    match (a, b) {
        (Stored::Memory(a), Stored::Memory(b)) => Arc::ptr_eq(a, b),
        (Stored::Run(a), Stored::Run(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
