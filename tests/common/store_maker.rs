//! Requests for an event store, made at random: of all kinds, some of them twice, some of them wrong.

#![allow(dead_code, reason = "each test uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::store_model::{Content, Model, Request, Side};
use duralog::eventstore::{Direction, Expected, NameKind, Query, QueryItem, Read, Selection};
use duralog::format::event::derived_id;
use duralog::vfs::sim::Rng;
use duralog::ErrorKind;

pub(crate) fn below(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap()
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[below(rng, choices.len())]
}

pub(crate) const STREAMS: [&str; 12] = [
    "a-1",
    "a-2",
    "a-3",
    "b-1",
    "b-2-x",
    "b",
    "-x",
    "",
    "ärger-ß",
    "z",
    "a",
    "long",
];
pub(crate) const TYPES: [&str; 4] = ["Opened", "Changed", "Closed", "Ö"];
pub(crate) const TAGS: [&str; 8] = [
    "t",
    "t1",
    "t2",
    "course:1",
    "course:2",
    "student:1",
    "ü",
    "q",
];
pub(crate) const NAMES: [&str; 4] = ["projection", "p", "mail", "ö"];
pub(crate) const KINDS: [NameKind; 4] = [
    NameKind::Stream,
    NameKind::Category,
    NameKind::Type,
    NameKind::Tag,
];

pub(crate) fn stream(rng: &mut Rng) -> String {
    match pick(rng, &STREAMS) {
        "long" => "l".repeat(1024),
        "" => format!("many-{}", rng.below(200)),
        name => name.to_owned(),
    }
}

