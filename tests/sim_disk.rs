//! The simulated disk keeps the rules of the crash model.
//!
//! Each rule has a small example in which *every* state of the disk is listed, and compared with the
//! list that the rule allows: a missing state is a crash that the tests of the log would never see,
//! a state too many is a crash that can't happen. Contents are written in letters, one for each
//! sector: `a` is a sector full of `a`, `.` one of zeros, `?` anything else.
//!
//! Here is what a crash leaves of bytes, sizes and names. Files beside have the calls that fail
//! (`sim_disk/faults.rs`), what a machine has but disks (`machine.rs`), and which of many states are tried
//! (`states.rs`).

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "sim_disk/faults.rs"]
mod faults;
#[path = "sim_disk/machine.rs"]
mod machine;
#[path = "sim_disk/states.rs"]
mod states;

use duralog::vfs::sim::{
    errno, Call, CrashStates, Fault, FaultPlan, Fill, Image, Rng, Rot, SimDisk,
};
use duralog::vfs::{read_full_at, write_all_at, File, LockOutcome, OpenMode, Vfs};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

const SECTOR: usize = 512;

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

fn sectors(letters: &str) -> Vec<u8> {
    letters
        .bytes()
        .flat_map(|letter| [if letter == b'.' { 0 } else { letter }; SECTOR])
        .collect()
}

fn letters(bytes: &[u8]) -> String {
    bytes
        .chunks(SECTOR)
        .map(|sector| match sector[0] {
            first if sector.iter().any(|byte| *byte != first) => '?',
            0 => '.',
            first => char::from(first),
        })
        .collect()
}

fn write(file: &Arc<dyn File>, sector: usize, data: &str) {
    let offset = (sector * SECTOR) as u64;
    write_all_at(file.as_ref(), offset, &sectors(data)).unwrap();
}

/// A file whose name and content are on the medium.
fn durable(disk: &SimDisk, name: &str, content: &str) -> Arc<dyn File> {
    let file = disk.open(&path(name), OpenMode::CreateNew).unwrap();
    write(&file, 0, content);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file
}

fn show(image: &Image) -> String {
    let files = image.paths().into_iter().map(|path| {
        let bytes = image.read(&path).unwrap();
        format!("{}={}", path.display(), letters(&bytes))
    });
    files.collect::<Vec<_>>().join(" ")
}

fn all(states: &CrashStates) -> BTreeSet<String> {
    assert!(states.state_count() < 5000, "too many states to list");
    states
        .exhaustive()
        .map(|state| show(&state.image()))
        .collect()
}

/// All that a power cut now may leave.
fn after_cut(disk: &SimDisk) -> BTreeSet<String> {
    all(&CrashStates::new(disk, disk.now(), Fill::Zero))
}

fn set(states: &[&str]) -> BTreeSet<String> {
    states.iter().map(|state| (*state).to_owned()).collect()
}

// ---- Bytes ----

#[test]
fn a_synced_write_is_always_there() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", "ab");
    assert_eq!(after_cut(&disk), set(&["/f=ab"]));
}

#[test]
fn an_unsynced_write_may_be_lost() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=b"]));
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=b"]));
}

#[test]
fn a_write_is_torn_between_sectors() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "bb");
    assert_eq!(after_cut(&disk), set(&["/f=aa", "/f=ab", "/f=ba", "/f=bb"]));
}

#[test]
fn a_write_that_changes_nothing_asks_no_question() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aaa");
    write(&file, 0, "aba");
    let cut = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(cut.open_choice_count(), 1);
    assert_eq!(all(&cut), set(&["/f=aaa", "/f=aba"]));
    // And there and back is two.
    write(&file, 1, "a");
    let cut = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(cut.open_choice_count(), 2);
    for state in cut.exhaustive() {
        let lost = state.describe();
        assert!(!lost.contains("3 of 3 sectors"), "{lost}");
    }
}

#[test]
fn a_sector_is_whole() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    file.write_at(0, &[b'b'; 100]).unwrap();
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let found: BTreeSet<_> = states
        .exhaustive()
        .map(|state| state.image().read("/f").unwrap()[..100].to_vec())
        .collect();
    assert_eq!(found, BTreeSet::from([vec![b'a'; 100], vec![b'b'; 100]]));
}

