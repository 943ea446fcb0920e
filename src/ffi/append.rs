//! Writing: single records and batches.
//!
//! Step 0 of the append path: pointers and lengths are checked here, wholly and before the first
//! byte is touched, and become a [`Record`], a [`BatchSource`] or a [`PackedBatch`], which the
//! engine encodes straight from the caller's memory.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::guard::guard;
use super::handle;
use super::status::{duralog_status_t, OK};
use super::wal::wal_t;
use crate::error::{Error, Result};
use crate::wal::{BatchSource, Durability, PackedBatch, Record};

/// In op of a record: the value is put under the key. What that means is the application's affair:
/// the log keeps both as they are.
pub const WAL_OP_PUT: u8 = 1;
/// In op of a record: the key is deleted.
pub const WAL_OP_DELETE: u8 = 2;
/// In op of a record: from here to 255 the numbers are the application's own. All others are
/// reserved.
pub const WAL_OP_APPLICATION_MIN: u8 = 128;

/// In flags of the append functions: return when the batch is durable, whatever sync_mode says.
pub const WAL_APPEND_DURABLE: u32 = 1;

/// One record of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_op_t {
    /// NULL only if key_len is 0.
    pub key: *const u8,
    /// NULL only if value_len is 0.
    pub value: *const u8,
    /// Length of the key in bytes. Key and value together: at most 67,108,852.
    pub key_len: usize,
    /// Length of the value in bytes.
    pub value_len: usize,
    /// WAL_OP_PUT, WAL_OP_DELETE, or 128 to 255.
    pub op: u8,
    /// 0.
    pub reserved: [u8; 7],
}

/// Appends one record, atomically. It takes one sequence number.
///
/// op: WAL_OP_PUT, WAL_OP_DELETE, or 128 to 255.
/// key, value: bytes, NULL only with length 0; together at most 67,108,852.
/// flags: 0 or WAL_APPEND_DURABLE.
/// out_seq: sequence number of the record; may be NULL.
///
/// Returns DURALOG_OK: acknowledged, and durable unless sync_mode says otherwise;
/// DURALOG_E_TOO_LARGE, DURALOG_E_FULL: nothing was written, the handle stays usable;
/// DURALOG_E_INDETERMINATE: the write or sync failed, the record may be there after reopening or
/// not; the last error holds its batch id in lsn;
/// DURALOG_E_POISONED: an earlier write or sync had failed, nothing was written;
/// DURALOG_E_READ_ONLY.
#[no_mangle]
pub unsafe extern "C" fn wal_append(
    wal: *mut wal_t,
    op: u8,
    key: *const u8,
    key_len: usize,
    value: *const u8,
    value_len: usize,
    flags: u32,
    out_seq: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared_in_call("wal", wal) }?;
        let durability = durability(flags)?;
        args::check_record(key, key_len, value, value_len)?;
        // SAFETY: conventions 2 and 4: the caller promises that the bytes are there, unchanged, and
        // the place writable, for the time of this call; the slices do not outlive it.
        let (key, value, out_seq) = unsafe {
            (
                args::array("key", key, key_len)?,
                args::array("value", value, value_len)?,
                Out::optional("out_seq", out_seq)?,
            )
        };
        let receipt = wal.append(Record { op, key, value }, durability)?;
        out_seq.set(receipt.seq);
        Ok(OK)
    })
}

/// Appends a batch: all its records or none, whatever happens. Its records take one sequence
/// number each, and its COMMIT takes the next one.
///
/// ops: array of count records.
/// count: 1 or more.
/// flags: 0 or WAL_APPEND_DURABLE.
/// out_seq: sequence number of the COMMIT, one more than that of the last record; may be NULL.
///
/// Returns as wal_append does, for the batch as a whole;
/// DURALOG_E_EMPTY_BATCH: count is 0.
#[no_mangle]
pub unsafe extern "C" fn wal_append_batch(
    wal: *mut wal_t,
    ops: *const wal_op_t,
    count: usize,
    flags: u32,
    out_seq: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared_in_call("wal", wal) }?;
        let durability = durability(flags)?;
        // SAFETY: conventions 2 and 4: the caller promises that the array and the bytes it points
        // to are there, unchanged, and the place writable, for the time of this call; `operations`
        // does not outlive it.
        let (operations, out_seq) = unsafe {
            (
                Operations::new(ops, count)?,
                Out::optional("out_seq", out_seq)?,
            )
        };
        let receipt = wal.append_source(&operations, durability)?;
        out_seq.set(receipt.seq);
        Ok(OK)
    })
}

/// Appends a batch given in columns, for callers to whom an array of structs is expensive. The
/// same batch as wal_append_batch makes of the same records.
///
/// count: number of records, 1 or more.
/// ops: op of each record; NULL: WAL_OP_PUT for all.
/// key_lens: length of each key; NULL: all keys are empty.
/// value_lens: length of each value.
/// bytes, bytes_len: key 0, value 0, key 1, value 1 and so on, without anything between;
/// bytes_len is the sum of all lengths.
/// flags, out_seq: as in wal_append_batch.
///
/// Returns as wal_append_batch does;
/// DURALOG_E_INVALID_ARGUMENT: also if bytes_len is not the sum of all lengths.
#[no_mangle]
pub unsafe extern "C" fn wal_append_batch_packed(
    wal: *mut wal_t,
    count: usize,
    ops: *const u8,
    key_lens: *const u32,
    value_lens: *const u32,
    bytes: *const u8,
    bytes_len: usize,
    flags: u32,
    out_seq: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open handle.
        let wal = unsafe { handle::shared_in_call("wal", wal) }?;
        let durability = durability(flags)?;
        // SAFETY: conventions 2 and 4: the caller promises that the arrays are there, unchanged,
        // and the place writable, for the time of this call; the batch does not outlive it.
        let (batch, out_seq) = unsafe {
            (
                packed(count, ops, key_lens, value_lens, bytes, bytes_len)?,
                Out::optional("out_seq", out_seq)?,
            )
        };
        let receipt = wal.append_packed(&batch, durability)?;
        out_seq.set(receipt.seq);
        Ok(OK)
    })
}

