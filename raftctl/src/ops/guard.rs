//! Holding the lock of a cluster on its hosts while something is done.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Context;
use crate::error::{Error, Result};
use crate::hosts::guard::{self, Claim, Held, LASTS};
use crate::hosts::inventory::Host;

/// How often a lock that someone else holds is tried again.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// How long a host may take to answer about its lock.
const DEADLINE: Duration = Duration::from_secs(10);

/// The same at the end of work that takes machines away, for which nobody is to wait.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

impl Context {
    /// Does `work` while this cluster is locked on every host that answers, waiting for the lock at
    /// most `wait`. It is given back afterwards, also when `work` fails or the operator interrupts
    /// it, or it takes longer than `limits.total`. Hosts of this machine need no such lock.
    ///
    /// # Errors
    /// Someone else holds it; the message names them. Else what `work` fails with.
    pub async fn locked<T>(
        &self,
        verb: &str,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let total = self.cluster.limits.total;
        self.locked_within(verb, wait, total, work).await
    }

    /// The same with another limit than `limits.total`.
    ///
    /// # Errors
    /// As [`Self::locked`].
    pub async fn locked_within<T>(
        &self,
        verb: &str,
        wait: Duration,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.has_remote_hosts() {
            return work.await;
        }
        let guarded = async |hosts: &[Host], claim: &Claim| {
            tokio::select! {
                done = work => done,
                () = tokio::time::sleep(limit) => Err(Error::Other(format!(
                    "`raftctl {verb}` is not done within {} (limits.total in cluster.yaml); what was \
                     done stays done: run it again to go on",
                    humantime::format_duration(limit)
                ))),
                error = keep(hosts, claim) => Err(error),
                () = interrupted() => Err(Error::interrupted(verb)),
            }
        };
        self.hold(verb, wait, DEADLINE, guarded).await
    }

    /// The same for work that must come to its own end: it has no limit, sees to interruptions
    /// itself, and goes on when the lock is lost.
    ///
    /// # Errors
    /// As [`Self::locked`].
    pub async fn locked_to_the_end<T>(
        &self,
        verb: &str,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !self.has_remote_hosts() {
            return work.await;
        }
        let unguarded = async |hosts: &[Host], claim: &Claim| {
            let kept_on = async {
                loop {
                    keep(hosts, claim).await;
                }
            };
            tokio::select! {
                done = work => done,
                () = kept_on => unreachable!("it has no end"),
            }
        };
        self.hold(verb, wait, LEAVE_WITHIN, unguarded).await
    }

    /// Takes the lock, does `work`, and gives the lock back to hosts that answer within
    /// `leave_within`.
    async fn hold<T>(
        &self,
        verb: &str,
        wait: Duration,
        leave_within: Duration,
        work: impl AsyncFnOnce(&[Host], &Claim) -> Result<T>,
    ) -> Result<T> {
        let hosts = self
            .inventory
            .hosts
            .iter()
            .filter(|host| host.layout.is_remote);
        let hosts = answering(hosts.cloned().collect()).await;
        let claim = claim(&self.cluster.state_dir(), verb)?;
        let taken = tokio::select! {
            taken = self.take_all(&hosts, &claim, wait) => taken,
            () = interrupted() => Err(Error::interrupted(verb)),
        };
        let done = match taken {
            Ok(()) => work(&hosts, &claim).await,
            Err(error) => Err(error),
        };
        // A host that does not answer any more loses it by itself.
        let leaving = hosts
            .iter()
            .map(|host| guard::leave(host, &claim.token, leave_within));
        drop(join_all(leaving).await);
        done
    }

    /// Everyone begins with the first host that answers: whoever has that gets the others.
    async fn take_all(&self, hosts: &[Host], claim: &Claim, wait: Duration) -> Result<()> {
        let give_up = Instant::now() + wait;
        let mut rest = hosts;
        while let [first, others @ ..] = rest {
            rest = others;
            if self.take_one(first, claim.clone(), give_up).await? {
                break;
            }
        }
        let taking = rest
            .iter()
            .map(|host| self.take_one(host, claim.clone(), give_up));
        join_all(taking)
            .await
            .into_iter()
            .try_for_each(|taken| taken.map(drop))
    }

    /// Whether the host answers. One that does not is no obstacle here; the verb tells about it.
    async fn take_one(&self, host: &Host, mut claim: Claim, give_up: Instant) -> Result<bool> {
        loop {
            let held = match guard::take(host, &claim, DEADLINE).await {
                Ok(None) => return Ok(true),
                Ok(Some(held)) => held,
                Err(_) => return Ok(false),
            };
            if is_dead(&held, &claim) {
                claim.dead_token = held.token;
            } else if Instant::now() > give_up {
                return Err(self.refused(host, &held));
            } else {
                tokio::time::sleep(TRY_EVERY).await;
            }
        }
    }

    fn refused(&self, host: &Host, held: &Held) -> Error {
        Error::Other(format!(
            "cluster {} is being changed by {} (locked on {}); wait until it is done, and run this \
             again; a lock that is left over ends by itself in {} s",
            self.cluster.name,
            held.holder,
            host.name(),
            held.left_seconds
        ))
    }
}

/// Those of the hosts that answer, in the same order. They are asked all at once, so that several
/// dead ones take no longer than one.
async fn answering(hosts: Vec<Host>) -> Vec<Host> {
    let asking = hosts.into_iter().enumerate().map(|(at, host)| async move {
        let answer = guard::show(&host, DEADLINE).await;
        answer.is_ok().then_some((at, host))
    });
    let mut found: Vec<_> = join_all(asking).await.into_iter().flatten().collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, host)| host).collect()
}

/// Makes the lock last; ends only when someone else has taken it.
async fn keep(hosts: &[Host], claim: &Claim) -> Error {
    loop {
        tokio::time::sleep(LASTS / 3).await;
        let taking = hosts.iter().map(|host| guard::take(host, claim, DEADLINE));
        let mut taken = join_all(taking).await.into_iter().flatten().flatten();
        if let Some(held) = taken.next() {
            return Error::Other(format!(
                "the lock was lost to {}: this machine was asleep for too long; run this again",
                held.holder
            ));
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

/// Waits for Ctrl-C.
pub async fn interrupted() {
    // Where the signal can't be listened to, it ends raftctl in its own way, and the lock ends by
    // itself.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// Who this process is: `<operator>/<process>`, where the operator is a number of this folder's own.
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
    let user = std::env::var("USER").unwrap_or_else(|_| "someone".into());
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    let process = std::process::id();
    Ok(Claim {
        token: format!("{operator}/{process}"),
        dead_token: String::new(),
        holder: format!("{user}@{machine}, `raftctl {verb}`, process {process}, since {now}"),
    })
}

/// Whether a lock was left by a raftctl of the same folder that has ended.
fn is_dead(held: &Held, own: &Claim) -> bool {
    let (Some((operator, process)), Some((own_operator, _))) =
        (held.token.split_once('/'), own.token.split_once('/'))
    else {
        return false;
    };
    operator == own_operator
        && !Path::new("/proc").join(process).exists()
        && Path::new("/proc/self").exists()
}
