//! An event store under test, and everything that may happen to its files: it is closed, killed, loses
//! its power, and its index suffers what must not matter.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use crate::store_maker::{below, pick};
use duralog::eventstore::{EventStore, EventStoreOptions, IndexLimits};
use duralog::vfs::os::RealDisk;
use duralog::vfs::sim::{CrashStates, Fill, Rng, SimDisk};
use duralog::vfs::{read_full_at, write_all_at, OpenMode, Vfs};
use duralog::{ErrorKind, SyncMode, WalOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of the index that are kept, to come back when nobody expects them.
const KEPT_MAX: usize = 40;

/// A store under test and what it lies on.
pub(crate) struct Bench {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) sim: Option<SimDisk>,
    pub(crate) path: PathBuf,
    pub(crate) options: EventStoreOptions,
    store: Option<EventStore>,
    /// Names and bytes of files of the index as they once were.
    kept: Vec<(String, Vec<u8>)>,
    _dir: tempfile::TempDir,
}

/// How a store's life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It was closed, by a call or by being dropped.
    Closed,
    /// Its process was killed.
    Killed,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Bench {
        let rng = &mut Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        // The real disk has the threads, the simulated one always does the same.
        let sim = (seed % 2 == 0).then(|| SimDisk::new(seed));
        let path = match &sim {
            Some(_) => PathBuf::from("/store"),
            None => dir.path().join("store"),
        };
        let vfs: Arc<dyn Vfs> = match &sim {
            Some(sim) => Arc::new(sim.clone()),
            None => Arc::new(RealDisk::new()),
        };
        let options = EventStoreOptions {
            wal: WalOptions {
                sync_mode: SyncMode::Manual,
                segment_bytes_max: 64 << 10,
                frame_payload_target: pick(rng, &[200, 2_000, 4 << 20]),
                ..WalOptions::default()
            },
            mapped: rng.percent(50),
            index: IndexLimits {
                freeze_events: 2 + rng.below(60),
                freeze_bytes: pick(rng, &[20_000, 8 << 20]),
                tier_runs: 2 + below(rng, 7),
                close_events: rng.below(20),
                cache_bytes: pick(rng, &[0, 1 << 20]),
                ..IndexLimits::default()
            },
        };
        let mut bench = Bench {
            vfs,
            sim,
            path,
            options,
            store: None,
            kept: Vec::new(),
            _dir: dir,
        };
        bench.open();
        bench
    }

    pub(crate) fn open(&mut self) {
        let vfs = Arc::clone(&self.vfs);
        self.store = Some(EventStore::open_on(vfs, &self.path, &self.options).unwrap());
    }

    pub(crate) fn store(&self) -> &EventStore {
        self.store.as_ref().unwrap()
    }

    /// Ends the store's life, in one of the ways it may end.
    pub(crate) fn end(&mut self, rng: &mut Rng) -> End {
        match (&self.sim, rng.below(3)) {
            (Some(sim), 0) => {
                std::mem::forget(self.store.take());
                sim.restart_process();
                return End::Killed;
            }
            (_, 1) => self.store = None,
            _ => {
                self.store().close().unwrap();
                let error = self.store().last_position().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Closed);
                self.store = None;
            }
        }
        End::Closed
    }

    /// The power goes; what is left is one of the states that are possible now. Only on the
    /// simulated disk.
    pub(crate) fn cut_power(&mut self, rng: &mut Rng) {
        let sim = self.sim.take().unwrap();
        std::mem::forget(self.store.take());
        let fill = pick(rng, &[Fill::Zero, Fill::Stale, Fill::Random]);
        let states = CrashStates::new(&sim, sim.now(), fill);
        let state = states.sampled(rng.next_u64(), 1).next().unwrap();
        let sim = SimDisk::from_image(&state.image(), rng.next_u64());
        self.vfs = Arc::new(sim.clone());
        self.sim = Some(sim);
    }

    fn index_files(&self) -> Vec<String> {
        // A file may go while we look: it has been merged.
        let listed = self.vfs.list(&self.path.join("index"));
        let mut names: Vec<String> = listed
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort_unstable();
        names
    }

    /// Does harm to files of the index: what is there is for speed only.
    pub(crate) fn harm(&self, rng: &mut Rng) {
        let dir = self.path.join("index");
        let names = self.index_files();
        for _ in 0..1 + rng.below(3) {
            if names.is_empty() {
                return;
            }
            let path = dir.join(&names[below(rng, names.len())]);
            if rng.percent(20) {
                let _ = self.vfs.unlink(&path);
                continue;
            }
            let _ = self.harm_file(rng, &path);
        }
        if rng.percent(15) {
            for name in names {
                let _ = self.vfs.unlink(&dir.join(name));
            }
        }
    }

    /// Puts files into the index, of a store that is not open, that do not belong there: some that
    /// were there once, whole, cut short, under their name or another's.
    pub(crate) fn bring_back(&mut self, rng: &mut Rng) {
        let dir = self.path.join("index");
        let names = self.index_files();
        for name in &names {
            if rng.percent(30) {
                if let Some(bytes) = self.read(&dir.join(name)) {
                    let at = below(rng, KEPT_MAX);
                    if at < self.kept.len() {
                        self.kept.swap_remove(at);
                    }
                    self.kept.push((name.clone(), bytes));
                }
            }
        }
        if self.kept.is_empty() {
            return;
        }
        // A power cut may have taken it.
        let _ = self.vfs.create_dir(&dir);
        for _ in 0..rng.below(4) {
            let (name, bytes) = &self.kept[below(rng, self.kept.len())];
            let name = match rng.below(8) {
                0 => &self.kept[below(rng, self.kept.len())].0,
                1 => "00000000000000000001-00000000000000000009.run.tmp",
                _ => name,
            };
            let len = match rng.below(4) {
                0 => below(rng, bytes.len()),
                _ => bytes.len(),
            };
            self.write(&dir.join(name), &bytes[..len]);
        }
    }

    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let file = self.vfs.open(path, OpenMode::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).unwrap()];
        let len = read_full_at(file.as_ref(), 0, &mut bytes).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) {
        let _ = self.vfs.unlink(path);
        let file = self.vfs.open(path, OpenMode::CreateNew).unwrap();
        assert!(write_all_at(file.as_ref(), 0, bytes).is_ok());
    }

    pub(crate) fn harm_file(&self, rng: &mut Rng, path: &Path) -> std::io::Result<()> {
        let file = self.vfs.open(path, OpenMode::ReadWrite)?;
        let len = file.len()?;
        // Cutting off what is mapped is a signal, as the option says.
        let may_cut = self.sim.is_some() || !self.options.mapped;
        match rng.below(4) {
            0 if may_cut => file.set_len(rng.below(len + 1)),
            1 => {
                let mut noise = vec![0; 1 + below(rng, 5_000)];
                rng.fill(&mut noise);
                file.write_at(rng.below(len + 1), &noise).map(drop)
            }
            _ => {
                let at = rng.below(len.max(1));
                let mut byte = [0];
                file.read_at(at, &mut byte)?;
                byte[0] ^= 1 << rng.below(8);
                file.write_at(at, &byte).map(drop)
            }
        }
    }
}
