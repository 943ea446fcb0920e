//! Whether the files of the index say what the log says: every run is looked through, and compared with its
//! part of the log, read anew.
//!
//! ```text
//! log      | begin_seq ........................ end |
//! pieces     [ memory index ][ memory index ][ ... ]     one at a time, as large as a layer
//! run      [ places | keys                          ]     see `index/run_reader/inspection.rs`
//! ```
//!
//! The layers are those of one moment, and their files stay readable while they are held, also when
//! they are merged or made again meanwhile. No lock is held, and nothing is changed: a run that is
//! damaged is reported, and made again by whoever meets the damage with a question. Layers in memory are not
//! compared: this process made them from the same records.
//!
//! Damage of a run is an answer; what is wrong with the log is an error.

use super::super::anchor::{Cover, LogPlace};
use super::super::index::{Inspection, InspectionBounds, Layer, MemoryIndex, Run};
use super::super::replay::{add_record, Follower};
use super::making::Progress;
use super::{Catalog, Stored};
use crate::error::{Error, ErrorKind, Result};
use std::path::PathBuf;

/// Records between two looks at whether to stop.
const STEP: u64 = 1024;
const BLOCK_LEN: u64 = 4096;

/// What looking through the index found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Files of the index that were looked through.
    pub run_count: u64,
    /// Those of them that are damaged, or say something else than the log. Each is looked through up to
    /// the first thing that is wrong with it.
    pub damaged_run_count: u64,
    /// Events of the log that were compared with them. What no file covers is not among these.
    pub event_count: u64,
    /// Keys that were compared: names of streams, categories, types and tags, ids, idempotency keys, saved
    /// positions, and keys of state, each once for each file that has it.
    pub key_count: u64,
    /// What is wrong with the first damaged one.
    pub first_damage: Option<IndexDamage>,
}

/// What is wrong with a file of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexDamage {
    /// The file.
    pub path: PathBuf,
    /// Its block of 4,096 bytes; 0 is the first one, or the file as a whole.
    pub block: u64,
    /// What was expected and what was found, in words.
    pub reason: String,
}

impl IndexDamage {
    fn of(run: &Run, error: &Error) -> IndexDamage {
        let (path, block) = (run.path(), error.place().offset / BLOCK_LEN);
        let (reason, place) = (
            error.to_string(),
            format!("block {block} of {}: ", path.display()),
        );
        IndexDamage {
            path: path.to_path_buf(),
            block,
            reason: reason.strip_prefix(&place).unwrap_or(&reason).to_string(),
        }
    }
}

/// Tells of the progress, and that nobody asked to stop.
struct Told<'t, 'f> {
    progress: &'t mut Progress<'f>,
    begin: u64,
    done: u64,
    total: u64,
}

impl Told<'_, '_> {
    fn up_to(&mut self, lsn: u64) -> Result<()> {
        let done = lsn.saturating_sub(self.begin).min(self.total);
        self.done = self.done.max(done);
        self.again()
    }

    fn again(&mut self) -> Result<()> {
        if (self.progress)(self.done, self.total) {
            return Ok(());
        }
        let message = "looking through the index was stopped";
        Err(Error::new(ErrorKind::Stopped, message))
    }
}

impl Catalog {
    /// Looks through all runs. `progress` is told up to where in the log, in bytes, and of how many.
    /// What no run covers counts as done in the end.
    pub(in super::super) fn verify(&self, progress: &mut Progress<'_>) -> Result<IndexReport> {
        if let Some(error) = self.lost.get() {
            return Err(error.duplicate());
        }
        let layers = self.read_layers();
        let runs = layers.iter().filter_map(|stored| match stored {
            Stored::Run(run) => Some(run.as_ref()),
            Stored::Memory(_) => None,
        });
        let first_segment = self.wal.view().first_segment()?;
        let begin = first_segment.map_or(0, |header| header.base_lsn.0);
        let mut told = Told {
            progress,
            begin,
            done: 0,
            total: self.wal.view().end().lsn.0.saturating_sub(begin),
        };
        told.again()?;
        let mut report = IndexReport::default();
        for run in runs {
            let mut seen = IndexReport::default();
            if let Err(error) = self.compare_run(run, &mut told, &mut seen) {
                if !self.is_of_index(&error) {
                    return Err(error);
                }
                if Cover::decode(&run.anchor()).end.batch_id >= self.wal.view().end().lsn {
                    // A failed sync took back what it was made of: it is no layer any more.
                    continue;
                }
                report.damaged_run_count += 1;
                report
                    .first_damage
                    .get_or_insert_with(|| IndexDamage::of(run, &error));
            }
            report.run_count += 1;
            report.event_count += seen.event_count;
            report.key_count += seen.key_count;
        }
        let Told { done, total, .. } = told;
        if done < total || total == 0 {
            progress(total, total);
        }
        Ok(report)
    }

