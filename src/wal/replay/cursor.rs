//! Step 3 of 3 of replay: records for the caller, segment by segment, batch by batch.
//!
//! A batch of one frame was checked whole when its frame was accepted. A batch of several frames is
//! walked to its COMMIT first and delivered in a second pass, so that nothing of it is shown before
//! all of it is known to be there, in memory that does not grow with the batch.
//!
//! Invariant: what is delivered lies below the end that [`LogView`] gives, is committed (or, for a
//! raw cursor, marked as not committed), and was verified in the very bytes that are handed out.

use super::salvage::Salvage;
use super::segment_reader::{SegmentReader, Step, StopCause};
use super::structure::Structure;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::frame::{frame_flag, frame_type, seq_after, FrameHeader};
use crate::format::record;
use crate::format::segment_header::SegmentHeader;
use crate::lsn::{Lsn, Seq};
use crate::wal::layout::segment_name;
use crate::wal::segment_file::open_segment;
use crate::wal::view::{Limit, LogView};
use std::ops::Range;
use std::sync::Arc;

/// What an [`Entry`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// A record.
    Record = 1,
    /// The COMMIT of a batch (raw cursors only).
    Commit = 2,
    /// A CHECKPOINT; its value is the data given (raw cursors only).
    Checkpoint = 3,
    /// The ABORT of a batch that was given up (raw cursors only).
    Abort = 4,
    /// The log is torn here; `batch_id` is the place. Always the last (raw cursors only).
    Torn = 5,
    /// Something is damaged or missing between the entry before and the one behind; `batch_id` is
    /// where it begins, the value says what it is, in words (policy `Salvage` only).
    Gap = 6,
}

/// One record or mark. The bytes belong to the cursor.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// False for records of a batch that was not committed (raw cursors only).
    pub committed: bool,
    /// The operation of a record.
    pub op: u8,
    /// Its sequence number.
    pub seq: Seq,
    /// LSN of the frame that begins its batch.
    pub batch_id: Lsn,
    /// Wall clock of its frame, nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// The key of a record.
    pub key: &'a [u8],
    /// The value of a record, the data of a checkpoint.
    pub value: &'a [u8],
}

/// Many entries as columns of equal length. Offsets point into `bytes`: the key of entry `i` is
/// `bytes[key_begin[i]..value_begin[i]]`, its value `bytes[value_begin[i]..value_end[i]]`.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Sequence numbers.
    pub seq: &'a [u64],
    /// LSNs of the frames that begin the batches.
    pub batch_id: &'a [u64],
    /// Wall clocks.
    pub time_ns: &'a [u64],
    /// Kinds ([`EntryKind`]).
    pub kind: &'a [u8],
    /// Operations.
    pub op: &'a [u8],
    /// 1 if committed, else 0.
    pub committed: &'a [u8],
    /// Where keys begin.
    pub key_begin: &'a [u32],
    /// Where keys end and values begin.
    pub value_begin: &'a [u32],
    /// Where values end.
    pub value_end: &'a [u32],
    /// The bytes that the offsets point into; what lies between records is of no use.
    pub bytes: &'a [u8],
}

/// An entry whose bytes are named by their place in the reader's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) kind: EntryKind,
    pub(super) committed: bool,
    pub(super) op: u8,
    pub(super) seq: Seq,
    pub(super) batch_id: Lsn,
    pub(super) time_ns: u64,
    pub(super) key_begin: usize,
    pub(super) value_begin: usize,
    pub(super) value_end: usize,
}

enum Advance {
    Item(Item),
    End,
    /// Going on would move the window.
    WouldRead,
}

/// The frame whose records are being delivered.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    payload: Range<usize>,
    /// Where the next record begins, in the payload.
    at: usize,
    remaining: u32,
    next_seq: Seq,
    batch_id: Lsn,
    time_ns: u64,
    committed: bool,
    /// What follows the last record: COMMIT with its number, or nothing.
    commit_seq: Option<Seq>,
}

/// What becomes of a batch that has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Committed,
    NotCommitted,
    /// It has no end where reading stops, for this reason and at this place.
    Open(StopCause, Place),
}

