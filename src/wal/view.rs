//! What readers may see: the segments of an open log, and the place at which they stop.
//!
//! The writer publishes here after a group is acknowledged; cursors of the same handle read it. A
//! handle opened for reading only has no writer: it looks at the directory again when a cursor
//! arrives at the end ([`LogView::refresh`]).

mod look;
mod salvage;
mod watch;

use super::layout::{segment_name, Layout};
use super::recovery::judge::{decode_tail, Extent};
use super::replay::rebuild::DamagedHeader;
use super::replay::segment_reader::SegmentReader;
use super::report::RecoveryReport;
use super::segment_file::open_segment;
use crate::error::{Error, ErrorKind, Result};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::{Lsn, Seq};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::{OpenMode, Vfs};
use look::look;
pub(crate) use salvage::Salvaged;
use std::collections::BTreeMap;
use std::sync::Arc;
use watch::Watch;

/// Where reading ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Committed records are delivered up to here, in the last segment. Arriving here is the end
    /// for now; stopping before it is corruption.
    pub(crate) lsn: Lsn,
    /// Raw cursors go on up to here (X): what lies between is not committed.
    pub(crate) raw_lsn: Lsn,
    /// The end is torn at `raw_lsn`.
    pub(crate) torn: bool,
    /// Nothing is accepted at `lsn`: the error that a reader gets on arriving there.
    pub(crate) error: Option<Arc<Error>>,
}

/// How far a segment may be read.
#[derive(Clone, Debug)]
pub(crate) enum Limit {
    /// Up to where the next segment says that it ends.
    Declared(SegmentHeader),
    /// Up to where the next segment begins, at most: its header, which would say where this one
    /// ends, was rebuilt from its frames.
    Undeclared(SegmentHeader),
    /// It is the last one: up to where reading ends for now.
    End(End),
    /// It was truncated, and so was the next one.
    Gone,
}

impl Limit {
    /// The place, for a raw cursor or another.
    pub(crate) fn lsn(&self, raw: bool) -> Lsn {
        match self {
            Limit::Declared(successor) => successor.prev_end_lsn,
            Limit::Undeclared(successor) => successor.base_lsn,
            Limit::End(end) if raw => end.raw_lsn,
            Limit::End(end) => end.lsn,
            Limit::Gone => Lsn::NONE,
        }
    }
}

/// The state that the writer publishes and cursors read, under one short lock.
#[derive(Debug)]
struct State {
    segments: BTreeMap<u64, SegmentHeader>,
    end: End,
    truncated_seq: Seq,
    /// Generation of the control file when it was last looked at (readers only).
    control_generation: u64,
    /// Whether a writer was live then (readers only).
    writer_live: bool,
    /// What it was last looked at through (readers only).
    watch: Arc<Watch>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LogView {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) layout: Layout,
    /// Whether this is the view of a handle opened for reading only.
    read_only: bool,
    /// How much of the log is judged to find its end.
    extent: Extent,
    /// Set if cursors pass over damage.
    salvaged: Option<Salvaged>,
    /// The segments with a damaged header, if cursors pass over damage.
    damaged: BTreeMap<u64, DamagedHeader>,
    state: Mutex<State>,
}

impl LogView {
    /// The view of a writer.
    pub(crate) fn of_writer(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        segments: BTreeMap<u64, SegmentHeader>,
        end_lsn: Lsn,
        truncated_seq: Seq,
    ) -> LogView {
        LogView {
            vfs,
            layout,
            read_only: false,
            extent: Extent::LastSegment,
            salvaged: None,
            damaged: BTreeMap::new(),
            state: Mutex::new(State {
                segments,
                end: End {
                    lsn: end_lsn,
                    raw_lsn: end_lsn,
                    torn: false,
                    error: None,
                },
                truncated_seq,
                control_generation: 0,
                writer_live: true,
                watch: Arc::default(),
            }),
        }
    }

