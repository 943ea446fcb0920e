//! Calls that fail, fully, in part or only in what they report; full disks; media that rot.

use super::*;

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
