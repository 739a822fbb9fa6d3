//! The command line: what can be said, what goes together, and what is refused.

use crate::command::{FORMAT_FIRST, FORMAT_NEWEST};
use crate::identity::{Identity, Member, address, parse_id};
use crate::raft::{Config, Formats, Ids, LEASE_US_MAX, Micros, NodeId};
use crate::tls::TlsSettings;
use clap::{ArgAction, Parser, ValueEnum};
use raftkv::LEASE_MS;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// Restarts and disks stay small, and a cluster that is hardly used writes none.
const SNAPSHOT_LOG_KIB: u64 = 16 * 1024;
/// More is of no use: the log would be all of the disk.
const SNAPSHOT_LOG_KIB_MAX: u64 = 1024 * 1024 * 1024;
use std::path::PathBuf;

// The core knows no wire: what it takes for the longest lease is what operators are told.
const _: () = assert!(*LEASE_MS.end() == LEASE_US_MAX / 1_000);

/// Highest bound on clock drift that still leaves a useful lease: 10 %.
const DRIFT_PPM_MAX: u64 = 100_000;
/// Longest election timeout.
const ELECTION_MS_MAX: u64 = 60_000;
/// Longest time between heartbeats: two must fit in an election timeout.
const HEARTBEAT_MS_MAX: u64 = ELECTION_MS_MAX / 2;

/// Most room that may be asked for: a PiB.
const MIN_FREE_MIB_MAX: u64 = 1024 * 1024 * 1024;

/// What `--version` says: operators, and raftctl, ask an older binary before they go back to it.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nreads formats up to 3");
const _: () = assert!(FORMAT_NEWEST == 3, "LONG_VERSION tells it");

/// What stands below the options in the help.
const EXAMPLES: &str = "\
Examples:
  The first of three nodes on one machine:
    raft-node --id 1 --cluster demo --data-dir logs_node_1 \\
      --listen-peers 127.0.0.1:7401 --listen-clients 127.0.0.1:7501 \\
      --node 1,127.0.0.1:7401,127.0.0.1:7501 \\
      --node 2,127.0.0.1:7402,127.0.0.1:7502 \\
      --node 3,127.0.0.1:7403,127.0.0.1:7503

  The same, from a file with one argument per line, as in --id=1:
    raft-node @node-1.args

  A fourth, which joins them:
    raft-node --id 4 --join --cluster demo --data-dir logs_node_4 \\
      --listen-peers 127.0.0.1:7404 --listen-clients 127.0.0.1:7504 \\
      --node 4,127.0.0.1:7404,127.0.0.1:7504 \\
      --node 1,127.0.0.1:7401,127.0.0.1:7501

For the directory of a node that does not run (each has a page of its own, as in restore --help):
  raft-node restore    make it out of a backup
  raft-node export     print its state in the notation of snapshot.txt
  raft-node inspect    print what it holds, as JSON

For a node that is to speak TLS:
  raft-node certificate-request    make its key, and ask for a certificate

As a service of systemd (Type=notify) it tells when it is ready; with WatchdogSec= also, for as long as its
loop goes on, that it does.

Exit codes:
  0  stopped by SIGTERM or SIGINT
  1  anything else
  2  wrong usage
  3  its files or the other nodes contradict it: somebody has to decide";

/// What stands where in the help. Options that a node can't do without are in the usage as well.
const PAGE: &str = "\
{about-with-newline}
{before-help}{usage-heading} raft-node --id N --cluster NAME --data-dir FOLDER
         --listen-peers HOST:PORT --listen-clients HOST:PORT
         --node ID,PEER_ADDRESS,CLIENT_ADDRESS ... [OPTIONS]

{all-args}{after-help}
";

const TIMES: &str = "Times";
const CONDUCT: &str = "Conduct";
const TRIALS: &str = "For trials";

