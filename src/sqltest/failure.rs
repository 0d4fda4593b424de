//! Why a test failed, and which errors count as a refusal.
//!
//! Carries text, no decisions but one: [`names_what_is_wrong`]. The subtle thing: an engine that refuses everything because it cannot do it
//! must not score by that.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::compare::clipped;
use crate::diagnostic::{Diagnostic, ErrorClass};

/// Longest line of a failure that is kept.
const LINE_CHARS: usize = 1000;

/// Most lines of a failure that are kept.
const LINES: usize = 24;

/// Why a test failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// one line
    pub headline: String,
    /// what is worth reading beside it
    pub detail: Vec<String>,
}

impl Failure {
    /// A failure that one line says.
    pub(super) fn new(headline: impl Into<String>) -> Self {
        let headline: String = headline.into();
        let mut lines = headline.lines();
        let first = clipped(lines.next().unwrap_or_default(), LINE_CHARS);
        Self { headline: first, detail: Vec::new() }.with(lines.map(str::to_owned))
    }

    /// With more lines.
    #[must_use]
    pub(super) fn with(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        for line in lines {
            self.detail.extend(line.lines().map(|l| clipped(l, LINE_CHARS)));
        }
        self.detail.truncate(LINES);
        self
    }

    /// An error where none was wanted.
    pub(super) fn of(what: &str, error: &Diagnostic) -> Self {
        let mut text = error.to_string();
        let rest = text.split_off(text.find('\n').unwrap_or(text.len()));
        Self::new(format!("{what}: {text}")).with(rest.trim_start_matches('\n').lines().map(str::to_owned))
    }
}

/// True if an error says what is wrong with the statement or the records, not that the product lacks something or has a defect.
pub(super) fn names_what_is_wrong(error: &Diagnostic) -> bool {
    const EXCUSES: [&str; 6] = [
        "not built",
        "not implemented",
        "internal error",
        "unsupported in this release",
        "not supported in this release",
        "panicked",
    ];
    let text = error.message.to_lowercase();
    let blames = matches!(error.class, ErrorClass::User | ErrorClass::Query | ErrorClass::Record);
    blames && !text.trim().is_empty() && !EXCUSES.iter().any(|excuse| text.contains(excuse))
}

thread_local! {
    /// where the last panic of a guarded call happened
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Calls `run`; a panic in it becomes a failure and is not printed.
pub(super) fn guarded(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let quiet = PANIC.with(|place| {
                let mut place = place.borrow_mut();
                let guarded = place.is_some();
                if guarded {
                    *place = Some(info.location().map(ToString::to_string));
                }
                guarded
            });
            if !quiet {
                before(info);
            }
        }));
    });
    PANIC.with(|place| *place.borrow_mut() = Some(None));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    let place = PANIC.with(|place| place.borrow_mut().take()).flatten();
    match result {
        // the runtime catches panics of its own tasks, so one may be known that did not come up to here
        Ok(Err(failure)) => Err(match place {
            Some(place) => failure.with([format!("a panic happened at {place}")]),
            None => failure,
        }),
        Ok(Ok(())) => Ok(()),
        Err(panic) => {
            let at = place.map_or(String::new(), |p| format!(" at {p}"));
            Err(Failure::new(format!("panicked: {}{at}", panic_text(panic.as_ref()))))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excuses_are_no_refusals() {
        let named = |text: &str| names_what_is_wrong(&Diagnostic::user(text));
        assert!(named("Column 'X' cannot be resolved"));
        assert!(named("PARTITION BY is not supported on a table"));
        assert!(named("This format does not yet support GROUP BY"));
        assert!(!named("the AVRO format is not built into this release") && !named("Internal error: x") && !named(""));
        assert!(!names_what_is_wrong(&Diagnostic::new(ErrorClass::Fatal, "disk full")));
    }

    #[test]
    fn panics_are_failures_with_their_place() {
        let failure = guarded(|| panic!("boom {}", 1)).expect_err("panics");
        assert!(failure.headline.starts_with("panicked: boom 1 at src/sqltest/failure.rs"), "{}", failure.headline);
        assert_eq!(guarded(|| Ok(())), Ok(()));
    }
}
