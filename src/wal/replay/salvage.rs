//! Reading on behind damage, for who asks for it by name (policy `Salvage`).
//!
//! Where a cursor would fail, a salvaging one looks for the next place at which a frame stands that
//! can begin something: live (FORMAT.md section 11.2), payload intact, and not the middle of a
//! batch. What lies between is marked with an entry of kind `Gap`. A batch is still shown whole or
//! not at all: what follows its first frame must be chained to it.

use super::cursor::{Cursor, EntryKind, Item};
use super::segment_reader::SegmentReader;
use super::structure::Structure;
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32;
use crate::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN, PAYLOAD_LEN_MAX};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
use crate::vfs::{read_full_at, File};
use crate::wal::layout::segment_name;

/// Bytes looked through at a time.
pub(super) const LOOK_LEN: usize = 1 << 20;

/// What a salvaging cursor keeps.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    gap_text: Vec<u8>,
    /// The segment that was given up last.
    behind: u64,
    effort: Effort,
    /// No segment is left.
    pub(super) finished: bool,
}

impl Salvage {
    pub(super) fn gap_text(&self) -> &[u8] {
        &self.gap_text
    }

    /// Whether an error is of a kind that salvage passes over.
    pub(super) fn passes_over(error: &Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::NotALog | ErrorKind::Truncated
        )
    }
}

impl Cursor {
    /// Passes over what `error` is about. Gives the gap as an entry, or `None` if there is nothing
    /// to tell: the end of the segments, or bytes that are zero.
    pub(super) fn pass_over(&mut self, error: &Error) -> Option<Item> {
        let Some(standing) = &mut self.standing else {
            return self.next_segment(error);
        };
        standing.delivery = None;
        standing.fate = None;
        let from = standing.reader.offset();
        let from_lsn = standing.reader.lsn();
        let number = standing.number;
        let salvage = self.salvage.as_mut()?;
        if let Some((offset, head)) = find_beginning(&standing.reader, from, &mut salvage.effort) {
            standing.reader.jump_to(offset, head.link);
            standing.structure = Structure::new(head.first_seq);
            let text = format!(
                "{}: bytes {from} to {offset} are damaged: {error}",
                segment_name(number)
            );
            return self.gap(from_lsn, text);
        }
        let at_end = self
            .view
            .salvaged()
            .is_some_and(|known| number >= known.last_segment && from_lsn >= known.evidence_lsn);
        let silent = at_end && is_blank(&standing.reader, from);
        let item = self.next_segment(error);
        if silent && self.standing.is_none() {
            return None;
        }
        item
    }

    /// An error where the records that this cursor begins with stood in segments that are missing
    /// or can't be used. `first` is the segment in which it would begin.
    pub(super) fn check_beginning(&self, first: Option<&SegmentHeader>) -> Result<()> {
        let wanted = self.floor.saturating_add(1);
        let what = match first {
            Some(header) if header.first_seq <= wanted => return Ok(()),
            Some(header) => format!(
                "records {wanted} to {} stood before segment {}",
                header.first_seq - 1,
                header.segment_number
            ),
            None => "no segment can be used".to_string(),
        };
        let what = match (self.view.salvaged(), first) {
            (Some(known), Some(first)) => {
                what + &self
                    .view
                    .damage_between(known.first_segment, first.segment_number)
            }
            (Some(known), None) => what + &self.view.damage_between(known.first_segment, u64::MAX),
            (None, _) => what,
        };
        Err(Error::new(ErrorKind::Corrupt, format!("row M: {what}")))
    }

    /// Goes on in the next segment that can be used, or ends.
    fn next_segment(&mut self, error: &Error) -> Option<Item> {
        let number = match &self.standing {
            Some(standing) => standing.number,
            None => self.salvage.as_ref().map_or(0, |salvage| salvage.behind),
        };
        let from_lsn = self
            .standing
            .as_ref()
            .map_or(Lsn::NONE, |standing| standing.reader.lsn());
        let mut behind = number;
        self.standing = None;
        while let Ok(Some(header)) = self.view.segment_after(behind) {
            behind = header.segment_number;
            if self.stand_in(&header).is_ok() {
                break;
            }
        }
        if let Some(salvage) = &mut self.salvage {
            salvage.behind = behind;
            salvage.finished = self.standing.is_none();
        }
        let text = format!("{}: {error}", segment_name(number.max(1)));
        self.gap(from_lsn, text)
    }

