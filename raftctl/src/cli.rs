//! The command line: verbs, flags, and the way to the function behind each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cluster::{self, Provider};
use crate::error::{Error, Result, exit};
use crate::ops::Context;
use crate::verbs::{check, doctor, down, gcp, init, links, logs, nodes, status, up};
use crate::{bench, keys, scenario, shell};

const AFTER_HELP: &str = "\
Nodes are named by selectors: 3 · 1,3 · 1-3 · leader · followers · majority · minority · random · all

Exit codes: 0 done · 1 a bug or anything unforeseen · 2 wrong usage or a wrong cluster.yaml ·
3 done on some nodes only · 10 SSH or cloud trouble · 20 a command failed on a host ·
30 no leader, or a node dead, within the timeout · 31 outcome of a write unknown ·
40 a consistency check or a scenario failed

Examples:
  raftctl up                      bring the cluster of cluster.yaml up
  raftctl set name1 Jaggu         write
  raftctl get name1               read
  raftctl kill leader             see what happens
  raftctl restart all             one at a time, without a failed request
  raftctl down                    no process stays; the data does";

/// Puts a Raft key-value cluster on real machines, and operates it.
#[derive(Debug, Parser)]
#[command(name = "raftctl", version, after_help = AFTER_HELP, max_term_width = 100)]
struct CommandLine {
    /// The cluster's file; - reads standard input
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "RAFTCTL_CONFIG"
    )]
    #[arg(default_value = "cluster.yaml")]
    config: PathBuf,

    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Output,

    /// How long to wait, as in 500ms, 30s or 2m [default: what suits the verb]
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// Ask nothing
    #[arg(short, long, global = true)]
    yes: bool,

    #[command(subcommand)]
    verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Clone)]
pub struct Options {
    /// How results are printed.
    pub output: Output,
    /// How long to wait; `None`: the verb's own default.
    pub timeout: Option<Duration>,
    /// Ask nothing.
    pub yes: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented cluster.yaml to begin with
    ///
    /// Never overwrites a file, unless told to with --force.
    #[command(after_help = "Example:\n  raftctl init --name demo --nodes 3")]
    Init(init::Arguments),

    /// Say what is wrong with cluster.yaml: everything at once
    #[command(after_help = "Examples:\n  raftctl check\n  cat cluster.yaml | raftctl check -c -")]
    Check,

    /// Print the steps that `up` would take, and take none
    #[command(after_help = "Example:\n  raftctl plan --output json")]
    Plan {
        /// Show a plan that loses data, too (provider gcp)
        #[arg(long)]
        allow_data_loss: bool,
    },

    /// Bring the cluster up: find out what is there, and do what is missing
    ///
    /// A second `up` changes nothing. One that was interrupted is simply run again. Waits until
    /// every node answers and a leader has its lease, at most --timeout (30s).
    #[command(after_help = "Examples:\n  raftctl up\n  raftctl up --dry-run")]
    Up {
        /// Print the steps only
        #[arg(long)]
        dry_run: bool,
        /// Let data disks be deleted or replaced (provider gcp)
        #[arg(long)]
        allow_data_loss: bool,
    },

    /// Show what every node is doing
    #[command(after_help = "Example:\n  raftctl status --output json")]
    Status,

