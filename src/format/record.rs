//! The record (FORMAT.md section 6): one operation given by the caller, inside a BATCH payload.

use super::frame::PAYLOAD_LEN_MAX;
use super::{get_u32, put};

/// Bytes of a record header.
pub const HEADER_LEN: usize = 12;
/// Greatest sum of key and value of one record (FORMAT.md section 16).
pub const RECORD_LEN_MAX: usize = PAYLOAD_LEN_MAX - HEADER_LEN;
/// Operation: the key has this value now.
pub const OP_PUT: u8 = 1;
/// Operation: the key is gone.
pub const OP_DELETE: u8 = 2;
/// First operation that belongs to the event store.
pub const OP_EVENT_STORE_MIN: u8 = 16;
/// First operation that belongs to the application.
pub const OP_APPLICATION_MIN: u8 = 128;

/// The header of a record.
#[must_use]
pub fn encode_header(op: u8, key_len: u32, value_len: u32) -> [u8; HEADER_LEN] {
    let mut b = [0; HEADER_LEN];
    b[0] = op;
    put(&mut b, 4, &key_len.to_le_bytes());
    put(&mut b, 8, &value_len.to_le_bytes());
    b
}

/// Where the parts of a record lie in the bytes that hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordSpan {
    /// The operation.
    pub op: u8,
    /// Where the key begins.
    pub key_begin: usize,
    /// Where the key ends and the value begins.
    pub value_begin: usize,
    /// Where the value, and the record, ends.
    pub value_end: usize,
}

/// The record that begins at `at` in `payload`; `None` if it is not there in full or its op is 0.
#[must_use]
pub fn decode(payload: &[u8], at: usize) -> Option<RecordSpan> {
    let header = payload.get(at..at.checked_add(HEADER_LEN)?)?;
    let op = header[0];
    let key_len = get_u32(header, 4) as usize;
    let value_len = get_u32(header, 8) as usize;
    let key_begin = at + HEADER_LEN;
    let value_begin = key_begin.checked_add(key_len)?;
    let value_end = value_begin.checked_add(value_len)?;
    (op != 0 && value_end <= payload.len()).then_some(RecordSpan {
        op,
        key_begin,
        value_begin,
        value_end,
    })
}

/// Whether exactly `count` records fill `payload` exactly (FORMAT.md section 11.4).
#[must_use]
pub fn fill_exactly(payload: &[u8], count: u32) -> bool {
    let mut at = 0;
    for _ in 0..count {
        match decode(payload, at) {
            Some(span) => at = span.value_end,
            None => return false,
        }
    }
    at == payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut payload = encode_header(OP_PUT, 1, 2).to_vec();
        payload.extend_from_slice(b"kvv");
        assert!(fill_exactly(&payload, 1));
        assert!(!fill_exactly(&payload, 2));
        assert!(!fill_exactly(&payload[..14], 1));
        let huge = encode_header(OP_PUT, u32::MAX, u32::MAX);
        assert_eq!(decode(&huge, 0), None);
        assert_eq!(decode(&payload, usize::MAX), None);
    }
}