/// A node of a replicated key-value store: Raft with leader leases
#[derive(Clone, Debug, Parser)]
#[command(name = "raft-node", version, long_version = LONG_VERSION, help_template = PAGE, max_term_width = 100)]
#[command(
    before_help = "raftctl starts nodes by itself. This page is for those who do it in another way."
)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// This node's id, from 1
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: NodeId,

    /// The cluster's name; nodes of another one are refused
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    cluster: String,

    /// Random number of the cluster, 32 hexadecimal digits: nodes with another are refused, whatever
    /// their cluster's name. Kept in metadata.txt, so it need not be given again
    #[arg(long, value_name = "HEX", value_parser = parse_id)]
    cluster_id: Option<u128>,

    /// Folder of this node's files, usually logs_node_N; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,

    /// Where to listen for other nodes
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen_peers: String,

    /// Where to listen for clients and operators
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen_clients: String,

    /// Where Prometheus finds this node's metrics (http://HOST:PORT/metrics); a port alone is one of
    /// 127.0.0.1 [default: nowhere]
    #[arg(long, value_name = "[HOST:]PORT", value_parser = address_or_port)]
    metrics_listen: Option<String>,

    /// Speak TLS 1.3, with ca.pem (whom to trust), node.pem and node.key of this folder; everybody who
    /// connects needs a certificate of this cluster. Changed files are taken without a restart
    /// [default: clear text, for everybody who can connect]
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,

    /// Speak without TLS as well, with whoever does, while a cluster goes over to TLS or back
    #[arg(long, requires = "tls", help_heading = CONDUCT)]
    tls_optional: bool,

    /// Don't describe the services to clients (gRPC reflection)
    #[arg(long, help_heading = CONDUCT)]
    no_reflection: bool,

    /// A node of the cluster, and where it is reached; once for each, this one included
    #[arg(long = "node", value_name = "ID,PEER_ADDRESS,CLIENT_ADDRESS", required = true,
          action = ArgAction::Append, value_parser = member)]
    nodes: Vec<(NodeId, Member)>,

    /// Join a cluster that runs: this node gets the log and takes no part in decisions until an operator has
    /// made it a member. --node names it and those that it may ask; it hears of the others by itself
    #[arg(long)]
    join: bool,

    /// Named times: lan for one machine or one region, wan for regions far apart
    #[arg(long, value_enum, default_value_t = Timing::Lan, value_name = "NAME")]
    #[arg(hide_possible_values = true, help_heading = TIMES)]
    timing: Timing,

    /// Length of the lease, 2000 to 10000; the same on every node [lan: 2000, wan: 5000]
    #[arg(long, value_name = "MS", value_parser = lease_ms, help_heading = TIMES)]
    lease_ms: Option<u64>,

    /// Time between heartbeats [lan: 100, wan: 1000]
    #[arg(long, value_name = "MS", help_heading = TIMES,
          value_parser = clap::value_parser!(u64).range(1..=HEARTBEAT_MS_MAX))]
    heartbeat_ms: Option<u64>,

    /// Without a leader for this long, a node stands for election; chosen anew from this range each
    /// time [lan: 1000-2000, wan: 5000-10000]
    #[arg(long, value_name = "MIN-MAX", value_parser = range_ms, help_heading = TIMES)]
    election_timeout_ms: Option<RangeMs>,

    /// How fast or slow any node's clock may run, in parts per million; leases allow for it
    #[arg(long, value_name = "PPM", default_value_t = 5_000, help_heading = TIMES,
          value_parser = clap::value_parser!(u64).range(..=DRIFT_PPM_MAX))]
    max_clock_drift_ppm: u64,

    /// Whether a new leader answers reads while an older lease may still be alive: true or false
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    #[arg(hide_possible_values = true, help_heading = CONDUCT)]
    inherited_reads: bool,

    /// Whether a leader that is known for certain to have ended is waited for no longer: true or false
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    #[arg(hide_possible_values = true, help_heading = CONDUCT)]
    proof_of_death: bool,

    /// Refuse writes while the disk has less room than this [default: 128, or a tenth of a small
    /// disk]
    #[arg(long, value_name = "MIB", help_heading = CONDUCT,
          value_parser = clap::value_parser!(u64).range(..=MIN_FREE_MIB_MAX))]
    min_free_mib: Option<u64>,

    /// A snapshot is taken, and the log cut, once the log has grown by so much, and by as much as the
    /// state takes; the same on every node
    #[arg(long, value_name = "KIB", default_value_t = SNAPSHOT_LOG_KIB, help_heading = CONDUCT,
          value_parser = clap::value_parser!(u64).range(1..=SNAPSHOT_LOG_KIB_MAX))]
    snapshot_log_kib: u64,

    /// The newest format that the cluster may go over to: 'newest', or a number. From then on older
    /// versions of raft-node refuse its files. Snapshots need format 2, and it is asked for when the
    /// first is due
    #[arg(long, value_name = "N", default_value = NEWEST, value_parser = format_max)]
    #[arg(help_heading = CONDUCT)]
    format_max: u64,

    /// Go over to the newest format after this many entries, before anything needs it
    #[arg(long, value_name = "N", help_heading = CONDUCT)]
    raise_format_from: Option<u64>,

    /// Let operators cut this node off from others, as `raftctl partition` does
    #[arg(long, help_heading = TRIALS)]
    allow_fault_injection: bool,

    /// Print nothing on standard output; dump.txt tells what happens in any case
    #[arg(long, help_heading = CONDUCT)]
    quiet: bool,

    /// Let operators make this node's clock wrong, to see what that breaks
    #[arg(long, help_heading = TRIALS)]
    allow_clock_faults: bool,

    /// Run the clock fast, or slow (negative), by this much from the start
    #[arg(long, value_name = "PPM", requires = "allow_clock_faults", help_heading = TRIALS,
          allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-900_000..=900_000))]
    clock_rate_ppm: Option<i64>,
}

