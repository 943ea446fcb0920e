#!/usr/bin/env python3
"""The quick start: `make quickstart` builds what this needs and runs it.

A C program (examples-c/quickstart.c) puts the source files of this project into a log, one batch
per folder, and is killed with SIGKILL half-way. Python then replays the log and compares it with
the files, byte for byte; so does the second reader, in pure Python, that shares no code with the
library. Then the C program is started again and completes the job.

    tools/quickstart.py PROGRAM [WORK]

The log goes to WORK/log, in place of what is there. DURALOG_LIBRARY names the library.

Ends with status 0 only if everything that was promised was there, and nothing else.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from itertools import groupby

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python", "src"))

import duralog                              # noqa: E402
from duralog import format as pure_python   # noqa: E402

PAUSE_MS = 20  # between two batches, so that there is a middle to be killed in
NO_SOURCES = ("target", "build", "dist", "__pycache__")


def source_folders():
    """Every folder with source files: its name, and the contents of its files by path."""
    folders = []
    for folder, inner, names in os.walk("."):
        inner[:] = sorted(name for name in inner
                          if name not in NO_SOURCES and name[0] != "." and not name.endswith(".egg-info"))
        folder = os.path.relpath(folder)
        files = {}
        for path in (f"{folder}/{name}" for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    files[os.fsencode(path)] = file.read()
        if files:
            folders.append((folder, files))
    return folders


def start(program, log, names):
    return subprocess.Popen([program, log, str(PAUSE_MS), *names], stdout=subprocess.PIPE, text=True)


def run_and_kill(program, log, names):
    """Runs the program and kills it after a random batch. Returns the number that it acknowledged."""
    wanted = random.randint(1 + len(names) // 4, len(names) * 3 // 4)
    child = start(program, log, names)
    acked = 0
    for line in child.stdout:
        acked += line.startswith("ack ")
        if acked == wanted and child.poll() is None:
            time.sleep(random.random() * PAUSE_MS / 1000)  # somewhere between two batches, or in one
            child.kill()
            break
    acked += sum(line.startswith("ack ") for line in child.stdout)  # said before it died
    return acked, child.wait()


def replay(log):
    """The batches in the log, each as contents by path, through the library."""
    with duralog.Wal(log, read_only=True) as wal:
        return [{record.key: record.value for record in batch.records} for batch in wal.batches()]


def replay_in_pure_python(log):
    """The same from FORMAT.md alone, and what this reader says about the end."""
    reader = pure_python.open_log(log)
    batches = [{record.key: record.value for record in batch}
               for _, batch in groupby(reader.records(), lambda record: record.batch_id)]
    return batches, reader.verdict()


def check(condition, what):
    if not condition:
        print(f"\nNOT AS PROMISED: {what}")
        sys.exit(1)


def compare(log, folders, acked):
    """Everything acknowledged is there and right, and nothing partial. Returns the batches there."""
    batches = replay(log)
    for (name, files), batch in zip(folders, batches):
        check(set(batch) == set(files), f"the batch of {name} has {len(batch)} files of {len(files)}")
        check(batch == files, f"the batch of {name} differs from its files")
    check(acked <= len(batches) <= acked + 1, f"{acked} acknowledged, {len(batches)} found")
    others, verdict = replay_in_pure_python(log)
    check(others == batches, "the two readers differ")
    files = sum(map(len, batches))
    print(f"   Found {len(batches)} batches with {files} files. Acknowledged were {acked}: all of them are there.")
    if len(batches) > acked:
        print("   One more was committed, but the program died before it could say so: it counts.")
    print("   Compared with the files, byte for byte: all equal. Batches with a part missing: none.")
    print("   The reader in pure Python, written from FORMAT.md alone, finds the same, and says of"
          f"\n   the end of the log: {verdict.verdict}, {verdict.reason}.")
    return len(batches)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    work = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "target", "quickstart"))
    log = os.path.join(work, "log")
    os.chdir(ROOT)
    began = time.monotonic()

    folders = source_folders()
    names = [name for name, _ in folders]
    contents = [content for _, files in folders for content in files.values()]
    print(f"Duralog {duralog.library_version()}, quick start\n")
    print("1. The input: the source files of this project.")
    print(f"   {len(folders)} folders, {len(contents)} files, {sum(map(len, contents)):,} bytes."
          " One batch per folder: key = path, value = contents.")

    for _ in range(5):
        shutil.rmtree(log, ignore_errors=True)
        os.makedirs(work, exist_ok=True)
        acked, status = run_and_kill(program, log, names)
        if status < 0:
            break  # on a very busy machine the program may have been faster than the kill
        check(status == 0, f"the program ended with status {status}")
    check(status < 0, "the program was faster than the kill, five times")
    print("\n2. A C program appends them (examples-c/quickstart.c), until it is killed (SIGKILL).")
    print(f"   It died after it had acknowledged {acked} of {len(folders)} batches,"
          f" the last one for {names[acked - 1]}.")

    print("\n3. Python replays what is there, only reading.")
    found = compare(log, folders, acked)

    print("\n4. The C program is started again. The log knows what is in it: it goes on from there.")
    child = start(program, log, names)
    said = child.communicate()[0].split("\n")
    check(child.returncode == 0, f"the program ended with status {child.returncode}")
    check(said[0] == f"found {found}", f"the program said {said[0]!r}, Python found {found}")
    added = sum(line.startswith("ack ") for line in said)
    print(f"   It found {found} batches and added {added}.")

    print("\n5. Python replays it all.")
    compare(log, folders, len(folders))

    print(f"\nAll as promised, in {time.monotonic() - began:.1f} s."
          f" The log is in {os.path.relpath(log)}; to look into it:")
    print(f"   PYTHONPATH=bindings/python/src python3 -m duralog.format {os.path.relpath(log)}")


main()