/// The segment that a cursor stands in.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) reader: SegmentReader,
    pub(super) structure: Structure,
    pub(super) delivery: Option<Delivery>,
    /// Fate of the batch that begins with the given LSN, found by looking ahead.
    pub(super) fate: Option<(Lsn, Fate)>,
    /// A raw cursor beyond the place where the successor says that this segment ends.
    beyond_end: bool,
    pub(super) number: u64,
}

#[derive(Debug, Default)]
struct Columns {
    seq: Vec<u64>,
    batch_id: Vec<u64>,
    time_ns: Vec<u64>,
    kind: Vec<u8>,
    op: Vec<u8>,
    committed: Vec<u8>,
    key_begin: Vec<u32>,
    value_begin: Vec<u32>,
    value_end: Vec<u32>,
}

/// Reads the log in order. Belongs to one thread at a time; independent of the handle that made
/// it. Arriving at the end is not final: later calls deliver what was appended since.
#[derive(Debug)]
pub struct Cursor {
    pub(super) view: Arc<LogView>,
    raw: bool,
    /// Records up to this number are not delivered (again).
    pub(super) floor: Seq,
    pub(super) standing: Option<Standing>,
    torn_shown: bool,
    columns: Columns,
    /// Set for the policy `Salvage`.
    pub(super) salvage: Option<Salvage>,
    fork_count: u64,
}

impl Cursor {
    pub(crate) fn new(view: Arc<LogView>, after_seq: Seq, raw: bool) -> Cursor {
        let floor = after_seq.max(view.truncated_seq());
        let salvage = view.salvaged().map(|_| Salvage::default());
        Cursor {
            fork_count: view.vfs.fork_count(),
            salvage,
            view,
            raw,
            floor,
            standing: None,
            torn_shown: false,
            columns: Columns::default(),
        }
    }

