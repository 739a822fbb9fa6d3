//! `plan` and `up`: from what is to what should be.

use serde_json::json;

use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::local::authority::Authority;
use crate::local::binary::{self, Binary};
use crate::local::folder_lock::FolderLock;
use crate::ops::run::{self, LeftBehind};
use crate::ops::{Context, facts, target};
use crate::plan::{Facts, Step};
use crate::providers;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::status;

/// Prints the steps that `up` would take.
///
/// # Errors
/// Something stands in the way, or a host does not answer.
pub async fn plan(context: &Context, options: &Options) -> Result<()> {
    let origin = binary::locate(&context.cluster)?;
    let facts = facts::gather_workable(context, options.allow_data_loss).await?;
    let steps = target::steps(context, &origin, &facts)?;
    tell_remarks(context, &Progress::new());
    tell_left_behind(&facts, &Progress::new());
    match options.output {
        Output::Text => out::print(&to_text(context, &steps)),
        Output::Json => out::json(&to_json(context, &steps, &facts)),
    }
}

/// Brings the cluster up, and prints its status: one phase after the other.
///
/// # Errors
/// Something stands in the way, a host does not answer, or a node does not come up.
pub async fn up(context: &Context, options: &Options, dry_run: bool) -> Result<()> {
    if dry_run {
        return plan(context, options).await;
    }
    let left_behind = converge(context, options).await?;
    tell(context, options, left_behind).await
}

/// Brings the cluster up; the nodes that were left behind.
///
/// # Errors
/// As of [`up`].
pub async fn converge(context: &Context, options: &Options) -> Result<LeftBehind> {
    let _folder = FolderLock::take(&context.cluster, "up").await?;
    let up = Up {
        context,
        options,
        progress: Progress::new(),
    };
    up.converge("up").await
}

/// Prints the status of a cluster that was brought up.
///
/// # Errors
/// Nodes were left behind: each is named.
pub async fn tell(context: &Context, options: &Options, left_behind: LeftBehind) -> Result<()> {
    let failed = left_behind.into_iter();
    let failed: Vec<_> = failed.map(|(id, error)| (id, error.to_string())).collect();
    status::after_up(context, options, &failed).await?;
    if failed.is_empty() {
        return Ok(());
    }
    let done = "brought up".into();
    Err(Error::Partial { done, failed })
}

/// Whether it is known only afterwards who belongs to the cluster, because nobody led before.
fn hides_members(facts: &Facts) -> bool {
    facts.membership.is_none() && facts.has_data()
}

/// A cluster on its way up.
struct Up<'a> {
    context: &'a Context,
    options: &'a Options,
    progress: Progress,
}

