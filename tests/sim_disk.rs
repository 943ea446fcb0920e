//! The simulated disk keeps the rules of the crash model.
//!
//! Each rule has a small example in which *every* state of the disk is listed, and compared with the
//! list that the rule allows: a missing state is a crash that the tests of the log would never see,
//! a state too many is a crash that can't happen. Contents are written in letters, one for each
//! sector: `a` is a sector full of `a`, `.` one of zeros, `?` anything else.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

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

// ---- Faults ----

#[test]
fn every_kind_of_call_can_fail_at_its_nth_time() {
    type Work = fn(&SimDisk) -> io::Result<()>;
    fn open(disk: &SimDisk) -> io::Result<Arc<dyn File>> {
        // Without passing through calls that are counted.
        disk.open(&path("f"), OpenMode::ReadWrite)
    }
    let work: [(Call, Work); 14] = [
        (Call::Open, |disk| open(disk).map(drop)),
        (Call::Create, |disk| {
            disk.open(&path(&format!("new{}", disk.now())), OpenMode::Create)
                .map(drop)
        }),
        (Call::Read, |disk| {
            open(disk)?.read_at(0, &mut [0; 8]).map(drop)
        }),
        (Call::Write, |disk| open(disk)?.write_at(0, b"x").map(drop)),
        (Call::Len, |disk| open(disk)?.len().map(drop)),
        (Call::SetLen, |disk| open(disk)?.set_len(5)),
        (Call::Allocate, |disk| open(disk)?.allocate(0, 9)),
        (Call::SyncData, |disk| open(disk)?.sync_data()),
        (Call::SyncDir, |disk| disk.sync_dir(Path::new("/"))),
        (Call::Rename, |disk| disk.rename(&path("f"), &path("f"))),
        (Call::Unlink, |disk| {
            disk.write_file(path("gone"), b"")?;
            disk.unlink(&path("gone"))
        }),
        (Call::List, |disk| disk.list(Path::new("/")).map(drop)),
        (Call::Lock, |disk| disk.lock(&path("LOCK"), "me").map(drop)),
        (Call::Map, |disk| disk.map_shared(&path("tail")).map(drop)),
    ];
    for (call, work) in work {
        let disk = SimDisk::new(1);
        durable(&disk, "f", "a");
        disk.reset_counts();
        disk.fail(FaultPlan::new(call, 2, Fault::Error(errno::EMFILE)));
        disk.fail(FaultPlan::new(call, 4, Fault::ErrorAfter(errno::EACCES)).lasting());
        let codes: Vec<_> = (0..5)
            .map(|_| work(&disk).map_err(|error| error.raw_os_error()))
            .collect();
        let (emfile, eacces) = (Err(Some(errno::EMFILE)), Err(Some(errno::EACCES)));
        assert_eq!(codes, [Ok(()), emfile, Ok(()), eacces, eacces], "{call:?}");
        assert_eq!(disk.counts().of(call), 5, "{call:?}");
        disk.clear_faults();
        work(&disk).unwrap();
    }
}

#[test]
fn calls_are_counted_over_all_kinds_and_by_path() {
    let run = |disk: &SimDisk| -> io::Result<()> {
        for name in ["f", "g"] {
            let file = disk.open(&path(name), OpenMode::CreateNew)?;
            file.write_at(0, b"a")?;
            file.sync_data()?;
        }
        disk.sync_dir(Path::new("/"))
    };
    let disk = SimDisk::new(1);
    run(&disk).unwrap();
    assert_eq!(disk.counts().total(), 7);
    assert_eq!(disk.counts().of(Call::Write), 2);
    for nth in 1..=7 {
        let disk = SimDisk::new(1);
        disk.fail(FaultPlan::any(nth, Fault::Error(errno::EIO)));
        run(&disk).unwrap_err();
        assert_eq!(disk.counts().total(), nth);
    }
    let disk = SimDisk::new(1);
    disk.fail(FaultPlan::any(1, Fault::Error(errno::EIO)).on("g"));
    run(&disk).unwrap_err();
    assert_eq!(disk.counts().of(Call::Create), 2);
    assert_eq!(disk.counts().of(Call::Write), 1);
}

