//! Reading a run: questions about one key or position, and walks through all keys.
//!
//! Opening reads block 0 alone, so it costs the same for any size. Every other block is checked
//! when it is read from the file, and then kept in the cache. A check that holds proves that the
//! block is what was written there, not that a careful hand did not write nonsense: so everything
//! in it is bounded before it is believed. Ways down the tree lose a level at each step, and walks
//! meet ascending keys or stop. What makes no sense is [`ErrorKind::Corrupt`], with file and block,
//! and the index is built again from the log.

mod inspection;

pub(crate) use inspection::{Inspection, InspectionBounds};

use super::block::{sort, Block, BlockCache, Damaged, Decoded, BLOCK_LEN};
use super::header::{
    place_check, Anchor, Header, PlaceLayout, PLACES_START, PLACE_BUFFER_LEN, TABLE_START,
};
use super::memory::not_here;
use super::postings::{Positions, PostingBlock};
use super::tree::{Body, FullKey, Node, Postings, VALUE_PER_BLOCK, VALUE_START};
use super::{KeyKind, Layer, ListHead, Place, Value};
use crate::error::{self, Error, ErrorKind, Result};
use crate::format::{get_array, get_u32, get_u64, put};
use crate::sync::OnceLock;
use crate::vfs::{read_full_at, File, OpenMode, Vfs};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Places with less than so many between them stand in one cache line or in two that follow each other.
const PLACES_TOGETHER: u64 = 4;

/// An immutable file that indexes a range of positions. Threads may share it; the only thing that
/// changes is the cache.
pub(crate) struct Run {
    file: Arc<dyn File>,
    path: PathBuf,
    pub(super) header: Header,
    layout: PlaceLayout,
    places_per_block: u64,
    cache: Arc<BlockCache>,
    /// The root of its keys, once it was read: each question about a key begins there.
    root: OnceLock<Arc<Block>>,
    /// Whether the file is read through a mapping.
    mapped: bool,
    /// A bit per block of the position table: single places are taken out of it without a look at the
    /// rest. What they lead to is compared with them as a whole, so that damage is noticed (see
    /// `header`); then no block is trusted until it was checked. Through calls, a block is checked when
    /// it is read for the first time, since it goes into the cache whole; a mapping is a cache itself,
    /// and all of it is trusted until then. Any thread sets a bit, after the block was checked, and what
    /// it says stands in the file, not in other memory: no order is needed.
    trusted: Box<[AtomicU64]>,
}

