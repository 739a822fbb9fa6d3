//! A run as a value: everything that a seed decides beforehand. A plan can be printed, run, and
//! made smaller.

use crate::clock::Bend;
use crate::fault::{Direction, Fault, FaultKind, PausePoint, Target};
use crate::members::Change;
use crate::random::Random;
use raft_node::raft::{Config, Formats, Index, Micros, Mutation, NodeId};
use std::ops::RangeInclusive;

const MS: Micros = 1_000;
const SECOND: Micros = 1_000_000;

/// What kind of world a seed is run in. The seeds of each begin at their own million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Connections that keep the order, break, and hold messages for long: what the node has.
    Streams,
    /// Each message is lost, doubled, delayed on its own: harder than what the node has.
    Datagrams,
    /// Clocks far beyond the bound: all but lease reads must still be right.
    WildClocks,
    /// Streams, and members that come and go.
    Members,
}

impl Suite {
    /// All of them.
    pub const ALL: [Suite; 4] = [
        Suite::Streams,
        Suite::Datagrams,
        Suite::WildClocks,
        Suite::Members,
    ];

    /// Its first seed.
    pub fn first_seed(self) -> u64 {
        match self {
            Suite::Streams => 0,
            Suite::Datagrams => 1_000_000,
            Suite::WildClocks => 2_000_000,
            Suite::Members => 3_000_000,
        }
    }

    /// To which suite a seed belongs.
    pub fn of_seed(seed: u64) -> Suite {
        match seed / 1_000_000 {
            0 => Suite::Streams,
            1 => Suite::Datagrams,
            2 => Suite::WildClocks,
            _ => Suite::Members,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides all that is not in the plan.
    pub seed: u64,
    /// Nodes are numbered from 1.
    pub nodes: usize,
    /// The first so many vote from the start. The others wait until they are added.
    pub voters: usize,
    /// Carried by each node.
    pub lease_us: Micros,
    /// Carried by each node.
    pub heartbeat_us: Micros,
    /// Carried by each node.
    pub election_timeout_us: RangeInclusive<Micros>,
    /// The bound that the nodes assume.
    pub max_clock_drift_ppm: u64,
    /// Whether new leaders serve reads early.
    pub inherited_reads: bool,
    /// Entries after which a leader goes over to the newest format.
    pub raise_format_from: Index,
    /// The rule that is broken.
    pub mutation: Option<Mutation>,
    /// What each node's clock shows at the start, and its bends.
    pub clocks: Vec<(Micros, Vec<Bend>)>,
    /// Whether the clocks keep to the bound, so that lease reads must be right.
    pub clocks_in_bound: bool,
    /// The wires.
    pub network: NetworkPlan,
    /// How long a flush takes.
    pub flush_us: RangeInclusive<Micros>,
    /// How much the log grows between two snapshots, at least; `None`: none is taken.
    pub snapshot_log_bytes: Option<u64>,
    /// The oracle leaves it to the nodes to notice that their snapshots differ.
    pub nodes_compare_states: bool,
    /// The clients.
    pub clients: Vec<ClientPlan>,
    /// How many keys they use.
    pub keys: u64,
    /// Values that they write are made so long at least.
    pub value_bytes: usize,
    /// A bit for each node that names its runs to others.
    pub names_runs: u64,
    /// How long it takes after the end of a run until who watches it says so; `None`: nobody does.
    pub witness_us: Option<RangeInclusive<Micros>>,
    /// What goes wrong, by time.
    pub faults: Vec<Fault>,
    /// From then on nothing goes wrong.
    pub calm_us: Micros,
}

/// The wires.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// In order, with connections; otherwise each message on its own.
    pub streams: bool,
    /// The usual delay.
    pub delay_us: RangeInclusive<Micros>,
    /// The unusual delay.
    pub slow_us: RangeInclusive<Micros>,
    /// How often the delay is unusual.
    pub slow_percent: u64,
    /// How often a datagram is lost.
    pub loss_percent: u64,
    /// How often a datagram comes twice.
    pub duplicate_percent: u64,
    /// What each direction of a stream carries; `None`: anything at once.
    pub bytes_per_second: Option<u64>,
}

/// A client that asks one thing after the other.
#[derive(Clone, Copy, Debug)]
pub struct ClientPlan {
    /// It names its writes, so that it may send them again.
    pub session: bool,
    /// Its longest pause between two requests.
    pub think_us: Micros,
    /// How long it waits for an answer before it asks elsewhere.
    pub patience_us: Micros,
    /// Of its reads, how many ask a majority.
    pub quorum_percent: u64,
}

impl Plan {
    /// A quiet world, for stories to change: five nodes, perfect clocks, no clients.
    pub fn quiet(nodes: usize) -> Self {
        Plan {
            seed: 1,
            nodes,
            voters: nodes,
            lease_us: 2 * SECOND,
            heartbeat_us: 100 * MS,
            election_timeout_us: SECOND..=2 * SECOND,
            max_clock_drift_ppm: 5_000,
            inherited_reads: true,
            raise_format_from: Index::MAX,
            mutation: None,
            clocks: (1..=nodes as u64)
                .map(|id| (id * 1_000 * SECOND, Vec::new()))
                .collect(),
            clocks_in_bound: true,
            network: NetworkPlan {
                streams: true,
                delay_us: 500..=500,
                slow_us: 500..=500,
                slow_percent: 0,
                loss_percent: 0,
                duplicate_percent: 0,
                bytes_per_second: None,
            },
            flush_us: 500..=500,
            snapshot_log_bytes: None,
            nodes_compare_states: false,
            clients: Vec::new(),
            keys: 1,
            value_bytes: 0,
            names_runs: u64::MAX,
            witness_us: None,
            faults: Vec::new(),
            calm_us: 0,
        }
    }

