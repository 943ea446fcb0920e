//! Which states of the disk are tried, where there are too many to try all.

use super::*;

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
