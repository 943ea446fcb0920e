//! Many events for a batch at once, given in columns: for callers to whom a call and a struct per
//! event are expensive.

#![allow(unsafe_code, reason = "exports a C symbol that takes pointers")]

use super::args;
use super::eventstore_append::eventstore_append_t;
use super::eventstore_draft::{Draft, DraftEvent};
use super::guard::guard;
use super::handle;
use super::sized::{self, SizedStruct};
use super::status::{duralog_status_t, OK};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::{EventId, NAME_LEN_MAX, STREAM_LEN_MAX, TAG_COUNT_MAX};
use std::ops::Range;

/// Events in columns: item i of every column belongs to event i. Start from
/// EVENTSTORE_COLUMNS_INIT; a column that is NULL says nothing of any event, and only stream_lens
/// and event_type_lens must be given. What each field means, and its limits, is as in
/// eventstore_new_event_t.
///
/// The bytes stand column after column, without anything between: all streams, all event types, all
/// content types, all tags, all data, all metadata.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct eventstore_columns_t {
    /// Size of this struct; set by EVENTSTORE_COLUMNS_INIT.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// How many events.
    pub count: usize,
    /// Length of each stream.
    pub stream_lens: *const u32,
    /// Length of each event type.
    pub event_type_lens: *const u32,
    /// Length of each content type.
    pub content_type_lens: *const u32,
    /// How many tags each event has.
    pub tag_counts: *const u32,
    /// Length of each tag: those of the first event, those of the second, and so on. As many as
    /// tag_counts sums up to.
    pub tag_lens: *const u32,
    /// Length of each event's data.
    pub data_lens: *const u32,
    /// Length of each event's metadata.
    pub metadata_lens: *const u32,
    /// 16 bytes for each event; all zero: it has no id of its own.
    pub ids: *const u8,
    /// 16 bytes for each event; all zero: none.
    pub correlation_ids: *const u8,
    /// 16 bytes for each event; all zero: none.
    pub causation_ids: *const u8,
    /// Schema version of each.
    pub schema_versions: *const u64,
    /// When each occurred.
    pub occurred_ns: *const i64,
    /// 1 for each event whose occurred_ns is given, 0 for the others; NULL: all of them, if
    /// occurred_ns is not NULL.
    pub has_occurred: *const u8,
    /// Texts and bytes, in the order said above.
    pub bytes: *const u8,
    /// Length of bytes: the sum of all lengths.
    pub bytes_len: usize,
}

// SAFETY: `repr(C)`, `struct_size` first, integers and raw pointers only.
unsafe impl SizedStruct for eventstore_columns_t {
    const NAME: &'static str = "eventstore_columns_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

/// Adds events, as eventstore_append_add_event does with one after the other; all of them or, if
/// one is refused, none.
///
/// columns: the events, all of which are copied.
///
/// Returns as eventstore_append_add_event does, the message names the event;
/// DURALOG_E_INVALID_ARGUMENT: also if bytes_len is not the sum of all lengths.
#[no_mangle]
pub unsafe extern "C" fn eventstore_append_add_columns(
    batch: *mut eventstore_append_t,
    columns: *const eventstore_columns_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 4, 6, 7 and 9: the caller promises an open batch that no other thread
        // uses, and a struct of the size it says, which and all of whose columns are there and
        // unchanged for the time of this call.
        let (draft, columns) = unsafe {
            let given = sized::read("columns", columns)?;
            (handle::movable("batch", batch)?, Columns::new(&given)?)
        };
        columns.add_to(draft)?;
        Ok(OK)
    })
}

/// Columns of the caller that have been checked, but for what is in `bytes`.
struct Columns<'a> {
    count: usize,
    stream_lens: &'a [u32],
    event_type_lens: &'a [u32],
    content_type_lens: &'a [u32],
    tag_counts: &'a [u32],
    tag_lens: &'a [u32],
    data_lens: &'a [u32],
    metadata_lens: &'a [u32],
    ids: &'a [EventId],
    correlation_ids: &'a [EventId],
    causation_ids: &'a [EventId],
    schema_versions: &'a [u64],
    occurred_ns: &'a [i64],
    has_occurred: &'a [u8],
    /// Streams, types, content types and tags.
    text: &'a str,
    /// Data and metadata.
    bytes: &'a [u8],
}

