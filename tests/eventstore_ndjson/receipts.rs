//! The receipt log: 8,577 real events of 1,434 cases.

use super::peer::compare_with_peer;
use super::*;

/// The real file; `None`, with a message, if it is not there.
fn receipts() -> Option<(PathBuf, String)> {
    let path = std::env::var_os("DURALOG_RECEIPTS").map_or_else(
        || root().join("../shared/data/receipt.ndjson"),
        PathBuf::from,
    );
    let Ok(text) = fs::read_to_string(&path) else {
        say(&format!("ndjson: skipped, there is no {}", path.display()));
        return None;
    };
    assert_eq!(text.lines().count(), 8577, "the file is the one we know");
    Some((path, text))
}

/// The text between `before` and `after` in a line of JSON.
fn between<'a>(line: &'a str, before: &str, after: &str) -> &'a str {
    let begin = line.find(before).unwrap() + before.len();
    line[begin..].split(after).next().unwrap()
}

fn check_receipts(path: &Path, text: &str) {
    let mut by_stream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut by_type: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        by_stream
            .entry(between(line, "\"stream_id\": \"", "\""))
            .or_default()
            .push(line);
        by_type
            .entry(between(line, "\"event_type\": \"", "\""))
            .or_default()
            .push(line);
    }
    assert_eq!((by_stream.len(), by_type.len()), (1434, 27));
    let how = EventStoreOptions {
        wal: WalOptions {
            how: OpenHow::ReadOnly,
            ..WalOptions::default()
        },
        ..EventStoreOptions::default()
    };
    let store = EventStore::open(path, &how).unwrap();
    let check = |selection: Selection, expected: &[&str]| {
        let read = Read {
            selection: selection.clone(),
            ..Read::default()
        };
        let mut reader = store.read(read).unwrap();
        let mut expected = expected.iter();
        let mut version = 0;
        loop {
            let page = reader.next_page(100).unwrap();
            if page.is_empty() {
                break;
            }
            for event in page.iter() {
                let line = expected.next().unwrap();
                let data = between(line, "\"data\": ", ", \"timestamp\": ");
                assert_eq!(event.data, data.as_bytes(), "{selection:?}");
                assert_eq!(event.event_type, between(line, "\"event_type\": \"", "\""));
                assert_eq!(event.stream, between(line, "\"stream_id\": \"", "\""));
                if matches!(selection, Selection::Stream(_)) {
                    version += 1;
                    assert_eq!(event.stream_version, version, "{selection:?}");
                }
            }
        }
        assert_eq!(expected.next(), None, "{selection:?}");
    };
    for (stream, expected) in &by_stream {
        check(Selection::Stream((*stream).to_owned()), expected);
    }
    for (event_type, expected) in &by_type {
        let item = QueryItem {
            types: vec![(*event_type).to_owned()],
            tags: vec![],
        };
        check(Selection::Query(Query { items: vec![item] }), expected);
    }
    check(Selection::All, &text.lines().collect::<Vec<_>>());
    assert!(
        dump(&store) == text,
        "the export is the file, byte for byte"
    );
}

#[test]
fn real_events_are_imported_read_and_exported_byte_for_byte() {
    let Some((path, text)) = receipts() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("store");
    for imported in [8577, 0] {
        let store = EventStore::open(&place, &EventStoreOptions::default()).unwrap();
        let report = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
        let expected = ImportReport {
            line_count: 8577,
            imported,
            known: 8577 - imported,
            ..ImportReport::default()
        };
        assert_eq!(report, expected);
        store.close().unwrap();
        check_receipts(&place, &text);
    }
    compare_with_peer(directory.path(), &text, 0);
}

/// Where the child finds its store, and the file.
const CHILD: &str = "DURALOG_NDJSON_CHILD";

/// Not a test of its own: what is killed below.
#[test]
fn child_that_imports() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (store, file) = told.split_once('\n').unwrap();
    let store = EventStore::open(store, &EventStoreOptions::default()).unwrap();
    let mut tell = |now: Progress| {
        println!("\n@{}", now.events);
        true
    };
    import_file(&store, file, &batches_of(50), &mut tell).unwrap();
    println!("\n@done");
}

#[test]
fn killed_half_way_and_repeated_the_import_is_the_same() {
    let Some((path, text)) = receipts() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("store");
    let mut there = 0;
    for wanted in [50, 2000, 6000] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "receipts::child_that_imports",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(CHILD, format!("{}\n{}", place.display(), path.display()));
        let mut child = Reporter::start(&mut command);
        loop {
            let line = child.line();
            assert_ne!(line, "done", "it was done before it was killed");
            if line.parse::<u64>().unwrap() >= wanted {
                break;
            }
        }
        drop(child); // which kills it
        let store = open(&place);
        there = store.last_position().unwrap();
        assert_eq!(there % 50, 0, "no batch is in by halves");
        assert!((wanted..8577).contains(&there), "{there}");
        store.close().unwrap();
    }
    let store = open(&place);
    let report = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
    assert_eq!((report.imported, report.known), (8577 - there, there));
    store.close().unwrap();
    check_receipts(&place, &text);
    // And once more, after it was whole.
    let store = open(&place);
    let report = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
    assert_eq!((report.imported, report.known), (0, 8577));
    store.close().unwrap();
    check_receipts(&place, &text);
}
