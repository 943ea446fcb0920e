//! A disk in memory that can crash, fill up, fail, lie and rot; everything follows from a seed.
//!
//! It is public because programs that use Duralog need it for the same reason as Duralog: to know
//! what they find after the power was cut at the worst moment. The engine runs on it unchanged.
//!
//! ```
//! use duralog::vfs::sim::{CrashStates, Fill, SimDisk};
//! use duralog::vfs::{OpenMode, Vfs};
//! use std::path::Path;
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new(1);
//! let file = disk.open(Path::new("/journal"), OpenMode::CreateNew)?;
//! file.write_at(0, b"hello")?;
//! file.sync_data()?;
//! disk.acknowledge(1);
//!
//! // Cut the power at every moment that matters, and look at everything it may leave.
//! let mut lost = 0;
//! for moment in disk.crash_moments() {
//!     let states = CrashStates::new(&disk, moment.at, Fill::Zero);
//!     for state in states.states(0, 1000) {
//!         let acknowledged = !disk.acknowledged(moment.at).is_empty();
//!         if acknowledged && state.image().read("/journal").is_none() {
//!             lost += 1; // The program forgot to sync the directory.
//!         }
//!     }
//! }
//! assert!(lost > 0);
//! # Ok(())
//! # }
//! ```
//!
//! # The rules of a power cut
//!
//! A change *is sure to survive* if and only if a successful sync of the same file was entered after
//! the change had returned, and returned before the cut. Nothing else makes it durable: not
//! closing, not renaming, not the sync of another file. A file's sync does not save its name; that
//! takes a sync of the directory. A write through
//! [`OpenMode::Direct`](super::OpenMode::Direct) is its own sync, of its bytes and the file's size,
//! and no other write's; several may be under way. Everything else that was issued is *open*:
//!
//! * bytes: every sector shows the file as of some change between its last sure one and its last
//!   issued one. Within a sector never a later change without the earlier ones, between sectors
//!   any mix: that is reordering and tearing in one rule;
//! * size: any length between the last sure and the last issued one, whatever the bytes do.
//!   Bytes below it that never arrived read as [`Fill`] says. Only what was written before a
//!   shrinking `set_len` can be seen without it;
//! * names: each change survives or not, for one name in order; a rename is one step for both;
//! * a call that never returned: all, part or nothing of it.
//!
//! A store into a [`Window`](super::Window) is a write that has no result: it is open, reordered, torn
//! and settled like one, and where it would end the process with a signal, it panics.
//!
//! A failed sync settles nothing, and what it should have written stays open for good, even if a
//! later sync succeeds, unless it is written again. (Names are not so: a later good sync of the
//! directory settles them, since file systems that lose their journal stop.) A lying sync settles
//! nothing either.
//!
//! The page of [`Vfs::map_shared`](super::Vfs::map_shared) and the lock file obey the same rules,
//! but nothing is proved with their bytes: states vary them at random and don't count them.
//!
//! # The pieces
//!
//! [`SimDisk`] is the running machine; [`CrashStates`] works out what a cut at one moment may leave; each
//! [`CrashState`] gives an [`Image`] and says in words what was lost; [`SimDisk::from_image`] boots
//! from that. [`FaultPlan`] and [`Rot`] make calls go wrong.

mod bytes;
mod choice;
mod content;
mod crash;
mod disk;
mod faults;
mod history;
mod image;
mod judge;
mod layout;
mod machine;
mod names;
mod random;
mod shared;

pub use choice::CrashState;
pub use crash::{CrashStates, Fill};
pub(in crate::vfs) use disk::SimWindow;
pub use faults::{errno, Call, CallCounts, Fault, FaultPlan, Rot};
pub use image::Image;
pub use random::Rng;

use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use {
    history::{Span, NEVER},
    machine::Machine,
    names::normal,
};

/// A machine with one disk. Copies share it; all methods may be called from any thread.
///
/// An *operation* is a call that changes something or syncs; reads, `len` and `list` are none.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Mutex<Machine>,
    beside_sync: Mutex<BesideSync>,
}

/// What happens while a sync is under way.
#[derive(Default)]
struct BesideSync {
    once: Option<Box<dyn FnOnce() + Send>>,
    delay: Duration,
}

/// A moment at which the power may be cut.
#[derive(Clone, Debug)]
pub struct Moment {
    /// On the disk's clock: everything entered before has been issued.
    pub at: u64,
    /// The operation that is about to return, from 1; one more than there were for the end.
    pub operation: u64,
    /// In words.
    pub why: String,
}

