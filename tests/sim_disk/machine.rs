//! What is not a disk: modes of opening, locks, the shared page, clocks, randomness, threads.

use super::*;

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
    let is_locked = |disk: &SimDisk| {
        let file = disk.open(&path("LOCK"), OpenMode::Read);
        file.unwrap().is_locked().unwrap()
    };
    let LockOutcome::Acquired(guard) = disk.lock(&path("LOCK"), "process 1").unwrap() else {
        panic!("the lock was free");
    };
    let LockOutcome::Held(holder) = disk.lock(&path("LOCK"), "process 2").unwrap() else {
        panic!("the lock was taken");
    };
    assert_eq!(holder, "process 1");
    assert!(is_locked(&disk));
    assert_eq!(disk.read_file("/LOCK").unwrap(), b"process 1");
    // A crash leaves none.
    let booted = SimDisk::from_image(&disk.image(), 1);
    assert!(!is_locked(&booted));
    drop(guard);
    assert!(!is_locked(&disk));
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
