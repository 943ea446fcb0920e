//! What the event store knows beside events: versions of streams, saved positions, and the state
//! that applications keep in it.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore::eventstore_t;
use super::guard::guard;
use super::handle;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, ErrorKind};
use crate::format::event::{NAME_LEN_MAX, STATE_KEY_LEN_MAX, STREAM_LEN_MAX};
use std::ffi::c_char;

/// What is known of one stream. Start from EVENTSTORE_STREAM_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_stream_info_t {
    /// Size of this struct; set by EVENTSTORE_STREAM_INFO_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Its version: the number of its last event.
    pub stream_version: u64,
    /// Position of its first event.
    pub first_position: u64,
    /// Position of its last event.
    pub last_position: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for eventstore_stream_info_t {
    const NAME: &'static str = "eventstore_stream_info_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// What is known of a stream.
///
/// stream, stream_len: its name, at most 1024 bytes.
/// out_info: filled.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: there is no such stream: its version is 0;
/// DURALOG_E_CORRUPT, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn eventstore_stream_info(
    store: *mut eventstore_t,
    stream: *const c_char,
    stream_len: usize,
    out_info: *mut eventstore_stream_info_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 7: the caller promises an open store, a text that is there
        // for the time of this call, and a struct of the size it says.
        let (store, stream, out_info) = unsafe {
            (
                handle::shared("store", store)?,
                args::text("stream", stream, stream_len, STREAM_LEN_MAX)?,
                SizedOut::new("out_info", out_info)?,
            )
        };
        let missing = || {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no stream {stream:?}"),
            )
        };
        let info = store.stream_info(stream)?.ok_or_else(missing)?;
        out_info.set(&eventstore_stream_info_t {
            struct_size: 0, // the caller's stays
            reserved: 0,
            stream_version: info.stream_version,
            first_position: info.first_position,
            last_position: info.last_position,
        });
        Ok(OK)
    })
}

/// A position that was saved by eventstore_append_save_position.
///
/// name, name_len: 1 to 255 bytes.
/// out_position: the position.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: none was saved under this name;
/// DURALOG_E_CORRUPT, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn eventstore_saved_position(
    store: *mut eventstore_t,
    name: *const c_char,
    name_len: usize,
    out_position: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4 and 6: the caller promises an open store, a text that is there
        // for the time of this call, and a writable place.
        let (store, name, out_position) = unsafe {
            (
                handle::shared("store", store)?,
                args::text("name", name, name_len, NAME_LEN_MAX)?,
                Out::required("out_position", out_position)?,
            )
        };
        let missing = || {
            let message = format!("no position was saved under the name {name:?}");
            Error::new(ErrorKind::NotFound, message)
        };
        out_position.set(store.saved_position(name)?.ok_or_else(missing)?);
        Ok(OK)
    })
}

/// The value under a key, put there by eventstore_append_put_state.
///
/// key, key_len: 1 to 1024 bytes.
/// buffer, capacity: place for the value; NULL only with capacity 0.
/// out_len: length of the value. Written on DURALOG_E_BUFFER_TOO_SMALL too: it is the capacity
/// needed.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: there is no value under this key;
/// DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written;
/// DURALOG_E_CORRUPT, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn eventstore_state(
    store: *mut eventstore_t,
    key: *const u8,
    key_len: usize,
    buffer: *mut u8,
    capacity: usize,
    out_len: *mut usize,
) -> duralog_status_t {
    guard(|| {
        args::check_array("buffer", buffer, capacity)?;
        // SAFETY: conventions 2, 4 and 6: the caller promises an open store, bytes that are there
        // for the time of this call, and a writable place.
        let (store, key, out_len) = unsafe {
            (
                handle::shared("store", store)?,
                args::short_array("key", key, key_len, STATE_KEY_LEN_MAX)?,
                Out::required("out_len", out_len)?,
            )
        };
        if key.is_empty() {
            return Err(Error::invalid("key is empty"));
        }
        let missing = || Error::new(ErrorKind::NotFound, "there is no value under this key");
        let value = store.state(key)?.ok_or_else(missing)?;
        let len = value.len();
        out_len.set(len);
        if len > capacity {
            return Err(Error::new(
                ErrorKind::BufferTooSmall,
                format!("the value has {len} bytes, the buffer {capacity}"),
            ));
        }
        if len > 0 {
            // SAFETY: `capacity` is above 0, so `buffer` is not NULL by `check_array`; the caller
            // promises that it is writable for `capacity` bytes, and `len` is not more. Our vector
            // and its buffer do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buffer, len) };
        }
        Ok(OK)
    })
}
