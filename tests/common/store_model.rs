//! What the event store should answer, in plain words: a list of events and a few maps.
//!
//! The model takes requests one after another and says of each what the store must say; it answers
//! every reading by looking at all events. `compare` asks a store everything that the model knows.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::error::{Conflict, ConflictKind};
use duralog::eventstore::{
    category, AppendReceipt, AppendRequest, Condition, Direction, EventPage, EventStore,
    Expectation, Expected, NameInfo, NameKind, NewEvent, Query, Read, ReadEvent, Selection,
    SideRecord, SubscribeFrom, Subscription,
};
use duralog::format::event::{derived_id, position_of_derived_id};
use duralog::{Durability, Error, ErrorKind};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub(crate) type Id = [u8; 16];

/// An event as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Content {
    pub(crate) stream: String,
    pub(crate) event_type: String,
    pub(crate) tags: Vec<String>,
    pub(crate) data: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) id: Option<Id>,
    pub(crate) schema_version: u64,
    pub(crate) content_type: String,
    pub(crate) occurred_ns: Option<i64>,
    pub(crate) correlation_id: Option<Id>,
    pub(crate) causation_id: Option<Id>,
}

impl Content {
    pub(crate) fn new(stream: &str, event_type: &str, tags: &[&str], data: &[u8]) -> Content {
        Content {
            stream: stream.to_owned(),
            event_type: event_type.to_owned(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            data: data.to_vec(),
            ..Content::default()
        }
    }

    /// Tags are a set.
    fn sorted(&self) -> Content {
        let mut sorted = self.clone();
        sorted.tags.sort_unstable();
        sorted.tags.dedup();
        sorted
    }
}

/// A side record that owns what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Save(String, u64, bool),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// A request that owns what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Request {
    pub(crate) events: Vec<Content>,
    pub(crate) expectations: Vec<(String, Expected)>,
    pub(crate) conditions: Vec<(Query, u64)>,
    pub(crate) sides: Vec<Side>,
    pub(crate) key: Option<Vec<u8>>,
    /// Whether it can't be carried out whatever the store holds, and how the store says so.
    pub(crate) bad: Option<ErrorKind>,
}

impl Request {
    pub(crate) fn of(events: Vec<Content>) -> Request {
        Request {
            events,
            ..Request::default()
        }
    }

    /// Asks `store` to carry it out.
    pub(crate) fn append(
        &self,
        store: &EventStore,
        durability: Durability,
    ) -> Result<AppendReceipt, Error> {
        let tags: Vec<Vec<&str>> = self
            .events
            .iter()
            .map(|event| event.tags.iter().map(String::as_str).collect())
            .collect();
        let events: Vec<NewEvent<'_>> = self
            .events
            .iter()
            .zip(&tags)
            .map(|(event, tags)| NewEvent {
                stream: &event.stream,
                event_type: &event.event_type,
                data: &event.data,
                metadata: &event.metadata,
                tags,
                id: event.id,
                schema_version: event.schema_version,
                content_type: &event.content_type,
                occurred_ns: event.occurred_ns,
                correlation_id: event.correlation_id,
                causation_id: event.causation_id,
            })
            .collect();
        let expectations: Vec<Expectation<'_>> = self
            .expectations
            .iter()
            .map(|(stream, expected)| Expectation {
                stream,
                expected: *expected,
            })
            .collect();
        let conditions: Vec<Condition<'_>> = self
            .conditions
            .iter()
            .map(|(query, after)| Condition {
                query,
                after: *after,
            })
            .collect();
        let sides: Vec<SideRecord<'_>> = self
            .sides
            .iter()
            .map(|side| match side {
                Side::Save(name, position, reset) => SideRecord::SavePosition {
                    name,
                    position: *position,
                    reset: *reset,
                },
                Side::Put(key, value) => SideRecord::PutState { key, value },
                Side::Delete(key) => SideRecord::DeleteState { key },
            })
            .collect();
        let request = AppendRequest {
            events: &events,
            expectations: &expectations,
            conditions: &conditions,
            side_records: &sides,
            idempotency_key: self.key.as_deref(),
        };
        store.append(&request, durability)
    }

