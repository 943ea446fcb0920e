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
use duralog::vfs::sim::Rng;
use duralog::ErrorKind;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

const KEYS: [&[u8]; 3] = [b"balance", b"b", &[7; 1024]];
const FINGERPRINTS: [&[u8]; 3] = [b"", b"v1", b"v2"];
/// Of one key; older ones are deleted.
const KEPT: usize = 4;
const HEADER_LEN: usize = 96;
/// Where fields of the header stand that say of which log, version and state it is.
const TELLING_FIELDS: [usize; 6] = [16, 32, 40, 48, 56, 64];

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Saved {
    position: u64,
    fingerprint: Vec<u8>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    saved: Saved,
    /// Its file is not what was written.
    spoilt: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Snapshots {
    kept: BTreeMap<Vec<u8>, BTreeMap<u64, Kept>>,
    /// All that were ever saved, by key and version, of events that are there still.
    ever: HashSet<(Vec<u8>, u64, Saved)>,
    pub(crate) loaded: u64,
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
        let of_key = self.kept.entry(key.to_vec()).or_default();
        let spoilt = false;
        of_key.insert(version, Kept { saved, spoilt });
        while of_key.len() > KEPT {
            of_key.pop_first();
        }
    }

    /// Loads some snapshot and finds what it should.
    pub(crate) fn compare(&mut self, store: &EventStore, rng: &mut Rng) {
        let (key, fingerprint) = (pick(rng, &KEYS), pick(rng, &FINGERPRINTS));
        let any = rng.below(13);
        let version_max = pick(rng, &[any, any, u64::MAX]);
        let of_key = self.kept.get(key);
        let expected = of_key.and_then(|of_key| {
            let newest = of_key.range(..=version_max).rev();
            let mut good =
                newest.filter(|(_, kept)| !kept.spoilt && kept.saved.fingerprint == fingerprint);
            good.next().map(|(version, kept)| Snapshot {
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

    /// Does harm to the file of a snapshot.
    pub(crate) fn harm(&mut self, bench: &Bench, rng: &mut Rng) {
        let files = files(bench);
        if files.is_empty() {
            return;
        }
        let path = &files[below(rng, files.len())];
        let (Some(before), Some(version)) = (bench.read(path), version_of(path)) else {
            return;
        };
        // What is harmed already might become whole by being harmed again.
        let Some(of_key) = key_of(&before).and_then(|key| self.kept.get_mut(key)) else {
            return;
        };
        let Some(kept) = of_key.get_mut(&version).filter(|kept| !kept.spoilt) else {
            return;
        };
        self.harmed += 1;
        match rng.below(5) {
            0 => {
                bench.vfs.unlink(path).unwrap();
                of_key.remove(&version);
                return;
            }
            1 => {
                let mut other = before.clone();
                other[pick(rng, &TELLING_FIELDS)] ^= 1 << rng.below(8);
                let crc = crc32(&other[16..]);
                other[12..16].copy_from_slice(&crc.to_le_bytes());
                bench.write(path, &other);
            }
            2 => {
                let other = bench.read(&files[below(rng, files.len())]);
                bench.write(path, &other.unwrap());
            }
            _ => bench.harm_file(rng, path).unwrap(),
        }
        kept.spoilt = bench.read(path).as_ref() != Some(&before);
    }
}

/// The files of all snapshots, in order.
fn files(bench: &Bench) -> Vec<PathBuf> {
    let root = bench.path.join("snapshots");
    let names = |dir: &Path| bench.vfs.list(dir).unwrap_or_default();
    let mut files = Vec::new();
    for folder in names(&root) {
        let dir = root.join(folder.name);
        files.extend(names(&dir).into_iter().map(|entry| dir.join(entry.name)));
    }
    files.sort_unstable();
    files
}

fn version_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".snap")?;
    name.split_once('-')?.1.parse().ok()
}

/// The key that stands in the file of a snapshot.
fn key_of(bytes: &[u8]) -> Option<&[u8]> {
    let len = u64::from_le_bytes(bytes.get(72..80)?.try_into().unwrap());
    bytes.get(HEADER_LEN..)?.get(..usize::try_from(len).ok()?)
}
