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
use super::segments::{missing, read_header, unusable, Known, Segments};
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

impl End {
    /// The end of a log that goes on behind damage.
    fn refused(error: Error) -> End {
        End {
            lsn: Lsn(u64::MAX),
            raw_lsn: Lsn(u64::MAX),
            torn: false,
            error: Some(Arc::new(error)),
        }
    }
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
    segments: Segments,
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
        segments: Segments,
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
    pub(crate) fn seq_end_of(&self, number: u64) -> Result<Seq> {
        if self.salvaged.is_none() || matches!(self.limit_of(number), Limit::Declared(_)) {
            return Ok(Seq::MAX);
        }
        let next = self.segment_after(number)?;
        Ok(next.map_or(Seq::MAX, |header| header.first_seq))
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

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.state().segments.numbers().collect()
    }

    /// Asks for something that headers say. Those that have not been read are, and then it is asked again.
    fn ask<T>(&self, question: impl Fn(&State) -> Known<T>) -> Result<T> {
        loop {
            let answer = question(&self.state());
            let unread = match answer {
                Ok(answer) => return Ok(answer),
                Err(unread) => unread,
            };
            match self.read_header(unread.number) {
                Err(_) if unread.optional => self.state().segments.refuse(unread.number),
                read => read?,
            }
        }
    }

    /// Like [`ask`](Self::ask), for a header.
    fn header(
        &self,
        question: impl Fn(&Segments) -> Known<Option<&SegmentHeader>>,
    ) -> Result<Option<SegmentHeader>> {
        self.ask(|state| Ok(question(&state.segments)?.cloned()))
    }

    /// Reads the header of a segment of which only the number was known. The lock is not held meanwhile:
    /// the writer publishes under it.
    fn read_header(&self, number: u64) -> Result<()> {
        let log_id = {
            let state = self.state();
            let last = state.segments.headers().next_back();
            last.map(|header| header.log_id)
        };
        let found = read_header(self.vfs.as_ref(), &self.layout, number, log_id.as_ref());
        let header = match found {
            Ok(header) => header,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => {
                    // Who writes truncates first and deletes then.
                    self.refresh_retention()?;
                    if self.state().segments.contains(number) {
                        let why = "segments around it are there";
                        return Err(missing(&self.layout, number, why));
                    }
                    return Ok(());
                }
                ErrorKind::NotALog | ErrorKind::Corrupt => return Err(unusable(error)),
                _ => return Err(error),
            },
        };
        let mut state = self.state();
        if state.segments.contains(number) {
            state
                .segments
                .take(&self.layout, header)
                .map_err(unusable)?;
        }
        Ok(())
    }

    pub(crate) fn segment(&self, number: u64) -> Result<Option<SegmentHeader>> {
        self.header(|segments| segments.get(number))
    }

    /// The first segment whose header has been read: what all segments have in common can be asked of it.
    pub(crate) fn known_segment(&self) -> Option<SegmentHeader> {
        self.state().segments.headers().next().cloned()
    }

    pub(crate) fn first_segment(&self) -> Result<Option<SegmentHeader>> {
        self.header(Segments::first)
    }

    pub(crate) fn last_segment(&self) -> Result<Option<SegmentHeader>> {
        self.header(Segments::last)
    }

    /// The first segment with a number greater than `number`.
    pub(crate) fn segment_after(&self, number: u64) -> Result<Option<SegmentHeader>> {
        self.header(|segments| segments.after(number))
    }

    /// The segment in which the record behind `seq` stands or will stand.
    pub(crate) fn segment_for(&self, seq: Seq) -> Result<Option<SegmentHeader>> {
        self.header(|segments| segments.for_record_behind(seq))
    }

    /// The last segment that begins with the record behind `seq`, or before it.
    pub(crate) fn segment_up_to(&self, seq: Seq) -> Result<Option<SegmentHeader>> {
        self.header(|segments| segments.last_up_to(seq))
    }

    /// The segments that begin behind record `seq`.
    pub(crate) fn segments_behind(&self, seq: Seq) -> Result<Vec<SegmentHeader>> {
        self.ask(|state| state.segments.behind(seq))
    }

    /// The segment whose LSNs include `lsn`, if one does.
    pub(crate) fn segment_with(&self, lsn: Lsn) -> Result<Option<SegmentHeader>> {
        self.header(|segments| segments.with_lsn(lsn))
    }

    /// How far segment `number` may be read, as of one moment: a rotation between two looks would
    /// make the end of the log pass for the end of a segment that has a successor.
    ///
    /// Where the header of the next one can't be used, everything up to there can be read, and what is
    /// wrong with it is the error on arriving.
    pub(crate) fn limit_of(&self, number: u64) -> Limit {
        let limit = self.ask(|state| {
            let first = state.segments.first_number();
            Ok(match state.segments.get(number + 1)?.cloned() {
                Some(next) if self.damaged.contains_key(&(number + 1)) => Limit::Undeclared(next),
                Some(next) => Limit::Declared(next),
                None if first.is_some_and(|first| first > number) => Limit::Gone,
                None => Limit::End(state.end.clone()),
            })
        });
        limit.unwrap_or_else(|error| Limit::End(End::refused(error)))
    }

    /// Writer: everything below `lsn` is acknowledged.
    pub(crate) fn publish_end(&self, lsn: Lsn) {
        let mut state = self.state();
        state.end.lsn = lsn;
        state.end.raw_lsn = lsn;
    }

    /// Writer: a new last segment.
    pub(crate) fn publish_segment(&self, header: SegmentHeader) {
        self.state().segments.insert(header);
    }

    /// Writer: records up to `truncated_seq` and segments below `first_segment` are gone.
    pub(crate) fn publish_truncation(&self, truncated_seq: Seq, first_segment: u64) {
        let mut state = self.state();
        state.truncated_seq = truncated_seq;
        state.segments.drop_below(first_segment);
    }

    /// Looks again whether there is more to read. Costs nothing for a writer's handle.
    pub(crate) fn refresh(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let (watch, was_live, generation, last, log_id) = {
            let state = self.state();
            let last = state.segments.headers().next_back();
            (
                Arc::clone(&state.watch),
                state.writer_live,
                state.control_generation,
                last.map_or(0, |header| header.segment_number),
                last.map_or([0; 16], |header| header.log_id),
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
            state.segments.drop_below(control.first_segment);
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
