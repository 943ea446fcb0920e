//! The index as a whole, in two parts.
//!
//! *The same answers everywhere*: random events go into a memory index and into plain maps; then the
//! same events into runs of random sizes and merges of those. Every question must have the answer
//! of the maps, cut to the range of the layer that is asked.
//!
//! *Damage*: runs with flipped bits, zeroed, swapped and missing blocks, and blocks whose checksum
//! was made to hold again. Without that last, every answer is right or CORRUPT; with it, nothing
//! panics, hangs or answers without end.

use super::block::{Block, BLOCK_LEN};
use super::postings::PostingBlock;
use super::*;
use crate::error::{Error, ErrorKind};
use crate::vfs::os::RealDisk;
use crate::vfs::sim::Rng;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

const LOG_ID: [u8; 16] = [9; 16];

/// One event, as the log would have it.
#[derive(Clone)]
struct Event {
    place: Place,
    stream: Vec<u8>,
    stream_version: u64,
    event_type: Vec<u8>,
    tags: Vec<Vec<u8>>,
    id: Option<[u8; 16]>,
    /// Side records behind it.
    values: Vec<(KeyKind, Vec<u8>, Value)>,
}

/// All events, from position 1 on.
#[derive(Default)]
struct History {
    events: Vec<Event>,
    versions: BTreeMap<Vec<u8>, u64>,
    lsn: u64,
}

impl History {
    fn push(&mut self, rng: &mut Rng, stream: &[u8], event_type: &[u8], tags: Vec<Vec<u8>>) {
        self.lsn += 1 + rng.below(300);
        let version = self.versions.entry(stream.to_vec()).or_default();
        *version += 1;
        let mut id = [0; 16];
        rng.fill(&mut id);
        self.events.push(Event {
            place: Place {
                lsn: self.lsn,
                crc: rng.next_u64() as u32,
                time_ns: rng.next_u64(),
            },
            stream: stream.to_vec(),
            stream_version: *version,
            event_type: event_type.to_vec(),
            tags,
            id: rng.percent(50).then_some(id),
            values: Vec::new(),
        });
    }

    fn memory(&self, first: u64, last: u64) -> MemoryIndex {
        let mut memory = MemoryIndex::new(first);
        for position in first..=last {
            let event = &self.events[position as usize - 1];
            memory
                .add_event(
                    position,
                    event.place,
                    &event.stream,
                    event.stream_version,
                    &event.event_type,
                    event.tags.iter().map(Vec::as_slice),
                    event.id.as_ref(),
                )
                .unwrap();
            for (kind, key, value) in &event.values {
                memory.put_value(*kind, key, value.clone());
            }
        }
        memory
    }

    fn model(&self, first: u64, last: u64) -> Model {
        let mut model = Model {
            first,
            last,
            ..Model::default()
        };
        for position in first..=last {
            let event = &self.events[position as usize - 1];
            let category = match event.stream.iter().position(|&byte| byte == b'-') {
                Some(dash) => event.stream[..dash].to_vec(),
                None => event.stream.clone(),
            };
            let mut add = |kind, key: &[u8]| {
                let list: &mut Vec<u64> = model.lists.entry((kind, key.to_vec())).or_default();
                if list.last() != Some(&position) {
                    list.push(position);
                }
            };
            add(KeyKind::Stream, &event.stream);
            add(KeyKind::Category, &category);
            add(KeyKind::Type, &event.event_type);
            event.tags.iter().for_each(|tag| add(KeyKind::Tag, tag));
            model
                .first_versions
                .entry(event.stream.clone())
                .or_insert(event.stream_version);
            if let Some(id) = event.id {
                let value = Value::Bytes(position.to_le_bytes().to_vec());
                model.values.insert((KeyKind::Id, id.to_vec()), value);
            }
            for (kind, key, value) in &event.values {
                model.values.insert((*kind, key.clone()), value.clone());
            }
            model.places.push(event.place);
        }
        model
    }
}

/// What a layer of these positions must answer.
#[derive(Default)]
struct Model {
    first: u64,
    last: u64,
    places: Vec<Place>,
    lists: BTreeMap<(KeyKind, Vec<u8>), Vec<u64>>,
    first_versions: BTreeMap<Vec<u8>, u64>,
    values: BTreeMap<(KeyKind, Vec<u8>), Value>,
}

impl Model {
    /// Runs that begin at position 1 forget what was deleted.
    fn without_deleted(mut self) -> Model {
        if self.first == 1 {
            self.values.retain(|_, value| *value != Value::Deleted);
        }
        self
    }

