//! Holding the lock of a cluster on its hosts while something is done.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::{JoinError, JoinSet};

use super::Context;
use crate::error::{Error, Result};
use crate::hosts::inventory::Host;
use crate::hosts::lock::{self, Claim, Held, LASTS};
use crate::local::interrupt::interruption;
use crate::local::operator;
use crate::terminal::progress::Progress;
use crate::text::hex::hex;

/// How often a lock that someone else holds is tried again.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// How long a host may take to answer about its lock.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long the host may take where everyone begins, and one that did not answer before.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the others are waited for once a majority of the hosts is locked.
const GRACE: Duration = Duration::from_secs(1);

/// How long hosts may take to give the lock back at the end of work that takes machines away: nobody is to
/// wait for those.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

impl Context {
    /// Does `work` while this cluster is locked, within `limits.total`; Ctrl-C ends it. See
    /// [`Self::hold`].
    ///
    /// # Errors
    /// Someone else holds the lock; the message names them. Else what `work` fails with.
    pub async fn locked<T>(
        &self,
        verb: &str,
        progress: &Progress,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let total = self.cluster.limits.total;
        self.locked_within(verb, progress, total, work).await
    }

    /// Does `work` while this cluster is locked, within a limit of its own instead of `limits.total`.
    ///
    /// # Errors
    /// As [`Self::locked`].
    pub async fn locked_within<T>(
        &self,
        verb: &str,
        progress: &Progress,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.has_remote_hosts() {
            return within(verb, limit, work).await;
        }
        let bounded = async {
            tokio::select! {
                done = within(verb, limit, work) => done,
                () = interruption() => Err(Error::interrupted(verb)),
            }
        };
        self.hold(verb, progress, bounded).await
    }

    /// Does `work`, which has bounds of its own and sees to interruptions itself, while this cluster
    /// is locked on every host that answers, waiting for the lock at most `limits.lock_wait`. It is given
    /// back afterwards. Any two locks would meet on a host, as long as a majority answers. Hosts of this
    /// machine need no such lock. A host that answers and can't be locked is told through `progress`.
    ///
    /// # Errors
    /// As [`Self::locked`].
    pub async fn hold<T>(
        &self,
        verb: &str,
        progress: &Progress,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.has_remote_hosts() {
            return work.await;
        }
        let guarded = async |hosts: &[Host], claim: &Claim| {
            tokio::select! {
                done = work => done,
                error = renew_until_lost(hosts, claim) => Err(error),
            }
        };
        self.with_lock(verb, progress, DEADLINE, guarded).await
    }

    /// Does `work` while this cluster is locked, and lets it come to its own end: it goes on when the lock is
    /// lost.
    ///
    /// # Errors
    /// As [`Self::locked`].
    pub async fn locked_to_the_end<T>(
        &self,
        verb: &str,
        progress: &Progress,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let unguarded = async |hosts: &[Host], claim: &Claim| {
            let kept_on = async {
                loop {
                    renew_until_lost(hosts, claim).await;
                }
            };
            tokio::select! {
                done = work => done,
                () = kept_on => unreachable!("it has no end"),
            }
        };
        self.with_lock(verb, progress, LEAVE_WITHIN, unguarded)
            .await
    }

    /// Takes the lock, does `work`, and gives the lock back to hosts that answer within
    /// `leave_within`.
    async fn with_lock<T>(
        &self,
        verb: &str,
        progress: &Progress,
        leave_within: Duration,
        work: impl AsyncFnOnce(&[Host], &Claim) -> Result<T>,
    ) -> Result<T> {
        let hosts = self.inventory.hosts.iter();
        let hosts: Vec<Host> = hosts
            .filter(|host| host.layout.is_remote)
            .cloned()
            .collect();
        let claim = claim(&self.cluster.state_dir(), verb)?;
        let mut taking = Taking {
            cluster: &self.cluster.name,
            claim: &claim,
            give_up: Instant::now() + self.cluster.limits.lock_wait,
            taken: Vec::new(),
            asked: Vec::new(),
            running: JoinSet::new(),
            held: Arc::default(),
            progress,
        };
        let is_taken = tokio::select! {
            taken = taking.all(&hosts) => taken,
            () = interruption() => Err(Error::interrupted(verb)),
        };
        let done = match is_taken {
            Ok(()) => work(&taking.taken, &claim).await,
            Err(error) => Err(error),
        };
        taking.give_back(leave_within).await;
        done
    }