    /// The next entry, or `None` at the end for now.
    #[allow(clippy::should_implement_trait)] // an entry borrows from the cursor
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(item) = self.next_item()? else {
            return Ok(None);
        };
        let window = self.bytes_of(&item);
        let (key, value) = (
            window.get(item.key_begin..item.value_begin),
            window.get(item.value_begin..item.value_end),
        );
        Ok(Some(Entry {
            kind: item.kind,
            committed: item.committed,
            op: item.op,
            seq: item.seq,
            batch_id: item.batch_id,
            time_ns: item.time_ns,
            key: key.unwrap_or_default(),
            value: value.unwrap_or_default(),
        }))
    }

    /// Up to `count_max` entries at once, at least one, or `None` at the end for now. Pages end
    /// where the bytes read together end, so a page may be shorter than `count_max` anywhere.
    pub fn next_page(&mut self, count_max: usize) -> Result<Option<Page<'_>>> {
        if count_max == 0 {
            return Err(Error::invalid("a page of 0 entries"));
        }
        let Some(first) = self.next_item()? else {
            return Ok(None);
        };
        self.columns.clear();
        let base = first.key_begin;
        let mut end = first.value_end;
        self.columns.push(&first, base)?;
        while self.columns.seq.len() < count_max && first.kind != EntryKind::Gap {
            match self.advance(false) {
                Ok(Advance::Item(item)) => {
                    end = end.max(item.value_end);
                    self.columns.push(&item, base)?;
                }
                // An error comes again with the next call, after what is good was delivered.
                Ok(Advance::End | Advance::WouldRead) | Err(_) => break,
            }
        }
        let columns = &self.columns;
        let bytes = self.bytes_of(&first).get(base..end);
        Ok(Some(Page {
            seq: &columns.seq,
            batch_id: &columns.batch_id,
            time_ns: &columns.time_ns,
            kind: &columns.kind,
            op: &columns.op,
            committed: &columns.committed,
            key_begin: &columns.key_begin,
            value_begin: &columns.value_begin,
            value_end: &columns.value_end,
            bytes: bytes.unwrap_or_default(),
        }))
    }

    /// The bytes that the places in `item` point into.
    fn bytes_of(&self, item: &Item) -> &[u8] {
        match (&self.salvage, &self.standing) {
            (Some(salvage), _) if item.kind == EntryKind::Gap => salvage.gap_text(),
            (_, Some(standing)) => standing.reader.window(),
            (_, None) => &[],
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>> {
        if self.view.vfs.fork_count() != self.fork_count {
            return Err(crate::wal::forked());
        }
        let mut refreshed = false;
        loop {
            let advanced = match self.advance(true) {
                Err(error) if self.salvage.is_some() && Salvage::passes_over(&error) => {
                    match self.pass_over(&error) {
                        Some(item) => return Ok(Some(item)),
                        None => continue,
                    }
                }
                Err(error) if error.is_corrupt() && self.was_retired() => {
                    let number = self.standing.as_ref().map_or(0, |standing| standing.number);
                    return Err(truncated(number));
                }
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    // The next cursor of this handle begins with what is left.
                    let _ = self.view.look_again();
                    return Err(error);
                }
                advanced => advanced?,
            };
            match advanced {
                Advance::Item(item) => return Ok(Some(item)),
                Advance::End if !refreshed => {
                    // Another process may have written since; this handle's own writer
                    // publishes by itself.
                    self.view.refresh()?;
                    refreshed = true;
                }
                Advance::End => return Ok(None),
                Advance::WouldRead => {}
            }
        }
    }

    /// Whether the segment in which the cursor stands was truncated meanwhile: its file may be in
    /// use for something else by now, so what looks like damage is none.
    fn was_retired(&self) -> bool {
        let Some(standing) = &self.standing else {
            return false;
        };
        let looked = self.view.look_again();
        looked.is_ok()
            && self.view.segment(standing.number).as_ref() != Some(standing.reader.header())
    }

    /// One entry further, or as far as can be without reading.
    fn advance(&mut self, may_read: bool) -> Result<Advance> {
        loop {
            if let Some(item) = self.deliver() {
                return Ok(Advance::Item(item));
            }
            let Some(standing) = &mut self.standing else {
                if !may_read {
                    return Ok(Advance::WouldRead);
                }
                if self
                    .salvage
                    .as_ref()
                    .is_some_and(|salvage| salvage.finished)
                {
                    return Ok(Advance::End);
                }
                let truncated_seq = self.view.truncated_seq();
                if truncated_seq > self.floor {
                    // Since the cursor was made, or it would begin behind them.
                    let message = format!("records up to {truncated_seq} were truncated");
                    return Err(Error::new(ErrorKind::Truncated, message));
                }
                let header = self.view.segment_for(self.floor);
                if self.salvage.is_some() {
                    self.check_beginning(header.as_ref())?;
                }
                let Some(header) = header else {
                    return self.at_end();
                };
                self.stand_in(&header)?;
                continue;
            };
            if standing.structure.sealed && !standing.beyond_end {
                if !may_read {
                    return Ok(Advance::WouldRead);
                }
                if !self.arrive()? {
                    return self.at_end();
                }
                continue;
            }
            let bookmark = standing.reader.bookmark();
            let before = standing.structure;
            let step = if may_read {
                Some(standing.reader.step()?)
            } else {
                standing.reader.step_in_window()?
            };
            let frame = match step {
                None => return Ok(Advance::WouldRead),
                Some(Step::Stop(_)) if !may_read => return Ok(Advance::WouldRead),
                Some(Step::Stop(cause)) => {
                    let place = standing.reader.place();
                    if !self.stopped(&cause, place)? {
                        return self.at_end();
                    }
                    continue;
                }
                Some(Step::Frame(frame)) => frame,
            };
            let payload = standing.reader.window().get(frame.payload.clone());
            let accepted = standing
                .structure
                .accept(&frame.header, payload.unwrap_or_default());
            if let Err(reason) = accepted {
                standing.reader.return_to(bookmark);
                standing.structure = before;
                let place = standing.reader.place();
                if standing.beyond_end {
                    self.follow()?;
                    continue;
                }
                let at = format!(
                    "{} at offset {} (LSN {})",
                    segment_name(place.segment),
                    place.offset,
                    place.lsn
                );
                let message =
                    format!("row W: {at}: an intact frame that can't stand here: {reason}");
                return Err(Error::new(ErrorKind::Corrupt, message).at(place));
            }
            if let Some(item) =
                self.take_frame(&frame.header, frame.payload, may_read, bookmark, before)?
            {
                return Ok(item);
            }
        }
    }

    /// Decides what a well-formed frame gives; `None` to go on.
    fn take_frame(
        &mut self,
        header: &FrameHeader,
        payload: Range<usize>,
        may_read: bool,
        bookmark: super::segment_reader::Bookmark,
        before: Structure,
    ) -> Result<Option<Advance>> {
        let Some(standing) = &mut self.standing else {
            return Ok(None);
        };
        match header.frame_type {
            frame_type::BATCH if header.has(frame_flag::ABORT) => {
                standing.fate = None;
                let item = mark(EntryKind::Abort, false, header, &payload);
                let shown = self.raw && !standing.beyond_end;
                Ok(shown.then_some(Advance::Item(item)))
            }
            frame_type::BATCH => {
                let batch_id = before.open.map_or(header.lsn, |open| open.batch_id);
                let whole = header.has(frame_flag::BEGIN | frame_flag::COMMIT);
                let known = standing.fate.as_ref().filter(|(lsn, _)| *lsn == batch_id);
                let fate = match known {
                    _ if whole => Fate::Committed,
                    Some((_, fate)) => fate.clone(),
                    None => {
                        let after = standing.structure;
                        let fate = may_read.then(|| look_ahead(standing, after));
                        // Also after a read that failed: the next call begins with the batch.
                        standing.reader.return_to(bookmark);
                        standing.structure = before;
                        let Some(fate) = fate.transpose()? else {
                            return Ok(Some(Advance::WouldRead));
                        };
                        if let Fate::Open(cause, place) = &fate {
                            if !self.raw && !standing.beyond_end {
                                // It may be finished later: nothing is remembered.
                                return match self.stopped(cause, place.clone())? {
                                    true => Ok(None),
                                    false => self.at_end().map(Some),
                                };
                            }
                        }
                        standing.fate = Some((batch_id, fate));
                        return Ok(None);
                    }
                };
                if header.has(frame_flag::COMMIT) {
                    standing.fate = None;
                }
                let committed = fate == Fate::Committed;
                // Beyond the declared end, batches that have an end were copied or dropped whole.
                let shown = if standing.beyond_end {
                    matches!(fate, Fate::Open(..))
                } else {
                    committed || self.raw
                };
                if shown {
                    let ends_batch =
                        header.has(frame_flag::COMMIT) && !header.has(frame_flag::SOLO);
                    standing.delivery = Some(Delivery {
                        payload,
                        at: 0,
                        remaining: header.record_count,
                        next_seq: header.first_seq,
                        batch_id,
                        time_ns: header.time_ns,
                        committed,
                        commit_seq: if ends_batch {
                            seq_after(header).map(|seq| seq - 1)
                        } else {
                            None
                        },
                    });
                }
                Ok(None)
            }
            frame_type::CHECKPOINT if !standing.beyond_end => {
                let shown = self.raw && header.first_seq > self.floor;
                self.floor = self.floor.max(header.first_seq);
                let item = mark(EntryKind::Checkpoint, true, header, &payload);
                Ok(shown.then_some(Advance::Item(item)))
            }
            _ => Ok(None),
        }
    }

    /// The next record of the frame being delivered, or the COMMIT behind its last.
    fn deliver(&mut self) -> Option<Item> {
        let standing = self.standing.as_mut()?;
        let delivery = standing.delivery.as_mut()?;
        while delivery.remaining > 0 {
            let payload = standing.reader.window().get(delivery.payload.clone())?;
            let span = record::decode(payload, delivery.at)?;
            let seq = delivery.next_seq;
            delivery.at = span.value_end;
            delivery.next_seq += 1;
            delivery.remaining -= 1;
            if seq <= self.floor {
                continue;
            }
            if delivery.committed {
                self.floor = seq;
            }
            let base = delivery.payload.start;
            return Some(Item {
                kind: EntryKind::Record,
                committed: delivery.committed,
                op: span.op,
                seq,
                batch_id: delivery.batch_id,
                time_ns: delivery.time_ns,
                key_begin: base + span.key_begin,
                value_begin: base + span.value_begin,
                value_end: base + span.value_end,
            });
        }
        let finished = standing.delivery.take()?;
        let seq = finished.commit_seq.filter(|&seq| seq > self.floor)?;
        if finished.committed {
            self.floor = seq;
        }
        self.raw.then_some(Item {
            kind: EntryKind::Commit,
            committed: finished.committed,
            op: 0,
            seq,
            batch_id: finished.batch_id,
            time_ns: finished.time_ns,
            key_begin: finished.payload.end,
            value_begin: finished.payload.end,
            value_end: finished.payload.end,
        })
    }

    pub(super) fn stand_in(&mut self, header: &SegmentHeader) -> Result<()> {
        let number = header.segment_number;
        let (file, found) = open_segment(self.view.vfs.as_ref(), &self.view.layout, number)
            .map_err(|error| {
                if error.kind() == ErrorKind::NotFound {
                    truncated(number)
                } else {
                    error
                }
            })?;
        if found != *header {
            // The file was retired and its name is in use for something else.
            return Err(truncated(number));
        }
        let path = self.view.layout.segment(number);
        let mut reader = SegmentReader::new(file, path, found);
        reader.set_limit(self.view.limit_of(number).lsn(self.raw));
        self.standing = Some(Standing {
            reader,
            structure: Structure::new(header.first_seq),
            delivery: None,
            fate: None,
            beyond_end: false,
            number,
        });
        Ok(())
    }

    /// No frame is accepted where the cursor stands. True if there is a way on.
    fn stopped(&mut self, cause: &StopCause, place: Place) -> Result<bool> {
        let Some(standing) = &mut self.standing else {
            return Ok(false);
        };
        if standing.beyond_end {
            return self.follow();
        }
        let at = standing.reader.lsn();
        let limit = self.view.limit_of(standing.number);
        let limit_lsn = limit.lsn(self.raw);
        if *cause == StopCause::Limit && at < limit_lsn {
            // The end has moved on since the limit was set, or the segment got a successor.
            if standing.reader.raise_limit(limit_lsn) {
                return Ok(true);
            }
        }
        let what = match cause {
            StopCause::Refused(what) => what.clone(),
            _ => "no frame stands here".to_string(),
        };
        match limit {
            Limit::Declared(_) if at == limit_lsn => self.arrive(),
            // The writer beside which this was read has died, and recovery copied the last batches
            // into the successor, with the same numbers: those delivered are not shown again.
            Limit::Declared(_) if at > limit_lsn => self.follow(),
            Limit::Declared(_) => Err(corrupt(
                "S1",
                &place,
                format!("{what}; the next segment says that this one ends at LSN {limit_lsn}"),
            )),
            Limit::Gone => Err(truncated(standing.number + 1)),
            Limit::End(end) => {
                if let Some(error) = end.error {
                    return Err(error.duplicate());
                }
                if *cause == StopCause::Limit || at >= end.lsn {
                    return Ok(false);
                }
                Err(corrupt(
                    "E",
                    &place,
                    format!("{what}; everything below LSN {} was acknowledged", end.lsn),
                ))
            }
        }
    }

    /// The cursor stands where its segment ends. True if there is a successor to go on in.
    fn arrive(&mut self) -> Result<bool> {
        let Some(standing) = &mut self.standing else {
            return Ok(false);
        };
        let successor = match self.view.limit_of(standing.number) {
            Limit::Declared(successor) => successor,
            Limit::Gone => return Err(truncated(standing.number + 1)),
            Limit::End(end) => {
                return match end.error {
                    Some(error) => Err(error.duplicate()),
                    None => Ok(false),
                }
            }
        };
        let place = standing.reader.place();
        if standing.reader.lsn() != successor.prev_end_lsn || standing.structure.open.is_some() {
            return Err(corrupt(
                "S1",
                &place,
                format!(
                    "the segment ends here, the next one says at LSN {}",
                    successor.prev_end_lsn
                ),
            ));
        }
        if standing.reader.link() != successor.prev_link
            || standing.structure.next_seq != successor.first_seq
        {
            return Err(corrupt(
                "S2",
                &place,
                format!(
                    "link {:#010x} and next sequence number {}, the next segment expects {:#010x} \
                     and {}",
                    standing.reader.link(),
                    standing.structure.next_seq,
                    successor.prev_link,
                    successor.first_seq
                ),
            ));
        }
        if self.raw && !standing.structure.sealed {
            standing.beyond_end = true;
            standing.reader.set_limit(Lsn(u64::MAX));
            return Ok(true);
        }
        self.follow()
    }

    /// Goes on in the next segment.
    fn follow(&mut self) -> Result<bool> {
        let Some(standing) = &self.standing else {
            return Ok(false);
        };
        let number = standing.number + 1;
        match self.view.segment(number) {
            Some(header) => {
                self.stand_in(&header)?;
                Ok(true)
            }
            None => Err(truncated(number)),
        }
    }

    fn at_end(&mut self) -> Result<Advance> {
        let end = self.view.end();
        if let (None, Some(error)) = (&self.standing, &end.error) {
            return Err(error.duplicate());
        }
        if let (Some(_), Some(standing)) = (&self.salvage, &self.standing) {
            if let Some(next) = self.view.segment_after(standing.number) {
                let what = format!("the next segment is {}", next.segment_number);
                return Err(corrupt("M", &standing.reader.place(), what));
            }
            let last = self.view.salvaged().map_or(0, |known| known.last_segment);
            if standing.number < last {
                let what = format!("the segments up to {last} are missing");
                return Err(corrupt("M", &standing.reader.place(), what));
            }
        }
        if self.raw && end.torn && !self.torn_shown {
            self.torn_shown = true;
            return Ok(Advance::Item(Item {
                kind: EntryKind::Torn,
                committed: false,
                op: 0,
                seq: 0,
                batch_id: end.raw_lsn,
                time_ns: 0,
                key_begin: 0,
                value_begin: 0,
                value_end: 0,
            }));
        }
        Ok(Advance::End)
    }
}

