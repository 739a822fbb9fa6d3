//! Which release a cluster goes back to. Pure.
//!
//! It is decided once, from what all hosts have, and is the same for all: an upgrade may have come to
//! some of them only, and so may an earlier try to go back. A host that went back has the same
//! release as its previous one; that is how the others are known to be on their way to it.

use std::collections::BTreeMap;

use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::hosts::control::{HostFacts, Setting};

/// The name of the release that a cluster goes back to, or went back to already.
///
/// # Errors
/// There is none, or the hosts do not tell which it is.
pub fn target(hosts: &BTreeMap<NodeId, HostFacts>) -> Result<String> {
    let settings = || hosts.values().map(|host| &host.setting);
    let links = |setting: &'_ Setting| setting.release.clone().zip(setting.previous.clone());
    // Whoever has what others had before was not upgraded when they were: it is there already.
    let is_behind = |current: &String| {
        let mut others = settings().filter_map(|setting| setting.previous.as_ref());
        others.any(|previous| previous == current)
    };
    let ahead = settings().filter_map(links);
    let ahead = ahead.filter(|(current, _)| !is_behind(current));
    let went_back = settings().filter_map(links);
    let went_back = went_back.filter(|(current, previous)| current == previous);
    let found = most(ahead.map(|(_, previous)| previous))
        .or_else(|| most(went_back.map(|(_, previous)| previous)));
    found.ok_or_else(|| unclear(hosts))
}

/// What most say; `None` where as many say something else.
fn most(votes: impl Iterator<Item = String>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    votes.for_each(|vote| *counts.entry(vote).or_default() += 1);
    let most = *counts.values().max()?;
    let mut first = counts.into_iter().filter(|(_, count)| *count == most);
    let (release, _) = first.next()?;
    first.next().is_none().then_some(release)
}

fn unclear(hosts: &BTreeMap<NodeId, HostFacts>) -> Error {
    if hosts.values().all(|host| host.setting.previous.is_none()) {
        return Error::Usage(
            "no host has a release from before; `raftctl upgrade` ships the binary of cluster.yaml"
                .into(),
        );
    }
    let mut text = "the hosts do not tell which release was there before: name the binary that is \
                    wanted in cluster.yaml (`binary: PATH`), and run `raftctl upgrade`"
        .to_owned();
    for (id, host) in hosts {
        let name = |release: &Option<String>| release.clone().unwrap_or_else(|| "none".into());
        let (now, before) = (&host.setting.release, &host.setting.previous);
        text.push_str(&format!(
            "\n  node {id}: {}, before that {}",
            name(now),
            name(before)
        ));
    }
    Error::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts by what they have and had, as "B<A": "-" is none.
    fn hosts(links: &[&str]) -> BTreeMap<NodeId, HostFacts> {
        let release = |name: &str| (name != "-").then(|| name.to_owned());
        let one = |(id, links): (NodeId, &&str)| {
            let (current, previous) = links.split_once('<').unwrap();
            let mut host = HostFacts::blank(id);
            host.setting.release = release(current);
            host.setting.previous = release(previous);
            (id, host)
        };
        (1..).zip(links).map(one).collect()
    }

    // However far an upgrade or a way back has come, all hosts go to one release, the one before the
    // upgrade; and there they stay.
    #[test]
    fn all_hosts_go_back_to_one_release() {
        for (links, wanted) in [
            (["B<A", "B<A", "B<A"], "A"),
            // The last upgrade has not come to the third, the one before has.
            (["B<A", "B<A", "A<Z"], "A"),
            (["C<B", "B<A", "B<A"], "B"),
            (["B<A", "A<-", "A<-"], "A"),
            // The third has missed one, and is the only one that had that before.
            (["C<B", "C<B", "C<A"], "B"),
            (["C<B", "C<B", "A<Z"], "B"),
            // On the way, there, and there without a host that was not there.
            (["A<A", "B<A", "B<A"], "A"),
            (["A<A", "A<A", "A<A"], "A"),
            (["A<A", "A<A", "A<Z"], "A"),
            (["A<A", "A<A", "B<A"], "A"),
            // Forward again, after a way back.
            (["B<A", "B<A", "A<A"], "A"),
            (["-<-", "B<A", "B<A"], "A"),
        ] {
            assert_eq!(target(&hosts(&links)).unwrap(), wanted, "{links:?}");
        }
    }

    // Where there is none, or no telling which, nothing is changed, and what helps is said.
    #[test]
    fn what_is_unclear_is_left_to_a_person() {
        let none = target(&hosts(&["A<-", "-<-"])).unwrap_err();
        assert!(none.to_string().contains("`raftctl upgrade`"), "{none}");
        for links in [["A<B", "B<A"], ["C<B", "D<A"]] {
            let error = target(&hosts(&links)).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(
                text.contains("binary: PATH") && text.contains("node 2: "),
                "{text}"
            );
        }
    }
}