    /// The plan that a seed stands for.
    pub fn from_seed(seed: u64) -> Self {
        let suite = Suite::of_seed(seed);
        let mut random = Random::new(seed, 1);
        let voters = random.pick(&[3, 3, 3, 3, 5, 5, 5, 4, 2, 1]);
        let nodes = match suite {
            Suite::Members => voters + random.within(1..=4) as usize,
            Suite::Streams | Suite::Datagrams | Suite::WildClocks => voters,
        };
        let max_clock_drift_ppm = random.pick(&[5_000, 5_000, 50_000, 200_000]);
        let timeout = random.pick(&[(300, 600), (1_000, 2_000), (1_000, 2_000), (800, 800)]);
        let seconds = random.within(6..=14);
        let calm_us = seconds * SECOND;
        let (bytes_per_second, value_bytes) = narrow(suite, seed);
        let (names_runs, witness_us) = proofs(seed);
        Plan {
            seed,
            nodes,
            voters,
            lease_us: random.pick(&[2_000, 2_000, 3_000]) * MS,
            heartbeat_us: random.pick(&[50, 100, 100, 250]) * MS,
            election_timeout_us: timeout.0 * MS..=timeout.1 * MS,
            max_clock_drift_ppm,
            inherited_reads: random.percent(85),
            raise_format_from: seed % 8 * 12,
            mutation: None,
            clocks: clocks(suite, nodes, max_clock_drift_ppm, calm_us, &mut random),
            clocks_in_bound: suite != Suite::WildClocks,
            network: NetworkPlan {
                bytes_per_second,
                ..network(suite, &mut random)
            },
            flush_us: match random.percent(70) {
                true => 100..=3 * MS,
                false => 5 * MS..=80 * MS,
            },
            snapshot_log_bytes: snapshot_log_bytes(seed),
            nodes_compare_states: false,
            clients: clients(suite, &mut random),
            keys: random.within(1..=4),
            value_bytes,
            names_runs,
            witness_us,
            faults: faults(suite, nodes, calm_us, &mut random),
            calm_us,
        }
    }