impl Run {
    /// Opens a run of this log. Reads and checks its header and its size, nothing else.
    ///
    /// With `mapped` it is read through a mapping.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: &Path,
        log_id: &[u8; 16],
        cache: &Arc<BlockCache>,
        mapped: bool,
    ) -> Result<Run> {
        let open = |mode| vfs.open(path, mode);
        let file = open(if mapped {
            OpenMode::Mapped
        } else {
            OpenMode::Read
        })
        .map_err(|error| Error::io("open", path, error))?;
        let block = read_block(file.as_ref(), path, 0)?;
        let header = Header::decode(&block).map_err(|damaged| corrupt(path, 0, damaged))?;
        let len = file
            .len()
            .map_err(|error| Error::io("size of", path, error))?;
        if header.log_id != *log_id {
            return Err(corrupt(path, 0, Damaged("it is of another log")));
        }
        if len != header.file_len() {
            return Err(corrupt(path, 0, Damaged("the file has another size")));
        }
        let layout = header.bounds.layout();
        let words = (header.tree_start as usize).div_ceil(64);
        let at_first = if mapped { u64::MAX } else { 0 };
        Ok(Run {
            file,
            path: path.to_path_buf(),
            header,
            layout,
            places_per_block: layout.places_per_block(),
            cache: cache.clone(),
            root: OnceLock::new(),
            mapped,
            trusted: (0..words).map(|_| AtomicU64::new(at_first)).collect(),
        })
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What its size follows from: events, or keys if there are more of them.
    pub(crate) fn weight(&self) -> u64 {
        let event_count = self.header.last + 1 - self.header.first;
        event_count.max(self.header.key_count)
    }

    /// How many keys it has.
    pub(crate) fn key_count(&self) -> u64 {
        self.header.key_count
    }

    /// What the catalog noted when it was written.
    pub(crate) fn anchor(&self) -> Anchor {
        self.header.anchor
    }

    pub(super) fn corrupt(&self, number: u32, damaged: Damaged) -> Error {
        corrupt(&self.path, number, damaged)
    }

    /// A block, from the cache if it is there.
    pub(super) fn block(&self, number: u32) -> Result<Arc<Block>> {
        if let Some(block) = self.cache.get(self.header.salt, number) {
            return Ok(block);
        }
        let block = self.fresh_block(number)?;
        self.cache.put(self.header.salt, number, block.clone());
        Ok(block)
    }

    /// A block from the file. Leaves the cache alone: who reads all blocks once has no use for it.
    fn fresh_block(&self, number: u32) -> Result<Arc<Block>> {
        if number >= self.header.block_count {
            return Err(self.corrupt(number, Damaged("it is not in the file")));
        }
        let block = read_block(self.file.as_ref(), &self.path, number)?;
        if !block.is_sound(self.header.salt, number) {
            return Err(self.corrupt(number, Damaged("the checksum does not hold")));
        }
        Ok(block)
    }

    fn block_by(&self, number: u32, how: Reading) -> Result<Arc<Block>> {
        match how {
            Reading::Cached => self.block(number),
            Reading::Fresh => self.fresh_block(number),
        }
    }

    /// Looks into a block that was read; what is wrong there is an error with its number.
    fn look<T>(&self, number: u32, decoded: Decoded<T>) -> Result<T> {
        decoded.map_err(|damaged| self.corrupt(number, damaged))
    }

    // ---- Places ----

    /// Where the place of a position is: block, and offset in it.
    fn place_at(&self, position: u64) -> Option<(u32, usize)> {
        if position > self.header.last {
            return None;
        }
        let index = position.checked_sub(self.header.first)?;
        let per_block = self.places_per_block;
        let block = u32::try_from(index / per_block).ok()?;
        let slot = usize::try_from(index % per_block).ok()?;
        Some((
            block.checked_add(TABLE_START)?,
            PLACES_START + slot * self.layout.place_len(),
        ))
    }

    fn place_in(&self, block: &Block, number: u32, at: usize) -> Result<Place> {
        if block.sort() != sort::PLACES {
            return Err(self.corrupt(number, Damaged("it does not hold places")));
        }
        let mut bytes = [0; PLACE_BUFFER_LEN];
        let place = block.payload().get(at..at + self.layout.place_len());
        put(&mut bytes, 0, place.unwrap_or_default());
        Ok(self.decode_place(&bytes))
    }

    /// Appends the places of the positions that follow without a gap on the first of these, as far as
    /// they are in its block, where its own place is at `at`. Gives how many.
    fn neighbours_in(
        &self,
        block: &Block,
        at: usize,
        positions: Option<&[u64]>,
        out: &mut Vec<Place>,
    ) -> usize {
        let positions = positions.unwrap_or_default();
        let len = self.layout.place_len();
        let places = block.payload().get(at + len..).unwrap_or_default();
        let follows = |pair: &&[u64]| matches!(pair, [a, b] if *b == *a + 1);
        let pairs = positions.windows(2).take(places.len() / len);
        let count = pairs.take_while(follows).count();
        let before = out.len();
        // The last of a block are decoded one by one: what is read behind them may not be there.
        for start in (0..count).map(|nth| nth * len) {
            let Some(bytes) = places.get(start..start + PLACE_BUFFER_LEN) else {
                break;
            };
            out.push(self.decode_place(&get_array(bytes, 0)));
        }
        out.len() - before
    }

    #[inline]
    fn decode_place(&self, bytes: &[u8; PLACE_BUFFER_LEN]) -> Place {
        let PlaceLayout { lsn_len, time_len } = self.layout;
        // The bytes behind a shorter number are those of what follows: cut off, whatever they are.
        let number = |at: usize, len: usize| match len {
            0 => 0,
            len => get_u64(bytes, at) & (u64::MAX >> (64 - 8 * len.min(8))),
        };
        let bounds = &self.header.bounds;
        let lsn = bounds.first_lsn.saturating_add(number(0, lsn_len));
        let time_ns = number(lsn_len + 4, time_len).saturating_add(bounds.least_time);
        Place {
            lsn,
            crc: get_u32(bytes, lsn_len) ^ place_check(lsn, time_ns),
            time_ns,
        }
    }

    /// The word and bit of a block in `trusted`.
    fn trust_mark(&self, number: u32) -> Option<(&AtomicU64, u64)> {
        let word = self.trusted.get(number as usize / 64)?;
        Some((word, 1 << (number % 64)))
    }

    /// A place out of a block that is trusted; `None` if it is not.
    fn place_alone(&self, number: u32, at: usize) -> Result<Option<Place>> {
        let trusted = self.trust_mark(number);
        if trusted.is_none_or(|(word, bit)| word.load(Ordering::Relaxed) & bit == 0) {
            return Ok(None);
        }
        let mut bytes = [0; PLACE_BUFFER_LEN];
        let place = bytes.get_mut(..self.layout.place_len()).unwrap_or_default();
        let offset = u64::from(number) * BLOCK_LEN as u64 + at as u64;
        let read = read_full_at(self.file.as_ref(), offset, place)
            .map_err(|error| Error::io("read", &self.path, error))?;
        if read < place.len() {
            return Err(self.corrupt(number, Damaged("the file ends before it")));
        }
        Ok(Some(self.decode_place(&bytes)))
    }

    /// A block of the position table.
    fn places_block(&self, number: u32) -> Result<Arc<Block>> {
        // A mapping is a cache itself.
        let block = match self.mapped {
            true => self.fresh_block(number)?,
            false => self.block(number)?,
        };
        if let Some((word, bit)) = self.trust_mark(number) {
            if block.sort() == sort::PLACES {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(block)
    }

    /// A single place, and its block if that had to be looked into.
    fn single_place(&self, number: u32, at: usize) -> Result<(Place, Option<Arc<Block>>)> {
        let cached = match self.mapped {
            true => None,
            false => self.cache.get(self.header.salt, number),
        };
        if cached.is_none() {
            if let Some(place) = self.place_alone(number, at)? {
                return Ok((place, None));
            }
        }
        let block = match cached {
            Some(block) => block,
            None => self.places_block(number)?,
        };
        Ok((self.place_in(&block, number, at)?, Some(block)))
    }

    /// Announces to a mapped file what is going to be read of the position table: scattered places come
    /// from memory together then, instead of one after the other.
    fn expect_places(&self, positions: &[u64]) {
        let mut last = None;
        for &position in positions {
            // Neighbours come with each other.
            let is_far = last.is_none_or(|last| position.abs_diff(last) >= PLACES_TOGETHER);
            if let Some((number, at)) = self.place_at(position).filter(|_| is_far) {
                let offset = u64::from(number) * BLOCK_LEN as u64 + at as u64;
                self.file.expect(offset, self.layout.place_len());
                last = Some(position);
            }
        }
    }

    /// Lets every block be checked again before it is used.
    pub(crate) fn distrust(&self) {
        for word in &self.trusted {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The places of all positions in order, for `take`, which may stop with an error. The cache
    /// is left alone.
    pub(super) fn all_places(&self, mut take: impl FnMut(Place) -> Result<()>) -> Result<()> {
        let mut held: Option<(u32, Arc<Block>)> = None;
        for position in self.range() {
            let Some((number, at)) = self.place_at(position) else {
                return Ok(());
            };
            let block = match held.take() {
                Some((held_number, block)) if held_number == number => block,
                _ => self.fresh_block(number)?,
            };
            take(self.place_in(&block, number, at)?)?;
            held = Some((number, block));
        }
        Ok(())
    }

    // ---- Keys ----

    fn root(&self) -> Result<Arc<Block>> {
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        let root = self.fresh_block(self.header.root)?;
        Ok(self.root.get_or_init(|| root).clone())
    }

    /// The cell of a key.
    fn cell(&self, key: &FullKey) -> Result<Option<CellRef>> {
        let mut number = self.header.root;
        let mut level = self.header.root_level;
        let mut block = self.root()?;
        loop {
            let node = self.look(number, Node::decode(&block, level))?;
            if level == 0 {
                let found = self.look(number, node.find(key.as_slice()))?;
                if !found.is_equal {
                    return Ok(None);
                }
                let body = self.look(number, node.cell(found.cell))?.body;
                return Ok(Some(CellRef {
                    block,
                    number,
                    index: found.cell,
                    body,
                }));
            }
            let child = node
                .child_for(key.as_slice())
                .and_then(|cell| node.child(cell, &self.header));
            number = self.look(number, child)?;
            block = self.block(number)?;
            level -= 1;
        }
    }

    /// What a cell says.
    pub(super) fn body<'c>(&self, cell: &'c CellRef) -> Result<Body<'c>> {
        let bytes = cell.block.payload().get(cell.body.clone());
        let body = Body::decode(bytes.unwrap_or_default(), &self.header);
        self.look(cell.number, body)
    }

    /// The cell of a list, if the key is there.
    fn list_cell(&self, kind: KeyKind, key: &[u8]) -> Result<Option<CellRef>> {
        match FullKey::new(kind, key) {
            Some(key) if kind.is_list() => self.cell(&key),
            _ => Ok(None),
        }
    }

    /// What a cell says, which must be of a list.
    pub(super) fn list_in<'c>(&self, cell: &'c CellRef) -> Result<(ListHead, Postings<'c>)> {
        match self.body(cell)? {
            Body::List(head, postings) => Ok((head, postings)),
            _ => Err(self.corrupt(cell.number, Damaged("a list is no list"))),
        }
    }

    // ---- Lists ----

    /// All positions of a list in order, for `take`; `between` is called after each block of a
    /// long list. The cache is left alone.
    pub(super) fn all_positions(
        &self,
        cell: &CellRef,
        mut take: impl FnMut(u64) -> Result<()>,
        mut between: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let (head, postings) = self.list_in(cell)?;
        let mut count = 0;
        let mut end = None;
        let mut take = |number: u32, positions: Positions<'_>| -> Result<()> {
            for position in positions {
                let position = self.look(number, position)?;
                take(position)?;
                count += 1;
                end = Some(position);
            }
            Ok(())
        };
        match postings {
            Postings::Inline(deltas) => {
                let positions = Positions::new(head.first, head.count, head.last, deltas);
                take(cell.number, positions)?;
            }
            Postings::Blocks { start, count } => {
                for number in start..start.saturating_add(count) {
                    let block = self.fresh_block(number)?;
                    let posting = self.look(number, PostingBlock::decode(&block))?;
                    take(number, posting.positions(head.last))?;
                    between()?;
                }
            }
        }
        if count != head.count || end != Some(head.last) {
            let damaged = Damaged("a list does not have the positions it says");
            return Err(self.corrupt(cell.number, damaged));
        }
        Ok(())
    }

    /// The last of a list's blocks for which `is_up_to` holds, or its first. It must hold for a
    /// number of blocks at the front and for none behind.
    fn find_posting_block(
        &self,
        start: u32,
        count: u32,
        is_up_to: impl Fn(&PostingBlock<'_>) -> bool,
    ) -> Result<u32> {
        let (mut low, mut high) = (start, start.saturating_add(count));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let block = self.block(middle)?;
            let posting = self.look(middle, PostingBlock::decode(&block))?;
            if is_up_to(&posting) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Appends positions of one block, or of an inline list, as [`Layer::positions`] says; `max` is
    /// that of `out`'s length.
    fn take_positions(
        &self,
        number: u32,
        positions: Positions<'_>,
        wanted: &Wanted,
        out: &mut Vec<u64>,
    ) -> Result<()> {
        if !wanted.backward {
            for position in positions {
                if out.len() >= wanted.len_max {
                    break;
                }
                let position = self.look(number, position)?;
                if position >= wanted.from {
                    out.push(position);
                }
            }
            return Ok(());
        }
        // At most those of one block.
        let mut ascending = Vec::new();
        for position in positions {
            let position = self.look(number, position)?;
            if position > wanted.from {
                break;
            }
            ascending.push(position);
        }
        let room = wanted.len_max.saturating_sub(out.len());
        out.extend(ascending.iter().rev().take(room));
        Ok(())
    }

    // ---- Values ----

    fn long_value(&self, len: usize, start: u32, count: u32) -> Result<Vec<u8>> {
        let mut value = Vec::new();
        if value.try_reserve_exact(len).is_err() {
            return Err(Error::no_memory("a value", len));
        }
        for number in start..start.saturating_add(count) {
            let block = self.fresh_block(number)?;
            let part_len = (len - value.len()).min(VALUE_PER_BLOCK);
            let part = self.look(number, value_part(&block, part_len))?;
            value.extend_from_slice(part);
        }
        Ok(value)
    }

    /// The block of one part of a long value. The cache is left alone.
    pub(super) fn value_block(&self, number: u32) -> Result<ValuePart> {
        let block = self.fresh_block(number)?;
        self.look(number, value_part(&block, VALUE_PER_BLOCK))?;
        Ok(ValuePart(block))
    }
}

/// Whether blocks go through the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Cached,
    Fresh,
}

/// A block with a part of a long value.
pub(super) struct ValuePart(Arc<Block>);

impl AsRef<[u8]> for ValuePart {
    fn as_ref(&self) -> &[u8] {
        self.0.payload().get(VALUE_START..).unwrap_or_default()
    }
}

fn value_part(block: &Block, len: usize) -> Decoded<&[u8]> {
    let part = block.payload().get(VALUE_START..VALUE_START + len);
    match part {
        Some(part) if block.sort() == sort::VALUE => Ok(part),
        _ => Err(Damaged("it does not hold a value")),
    }
}

fn read_block(file: &dyn File, path: &Path, number: u32) -> Result<Arc<Block>> {
    let mut block = Arc::new(Block::zeroed());
    // Nobody else has it yet.
    let bytes = Arc::make_mut(&mut block).bytes_mut();
    let offset = u64::from(number) * bytes.len() as u64;
    let len = read_full_at(file, offset, bytes).map_err(|error| Error::io("read", path, error))?;
    if len < bytes.len() {
        return Err(corrupt(path, number, Damaged("the file ends before it")));
    }
    Ok(block)
}

fn corrupt(path: &Path, number: u32, damaged: Damaged) -> Error {
    wrong(path, number, damaged.0)
}

fn wrong(path: &Path, number: u32, what: &str) -> Error {
    let message = format!("block {number} of {}: {what}", path.display());
    Error::new(ErrorKind::Corrupt, message).at(error::Place {
        path: Some(path.to_path_buf()),
        offset: u64::from(number) * super::block::BLOCK_LEN as u64,
        ..error::Place::default()
    })
}

/// Which positions of a list are wanted.
struct Wanted {
    from: u64,
    backward: bool,
    /// Length of the output at which there are enough.
    len_max: usize,
}

/// A cell of a leaf, with the leaf.
pub(super) struct CellRef {
    block: Arc<Block>,
    number: u32,
    /// Which cell of the leaf.
    index: usize,
    body: Range<usize>,
}

/// A walk through the keys of a run in ascending order.
pub(super) struct Walk<'r> {
    run: &'r Run,
    reading: Reading,
    /// From the root to a leaf: the nodes, and the cell of each that comes next.
    way: Vec<Step>,
    /// The full key that the walk is at; empty before the first.
    key: Vec<u8>,
    cell: Option<CellRef>,
}

