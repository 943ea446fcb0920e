//! Reading events at the caller's pace: one event or a page of columns at a time.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore::eventstore_t;
use super::eventstore_query::eventstore_query_t;
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::replay::pointer;
use super::sized::{self, SizedOut, SizedStruct};
use super::status::{duralog_status_t, END, OK};
use crate::error::{Error, ErrorKind, Result};
use crate::eventstore::{Direction, EventPage, EventReader, EventStore, Read, Selection};
use crate::format::event::{EventId, STREAM_LEN_MAX};
use crate::format::varint;
use std::ffi::c_char;
use std::sync::Arc;

/// In selection of eventstore_read_t: all events.
pub const EVENTSTORE_READ_ALL: u32 = 0;
/// In selection of eventstore_read_t: the events of the stream called name.
pub const EVENTSTORE_READ_STREAM: u32 = 1;
/// In selection of eventstore_read_t: the events of all streams whose name begins with name, up to
/// the first '-' in it.
pub const EVENTSTORE_READ_CATEGORY: u32 = 2;
/// In selection of eventstore_read_t: the events that match query.
pub const EVENTSTORE_READ_QUERY: u32 = 3;

/// In direction of eventstore_read_t: the oldest first. The default.
pub const EVENTSTORE_READ_FORWARD: u32 = 0;
/// In direction of eventstore_read_t: the newest first.
pub const EVENTSTORE_READ_BACKWARD: u32 = 1;

/// In flags of an event: its id is its own, given when it was appended. Without this flag it was
/// made of the log's id and the event's position.
pub const EVENTSTORE_EVENT_OWN_ID: u8 = 1;
/// In flags of an event: it is the first of its batch.
pub const EVENTSTORE_EVENT_FIRST: u8 = 2;
/// In flags of an event: it is the last of its batch.
pub const EVENTSTORE_EVENT_LAST: u8 = 4;
/// In flags of an event: it has metadata.
pub const EVENTSTORE_EVENT_METADATA: u8 = 8;
/// In flags of an event: it says when it occurred. Without this flag occurred_ns is 0.
pub const EVENTSTORE_EVENT_OCCURRED: u8 = 16;
/// In flags of an event: it has a correlation id. Without this flag that is all zero.
pub const EVENTSTORE_EVENT_CORRELATION: u8 = 32;
/// In flags of an event: it has a causation id. Without this flag that is all zero.
pub const EVENTSTORE_EVENT_CAUSATION: u8 = 64;

/// Events fetched together for eventstore_cursor_next.
const NEXT_COUNT: usize = 256;

