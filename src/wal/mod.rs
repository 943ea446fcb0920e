//! The log: opening, appending, reading, checkpoint and truncation.
//!
//! [`Wal`] is the handle. It may be shared by threads; everything behind it is in two halves that
//! meet only in the bytes and in [`view`]: [`append`] writes, [`replay`] reads. [`recovery`] decides,
//! when a log is opened, what is there.

mod append;
mod control_file;
mod housekeeper;
mod layout;
mod open;
mod options;
mod recovery;
mod replay;
mod report;
mod segment_file;
mod segments;
mod survey;
mod view;

pub use append::batch_encoder::{BatchSource, PackedBatch, Record};
pub use append::group::Receipt;
pub use options::{
    OpenHow, RecoveryPolicy, SyncMode, WalOptions, BUFFER_BYTES_HIGHEST, GROUPS_IN_FLIGHT_HIGHEST,
    SEGMENT_BYTES_MAX_DEFAULT, SEGMENT_BYTES_MAX_HIGHEST, SEGMENT_BYTES_MAX_LOWEST,
};
pub use replay::cursor::{Cursor, Entry, EntryKind, Page};
pub use report::{ControlState, EvidenceSource, RecoveryReport, RepairReport, Stat, Verdict};

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{frame_flag, frame_type, PAYLOAD_LEN_MAX};
use crate::lsn::{Lsn, Seq};
use crate::vfs::bell::Bell;
use crate::vfs::os::RealDisk;
use crate::vfs::Vfs;
pub(crate) use append::batch_encoder::EncodedPayload;
use append::batch_encoder::{check_batch, Author};
use append::group_committer::{Alone, GroupCommitter, Handed};
use append::segment_writer::{SegmentWriter, LARGE_LEN};
use housekeeper::Charge;
pub(crate) use layout::segment_name as segment_file_name;
use layout::Layout;
use once_cell::sync::OnceCell;
pub(crate) use replay::cursor::RecordPlace;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use view::LogView;

/// What a call asks for beyond the mode in which the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// What the mode says.
    AsOpened,
    /// Durable before return, whatever the mode.
    Durable,
}

/// The newest CHECKPOINT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Its sequence number.
    pub seq: Seq,
    /// Its place.
    pub lsn: Lsn,
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// The application's bytes.
    pub data: Vec<u8>,
}

/// What became of a batch, settled after reopening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum BatchStatus {
    /// It is not in the log and never will be.
    Absent = 0,
    /// It is committed.
    Committed = 1,
    /// It lies in a part of the log that was truncated.
    Truncated = 2,
}

thread_local! {
    /// Where a thread encodes its batches, so that appending allocates nothing in steady state.
    static SCRATCH: RefCell<EncodedPayload> = RefCell::default();
}

/// A scratch buffer larger than this is given back after use.
const SCRATCH_LEN_MAX: usize = 1 << 20;

/// An open log. Shared by threads; dropping it closes it, without telling of errors.
#[derive(Debug)]
pub struct Wal {
    view: Arc<LogView>,
    /// `None` for a handle that only reads.
    committer: Option<Arc<GroupCommitter<SegmentWriter>>>,
    /// What is to be done while nobody calls; `None` where everything must happen in calls.
    charge: Option<Arc<Charge>>,
    report: RecoveryReport,
    log_id: [u8; 16],
    application_id: u32,
    /// Payload at which a batch goes on in another frame.
    frame_payload_target: usize,
    /// Rung when tickets are settled, once somebody asked for its descriptor.
    bell: OnceCell<Arc<Bell>>,
    fork_count: u64,
}

impl Wal {
    /// Opens the log in directory `path`.
    ///
    /// Errors: `NotFound`, `Exists` (see [`OpenHow`]), `Busy` (the message names the holder),
    /// `Corrupt`, `Unclean` (strict policy), `NotALog`, `Newer`, `Full`, `Io`, `InvalidArgument`.
    pub fn open(path: impl AsRef<Path>, options: &WalOptions) -> Result<Wal> {
        Wal::open_on(Arc::new(RealDisk::new()), path, options)
    }

    /// Opens a log on another [`Vfs`], for example a simulated disk.
    pub fn open_on(vfs: Arc<dyn Vfs>, path: impl AsRef<Path>, options: &WalOptions) -> Result<Wal> {
        options.check()?;
        let layout = Layout::new(path.as_ref());
        if layout.dir().as_os_str().is_empty() {
            return Err(Error::invalid("the path of the log is empty"));
        }
        open::open(vfs, layout, options)
    }

