//! Random events, with every character, number and nesting, come back as they were.

use super::peer::{compare_with_peer, peer_tool};
use super::*;

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

/// What stands in a text of JSON, as it may be written.
fn random_text(random: &mut Random) -> String {
    let mut text = String::from('"');
    for _ in 0..random.below(12) {
        let piece = match random.below(10) {
            0 => char::from_u32(random.below(0x11_0000) as u32)
                .unwrap_or('x')
                .to_string(),
            1 => format!("\\u{:04x}", random.below(0x1_0000)),
            2 => format!("\\u{:04X}", random.below(0x80)),
            3 => pick(
                random,
                &["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"],
            )
            .into(),
            4 => pick(
                random,
                &[
                    "ä", "😀", "\u{2028}", "\u{7f}", "[", "{", "}", "'", "\u{feff}",
                ],
            )
            .into(),
            _ => char::from(b'a' + random.below(26) as u8).to_string(),
        };
        match piece.as_str() {
            bad if bad.bytes().any(|byte| byte < 32) => {}
            "\"" | "\\" => {}
            _ => text.push_str(&piece),
        }
    }
    text.push('"');
    text
}

fn random_space(random: &mut Random) -> &'static str {
    pick(random, &["", "", "", " ", "\t", "  "])
}

/// A value of JSON as it may be written on one line.
fn random_value(random: &mut Random, depth: u64) -> String {
    let kind = random.below(if depth == 0 { 5 } else { 8 });
    match kind {
        0 => pick(random, &["null", "true", "false"]).into(),
        1 => (random.next() as i64).to_string(),
        2 => {
            let digits = random.next() % 1000;
            let rest = pick(
                random,
                &[
                    "",
                    ".0",
                    ".50",
                    "e5",
                    "E-7",
                    "e+400",
                    ".1234567890123456789012",
                ],
            );
            format!("{}{digits}{rest}", pick(random, &["", "-"]))
        }
        3 | 4 => random_text(random),
        5 => random_object(random, depth),
        _ => {
            let items: Vec<String> = (0..random.below(4))
                .map(|_| random_space(random).to_owned() + &random_value(random, depth - 1))
                .collect();
            format!("[{}{}]", items.join(","), random_space(random))
        }
    }
}

fn random_object(random: &mut Random, depth: u64) -> String {
    let fields: Vec<String> = (0..random.below(4))
        .map(|index| {
            let name = random_text(random);
            format!(
                "{}{}{index}\"{}:{}{}",
                random_space(random),
                &name[..name.len() - 1],
                random_space(random),
                random_space(random),
                random_value(random, depth.saturating_sub(1)),
            )
        })
        .collect();
    match fields.len() {
        0 => "{}".into(), // what would be inside is not kept beside what is
        _ => format!("{{{}{}}}", fields.join(","), random_space(random)),
    }
}

/// A line as an export writes it: so importing and exporting it must give every byte back.
pub(super) fn random_line(random: &mut Random, number: u64) -> String {
    let id = match random.below(4) {
        0 => format!("{number}"),
        1 => format!("\"e-{number}\""),
        2 => format!("\"\\u00e4 \\ud800 {number}\""),
        _ => format!("\"2ed6657d-e927-568b-95e1-{number:012x}\""),
    };
    let time = match random.below(6) {
        0 => "2010-10-02T09:20:39.266000+02:00".to_owned(),
        1 => pick(
            random,
            &[
                "",
                "soon",
                "2010-10-02",
                "2010-13-02T09:20:39Z",
                "9999-12-31T23:59:59Z",
            ],
        )
        .to_owned(),
        2 => format!("1969-12-31 23:59:59.{number}-00:00"),
        3 => format!("2020-02-29T00:00:00.{:09}+00:00", 1_000 * number + 1),
        _ => format!("2020-02-29T00:00:{:02}+00:00", number % 60),
    };
    let metadata = match random.below(4) {
        0 => "{}".into(),
        1 => random_value(random, 3),
        2 => format!("{{\"duralog.ndjson\":{}}}", random_value(random, 2)),
        _ => random_object(random, 3),
    };
    let mut line = format!(
        "{{\"event_id\": {id}, \"stream_id\": \"s-{}\", \"event_type\": \"T{}\", \"data\": {}, \
         \"timestamp\": \"{time}\", \"metadata\": {metadata}",
        random.below(5),
        pick(random, &["", "ä", "\\n", "\\\\", "\u{7f}", "\\u0000"]),
        random_value(random, 4),
    );
    if random.below(4) == 0 {
        line += ", \"tags\": [\"a\", \"ä\\\"\"], \"schema_version\": 18446744073709551615";
    }
    if random.below(4) == 0 {
        line += ", \"content_type\": \"\"";
    }
    if random.below(4) == 0 {
        line += ", \"causation_id\": \"2ed6657d-e927-568b-95e1-2665a8aea6a2\"";
    }
    for name in 0..random.below(3) {
        let _ = write!(line, ", \"more {name}\": {}", random_value(random, 2));
    }
    line + "}\n"
}

