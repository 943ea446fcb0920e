//! Making durable, checkpoints, truncation, and settling what was in doubt.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::handle;
use super::status::{duralog_status_t, OK};
use super::wal::wal_t;
use crate::error::{Error, ErrorKind};
use crate::lsn::Lsn;
use crate::wal::BatchStatus;

/// From wal_batch_status: no batch with this id was committed.
pub const WAL_BATCH_ABSENT: i32 = 0;
/// From wal_batch_status: the batch was committed, whole. Replay shows it, but for what was
/// truncated since.
pub const WAL_BATCH_COMMITTED: i32 = 1;
/// From wal_batch_status: the place was truncated and is gone; nothing can be said about it.
pub const WAL_BATCH_TRUNCATED: i32 = 2;

/// Makes everything that was appended through this handle, by any thread, durable.
///
/// Returns DURALOG_OK;
/// DURALOG_E_IO: the sync failed; what was not durable before may be lost, and the handle is
/// poisoned;
/// DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
#[no_mangle]
pub unsafe extern "C" fn wal_sync(wal: *mut wal_t) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        wal.sync()?;
        Ok(OK)
    })
}

/// Commits a checkpoint, a mark that says: nothing before it is needed any more to rebuild the
/// application's state. Always durable on return. It takes one sequence number, and replay does not
/// show it. Records are forgotten only by wal_truncate.
///
/// data, len: bytes of the application's own, such as where it saved its state; at most
/// 67,108,864. NULL only with length 0.
/// out_seq: sequence number of the checkpoint; may be NULL.
///
/// Returns as wal_append does.
#[no_mangle]
pub unsafe extern "C" fn wal_checkpoint(
    wal: *mut wal_t,
    data: *const u8,
    len: usize,
    out_seq: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        args::check_array("data", data, len)?;
        args::check_data_len(len)?;
        // SAFETY: conventions 2 and 4: the caller promises that the bytes are there, unchanged, and
        // the place writable, for the time of this call; the slice does not outlive it.
        let (data, out_seq) = unsafe {
            (
                args::array("data", data, len)?,
                Out::optional("out_seq", out_seq)?,
            )
        };
        out_seq.set(wal.checkpoint(data)?.seq);
        Ok(OK)
    })
}

/// Data and number of the newest checkpoint.
///
/// buffer, capacity: place for the data; NULL only with capacity 0.
/// out_len: length of the data. Written on DURALOG_E_BUFFER_TOO_SMALL too, which no output is but
/// this and those of duralog_spans_join and eventstore_state: it is the capacity needed.
/// out_seq: sequence number of the checkpoint; may be NULL.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: there is no checkpoint;
/// DURALOG_E_CORRUPT, DURALOG_E_IO: the place where it stands can't be read;
/// DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
#[no_mangle]
pub unsafe extern "C" fn wal_last_checkpoint(
    wal: *mut wal_t,
    buffer: *mut u8,
    capacity: usize,
    out_len: *mut usize,
    out_seq: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        args::check_array("buffer", buffer, capacity)?;
        // SAFETY: convention 2: the caller promises that the places are writable.
        let (out_len, out_seq) = unsafe {
            (
                Out::required("out_len", out_len)?,
                Out::optional("out_seq", out_seq)?,
            )
        };
        let checkpoint = wal
            .last_checkpoint()?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the log has no checkpoint"))?;
        let len = checkpoint.data.len();
        out_len.set(len);
        if len > capacity {
            return Err(Error::new(
                ErrorKind::BufferTooSmall,
                format!("the checkpoint has {len} bytes, the buffer {capacity}"),
            ));
        }
        if len > 0 {
            // SAFETY: `capacity` is above 0, so `buffer` is not NULL by `check_array`; the caller
            // promises that it is writable for `capacity` bytes, and `len` is not more. Our vector
            // and its buffer do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(checkpoint.data.as_ptr(), buffer, len) };
        }
        out_seq.set(checkpoint.seq);
        Ok(OK)
    })
}

/// Forgets all records with a sequence number up to up_to_seq: they are never replayed again, also
/// not after a crash. Segments that lie wholly below are deleted or used again. Durable on return.
///
/// up_to_seq: at most the last sequence number committed; a number that was truncated before is
/// nothing.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: up_to_seq is beyond the last sequence number;
/// DURALOG_E_CORRUPT: nothing is truncated, the first segment can't be used;
/// DURALOG_E_IO, DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
#[no_mangle]
pub unsafe extern "C" fn wal_truncate(wal: *mut wal_t, up_to_seq: u64) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        wal.truncate(up_to_seq)?;
        Ok(OK)
    })
}

/// What became of a batch: to be asked after reopening, for an append that returned
/// DURALOG_E_INDETERMINATE.
///
/// batch_id: lsn of duralog_error_t, or batch_id of a record.
/// out_batch_status: one of WAL_BATCH_*.
///
/// Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO: the place can't be read.
#[no_mangle]
pub unsafe extern "C" fn wal_batch_status(
    wal: *mut wal_t,
    batch_id: u64,
    out_batch_status: *mut i32,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        // SAFETY: convention 2: the caller promises that the place is writable.
        let out = unsafe { Out::required("out_batch_status", out_batch_status) }?;
        out.set(batch_status(wal.batch_status(Lsn(batch_id))?));
        Ok(OK)
    })
}

pub(super) fn batch_status(status: BatchStatus) -> i32 {
    match status {
        BatchStatus::Absent => WAL_BATCH_ABSENT,
        BatchStatus::Committed => WAL_BATCH_COMMITTED,
        BatchStatus::Truncated => WAL_BATCH_TRUNCATED,
    }
}
