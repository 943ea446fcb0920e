//! What to read: which events, from where, in which direction.

use super::catalog::Snapshot;
use super::index::KeyKind;
use super::lists::{Matches, Way};
use super::request::{check_len, Query};
use crate::error::Result;
use crate::format::event::STREAM_LEN_MAX;

/// Which events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those of one stream.
    Stream(String),
    /// Those of all streams whose name begins with this, up to the first `-`.
    Category(String),
    /// Those that match.
    Query(Query),
}

/// In which direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// A reading of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which events.
    pub selection: Selection,
    /// In which direction.
    pub direction: Direction,
    /// The first to read: of a stream, the stream version; else the position. 0: from the beginning,
    /// or backward from the end.
    pub from: u64,
    /// The last to read, likewise; 0: to the end, or backward to the beginning.
    pub to: u64,
    /// At most so many events; 0: no limit.
    pub limit: u64,
}

impl Default for Read {
    fn default() -> Read {
        Read {
            selection: Selection::All,
            direction: Direction::Forward,
            from: 0,
            to: 0,
            limit: 0,
        }
    }
}

impl Read {
    pub(super) fn check(&self) -> Result<()> {
        match &self.selection {
            Selection::All => Ok(()),
            Selection::Stream(name) => check_len("stream", name.len(), 1, STREAM_LEN_MAX),
            Selection::Category(name) => check_len("category", name.len(), 0, STREAM_LEN_MAX),
            Selection::Query(query) => query.check(),
        }
    }

    /// The positions between which to look, `from` to `to` in the direction of reading, both
    /// included; `None` if there is nothing.
    pub(super) fn bounds(&self, snapshot: &Snapshot, last: u64) -> Result<Option<(u64, u64)>> {
        let backward = self.direction == Direction::Backward;
        let (begin, end) = match &self.selection {
            // All of it: which version it is at need not be looked up.
            Selection::Stream(_) if self.from == 0 && self.to == 0 => (1, last),
            Selection::Stream(name) => {
                let stream = name.as_bytes();
                let version = snapshot.stream_version(stream)?;
                // Versions between which to look, lowest first.
                let (low, high) = if backward {
                    (self.to.max(1), nonzero_or(self.from, version).min(version))
                } else {
                    (self.from.max(1), nonzero_or(self.to, version).min(version))
                };
                if low > high {
                    return Ok(None);
                }
                let find = |version| snapshot.position_of_version(stream, version);
                let first = if low == 1 { Some(1) } else { find(low)? };
                let last_of = if high == version {
                    Some(last)
                } else {
                    find(high)?
                };
                match (first, last_of) {
                    (Some(first), Some(last_of)) => (first, last_of.min(last)),
                    _ => return Ok(None),
                }
            }
            _ if backward => (self.to.max(1), nonzero_or(self.from, last).min(last)),
            _ => (self.from.max(1), nonzero_or(self.to, last).min(last)),
        };
        if begin > end || end == 0 {
            return Ok(None);
        }
        Ok(Some(if backward { (end, begin) } else { (begin, end) }))
    }

    /// Up to `count_max` positions from `from` to `to`, appended to `out`; both as
    /// [`bounds`](Self::bounds) gives them.
    pub(super) fn positions(
        &self,
        snapshot: &Snapshot,
        from: u64,
        to: u64,
        count_max: usize,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        let backward = self.direction == Direction::Backward;
        let way = Way {
            backward,
            last: if backward { from } else { to },
        };
        let beyond = |position: u64| {
            if backward {
                position < to
            } else {
                position > to
            }
        };
        match &self.selection {
            Selection::All => {
                let mut next = Some(from);
                while let Some(position) = next.filter(|&p| !beyond(p) && out.len() < count_max) {
                    out.push(position);
                    next = way.behind(position);
                }
            }
            Selection::Stream(name) => {
                let kind = KeyKind::Stream;
                snapshot.positions(kind, name.as_bytes(), from, backward, count_max, out)?;
            }
            Selection::Category(name) => {
                let kind = KeyKind::Category;
                snapshot.positions(kind, name.as_bytes(), from, backward, count_max, out)?;
            }
            Selection::Query(query) => {
                let mut matches = Matches::new(snapshot, query, way);
                let mut next = Some(from);
                while let Some(target) = next.filter(|_| out.len() < count_max) {
                    match matches.seek(target)? {
                        Some(position) if !beyond(position) => {
                            out.push(position);
                            next = way.behind(position);
                        }
                        _ => break,
                    }
                }
            }
        }
        let end = out.iter().position(|&p| beyond(p)).unwrap_or(out.len());
        out.truncate(end);
        Ok(())
    }
}

fn nonzero_or(value: u64, otherwise: u64) -> u64 {
    if value == 0 {
        otherwise
    } else {
        value
    }
}
