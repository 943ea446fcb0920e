//! The programs in README.md are compiled and run as they stand there, in C, Python and Rust, one
//! after the other in one directory: each prints what README.md says, and finds what the ones before
//! it have left. Files that README.md names are there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use common::{compile_c, library_dir, root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The one block of code in README.md in this language.
fn block(language: &str) -> String {
    let readme = readme();
    let fence = format!("```{language}\n");
    let blocks: Vec<&str> = readme.split(&fence).skip(1).collect();
    assert_eq!(blocks.len(), 1, "blocks in {language}");
    let (code, _) = blocks[0].split_once("```").unwrap();
    code.to_owned()
}

fn write(dir: &Path, name: &str, language: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::write(&path, block(language)).unwrap();
    path
}

/// Compiles a Rust program against the library that this test is linked to.
fn compile_rust(source: &Path, out: &Path) {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = library_dir();
    let mut command = Command::new(rustc);
    command.args(["--edition", "2021", "-D", "warnings", "-o"]);
    command.arg(out).arg(source);
    command.arg("--extern").arg(format!(
        "duralog={}",
        library.join("libduralog.rlib").display()
    ));
    command
        .arg("-L")
        .arg(format!("dependency={}", library.display()));
    run(&mut command);
}

#[test]
fn the_programs_run_as_they_stand_and_read_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let python = write(dir, "program.py", "python");
    compile_c(&[&write(dir, "program.c", "c")], &dir.join("program-c"));
    compile_rust(&write(dir, "program.rs", "rust"), &dir.join("program-rust"));
    let mut in_python = Command::new("python3");
    in_python
        .arg(python)
        .env("PYTHONPATH", root().join("bindings/python/src"))
        .env("DURALOG_LIBRARY", library_dir().join("libduralog.so"));
    let programs = [
        Command::new(dir.join("program-c")),
        in_python,
        Command::new(dir.join("program-rust")),
    ];
    let mut expected = String::new();
    for mut program in programs {
        expected.push_str(&block("text"));
        assert_eq!(run(program.current_dir(dir)), expected, "{program:?}");
    }
}

#[test]
fn what_it_links_to_is_there() {
    let readme = readme();
    let mut count = 0;
    for link in readme.split("](").skip(1) {
        let (target, _) = link.split_once(')').unwrap();
        let file = target.split('#').next().unwrap();
        assert!(root().join(file).exists(), "{target}");
        count += 1;
    }
    assert!(count > 5, "{count} links");
}