    /// Walks the whole log, every segment and every frame, and reports what it finds. Reads only;
    /// takes no lock, so a log that is being written looks torn.
    pub fn verify(path: impl AsRef<Path>) -> Result<RecoveryReport> {
        Wal::verify_on(&RealDisk::new(), path, &mut |_, _| true)
    }

    /// Like [`verify`](Self::verify), on another [`Vfs`]. `progress` is told how many segments were
    /// walked, and of how many; if it returns false, the answer is the error `Stopped`.
    pub fn verify_on(
        vfs: &dyn Vfs,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<RecoveryReport> {
        open::verify(vfs, &Layout::new(path.as_ref()), progress)
    }

    /// Makes a log that is refused as corrupt usable again: cuts it at the last batch committed
    /// before the damage. Everything from there on is dropped from the log, acknowledged or not;
    /// first every segment concerned is copied into a directory `dropped-N` inside the log's. The
    /// numbers of dropped records are given again. A log that is not corrupt is left alone.
    ///
    /// What lies behind the damage can be read before, with the policy
    /// [`Salvage`](RecoveryPolicy::Salvage).
    pub fn repair(path: impl AsRef<Path>) -> Result<RepairReport> {
        Wal::repair_on(&RealDisk::new(), path, &mut |_, _| true)
    }

    /// Like [`repair`](Self::repair), on another [`Vfs`]; `progress` as for
    /// [`verify_on`](Self::verify_on).
    pub fn repair_on(
        vfs: &dyn Vfs,
        path: impl AsRef<Path>,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<RepairReport> {
        open::repair_log(vfs, &Layout::new(path.as_ref()), progress)
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        if self.view.vfs.fork_count() == self.fork_count {
            return Ok(());
        }
        Err(forked())
    }

    /// By which a child made by `fork` is told from the process that opened the log.
    pub(crate) fn fork_count(&self) -> u64 {
        self.fork_count
    }

    fn committer(&self) -> Result<&GroupCommitter<SegmentWriter>> {
        self.check_process()?;
        self.committer
            .as_deref()
            .ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the log was opened for reading only"))
    }

    // ---- appending ---------------------------------------------------------------------------

    /// Commits one record as a batch of its own; it takes one sequence number.
    ///
    /// Errors: `InvalidArgument`, `TooLarge`, `Full`, `NoMemory` (nothing was written, the handle
    /// stays usable); `Indeterminate` (reopening tells whether it is there; the place of the error
    /// has the batch id); `Poisoned`, `Closed`, `ReadOnly`, `Forked`.
    pub fn append(&self, record: Record<'_>, durability: Durability) -> Result<Receipt> {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT | frame_flag::SOLO;
        let one = std::iter::once(record);
        self.append_records(|| one.clone(), flags, durability, Author::Application)
    }

    /// Commits records together: all or nothing, whatever their number and size. The batch takes
    /// one sequence number per record and one for its COMMIT. Errors as for
    /// [`append`](Self::append), and `EmptyBatch`.
    pub fn append_batch(&self, records: &[Record<'_>], durability: Durability) -> Result<Receipt> {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        self.append_records(
            || records.iter().copied(),
            flags,
            durability,
            Author::Application,
        )
    }

    /// Like [`append_batch`](Self::append_batch), from one buffer.
    pub fn append_packed(
        &self,
        batch: &PackedBatch<'_>,
        durability: Durability,
    ) -> Result<Receipt> {
        batch.check()?;
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        self.append_records(|| batch.records(), flags, durability, Author::Application)
    }

    /// Like [`append_batch`](Self::append_batch), from any source of records.
    pub fn append_source(
        &self,
        source: &(impl BatchSource + ?Sized),
        durability: Durability,
    ) -> Result<Receipt> {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        self.append_records(
            || (0..source.count()).map(|index| source.record(index)),
            flags,
            durability,
            Author::Application,
        )
    }

    fn append_records<'a, I>(
        &self,
        records: impl Fn() -> I,
        flags: u8,
        durability: Durability,
        author: Author,
    ) -> Result<Receipt>
    where
        I: Iterator<Item = Record<'a>>,
    {
        let committer = self.committer()?;
        let total = check_batch(records(), author)?;
        let sync = durability == Durability::Durable;
        // A single record needs no frame but its own, whatever its size.
        let solo = flags & frame_flag::SOLO;
        let fits_one_frame = total <= self.frame_payload_target as u64 || solo != 0;
        let result = if fits_one_frame && total < LARGE_LEN {
            commit_one_frame(committer, records(), total, flags, sync)
        } else {
            with_scratch(|scratch| {
                let piece = scratch.memory();
                committer.alone(|writer| writer.append_large(records(), total, solo, sync, piece))
            })
        };
        if let Some(charge) = &self.charge {
            charge.stir(self.fork_count);
        }
        result
    }

    /// Appends records that are to be committed together, and does not wait: many batches of one
    /// thread can be on their way at once. They stand in the log in the order of their tickets,
    /// which count from 1, and [`wait_for`](Self::wait_for) tells what became of them. A batch
    /// must fit one frame: 4 MiB of records, less 12 bytes for each.
    ///
    /// Errors: as for [`append_batch`](Self::append_batch), but only of what is known at once;
    /// `Busy` if nobody asked for the last 65,536 batches.
    pub fn append_later(
        &self,
        source: &(impl BatchSource + ?Sized),
        durability: Durability,
    ) -> Result<u64> {
        self.append_records_later(
            || (0..source.count()).map(|index| source.record(index)),
            durability,
        )
    }

    /// Like [`append_later`](Self::append_later), from one buffer.
    pub fn append_packed_later(
        &self,
        batch: &PackedBatch<'_>,
        durability: Durability,
    ) -> Result<u64> {
        batch.check()?;
        self.append_records_later(|| batch.records(), durability)
    }

    fn append_records_later<'a, I: Iterator<Item = Record<'a>>>(
        &self,
        records: impl Fn() -> I,
        durability: Durability,
    ) -> Result<u64> {
        let committer = self.committer()?;
        let total = check_batch(records(), Author::Application)?;
        if total > self.frame_payload_target as u64 {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a batch of {total} bytes to be appended without waiting, at most {} are allowed",
                    self.frame_payload_target
                ),
            ));
        }
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        let sync = durability == Durability::Durable;
        let ticket = with_payload(records(), total, |payload| {
            committer.commit_later(payload, frame_type::BATCH, flags, sync)
        });
        if let Some(charge) = &self.charge {
            charge.stir(self.fork_count);
        }
        ticket
    }

    /// Waits until the batches with tickets up to this one are settled, as far as nobody was told
    /// of them before: the receipt of this one, if all are committed (durable where the mode or
    /// the append says so). `None`: it is not so within `timeout`, which is without end if absent.
    ///
    /// Errors: that of the first batch which is not committed, which is then told; those behind it
    /// can be asked for again. `InvalidArgument`: there is no such ticket, or it was told.
    pub fn wait_for(&self, ticket: u64, timeout: Option<Duration>) -> Result<Option<Receipt>> {
        self.committer()?.wait_for_ticket(ticket, timeout)
    }

    /// Waits until everything below `lsn` is durable (the `end_lsn` of a receipt, for example);
    /// false if it is not within `timeout`, which is without end if absent. Makes nothing durable
    /// by itself: in the modes `Interval` and `Manual` that is up to others.
    ///
    /// Errors: `Poisoned`, `Closed`, `ReadOnly`, `Forked`.
    pub fn wait_durable(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<bool> {
        self.committer()?.wait_until_durable(lsn, timeout)
    }

    /// How many batches were appended without waiting that nobody was told of, and how many of
    /// them are settled.
    pub fn tickets(&self) -> Result<(u64, u64)> {
        Ok(self.committer()?.tickets())
    }

    /// A file descriptor that is readable when batches were settled since this was called last:
    /// for `poll` and the like. It belongs to the handle.
    ///
    /// Errors: `Io`, `ReadOnly`, `Forked`.
    pub fn ticket_fd(&self) -> Result<i32> {
        let committer = self.committer()?;
        if let Some(bell) = self.bell.get() {
            bell.silence();
            return Ok(bell.fd());
        }
        let new = Bell::new().map_err(|error| Error::io("make", Path::new("eventfd"), error))?;
        let bell = Arc::clone(self.bell.get_or_init(|| Arc::new(new)));
        let fd = bell.fd();
        committer.on_settled(Box::new(move || bell.ring()));
        Ok(fd)
    }

    /// Commits batches of the event store, each in a frame of its own, in one group. Tells the
    /// result of each, in order; those that fail are the last ones. An error: nothing was written.
    pub(crate) fn append_encoded(
        &self,
        payloads: &[EncodedPayload],
        durability: Durability,
        tell: impl FnMut(Result<Receipt>),
    ) -> Result<()> {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        let sync = durability == Durability::Durable;
        let committer = self.committer()?;
        let lent = payloads.iter().map(Handed::Lent);
        let result = committer.commit_each(lent, frame_type::BATCH, flags, sync, tell);
        if let Some(charge) = &self.charge {
            charge.stir(self.fork_count);
        }
        result
    }

    /// Commits one batch of the event store that may need several frames.
    pub(crate) fn append_events<'a, I: Iterator<Item = Record<'a>>>(
        &self,
        records: impl Fn() -> I,
        durability: Durability,
    ) -> Result<Receipt> {
        let flags = frame_flag::BEGIN | frame_flag::COMMIT;
        self.append_records(records, flags, durability, Author::EventStore)
    }

    /// Payload beyond which a batch needs several frames.
    pub(crate) fn frame_payload_target(&self) -> usize {
        self.frame_payload_target
    }

    /// Frames appended from now on are not dated before `time_ns`.
    pub(crate) fn raise_time(&self, time_ns: u64) -> Result<()> {
        self.committer()?.alone(|writer| {
            writer.raise_time(time_ns);
            Alone::done(())
        })
    }

    /// What the log is read through.
    pub(crate) fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// Why nothing more can be appended, if that is so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match &self.committer {
            Some(committer) => committer.refusal(),
            None => None,
        }
    }

    /// The log's id.
    pub(crate) fn log_id(&self) -> &[u8; 16] {
        &self.log_id
    }

    /// Promises on the disk that what was appended is durable, as the library does by itself when
    /// a log has been idle for a moment: writes a MARK and notes it in the control file. Does
    /// nothing if such a promise is there already.
    pub fn mark(&self) -> Result<()> {
        self.committer()?.alone(SegmentWriter::mark)
    }

    /// Prepares now the space that the log has asked for, as the library does by itself in the
    /// background. Meant for tests of file systems that have none.
    #[doc(hidden)]
    pub fn prepare(&self) -> Result<()> {
        let room = self
            .committer()?
            .inspect(|writer| Arc::clone(writer.room()));
        room.prepare(self.view.vfs.as_ref(), &self.view.layout);
        Ok(())
    }

    /// Makes everything that was appended before durable.
    pub fn sync(&self) -> Result<()> {
        self.committer()?.alone(SegmentWriter::sync)
    }

    /// Commits a mark with the application's bytes, durable before return: "nothing before this is
    /// needed". Truncation is a call of its own.
    pub fn checkpoint(&self, data: &[u8]) -> Result<Receipt> {
        let committer = self.committer()?;
        if data.len() > PAYLOAD_LEN_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "checkpoint of {} bytes, at most {PAYLOAD_LEN_MAX} are allowed",
                    data.len()
                ),
            ));
        }
        committer.alone(|writer| writer.checkpoint(data))
    }

    /// Makes records with a number up to `up_to_seq` never come back, and deletes the segments
    /// that hold nothing else. The number that an append returned keeps batches whole; a number
    /// inside a batch cuts that batch.
    pub fn truncate(&self, up_to_seq: Seq) -> Result<()> {
        self.committer()?.alone(|writer| writer.truncate(up_to_seq))
    }

    // ---- reading -----------------------------------------------------------------------------

    /// A cursor over committed records with a number greater than `after_seq` (and than what was
    /// truncated).
    pub fn cursor(&self, after_seq: Seq) -> Result<Cursor> {
        self.check_readable()?;
        self.cursor_of_view(after_seq)
    }

    /// The same for readers that outlive the handle: it may have been closed.
    pub(crate) fn cursor_of_view(&self, after_seq: Seq) -> Result<Cursor> {
        self.view.refresh_retention()?;
        Ok(Cursor::new(Arc::clone(&self.view), after_seq, false))
    }

    /// A cursor that also shows COMMITs, CHECKPOINTs, ABORTs, records of batches that were not
    /// committed, and the place where a log is torn.
    pub fn raw_cursor(&self, after_seq: Seq) -> Result<Cursor> {
        self.check_readable()?;
        self.view.refresh_retention()?;
        Ok(Cursor::new(Arc::clone(&self.view), after_seq, true))
    }

    pub(crate) fn check_readable(&self) -> Result<()> {
        self.check_process()?;
        match self
            .committer
            .as_ref()
            .and_then(|committer| committer.refusal())
        {
            Some(error) if error.kind() == ErrorKind::Closed => Err(error),
            _ => Ok(()),
        }
    }

    /// The newest CHECKPOINT that is still in the log.
    pub fn last_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.check_readable()?;
        open::last_checkpoint(&self.view, self.checkpoint_hint())
    }

    fn checkpoint_hint(&self) -> Lsn {
        match &self.committer {
            Some(committer) => committer.inspect(SegmentWriter::checkpoint_lsn),
            None => Lsn(u64::MAX),
        }
    }

    /// Whether the batch that an earlier handle reported as indeterminate is in the log.
    pub fn batch_status(&self, batch_id: Lsn) -> Result<BatchStatus> {
        self.check_readable()?;
        open::batch_status(&self.view, batch_id)
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery_report(&self) -> RecoveryReport {
        self.report.clone()
    }

    /// Counters and marks.
    pub fn stat(&self) -> Result<Stat> {
        self.check_readable()?;
        self.view.refresh()?;
        let mut stat = Stat {
            log_id: self.log_id,
            application_id: self.application_id,
            truncated_seq: self.view.truncated_seq(),
            ..Stat::default()
        };
        for number in self.view.numbers() {
            if stat.segment_count == 0 {
                stat.first_segment = number;
            }
            stat.last_segment = number;
            stat.segment_count += 1;
            let path = self.view.layout.segment(number);
            let open = self.view.vfs.open(&path, crate::vfs::OpenMode::Read);
            let len = open.and_then(|file| file.len()).unwrap_or(0);
            stat.file_bytes = stat.file_bytes.saturating_add(len);
        }
        match &self.committer {
            Some(committer) => {
                stat.durable_lsn = committer.durable_lsn();
                committer.inspect(|writer| {
                    stat.last_seq = writer.last_seq();
                    stat.written_lsn = writer.written_lsn();
                    stat.batch_count = writer.counters.batches;
                    stat.record_count = writer.counters.records;
                    stat.group_count = writer.counters.groups;
                    stat.sync_count = writer.counters.syncs;
                    stat.written_bytes = writer.counters.written_bytes;
                    stat.rotation_count = writer.counters.rotations;
                });
            }
            None => {
                let end = self.view.end();
                stat.written_lsn = end.lsn;
                stat.durable_lsn = end.lsn;
                stat.last_seq = open::last_seq(&self.view)?;
            }
        }
        stat.checkpoint_seq = self
            .last_checkpoint()?
            .map_or(0, |checkpoint| checkpoint.seq);
        Ok(stat)
    }

    /// Syncs, notes the clean end and releases the lock. Later calls on this handle answer
    /// `Closed`; closing again does nothing. Cursors stay usable.
    ///
    /// Errors: what kept the end from being clean; the handle is closed all the same.
    pub fn close(&self) -> Result<()> {
        let Some(committer) = &self.committer else {
            return Ok(());
        };
        let closed = Error::new(ErrorKind::Closed, "the handle was closed");
        if self.check_process().is_err() {
            // In a forked child nothing may be written, the lock is the parent's, and a mutex may
            // have been held by a thread that does not exist here.
            return Ok(());
        }
        match committer.finally(closed, SegmentWriter::close) {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            outcome => outcome,
        }
    }
}

