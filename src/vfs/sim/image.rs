//! What is on a disk while no machine runs.

use super::content::{index, Content};
use super::faults::errno;
use super::history::ROOT;
use super::machine::error;
use super::names::normal;
use super::random::mix;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory holds: names to inodes.
pub(super) type Names = BTreeMap<Arc<str>, usize>;

/// The files and directories of a disk: what a crash left, or what a test laid out. Cheap to copy:
/// bytes are shared until changed.
///
/// Paths are absolute; a relative path counts from the root.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<String, Content>,
    dirs: BTreeSet<String>,
    boot_id: [u8; 16],
}

impl Image {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Walks the names from the root; what can't be reached is lost.
    pub(super) fn from_names(
        names: &[impl Borrow<Names>],
        boot_id: [u8; 16],
        mut content: impl FnMut(usize) -> Option<Content>,
    ) -> Self {
        let mut image = Self {
            boot_id,
            ..Self::default()
        };
        let mut todo = vec![(ROOT, String::new())];
        while let Some((dir, path)) = todo.pop() {
            for (name, &inode) in names[dir].borrow() {
                let path = if path.is_empty() {
                    name.to_string()
                } else {
                    format!("{path}/{name}")
                };
                match content(inode) {
                    Some(content) => {
                        image.files.insert(path, content);
                    }
                    None => {
                        image.dirs.insert(path.clone());
                        todo.push((inode, path));
                    }
                }
            }
        }
        image
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.files
            .iter()
            .map(|(path, content)| (path.as_str(), content))
    }

    pub(super) fn dirs(&self) -> impl Iterator<Item = &str> {
        self.dirs.iter().map(String::as_str)
    }

    /// The files' paths, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files
            .keys()
            .map(|path| Path::new("/").join(path))
            .collect()
    }

    /// A file's bytes, if it is there.
    #[must_use]
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.files
            .get(&normal(path.as_ref()).ok()?)
            .map(Content::to_vec)
    }

    /// A file's size, if it is there.
    #[must_use]
    pub fn len(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.files
            .get(&normal(path.as_ref()).ok()?)
            .map(Content::len)
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Puts a file there, with the directories that lead to it.
    ///
    /// # Errors
    /// The path is not UTF-8, or names the root.
    pub fn write(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.create_dir(parent)?;
        }
        if path.is_empty() {
            return Err(error(errno::EISDIR));
        }
        self.files.insert(path, Content::from_bytes(bytes));
        Ok(())
    }

    /// Makes a directory, with those that lead to it.
    ///
    /// # Errors
    /// The path is not UTF-8.
    pub fn create_dir(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            self.dirs.insert(path[..end].to_owned());
        }
        Ok(())
    }

    fn file_mut(&mut self, path: &Path) -> io::Result<&mut Content> {
        self.files
            .get_mut(&normal(path)?)
            .ok_or_else(|| error(errno::ENOENT))
    }

    /// Overwrites bytes of a file, growing it if need be.
    ///
    /// # Errors
    /// The file is not there.
    pub fn corrupt(&mut self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file_mut(path.as_ref())?.write(offset, bytes);
        Ok(())
    }

    /// Flips bits of one byte of a file.
    ///
    /// # Errors
    /// The file is not there.
    pub fn flip(&mut self, path: impl AsRef<Path>, offset: u64, bits: u8) -> io::Result<()> {
        let content = self.file_mut(path.as_ref())?;
        let mut byte = [0];
        if content.read(offset, &mut byte) == 1 {
            content.write(offset, &[byte[0] ^ bits]);
        }
        Ok(())
    }

    /// Cuts a file, or grows it with zeros.
    ///
    /// # Errors
    /// The file is not there.
    pub fn set_len(&mut self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        self.file_mut(path.as_ref())?.set_len(len);
        Ok(())
    }

    /// Takes a file away; whether it was there.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> bool {
        normal(path.as_ref()).is_ok_and(|path| self.files.remove(&path).is_some())
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// The file is not there.
    pub fn rename(&mut self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let to = normal(to.as_ref())?;
        let content = self
            .files
            .remove(&normal(from.as_ref())?)
            .ok_or_else(|| error(errno::ENOENT))?;
        self.files.insert(to, content);
        Ok(())
    }

    /// What a machine that starts from this image says its boot is. A power cut gives a new one;
    /// the death of a process keeps it.
    #[must_use]
    pub fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// Sets the boot that a machine that starts from this image believes in.
    pub fn set_boot_id(&mut self, boot_id: [u8; 16]) {
        self.boot_id = boot_id;
    }

    /// A hash of names and bytes (not of the boot): equal images have equal hashes, so that a
    /// state reached in two ways is checked once.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut hash = 0;
        for (path, content) in &self.files {
            hash = mix(hash ^ hasher.hash_one(path)).wrapping_add(content.hash());
        }
        for path in &self.dirs {
            hash = mix(hash ^ hasher.hash_one(path));
        }
        hash
    }

    /// Writes all of it below a real directory, which is made if absent; for other readers.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn export(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for path in &self.dirs {
            fs::create_dir_all(dir.join(path))?;
        }
        for (path, content) in &self.files {
            fs::write(dir.join(path), content.to_vec())?;
        }
        Ok(())
    }

    /// Reads all regular files and directories below a real directory.
    ///
    /// # Errors
    /// The file system refuses, or a name is not UTF-8.
    pub fn import(dir: &Path) -> io::Result<Self> {
        let mut image = Self::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(below) = todo.pop() {
            for entry in fs::read_dir(dir.join(&below))? {
                let entry = entry?;
                let path = below.join(entry.file_name());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    image.create_dir(&path)?;
                    todo.push(path);
                } else if kind.is_file() {
                    image.write(&path, &fs::read(entry.path())?)?;
                }
            }
        }
        Ok(image)
    }

    /// The first place where two images differ, in words; for failure messages.
    #[must_use]
    pub fn difference(&self, other: &Image) -> Option<String> {
        for path in self.files.keys().chain(other.files.keys()) {
            let (Some(one), Some(two)) = (self.files.get(path), other.files.get(path)) else {
                return Some(format!("/{path} is only in one"));
            };
            if one.len() != two.len() {
                return Some(format!("/{path} has {} bytes and {}", one.len(), two.len()));
            }
            if one.hash() != two.hash() {
                let (one, two) = (one.to_vec(), two.to_vec());
                let at = one
                    .iter()
                    .zip(&two)
                    .position(|(a, b)| a != b)
                    .unwrap_or(index(0));
                return Some(format!("/{path} differs at offset {at}"));
            }
        }
        (self.dirs != other.dirs).then(|| "the directories differ".to_owned())
    }
}
