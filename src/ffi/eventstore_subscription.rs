//! Following the store: what is there, and then what comes.

#![allow(unsafe_code, reason = "exports C symbols that take pointers")]

use super::args::{self, Out};
use super::eventstore::eventstore_t;
use super::eventstore_cursor::{columns, eventstore_page_t, eventstore_read_t, what_to_read};
use super::guard::guard;
use super::handle::{self, Handle, Shared};
use super::sized::SizedOut;
use super::status::{duralog_status_t, END, OK, STOPPED};
use crate::error::{Error, ErrorKind};
use crate::eventstore::{Canceller, Direction, SubscribeFrom, Subscription};
use crate::format::event::NAME_LEN_MAX;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::ffi::c_char;
use std::time::Duration;

/// In from of eventstore_subscribe: with the first event that there is.
pub const EVENTSTORE_FROM_BEGINNING: u32 = 0;
/// In from of eventstore_subscribe: with the first event that is appended from now on.
pub const EVENTSTORE_FROM_END: u32 = 1;
/// In from of eventstore_subscribe: with the first event behind a position.
pub const EVENTSTORE_FROM_AFTER: u32 = 2;
/// In from of eventstore_subscribe: behind the position saved under the subscription's name; with
/// the first event if none was.
pub const EVENTSTORE_FROM_SAVED: u32 = 3;

/// Follows a store: every event of a selection, in order, none left out and none twice.
///
/// An event is given once its append is acknowledged. With WAL_SYNC_EVERY it is durable then. With
/// WAL_SYNC_INTERVAL and WAL_SYNC_MANUAL it need not be: a power cut, or a sync that fails, may take
/// back events that were given, and their positions go to others that are appended afterwards. What
/// was saved behind them by eventstore_subscription_ack goes with them.
///
/// Movable: one thread at a time, whichever it is; but eventstore_subscription_cancel is callable
/// at any time. A slow subscription costs who appends nothing.
pub struct eventstore_subscription_t {
    _opaque: [u8; 0],
}

impl Handle for eventstore_subscription_t {
    const NAME: &'static str = "eventstore_subscription_t";
    type Inner = Following;
    // For the sake of cancellation; one thread at a time is what the header promises no more than.
    type Ownership = Shared;
}

/// What stands behind a subscription.
pub(super) struct Following {
    subscription: Mutex<Subscription>,
    canceller: Canceller,
}

impl Following {
    fn subscription(&self) -> MutexGuard<'_, Subscription> {
        self.subscription
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscribes.
///
/// read: which events: its selection, name and query; direction, first, last and limit must be 0.
/// NULL: all events.
/// from: where to begin, one of EVENTSTORE_FROM_*.
/// after: with EVENTSTORE_FROM_AFTER a position, also if events of a stream are read; else 0.
/// saved_name, saved_name_len: name of the position that eventstore_subscription_ack saves, 1 to
/// 255 bytes; NULL and 0: there is nothing to save, and EVENTSTORE_FROM_SAVED is not allowed.
/// out_subscription: the subscription, to be closed by eventstore_subscription_close.
///
/// Returns DURALOG_OK; DURALOG_E_CORRUPT, DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscribe(
    store: *mut eventstore_t,
    read: *const eventstore_read_t,
    from: u32,
    after: u64,
    saved_name: *const c_char,
    saved_name_len: usize,
    out_subscription: *mut *mut eventstore_subscription_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2, 4, 6, 7 and 9: the caller promises an open store, a struct of the
        // size it says, with a name that is there and a query that no other thread uses for the
        // time of this call, a text, and a writable place.
        let (store, read, saved_name, out_subscription) = unsafe {
            (
                handle::shared("store", store)?,
                what_to_read(read)?,
                args::text("saved_name", saved_name, saved_name_len, NAME_LEN_MAX)?,
                Out::required("out_subscription", out_subscription)?,
            )
        };
        let plain = (read.direction, read.from, read.to, read.limit);
        if plain != (Direction::Forward, 0, 0, 0) {
            return Err(Error::invalid(
                "direction, first, last and limit mean nothing to a subscription and must be 0",
            ));
        }
        if from != EVENTSTORE_FROM_AFTER && after != 0 {
            return Err(Error::invalid(format!("after is {after}, expected 0")));
        }
        let from = match from {
            EVENTSTORE_FROM_BEGINNING => SubscribeFrom::Beginning,
            EVENTSTORE_FROM_END => SubscribeFrom::End,
            EVENTSTORE_FROM_AFTER => SubscribeFrom::After(after),
            EVENTSTORE_FROM_SAVED => SubscribeFrom::Saved,
            other => return Err(Error::invalid(format!("from {other} is unknown"))),
        };
        let name = (!saved_name.is_empty()).then_some(saved_name);
        let subscription = store.subscribe(read.selection, &from, name)?;
        out_subscription.set(handle::give_out(Following {
            canceller: subscription.canceller(),
            subscription: Mutex::new(subscription),
        }));
        Ok(OK)
    })
}

