//! A page of events in one run of bytes. In C a column is a pointer and costs nothing; in a language
//! where taking a column from its place costs a call, a page of a few events is mostly such calls.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::args::{self, Out};
use super::different::Different;
use super::eventstore_cursor::eventstore_page_t;
use super::guard::guard;
use super::sized;
use super::spans::joined_len;
use super::status::{duralog_status_t, OK};
use crate::error::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;

/// In flags of eventstore_page_pack: the streams too.
pub const EVENTSTORE_PACK_STREAMS: u32 = 1;
/// In flags of eventstore_page_pack: the rest too.
pub const EVENTSTORE_PACK_REST: u32 = 2;

/// Eight numbers of 64 bits, which come first.
const HEAD_LEN: usize = 8 * 8;
/// Of each event: position, stream_version, length of data, number of its type.
const FIRST_LEN: usize = 8 + 8 + 4 + 1;
/// Of each event: what has one length of the rest.
const REST_LEN: usize = 3 * 8 + 3 * 16 + 3 * 4 + 2;

/// Copies a page into one run of bytes: every column, and the texts and bytes of each column one behind the
/// other. Programs in C have no need of it; it is for languages that take many parts from one run of bytes
/// faster than each from its place.
///
/// page: as it was filled; what it points to must still be there.
/// flags: EVENTSTORE_PACK_STREAMS, EVENTSTORE_PACK_REST, combined by OR, or 0.
/// buffer, capacity: place for all of it; NULL only with capacity 0. It must not overlap what the page points
/// to.
/// out_len: how much of the place was used; on DURALOG_E_BUFFER_TOO_SMALL a capacity that is enough.
///
/// The place begins with eight numbers of 64 bits, as this machine has them: how many events; how many
/// different event types, or 0 if there are more than 256 or so; the length of each event's data, or 2^64 - 1 if
/// not all are of one; and where the rest, the streams, the event types and the data begin, and where the data
/// ends. Then come, each a column without gaps:
///
///  position, stream_version          8 bytes each
///  length of data                    4
///  which of the event types          1, from 0; 0 if they were too many
///  the rest, or nothing:
///      time_ns, schema_version, occurred_ns                8 each
///      id, correlation_id, causation_id                    16 each
///      length of content type, of tags, of metadata        4 each
///      flags, tag_count                                    1 each
///      content types, tags, metadata                       without anything between
///  streams, or nothing               with a NUL between two
///  event types                       likewise: each of the different ones once, in the order in which they
///                                    come first; that of every event if they were too many
///  data                              without anything between
///
/// Returns DURALOG_OK;
/// DURALOG_E_INVALID_ARGUMENT: also if a part does not lie within the bytes of the page;
/// DURALOG_E_BUFFER_TOO_SMALL: nothing but out_len was written.
///
/// Callable at any time, from any thread.
#[no_mangle]
pub unsafe extern "C" fn eventstore_page_pack(
    page: *const eventstore_page_t,
    flags: u32,
    buffer: *mut u8,
    capacity: usize,
    out_len: *mut usize,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 5 and 7: the caller promises a struct of the size it says, whose columns
        // and bytes are there for the time of this call, and that the places are writable.
        let (page, out_len) = unsafe {
            let given = sized::read("page", page)?;
            (Page::new(&given)?, Out::required("out_len", out_len)?)
        };
        if flags & !(EVENTSTORE_PACK_STREAMS | EVENTSTORE_PACK_REST) != 0 {
            return Err(Error::invalid(format!(
                "flags are {flags:#x}, of which some are unknown"
            )));
        }
        args::check_array("buffer", buffer, capacity)?;
        let len = page.packed_len(flags)?;
        if len > capacity {
            out_len.set(len);
            return Err(Error::new(
                ErrorKind::BufferTooSmall,
                format!("the page takes {len} bytes, the buffer has {capacity}"),
            ));
        }
        // SAFETY: not NULL, since `capacity` is not 0, and no larger than memory by `check_array`; the caller
        // promises that it is writable and overlaps nothing of the page. Whether it was ever written does
        // not matter to `MaybeUninit`.
        let place = unsafe { std::slice::from_raw_parts_mut(buffer.cast(), len) };
        out_len.set(page.pack(flags, place));
        Ok(OK)
    })
}