#[test]
fn sectors_have_the_length_that_was_set() {
    let disk = SimDisk::new(1);
    disk.set_sector_len(64);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    let small = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(small.state_count(), 1 << 8);
    disk.set_sector_len(4096);
    write(&file, 0, "cccccccc");
    let large = CrashStates::new(&disk, disk.now(), Fill::Zero);
    // One sector with three versions, two sizes.
    assert_eq!(large.state_count(), 3 * 2);
}

#[test]
fn writes_are_reordered_between_sectors() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "b");
    write(&file, 1, "c");
    // `ac`: the later write survived, the earlier one did not.
    assert_eq!(after_cut(&disk), set(&["/f=aa", "/f=ba", "/f=ac", "/f=bc"]));
}

#[test]
fn writes_are_not_reordered_within_a_sector() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    file.write_at(0, &[b'b'; 256]).unwrap();
    file.write_at(256, &[b'b'; 256]).unwrap();
    // `?` is the first write alone; the second alone would be `?` too, but its first byte gives it away.
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=?", "/f=b"]));
    for state in CrashStates::new(&disk, disk.now(), Fill::Zero).exhaustive() {
        let bytes = state.image().read("/f").unwrap();
        assert!(bytes[256] == b'a' || bytes[0] == b'b');
    }
}

#[test]
fn the_sync_of_another_file_settles_nothing() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    let other = durable(&disk, "g", "x");
    write(&file, 0, "b");
    other.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    drop(file);
    assert_eq!(after_cut(&disk), set(&["/f=a /g=x", "/f=b /g=x"]));
}

#[test]
fn a_write_that_enters_during_a_sync_is_not_covered_by_it() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "b");
    let late = file.clone();
    disk.during_next_sync(move || write(&late, 1, "c"));
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=ba", "/f=bc"]));
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=bc"]));
}

#[test]
fn a_sync_settles_nothing_before_it_returns() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    file.sync_data().unwrap();
    let moments = disk.crash_moments();
    let inside = &moments[moments.len() - 2];
    assert_eq!(inside.why, "just before the sync of /f returns");
    let states = CrashStates::new(&disk, inside.at, Fill::Zero);
    assert_eq!(all(&states), set(&["/f=a", "/f=b"]));
}

// ---- Sizes ----

#[test]
fn the_size_is_apart_from_the_bytes() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 1, "b");
    // `a.` has the size without the bytes; without the size the bytes don't show.
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=a.", "/f=ab"]));
}

#[test]
fn bytes_that_never_arrived_read_as_the_fill_says() {
    let disk = SimDisk::new(1);
    durable(&disk, "old", "xyz");
    let file = durable(&disk, "new", "a");
    disk.unlink(&path("old")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    write(&file, 1, "bc");
    let states = CrashStates::new(&disk, disk.now(), Fill::Stale);
    let found = all(&states);
    // The blocks of a deleted file come back, at the same offsets.
    assert_eq!(
        found,
        set(&["/new=a", "/new=ayz", "/new=abz", "/new=ayc", "/new=abc"])
    );
    let states = CrashStates::new(&disk, disk.now(), Fill::Random);
    let found = all(&states);
    assert_eq!(
        found,
        set(&["/new=a", "/new=a??", "/new=ab?", "/new=a?c", "/new=abc"])
    );
    file.sync_data().unwrap();
    assert_eq!(
        all(&CrashStates::new(&disk, disk.now(), Fill::Stale)),
        set(&["/new=abc"])
    );
}

#[test]
fn a_recycled_file_shows_what_it_held_before() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "old", "xyz");
    disk.rename(&path("old"), &path("new")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    write(&file, 0, "ab");
    assert_eq!(
        after_cut(&disk),
        set(&["/new=xyz", "/new=ayz", "/new=xbz", "/new=abz"])
    );
}

