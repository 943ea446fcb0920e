//! What the machine remembers: every change of a file or of names, and every sync, with two places
//! on one clock: *entered* and *exited* (returned; [`NEVER`] if the machine died inside). A successful
//! sync settles a change if the change had exited before the sync was entered.

use super::content::Content;
use super::image::Names;
use std::fmt;
use std::sync::Arc;

/// The exit of a call that never returned.
pub(super) const NEVER: u64 = u64::MAX;
/// The inode of the root directory.
pub(super) const ROOT: usize = 0;

/// The place of one call in history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Number of the operation, from 1; 0 for stores to a shared page, which are no calls.
    pub(super) operation: u64,
    pub(super) enter: u64,
    pub(super) exit: u64,
}

/// A change of one file's bytes or size.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Write { start: u64, end: u64 },
    SetLen { len: u64 },
    Allocate { end: u64 },
    Store,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Write { start, end } => write!(f, "write of [{start}, {end})"),
            Change::SetLen { len } => write!(f, "setting of the length to {len}"),
            Change::Allocate { end } => write!(f, "allocation up to {end}"),
            Change::Store => write!(f, "stores to the shared page"),
        }
    }
}

/// A file after one of its changes.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) span: Span,
    pub(super) change: Change,
    pub(super) content: Content,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Synced,
    Failed,
    /// Reported success, persisted nothing.
    Lied,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sync {
    pub(super) span: Span,
    pub(super) outcome: Outcome,
    /// Of a direct write: the one change that it settles, by index.
    pub(super) only: Option<usize>,
}

/// A file or directory. Version 0 of a file is `initial`, version k the one after its k-th change.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) is_dir: bool,
    /// The first path it had; for messages.
    pub(super) label: String,
    pub(super) initial: Content,
    pub(super) versions: Vec<Version>,
    pub(super) syncs: Vec<Sync>,
    /// There were direct writes, which need not return in the order in which they were entered.
    pub(super) overlapping: bool,
    /// Its bytes are of no interest to recovery (lock file, shared page): crash states vary them
    /// at random instead of trying all.
    pub(super) minor: bool,
    pub(super) initial_names: Names,
    /// What the running system sees.
    pub(super) names: Names,
    /// Which blocks are paid for.
    pub(super) charged: Vec<bool>,
}

impl Inode {
    pub(super) fn new(is_dir: bool, label: String, initial: Content) -> Self {
        Self {
            is_dir,
            label,
            initial,
            versions: Vec::new(),
            syncs: Vec::new(),
            overlapping: false,
            minor: false,
            initial_names: Names::new(),
            names: Names::new(),
            charged: Vec::new(),
        }
    }

    /// What the page cache holds.
    pub(super) fn live(&self) -> &Content {
        self.versions
            .last()
            .map_or(&self.initial, |version| &version.content)
    }

    /// How many changes, from the first, had returned before `clock`. One that was under way then
    /// stands for all after it, which may be kept open longer than they are, never shorter.
    pub(super) fn returned(&self, clock: u64) -> usize {
        let returned = |version: &Version| version.span.exit < clock;
        if !self.overlapping {
            return self.versions.partition_point(returned);
        }
        let first_open = self.versions.iter().position(|version| !returned(version));
        first_open.unwrap_or(self.versions.len())
    }

    pub(super) fn version(&self, k: usize) -> &Content {
        match k {
            0 => &self.initial,
            _ => &self.versions[k - 1].content,
        }
    }
}

/// One name's change in a directory: to an inode or to nothing.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) dir: usize,
    pub(super) name: Arc<str>,
    pub(super) inode: Option<usize>,
}

/// A change of one name, or of two in one step.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) span: Span,
    pub(super) verb: &'static str,
    pub(super) slots: Vec<Slot>,
    /// Made by the test behind the machine's back: on the medium at once.
    pub(super) forced: bool,
}
