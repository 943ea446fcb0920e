#!/usr/bin/env python3
"""Plants bugs in the log and the event store, one at a time, and shows which test notices each.

    tools/mutants.py [--list] [--check] [--only NAME]

Each mutant replaces one piece of text in one source file, in a copy of the project below target/.
The tests of its table (LOG_SUITES, STORE_SUITES), or those that it names itself, run in that order until
one fails. A mutant that no test notices is a hole in the tests: the command prints it and exits 1. A
mutant whose text is not in the source any more is an error too, so that this list follows the code;
--check looks for that alone, which takes no time and is part of `make test`.
"""

import argparse
import os
import re
import shutil
import signal
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
LOG_SUITES = (
    ["--lib"],
    ["--test", "log", "--test", "repair", "--test", "prepare", "--test", "mapped", "--test", "mapped_appends",
     "--test", "long_replay"],
    ["--test", "direct_writes", "--test", "without_waiting"],
    ["--test", "crash_points"],
    ["--test", "crash_flights"],
    ["--test", "evidence"],
    ["--test", "faults"],
    ["--test", "damage"],
    ["--test", "threads", "--test", "processes"],
)
STORE_SUITES = (
    ["--test", "eventstore", "--test", "eventstore_subscriptions", "--test", "eventstore_snapshots"],
    ["--test", "eventstore_limits", "--test", "eventstore_time", "--test", "eventstore_growth"],
    ["--test", "eventstore_index", "--test", "eventstore_verify"],
    ["--test", "eventstore_model"],
    ["--test", "eventstore_bank"],
    ["--test", "eventstore_faults"],
    ["--test", "eventstore_crash"],
    ["--test", "fuzz_smoke"],
    ["--lib"],
)

#: For what only one of them shows.
FAULTS = (["--test", "faults"],)
DAMAGE = (["--test", "damage"],)