    /// An error with the path of the run is damage of the run.
    fn compare_run(
        &self,
        run: &Run,
        told: &mut Told<'_, '_>,
        seen: &mut IndexReport,
    ) -> Result<()> {
        let run = run.apart();
        run.check_blocks(&mut || told.again())?;
        let cover = Cover::decode(&run.anchor());
        if !cover.end.go_to(&mut self.wal.cursor_of_view(0)?)? {
            return Err(run.wrong(0, "its anchor is not in the log"));
        }
        let bounds = InspectionBounds {
            leaves: self.limits.verify_leaves,
            hashes: self.limits.verify_hashes,
        };
        let is_oldest = *cover.numbers().start() == 1;
        let mut inspection = Inspection::new(&run, is_oldest, bounds)?;
        while inspection.next_share(&mut || told.again())? {
            seen.key_count = inspection.key_count();
            let mut again = false;
            loop {
                let event_count = self.pass(&run, &cover, &mut inspection, again, told)?;
                seen.event_count = seen.event_count.max(event_count);
                if !inspection.end_pass(again)? {
                    break;
                }
                again = true;
            }
        }
        Ok(())
    }

    /// Compares the run's part of the log, piece by piece, with the share of its keys that is at hand. Gives
    /// how many events it has.
    fn pass(
        &self,
        run: &Run,
        cover: &Cover,
        inspection: &mut Inspection<'_>,
        again: bool,
        told: &mut Told<'_, '_>,
    ) -> Result<u64> {
        let mut place = LogPlace {
            end_seq: cover.begin_seq,
            ..LogPlace::default()
        };
        let cursor = self.wal.cursor_of_view(place.end_seq)?;
        let Some(mut follower) = Follower::new(cursor, place)? else {
            return Err(run.wrong(0, "the place where it begins is not in the log"));
        };
        let first = *run.range().start();
        let mut next = first;
        let mut piece = MemoryIndex::new(next);
        let mut count = 0_u64;
        loop {
            let (mut is_behind, mut lsn) = (false, 0);
            let more = follower.next(&mut |entry, at, _| {
                is_behind = entry.seq > cover.end.end_seq;
                lsn = at.lsn;
                if !is_behind {
                    let (op, key, value) = (entry.op, entry.key, entry.value);
                    next += u64::from(add_record(&mut piece, next, op, key, value, at)?);
                }
                Ok(())
            })?;
            let ended = is_behind || !more;
            if ended || self.limits.is_large(&piece) {
                if piece.record_count() > 0 {
                    inspection.compare(&piece, again)?;
                }
                let successor = piece.successor();
                piece = successor;
            }
            if ended {
                break;
            }
            place = follower.place;
            count += 1;
            if count % STEP == 0 {
                told.up_to(lsn)?;
            }
        }
        told.up_to(place.batch_id.0)?;
        if next - 1 != *run.range().end() {
            let what = format!(
                "the run ends at position {}, its part of the log at {}",
                run.range().end(),
                next - 1
            );
            return Err(run.wrong(0, &what));
        }
        let end = &cover.end;
        if (place.batch_id, place.first_seq, place.time_ns)
            != (end.batch_id, end.first_seq, end.time_ns)
        {
            let what = format!("its anchor is {end:?}, its part of the log ends at {place:?}");
            return Err(run.wrong(0, &what));
        }
        Ok(next - first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::index::{write_run, KeyKind, Place, Value};
    use super::*;
    use crate::eventstore::{AppendRequest, EventStore, EventStoreOptions, IndexLimits};
    use crate::eventstore::{NewEvent, SideRecord};
    use crate::format::checksum::crc32;
    use crate::format::event::{self, OP_EVENT};
    use crate::vfs::sim::SimDisk;
    use crate::{Durability, SyncMode, WalOptions};
    use std::path::Path;
    use std::sync::Arc;

    fn open(disk: &SimDisk, index: IndexLimits) -> EventStore {
        let options = EventStoreOptions {
            index,
            wal: WalOptions {
                sync_mode: SyncMode::Manual,
                ..WalOptions::default()
            },
            ..EventStoreOptions::default()
        };
        EventStore::open_on(Arc::new(disk.clone()), "/store", &options).unwrap()
    }

    /// Runs of a third of a store each.
    fn limits() -> IndexLimits {
        IndexLimits {
            freeze_events: 900,
            tier_runs: 1000,
            close_events: 1,
            ..IndexLimits::default()
        }
    }

    /// A store of three runs, with something of everything in each.
    fn filled(disk: &SimDisk) -> EventStore {
        let store = open(disk, limits());
        for number in 0..1200u64 {
            let streams = [format!("s-{}", number % 5), "long-one".to_string()];
            let id = u128::from(number + 1).to_le_bytes();
            let event = |stream, id| NewEvent {
                stream,
                event_type: "Happened",
                tags: &["tag"],
                id,
                ..NewEvent::default()
            };
            let key = (number % 9).to_le_bytes();
            let long = vec![number as u8; 5000];
            // What is put is deleted after others were put, but for one in each run.
            let now = match number {
                200 | 600 | 1000 => "once".to_string(),
                _ => format!("gone {number}"),
            };
            let before = format!("gone {}", number.max(100) - 100);
            let state = match number % 40 {
                0 => SideRecord::PutState {
                    key: now.as_bytes(),
                    value: b"for a while",
                },
                _ => SideRecord::DeleteState {
                    key: before.as_bytes(),
                },
            };
            let side_records = [
                state,
                SideRecord::PutState {
                    key: &key,
                    value: if number % 9 == 0 { &long } else { &key },
                },
                SideRecord::SavePosition {
                    name: "reader",
                    position: number,
                    reset: true,
                },
            ];
            let request_key = number.to_le_bytes();
            let request = AppendRequest {
                events: &[event(&streams[0], Some(id)), event(&streams[1], None)],
                side_records: &side_records[..if number % 20 == 0 { 3 } else { 0 }],
                idempotency_key: (number % 40 == 0).then_some(&request_key),
                ..AppendRequest::default()
            };
            store.append(&request, Durability::AsOpened).unwrap();
        }
        store.close().unwrap();
        open(disk, limits())
    }

    fn runs(store: &EventStore) -> Vec<Arc<Run>> {
        let layers = store.source.catalog.read_layers();
        let run = |stored: &Stored| match stored {
            Stored::Run(run) => Some(Arc::clone(run)),
            Stored::Memory(_) => None,
        };
        layers.iter().filter_map(run).collect()
    }

    /// What an index is told of one record, to be changed.
    struct Told<'e> {
        position: u64,
        place: Place,
        stream: &'e str,
        stream_version: u64,
        event_type: &'e str,
        tags: Vec<&'e str>,
        id: Option<[u8; 16]>,
    }

    type Takes<'l> = dyn Fn(u8, &[u8]) -> bool + 'l;

    /// What becomes of a run that is written anew, with right checksums.
    #[derive(Default)]
    struct Lies<'l> {
        event: Option<&'l dyn Fn(&mut Told<'_>)>,
        /// Whether a record that is no event is taken.
        side: Option<&'l Takes<'l>>,
        value: Option<(KeyKind, &'l [u8], Value)>,
    }

