//! Merging adjacent runs into one: their position tables one behind the other, and their sorted
//! keys as a merge of sorted sequences. Lists are concatenated, in the order of the runs; of values
//! the newest is kept.
//!
//! Everything streams: a merge holds a way down each tree, a block of what it copies, and the
//! writer's buffer, whatever the sizes. It reads past the cache, so that it does not push out what
//! questions need.

use super::block::Damaged;
use super::header::PlaceBounds;
use super::run_reader::{CellRef, Reading, Run, Walk};
use super::run_writer::{publish_run, Plan, RunWriter};
use super::tree::{Body, FullKey, Postings};
use super::{Anchor, KeyKind, Layer};
use crate::error::{Error, ErrorKind, Result};
use crate::vfs::Vfs;
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys and events between two calls of `progress`.
const PROGRESS_STEP: u64 = 1024;

/// Merges adjacent runs, the oldest first, which together cover the records of the log with these
/// `numbers`, into a new one in `dir`.
///
/// `progress` is told how many keys of the result are done, now and then; if it gives `false`
/// the merge stops with [`ErrorKind::Stopped`] and leaves nothing.
pub(crate) fn merge_runs(
    vfs: &dyn Vfs,
    dir: &Path,
    numbers: RangeInclusive<u64>,
    runs: &[Arc<Run>],
    anchor: &Anchor,
    level: u32,
    progress: &dyn Fn(u64) -> bool,
) -> Result<PathBuf> {
    let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else {
        return Err(Error::invalid("there are no runs to merge"));
    };
    for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
        let is_adjacent = run.header.last.checked_add(1) == Some(next.header.first);
        if !is_adjacent || run.header.log_id != next.header.log_id {
            return Err(Error::invalid(format!(
                "{} does not continue {}",
                next.path().display(),
                run.path().display()
            )));
        }
    }
    let with_events = runs.iter().filter(|run| !run.range().is_empty());
    let bounds = with_events.map(|run| run.header.bounds);
    let bounds = bounds.reduce(PlaceBounds::around).unwrap_or_default();
    let plan = Plan {
        numbers,
        log_id: oldest.header.log_id,
        anchor: *anchor,
        level,
        range: oldest.header.first..=newest.header.last,
        bounds,
    };
    publish_run(vfs, dir, &plan, |writer| {
        let merge = Merge {
            progress,
            done: Cell::new(0),
            hides_nothing: plan.hides_nothing(),
        };
        merge.places(runs, writer)?;
        merge.keys(runs, writer)
    })
}

struct Merge<'m> {
    progress: &'m dyn Fn(u64) -> bool,
    /// Keys written.
    done: Cell<u64>,
    /// The result is the oldest run, so that marks of deletion have nothing left to hide.
    hides_nothing: bool,
}

impl Merge<'_> {
    fn report(&self) -> Result<()> {
        if (self.progress)(self.done.get()) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Stopped, "the merge was stopped"))
        }
    }

    fn places(&self, runs: &[Arc<Run>], writer: &mut RunWriter) -> Result<()> {
        let mut count = 0u64;
        for run in runs {
            run.all_places(|place| {
                if count % PROGRESS_STEP == 0 {
                    self.report()?;
                }
                count += 1;
                writer.push_place(place)
            })?;
        }
        Ok(())
    }

    fn keys(&self, runs: &[Arc<Run>], writer: &mut RunWriter) -> Result<()> {
        let mut walks = Vec::new();
        for run in runs {
            walks.push(Walk::from(run, &[], Reading::Fresh)?);
        }
        let mut counts = vec![0u64; walks.len()];
        let mut key = Vec::new();
        loop {
            // There are few runs in a merge: looking at each is quicker than a heap.
            let least = walks.iter().filter_map(Walk::current).map(|(key, _)| key);
            let Some(least) = least.min() else {
                break;
            };
            key.clear();
            key.extend_from_slice(least);
            let having: Vec<(&Run, &CellRef)> = walks
                .iter()
                .filter_map(|walk| match walk.current() {
                    Some((found, cell)) if found == key => Some((walk.run(), cell)),
                    _ => None,
                })
                .collect();
            self.key(&key, &having, writer)?;
            for (walk, count) in walks.iter_mut().zip(&mut counts) {
                if walk.current().is_some_and(|(found, _)| found == key) {
                    walk.advance()?;
                    *count += 1;
                }
            }
            let done = self.done.get() + 1;
            self.done.set(done);
            if done % PROGRESS_STEP == 0 {
                self.report()?;
            }
        }
        for (run, count) in runs.iter().zip(counts) {
            if run.header.key_count != count {
                return Err(run.corrupt(0, Damaged("the tree does not have the keys it says")));
            }
        }
        Ok(())
    }

    /// Writes one key, from the cells of the runs that have it, the oldest first.
    fn key(&self, key: &[u8], cells: &[(&Run, &CellRef)], writer: &mut RunWriter) -> Result<()> {
        let (Some((first_run, first_cell)), Some((last_run, last_cell))) =
            (cells.first(), cells.last())
        else {
            return Ok(());
        };
        let kind_and_key = key.split_first().and_then(|(&kind, key)| {
            let kind = KeyKind::ALL
                .into_iter()
                .find(|&known| known as u8 == kind)?;
            Some((kind, FullKey::new(kind, key)?))
        });
        let Some((kind, full_key)) = kind_and_key else {
            return Err(first_run.corrupt(0, Damaged("a key is of no known kind")));
        };
        if kind.is_list() {
            let (head, _) = first_run.list_in(first_cell)?;
            for (run, cell) in cells {
                self.list(kind, run, cell, head.first_version, writer)?;
            }
            return writer.finish_list(&full_key, head.first_version);
        }
        match last_run.body(last_cell)? {
            Body::Value(bytes) => writer.push_value(&full_key, bytes),
            Body::LongValue { len, start, .. } => {
                let mut numbers = start..;
                writer.push_long_value(&full_key, len, || {
                    last_run.value_block(numbers.next().unwrap_or(u32::MAX))
                })
            }
            Body::Deleted if self.hides_nothing => Ok(()),
            Body::Deleted => writer.push_deleted(key),
            Body::List(..) => Err(last_run.corrupt(0, Damaged("a value is no value"))),
        }
    }

    /// Adds a run's part of a list.
    fn list(
        &self,
        kind: KeyKind,
        run: &Run,
        cell: &CellRef,
        first_version: u64,
        writer: &mut RunWriter,
    ) -> Result<()> {
        let (head, postings) = run.list_in(cell)?;
        let continues = first_version.saturating_add(writer.list_count());
        if kind == KeyKind::Stream && head.first_version != continues {
            return Err(run.corrupt(0, Damaged("a stream does not continue the run before")));
        }
        let is_long = matches!(postings, Postings::Blocks { .. });
        if is_long {
            self.report()?;
        }
        run.all_positions(
            cell,
            |position| writer.push_position(position),
            || self.report(),
        )
    }
}
