//! The machine's calls on the bytes of files, the space that they take, and syncs.

use super::content::{index, Content, FILE_LEN_MAX};
use super::faults::{errno, Call, Fault};
use super::history::{Change, Outcome, Span, Sync, Version, NEVER};
use super::machine::{error, report, Machine, BLOCK_LEN};
use crate::vfs::DIRECT_ALIGNMENT;
use std::io;
use std::ops::Range;

/// A sync between its two ends.
pub(super) struct SyncCall {
    operation: u64,
    enter: u64,
    inode: usize,
    outcome: Outcome,
    report: Option<i32>,
}

/// A direct write between its two ends.
pub(super) struct DirectWrite {
    operation: u64,
    enter: u64,
    inode: usize,
    /// Index of the change among those of the file; `None` if nothing was changed.
    change: Option<usize>,
    len: usize,
    outcome: Outcome,
    report: Option<i32>,
}

impl Machine {
    /// Charges blocks for a range, in order; where the disk is full, the offset up to which they
    /// could be had.
    pub(super) fn charge(&mut self, inode: usize, start: u64, end: u64) -> u64 {
        let charged = &mut self.inodes[inode].charged;
        if charged.len() < index(end.div_ceil(BLOCK_LEN)) {
            charged.resize(index(end.div_ceil(BLOCK_LEN)), false);
        }
        for block in start / BLOCK_LEN..end.div_ceil(BLOCK_LEN) {
            if !charged[index(block)] {
                if (self.used_blocks + 1) * BLOCK_LEN > self.capacity {
                    return start.max(block * BLOCK_LEN);
                }
                self.used_blocks += 1;
                charged[index(block)] = true;
            }
        }
        end
    }

    /// Frees the blocks beyond `len`. (A real file system waits for the last handle.)
    pub(super) fn release(&mut self, inode: usize, len: u64) {
        let keep = index(len.div_ceil(BLOCK_LEN)).min(self.inodes[inode].charged.len());
        let freed = self.inodes[inode]
            .charged
            .drain(keep..)
            .filter(|charged| *charged)
            .count();
        self.used_blocks -= freed as u64;
    }

    pub(super) fn used(&self) -> u64 {
        self.used_blocks * BLOCK_LEN
    }

    // ---- Bytes ----

    pub(super) fn change(
        &mut self,
        inode: usize,
        change: Change,
        edit: impl FnOnce(&mut Content),
    ) -> io::Result<()> {
        let span = self.operation();
        let mut content = self.inodes[inode].live().clone();
        edit(&mut content);
        self.inodes[inode].versions.push(Version {
            span,
            change,
            content,
        });
        Self::returned(span)
    }

    pub(super) fn read(
        &mut self,
        inode: usize,
        path: &str,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        let fault = self.admit_or_fail(Call::Read, &[path])?;
        let len = match fault {
            Some(Fault::Short) => buf.len().div_ceil(2),
            _ => buf.len(),
        };
        let content = self.inodes[inode].live();
        let read = content.read(offset, &mut buf[..len]);
        self.faults
            .spoil(inode, content, offset, &mut buf[..read])?;
        report(fault)?;
        Ok(read)
    }

    pub(super) fn len(&mut self, inode: usize, path: &str) -> io::Result<u64> {
        report(self.admit_or_fail(Call::Len, &[path])?)?;
        Ok(self.inodes[inode].live().len())
    }

    pub(super) fn write(
        &mut self,
        inode: usize,
        path: &str,
        start: u64,
        data: &[u8],
    ) -> io::Result<usize> {
        let fault = self.admit_or_fail(Call::Write, &[path])?;
        let len = match fault {
            _ if data.is_empty() => return Ok(0),
            Some(Fault::Lie) => return Ok(data.len()),
            Some(Fault::Short) => data.len().div_ceil(2),
            _ => data.len(),
        };
        let end = end_of(start, len as u64)?;
        let end = self.charge(inode, start, end);
        if end == start {
            return Err(error(errno::ENOSPC));
        }
        let len = index(end - start);
        self.change(inode, Change::Write { start, end }, |content| {
            content.write(start, &data[..len])
        })?;
        report(fault)?;
        Ok(len)
    }

