//! What a program may choose when it opens a log.

#![allow(unsafe_code, reason = "reads a struct of the caller")]

use super::sized::{self, SizedStruct};
use crate::error::{Error, Result};
use crate::wal::{OpenHow, RecoveryPolicy, SyncMode, WalOptions};

/// In open_flags: nothing is written and no lock is taken; any number of readers, in any process,
/// work beside one writer. The log must exist.
pub const WAL_OPEN_READ_ONLY: u32 = 1;
/// In open_flags: a log that is not there is DURALOG_E_NOT_FOUND. Without this flag it is made.
pub const WAL_OPEN_MUST_EXIST: u32 = 2;
/// In open_flags: a log that is there is DURALOG_E_EXISTS.
pub const WAL_OPEN_MUST_CREATE: u32 = 4;
/// In open_flags, with WAL_SYNC_INTERVAL or WAL_SYNC_MANUAL: batches of less than 256 KiB are written
/// by storing them into memory that shows the end of the segment, instead of by calls. What is stored
/// is written, and survives the death of the program. The memory is asked for in advance, by calls
/// that give errors; where it is not to be had (before Linux 5.14, or on a file system that writes
/// elsewhere what is overwritten), calls write as without the flag. What is left of the price: if the
/// file system fails under the program, or somebody cuts the file off, the program can end with a
/// signal (SIGBUS) instead of getting a status.
pub const WAL_OPEN_MAPPED_APPENDS: u32 = 8;

/// In sync_mode: an append returns when its batch is durable, that is, when it survives a power
/// cut. The default.
pub const WAL_SYNC_EVERY: u32 = 0;
/// In sync_mode: an append returns when its batch is written. The log syncs by itself after
/// sync_interval_batches batches or sync_interval_ms milliseconds, whichever comes first. A power
/// cut may take what was written since; the death of the program alone takes nothing.
pub const WAL_SYNC_INTERVAL: u32 = 1;
/// In sync_mode: an append returns when its batch is written. Only wal_sync, wal_checkpoint,
/// rotation and wal_close make it durable.
pub const WAL_SYNC_MANUAL: u32 = 2;

/// In recovery_policy: a tail torn by a crash is cut and reported; damage to acknowledged data is
/// refused for writing, and reading goes on up to it. The default.
pub const WAL_RECOVERY_DEFAULT: u32 = 0;
/// In recovery_policy: any end that is not clean is refused with DURALOG_E_UNCLEAN. The whole last segment
/// is looked at for damage; otherwise, of one with more than 8 MiB in which the log was closed, only
/// the last frame is.
pub const WAL_RECOVERY_STRICT: u32 = 1;

/// In recovery_policy, with WAL_OPEN_READ_ONLY only: cursors read everything that is undamaged and
/// mark what they pass over with a record of kind WAL_KIND_GAP. What can't be read is damaged too.
pub const WAL_RECOVERY_SALVAGE: u32 = 2;

