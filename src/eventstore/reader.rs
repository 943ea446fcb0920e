//! Events for the caller: positions become places, places become bytes of the log, verified one by
//! one, and bytes become the columns of a page.
//!
//! Events that stand close to each other are read together. Nothing is handed out that was not
//! compared with the checksum that the index has of it, and that does not say itself that it is the
//! event asked for.

use super::catalog::Catalog;
use super::columns::EventColumns;
use super::index::Place;
use super::selection::{Direction, Read};
use crate::error::{Error, ErrorKind, Place as ErrorPlace, Result};
use crate::format::checksum::crc32;
use crate::format::event::{self, EventId, OP_EVENT};
use crate::format::record;
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
use crate::sync::{Mutex, PoisonError};
use crate::vfs::{read_full_at, File, OpenMode};
use crate::wal::Wal;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Two events with no more bytes than this between them are read together.
const GAP_MAX: u64 = 4096;
/// Bytes read together.
const READ_MAX: u64 = 256 << 10;
/// Bytes read for a record whose length is not known: at first, and at most. What is longer is read in
/// two steps.
const GUESS: u64 = 512;
const GUESS_MAX: u64 = 4096;
/// Reads on a guess end at a multiple of this, for memory comes in such pieces: one that was guessed
/// in vain would cost as much as all that is needed of it.
const PIECE: u64 = 64;
/// No record stands in a file behind this: the operating system counts offsets with a sign.
const OFFSET_MAX: u64 = i64::MAX as u64 - READ_MAX - record::RECORD_LEN_MAX as u64;
/// Bytes of a page at which it ends, with the event that reaches it.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Events of a page at most, whatever is asked for: where each stands is looked up before the first is read, and
/// of most pages the bytes end first.
const PAGE_EVENTS_MAX: usize = 4096;
/// Files kept open; mappings are kept beyond the file they are of, and cost less.
const FILES_MAX: usize = 128;
const MAPPINGS_MAX: usize = 4096;
/// Events that are announced to the file before they are read, at least; and how many of them together.
const AHEAD: usize = 8;

/// The files of the log, open for reading at any place.
pub(super) struct Files {
    wal: Arc<Wal>,
    /// Whether they are read through mappings.
    mapped: bool,
    open: Mutex<BTreeMap<u64, OpenFile>>,
}

#[derive(Clone, Debug)]
struct OpenFile {
    header: SegmentHeader,
    file: Arc<dyn File>,
    /// Where the next segment begins; `None` for the last one.
    end: Option<Lsn>,
    /// Offset at which what is committed ends. Behind it a file may be cut off while it is open, so
    /// that nothing is read there on a guess: of a mapping that would be a signal.
    limit: u64,
}

impl OpenFile {
    /// Whether `lsn` stands here, if it was there when this was asked for.
    fn holds(&self, lsn: Lsn) -> bool {
        lsn >= self.header.base_lsn && self.end.is_none_or(|end| lsn < end)
    }
}

impl Files {
    pub(super) fn new(wal: Arc<Wal>, mapped: bool) -> Files {
        Files {
            wal,
            mapped,
            open: Mutex::default(),
        }
    }

