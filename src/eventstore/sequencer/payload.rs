//! The bytes of a request: its records with their positions and versions on the way into the log, and
//! what the index learns from them when they are there.

use super::super::catalog::Memory;
use super::super::index::{KeyKind, MemoryIndex, Place, Value};
use super::super::replay::KnownRequest;
use super::super::request::{AppendReceipt, Prepared};
use super::{Desk, Sequencer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::crc32;
use crate::format::event::{
    encode_place, event_flag, RequestNote, OP_EVENT, OP_REQUEST, OP_SAVED_POSITION,
    OP_STATE_DELETE, OP_STATE_PUT,
};
use crate::format::frame;
use crate::format::record::{decode, encode_header};
use crate::format::varint;
use crate::sync::PoisonError;
use crate::wal::{EncodedPayload, Receipt, Record};

/// Memory for the streams of one request that is kept.
pub(super) const STREAMS_SPARE_MAX: usize = 1024;

/// What encoding a request needs besides; kept for its memory.
#[derive(Default)]
pub(super) struct Encoding {
    /// Of the receipt's streams, the versions before the request.
    pub(super) before: Vec<u64>,
    /// Position and version of one event, as bytes.
    place: Vec<u8>,
}

impl Encoding {
    /// Gives back what only a request with many streams needs.
    pub(super) fn shrink(&mut self) {
        self.before.clear();
        self.before.shrink_to(STREAMS_SPARE_MAX);
    }
}

impl Sequencer {
    /// Encodes the records of a request into a payload, with their positions and versions.
    pub(super) fn encode(
        &self,
        request: &Prepared,
        first_position: u64,
        desk: &mut Desk,
        payload: usize,
    ) -> Result<AppendReceipt> {
        let Desk {
            versions,
            payloads,
            encoding: Encoding { before, place },
            ..
        } = desk;
        let payload = &mut payloads[payload];
        payload.clear();
        let len = usize::try_from(request.encoded_len).unwrap_or(usize::MAX);
        payload.reserve(len)?;
        let count = request.events.len();
        let mut receipt = AppendReceipt {
            first_position,
            ..AppendReceipt::default()
        };
        let streams = &mut receipt.stream_versions;
        before.clear();
        versions.begin_request();
        for (index, event) in request.events.iter().enumerate() {
            let name = request.name(&event.stream);
            let stream = name.bytes;
            let look_up = || self.catalog.ask(|s| s.stream_version(stream));
            let given = versions.give_next(name, streams.len(), look_up);
            let (at, version) = match given {
                Ok(given) => given,
                Err(error) => {
                    for ((stream, _), before) in streams.iter().zip(&*before) {
                        versions.set(stream.as_bytes(), *before);
                    }
                    return Err(error);
                }
            };
            match streams.get_mut(at) {
                Some((_, after)) => *after = version,
                None => {
                    let text = std::str::from_utf8(stream).unwrap_or_default();
                    streams.push((text.to_owned(), version));
                    before.push(version - 1);
                }
            }
            let mut flags = event.flags;
            if index == 0 {
                flags |= event_flag::FIRST;
            }
            if index + 1 == count {
                flags |= event_flag::LAST;
            }
            place.clear();
            encode_place(place, flags, first_position + index as u64, version);
            let body = request.get(&event.body);
            push(payload, OP_EVENT, stream, [&*place, body]);
        }
        for side in &request.side_records {
            let value = request.get(&side.value);
            push(payload, side.op, request.get(&side.key), [value, &[]]);
        }
        if let Some((key, digest)) = &request.idempotency_key {
            let note = RequestNote {
                digest: *digest,
                first_position,
                event_count: count as u64,
            };
            push(payload, OP_REQUEST, request.get(key), [&note.encode(), &[]]);
        }
        payload.seal();
        if count == 0 {
            receipt.first_position = 0;
        } else {
            receipt.last_position = first_position + count as u64 - 1;
        }
        Ok(receipt)
    }

    /// Adds a committed request to the index.
    pub(super) fn learn(
        &self,
        index: &mut MemoryIndex,
        active: &Memory,
        request: &Prepared,
        payload: &EncodedPayload,
        first_position: u64,
        receipt: &Receipt,
    ) -> Result<()> {
        let one_frame = payload.bytes().len() <= self.wal.frame_payload_target();
        let mut in_log = if one_frame {
            Vec::new()
        } else {
            self.places_in_log(request, receipt)?
        }
        .into_iter();
        let mut in_payload = places_in(payload, receipt);
        for (event, position) in request.events.iter().zip(first_position..) {
            let encoded = in_payload.next();
            let place = if one_frame {
                encoded.map(|(place, _)| place)
            } else {
                in_log.next()
            };
            let (Some(place), Some((_, version))) = (place, encoded) else {
                return Err(Error::new(ErrorKind::Internal, "an event without a place"));
            };
            index.add_event(
                position,
                place,
                request.name(&event.stream),
                version,
                request.name(&event.event_type),
                request.tags_of(event),
                event.id.as_ref(),
            )?;
        }
        for side in &request.side_records {
            let key = request.get(&side.key);
            let value = request.get(&side.value);
            match side.op {
                OP_SAVED_POSITION => {
                    let saved = value.get(..8).unwrap_or_default().to_vec();
                    index.put_value(KeyKind::SavedPosition, key, Value::Bytes(saved));
                }
                OP_STATE_PUT => {
                    index.put_value(KeyKind::State, key, Value::Bytes(value.to_vec()));
                }
                OP_STATE_DELETE => index.put_value(KeyKind::State, key, Value::Deleted),
                _ => {}
            }
        }
        if let Some((key, digest)) = &request.idempotency_key {
            let known = KnownRequest {
                note: RequestNote {
                    digest: *digest,
                    first_position,
                    event_count: request.events.len() as u64,
                },
                time_ns: receipt.time_ns,
            };
            let value = Value::Bytes(known.encode());
            index.put_value(KeyKind::Request, request.get(key), value);
        }
        let mut covered = active
            .covered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let covered = &mut covered.end;
        covered.batch_id = receipt.batch_id;
        covered.first_seq = receipt.first_seq;
        covered.end_seq = receipt.seq;
        covered.time_ns = receipt.time_ns;
        covered.payload_crc = if one_frame { payload.crc } else { 0 };
        Ok(())
    }

    /// Where the events of a batch of several frames stand: the log knows.
    fn places_in_log(&self, request: &Prepared, receipt: &Receipt) -> Result<Vec<Place>> {
        let mut cursor = self.wal.cursor(receipt.first_seq.saturating_sub(1))?;
        let mut places = Vec::with_capacity(request.events.len());
        let from = receipt.first_seq.saturating_sub(1);
        if cursor.begin_at(receipt.batch_id, from)?.is_none() {
            return Err(Error::new(
                ErrorKind::Internal,
                "a batch is not where it was put",
            ));
        }
        while places.len() < request.events.len() {
            match cursor.next_placed()? {
                Some((entry, place)) if entry.op == OP_EVENT => places.push(Place {
                    lsn: place.lsn.0,
                    crc: place.crc,
                    time_ns: entry.time_ns,
                }),
                Some(_) => {}
                None => break,
            }
        }
        Ok(places)
    }
}

fn push(payload: &mut EncodedPayload, op: u8, key: &[u8], value: [&[u8]; 2]) {
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let value_len = value[0].len() + value[1].len();
    payload.extend(&encode_header(op, len(key.len()), len(value_len)));
    payload.extend(key);
    payload.extend(value[0]);
    payload.extend(value[1]);
    payload.record_count += 1;
}

/// The records of a payload.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let span = decode(bytes, at)?;
        at = span.value_end;
        Some(Record {
            op: span.op,
            key: bytes.get(span.key_begin..span.value_begin)?,
            value: bytes.get(span.value_begin..span.value_end)?,
        })
    })
}

/// Where the records of a payload stand that is the frame of a batch, and the stream versions in them.
fn places_in<'a>(
    payload: &'a EncodedPayload,
    receipt: &'a Receipt,
) -> impl Iterator<Item = (Place, u64)> + 'a {
    let bytes = payload.bytes();
    let base = receipt.batch_id.0 + frame::HEADER_LEN as u64;
    let mut at = 0;
    std::iter::from_fn(move || {
        let span = decode(bytes, at)?;
        let place = Place {
            lsn: base + at as u64,
            crc: crc32(bytes.get(at..span.value_end)?),
            time_ns: receipt.time_ns,
        };
        at = span.value_end;
        // Behind flags and position.
        let mut field = span.value_begin + 1;
        varint::get(bytes, &mut field)?;
        Some((place, varint::get(bytes, &mut field)?))
    })
}
