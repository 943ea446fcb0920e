//! Salvage, before the first entry: segment headers that are damaged, rebuilt from the frames behind
//! them.
//!
//! Every frame carries the salt of its segment's header and its own LSN, so an intact one says what
//! a reader needs of the header: `base_lsn` is its LSN less its distance from `header_size`. Which
//! number the segment has is said by its name, which log it belongs to by the others and `control`.
//!
//! Invariant: frames of an older use of the file are never taken. Their LSNs lie below the segment
//! before, and none of them stands at `header_size`, where a writer that uses a file again leaves
//! zeros or its own first frame. Where neither decides, the segment is left out, and the gap says so.

use super::salvage::{payload_is_intact, Effort, LOOK_LEN};
use crate::error::{ErrorKind, Result};
use crate::format::frame::{seq_after, FrameHeader, HEADER_LEN};
use crate::format::segment_header::{SegmentHeader, BASE_LSN_LIMIT, HEADER_SIZE, USED_LEN};
use crate::format::{get_u32, FORMAT_MINOR};
use crate::lsn::{Lsn, Seq};
use crate::vfs::{read_full_at, File, OpenMode, Vfs};
use crate::wal::layout::Layout;
use crate::wal::segment_file::open_segment;
use crate::wal::survey::{segment_numbers, Survey};
use std::collections::BTreeMap;

/// Generations of frames that are told apart in one file; one with more was made to do harm.
const GENERATIONS_MAX: usize = 16;

/// A segment whose header is damaged.
#[derive(Clone, Debug)]
pub(crate) struct DamagedHeader {
    /// What is wrong with it and what became of it, in words.
    pub(crate) what: String,
    /// Link that the frame at `header_size` carries; 0 if that frame is damaged too.
    pub(crate) first_link: u32,
}

/// Adds to `segments`, the headers that can be used, those that their frames give back. Tells of
/// every damaged one what became of it.
pub(crate) fn rebuild_headers(
    vfs: &dyn Vfs,
    layout: &Layout,
    found: &Survey,
    segments: &mut BTreeMap<u64, SegmentHeader>,
) -> Result<BTreeMap<u64, DamagedHeader>> {
    let mut damaged = BTreeMap::new();
    let mut effort = Effort::default();
    let numbers = segment_numbers(vfs, layout)?;
    for number in numbers.into_iter().filter(|&n| n >= found.first_segment) {
        // An intact header stays, unless `control` and the frames behind it say otherwise.
        let kept = segments.get(&number).map(|kept| kept.log_id);
        let what = match (open_segment(vfs, layout, number), kept) {
            (Ok(_), Some(log_id)) if log_id == found.log_id() => continue,
            (Ok(_), _) => "the header belongs to another log".to_string(),
            (Err(error), _) if matches!(error.kind(), ErrorKind::Newer | ErrorKind::NotFound) => {
                continue
            }
            (Err(error), _) => format!("the header is damaged: {error}"),
        };
        let Ok(file) = vfs.open(&layout.segment(number), OpenMode::Read) else {
            continue;
        };
        let around = Around::new(file.as_ref(), number, found, segments);
        match around.rebuild(file.as_ref(), kept.is_some(), &mut effort) {
            Ok((header, first_link)) => {
                let what = format!("{what}; it was rebuilt from the frames behind it");
                segments.insert(number, header);
                damaged.insert(number, DamagedHeader { what, first_link });
            }
            // It may be `control` that is wrong.
            Err(_) if kept.is_some() => {}
            Err(why) => {
                let what = format!("{what}; {why}");
                let first_link = 0;
                damaged.insert(number, DamagedHeader { what, first_link });
            }
        }
    }
    Ok(damaged)
}

/// What is known of a segment without its header.
struct Around<'a> {
    number: u64,
    log_id: [u8; 16],
    header_size: u32,
    before: Option<&'a SegmentHeader>,
    behind: Option<&'a SegmentHeader>,
    /// Where it ends, as its successor or a clean close says.
    end: Option<Lsn>,
    /// Salts of other headers, and of the intact one that does not belong here.
    other_salts: Vec<u32>,
    /// The control file's promise, if this is the last segment that it knows.
    promise: Option<Lsn>,
    /// Everything up to here was truncated, if that is known.
    truncated_seq: Option<Seq>,
}

/// The frames of one use of a file.
struct Generation {
    salt: u32,
    base_lsn: Lsn,
    first_seq: Seq,
    /// Number that the record behind its last frame takes.
    next_seq: Seq,
    /// Where the frame behind the last one found stands, and its link.
    next: (u64, u32),
    /// A frame is linked to the one before it.
    linked: bool,
}

