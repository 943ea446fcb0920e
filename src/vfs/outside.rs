//! Files that are not the store's: those that a user names to be imported or exported.
//!
//! They are opened as any program opens a file, unlike the log's: links are followed, and a pipe or
//! a terminal is as good as a regular file. Nothing of the store depends on them, so they are not
//! part of [`Vfs`](super::Vfs), and no simulated disk has them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// A file to be read from its beginning, and its length if it is a regular one, else 0.
pub(crate) fn open_to_read(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let len = len_of(&file)?;
    Ok((file, len))
}

/// The length of a regular file, else 0.
pub(crate) fn len_of(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    Ok(if metadata.is_file() {
        metadata.len()
    } else {
        0
    })
}

/// A file to be written, where nothing may be yet.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A file to be read and then written on, made if there is none.
pub(crate) fn open_to_resume(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}
