//! The command line: the way from each verb to the function behind it, and the exit code.

mod verb;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use crate::cluster::{self, Provider};
use crate::error::{Error, Result, exit};
use crate::lock::Lock;
use crate::ops::Context;
use crate::out;
use crate::progress::Progress;
use crate::verbs::{
    check, docker, doctor, down, gcp, hosts, init, links, logs, nodes, status, up, upgrade,
};
use crate::{bench, keys, scenario, shell};
use verb::{CommandLine, Verb};

/// What holds for every verb.
#[derive(Debug, Clone)]
pub struct Options {
    /// How results are printed.
    pub output: Output,
    /// How long to wait; `None`: the verb's own default.
    pub timeout: Option<Duration>,
    /// Ask nothing.
    pub yes: bool,
    /// Accept that data is lost.
    pub allow_data_loss: bool,
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

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(line) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) => {
            // Problems of a file begin with its name and line, where editors look for them.
            match &error {
                Error::Cluster(problems) => out::say(&problems.to_string()),
                other => out::say(&format!("error: {other}")),
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
        allow_data_loss: match line.verb {
            Verb::Plan { allow_data_loss } => allow_data_loss,
            Verb::Up {
                allow_data_loss, ..
            } => allow_data_loss,
            _ => false,
        },
    };
    match line.verb {
        Verb::Init(arguments) => init::run(&line.config, &options, &arguments),
        Verb::Check => runtime()?.block_on(check::run(&line.config, &options)),
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "raftctl", &mut text);
            out::print(&String::from_utf8_lossy(&text))
        }
        Verb::Scenario(arguments) if !arguments.needs_cluster() => {
            runtime()?.block_on(scenario::without_cluster(&options, arguments))
        }
        verb => {
            let mut cluster = cluster::load(&line.config)?;
            cluster.limits.lock_wait = line.lock_wait;
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
        if cluster.provider == Provider::Docker {
            return with_containers(cluster, options, verb).await;
        }
        return on_hosts(cluster, options, verb).await;
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
        } => Box::pin(gcp::up(cluster, options, allow_data_loss)).await,
        Verb::Down { keep_data, .. } => Box::pin(gcp::down(cluster, options, keep_data)).await,
        verb => on_hosts(cluster, options, verb).await,
    }
}

/// The same for containers.
async fn with_containers(cluster: cluster::Cluster, options: &Options, verb: Verb) -> Result<()> {
    match verb {
        Verb::Plan { .. } | Verb::Up { dry_run: true, .. } => docker::plan(cluster, options).await,
        Verb::Up { .. } => {
            docker::make(&cluster).await?;
            on_hosts(cluster, options, verb).await
        }
        Verb::Down { purge, .. } => docker::down(&cluster, options, purge).await,
        verb => on_hosts(cluster, options, verb).await,
    }
}

/// Verbs that need the hosts.
async fn on_hosts(cluster: cluster::Cluster, options: &Options, verb: Verb) -> Result<()> {
    // Told while it lasts only, and only to someone who looks on.
    let has_hosts = cluster.provider != Provider::Local;
    let reaching = has_hosts.then(|| Progress::new().begin("reach the hosts"));
    let context = match &verb {
        Verb::Keys(_) | Verb::Shell(_) | Verb::Bench(_) => Context::open(cluster).await?,
        Verb::Plan { .. } | Verb::Up { .. } | Verb::Doctor { .. } => {
            Context::reach(cluster, true).await?
        }
        Verb::Status => Context::glance(cluster).await?,
        _ => Context::reach(cluster, false).await?,
    };
    drop(reaching);
    let (extent, name) = extent(&verb);
    // Large: on the heap, it is moved through its wrappers as a pointer.
    let work = Box::pin(on_cluster(&context, options, verb));
    // The lock of this folder comes first, as everywhere: whoever takes two in another order can
    // wait for someone who waits for them.
    match extent {
        Extent::Changes => {
            let folder = Lock::take(&context.cluster, name).await?;
            folder
                .during(context.locked(name, context.cluster.limits.lock_wait, work))
                .await
        }
        Extent::Holds => {
            let folder = Lock::take(&context.cluster, name).await?;
            folder
                .during(context.hold(name, context.cluster.limits.lock_wait, work))
                .await
        }
        Extent::Bounded => context.within_total(name, work).await,
        Extent::Own => work.await,
    }
}

