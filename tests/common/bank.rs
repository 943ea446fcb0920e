//! A bank in events: what moves from one account to another is one batch of two events, and each
//! event says what its account has after it, so that every lost, doubled or torn transfer shows.
//!
//! An auditor follows the bank from a saved position, and saves what each account has in one batch
//! with the position up to which it has counted: an event that it is given twice or never shows, too.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use duralog::eventstore::{
    AppendReceipt, AppendRequest, Condition, Direction, EventStore, Expectation, Expected,
    NewEvent, Query, QueryItem, Read, ReadEvent, Selection, SideRecord, SubscribeFrom,
    Subscription,
};
use duralog::vfs::sim::Rng;
use duralog::{Durability, Error, ErrorKind};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What each account begins with.
pub(crate) const BEGIN: u64 = 1_000;

/// How a transfer makes sure that nobody was faster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guard {
    /// Both streams have the version that was read.
    Versions,
    /// No event bears the tag of one of the accounts since they were read.
    Tags,
}

/// A transfer as it is asked for. It is known by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) number: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) amount: u64,
    pub(crate) guard: Guard,
}

fn stream(account: u64) -> String {
    format!("account-{account}")
}

fn tag(account: u64) -> String {
    format!("account:{account}")
}

fn id(number: u64, part: u8) -> [u8; 16] {
    let mut id = [part; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

fn data(number: u64, amount: u64, balance: u64) -> [u8; 24] {
    let mut data = [0; 24];
    data[..8].copy_from_slice(&number.to_le_bytes());
    data[8..16].copy_from_slice(&amount.to_le_bytes());
    data[16..].copy_from_slice(&balance.to_le_bytes());
    data
}

fn fields(data: &[u8]) -> [u64; 3] {
    [0, 8, 16].map(|at| u64::from_le_bytes(data[at..at + 8].try_into().unwrap()))
}

/// Opens accounts 0 to `count`, all in one batch; does nothing if that was done before.
pub(crate) fn open_accounts(store: &EventStore, count: u64) -> Result<AppendReceipt, Error> {
    let names: Vec<(String, String)> = (0..count).map(|n| (stream(n), tag(n))).collect();
    let tags: Vec<[&str; 1]> = names.iter().map(|(_, tag)| [tag.as_str()]).collect();
    let data = data(0, 0, BEGIN);
    let events: Vec<NewEvent<'_>> = (0..)
        .zip(&names)
        .zip(&tags)
        .map(|((account, (stream, _)), tags)| NewEvent {
            stream,
            event_type: "Opened",
            data: &data,
            tags,
            id: Some(id(account, 9)),
            ..NewEvent::default()
        })
        .collect();
    let request = AppendRequest {
        events: &events,
        ..AppendRequest::default()
    };
    store.append(&request, Durability::AsOpened)
}

/// Version and balance of an account.
fn account(store: &EventStore, account: u64) -> Result<(u64, u64), Error> {
    let mut reader = store.read(Read {
        selection: Selection::Stream(stream(account)),
        direction: Direction::Backward,
        limit: 1,
        ..Read::default()
    })?;
    let page = reader.next_page(1)?;
    Ok(page.get(0).map_or((0, 0), |event| {
        (event.stream_version, fields(event.data)[2])
    }))
}

impl Transfer {
    /// The transfer with this number between so many accounts: always the same.
    pub(crate) fn from_seed(seed: u64, number: u64, accounts: u64) -> Transfer {
        let mut rng = Rng::new(seed ^ (number << 20));
        let from = rng.below(accounts);
        Transfer {
            number,
            from,
            to: (from + 1 + rng.below(accounts - 1)) % accounts,
            amount: 1 + rng.below(400),
            guard: if number % 2 == 0 {
                Guard::Versions
            } else {
                Guard::Tags
            },
        }
    }

    /// Tries once, with what is known now.
    pub(crate) fn attempt(&self, store: &EventStore) -> Result<AppendReceipt, Error> {
        self.attempt_with(store, Durability::AsOpened)
    }

    pub(crate) fn attempt_with(
        &self,
        store: &EventStore,
        durability: Durability,
    ) -> Result<AppendReceipt, Error> {
        let after = store.last_position()?;
        let (from_version, from_balance) = account(store, self.from)?;
        let (to_version, to_balance) = account(store, self.to)?;
        let amount = self.amount.min(from_balance);
        let streams = [stream(self.from), stream(self.to)];
        let tags = [tag(self.from), tag(self.to)];
        let withdrawn = data(self.number, amount, from_balance - amount);
        let deposited = data(self.number, amount, to_balance + amount);
        let events = [
            NewEvent {
                stream: &streams[0],
                event_type: "Withdrawn",
                data: &withdrawn,
                tags: &[&tags[0]],
                id: Some(id(self.number, 1)),
                ..NewEvent::default()
            },
            NewEvent {
                stream: &streams[1],
                event_type: "Deposited",
                data: &deposited,
                tags: &[&tags[1]],
                id: Some(id(self.number, 2)),
                ..NewEvent::default()
            },
        ];
        let expectations = [(0, from_version), (1, to_version)].map(|(at, version)| Expectation {
            stream: streams[at].as_str(),
            expected: Expected::Exact(version),
        });
        let query = Query {
            items: tags
                .iter()
                .map(|tag| QueryItem {
                    types: Vec::new(),
                    tags: vec![tag.clone()],
                })
                .collect(),
        };
        let conditions = [Condition {
            query: &query,
            after,
        }];
        let mut request = AppendRequest {
            events: &events,
            ..AppendRequest::default()
        };
        match self.guard {
            Guard::Versions => request.expectations = &expectations,
            Guard::Tags => request.conditions = &conditions,
        }
        store.append(&request, durability)
    }

    /// Tries until nobody is faster. Also says how often somebody was.
    pub(crate) fn carry_out(&self, store: &EventStore) -> Result<(AppendReceipt, u64), Error> {
        let mut conflicts = 0;
        loop {
            match self.attempt(store) {
                Err(error) if error.kind() == ErrorKind::Conflict => conflicts += 1,
                told => return told.map(|receipt| (receipt, conflicts)),
            }
        }
    }
}

/// Reads the whole bank: every transfer is whole and there once, no account was changed behind
/// another's back, the sum is what it was, and nothing is missing between positions and versions.
/// Gives each transfer's number and the position of its first event.
pub(crate) fn check(store: &EventStore) -> Result<BTreeMap<u64, u64>, String> {
    let last = store.last_position().map_err(|error| error.to_string())?;
    let mut reader = store.read(Read::default()).unwrap();
    let mut accounts: HashMap<String, (u64, u64)> = HashMap::new();
    let mut transfers = BTreeMap::new();
    let mut open: Option<(u64, u64)> = None;
    let mut position = 0;
    loop {
        let page = reader
            .next_page(500)
            .map_err(|error| format!("reading behind {position}: {error}"))?;
        if page.is_empty() {
            break;
        }
        for event in page.iter() {
            let bad = |what: &str| Err(format!("position {}: {what}", event.position));
            position += 1;
            if event.position != position {
                return bad("a position is missing before it");
            }
            let account = accounts.entry(event.stream.to_owned()).or_default();
            account.0 += 1;
            if event.stream_version != account.0 {
                return bad("a stream version is missing before it");
            }
            let [number, amount, balance] = fields(event.data);
            let expected = match event.event_type {
                "Opened" => BEGIN,
                "Withdrawn" => account.1.wrapping_sub(amount),
                _ => account.1 + amount,
            };
            if balance != expected {
                return bad("the account was changed behind its back");
            }
            account.1 = balance;
            match (event.event_type, open) {
                ("Opened", None) => {}
                ("Withdrawn", None) => {
                    if !event.first_of_batch || transfers.insert(number, position).is_some() {
                        return bad("a transfer is there twice, or not a batch");
                    }
                    open = Some((number, amount));
                }
                ("Deposited", Some(withdrawn)) if withdrawn == (number, amount) => {
                    if !event.last_of_batch {
                        return bad("a transfer is more than a batch");
                    }
                    open = None;
                }
                _ => return bad("a debit without its credit"),
            }
        }
    }
    if open.is_some() {
        return Err("the last debit has no credit".to_owned());
    }
    if position != last {
        return Err(format!("reading ends at {position}, the store at {last}"));
    }
    let sum: u64 = accounts.values().map(|(_, balance)| balance).sum();
    if sum != BEGIN * accounts.len() as u64 {
        return Err(format!("the sum is {sum}"));
    }
    for (name, (version, _)) in &accounts {
        let info = store.stream_info(name).map_err(|error| error.to_string())?;
        if info.map(|info| info.stream_version) != Some(*version) {
            return Err(format!("{name} has another version than events"));
        }
    }
    Ok(transfers)
}

// ---- the auditor ---------------------------------------------------------------------------------

const AUDITOR: &str = "auditor";
const BOOKS: &[u8] = b"books";

/// What the auditor has counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Books {
    /// Of the last event that it counted.
    position: u64,
    event_count: u64,
    balances: BTreeMap<u64, u64>,
}

impl Books {
    fn count(&mut self, event: &ReadEvent<'_>) {
        let account: u64 = event.stream["account-".len()..].parse().unwrap();
        let balance = self.balances.entry(account).or_default();
        let amount = fields(event.data)[1];
        *balance = match event.event_type {
            "Opened" => balance.wrapping_add(BEGIN),
            "Withdrawn" => balance.wrapping_sub(amount),
            _ => balance.wrapping_add(amount),
        };
        self.position = event.position;
        self.event_count += 1;
    }

    fn encode(&self) -> Vec<u8> {
        let balances = self
            .balances
            .iter()
            .flat_map(|(&account, &balance)| [account, balance]);
        let numbers = [self.position, self.event_count]
            .into_iter()
            .chain(balances);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Books {
        let numbers: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().unwrap()))
            .collect();
        Books {
            position: numbers[0],
            event_count: numbers[1],
            balances: numbers[2..].chunks(2).map(|two| (two[0], two[1])).collect(),
        }
    }

    /// As they were saved; an error if the saved position is not that of the books.
    fn saved(store: &EventStore) -> Result<Books, String> {
        let say = |error: Error| error.to_string();
        let saved = store.saved_position(AUDITOR).map_err(say)?;
        let books = store.state(BOOKS).map_err(say)?;
        let books = books.map_or_else(Books::default, |bytes| Books::decode(&bytes));
        if saved.unwrap_or(0) != books.position {
            let position = books.position;
            return Err(format!("books up to {position}, saved position {saved:?}"));
        }
        Ok(books)
    }
}