#[test]
fn a_failed_call_leaves_no_trace() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    let before = disk.image().hash();
    for call in [
        Call::Write,
        Call::SetLen,
        Call::Allocate,
        Call::Rename,
        Call::Unlink,
        Call::Create,
    ] {
        disk.fail(FaultPlan::new(call, 1, Fault::Error(errno::EIO)));
    }
    file.write_at(0, b"x").unwrap_err();
    file.set_len(0).unwrap_err();
    file.allocate(0, 9999).unwrap_err();
    disk.rename(&path("f"), &path("g")).unwrap_err();
    disk.unlink(&path("f")).unwrap_err();
    disk.open(&path("h"), OpenMode::Create).unwrap_err();
    assert_eq!(disk.image().hash(), before);
    assert_eq!(after_cut(&disk), set(&["/f=a"]));
}

#[test]
fn a_call_that_fails_after_its_work_leaves_it() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    disk.fail(FaultPlan::new(
        Call::Write,
        1,
        Fault::ErrorAfter(errno::EIO),
    ));
    file.write_at(0, &sectors("b")).unwrap_err();
    disk.fail(FaultPlan::new(
        Call::Rename,
        1,
        Fault::ErrorAfter(errno::EIO),
    ));
    disk.rename(&path("f"), &path("g")).unwrap_err();
    assert_eq!(show(&disk.image()), "/g=b");
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "");
    disk.fail(FaultPlan::new(Call::Write, 1, Fault::Short));
    disk.fail(FaultPlan::new(Call::Read, 1, Fault::Short));
    assert_eq!(file.write_at(0, b"12345").unwrap(), 3);
    let mut buf = [0; 3];
    assert_eq!(file.read_at(0, &mut buf).unwrap(), 2);
    let half_lost = |kind| match kind {
        0 => Fault::Short,
        _ => Fault::Error(errno::EINTR),
    };
    for kind in 0..2 {
        disk.fail(FaultPlan::new(Call::Write, 1, half_lost(kind)).times(2));
        disk.fail(FaultPlan::new(Call::Read, 1, half_lost(kind)).times(2));
        write(&file, 0, "abcd");
        let mut bytes = vec![0; 4 * SECTOR];
        assert_eq!(
            read_full_at(file.as_ref(), 0, &mut bytes).unwrap(),
            bytes.len()
        );
        assert_eq!(letters(&bytes), "abcd");
    }
    // Even one byte makes progress.
    disk.fail(FaultPlan::new(Call::Write, 1, Fault::Short).lasting());
    assert_eq!(file.write_at(0, b"1").unwrap(), 1);
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    let disk = SimDisk::new(1);
    disk.set_capacity(3 * 4096);
    let file = disk.open(&path("f"), OpenMode::CreateNew).unwrap();
    let other = disk.open(&path("g"), OpenMode::CreateNew).unwrap();
    assert_eq!(file.write_at(0, &[1; 4096]).unwrap(), 4096);
    assert_eq!(other.write_at(0, &[2; 10]).unwrap(), 10);
    assert_eq!(file.write_at(4000, &[3; 10_000]).unwrap(), 96 + 4096);
    let full = file.write_at(8192, &[3; 1]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 8192);
    file.allocate(0, 8193).unwrap_err();
    assert_eq!(disk.used(), 3 * 4096);
    // What has its space can be overwritten.
    file.write_at(0, &[4; 8192]).unwrap();
    // A size takes no room, a deletion and a cut give some.
    file.set_len(1 << 20).unwrap();
    disk.unlink(&path("g")).unwrap();
    file.write_at(1 << 19, &[5; 1]).unwrap();
    file.set_len(4096).unwrap();
    file.allocate(4096, 8192).unwrap();
    file.write_at(3 * 4096, &[5; 1]).unwrap_err();
    disk.set_capacity(4 * 4096);
    file.write_at(3 * 4096, &[5; 1]).unwrap();
    // A disk that boots with files counts them.
    let booted = SimDisk::from_image(&disk.image(), 1);
    assert_eq!(booted.used(), 4 * 4096);
    // Another name for a file gives nothing back; replacing a file does.
    booted.rename(&path("f"), &path("g")).unwrap();
    assert_eq!(booted.used(), 4 * 4096);
    booted.open(&path("h"), OpenMode::CreateNew).unwrap();
    booted.rename(&path("h"), &path("g")).unwrap();
    assert_eq!(booted.used(), 0);
}

#[test]
fn allocation_may_be_unsupported() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "a");
    disk.fail(FaultPlan::new(Call::Allocate, 1, Fault::Error(errno::ENOSYS)).lasting());
    assert_eq!(
        file.allocate(0, 9).unwrap_err().kind(),
        io::ErrorKind::Unsupported
    );
}

