//! The fields of events that were read together, in columns: item i of every column is of event i.
//!
//! Filled while the events are verified, so that each is decoded once. Texts and bytes stay where
//! they were read; the columns say where they begin and end.

use super::reader::ReadEvent;
use crate::error::{Error, Result};
use crate::format::event::{derived_id, event_flag, EventId, EventView};

/// Where something of each event lies in the bytes of the page.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    pub(crate) begin: Vec<u32>,
    pub(crate) end: Vec<u32>,
}

impl Spans {
    fn clear(&mut self) {
        self.begin.clear();
        self.end.clear();
    }

    fn reserve(&mut self, count: usize) {
        self.begin.reserve(count);
        self.end.reserve(count);
    }

    fn push(&mut self, (begin, end): (u32, u32)) {
        self.begin.push(begin);
        self.end.push(end);
    }

    fn get<'p>(&self, bytes: &'p [u8], index: usize) -> Option<&'p [u8]> {
        let begin = *self.begin.get(index)? as usize;
        bytes.get(begin..*self.end.get(index)? as usize)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct EventColumns {
    pub(crate) position: Vec<u64>,
    pub(crate) stream_version: Vec<u64>,
    pub(crate) time_ns: Vec<u64>,
    pub(crate) id: Vec<EventId>,
    /// See [`event_flag`].
    pub(crate) flags: Vec<u8>,
    pub(crate) tag_count: Vec<u8>,
    pub(crate) schema_version: Vec<u64>,
    /// 0 without the flag OCCURRED.
    pub(crate) occurred_ns: Vec<i64>,
    /// Zeros without the flag CORRELATION.
    pub(crate) correlation_id: Vec<EventId>,
    /// Zeros without the flag CAUSATION.
    pub(crate) causation_id: Vec<EventId>,
    pub(crate) stream: Spans,
    pub(crate) event_type: Spans,
    /// In ascending order, each with its length (LEB128) before it.
    pub(crate) tags: Spans,
    pub(crate) content_type: Spans,
    pub(crate) metadata: Spans,
    pub(crate) data: Spans,
}

impl EventColumns {
    pub(super) fn len(&self) -> usize {
        self.position.len()
    }

    pub(super) fn clear(&mut self) {
        self.position.clear();
        self.stream_version.clear();
        self.time_ns.clear();
        self.id.clear();
        self.flags.clear();
        self.tag_count.clear();
        self.schema_version.clear();
        self.occurred_ns.clear();
        self.correlation_id.clear();
        self.causation_id.clear();
        for spans in self.all_spans() {
            spans.clear();
        }
    }

    fn all_spans(&mut self) -> [&mut Spans; 6] {
        [
            &mut self.stream,
            &mut self.event_type,
            &mut self.tags,
            &mut self.content_type,
            &mut self.metadata,
            &mut self.data,
        ]
    }

    /// Adds an event. `stream` and what `view` borrows are parts of `record`, which begins at
    /// `base` in the bytes of the page.
    pub(super) fn push(
        &mut self,
        base: usize,
        record: &[u8],
        stream: &[u8],
        view: &EventView<'_>,
        time_ns: u64,
        log_id: &[u8; 16],
    ) -> Result<()> {
        let body = &view.body;
        let too_long = || Error::no_memory("a page", base.saturating_add(record.len()));
        let base = u32::try_from(base).map_err(|_| too_long())?;
        let len = u32::try_from(record.len()).map_err(|_| too_long())?;
        base.checked_add(len).ok_or_else(too_long)?;
        let start = record.as_ptr() as usize;
        // What is absent borrows nothing of the record, and has the place 0 to 0.
        let span = |part: &[u8]| {
            let offset = (part.as_ptr() as usize).wrapping_sub(start);
            match (u32::try_from(offset), u32::try_from(part.len())) {
                (Ok(begin), Ok(part)) if begin < len && part > 0 => {
                    (base + begin, base + begin + part)
                }
                _ => (0, 0),
            }
        };
        self.position.push(view.position);
        self.stream_version.push(view.stream_version);
        self.time_ns.push(time_ns);
        self.id.push(match body.id {
            Some(id) => *id,
            None => derived_id(log_id, view.position),
        });
        self.flags.push(view.flags);
        let tag_count = u8::try_from(view.tags.count()).unwrap_or(u8::MAX);
        self.tag_count.push(tag_count);
        self.schema_version.push(body.schema_version);
        self.occurred_ns.push(body.occurred_ns.unwrap_or(0));
        let given = |id: Option<&EventId>| id.copied().unwrap_or_default();
        self.correlation_id.push(given(body.correlation_id));
        self.causation_id.push(given(body.causation_id));
        self.stream.push(span(stream));
        self.event_type.push(span(body.event_type));
        self.tags.push(span(view.tags.bytes()));
        self.content_type.push(span(body.content_type));
        self.metadata.push(span(body.metadata));
        self.data.push(span(body.data));
        Ok(())
    }

