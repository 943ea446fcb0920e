//! Shows that `include/duralog.h` says what the library does.
//!
//! - It is what `src/ffi` generates, section by section in learning order, and nothing was edited
//!   by hand. `DURALOG_BLESS=1 cargo test --test header` writes it anew.
//! - It compiles alone, without a warning, as C99, C11 and C++17; so does every `*_INIT` macro.
//! - The program in its opening comment compiles and does what it seems to do.
//! - What it declares is exactly what the shared library exports: with all features, which these
//!   tests turn on; and, in `make test`, as the library is built without them.
//! - Its structs have the sizes that Rust gives them, and those are of the first version.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use cbindgen::{Builder, Config};
use duralog::ffi::{
    append, cursor, eventstore, eventstore_append, eventstore_columns, eventstore_cursor,
    eventstore_facts, eventstore_names, eventstore_ndjson, eventstore_receipt, eventstore_snapshot,
    eventstore_verify, last_error, options, recovery_report, replay, stat,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The header's sections: title and source file.
const SECTIONS: [(&str, &str); 27] = [
    ("Versions", "version.rs"),
    ("Status", "status.rs"),
    ("The last error", "last_error.rs"),
    ("Options", "options.rs"),
    ("Opening and closing a log", "wal.rs"),
    ("Appending", "append.rs"),
    ("Appending without waiting", "append_async.rs"),
    ("Sync, checkpoint, truncation", "maintain.rs"),
    ("Replay", "replay.rs"),
    ("Cursors", "cursor.rs"),
    ("Parts of a page", "spans.rs"),
    ("Statistics", "stat.rs"),
    ("What opening found", "recovery_report.rs"),
    ("Verifying and repairing", "verify.rs"),
    ("Opening and closing an event store", "eventstore.rs"),
    ("Queries over types and tags", "eventstore_query.rs"),
    ("Building an append", "eventstore_append.rs"),
    ("Adding many events at once", "eventstore_columns.rs"),
    ("Appending events", "eventstore_receipt.rs"),
    ("Reading events", "eventstore_cursor.rs"),
    ("A page of events in one run of bytes", "eventstore_pack.rs"),
    ("Following events", "eventstore_subscription.rs"),
    ("Streams, saved positions, state", "eventstore_facts.rs"),
    ("Names", "eventstore_names.rs"),
    ("Snapshots", "eventstore_snapshot.rs"),
    ("Looking through the index", "eventstore_verify.rs"),
    ("Lines of JSON", "eventstore_ndjson.rs"),
];

/// Of sections that a library has only with a feature: the source file, the feature, the macro
/// without which the section is not seen, and what the header says of it.
const OPTIONAL: [(&str, &str, &str, &str); 1] = [(
    "eventstore_ndjson.rs",
    "ndjson",
    "DURALOG_NDJSON",
    "/* Only in a library that was built with the feature ndjson: `make FEATURES=ndjson`. What\n   \
     pkg-config says of such a library defines the macro; else define it yourself. */",
)];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn header_path() -> PathBuf {
    root().join("include/duralog.h")
}

fn generate() -> String {
    let config = Config::from_file(root().join("cbindgen.toml")).unwrap();
    let mut header = config.header.clone().unwrap().trim_start().to_owned();
    for (title, file) in SECTIONS {
        let source = root().join("src/ffi").join(file);
        let rule = "=".repeat(90 - title.len());
        write!(header, "\n/* == {title} {rule} */\n\n").unwrap();
        let optional = OPTIONAL.iter().find(|(name, ..)| *name == file);
        if let Some((.., name, comment)) = optional {
            write!(header, "{comment}\n#if defined({name})\n\n").unwrap();
        }
        header.push_str(section(&config, &source).trim());
        header.push('\n');
        if let Some((.., name, _)) = optional {
            write!(header, "\n#endif /* {name} */\n").unwrap();
        }
    }
    header.push_str(config.trailer.as_deref().unwrap());
    header
}

fn section(config: &Config, source: &Path) -> String {
    let mut config = config.clone();
    config.header = None;
    config.trailer = None;
    // Everything public in the file belongs to the section, also what only a later section uses.
    let text = fs::read_to_string(source).unwrap();
    for line in text.lines() {
        let name = ["pub struct ", "pub enum ", "pub type "]
            .iter()
            .find_map(|start| line.strip_prefix(start));
        if let Some(name) = name {
            let end = name.find([' ', '<', '=']).unwrap_or(name.len());
            config.export.include.push(name[..end].to_owned());
        }
    }
    let mut bytes = Vec::new();
    Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .unwrap_or_else(|error| panic!("{}: {error}", source.display()))
        .write(&mut bytes);
    let section = String::from_utf8(bytes).unwrap();
    with_initialisers(&with_short_comments(&without_tags(&with_parentheses(
        &section,
    ))))
}

/// Puts negative constants into parentheses, as C wants them in macros.
fn with_parentheses(section: &str) -> String {
    let constant = |line: &str| match line
        .strip_prefix("#define ")
        .and_then(|l| l.split_once(" -"))
    {
        Some((name, number)) => format!("#define {name} (-{number})\n"),
        None => line.to_owned() + "\n",
    };
    section.lines().map(constant).collect()
}

/// Calls types by their typedef everywhere but where they are defined.
fn without_tags(section: &str) -> String {
    let untagged = |line: &str| {
        if line.starts_with("typedef struct ") || line.trim_start().starts_with('*') {
            line.to_owned()
        } else {
            line.replace("struct ", "")
        }
    };
    section.lines().map(|line| untagged(line) + "\n").collect()
}

/// Puts comments of one line on one line.
fn with_short_comments(section: &str) -> String {
    let lines: Vec<&str> = section.lines().collect();
    let mut short = String::new();
    let mut at = 0;
    while at < lines.len() {
        let window = (lines[at], lines.get(at + 1), lines.get(at + 2));
        if let (open, Some(text), Some(close)) = window {
            if open.trim() == "/**" && close.trim() == "*/" && open.len() + text.trim().len() < 99 {
                let text = text.trim().trim_start_matches('*').trim();
                let indent = &open[..open.len() - 3];
                writeln!(short, "{indent}/** {text} */").unwrap();
                at += 3;
                continue;
            }
        }
        writeln!(short, "{}", lines[at].trim_end()).unwrap();
        at += 1;
    }
    short
}

/// Adds behind every struct that begins with `struct_size` the macro that initialises it. All
/// fields are listed, because a shorter initialiser is a warning in C++.
fn with_initialisers(section: &str) -> String {
    let mut out = String::new();
    let mut fields: Vec<String> = Vec::new();
    for line in section.lines() {
        writeln!(out, "{line}").unwrap();
        if let Some(name) = line.strip_prefix("} ").and_then(|l| l.strip_suffix(';')) {
            if fields.first().is_some_and(|f| f == "struct_size") {
                let zeros: Vec<&str> = fields[1..]
                    .iter()
                    .map(|field| if field.ends_with(']') { "{0}" } else { "0" })
                    .collect();
                let init = name.strip_suffix("_t").unwrap().to_uppercase() + "_INIT";
                let zeros = zeros.join(", ");
                let one_line = format!("#define {init} {{ sizeof({name}), {zeros} }}");
                let article = if name.starts_with('e') { "an" } else { "a" };
                write!(out, "\n/** Initialises {article} {name}. */\n").unwrap();
                if one_line.len() <= 100 {
                    writeln!(out, "{one_line}").unwrap();
                } else {
                    write!(
                        out,
                        "#define {init} \\\n    {{ sizeof({name}), {zeros} }}\n"
                    )
                    .unwrap();
                }
            }
            fields.clear();
        } else if line.ends_with(';') && line.starts_with("    ") && !line.starts_with("     ") {
            // Further in stand the arguments of a callback.
            let declaration = line.trim().trim_end_matches(';');
            let name = declaration.rsplit([' ', '*']).next().unwrap();
            fields.push(name.to_owned());
        }
    }
    out
}

#[test]
fn header_is_what_the_sources_generate() {
    let generated = generate();
    if std::env::var_os("DURALOG_BLESS").is_some() {
        // By renaming, because the other tests read it meanwhile.
        let new = header_path().with_extension("h.new");
        fs::write(&new, &generated).unwrap();
        fs::rename(&new, header_path()).unwrap();
        return;
    }
    let committed = fs::read_to_string(header_path()).unwrap_or_default();
    if committed != generated {
        let differs = committed
            .lines()
            .zip(generated.lines())
            .position(|(old, new)| old != new)
            .unwrap_or_else(|| committed.lines().count().min(generated.lines().count()));
        panic!(
            "include/duralog.h differs from what src/ffi generates, first in line {}:\n\
             committed: {:?}\ngenerated: {:?}\nDURALOG_BLESS=1 cargo test --test header writes it",
            differs + 1,
            committed.lines().nth(differs),
            generated.lines().nth(differs),
        );
    }
}

#[test]
fn header_compiles_alone_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    for language in common::LANGUAGES {
        // Alone: nothing else was included before it. Not as the main file, where `#pragma once`
        // and the like would be judged differently.
        let source = directory.path().join("alone.c");
        fs::write(
            &source,
            "#include \"duralog.h\"\n#include \"duralog.h\"\nint unused;\n",
        )
        .unwrap();
        for source in [source, root().join("tests/c/initialisers.c")] {
            let out = directory.path().join("out.o");
            let mut compile = common::compiler(language);
            compile.arg("-c").arg(&source).arg("-o").arg(out);
            common::run(&mut compile);
            for (.., name, _) in OPTIONAL {
                compile.arg(format!("-D{name}"));
            }
            common::run(&mut compile);
        }
    }
}

