//! What names there are in the event store: of streams, categories, types and tags.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore::eventstore_t;
use super::guard::guard;
use super::handle::{self, Handle, Movable};
use super::replay::pointer;
use super::sized::{SizedOut, SizedStruct};
use super::status::{duralog_status_t, END, OK};
use crate::error::{Error, Result};
use crate::eventstore::{EventStore, NameInfo, NameKind};
use crate::format::event::STREAM_LEN_MAX;
use std::ffi::c_char;
use std::sync::Arc;

/// In kind of eventstore_names_open: streams.
pub const EVENTSTORE_NAMES_STREAM: u32 = 1;
/// In kind of eventstore_names_open: categories: what stands in stream names before the first '-'.
pub const EVENTSTORE_NAMES_CATEGORY: u32 = 2;
/// In kind of eventstore_names_open: event types.
pub const EVENTSTORE_NAMES_TYPE: u32 = 3;
/// In kind of eventstore_names_open: tags.
pub const EVENTSTORE_NAMES_TAG: u32 = 4;

/// Names in a store, in ascending order of their bytes.
///
/// Movable: one thread at a time, whichever it is.
pub struct eventstore_names_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_names_t {
    const NAME: &'static str = "eventstore_names_t";
    type Inner = Names;
    type Ownership = Movable;
}

/// What stands behind it: how far it is, and the columns of the page given last.
pub(super) struct Names {
    store: Arc<EventStore>,
    kind: NameKind,
    prefix: String,
    after: Option<String>,
    event_count: Vec<u64>,
    first_position: Vec<u64>,
    last_position: Vec<u64>,
    name_begin: Vec<u32>,
    name_end: Vec<u32>,
    bytes: String,
}

/// Many names at once, in columns: item i of every column belongs to name i of the page. Start from
/// EVENTSTORE_NAMES_PAGE_INIT.
///
/// Name i is bytes[name_begin[i]] up to bytes[name_end[i]], without its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_names_page_t {
    /// Size of this struct; set by EVENTSTORE_NAMES_PAGE_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Names in the page: 1 or more.
    pub count: usize,
    /// How many events bear each.
    pub event_count: *const u64,
    /// Position of the first of them.
    pub first_position: *const u64,
    /// Position of the last of them.
    pub last_position: *const u64,
    /// Where each name begins in bytes.
    pub name_begin: *const u32,
    /// Where each name ends.
    pub name_end: *const u32,
    /// The names, in UTF-8.
    pub bytes: *const c_char,
    /// Length of bytes.
    pub bytes_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_names_page_t {
    const NAME: &'static str = "eventstore_names_page_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Begins to list names.
///
/// kind: one of EVENTSTORE_NAMES_*.
/// prefix, prefix_len: only names that begin with this; at most 1024 bytes, 0: all names.
/// out_names: the list, to be closed by eventstore_names_close.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_names_open(
    store: *mut eventstore_t,
    kind: u32,
    prefix: *const c_char,
    prefix_len: usize,
    out_names: *mut *mut eventstore_names_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4 and 6: the caller promises an open store, a text that is there
        // for the time of this call, and a writable place.
        let (store, prefix, out_names) = unsafe {
            (
                handle::shared("store", store)?,
                args::text("prefix", prefix, prefix_len, STREAM_LEN_MAX)?,
                Out::required("out_names", out_names)?,
            )
        };
        let kind = match kind {
            EVENTSTORE_NAMES_STREAM => NameKind::Stream,
            EVENTSTORE_NAMES_CATEGORY => NameKind::Category,
            EVENTSTORE_NAMES_TYPE => NameKind::Type,
            EVENTSTORE_NAMES_TAG => NameKind::Tag,
            other => return Err(Error::invalid(format!("kind {other} is unknown"))),
        };
        out_names.set(handle::give_out(Names {
            store,
            kind,
            prefix: prefix.to_owned(),
            after: None,
            event_count: Vec::new(),
            first_position: Vec::new(),
            last_position: Vec::new(),
            name_begin: Vec::new(),
            name_end: Vec::new(),
            bytes: String::new(),
        }));
        Ok(OK)
    })
}

/// Takes the next names, many at once.
///
/// count_max: names wanted at most, 1 or more. The page may hold fewer though more are there.
/// out_page: the page.
///
/// Returns DURALOG_OK;
/// DURALOG_END: there is none now behind those that were given;
/// DURALOG_E_CLOSED: the store was closed;
/// DURALOG_E_CORRUPT, DURALOG_E_IO.
///
/// Borrowed until the next call with this list: all columns and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_names_next_page(
    names: *mut eventstore_names_t,
    count_max: usize,
    out_page: *mut eventstore_names_page_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6, 7 and 9: the caller promises an open list that no other thread
        // uses now, and a struct of the size it says.
        let (names, out_page) = unsafe {
            (
                handle::movable("names", names)?,
                SizedOut::new("out_page", out_page)?,
            )
        };
        if count_max == 0 {
            return Err(Error::invalid("count_max is 0, expected at least 1"));
        }
        // A page is made whole in memory.
        let count_max = count_max.min(PAGE_NAMES_MAX);
        let after = names.after.as_deref();
        let mut found = names
            .store
            .names(names.kind, after, &names.prefix, count_max)?;
        let Some(last) = found.last_mut() else {
            return Ok(END);
        };
        let last = last.name.clone();
        names.fill(&found)?;
        names.after = Some(last);
        out_page.set(&names.page());
        Ok(OK)
    })
}

/// Releases a list of names, before or after its store is closed.
///
/// names: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_names_close(
    names: *mut eventstore_names_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the list is open, and that no other call
        // with it runs or follows.
        unsafe { handle::release(names) };
        Ok(OK)
    })
}

/// Names of a page at most.
const PAGE_NAMES_MAX: usize = 65_536;

impl Names {
    fn fill(&mut self, found: &[NameInfo]) -> Result<()> {
        self.event_count.clear();
        self.first_position.clear();
        self.last_position.clear();
        self.name_begin.clear();
        self.name_end.clear();
        self.bytes.clear();
        for info in found {
            self.event_count.push(info.event_count);
            self.first_position.push(info.first_position);
            self.last_position.push(info.last_position);
            self.name_begin.push(offset(self.bytes.len())?);
            self.bytes.push_str(&info.name);
            self.name_end.push(offset(self.bytes.len())?);
        }
        Ok(())
    }

    /// What C sees of the page; the pointers live as long as it is not filled again.
    #[inline(never)] // as `columns` in cursor.rs
    fn page(&self) -> eventstore_names_page_t {
        eventstore_names_page_t {
            struct_size: 0, // the caller's stays
            reserved: 0,
            count: self.event_count.len(),
            event_count: pointer(&self.event_count),
            first_position: pointer(&self.first_position),
            last_position: pointer(&self.last_position),
            name_begin: pointer(&self.name_begin),
            name_end: pointer(&self.name_end),
            bytes: pointer(self.bytes.as_bytes()).cast(),
            bytes_len: self.bytes.len(),
        }
    }
}

fn offset(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| Error::no_memory("a page of names", len))
}