/// Named sets of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Timing {
    /// One machine, or one region
    Lan,
    /// Far apart
    Wan,
}

/// A range of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RangeMs {
    min: u64,
    max: u64,
}

/// Everything a node needs to know to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this is, and the others.
    pub identity: Identity,
    /// Its directory.
    pub data_dir: PathBuf,
    /// `host:port` to listen on for peers.
    pub listen_peers: String,
    /// `host:port` to listen on for clients.
    pub listen_clients: String,
    /// `host:port` to listen on for scrapers of metrics; `None`: nowhere.
    pub metrics_listen: Option<String>,
    /// The certificates, where TLS is spoken.
    pub tls: Option<TlsSettings>,
    /// Whether clients can ask which services there are.
    pub reflection: bool,
    /// Time between heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// From these the election timeout is drawn.
    pub election_timeout_ms: RangeInclusive<u64>,
    /// Bound on how much any clock runs fast or slow.
    pub max_clock_drift_ppm: u64,
    /// Whether a new leader serves reads while an older lease may be alive.
    pub inherited_reads: bool,
    /// Whether the end of a run that is known for certain counts for anything.
    pub proof_of_death: bool,
    /// Below this much room on the disk, writes are refused; `None`: by the disk's size.
    pub min_free_bytes: Option<u64>,
    /// Once so many entries are committed, the leader goes over to the newest format all nodes read.
    pub raise_format_from: u64,
    /// The newest format that the cluster may go over to.
    pub format_max: u64,
    /// Growth of the log, in bytes, after which a snapshot is taken.
    pub snapshot_log_bytes: u64,
    /// Whether operators may cut links.
    pub allow_fault_injection: bool,
    /// Nothing on standard output.
    pub quiet: bool,
    /// Set: the clock may be disturbed, and runs wrong by this much from the start.
    pub clock_rate_ppm: Option<i64>,
}

