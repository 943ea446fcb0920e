//! What goes wrong, and when: calls that fail, sectors that rot.

use super::content::Content;
use std::io;

/// Error numbers of Linux for [`Fault::Error`], so that tests need no other package.
pub mod errno {
    /// No such file or directory.
    pub const ENOENT: i32 = 2;
    /// Interrupted: try again.
    pub const EINTR: i32 = 4;
    /// The device failed.
    pub const EIO: i32 = 5;
    /// The file was not opened for this.
    pub const EBADF: i32 = 9;
    /// Not allowed.
    pub const EACCES: i32 = 13;
    /// No such memory: what a window gets where the file has no space.
    pub const EFAULT: i32 = 14;
    /// It exists already.
    pub const EEXIST: i32 = 17;
    /// Not a directory.
    pub const ENOTDIR: i32 = 20;
    /// It is a directory.
    pub const EISDIR: i32 = 21;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Too many open files in this process.
    pub const EMFILE: i32 = 24;
    /// The file would become too large.
    pub const EFBIG: i32 = 27;
    /// No space left on the device.
    pub const ENOSPC: i32 = 28;
    /// The file system is read-only.
    pub const EROFS: i32 = 30;
    /// Not implemented: what `allocate` says where the file system can't.
    pub const ENOSYS: i32 = 38;
    /// The quota is used up.
    pub const EDQUOT: i32 = 122;
}

/// Kinds of calls, for counting them and for choosing which one fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `open` of a file that exists.
    Open,
    /// `open` that makes a file, and `create_dir`.
    Create,
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `len`.
    Len,
    /// `set_len`.
    SetLen,
    /// `allocate`.
    Allocate,
    /// `sync_data`.
    SyncData,
    /// `sync_dir`.
    SyncDir,
    /// `rename`.
    Rename,
    /// `unlink`.
    Unlink,
    /// `list`.
    List,
    /// `lock`.
    Lock,
    /// `map_shared` and `window`.
    Map,
}

impl Call {
    /// All kinds.
    pub const ALL: [Call; 14] = [
        Call::Open,
        Call::Create,
        Call::Read,
        Call::Write,
        Call::Len,
        Call::SetLen,
        Call::Allocate,
        Call::SyncData,
        Call::SyncDir,
        Call::Rename,
        Call::Unlink,
        Call::List,
        Call::Lock,
        Call::Map,
    ];
}

/// How a call goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It reports this error number and does nothing. A sync that does so leaves what it should
    /// have written in doubt for good: the pages count as clean, and a later sync does not write
    /// them.
    Error(i32),
    /// It does its work and reports this error number all the same.
    ErrorAfter(i32),
    /// It reads or writes half of what was asked and says so (at least one byte). Other calls
    /// just work.
    Short,
    /// It reports success and does nothing. Calls that return something (reads, `open`, `list`,
    /// `lock`, `map_shared`, `window`) just work.
    Lie,
}

/// Which call goes wrong, and how.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    call: Option<Call>,
    nth: u64,
    times: u64,
    path: Option<String>,
    fault: Fault,
    seen: u64,
}

impl FaultPlan {
    /// The `nth` call (from 1) of this kind, counted from when the plan is given to the disk, goes
    /// wrong, once.
    #[must_use]
    pub fn new(call: Call, nth: u64, fault: Fault) -> Self {
        Self {
            call: Some(call),
            nth,
            times: 1,
            path: None,
            fault,
            seen: 0,
        }
    }

    /// The `nth` call (from 1) of whatever kind goes wrong, once.
    #[must_use]
    pub fn any(nth: u64, fault: Fault) -> Self {
        Self {
            call: None,
            ..Self::new(Call::Open, nth, fault)
        }
    }

    /// Goes wrong from the `nth` call on, for ever.
    #[must_use]
    pub fn lasting(self) -> Self {
        self.times(u64::MAX)
    }

    /// Goes wrong `times` times in a row.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Counts and hits only calls on paths that contain `part`.
    #[must_use]
    pub fn on(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    fn strikes(&mut self, call: Call, paths: &[&str]) -> bool {
        if self.call.is_some_and(|wanted| wanted != call) {
            return false;
        }
        if self
            .path
            .as_ref()
            .is_some_and(|part| !paths.iter().any(|path| path.contains(part)))
        {
            return false;
        }
        self.seen += 1;
        self.seen >= self.nth && self.seen - self.nth < self.times
    }
}

/// What reads find in a damaged place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// Reads that touch it fail with this error number.
    Error(i32),
    /// Each byte is read with these bits flipped.
    Flip(u8),
    /// Reads show the bytes that stand at this offset of the same file instead (misdirected).
    Misdirected(u64),
}

#[derive(Clone, Debug)]
struct RottenRange {
    inode: usize,
    start: u64,
    end: u64,
    rot: Rot,
}

/// The faults of one disk.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plans: Vec<FaultPlan>,
    pub(super) counts: CallCounts,
    rotten: Vec<RottenRange>,
}

impl Faults {
    pub(super) fn add(&mut self, plan: FaultPlan) {
        self.plans.push(plan);
    }

    pub(super) fn clear(&mut self) {
        self.plans.clear();
        self.rotten.clear();
    }

    pub(super) fn rot(&mut self, inode: usize, start: u64, end: u64, rot: Rot) {
        self.rotten.push(RottenRange {
            inode,
            start,
            end,
            rot,
        });
    }

    /// Counts the call and says whether it goes wrong.
    pub(super) fn next(&mut self, call: Call, paths: &[&str]) -> Option<Fault> {
        self.counts.0[call as usize] += 1;
        let mut fault = None;
        for plan in &mut self.plans {
            // Every plan counts every call, whichever of them strikes.
            if plan.strikes(call, paths) {
                fault = fault.or(Some(plan.fault));
            }
        }
        fault
    }

    /// Spoils what was read from `offset` on.
    pub(super) fn spoil(
        &self,
        inode: usize,
        content: &Content,
        offset: u64,
        read: &mut [u8],
    ) -> io::Result<()> {
        let read_end = offset + read.len() as u64;
        for range in self.rotten.iter().filter(|range| range.inode == inode) {
            let (start, end) = (range.start.max(offset), range.end.min(read_end));
            if start >= end {
                continue;
            }
            let part = &mut read
                [super::content::index(start - offset)..super::content::index(end - offset)];
            match range.rot {
                Rot::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                Rot::Flip(bits) => part.iter_mut().for_each(|byte| *byte ^= bits),
                Rot::Misdirected(other) => {
                    part.fill(0);
                    content.read(other + (start - range.start), part);
                }
            }
        }
        Ok(())
    }
}

/// How many calls of each kind there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CallCounts([u64; Call::ALL.len()]);

impl CallCounts {
    /// Calls of one kind.
    #[must_use]
    pub fn of(&self, call: Call) -> u64 {
        self.0[call as usize]
    }

    /// Calls of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
