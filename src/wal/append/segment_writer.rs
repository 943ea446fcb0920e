//! Step 3 of 3 of appending: frames get their places and reach the disk.
//!
//! Takes a group of frames whose payloads are ready; gives each its LSN, sequence number and link,
//! writes them with one write and one sync, and only then tells readers. Owns everything that is
//! written: the last segment, its successor, the control file and the tail page.
//!
//! Invariant: `offset`, `link` and `next_seq` describe bytes that were written completely; they move
//! on only after the write, and `durable_lsn` only after the sync. So a failure that leaves nothing
//! behind (no space) changes nothing, and every other failure ends the writing for good.

mod flight;
mod large_batch;
mod retention;
mod rotation;
mod space;

pub(crate) use flight::Runway;
use flight::SegmentFlight;
pub(crate) use retention::retire;
use rotation::Successor;
pub(crate) use space::LARGE_LEN;

use super::group_committer::{Alone, Foretold, Group, GroupOutcome, GroupSink, Receipt};
use super::ready_pool::ReadyPool;
use super::room::Room;
use super::tail::Tail;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_type, seq_after, FrameHeader, HEADER_LEN};
use crate::format::segment_header::{SegmentHeader, HEADER_SIZE};
use crate::lsn::{Lsn, Seq};
use crate::vfs::{write_all_at, File, LockGuard, Vfs, Window, WriteFailure};
use crate::wal::control_file::ControlFile;
use crate::wal::layout::Layout;
use crate::wal::options::{SyncMode, WalOptions};
use crate::wal::view::LogView;
use std::sync::Arc;

