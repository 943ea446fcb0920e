//! The tail page (FORMAT.md section 10): what processes share while a log is open. It is never
//! synced and may be lost; what it promises is believed only in the boot that wrote it.

use super::checksum::crc32;
use super::{get_array, get_u64};
use crate::lsn::Lsn;

/// First eight bytes.
pub const MAGIC: [u8; 8] = [0x8F, b'D', b'U', b'R', b'T', b'L', b'P', b'\n'];
/// Size of the page.
pub const PAGE_LEN: usize = 4096;
/// Word (index of a u64) that holds `acknowledged_lsn`.
pub const WORD_ACKNOWLEDGED: usize = 5;
/// Word with the wake counter (low half) and the writer's process id (high half).
pub const WORD_WAKE: usize = 6;
/// Word with the number of the segment being written.
pub const WORD_SEGMENT: usize = 7;
/// First word of each evidence slot: `durable_lsn`, then its check.
pub const WORDS_EVIDENCE: [usize; 2] = [8, 16];

/// The check word of an evidence slot: believed only together with what it covers.
#[must_use]
pub fn evidence_check(log_id: &[u8; 16], boot_id: &[u8; 16], durable_lsn: Lsn) -> u64 {
    let mut covered = [0; 40];
    covered[..16].copy_from_slice(log_id);
    covered[16..32].copy_from_slice(boot_id);
    covered[32..].copy_from_slice(&durable_lsn.0.to_le_bytes());
    u64::from(crc32(&covered))
}

/// The five words that identify a page: magic, log id, boot id.
#[must_use]
pub fn identity_words(log_id: &[u8; 16], boot_id: &[u8; 16]) -> [u64; 5] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(log_id);
    bytes[24..].copy_from_slice(boot_id);
    std::array::from_fn(|word| get_u64(&bytes, word * 8))
}

/// What a tail page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TailPage {
    /// Readers beside a live writer stop here.
    pub acknowledged_lsn: Lsn,
    /// Promise: the greatest evidence slot whose check holds; 0 if none does.
    pub durable_lsn: Lsn,
    /// The segment being written.
    pub segment_number: u64,
}

/// Reads a page of this log in this boot; `None` if it is of another log or boot, or no page.
#[must_use]
pub fn decode(bytes: &[u8], log_id: &[u8; 16], boot_id: &[u8; 16]) -> Option<TailPage> {
    let page = bytes.get(..PAGE_LEN)?;
    let ours = page[..8] == MAGIC
        && get_array::<16>(page, 8) == *log_id
        && get_array::<16>(page, 24) == *boot_id;
    if !ours {
        return None;
    }
    let evidence = WORDS_EVIDENCE.map(|word| {
        let durable_lsn = Lsn(get_u64(page, word * 8));
        let holds = get_u64(page, word * 8 + 8) == evidence_check(log_id, boot_id, durable_lsn);
        if holds {
            durable_lsn
        } else {
            Lsn::NONE
        }
    });
    Some(TailPage {
        acknowledged_lsn: Lsn(get_u64(page, WORD_ACKNOWLEDGED * 8)),
        durable_lsn: evidence[0].max(evidence[1]),
        segment_number: get_u64(page, WORD_SEGMENT * 8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_counts_only_with_its_check_and_in_its_boot() {
        let (log_id, boot_id) = ([1; 16], [2; 16]);
        let mut words = [0u64; 512];
        words[..5].copy_from_slice(&identity_words(&log_id, &boot_id));
        words[WORDS_EVIDENCE[0]] = 4096;
        words[WORDS_EVIDENCE[0] + 1] = evidence_check(&log_id, &boot_id, Lsn(4096));
        words[WORDS_EVIDENCE[1]] = 9000;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let page = decode(&bytes, &log_id, &boot_id).unwrap();
        assert_eq!(page.durable_lsn, Lsn(4096));
        assert_eq!(decode(&bytes, &log_id, &[3; 16]), None);
        assert_eq!(decode(&bytes[..4095], &log_id, &boot_id), None);
    }
}
