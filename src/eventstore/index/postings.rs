//! Lists of positions as bytes: the first position, then the differences from each to the next as
//! variable-length integers (LEB128), so that a dense list takes a byte per event.
//!
//! A short list stands beside its key. A long one has blocks of its own, each readable alone:
//!
//! | Offset | Size | Name | |
//! |---|---|---|---|
//! | 0 | 1 | sort | |
//! | 2 | 2 | count | positions in this block |
//! | 4 | 2 | len | bytes of differences |
//! | 8 | 8 | first | the first position |
//! | 16 | 8 | index | which of the list it is, from 0 |
//! | 24 | len | differences | count - 1 of them |
//!
//! `first` is for looking up a position and `index` for looking up a stream version, each by a
//! binary search over the blocks of the list.

use super::block::{sort, Block, Damaged, Decoded, PAYLOAD_LEN};
use crate::format::{get_u16, get_u64, put};

/// A list with more bytes of differences gets blocks of its own.
pub(super) const INLINE_LEN_MAX: usize = 512;
const DELTAS_START: usize = 24;
/// Bytes of differences that fit into a block.
const DELTAS_LEN_MAX: usize = PAYLOAD_LEN - DELTAS_START;
/// The longest variable-length integer.
const VARINT_LEN_MAX: usize = 10;

/// Appends a variable-length integer: seven bits a byte, the lowest first; the high bit says that
/// another byte follows.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7F);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes a variable-length integer from the front.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Decoded<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err(Damaged("a number is cut off"));
        };
        *bytes = rest;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && byte > 1 {
            return Err(Damaged("a number is over 64 bits"));
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Damaged("a number is over 64 bits"))
}

/// Ascending positions, read one by one. Ends after the first error.
pub(super) struct Positions<'a> {
    next: u64,
    left: u64,
    last: u64,
    deltas: &'a [u8],
}

impl<'a> Positions<'a> {
    /// `count` positions from `first` on, none over `last`.
    pub(super) fn new(first: u64, count: u64, last: u64, deltas: &'a [u8]) -> Positions<'a> {
        Positions {
            next: first,
            left: count,
            last,
            deltas,
        }
    }
}

impl Iterator for Positions<'_> {
    type Item = Decoded<u64>;

    fn next(&mut self) -> Option<Decoded<u64>> {
        if self.left == 0 {
            return None;
        }
        let position = self.next;
        if position > self.last {
            self.left = 0;
            return Some(Err(Damaged("a position is beyond the end of its list")));
        }
        self.left -= 1;
        if self.left > 0 {
            let following = take_varint(&mut self.deltas).and_then(|delta| {
                let sum = position.checked_add(delta);
                sum.filter(|&sum| sum > position)
                    .ok_or(Damaged("the positions of a list do not ascend"))
            });
            match following {
                Ok(following) => self.next = following,
                Err(damaged) => {
                    self.left = 0;
                    return Some(Err(damaged));
                }
            }
        }
        Some(Ok(position))
    }
}

/// A block of positions, looked into.
pub(super) struct PostingBlock<'a> {
    pub(super) count: u64,
    pub(super) first: u64,
    /// Which of the list the first is.
    pub(super) index: u64,
    deltas: &'a [u8],
}

impl<'a> PostingBlock<'a> {
    pub(super) fn decode(block: &'a Block) -> Decoded<PostingBlock<'a>> {
        let bytes = block.payload();
        let len = usize::from(get_u16(bytes, 4));
        let count = u64::from(get_u16(bytes, 2));
        let deltas = bytes.get(DELTAS_START..DELTAS_START + len);
        match deltas {
            Some(deltas) if block.sort() == sort::POSTINGS && count > 0 => Ok(PostingBlock {
                count,
                first: get_u64(bytes, 8),
                index: get_u64(bytes, 16),
                deltas,
            }),
            _ => Err(Damaged("it does not hold positions")),
        }
    }

    /// Its positions; none may be over `last`.
    pub(super) fn positions(&self, last: u64) -> Positions<'a> {
        Positions::new(self.first, self.count, last, self.deltas)
    }
}