/// Who counts the money, from where it was saved.
pub(crate) struct Auditor {
    subscription: Subscription,
    books: Books,
}

impl Auditor {
    /// There may be one at a time.
    pub(crate) fn resume(store: &EventStore) -> Result<Auditor, Error> {
        let books = Books::saved(store).unwrap_or_else(|what| panic!("{what}"));
        Ok(Auditor {
            subscription: store.subscribe(Selection::All, &SubscribeFrom::Saved, Some(AUDITOR))?,
            books,
        })
    }

    /// Counts a page of events, waiting for one so long, and saves what it has. Gives the position
    /// that is saved; `None` if there was no event.
    pub(crate) fn step(
        &mut self,
        store: &EventStore,
        wait: Duration,
    ) -> Result<Option<u64>, Error> {
        let page = self.subscription.next_page(37, Some(wait))?;
        if page.is_empty() {
            return Ok(None);
        }
        for event in page.iter() {
            assert_eq!(
                event.position,
                self.books.position + 1,
                "missed or repeated"
            );
            self.books.count(&event);
        }
        let position = self.books.position;
        let request = AppendRequest {
            side_records: &[
                SideRecord::SavePosition {
                    name: AUDITOR,
                    position,
                    reset: false,
                },
                SideRecord::PutState {
                    key: BOOKS,
                    value: &self.books.encode(),
                },
            ],
            ..AppendRequest::default()
        };
        store.append(&request, Durability::AsOpened)?;
        Ok(Some(position))
    }
}

