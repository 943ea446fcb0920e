//! Layers out of the log: when the store is opened, when a run is damaged, when a sync failed.
//!
//! ```text
//! segments   | 1        | 2        | 3        | 4     |
//! runs       [ run ][ run ]        .          .       .
//! parts                   [        )[         )[      )     made by several threads at once
//! layers     [ run ][ run ][ new ][ ][ new ][ ][ active
//! ```
//!
//! What no run covers is read from the log and cut where segments begin. An event says its position
//! and its stream version itself, so that a part can be made without those before it; that they fit
//! together is checked at the end. Each part is made in order, as layers that are written at once,
//! so that memory holds no more than one layer for each thread.

use super::super::anchor::{Cover, LogPlace};
use super::super::index::{run_file_numbers, Layer, MemoryIndex, Run};
use super::super::replay::{add_record, Follower};
use super::{Catalog, Memory, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::{self, OP_EVENT};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Seq;
use crate::sync::{Mutex, PoisonError, RwLock};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

/// Threads that make layers at most.
const THREADS_MAX: usize = 4;
/// Records at the beginning of a segment among which its first event is looked for. Where there is
/// none, the segment is made together with the one before.
const LOOK_RECORDS_MAX: usize = 1024;
/// How often who waits is told of the progress.
const TOLD_EVERY: Duration = Duration::from_millis(50);

/// Told of bytes done, and of how many; false asks to stop. Called on the thread that waits.
pub(in super::super) type Progress<'f> = dyn FnMut(u64, u64) -> bool + 'f;

/// What several threads know of their common work.
#[derive(Default)]
pub(super) struct Watch {
    /// Bytes of the log; counted by each thread, looked at by who waits.
    done: AtomicU64,
    total: u64,
    /// Set when the rest is of no use: somebody failed, or was asked to stop.
    stopped: AtomicBool,
}

/// A part of the log that layers are made of.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Behind this.
    pub(super) place: LogPlace,
    /// Position of the next event.
    pub(super) next: u64,
    /// Up to this number.
    pub(super) until: Seq,
}

/// What a part came to.
pub(super) struct Made {
    pub(super) layers: Vec<Stored>,
    /// What is not worth a file yet; of the end of the log only.
    rest: Option<(Arc<Memory>, Follower)>,
    place: LogPlace,
    pub(super) next: u64,
}

impl Catalog {
    /// All layers, the active one last, and who goes on from there: what there is in files, and for
    /// the rest the log itself.
    pub(super) fn layers_of_log(
        &self,
        progress: &mut Progress<'_>,
    ) -> Result<(Vec<Stored>, Option<Follower>)> {
        let view = self.wal.view();
        let first_segment = view.first_segment()?;
        let begin = first_segment.map_or(0, |header| header.base_lsn.0);
        let watch = Watch {
            total: view.end().lsn.0.saturating_sub(begin),
            ..Watch::default()
        };
        if !progress(0, watch.total) {
            return Err(stopped());
        }
        let mut layers = Vec::new();
        let mut part = Part {
            place: LogPlace::default(),
            next: 1,
            until: 0,
        };
        for run in self.usable_runs()? {
            let cover = Cover::decode(&run.anchor());
            if cover.begin_seq > part.place.end_seq {
                // A run before it is missing.
                part.until = cover.begin_seq;
                let mut made = self.index_from_log(part, &watch, progress)?;
                layers.append(&mut made.layers);
                (part.place, part.next) = (made.place, made.next);
            }
            if *run.range().start() != part.next {
                // It does not belong here, whatever it is.
                continue;
            }
            let passed = cover.end.batch_id.0.saturating_sub(begin);
            watch.done.fetch_max(passed, Ordering::Relaxed);
            (part.place, part.next) = (cover.end, run.range().end() + 1);
            layers.push(Stored::Run(run));
        }
        part.until = Seq::MAX;
        let made = self.index_from_log(part, &watch, progress)?;
        layers.extend(made.layers);
        let (rest, follower) = made.rest.unzip();
        layers.extend(rest.map(Stored::Memory));
        progress(watch.total, watch.total);
        Ok((layers, follower.filter(|_| !self.writes)))
    }

