//! What becomes of layers as the store grows: the active one is frozen when it is large, frozen ones become
//! runs, and runs of one tier become one. A thread of its own does the last two, or who appends, in a call.

use super::super::anchor::Cover;
use super::super::index::{merge_runs, Run};
use super::{is_same, Catalog, Memory, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{MutexGuard, PoisonError};
use std::cell::Cell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Frozen layers that may wait; with more, who appends writes them.
const FROZEN_MAX: usize = 3;

#[derive(Default)]
pub(super) struct Work {
    /// A thread is at work.
    pub(super) running: bool,
    pub(super) closing: bool,
    pub(super) fork_count: u64,
}

/// A thread at work. However it ends, it is known that it did.
struct Working(Arc<Catalog>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.work().running = false;
        self.0.work_done.notify_all();
    }
}

impl Catalog {
    /// Called by who leads a group, after it: freezes the active layer if it is large.
    pub(in super::super) fn grown(self: &Arc<Catalog>) -> Result<()> {
        let active = self.active();
        if !active.is_large(&self.limits) {
            return Ok(());
        }
        let frozen = self.freeze(&active);
        if frozen > FROZEN_MAX && self.vfs.background() {
            // Without the merges, which take the longer the more there is.
            self.write_frozen()?;
        }
        self.begin_work()
    }

    /// Begins another active layer. Gives how many frozen ones wait now.
    pub(super) fn freeze(&self, active: &Memory) -> usize {
        let fresh = active.successor();
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = layers.to_vec();
        all.push(Stored::Memory(fresh));
        *layers = all.into();
        let in_memory = layers.iter().filter(|s| matches!(s, Stored::Memory(_)));
        in_memory.count() - 1
    }

    /// Lets a thread of its own do what is to be done, if there is something and none is at it. It
    /// ends when it is through.
    pub(in super::super) fn begin_work(self: &Arc<Catalog>) -> Result<()> {
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
    pub(super) fn may_write(&self) -> bool {
        self.writes && !self.work().closing
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes runs of frozen layers, oldest first, and merges runs, until nothing is to be done. A
    /// failure is no failure of the store: what could not be written stays in memory.
    fn work_on(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        // One thread at a time: two would merge the same runs twice.
        let _one = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_frozen()?;
        let mut made_again = HashSet::new();
        while let Some(runs) = self.mergeable() {
            if self.work().closing {
                return Ok(());
            }
            if let Err(error) = self.merge(&runs) {
                self.make_again_one_of(&runs, error, &mut made_again)?;
            }
            self.write_frozen()?;
        }
        Ok(())
    }

    /// Makes runs of frozen layers, oldest first.
    fn write_frozen(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        // One thread at a time: two would make the same run twice.
        let _one = self.writing();
        while let Some(frozen) = self.oldest_frozen() {
            let run = self.write(&frozen)?;
            self.swap(&[Stored::Memory(frozen)], Stored::Run(run));
        }
        Ok(())
    }

    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the run again that kept `runs` from being merged. If it is no good although it was just
    /// made, what it contradicts is at fault: then the first of the others that was not made again yet.
    /// Gives the error back when that is all of them, or when it is about none.
    fn make_again_one_of(
        &self,
        runs: &[Arc<Run>],
        error: Error,
        made_again: &mut HashSet<PathBuf>,
    ) -> Result<()> {
        let at_fault = error.place().path.clone();
        let accused = runs
            .iter()
            .find(|run| at_fault.as_deref() == Some(run.path()));
        let left = |run: &&Arc<Run>| !made_again.contains(run.path());
        let next = accused.filter(left).or_else(|| runs.iter().find(left));
        match next.filter(|_| accused.is_some()) {
            Some(run) => {
                made_again.insert(run.path().to_path_buf());
                self.make_again(run.path())
            }
            None => Err(error),
        }
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
        let can_write = Cell::new(true);
        let path = merge_runs(
            self.vfs.as_ref(),
            &self.dir,
            cover.numbers(),
            runs,
            &cover.encode(),
            self.limits.tier_of(weight),
            &|done| {
                self.work_done_keys.store(done, Ordering::Relaxed);
                // Layers do not wait for a merge: it may take longer than it takes to fill many.
                can_write.set(can_write.get() && self.write_frozen().is_ok());
                !self.work().closing
            },
        );
        // In this order, so that who sees the one knows of the other: see `Catalog::work_keys`.
        self.work_total_keys.store(0, Ordering::Relaxed);
        self.work_done_keys.store(0, Ordering::Release);
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
    pub(super) fn swap(&self, old: &[Stored], new: Stored) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventstore::{AppendRequest, EventStore, EventStoreOptions, IndexLimits, NewEvent};
    use crate::vfs::sim::SimDisk;
    use crate::{Durability, SyncMode, WalOptions};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Events of a layer.
    const LAYER: u64 = 1024;

    /// Merges nothing by itself.
    fn options() -> EventStoreOptions {
        EventStoreOptions {
            index: IndexLimits {
                freeze_events: LAYER,
                tier_runs: 1000,
                ..IndexLimits::default()
            },
            wal: WalOptions {
                sync_mode: SyncMode::Manual,
                ..WalOptions::default()
            },
            ..EventStoreOptions::default()
        }
    }

    fn append(store: &EventStore, count: u64) {
        let event = NewEvent {
            stream: "stream",
            event_type: "Happened",
            ..NewEvent::default()
        };
        let events = vec![event; count as usize];
        let request = AppendRequest {
            events: &events,
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }

    fn layers(catalog: &Catalog) -> String {
        let layers = catalog.read_layers();
        let of = |stored: &Stored| match stored {
            Stored::Memory(_) => 'm',
            Stored::Run(_) => 'r',
        };
        layers.iter().map(of).collect()
    }

    #[test]
    fn who_appends_does_not_wait_for_a_merge() {
        let directory = tempfile::tempdir().unwrap();
        let store = EventStore::open(directory.path().join("store"), &options()).unwrap();
        // As if one went on all the time.
        let merging = store.source.catalog.healing.lock().unwrap();
        let (done, is_done) = mpsc::channel();
        thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..20 {
                    append(store, LAYER);
                    let waiting = layers(&store.source.catalog).replace('r', "").len();
                    done.send(waiting).unwrap();
                }
            });
            let waiting: Vec<_> = (0..20)
                .map_while(|_| is_done.recv_timeout(Duration::from_secs(20)).ok())
                .collect();
            drop(merging);
            assert_eq!(waiting.len(), 20, "an append waits");
            let most = waiting.into_iter().max().unwrap();
            assert!(most <= FROZEN_MAX + 2, "{most} layers in memory");
        });
        store.close().unwrap();
    }

    #[test]
    fn layers_become_runs_while_others_are_merged() {
        let disk = Arc::new(SimDisk::new(1));
        let store = EventStore::open_on(disk, "/store", &options()).unwrap();
        append(&store, LAYER);
        append(&store, LAYER);
        let catalog = &store.source.catalog;
        append(&store, LAYER / 2);
        assert_eq!(layers(catalog), "rrm");
        let runs: Vec<_> = catalog
            .read_layers()
            .iter()
            .filter_map(|stored| match stored {
                Stored::Run(run) => Some(Arc::clone(run)),
                Stored::Memory(_) => None,
            })
            .collect();
        catalog.freeze(&catalog.active());
        assert_eq!(layers(catalog), "rrmm");
        catalog.merge(&runs).unwrap();
        assert_eq!(layers(catalog), "rrm");
        store.close().unwrap();
    }
}