impl Up<'_> {
    /// Finds out what is missing, and does it.
    async fn converge(&self, verb: &str) -> Result<LeftBehind> {
        let context = self.context;
        let binary = target::obtain(context, &self.progress).await?;
        let facts = self.look().await?;
        let steps = target::steps_with(context, &binary, &facts)?;
        let left_behind = if steps.is_empty() {
            self.say_it_is_up(facts)
        } else {
            // Large: on the heap.
            let working = Box::pin(async {
                let facts = self.look_again(facts).await?;
                self.work(&binary, facts).await
            });
            let left_behind = context.locked(verb, &self.progress, working).await?;
            self.remember_logs(&left_behind).await?;
            left_behind
        };
        context.remember_nodes()?;
        Ok(left_behind)
    }

    /// Takes the steps; and those that are seen only then, where nobody could say who belongs to the cluster.
    async fn work(&self, binary: &Binary, facts: Facts) -> Result<LeftBehind> {
        let hid_members = hides_members(&facts);
        let steps = target::steps_with(self.context, binary, &facts)?;
        let left_behind = self.run(&steps, binary, facts).await?;
        if !hid_members {
            return Ok(left_behind);
        }
        let allow = self.options.allow_data_loss;
        let mut facts = facts::gather_workable(self.context, allow).await?;
        for (id, error) in left_behind {
            facts.hosts.remove(&id);
            facts.left_behind.insert(id, error);
        }
        let steps = target::steps_with(self.context, binary, &facts)?;
        self.run(&steps, binary, facts).await
    }

    async fn look(&self) -> Result<Facts> {
        // Told while it lasts only: it is no step.
        let _looking = self.progress.begin("look at the hosts");
        facts::gather_workable(self.context, self.options.allow_data_loss).await
    }

    /// Before the lock was taken on the hosts, someone else may have had it.
    async fn look_again(&self, before: Facts) -> Result<Facts> {
        if !self.context.has_remote_hosts() {
            return Ok(before);
        }
        facts::gather_workable(self.context, self.options.allow_data_loss).await
    }

    fn say_it_is_up(&self, facts: Facts) -> LeftBehind {
        tell_certificates(self.context, &self.progress);
        tell_left_behind(&facts, &self.progress);
        self.progress.note(&format!(
            "cluster {} is up already: nothing to do",
            self.context.cluster.name
        ));
        facts.left_behind
    }

    async fn run(&self, steps: &[Step], binary: &Binary, facts: Facts) -> Result<LeftBehind> {
        let context = self.context;
        if self.options.allow_data_loss {
            let accepted: Vec<NodeId> = facts.hosts.keys().copied().collect();
            context.accept_loss(&accepted).await;
        }
        tell_remarks(context, &self.progress);
        tell_left_behind(&facts, &self.progress);
        let timeout = self.options.timeout.unwrap_or(run::TIMEOUT);
        let left_behind = facts.left_behind;
        run::run(context, steps, binary, timeout, &self.progress, left_behind).await
    }

    /// Nodes that are up follow a leader, and so have its first entry.
    async fn remember_logs(&self, left_behind: &LeftBehind) -> Result<()> {
        if !self.context.has_remote_hosts() {
            return Ok(());
        }
        let ids = self.context.cluster.ids().into_iter();
        let up = ids.filter(|id| !left_behind.contains_key(id));
        self.context.remember(up.collect()).await
    }
}

fn tell_remarks(context: &Context, progress: &Progress) {
    for (remark, advice) in providers::remarks(&context.cluster) {
        progress.note(&format!("{remark}; {advice}"));
    }
    tell_certificates(context, progress);
}

/// What is worth a word about who may connect, whether there is anything to do or not.
pub fn tell_certificates(context: &Context, progress: &Progress) {
    let cluster = &context.cluster;
    let authority = Authority::of(cluster);
    if cluster.tls.needs_certificates()
        && authority.is_here()
        && authority.is_changing().is_ok_and(|is_changing| is_changing)
    {
        progress.note(
            "two authorities are trusted, because the one that signs was changed; when clients have new certificates, \
             `raftctl certs rotate --finish` ends the trust in the one before",
        );
    }
}

fn tell_left_behind(facts: &Facts, progress: &Progress) {
    for (id, error) in &facts.left_behind {
        // All of it is told at the end.
        let error = error.to_string();
        let first = error.lines().next().unwrap_or_default();
        progress.note(&format!("going on without node {id}: {first}"));
    }
}

fn to_text(context: &Context, steps: &[Step]) -> String {
    let name = &context.cluster.name;
    if steps.is_empty() {
        return format!("cluster {name} is up: nothing to do\n");
    }
    let mut text = format!("cluster {name} ({}):\n", context.cluster.provider.name());
    for (count, step) in steps.iter().enumerate() {
        text.push_str(&format!("  {}. {step}\n", count + 1));
    }
    text
}

fn to_json(context: &Context, steps: &[Step], facts: &Facts) -> serde_json::Value {
    let left_behind = facts.left_behind.iter();
    let left_behind = left_behind.map(|(id, error)| json!({"id": id, "error": error.to_string()}));
    json!({
        "cluster": context.cluster.name,
        "provider": context.cluster.provider.name(),
        "steps": steps.iter().map(step_to_json).collect::<Vec<_>>(),
        "left_behind": left_behind.collect::<Vec<_>>(),
    })
}

/// A step for programs.
#[must_use]
pub fn step_to_json(step: &Step) -> serde_json::Value {
    json!({
        "action": step.action(),
        "nodes": step.nodes(),
        "why": step.why(),
        "text": step.to_string(),
    })
}