struct Step {
    block: Arc<Block>,
    number: u32,
    level: u8,
    cell: usize,
}

impl<'r> Walk<'r> {
    /// A walk that begins with the first key not less than this full key.
    pub(super) fn from(run: &'r Run, start: &[u8], reading: Reading) -> Result<Walk<'r>> {
        let mut walk = Walk {
            run,
            reading,
            way: Vec::new(),
            key: Vec::new(),
            cell: None,
        };
        let mut number = run.header.root;
        let mut level = run.header.root_level;
        loop {
            let block = run.block_by(number, reading)?;
            let node = run.look(number, Node::decode(&block, level))?;
            if level == 0 {
                let cell = run.look(number, node.find(start))?.cell;
                walk.push(block, number, level, cell);
                break;
            }
            let cell = run.look(number, node.child_for(start))?;
            let child = run.look(number, node.child(cell, &run.header))?;
            walk.push(block, number, level, cell + 1);
            number = child;
            level -= 1;
        }
        walk.advance()?;
        Ok(walk)
    }

    fn push(&mut self, block: Arc<Block>, number: u32, level: u8, cell: usize) {
        self.way.push(Step {
            block,
            number,
            level,
            cell,
        });
    }

    /// The full key that the walk is at, and its cell; `None` at the end.
    pub(super) fn current(&self) -> Option<(&[u8], &CellRef)> {
        self.cell.as_ref().map(|cell| (self.key.as_slice(), cell))
    }

    /// The run walked through.
    pub(super) fn run(&self) -> &'r Run {
        self.run
    }