impl Flags {
    /// Checks what no single flag can tell, and fills in the defaults. The error is for the user.
    pub fn into_settings(self) -> Result<Settings, String> {
        let (lease, heartbeat, election) = match self.timing {
            Timing::Lan => (2_000, 100, (1_000, 2_000)),
            Timing::Wan => (5_000, 1_000, (5_000, 10_000)),
        };
        let (min, max) = election;
        let election = self.election_timeout_ms.unwrap_or(RangeMs { min, max });
        let settings = Settings {
            heartbeat_ms: self.heartbeat_ms.unwrap_or(heartbeat),
            election_timeout_ms: election.min..=election.max,
            identity: Identity {
                id: self.id,
                cluster: self.cluster,
                // What is in the directory comes in when that is opened.
                ids: Ids {
                    cluster: self.cluster_id.unwrap_or(0),
                    directory: 0,
                },
                run_id: 0,
                ended_runs: Vec::new(),
                taken_over: OnceLock::new(),
                joins: self.join,
                lease_ms: self.lease_ms.unwrap_or(lease),
                members: members(self.id, self.join, self.nodes)?,
            },
            data_dir: self.data_dir,
            listen_peers: self.listen_peers,
            listen_clients: self.listen_clients,
            metrics_listen: self.metrics_listen,
            tls: self.tls.map(|folder| TlsSettings {
                folder,
                optional: self.tls_optional,
            }),
            reflection: !self.no_reflection,
            max_clock_drift_ppm: self.max_clock_drift_ppm,
            inherited_reads: self.inherited_reads,
            proof_of_death: self.proof_of_death,
            min_free_bytes: self.min_free_mib.map(|mib| mib * 1024 * 1024),
            raise_format_from: self.raise_format_from.unwrap_or(u64::MAX),
            format_max: self.format_max,
            snapshot_log_bytes: self.snapshot_log_kib * 1024,
            allow_fault_injection: self.allow_fault_injection,
            quiet: self.quiet,
            clock_rate_ppm: match self.allow_clock_faults {
                true => Some(self.clock_rate_ppm.unwrap_or(0)),
                false => None,
            },
        };
        settings.check_times()?;
        Ok(settings)
    }
}

fn members(
    own: NodeId,
    joins: bool,
    nodes: Vec<(NodeId, Member)>,
) -> Result<BTreeMap<NodeId, Member>, String> {
    let mut members = BTreeMap::new();
    for (id, member) in nodes {
        let addresses = [&member.peer_address, &member.client_address].map(Clone::clone);
        for address in &addresses {
            let taken = |other: &&Member| {
                other.peer_address == *address || other.client_address == *address
            };
            if members.values().any(|other| taken(&other)) || addresses[0] == addresses[1] {
                return Err(format!(
                    "--node: the address {address} is given twice; each node needs two of its own"
                ));
            }
        }
        if members.insert(id, member).is_some() {
            return Err(format!("--node: the id {id} is given twice"));
        }
    }
    match members.contains_key(&own) {
        true if joins && members.len() == 1 => Err(
            "--join: name a node of the cluster that it joins, too, with a --node of its own"
                .into(),
        ),
        true => Ok(members),
        false => Err(format!(
            "--id {own} is not among the --node arguments; name this node, too"
        )),
    }
}

impl Settings {
    fn check_times(&self) -> Result<(), String> {
        let (heartbeat, election) = (self.heartbeat_ms, self.election_timeout_ms.clone());
        if heartbeat * 2 > *election.start() {
            return Err(format!(
                "--heartbeat-ms {heartbeat} is too long for an election timeout from {} ms: at \
                 least two heartbeats must fit in it",
                election.start()
            ));
        }
        if heartbeat * 2 > self.identity.lease_ms {
            return Err(format!(
                "--heartbeat-ms {heartbeat} is too long for a lease of {} ms: at least two \
                 heartbeats must fit in it",
                self.identity.lease_ms
            ));
        }
        Ok(())
    }

    /// For the consensus core. `seed` makes its timeouts differ from those of other nodes.
    pub fn raft_config(&self, seed: u64) -> Config {
        let us = |ms: u64| -> Micros { ms * 1000 };
        let election = &self.election_timeout_ms;
        Config {
            id: self.identity.id,
            voters: match self.identity.joins {
                true => Vec::new(),
                false => self.identity.members.keys().copied().collect(),
            },
            lease_us: us(self.identity.lease_ms),
            max_clock_drift_ppm: self.max_clock_drift_ppm,
            election_timeout_us: us(*election.start())..=us(*election.end()),
            heartbeat_us: us(self.heartbeat_ms),
            inherited_reads: self.inherited_reads,
            formats: Formats {
                raise_from: self.raise_format_from,
                hold_at: self.format_max,
                ..Formats::default()
            },
            seed,
            mutation: None,
        }
    }
}