    fn head(&self, kind: KeyKind, key: &[u8]) -> Option<ListHead> {
        let list = self.lists.get(&(kind, key.to_vec()))?;
        Some(ListHead {
            count: list.len() as u64,
            first: list[0],
            last: list[list.len() - 1],
            first_version: match kind {
                KeyKind::Stream => self.first_versions[key],
                _ => 0,
            },
        })
    }

    fn positions(
        &self,
        kind: KeyKind,
        key: &[u8],
        from: u64,
        backward: bool,
        max: usize,
    ) -> Vec<u64> {
        let none = Vec::new();
        let list = self.lists.get(&(kind, key.to_vec())).unwrap_or(&none);
        if backward {
            let up_to = list.iter().rev().filter(|&&position| position <= from);
            up_to.take(max).copied().collect()
        } else {
            let on = list.iter().filter(|&&position| position >= from);
            on.take(max).copied().collect()
        }
    }

    fn keys(
        &self,
        kind: KeyKind,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
    ) -> Vec<(Vec<u8>, ListHead)> {
        let lists = self.lists.keys().map(|key| (key, true));
        let values = self.values.keys().map(|key| (key, false));
        let of_kind = lists.chain(values).filter(|((found, key), _)| {
            *found == kind
                && key.starts_with(prefix)
                && after.is_none_or(|after| key.as_slice() > after)
        });
        let head = |((kind, key), is_list): (&(KeyKind, Vec<u8>), bool)| match is_list {
            true => (key.clone(), self.head(*kind, key).unwrap()),
            false => (key.clone(), ListHead::default()),
        };
        of_kind.take(max).map(head).collect()
    }

    /// A key to ask for: most of them there.
    fn some_key(&self, rng: &mut Rng, history: &History) -> (KeyKind, Vec<u8>) {
        let kind = KeyKind::ALL[rng.below(8) as usize];
        let of_kind: Vec<&Vec<u8>> = {
            let lists = self.lists.keys().filter(|(found, _)| *found == kind);
            let values = self.values.keys().filter(|(found, _)| *found == kind);
            lists.chain(values).map(|(_, key)| key).collect()
        };
        let mut key = match of_kind.len() {
            0 => history.events[rng.below(history.events.len() as u64) as usize]
                .stream
                .clone(),
            len => of_kind[rng.below(len as u64) as usize].clone(),
        };
        match rng.below(12) {
            0 => key.push(b'x'),
            1 => drop(key.pop()),
            2 => key = vec![0xFF; 2000],
            3 => {
                if let Some(byte) = key.last_mut() {
                    *byte ^= 1;
                }
            }
            _ => {}
        }
        (kind, key)
    }

    /// Asks `layer` one random question. Gives the error if it has one; panics if the answer is
    /// wrong. `questions` counts them by sort, so that a test can see that all were asked.
    fn ask(
        &self,
        layer: &dyn Layer,
        rng: &mut Rng,
        history: &History,
        questions: &mut [u64; 7],
    ) -> Result<()> {
        let (kind, key) = self.some_key(rng, history);
        let question = rng.below(7) as usize;
        questions[question] += 1;
        let near = |rng: &mut Rng| match rng.below(10) {
            0 => 0,
            1 => u64::MAX,
            _ => self.first + rng.below(self.last - self.first + 3) - 1,
        };
        match question {
            0 => assert_eq!(layer.head(kind, &key)?, self.head(kind, &key), "{kind:?}"),
            1 | 2 => {
                let backward = question == 2;
                let from = near(rng);
                let max = match rng.below(3) {
                    0 => usize::MAX,
                    1 => rng.below(3) as usize,
                    _ => rng.below(6000) as usize,
                };
                let mut out = vec![7];
                layer.positions(kind, &key, from, backward, max, &mut out)?;
                assert_eq!(out[0], 7);
                assert_eq!(
                    out[1..],
                    self.positions(kind, &key, from, backward, max),
                    "{kind:?} from {from}, backward {backward}, max {max}"
                );
            }
            3 => {
                let list = self.positions(KeyKind::Stream, &key, 0, false, usize::MAX);
                let first_version = self.first_versions.get(&key).copied().unwrap_or(1);
                let index = rng.below(list.len() as u64 + 3);
                let version = (first_version + index).saturating_sub(1);
                let expected = version
                    .checked_sub(first_version)
                    .and_then(|index| list.get(index as usize));
                let found = layer.position_of_version(&key, version)?;
                assert_eq!(found.as_ref(), expected, "stream version {version}");
            }
            4 => {
                let position = near(rng);
                let index = position.checked_sub(self.first);
                let expected = index.and_then(|index| self.places.get(index as usize));
                assert_eq!(
                    layer.place(position)?.as_ref(),
                    expected,
                    "place {position}"
                );
                let several: Vec<u64> = (0..rng.below(50))
                    .map(|_| self.first + rng.below(self.last - self.first + 1))
                    .collect();
                let mut found = Vec::new();
                layer.places(&several, &mut found)?;
                let expected: Vec<Place> = several
                    .iter()
                    .map(|position| self.places[(position - self.first) as usize])
                    .collect();
                assert_eq!(found, expected);
            }
            5 => assert_eq!(
                layer.value(kind, &key)?.as_ref(),
                self.values.get(&(kind, key)),
                "value"
            ),
            _ => {
                let prefix_len = rng.below(4).min(key.len() as u64) as usize;
                let prefix = key[..prefix_len].to_vec();
                let after = rng.percent(60).then_some(key.as_slice());
                let max = rng.below(100) as usize;
                let mut found = Vec::new();
                layer.keys(kind, after, &prefix, max, &mut found)?;
                let expected = self.keys(kind, after, &prefix, max);
                assert!(found == expected, "keys of {kind:?}, prefix {prefix:?}");
            }
        }
        Ok(())
    }