/// Zero bytes behind every group, by which a clean end is recognised (FORMAT.md section 14.3).
const END_MARK_LEN: u64 = HEADER_LEN as u64;

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
    /// The space ahead, which the housekeeper prepares too.
    room: Arc<Room>,
    /// Below this the file has its space: what `room` said when it was asked last.
    prepared: u64,
    /// Where the background is asked for more.
    ask_at: u64,
    /// What is overwritten stays where it is on the disk.
    in_place: bool,
    /// Small groups are stored into windows of the room, as long as there are such.
    mapped: bool,
    /// The window in which the last one ended.
    window: Option<Window>,
    /// The segment is sealed, and its successor is prepared but not in use yet.
    successor: Option<Successor>,
    ready: ReadyPool,
    /// Groups may be in flight; `None` if each is to be written alone.
    runway: Option<Runway>,
    /// Batches written since the last sync, and when the first of them was, which only intervals need.
    unsynced_batches: u64,
    first_unsynced_ns: u64,
    /// Time of the last frame: a wall clock that was set back must not make a later frame older.
    last_time_ns: u64,
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
        options: &WalOptions,
        runway: Option<Runway>,
        start: WriterStart,
    ) -> Result<SegmentWriter> {
        let offset = start
            .header
            .offset_of(start.end_lsn)
            .unwrap_or(u64::from(HEADER_SIZE));
        let path = layout.segment(start.header.segment_number);
        let in_place = start.file.overwrites_in_place();
        // Elsewhere a store could need space that is not there, whatever was allocated.
        let mapped = options.mapped_appends && in_place;
        let len = start
            .file
            .len()
            .map_err(|error| Error::io("look up", &path, error))?;
        let mapped_from = mapped.then_some(offset);
        let room = Room::new(Arc::clone(&start.file), path, len, mapped_from);
        Ok(SegmentWriter {
            vfs,
            layout,
            view,
            control,
            tail,
            lock: Some(lock),
            sync_mode: options.sync_mode,
            segment_bytes_max: options.segment_bytes_max,
            frame_payload_target: options.frame_payload_target,
            header: start.header,
            in_place,
            mapped,
            window: None,
            file: start.file,
            offset,
            link: start.link,
            next_seq: start.next_seq,
            last_frame_lsn: start.last_frame_lsn,
            durable_lsn: start.end_lsn,
            checkpoint_lsn: start.checkpoint_lsn,
            prepared: room.prepared(),
            room: Arc::new(room),
            ask_at: 0,
            successor: None,
            ready: ReadyPool::default(),
            runway,
            unsynced_batches: 0,
            first_unsynced_ns: 0,
            last_time_ns: 0,
            counters: Counters::default(),
        })
    }

    /// Everything below was written.
    pub(crate) fn written_lsn(&self) -> Lsn {
        self.header.lsn_at(self.offset)
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

    // ---- groups ------------------------------------------------------------------------------

    /// A run that begins where the next frame goes.
    fn run_here(&self) -> Run {
        Run {
            offset: self.offset,
            link: self.link,
            next_seq: self.next_seq,
            last_frame_lsn: self.last_frame_lsn,
            records: 0,
            checkpoint_lsn: self.checkpoint_lsn,
        }
    }

    /// Gives places to frames from `first` on, as many as belong into this segment; returns the
    /// index behind the last.
    fn assign(&self, group: &mut Group, first: usize, time_ns: u64) -> (usize, Run) {
        let mut run = self.run_here();
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
                time_ns,
            };
            index += 1;
        }
        (index, run)
    }

    /// Writes one run of a group into the current segment.
    fn write_run(&mut self, group: &mut Group, first: usize, crowded: bool) -> RunOutcome {
        let time_ns = self.time_ns();
        let (behind, mut run) = self.assign(group, first, time_ns);
        if let Err(error) = run.check() {
            return RunOutcome::nothing(error, false);
        }
        if crowded && self.runway.is_some() && behind == group.frames.len() {
            // So that the groups that follow at once may be in flight together.
            self.fill_block(group, &mut run, time_ns);
        }
        if let Err(error) = self.make_room(run.offset) {
            let poison = !leaves_no_trace(&error);
            return RunOutcome::nothing(error, poison);
        }
        let begin = group.frames[first].at;
        let written = match group.frames.get(behind) {
            None => {
                group.bytes.resize(group.bytes.len() + HEADER_LEN, 0);
                self.put(&group.bytes[begin..], group.sync)
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
                self.put(&bytes, group.sync)
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
        self.count_unsynced(batches);
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

    /// Writes `bytes` behind what is written: into windows, and what no window shows by calls. What is
    /// synced at once goes by calls alone: the kernel knows of a call which blocks it changed, of a
    /// store only which pages, and writes those together that it holds together.
    fn put(&mut self, bytes: &[u8], synced: bool) -> std::result::Result<(), WriteFailure> {
        let mut stored = 0;
        while stored < bytes.len() && self.mapped && !synced {
            let offset = self.offset + stored as u64;
            let Some(window) = self.window_at(offset) else {
                break;
            };
            let left = usize::try_from(window.range().end - offset).unwrap_or(usize::MAX);
            let now = &bytes[stored..][..left.min(bytes.len() - stored)];
            window.store(offset, now);
            stored += now.len();
        }
        let stored_len = stored as u64;
        let offset = self.offset + stored_len;
        let written = write_all_at(self.file.as_ref(), offset, &bytes[stored..]);
        written.map_err(|failure| WriteFailure {
            // What was stored is out.
            written: failure.written + stored_len,
            ..failure
        })
    }

    /// The window for the byte at `offset`, which has its space.
    fn window_at(&mut self, offset: u64) -> Option<&mut Window> {
        let here = |window: &Window| window.range().contains(&offset);
        if !self.window.as_ref().is_some_and(here) {
            self.window = self.room.take_window(offset);
            self.mapped = self.window.is_some() || self.room.is_mapped();
        }
        self.window.as_mut()
    }

    /// The time for the next frame: the wall clock, but never before that of an earlier one.
    fn time_ns(&mut self) -> u64 {
        self.last_time_ns = self.last_time_ns.max(self.vfs.now_ns());
        self.last_time_ns
    }

    /// Later frames are not dated before `time_ns`.
    pub(crate) fn raise_time(&mut self, time_ns: u64) {
        self.last_time_ns = self.last_time_ns.max(time_ns);
    }

    fn advance(&mut self, run: &Run) {
        self.offset = run.offset;
        self.link = run.link;
        self.next_seq = run.next_seq;
        self.last_frame_lsn = run.last_frame_lsn;
        self.checkpoint_lsn = run.checkpoint_lsn;
        self.counters.records += run.records;
    }

    /// So many batches more are written and not synced. Most modes need no clock for that.
    fn count_unsynced(&mut self, batches: u64) {
        if self.unsynced_batches == 0 && matches!(self.sync_mode, SyncMode::Interval { .. }) {
            self.first_unsynced_ns = self.vfs.monotonic_ns();
        }
        self.unsynced_batches += batches;
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

    /// An interval has passed since the first unsynced batch.
    pub(crate) fn wants_sync(&self) -> bool {
        self.unsynced_batches > 0 && self.sync_is_due()
    }

    /// After poisoning, readers go on to what is durable and no further.
    fn withdraw(&mut self) {
        self.window = None;
        self.room.close_windows();
        if self.durable_lsn < self.written_lsn() {
            self.view.publish_end(self.durable_lsn);
        }
    }
}

impl GroupSink for SegmentWriter {
    type Flight = SegmentFlight;

    fn take_off(&mut self, group: &mut Group, crowded: bool) -> Option<SegmentFlight> {
        if crowded {
            return self.launch(group);
        }
        None
    }

    fn land(&mut self, flight: SegmentFlight) {
        self.touch_down(flight);
    }

    fn crash(&mut self) {
        self.withdraw();
    }

    fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    fn foretold(&self) -> Foretold {
        Foretold {
            next_seq: self.next_seq,
            lsn: self.written_lsn(),
            offset: match self.successor {
                Some(_) => u64::from(HEADER_SIZE),
                None => self.offset,
            },
            segment_bytes_max: self.segment_bytes_max,
            header_size: u64::from(HEADER_SIZE),
        }
    }

    fn write_group(&mut self, group: &mut Group, crowded: bool) -> GroupOutcome {
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
            let run = self.write_run(group, outcome.good, crowded);
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

/// Whether everything is as it was before the call that failed: no space, no memory.
fn leaves_no_trace(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Full | ErrorKind::NoMemory)
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
