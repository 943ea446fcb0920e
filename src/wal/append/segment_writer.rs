//! Step 3 of 3 of appending: frames get their places and reach the disk.
//!
//! Takes a group of frames whose payloads are ready; gives each its LSN, sequence number and link,
//! writes them with one write and one sync, and only then tells readers. Owns everything that is
//! written: the last segment, its successor, the control file and the tail page.
//!
//! Invariant: `offset`, `link` and `next_seq` describe bytes that were written completely; they move
//! on only after the write, and `durable_lsn` only after the sync. So a failure that leaves nothing
//! behind (no space) changes nothing, and every other failure ends the writing for good.

use super::batch_encoder::{EncodedPayload, Record};
use super::group_committer::{indeterminate, Alone, Group, GroupOutcome, GroupSink, Receipt};
use super::ready_pool::ReadyPool;
use super::tail::Tail;
use crate::error::{Error, ErrorKind, Result};
use crate::format::control::Control;
use crate::format::frame::{frame_flag, frame_len, frame_type, seq_after, FrameHeader, HEADER_LEN};
use crate::format::segment_header::{SegmentHeader, HEADER_SIZE};
use crate::format::FORMAT_MINOR;
use crate::lsn::{Lsn, Seq};
use crate::vfs::{write_all_at, File, LockGuard, Vfs};
use crate::wal::control_file::ControlFile;
use crate::wal::layout::Layout;
use crate::wal::options::SyncMode;
use crate::wal::recovery::restart::new_salt;
use crate::wal::segment_file::{discard, prepare_recycled, prepare_segment, publish_segment};
use crate::wal::view::LogView;
use std::io;
use std::sync::Arc;

/// The first step by which a segment is prepared beyond what is written: small, so that a log of
/// ten records stays small.
const PREPARE_LEN_MIN: u64 = ZEROS.len() as u64;
/// The greatest step.
const PREPARE_LEN_MAX: u64 = 1 << 20;
/// Zero bytes behind every group, by which a clean end is recognised (FORMAT.md section 14.3).
const END_MARK_LEN: u64 = HEADER_LEN as u64;
/// What prepared space is filled with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where the writer starts: the end of the last segment.
pub(crate) struct WriterStart {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn File>,
    pub(crate) end_lsn: Lsn,
    pub(crate) link: u32,
    pub(crate) next_seq: Seq,
    pub(crate) last_frame_lsn: Lsn,
    pub(crate) checkpoint_lsn: Lsn,
}

/// Counters since the log was opened.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) groups: u64,
    pub(crate) syncs: u64,
    pub(crate) written_bytes: u64,
    pub(crate) rotations: u64,
}

/// See the module. Only ever used by the leader of the group committer.
pub(crate) struct SegmentWriter {
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    view: Arc<LogView>,
    control: ControlFile,
    tail: Tail,
    /// Held as long as the log is open for writing; dropped by close.
    lock: Option<Box<dyn LockGuard>>,
    sync_mode: SyncMode,
    segment_bytes_max: u64,
    /// Payload at which a batch goes on in another frame.
    frame_payload_target: usize,

    header: SegmentHeader,
    file: Arc<dyn File>,
    /// Where the next frame goes.
    offset: u64,
    /// Link that the next frame carries.
    link: u32,
    /// Number that the next record takes.
    next_seq: Seq,
    last_frame_lsn: Lsn,
    durable_lsn: Lsn,
    checkpoint_lsn: Lsn,
    /// Up to this offset the file has its space, reading as zero where nothing was written.
    prepared: u64,
    /// The segment is sealed, and its successor is prepared but not in use yet.
    successor: Option<Successor>,
    ready: ReadyPool,
    /// Batches written since the last sync, and when the first of them was.
    unsynced_batches: u64,
    first_unsynced_ns: u64,
    pub(crate) counters: Counters,
}

