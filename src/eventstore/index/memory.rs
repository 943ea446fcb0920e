//! The memory index: the newest events, in hash tables. It grows by one event at a time and is
//! written as a run when the catalog finds it large enough.
//!
//! It is made to cost little per append: an event whose keys are all known takes a lookup for its
//! stream, its type and each tag (the category is remembered with the stream), whose hashes come with
//! them, and allocates nothing, but for the doubling of vectors. Positions are kept as u32 relative to
//! the first.

use super::{KeyKind, Layer, ListHead, Place, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::eventstore::name::{self, Name, NameMap};
use crate::format::event::category_of;
use std::collections::{BinaryHeap, HashMap};
use std::ops::RangeInclusive;

/// The index of the newest events.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    /// Position of the first event, if there is one.
    first: u64,
    /// By position, from `first` on.
    places: Vec<Place>,
    /// All lists of all kinds; the tables below hold indexes into it.
    lists: Vec<List>,
    streams: NameMap<Stream>,
    categories: NameMap<usize>,
    types: NameMap<usize>,
    tags: NameMap<usize>,
    /// Relative positions.
    ids: HashMap<[u8; 16], u32>,
    requests: NameMap<Value>,
    saved_positions: NameMap<Value>,
    states: NameMap<Value>,
    /// How many values were put, also where one took the place of another.
    values_put: u64,
    /// Bytes behind the pointers in the tables: keys, positions and values.
    behind: usize,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    list: usize,
    /// The list of its category.
    category: usize,
    first_version: u64,
}

/// Ascending relative positions; never empty. Most lists have one.
#[derive(Debug)]
enum List {
    One([u32; 1]),
    Many(Vec<u32>),
}

impl List {
    fn as_slice(&self) -> &[u32] {
        match self {
            List::One(one) => one,
            List::Many(many) => many,
        }
    }

    /// Adds a position, unless it is the last already. Gives how many bytes more are held.
    fn push(&mut self, position: u32) -> usize {
        let before = match self {
            List::One([one]) if *one == position => return 0,
            List::One([one]) => {
                *self = List::Many(vec![*one, position]);
                0
            }
            List::Many(many) if many.last() == Some(&position) => return 0,
            List::Many(many) => {
                let before = many.capacity();
                many.push(position);
                before
            }
        };
        match self {
            List::One(_) => 0,
            List::Many(many) => (many.capacity() - before) * size_of::<u32>(),
        }
    }
}

impl MemoryIndex {
    /// An empty index; its first event will have this position.
    pub(crate) fn new(first_position: u64) -> MemoryIndex {
        MemoryIndex {
            first: first_position,
            ..MemoryIndex::default()
        }
    }

    /// An empty index that goes on behind this one, with memory for half as much: as a rule it will grow
    /// as large, and the doubling of tables costs much of what adding to them does. More than half could
    /// be all that an index may hold, by [`bytes`](Self::bytes), before there is anything in it.
    pub(crate) fn successor(&self) -> MemoryIndex {
        let mut next = MemoryIndex::new(self.range().end() + 1);
        next.places.reserve(self.places.len() / 2);
        next.lists.reserve(self.lists.len() / 2);
        next.streams.reserve(self.streams.len() / 2);
        next
    }

