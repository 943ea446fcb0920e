//! Places and numbers: the two ways to point into a log.
//!
//! An [`Lsn`] is a place in bytes, a [`Seq`] counts records. Both only grow and neither is ever
//! given twice to different committed content (FORMAT.md sections 7 and 8).

use std::fmt;

/// A place in the log, in bytes (FORMAT.md section 8). 0 means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lsn(pub u64);

/// A sequence number: counts records, COMMIT marks and CHECKPOINTs, dense from 1 (FORMAT.md
/// section 7). 0 means "before the first".
pub type Seq = u64;

impl Lsn {
    /// "No place."
    pub const NONE: Lsn = Lsn(0);
    /// LSN of the first frame of a new log.
    pub const FIRST: Lsn = Lsn(4096);

    /// The place `len` bytes further on, or `None` beyond the end of the number space.
    #[must_use]
    pub fn checked_add(self, len: u64) -> Option<Lsn> {
        self.0.checked_add(len).map(Lsn)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
