//! Names with their hashes: computed once, by who brings the name, for all tables in which it is looked
//! up, and as a rule outside of any lock.
//!
//! The hash is that of the standard library, with a key of this process: names come from outside and must
//! not be able to choose their places in a table.

use crate::sync::OnceLock;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// A name, and its hash in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) bytes: &'a [u8],
    hash: u64,
}

impl<'a> Name<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Name<'a> {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
        hasher.write(bytes);
        let hash = hasher.finish();
        Name { bytes, hash }
    }

    /// Of bytes whose hash was computed before.
    pub(crate) fn with_hash(bytes: &'a [u8], hash: u64) -> Name<'a> {
        Name { bytes, hash }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl<'a, B: AsRef<[u8]> + ?Sized> From<&'a B> for Name<'a> {
    fn from(bytes: &'a B) -> Name<'a> {
        Name::new(bytes.as_ref())
    }
}

/// A name as a key of a [`NameMap`].
#[derive(Debug)]
pub(crate) struct OwnedName {
    bytes: Box<[u8]>,
    hash: u64,
}

impl From<Name<'_>> for OwnedName {
    fn from(name: Name<'_>) -> OwnedName {
        OwnedName {
            bytes: name.bytes.into(),
            hash: name.hash,
        }
    }
}

impl AsRef<[u8]> for OwnedName {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What keys are compared as, so that a name that is only borrowed can be looked up.
pub(crate) trait Named {
    fn name(&self) -> Name<'_>;
}

impl Named for OwnedName {
    fn name(&self) -> Name<'_> {
        Name::with_hash(&self.bytes, self.hash)
    }
}

impl Named for Name<'_> {
    fn name(&self) -> Name<'_> {
        *self
    }
}

impl<'a> Borrow<dyn Named + 'a> for OwnedName {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.name().hash);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name().bytes == other.name().bytes
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for OwnedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for OwnedName {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for OwnedName {}

/// A table of what is known by name.
pub(crate) type NameMap<V> = HashMap<OwnedName, V, BuildHasherDefault<KnownHash>>;

/// The value of a name in a table.
pub(crate) fn get<'m, V>(map: &'m NameMap<V>, name: Name<'_>) -> Option<&'m V> {
    map.get(&name as &dyn Named)
}

/// The same, to be changed.
pub(crate) fn get_mut<'m, V>(map: &'m mut NameMap<V>, name: Name<'_>) -> Option<&'m mut V> {
    map.get_mut(&name as &dyn Named)
}

/// Hands on the hash of a name as it is.
#[derive(Debug, Default)]
pub(crate) struct KnownHash(u64);

impl Hasher for KnownHash {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Names are hashed by their own hash alone.
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "{} bytes that are no hash", bytes.len());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_a_borrowed_one_and_others_are_not() {
        let mut map = NameMap::default();
        for number in 0..1000u32 {
            let bytes = number.to_le_bytes();
            map.insert(Name::new(&bytes).into(), number);
        }
        for number in 0..1000u32 {
            let bytes = number.to_le_bytes();
            assert_eq!(get(&map, Name::from(&bytes)), Some(&number));
        }
        assert_eq!(get(&map, Name::new(b"other")), None);
        *get_mut(&mut map, Name::new(&7u32.to_le_bytes())).unwrap() = 0;
        assert_eq!(map.values().filter(|&&number| number == 0).count(), 2);
    }

    /// A hash that is not as random as it should be costs time and nothing else.
    #[test]
    fn names_of_one_hash_are_told_apart() {
        let mut map = NameMap::default();
        for bytes in [b"a", b"b"] {
            map.insert(Name::with_hash(bytes, 5).into(), bytes[0]);
        }
        assert_eq!(get(&map, Name::with_hash(b"b", 5)), Some(&b'b'));
        assert_eq!(get(&map, Name::with_hash(b"c", 5)), None);
    }

    #[test]
    fn the_hash_of_bytes_stays_the_same_in_a_process() {
        assert_eq!(Name::new(b"name").hash(), Name::new(b"name").hash());
        assert_ne!(Name::new(b"name").hash(), Name::new(b"eman").hash());
    }
}