pub(super) fn durability(flags: u32) -> Result<Durability> {
    match flags {
        0 => Ok(Durability::AsOpened),
        WAL_APPEND_DURABLE => Ok(Durability::Durable),
        _ => Err(Error::invalid(format!(
            "flags {flags:#x} has unknown flags, known is WAL_APPEND_DURABLE"
        ))),
    }
}

/// An array of the caller, every record of which was checked.
pub(super) struct Operations<'a> {
    ops: &'a [wal_op_t],
}

impl Operations<'_> {
    /// Checks pointers and lengths of all records; touches no byte of keys and values.
    ///
    /// # Safety
    /// `ops` and what its records point to is there and unchanged as long as this value lives.
    pub(super) unsafe fn new(ops: *const wal_op_t, count: usize) -> Result<Self> {
        // SAFETY: the same promise.
        let ops = unsafe { args::array("ops", ops, count) }?;
        for (index, op) in ops.iter().enumerate() {
            args::check_record(op.key, op.key_len, op.value, op.value_len)
                .and_then(|()| match op.reserved {
                    [0, 0, 0, 0, 0, 0, 0] => Ok(()),
                    _ => Err(Error::invalid("reserved is not 0")),
                })
                .map_err(|error| in_record(error, index))?;
        }
        Ok(Operations { ops })
    }
}

impl BatchSource for Operations<'_> {
    fn count(&self) -> usize {
        self.ops.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        let op = &self.ops[index];
        Record {
            op: op.op,
            key: checked_bytes(op.key, op.key_len),
            value: checked_bytes(op.value, op.value_len),
        }
    }
}

/// Bytes of a record that [`Operations::new`] has checked; only for its `record`.
fn checked_bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: `Operations::new` found the pointer not NULL and the length possible, and the array
    // that holds both does not change (its promise, which also says that the bytes are there). The
    // lifetime is that of the `Operations`, by the signature of `record`.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// A batch in columns, every length of which was checked before the first byte is looked at.
///
/// # Safety
/// The arrays are there, `count` long, and unchanged as long as the batch lives, and so are the bytes.
pub(super) unsafe fn packed<'a>(
    count: usize,
    ops: *const u8,
    key_lens: *const u32,
    value_lens: *const u32,
    bytes: *const u8,
    bytes_len: usize,
) -> Result<PackedBatch<'a>> {
    // SAFETY: the same promise.
    let (ops, key_lens, value_lens) = unsafe {
        (
            args::optional_array("ops", ops, count)?,
            args::optional_array("key_lens", key_lens, count)?,
            args::array("value_lens", value_lens, count)?,
        )
    };
    args::check_array("bytes", bytes, bytes_len)?;
    check_packed(key_lens, value_lens, bytes_len)?;
    // SAFETY: the same promise; both things that tell the length agree on it.
    let bytes = unsafe { args::array("bytes", bytes, bytes_len) }?;
    Ok(PackedBatch {
        ops,
        key_lens,
        value_lens,
        bytes,
    })
}

/// Whether the lengths keep the limit and sum up to `bytes_len`.
fn check_packed(key_lens: Option<&[u32]>, value_lens: &[u32], bytes_len: usize) -> Result<()> {
    let mut sum = 0_u64;
    for (index, value_len) in value_lens.iter().enumerate() {
        let key_len = key_lens.map_or(0, |lens| lens[index]);
        // A length that a small usize can't hold is over the limit anyway.
        let [key, value] =
            [key_len, *value_len].map(|len| usize::try_from(len).unwrap_or(usize::MAX));
        args::check_record_len(key, value).map_err(|error| in_record(error, index))?;
        // Each record is below 2^27 bytes and there are fewer than 2^62: no overflow.
        sum += u64::from(key_len) + u64::from(*value_len);
    }
    if usize::try_from(sum) == Ok(bytes_len) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "bytes_len is {bytes_len}, but the lengths of keys and values sum up to {sum}"
        )))
    }
}

fn in_record(error: Error, index: usize) -> Error {
    let kind = error.kind();
    error.into_kind(kind, &format!("record {index} of the batch"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn packed_lengths_must_sum_up() {
        assert!(check_packed(Some(&[1, 2]), &[3, 4], 10).is_ok());
        assert!(check_packed(None, &[3, 4], 7).is_ok());
        assert!(check_packed(None, &[], 0).is_ok());
        for wrong in [0, 6, 8, usize::MAX] {
            let error = check_packed(None, &[3, 4], wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let error = check_packed(Some(&[u32::MAX]), &[u32::MAX], 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("record 0"), "{error}");
    }

    #[test]
    fn bad_record_is_named_by_its_index() {
        let good = wal_op_t {
            key: std::ptr::null(),
            value: std::ptr::null(),
            key_len: 0,
            value_len: 0,
            op: WAL_OP_PUT,
            reserved: [0; 7],
        };
        let bad = wal_op_t { key_len: 5, ..good };
        let ops = [good, good, bad];
        // SAFETY: a live array; the bad record is refused without looking at its bytes.
        let Err(error) = (unsafe { Operations::new(ops.as_ptr(), ops.len()) }) else {
            panic!("a NULL key of length 5 was accepted");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("record 2"), "{error}");
    }
}
