//! All layers of the index: which there are, what they answer together, and how they are made.
//!
//! ```text
//! positions  1 ........................................ last
//!            [ run            ][ run ][ run ][frozen][active]
//! ```
//!
//! A layer answers for a range of positions; together they cover all of them, without overlap. The
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

use super::anchor::LogPlace;
use super::index::{
    merge_runs, write_run, BlockCache, KeyKind, Layer, ListHead, MemoryIndex, Place, Run, Value,
};
use super::replay::{add_record, Follower};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::OP_EVENT;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use crate::vfs::Vfs;
use crate::wal::Wal;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Frozen layers that may wait; with more, who appends helps.
const FROZEN_MAX: usize = 3;

/// When layers are made, and what of them is kept in memory. Meant for tests; what the store
/// answers does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// Events of a layer in memory at which it is frozen; at least 2.
    pub freeze_events: u64,
    /// Bytes of a layer in memory at which it is frozen.
    pub freeze_bytes: usize,
    /// So many adjacent runs of one tier become one.
    pub tier_runs: usize,
    /// A layer with fewer events is not worth a file when the store is closed: reading them from
    /// the log again takes a few milliseconds.
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
        // A run is of at least one event.
        let count = index.event_count();
        count >= self.freeze_events || (count > 0 && index.bytes() >= self.freeze_bytes)
    }

    /// Runs of one tier have about the same number of events: each tier eight times that of the
    /// one below.
    fn tier_of(&self, event_count: u64) -> u32 {
        let layers = event_count / (self.freeze_events / 2).max(1);
        layers.checked_ilog2().map_or(0, |bits| bits / 3)
    }
}

/// A layer in memory, and up to where in the log it goes.
pub(super) struct Memory {
    pub(super) index: RwLock<MemoryIndex>,
    /// Set by who adds to the index.
    pub(super) covered: Mutex<LogPlace>,
}

impl Memory {
    fn new(first_position: u64, covered: LogPlace) -> Arc<Memory> {
        Arc::new(Memory {
            index: RwLock::new(MemoryIndex::new(first_position)),
            covered: Mutex::new(covered),
        })
    }

