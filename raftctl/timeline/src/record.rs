//! One node's dump.txt, read in one pass: what is drawn of it and what is checked.

use std::collections::BTreeMap;

use super::{Micros, Node};
use raftkv_text::records::DumpLine;

/// Points of the commit curve that are kept for each node; when there are more, every other one goes.
const COMMITS_MAX: usize = 2_000;
/// Single happenings that are kept for each node. More of a kind would be a smear.
const MOMENTS_MAX: usize = 3_000;
/// Pairs of messages that are kept for the comparison of clocks, for each node and way.
const MESSAGES_MAX: usize = 100_000;

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Micros,
    pub until: Micros,
}

/// A leadership, from the election to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub span: Span,
    pub ended: Ended,
    pub line: usize,
    /// Its first commit.
    pub first_commit: Option<Micros>,
    /// The wait for older leases, as it was told.
    pub wait: Option<Wait>,
    /// Stretches in which it held its lease, as each heartbeat told what was left.
    pub leases: Vec<Span>,
    /// Whether heartbeats told of the lease: older versions did not.
    pub tells_lease: bool,
    /// The run of the node that led; empty where that was not told.
    pub run: String,
    /// When it found that it need not wait, because those had ended that it would have waited for.
    pub waived: Option<Micros>,
}

/// How a leadership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It goes on where the record ends.
    Open,
    /// No majority acknowledged for a whole lease.
    LeaseOver,
    /// The disk did not answer.
    DiskStalled,
    /// It was handed over.
    HandedOver,
    /// It heard of a higher term.
    SteppedDown,
    /// The process ended, with or without a word.
    Died,
}

/// A new leader's wait for older leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub from: Micros,
    pub remaining: Micros,
    pub over: Option<Micros>,
    pub line: usize,
}

/// What a node promised one leader in one term, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    pub leader: Node,
    pub term: u64,
    pub span: Span,
    pub line: usize,
}

/// A vote that was given, with what the candidate was told of promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub at: Micros,
    pub candidate: Node,
    pub term: u64,
    pub promise: Option<Micros>,
}

/// That a run of a node has ended, as a node knew for certain from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub at: Micros,
    pub node: Node,
    pub run: String,
}

/// What a single happening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Election,
    Elected,
    VoteGranted,
    VoteDenied,
    SteppedDown,
    Started,
    Ended,
    Fault,
    Snapshot,
    Trouble,
    NotRecorded,
}

/// A single happening, with the sentence that told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub at: Micros,
    pub kind: Kind,
    pub line: usize,
    pub sentence: String,
}

/// A heartbeat round: the appends that follow have this sequence or a higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub at: Micros,
    pub term: u64,
    pub sequence: u64,
    pub acknowledged: Vec<(Node, u64)>,
}

/// An append that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub at: Micros,
    pub leader: Node,
    pub term: u64,
    pub sequence: u64,
}

/// See the module. All lists are in the order of the file.
#[derive(Debug, Default)]
pub struct Record {
    pub lines: usize,
    /// Lines that tell of no event.
    pub unreadable: usize,
    pub first_us: Option<Micros>,
    pub last_us: Option<Micros>,
    /// When the process ran, as far as the lines show.
    pub alive: Vec<Span>,
    pub leaderships: Vec<Leadership>,
    pub promises: Vec<Promise>,
    pub votes: Vec<Vote>,
    pub proofs: Vec<Proof>,
    /// When links were cut, by what was asked for or until they were healed.
    pub cuts: Vec<Span>,
    pub moments: Vec<Moment>,
    /// Happenings beyond [`MOMENTS_MAX`].
    pub moments_left_out: usize,
    /// Time and index.
    pub commits: Vec<(Micros, u64)>,
    pub rounds: Vec<Round>,
    pub accepted: Vec<Accepted>,
    commits_stride: usize,
    commits_seen: usize,
    /// The run whose lines are read.
    run: String,
    /// The newest promise to each leader and term, by its place in the list.
    open_promises: BTreeMap<(Node, u64), usize>,
}