    pub(super) fn set_len(&mut self, inode: usize, path: &str, len: u64) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::SetLen, &[path])?;
        end_of(0, len)?;
        if fault != Some(Fault::Lie) {
            self.release(inode, len);
            self.change(inode, Change::SetLen { len }, |content| {
                content.set_len(len)
            })?;
        }
        report(fault)
    }

    pub(super) fn allocate(
        &mut self,
        inode: usize,
        path: &str,
        start: u64,
        len: u64,
    ) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::Allocate, &[path])?;
        let end = end_of(start, len)?;
        if len == 0 {
            return Err(error(errno::EINVAL));
        }
        if fault != Some(Fault::Lie) {
            if self.charge(inode, start, end) != end {
                return Err(error(errno::ENOSPC));
            }
            self.change(inode, Change::Allocate { end }, |content| {
                content.set_len(content.len().max(end))
            })?;
        }
        report(fault)
    }

    // ---- Windows ----

    /// Lets a window be opened where the file has its space.
    pub(super) fn window(
        &mut self,
        inode: usize,
        path: &str,
        range: &Range<u64>,
    ) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::Map, &[path])?;
        if range.is_empty() || !self.has_space(inode, range) {
            return Err(error(errno::EFAULT));
        }
        report(fault)
    }

    /// A store into a window: a write that nothing can make fail, and that is cut and torn like one.
    /// Where the file has no space any more, it would end the process.
    pub(super) fn store_bytes(&mut self, inode: usize, start: u64, data: &[u8]) {
        if self.off || data.is_empty() {
            return;
        }
        let end = start + data.len() as u64;
        assert!(
            self.has_space(inode, &(start..end)),
            "a store at {start} of /{} is a signal",
            self.inodes[inode].label
        );
        // A process that dies in it is told nothing.
        let _ = self.change(inode, Change::Write { start, end }, |content| {
            content.write(start, data)
        });
    }

    fn has_space(&self, inode: usize, range: &Range<u64>) -> bool {
        let inode = &self.inodes[inode];
        let blocks = index(range.start / BLOCK_LEN)..index(range.end.div_ceil(BLOCK_LEN));
        let charged = inode.charged.get(blocks);
        range.end <= inode.live().len()
            && charged.is_some_and(|blocks| blocks.iter().all(|charged| *charged))
    }

    // ---- Syncs ----

    pub(super) fn enter_sync(
        &mut self,
        call: Call,
        inode: usize,
        path: &str,
    ) -> io::Result<SyncCall> {
        let (outcome, report) = match self.admit(call, &[path])? {
            Some(Fault::Error(code)) => (Outcome::Failed, Some(code)),
            Some(Fault::ErrorAfter(code)) => (Outcome::Synced, Some(code)),
            Some(Fault::Lie) => (Outcome::Lied, None),
            Some(Fault::Short) | None => (Outcome::Synced, None),
        };
        let (operation, enter, dies) = self.enter();
        if dies {
            return Err(error(errno::EIO));
        }
        Ok(SyncCall {
            operation,
            enter,
            inode,
            outcome,
            report,
        })
    }

    pub(super) fn exit_sync(&mut self, call: &SyncCall) -> io::Result<()> {
        if self.off {
            return Err(error(errno::EIO));
        }
        let span = Span {
            operation: call.operation,
            enter: call.enter,
            exit: self.tick(),
        };
        self.inodes[call.inode].syncs.push(Sync {
            span,
            outcome: call.outcome,
            only: None,
        });
        call.report.map_or(Ok(()), |code| Err(error(code)))
    }

    pub(super) fn enter_direct_write(
        &mut self,
        inode: usize,
        path: &str,
        start: u64,
        data: &[u8],
    ) -> io::Result<DirectWrite> {
        let (len, outcome, report) = match self.admit_or_fail(Call::Write, &[path])? {
            Some(Fault::Lie) => (0, Outcome::Lied, None),
            // What is written directly is written in whole blocks.
            Some(Fault::Short) => (
                data.len().div_ceil(2).next_multiple_of(DIRECT_ALIGNMENT),
                Outcome::Synced,
                None,
            ),
            Some(Fault::ErrorAfter(code)) => (data.len(), Outcome::Failed, Some(code)),
            Some(Fault::Error(_)) | None => (data.len(), Outcome::Synced, None),
        };
        let end = self.charge(inode, start, end_of(start, len as u64)?);
        if end == start && outcome != Outcome::Lied {
            return Err(error(errno::ENOSPC));
        }
        let written = index(end - start);
        let (operation, enter, dies) = self.enter();
        let mut change = None;
        if outcome != Outcome::Lied {
            change = Some(self.inodes[inode].versions.len());
            self.inodes[inode].overlapping = true;
            let mut content = self.inodes[inode].live().clone();
            content.write(start, &data[..written]);
            self.inodes[inode].versions.push(Version {
                span: Span {
                    operation,
                    enter,
                    exit: NEVER,
                },
                change: Change::Write { start, end },
                content,
            });
        }
        if dies {
            return Err(error(errno::EIO));
        }
        let len = match outcome {
            Outcome::Lied => data.len(),
            Outcome::Synced | Outcome::Failed => written,
        };
        Ok(DirectWrite {
            operation,
            enter,
            inode,
            change,
            len,
            outcome,
            report,
        })
    }

    pub(super) fn exit_direct_write(&mut self, call: &DirectWrite) -> io::Result<usize> {
        if self.off {
            return Err(error(errno::EIO));
        }
        let span = Span {
            operation: call.operation,
            enter: call.enter,
            exit: self.tick(),
        };
        if let Some(change) = call.change {
            let inode = &mut self.inodes[call.inode];
            inode.versions[change].span = span;
            inode.syncs.push(Sync {
                span,
                outcome: call.outcome,
                only: Some(change),
            });
        }
        call.report.map_or(Ok(call.len), |code| Err(error(code)))
    }
}

fn end_of(start: u64, len: u64) -> io::Result<u64> {
    start
        .checked_add(len)
        .filter(|end| *end <= FILE_LEN_MAX)
        .ok_or_else(|| error(errno::EFBIG))
}
