//! What a log's directory holds, before anything is walked: FORMAT.md sections 12.1 and 12.2.
//!
//! Takes a directory; hands on the control file, the segments that belong to the log with the headers
//! that were asked for, and, where one can't be used, why. Reads only.

use super::control_file::{read_control, read_control_damaged, ControlFound};
use super::layout::{is_known_name, segment_number, Layout};
use super::segments::{missing, read_header, unusable, Segments};
use crate::error::{Error, ErrorKind, Result};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Seq;
use crate::vfs::{DirEntry, Vfs};
use std::collections::BTreeMap;
use std::io;

/// A segment of the log that can't be used, and why (row M of the decision table).
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) number: u64,
    pub(crate) error: Error,
}

/// The directory of a log as it was found.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) control: ControlFound,
    /// The segments, from the first up to the first that can't be used.
    pub(crate) segments: Segments,
    /// The first segment that is missing or can't be used. Those behind it were not looked at.
    pub(crate) unusable: Option<Unusable>,
    /// Smallest number that belongs to the log.
    pub(crate) first_segment: u64,
    /// Greatest number found.
    pub(crate) last_segment: u64,
    /// Records up to this number are never replayed.
    pub(crate) truncated_seq: Seq,
    /// Files of segments that were truncated but not deleted yet.
    pub(crate) retired: Vec<u64>,
}

/// What was found where a log was looked for.
#[derive(Debug)]
pub(crate) enum Found {
    /// No directory.
    Nothing,
    /// A directory in which a log may be made: empty, or left by a crash during creation.
    Room,
    /// A directory that holds other things.
    Foreign(String),
    /// A log.
    Log(Box<Survey>),
}

/// What the names alone say, without opening a file: `None` if there may be a log, which only
/// [`survey`] can tell.
pub(crate) fn glance(vfs: &dyn Vfs, layout: &Layout) -> Result<Option<Found>> {
    let entries = match vfs.list(layout.dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Found::Nothing)),
        Err(error) => return Err(Error::io("list", layout.dir(), error)),
    };
    let log = |name: &str| name == "control" || segment_number(name).is_some();
    if entries.iter().any(|entry| log(&entry.name)) {
        return Ok(None);
    }
    Ok(Some(room_or_foreign(entries)))
}

fn room_or_foreign(entries: Vec<DirEntry>) -> Found {
    let foreign = entries
        .into_iter()
        .find(|entry| !is_known_name(&entry.name));
    foreign.map_or(Found::Room, |entry| Found::Foreign(entry.name))
}

/// Which headers to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Headers {
    /// That of the last segment, if the names and the control file are as they should be; else all. What
    /// is wrong with another one is found by who needs it.
    Last,
    All,
}

/// Looks at the directory. An error is one of reading; damage is part of the answer.
pub(crate) fn survey(vfs: &dyn Vfs, layout: &Layout, headers: Headers) -> Result<Found> {
    survey_as(vfs, layout, headers, false)
}

/// Like [`survey`], for who takes what there is: a header or a control file that can't be read, and a lone
/// file that is no segment, are taken for damaged ones.
pub(crate) fn survey_damaged(vfs: &dyn Vfs, layout: &Layout) -> Result<Found> {
    survey_as(vfs, layout, Headers::All, true)
}

fn survey_as(
    vfs: &dyn Vfs,
    layout: &Layout,
    headers: Headers,
    any_is_damaged: bool,
) -> Result<Found> {
    let entries = match vfs.list(layout.dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io("list", layout.dir(), error)),
    };
    let control = if any_is_damaged {
        read_control_damaged(vfs, layout)?
    } else {
        read_control(vfs, layout)?
    };
    let mut numbers: Vec<u64> = entries
        .iter()
        .filter_map(|entry| segment_number(&entry.name))
        .collect();
    numbers.sort_unstable();
    let Some((first_found, last_found)) = numbers.first().zip(numbers.last()) else {
        if let Some(newest) = control.newest {
            return Ok(Found::Log(Box::new(Survey {
                first_segment: newest.first_segment,
                last_segment: newest.last_segment,
                truncated_seq: newest.truncated_seq,
                unusable: Some(Unusable::missing(
                    layout,
                    newest.first_segment.min(newest.last_segment),
                    "the control file names it",
                )),
                control,
                segments: Segments::default(),
                retired: Vec::new(),
            })));
        }
        return Ok(room_or_foreign(entries));
    };
    let first_segment = control.newest.map_or(*first_found, |c| c.first_segment);
    let last_segment = control
        .newest
        .map_or(*last_found, |c| c.last_segment.max(*last_found));
    let mut found = Survey {
        first_segment,
        last_segment,
        truncated_seq: control.newest.map_or(0, |c| c.truncated_seq),
        retired: numbers
            .iter()
            .copied()
            .filter(|&number| number < first_segment)
            .collect(),
        segments: Segments::default(),
        unusable: None,
        control,
    };
    numbers.retain(|&number| number >= first_segment);
    match found.control.newest {
        Some(newest) if newest.last_segment < first_segment => {
            let why = "the control file names it and a greater one as the first";
            found.unusable = Some(Unusable::missing(layout, newest.last_segment, why));
        }
        _ => {
            let is_judged =
                headers == Headers::Last && found.judge_last_header(vfs, layout, &numbers);
            if !is_judged {
                found.judge_headers(vfs, layout, &numbers, any_is_damaged)?;
            }
        }
    }
    if found.control.newest.is_none() {
        if let Some(header) = found.segments.headers().next() {
            found.truncated_seq = header.first_seq - 1;
        }
    }
    Ok(Found::Log(Box::new(found)))
}

