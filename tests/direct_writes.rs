//! The simulated disk keeps the rules of writes that go around the page cache and are durable when
//! they return (`OpenMode::Direct`), and the real disk takes them where the file system can.
//!
//! As in `tests/sim_disk.rs` each rule has a small example in which *every* state of the disk is
//! listed and compared with the list that the rule allows. Contents are written in letters, one for
//! each block of 4096 bytes, which is also the sector here unless an example says otherwise: `a` is a
//! block full of `a`, `.` one of zeros, `?` anything else.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{errno, Call, CrashStates, Fault, FaultPlan, Fill, SimDisk};
use duralog::vfs::{write_all_at, File, OpenMode, Vfs, DIRECT_ALIGNMENT};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

const BLOCK: usize = DIRECT_ALIGNMENT;

fn blocks(letters: &str) -> Vec<u8> {
    let letters = letters.bytes();
    let bytes = letters.flat_map(|letter| [if letter == b'.' { 0 } else { letter }; BLOCK]);
    bytes.collect()
}

fn letters(bytes: &[u8]) -> String {
    let block = |block: &[u8]| match block[0] {
        first if block.iter().any(|byte| *byte != first) => '?',
        0 => '.',
        first => char::from(first),
    };
    bytes.chunks(BLOCK).map(block).collect()
}

fn set(states: &[&str]) -> BTreeSet<String> {
    states.iter().map(|state| (*state).to_owned()).collect()
}

/// A disk with one file, whose name and content are on the medium; the file as usual and for direct
/// writes.
fn disk(content: &str) -> (SimDisk, Arc<dyn File>, Arc<dyn File>) {
    let disk = SimDisk::new(1);
    disk.set_sector_len(BLOCK as u64);
    let path = Path::new("/f");
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    write_all_at(file.as_ref(), 0, &blocks(content)).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let direct = disk.open(path, OpenMode::Direct).unwrap();
    (disk, file, direct)
}

fn write(file: &Arc<dyn File>, block: usize, content: &str) {
    write_all_at(file.as_ref(), (block * BLOCK) as u64, &blocks(content)).unwrap();
}

fn shown(states: &CrashStates) -> BTreeSet<String> {
    assert!(states.state_count() < 5000, "too many states to list");
    let show = |content: &[u8]| letters(content);
    let states = states.exhaustive();
    states
        .map(|state| show(&state.image().read("/f").unwrap()))
        .collect()
}

fn after_cut(disk: &SimDisk) -> BTreeSet<String> {
    shown(&CrashStates::new(disk, disk.now(), Fill::Zero))
}

fn after_kill(disk: &SimDisk) -> BTreeSet<String> {
    shown(&CrashStates::killed(disk, disk.now()))
}

#[test]
fn it_is_durable_when_it_returns() {
    let (disk, _, direct) = disk("ab");
    write(&direct, 1, "c");
    assert_eq!(after_cut(&disk), set(&["ac"]));
    // Just before, it may have come or not.
    let moments = disk.crash_moments();
    let before = &moments[moments.len() - 2];
    assert!(before.why.contains("/f"), "{}", before.why);
    let states = CrashStates::new(&disk, before.at, Fill::Zero);
    assert_eq!(shown(&states), set(&["ab", "ac"]));
}

#[test]
fn offset_and_length_are_whole_blocks_or_it_is_refused() {
    let (disk, _, direct) = disk("ab");
    let operations = disk.operation_count();
    for (offset, len) in [(512, 4096), (4096, 512), (1, 1), (0, 4097)] {
        let refused = direct.write_at(offset, &vec![b'x'; len]).unwrap_err();
        assert_eq!(
            refused.raw_os_error(),
            Some(errno::EINVAL),
            "{offset} {len}"
        );
    }
    assert_eq!(disk.operation_count(), operations);
    assert_eq!(after_cut(&disk), set(&["ab"]));
}

#[test]
fn it_settles_itself_and_nothing_else() {
    let (disk, file, direct) = disk("abc");
    write(&file, 0, "x");
    write(&direct, 1, "y");
    write(&file, 2, "z");
    assert_eq!(after_cut(&disk), set(&["ayc", "xyc", "ayz", "xyz"]));
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), set(&["xyz"]));
}

#[test]
fn what_it_writes_over_is_settled_with_it() {
    let (disk, file, direct) = disk("ab");
    write(&file, 0, "x");
    write(&direct, 0, "y");
    assert_eq!(after_cut(&disk), set(&["yb"]));
    // What comes afterwards is as open as ever.
    write(&file, 0, "z");
    assert_eq!(after_cut(&disk), set(&["yb", "zb"]));
}

