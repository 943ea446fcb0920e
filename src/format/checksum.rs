//! The one checksum of the format: CRC-32 IEEE (FORMAT.md section 1).

use crc32fast::Hasher;
use once_cell::sync::Lazy;

/// What the processor can do is found out once: asking for each frame would take a fifth of the time
/// that the checksum of its header takes.
static FRESH: Lazy<Hasher> = Lazy::new(Hasher::new);

/// CRC-32 IEEE of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut hasher = FRESH.clone();
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 IEEE of bytes that come in pieces.
#[derive(Default)]
pub(crate) struct Crc32(crc32fast::Hasher);

impl Crc32 {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that was added.
    pub(crate) fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_is_that_of_the_standard() {
        assert_eq!(super::crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(super::crc32(b""), 0);
        let mut pieces = super::Crc32::default();
        pieces.add(b"1234");
        pieces.add(b"56789");
        assert_eq!(pieces.value(), 0xCBF4_3926);
    }
}