/// Whichever format this version knows as the newest.
const NEWEST: &str = "newest";

fn format_max(text: &str) -> Result<u64, String> {
    let number = match text {
        NEWEST => Some(u64::MAX),
        number => number.parse().ok().filter(|format| *format >= FORMAT_FIRST),
    };
    number.ok_or_else(|| format!("expected '{NEWEST}', or a number from {FORMAT_FIRST}"))
}

fn cluster_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=63).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("use 1 to 63 letters, digits, '-', '_' and '.'".into()),
    }
}

/// An address, or a port of this machine's own: metrics are for everybody who can connect.
fn address_or_port(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(format!("127.0.0.1:{port}")),
        Err(_) => address(text).map_err(|error| format!("{error}; or a port alone, as in 7601")),
    }
}

fn member(text: &str) -> Result<(NodeId, Member), String> {
    let expected = "expected ID,PEER_ADDRESS,CLIENT_ADDRESS, such as \
                    1,127.0.0.1:7401,127.0.0.1:7501";
    let parts: Vec<&str> = text.split(',').collect();
    let [id, peer_address, client_address] = parts[..] else {
        return Err(expected.into());
    };
    let id = id.parse().ok().filter(|id| *id > 0);
    let member = Member {
        peer_address: address(peer_address)?,
        client_address: address(client_address)?,
    };
    Ok((id.ok_or(expected)?, member))
}

fn lease_ms(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(ms) if LEASE_MS.contains(&ms) => Ok(ms),
        _ => Err(format!(
            "a lease is {} to {} ms long",
            LEASE_MS.start(),
            LEASE_MS.end()
        )),
    }
}

