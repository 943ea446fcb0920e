//! From one segment to the next (FORMAT.md section 14.4).

use super::{leaves_no_trace, SegmentWriter};
use crate::error::{Error, ErrorKind};
use crate::format::control::Control;
use crate::format::frame::{frame_type, FrameHeader, HEADER_LEN};
use crate::format::segment_header::{SegmentHeader, HEADER_SIZE};
use crate::format::FORMAT_MINOR;
use crate::lsn::Lsn;
use crate::vfs::{write_all_at, File};
use crate::wal::append::group_committer::Alone;
use crate::wal::recovery::restart::new_salt;
use crate::wal::segment_file::{prepare_recycled, prepare_segment, publish_segment};
use std::sync::Arc;

impl SegmentWriter {
    /// Ends this segment and begins the next (FORMAT.md section 14.4). An error of kind FULL leaves
    /// a state from which it can be tried again.
    pub(super) fn rotate(&mut self) -> std::result::Result<(), RotateFault> {
        if self.successor.is_none() {
            self.seal()?;
        }
        let control_now = self.control_now();
        let Some(successor) = &mut self.successor else {
            return Err(RotateFault::fatal(Error::new(
                ErrorKind::Internal,
                "rotation without a successor",
            )));
        };
        let (header, file) = (successor.header.clone(), Arc::clone(&successor.file));
        let path = self.layout.segment(header.segment_number);
        let len = file
            .len()
            .map_err(|error| Error::io("look up", &path, error))
            .map_err(RotateFault::fatal)?;
        if !successor.named {
            publish_segment(self.vfs.as_ref(), &self.layout, header.segment_number)
                .map_err(RotateFault::full_is_clean)?;
            successor.named = true;
        }
        let control = Control {
            last_segment: header.segment_number,
            ..control_now
        };
        self.control
            .write(control)
            .map_err(RotateFault::full_is_clean)?;
        self.successor = None;
        self.offset = u64::from(header.header_size);
        self.link = header.link();
        self.last_frame_lsn = Lsn::NONE;
        self.window = None;
        self.room.move_to(Arc::clone(&file), path, len, self.offset);
        self.prepared = self.room.prepared();
        self.ask_at = 0;
        self.file = file;
        self.header = header.clone();
        self.counters.rotations += 1;
        self.view.publish_segment(header);
        Ok(())
    }

    /// Prepares the successor, then seals and syncs this segment.
    fn seal(&mut self) -> std::result::Result<(), RotateFault> {
        let now = self.vfs.now_ns();
        let seal = FrameHeader {
            payload_crc: 0,
            payload_len: 0,
            frame_type: frame_type::SEAL,
            flags: 0,
            link: self.link,
            salt: self.header.salt,
            lsn: self.written_lsn(),
            first_seq: self.next_seq,
            record_count: 0,
            durable_lsn: self.durable_lsn,
            time_ns: now,
        };
        let encoded = seal.encode();
        let end = Lsn(seal.lsn.0 + HEADER_LEN as u64);
        self.make_room(self.offset + HEADER_LEN as u64)
            .map_err(RotateFault::full_is_clean)?;
        let header = SegmentHeader {
            format_minor: FORMAT_MINOR,
            compatible: 0,
            header_size: HEADER_SIZE,
            flags: 0,
            segment_number: self.header.segment_number + 1,
            base_lsn: end,
            first_seq: self.next_seq,
            prev_end_lsn: end,
            prev_link: crate::format::get_u32(&encoded, 0),
            salt: new_salt(self.vfs.as_ref()).map_err(RotateFault::fatal)?,
            // True when the file gets its name, since this segment is synced before that.
            durable_lsn: end,
            checkpoint_lsn: self.checkpoint_lsn,
            allocated_size: u64::from(HEADER_SIZE),
            created_ns: now,
            ..self.header.clone()
        };
        let number = header.segment_number;
        let (vfs, layout) = (self.vfs.as_ref(), &self.layout);
        let waiting =
            self.ready.take(vfs, layout, number) || self.room.take_fresh(vfs, layout, number);
        let file = if waiting {
            prepare_recycled(self.vfs.as_ref(), &self.layout, &header)
        } else {
            prepare_segment(self.vfs.as_ref(), &self.layout, &header, |_| Ok(()))
        }
        .map_err(RotateFault::full_is_clean)?;
        let mut bytes = encoded.to_vec();
        bytes.resize(2 * HEADER_LEN, 0);
        if let Err(failure) = write_all_at(self.file.as_ref(), self.offset, &bytes) {
            // The next attempt prepares another; a full disk must not be kept full by this one.
            let _ = self.vfs.unlink(&self.layout.prepared(number));
            return Err(RotateFault::full_is_clean(failure.into_error(&self.path())));
        }
        self.offset += HEADER_LEN as u64;
        self.link = header.prev_link;
        self.last_frame_lsn = seal.lsn;
        self.counters.written_bytes += HEADER_LEN as u64;
        // Before the successor has its name: its header promises that all of this is durable.
        self.sync_segment().map_err(RotateFault::fatal)?;
        self.successor = Some(Successor {
            header,
            file,
            named: false,
        });
        self.publish();
        Ok(())
    }
}

/// The next segment, prepared.
pub(super) struct Successor {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn File>,
    /// It has its name, durably; only the control file does not say so yet.
    named: bool,
}

pub(super) struct RotateFault {
    pub(super) error: Error,
    pub(super) poison: bool,
}

impl RotateFault {
    fn fatal(error: Error) -> RotateFault {
        RotateFault {
            error,
            poison: true,
        }
    }

    fn full_is_clean(error: Error) -> RotateFault {
        RotateFault {
            poison: !leaves_no_trace(&error),
            error,
        }
    }

    pub(super) fn into_alone<T>(self) -> Alone<T> {
        Alone {
            result: Err(self.error),
            poison: self.poison,
        }
    }
}
