//! Verbs and flags, as clap sees them; their comments are the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};

use crate::bench;
use crate::scenario;
use crate::terminal::options::Output;
use crate::verbs::{
    backup, certs, change, init, keys, logs, recover, restore, shell, snapshot, timeline,
};

/// Where the options that every verb takes stand in the help.
const GLOBAL: &str = "Global options";

/// Puts a Raft key-value cluster on real machines, and operates it
///
/// Each verb has a page of its own, with its options and examples: raftctl VERB --help, or
/// raftctl help VERB.
#[derive(Debug, Parser)]
#[command(name = "raftctl", version, max_term_width = 100)]
#[command(disable_help_flag = true, next_help_heading = GLOBAL)]
#[command(after_help = "\
NODES are named by id or by what they are: 3 · 1,3 · 1-3 · leader · followers ·
majority · minority · random · all

Exit codes:
   0  done
   1  a bug, or anything unforeseen
   2  wrong usage or a wrong cluster.yaml
   3  done on some nodes only; each of the others is named
   4  cas found another value, and wrote nothing
  10  SSH or cloud trouble
  20  a command failed on a host
  30  no leader, or a node dead, within the timeout
  31  the outcome of a write is unknown
  40  a consistency check or a scenario failed

Examples:
  raftctl up                  bring up the cluster that cluster.yaml describes
  raftctl set name1 Jaggu     write
  raftctl get name1           read
  raftctl kill leader         watch the others elect a new one
  raftctl restart all         one node after the other; no request fails
  raftctl down                stop all nodes and keep their data")]