    /// What the store knows again by its idempotency key.
    fn substance(&self) -> (Vec<Content>, Vec<Side>) {
        let events = self.events.iter().map(Content::sorted).collect();
        (events, self.sides.clone())
    }
}

/// An event as it is in the store; its position is its place in the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) content: Content,
    pub(crate) stream_version: u64,
    pub(crate) first_of_batch: bool,
    pub(crate) last_of_batch: bool,
    pub(crate) time_ns: u64,
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Carried out; time and batch are the store's to say.
    Accepted(AppendReceipt),
    /// It had been before.
    Again(AppendReceipt),
    Conflicts(Vec<Conflict>),
    /// Events with these ids are there, but not this request; none, if its key is.
    Known(Vec<Id>),
    /// Another kind of refusal.
    Refused(ErrorKind),
}

impl Verdict {
    /// What a store said.
    pub(crate) fn of(told: &Result<AppendReceipt, Error>) -> Verdict {
        match told {
            Ok(receipt) if receipt.duplicate => Verdict::Again(receipt.clone()),
            Ok(receipt) => Verdict::Accepted(receipt.clone()),
            Err(error) => match error.kind() {
                ErrorKind::Conflict => Verdict::Conflicts(error.conflicts().to_vec()),
                ErrorKind::Duplicate => Verdict::Known(error.known_ids().to_vec()),
                kind => Verdict::Refused(kind),
            },
        }
    }

    /// The same without what only the store can say.
    pub(crate) fn plain(mut self) -> Verdict {
        if let Verdict::Accepted(receipt) = &mut self {
            receipt.time_ns = 0;
            receipt.batch_id = 0;
        }
        self
    }
}

/// A subscription, as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    selection: Selection,
    /// Position of the first event that it has not given yet, or a later one that it will.
    pub(crate) next: u64,
    pub(crate) name: Option<String>,
    /// The last position when its store was closed.
    pub(crate) end: Option<u64>,
}

/// Requests by their key: what was asked, and the receipt.
type Requests = HashMap<Vec<u8>, ((Vec<Content>, Vec<Side>), AppendReceipt)>;

/// The store, as it should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) log_id: Id,
    pub(crate) events: Vec<Event>,
    versions: HashMap<String, u64>,
    ids: HashMap<Id, u64>,
    saved: BTreeMap<String, u64>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    requests: Requests,
    time_ns: u64,
}