    /// The file in which `lsn` stands.
    fn file_of(&self, lsn: Lsn) -> Result<OpenFile> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.range(..=lsn.0).next_back();
        if let Some((_, known)) = known {
            if known.end.is_some_and(|end| lsn < end) {
                return Ok(known.clone());
            }
        }
        let view = self.wal.view();
        let Some(header) = view.segment_with(lsn)? else {
            let message = format!("no segment holds LSN {lsn}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        let number = header.segment_number;
        let next = view.segment(number + 1)?;
        let committed = match &next {
            Some(next) => next.prev_end_lsn,
            None => view.end().lsn,
        };
        let end = next.map(|next| next.base_lsn);
        let limit = header.offset_of(committed).unwrap_or(0);
        if let Some(known) = open.get_mut(&header.base_lsn.0) {
            // A mapping has what the file had when it was made: now that it is complete, all of it.
            let is_whole = end.is_none() || !self.mapped;
            if known.header == header && is_whole {
                (known.end, known.limit) = (end, limit);
                return Ok(known.clone());
            }
        }
        let (mode, count_max) = match self.mapped {
            true => (OpenMode::Mapped, MAPPINGS_MAX),
            false => (OpenMode::Read, FILES_MAX),
        };
        let path = view.layout.segment(number);
        let file = view
            .vfs
            .open(&path, mode)
            .map_err(|error| Error::io("open", &path, error))?;
        let base = header.base_lsn.0;
        while open.len() >= count_max {
            // A neighbour goes: who reads on through the log was there just now, and whoever begins
            // again finds the others.
            let before = open.range(..base).next_back();
            let neighbour = before.or_else(|| open.iter().next()).map(|(&key, _)| key);
            open.remove(&neighbour.unwrap_or(base));
        }
        let found = OpenFile {
            header,
            file,
            end,
            limit,
        };
        open.insert(base, found.clone());
        Ok(found)
    }
}

/// An event as it was read.
#[derive(Clone, Copy, Debug)]
pub struct ReadEvent<'a> {
    /// Its number in the store, from 1.
    pub position: u64,
    /// Its number in its stream, from 1.
    pub stream_version: u64,
    /// When it was recorded, nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// Its own id, or the one derived from its position.
    pub id: EventId,
    /// Whether the id is its own.
    pub has_own_id: bool,
    /// Its stream.
    pub stream: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// In ascending order, each with its length (LEB128) before it: see [`tags`](Self::tags).
    pub tag_bytes: &'a [u8],
    /// How many tags.
    pub tag_count: usize,
    /// The application's number of the data's schema.
    pub schema_version: u64,
    /// Media type of the data.
    pub content_type: &'a str,
    /// When it occurred.
    pub occurred_ns: Option<i64>,
    /// What it belongs to.
    pub correlation_id: Option<EventId>,
    /// What it follows from.
    pub causation_id: Option<EventId>,
    /// About the event.
    pub metadata: &'a [u8],
    /// The event.
    pub data: &'a [u8],
    /// Whether it begins its batch.
    pub first_of_batch: bool,
    /// Whether it ends its batch.
    pub last_of_batch: bool,
}

impl<'a> ReadEvent<'a> {
    /// Its tags in ascending order.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + 'a {
        let bytes = self.tag_bytes;
        let mut at = 0;
        std::iter::from_fn(move || {
            let len = usize::try_from(crate::format::varint::get(bytes, &mut at)?).ok()?;
            let tag = bytes.get(at..at.checked_add(len)?)?;
            at += len;
            Some(std::str::from_utf8(tag).unwrap_or_default())
        })
    }
}

/// Bytes that are filled again and again: what was there before is not made zero anew.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// So many are filled.
    len: usize,
}

impl Buffer {
    fn as_slice(&self) -> &[u8] {
        self.get(0..self.len)
    }

    /// Part of what is filled; empty if it is not all there.
    fn get(&self, part: Range<usize>) -> &[u8] {
        let filled = self.bytes.get(..self.len).unwrap_or_default();
        filled.get(part).unwrap_or_default()
    }

    /// Place for `more` bytes behind those that are filled.
    fn space(&mut self, more: usize) -> Result<&mut [u8]> {
        let end = self.len.saturating_add(more);
        if end > self.bytes.len() {
            self.bytes
                .try_reserve(end - self.bytes.len())
                .map_err(|_| Error::no_memory("a page", more))?;
            self.bytes.resize(end, 0);
        }
        Ok(self.bytes.get_mut(self.len..end).unwrap_or_default())
    }
}

/// Events read together; they stay as they are until the page is filled again.
#[derive(Debug, Default)]
pub struct EventPage {
    bytes: Buffer,
    columns: EventColumns,
    places: Vec<Place>,
    /// The length of the record read last: the next one is like it more often than not.
    guess: Option<u64>,
    ahead: Ahead,
}

/// The files that events are read from, one after the other, and how far they are announced to them.
#[derive(Debug, Default)]
struct Ahead {
    /// The file read last, and those behind it of which something was announced.
    open: VecDeque<OpenFile>,
    /// Index of the first place of the page that is not announced.
    announced: usize,
}

impl Ahead {
    /// A page begins.
    fn begin(&mut self) {
        // The last segment may have got a successor since.
        self.open.retain(|open| open.end.is_some());
        self.announced = 0;
    }