/// What the auditor saved, in words.
pub(crate) fn saved_books(store: &EventStore) -> Result<String, Error> {
    let (saved, books) = (store.saved_position(AUDITOR)?, store.state(BOOKS)?);
    Ok(format!("{saved:?} {books:?}"))
}

/// What the auditor saved is what it gives to count each event once. Says up to which position.
pub(crate) fn check_audit(store: &EventStore) -> Result<u64, String> {
    let saved = Books::saved(store)?;
    let mut books = Books::default();
    let mut reader = store.read(Read::default()).unwrap();
    while books.position < saved.position {
        let left = usize::try_from(saved.position - books.position).unwrap();
        let page = reader
            .next_page(left.min(500))
            .map_err(|error| error.to_string())?;
        if page.is_empty() {
            return Err(format!("audited up to {}, which is gone", saved.position));
        }
        page.iter().for_each(|event| books.count(&event));
    }
    if books != saved {
        return Err(format!(
            "the auditor counted {saved:?}, there are {books:?}"
        ));
    }
    Ok(saved.position)
}

/// Lets an auditor count what is left, and checks all of it.
pub(crate) fn audit_the_rest(store: &EventStore) -> Result<(), String> {
    let say = |error: Error| format!("auditing: {error}");
    let mut auditor = Auditor::resume(store).map_err(say)?;
    while auditor.step(store, Duration::ZERO).map_err(say)?.is_some() {}
    let last = store.last_position().map_err(say)?;
    match check_audit(store)? {
        audited if audited == last => Ok(()),
        audited => Err(format!("audited up to {audited} of {last}")),
    }
}
