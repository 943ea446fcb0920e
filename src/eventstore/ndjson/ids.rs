//! UUIDs (RFC 9562) as texts, and those of names: version 5, which is cut from SHA-1 (FIPS 180-4).
//!
//! SHA-1 is no protection against those who look for two texts with one digest; here nobody gains
//! by finding them. Version 5 is what every language makes of the same event_id.

use crate::format::event::EventId;
use std::fmt::Write as _;

/// A UUID with its four hyphens, in either case.
pub(super) fn parse(text: &str) -> Option<EventId> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = [0; 16];
    let mut filled = 0;
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = u8::try_from(char::from(*byte).to_digit(16)?).ok()?;
        let target: &mut u8 = id.get_mut(filled / 2)?;
        *target = *target << 4 | digit;
        filled += 1;
    }
    Some(id)
}

/// A UUID in lower case, behind `out`.
pub(super) fn write(out: &mut String, id: &EventId) {
    for (place, byte) in id.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        // Writing into a String can't fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// The UUID of a name in a namespace, version 5.
pub(super) fn of_name(namespace: &EventId, name: &str) -> EventId {
    let mut bytes = Vec::with_capacity(namespace.len() + name.len());
    bytes.extend_from_slice(namespace);
    bytes.extend_from_slice(name.as_bytes());
    let digest = sha1(&bytes);
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id[6] = id[6] & 0x0F | 0x50;
    id[8] = id[8] & 0x3F | 0x80;
    id
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut blocks = bytes.chunks_exact(64);
    for block in &mut blocks {
        compress(&mut state, block);
    }
    // What is left, a one bit, zeros, and the length in bits: one block or two.
    let left = blocks.remainder();
    let mut end = [0; 128];
    end[..left.len()].copy_from_slice(left);
    end[left.len()] = 0x80;
    let len = if left.len() < 56 { 64 } else { 128 };
    let bits = (bytes.len() as u64).wrapping_mul(8);
    end[len - 8..len].copy_from_slice(&bits.to_be_bytes());
    for block in end[..len].chunks_exact(64) {
        compress(&mut state, block);
    }
    let mut digest = [0; 20];
    for (place, word) in digest.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut w = [0u32; 80];
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for t in 16..80 {
        w[t] = (w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in w.iter().enumerate() {
        let (f, k) = match t {
            0..=19 => ((b & c) ^ (!b & d), 0x5a82_7999),
            20..=39 => (b ^ c ^ d, 0x6ed9_eba1),
            40..=59 => ((b & c) ^ (b & d) ^ (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(f)
            .wrapping_add(e)
            .wrapping_add(k)
            .wrapping_add(*word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::super::NAMESPACE;
    use super::*;

    fn text(id: &EventId) -> String {
        let mut out = String::new();
        write(&mut out, id);
        out
    }

    #[test]
    fn the_examples_of_the_standards() {
        // FIPS 180-4 refers to these in NIST's "Cryptographic Standards and Guidelines: Examples".
        let hex = |bytes: &[u8]| -> String {
            let digest = sha1(bytes);
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(
            hex(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
        assert_eq!(
            hex(&vec![b'a'; 1_000_000]),
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
        );
        // RFC 9562, appendix A.4.
        let dns = parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap();
        assert_eq!(
            text(&of_name(&dns, "www.example.com")),
            "2ed6657d-e927-568b-95e1-2665a8aea6a2"
        );
    }

    #[test]
    fn the_namespace_is_that_of_its_name() {
        let url = parse("6ba7b811-9dad-11d1-80b4-00c04fd430c8").unwrap();
        assert_eq!(of_name(&url, "duralog.ndjson"), NAMESPACE);
    }

    #[test]
    fn only_the_usual_form_is_a_uuid() {
        let id = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        assert_eq!(text(&parse(id).unwrap()), id);
        assert_eq!(text(&parse(&id.to_uppercase()).unwrap()), id);
        for other in [
            "",
            "2ed6657de927568b95e12665a8aea6a2",
            "{2ed6657d-e927-568b-95e1-2665a8aea6a2}",
            "2ed6657d-e927-568b-95e1-2665a8aea6a",
            "2ed6657d-e927-568b-95e1-2665a8aea6ag",
            "2ed6657-de927-568b-95e1-2665a8aea6a2",
            "2ed6657d-e927-568b-95e1-2665a8aea6a ",
            "+ed6657d-e927-568b-95e1-2665a8aea6a2",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
