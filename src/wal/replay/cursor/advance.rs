//! One entry further: frames are taken from the reader, and become records.
//!
//! What a frame gives depends on what becomes of its batch, which for one of several frames is
//! known only at its end: [`look_ahead`] walks there, and the frames are taken in a second pass.

use super::delivery::{Delivery, Head};
use super::entry::{mark, EntryKind, Item};
use super::segment_end::corrupt;
use super::Cursor;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::frame::{frame_flag, frame_type, seq_after, FrameHeader};
use crate::lsn::{Lsn, Seq};
use crate::wal::layout::segment_name;
use crate::wal::replay::segment_reader::{Bookmark, SegmentReader, Step, StopCause};
use crate::wal::replay::structure::Structure;
use std::ops::Range;

pub(super) enum Advance {
    Item(Item),
    /// The records of a frame wait to be delivered.
    Records,
    End,
    /// Going on would move the window.
    WouldRead,
}

/// What becomes of a batch that has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Committed,
    NotCommitted,
    /// It has no end where reading stops, for this reason and at this place.
    Open(StopCause, Place),
}

/// The segment that a cursor stands in.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) reader: SegmentReader,
    pub(crate) structure: Structure,
    pub(crate) delivery: Option<Delivery>,
    /// Fate of the batch that begins with the given LSN, found by looking ahead.
    pub(crate) fate: Option<(Lsn, Fate)>,
    /// A raw cursor beyond the place where the successor says that this segment ends.
    pub(super) beyond_end: bool,
    pub(crate) number: u64,
    /// Its header was rebuilt, and that has not been told yet (policy `Salvage`).
    pub(crate) unannounced: bool,
    /// Batches and CHECKPOINTs from this number on stand in a later segment, also where frames
    /// here carry it: those were copied there, or dropped by a repair (policy `Salvage`).
    pub(super) seq_end: Seq,
}

impl Standing {
    /// Whether what this frame begins stands in a later segment.
    pub(super) fn is_superseded(&self, header: &FrameHeader) -> bool {
        let begins = header.frame_type == frame_type::CHECKPOINT
            || header.frame_type == frame_type::BATCH && header.has(frame_flag::BEGIN);
        begins && header.first_seq >= self.seq_end
    }
}

impl Cursor {
    /// To the next entry or frame of records, or as far as can be without reading. What was to be
    /// delivered is.
    pub(super) fn advance(&mut self, may_read: bool) -> Result<Advance> {
        loop {
            if may_read {
                if let Some(item) = self.announce() {
                    return Ok(Advance::Item(item));
                }
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
                let header = self.view.segment_for(self.floor)?;
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
            if standing.is_superseded(&frame.header) {
                standing.reader.return_to(bookmark);
                standing.reader.set_limit(frame.header.lsn);
                let place = standing.reader.place();
                let what = format!(
                    "record {} stands in the next segment",
                    frame.header.first_seq
                );
                return Err(corrupt("S2", &place, what));
            }
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
        bookmark: Bookmark,
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
                        head: Head {
                            batch_id,
                            time_ns: header.time_ns,
                            committed,
                        },
                        commit_seq: if ends_batch {
                            seq_after(header).map(|seq| seq - 1)
                        } else {
                            None
                        },
                    });
                    return Ok(Some(Advance::Records));
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