/// What to read. Start from EVENTSTORE_READ_INIT; zero means: all events, forward, from the first
/// to the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_read_t {
    /// Size of this struct; set by EVENTSTORE_READ_INIT.
    pub struct_size: u32,
    /// Which events: one of EVENTSTORE_READ_ALL, _STREAM, _CATEGORY, _QUERY.
    pub selection: u32,
    /// EVENTSTORE_READ_FORWARD or EVENTSTORE_READ_BACKWARD.
    pub direction: u32,
    /// 0.
    pub reserved: u32,
    /// Name of the stream or category; NULL with the other selections.
    pub name: *const c_char,
    /// Length of name; 0 with the other selections.
    pub name_len: usize,
    /// With EVENTSTORE_READ_QUERY: the query, of which a copy is kept; else NULL.
    pub query: *mut eventstore_query_t,
    /// The first to read: of a stream, its stream version; else its position, or if that is none
    /// of the selection, the next one. 0: the first that there is, or backward the last.
    pub first: u64,
    /// The last to read, likewise; 0: the last that there is, or backward the first.
    pub last: u64,
    /// At most so many events; 0: no limit.
    pub limit: u64,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_read_t {
    const NAME: &'static str = "eventstore_read_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// A place in a reading of a store.
///
/// Movable: one thread at a time, whichever it is. Several cursors of one store are independent of
/// each other. Its reading goes on when the store was closed, and shows what was there by then.
pub struct eventstore_cursor_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_cursor_t {
    const NAME: &'static str = "eventstore_cursor_t";
    type Inner = Cursor;
    type Ownership = Movable;
}

/// What stands behind a cursor: a reading, and how much of its page was given.
pub(super) struct Cursor {
    store: Arc<EventStore>,
    reader: EventReader,
    given: usize,
    single: EventPage,
}

impl Cursor {
    /// The page to go on with and the index in it; `None` at the end. Fetches up to `count_max`
    /// events if the page that is there has been given whole.
    fn go_on(&mut self, count_max: usize) -> Result<Option<(&EventPage, usize)>> {
        if self.given >= self.reader.page().len() {
            self.given = 0;
            self.reader.next_page(count_max)?;
        }
        let page = self.reader.page();
        Ok((!page.is_empty()).then_some((page, self.given)))
    }
}

/// One event as it is read. Start from EVENTSTORE_EVENT_INIT. Texts are UTF-8 without a NUL at
/// their end; pointers are never NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_event_t {
    /// Size of this struct; set by EVENTSTORE_EVENT_INIT.
    pub struct_size: u32,
    /// EVENTSTORE_EVENT_* flags, combined by OR.
    pub flags: u32,
    /// Its number in the store, from 1, without gaps.
    pub position: u64,
    /// Its number in its stream, from 1, without gaps.
    pub stream_version: u64,
    /// When it was recorded, in nanoseconds since 1970-01-01 UTC; never less than that of an event
    /// before it.
    pub time_ns: u64,
    /// The application's number for the form of the data; 0: none was given.
    pub schema_version: u64,
    /// When it occurred, in nanoseconds since 1970-01-01 UTC; see EVENTSTORE_EVENT_OCCURRED.
    pub occurred_ns: i64,
    /// Its id.
    pub id: [u8; 16],
    /// What it belongs to; see EVENTSTORE_EVENT_CORRELATION.
    pub correlation_id: [u8; 16],
    /// What it follows from; see EVENTSTORE_EVENT_CAUSATION.
    pub causation_id: [u8; 16],
    /// Its stream.
    pub stream: *const c_char,
    /// Length of stream.
    pub stream_len: usize,
    /// What happened.
    pub event_type: *const c_char,
    /// Length of event_type.
    pub event_type_len: usize,
    /// Media type of the data; empty: none was given.
    pub content_type: *const c_char,
    /// Length of content_type.
    pub content_type_len: usize,
    /// Its tags in ascending order, to be taken apart by eventstore_tag_next.
    pub tags: *const u8,
    /// Length of tags.
    pub tags_len: usize,
    /// How many tags.
    pub tag_count: usize,
    /// About the event.
    pub metadata: *const u8,
    /// Length of metadata.
    pub metadata_len: usize,
    /// The event.
    pub data: *const u8,
    /// Length of data.
    pub data_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers, arrays of them and raw pointers only.
unsafe impl SizedStruct for eventstore_event_t {
    const NAME: &'static str = "eventstore_event_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Many events at once, in columns: item i of every column belongs to event i of the page, and
/// means what the field of eventstore_event_t of that name means. Start from EVENTSTORE_PAGE_INIT.
///
/// The stream of event i is bytes[stream_begin[i]] up to bytes[stream_end[i]], without its end; and
/// so on for the other pairs of columns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_page_t {
    /// Size of this struct; set by EVENTSTORE_PAGE_INIT.
    pub struct_size: u32,
    /// 1: nothing stood behind these events when they were read, so that a program that wants no more
    /// than what is there need not ask again. 0: there may be more; and always in pages of a
    /// subscription.
    pub at_end: u32,
    /// Events in the page: 1 or more.
    pub count: usize,
    /// Position of each.
    pub position: *const u64,
    /// Stream version of each.
    pub stream_version: *const u64,
    /// When each was recorded.
    pub time_ns: *const u64,
    /// Schema version of each.
    pub schema_version: *const u64,
    /// When each occurred.
    pub occurred_ns: *const i64,
    /// EVENTSTORE_EVENT_* flags of each.
    pub flags: *const u8,
    /// How many tags each has.
    pub tag_count: *const u8,
    /// 16 bytes for each.
    pub id: *const u8,
    /// 16 bytes for each.
    pub correlation_id: *const u8,
    /// 16 bytes for each.
    pub causation_id: *const u8,
    /// Where the stream of each begins in bytes.
    pub stream_begin: *const u32,
    /// Where it ends.
    pub stream_end: *const u32,
    /// Where the event type of each begins.
    pub event_type_begin: *const u32,
    /// Where it ends.
    pub event_type_end: *const u32,
    /// Where the content type of each begins.
    pub content_type_begin: *const u32,
    /// Where it ends.
    pub content_type_end: *const u32,
    /// Where the tags of each begin: each tag with its length before it, which is one byte below
    /// 128, else two: 128 + length % 128 and length / 128 (see eventstore_tag_next).
    pub tags_begin: *const u32,
    /// Where they end.
    pub tags_end: *const u32,
    /// Where the metadata of each begins.
    pub metadata_begin: *const u32,
    /// Where it ends.
    pub metadata_end: *const u32,
    /// Where the data of each begins.
    pub data_begin: *const u32,
    /// Where it ends.
    pub data_end: *const u32,
    /// Texts and bytes. What lies between them means nothing.
    pub bytes: *const u8,
    /// Length of bytes.
    pub bytes_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_page_t {
    const NAME: &'static str = "eventstore_page_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Begins to read.
///
/// read: what to read; NULL: all events.
/// out_cursor: the cursor, to be closed by eventstore_cursor_close.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_read(
    store: *mut eventstore_t,
    read: *const eventstore_read_t,
    out_cursor: *mut *mut eventstore_cursor_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4, 6, 7 and 9: the caller promises an open store, a struct of the
        // size it says, with a name that is there and a query that no other thread uses for the
        // time of this call, and a writable place.
        let (store, read, out_cursor) = unsafe {
            (
                handle::shared("store", store)?,
                what_to_read(read)?,
                Out::required("out_cursor", out_cursor)?,
            )
        };
        let cursor = Cursor {
            reader: store.read(read)?,
            store,
            given: 0,
            single: EventPage::default(),
        };
        out_cursor.set(handle::give_out(cursor));
        Ok(OK)
    })
}

