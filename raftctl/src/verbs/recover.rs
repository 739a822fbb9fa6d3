//! `recover`: a cluster that lost its majority begins anew with what its best survivor has.
//!
//! Which one that is, is decided by its last entry, as an election would: first by its term, then by its
//! index. Its state goes to all nodes whose hosts answer, under a new cluster id, so that a member that was
//! lost and comes back is refused. Nothing is deleted: what the nodes had is moved aside.

use serde_json::{Value, json};

use super::confirm;
use super::restore::{self, Begun, Record, Source};
use crate::cluster::id::ClusterId;
use crate::cluster::outcomes::{Outcomes, all_or_partial, no_majority};
use crate::cluster::{NodeId, list};
use crate::error::{Error, Result};
use crate::hosts::directories::{Found, Made};
use crate::local::binary::Binary;
use crate::local::folder_lock::FolderLock;
use crate::ops::run::{self, LeftBehind};
use crate::ops::{Context, anew, backup, target};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::text::backups::{Checker, Head};

/// What `recover` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Go on with one survivor's state, because a majority of the nodes is lost for good
    #[arg(long, required = true)]
    pub lose_majority: bool,

    /// The cluster's name, instead of typing it when asked
    #[arg(long, value_name = "NAME")]
    pub yes_lose: Option<String>,

    /// Go on although a majority of the directories can be read
    #[arg(long)]
    pub force: bool,
}

/// Where the state is kept that the cluster begins anew with.
const KEPT: &str = "recovery.backup";

/// Makes the cluster anew out of the best survivor.
///
/// # Errors
/// There is a leader, or a majority that can elect one; nobody confirmed; no survivor has anything; too few
/// hosts answer, or a node does not come up.
pub async fn run(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    let _folder = FolderLock::take(&context.cluster, "recover").await?;
    let progress = Progress::new();
    let binary = target::obtain(context, &progress).await?;
    let recovery = Recovery {
        context,
        options,
        arguments,
        binary: &binary,
        progress: &progress,
    };
    // Large: on the heap.
    let working = Box::pin(recovery.run());
    // Nobody is hurried while the question for the name is open.
    let done = context.locked_to_the_end("recover", &progress, working);
    let (told, left_behind) = done.await?;
    match options.output {
        Output::Json => out::json(&told)?,
        Output::Text => out::line(&format!(
            "cluster {} is up again, with the state of node {} after entry {}; its id is {} now; what \
             the nodes had is kept beside their new directories",
            context.cluster.name,
            told["from"],
            told["index"],
            told["cluster_id"].as_str().unwrap_or_default()
        ))?,
    }
    restore::partial(left_behind, "recovered")
}

struct Recovery<'a> {
    context: &'a Context,
    options: &'a Options,
    arguments: &'a Arguments,
    binary: &'a Binary,
    progress: &'a Progress,
}

