//! The host keys of new machines, as their guest agent has written them down at Google.
//!
//! At the first contact SSH takes what it is shown. Google knows better, by another way: where the
//! guest attributes hold keys, a machine that has shown another one is not worked on, and its own keys
//! are the known ones from then on: ssh refuses any other, whatever raftctl is to do there. An image
//! without the agent, or a policy against guest attributes, leaves nothing to compare with.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::gcloud::{Gcloud, HostKey, Token};
use super::login;
use super::machines::Machine;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::local::state_files;
use crate::transport::ssh::login::known_hosts;
use crate::transport::ssh::{Login, hang_up};

/// Machines are asked about this many at a time.
const AT_ONCE: usize = 8;

/// What [`strangers`] asks with, sought while something else is waited for: gcloud takes seconds for it.
pub struct Asking(JoinSet<Option<Token>>);

impl Asking {
    /// Begins, where there are machines to ask about. Needs a runtime.
    #[must_use]
    pub fn begin(cluster: &Cluster, is_needed: bool) -> Asking {
        let mut seeking = JoinSet::new();
        if is_needed {
            // Nobody waits for it yet; and what fails is told where the machines themselves are asked about.
            let gcloud = Gcloud::of(cluster).reporting_to(|_| ());
            seeking.spawn(async move { gcloud.token().await.ok() });
        }
        Asking(seeking)
    }

    async fn token(mut self) -> Option<Token> {
        self.0.join_next().await?.ok()?
    }
}

/// Those of some machines, by their names at Google, that have shown another key than they have. Only their
/// own keys are known to SSH from then on.
///
/// # Errors
/// Nothing is known of the machines, or the file of known hosts can't be written.
pub async fn strangers(
    cluster: &Cluster,
    instances: &BTreeSet<String>,
    asking: Asking,
) -> Result<BTreeMap<String, Error>> {
    if instances.is_empty() {
        return Ok(BTreeMap::new());
    }
    let token = asking.token().await;
    let machines = super::machines(cluster)?;
    let logins = login::logins(cluster, &machines, &super::key_file(cluster))?;
    let gcloud = Gcloud::of(cluster);
    let path = known_hosts(&cluster.state_dir());
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    // Who has shown none yet has shown no other one.
    let has_shown = |machine: &Machine| keys_of(&shown, &machine.instance).next().is_some();
    let machines = machines.nodes.into_values();
    let mut waiting =
        machines.filter(|machine| instances.contains(&machine.instance) && has_shown(machine));
    let mut known = shown.clone();
    let mut asking = JoinSet::new();
    let ask = |asking: &mut JoinSet<_>, machine: Machine| {
        let (gcloud, token) = (gcloud.clone(), token.clone());
        asking.spawn(async move {
            // What Google does not tell can't be compared with.
            let keys = gcloud.host_keys(&machine, token.as_ref()).await;
            let keys = keys.unwrap_or_default();
            (machine, keys)
        });
    };
    for machine in waiting.by_ref().take(AT_ONCE) {
        ask(&mut asking, machine);
    }
    let mut strangers = BTreeMap::new();
    while let Some(Ok((machine, keys))) = asking.join_next().await {
        if let Some(machine) = waiting.next() {
            ask(&mut asking, machine);
        }
        if is_stranger(&shown, &machine.instance, &keys) {
            known = corrected(&known, &machine.instance, &keys);
            let error = Error::Cloud(refusal(&machine, gcloud.project()));
            strangers.insert(machine.instance, error);
        }
    }
    if !strangers.is_empty() {
        state_files::replace(&path, &known)?;
        let is_stranger = |login: &&Login| strangers.contains_key(&login.host);
        for login in logins.iter().map(|(_, login)| login).filter(is_stranger) {
            // Whoever comes next is to see the key, and not to share this connection.
            hang_up(login).await;
        }
    }
    Ok(strangers)
}

