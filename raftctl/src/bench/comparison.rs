//! Two stores under the same load, in turns: medians, and their ratio. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::report::grouped;
use super::spread::median;
use super::tally::Figures;

/// What one turn of one store has given.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Reads; none: none succeeded.
    pub reads: Option<Figures>,
    /// Writes; none: none succeeded.
    pub writes: Option<Figures>,
    /// Flushes at the leader; none: it does not tell, or another one led.
    pub flushes: Option<u64>,
    /// Failures by reason.
    pub errors: BTreeMap<String, u64>,
}

/// One kind of operation at one store: medians of its turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Medians {
    /// Operations a second.
    pub per_second: f64,
    /// Half were at least as fast, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were at least as fast, in milliseconds.
    pub p99_ms: f64,
    /// Operations a second of each turn.
    pub each_per_second: Vec<f64>,
}

/// One of the two.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Which store, with its version.
    pub store: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// How reads were asked for.
    pub reads_are: String,
    /// What an acknowledged write rests on, as far as it was seen.
    pub durability: String,
    /// Null where a turn had no success, or nothing was read.
    pub reads: Option<Medians>,
    /// Null where a turn had no success, or nothing was written.
    pub writes: Option<Medians>,
    /// Failures by reason, of all turns.
    pub errors: BTreeMap<String, u64>,
}

/// How much more of something the first has than the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Of operations a second.
    pub per_second: f64,
    /// Of the median latency.
    pub p50: f64,
}

/// Both.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What was asked for, in words.
    pub load: String,
    /// How many turns each had.
    pub rounds: usize,
    /// The cluster, then the other store.
    pub sides: Vec<Side>,
    /// The cluster to the other store; null where one has no figure.
    pub ratio_of_reads: Option<Ratio>,
    /// The same of writes.
    pub ratio_of_writes: Option<Ratio>,
}

impl Medians {
    /// None where a turn has no figures: a median of the others would be of another load.
    #[must_use]
    pub fn of(turns: &[Turn], figures: impl Fn(&Turn) -> Option<&Figures>) -> Option<Self> {
        let turns: Vec<&Figures> = turns.iter().map(figures).collect::<Option<_>>()?;
        let sorted = |figure: &dyn Fn(&Figures) -> f64| {
            let mut all: Vec<f64> = turns.iter().map(|one| figure(one)).collect();
            all.sort_by(f64::total_cmp);
            median(&all)
        };
        (!turns.is_empty()).then(|| Medians {
            per_second: sorted(&|one| one.per_second).round(),
            p50_ms: sorted(&|one| one.p50_us as f64 / 1000.0),
            p99_ms: sorted(&|one| one.p99_us as f64 / 1000.0),
            each_per_second: turns.iter().map(|one| one.per_second).collect(),
        })
    }
}

/// What a write of the other store rests on: its flushes were counted, or can't be.
#[must_use]
pub fn durability(turns: &[Turn]) -> String {
    let writes: u64 = turns
        .iter()
        .filter_map(|turn| turn.writes.as_ref())
        .map(|it| it.operations)
        .sum();
    let flushes: Option<u64> = turns.iter().map(|turn| turn.flushes).sum();
    match (writes, flushes) {
        (0, _) => "nothing was written".into(),
        (_, None) => "its flushes could not be counted".into(),
        (_, Some(0)) => "NOT DURABLE: no flush was counted".into(),
        (writes, Some(flushes)) => format!(
            "{} flushes at the leader, {:.1} writes each",
            grouped(flushes),
            writes as f64 / flushes as f64
        ),
    }
}

impl Comparison {
    /// Of the two, in their order.
    #[must_use]
    pub fn new(load: String, rounds: usize, sides: [Side; 2]) -> Self {
        let ratio = |medians: &dyn Fn(&Side) -> Option<Medians>| {
            let [own, other] = [medians(&sides[0])?, medians(&sides[1])?];
            Some(Ratio {
                per_second: own.per_second / other.per_second.max(1.0),
                p50: own.p50_ms / other.p50_ms.max(0.001),
            })
        };
        Comparison {
            load,
            rounds,
            ratio_of_reads: ratio(&|side| side.reads.clone()),
            ratio_of_writes: ratio(&|side| side.writes.clone()),
            sides: sides.into(),
        }
    }

