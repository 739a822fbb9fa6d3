//! Verbs and flags, as clap sees them; their comments are the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::Output;
use crate::verbs::{init, logs};
use crate::{bench, keys, scenario, shell};

const AFTER_HELP: &str = "\
Nodes are named by selectors: 3 · 1,3 · 1-3 · leader · followers · majority · minority · random · all

Exit codes: 0 done · 1 a bug or anything unforeseen · 2 wrong usage or a wrong cluster.yaml ·
3 done on some nodes only · 4 cas found something else · 10 SSH or cloud trouble · 20 a command failed on a host ·
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
pub struct CommandLine {
    /// The cluster's file; - reads standard input
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "RAFTCTL_CONFIG"
    )]
    #[arg(default_value = "cluster.yaml")]
    pub config: PathBuf,

    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Output,

    /// How long to wait, as in 500ms, 30s or 2m [default: what suits the verb]
    #[arg(long, global = true, value_name = "TIME", value_parser = crate::times::parse)]
    pub timeout: Option<Duration>,

    /// How long to wait while someone else changes the cluster, as in 0s or 5m
    #[arg(long, global = true, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = crate::times::parse)]
    pub lock_wait: Duration,

    /// Ask nothing
    #[arg(short, long, global = true)]
    pub yes: bool,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a commented cluster.yaml to begin with
    ///
    /// Never overwrites a file, unless told to with --force.
    #[command(after_help = "Example:\n  raftctl init --name demo --nodes 3")]
    Init(init::Arguments),

    /// Say what is wrong with cluster.yaml: everything at once
    ///
    /// With provider gcp also what is missing to make the machines: Terraform, credentials, the
    /// project and its APIs, quotas. Nothing is made.
    #[command(after_help = "Examples:\n  raftctl check\n  cat cluster.yaml | raftctl check -c -")]
    Check,

    /// Print the steps that `up` would take, and take none
    ///
    /// With provider gcp the machines and all that belongs to them come first. What would be
    /// refused is said, and the exit code is 2 then.
    #[command(after_help = "Example:\n  raftctl plan --output json")]
    Plan {
        /// Show a plan that loses data, too
        #[arg(long)]
        allow_data_loss: bool,
    },

    /// Bring the cluster up: find out what is there, and do what is missing
    ///
    /// A second `up` changes nothing. One that was interrupted is simply run again. Waits until
    /// every node answers and a leader has its lease, at most --timeout (30s). A node that can't be
    /// brought up is left behind, with the reason, as long as the others make a majority (exit
    /// code 3).
    ///
    /// With provider gcp the machines are made first, by Terraform. --timeout is then also how long
    /// to wait for another Terraform that works on them (60s), and until they answer (180s).
    #[command(after_help = "Examples:\n  raftctl up\n  raftctl up --dry-run")]
    Up {
        /// Print the steps only
        #[arg(long)]
        dry_run: bool,
        /// Let nodes begin with nothing whose logs are gone, and data disks be deleted or replaced
        /// (provider gcp)
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

    /// Run a command on the hosts of nodes, as root where that is possible
    #[command(after_help = "Example:\n  raftctl exec followers -- df -h /opt")]
    Exec {
        #[command(flatten)]
        of: Nodes,
        /// The command, as a shell takes it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },

    /// Put the binary under the nodes, one at a time, without a failed request
    ///
    /// Followers first, each caught up before the next; the leader last, after handing over. The
    /// hosts of nodes that do not run get it, too. Interrupted, it is simply run again.
    #[command(after_help = "Examples:\n  raftctl upgrade\n  raftctl upgrade --rollback")]
    Upgrade {
        /// Go back to the release that was there before, on every host to the same one; the next `up`
        /// or `upgrade` brings the binary of cluster.yaml again
        #[arg(long)]
        rollback: bool,
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
        /// Switch the machine itself off and on again, as the type that cluster.yaml names (provider gcp)
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
    ///
    /// They stay so until `raftctl resume`, or, with --for, until the time is over, also when nobody
    /// is there any more.
    #[command(after_help = "Examples:\n  raftctl pause leader\n  raftctl pause 3 --for 30s")]
    Pause {
        #[command(flatten)]
        of: Nodes,
        /// How long it lasts, in whole seconds, an hour at most [default: until `raftctl resume`]
        #[arg(long = "for", value_name = "TIME", value_parser = crate::times::parse)]
        length: Option<Duration>,
    },

    /// Let paused nodes go on
    #[command(after_help = "Example:\n  raftctl resume all")]
    Resume(Nodes),

    /// Cut groups of nodes off from each other
    ///
    /// GROUPS is A|B, each a selector; a single selector is cut off from all other nodes. The
    /// nodes drop each other's messages themselves, and heal themselves when the time is over. All of
    /// them have to obey: where one is dead or frozen, nothing is cut (exit code 30).
    #[command(
        after_help = "Examples:\n  raftctl partition \"1,2|3,4,5\" --for 30s\n  \
                            raftctl partition leader"
    )]
    Partition {
        /// A|B, or one side
        groups: String,
        /// How long it lasts, an hour at most
        #[arg(long = "for", default_value = "10m", value_name = "TIME")]
        #[arg(value_parser = crate::times::parse)]
        length: Duration,
        /// Drop packets on the hosts, instead of messages in the nodes; needs root there
        #[arg(long)]
        packet_filter: bool,
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
    ///
    /// Ctrl-C ends it early: what was measured until then is shown as a part, and the keys are
    /// removed all the same.
    Bench(bench::Arguments),

    /// Give the machines a new lifetime from now on (provider gcp)
    ///
    /// Google takes one only from a machine that is switched off: each is restarted, one at a
    /// time, and the cluster serves all the while.
    #[command(after_help = "Examples:\n  raftctl extend\n  raftctl extend 24h")]
    Extend {
        /// How long, as in 90m or 12h, up to 120d [default: gcp.lifetime in cluster.yaml]
        #[arg(value_name = "TIME", value_parser = crate::times::parse)]
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
pub struct Nodes {
    /// 3, 1,3, 1-3, leader, followers, majority, minority, random, all
    #[arg(value_name = "NODES")]
    pub selector: String,
}
