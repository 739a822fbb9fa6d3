//! What a test says: kept while it runs, shown when it fails.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    /// What the test of this thread has said; absent where no test is kept track of.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Says something that helps whoever reads of the test's failure.
pub fn tell(text: &str) {
    let kept = SAID.with_borrow_mut(|said| said.as_mut().map(|said| writeln!(said, "{text}")));
    if kept.is_none() {
        eprintln!("{text}");
    }
}

/// Panics become a part of what their test said. Those of threads that a test starts are shown at once.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo| {
        let backtrace = Backtrace::capture();
        let mut text = panic.to_string();
        if backtrace.status() == BacktraceStatus::Captured {
            write!(text, "\n{backtrace}").expect("a string takes all");
        }
        tell(&text);
    }));
}

/// Runs a test; what it said if it failed.
pub(crate) fn kept(body: impl FnOnce()) -> Result<(), String> {
    SAID.set(Some(String::new()));
    let ended = catch_unwind(AssertUnwindSafe(body));
    let said = SAID.take().unwrap_or_default();
    ended.map_err(|_| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A failure comes with all that the test said before, and with the place of the panic.
    #[test]
    fn a_failure_tells_all() {
        keep_panics();
        let said = kept(|| {
            tell("first");
            panic!("then {}", 1 + 1);
        });
        let said = said.unwrap_err();
        assert!(
            said.starts_with("first\n") && said.contains("then 2"),
            "{said}"
        );
        assert!(said.contains("output.rs"), "{said}");
        assert_eq!(kept(|| tell("not shown")), Ok(()));
    }
}