    /// Goes to the next key.
    pub(super) fn advance(&mut self) -> Result<()> {
        let run = self.run;
        self.cell = None;
        while let Some(step) = self.way.last_mut() {
            let (number, level) = (step.number, step.level);
            let node = run.look(number, Node::decode(&step.block, level))?;
            if step.cell >= node.count {
                self.way.pop();
                continue;
            }
            let index = step.cell;
            step.cell += 1;
            if level > 0 {
                let child = run.look(number, node.child(index, &run.header))?;
                let block = run.block_by(child, self.reading)?;
                self.push(block, child, level - 1, 0);
                continue;
            }
            let cell = run.look(number, node.cell(index))?;
            // Every leaf has a key, and each must be greater than the one before: so a damaged
            // tree that leads to the same leaf twice ends the walk.
            let (prefix, suffix) = (node.prefix, cell.suffix);
            if !self.key.is_empty() && !is_greater(prefix, suffix, &self.key) {
                return Err(run.corrupt(number, Damaged("the keys do not ascend")));
            }
            self.key.clear();
            self.key.extend_from_slice(prefix);
            self.key.extend_from_slice(suffix);
            self.cell = Some(CellRef {
                block: step.block.clone(),
                number,
                index,
                body: cell.body,
            });
            return Ok(());
        }
        Ok(())
    }
}

