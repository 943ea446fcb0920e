//! What stands behind a batch of the event store: a request that owns what it was given, so that
//! the caller may build it in many calls; and what its last append came to.
//!
//! Whatever is added is there whole or not at all: memory is reserved before anything changes.

use crate::error::{Conflict, Error, Result};
use crate::eventstore::{
    AppendReceipt, AppendRequest, Condition, Expectation, Expected, NewEvent, Query, SideRecord,
};
use crate::format::event::EventId;
use std::ops::Range;

/// See the module.
#[derive(Default)]
pub(super) struct Draft {
    text: String,
    bytes: Vec<u8>,
    events: Vec<DraftEvent>,
    tags: Vec<Range<usize>>,
    expectations: Vec<(Range<usize>, Expected)>,
    conditions: Vec<(Query, u64)>,
    side_records: Vec<DraftSide>,
    idempotency_key: Option<Range<usize>>,
    pub(super) outcome: Outcome,
}

/// What the last append of a batch came to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) receipt: AppendReceipt,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) known_ids: Vec<EventId>,
    pub(super) columns: VersionColumns,
}

/// The stream versions of a receipt as columns.
#[derive(Default)]
pub(super) struct VersionColumns {
    pub(super) stream_version: Vec<u64>,
    pub(super) stream_begin: Vec<u32>,
    pub(super) stream_end: Vec<u32>,
    pub(super) bytes: String,
}

impl Outcome {
    /// Makes the columns, which most callers never ask for.
    pub(super) fn fill_columns(&mut self) -> Result<()> {
        let mut columns = VersionColumns::default();
        let offset = |len| u32::try_from(len).map_err(|_| Error::no_memory("stream names", len));
        for (stream, version) in &self.receipt.stream_versions {
            columns.stream_version.push(*version);
            columns.stream_begin.push(offset(columns.bytes.len())?);
            columns.bytes.push_str(stream);
            columns.stream_end.push(offset(columns.bytes.len())?);
        }
        self.columns = columns;
        Ok(())
    }
}

/// An event as ranges of the draft's text, bytes and tags.
#[derive(Clone, Default)]
pub(super) struct DraftEvent {
    pub(super) stream: Range<usize>,
    pub(super) event_type: Range<usize>,
    pub(super) content_type: Range<usize>,
    pub(super) tags: Range<usize>,
    pub(super) data: Range<usize>,
    pub(super) metadata: Range<usize>,
    pub(super) schema_version: u64,
    pub(super) id: Option<EventId>,
    pub(super) occurred_ns: Option<i64>,
    pub(super) correlation_id: Option<EventId>,
    pub(super) causation_id: Option<EventId>,
}

enum DraftSide {
    SavePosition {
        name: Range<usize>,
        position: u64,
        reset: bool,
    },
    PutState {
        key: Range<usize>,
        value: Range<usize>,
    },
    DeleteState {
        key: Range<usize>,
    },
}

/// Makes place for `count` more items.
fn reserve<T>(items: &mut Vec<T>, count: usize) -> Result<()> {
    items
        .try_reserve(count)
        .map_err(|_| Error::no_memory("a batch", count.saturating_mul(size_of::<T>())))
}

