//! What tests that build and run C share: the compiler, the library beside the test, valgrind.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A language in which the header must be clean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    C99,
    C11,
    Cpp17,
}

/// All of them.
pub(crate) const LANGUAGES: [Language; 3] = [Language::C99, Language::C11, Language::Cpp17];

/// The package's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Directory of `libduralog.so` as this test run has built it: that of the test executable. Or what
/// `DURALOG_TEST_LIBRARY` says: under ThreadSanitizer, which other programs can't load.
pub(crate) fn library_dir() -> PathBuf {
    if let Some(directory) = std::env::var_os("DURALOG_TEST_LIBRARY") {
        return directory.into();
    }
    let executable = std::env::current_exe().unwrap();
    let found = executable
        .ancestors()
        .skip(1)
        .take(2)
        .find(|directory| directory.join("libduralog.so").is_file());
    match found {
        Some(directory) => directory.to_owned(),
        None => panic!("no libduralog.so beside {}", executable.display()),
    }
}

/// The system's compiler with every warning an error, set to find `duralog.h`.
pub(crate) fn compiler(language: Language) -> Command {
    let libc = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    let machine = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    let tool = cc::Build::new()
        .cpp(matches!(language, Language::Cpp17))
        .target(&machine)
        .host(&machine)
        .opt_level(1)
        .cargo_metadata(false)
        .get_compiler();
    let mut command = Command::new(tool.path());
    match language {
        Language::C99 => command.args(["-x", "c", "-std=c99"]),
        Language::C11 => command.args(["-x", "c", "-std=c11"]),
        Language::Cpp17 => command.args(["-x", "c++", "-std=c++17"]),
    };
    command
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"])
        .arg("-I")
        .arg(root().join("include"));
    command
}

/// Builds a C99 program from `sources` against the shared library, warnings as errors.
pub(crate) fn compile_c(sources: &[&Path], out: &Path) {
    let library = library_dir();
    let mut command = compiler(Language::C99);
    command.args(sources).arg("-o").arg(out);
    // What the features of the library add, all of which tests have.
    command.arg("-DDURALOG_NDJSON");
    command.arg("-L").arg(&library).arg("-lduralog");
    command.arg("-pthread");
    // Searched before LD_LIBRARY_PATH, which cargo sets for tests.
    command.arg("-Wl,--disable-new-dtags");
    command.arg(format!("-Wl,-rpath,{}", library.display()));
    run(&mut command);
}

/// Runs `command` to its end and returns what it printed; a failure stops the test with both
/// outputs.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// A command that runs `program` under valgrind and ends with 9 on any invalid access or leak;
/// `None`, with a message, where valgrind is not installed.
pub(crate) fn valgrind(program: &Path) -> Option<Command> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!(
            "valgrind is not installed: {} is not run under it",
            program.display()
        );
        return None;
    }
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=9", "--leak-check=full"])
        // "Possibly lost" is what hash tables and threads that sleep until the end look like.
        .args([
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ])
        .arg(program);
    Some(command)
}
