//! What was looked at before anything is made, and what it means.

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: "Terraform".
    pub subject: String,
    /// How it is.
    pub text: String,
    /// What it means.
    pub verdict: Verdict,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Good,
    /// It may be well, which the operator knows better.
    Doubtful,
    /// Nothing can be made like this.
    Wrong,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(verdict: Verdict, subject: &str, text: impl Into<String>) -> Self {
        Finding {
            subject: subject.to_owned(),
            text: text.into(),
            verdict,
        }
    }

    /// One that is as it should be.
    #[must_use]
    pub fn good(subject: &str, text: impl Into<String>) -> Self {
        Finding::new(Verdict::Good, subject, text)
    }

    /// One that keeps anything from being made.
    #[must_use]
    pub fn bad(subject: &str, text: impl Into<String>) -> Self {
        Finding::new(Verdict::Wrong, subject, text)
    }
}
