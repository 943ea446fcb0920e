//! The segments of a log in their order, with the headers that have been read so far (FORMAT.md
//! section 12.2).
//!
//! Opening reads the header of the last one alone, so that it costs the same for a long history and a
//! short one. The others are read when they are first asked for: who asks is told which one is missing,
//! reads it, and asks again.

use super::layout::{segment_name, Layout};
use super::segment_file::open_segment;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::{Lsn, Seq};
use crate::vfs::Vfs;
use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

/// The header of a segment has to be read first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unread {
    pub(crate) number: u64,
    /// Whether there is an answer without it, if it can't be used.
    pub(crate) optional: bool,
}

/// An answer, or the header that has to be read for it.
pub(crate) type Known<T> = std::result::Result<T, Unread>;

/// What is known of a segment.
#[derive(Clone, Debug)]
enum Entry {
    Unread,
    /// It could not be used. Searches pass it over; who needs this one reads it again, and is told why.
    Refused,
    Read(Box<SegmentHeader>),
}

impl Entry {
    fn header(&self) -> Option<&SegmentHeader> {
        match self {
            Entry::Read(header) => Some(header),
            Entry::Unread | Entry::Refused => None,
        }
    }
}

/// How often a segment is looked for in proportion.
const GUESSES_MAX: u32 = 6;

/// See the module.
#[derive(Clone, Default, Debug)]
pub(crate) struct Segments(BTreeMap<u64, Entry>);

impl Segments {
    /// All that are there, none of which has been read.
    pub(crate) fn unread(numbers: impl IntoIterator<Item = u64>) -> Segments {
        let unread = |number| (number, Entry::Unread);
        Segments(numbers.into_iter().map(unread).collect())
    }

