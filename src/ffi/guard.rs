//! The wall between C and the library: every exported function runs its body in here.
//!
//! A panic must not unwind into C (it would be undefined behaviour, and is an abort since Rust
//! 1.81); here it becomes `DURALOG_E_INTERNAL`. This is also the only caller of
//! [`last_error::keep`], so a thread's last error is always that of its last failed call.

use super::last_error;
use super::status::duralog_status_t;
use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Runs `body`; an error or a panic in it becomes the thread's last error and its status.
///
/// `AssertUnwindSafe` is right here because nothing of the body survives a panic but what stands
/// behind a handle, and that is either guarded by the engine itself (which poisons the log) or a
/// cursor, whose next call starts from what it has.
pub(super) fn guard(body: impl FnOnce() -> Result<duralog_status_t>) -> duralog_status_t {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => last_error::keep(&error),
        Err(payload) => last_error::keep(&Error::new(
            ErrorKind::Internal,
            format!("a defect of the library: {}", panic_text(payload.as_ref())),
        )),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::last_error::{duralog_error_t, duralog_last_error};
    use crate::ffi::status::duralog_status_code_t as code;
    use std::ffi::CStr;

    #[test]
    #[allow(unsafe_code, reason = "calls the C face")]
    fn panic_becomes_internal_with_its_text() {
        let status = guard(|| panic!("the number was {}", 7));
        assert_eq!(status, code::DURALOG_E_INTERNAL as i32);
        let mut error = duralog_error_t::empty();
        // SAFETY: `error` is a live struct with its own size in it.
        assert_eq!(unsafe { duralog_last_error(&raw mut error) }, status);
        // SAFETY: the message was just borrowed and no call has failed since.
        let message = unsafe { CStr::from_ptr(error.message) };
        assert!(message.to_str().unwrap().contains("the number was 7"));
    }
}
