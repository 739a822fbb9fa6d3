//! What a moment costs those who read and write meanwhile: `bench failover`, `bench during`.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Target;
use super::arguments::{Addresses, other_store};
use super::command;
use super::etcd::Etcd;
use super::flushes::Counter;
use super::folder;
use super::gaps::Stretch;
use super::phases::Bench;
use super::plot::Plot;
use super::spread::{Moments, Subject};
use super::steady::{Running, Steady, Whom};
use super::{Arguments, limits, refuse_more_than_fit};
use crate::cluster::NodeId;
use crate::cluster::outcomes::all_or_partial;
use crate::error::{Error, Result};
use crate::local::binary;
use crate::local::folder_lock::FolderLock;
use crate::local::interrupt::Interruptions;
use crate::ops::{Context, run, store};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;

/// How long a cluster may take to be whole again between two kills, where nothing else is said.
const WHOLE_AGAIN: Duration = Duration::from_secs(60);

/// How often it is looked whether answers come again.
const LOOK: Duration = Duration::from_millis(20);

/// So long after answers came again it still counts what happens: another gap may follow the first.
const AFTERMATH: Duration = Duration::from_secs(1);

/// More clients have no more to tell, and each would be a request in every gap.
const CLIENTS_MAX: usize = 1024;

/// More figures than that are no picture.
const FIGURES_BYTES_MAX: u64 = 16 << 20;

/// More kills than this are a day's work.
const KILLS_MAX: usize = 1000;

/// What may happen under load.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Moment {
    /// Kill the leader, time and again: how long do reads and writes wait?
    ///
    /// Between two kills the node is started again, and the cluster is whole; so it is in the end, also after Ctrl-C. What
    /// is told of each kill is the longest time in which no read, and in which no write, of any client had its answer.
    /// Then every key is read again: one that lost what was acknowledged ends it with exit code 40.
    #[command(after_help = "Examples:
  raftctl bench failover
  raftctl bench failover --kills 50 --output json")]
    Failover(Failover),

    /// Run a command, and measure what clients notice of it
    ///
    /// Where the command fails, so does the bench. What it prints goes to standard error, apart from the figures.
    #[command(after_help = "Examples:
  raftctl bench during -- raftctl replace 3
  raftctl bench during -- raftctl upgrade
  raftctl bench during --against etcd=127.0.0.1:2379 -- sleep 10")]
    During(During),

    /// Measure what this machine gives, and how much of it the store reaches
    ///
    /// A bare gRPC server that answers the same calls and keeps nothing, and fdatasync: no store is faster here. Beside
    /// them the cluster, under the same load; without one the limits alone.
    #[command(after_help = "Examples:
  raftctl bench limits
  raftctl bench limits --duration 5s --folder /mnt/disk")]
    Limits(limits::Limits),

    /// Draw figures from standard input as a picture (SVG), like those of --report
    ///
    /// They are JSON: {"title": "..", "note": "..", "x": {"name": "nodes"}, "y": {"name": "ms", "is_logarithmic": true},
    /// "lines": [{"name": "SET", "points": [[1, 0.5], [3, 0.8]], "is_dots": false}]}. An axis may have "ticks": [[1, "one"]].
    #[command(after_help = "Examples:
  raftctl bench plot < figures.json > figures.svg")]
    Plot,
}

/// The flags of `bench failover`.
#[derive(Debug, Clone, clap::Args)]
pub struct Failover {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: usize,
    #[command(flatten)]
    clients: Clients,
}

/// The flags of `bench during`.
#[derive(Debug, Clone, clap::Args)]
pub struct During {
    #[command(flatten)]
    clients: Clients,
    /// Ask another store instead, for a comparison: etcd=HOST:PORT,HOST:PORT,... (in clear text)
    #[arg(long, value_name = "STORE", value_parser = other_store)]
    against: Option<Addresses>,
    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Who reads and writes meanwhile.
#[derive(Debug, Clone, clap::Args)]
struct Clients {
    /// How many connections the clients share
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// How many operations are under way at a time, on all connections together
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Share of the clients that read, above 0 and below 1; the others write, and to other keys
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    read_share: f64,
    /// How many different keys; each is as likely as the others
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    keys: u64,
    /// Write report.json and a picture (SVG) into this folder, which is made
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

impl Clients {
    /// # Errors
    /// A figure without sense, named with what it may be.
    fn check(&self) -> Result<()> {
        if self.in_flight > CLIENTS_MAX {
            let rule = format!("--in-flight: at most {CLIENTS_MAX}");
            return Err(Error::Usage(rule));
        }
        if !(self.read_share > 0.0 && self.read_share < 1.0) {
            let rule = "--read-share: above 0 and below 1, because both are measured";
            return Err(Error::Usage(rule.into()));
        }
        if self.in_flight < 2 {
            return Err(Error::Usage(
                "--in-flight: at least 2, one for each side".into(),
            ));
        }
        if self.keys < self.in_flight as u64 {
            let rule = "--keys: at least as many as --in-flight, because whoever writes has keys of its own";
            return Err(Error::Usage(rule.into()));
        }
        self.arguments().check()
    }

