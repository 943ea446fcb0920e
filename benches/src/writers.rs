//! One thread that appends: the same bytes, handed to each contender in its own best way.

use crate::c_face::{Log, Mode};
use crate::scale::RECORD_LEN;
use crate::system;
use duralog::ffi::append::wal_op_t;
use rusqlite::{params, Connection};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the files of a measurement are.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// Empty at its beginning.
    pub work: &'a Path,
    /// What was made before, for all rounds.
    pub fixtures: &'a Path,
}

/// Appends batches; with `durable` when the log was opened, each is durable on return.
pub trait Writer {
    /// One batch of records of `len` bytes each, one behind the other in `bytes`.
    fn write(&mut self, bytes: &[u8], len: usize);

    /// Gives up all records so far, so that their space is used again.
    fn forget(&mut self) {}

    fn close(self: Box<Self>);
}

pub fn open(contender: &str, places: Places<'_>, mode: Mode) -> Box<dyn Writer> {
    let durable = mode.is_durable();
    match contender {
        "raw" => Box::new(Raw::open(places.fixtures, durable)),
        "duralog" => Box::new(Duralog::open(&places.work.join("log"), mode)),
        "ndjson" => Box::new(Ndjson::open(&places.work.join("log.ndjson"), durable)),
        "sqlite" => Box::new(Sqlite::open(&places.work.join("log.db"), durable)),
        other => panic!("no contender {other:?} here"),
    }
}

/// How many records are there, as the next program to open it finds them; none of `raw`, which is
/// not a log.
pub fn count(contender: &str, places: Places<'_>) -> Option<u64> {
    match contender {
        "duralog" => {
            let log = Log::open(&places.work.join("log"), Mode::Durable);
            let count = log.replay(false, |_| {});
            log.close();
            Some(count)
        }
        "ndjson" => {
            let file = File::open(places.work.join("log.ndjson")).expect("the file is there");
            Some(BufReader::new(file).lines().count() as u64)
        }
        "sqlite" => {
            let db = sqlite_open(&places.work.join("log.db"), true);
            let count = db.query_row("SELECT count(*) FROM log", [], |row| row.get(0));
            Some(count.expect("the table can be counted"))
        }
        _ => None,
    }
}

/// The page cache keeps a file in pieces as large as they were written, and what is written over and synced
/// later is fastest in pieces about as large: there is a file of each of these. The last is for all that is
/// read or not synced, too, where pieces of 1 MiB make small writes three times as slow, those of 4 KiB great
/// ones half as fast, and these are the best for both.
pub const RAW_FILES: [(&str, usize); 3] = [
    ("raw-4k", 4 << 10),
    ("raw-16k", 16 << 10),
    ("raw", 64 << 10),
];

/// The limit: a file whose blocks were all written before, written again from the beginning.
pub struct Raw {
    /// Each with the size of its pieces, and its length.
    files: Vec<(usize, File, u64)>,
    at: u64,
    durable: bool,
}

impl Raw {
    pub fn open(fixtures: &Path, durable: bool) -> Raw {
        let open = |(name, piece): &(&str, usize)| {
            let file = OpenOptions::new().write(true).open(fixtures.join(name));
            let file = file.expect("the written file is there");
            let len = file.metadata().expect("it has a length").len();
            (*piece, file, len)
        };
        let files = if durable {
            &RAW_FILES[..]
        } else {
            &RAW_FILES[2..]
        };
        Raw {
            files: files.iter().map(open).collect(),
            at: 0,
            durable,
        }
    }
}

impl Writer for Raw {
    fn write(&mut self, bytes: &[u8], _: usize) {
        let fits = |(piece, ..): &&(usize, File, u64)| *piece >= bytes.len();
        let file = self.files.iter().find(fits).or(self.files.last());
        let (_, file, len) = file.expect("there is a file");
        if self.at + bytes.len() as u64 > *len {
            self.at = 0;
        }
        file.write_all_at(bytes, self.at).expect("pwrite");
        self.at += bytes.len() as u64;
        if self.durable {
            file.sync_data().expect("fdatasync");
        }
    }

    fn close(self: Box<Self>) {}
}

struct Duralog {
    log: Log,
    ops: Vec<wal_op_t>,
    last_seq: u64,
}

impl Duralog {
    fn open(path: &Path, mode: Mode) -> Duralog {
        Duralog {
            log: Log::open(path, mode),
            ops: Vec::new(),
            last_seq: 0,
        }
    }
}

impl Writer for Duralog {
    fn write(&mut self, bytes: &[u8], len: usize) {
        if bytes.len() == len {
            self.log.append(bytes);
        } else {
            self.last_seq = self.log.append_batch(bytes, len, &mut self.ops);
        }
    }

    fn forget(&mut self) {
        self.log.truncate(self.last_seq);
    }

    fn close(self: Box<Self>) {
        self.log.close();
    }
}

/// One line of JSON per record, and an fsync per batch: what programs write that have no log.
pub struct Ndjson {
    file: File,
    lines: Vec<u8>,
    number: u64,
    durable: bool,
}