/// Walks from behind the first frame of a batch to its end, to see what becomes of it. The caller
/// returns the reader to where it was.
fn look_ahead(standing: &mut Standing, mut structure: Structure) -> Result<Fate> {
    while structure.open.is_some() {
        let frame = match standing.reader.step()? {
            Step::Frame(frame) => frame,
            Step::Stop(cause) => return Ok(Fate::Open(cause, standing.reader.place())),
        };
        let payload = standing.reader.window().get(frame.payload.clone());
        let accepted = structure.accept(&frame.header, payload.unwrap_or_default());
        if accepted.is_err() || frame.header.has(frame_flag::ABORT) {
            return Ok(Fate::NotCommitted);
        }
    }
    Ok(Fate::Committed)
}

fn mark(kind: EntryKind, committed: bool, header: &FrameHeader, payload: &Range<usize>) -> Item {
    Item {
        kind,
        committed,
        op: 0,
        seq: header.first_seq,
        batch_id: header.lsn,
        time_ns: header.time_ns,
        key_begin: payload.start,
        value_begin: payload.start,
        value_end: payload.end,
    }
}

fn corrupt(row: &str, place: &Place, what: String) -> Error {
    let at = format!(
        "{} at offset {} (LSN {})",
        segment_name(place.segment),
        place.offset,
        place.lsn
    );
    Error::new(ErrorKind::Corrupt, format!("row {row}: {at}: {what}")).at(place.clone())
}

