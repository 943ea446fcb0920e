//! Step 1 of 3 of replay: one segment's bytes become accepted frames, in order.
//!
//! Takes a segment's file and header; hands on frames that are *accepted* (FORMAT.md section 11.1:
//! header checksum, salt, place, link, length and payload checksum hold, and so did those of every
//! frame before). What the frames mean is judged by [`super::structure`].
//!
//! Bytes are read through a window of the file: the frames in it are checked and delivered in
//! place, so that nothing is copied between the disk's cache and the caller but a frame that the end
//! of the window cuts.
//!
//! ```text
//! file    ....[ header | frame | frame | frame | fra....
//! window                  [==========================]
//!                         ^window_offset   ^offset (next frame)
//! ```

use super::read_ahead::{Ahead, Buffer, Sum, FRONT_LEN, PIECE_LEN};
use crate::error::{Error, Place, Result};
use crate::format::checksum::crc32;
use crate::format::frame::{FrameHeader, HEADER_LEN, PAYLOAD_LEN_MAX};
use crate::format::segment_header::SegmentHeader;
use crate::lsn::Lsn;
use crate::vfs::os::Mapping;
use crate::vfs::{read_full_at, File, MAP_UNIT};
use crate::wal::segment_file::hold_segment;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at a time; a longer frame widens the window for itself. So much stays in a processor's
/// own cache from the read to the checksum and to the caller: with pieces of 1 MiB and more each of
/// the three would wait for memory again.
const WINDOW_LEN: usize = PIECE_LEN;

/// A reader that reads so many windows reads on, and may let the next ones be read for it.
const WINDOWS_ALONE: u32 = 3;

/// Bytes mapped at a time, if they are: few enough that what was passed is given back soon.
const MAPPED_LEN: usize = 4 << 20;

/// An accepted frame. Its payload lies in the reader's window.
#[derive(Clone, Debug)]
pub(crate) struct AcceptedFrame {
    pub(crate) header: FrameHeader,
    /// Where the payload lies in [`SegmentReader::window`].
    pub(crate) payload: Range<usize>,
}

/// Why no frame is accepted at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StopCause {
    /// The next frame would reach beyond the limit that the caller set.
    Limit,
    /// 64 zero bytes, or the end of the file.
    ZeroHeader,
    /// An intact header of an earlier use of the file.
    OtherGeneration,
    /// Anything else; the text says what was expected and what was found.
    Refused(String),
}

/// The next step of the walk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Frame(AcceptedFrame),
    Stop(StopCause),
}

/// Walks the frames of one segment.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: Arc<dyn File>,
    path: PathBuf,
    header: SegmentHeader,
    window: Window,
    window_offset: u64,
    /// Offset of the next frame.
    offset: u64,
    /// Link that the next frame must carry.
    link: u32,
    /// No byte at or beyond this offset is looked at. Bytes beyond it may still change.
    limit: u64,
    /// Size of the file when it was last looked up. What is below the limit was there then.
    file_len: u64,
    /// Pieces read. Who reads a second one reads on.
    read_count: u32,
    /// The window is mapped. Nothing below the limit changes while the file is open.
    mapped: bool,
    /// What is read for it meanwhile, if that was asked for.
    ahead: Option<Ahead>,
}

/// Bytes of the file: read, or mapped. What lies behind those that were read is kept as it is, so that
/// nothing has to be made zero before each read.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    /// Those from `begin` to `end` were read.
    begin: usize,
    end: usize,
    /// Checksums of payloads in `bytes`, in order, if it is a piece that was read ahead.
    sums: Vec<Sum>,
    /// If set, this is the window, and nothing was read.
    mapped: Option<Mapping>,
}

