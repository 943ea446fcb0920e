//! The tree of keys: nodes as bytes, and what a key leads to as bytes.
//!
//! A *full key* is the byte of its kind, then the key, so that one tree holds all kinds. Nodes of
//! level 0 are leaves; a node of another level leads to nodes of exactly the level below, which is
//! why every way down ends. A node:
//!
//! | Offset | Size | Name | |
//! |---|---|---|---|
//! | 0 | 1 | sort | |
//! | 1 | 1 | level | |
//! | 2 | 2 | count | of cells, at least 1 |
//! | 4 | 2 | prefix_len | |
//! | 6 | 2 | end | of the last cell |
//! | 8 | prefix_len | prefix | what all keys here begin with |
//! | | 2 × count | slots | where each cell begins |
//! | | | cells | length of the rest of the key u16, that rest, then the body |
//!
//! In a leaf the body is what the key leads to ([`Body`]). In other nodes it is the block (u32) of a
//! node, and the key is a lower bound of the keys there: as short as it can be to tell them from those
//! before.

use super::block::{sort, Block, Damaged, Decoded, PAYLOAD_LEN};
use super::header::Header;
use super::postings::{put_varint, take_varint, INLINE_LEN_MAX};
use super::{KeyKind, ListHead, KEY_LEN_MAX};
use crate::format::{get_array, get_u16, get_u32, put};
use std::cmp::Ordering;
use std::ops::Range;

const PREFIX_START: usize = 8;
const SLOT_LEN: usize = 2;
const SUFFIX_LEN_LEN: usize = 2;

/// A value with more bytes gets blocks of its own.
pub(super) const VALUE_INLINE_MAX: usize = 1024;
/// Where the bytes of a value begin in such a block, behind its sort.
pub(super) const VALUE_START: usize = 4;
/// Bytes of a value in such a block.
pub(super) const VALUE_PER_BLOCK: usize = PAYLOAD_LEN - VALUE_START;

/// Bytes of a full key that need no memory of their own: most keys are names and ids.
const SHORT_LEN_MAX: usize = 64;

/// A kind and a key, one behind the other.
pub(super) struct FullKey {
    short: [u8; SHORT_LEN_MAX],
    /// Of `short`.
    len: usize,
    /// All of it, if it is longer.
    long: Vec<u8>,
}

impl FullKey {
    /// `None` if the key is too long for any run to hold.
    pub(super) fn new(kind: KeyKind, key: &[u8]) -> Option<FullKey> {
        if key.len() > KEY_LEN_MAX {
            return None;
        }
        let mut full = FullKey {
            short: [0; SHORT_LEN_MAX],
            len: 1 + key.len(),
            long: Vec::new(),
        };
        if full.len > SHORT_LEN_MAX {
            full.long = [&[kind as u8], key].concat();
        } else {
            put(&mut full.short, 0, &[kind as u8]);
            put(&mut full.short, 1, key);
        }
        Some(full)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.short.get(..self.len).unwrap_or(&self.long)
    }
}

/// How many bytes at the front both have.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The shortest key that is greater than `before` and not greater than `key`.
pub(super) fn separator<'k>(before: &[u8], key: &'k [u8]) -> &'k [u8] {
    let len = common_len(before, key) + 1;
    key.get(..len).unwrap_or(key)
}

/// A node that is being filled, in the order of the keys.
#[derive(Default)]
pub(super) struct NodeBuilder {
    /// Greater than all keys of the nodes before on this level, and not greater than any here.
    pub(super) separator: Vec<u8>,
    keys: Vec<u8>,
    bodies: Vec<u8>,
    /// Where each cell ends in `keys` and in `bodies`.
    ends: Vec<(usize, usize)>,
    /// What all keys here begin with.
    prefix_len: usize,
}

impl NodeBuilder {
    /// Adds a cell; `false` if there is no room for it and the node must be finished first.
    pub(super) fn push(&mut self, key: &[u8], body: &[u8]) -> bool {
        let prefix_len = match self.ends.first() {
            Some(&(end, _)) => {
                let first = self.keys.get(..end).unwrap_or_default();
                let prefix = first.get(..self.prefix_len).unwrap_or_default();
                common_len(prefix, key)
            }
            None => key.len(),
        };
        let count = self.ends.len() + 1;
        let len = PREFIX_START
            + count * (SLOT_LEN + SUFFIX_LEN_LEN)
            + (self.keys.len() + key.len() - (count - 1) * prefix_len)
            + self.bodies.len()
            + body.len();
        if len > PAYLOAD_LEN {
            return false;
        }
        self.keys.extend_from_slice(key);
        self.bodies.extend_from_slice(body);
        self.ends.push((self.keys.len(), self.bodies.len()));
        self.prefix_len = prefix_len;
        true
    }

