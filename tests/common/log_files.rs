//! Logs of a few KiB, made frame by frame with the public types of `duralog::format`, together with
//! the list of what was put in: that list, and no decoder, is what an oracle works from.
//!
//! A [`Builder`] writes what a correct writer would write, or what a crash leaves of it: batches of
//! several small frames, ABORTs, MARKs, CHECKPOINTs, SEALs, several segments, RESCUE copies, gaps
//! of LSNs, a tail page. [`KnownLog::files`] gives the files, [`KnownLog::expect`] what a reader
//! must say about them after they were damaged. A frame counts as damaged if one of its bytes
//! changed or is no longer there: nothing is decoded and no checksum is computed to find out. So
//! the oracle shares nothing with the engine but FORMAT.md.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::format::checksum::crc32;
use duralog::format::control::{Control, SLOT_LEN};
use duralog::format::frame::{frame_flag, frame_len, frame_type, FrameHeader, HEADER_LEN};
use duralog::format::record;
use duralog::format::segment_header::{SegmentHeader, FLAG_RESCUE, USED_LEN};
use duralog::format::tail_page::{evidence_check, identity_words, WORDS_EVIDENCE};
use duralog::format::FORMAT_MINOR;
use duralog::vfs::os::RealDisk;
use duralog::vfs::Vfs;
use duralog::Lsn;
use std::collections::BTreeMap;
use std::path::Path;

/// Identity of all these logs.
pub(crate) const LOG_ID: [u8; 16] = *b"damage-damage-42";
/// Clock at which they were written.
pub(crate) const TIME_NS: u64 = 1_700_000_000_000_000_000;

/// The files of a log's directory by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Name of a segment's file.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// Writes the files into a real directory, which is made.
pub(crate) fn write_files(files: &Files, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// This machine's boot, so that tail pages made here count.
pub(crate) fn boot_id() -> [u8; 16] {
    RealDisk::new().boot_id().unwrap()
}

/// A record as it was put in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KnownRecord {
    pub(crate) seq: u64,
    pub(crate) op: u8,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// LSN of the frame with BEGIN.
    pub(crate) batch_id: u64,
    pub(crate) time_ns: u64,
}

/// What a raw cursor shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RawEntry {
    Record {
        committed: bool,
        record: KnownRecord,
    },
    Commit {
        committed: bool,
        seq: u64,
    },
    Checkpoint {
        seq: u64,
        data: Vec<u8>,
    },
    Abort,
    Torn {
        lsn: u64,
    },
}

/// A record to put in: op, key, value.
pub(crate) type Op<'a> = (u8, &'a str, &'a str);

#[derive(Clone, Debug)]
pub(crate) enum FrameKind {
    Batch {
        begin: bool,
        commit: bool,
        /// The number that COMMIT takes, if it does.
        commit_seq: Option<u64>,
        records: Vec<KnownRecord>,
    },
    Abort,
    Checkpoint {
        seq: u64,
        data: Vec<u8>,
    },
    Seal,
    Other,
}

/// A frame as it was put in.
#[derive(Clone, Debug)]
pub(crate) struct KnownFrame {
    pub(crate) offset: usize,
    pub(crate) payload_len: usize,
    pub(crate) lsn: u64,
    /// Its durable_lsn.
    pub(crate) promise: u64,
    pub(crate) kind: FrameKind,
    /// Number that the next record takes behind it.
    pub(crate) next_seq: u64,
    /// Whether a batch is open behind it.
    pub(crate) open_behind: bool,
}

impl KnownFrame {
    /// Where it ends in the file, padding included.
    pub(crate) fn end(&self) -> usize {
        self.offset + usize::try_from(frame_len(self.payload_len)).unwrap()
    }

    /// Where it ends in the file, without padding.
    pub(crate) fn end_of_payload(&self) -> usize {
        self.offset + HEADER_LEN + self.payload_len
    }
}

