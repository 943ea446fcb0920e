//! Reading and writing the control file (FORMAT.md section 9): two slots, written in turn, so that
//! a crash during one write leaves the other.

use super::layout::Layout;
use super::report::ControlState;
use crate::error::{Error, ErrorKind, Result};
use crate::format::control::{Control, SlotFault, SLOT_LEN, USED_LEN};
use crate::vfs::{read_full_at, write_all_at, File, OpenMode, Vfs};
use std::io;
use std::sync::Arc;

/// What was found of the control file.
#[derive(Clone, Debug)]
pub(crate) struct ControlFound {
    /// The newest valid slot.
    pub(crate) newest: Option<Control>,
    /// The slot (0 or 1) that holds it.
    pub(crate) newest_slot: usize,
    /// How much of the file is in order.
    pub(crate) state: ControlState,
}

impl ControlFound {
    /// No slot is valid.
    pub(crate) fn lost() -> ControlFound {
        ControlFound {
            newest: None,
            newest_slot: 1,
            state: ControlState::Lost,
        }
    }
}

/// Reads both slots. A missing or damaged file is an answer, not an error; a file that can't be
/// read, or that is newer than this library, is one.
pub(crate) fn read_control(vfs: &dyn Vfs, layout: &Layout) -> Result<ControlFound> {
    let path = layout.control();
    let file = match vfs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ControlFound::lost()),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    read_control_in(file.as_ref(), layout)
}

/// The same if the file is open.
pub(crate) fn read_control_in(file: &dyn File, layout: &Layout) -> Result<ControlFound> {
    read_slots(layout, |slot, bytes| read_slot(file, slot, bytes))
}

/// The same for who takes what there is: what can't be read is taken for damaged.
pub(crate) fn read_control_damaged(vfs: &dyn Vfs, layout: &Layout) -> Result<ControlFound> {
    let Ok(file) = vfs.open(&layout.control(), OpenMode::Read) else {
        return Ok(ControlFound::lost());
    };
    read_slots(layout, |slot, bytes| {
        Ok(read_slot(file.as_ref(), slot, bytes).unwrap_or(0))
    })
}

fn read_slot(file: &dyn File, slot: usize, bytes: &mut [u8]) -> io::Result<usize> {
    read_full_at(file, (slot * SLOT_LEN) as u64, bytes)
}

/// Judges both slots. `read` gives how many bytes there are of what is used of one.
fn read_slots(
    layout: &Layout,
    mut read: impl FnMut(usize, &mut [u8]) -> io::Result<usize>,
) -> Result<ControlFound> {
    let mut bytes = [0; USED_LEN];
    let mut valid = Vec::new();
    for slot in [0, 1] {
        let len =
            read(slot, &mut bytes).map_err(|error| Error::io("read", &layout.control(), error))?;
        match Control::decode(bytes.get(..len).unwrap_or_default()) {
            Ok(control) => valid.push((slot, control)),
            Err(SlotFault::Invalid) => {}
            Err(SlotFault::Newer) => {
                let path = layout.control();
                return Err(Error::new(
                    ErrorKind::Newer,
                    format!("{} was written by a newer version", path.display()),
                ));
            }
        }
    }
    let state = match valid.len() {
        2 => ControlState::Good,
        1 => ControlState::OneSlot,
        _ => ControlState::Lost,
    };
    let newest = valid
        .into_iter()
        .rev()
        .max_by_key(|(_, control)| control.generation);
    Ok(ControlFound {
        newest: newest.map(|(_, control)| control),
        newest_slot: newest.map_or(1, |(slot, _)| slot),
        state,
    })
}

/// The control file of a log that is open for writing. Owned by the segment writer; nobody else
/// writes it.
#[derive(Debug)]
pub(crate) struct ControlFile {
    file: Arc<dyn File>,
    layout: Layout,
    /// The slot (0 or 1) that holds the newest.
    slot: usize,
    /// What the newest slot says.
    pub(crate) current: Control,
}

impl ControlFile {
    /// Opens the file for writing, or makes it, so that afterwards both slots are valid and the
    /// newest says `control` (its generation is set here).
    pub(crate) fn install(
        vfs: &dyn Vfs,
        layout: &Layout,
        found: &ControlFound,
        control: Control,
    ) -> Result<ControlFile> {
        let path = layout.control();
        let file = vfs
            .open(&path, OpenMode::Create)
            .map_err(|error| Error::io("open", &path, error))?;
        let generation = found.newest.map_or(0, |newest| newest.generation);
        let mut control_file = ControlFile {
            file,
            layout: layout.clone(),
            slot: found.newest_slot,
            current: Control {
                generation,
                ..control
            },
        };
        control_file.write(control)?;
        if found.state != ControlState::Good {
            control_file.write(control)?;
            // The name: without this a power cut could take the whole file, and with it the note
            // of what was truncated.
            vfs.sync_dir(layout.dir())
                .map_err(|error| Error::sync(layout.dir(), error))?;
        }
        Ok(control_file)
    }

    /// Writes `control` with the next generation into the older slot and syncs it. On an error the
    /// other slot still holds what was valid before, and on one of kind FULL this one does too.
    pub(crate) fn write(&mut self, control: Control) -> Result<()> {
        let path = self.layout.control();
        let Some(generation) = self.current.generation.checked_add(1) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the generations of {} are used up", path.display()),
            ));
        };
        let control = Control {
            generation,
            ..control
        };
        let mut bytes = [0; SLOT_LEN];
        let used = control.encode();
        bytes[..used.len()].copy_from_slice(&used);
        let older = 1 - self.slot;
        write_all_at(self.file.as_ref(), (older * SLOT_LEN) as u64, &bytes)
            .map_err(|failure| failure.into_error(&path))?;
        // What this says must hold before anything is done that relies on it (segments deleted,
        // a first frame in a new segment, an append after a clean close).
        self.file
            .sync_data()
            .map_err(|error| Error::sync(&path, error))?;
        self.current = control;
        self.slot = older;
        Ok(())
    }

    /// Writes `control` into both slots, one after the other, so that no older one can come back
    /// if the newest is damaged later.
    pub(crate) fn write_both(&mut self, control: Control) -> Result<()> {
        self.write(control)?;
        self.write(control)
    }
}