/// How far a verb reaches, in time and on the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// It changes what the cluster is: the cluster is locked on its hosts meanwhile, and the time
    /// is bounded by `limits.total`.
    Changes,
    /// The cluster is locked on its hosts, too, for as long as its user likes.
    Holds,
    /// It looks, or injects a fault, which ends by itself and must not wait. The time is bounded by
    /// `limits.total`.
    Bounded,
    /// It has bounds of its own, or lasts as long as its user likes. `up` is among them: it locks
    /// the cluster itself, once it knows that there is something to do.
    Own,
}

fn extent(verb: &Verb) -> (Extent, &'static str) {
    match verb {
        Verb::Down { .. } => (Extent::Changes, "down"),
        Verb::Start(_) => (Extent::Changes, "start"),
        Verb::Stop(_) => (Extent::Changes, "stop"),
        Verb::Restart { vm: false, .. } => (Extent::Changes, "restart"),
        Verb::Upgrade { rollback: false } => (Extent::Changes, "upgrade"),
        Verb::Upgrade { rollback: true } => (Extent::Changes, "upgrade --rollback"),
        Verb::Scenario(_) => (Extent::Holds, "scenario"),
        Verb::Plan { .. } | Verb::Up { dry_run: true, .. } => (Extent::Bounded, "plan"),
        Verb::Status => (Extent::Bounded, "status"),
        Verb::Exec { .. } => (Extent::Bounded, "exec"),
        Verb::Kill { vm: false, .. } => (Extent::Bounded, "kill"),
        Verb::Pause { .. } => (Extent::Bounded, "pause"),
        Verb::Resume(_) => (Extent::Bounded, "resume"),
        Verb::Partition { wait: false, .. } => (Extent::Bounded, "partition"),
        Verb::Heal => (Extent::Bounded, "heal"),
        Verb::Logs(_) => (Extent::Bounded, "logs"),
        Verb::Transfer { .. } => (Extent::Bounded, "transfer"),
        Verb::Doctor { .. } => (Extent::Bounded, "doctor"),
        Verb::Up { .. }
        | Verb::Kill { vm: true, .. }
        | Verb::Restart { vm: true, .. }
        | Verb::Extend { .. }
        | Verb::Partition { wait: true, .. }
        | Verb::Ssh { .. }
        | Verb::Keys(_)
        | Verb::Shell(_)
        | Verb::Bench(_)
        | Verb::Init(_)
        | Verb::Check
        | Verb::Completions { .. } => (Extent::Own, ""),
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
        Verb::Ssh { selector, command } => hosts::ssh(context, &selector, &command).await,
        Verb::Exec { of, command } => hosts::exec(context, options, &of.selector, &command).await,
        Verb::Upgrade { rollback } => {
            let way = match rollback {
                true => upgrade::Way::Back,
                false => upgrade::Way::Forward,
            };
            upgrade::run(context, options, way).await
        }
        Verb::Kill { of, vm: true } => gcp::stop_machines(context, options, &of.selector).await,
        Verb::Restart { of, vm: true } => {
            gcp::restart_machines(context, options, &of.selector).await
        }
        Verb::Extend { lifetime } => gcp::extend(context, options, lifetime).await,
        Verb::Kill { of, .. } => {
            nodes::signal(context, options, nodes::Signal::Kill, &of.selector).await
        }
        Verb::Stop(of) => nodes::signal(context, options, nodes::Signal::Stop, &of.selector).await,
        Verb::Pause { of, length } => {
            nodes::signal(context, options, nodes::Signal::Pause(length), &of.selector).await
        }
        Verb::Resume(of) => {
            nodes::signal(context, options, nodes::Signal::Resume, &of.selector).await
        }
        Verb::Start(of) => nodes::start(context, options, &of.selector).await,
        Verb::Restart { of, .. } => nodes::restart(context, options, &of.selector).await,
        Verb::Transfer { to } => nodes::transfer(context, options, to.as_deref()).await,
        Verb::Partition {
            groups,
            length,
            packet_filter,
            wait,
        } => {
            let means = match packet_filter {
                true => links::Means::PacketFilter,
                false => links::Means::Nodes,
            };
            links::partition(context, options, &groups, length, means, wait).await
        }
        Verb::Heal => links::heal(context, options).await,
        Verb::Logs(arguments) => logs::run(context, options, &arguments).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    // The definition of the command line is consistent.
    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