    fn check(&self, layer: &dyn Layer, rng: &mut Rng, history: &History, count: u64) {
        assert_eq!(layer.range(), self.first..=self.last);
        let mut questions = [0; 7];
        for _ in 0..count {
            self.ask(layer, rng, history, &mut questions).unwrap();
        }
        assert!(questions.iter().all(|&asked| asked > 0), "{questions:?}");
    }
}

fn some_bytes(rng: &mut Rng, len_max: u64) -> Vec<u8> {
    // Often alike at the front, so that prefixes and separators have work.
    let len = match rng.below(4) {
        0 => 1 + rng.below(len_max),
        _ => 1 + rng.below(12),
    };
    let mut bytes = vec![b'a'; len as usize];
    let tail = bytes.len().saturating_sub(4);
    rng.fill(&mut bytes[tail..]);
    if rng.percent(20) {
        rng.fill(&mut bytes);
    }
    bytes
}

/// A history with short and long lists, keys and values of all lengths.
fn random_history(rng: &mut Rng, event_count: u64) -> History {
    let mut history = History::default();
    let streams: Vec<Vec<u8>> = (0..1 + rng.below(800))
        .map(|number| match rng.below(3) {
            0 => format!("order-{number}").into_bytes(),
            1 => format!("{}-{number}", ["-", "x", "account"][number as usize % 3]).into_bytes(),
            _ => some_bytes(rng, KEY_LEN_MAX as u64),
        })
        .collect();
    let types: Vec<Vec<u8>> = (0..1 + rng.below(20))
        .map(|_| some_bytes(rng, 255))
        .collect();
    let tags: Vec<Vec<u8>> = (0..1 + rng.below(500))
        .map(|_| some_bytes(rng, KEY_LEN_MAX as u64))
        .collect();
    for _ in 0..event_count {
        // The first streams get most events, so that there are long lists and single ones.
        let skewed = rng.below(rng.clone().below(streams.len() as u64) + 1);
        let stream = streams[skewed as usize].clone();
        let event_type = types[rng.below(types.len() as u64) as usize].clone();
        let tag_count = if rng.percent(5) { 60 } else { rng.below(3) };
        let tags = (0..tag_count)
            .map(|_| tags[rng.below(tags.len() as u64) as usize].clone())
            .collect();
        history.push(rng, &stream, &event_type, tags);
        if rng.percent(10) {
            let kinds = [KeyKind::Request, KeyKind::SavedPosition, KeyKind::State];
            let kind = kinds[rng.below(3) as usize];
            let key = match rng.below(2) {
                0 => format!("key {}", rng.below(50)).into_bytes(),
                _ => some_bytes(rng, KEY_LEN_MAX as u64),
            };
            let value = match rng.below(10) {
                0..=2 => Value::Deleted,
                3 => Value::Bytes(some_bytes(rng, 20_000)),
                4 => Value::Bytes(vec![rng.next_u64() as u8; 1020 + rng.below(8) as usize]),
                5 => Value::Bytes(vec![rng.next_u64() as u8; 4088 * rng.below(3) as usize]),
                _ => Value::Bytes(some_bytes(rng, 50)),
            };
            history
                .events
                .last_mut()
                .unwrap()
                .values
                .push((kind, key, value));
        }
    }
    history
}

