//! The event store itself: opened and closed, and the log underneath it.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::handle::{self, Handle, Shared};
use super::maintain;
use super::options::{self, wal_options_t};
use super::recovery_report::{self, wal_recovery_report_t};
use super::sized::{self, SizedOut, SizedStruct};
use super::stat::{self, wal_stat_t};
use super::status::{duralog_status_t, OK};
use super::verify::{self, wal_progress_callback_t};
use super::wal::concerning;
use crate::error::{Error, Result};
use crate::eventstore::{EventStore, EventStoreOptions};
use crate::lsn::Lsn;
use crate::vfs::os::RealDisk;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// An open event store: events in streams, on a log of its own.
///
/// Shared: any number of threads may use one handle at once; appends of several threads share
/// their syncs. Only eventstore_close must come when no other call with the handle runs or follows.
pub struct eventstore_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_t {
    const NAME: &'static str = "eventstore_t";
    type Inner = EventStore;
    type Ownership = Shared;
}

/// In flags of eventstore_options_t: events and index are read through mappings of their files.
/// Scattered events come about twice as fast, and are verified in the same way. The price: where the
/// medium does not give what it holds, or somebody cuts off a file, the program ends with a signal
/// (SIGBUS) instead of an error.
pub const EVENTSTORE_MAPPED: u32 = 1;

/// Choices for eventstore_open. Start from EVENTSTORE_OPTIONS_INIT; zero means the default in every
/// field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_options_t {
    /// Size of this struct; set by EVENTSTORE_OPTIONS_INIT.
    pub struct_size: u32,
    /// EVENTSTORE_MAPPED or 0.
    pub flags: u32,
    /// Choices for the log underneath, which hold here too; NULL for the defaults. A store writes one
    /// group of appends at a time, and at once: groups_in_flight_max and buffer_bytes_max change nothing.
    pub wal: *const wal_options_t,
    /// Told, on the thread that opens, how many bytes of the log the index covers, and of how many:
    /// worth it where index/ was deleted, so that the index is made from the log. NULL: nobody is
    /// told.
    pub progress: wal_progress_callback_t,
    /// Handed to progress as it is.
    pub progress_user_data: *mut c_void,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and pointers that may be NULL only.
unsafe impl SizedStruct for eventstore_options_t {
    const NAME: &'static str = "eventstore_options_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What the caller chose, and whom to tell of the progress.
///
/// # Safety
/// If `options` is not NULL, as many bytes as its `struct_size` says are readable, and so is what
/// it points to.
unsafe fn eventstore_options(
    options: *const eventstore_options_t,
) -> Result<(EventStoreOptions, wal_progress_callback_t, *mut c_void)> {
    if options.is_null() {
        return Ok((EventStoreOptions::default(), None, std::ptr::null_mut()));
    }
    // SAFETY: the same promise.
    let given = unsafe { sized::read("options", options) }?;
    if given.flags & !EVENTSTORE_MAPPED != 0 {
        return Err(Error::invalid(format!(
            "flags {:#x} of eventstore_options_t has unknown flags",
            given.flags
        )));
    }
    let options = EventStoreOptions {
        // SAFETY: the same promise.
        wal: unsafe { options::wal_options(given.wal) }?,
        mapped: given.flags & EVENTSTORE_MAPPED != 0,
        ..EventStoreOptions::default()
    };
    Ok((options, given.progress, given.progress_user_data))
}

/// Opens the event store in the directory path; recovers its log first if its last writer did not
/// close it. One handle at a time, of all processes, has a store open for writing.
///
/// path: directory of the store, in the bytes of the file system, with a NUL at its end.
/// options: may be NULL for the defaults.
/// out_store: the handle, to be closed by eventstore_close.
///
/// Returns as wal_open does;
/// DURALOG_STOPPED: progress asked to stop.
#[no_mangle]
pub unsafe extern "C" fn eventstore_open(
    path: *const c_char,
    options: *const eventstore_options_t,
    out_store: *mut *mut eventstore_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4 and 7: the caller promises a text with a NUL, structs of the
        // sizes they say, and a place for a pointer, for the time of this call.
        let (path, (options, callback, user_data), out_store) = unsafe {
            (
                args::path(path)?,
                eventstore_options(options)?,
                Out::required("out_store", out_store)?,
            )
        };
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { verify::progress(callback, user_data) };
        let disk = Arc::new(RealDisk::new());
        let opened = EventStore::open_with_progress(disk, path, &options, &mut progress);
        verify::finish(opened.map_err(|error| concerning(error, path)), |store| {
            out_store.set(handle::give_out(store));
        })
    })
}