/// The numbers of all segment files, in order.
pub(crate) fn segment_numbers(vfs: &dyn Vfs, layout: &Layout) -> Result<Vec<u64>> {
    let entries = vfs
        .list(layout.dir())
        .map_err(|error| Error::io("list", layout.dir(), error))?;
    let mut numbers: Vec<u64> = entries
        .iter()
        .filter_map(|entry| segment_number(&entry.name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Every segment from `first` on whose header can be used, whatever else is wrong.
pub(crate) fn usable_segments(
    vfs: &dyn Vfs,
    layout: &Layout,
    first: u64,
) -> Result<BTreeMap<u64, SegmentHeader>> {
    Ok(segment_numbers(vfs, layout)?
        .into_iter()
        .filter(|&number| number >= first)
        .filter_map(|number| {
            let (_, header) = super::segment_file::open_segment(vfs, layout, number).ok()?;
            Some((number, header))
        })
        .collect())
}

impl Unusable {
    fn missing(layout: &Layout, number: u64, why: &str) -> Unusable {
        Unusable {
            number,
            error: missing(layout, number, why),
        }
    }
}

impl Survey {
    /// Takes the segments as their names say, and of the headers reads the last one. False if that is not
    /// enough to tell that nothing is wrong: then each has to be looked at.
    fn judge_last_header(&mut self, vfs: &dyn Vfs, layout: &Layout, numbers: &[u64]) -> bool {
        let expected = self.first_segment..=self.last_segment;
        let Some(control) = self.control.newest else {
            return false;
        };
        if !numbers.iter().copied().eq(expected) {
            return false;
        }
        match read_header(vfs, layout, self.last_segment, Some(&control.log_id)) {
            Ok(header) => {
                self.segments = Segments::unread(numbers.iter().copied());
                self.segments.insert(header);
                true
            }
            Err(_) => false,
        }
    }

    /// Opens the segments in order and stops at the first that can't be used.
    fn judge_headers(
        &mut self,
        vfs: &dyn Vfs,
        layout: &Layout,
        numbers: &[u64],
        any_is_damaged: bool,
    ) -> Result<()> {
        let lone = numbers.len() == 1 && self.control.newest.is_none() && !any_is_damaged;
        let mut expected = self.first_segment;
        for &number in numbers {
            if number != expected {
                break;
            }
            match self.judge_header(vfs, layout, number) {
                Ok(()) => {}
                Err(error) => match error.kind() {
                    // A lone file that is no segment makes no log, and a newer log is not a
                    // damaged one: both are the answer to the whole question.
                    ErrorKind::Newer => return Err(error),
                    ErrorKind::NotALog if lone => return Err(error),
                    ErrorKind::Io if !any_is_damaged => return Err(error),
                    ErrorKind::NotALog | ErrorKind::Corrupt | ErrorKind::Io => {
                        let error = unusable(error);
                        self.unusable = Some(Unusable { number, error });
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
            expected = number + 1;
        }
        // A control file can name a first segment beyond all that there are.
        if expected <= self.last_segment || self.segments.is_empty() {
            let why = "segments around it are there";
            self.unusable = Some(Unusable::missing(layout, expected, why));
        }
        Ok(())
    }

    fn judge_header(&mut self, vfs: &dyn Vfs, layout: &Layout, number: u64) -> Result<()> {
        let first = self.segments.headers().next().map(|header| header.log_id);
        let log_id = self.control.newest.map(|control| control.log_id).or(first);
        let header = read_header(vfs, layout, number, log_id.as_ref())?;
        self.segments.take(layout, header)
    }

    /// The identity of the log, from the control file or the first segment.
    pub(crate) fn log_id(&self) -> [u8; 16] {
        self.control
            .newest
            .map(|control| control.log_id)
            .or_else(|| self.segments.headers().next().map(|header| header.log_id))
            .unwrap_or_default()
    }
}