/// A segment as it was made.
#[derive(Clone, Debug)]
pub(crate) struct KnownSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) bytes: Vec<u8>,
    /// The frames that a reader accepts, in order; those beyond the successor's prev_end_lsn too.
    pub(crate) frames: Vec<KnownFrame>,
    /// Live frames behind the last that is accepted: (offset, promise).
    pub(crate) strays: Vec<(usize, u64)>,
    /// Where an intact frame of another generation stands behind the last frame.
    pub(crate) foreign_at: Option<usize>,
}

impl KnownSegment {
    fn lsn_at(&self, offset: usize) -> u64 {
        self.header.lsn_at(offset as u64).0
    }

    fn frames_begin(&self) -> usize {
        self.header.header_size as usize
    }
}

/// A log as it was made.
#[derive(Clone, Debug)]
pub(crate) struct KnownLog {
    pub(crate) name: &'static str,
    pub(crate) segments: BTreeMap<u64, KnownSegment>,
    pub(crate) control: [Option<Control>; 2],
    /// durable_lsn of the tail page's two evidence slots.
    pub(crate) tail: Option<[u64; 2]>,
}

/// What a reader must say about a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    /// CLEAN_END, TORN, CORRUPT or NOT_A_LOG; the rest means nothing for NOT_A_LOG.
    pub(crate) verdict: &'static str,
    pub(crate) row: &'static str,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) end_lsn: u64,
    pub(crate) next_seq: u64,
    pub(crate) evidence_lsn: u64,
    pub(crate) control: &'static str,
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
    pub(crate) truncated_seq: u64,
    /// What replay delivers; if the verdict is CORRUPT, before it fails.
    pub(crate) records: Vec<KnownRecord>,
    /// The same for raw iteration.
    pub(crate) raw: Vec<RawEntry>,
    /// Row of the last segment taken alone: what an opener decides by. `M` if it can't be used.
    pub(crate) last_row: &'static str,
    /// Number that the next record takes if the log is opened for writing.
    pub(crate) last_next_seq: u64,
}

/// Writes a log.
pub(crate) struct Builder {
    log: KnownLog,
    header_size: u32,
    number: u64,
    link: u32,
    next_seq: u64,
    open: Option<(u64, u64)>,
    durable_lsn: u64,
    clock: u64,
    /// Whether every closed frame is synced before the next, as in the mode `every`.
    pub(crate) sync_each: bool,
}

impl Builder {
    /// A log whose first segment is there, with a control file in both slots, as creation leaves it.
    pub(crate) fn new(name: &'static str, header_size: u32) -> Builder {
        let mut builder = Builder {
            log: KnownLog {
                name,
                segments: BTreeMap::new(),
                control: [None, None],
                tail: None,
            },
            header_size,
            number: 0,
            link: 0,
            next_seq: 1,
            open: None,
            durable_lsn: 4096,
            clock: TIME_NS,
            sync_each: true,
        };
        builder.segment(4096, 4096, 0, |_| ());
        builder.control(1, false);
        builder.control(2, false);
        builder
    }

    fn current(&mut self) -> &mut KnownSegment {
        self.log.segments.get_mut(&self.number).unwrap()
    }

    /// LSN of the next frame.
    pub(crate) fn lsn(&mut self) -> u64 {
        let segment = self.current();
        segment.lsn_at(segment.bytes.len())
    }

    fn segment(
        &mut self,
        base_lsn: u64,
        prev_end_lsn: u64,
        prev_link: u32,
        change: impl FnOnce(&mut SegmentHeader),
    ) {
        self.number += 1;
        let number = u32::try_from(self.number).unwrap();
        let mut header = SegmentHeader {
            header_size: self.header_size,
            format_minor: FORMAT_MINOR,
            compatible: 0,
            read_only_compatible: 0,
            flags: 0,
            log_id: LOG_ID,
            segment_number: self.number,
            base_lsn: Lsn(base_lsn),
            first_seq: self.next_seq,
            prev_end_lsn: Lsn(prev_end_lsn),
            prev_link,
            salt: 0x5A17_0000 + number,
            durable_lsn: Lsn(prev_end_lsn.min(base_lsn)),
            checkpoint_lsn: Lsn::NONE,
            allocated_size: 0,
            created_ns: self.clock,
            application_id: 42,
        };
        change(&mut header);
        let mut bytes = header.encode().to_vec();
        bytes.resize(self.header_size as usize, 0);
        self.link = header.link();
        self.durable_lsn = self.durable_lsn.max(header.base_lsn.0);
        self.log.segments.insert(
            self.number,
            KnownSegment {
                header,
                bytes,
                frames: Vec::new(),
                strays: Vec::new(),
                foreign_at: None,
            },
        );
    }