/// The answer to a call on a handle that came along into a child process.
pub(crate) fn forked() -> Error {
    Error::new(
        ErrorKind::Forked,
        "this handle was inherited through fork; open the log anew in the child",
    )
}

impl Drop for Wal {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`; the log is safe either way.
        let _ = self.close();
        if self.check_process().is_err() {
            std::mem::forget(self.committer.take());
        }
    }
}

fn commit_one_frame<'a>(
    committer: &GroupCommitter<SegmentWriter>,
    records: impl Iterator<Item = Record<'a>>,
    total: u64,
    flags: u8,
    sync: bool,
) -> Result<Receipt> {
    with_payload(records, total, |payload| {
        committer.commit(payload, frame_type::BATCH, flags, sync)
    })
}

/// Encodes records, which take `total` bytes, into the payload of one frame, and gives it to `commit`.
fn with_payload<'a, T>(
    records: impl Iterator<Item = Record<'a>>,
    total: u64,
    commit: impl FnOnce(&mut EncodedPayload) -> Result<T>,
) -> Result<T> {
    with_scratch(|payload| {
        payload.clear();
        payload.reserve(usize::try_from(total).unwrap_or(usize::MAX))?;
        for record in records {
            payload.push(&record)?;
        }
        payload.seal();
        commit(payload)
    })
}

/// Gives a thread its scratch buffer.
fn with_scratch<T>(work: impl FnOnce(&mut EncodedPayload) -> T) -> T {
    SCRATCH.with(|scratch| {
        // A panic in a source of records could leave the scratch borrowed in this thread only; a
        // fresh one serves then.
        let mut fallback = EncodedPayload::default();
        let mut borrowed = scratch.try_borrow_mut().ok();
        let payload = borrowed.as_deref_mut().unwrap_or(&mut fallback);
        let result = work(payload);
        if payload.capacity() > SCRATCH_LEN_MAX {
            *payload = EncodedPayload::default();
        }
        result
    })
}
