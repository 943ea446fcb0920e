//! Positions of the events that match something, in order, from any place on: lists of the index
//! are joined without looking at an event.
//!
//! An item of a query asks for all of its tags and one of its types. Its matches are found by
//! leaping: each list is asked for its first position at or behind the greatest that any other has
//! shown, until all agree. The work is bounded by the shortest list, not by the longest.

use super::catalog::Snapshot;
use super::index::KeyKind;
use super::request::{Query, QueryItem};
use crate::error::Result;

/// Positions fetched from a list at first, and at most: the first question is often the last.
const CHUNK_MIN: usize = 8;
const CHUNK_MAX: usize = 1024;

/// Which way, and up to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) backward: bool,
    /// Positions above it are not published yet.
    pub(super) last: u64,
}

impl Way {
    /// Whether `a` comes before `b`.
    fn before(self, a: u64, b: u64) -> bool {
        if self.backward {
            a > b
        } else {
            a < b
        }
    }

    /// The position behind `position`; `None` at the end of all positions.
    pub(super) fn behind(self, position: u64) -> Option<u64> {
        if self.backward {
            position.checked_sub(1).filter(|&next| next > 0)
        } else {
            position.checked_add(1).filter(|&next| next <= self.last)
        }
    }
}

/// One list of the index.
struct List<'s> {
    snapshot: &'s Snapshot,
    kind: KeyKind,
    key: Vec<u8>,
    way: Way,
    chunk: Vec<u64>,
    at: usize,
    chunk_len: usize,
    /// The chunk holds the end of the list.
    ended: bool,
}

impl<'s> List<'s> {
    fn new(snapshot: &'s Snapshot, kind: KeyKind, key: &str, way: Way) -> List<'s> {
        List {
            snapshot,
            kind,
            key: key.as_bytes().to_vec(),
            way,
            chunk: Vec::new(),
            at: 0,
            chunk_len: CHUNK_MIN,
            ended: false,
        }
    }

    /// The first position at or behind `target`. Targets only move on.
    fn seek(&mut self, target: u64) -> Result<Option<u64>> {
        loop {
            while let Some(&position) = self.chunk.get(self.at) {
                if !self.way.before(position, target) {
                    return Ok((position <= self.way.last).then_some(position));
                }
                self.at += 1;
            }
            if self.ended {
                return Ok(None);
            }
            self.chunk.clear();
            self.at = 0;
            self.snapshot.positions(
                self.kind,
                &self.key,
                target,
                self.way.backward,
                self.chunk_len,
                &mut self.chunk,
            )?;
            self.ended = self.chunk.len() < self.chunk_len;
            self.chunk_len = (self.chunk_len * 4).min(CHUNK_MAX);
        }
    }
}

struct Item<'s> {
    tags: Vec<List<'s>>,
    types: Vec<List<'s>>,
    way: Way,
}

impl<'s> Item<'s> {
    fn new(snapshot: &'s Snapshot, item: &QueryItem, way: Way) -> Item<'s> {
        let lists = |names: &[String], kind| {
            let lists = names.iter();
            lists
                .map(|name| List::new(snapshot, kind, name, way))
                .collect()
        };
        Item {
            tags: lists(&item.tags, KeyKind::Tag),
            types: lists(&item.types, KeyKind::Type),
            way,
        }
    }

    fn seek(&mut self, from: u64) -> Result<Option<u64>> {
        let mut target = from;
        'leap: loop {
            for list in &mut self.tags {
                match list.seek(target)? {
                    None => return Ok(None),
                    Some(position) if position != target => {
                        target = position;
                        continue 'leap;
                    }
                    Some(_) => {}
                }
            }
            if self.types.is_empty() {
                return Ok(Some(target));
            }
            let mut nearest = None;
            for list in &mut self.types {
                if let Some(position) = list.seek(target)? {
                    if nearest.is_none_or(|best| self.way.before(position, best)) {
                        nearest = Some(position);
                    }
                }
            }
            match nearest {
                None => return Ok(None),
                Some(position) if position == target => return Ok(Some(target)),
                Some(position) => target = position,
            }
        }
    }
}

/// The events that match a query.
pub(super) struct Matches<'s> {
    items: Vec<Item<'s>>,
    way: Way,
}

impl<'s> Matches<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, query: &Query, way: Way) -> Matches<'s> {
        let items = query.items.iter();
        Matches {
            items: items.map(|item| Item::new(snapshot, item, way)).collect(),
            way,
        }
    }

    /// The first match at or behind `from`, which only moves on.
    pub(super) fn seek(&mut self, from: u64) -> Result<Option<u64>> {
        if self.items.is_empty() {
            let exists = from > 0 && from <= self.way.last;
            return Ok(exists.then_some(from));
        }
        let mut nearest = None;
        for item in &mut self.items {
            if let Some(position) = item.seek(from)? {
                if nearest.is_none_or(|best| self.way.before(position, best)) {
                    nearest = Some(position);
                }
            }
        }
        Ok(nearest)
    }
}
