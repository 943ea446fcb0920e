//! What a caller may choose when a log is opened, with the limits of each choice.

use crate::error::{Error, Result};
use crate::format::frame::PAYLOAD_LEN_MAX;

/// Size at which a segment is full, if the caller says nothing.
pub const SEGMENT_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Smallest size that may be asked for.
pub const SEGMENT_BYTES_MAX_LOWEST: u64 = 64 << 10;
/// Greatest size that may be asked for; the LSN gap after an unclean end relies on it
/// (FORMAT.md section 14.6).
pub const SEGMENT_BYTES_MAX_HIGHEST: u64 = 4 << 30;

/// Most groups that may be asked for in flight.
pub const GROUPS_IN_FLIGHT_HIGHEST: u32 = 14;
/// Largest buffer that may be asked for.
pub const BUFFER_BYTES_HIGHEST: u32 = 8 << 20;

/// Payload at which a batch goes on in another frame, if the caller says nothing.
const FRAME_PAYLOAD_TARGET_DEFAULT: usize = 4 << 20;

/// What is looked at in less time than a sync or two take is looked at on every opening: damage is
/// better found before more is appended than when it is read.
const WALK_LEN_MAX_DEFAULT: u64 = 8 << 20;

/// When an append returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// When it is durable. The default.
    Every,
    /// When it is written; the log syncs by itself after `batches` batches or `millis`
    /// milliseconds, whichever comes first. A power cut may take what was written since.
    Interval {
        /// Sync after this many batches; at least 1.
        batches: u32,
        /// Sync this long after the first unsynced batch; at least 1.
        millis: u32,
    },
    /// When it is written; only `sync`, checkpoint, rotation and close make it durable.
    Manual,
}

/// What to do about an unclean end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoveryPolicy {
    /// Cut a torn tail and report it; refuse corruption for writing, and let reading go on up to
    /// it.
    Default,
    /// Refuse any end that is not clean, and look at the whole last segment for damage, however long it
    /// is, also if the log was closed.
    Strict,
    /// Read everything that is undamaged, whatever lies between: cursors skip damage and mark it
    /// with an entry of kind `Gap`. For reading only.
    Salvage,
}

/// Whether the log must exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenHow {
    /// Made if there is none.
    CreateIfAbsent,
    /// It must exist.
    MustExist,
    /// It must not exist.
    MustCreate,
    /// It must exist; nothing is written, no lock is taken.
    ReadOnly,
}

/// Choices for [`Wal::open`](super::Wal::open).
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Whether the log must exist.
    pub how: OpenHow,
    /// When an append returns.
    pub sync_mode: SyncMode,
    /// What to do about an unclean end.
    pub recovery_policy: RecoveryPolicy,
    /// Size in bytes at which a segment is full: the next batch starts a new one. A batch never
    /// crosses segments, so a segment may be larger by one batch.
    pub segment_bytes_max: u64,
    /// A number of the application's own, kept in every segment. An existing log must have the
    /// same, unless 0 is given here.
    pub application_id: u32,
    /// In the mode `Every`, how many groups of batches may be written to the disk at the same time,
    /// if batches come from many threads or asynchronously: 1 (one after the other) to 14. They are
    /// acknowledged in the order of the log. Each group then fills whole blocks of 4096 bytes, so
    /// the log takes more space. Where the file system has no direct, durable writes (`O_DIRECT`
    /// and `O_DSYNC`), groups are written one after the other.
    pub groups_in_flight_max: u32,
    /// In the modes `Interval` and `Manual`, how many bytes of batches may wait in the process
    /// before they are written; 0 (none) to 8,388,608. An append that only adds to them returns at
    /// once, and what waits is lost if the *process* dies, not only if the machine does. When there is
    /// half as much it is written in the background; at the latest when there is so much, when the
    /// interval ends, and before anything else is done with the log: sync, checkpoint, truncation,
    /// close. Cursors see it when it is written.
    pub buffer_bytes_max: u32,
    /// In the modes `Interval` and `Manual`, whether small groups are written by storing them into
    /// memory that shows the end of the segment, instead of by calls. What is stored is written: it
    /// survives the death of the process. The memory is asked for before it is needed, by calls that
    /// give errors; where it is not to be had (before Linux 5.14, on file systems that write elsewhere
    /// what is overwritten), calls write as ever. What is left of the price: if the file system fails
    /// under the process, or somebody cuts the file off, a store can end the process with a signal
    /// (SIGBUS), where a call would have been an error.
    pub mapped_appends: bool,
    /// Bytes of payload at which a batch goes on in another frame: 1 to 67,108,864. A frame holds
    /// at least one record. Meant for tests; what is read does not depend on it.
    #[doc(hidden)]
    pub frame_payload_target: usize,
    /// Bytes of the last segment up to which opening looks at all of them, though the log was closed.
    /// Meant for tests.
    #[doc(hidden)]
    pub walk_len_max: u64,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions {
            how: OpenHow::CreateIfAbsent,
            sync_mode: SyncMode::Every,
            recovery_policy: RecoveryPolicy::Default,
            segment_bytes_max: SEGMENT_BYTES_MAX_DEFAULT,
            application_id: 0,
            groups_in_flight_max: 1,
            buffer_bytes_max: 0,
            mapped_appends: false,
            frame_payload_target: FRAME_PAYLOAD_TARGET_DEFAULT,
            walk_len_max: WALK_LEN_MAX_DEFAULT,
        }
    }
}

impl WalOptions {
    pub(crate) fn check(&self) -> Result<()> {
        let size = self.segment_bytes_max;
        if !(SEGMENT_BYTES_MAX_LOWEST..=SEGMENT_BYTES_MAX_HIGHEST).contains(&size) {
            return Err(Error::invalid(format!(
                "segment_bytes_max is {size}, allowed are {SEGMENT_BYTES_MAX_LOWEST} to \
                 {SEGMENT_BYTES_MAX_HIGHEST} bytes"
            )));
        }
        if !(1..=PAYLOAD_LEN_MAX).contains(&self.frame_payload_target) {
            return Err(Error::invalid(format!(
                "frame_payload_target is {}, allowed are 1 to {PAYLOAD_LEN_MAX} bytes",
                self.frame_payload_target
            )));
        }
        if !(1..=GROUPS_IN_FLIGHT_HIGHEST).contains(&self.groups_in_flight_max) {
            return Err(Error::invalid(format!(
                "groups_in_flight_max is {}, allowed are 1 to {GROUPS_IN_FLIGHT_HIGHEST}",
                self.groups_in_flight_max
            )));
        }
        if self.buffer_bytes_max > BUFFER_BYTES_HIGHEST {
            return Err(Error::invalid(format!(
                "buffer_bytes_max is {}, at most {BUFFER_BYTES_HIGHEST} are allowed",
                self.buffer_bytes_max
            )));
        }
        if self.buffer_bytes_max > 0 && self.sync_mode == SyncMode::Every {
            return Err(Error::invalid(
                "a buffer is for appends that need not be durable when they return",
            ));
        }
        if self.mapped_appends && self.sync_mode == SyncMode::Every {
            return Err(Error::invalid(
                "mapped appends are for those that need not be durable when they return",
            ));
        }
        if self.recovery_policy == RecoveryPolicy::Salvage && self.how != OpenHow::ReadOnly {
            return Err(Error::invalid("salvage is for reading only"));
        }
        if let SyncMode::Interval { batches, millis } = self.sync_mode {
            if batches == 0 || millis == 0 {
                return Err(Error::invalid(
                    "an interval needs at least 1 batch and 1 millisecond",
                ));
            }
        }
        Ok(())
    }
}
