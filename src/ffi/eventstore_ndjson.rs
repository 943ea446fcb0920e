//! Events in and out as lines of JSON. In the library only with the feature `ndjson`; in the header
//! always, but only seen with `DURALOG_NDJSON`.

#![allow(
    unsafe_code,
    reason = "exports C symbols that take pointers and call back"
)]

use super::args;
use super::eventstore::eventstore_t;
use super::guard::guard;
use super::handle;
use super::sized::{self, SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK, STOPPED};
use crate::error::{Error, Result};
use crate::eventstore::ndjson::{
    self, ExportOptions, ExportReport, ImportFailed, ImportOptions, ImportReport, Progress,
};
use crate::format::event::EventId;
use crate::vfs::outside;
use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Called by eventstore_import_ndjson after each batch, and by eventstore_export_ndjson after each
/// 1,000 events and at its end, on the thread that called them.
///
/// user_data: what was given.
/// bytes: how many of the file were read, or written.
/// events: how many events were dealt with.
/// total: of an import, the size of the file in bytes, 0 if that is not known; of an export, how
/// many events it will have written.
///
/// Returns 0 to go on, anything else to stop.
pub type eventstore_ndjson_callback_t = Option<
    unsafe extern "C" fn(user_data: *mut c_void, bytes: u64, events: u64, total: u64) -> c_int,
>;

/// Choices for eventstore_import_ndjson. Start from EVENTSTORE_IMPORT_OPTIONS_INIT; zero means the
/// default in every field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_import_options_t {
    /// Size of this struct; set by EVENTSTORE_IMPORT_OPTIONS_INIT.
    pub struct_size: u32,
    /// Lines that are appended together, in one batch, or fewer where they are long; 0: 1,000.
    pub batch_lines: u32,
    /// File descriptor to read from, if no path is given: 0 is standard input. It stays open.
    pub fd: i32,
    /// 0.
    pub reserved: u32,
    /// 16 bytes: the namespace of the ids of those event_ids that are no UUIDs. Sources that have
    /// the same event_ids for different events need different ones. NULL: the library's own.
    pub id_namespace: *const u8,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_import_options_t {
    const NAME: &'static str = "eventstore_import_options_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What an import did. Start from EVENTSTORE_IMPORT_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_import_report_t {
    /// Size of this struct; set by EVENTSTORE_IMPORT_REPORT_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Lines that were read.
    pub line_count: u64,
    /// Events that were appended.
    pub imported_count: u64,
    /// Events that were there already.
    pub known_count: u64,
    /// Number of a torn last line, which was left out, counted from 1; 0 if there is none.
    pub torn_line: u64,
    /// Number of the line that can't be imported, counted from 1; 0 if there is none.
    pub bad_line: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_import_report_t {
    const NAME: &'static str = "eventstore_import_report_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Appends the events of a file that has a JSON object in each line:
///
///   {"event_id": "e-1", "stream_id": "case-891", "event_type": "Opened", "data": {"by": "R26"},
///    "timestamp": "2010-10-02T09:20:39.266000+02:00", "metadata": {"group": "G1"}}
///
/// event_id is a text or an integer: a UUID is the id of the event as it is, anything else gives
/// the UUIDv5 of its JSON text. data becomes the data, byte for byte, timestamp the time when it
/// occurred. What an event has no place for, also fields that are not named here, stands in front
/// of its metadata under the key "duralog.ndjson". data and metadata may be absent; tags,
/// schema_version, content_type, correlation_id, causation_id, and data_base64 and metadata_base64
/// for bytes that are no JSON, may be there too.
///
/// Lines are appended in batches, each whole or not at all. An import that was stopped, in whatever
/// way, is repeated as it was: what is there already is compared with its line and left alone. The
/// first line that can't be imported ends the import; all batches before that of the line are in,
/// and nothing of its own. A last line without a newline that is no whole JSON object is torn: it is
/// reported and left out. A line has at most 100,663,296 bytes and 1,000 fields, and is nested at
/// most 500 levels deep.
///
/// path: the file, in the bytes of the file system, with a NUL at its end; NULL: fd of the options.
/// options: may be NULL for the defaults.
/// callback: told of the progress; may be NULL.
/// user_data: handed to the callback as it is.
/// out_report: what was done; may be NULL. Written whatever is returned but
/// DURALOG_E_INVALID_ARGUMENT: as far as it came.
///
/// Returns DURALOG_OK: all of it is in, but for a torn last line;
/// DURALOG_STOPPED: the callback asked to stop, behind a batch;
/// DURALOG_E_BAD_LINE: a line is damaged, or says something else than the event with its id that is
/// there: bad_line is its number, the message says why;
/// DURALOG_E_NOT_FOUND, DURALOG_E_IO: also if the file can't be read; else what eventstore_append
/// returns.
#[no_mangle]
pub unsafe extern "C" fn eventstore_import_ndjson(
    store: *mut eventstore_t,
    path: *const c_char,
    options: *const eventstore_import_options_t,
    callback: eventstore_ndjson_callback_t,
    user_data: *mut c_void,
    out_report: *mut eventstore_import_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 7: the caller promises an open store, a text with a NUL, and
        // structs of the sizes they say, for the time of this call.
        let (store, path, given, out_report) = unsafe {
            (
                handle::shared("store", store)?,
                optional_path(path)?,
                import_options(options)?,
                optional_out("out_report", out_report)?,
            )
        };
        let (options, fd) = given;
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { progress(callback, user_data) };
        let imported = match path {
            Some(path) => ndjson::import_file(&store, path, &options, &mut progress),
            None => {
                // SAFETY: the caller promises that the descriptor, if it is open, stays so for the
                // time of this call.
                let mut file = unsafe { own_descriptor(fd) }?;
                let len = outside::len_of(&file).unwrap_or(0);
                ndjson::import(&store, &mut file, len, &options, &mut progress)
            }
        };
        let (report, error) = match imported {
            Ok(report) => (report, None),
            Err(ImportFailed { report, error }) => (report, Some(error)),
        };
        if let Some(out_report) = out_report {
            out_report.set(&import_report(&report));
        }
        match error {
            Some(error) => Err(error),
            None if report.stopped => Ok(STOPPED),
            None => Ok(OK),
        }
    })
}

