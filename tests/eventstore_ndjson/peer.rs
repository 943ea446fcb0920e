//! The importer and exporter of the Python package say the same, of good lines and of bad ones.

use super::random_events::random_line;
use super::*;

/// `python3 -m duralog.ndjson`
pub(super) fn peer_tool() -> Command {
    python("ndjson_peer.py")
}

/// Everything that an importer decides, for each event in order.
fn described(store: &EventStore) -> Vec<String> {
    let mut reader = store.read(Read::default()).unwrap();
    let mut found = Vec::new();
    loop {
        let page = reader.next_page(1000).unwrap();
        if page.is_empty() {
            return found;
        }
        for event in page.iter() {
            let tags: Vec<&str> = event.tags().collect();
            found.push(format!(
                "{} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {:?}",
                event.position,
                event.stream_version,
                event.id,
                event.has_own_id,
                event.stream,
                event.event_type,
                event.data.escape_ascii().to_string(),
                event.metadata.escape_ascii().to_string(),
                tags,
                event.schema_version,
                event.content_type,
                event.occurred_ns,
                (event.correlation_id, event.causation_id),
            ));
        }
    }
}

/// From the same file, both importers make the same events, and from the same events the same file.
pub(super) fn compare_with_peer(directory: &Path, text: &str, seed: u64) {
    let (ours, theirs) = (directory.join("ours"), directory.join("theirs"));
    let [given, out] = ["given.ndjson", "out.ndjson"].map(|name| directory.join(name));
    fs::write(&given, text).unwrap();
    output_of(peer_tool().arg("import").arg(&theirs).arg(&given));
    output_of(peer_tool().arg("export").arg(&theirs).arg(&out));
    let store = open(&ours);
    import_file(&store, &given, &ImportOptions::default(), &mut go_on).unwrap();
    let their_store = open(&theirs);
    for (our, their) in described(&store).iter().zip(&described(&their_store)) {
        assert_eq!(our, their, "seed {seed}");
    }
    assert_eq!(
        store.last_position().unwrap(),
        their_store.last_position().unwrap()
    );
    assert!(
        dump(&store) == fs::read_to_string(&out).unwrap(),
        "seed {seed}: exports"
    );
    // Each knows again what the other imported.
    let known = import_file(&their_store, &given, &ImportOptions::default(), &mut go_on);
    assert_eq!(known.unwrap().imported, 0, "seed {seed}");
    their_store.close().unwrap();
    store.close().unwrap();
    let told = output_of(peer_tool().arg("import").arg(&ours).arg(&given));
    assert!(
        told.contains(": 0 events imported, "),
        "seed {seed}: {told}"
    );
}

/// What the peer makes of single lines: `torn`, `bad`, or the fields of an event.
pub(super) fn judged(directory: &Path, lines: &[Vec<u8>]) -> Vec<String> {
    let file = directory.join("lines");
    let with_len = |line: &Vec<u8>| [&(line.len() as u32).to_le_bytes(), &line[..]].concat();
    fs::write(&file, lines.iter().flat_map(with_len).collect::<Vec<u8>>()).unwrap();
    let told = output_of(peer_tool().arg("judge").arg(&file));
    let told: Vec<String> = told.lines().map(str::to_owned).collect();
    assert_eq!(told.len(), lines.len());
    told
}

fn change(line: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const TELLING: [&[u8]; 20] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\ud800",
        b"\\u00e4",
        b"null",
        b"-0",
        b"1e5",
        b" ",
        b"\xff",
        b"\n",
        b"\"tags\": [\"a\"], ",
        b"\"data_base64\": \"AA==\", ",
        b"\"more\": 1, ",
        b"duralog.ndjson",
    ];
    for _ in 0..=random.below(2) {
        let at = random.below(line.len() as u64 + 1) as usize;
        let len = (random.below(20) as usize).min(line.len() - at);
        match random.below(6) {
            0 if at < line.len() => line[at] ^= 1 << random.below(8),
            1 => drop(line.drain(at..at + len)),
            2 => line.truncate(at),
            3 => {
                let from = random.below(other.len() as u64) as usize;
                let piece = other[from..].iter().take(len).copied();
                drop(line.splice(at..at, piece));
            }
            _ => {
                let piece = TELLING[random.below(TELLING.len() as u64) as usize];
                drop(line.splice(at..at, piece.iter().copied()));
            }
        }
    }
}

#[test]
fn both_importers_judge_changed_lines_alike() {
    let seed = seed();
    say(&format!("ndjson: changed lines, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    let mut changed: Vec<Vec<u8>> = Vec::new();
    for number in 0..6000 {
        let mut line = random_line(&mut random, number).into_bytes();
        let other = random_line(&mut random, number).into_bytes();
        change(&mut line, &other, &mut random);
        // One line: what would be two is cut behind the first.
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end + 1);
        }
        // Half of them end the file without a newline.
        if random.below(2) == 0 && line.ends_with(b"\n") {
            line.pop();
        }
        if !line
            .iter()
            .all(|byte| byte.is_ascii_whitespace() || *byte == 11)
        {
            changed.push(line);
        }
    }
    let theirs = judged(directory.path(), &changed);

    let hex = |bytes: &[u8]| -> String {
        match bytes {
            [] => "-".into(),
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    };
    let mut counts = BTreeMap::<&str, u32>::new();
    for (line, their) in changed.iter().zip(&theirs) {
        let ours = match load(&store, line, 1) {
            Ok(report) if report.torn_line > 0 => "torn".to_owned(),
            Ok(report) if report.known > 0 => continue,
            Ok(report) => {
                assert_eq!(report.imported, 1);
                let position = store.last_position().unwrap();
                let page = store.event_at(position).unwrap();
                let event = page.get(0).unwrap();
                let mut parts: Vec<String> = [
                    &event.id[..],
                    event.stream.as_bytes(),
                    event.event_type.as_bytes(),
                    event.data,
                    event.metadata,
                    event.content_type.as_bytes(),
                ]
                .map(hex)
                .into();
                parts.extend(event.tags().map(|tag| hex(tag.as_bytes())));
                parts.push(event.schema_version.to_string());
                parts.push(event.occurred_ns.map_or("None".into(), |ns| ns.to_string()));
                for id in [event.correlation_id, event.causation_id] {
                    parts.push(id.map_or("None".into(), |id| hex(&id)));
                }
                parts.join(" ")
            }
            // An id that was there with another content: the line itself was good.
            Err(failed) if failed.to_string().contains("its event_id belongs to") => continue,
            Err(failed) => {
                assert_eq!(failed.error.kind(), ErrorKind::BadLine, "{failed}");
                "bad".to_owned()
            }
        };
        let line = String::from_utf8_lossy(line);
        assert_eq!(ours, *their, "seed {seed}: {line:?}");
        let kind = if ours.len() > 4 { "event" } else { their };
        *counts.entry(kind).or_default() += 1;
    }
    say(&format!("ndjson: changed lines: {counts:?}"));
    assert!(
        counts.len() == 3 && counts.values().all(|count| *count > 100),
        "{counts:?}"
    );
}
