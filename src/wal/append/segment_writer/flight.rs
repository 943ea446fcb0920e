//! Groups that are written beside others: each by one direct, durable write into blocks of its own.
//!
//! A disk takes many durable writes at once, and one stream of write and sync uses a fraction of
//! it. So that two groups never share a block (the later write would carry old bytes of the
//! earlier), a group that others will follow at once ends with a MARK that fills its last block, and
//! a group takes off only where a block begins. What is behind a group that was not written when the
//! power went is not acknowledged and is cut with it (FORMAT.md section 12).

use super::SegmentWriter;
use crate::error::{Error, Result};
use crate::format::checksum::crc32;
use crate::format::frame::{frame_type, FrameHeader, HEADER_LEN};
use crate::lsn::Lsn;
use crate::vfs::{write_all_at, File, OpenMode, Vfs, DIRECT_ALIGNMENT};
use crate::wal::append::group_committer::{Flight, Group};
use crate::wal::layout::Layout;
use crate::wal::segment_file::{discard, make_ready_dir};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The unit of a direct write.
const BLOCK_LEN: u64 = DIRECT_ALIGNMENT as u64;
/// A larger group is written alone: the disk is busy enough with it.
const FLIGHT_LEN_MAX: usize = 1 << 20;
/// Buffers kept for the next flights.
const SPARE_MAX: usize = 16;

/// What a segment writer needs for flights. It has one only if every group is durable when it is
/// acknowledged: a flight is no sync for what was written before it.
#[derive(Default)]
pub(crate) struct Runway {
    /// The segment that is open for direct writes.
    strip: Option<Strip>,
    spare: Vec<Vec<u8>>,
}

/// A segment that is open for direct writes.
#[derive(Clone)]
struct Strip {
    number: u64,
    file: Arc<dyn File>,
    path: Arc<Path>,
}

impl Runway {
    /// Finds out with a file of its own whether direct writes are to be had here; `None` if not.
    pub(crate) fn probe(vfs: &dyn Vfs, layout: &Layout) -> Result<Option<Runway>> {
        make_ready_dir(vfs, layout)?;
        let path = layout.ready().join("direct");
        discard(vfs, &path)?;
        let written = vfs
            .open(&path, OpenMode::CreateNew)
            .and_then(|_| vfs.open(&path, OpenMode::Direct))
            .and_then(|file| {
                let bytes = aligned(Vec::new(), &[0; DIRECT_ALIGNMENT])
                    .ok_or(io::ErrorKind::OutOfMemory)?;
                file.write_at(0, &bytes[begin_of(&bytes)..])
            });
        discard(vfs, &path)?;
        // Whatever the reason: without direct writes everything works as well.
        Ok(written.ok().map(|_| Runway::default()))
    }
}

/// A group on its way to the disk.
pub(crate) struct SegmentFlight {
    strip: Strip,
    offset: u64,
    /// The blocks, from the first place on that is aligned as they must be.
    bytes: Vec<u8>,
    end_lsn: Lsn,
    batches: u64,
}

impl Flight for SegmentFlight {
    fn write(&self) -> Result<()> {
        let blocks = &self.bytes[begin_of(&self.bytes)..];
        write_all_at(self.strip.file.as_ref(), self.offset, blocks)
            .map_err(|failure| Error::io("write", &self.strip.path, failure.error))
    }
}

/// Where the aligned bytes of a buffer begin.
fn begin_of(bytes: &[u8]) -> usize {
    bytes
        .as_ptr()
        .align_offset(DIRECT_ALIGNMENT)
        .min(bytes.len())
}

/// `content`, whole blocks, at the aligned end of a buffer; `None` if there is no memory for it.
fn aligned(mut buffer: Vec<u8>, content: &[u8]) -> Option<Vec<u8>> {
    buffer.clear();
    buffer
        .try_reserve_exact(content.len() + DIRECT_ALIGNMENT)
        .ok()?;
    // The place of the buffer is known only now that it will not move any more.
    let begin = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
    buffer.resize(begin.min(DIRECT_ALIGNMENT), 0);
    buffer.extend_from_slice(content);
    Some(buffer)
}