    /// The rows of one kind of operation; none where neither side has a figure.
    fn rows(
        &self,
        kind: &str,
        medians: impl Fn(&Side) -> Option<&Medians>,
        ratio: Option<&Ratio>,
    ) -> String {
        let mut text = String::new();
        if self.sides.iter().all(|side| medians(side).is_none()) {
            return text;
        }
        for side in &self.sides {
            text.push_str(&row(&format!("{kind}, {}", side.store), medians(side)));
        }
        if let Some(ratio) = ratio {
            let (rate, p50) = (ratio.per_second, ratio.p50);
            // Writing to a String can't fail.
            let _ = writeln!(text, "{:<32}{rate:>11.2}x{p50:>9.2}x", "");
        }
        text
    }

    /// A table, and what each rests on.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}; medians of {} turns each\n\n", self.load, self.rounds);
        let _ = writeln!(
            text,
            "{:<32}{:>12}{:>10}{:>10}",
            "", "per second", "p50 ms", "p99 ms"
        );
        let (reads, writes) = (self.ratio_of_reads.as_ref(), self.ratio_of_writes.as_ref());
        text.push_str(&self.rows("reads", |side| side.reads.as_ref(), reads));
        text.push_str(&self.rows("writes", |side| side.writes.as_ref(), writes));
        text.push('\n');
        for side in &self.sides {
            let Side {
                store,
                nodes,
                reads_are,
                durability,
                ..
            } = side;
            let _ = writeln!(
                text,
                "{store}: {nodes} nodes; reads {reads_are}; {durability}"
            );
            for (why, count) in &side.errors {
                let _ = writeln!(text, "{store}: {} failed: {why}", grouped(*count));
            }
        }
        text
    }
}

fn row(name: &str, medians: Option<&Medians>) -> String {
    match medians {
        None => format!("{name:<32}  no figure: in one of its turns nothing succeeded\n"),
        Some(it) => format!(
            "{name:<32}{:>12}{:>10.2}{:>10.2}\n",
            grouped(it.per_second as u64),
            it.p50_ms,
            it.p99_ms
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(per_second: f64, flushes: Option<u64>) -> Turn {
        Turn {
            writes: Some(Figures {
                operations: 1_000,
                per_second,
                p50_us: 2_000,
                p99_us: 5_000,
                p999_us: 6_000,
                max_us: 7_000,
            }),
            flushes,
            ..Turn::default()
        }
    }

    fn side(store: &str, turns: &[Turn]) -> Side {
        Side {
            store: store.into(),
            nodes: 3,
            reads_are: "linearizable".into(),
            durability: durability(turns),
            reads: Medians::of(turns, |turn| turn.reads.as_ref()),
            writes: Medians::of(turns, |turn| turn.writes.as_ref()),
            errors: BTreeMap::new(),
        }
    }

    // The ratio is one of medians, and what each store's writes rest on stands beside them.
    #[test]
    fn medians_are_compared() {
        let own = [
            turn(90.0, Some(100)),
            turn(3_000.0, Some(100)),
            turn(100.0, Some(300)),
        ];
        let other = [turn(50.0, None), turn(40.0, Some(5)), turn(60.0, Some(5))];
        let both = Comparison::new(
            "64 in flight".into(),
            3,
            [side("demo", &own), side("etcd 3.4.23", &other)],
        );
        assert_eq!(both.ratio_of_writes.as_ref().unwrap().per_second, 2.0);
        assert_eq!(both.ratio_of_reads, None);
        let text = both.text();
        assert!(
            text.contains("writes, demo                             100      2.00      5.00\n"),
            "{text}"
        );
        assert!(text.contains("2.00x     1.00x\n"), "{text}");
        assert!(
            text.contains(
                "demo: 3 nodes; reads linearizable; 500 flushes at the leader, 6.0 writes each\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "etcd 3.4.23: 3 nodes; reads linearizable; its flushes could not be counted\n"
            ),
            "{text}"
        );
        assert!(!text.contains("reads,"), "{text}");
    }

    // A store that failed in one of its turns has no figure, and there is no ratio; neither has a store that flushed
    // nothing any durability.
    #[test]
    fn without_success_there_is_no_figure() {
        let own = [turn(90.0, Some(0)), turn(90.0, Some(0))];
        let mut failed = own.clone();
        failed[1].writes = None;
        let both = Comparison::new("l".into(), 2, [side("demo", &own), side("etcd", &failed)]);
        assert_eq!(
            (&both.sides[1].writes, &both.ratio_of_writes),
            (&None, &None)
        );
        let text = both.text();
        assert!(
            text.contains("writes, etcd                      no figure"),
            "{text}"
        );
        assert!(
            text.contains("demo: 3 nodes; reads linearizable; NOT DURABLE"),
            "{text}"
        );
    }
}