    /// Adds the next event. An error leaves the index as it was.
    ///
    /// The lengths of keys are not checked here: the format of events allows none over
    /// [`KEY_LEN_MAX`](super::KEY_LEN_MAX), and a run refuses it.
    pub(crate) fn add_event<'t>(
        &mut self,
        position: u64,
        place: Place,
        stream: impl Into<Name<'t>>,
        stream_version: u64,
        event_type: impl Into<Name<'t>>,
        tags: impl Iterator<Item = impl Into<Name<'t>>>,
        id: Option<&[u8; 16]>,
    ) -> Result<()> {
        let relative = self.check_next(position)?;
        let stream = stream.into();
        let known = name::get(&self.streams, stream).copied();
        if let Some(known) = known {
            let expected = known.first_version + self.slice(known.list).len() as u64;
            if stream_version != expected {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!(
                        "event {position} has stream version {stream_version}, \
                         but its stream is at {expected}"
                    ),
                ));
            }
        }

        match known {
            Some(known) => {
                for list in [known.list, known.category] {
                    if let Some(list) = self.lists.get_mut(list) {
                        self.behind += list.push(relative);
                    }
                }
            }
            None => self.add_stream(stream, stream_version, relative),
        }
        let (lists, behind) = (&mut self.lists, &mut self.behind);
        *behind += add_to(&mut self.types, lists, event_type.into(), relative).1;
        for tag in tags {
            *behind += add_to(&mut self.tags, lists, tag.into(), relative).1;
        }
        if let Some(id) = id {
            self.ids.insert(*id, relative);
        }
        self.places.push(place);
        Ok(())
    }

    fn check_next(&self, position: u64) -> Result<u32> {
        let expected = self.first + self.places.len() as u64;
        if position != expected {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("event {position} was given to the index, which expects {expected}"),
            ));
        }
        u32::try_from(self.places.len()).map_err(|_| {
            Error::new(
                ErrorKind::TooLarge,
                format!("the memory index is full at event {position}"),
            )
        })
    }

    fn add_stream(&mut self, stream: Name<'_>, first_version: u64, relative: u32) {
        let lists = &mut self.lists;
        let category = Name::new(category_of(stream.bytes));
        let (category, more) = add_to(&mut self.categories, lists, category, relative);
        let list = lists.len();
        lists.push(List::One([relative]));
        self.behind += more + allocation_len(stream.bytes.len());
        let stream_entry = Stream {
            list,
            category,
            first_version,
        };
        self.streams.insert(stream.into(), stream_entry);
    }

    /// Puts a value, or that it was deleted. Of kinds that come with events (lists and ids)
    /// nothing can be put.
    pub(crate) fn put_value(&mut self, kind: KeyKind, key: &[u8], value: Value) {
        let values = match kind {
            KeyKind::Request => &mut self.requests,
            KeyKind::SavedPosition => &mut self.saved_positions,
            KeyKind::State => &mut self.states,
            _ => return debug_assert!(false, "{kind:?} comes with its event"),
        };
        self.values_put += 1;
        self.behind += value_len(&value);
        let key = Name::new(key);
        match name::get_mut(values, key) {
            Some(old) => {
                self.behind = self.behind.saturating_sub(value_len(old));
                *old = value;
            }
            None => {
                self.behind += allocation_len(key.bytes.len());
                values.insert(key.into(), value);
            }
        }
    }

    /// How many events it has.
    pub(crate) fn event_count(&self) -> u64 {
        self.places.len() as u64
    }

    /// How many events and values were put into it: how much of the log must be read to make it
    /// again, which its size does not tell where one value takes the place of another.
    pub(crate) fn record_count(&self) -> u64 {
        self.event_count() + self.values_put
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<MemoryIndex>()
            + self.behind
            + self.places.capacity() * size_of::<Place>()
            + self.lists.capacity() * size_of::<List>()
            + table_len(&self.streams)
            + table_len(&self.categories)
            + table_len(&self.types)
            + table_len(&self.tags)
            + table_len(&self.ids)
            + table_len(&self.requests)
            + table_len(&self.saved_positions)
            + table_len(&self.states)
    }

    /// The places of all events, in order.
    pub(super) fn all_places(&self) -> &[Place] {
        &self.places
    }

    /// All lists of a kind in the order of their keys, with the first stream version.
    pub(super) fn sorted_lists(
        &self,
        kind: KeyKind,
    ) -> Vec<(&[u8], u64, impl Iterator<Item = u64> + '_)> {
        let mut lists: Vec<(&[u8], u64, usize)> = match kind {
            KeyKind::Stream => {
                let entries = self.streams.iter();
                entries
                    .map(|(key, stream)| (key.as_ref(), stream.first_version, stream.list))
                    .collect()
            }
            _ => {
                let entries = self.table(kind).into_iter().flatten();
                entries
                    .map(|(key, &list)| (key.as_ref(), 0, list))
                    .collect()
            }
        };
        lists.sort_unstable_by_key(|&(key, ..)| key);
        let first = self.first;
        lists
            .into_iter()
            .map(|(key, first_version, list)| {
                let positions = self.slice(list).iter();
                let absolute = positions.map(move |&relative| first + u64::from(relative));
                (key, first_version, absolute)
            })
            .collect()
    }

    /// All ids in their order, with their positions.
    pub(super) fn sorted_ids(&self) -> Vec<(&[u8; 16], u64)> {
        let entries = self.ids.iter();
        let mut ids: Vec<_> = entries
            .map(|(id, &relative)| (id, self.first + u64::from(relative)))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// All values of a kind other than ids, in the order of their keys.
    pub(super) fn sorted_values(&self, kind: KeyKind) -> Vec<(&[u8], &Value)> {
        let entries = self.values(kind).into_iter().flatten();
        let mut values: Vec<(&[u8], &Value)> =
            entries.map(|(key, value)| (key.as_ref(), value)).collect();
        values.sort_unstable_by_key(|&(key, _)| key);
        values
    }

    fn table(&self, kind: KeyKind) -> Option<&NameMap<usize>> {
        match kind {
            KeyKind::Category => Some(&self.categories),
            KeyKind::Type => Some(&self.types),
            KeyKind::Tag => Some(&self.tags),
            _ => None,
        }
    }

    fn values(&self, kind: KeyKind) -> Option<&NameMap<Value>> {
        match kind {
            KeyKind::Request => Some(&self.requests),
            KeyKind::SavedPosition => Some(&self.saved_positions),
            KeyKind::State => Some(&self.states),
            _ => None,
        }
    }

    fn slice(&self, list: usize) -> &[u32] {
        self.lists.get(list).map_or(&[], List::as_slice)
    }

    /// The relative positions of a list, and its first stream version.
    fn list(&self, kind: KeyKind, key: &[u8]) -> Option<(&[u32], u64)> {
        let key = Name::new(key);
        if kind == KeyKind::Stream {
            let stream = name::get(&self.streams, key)?;
            return Some((self.slice(stream.list), stream.first_version));
        }
        let list = *name::get(self.table(kind)?, key)?;
        Some((self.slice(list), 0))
    }

    fn head_of(&self, list: &[u32], first_version: u64) -> Option<ListHead> {
        let (first, last) = (list.first()?, list.last()?);
        Some(ListHead {
            count: list.len() as u64,
            first: self.first + u64::from(*first),
            last: self.first + u64::from(*last),
            first_version,
        })
    }
}