/// What is said of a stranger.
fn refusal(machine: &Machine, project: &str) -> String {
    let Machine { instance, zone, .. } = machine;
    format!(
        "{instance} has shown another host key than the one that its guest agent has written down at Google: somebody \
         may stand between, so it is not worked on; ssh takes none but Google's from now on. `gcloud compute instances \
         get-guest-attributes {instance} --zone={zone} --project={project} --query-path=hostkeys/` shows them; run \
         `raftctl up` again, which goes on there once the machine shows one of them"
    )
}

/// Lines of known hosts, where a machine has these keys and no others. Pure.
fn corrected(known: &str, instance: &str, keys: &[HostKey]) -> String {
    let is_other = |line: &&str| line.split_whitespace().next() != Some(instance);
    let others = known.lines().filter(is_other).map(String::from);
    let own = keys
        .iter()
        .map(|key| format!("{instance} {} {}", key.kind, key.value));
    others.chain(own).map(|line| line + "\n").collect()
}

/// The keys of a machine in lines of known hosts, each with its kind.
fn keys_of<'a>(known: &'a str, instance: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    known.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        (words.next()? == instance).then_some((words.next()?, words.next()?))
    })
}

/// Whether `shown`, lines of known hosts, holds keys of a machine of which Google has others of the same
/// kind. Pure.
fn is_stranger(shown: &str, instance: &str, keys: &[HostKey]) -> bool {
    keys_of(shown, instance).any(|(kind, value)| {
        let mut known = keys.iter().filter(|key| key.kind == kind).peekable();
        known.peek().is_some() && !known.any(|key| key.value == value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // A key that Google has another one for is a stranger's; one that it does not tell of is taken, as
    // everywhere else; other machines' lines say nothing.
    #[test]
    fn a_key_is_compared_with_what_google_knows() {
        let key = |kind: &str, value: &str| HostKey {
            kind: kind.into(),
            value: value.into(),
        };
        let shown = "raft-demo-n1 ssh-ed25519 AAAA\nraft-demo-n10 ssh-ed25519 BBBB\n";
        let right = [key("ssh-rsa", "CCCC"), key("ssh-ed25519", "AAAA")];
        assert!(!is_stranger(shown, "raft-demo-n1", &right));
        assert!(is_stranger(shown, "raft-demo-n10", &right));
        assert!(!is_stranger(shown, "raft-demo-n10", &right[..1]));
        assert!(!is_stranger(shown, "raft-demo-n1", &[]));
        assert!(!is_stranger(shown, "raft-demo-n2", &right));
    }

    // A stranger's key is forgotten for Google's: whatever comes next, ssh refuses the one and takes the
    // others; what is known of other machines stays. The operator is told where to look, in whole.
    #[test]
    fn a_stranger_s_key_is_not_kept() {
        let key = |kind: &str, value: &str| HostKey {
            kind: kind.into(),
            value: value.into(),
        };
        let right = [key("ssh-rsa", "CCCC"), key("ssh-ed25519", "AAAA")];
        let known = "raft-demo-n1 ssh-ed25519 EVIL\nraft-demo-n10 ssh-ed25519 BBBB\n";
        let corrected = corrected(known, "raft-demo-n1", &right);
        assert_eq!(
            corrected,
            "raft-demo-n10 ssh-ed25519 BBBB\nraft-demo-n1 ssh-rsa CCCC\nraft-demo-n1 ssh-ed25519 AAAA\n"
        );
        assert!(!is_stranger(&corrected, "raft-demo-n1", &right));
        let machine = Machine {
            instance: "raft-demo-n1".into(),
            zone: "us-central1-a".into(),
            region: "us-central1".into(),
            internal_ip: "10.80.0.2".into(),
            external_ip: None,
            data_disk: "raft-demo-n1-data".into(),
        };
        let refusal = refusal(&machine, "my-project");
        assert!(
            refusal.contains("raft-demo-n1 --zone=us-central1-a --project=my-project --query-path"),
            "{refusal}"
        );
    }
}