    /// The view of a reader, with the report of what it found.
    pub(crate) fn of_reader(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        extent: Extent,
    ) -> Result<(LogView, RecoveryReport)> {
        let (state, report) = look(vfs.as_ref(), &layout, extent)?;
        let view = LogView {
            vfs,
            layout,
            read_only: true,
            extent,
            salvaged: None,
            damaged: BTreeMap::new(),
            state: Mutex::new(state),
        };
        Ok((view, report))
    }

    pub(crate) fn salvaged(&self) -> Option<Salvaged> {
        self.salvaged
    }

    /// What is known of a damaged header, if that of segment `number` is.
    pub(crate) fn damaged_header(&self, number: u64) -> Option<&DamagedHeader> {
        self.damaged.get(&number)
    }

    /// What is wrong with the headers of the segments from `first` to before `behind`, as the end
    /// of a sentence; empty if nothing is known.
    pub(crate) fn damage_between(&self, first: u64, behind: u64) -> String {
        let mut damaged = self.damaged.range(first..behind.max(first));
        match damaged.next() {
            Some((number, damage)) => format!("; {}: {}", segment_name(*number), damage.what),
            None => String::new(),
        }
    }

    /// The walk of a segment of this view, whose header may have been rebuilt.
    pub(crate) fn reader_of(&self, header: &SegmentHeader) -> Result<SegmentReader> {
        let number = header.segment_number;
        let path = self.layout.segment(number);
        let Some(damage) = self.damaged_header(number) else {
            let (file, found) = open_segment(self.vfs.as_ref(), &self.layout, number)?;
            return Ok(SegmentReader::new(file, path, found));
        };
        let file = self
            .vfs
            .open(&path, OpenMode::Read)
            .map_err(|error| Error::io("open", &path, error))?;
        let mut reader = SegmentReader::new(file, path, header.clone());
        reader.jump_to(u64::from(header.header_size), damage.first_link);
        Ok(reader)
    }

    /// Number from which on nothing in segment `number` is part of the log, for who reads beyond
    /// the places that headers declare.
    pub(crate) fn seq_end_of(&self, number: u64) -> Seq {
        let declared = matches!(self.limit_of(number), Limit::Declared(_));
        let next = self.segment_after(number).filter(|_| !declared);
        let next = next.filter(|_| self.salvaged.is_some());
        next.map_or(Seq::MAX, |header| header.first_seq)
    }

