//! Queries over types and tags: what conditions of an append and readings have in common.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, Result};
use crate::eventstore::{Query, QueryItem};
use crate::format::event::NAME_LEN_MAX;
use std::ffi::c_char;

/// Events by type and tag: those that match at least one of its items. An item names types, of
/// which an event must have one, and tags, all of which it must have. A query without items matches
/// every event.
///
///  eventstore_query_open(&query);
///  eventstore_query_add_item(query);
///  eventstore_query_add_type(query, "CourseDefined", 13);
///  eventstore_query_add_type(query, "StudentSubscribed", 17);
///  eventstore_query_add_tag(query, "course:c1", 9);
///
/// Movable: one thread at a time, whichever it is. What uses a query keeps a copy.
pub struct eventstore_query_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_query_t {
    const NAME: &'static str = "eventstore_query_t";
    type Inner = Query;
    type Ownership = Movable;
}

/// Makes a query without items.
///
/// out_query: the query, to be closed by eventstore_query_close.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_query_open(
    out_query: *mut *mut eventstore_query_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 2: the caller promises that the place is writable.
        let out_query = unsafe { Out::required("out_query", out_query) }?;
        out_query.set(handle::give_out(Query::default()));
        Ok(OK)
    })
}

/// Begins an item; it must get a type or a tag before the query is used.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_query_add_item(
    query: *mut eventstore_query_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 9: the caller promises an open query that no other thread uses.
        let query = unsafe { handle::movable("query", query) }?;
        query.items.push(QueryItem::default());
        Ok(OK)
    })
}

/// Adds a type to the last item.
///
/// event_type, event_type_len: 1 to 255 bytes.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if the query has no item.
#[no_mangle]
pub unsafe extern "C" fn eventstore_query_add_type(
    query: *mut eventstore_query_t,
    event_type: *const c_char,
    event_type_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6 and 9: the caller promises an open query that no other thread
        // uses, and a text that is there for the time of this call.
        let (query, name) = unsafe {
            (
                handle::movable("query", query)?,
                name("event_type", event_type, event_type_len)?,
            )
        };
        last_item(query)?.types.push(name.to_owned());
        Ok(OK)
    })
}

/// Adds a tag to the last item.
///
/// tag, tag_len: 1 to 255 bytes.
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if the query has no item.
#[no_mangle]
pub unsafe extern "C" fn eventstore_query_add_tag(
    query: *mut eventstore_query_t,
    tag: *const c_char,
    tag_len: usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_query_add_type`.
        let (query, name) =
            unsafe { (handle::movable("query", query)?, name("tag", tag, tag_len)?) };
        last_item(query)?.tags.push(name.to_owned());
        Ok(OK)
    })
}

/// Releases a query.
///
/// query: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_query_close(
    query: *mut eventstore_query_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the query is open, and that no other call
        // with it runs or follows.
        unsafe { handle::release(query) };
        Ok(OK)
    })
}

/// # Safety
/// As for [`args::text`].
unsafe fn name<'a>(what: &str, data: *const c_char, len: usize) -> Result<&'a str> {
    // SAFETY: the same promise.
    let name = unsafe { args::text(what, data, len, NAME_LEN_MAX) }?;
    if name.is_empty() {
        return Err(Error::invalid(format!("{what} is empty")));
    }
    Ok(name)
}

fn last_item(query: &mut Query) -> Result<&mut QueryItem> {
    let none = || Error::invalid("the query has no item: eventstore_query_add_item comes first");
    query.items.last_mut().ok_or_else(none)
}