    /// The file of the event that is read next.
    fn file_of(&mut self, files: &Files, lsn: Lsn) -> Result<&OpenFile> {
        while self.open.front().is_some_and(|open| !open.holds(lsn)) {
            self.open.pop_front();
        }
        if self.open.is_empty() {
            self.open.push_back(files.file_of(lsn)?);
        }
        let none = || Error::new(ErrorKind::Internal, "a file that was just found is gone");
        self.open.front().ok_or_else(none)
    }

    /// Announces to their mapped files the events that are read soon, from `first` on, AHEAD of them
    /// together: one behind the other, they are fetched at the same time, and so are the pages in which
    /// they are found. In between a processor would wait for each.
    fn announce(&mut self, files: &Files, places: &[Place], first: usize, guess: usize) {
        if first + AHEAD < self.announced {
            return;
        }
        let from = self.announced.max(first);
        self.announced = first + 2 * AHEAD;
        let soon = places.get(from..).unwrap_or_default().iter();
        for place in soon.take(self.announced - from) {
            let lsn = Lsn(place.lsn);
            if self.open.back().is_none_or(|open| !open.holds(lsn)) {
                match files.file_of(lsn) {
                    Ok(next) => self.open.push_back(next),
                    // Who reads it says why.
                    Err(_) => return,
                }
            }
            let Some(open) = self.open.back() else {
                return;
            };
            if let Some(offset) = open.header.offset_of(lsn) {
                open.file.expect(offset, guess);
            }
        }
    }
}

impl EventPage {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.len() == 0
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<ReadEvent<'_>> {
        self.columns.get(self.bytes.as_slice(), index)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = ReadEvent<'_>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Their fields.
    pub(crate) fn columns(&self) -> &EventColumns {
        &self.columns
    }

    /// What the spans of [`columns`](Self::columns) are of.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Leaves no event in it.
    pub(super) fn clear(&mut self) {
        self.columns.clear();
        self.bytes.len = 0;
    }

    /// Whether it is worth keeping for the next reading, and ready for it.
    fn retire(&mut self) -> bool {
        self.clear();
        // A file that is held here could not be closed.
        self.ahead.open.clear();
        self.bytes.bytes.len() <= 2 * PAGE_BYTES_MAX
    }

    /// Fills the page with the events at `positions`, as many as belong into a page; at least one
    /// if there are any.
    pub(super) fn fill(
        &mut self,
        catalog: &Catalog,
        files: &Files,
        positions: &[u64],
    ) -> Result<()> {
        let filled = self.fill_once(catalog, files, positions);
        match filled {
            Err(error) if error.is_corrupt() => {
                // It may be the place that is wrong: its block was checked when it was first used, and
                // read from the file again since.
                catalog.distrust();
                self.fill_once(catalog, files, positions)
            }
            filled => filled,
        }
    }

    fn fill_once(&mut self, catalog: &Catalog, files: &Files, positions: &[u64]) -> Result<()> {
        self.clear();
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.begin();
        let mut places = std::mem::take(&mut self.places);
        let found = catalog.ask(|snapshot| {
            places.clear();
            snapshot.places(positions, &mut places)
        });
        self.columns.reserve(positions.len());
        let mut index = 0;
        let mut outcome = found;
        while outcome.is_ok() && index < positions.len() && self.bytes.len < PAGE_BYTES_MAX {
            match self.read_together(files, &mut ahead, positions, &places, index) {
                Ok(behind) => index = behind,
                // What was read before is good; the error comes again with the next page.
                Err(_) if !self.is_empty() => break,
                Err(error) => outcome = Err(error),
            }
        }
        self.places = places;
        self.ahead = ahead;
        outcome
    }

    /// Reads the event `first` and those that follow close to it; returns the index behind them.
    fn read_together(
        &mut self,
        files: &Files,
        ahead: &mut Ahead,
        positions: &[u64],
        places: &[Place],
        first: usize,
    ) -> Result<usize> {
        let lost = || Error::new(ErrorKind::Internal, "an event without a place");
        let low = places.get(first).ok_or_else(lost)?.lsn;
        ahead.file_of(files, Lsn(low))?;
        if files.mapped {
            let guess = usize::try_from(self.guess.unwrap_or(GUESS)).unwrap_or(usize::MAX);
            ahead.announce(files, places, first, guess);
        }
        let open = ahead.file_of(files, Lsn(low))?;
        self.read_from(files, open, positions, places, first)
    }