#[test]
fn rot_is_read_where_it_is_and_nowhere_else() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "abcd");
    let sector = SECTOR as u64;
    disk.rot("/f", 2 * sector..3 * sector, Rot::Error(errno::EIO))
        .unwrap();
    let mut bytes = vec![0; 2 * SECTOR];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    assert!(file.read_at(sector + 1, &mut bytes).is_err());
    disk.clear_faults();
    disk.rot("/f", 1..2, Rot::Flip(0x80)).unwrap();
    file.read_at(0, &mut bytes[..3]).unwrap();
    assert_eq!(&bytes[..3], [b'a', b'a' ^ 0x80, b'a']);
    disk.clear_faults();
    disk.rot("/f", sector..2 * sector, Rot::Misdirected(3 * sector))
        .unwrap();
    let mut bytes = vec![0; 4 * SECTOR];
    file.read_at(0, &mut bytes).unwrap();
    assert_eq!(letters(&bytes), "adcd");
    // The medium is as it was.
    assert_eq!(letters(&disk.read_file("/f").unwrap()), "abcd");
    disk.rot("/missing", 0..1, Rot::Flip(1)).unwrap_err();
}

#[test]
fn damage_by_a_test_is_on_the_medium_at_once() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", "aa");
    disk.corrupt("/f", 512, &[b'x'; 600]).unwrap();
    disk.write_file("/g", &sectors("g")).unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=ax /g=g"]));
    disk.write_file("/f", &sectors("y")).unwrap();
    disk.remove("/g").unwrap();
    assert_eq!(after_cut(&disk), set(&["/f=y"]));
    assert_eq!(disk.paths(), [path("f")]);
    assert_eq!(disk.read_file("/g"), None);
    disk.remove("/g").unwrap_err();
    // It is no operation of the machine, and needs no machine that runs.
    let operations = disk.operation_count();
    disk.die_after(operations);
    disk.unlink(&path("f")).unwrap_err();
    disk.write_file("/h", &sectors("h")).unwrap();
    disk.remove("/h").unwrap();
    assert_eq!(disk.operation_count(), operations + 1);
}

// ---- The machine ----

#[test]
fn files_are_opened_as_the_modes_say() {
    let disk = SimDisk::new(1);
    let kind = |path: &str, mode| {
        disk.open(Path::new(path), mode)
            .map(drop)
            .map_err(|error| error.kind())
    };
    assert_eq!(kind("/f", OpenMode::Read), Err(io::ErrorKind::NotFound));
    assert_eq!(
        kind("/f", OpenMode::ReadWrite),
        Err(io::ErrorKind::NotFound)
    );
    assert_eq!(kind("/d/f", OpenMode::Create), Err(io::ErrorKind::NotFound));
    assert_eq!(kind("/f", OpenMode::Create), Ok(()));
    assert_eq!(kind("/f", OpenMode::Create), Ok(()));
    assert_eq!(
        kind("/f", OpenMode::CreateNew),
        Err(io::ErrorKind::AlreadyExists)
    );
    assert_eq!(kind("f", OpenMode::Read), Ok(()));
    disk.create_dir(&path("d")).unwrap();
    assert!(disk.create_dir(&path("d")).is_err());
    assert!(kind("/d", OpenMode::Create).is_err());
    assert!(disk
        .open(&path("f"), OpenMode::Read)
        .unwrap()
        .write_at(0, b"x")
        .is_err());
    assert!(disk.unlink(&path("d")).is_err());
    assert!(disk.rename(&path("f"), &path("d")).is_err());
    let mut names: Vec<_> = disk
        .list(Path::new("/"))
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.is_file))
        .collect();
    names.sort();
    assert_eq!(names, [("d".to_owned(), false), ("f".to_owned(), true)]);
    // A deleted file lives on for those who have it open.
    let file = disk.open(&path("f"), OpenMode::ReadWrite).unwrap();
    disk.unlink(&path("f")).unwrap();
    file.write_at(0, b"x").unwrap();
    assert_eq!(file.len().unwrap(), 1);
}

