//! Export: events of the store into a file, a line each.
//!
//! Positions have no gaps, so line n of an export is event n behind where it began. That is how an
//! export is resumed: the whole lines that are in the file are counted, the torn one behind them is
//! cut, and the last whole line is compared with its event, so that nothing is written behind what
//! is no export of this store.

use super::line::write_line;
use super::Progress;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::eventstore::{EventStore, Read as ReadEvents};
use crate::vfs::outside;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

/// Events between two calls of the progress callback.
const PROGRESS_COUNT: u64 = 1000;
/// Bytes at which lines are written.
const WRITE_LEN: usize = 256 << 10;

/// Choices for an export into a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportOptions {
    /// Position of the first event; 0: the first there is.
    pub from: u64,
    /// Go on with the export that is there, which began at the same position; one that is not there
    /// is begun. Else nothing may be there.
    pub resume: bool,
}

/// What an export did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportReport {
    /// Lines that were written.
    pub event_count: u64,
    /// Position of the last event that is in the file, or would be the one before its first.
    pub last_position: u64,
    /// The progress callback asked for it.
    pub stopped: bool,
}

/// Writes every event from `options.from` on to the file at `path`. See [`export`].
pub fn export_file(
    store: &EventStore,
    path: impl AsRef<Path>,
    options: &ExportOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<ExportReport> {
    let path = path.as_ref();
    let at_path = |error: Error| {
        error.at(Place {
            path: Some(path.to_path_buf()),
            ..Place::default()
        })
    };
    let mut from = options.from.max(1);
    if !options.resume {
        let mut file = outside::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => at_path(Error::new(
                ErrorKind::Exists,
                format!(
                    "{} exists already, and was not asked to be resumed",
                    path.display()
                ),
            )),
            _ => Error::io("create", path, error),
        })?;
        return write_events(store, &mut file, path, from, progress);
    }
    let mut file = outside::open_to_resume(path).map_err(|e| Error::io("open", path, e))?;
    let whole = whole_lines(&mut file).map_err(|error| Error::io("read", path, error))?;
    if whole.count > 0 {
        let position = from.saturating_add(whole.count - 1);
        if !is_line_of(store, position, &mut file, &whole, path)? {
            return Err(at_path(Error::invalid(format!(
                "line {} of the file is not the event at position {position}: it is no export of \
                 this store that began at this position",
                whole.count
            ))));
        }
        from = position + 1;
    }
    file.set_len(whole.end)
        .and_then(|()| file.seek(SeekFrom::Start(whole.end)))
        .map_err(|error| Error::io("cut the torn line of", path, error))?;
    write_events(store, &mut file, path, from, progress)
}

/// Writes every event from the position `from` on (0: the first) that is there now.
///
/// `progress` is called now and then, and says whether to go on. What was written is not synced.
pub fn export(
    store: &EventStore,
    target: &mut dyn Write,
    from: u64,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<ExportReport> {
    let name = Path::new("lines of events");
    write_events(store, target, name, from.max(1), progress)
}

fn write_events(
    store: &EventStore,
    target: &mut dyn Write,
    path: &Path,
    from: u64,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<ExportReport> {
    let to = store.last_position()?;
    let mut report = ExportReport {
        last_position: from - 1,
        ..ExportReport::default()
    };
    let mut told = Progress {
        total: (to + 1).saturating_sub(from),
        ..Progress::default()
    };
    let mut lines = String::new();
    let mut write = |lines: &mut String| {
        let written = target.write_all(lines.as_bytes());
        lines.clear();
        written.map_err(|error| Error::io("write", path, error))
    };
    let mut reader = store.read(ReadEvents {
        from,
        to,
        ..ReadEvents::default()
    })?;
    while report.event_count < told.total {
        let page = reader.next_page(1000)?;
        if page.is_empty() {
            break;
        }
        for event in page.iter() {
            let begin = lines.len();
            write_line(&mut lines, &event);
            report.event_count += 1;
            report.last_position = event.position;
            told.events += 1;
            told.bytes += (lines.len() - begin) as u64;
            if report.event_count % PROGRESS_COUNT == 0 {
                // What the caller is told of is in the file.
                write(&mut lines)?;
                if !progress(told) {
                    report.stopped = true;
                    return Ok(report);
                }
            } else if lines.len() >= WRITE_LEN {
                write(&mut lines)?;
            }
        }
    }
    write(&mut lines)?;
    target
        .flush()
        .map_err(|error| Error::io("write", path, error))?;
    // There is nothing left to stop.
    let _ = progress(told);
    Ok(report)
}

/// The whole lines of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct WholeLines {
    count: u64,
    /// Where the last of them begins.
    last: u64,
    /// Where they end.
    end: u64,
}

fn whole_lines(file: &mut dyn io::Read) -> io::Result<WholeLines> {
    let mut lines = WholeLines::default();
    let mut buffer = vec![0; WRITE_LEN];
    let mut offset = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(lines),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        for (_, place) in bytes
            .iter()
            .zip(offset..)
            .filter(|(byte, _)| **byte == b'\n')
        {
            lines.count += 1;
            lines.last = lines.end;
            lines.end = place + 1;
        }
        offset += read as u64;
    }
}

/// Whether the last whole line is that of the event at `position`.
fn is_line_of(
    store: &EventStore,
    position: u64,
    file: &mut File,
    lines: &WholeLines,
    path: &Path,
) -> Result<bool> {
    let page = store.event_at(position)?;
    let Some(event) = page.get(0) else {
        return Ok(false);
    };
    let mut expected = String::new();
    write_line(&mut expected, &event);
    if lines.end - lines.last != expected.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; expected.len()];
    file.seek(SeekFrom::Start(lines.last))
        .and_then(|_| file.read_exact(&mut found))
        .map_err(|error| Error::io("read", path, error))?;
    Ok(found == expected.as_bytes())
}