impl SimDisk {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Machine::new(seed))
    }

    /// A machine that boots with this on its disk. Everything in the image is on the medium.
    #[must_use]
    pub fn from_image(image: &Image, seed: u64) -> Self {
        Self::with(Machine::boot(image, seed))
    }

    fn with(machine: Machine) -> Self {
        Self {
            shared: Arc::new(Shared {
                machine: Mutex::new(machine),
                beside_sync: Mutex::default(),
            }),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A panic inside leaves a machine that is consistent enough to look at.
        self.shared
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn beside_sync(&self) -> MutexGuard<'_, BesideSync> {
        self.shared
            .beside_sync
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes that the device writes whole: a power of two from 64 to 4096 (other values are
    /// rounded). 512 unless told.
    pub fn set_sector_len(&self, len: u64) {
        self.machine().sector_len = len.clamp(64, 4096).next_power_of_two();
    }

    // ---- History ----

    /// Operations so far, the one in which the machine died included.
    #[must_use]
    pub fn operation_count(&self) -> u64 {
        self.machine().operations
    }

    /// Notes that the program is about to ask for what the token stands for: from now on it may
    /// be found after a crash.
    pub fn issue(&self, token: u64) {
        let mut machine = self.machine();
        let at = machine.tick();
        machine.issued.push((at, token));
    }

    /// Notes that the program was told that what the token stands for is durable: from now on it
    /// must be found after a crash.
    pub fn acknowledge(&self, token: u64) {
        let mut machine = self.machine();
        let at = machine.tick();
        machine.acknowledged.push((at, token));
    }

    /// Tokens issued before a moment, in order.
    #[must_use]
    pub fn issued(&self, at: u64) -> Vec<u64> {
        before(&self.machine().issued, at)
    }

    /// Tokens acknowledged before a moment, in order.
    #[must_use]
    pub fn acknowledged(&self, at: u64) -> Vec<u64> {
        before(&self.machine().acknowledged, at)
    }

    /// The moment after everything so far.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.machine().clock + 1
    }

    /// The moments worth cutting at: just before each sync returns, and the end. Between two
    /// returns of syncs the possible states and the acknowledgements only grow, so these stand for
    /// all, for the checks "all acknowledged is there" and "all there was issued".
    #[must_use]
    pub fn crash_moments(&self) -> Vec<Moment> {
        self.moments(
            |label| format!("just before the sync of {label} returns"),
            false,
        )
    }

    /// The moments inside each operation, entered and not returned, and the end. More than
    /// [`SimDisk::crash_moments`] needs for a power cut, but what [`CrashStates::killed`] needs.
    #[must_use]
    pub fn every_moment(&self) -> Vec<Moment> {
        self.moments(|label| format!("inside the sync of {label}"), true)
    }

    fn moments(&self, sync: impl Fn(&str) -> String, every: bool) -> Vec<Moment> {
        let machine = self.machine();
        let mut moments = Vec::new();
        let mut add = |span: Span, why: String| {
            if span.exit != NEVER && span.operation != 0 {
                moments.push(Moment {
                    at: span.exit,
                    operation: span.operation,
                    why,
                });
            }
        };
        for inode in &machine.inodes {
            let label = format!("/{}", inode.label);
            for call in &inode.syncs {
                add(call.span, sync(&label));
            }
            for version in inode.versions.iter().filter(|_| every) {
                add(
                    version.span,
                    format!("inside the {} of {label}", version.change),
                );
            }
        }
        for change in machine.name_changes.iter().filter(|_| every) {
            add(
                change.span,
                format!("inside the {} {}", change.verb, change.slots[0].name),
            );
        }
        moments.sort_by_key(|moment| moment.at);
        moments.push(Moment {
            at: machine.clock + 1,
            operation: machine.operations + 1,
            why: "after the last call".to_owned(),
        });
        moments
    }

    // ---- Death ----

    /// The machine dies in the operation after `operations` of them (counted from the beginning):
    /// that one is issued and never returns, and every later call fails with `EIO` and does
    /// nothing.
    pub fn die_after(&self, operations: u64) {
        self.machine().die_after = operations;
    }

    /// Whether the machine died.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.machine().off
    }

    /// The process is killed and another starts on the same running machine: locks are free, the
    /// page cache stays, and so does what a later power cut may do to it.
    pub fn restart_process(&self) {
        let mut machine = self.machine();
        machine.unlock_all();
        machine.off = false;
        machine.die_after = NEVER;
    }

    /// All there is as the running system sees it: what another process finds after a kill. The
    /// boot stays the same.
    #[must_use]
    pub fn image(&self) -> Image {
        self.machine().image()
    }

    // ---- Faults ----

    /// Makes a call go wrong.
    pub fn fail(&self, plan: FaultPlan) {
        self.machine().faults.add(plan);
    }

    /// Forgets all fault plans and all rot.
    pub fn clear_faults(&self) {
        self.machine().faults.clear();
    }

    /// Calls so far, by kind, so that tests can let each of them fail in turn.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        self.machine().faults.counts
    }

    /// Counts calls from zero again.
    pub fn reset_counts(&self) {
        self.machine().faults.counts = CallCounts::default();
    }

    /// The disk holds this many bytes, in blocks of 4096. A write that finds only part of its
    /// room is short; one that finds none fails with `ENOSPC`. Overwriting needs no room; deleting
    /// and cutting give it back at once.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine().capacity = bytes;
    }

    /// The disk says that it writes elsewhere what is overwritten, as btrfs does.
    pub fn set_copy_on_write(&self, copies: bool) {
        self.machine().copy_on_write = copies;
    }

    /// Bytes in use, as [`SimDisk::set_capacity`] counts them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.machine().used()
    }

    /// Damages a range of a file for all reads from now on.
    ///
    /// # Errors
    /// The file is not there.
    pub fn rot(&self, path: impl AsRef<Path>, range: Range<u64>, rot: Rot) -> io::Result<()> {
        let mut machine = self.machine();
        let inode = machine.find(&normal(path.as_ref())?)?;
        machine.faults.rot(inode, range.start, range.end, rot);
        Ok(())
    }

    /// Runs `work` inside the next sync, between its call and its return: what it writes is not
    /// covered by that sync. This is how a second thread's write is put there without a thread.
    pub fn during_next_sync(&self, work: impl FnOnce() + Send + 'static) {
        self.beside_sync().once = Some(Box::new(work));
    }

    /// Makes every sync last so long in real time, so that threads really overlap it.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.beside_sync().delay = delay;
    }

    // ---- Time ----

    /// Lets time pass, on both clocks. Otherwise each look at a clock moves it by a microsecond.
    pub fn advance(&self, by: Duration) {
        let mut machine = self.machine();
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        machine.wall_ns = machine.wall_ns.saturating_add(ns);
        machine.monotonic_ns = machine.monotonic_ns.saturating_add(ns);
    }

    /// Sets the wall clock, back too.
    pub fn set_now_ns(&self, ns: u64) {
        self.machine().wall_ns = ns;
    }

    /// Sets what the machine says its boot is.
    pub fn set_boot_id(&self, boot_id: [u8; 16]) {
        self.machine().boot_id = boot_id;
    }

    // ---- Behind the machine's back ----

    /// The files' paths, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.image().paths()
    }

    /// A file's bytes as a reader would see them; no call is counted and no fault applies.
    #[must_use]
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let machine = self.machine();
        let inode = &machine.inodes[machine.find(&normal(path.as_ref()).ok()?).ok()?];
        (!inode.is_dir).then(|| inode.live().to_vec())
    }

    /// Overwrites bytes of a file in the cache and on the medium, past versions included; not
    /// beyond its end.
    ///
    /// # Errors
    /// The file is not there.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.machine();
        let inode = machine.find(&normal(path.as_ref())?)?;
        machine.corrupt(inode, offset, bytes);
        Ok(())
    }

    /// Replaces or makes a file; it is on the medium at once. Its directory must exist. Meant for
    /// between two runs: the file's history is gone.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.machine().put(&normal(path.as_ref())?, bytes)
    }

    /// Takes a file away; it is off the medium at once.
    ///
    /// # Errors
    /// The file is not there.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.machine().remove(&normal(path.as_ref())?)
    }
}

fn before(marks: &[(u64, u64)], at: u64) -> Vec<u64> {
    marks[..marks.partition_point(|mark| mark.0 < at)]
        .iter()
        .map(|mark| mark.1)
        .collect()
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine();
        f.debug_struct("SimDisk")
            .field("operations", &machine.operations)
            .field("off", &machine.off)
            .finish_non_exhaustive()
    }
}