/// Whether the key of two parts is greater than another.
fn is_greater(prefix: &[u8], suffix: &[u8], other: &[u8]) -> bool {
    prefix.iter().chain(suffix).gt(other)
}

impl Layer for Run {
    fn range(&self) -> RangeInclusive<u64> {
        self.header.first..=self.header.last
    }

    fn head(&self, kind: KeyKind, key: &[u8]) -> Result<Option<ListHead>> {
        let Some(cell) = self.list_cell(kind, key)? else {
            return Ok(None);
        };
        Ok(Some(self.list_in(&cell)?.0))
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
        let Some(cell) = self.list_cell(kind, key)? else {
            return Ok(());
        };
        let (head, postings) = self.list_in(&cell)?;
        let wanted = Wanted {
            from,
            backward,
            len_max: out.len().saturating_add(max),
        };
        let none = if backward {
            from < head.first
        } else {
            from > head.last
        };
        if none {
            return Ok(());
        }
        let (start, count) = match postings {
            Postings::Inline(deltas) => {
                let positions = Positions::new(head.first, head.count, head.last, deltas);
                return self.take_positions(cell.number, positions, &wanted, out);
            }
            Postings::Blocks { start, count } => (start, count),
        };
        let mut number = self.find_posting_block(start, count, |posting| posting.first <= from)?;
        while out.len() < wanted.len_max {
            let block = self.block(number)?;
            let posting = self.look(number, PostingBlock::decode(&block))?;
            self.take_positions(number, posting.positions(head.last), &wanted, out)?;
            let end = if backward { start } else { start + (count - 1) };
            if number == end {
                break;
            }
            number = if backward { number - 1 } else { number + 1 };
        }
        Ok(())
    }

