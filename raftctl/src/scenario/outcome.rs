//! What became of a step, of a scenario, of a run.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::verdict::VerdictReport;
use crate::error::Error;
use crate::workload::Availability;

/// Why a step ended a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// Something else was seen than expected.
    Expectation {
        /// What should have been.
        expected: String,
        /// What was.
        seen: String,
    },
    /// The step could not be carried out.
    Failed(String),
}

impl Unmet {
    /// An expectation that was not met.
    pub fn expected(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Unmet::Expectation {
            expected: expected.into(),
            seen: seen.into(),
        }
    }
}

impl From<Error> for Unmet {
    fn from(error: Error) -> Self {
        Unmet::Failed(error.to_string())
    }
}

/// What was seen, or what was missing.
pub type Observed = Result<String, Unmet>;

/// A step that was taken.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Its line in the file.
    pub line: u64,
    /// What it is.
    pub step: String,
    /// When it began, in milliseconds from the beginning of the scenario.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Whether what was expected was seen.
    pub passed: bool,
    /// What was seen.
    pub seen: String,
    /// What was expected instead; null if it passed, or could not be carried out.
    pub expected: Option<String>,
}

impl StepReport {
    /// The report of a step.
    pub fn new(line: u64, step: String, at: Duration, took: Duration, seen: Observed) -> Self {
        let (passed, seen, expected) = match seen {
            Ok(seen) => (true, seen, None),
            Err(Unmet::Expectation { expected, seen }) => (false, seen, Some(expected)),
            Err(Unmet::Failed(cause)) => (false, cause, None),
        };
        StepReport {
            line,
            step,
            at_ms: ms(at),
            took_ms: ms(took),
            passed,
            seen,
            expected,
        }
    }

    /// For people: a line, or several for a step that did not pass.
    #[must_use]
    pub fn text(&self, source: &str) -> String {
        let at = self.at_ms as f64 / 1000.0;
        let head = format!("  {at:6.2} s  {}", self.step);
        if self.passed {
            return format!("{head}: {}\n", self.seen);
        }
        let seen = self.seen.replace('\n', "\n            ");
        let body = match &self.expected {
            Some(expected) => format!("    expected: {expected}\n    seen:     {seen}\n"),
            None => format!("    failed:   {seen}\n"),
        };
        format!("{head}: NOT AS EXPECTED ({source}:{})\n{body}", self.line)
    }
}

/// A scenario that was run.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// Its place among the six.
    pub number: Option<u32>,
    /// What it shows.
    pub title: String,
    /// Whether every expectation was met, and the cluster is as it was before.
    pub passed: bool,
    /// How long it took, putting everything back included.
    pub seconds: f64,
    /// Every step up to the first that did not pass.
    pub steps: Vec<StepReport>,
    /// What the clients beside it saw; null if they could not end.
    pub workload: Option<WorkloadReport>,
    /// The page that draws what happened; null if it could not be drawn.
    pub timeline: Option<PathBuf>,
    /// Why the cluster could not be put back; null if it was.
    pub not_restored: Option<String>,
}

impl ScenarioReport {
    /// What follows the steps, for people.
    #[must_use]
    pub fn ending(&self) -> String {
        let mut text = String::new();
        if let Some(workload) = self.workload.as_ref().filter(|w| w.verdict.operations > 0) {
            text.push_str(&workload.text());
        }
        if let Some(page) = &self.timeline {
            text.push_str(&format!("  timeline: {}\n", page.display()));
        }
        if let Some(cause) = &self.not_restored {
            text.push_str(&format!("  the cluster could not be put back: {cause}\n"));
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let (name, seconds) = (&self.name, self.seconds);
        text.push_str(&format!("{verdict}: {name} in {seconds:.1} s\n\n"));
        text
    }
}

/// What the clients beside a scenario saw.
#[derive(Debug, Clone, Serialize)]
pub struct WorkloadReport {
    /// The checker's verdict.
    #[serde(flatten)]
    pub verdict: VerdictReport,
    /// How available reads were until the last step.
    pub reads: Availability,
    /// How available writes were until the last step.
    pub writes: Availability,
}

impl WorkloadReport {
    fn text(&self) -> String {
        let gap = |kind: &Availability| kind.longest_gap_ms as f64 / 1000.0;
        format!(
            "  clients beside it: {}; longest gap of reads {:.2} s, of writes {:.2} s\n",
            self.verdict.text(),
            gap(&self.reads),
            gap(&self.writes)
        )
    }
}

/// Whole milliseconds.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was expected stands beside what was seen, with the place in the file.
    #[test]
    fn a_failed_step_shows_both_sides() {
        let seen = Err(Unmet::expected("+0", "+2"));
        let second = Duration::from_secs(1);
        let report = StepReport::new(12, "count".into(), second, second, seen);
        assert_eq!(
            report.text("a.yaml"),
            "    1.00 s  count: NOT AS EXPECTED (a.yaml:12)\n    expected: +0\n    seen:     +2\n"
        );
        let report = StepReport::new(12, "count".into(), second, second, Ok("+0".into()));
        assert_eq!(report.text("a.yaml"), "    1.00 s  count: +0\n");
    }
}
