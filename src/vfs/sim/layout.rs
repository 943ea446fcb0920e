//! How a disk looks once every open question has an answer, and the same in words.

use super::choice::Choice;
use super::content::Content;
use super::crash::{CrashStates, Settled};
use super::history::NameChange;
use super::image::{Image, Names};
use std::collections::HashSet;
use std::fmt::Write as _;

impl CrashStates {
    /// Bends a choice to the rules.
    pub(super) fn settle(&self, choice: &mut Choice) {
        let mut lost = HashSet::new();
        for ((change, sure), keep) in self.name_changes.iter().zip(&mut choice.names) {
            *keep = *sure
                || (*keep
                    && !change
                        .slots
                        .iter()
                        .any(|slot| lost.contains(&(slot.dir, &slot.name))));
            if !*keep {
                lost.extend(change.slots.iter().map(|slot| (slot.dir, &slot.name)));
            }
        }
        for (file, picked) in self.files.iter().zip(&mut choice.files) {
            picked.size = at_most(&file.sizes, picked.size);
            for (k, change) in file
                .changes
                .iter()
                .enumerate()
                .filter(|(_, change)| change.shrinks)
            {
                if picked.size > k {
                    let sectors = &mut picked.sectors[change.sectors.clone()];
                    sectors
                        .iter_mut()
                        .for_each(|version| *version = (*version).max(k + 1));
                } else {
                    picked
                        .sectors
                        .iter_mut()
                        .for_each(|version| *version = (*version).min(k));
                }
            }
            for (sector, version) in file.sectors.iter().zip(&mut picked.sectors) {
                *version = at_most(&sector.versions, *version);
            }
        }
    }

    /// Lays out the disk.
    pub(super) fn build(&self, choice: &Choice) -> Image {
        let mut contents: Vec<Option<Content>> = vec![None; self.settled.len()];
        for (file, picked) in self.files.iter().zip(&choice.files) {
            let mut content = file.filled.clone();
            let len = file.contents[picked.size].len();
            for (sector, &version) in file.sectors.iter().zip(&picked.sectors) {
                let start = sector.number * self.sector_len;
                if version != 0 && start < len {
                    content.copy_range(&file.contents[version], start, start + self.sector_len);
                }
            }
            content.set_len(len);
            contents[file.inode] = Some(content);
        }
        let mut content = |inode: usize| match &self.settled[inode] {
            Settled::Directory => None,
            Settled::File(settled) => {
                Some(contents[inode].take().unwrap_or_else(|| settled.clone()))
            }
        };
        if choice.names.iter().any(|kept| *kept) {
            let mut names = self.names.clone();
            for ((change, _), _) in self
                .name_changes
                .iter()
                .zip(&choice.names)
                .filter(|(_, kept)| **kept)
            {
                apply(&mut names, change);
            }
            Image::from_names(&names, self.boot_id, &mut content)
        } else {
            Image::from_names(&self.names, self.boot_id, &mut content)
        }
    }

    /// Says how a choice differs from "everything survived", a line for each loss.
    pub(super) fn describe(&self, choice: &Choice) -> String {
        let mut text = String::new();
        for ((change, _), _) in self
            .name_changes
            .iter()
            .zip(&choice.names)
            .filter(|(_, kept)| !**kept)
        {
            let _ = write!(text, "operation {}: {}", change.span.operation, change.verb);
            for (k, slot) in change.slots.iter().enumerate() {
                let arrow = if k == 0 { "" } else { " to" };
                let dir = &self.labels[slot.dir];
                let slash = if dir.is_empty() { "" } else { "/" };
                let _ = write!(text, "{arrow} /{dir}{slash}{}", slot.name);
            }
            text.push_str(" lost\n");
        }
        for (file, picked) in self.files.iter().zip(&choice.files) {
            for (k, change) in file.changes.iter().enumerate() {
                let range = change.sectors.clone();
                let lost: Vec<u64> = range
                    .clone()
                    .filter(|&at| file.sectors[at].newest_like(picked.sectors[at]) <= k)
                    .map(|at| file.sectors[at].number)
                    .collect();
                if !lost.is_empty() {
                    let _ = writeln!(
                        text,
                        "operation {}: {} of /{}: {} of {} sectors lost ({})",
                        change.span.operation,
                        change.change,
                        file.label,
                        lost.len(),
                        range.len(),
                        runs(&lost),
                    );
                }
            }
            let len = file.contents[picked.size].len();
            let issued = file.contents[file.changes.len()].len();
            if len != issued {
                let _ = writeln!(text, "/{} has {len} bytes instead of {issued}", file.label);
            }
        }
        if text.is_empty() {
            text.push_str("nothing lost\n");
        }
        text
    }
}

/// The greatest of some ascending versions that is at most `version`; else the first.
fn at_most(versions: &[usize], version: usize) -> usize {
    let place = versions.partition_point(|&known| known <= version);
    versions[place.saturating_sub(1)]
}

pub(super) fn apply(names: &mut [Names], change: &NameChange) {
    for slot in &change.slots {
        match slot.inode {
            Some(inode) => names[slot.dir].insert(slot.name.clone(), inode),
            None => names[slot.dir].remove(&slot.name),
        };
    }
}

/// Ascending numbers as `3..5, 9`.
fn runs(numbers: &[u64]) -> String {
    let mut text = String::new();
    let mut k = 0;
    while k < numbers.len() {
        let start = k;
        while k + 1 < numbers.len() && numbers[k + 1] == numbers[k] + 1 {
            k += 1;
        }
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match k - start {
            0 => write!(text, "{comma}{}", numbers[k]),
            _ => write!(text, "{comma}{}..={}", numbers[start], numbers[k]),
        };
        k += 1;
    }
    text
}
