//! Building an append to the event store: events, preconditions, and what is committed with them.
//!
//! Everything is checked and copied as it is added; what depends on the store or on other parts of
//! the batch is checked when it is appended.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore_draft::{Draft, DraftEvent};
use super::eventstore_query::eventstore_query_t;
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::sized::{self, SizedStruct};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, Result};
use crate::eventstore::Expected;
use crate::format::event::{
    NAME_LEN_MAX, STATE_KEY_LEN_MAX, STATE_VALUE_LEN_MAX, STREAM_LEN_MAX, TAG_COUNT_MAX,
};
use std::ffi::c_char;

/// In expected of eventstore_append_expect: whatever version the stream has.
pub const EVENTSTORE_EXPECT_ANY: i64 = -1;
/// In expected of eventstore_append_expect: the stream has at least one event.
pub const EVENTSTORE_EXPECT_EXISTS: i64 = -2;
/// In expected of eventstore_append_expect: there is no such stream.
pub const EVENTSTORE_EXPECT_NONE: i64 = 0;

/// In flags of eventstore_append_save_position: the position may go back.
pub const EVENTSTORE_POSITION_RESET: u32 = 1;

/// A batch that is being built: events for any number of streams, what must hold before, and what
/// is committed with them. eventstore_append appends all of it or nothing, as often as it is called:
/// the batch stays as it is until it is cleared.
///
/// Movable: one thread at a time, whichever it is. It belongs to no store, and keeps copies of all
/// that it is given.
pub struct eventstore_append_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_append_t {
    const NAME: &'static str = "eventstore_append_t";
    type Inner = Draft;
    type Ownership = Movable;
}

/// An event to be appended. Start from EVENTSTORE_NEW_EVENT_INIT; zero means that it says nothing
/// of the kind. Only stream and event_type must be given.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_new_event_t {
    /// Size of this struct; set by EVENTSTORE_NEW_EVENT_INIT.
    pub struct_size: u32,
    /// 1: occurred_ns is given; 0: it is not.
    pub has_occurred: u32,
    /// Its stream: 1 to 1024 bytes of UTF-8.
    pub stream: *const c_char,
    /// Length of stream.
    pub stream_len: usize,
    /// What happened: 1 to 255 bytes of UTF-8.
    pub event_type: *const c_char,
    /// Length of event_type.
    pub event_type_len: usize,
    /// The event, in bytes of the application's own.
    pub data: *const u8,
    /// Length of data.
    pub data_len: usize,
    /// About the event, in bytes of the application's own.
    pub metadata: *const u8,
    /// Length of metadata.
    pub metadata_len: usize,
    /// Media type of the data: up to 255 bytes of UTF-8.
    pub content_type: *const c_char,
    /// Length of content_type.
    pub content_type_len: usize,
    /// Array of tag_count tags, each of 1 to 255 bytes of UTF-8. They are a set: order and
    /// repetition mean nothing.
    pub tags: *const *const c_char,
    /// Array of their lengths.
    pub tag_lens: *const usize,
    /// How many: at most 64.
    pub tag_count: usize,
    /// Id of its own: 16 bytes, not all zero, that no other event has; NULL: it gets one made of
    /// the log's id and its position.
    pub id: *const u8,
    /// What it belongs to: 16 bytes, or NULL.
    pub correlation_id: *const u8,
    /// What it follows from: 16 bytes, or NULL.
    pub causation_id: *const u8,
    /// The application's number for the form of the data.
    pub schema_version: u64,
    /// When it occurred, in nanoseconds since 1970-01-01 UTC. When it was recorded is known anyway.
    pub occurred_ns: i64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_new_event_t {
    const NAME: &'static str = "eventstore_new_event_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Makes an empty batch.
///
/// out_batch: the batch, to be closed by eventstore_append_close.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_open(
    out_batch: *mut *mut eventstore_append_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 2: the caller promises that the place is writable.
        let out_batch = unsafe { Out::required("out_batch", out_batch) }?;
        out_batch.set(handle::give_out(Draft::default()));
        Ok(OK)
    })
}

/// Empties a batch, so that it can be built anew; what it has of memory stays for that.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_clear(
    batch: *mut eventstore_append_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 9: the caller promises an open batch that no other thread uses.
        unsafe { handle::movable("batch", batch) }?.clear();
        Ok(OK)
    })
}

/// Releases a batch.
///
/// batch: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_close(
    batch: *mut eventstore_append_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the batch is open, and that no other call
        // with it runs or follows.
        unsafe { handle::release(batch) };
        Ok(OK)
    })
}