fn truncated(number: u64) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("{} was truncated", segment_name(number)),
    )
    .at(Place {
        segment: number,
        ..Place::default()
    })
}

impl Columns {
    fn clear(&mut self) {
        self.seq.clear();
        self.batch_id.clear();
        self.time_ns.clear();
        self.kind.clear();
        self.op.clear();
        self.committed.clear();
        self.key_begin.clear();
        self.value_begin.clear();
        self.value_end.clear();
    }

    fn push(&mut self, item: &Item, base: usize) -> Result<()> {
        let relative = |at: usize| u32::try_from(at.saturating_sub(base)).unwrap_or(u32::MAX);
        if self.seq.len() == self.seq.capacity() {
            let more = self.seq.len().max(64);
            let reserved = self.seq.try_reserve(more).is_ok()
                && self.batch_id.try_reserve(more).is_ok()
                && self.time_ns.try_reserve(more).is_ok()
                && self.kind.try_reserve(more).is_ok()
                && self.op.try_reserve(more).is_ok()
                && self.committed.try_reserve(more).is_ok()
                && self.key_begin.try_reserve(more).is_ok()
                && self.value_begin.try_reserve(more).is_ok()
                && self.value_end.try_reserve(more).is_ok();
            if !reserved {
                return Err(Error::no_memory("a page", more * 50));
            }
        }
        self.seq.push(item.seq);
        self.batch_id.push(item.batch_id.0);
        self.time_ns.push(item.time_ns);
        self.kind.push(item.kind as u8);
        self.op.push(item.op);
        self.committed.push(u8::from(item.committed));
        self.key_begin.push(relative(item.key_begin));
        self.value_begin.push(relative(item.value_begin));
        self.value_end.push(relative(item.value_end));
        Ok(())
    }
}