impl<'a> Around<'a> {
    fn new(
        file: &dyn File,
        number: u64,
        found: &Survey,
        segments: &'a BTreeMap<u64, SegmentHeader>,
    ) -> Around<'a> {
        let before = segments
            .range(..number)
            .next_back()
            .map(|(_, header)| header);
        let behind = segments
            .range(number + 1..)
            .next()
            .map(|(_, header)| header);
        let neighbour = before.or(behind);
        let successor = behind.filter(|header| header.segment_number == number + 1);
        let closed = found
            .control
            .newest
            .filter(|control| control.closed && control.last_segment == number);
        let end = match (successor, closed) {
            (Some(header), _) => Some(header.prev_end_lsn),
            (None, closed) => closed.map(|control| control.end_lsn),
        };
        let mut own = [0; USED_LEN];
        let own = read_full_at(file, 0, &mut own)
            .ok()
            .and_then(|len| SegmentHeader::decode(&own[..len]).ok());
        let others = segments.values().filter(|h| h.segment_number != number);
        Around {
            number,
            log_id: neighbour.map_or(found.log_id(), |header| header.log_id),
            header_size: neighbour.map_or(HEADER_SIZE, |header| header.header_size),
            before,
            behind,
            end,
            other_salts: others.chain(own.as_ref()).map(|h| h.salt).collect(),
            promise: found
                .control
                .newest
                .filter(|control| control.last_segment == number)
                .map(|control| control.durable_lsn),
            truncated_seq: found.control.newest.map(|control| control.truncated_seq),
        }
    }

    /// The header that the frames in `file` were written behind, and the link of the first of them;
    /// or why there is none. With `first_only` no other frame is asked than the one at
    /// `header_size`.
    fn rebuild(
        &self,
        file: &dyn File,
        first_only: bool,
        effort: &mut Effort,
    ) -> std::result::Result<(SegmentHeader, u32), &'static str> {
        let begin = u64::from(self.header_size);
        let mut head = [0; HEADER_LEN];
        let len = read_full_at(file, begin, &mut head).unwrap_or(0);
        let first = FrameHeader::decode_of_any(&head[..len]);
        let standing = first
            .filter(|first| effort.allows(first.payload_len))
            .filter(|first| payload_is_intact(file, begin, first))
            .and_then(|first| self.generation(begin, &first))
            .filter(|generation| self.fits(file, generation));
        let generation = match standing {
            Some(generation) => generation,
            None if first_only => return Err("no frame that fits here stands behind it"),
            None => self.choose(file, effort)?,
        };
        // Also where only its payload is damaged, the first frame says what the first number is.
        let live = FrameHeader::decode_live(&head[..len], generation.salt, generation.base_lsn)
            .filter(|first| first.first_seq != 0);
        let first_link = live.map_or(0, |first| first.link);
        let header = SegmentHeader {
            format_minor: FORMAT_MINOR,
            header_size: self.header_size,
            read_only_compatible: 0,
            compatible: 0,
            flags: 0,
            log_id: self.log_id,
            segment_number: self.number,
            base_lsn: generation.base_lsn,
            first_seq: live.map_or(generation.first_seq, |first| first.first_seq),
            prev_end_lsn: generation.base_lsn,
            prev_link: 0,
            salt: generation.salt,
            durable_lsn: Lsn::NONE,
            // Not known: a search for the newest CHECKPOINT goes on in the segment before.
            checkpoint_lsn: Lsn(generation.base_lsn.0.saturating_sub(8)),
            allocated_size: 0,
            created_ns: 0,
            application_id: self.before.or(self.behind).map_or(0, |h| h.application_id),
        };
        Ok((header, first_link))
    }

    /// The generation of a frame that stands at `offset`.
    fn generation(&self, offset: u64, head: &FrameHeader) -> Option<Generation> {
        let distance = offset.checked_sub(u64::from(self.header_size))?;
        let base_lsn = Lsn(head.lsn.0.checked_sub(distance)?);
        let possible = base_lsn.0 % 8 == 0
            && base_lsn.0 < BASE_LSN_LIMIT
            && head.salt != 0
            && head.first_seq != 0
            && !self.other_salts.contains(&head.salt);
        possible.then_some(Generation {
            salt: head.salt,
            base_lsn,
            first_seq: head.first_seq,
            next_seq: head.first_seq,
            next: (0, 0),
            linked: false,
        })
    }

    /// Whether a generation can stand between the neighbours.
    fn fits(&self, file: &dyn File, generation: &Generation) -> bool {
        let base = generation.base_lsn;
        let follows = self.before.is_none_or(|before| {
            base >= before.base_lsn && generation.first_seq >= before.first_seq
        });
        let precedes = self.behind.is_none_or(|behind| base <= behind.prev_end_lsn);
        let ends = match (self.end, self.before) {
            (Some(end), None) => self.holds(file, base, end),
            (Some(end), Some(_)) => base <= end,
            (None, _) => true,
        };
        follows && precedes && ends
    }

    /// Whether a segment that begins with `base` can reach as far as `lsn`.
    fn holds(&self, file: &dyn File, base: Lsn, lsn: Lsn) -> bool {
        let room = file
            .len()
            .unwrap_or(0)
            .saturating_sub(self.header_size.into());
        lsn.0.checked_sub(base.0).is_some_and(|len| len <= room)
    }

    /// The one generation of frames, none of which stands at `header_size`, that belongs here.
    fn choose(
        &self,
        file: &dyn File,
        effort: &mut Effort,
    ) -> std::result::Result<Generation, &'static str> {
        const DOUBT: &str = "which of the frames behind it belong to the log can't be told";
        let mut all: Vec<Generation> = Vec::new();
        let mut too_many = false;
        scan(
            file,
            u64::from(self.header_size),
            effort,
            |offset, head, crc| {
                let Some(fresh) = self.generation(offset, head) else {
                    return;
                };
                let (salt, base_lsn) = (fresh.salt, fresh.base_lsn);
                let same = |known: &Generation| (known.salt, known.base_lsn) == (salt, base_lsn);
                if !all.iter().any(same) {
                    if !self.fits(file, &fresh) {
                        return;
                    }
                    too_many |= all.len() == GENERATIONS_MAX;
                    if too_many {
                        return;
                    }
                    all.push(fresh);
                }
                let Some(generation) = all.iter_mut().find(|known| same(known)) else {
                    return;
                };
                generation.linked |= generation.next == (offset, head.link);
                generation.next = (offset.saturating_add(head.frame_len()), crc);
                generation.next_seq = generation.next_seq.max(seq_after(head).unwrap_or(Seq::MAX));
            },
        );
        if self.before.is_none() {
            // A file is used again only after all that it held was truncated.
            let truncated_seq = self.truncated_seq.unwrap_or(0);
            all.retain(|generation| generation.next_seq - 1 > truncated_seq);
        }
        if too_many {
            return Err(DOUBT);
        }
        // One frame by itself may be what an application keeps of another log.
        let trusted = |only: &Generation| {
            let promised = self
                .promise
                .is_some_and(|lsn| self.holds(file, only.base_lsn, lsn));
            let bounded = self.before.is_some() || self.end.is_some() || promised;
            bounded || (only.linked && self.truncated_seq.is_some())
        };
        match (all.pop(), all.is_empty()) {
            (None, _) => Err("no frame that fits here stands behind it"),
            (Some(only), true) if trusted(&only) => Ok(only),
            (Some(_), _) => Err(DOUBT),
        }
    }
}