#[test]
fn two_under_way_survive_each_without_the_other() {
    let (disk, _, direct) = disk("ab");
    let (inside, second) = (disk.clone(), Arc::clone(&direct));
    // The second is entered and returns while the first is under way.
    disk.during_next_sync(move || write(&second, 1, "y"));
    write(&direct, 0, "x");
    let states = |at: u64| shown(&CrashStates::new(&inside, at, Fill::Zero));
    let moments = inside.crash_moments();
    let [.., before_second, before_first, end] = &moments[..] else {
        unreachable!("two writes returned");
    };
    assert_eq!(states(before_second.at), set(&["ab", "xb", "ay", "xy"]));
    // The hole: the later one is there for sure, the earlier one perhaps.
    assert_eq!(states(before_first.at), set(&["ay", "xy"]));
    assert_eq!(states(end.at), set(&["xy"]));
}

/// Writes at block 2 * `depth`, and while that is under way at all smaller depths.
fn nested(disk: &SimDisk, direct: &Arc<dyn File>, depth: usize) {
    if let Some(next) = depth.checked_sub(1) {
        let (disk, direct) = (disk.clone(), Arc::clone(direct));
        disk.clone()
            .during_next_sync(move || nested(&disk, &direct, next));
    }
    write(direct, 2 * depth, "xy");
}

#[test]
fn any_number_may_be_under_way() {
    let (disk, _, direct) = disk("........");
    let before = disk.crash_moments().len() - 1;
    nested(&disk, &direct, 3);
    // Before the first of them returns any part of each may be there; then one after the other is.
    let moments = disk.crash_moments();
    let counts = moments[before..].iter().map(|moment| {
        let states = CrashStates::new(&disk, moment.at, Fill::Zero);
        shown(&states).len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [256, 64, 16, 4, 1]);
    assert_eq!(after_cut(&disk), set(&["xyxyxyxy"]));
}

#[test]
fn threads_write_beside_each_other() {
    let (disk, _, direct) = disk("........");
    disk.set_sync_delay(Duration::from_millis(2));
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (direct, barrier) = (&direct, &barrier);
            scope.spawn(move || {
                barrier.wait();
                write(direct, 2 * thread, "xy");
            });
        }
    });
    assert_eq!(after_cut(&disk), set(&["xyxyxyxy"]));
}

#[test]
fn it_is_torn_between_sectors_when_the_power_goes() {
    let (disk, _, direct) = disk("ab");
    disk.die_after(disk.operation_count());
    let blocks = blocks("xy");
    assert!(direct.write_at(0, &blocks).is_err());
    assert!(disk.is_off());
    assert_eq!(after_cut(&disk), set(&["ab", "xb", "ay", "xy"]));
}

#[test]
fn one_that_fails_leaves_doubt_until_it_is_written_again() {
    let (disk, file, direct) = disk("ab");
    disk.fail(FaultPlan::new(
        Call::Write,
        1,
        Fault::ErrorAfter(errno::EIO),
    ));
    let error = direct.write_at(0, &blocks("x")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno::EIO));
    let open = set(&["ab", "xb"]);
    assert_eq!(after_cut(&disk), open);
    // A later sync does not write what the cache holds for clean.
    file.sync_data().unwrap();
    assert_eq!(after_cut(&disk), open);
    write(&direct, 0, "z");
    assert_eq!(after_cut(&disk), set(&["zb"]));
}

#[test]
fn one_that_fails_at_once_leaves_no_trace() {
    let (disk, _, direct) = disk("ab");
    disk.fail(FaultPlan::new(Call::Write, 1, Fault::Error(errno::EIO)));
    assert!(direct.write_at(0, &blocks("x")).is_err());
    assert_eq!(after_cut(&disk), set(&["ab"]));
}

#[test]
fn one_that_lies_writes_nothing() {
    let (disk, _, direct) = disk("ab");
    disk.fail(FaultPlan::new(Call::Write, 1, Fault::Lie));
    assert_eq!(direct.write_at(0, &blocks("x")).unwrap(), BLOCK);
    assert_eq!(after_cut(&disk), set(&["ab"]));
}

