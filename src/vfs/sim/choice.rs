//! In which order the states of one moment are tried.
//!
//! All of them if they are few. Else the telling ones first - nothing, everything, every prefix of
//! the open changes, each change alone missing, each alone present, each long write cut in several
//! ways, sizes and names without bytes and the reverse - and then random ones.

use super::crash::CrashStates;
use super::image::Image;
use super::random::{mix, Rng};

/// An answer to every open question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    /// For every change of names: whether it survived.
    pub(super) names: Vec<bool>,
    pub(super) files: Vec<FileChoice>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileChoice {
    /// The version whose size the file has.
    pub(super) size: usize,
    /// The version that each open sector shows.
    pub(super) sectors: Vec<usize>,
}

/// One state that a crash may leave.
#[derive(Clone)]
pub struct CrashState<'a> {
    states: &'a CrashStates,
    choice: Choice,
}

impl<'a> CrashState<'a> {
    /// The disk in this state.
    #[must_use]
    pub fn image(&self) -> Image {
        self.states.build(&self.choice)
    }

    /// What was lost, a line for each loss; for failure messages.
    #[must_use]
    pub fn describe(&self) -> String {
        self.states.describe(&self.choice)
    }

    /// Gives back what can be given back while the state still `fails`: what is left is the cause.
    #[must_use]
    pub fn shrink(&self, mut fails: impl FnMut(&Image) -> bool) -> CrashState<'a> {
        let everything = self.states.extreme(true);
        let mut best = self.clone();
        let mut attempt = |best: &mut CrashState<'a>, restore: &dyn Fn(&mut Choice)| {
            let mut next = best.clone();
            restore(&mut next.choice);
            self.states.settle(&mut next.choice);
            if next.choice != best.choice && fails(&next.image()) {
                *best = next;
            }
        };
        for at in 0..everything.files.len() {
            attempt(&mut best, &|choice| {
                choice.files[at] = everything.files[at].clone()
            });
            attempt(&mut best, &|choice| {
                choice.files[at].size = everything.files[at].size
            });
        }
        for at in 0..everything.names.len() {
            attempt(&mut best, &|choice| choice.names[at] = true);
        }
        for (at, all) in everything.files.iter().enumerate() {
            let mut run = all.sectors.len().div_ceil(2);
            while run > 0 {
                for start in (0..all.sectors.len()).step_by(run) {
                    let range = start..all.sectors.len().min(start + run);
                    attempt(&mut best, &|choice| {
                        choice.files[at].sectors[range.clone()]
                            .copy_from_slice(&all.sectors[range.clone()]);
                    });
                }
                run /= 2;
            }
        }
        best
    }
}

/// Which sectors of a write of several are lost: (place, count) to lost.
const CUTS: [fn(usize, usize) -> bool; 6] = [
    |at, _| at == 0,
    |at, count| at + 1 == count,
    |at, count| at < count / 2,
    |at, count| at >= count / 2,
    |at, _| at % 2 == 0,
    |at, count| at > 0 && at + 1 < count,
];

/// An open change: of names, or of a file.
#[derive(Clone, Copy)]
enum Item {
    Name(usize),
    Bytes(usize, usize),
}

/// A telling state.
#[derive(Clone, Copy)]
enum Recipe {
    Nothing,
    Everything,
    /// All items before this one.
    Prefix(usize),
    Missing(usize),
    Present(usize),
    /// Everything, but the item cut.
    Cut(usize, usize),
    /// All items before this one, and this one cut: the torn tail.
    CutLast(usize, usize),
    /// Which of names, sizes and bytes survive.
    Kinds(bool, bool, bool),
}

impl CrashStates {
    /// All states, if the budget reaches; else the telling ones for at most two thirds of it, and
    /// random ones for the rest. Some may give equal images: see [`Image::hash`].
    pub fn states(&self, seed: u64, budget: u64) -> Box<dyn Iterator<Item = CrashState<'_>> + '_> {
        if self.state_count() <= budget {
            return Box::new(self.exhaustive());
        }
        let items = self.items();
        let mut recipes = self.recipes(&items);
        let room = usize::try_from(budget * 2 / 3).unwrap_or(usize::MAX).max(2);
        // Nothing and everything stay; of the others, some.
        let mut rng = Rng::new(mix(seed));
        while recipes.len() > room {
            let spare = usize::try_from(rng.below(recipes.len() as u64 - 2)).unwrap_or(0);
            recipes.swap_remove(2 + spare);
        }
        let rest = budget.saturating_sub(recipes.len() as u64);
        let telling = recipes
            .into_iter()
            .map(move |recipe| self.state(self.follow(&items, recipe), recipe.varies()));
        Box::new(telling.chain(self.sampled(seed, rest)))
    }