impl Record {
    /// Reads the file of node `id`. A last line without its end is left out.
    pub fn read(id: Node, text: &str) -> Record {
        let mut record = Record {
            commits_stride: 1,
            ..Record::default()
        };
        let mut is_alive = false;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            record.lines += 1;
            let Some(line) = DumpLine::parse(line) else {
                record.unreadable += 1;
                continue;
            };
            record.take(id, number, &line, &mut is_alive);
        }
        record.end_of_record(is_alive);
        record
    }

    fn take(&mut self, id: Node, number: usize, line: &DumpLine<'_>, is_alive: &mut bool) {
        let at = line.at_us;
        let starts = line.sentence.ends_with(" started.");
        if starts {
            self.end_of_process();
            self.run = line.text("run").unwrap_or_default().to_owned();
        }
        if starts || !*is_alive {
            self.alive.push(Span {
                from: at,
                until: at,
            });
            *is_alive = true;
        }
        self.first_us = Some(self.first_us.map_or(at, |first| first.min(at)));
        self.last_us = Some(self.last_us.map_or(at, |last| last.max(at)));
        if let Some(alive) = self.alive.last_mut() {
            alive.until = alive.until.max(at);
        }
        if !self.take_frequent(line, number) {
            self.take_rare(id, line, number);
        }
        if line.sentence.ends_with(" stopped.") {
            self.end_leadership(at, Ended::Died);
            *is_alive = false;
        }
    }

    /// What comes with each heartbeat, append and commit.
    fn take_frequent(&mut self, line: &DumpLine<'_>, number: usize) -> bool {
        let sentence = line.sentence;
        if sentence.contains(" accepted ") && sentence.contains("AppendEntries RPC") {
            self.take_accepted(line, number);
        } else if sentence.contains(" committed ") {
            self.take_commit(line, sentence.contains("(leader)"));
        } else if sentence.ends_with("sending heartbeat & Renewing Lease") {
            self.take_heartbeat(line);
        } else if sentence.ends_with(" holds its lease.") {
            self.take_lease(line);
        } else if sentence.contains(" rejected AppendEntries RPC") {
            self.take_promise(line, number);
        } else {
            return sentence.contains("(leader) received ");
        }
        true
    }

    fn take_accepted(&mut self, line: &DumpLine<'_>, number: usize) {
        self.take_promise(line, number);
        let (leader, term) = (line.number("peer"), line.number("term"));
        if let (Some(leader), Some(term), Some(sequence)) = (leader, term, line.number("sequence"))
            && self.accepted.len() < MESSAGES_MAX
        {
            let at = line.at_us;
            self.accepted.push(Accepted {
                at,
                leader,
                term,
                sequence,
            });
        }
    }

    /// A promise is extended by every append, whether it is accepted or not. A folded line is of its
    /// last append, and has another promise at its first.
    fn take_promise(&mut self, line: &DumpLine<'_>, number: usize) {
        let (leader, term) = (line.number("peer"), line.number("term"));
        let (Some(leader), Some(term), Some(length)) = (leader, term, line.number("promise_us"))
        else {
            return;
        };
        let from = line.time_us("since").unwrap_or(line.at_us);
        let until = line.at_us + length as Micros;
        if let Some(place) = self.open_promises.get(&(leader, term))
            && let Some(open) = self.promises.get_mut(*place)
            && from <= open.span.until
        {
            open.span.until = open.span.until.max(until);
            return;
        }
        self.open_promises
            .insert((leader, term), self.promises.len());
        self.promises.push(Promise {
            leader,
            term,
            span: Span { from, until },
            line: number,
        });
    }

    fn take_commit(&mut self, line: &DumpLine<'_>, as_leader: bool) {
        let first = line.time_us("since").unwrap_or(line.at_us);
        if as_leader && let Some(leading) = self.leaderships.last_mut() {
            leading.first_commit.get_or_insert(first);
        }
        let index = line.number("index").or_else(|| line.number("last_index"));
        let Some(index) = index else { return };
        self.commits_seen += 1;
        if self.commits_seen.is_multiple_of(self.commits_stride) {
            self.commits.push((line.at_us, index));
        }
        if self.commits.len() >= COMMITS_MAX {
            let mut keep = false;
            self.commits.retain(|_| {
                keep = !keep;
                keep
            });
            self.commits_stride *= 2;
        }
    }

    /// What a leader says is left of its lease: with each heartbeat, and when it has one that it had not.
    fn take_lease(&mut self, line: &DumpLine<'_>) {
        let (term, lease) = (line.number("term"), line.number("lease_us"));
        if let (Some(leading), Some(lease)) = (self.leaderships.last_mut(), lease)
            && term == Some(leading.term)
        {
            leading.tells_lease = true;
            leading.note_lease(line.at_us, lease as Micros);
        }
    }

    fn take_heartbeat(&mut self, line: &DumpLine<'_>) {
        self.take_lease(line);
        let (at, term) = (line.at_us, line.number("term"));
        if let (Some(term), Some(sequence)) = (term, line.number("sequence"))
            && self.rounds.len() < MESSAGES_MAX
        {
            let acknowledged = line.text("acknowledged").unwrap_or_default();
            self.rounds.push(Round {
                at,
                term,
                sequence,
                acknowledged: pairs(acknowledged),
            });
        }
    }

    fn take_rare(&mut self, id: Node, line: &DumpLine<'_>, number: usize) {
        let (at, sentence) = (line.at_us, line.sentence);
        let term = line.number("term");
        let kind = if sentence.contains("election timer timed out") {
            Kind::Election
        } else if sentence.starts_with("Vote granted") {
            if let (Some(candidate), Some(term)) = (line.number("candidate"), term) {
                let promise = line.number("promise_us").map(|length| length as Micros);
                self.votes.push(Vote {
                    at,
                    candidate,
                    term,
                    promise,
                });
            }
            Kind::VoteGranted
        } else if sentence.starts_with("Vote denied") {
            Kind::VoteDenied
        } else if sentence.contains(" became the leader for term") {
            self.begin_leadership(at, term.unwrap_or_default(), number);
            Kind::Elected
        } else if self.take_proof(line) {
            Kind::Ended
        } else if self.take_end_or_wait(line, number) {
            Kind::SteppedDown
        } else if sentence.contains(" cut its links") {
            let length = line.number("for_ms").unwrap_or_default() as Micros * 1_000;
            self.cuts.push(Span {
                from: at,
                until: at + length,
            });
            Kind::Fault
        } else if sentence.contains(" healed its links") {
            let cuts = self.cuts.iter_mut().filter(|cut| cut.until > at);
            cuts.for_each(|cut| cut.until = at);
            Kind::Fault
        } else {
            match other_kind(id, sentence) {
                Some(kind) => kind,
                None => return,
            }
        };
        self.moment(at, kind, number, sentence);
    }

    /// The end of a run that is known for certain, and what it waives for a leader. Returns whether it was one of them.
    fn take_proof(&mut self, line: &DumpLine<'_>) -> bool {
        let (at, sentence) = (line.at_us, line.sentence);
        if sentence.contains(" knows for certain that a run of Node ") {
            if let (Some(node), Some(run)) = (line.number("peer"), line.text("run")) {
                let run = run.to_owned();
                self.proofs.push(Proof { at, node, run });
            }
        } else if sentence.contains(" need not wait for an older lease") {
            if let Some(leading) = self.leaderships.last_mut() {
                leading.waived = Some(at);
            }
        } else {
            return false;
        }
        true
    }

    /// The end of a leadership, and a new leader's wait. Returns whether it was one of them.
    fn take_end_or_wait(&mut self, line: &DumpLine<'_>, number: usize) -> bool {
        let (at, sentence) = (line.at_us, line.sentence);
        let ended = if sentence.contains("lease renewal failed") {
            Ended::LeaseOver
        } else if sentence.contains("because its disk has stalled") {
            Ended::DiskStalled
        } else if sentence.contains("gives up its lease for good") {
            // It still leads until it hears of the next term, but without a lease.
            if let Some(leading) = self.leaderships.last_mut() {
                leading.end_lease(at);
                leading.ended = Ended::HandedOver;
            }
            return true;
        } else if sentence.ends_with(" Stepping down") {
            Ended::SteppedDown
        } else if sentence.starts_with("New Leader waiting") {
            let remaining = line.number("remaining_us").unwrap_or_default() as Micros;
            if let Some(leading) = self.leaderships.last_mut() {
                leading.wait = Some(Wait {
                    from: at,
                    remaining,
                    over: None,
                    line: number,
                });
            }
            return true;
        } else if sentence.contains("has waited out every older lease") {
            let leading = self.leaderships.last_mut();
            if let Some(wait) = leading.and_then(|leading| leading.wait.as_mut()) {
                wait.over = Some(at);
            }
            return true;
        } else {
            return false;
        };
        self.end_leadership(at, ended);
        true
    }

    fn moment(&mut self, at: Micros, kind: Kind, line: usize, sentence: &str) {
        if self.moments.len() >= MOMENTS_MAX {
            self.moments_left_out += 1;
            return;
        }
        self.moments.push(Moment {
            at,
            kind,
            line,
            sentence: sentence.to_owned(),
        });
    }

    fn begin_leadership(&mut self, at: Micros, term: u64, line: usize) {
        self.leaderships.push(Leadership {
            term,
            span: Span {
                from: at,
                until: at,
            },
            ended: Ended::Open,
            line,
            first_commit: None,
            wait: None,
            leases: Vec::new(),
            tells_lease: false,
            run: self.run.clone(),
            waived: None,
        });
    }

    /// Ends the leadership that is open, if one is.
    fn end_leadership(&mut self, at: Micros, ended: Ended) {
        let Some(leading) = self.leaderships.last_mut() else {
            return;
        };
        if leading.span.until > leading.span.from {
            return; // Over already.
        }
        leading.span.until = at.max(leading.span.from + 1);
        if leading.ended == Ended::Open {
            leading.ended = ended;
        }
        // The lease of a leader that died goes on without it: its successor waits for that end.
        if ended != Ended::Died {
            leading.end_lease(at);
        }
    }

    /// The process has ended without a word: with the last line that it wrote.
    fn end_of_process(&mut self) {
        if let Some(last) = self.last_us {
            self.end_leadership(last, Ended::Died);
        }
    }

    fn end_of_record(&mut self, is_alive: bool) {
        let Some(last) = self.last_us else { return };
        let open = self.leaderships.last_mut();
        if let Some(leading) = open.filter(|leading| leading.span.until == leading.span.from)
            && is_alive
        {
            leading.span.until = last.max(leading.span.from + 1);
        }
    }

    /// Puts everything on another clock.
    pub fn shift(&mut self, by: Micros) {
        let move_span = |span: &mut Span| {
            span.from += by;
            span.until += by;
        };
        self.first_us = self.first_us.map(|at| at + by);
        self.last_us = self.last_us.map(|at| at + by);
        self.alive.iter_mut().for_each(move_span);
        self.cuts.iter_mut().for_each(move_span);
        for promise in &mut self.promises {
            move_span(&mut promise.span);
        }
        for leading in &mut self.leaderships {
            move_span(&mut leading.span);
            leading.leases.iter_mut().for_each(move_span);
            leading.first_commit = leading.first_commit.map(|at| at + by);
            leading.waived = leading.waived.map(|at| at + by);
            if let Some(wait) = &mut leading.wait {
                wait.from += by;
                wait.over = wait.over.map(|at| at + by);
            }
        }
        self.votes.iter_mut().for_each(|vote| vote.at += by);
        self.proofs.iter_mut().for_each(|proof| proof.at += by);
        self.moments.iter_mut().for_each(|moment| moment.at += by);
        self.commits.iter_mut().for_each(|(at, _)| *at += by);
        // Rounds and accepted appends have served their purpose.
        self.rounds = Vec::new();
        self.accepted = Vec::new();
    }
}