impl Recovery<'_> {
    async fn run(&self) -> Result<(Value, LeftBehind)> {
        let context = self.context;
        let record = Record::of(context, "recover.json");
        let kept = context.cluster.state_dir().join(KEPT);
        let begun = match record.load() {
            Some(begun) => {
                let note = format!(
                    "going on with the recovery that was begun, to id {}",
                    begun.id
                );
                self.progress.note(&note);
                begun
            }
            None => self.begin(&record, &kept).await?,
        };
        let source = restore::read(&kept)?;
        let from = source.checked.head.node;
        let (made, left_behind) = self.make(&record, begun, &source).await?;
        let told = json!({
            "cluster": context.cluster.name,
            "cluster_id": context.identity.known().map(|id| id.to_string()),
            "from": from,
            "index": made.index,
            "hash": made.hash,
            "keys": made.keys,
            "backup": kept.display().to_string(),
            "left_behind": left_behind.keys().collect::<Vec<_>>(),
        });
        Ok((told, left_behind))
    }

    /// Looks, asks, stops what runs, and keeps the best state here, before anything else is changed.
    async fn begin(&self, record: &Record, kept: &std::path::Path) -> Result<Begun> {
        let context = self.context;
        let name = &context.cluster.name;
        if let Some(leader) = context.leader().await {
            return Err(Error::Usage(format!(
                "node {leader} leads cluster {name}: there is nothing to recover from"
            )));
        }
        let found = self.look().await?;
        let survivors = Survivors::of(&found);
        self.progress
            .note(survivors.to_text(context, &found).trim_end());
        self.refuse_majority(&survivors)?;
        survivors.best()?;
        self.confirm(&survivors).await?;

        let answering: Vec<NodeId> = answering(&found);
        let ended = run::end(context, &answering, self.progress).await;
        all_or_partial(ended, "stopped")?;
        // What they had flushed by their end is what counts.
        let found = self.look().await?;
        let (best, entry) = Survivors::of(&found).best()?;
        let step = self
            .progress
            .begin(&format!("read the state of node {best}"));
        let head = self.keep(best, entry, kept).await?;
        step.done();
        let begun = Begun {
            id: ClusterId::mint(),
            hash: format!("{:08x}", head.hash),
            made: None,
        };
        record.save(&begun)?;
        Ok(begun)
    }

    /// What every node has, as its host tells.
    async fn look(&self) -> Result<Outcomes<Found>> {
        let (context, ids) = (self.context, self.context.cluster.ids());
        let facts = context.host_facts().await;
        let there: Vec<NodeId> = answering(&facts);
        if there.len() < context.cluster.majority() {
            return Err(no_majority(facts, "looked at").advise(
                "the new cluster has the members of cluster.yaml, so a majority of their hosts must \
                 answer: give lost ones new hosts under their names first"
                    .into(),
            ));
        }
        if context.has_remote_hosts() {
            let hosts = self.progress.hosts(context.names(&there));
            drop(context.ship(&there, self.binary, hosts.watch()).await?);
        }
        let mut found = context.inspect(&there, self.binary).await;
        for (id, outcome) in facts {
            if let Err(error) = outcome {
                found.insert(id, Err(error));
            }
        }
        debug_assert_eq!(found.len(), ids.len());
        Ok(found)
    }

    fn refuse_majority(&self, survivors: &Survivors) -> Result<()> {
        let majority = self.context.cluster.majority();
        if survivors.whole.len() < majority || self.arguments.force {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{} have all that they had, and are a majority: start them, and nothing is \
             lost; if they can't elect a leader all the same, say --force",
            list(&survivors.whole)
        )))
    }

    async fn confirm(&self, survivors: &Survivors) -> Result<()> {
        let name = &self.context.cluster.name;
        match &self.arguments.yes_lose {
            Some(given) if given == name => return Ok(()),
            Some(given) => {
                let text = format!("--yes-lose {given:?}: the cluster is called {name}");
                return Err(Error::Usage(text));
            }
            None => {}
        }
        let (best, _) = survivors.best()?;
        // What is lost here is not what --yes is meant for.
        let options = Options {
            yes: false,
            ..self.options.clone()
        };
        let deletes = format!(
            "what only the lost nodes of cluster {name} had; confirm it at a terminal, or with \
             --yes-lose {name}"
        );
        let question = format!(
            "This gives up what only the other nodes had, and goes on with node {best}. Write the \
             name of the cluster to go on: "
        );
        confirm::ask("recover", name, &options, &deletes, &question).await
    }

    /// Writes the state of a node down, here.
    async fn keep(&self, id: NodeId, entry: (u64, u64), kept: &std::path::Path) -> Result<Head> {
        let context = self.context;
        let text = context.export(id, self.binary).await?;
        let mut checker = Checker::default();
        let checked = checker.feed(&text).and_then(|()| checker.finish());
        let checked = checked.map_err(|fault| {
            Error::CheckFailed(format!("the state of node {id} is not whole: {fault}"))
        })?;
        let head = Head {
            cluster: context.cluster.name.clone(),
            time: backup::now(),
            node: id,
            ..checked.head
        };
        if (head.term, head.index) != entry {
            return Err(Error::CheckFailed(format!(
                "node {id} told another last entry than its state has: run this again"
            )));
        }
        let whole = [head.line().as_bytes(), &text].concat();
        let folder = context.cluster.state_dir();
        let partial = folder.join(format!("{KEPT}.part"));
        let write = || {
            std::fs::create_dir_all(&folder)?;
            let mut file = std::fs::File::create(&partial)?;
            std::io::Write::write_all(&mut file, &whole)?;
            file.sync_all()?;
            std::fs::rename(&partial, kept)
        };
        write().map_err(|error| Error::file("write", kept, &error))?;
        Ok(head)
    }

    async fn make(
        &self,
        record: &Record,
        mut begun: Begun,
        source: &Source,
    ) -> Result<(Made, LeftBehind)> {
        let context = self.context;
        let facts = context.node_facts(&context.cluster.ids()).await;
        let stopped = facts.iter().filter_map(|(id, facts)| {
            let facts = facts.as_ref().ok()?;
            let is_stopped = facts.state == crate::hosts::control::ProcessState::Stopped;
            is_stopped.then_some(*id)
        });
        let stopped: Vec<NodeId> = stopped.collect();
        let state = anew::State {
            text: &source.text,
            id: begun.id,
            sets_aside: true,
        };
        if !stopped.is_empty() {
            let (binary, progress) = (self.binary, self.progress);
            begun.made = Some(anew::make(context, &stopped, binary, &state, progress).await?);
            record.save(&begun)?;
        }
        let made = begun.made.ok_or_else(|| {
            Error::Other("the nodes run already, and nothing is known of their state".into())
        })?;
        let timeout = self.options.timeout;
        let started = anew::start(
            context,
            self.binary,
            begun.id,
            &made,
            timeout,
            self.progress,
        );
        let left_behind = started.await?;
        record.forget()?;
        Ok((made, left_behind))
    }
}

