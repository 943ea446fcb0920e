//! What a projection keeps so that it need not begin at the beginning: bytes of its own under a key,
//! true of a stream version and a position.
//!
//! A snapshot is derived: losing one costs time. So anything about one that is not as it should be
//! (damaged, of another log, of a state that the log does not have any more, made by another
//! version of the projection) makes it as good as absent, and is never an error.
//!
//! One file per snapshot, `snapshots/HH/H…H-FFFFFFFFFFFFFFFF-VVVVVVVVVVVVVVVVVVVV.snap`: the first 32
//! hexadecimal digits of the SHA-256 of its key, the first 16 of that of its fingerprint, and its version.
//! Key and fingerprint themselves stand in the file and are compared.
//!
//! It is written under a name of its own, `snapshots/HH/H…H-NNNNNNNNNNNNNNNNNNNN.new`, and renamed. Only
//! one handle writes, and it gives each save another number. So a file of this kind that none of its saves
//! is writing was left by one that died, and whoever saves under this key next deletes it.
//!
//! The newest four of a fingerprint say nothing of another: two versions of a program may live side by
//! side, and one that begins again must not lose its first snapshots to those that the old one left at
//! greater versions. Nor do greater versions displace the one that is being saved: they may be of a log
//! that was longer once, before an old copy of it was restored.

use super::index::Place;
use super::request::check_len;
use super::store::{EventStore, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32;
use crate::format::digest::Digest;
use crate::format::{get_array, get_u32, get_u64, put};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::vfs::{read_full_at, write_all_at, OpenMode, Vfs};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = [0x8F, b'D', b'U', b'R', b'S', b'N', b'A', b'P'];
const LAYOUT_VERSION: u32 = 1;
const HEADER_LEN: usize = 96;
const KEY_LEN_MAX: usize = 1024;
const FINGERPRINT_LEN_MAX: usize = 255;
/// Bytes of a snapshot.
const DATA_LEN_MAX: usize = 1 << 30;
/// Snapshots of one key that are kept: so many of the fingerprint that saves, and so many of all others.
const KEPT: usize = 4;
/// Hexadecimal digits of a digest in a name.
const KEY_DIGITS: usize = 32;
const FINGERPRINT_DIGITS: usize = 16;

/// A saved state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Stream version, or any number that only grows, of which it is true.
    pub version: u64,
    /// Position up to which events are in it.
    pub position: u64,
    /// The state, as it was given.
    pub data: Vec<u8>,
}