    /// The last key; empty if there is none.
    pub(super) fn last_key(&self) -> &[u8] {
        let start = match self.ends.len().checked_sub(2) {
            Some(before) => self.ends.get(before).map_or(0, |&(end, _)| end),
            None => 0,
        };
        self.keys.get(start..).unwrap_or_default()
    }

    /// The node's block; the builder is empty afterwards. `None` if there are no cells.
    pub(super) fn finish(&mut self, level: u8) -> Option<Block> {
        let count = u16::try_from(self.ends.len()).ok()?;
        let (first_end, _) = *self.ends.first()?;
        let prefix = self.keys.get(..first_end)?.get(..self.prefix_len)?;
        let mut block = Block::zeroed();
        let bytes = block.payload_mut();
        put(bytes, 0, &[sort::NODE, level]);
        put(bytes, 2, &count.to_le_bytes());
        put(bytes, 4, &u16::try_from(prefix.len()).ok()?.to_le_bytes());
        put(bytes, PREFIX_START, prefix);
        let slots = PREFIX_START + prefix.len();
        let mut at = slots + self.ends.len() * SLOT_LEN;
        let (mut key_start, mut body_start) = (0, 0);
        for (cell, &(key_end, body_end)) in self.ends.iter().enumerate() {
            let suffix = self.keys.get(key_start + self.prefix_len..key_end)?;
            let body = self.bodies.get(body_start..body_end)?;
            let slot = slots + cell * SLOT_LEN;
            put(bytes, slot, &u16::try_from(at).ok()?.to_le_bytes());
            put(bytes, at, &u16::try_from(suffix.len()).ok()?.to_le_bytes());
            at += SUFFIX_LEN_LEN;
            put(bytes, at, suffix);
            at += suffix.len();
            put(bytes, at, body);
            at += body.len();
            (key_start, body_start) = (key_end, body_end);
        }
        put(bytes, 6, &u16::try_from(at).ok()?.to_le_bytes());
        self.keys.clear();
        self.bodies.clear();
        self.ends.clear();
        self.prefix_len = 0;
        Some(block)
    }
}

/// A node, looked into.
pub(super) struct Node<'a> {
    bytes: &'a [u8],
    pub(super) prefix: &'a [u8],
    pub(super) count: usize,
    slots: usize,
    end: usize,
}

/// One cell of a node.
pub(super) struct Cell<'a> {
    /// The key without the node's prefix.
    pub(super) suffix: &'a [u8],
    /// Where its body lies in the block.
    pub(super) body: Range<usize>,
}

/// Where a key is among the cells of a node.
pub(super) struct Found {
    /// The first cell whose key is not less.
    pub(super) cell: usize,
    /// Whether that cell's key is equal.
    pub(super) is_equal: bool,
}