/// Shows the intact frames of any generation at or behind `offset`, and the checksums of their
/// headers. Inside an intact frame none is looked for: a payload may hold bytes of another log.
fn scan(
    file: &dyn File,
    mut offset: u64,
    effort: &mut Effort,
    mut visit: impl FnMut(u64, &FrameHeader, u32),
) {
    let mut bytes = vec![0; LOOK_LEN + HEADER_LEN];
    loop {
        let Ok(Some(data)) = file.next_data(offset) else {
            return;
        };
        offset = offset.max(data.saturating_sub(HEADER_LEN as u64) & !7);
        let Ok(len) = read_full_at(file, offset, &mut bytes) else {
            return;
        };
        effort.looked(len);
        let starts = len.saturating_sub(HEADER_LEN - 1).min(LOOK_LEN) as u64;
        let mut at = 0;
        while at < starts {
            let index = usize::try_from(at).unwrap_or(usize::MAX);
            let head = bytes.get(index..index + HEADER_LEN).unwrap_or_default();
            let mut step = 8;
            if let Some(found) = FrameHeader::decode_of_any(head) {
                if !effort.allows(found.payload_len) {
                    return;
                }
                if payload_is_intact(file, offset + at, &found) {
                    visit(offset + at, &found, get_u32(head, 0));
                    step = found.frame_len();
                }
            }
            at += step;
        }
        if len < bytes.len() {
            return;
        }
        offset += at;
    }
}
