//! Segment files: how one is prepared and gets its name, and how one is opened and judged.
//!
//! A segment is complete (header written and synced) before it has its name, so no crash leaves a
//! named segment without a header.

use super::layout::{segment_name, Layout};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::frame::HEADER_LEN as FRAME_HEADER_LEN;
use crate::format::segment_header::{HeaderFault, SegmentHeader, HEADER_SIZE};
use crate::lsn::Lsn;
use crate::vfs::{read_full_at, write_all_at, File, FileLock, OpenMode, Vfs};
use std::io;
use std::sync::Arc;

/// Makes a file in `ready/` that begins with `header`, lets `fill` write frames behind it, and
/// syncs it. Nothing of the log refers to it yet. Whatever had the name before is replaced.
pub(crate) fn prepare_segment(
    vfs: &dyn Vfs,
    layout: &Layout,
    header: &SegmentHeader,
    fill: impl FnOnce(&dyn File) -> Result<()>,
) -> Result<Arc<dyn File>> {
    make_ready_dir(vfs, layout)?;
    let path = layout.prepared(header.segment_number);
    discard(vfs, &path)?;
    let file = vfs
        .open(&path, OpenMode::CreateNew)
        .map_err(|error| Error::io("create", &path, error))?;
    begin_segment(vfs, layout, header, file, fill)
}

/// Like [`prepare_segment`], in a recycled file that has the name already; or in a new one, if somebody
/// still looks at what the recycled one held.
pub(crate) fn prepare_recycled(
    vfs: &dyn Vfs,
    layout: &Layout,
    header: &SegmentHeader,
) -> Result<Arc<dyn File>> {
    let path = layout.prepared(header.segment_number);
    let file = vfs
        .open(&path, OpenMode::ReadWrite)
        .map_err(|error| Error::io("open", &path, error))?;
    match file.lock(FileLock::Exclusive) {
        Ok(true) => {}
        // Nobody can look at a file in place where there is nothing to keep others off it.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Ok(false) | Err(_) => {
            drop(file);
            return prepare_segment(vfs, layout, header, |_| Ok(()));
        }
    }
    let file = begin_segment(vfs, layout, header, file, |_| Ok(()))?;
    // Who finds the lock free from now on finds the new header too.
    match file.lock(FileLock::Unlocked) {
        Ok(_) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(error) => Err(Error::io("unlock", &path, error)),
    }
}

/// Keeps a file from being used again as long as it is open, for who looks at it in place; false if that
/// can't be had, or the file is not (any more) the one that `header` was read from.
pub(crate) fn hold_segment(file: &dyn File, header: &SegmentHeader) -> bool {
    if !matches!(file.lock(FileLock::Shared), Ok(true)) {
        return false;
    }
    // Between the first look at the header and the lock it may have been used again.
    let mut bytes = [0; crate::format::segment_header::USED_LEN];
    let len = read_full_at(file, 0, &mut bytes).unwrap_or(0);
    matches!(SegmentHeader::decode(&bytes[..len]), Ok(found) if found == *header)
}

/// Writes and syncs the beginning of a segment. Behind the header stand zeros where the first frame
/// goes, so that an empty segment ends cleanly, whatever a recycled file holds beyond.
fn begin_segment(
    vfs: &dyn Vfs,
    layout: &Layout,
    header: &SegmentHeader,
    file: Arc<dyn File>,
    fill: impl FnOnce(&dyn File) -> Result<()>,
) -> Result<Arc<dyn File>> {
    let path = layout.prepared(header.segment_number);
    let mut block = vec![0; HEADER_SIZE as usize + FRAME_HEADER_LEN];
    let used = header.encode();
    block[..used.len()].copy_from_slice(&used);
    let written = write_all_at(file.as_ref(), 0, &block)
        .map_err(|failure| Error::io("write", &path, failure.error))
        .and_then(|()| fill(file.as_ref()));
    if let Err(error) = written {
        // A full disk must not be kept full by a file that nobody needs.
        let _ = vfs.unlink(&path);
        return Err(error);
    }
    // Without this the name could survive a power cut and the header not.
    file.sync_data()
        .map_err(|error| Error::sync(&path, error))?;
    Ok(file)
}