    fn read_from(
        &mut self,
        files: &Files,
        open: &OpenFile,
        positions: &[u64],
        places: &[Place],
        first: usize,
    ) -> Result<usize> {
        let lost = || Error::new(ErrorKind::Internal, "an event without a place");
        let place_at = |index: usize| places.get(index).copied().ok_or_else(lost);
        let low = place_at(first)?.lsn;
        let guess = self.guess.unwrap_or(GUESS);
        let ends = open.end.map_or(u64::MAX, |end| end.0);
        // Backward reading goes one by one: each event stands before the one read last.
        let mut behind = first + 1;
        let mut high = low;
        while let Some(next) = places.get(behind) {
            let close = next.lsn > high
                && next.lsn - high <= GAP_MAX
                && next.lsn - low < READ_MAX
                && next.lsn < ends;
            if !close {
                break;
            }
            high = next.lsn;
            behind += 1;
        }
        let base = self.bytes.len;
        let offset = open.header.offset_of(Lsn(low));
        let Some(offset) = offset.filter(|&offset| offset <= OFFSET_MAX) else {
            return Err(damaged(open, &place_at(first)?, "no file is that long"));
        };
        // The header of a record is always read, since the place says that there is one.
        let header = high - low + record::HEADER_LEN as u64;
        let end = (offset + (high - low) + guess).next_multiple_of(PIECE);
        let wanted = end.min(open.limit).saturating_sub(offset).max(header);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        self.read_more(open, offset, base, wanted)?;
        let log_id = files.wal.log_id();
        let mut end = base;
        for index in first..behind {
            let place = place_at(index)?;
            let begin = base + usize::try_from(place.lsn - low).unwrap_or(usize::MAX);
            end = self.record_end(open, offset, base, begin, &place)?;
            let record = self.bytes.get(begin..end);
            let position = positions.get(index).copied().ok_or_else(lost)?;
            let (stream, value) = check_record(record, &place, open)?;
            // Decoded right here, because handing on what is decoded costs as much as decoding it.
            match event::decode(value) {
                Some(view) if view.position == position => {
                    self.columns
                        .push(begin, record, stream, &view, place.time_ns, log_id)?;
                }
                _ => {
                    let what = format!("it is not the event at position {position}");
                    return Err(damaged(open, &place, &what));
                }
            }
            self.guess = Some((record.len() as u64).min(GUESS_MAX));
        }
        self.bytes.len = end;
        Ok(behind)
    }

    /// Makes the bytes from `base` on `len` long, as they stand in the file from `offset` on.
    fn read_more(&mut self, open: &OpenFile, offset: u64, base: usize, len: usize) -> Result<()> {
        let have = self.bytes.len - base;
        let target = self.bytes.space(len.saturating_sub(have))?;
        let read = read_full_at(open.file.as_ref(), offset + have as u64, target);
        let number = open.header.segment_number;
        let read = read.map_err(|error| {
            let name = crate::wal::segment_file_name(number);
            Error::io("read", std::path::Path::new(&name), error).at(ErrorPlace {
                segment: number,
                offset,
                ..ErrorPlace::default()
            })
        })?;
        self.bytes.len += read;
        Ok(())
    }

    /// Where the record ends that begins at `begin`, all of which is read.
    fn record_end(
        &mut self,
        open: &OpenFile,
        offset: u64,
        base: usize,
        begin: usize,
        place: &Place,
    ) -> Result<usize> {
        let header = self.bytes.get(begin..begin + record::HEADER_LEN);
        let len = |at| crate::format::get_u32(header, at) as usize;
        let len = match header {
            [] => 0,
            _ => record::HEADER_LEN
                .saturating_add(len(4))
                .saturating_add(len(8)),
        };
        if len == 0 || len > record::RECORD_LEN_MAX + record::HEADER_LEN {
            return Err(damaged(open, place, "its length can't be"));
        }
        let end = begin + len;
        if end > self.bytes.len {
            self.read_more(open, offset, base, end - base)?;
        }
        if end > self.bytes.len {
            return Err(damaged(open, place, "the file ends inside it"));
        }
        Ok(end)
    }
}