/// # Safety
/// If `read` is not NULL, as many bytes as its `struct_size` says are readable, and its name and
/// query are there; nobody else uses the query.
pub(super) unsafe fn what_to_read(read: *const eventstore_read_t) -> Result<Read> {
    if read.is_null() {
        return Ok(Read::default());
    }
    // SAFETY: the same promise.
    let given = unsafe { sized::read("read", read) }?;
    if given.reserved != 0 {
        return Err(Error::invalid("reserved of eventstore_read_t is not 0"));
    }
    let has_name = matches!(
        given.selection,
        EVENTSTORE_READ_STREAM | EVENTSTORE_READ_CATEGORY
    );
    if !has_name && given.name_len != 0 {
        return Err(Error::invalid(
            "a name was given, but is not of the selection",
        ));
    }
    if given.selection != EVENTSTORE_READ_QUERY && !given.query.is_null() {
        return Err(Error::invalid(
            "a query was given, but is not of the selection",
        ));
    }
    // SAFETY: the same promise.
    let name = unsafe { args::text("name", given.name, given.name_len, STREAM_LEN_MAX) }?;
    Ok(Read {
        selection: match given.selection {
            EVENTSTORE_READ_ALL => Selection::All,
            EVENTSTORE_READ_STREAM => Selection::Stream(name.to_owned()),
            EVENTSTORE_READ_CATEGORY => Selection::Category(name.to_owned()),
            EVENTSTORE_READ_QUERY => {
                // SAFETY: the same promise.
                let query = unsafe { handle::movable("query", given.query) }?;
                Selection::Query(query.clone())
            }
            other => return Err(Error::invalid(format!("selection {other} is unknown"))),
        },
        direction: match given.direction {
            EVENTSTORE_READ_FORWARD => Direction::Forward,
            EVENTSTORE_READ_BACKWARD => Direction::Backward,
            other => return Err(Error::invalid(format!("direction {other} is unknown"))),
        },
        from: given.first,
        to: given.last,
        limit: given.limit,
    })
}

/// Takes the next event.
///
/// out_event: the event.
///
/// Returns DURALOG_OK;
/// DURALOG_END: there is none now; forward, later calls may find more;
/// DURALOG_E_CORRUPT: all events before the damage were given; the last error names the place;
/// DURALOG_E_IO.
///
/// Borrowed until the next call with this cursor: texts and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_cursor_next(
    cursor: *mut eventstore_cursor_t,
    out_event: *mut eventstore_event_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open cursor that no other thread
        // uses now, and a struct of the size it says.
        let (cursor, out_event) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                SizedOut::new("out_event", out_event)?,
            )
        };
        let Some((page, index)) = cursor.go_on(NEXT_COUNT)? else {
            return Ok(END);
        };
        // The bytes are the cursor's own and stay until it is used again, though the pointers say
        // nothing of that: the header does.
        out_event.set(&event(page, index)?);
        cursor.given += 1;
        Ok(OK)
    })
}

