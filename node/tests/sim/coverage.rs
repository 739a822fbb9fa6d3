//! What happened in a run, counted, so that a suite can show that it took the paths it is for.

use std::collections::BTreeMap;
use std::fmt;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// It happened so many times more.
    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// How many times it happened.
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Coverage) {
        for (what, times) in &other.0 {
            self.count(what, *times);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|(what, times)| format!("{what} {times}"));
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}
