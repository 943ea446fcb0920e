//! Writing a run, in one pass and with bounded memory: places first, then keys in ascending order
//! with what they lead to. The input is the memory index (here) or other runs (`merge`).
//!
//! A run appears under its name only when it is complete: it is written under a temporary name,
//! synced and renamed. The directory is not synced. The index is derived, and a run whose name is
//! lost in a power cut is written again.

use super::block::{sort, Block, BLOCK_LEN};
use super::header::{
    place_check, tree_start, Anchor, Header, PlaceBounds, PlaceLayout, LEVEL_MAX, PLACES_START,
    TABLE_START,
};
use super::postings::ListEncoder;
use super::tree::{
    separator, value_block_count, Body, FullKey, NodeBuilder, Postings, VALUE_INLINE_MAX,
    VALUE_PER_BLOCK, VALUE_START,
};
use super::{KeyKind, Layer, ListHead, MemoryIndex, Place, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{get_u64, put};
use crate::vfs::{write_all_at, File, OpenMode, Vfs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// End of the name of a run.
const SUFFIX: &str = ".run";
/// End of the name of a run that is being written. What has it and belongs to no live writer is
/// rubbish of a crash.
const TEMPORARY_SUFFIX: &str = ".run.tmp";
const DIGITS: usize = 20;

/// Bytes of blocks that are collected for one write.
const BUFFER_LEN: usize = 64 * BLOCK_LEN;

/// The file name of the run that covers these sequence numbers of the log.
fn run_file_name(numbers: &RangeInclusive<u64>) -> String {
    let (first, last) = (numbers.start(), numbers.end());
    format!("{first:0DIGITS$}-{last:0DIGITS$}{SUFFIX}")
}

/// The sequence numbers that the name of a run says; `None` for every other name.
pub(crate) fn run_file_numbers(name: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let numbers = first..=last;
    (first > 0 && first <= last && name == run_file_name(&numbers)).then_some(numbers)
}

/// Writes the memory index, which covers the records of the log with these `numbers`, as a run in
/// `dir`. Its path is given when it is there for good.
pub(crate) fn write_run(
    vfs: &dyn Vfs,
    dir: &Path,
    numbers: RangeInclusive<u64>,
    log_id: &[u8; 16],
    anchor: &Anchor,
    level: u32,
    source: &MemoryIndex,
) -> Result<PathBuf> {
    let places = source.all_places().iter().map(PlaceBounds::of);
    let bounds = places.reduce(PlaceBounds::around);
    if source.record_count() == 0 {
        return Err(Error::invalid("there is nothing to write a run of"));
    }
    let plan = Plan {
        numbers,
        log_id: *log_id,
        anchor: *anchor,
        level,
        range: source.range(),
        bounds: bounds.unwrap_or_default(),
    };
    publish_run(vfs, dir, &plan, |writer| {
        for place in source.all_places() {
            writer.push_place(*place)?;
        }
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.is_list()) {
            for (key, first_version, positions) in source.sorted_lists(kind) {
                for position in positions {
                    writer.push_position(position)?;
                }
                writer.finish_list(&full_key(kind, key)?, first_version)?;
            }
        }
        for (id, position) in source.sorted_ids() {
            writer.push_value(&full_key(KeyKind::Id, id)?, &position.to_le_bytes())?;
        }
        for kind in [KeyKind::Request, KeyKind::SavedPosition, KeyKind::State] {
            for (key, value) in source.sorted_values(kind) {
                let key = full_key(kind, key)?;
                match value {
                    Value::Bytes(bytes) => writer.push_value(&key, bytes)?,
                    // Nothing is older than the first run, so nothing is hidden there.
                    Value::Deleted if plan.hides_nothing() => {}
                    Value::Deleted => writer.push_deleted(key.as_slice())?,
                }
            }
        }
        Ok(())
    })
}

fn full_key(kind: KeyKind, key: &[u8]) -> Result<FullKey> {
    FullKey::new(kind, key).ok_or_else(|| internal("a key is too long"))
}

fn internal(text: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("writing a run of the index: {text}"),
    )
}