    /// The same as a bench without a moment would be given them.
    fn arguments(&self) -> Arguments {
        Arguments {
            clients: self.clients,
            in_flight: self.in_flight,
            value_size: self.value_size,
            read_share: self.read_share,
            keys: self.keys,
            ..Arguments::default()
        }
    }
}

impl Moment {
    fn clients(&self) -> Option<&Clients> {
        match self {
            Moment::Failover(failover) => Some(&failover.clients),
            Moment::During(during) => Some(&during.clients),
            Moment::Limits(_) | Moment::Plot => None,
        }
    }

    /// # Errors
    /// As of the clients.
    fn check(&self) -> Result<()> {
        if let Moment::Failover(Failover { kills, .. }) = self
            && !(1..=KILLS_MAX).contains(kills)
        {
            return Err(Error::Usage(format!("--kills: 1 to {KILLS_MAX}")));
        }
        self.clients().map_or(Ok(()), Clients::check)
    }

    fn against(&self) -> Option<&Addresses> {
        match self {
            Moment::Failover(_) | Moment::Limits(_) | Moment::Plot => None,
            Moment::During(during) => during.against.as_ref(),
        }
    }

    /// Whether it does something to the nodes itself.
    #[must_use]
    pub fn touches_hosts(&self) -> bool {
        matches!(self, Moment::Failover(_))
    }
}

/// Lets clients work, does what is to be done, prints what they noticed, and removes the keys.
///
/// # Errors
/// No leader within the timeout, invalid input, an interruption; the command has failed.
pub async fn run(context: &Context, options: &Options, moment: &Moment) -> Result<()> {
    moment.check()?;
    let clients = match (moment, moment.clients()) {
        (Moment::Limits(limits), _) => return limits::run(context, options, limits).await,
        (_, Some(clients)) => clients,
        (_, None) => return draw(),
    };
    refuse_more_than_fit(context, clients.clients)?;
    let arguments = clients.arguments();
    let reads = context.cluster.reads;
    let mut bench = Bench {
        counter: Counter::Nothing,
        arguments: &arguments,
        workload: arguments.workload(),
        load: super::load(context, &arguments, reads),
    };
    let mut interruptions = Interruptions::new();
    let steady = Steady {
        connections: clients.clients,
        clients: clients.in_flight,
        read: reads.into(),
        workload: arguments.workload(),
        seed: arguments.seed,
    };
    let other = match moment.against() {
        Some(Addresses(addresses)) => Some(Etcd::new(addresses)?),
        None => None,
    };
    let (whom, subject) = match &other {
        Some(etcd) => (Whom::Etcd(etcd.clone()), Subject::etcd(etcd).await?),
        None => {
            let mut client = store::client(context, options.timeout);
            client.find_leader().await?;
            let whom = Whom::Own(store::members(context));
            (whom, Subject::own(&context.cluster))
        }
    };
    let running = steady.start(&whom)?;
    let stage = Stage {
        context,
        options,
        subject,
        running: &running,
        dead: AtomicU64::new(NOBODY),
        seen: Mutex::default(),
    };
    let done = tokio::select! {
        done = stage.go_through(moment) => done,
        () = interruptions.next() => Err(Error::Other("interrupted".into())),
    };
    let raised = stage.raise().await;
    let told = stage.told(moment, done.is_err());
    let (members, checked) = running.stop(done.is_ok()).await;
    bench.load.target = Target::Nodes(members);
    let loss = match told {
        Some(told) => tell(options, clients, Moments { checked, ..told }),
        None => Ok(()),
    };
    let cleared = match other {
        Some(mut etcd) => clear(&mut etcd, &arguments.workload().key_prefix).await,
        None => bench.clear(&mut interruptions, done.is_err()).await,
    };
    done.and(raised).and(loss).and(cleared)
}

/// # Errors
/// A write that was acknowledged is not there.
fn tell(options: &Options, clients: &Clients, report: Moments) -> Result<()> {
    if let Some(path) = &clients.report {
        folder::of_moments(path, &report)?;
    }
    match options.output {
        Output::Text => out::print(&report.text())?,
        Output::Json => out::json(&serde_json::json!(report))?,
    }
    match report.checked.lost.is_empty() {
        true => Ok(()),
        false => Err(Error::CheckFailed(format!(
            "{}; what the nodes wrote is in their folders: keep those",
            report.checked.text()
        ))),
    }
}

/// # Errors
/// Standard input is no such figures.
fn draw() -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| {
        let advice = "`raftctl bench plot --help` shows what figures look like";
        Error::Usage(format!(
            "standard input has no figures to draw: {error}; {advice}"
        ))
    };
    let mut text = String::new();
    let mut input = std::io::stdin().take(FIGURES_BYTES_MAX);
    let read = input.read_to_string(&mut text);
    read.map_err(|error| wrong(&error))?;
    let plot: Plot = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    out::print(&plot.svg())
}

async fn clear(etcd: &mut Etcd, prefix: &str) -> Result<()> {
    let cleared = etcd.clear(prefix, WHOLE_AGAIN).await;
    cleared.map_err(|status| {
        let why = status.message();
        Error::Other(format!("keys named {prefix}... are left in etcd: {why}"))
    })
}

/// No node has this id.
const NOBODY: NodeId = 0;

/// Where moments happen.
struct Stage<'a> {
    context: &'a Context,
    options: &'a Options,
    subject: Subject,
    running: &'a Running,
    /// A node that was killed, and not started again yet.
    dead: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was measured so far.
#[derive(Debug, Default)]
struct Seen {
    stretches: Vec<Stretch>,
    elections: Option<u64>,
}

impl Stage<'_> {
    async fn go_through(&self, moment: &Moment) -> Result<()> {
        match moment {
            Moment::Failover(failover) => self.fail_over(failover).await,
            Moment::During(during) => self.through_command(during).await,
            Moment::Limits(_) | Moment::Plot => Ok(()),
        }
    }