/// Takes the next events, many at once. Mixes freely with eventstore_cursor_next.
///
/// count_max: events wanted at most, 1 or more. The page may hold fewer though more are there: it ends with the
/// 4,096th, or with the event that fills its first MiB.
/// out_page: the page.
///
/// Returns as eventstore_cursor_next does.
///
/// Borrowed until the next call with this cursor: all columns and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_cursor_next_page(
    cursor: *mut eventstore_cursor_t,
    count_max: usize,
    out_page: *mut eventstore_page_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_cursor_next`.
        let (cursor, out_page) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                SizedOut::new("out_page", out_page)?,
            )
        };
        if count_max == 0 {
            return Err(Error::invalid("count_max is 0, expected at least 1"));
        }
        if cursor.go_on(count_max)?.is_none() {
            return Ok(END);
        }
        let (page, begin) = (cursor.reader.page(), cursor.given);
        let end = page.len().min(begin.saturating_add(count_max));
        let is_rest = end == page.len();
        out_page.set(&eventstore_page_t {
            at_end: u32::from(is_rest && cursor.reader.is_at_end()),
            ..columns(page, begin, end)
        });
        cursor.given = end;
        Ok(OK)
    })
}

/// Looks up the event at a position. The reading of the cursor stays where it is, whatever it
/// selects.
///
/// out_event: the event.
///
/// Returns DURALOG_OK;
/// DURALOG_E_NOT_FOUND: there is no event at this position;
/// DURALOG_E_CLOSED: the store was closed;
/// DURALOG_E_CORRUPT, DURALOG_E_IO.
///
/// Borrowed until the next call with this cursor: texts and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_cursor_event_at(
    cursor: *mut eventstore_cursor_t,
    position: u64,
    out_event: *mut eventstore_event_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_cursor_next`.
        let (cursor, out_event) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                SizedOut::new("out_event", out_event)?,
            )
        };
        cursor.single = cursor.store.event_at(position)?;
        let missing = || format!("there is no event at position {position}");
        out_event.set(&single(&cursor.single, missing)?);
        Ok(OK)
    })
}

/// Looks up the event with an id, its own or the one that was made for it. The reading of the
/// cursor stays where it is, whatever it selects.
///
/// id: 16 bytes.
/// out_event: the event.
///
/// Returns as eventstore_cursor_event_at does.
///
/// Borrowed until the next call with this cursor: texts and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_cursor_event_by_id(
    cursor: *mut eventstore_cursor_t,
    id: *const u8,
    out_event: *mut eventstore_event_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6, 7 and 9: the caller promises an open cursor that no other
        // thread uses now, 16 bytes, and a struct of the size it says.
        let (cursor, id, out_event) = unsafe {
            (
                handle::movable("cursor", cursor)?,
                args::optional_id("id", id)?,
                SizedOut::new("out_event", out_event)?,
            )
        };
        let id: EventId = id.ok_or_else(|| Error::invalid("id is NULL"))?;
        cursor.single = cursor.store.event_by_id(&id)?;
        let missing = || "there is no event with this id".to_owned();
        out_event.set(&single(&cursor.single, missing)?);
        Ok(OK)
    })
}

/// Releases a cursor, before or after its store is closed.
///
/// cursor: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_cursor_close(
    cursor: *mut eventstore_cursor_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the cursor is open, and that no other call
        // with it runs or follows.
        unsafe { handle::release(cursor) };
        Ok(OK)
    })
}