impl<'a> Columns<'a> {
    /// # Safety
    /// What `given` points to is there and unchanged during `'a`.
    unsafe fn new(given: &eventstore_columns_t) -> Result<Columns<'a>> {
        if given.reserved != 0 {
            return Err(Error::invalid("reserved of eventstore_columns_t is not 0"));
        }
        let count = given.count;
        // SAFETY: the same promise. `EventId` is an array of bytes, so it is aligned anywhere, and
        // any value of it is valid.
        let mut columns = unsafe {
            Columns {
                count,
                stream_lens: args::array("stream_lens", given.stream_lens, count)?,
                event_type_lens: args::array("event_type_lens", given.event_type_lens, count)?,
                content_type_lens: optional("content_type_lens", given.content_type_lens, count)?,
                tag_counts: optional("tag_counts", given.tag_counts, count)?,
                tag_lens: &[],
                data_lens: optional("data_lens", given.data_lens, count)?,
                metadata_lens: optional("metadata_lens", given.metadata_lens, count)?,
                ids: optional("ids", given.ids.cast(), count)?,
                correlation_ids: optional("correlation_ids", given.correlation_ids.cast(), count)?,
                causation_ids: optional("causation_ids", given.causation_ids.cast(), count)?,
                schema_versions: optional("schema_versions", given.schema_versions, count)?,
                occurred_ns: optional("occurred_ns", given.occurred_ns, count)?,
                has_occurred: optional("has_occurred", given.has_occurred, count)?,
                text: "",
                bytes: &[],
            }
        };
        let tags = columns.check_tag_counts()?;
        // SAFETY: the same promise.
        columns.tag_lens = unsafe { args::array("tag_lens", given.tag_lens, tags) }?;
        let (text_len, bytes_len) = columns.check_lens()?;
        if text_len.checked_add(bytes_len) != Some(given.bytes_len as u64) {
            return Err(Error::invalid(format!(
                "bytes_len is {}, but the lengths sum up to {}",
                given.bytes_len,
                text_len.saturating_add(bytes_len)
            )));
        }
        // SAFETY: the same promise; both things that tell the length agree on it.
        let bytes = unsafe { args::array("bytes", given.bytes, given.bytes_len) }?;
        let text_len = usize::try_from(text_len).unwrap_or(usize::MAX);
        let (text, bytes) = bytes.split_at(text_len.min(bytes.len()));
        columns.text = std::str::from_utf8(text).map_err(|error| {
            Error::invalid(format!(
                "bytes is not UTF-8 from byte {} on",
                error.valid_up_to()
            ))
        })?;
        columns.bytes = bytes;
        columns.check_texts()?;
        Ok(columns)
    }

    /// Returns how many tags there are.
    fn check_tag_counts(&self) -> Result<usize> {
        let mut sum = 0usize;
        for (index, &count) in self.tag_counts.iter().enumerate() {
            if count as usize > TAG_COUNT_MAX {
                return Err(in_event(
                    Error::invalid(format!("{count} tags, at most {TAG_COUNT_MAX} are allowed")),
                    index,
                ));
            }
            // At most 64 each, and there is an array of them.
            sum += count as usize;
        }
        Ok(sum)
    }

    /// Checks all lengths against their limits; returns the sums of those of texts and of bytes.
    fn check_lens(&self) -> Result<(u64, u64)> {
        // No sum of numbers below 2^32 of which there is an array goes beyond 2^64.
        let mut text = 0;
        text += lens_sum("stream", self.stream_lens, 1, STREAM_LEN_MAX)?;
        text += lens_sum("event_type", self.event_type_lens, 1, NAME_LEN_MAX)?;
        text += lens_sum("content_type", self.content_type_lens, 0, NAME_LEN_MAX)?;
        text += lens_sum("tag", self.tag_lens, 1, NAME_LEN_MAX)?;
        let mut bytes = 0;
        for index in 0..self.count {
            let lens = [self.data_lens, self.metadata_lens]
                .map(|lens| lens.get(index).copied().unwrap_or(0));
            let [data, metadata] = lens.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
            args::check_record_len(data, metadata).map_err(|error| in_event(error, index))?;
            bytes += u64::from(lens[0]) + u64::from(lens[1]);
        }
        Ok((text, bytes))
    }

    /// Checks that no text begins or ends inside a character.
    fn check_texts(&self) -> Result<()> {
        let mut at = 0;
        let columns = [
            ("stream", self.stream_lens),
            ("event_type", self.event_type_lens),
            ("content_type", self.content_type_lens),
            ("tag", self.tag_lens),
        ];
        for (what, lens) in columns {
            for (index, &len) in lens.iter().enumerate() {
                at += len as usize;
                if !self.text.is_char_boundary(at) {
                    return Err(Error::invalid(format!("{what} {index} is not UTF-8")));
                }
            }
        }
        Ok(())
    }

    fn add_to(&self, draft: &mut Draft) -> Result<()> {
        let tags = self.tag_lens.len();
        draft.reserve(self.count, tags, self.text.len(), self.bytes.len())?;
        let mut streams = Ranges::new(draft.add_text(self.text).start, self.stream_lens);
        let mut event_types = streams.behind(self.event_type_lens);
        let mut content_types = event_types.behind(self.content_type_lens);
        let mut tags = content_types.behind(self.tag_lens);
        let mut data = Ranges::new(draft.add_bytes(self.bytes).start, self.data_lens);
        let mut metadata = data.behind(self.metadata_lens);
        let given = |ids: &[EventId], index: usize| {
            let id = ids.get(index).copied();
            id.filter(|id| *id != EventId::default())
        };
        for index in 0..self.count {
            let first_tag = draft.tag_count();
            for _ in 0..self.tag_counts.get(index).copied().unwrap_or(0) {
                draft.add_tag(tags.next());
            }
            let has_occurred = self.has_occurred.get(index).copied().unwrap_or(1) != 0;
            let occurred_ns = self.occurred_ns.get(index).copied();
            let event = DraftEvent {
                stream: streams.next(),
                event_type: event_types.next(),
                content_type: content_types.next(),
                tags: first_tag..draft.tag_count(),
                data: data.next(),
                metadata: metadata.next(),
                schema_version: self.schema_versions.get(index).copied().unwrap_or(0),
                id: given(self.ids, index),
                occurred_ns: occurred_ns.filter(|_| has_occurred),
                correlation_id: given(self.correlation_ids, index),
                causation_id: given(self.causation_ids, index),
            };
            draft.add_event(event);
        }
        Ok(())
    }
}

