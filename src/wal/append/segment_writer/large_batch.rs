//! Batches that need several frames: written frame by frame by a leader that has the writer to
//! itself, and given up with an ABORT if they can't be completed.

use super::{leaves_no_trace, SegmentWriter};
use crate::error::Error;
use crate::format::frame::{frame_flag, frame_len, frame_type, FrameHeader, HEADER_LEN};
use crate::lsn::{Lsn, Seq};
use crate::vfs::write_all_at;
use crate::wal::append::batch_encoder::{EncodedPayload, Record};
use crate::wal::append::group_committer::{indeterminate, Alone, Receipt};
use std::io;

impl SegmentWriter {
    /// Writes a batch that needs several frames. `total` is the sum of its encoded records.
    pub(crate) fn append_large<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
        total: u64,
        sync: bool,
    ) -> Alone<Receipt> {
        if self.is_full() {
            if let Err(failed) = self.rotate() {
                return failed.into_alone();
            }
        }
        // A first look whether the disk can hold it, so that a full disk is found before anything
        // is written; each frame makes sure again.
        // Two neighbouring frames hold more than the target between them.
        let frames = total.saturating_mul(2) / self.frame_payload_target as u64 + 2;
        let end = self.offset + total + frames * (HEADER_LEN as u64 + 8);
        if end > self.prepared {
            match self.file.allocate(self.prepared, end - self.prepared) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => {
                    let error = Error::io("allocate space in", &self.path(), error);
                    let poison = !leaves_no_trace(&error);
                    return Alone {
                        result: Err(error),
                        poison,
                    };
                }
            }
        }
        let mut batch = LargeBatch {
            batch_id: self.written_lsn(),
            first_seq: self.next_seq,
            frames_out: 0,
            time_ns: 0,
        };
        match self.write_frames(&mut batch, records) {
            Ok(()) => {}
            Err(WriteFault::Clean(error)) => return self.give_up(&batch, error),
            Err(WriteFault::Doubtful(error)) => {
                self.withdraw();
                return Alone::failed(indeterminate(error, batch.batch_id));
            }
        }
        self.counters.batches += 1;
        if self.unsynced_batches == 0 {
            self.first_unsynced_ns = self.vfs.monotonic_ns();
        }
        self.unsynced_batches += 1;
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
    ) -> std::result::Result<(), WriteFault> {
        let mut payload = EncodedPayload::default();
        for record in records {
            if !payload.has_room(&record, self.frame_payload_target) {
                self.write_frame(batch, &mut payload, 0)?;
            }
            payload.push(&record).map_err(WriteFault::Clean)?;
        }
        self.write_frame(batch, &mut payload, frame_flag::COMMIT)
    }

    /// Writes one frame of a large batch and empties `payload`.
    fn write_frame(
        &mut self,
        batch: &mut LargeBatch,
        payload: &mut EncodedPayload,
        flags: u8,
    ) -> std::result::Result<(), WriteFault> {
        payload.seal();
        let begin = if batch.frames_out == 0 {
            frame_flag::BEGIN
        } else {
            0
        };
        if batch.frames_out == 0 {
            // All records of a batch are of one time.
            batch.time_ns = self.time_ns();
        }
        self.write_single(frame_type::BATCH, flags | begin, batch.time_ns, payload)?;
        batch.frames_out += 1;
        payload.clear();
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
        let len = usize::try_from(frame_len(payload.bytes.len())).unwrap_or(usize::MAX);
        self.make_room(self.offset + len as u64 + HEADER_LEN as u64)
            .map_err(WriteFault::of)?;
        let header = FrameHeader {
            payload_crc: payload.crc,
            payload_len: u32::try_from(payload.bytes.len()).unwrap_or(u32::MAX),
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
        bytes.extend_from_slice(&payload.bytes);
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