    /// The runs that can be used: of this log, with an anchor that is in it, without overlap.
    fn usable_runs(&self) -> Result<Vec<Arc<Run>>> {
        // What can't be listed is made from the log again.
        let names = self.vfs.list(&self.dir).unwrap_or_default();
        let files = names.iter().filter(|entry| entry.is_file);
        let mut found: Vec<(RangeInclusive<Seq>, &str)> = files
            .filter_map(|entry| Some((run_file_numbers(&entry.name)?, entry.name.as_str())))
            .collect();
        // Of those that begin together the longest: the others were merged into it.
        found.sort_unstable_by_key(|(numbers, _)| (*numbers.start(), u64::MAX - numbers.end()));
        let mut runs = Vec::new();
        let mut next = 1;
        for (numbers, name) in found {
            if *numbers.start() < next {
                continue;
            }
            let Ok(run) = self.open_run(&self.dir.join(name)) else {
                continue;
            };
            let cover = Cover::decode(&run.anchor());
            let is_in_log =
                cover.end.batch_id.0 > 0 && cover.end.go_to(&mut self.wal.cursor_of_view(0)?)?;
            let behind = numbers.end().checked_add(1);
            if let Some(behind) = behind.filter(|_| is_in_log && cover.numbers() == numbers) {
                next = behind;
                runs.push(Arc::new(run));
            }
        }
        Ok(runs)
    }

    /// Makes the layers of a part of the log, by several threads if it is large.
    pub(super) fn index_from_log(
        &self,
        part: Part,
        watch: &Watch,
        progress: &mut Progress<'_>,
    ) -> Result<Made> {
        let parts = self.cut(part)?;
        let mut whole = Made {
            layers: Vec::new(),
            rest: None,
            place: part.place,
            next: part.next,
        };
        for made in self.make_all(&parts, watch, progress)? {
            let (from, mut made) = made;
            if from != whole.next {
                // A segment does not go on where the one before ends. Read in order, it says where.
                return self.make(&part, watch);
            }
            whole.layers.append(&mut made.layers);
            whole.rest = made.rest;
            (whole.place, whole.next) = (made.place, made.next);
        }
        Ok(whole)
    }

    /// Cuts a part at the segments that begin in it.
    fn cut(&self, whole: Part) -> Result<Vec<Part>> {
        let mut parts = vec![whole];
        for header in self.wal.view().segments_behind(whole.place.end_seq)? {
            let begin = header.first_seq.saturating_sub(1);
            let Some(last) = parts.last_mut() else {
                break;
            };
            if begin <= last.place.end_seq || begin >= whole.until {
                continue;
            }
            let Some(next) = self.first_position(&header)? else {
                continue;
            };
            last.until = begin;
            parts.push(Part {
                place: LogPlace {
                    end_seq: begin,
                    ..LogPlace::default()
                },
                next,
                until: whole.until,
            });
        }
        Ok(parts)
    }