/// What a run is going to be.
pub(super) struct Plan {
    /// Sequence numbers that it covers, for its name.
    pub(super) numbers: RangeInclusive<u64>,
    pub(super) log_id: [u8; 16],
    pub(super) anchor: Anchor,
    pub(super) level: u32,
    pub(super) range: RangeInclusive<u64>,
    pub(super) bounds: PlaceBounds,
}

impl Plan {
    /// Whether there can be no older run. A run without events says so only by hiding something:
    /// it must not end up without a key.
    pub(super) fn hides_nothing(&self) -> bool {
        *self.numbers.start() == 1 && !self.range.is_empty()
    }
}

/// Writes a run: `fill` gives all places, then all keys. After an error nothing is left of it.
pub(super) fn publish_run(
    vfs: &dyn Vfs,
    dir: &Path,
    plan: &Plan,
    fill: impl FnOnce(&mut RunWriter) -> Result<()>,
) -> Result<PathBuf> {
    let (first, last) = (*plan.range.start(), *plan.range.end());
    let Some(tree_start) = tree_start(first, last, plan.bounds.layout()) else {
        return Err(Error::invalid(format!(
            "no run can have positions {first} to {last}"
        )));
    };
    let mut salt = [0; 8];
    vfs.random(&mut salt)
        .map_err(|error| Error::io("random bytes for", dir, error))?;
    let salt = get_u64(&salt, 0);
    let header = Header {
        level: plan.level,
        log_id: plan.log_id,
        salt,
        first,
        last,
        bounds: plan.bounds,
        key_count: 0,
        block_count: 0,
        tree_start,
        root: 0,
        root_level: 0,
        anchor: plan.anchor,
    };
    let path = dir.join(run_file_name(&plan.numbers));
    // The salt keeps writers of the same run apart.
    let temporary = dir.join(format!("{salt:016x}{TEMPORARY_SUFFIX}"));
    let file = vfs
        .open(&temporary, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", &temporary, error))?;
    let mut writer = RunWriter::new(file, temporary, header);
    let written = fill(&mut writer).and_then(|()| writer.finish());
    let published = written.and_then(|()| {
        vfs.rename(&writer.path, &path)
            .map_err(|error| Error::io("rename", &writer.path, error))
    });
    match published {
        Ok(()) => Ok(path),
        Err(error) => {
            // The first error is the one to report; a leftover does no harm.
            let _ = vfs.unlink(&writer.path);
            Err(error)
        }
    }
}

/// A run that is being written.
pub(super) struct RunWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    header: Header,
    /// Finished blocks that are not written yet.
    buffer: Vec<u8>,
    /// Offset in the file at which the buffer begins.
    buffer_start: u64,
    /// Number of the next block.
    next_block: u32,
    /// The block of the position table that is being filled.
    places: Block,
    place_count: u64,
    layout: PlaceLayout,
    /// The list that is being pushed, and its blocks so far.
    list: ListEncoder,
    list_blocks: u32,
    body: Vec<u8>,
    /// The node that is being filled on each level, leaves first.
    levels: Vec<NodeBuilder>,
}

impl RunWriter {
    fn new(file: Arc<dyn File>, path: PathBuf, header: Header) -> RunWriter {
        RunWriter {
            file,
            path,
            buffer: Vec::with_capacity(BUFFER_LEN),
            buffer_start: BLOCK_LEN as u64,
            next_block: TABLE_START,
            places: Block::zeroed(),
            place_count: 0,
            layout: header.bounds.layout(),
            list: ListEncoder::default(),
            list_blocks: 0,
            body: Vec::new(),
            levels: vec![NodeBuilder::default()],
            header,
        }
    }

