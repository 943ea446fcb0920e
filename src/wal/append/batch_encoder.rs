//! Step 1 of 3 of appending: records become the payloads of frames, with their checksums.
//!
//! Runs in the caller's thread and outside every lock. Everything that can be wrong with a batch is
//! found here, before a byte of it is written.

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32;
use crate::format::frame::HEADER_LEN as HEADER_ROOM;
use crate::format::record::{
    encode_header, HEADER_LEN, OP_APPLICATION_MIN, OP_DELETE, OP_EVENT_STORE_MIN, OP_PUT,
    RECORD_LEN_MAX,
};

/// One operation to append. The bytes are copied out before the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// 1 PUT, 2 DELETE, or 128 to 255 for the application's own.
    pub op: u8,
    /// May be empty.
    pub key: &'a [u8],
    /// May be empty; must be for DELETE.
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// "The key has this value now."
    #[must_use]
    pub fn put(key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record {
            op: OP_PUT,
            key,
            value,
        }
    }

    /// "The key is gone."
    #[must_use]
    pub fn delete(key: &'a [u8]) -> Record<'a> {
        Record {
            op: OP_DELETE,
            key,
            value: &[],
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        HEADER_LEN + self.key.len() + self.value.len()
    }

    /// What stands before key and value. The record has been checked.
    pub(crate) fn encoded_header(&self) -> [u8; HEADER_LEN] {
        let key_len = u32::try_from(self.key.len()).unwrap_or(u32::MAX);
        let value_len = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
        encode_header(self.op, key_len, value_len)
    }
}

/// A batch that can be asked for its records by index, as often as needed.
pub trait BatchSource {
    /// How many records there are.
    fn count(&self) -> usize;
    /// One of them; `index` is below `count`.
    fn record(&self, index: usize) -> Record<'_>;
}

impl BatchSource for [Record<'_>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        self[index]
    }
}

/// A batch in one buffer: `bytes` holds key and value of the first record, then of the second, and
/// so on.
#[derive(Clone, Copy, Debug)]
pub struct PackedBatch<'a> {
    /// Operations, one per record; all PUT if absent.
    pub ops: Option<&'a [u8]>,
    /// Lengths of the keys, one per record; all empty if absent.
    pub key_lens: Option<&'a [u32]>,
    /// Lengths of the values, one per record.
    pub value_lens: &'a [u32],
    /// Keys and values.
    pub bytes: &'a [u8],
}

impl<'a> PackedBatch<'a> {
    /// Checks that the columns are of equal length and that the lengths fill `bytes` exactly.
    pub(crate) fn check(&self) -> Result<()> {
        let count = self.value_lens.len();
        let equal = self.ops.is_none_or(|ops| ops.len() == count)
            && self.key_lens.is_none_or(|lens| lens.len() == count);
        if !equal {
            return Err(Error::invalid(format!(
                "the columns of a packed batch differ in length; value_lens has {count}"
            )));
        }
        let mut sum = 0u64;
        for index in 0..count {
            sum += u64::from(self.key_len(index)) + u64::from(self.value_lens[index]);
        }
        if sum == self.bytes.len() as u64 {
            Ok(())
        } else {
            Err(Error::invalid(format!(
                "the lengths of a packed batch add up to {sum} bytes, there are {}",
                self.bytes.len()
            )))
        }
    }

    fn key_len(&self, index: usize) -> u32 {
        self.key_lens.map_or(0, |lens| lens[index])
    }

    /// The records in order. [`check`](Self::check) has passed.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'a>> + '_ {
        let mut at = 0;
        (0..self.value_lens.len()).map(move |index| {
            let value_begin = at + self.key_len(index) as usize;
            let value_end = value_begin + self.value_lens[index] as usize;
            let record = Record {
                op: self.ops.map_or(OP_PUT, |ops| ops[index]),
                key: self.bytes.get(at..value_begin).unwrap_or_default(),
                value: self.bytes.get(value_begin..value_end).unwrap_or_default(),
            };
            at = value_end;
            record
        })
    }
}

/// The payload of one frame.
#[derive(Debug, Default)]
pub(crate) struct EncodedPayload {
    /// Behind room for the header of the frame, so that a group which has no frame yet can take all of it
    /// without a copy. Empty at first.
    frame: Vec<u8>,
    pub(crate) crc: u32,
    pub(crate) record_count: u32,
}

impl EncodedPayload {
    pub(crate) fn clear(&mut self) {
        self.frame.clear();
        self.crc = 0;
        self.record_count = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.frame.get(HEADER_ROOM..).unwrap_or_default()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.frame.capacity()
    }

