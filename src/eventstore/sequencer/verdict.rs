//! What becomes of one request: accepted, refused, or carried out before.

use super::super::decide::{known_ids, Before, Original};
use super::super::name::Name;
use super::super::reader::EventPage;
use super::super::request::{AppendReceipt, Expected, Prepared};
use super::{Accepted, Desk, Sequencer, Waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::format::event::position_of_derived_id;
use std::collections::HashMap;

impl Sequencer {
    /// Version of a stream before the next request of the group; from now on it is at hand.
    pub(super) fn version_of(&self, stream: Name<'_>, desk: &mut Desk) -> Result<u64> {
        if let Some(version) = desk.versions.get(stream) {
            return Ok(version);
        }
        let version = self.catalog.ask(|s| s.stream_version(stream.bytes))?;
        desk.versions.set(stream, version);
        Ok(version)
    }

    /// `None`: it is accepted. A receipt: it was carried out before.
    pub(super) fn decide(
        &self,
        taken: &[Waiting],
        accepted: &[Accepted],
        desk: &mut Desk,
        last: u64,
        at: usize,
    ) -> Result<Option<AppendReceipt>> {
        let request = &taken[at].request;
        self.check_derived_ids(request, last)?;
        let before: Vec<(u64, &Prepared)> = accepted
            .iter()
            .map(|accepted| {
                let request = &taken[accepted.at].request;
                (accepted.receipt.first_position, request)
            })
            .collect();
        let mut expected = true;
        for (stream, version) in &request.expectations {
            if *version != Expected::Any {
                expected &= version.holds(self.version_of(request.name(stream), desk)?);
            }
        }
        // Most appends have nothing but expectations.
        let simple = request.conditions.is_empty()
            && request.side_records.is_empty()
            && request.idempotency_key.is_none()
            && request.events.iter().all(|event| event.id.is_none());
        if simple && expected {
            return Ok(None);
        }
        let original = self.catalog.ask(|snapshot| {
            let before = Before {
                snapshot,
                log_id: self.wal.log_id(),
                last,
                pending: &desk.pending,
                versions: &desk.versions,
                accepted: &before,
            };
            match before.original(request)? {
                Some(original) => Ok(Ok(original)),
                None => before.conflicts(request).map(Err),
            }
        })?;
        match original {
            Ok(original) => self.receipt_of(request, &original).map(Some),
            Err(conflicts) if conflicts.is_empty() => Ok(None),
            Err(conflicts) => Err(Error::of_conflicts(conflicts)),
        }
    }

    /// Checks that no event claims an id of the form that the store derives from positions, unless
    /// it is the very event that got it.
    fn check_derived_ids(&self, request: &Prepared, last: u64) -> Result<()> {
        let ids = request.events.iter().filter_map(|event| event.id);
        for id in ids {
            let Some(position) = position_of_derived_id(self.wal.log_id(), &id) else {
                continue;
            };
            let mut page = EventPage::default();
            if position <= last {
                page.fill(&self.catalog, &self.files, &[position])?;
            }
            if page.get(0).is_none_or(|event| event.id != id) {
                return Err(Error::invalid(
                    "an id of the form that the store itself gives to events without one",
                ));
            }
        }
        Ok(())
    }

    /// The receipt of a request that was carried out before, read from the log.
    fn receipt_of(&self, request: &Prepared, original: &Original) -> Result<AppendReceipt> {
        let mut receipt = AppendReceipt {
            duplicate: true,
            time_ns: original.time_ns,
            ..AppendReceipt::default()
        };
        if original.event_count == 0 {
            return Ok(receipt);
        }
        let end = original.first_position + original.event_count;
        let mut page = EventPage::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut next = original.first_position;
        while next < end {
            let until = end.min(next + 1024);
            let positions: Vec<u64> = (next..until).collect();
            page.fill(&self.catalog, &self.files, &positions)?;
            for event in page.iter() {
                let begins = event.position == original.first_position;
                let ends = event.position + 1 == end;
                if event.first_of_batch != begins || event.last_of_batch != ends {
                    let ids = request.events.iter().filter_map(|event| event.id);
                    return Err(known_ids(ids.collect()));
                }
                receipt.time_ns = event.time_ns;
                let versions = &mut receipt.stream_versions;
                match known.get(event.stream).and_then(|&at| versions.get_mut(at)) {
                    Some((_, version)) => *version = event.stream_version,
                    None => {
                        known.insert(event.stream.to_string(), versions.len());
                        versions.push((event.stream.to_string(), event.stream_version));
                    }
                }
                next = event.position + 1;
            }
            if page.is_empty() {
                return Err(Error::new(ErrorKind::Internal, "a page without events"));
            }
        }
        receipt.first_position = original.first_position;
        receipt.last_position = end - 1;
        Ok(receipt)
    }
}