impl Window {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        match &self.mapped {
            Some(mapping) => mapping.bytes(),
            None => self.bytes.get(self.begin..self.end).unwrap_or_default(),
        }
    }

    /// How many bytes were read.
    fn len(&self) -> usize {
        self.end.saturating_sub(self.begin)
    }

    /// The checksums that are known of payloads from `at` on, and where the window begins for them.
    fn sums_from(&self, at: usize) -> (&[Sum], usize) {
        if self.mapped.is_some() {
            return (&[], 0);
        }
        let passed = self.sums.partition_point(|sum| sum.begin < self.begin + at);
        (self.sums.get(passed..).unwrap_or_default(), self.begin)
    }

    /// Forgets the bytes from `len` on.
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.begin.saturating_add(len));
        if self
            .mapped
            .as_ref()
            .is_some_and(|mapping| mapping.bytes().len() > len)
        {
            self.mapped = None;
        }
    }

    /// Forgets the bytes before `at`, and all that are mapped.
    fn drop_front(&mut self, at: usize) {
        self.mapped = None;
        self.sums.clear();
        let left = self.len().saturating_sub(at);
        if left > 0 && self.begin + at > 0 {
            let begin = self.begin + at;
            self.bytes.copy_within(begin..self.end, 0);
        }
        (self.begin, self.end) = (0, left);
    }

    /// The place for the bytes behind those that were read, up to `len` in all. The front was dropped.
    fn space(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.bytes.len() < len {
            self.bytes
                .try_reserve_exact(len - self.bytes.len())
                .map_err(|_| Error::no_memory("a frame", len))?;
            self.bytes.resize(len, 0);
        }
        Ok(self.bytes.get_mut(self.end..len).unwrap_or_default())
    }

    /// Goes over to a piece that was read ahead, which follows the window; what the window has from
    /// `at` on comes before it, if it is no more than fits there. Gives the buffer that was used before.
    fn go_over(&mut self, at: usize, mut piece: Buffer) -> Buffer {
        let left = self.as_slice().get(at..).unwrap_or_default();
        let begin = FRONT_LEN.saturating_sub(left.len());
        if let Some(front) = piece.bytes.get_mut(begin..FRONT_LEN) {
            front.copy_from_slice(left);
        }
        (self.begin, self.end) = (begin, piece.bytes.len());
        Buffer {
            bytes: std::mem::replace(&mut self.bytes, piece.bytes),
            sums: std::mem::replace(&mut self.sums, piece.sums),
        }
    }
}

/// A place in the walk that can be gone to again, and what a frame there is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bookmark {
    offset: u64,
    link: u32,
}

impl Bookmark {
    /// Whether a frame with this header is accepted here, if its payload is what the header says.
    #[inline]
    fn expects(&self, segment: &SegmentHeader, header: &FrameHeader) -> bool {
        // The greatest number stands for places beyond the last LSN, where no frame can stand.
        header.salt == segment.salt
            && header.lsn == segment.lsn_at(self.offset)
            && header.lsn.0 != u64::MAX
            && header.link == self.link
            && header.payload_len as usize <= PAYLOAD_LEN_MAX
    }
}

/// The frames that follow in the window, for who takes many: it moves as the reader would, but looks
/// nothing up twice. The reader itself stays where it is, until it is told how far the frames were taken
/// ([`SegmentReader::return_to`]).
pub(crate) struct FramesInWindow<'a> {
    segment: &'a SegmentHeader,
    window: &'a [u8],
    /// Where the next frame begins in the window.
    at: usize,
    /// Checksums of payloads, from there on, and where the window begins for them.
    sums: &'a [Sum],
    sums_base: usize,
    place: Bookmark,
}

/// A frame that is accepted if the walk goes behind it.
pub(crate) struct NextFrame<'a> {
    pub(crate) header: FrameHeader,
    pub(crate) payload: &'a [u8],
    /// Where the payload begins in the window.
    pub(crate) payload_begin: usize,
    len: usize,
    header_crc: u32,
}

impl<'a> FramesInWindow<'a> {
    /// The next frame, if it lies in the window whole, is one to accept, and `wanted` says so of its
    /// header. If there is none, [`SegmentReader::step`] says why.
    #[inline]
    pub(crate) fn next(&self, wanted: impl FnOnce(&FrameHeader) -> bool) -> Option<NextFrame<'a>> {
        let bytes = self.window.get(self.at..)?;
        let (header, header_crc) = FrameHeader::decode(bytes)?;
        if !self.place.expects(self.segment, &header) || !wanted(&header) {
            return None;
        }
        let len = usize::try_from(header.frame_len()).ok()?;
        let payload_len = header.payload_len as usize;
        let payload = bytes.get(..len)?.get(HEADER_LEN..)?.get(..payload_len)?;
        let begin = self.sums_base + self.at + HEADER_LEN;
        let computed = match self.sums.first() {
            Some(sum) if sum.begin == begin && sum.len == payload_len => sum.crc,
            _ => crc32(payload),
        };
        (computed == header.payload_crc).then_some(NextFrame {
            header,
            payload,
            payload_begin: self.at + HEADER_LEN,
            len,
            header_crc,
        })
    }

    /// Goes behind the frame that [`next`](Self::next) gave.
    #[inline]
    pub(crate) fn accept(&mut self, frame: &NextFrame<'_>) {
        self.at += frame.len;
        while let [passed, rest @ ..] = self.sums {
            if passed.begin >= self.sums_base + self.at {
                break;
            }
            self.sums = rest;
        }
        self.place.offset += frame.len as u64;
        self.place.link = frame.header_crc;
    }

    /// The place behind what was accepted.
    pub(crate) fn bookmark(&self) -> Bookmark {
        self.place
    }
}