/// Takes the next events, and waits if there are none yet.
///
/// count_max: events wanted at most, 1 or more. The page may hold fewer though more are there: it ends with the
/// 4,096th, or with the event that fills its first MiB.
/// wait_ms_max: wait at most so many milliseconds; 0: not at all; negative: as long as it takes.
/// out_page: the page.
///
/// Returns DURALOG_OK;
/// DURALOG_END: none came in time;
/// DURALOG_STOPPED: eventstore_subscription_cancel was called;
/// DURALOG_E_CLOSED: the store was closed, and everything in it was given;
/// DURALOG_E_CORRUPT: all events before the damage were given; the last error names the place;
/// DURALOG_E_IO.
///
/// Borrowed until the next call with this subscription but cancel: all columns and bytes.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_next_page(
    subscription: *mut eventstore_subscription_t,
    count_max: usize,
    wait_ms_max: i64,
    out_page: *mut eventstore_page_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 6 and 7: the caller promises an open subscription, and a struct of
        // the size it says.
        let (subscription, out_page) = unsafe {
            (
                handle::shared("subscription", subscription)?,
                SizedOut::new("out_page", out_page)?,
            )
        };
        let wait = u64::try_from(wait_ms_max).ok().map(Duration::from_millis);
        let mut following = subscription.subscription();
        let page = match following.next_page(count_max, wait) {
            Err(error) if error.kind() == ErrorKind::Stopped => return Ok(STOPPED),
            page => page?,
        };
        if page.is_empty() {
            return Ok(END);
        }
        // The bytes are the subscription's own and stay until it is used again, though the
        // pointers say nothing of that: the header does.
        out_page.set(&columns(page, 0, page.len()));
        Ok(OK)
    })
}

/// Saves how far the events have been dealt with: a subscription with this name that begins with
/// EVENTSTORE_FROM_SAVED begins behind it. Durable as the sync mode of the log says. A position that
/// is not beyond the one saved changes nothing.
///
/// position: of the last event dealt with; at most what eventstore_subscription_position says.
///
/// Returns as eventstore_append does;
/// DURALOG_E_INVALID_ARGUMENT: also if the subscription has no name, or has not got to the position.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_ack(
    subscription: *mut eventstore_subscription_t,
    position: u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open subscription.
        let subscription = unsafe { handle::shared("subscription", subscription) }?;
        subscription.subscription().ack(position)?;
        Ok(OK)
    })
}

/// Position up to which every event of the selection was given: where the subscription began, then
/// that of the last event of each page; and with DURALOG_END, that of the last event of the store.
///
/// out_position: the position.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_position(
    subscription: *mut eventstore_subscription_t,
    out_position: *mut u64,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: conventions 2 and 6: the caller promises an open subscription and a writable
        // place.
        let (subscription, out_position) = unsafe {
            (
                handle::shared("subscription", subscription)?,
                Out::required("out_position", out_position)?,
            )
        };
        out_position.set(subscription.subscription().position());
        Ok(OK)
    })
}

/// A file descriptor for poll, select or epoll: readable while there may be something to take, or
/// the store was closed. Call eventstore_subscription_next_page with wait_ms_max 0 until it returns
/// DURALOG_END, then poll. Nothing but its readiness is of use; it is closed with the subscription.
///
/// out_fd: the file descriptor, each time the same.
///
/// Returns DURALOG_OK;
/// DURALOG_E_UNSUPPORTED: the store was opened for reading only, and is not told of appends: take
/// pages with a time to wait instead;
/// DURALOG_E_IO.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_fd(
    subscription: *mut eventstore_subscription_t,
    out_fd: *mut i32,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: as in `eventstore_subscription_position`.
        let (subscription, out_fd) = unsafe {
            (
                handle::shared("subscription", subscription)?,
                Out::required("out_fd", out_fd)?,
            )
        };
        let fd = subscription.subscription().fd()?;
        out_fd.set(fd);
        Ok(OK)
    })
}

/// Ends a subscription: eventstore_subscription_next_page returns DURALOG_STOPPED, at once if it
/// waits, and from now on. To be closed all the same.
///
/// Returns DURALOG_OK.
///
/// Callable at any time until the subscription is closed, from any thread.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_cancel(
    subscription: *mut eventstore_subscription_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises an open subscription.
        let subscription = unsafe { handle::shared("subscription", subscription) }?;
        subscription.canceller.cancel();
        Ok(OK)
    })
}

/// Releases a subscription, before or after its store is closed.
///
/// subscription: may be NULL, which is nothing.
///
/// Returns DURALOG_OK.
#[no_mangle]
pub unsafe extern "C" fn eventstore_subscription_close(
    subscription: *mut eventstore_subscription_t,
) -> duralog_status_t {
    guard(|| {
        // SAFETY: convention 6: the caller promises that the subscription is open, and that no
        // other call with it runs or follows.
        unsafe { handle::release(subscription) };
        Ok(OK)
    })
}