    /// Those whose headers have been read, and no others.
    pub(crate) fn read(headers: BTreeMap<u64, SegmentHeader>) -> Segments {
        let read = |(number, header)| (number, Entry::Read(Box::new(header)));
        Segments(headers.into_iter().map(read).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    pub(crate) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.0.keys().copied()
    }

    pub(crate) fn first_number(&self) -> Option<u64> {
        self.numbers().next()
    }

    pub(crate) fn last_number(&self) -> Option<u64> {
        self.numbers().next_back()
    }

    /// The headers that have been read, in order.
    pub(crate) fn headers(&self) -> impl DoubleEndedIterator<Item = &SegmentHeader> {
        self.0.values().filter_map(Entry::header)
    }

    pub(crate) fn insert(&mut self, header: SegmentHeader) {
        let number = header.segment_number;
        self.0.insert(number, Entry::Read(Box::new(header)));
    }

    /// Searches are to pass over segment `number`.
    pub(crate) fn refuse(&mut self, number: u64) {
        if let Some(entry @ Entry::Unread) = self.0.get_mut(&number) {
            *entry = Entry::Refused;
        }
    }

    /// Takes out those below `first`.
    pub(crate) fn drop_below(&mut self, first: u64) {
        self.0 = self.0.split_off(&first);
    }

    /// The header of segment `number`; `None` if it is not one of these.
    pub(crate) fn get(&self, number: u64) -> Known<Option<&SegmentHeader>> {
        match self.0.get(&number) {
            None => Ok(None),
            Some(Entry::Read(header)) => Ok(Some(header)),
            Some(Entry::Unread | Entry::Refused) => Err(Unread {
                number,
                optional: false,
            }),
        }
    }

    /// The first one of `range` that can be used, as far as is known.
    fn usable<'a>(
        mut range: impl Iterator<Item = (&'a u64, &'a Entry)>,
    ) -> Known<Option<&'a SegmentHeader>> {
        let usable = |(_, entry): &(&u64, &Entry)| !matches!(entry, Entry::Refused);
        match range.find(usable) {
            None => Ok(None),
            Some((_, Entry::Read(header))) => Ok(Some(header)),
            Some((&number, _)) => Err(Unread {
                number,
                optional: true,
            }),
        }
    }

    /// The first one behind segment `number` that can be used.
    pub(crate) fn after(&self, number: u64) -> Known<Option<&SegmentHeader>> {
        Segments::usable(self.0.range((Excluded(number), Unbounded)))
    }

    pub(crate) fn first(&self) -> Known<Option<&SegmentHeader>> {
        self.first_number()
            .map_or(Ok(None), |number| self.get(number))
    }

    pub(crate) fn last(&self) -> Known<Option<&SegmentHeader>> {
        self.last_number()
            .map_or(Ok(None), |number| self.get(number))
    }

    /// The last one whose `key`, which grows from each to the next, is not above `wanted`.
    ///
    /// Segments are about equally long, so a few guesses in proportion find it; where they do not, the
    /// rest is halved.
    fn last_not_above(
        &self,
        wanted: u64,
        key: impl Fn(&SegmentHeader) -> u64,
    ) -> Known<Option<&SegmentHeader>> {
        let (Some(first), Some(last)) = (self.first_number(), self.last_number()) else {
            return Ok(None);
        };
        let (mut low, mut high) = (first, last);
        let (mut found, mut above): (Option<&SegmentHeader>, Option<&SegmentHeader>) = (None, None);
        for step in 0.. {
            if low > high {
                break;
            }
            let probe = match (found, above) {
                // What is asked for most is at the end, and its header is there from the beginning.
                (None, None) => last,
                (None, Some(_)) if step == 1 => first,
                (Some(before), Some(behind)) if step < GUESSES_MAX => {
                    let count = behind.segment_number - before.segment_number;
                    let part = u128::from(wanted - key(before)) * u128::from(count);
                    let guess = part / u128::from((key(behind) - key(before)).max(1));
                    let guess = u64::try_from(guess).unwrap_or(u64::MAX);
                    before.segment_number.saturating_add(guess)
                }
                _ => low + (high - low) / 2,
            };
            let probe = probe.clamp(low, high);
            let header = match Segments::usable(self.0.range(low..=probe).rev())? {
                None => Segments::usable(self.0.range((Excluded(probe), Included(high))))?,
                below => below,
            };
            match header {
                Some(header) if key(header) <= wanted => {
                    found = Some(header);
                    low = header.segment_number.saturating_add(1);
                }
                Some(header) => {
                    above = Some(header);
                    high = header.segment_number.saturating_sub(1);
                }
                None => break,
            }
        }
        Ok(found)
    }

    /// The segment whose LSNs include `lsn`, if one does. Where a header behind it was passed over, that one
    /// is needed, since it may begin before `lsn`.
    pub(crate) fn with_lsn(&self, lsn: Lsn) -> Known<Option<&SegmentHeader>> {
        let found = self.last_not_above(lsn.0, |header| header.base_lsn.0)?;
        let behind = found.map_or(Bound::Unbounded, |found| Excluded(found.segment_number));
        match self.0.range((behind, Unbounded)).next() {
            Some((&number, Entry::Refused)) => self.get(number),
            _ => Ok(found),
        }
    }

    /// The last segment that begins before the record behind `seq` or with it; the first one if none does.
    pub(crate) fn last_up_to(&self, seq: Seq) -> Known<Option<&SegmentHeader>> {
        let wanted = seq.saturating_add(1);
        match self.last_not_above(wanted, |header| header.first_seq)? {
            None => self.first(),
            found => Ok(found),
        }
    }

    /// The segment in which the record behind `seq` stands or will stand.
    ///
    /// Segments before it with the same first_seq hold no committed record, but perhaps others,
    /// and are read too: what a raw cursor shows must not depend on where a record was committed.
    pub(crate) fn for_record_behind(&self, seq: Seq) -> Known<Option<&SegmentHeader>> {
        let Some(found) = self.last_up_to(seq)? else {
            return Ok(None);
        };
        let smaller = found.first_seq.saturating_sub(1);
        match self.last_not_above(smaller, |header| header.first_seq)? {
            None => Segments::usable(self.0.iter()),
            Some(before) => self.after(before.segment_number),
        }
    }

    /// Those that begin behind record `seq`, in order.
    pub(crate) fn behind(&self, seq: Seq) -> Known<Vec<SegmentHeader>> {
        let mut from = u64::MAX;
        for number in self.numbers().rev() {
            match self.get(number)? {
                Some(header) if header.first_seq.saturating_sub(1) > seq => from = number,
                _ => break,
            }
        }
        let headers = self.0.range(from..).filter_map(|(_, entry)| entry.header());
        Ok(headers.cloned().collect())
    }

    /// Takes in a header that was just read, if it agrees with the one before it that is known. One behind
    /// it that does not agree with it is refused from now on: in order of number, it is the first that can't
    /// be used.
    pub(crate) fn take(&mut self, layout: &Layout, header: SegmentHeader) -> Result<()> {
        let number = header.segment_number;
        let mut below = self.0.range(..number).rev();
        if let Some(before) = below.find_map(|(_, entry)| entry.header()) {
            check_order(layout, before, &header)?;
        }
        let mut above = self.0.range_mut((Excluded(number), Unbounded));
        if let Some((_, entry)) = above.find(|(_, entry)| entry.header().is_some()) {
            let agrees = |behind| check_order(layout, &header, behind).is_ok();
            if !entry.header().is_some_and(agrees) {
                *entry = Entry::Refused;
            }
        }
        self.insert(header);
        Ok(())
    }
}

