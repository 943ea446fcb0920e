//! Writing without waiting: many batches of one thread on their way at once.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::append::{durability, packed, wal_op_t, Operations};
use super::args::Out;
use super::guard::guard;
use super::handle;
use super::status::{duralog_status_t, OK};
use super::wal::wal_t;
use crate::error::{Error, ErrorKind};
use crate::lsn::Lsn;
use std::time::Duration;

/// Hands a batch over and returns; the library writes it together with others, at most a few
/// threads per process doing so for all logs. Batches of one handle stand in the log in the order of
/// their tickets. What became of them wal_wait_ticket tells; until that is asked, a ticket takes
/// some memory.
///
/// ops: array of count records; their bytes are copied before the call returns.
/// count: 1 or more. All records together, with 12 bytes for each: at most 4 MiB.
/// flags: 0 or WAL_APPEND_DURABLE.
/// out_ticket: number of the batch among those handed over with this handle, from 1.
///
/// Returns DURALOG_OK: it is on its way, no more;
/// DURALOG_E_BUSY: nobody asked for the last 65,536 tickets;
/// DURALOG_E_TOO_LARGE, DURALOG_E_EMPTY_BATCH, DURALOG_E_POISONED, DURALOG_E_READ_ONLY.
#[no_mangle]
pub unsafe extern "C" fn wal_append_batch_async(
    wal: *mut wal_t,
    ops: *const wal_op_t,
    count: usize,
    flags: u32,
    out_ticket: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        let durability = durability(flags)?;
        // SAFETY: conventions 2 and 4: the caller promises that the array and the bytes it points
        // to are there, unchanged, and the place writable, for the time of this call; `operations`
        // does not outlive it.
        let (operations, out_ticket) = unsafe {
            (
                Operations::new(ops, count)?,
                Out::required("out_ticket", out_ticket)?,
            )
        };
        out_ticket.set(wal.append_later(&operations, durability)?);
        Ok(OK)
    })
}

/// The same, with the batch in columns as in wal_append_batch_packed.
///
/// count, ops, key_lens, value_lens, bytes, bytes_len: as in wal_append_batch_packed.
/// flags, out_ticket: as in wal_append_batch_async.
///
/// Returns as wal_append_batch_async does.
#[no_mangle]
pub unsafe extern "C" fn wal_append_batch_packed_async(
    wal: *mut wal_t,
    count: usize,
    ops: *const u8,
    key_lens: *const u32,
    value_lens: *const u32,
    bytes: *const u8,
    bytes_len: usize,
    flags: u32,
    out_ticket: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        let durability = durability(flags)?;
        // SAFETY: conventions 2 and 4: the caller promises that the arrays are there, unchanged,
        // and the place writable, for the time of this call; the batch does not outlive it.
        let (batch, out_ticket) = unsafe {
            (
                packed(count, ops, key_lens, value_lens, bytes, bytes_len)?,
                Out::required("out_ticket", out_ticket)?,
            )
        };
        out_ticket.set(wal.append_packed_later(&batch, durability)?);
        Ok(OK)
    })
}

/// Waits until all batches with tickets up to this one are settled, and answers for those that
/// nobody was told of before.
///
/// ticket: given by wal_append_batch_async.
/// wait_ms_max: wait at most so many milliseconds; 0: not at all; negative: as long as it takes.
/// out_seq: sequence number of the COMMIT of this batch; may be NULL.
/// out_end_lsn: LSN at which it ends; may be NULL.
///
/// Returns DURALOG_OK: all of them are acknowledged, and durable unless sync_mode says otherwise;
/// DURALOG_E_TIMEOUT: not all are settled; nothing was told;
/// DURALOG_E_FULL, DURALOG_E_INDETERMINATE, DURALOG_E_POISONED and others, as from wal_append_batch:
/// what came of the first batch that was not acknowledged. It counts as told with those before it;
/// call again for the others;
/// DURALOG_E_INVALID_ARGUMENT: also if there is no such ticket, or it was told.
#[no_mangle]
pub unsafe extern "C" fn wal_wait_ticket(
    wal: *mut wal_t,
    ticket: u64,
    wait_ms_max: i64,
    out_seq: *mut u64,
    out_end_lsn: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 6: the caller promises an open handle and writable places.
        let (wal, out_seq, out_end_lsn) = unsafe {
            (
                handle::shared("wal", wal)?,
                Out::optional("out_seq", out_seq)?,
                Out::optional("out_end_lsn", out_end_lsn)?,
            )
        };
        let Some(receipt) = wal.wait_for(ticket, longest(wait_ms_max))? else {
            return Err(in_vain(
                format!("ticket {ticket} is not settled"),
                wait_ms_max,
            ));
        };
        out_seq.set(receipt.seq);
        out_end_lsn.set(receipt.end_lsn.0);
        Ok(OK)
    })
}

/// Waits until everything below an LSN is durable. Makes nothing durable by itself: without
/// WAL_SYNC_EVERY that is up to other calls and to the interval.
///
/// lsn: for example written_lsn of wal_stat, or out_end_lsn of wal_wait_ticket.
/// wait_ms_max: as in wal_wait_ticket.
///
/// Returns DURALOG_OK: it is durable;
/// DURALOG_E_TIMEOUT: it is not;
/// DURALOG_E_POISONED: it is not, and will not be through this handle;
/// DURALOG_E_READ_ONLY: what a handle that only reads is shown is acknowledged, and it has no marks to
/// wait for.
#[no_mangle]
pub unsafe extern "C" fn wal_wait_durable(
    wal: *mut wal_t,
    lsn: u64,
    wait_ms_max: i64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared("wal", wal) }?;
        if wal.wait_durable(Lsn(lsn), longest(wait_ms_max))? {
            return Ok(OK);
        }
        Err(in_vain(format!("LSN {lsn} is not durable"), wait_ms_max))
    })
}

/// A file descriptor for poll, select or epoll: readable when tickets were settled since this was
/// called last. Call it again, then wal_wait_ticket with wait_ms_max 0, then poll. Nothing but its
/// readiness is of use; it is closed with the log.
///
/// out_fd: the file descriptor, each time the same.
///
/// Returns DURALOG_OK; DURALOG_E_READ_ONLY, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn wal_ticket_fd(wal: *mut wal_t, out_fd: *mut i32) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 6: the caller promises an open handle and a writable place.
        let (wal, out_fd) = unsafe {
            (
                handle::shared("wal", wal)?,
                Out::required("out_fd", out_fd)?,
            )
        };
        out_fd.set(wal.ticket_fd()?);
        Ok(OK)
    })
}

fn longest(wait_ms_max: i64) -> Option<Duration> {
    u64::try_from(wait_ms_max).ok().map(Duration::from_millis)
}

fn in_vain(what: String, wait_ms_max: i64) -> Error {
    Error::new(ErrorKind::Timeout, format!("{what} after {wait_ms_max} ms"))
}