#[test]
fn space_that_was_allocated_is_zero_once_synced() {
    let disk = SimDisk::new(1);
    durable(&disk, "old", "xyz");
    let file = durable(&disk, "f", "a");
    file.allocate(0, 3 * SECTOR as u64).unwrap();
    file.sync_data().unwrap();
    write(&file, 1, "b");
    assert_eq!(
        all(&CrashStates::new(&disk, disk.now(), Fill::Stale)),
        set(&["/f=a.. /old=xyz", "/f=ab. /old=xyz"])
    );
}

#[test]
fn bytes_written_after_a_cut_are_not_seen_without_it() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aaa");
    file.set_len(0).unwrap();
    write(&file, 0, "bb");
    let found = after_cut(&disk);
    assert_eq!(
        found,
        set(&["/f=aaa", "/f=", "/f=..", "/f=b.", "/f=.b", "/f=bb"])
    );
    assert!(!found.contains("/f=baa"));
}

#[test]
fn a_file_that_was_cut_and_has_its_old_size_again_is_not_the_old_one() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    file.set_len(0).unwrap();
    write(&file, 0, "bb");
    assert_eq!(
        after_cut(&disk),
        set(&["/f=aa", "/f=", "/f=..", "/f=b.", "/f=.b", "/f=bb"])
    );
}

// ---- Names ----

#[test]
fn the_sync_of_a_file_does_not_save_its_name() {
    let disk = SimDisk::new(1);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    write(&file, 0, "a");
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["", "/f=a"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a"]));
}

#[test]
fn the_sync_of_a_directory_does_not_save_its_files() {
    let disk = SimDisk::new(1);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    write(&file, 0, "a");
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=", "/f=.", "/f=a"]));
}

#[test]
fn a_rename_is_one_step() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", "a");
    durable(&disk, "g", "b");
    disk.rename(&path("f"), &path("g")).unwrap();
    // Never both names gone, never both there with the same file.
    assert_eq!(after_cut(&disk), set(&["/f=a /g=b", "/g=a"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/g=a"]));
}

#[test]
fn a_deletion_may_be_undone_until_the_directory_is_synced() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    disk.unlink(&path("f")).unwrap();
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["", "/f=a"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&[""]));
}

#[test]
fn a_change_of_names_during_the_sync_of_a_directory_is_not_covered_by_it() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", "a");
    let other = disk.clone();
    disk.during_next_sync(move || other.rename(&path("f"), &path("g")).unwrap());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a", "/g=a"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/g=a"]));
    // Nor is anything before it returns.
    let moments = disk.crash_moments();
    let inside = moments[moments.len() - 2].at;
    assert_eq!(
        all(&CrashStates::new(&disk, inside, Fill::Zero)),
        set(&["/f=a", "/g=a"])
    );
}

#[test]
fn changes_of_one_name_keep_their_order_and_others_do_not() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", "a");
    disk.unlink(&path("f")).unwrap();
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    file.sync_data().unwrap();
    disk.open(&path("g"), OpenMode::CreateNew).unwrap();
    // `g` survives without the changes of `f` before it; the new `f` not without the deletion.
    assert_eq!(
        after_cut(&disk),
        set(&["/f=a", "/f=a /g=", "", "/g=", "/f=", "/f= /g="])
    );
    // A name that is sure takes the earlier changes of that name along.
    let disk = SimDisk::new(1);
    disk.create_dir(&path("d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    disk.rename(&path("f"), &path("d/f")).unwrap();
    assert_eq!(after_cut(&disk), set(&["", "/f=", "/d/f="]));
    disk.sync_dir(&path("d")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/d/f="]));
    let disk = SimDisk::new(1);
    disk.create_dir(&path("d")).unwrap();
    durable(&disk, "f", "a");
    disk.rename(&path("f"), &path("g")).unwrap();
    disk.rename(&path("g"), &path("d/g")).unwrap();
    disk.sync_dir(&path("d")).unwrap();
    // Without the first renaming the file would have two names.
    assert_eq!(after_cut(&disk), set(&["/d/g=a"]));
    let disk = SimDisk::new(1);
    durable(&disk, "f", "a");
    disk.rename(&path("f"), &path("g")).unwrap();
    disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    // Without the renaming the new `f` would have replaced the old one.
    assert_eq!(after_cut(&disk), set(&["/f=a", "/g=a", "/f= /g=a"]));
}

#[test]
fn a_directory_takes_along_what_is_in_it() {
    let disk = SimDisk::new(1);
    disk.create_dir(&path("d")).unwrap();
    let file = disk.open(&path("d/f"), OpenMode::CreateNew).unwrap();
    write(&file, 0, "a");
    file.sync_data().unwrap();
    disk.sync_dir(&path("d")).unwrap();
    assert_eq!(after_cut(&disk), set(&["", "/d/f=a"]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/d/f=a"]));
}

// ---- Syncs that fail or lie ----

#[test]
fn a_failed_sync_leaves_doubt_for_good() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "bb");
    disk.fail(FaultPlan::new(Call::SyncData, 1, Fault::Error(errno::EIO)));
    let error = file.sync_data().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno::EIO));
    let doubt = set(&["/f=aa", "/f=ab", "/f=ba", "/f=bb"]);
    assert_eq!(after_cut(&disk), doubt);
    // The pages count as clean: a sync that succeeds does not write them.
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), doubt);
    // What is written again, is.
    write(&file, 1, "b");
    assert_eq!(after_cut(&disk), doubt);
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=ab", "/f=bb"]));
    // And what is written after it is as sure as ever.
    write(&file, 2, "c");
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=abc", "/f=bbc"]));
}

