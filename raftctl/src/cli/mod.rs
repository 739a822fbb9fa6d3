//! The command line: the way from each verb to the function behind it, and the exit code.

#[cfg(test)]
mod documents;
mod help;
mod verb;

use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::bench;
use crate::cluster::{self, Cluster};
use crate::error::{Error, Result, exit};
use crate::local::folder_lock::FolderLock;
use crate::ops::Context;
use crate::scenario;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::change::Change;
use crate::verbs::provision::{self, Wanted};
use crate::verbs::{
    backup, certs, change, check, doctor, down, hosts, init, keys, links, logs, nodes, recover,
    restore, shell, snapshot, status, timeline, top, up, upgrade,
};
use verb::{CommandLine, Verb};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = help::command().get_matches();
    let line = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
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
            clap_complete::generate(shell, &mut help::command(), "raftctl", &mut text);
            out::print(&String::from_utf8_lossy(&text))
        }
        Verb::Backup(arguments) if arguments.verify().is_some() => {
            let trial = backup::verify(&line.config, &options, &arguments);
            runtime()?.block_on(trial)
        }
        Verb::Scenario(arguments) if !arguments.needs_cluster() => {
            runtime()?.block_on(scenario::without_cluster(&options, arguments))
        }
        Verb::Timeline(arguments) if arguments.folder.is_some() => {
            timeline::of_folder(&options, &arguments)
        }
        verb => {
            if matches!(verb, Verb::Top) {
                // Before anybody is asked for anything.
                top::needs_terminal()?;
            }
            let mut cluster = cluster::load(&line.config)?;
            cluster.limits.lock_wait = line.lock_wait;
            if !cluster.warnings.list.is_empty() && options.output == Output::Text {
                eprintln!("{}", cluster.warnings);
            }
            let runtime = runtime()?;
            let done = runtime.block_on(dispatch(&line.config, cluster, &options, verb));
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

/// What makes or deletes hosts comes before there are any.
async fn dispatch(config: &Path, cluster: Cluster, options: &Options, verb: Verb) -> Result<()> {
    let change = match &verb {
        Verb::Add(add) => Some(Change::Add(add.clone())),
        Verb::Remove(remove) => Some(Change::Remove(remove.clone())),
        Verb::Replace(replace) => Some(Change::Replace(replace.clone())),
        _ => None,
    };
    if let Some(change) = change {
        // Large: on the heap.
        return Box::pin(change::run(config, cluster, options, &change)).await;
    }
    if let Verb::Restore(arguments) = &verb {
        // Before any host is made for it.
        let source = restore::read(&arguments.file)?;
        return provision::restore(cluster, options, &source).await;
    }
    let wanted = wanted(&verb);
    let cluster = match wanted {
        Wanted::Up | Wanted::Plan => {
            let moving = change::with_moves(config, cluster, options, wanted == Wanted::Plan);
            Box::pin(moving).await?
        }
        _ => cluster,
    };
    match provision::provision(cluster, options, wanted).await? {
        Some(cluster) => on_hosts(cluster, options, verb).await,
        None => Ok(()),
    }
}

/// What a verb wants of the hosts themselves.
fn wanted(verb: &Verb) -> Wanted {
    match *verb {
        Verb::Plan { .. } | Verb::Up { dry_run: true, .. } => Wanted::Plan,
        Verb::Up { dry_run: false, .. } => Wanted::Up,
        Verb::Down { purge, keep_data } => Wanted::Down { purge, keep_data },
        Verb::Extend { .. } => Wanted::Machines { flag: "extend" },
        Verb::Kill { vm: true, .. } | Verb::Restart { vm: true, .. } => {
            Wanted::Machines { flag: "--vm" }
        }
        _ => Wanted::Hosts,
    }
}

/// Verbs that need the hosts.
async fn on_hosts(cluster: Cluster, options: &Options, verb: Verb) -> Result<()> {
    // Told while it lasts only, and only to someone who looks on.
    let has_hosts = cluster.provider.has_hosts();
    let reaching = has_hosts.then(|| Progress::new().begin("reach the hosts"));
    let context = match &verb {
        Verb::Bench(arguments) if arguments.touches_hosts() => {
            Context::look(cluster, false).await?
        }
        Verb::Keys(_) | Verb::Shell(_) | Verb::Bench(_) | Verb::Backup(_) | Verb::Certs(_) => {
            Context::open(cluster).await?
        }
        Verb::Plan { .. } | Verb::Up { .. } | Verb::Doctor { .. } => {
            Context::look(cluster, true).await?
        }
        Verb::Status { .. } | Verb::Top => Context::look_briefly(cluster).await?,
        _ => Context::look(cluster, false).await?,
    };
    drop(reaching);
    let (extent, name) = extent(&verb);
    // Large: on the heap, it is moved through its wrappers as a pointer.
    let work = Box::pin(on_cluster(&context, options, verb));
    // The lock of this folder comes first, as everywhere: whoever takes two in another order can
    // wait for someone who waits for them.
    match extent {
        Extent::Changes => {
            let folder = FolderLock::take(&context.cluster, name).await?;
            folder
                .during(context.locked(name, &Progress::new(), work))
                .await
        }
        Extent::Holds => {
            let folder = FolderLock::take(&context.cluster, name).await?;
            folder
                .during(context.hold(name, &Progress::new(), work))
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
        Verb::Certs(arguments) => match arguments.command {
            certs::Command::Show => (Extent::Bounded, "certs show"),
            certs::Command::Renew { .. } => (Extent::Changes, "certs renew"),
            certs::Command::Rotate { .. } => (Extent::Changes, "certs rotate"),
            certs::Command::Issue(_) | certs::Command::Use { .. } => (Extent::Own, ""),
        },
        Verb::Scenario(_) => (Extent::Holds, "scenario"),
        Verb::Plan { .. } | Verb::Up { dry_run: true, .. } => (Extent::Bounded, "plan"),
        Verb::Status { .. } => (Extent::Bounded, "status"),
        Verb::Exec { .. } => (Extent::Bounded, "exec"),
        Verb::Kill { vm: false, .. } => (Extent::Bounded, "kill"),
        Verb::Pause { .. } => (Extent::Bounded, "pause"),
        Verb::Resume(_) => (Extent::Bounded, "resume"),
        Verb::Partition { wait: false, .. } => (Extent::Bounded, "partition"),
        Verb::Heal => (Extent::Bounded, "heal"),
        Verb::Logs(_) => (Extent::Bounded, "logs"),
        Verb::Timeline(_) => (Extent::Bounded, "timeline"),
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
        | Verb::Top
        | Verb::Bench(_)
        | Verb::Backup(_)
        | Verb::Snapshot(_)
        | Verb::Recover(_)
        | Verb::Restore(_)
        | Verb::Add(_)
        | Verb::Remove(_)
        | Verb::Replace(_)
        | Verb::Init(_)
        | Verb::Check
        | Verb::Completions { .. } => (Extent::Own, ""),
    }
}

async fn on_cluster(context: &Context, options: &Options, verb: Verb) -> Result<()> {
    match verb {
        Verb::Plan { .. } => up::plan(context, options).await,
        Verb::Up { dry_run, .. } => up::up(context, options, dry_run).await,
        Verb::Status { check } => status::run(context, options, check).await,
        Verb::Top => top::run(context).await,
        Verb::Ssh { selector, command } => hosts::ssh(context, &selector, &command).await,
        Verb::Exec { of, command } => hosts::exec(context, options, &of.selector, &command).await,
        Verb::Upgrade { rollback } => {
            let way = match rollback {
                true => upgrade::Way::Back,
                false => upgrade::Way::Forward,
            };
            upgrade::run(context, options, way).await
        }
        Verb::Kill { of, vm: true } => {
            provision::stop_machines(context, options, &of.selector).await
        }
        Verb::Restart { of, vm: true } => {
            provision::restart_machines(context, options, &of.selector).await
        }
        Verb::Extend { lifetime } => provision::extend(context, options, lifetime).await,
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
        Verb::Timeline(arguments) => timeline::of_cluster(context, options, &arguments).await,
        Verb::Keys(command) => keys::run(context, options, command).await,
        Verb::Shell(arguments) => shell::run(context, options, arguments).await,
        Verb::Scenario(arguments) => scenario::run(context, options, arguments).await,
        Verb::Bench(arguments) => bench::run(context, options, arguments).await,
        Verb::Down { purge, .. } => down::run(context, options, purge).await,
        Verb::Doctor { fix } => doctor::run(context, options, fix).await,
        Verb::Certs(arguments) => certs::run(context, options, &arguments).await,
        Verb::Backup(arguments) => backup::run(context, options, &arguments).await,
        Verb::Snapshot(arguments) => snapshot::run(context, options, &arguments).await,
        Verb::Recover(arguments) => recover::run(context, options, &arguments).await,
        Verb::Restore(_)
        | Verb::Add(_)
        | Verb::Remove(_)
        | Verb::Replace(_)
        | Verb::Init(_)
        | Verb::Check
        | Verb::Completions { .. } => unreachable!("is done already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The definition of the command line is consistent.
    #[test]
    fn the_command_line_is_consistent() {
        help::command().debug_assert();
    }
}
