//! The flags of `bench`, and which of them make sense together.

use std::path::PathBuf;
use std::time::Duration;

use raftkv::SESSIONS_MAX;

use super::moments::Moment;
use super::workload::Workload;
use crate::cluster::Reads;
use crate::error::{Error, Result};

/// More connections than this cost more than they bring, on the client's side already.
const CLIENTS_MAX: usize = 1024;

/// What a node takes in at most is of this order; more would only measure its refusals.
const IN_FLIGHT_MAX: usize = 65_536;

/// More rounds than this are a day's work.
const ROUNDS_MAX: usize = 100;

/// Where another store is.
#[derive(Debug, Clone)]
pub struct Addresses(pub Vec<String>);

/// Reads `etcd=HOST:PORT,HOST:PORT,...`.
///
/// # Errors
/// It is another store, or an address is missing.
pub fn other_store(text: &str) -> std::result::Result<Addresses, String> {
    let (name, addresses) = text.split_once('=').unwrap_or((text, ""));
    let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
    if name != "etcd" || addresses.iter().any(String::is_empty) {
        return Err("etcd=HOST:PORT,HOST:PORT,... is the only other store so far".into());
    }
    Ok(Addresses(addresses))
}

/// No machine begins more a second.
const RATE_MAX: u64 = 10_000_000;

/// The flags of `bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub moment: Option<Moment>,
    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub clients: usize,
    /// How many operations are under way at a time, on all connections together
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub in_flight: usize,
    /// Open loop: so many operations begin a second, whatever became of those before, and a latency counts from when
    /// its operation was to begin; at most --in-flight are under way [default: each begins when another ends]
    #[arg(long, value_name = "N")]
    pub rate: Option<u64>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::text::times::parse)]
    pub duration: Duration,
    /// How long to run before the measurement begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::text::times::parse)]
    pub warm_up: Duration,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,
    /// Share of reads, from 0 (only writes) to 1 (only reads)
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub read_share: f64,
    /// How many different keys; each is as likely as the others
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub keys: u64,
    /// Who answers reads: lease, quorum or stale; see `raftctl get --help` [default: as cluster.yaml
    /// says]
    #[arg(long = "read", alias = "consistency", value_enum)]
    #[arg(value_name = "HOW", hide_possible_values = true)]
    pub consistency: Option<Reads>,
    /// One gRPC call per operation, instead of streams that carry many
    #[arg(long)]
    pub unary: bool,
    /// Measure beside another store, in turns: etcd=HOST:PORT,HOST:PORT,... (in clear text); implies --unary
    #[arg(long, value_name = "STORE", value_parser = other_store)]
    pub against: Option<Addresses>,
    /// How many turns each of the two gets; medians of them are compared
    #[arg(long, value_name = "N", default_value_t = 3, requires = "against")]
    pub rounds: usize,
    /// Write report.json and pictures (SVG) into this folder, which is made
    #[arg(long, value_name = "FOLDER")]
    pub report: Option<PathBuf>,
    /// Write no keys beforehand: an earlier run with --keep has left them
    #[arg(long)]
    pub no_fill: bool,
    /// Leave the keys that it wrote (bench/...) in the store
    #[arg(long)]
    pub keep: bool,
    /// The same seed chooses the same keys and operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            moment: None,
            clients: 4,
            in_flight: 64,
            rate: None,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            value_size: 256,
            read_share: 0.5,
            keys: 10_000,
            consistency: None,
            unary: false,
            against: None,
            rounds: 3,
            report: None,
            no_fill: false,
            keep: false,
            seed: 1,
        }
    }
}

impl Arguments {
    /// Whether it does something to the nodes, other than asking them.
    #[must_use]
    pub fn touches_hosts(&self) -> bool {
        self.moment.as_ref().is_some_and(Moment::touches_hosts)
    }

    /// # Errors
    /// A figure without sense, named with what it may be.
    pub fn check(&self) -> Result<()> {
        let rules = [
            (
                (1..=CLIENTS_MAX).contains(&self.clients),
                format!("--clients: 1 to {CLIENTS_MAX}"),
            ),
            (
                (self.clients..=IN_FLIGHT_MAX).contains(&self.in_flight),
                format!(
                    "--in-flight: at least one a client ({}), at most {IN_FLIGHT_MAX}",
                    self.clients
                ),
            ),
            (
                // With unary calls each operation in flight has a session of its own.
                !self.unary || self.in_flight <= SESSIONS_MAX,
                format!(
                    "--unary: at most {SESSIONS_MAX} --in-flight, because each has a session, \
                     and a node keeps no more"
                ),
            ),
            (
                (0.0..=1.0).contains(&self.read_share),
                "--read-share: 0 to 1".into(),
            ),
            (
                (1..=10_000_000).contains(&self.keys),
                "--keys: 1 to 10000000".into(),
            ),
            (
                self.value_size <= raftkv::VALUE_BYTES_MAX,
                format!("--value-size: at most {}", raftkv::VALUE_BYTES_MAX),
            ),
            (
                self.rate.is_none_or(|rate| (1..=RATE_MAX).contains(&rate)),
                format!("--rate: 1 to {RATE_MAX} a second"),
            ),
            (
                (1..=ROUNDS_MAX).contains(&self.rounds),
                format!("--rounds: 1 to {ROUNDS_MAX}"),
            ),
            (!self.duration.is_zero(), "--duration: more than 0".into()),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(Error::Usage(rule)),
            None => Ok(()),
        }
    }

    /// What is asked by these flags.
    #[must_use]
    pub fn workload(&self) -> Workload {
        Workload {
            read_share: self.read_share,
            keys: self.keys,
            first: 0,
            value_bytes: self.value_size,
            key_prefix: "bench/".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    // What stands in the help is what is meant where it is not said.
    #[test]
    fn defaults_are_those_of_the_command_line() {
        let parsed = Line::parse_from(["bench"]).arguments;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Arguments::default()));
    }

    /// More unary calls at a time than a node has sessions would only measure how it forgets them;
    /// streams share theirs.
    #[test]
    fn no_more_sessions_than_a_node_keeps() {
        let check = |line: &str| Line::parse_from(line.split(' ')).arguments.check();
        assert!(check("bench --unary --in-flight 4096").is_ok());
        assert!(check("bench --in-flight 5000").is_ok());
        let refused = check("bench --unary --in-flight 4097").unwrap_err();
        assert!(matches!(&refused, Error::Usage(why) if why.contains("4096")));
    }
}
