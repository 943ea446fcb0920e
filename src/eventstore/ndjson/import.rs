//! Import: lines into the store, in batches.
//!
//! An import that was stopped, in whatever way, is simply repeated. Every event has an id that
//! follows from its line, so the store knows it again; what is there already is compared with its
//! line and left alone. Nothing else says how far an import came, and nothing else could be wrong.
//!
//! The first line that can't be imported ends the import. The batches before that of the line are
//! in, and nothing of its own: a batch is appended only when all its lines were understood, whole
//! or not at all. A last line without a newline that is no whole JSON object is *torn*: its writer
//! died, or is still writing, or the power failed and left zeros where its end should be. It is
//! reported and left out.

use super::json;
use super::line::{event_of_line, LineEvent};
use super::{Progress, LINE_LEN_MAX, NAMESPACE};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::eventstore::request::Prepared;
use crate::eventstore::{
    AppendReceipt, AppendRequest, EventStore, NewEvent, Read as ReadEvents, ReadEvent,
};
use crate::format::event::EventId;
use crate::vfs::outside;
use crate::wal::Durability;
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::Path;

/// Bytes of lines at which a batch ends, with the line that reaches it, so that lines that are all
/// long don't fill the memory.
const BATCH_BYTES_MAX: usize = 32 << 20;
/// Bytes read at once.
const READ_LEN: usize = 256 << 10;

/// Choices for an import.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImportOptions {
    /// Lines that are appended together, 1 or more; fewer where they are long.
    pub batch_count: usize,
    /// For the ids of events whose event_id is no UUID.
    pub namespace: EventId,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions {
            batch_count: 1000,
            namespace: NAMESPACE,
        }
    }
}

/// What an import did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImportReport {
    /// Lines that were read.
    pub line_count: u64,
    /// Events that were appended.
    pub imported: u64,
    /// Events that were there already.
    pub known: u64,
    /// Number of a torn last line, which was left out, counted from 1; 0 if there is none.
    pub torn_line: u64,
    /// Number of the line that can't be imported, counted from 1; 0 if there is none.
    pub bad_line: u64,
    /// The progress callback asked for it.
    pub stopped: bool,
}

/// An import that did not come to its end.
#[derive(Debug)]
pub struct ImportFailed {
    /// What it did until then.
    pub report: ImportReport,
    /// Why: of kind `BadLine` if it is because of a line, else what appending or reading gave.
    pub error: Error,
}

impl fmt::Display for ImportFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ImportFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<ImportFailed> for Error {
    fn from(failed: ImportFailed) -> Error {
        failed.error
    }
}

