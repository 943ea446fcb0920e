//! Looking through a run: every block, the tree, and whether what it says is what the log says.
//!
//! The log comes in pieces, as memory indexes of records that follow each other, from the first record
//! of the run to its last (a *pass*). What a piece says is looked up in the run, in the ways in which questions
//! are answered. That nothing is missing follows from that. That there is nothing more follows from counting:
//!
//! * lists: each pair of a key and a position that a piece has was found, and each is in one piece only. So
//!   when the pairs found are as many as the pairs there are, which a walk through the keys counts, they are the
//!   same. They are counted by leaf, so that it is known where one is too many;
//! * values: a later piece may have a newer value of the same key. So each key has a bit: whether the value in the
//!   run is that of the piece that had the key last. In the end it must be set for every key.
//!
//! Memory is bounded at any size: marks are kept for a *share* of the keys at once, those of as many leaves as
//! [`InspectionBounds`] says, and there is a pass for each share. Of what the oldest run does not have,
//! because it was deleted within the run's own records, hashes are kept until the deletion is met; where there
//! are too many, a pass is for a part of all hashes.
//!
//! Nothing comes from memory that questions share: a [`Run`] that was opened a second time for this
//! ([`Run::apart`]) has a cache of its own.

use super::super::header::PlaceBounds;
use super::super::MemoryIndex;
use super::*;
use crate::eventstore::name::Name;
use std::collections::HashSet;

/// Bytes of blocks that an inspection keeps in memory: the upper nodes, and where it is.
const CACHE_BYTES: usize = 1 << 20;
/// Blocks, and places, between two looks at whether to stop.
const STEP: u32 = 256;
const PLACES_STEP: usize = 1024;

/// What an inspection keeps in memory at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InspectionBounds {
    /// Leaves of a share: 24 bytes each, and a bit for each key in them, of which no leaf has over 816.
    pub(crate) leaves: usize,
    /// Hashes of keys that were deleted.
    pub(crate) hashes: usize,
}

/// Called now and then; an error ends the inspection.
pub(crate) type Told<'f> = dyn FnMut() -> Result<()> + 'f;

/// See the module.
pub(crate) struct Inspection<'r> {
    run: &'r Run,
    walk: Walk<'r>,
    bounds: InspectionBounds,
    /// The run is the oldest and has no marks of deletion: they would have nothing to hide.
    hides_nothing: bool,
    share: Share,
    deleted: Deleted,
    /// All keys were walked through.
    is_through: bool,
    key_count: u64,
    /// Between what the places lie that the log has.
    place_bounds: Option<PlaceBounds>,
    expected: Vec<u64>,
    found: Vec<u64>,
}

/// Keys that follow each other, and what is known of them.
#[derive(Default)]
struct Share {
    is_first: bool,
    /// The full key with which it begins; empty for the first share, which also is to have all keys before.
    begin: Vec<u8>,
    /// That with which the next one begins.
    end: Option<Vec<u8>>,
    /// In the order of their numbers, which is that of the keys.
    leaves: Vec<Leaf>,
    /// A bit per key, leaf by leaf: the newest that is known of a value is what the run says. Set for lists.
    agrees: Vec<u64>,
    key_count: usize,
}

struct Leaf {
    number: u32,
    /// Keys of the share before it.
    keys_before: u32,
    /// Positions in its lists.
    position_count: u64,
    /// Positions in them that the log has.
    confirmed_count: u64,
}

/// Keys that the run does not have and that were not deleted yet, as hashes within a range.
struct Deleted {
    first: u64,
    last: u64,
    hashes: HashSet<u64>,
}

impl Run {
    /// The same run with nothing of it in memory: it says what its file says now.
    pub(crate) fn apart(&self) -> Run {
        Run {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            header: self.header.clone(),
            layout: self.layout,
            places_per_block: self.places_per_block,
            cache: Arc::new(BlockCache::new(CACHE_BYTES)),
            root: OnceLock::new(),
            mapped: false,
            trusted: Box::default(),
        }
    }

    /// Reads every block and compares its checksum, also of blocks that nothing leads to.
    pub(crate) fn check_blocks(&self, told: &mut Told<'_>) -> Result<()> {
        let first = read_block(self.file.as_ref(), &self.path, 0)?;
        let header = self.look(0, Header::decode(&first))?;
        if header != self.header {
            return Err(self.corrupt(0, Damaged("it changed since the run was opened")));
        }
        for number in 1..self.header.block_count {
            if number % STEP == 0 {
                told()?;
            }
            self.fresh_block(number)?;
        }
        Ok(())
    }

