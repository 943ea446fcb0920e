#!/usr/bin/env python3
"""Plants bugs in the durable core, one at a time, and shows which test notices each.

    tools/mutants.py [--list] [--only NAME]

Each mutant replaces one piece of text in one source file, in a copy of the project below target/.
The tests named in SUITES run in that order until one fails. A mutant that no test notices is a hole
in the tests: the command prints it and exits 1. A mutant whose text is not in the source any more
is an error too, so that this list follows the code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants" / "tree"
BUILD = ROOT / "target" / "mutants" / "build"
#: Seconds that one suite may take before it counts as hanging, which is a way of being noticed.
SUITE_SECONDS_MAX = 420

#: Test binaries in the order in which they are tried: the fast and general ones first.
SUITES = (
    ["--lib"],
    ["--test", "log", "--test", "repair", "--test", "mapped"],
    ["--test", "crash_points"],
    ["--test", "evidence"],
    ["--test", "faults"],
    ["--test", "damage"],
    ["--test", "threads", "--test", "processes"],
)

WRITER = "src/wal/append/segment_writer.rs"
ROTATION = "src/wal/append/segment_writer/rotation.rs"
RETENTION = "src/wal/append/segment_writer/retention.rs"
COMMITTER = "src/wal/append/group_committer.rs"
READER = "src/wal/replay/segment_reader.rs"
SEGMENT_END = "src/wal/replay/cursor/segment_end.rs"
FILES = "src/wal/segment_file.rs"
OPEN = "src/wal/open.rs"
RESTART = "src/wal/recovery/restart.rs"
JUDGE = "src/wal/recovery/judge.rs"
CONTROL = "src/wal/control_file.rs"
FRAME = "src/format/frame.rs"


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` in `path` becomes `new`."""

    name: str
    path: str
    old: str
    new: str


MUTANTS = (
    Mutant("group is not synced", WRITER, "if let Err(error) = self.file.sync_data() {", "if let Err(error) = std::io::Result::Ok(()) {"),
    Mutant("failed sync is tried again and believed", WRITER, "if let Err(error) = self.file.sync_data() {", "if let Err(error) = self.file.sync_data().or_else(|_| self.file.sync_data()) {"),
    Mutant("new segment is not synced before its name", FILES, "    file.sync_data()\n        .map_err(|error| Error::sync(&path, error))?;", "    let _ = &path;"),
    Mutant("directory is not synced after a rename", FILES, "    vfs.sync_dir(layout.dir())\n        .map_err(|error| Error::sync(layout.dir(), error))", "    Ok(())"),
    Mutant("parent directory is not synced", OPEN, "    vfs.sync_dir(layout.parent())\n        .map_err(|error| Error::sync(layout.parent(), error))?;", "    let _ = layout.parent();"),
    Mutant("control file is not synced", CONTROL, "        self.file\n            .sync_data()\n            .map_err(|error| Error::sync(&path, error))?;", ""),
    Mutant("name of the control file is not synced", CONTROL, "            vfs.sync_dir(layout.dir())\n                .map_err(|error| Error::sync(layout.dir(), error))?;", ""),
    Mutant("segment is not synced before its successor", ROTATION, "self.sync_segment().map_err(RotateFault::fatal)?;", ""),
    Mutant("salt is not compared", READER, "if header.salt != self.header.salt {", "if false {"),
    Mutant("link is not compared", READER, "if header.link != self.link {", "if false {"),
    Mutant("place is not compared", READER, "if header.lsn != self.lsn() || header.lsn.0 == u64::MAX {", "if false {"),
    Mutant("header checksum is not compared", FRAME, "if crc32(&bytes[4..]) != header_crc {", "if false {"),
    Mutant("payload checksum is not compared", READER, "if computed != header.payload_crc {", "if false {"),
    Mutant("payload checksum is not compared in pages", READER, "if crc32(payload) != header.payload_crc {", "if false {"),
    Mutant("a frame that reaches beyond the end is the end", SEGMENT_END, "                if at >= end.lsn {", "                if *cause == StopCause::Limit || at >= end.lsn {"),
    Mutant("the clean close is believed without its last frame", JUDGE, "    if !holds {", "    if false {"),
    Mutant("a file is used again under who looks at it", FILES, "match file.lock(FileLock::Exclusive) {", "match io::Result::Ok(true) {"),
    Mutant("who looks at a file does not hold it", FILES, "    if !matches!(file.lock(FileLock::Shared), Ok(true)) {", "    if false {"),
    Mutant("evidence is not compared", JUDGE, "below_evidence: walked.stop.lsn < evidence.lsn,", "below_evidence: false,"),
    Mutant("no look for live frames beyond", JUDGE, "if !walked.structure.sealed && walked.read_error.is_none() {", "if false {"),
    Mutant("control file is no evidence", JUDGE, "evidence.raise(control.durable_lsn, EvidenceSource::Control);", "let _ = control;"),
    Mutant("failure does not poison", COMMITTER, "if state.refusal.is_none() {", "if false {"),
    Mutant("acknowledged before the write", COMMITTER, "        let ticket = state.ticket;\n", "        let ticket = state.ticket;\n        if state.leading {\n            return Ok(Receipt::default());\n        }\n"),
    Mutant("only the leader's group is told of a failure", COMMITTER, "Some(error) if index >= self.good =>", "Some(error) if index >= self.good && index == 0 =>"),
    Mutant("nobody is woken", COMMITTER, "        self.committer.done.notify_all();", ""),
    Mutant("readers see a group before it is synced", WRITER, "        self.unsynced_batches += batches;\n", "        self.unsynced_batches += batches;\n        self.publish();\n"),
    Mutant("recycled file keeps its salt", ROTATION, "salt: new_salt(self.vfs.as_ref()).map_err(RotateFault::fatal)?,", "salt: self.header.salt,"),
    Mutant("no gap in the LSNs after an unclean end", RESTART, "    let least = end.0.checked_add(LSN_GAP_MIN)?;", "    if end.0 > 0 {\n        return Some(end);\n    }\n    let least = end.0.checked_add(LSN_GAP_MIN)?;"),
    Mutant("what no evidence covers is not copied", RESTART, "if closed.lsn > judgement.evidence.lsn {", "if false {"),
    Mutant("goes on in the same segment after a crash", OPEN, "        && control.closed\n        && control.end_lsn == closed.lsn\n        && control.durable_lsn == closed.lsn;", ";"),
    Mutant("truncation is noted in one slot only", RETENTION, "self.control.write_both(control)", "self.control.write(control)"),
    Mutant("truncation before the records are durable", RETENTION, "        let synced = self.sync();\n        if synced.result.is_err() {\n            return synced;\n        }\n        // An attempt", "        // An attempt"),
    Mutant("open batch counts as closed", JUDGE, "if structure.open.is_none() {", "if true {"),
    Mutant("no end mark behind a group", WRITER, "                group.bytes.resize(group.bytes.len() + HEADER_LEN, 0);\n", ""),
)