    /// Tells, before the first entry of a segment whose header was rebuilt, that it was.
    pub(super) fn announce(&mut self) -> Option<Item> {
        let standing = self.standing.as_mut()?;
        if !std::mem::take(&mut standing.unannounced) {
            return None;
        }
        let (number, lsn) = (standing.number, standing.reader.lsn());
        let damage = self.view.damaged_header(number)?;
        let text = format!("{}: {}", segment_name(number), damage.what);
        self.gap(lsn, text)
    }

    fn gap(&mut self, from: Lsn, text: String) -> Option<Item> {
        let salvage = self.salvage.as_mut()?;
        salvage.gap_text = text.into_bytes();
        Some(Item {
            kind: EntryKind::Gap,
            committed: false,
            op: 0,
            seq: 0,
            batch_id: from,
            time_ns: 0,
            key_begin: 0,
            value_begin: 0,
            value_end: salvage.gap_text.len(),
        })
    }
}

/// What has been read to find places at which reading can begin again.
#[derive(Debug, Default)]
pub(super) struct Effort {
    /// Bytes looked through for headers.
    looked: u64,
    /// Bytes of payloads, to see whether a frame is intact.
    checked: u64,
}

impl Effort {
    pub(super) fn looked(&mut self, len: usize) {
        self.looked = self.looked.saturating_add(len as u64);
    }

    /// Whether another payload of `len` bytes may be checked. Damage needs one or two checks for
    /// each byte looked through; only a file made for it, in which each header claims all that
    /// follows, needs more, and would take for ever.
    pub(super) fn allows(&mut self, len: u32) -> bool {
        self.checked = self.checked.saturating_add(u64::from(len));
        self.checked / 8 <= self.looked.saturating_add(PAYLOAD_LEN_MAX as u64)
    }
}

/// The first frame behind `from` at which reading can begin again.
fn find_beginning(
    reader: &SegmentReader,
    from: u64,
    effort: &mut Effort,
) -> Option<(u64, FrameHeader)> {
    let header = reader.header();
    let mut bytes = vec![0; LOOK_LEN + HEADER_LEN];
    let mut offset = from + 8;
    loop {
        let data = reader.file().next_data(offset).ok()??;
        offset = offset.max(data.saturating_sub(HEADER_LEN as u64) & !7);
        let len = read_full_at(reader.file(), offset, &mut bytes).ok()?;
        effort.looked(len);
        let starts = len.saturating_sub(HEADER_LEN - 1).min(LOOK_LEN);
        for at in (0..starts).step_by(8) {
            let place = offset + at as u64;
            if place >= reader.limit() {
                return None;
            }
            let head = &bytes[at..at + HEADER_LEN];
            let live = FrameHeader::decode_live(head, header.salt, header.lsn_at(place));
            if let Some(live) = live.filter(can_begin) {
                if !effort.allows(live.payload_len) {
                    return None;
                }
                if payload_is_intact(reader.file(), place, &live) {
                    return Some((place, live));
                }
            }
        }
        if len < bytes.len() {
            return None;
        }
        offset += LOOK_LEN as u64;
    }
}

fn can_begin(head: &FrameHeader) -> bool {
    head.frame_type != frame_type::BATCH || head.has(frame_flag::BEGIN)
}

/// Whether the frame at `place` has the payload that its header was written for.
pub(super) fn payload_is_intact(file: &dyn File, place: u64, head: &FrameHeader) -> bool {
    let len = head.payload_len as usize;
    let mut payload = Vec::new();
    if len > PAYLOAD_LEN_MAX || payload.try_reserve_exact(len).is_err() {
        return false;
    }
    payload.resize(len, 0);
    let read = read_full_at(file, place + HEADER_LEN as u64, &mut payload);
    read.is_ok_and(|read| read == len) && crc32(&payload) == head.payload_crc
}

/// Whether the file holds nothing but zeros from `from` on.
fn is_blank(reader: &SegmentReader, from: u64) -> bool {
    crate::wal::recovery::judge::scan_beyond(reader, from)
        .is_ok_and(|beyond| beyond.nonzero_len == 0)
}
