//! Handles: what stands behind an opaque C pointer, who owns it, and which threads may use it.
//!
//! Whether a C type is an `Arc` (several threads at once) or a `Box` (one at a time) is said once,
//! in its [`Handle`] impl, and the functions that borrow ask for the one or the other: the two
//! cannot be mixed up, because it would not compile. The `Send` and `Sync` that the header promises
//! (convention 9) are bounds of [`Ownership`], so a type that lost them would not compile either.

#![allow(
    unsafe_code,
    reason = "turning handles of the caller into references is what this file is for"
)]

use crate::error::{Error, Result};
use std::sync::Arc;

/// An opaque C type and what it stands for.
pub(super) trait Handle {
    /// Name in C, for messages.
    const NAME: &'static str;
    /// What the pointer points to.
    type Inner;
    /// How it is owned: [`Shared`] or [`Movable`].
    type Ownership: Ownership<Self::Inner>;
}

/// How a handle owns what stands behind it.
///
/// # Safety
/// `give_out` returns a pointer valid for reading until `take_back` is called with it once.
pub(super) unsafe trait Ownership<T> {
    fn give_out(inner: T) -> *mut T;
    /// # Safety
    /// `inner` came from `give_out` and was not taken back before; nobody uses it any more.
    unsafe fn take_back(inner: *mut T);
}

/// "*Shared*" in the header: an `Arc`, for several threads at once.
pub(super) enum Shared {}
/// "*Movable*" in the header: a `Box`, for one thread at a time, whichever it is.
pub(super) enum Movable {}

// SAFETY: the strong count that `into_raw` leaves is given back by `from_raw`, and keeps it alive
// in between.
unsafe impl<T: Send + Sync> Ownership<T> for Shared {
    fn give_out(inner: T) -> *mut T {
        Arc::into_raw(Arc::new(inner)).cast_mut()
    }

    unsafe fn take_back(inner: *mut T) {
        // SAFETY: from `Arc::into_raw` above, once (promise of the caller).
        drop(unsafe { Arc::from_raw(inner.cast_const()) });
    }
}

// SAFETY: what `into_raw` leaves lives until `from_raw`.
unsafe impl<T: Send> Ownership<T> for Movable {
    fn give_out(inner: T) -> *mut T {
        Box::into_raw(Box::new(inner))
    }

    unsafe fn take_back(inner: *mut T) {
        // SAFETY: from `Box::into_raw` above, once (promise of the caller).
        drop(unsafe { Box::from_raw(inner) });
    }
}

/// A new handle for C.
pub(super) fn give_out<H: Handle>(inner: H::Inner) -> *mut H {
    H::Ownership::give_out(inner).cast()
}

/// Releases a handle; NULL is nothing.
///
/// # Safety
/// `handle` is NULL, or came from [`give_out`] of the same type, was not released before, and no
/// thread is in a call with it.
pub(super) unsafe fn release<H: Handle>(handle: *mut H) {
    if !handle.is_null() {
        // SAFETY: the same promise.
        unsafe { H::Ownership::take_back(handle.cast()) };
    }
}

/// What stands behind a *Shared* handle, kept alive by a count of its own: it survives even if a
/// callback of the caller closes the handle in the middle of the call.
///
/// # Safety
/// `handle` is NULL, or came from [`give_out`] of the same type and was not released.
pub(super) unsafe fn shared<H>(name: &str, handle: *mut H) -> Result<Arc<H::Inner>>
where
    H: Handle<Ownership = Shared>,
    H::Inner: Send + Sync,
{
    check::<H>(name, handle)?;
    let inner = handle.cast::<H::Inner>().cast_const();
    // SAFETY: `inner` is from `Arc::into_raw` (`Shared::give_out`) and its count is at least the
    // one of the handle, which was not released.
    unsafe {
        Arc::increment_strong_count(inner);
        Ok(Arc::from_raw(inner))
    }
}

/// What stands behind a *Shared* handle, for a call that runs no code of the caller: nobody can close
/// the handle in the middle of it, so no count is needed, which many threads would have to pass on from
/// one processor to the other.
///
/// # Safety
/// `handle` is NULL, or came from [`give_out`] of the same type and is not released during `'a`.
pub(super) unsafe fn shared_in_call<'a, H>(name: &str, handle: *mut H) -> Result<&'a H::Inner>
where
    H: Handle<Ownership = Shared>,
    H::Inner: Send + Sync,
{
    check::<H>(name, handle)?;
    // SAFETY: from `Arc::into_raw` (`Shared::give_out`), and alive by the promise of the caller.
    Ok(unsafe { &*handle.cast::<H::Inner>().cast_const() })
}

/// What stands behind a *Movable* handle.
///
/// # Safety
/// `handle` is NULL, or came from [`give_out`] of the same type, was not released, and no other
/// call with it runs during `'a`.
pub(super) unsafe fn movable<'a, H>(name: &str, handle: *mut H) -> Result<&'a mut H::Inner>
where
    H: Handle<Ownership = Movable>,
    H::Inner: Send,
{
    check::<H>(name, handle)?;
    // SAFETY: from `Box::into_raw` (`Movable::give_out`), alive and used by nobody else by the
    // promise of the caller.
    Ok(unsafe { &mut *handle.cast::<H::Inner>() })
}

fn check<H: Handle>(name: &str, handle: *mut H) -> Result<()> {
    if handle.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    if !handle.cast::<H::Inner>().is_aligned() {
        return Err(Error::invalid(format!(
            "{name} is {handle:p}, which is no {}",
            H::NAME
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Log {
        released: Arc<AtomicU32>,
    }

    impl Drop for Log {
        fn drop(&mut self) {
            self.released.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct shared_t {
        _opaque: [u8; 0],
    }

    impl Handle for shared_t {
        const NAME: &'static str = "shared_t";
        type Inner = Log;
        type Ownership = Shared;
    }

    #[test]
    fn handle_released_in_the_middle_of_a_call_lives_until_its_end() {
        let released = Arc::new(AtomicU32::new(0));
        let handle = give_out::<shared_t>(Log {
            released: Arc::clone(&released),
        });
        // SAFETY: just given out.
        let inside = unsafe { shared("log", handle) }.unwrap();
        // SAFETY: given out above and released once.
        unsafe { release(handle) };
        assert_eq!(released.load(Ordering::SeqCst), 0);
        drop(inside);
        assert_eq!(released.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn null_is_refused_and_its_release_is_nothing() {
        // SAFETY: NULL is allowed in both.
        unsafe {
            assert!(shared::<shared_t>("log", std::ptr::null_mut()).is_err());
            release::<shared_t>(std::ptr::null_mut());
        }
    }
}