/// A list that is being encoded. Positions go in; full blocks come out, and at the end what is
/// left, which is all of it if the list is short.
#[derive(Default)]
pub(super) struct ListEncoder {
    /// Positions of the list so far.
    pub(super) count: u64,
    /// The first of the list.
    pub(super) first: u64,
    /// The last of the list so far.
    pub(super) last: u64,
    /// Differences that are in no block yet.
    deltas: Vec<u8>,
    /// Positions that are in no block yet.
    waiting: u16,
    /// The first of those.
    waiting_first: u64,
}

impl ListEncoder {
    /// Begins another list.
    pub(super) fn clear(&mut self) {
        self.deltas.clear();
        *self = ListEncoder {
            deltas: std::mem::take(&mut self.deltas),
            ..ListEncoder::default()
        };
    }

    /// Adds a position, which must be greater than the last. Gives a block that became full.
    pub(super) fn push(&mut self, position: u64) -> Option<Block> {
        let full = self.deltas.len() + VARINT_LEN_MAX > DELTAS_LEN_MAX;
        let block = full.then(|| self.take_block());
        if self.waiting == 0 {
            self.waiting_first = position;
        } else {
            put_varint(&mut self.deltas, position - self.last);
        }
        if self.count == 0 {
            self.first = position;
        }
        self.count += 1;
        self.waiting += 1;
        self.last = position;
        block
    }

    /// All differences of the list, if it is short enough to stand beside its key.
    pub(super) fn inline(&self) -> Option<&[u8]> {
        let whole = self.count == u64::from(self.waiting);
        (whole && self.deltas.len() <= INLINE_LEN_MAX).then_some(&self.deltas)
    }

    /// The block of what is left.
    pub(super) fn take_block(&mut self) -> Block {
        let mut block = Block::zeroed();
        let len = u16::try_from(self.deltas.len()).unwrap_or(u16::MAX);
        let bytes = block.payload_mut();
        put(bytes, 0, &[sort::POSTINGS]);
        put(bytes, 2, &self.waiting.to_le_bytes());
        put(bytes, 4, &len.to_le_bytes());
        put(bytes, 8, &self.waiting_first.to_le_bytes());
        let index = self.count - u64::from(self.waiting);
        put(bytes, 16, &index.to_le_bytes());
        put(bytes, DELTAS_START, &self.deltas);
        self.deltas.clear();
        self.waiting = 0;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_their_bytes() {
        let numbers = [0, 1, 127, 128, 16383, 16384, 1 << 62, u64::MAX];
        let lens = [1, 1, 1, 2, 2, 3, 9, 10];
        for (number, len) in numbers.into_iter().zip(lens) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(bytes.len(), len);
            let mut rest = bytes.as_slice();
            assert_eq!(take_varint(&mut rest), Ok(number));
            assert!(rest.is_empty());
            assert!(take_varint(&mut &bytes[..len - 1]).is_err());
        }
        let over = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2];
        assert!(take_varint(&mut over.as_slice()).is_err());
    }

    #[test]
    fn positions_that_do_not_ascend_or_leave_the_list_end_it() {
        let read = |deltas: &[u8], last| Positions::new(5, 3, last, deltas).collect::<Vec<_>>();
        assert_eq!(read(&[1, 1], 7), [Ok(5), Ok(6), Ok(7)]);
        assert!(read(&[1, 1], 6).last().is_some_and(Result::is_err));
        assert!(read(&[1, 0], 7).last().is_some_and(Result::is_err));
        assert!(read(&[1], 7).last().is_some_and(Result::is_err));
    }

    #[test]
    fn blocks_of_a_long_list_know_their_place_in_it() {
        let mut encoder = ListEncoder::default();
        let mut blocks: Vec<Block> = (0..20_000).filter_map(|n| encoder.push(3 + n)).collect();
        assert!(encoder.inline().is_none());
        blocks.push(encoder.take_block());
        let mut index = 0;
        for block in &blocks {
            let block = PostingBlock::decode(block).unwrap();
            assert_eq!((block.index, block.first), (index, 3 + index));
            for position in block.positions(u64::MAX) {
                assert_eq!(position, Ok(3 + index));
                index += 1;
            }
        }
        assert_eq!(index, 20_000);
    }
}
