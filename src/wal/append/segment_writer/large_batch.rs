//! Batches that are large, in one frame or several: written piece by piece by a leader that has the
//! writer to itself, and given up with an ABORT if they can't be completed.
//!
//! Each byte is copied once, into a piece that the processor's cache holds, and counted in the
//! checksum there; the disk writes one piece while the next is copied. The header of a frame needs
//! the checksum of all of it and is written last; until then zeros, or bytes of another generation,
//! stand in its place, and a crash leaves the end of the log where it was.

use super::{leaves_no_trace, SegmentWriter};
use crate::error::Error;
use crate::format::checksum::Crc32;
use crate::format::frame::{frame_flag, frame_len, frame_type, FrameHeader, HEADER_LEN};
use crate::lsn::{Lsn, Seq};
use crate::vfs::write_all_at;
use crate::wal::append::batch_encoder::{EncodedPayload, Record};
use crate::wal::append::group_committer::{indeterminate, Alone, Receipt};

/// So much of a frame is written at once. The page cache remembers the size: see the room.
const PIECE_LEN: usize = 256 << 10;

impl SegmentWriter {
    /// Writes a batch by itself, in as many frames as it needs. `total` is the sum of its encoded
    /// records, `solo` the flag of a single append or 0. `piece` is memory that is used again and
    /// again; what was in it is gone.
    pub(crate) fn append_large<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
        total: u64,
        solo: u8,
        sync: bool,
        piece: &mut Vec<u8>,
    ) -> Alone<Receipt> {
        if self.is_full() {
            if let Err(failed) = self.rotate() {
                return failed.into_alone();
            }
        }
        // Space for all of it and an ABORT, so that a full disk is found before anything is
        // written. Two neighbouring frames hold more than the target between them.
        let frames = total.saturating_mul(2) / self.frame_payload_target as u64 + 3;
        let end = self.offset + total + frames * (HEADER_LEN as u64 + 8);
        let early = (sync || self.sync_is_due()) && self.is_written_before(end);
        if let Err(error) = self.make_large_room(end) {
            let poison = !leaves_no_trace(&error);
            return Alone {
                result: Err(error),
                poison,
            };
        }
        let mut batch = LargeBatch {
            batch_id: self.written_lsn(),
            first_seq: self.next_seq,
            frames_out: 0,
            time_ns: self.time_ns(),
            solo,
            early,
        };
        match self.write_frames(&mut batch, records, piece) {
            Ok(()) => {}
            Err(WriteFault::Clean(error)) => return self.give_up(&batch, error),
            Err(WriteFault::Doubtful(error)) => {
                self.withdraw();
                return Alone::failed(indeterminate(error, batch.batch_id));
            }
        }
        self.counters.batches += 1;
        self.count_unsynced(1);
        if sync || self.sync_is_due() {
            if let Err(error) = self.sync_segment() {
                return Alone::failed(indeterminate(error, batch.batch_id));
            }
        }
        self.publish();
        Alone {
            result: Ok(Receipt {
                first_seq: batch.first_seq,
                seq: self.last_seq(),
                batch_id: batch.batch_id,
                end_lsn: self.written_lsn(),
                time_ns: self.last_time_ns,
            }),
            poison: false,
        }
    }

    fn write_frames<'a>(
        &mut self,
        batch: &mut LargeBatch,
        records: impl Iterator<Item = Record<'a>>,
        piece: &mut Vec<u8>,
    ) -> std::result::Result<(), WriteFault> {
        piece.clear();
        // Now, and not when a part is out.
        piece
            .try_reserve(PIECE_LEN + 2 * HEADER_LEN)
            .map_err(|_| WriteFault::Clean(Error::no_memory("a batch", PIECE_LEN)))?;
        let mut frame = FrameStream::begin(piece);
        let target = self.frame_payload_target as u64;
        for record in records {
            let len = record.encoded_len() as u64;
            if frame.record_count > 0 && frame.payload_len + len > target {
                self.end_frame(batch, frame, 0)?;
                frame = FrameStream::begin(piece);
            }
            frame.record_count += 1;
            frame.payload_len += len;
            for bytes in [&record.encoded_header()[..], record.key, record.value] {
                self.add_to_frame(batch, &mut frame, bytes)?;
            }
        }
        self.end_frame(batch, frame, frame_flag::COMMIT)
    }

    /// Adds bytes to the payload of a frame, and writes what makes a piece.
    fn add_to_frame(
        &mut self,
        batch: &LargeBatch,
        frame: &mut FrameStream<'_>,
        mut bytes: &[u8],
    ) -> std::result::Result<(), WriteFault> {
        loop {
            // Pieces end where blocks do.
            let at = self.offset + frame.written + frame.piece.len() as u64;
            let room = PIECE_LEN - usize::try_from(at % PIECE_LEN as u64).unwrap_or(0);
            if bytes.len() < room {
                frame.piece.extend_from_slice(bytes);
                return Ok(());
            }
            let (now, later) = bytes.split_at(room);
            frame.piece.extend_from_slice(now);
            bytes = later;
            self.write_piece(batch, frame)?;
        }
    }

    /// Writes the piece that is full, but for the frame's header.
    fn write_piece(
        &mut self,
        batch: &LargeBatch,
        frame: &mut FrameStream<'_>,
    ) -> std::result::Result<(), WriteFault> {
        let skipped = frame.add_to_checksum();
        let offset = self.offset + frame.written;
        write_all_at(
            self.file.as_ref(),
            offset + skipped as u64,
            &frame.piece[skipped..],
        )
        .map_err(|failure| WriteFault::of(failure.into_error(&self.path())))?;
        if batch.early {
            self.file.start_write_back(offset, frame.piece.len() as u64);
        }
        frame.written += frame.piece.len() as u64;
        frame.piece.clear();
        Ok(())
    }

    /// Writes the rest of a frame with the end mark behind it. If other pieces of it are out, the
    /// header comes last: without it, what is out is nothing.
    fn end_frame(
        &mut self,
        batch: &mut LargeBatch,
        mut frame: FrameStream<'_>,
        flags: u8,
    ) -> std::result::Result<(), WriteFault> {
        frame.add_to_checksum();
        let begin = if batch.frames_out == 0 {
            frame_flag::BEGIN
        } else {
            0
        };
        let header = FrameHeader {
            payload_crc: frame.checksum.value(),
            payload_len: u32::try_from(frame.payload_len).unwrap_or(u32::MAX),
            frame_type: frame_type::BATCH,
            flags: flags | begin | batch.solo,
            link: self.link,
            salt: self.header.salt,
            lsn: self.written_lsn(),
            first_seq: self.next_seq,
            record_count: frame.record_count,
            durable_lsn: self.durable_lsn,
            // All records of a batch are of one time.
            time_ns: batch.time_ns,
        };
        let encoded = header.encode();
        let mut run = self.run_here();
        run.take(&header, &encoded);
        run.check().map_err(WriteFault::Clean)?;
        let in_one = frame.written == 0;
        if in_one {
            frame.piece[..HEADER_LEN].copy_from_slice(&encoded);
        }
        let rest = header.frame_len() - frame.written;
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        frame.piece.resize(rest + HEADER_LEN, 0);
        let offset = self.offset + frame.written;
        let mut written = write_all_at(self.file.as_ref(), offset, frame.piece);
        if written.is_ok() && !in_one {
            written = write_all_at(self.file.as_ref(), self.offset, &encoded);
        }
        written.map_err(|failure| WriteFault::of(failure.into_error(&self.path())))?;
        self.counters.written_bytes += header.frame_len();
        self.advance(&run);
        batch.frames_out += 1;
        frame.piece.clear();
        Ok(())
    }

    /// Writes one frame by itself, with the end mark behind it. Room for an ABORT is made too.
    pub(super) fn write_single(
        &mut self,
        frame_type: u8,
        flags: u8,
        time_ns: u64,
        payload: &EncodedPayload,
    ) -> std::result::Result<(), WriteFault> {
        let len = usize::try_from(frame_len(payload.bytes().len())).unwrap_or(usize::MAX);
        self.make_room(self.offset + len as u64 + HEADER_LEN as u64)
            .map_err(WriteFault::of)?;
        let header = FrameHeader {
            payload_crc: payload.crc,
            payload_len: u32::try_from(payload.bytes().len()).unwrap_or(u32::MAX),
            frame_type,
            flags,
            link: self.link,
            salt: self.header.salt,
            lsn: self.written_lsn(),
            first_seq: self.next_seq,
            record_count: payload.record_count,
            durable_lsn: self.durable_lsn,
            time_ns,
        };
        let encoded = header.encode();
        let mut run = self.run_here();
        run.take(&header, &encoded);
        run.check().map_err(WriteFault::Clean)?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(len + HEADER_LEN)
            .map_err(|_| WriteFault::Clean(Error::no_memory("a frame", len)))?;
        bytes.extend_from_slice(&encoded);
        bytes.extend_from_slice(payload.bytes());
        bytes.resize(len + HEADER_LEN, 0);
        write_all_at(self.file.as_ref(), self.offset, &bytes)
            .map_err(|failure| WriteFault::of(failure.into_error(&self.path())))?;
        self.counters.written_bytes += header.frame_len();
        self.advance(&run);
        Ok(())
    }

    /// Ends a large batch that can't be completed: with an ABORT if frames of it are out.
    fn give_up(&mut self, batch: &LargeBatch, cause: Error) -> Alone<Receipt> {
        if batch.frames_out == 0 {
            return Alone::refused(cause);
        }
        let records = self.next_seq - batch.first_seq;
        self.next_seq = batch.first_seq;
        let abort = EncodedPayload::default();
        let time_ns = self.time_ns();
        match self.write_single(frame_type::BATCH, frame_flag::ABORT, time_ns, &abort) {
            Ok(()) => {
                self.counters.records -= records;
                self.publish();
                Alone::refused(cause)
            }
            Err(WriteFault::Clean(error) | WriteFault::Doubtful(error)) => {
                self.withdraw();
                Alone::failed(indeterminate(error, batch.batch_id))
            }
        }
    }
}