    /// The run says something else than the log.
    pub(crate) fn wrong(&self, number: u32, what: &str) -> Error {
        wrong(&self.path, number, what)
    }
}

impl<'r> Inspection<'r> {
    /// Of a run that nothing of is in memory. `is_oldest` if its records are the first of the log.
    pub(crate) fn new(
        run: &'r Run,
        is_oldest: bool,
        bounds: InspectionBounds,
    ) -> Result<Inspection<'r>> {
        Ok(Inspection {
            run,
            walk: Walk::from(run, &[], Reading::Fresh)?,
            bounds,
            hides_nothing: is_oldest && !run.range().is_empty(),
            share: Share::default(),
            deleted: Deleted::new(),
            is_through: false,
            key_count: 0,
            place_bounds: None,
            expected: Vec::new(),
            found: Vec::new(),
        })
    }

    /// How many keys were walked through.
    pub(crate) fn key_count(&self) -> u64 {
        self.key_count
    }

    /// Walks through the keys of the next share, and checks what can be seen without the log. False if there
    /// is none left.
    pub(crate) fn next_share(&mut self, told: &mut Told<'_>) -> Result<bool> {
        if self.is_through {
            return Ok(false);
        }
        let before = std::mem::take(&mut self.share);
        let mut share = Share {
            is_first: self.key_count == 0,
            begin: before.end.unwrap_or_default(),
            ..Share::default()
        };
        let mut last_leaf = before.leaves.last().map_or(0, |leaf| leaf.number);
        loop {
            let Some((key, cell)) = self.walk.current() else {
                self.is_through = true;
                break;
            };
            if share.leaves.is_empty() || cell.number != last_leaf {
                if share.leaves.len() >= self.bounds.leaves.max(1) {
                    share.end = Some(key.to_vec());
                    break;
                }
                if cell.number <= last_leaf {
                    let damaged = Damaged("the leaves are out of order");
                    return Err(self.run.corrupt(cell.number, damaged));
                }
                last_leaf = cell.number;
                share.leaves.push(Leaf {
                    number: cell.number,
                    keys_before: u32::try_from(share.key_count).unwrap_or(u32::MAX),
                    position_count: 0,
                    confirmed_count: 0,
                });
                told()?;
            }
            let position_count = self.check_key(key, cell, told)?;
            if let Some(leaf) = share.leaves.last_mut() {
                leaf.position_count += position_count.unwrap_or(0);
            }
            share.add_key(position_count.is_some());
            self.key_count += 1;
            self.walk.advance()?;
        }
        if self.is_through && self.key_count != self.run.header.key_count {
            let damaged = Damaged("the tree does not have the keys it says");
            return Err(self.run.corrupt(0, damaged));
        }
        self.share = share;
        self.deleted = Deleted::new();
        Ok(true)
    }

    /// Gives how many positions it leads to, if it is of a list.
    fn check_key(&self, key: &[u8], cell: &CellRef, told: &mut Told<'_>) -> Result<Option<u64>> {
        let run = self.run;
        let Some((kind, _)) = kind_and_key(key) else {
            return Err(run.corrupt(cell.number, Damaged("a key is of no known kind")));
        };
        if !kind.is_list() {
            return match run.body(cell)? {
                Body::List(..) => Err(run.corrupt(cell.number, Damaged("a value is no value"))),
                _ => Ok(None),
            };
        }
        let (head, postings) = run.list_in(cell)?;
        let is_version = kind == KeyKind::Stream;
        if (head.first_version > 0) != is_version {
            let damaged = Damaged("a list has a stream version and is of none, or the reverse");
            return Err(run.corrupt(cell.number, damaged));
        }
        if let Postings::Blocks { start, count } = postings {
            run.check_posting_blocks(head, start, count, told)?;
        }
        // Those of an inline list ascend too: it is all in one piece.
        run.all_positions(cell, |_| Ok(()), || Ok(()))?;
        Ok(Some(head.count))
    }

    /// Compares a piece of the log with what the run says. With `again` the pass is one more for the same share,
    /// because of what was deleted.
    pub(crate) fn compare(&mut self, log: &MemoryIndex, again: bool) -> Result<()> {
        if self.share.is_first && !again {
            self.compare_places(log)?;
        }
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.is_list()) {
            if again {
                break;
            }
            for (key, first_version, positions) in log.sorted_lists(kind) {
                self.expected.clear();
                self.expected.extend(positions);
                self.compare_list(kind, key, first_version)?;
            }
        }
        if !again {
            for (id, position) in log.sorted_ids() {
                self.compare_value(KeyKind::Id, id, Some(&position.to_le_bytes()), again)?;
            }
        }
        for kind in [KeyKind::Request, KeyKind::SavedPosition, KeyKind::State] {
            for (key, value) in log.sorted_values(kind) {
                let value = match value {
                    Value::Bytes(bytes) => Some(bytes.as_slice()),
                    Value::Deleted => None,
                };
                self.compare_value(kind, key, value, again)?;
            }
        }
        Ok(())
    }

    fn compare_places(&mut self, log: &MemoryIndex) -> Result<()> {
        let (run, mut position) = (self.run, *log.range().start());
        let mut found = Vec::new();
        if log.range().end() > run.range().end() {
            let what = format!(
                "the run ends at position {} where the log has {}",
                run.range().end(),
                log.range().end()
            );
            return Err(run.wrong(0, &what));
        }
        for expected in log.all_places().chunks(PLACES_STEP) {
            let positions: Vec<u64> = (position..).take(expected.len()).collect();
            found.clear();
            run.places(&positions, &mut found)?;
            let mut pairs = positions.iter().zip(expected).zip(&found);
            if let Some(((&position, expected), found)) = pairs.find(|((_, e), f)| e != f) {
                let number = run.place_at(position).map_or(0, |(number, _)| number);
                let what = format!(
                    "the event at position {position} is said to stand at {found:?}, expected {expected:?}"
                );
                return Err(run.wrong(number, &what));
            }
            position += expected.len() as u64;
        }
        let places = log.all_places().iter().map(PlaceBounds::of);
        self.place_bounds = self
            .place_bounds
            .into_iter()
            .chain(places)
            .reduce(PlaceBounds::around);
        Ok(())
    }

    /// With the positions in `expected`, of which there is one at least.
    fn compare_list(&mut self, kind: KeyKind, key: &[u8], first_version: u64) -> Result<()> {
        let run = self.run;
        // What is longer no run can hold, and no event has it.
        let Some(full_key) = FullKey::new(kind, key) else {
            return Ok(());
        };
        if !self.share.has(full_key.as_slice()) {
            return Ok(());
        }
        let first = self.expected.first().copied().unwrap_or(0);
        let Some(cell) = run.cell(&full_key)? else {
            let what = format!(
                "{} is not found, which the event at position {first} has",
                in_words(kind, key)
            );
            return Err(run.wrong(0, &what));
        };
        let count = self.expected.len();
        self.found.clear();
        run.positions(kind, key, first, false, count, &mut self.found)?;
        if self.found != self.expected {
            let pairs = self.expected.iter().zip(&self.found);
            let same = pairs.take_while(|(expected, found)| expected == found);
            let index = same.count();
            let what = format!(
                "{} has {} where position {} was expected",
                in_words(kind, key),
                match self.found.get(index) {
                    Some(position) => format!("position {position}"),
                    None => "its end".to_string(),
                },
                self.expected.get(index).copied().unwrap_or(0),
            );
            return Err(run.wrong(cell.number, &what));
        }
        if kind == KeyKind::Stream {
            let found = run.position_of_version(key, first_version)?;
            if found != Some(first) {
                let what = format!(
                    "{} has at version {first_version} {}, expected position {first}",
                    in_words(kind, key),
                    match found {
                        Some(position) => format!("position {position}"),
                        None => "no event".to_string(),
                    }
                );
                return Err(run.wrong(cell.number, &what));
            }
        }
        let leaf = self.share.leaf(run, &cell)?;
        leaf.confirmed_count += count as u64;
        Ok(())
    }

    /// A value that the log has, or that it was deleted: of the newest record of a piece.
    fn compare_value(
        &mut self,
        kind: KeyKind,
        key: &[u8],
        value: Option<&[u8]>,
        again: bool,
    ) -> Result<()> {
        let run = self.run;
        let Some(full_key) = FullKey::new(kind, key) else {
            return Ok(());
        };
        if !self.share.has(full_key.as_slice()) {
            return Ok(());
        }
        let Some(cell) = run.cell(&full_key)? else {
            // Only state can be deleted, and only the oldest run need not say so.
            if self.hides_nothing && kind == KeyKind::State {
                let hash = Name::new(key).hash();
                self.deleted.set(hash, value.is_none(), self.bounds.hashes);
                return Ok(());
            }
            let what = format!(
                "{} is not found, which the log {}",
                in_words(kind, key),
                match value {
                    Some(_) => "has",
                    None => "has deleted",
                }
            );
            return Err(run.wrong(0, &what));
        };
        if !again {
            let agrees = run.is_value(&cell, value)?;
            let before = self.share.leaf(run, &cell)?.keys_before;
            self.share.set(before as usize + cell.index, agrees);
        }
        Ok(())
    }

    /// To be called when all records were compared. Gives whether there must be one more pass for the
    /// same share.
    pub(crate) fn end_pass(&mut self, again: bool) -> Result<bool> {
        let run = self.run;
        let bounds = self.place_bounds.unwrap_or_default();
        if bounds != run.header.bounds {
            let what = format!("places within {:?}, expected {bounds:?}", run.header.bounds);
            return Err(run.wrong(0, &what));
        }
        let leaves = self.share.leaves.iter().filter(|_| !again);
        for leaf in leaves {
            if leaf.confirmed_count != leaf.position_count {
                let what = format!(
                    "its lists have {} positions, expected {}",
                    leaf.position_count, leaf.confirmed_count
                );
                return Err(run.wrong(leaf.number, &what));
            }
        }
        if let Some(key) = self.share.first_that_differs().filter(|_| !again) {
            return Err(self.other_value(key)?);
        }
        if !self.deleted.hashes.is_empty() {
            let count = self.deleted.hashes.len();
            let what = format!("the state of {count} keys is not found, which the log has");
            return Err(run.wrong(0, &what));
        }
        Ok(self.deleted.next())
    }

    /// What is wrong with a value of the share.
    fn other_value(&self, key: usize) -> Result<Error> {
        let run = self.run;
        let leaves = &self.share.leaves;
        let behind = leaves.partition_point(|leaf| leaf.keys_before as usize <= key);
        let leaf = behind.checked_sub(1).and_then(|index| leaves.get(index));
        let (number, index) = leaf.map_or((0, 0), |leaf| {
            (leaf.number, key - leaf.keys_before as usize)
        });
        let block = run.fresh_block(number)?;
        let node = run.look(number, Node::decode(&block, 0))?;
        let cell = run.look(number, node.cell(index.min(node.count - 1)))?;
        let full_key = [node.prefix, cell.suffix].concat();
        let body = block.payload().get(cell.body).unwrap_or_default();
        let found = match run.look(number, Body::decode(body, &run.header))? {
            Body::Deleted => "that it was deleted".to_string(),
            Body::LongValue { len, .. } => format!("a value of {len} bytes"),
            Body::Value(bytes) => format!("a value of {} bytes", bytes.len()),
            Body::List(..) => "a list".to_string(),
        };
        let what = match kind_and_key(&full_key) {
            Some((kind, key)) => format!(
                "{} has {found}, which is not what the log has last",
                in_words(kind, key)
            ),
            None => "a key is of no known kind".to_string(),
        };
        Ok(run.wrong(number, &what))
    }
}