/// Choices for wal_open. Start from WAL_OPTIONS_INIT; zero means the default in every field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct wal_options_t {
    /// Size of this struct; set by WAL_OPTIONS_INIT.
    pub struct_size: u32,
    /// WAL_OPEN_* flags, combined by OR; 0: opened for writing, made if there is none.
    pub open_flags: u32,
    /// One of WAL_SYNC_*.
    pub sync_mode: u32,
    /// One of WAL_RECOVERY_*.
    pub recovery_policy: u32,
    /// Size in bytes at which a segment (a file of the log) is full and the next batch starts a
    /// new one: 65,536 to 4,294,967,296; 0: 67,108,864. A batch never crosses segments, so one may
    /// be larger by a batch.
    pub segment_bytes_max: u64,
    /// With WAL_SYNC_INTERVAL: sync after this many batches; 0: 1000.
    pub sync_interval_batches: u32,
    /// With WAL_SYNC_INTERVAL: sync this many milliseconds after the first unsynced batch; 0: 100.
    pub sync_interval_ms: u32,
    /// A number of the application's own, kept in every segment. An existing log must have the
    /// same, unless this is 0.
    pub application_id: u32,
    /// With WAL_SYNC_EVERY: how many groups of batches may be written to the disk at once, if
    /// batches come from many threads or asynchronously: 1 to 14; 0: 1. They are acknowledged in the
    /// order of the log. Each group then fills whole blocks of 4096 bytes, so the log takes more
    /// space. Without effect where the file system has no direct, durable writes.
    pub groups_in_flight_max: u32,
    /// With WAL_SYNC_INTERVAL and WAL_SYNC_MANUAL: how many bytes of batches may wait in the process
    /// before they are written: up to 8,388,608; 0: none. What waits is lost if the process dies,
    /// and is not shown to cursors. When there is half as much a thread of the library writes it;
    /// it is written at the latest when there is so much, when the interval ends, and before wal_sync,
    /// wal_checkpoint, wal_truncate and wal_close do their work. If that write fails, the handle is
    /// poisoned.
    pub buffer_bytes_max: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: `repr(C)`, `struct_size` first, integers only.
unsafe impl SizedStruct for wal_options_t {
    const NAME: &'static str = "wal_options_t";
    const LEN_FIRST: usize = size_of::<Self>();
}

const INTERVAL_BATCHES_DEFAULT: u32 = 1000;
const INTERVAL_MS_DEFAULT: u32 = 100;

/// The options of the caller, or the defaults for NULL.
///
/// # Safety
/// If `options` is not NULL, as many bytes as its `struct_size` says are readable.
pub(super) unsafe fn wal_options(options: *const wal_options_t) -> Result<WalOptions> {
    if options.is_null() {
        return Ok(WalOptions::default());
    }
    // SAFETY: the same promise.
    convert(&unsafe { sized::read("options", options) }?)
}

fn convert(given: &wal_options_t) -> Result<WalOptions> {
    if given.reserved != 0 {
        return Err(Error::invalid(format!(
            "reserved of wal_options_t is {}, expected 0",
            given.reserved
        )));
    }
    let mut options = WalOptions {
        how: open_how(given.open_flags & !WAL_OPEN_MAPPED_APPENDS)?,
        mapped_appends: given.open_flags & WAL_OPEN_MAPPED_APPENDS != 0,
        sync_mode: match given.sync_mode {
            WAL_SYNC_EVERY => SyncMode::Every,
            WAL_SYNC_INTERVAL => SyncMode::Interval {
                batches: default_by_zero(given.sync_interval_batches, INTERVAL_BATCHES_DEFAULT),
                millis: default_by_zero(given.sync_interval_ms, INTERVAL_MS_DEFAULT),
            },
            WAL_SYNC_MANUAL => SyncMode::Manual,
            other => return Err(Error::invalid(format!("sync_mode {other} is unknown"))),
        },
        recovery_policy: match given.recovery_policy {
            WAL_RECOVERY_DEFAULT => RecoveryPolicy::Default,
            WAL_RECOVERY_STRICT => RecoveryPolicy::Strict,
            WAL_RECOVERY_SALVAGE => RecoveryPolicy::Salvage,
            other => {
                return Err(Error::invalid(format!(
                    "recovery_policy {other} is unknown"
                )))
            }
        },
        application_id: given.application_id,
        groups_in_flight_max: default_by_zero(given.groups_in_flight_max, 1),
        buffer_bytes_max: given.buffer_bytes_max,
        ..WalOptions::default()
    };
    if given.segment_bytes_max != 0 {
        options.segment_bytes_max = given.segment_bytes_max;
    }
    Ok(options)
}