    /// Position of the first event of a segment, if one stands near its beginning. What is wrong
    /// there is found, and told, when the part is made.
    fn first_position(&self, header: &SegmentHeader) -> Result<Option<u64>> {
        let mut cursor = self
            .wal
            .cursor_of_view(header.first_seq.saturating_sub(1))?;
        for _ in 0..LOOK_RECORDS_MAX {
            match cursor.next() {
                Ok(Some(entry)) if entry.op == OP_EVENT => {
                    return Ok(event::decode(entry.value).map(|event| event.position));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        Ok(None)
    }

    /// Makes all parts; each is given with the position that it began with.
    fn make_all(
        &self,
        parts: &[Part],
        watch: &Watch,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<(u64, Made)>> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.min(THREADS_MAX).min(parts.len());
        let mut made: Vec<Option<Result<Made>>> = Vec::new();
        made.resize_with(parts.len(), || None);
        let made = Mutex::new(made);
        let next = AtomicUsize::new(0);
        let work = || loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else {
                return;
            };
            let outcome = self.make(part, watch);
            if outcome.is_err() {
                watch.stopped.store(true, Ordering::Relaxed);
            }
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = made.get_mut(index) {
                *place = Some(outcome);
            }
        };
        if self.vfs.background() && watch.total > 0 {
            std::thread::scope(|scope| {
                // A sender for each thread, so that it is known when the last one is through.
                let (alive, all_done) = mpsc::channel::<()>();
                for _ in 0..threads {
                    let alive = alive.clone();
                    let thread = std::thread::Builder::new().name("duralog-index".to_string());
                    // Where no thread is to be had, fewer do it; below, this one does.
                    let _ = thread.spawn_scoped(scope, move || {
                        work();
                        drop(alive);
                    });
                }
                drop(alive);
                while let Err(RecvTimeoutError::Timeout) = all_done.recv_timeout(TOLD_EVERY) {
                    if !progress(watch.done.load(Ordering::Relaxed), watch.total) {
                        watch.stopped.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        work();
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(parts.len());
        let mut failed: Option<Error> = None;
        for (part, made) in parts.iter().zip(made) {
            match made {
                Some(Ok(made)) => all.push((part.next, made)),
                // Who stopped because of another has nothing to say of its own.
                Some(Err(error)) => {
                    let was_stopped = |error: &Error| error.kind() == ErrorKind::Stopped;
                    if failed
                        .as_ref()
                        .is_none_or(|first| was_stopped(first) && !was_stopped(&error))
                    {
                        failed = Some(error);
                    }
                }
                None => {}
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(all),
        }
    }

    /// Makes the layers of one part, in order.
    fn make(&self, part: &Part, watch: &Watch) -> Result<Made> {
        let cursor = self.wal.cursor_of_view(part.place.end_seq)?;
        let Some(mut follower) = Follower::new(cursor, part.place)? else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the place where the index goes on is not in the log",
            ));
        };
        let mut layers = Vec::new();
        let memory = Memory::new(part.next, part.place);
        let mut next = part.next;
        let mut place = part.place;
        let mut ended = false;
        loop {
            let mut write = memory.index.write().unwrap_or_else(PoisonError::into_inner);
            let more = follower.next(&mut |entry, at, before| {
                ended = entry.seq > part.until;
                if ended {
                    return Ok(());
                }
                if let Some(before) = before {
                    if watch.stopped.load(Ordering::Relaxed) {
                        return Err(stopped());
                    }
                    if before.batch_id.0 > 0 {
                        let passed = entry.batch_id.0.saturating_sub(before.batch_id.0);
                        watch.done.fetch_add(passed, Ordering::Relaxed);
                    }
                    if self.limits.is_large(&write) {
                        let full = std::mem::replace(&mut *write, MemoryIndex::new(next));
                        layers.push(self.taken_off(&memory, full, before));
                    }
                }
                let is_event = add_record(&mut write, next, entry.op, entry.key, entry.value, at)?;
                next += u64::from(is_event);
                Ok(())
            })?;
            drop(write);
            if ended || !more {
                break;
            }
            place = follower.place;
        }
        memory.set_end(place);
        let mut rest = None;
        if part.until == Seq::MAX {
            rest = Some((memory, follower));
        } else {
            // No record stands between it and the end of the part.
            place.end_seq = part.until;
            let is_empty = memory.index().record_count() == 0;
            if !is_empty {
                let full = MemoryIndex::new(next);
                let mut write = memory.index.write().unwrap_or_else(PoisonError::into_inner);
                let full = std::mem::replace(&mut *write, full);
                drop(write);
                layers.push(self.taken_off(&memory, full, place));
            }
        }
        Ok(Made {
            layers,
            rest,
            place,
            next,
        })
    }

    /// The layer of what was in `memory`, which goes on behind `end`. At once as a file if that can be
    /// had: an index that is made anew must not be in memory as a whole.
    fn taken_off(&self, memory: &Memory, index: MemoryIndex, end: LogPlace) -> Stored {
        let mut covered = memory
            .covered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let full = Memory {
            index: RwLock::new(index),
            covered: Mutex::new(Cover {
                begin_seq: covered.begin_seq,
                end,
            }),
        };
        *covered = Cover::behind(end);
        drop(covered);
        if self.may_write() {
            if let Ok(run) = self.write(&full) {
                return Stored::Run(run);
            }
        }
        Stored::Memory(Arc::new(full))
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "making the index was stopped")
}
