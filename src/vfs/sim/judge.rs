//! What a cut leaves sure and what open: the durability rules, applied to the history of one disk.

use super::content::{index, Content};
use super::crash::{CrashStates, Cut, Fill, OpenChange, OpenFile, OpenSector, Settled};
use super::history::{Change, Inode, Outcome};
use super::layout::apply;
use super::machine::Machine;
use super::random::{mix, Rng};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

impl CrashStates {
    pub(super) fn judge_names(&mut self, machine: &Machine, at: u64, cut: Cut) {
        let count = machine
            .name_changes
            .partition_point(|change| change.span.enter < at);
        let changes = &machine.name_changes[..count];
        let synced = |dir: usize, exit: u64| {
            let syncs = machine.inodes[dir].syncs.iter();
            let mut good =
                syncs.filter(|sync| sync.outcome == Outcome::Synced && sync.span.exit < at);
            good.any(|sync| exit < sync.span.enter)
        };
        let mut sure: Vec<bool> = changes
            .iter()
            .map(|change| match cut {
                Cut::Process => change.forced || change.span.exit < at,
                Cut::Power => {
                    change.forced
                        || change
                            .slots
                            .iter()
                            .any(|slot| synced(slot.dir, change.span.exit))
                }
            })
            .collect();
        // What is sure takes along whatever came before it for the same name.
        let mut needed = HashSet::new();
        for (change, sure) in changes.iter().zip(&mut sure).rev() {
            *sure |= change
                .slots
                .iter()
                .any(|slot| needed.contains(&(slot.dir, &slot.name)));
            if *sure {
                needed.extend(change.slots.iter().map(|slot| (slot.dir, &slot.name)));
            }
        }
        let first_open = sure.iter().position(|sure| !sure).unwrap_or(count);
        for change in &changes[..first_open] {
            apply(&mut self.names, change);
        }
        self.name_changes = changes[first_open..]
            .iter()
            .cloned()
            .zip(sure[first_open..].iter().copied())
            .collect();
    }

    pub(super) fn judge_file(
        &mut self,
        machine: &Machine,
        id: usize,
        at: u64,
        fill: Fill,
        cut: Cut,
    ) -> Settled {
        let inode = &machine.inodes[id];
        if inode.is_dir {
            return Settled::Directory;
        }
        let issued = inode
            .versions
            .partition_point(|version| version.span.enter < at);
        let sure = match cut {
            Cut::Process => judge_returns(inode, at, issued),
            Cut::Power => judge_syncs(inode, at),
        };
        let floor = sure.floor;
        if floor == issued {
            return Settled::File(inode.version(floor).clone());
        }
        let contents: Vec<Content> = (floor..=issued).map(|k| inode.version(k).clone()).collect();
        let mut sectors: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut changes = Vec::new();
        for (k, version) in inode.versions[floor..issued].iter().enumerate() {
            let touched = touched(version.change, contents[k].len(), self.sector_len);
            for sector in touched.clone() {
                sectors.entry(sector).or_insert_with(|| vec![0]).push(k + 1);
            }
            let shrinks = contents[k + 1].len() < contents[k].len();
            changes.push((version.span, version.change, touched, shrinks));
        }
        for (from, until) in sure.rewritten {
            for k in from..until {
                let touched = touched(
                    inode.versions[k].change,
                    inode.version(k).len(),
                    self.sector_len,
                );
                for sector in touched {
                    if let Some(versions) = sectors.get_mut(&sector) {
                        let newest = versions
                            .iter()
                            .copied()
                            .filter(|&version| version + floor <= until)
                            .max()
                            .unwrap_or(0);
                        versions.retain(|&version| version >= newest);
                    }
                }
            }
        }
        let filled = self.fill(machine, id, at, &contents, fill);
        // Where a file was cut, versions also stand for the order of what came before and after.
        let merges = !inode.minor && !changes.iter().any(|(.., shrinks)| *shrinks);
        let sectors: Vec<OpenSector> = sectors
            .into_iter()
            .map(|(number, versions)| {
                let start = number * self.sector_len;
                let content = |version: usize| match version {
                    0 => &filled,
                    _ => &contents[version],
                };
                let mut sector = OpenSector {
                    number,
                    versions: Vec::new(),
                    until: Vec::new(),
                };
                for version in versions {
                    let end = start + self.sector_len;
                    match (sector.versions.last(), sector.until.last_mut()) {
                        (Some(&last), Some(until))
                            if merges && content(last).same_range(content(version), start, end) =>
                        {
                            *until = version;
                        }
                        _ => {
                            sector.versions.push(version);
                            sector.until.push(version);
                        }
                    }
                }
                sector
            })
            .collect();
        let place = |sector: u64| sectors.partition_point(|open| open.number < sector);
        let changes = changes
            .into_iter()
            .map(|(span, change, touched, shrinks)| OpenChange {
                span,
                change,
                sectors: place(touched.start)..place(touched.end),
                shrinks,
            })
            .collect();
        let sizes = sizes(&contents, sure.size - floor);
        let label = inode.label.clone();
        self.files.push(OpenFile {
            inode: id,
            label,
            minor: inode.minor,
            changes,
            contents,
            filled,
            sizes,
            sectors,
        });
        Settled::File(Content::default())
    }