#[test]
fn a_size_whose_sync_failed_stays_in_doubt_until_it_changes() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    file.set_len(2 * SECTOR as u64).unwrap();
    disk.fail(FaultPlan::new(Call::SyncData, 1, Fault::Error(errno::EIO)));
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=a."]));
    file.set_len(3 * SECTOR as u64).unwrap();
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a.."]));
    // Or until the bytes at the end are written again.
    write(&file, 3, "b");
    disk.fail(FaultPlan::new(Call::SyncData, 1, Fault::Error(errno::EIO)));
    file.sync_data().unwrap_err();
    write(&file, 3, "b");
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a..b"]));
}

#[test]
fn a_lying_sync_persists_nothing() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    disk.fail(FaultPlan::new(Call::SyncData, 1, Fault::Lie));
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=b"]));
    // But the pages are still dirty: an honest one does its work.
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=b"]));
    disk.unlink(&path("f")).unwrap();
    disk.fail(FaultPlan::new(Call::SyncDir, 1, Fault::Lie));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=b", ""]));
}

#[test]
fn a_sync_may_work_and_report_an_error() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    disk.fail(FaultPlan::new(
        Call::SyncData,
        1,
        Fault::ErrorAfter(errno::EIO),
    ));
    file.sync_data().unwrap_err();
    assert_eq!(after_cut(&disk), set(&["/f=b"]));
}

// ---- Death ----

#[test]
fn the_call_in_which_the_machine_dies_may_leave_any_part() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    let before = disk.operation_count();
    disk.die_after(before);
    assert!(file.write_at(0, &sectors("bb")).is_err());
    assert!(disk.is_off());
    assert_eq!(disk.operation_count(), before + 1);
    assert_eq!(after_cut(&disk), set(&["/f=aa", "/f=ab", "/f=ba", "/f=bb"]));
    // From then on nothing has an effect.
    assert!(file.sync_data().is_err());
    assert!(file.read_at(0, &mut [0; 1]).is_err());
    assert!(disk.unlink(&path("f")).is_err());
    assert!(disk.list(Path::new("/")).is_err());
    assert_eq!(after_cut(&disk), set(&["/f=aa", "/f=ab", "/f=ba", "/f=bb"]));
    assert_eq!(disk.operation_count(), before + 1);
}

#[test]
fn a_sync_in_which_the_machine_dies_settles_nothing() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    write(&file, 0, "b");
    disk.die_after(disk.operation_count());
    assert!(file.sync_data().is_err());
    assert_eq!(after_cut(&disk), set(&["/f=a", "/f=b"]));
}