impl EventStore {
    /// Saves a snapshot under `key` (1 to 1024 bytes), true of `version` and of the events up to
    /// `position`. `fingerprint` (at most 255 bytes) says by which version of the projection it was
    /// made. Kept are this one and the newest others of its fingerprint, four in all, and of the
    /// other fingerprints of the key, together, the four of the greatest versions.
    ///
    /// Errors: `InvalidArgument` (also for a position that is not there yet), `TooLarge` (more than
    /// 1 GiB), `ReadOnly`, `Full`, `Io`. None of them concerns the events.
    pub fn save_snapshot(
        &self,
        key: &[u8],
        version: u64,
        position: u64,
        fingerprint: &[u8],
        data: &[u8],
    ) -> Result<()> {
        check(key, fingerprint)?;
        if data.len() > DATA_LEN_MAX {
            let message = format!("{} bytes, at most {DATA_LEN_MAX} are allowed", data.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let source = self.writable_source()?;
        let last = self.last_position()?;
        if position > last {
            let message = format!("position {position} of a snapshot, the last one is {last}");
            return Err(Error::invalid(message));
        }
        let header = Header {
            log_id: *source.wal.log_id(),
            version,
            position,
            place: place_of(source, position)?,
            lens: [key.len(), fingerprint.len(), data.len()],
        };
        let bytes = header.encode(key, fingerprint, data)?;
        let folder = Folder::of(source, key);
        let name = Name::of(version, fingerprint);
        folder.write(&name, &bytes)?;
        folder.drop_old(&name);
        Ok(())
    }

    /// The newest snapshot of `key` at or before `version_max` that was made with this fingerprint,
    /// and is of the events that are there.
    ///
    /// Errors: `InvalidArgument`, and those of reading the index, which tells whether a snapshot is of
    /// these events: they concern the store, and reading events would meet them too. Whatever is wrong
    /// with snapshots, or with the folders that they lie in, makes them as good as absent.
    pub fn load_snapshot(
        &self,
        key: &[u8],
        version_max: u64,
        fingerprint: &[u8],
    ) -> Result<Option<Snapshot>> {
        check(key, fingerprint)?;
        let last = self.last_position()?;
        let source = self.source.as_ref();
        let folder = Folder::of(source, key);
        let Ok(names) = folder.names() else {
            return Ok(None);
        };
        let wanted = Name::of(version_max, fingerprint);
        for name in names.iter().rev() {
            if name.fingerprint != wanted.fingerprint || name.version > version_max {
                continue;
            }
            let Ok(bytes) = folder.read(name) else {
                continue;
            };
            let Some((header, data)) = Header::decode(&bytes, key, fingerprint) else {
                continue;
            };
            let is_of_this_log = header.log_id == *source.wal.log_id()
                && header.version == name.version
                && header.position <= last
                && place_of(source, header.position)? == header.place;
            if is_of_this_log {
                return Ok(Some(Snapshot {
                    version: header.version,
                    position: header.position,
                    data: data.to_vec(),
                }));
            }
        }
        Ok(None)
    }

    fn writable_source(&self) -> Result<&Source> {
        if self.source.is_read_only() {
            let message = "the event store was opened for reading only";
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        Ok(self.source.as_ref())
    }

    /// Deletes all snapshots of `key`, of every fingerprint, and what saves that died have left.
    pub fn delete_snapshots(&self, key: &[u8]) -> Result<()> {
        check(key, &[])?;
        let source = self.writable_source()?;
        source.wal.check_process()?;
        let folder = Folder::of(source, key);
        for file in folder.files()? {
            if folder.is_being_written(&file) {
                continue;
            }
            let path = folder.dir.join(file);
            match folder.vfs.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("delete", &path, error))
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn check(key: &[u8], fingerprint: &[u8]) -> Result<()> {
    check_len("key", key.len(), 1, KEY_LEN_MAX)?;
    check_len("fingerprint", fingerprint.len(), 0, FINGERPRINT_LEN_MAX)
}

/// Where the event at `position` stands: places are never used twice, so the same one means that
/// nothing before it was dropped from the log since.
fn place_of(source: &Source, position: u64) -> Result<Place> {
    if position == 0 {
        return Ok(Place::default());
    }
    let place = source.catalog.ask(|snapshot| snapshot.place(position))?;
    Ok(place.unwrap_or_default())
}

struct Header {
    log_id: [u8; 16],
    version: u64,
    position: u64,
    place: Place,
    /// Of key, fingerprint and data.
    lens: [usize; 3],
}

impl Header {
    fn encode(&self, key: &[u8], fingerprint: &[u8], data: &[u8]) -> Result<Vec<u8>> {
        let len = HEADER_LEN + self.lens.iter().sum::<usize>();
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(len)
            .map_err(|_| Error::no_memory("a snapshot", len))?;
        bytes.resize(HEADER_LEN, 0);
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &LAYOUT_VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.log_id);
        put(&mut bytes, 32, &self.version.to_le_bytes());
        put(&mut bytes, 40, &self.position.to_le_bytes());
        put(&mut bytes, 48, &self.place.lsn.to_le_bytes());
        put(&mut bytes, 56, &self.place.time_ns.to_le_bytes());
        put(&mut bytes, 64, &self.place.crc.to_le_bytes());
        for (index, len) in self.lens.iter().enumerate() {
            put(&mut bytes, 72 + 8 * index, &(*len as u64).to_le_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(fingerprint);
        bytes.extend_from_slice(data);
        let crc = crc32(bytes.get(16..).unwrap_or_default());
        put(&mut bytes, 12, &crc.to_le_bytes());
        Ok(bytes)
    }

    /// The header and the data, if the bytes are a snapshot of this key with this fingerprint.
    fn decode<'b>(bytes: &'b [u8], key: &[u8], fingerprint: &[u8]) -> Option<(Header, &'b [u8])> {
        let sound = bytes.len() >= HEADER_LEN
            && bytes.starts_with(&MAGIC)
            && get_u32(bytes, 8) == LAYOUT_VERSION
            && get_u32(bytes, 12) == crc32(bytes.get(16..)?);
        if !sound {
            return None;
        }
        let len = |index: usize| usize::try_from(get_u64(bytes, 72 + 8 * index)).ok();
        let lens = [len(0)?, len(1)?, len(2)?];
        let (rest, header) = (bytes.get(HEADER_LEN..)?, bytes);
        let (found_key, rest) = rest.split_at_checked(lens[0])?;
        let (found_fingerprint, data) = rest.split_at_checked(lens[1])?;
        let wanted = found_key == key && found_fingerprint == fingerprint && data.len() == lens[2];
        wanted.then(|| {
            let header = Header {
                log_id: get_array(header, 16),
                version: get_u64(header, 32),
                position: get_u64(header, 40),
                place: Place {
                    lsn: get_u64(header, 48),
                    time_ns: get_u64(header, 56),
                    crc: get_u32(header, 64),
                },
                lens,
            };
            (header, data)
        })
    }
}

/// The saves that a handle is in the middle of.
#[derive(Default)]
pub(super) struct Saves(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    last: u64,
    in_use: BTreeSet<u64>,
}

impl Saves {
    fn begin(&self) -> Save<'_> {
        let mut numbers = self.numbers();
        numbers.last += 1;
        let number = numbers.last;
        numbers.in_use.insert(number);
        Save {
            saves: self,
            number,
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it is dropped. No other save of this handle ever has its number.
struct Save<'s> {
    saves: &'s Saves,
    number: u64,
}

impl Drop for Save<'_> {
    fn drop(&mut self) {
        self.saves.numbers().in_use.remove(&self.number);
    }
}

/// What the name of a snapshot's file says beside its key. In the order of versions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    version: u64,
    /// The first digits of the digest of its fingerprint.
    fingerprint: String,
}

impl Name {
    fn of(version: u64, fingerprint: &[u8]) -> Name {
        Name {
            version,
            fingerprint: digits(fingerprint, FINGERPRINT_DIGITS),
        }
    }

    /// Of a name without what the key gives. What is no snapshot's is passed over.
    fn parse(rest: &str) -> Option<Name> {
        let (fingerprint, version) = rest.strip_suffix(".snap")?.split_once('-')?;
        let name = Name {
            version: version.parse().ok()?,
            fingerprint: fingerprint.to_string(),
        };
        (name.rest() == rest && fingerprint.len() == FINGERPRINT_DIGITS).then_some(name)
    }

    fn rest(&self) -> String {
        format!("{}-{:020}.snap", self.fingerprint, self.version)
    }
}

/// The first hexadecimal digits, an even count, of the SHA-256 of `bytes`.
fn digits(bytes: &[u8], count: usize) -> String {
    let mut digest = Digest::default();
    digest.update(bytes);
    let bytes = digest.finish();
    let bytes = bytes.iter().take(count / 2);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Where the snapshots of one key are.
struct Folder<'s> {
    vfs: &'s dyn Vfs,
    saves: &'s Saves,
    root: PathBuf,
    dir: PathBuf,
    /// How the names of its files begin.
    stem: String,
}

impl<'s> Folder<'s> {
    fn of(source: &'s Source, key: &[u8]) -> Folder<'s> {
        let name = digits(key, KEY_DIGITS);
        let (folder, stem) = name.split_at(2);
        let view = source.wal.view();
        let root = view.layout.dir().join("snapshots");
        Folder {
            vfs: view.vfs.as_ref(),
            saves: &source.snapshot_saves,
            dir: root.join(folder),
            root,
            stem: format!("{stem}-"),
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{}{}", self.stem, name.rest()))
    }

    fn temporary_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{}{number:020}.new", self.stem))
    }

    /// The names of all files of the key.
    fn files(&self) -> Result<Vec<String>> {
        let entries = match self.vfs.list(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.dir, error)),
        };
        let own = entries
            .into_iter()
            .filter(|entry| entry.is_file && entry.name.starts_with(&self.stem));
        Ok(own.map(|entry| entry.name).collect())
    }

    /// Those of its snapshots, in ascending order of their versions.
    fn names(&self) -> Result<Vec<Name>> {
        let files = self.files()?;
        let rests = files
            .iter()
            .filter_map(|file| file.strip_prefix(&self.stem));
        let mut names: Vec<Name> = rests.filter_map(Name::parse).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a save of this handle is writing this file now.
    fn is_being_written(&self, file: &str) -> bool {
        let number = file
            .strip_prefix(&self.stem)
            .and_then(|rest| rest.strip_suffix(".new")?.parse().ok());
        number.is_some_and(|number| self.saves.numbers().in_use.contains(&number))
    }

    /// Deletes what saves that died have left. What stays is tried again with the next.
    fn drop_left_over(&self) {
        for file in self.files().unwrap_or_default() {
            // Asked for after the file was seen: a save has its number before it makes the file, so one
            // that has none any more has renamed it or given it up.
            if file.ends_with(".new") && !self.is_being_written(&file) {
                let _ = self.vfs.unlink(&self.dir.join(file));
            }
        }
    }

    /// Deletes what need not be kept now that `saved` is there. What stays is tried again with the next.
    fn drop_old(&self, saved: &Name) {
        let names = self.names().unwrap_or_default();
        let (own, others): (Vec<Name>, Vec<Name>) = names
            .into_iter()
            .filter(|name| name != saved)
            .partition(|name| name.fingerprint == saved.fingerprint);
        let old = own.iter().rev().skip(KEPT - 1);
        for name in old.chain(others.iter().rev().skip(KEPT)) {
            let _ = self.vfs.unlink(&self.path(name));
        }
    }

    fn write(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        for dir in [&self.root, &self.dir] {
            match self.vfs.create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("make directory", dir, error))
                }
                _ => {}
            }
        }
        // Before anything is written: it may take up the space that is wanted.
        self.drop_left_over();
        let save = self.saves.begin();
        let temporary = self.temporary_path(save.number);
        // What an earlier handle left under this very number, if the folder could not be listed.
        let _ = self.vfs.unlink(&temporary);
        let written = self.write_new(&temporary, bytes);
        let renamed = written.and_then(|()| {
            let renamed = self.vfs.rename(&temporary, &self.path(name));
            renamed.map_err(|error| Error::io("rename", &temporary, error))
        });
        if renamed.is_err() {
            let _ = self.vfs.unlink(&temporary);
        }
        renamed
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let file = self
            .vfs
            .open(path, OpenMode::CreateNew)
            .map_err(|error| Error::io("create", path, error))?;
        write_all_at(file.as_ref(), 0, bytes).map_err(|failure| failure.into_error(path))?;
        // Without it a power cut could leave a name with no content: as good as no snapshot.
        file.sync_data().map_err(|error| Error::sync(path, error))
    }

    fn read(&self, name: &Name) -> Result<Vec<u8>> {
        let path = self.path(name);
        let failed = |error| Error::io("read", &path, error);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(failed)?;
        let len = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        if len > DATA_LEN_MAX + HEADER_LEN + KEY_LEN_MAX + FINGERPRINT_LEN_MAX
            || bytes.try_reserve_exact(len).is_err()
        {
            return Err(Error::no_memory("a snapshot", len));
        }
        bytes.resize(len, 0);
        let read = read_full_at(file.as_ref(), 0, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}
