//! The machine's calls on names: they change directories, in the cache and in history.

use super::content::Content;
use super::faults::{errno, Call, Fault};
use super::history::{Inode, NameChange, Slot, Span, ROOT};
use super::machine::{error, report, Machine};
use std::io;
use std::path::{Component, Path};

impl Machine {
    pub(super) fn child(&self, dir: usize, name: &str) -> io::Result<Option<usize>> {
        if !self.inodes[dir].is_dir {
            return Err(error(errno::ENOTDIR));
        }
        Ok(self.inodes[dir].names.get(name).copied())
    }

    /// The inode of a path in normal form.
    pub(super) fn find(&self, path: &str) -> io::Result<usize> {
        let mut inode = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            inode = self
                .child(inode, name)?
                .ok_or_else(|| error(errno::ENOENT))?;
        }
        Ok(inode)
    }

    pub(super) fn find_parent<'p>(&self, path: &'p str) -> io::Result<(usize, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(error(errno::EISDIR));
        }
        let dir = self.find(parent)?;
        if !self.inodes[dir].is_dir {
            return Err(error(errno::ENOTDIR));
        }
        Ok((dir, name))
    }

    pub(super) fn change_names(
        &mut self,
        verb: &'static str,
        forced: bool,
        slots: Vec<Slot>,
    ) -> io::Result<()> {
        let span = if forced {
            let enter = self.tick();
            Span {
                operation: 0,
                enter,
                exit: self.tick(),
            }
        } else {
            self.operation()
        };
        for slot in &slots {
            let names = &mut self.inodes[slot.dir].names;
            let gone = match slot.inode {
                Some(inode) => names.insert(slot.name.clone(), inode),
                None => names.remove(&slot.name).filter(|_| slots.len() == 1),
            };
            if let Some(gone) = gone {
                self.release(gone, 0);
            }
        }
        self.name_changes.push(NameChange {
            span,
            verb,
            slots,
            forced,
        });
        Self::returned(span)
    }

    pub(super) fn create(&mut self, path: &str, is_dir: bool, forced: bool) -> io::Result<usize> {
        let (dir, name) = self.find_parent(path)?;
        let inode = self.inodes.len();
        self.inodes
            .push(Inode::new(is_dir, path.to_owned(), Content::default()));
        let verb = if is_dir {
            "creation of directory"
        } else {
            "creation of"
        };
        self.change_names(
            verb,
            forced,
            vec![Slot {
                dir,
                name: name.into(),
                inode: Some(inode),
            }],
        )?;
        Ok(inode)
    }

    pub(super) fn open(
        &mut self,
        path: &str,
        must_exist: bool,
        must_be_new: bool,
    ) -> io::Result<usize> {
        let found = self
            .find_parent(path)
            .and_then(|(dir, name)| self.child(dir, name));
        let call = match found {
            Ok(None) if !must_exist => Call::Create,
            _ if must_be_new => Call::Create,
            _ => Call::Open,
        };
        let fault = self.admit_or_fail(call, &[path])?;
        let inode = match found? {
            Some(_) if must_be_new => return Err(error(errno::EEXIST)),
            Some(inode) if self.inodes[inode].is_dir => return Err(error(errno::EISDIR)),
            Some(inode) => inode,
            None if must_exist => return Err(error(errno::ENOENT)),
            None => self.create(path, false, false)?,
        };
        report(fault)?;
        Ok(inode)
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::Create, &[path])?;
        let (dir, name) = self.find_parent(path).map_err(|_| error(errno::ENOENT))?;
        if self.child(dir, name)?.is_some() {
            return Err(error(errno::EEXIST));
        }
        if fault != Some(Fault::Lie) {
            self.create(path, true, false)?;
        }
        report(fault)
    }

    pub(super) fn list(&mut self, path: &str) -> io::Result<Vec<(String, bool)>> {
        let fault = self.admit_or_fail(Call::List, &[path])?;
        let dir = self.find(path)?;
        if !self.inodes[dir].is_dir {
            return Err(error(errno::ENOTDIR));
        }
        report(fault)?;
        let names = self.inodes[dir].names.iter();
        Ok(names
            .map(|(name, &inode)| (name.to_string(), !self.inodes[inode].is_dir))
            .collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::Rename, &[from, to])?;
        let (from_dir, from_name) = self.find_parent(from)?;
        let (to_dir, to_name) = self.find_parent(to)?;
        let inode = self
            .child(from_dir, from_name)?
            .ok_or_else(|| error(errno::ENOENT))?;
        match self.child(to_dir, to_name)? {
            Some(there) if there == inode => return report(fault),
            Some(there) if self.inodes[there].is_dir => return Err(error(errno::EISDIR)),
            _ => {}
        }
        if fault != Some(Fault::Lie) {
            let gone = Slot {
                dir: from_dir,
                name: from_name.into(),
                inode: None,
            };
            let new = Slot {
                dir: to_dir,
                name: to_name.into(),
                inode: Some(inode),
            };
            self.change_names("renaming", false, vec![gone, new])?;
        }
        report(fault)
    }

    pub(super) fn unlink(&mut self, path: &str) -> io::Result<()> {
        let fault = self.admit_or_fail(Call::Unlink, &[path])?;
        let (dir, name) = self.find_parent(path)?;
        let inode = self.child(dir, name)?.ok_or_else(|| error(errno::ENOENT))?;
        if self.inodes[inode].is_dir {
            return Err(error(errno::EISDIR));
        }
        if fault != Some(Fault::Lie) {
            self.change_names(
                "deletion of",
                false,
                vec![Slot {
                    dir,
                    name: name.into(),
                    inode: None,
                }],
            )?;
        }
        report(fault)
    }
}

/// A path as names joined by `/`, without one at the start; the root is empty.
pub(super) fn normal(path: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or_else(|| error(errno::EINVAL))?)
            }
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names.join("/"))
}