#[test]
fn the_lock_is_exclusive_and_names_its_holder() {
    let disk = SimDisk::new(1);
    assert_eq!(disk.lock_holder(&path("LOCK")).unwrap(), None);
    let LockOutcome::Acquired(guard) = disk.lock(&path("LOCK"), "process 1").unwrap() else {
        panic!("the lock was free");
    };
    let LockOutcome::Held(holder) = disk.lock(&path("LOCK"), "process 2").unwrap() else {
        panic!("the lock was taken");
    };
    assert_eq!(holder, "process 1");
    assert_eq!(
        disk.lock_holder(&path("LOCK")).unwrap().as_deref(),
        Some("process 1")
    );
    assert_eq!(disk.read_file("/LOCK").unwrap(), b"process 1");
    // A crash leaves none.
    let booted = SimDisk::from_image(&disk.image(), 1);
    assert_eq!(booted.lock_holder(&path("LOCK")).unwrap(), None);
    drop(guard);
    assert_eq!(disk.lock_holder(&path("LOCK")).unwrap(), None);
    assert!(matches!(
        disk.lock(&path("LOCK"), "process 2").unwrap(),
        LockOutcome::Acquired(_)
    ));
    assert_eq!(disk.read_file("/LOCK").unwrap(), b"process 2");
}

