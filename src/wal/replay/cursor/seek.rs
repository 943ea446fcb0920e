//! Beginning in the middle of the log, and knowing where each record stands: for who keeps an index
//! of the log's records (the event store).

use super::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_flag, frame_type, FrameHeader, HEADER_LEN};
use crate::format::record;
use crate::lsn::{Lsn, Seq};
use crate::vfs::read_full_at;
use crate::wal::replay::cursor::{Entry, EntryKind};
use crate::wal::replay::structure::Structure;

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecordPlace {
    /// Of the first byte of its header.
    pub(crate) lsn: Lsn,
    /// CRC-32 of the whole record, its header included.
    pub(crate) crc: u32,
}

impl Cursor {
    /// Goes to the batch that begins at `batch_id`, and delivers records with a number greater than
    /// `after_seq`. Gives the header of its first frame; `None`, with the cursor where it was, if no
    /// batch begins there.
    pub(crate) fn begin_at(
        &mut self,
        batch_id: Lsn,
        after_seq: Seq,
    ) -> Result<Option<FrameHeader>> {
        let Some(header) = self.view.segment_with(batch_id)? else {
            return Ok(None);
        };
        let before = self.standing.take();
        let found = self.stand_at(&header, batch_id);
        match found {
            Ok(Some(head)) => {
                self.floor = after_seq.max(self.view.truncated_seq());
                Ok(Some(head))
            }
            none => {
                self.standing = before;
                none
            }
        }
    }

    fn stand_at(
        &mut self,
        header: &crate::format::segment_header::SegmentHeader,
        batch_id: Lsn,
    ) -> Result<Option<FrameHeader>> {
        let Some(offset) = header.offset_of(batch_id) else {
            return Ok(None);
        };
        self.stand_in(header)?;
        let Some(standing) = &mut self.standing else {
            return Ok(None);
        };
        if offset >= standing.reader.limit() {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_LEN];
        let read = read_full_at(standing.reader.file(), offset, &mut bytes).map_err(|error| {
            Error::io("read", &self.view.layout.segment(standing.number), error)
        })?;
        let live = FrameHeader::decode_live(&bytes, header.salt, batch_id);
        let begins = live.filter(|head| {
            read == HEADER_LEN
                && head.frame_type == frame_type::BATCH
                && head.has(frame_flag::BEGIN)
        });
        if let Some(head) = &begins {
            standing.reader.jump_to(offset, head.link);
            standing.structure = Structure::new(head.first_seq);
        }
        Ok(begins)
    }

    /// Like [`next`](Self::next), for a cursor over committed records; says too where the record
    /// stands.
    pub(crate) fn next_placed(&mut self) -> Result<Option<(Entry<'_>, RecordPlace)>> {
        let Some(item) = self.next_item()? else {
            return Ok(None);
        };
        let lost = || Error::new(ErrorKind::Internal, "a record without its place");
        let standing = self.standing.as_ref().ok_or_else(lost)?;
        let window = standing.reader.window();
        let begin = item
            .key_begin
            .checked_sub(record::HEADER_LEN)
            .filter(|_| item.kind == EntryKind::Record)
            .ok_or_else(lost)?;
        let bytes = window.get(begin..item.value_end).ok_or_else(lost)?;
        let place = RecordPlace {
            lsn: standing.reader.lsn_in_window(begin),
            crc: crate::format::checksum::crc32(bytes),
        };
        Ok(Some((item.entry(window), place)))
    }
}