impl Model {
    pub(crate) fn new(log_id: Id) -> Model {
        Model {
            log_id,
            ..Model::default()
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.events.len() as u64
    }

    fn event(&self, position: u64) -> &Event {
        &self.events[usize::try_from(position - 1).unwrap()]
    }

    pub(crate) fn version(&self, stream: &str) -> u64 {
        self.versions.get(stream).copied().unwrap_or(0)
    }

    pub(crate) fn saved(&self, name: &str) -> Option<u64> {
        self.saved.get(name).copied()
    }

    pub(crate) fn id_at(&self, position: u64) -> Id {
        let own = self.event(position).content.id;
        own.unwrap_or_else(|| derived_id(&self.log_id, position))
    }

    fn position_of_id(&self, id: &Id) -> Option<u64> {
        let derived = || {
            let position = position_of_derived_id(&self.log_id, id)?;
            let there = position <= self.last() && self.event(position).content.id.is_none();
            there.then_some(position)
        };
        self.ids.get(id).copied().or_else(derived)
    }

    pub(crate) fn matches(&self, query: &Query, position: u64) -> bool {
        let content = &self.event(position).content;
        query.items.is_empty()
            || query.items.iter().any(|item| {
                (item.types.is_empty() || item.types.contains(&content.event_type))
                    && item.tags.iter().all(|tag| content.tags.contains(tag))
            })
    }

    /// What must be said to `request` now.
    pub(crate) fn judge(&self, request: &Request) -> Verdict {
        if let Some(kind) = request.bad {
            return Verdict::Refused(kind);
        }
        let ids = || request.events.iter().filter_map(|event| event.id);
        let made_up = |id: &Id| {
            position_of_derived_id(&self.log_id, id).is_some() && self.position_of_id(id).is_none()
        };
        if ids().any(|id| made_up(&id)) {
            return Verdict::Refused(ErrorKind::InvalidArgument);
        }
        if let Some((before, receipt)) = request.key.as_ref().and_then(|k| self.requests.get(k)) {
            return if *before == request.substance() {
                Verdict::Again(receipt.clone())
            } else {
                Verdict::Known(Vec::new())
            };
        }
        let known: Vec<Id> = ids()
            .filter(|id| self.position_of_id(id).is_some())
            .collect();
        if let Some(first) = known.first().and_then(|id| self.position_of_id(id)) {
            let whole = known.len() == request.events.len()
                && (first..)
                    .zip(&known)
                    .all(|(position, id)| self.position_of_id(id) == Some(position))
                && self.batch_at(first) == Some(known.len() as u64);
            return if whole {
                Verdict::Again(self.receipt_at(first, known.len() as u64))
            } else {
                Verdict::Known(known)
            };
        }
        let conflicts = self.conflicts(request);
        if !conflicts.is_empty() {
            return Verdict::Conflicts(conflicts);
        }
        let mut after = self.clone_versions(request);
        Verdict::Accepted(self.receipt(request, &mut after))
    }

    /// How many events the batch has that begins at `first`; `None` if none begins there.
    fn batch_at(&self, first: u64) -> Option<u64> {
        let from = usize::try_from(first - 1).unwrap();
        let len = self.events[from..].iter().position(|e| e.last_of_batch)?;
        self.events[from].first_of_batch.then_some(len as u64 + 1)
    }

    fn receipt_at(&self, first: u64, count: u64) -> AppendReceipt {
        let mut receipt = AppendReceipt {
            first_position: first,
            last_position: first + count - 1,
            time_ns: self.event(first).time_ns,
            duplicate: true,
            ..AppendReceipt::default()
        };
        for position in first..first + count {
            let event = self.event(position);
            note_version(&mut receipt, &event.content.stream, event.stream_version);
        }
        receipt
    }

    fn clone_versions(&self, request: &Request) -> HashMap<String, u64> {
        let streams = request.events.iter().map(|event| &event.stream);
        streams
            .map(|stream| (stream.clone(), self.version(stream)))
            .collect()
    }

    fn receipt(&self, request: &Request, versions: &mut HashMap<String, u64>) -> AppendReceipt {
        let mut receipt = AppendReceipt::default();
        for event in &request.events {
            let version = versions.entry(event.stream.clone()).or_default();
            *version += 1;
            note_version(&mut receipt, &event.stream, *version);
        }
        if !request.events.is_empty() {
            receipt.first_position = self.last() + 1;
            receipt.last_position = self.last() + request.events.len() as u64;
        }
        receipt
    }

    pub(crate) fn conflicts(&self, request: &Request) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (index, (stream, expected)) in request.expectations.iter().enumerate() {
            let actual = self.version(stream);
            let (holds, number) = match *expected {
                Expected::Any => (true, -1),
                Expected::Exists => (actual > 0, -2),
                Expected::None => (actual == 0, 0),
                Expected::Exact(version) => (actual == version, i64::try_from(version).unwrap()),
            };
            if !holds {
                conflicts.push(Conflict {
                    kind: ConflictKind::Stream,
                    index,
                    name: stream.clone(),
                    expected: number,
                    actual,
                });
            }
        }
        for (index, (query, after)) in request.conditions.iter().enumerate() {
            let found = (after + 1..=self.last()).find(|&p| self.matches(query, p));
            if let Some(actual) = found {
                conflicts.push(Conflict {
                    kind: ConflictKind::Condition,
                    index,
                    name: String::new(),
                    expected: i64::try_from(*after).unwrap(),
                    actual,
                });
            }
        }
        for (index, side) in request.sides.iter().enumerate() {
            let Side::Save(name, position, false) = side else {
                continue;
            };
            if let Some(actual) = self.saved(name).filter(|saved| position <= saved) {
                conflicts.push(Conflict {
                    kind: ConflictKind::SavedPosition,
                    index,
                    name: name.clone(),
                    expected: i64::try_from(*position).unwrap(),
                    actual,
                });
            }
        }
        conflicts
    }