impl Ndjson {
    pub fn open(path: &Path, durable: bool) -> Ndjson {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ndjson {
            file: file.expect("the file can be made"),
            lines: Vec::new(),
            number: 0,
            durable,
        }
    }
}

impl Writer for Ndjson {
    fn write(&mut self, bytes: &[u8], len: usize) {
        self.lines.clear();
        for value in bytes.chunks_exact(len) {
            self.number += 1;
            // The letters of the payload need no escapes.
            let _ = write!(self.lines, "{{\"seq\":{},\"data\":\"", self.number);
            self.lines.extend_from_slice(value);
            self.lines.extend_from_slice(b"\"}\n");
        }
        self.file.write_all(&self.lines).expect("write");
        if self.durable {
            self.file.sync_all().expect("fsync");
        }
    }

    fn close(self: Box<Self>) {}
}

/// Reads NDJSON back: every value.
pub fn ndjson_replay(path: &Path, mut each: impl FnMut(&[u8])) -> u64 {
    let file = File::open(path).expect("the file is there");
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    let mut count = 0;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).expect("read") == 0 {
            return count;
        }
        let key = b"\"data\":\"";
        let begin = line.windows(key.len()).position(|window| window == key);
        let value = &line[begin.expect("a line with data") + key.len()..];
        let end = value.iter().position(|&byte| byte == b'"');
        each(&value[..end.expect("an end of the text")]);
        count += 1;
    }
}

/// The limit of replay: what is in the file, in pieces of 1 MiB, with the CRC-32 of each.
pub fn raw_replay(path: &Path, len: u64, mut each: impl FnMut(&[u8])) -> u64 {
    let mut file = File::open(path).expect("the written file is there");
    let mut piece = vec![0; 1 << 20];
    let mut left = len;
    let mut sum = 0u32;
    while left > 0 {
        let wanted = left.min(piece.len() as u64) as usize;
        let piece = &mut piece[..wanted];
        file.read_exact(piece).expect("read");
        sum ^= crc32fast::hash(piece);
        for record in piece.chunks_exact(RECORD_LEN) {
            each(record);
        }
        left -= wanted as u64;
    }
    std::hint::black_box(sum);
    len / RECORD_LEN as u64
}

/// The limit of replay through a mapping: the same bytes, looked at in place.
pub fn mapped_replay(path: &Path, len: u64, mut each: impl FnMut(&[u8])) -> u64 {
    let bytes = system::map_file(path).expect("the written file is there");
    let mut sum = 0u32;
    for piece in bytes[..len as usize].chunks(1 << 20) {
        sum ^= crc32fast::hash(piece);
        for record in piece.chunks_exact(RECORD_LEN) {
            each(record);
        }
    }
    std::hint::black_box(sum);
    len / RECORD_LEN as u64
}

/// SQLite as somebody tunes it who knows it: a write-ahead log, prepared statements, one transaction
/// per batch, pages kept in 64 MiB of memory, the file mapped for reading.
pub fn sqlite_open(path: &Path, durable: bool) -> Connection {
    let db = Connection::open(path).expect("SQLite opens");
    let synchronous = if durable { "FULL" } else { "OFF" };
    db.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=-65536;
         PRAGMA mmap_size=8589934592; PRAGMA temp_store=MEMORY; PRAGMA busy_timeout=60000;"
    ))
    .expect("SQLite takes its settings");
    db
}

pub struct Sqlite {
    db: Connection,
}

impl Sqlite {
    pub fn open(path: &Path, durable: bool) -> Sqlite {
        let db = sqlite_open(path, durable);
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS log(seq INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        )
        .expect("SQLite makes its table");
        Sqlite { db }
    }
}

impl Writer for Sqlite {
    fn write(&mut self, bytes: &[u8], len: usize) {
        let one = bytes.len() == len;
        let run = |sql: &str| {
            let mut statement = self.db.prepare_cached(sql).expect("prepare");
            statement.execute([]).expect("execute");
        };
        if !one {
            run("BEGIN IMMEDIATE");
        }
        {
            let sql = "INSERT INTO log(data) VALUES(?1)";
            let mut insert = self.db.prepare_cached(sql).expect("prepare");
            for value in bytes.chunks_exact(len) {
                insert.execute(params![value]).expect("insert");
            }
        }
        if !one {
            run("COMMIT");
        }
    }

    fn forget(&mut self) {
        self.db.execute("DELETE FROM log", []).expect("delete");
    }

    fn close(self: Box<Self>) {
        self.db.close().expect("SQLite closes");
    }
}

pub fn sqlite_replay(path: &Path, mut each: impl FnMut(&[u8])) -> u64 {
    let db = sqlite_open(path, true);
    let mut select = db
        .prepare("SELECT seq, data FROM log ORDER BY seq")
        .expect("prepare");
    let mut rows = select.query([]).expect("select");
    let mut count = 0;
    while let Some(row) = rows.next().expect("step") {
        let value = row.get_ref(1).expect("a column");
        each(value.as_blob().expect("bytes"));
        count += 1;
    }
    count
}