/// Appends the events of the file at `path`, which may be a pipe. See [`import`].
pub fn import_file(
    store: &EventStore,
    path: impl AsRef<Path>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> std::result::Result<ImportReport, ImportFailed> {
    let path = path.as_ref();
    let begun = outside::open_to_read(path).map_err(|error| ImportFailed {
        report: ImportReport::default(),
        error: Error::io("open", path, error),
    });
    let (mut file, len) = begun?;
    import(store, &mut file, len, options, progress).map_err(|mut failed| {
        if failed.error.kind() == ErrorKind::BadLine {
            failed.error = failed.error.at(Place {
                path: Some(path.to_path_buf()),
                ..Place::default()
            });
        }
        failed
    })
}

/// Appends the events of `source`, which has `total` bytes, or 0 if that is not known. They are
/// durable when the store was opened so.
///
/// `progress` is called after each batch, and says whether to go on.
pub fn import(
    store: &EventStore,
    source: &mut dyn Read,
    total: u64,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> std::result::Result<ImportReport, ImportFailed> {
    let mut import = Import {
        store,
        namespace: options.namespace,
        report: ImportReport::default(),
        batch: Vec::new(),
    };
    match import.run(source, total, options.batch_count, progress) {
        Ok(()) => Ok(import.report),
        Err(error) => Err(ImportFailed {
            report: import.report,
            error,
        }),
    }
}

/// A line that was understood, and its number.
struct Numbered {
    line: u64,
    event: LineEvent,
}

struct Import<'a> {
    store: &'a EventStore,
    namespace: EventId,
    report: ImportReport,
    batch: Vec<Numbered>,
}

impl Import<'_> {
    fn run(
        &mut self,
        source: &mut dyn Read,
        total: u64,
        batch_count: usize,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<()> {
        if batch_count == 0 {
            return Err(Error::invalid("batches of 0 lines"));
        }
        let mut lines = Lines::new(source);
        let mut batch_bytes = 0;
        while let Some(line) = lines.next().map_err(|error| self.of_line(error))? {
            self.report.line_count += 1;
            batch_bytes += line.len();
            if !is_blank(line) {
                match event_of_line(line, &self.namespace) {
                    Ok(event) => self.batch.push(Numbered {
                        line: self.report.line_count,
                        event,
                    }),
                    Err(_) if !line.ends_with(b"\n") && !json::is_object(line) => {
                        self.report.torn_line = self.report.line_count;
                        break;
                    }
                    Err(fault) => return Err(self.bad(self.report.line_count, fault.reason())),
                }
            }
            let is_full = self.batch.len() >= batch_count || batch_bytes >= BATCH_BYTES_MAX;
            if is_full && !self.batch.is_empty() {
                self.append()?;
                batch_bytes = 0;
                if !progress(self.progress(lines.bytes, total)) {
                    self.report.stopped = true;
                    return Ok(());
                }
            }
        }
        if !self.batch.is_empty() {
            self.append()?;
            // There is nothing left to stop.
            let _ = progress(self.progress(lines.bytes, total));
        }
        Ok(())
    }

    fn progress(&self, bytes: u64, total: u64) -> Progress {
        Progress {
            bytes,
            events: self.report.imported + self.report.known,
            total,
        }
    }

    fn bad(&mut self, line: u64, reason: &str) -> Error {
        self.report.bad_line = line;
        Error::new(ErrorKind::BadLine, format!("line {line}: {reason}"))
    }

    /// An error while the next line was read.
    fn of_line(&mut self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::BadLine => self.bad(self.report.line_count + 1, &error.to_string()),
            _ => error,
        }
    }

    /// Appends what is not there yet of the batch, in one append.
    fn append(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut new = self.each_once(&batch)?;
        while !new.is_empty() {
            match append_events(self.store, &new) {
                Ok(receipt) if receipt.duplicate => {
                    self.compare_all(&new, &receipt)?;
                    self.report.known += new.len() as u64;
                    break;
                }
                Ok(_) => {
                    self.report.imported += new.len() as u64;
                    break;
                }
                // Once, unless somebody else is importing the same.
                Err(error) if error.kind() == ErrorKind::Duplicate => {
                    let count = new.len();
                    self.leave_out_known(&mut new, error.known_ids())?;
                    if new.len() == count {
                        return Err(error);
                    }
                    self.report.known += (count - new.len()) as u64;
                }
                Err(error) => return Err(self.culprit(&new).unwrap_or(error)),
            }
        }
        Ok(())
    }

    /// The events of a batch, each id once.
    fn each_once<'b>(&mut self, batch: &'b [Numbered]) -> Result<Vec<&'b Numbered>> {
        let mut new: Vec<&Numbered> = Vec::with_capacity(batch.len());
        let mut first_of: HashMap<EventId, &Numbered> = HashMap::with_capacity(batch.len());
        for item in batch {
            match first_of.entry(item.event.id) {
                Entry::Vacant(place) => {
                    place.insert(item);
                    new.push(item);
                }
                Entry::Occupied(first) if first.get().event == item.event => {
                    self.report.known += 1;
                }
                Entry::Occupied(first) => {
                    let first = first.get().line;
                    let reason =
                        format!("has the event_id of line {first}, but says something else");
                    return Err(self.bad(item.line, &reason));
                }
            }
        }
        Ok(new)
    }

    /// All of `new` is there, one event after the other.
    fn compare_all(&mut self, new: &[&Numbered], receipt: &AppendReceipt) -> Result<()> {
        let mut reader = self.store.read(ReadEvents {
            from: receipt.first_position,
            to: receipt.last_position,
            ..ReadEvents::default()
        })?;
        let mut expected = new.iter();
        loop {
            let page = reader.next_page(new.len())?;
            if page.is_empty() {
                return Ok(());
            }
            for event in page.iter() {
                if let Some(item) = expected.next() {
                    self.compare(item, &event)?;
                }
            }
        }
    }

    fn leave_out_known(&mut self, new: &mut Vec<&Numbered>, known: &[EventId]) -> Result<()> {
        let mut found = HashMap::with_capacity(known.len());
        for id in known {
            let page = self.store.event_by_id(id)?;
            if !page.is_empty() {
                found.insert(*id, page);
            }
        }
        for item in new.iter() {
            if let Some(event) = found.get(&item.event.id).and_then(|page| page.get(0)) {
                self.compare(item, &event)?;
            }
        }
        new.retain(|item| !found.contains_key(&item.event.id));
        Ok(())
    }

    fn compare(&mut self, item: &Numbered, event: &ReadEvent<'_>) -> Result<()> {
        if item.event.is(event) {
            return Ok(());
        }
        let position = event.position;
        let reason = format!(
            "its event_id belongs to the event at position {position}, which says something else"
        );
        Err(self.bad(item.line, &reason))
    }

    /// Which line is the one that the store refuses, if it is because of a line.
    fn culprit(&mut self, new: &[&Numbered]) -> Option<Error> {
        new.iter().find_map(|item| {
            let refused = with_events(&[item], |events| {
                let request = AppendRequest {
                    events,
                    ..AppendRequest::default()
                };
                Prepared::new(&request).err()
            })?;
            if !matches!(
                refused.kind(),
                ErrorKind::InvalidArgument | ErrorKind::TooLarge
            ) {
                return None;
            }
            let reason = refused.to_string();
            // There is only one event here.
            let reason = reason.strip_prefix("event 0: ").unwrap_or(&reason);
            Some(self.bad(item.line, reason))
        })
    }
}