pub(crate) fn id(number: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

/// Makes requests; some come again, whole, in part, or changed.
pub(crate) struct Maker {
    rng: Rng,
    pub(crate) next: u64,
    pub(crate) before: Vec<Request>,
    /// Bytes of an event's data, at most.
    data_max: usize,
}

impl Maker {
    pub(crate) fn new(seed: u64, data_max: usize) -> Maker {
        Maker {
            rng: Rng::new(seed),
            next: seed << 32,
            before: Vec::new(),
            data_max,
        }
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn content(&mut self) -> Content {
        let rng = &mut self.rng;
        let mut data = vec![0; below(rng, self.data_max)];
        rng.fill(&mut data);
        let tags = (0..rng.below(4))
            .map(|_| pick(rng, &TAGS))
            .collect::<Vec<_>>();
        let stream = stream(rng);
        let mut content = Content::new(&stream, pick(rng, &TYPES), &tags, &data);
        if rng.percent(20) {
            content.metadata = b"{\"by\":1}".to_vec();
            content.schema_version = rng.below(300);
            content.content_type = "application/json".to_owned();
        }
        if rng.percent(20) {
            content.occurred_ns = Some(-5);
            content.correlation_id = Some([9; 16]);
        }
        if rng.percent(10) {
            content.causation_id = Some([8; 16]);
        }
        content
    }

    pub(crate) fn query(&mut self) -> Query {
        let rng = &mut self.rng;
        if rng.percent(5) {
            return Query::default();
        }
        let items = (0..1 + rng.below(2))
            .map(|_| {
                let mut item = QueryItem::default();
                for _ in 0..rng.below(3) {
                    item.types.push(pick(rng, &TYPES).to_owned());
                }
                for _ in 0..rng.below(3) {
                    item.tags.push(pick(rng, &TAGS).to_owned());
                }
                if item.types.is_empty() && item.tags.is_empty() {
                    item.tags.push("never".to_owned());
                }
                item
            })
            .collect();
        Query { items }
    }

    /// A request that nobody has made before; its preconditions hold more often than not.
    pub(crate) fn new_request(&mut self, model: &Model) -> Request {
        let mut request = Request::default();
        let count = match self.rng.below(20) {
            0 => 0,
            1 => 30,
            2..=5 => 3,
            _ => 1,
        };
        let with_ids = self.rng.percent(35);
        for _ in 0..count {
            let mut content = self.content();
            if with_ids && self.rng.percent(95) {
                content.id = Some(id(self.fresh()));
            }
            request.events.push(content);
        }
        for _ in 0..[0, 0, 0, 1, 2][below(&mut self.rng, 5)] {
            let stream = stream(&mut self.rng);
            let version = model.version(&stream);
            let expected = match self.rng.below(10) {
                0 => Expected::None,
                1 => Expected::Exists,
                2 => Expected::Any,
                3 => Expected::Exact(self.rng.below(version + 3)),
                _ if version == 0 => Expected::None,
                _ => Expected::Exact(version),
            };
            if request.expectations.iter().all(|(name, _)| *name != stream) {
                request.expectations.push((stream, expected));
            }
        }
        if self.rng.percent(15) {
            let after = match self.rng.below(3) {
                0 => self.rng.below(model.last() + 3),
                _ => model.last().saturating_sub(self.rng.below(4)),
            };
            let query = self.query();
            request.conditions.push((query, after));
        }
        if self.rng.percent(15) || count == 0 {
            for _ in 0..1 + self.rng.below(2) {
                let side = self.side(model);
                let same = |other: &Side| match (&side, other) {
                    (Side::Save(a, ..), Side::Save(b, ..)) => a == b,
                    (Side::Save(..), _) | (_, Side::Save(..)) => false,
                    (Side::Put(a, _) | Side::Delete(a), Side::Put(b, _) | Side::Delete(b)) => {
                        a == b
                    }
                };
                if !request.sides.iter().any(same) {
                    request.sides.push(side);
                }
            }
        }
        if self.rng.percent(8) {
            request.key = Some(self.fresh().to_le_bytes().to_vec());
        }
        request
    }

    pub(crate) fn side(&mut self, model: &Model) -> Side {
        let rng = &mut self.rng;
        let key = format!("k{}", rng.below(60)).into_bytes();
        match rng.below(4) {
            0 => Side::Delete(key),
            1 => {
                let len = if rng.percent(40) {
                    9_000
                } else {
                    below(rng, 40)
                };
                let mut value = vec![0; len];
                rng.fill(&mut value);
                Side::Put(key, value)
            }
            _ => {
                let name = pick(rng, &NAMES);
                let saved = model.saved(name).unwrap_or(0);
                let position = (saved + rng.below(6)).saturating_sub(1);
                Side::Save(name.to_owned(), position, rng.percent(20))
            }
        }
    }

    /// One that came before, or nearly that.
    pub(crate) fn repeated(&mut self) -> Option<Request> {
        let many = self.before.len();
        let at = match self.rng.below(3) {
            0 => below(&mut self.rng, many.max(1)),
            _ => many.saturating_sub(1 + below(&mut self.rng, 5)),
        };
        let mut request = self.before.get(at)?.clone();
        match self.rng.below(9) {
            0 => drop(request.events.pop()),
            1 => request.events.reverse(),
            2 => request.events.push(self.content()),
            3 => drop(request.events.drain(..request.events.len().min(1))),
            4 => {
                // What is known is known by its id, whatever else is said.
                for event in &mut request.events {
                    event.data.push(1);
                }
            }
            5 => request.key = Some(self.fresh().to_le_bytes().to_vec()),
            _ => {}
        }
        if request.events.is_empty() && request.sides.is_empty() {
            request.bad = Some(ErrorKind::EmptyBatch);
        }
        Some(request)
    }

    /// Something that no store takes.
    pub(crate) fn bad(&mut self, model: &Model) -> Request {
        let mut request = Request::of(vec![self.content()]);
        let event = &mut request.events[0];
        let mut kind = ErrorKind::InvalidArgument;
        match self.rng.below(14) {
            0 => event.stream = String::new(),
            1 => event.stream = "x".repeat(1025),
            2 => event.event_type = String::new(),
            3 => event.event_type = "x".repeat(256),
            4 => event.tags = (0..65).map(|tag| tag.to_string()).collect(),
            5 => event.tags = vec![String::new()],
            6 => event.id = Some([0; 16]),
            7 => event.id = Some(derived_id(&model.log_id, model.last() + 1)),
            8 => {
                event.id = Some(id(3));
                request.events.push(request.events[0].clone());
            }
            9 => {
                let expectation = ("a".to_owned(), Expected::Any);
                request.expectations = vec![expectation.clone(), expectation];
            }
            10 => {
                let query = Query {
                    items: vec![QueryItem::default()],
                };
                request.conditions.push((query, 0));
            }
            11 => request.sides = vec![Side::Delete(b"k".to_vec()); 2],
            12 => request.key = Some(vec![1; 256]),
            _ => {
                request.events.clear();
                kind = ErrorKind::EmptyBatch;
            }
        }
        request.bad = Some(kind);
        request
    }

    pub(crate) fn request(&mut self, model: &Model) -> Request {
        match self.rng.below(100) {
            0..=4 => self.bad(model),
            5 => {
                // An id that the store made itself, of an event that is there or of one that has
                // another.
                let position = 1 + self.rng.below(model.last().max(1));
                let mut content = self.content();
                content.id = Some(derived_id(&model.log_id, position));
                Request::of(vec![content])
            }
            6..=20 => match self.repeated() {
                Some(request) => request,
                None => self.new_request(model),
            },
            _ => self.new_request(model),
        }
    }

    pub(crate) fn read(&mut self, model: &Model) -> (Read, usize) {
        let selection = match self.rng.below(4) {
            0 => Selection::All,
            1 => Selection::Stream(stream(&mut self.rng)),
            2 => {
                let name = ["a", "b", "many", "", "z", "nothing", "ärger"];
                Selection::Category(pick(&mut self.rng, &name).to_owned())
            }
            _ => Selection::Query(self.query()),
        };
        let high = match &selection {
            Selection::Stream(name) => model.version(name),
            _ => model.last(),
        };
        let rng = &mut self.rng;
        let mut bound = || {
            let exact = rng.below(high + 3);
            pick(rng, &[0, 0, exact, exact, u64::MAX])
        };
        let (from, to) = (bound(), bound());
        let read = Read {
            selection,
            direction: pick(rng, &[Direction::Forward, Direction::Backward]),
            from,
            to,
            limit: pick(rng, &[0, 0, 1, 5, 40]),
        };
        (read, pick(rng, &[1, 3, 10, 100, 1000]))
    }
}