    /// The header and payload that come next, with `change` made to the header.
    fn encode(
        &mut self,
        frame_type: u8,
        flags: u8,
        record_count: usize,
        payload: &[u8],
    ) -> (FrameHeader, Vec<u8>) {
        self.clock += 1;
        let header = FrameHeader {
            payload_crc: crc32(payload),
            payload_len: u32::try_from(payload.len()).unwrap(),
            frame_type,
            flags,
            link: self.link,
            salt: self.current().header.salt,
            lsn: Lsn(self.lsn()),
            first_seq: self.next_seq,
            record_count: u32::try_from(record_count).unwrap(),
            durable_lsn: Lsn(self.durable_lsn.min(self.lsn())),
            time_ns: self.clock,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(payload);
        bytes.resize(usize::try_from(header.frame_len()).unwrap(), 0);
        (header, bytes)
    }

    fn frame(
        &mut self,
        frame_type: u8,
        flags: u8,
        record_count: usize,
        payload: &[u8],
        kind: FrameKind,
        next_seq: u64,
    ) {
        let (header, bytes) = self.encode(frame_type, flags, record_count, payload);
        let open_behind = self.open.is_some();
        let segment = self.current();
        let offset = segment.bytes.len();
        segment.bytes.extend_from_slice(&bytes);
        segment.frames.push(KnownFrame {
            offset,
            payload_len: payload.len(),
            lsn: header.lsn.0,
            promise: header.durable_lsn.0,
            kind,
            next_seq,
            open_behind,
        });
        self.link = crc32(&bytes[4..HEADER_LEN]);
        self.next_seq = next_seq;
        if self.sync_each && !open_behind {
            self.sync();
        }
    }

    /// Everything so far is durable: later frames promise it.
    pub(crate) fn sync(&mut self) {
        self.durable_lsn = self.lsn();
    }

    /// One BATCH frame.
    pub(crate) fn part(&mut self, flags: u8, ops: &[Op<'_>]) {
        let begin = flags & frame_flag::BEGIN != 0;
        let commit = flags & frame_flag::COMMIT != 0;
        if begin {
            self.open = Some((self.lsn(), self.next_seq));
        }
        let (batch_id, _) = self.open.unwrap();
        let mut payload = Vec::new();
        let mut records = Vec::new();
        for (seq, &(op, key, value)) in (self.next_seq..).zip(ops) {
            let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
            let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
            payload.extend_from_slice(&record::encode_header(op, len(&key), len(&value)));
            payload.extend_from_slice(&key);
            payload.extend_from_slice(&value);
            records.push(KnownRecord {
                seq,
                op,
                key,
                value,
                batch_id,
                time_ns: self.clock + 1,
            });
        }
        let behind = self.next_seq + ops.len() as u64;
        let commit_seq = (commit && flags & frame_flag::SOLO == 0).then_some(behind);
        if commit {
            self.open = None;
        }
        let kind = FrameKind::Batch {
            begin,
            commit,
            commit_seq,
            records,
        };
        let next_seq = behind + u64::from(commit_seq.is_some());
        self.frame(
            frame_type::BATCH,
            flags,
            ops.len(),
            &payload,
            kind,
            next_seq,
        );
    }

    /// A single append.
    pub(crate) fn single(&mut self, key: &str, value: &str) {
        self.part(
            frame_flag::BEGIN | frame_flag::COMMIT | frame_flag::SOLO,
            &[(record::OP_PUT, key, value)],
        );
    }

    /// A committed batch of as many frames as there are slices.
    pub(crate) fn batch(&mut self, frames: &[&[Op<'_>]]) {
        self.frames_of_batch(frames, true);
    }

    /// The frames of a batch whose COMMIT never came.
    pub(crate) fn uncommitted(&mut self, frames: &[&[Op<'_>]]) {
        self.frames_of_batch(frames, false);
    }

    fn frames_of_batch(&mut self, frames: &[&[Op<'_>]], committed: bool) {
        for (index, ops) in frames.iter().enumerate() {
            let begin = if index == 0 { frame_flag::BEGIN } else { 0 };
            let last = committed && index + 1 == frames.len();
            let commit = if last { frame_flag::COMMIT } else { 0 };
            self.part(begin | commit, ops);
        }
    }

    /// Gives the open batch up.
    pub(crate) fn abort(&mut self) {
        let (_, first_seq) = self.open.take().unwrap();
        self.next_seq = first_seq;
        let flags = frame_flag::ABORT;
        self.frame(
            frame_type::BATCH,
            flags,
            0,
            &[],
            FrameKind::Abort,
            first_seq,
        );
    }

    pub(crate) fn checkpoint(&mut self, data: &[u8]) {
        let kind = FrameKind::Checkpoint {
            seq: self.next_seq,
            data: data.to_vec(),
        };
        let next_seq = self.next_seq + 1;
        self.frame(frame_type::CHECKPOINT, 0, 0, data, kind, next_seq);
    }

    /// A MARK, or a frame of a type that readers skip.
    pub(crate) fn other(&mut self, frame_type: u8, payload: &[u8]) {
        let next_seq = self.next_seq;
        self.frame(frame_type, 0, 0, payload, FrameKind::Other, next_seq);
    }

    pub(crate) fn mark(&mut self) {
        self.other(frame_type::MARK, &[]);
    }

    pub(crate) fn seal(&mut self) {
        let next_seq = self.next_seq;
        self.frame(frame_type::SEAL, 0, 0, &[], FrameKind::Seal, next_seq);
    }

    /// Bytes behind the last frame.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.current().bytes.extend_from_slice(bytes);
    }

    /// The 64 zero bytes behind a group.
    pub(crate) fn zeros(&mut self) {
        self.raw(&[0; 64]);
    }

    /// A regular rotation.
    pub(crate) fn rotate(&mut self) {
        self.seal();
        self.sync();
        let (end, link) = (self.lsn(), self.link);
        self.zeros();
        self.segment(end, end, link, |_| ());
    }

    /// What recovery does behind the last closed frame: a new generation behind a gap.
    pub(crate) fn restart(&mut self) {
        let (end, link, _) = self.end_from(0);
        let base = (end + (1 << 33)).next_multiple_of(1 << 34);
        self.open = None;
        self.segment(base, end, link, |header| header.durable_lsn = Lsn(end));
    }

    /// End, link and next number behind the last frame that leaves the log closed, in the current
    /// segment, at or behind frame `from`.
    fn end_from(&mut self, from: usize) -> (u64, u32, u64) {
        let segment = self.current();
        let closed = segment.frames[from..].iter().rposition(|f| !f.open_behind);
        match closed.map(|index| &segment.frames[from + index]) {
            Some(frame) => {
                let link = crc32(&segment.bytes[frame.offset + 4..frame.offset + HEADER_LEN]);
                let (end, next_seq) = (segment.lsn_at(frame.end()), frame.next_seq);
                self.next_seq = next_seq;
                (end, link, next_seq)
            }
            None => {
                let header = &segment.header;
                let found = (header.base_lsn.0, header.link(), header.first_seq);
                self.next_seq = found.2;
                found
            }
        }
    }

    /// What recovery does if the committed frames from index `from` on are covered by no evidence:
    /// a sealed RESCUE segment with copies of them, then a new generation.
    pub(crate) fn rescue(&mut self, from: usize) {
        let (end, _, end_seq) = self.end_from(0);
        let source = self.current().clone();
        let first = &source.frames[from];
        let (base, prev_link, first_seq) = match from.checked_sub(1).map(|i| &source.frames[i]) {
            Some(before) => (
                first.lsn,
                crc32(&source.bytes[before.offset + 4..before.offset + HEADER_LEN]),
                before.next_seq,
            ),
            None => (first.lsn, source.header.link(), source.header.first_seq),
        };
        self.open = None;
        self.next_seq = first_seq;
        self.segment(base, base, prev_link, |header| {
            header.flags = FLAG_RESCUE;
            header.durable_lsn = Lsn(end + HEADER_LEN as u64);
        });
        for frame in &source.frames[from..] {
            if frame.lsn >= end {
                break;
            }
            let bytes = &source.bytes[frame.offset..frame.end()];
            let (head, _) = FrameHeader::decode(bytes).unwrap();
            let (link, segment) = (self.link, self.current());
            let copy = FrameHeader {
                salt: segment.header.salt,
                link,
                ..head
            };
            let encoded = copy.encode();
            let offset = segment.bytes.len();
            segment.bytes.extend_from_slice(&encoded);
            segment.bytes.extend_from_slice(&bytes[HEADER_LEN..]);
            segment.frames.push(KnownFrame {
                offset,
                ..frame.clone()
            });
            self.link = crc32(&encoded[4..]);
        }
        self.next_seq = end_seq;
        self.durable_lsn = base;
        self.seal();
        self.restart();
        self.sync();
    }

    /// A live frame behind `gap` zero bytes: what a torn group leaves if its end arrived and its
    /// beginning did not.
    pub(crate) fn stray(&mut self, gap: usize) {
        let place = self.current().bytes.len();
        self.raw(&vec![0; gap]);
        let (header, bytes) = self.encode(frame_type::MARK, 0, 0, &[]);
        let segment = self.current();
        assert!(gap % 8 == 0 && segment.bytes.len() == place + gap);
        segment.strays.push((place + gap, header.durable_lsn.0));
        segment.bytes.extend_from_slice(&bytes);
    }

    /// A frame of an earlier use of the file.
    pub(crate) fn foreign(&mut self) {
        let (header, _) = self.encode(frame_type::MARK, 0, 0, &[]);
        let header = FrameHeader {
            salt: 0xDEAD_0001,
            ..header
        };
        let segment = self.current();
        segment.foreign_at = Some(segment.bytes.len());
        segment.bytes.extend_from_slice(&header.encode());
    }

    /// Writes a control slot that names what is there now, with everything synced so far as its
    /// promise.
    pub(crate) fn control(&mut self, generation: u64, closed: bool) {
        let (end, link, next_seq) = (self.lsn(), self.link, self.next_seq);
        let durable = self.durable_lsn;
        let frames = &self.current().frames;
        let last_frame = frames.last().map_or(0, |frame| frame.lsn);
        let or_none = |value: u64| if closed { value } else { 0 };
        self.log.control[usize::from(generation % 2 == 0)] = Some(Control {
            closed,
            log_id: LOG_ID,
            generation,
            first_segment: *self.log.segments.keys().next().unwrap(),
            last_segment: self.number,
            truncated_seq: 0,
            durable_lsn: Lsn(durable),
            checkpoint_lsn: Lsn::NONE,
            end_lsn: Lsn(or_none(end)),
            next_seq: or_none(next_seq),
            last_frame_lsn: Lsn(or_none(last_frame)),
            end_link: if closed { link } else { 0 },
            time_ns: self.clock,
        });
    }

    pub(crate) fn finish(self) -> KnownLog {
        self.log
    }
}

impl KnownLog {
    /// The files.
    pub(crate) fn files(&self) -> Files {
        let mut files: Files = self
            .segments
            .iter()
            .map(|(number, segment)| (segment_name(*number), segment.bytes.clone()))
            .collect();
        if self.control.iter().any(Option::is_some) {
            let mut bytes = vec![0; 2 * SLOT_LEN];
            for (slot, control) in self.control.iter().enumerate() {
                if let Some(control) = control {
                    bytes[slot * SLOT_LEN..][..128].copy_from_slice(&control.encode());
                }
            }
            files.insert("control".to_owned(), bytes);
        }
        if let Some(slots) = self.tail {
            let boot_id = boot_id();
            let mut words = [0u64; 512];
            words[..5].copy_from_slice(&identity_words(&LOG_ID, &boot_id));
            for (word, durable_lsn) in WORDS_EVIDENCE.into_iter().zip(slots) {
                words[word] = durable_lsn;
                words[word + 1] = evidence_check(&LOG_ID, &boot_id, Lsn(durable_lsn));
            }
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            files.insert("tail".to_owned(), bytes);
        }
        files
    }

    /// What a reader must say about `files`, which are those of this log, damaged.
    pub(crate) fn expect(&self, files: &Files) -> Expected {
        Oracle {
            log: self,
            original: &self.files(),
            files,
        }
        .judge()
    }

    /// The same, with the undamaged files at hand.
    pub(crate) fn expect_from(&self, original: &Files, files: &Files) -> Expected {
        Oracle {
            log: self,
            original,
            files,
        }
        .judge()
    }
}

/// See the module: sections 12 and 13 of FORMAT.md, on whole frames, by comparing bytes.
struct Oracle<'a> {
    log: &'a KnownLog,
    original: &'a Files,
    files: &'a Files,
}

/// How far a segment is intact.
struct Run {
    /// Frames accepted.
    count: usize,
    /// Where the first is that is not.
    stop: usize,
    /// C and the number there.
    closed_lsn: u64,
    next_seq: u64,
    open: bool,
    sealed: bool,
    promise: u64,
}

impl Oracle<'_> {
    /// Whether bytes `begin..end` of a file are there and as they were.
    fn same(&self, name: &str, begin: usize, end: usize) -> bool {
        let of = |files: &Files| {
            files
                .get(name)
                .and_then(|bytes| bytes.get(begin..end))
                .map(<[u8]>::to_vec)
        };
        let found = of(self.files);
        found.is_some() && found == of(self.original)
    }

    fn judge(&self) -> Expected {
        let valid: Vec<&Control> = (0..2)
            .filter(|slot| self.same("control", slot * SLOT_LEN, slot * SLOT_LEN + 128))
            .filter_map(|slot| self.log.control[slot].as_ref())
            .collect();
        let mut control = None;
        for slot in &valid {
            if control.is_none_or(|best: &Control| slot.generation > best.generation) {
                control = Some(*slot);
            }
        }
        let found: Vec<u64> = self
            .log
            .segments
            .keys()
            .copied()
            .filter(|number| self.files.contains_key(&segment_name(*number)))
            .collect();
        let mut expected = Expected {
            verdict: "NOT_A_LOG",
            row: "",
            segment: 0,
            offset: 0,
            lsn: 0,
            end_lsn: 0,
            next_seq: 0,
            evidence_lsn: 0,
            control: ["lost", "one_slot", "good"][valid.len()],
            first_segment: 0,
            last_segment: 0,
            truncated_seq: 0,
            records: Vec::new(),
            raw: Vec::new(),
            last_row: "M",
            last_next_seq: 0,
        };
        if found.is_empty() && control.is_none() {
            return expected;
        }
        expected.first_segment = control.map_or_else(|| found[0], |c| c.first_segment);
        expected.last_segment = found
            .last()
            .copied()
            .into_iter()
            .chain(control.map(|c| c.last_segment))
            .max()
            .unwrap();
        expected.evidence_lsn = control
            .map_or(0, |c| c.durable_lsn.0)
            .max(self.tail_promise());

        // Headers: usable or not, up to the first that is not.
        let mut usable = Vec::new();
        let mut unusable = None;
        for number in expected.first_segment..=expected.last_segment {
            let name = segment_name(number);
            if !self.same(&name, 0, USED_LEN) {
                let magic_gone = !self.same(&name, 0, 8) || self.files[&name].len() < USED_LEN;
                if found == [number] && control.is_none() && magic_gone {
                    return expected;
                }
                unusable = Some(number);
                break;
            }
            usable.push(&self.log.segments[&number]);
        }
        expected.truncated_seq = match (control, usable.first()) {
            (Some(control), _) => control.truncated_seq,
            (None, Some(first)) => first.header.first_seq - 1,
            (None, None) => 0,
        };

        // Opening looks at the header of the last one alone where names and control are all right.
        let mut numbers = expected.first_segment..=expected.last_segment;
        let opened_alone = control.is_some()
            && numbers.all(|number| found.contains(&number))
            && self.same(&segment_name(expected.last_segment), 0, USED_LEN);
        if unusable.is_none() || opened_alone {
            let last = &self.log.segments[&expected.last_segment];
            let run = self.run(last, None);
            expected.last_row = self.last_row(last, &run, expected.evidence_lsn).0;
            expected.last_next_seq = run.next_seq;
        }

        let mut floor = expected.truncated_seq;
        for (index, segment) in usable.iter().enumerate() {
            let successor = usable.get(index + 1).map(|next| next.header.prev_end_lsn.0);
            let run = self.run(segment, successor);
            self.show(segment, &run, &mut expected, &mut floor);
            expected.segment = segment.header.segment_number;
            expected.offset = run.stop as u64;
            expected.lsn = segment.lsn_at(run.stop);
            expected.end_lsn = run.closed_lsn;
            expected.next_seq = run.next_seq;
            match successor {
                Some(end) if expected.lsn == end && !run.open => {
                    self.show_beyond(segment, &run, &mut expected, floor);
                }
                Some(_) => {
                    expected.row = "S1";
                    expected.verdict = "CORRUPT";
                    return expected;
                }
                None if unusable.is_some() => {}
                None => {
                    let (row, evidence) = self.last_row(segment, &run, expected.evidence_lsn);
                    expected.evidence_lsn = evidence;
                    expected.row = row;
                    expected.verdict = match row {
                        "E" => "CORRUPT",
                        "Z" => "CLEAN_END",
                        _ => "TORN",
                    };
                    if row == "T" {
                        expected.raw.push(RawEntry::Torn { lsn: expected.lsn });
                    }
                    return expected;
                }
            }
        }
        expected.verdict = "CORRUPT";
        expected.row = "M";
        expected.segment = unusable.unwrap();
        expected.offset = 0;
        expected.lsn = 0;
        expected
    }

    fn tail_promise(&self) -> u64 {
        let Some(slots) = self.log.tail else { return 0 };
        let there = self.files.get("tail").is_some_and(|b| b.len() >= 4096);
        if !there || !self.same("tail", 0, 40) {
            return 0;
        }
        let holds = |slot: usize| self.same("tail", [64, 128][slot], [80, 144][slot]);
        let promises = (0..2).filter(|&slot| holds(slot)).map(|slot| slots[slot]);
        promises.max().unwrap_or(0)
    }

    /// Accepted frames, up to `limit` (an LSN) or a SEAL.
    fn run(&self, segment: &KnownSegment, limit: Option<u64>) -> Run {
        let name = segment_name(segment.header.segment_number);
        let file_len = self.files[&name].len();
        let mut run = Run {
            count: 0,
            stop: segment.frames_begin(),
            closed_lsn: segment.header.base_lsn.0,
            next_seq: segment.header.first_seq,
            open: false,
            sealed: false,
            promise: 0,
        };
        for frame in &segment.frames {
            let reaches = limit.is_some_and(|limit| segment.lsn_at(frame.end()) > limit);
            if run.sealed
                || reaches
                || file_len < frame.end()
                || !self.same(&name, frame.offset, frame.end_of_payload())
            {
                break;
            }
            run.count += 1;
            run.stop = frame.end();
            run.open = frame.open_behind;
            run.sealed = matches!(frame.kind, FrameKind::Seal);
            run.promise = run.promise.max(frame.promise);
            if !run.open {
                run.closed_lsn = segment.lsn_at(frame.end());
                run.next_seq = frame.next_seq;
            }
        }
        run
    }

    /// Row of the last segment, and the evidence.
    fn last_row(&self, segment: &KnownSegment, run: &Run, outside: u64) -> (&'static str, u64) {
        let name = segment_name(segment.header.segment_number);
        let header = &segment.header;
        let mut evidence = outside
            .max(header.durable_lsn.0)
            .max(header.base_lsn.0)
            .max(run.promise);
        let lsn = segment.lsn_at(run.stop);
        let mut live_beyond = false;
        if !run.sealed {
            let known = segment.frames.iter().map(|f| (f.offset, f.promise));
            for (offset, promise) in known.chain(segment.strays.iter().copied()) {
                if offset >= run.stop && self.same(&name, offset, offset + HEADER_LEN) {
                    evidence = evidence.max(promise);
                    live_beyond |= offset > run.stop;
                }
            }
        }
        if lsn < evidence {
            return ("E", evidence);
        }
        let there = &self.files[&name];
        let at_stop = &there[run.stop.min(there.len())..there.len().min(run.stop + HEADER_LEN)];
        let zero = at_stop.iter().all(|&byte| byte == 0);
        let foreign = segment.foreign_at == Some(run.stop)
            && self.same(&name, run.stop, run.stop + HEADER_LEN);
        let clean = !run.open && (run.sealed || ((zero || foreign) && !live_beyond));
        (if clean { "Z" } else { "T" }, evidence)
    }

    /// What cursors show of the accepted frames of a segment.
    fn show(&self, segment: &KnownSegment, run: &Run, expected: &mut Expected, floor: &mut u64) {
        let frames = &segment.frames[..run.count];
        for (index, frame) in frames.iter().enumerate() {
            match &frame.kind {
                FrameKind::Batch {
                    records,
                    commit_seq,
                    ..
                } => {
                    let committed = is_committed(&frames[index..]);
                    for record in records.iter().filter(|record| record.seq > *floor) {
                        expected.raw.push(RawEntry::Record {
                            committed,
                            record: record.clone(),
                        });
                        if committed {
                            expected.records.push(record.clone());
                        }
                    }
                    let last = records.last().map_or(0, |record| record.seq);
                    if let Some(seq) = commit_seq.filter(|seq| seq > floor) {
                        expected.raw.push(RawEntry::Commit { committed, seq });
                    }
                    if committed {
                        *floor = (*floor).max(last).max(commit_seq.unwrap_or(0));
                    }
                }
                FrameKind::Abort => expected.raw.push(RawEntry::Abort),
                FrameKind::Checkpoint { seq, data } => {
                    if *seq > *floor {
                        expected.raw.push(RawEntry::Checkpoint {
                            seq: *seq,
                            data: data.clone(),
                        });
                    }
                    *floor = (*floor).max(*seq);
                }
                FrameKind::Seal | FrameKind::Other => {}
            }
        }
    }

    /// What a raw cursor shows behind the place where the successor says that a segment ends:
    /// the batch that was never finished. What has an end, also an ABORT, stands in the copies.
    fn show_beyond(&self, segment: &KnownSegment, run: &Run, expected: &mut Expected, floor: u64) {
        if run.sealed {
            return;
        }
        let all = self.run(segment, None);
        let frames = &segment.frames[..all.count];
        for (index, frame) in frames.iter().enumerate().skip(run.count) {
            match &frame.kind {
                FrameKind::Batch { records, .. } if !has_end(&frames[index..]) => {
                    for record in records.iter().filter(|record| record.seq > floor) {
                        expected.raw.push(RawEntry::Record {
                            committed: false,
                            record: record.clone(),
                        });
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether the batch that the first of these frames belongs to has its COMMIT or ABORT among them.
fn has_end(frames: &[KnownFrame]) -> bool {
    frames.iter().any(|frame| !frame.open_behind)
}

/// Whether the batch that the first of these frames belongs to has its COMMIT among them.
fn is_committed(frames: &[KnownFrame]) -> bool {
    frames
        .iter()
        .find(|frame| !frame.open_behind)
        .is_some_and(|frame| matches!(frame.kind, FrameKind::Batch { commit: true, .. }))
}
