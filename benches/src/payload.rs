//! The bytes that are written: text, so that NDJSON can hold it as it is, and never the same record
//! twice in a row.

const POOL_LEN: usize = 4 << 20;

/// All pieces begin in so much of it: what a program appends it has just made, so that it does not come from
/// memory first.
const AT_HAND_LEN: usize = 256 << 10;

/// The caller's data: made before anything is measured, and lent to everybody.
pub struct Payload {
    pool: Vec<u8>,
}

impl Payload {
    pub fn new() -> Payload {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let pool = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            letters[(state >> 58) as usize]
        });
        Payload {
            pool: pool.take(POOL_LEN).collect(),
        }
    }

    /// `count` records of `len` bytes each, one behind the other, for the write that begins with
    /// record `index`.
    pub fn records(&self, index: u64, count: usize, len: usize) -> &[u8] {
        let total = count * len;
        let places = (POOL_LEN - total).min(AT_HAND_LEN) as u64;
        let begin = (index.wrapping_mul(4093) % places) as usize;
        &self.pool[begin..begin + total]
    }
}
