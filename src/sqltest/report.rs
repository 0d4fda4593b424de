//! What is printed: each failure with its difference, and the score as the last line.
//!
//! Decides nothing. The subtle thing: the output is bounded, also when every case of a large suite fails.

use std::io::{self, Write};

use super::compare::clipped;
use super::{CaseResult, Report};

/// So many failures are shown with their difference; the others with one line.
const SHOWN_IN_FULL: usize = 200;

/// Longest line of a failure that is printed.
const LINE_CHARS: usize = 400;

/// Prints a report.
///
/// # Errors
/// If `out` takes no more.
pub(super) fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let failed: Vec<&CaseResult> = report.cases.iter().filter(|case| case.failure.is_some()).collect();
    for (index, case) in failed.iter().enumerate() {
        failure(case, index < SHOWN_IN_FULL, out)?;
    }
    if failed.len() > SHOWN_IN_FULL {
        writeln!(out, "\n(one line each after the first {SHOWN_IN_FULL} failures; --filter NAME shows one in full)")?;
    }
    if report.rest_cases > 0 {
        writeln!(out, "\n{} cases of the HTTP API were left out: they need a server", report.rest_cases)?;
    }
    let (positives, refusals) = (report.positives, report.refusals);
    writeln!(out, "positives {}/{}, refusals {}/{}", positives.0, positives.1, refusals.0, refusals.1)
}

fn failure(case: &CaseResult, in_full: bool, out: &mut dyn Write) -> io::Result<()> {
    let Some(failure) = &case.failure else { return Ok(()) };
    let (name, headline) = (&case.name, clipped(&failure.headline, LINE_CHARS));
    if !in_full {
        return writeln!(out, "FAILED {name}: {headline}");
    }
    writeln!(out, "FAILED {name} ({}:{})\n  {headline}", case.file.display(), case.line)?;
    for line in &failure.detail {
        writeln!(out, "    {}", clipped(line, LINE_CHARS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sqltest::Failure;

    #[test]
    fn the_score_is_the_last_line() {
        let case = |name: &str, refusal, failure: Option<&str>| CaseResult {
            name: name.to_owned(),
            file: Path::new("f.sql").into(),
            line: 3,
            refusal,
            failure: failure.map(|text| Failure::new(text).with(["expected 1".to_owned()])),
        };
        let cases = vec![case("a", false, None), case("b", false, Some("differs")), case("c", true, None)];
        let mut out = Vec::new();
        print(&Report::of(cases, 2), &mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("is text");
        let want = "FAILED b (f.sql:3)\n  differs\n    expected 1\n\n2 cases of the HTTP API were left out: they need a server\npositives 1/2, refusals 1/1\n";
        assert_eq!(text, want);
    }

    #[test]
    fn a_large_suite_that_fails_prints_little() {
        let case = |n: usize| CaseResult {
            name: format!("case {n}"),
            file: Path::new("f.sql").into(),
            line: n,
            refusal: false,
            failure: Some(Failure::new("x".repeat(100_000)).with((0..1000).map(|_| "y".repeat(100_000)))),
        };
        let mut out = Vec::new();
        print(&Report::of((0..1500).map(case).collect(), 0), &mut out).expect("memory takes all");
        assert!(out.len() < 4 << 20, "{} bytes", out.len());
    }
}