/// Reads the header of segment `number`, and judges it by itself: it must be one of the log with this id.
pub(crate) fn read_header(
    vfs: &dyn Vfs,
    layout: &Layout,
    number: u64,
    log_id: Option<&[u8; 16]>,
) -> Result<SegmentHeader> {
    let (_, header) = open_segment(vfs, layout, number)?;
    match log_id.filter(|log_id| header.log_id != **log_id) {
        None => Ok(header),
        Some(log_id) => Err(refused(
            layout,
            number,
            &format!(
                "it belongs to another log: id {}, expected {}",
                hex(&header.log_id),
                hex(log_id)
            ),
        )),
    }
}

/// Judges a header by one that stands before it.
fn check_order(layout: &Layout, before: &SegmentHeader, header: &SegmentHeader) -> Result<()> {
    let what = if header.prev_end_lsn < before.base_lsn {
        format!(
            "prev_end_lsn {} lies before segment {}, which begins at {}",
            header.prev_end_lsn, before.segment_number, before.base_lsn
        )
    } else if header.first_seq < before.first_seq {
        format!(
            "first_seq {} is smaller than that of segment {}, {}",
            header.first_seq, before.segment_number, before.first_seq
        )
    } else if header.application_id != before.application_id {
        format!(
            "application id {}, expected {}",
            header.application_id, before.application_id
        )
    } else {
        return Ok(());
    };
    Err(refused(layout, header.segment_number, &what))
}

fn refused(layout: &Layout, number: u64, what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("{}: {what}", segment_name(number)),
    )
    .at(place_of(layout, number))
}

/// The answer where a segment can't be used for `error` (row M of the decision table).
pub(crate) fn unusable(error: Error) -> Error {
    let place = error.place().clone();
    error.into_kind(ErrorKind::Corrupt, "row M").at(place)
}

/// The answer where segment `number` is not there (row M).
pub(crate) fn missing(layout: &Layout, number: u64, why: &str) -> Error {
    let message = format!("row M: {} is missing: {why}", segment_name(number));
    Error::new(ErrorKind::Corrupt, message).at(place_of(layout, number))
}

