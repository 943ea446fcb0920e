//! Which file systems write elsewhere what is overwritten: there, blocks written in advance are written for
//! nothing.

use std::fs;
use std::os::fd::AsRawFd;

/// Asks for the flags of a file (`FS_IOC_GETFLAGS`); the number says `long`, the answer is an `int`.
const GET_FILE_FLAGS: libc::Ioctl = 0x8008_6601;
/// This file is overwritten in place although the others are not (`FS_NOCOW_FL`, `chattr +C`).
const FILE_FLAG_NO_COPY: u32 = 0x0080_0000;
/// File systems that write elsewhere what is overwritten, as `statfs` names them. XFS with shared
/// blocks is none: a log's blocks are shared with nobody.
const COPY_ON_WRITE: [u32; 3] = [
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
];

/// See [`File::overwrites_in_place`](crate::vfs::File::overwrites_in_place).
pub(super) fn overwrites_in_place(file: &fs::File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: a plain structure of integers, for which all zeros is a valid value.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `about` is exclusively ours while it is filled in.
    if unsafe { libc::fstatfs(fd, &raw mut about) } != 0 {
        return true;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the width of the field differs between systems; the numbers have 32 bits"
    )]
    let file_system = about.f_type as u32;
    let mut flags: libc::c_uint = 0;
    // SAFETY: as above; the call writes the 32 bits of `flags` and nothing else.
    let asked = unsafe { libc::ioctl(fd, GET_FILE_FLAGS, &raw mut flags) };
    stays_in_place(file_system, (asked == 0).then_some(flags))
}

/// The same, by the number of the file system; `flags` are those of the file, where they are known.
fn stays_in_place(file_system: u32, flags: Option<u32>) -> bool {
    !COPY_ON_WRITE.contains(&file_system)
        || flags.is_some_and(|flags| flags & FILE_FLAG_NO_COPY != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_on_write_is_known_by_the_file_system_and_by_the_flag_of_the_file() {
        let (ext4, xfs, tmpfs) = (0xEF53, 0x5846_5342, 0x0102_1994);
        for file_system in [ext4, xfs, tmpfs, 0] {
            assert!(stays_in_place(file_system, None));
            assert!(stays_in_place(file_system, Some(0)));
        }
        for file_system in COPY_ON_WRITE {
            assert!(!stays_in_place(file_system, None));
            assert!(!stays_in_place(file_system, Some(0x10)));
            assert!(stays_in_place(file_system, Some(FILE_FLAG_NO_COPY | 0x10)));
        }
    }
}