/// Choices for eventstore_export_ndjson. Start from EVENTSTORE_EXPORT_OPTIONS_INIT; zero means the
/// default in every field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_export_options_t {
    /// Size of this struct; set by EVENTSTORE_EXPORT_OPTIONS_INIT.
    pub struct_size: u32,
    /// 1: go on with the export that is there, which began at the same position; begin it if there
    /// is none. Only with a path.
    pub resume: u32,
    /// Position of the first event; 0: the first there is.
    pub from_position: u64,
    /// File descriptor to write to, if no path is given: 1 is standard output. It stays open.
    pub fd: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_export_options_t {
    const NAME: &'static str = "eventstore_export_options_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What an export did. Start from EVENTSTORE_EXPORT_REPORT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_export_report_t {
    /// Size of this struct; set by EVENTSTORE_EXPORT_REPORT_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Lines that were written.
    pub event_count: u64,
    /// Position of the last event that is in the file; one below the first if there is none.
    pub last_position: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_export_report_t {
    const NAME: &'static str = "eventstore_export_report_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Writes all events that are there now, from a position on, to a file: a line each, as
/// eventstore_import_ndjson reads them. What was imported comes back with the same content, line by
/// line. What does not say when it occurred has the time when it was recorded.
///
/// Positions have no gaps, so line n is event n from the first one on. That is how an export is
/// resumed that was stopped, in whatever way: behind the whole lines that are there, after the torn
/// one was cut. The file is not synced.
///
/// path: the file, in the bytes of the file system, with a NUL at its end; nothing may be there
/// unless it is to be resumed. NULL: fd of the options.
/// options: may be NULL for the defaults.
/// callback: told of the progress; may be NULL.
/// user_data: handed to the callback as it is.
/// out_report: what was done; may be NULL. Written with DURALOG_STOPPED too.
///
/// Returns DURALOG_OK;
/// DURALOG_STOPPED: the callback asked to stop; all events that it was told of are in the file;
/// DURALOG_E_EXISTS: there is something at path, and resume is 0;
/// DURALOG_E_INVALID_ARGUMENT: also if the file to be resumed is no export of this store that began
/// at this position; it was left as it is;
/// DURALOG_E_NOT_FOUND, DURALOG_E_FULL, DURALOG_E_IO: the file can't be opened or written; part of
/// it may be there, and can be resumed;
/// DURALOG_E_CLOSED, DURALOG_E_CORRUPT: the store can't be read.
#[no_mangle]
pub unsafe extern "C" fn eventstore_export_ndjson(
    store: *mut eventstore_t,
    path: *const c_char,
    options: *const eventstore_export_options_t,
    callback: eventstore_ndjson_callback_t,
    user_data: *mut c_void,
    out_report: *mut eventstore_export_report_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 7: the caller promises an open store, a text with a NUL, and
        // structs of the sizes they say, for the time of this call.
        let (store, path, given, out_report) = unsafe {
            (
                handle::shared("store", store)?,
                optional_path(path)?,
                export_options(options)?,
                optional_out("out_report", out_report)?,
            )
        };
        let (options, fd) = given;
        // SAFETY: convention 8: the caller promises a function of this type that returns.
        let mut progress = unsafe { progress(callback, user_data) };
        let report = match path {
            Some(path) => ndjson::export_file(&store, path, &options, &mut progress)?,
            None if options.resume => {
                return Err(Error::invalid("only an export to a path can be resumed"));
            }
            None => {
                // SAFETY: the caller promises that the descriptor, if it is open, stays so for the
                // time of this call.
                let mut file = unsafe { own_descriptor(fd) }?;
                ndjson::export(&store, &mut file, options.from, &mut progress)?
            }
        };
        if let Some(out_report) = out_report {
            out_report.set(&export_report(&report));
        }
        Ok(if report.stopped { STOPPED } else { OK })
    })
}

