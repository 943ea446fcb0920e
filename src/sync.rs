//! The locks of the library: those of the standard library; or, in the model-checked tests of the
//! group committer, those of loom, which tries every order in which threads can run; or, under
//! ThreadSanitizer (`make tsan`), those of the standard library made visible to it.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
#[cfg(any(not(duralog_tsan), all(test, loom)))]
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::PoisonError;
#[cfg(not(any(all(test, loom), duralog_tsan)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
#[cfg(all(duralog_tsan, not(all(test, loom))))]
pub(crate) use visible::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard};

/// The standard library comes compiled without instrumentation, so that ThreadSanitizer does not
/// see the slow path of its locks and would report what they protect as races. Here the holder of
/// a lock also acquires an atomic when it gets it and releases it before it gives it up: exactly
/// the order that the lock itself gives, said where ThreadSanitizer sees it, and no other. Who is
/// let in, and when, is still decided by the lock of the standard library. Who finds something made once
/// acquires what its maker released, likewise.
#[cfg(all(duralog_tsan, not(all(test, loom))))]
mod visible {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{LockResult, PoisonError, WaitTimeoutResult};
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T> {
        order: AtomicUsize,
        inner: std::sync::Mutex<T>,
    }

    pub(crate) struct MutexGuard<'a, T> {
        order: &'a AtomicUsize,
        /// Present until the guard is given to a condition variable.
        inner: Option<std::sync::MutexGuard<'a, T>>,
    }

    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        made: AtomicUsize,
        inner: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) const fn new() -> OnceLock<T> {
            OnceLock {
                made: AtomicUsize::new(0),
                inner: std::sync::OnceLock::new(),
            }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            let value = self.inner.get()?;
            self.come_after();
            Some(value)
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.inner.set(value)?;
            self.made.store(1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let mut is_new = false;
            let value = self.inner.get_or_init(|| {
                is_new = true;
                make()
            });
            if is_new {
                self.made.store(1, Ordering::Release);
            } else {
                self.come_after();
            }
            value
        }

        /// Its maker says so a moment after it can be found.
        fn come_after(&self) {
            while self.made.load(Ordering::Acquire) == 0 {
                std::hint::spin_loop();
            }
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    /// Who reads comes after who wrote before, and who writes after everyone before; between those
    /// who read there is no order.
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T> {
        written: AtomicUsize,
        read: AtomicUsize,
        inner: std::sync::RwLock<T>,
    }

    pub(crate) struct RwLockReadGuard<'a, T> {
        read: &'a AtomicUsize,
        inner: std::sync::RwLockReadGuard<'a, T>,
    }

    pub(crate) struct RwLockWriteGuard<'a, T> {
        written: &'a AtomicUsize,
        inner: std::sync::RwLockWriteGuard<'a, T>,
    }

    impl<T> RwLock<T> {
        pub(crate) const fn new(value: T) -> RwLock<T> {
            RwLock {
                written: AtomicUsize::new(0),
                read: AtomicUsize::new(0),
                inner: std::sync::RwLock::new(value),
            }
        }

        pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
            let locked = self.inner.read();
            self.written.load(Ordering::Acquire);
            let read = &self.read;
            let guard = |inner| RwLockReadGuard { read, inner };
            locked
                .map(guard)
                .map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
        }

        pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
            let locked = self.inner.write();
            self.written.load(Ordering::Acquire);
            self.read.load(Ordering::Acquire);
            let written = &self.written;
            let guard = |inner| RwLockWriteGuard { written, inner };
            locked
                .map(guard)
                .map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
        }
    }

    impl<T> Drop for RwLockReadGuard<'_, T> {
        fn drop(&mut self) {
            // Several may read: what each of them did comes before the next who writes.
            self.read.fetch_add(1, Ordering::Release);
        }
    }

    impl<T> Drop for RwLockWriteGuard<'_, T> {
        fn drop(&mut self) {
            self.written.store(1, Ordering::Release);
        }
    }

    impl<T> Deref for RwLockReadGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> Deref for RwLockWriteGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for RwLockWriteGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Mutex<T> {
            Mutex {
                order: AtomicUsize::new(0),
                inner: std::sync::Mutex::new(value),
            }
        }

        pub(crate) fn into_inner(self) -> LockResult<T> {
            self.order.load(Ordering::Acquire);
            self.inner.into_inner()
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            held(&self.order, self.inner.lock())
        }
    }

    /// The guard of a lock that was just taken.
    fn held<'a, T>(
        order: &'a AtomicUsize,
        locked: LockResult<std::sync::MutexGuard<'a, T>>,
    ) -> LockResult<MutexGuard<'a, T>> {
        order.load(Ordering::Acquire);
        let guard = |inner| MutexGuard {
            order,
            inner: Some(inner),
        };
        locked
            .map(guard)
            .map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            // The lock is still held: `inner` is dropped after this.
            if self.inner.is_some() {
                self.order.store(1, Ordering::Release);
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match &self.inner {
                Some(inner) => inner,
                None => unreachable!("only a guard that was given away has none"),
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match &mut self.inner {
                Some(inner) => inner,
                None => unreachable!("only a guard that was given away has none"),
            }
        }
    }

    impl Condvar {
        pub(crate) const fn new() -> Condvar {
            Condvar(std::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let order = guard.order;
            let Some(inner) = guard.inner.take() else {
                unreachable!("only a guard that was given away has none")
            };
            order.store(1, Ordering::Release);
            held(order, self.0.wait(inner))
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            longest: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            let order = guard.order;
            let Some(inner) = guard.inner.take() else {
                unreachable!("only a guard that was given away has none")
            };
            order.store(1, Ordering::Release);
            let waited = self.0.wait_timeout(inner, longest);
            order.load(Ordering::Acquire);
            let both = |(inner, result)| {
                let inner = Some(inner);
                (MutexGuard { order, inner }, result)
            };
            waited
                .map(both)
                .map_err(|poisoned| PoisonError::new(both(poisoned.into_inner())))
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
