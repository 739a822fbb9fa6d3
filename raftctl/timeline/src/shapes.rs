//! What is drawn where: stretches and marks in lanes, one lane for each node.
//!
//! Times stand on the horizontal axis in milliseconds since the first moment of the record; the lanes below
//! each other in pixels. How much can be drawn is bounded, whatever the length of the record: stretches that
//! would touch on the screen become one, and of too many marks the rarer kinds stay.

use std::collections::BTreeMap;

use super::check::length;
use super::clients::{Asked, Clients, LANE_OF_CLIENTS};
use super::record::{Ended, Kind, Leadership, Moment, Record, Span};
use super::{Micros, Node, Timeline};

/// Height of a lane, and where its rows stand in it.
pub const LANE: f64 = 92.0;
pub const MARKS: (f64, f64) = (4.0, 18.0);
pub const LEADER: (f64, f64) = (20.0, 44.0);
pub const PROMISES: (f64, f64) = (46.0, 58.0);
pub const COMMITS: (f64, f64) = (62.0, 86.0);

/// Marks that are drawn, all nodes together.
const MARKS_MAX: usize = 6_000;
/// Stretches that are nearer to each other than this part of the whole are drawn as one.
const STRETCHES_PER_RANGE: Micros = 4_000;
/// Stretches of one kind in one lane.
const STRETCHES_MAX: usize = 4_000;

/// An idle node writes little: only so long a silence at the end is one.
const SILENCE: Micros = 1_000_000;

/// A stretch of time in a lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// The class that gives it its looks.
    pub class: &'static str,
    /// Gives it its colour.
    pub term: Option<u64>,
    pub from: Micros,
    pub until: Micros,
    /// Top and bottom within the lane.
    pub row: (f64, f64),
    /// What a pointer over it shows.
    pub says: String,
    /// Where it stands in dump.txt.
    pub line: Option<usize>,
    /// Written into it.
    pub label: Option<String>,
}

/// A moment in a lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub class: &'static str,
    pub at: Micros,
    pub says: String,
    pub line: usize,
}

/// A node's lane.
#[derive(Debug, Default)]
pub struct Lane {
    /// The node; [`LANE_OF_CLIENTS`] is none.
    pub node: Node,
    pub title: String,
    pub notes: Vec<String>,
    pub stretches: Vec<Stretch>,
    pub marks: Vec<Mark>,
    /// Time and height: 0 is the bottom of the row, 1 its top.
    pub commits: Vec<(Micros, f64)>,
}

/// All lanes, from the lowest id up.
pub fn lanes(timeline: &Timeline) -> Vec<Lane> {
    let (first, last) = timeline.range();
    let records = &timeline.records;
    let share = MARKS_MAX / records.len().max(1);
    let commits = records.values().flat_map(|record| &record.commits);
    let highest = commits.map(|(_, index)| *index).max().unwrap_or(1).max(1);
    let lane = |(node, record): (&Node, &Record)| Lane {
        node: *node,
        title: format!("node {node}"),
        notes: notes(timeline, *node, record),
        stretches: stretches(record, first, last),
        marks: marks(record, share),
        commits: record
            .commits
            .iter()
            .map(|(at, index)| (*at, *index as f64 / highest as f64))
            .collect(),
    };
    let clients = timeline.clients.iter().map(|it| clients(it, first, last));
    records.iter().map(lane).chain(clients).collect()
}

/// What clients saw: when nobody was answered, and what no order of the operations explains. What lies
/// beyond the nodes' records is left out.
fn clients(clients: &Clients, first: Micros, last: Micros) -> Lane {
    let stretch = |class, span: Span, row, says| Stretch {
        class,
        term: None,
        from: span.from.max(first),
        until: span.until.min(last),
        row,
        says,
        line: None,
        label: None,
    };
    let mut stretches = vec![stretch(
        "asked",
        clients.span(),
        (0.0, LANE - 4.0),
        "clients read and write".into(),
    )];
    for gap in clients.gaps.iter().take(STRETCHES_MAX) {
        let span = clients.stretch(gap.from_us, gap.until_us);
        let (what, row) = match gap.asked {
            Asked::Reads => ("read", MARKS),
            Asked::Writes => ("write", LEADER),
        };
        let says = format!(
            "no {what} was answered for {}",
            length(span.until - span.from)
        );
        stretches.push(stretch("gap", span, row, says));
    }
    for claim in clients.claims.iter().take(STRETCHES_MAX) {
        let until_us = claim.return_us.unwrap_or(claim.call_us + 1);
        let span = clients.stretch(claim.call_us, until_us.max(claim.call_us + 1));
        let says = format!("not linearizable: {}", claim.says);
        stretches.push(stretch("claim", span, COMMITS, says));
    }
    stretches.retain(|stretch| stretch.from < stretch.until);
    Lane {
        node: LANE_OF_CLIENTS,
        title: "clients".into(),
        notes: vec!["clock not compared".into()],
        stretches,
        ..Lane::default()
    }
}

/// What is to be known about a record before one looks at it.
fn notes(timeline: &Timeline, node: Node, record: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    if !timeline.clocks.is_one() && timeline.clocks.reference() != Some(node) {
        let unsure = timeline.clocks.of(node).and_then(|clock| clock.unsure_us);
        notes.push(match unsure {
            Some(unsure) => format!("clock ±{}", length(unsure)),
            None => "clock not compared".into(),
        });
    }
    if record.unreadable > 0 {
        notes.push(format!("{} lines not understood", record.unreadable));
    }
    if record.moments_left_out > 0 {
        notes.push(format!("{} marks left out", record.moments_left_out));
    }
    notes
}

