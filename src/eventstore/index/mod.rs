//! The event store's index: from stream, category, type and tag to positions, from position to
//! the place of the record in the log, and from keys to small values. The log is the truth; all of
//! this follows from it and changes speed, never answers. Deleting it is always allowed.
//!
//! It is a sequence of *layers*, each answering for its own range of positions, adjacent and
//! without overlap:
//!
//! ```text
//! positions  1 ........ 900000   900001 .. 960000   960001 .. 992768   992769 ..
//! layer      run                 run                run                MemoryIndex
//!            <----- merge_runs ----->               <- write_run
//! ```
//!
//! The newest events are in the [`MemoryIndex`]. When it is large enough it is written as a *run*,
//! an immutable file, and adjacent runs are merged into larger ones. Which layers there are, and
//! when what is written or merged, is decided by the catalog above; nothing here knows of more
//! than one layer, and nothing here starts a thread.
//!
//! There are two sorts of keys ([`KeyKind`]). A *list* leads to ascending positions, and layers
//! concatenate. A *value* is bytes, and the newest layer that knows the key wins, also with the
//! answer that the value was deleted. The caller asks the newest layer first.
//!
//! What must hold, in every layer:
//!
//! * each position of the range has exactly one [`Place`]; the range may be empty, where records of
//!   the log without events gave values only;
//! * the positions of a list ascend and lie in the range;
//! * the events of a stream have consecutive stream versions, also across layers.
//!
//! | file | holds |
//! |---|---|
//! | `memory` | the newest events: hash tables, no disk |
//! | `block` | blocks of 4096 bytes with their checksum, and the cache of them |
//! | `header` | block 0 of a run, and where everything lies |
//! | `postings` | lists of positions as bytes |
//! | `tree` | nodes of the tree of keys, and what a key leads to, as bytes |
//! | `run_writer` | a run, written in one pass from sorted input |
//! | `run_reader` | a run, asked or walked through |
//! | `run_reader/inspection` | a run, compared with the log |
//! | `merge` | adjacent runs become one |

mod block;
mod header;
mod memory;
mod merge;
mod postings;
mod run_reader;
mod run_writer;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use block::BlockCache;
pub(crate) use header::Anchor;
pub(crate) use memory::MemoryIndex;
pub(crate) use merge::merge_runs;
pub(crate) use run_reader::{Inspection, InspectionBounds, Run};
pub(crate) use run_writer::{run_file_numbers, write_run};

use crate::error::Result;
use std::ops::RangeInclusive;

/// The longest key, in bytes. The shortest is empty: the category of a stream named `-x`.
pub(crate) const KEY_LEN_MAX: usize = 1024;

/// What a key is a key of. The numbers stand in runs, and sort the keys of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum KeyKind {
    /// List: stream name → its events.
    Stream = 1,
    /// List: category → the events of its streams.
    Category = 2,
    /// List: event type → its events.
    Type = 3,
    /// List: tag → the events that have it.
    Tag = 4,
    /// Value: event id → its position, 8 bytes little-endian.
    Id = 5,
    /// Value: idempotency key → what the caller noted.
    Request = 6,
    /// Value: name of a saved position → what the caller noted.
    SavedPosition = 7,
    /// Value: key → state of a projection.
    State = 8,
}

impl KeyKind {
    /// All, in the order of a run.
    pub(crate) const ALL: [KeyKind; 8] = [
        KeyKind::Stream,
        KeyKind::Category,
        KeyKind::Type,
        KeyKind::Tag,
        KeyKind::Id,
        KeyKind::Request,
        KeyKind::SavedPosition,
        KeyKind::State,
    ];

    /// Whether keys of this kind lead to lists; otherwise to values.
    pub(crate) fn is_list(self) -> bool {
        self <= KeyKind::Tag
    }
}

/// Where the record of an event stands, with what is needed to verify and date it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// LSN of the record's first byte.
    pub(crate) lsn: u64,
    /// CRC-32 of the record, its header included.
    pub(crate) crc: u32,
    /// Wall clock of its frame.
    pub(crate) time_ns: u64,
}

/// What a layer knows about one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct ListHead {
    /// How many positions it has here.
    pub(crate) count: u64,
    /// The least of them.
    pub(crate) first: u64,
    /// The greatest of them.
    pub(crate) last: u64,
    /// Of streams: the stream version of the event at `first`. Of other lists 0.
    pub(crate) first_version: u64,
}

/// A value, or the mark that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The bytes put last.
    Bytes(Vec<u8>),
    /// Deleted: what older layers say does not count.
    Deleted,
}

/// What answers for a range of positions: the memory index or a run.
///
/// A key that the layer does not have, or that is longer than [`KEY_LEN_MAX`], is no error, and
/// neither is asking for a list what only values have.
pub(crate) trait Layer: Send + Sync {
    /// The positions covered; of a layer without events an empty range, `first..=first - 1`.
    fn range(&self) -> RangeInclusive<u64>;

    /// What is known about a list; `None` if none of its positions is here.
    fn head(&self, kind: KeyKind, key: &[u8]) -> Result<Option<ListHead>>;

    /// Appends up to `max` positions of the list: those from `from` on, ascending; or `backward`,
    /// those up to `from`, descending.
    fn positions(
        &self,
        kind: KeyKind,
        key: &[u8],
        from: u64,
        backward: bool,
        max: usize,
        out: &mut Vec<u64>,
    ) -> Result<()>;

    /// The position of the event with this stream version, if it is here.
    fn position_of_version(&self, stream: &[u8], version: u64) -> Result<Option<u64>>;

    /// The place of the event at a position, if it is here: for who does not go there, and so would
    /// not notice a wrong one.
    fn place(&self, position: u64) -> Result<Option<Place>>;

    /// Appends the places of several positions, in the same order. Each must be in the range. Who
    /// goes there compares what is there with the place.
    fn places(&self, positions: &[u64], out: &mut Vec<Place>) -> Result<()>;

    /// A value, or that it was deleted; `None` if this layer knows nothing of it.
    fn value(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Value>>;

    /// Appends up to `max` keys of a kind that start with `prefix` and are greater than `after`
    /// (`None`: from the first), in byte order, with what is known about the list. Of values the
    /// head is all zero, and keys of deleted ones are among them.
    fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
        out: &mut Vec<(Vec<u8>, ListHead)>,
    ) -> Result<()>;
}