    async fn fail_over(&self, failover: &Failover) -> Result<()> {
        let context = self.context;
        let _folder = FolderLock::take(&context.cluster, "bench failover").await?;
        let patience = self.options.timeout.unwrap_or(WHOLE_AGAIN);
        let ids = context.cluster.ids();
        for number in 1..=failover.kills {
            let leader = context.wait_for_leader(&ids, patience).await?;
            self.dead.store(leader, Ordering::SeqCst);
            self.running.gaps.begin(Instant::now());
            all_or_partial(context.kill(&[leader]).await, "killed")?;
            let stretch = until_answered(self.running, patience).await?;
            out::say(&format!(
                "{number} of {}: leader {leader} killed; reads waited {:.0} ms, writes {:.0} ms",
                failover.kills,
                stretch.reads.as_secs_f64() * 1000.0,
                stretch.writes.as_secs_f64() * 1000.0
            ));
            self.seen().stretches.push(stretch);
            self.raise().await?;
        }
        Ok(())
    }

    /// Nothing panics while the lock is held.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the node that was killed, also where the measuring ended early.
    async fn raise(&self) -> Result<()> {
        let dead = self.dead.load(Ordering::SeqCst);
        if dead == NOBODY {
            return Ok(());
        }
        let origin = binary::locate(&self.context.cluster)?;
        let binary = binary::obtain(&origin, out::say)?;
        run::start(self.context, &[dead], &binary).await?;
        self.dead.store(NOBODY, Ordering::SeqCst);
        Ok(())
    }

    async fn through_command(&self, during: &During) -> Result<()> {
        let before = self.term().await;
        self.running.gaps.begin(Instant::now());
        let ended = command::run(&during.command).await?;
        let stretch = self.running.gaps.end(Instant::now());
        let elections = match (before, self.term().await) {
            (Some(before), Some(after)) => after.checked_sub(before),
            _ => None,
        };
        *self.seen() = Seen {
            stretches: vec![stretch],
            elections,
        };
        match ended.success() {
            true => Ok(()),
            false => Err(Error::Other(format!(
                "{}: {ended}",
                during.command.join(" ")
            ))),
        }
    }

    /// The newest term that any node of the cluster tells of.
    async fn term(&self) -> Option<u64> {
        self.subject.lease_ms?;
        let snapshot = self.context.status().await;
        let nodes = snapshot.nodes.iter();
        let replies = nodes.filter_map(|node| node.reply.as_ref().ok());
        replies.map(|reply| reply.term).max()
    }

    /// The report so far; none where nothing was measured.
    fn told(&self, moment: &Moment, is_partial: bool) -> Option<Moments> {
        let seen = self.seen();
        let (what, asked_for) = match moment {
            Moment::Failover(failover) => ("kill of the leader", failover.kills),
            Moment::During(_) | Moment::Limits(_) | Moment::Plot => ("run of the command", 1),
        };
        let Seen {
            stretches,
            elections,
        } = &*seen;
        let report = Moments::new(self.subject.clone(), what, stretches, *elections);
        let interrupted = is_partial && stretches.len() < asked_for;
        (!stretches.is_empty()).then_some(Moments {
            interrupted,
            ..report
        })
    }
}

/// Waits until reads and writes are answered again, and a little longer.
async fn until_answered(running: &Running, patience: Duration) -> Result<Stretch> {
    let killed = Instant::now();
    let mut calm_since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = Instant::now();
        let is_calm = running
            .gaps
            .present(now)
            .iter()
            .all(|gap| *gap < AFTERMATH / 4);
        // Answers that were on their way when the leader was killed are no sign of a new one.
        match (is_calm && now - killed > AFTERMATH / 2, calm_since) {
            (true, None) => calm_since = Some(now),
            (true, Some(since)) if now - since >= AFTERMATH => return Ok(running.gaps.end(now)),
            (true, Some(_)) => {}
            (false, _) => calm_since = None,
        }
        if now - killed > patience {
            let waited = humantime::format_duration(patience);
            return Err(Error::NoLeader(format!(
                "reads and writes are not both answered again {waited} after the leader was killed; \
                 `raftctl status`"
            )));
        }
    }
}
