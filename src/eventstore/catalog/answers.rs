//! What the layers answer together, as they are at one moment: of what only one of them can know, the newest
//! that does; of lists, all of them, one behind the other.

use super::super::index::{KeyKind, Layer, ListHead, Place, Value};
use super::Stored;
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layers at one moment.
#[derive(Clone)]
pub(in super::super) struct Snapshot {
    pub(super) layers: Arc<[Stored]>,
}

impl Snapshot {
    /// The answer of the newest layer that has one.
    pub(in super::super) fn newest<T>(
        &self,
        question: impl Fn(&dyn Layer) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        for stored in self.layers.iter().rev() {
            if let Some(answer) = stored.ask(&question)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    pub(in super::super) fn stream_version(&self, stream: &[u8]) -> Result<u64> {
        let head = self.newest(|layer| layer.head(KeyKind::Stream, stream))?;
        Ok(head.map_or(0, |head| head.first_version + head.count - 1))
    }

    pub(in super::super) fn value(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(match self.newest(|layer| layer.value(kind, key))? {
            Some(Value::Bytes(bytes)) => Some(bytes),
            Some(Value::Deleted) | None => None,
        })
    }

    pub(in super::super) fn position_of_version(
        &self,
        stream: &[u8],
        version: u64,
    ) -> Result<Option<u64>> {
        self.newest(|layer| layer.position_of_version(stream, version))
    }

    /// What is known of a list, over all layers.
    pub(in super::super) fn head(&self, kind: KeyKind, key: &[u8]) -> Result<Option<ListHead>> {
        let mut whole: Option<ListHead> = None;
        for stored in self.layers.iter() {
            if let Some(head) = stored.ask(|layer| layer.head(kind, key))? {
                whole = Some(join(whole, head));
            }
        }
        Ok(whole)
    }

    /// See [`Layer::positions`].
    pub(in super::super) fn positions(
        &self,
        kind: KeyKind,
        key: &[u8],
        from: u64,
        backward: bool,
        count_max: usize,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        let end = out.len() + count_max;
        let mut ask = |stored: &Stored| {
            let (first, last) = stored.range();
            let beyond = if backward { first > from } else { last < from };
            if out.len() < end && !beyond {
                let wanted = end - out.len();
                stored.ask(|layer| layer.positions(kind, key, from, backward, wanted, out))?;
            }
            Ok(())
        };
        if backward {
            self.layers.iter().rev().try_for_each(&mut ask)
        } else {
            self.layers.iter().try_for_each(&mut ask)
        }
    }

    /// Where the events at these positions stand; all of them exist.
    pub(in super::super) fn places(&self, positions: &[u64], out: &mut Vec<Place>) -> Result<()> {
        let mut rest = positions;
        while let Some(&position) = rest.first() {
            let Some((stored, first, last)) = self.layer_of(position) else {
                let message = format!("the index knows nothing of position {position}");
                return Err(Error::new(ErrorKind::Internal, message));
            };
            let here = rest
                .iter()
                .take_while(|p| (first..=last).contains(*p))
                .count();
            let (now, later) = rest.split_at(here.max(1));
            stored.ask(|layer| layer.places(now, out))?;
            rest = later;
        }
        Ok(())
    }

    /// Where the event at a position stands, for who does not go there; `None` if there is none.
    pub(in super::super) fn place(&self, position: u64) -> Result<Option<Place>> {
        match self.layer_of(position) {
            Some((stored, _, _)) => stored.ask(|layer| layer.place(position)),
            None => Ok(None),
        }
    }

    fn layer_of(&self, position: u64) -> Option<(&Stored, u64, u64)> {
        let behind = self
            .layers
            .partition_point(|stored| stored.range().0 <= position);
        let stored = self.layers.get(behind.checked_sub(1)?)?;
        let (first, last) = stored.range();
        (first..=last)
            .contains(&position)
            .then_some((stored, first, last))
    }

    /// Keys in ascending order, behind `after`, that begin with `prefix`.
    pub(in super::super) fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        count_max: usize,
    ) -> Result<Vec<(Vec<u8>, ListHead)>> {
        let mut found: BTreeMap<Vec<u8>, ListHead> = BTreeMap::new();
        let mut keys = Vec::new();
        // A layer that gave its last key of a page may have more: what lies behind the smallest
        // such key is left for the next page.
        let mut horizon: Option<Vec<u8>> = None;
        for stored in self.layers.iter() {
            keys.clear();
            stored.ask(|layer| layer.keys(kind, after, prefix, count_max, &mut keys))?;
            if keys.len() >= count_max {
                if let Some((last, _)) = keys.last() {
                    if horizon.as_ref().is_none_or(|horizon| last < horizon) {
                        horizon = Some(last.clone());
                    }
                }
            }
            for (key, head) in keys.drain(..) {
                let whole = found.remove(&key);
                found.insert(key, join(whole, head));
            }
        }
        let behind = |key: &Vec<u8>| horizon.as_ref().is_some_and(|horizon| key > horizon);
        let page = found.into_iter().take_while(|(key, _)| !behind(key));
        Ok(page.take(count_max).collect())
    }
}

/// One list in two layers that follow each other.
fn join(older: Option<ListHead>, newer: ListHead) -> ListHead {
    match older {
        None => newer,
        Some(older) => ListHead {
            count: older.count + newer.count,
            first: older.first,
            last: newer.last,
            first_version: older.first_version,
        },
    }
}
