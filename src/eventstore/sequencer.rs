//! Steps 2 and 3 of 3 of appending events: requests of many threads get their turns, are decided one
//! after another, and those that are accepted go into the log as one group.
//!
//! ```text
//! waiting     requests of threads, in the order of arrival
//!    │ taken by a thread that finds no leader: it becomes the leader
//! turn        decided against the catalog and each other, encoded with their positions,
//!    │        written and synced by the log: one write, one sync
//! catalog     learns of what was acknowledged; then the waiting threads learn of it
//! ```
//!
//! Invariants: one leader at a time, so positions are given in the order of the log. Results are told
//! on every path, also when the leader panics. A verdict that rests on a request of the same group
//! is told only if that request was committed.

use super::catalog::{Catalog, Memory};
use super::decide::{known_ids, Before, Original, Pending};
use super::index::{KeyKind, MemoryIndex, Place, Value};
use super::published::Published;
use super::reader::{EventPage, Files};
use super::replay::KnownRequest;
use super::request::{AppendReceipt, Expected, Prepared};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32;
use crate::format::event::{
    encode_place, event_flag, position_of_derived_id, RequestNote, OP_EVENT, OP_REQUEST,
    OP_SAVED_POSITION, OP_STATE_DELETE, OP_STATE_PUT, POSITION_MAX,
};
use crate::format::frame;
use crate::format::record::{decode, encode_header};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::wal::{Durability, EncodedPayload, Receipt, Record, Wal};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes of the payloads of one group.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Streams whose versions are remembered, in each of two generations.
const VERSIONS_MAX: usize = 32_768;

struct Waiting {
    ticket: u64,
    request: Prepared,
    durability: Durability,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    leading: bool,
    /// Threads that wait for `done`. Waking nobody would cost a system call.
    sleeping: usize,
    finished: HashMap<u64, Result<AppendReceipt>>,
    /// Why nothing more is appended, if that is not the log's own affair.
    refusal: Option<Error>,
}

/// What the leader needs, and nobody else.
#[derive(Default)]
struct Desk {
    pending: Pending,
    versions: VersionCache,
    payloads: Vec<EncodedPayload>,
}

/// Versions of streams that were asked for or appended to lately: two generations, of which the
/// older one is forgotten when the newer one is full.
#[derive(Default)]
pub(super) struct VersionCache {
    newer: HashMap<Box<[u8]>, u64>,
    older: HashMap<Box<[u8]>, u64>,
}

impl VersionCache {
    pub(super) fn get(&self, stream: &[u8]) -> Option<u64> {
        let found = self.newer.get(stream).or_else(|| self.older.get(stream));
        found.copied()
    }

    fn set(&mut self, stream: &[u8], version: u64) {
        if let Some(known) = self.newer.get_mut(stream) {
            *known = version;
            return;
        }
        if self.newer.len() >= VERSIONS_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(stream.into(), version);
    }
}

/// Version of a stream before the next request of the group, if it needs no looking up.
pub(super) fn version_at_hand(
    stream: &[u8],
    pending: &Pending,
    versions: &VersionCache,
) -> Option<u64> {
    let pending = pending.versions.get(stream).copied();
    pending.or_else(|| versions.get(stream))
}

/// See the module.
pub(super) struct Sequencer {
    wal: Arc<Wal>,
    catalog: Arc<Catalog>,
    files: Arc<Files>,
    /// The last position that readers may see.
    published: Arc<Published>,
    queue: Mutex<Queue>,
    done: Condvar,
    /// Locked by the leader only.
    desk: Mutex<Desk>,
}

/// A request that was accepted, with what it will come to.
struct Accepted {
    at: usize,
    receipt: AppendReceipt,
    payload: usize,
}