    /// Writes a run of a store anew, and gives what is found then.
    fn found(index: usize, lies: &Lies<'_>) -> IndexReport {
        let disk = SimDisk::new(1);
        let store = filled(&disk);
        let all = runs(&store);
        assert_eq!(all.len(), 3);
        let run = &all[index];
        let cover = Cover::decode(&run.anchor());
        let first = *run.range().start();
        let mut forged = MemoryIndex::new(first);
        let mut next = first;
        let wal = store.wal();
        let mut cursor = wal.cursor_of_view(cover.begin_seq).unwrap();
        while let Some((entry, record)) = cursor.next_placed().unwrap() {
            if entry.seq > cover.end.end_seq {
                break;
            }
            let place = Place {
                lsn: record.lsn.0,
                crc: record.crc,
                time_ns: entry.time_ns,
            };
            if entry.op != OP_EVENT {
                if lies.side.is_none_or(|takes| takes(entry.op, entry.key)) {
                    let (op, key, value) = (entry.op, entry.key, entry.value);
                    add_record(&mut forged, next, op, key, value, place).unwrap();
                }
                continue;
            }
            let decoded = event::decode(entry.value).unwrap();
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            let mut told = Told {
                position: next,
                place,
                stream: text(entry.key),
                stream_version: decoded.stream_version,
                event_type: text(decoded.body.event_type),
                tags: decoded.tags.iter().map(text).collect(),
                id: decoded.body.id.copied(),
            };
            if let Some(lie) = lies.event {
                lie(&mut told);
            }
            let (tags, version) = (told.tags.iter(), told.stream_version);
            let (stream, event_type) = (told.stream, told.event_type);
            forged
                .add_event(
                    next,
                    told.place,
                    stream,
                    version,
                    event_type,
                    tags,
                    told.id.as_ref(),
                )
                .unwrap();
            next += 1;
        }
        if let Some((kind, key, value)) = &lies.value {
            forged.put_value(*kind, key, value.clone());
        }
        let (numbers, id, anchor) = (cover.numbers(), *wal.log_id(), run.anchor());
        let dir = run.path().parent().unwrap();
        let path = write_run(&disk, dir, numbers, &id, &anchor, 0, &forged).unwrap();
        assert_eq!(path, run.path());
        store.close().unwrap();
        drop(store);
        let store = open(&disk, limits());
        let report = store.verify_index(&mut |_, _| true).unwrap();
        assert_eq!(report.run_count, 3);
        // As little as possible at once finds the same.
        let small = IndexLimits {
            verify_leaves: 1,
            verify_hashes: 1,
            freeze_events: 100,
            ..limits()
        };
        drop(store);
        let again = open(&disk, small).verify_index(&mut |_, _| true).unwrap();
        assert_eq!(again.damaged_run_count, report.damaged_run_count);
        if report.damaged_run_count > 0 {
            assert_eq!(report.damaged_run_count, 1);
            let damage = report.first_damage.as_ref().unwrap();
            assert_eq!(damage.path, path);
        }
        report
    }

