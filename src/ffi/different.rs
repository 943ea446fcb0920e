//! Which of few texts, such as event types, each part of a column is.

use crate::format::get_u64;

/// As many can be told apart.
const DIFFERENT_MAX: usize = 256;
/// As many slots are looked at for one part: texts that were made to fall into the same slots are taken
/// for too many.
const PROBES_MAX: usize = 32;

/// The different parts so far, in a table of twice as many slots as there can be.
pub(super) struct Different<'a> {
    bytes: &'a [u8],
    spans: [(u32, u32); DIFFERENT_MAX],
    count: usize,
    /// One more than the number of the part there; 0: none.
    slots: [u16; 2 * DIFFERENT_MAX],
}

impl<'a> Different<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Different<'a> {
        Different {
            bytes,
            spans: [(0, 0); DIFFERENT_MAX],
            count: 0,
            slots: [0; 2 * DIFFERENT_MAX],
        }
    }

    /// The number of a part, which lies there; `None` if there is no place for it.
    pub(super) fn number_of(&mut self, part: &[u8], span: (u32, u32)) -> Option<u8> {
        let first = hash(part);
        for probe in 0..PROBES_MAX {
            let slot = self.slots.get_mut((first + probe) % (2 * DIFFERENT_MAX))?;
            let Some(number) = slot.checked_sub(1) else {
                let number = u8::try_from(self.count).ok()?;
                *slot = u16::from(number) + 1;
                *self.spans.get_mut(self.count)? = span;
                self.count += 1;
                return Some(number);
            };
            let (begin, end) = *self.spans.get(usize::from(number))?;
            if self.bytes.get(begin as usize..end as usize)? == part {
                return u8::try_from(number).ok();
            }
        }
        None
    }

    /// Where they lie, in the order of their numbers.
    pub(super) fn spans(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.spans.iter().take(self.count).copied()
    }
}

/// Spreads what programs call their events; nobody relies on it.
fn hash(part: &[u8]) -> usize {
    let mut sum = part.len() as u64;
    let mut add = |word: u64| {
        sum = (sum.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    };
    let words = part.chunks_exact(8);
    let mut rest = 0;
    for &byte in words.remainder() {
        rest = rest << 8 | u64::from(byte);
    }
    words.for_each(|word| add(get_u64(word, 0)));
    add(rest);
    usize::try_from(sum >> 48).unwrap_or(0)
}