impl Leadership {
    /// A heartbeat says what is left of the lease.
    fn note_lease(&mut self, at: Micros, left: Micros) {
        let until = at + left;
        match self.leases.last_mut() {
            Some(lease) if left == 0 => lease.until = lease.until.min(at),
            Some(lease) if at <= lease.until => lease.until = lease.until.max(until),
            _ if left > 0 => self.leases.push(Span { from: at, until }),
            _ => {}
        }
    }

    fn end_lease(&mut self, at: Micros) {
        for lease in &mut self.leases {
            lease.until = lease.until.min(at);
        }
    }
}

/// The rest of what is worth a mark.
fn other_kind(id: Node, sentence: &str) -> Option<Kind> {
    const KINDS: &[(&str, Kind)] = &[
        (" started.", Kind::Started),
        (" was told to stop.", Kind::Ended),
        (" stopped.", Kind::Ended),
        (" failed: ", Kind::Ended),
        ("The clock of Node", Kind::Fault),
        (" snapshot", Kind::Snapshot),
        (" lines out here", Kind::NotRecorded),
        ("damaged", Kind::Trouble),
        (" lacks entries", Kind::Trouble),
        (" refuses writes", Kind::Trouble),
        (" takes writes again", Kind::Trouble),
        (" hands leadership over", Kind::SteppedDown),
        (" broke.", Kind::Trouble),
        (" has not refilled", Kind::Trouble),
        (" cut off a torn last write", Kind::Trouble),
    ];
    let found = KINDS.iter().find(|(words, _)| sentence.contains(words));
    // Only the own start is one: connections of others are told, too.
    let is_own =
        |kind: &Kind| *kind != Kind::Started || sentence.starts_with(&format!("Node {id} "));
    found.map(|(_, kind)| *kind).filter(is_own)
}

/// `2:40,3:37`.
fn pairs(text: &str) -> Vec<(Node, u64)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once(':'));
    let numbers = pairs.filter_map(|(peer, of)| Some((peer.parse().ok()?, of.parse().ok()?)));
    numbers.collect()
}