    /// What a node is started with. Each life draws other timeouts.
    pub fn config(&self, id: NodeId, life: u64) -> Config {
        let luck = id * 1_000 + life;
        Config {
            id,
            voters: match id <= self.voters as u64 {
                true => (1..=self.voters as u64).collect(),
                false => Vec::new(),
            },
            lease_us: self.lease_us,
            max_clock_drift_ppm: self.max_clock_drift_ppm,
            formats: Formats {
                raise_from: self.raise_format_from,
                ..Formats::default()
            },
            election_timeout_us: self.election_timeout_us.clone(),
            heartbeat_us: self.heartbeat_us,
            inherited_reads: self.inherited_reads,
            seed: self.seed.wrapping_mul(1_000_000).wrapping_add(luck),
            mutation: self.mutation,
        }
    }

    /// By when there must be a leader again, and progress, after the faults have ended.
    pub fn recovery_us(&self) -> Micros {
        let drift_percent = 100 + self.max_clock_drift_ppm / 5_000;
        let timeouts = 4 * self.election_timeout_us.end() + 2 * self.lease_us + 3 * SECOND;
        timeouts * drift_percent / 100
    }
}

/// Within the bound, clocks mostly run at one of its ends, and change every few seconds.
fn clocks(
    suite: Suite,
    nodes: usize,
    bound_ppm: u64,
    end_us: Micros,
    random: &mut Random,
) -> Vec<(Micros, Vec<Bend>)> {
    let bound_ppm = bound_ppm as i64;
    (0..nodes)
        .map(|_| {
            let offset_us = random.within(0..=1_000 * SECOND);
            let mut bends = Vec::new();
            let mut true_us = 0;
            while true_us < end_us {
                let rate_ppm = match suite {
                    Suite::WildClocks => random.within(0..=1_500_000) as i64 - 900_000,
                    _ => random.pick(&[-bound_ppm, -bound_ppm, 0, bound_ppm, bound_ppm]),
                };
                let jumps = suite == Suite::WildClocks && random.percent(30);
                bends.push(Bend {
                    true_us,
                    rate_ppm,
                    jump_us: if jumps {
                        random.below(5 * SECOND) as i64
                    } else {
                        0
                    },
                });
                true_us += random.within(500 * MS..=8 * SECOND);
            }
            bends.push(Bend {
                true_us,
                rate_ppm: 0,
                jump_us: 0,
            });
            (offset_us, bends)
        })
        .collect()
}

fn network(suite: Suite, random: &mut Random) -> NetworkPlan {
    let datagrams = suite == Suite::Datagrams;
    NetworkPlan {
        streams: !datagrams,
        delay_us: 100..=random.pick(&[500, 2_000, 10_000]),
        slow_us: MS..=random.pick(&[50, 500, 3_000]) * MS,
        slow_percent: match datagrams {
            true => random.pick(&[0, 2, 10]),
            // A slow message of a stream holds up all that follow.
            false => random.pick(&[0, 0, 1]),
        },
        loss_percent: if datagrams {
            random.pick(&[0, 1, 5, 20])
        } else {
            0
        },
        duplicate_percent: if datagrams {
            random.pick(&[0, 1, 10])
        } else {
            0
        },
        bytes_per_second: None,
    }
}

/// Mostly so little that many are taken in a run.
fn snapshot_log_bytes(seed: u64) -> Option<u64> {
    let mut random = Random::new(seed, 6);
    random.pick(&[
        None,
        Some(1),
        Some(300),
        Some(300),
        Some(1_500),
        Some(6_000),
    ])
}

/// Now and then wires are narrow, and values so long that they fill them.
fn narrow(suite: Suite, seed: u64) -> (Option<u64>, usize) {
    let mut random = Random::new(seed, 5);
    if suite == Suite::Datagrams || !random.percent(5) {
        return (None, 0);
    }
    let bytes_per_second = random.pick(&[1_250_000, 2_500_000, 12_500_000]);
    (Some(bytes_per_second), random.pick(&[1_024, 8_192, 16_384]))
}

/// Mostly all nodes name their runs; now and then some do not, or none. Who watches a run
/// is quick, slow, or not there.
fn proofs(seed: u64) -> (u64, Option<RangeInclusive<Micros>>) {
    let mut random = Random::new(seed, 7);
    let names_runs = match random.below(10) {
        0..7 => u64::MAX,
        7..9 => random.next(),
        _ => 0,
    };
    let witness_us = random.pick(&[
        None,
        Some((MS, 5 * MS)),
        Some((MS, 300 * MS)),
        Some((MS, 6 * SECOND)),
    ]);
    (names_runs, witness_us.map(|(from, to)| from..=to))
}

fn clients(suite: Suite, random: &mut Random) -> Vec<ClientPlan> {
    let count = random.within(2..=5);
    let mut client = || ClientPlan {
        session: random.percent(80),
        think_us: random.pick(&[20, 100, 400]) * MS,
        patience_us: random.pick(&[100, 400, 1_000, 3_000]) * MS,
        quorum_percent: match suite {
            Suite::WildClocks => 100,
            _ => random.pick(&[0, 10, 30]),
        },
    };
    (0..count).map(|_| client()).collect()
}

fn faults(suite: Suite, nodes: usize, calm_us: Micros, random: &mut Random) -> Vec<Fault> {
    let gap_us = random.pick(&[300, 800, 2_000]) * MS;
    let mut faults = Vec::new();
    let mut at_us = random.within(0..=2 * SECOND);
    while at_us < calm_us {
        let lasts_us = match random.percent(60) {
            true => random.within(MS..=800 * MS),
            false => random.within(500 * MS..=5 * SECOND),
        };
        faults.push(Fault {
            at_us,
            lasts_us: lasts_us.min(calm_us - at_us),
            kind: match suite == Suite::Members && random.percent(30) {
                true => FaultKind::Members(change(nodes as u64, random)),
                false => fault_kind(nodes as u64, random),
            },
        });
        at_us += random.within(MS..=2 * gap_us);
    }
    faults
}

fn change(nodes: u64, random: &mut Random) -> Change {
    let target = match random.percent(50) {
        true => Target::Leader,
        false => Target::Node(random.within(1..=nodes)),
    };
    match random.below(100) {
        0..35 => Change::Grow,
        35..65 => Change::Shrink(target),
        _ => Change::Replace(target),
    }
}

fn fault_kind(nodes: u64, random: &mut Random) -> FaultKind {
    let target = match random.percent(60) {
        true => Target::Leader,
        false => Target::Node(random.within(1..=nodes)),
    };
    let any = random.within(1..=nodes);
    let direction = random.pick(&[
        Direction::Both,
        Direction::Both,
        Direction::Inbound,
        Direction::Outbound,
    ]);
    let point = random.pick(&[
        PausePoint::BeforeClock,
        PausePoint::AfterClock,
        PausePoint::BeforeEffects,
    ]);
    match random.below(100) {
        0..18 => FaultKind::Isolate(target, direction),
        18..28 => FaultKind::CutPair(target, any, direction),
        28..34 => FaultKind::Split(random.next()),
        34..42 => FaultKind::Crash(target),
        42..45 => FaultKind::Stop(target),
        45 => FaultKind::Damage(target),
        46..50 => FaultKind::RestartRest(target),
        50..54 => FaultKind::IsolateAndRestartRest(target),
        54..56 => FaultKind::RestartAll,
        56..70 => FaultKind::Pause(target, point),
        70..80 => FaultKind::StallDisk(target),
        80..88 => FaultKind::Transfer(random.percent(50).then_some(any)),
        88..95 => FaultKind::Slow(target, direction, random.within(10 * MS..=1_500 * MS)),
        95..97 => FaultKind::TakeDisk(target, random.next()),
        _ => FaultKind::BreakLink(target, any),
    }
}