    /// Takes over what the store said to `request`, which must be what the model says.
    pub(crate) fn apply(
        &mut self,
        request: &Request,
        told: &Result<AppendReceipt, Error>,
    ) -> Verdict {
        let verdict = self.judge(request);
        let is = Verdict::of(told);
        assert_eq!(is.clone().plain(), verdict, "{request:?}\n{told:?}");
        if let Verdict::Accepted(receipt) = is {
            self.accept(request, &receipt);
        }
        verdict
    }

    /// Carries out a request that holds.
    pub(crate) fn accept(&mut self, request: &Request, receipt: &AppendReceipt) {
        assert!(receipt.time_ns >= self.time_ns, "recorded time went back");
        self.time_ns = receipt.time_ns;
        let count = request.events.len();
        for (index, event) in request.events.iter().enumerate() {
            let version = self.versions.entry(event.stream.clone()).or_default();
            *version += 1;
            self.events.push(Event {
                content: event.sorted(),
                stream_version: *version,
                first_of_batch: index == 0,
                last_of_batch: index + 1 == count,
                time_ns: receipt.time_ns,
            });
            if let Some(id) = event.id {
                self.ids.insert(id, self.events.len() as u64);
            }
        }
        for side in request.sides.clone() {
            match side {
                Side::Save(name, position, _) => {
                    self.saved.insert(name, position);
                }
                Side::Put(key, value) => {
                    self.state.insert(key, value);
                }
                Side::Delete(key) => {
                    self.state.remove(&key);
                }
            }
        }
        if let Some(key) = &request.key {
            let again = AppendReceipt {
                duplicate: true,
                batch_id: 0,
                ..receipt.clone()
            };
            self.requests
                .insert(key.clone(), (request.substance(), again));
        }
    }

    // ---- reading -----------------------------------------------------------------------------

    /// Positions of the events that `read` gives.
    pub(crate) fn positions(&self, read: &Read) -> Vec<u64> {
        let backward = read.direction == Direction::Backward;
        let (low, high) = if backward {
            (read.to, read.from)
        } else {
            (read.from, read.to)
        };
        let high = if high == 0 { u64::MAX } else { high };
        let chosen = |position: &u64| {
            let event = self.event(*position);
            match &read.selection {
                Selection::Stream(name) => {
                    event.content.stream == *name && (low..=high).contains(&event.stream_version)
                }
                _ if !(low..=high).contains(position) => false,
                Selection::All => true,
                Selection::Category(name) => category(&event.content.stream) == name,
                Selection::Query(query) => self.matches(query, *position),
            }
        };
        let mut found: Vec<u64> = (1..=self.last()).filter(chosen).collect();
        if backward {
            found.reverse();
        }
        if read.limit > 0 {
            found.truncate(usize::try_from(read.limit).unwrap_or(usize::MAX));
        }
        found
    }

    /// Reads from `store` in pages of `page_len` and finds the same.
    pub(crate) fn compare_read(&self, store: &EventStore, read: &Read, page_len: usize) {
        let expected = self.positions(read);
        let mut reader = store.read(read.clone()).unwrap();
        let mut found = Vec::new();
        loop {
            let page = reader
                .next_page(page_len)
                .unwrap_or_else(|error| panic!("{read:?}: {error}"));
            assert!(page.len() <= page_len);
            if page.is_empty() {
                break;
            }
            for event in page.iter() {
                self.compare_event(&event);
                found.push(event.position);
            }
            assert!(
                found.len() <= expected.len(),
                "{read:?}: too many: {found:?}"
            );
        }
        assert_eq!(found, expected, "{read:?} in pages of {page_len}");
    }