struct Bench {
    dir: tempfile::TempDir,
    disk: RealDisk,
    cache: Arc<BlockCache>,
}

/// Here every event is a batch of its own, so that positions serve as sequence numbers.
fn numbers(runs: &[Arc<Run>]) -> RangeInclusive<u64> {
    let first = runs.first().map_or(1, |run| *run.range().start());
    first..=runs.last().map_or(1, |run| *run.range().end())
}

impl Bench {
    fn new(cache_bytes: usize) -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            disk: RealDisk::new(),
            cache: Arc::new(BlockCache::new(cache_bytes)),
        }
    }

    fn open(&self, path: &Path) -> Result<Arc<Run>> {
        Run::open(&self.disk, path, &LOG_ID, &self.cache, false).map(Arc::new)
    }

    fn write(&self, memory: &MemoryIndex) -> Arc<Run> {
        let anchor = Anchor([3; 64]);
        let path = write_run(
            &self.disk,
            self.dir.path(),
            memory.range(),
            &LOG_ID,
            &anchor,
            0,
            memory,
        )
        .unwrap();
        let run = self.open(&path).unwrap();
        assert_eq!((run.anchor(), run.path()), (anchor, path.as_path()));
        run
    }

    fn merge(&self, runs: &[Arc<Run>]) -> Arc<Run> {
        let anchor = Anchor([4; 64]);
        let dir = self.dir.path();
        let path = merge_runs(&self.disk, dir, numbers(runs), runs, &anchor, 1, &|_| true).unwrap();
        let run = self.open(&path).unwrap();
        assert_eq!(run.anchor(), anchor);
        run
    }

    /// Names in the directory.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn check_all_forms(seed: u64, event_count: u64, question_count: u64) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let history = random_history(&mut rng, event_count);
    let bench = Bench::new([0, 1 << 20, 1 << 26][rng.below(3) as usize]);
    let memory = history.memory(1, event_count);
    let whole = history.model(1, event_count);
    whole.check(&memory, &mut rng, &history, question_count);

    let mut runs = Vec::new();
    let mut first = 1;
    while first <= event_count {
        let most = if rng.percent(30) { 3 } else { event_count };
        let last = (first + rng.below(most)).min(event_count);
        let run = bench.write(&history.memory(first, last));
        let model = history.model(first, last).without_deleted();
        model.check(run.as_ref(), &mut rng, &history, question_count / 2);
        runs.push(run);
        first = last + 1;
    }
    while runs.len() > 1 {
        let start = rng.below(runs.len() as u64 - 1) as usize;
        let most = (runs.len() - start).min(8) as u64;
        let count = 2 + rng.below(most - 1) as usize;
        let merged = bench.merge(&runs[start..start + count]);
        let (first, last) = merged.range().into_inner();
        let model = history.model(first, last).without_deleted();
        model.check(merged.as_ref(), &mut rng, &history, question_count / 2);
        runs.splice(start..start + count, [merged]);
    }
    assert_eq!(runs[0].range(), 1..=event_count);
    let model = whole.without_deleted();
    model.check(runs[0].as_ref(), &mut rng, &history, question_count);
    assert!(bench.names().iter().all(|name| name.ends_with(".run")));
}

#[test]
fn every_form_gives_the_same_answers() {
    for seed in 0..8 {
        check_all_forms(seed, 3000, 1000);
    }
}

#[test]
fn small_forms_give_the_same_answers() {
    for seed in 100..140 {
        check_all_forms(seed, 1 + seed % 9, 200);
    }
}