fn append_events(store: &EventStore, new: &[&Numbered]) -> Result<AppendReceipt> {
    with_events(new, |events| {
        let request = AppendRequest {
            events,
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened)
    })
}

/// Shows the events as the store takes them.
fn with_events<T>(items: &[&Numbered], work: impl FnOnce(&[NewEvent<'_>]) -> T) -> T {
    let tags: Vec<Vec<&str>> = items
        .iter()
        .map(|item| item.event.tags.iter().map(String::as_str).collect())
        .collect();
    let events: Vec<NewEvent<'_>> = items
        .iter()
        .zip(&tags)
        .map(|(item, tags)| item.event.as_new(tags))
        .collect();
    work(&events)
}

fn is_blank(line: &[u8]) -> bool {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0B;
    line.iter().all(is_space)
}

/// The lines of a source, one at a time, each with its newline.
struct Lines<'a> {
    source: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// What of the buffer was read and not yet given.
    begin: usize,
    end: usize,
    /// Bytes that were given.
    bytes: u64,
}

impl<'a> Lines<'a> {
    fn new(source: &'a mut dyn Read) -> Lines<'a> {
        Lines {
            source,
            buffer: Vec::new(),
            begin: 0,
            end: 0,
            bytes: 0,
        }
    }

    /// The next line; only the last can be without a newline.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        let mut searched = self.begin;
        let line_end = loop {
            let unseen = self.buffer.get(searched..self.end).unwrap_or_default();
            let newline = unseen.iter().position(|byte| *byte == b'\n');
            searched += newline.unwrap_or(unseen.len());
            if searched - self.begin > LINE_LEN_MAX {
                let what = format!("is longer than {LINE_LEN_MAX} bytes");
                return Err(Error::new(ErrorKind::BadLine, what));
            }
            if newline.is_some() {
                break searched + 1;
            }
            let moved = self.make_space()?;
            searched -= moved;
            let read = self.read()?;
            if read == 0 {
                break self.end;
            }
            self.end += read;
        };
        let line = self.begin..line_end;
        self.begin = line_end;
        self.bytes += line.len() as u64;
        Ok(self.buffer.get(line).filter(|line| !line.is_empty()))
    }

    /// Makes place behind what is there; returns by how much that moved to the front.
    fn make_space(&mut self) -> Result<usize> {
        let moved = self.begin;
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= moved;
        self.begin = 0;
        if self.end + READ_LEN > self.buffer.len() {
            // Doubled, so that a long line is not moved for each piece of it.
            let len = (2 * self.end).clamp(READ_LEN, LINE_LEN_MAX + 1) + READ_LEN;
            let more = len.saturating_sub(self.buffer.len());
            self.buffer
                .try_reserve_exact(more)
                .map_err(|_| Error::no_memory("a line", len))?;
            self.buffer.resize(len, 0);
        }
        Ok(moved)
    }

    fn read(&mut self) -> Result<usize> {
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        loop {
            match self.source.read(space) {
                Ok(read) => return Ok(read.min(space.len())),
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", Path::new("lines of events"), error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, and is interrupted in between.
    struct Slow<'a> {
        bytes: &'a [u8],
        calls: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.calls += 1;
            if self.calls % 3 == 0 {
                return Err(IoErrorKind::Interrupted.into());
            }
            let len = self.bytes.len().min(buffer.len()).min(self.calls % 5 + 1);
            let (now, later) = self.bytes.split_at(len);
            buffer[..len].copy_from_slice(now);
            self.bytes = later;
            Ok(len)
        }
    }

    #[test]
    fn lines_are_whole_however_they_are_read() {
        for text in ["", "\n", "a\nbc\n\n\ndefghijklm\n", "a\nb", "\n\n", "a"] {
            let mut source = Slow {
                bytes: text.as_bytes(),
                calls: 0,
            };
            let mut lines = Lines::new(&mut source);
            let mut found = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
            let expected: Vec<&str> = text.split_inclusive('\n').collect();
            assert_eq!(found, expected);
            assert_eq!(lines.bytes, text.len() as u64);
        }
    }

    #[test]
    fn a_line_is_as_long_as_is_allowed_and_no_longer() {
        for newline in ["", "\n"] {
            for (len, is_good) in [(LINE_LEN_MAX, true), (LINE_LEN_MAX + 1, false)] {
                // In memory, so that the newline comes with the bytes before it.
                let text = ["x".repeat(len).as_str(), newline].concat();
                let mut source = text.as_bytes();
                let mut lines = Lines::new(&mut source);
                let found = lines.next().map(|line| line.map(<[u8]>::len));
                match found {
                    Ok(found) => assert_eq!((found, is_good), (Some(text.len()), true)),
                    Err(error) => assert_eq!((error.kind(), is_good), (ErrorKind::BadLine, false)),
                }
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_a_limit() {
        let mut endless = std::io::repeat(b'x');
        let mut lines = Lines::new(&mut endless);
        let error = lines.next().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadLine);
        assert!(lines.buffer.capacity() <= LINE_LEN_MAX + 1 + READ_LEN);
    }
}