    /// Whether an event is what it should be.
    pub(crate) fn compare_event(&self, event: &ReadEvent<'_>) {
        let is = Event {
            content: Content {
                stream: event.stream.to_owned(),
                event_type: event.event_type.to_owned(),
                tags: event.tags().map(str::to_owned).collect(),
                data: event.data.to_vec(),
                metadata: event.metadata.to_vec(),
                id: event.has_own_id.then_some(event.id),
                schema_version: event.schema_version,
                content_type: event.content_type.to_owned(),
                occurred_ns: event.occurred_ns,
                correlation_id: event.correlation_id,
                causation_id: event.causation_id,
            },
            stream_version: event.stream_version,
            first_of_batch: event.first_of_batch,
            last_of_batch: event.last_of_batch,
            time_ns: event.time_ns,
        };
        assert!(event.position <= self.last(), "{is:?}");
        assert_eq!(is, *self.event(event.position), "at {}", event.position);
        assert_eq!(event.id, self.id_at(event.position));
    }

    fn compare_page(&self, page: &EventPage, position: Option<u64>) {
        assert_eq!(page.get(0).map(|event| event.position), position);
        assert!(page.len() <= 1);
        page.iter().for_each(|event| self.compare_event(&event));
    }

    pub(crate) fn compare_position(&self, store: &EventStore, position: u64) {
        let there = (1..=self.last()).contains(&position).then_some(position);
        self.compare_page(&store.event_at(position).unwrap(), there);
    }

    pub(crate) fn compare_id(&self, store: &EventStore, id: &Id) {
        self.compare_page(&store.event_by_id(id).unwrap(), self.position_of_id(id));
    }

    pub(crate) fn compare_stream(&self, store: &EventStore, stream: &str) {
        let of_stream = Read {
            selection: Selection::Stream(stream.to_owned()),
            ..Read::default()
        };
        let positions = self.positions(&of_stream);
        let info = store.stream_info(stream).unwrap();
        assert_eq!(info.is_some(), !positions.is_empty(), "stream {stream:?}");
        if let Some(info) = info {
            assert_eq!(info.name, stream);
            assert_eq!(info.stream_version, self.version(stream));
            assert_eq!(info.first_position, positions[0], "stream {stream:?}");
            assert_eq!(Some(&info.last_position), positions.last());
        }
    }

    pub(crate) fn compare_names(
        &self,
        store: &EventStore,
        kind: NameKind,
        after: Option<&str>,
        prefix: &str,
        count_max: usize,
    ) {
        let mut all: BTreeMap<&str, NameInfo> = BTreeMap::new();
        for (position, event) in (1..).zip(&self.events) {
            let content = &event.content;
            let names: Vec<&str> = match kind {
                NameKind::Stream => vec![&content.stream],
                NameKind::Category => vec![category(&content.stream)],
                NameKind::Type => vec![&content.event_type],
                NameKind::Tag => content.tags.iter().map(String::as_str).collect(),
            };
            for name in names {
                let info = all.entry(name).or_insert(NameInfo {
                    name: name.to_owned(),
                    event_count: 0,
                    first_position: position,
                    last_position: position,
                });
                info.event_count += 1;
                info.last_position = position;
            }
        }
        let expected: Vec<NameInfo> = all
            .into_iter()
            .filter(|(name, _)| after.is_none_or(|after| *name > after) && name.starts_with(prefix))
            .map(|(_, info)| info)
            .collect();
        let mut found: Vec<NameInfo> = Vec::new();
        loop {
            let behind = found.last().map(|info| info.name.clone());
            let behind = behind.as_deref().or(after);
            let page = store.names(kind, behind, prefix, count_max).unwrap();
            assert!(page.len() <= count_max);
            if page.is_empty() {
                break;
            }
            found.extend(page);
            assert!(found.len() <= expected.len(), "{kind:?}: {found:?}");
        }
        assert_eq!(found, expected, "{kind:?} behind {after:?}, {prefix:?}…");
    }

    pub(crate) fn compare_saved(&self, store: &EventStore, name: &str) {
        assert_eq!(
            store.saved_position(name).unwrap(),
            self.saved(name),
            "{name}"
        );
    }

    pub(crate) fn compare_state(&self, store: &EventStore, key: &[u8]) {
        let is = store.state(key).unwrap();
        let key_text = String::from_utf8_lossy(key);
        assert_eq!(is.as_ref(), self.state.get(key), "state {key_text}");
    }

    // ---- subscriptions -----------------------------------------------------------------------