impl SegmentWriter {
    /// A MARK from `offset` to the end of a block, behind `group`; its payload is zeros that nobody
    /// reads (FORMAT.md section 5). Nothing if a block ends there, or if there is no memory for it:
    /// then the next group is written alone.
    pub(super) fn fill_block(&self, group: &mut Group, run: &mut super::Run, time_ns: u64) {
        let mut len = run.offset.next_multiple_of(BLOCK_LEN) - run.offset;
        if len == 0 {
            return;
        }
        if len < HEADER_LEN as u64 {
            len += BLOCK_LEN;
        }
        let reserved = usize::try_from(len).unwrap_or(usize::MAX) + HEADER_LEN;
        if group.bytes.try_reserve(reserved).is_err() {
            return;
        }
        let payload_len = len - HEADER_LEN as u64;
        let zeros = [0; 2 * DIRECT_ALIGNMENT];
        let payload = &zeros[..usize::try_from(payload_len).unwrap_or(0)];
        let header = FrameHeader {
            payload_crc: crc32(payload),
            payload_len: u32::try_from(payload_len).unwrap_or(0),
            frame_type: frame_type::MARK,
            flags: 0,
            link: run.link,
            salt: self.header.salt,
            lsn: self.header.lsn_at(run.offset),
            first_seq: run.next_seq,
            record_count: 0,
            durable_lsn: self.durable_lsn,
            time_ns,
        };
        let encoded = header.encode();
        group.bytes.extend_from_slice(&encoded);
        group.bytes.extend_from_slice(payload);
        run.take(&header, &encoded);
    }

    /// See [`GroupSink::take_off`](crate::wal::append::group_committer::GroupSink::take_off).
    pub(super) fn launch(&mut self, group: &mut Group) -> Option<SegmentFlight> {
        self.runway.as_ref()?;
        let possible =
            self.offset % BLOCK_LEN == 0 && !self.is_full() && group.bytes.len() <= FLIGHT_LEN_MAX;
        if !possible {
            return None;
        }
        let strip = self.strip()?;
        let time_ns = self.time_ns();
        let content_len = group.bytes.len();
        let (behind, mut run) = self.assign(group, 0, time_ns);
        if behind < group.frames.len() || run.check().is_err() {
            return None;
        }
        self.fill_block(group, &mut run, time_ns);
        let fits = run.offset % BLOCK_LEN == 0 && self.has_room(run.offset);
        let bytes = if fits {
            let buffer = self.runway.as_mut()?.spare.pop().unwrap_or_default();
            aligned(buffer, &group.bytes)
        } else {
            None
        };
        let Some(bytes) = bytes else {
            // The leader makes room when it has the writer to itself.
            group.bytes.truncate(content_len);
            return None;
        };
        let flight = SegmentFlight {
            strip,
            offset: self.offset,
            bytes,
            end_lsn: self.header.lsn_at(run.offset),
            batches: group.frames.len() as u64,
        };
        self.counters.written_bytes += run.offset - self.offset;
        self.counters.groups += 1;
        self.advance(&run);
        Some(flight)
    }

    /// The segment, opened for direct writes.
    fn strip(&mut self) -> Option<Strip> {
        let number = self.header.segment_number;
        let open = self.runway.as_ref()?.strip.as_ref();
        if let Some(strip) = open.filter(|strip| strip.number == number) {
            return Some(strip.clone());
        }
        let path = self.path();
        let Ok(file) = self.vfs.open(&path, OpenMode::Direct) else {
            // From now on each group is written alone.
            self.runway = None;
            return None;
        };
        let strip = Strip {
            number,
            file,
            path: path.into(),
        };
        self.runway.as_mut()?.strip = Some(strip.clone());
        Some(strip)
    }

    /// See [`GroupSink::land`](crate::wal::append::group_committer::GroupSink::land).
    pub(super) fn touch_down(&mut self, flight: SegmentFlight) {
        self.counters.batches += flight.batches;
        // Its write was its sync.
        self.counters.syncs += 1;
        self.durable_lsn = flight.end_lsn;
        self.tail.promise(flight.end_lsn);
        self.view.publish_end(flight.end_lsn);
        self.tail.acknowledge(flight.strip.number, flight.end_lsn);
        if let Some(runway) = &mut self.runway {
            if runway.spare.len() < SPARE_MAX {
                runway.spare.push(flight.bytes);
            }
        }
    }
}