    /// Does `work`, but no longer than `limits.total`.
    ///
    /// # Errors
    /// It takes longer; else what `work` fails with.
    pub async fn within_total<T>(
        &self,
        verb: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        within(verb, self.cluster.limits.total, work).await
    }
}

async fn within<T>(
    verb: &str,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| {
        Err(Error::Other(format!(
            "`raftctl {verb}` is not done within {} (limits.total in cluster.yaml); what was done \
             stays done: run it again to go on",
            humantime::format_duration(limit)
        )))
    })
}

/// A lock that is being taken, host by host.
struct Taking<'a> {
    cluster: &'a str,
    claim: &'a Claim,
    give_up: Instant,
    /// The hosts that are locked.
    taken: Vec<Host>,
    /// The hosts that were asked all at once, but for those that are locked or have refused.
    asked: Vec<Option<Host>>,
    /// What is still asked of them, by their place.
    running: JoinSet<(usize, Result<bool>)>,
    /// How many answer that someone else has the lock: those are waited for to the end.
    held: Arc<AtomicUsize>,
    /// Where a host is told that answers and can't be locked.
    progress: &'a Progress,
}

impl Taking<'_> {
    /// Everyone begins with the first host that answers: whoever has that gets the others. Hosts
    /// that do not answer are no obstacle here; the verb tells about them.
    async fn all(&mut self, hosts: &[Host]) -> Result<()> {
        let mut rest = hosts.iter();
        let mut later: Vec<Host> = Vec::new();
        for host in rest.by_ref() {
            if self.one(host.clone(), PATIENCE).await? {
                self.taken.push(host.clone());
                break;
            }
            later.push(host.clone());
        }
        later.extend(rest.cloned());
        for (at, host) in later.iter().cloned().enumerate() {
            let taking = self.one(host, DEADLINE);
            self.running.spawn(async move { (at, taking.await) });
        }
        self.asked = later.into_iter().map(Some).collect();
        let majority = hosts.len() / 2 + 1;
        // Those that are slower go on meanwhile.
        loop {
            let grace = tokio::time::sleep(GRACE);
            tokio::select! {
                joined = self.running.join_next() => match joined {
                    Some(joined) => self.heard(joined)?,
                    None => return Ok(()),
                },
                () = grace, if self.taken.len() >= majority => {
                    if self.held.load(Ordering::Relaxed) == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// What became of one that was asked.
    fn heard(&mut self, joined: Result<(usize, Result<bool>), JoinError>) -> Result<()> {
        let (at, answer) = match joined {
            Ok(answer) => answer,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // Where it could not be reached, it was not locked.
        let host = self.asked[at].take();
        if answer? {
            self.taken.extend(host);
        }
        Ok(())
    }

    /// A host that does not answer any more loses it by itself. One that has not answered yet may
    /// have it all the same.
    async fn give_back(mut self, within: Duration) {
        while let Some(joined) = self.running.try_join_next() {
            // One that someone else holds is not ours to give back.
            let _ = self.heard(joined);
        }
        self.running.abort_all();
        let taken = self.taken.iter().map(|host| (host, within));
        let silent = self.asked.iter().flatten().map(|host| (host, PATIENCE));
        let leaving = taken.chain(silent);
        let leaving =
            leaving.map(|(host, deadline)| lock::leave(host, &self.claim.token, deadline));
        drop(join_all(leaving).await);
    }

    /// Takes one host's lock; whether it has it.
    fn one(
        &self,
        host: Host,
        deadline: Duration,
    ) -> impl Future<Output = Result<bool>> + Send + use<> {
        let (cluster, mut claim) = (self.cluster.to_owned(), self.claim.clone());
        let (give_up, waiting) = (self.give_up, Arc::clone(&self.held));
        let progress = self.progress.clone();
        async move {
            let mut is_waiting = false;
            loop {
                let held = match lock::take(&host, &claim, deadline).await {
                    Ok(Some(held)) => held,
                    other => {
                        if is_waiting {
                            waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                        return Ok(is_taken(other, &progress));
                    }
                };
                if is_dead(&held, &claim) {
                    claim.dead_token = held.token;
                } else if Instant::now() > give_up {
                    return Err(refused(&cluster, &host, &held));
                } else {
                    if !is_waiting {
                        waiting.fetch_add(1, Ordering::Relaxed);
                        is_waiting = true;
                    }
                    tokio::time::sleep(TRY_EVERY).await;
                }
            }
        }
    }
}

/// Whether a host has the lock now. One that answers and can't have it, as with a full disk, is no
/// obstacle either, since it must be possible to mend it; but whoever trusts in the lock is told.
fn is_taken(answer: Result<Option<Held>>, progress: &Progress) -> bool {
    match answer {
        Ok(_) => true,
        Err(Error::Transport(_)) => false,
        Err(error) => {
            progress.note(&format!("going on without a lock there: {error}"));
            false
        }
    }
}

fn refused(cluster: &str, host: &Host, held: &Held) -> Error {
    Error::Other(format!(
        "cluster {cluster} is being changed by {} (locked on {}); wait until it is done \
         (--lock-wait 5m does), and run this again; a lock that is left over ends by itself in {} s",
        held.holder,
        host.name(),
        held.left_seconds
    ))
}

/// Makes the lock last; ends only when it is lost: someone else has it, or may have had it while this
/// machine slept.
async fn renew_until_lost(hosts: &[Host], claim: &Claim) -> Error {
    loop {
        tokio::time::sleep(LASTS / 3).await;
        let keeping = hosts.iter().map(|host| lock::renew(host, claim, DEADLINE));
        // A host that does not answer tells nothing.
        if join_all(keeping)
            .await
            .into_iter()
            .flatten()
            .any(|is_kept| !is_kept)
        {
            return Error::Other(
                "the lock was lost: this machine was asleep for too long, and someone else may have \
                 changed the cluster meanwhile; look at `raftctl status`. What was left paused or \
                 killed is resumed and started by `raftctl up`, what was cut off is healed by \
                 `raftctl heal`; then run this again"
                    .into(),
            );
        }
    }
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    // Few, and each is bounded by its deadline.
    let mut results = Vec::new();
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

/// Who this process is: `<operator>/<where>/<process>`, where the operator is a number of this folder's
/// own, which copies of the folder have as well: so they can't tell whose process is gone.
fn claim(state_dir: &Path, verb: &str) -> Result<Claim> {
    let path = state_dir.join("operator");
    let operator = match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() == 16 => text.trim().to_owned(),
        _ => {
            let fresh = format!("{:016x}", rand::random::<u64>());
            std::fs::create_dir_all(state_dir)
                .and_then(|()| std::fs::write(&path, &fresh))
                .map_err(|error| Error::file("write", &path, &error))?;
            fresh
        }
    };
    let user = operator::name();
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    let process = std::process::id();
    Ok(Claim {
        token: format!("{operator}/{}/{process}", process_space()),
        dead_token: String::new(),
        holder: format!("{user}@{machine}, `raftctl {verb}`, process {process}, since {now}"),
    })
}

/// Tells this run of this machine, or of this container, from all others: within it a process that is
/// not there is gone.
fn process_space() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digest = Sha256::digest(format!("{boot}{}", space.display()));
    hex(&digest[..8])
}

/// Whether a lock was left by a raftctl of the same folder, on this machine, that has ended. Of any
/// other it can't be told: its lock ends by itself.
fn is_dead(held: &Held, own: &Claim) -> bool {
    let (Some((place, process)), Some((own_place, _))) =
        (held.token.rsplit_once('/'), own.token.rsplit_once('/'))
    else {
        return false;
    };
    place == own_place
        && !Path::new("/proc").join(process).exists()
        && Path::new("/proc/self").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A process that is gone leaves its lock to whoever comes next from the same folder, but only
    // where its number means the same process: not in a copy of the folder on another machine.
    #[test]
    fn a_copy_of_the_folder_takes_no_lock_away() {
        let folder = tempfile::tempdir().unwrap();
        let own = claim(folder.path(), "up").unwrap();
        let held = |token: &str| Held {
            token: token.to_owned(),
            holder: "someone".into(),
            left_seconds: 60,
        };
        let (place, process) = own.token.rsplit_once('/').unwrap();
        let (operator, _) = place.split_once('/').unwrap();
        assert_eq!(process, std::process::id().to_string());
        assert!(!is_dead(&held(&own.token), &own));
        // No process has a number of more than 22 bits.
        assert!(is_dead(&held(&format!("{place}/99999999")), &own));
        assert!(!is_dead(
            &held(&format!("{operator}/0123456789abcdef/99999999")),
            &own
        ));
        assert!(!is_dead(&held("0123456789abcdef/99999999"), &own));
    }
}