struct LargeBatch {
    batch_id: Lsn,
    first_seq: Seq,
    frames_out: u32,
    /// When it was begun.
    time_ns: u64,
    /// Flag of a single append, or 0.
    solo: u8,
    /// Each piece is to be on its way to the disk while the next one is copied.
    early: bool,
}

/// A frame that is written piece by piece.
struct FrameStream<'a> {
    /// What is not written yet. The first piece begins with room for the header.
    piece: &'a mut Vec<u8>,
    /// Bytes of the frame before `piece`.
    written: u64,
    payload_len: u64,
    record_count: u32,
    checksum: Crc32,
}

impl<'a> FrameStream<'a> {
    fn begin(piece: &'a mut Vec<u8>) -> FrameStream<'a> {
        piece.clear();
        piece.resize(HEADER_LEN, 0);
        FrameStream {
            piece,
            written: 0,
            payload_len: 0,
            record_count: 0,
            checksum: Crc32::default(),
        }
    }

    /// Counts the piece in; returns how many bytes at its beginning are not payload.
    fn add_to_checksum(&mut self) -> usize {
        let skipped = if self.written == 0 { HEADER_LEN } else { 0 };
        self.checksum.add(&self.piece[skipped..]);
        skipped
    }
}

/// A frame that was not written.
pub(super) enum WriteFault {
    /// Nothing of it is out.
    Clean(Error),
    /// Something may be.
    Doubtful(Error),
}

impl WriteFault {
    fn of(error: Error) -> WriteFault {
        if leaves_no_trace(&error) {
            WriteFault::Clean(error)
        } else {
            WriteFault::Doubtful(error)
        }
    }
}