/// The results of a turn, told when it is dropped.
struct Turn<'a> {
    sequencer: &'a Sequencer,
    taken: Vec<Waiting>,
    results: Vec<Option<Result<AppendReceipt>>>,
    /// So many, from the first, had their turn.
    decided: usize,
    refusal: Option<Error>,
    /// The turn came to its end: no defect kept it from telling all results.
    complete: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.sequencer.queue();
        let taken = std::mem::take(&mut self.taken);
        let mut results = std::mem::take(&mut self.results).into_iter();
        let mut later = Vec::new();
        let defect = || {
            Error::new(
                ErrorKind::Internal,
                "the library failed while it appended; the handle accepts nothing more",
            )
        };
        for (index, waiting) in taken.into_iter().enumerate() {
            match results.next().flatten() {
                Some(result) => {
                    queue.finished.insert(waiting.ticket, result);
                }
                None if self.complete && index >= self.decided => later.push(waiting),
                None => {
                    queue.finished.insert(waiting.ticket, Err(defect()));
                }
            }
        }
        for waiting in later.into_iter().rev() {
            queue.waiting.push_front(waiting);
        }
        if !self.complete && queue.refusal.is_none() {
            queue.refusal = Some(defect());
        }
        if queue.refusal.is_none() {
            queue.refusal = self.refusal.take();
        }
        queue.leading = false;
        let somebody_waits = queue.sleeping > 0;
        drop(queue);
        if somebody_waits {
            self.sequencer.done.notify_all();
        }
    }
}