/// # Safety
/// If `options` is not NULL, as many bytes as its `struct_size` says are readable, and so is what
/// it points to.
unsafe fn import_options(
    options: *const eventstore_import_options_t,
) -> Result<(ImportOptions, Option<i32>)> {
    let mut chosen = ImportOptions::default();
    if options.is_null() {
        return Ok((chosen, None));
    }
    // SAFETY: the same promise.
    let given = unsafe { sized::read("options", options) }?;
    check_reserved("eventstore_import_options_t", given.reserved)?;
    if given.batch_lines != 0 {
        chosen.batch_count = usize::try_from(given.batch_lines).unwrap_or(usize::MAX);
    }
    // SAFETY: the same promise.
    let namespace =
        unsafe { args::optional_array("id_namespace", given.id_namespace, size_of::<EventId>())? };
    if let Some(namespace) = namespace.and_then(|bytes| bytes.try_into().ok()) {
        chosen.namespace = namespace;
    }
    Ok((chosen, Some(given.fd)))
}

/// # Safety
/// If `options` is not NULL, as many bytes as its `struct_size` says are readable.
unsafe fn export_options(
    options: *const eventstore_export_options_t,
) -> Result<(ExportOptions, Option<i32>)> {
    if options.is_null() {
        return Ok((ExportOptions::default(), None));
    }
    // SAFETY: the same promise.
    let given = unsafe { sized::read("options", options) }?;
    check_reserved("eventstore_export_options_t", given.reserved)?;
    if given.resume > 1 {
        return Err(Error::invalid(format!(
            "resume of eventstore_export_options_t is {}, expected 0 or 1",
            given.resume
        )));
    }
    let chosen = ExportOptions {
        from: given.from_position,
        resume: given.resume == 1,
    };
    Ok((chosen, Some(given.fd)))
}

fn check_reserved(name: &str, reserved: u32) -> Result<()> {
    if reserved == 0 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "reserved of {name} is {reserved}, expected 0"
    )))
}

/// # Safety
/// As for [`args::path`].
unsafe fn optional_path<'a>(path: *const c_char) -> Result<Option<&'a Path>> {
    if path.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { args::path(path) }.map(Some)
}

/// # Safety
/// `out` is NULL, or what [`SizedOut::new`] asks for.
unsafe fn optional_out<T: SizedStruct>(name: &str, out: *mut T) -> Result<Option<SizedOut<T>>> {
    if out.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { SizedOut::new(name, out) }.map(Some)
}

/// A descriptor of our own for the file that the caller's is open for: closing it leaves that open.
///
/// # Safety
/// The descriptor, if it is open now, stays so until this function returns.
unsafe fn own_descriptor(fd: Option<i32>) -> Result<File> {
    let fd = fd.ok_or_else(|| Error::invalid("path is NULL, and so are the options with an fd"))?;
    if fd < 0 {
        return Err(Error::invalid(format!("fd is {fd}, which none can be")));
    }
    // SAFETY: not -1 by the check; open by the promise, and if it never was, then the call below
    // fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let own = borrowed.try_clone_to_owned();
    own.map(File::from)
        .map_err(|error| Error::invalid(format!("fd is {fd}: {error}")))
}

/// # Safety
/// `callback` is NULL or may be called with `user_data` as long as the result is used.
unsafe fn progress(
    callback: eventstore_ndjson_callback_t,
    user_data: *mut c_void,
) -> impl FnMut(Progress) -> bool {
    move |now| match callback {
        // SAFETY: the promise of this function.
        Some(callback) => (unsafe { callback(user_data, now.bytes, now.events, now.total) }) == 0,
        None => true,
    }
}

fn import_report(report: &ImportReport) -> eventstore_import_report_t {
    eventstore_import_report_t {
        struct_size: 0, // the caller's stays
        reserved: 0,
        line_count: report.line_count,
        imported_count: report.imported,
        known_count: report.known,
        torn_line: report.torn_line,
        bad_line: report.bad_line,
    }
}

fn export_report(report: &ExportReport) -> eventstore_export_report_t {
    eventstore_export_report_t {
        struct_size: 0, // the caller's stays
        reserved: 0,
        event_count: report.event_count,
        last_position: report.last_position,
    }
}