#[test]
fn example_in_the_opening_comment_runs() {
    let header = fs::read_to_string(header_path()).unwrap();
    let program: String = header
        .lines()
        .skip_while(|line| !line.contains("#include <duralog.h>"))
        .take_while(|line| !line.contains("CONVENTIONS"))
        .map(|line| line.trim_start_matches(" *").to_owned() + "\n")
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("example.c");
    fs::write(&source, program).unwrap();
    let example = directory.path().join("example");
    common::compile_c(&[&source], &example);
    let run = || common::run(Command::new(&example).current_dir(directory.path()));
    assert_eq!(run(), "city = Bonn\n");
    assert_eq!(run(), "city = Bonn\ncity = Bonn\n");
}

#[test]
fn a_header_with_a_warning_would_be_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("short.c");
    let short = "#include \"duralog.h\"\nwal_stat_t s = { sizeof(wal_stat_t) };\n";
    fs::write(&source, short).unwrap();
    for language in common::LANGUAGES {
        let mut compile = common::compiler(language);
        compile.arg("-fsyntax-only").arg(&source);
        let output = compile.output().unwrap();
        assert!(!output.status.success(), "{language:?}");
    }
}

/// The library that is looked at is the one beside this test, which has every feature; or the one
/// in `DURALOG_TEST_LIBRARY`, with the features in `DURALOG_TEST_FEATURES`.
#[test]
fn exported_symbols_are_the_declared_functions() {
    let directory = common::library_dir();
    let features = match std::env::var("DURALOG_TEST_FEATURES") {
        Ok(features) if std::env::var_os("DURALOG_TEST_LIBRARY").is_some() => features,
        _ => OPTIONAL.map(|(_, feature, ..)| feature).join(" "),
    };
    let output = common::run(
        Command::new("nm")
            .args(["-D", "--defined-only", "--format=posix"])
            .arg(directory.join("libduralog.so")),
    );
    let exported: BTreeSet<&str> = output
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut header = fs::read_to_string(header_path()).unwrap();
    for (_, feature, name, _) in OPTIONAL {
        if !features.split([' ', ',']).any(|given| given == feature) {
            header = without_section(&header, name);
        }
    }
    let declared = declared_functions(&header);
    let declared: BTreeSet<&str> = declared.iter().map(String::as_str).collect();
    assert!(declared.len() >= 20, "{declared:?}");
    let directory = directory.display();
    assert_eq!(exported, declared, "{directory}, features {features:?}");
}