impl<'a> Node<'a> {
    /// The block as a node of this level.
    pub(super) fn decode(block: &'a Block, level: u8) -> Decoded<Node<'a>> {
        let bytes = block.payload();
        if block.sort() != sort::NODE || bytes.get(1) != Some(&level) {
            return Err(Damaged("it is no node of its level"));
        }
        let prefix_len = usize::from(get_u16(bytes, 4));
        let node = Node {
            bytes,
            prefix: bytes
                .get(PREFIX_START..PREFIX_START + prefix_len)
                .ok_or(Damaged("a prefix leaves the node"))?,
            count: usize::from(get_u16(bytes, 2)),
            slots: PREFIX_START + prefix_len,
            end: usize::from(get_u16(bytes, 6)),
        };
        // Every node has a cell: otherwise a walk could meet empty ones without end.
        if node.count == 0 || node.slots + node.count * SLOT_LEN > bytes.len() {
            return Err(Damaged("the count of cells is impossible"));
        }
        Ok(node)
    }

    /// Where the cell at an index below `count` begins, and its key without the node's prefix.
    fn suffix(&self, index: usize) -> Decoded<(usize, &'a [u8])> {
        let slot = self.slots + index * SLOT_LEN;
        let start = usize::from(get_u16(self.bytes, slot));
        let len = usize::from(get_u16(self.bytes, start));
        let suffix = start + SUFFIX_LEN_LEN;
        match self.bytes.get(suffix..suffix + len) {
            Some(suffix) => Ok((start, suffix)),
            None => Err(Damaged("a cell leaves the node")),
        }
    }

    /// The cell at an index below `count`.
    pub(super) fn cell(&self, index: usize) -> Decoded<Cell<'a>> {
        let (start, suffix) = self.suffix(index)?;
        let end = if index + 1 < self.count {
            usize::from(get_u16(self.bytes, self.slots + (index + 1) * SLOT_LEN))
        } else {
            self.end
        };
        let body_start = start + SUFFIX_LEN_LEN + suffix.len();
        if body_start > end || end > self.bytes.len() {
            return Err(Damaged("a cell leaves the node"));
        }
        Ok(Cell {
            suffix,
            body: body_start..end,
        })
    }

    /// How the cell at an index below `count` compares with a key without the node's prefix, which has
    /// this front.
    fn compare(&self, index: usize, rest: &[u8], rest_front: u64) -> Decoded<Ordering> {
        let (start, suffix) = self.suffix(index)?;
        let at = start + SUFFIX_LEN_LEN;
        let Some(bytes) = self.bytes.get(at..at + FRONT_LEN) else {
            return Ok(suffix.cmp(rest));
        };
        let mut front = u64::from_be_bytes(get_array(bytes, 0));
        if suffix.len() < FRONT_LEN {
            // What follows is of another cell.
            front &= !(u64::MAX >> (8 * suffix.len()));
        }
        Ok(front.cmp(&rest_front).then_with(|| {
            if suffix.len().max(rest.len()) <= FRONT_LEN {
                // One is the other with zeros behind it, or the same.
                return suffix.len().cmp(&rest.len());
            }
            suffix.cmp(rest)
        }))
    }

    /// Where a full key is.
    pub(super) fn find(&self, key: &[u8]) -> Decoded<Found> {
        let (front, rest) = key.split_at(self.prefix.len().min(key.len()));
        match front.cmp(self.prefix) {
            Ordering::Less => return Ok(not_equal(0)),
            Ordering::Greater => return Ok(not_equal(self.count)),
            Ordering::Equal => {}
        }
        let rest_front = front_of(rest);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            match self.compare(middle, rest, rest_front)? {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    return Ok(Found {
                        cell: middle,
                        is_equal: true,
                    })
                }
            }
        }
        Ok(not_equal(low))
    }

    /// The cell whose node has the key, if any has.
    pub(super) fn child_for(&self, key: &[u8]) -> Decoded<usize> {
        let found = self.find(key)?;
        // The key is below all cells only where a damaged node sent us here.
        Ok(match found.is_equal {
            true => found.cell,
            false => found.cell.saturating_sub(1),
        })
    }

    /// The block that a cell of a node above the leaves leads to.
    pub(super) fn child(&self, index: usize, header: &Header) -> Decoded<u32> {
        let body = self.cell(index)?.body;
        let child = get_u32(self.bytes, body.start);
        if body.len() != 4 || !header.are_in_tree(child, 1) {
            return Err(Damaged("a child lies outside of the tree"));
        }
        Ok(child)
    }
}

/// Bytes that are compared at once.
const FRONT_LEN: usize = 8;

/// The first bytes of a key as a number that compares as they do, zeros behind a shorter one: two keys with
/// different fronts compare as those do.
fn front_of(key: &[u8]) -> u64 {
    let mut front = [0; FRONT_LEN];
    put(&mut front, 0, key.get(..FRONT_LEN).unwrap_or(key));
    u64::from_be_bytes(front)
}

fn not_equal(cell: usize) -> Found {
    Found {
        cell,
        is_equal: false,
    }
}

const TAG_LIST: u8 = 1;
const TAG_LONG_LIST: u8 = 2;
const TAG_VALUE: u8 = 3;
const TAG_LONG_VALUE: u8 = 4;
const TAG_DELETED: u8 = 5;