    /// Where a subscription stands that begins now.
    pub(crate) fn follow(
        &self,
        selection: Selection,
        from: &SubscribeFrom,
        name: Option<&str>,
    ) -> Following {
        let after = match from {
            SubscribeFrom::Beginning => 0,
            SubscribeFrom::End => self.last(),
            SubscribeFrom::After(position) => *position,
            SubscribeFrom::Saved => name.and_then(|name| self.saved(name)).unwrap_or(0),
        };
        Following {
            selection,
            next: after + 1,
            name: name.map(str::to_owned),
            end: None,
        }
    }

    /// Pulls a page of up to `count_max` events and finds the next ones of the subscription; false
    /// if there are none and never will be.
    pub(crate) fn compare_pull(
        &self,
        subscription: &mut Subscription,
        following: &mut Following,
        count_max: usize,
    ) -> bool {
        let end = following.end.unwrap_or(self.last());
        let mut due = self.positions(&Read {
            selection: following.selection.clone(),
            ..Read::default()
        });
        due.retain(|position| (following.next..=end).contains(position));
        let pulled = subscription.next_page(count_max, Some(Duration::ZERO));
        if due.is_empty() && following.end.is_some() {
            assert_eq!(pulled.unwrap_err().kind(), ErrorKind::Closed);
            return false;
        }
        let page = pulled.unwrap_or_else(|error| panic!("{following:?}: {error}"));
        page.iter().for_each(|event| self.compare_event(&event));
        let found: Vec<u64> = page.iter().map(|event| event.position).collect();
        assert!(found.len() <= count_max);
        assert!(due.starts_with(&found), "{following:?}: {found:?}, {due:?}");
        assert_eq!(found.is_empty(), due.is_empty(), "{following:?}");
        following.next = match found.last() {
            Some(position) => position + 1,
            None => following.next.max(end + 1),
        };
        assert_eq!(subscription.position(), following.next - 1);
        true
    }

    /// Takes over an acknowledgement: a saved position only grows by it.
    pub(crate) fn acknowledge(&mut self, name: &str, position: u64) {
        if self.saved(name).is_none_or(|saved| saved < position) {
            self.saved.insert(name.to_owned(), position);
        }
    }

    /// Asks for all that is known, and for some of what is not.
    pub(crate) fn compare(&self, store: &EventStore) {
        assert_eq!(store.last_position().unwrap(), self.last());
        // Files may have been damaged on purpose; none says something else than the log.
        let report = store.verify_index(&mut |_, _| true).unwrap();
        if let Some(damage) = report.first_damage {
            let in_block = [
                "it does not begin like a run",
                "the checksum does not hold",
                "the file ends before it",
            ];
            assert!(in_block.contains(&damage.reason.as_str()), "{damage:?}");
        }
        for direction in [Direction::Forward, Direction::Backward] {
            let read = Read {
                direction,
                ..Read::default()
            };
            self.compare_read(store, &read, 100);
        }
        let mut streams: Vec<&String> = self.versions.keys().collect();
        streams.sort_unstable();
        for stream in streams {
            self.compare_stream(store, stream);
            let read = Read {
                selection: Selection::Stream(stream.clone()),
                ..Read::default()
            };
            self.compare_read(store, &read, 100);
        }
        self.compare_stream(store, "never heard of");
        for kind in [
            NameKind::Stream,
            NameKind::Category,
            NameKind::Type,
            NameKind::Tag,
        ] {
            self.compare_names(store, kind, None, "", 7);
        }
        for id in self.ids.keys() {
            self.compare_id(store, id);
        }
        for name in self.saved.keys().map(String::as_str).chain(["nobody"]) {
            self.compare_saved(store, name);
        }
        let keys = self.state.keys().map(Vec::as_slice);
        keys.chain([&b"nothing"[..]])
            .for_each(|key| self.compare_state(store, key));
    }
}

/// Streams stand in a receipt in the order of first mention.
fn note_version(receipt: &mut AppendReceipt, stream: &str, version: u64) {
    let versions = &mut receipt.stream_versions;
    match versions.iter_mut().find(|(name, _)| name == stream) {
        Some((_, known)) => *known = version,
        None => versions.push((stream.to_owned(), version)),
    }
}