WRITER = "src/wal/append/segment_writer.rs"
ROTATION = "src/wal/append/segment_writer/rotation.rs"
RETENTION = "src/wal/append/segment_writer/retention.rs"
COMMITTER = "src/wal/append/group_committer.rs"
LOCK = "src/wal/append/group_committer/lock.rs"
STATE = "src/wal/append/group_committer/state.rs"
ALONE = "src/wal/append/group_committer/alone.rs"
TURN = "src/wal/append/group_committer/turn.rs"
TICKETS = "src/wal/append/group_committer/tickets.rs"
FORETOLD = "src/wal/append/group_committer/foretold.rs"
GROUP = "src/wal/append/group.rs"
FLIGHT = "src/wal/append/segment_writer/flight.rs"
SIM_DISK = "src/vfs/sim/disk.rs"
READER = "src/wal/replay/segment_reader.rs"
READ_AHEAD = "src/wal/replay/read_ahead.rs"
STRUCTURE = "src/wal/replay/structure.rs"
PAGE = "src/wal/replay/cursor/page.rs"
SEGMENT_END = "src/wal/replay/cursor/segment_end.rs"
FILES = "src/wal/segment_file.rs"
OPEN = "src/wal/open.rs"
VIEW = "src/wal/view.rs"
SURVEY = "src/wal/survey.rs"
SEGMENTS = "src/wal/segments.rs"
RESTART = "src/wal/recovery/restart.rs"
JUDGE = "src/wal/recovery/judge.rs"
CONTROL = "src/wal/control_file.rs"
HOUSEKEEPER = "src/wal/housekeeper.rs"
ROOM = "src/wal/append/room.rs"
SPACE = "src/wal/append/segment_writer/space.rs"
LARGE = "src/wal/append/segment_writer/large_batch.rs"
POOL = "src/wal/append/ready_pool.rs"
VFS = "src/vfs/os.rs"
IN_PLACE = "src/vfs/os/in_place.rs"
PAGE_TABLE = "src/vfs/os/page_table.rs"
FRAME = "src/format/frame.rs"
WAL = "src/wal/mod.rs"
WATCH = "src/wal/view/watch.rs"
SEQUENCER = "src/eventstore/sequencer.rs"
DECIDE = "src/eventstore/decide.rs"
VERDICT = "src/eventstore/sequencer/verdict.rs"
VERSIONS = "src/eventstore/sequencer/versions.rs"
NAME = "src/eventstore/name.rs"
REQUEST = "src/eventstore/request.rs"
PAYLOAD = "src/eventstore/sequencer/payload.rs"
ANSWERS = "src/eventstore/catalog/answers.rs"
HEALING = "src/eventstore/catalog/healing.rs"
MAKING = "src/eventstore/catalog/making.rs"
REPLAY = "src/eventstore/replay.rs"
PUBLISHED = "src/eventstore/published.rs"
SUBSCRIPTION = "src/eventstore/subscription.rs"
SNAPSHOT = "src/eventstore/snapshot.rs"
STORE_READER = "src/eventstore/reader.rs"
MERGING = "src/eventstore/catalog/merging.rs"
STORE_AHEAD = "src/eventstore/read_ahead.rs"
RUN_READER = "src/eventstore/index/run_reader.rs"
TREE = "src/eventstore/index/tree.rs"
CATALOG = "src/eventstore/catalog.rs"
MERGING = "src/eventstore/catalog/merging.rs"
INSPECTION = "src/eventstore/index/run_reader/inspection.rs"


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` in `path` becomes `new`."""

    name: str
    path: str
    old: str
    new: str
    suites: tuple = LOG_SUITES


LOG_MUTANTS = (
    Mutant("group is not synced", WRITER, "if let Err(error) = self.file.sync_data() {", "if let Err(error) = std::io::Result::Ok(()) {"),
    Mutant("failed sync is tried again and believed", WRITER, "if let Err(error) = self.file.sync_data() {", "if let Err(error) = self.file.sync_data().or_else(|_| self.file.sync_data()) {"),
    Mutant("new segment is not synced before its name", FILES, "    file.sync_data()\n        .map_err(|error| Error::sync(&path, error))?;", "    let _ = &path;"),
    Mutant("directory is not synced after a rename", FILES, "    vfs.sync_dir(layout.dir())\n        .map_err(|error| Error::sync(layout.dir(), error))", "    Ok(())"),
    Mutant("parent directory is not synced", OPEN, "    vfs.sync_dir(layout.parent())\n        .map_err(|error| Error::sync(layout.parent(), error))?;", "    let _ = layout.parent();"),
    Mutant("control file is not synced", CONTROL, "        self.file\n            .sync_data()\n            .map_err(|error| Error::sync(&path, error))?;", ""),
    Mutant("name of the control file is not synced", CONTROL, "            vfs.sync_dir(layout.dir())\n                .map_err(|error| Error::sync(layout.dir(), error))?;", ""),
    Mutant("segment is not synced before its successor", ROTATION, "self.sync_segment().map_err(RotateFault::fatal)?;", ""),
    Mutant("salt is not compared", READER, "header.salt == segment.salt", "true"),
    Mutant("link is not compared", READER, "header.link == self.link\n", "true\n"),
    Mutant("place is not compared", READER, "header.lsn == segment.lsn_at(self.offset)", "true"),
    Mutant("header checksum is not compared", FRAME, "if crc32(&bytes[4..]) != header_crc {", "if false {"),
    Mutant("payload checksum is not compared", READER, "if computed != header.payload_crc {", "if false {"),
    Mutant("payload checksum is not compared in pages", READER, "(computed == header.payload_crc).then_some", "true.then_some"),
    Mutant("a checksum computed ahead is believed to be right", READER, "sum.len == payload_len => sum.crc,", "sum.len == payload_len => header.payload_crc,"),
    Mutant("checksums computed ahead stay when the bytes move", READER, "        self.sums.clear();\n", ""),
    Mutant("checksums are computed ahead of payloads that the piece cuts", READ_AHEAD, "and_then(|rest| rest.get(..len)) else {", "map(|rest| rest.get(..len).unwrap_or(rest)) else {"),
    Mutant("checksums are computed ahead of what stands elsewhere", FRAME, "(get_u32(bytes, 20) == salt && get_u64(bytes, 24) == lsn.0).then(", "(get_u32(bytes, 20) == salt).then("),
    Mutant("who follows a log opens its small files each time", WATCH, "                self.kept()[which] = Some(Arc::clone(&file));\n", ""),
    Mutant("number of a whole batch is not compared in pages", STRUCTURE, "            && header.first_seq == self.next_seq\n", ""),
    Mutant("whole batch in pages begins inside another", STRUCTURE, "            && self.open.is_none();", ";"),
    Mutant("records of a whole batch need not fill it in pages", PAGE, "records.put(&mut rows, base) == Some(frame.payload.len())", "records.put(&mut rows, base).is_some()"),
    Mutant("a frame that reaches beyond the end is the end", SEGMENT_END, "                if at >= end.lsn {", "                if *cause == StopCause::Limit || at >= end.lsn {"),
    Mutant("the clean close is believed without its last frame", JUDGE, "    if !holds {", "    if false {"),
    Mutant("a file is used again under who looks at it", FILES, "match file.lock(FileLock::Exclusive) {", "match io::Result::Ok(true) {"),
    Mutant("who looks at a file does not hold it", FILES, "    if !matches!(file.lock(FileLock::Shared), Ok(true)) {", "    if false {"),
    Mutant("evidence is not compared", JUDGE, "below_evidence: walked.stop.lsn < evidence.lsn,", "below_evidence: false,"),
    Mutant("no look for live frames beyond", JUDGE, "if !walked.structure.sealed && walked.read_error.is_none() {", "if false {"),
    Mutant("control file is no evidence", JUDGE, "evidence.raise(control.durable_lsn, EvidenceSource::Control);", "let _ = control;"),
    Mutant("failure does not poison", STATE, "if self.refusal.is_none() {", "if false {"),
    Mutant("acknowledged before the write", COMMITTER, "        let ticket = state.ticket;\n", "        let ticket = state.ticket;\n        if state.leading {\n            return Ok(Receipt::default());\n        }\n"),
    Mutant("only the first of a group is told of a failure", GROUP, "Some(error) if index >= self.good =>", "Some(error) if index >= self.good && index == 0 =>", FAULTS),
    Mutant("a group under way counts as an idle moment", HOUSEKEEPER, "if groups != Some(log.groups) {", "if groups.unwrap_or(log.groups) != log.groups {"),
    Mutant("opening reads every header", OPEN, "match survey(vfs.as_ref(), &layout, Headers::Last)? {", "match survey(vfs.as_ref(), &layout, Headers::All)? {", (["--test", "eventstore_growth"],)),
    Mutant("a missing segment is not looked for", SURVEY, "if !numbers.iter().copied().eq(expected) {", "if numbers.is_empty() && expected.is_empty() {", DAMAGE),
    Mutant("headers are believed in any order", SEGMENTS, "            check_order(layout, before, &header)?;\n", "            let _ = check_order(layout, before, &header);\n", DAMAGE),
    Mutant("a header of another log is taken", SEGMENTS, "match log_id.filter(|log_id| header.log_id != **log_id) {", "match log_id.filter(|_| false) {", DAMAGE),
    Mutant("what stands in a damaged segment is looked for before it", SEGMENTS, "Some((&number, Entry::Refused)) => self.get(number),", "Some((_, Entry::Refused)) => Ok(found),"),
    Mutant("one damaged header ends every search", SEGMENTS, "                optional: true,\n", "                optional: false,\n", DAMAGE),
    Mutant("a damaged header behind hides the segment before it", VIEW, "limit.unwrap_or_else(|error| Limit::End(End::refused(error)))", "limit.unwrap_or(Limit::Gone)", DAMAGE),
    Mutant("a segment that was truncated counts as missing", VIEW, "                    self.refresh_retention()?;\n                    if self.state()", "                    if self.state()"),
    Mutant("salvage wants the control file whole", CONTROL, "Ok(read_slot(file.as_ref(), slot, bytes).unwrap_or(0))", "read_slot(file.as_ref(), slot, bytes)", DAMAGE),
    Mutant("nobody is woken", LOCK, "            committer.slots[groups.trailing_zeros() as usize].notify_all();\n", ""),
    Mutant("no thread is woken to lead", LOCK, "            committer.slots[slot].notify_one();\n", "            let _ = slot;\n"),
    Mutant("who waits himself forgets whom he was to wake", LOCK, "        wakes.wake();\n        (state, wakes)", "        wakes.groups = 0;\n        (state, wakes)"),
    Mutant("nobody is woken to lead the store's next turn", SEQUENCER, "            self.done[next].notify_one();\n", ""),
    Mutant("nobody is woken when the store's turn is over", SEQUENCER, "            self.done[over].notify_all();\n", ""),
    Mutant("leader of the store who goes on forgets whom he is to wake", SEQUENCER, "                    self.done[place_of(number)].notify_all();\n", ""),
    Mutant("who is left for later waits for the wrong turn", SEQUENCER, "turn_number = turn_number.max(queue.turn.saturating_sub(1));", "turn_number = turn_number.max(0);"),
    Mutant("pages are entered from the disk", PAGE_TABLE, "Ok(true) if self.claim(window)", "Ok(_) if self.claim(window)"),
    Mutant("what the thread is at is entered by others", PAGE_TABLE, "        if self.is_underway.load(Ordering::Relaxed) {\n            return false;\n        }\n", ""),
    Mutant("the thread is at work for ever", PAGE_TABLE, "        mapping.is_underway.store(false, Ordering::Relaxed);\n", "        let _ = mapping;\n"),
    Mutant("the rest of a mapping is entered for who reads little", PAGE_TABLE, "if before + 1 == ENTERED_ALONE", "if before + 1 == ENTERED_ALONE.min(1)"),
    Mutant("leaders pass who looks at the writer", COMMITTER, "        drop(self.looking());\n", ""),
    Mutant("small group flies beside large ones", STATE, "in_flight < FEW_BATCHES || ", "in_flight < usize::MAX || "),
    Mutant("flight lands before those ahead of it", TURN, "state.flights.front().is_some_and(|f| f.ended.is_some())", "state.flights.iter().any(|f| f.ended.is_some()) && { let ended = state.flights.iter().position(|f| f.ended.is_some()); state.flights.swap(0, ended.unwrap_or(0)); true }"),
    Mutant("flight behind one that failed is good", TURN, "(Ok(()), Some(earlier), _) => GroupOutcome::doubtful(&group, earlier.duplicate()),", "(Ok(()), Some(_), _) => GroupOutcome::good(&group),"),
    Mutant("group is not padded", FLIGHT, "        if len == 0 {\n            return;", "        if len > 0 || len == 0 {\n            return;"),
    Mutant("group in flight shares its last block", FLIGHT, "let fits = run.offset % BLOCK_LEN == 0 && ", "run.offset = run.offset.max(64) - 64;\n        let fits = "),
    Mutant("durable mark of a flight that has not landed", FLIGHT, "        self.advance(&run);\n        Some(flight)", "        self.advance(&run);\n        self.durable_lsn = flight.end_lsn;\n        Some(flight)"),
    Mutant("tail page promises a flight that has not landed", FLIGHT, "        self.advance(&run);\n        Some(flight)", "        self.advance(&run);\n        self.tail.promise(flight.end_lsn);\n        Some(flight)"),
    Mutant("readers see a flight that has not landed", FLIGHT, "        self.advance(&run);\n        Some(flight)", "        self.advance(&run);\n        self.view.publish_end(flight.end_lsn);\n        Some(flight)"),
    Mutant("flight goes where nothing is prepared", FLIGHT, " && self.has_room(run.offset);", ";"),
    Mutant("flight in a lazy mode", OPEN, "2.. if options.sync_mode == SyncMode::Every =>", "2.. =>"),
    Mutant("writes in flight are not durable", SIM_DISK, "direct: mode == OpenMode::Direct,", "direct: false,"),
    Mutant("write in flight is not durable", VFS, "libc::O_DIRECT | libc::O_DSYNC", "libc::O_DIRECT"),
    Mutant("a full batch alone does not wait for flights", ALONE, "let busy = state.leading || !state.flights.is_empty();", "let busy = state.leading;"),
    Mutant("recycled while groups are in flight", RETENTION, "self.runway.is_none() && self.in_place;", "self.in_place;"),
    Mutant("ticket is told twice", TICKETS, "        let mut settled = self.untold.drain(..=last);\n        let told = settled.len() as u64;\n        let result = settled.next_back().flatten();\n        drop(settled);\n", "        let result = self.untold.get(last)?.as_ref().map(|told| told.as_ref().map(|told| *told).map_err(Error::duplicate));\n        let (told, first_failed) = (0, None::<usize>);\n"),
    Mutant("ticket is settled by its append", TICKETS, "self.untold.push_back(None);", "self.untold.push_back(Some(Ok(Receipt::default())));\n        self.settled += 1;"),
    Mutant("failure of a ticket is passed over", TICKETS, "        let last = first_failed.unwrap_or(index);", "        let last = first_failed.map_or(index, |_| index);"),
    Mutant("who rings while the bell is silenced is not heard", "src/vfs/bell.rs", "        self.fd.drain();\n        self.rung.swap(false, Ordering::SeqCst);", "        if self.rung.swap(false, Ordering::SeqCst) {\n            self.fd.drain();\n        }"),
    Mutant("nobody rings when a ticket is settled", TICKETS, "            ring();", "            let _ = ring;"),
    Mutant("what nobody leads stays after a failure", COMMITTER, "while state.open.wanted && self.may_lead(&state) {", "while state.open.wanted && state.refusal.is_none() && self.may_lead(&state) {"),
    Mutant("woken threads still count as waiting", LOCK, "            self.state.waiting[slot(ticket)] = 0;\n", ""),
    Mutant("buffer is passed by who works alone", ALONE, "(state.foretold.is_some()\n                    || (state.ticket == open && state.waiting[slot(state.ticket)] == 0));", "(state.ticket == open && state.waiting[slot(state.ticket)] == 0);"),
    Mutant("buffer is dropped by sync and close", ALONE, "            } else if orphans {\n                state = self.lead(state);", "            } else if orphans {\n                drop(state.swap_open());"),
    Mutant("receipts are foretold without the SEAL", FORETOLD, "self.lsn = Lsn(self.lsn.0 + HEADER_LEN as u64);", ""),
    Mutant("receipts are foretold without the COMMIT", FORETOLD, "let commit = u64::from(frame.flags & frame_flag::SOLO == 0);", "let commit = 0;"),
    Mutant("buffered batch that finds no space is forgotten", STATE, "outcome.poison |= failed.any(|frame| frame.owner == Owner::Nobody);", "let _ = &mut failed;"),
    Mutant("readers see a group before it is synced", WRITER, "        self.unsynced_batches += batches;\n", "        self.unsynced_batches += batches;\n        self.publish();\n"),
    Mutant("recycled file keeps its salt", ROTATION, "salt: new_salt(self.vfs.as_ref()).map_err(RotateFault::fatal)?,", "salt: self.header.salt,"),
    Mutant("no gap in the LSNs after an unclean end", RESTART, "    let least = end.0.checked_add(LSN_GAP_MIN)?;", "    if end.0 > 0 {\n        return Some(end);\n    }\n    let least = end.0.checked_add(LSN_GAP_MIN)?;"),
    Mutant("what no evidence covers is not copied", RESTART, "if closed.lsn > judgement.evidence.lsn {", "if false {"),
    Mutant("goes on in the same segment after a crash", OPEN, "        && control.closed\n        && control.end_lsn == closed.lsn\n        && control.durable_lsn == closed.lsn;", ";"),
    Mutant("truncation is noted in one slot only", RETENTION, "self.control.write_both(control)", "self.control.write(control)"),
    Mutant("truncation before the records are durable", RETENTION, "        let synced = self.sync();\n        if synced.result.is_err() {\n            return synced;\n        }\n        // An attempt", "        // An attempt"),
    Mutant("open batch counts as closed", JUDGE, "if structure.open.is_none() {", "if true {"),
    Mutant("zeros begin before what is prepared", ROOM, "write_pieces_at(self.file.as_ref(), self.prepared, &ZEROS[..len], piece_len)", "write_pieces_at(self.file.as_ref(), self.prepared.saturating_sub(64 << 10), &ZEROS[..len], piece_len)"),
    Mutant("blocks are the writer's before their zeros are written", ROOM, "        self.allocate(end)?;\n        let (there, piece_len)", "        self.allocate(end)?;\n        if manner == Manner::Zeroed {\n            self.prepared = end;\n        }\n        let (there, piece_len)"),
    Mutant("the background goes on in the segment before", ROTATION, "        self.room.move_to(Arc::clone(&file), path, len, self.offset);", "        if header.segment_number == 0 {\n            self.room.move_to(Arc::clone(&file), path, len, self.offset);\n        }"),
    Mutant("a window outlives its segment", ROTATION, "        self.window = None;\n", ""),
    Mutant("windows that nobody has taken outlive their segment", ROOM, "        *ground = Some(fresh);\n        self.windows().clear();", "        *ground = Some(fresh);"),
    Mutant("the zeros behind a group have no window", ROOM, "begin.saturating_sub(HEADER_LEN as u64)", "begin.saturating_sub(HEADER_LEN as u64 * 0)"),
    Mutant("windows where space is not sure", ROOM, "if !ground.allocates {", "if false {"),
    Mutant("windows where blocks do not stay", WRITER, "options.mapped_appends && in_place;", "options.mapped_appends;"),
    Mutant("readers are let on before the group is written", WRITER, "        let begin = group.frames[first].at;\n", "        let end = self.header.lsn_at(run.offset);\n        self.tail.acknowledge(self.header.segment_number, end);\n        let begin = group.frames[first].at;\n"),
    Mutant("a failure while preparing is the writer's", ROOM, "            if outcome.is_err() || self.is_mapped() != mapped {\n", "            if outcome.is_err() || self.is_mapped() != mapped {\n                ground.prepared = wanted;\n                self.prepared.store(wanted, Ordering::Release);\n"),
    Mutant("prepared file keeps waiting after close", ROOM, "        self.drop_fresh(vfs, layout);\n        *self.fresh()", "        if *self.fresh() == Fresh::Closed {\n            self.drop_fresh(vfs, layout);\n        }\n        *self.fresh()"),
    Mutant("small groups get great steps", SPACE, "groups_len.clamp(STEP_LEN_MIN, AHEAD_LEN_MAX)", "groups_len.max(AHEAD_LEN_MAX).min(AHEAD_LEN_MAX)"),
    Mutant("small groups get a great file for the next segment", SPACE, "self.room.ask_fresh(limit.min(step_max));", "self.room.ask_fresh(limit.min(AHEAD_LEN_MAX));"),
    Mutant("small groups get zeros in great pieces", ROOM, "let fitting = fitting.clamp(PIECE_LEN_MIN, ZEROS.len());", "let fitting = fitting.max(PIECE_LEN_MIN).max(ZEROS.len()).min(ZEROS.len());"),
    Mutant("a full disk is kept full by what waits", SPACE, "if full && self.give_space_back() {", "if full && self.offset == 0 && self.give_space_back() {"),
    Mutant("recycled where blocks do not stay", RETENTION, "self.runway.is_none() && self.in_place;", "self.runway.is_none();"),
    Mutant("copy on write is not known", IN_PLACE, "!COPY_ON_WRITE.contains(&file_system)", "!COPY_ON_WRITE.contains(&(file_system ^ 1))"),
    Mutant("checksum of a large frame is not that of its payload", LARGE, "payload_crc: frame.checksum.value(),", "payload_crc: frame.checksum.value().min(0),"),
    Mutant("no end mark behind a large frame", LARGE, "frame.piece.resize(rest + HEADER_LEN, 0);", "frame.piece.resize(rest, 0);"),
    Mutant("what a piece cuts is not put before the next one", READER, "front.copy_from_slice(left);", "let _ = front;"),
    Mutant("a piece of another place is taken", READ_AHEAD, "if offset != asked_from {", "if offset != asked_from && offset == 0 {"),
    Mutant("no end mark behind a group", WRITER, "                group.bytes.resize(group.bytes.len() + HEADER_LEN, 0);\n", ""),
)


#: Bugs of the event store, each with its place, the text there, and what stands there instead.
STORE_MUTANTS = tuple(Mutant(*bug, suites=STORE_SUITES) for bug in (
    ("names of one hash are the same", NAME, "self.name().bytes == other.name().bytes", "self.name().hash == other.name().hash"),
    ("a type has the hash of that of the event before", REQUEST, "Some(last) if last.bytes == event.event_type.as_bytes() => last.hash(),", "Some(last) => last.hash(),"),
    ("a stream has the hash of another name", REQUEST, "hash: Name::new(stream.as_bytes()).hash(),", "hash: self.events.last().map_or_else(|| Name::new(stream.as_bytes()).hash(), |last| last.event_type.hash),"),
    ("expected version judged without the group's", VERDICT, "if let Some(version) = desk.versions.get(stream) {", "if let Some(version) = desk.versions.get(stream).filter(|_| false) {"),
    ("condition judged on the index only", DECIDE, "None => self.first_accepted_match(query, condition.after),", "None => None,"),
    ("condition begins one position late", DECIDE, "let from = condition.after.saturating_add(1);", "let from = condition.after.saturating_add(2);"),
    ("saved position may shrink", DECIDE, "if let Some(saved) = saved.filter(|&saved| given <= saved) {", "if let Some(saved) = saved.filter(|_| false) {"),
    ("saved position of the same group is not seen", DECIDE, "                Some(&position) => Some(position),\n                None => {\n                    let saved = self.snapshot", "                _ => {\n                    let saved = self.snapshot"),
    ("digest of an idempotency key is not compared", DECIDE, "if note.digest != *digest {", "if false {"),
    ("preconditions are judged before duplicates", VERDICT, "            match before.original(request)? {\n                Some(original) => Ok(Ok(original)),\n                None => before.conflicts(request).map(Err),\n            }", "            let conflicts = before.conflicts(request)?;\n            if !conflicts.is_empty() {\n                return Ok(Err(conflicts));\n            }\n            match before.original(request)? {\n                Some(original) => Ok(Ok(original)),\n                None => Ok(Err(conflicts)),\n            }"),
    ("one request twice in a group", SEQUENCER, "let must_wait = desk.pending.may_repeat(request)\n                || (large", "let must_wait = (large"),
    ("part of a batch counts as the batch", VERDICT, "if event.first_of_batch != begins || event.last_of_batch != ends {", "if false {"),
    ("memory keeps what a failed append would have made", VERSIONS, "        if self.unsettled {\n", "        if false {\n"),
    ("versions of streams are never forgotten", VERSIONS, "if self.newer_len >= GENERATION_LEN_MAX {", "if false && self.newer_len >= GENERATION_LEN_MAX {"),
    ("a request that is left for the next turn is forgotten", SEQUENCER, "queue.waiting.splice(..0, later);", "drop(later);"),
    ("memory for many streams is kept", PAYLOAD, "self.before.shrink_to(STREAMS_SPARE_MAX);", "let _ = STREAMS_SPARE_MAX;"),
    ("versions that a failed request gave are gaps for the next one", PAYLOAD, "                        versions.set(stream.as_bytes(), *before);\n", "                        let _ = (stream, before);\n"),
    ("the end of a page made ahead is believed for ever", STORE_AHEAD, "Some(is_all && last == self.last)", "Some(is_all && last >= self.last)"),
    ("an empty page made ahead is the end", STORE_AHEAD, "if made.page.is_empty() {", "if false {"),
    ("a page made ahead has another size", STORE_AHEAD, "_ if count_max != self.count_max => None,", "_ if count_max > self.count_max => None,"),
    ("a reader that is gone is worked for", STORE_AHEAD, "            job.settle();\n", "            drop(job);\n"),
    ("readers are told before the commit", SEQUENCER, "        let outcome = self.commit(turn", "        self.published.set(next - 1);\n        let outcome = self.commit(turn"),
    ("positions of a failed append are used up", SEQUENCER, "                        failure = Some(error.duplicate());\n                        Err(error)", "                        published += request.events.len() as u64;\n                        failure = Some(error.duplicate());\n                        Err(error)"),
    ("a duplicate is durable without a sync", SEQUENCER, "Durability::Durable => self.sync(),", "Durability::Durable => Ok(()),"),
    ("state is not in the batch", PAYLOAD, "            push(payload, side.op, request.get(&side.key), [value, &[]]);", "            if side.op != OP_STATE_PUT {\n                push(payload, side.op, request.get(&side.key), [value, &[]]);\n            }"),
    ("ids are forgotten when the log is read", REPLAY, "                    event.body.id,\n                )", "                    None,\n                )"),
    ("idempotency keys are forgotten when the log is read", REPLAY, "            index.put_value(KeyKind::Request, key, Value::Bytes(known.encode()));", "            let _ = known.encode();"),
    ("run of another history is used", MAKING, "behind.filter(|_| is_in_log && cover.numbers() == numbers)", "behind.filter(|_| (is_in_log || !is_in_log) && cover.numbers() == numbers)"),
    ("what stands behind a short key is compared with it", TREE, "if suffix.len() < FRONT_LEN {", "if suffix.is_empty() {"),
    ("fronts that are equal make keys equal", TREE, "if suffix.len().max(rest.len()) <= FRONT_LEN {", "if suffix.len().max(rest.len()) <= 2 * FRONT_LEN {"),
    ("checksum of a block is not compared", RUN_READER, "if !block.is_sound(self.header.salt, number) {", "if false {"),
    ("blocks that nothing leads to are not looked at", INSPECTION, "            self.fresh_block(number)?;\n        }\n        Ok(())", "        }\n        Ok(())"),
    ("a list with a position too many is sound", INSPECTION, "if leaf.confirmed_count != leaf.position_count {", "if leaf.confirmed_count > leaf.position_count {"),
    ("a value that once was the newest is sound", INSPECTION, "*word & !bit", "*word"),
    ("state that the oldest run lacks was deleted", INSPECTION, "            self.hashes.remove(&hash);\n            return;\n        }\n        self.hashes.insert(hash);", "            self.hashes.remove(&hash);\n            return;\n        }\n        let _ = self.hashes.insert(hash) && self.hashes.remove(&hash);"),
    ("damaged run fails the question", HEALING, "Err(error) if self.is_of_index(&error) => error,", "Err(error) if false && self.is_of_index(&error) => error,"),
    ("state of an older layer wins", ANSWERS, "for stored in self.layers.iter().rev() {", "for stored in self.layers.iter() {"),
    ("subscription passes over what came while it looked", SUBSCRIPTION, "            self.progress.pass(last);", "            self.progress.pass(self.source.published.last());"),
    ("subscription begins with the event that was dealt with", SUBSCRIPTION, "progress.next = Some(after.saturating_add(1));", "progress.next = Some(after.max(1));"),
    ("closed store ends its subscriptions at once", SUBSCRIPTION, "            let last = self.source.last_position()?;\n            self.progress.fill(", "            if ended {\n                return Err(Error::new(ErrorKind::Closed, \"the event store was closed\"));\n            }\n            let last = self.source.last_position()?;\n            self.progress.fill("),
    ("closed store can't make its index again", WAL, "    pub(crate) fn cursor_of_view(&self, after_seq: Seq) -> Result<Cursor> {\n", "    pub(crate) fn cursor_of_view(&self, after_seq: Seq) -> Result<Cursor> {\n        self.check_readable()?;\n"),
    ("descriptor is not made readable", PUBLISHED, "                bell.ring();\n                true", "                let _ = bell;\n                true"),
    ("nobody who waits is woken", PUBLISHED, "        drop(bells);\n        self.grown.notify_all();", "        drop(bells);"),
    ("slower look takes back what was shown", PUBLISHED, "self.last.fetch_max(last, Ordering::SeqCst)", "self.last.swap(last, Ordering::SeqCst)"),
    ("place behind another is that of the one behind it", RUN_READER, "(0..count).map(|nth| nth * len)", "(1..=count).map(|nth| nth * len)"),
    ("page that is full for its bytes is the last", STORE_READER, "Ok(is_last && page.len() == positions.len())", "Ok(is_last)"),
    ("a page has as many events as are asked for", STORE_READER, "count_max.min(PAGE_EVENTS_MAX)", "count_max.min(PAGE_EVENTS_MAX.max(count_max))"),
    ("who appends merges", MERGING, "            self.write_frozen()?;\n        }\n        self.begin_work()", "            self.work_on()?;\n        }\n        self.begin_work()"),
    ("layers wait for a merge", MERGING, "can_write.set(can_write.get() && self.write_frozen().is_ok());", "can_write.set(true);"),
    ("fingerprint of a snapshot is not compared", SNAPSHOT, "found_key == key && found_fingerprint == fingerprint && data.len() == lens[2];", "found_key == key && found_fingerprint.len() < 256 && data.len() == lens[2];"),
    ("snapshot of events that are gone", SNAPSHOT, "\n                && place_of(source, header.position)? == header.place;", ";"),
    ("snapshot believes a place whose block is not looked at", RUN_READER, "        let block = self.places_block(number)?;\n        Ok(Some(self.place_in(&block, number, at)?))", "        Ok(Some(self.single_place(number, at)?.0))"),
    ("fingerprint of a snapshot is not in its name", SNAPSHOT, "fingerprint: digits(fingerprint, FINGERPRINT_DIGITS),", "fingerprint: digits(fingerprint.get(..0).unwrap_or_default(), FINGERPRINT_DIGITS),"),
    ("one fingerprint's snapshots displace another's", SNAPSHOT, ".partition(|name| name.fingerprint == saved.fingerprint);", ".partition(|name| name.fingerprint.len() == saved.fingerprint.len());"),
    ("greater versions displace the snapshot just saved", SNAPSHOT, "            .filter(|name| name != saved)\n", ""),
    ("snapshots of other fingerprints are all kept", SNAPSHOT, "for name in old.chain(others.iter().rev().skip(KEPT)) {", "for name in old.chain(others.iter().rev().skip(usize::MAX)) {"),
    ("folder that can't be listed fails the loading of a snapshot", SNAPSHOT, "        let Ok(names) = folder.names() else {\n            return Ok(None);\n        };", "        let names = folder.names()?;"),
    ("saves of a snapshot share a name", SNAPSHOT, "numbers.last += 1;", "numbers.last = 1;"),
    ("a save deletes what another writes of a snapshot", SNAPSHOT, "if file.ends_with(\".new\") && !self.is_being_written(&file) {", "if file.ends_with(\".new\") {"),
    ("what a dead save left of a snapshot stays", SNAPSHOT, "if file.ends_with(\".new\") && !self.is_being_written(&file) {", "if file.is_empty() {"),
    ("what was not given can be acknowledged", SUBSCRIPTION, "if position > given {", "if position > given.saturating_add(u64::MAX) {"),
    ("checksum of a snapshot is not compared", SNAPSHOT, "            && get_u32(bytes, 12) == crc32(bytes.get(16..)?);", ";"),
    ("time begins anew with each handle", WRITER, "        self.last_time_ns = self.last_time_ns.max(time_ns);", "        let _ = time_ns;"),
    ("time is what the clock says", WRITER, "self.last_time_ns.max(self.vfs.now_ns());", "self.vfs.now_ns();"),
    ("runs are never merged", MERGING, "if runs.len() == self.limits.tier_runs {", "if runs.len() == usize::MAX {"),
    ("all runs are of one tier", CATALOG, "layers.checked_ilog2().map_or(0, |bits| bits / 3)", "layers.checked_ilog2().map_or(0, |bits| bits / 30)"),
    ("opening uses no run", MAKING, "behind.filter(|_| is_in_log && cover.numbers()", "behind.filter(|_| is_in_log && numbers.is_empty() && cover.numbers()"),
    ("one thread makes a missing index", MAKING, "let threads = processors.min(THREADS_MAX).min(parts.len());", "let threads = processors.min(THREADS_MAX).min(parts.len()).min(1);"),
    ("progress of a merge is not told", MERGING, "                self.work_done_keys.store(done, Ordering::Relaxed);", "                let _ = done;"),
    ("work that is over goes on", MERGING, "        self.work_total_keys.store(0, Ordering::Relaxed);\n        self.work_done_keys.store(0, Ordering::Release);", ""),
    ("a conflict with what failed is told", SEQUENCER, "for at in dependent {", "for at in dependent.into_iter().take(0) {"),
    ("positions end nowhere", SEQUENCER, "next + request.events.len() as u64 > POSITION_MAX", "next + request.events.len() as u64 == u64::MAX"),
    ("events may be two bytes too large", REQUEST, "body_range.len() + 1 + 2 * 10;", "body_range.len() + 1 + 2 * 9;"),
    ("length of a key that is deleted is not checked", REQUEST, "            SideRecord::DeleteState { key } => {\n                check_len(\"key\", key.len(), 1, STATE_KEY_LEN_MAX)?;", "            SideRecord::DeleteState { key } => {"),
))

MUTANTS = LOG_MUTANTS + STORE_MUTANTS


def check(mutants: list) -> int:
    """Says which mutants can't be planted: their text is gone, or they change nothing."""
    lost = [m for m in mutants if m.old == m.new or m.old not in (ROOT / m.path).read_text()]
    for mutant in lost:
        print(f"{mutant.name}: its text is not in {mutant.path} any more")
    print(f"{len(mutants) - len(lost)} of {len(mutants)} bugs can be planted")
    return 1 if lost else 0


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
    # Building takes as long as it takes.
    built = subprocess.run(
        [*command, "--no-run"], cwd=COPY, env=environment, capture_output=True, text=True,
    )
    if built.returncode != 0:
        return "does not compile: " + built.stderr.split("error", 1)[-1][:200]
    # In a session of its own, so that what hangs is ended with everything that it started.
    cargo = subprocess.Popen(
        command, cwd=COPY, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )
    try:
        stdout, _ = cargo.communicate(timeout=SUITE_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(cargo.pid, signal.SIGKILL)
        cargo.communicate()
        return f"{suite[-1]} hangs"
    if cargo.returncode == 0:
        return ""
    # The list that each test binary ends with.
    lists = re.findall(r"^failures:\n((?:    \S+\n)+)", stdout, re.MULTILINE)
    failed = [name for names in lists for name in names.split()]
    return f"{' '.join(suite[1::2]) or 'unit tests'}: {failed[0] if failed else 'failed'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the mutants and exit")
    parser.add_argument("--check", action="store_true", help="only see whether all can be planted")
    parser.add_argument("--only", help="only mutants whose name contains this")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.only or arguments.only in m.name]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.path}: {mutant.name}")
        return 0
    if arguments.check:
        return check(chosen)
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
        for suite in mutant.suites:
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