/// Adds an event. Events get their positions in the order in which they are added.
///
/// event: the event, all of which is copied.
///
/// Returns DURALOG_OK;
/// DURALOG_E_TOO_LARGE: data and metadata have more than 67,108,852 bytes together. The event as a whole
/// is judged by eventstore_append: its record, as FORMAT.md section 20.2 has it with 10 bytes each for
/// position and stream version, has at most 67,108,852 bytes of key and value. At most 18,078 of them
/// are not data and metadata.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_add_event(
    batch: *mut eventstore_append_t,
    event: *const eventstore_new_event_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6, 7 and 9: the caller promises an open batch that no other thread
        // uses, and a struct of the size it says, which and all of whose bytes are there and
        // unchanged for the time of this call.
        unsafe {
            let draft = handle::movable("batch", batch)?;
            add_event(draft, &sized::read("event", event)?)?;
        }
        Ok(OK)
    })
}

/// # Safety
/// What `event` points to is there and unchanged for the time of this call.
unsafe fn add_event(draft: &mut Draft, event: &eventstore_new_event_t) -> Result<()> {
    let has_occurred = match event.has_occurred {
        0 => false,
        1 => true,
        other => {
            return Err(Error::invalid(format!(
                "has_occurred is {other}, expected 0 or 1"
            )))
        }
    };
    args::check_array("data", event.data, event.data_len)?;
    args::check_array("metadata", event.metadata, event.metadata_len)?;
    args::check_record_len(event.data_len, event.metadata_len)?;
    if event.tag_count > TAG_COUNT_MAX {
        return Err(Error::invalid(format!(
            "{} tags, at most {TAG_COUNT_MAX} are allowed",
            event.tag_count
        )));
    }
    // SAFETY: the same promise; the slices do not outlive this call. Lengths are checked before a
    // byte is touched.
    let (stream, event_type, content_type, data, metadata, tags, tag_lens) = unsafe {
        (
            named("stream", event.stream, event.stream_len, STREAM_LEN_MAX)?,
            named(
                "event_type",
                event.event_type,
                event.event_type_len,
                NAME_LEN_MAX,
            )?,
            args::text(
                "content_type",
                event.content_type,
                event.content_type_len,
                NAME_LEN_MAX,
            )?,
            args::array("data", event.data, event.data_len)?,
            args::array("metadata", event.metadata, event.metadata_len)?,
            args::array("tags", event.tags, event.tag_count)?,
            args::array("tag_lens", event.tag_lens, event.tag_count)?,
        )
    };
    let mut new_tags: Vec<&str> = Vec::with_capacity(tags.len());
    for (index, (tag, len)) in tags.iter().zip(tag_lens).enumerate() {
        // SAFETY: the same promise.
        let tag = unsafe { named("it", *tag, *len, NAME_LEN_MAX) };
        new_tags.push(tag.map_err(|error| {
            let kind = error.kind();
            error.into_kind(kind, &format!("tag {index}"))
        })?);
    }
    // SAFETY: the same promise.
    let (id, correlation_id, causation_id) = unsafe {
        (
            args::optional_id("id", event.id)?,
            args::optional_id("correlation_id", event.correlation_id)?,
            args::optional_id("causation_id", event.causation_id)?,
        )
    };
    let tag_bytes: usize = new_tags.iter().map(|tag| tag.len()).sum();
    let text_len = stream.len() + event_type.len() + content_type.len() + tag_bytes;
    draft.reserve(1, new_tags.len(), text_len, data.len() + metadata.len())?;
    let first_tag = draft.tag_count();
    for tag in &new_tags {
        let tag = draft.add_text(tag);
        draft.add_tag(tag);
    }
    let event = DraftEvent {
        stream: draft.add_text(stream),
        event_type: draft.add_text(event_type),
        content_type: draft.add_text(content_type),
        tags: first_tag..draft.tag_count(),
        data: draft.add_bytes(data),
        metadata: draft.add_bytes(metadata),
        schema_version: event.schema_version,
        id,
        occurred_ns: has_occurred.then_some(event.occurred_ns),
        correlation_id,
        causation_id,
    };
    draft.add_event(event);
    Ok(())
}

/// Demands that a stream has a certain version before the append. Each stream at most once; it need
/// not be one that is appended to.
///
/// stream, stream_len: 1 to 1024 bytes.
/// expected: EVENTSTORE_EXPECT_ANY, EVENTSTORE_EXPECT_EXISTS, EVENTSTORE_EXPECT_NONE, or exactly
/// this version.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_expect(
    batch: *mut eventstore_append_t,
    stream: *const c_char,
    stream_len: usize,
    expected: i64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 9: the caller promises an open batch that no other thread
        // uses, and a text that is there for the time of this call.
        let (draft, stream) = unsafe {
            (
                handle::movable("batch", batch)?,
                named("stream", stream, stream_len, STREAM_LEN_MAX)?,
            )
        };
        let unknown = || Error::invalid(format!("expected {expected} is unknown"));
        draft.expect(stream, Expected::from_number(expected).ok_or_else(unknown)?)?;
        Ok(OK)
    })
}