    /// Version 0 with what lies behind it on the device.
    fn fill(
        &self,
        machine: &Machine,
        id: usize,
        at: u64,
        contents: &[Content],
        fill: Fill,
    ) -> Content {
        let mut filled = contents[0].clone();
        let from = filled.len();
        let len = contents.iter().map(Content::len).max().unwrap_or(from);
        match fill {
            Fill::Zero => {}
            Fill::Stale => {
                let issued = |inode: &Inode| {
                    inode
                        .versions
                        .partition_point(|version| version.span.enter < at)
                };
                let others = (0..id).rev().chain(id + 1..machine.inodes.len());
                let old = others
                    .map(|other| &machine.inodes[other])
                    .filter(|other| !other.is_dir && !other.minor)
                    .map(|other| other.version(issued(other)))
                    .find(|content| content.len() > from);
                if let Some(old) = old {
                    filled.copy_range(old, from, len.min(old.len()));
                }
            }
            Fill::Random => {
                let mut bytes = vec![0; index(len.saturating_sub(from))];
                let seed = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8].map(|k| machine.boot_id[k]));
                Rng::new(mix(seed ^ id as u64)).fill(&mut bytes);
                filled.write(from, &bytes);
            }
        }
        filled.set_len(len);
        filled
    }
}

/// What is settled of a file, in versions of the inode.
struct Sure {
    floor: usize,
    size: usize,
    /// These changes, and only these, are settled: after a failed sync those that a later good one
    /// wrote, and what was written directly.
    rewritten: Vec<(usize, usize)>,
}

/// When the process dies: what had returned, also what was entered behind a direct write that had
/// not.
fn judge_returns(inode: &Inode, at: u64, issued: usize) -> Sure {
    let floor = inode.returned(at);
    let behind = (floor..issued).filter(|&k| inode.versions[k].span.exit < at);
    let rewritten: Vec<_> = behind.map(|k| (k, k + 1)).collect();
    let size = rewritten.last().map_or(floor, |&(_, until)| until);
    Sure {
        floor,
        size,
        rewritten,
    }
}

/// When the power is cut: what syncs and direct writes have made durable.
fn judge_syncs(inode: &Inode, at: u64) -> Sure {
    let (mut sure, mut doubtful) = (
        Sure {
            floor: 0,
            size: 0,
            rewritten: Vec::new(),
        },
        0,
    );
    // Changes that were written directly, each settled by itself, and what was in doubt then.
    let mut direct = Vec::new();
    let mut done: Vec<_> = inode
        .syncs
        .iter()
        .filter(|sync| sync.span.exit < at)
        .collect();
    done.sort_by_key(|sync| sync.span.exit);
    for sync in done {
        if let Some(change) = sync.only {
            match sync.outcome {
                Outcome::Lied => {}
                Outcome::Failed => doubtful = doubtful.max(change + 1),
                Outcome::Synced => direct.push((change, doubtful)),
            }
            continue;
        }
        let covered = inode.returned(sync.span.enter);
        match sync.outcome {
            Outcome::Lied => {}
            Outcome::Failed => doubtful = doubtful.max(covered),
            Outcome::Synced => {
                if doubtful <= sure.floor || covered <= sure.floor {
                    sure.floor = sure.floor.max(covered);
                } else {
                    sure.rewritten.push((doubtful, covered));
                }
                // The size goes to the device with the bytes at the end of the file.
                let end = inode.version(covered).len();
                let resized = |k: usize| {
                    let reaches_end = matches!(inode.versions[k].change, Change::Write { end: written, .. } if written >= end);
                    reaches_end || inode.version(k).len() != inode.version(k + 1).len()
                };
                if doubtful <= sure.size || (doubtful..covered).any(resized) {
                    sure.size = sure.size.max(covered);
                }
            }
        }
    }
    sure.size = sure.size.max(sure.floor);
    for (change, doubtful) in direct {
        if change < sure.floor {
            continue;
        }
        sure.rewritten.push((change, change + 1));
        // Without the size nobody would find the bytes.
        let grows = inode.version(change).len() != inode.version(change + 1).len();
        if grows || doubtful <= sure.size {
            sure.size = sure.size.max(change + 1);
        }
    }
    sure
}

/// The sectors that a change of a file of this size changes.
fn touched(change: Change, len: u64, sector_len: u64) -> Range<u64> {
    match change {
        Change::Write { start, end } => start / sector_len..end.div_ceil(sector_len),
        Change::SetLen { len: new } if new < len => new / sector_len..len.div_ceil(sector_len),
        Change::Store => 0..4096 / sector_len,
        Change::SetLen { .. } | Change::Allocate { .. } => 0..0,
    }
}

/// The versions from `floor` on that differ in size. Equal sizes before and after a shrinking are
/// two: they order the bytes.
fn sizes(contents: &[Content], floor: usize) -> Vec<usize> {
    let mut sizes = vec![floor];
    let mut seen = vec![contents[floor].len()];
    for k in floor + 1..contents.len() {
        let len = contents[k].len();
        if len < contents[k - 1].len() {
            seen.clear();
        }
        if !seen.contains(&len) {
            seen.push(len);
            sizes.push(k);
        }
    }
    sizes
}