impl SegmentWriter {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        view: Arc<LogView>,
        control: ControlFile,
        tail: Tail,
        lock: Box<dyn LockGuard>,
        sync_mode: SyncMode,
        segment_bytes_max: u64,
        frame_payload_target: usize,
        start: WriterStart,
    ) -> Result<SegmentWriter> {
        let prepared = start.file.len().map_err(|error| {
            Error::io(
                "look up",
                &layout.segment(start.header.segment_number),
                error,
            )
        })?;
        let offset = start
            .header
            .offset_of(start.end_lsn)
            .unwrap_or(u64::from(HEADER_SIZE));
        Ok(SegmentWriter {
            vfs,
            layout,
            view,
            control,
            tail,
            lock: Some(lock),
            sync_mode,
            segment_bytes_max,
            frame_payload_target,
            header: start.header,
            file: start.file,
            offset,
            link: start.link,
            next_seq: start.next_seq,
            last_frame_lsn: start.last_frame_lsn,
            durable_lsn: start.end_lsn,
            checkpoint_lsn: start.checkpoint_lsn,
            prepared,
            successor: None,
            ready: ReadyPool::default(),
            unsynced_batches: 0,
            first_unsynced_ns: 0,
            counters: Counters::default(),
        })
    }

    /// Everything below was written.
    pub(crate) fn written_lsn(&self) -> Lsn {
        self.header.lsn_at(self.offset)
    }

    pub(crate) fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    pub(crate) fn last_seq(&self) -> Seq {
        self.next_seq - 1
    }

    pub(crate) fn checkpoint_lsn(&self) -> Lsn {
        self.checkpoint_lsn
    }

    fn path(&self) -> std::path::PathBuf {
        self.layout.segment(self.header.segment_number)
    }

    /// The next batch begins a new segment.
    fn is_full(&self) -> bool {
        self.successor.is_some() || self.offset >= self.segment_bytes_max
    }

    // ---- space -------------------------------------------------------------------------------

    /// Makes sure that the file has space up to `end` and for the end mark behind it, ahead of
    /// need where that can be had. An error of kind FULL leaves everything as it was.
    fn make_room(&mut self, end: u64) -> Result<()> {
        let needed = end + END_MARK_LEN;
        if needed <= self.prepared {
            return Ok(());
        }
        let step = self.prepared.clamp(PREPARE_LEN_MIN, PREPARE_LEN_MAX);
        let ahead = (self.prepared + step).max(needed);
        match self.prepare_up_to(ahead) {
            // The attempt may have got far enough before the disk was full.
            Err(error) if error.kind() == ErrorKind::Full && self.prepared >= needed => Ok(()),
            Err(error) if error.kind() == ErrorKind::Full && ahead > needed => {
                self.prepare_up_to(needed)
            }
            outcome => outcome,
        }
    }

    fn prepare_up_to(&mut self, end: u64) -> Result<()> {
        match self.file.allocate(self.prepared, end - self.prepared) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(Error::io("allocate space in", &self.path(), error)),
        }
        // Zeros are written and not only allocated: a sync of blocks that were never written has
        // to record their new state too, which costs as much again.
        while self.prepared < end {
            let len = usize::try_from(end - self.prepared)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            // Also a write that ends early changes nothing: what it wrote is zeros behind the end.
            write_all_at(self.file.as_ref(), self.prepared, &ZEROS[..len])
                .map_err(|failure| Error::io("write", &self.path(), failure.error))?;
            self.prepared += len as u64;
        }
        Ok(())
    }

    // ---- groups ------------------------------------------------------------------------------

    /// Gives places to frames from `first` on, as many as belong into this segment; returns the
    /// index behind the last.
    fn assign(&self, group: &mut Group, first: usize, time_ns: u64) -> (usize, Run) {
        let mut run = Run {
            offset: self.offset,
            link: self.link,
            next_seq: self.next_seq,
            last_frame_lsn: self.last_frame_lsn,
            records: 0,
            checkpoint_lsn: self.checkpoint_lsn,
        };
        let mut index = first;
        while index < group.frames.len() && (index == first || run.offset < self.segment_bytes_max)
        {
            let frame = &mut group.frames[index];
            let header = FrameHeader {
                payload_crc: frame.payload_crc,
                payload_len: frame.payload_len,
                frame_type: frame.frame_type,
                flags: frame.flags,
                link: run.link,
                salt: self.header.salt,
                lsn: self.header.lsn_at(run.offset),
                first_seq: run.next_seq,
                record_count: frame.record_count,
                durable_lsn: self.durable_lsn,
                time_ns,
            };
            let encoded = header.encode();
            group.bytes[frame.at..frame.at + HEADER_LEN].copy_from_slice(&encoded);
            run.take(&header, &encoded);
            frame.receipt = Receipt {
                first_seq: header.first_seq,
                seq: run.next_seq - 1,
                batch_id: header.lsn,
                end_lsn: self.header.lsn_at(run.offset),
            };
            index += 1;
        }
        (index, run)
    }

    /// Writes one run of a group into the current segment.
    fn write_run(&mut self, group: &mut Group, first: usize) -> RunOutcome {
        let (behind, run) = self.assign(group, first, self.vfs.now_ns());
        if let Err(error) = run.check() {
            return RunOutcome::nothing(error, false);
        }
        if let Err(error) = self.make_room(run.offset) {
            let poison = !leaves_no_trace(&error);
            return RunOutcome::nothing(error, poison);
        }
        let begin = group.frames[first].at;
        let written = match group.frames.get(behind) {
            None => {
                group.bytes.resize(group.bytes.len() + HEADER_LEN, 0);
                write_all_at(self.file.as_ref(), self.offset, &group.bytes[begin..])
            }
            Some(next) => {
                let end = next.at;
                let len = end - begin + HEADER_LEN;
                let mut bytes = Vec::new();
                if bytes.try_reserve_exact(len).is_err() {
                    return RunOutcome::nothing(Error::no_memory("a group", len), false);
                }
                bytes.extend_from_slice(&group.bytes[begin..end]);
                bytes.resize(len, 0);
                write_all_at(self.file.as_ref(), self.offset, &bytes)
            }
        };
        if let Err(failure) = written {
            let error = failure.into_error(&self.path());
            if leaves_no_trace(&error) {
                return RunOutcome::nothing(error, false);
            }
            return RunOutcome::doubtful(behind, error);
        }
        let batches = (behind - first) as u64;
        self.counters.written_bytes += run.offset - self.offset;
        self.advance(&run);
        self.counters.batches += batches;
        if self.unsynced_batches == 0 {
            self.first_unsynced_ns = self.vfs.monotonic_ns();
        }
        self.unsynced_batches += batches;
        if group.sync || self.sync_is_due() {
            if let Err(error) = self.sync_segment() {
                return RunOutcome::doubtful(behind, error);
            }
        }
        self.publish();
        RunOutcome {
            behind,
            doubtful: 0,
            error: None,
            poison: false,
        }
    }

    fn advance(&mut self, run: &Run) {
        self.offset = run.offset;
        self.link = run.link;
        self.next_seq = run.next_seq;
        self.last_frame_lsn = run.last_frame_lsn;
        self.checkpoint_lsn = run.checkpoint_lsn;
        self.counters.records += run.records;
    }

    fn sync_is_due(&self) -> bool {
        match self.sync_mode {
            SyncMode::Every => true,
            SyncMode::Manual => false,
            SyncMode::Interval { batches, millis } => {
                let age = self
                    .vfs
                    .monotonic_ns()
                    .saturating_sub(self.first_unsynced_ns);
                self.unsynced_batches >= u64::from(batches) || age >= u64::from(millis) * 1_000_000
            }
        }
    }

    /// Syncs what was written to the segment. Without it a power cut could take everything since
    /// the sync before.
    fn sync_segment(&mut self) -> Result<()> {
        let end = self.written_lsn();
        if let Err(error) = self.file.sync_data() {
            self.withdraw();
            return Err(Error::sync(&self.path(), error));
        }
        self.counters.syncs += 1;
        self.unsynced_batches = 0;
        self.durable_lsn = end;
        self.tail.promise(end);
        Ok(())
    }

    /// Lets readers see what was written.
    fn publish(&self) {
        let end = self.written_lsn();
        self.view.publish_end(end);
        self.tail.acknowledge(self.header.segment_number, end);
    }

    /// Syncs what is not durable yet.
    pub(crate) fn sync(&mut self) -> Alone<()> {
        let result = if self.durable_lsn < self.written_lsn() {
            self.sync_segment()
        } else {
            Ok(())
        };
        Alone {
            poison: result.is_err(),
            result,
        }
    }

    /// No promise on the disk covers the end of the log yet.
    pub(crate) fn wants_mark(&self) -> bool {
        self.sync_mode != SyncMode::Manual
            && self.successor.is_none()
            && self.control.current.durable_lsn < self.written_lsn()
    }

    /// Promises on the disk that everything written so far is durable: a MARK frame, synced, and
    /// the control file.
    pub(crate) fn mark(&mut self) -> Alone<()> {
        if self.control.current.durable_lsn >= self.written_lsn() {
            return Alone {
                result: Ok(()),
                poison: false,
            };
        }
        let synced = self.sync();
        if synced.result.is_err() {
            return synced;
        }
        if self.successor.is_some() {
            // Sealed, and waiting for room to rotate: nothing may follow, and the header of the
            // successor promises the rest.
            return self.note();
        }
        let empty = EncodedPayload::default();
        match self.write_single(frame_type::MARK, 0, &empty) {
            Ok(()) => {}
            // On a full disk there is simply no MARK.
            Err(WriteFault::Clean(_)) => {
                return Alone {
                    result: Ok(()),
                    poison: false,
                }
            }
            Err(WriteFault::Doubtful(error)) => {
                self.withdraw();
                return Alone {
                    result: Err(error),
                    poison: true,
                };
            }
        }
        let synced = self.sync();
        if synced.result.is_err() {
            return synced;
        }
        self.publish();
        self.note()
    }

    /// Notes in the control file what is durable. On a full disk there is no note: everything that
    /// it says stands in the segments too, or will.
    fn note(&mut self) -> Alone<()> {
        match self.control.write(self.control_now()) {
            Err(error) if !leaves_no_trace(&error) => Alone {
                result: Err(error),
                poison: true,
            },
            Ok(()) | Err(_) => Alone {
                result: Ok(()),
                poison: false,
            },
        }
    }

    /// The control file as it should be now, but for what the caller changes.
    fn control_now(&self) -> Control {
        Control {
            durable_lsn: self.durable_lsn,
            checkpoint_lsn: self.checkpoint_lsn,
            time_ns: self.vfs.now_ns(),
            ..self.control.current
        }
    }

    /// An interval has passed since the first unsynced batch.
    pub(crate) fn wants_sync(&self) -> bool {
        self.unsynced_batches > 0 && self.sync_is_due()
    }

    // ---- large batches -----------------------------------------------------------------------

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
        };
        match self.write_frames(&mut batch, records) {
            Ok(()) => {}
            Err(WriteFault::Clean(error)) => return self.give_up(&batch, error),
            Err(WriteFault::Doubtful(error)) => {
                self.withdraw();
                return Alone {
                    result: Err(indeterminate(error, batch.batch_id)),
                    poison: true,
                };
            }
        }
        self.counters.batches += 1;
        if self.unsynced_batches == 0 {
            self.first_unsynced_ns = self.vfs.monotonic_ns();
        }
        self.unsynced_batches += 1;
        if sync || self.sync_is_due() {
            if let Err(error) = self.sync_segment() {
                return Alone {
                    result: Err(indeterminate(error, batch.batch_id)),
                    poison: true,
                };
            }
        }
        self.publish();
        Alone {
            result: Ok(Receipt {
                first_seq: batch.first_seq,
                seq: self.last_seq(),
                batch_id: batch.batch_id,
                end_lsn: self.written_lsn(),
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
        self.write_single(frame_type::BATCH, flags | begin, payload)?;
        batch.frames_out += 1;
        payload.clear();
        Ok(())
    }

    /// Writes one frame by itself, with the end mark behind it. Room for an ABORT is made too.
    fn write_single(
        &mut self,
        frame_type: u8,
        flags: u8,
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
            time_ns: self.vfs.now_ns(),
        };
        let encoded = header.encode();
        let mut run = Run {
            offset: self.offset,
            link: self.link,
            next_seq: self.next_seq,
            last_frame_lsn: self.last_frame_lsn,
            records: 0,
            checkpoint_lsn: self.checkpoint_lsn,
        };
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
            return Alone {
                result: Err(cause),
                poison: false,
            };
        }
        let records = self.next_seq - batch.first_seq;
        self.next_seq = batch.first_seq;
        let abort = EncodedPayload::default();
        match self.write_single(frame_type::BATCH, frame_flag::ABORT, &abort) {
            Ok(()) => {
                self.counters.records -= records;
                self.publish();
                Alone {
                    result: Err(cause),
                    poison: false,
                }
            }
            Err(WriteFault::Clean(error) | WriteFault::Doubtful(error)) => {
                self.withdraw();
                Alone {
                    result: Err(indeterminate(error, batch.batch_id)),
                    poison: true,
                }
            }
        }
    }

    // ---- rotation ----------------------------------------------------------------------------

    /// Ends this segment and begins the next (FORMAT.md section 14.4). An error of kind FULL leaves
    /// a state from which it can be tried again.
    fn rotate(&mut self) -> std::result::Result<(), RotateFault> {
        if self.successor.is_none() {
            self.seal()?;
        }
        let control_now = self.control_now();
        let Some(successor) = &mut self.successor else {
            return Err(RotateFault::fatal(Error::new(
                ErrorKind::Internal,
                "rotation without a successor",
            )));
        };
        let (header, file) = (successor.header.clone(), Arc::clone(&successor.file));
        let prepared = file
            .len()
            .map_err(|error| {
                Error::io(
                    "look up",
                    &self.layout.segment(header.segment_number),
                    error,
                )
            })
            .map_err(RotateFault::fatal)?;
        if !successor.named {
            publish_segment(self.vfs.as_ref(), &self.layout, header.segment_number)
                .map_err(RotateFault::full_is_clean)?;
            successor.named = true;
        }
        let control = Control {
            last_segment: header.segment_number,
            ..control_now
        };
        self.control
            .write(control)
            .map_err(RotateFault::full_is_clean)?;
        self.successor = None;
        self.offset = u64::from(header.header_size);
        self.link = header.link();
        self.last_frame_lsn = Lsn::NONE;
        self.prepared = prepared;
        self.file = file;
        self.header = header.clone();
        self.counters.rotations += 1;
        self.view.publish_segment(header);
        Ok(())
    }

    /// Prepares the successor, then seals and syncs this segment.
    fn seal(&mut self) -> std::result::Result<(), RotateFault> {
        let now = self.vfs.now_ns();
        let seal = FrameHeader {
            payload_crc: 0,
            payload_len: 0,
            frame_type: frame_type::SEAL,
            flags: 0,
            link: self.link,
            salt: self.header.salt,
            lsn: self.written_lsn(),
            first_seq: self.next_seq,
            record_count: 0,
            durable_lsn: self.durable_lsn,
            time_ns: now,
        };
        let encoded = seal.encode();
        let end = Lsn(seal.lsn.0 + HEADER_LEN as u64);
        self.make_room(self.offset + HEADER_LEN as u64)
            .map_err(RotateFault::full_is_clean)?;
        let header = SegmentHeader {
            format_minor: FORMAT_MINOR,
            compatible: 0,
            header_size: HEADER_SIZE,
            flags: 0,
            segment_number: self.header.segment_number + 1,
            base_lsn: end,
            first_seq: self.next_seq,
            prev_end_lsn: end,
            prev_link: crate::format::get_u32(&encoded, 0),
            salt: new_salt(self.vfs.as_ref()).map_err(RotateFault::fatal)?,
            // True when the file gets its name, since this segment is synced before that.
            durable_lsn: end,
            checkpoint_lsn: self.checkpoint_lsn,
            allocated_size: u64::from(HEADER_SIZE),
            created_ns: now,
            ..self.header.clone()
        };
        let number = header.segment_number;
        let recycled = self.ready.take(self.vfs.as_ref(), &self.layout, number);
        let file = if recycled {
            prepare_recycled(self.vfs.as_ref(), &self.layout, &header)
        } else {
            prepare_segment(self.vfs.as_ref(), &self.layout, &header, |_| Ok(()))
        }
        .map_err(RotateFault::full_is_clean)?;
        let mut bytes = encoded.to_vec();
        bytes.resize(2 * HEADER_LEN, 0);
        if let Err(failure) = write_all_at(self.file.as_ref(), self.offset, &bytes) {
            // The next attempt prepares another; a full disk must not be kept full by this one.
            let _ = self.vfs.unlink(&self.layout.prepared(number));
            return Err(RotateFault::full_is_clean(failure.into_error(&self.path())));
        }
        self.offset += HEADER_LEN as u64;
        self.link = header.prev_link;
        self.last_frame_lsn = seal.lsn;
        self.counters.written_bytes += HEADER_LEN as u64;
        // Before the successor has its name: its header promises that all of this is durable.
        self.sync_segment().map_err(RotateFault::fatal)?;
        self.successor = Some(Successor {
            header,
            file,
            named: false,
        });
        self.publish();
        Ok(())
    }

    // ---- marks and retention -----------------------------------------------------------------

    /// Commits a CHECKPOINT, synced, and notes it in the control file.
    pub(crate) fn checkpoint(&mut self, data: &[u8]) -> Alone<Receipt> {
        let mut payload = EncodedPayload::default();
        if payload.bytes.try_reserve_exact(data.len()).is_err() {
            return Alone {
                result: Err(Error::no_memory("a checkpoint", data.len())),
                poison: false,
            };
        }
        payload.bytes.extend_from_slice(data);
        payload.seal();
        let mut group = Group::default();
        if let Err(error) = group.push(&payload, frame_type::CHECKPOINT, 0, true) {
            return Alone {
                result: Err(error),
                poison: false,
            };
        }
        let outcome = self.write_group(&mut group);
        let receipt = group.frames.first().map(|f| f.receipt).unwrap_or_default();
        if let Some(error) = outcome.error {
            let error = if outcome.doubtful > 0 {
                indeterminate(error, receipt.batch_id)
            } else {
                error
            };
            return Alone {
                result: Err(error),
                poison: outcome.poison,
            };
        }
        let noted = self.note();
        Alone {
            poison: noted.poison,
            // It is committed, but the caller was not told so: that is for reopening to say.
            result: noted
                .result
                .map(|()| receipt)
                .map_err(|error| indeterminate(error, receipt.batch_id)),
        }
    }

    /// Makes records up to `up_to_seq` never come back, and deletes segments that hold nothing
    /// else (FORMAT.md section 14.5).
    pub(crate) fn truncate(&mut self, up_to_seq: Seq) -> Alone<()> {
        if up_to_seq > self.last_seq() {
            return Alone {
                result: Err(Error::invalid(format!(
                    "truncation up to {up_to_seq}, the log ends with {}",
                    self.last_seq()
                ))),
                poison: false,
            };
        }
        if up_to_seq <= self.view.truncated_seq() {
            return Alone {
                result: Ok(()),
                poison: false,
            };
        }
        // The note must not be durable before the records that it counts: after a power cut their
        // numbers would be given again, and the new records would be taken for truncated ones.
        let synced = self.sync();
        if synced.result.is_err() {
            return synced;
        }
        // An attempt that found the disk full may have noted more than it did.
        let up_to_seq = up_to_seq.max(self.control.current.truncated_seq);
        let segments = self.view.segments();
        let first_segment = segments
            .windows(2)
            .find(|pair| pair[1].first_seq - 1 > up_to_seq)
            .map_or(self.header.segment_number, |pair| pair[0].segment_number);
        let control = Control {
            first_segment,
            truncated_seq: up_to_seq,
            ..self.control_now()
        };
        if let Err(error) = self.control.write_both(control) {
            return Alone {
                poison: !leaves_no_trace(&error),
                result: Err(error),
            };
        }
        self.view.publish_truncation(up_to_seq, first_segment);
        let retired: Vec<u64> = segments
            .iter()
            .map(|header| header.segment_number)
            .filter(|&number| number < first_segment)
            .collect();
        // What can't be deleted now is deleted when the log is opened next: it is no part of the
        // log any more.
        Alone {
            result: self.retire(&retired),
            poison: false,
        }
    }

    /// Takes retired segments out of the log, oldest first: a few are kept for use again, the rest
    /// is deleted.
    fn retire(&mut self, numbers: &[u64]) -> Result<()> {
        let (vfs, layout) = (self.vfs.as_ref(), &self.layout);
        let rest: Vec<u64> = numbers
            .iter()
            .copied()
            .filter(|&number| !self.ready.keep(vfs, layout, number))
            .collect();
        if rest.len() < numbers.len() {
            // Before a kept file is used again under another name: a power cut must not bring back
            // the old name with the new bytes.
            if let Err(error) = vfs.sync_dir(layout.dir()) {
                self.ready.forget();
                return Err(Error::sync(layout.dir(), error));
            }
        }
        retire(vfs, layout, &rest)
    }

    /// Ends the writing: syncs, notes the clean end, releases the lock. `poisoned` is the failure
    /// after which no clean end may be claimed.
    pub(crate) fn close(&mut self, poisoned: Option<&Error>) -> Result<()> {
        let result = match poisoned {
            Some(error) => Err(error.duplicate()),
            None => self.close_cleanly(),
        };
        self.lock = None;
        result
    }

    fn close_cleanly(&mut self) -> Result<()> {
        self.sync().result?;
        let end_lsn = self.written_lsn();
        let control = Control {
            closed: true,
            end_lsn,
            next_seq: self.next_seq,
            last_frame_lsn: self.last_frame_lsn,
            end_link: self.link,
            ..self.control_now()
        };
        self.control.write(control)
    }

    /// After poisoning, readers go on to what is durable and no further.
    fn withdraw(&self) {
        if self.durable_lsn < self.written_lsn() {
            self.view.publish_end(self.durable_lsn);
        }
    }
}