/// Demands that no event behind a position matches a query: nothing of the kind was appended since
/// the caller looked.
///
/// query: copied, and may be closed or changed at once.
/// after: events up to this position do not count; 0: all count.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_add_condition(
    batch: *mut eventstore_append_t,
    query: *mut eventstore_query_t,
    after: u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 9: the caller promises an open batch and an open query that no
        // other thread uses; being of different types they are not the same.
        let (draft, query) = unsafe {
            (
                handle::movable("batch", batch)?,
                handle::movable("query", query)?,
            )
        };
        draft.add_condition(query.clone(), after)?;
        Ok(OK)
    })
}

/// Saves with the batch up to where somebody has read; eventstore_saved_position tells it. A
/// position that is not beyond the saved one is a conflict. Each name at most once.
///
/// name, name_len: 1 to 255 bytes.
/// position: the last position dealt with.
/// flags: 0, or EVENTSTORE_POSITION_RESET.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_save_position(
    batch: *mut eventstore_append_t,
    name: *const c_char,
    name_len: usize,
    position: u64,
    flags: u32,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 9: the caller promises an open batch that no other thread
        // uses, and a text that is there for the time of this call.
        let (draft, name) = unsafe {
            (
                handle::movable("batch", batch)?,
                named("name", name, name_len, NAME_LEN_MAX)?,
            )
        };
        let reset = match flags {
            0 => false,
            EVENTSTORE_POSITION_RESET => true,
            _ => {
                return Err(Error::invalid(format!(
                    "flags {flags:#x} has unknown flags, known is EVENTSTORE_POSITION_RESET"
                )))
            }
        };
        draft.save_position(name, position, reset)?;
        Ok(OK)
    })
}

/// Puts with the batch a value of the application's own under a key; eventstore_state tells it.
/// Each key at most once.
///
/// key, key_len: 1 to 1024 bytes.
/// value, value_len: at most 1,048,576 bytes.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_put_state(
    batch: *mut eventstore_append_t,
    key: *const u8,
    key_len: usize,
    value: *const u8,
    value_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 9: the caller promises an open batch that no other thread
        // uses, and bytes that are there for the time of this call.
        let (draft, key, value) = unsafe {
            (
                handle::movable("batch", batch)?,
                some_bytes("key", key, key_len, STATE_KEY_LEN_MAX)?,
                args::short_array("value", value, value_len, STATE_VALUE_LEN_MAX)?,
            )
        };
        draft.put_state(key, value)?;
        Ok(OK)
    })
}

/// Deletes with the batch the value under a key; a key without a value is nothing. Each key at most
/// once.
///
/// key, key_len: 1 to 1024 bytes.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_delete_state(
    batch: *mut eventstore_append_t,
    key: *const u8,
    key_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_append_put_state`.
        let (draft, key) = unsafe {
            (
                handle::movable("batch", batch)?,
                some_bytes("key", key, key_len, STATE_KEY_LEN_MAX)?,
            )
        };
        draft.delete_state(key)?;
        Ok(OK)
    })
}

/// Gives the batch a key by which the store knows it again: appended twice, the second time gives
/// the receipt of the first. Events that all have ids of their own need no key.
///
/// key, key_len: 1 to 255 bytes; 0: no key.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_set_idempotency_key(
    batch: *mut eventstore_append_t,
    key: *const u8,
    key_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_append_put_state`.
        let (draft, key) = unsafe {
            (
                handle::movable("batch", batch)?,
                args::short_array("key", key, key_len, NAME_LEN_MAX)?,
            )
        };
        draft.set_idempotency_key(key)?;
        Ok(OK)
    })
}

/// A text that is not empty.
///
/// # Safety
/// As for [`args::text`].
unsafe fn named<'a>(
    what: &str,
    data: *const c_char,
    len: usize,
    len_max: usize,
) -> Result<&'a str> {
    // SAFETY: the same promise.
    let text = unsafe { args::text(what, data, len, len_max) }?;
    if text.is_empty() {
        return Err(Error::invalid(format!("{what} is empty")));
    }
    Ok(text)
}

/// Bytes, at least one.
///
/// # Safety
/// As for [`args::short_array`].
unsafe fn some_bytes<'a>(
    what: &str,
    data: *const u8,
    len: usize,
    len_max: usize,
) -> Result<&'a [u8]> {
    if len == 0 {
        return Err(Error::invalid(format!("{what} is empty")));
    }
    // SAFETY: the same promise.
    unsafe { args::short_array(what, data, len, len_max) }
}
