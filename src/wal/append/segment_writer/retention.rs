//! What is written beside records: marks and checkpoints, the control file, truncation, the clean
//! end.

use super::large_batch::WriteFault;
use super::{leaves_no_trace, SegmentWriter, END_MARK_LEN};
use crate::error::{Error, Result};
use crate::format::control::Control;
use crate::format::frame::{frame_type, HEADER_LEN};
use crate::lsn::Seq;
use crate::vfs::{write_all_at, Vfs};
use crate::wal::append::batch_encoder::EncodedPayload;
use crate::wal::append::group_committer::{
    indeterminate, Alone, Group, GroupSink, Handed, Owner, Receipt,
};
use crate::wal::layout::Layout;
use crate::wal::options::SyncMode;
use crate::wal::segment_file::discard;

impl SegmentWriter {
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
            return Alone::done(());
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
        let time_ns = self.time_ns();
        match self.write_single(frame_type::MARK, 0, time_ns, &empty) {
            Ok(()) => {}
            // On a full disk there is simply no MARK.
            Err(WriteFault::Clean(_)) => return Alone::done(()),
            Err(WriteFault::Doubtful(error)) => {
                self.withdraw();
                return Alone::failed(error);
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
            Err(error) if !leaves_no_trace(&error) => Alone::failed(error),
            Ok(()) | Err(_) => Alone::done(()),
        }
    }

    /// The control file as it should be now, but for what the caller changes.
    pub(super) fn control_now(&self) -> Control {
        Control {
            durable_lsn: self.durable_lsn,
            checkpoint_lsn: self.checkpoint_lsn,
            time_ns: self.vfs.now_ns(),
            ..self.control.current
        }
    }

    /// Commits a CHECKPOINT, synced, and notes it in the control file.
    pub(crate) fn checkpoint(&mut self, data: &[u8]) -> Alone<Receipt> {
        let mut payload = EncodedPayload::default();
        if let Err(error) = payload.reserve(data.len()) {
            return Alone::refused(error);
        }
        payload.extend(data);
        payload.seal();
        let mut group = Group::default();
        let handed = Handed::Given(&mut payload);
        if let Err(error) = group.push(handed, frame_type::CHECKPOINT, 0, true, Owner::Caller) {
            return Alone::refused(error);
        }
        let outcome = self.write_group(&mut group, false);
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
            return Alone::done(());
        }
        // The note must not be durable before the records that it counts: after a power cut their
        // numbers would be given again, and the new records would be taken for truncated ones.
        let synced = self.sync();
        if synced.result.is_err() {
            return synced;
        }
        // An attempt that found the disk full may have noted more than it did.
        let up_to_seq = up_to_seq.max(self.control.current.truncated_seq);
        let first_segment = match self.view.segment_up_to(up_to_seq) {
            Ok(found) => found.map_or(self.header.segment_number, |found| found.segment_number),
            Err(error) => return Alone::refused(error),
        };
        let mut retired = self.view.numbers();
        retired.retain(|&number| number < first_segment);
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
        // Old bytes behind a group in flight would look like a torn one; and where blocks do not
        // stay in their places, old ones are worth nothing.
        let recycling = self.runway.is_none() && self.in_place;
        let rest: Vec<u64> = numbers
            .iter()
            .copied()
            .filter(|&number| !recycling || !self.ready.keep(vfs, layout, number))
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
        self.window = None;
        // Before the lock is given up: the next writer finds no hands on its files but its own.
        self.room.close(self.vfs.as_ref(), &self.layout);
        self.lock = None;
        result
    }

    fn close_cleanly(&mut self) -> Result<()> {
        if self.runway.is_some() && self.offset + END_MARK_LEN <= self.prepared {
            // Behind a group in flight there is none, and a recycled segment may hold old bytes.
            let mark = [0; HEADER_LEN];
            write_all_at(self.file.as_ref(), self.offset, &mark)
                .map_err(|failure| failure.into_error(&self.path()))?;
            // Without this a power cut could bring the old bytes back.
            self.sync_segment()?;
        }
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
