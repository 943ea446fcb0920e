//! Numbers of one to ten bytes: unsigned LEB128 (FORMAT.md section 20.1).

/// Most bytes that a number can take.
pub const LEN_MAX: usize = 10;

/// Appends `value` to `out`.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

/// The number at `*at`, which is moved behind it; `None` if it is cut off, or written with more
/// bytes than it needs, or greater than 2^64 - 1.
#[must_use]
#[inline]
pub fn get(bytes: &[u8], at: &mut usize) -> Option<u64> {
    // Most are small.
    match bytes.get(*at) {
        Some(&byte) if byte < 0x80 => {
            *at += 1;
            Some(u64::from(byte))
        }
        _ => get_long(bytes, at),
    }
}

fn get_long(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..LEN_MAX {
        let byte = *bytes.get(at.checked_add(index)?)?;
        let bits = u64::from(byte & 0x7F);
        if index == LEN_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return None;
            }
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_only_the_shortest_form_is_read() {
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut at = 0;
            assert_eq!(get(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            assert_eq!(get(&bytes[..bytes.len() - 1], &mut 0), None);
        }
        assert_eq!(get(&[0x80, 0], &mut 0), None);
        assert_eq!(get(&[0xFF; 10], &mut 0), None);
        assert_eq!(
            get(
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
                &mut 0
            ),
            None
        );
        assert_eq!(get(&[1], &mut usize::MAX.clone()), None);
    }
}
