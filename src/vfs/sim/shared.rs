//! What processes of one machine share: the writer's lock and the mapped page. Neither outlives the
//! machine.

use super::faults::{errno, Call};
use super::history::{Change, Span, Version};
use super::machine::{error, report, Machine};
use std::io;

/// Length of the page that processes share.
const SHARED_LEN: u64 = 4096;

#[derive(Debug)]
pub(super) struct Lock {
    holder: String,
    generation: u64,
}

impl Machine {
    /// The inode and the generation of a lock that was free; else who holds it.
    pub(super) fn lock(
        &mut self,
        path: &str,
        holder: &str,
    ) -> io::Result<Result<(usize, u64), String>> {
        let fault = self.admit_or_fail(Call::Lock, &[path])?;
        let inode = self.find_or_create_minor(path)?;
        if let Some(lock) = self.locks.get(&inode) {
            return Ok(Err(lock.holder.clone()));
        }
        let len = holder.len() as u64;
        if self.inodes[inode].live().len() > len {
            self.change(inode, Change::SetLen { len }, |content| {
                content.set_len(len)
            })?;
        }
        self.change(inode, Change::Write { start: 0, end: len }, |content| {
            content.write(0, holder.as_bytes())
        })?;
        report(fault)?;
        self.lock_generation += 1;
        let generation = self.lock_generation;
        self.locks.insert(
            inode,
            Lock {
                holder: holder.to_owned(),
                generation,
            },
        );
        Ok(Ok((inode, generation)))
    }

    pub(super) fn unlock(&mut self, inode: usize, generation: u64) {
        if self
            .locks
            .get(&inode)
            .is_some_and(|lock| lock.generation == generation)
        {
            self.locks.remove(&inode);
        }
    }

    pub(super) fn unlock_all(&mut self) {
        self.locks.clear();
    }

    pub(super) fn is_locked(&mut self, inode: usize, path: &str) -> io::Result<bool> {
        report(self.admit_or_fail(Call::Lock, &[path])?)?;
        Ok(self.locks.contains_key(&inode))
    }

    pub(super) fn map_shared(&mut self, path: &str) -> io::Result<usize> {
        let fault = self.admit_or_fail(Call::Map, &[path])?;
        let inode = self.find_or_create_minor(path)?;
        if self.inodes[inode].live().len() < SHARED_LEN {
            if self.charge(inode, 0, SHARED_LEN) != SHARED_LEN {
                return Err(error(errno::ENOSPC));
            }
            self.change(inode, Change::SetLen { len: SHARED_LEN }, |content| {
                content.set_len(SHARED_LEN)
            })?;
        }
        report(fault)?;
        Ok(inode)
    }

    fn find_or_create_minor(&mut self, path: &str) -> io::Result<usize> {
        let inode = match self.find(path) {
            Ok(inode) if self.inodes[inode].is_dir => return Err(error(errno::EISDIR)),
            Ok(inode) => inode,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create(path, false, false)?
            }
            Err(error) => return Err(error),
        };
        self.inodes[inode].minor = true;
        Ok(inode)
    }

    pub(super) fn load(&self, inode: usize, word: usize) -> u64 {
        let mut bytes = [0; 8];
        self.inodes[inode].live().read(word as u64 * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Stores between two operations of the machine are one change of the file: nobody can tell
    /// which of them a cut of power found in the cache.
    pub(super) fn store(&mut self, inode: usize, word: usize, value: u64) {
        let at = word as u64 * 8;
        if self.off || at >= SHARED_LEN {
            return;
        }
        let span = Span {
            operation: 0,
            enter: self.clock,
            exit: self.clock,
        };
        let inode = &mut self.inodes[inode];
        let mut content = inode.live().clone();
        content.write(at, &value.to_le_bytes());
        match inode.versions.last_mut() {
            Some(last) if matches!(last.change, Change::Store) && last.span.enter == span.enter => {
                last.content = content
            }
            _ => inode.versions.push(Version {
                span,
                change: Change::Store,
                content,
            }),
        }
    }
}