    /// Adds the place of the next position.
    pub(super) fn push_place(&mut self, place: Place) -> Result<()> {
        let (bounds, layout) = (self.header.bounds, self.layout);
        let relative = |value: u64, least: u64, len: usize| {
            let distance = value.checked_sub(least);
            distance.filter(|distance| len >= 8 || distance >> (8 * len) == 0)
        };
        let lsn = relative(place.lsn, bounds.first_lsn, layout.lsn_len);
        let time = relative(place.time_ns, bounds.least_time, layout.time_len);
        let (Some(lsn), Some(time)) = (lsn, time) else {
            return Err(internal("a place lies outside of what was announced"));
        };
        let index = self.place_count % layout.places_per_block();
        let at = PLACES_START + usize::try_from(index).unwrap_or(0) * layout.place_len();
        let bytes = self.places.payload_mut();
        let low = |bytes: &mut [u8], at: usize, value: u64, len: usize| {
            put(
                bytes,
                at,
                value.to_le_bytes().get(..len).unwrap_or_default(),
            );
        };
        low(bytes, at, lsn, layout.lsn_len);
        let check = place.crc ^ place_check(place.lsn, place.time_ns);
        put(bytes, at + layout.lsn_len, &check.to_le_bytes());
        low(bytes, at + layout.lsn_len + 4, time, layout.time_len);
        self.place_count += 1;
        if index + 1 == layout.places_per_block() {
            self.finish_places()?;
        }
        Ok(())
    }

    fn finish_places(&mut self) -> Result<()> {
        put(self.places.payload_mut(), 0, &[sort::PLACES]);
        let mut block = std::mem::replace(&mut self.places, Block::zeroed());
        self.write_block(&mut block)?;
        Ok(())
    }

    /// Adds a position to the list that is being pushed.
    pub(super) fn push_position(&mut self, position: u64) -> Result<()> {
        let ascends = self.list.count == 0 || position > self.list.last;
        if !ascends || position < self.header.first || position > self.header.last {
            return Err(internal("a list does not ascend, or leaves the run"));
        }
        match self.list.push(position) {
            Some(block) => self.write_list_block(block),
            None => Ok(()),
        }
    }

    fn write_list_block(&mut self, mut block: Block) -> Result<()> {
        self.begin_tree()?;
        self.write_block(&mut block)?;
        self.list_blocks += 1;
        Ok(())
    }

    /// How many positions the list has that is being pushed.
    pub(super) fn list_count(&self) -> u64 {
        self.list.count
    }

    /// Adds a key that leads to the positions pushed.
    pub(super) fn finish_list(&mut self, key: &FullKey, first_version: u64) -> Result<()> {
        let mut list = std::mem::take(&mut self.list);
        let head = ListHead {
            count: list.count,
            first: list.first,
            last: list.last,
            first_version,
        };
        if head.count == 0 {
            return Err(internal("a list is empty"));
        }
        let inserted = match list.inline() {
            Some(deltas) => self.insert(key.as_slice(), Body::List(head, Postings::Inline(deltas))),
            None => {
                self.write_list_block(list.take_block())?;
                let count = self.list_blocks;
                let start = self.next_block - count;
                let postings = Postings::Blocks { start, count };
                self.insert(key.as_slice(), Body::List(head, postings))
            }
        };
        list.clear();
        self.list = list;
        self.list_blocks = 0;
        inserted
    }

    /// Adds a key that leads to a value.
    pub(super) fn push_value(&mut self, key: &FullKey, value: &[u8]) -> Result<()> {
        if value.len() <= VALUE_INLINE_MAX {
            return self.insert(key.as_slice(), Body::Value(value));
        }
        let mut parts = value.chunks(VALUE_PER_BLOCK);
        self.push_long_value(key, value.len(), || Ok(parts.next().unwrap_or_default()))
    }

    /// Adds a key that leads to a long value, which comes in parts of one block each.
    pub(super) fn push_long_value<P: AsRef<[u8]>>(
        &mut self,
        key: &FullKey,
        len: usize,
        mut next_part: impl FnMut() -> Result<P>,
    ) -> Result<()> {
        self.begin_tree()?;
        let start = self.next_block;
        let count = value_block_count(len).ok_or_else(|| internal("a value is too long"))?;
        for _ in 0..count {
            let mut block = Block::zeroed();
            put(block.payload_mut(), 0, &[sort::VALUE]);
            put(block.payload_mut(), VALUE_START, next_part()?.as_ref());
            self.write_block(&mut block)?;
        }
        self.insert(key.as_slice(), Body::LongValue { len, start, count })
    }

    /// Adds the full key of a value that was deleted.
    pub(super) fn push_deleted(&mut self, key: &[u8]) -> Result<()> {
        self.insert(key, Body::Deleted)
    }

