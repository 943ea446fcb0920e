//! Where a segment ends for a cursor, and how it goes on in the next one.

use super::advance::{Advance, Standing};
use super::entry::{EntryKind, Item};
use super::Cursor;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
use crate::wal::layout::segment_name;
use crate::wal::replay::segment_reader::StopCause;
use crate::wal::replay::structure::Structure;
use crate::wal::view::Limit;

impl Cursor {
    pub(crate) fn stand_in(&mut self, header: &SegmentHeader) -> Result<()> {
        let number = header.segment_number;
        let mut reader = self.view.reader_of(header).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                truncated(number)
            } else {
                error
            }
        })?;
        if reader.header() != header {
            // The file was retired and its name is in use for something else.
            return Err(truncated(number));
        }
        let limit = self.view.limit_of(number);
        reader.set_limit(limit.lsn(self.raw));
        if self.mapped && matches!(limit, Limit::Declared(_)) {
            reader.map();
        } else if self.view.vfs.background() {
            reader.read_ahead(self.fork_count);
        }
        self.standing = Some(Standing {
            reader,
            structure: Structure::new(header.first_seq),
            delivery: None,
            fate: None,
            beyond_end: false,
            number,
            unannounced: self.view.damaged_header(number).is_some(),
            seq_end: self.view.seq_end_of(number)?,
        });
        Ok(())
    }

    /// No frame is accepted where the cursor stands. True if there is a way on.
    pub(super) fn stopped(&mut self, cause: &StopCause, place: Place) -> Result<bool> {
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
            StopCause::Limit if at < limit_lsn => {
                "the frame that stands here would reach beyond".to_string()
            }
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
            Limit::Undeclared(_) if at >= limit_lsn => self.follow(),
            Limit::Undeclared(_) => Err(corrupt(
                "S1",
                &place,
                format!(
                    "{what}; where this segment ends is not known: the header of the next one is \
                     damaged"
                ),
            )),
            Limit::Gone => Err(truncated(standing.number + 1)),
            Limit::End(end) => {
                if let Some(error) = end.error {
                    return Err(error.duplicate());
                }
                // Not for the limit alone: what is acknowledged ends with a frame, so one that would reach
                // beyond is none, and taking this for the end would lose what stands behind it.
                if at >= end.lsn {
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
    pub(super) fn arrive(&mut self) -> Result<bool> {
        let Some(standing) = &mut self.standing else {
            return Ok(false);
        };
        let successor = match self.view.limit_of(standing.number) {
            Limit::Declared(successor) => successor,
            Limit::Undeclared(_) => return self.follow(),
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
    pub(super) fn follow(&mut self) -> Result<bool> {
        let Some(standing) = &self.standing else {
            return Ok(false);
        };
        let number = standing.number + 1;
        match self.view.segment(number)? {
            Some(header) => {
                self.stand_in(&header)?;
                Ok(true)
            }
            None => Err(truncated(number)),
        }
    }

    pub(super) fn at_end(&mut self) -> Result<Advance> {
        let end = self.view.end();
        if let (None, Some(error)) = (&self.standing, &end.error) {
            return Err(error.duplicate());
        }
        if let (Some(_), Some(standing)) = (&self.salvage, &self.standing) {
            if let Some(next) = self.view.segment_after(standing.number)? {
                let damage = self
                    .view
                    .damage_between(standing.number + 1, next.segment_number);
                let what = format!("the next segment is {}{damage}", next.segment_number);
                return Err(corrupt("M", &standing.reader.place(), what));
            }
            let last = self.view.salvaged().map_or(0, |known| known.last_segment);
            if standing.number < last {
                let damage = self.view.damage_between(standing.number + 1, u64::MAX);
                let what = format!("the segments up to {last} are missing{damage}");
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

pub(super) fn corrupt(row: &str, place: &Place, what: String) -> Error {
    let at = format!(
        "{} at offset {} (LSN {})",
        segment_name(place.segment),
        place.offset,
        place.lsn
    );
    Error::new(ErrorKind::Corrupt, format!("row {row}: {at}: {what}")).at(place.clone())
}

pub(super) fn truncated(number: u64) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("{} was truncated", segment_name(number)),
    )
    .at(Place {
        segment: number,
        ..Place::default()
    })
}