#[test]
fn long_lists_give_the_same_answers() {
    let mut rng = Rng::new(5);
    let mut history = History::default();
    for number in 0..130_000u64 {
        let lone = format!("lone-{number}");
        let stream = match number % 13 {
            0..=9 => "long",
            10 => lone.as_str(),
            _ => "longer-but-sparse",
        };
        // Lists of the length that is just inline, or just not.
        let tags = (505..520u64)
            .filter(|&len| number % 100 == 0 && number / 100 < len)
            .map(|len| format!("tag {len}").into_bytes())
            .collect();
        history.push(&mut rng, stream.as_bytes(), b"type", tags);
    }
    assert_eq!(history.versions[b"long".as_slice()], 100_000);
    let bench = Bench::new(1 << 24);
    let whole = history.model(1, 130_000);
    whole.check(&history.memory(1, 130_000), &mut rng, &history, 1000);
    let ranges = [(1, 1), (2, 60_000), (60_001, 60_300), (60_301, 130_000)];
    let runs: Vec<Arc<Run>> = ranges
        .iter()
        .map(|&(first, last)| bench.write(&history.memory(first, last)))
        .collect();
    for (run, (first, last)) in runs.iter().zip(ranges) {
        let model = history.model(first, last);
        model.check(run.as_ref(), &mut rng, &history, 1000);
    }
    let merged = bench.merge(&runs);
    whole.check(merged.as_ref(), &mut rng, &history, 2000);
    check_where_blocks_meet(&merged, &whole);
}

/// Random questions hardly ever hit the ends of the blocks of a long list.
fn check_where_blocks_meet(run: &Run, model: &Model) {
    let long = model.positions(KeyKind::Stream, b"long", 0, false, usize::MAX);
    let mut met = 0;
    for number in run.header.tree_start..run.header.block_count {
        let block = run.block(number).unwrap();
        let Ok(posting) = PostingBlock::decode(&block) else {
            continue;
        };
        met += 1;
        for from in posting.first.saturating_sub(2)..posting.first + 3 {
            for key in [b"long".as_slice(), b"longer-but-sparse"] {
                for (backward, max) in [(false, 1), (false, 5), (true, 1), (true, 5)] {
                    let mut out = Vec::new();
                    run.positions(KeyKind::Stream, key, from, backward, max, &mut out)
                        .unwrap();
                    let expected = model.positions(KeyKind::Stream, key, from, backward, max);
                    assert_eq!(out, expected, "from {from}, backward {backward}");
                }
            }
        }
        for version in posting.index.saturating_sub(1)..posting.index + 3 {
            let index = version.checked_sub(1);
            let expected = index.and_then(|index| long.get(index as usize));
            let found = run.position_of_version(b"long", version).unwrap();
            assert_eq!(found.as_ref(), expected, "stream version {version}");
        }
    }
    assert!(met > 50, "{met} blocks");
}

#[test]
fn keys_of_the_longest_length_make_a_tree_of_many_levels() {
    let mut rng = Rng::new(6);
    let mut history = History::default();
    for number in 0..400u64 {
        // No shared front, and the difference to the neighbour at the end.
        let mut stream = vec![(number / 2) as u8; KEY_LEN_MAX];
        stream[KEY_LEN_MAX - 1] = number as u8;
        stream[1] = (number / 200) as u8;
        history.push(&mut rng, &stream, b"t", Vec::new());
    }
    let bench = Bench::new(1 << 20);
    let halves = [
        bench.write(&history.memory(1, 200)),
        bench.write(&history.memory(201, 400)),
    ];
    let merged = bench.merge(&halves);
    assert!(
        merged.header.root_level >= 4,
        "{}",
        merged.header.root_level
    );
    let model = history.model(1, 400);
    model.check(merged.as_ref(), &mut rng, &history, 2000);
}

#[test]
fn a_stopped_merge_leaves_nothing() {
    let mut rng = Rng::new(7);
    let history = random_history(&mut rng, 3000);
    let bench = Bench::new(1 << 20);
    let runs = [
        bench.write(&history.memory(1, 1000)),
        bench.write(&history.memory(1001, 3000)),
    ];
    let before = bench.names();
    let mut stopped = 0;
    for after in 0..1000 {
        let calls = Cell::new(0);
        let progress = |_| {
            calls.set(calls.get() + 1);
            calls.get() <= after
        };
        let dir = bench.dir.path();
        match merge_runs(
            &bench.disk,
            dir,
            numbers(&runs),
            &runs,
            &Anchor::default(),
            1,
            &progress,
        ) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Stopped),
        }
        assert_eq!(bench.names().len(), before.len());
        stopped += 1;
    }
    assert!(stopped > 3, "{stopped}");
}