impl Sequencer {
    pub(super) fn new(
        wal: Arc<Wal>,
        catalog: Arc<Catalog>,
        files: Arc<Files>,
        published: Arc<Published>,
    ) -> Sequencer {
        Sequencer {
            wal,
            catalog,
            files,
            published,
            queue: Mutex::default(),
            done: Condvar::new(),
            desk: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends; returns when the log has acknowledged it.
    pub(super) fn append(
        &self,
        request: Prepared,
        durability: Durability,
    ) -> Result<AppendReceipt> {
        let mut queue = self.queue();
        if let Some(error) = &queue.refusal {
            return Err(error.duplicate());
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Waiting {
            ticket,
            request,
            durability,
        });
        loop {
            if let Some(result) = queue.finished.remove(&ticket) {
                return result;
            }
            if queue.leading {
                queue.sleeping += 1;
                queue = self
                    .done
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.sleeping -= 1;
                continue;
            }
            queue.leading = true;
            let mut turn = Turn {
                sequencer: self,
                taken: queue.waiting.drain(..).collect(),
                results: Vec::new(),
                decided: 0,
                refusal: queue.refusal.as_ref().map(Error::duplicate),
                complete: false,
            };
            drop(queue);
            self.take_turn(&mut turn);
            turn.complete = true;
            drop(turn);
            queue = self.queue();
        }
    }

    /// Nothing more is appended, for this reason.
    pub(super) fn refuse(&self, error: Error) {
        self.queue().refusal = Some(error);
    }

    // ---- the leader --------------------------------------------------------------------------

    fn take_turn(&self, turn: &mut Turn<'_>) {
        turn.results.resize_with(turn.taken.len(), || None);
        let refusal = turn.refusal.as_ref().map(Error::duplicate);
        if let Some(error) = refusal.or_else(|| self.wal.refusal()) {
            turn.results.fill_with(|| Some(Err(error.duplicate())));
            turn.decided = turn.taken.len();
            return;
        }
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = &mut *desk;
        desk.pending.clear();
        let active = self.catalog.active();
        let last = self.published.last();
        let mut next = last + 1;
        let mut accepted: Vec<Accepted> = Vec::new();
        let mut durability = Durability::AsOpened;
        let mut group_bytes = 0usize;
        // Verdicts that hold only if the group is committed.
        let mut dependent: Vec<usize> = Vec::new();
        for at in 0..turn.taken.len() {
            let request = &turn.taken[at].request;
            let large = request.encoded_len > self.wal.frame_payload_target() as u64;
            let must_wait = desk.pending.may_repeat(request)
                || (large && !accepted.is_empty())
                || (group_bytes > GROUP_BYTES_MAX);
            if must_wait {
                break;
            }
            turn.decided = at + 1;
            match self.decide(&turn.taken, &accepted, desk, last, at) {
                Err(error) => {
                    if error.kind() == ErrorKind::Conflict && !accepted.is_empty() {
                        dependent.push(at);
                    }
                    turn.results[at] = Some(Err(error));
                    continue;
                }
                Ok(Some(receipt)) => {
                    // What was written in a lazy mode may not be durable yet.
                    let durable = match turn.taken[at].durability {
                        Durability::Durable => self.sync(),
                        Durability::AsOpened => Ok(()),
                    };
                    turn.results[at] = Some(durable.map(|()| receipt));
                    continue;
                }
                Ok(None) => {}
            }
            if turn.taken[at].durability == Durability::Durable {
                durability = Durability::Durable;
            }
            let request = &turn.taken[at].request;
            if next + request.events.len() as u64 > POSITION_MAX {
                let full = Error::new(ErrorKind::TooLarge, "no positions are left");
                turn.results[at] = Some(Err(full));
                continue;
            }
            let payload = accepted.len();
            if desk.payloads.len() <= payload {
                desk.payloads.push(EncodedPayload::default());
            }
            match self.encode(request, next, desk, payload) {
                Ok(receipt) => {
                    group_bytes += desk.payloads[payload].bytes.len();
                    desk.pending.add(request);
                    next += request.events.len() as u64;
                    accepted.push(Accepted {
                        at,
                        receipt,
                        payload,
                    });
                }
                Err(error) => {
                    turn.results[at] = Some(Err(error));
                    continue;
                }
            }
            if large {
                break;
            }
        }
        if accepted.is_empty() {
            return;
        }
        let outcome = self.commit(turn, desk, &active, accepted, durability);
        if let Err(error) = outcome {
            for at in dependent {
                turn.results[at] = Some(Err(error.duplicate()));
            }
        }
        for payload in &mut desk.payloads {
            if payload.bytes.capacity() > GROUP_BYTES_MAX {
                *payload = EncodedPayload::default();
            }
        }
        desk.payloads.truncate(64);
        // What of the index can't be written stays in memory; the events are in the log.
        let _ = self.catalog.grown();
    }

    /// Version of a stream before the next request of the group; from now on it is at hand.
    fn version_of(&self, stream: &[u8], desk: &mut Desk) -> Result<u64> {
        if let Some(version) = version_at_hand(stream, &desk.pending, &desk.versions) {
            return Ok(version);
        }
        let version = self.catalog.ask(|s| s.stream_version(stream))?;
        desk.versions.set(stream, version);
        Ok(version)
    }

    /// `None`: it is accepted. A receipt: it was carried out before.
    fn decide(
        &self,
        taken: &[Waiting],
        accepted: &[Accepted],
        desk: &mut Desk,
        last: u64,
        at: usize,
    ) -> Result<Option<AppendReceipt>> {
        let request = &taken[at].request;
        self.check_derived_ids(request, last)?;
        let before: Vec<(u64, &Prepared)> = accepted
            .iter()
            .map(|accepted| {
                let request = &taken[accepted.at].request;
                (accepted.receipt.first_position, request)
            })
            .collect();
        let mut expected = true;
        for (stream, version) in &request.expectations {
            if *version != Expected::Any {
                expected &= version.holds(self.version_of(request.get(stream), desk)?);
            }
        }
        // Most appends have nothing but expectations.
        let simple = request.conditions.is_empty()
            && request.side_records.is_empty()
            && request.idempotency_key.is_none()
            && request.events.iter().all(|event| event.id.is_none());
        if simple && expected {
            return Ok(None);
        }
        let original = self.catalog.ask(|snapshot| {
            let before = Before {
                snapshot,
                log_id: self.wal.log_id(),
                last,
                pending: &desk.pending,
                versions: &desk.versions,
                accepted: &before,
            };
            match before.original(request)? {
                Some(original) => Ok(Ok(original)),
                None => before.conflicts(request).map(Err),
            }
        })?;
        match original {
            Ok(original) => self.receipt_of(request, &original).map(Some),
            Err(conflicts) if conflicts.is_empty() => Ok(None),
            Err(conflicts) => Err(Error::of_conflicts(conflicts)),
        }
    }

    /// Checks that no event claims an id of the form that the store derives from positions, unless
    /// it is the very event that got it.
    fn check_derived_ids(&self, request: &Prepared, last: u64) -> Result<()> {
        let ids = request.events.iter().filter_map(|event| event.id);
        for id in ids {
            let Some(position) = position_of_derived_id(self.wal.log_id(), &id) else {
                continue;
            };
            let mut page = EventPage::default();
            if position <= last {
                page.fill(&self.catalog, &self.files, &[position])?;
            }
            if page.get(0).is_none_or(|event| event.id != id) {
                return Err(Error::invalid(
                    "an id of the form that the store itself gives to events without one",
                ));
            }
        }
        Ok(())
    }

    /// The receipt of a request that was carried out before, read from the log.
    fn receipt_of(&self, request: &Prepared, original: &Original) -> Result<AppendReceipt> {
        let mut receipt = AppendReceipt {
            duplicate: true,
            time_ns: original.time_ns,
            ..AppendReceipt::default()
        };
        if original.event_count == 0 {
            return Ok(receipt);
        }
        let end = original.first_position + original.event_count;
        let mut page = EventPage::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut next = original.first_position;
        while next < end {
            let until = end.min(next + 1024);
            let positions: Vec<u64> = (next..until).collect();
            page.fill(&self.catalog, &self.files, &positions)?;
            for event in page.iter() {
                let begins = event.position == original.first_position;
                let ends = event.position + 1 == end;
                if event.first_of_batch != begins || event.last_of_batch != ends {
                    let ids = request.events.iter().filter_map(|event| event.id);
                    return Err(known_ids(ids.collect()));
                }
                receipt.time_ns = event.time_ns;
                let versions = &mut receipt.stream_versions;
                match known.get(event.stream).and_then(|&at| versions.get_mut(at)) {
                    Some((_, version)) => *version = event.stream_version,
                    None => {
                        known.insert(event.stream.to_string(), versions.len());
                        versions.push((event.stream.to_string(), event.stream_version));
                    }
                }
                next = event.position + 1;
            }
            if page.is_empty() {
                return Err(Error::new(ErrorKind::Internal, "a page without events"));
            }
        }
        receipt.first_position = original.first_position;
        receipt.last_position = end - 1;
        Ok(receipt)
    }

    /// Encodes the records of a request into a payload, with their positions and versions.
    fn encode(
        &self,
        request: &Prepared,
        first_position: u64,
        desk: &mut Desk,
        payload: usize,
    ) -> Result<AppendReceipt> {
        let Desk {
            pending,
            versions,
            payloads,
        } = desk;
        let payload = &mut payloads[payload];
        payload.clear();
        let len = usize::try_from(request.encoded_len).unwrap_or(usize::MAX);
        payload
            .bytes
            .try_reserve(len)
            .map_err(|_| Error::no_memory("an append", len))?;
        let count = request.events.len();
        // Streams in the order of first mention, and where each is in it.
        let mut streams: Vec<(&[u8], u64)> = Vec::new();
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        let mut place = Vec::with_capacity(24);
        let mut current = usize::MAX;
        for (index, event) in request.events.iter().enumerate() {
            let stream = request.get(&event.stream);
            if streams.get(current).is_none_or(|(name, _)| *name != stream) {
                current = match known.get(stream) {
                    Some(&known) => known,
                    None => {
                        let version = match version_at_hand(stream, pending, versions) {
                            Some(version) => version,
                            None => self.catalog.ask(|s| s.stream_version(stream))?,
                        };
                        streams.push((stream, version));
                        if count > 1 {
                            known.insert(stream, streams.len() - 1);
                        }
                        streams.len() - 1
                    }
                };
            }
            let version = match streams.get_mut(current) {
                Some((_, version)) => {
                    *version += 1;
                    *version
                }
                None => 0,
            };
            let mut flags = event.flags;
            if index == 0 {
                flags |= event_flag::FIRST;
            }
            if index + 1 == count {
                flags |= event_flag::LAST;
            }
            place.clear();
            encode_place(&mut place, flags, first_position + index as u64, version);
            let body = request.get(&event.body);
            push(payload, OP_EVENT, stream, [&place, body]);
        }
        let mut receipt = AppendReceipt {
            first_position,
            stream_versions: Vec::with_capacity(streams.len()),
            ..AppendReceipt::default()
        };
        for (stream, version) in streams {
            pending.versions.insert(stream.into(), version);
            let name = String::from_utf8_lossy(stream).into_owned();
            receipt.stream_versions.push((name, version));
        }
        for side in &request.side_records {
            let value = request.get(&side.value);
            push(payload, side.op, request.get(&side.key), [value, &[]]);
        }
        if let Some((key, digest)) = &request.idempotency_key {
            let note = RequestNote {
                digest: *digest,
                first_position,
                event_count: count as u64,
            };
            push(payload, OP_REQUEST, request.get(key), [&note.encode(), &[]]);
        }
        payload.seal();
        if count == 0 {
            receipt.first_position = 0;
        } else {
            receipt.last_position = first_position + count as u64 - 1;
        }
        Ok(receipt)
    }

    /// Commits the accepted requests and tells their results. An error if not all of them are in
    /// the log.
    fn commit(
        &self,
        turn: &mut Turn<'_>,
        desk: &mut Desk,
        active: &Arc<Memory>,
        accepted: Vec<Accepted>,
        durability: Durability,
    ) -> Result<()> {
        let mut results: Vec<Result<Receipt>> = Vec::with_capacity(accepted.len());
        let payloads = desk.payloads.get(..accepted.len()).unwrap_or_default();
        let target = self.wal.frame_payload_target();
        let refused = match payloads {
            [one] if one.bytes.len() > target => {
                let committed = self.wal.append_events(|| records(&one.bytes), durability);
                results.push(committed);
                Ok(())
            }
            _ => self
                .wal
                .append_encoded(payloads, durability, |result| results.push(result)),
        };
        if let Err(error) = refused {
            results.clear();
            results.resize_with(accepted.len(), || Err(error.duplicate()));
        }
        let mut failure = None;
        let mut published = self.published.last();
        {
            let mut index = active.index.write().unwrap_or_else(PoisonError::into_inner);
            for (accepted, result) in accepted.into_iter().zip(results) {
                let request = &turn.taken[accepted.at].request;
                let payload = &desk.payloads[accepted.payload];
                turn.results[accepted.at] = Some(match result {
                    Err(error) => {
                        failure = Some(error.duplicate());
                        Err(error)
                    }
                    Ok(receipt) => {
                        let learned = self.learn(
                            &mut index,
                            active,
                            request,
                            payload,
                            published + 1,
                            &receipt,
                        );
                        published += request.events.len() as u64;
                        if let Err(error) = learned {
                            // The log has it; what memory lacks, reopening gives.
                            turn.refusal = Some(error.into_kind(
                                ErrorKind::Poisoned,
                                "the index could not follow the log; open the store again",
                            ));
                        }
                        Ok(AppendReceipt {
                            time_ns: receipt.time_ns,
                            batch_id: receipt.batch_id.0,
                            ..accepted.receipt
                        })
                    }
                });
            }
        }
        if turn.refusal.is_none() {
            self.published.set(published);
        }
        match failure {
            Some(error) => {
                desk.versions = VersionCache::default();
                self.withdraw();
                Err(error)
            }
            None => {
                for (stream, version) in desk.pending.versions.drain() {
                    desk.versions.set(&stream, version);
                }
                Ok(())
            }
        }
    }

    /// Makes everything that was appended before durable.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.wal.sync();
        if synced.is_err() {
            self.withdraw();
        }
        synced
    }

    /// After a failed sync, readers go on to what is durable and no further. That concerns lazy modes
    /// only, where more is known than is durable.
    fn withdraw(&self) {
        if !self.catalog.goes_beyond(self.wal.view().end().lsn) {
            return;
        }
        self.catalog.withdraw();
        let last = self.catalog.last_position().min(self.published.last());
        self.published.set(last);
    }

    /// Adds a committed request to the index.
    fn learn(
        &self,
        index: &mut MemoryIndex,
        active: &Memory,
        request: &Prepared,
        payload: &EncodedPayload,
        first_position: u64,
        receipt: &Receipt,
    ) -> Result<()> {
        let one_frame = payload.bytes.len() <= self.wal.frame_payload_target();
        let mut places = if one_frame {
            places_in(payload, receipt)
        } else {
            self.places_in_log(request, receipt)?
        }
        .into_iter();
        let mut at = 0;
        for (event, position) in request.events.iter().zip(first_position..) {
            let Some(place) = places.next() else {
                return Err(Error::new(ErrorKind::Internal, "an event without a place"));
            };
            let version = version_in(&payload.bytes, &mut at);
            index.add_event(
                position,
                place,
                request.get(&event.stream),
                version,
                request.get(&event.event_type),
                request.tags_of(event),
                event.id.as_ref(),
            )?;
        }
        for side in &request.side_records {
            let key = request.get(&side.key);
            let value = request.get(&side.value);
            match side.op {
                OP_SAVED_POSITION => {
                    let saved = value.get(..8).unwrap_or_default().to_vec();
                    index.put_value(KeyKind::SavedPosition, key, Value::Bytes(saved));
                }
                OP_STATE_PUT => {
                    index.put_value(KeyKind::State, key, Value::Bytes(value.to_vec()));
                }
                OP_STATE_DELETE => index.put_value(KeyKind::State, key, Value::Deleted),
                _ => {}
            }
        }
        if let Some((key, digest)) = &request.idempotency_key {
            let known = KnownRequest {
                note: RequestNote {
                    digest: *digest,
                    first_position,
                    event_count: request.events.len() as u64,
                },
                time_ns: receipt.time_ns,
            };
            let value = Value::Bytes(known.encode());
            index.put_value(KeyKind::Request, request.get(key), value);
        }
        let mut covered = active
            .covered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let covered = &mut covered.end;
        covered.batch_id = receipt.batch_id;
        covered.first_seq = receipt.first_seq;
        covered.end_seq = receipt.seq;
        covered.time_ns = receipt.time_ns;
        covered.payload_crc = if one_frame { payload.crc } else { 0 };
        Ok(())
    }

    /// Where the events of a batch of several frames stand: the log knows.
    fn places_in_log(&self, request: &Prepared, receipt: &Receipt) -> Result<Vec<Place>> {
        let mut cursor = self.wal.cursor(receipt.first_seq.saturating_sub(1))?;
        let mut places = Vec::with_capacity(request.events.len());
        let from = receipt.first_seq.saturating_sub(1);
        if cursor.begin_at(receipt.batch_id, from)?.is_none() {
            return Err(Error::new(
                ErrorKind::Internal,
                "a batch is not where it was put",
            ));
        }
        while places.len() < request.events.len() {
            match cursor.next_placed()? {
                Some((entry, place)) if entry.op == OP_EVENT => places.push(Place {
                    lsn: place.lsn.0,
                    crc: place.crc,
                    time_ns: entry.time_ns,
                }),
                Some(_) => {}
                None => break,
            }
        }
        Ok(places)
    }
}

fn push(payload: &mut EncodedPayload, op: u8, key: &[u8], value: [&[u8]; 2]) {
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let value_len = value[0].len() + value[1].len();
    let bytes = &mut payload.bytes;
    bytes.extend_from_slice(&encode_header(op, len(key.len()), len(value_len)));
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value[0]);
    bytes.extend_from_slice(value[1]);
    payload.record_count += 1;
}