fn answering<T>(outcomes: &Outcomes<T>) -> Vec<NodeId> {
    let there = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    there.map(|(id, _)| *id).collect()
}

/// What is left of a cluster.
struct Survivors {
    /// Those with a state, each with the term and index of its last entry.
    entries: Vec<(NodeId, (u64, u64))>,
    /// Those that lack nothing that they had, as far as they know.
    whole: Vec<NodeId>,
    /// The highest entry that any of them knows to have been committed, or to have had.
    known_until: u64,
}

impl Survivors {
    fn of(found: &Outcomes<Found>) -> Self {
        let found = found.iter().filter_map(|(id, found)| {
            let found = found.as_ref().ok()?;
            (found.data && found.error.is_none()).then_some((*id, found))
        });
        let found: Vec<(NodeId, &Found)> = found.collect();
        let entry = |(id, found): &(NodeId, &Found)| (*id, (found.last_term, found.last_index));
        let whole = found.iter().filter(|(_, found)| found.lost_until == 0);
        let known = found
            .iter()
            .map(|(_, found)| found.commit_index.max(found.lost_until));
        Survivors {
            entries: found.iter().map(entry).collect(),
            whole: whole.map(|(id, _)| *id).collect(),
            known_until: known.max().unwrap_or(0),
        }
    }

    /// The one whose last entry is the newest, and that.
    fn best(&self) -> Result<(NodeId, (u64, u64))> {
        let entries = self.entries.iter().copied();
        // Of equals the lowest.
        let best = entries.max_by_key(|(id, entry)| (*entry, std::cmp::Reverse(*id)));
        best.filter(|(_, (_, index))| *index > 0).ok_or_else(|| {
            Error::Usage("no survivor has any entry: restore a backup instead".into())
        })
    }

    fn to_text(&self, context: &Context, found: &Outcomes<Found>) -> String {
        let head = [
            "NODE",
            "HOST",
            "LAST TERM",
            "LAST INDEX",
            "COMMITTED",
            "STATE",
        ];
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(id, found)| {
                let host = context.inventory.host_of(*id).name().to_owned();
                let mut row = vec![id.to_string(), host];
                row.extend(cells(found));
                row
            })
            .collect();
        let mut text = out::table(&head, &rows);
        if let Ok((best, (term, index))) = self.best() {
            text.push_str(&self.loss(best, term, index));
        }
        text
    }

    /// What may be lost, in entries, as far as that can be known.
    fn loss(&self, best: NodeId, term: u64, index: u64) -> String {
        let known = match self.known_until.checked_sub(index) {
            Some(lost @ 1..) => format!(
                "{lost} entries are lost for certain: {} to {} were there, or committed, as a \
                 survivor knows",
                index + 1,
                self.known_until
            ),
            _ => "no survivor knows of an entry that it lacks".into(),
        };
        format!(
            "node {best} has the newest last entry: {index}, of term {term}; {known}; how many came \
             after it on the lost nodes alone, nobody can tell\n"
        )
    }
}

fn cells(found: &Result<Found>) -> [String; 4] {
    let none = || "-".to_owned();
    match found {
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().to_owned();
            [none(), none(), none(), format!("lost: {first}")]
        }
        Ok(found) if !found.data => [none(), none(), none(), "empty".into()],
        Ok(Found {
            error: Some(error), ..
        }) => [none(), none(), none(), error.clone()],
        Ok(found) => [
            found.last_term.to_string(),
            found.last_index.to_string(),
            found.commit_index.to_string(),
            match found.lost_until {
                0 => "whole".into(),
                until => format!("damaged: lost entries up to {until}"),
            },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(last_term: u64, last_index: u64, commit_index: u64) -> Result<Found> {
        Ok(Found {
            data: true,
            last_term,
            last_index,
            commit_index,
            ..Found::default()
        })
    }

    // The last entry decides, its term first, as in an election; whoever has nothing, or can't be read,
    // is none.
    #[test]
    fn the_newest_last_entry_wins() {
        let broken = Found {
            data: true,
            error: Some("no".into()),
            last_term: 9,
            ..Found::default()
        };
        let lost = Err(Error::Other("silent".into()));
        let all = [
            (1, found(2, 90, 80)),
            (2, found(3, 40, 40)),
            (3, found(3, 41, 12)),
            (4, found(3, 41, 40)),
            (5, Ok(broken)),
            (6, Ok(Found::default())),
            (7, lost),
        ];
        let survivors = Survivors::of(&all.into_iter().collect());
        assert_eq!(survivors.best().unwrap(), (3, (3, 41)));
        assert_eq!(survivors.whole, [1, 2, 3, 4]);
        let (best, (term, index)) = survivors.best().unwrap();
        let loss = survivors.loss(best, term, index);
        assert!(
            loss.contains("39 entries are lost for certain: 42 to 80"),
            "{loss}"
        );
        let nothing = Survivors::of(&[(1, Ok(Found::default()))].into_iter().collect());
        assert_eq!(nothing.best().unwrap_err().exit_code(), 2);
    }
}
