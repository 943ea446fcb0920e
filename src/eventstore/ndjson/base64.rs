//! Base64 (RFC 4648, section 4), for bytes that are no JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes `bytes` behind `out`, with padding.
pub(super) fn encode(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            // A group of n bytes has n + 1 digits.
            let digit = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize);
            let byte = digit.filter(|_| place <= group.len()).unwrap_or(&b'=');
            out.push(char::from(*byte));
        }
    }
}

/// The bytes; `None` unless `text` has only digits, with its padding. Bits of the last digit that
/// belong to no byte say nothing.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.len() % 4 != 0 || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            bits <<= 6;
            if let Some(digit) = group.get(place) {
                bits |= value_of(*digit)?;
            }
        }
        let whole = [bits >> 16, bits >> 8, bits].map(|byte| (byte & 0xFF) as u8);
        bytes.extend_from_slice(whole.get(..group.len() - 1)?);
    }
    Some(bytes)
}

fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{fb}\u{ff}", "w7vDvw=="),
        ];
        for (text, encoded) in examples {
            let mut out = String::new();
            encode(&mut out, text.as_bytes());
            assert_eq!(out, encoded);
            assert_eq!(decode(encoded).unwrap(), text.as_bytes());
        }
        assert_eq!(decode("+/+/").unwrap(), [0xFB, 0xFF, 0xBF]);
    }

    #[test]
    fn what_is_no_base64_gives_none() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "====", "=", "Zm=v", "Zg==Zg==", "Zm9v\n", "Zm 9",
            "ä", "-_-_",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