impl Draft {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.bytes.clear();
        self.events.clear();
        self.tags.clear();
        self.expectations.clear();
        self.conditions.clear();
        self.side_records.clear();
        self.idempotency_key = None;
        self.outcome = Outcome::default();
    }

    /// Makes place for so much more; after that adding it can't fail.
    pub(super) fn reserve(
        &mut self,
        events: usize,
        tags: usize,
        text: usize,
        bytes: usize,
    ) -> Result<()> {
        reserve(&mut self.events, events)?;
        reserve(&mut self.tags, tags)?;
        reserve(&mut self.bytes, bytes)?;
        self.text
            .try_reserve(text)
            .map_err(|_| Error::no_memory("a batch", text))
    }

    pub(super) fn add_text(&mut self, text: &str) -> Range<usize> {
        let begin = self.text.len();
        self.text.push_str(text);
        begin..self.text.len()
    }

    pub(super) fn add_bytes(&mut self, bytes: &[u8]) -> Range<usize> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin..self.bytes.len()
    }

    /// Adds a tag, by where its text lies; returns its index.
    pub(super) fn add_tag(&mut self, tag: Range<usize>) -> usize {
        self.tags.push(tag);
        self.tags.len() - 1
    }

    pub(super) fn tag_count(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn add_event(&mut self, event: DraftEvent) {
        self.events.push(event);
    }

    pub(super) fn expect(&mut self, stream: &str, expected: Expected) -> Result<()> {
        self.reserve(0, 0, stream.len(), 0)?;
        reserve(&mut self.expectations, 1)?;
        let stream = self.add_text(stream);
        self.expectations.push((stream, expected));
        Ok(())
    }

    pub(super) fn add_condition(&mut self, query: Query, after: u64) -> Result<()> {
        reserve(&mut self.conditions, 1)?;
        self.conditions.push((query, after));
        Ok(())
    }

    pub(super) fn save_position(&mut self, name: &str, position: u64, reset: bool) -> Result<()> {
        self.reserve(0, 0, name.len(), 0)?;
        reserve(&mut self.side_records, 1)?;
        let name = self.add_text(name);
        self.side_records.push(DraftSide::SavePosition {
            name,
            position,
            reset,
        });
        Ok(())
    }

    pub(super) fn put_state(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.reserve(0, 0, 0, key.len() + value.len())?;
        reserve(&mut self.side_records, 1)?;
        let (key, value) = (self.add_bytes(key), self.add_bytes(value));
        self.side_records.push(DraftSide::PutState { key, value });
        Ok(())
    }

    pub(super) fn delete_state(&mut self, key: &[u8]) -> Result<()> {
        self.reserve(0, 0, 0, key.len())?;
        reserve(&mut self.side_records, 1)?;
        let key = self.add_bytes(key);
        self.side_records.push(DraftSide::DeleteState { key });
        Ok(())
    }

    pub(super) fn set_idempotency_key(&mut self, key: &[u8]) -> Result<()> {
        self.reserve(0, 0, 0, key.len())?;
        self.idempotency_key = Some(self.add_bytes(key)).filter(|key| !key.is_empty());
        Ok(())
    }

    /// Calls `append` with the request that this is.
    pub(super) fn with_request<T>(&self, append: impl FnOnce(&AppendRequest<'_>) -> T) -> T {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        let tags: Vec<&str> = self.tags.iter().map(text).collect();
        let event = |event: &DraftEvent| NewEvent {
            stream: text(&event.stream),
            event_type: text(&event.event_type),
            data: bytes(&event.data),
            metadata: bytes(&event.metadata),
            tags: tags.get(event.tags.clone()).unwrap_or_default(),
            id: event.id,
            schema_version: event.schema_version,
            content_type: text(&event.content_type),
            occurred_ns: event.occurred_ns,
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
        };
        let events: Vec<NewEvent<'_>> = self.events.iter().map(event).collect();
        let expectation = |(stream, expected): &(Range<usize>, Expected)| Expectation {
            stream: text(stream),
            expected: *expected,
        };
        let expectations: Vec<Expectation<'_>> =
            self.expectations.iter().map(expectation).collect();
        let conditions: Vec<Condition<'_>> = self
            .conditions
            .iter()
            .map(|(query, after)| Condition {
                query,
                after: *after,
            })
            .collect();
        let side_record = |side: &DraftSide| match side {
            DraftSide::SavePosition {
                name,
                position,
                reset,
            } => SideRecord::SavePosition {
                name: text(name),
                position: *position,
                reset: *reset,
            },
            DraftSide::PutState { key, value } => SideRecord::PutState {
                key: bytes(key),
                value: bytes(value),
            },
            DraftSide::DeleteState { key } => SideRecord::DeleteState { key: bytes(key) },
        };
        let side_records: Vec<SideRecord<'_>> = self.side_records.iter().map(side_record).collect();
        append(&AppendRequest {
            events: &events,
            expectations: &expectations,
            conditions: &conditions,
            side_records: &side_records,
            idempotency_key: self.idempotency_key.as_ref().map(bytes),
        })
    }
}
