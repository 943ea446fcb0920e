//! What is done to the files of a log.

use super::log_files::Files;
use duralog::vfs::sim::Rng;

/// One change of one file.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    FlipBit {
        file: String,
        bit: usize,
    },
    Cut {
        file: String,
        len: usize,
    },
    Append {
        file: String,
        bytes: Vec<u8>,
    },
    Overwrite {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Remove {
        file: String,
    },
    Several(Vec<Damage>),
}

impl Damage {
    pub(super) fn apply(&self, files: &mut Files) {
        match self {
            Damage::FlipBit { file, bit } => {
                if let Some(byte) = files.get_mut(file).and_then(|b| b.get_mut(bit / 8)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Damage::Cut { file, len } => {
                if let Some(bytes) = files.get_mut(file) {
                    bytes.truncate(*len);
                }
            }
            Damage::Append { file, bytes } => {
                if let Some(found) = files.get_mut(file) {
                    found.extend_from_slice(bytes);
                }
            }
            Damage::Overwrite { file, at, bytes } => {
                if let Some(found) = files.get_mut(file) {
                    for (place, byte) in found.iter_mut().skip(*at).zip(bytes) {
                        *place = *byte;
                    }
                }
            }
            Damage::Remove { file } => {
                files.remove(file);
            }
            Damage::Several(all) => all.iter().for_each(|damage| damage.apply(files)),
        }
    }
}

/// Every damage to a log that is tried one by one.
pub(super) fn every_damage(files: &Files, rng: &mut Rng) -> Vec<Damage> {
    let mut all = vec![Damage::Several(Vec::new())];
    for (name, bytes) in files {
        let file = || name.clone();
        let segment = name.ends_with(".wal");
        // Of control and tail, the bytes that mean nothing are tried now and then only.
        let matters = |at: usize| segment || at % 4096 < 160 || at % 4096 > 4090 || at % 97 == 0;
        for at in (0..bytes.len()).filter(|at| matters(*at)) {
            all.extend((at * 8..at * 8 + 8).map(|bit| Damage::FlipBit { file: file(), bit }));
            all.push(Damage::Cut {
                file: file(),
                len: at,
            });
            let rest = bytes.len() - at;
            all.push(Damage::Overwrite {
                file: file(),
                at,
                bytes: vec![0; rest],
            });
            all.push(Damage::Overwrite {
                file: file(),
                at,
                bytes: garbage(rng, rest),
            });
            if at % 8 == 0 {
                let bytes = vec![0; 64];
                let file = file();
                all.push(Damage::Overwrite { file, at, bytes });
            }
        }
        for len in [1, 7, 8, 63, 64, 100, 5000] {
            for bytes in [vec![0; len], vec![0xFF; len], garbage(rng, len)] {
                all.push(Damage::Append {
                    file: file(),
                    bytes,
                });
            }
        }
        all.push(Damage::Remove { file: file() });
    }
    for _ in 0..500 {
        let count = 2 + rng.below(3);
        let several = (0..count).map(|_| random_damage(files, rng)).collect();
        all.push(Damage::Several(several));
    }
    all
}

fn garbage(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

pub(super) fn below(rng: &mut Rng, limit: usize) -> usize {
    usize::try_from(rng.below(limit as u64)).unwrap()
}

fn random_damage(files: &Files, rng: &mut Rng) -> Damage {
    let names: Vec<&String> = files.keys().collect();
    let file = names[below(rng, names.len())].clone();
    let len = files[&file].len();
    let at = below(rng, len);
    match rng.below(6) {
        0 | 1 => Damage::FlipBit { file, bit: at * 8 },
        2 => Damage::Cut { file, len: at },
        3 => {
            let len = below(rng, 100);
            let bytes = garbage(rng, len);
            Damage::Overwrite { file, at, bytes }
        }
        4 => {
            let at = at & !63;
            let bytes = vec![0; 64];
            Damage::Overwrite { file, at, bytes }
        }
        _ if rng.below(4) == 0 => Damage::Remove { file },
        _ => {
            let len = below(rng, 200);
            let bytes = garbage(rng, len);
            Damage::Append { file, bytes }
        }
    }
}