#[test]
fn what_came_in_goes_out_byte_for_byte() {
    let seed = seed();
    say(&format!("ndjson: random lines, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    let text: String = (1..=3000)
        .map(|number| random_line(&mut random, number))
        .collect();
    let report = load(&store, text.as_bytes(), 97).unwrap_or_else(|failed| {
        let line = text.lines().nth(failed.report.bad_line as usize - 1);
        panic!("seed {seed}: {failed}: {line:?}")
    });
    assert_eq!(report.imported, 3000, "seed {seed}");
    let out = dump(&store);
    for (found, given) in out.lines().zip(text.lines()) {
        assert_eq!(found, given, "seed {seed}");
    }
    assert_eq!(out, text, "seed {seed}");
    assert_eq!(
        load(&store, text.as_bytes(), 100).unwrap().known,
        3000,
        "seed {seed}"
    );
    // The peer makes the same of it.
    compare_with_peer(directory.path(), &text, seed);
}

/// An event with bytes of every kind.
fn random_event_parts(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let part = |random: &mut Random| match random.below(6) {
        0 => Vec::new(),
        1 => (0..random.below(20)).map(|_| random.next() as u8).collect(),
        2 => format!("{{\"duralog.ndjson\":{}}}", random_value(random, 3)).into_bytes(),
        3 => b"{\"duralog.ndjson\":{\"more\":{\"tags\":[]}}}".to_vec(),
        4 => format!("{{\n\"a\": {}\r\n}}", random_value(random, 3)).into_bytes(),
        _ => random_value(random, 4).into_bytes(),
    };
    (part(random), part(random))
}

#[test]
fn events_that_were_not_imported_come_back_in_another_store() {
    let seed = seed();
    say(&format!("ndjson: random events, DURALOG_SEED={seed}"));
    let mut random = Random::new(seed);
    let (directory, store) = new_store();
    for number in 0..1500_u64 {
        let (data, metadata) = random_event_parts(&mut random);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.next().to_le_bytes());
        id[8..].copy_from_slice(&number.to_le_bytes());
        let some = |random: &mut Random| random.below(2) == 0;
        let event = NewEvent {
            stream: pick(&mut random, &["a", "ä\"\\", "s-\n\u{7f}", "\u{10ffff}"]),
            event_type: pick(&mut random, &["T", "ä\0"]),
            data: &data,
            metadata: &metadata,
            tags: if some(&mut random) {
                &["x", "ä", "\t"]
            } else {
                &[]
            },
            id: some(&mut random).then_some(id),
            schema_version: random.below(2) * random.next(),
            content_type: pick(&mut random, &["", "application/json", "text/plain"]),
            occurred_ns: some(&mut random).then(|| random.next() as i64),
            correlation_id: some(&mut random).then_some(id),
            causation_id: some(&mut random).then_some(id),
        };
        let request = AppendRequest {
            events: &[event],
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
    }
    let out = dump(&store);
    let out_lines: Vec<&str> = out.lines().collect();
    assert_eq!(out_lines.len(), 1500);
    let other = open(&directory.path().join("other"));
    load(&other, out.as_bytes(), 100).unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
    let on_one_line = |bytes: &[u8]| -> Vec<u8> {
        let blank = |byte: &u8| if b"\r\n".contains(byte) { b' ' } else { *byte };
        bytes.iter().map(blank).collect()
    };
    for position in 1..=1500 {
        let (page, copied) = (
            store.event_at(position).unwrap(),
            other.event_at(position).unwrap(),
        );
        let (event, copy) = (page.get(0).unwrap(), copied.get(0).unwrap());
        let what = format!("seed {seed}, position {position}");
        assert_eq!(event.stream, copy.stream, "{what}");
        assert_eq!(event.stream_version, copy.stream_version, "{what}");
        assert_eq!(event.event_type, copy.event_type, "{what}");
        assert_eq!(event.id, copy.id, "{what}");
        assert_eq!(event.tag_bytes, copy.tag_bytes, "{what}");
        assert_eq!(event.schema_version, copy.schema_version, "{what}");
        assert_eq!(event.content_type, copy.content_type, "{what}");
        assert_eq!(event.correlation_id, copy.correlation_id, "{what}");
        assert_eq!(event.causation_id, copy.causation_id, "{what}");
        let occurred_ns = event.occurred_ns.unwrap_or(event.time_ns as i64);
        assert_eq!(Some(occurred_ns), copy.occurred_ns, "{what}");
        if out_lines[position as usize - 1].contains(", \"data\": ") {
            assert_eq!(on_one_line(event.data).trim_ascii(), copy.data, "{what}");
        } else {
            assert_eq!(event.data, copy.data, "{what}");
        }
    }
    assert_eq!(dump(&other), out, "seed {seed}");
    // And the peer writes the same.
    store.close().unwrap();
    let path = directory.path().join("peer.ndjson");
    let mut command = peer_tool();
    output_of(
        command
            .arg("export")
            .arg(directory.path().join("store"))
            .arg(&path),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), out, "seed {seed}");
}