#[test]
fn a_short_one_is_of_whole_blocks_and_gone_on_with() {
    for (content, first) in [("x", 1), ("xy", 1), ("xyz", 2)] {
        let (disk, _, direct) = disk("abc");
        disk.fail(FaultPlan::new(Call::Write, 1, Fault::Short));
        let written = direct.write_at(0, &blocks(content)).unwrap();
        assert_eq!(written, first * BLOCK, "{content}");
        disk.fail(FaultPlan::new(Call::Write, 1, Fault::Short));
        write(&direct, 0, content);
        let whole = format!("{content}{}", &"abc"[content.len()..]);
        assert_eq!(after_cut(&disk), set(&[&whole]));
    }
}

#[test]
fn a_killed_process_leaves_what_returned_and_any_part_of_what_did_not() {
    let (disk, file, direct) = disk("abc");
    write(&file, 2, "z");
    write(&direct, 0, "x");
    assert_eq!(after_kill(&disk), set(&["xbz"]));
    let (inside, second) = (disk.clone(), Arc::clone(&direct));
    let killed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&killed);
    disk.during_next_sync(move || {
        let before = after_kill(&inside);
        // Entered later, back earlier: it is there, whatever becomes of the other.
        write(&second, 2, "v");
        *seen.lock().unwrap() = vec![before, after_kill(&inside)];
    });
    write(&direct, 0, "yw");
    assert_eq!(
        *killed.lock().unwrap(),
        [
            set(&["xbz", "ybz", "xwz", "ywz"]),
            set(&["xbv", "ybv", "xwv", "ywv"]),
        ]
    );
    assert_eq!(after_kill(&disk), set(&["ywv"]));
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    let (disk, _, direct) = disk("a");
    disk.set_capacity(disk.used() + BLOCK as u64);
    assert_eq!(direct.write_at(BLOCK as u64, &blocks("xy")).unwrap(), BLOCK);
    let full = direct.write_at(2 * BLOCK as u64, &blocks("y")).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(errno::ENOSPC));
    // Writing over what is there needs no room.
    write(&direct, 0, "b");
    assert_eq!(after_cut(&disk), set(&["bx"]));
}

#[test]
fn one_that_makes_the_file_longer_settles_its_length() {
    let (disk, _, direct) = disk("a");
    write(&direct, 1, "x");
    assert_eq!(after_cut(&disk), set(&["ax"]));
}

#[test]
fn one_in_space_that_was_only_allocated_settles_the_length_too() {
    let (disk, file, direct) = disk("a");
    file.allocate(BLOCK as u64, 3 * BLOCK as u64).unwrap();
    assert_eq!(after_cut(&disk), set(&["a", "a..."]));
    write(&direct, 1, "x");
    assert_eq!(after_cut(&disk), set(&["ax.."]));
    write(&file, 4, "y");
    assert_eq!(after_cut(&disk), set(&["ax..", "ax...", "ax..y"]));
}

#[test]
fn the_file_must_exist() {
    let (disk, ..) = disk("a");
    let missing = disk.open(Path::new("/g"), OpenMode::Direct).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}

/// With which flags this process has opened a file, for each time that it did.
fn open_flags(path: &Path) -> Vec<u32> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let same = fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|is| is == path));
    let flags = |fd: std::fs::DirEntry| {
        let about = Path::new("/proc/self/fdinfo").join(fd.file_name());
        let text = std::fs::read_to_string(about).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        u32::from_str_radix(flags.unwrap().trim(), 8).unwrap()
    };
    same.map(flags).collect()
}

/// Where the file system can: what is written is read back through the page cache.
#[test]
fn the_real_disk_takes_them_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let disk = RealDisk::new();
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    write_all_at(file.as_ref(), 0, &blocks("abc")).unwrap();
    let Ok(direct) = disk.open(&path, OpenMode::Direct) else {
        // A file system in memory, for example.
        return;
    };
    let mut bytes = vec![0; 2 * BLOCK];
    let begin = bytes.as_ptr().align_offset(BLOCK);
    bytes[begin..begin + BLOCK].fill(b'x');
    let block = &bytes[begin..begin + BLOCK];
    if write_all_at(direct.as_ref(), BLOCK as u64, block).is_err() {
        return;
    }
    let mut read = vec![0; 3 * BLOCK];
    duralog::vfs::read_full_at(file.as_ref(), 0, &mut read).unwrap();
    assert_eq!(letters(&read), "axc");
    let flags = open_flags(&path);
    let durable = |flags: &u32| flags & 0o10_000 != 0;
    assert!(flags.iter().any(durable), "O_DSYNC is set: {flags:?}");
    let unaligned = &bytes[begin + 1..begin + 513];
    assert!(direct.write_at(1, unaligned).is_err());
}