    /// The first segment with a number greater than `number`.
    pub(crate) fn segment_after(&self, number: u64) -> Option<SegmentHeader> {
        let state = self.state();
        let mut behind = state.segments.range(number + 1..);
        behind.next().map(|(_, header)| header.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced field by field with plain values; a panic leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where reading ends now.
    pub(crate) fn end(&self) -> End {
        self.state().end.clone()
    }

    pub(crate) fn truncated_seq(&self) -> Seq {
        self.state().truncated_seq
    }

    pub(crate) fn segment(&self, number: u64) -> Option<SegmentHeader> {
        self.state().segments.get(&number).cloned()
    }

    pub(crate) fn first_segment(&self) -> Option<u64> {
        self.state().segments.keys().next().copied()
    }

    pub(crate) fn last_segment(&self) -> Option<u64> {
        self.state().segments.keys().next_back().copied()
    }

    pub(crate) fn segments(&self) -> Vec<SegmentHeader> {
        self.state().segments.values().cloned().collect()
    }

    /// How far segment `number` may be read, as of one moment: a rotation between two looks would
    /// make the end of the log pass for the end of a segment that has a successor.
    pub(crate) fn limit_of(&self, number: u64) -> Limit {
        let state = self.state();
        if let Some(successor) = state.segments.get(&(number + 1)) {
            if self.damaged.contains_key(&(number + 1)) {
                return Limit::Undeclared(successor.clone());
            }
            return Limit::Declared(successor.clone());
        }
        match state.segments.keys().next() {
            Some(&first) if first > number => Limit::Gone,
            _ => Limit::End(state.end.clone()),
        }
    }

    /// The segment in which the record after `after_seq` stands or will stand.
    ///
    /// Segments before it with the same first_seq hold no committed record, but perhaps others,
    /// and are read too: what a raw cursor shows must not depend on where a record was committed.
    pub(crate) fn segment_for(&self, after_seq: Seq) -> Option<SegmentHeader> {
        let state = self.state();
        let wanted = after_seq.saturating_add(1);
        let mut headers = state.segments.values().rev();
        let found = headers.find(|header| header.first_seq <= wanted);
        let first_seq = found.map(|header| header.first_seq);
        headers
            .take_while(|header| Some(header.first_seq) == first_seq)
            .last()
            .or(found)
            .or_else(|| state.segments.values().next())
            .cloned()
    }

    /// The segment whose LSNs include `lsn`, if one does.
    pub(crate) fn segment_with(&self, lsn: Lsn) -> Option<SegmentHeader> {
        let state = self.state();
        state
            .segments
            .values()
            .rev()
            .find(|header| header.base_lsn <= lsn)
            .cloned()
    }

    /// Writer: everything below `lsn` is acknowledged.
    pub(crate) fn publish_end(&self, lsn: Lsn) {
        let mut state = self.state();
        state.end.lsn = lsn;
        state.end.raw_lsn = lsn;
    }

    /// Writer: a new last segment.
    pub(crate) fn publish_segment(&self, header: SegmentHeader) {
        self.state().segments.insert(header.segment_number, header);
    }

    /// Writer: records up to `truncated_seq` and segments below `first_segment` are gone.
    pub(crate) fn publish_truncation(&self, truncated_seq: Seq, first_segment: u64) {
        let mut state = self.state();
        state.truncated_seq = truncated_seq;
        state.segments.retain(|&number, _| number >= first_segment);
    }

    /// Looks again whether there is more to read. Costs nothing for a writer's handle.
    pub(crate) fn refresh(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let (watch, was_live, generation, last, log_id) = {
            let state = self.state();
            let last = state.segments.last_key_value();
            (
                Arc::clone(&state.watch),
                state.writer_live,
                state.control_generation,
                last.map_or(0, |(number, _)| *number),
                last.map_or([0; 16], |(_, header)| header.log_id),
            )
        };
        let (vfs, layout) = (self.vfs.as_ref(), &self.layout);
        let live = watch.writer_is_live(vfs, layout)?;
        if live && was_live {
            let page = decode_tail(vfs, watch.tail(vfs, layout), &log_id);
            if let Some(page) = page.filter(|page| page.segment_number == last) {
                let mut state = self.state();
                state.end.lsn = state.end.lsn.max(page.acknowledged_lsn);
                state.end.raw_lsn = state.end.lsn;
                return Ok(());
            }
        }
        if !live && !was_live {
            let control = watch.control(vfs, layout)?;
            if generation == control.newest.map_or(0, |newest| newest.generation) {
                return Ok(());
            }
        }
        let (fresh, _) = look(vfs, layout, self.extent)?;
        let mut state = self.state();
        // A live writer's marks only grow; a slower look must not take a faster one back.
        if !(fresh.writer_live && state.writer_live && fresh.end.lsn < state.end.lsn) {
            *state = fresh;
        }
        Ok(())
    }

    /// Learns what a writer in another process has truncated meanwhile, so that a new cursor does
    /// not begin with it.
    pub(crate) fn refresh_retention(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let watch = Arc::clone(&self.state().watch);
        let control = watch.control(self.vfs.as_ref(), &self.layout)?;
        if let Some(control) = control.newest {
            let mut state = self.state();
            state.truncated_seq = state.truncated_seq.max(control.truncated_seq);
            state
                .segments
                .retain(|&number, _| number >= control.first_segment);
        }
        Ok(())
    }

    /// Looks at the directory anew, whatever was known. Nothing to do for a writer's handle.
    pub(crate) fn look_again(&self) -> Result<()> {
        if self.read_only {
            let (fresh, _) = look(self.vfs.as_ref(), &self.layout, self.extent)?;
            *self.state() = fresh;
        }
        Ok(())
    }
}

pub(crate) fn no_log(layout: &Layout) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no log at {}", layout.dir().display()),
    )
    .at(layout.place())
}