#[test]
fn the_shared_page_is_live_for_readers_and_may_be_old_after_a_cut() {
    let disk = SimDisk::new(1);
    let page = disk.map_shared(&path("tail")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let again = disk.map_shared(&path("tail")).unwrap();
    let file = disk.open(&path("tail"), OpenMode::Read).unwrap();
    assert_eq!(file.len().unwrap(), 4096);
    let read = || {
        let mut bytes = [0; 8];
        file.read_at(8, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    let other = durable(&disk, "f", "a");
    for value in 1..=20 {
        page.store(1, value);
        assert_eq!((again.load(1), read()), (value, value));
        write(&other, 0, "b");
        other.sync_data().unwrap();
    }
    // It adds nothing to what must be tried, and any older value may be found.
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(states.state_count(), 1);
    let found: BTreeSet<u64> = states
        .sampled(1, 300)
        .chain(states.ordered())
        .map(|state| {
            let bytes = state.image().read("/tail").unwrap_or_default();
            let word = bytes
                .get(8..16)
                .map_or([0; 8], |word| word.try_into().unwrap());
            u64::from_le_bytes(word)
        })
        .collect();
    assert!(found.contains(&0) && found.contains(&20), "{found:?}");
    // After a kill it is what it was.
    let killed = CrashStates::killed(&disk, disk.now());
    let image = killed.exhaustive().next().unwrap().image();
    assert_eq!(image.read("/tail").unwrap()[8], 20);
    // A synced page is sure like any file.
    disk.open(&path("tail"), OpenMode::ReadWrite)
        .unwrap()
        .sync_data()
        .unwrap();
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(
        states
            .ordered()
            .next()
            .unwrap()
            .image()
            .read("/tail")
            .unwrap()[8],
        20
    );
}

#[test]
fn clocks_and_random_numbers_follow_from_the_seed() {
    let look = |seed| {
        let disk = SimDisk::new(seed);
        let mut random = [0; 24];
        disk.random(&mut random).unwrap();
        disk.advance(Duration::from_millis(3));
        (
            random,
            disk.boot_id().unwrap(),
            disk.now_ns(),
            disk.now_ns(),
            disk.monotonic_ns(),
        )
    };
    assert_eq!(look(1), look(1));
    assert_ne!(look(1).0, look(2).0);
    assert_ne!(look(1).1, look(2).1);
    assert!(look(1).2 < look(1).3);
    let disk = SimDisk::new(1);
    disk.set_now_ns(5);
    assert!(disk.now_ns() < 10_000);
    assert!(disk.monotonic_ns() > 10_000);
    assert!(!disk.background());
}

#[test]
fn threads_share_the_disk() {
    let disk = SimDisk::new(1);
    disk.set_sync_delay(Duration::from_millis(1));
    let file = durable(&disk, "f", "");
    let synced = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (file, synced, disk) = (file.clone(), synced.clone(), disk.clone());
            scope.spawn(move || {
                for round in 0..10u8 {
                    let at = usize::from(round) * 4 + usize::from(thread);
                    write(&file, at, "x");
                    file.sync_data().unwrap();
                    disk.acknowledge(at as u64);
                    synced.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(synced.load(Ordering::Relaxed), 40);
    for moment in disk.crash_moments() {
        let states = CrashStates::new(&disk, moment.at, Fill::Zero);
        for state in states.states(1, 20) {
            let found = letters(&state.image().read("/f").unwrap_or_default());
            for at in disk.acknowledged(moment.at) {
                let at = usize::try_from(at).unwrap();
                assert_eq!(found.get(at..=at), Some("x"), "{}", state.describe());
            }
        }
    }
}

// ---- Which states are tried ----

/// A file with this many sectors, all overwritten by one write and then some by a second.
fn long_writes(count: usize) -> SimDisk {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", &"a".repeat(count));
    write(&file, 0, &"b".repeat(count));
    write(&file, count / 2, &"c".repeat(count));
    disk.rename(&path("f"), &path("g")).unwrap();
    disk
}

#[test]
fn the_telling_states_are_among_the_ordered_ones() {
    let disk = long_writes(6);
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let found: Vec<_> = states.ordered().map(|state| show(&state.image())).collect();
    assert_eq!(found[0], "/f=aaaaaa");
    assert_eq!(found[1], "/g=bbbcccccc");
    for wanted in [
        "/f=bbbbbb",    // A prefix of the changes.
        "/f=bbbcccccc", // A longer one; also: the rename alone missing.
        "/g=aaaaaaccc", // The first write alone missing, with what it is under in its sectors.
        "/g=bbbbbb",    // The second write alone missing.
        "/f=aaacccccc", // The second write alone present.
        "/g=aaaaaa",    // The rename alone present; also: names without bytes.
        "/f=abbbbb",    // The first write, being the last change, without its first sector, ...
        "/f=bbbbba",    // ... its last one, ...
        "/f=aaabbb",    // ... its lower half, ...
        "/f=bbbaaa",    // ... its upper half, ...
        "/f=ababab",    // ... every other sector, ...
        "/f=baaaab",    // ... all but its ends.
        "/g=abbcccccc", // The same with all other changes there.
        "/g=baaaacccc",
        "/f=aaaaaa...", // The size without the bytes.
        "/g=bbbccc",    // The bytes without the size.
    ] {
        assert!(
            found.iter().any(|state| state == wanted),
            "{wanted} is not in {found:#?}"
        );
    }
}

#[test]
fn every_prefix_of_the_open_changes_is_a_state() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aaaaaa");
    for at in 0..6 {
        write(&file, at, "b");
    }
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let found: Vec<_> = states.ordered().map(|state| show(&state.image())).collect();
    for at in 0..=6 {
        let prefix = format!("/f={}{}", "b".repeat(at), "a".repeat(6 - at));
        assert!(found.contains(&prefix), "{prefix} is not in {found:#?}");
    }
}

#[test]
fn few_states_are_tried_whole_and_many_within_the_budget() {
    let disk = long_writes(4);
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    // Sectors: two with 2 versions, two with 3, two with 2 (new ones); 2 sizes; 1 rename.
    assert_eq!(states.state_count(), 4 * 9 * 4 * 2 * 2);
    assert_eq!(states.open_choice_count(), 2 + 4 + 2 + 1 + 1);
    assert_eq!(states.states(1, 10_000).count(), 576);
    assert_eq!(states.exhaustive().count(), 576);
    for budget in [2, 10, 100, 500] {
        let found: Vec<_> = states
            .states(1, budget)
            .map(|state| show(&state.image()))
            .collect();
        assert_eq!(found.len() as u64, budget);
        assert_eq!(found[..2], ["/f=aaaa", "/g=bbcccc"]);
    }
    let whole: BTreeSet<_> = states
        .exhaustive()
        .map(|state| state.image().hash())
        .collect();
    let some: BTreeSet<_> = states
        .sampled(3, 100_000)
        .chain(states.ordered())
        .map(|state| state.image().hash())
        .collect();
    // Whatever is drawn is possible, and in the end all that is possible is drawn.
    assert!(some == whole, "{} and {}", some.len(), whole.len());
}

#[test]
fn long_runs_are_sampled_from_almost_nothing_to_almost_everything() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", &"a".repeat(256));
    write(&file, 0, &"b".repeat(256));
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    assert_eq!(states.state_count(), u64::MAX);
    let mut kept = BTreeMap::new();
    let mut runs = 0;
    for state in states.sampled(5, 400) {
        let found = letters(&state.image().read("/f").unwrap());
        *kept.entry(found.matches('b').count() / 64).or_insert(0) += 1;
        runs +=
            usize::from(!found.contains("aba") && !found.contains("bab") && found.contains("ab"));
    }
    assert!(
        (0..4).all(|quarter| kept.get(&quarter).is_some_and(|count| *count > 20)),
        "{kept:?}"
    );
    assert!(runs > 40, "{runs}");
}

#[test]
fn the_same_seed_gives_the_same_images() {
    let run = |seed: u64| {
        let disk = SimDisk::new(seed);
        let file = durable(&disk, "f", "aaaa");
        let mut rng = Rng::new(seed);
        for _ in 0..20 {
            let mut bytes = [0; 700];
            rng.fill(&mut bytes);
            file.write_at(rng.below(5000), &bytes).unwrap();
        }
        let states = CrashStates::new(&disk, disk.now(), Fill::Random);
        let found: Vec<_> = states
            .states(seed, 200)
            .map(|state| (state.image().hash(), state.describe()))
            .collect();
        found
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_clock_of_a_disk_that_goes_on_does_not_change_old_states() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "f", "aa");
    write(&file, 0, "b");
    let at = disk.now();
    let early = all(&CrashStates::new(&disk, at, Fill::Zero));
    write(&file, 1, "c");
    file.sync_data().unwrap();
    disk.unlink(&path("f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(all(&CrashStates::new(&disk, at, Fill::Zero)), early);
    assert_eq!(early, set(&["/f=aa", "/f=ba"]));
}

#[test]
fn a_state_says_what_was_lost() {
    let disk = long_writes(4);
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let nothing = states.ordered().next().unwrap();
    assert_eq!(
        nothing.describe(),
        "operation 7: renaming /f to /g lost\n\
         operation 5: write of [0, 2048) of /f: 4 of 4 sectors lost (0..=3)\n\
         operation 6: write of [1024, 3072) of /f: 4 of 4 sectors lost (2..=5)\n\
         /f has 2048 bytes instead of 3072\n"
    );
    assert_eq!(
        states.ordered().nth(1).unwrap().describe(),
        "nothing lost\n"
    );
}

#[test]
fn a_failing_state_shrinks_to_its_cause() {
    let disk = long_writes(64);
    let states = CrashStates::new(&disk, disk.now(), Fill::Zero);
    let fails = |image: &Image| {
        let bytes = image.read("/f").or(image.read("/g")).unwrap();
        bytes[17 * SECTOR] == b'a'
    };
    let bad = states
        .sampled(1, 1000)
        .find(|state| fails(&state.image()))
        .unwrap();
    let cause = bad.shrink(fails);
    assert_eq!(
        cause.describe(),
        "operation 5: write of [0, 32768) of /f: 1 of 64 sectors lost (17)\n"
    );
}

#[test]
fn equal_images_have_equal_hashes_and_others_do_not() {
    let mut rng = Rng::new(3);
    let mut seen = HashSet::new();
    let mut image = Image::new();
    image.write("/f", &sectors("abcdef")).unwrap();
    assert!(seen.insert(image.hash()));
    for _ in 0..2000 {
        let (at, bits) = (rng.below(6 * SECTOR as u64), 1 << rng.below(8));
        image.flip("/f", at, bits).unwrap();
        let changed = image.hash();
        let copy = {
            let mut copy = Image::new();
            copy.write("/f", &image.read("/f").unwrap()).unwrap();
            copy
        };
        assert_eq!(copy.hash(), changed);
        assert_eq!(copy.difference(&image), None);
        image.flip("/f", at, bits).unwrap();
        seen.insert(changed);
        assert!(copy
            .difference(&image)
            .unwrap()
            .ends_with(&format!("offset {at}")));
    }
    assert!(seen.len() > 1800);
    let before = image.hash();
    image.set_len("/f", 6 * SECTOR as u64 + 1).unwrap();
    assert_ne!(image.hash(), before);
    image.set_len("/f", 6 * SECTOR as u64).unwrap();
    assert_eq!(image.hash(), before);
    image.rename("/f", "/g").unwrap();
    assert_ne!(image.hash(), before);
    image.create_dir("/d").unwrap();
    image.rename("/g", "/f").unwrap();
    assert_ne!(image.hash(), before);
}

#[test]
fn images_go_to_real_directories_and_back() {
    let disk = SimDisk::new(1);
    disk.create_dir(&path("log")).unwrap();
    disk.create_dir(&path("log/ready")).unwrap();
    durable(&disk, "log/f", "abc");
    let image = disk.image();
    let dir = std::env::temp_dir().join(format!("duralog-sim-disk-{}", std::process::id()));
    image.export(&dir).unwrap();
    let back = Image::import(&dir).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(back.difference(&image), None);
    assert_eq!(back.hash(), image.hash());
    let booted = SimDisk::from_image(&back, 1);
    assert_eq!(booted.list(&path("log")).unwrap().len(), 2);
    assert_eq!(letters(&booted.read_file("/log/f").unwrap()), "abc");
}