impl Run {
    /// That the blocks of a list follow each other: questions look for one of them by what stands at its
    /// front.
    fn check_posting_blocks(
        &self,
        head: ListHead,
        start: u32,
        count: u32,
        told: &mut Told<'_>,
    ) -> Result<()> {
        let (mut index, mut last) = (0, None);
        for number in start..start.saturating_add(count) {
            told()?;
            let block = self.fresh_block(number)?;
            let posting = self.look(number, PostingBlock::decode(&block))?;
            let is_next = posting.index == index && last.is_none_or(|last| posting.first > last);
            if !is_next || (last.is_none() && posting.first != head.first) {
                let damaged = Damaged("the blocks of a list are out of order");
                return Err(self.corrupt(number, damaged));
            }
            for position in posting.positions(head.last) {
                last = Some(self.look(number, position)?);
                index += 1;
            }
        }
        Ok(())
    }

    /// Whether a cell has this value, or says that it was deleted.
    fn is_value(&self, cell: &CellRef, value: Option<&[u8]>) -> Result<bool> {
        Ok(match (self.body(cell)?, value) {
            (Body::Deleted, None) => true,
            (Body::Value(found), Some(value)) => found == value,
            (Body::LongValue { len, start, .. }, Some(value)) if len == value.len() => {
                for (number, part) in (start..).zip(value.chunks(VALUE_PER_BLOCK)) {
                    let block = self.value_block(number)?;
                    if block.as_ref().get(..part.len()) != Some(part) {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }
}

impl Share {
    fn has(&self, full_key: &[u8]) -> bool {
        let is_before_end = self
            .end
            .as_ref()
            .is_none_or(|end| full_key < end.as_slice());
        full_key >= self.begin.as_slice() && is_before_end
    }

    /// Adds the next key of the last leaf.
    fn add_key(&mut self, agrees: bool) {
        if self.key_count % 64 == 0 {
            self.agrees.push(0);
        }
        self.key_count += 1;
        self.set(self.key_count - 1, agrees);
    }

    fn set(&mut self, key: usize, agrees: bool) {
        if let Some(word) = self.agrees.get_mut(key / 64) {
            let bit = 1 << (key % 64);
            *word = if agrees { *word | bit } else { *word & !bit };
        }
    }

    fn first_that_differs(&self) -> Option<usize> {
        let word = self.agrees.iter().position(|&word| word != u64::MAX)?;
        let key = word * 64 + self.agrees.get(word)?.trailing_ones() as usize;
        (key < self.key_count).then_some(key)
    }

    /// The leaf in which a question found a key.
    fn leaf(&mut self, run: &Run, cell: &CellRef) -> Result<&mut Leaf> {
        let index = self.leaves.binary_search_by_key(&cell.number, |l| l.number);
        match index.ok().and_then(|index| self.leaves.get_mut(index)) {
            Some(leaf) => Ok(leaf),
            None => {
                let damaged =
                    Damaged("a key is found where it does not stand in the order of keys");
                Err(run.corrupt(cell.number, damaged))
            }
        }
    }
}

impl Deleted {
    fn new() -> Deleted {
        Deleted {
            first: 0,
            last: u64::MAX,
            hashes: HashSet::new(),
        }
    }

    /// What a record says of a key that the run does not have.
    fn set(&mut self, hash: u64, is_deleted: bool, hashes_max: usize) {
        if !(self.first..=self.last).contains(&hash) {
            return;
        }
        if is_deleted {
            self.hashes.remove(&hash);
            return;
        }
        self.hashes.insert(hash);
        while self.hashes.len() > hashes_max && self.last > self.first {
            // Half of them now; the others in a pass of their own.
            self.last = self.first + (self.last - self.first) / 2;
            self.hashes.retain(|&hash| hash <= self.last);
        }
    }

    /// Goes on to the hashes that were left out; false if there are none.
    fn next(&mut self) -> bool {
        let Some(first) = self.last.checked_add(1) else {
            return false;
        };
        *self = Deleted {
            first,
            ..Deleted::new()
        };
        true
    }
}

fn kind_and_key(full_key: &[u8]) -> Option<(KeyKind, &[u8])> {
    let (&first, key) = full_key.split_first()?;
    let kind = KeyKind::ALL.into_iter().find(|&kind| kind as u8 == first)?;
    (key.len() <= super::super::KEY_LEN_MAX).then_some((kind, key))
}

fn in_words(kind: KeyKind, key: &[u8]) -> String {
    let what = match kind {
        KeyKind::Stream => "stream",
        KeyKind::Category => "category",
        KeyKind::Type => "type",
        KeyKind::Tag => "tag",
        KeyKind::Id => "event id",
        KeyKind::Request => "idempotency key",
        KeyKind::SavedPosition => "saved position",
        KeyKind::State => "state",
    };
    match kind {
        KeyKind::Id => {
            let digits = key.iter().map(|byte| format!("{byte:02x}"));
            format!("{what} {}", digits.collect::<String>())
        }
        _ => format!("{what} {:?}", String::from_utf8_lossy(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_waited_for_within_bounds_and_all_of_them() {
        let all: Vec<u64> = (0..100).map(|n| n * (u64::MAX / 100)).collect();
        for missing in [None, Some(0), Some(57), Some(99)] {
            let mut deleted = Deleted::new();
            let (mut found, mut passes) = (0, 0);
            loop {
                for &hash in &all {
                    deleted.set(hash, false, 8);
                    assert!(deleted.hashes.len() <= 8);
                }
                for (index, &hash) in all.iter().enumerate() {
                    if Some(index) != missing {
                        deleted.set(hash, true, 8);
                    }
                }
                found += deleted.hashes.len();
                passes += 1;
                if !deleted.next() {
                    break;
                }
            }
            assert_eq!(found, usize::from(missing.is_some()), "{missing:?}");
            assert!((12..30).contains(&passes), "{passes}");
        }
    }
}