/// Adds a position to the list of a key. Gives the list, and how many bytes more are held behind
/// pointers.
fn add_to(
    table: &mut NameMap<usize>,
    lists: &mut Vec<List>,
    key: Name<'_>,
    relative: u32,
) -> (usize, usize) {
    if let Some(&index) = name::get(table, key) {
        let more = lists.get_mut(index).map_or(0, |list| list.push(relative));
        return (index, more);
    }
    let index = lists.len();
    lists.push(List::One([relative]));
    table.insert(key.into(), index);
    (index, allocation_len(key.bytes.len()))
}

/// What an allocation of `len` bytes costs with a usual allocator.
fn allocation_len(len: usize) -> usize {
    match len {
        0 => 0,
        _ => (len + 8).next_multiple_of(16).max(32),
    }
}

fn value_len(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => allocation_len(bytes.capacity()),
        Value::Deleted => 0,
    }
}

/// A table of the standard library: buckets of an entry and a byte each, up to 7/8 full.
fn table_len<K, V, S>(table: &HashMap<K, V, S>) -> usize {
    table.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)
}

/// Up to `max` least keys of a table that start with `prefix` and are greater than `after`.
fn least_keys<'t, K: AsRef<[u8]>, V, S>(
    table: &'t HashMap<K, V, S>,
    after: Option<&[u8]>,
    prefix: &[u8],
    max: usize,
) -> Vec<&'t [u8]> {
    let mut least = BinaryHeap::new();
    for key in table.keys().map(AsRef::as_ref) {
        if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
            least.push(key);
            if least.len() > max {
                least.pop();
            }
        }
    }
    least.into_sorted_vec()
}