    /// All states. First ask [`CrashStates::state_count`] how many that is.
    pub fn exhaustive(&self) -> impl Iterator<Item = CrashState<'_>> + '_ {
        (0..self.state_count()).map(|number| self.state(self.nth(number), true))
    }

    /// The telling states, in order: nothing, everything, prefixes, and so on.
    pub fn ordered(&self) -> impl Iterator<Item = CrashState<'_>> + '_ {
        let items = self.items();
        let recipes = self.recipes(&items);
        recipes
            .into_iter()
            .map(move |recipe| self.state(self.follow(&items, recipe), recipe.varies()))
    }

    /// Random states: each with its own rate of what survives, from 2 % to 98 %, and its own length of runs
    /// of sectors that share their fate (1, 8 or 64).
    pub fn sampled(&self, seed: u64, count: u64) -> impl Iterator<Item = CrashState<'_>> + '_ {
        let mut rng = Rng::new(seed);
        (0..count).map(move |_| self.state(self.random(&mut rng), true))
    }

    fn state(&self, mut choice: Choice, varies: bool) -> CrashState<'_> {
        self.settle(&mut choice);
        if varies && self.files.iter().any(|file| file.minor) {
            self.vary_minor(&mut choice);
            self.settle(&mut choice);
        }
        CrashState {
            states: self,
            choice,
        }
    }

    /// The minor files follow from the other answers, so that equal answers give equal images.
    fn vary_minor(&self, choice: &mut Choice) {
        let mut hash = choice
            .names
            .iter()
            .fold(1, |hash, kept| mix(hash ^ u64::from(*kept)));
        for (_, picked) in self
            .files
            .iter()
            .zip(&choice.files)
            .filter(|(file, _)| !file.minor)
        {
            let versions = picked.sectors.iter().chain([&picked.size]);
            hash = versions.fold(hash, |hash, version| mix(hash ^ *version as u64));
        }
        let mut rng = Rng::new(hash);
        for (file, picked) in self
            .files
            .iter()
            .zip(&mut choice.files)
            .filter(|(file, _)| file.minor)
        {
            picked.size = pick(&mut rng, &file.sizes);
            for (sector, version) in file.sectors.iter().zip(&mut picked.sectors) {
                *version = pick(&mut rng, &sector.versions);
            }
        }
    }

    /// Everything open survives, or nothing does.
    fn extreme(&self, all: bool) -> Choice {
        let files = self.files.iter().map(|file| {
            let end = |versions: &[usize]| {
                if all {
                    versions[versions.len() - 1]
                } else {
                    versions[0]
                }
            };
            FileChoice {
                size: if all {
                    file.changes.len()
                } else {
                    file.sizes[0]
                },
                sectors: file
                    .sectors
                    .iter()
                    .map(|sector| end(&sector.versions))
                    .collect(),
            }
        });
        let mut choice = Choice {
            names: vec![all; self.name_changes.len()],
            files: files.collect(),
        };
        self.settle(&mut choice);
        choice
    }

    /// The state with this number, as a number whose digits are the answers.
    fn nth(&self, mut number: u64) -> Choice {
        let mut choice = self.extreme(false);
        let mut digit = |radix: usize| {
            let digit = number % radix as u64;
            number /= radix as u64;
            usize::try_from(digit).unwrap_or(0)
        };
        for ((_, sure), kept) in self.name_changes.iter().zip(&mut choice.names) {
            *kept = *sure || digit(2) == 1;
        }
        for (file, picked) in self
            .files
            .iter()
            .zip(&mut choice.files)
            .filter(|(file, _)| !file.minor)
        {
            for (sector, version) in file.sectors.iter().zip(&mut picked.sectors) {
                *version = sector.versions[digit(sector.versions.len())];
            }
            picked.size = file.sizes[digit(file.sizes.len())];
        }
        choice
    }

    fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for (at, (change, sure)) in self.name_changes.iter().enumerate() {
            if !sure {
                items.push((change.span.enter, Item::Name(at)));
            }
        }
        for (at, file) in self
            .files
            .iter()
            .enumerate()
            .filter(|(_, file)| !file.minor)
        {
            items.extend(
                file.changes
                    .iter()
                    .enumerate()
                    .map(|(k, change)| (change.span.enter, Item::Bytes(at, k))),
            );
        }
        items.sort_by_key(|item| item.0);
        items.into_iter().map(|item| item.1).collect()
    }

    fn recipes(&self, items: &[Item]) -> Vec<Recipe> {
        let mut recipes = vec![Recipe::Nothing, Recipe::Everything];
        recipes.extend((1..items.len()).map(Recipe::Prefix));
        recipes.extend((0..items.len()).map(Recipe::Missing));
        recipes.extend((0..items.len()).map(Recipe::Present));
        for (at, item) in items.iter().enumerate() {
            let long = matches!(*item, Item::Bytes(file, k) if self.files[file].changes[k].sectors.len() > 1);
            if long {
                recipes.extend(
                    (0..CUTS.len())
                        .flat_map(|cut| [Recipe::CutLast(at, cut), Recipe::Cut(at, cut)]),
                );
            }
        }
        // Names, sizes, bytes: what is missing alone, and what is there alone.
        for survivors in 1..7 {
            recipes.push(Recipe::Kinds(
                survivors & 1 != 0,
                survivors & 2 != 0,
                survivors & 4 != 0,
            ));
        }
        recipes
    }

    fn follow(&self, items: &[Item], recipe: Recipe) -> Choice {
        match recipe {
            Recipe::Nothing => self.extreme(false),
            Recipe::Everything => self.extreme(true),
            Recipe::Prefix(count) => self.with(&items[..count]),
            Recipe::Present(at) => self.with(&items[at..=at]),
            Recipe::Missing(at) => {
                let mut choice = self.extreme(true);
                self.lose(&mut choice, items[at], |_, _| true);
                if let Item::Bytes(file, k) = items[at] {
                    // Nothing after it made the file that long: then its size is gone as well.
                    let after = self.files[file]
                        .sizes
                        .iter()
                        .any(|&version| version > k + 1);
                    if !after {
                        choice.files[file].size = choice.files[file].size.min(k);
                    }
                }
                choice
            }
            Recipe::Cut(at, cut) => {
                let mut choice = self.extreme(true);
                self.lose(&mut choice, items[at], CUTS[cut]);
                choice
            }
            Recipe::CutLast(at, cut) => {
                let mut choice = self.with(&items[..=at]);
                self.lose(&mut choice, items[at], CUTS[cut]);
                choice
            }
            Recipe::Kinds(names, sizes, bytes) => {
                let mut choice = self.extreme(false);
                let all = self.extreme(true);
                if names {
                    choice.names = all.names;
                }
                for (picked, all) in choice.files.iter_mut().zip(all.files) {
                    if sizes {
                        picked.size = all.size;
                    }
                    if bytes {
                        picked.sectors = all.sectors;
                    }
                }
                choice
            }
        }
    }

    /// Only these changes survive, with those before them in the same sectors.
    fn with(&self, items: &[Item]) -> Choice {
        let mut choice = self.extreme(false);
        for item in items {
            match *item {
                Item::Name(at) => choice.names[at] = true,
                Item::Bytes(file, k) => {
                    let picked = &mut choice.files[file];
                    picked.size = picked.size.max(k + 1);
                    for version in &mut picked.sectors[self.files[file].changes[k].sectors.clone()]
                    {
                        *version = (*version).max(k + 1);
                    }
                }
            }
        }
        choice
    }

    fn lose(&self, choice: &mut Choice, item: Item, lost: impl Fn(usize, usize) -> bool) {
        match item {
            Item::Name(at) => choice.names[at] = false,
            Item::Bytes(file, k) => {
                let range = self.files[file].changes[k].sectors.clone();
                let count = range.len();
                for (at, version) in choice.files[file].sectors[range].iter_mut().enumerate() {
                    if lost(at, count) {
                        *version = (*version).min(k);
                    }
                }
            }
        }
    }

    fn random(&self, rng: &mut Rng) -> Choice {
        const RATES: [u64; 7] = [2, 10, 30, 50, 70, 90, 98];
        const RUNS: [u64; 4] = [1, 1, 8, 64];
        let mut choice = self.extreme(false);
        let rate = pick(rng, &RATES);
        for kept in &mut choice.names {
            *kept = rng.percent(rate);
        }
        for (file, picked) in self.files.iter().zip(&mut choice.files) {
            let (rate, run) = (pick(rng, &RATES), pick(rng, &RUNS));
            picked.size = match rng.below(3) {
                0 => file.sizes[0],
                1 => file.changes.len(),
                _ => pick(rng, &file.sizes),
            };
            let mut fate = (u64::MAX, 0);
            for (sector, version) in file.sectors.iter().zip(&mut picked.sectors) {
                if sector.number / run != fate.0 {
                    fate = (sector.number / run, rng.next_u64());
                }
                // The same draws for all sectors of a run, whatever their versions are.
                let mut shared = Rng::new(fate.1);
                let (newest, older) = (shared.percent(rate), shared.percent(rate));
                let last = sector.versions.len() - 1;
                *version = match (newest, older) {
                    (true, _) => sector.versions[last],
                    (false, true) if last > 1 => pick(&mut shared, &sector.versions[1..last]),
                    (false, _) => sector.versions[0],
                };
            }
        }
        choice
    }
}

impl Recipe {
    fn varies(self) -> bool {
        !matches!(self, Recipe::Nothing | Recipe::Everything)
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[usize::try_from(rng.below(from.len() as u64)).unwrap_or(0)]
}