/// Makes everything appended durable, marks the log as cleanly closed, and releases the handle,
/// always: also if it reports an error. Cursors and batches are released on their own, before or
/// after. Not while another thread is in a call with the handle.
///
/// store: may be NULL, which is nothing.
///
/// Returns as wal_close does.
#[no_mangle]
pub unsafe extern "C" fn eventstore_close(store: *mut eventstore_t) -> duralog_status_t {
    guard(|| {
        if store.is_null() {
            return Ok(OK);
        }
        // SAFETY: convention 6: the caller promises that the handle is open.
        let inner = unsafe { handle::shared("store", store) }?;
        // Released when this goes out of scope: after the store was closed, and also if that
        // panics.
        let _released = Released(store);
        inner.close()?;
        Ok(OK)
    })
}

struct Released(*mut eventstore_t);

impl Drop for Released {
    fn drop(&mut self) {
        // SAFETY: convention 6: the caller of `eventstore_close` promises that the handle is open
        // and that no other call with it runs or follows; that makes one of these, once.
        unsafe { handle::release(self.0) };
    }
}

/// Makes everything that was appended through this handle, by any thread, durable.
///
/// Returns as wal_sync does.
#[no_mangle]
pub unsafe extern "C" fn eventstore_sync(store: *mut eventstore_t) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let store = unsafe { handle::shared("store", store) }?;
        store.sync()?;
        Ok(OK)
    })
}

/// Position of the last event, which is how many events there are.
///
/// out_position: the position; 0 if there is no event.
///
/// Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO, read-only handles only.
#[no_mangle]
pub unsafe extern "C" fn eventstore_last_position(
    store: *mut eventstore_t,
    out_position: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 6: the caller promises an open handle and a writable place.
        let (store, out_position) = unsafe {
            (
                handle::shared("store", store)?,
                Out::required("out_position", out_position)?,
            )
        };
        out_position.set(store.last_position()?);
        Ok(OK)
    })
}

/// What is known of an open store. Start from EVENTSTORE_STAT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_stat_t {
    /// Size of this struct; set by EVENTSTORE_STAT_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Identity of the log: random, the same as long as the store exists.
    pub log_id: [u8; 16],
    /// Position of the last event; 0 if there is none.
    pub last_position: u64,
    /// Files of the index.
    pub run_count: u64,
    /// Events that no file of the index covers yet: what is known of them is in memory, and is read
    /// from the log when the store is opened next.
    pub memory_events: u64,
    /// What is being done in the background, in keys: files of the index are made one.
    pub work_done: u64,
    /// Of how many, at most; 0 while nothing is done.
    pub work_total: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_stat_t {
    const NAME: &'static str = "eventstore_stat_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What is known of the store, as it is now.
///
/// out_stat: filled.
///
/// Returns as eventstore_last_position does.
#[no_mangle]
pub unsafe extern "C" fn eventstore_stat(
    store: *mut eventstore_t,
    out_stat: *mut eventstore_stat_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (store, out_stat) = unsafe {
            (
                handle::shared("store", store)?,
                SizedOut::new("out_stat", out_stat)?,
            )
        };
        let stat = store.stat()?;
        out_stat.set(&eventstore_stat_t {
            struct_size: 0, // the caller's stays
            reserved: 0,
            log_id: stat.log_id,
            last_position: stat.last_position,
            run_count: stat.run_count,
            memory_events: stat.memory_events,
            work_done: stat.work_done,
            work_total: stat.work_total,
        });
        Ok(OK)
    })
}

/// Counters and marks of the log underneath, as wal_stat gives them.
///
/// out_stat: filled.
///
/// Returns as wal_stat does.
#[no_mangle]
pub unsafe extern "C" fn eventstore_wal_stat(
    store: *mut eventstore_t,
    out_stat: *mut wal_stat_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (store, out_stat) = unsafe {
            (
                handle::shared("store", store)?,
                SizedOut::new("out_stat", out_stat)?,
            )
        };
        out_stat.set(&stat::convert(&store.wal().stat()?));
        Ok(OK)
    })
}

/// What eventstore_open found in the log and did, as wal_recovery_report gives it.
///
/// out_report: filled.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_recovery_report(
    store: *mut eventstore_t,
    out_report: *mut wal_recovery_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open handle and a struct of the size
        // it says.
        let (store, out_report) = unsafe {
            (
                handle::shared("store", store)?,
                SizedOut::new("out_report", out_report)?,
            )
        };
        out_report.set(&recovery_report::convert(&store.wal().recovery_report()));
        Ok(OK)
    })
}

/// What became of a batch: to be asked after reopening, for an append that returned
/// DURALOG_E_INDETERMINATE.
///
/// batch_id: lsn of duralog_error_t, or batch_id of a receipt.
/// out_batch_status: one of WAL_BATCH_*.
///
/// Returns as wal_batch_status does.
#[no_mangle]
pub unsafe extern "C" fn eventstore_batch_status(
    store: *mut eventstore_t,
    batch_id: u64,
    out_batch_status: *mut i32,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 6: the caller promises an open handle and a writable place.
        let (store, out) = unsafe {
            (
                handle::shared("store", store)?,
                Out::required("out_batch_status", out_batch_status)?,
            )
        };
        let status = store.wal().batch_status(Lsn(batch_id))?;
        out.set(maintain::batch_status(status));
        Ok(OK)
    })
}
