//! What is wrong with cluster.yaml, and what to do about it.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, counted from 1; 0: the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// How the file is called in messages.
    pub file: String,
    /// What is wrong with it.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, problem) in self.list.iter().enumerate() {
            if count > 0 {
                writeln!(formatter)?;
            }
            write_one(formatter, &self.file, problem)?;
        }
        Ok(())
    }
}

fn write_one(formatter: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    write!(formatter, "{file}:")?;
    if problem.line > 0 {
        write!(formatter, "{}:", problem.line)?;
    }
    write!(formatter, " {}", problem.message)?;
    if !problem.hint.is_empty() {
        write!(formatter, "; {}", problem.hint)?;
    }
    Ok(())
}

/// The candidate that was probably meant, for "did you mean".
#[must_use]
pub fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