    /// Open a shell on a node's host, or run a command there; not with provider local
    #[command(after_help = "Example:\n  raftctl ssh 3 uptime")]
    Ssh {
        /// One node
        #[arg(value_name = "NODE")]
        selector: String,
        /// The command; absent: an interactive shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },

    /// Kill nodes with SIGKILL, as a crash would; they stay dead until they are started
    #[command(after_help = "Examples:\n  raftctl kill leader\n  raftctl kill minority")]
    Kill {
        #[command(flatten)]
        of: Nodes,
        /// Switch off the machine itself (provider gcp)
        #[arg(long)]
        vm: bool,
    },

    /// Stop nodes in order and start them again, one at a time; start those that do not run
    ///
    /// A leader hands leadership and lease over first.
    #[command(after_help = "Examples:\n  raftctl restart 3\n  raftctl restart all")]
    Restart {
        #[command(flatten)]
        of: Nodes,
        /// Switch the machine itself off and on again (provider gcp)
        #[arg(long)]
        vm: bool,
    },

    /// Stop nodes in order; a leader hands leadership over first
    #[command(after_help = "Example:\n  raftctl stop leader")]
    Stop(Nodes),

    /// Start nodes that do not run, and wait until they are back
    #[command(after_help = "Example:\n  raftctl start all")]
    Start(Nodes),

    /// Freeze nodes with SIGSTOP: alive, but doing nothing
    #[command(after_help = "Example:\n  raftctl pause leader")]
    Pause(Nodes),

    /// Let paused nodes go on
    #[command(after_help = "Example:\n  raftctl resume all")]
    Resume(Nodes),

    /// Cut groups of nodes off from each other
    ///
    /// GROUPS is A|B, each a selector; a single selector is cut off from all other nodes. The
    /// nodes drop each other's messages themselves, and heal themselves when the time is over.
    #[command(
        after_help = "Examples:\n  raftctl partition \"1,2|3,4,5\" --for 30s\n  \
                            raftctl partition leader"
    )]
    Partition {
        /// A|B, or one side
        groups: String,
        /// How long it lasts, an hour at most
        #[arg(long = "for", default_value = "10m", value_name = "TIME")]
        #[arg(value_parser = humantime::parse_duration)]
        length: Duration,
        /// Stay until it is over; Ctrl-C heals it
        #[arg(long)]
        wait: bool,
    },

    /// Undo every partition
    Heal,

    /// Fetch the files of nodes, dead ones too
    #[command(after_help = "Examples:\n  raftctl logs --all\n  raftctl logs --merge | less")]
    Logs(logs::Arguments),

    /// Hand leadership over to another node
    #[command(after_help = "Examples:\n  raftctl transfer\n  raftctl transfer 3")]
    Transfer {
        /// The next leader; absent: the most up-to-date follower
        #[arg(value_name = "NODE")]
        to: Option<String>,
    },

    #[command(flatten)]
    Keys(keys::Command),

    /// Talk to the cluster at a prompt, or from a pipe
    Shell(shell::Arguments),

    /// Run scenarios of faults, and check what happens
    Scenario(scenario::Arguments),

    /// Measure operations per second and their latency
    Bench(bench::Arguments),

    /// Give the machines a new lifetime from now on (provider gcp)
    ///
    /// Google takes one only from a machine that is switched off: each is restarted, one at a
    /// time, and the cluster serves all the while.
    #[command(after_help = "Examples:\n  raftctl extend\n  raftctl extend 24h")]
    Extend {
        /// How long, as in 90m or 12h [default: gcp.lifetime in cluster.yaml]
        #[arg(value_name = "TIME", value_parser = humantime::parse_duration)]
        lifetime: Option<Duration>,
    },

    /// Stop every node; with --purge delete their data, too
    ///
    /// With provider gcp the machines are deleted, and the data disks unless --keep-data is given.
    #[command(after_help = "Examples:\n  raftctl down\n  raftctl down --purge --yes")]
    Down {
        /// Delete all data; asks for the cluster's name, unless --yes is given
        #[arg(long, visible_alias = "delete-data")]
        purge: bool,
        /// Delete the machines and keep their data disks (provider gcp)
        #[arg(long, conflicts_with = "purge")]
        keep_data: bool,
    },

    /// Say what is not as it should be, and what to do about it
    Doctor {
        /// Remove what crashes left behind
        #[arg(long)]
        fix: bool,
    },

    /// Print the completions of a shell
    #[command(after_help = "Example:\n  raftctl completions bash > \
                            ~/.local/share/bash-completion/completions/raftctl")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct Nodes {
    /// 3, 1,3, 1-3, leader, followers, majority, minority, random, all
    #[arg(value_name = "NODES")]
    selector: String,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(line) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) => {
            // Problems of a file begin with its name and line, where editors look for them.
            match &error {
                Error::Cluster(problems) => eprintln!("{problems}"),
                other => eprintln!("error: {other}"),
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(line: CommandLine) -> Result<()> {
    let options = Options {
        output: line.output,
        timeout: line.timeout,
        yes: line.yes,
    };
    match line.verb {
        Verb::Init(arguments) => init::run(&line.config, &arguments),
        Verb::Check => runtime()?.block_on(check::run(&line.config, &options)),
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "raftctl", &mut text);
            crate::out::print(&String::from_utf8_lossy(&text))
        }
        verb => {
            let cluster = cluster::load(&line.config)?;
            if !cluster.warnings.list.is_empty() && options.output == Output::Text {
                eprintln!("{}", cluster.warnings);
            }
            let runtime = runtime()?;
            let done = runtime.block_on(dispatch(cluster, &options, verb));
            // A read of the terminal that nobody waits for any more must not hold the exit.
            runtime.shutdown_background();
            done
        }
    }
}