/// The ranges of one column, one after the other.
struct Ranges<'a> {
    at: usize,
    lens: &'a [u32],
}

impl<'a> Ranges<'a> {
    fn new(at: usize, lens: &'a [u32]) -> Ranges<'a> {
        Ranges { at, lens }
    }

    /// Those of the column that stands behind this one, of which nothing was taken yet.
    fn behind(&self, lens: &'a [u32]) -> Ranges<'a> {
        let len: usize = self.lens.iter().map(|len| *len as usize).sum();
        Ranges::new(self.at + len, lens)
    }

    /// The next; empty if the column is not given.
    fn next(&mut self) -> Range<usize> {
        let Some((&len, rest)) = self.lens.split_first() else {
            return 0..0;
        };
        self.lens = rest;
        let begin = self.at;
        self.at += len as usize;
        begin..self.at
    }
}

/// # Safety
/// As for [`args::array`].
unsafe fn optional<'a, T>(name: &str, data: *const T, count: usize) -> Result<&'a [T]> {
    // SAFETY: the same promise.
    let array = unsafe { args::optional_array(name, data, count) }?;
    Ok(array.unwrap_or(&[]))
}

fn lens_sum(what: &str, lens: &[u32], min: usize, max: usize) -> Result<u64> {
    let mut sum = 0;
    for (index, &len) in lens.iter().enumerate() {
        if !(min..=max).contains(&(len as usize)) {
            return Err(Error::invalid(format!(
                "{what} {index} has {len} bytes, allowed are {min} to {max}"
            )));
        }
        sum += u64::from(len);
    }
    Ok(sum)
}

fn in_event(error: Error, index: usize) -> Error {
    let kind: ErrorKind = error.kind();
    error.into_kind(kind, &format!("event {index}"))
}