/// Key and value of the record that `bytes` are: verified by the checksum that the index has of it.
fn check_record<'p>(
    bytes: &'p [u8],
    place: &Place,
    open: &OpenFile,
) -> Result<(&'p [u8], &'p [u8])> {
    let computed = crc32(bytes);
    if computed != place.crc {
        let what = format!("checksum {:#010x}, computed {computed:#010x}", place.crc);
        return Err(damaged(open, place, &what));
    }
    let parts = || {
        let span = record::decode(bytes, 0).filter(|span| span.op == OP_EVENT)?;
        let key = bytes.get(span.key_begin..span.value_begin)?;
        Some((key, bytes.get(span.value_begin..)?))
    };
    parts().ok_or_else(|| damaged(open, place, "it is no event"))
}

fn damaged(open: &OpenFile, place: &Place, what: &str) -> Error {
    let lsn = Lsn(place.lsn);
    let offset = open.header.offset_of(lsn).unwrap_or(0);
    let number = open.header.segment_number;
    let name = crate::wal::segment_file_name(number);
    let message = format!("the record at offset {offset} of {name} (LSN {lsn}): {what}");
    Error::new(ErrorKind::Corrupt, message).at(ErrorPlace {
        segment: number,
        offset,
        lsn,
        ..ErrorPlace::default()
    })
}

/// Pages of readings that ended, for those to come: a page is some twenty pieces of memory, which
/// take longer to get than a small stream takes to read.
#[derive(Default)]
pub(super) struct SparePages(Mutex<Vec<EventPage>>);

/// Pages kept.
const SPARE_PAGES_MAX: usize = 4;

impl SparePages {
    pub(super) fn take(&self) -> EventPage {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut page: EventPage) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() < SPARE_PAGES_MAX && page.retire() {
            pages.push(page);
        }
    }
}

/// A reading that goes on from page to page.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) read: Read,
    /// Position to go on from, in the direction of reading; `None`: not begun.
    pub(super) next: Option<u64>,
    pub(super) delivered: u64,
}

impl Progress {
    pub(super) fn new(read: Read) -> Progress {
        Progress {
            read,
            next: None,
            delivered: 0,
        }
    }

    /// Nothing of what is read lies between here and `last`: it need not be looked for again.
    pub(super) fn pass(&mut self, last: u64) {
        let behind = last.saturating_add(1);
        self.next = Some(self.next.map_or(behind, |next| next.max(behind)));
    }

    /// Fills `page` with what comes next; an empty page is the end for now. Says whether the page
    /// has all that there is up to `last`, or all that was asked for.
    pub(super) fn fill(
        &mut self,
        catalog: &Catalog,
        files: &Files,
        last: u64,
        count_max: usize,
        positions: &mut Vec<u64>,
        page: &mut EventPage,
    ) -> Result<bool> {
        let left = match self.read.limit {
            0 => u64::MAX,
            limit => limit - self.delivered.min(limit),
        };
        let count = count_max.min(PAGE_EVENTS_MAX);
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        let backward = self.read.direction == Direction::Backward;
        if self.next.is_some_and(|next| next == 0 || next > last) {
            positions.clear();
            page.clear();
            return Ok(true);
        }
        catalog.ask(|snapshot| {
            positions.clear();
            let Some((from, to)) = self.read.bounds(snapshot, last)? else {
                return Ok(());
            };
            let from = match self.next {
                Some(next) if backward => next.min(from),
                Some(next) => next.max(from),
                None => from,
            };
            let empty = if backward { from < to } else { from > to };
            if empty || from == 0 || count == 0 {
                return Ok(());
            }
            self.read.positions(snapshot, from, to, count, positions)
        })?;
        page.fill(catalog, files, positions)?;
        if let Some(&position) = page.columns.position.last() {
            self.next = Some(if backward { position - 1 } else { position + 1 });
            self.delivered += page.len() as u64;
        }
        let is_last = positions.len() < count || count as u64 == left;
        Ok(is_last && page.len() == positions.len())
    }

    /// There is nothing more up to `last`, in the direction of reading.
    pub(super) fn end(&mut self, last: u64) {
        match self.read.direction {
            Direction::Forward => self.pass(last),
            Direction::Backward => self.next = Some(0),
        }
    }
}
