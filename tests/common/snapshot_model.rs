//! What an event store should answer about snapshots: a few maps, and a note of which files are not
//! as they were saved.
//!
//! A snapshot that is damaged, of another log, of another state of the log, or made by another
//! version of the projection is as good as none. So harm is done to the files in every way that
//! this can come about, also with checksums that are right.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::store_bench::Bench;
use crate::store_maker::{below, pick};
use crate::store_model::Model;
use duralog::eventstore::{EventStore, Snapshot};
use duralog::format::checksum::crc32;
use duralog::format::digest::Digest;
use duralog::vfs::sim::Rng;
use duralog::ErrorKind;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

const KEYS: [&[u8]; 3] = [b"balance", b"b", &[7; 1024]];
const FINGERPRINTS: [&[u8]; 3] = [b"", b"v1", b"v2"];
/// Of one key: so many of the fingerprint that saves, the one just saved among them, and so many of all
/// others; older ones are deleted.
const KEPT: usize = 4;
/// Where fields of the header stand that say of which log, version and state it is.
const TELLING_FIELDS: [usize; 6] = [16, 32, 40, 48, 56, 64];

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Saved {
    position: u64,
    fingerprint: Vec<u8>,
    data: Vec<u8>,
}

/// By version and the part of the digest of the fingerprint that stands in the file's name.
type OfKey = BTreeMap<(u64, String), Kept>;

#[derive(Debug)]
struct Kept {
    saved: Saved,
    /// Its file is not what was written.
    spoilt: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Snapshots {
    kept: BTreeMap<Vec<u8>, OfKey>,
    /// All that were ever saved, by key and version, of events that are there still.
    ever: HashSet<(Vec<u8>, u64, Saved)>,
    pub(crate) loaded: u64,
    pub(crate) displaced: u64,
    pub(crate) harmed: u64,
}

impl Snapshots {
    pub(crate) fn save(&mut self, store: &EventStore, model: &Model, rng: &mut Rng) {
        let key = pick(rng, &KEYS);
        let version = rng.below(12);
        let mut data = vec![0; below(rng, 3_000)];
        rng.fill(&mut data);
        let saved = Saved {
            position: rng.below(model.last() + 2),
            fingerprint: pick(rng, &FINGERPRINTS).to_vec(),
            data,
        };
        let Saved {
            position,
            fingerprint,
            data,
        } = &saved;
        let told = store.save_snapshot(key, version, *position, fingerprint, data);
        if *position > model.last() {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::InvalidArgument);
            return;
        }
        told.unwrap();
        self.ever.insert((key.to_vec(), version, saved.clone()));
        let name = (version, digits(fingerprint, 16));
        let of_key = self.kept.entry(key.to_vec()).or_default();
        let spoilt = false;
        of_key.insert(name.clone(), Kept { saved, spoilt });
        let (mut own, mut others) = (1, 0);
        let mut old = Vec::new();
        for other in of_key.keys().rev().filter(|other| **other != name) {
            let count = if other.1 == name.1 {
                &mut own
            } else {
                &mut others
            };
            *count += 1;
            if *count > KEPT {
                old.push(other.clone());
            }
        }
        self.displaced += old.len() as u64;
        old.iter().for_each(|old| drop(of_key.remove(old)));
    }

    /// Loads some snapshot and finds what it should.
    pub(crate) fn compare(&mut self, store: &EventStore, rng: &mut Rng) {
        let (key, fingerprint) = (pick(rng, &KEYS), pick(rng, &FINGERPRINTS));
        let any = rng.below(13);
        let version_max = pick(rng, &[any, any, u64::MAX]);
        self.compare_one(store, key, version_max, fingerprint);
    }

