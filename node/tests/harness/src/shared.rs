//! What several tests stand on, made once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Something that is made for the first test that needs it, and ends with the program.
///
/// Its tests run one after the other, and each leaves it as it found it. One that fails takes it down
/// with it: the next gets a new one.
pub struct Shared<T> {
    make: fn() -> T,
    value: Mutex<Option<T>>,
}

impl<T: Send> Shared<T> {
    /// Nothing is made yet.
    pub const fn new(make: fn() -> T) -> Self {
        Shared {
            make,
            value: Mutex::new(None),
        }
    }

    /// Runs a test with it.
    pub fn with<R>(&self, test: impl FnOnce(&mut T) -> R) -> R {
        // A test that failed has taken the value out.
        let mut slot = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = slot.take().unwrap_or_else(self.make);
        let result = test(&mut value);
        *slot = Some(value);
        result
    }
}

/// Something that ends with the program.
pub(crate) trait End {
    /// Whether it ended well, or was never there.
    fn end(&self) -> bool;
}

impl<T: Send> End for Shared<T> {
    fn end(&self) -> bool {
        let value = self
            .value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        catch_unwind(AssertUnwindSafe(|| drop(value))).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    static MADE: AtomicU32 = AtomicU32::new(0);
    static ENDED: AtomicU32 = AtomicU32::new(0);

    struct Counted;

    impl Drop for Counted {
        fn drop(&mut self) {
            ENDED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn make() -> Counted {
        MADE.fetch_add(1, Ordering::Relaxed);
        Counted
    }

    // It is made once for all, anew after a failure, and ends whatever happens.
    #[test]
    fn it_is_made_once_and_ends() {
        static SHARED: Shared<Counted> = Shared::new(make);
        let count = || (MADE.load(Ordering::Relaxed), ENDED.load(Ordering::Relaxed));
        SHARED.with(|_| ());
        SHARED.with(|_| ());
        assert_eq!(count(), (1, 0));
        let failed = catch_unwind(|| SHARED.with(|_| panic!("as a test does")));
        assert!(failed.is_err());
        assert_eq!(count(), (1, 1));
        SHARED.with(|_| ());
        assert!(SHARED.end() && SHARED.end());
        assert_eq!(count(), (2, 2));
    }
}
