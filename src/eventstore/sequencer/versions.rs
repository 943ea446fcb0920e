//! Versions of streams that need no looking up, for the leader: those asked for or appended to lately, and
//! those that the requests of this group have given so far.

use crate::error::Result;
use crate::eventstore::name::{self, Name, NameMap};

/// Bytes that each of two generations may hold: about 90,000 streams with short names.
const GENERATION_LEN_MAX: usize = 11 << 20;
/// What a stream takes beside its name, at most, in a table that is just half full.
const ENTRY_LEN: usize = 112;

/// Two generations, of which the older one is forgotten when the newer one is full. What a group has given
/// holds once it is committed; if it is not, or nobody knows, all is forgotten.
#[derive(Default)]
pub(in super::super) struct Versions {
    newer: NameMap<Known>,
    older: NameMap<Known>,
    /// Bytes of the newer generation.
    newer_len: usize,
    /// Number of the request that gives versions now.
    request: u64,
    /// Something was given, and is not known to be in the log.
    unsettled: bool,
}

#[derive(Clone, Copy)]
struct Known {
    version: u64,
    /// The request that gave it, and which of the streams of that request this is, from 0.
    request: u64,
    at: usize,
}

impl Versions {
    /// A group begins.
    pub(super) fn begin_group(&mut self) {
        if self.unsettled {
            *self = Versions::default();
        }
        // Not in the middle of a group, of which nothing may be forgotten.
        if self.newer_len >= GENERATION_LEN_MAX {
            self.older = std::mem::take(&mut self.newer);
            self.newer_len = 0;
        }
    }

    /// What was given since is in the log.
    pub(super) fn settle(&mut self) {
        self.unsettled = false;
    }

    /// The next request of the group begins to give versions.
    pub(super) fn begin_request(&mut self) {
        self.request += 1;
        self.unsettled = true;
    }

    /// Version of a stream before the next request of the group, if it is known.
    pub(in super::super) fn get<'n>(&self, stream: impl Into<Name<'n>>) -> Option<u64> {
        let stream = stream.into();
        let found = name::get(&self.newer, stream).or_else(|| name::get(&self.older, stream));
        found.map(|known| known.version)
    }

    /// Remembers the version of a stream.
    pub(super) fn set<'n>(&mut self, stream: impl Into<Name<'n>>, version: u64) {
        let stream = stream.into();
        let known = Known {
            version,
            request: 0,
            at: 0,
        };
        match name::get_mut(&mut self.newer, stream) {
            Some(place) => *place = known,
            None => self.add(stream, known),
        }
    }

    fn add(&mut self, stream: Name<'_>, known: Known) {
        self.newer_len += ENTRY_LEN + stream.bytes.len();
        self.newer.insert(stream.into(), known);
    }

    /// Gives a stream its next version. The request has mentioned `others` other streams before, if this
    /// is not one of them. `look_up` is asked for the version so far if it is not known. Gives which of
    /// the request's streams it is, and the version.
    pub(super) fn give_next<'n>(
        &mut self,
        stream: impl Into<Name<'n>>,
        others: usize,
        look_up: impl FnOnce() -> Result<u64>,
    ) -> Result<(usize, u64)> {
        let stream = stream.into();
        if let Some(known) = name::get_mut(&mut self.newer, stream) {
            if known.request != self.request {
                (known.request, known.at) = (self.request, others);
            }
            known.version += 1;
            return Ok((known.at, known.version));
        }
        let before = match name::get(&self.older, stream) {
            Some(known) => known.version,
            None => look_up()?,
        };
        let known = Known {
            version: before + 1,
            request: self.request,
            at: others,
        };
        self.add(stream, known);
        Ok((others, before + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn unknown() -> Result<u64> {
        Err(Error::invalid("not to be asked"))
    }

    #[test]
    fn versions_go_on_from_request_to_request() {
        let mut versions = Versions::default();
        versions.begin_group();
        versions.begin_request();
        assert_eq!(versions.give_next(b"a", 0, || Ok(6)).unwrap(), (0, 7));
        assert_eq!(versions.give_next(b"b", 1, || Ok(0)).unwrap(), (1, 1));
        assert_eq!(versions.give_next(b"a", 2, unknown).unwrap(), (0, 8));
        versions.begin_request();
        assert_eq!(versions.give_next(b"b", 0, unknown).unwrap(), (0, 2));
        assert_eq!(versions.give_next(b"a", 1, unknown).unwrap(), (1, 9));
        versions.settle();
        versions.begin_group();
        assert_eq!((versions.get(b"a"), versions.get(b"b")), (Some(9), Some(2)));
    }

    #[test]
    fn what_was_not_settled_is_forgotten() {
        let mut versions = Versions::default();
        versions.set(b"a", 3);
        versions.begin_request();
        versions.give_next(b"a", 0, unknown).unwrap();
        versions.begin_group();
        assert_eq!(versions.get(b"a"), None);
    }

    #[test]
    fn a_version_that_cannot_be_looked_up_leaves_all_as_it_was() {
        let mut versions = Versions::default();
        versions.begin_request();
        assert!(versions.give_next(b"a", 0, unknown).is_err());
        assert_eq!(versions.get(b"a"), None);
    }

    #[test]
    fn who_fails_half_way_sets_back_what_it_gave_and_the_group_goes_on() {
        let mut versions = Versions::default();
        versions.begin_group();
        versions.set(b"a", 3);
        versions.begin_request();
        assert_eq!(versions.give_next(b"a", 0, unknown).unwrap(), (0, 4));
        assert!(versions.give_next(b"b", 1, unknown).is_err());
        versions.set(b"a", 3);
        versions.begin_request();
        assert_eq!(versions.give_next(b"a", 0, unknown).unwrap(), (0, 4));
        versions.settle();
        versions.begin_group();
        assert_eq!(versions.get(b"a"), Some(4));
    }

    #[test]
    fn nothing_is_forgotten_in_the_middle_of_a_group() {
        let mut versions = Versions::default();
        versions.begin_group();
        versions.begin_request();
        let streams = 2 * GENERATION_LEN_MAX / (ENTRY_LEN + size_of::<usize>());
        for number in 0..streams {
            let stream = number.to_le_bytes();
            assert_eq!(
                versions.give_next(&stream, number, || Ok(0)).unwrap(),
                (number, 1)
            );
        }
        assert_eq!(versions.get(&0usize.to_le_bytes()), Some(1));
        versions.settle();
        for group in 0..2 {
            versions.begin_group();
            // Both generations know it now.
            assert_eq!(versions.get(&1usize.to_le_bytes()), Some(1 + group));
            versions.begin_request();
            versions
                .give_next(&1usize.to_le_bytes(), 0, unknown)
                .unwrap();
            versions.settle();
        }
    }

    #[test]
    fn what_was_not_asked_for_in_two_generations_is_forgotten() {
        let mut versions = Versions::default();
        let generation = GENERATION_LEN_MAX / (ENTRY_LEN + size_of::<usize>()) + 1;
        for round in 0..3 {
            versions.begin_group();
            versions.begin_request();
            for nth in 0..generation {
                let stream = (round * generation + nth).to_le_bytes();
                versions.give_next(&stream, nth, || Ok(0)).unwrap();
            }
            versions.settle();
        }
        let version_of = |number: usize| versions.get(&number.to_le_bytes());
        assert_eq!(version_of(0), None);
        assert_eq!(
            (version_of(generation), version_of(2 * generation)),
            (Some(1), Some(1))
        );
    }
}