/// The header as a program sees it that does not define `name`.
fn without_section(header: &str, name: &str) -> String {
    let (before, rest) = header.split_once(&format!("#if defined({name})")).unwrap();
    let (_, behind) = rest.split_once(&format!("#endif /* {name} */")).unwrap();
    before.to_owned() + behind
}

/// Names of functions declared in `header`: what stands before a parenthesis at the start of a
/// declaration that is neither a type nor a macro nor a comment.
fn declared_functions(header: &str) -> Vec<String> {
    header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter(|line| !line.starts_with("typedef") && !line.starts_with("extern"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .map(str::to_owned)
        .collect()
}

#[test]
#[cfg(target_pointer_width = "64")]
fn structs_have_the_sizes_of_the_first_version() {
    let expected = [
        (
            "duralog_error_t",
            56,
            size_of::<last_error::duralog_error_t>(),
        ),
        ("wal_options_t", 48, size_of::<options::wal_options_t>()),
        ("wal_op_t", 40, size_of::<append::wal_op_t>()),
        ("wal_record_t", 64, size_of::<replay::wal_record_t>()),
        ("wal_page_t", 104, size_of::<cursor::wal_page_t>()),
        ("wal_stat_t", 144, size_of::<stat::wal_stat_t>()),
        (
            "wal_recovery_report_t",
            648,
            size_of::<recovery_report::wal_recovery_report_t>(),
        ),
        (
            "eventstore_options_t",
            32,
            size_of::<eventstore::eventstore_options_t>(),
        ),
        (
            "eventstore_stat_t",
            64,
            size_of::<eventstore::eventstore_stat_t>(),
        ),
        (
            "eventstore_new_event_t",
            152,
            size_of::<eventstore_append::eventstore_new_event_t>(),
        ),
        (
            "eventstore_columns_t",
            136,
            size_of::<eventstore_columns::eventstore_columns_t>(),
        ),
        (
            "eventstore_receipt_t",
            48,
            size_of::<eventstore_receipt::eventstore_receipt_t>(),
        ),
        (
            "eventstore_stream_versions_t",
            56,
            size_of::<eventstore_receipt::eventstore_stream_versions_t>(),
        ),
        (
            "eventstore_conflict_t",
            48,
            size_of::<eventstore_receipt::eventstore_conflict_t>(),
        ),
        (
            "eventstore_read_t",
            64,
            size_of::<eventstore_cursor::eventstore_read_t>(),
        ),
        (
            "eventstore_event_t",
            200,
            size_of::<eventstore_cursor::eventstore_event_t>(),
        ),
        (
            "eventstore_page_t",
            208,
            size_of::<eventstore_cursor::eventstore_page_t>(),
        ),
        (
            "eventstore_stream_info_t",
            32,
            size_of::<eventstore_facts::eventstore_stream_info_t>(),
        ),
        (
            "eventstore_names_page_t",
            72,
            size_of::<eventstore_names::eventstore_names_page_t>(),
        ),
        (
            "eventstore_snapshot_info_t",
            40,
            size_of::<eventstore_snapshot::eventstore_snapshot_info_t>(),
        ),
        (
            "eventstore_index_report_t",
            624,
            size_of::<eventstore_verify::eventstore_index_report_t>(),
        ),
        (
            "eventstore_import_options_t",
            24,
            size_of::<eventstore_ndjson::eventstore_import_options_t>(),
        ),
        (
            "eventstore_import_report_t",
            48,
            size_of::<eventstore_ndjson::eventstore_import_report_t>(),
        ),
        (
            "eventstore_export_options_t",
            24,
            size_of::<eventstore_ndjson::eventstore_export_options_t>(),
        ),
        (
            "eventstore_export_report_t",
            24,
            size_of::<eventstore_ndjson::eventstore_export_report_t>(),
        ),
    ];
    let mut source = String::from("#define DURALOG_NDJSON\n#include \"duralog.h\"\n");
    for (name, first, now) in expected {
        // A struct may grow only by a field at its end; then the first version's size stays in
        // `SizedStruct::LEN_FIRST` and the number here changes with the changelog.
        assert_eq!(now, first, "{name}");
        let check = format!("char {name}_size[sizeof({name}) == {now} ? 1 : -1];\n");
        source.push_str(&check);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sizes.c");
    fs::write(&path, source).unwrap();
    for language in common::LANGUAGES {
        common::run(common::compiler(language).arg("-fsyntax-only").arg(&path));
    }
}
