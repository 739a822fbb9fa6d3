//! Times and counts as scenario files write them.

use std::time::Duration;

use serde::Deserialize;

use crate::cluster::timing::Timing;

/// A time: fixed, or in units of the cluster's own timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Span {
    /// `500ms`, `10s`
    Fixed(Duration),
    /// `3 heartbeats`
    Heartbeats(u32),
    /// `1 lease`
    Leases(u32),
    /// `2 elections`: of the longest election timeout
    Elections(u32),
}

impl Span {
    /// The time, in a cluster of this timing.
    #[must_use]
    pub fn resolve(self, timing: &Timing) -> Duration {
        let of = |count: u32, ms: u64| Duration::from_millis(u64::from(count) * ms);
        match self {
            Span::Fixed(duration) => duration,
            Span::Heartbeats(count) => of(count, timing.heartbeat_ms),
            Span::Leases(count) => of(count, timing.lease_ms),
            Span::Elections(count) => of(count, timing.election_timeout_max_ms),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no time; write 500ms or 10s, or a number of heartbeats, leases or \
                 elections"
            )
        };
        if let Some((count, unit)) = text.split_once(' ')
            && let Ok(count) = count.parse::<u32>()
        {
            match unit.trim().trim_end_matches('s') {
                "heartbeat" => return Ok(Span::Heartbeats(count)),
                "lease" => return Ok(Span::Leases(count)),
                "election" => return Ok(Span::Elections(count)),
                _ => {}
            }
        }
        crate::text::times::parse(&text)
            .map(Span::Fixed)
            .map_err(|_| wrong())
    }
}

/// How far a counter may have risen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CounterRule {
    /// `3`
    Exactly(u64),
    /// `>= 3`
    AtLeast(u64),
    /// `<= 3`
    AtMost(u64),
    /// `on_schedule`: no more than the time since the mark has room for
    OnSchedule,
}

impl CounterRule {
    /// Whether `rise` is right after `elapsed`, where something is due every `interval`.
    #[must_use]
    pub fn allows(self, rise: u64, elapsed: Duration, interval: Duration) -> bool {
        match self {
            CounterRule::Exactly(count) => rise == count,
            CounterRule::AtLeast(count) => rise >= count,
            CounterRule::AtMost(count) => rise <= count,
            CounterRule::OnSchedule => rise <= due(elapsed, interval),
        }
    }

    /// In words, for `expected`.
    #[must_use]
    pub fn describe(self, elapsed: Duration, interval: Duration) -> String {
        match self {
            CounterRule::Exactly(count) => format!("+{count}"),
            CounterRule::AtLeast(count) => format!("at least +{count}"),
            CounterRule::AtMost(count) => format!("at most +{count}"),
            CounterRule::OnSchedule => format!(
                "at most +{} (one each {} ms, in {} ms)",
                due(elapsed, interval),
                interval.as_millis(),
                elapsed.as_millis()
            ),
        }
    }
}

/// How often something happens at most that is due every `interval`: one may be due right at the
/// beginning.
fn due(elapsed: Duration, interval: Duration) -> u64 {
    let times = elapsed.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(times).unwrap_or(u64::MAX).saturating_add(1)
}

impl TryFrom<String> for CounterRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let rule = if text == "on_schedule" {
            Some(CounterRule::OnSchedule)
        } else if let Some(count) = text.strip_prefix(">=") {
            number(count).map(CounterRule::AtLeast)
        } else if let Some(count) = text.strip_prefix("<=") {
            number(count).map(CounterRule::AtMost)
        } else {
            number(&text).map(CounterRule::Exactly)
        };
        rule.ok_or_else(|| {
            format!("{text:?} is no count; write 3, \">= 3\", \"<= 3\" or on_schedule")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<Span, String> {
        Span::try_from(text.to_owned())
    }

    /// Times in the cluster's own units hold for every timing.
    #[test]
    fn times_follow_the_timing() {
        let ms = |text: &str, timing: &Timing| span(text).unwrap().resolve(timing).as_millis();
        assert_eq!(ms("500ms", &Timing::LAN), 500);
        assert_eq!(
            (
                ms("2 elections", &Timing::LAN),
                ms("2 elections", &Timing::WAN)
            ),
            (4000, 20_000)
        );
        assert_eq!(
            (
                ms("1 lease", &Timing::LAN),
                ms("3 heartbeats", &Timing::WAN)
            ),
            (2000, 3000)
        );
        for wrong in ["10", "soon", "2 moons", "-1 lease"] {
            assert!(span(wrong).unwrap_err().contains("is no time"), "{wrong}");
        }
    }

    /// A heartbeat more than the time has room for is one too many.
    #[test]
    fn counts_on_schedule_have_no_slack() {
        let rule = |text: &str| CounterRule::try_from(text.to_owned()).unwrap();
        let allows = |text: &str, rise, ms| {
            let interval = Duration::from_millis(100);
            rule(text).allows(rise, Duration::from_millis(ms), interval)
        };
        assert!(allows("on_schedule", 1, 20) && !allows("on_schedule", 2, 20));
        assert!(allows("on_schedule", 4, 399) && !allows("on_schedule", 5, 399));
        assert!(allows("3", 3, 0) && !allows("3", 4, 0));
        assert!(allows(">= 3", 4, 0) && !allows(">=3", 2, 0));
        assert!(allows("<= 3", 3, 0) && !allows("<=3", 4, 0));
        assert!(CounterRule::try_from("many".to_owned()).is_err());
    }
}