    fn index(&self) -> RwLockReadGuard<'_, MemoryIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn covered(&self) -> LogPlace {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_covered(&self, place: LogPlace) {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner) = place;
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
    work: Mutex<Work>,
    work_done: Condvar,
    /// Held while a damaged run is made again.
    healing: Mutex<()>,
    /// Held while the active layer of a handle that only reads follows the log.
    follower: Mutex<Option<Follower>>,
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
    pub(super) fn open(
        vfs: Arc<dyn Vfs>,
        wal: Arc<Wal>,
        dir: PathBuf,
        writes: bool,
        limits: IndexLimits,
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
            work: Mutex::default(),
            work_done: Condvar::new(),
            healing: Mutex::new(()),
            follower: Mutex::new(None),
        };
        catalog.work().fork_count = catalog.vfs.fork_count();
        if writes {
            // It may be there; and without it the index is in memory.
            let _ = catalog.vfs.create_dir(&catalog.dir);
        }
        let mut layers = Vec::new();
        let mut place = LogPlace::default();
        let mut next = 1u64;
        for run in catalog.usable_runs()? {
            let (first, last) = (*run.range().start(), *run.range().end());
            if first > next {
                // A run before it is missing.
                catalog.index_from_log(place, next, first - 1, &mut layers)?;
            }
            place = LogPlace::decode(&run.anchor());
            next = last + 1;
            layers.push(Stored::Run(run));
        }
        catalog.index_from_log(place, next, u64::MAX, &mut layers)?;
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
        self.active().covered().time_ns
    }

    fn open_run(&self, path: &Path) -> Result<Run> {
        Run::open(self.vfs.as_ref(), path, self.wal.log_id(), &self.cache)
    }

    // ---- files -------------------------------------------------------------------------------

    /// The runs that can be used: of this log, with an anchor that is in it, without overlap.
    fn usable_runs(&self) -> Result<Vec<Arc<Run>>> {
        // What can't be listed is made from the log again.
        let names = self.vfs.list(&self.dir).unwrap_or_default();
        let mut ranges: Vec<(u64, u64)> = names
            .iter()
            .filter(|entry| entry.is_file)
            .filter_map(|entry| run_file_range(&entry.name))
            .map(|range| (*range.start(), *range.end()))
            .collect();
        ranges.sort_unstable_by_key(|&(first, last)| (first, u64::MAX - last));
        let mut runs = Vec::new();
        let mut next = 1;
        for (first, last) in ranges {
            if first < next {
                continue;
            }
            let path = self.dir.join(run_file_name(first, last));
            let Ok(run) = self.open_run(&path) else {
                continue;
            };
            let of_this_log = {
                let place = LogPlace::decode(&run.anchor());
                place.batch_id.0 > 0 && place.go_to(&mut self.wal.cursor_of_view(0)?)?
            };
            if of_this_log && (*run.range().start(), *run.range().end()) == (first, last) {
                next = last + 1;
                runs.push(Arc::new(run));
            }
        }
        Ok(runs)
    }

    /// Deletes what a writer left behind, and runs that are not in use.
    fn remove_leftovers(&self) {
        if !self.writes {
            return;
        }
        let used: Vec<String> = self
            .read_layers()
            .iter()
            .filter(|stored| matches!(stored, Stored::Run(_)))
            .map(|stored| run_file_name(stored.range().0, stored.range().1))
            .collect();
        for entry in self.vfs.list(&self.dir).unwrap_or_default() {
            if entry.is_file && !used.contains(&entry.name) {
                // A file that stays is not used, and tried again next time.
                let _ = self.vfs.unlink(&self.dir.join(&entry.name));
            }
        }
    }

    /// Reads the log from behind `place`, whose next event has position `next`, up to position
    /// `last`, and adds layers in memory that cover it; the last one is the active layer if `last`
    /// is the end of all. Says where it ended.
    fn index_from_log(
        &self,
        place: LogPlace,
        next: u64,
        last: u64,
        layers: &mut Vec<Stored>,
    ) -> Result<LogPlace> {
        let Some(mut follower) = Follower::new(self.wal.cursor_of_view(place.end_seq)?, place)?
        else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the place where the index goes on is not in the log",
            ));
        };
        let mut memory = Memory::new(next, place);
        let mut next = next;
        let mut ended = false;
        loop {
            let mut write = memory.index.write().unwrap_or_else(PoisonError::into_inner);
            let more = follower.next(&mut |entry, at, before| {
                // Batches without events that stand before the next event are taken along: the
                // layer may have held them, and a later one that has them too says the same.
                ended |= next > last && entry.op == OP_EVENT;
                if let Some(before) = before.filter(|_| next <= last) {
                    if self.limits.is_large(&write) {
                        let fresh = MemoryIndex::new(next);
                        let full = std::mem::replace(&mut *write, fresh);
                        let full = Memory {
                            index: RwLock::new(full),
                            covered: Mutex::new(before),
                        };
                        layers.push(self.stored(Arc::new(full)));
                    }
                }
                if ended {
                    return Ok(());
                }
                let is_event = add_record(&mut write, next, entry.op, entry.key, entry.value, at)?;
                next += u64::from(is_event);
                Ok(())
            })?;
            drop(write);
            if ended || !more {
                break;
            }
            memory.set_covered(follower.place);
        }
        let covered = memory.covered();
        if last == u64::MAX {
            if let Some(follower) = (!self.writes).then_some(follower) {
                *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
            }
            layers.push(Stored::Memory(memory));
        } else if memory.index().event_count() > 0 {
            memory = self.checked_range(memory, last)?;
            layers.push(self.stored(memory));
        }
        Ok(covered)
    }

    fn checked_range(&self, memory: Arc<Memory>, last: u64) -> Result<Arc<Memory>> {
        let end = *memory.index().range().end();
        if end == last {
            return Ok(memory);
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("the log holds events up to position {end} where {last} was expected"),
        ))
    }

    /// A full layer, at once as a file if that can be had: an index that is made anew must not be
    /// in memory as a whole.
    fn stored(&self, memory: Arc<Memory>) -> Stored {
        if self.may_write() {
            if let Ok(run) = self.write(&memory) {
                return Stored::Run(run);
            }
        }
        Stored::Memory(memory)
    }

    fn write(&self, memory: &Memory) -> Result<Arc<Run>> {
        let covered = memory
            .covered()
            .identified(&mut self.wal.cursor_of_view(0)?)?;
        let index = memory.index();
        let path = write_run(
            self.vfs.as_ref(),
            &self.dir,
            self.wal.log_id(),
            &covered.encode(),
            self.limits.tier_of(index.event_count()),
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
        let next = active.index().range().end() + 1;
        let fresh = Memory::new(next, active.covered());
        let frozen = {
            let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
            let mut all = layers.to_vec();
            all.push(Stored::Memory(fresh));
            *layers = all.into();
            let in_memory = layers.iter().filter(|s| matches!(s, Stored::Memory(_)));
            in_memory.count() - 1
        };
        if !self.writes {
            return Ok(());
        }
        if !self.vfs.background() || frozen > FROZEN_MAX {
            return self.work_on();
        }
        self.begin_work()
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
        let tier = |run: &Run| {
            let count = run.range().end() - run.range().start() + 1;
            self.limits.tier_of(count)
        };
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
        let count: u64 = runs
            .iter()
            .map(|run| run.range().end() - run.range().start() + 1)
            .sum();
        let Some(anchor) = runs.last().map(|run| run.anchor()) else {
            return Ok(());
        };
        let (vfs, tier) = (self.vfs.as_ref(), self.limits.tier_of(count));
        let path = merge_runs(vfs, &self.dir, runs, &anchor, tier, &|_| {
            !self.work().closing
        });
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
        loop {
            match question(&self.snapshot()) {
                Err(error) if self.is_of_index(&error) => self.heal(error)?,
                answer => return answer,
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
        let name = error
            .place()
            .path
            .as_ref()
            .and_then(|path| path.file_name());
        let Some(range) = name.and_then(|name| run_file_range(name.to_str()?)) else {
            return Err(error);
        };
        let (first, last) = (*range.start(), *range.end());
        let Some(index) = layers
            .iter()
            .position(|stored| matches!(stored, Stored::Run(_)) && stored.range() == (first, last))
        else {
            // Somebody else made it again meanwhile, or it was merged.
            return Ok(());
        };
        let before = match index.checked_sub(1).and_then(|before| layers.get(before)) {
            Some(Stored::Run(run)) => LogPlace::decode(&run.anchor()),
            Some(Stored::Memory(memory)) => memory.covered(),
            None => LogPlace::default(),
        };
        if self.may_write() {
            let _ = self.vfs.unlink(&self.dir.join(run_file_name(first, last)));
        }
        let mut made = Vec::new();
        self.index_from_log(before, first, last, &mut made)?;
        let mut guard = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for stored in guard.iter() {
            if matches!(stored, Stored::Run(_)) && stored.range() == (first, last) {
                all.append(&mut made);
            } else {
                all.push(stored.clone());
            }
        }
        *guard = all.into();
        Ok(())
    }

    // ---- following, closing ------------------------------------------------------------------

    /// Lets a handle that only reads see what was appended since; gives the last position.
    pub(super) fn follow(self: &Arc<Catalog>) -> Result<u64> {
        let mut guard = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(follower) = guard.as_mut() else {
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
            active.set_covered(follower.place);
            if !more {
                return Ok(next - 1);
            }
            self.grown()?;
        }
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
        if self.writes && active.index().event_count() >= self.limits.close_events {
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

/// The name of the run that covers these positions.
fn run_file_name(first: u64, last: u64) -> String {
    format!("{first:020}-{last:020}.run")
}

/// The positions that the name of a run says; `None` for every other name.
fn run_file_range(name: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = name.strip_suffix(".run")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last && name == run_file_name(first, last)).then_some(first..=last)
}
