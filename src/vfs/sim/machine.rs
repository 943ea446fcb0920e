//! The machine behind a [`SimDisk`](super::SimDisk): what the running system sees (inodes, names,
//! page cache), and beside it the history from which a power cut is worked out.
//!
//! Nothing here decides what survives; that is `crash`. Here every change is carried out in the cache
//! and noted. The calls are in `names`, `bytes` and `shared`; this file has the clock, death, and
//! what tests do behind the machine's back.

use super::content::{index, Content};
use super::faults::{errno, Call, Fault, Faults};
use super::history::{Inode, NameChange, Slot, Span, NEVER, ROOT};
use super::image::Image;
use super::random::Rng;
use super::shared::Lock;
use std::collections::HashMap;
use std::io;

/// Unit of space on the disk.
pub(super) const BLOCK_LEN: u64 = 4096;

pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) inodes: Vec<Inode>,
    pub(super) name_changes: Vec<NameChange>,
    /// (clock, token)
    pub(super) issued: Vec<(u64, u64)>,
    pub(super) acknowledged: Vec<(u64, u64)>,
    pub(super) clock: u64,
    pub(super) operations: u64,
    pub(super) die_after: u64,
    pub(super) off: bool,
    pub(super) faults: Faults,
    pub(super) capacity: u64,
    /// What is overwritten goes elsewhere: see `File::overwrites_in_place`.
    pub(super) copy_on_write: bool,
    pub(super) used_blocks: u64,
    pub(super) sector_len: u64,
    pub(super) rng: Rng,
    pub(super) boot_id: [u8; 16],
    pub(super) wall_ns: u64,
    pub(super) monotonic_ns: u64,
    pub(super) locks: HashMap<usize, Lock>,
    pub(super) lock_generation: u64,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut boot_id = [0; 16];
        rng.fill(&mut boot_id);
        Self {
            inodes: vec![Inode::new(true, String::new(), Content::default())],
            name_changes: Vec::new(),
            issued: Vec::new(),
            acknowledged: Vec::new(),
            clock: 0,
            operations: 0,
            die_after: NEVER,
            off: false,
            faults: Faults::default(),
            capacity: u64::MAX,
            copy_on_write: false,
            used_blocks: 0,
            sector_len: 512,
            rng,
            boot_id,
            wall_ns: 1_700_000_000_000_000_000,
            monotonic_ns: 1_000_000_000,
            locks: HashMap::new(),
            lock_generation: 0,
        }
    }

    /// A machine that boots with this on its disk; all of it is on the medium.
    pub(super) fn boot(image: &Image, seed: u64) -> Self {
        let mut machine = Self::new(seed);
        machine.boot_id = image.boot_id();
        let mut by_path: HashMap<&str, usize> = HashMap::from([("", ROOT)]);
        // Parents sort before what is in them.
        let dirs = image.dirs().map(|path| (path, None));
        for (path, content) in
            dirs.chain(image.files().map(|(path, content)| (path, Some(content))))
        {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let Some(&dir) = by_path.get(parent) else {
                continue;
            };
            let id = machine.inodes.len();
            let inode = Inode::new(
                content.is_none(),
                path.to_owned(),
                content.cloned().unwrap_or_default(),
            );
            machine.used_blocks += inode.initial.len().div_ceil(BLOCK_LEN);
            machine.inodes.push(inode);
            machine.inodes[id].charged =
                vec![true; index(machine.inodes[id].initial.len().div_ceil(BLOCK_LEN))];
            machine.inodes[dir].names.insert(name.into(), id);
            machine.inodes[dir].initial_names.insert(name.into(), id);
            if content.is_none() {
                by_path.insert(path, id);
            }
        }
        machine
    }

    // ---- The clock, and death ----

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Enters an operation; whether the machine dies in it.
    pub(super) fn enter(&mut self) -> (u64, u64, bool) {
        self.operations += 1;
        self.off = self.operations > self.die_after;
        (self.operations, self.tick(), self.off)
    }

    /// An operation that nothing else runs beside.
    pub(super) fn operation(&mut self) -> Span {
        let (operation, enter, dies) = self.enter();
        let exit = if dies { NEVER } else { self.tick() };
        Span {
            operation,
            enter,
            exit,
        }
    }

    pub(super) fn returned(span: Span) -> io::Result<()> {
        match span.exit {
            NEVER => Err(error(errno::EIO)),
            _ => Ok(()),
        }
    }

    /// Lets a call in, and says how it goes wrong.
    pub(super) fn admit(&mut self, call: Call, paths: &[&str]) -> io::Result<Option<Fault>> {
        if self.off {
            return Err(error(errno::EIO));
        }
        Ok(self.faults.next(call, paths))
    }

    /// Like `admit`, for calls whose plain failure leaves no trace.
    pub(super) fn admit_or_fail(
        &mut self,
        call: Call,
        paths: &[&str],
    ) -> io::Result<Option<Fault>> {
        match self.admit(call, paths)? {
            Some(Fault::Error(code)) => Err(error(code)),
            fault => Ok(fault),
        }
    }

    // ---- Behind the machine's back ----

    /// Changes bytes on the medium and in the cache, now and in the past; as far as the file goes.
    pub(super) fn corrupt(&mut self, inode: usize, offset: u64, bytes: &[u8]) {
        let inode = &mut self.inodes[inode];
        let versions = inode
            .versions
            .iter_mut()
            .map(|version| &mut version.content);
        for content in versions.chain([&mut inode.initial]) {
            let end = content.len().min(offset.saturating_add(bytes.len() as u64));
            if offset < end {
                content.write(offset, &bytes[..index(end - offset)]);
            }
        }
    }

    /// Replaces or makes a file, durably.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let inode = match self.find(path) {
            Ok(inode) if self.inodes[inode].is_dir => return Err(error(errno::EISDIR)),
            Ok(inode) => inode,
            Err(_) => self.create(path, false, true)?,
        };
        self.inodes[inode].versions.clear();
        self.inodes[inode].syncs.clear();
        self.inodes[inode].initial = Content::from_bytes(bytes);
        Ok(())
    }

    /// Deletes a file, durably.
    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.find(path)?;
        let (dir, name) = self.find_parent(path)?;
        self.change_names(
            "removal of",
            true,
            vec![Slot {
                dir,
                name: name.into(),
                inode: None,
            }],
        )
    }

    /// All there is, as the running system sees it.
    pub(super) fn image(&self) -> Image {
        let names: Vec<_> = self.inodes.iter().map(|inode| &inode.names).collect();
        Image::from_names(&names, self.boot_id, |inode| {
            (!self.inodes[inode].is_dir).then(|| self.inodes[inode].live().clone())
        })
    }
}

/// The error that a call reports although it did its work.
pub(super) fn report(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        Some(Fault::ErrorAfter(code)) => Err(error(code)),
        _ => Ok(()),
    }
}