#[test]
fn only_runs_that_follow_each_other_are_merged() {
    let history = random_history(&mut Rng::new(8), 30);
    let bench = Bench::new(0);
    let [one, two, three] =
        [(1, 10), (11, 20), (21, 30)].map(|(a, b)| bench.write(&history.memory(a, b)));
    let refused: [&[Arc<Run>]; 4] = [
        &[],
        &[one.clone(), three.clone()],
        &[two.clone(), one.clone()],
        &[one.clone(), one.clone()],
    ];
    for runs in refused {
        let dir = bench.dir.path();
        let error = merge_runs(
            &bench.disk,
            dir,
            numbers(runs),
            runs,
            &Anchor::default(),
            1,
            &|_| true,
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn events_out_of_order_are_refused_and_change_nothing() {
    let history = random_history(&mut Rng::new(9), 10);
    let mut memory = history.memory(1, 9);
    let mut add = |position, version| {
        let none = std::iter::empty::<&[u8]>();
        memory
            .add_event(
                position,
                Place::default(),
                b"new",
                version,
                b"t",
                none,
                None,
            )
            .map_err(|error| error.kind())
    };
    assert_eq!(add(9, 1), Err(ErrorKind::Internal));
    assert_eq!(add(11, 1), Err(ErrorKind::Internal));
    assert_eq!(add(10, 5), Ok(()));
    assert_eq!(add(11, 7), Err(ErrorKind::Internal));
    assert_eq!(add(11, 6), Ok(()));
    assert_eq!(memory.range(), 1..=11);
}

/// Else it would be frozen with its first event, by the bytes it holds, and so would be all that follow.
#[test]
fn the_successor_of_a_full_index_is_not_full() {
    for bytes_max in (40_000..400_000).step_by(9_973) {
        for events_per_stream in [1, 2, 7] {
            let mut memory = MemoryIndex::new(1);
            while memory.bytes() < bytes_max {
                let nth = memory.event_count();
                let stream = (nth / events_per_stream).to_string();
                let version = nth % events_per_stream + 1;
                let (place, none) = (Place::default(), std::iter::empty::<&[u8]>());
                memory
                    .add_event(nth + 1, place, stream.as_bytes(), version, b"t", none, None)
                    .unwrap();
            }
            let next = memory.successor();
            assert_eq!(
                next.range(),
                memory.event_count() + 1..=memory.event_count()
            );
            assert!(next.bytes() < bytes_max, "{} of {bytes_max}", next.bytes());
        }
    }
}

#[test]
fn places_have_the_bytes_they_need() {
    let bench = Bench::new(0);
    let far = [0, 255, 256, 1 << 40, u64::MAX - 1000];
    for (distance, time) in far.into_iter().flat_map(|lsn| far.map(|time| (lsn, time))) {
        let mut memory = MemoryIndex::new(1);
        let places: Vec<Place> = (0..600)
            .map(|nth| Place {
                lsn: 1000 + if nth == 599 { distance } else { 0 },
                crc: nth,
                // The last event need not be the latest.
                time_ns: if nth == 300 { time } else { 7.min(time) },
            })
            .collect();
        for (&place, position) in places.iter().zip(1..) {
            let none = std::iter::empty::<&[u8]>();
            memory
                .add_event(position, place, b"s", position, b"t", none, None)
                .unwrap();
        }
        let run = bench.write(&memory);
        let merged = bench.merge(std::slice::from_ref(&run));
        for run in [run, merged] {
            let mut found = Vec::new();
            let positions: Vec<u64> = (1..=600).collect();
            run.places(&positions, &mut found).unwrap();
            assert!(found == places, "{distance} {time}");
        }
    }
}

#[test]
fn an_empty_index_is_no_run() {
    let bench = Bench::new(0);
    let dir = bench.dir.path();
    let memory = MemoryIndex::new(5);
    assert!(memory.range().is_empty());
    let error = write_run(
        &bench.disk,
        dir,
        memory.range(),
        &LOG_ID,
        &Anchor::default(),
        0,
        &memory,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(bench.names().is_empty());
}

#[test]
fn a_run_of_another_log_is_refused() {
    let history = random_history(&mut Rng::new(10), 10);
    let bench = Bench::new(0);
    let run = bench.write(&history.memory(1, 10));
    let error = Run::open(&bench.disk, run.path(), &[8; 16], &bench.cache, false).err();
    assert!(error.unwrap().is_corrupt());
}

// ---- Damage ----

/// A merged run of everything, its bytes, and what it must answer.
struct Victim {
    bench: Bench,
    history: History,
    model: Model,
    bytes: Vec<u8>,
}

impl Victim {
    fn new(seed: u64, event_count: u64) -> Victim {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut history = random_history(&mut rng, event_count);
        // A list long enough for several blocks.
        for _ in 0..9000 {
            history.push(&mut rng, b"long", b"long", Vec::new());
        }
        let bench = Bench::new(1 << 20);
        let half = history.events.len() as u64 / 2;
        let last = history.events.len() as u64;
        let runs = [
            bench.write(&history.memory(1, half)),
            bench.write(&history.memory(half + 1, last)),
        ];
        let bytes = std::fs::read(bench.merge(&runs).path()).unwrap();
        let model = history.model(1, last).without_deleted();
        Victim {
            bench,
            history,
            model,
            bytes,
        }
    }

    fn block_count(&self) -> usize {
        self.bytes.len() / BLOCK_LEN
    }

    /// Opens these bytes as a run, with a cache of its own: the salt is that of the undamaged.
    fn open(&self, bytes: &[u8]) -> Result<Arc<Run>> {
        let path = self.bench.dir.path().join("damaged");
        std::fs::write(&path, bytes).unwrap();
        let cache = Arc::new(BlockCache::new(1 << 20));
        Run::open(&self.bench.disk, &path, &LOG_ID, &cache, false).map(Arc::new)
    }

    /// Asks the damaged run. Gives how many questions were answered with CORRUPT.
    fn ask(&self, bytes: &[u8], rng: &mut Rng, count: u64) -> u64 {
        let run = match self.open(bytes) {
            Ok(run) => run,
            Err(error) => return must_be_corrupt(&error),
        };
        let mut refused = 0;
        for _ in 0..count {
            let asked = self
                .model
                .ask(run.as_ref(), rng, &self.history, &mut [0; 7]);
            if let Err(error) = asked {
                refused += must_be_corrupt(&error);
            }
        }
        refused
    }

    /// A merge of the damaged run must notice: it reads everything.
    fn merge(&self, bytes: &[u8]) -> Result<()> {
        let run = self.open(bytes)?;
        let dir = self.bench.dir.path();
        merge_runs(
            &self.bench.disk,
            dir,
            run.range(),
            std::slice::from_ref(&run),
            &Anchor::default(),
            2,
            &|_| true,
        )
        .map(drop)
    }
}

fn must_be_corrupt(error: &Error) -> u64 {
    assert!(error.is_corrupt(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("block ") && text.contains("damaged"),
        "{text}"
    );
    1
}

#[test]
fn a_damaged_block_is_refused_or_not_asked() {
    let victim = Victim::new(20, 1500);
    let mut rng = Rng::new(21);
    let mut refused = 0;
    for number in 0..victim.block_count() {
        let block = number * BLOCK_LEN..(number + 1) * BLOCK_LEN;
        let mut flipped = victim.bytes.clone();
        flipped[block.start + rng.below(BLOCK_LEN as u64) as usize] ^= 1 << rng.below(8);
        let mut zeroed = victim.bytes.clone();
        zeroed[block.clone()].fill(0);
        let mut swapped = victim.bytes.clone();
        let other = rng.below(victim.block_count() as u64) as usize;
        let other = (other + usize::from(other == number)) % victim.block_count();
        swapped.copy_within(other * BLOCK_LEN..(other + 1) * BLOCK_LEN, block.start);
        let cut = victim.bytes[..block.start].to_vec();
        let half_cut = victim.bytes[..block.start + 100].to_vec();
        for damaged in [flipped, zeroed, swapped, cut, half_cut] {
            refused += victim.ask(&damaged, &mut rng, 60);
            let error = victim.merge(&damaged).unwrap_err();
            must_be_corrupt(&error);
        }
    }
    assert!(refused > victim.block_count() as u64, "{refused}");
    assert_eq!(victim.ask(&victim.bytes, &mut rng, 500), 0);
}

#[test]
fn a_cut_while_it_is_open_is_corrupt() {
    let victim = Victim::new(22, 500);
    let run = victim.open(&victim.bytes).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(run.path())
        .unwrap();
    file.set_len(BLOCK_LEN as u64 + 5).unwrap();
    let error = run.head(KeyKind::Stream, b"long").unwrap_err();
    must_be_corrupt(&error);
}

#[test]
fn a_file_of_another_size_is_not_opened() {
    let victim = Victim::new(26, 100);
    let last = victim.bytes.len();
    let longer = [victim.bytes.as_slice(), &[0; BLOCK_LEN]].concat();
    for bytes in [
        &victim.bytes[..last - 1],
        &victim.bytes[..BLOCK_LEN],
        &longer,
    ] {
        must_be_corrupt(&victim.open(bytes).err().unwrap());
    }
}

#[test]
fn a_tree_without_the_keys_it_says_is_not_merged() {
    let victim = Victim::new(27, 100);
    let mut header = victim.open(&victim.bytes).unwrap().header.clone();
    header.key_count += 1;
    let mut bytes = victim.bytes.clone();
    bytes[..BLOCK_LEN].copy_from_slice(header.encode().bytes());
    must_be_corrupt(&victim.merge(&bytes).unwrap_err());
}

/// Nonsense with a checksum that holds: what a careful hand could make.
#[test]
fn nonsense_with_a_good_checksum_ends_quietly() {
    let victim = Victim::new(23, 300);
    let mut rng = Rng::new(24);
    let salt = victim.open(&victim.bytes).unwrap().header.salt;
    let mut refused = 0;
    for round in 0..1200 {
        let mut bytes = victim.bytes.clone();
        for _ in 0..1 + rng.below(3) {
            let number = match rng.below(3) {
                0 => victim.block_count() - 1,
                1 => 0,
                _ => rng.below(victim.block_count() as u64) as usize,
            };
            let block = &mut bytes[number * BLOCK_LEN..][..BLOCK_LEN];
            match rng.below(4) {
                0 => block[rng.below(200) as usize] = rng.next_u64() as u8,
                1 => block[rng.below(4092) as usize] = rng.next_u64() as u8,
                2 => {
                    let at = rng.below(4080) as usize;
                    rng.fill(&mut block[at..at + 8]);
                }
                _ => {
                    let at = rng.below(4000) as usize;
                    block.copy_within(at..at + 60, 8);
                }
            }
            let mut sealed = Block::zeroed();
            sealed.bytes_mut().copy_from_slice(block);
            if number == 0 {
                // Keep the salt, or no other block is read at all.
                sealed.bytes_mut()[32..40].copy_from_slice(&salt.to_le_bytes());
            }
            sealed.seal(salt, number as u32);
            block.copy_from_slice(sealed.bytes());
        }
        let run = match victim.open(&bytes) {
            Ok(run) => run,
            Err(error) => {
                must_be_corrupt(&error);
                continue;
            }
        };
        for kind in KeyKind::ALL {
            for _ in 0..3 {
                let (_, key) = victim.model.some_key(&mut rng, &victim.history);
                let mut out = Vec::new();
                let mut keys = Vec::new();
                let mut places = Vec::new();
                let asked = [
                    run.head(kind, &key).map(drop),
                    run.positions(kind, &key, 0, false, 50_000, &mut out),
                    run.positions(kind, b"long", u64::MAX, true, 50_000, &mut out),
                    run.position_of_version(b"long", rng.below(9000)).map(drop),
                    run.place(rng.below(9000)).map(drop),
                    run.places(&[1, 9000], &mut places),
                    run.value(kind, &key).map(drop),
                    run.keys(kind, None, b"", 1000, &mut keys),
                ];
                for error in asked.into_iter().filter_map(Result::err) {
                    if error.kind() != ErrorKind::Internal {
                        refused += must_be_corrupt(&error);
                    }
                }
            }
        }
        if round % 10 == 0 {
            // Whatever comes of it, it ends.
            let _ = victim.merge(&bytes);
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Every cell of every inner node leads to the same child: as many ways as there are leaves and
/// more, but the keys do not ascend.
#[test]
fn a_tree_that_leads_back_to_the_same_leaf_ends_the_walk() {
    let victim = Victim::new(25, 1000);
    let run = victim.open(&victim.bytes).unwrap();
    assert!(run.header.root_level > 0);
    let root = run.header.root as usize;
    let mut bytes = victim.bytes.clone();
    let mut block = Block::zeroed();
    block
        .bytes_mut()
        .copy_from_slice(&bytes[root * BLOCK_LEN..][..BLOCK_LEN]);
    let level = run.header.root_level;
    let node = super::tree::Node::decode(&block, level).unwrap();
    let first = node.child(0, &run.header).unwrap();
    let bodies: Vec<usize> = (0..node.count)
        .map(|cell| node.cell(cell).unwrap().body.start)
        .collect();
    for at in bodies {
        block.bytes_mut()[at..at + 4].copy_from_slice(&first.to_le_bytes());
    }
    block.seal(run.header.salt, root as u32);
    bytes[root * BLOCK_LEN..][..BLOCK_LEN].copy_from_slice(block.bytes());
    must_be_corrupt(&victim.merge(&bytes).unwrap_err());
}