fn open_how(flags: u32) -> Result<OpenHow> {
    const READ_ONLY_MUST_EXIST: u32 = WAL_OPEN_READ_ONLY | WAL_OPEN_MUST_EXIST;
    match flags {
        0 => Ok(OpenHow::CreateIfAbsent),
        WAL_OPEN_READ_ONLY | READ_ONLY_MUST_EXIST => Ok(OpenHow::ReadOnly),
        WAL_OPEN_MUST_EXIST => Ok(OpenHow::MustExist),
        WAL_OPEN_MUST_CREATE => Ok(OpenHow::MustCreate),
        _ => Err(Error::invalid(format!(
            "open_flags {flags:#x} has unknown flags, or flags that contradict each other"
        ))),
    }
}

fn default_by_zero(given: u32, default: u32) -> u32 {
    if given == 0 {
        default
    } else {
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::last_error::size_u32;

    fn zeros() -> wal_options_t {
        wal_options_t {
            struct_size: size_u32::<wal_options_t>(),
            open_flags: 0,
            sync_mode: 0,
            recovery_policy: 0,
            segment_bytes_max: 0,
            sync_interval_batches: 0,
            sync_interval_ms: 0,
            application_id: 0,
            groups_in_flight_max: 0,
            buffer_bytes_max: 0,
            reserved: 0,
        }
    }

    #[test]
    fn zeros_are_the_defaults() {
        let options = convert(&zeros()).unwrap();
        let default = WalOptions::default();
        assert_eq!(options.how, default.how);
        assert_eq!(options.sync_mode, default.sync_mode);
        assert_eq!(options.recovery_policy, default.recovery_policy);
        assert_eq!(options.segment_bytes_max, default.segment_bytes_max);
        assert_eq!(options.application_id, default.application_id);
        assert_eq!(options.groups_in_flight_max, default.groups_in_flight_max);
        assert_eq!(options.buffer_bytes_max, default.buffer_bytes_max);
        assert_eq!(options.mapped_appends, default.mapped_appends);
    }

    #[test]
    fn mapped_appends_go_with_every_way_of_opening_for_writing() {
        for flags in [0, WAL_OPEN_MUST_EXIST, WAL_OPEN_MUST_CREATE] {
            let given = wal_options_t {
                open_flags: flags | WAL_OPEN_MAPPED_APPENDS,
                sync_mode: WAL_SYNC_MANUAL,
                ..zeros()
            };
            let options = convert(&given).unwrap();
            assert!(options.mapped_appends);
            assert_eq!(options.how, open_how(flags).unwrap());
        }
    }

    #[test]
    fn an_interval_has_defaults_of_its_own() {
        let mode = |batches, ms| {
            let given = wal_options_t {
                sync_mode: WAL_SYNC_INTERVAL,
                sync_interval_batches: batches,
                sync_interval_ms: ms,
                ..zeros()
            };
            convert(&given).unwrap().sync_mode
        };
        let interval = |batches, millis| SyncMode::Interval { batches, millis };
        assert_eq!(mode(0, 0), interval(1000, 100));
        assert_eq!(mode(7, 0), interval(7, 100));
        assert_eq!(mode(0, 7), interval(1000, 7));
    }

    #[test]
    fn unknown_and_contradictory_choices_are_refused() {
        let bad = [
            wal_options_t {
                open_flags: 16,
                ..zeros()
            },
            wal_options_t {
                open_flags: u32::MAX,
                ..zeros()
            },
            wal_options_t {
                open_flags: WAL_OPEN_READ_ONLY | WAL_OPEN_MUST_CREATE,
                ..zeros()
            },
            wal_options_t {
                open_flags: WAL_OPEN_MUST_EXIST | WAL_OPEN_MUST_CREATE,
                ..zeros()
            },
            wal_options_t {
                sync_mode: 3,
                ..zeros()
            },
            wal_options_t {
                recovery_policy: 3,
                ..zeros()
            },
            wal_options_t {
                reserved: 1,
                ..zeros()
            },
        ];
        for given in bad {
            assert!(convert(&given).is_err(), "{given:?}");
        }
    }
}