#[test]
fn dying_in_each_operation_in_turn_ends_with_the_whole_run() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        let file = disk.open(&path("f"), OpenMode::CreateNew)?;
        file.write_at(0, b"a")?;
        file.sync_data()?;
        disk.sync_dir(Path::new("/"))?;
        disk.rename(&path("f"), &path("g"))
    };
    for operations in 0..5 {
        let disk = SimDisk::new(1);
        disk.die_after(operations);
        run(&disk).unwrap_err();
        assert_eq!(disk.operation_count(), operations + 1);
    }
    let disk = SimDisk::new(1);
    disk.die_after(5);
    run(&disk).unwrap();
}

#[test]
fn a_killed_process_leaves_everything_that_returned() {
    let disk = SimDisk::new(1);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    write(&file, 0, "a");
    write(&file, 0, "bb");
    let moments = disk.every_moment();
    let killed = |at| CrashStates::killed(&disk, at);
    assert_eq!(all(&killed(disk.now())), set(&["/f=bb"]));
    assert_eq!(
        all(&killed(moments[2].at)),
        set(&["/f=a", "/f=a.", "/f=b", "/f=ab", "/f=b.", "/f=bb"])
    );
    // The machine goes on, so the boot does; a power cut gives another.
    let state = killed(disk.now()).exhaustive().next().unwrap().image();
    assert_eq!(state.boot_id(), disk.boot_id().unwrap());
    let cut = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let cut = cut.exhaustive().next().unwrap().image();
    assert_ne!(cut.boot_id(), disk.boot_id().unwrap());
    let booted = SimDisk::from_image(&cut, 9);
    assert_eq!(booted.boot_id().unwrap(), cut.boot_id());
    let other = CrashStates::new(&SimDisk::new(2), disk.now(), Fill::Zero);
    let other = other.exhaustive().next().unwrap().image();
    assert_ne!(other.boot_id(), cut.boot_id());
}

#[test]
fn a_new_process_on_the_same_machine_inherits_what_is_unsynced() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    let LockOutcome::Acquired(old) = disk.lock(&path("LOCK"), "first").unwrap() else {
        panic!("the lock was free");
    };
    disk.die_after(disk.operation_count());
    assert!(file.write_at(0, &sectors("b")).is_err());
    disk.restart_process();
    let LockOutcome::Acquired(new) = disk.lock(&path("LOCK"), "second").unwrap() else {
        panic!("the dead hold no locks");
    };
    // The guard of the dead process must not release the lock of the living.
    drop(old);
    assert!(matches!(
        disk.lock(&path("LOCK"), "third").unwrap(),
        LockOutcome::Held(_)
    ));
    drop(new);
    let file = disk.open(&path("f"), OpenMode::Read).unwrap();
    let mut byte = [0];
    file.read_at(0, &mut byte).unwrap();
    assert_eq!(&byte, b"b");
    let cut = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let found: BTreeSet<_> = cut
        .exhaustive()
        .map(|state| letters(&state.image().read("/f").unwrap()))
        .collect();
    assert_eq!(found, set(&["a", "b"]));
}

#[test]
fn recovery_can_be_cut_again() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "b");
    let cut = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let mut found = BTreeSet::new();
    for state in cut.exhaustive() {
        let again = SimDisk::from_image(&state.image(), 2);
        let file = again.open(&path("f"), OpenMode::ReadWrite).unwrap();
        write(&file, 1, "c");
        found.extend(after_cut(&again));
    }
    // What the first cut left is sure in the second.
    assert_eq!(found, set(&["/f=aa", "/f=ba", "/f=ac", "/f=bc"]));
}

#[test]
fn marks_are_seen_from_the_moments_after_them() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    disk.issue(7);
    write(&file, 0, "b");
    file.sync_data().unwrap();
    disk.acknowledge(7);
    disk.issue(8);
    let moments = disk.crash_moments();
    let inside = moments[moments.len() - 2].at;
    assert_eq!(
        (disk.issued(inside), disk.acknowledged(inside)),
        (vec![7], vec![])
    );
    assert_eq!(
        (disk.issued(disk.now()), disk.acknowledged(disk.now())),
        (vec![7, 8], vec![7])
    );
    // Three syncs and the end.
    assert_eq!(moments.len(), 4);
    assert_eq!(disk.every_moment().len() as u64, disk.operation_count() + 1);
    let now = disk.now();
    disk.acknowledge(9);
    assert_eq!(disk.acknowledged(now), [7]);
}
