//! Keys and certificates: made, renewed and changed while the cluster runs.
//!
//! A node makes its key itself and asks; this machine signs; what comes back is public. Nodes follow their
//! files, so nothing is restarted. Whoever starts a node makes sure that it has a good certificate first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use raftkv::admin::TlsState;

use super::Context;
use crate::client::security::{self, Security};
use crate::cluster::outcomes::Outcomes;
use crate::cluster::{NodeId, Tls, list};
use crate::error::{Error, Result};
use crate::hosts::certificates::{self, Asked};
use crate::hosts::control::NodeFacts;
use crate::local::authority::{self, Authority, Flaw, NOT_HERE, NodeNames};
use crate::local::certificate::have_one_in_common;
use crate::plan::{Certificates, Facts};
use crate::scripts::certificates::{Ask, Install};

/// How long nodes may take to use new files: they look once a second, and streams between them follow.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What nodes are to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What they lack: a certificate where there is none, or none that is good for a while.
    Missing,
    /// A new one, whatever they have.
    Anew,
    /// Whom to trust, and no certificate.
    Trust,
}

/// What a node has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Why it was given another certificate; `None`: it was not.
    pub why: Option<String>,
    /// Checksum of what it is to use, as nodes tell it.
    pub files_crc32c: u32,
}

impl Context {
    /// Lets connections to the nodes be made with TLS, where they speak it.
    pub fn note_security(&self) {
        let tls = self.cluster.tls;
        if !tls.needs_certificates() {
            return;
        }
        let security = Arc::new(Security {
            folder: authority::folder(&self.cluster),
            name: self.cluster.dns_name(),
            clear_too: tls == Tls::Both,
        });
        let members = self.inventory.members.iter();
        let addresses =
            members.flat_map(|member| [&*member.admin_address, &*member.client_address]);
        security::secure(addresses, &security);
    }

    /// Makes raftctl's own certificate anew in time, where the authority is. Not while that is changed: nodes
    /// may not know the next one yet.
    pub(super) fn keep_own_certificate(&self) {
        let authority = Authority::of(&self.cluster);
        let may = self.cluster.tls.needs_certificates() && authority.is_here();
        if may
            && authority
                .is_changing()
                .is_ok_and(|is_changing| !is_changing)
        {
            // Whoever connects is told what is wrong with it.
            authority.ensure_admin().ok();
        }
    }

    /// Refuses what could not be seen through to its end, because the nodes would not speak to raftctl.
    ///
    /// # Errors
    /// As said.
    pub(super) fn refuse_stranger(&self, facts: &Facts) -> Result<()> {
        self.refuse_unsaid(facts)?;
        let authority = Authority::of(&self.cluster);
        let is_stranger = self.cluster.tls.needs_certificates()
            && authority.is_elsewhere(facts.knows_authority())
            && !authority.lets_connect();
        self.refuse_another_authority(&authority, facts)?;
        match is_stranger {
            false => Ok(()),
            true => Err(Error::Usage(
                "the nodes have certificates, and the authority that made them is not in this folder, nor a certificate \
                 for raftctl: run this where the cluster was brought up first, or copy .raftctl/<cluster>/tls/ from \
                 there, or have one issued there, and take it with `raftctl certs use`"
                    .into(),
            )),
        }
    }

