//! What a moment costs those who read and write meanwhile: `bench failover`, `bench during`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::command;
use super::etcd::Etcd;
use super::gaps::Stretch;
use super::phases::Bench;
use super::spread::{Moments, Subject};
use super::steady::{Running, Steady, Whom};
use super::{Arguments, refuse_more_than_fit};
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

/// More kills than this are a day's work.
const TIMES_MAX: usize = 1000;

/// What may happen under load.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Moment {
    /// Kill the leader, time and again: how long do reads and writes wait?
    ///
    /// Between two kills the node is started again, and the cluster is whole. What is told of each kill is the
    /// longest time in which no read, and in which no write, of any client had its answer.
    #[command(after_help = "Examples:
  raftctl bench failover
  raftctl bench failover --times 50 --output json")]
    Failover(Failover),

    /// Run a command, and measure what clients notice of it
    ///
    /// Where the command fails, so does the bench. What it prints goes to standard error, apart from the figures.
    #[command(after_help = "Examples:
  raftctl bench during -- raftctl replace 3
  raftctl bench during -- raftctl upgrade
  raftctl bench during --against etcd=127.0.0.1:2379 -- sleep 10")]
    During(During),
}

/// The flags of `bench failover`.
#[derive(Debug, Clone, clap::Args)]
pub struct Failover {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    times: usize,
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

/// Where another store is.
#[derive(Debug, Clone)]
struct Addresses(Vec<String>);

fn other_store(text: &str) -> std::result::Result<Addresses, String> {
    let (name, addresses) = text.split_once('=').unwrap_or((text, ""));
    let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
    if name != "etcd" || addresses.iter().any(String::is_empty) {
        return Err("etcd=HOST:PORT,HOST:PORT,... is the only other store so far".into());
    }
    Ok(Addresses(addresses))
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
        if self.in_flight < 2 || self.keys < 2 {
            let rule = "--in-flight and --keys: at least 2, half of them for each side";
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
    fn clients(&self) -> &Clients {
        match self {
            Moment::Failover(failover) => &failover.clients,
            Moment::During(during) => &during.clients,
        }
    }

    /// # Errors
    /// As of the clients.
    fn check(&self) -> Result<()> {
        if let Moment::Failover(Failover { times, .. }) = self
            && !(1..=TIMES_MAX).contains(times)
        {
            return Err(Error::Usage(format!("--times: 1 to {TIMES_MAX}")));
        }
        self.clients().check()
    }

    fn against(&self) -> Option<&Addresses> {
        match self {
            Moment::Failover(_) => None,
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
    let clients = moment.clients();
    moment.check()?;
    refuse_more_than_fit(context, clients.clients)?;
    let arguments = clients.arguments();
    let reads = context.cluster.reads;
    let mut bench = Bench {
        context,
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
    };
    let done = tokio::select! {
        done = stage.go_through(moment) => done,
        () = interruptions.next() => Err(Error::Other("interrupted".into())),
    };
    let raised = stage.raise().await;
    bench.load.members = running.stop().await;
    let cleared = match other {
        Some(mut etcd) => clear(&mut etcd, &arguments.workload().key_prefix).await,
        None => bench.clear(&mut interruptions, done.is_err()).await,
    };
    done.and(raised).and(cleared)
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
}

impl Stage<'_> {
    async fn go_through(&self, moment: &Moment) -> Result<()> {
        match moment {
            Moment::Failover(failover) => self.fail_over(failover).await,
            Moment::During(during) => self.through_command(during).await,
        }
    }

    async fn fail_over(&self, failover: &Failover) -> Result<()> {
        let context = self.context;
        let _folder = FolderLock::take(&context.cluster, "bench failover").await?;
        let patience = self.options.timeout.unwrap_or(WHOLE_AGAIN);
        let ids = context.cluster.ids();
        let mut stretches = Vec::new();
        for number in 1..=failover.times {
            let leader = context.wait_for_leader(&ids, patience).await?;
            self.dead.store(leader, Ordering::SeqCst);
            self.running.gaps.begin(Instant::now());
            all_or_partial(context.kill(&[leader]).await, "killed")?;
            let stretch = until_answered(self.running, patience).await?;
            out::say(&format!(
                "{number} of {}: leader {leader} killed; reads waited {:.0} ms, writes {:.0} ms",
                failover.times,
                stretch.reads.as_secs_f64() * 1000.0,
                stretch.writes.as_secs_f64() * 1000.0
            ));
            stretches.push(stretch);
            self.raise().await?;
        }
        self.tell("kill of the leader", &stretches, None)
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
        self.tell("run of the command", &[stretch], elections)?;
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

    fn tell(
        &self,
        what: &'static str,
        stretches: &[Stretch],
        elections: Option<u64>,
    ) -> Result<()> {
        let report = Moments::new(self.subject.clone(), what, stretches, elections);
        match self.options.output {
            Output::Text => out::print(&report.text()),
            Output::Json => out::json(&serde_json::json!(report)),
        }
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