    /// Makes place for so many more events.
    pub(super) fn reserve(&mut self, count: usize) {
        self.position.reserve(count);
        self.stream_version.reserve(count);
        self.time_ns.reserve(count);
        self.id.reserve(count);
        self.flags.reserve(count);
        self.tag_count.reserve(count);
        self.schema_version.reserve(count);
        self.occurred_ns.reserve(count);
        self.correlation_id.reserve(count);
        self.causation_id.reserve(count);
        for spans in self.all_spans() {
            spans.reserve(count);
        }
    }

    /// One of the events; `bytes` are those of the page.
    pub(crate) fn raw<'p>(&self, bytes: &'p [u8], index: usize) -> Option<RawEvent<'p>> {
        Some(RawEvent {
            position: *self.position.get(index)?,
            stream_version: *self.stream_version.get(index)?,
            time_ns: *self.time_ns.get(index)?,
            id: *self.id.get(index)?,
            flags: *self.flags.get(index)?,
            tag_count: *self.tag_count.get(index)?,
            schema_version: *self.schema_version.get(index)?,
            occurred_ns: *self.occurred_ns.get(index)?,
            correlation_id: *self.correlation_id.get(index)?,
            causation_id: *self.causation_id.get(index)?,
            stream: self.stream.get(bytes, index)?,
            event_type: self.event_type.get(bytes, index)?,
            tags: self.tags.get(bytes, index)?,
            content_type: self.content_type.get(bytes, index)?,
            metadata: self.metadata.get(bytes, index)?,
            data: self.data.get(bytes, index)?,
        })
    }

    /// The same for readers in Rust, with texts as such.
    pub(super) fn get<'p>(&self, bytes: &'p [u8], index: usize) -> Option<ReadEvent<'p>> {
        let raw = self.raw(bytes, index)?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let has = |flag: u8| raw.flags & flag != 0;
        Some(ReadEvent {
            position: raw.position,
            stream_version: raw.stream_version,
            time_ns: raw.time_ns,
            id: raw.id,
            has_own_id: has(event_flag::ID),
            stream: text(raw.stream),
            event_type: text(raw.event_type),
            tag_bytes: raw.tags,
            tag_count: usize::from(raw.tag_count),
            schema_version: raw.schema_version,
            content_type: text(raw.content_type),
            occurred_ns: has(event_flag::OCCURRED).then_some(raw.occurred_ns),
            correlation_id: has(event_flag::CORRELATION).then_some(raw.correlation_id),
            causation_id: has(event_flag::CAUSATION).then_some(raw.causation_id),
            metadata: raw.metadata,
            data: raw.data,
            first_of_batch: has(event_flag::FIRST),
            last_of_batch: has(event_flag::LAST),
        })
    }
}

/// One row of the columns: what is absent is zero or empty, and `flags` say so.
pub(crate) struct RawEvent<'a> {
    pub(crate) position: u64,
    pub(crate) stream_version: u64,
    pub(crate) time_ns: u64,
    pub(crate) id: EventId,
    pub(crate) flags: u8,
    pub(crate) tag_count: u8,
    pub(crate) schema_version: u64,
    pub(crate) occurred_ns: i64,
    pub(crate) correlation_id: EventId,
    pub(crate) causation_id: EventId,
    pub(crate) stream: &'a [u8],
    pub(crate) event_type: &'a [u8],
    pub(crate) tags: &'a [u8],
    pub(crate) content_type: &'a [u8],
    pub(crate) metadata: &'a [u8],
    pub(crate) data: &'a [u8],
}
