//! Snapshots: what a projection keeps so that it need not begin at the beginning.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore::eventstore_t;
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::replay::pointer;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, ErrorKind};
use crate::eventstore::Snapshot;
use crate::format::event::{NAME_LEN_MAX, STATE_KEY_LEN_MAX};

/// A snapshot that was loaded.
///
/// Movable: one thread at a time, whichever it is. It stays usable when its store was closed.
pub struct eventstore_snapshot_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_snapshot_t {
    const NAME: &'static str = "eventstore_snapshot_t";
    type Inner = Snapshot;
    type Ownership = Movable;
}

/// What a snapshot holds. Start from EVENTSTORE_SNAPSHOT_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_snapshot_info_t {
    /// Size of this struct; set by EVENTSTORE_SNAPSHOT_INFO_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The version it is of.
    pub version: u64,
    /// Position up to which events are in it.
    pub position: u64,
    /// The state.
    pub data: *const u8,
    /// Length of data.
    pub data_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_snapshot_info_t {
    const NAME: &'static str = "eventstore_snapshot_info_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Saves a state, in a file of its own below the store. Of a key are kept: this one and the newest
/// others of its fingerprint, four in all; and of all other fingerprints together the four of the
/// greatest versions. A snapshot is derived from events: losing one costs time and nothing else.
///
/// key, key_len: whose state, 1 to 1024 bytes.
/// version: stream version, or any number that only grows, of which it is true.
/// position: position up to which events are in it.
/// fingerprint, fingerprint_len: by which version of the program it was made, at most 255 bytes;
/// NULL only with 0.
/// data, data_len: the state, at most 1 GiB; NULL only with 0.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if there is no event at position, which is not 0;
/// DURALOG_E_TOO_LARGE, DURALOG_E_FULL, DURALOG_E_IO, DURALOG_E_READ_ONLY: it was not saved; the
/// store is not concerned.
#[no_mangle]
pub unsafe extern "C" fn eventstore_snapshot_save(
    store: *mut eventstore_t,
    key: *const u8,
    key_len: usize,
    version: u64,
    position: u64,
    fingerprint: *const u8,
    fingerprint_len: usize,
    data: *const u8,
    data_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4 and 6: the caller promises an open store, and bytes that are there
        // for the time of this call.
        let (store, key, fingerprint, data) = unsafe {
            (
                handle::shared("store", store)?,
                args::short_array("key", key, key_len, STATE_KEY_LEN_MAX)?,
                args::short_array("fingerprint", fingerprint, fingerprint_len, NAME_LEN_MAX)?,
                args::array("data", data, data_len)?,
            )
        };
        store.save_snapshot(key, version, position, fingerprint, data)?;
        Ok(OK)
    })
}

/// Loads the newest snapshot of a key, at or before a version, that was made with a fingerprint.
/// One that is damaged, can't be read, or is of events that the store does not have any more, is
/// passed over.
///
/// key, key_len: 1 to 1024 bytes.
/// version_max: UINT64_MAX for the newest.
/// fingerprint, fingerprint_len: as when it was saved.
/// out_snapshot: the snapshot, to be closed by eventstore_snapshot_close.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: there is none;
/// DURALOG_E_CORRUPT, DURALOG_E_IO: of the store, not of a snapshot.
#[no_mangle]
pub unsafe extern "C" fn eventstore_snapshot_load(
    store: *mut eventstore_t,
    key: *const u8,
    key_len: usize,
    version_max: u64,
    fingerprint: *const u8,
    fingerprint_len: usize,
    out_snapshot: *mut *mut eventstore_snapshot_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4 and 6: the caller promises an open store, bytes that are there
        // for the time of this call, and a writable place.
        let (store, key, fingerprint, out_snapshot) = unsafe {
            (
                handle::shared("store", store)?,
                args::short_array("key", key, key_len, STATE_KEY_LEN_MAX)?,
                args::short_array("fingerprint", fingerprint, fingerprint_len, NAME_LEN_MAX)?,
                Out::required("out_snapshot", out_snapshot)?,
            )
        };
        let found = store.load_snapshot(key, version_max, fingerprint)?;
        let missing = || Error::new(ErrorKind::NotFound, "there is no snapshot of this key");
        out_snapshot.set(handle::give_out(found.ok_or_else(missing)?));
        Ok(OK)
    })
}

/// What a snapshot holds.
///
/// out_info: filled.
///
/// Returns DURALOG_OK.
///
/// Borrowed until the snapshot is closed: data.
#[no_mangle]
pub unsafe extern "C" fn eventstore_snapshot_info(
    snapshot: *mut eventstore_snapshot_t,
    out_info: *mut eventstore_snapshot_info_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open snapshot that no other thread
        // uses now, and a struct of the size it says.
        let (snapshot, out_info) = unsafe {
            (
                handle::movable("snapshot", snapshot)?,
                SizedOut::new("out_info", out_info)?,
            )
        };
        out_info.set(&eventstore_snapshot_info_t {
            struct_size: 0, // the caller's stays
            reserved: 0,
            version: snapshot.version,
            position: snapshot.position,
            data: pointer(&snapshot.data),
            data_len: snapshot.data.len(),
        });
        Ok(OK)
    })
}

/// Releases a snapshot that was loaded. It stays saved.
///
/// snapshot: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_snapshot_close(
    snapshot: *mut eventstore_snapshot_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the snapshot is open, and that no other
        // call with it runs or follows.
        unsafe { handle::release(snapshot) };
        Ok(OK)
    })
}

/// Deletes all snapshots of a key, of every fingerprint.
///
/// key, key_len: 1 to 1024 bytes.
///
/// Returns DURALOG_OK, also if there are none; DURALOG_E_IO, DURALOG_E_READ_ONLY.
#[no_mangle]
pub unsafe extern "C" fn eventstore_snapshot_delete(
    store: *mut eventstore_t,
    key: *const u8,
    key_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4 and 6: the caller promises an open store, and bytes that are there
        // for the time of this call.
        let (store, key) = unsafe {
            (
                handle::shared("store", store)?,
                args::short_array("key", key, key_len, STATE_KEY_LEN_MAX)?,
            )
        };
        store.delete_snapshots(key)?;
        Ok(OK)
    })
}