fn stretches(record: &Record, first: Micros, last: Micros) -> Vec<Stretch> {
    let mut drawn = Vec::new();
    let plain = |class, span: Span, row, says: &str| Stretch {
        class,
        term: None,
        from: span.from,
        until: span.until,
        row,
        says: says.to_owned(),
        line: None,
        label: None,
    };
    let whole = (0.0, LANE - 4.0);
    for silence in silences(record, first, last) {
        let says = match record.first_us.is_none_or(|first| silence.from < first) {
            true => "not recorded: dump.txt begins later",
            false => "no process, or none that wrote",
        };
        drawn.push(plain("silent", silence, whole, says));
    }
    let gap = (last - first) / STRETCHES_PER_RANGE;
    for promise in joined_promises(record, gap) {
        drawn.push(promise);
    }
    // Whoever leads on has a lease beyond the end of the record, and does not die for that.
    let is_silent = record.last_us.is_none_or(|own| last - own > SILENCE);
    for leading in record.leaderships.iter().take(STRETCHES_MAX) {
        let is_over = leading.ended != Ended::Open || is_silent;
        drawn.extend(leadership(leading, is_over));
    }
    for cut in record.cuts.iter().take(STRETCHES_MAX) {
        drawn.push(plain("cut", *cut, (0.0, MARKS.1), "links cut"));
    }
    drawn
}

/// When nothing ran, or nothing of it is recorded.
fn silences(record: &Record, first: Micros, last: Micros) -> Vec<Span> {
    let mut silences = Vec::new();
    let mut from = first;
    for alive in record.alive.iter().take(STRETCHES_MAX) {
        if alive.from > from {
            silences.push(Span {
                from,
                until: alive.from,
            });
        }
        from = from.max(alive.until);
    }
    if last - from > SILENCE {
        silences.push(Span { from, until: last });
    }
    silences
}

fn joined_promises(record: &Record, gap: Micros) -> Vec<Stretch> {
    let mut joined: BTreeMap<(Node, u64), Vec<(Span, usize)>> = BTreeMap::new();
    for promise in &record.promises {
        let spans = joined.entry((promise.leader, promise.term)).or_default();
        match spans.last_mut() {
            Some((open, _)) if promise.span.from <= open.until + gap => {
                open.until = open.until.max(promise.span.until);
            }
            _ => spans.push((promise.span, promise.line)),
        }
    }
    let mut drawn = Vec::new();
    for ((leader, term), spans) in joined {
        for (span, line) in spans {
            let says = format!(
                "promises node {leader} its lease of term {term}, for {}",
                length(span.until - span.from)
            );
            drawn.push(Stretch {
                class: "promise",
                term: Some(term),
                from: span.from,
                until: span.until,
                row: PROMISES,
                says,
                line: Some(line),
                label: None,
            });
        }
    }
    drawn.truncate(STRETCHES_MAX);
    drawn
}

/// A leadership, its leases on it, and its wait above them.
fn leadership(leading: &Leadership, is_over: bool) -> Vec<Stretch> {
    let term = leading.term;
    let on_term = |class, span: Span, says: String, line, label| Stretch {
        class,
        term: Some(term),
        from: span.from,
        until: span.until,
        row: LEADER,
        says,
        line,
        label,
    };
    let ended = ended(leading.ended);
    let says = format!("leads term {term}; {ended}");
    let label = Some(format!("term {term}"));
    let mut drawn = vec![on_term(
        "leads",
        leading.span,
        says,
        Some(leading.line),
        label,
    )];
    for lease in &leading.leases {
        let says = format!(
            "lease of term {term}, {}: answers reads by itself",
            length(lease.until - lease.from)
        );
        let class = match is_over && lease.until > leading.span.until {
            true => "lease outlives",
            false => "lease",
        };
        drawn.push(on_term(class, *lease, says, None, None));
    }
    if let Some(wait) = leading.wait {
        let until = wait.over.unwrap_or(wait.from + wait.remaining);
        let span = Span {
            from: wait.from,
            until: until
                .min(wait.from + wait.remaining.max(1))
                .max(wait.from + 1),
        };
        let says = format!(
            "waits for an older lease to end, at most {}: commits nothing meanwhile",
            length(wait.remaining)
        );
        drawn.push(on_term("wait", span, says, Some(wait.line), None));
    }
    drawn
}

/// How a leadership ended, in words.
pub fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Open => "still leads where the record ends",
        Ended::LeaseOver => "stepped down: no majority answered for a whole lease",
        Ended::DiskStalled => "gave up: its disk did not answer",
        Ended::HandedOver => "handed over",
        Ended::SteppedDown => "stepped down: it heard of a higher term",
        Ended::Died => "its process ended",
    }
}

/// The marks of a lane; where there are too many, the rarer kinds stay.
fn marks(record: &Record, most: usize) -> Vec<Mark> {
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for moment in &record.moments {
        *counts.entry(moment.kind).or_default() += 1;
    }
    let mut chosen: Vec<&Moment> = record.moments.iter().collect();
    if chosen.len() > most {
        chosen.sort_by_key(|moment| counts.get(&moment.kind).copied());
        chosen.truncate(most);
        chosen.sort_by_key(|moment| moment.at);
    }
    let mark = |moment: &&Moment| Mark {
        class: class(moment.kind),
        at: moment.at,
        says: moment.sentence.clone(),
        line: moment.line,
    };
    chosen.iter().map(mark).collect()
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Election => "election",
        Kind::Elected => "elected",
        Kind::VoteGranted => "granted",
        Kind::VoteDenied => "denied",
        Kind::SteppedDown => "down",
        Kind::Started => "started",
        Kind::Ended => "ended",
        Kind::Fault => "fault",
        Kind::Snapshot => "snapshot",
        Kind::Trouble => "trouble",
        Kind::NotRecorded => "lost",
    }
}