    /// It is found in each of the runs, and told in these words.
    #[track_caller]
    fn assert_found(lies: &Lies<'_>, words: &str) {
        for index in 0..3 {
            let report = found(index, lies);
            let damage = report.first_damage.map_or(String::new(), |d| d.reason);
            assert!(damage.contains(words), "run {index}: {damage:?}");
        }
    }

    #[test]
    fn a_run_that_is_written_anew_without_lies_is_sound() {
        for index in 0..3 {
            let report = found(index, &Lies::default());
            assert_eq!(report.damaged_run_count, 0, "{report:?}");
        }
    }

    #[test]
    fn wrong_places_are_found() {
        type Lie = fn(&mut Place);
        let lies: [Lie; 3] = [|p| p.lsn += 8, |p| p.crc ^= 1, |p| p.time_ns += 1];
        for lie in lies {
            let event = |told: &mut Told<'_>| {
                if told.position % 300 == 0 {
                    lie(&mut told.place);
                }
            };
            let lies = Lies {
                event: Some(&event),
                ..Lies::default()
            };
            assert_found(&lies, "is said to stand at");
        }
    }

    #[test]
    fn lists_that_miss_a_position_or_have_one_more_are_found() {
        type Lie = fn(&mut Told<'_>);
        let lies: [(Lie, &str); 6] = [
            (|told| told.tags.clear(), "tag \"tag\" has position"),
            (|told| told.tags.push("new"), "its lists have"),
            // Among keys, so that its leaf has others too.
            (|told| told.tags.push("a"), "its lists have"),
            (
                |told| told.event_type = "Other",
                "type \"Happened\" has position",
            ),
            (|told| told.id = None, "is not found, which the log has"),
            (|told| told.id = Some([0xEE; 16]), "event id"),
        ];
        for (lie, words) in lies {
            let event = |told: &mut Told<'_>| {
                if told.position % 300 == 1 {
                    lie(told);
                }
            };
            let lies = Lies {
                event: Some(&event),
                ..Lies::default()
            };
            assert_found(&lies, words);
        }
    }

    #[test]
    fn a_position_more_at_the_end_of_a_list_is_found() {
        // In the log it ends before.
        let event = |told: &mut Told<'_>| {
            if told.position % 500 > 490 {
                told.event_type = "Happened at last";
            }
        };
        let lies = Lies {
            event: Some(&event),
            ..Lies::default()
        };
        assert_found(&lies, "type \"Happened\" has");
    }

    #[test]
    fn an_id_that_the_log_does_not_have_is_found() {
        let event = |told: &mut Told<'_>| {
            if told.position % 300 == 2 {
                told.id = Some([0xEE; 16]);
            }
        };
        let lies = Lies {
            event: Some(&event),
            ..Lies::default()
        };
        assert_found(&lies, "event id eeeeee");
    }

    #[test]
    fn streams_that_begin_with_another_version_are_found() {
        let event = |told: &mut Told<'_>| {
            if told.stream == "s-3" {
                told.stream_version += 1;
            }
        };
        let lies = Lies {
            event: Some(&event),
            ..Lies::default()
        };
        assert_found(&lies, "stream \"s-3\" has at version");
    }

    #[test]
    fn values_that_are_not_the_newest_are_found() {
        use event::{OP_REQUEST, OP_SAVED_POSITION, OP_STATE_DELETE, OP_STATE_PUT};
        let lie = |side: &dyn Fn(u8, &[u8]) -> bool, words: &str| {
            let lies = Lies {
                side: Some(side),
                ..Lies::default()
            };
            assert_found(&lies, words);
        };
        // None, or those from before.
        lie(&|op, _| op != OP_REQUEST, "idempotency key");
        lie(
            &|op, _| op != OP_SAVED_POSITION,
            "saved position \"reader\" is not found",
        );
        // Some, so that others are there.
        for op_missing in [OP_STATE_PUT, OP_STATE_DELETE] {
            for index in 0..3 {
                let count = std::cell::Cell::new(0);
                let side = |op: u8, _: &[u8]| {
                    count.set(count.get() + u32::from(op == op_missing));
                    op != op_missing || count.get() < 3
                };
                let lies = Lies {
                    side: Some(&side),
                    ..Lies::default()
                };
                let damage = found(index, &lies).first_damage.map(|d| d.reason);
                let damage = damage.unwrap_or_default();
                assert!(damage.contains("state"), "run {index}: {damage:?}");
            }
        }
    }

    #[test]
    fn a_value_that_was_the_newest_for_a_while_is_found() {
        for kept in 1..8 {
            let count = std::cell::Cell::new(0);
            let side = |op: u8, _: &[u8]| {
                count.set(count.get() + u32::from(op == event::OP_SAVED_POSITION));
                op != event::OP_SAVED_POSITION || count.get() <= kept
            };
            let lies = Lies {
                side: Some(&side),
                ..Lies::default()
            };
            let damage = found(1, &lies).first_damage.unwrap();
            assert!(damage.reason.contains("saved position"), "{damage:?}");
        }
    }

    #[test]
    fn state_that_is_missing_is_found_also_in_the_oldest_run() {
        let lies = Lies {
            side: Some(&|_, key| key != b"once"),
            ..Lies::default()
        };
        for (index, words) in [
            (0, "the state of 1 keys is not found"),
            (1, "which the log has"),
        ] {
            let damage = found(index, &lies).first_damage.unwrap();
            assert!(damage.reason.contains(words), "{damage:?}");
        }
        // A mark of deletion that hides what an older run has.
        let seen = std::cell::RefCell::new(std::collections::HashSet::new());
        let side = |op: u8, key: &[u8]| {
            if op == event::OP_STATE_PUT {
                seen.borrow_mut().insert(key.to_vec());
            }
            op != event::OP_STATE_DELETE || seen.borrow().contains(key)
        };
        let lies = Lies {
            side: Some(&side),
            ..Lies::default()
        };
        let damage = found(1, &lies).first_damage.unwrap();
        let words = "is not found, which the log has deleted";
        assert!(damage.reason.contains(words), "{damage:?}");
    }

    const LEN: usize = BLOCK_LEN as usize;

    /// Writes a block with its checksum.
    fn put_sealed(disk: &SimDisk, path: &Path, salt: &[u8], number: usize, block: &[u8]) {
        let identity = [salt, &(number as u32).to_le_bytes()].concat();
        let check = crc32(&block[..LEN - 4]) ^ crc32(&identity);
        let sealed = [&block[..LEN - 4], &check.to_le_bytes()].concat();
        disk.corrupt(path, (number * LEN) as u64, &sealed).unwrap();
    }

    /// A store of one small run; gives its path and bytes.
    fn small(disk: &SimDisk) -> (EventStore, PathBuf, Vec<u8>) {
        let store = open(disk, limits());
        for number in 0..8_u64 {
            let streams = [format!("s-{}", number % 3), "long-one".to_string()];
            let events = [0, 1].map(|index: usize| NewEvent {
                stream: &streams[index],
                event_type: "Happened",
                tags: &["tag"],
                id: Some(u128::from(2 * number + index as u64 + 1).to_be_bytes()),
                ..NewEvent::default()
            });
            let side_records = [SideRecord::PutState {
                key: b"key",
                value: &number.to_le_bytes(),
            }];
            let request = AppendRequest {
                events: &events,
                side_records: &side_records,
                ..AppendRequest::default()
            };
            store.append(&request, Durability::AsOpened).unwrap();
        }
        store.close().unwrap();
        drop(store);
        let store = open(disk, limits());
        let path = runs(&store)[0].path().to_path_buf();
        let bytes = disk.read_file(&path).unwrap();
        (store, path, bytes)
    }

    #[test]
    fn every_byte_of_a_leaf_counts_also_with_a_right_checksum() {
        let disk = SimDisk::new(1);
        let (store, path, bytes) = small(&disk);
        let number = bytes.len() / LEN - 1;
        let leaf = &bytes[number * LEN..];
        let end = usize::from(u16::from_le_bytes([leaf[6], leaf[7]]));
        assert!(end > 300, "{end}");
        for at in 0..end {
            for mask in [1, 0x80] {
                let mut forged = leaf.to_vec();
                forged[at] ^= mask;
                put_sealed(&disk, &path, &bytes[32..40], number, &forged);
                let report = store.verify_index(&mut |_, _| true).unwrap();
                assert_eq!(report.damaged_run_count, 1, "byte {at} of {end}, {mask:#x}");
            }
        }
        put_sealed(&disk, &path, &bytes[32..40], number, leaf);
        let report = store.verify_index(&mut |_, _| true).unwrap();
        assert_eq!(report.damaged_run_count, 0, "{report:?}");
    }

    #[test]
    fn a_header_that_says_something_else_is_found() {
        let disk = SimDisk::new(1);
        let (store, path, bytes) = small(&disk);
        let mut accepted = 0;
        for at in 0..176 {
            let mut forged = bytes[..LEN].to_vec();
            forged[at] ^= 1;
            let salt = forged[32..40].to_vec();
            put_sealed(&disk, &path, &salt, 0, &forged);
            // By the handle that has it open, whatever it is;
            let report = store.verify_index(&mut |_, _| true).unwrap();
            assert_eq!(report.damaged_run_count, 1, "byte {at}");
            // and by the next one, if that takes it. Of the level, and of the end of the
            // anchor, it makes nothing.
            let again = SimDisk::from_image(&disk.image(), 1);
            let is_unused = matches!(at, 12..16 | 124..128 | 136..152);
            let options = EventStoreOptions {
                wal: WalOptions {
                    how: crate::OpenHow::ReadOnly,
                    ..WalOptions::default()
                },
                ..EventStoreOptions::default()
            };
            let opened = EventStore::open_on(Arc::new(again), "/store", &options);
            let runs = opened.as_ref().map_or(0, |store| runs(store).len());
            if runs > 0 && !is_unused {
                let report = opened.unwrap().verify_index(&mut |_, _| true).unwrap();
                assert_eq!(report.damaged_run_count, 1, "byte {at}");
                accepted += 1;
            }
        }
        assert!(accepted > 20, "{accepted}");
    }

    #[test]
    fn values_that_are_others_or_too_many_are_found() {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        let mut long = vec![0; 5000];
        long[4999] = 1;
        let key = 0_u64.to_le_bytes();
        let lies = [
            (KeyKind::SavedPosition, &b"reader"[..], bytes(&[0; 8])),
            (KeyKind::SavedPosition, b"nobody", bytes(&[0; 8])),
            (KeyKind::State, b"nothing", bytes(b"")),
            (KeyKind::State, &key, bytes(&long)),
            (KeyKind::State, &key, bytes(b"short")),
            (KeyKind::Request, b"no request", bytes(b"")),
        ];
        for lie in lies {
            let lies = Lies {
                value: Some(lie),
                ..Lies::default()
            };
            assert_found(&lies, "which is not what the log has last");
        }
        // A mark of deletion, which the oldest run need not have.
        let lies = Lies {
            value: Some((KeyKind::SavedPosition, b"reader", Value::Deleted)),
            ..Lies::default()
        };
        assert_found(&lies, "saved position \"reader\"");
    }

    /// Bytes of every block that is not a place, a node or a value: those by which a position, or a version, is
    /// looked up in a long list.
    #[test]
    fn long_lists_whose_blocks_say_something_else_are_found() {
        const POSTINGS: u8 = 3;
        let disk = SimDisk::new(1);
        let store = open(
            &disk,
            IndexLimits {
                freeze_events: 20_000,
                ..limits()
            },
        );
        let event = NewEvent {
            stream: "stream",
            event_type: "Happened",
            ..NewEvent::default()
        };
        let request = AppendRequest {
            events: &vec![event; 10_000],
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened).unwrap();
        store.close().unwrap();
        let store = open(&disk, limits());
        let path = runs(&store)[0].path().to_path_buf();
        let sound = disk.read_file(&path).unwrap();
        let salt = sound[32..40].to_vec();
        let mut count = 0;
        for (number, block) in sound.chunks(LEN).enumerate().skip(1) {
            if block[0] != POSTINGS {
                continue;
            }
            // count, first, index, and the first difference.
            for at in [2, 8, 16, 24] {
                let mut forged = block.to_vec();
                forged[at] ^= 3;
                put_sealed(&disk, &path, &salt, number, &forged);
                let report = store.verify_index(&mut |_, _| true).unwrap();
                assert_eq!(report.damaged_run_count, 1, "block {number}, byte {at}");
                put_sealed(&disk, &path, &salt, number, block);
                count += 1;
            }
        }
        assert!(count >= 24, "{count}");
        let report = store.verify_index(&mut |_, _| true).unwrap();
        assert_eq!(report.damaged_run_count, 0, "{report:?}");
    }

    /// No question reads such a block, and the next merge leaves it out; but the file is not what was written.
    #[test]
    fn a_damaged_block_that_nothing_leads_to_is_found() {
        let disk = SimDisk::new(1);
        let (store, path, mut bytes) = small(&disk);
        drop(store);
        let count = bytes.len() / LEN;
        bytes[72..76].copy_from_slice(&(count as u32 + 1).to_le_bytes());
        bytes.resize((count + 1) * LEN, 0);
        let mut image = disk.image();
        image.write(&path, &bytes).unwrap();
        let disk = SimDisk::from_image(&image, 2);
        put_sealed(&disk, &path, &bytes[32..40], 0, &bytes[..LEN]);
        put_sealed(&disk, &path, &bytes[32..40], count, &bytes[count * LEN..]);
        let verify = |disk: &SimDisk| {
            let store = open(disk, limits());
            assert_eq!(store.stat().unwrap().run_count, 1);
            store.verify_index(&mut |_, _| true).unwrap().first_damage
        };
        assert!(verify(&disk).is_none());
        disk.corrupt(&path, (count * LEN + 100) as u64, b"?")
            .unwrap();
        assert_eq!(verify(&disk).unwrap().block, count as u64);
    }
}