fn range_ms(text: &str) -> Result<RangeMs, String> {
    let parsed = text
        .split_once('-')
        .map(|(min, max)| (min.parse(), max.parse()));
    match parsed {
        Some((Ok(min), Ok(max))) if min < max && max <= ELECTION_MS_MAX => Ok(RangeMs { min, max }),
        _ => Err(format!(
            "expected MIN-MAX in milliseconds, such as 1000-2000, with MIN below MAX and at most \
             {ELECTION_MS_MAX}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[&str] = &[
        "raft-node",
        "--id=1",
        "--cluster=demo",
        "--data-dir=d",
        "--listen-peers=127.0.0.1:7401",
        "--listen-clients=127.0.0.1:7501",
        "--node=1,127.0.0.1:7401,127.0.0.1:7501",
        "--node=2,127.0.0.1:7402,127.0.0.1:7502",
    ];

    fn settings(more: &[&str]) -> Result<Settings, String> {
        let flags = Flags::try_parse_from(PLAIN.iter().chain(more));
        flags.map_err(|error| error.to_string())?.into_settings()
    }

    // The two named timings, and single values on top of them.
    #[test]
    fn timings() {
        let lan = settings(&[]).unwrap();
        assert_eq!((lan.identity.lease_ms, lan.heartbeat_ms), (2_000, 100));
        assert_eq!(lan.election_timeout_ms, 1_000..=2_000);
        let wan = settings(&["--timing=wan", "--lease-ms=10000"]).unwrap();
        assert_eq!((wan.identity.lease_ms, wan.heartbeat_ms), (10_000, 1_000));
        assert_eq!(wan.election_timeout_ms, 5_000..=10_000);
    }

    // What is wrong is refused, with words that say what would be right.
    #[test]
    fn wrong_values_are_refused() {
        for (flag, words) in [
            ("--lease-ms=1999", "2000 to 10000"),
            ("--lease-ms=11000", "2000 to 10000"),
            ("--node=2,a:1,b:2", "the id 2 is given twice"),
            (
                "--node=3,127.0.0.1:7401,x:1",
                "127.0.0.1:7401 is given twice",
            ),
            ("--node=3,x:1,x:1", "x:1 is given twice"),
            ("--node=3,x:1", "ID,PEER_ADDRESS"),
            ("--node=0,x:1,x:2", "ID,PEER_ADDRESS"),
            ("--node=3,x,y:1", "HOST:PORT"),
            ("--election-timeout-ms=2000-1000", "MIN below MAX"),
            ("--heartbeat-ms=600", "election timeout"),
            ("--heartbeat-ms=0", "1..=30000"),
            ("--heartbeat-ms=9223372036854775808", "1..=30000"),
            ("--max-clock-drift-ppm=200000", "100000"),
            ("--clock-rate-ppm=5", "--allow-clock-faults"),
            ("--tls-optional", "--tls <FOLDER>"),
        ] {
            let error = settings(&[flag]).unwrap_err();
            assert!(error.contains(words), "{flag}: {error}");
        }
    }

    // The help has the examples' words and the width of the terminal, and the examples are right.
    #[test]
    fn the_help_is_right() {
        let page = |flag, width| {
            let command = <Flags as clap::CommandFactory>::command().term_width(width);
            let asked = command.try_get_matches_from(["raft-node", flag]);
            asked.unwrap_err().to_string()
        };
        for width in [80, 100] {
            let page = page("--help", width);
            let wide = page.lines().find(|line| line.chars().count() > width);
            assert_eq!(wide, None, "at {width} columns");
        }
        assert_eq!(page("-h", 80), page("--help", 80));
        let page = page("--help", 80);
        let (_, examples) = page.split_once("\nExamples:\n").unwrap();
        let first = examples.split("\n\n").next().unwrap();
        let words = first
            .split_whitespace()
            .skip_while(|word| *word != "raft-node");
        let flags = Flags::try_parse_from(words.filter(|word| *word != "\\")).unwrap();
        assert_eq!(flags.into_settings().unwrap().identity.members.len(), 3);
        let (_, joining) = examples.split_once("which joins them:\n").unwrap();
        let words = joining.split("\n\n").next().unwrap().split_whitespace();
        let flags = Flags::try_parse_from(words.filter(|word| *word != "\\")).unwrap();
        let settings = flags.into_settings().unwrap();
        assert_eq!(settings.raft_config(0).voters, [0; 0]);
    }

    // Who joins has no voters of its own, and names somebody to ask; who does not join has them.
    #[test]
    fn a_node_that_joins_has_no_voters() {
        let voters = |flags: &[&str]| settings(flags).map(|it| it.raft_config(0).voters);
        assert_eq!(voters(&[]), Ok(vec![1, 2]));
        assert_eq!(voters(&["--join"]), Ok(vec![]));
        let alone = PLAIN[..PLAIN.len() - 1].iter().chain(&["--join"]);
        let error = Flags::try_parse_from(alone).unwrap().into_settings();
        let error = error.unwrap_err();
        assert!(error.contains("name a node of the cluster"), "{error}");
    }

    // A node must be one of the nodes.
    #[test]
    fn a_stranger_is_refused() {
        let mut arguments = PLAIN.to_vec();
        arguments[1] = "--id=3";
        let flags = Flags::try_parse_from(arguments).unwrap();
        let error = flags.into_settings().unwrap_err();
        assert!(error.contains("--id 3 is not among"), "{error}");
    }

    // Metrics are told nobody unless that is asked for, and a port alone is one of this machine's own.
    #[test]
    fn metrics_are_for_the_own_machine() {
        let listens = |flags: &[&str]| settings(flags).unwrap().metrics_listen;
        assert_eq!(listens(&[]), None);
        let loopback = listens(&["--metrics-listen=7601"]);
        assert_eq!(loopback.as_deref(), Some("127.0.0.1:7601"));
        let told = listens(&["--metrics-listen=[::]:7601"]);
        assert_eq!(told.as_deref(), Some("[::]:7601"));
        let error = settings(&["--metrics-listen=70000"]).unwrap_err();
        assert!(error.contains("HOST:PORT"), "{error}");
    }

    // Clock faults need a flag of their own.
    #[test]
    fn clock_faults() {
        assert_eq!(settings(&[]).unwrap().clock_rate_ppm, None);
        let slow = settings(&["--allow-clock-faults", "--clock-rate-ppm=-5000"]).unwrap();
        assert_eq!(slow.clock_rate_ppm, Some(-5_000));
    }
}