/// Deletes segments, oldest first, and makes that durable.
pub(crate) fn retire(vfs: &dyn Vfs, layout: &Layout, numbers: &[u64]) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    for &number in numbers {
        discard(vfs, &layout.segment(number))?;
    }
    // Without this a power cut brings the files back, which costs space until the next open.
    vfs.sync_dir(layout.dir())
        .map_err(|error| Error::sync(layout.dir(), error))
}

impl GroupSink for SegmentWriter {
    fn write_group(&mut self, group: &mut Group) -> GroupOutcome {
        let mut outcome = GroupOutcome {
            good: 0,
            doubtful: 0,
            error: None,
            poison: false,
        };
        while outcome.good < group.frames.len() {
            if self.is_full() {
                if let Err(fault) = self.rotate() {
                    outcome.error = Some(fault.error);
                    outcome.poison = fault.poison;
                    break;
                }
            }
            let run = self.write_run(group, outcome.good);
            if run.error.is_some() {
                outcome.doubtful = run.doubtful.saturating_sub(outcome.good);
                outcome.error = run.error;
                outcome.poison = run.poison;
                break;
            }
            outcome.good = run.behind;
        }
        self.counters.groups += 1;
        if outcome.poison {
            self.withdraw();
        }
        outcome
    }
}

/// State after frames that are being written.
struct Run {
    offset: u64,
    link: u32,
    next_seq: Seq,
    last_frame_lsn: Lsn,
    records: u64,
    checkpoint_lsn: Lsn,
}