    /// That memory, for another use; [`clear`](Self::clear) comes before the next.
    pub(crate) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.frame
    }

    /// Gives the frame, header still to be filled in, for other memory, which is empty.
    pub(crate) fn swap_frame(&mut self, empty: &mut Vec<u8>) {
        std::mem::swap(&mut self.frame, empty);
    }

    /// Makes room for so many bytes more.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<()> {
        let header = HEADER_ROOM.saturating_sub(self.frame.len());
        self.frame
            .try_reserve(len.saturating_add(header))
            .map_err(|_| Error::no_memory("a batch", len))?;
        if header > 0 {
            self.frame.resize(HEADER_ROOM, 0);
        }
        Ok(())
    }

    /// Adds bytes for which room was made.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.frame.extend_from_slice(bytes);
    }

    /// Adds a record, which has been checked.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record<'_>) -> Result<()> {
        self.reserve(record.encoded_len())?;
        self.extend(&record.encoded_header());
        self.extend(record.key);
        self.extend(record.value);
        self.record_count += 1;
        Ok(())
    }

    /// The payload is complete.
    pub(crate) fn seal(&mut self) {
        self.crc = crc32(self.bytes());
    }
}

/// Who may use which operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Author {
    Application,
    EventStore,
}

/// Checks one record; `index` is its place in the batch, for the message.
#[inline]
fn check_record(record: &Record<'_>, index: usize, author: Author) -> Result<()> {
    let len = record.key.len().saturating_add(record.value.len());
    let allowed = match record.op {
        OP_PUT | OP_APPLICATION_MIN.. => true,
        OP_DELETE => record.value.is_empty(),
        OP_EVENT_STORE_MIN..OP_APPLICATION_MIN => author == Author::EventStore,
        _ => false,
    };
    if allowed && len <= RECORD_LEN_MAX {
        return Ok(());
    }
    Err(refusal(record, index, len))
}

/// Why this record is refused. Apart from the check, which is made for every record.
#[cold]
fn refusal(record: &Record<'_>, index: usize, len: usize) -> Error {
    if len > RECORD_LEN_MAX {
        return Error::new(
            ErrorKind::TooLarge,
            format!("record {index} has {len} bytes, at most {RECORD_LEN_MAX} are allowed"),
        );
    }
    if record.op == OP_DELETE {
        return Error::invalid(format!(
            "record {index}: DELETE with a value of {} bytes",
            record.value.len()
        ));
    }
    Error::invalid(format!(
        "record {index}: op {} is not the application's; allowed are 1, 2 and 128 to 255",
        record.op
    ))
}

/// Checks a whole batch and returns how many bytes its records take.
pub(crate) fn check_batch<'a>(
    records: impl Iterator<Item = Record<'a>>,
    author: Author,
) -> Result<u64> {
    let mut total = 0u64;
    let mut count = 0usize;
    for (index, record) in records.enumerate() {
        check_record(&record, index, author)?;
        total += record.encoded_len() as u64;
        count += 1;
    }
    if count == 0 {
        return Err(Error::new(
            ErrorKind::EmptyBatch,
            "a batch needs at least one record",
        ));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::fill_exactly;

    #[test]
    fn packed_lengths_that_do_not_add_up_are_refused() {
        let packed = PackedBatch {
            ops: None,
            key_lens: Some(&[1, 2]),
            value_lens: &[3, u32::MAX],
            bytes: b"abcdef",
        };
        assert_eq!(
            packed.check().unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        let short = PackedBatch {
            key_lens: Some(&[1]),
            value_lens: &[1, 1],
            ..packed
        };
        assert_eq!(
            short.check().unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }

    #[test]
    fn packed_records_come_back_in_order() {
        let packed = PackedBatch {
            ops: Some(&[1, 2]),
            key_lens: Some(&[1, 2]),
            value_lens: &[3, 0],
            bytes: b"kvvvKK",
        };
        packed.check().unwrap();
        let records: Vec<_> = packed.records().collect();
        assert_eq!(records, [Record::put(b"k", b"vvv"), Record::delete(b"KK")]);
    }

    #[test]
    fn operations_that_belong_to_others_are_refused() {
        for (op, good) in [
            (0, false),
            (1, true),
            (3, false),
            (16, false),
            (127, false),
            (128, true),
            (255, true),
        ] {
            let record = Record {
                op,
                key: b"",
                value: b"",
            };
            assert_eq!(
                check_record(&record, 0, Author::Application).is_ok(),
                good,
                "{op}"
            );
        }
        assert!(check_record(
            &Record {
                op: 16,
                key: b"",
                value: b""
            },
            0,
            Author::EventStore
        )
        .is_ok());
        assert!(check_record(
            &Record {
                op: 2,
                key: b"",
                value: b"x"
            },
            0,
            Author::Application
        )
        .is_err());
    }

    #[test]
    fn a_payload_is_filled_exactly() {
        let mut payload = EncodedPayload::default();
        payload.push(&Record::put(b"key", b"value")).unwrap();
        payload.push(&Record::delete(b"key")).unwrap();
        payload.seal();
        assert!(fill_exactly(payload.bytes(), payload.record_count));
        assert_eq!(payload.crc, crc32(payload.bytes()));
    }
}