    fn compare_one(
        &mut self,
        store: &EventStore,
        key: &[u8],
        version_max: u64,
        fingerprint: &[u8],
    ) {
        let of_key = self.kept.get(key);
        let expected = of_key.and_then(|of_key| {
            let mut good = of_key.iter().rev().filter(|((version, _), kept)| {
                *version <= version_max && !kept.spoilt && kept.saved.fingerprint == fingerprint
            });
            good.next().map(|((version, _), kept)| Snapshot {
                version: *version,
                position: kept.saved.position,
                data: kept.saved.data.clone(),
            })
        });
        let found = store.load_snapshot(key, version_max, fingerprint).unwrap();
        self.loaded += u64::from(found.is_some());
        assert_eq!(found, expected, "up to {version_max}, {fingerprint:?}");
    }

    pub(crate) fn delete(&mut self, store: &EventStore, rng: &mut Rng) {
        let key = pick(rng, &KEYS);
        store.delete_snapshots(key).unwrap();
        self.kept.remove(key);
    }

    /// After a power cut: each snapshot is there or not, but if it is, then whole, and of events
    /// that are there.
    pub(crate) fn settle(&mut self, store: &EventStore, model: &Model) {
        let last = model.last();
        self.ever.retain(|(_, _, saved)| saved.position <= last);
        for key in KEYS {
            for fingerprint in FINGERPRINTS {
                for version_max in 0..13 {
                    let found = store.load_snapshot(key, version_max, fingerprint).unwrap();
                    let Some(found) = found else { continue };
                    let saved = Saved {
                        position: found.position,
                        fingerprint: fingerprint.to_vec(),
                        data: found.data,
                    };
                    let known = self.ever.contains(&(key.to_vec(), found.version, saved));
                    assert!(
                        known,
                        "a snapshot of version {} that nobody saved",
                        found.version
                    );
                }
            }
            store.delete_snapshots(key).unwrap();
        }
        self.kept.clear();
    }

    /// Does harm to the file of a snapshot, and asks for it.
    pub(crate) fn harm(&mut self, bench: &Bench, rng: &mut Rng) {
        // What is harmed already might become whole by being harmed again.
        let whole = self.kept.iter().flat_map(|(key, of_key)| {
            let whole = of_key.iter().filter(|(_, kept)| !kept.spoilt);
            whole.map(move |(name, _)| (key.clone(), name.clone()))
        });
        let whole: Vec<(Vec<u8>, (u64, String))> = whole.collect();
        if whole.is_empty() {
            return;
        }
        let (key, name) = &whole[below(rng, whole.len())];
        let path = file_of(bench, key, name);
        let before = bench.read(&path).unwrap();
        self.harmed += 1;
        match rng.below(6) {
            0 => bench.vfs.unlink(&path).unwrap(),
            1 | 2 => {
                let mut other = before.clone();
                other[pick(rng, &TELLING_FIELDS)] ^= 1 << rng.below(8);
                let crc = crc32(&other[16..]);
                other[12..16].copy_from_slice(&crc.to_le_bytes());
                bench.write(&path, &other);
            }
            3 => {
                let (key, name) = &whole[below(rng, whole.len())];
                let other = bench.read(&file_of(bench, key, name));
                bench.write(&path, &other.unwrap());
            }
            _ => bench.harm_file(rng, &path).unwrap(),
        }
        let of_key = self.kept.get_mut(key).unwrap();
        let kept = of_key.get_mut(name).unwrap();
        let fingerprint = kept.saved.fingerprint.clone();
        match bench.read(&path) {
            Some(after) => kept.spoilt = after != before,
            None => drop(of_key.remove(name)),
        }
        self.compare_one(bench.store(), key, name.0, &fingerprint);
    }
}

/// The file of a snapshot: its name is made of the digests of its key and its fingerprint.
fn file_of(bench: &Bench, key: &[u8], (version, fingerprint): &(u64, String)) -> PathBuf {
    let name = digits(key, 32);
    let (folder, stem) = name.split_at(2);
    let folder = bench.path.join("snapshots").join(folder);
    folder.join(format!("{stem}-{fingerprint}-{version:020}.snap"))
}

fn digits(bytes: &[u8], count: usize) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    let digest = digest.finish();
    digest[..count / 2]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