/// Gives a prepared segment its name, durably.
pub(crate) fn publish_segment(vfs: &dyn Vfs, layout: &Layout, number: u64) -> Result<()> {
    let (from, to) = (layout.prepared(number), layout.segment(number));
    vfs.rename(&from, &to)
        .map_err(|error| Error::io("rename", &from, error))?;
    // Without this a power cut could take the name, and with it every frame that is acknowledged
    // in this segment.
    vfs.sync_dir(layout.dir())
        .map_err(|error| Error::sync(layout.dir(), error))
}

/// Makes `ready/` if it is not there.
pub(crate) fn make_ready_dir(vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
    match vfs.create_dir(&layout.ready()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_ready_dir(vfs, layout).map(|_| ())
        }
        Err(error) => Err(Error::io("create directory", &layout.ready(), error)),
    }
}

/// Whether `ready/` is there. It must be a directory: behind a symbolic link stand other people's
/// files, and names in `ready/` are deleted and replaced without a question.
pub(crate) fn check_ready_dir(vfs: &dyn Vfs, layout: &Layout) -> Result<bool> {
    let path = layout.ready();
    let entries = vfs
        .list(layout.dir())
        .map_err(|error| Error::io("list", layout.dir(), error))?;
    let name = path.file_name().unwrap_or_default();
    match entries.iter().find(|entry| *entry.name == *name) {
        None => Ok(false),
        Some(entry) if entry.is_dir => Ok(true),
        Some(_) => Err(Error::io(
            "use",
            &path,
            io::Error::new(io::ErrorKind::InvalidInput, "not a directory"),
        )),
    }
}

/// Deletes a name if it is there.
pub(crate) fn discard(vfs: &dyn Vfs, path: &std::path::Path) -> Result<()> {
    match vfs.unlink(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("delete", path, error)),
    }
}

/// Opens segment `number` and judges its header (FORMAT.md section 4, steps 1 to 4, and that the
/// number is the one in the name). The file handle is good for reading.
pub(crate) fn open_segment(
    vfs: &dyn Vfs,
    layout: &Layout,
    number: u64,
) -> Result<(Arc<dyn File>, SegmentHeader)> {
    let path = layout.segment(number);
    let place = Place {
        path: Some(path.clone()),
        segment: number,
        offset: 0,
        lsn: Lsn::NONE,
    };
    let file = vfs
        .open(&path, OpenMode::Read)
        .map_err(|error| Error::io("open", &path, error).at(place.clone()))?;
    let mut bytes = [0; crate::format::segment_header::USED_LEN];
    let len = read_full_at(file.as_ref(), 0, &mut bytes)
        .map_err(|error| Error::io("read", &path, error).at(place.clone()))?;
    let refuse = |kind, what: String| {
        // A segment that is retired loses its name before its file is used again, and no number is
        // given twice: where the name is gone, what was read is no damage.
        match vfs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::io("open", &path, error).at(place.clone()))
            }
            _ => {
                Err(Error::new(kind, format!("{}: {what}", segment_name(number))).at(place.clone()))
            }
        }
    };
    match SegmentHeader::decode(&bytes[..len]) {
        Ok(header) if header.segment_number == number => Ok((file, header)),
        Ok(header) => refuse(
            ErrorKind::Corrupt,
            format!(
                "the header belongs to segment {}, the name to {number}",
                header.segment_number
            ),
        ),
        Err(HeaderFault::NotASegment) => refuse(
            ErrorKind::NotALog,
            "it does not begin like a Duralog segment".to_string(),
        ),
        Err(HeaderFault::Damaged(what)) => refuse(ErrorKind::Corrupt, what),
        Err(HeaderFault::Newer(what)) => refuse(ErrorKind::Newer, what),
    }
}