    fn position_of_version(&self, stream: &[u8], version: u64) -> Result<Option<u64>> {
        let Some(cell) = self.list_cell(KeyKind::Stream, stream)? else {
            return Ok(None);
        };
        let (head, postings) = self.list_in(&cell)?;
        let index = version.checked_sub(head.first_version);
        let Some(index) = index.filter(|&index| index < head.count) else {
            return Ok(None);
        };
        let nth = |number: u32, mut positions: Positions<'_>, nth: u64| {
            let nth = usize::try_from(nth).unwrap_or(usize::MAX);
            let missing = Damaged("a list does not have the positions it says");
            // An error ends the positions, so that what is behind one is missing.
            self.look(number, positions.nth(nth).unwrap_or(Err(missing)))
        };
        match postings {
            Postings::Inline(deltas) => {
                let positions = Positions::new(head.first, head.count, head.last, deltas);
                nth(cell.number, positions, index).map(Some)
            }
            Postings::Blocks { start, count } => {
                let number =
                    self.find_posting_block(start, count, |posting| posting.index <= index)?;
                let block = self.block(number)?;
                let posting = self.look(number, PostingBlock::decode(&block))?;
                let rest = index.checked_sub(posting.index);
                let rest = rest.ok_or(Damaged("the blocks of a list are out of order"));
                let rest = self.look(number, rest)?;
                nth(number, posting.positions(head.last), rest).map(Some)
            }
        }
    }

    fn place(&self, position: u64) -> Result<Option<Place>> {
        let Some((number, at)) = self.place_at(position) else {
            return Ok(None);
        };
        let block = self.places_block(number)?;
        Ok(Some(self.place_in(&block, number, at)?))
    }

    fn places(&self, positions: &[u64], out: &mut Vec<Place>) -> Result<()> {
        if self.mapped {
            self.expect_places(positions);
        }
        // Neighbours share blocks.
        let mut held: Option<(u32, Arc<Block>)> = None;
        let mut index = 0;
        while let Some(&position) = positions.get(index) {
            let Some((number, at)) = self.place_at(position) else {
                return Err(not_here(position, &self.range()));
            };
            let next_is_near = positions.get(index + 1) == Some(&(position + 1));
            index += 1;
            let block = match held.take() {
                Some((held_number, block)) if held_number == number => block,
                _ if next_is_near => self.places_block(number)?,
                _ => {
                    let (place, block) = self.single_place(number, at)?;
                    out.push(place);
                    held = block.map(|block| (number, block));
                    continue;
                }
            };
            out.push(self.place_in(&block, number, at)?);
            if next_is_near {
                index += self.neighbours_in(&block, at, positions.get(index - 1..), out);
            }
            held = Some((number, block));
        }
        Ok(())
    }

    fn value(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Value>> {
        let cell = match FullKey::new(kind, key) {
            Some(key) if !kind.is_list() => self.cell(&key)?,
            _ => None,
        };
        let Some(cell) = cell else {
            return Ok(None);
        };
        Ok(Some(match self.body(&cell)? {
            Body::Value(bytes) => Value::Bytes(bytes.to_vec()),
            Body::LongValue { len, start, count } => {
                Value::Bytes(self.long_value(len, start, count)?)
            }
            Body::Deleted => Value::Deleted,
            Body::List(..) => return Err(self.corrupt(cell.number, Damaged("a value is no value"))),
        }))
    }

    fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
        out: &mut Vec<(Vec<u8>, ListHead)>,
    ) -> Result<()> {
        let start = after.map_or(prefix, |after| after.max(prefix));
        let start = [&[kind as u8], start].concat();
        let len_max = out.len().saturating_add(max);
        let mut walk = Walk::from(self, &start, Reading::Cached)?;
        while let (Some((full_key, cell)), true) = (walk.current(), out.len() < len_max) {
            let key = match full_key.split_first() {
                Some((&found, key)) if found == kind as u8 && key.starts_with(prefix) => key,
                _ => break,
            };
            if after != Some(key) {
                let head = match kind.is_list() {
                    true => self.list_in(cell)?.0,
                    false => ListHead::default(),
                };
                out.push((key.to_vec(), head));
            }
            walk.advance()?;
        }
        Ok(())
    }
}