    /// Refuses to change what nodes speak because of what the file does not say: it was written when that meant clear
    /// text, or for another cluster.
    fn refuse_unsaid(&self, facts: &Facts) -> Result<()> {
        let is_meant = self.cluster.tls_line.is_some() || !self.cluster.tls.needs_certificates();
        let clear = facts.clear_text();
        match is_meant || clear.is_empty() {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "{} in clear text so far, and cluster.yaml does not say `tls`, which means `on` here: write `tls: off` to \
                 go on so, or go over while clients go on: `tls: both`, `raftctl up`, `tls: on`, `raftctl up`",
                match clear.as_slice() {
                    [one] => format!("node {one} speaks"),
                    all => format!("{} speak", list(all)),
                }
            ))),
        }
    }

    /// Refuses to put the authority of this folder in the place of one that somebody else has made: nodes that have
    /// changed already would not speak to the others.
    fn refuse_another_authority(&self, authority: &Authority, facts: &Facts) -> Result<()> {
        if !self.cluster.tls.needs_certificates() || !authority.is_here() {
            return Ok(());
        }
        let own = authority.trusted()?;
        let mut told = facts.told_trust().peekable();
        match told.peek().is_none() || told.any(|trusted| have_one_in_common(trusted, &own)) {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "the nodes trust another authority than this folder's ({}): somebody else has brought the cluster up; move \
                 that folder away, and have a certificate issued where the other one is, for `raftctl certs use`; or \
                 have both trusted for a while, if `tls_ca` has changed",
                authority::folder(&self.cluster).display()
            ))),
        }
    }

    /// Refuses steps for which certificates are missing that nobody here can make.
    ///
    /// # Errors
    /// As said.
    pub(super) fn refuse_unsigned(&self, facts: &Facts, wanted: &Certificates) -> Result<()> {
        self.refuse_stranger(facts)?;
        let authority = Authority::of(&self.cluster);
        let missing = wanted.due.iter().next();
        match missing.filter(|_| authority.is_elsewhere(facts.knows_authority())) {
            None => Ok(()),
            Some((id, why)) => Err(Error::Usage(format!(
                "node {id} needs a certificate ({why}), and {} is not here; {NOT_HERE}",
                authority.key_path().display()
            ))),
        }
    }

    /// What `up` would do about certificates, as far as it can be seen without asking nodes for anything.
    pub(super) fn certificates(&self, facts: &Facts) -> Certificates {
        if !self.cluster.tls.needs_certificates() {
            return Certificates::default();
        }
        let authority = Authority::of(&self.cluster);
        let is_to_be_made =
            !authority.is_here() && !authority.is_elsewhere(facts.knows_authority());
        let trusted = authority
            .is_here()
            .then(|| authority.trusted().ok())
            .flatten();
        let cluster_id = self.identity.known().filter(|_| !authority.is_outside());
        let cluster_id = cluster_id.map(|id| id.to_string());
        let why = |node: &NodeFacts| {
            let names = self.node_names(node.id, cluster_id.clone());
            match authority.node_flaw(&node.certificate, None, &names, &node.trusted) {
                Some(_) if node.certificate.is_empty() => Some("none yet".to_owned()),
                Some(flaw) if flaw.is_grave || authority.has_one_for(&names) => Some(flaw.why),
                Some(_) => None, // Nobody here could do anything about it, and there is time.
                None => {
                    let is_known = |trusted: &String| *trusted == node.trusted;
                    let changed = !trusted.as_ref().is_none_or(is_known);
                    changed.then(|| "whom to trust has changed".to_owned())
                }
            }
        };
        let nodes = facts.hosts.values().flat_map(|host| &host.nodes);
        let seen = nodes.filter(|node| node.is_seen());
        Certificates {
            makes_authority: is_to_be_made.then(|| authority.key_path().display().to_string()),
            due: seen
                .filter_map(|node| Some((node.id, why(node)?)))
                .collect(),
        }
    }

    /// Gives nodes what they are to have, whether they run or not; `program` is where raft-node lies on this
    /// machine.
    pub async fn certify(
        &self,
        ids: &[NodeId],
        program: &Path,
        wanted: Wanted,
    ) -> Outcomes<Certified> {
        let all = |error: Error| ids.iter().map(|id| (*id, Err(error.clone()))).collect();
        let cluster_id = match self.origin().await.map(|origin| origin.0) {
            Ok(id) => id.map(|id| id.to_string()),
            Err(error) => return all(error),
        };
        let authority = Authority::of(&self.cluster);
        // Before a cluster begins its id may be another one each time, and somebody else takes a while to sign.
        let cluster_id = cluster_id.filter(|_| !authority.is_outside());
        let asked = self.ask_for_certificates(ids, program, cluster_id.as_deref());
        let asked = asked.await;
        let is_elsewhere = authority.is_elsewhere(self.identity.knows_authority());
        if let Err(error) = ready(&authority, wanted, is_elsewhere) {
            return all(error);
        }
        let mut outcomes = Outcomes::new();
        let mut installs: BTreeMap<NodeId, (Certified, Install)> = BTreeMap::new();
        for (id, asked) in asked {
            let names = self.node_names(id, cluster_id.clone());
            let made = asked.and_then(|asked| self.answer(&authority, &asked, &names, wanted));
            match made {
                Ok(made) => drop(installs.insert(id, made)),
                Err(error) => drop(outcomes.insert(id, Err(error))),
            }
        }
        let ids: Vec<NodeId> = installs.keys().copied().collect();
        let deadline = self.cluster.limits.step;
        let installed = self.on_hosts(&ids, |host, here| {
            let made = here.iter().filter_map(|id| installs.get(id).cloned());
            let made: Vec<(Certified, Install)> = made.collect();
            async move {
                let is_new = |install: &&Install| {
                    !install.trusted.is_empty() || !install.certificate.is_empty()
                };
                let all = made.iter().map(|(_, install)| install);
                let new: Vec<Install> = all.filter(is_new).cloned().collect();
                if !new.is_empty() {
                    certificates::install(&host, &new, deadline).await?;
                }
                let done = made.into_iter();
                Ok(done
                    .map(|(done, install)| (install.layout.id, done))
                    .collect())
            }
        });
        outcomes.extend(installed.await);
        outcomes
    }

    async fn ask_for_certificates(
        &self,
        ids: &[NodeId],
        program: &Path,
        cluster_id: Option<&str>,
    ) -> Outcomes<Asked> {
        let deadline = self.cluster.limits.step;
        self.on_hosts(ids, |host, here| {
            let executable = host.layout.executable(program);
            let cluster = self.cluster.name.clone();
            let cluster_id = cluster_id.unwrap_or_default().to_owned();
            async move {
                let ask = Ask {
                    executable: &executable,
                    cluster: &cluster,
                    cluster_id: &cluster_id,
                };
                certificates::request(&host, &here, &ask, deadline).await
            }
        })
        .await
    }

    /// What a node is given for what it asks. What it has already is not sent again.
    fn answer(
        &self,
        authority: &Authority,
        asked: &Asked,
        names: &NodeNames,
        wanted: Wanted,
    ) -> Result<(Certified, Install)> {
        let (certificate, request) = (&asked.certificate, Some(&*asked.request));
        let flaw = match wanted {
            Wanted::Trust => None,
            Wanted::Anew => Some(Flaw::grave("as asked for")),
            Wanted::Missing => authority.node_flaw(certificate, request, names, &asked.trusted),
        };
        let signed = flaw.as_ref().map(|_| authority.sign(&asked.request, names));
        let (certificate, flaw) = match (signed, flaw) {
            // What ends soon is good until then: whoever signs has time.
            (Some(Err(_)), Some(flaw)) if !flaw.is_grave => (String::new(), None),
            (Some(signed), flaw) => (signed?, flaw),
            (None, flaw) => (String::new(), flaw),
        };
        let trusted = match authority.is_here() {
            true => authority.trusted()?,
            false => asked.trusted.clone(),
        };
        let in_use = if certificate.is_empty() {
            &asked.certificate
        } else {
            &certificate
        };
        let crc = crc32c::crc32c(trusted.as_bytes());
        let certified = Certified {
            why: flaw.map(|flaw| flaw.why),
            files_crc32c: crc32c::crc32c_append(crc, in_use.as_bytes()),
        };
        let is_known = trusted == asked.trusted;
        let install = Install {
            layout: self.inventory.host_of(names.id).layout.node(names.id),
            trusted: if is_known { String::new() } else { trusted },
            certificate,
        };
        Ok((certified, install))
    }

    fn node_names(&self, id: NodeId, cluster_id: Option<String>) -> NodeNames {
        let member = self.inventory.member(id);
        let host = member.client_address.rsplit_once(':').map(|(host, _)| host);
        // An address is no name: it may be another one tomorrow.
        let is_name = |host: &&str| {
            let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            !is_address && host.bytes().all(plain)
        };
        let host = host.filter(|_| member.is_address_known).filter(is_name);
        NodeNames {
            id,
            cluster_id,
            hosts: host.map(str::to_owned).into_iter().collect(),
        }
    }

    /// Waits until nodes that run use what they were given.
    ///
    /// # Errors
    /// One does not take it, in time; with what it says.
    pub async fn await_certificates(&self, given: &BTreeMap<NodeId, Certified>) -> Result<()> {
        let give_up = Instant::now() + TAKEN_WITHIN;
        let ids: Vec<NodeId> = given.keys().copied().collect();
        loop {
            let replies = self.replies(&ids).await;
            let mut late = Vec::new();
            for (id, given) in given {
                let why = match replies.get(id) {
                    Some(Ok(reply)) => match &reply.tls {
                        None => None, // It runs without, and needs none.
                        Some(tls) if tls.files_crc32c == given.files_crc32c => None,
                        Some(tls) if tls.trouble.is_empty() => {
                            Some("it has not used it yet".into())
                        }
                        Some(tls) => Some(tls.trouble.clone()),
                    },
                    // Its process tells whether it matters.
                    Some(Err(error)) => Some(error.to_string()),
                    None => None,
                };
                late.extend(why.map(|why| (*id, why)));
            }
            if late.is_empty() {
                return Ok(());
            }
            if Instant::now() >= give_up {
                return Err(Error::Partial {
                    done: "given its certificate".into(),
                    failed: late,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Makes sure that there is an authority, and a certificate of raftctl's own. Where the cluster has an authority, and
/// it is elsewhere, none is made: nodes that know one would not take what another has signed.
fn ready(authority: &Authority, wanted: Wanted, is_elsewhere: bool) -> Result<()> {
    if is_elsewhere {
        return Ok(());
    }
    authority.ensure()?;
    // Of a new authority it is of no use before nodes trust that one.
    if wanted != Wanted::Trust {
        authority.ensure_admin()?;
    }
    Ok(())
}

/// When the certificate ends that a node uses.
#[must_use]
pub fn ends(tls: &TlsState) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(tls.certificate_ends_unix_s)
}
