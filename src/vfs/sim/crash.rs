//! The states that a cut at one moment may leave, as one set: what is sure, and which questions are
//! open.
//!
//! The rules are those of the [module](super). Here a file's k-th open change leads from its
//! version k - 1 to its version k, and version 0 is what is sure. An answer (a `Choice`) names a
//! version for the size and one for every sector that an open change touches, and says of every
//! change of names whether it survived. Three steps: `judge` finds the questions, `choice` answers
//! them, `layout` bends the answers to the rules and lays out the disk.

use super::content::Content;
use super::history::{Change, NameChange, Span};
use super::image::Names;
use super::machine::Machine;
use super::random::{mix, Rng};
use super::SimDisk;
use std::ops::Range;

/// What bytes below a file's size read as if they never arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Zero.
    Zero,
    /// What another file has, or had, at the same offsets: the blocks were its own before.
    Stale,
    /// Random bytes.
    Random,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Power,
    Process,
}

/// A change that may survive or not.
pub(super) struct OpenChange {
    pub(super) span: Span,
    pub(super) change: Change,
    /// The sectors it changes, as places in [`OpenFile::sectors`].
    pub(super) sectors: Range<usize>,
    pub(super) shrinks: bool,
}

pub(super) struct OpenSector {
    pub(super) number: u64,
    /// The versions that it may show, ascending. Of several in a row that show the same bytes, the
    /// first: which of them survived is no question.
    pub(super) versions: Vec<usize>,
    /// For each of `versions`, the last one that shows the same bytes.
    pub(super) until: Vec<usize>,
}

impl OpenSector {
    /// The last version that shows what `version`, one of `versions`, shows.
    pub(super) fn newest_like(&self, version: usize) -> usize {
        let place = self.versions.partition_point(|&known| known < version);
        self.until.get(place).copied().unwrap_or(version)
    }
}

/// A file that is not wholly settled.
pub(super) struct OpenFile {
    pub(super) inode: usize,
    pub(super) label: String,
    pub(super) minor: bool,
    pub(super) changes: Vec<OpenChange>,
    /// One more than changes.
    pub(super) contents: Vec<Content>,
    /// Version 0, followed by what the device holds where the file may grow.
    pub(super) filled: Content,
    /// The versions whose size it may have, ascending.
    pub(super) sizes: Vec<usize>,
    pub(super) sectors: Vec<OpenSector>,
}

/// What one inode shows if nothing of it is open.
pub(super) enum Settled {
    Directory,
    File(Content),
}

/// The states that a cut at one moment may leave.
///
/// It is taken from the disk once and does not change when the disk goes on.
pub struct CrashStates {
    pub(super) sector_len: u64,
    pub(super) boot_id: [u8; 16],
    pub(super) settled: Vec<Settled>,
    pub(super) files: Vec<OpenFile>,
    pub(super) names: Vec<Names>,
    /// Changes of names after `names`, and whether each is sure.
    pub(super) name_changes: Vec<(NameChange, bool)>,
    pub(super) labels: Vec<String>,
}

impl CrashStates {
    /// What a power cut at the moment `at` (see [`SimDisk::crash_moments`]) may leave.
    #[must_use]
    pub fn new(disk: &SimDisk, at: u64, fill: Fill) -> Self {
        Self::of(&disk.machine(), at, fill, Cut::Power)
    }

    /// What the death of the process at the moment `at` (see [`SimDisk::every_moment`]) may leave:
    /// all calls that had returned, and all, part or nothing of the one that had not. The machine
    /// goes on, so the boot stays the same.
    #[must_use]
    pub fn killed(disk: &SimDisk, at: u64) -> Self {
        Self::of(&disk.machine(), at, Fill::Zero, Cut::Process)
    }

    fn of(machine: &Machine, at: u64, fill: Fill, cut: Cut) -> Self {
        let mut boot_id = machine.boot_id;
        if cut == Cut::Power {
            let old = boot_id
                .iter()
                .fold(at, |hash, byte| mix(hash ^ u64::from(*byte)));
            Rng::new(old).fill(&mut boot_id);
        }
        let mut states = Self {
            sector_len: machine.sector_len,
            boot_id,
            settled: Vec::new(),
            files: Vec::new(),
            names: machine
                .inodes
                .iter()
                .map(|inode| inode.initial_names.clone())
                .collect(),
            name_changes: Vec::new(),
            labels: machine
                .inodes
                .iter()
                .map(|inode| inode.label.clone())
                .collect(),
        };
        for id in 0..machine.inodes.len() {
            let settled = states.judge_file(machine, id, at, fill, cut);
            states.settled.push(settled);
        }
        states.judge_names(machine, at, cut);
        states
    }

    /// How many independent questions with two answers are open; one with more answers counts as
    /// several.
    #[must_use]
    pub fn open_choice_count(&self) -> u64 {
        self.radixes().map(|answers| answers - 1).sum()
    }

    /// How many states there are, equal ones counted more than once; at most `u64::MAX`.
    #[must_use]
    pub fn state_count(&self) -> u64 {
        self.radixes().fold(1, u64::saturating_mul)
    }

    /// For every open question, how many answers it has. In the order of `Choice::nth`.
    pub(super) fn radixes(&self) -> impl Iterator<Item = u64> + '_ {
        let names = self
            .name_changes
            .iter()
            .filter(|(_, sure)| !sure)
            .map(|_| 2);
        let files = self
            .files
            .iter()
            .filter(|file| !file.minor)
            .flat_map(|file| {
                let sectors = file
                    .sectors
                    .iter()
                    .map(|sector| sector.versions.len() as u64);
                sectors.chain([file.sizes.len() as u64])
            });
        names.chain(files)
    }
}