impl SegmentReader {
    /// A walk that begins at the first frame.
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, header: SegmentHeader) -> SegmentReader {
        SegmentReader {
            offset: u64::from(header.header_size),
            link: header.link(),
            file,
            path,
            header,
            window: Window::default(),
            window_offset: 0,
            limit: u64::MAX,
            file_len: 0,
            read_count: 0,
            mapped: false,
            ahead: None,
        }
    }

    /// Lets what comes next be read while the caller looks at what was read, if much comes. Only where
    /// threads may be at work.
    pub(crate) fn read_ahead(&mut self, fork_count: u64) {
        self.ahead = Ahead::new(fork_count);
    }

    /// Looks at the file in place from now on, if it is sealed for good and can be held as it is: the
    /// caller sees to the first, and this to the second.
    pub(crate) fn map(&mut self) {
        self.mapped = hold_segment(self.file.as_ref(), &self.header);
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    /// The bytes read last; payloads of frames returned since lie in it.
    pub(crate) fn window(&self) -> &[u8] {
        self.window.as_slice()
    }

    /// LSN of the byte that stands at `at` in the window.
    pub(crate) fn lsn_in_window(&self, at: usize) -> Lsn {
        self.header.lsn_at(self.window_offset + at as u64)
    }

    /// LSN of the next frame.
    pub(crate) fn lsn(&self) -> Lsn {
        self.header.lsn_at(self.offset)
    }

    pub(crate) fn link(&self) -> u32 {
        self.link
    }

    pub(crate) fn bookmark(&self) -> Bookmark {
        Bookmark {
            offset: self.offset,
            link: self.link,
        }
    }

    pub(crate) fn return_to(&mut self, bookmark: Bookmark) {
        self.offset = bookmark.offset;
        self.link = bookmark.link;
    }

    /// Goes on at `offset` as if the frame there were accepted, for who reads on behind damage.
    pub(crate) fn jump_to(&mut self, offset: u64, link: u32) {
        self.offset = offset;
        self.link = link;
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Offset at which the walk may not go on.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Lets the walk go up to `lsn` and no further. What was read beyond an earlier limit is
    /// forgotten, since it may have changed.
    pub(crate) fn set_limit(&mut self, lsn: Lsn) {
        let limit = self.header.offset_of(lsn).unwrap_or(0);
        if limit != self.limit {
            let keep = self.limit.saturating_sub(self.window_offset);
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            self.window.truncate(keep);
            self.limit = limit;
            if let Some(ahead) = &mut self.ahead {
                ahead.forget();
            }
        }
    }

    /// Lets the walk go further, up to `lsn`; false if that is no further than before.
    pub(crate) fn raise_limit(&mut self, lsn: Lsn) -> bool {
        let limit = self.limit;
        self.set_limit(lsn);
        self.limit > limit
    }

    /// Where in the log the next frame stands.
    pub(crate) fn place(&self) -> Place {
        Place {
            path: Some(self.path.clone()),
            segment: self.header.segment_number,
            offset: self.offset,
            lsn: self.lsn(),
        }
    }

    /// The next accepted frame, or why there is none. An error is one of reading.
    pub(crate) fn step(&mut self) -> Result<Step> {
        self.step_where(true).map(|step| match step {
            Some(step) => step,
            None => Step::Stop(StopCause::Limit),
        })
    }

    /// The frames that lie in the window from the next one on.
    pub(crate) fn frames_in_window(&self) -> Option<FramesInWindow<'_>> {
        let at = self.offset.checked_sub(self.window_offset)?;
        let at = usize::try_from(at).ok()?;
        let (sums, sums_base) = self.window.sums_from(at);
        Some(FramesInWindow {
            segment: &self.header,
            window: self.window(),
            at,
            sums,
            sums_base,
            place: self.bookmark(),
        })
    }

    /// Why a frame with this header is not accepted here, whatever its payload.
    fn refusal_of(&self, header: &FrameHeader) -> Option<StopCause> {
        if self.bookmark().expects(&self.header, header) {
            return None;
        }
        if header.salt != self.header.salt {
            return Some(StopCause::OtherGeneration);
        }
        let what = if header.lsn != self.lsn() || header.lsn.0 == u64::MAX {
            format!("LSN {}, expected {}", header.lsn, self.lsn())
        } else if header.link != self.link {
            format!("link {:#010x}, expected {:#010x}", header.link, self.link)
        } else {
            format!(
                "payload length {}, at most {PAYLOAD_LEN_MAX} are allowed",
                header.payload_len
            )
        };
        Some(StopCause::Refused(what))
    }

    /// Goes behind an accepted frame, which stands at `at` in the window.
    fn accept(&mut self, header: FrameHeader, header_crc: u32, at: usize) -> AcceptedFrame {
        self.offset += header.frame_len();
        self.link = header_crc;
        let begin = at + HEADER_LEN;
        AcceptedFrame {
            payload: begin..begin + header.payload_len as usize,
            header,
        }
    }

    /// Like [`step`](Self::step), but `None` if that would read from the file: what lies in the
    /// window then stays where it is.
    pub(crate) fn step_in_window(&mut self) -> Result<Option<Step>> {
        self.step_where(false)
    }

    fn step_where(&mut self, may_read: bool) -> Result<Option<Step>> {
        if self.offset >= self.limit {
            return Ok(Some(Step::Stop(StopCause::Limit)));
        }
        let Some(at) = self.locate(HEADER_LEN, may_read)? else {
            return Ok(None);
        };
        let bytes = self.window().get(at..).unwrap_or_default();
        let head = bytes.get(..HEADER_LEN.min(bytes.len())).unwrap_or_default();
        if head.len() < HEADER_LEN && self.offset + HEADER_LEN as u64 > self.limit {
            return Ok(Some(Step::Stop(StopCause::Limit)));
        }
        if head.len() < HEADER_LEN || head[..4] == [0; 4] {
            if head.iter().all(|&byte| byte == 0) {
                return Ok(Some(Step::Stop(StopCause::ZeroHeader)));
            }
            if head.len() < HEADER_LEN {
                return Ok(self.refuse(format!(
                    "the file ends after {} of the 64 bytes of a frame header",
                    head.len()
                )));
            }
        }
        let Some((header, header_crc)) = FrameHeader::decode(head) else {
            return Ok(self.refuse(format!(
                "header checksum {:#010x}, computed {:#010x}",
                crate::format::get_u32(head, 0),
                crc32(head.get(4..).unwrap_or_default())
            )));
        };
        if let Some(cause) = self.refusal_of(&header) {
            return Ok(Some(Step::Stop(cause)));
        }
        let frame_len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
        let Some(at) = self.locate(frame_len, may_read)? else {
            return Ok(None);
        };
        let Some(bytes) = self.window().get(at..at + frame_len) else {
            if self.offset + header.frame_len() > self.limit {
                return Ok(Some(Step::Stop(StopCause::Limit)));
            }
            return Ok(self.refuse(format!("the file ends inside a frame of {frame_len} bytes")));
        };
        let payload_len = header.payload_len as usize;
        let computed = crc32(&bytes[HEADER_LEN..HEADER_LEN + payload_len]);
        if computed != header.payload_crc {
            return Ok(self.refuse(format!(
                "payload checksum {:#010x}, computed {computed:#010x}",
                header.payload_crc
            )));
        }
        Ok(Some(Step::Frame(self.accept(header, header_crc, at))))
    }

    fn refuse(&self, what: String) -> Option<Step> {
        Some(Step::Stop(StopCause::Refused(what)))
    }

    /// Makes sure that `len` bytes from the next frame on are in the window, or all that the file
    /// has, and says where they begin. `None` if they are not there and `may_read` is false.
    fn locate(&mut self, len: usize, may_read: bool) -> Result<Option<usize>> {
        if let Some(at) = self.in_window(len) {
            return Ok(Some(at));
        }
        if !may_read {
            return Ok(None);
        }
        self.refill(len)?;
        let at = self.offset.saturating_sub(self.window_offset);
        Ok(Some(usize::try_from(at).unwrap_or(usize::MAX)))
    }

    /// Where `len` bytes from the next frame on begin in the window, if they are all there.
    fn in_window(&self, len: usize) -> Option<usize> {
        let at = usize::try_from(self.offset.checked_sub(self.window_offset)?).ok()?;
        (at.checked_add(len)? <= self.window().len()).then_some(at)
    }

    /// Moves the window so that it begins at the next frame, and fills it.
    fn refill(&mut self, len: usize) -> Result<()> {
        if self.mapped || self.file_len < self.limit {
            self.file_len = self
                .file
                .len()
                .map_err(|error| Error::io("look up", &self.path, error).at(self.place()))?;
        }
        let end = self.file_len.min(self.limit);
        if self.mapped && self.map_window(len, end) {
            return Ok(());
        }
        self.read_count = self.read_count.saturating_add(1);
        if self.read_count == 2 {
            self.file.read_ahead();
        }
        if self.go_over_to_piece(len) {
            self.ask_ahead(end);
            return Ok(());
        }
        let there = end.saturating_sub(self.offset);
        let wanted = usize::try_from(there)
            .unwrap_or(usize::MAX)
            .min(len.max(WINDOW_LEN));
        let passed = self
            .offset
            .checked_sub(self.window_offset)
            .and_then(|at| usize::try_from(at).ok());
        self.window.drop_front(passed.unwrap_or(usize::MAX));
        self.window_offset = self.offset;
        // The file, or what may be read of it, may be shorter by now.
        self.window.truncate(wanted);
        let have = self.window.len();
        let space = self.window.space(wanted)?;
        let read = read_full_at(self.file.as_ref(), self.offset + have as u64, space)
            .map_err(|error| Error::io("read", &self.path, error).at(self.place()))?;
        self.window.end = have + read;
        self.ask_ahead(end);
        Ok(())
    }

    /// Lets the window begin at the next frame and end with the piece that was read ahead. False if there is no
    /// such piece, or `len` bytes would not fit.
    fn go_over_to_piece(&mut self, len: usize) -> bool {
        let Some(ahead) = &mut self.ahead else {
            return false;
        };
        let at = self.offset.checked_sub(self.window_offset);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let left = at.and_then(|at| self.window.len().checked_sub(at));
        let (Some(at), Some(left)) = (at, left) else {
            ahead.forget();
            return false;
        };
        if left > FRONT_LEN || len > left + PIECE_LEN {
            ahead.forget();
            return false;
        }
        let Some(piece) = ahead.take(self.file.as_ref(), self.offset + left as u64) else {
            return false;
        };
        let used = self.window.go_over(at, piece);
        ahead.give_back(used);
        self.window_offset = self.offset;
        true
    }

    /// Asks for what follows the window, if the reader has read on for a while.
    fn ask_ahead(&mut self, end: u64) {
        let Some(ahead) = &mut self.ahead else {
            return;
        };
        if self.read_count >= WINDOWS_ALONE {
            let behind = self.window_offset + self.window.len() as u64;
            ahead.ask(&self.file, &self.header, behind, end);
        }
    }

    /// Maps the window so that `len` bytes from the next frame on lie in it, as far as they lie before
    /// `end`. False if they have to be read.
    fn map_window(&mut self, len: usize, end: u64) -> bool {
        let begin = self.offset / MAP_UNIT * MAP_UNIT;
        let ahead = usize::try_from(self.offset - begin).unwrap_or(usize::MAX);
        let there = usize::try_from(end.saturating_sub(begin)).unwrap_or(usize::MAX);
        let wanted = there.min(len.saturating_add(ahead).max(MAPPED_LEN));
        self.window.truncate(0);
        self.window.mapped = None;
        if wanted > ahead {
            self.window.mapped = self.file.map(begin, wanted).ok();
        }
        self.mapped = self.window.mapped.is_some();
        self.window_offset = begin;
        self.mapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_known_behind_a_place_until_the_bytes_move() {
        let sum_at = |begin| Sum {
            begin,
            len: 8,
            crc: 1,
        };
        let sums = [100, 200].map(|at| sum_at(FRONT_LEN + at));
        let piece = Buffer {
            bytes: vec![0; FRONT_LEN + PIECE_LEN],
            sums: sums.to_vec(),
        };
        let mut window = Window::default();
        window.go_over(0, piece);
        assert_eq!(window.sums_from(0), (&sums[..], FRONT_LEN));
        assert_eq!(window.sums_from(100), (&sums[..], FRONT_LEN));
        assert_eq!(window.sums_from(101), (&sums[1..], FRONT_LEN));
        window.drop_front(50);
        assert!(window.sums_from(0).0.is_empty());
    }
}