/// Where the parts of a column begin and end, each within the bytes of the page.
struct Parts<'a> {
    bytes: &'a [u8],
    begin: &'a [u32],
    end: &'a [u32],
}

impl<'a> Parts<'a> {
    /// # Safety
    /// As for [`args::array`], of both columns.
    unsafe fn new(
        bytes: &'a [u8],
        name: &str,
        begin: *const u32,
        end: *const u32,
        count: usize,
    ) -> Result<Parts<'a>> {
        // SAFETY: the same promise.
        let (begin, end) = unsafe {
            (
                args::array(name, begin, count)?,
                args::array(name, end, count)?,
            )
        };
        Ok(Parts { bytes, begin, end })
    }

    fn spans(&self) -> impl Iterator<Item = (u32, u32)> + 'a {
        self.begin.iter().copied().zip(self.end.iter().copied())
    }

    /// Length of all of them, if they lie within the bytes.
    fn len(&self, separator_len: usize) -> Result<usize> {
        joined_len(
            self.begin.iter().zip(self.end),
            self.bytes.len(),
            separator_len,
        )
    }

    fn get(&self, (begin, end): (u32, u32)) -> &'a [u8] {
        self.bytes
            .get(begin as usize..end as usize)
            .unwrap_or_default()
    }
}

/// A page of the caller that has been checked, but for where the parts lie: `packed_len` does that.
struct Page<'a> {
    count: usize,
    /// position, stream_version.
    first: [&'a [u8]; 2],
    /// time_ns, schema_version, occurred_ns, id, correlation_id, causation_id.
    rest: [&'a [u8]; 6],
    /// flags, tag_count.
    small: [&'a [u8]; 2],
    stream: Parts<'a>,
    event_type: Parts<'a>,
    /// content_type, tags, metadata.
    rarely: [Parts<'a>; 3],
    data: Parts<'a>,
}

impl<'a> Page<'a> {
    /// # Safety
    /// What `given` points to is there and unchanged during `'a`.
    unsafe fn new(given: &eventstore_page_t) -> Result<Page<'a>> {
        let count = given.count;
        let column = |name: &str, column: *const u8, size: usize| {
            let len = count.saturating_mul(size);
            // SAFETY: the same promise; any number is bytes, wherever it lies.
            unsafe { args::array(name, column, len) }
        };
        // SAFETY: the same promise.
        let bytes = unsafe { args::array("bytes", given.bytes, given.bytes_len) }?;
        let parts = |name: &str, begin: *const u32, end: *const u32| {
            // SAFETY: the same promise.
            unsafe { Parts::new(bytes, name, begin, end, count) }
        };
        Ok(Page {
            count,
            first: [
                column("position", given.position.cast(), 8)?,
                column("stream_version", given.stream_version.cast(), 8)?,
            ],
            rest: [
                column("time_ns", given.time_ns.cast(), 8)?,
                column("schema_version", given.schema_version.cast(), 8)?,
                column("occurred_ns", given.occurred_ns.cast(), 8)?,
                column("id", given.id, 16)?,
                column("correlation_id", given.correlation_id, 16)?,
                column("causation_id", given.causation_id, 16)?,
            ],
            small: [
                column("flags", given.flags, 1)?,
                column("tag_count", given.tag_count, 1)?,
            ],
            stream: parts("stream", given.stream_begin, given.stream_end)?,
            event_type: parts("event_type", given.event_type_begin, given.event_type_end)?,
            rarely: [
                parts(
                    "content_type",
                    given.content_type_begin,
                    given.content_type_end,
                )?,
                parts("tags", given.tags_begin, given.tags_end)?,
                parts("metadata", given.metadata_begin, given.metadata_end)?,
            ],
            data: parts("data", given.data_begin, given.data_end)?,
        })
    }

    /// How much place is enough, whether few event types are different or many.
    fn packed_len(&self, flags: u32) -> Result<usize> {
        let mut len = HEAD_LEN;
        // More than there can be stays more than there can be.
        let mut add = |more: usize| len = len.saturating_add(more);
        add(self.count.saturating_mul(FIRST_LEN));
        add(self.event_type.len(1)?);
        add(self.data.len(0)?);
        let streams_len = self.stream.len(1)?;
        if flags & EVENTSTORE_PACK_STREAMS != 0 {
            add(streams_len);
        }
        for parts in &self.rarely {
            let parts_len = parts.len(0)?;
            if flags & EVENTSTORE_PACK_REST != 0 {
                add(parts_len);
            }
        }
        if flags & EVENTSTORE_PACK_REST != 0 {
            add(self.count.saturating_mul(REST_LEN));
        }
        Ok(len)
    }

    /// Fills the place, which is as large as `packed_len` says; returns how much of it.
    fn pack(&self, flags: u32, place: &mut [MaybeUninit<u8>]) -> usize {
        let mut packer = Packer {
            place,
            at: HEAD_LEN,
        };
        self.first.iter().for_each(|column| packer.put(column));
        packer.put_lens(&self.data);
        let different = self.number_types(&mut packer);
        let rest_at = packer.at;
        if flags & EVENTSTORE_PACK_REST != 0 {
            self.rest.iter().for_each(|column| packer.put(column));
            self.rarely.iter().for_each(|parts| packer.put_lens(parts));
            self.small.iter().for_each(|column| packer.put(column));
            for parts in &self.rarely {
                packer.put_parts(parts);
            }
        }
        let streams_at = packer.at;
        if flags & EVENTSTORE_PACK_STREAMS != 0 {
            packer.put_texts(&self.stream, self.stream.spans());
        }
        let types_at = packer.at;
        let types = &self.event_type;
        match &different {
            Some(different) => packer.put_texts(types, different.spans()),
            None => packer.put_texts(types, types.spans()),
        }
        let data_at = packer.at;
        packer.put_parts(&self.data);
        let end = packer.at;
        packer.at = 0;
        let different = different.map_or(0, |different| different.spans().count());
        packer.put_number(self.count as u64);
        packer.put_number(different as u64);
        packer.put_number(self.data_len_of_all().map_or(u64::MAX, u64::from));
        for at in [rest_at, streams_at, types_at, data_at, end] {
            packer.put_number(at as u64);
        }
        end
    }

    /// Says of each event which of the different types it has; `None`, and 0 of each, if they are too many.
    fn number_types(&self, packer: &mut Packer<'_>) -> Option<Different<'a>> {
        let types = &self.event_type;
        let mut different = Different::new(types.bytes);
        let column = packer.take(self.count);
        for (place, span) in column.iter_mut().zip(types.spans()) {
            let Some(number) = different.number_of(types.get(span), span) else {
                column.fill(MaybeUninit::new(0));
                return None;
            };
            place.write(number);
        }
        Some(different)
    }

    fn data_len_of_all(&self) -> Option<u32> {
        let mut lens = self.data.spans().map(|(begin, end)| end - begin);
        let first = lens.next()?;
        lens.all(|len| len == first).then_some(first)
    }
}

/// Writes one thing behind the other.
struct Packer<'a> {
    place: &'a mut [MaybeUninit<u8>],
    at: usize,
}

impl Packer<'_> {
    /// The next place of this length. There is as much: `packed_len` counted it.
    fn take(&mut self, len: usize) -> &mut [MaybeUninit<u8>] {
        let begin = self.at;
        self.at += len;
        self.place.get_mut(begin..self.at).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        copy(bytes, self.take(bytes.len()));
    }

    fn put_number(&mut self, number: u64) {
        self.put(&number.to_ne_bytes());
    }

    fn put_lens(&mut self, parts: &Parts<'_>) {
        let column = self.take(4 * parts.begin.len());
        for (place, (begin, end)) in column.chunks_exact_mut(4).zip(parts.spans()) {
            copy(&(end - begin).to_ne_bytes(), place);
        }
    }

    fn put_parts(&mut self, parts: &Parts<'_>) {
        if parts.begin != parts.end {
            parts.spans().for_each(|span| self.put(parts.get(span)));
        }
    }

    /// With a NUL between two.
    fn put_texts(&mut self, parts: &Parts<'_>, spans: impl Iterator<Item = (u32, u32)>) {
        let mut before: &[u8] = &[];
        for span in spans {
            self.put(before);
            self.put(parts.get(span));
            before = &[0];
        }
    }
}

/// Both are of one length.
fn copy(bytes: &[u8], place: &mut [MaybeUninit<u8>]) {
    // SAFETY: what is initialised may be taken for what need not be.
    let bytes: &[MaybeUninit<u8>] =
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
    if place.len() == bytes.len() {
        place.copy_from_slice(bytes);
    }
}