pub struct CommandLine {
    /// The cluster's file; - reads standard input
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "RAFTCTL_CONFIG",
        hide_env_values = true
    )]
    #[arg(default_value = "cluster.yaml")]
    pub config: PathBuf,

    /// How results are printed: text for people, json for programs
    #[arg(short, long, global = true, value_enum, default_value_t)]
    #[arg(value_name = "FORMAT", hide_possible_values = true)]
    pub output: Output,

    /// How long to wait, as in 500ms, 30s or 2m [default: depends on the verb]
    #[arg(long, global = true, value_name = "TIME", value_parser = crate::text::times::parse)]
    pub timeout: Option<Duration>,

    /// How long to wait while someone else changes the cluster, as in 0s or 5m
    #[arg(long, global = true, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = crate::text::times::parse)]
    pub lock_wait: Duration,

    /// Ask nothing: the answer to every question is yes
    #[arg(short, long, global = true)]
    pub yes: bool,

    /// Print this page
    #[arg(short, long, global = true, action = ArgAction::Help)]
    pub help: Option<bool>,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a commented cluster.yaml to start from
    ///
    /// A file that exists is left as it is, unless --force is given.
    #[command(after_help = "Examples:
  raftctl init                             five processes on this machine
  raftctl init --provider ssh --nodes 3    three hosts that exist already
  raftctl init -c lab.yaml --name lab      another file, another name")]
    Init(init::Arguments),

    /// Check cluster.yaml and report every mistake at once
    ///
    /// With provider gcp it also looks at what is needed to make the machines: Terraform,
    /// credentials, the project, its APIs and quotas. It changes nothing.
    #[command(after_help = "Examples:
  raftctl check
  cat cluster.yaml | raftctl check -c -")]
    Check,

    /// Show the steps that `up` would take, and take none
    ///
    /// Ends with exit code 2 and the reasons where `up` would refuse to go on.
    #[command(after_help = "Examples:
  raftctl plan
  raftctl plan --output json")]
    Plan {
        /// Also plan steps that lose data
        #[arg(long)]
        allow_data_loss: bool,
    },

    /// Bring the cluster up: find out what is missing, and do only that
    ///
    /// A second `up` changes nothing, and one that was interrupted is simply run again. It waits
    /// until every node answers and a leader has its lease, for at most --timeout (30s). A node
    /// that can't be brought up is reported with the reason and left out, as long as the others
    /// are a majority (exit code 3).
    ///
    /// With provider gcp, Terraform makes the machines first. --timeout is then also how long to
    /// wait for another run of Terraform (60s) and for the new machines to answer (180s).
    #[command(after_help = "Examples:
  raftctl up
  raftctl up --dry-run        the same as `raftctl plan`
  raftctl up -c lab.yaml")]
    Up {
        /// Print the steps and take none
        #[arg(long)]
        dry_run: bool,
        /// Let a node whose log is lost start empty, and let data disks be deleted or replaced
        /// (provider gcp)
        #[arg(long)]
        allow_data_loss: bool,
    },

    /// Add a node to a cluster that runs
    ///
    /// Writes it into cluster.yaml, keeping comments and layout, and does what `up` then does: the
    /// new node gets the log, and votes once it has caught up. No request fails. If it is
    /// interrupted, `raftctl up` goes on.
    #[command(after_help = "Examples:
  raftctl add                            another node, with the next free id
  raftctl add --host n4.example          on this host (provider ssh)
  raftctl add --zone us-central1-f       there (provider gcp)
  raftctl add 7 --dry-run                the steps alone")]
    Add(change::Add),

    /// Remove nodes from a cluster that runs
    ///
    /// Takes them out of cluster.yaml, keeping comments and layout, and does what `up` then does: a
    /// leader among them hands over, all leave by one change, and their processes end. Their ids are
    /// never used again. Their files stay, unless raftctl made their hosts, which are deleted; with
    /// --purge they are deleted when the nodes have left. Refused where too few would be left.
    #[command(after_help = "Examples:
  raftctl remove 4
  raftctl remove 4 5 --dry-run           the steps alone
  raftctl remove 4 --purge               with its files, also if it left before")]
    Remove(change::Remove),

    /// Replace a node, also one that is lost for good
    ///
    /// The new one catches up first, then both change places by one change: what the cluster
    /// survives is never lowered. cluster.yaml is changed as by `add` and `remove`.
    #[command(after_help = "Examples:
  raftctl replace 3                      by a node with the next free id
  raftctl replace 3 --host n6.example    on this host (provider ssh)
  raftctl replace 3 --zone us-east1-b    there (provider gcp)")]
    Replace(change::Replace),

    /// Show what every node is doing, and how many may fail
    ///
    /// Below the table: which nodes vote, which only learn and how far they are behind, and how many
    /// more may fail before nothing can be written.
    #[command(after_help = "Examples:
  raftctl status
  raftctl status --output json
  raftctl status --check                  exit code 30 if too few may fail
  raftctl status --check --timeout 1m     look again for so long")]
    Status {
        /// Fail unless as many nodes may fail as the number of nodes in cluster.yaml allows
        #[arg(long)]
        check: bool,
    },

    /// Watch the cluster live, and disturb it with a key
    ///
    /// Four times a second: roles, what is left of leases and promises, how much each node does and how
    /// long that takes, and what happens meanwhile. Keys kill, pause or cut off the chosen node, heal, and
    /// hand the lead over, after a question. It needs a terminal; raftctl status prints the same once.
    #[command(after_help = "Examples:
  raftctl top
  raftctl top -c lab.yaml")]
    Top,

    /// Open a shell on a node's host, or run one command there
    ///
    /// Not with provider local, where the hosts are this machine.
    #[command(after_help = "Examples:
  raftctl ssh leader
  raftctl ssh 3 uptime")]
    Ssh {
        /// One node: its id, leader, or random
        #[arg(value_name = "NODE")]
        selector: String,
        /// The command; without one, an interactive shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },

    /// Run a command on the hosts of several nodes
    ///
    /// As root where the login may become root, else as the login.
    #[command(after_help = "Examples:
  raftctl exec all date
  raftctl exec followers -- df -h /opt")]
    Exec {
        #[command(flatten)]
        of: Nodes,
        /// The command, as a shell takes it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },

    /// Give the nodes another binary, one at a time; no request fails
    ///
    /// Copies the binary that cluster.yaml names to every host and restarts the nodes with it:
    /// first the followers, each of which catches up before the next one stops; last the leader,
    /// after it has handed over. Hosts whose nodes don't run get the binary as well. If it is
    /// interrupted, run it again.
    #[command(after_help = "Examples:
  raftctl upgrade
  raftctl upgrade --rollback")]
    Upgrade {
        /// Go back to the release before this one, the same on every host; the next `up` or
        /// `upgrade` brings the binary of cluster.yaml again. Refused, with nothing changed, once the
        /// cluster has gone over to a format that release does not read; `status` tells beforehand
        #[arg(long)]
        rollback: bool,
    },

    /// Kill nodes with SIGKILL, as a crash would
    ///
    /// They stay dead until `raftctl start`, `restart` or `up`.
    #[command(after_help = "Examples:
  raftctl kill leader
  raftctl kill minority
  raftctl kill 2,4")]
    Kill {
        #[command(flatten)]
        of: Nodes,
        /// Switch off the machine itself (provider gcp)
        #[arg(long)]
        vm: bool,
    },

    /// Stop nodes and start them again, one at a time
    ///
    /// A leader hands over its leadership and lease before it stops. Nodes that don't run are
    /// started.
    #[command(after_help = "Examples:
  raftctl restart 3
  raftctl restart all")]
    Restart {
        #[command(flatten)]
        of: Nodes,
        /// Switch the machine itself off and on again, with the machine type that cluster.yaml
        /// names (provider gcp)
        #[arg(long)]
        vm: bool,
    },

    /// Stop nodes in good order; a leader hands over first
    #[command(after_help = "Examples:
  raftctl stop leader
  raftctl stop all")]
    Stop(Nodes),

    /// Start nodes that don't run, and wait until they are back
    #[command(after_help = "Examples:
  raftctl start all
  raftctl start 2,4")]
    Start(Nodes),

    /// Freeze nodes with SIGSTOP: alive, but doing nothing
    ///
    /// They stay frozen until `raftctl resume`. With --for they go on by themselves after that
    /// time, even if raftctl is gone by then.
    #[command(after_help = "Examples:
  raftctl pause leader
  raftctl pause 3 --for 30s")]
    Pause {
        #[command(flatten)]
        of: Nodes,
        /// How long, in whole seconds, an hour at most [default: until `raftctl resume`]
        #[arg(long = "for", value_name = "TIME", value_parser = crate::text::times::parse)]
        length: Option<Duration>,
    },

    /// Let paused nodes go on
    #[command(after_help = "Examples:
  raftctl resume all
  raftctl resume 3")]
    Resume(Nodes),

    /// Cut groups of nodes off from each other
    ///
    /// The nodes themselves drop each other's messages, and stop doing so when the time is over.
    /// All nodes must take part: if one of them is dead or frozen, nothing is cut (exit code 30).
    #[command(after_help = "Examples:
  raftctl partition leader                    the leader from all others
  raftctl partition \"1,2|3,4,5\" --for 30s     two groups, for half a minute
  raftctl partition leader --wait             until Ctrl-C")]
    Partition {
        /// The groups, as in "1,2|3,4,5"; one alone is cut off from all other nodes
        groups: String,
        /// How long, an hour at most
        #[arg(long = "for", default_value = "10m", value_name = "TIME")]
        #[arg(value_parser = crate::text::times::parse)]
        length: Duration,
        /// Drop packets on the hosts instead of messages in the nodes; needs root there
        #[arg(long)]
        packet_filter: bool,
        /// Stay until the time is over; Ctrl-C ends the partition
        #[arg(long)]
        wait: bool,
    },

    /// End every partition
    #[command(after_help = "Examples:
  raftctl heal
  raftctl heal --output json")]
    Heal,

    /// Fetch the files of nodes, even of dead ones
    #[command(after_help = "Examples:
  raftctl logs                    every node's dump.txt
  raftctl logs leader --all       logs.txt and metadata.txt as well
  raftctl logs --merge | less     what happened on all nodes, by time")]
    Logs(logs::Arguments),

    /// Draw leaders, leases, promises and waits as one picture
    ///
    /// One page that needs nothing else: a lane for each node, a colour for each term. The hosts'
    /// clocks are compared by the messages between the nodes; nodes of one machine have one clock.
    /// With --check it draws nothing and looks whether the lease kept its promise.
    #[command(after_help = "Examples:
  raftctl timeline                    fetch the files of all nodes, draw them
  raftctl timeline raft-logs-demo     draw files that were fetched before
  raftctl timeline --check            exit code 40 if the lease was broken")]
    Timeline(timeline::Arguments),

    /// Hand leadership over to another node
    #[command(after_help = "Examples:
  raftctl transfer
  raftctl transfer 3")]
    Transfer {
        /// The next leader [default: the follower that has the most of the log]
        #[arg(value_name = "NODE")]
        to: Option<String>,
    },

    #[command(flatten)]
    Keys(keys::Command),

    /// Read and write at a prompt, or from a pipe
    ///
    /// HELP at the prompt lists its commands. From a pipe there is no prompt: a command that fails
    /// is reported with the number of its line, the next one runs, and the exit code is that of
    /// the first failure.
    #[command(after_help = "Examples:
  raftctl shell
  raftctl shell < commands.txt")]
    Shell(shell::Arguments),

    /// Play failure stories on the cluster, and judge what happens
    #[command(after_help = "Examples:
  raftctl scenario list
  raftctl scenario run all
  raftctl scenario chaos --seed 7 --duration 60s")]
    Scenario(scenario::Arguments),

    /// Measure operations per second, and how long each takes
    ///
    /// Ctrl-C ends it early: what was measured until then is shown, marked as a part of the run.
    /// The keys that it wrote are removed in any case.
    #[command(after_help = "Examples:
  raftctl bench
  raftctl bench --read-share 0 --in-flight 64     writes only
  raftctl bench --read-share 1 --read quorum      reads that trust no clock
  raftctl bench --unary                           one gRPC call per operation
  raftctl bench --rate 5000                       an open loop, at a rate
  raftctl bench --against etcd=127.0.0.1:2379     the same for etcd, in turns
  raftctl bench --report figures                  figures and pictures, here
  raftctl bench limits                            what this machine gives
  raftctl bench failover                          how long clients wait then
  raftctl bench during -- raftctl replace 3       what clients notice of it")]
    Bench(bench::Arguments),

    /// Give the machines a new lifetime, counted from now (provider gcp)
    ///
    /// Google takes a new lifetime only for a machine that is switched off. Each machine is
    /// therefore restarted, one at a time; the cluster goes on serving.
    #[command(after_help = "Examples:
  raftctl extend
  raftctl extend 24h")]
    Extend {
        /// How long, as in 90m or 12h, up to 120d [default: gcp.lifetime in cluster.yaml]
        #[arg(value_name = "TIME", value_parser = crate::text::times::parse)]
        lifetime: Option<Duration>,
    },

    /// Have nodes write their state down now, and cut their logs
    ///
    /// Nodes do that by themselves as their logs grow. This shows the hash of what each wrote: after the
    /// same entry all must have the same (exit code 40 if not). A cluster without the format that
    /// snapshots need goes over to it, if every node reads it.
    #[command(after_help = "Examples:
  raftctl snapshot
  raftctl snapshot 3")]
    Snapshot(snapshot::Arguments),

    /// Certificates of nodes and clients: show, renew, make
    ///
    /// Where the cluster speaks TLS (`tls: on` in cluster.yaml), `up` makes an authority in
    /// .raftctl/NAME/tls/, and certificates for 30 days; nodes make their own keys.
    #[command(after_help = "Examples:
  raftctl certs show
  raftctl certs renew
  raftctl certs issue --role reader --prefix app/ dashboard
  raftctl certs rotate")]
    Certs(certs::Arguments),

    /// Write the state of the cluster into a file, while clients go on
    ///
    /// The backup holds every write that was acknowledged before. It comes from a follower where there
    /// is one. The file gets its name when it is whole and on the disk; one that is there already is
    /// never overwritten, unless --overwrite is given.
    #[command(after_help = "Examples:
  raftctl backup monday.backup
  raftctl backup - | zstd > monday.backup.zst
  raftctl backup --from followers monday.backup
  raftctl backup verify monday.backup      the drill: does it come back?")]
    Backup(backup::Arguments),

    /// Make a new cluster out of a backup, under the old name
    ///
    /// The backup is checked first, then the nodes are made of it on all hosts, and started; each must
    /// have the state of the backup. The new cluster has an id of its own, so members of the old one
    /// are refused. Nothing is put over data, and as long as a member of the cluster answers nothing is
    /// done. If it is interrupted, run it again.
    #[command(after_help = "Examples:
  raftctl restore monday.backup
  zstd -dc monday.backup.zst | raftctl restore -")]
    Restore(restore::Arguments),

    /// Go on with the best survivor after a majority was lost for good
    ///
    /// Shows what each survivor has, and takes the one with the newest last entry. What only the lost
    /// nodes had is given up, so it asks for the cluster's name. All nodes whose hosts answer are made
    /// anew of that state, under a new cluster id; what they had is kept beside it. If it is
    /// interrupted, run it again.
    #[command(after_help = "Examples:
  raftctl recover --lose-majority
  raftctl recover --lose-majority --yes-lose demo")]
    Recover(recover::Arguments),

    /// Stop every node; with --purge, delete their data as well
    ///
    /// With provider gcp the machines are deleted too, and their data disks unless --keep-data is
    /// given.
    #[command(after_help = "Examples:
  raftctl down
  raftctl down --purge --yes")]
    Down {
        /// Delete all data; asks for the cluster's name first, unless --yes is given
        #[arg(long, visible_alias = "delete-data")]
        purge: bool,
        /// Delete the machines and keep their data disks (provider gcp)
        #[arg(long, conflicts_with = "purge")]
        keep_data: bool,
    },

    /// Find what is wrong, and say how to mend it
    #[command(after_help = "Examples:
  raftctl doctor
  raftctl doctor --fix")]
    Doctor {
        /// Remove what crashes left behind
        #[arg(long)]
        fix: bool,
    },

    /// Print a script that completes raftctl's words in your shell
    #[command(after_help = "Examples:
  raftctl completions bash > ~/.local/share/bash-completion/completions/raftctl
  raftctl completions fish > ~/.config/fish/completions/raftctl.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
pub struct Nodes {
    /// Which nodes: 3, 1,3, 1-3, leader, followers, majority, minority, random or all
    #[arg(value_name = "NODES")]
    pub selector: String,
}