impl Layer for MemoryIndex {
    fn range(&self) -> RangeInclusive<u64> {
        self.first..=(self.first + self.event_count()).saturating_sub(1)
    }

    fn head(&self, kind: KeyKind, key: &[u8]) -> Result<Option<ListHead>> {
        let list = self.list(kind, key);
        Ok(list.and_then(|(list, first_version)| self.head_of(list, first_version)))
    }

    fn positions(
        &self,
        kind: KeyKind,
        key: &[u8],
        from: u64,
        backward: bool,
        max: usize,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        let Some((list, _)) = self.list(kind, key) else {
            return Ok(());
        };
        let absolute = |&relative: &u32| self.first + u64::from(relative);
        if backward {
            let end = list.partition_point(|relative| absolute(relative) <= from);
            let wanted = list.iter().take(end).rev().take(max);
            out.extend(wanted.map(absolute));
        } else {
            let start = list.partition_point(|relative| absolute(relative) < from);
            let wanted = list.iter().skip(start).take(max);
            out.extend(wanted.map(absolute));
        }
        Ok(())
    }

    fn position_of_version(&self, stream: &[u8], version: u64) -> Result<Option<u64>> {
        let found = self.list(KeyKind::Stream, stream);
        Ok(found.and_then(|(list, first_version)| {
            let index = usize::try_from(version.checked_sub(first_version)?).ok()?;
            Some(self.first + u64::from(*list.get(index)?))
        }))
    }

    fn place(&self, position: u64) -> Result<Option<Place>> {
        let index = position.checked_sub(self.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        Ok(index.and_then(|index| self.places.get(index).copied()))
    }

    fn places(&self, positions: &[u64], out: &mut Vec<Place>) -> Result<()> {
        for &position in positions {
            match self.place(position)? {
                Some(place) => out.push(place),
                None => return Err(not_here(position, &self.range())),
            }
        }
        Ok(())
    }

    fn value(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Value>> {
        if kind == KeyKind::Id {
            let id = <&[u8; 16]>::try_from(key).ok();
            let relative = id.and_then(|id| self.ids.get(id));
            return Ok(relative.map(|&relative| {
                let position = self.first + u64::from(relative);
                Value::Bytes(position.to_le_bytes().to_vec())
            }));
        }
        let values = self.values(kind);
        Ok(values.and_then(|values| name::get(values, Name::new(key)).cloned()))
    }

    fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
        out: &mut Vec<(Vec<u8>, ListHead)>,
    ) -> Result<()> {
        // Every key is looked at: tables have no order, and this question is rare.
        let keys = match kind {
            KeyKind::Stream => least_keys(&self.streams, after, prefix, max),
            KeyKind::Id => least_keys(&self.ids, after, prefix, max),
            _ => match (self.table(kind), self.values(kind)) {
                (Some(table), _) => least_keys(table, after, prefix, max),
                (_, Some(values)) => least_keys(values, after, prefix, max),
                _ => Vec::new(),
            },
        };
        for key in keys {
            let head = self.head(kind, key)?.unwrap_or_default();
            out.push((key.to_vec(), head));
        }
        Ok(())
    }
}

/// A place was asked for that another layer has.
pub(super) fn not_here(position: u64, range: &RangeInclusive<u64>) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "the place of event {position} was asked of the index of {} to {}",
            range.start(),
            range.end()
        ),
    )
}