/// Takes the next of the tags of an event.
///
///  size_t at = 0;
///  while (eventstore_tag_next(event.tags, event.tags_len, &at, &tag, &tag_len) == DURALOG_OK)
///      printf("%.*s\n", (int)tag_len, tag);
///
/// tags, tags_len: from an event or a page.
/// at: where to go on; 0 before the first, and moved behind the tag that is taken.
/// out_tag, out_tag_len: the tag, without a NUL at its end; it points into tags.
///
/// Returns DURALOG_OK;
/// DURALOG_END: there is none any more;
/// DURALOG_E_INVALID_ARGUMENT: also if there are no tags of an event at this place.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub unsafe extern "C" fn eventstore_tag_next(
    tags: *const u8,
    tags_len: usize,
    at: *mut usize,
    out_tag: *mut *const c_char,
    out_tag_len: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 4: the caller promises that the bytes and a number at `at` are
        // there, and that the places are writable, for the time of this call.
        let (tags, from, at, out_tag, out_tag_len) = unsafe {
            (
                args::array("tags", tags, tags_len)?,
                args::array("at", at.cast_const(), 1)?,
                Out::required("at", at)?,
                Out::required("out_tag", out_tag)?,
                Out::required("out_tag_len", out_tag_len)?,
            )
        };
        let mut next = from.first().copied().unwrap_or(0);
        if next == tags.len() {
            return Ok(END);
        }
        let bad = || Error::invalid(format!("there is no tag at {next}"));
        let mut begin = next;
        let len = varint::get(tags, &mut begin).ok_or_else(bad)?;
        let len = usize::try_from(len).map_err(|_| bad())?;
        let end = begin.checked_add(len).ok_or_else(bad)?;
        let tag = tags.get(begin..end).ok_or_else(bad)?;
        next = end;
        out_tag.set(pointer(tag).cast());
        out_tag_len.set(tag.len());
        at.set(next);
        Ok(OK)
    })
}

fn single(page: &EventPage, missing: impl FnOnce() -> String) -> Result<eventstore_event_t> {
    if page.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, missing()));
    }
    event(page, 0)
}

/// What C sees of an event; the pointers live as long as the page is not filled again.
#[inline(never)] // as `columns` in cursor.rs
fn event(page: &EventPage, index: usize) -> Result<eventstore_event_t> {
    let lost = || {
        Error::new(
            ErrorKind::Internal,
            "a page without an event that it counts",
        )
    };
    let event = page.columns().raw(page.bytes(), index).ok_or_else(lost)?;
    Ok(eventstore_event_t {
        struct_size: 0, // the caller's stays
        flags: u32::from(event.flags),
        position: event.position,
        stream_version: event.stream_version,
        time_ns: event.time_ns,
        schema_version: event.schema_version,
        occurred_ns: event.occurred_ns,
        id: event.id,
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        stream: pointer(event.stream).cast(),
        stream_len: event.stream.len(),
        event_type: pointer(event.event_type).cast(),
        event_type_len: event.event_type.len(),
        content_type: pointer(event.content_type).cast(),
        content_type_len: event.content_type.len(),
        tags: pointer(event.tags),
        tags_len: event.tags.len(),
        tag_count: usize::from(event.tag_count),
        metadata: pointer(event.metadata),
        metadata_len: event.metadata.len(),
        data: pointer(event.data),
        data_len: event.data.len(),
    })
}

/// What C sees of the events `begin` to `end` of a page; the pointers live as long as the page is
/// not filled again.
#[inline(never)] // as `columns` in cursor.rs
pub(super) fn columns(page: &EventPage, begin: usize, end: usize) -> eventstore_page_t {
    fn part<T>(column: &[T], begin: usize, end: usize) -> *const T {
        pointer(column.get(begin..end).unwrap_or_default())
    }
    let columns = page.columns();
    let span = |column: &[u32]| part(column, begin, end);
    eventstore_page_t {
        struct_size: 0, // the caller's stays
        at_end: 0,
        count: end - begin,
        position: part(&columns.position, begin, end),
        stream_version: part(&columns.stream_version, begin, end),
        time_ns: part(&columns.time_ns, begin, end),
        schema_version: part(&columns.schema_version, begin, end),
        occurred_ns: part(&columns.occurred_ns, begin, end),
        flags: part(&columns.flags, begin, end),
        tag_count: part(&columns.tag_count, begin, end),
        id: part(&columns.id, begin, end).cast(),
        correlation_id: part(&columns.correlation_id, begin, end).cast(),
        causation_id: part(&columns.causation_id, begin, end).cast(),
        stream_begin: span(&columns.stream.begin),
        stream_end: span(&columns.stream.end),
        event_type_begin: span(&columns.event_type.begin),
        event_type_end: span(&columns.event_type.end),
        content_type_begin: span(&columns.content_type.begin),
        content_type_end: span(&columns.content_type.end),
        tags_begin: span(&columns.tags.begin),
        tags_end: span(&columns.tags.end),
        metadata_begin: span(&columns.metadata.begin),
        metadata_end: span(&columns.metadata.end),
        data_begin: span(&columns.data.begin),
        data_end: span(&columns.data.end),
        bytes: pointer(page.bytes()),
        bytes_len: page.bytes().len(),
    }
}