/// The records of a payload.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let span = decode(bytes, at)?;
        at = span.value_end;
        Some(Record {
            op: span.op,
            key: bytes.get(span.key_begin..span.value_begin)?,
            value: bytes.get(span.value_begin..span.value_end)?,
        })
    })
}

/// Where the records of a payload stand that is the frame of a batch.
fn places_in(payload: &EncodedPayload, receipt: &Receipt) -> Vec<Place> {
    let mut places = Vec::with_capacity(payload.record_count as usize);
    let mut at = 0;
    let base = receipt.batch_id.0 + frame::HEADER_LEN as u64;
    while let Some(span) = decode(&payload.bytes, at) {
        let record = payload.bytes.get(at..span.value_end).unwrap_or_default();
        places.push(Place {
            lsn: base + at as u64,
            crc: crc32(record),
            time_ns: receipt.time_ns,
        });
        at = span.value_end;
    }
    places
}

/// Stream version in the event at `at`, which is moved behind it.
fn version_in(bytes: &[u8], at: &mut usize) -> u64 {
    let Some(span) = decode(bytes, *at) else {
        return 0;
    };
    *at = span.value_end;
    let mut field = span.value_begin + 1;
    let _ = crate::format::varint::get(bytes, &mut field);
    crate::format::varint::get(bytes, &mut field).unwrap_or(0)
}