    /// Ends the position table, once.
    fn begin_tree(&mut self) -> Result<()> {
        if self.next_block >= self.header.tree_start {
            return Ok(());
        }
        let is_last_partial = self.place_count % self.layout.places_per_block() != 0;
        if is_last_partial {
            self.finish_places()?;
        }
        let event_count = self.header.last + 1 - self.header.first;
        if self.place_count != event_count || self.next_block != self.header.tree_start {
            return Err(internal("places are missing"));
        }
        Ok(())
    }

    fn insert(&mut self, key: &[u8], body: Body<'_>) -> Result<()> {
        self.begin_tree()?;
        let mut bytes = std::mem::take(&mut self.body);
        bytes.clear();
        body.encode(self.header.first, &mut bytes);
        let inserted = self.insert_at(0, key, &bytes);
        self.body = bytes;
        self.header.key_count += 1;
        inserted
    }

    /// Adds a cell to the node of a level. If it is full, it is written and leads the way to it on
    /// the level above, and the cell begins another.
    fn insert_at(&mut self, level: usize, key: &[u8], body: &[u8]) -> Result<()> {
        if level == self.levels.len() {
            self.levels.push(NodeBuilder::default());
        }
        let node = self.node(level)?;
        let last_key = node.last_key();
        if level == 0 && !last_key.is_empty() && key <= last_key {
            return Err(internal("the keys do not ascend"));
        }
        if node.push(key, body) {
            return Ok(());
        }
        // Above the leaves the keys are separators already, as short as they can be.
        let separator = match level {
            0 => separator(node.last_key(), key).to_vec(),
            _ => key.to_vec(),
        };
        self.finish_node(level)?;
        let node = self.node(level)?;
        node.separator = separator;
        if node.push(key, body) {
            Ok(())
        } else {
            Err(internal("a cell is larger than a block"))
        }
    }

    fn node(&mut self, level: usize) -> Result<&mut NodeBuilder> {
        let node = self.levels.get_mut(level);
        node.ok_or_else(|| internal("a level is missing"))
    }

    /// Writes the node of a level and adds it to the level above.
    fn finish_node(&mut self, level: usize) -> Result<()> {
        let (number, separator) = self.write_node(level)?;
        self.insert_at(level + 1, &separator, &number.to_le_bytes())
    }

    fn write_node(&mut self, level: usize) -> Result<(u32, Vec<u8>)> {
        let level_byte = u8::try_from(level).unwrap_or(u8::MAX);
        if level_byte > LEVEL_MAX {
            return Err(internal("the tree is too high"));
        }
        let node = self.node(level)?;
        let separator = std::mem::take(&mut node.separator);
        let block = node.finish(level_byte);
        let mut block = block.ok_or_else(|| internal("a node is empty"))?;
        Ok((self.write_block(&mut block)?, separator))
    }

    /// Appends a block. Gives its number.
    fn write_block(&mut self, block: &mut Block) -> Result<u32> {
        let number = self.next_block;
        let Some(next_block) = number.checked_add(1) else {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "a run of the index would be over 16 TiB",
            ));
        };
        block.seal(self.header.salt, number);
        self.buffer.extend_from_slice(block.bytes());
        self.next_block = next_block;
        if self.buffer.len() >= BUFFER_LEN {
            self.write_buffer()?;
        }
        Ok(number)
    }

    fn write_buffer(&mut self) -> Result<()> {
        write_all_at(self.file.as_ref(), self.buffer_start, &self.buffer)
            .map_err(|failure| failure.into_error(&self.path))?;
        self.buffer_start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left, the root and the header, and syncs.
    fn finish(&mut self) -> Result<()> {
        self.begin_tree()?;
        // Finishing a level may add one above, so the count is looked at each time.
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.finish_node(level)?;
            level += 1;
        }
        let (root, _) = self.write_node(level)?;
        self.header.root = root;
        self.header.root_level = u8::try_from(level).unwrap_or(u8::MAX);
        self.header.block_count = self.next_block;
        self.write_buffer()?;
        let header = self.header.encode();
        write_all_at(self.file.as_ref(), 0, header.bytes())
            .map_err(|failure| failure.into_error(&self.path))?;
        // Without this the name could come to stand for a file with holes. Readers would refuse
        // it, and the run would have to be written again.
        self.file
            .sync_data()
            .map_err(|error| Error::sync(&self.path, error))
    }
}