/// What a key leads to. A tag (u8), then as variable-length integers:
///
/// | | |
/// |---|---|
/// | 1 list | count, first - run's first, last - first, first stream version; then the differences |
/// | 2 long list | the same four, block of the first positions, how many blocks |
/// | 3 value | then its bytes |
/// | 4 long value | length, block of its first bytes |
/// | 5 deleted value | |
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    List(ListHead, Postings<'a>),
    Value(&'a [u8]),
    LongValue { len: usize, start: u32, count: u32 },
    Deleted,
}

/// The positions of a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Postings<'a> {
    /// The differences between them.
    Inline(&'a [u8]),
    /// Blocks that hold them.
    Blocks { start: u32, count: u32 },
}

/// How many blocks a value of this length has.
pub(super) fn value_block_count(len: usize) -> Option<u32> {
    u32::try_from(len.div_ceil(VALUE_PER_BLOCK)).ok()
}

impl<'a> Body<'a> {
    /// Appends it. `first` is the run's first position.
    pub(super) fn encode(&self, first: u64, out: &mut Vec<u8>) {
        match *self {
            Body::List(head, postings) => {
                out.push(match postings {
                    Postings::Inline(_) => TAG_LIST,
                    Postings::Blocks { .. } => TAG_LONG_LIST,
                });
                put_varint(out, head.count);
                put_varint(out, head.first.saturating_sub(first));
                put_varint(out, head.last.saturating_sub(head.first));
                put_varint(out, head.first_version);
                match postings {
                    Postings::Inline(deltas) => out.extend_from_slice(deltas),
                    Postings::Blocks { start, count } => {
                        put_varint(out, u64::from(start));
                        put_varint(out, u64::from(count));
                    }
                }
            }
            Body::Value(bytes) => {
                out.push(TAG_VALUE);
                out.extend_from_slice(bytes);
            }
            Body::LongValue { len, start, .. } => {
                out.push(TAG_LONG_VALUE);
                put_varint(out, len as u64);
                put_varint(out, u64::from(start));
            }
            Body::Deleted => out.push(TAG_DELETED),
        }
    }

    /// Reads it. What it says of blocks and positions is checked against the header: nothing that
    /// follows from it can be larger than the file.
    pub(super) fn decode(bytes: &'a [u8], header: &Header) -> Decoded<Body<'a>> {
        let Some((&tag, mut rest)) = bytes.split_first() else {
            return Err(Damaged("a cell is empty"));
        };
        match tag {
            TAG_LIST | TAG_LONG_LIST => {
                let head = take_head(&mut rest, header)?;
                let postings = if tag == TAG_LIST {
                    if rest.len() > INLINE_LEN_MAX || head.count > rest.len() as u64 + 1 {
                        return Err(Damaged("a list does not have the count it says"));
                    }
                    Postings::Inline(rest)
                } else {
                    let (start, count) = (take_u32(&mut rest)?, take_u32(&mut rest)?);
                    if count == 0 || !header.are_in_tree(start, count) {
                        return Err(Damaged("a list lies outside of the file"));
                    }
                    Postings::Blocks { start, count }
                };
                Ok(Body::List(head, postings))
            }
            TAG_VALUE => Ok(Body::Value(rest)),
            TAG_LONG_VALUE => {
                let len = usize::try_from(take_varint(&mut rest)?).unwrap_or(usize::MAX);
                let start = take_u32(&mut rest)?;
                match value_block_count(len) {
                    Some(count) if header.are_in_tree(start, count) => {
                        Ok(Body::LongValue { len, start, count })
                    }
                    _ => Err(Damaged("a value lies outside of the file")),
                }
            }
            TAG_DELETED => Ok(Body::Deleted),
            _ => Err(Damaged("a cell is of no known sort")),
        }
    }
}

fn take_u32(bytes: &mut &[u8]) -> Decoded<u32> {
    u32::try_from(take_varint(bytes)?).map_err(|_| Damaged("a block number is over 32 bits"))
}

fn take_head(bytes: &mut &[u8], header: &Header) -> Decoded<ListHead> {
    let count = take_varint(bytes)?;
    let first = header.first.checked_add(take_varint(bytes)?);
    let distance = take_varint(bytes)?;
    let last = first.and_then(|first| first.checked_add(distance));
    let first_version = take_varint(bytes)?;
    match (first, last) {
        (Some(first), Some(last)) if last <= header.last && count > 0 && count - 1 <= distance => {
            Ok(ListHead {
                count,
                first,
                last,
                first_version,
            })
        }
        _ => Err(Damaged("a list has an impossible count or range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_short_and_between() {
        assert_eq!(separator(b"abc", b"abd"), b"abd");
        assert_eq!(separator(b"abc", b"b123"), b"b");
        assert_eq!(separator(b"abc", b"abcd"), b"abcd");
        assert_eq!(separator(b"", b"x"), b"x");
    }

    #[test]
    fn keys_are_found_and_gaps_too() {
        let mut builder = NodeBuilder::default();
        for key in [b"order-1".as_slice(), b"order-3", b"order-33"] {
            assert!(builder.push(key, key));
        }
        assert_eq!(builder.last_key(), b"order-33");
        let block = builder.finish(0).unwrap();
        let node = Node::decode(&block, 0).unwrap();
        assert_eq!((node.prefix, node.count), (b"order-".as_slice(), 3));
        let find = |key: &[u8]| {
            let found = node.find(key).unwrap();
            (found.cell, found.is_equal)
        };
        assert_eq!(find(b"order-1"), (0, true));
        assert_eq!(find(b"order-2"), (1, false));
        assert_eq!(find(b"order-33"), (2, true));
        assert_eq!(find(b"order-4"), (3, false));
        assert_eq!(find(b"ord"), (0, false));
        assert_eq!(find(b"p"), (3, false));
        let body = node.cell(1).unwrap().body;
        assert_eq!(&block.payload()[body], b"order-3");
        assert!(Node::decode(&block, 1).is_err());
    }

    /// Every node of two of these keys, asked for every one of them: what all keys begin with, fronts that
    /// are equal though the keys are not, and keys that end before what stands behind them.
    #[test]
    fn keys_compare_as_bytes_do() {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for front_len in [0, 1, FRONT_LEN - 2, FRONT_LEN - 1, FRONT_LEN, FRONT_LEN + 1] {
            for end in [&[0][..], &[1], &[255], &[0, 0], &[0, 1], &[255, 255]] {
                keys.push([&vec![0; front_len], end].concat());
                keys.push([&vec![200; front_len], end].concat());
            }
        }
        keys.sort();
        keys.dedup();
        for (first, one) in keys.iter().enumerate() {
            for other in &keys[first + 1..] {
                let mut builder = NodeBuilder::default();
                assert!(builder.push(one, &[255; 2]) && builder.push(other, &[0; 9]));
                let block = builder.finish(0).unwrap();
                let node = Node::decode(&block, 0).unwrap();
                for key in &keys {
                    let found = node.find(key).unwrap();
                    let less = usize::from(one < key) + usize::from(other < key);
                    let is_equal = key == one || key == other;
                    assert_eq!(
                        (found.cell, found.is_equal),
                        (less, is_equal),
                        "{key:?} among {one:?} and {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn full_keys_of_all_lengths() {
        for len in 0..=KEY_LEN_MAX {
            let key: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let full = FullKey::new(KeyKind::Tag, &key).unwrap();
            assert_eq!(
                full.as_slice().split_first(),
                Some((&(KeyKind::Tag as u8), &*key))
            );
        }
        assert!(FullKey::new(KeyKind::Tag, &[0; KEY_LEN_MAX + 1]).is_none());
    }

    #[test]
    fn three_of_the_longest_separators_fit() {
        let mut builder = NodeBuilder::default();
        for first in 0..3 {
            let mut key = [7; 1 + KEY_LEN_MAX];
            key[0] = first;
            assert!(builder.push(&key, &[0; 4]));
        }
        assert!(builder.finish(1).is_some());
    }

    #[test]
    fn the_largest_leaf_cells_fit_alone() {
        let mut builder = NodeBuilder::default();
        let key = [7; 1 + KEY_LEN_MAX];
        assert!(builder.push(&key, &[0; 1 + VALUE_INLINE_MAX]));
        assert!(builder.finish(0).is_some());
        assert!(builder.push(&key, &[0; 1 + 6 * 10 + INLINE_LEN_MAX]));
    }
}