impl Run {
    fn take(&mut self, header: &FrameHeader, encoded: &[u8; HEADER_LEN]) {
        self.offset += header.frame_len();
        self.link = crate::format::get_u32(encoded, 0);
        self.next_seq = seq_after(header).unwrap_or(Seq::MAX);
        self.last_frame_lsn = header.lsn;
        self.records += u64::from(header.record_count);
        if header.frame_type == frame_type::CHECKPOINT {
            self.checkpoint_lsn = header.lsn;
        }
    }

    /// Whether there are sequence numbers left for these frames. (A log of this library's own
    /// making does not get there; a made-up one may begin near the end.)
    fn check(&self) -> Result<()> {
        if self.next_seq < Seq::MAX {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "the sequence numbers of this log are used up",
        ))
    }
}

/// How far a run of a group got.
struct RunOutcome {
    /// Index behind the last frame that is committed.
    behind: usize,
    /// Index behind the last frame that may or may not be on the disk; 0 if there is none.
    doubtful: usize,
    error: Option<Error>,
    poison: bool,
}

impl RunOutcome {
    fn nothing(error: Error, poison: bool) -> RunOutcome {
        RunOutcome {
            behind: 0,
            doubtful: 0,
            error: Some(error),
            poison,
        }
    }

    fn doubtful(behind: usize, error: Error) -> RunOutcome {
        RunOutcome {
            behind: 0,
            doubtful: behind,
            error: Some(error),
            poison: true,
        }
    }
}

struct LargeBatch {
    batch_id: Lsn,
    first_seq: Seq,
    frames_out: u32,
}

/// A frame that was not written.
enum WriteFault {
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

/// Whether everything is as it was before the call that failed: no space, no memory.
fn leaves_no_trace(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full | ErrorKind::NoMemory)
}

/// The next segment, prepared.
struct Successor {
    header: SegmentHeader,
    file: Arc<dyn File>,
    /// It has its name, durably; only the control file does not say so yet.
    named: bool,
}

struct RotateFault {
    error: Error,
    poison: bool,
}

impl RotateFault {
    fn fatal(error: Error) -> RotateFault {
        RotateFault {
            error,
            poison: true,
        }
    }

    fn full_is_clean(error: Error) -> RotateFault {
        RotateFault {
            poison: !leaves_no_trace(&error),
            error,
        }
    }

    fn into_alone<T>(self) -> Alone<T> {
        Alone {
            result: Err(self.error),
            poison: self.poison,
        }
    }
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("segment", &self.header.segment_number)
            .field("offset", &self.offset)
            .field("durable_lsn", &self.durable_lsn)
            .finish_non_exhaustive()
    }
}