fn place_of(layout: &Layout, number: u64) -> Place {
    Place {
        path: Some(layout.segment(number)),
        segment: number,
        ..Place::default()
    }
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_header::tests::example;
    use crate::vfs::sim::Rng;
    use std::path::Path;

    /// What the files would say.
    fn headers(rng: &mut Rng, count: u64, gaps: bool) -> Vec<SegmentHeader> {
        let mut next = example();
        (next.base_lsn, next.prev_end_lsn, next.first_seq) = (Lsn(4096), Lsn(4096), 1);
        let mut headers = Vec::new();
        for _ in 0..count {
            let len = match rng.below(8) {
                0 => 1 << rng.below(30),
                _ => 1000 + rng.below(100),
            };
            headers.push(next.clone());
            next.segment_number += if gaps { 1 + rng.below(3) / 2 } else { 1 };
            next.prev_end_lsn = Lsn(next.base_lsn.0 + len);
            next.base_lsn = next.prev_end_lsn;
            // Some segments hold no committed record.
            next.first_seq += rng.below(4);
        }
        headers
    }

    /// Asks, reading what has to be read; `refused` says which can't be.
    fn ask(
        segments: &mut Segments,
        files: &[SegmentHeader],
        refused: &[u64],
        question: impl Fn(&Segments) -> Known<Option<&SegmentHeader>>,
    ) -> std::result::Result<Option<SegmentHeader>, u64> {
        let layout = Layout::new(Path::new("/log"));
        loop {
            let unread = match question(segments) {
                Ok(answer) => return Ok(answer.cloned()),
                Err(unread) => unread,
            };
            if !refused.contains(&unread.number) {
                let mut found = files.iter().filter(|h| h.segment_number == unread.number);
                segments
                    .take(&layout, found.next().unwrap().clone())
                    .unwrap();
            } else if unread.optional {
                segments.refuse(unread.number);
            } else {
                return Err(unread.number);
            }
        }
    }

    #[test]
    fn what_is_looked_for_is_what_a_look_at_all_of_them_finds() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let count = 1 + rng.below(40);
            let gaps = rng.percent(30);
            let files = headers(&mut rng, count, gaps);
            let numbers = files.iter().map(|header| header.segment_number);
            let mut segments = Segments::unread(numbers.clone());
            segments.insert(files.last().unwrap().clone());
            let last = files.last().unwrap();
            for _ in 0..40 {
                let lsn = Lsn(rng.below(last.base_lsn.0 + 1000));
                let up_to = |header: &&SegmentHeader| header.base_lsn <= lsn;
                let wanted = files.iter().rev().find(up_to).cloned();
                let found = ask(&mut segments, &files, &[], |all| all.with_lsn(lsn));
                assert_eq!(found, Ok(wanted), "seed {seed}, LSN {lsn}");

                let seq = rng.below(last.first_seq + 3);
                let up_to = |header: &&SegmentHeader| header.first_seq <= seq + 1;
                let newest = files.iter().rev().find(up_to);
                let same = |header: &&SegmentHeader| header.first_seq == newest.unwrap().first_seq;
                let oldest = newest.and_then(|_| files.iter().find(same));
                let [newest, oldest] = [newest, oldest].map(|one| one.or(files.first()).cloned());
                let found = ask(&mut segments, &files, &[], |all| all.last_up_to(seq));
                assert_eq!(found, Ok(newest), "seed {seed}, record {seq}");
                let found = ask(&mut segments, &files, &[], |all| all.for_record_behind(seq));
                assert_eq!(found, Ok(oldest), "seed {seed}, record {seq}");
            }
        }
    }

    #[test]
    fn a_segment_is_found_among_thousands_by_reading_a_few_headers() {
        let mut files = headers(&mut Rng::new(1), 4096, false);
        let even: Vec<SegmentHeader> = (0..)
            .zip(&files)
            .map(|(nth, header)| SegmentHeader {
                base_lsn: Lsn(4096 + nth * 65_536),
                prev_end_lsn: Lsn(4096 + nth * 65_536),
                ..header.clone()
            })
            .collect();
        // As uneven as it gets: each is longer than all before together.
        files.truncate(48);
        for (nth, header) in (0..).zip(&mut files) {
            (header.base_lsn, header.prev_end_lsn) = (Lsn(1 << nth), Lsn(1 << nth));
        }
        for (files, most) in [(even, 4), (files, GUESSES_MAX + 6)] {
            for header in &files {
                let numbers = files.iter().map(|header| header.segment_number);
                let mut segments = Segments::unread(numbers);
                segments.insert(files.last().unwrap().clone());
                let question = |all: &Segments| all.with_lsn(header.base_lsn).map(|f| f.cloned());
                let (mut found, mut reads) = (question(&segments), 0);
                while let Err(unread) = found {
                    let first = files[0].segment_number;
                    let read = files[(unread.number - first) as usize].clone();
                    segments.insert(read);
                    reads += 1;
                    found = question(&segments);
                }
                assert_eq!(found, Ok(Some(header.clone())));
                assert!(reads <= most, "{reads} of {}", files.len());
            }
        }
    }

    #[test]
    fn a_header_that_cannot_be_used_is_passed_over_and_told_to_who_needs_it() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let count = 2 + rng.below(20);
            let files = headers(&mut rng, count, false);
            let last = files.last().unwrap();
            let bad = &files[rng.below(count - 1) as usize];
            let refused = [bad.segment_number];
            let numbers = files.iter().map(|header| header.segment_number);
            let mut segments = Segments::unread(numbers);
            segments.insert(last.clone());
            for _ in 0..20 {
                let seq = rng.below(last.first_seq + 3);
                let usable = files.iter().filter(|header| *header != bad);
                let newest = usable
                    .rev()
                    .find(|header| header.first_seq <= seq + 1)
                    .cloned();
                let found = ask(&mut segments, &files, &refused, |all| all.last_up_to(seq));
                match newest {
                    Some(newest) => assert_eq!(found, Ok(Some(newest)), "seed {seed}"),
                    // None before it: the first is what is needed.
                    None if *bad == files[0] => assert_eq!(found, Err(bad.segment_number)),
                    None => assert_eq!(found, Ok(files.first().cloned())),
                }
            }
            let found = ask(&mut segments, &files, &refused, |all| {
                all.get(bad.segment_number)
            });
            assert_eq!(found, Err(bad.segment_number));
            // What stands in it is not looked for in the one before.
            let lsn = bad.base_lsn;
            let found = ask(&mut segments, &files, &refused, |all| all.with_lsn(lsn));
            assert_eq!(found, Err(bad.segment_number), "seed {seed}");
        }
    }
}