/// Two threads: one for what waits, one for what works.
///
/// # Errors
/// The system gives no threads.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::Other(format!("cannot start: {error}")))
}

/// Verbs that make or delete the hosts come before there are any.
async fn dispatch(cluster: cluster::Cluster, options: &Options, verb: Verb) -> Result<()> {
    if cluster.provider != Provider::Gcp {
        gcp_only(&cluster, &verb)?;
        return on_cluster(&Context::open(cluster)?, options, verb).await;
    }
    match verb {
        Verb::Plan { allow_data_loss }
        | Verb::Up {
            dry_run: true,
            allow_data_loss,
        } => gcp::plan(cluster, options, allow_data_loss).await,
        Verb::Up {
            dry_run: false,
            allow_data_loss,
        } => gcp::up(cluster, options, allow_data_loss).await,
        Verb::Down { keep_data, .. } => gcp::down(cluster, options, keep_data).await,
        verb => on_cluster(&Context::open(cluster)?, options, verb).await,
    }
}

/// Refuses what only makes sense where raftctl makes the machines.
fn gcp_only(cluster: &cluster::Cluster, verb: &Verb) -> Result<()> {
    let what = match verb {
        Verb::Extend { .. } => "extend",
        Verb::Kill { vm: true, .. } | Verb::Restart { vm: true, .. } => "--vm",
        Verb::Down {
            keep_data: true, ..
        } => "--keep-data",
        _ => return Ok(()),
    };
    Err(Error::Usage(format!(
        "{what} is for provider gcp, and cluster {} has provider {}",
        cluster.name,
        cluster.provider.name()
    )))
}

async fn on_cluster(context: &Context, options: &Options, verb: Verb) -> Result<()> {
    match verb {
        Verb::Plan { .. } => up::plan(context, options).await,
        Verb::Up { dry_run, .. } => up::up(context, options, dry_run).await,
        Verb::Status => status::run(context, options).await,
        Verb::Ssh { selector, command } => ssh(context, &selector, &command),
        Verb::Kill { of, vm: true } => gcp::stop_machines(context, &of.selector).await,
        Verb::Restart { of, vm: true } => {
            gcp::restart_machines(context, options, &of.selector).await
        }
        Verb::Extend { lifetime } => gcp::extend(context, options, lifetime).await,
        Verb::Kill { of, .. } => nodes::signal(context, nodes::Signal::Kill, &of.selector).await,
        Verb::Stop(of) => nodes::signal(context, nodes::Signal::Stop, &of.selector).await,
        Verb::Pause(of) => nodes::signal(context, nodes::Signal::Pause, &of.selector).await,
        Verb::Resume(of) => nodes::signal(context, nodes::Signal::Resume, &of.selector).await,
        Verb::Start(of) => nodes::start(context, options, &of.selector).await,
        Verb::Restart { of, .. } => nodes::restart(context, options, &of.selector).await,
        Verb::Transfer { to } => nodes::transfer(context, options, to.as_deref()).await,
        Verb::Partition {
            groups,
            length,
            wait,
        } => links::partition(context, &groups, length, wait).await,
        Verb::Heal => links::heal(context).await,
        Verb::Logs(arguments) => logs::run(context, &arguments).await,
        Verb::Keys(command) => keys::run(context, options, command).await,
        Verb::Shell(arguments) => shell::run(context, options, arguments).await,
        Verb::Scenario(arguments) => scenario::run(context, options, arguments).await,
        Verb::Bench(arguments) => bench::run(context, options, arguments).await,
        Verb::Down { purge, .. } => down::run(context, options, purge).await,
        Verb::Doctor { fix } => doctor::run(context, options, fix).await,
        Verb::Init(_) | Verb::Check | Verb::Completions { .. } => {
            unreachable!("needs no cluster, and is done already")
        }
    }
}

fn ssh(context: &Context, selector: &str, command: &[String]) -> Result<()> {
    let _ = (selector, command);
    match context.cluster.provider {
        Provider::Local => Err(Error::Usage(
            "provider local has no hosts to log in to: its nodes run on this machine, and their \
             files are in .raftctl/"
                .into(),
        )),
        other => Err(Error::Usage(format!(
            "provider {} has no login yet",
            other.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The definition of the command line is consistent.
    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