def lay_out() -> None:
    """Copies the tracked files, so that nothing of the working tree is touched."""
    if COPY.exists():
        shutil.rmtree(COPY)
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    for name in names:
        source = ROOT / name
        if source.is_file():
            target = COPY / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run_suite(suite: list) -> str:
    """Runs one suite; returns how it failed, or an empty text."""
    environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILD), RUST_BACKTRACE="0")
    # What a planted bug leaves unused is a warning here, not the error that it is elsewhere.
    environment["RUSTFLAGS"] = "--cap-lints warn"
    # A planted bug shows up early; the full number of images is for what has none.
    environment.setdefault("DURALOG_CRASH_IMAGES", "6000")
    environment.setdefault("DURALOG_DAMAGE_SAMPLE", "20")
    command = ["cargo", "test", "--quiet", "--no-fail-fast", *suite]
    try:
        done = subprocess.run(
            command, cwd=COPY, env=environment, capture_output=True, text=True,
            timeout=SUITE_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        subprocess.run(["pkill", "-9", "-f", str(BUILD)], check=False)
        return f"{suite[-1]} hangs"
    if done.returncode == 0:
        return ""
    if "error: could not compile" in done.stderr:
        return "does not compile: " + done.stderr.split("error", 1)[1][:200]
    failed = [line.split()[1] for line in done.stdout.splitlines()
              if line.startswith("test ") and line.endswith("FAILED")]
    failed += [line.strip() for line in done.stdout.splitlines()
               if line.startswith("    ") and "::" not in line and " " not in line.strip()]
    return f"{' '.join(suite[1::2]) or 'unit tests'}: {failed[0] if failed else 'failed'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the mutants and exit")
    parser.add_argument("--only", help="only mutants whose name contains this")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.only or arguments.only in m.name]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.path}: {mutant.name}")
        return 0
    lay_out()
    missed = 0
    for number, mutant in enumerate(chosen, 1):
        path = COPY / mutant.path
        text = path.read_text()
        if mutant.old not in text:
            print(f"{number:2}. {mutant.name}: its text is not in {mutant.path} any more", flush=True)
            missed += 1
            continue
        path.write_text(text.replace(mutant.old, mutant.new, 1))
        begin = time.monotonic()
        noticed = ""
        for suite in SUITES:
            noticed = run_suite(suite)
            if noticed:
                break
        path.write_text(text)
        missed += not noticed or noticed.startswith("does not compile")
        seconds = time.monotonic() - begin
        print(f"{number:2}. {mutant.name}: {noticed or 'NOT NOTICED'} ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
