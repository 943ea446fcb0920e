//! Shows what the C face promises to C programs: every bad argument is an error and never a crash,
//! the last error is the thread's own and names the place, handles are released in any order,
//! nothing leaks and no borrow ends early.
//!
//! The checks are C programs in `tests/c`, built with warnings as errors against the shared library
//! beside this test. Each runs as it is and, where there is valgrind, under it. The logs that they
//! leave, some of them damaged, are also read by the pure-Python reader.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;
#[path = "common/differential.rs"]
mod differential;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `tests/c/<name>.c` and runs it in an empty directory, with and without valgrind.
fn check(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let program = build(name, directory.path());
    let mut runs = vec![Command::new(&program)];
    runs.extend(common::valgrind(&program));
    for (number, mut command) in runs.into_iter().enumerate() {
        let empty = directory.path().join(number.to_string());
        std::fs::create_dir(&empty).unwrap();
        let printed = common::run(command.arg(&empty));
        // A program that checked nothing has shown nothing.
        let checks: u32 = printed
            .split(' ')
            .next()
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
        assert!(checks >= 50, "{name} printed {printed:?}");
        let compared = differential::compare_logs_below(&empty);
        assert!(compared > 0, "{name} left no log");
    }
}

fn build(name: &str, directory: &Path) -> PathBuf {
    let source = common::root()
        .join("tests/c")
        .join(name)
        .with_extension("c");
    let program = directory.join(name);
    common::compile_c(&[&source], &program);
    program
}

#[test]
fn bad_arguments_are_errors_and_nothing_else() {
    check("abuse");
}

#[test]
fn last_error_is_the_threads_own_and_names_the_place() {
    check("errors");
}

#[test]
fn handles_and_borrows_live_as_long_as_the_header_says() {
    check("lifetimes");
}

#[test]
fn bad_arguments_of_the_event_store_are_errors_and_nothing_else() {
    check("eventstore_abuse");
}

#[test]
fn events_and_borrows_live_as_long_as_the_header_says() {
    check("eventstore_lifetimes");
}

#[test]
fn a_failed_check_fails_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("wrong.c");
    let text = "#include \"check.h\"\nint main(void) {\n\
                GIVES(DURALOG_OK, wal_sync(NULL));\nHOLDS(1);\nreturn check_result();\n}\n";
    std::fs::write(&source, text).unwrap();
    std::fs::copy(
        common::root().join("tests/c/check.h"),
        directory.path().join("check.h"),
    )
    .unwrap();
    let program = directory.path().join("wrong");
    common::compile_c(&[&source], &program);
    let output = Command::new(&program).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        printed.contains("expected DURALOG_OK, found DURALOG_E_INVALID_ARGUMENT"),
        "{printed}"
    );
}

#[test]
fn valgrind_would_notice_a_leak_and_a_borrow_that_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    for (name, body) in [
        (
            "leak",
            "wal_t *wal = NULL; return wal_open(argv[argc - 1], NULL, &wal);",
        ),
        (
            "late",
            "wal_t *wal = NULL; wal_cursor_t *cursor = NULL; wal_record_t record; int sum = 0;\n\
             wal_open(argv[argc - 1], NULL, &wal);\n\
             wal_append(wal, WAL_OP_PUT, NULL, 0, BYTES(\"value\"), 5, 0, NULL);\n\
             wal_cursor_open(wal, 0, 0, &cursor);\n\
             wal_cursor_next(cursor, &record);\n\
             wal_cursor_close(cursor);\n\
             sum = record.value[0];\n\
             wal_close(wal);\n\
             return sum == 'v' ? 3 : 4;",
        ),
    ] {
        let source = directory.path().join(name).with_extension("c");
        let text = format!(
            "#include <duralog.h>\n#define BYTES(text) ((const uint8_t *)(text))\n\
             int main(int argc, char **argv) {{\n{body}\n}}\n"
        );
        std::fs::write(&source, text).unwrap();
        let program = directory.path().join(name);
        common::compile_c(&[&source], &program);
        let Some(mut valgrind) = common::valgrind(&program) else {
            return;
        };
        let log = directory.path().join(format!("{name}-log"));
        let output = valgrind.arg(&log).output().unwrap();
        assert_eq!(output.status.code(), Some(9), "{name}: {output:?}");
    }
}
