//! What is in doubt after a change that did not end well, for those who only look on: as its record of
//! events tells, and as Google does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::events::{self, Event};
use super::gcloud::Gcloud;
use super::open_changes::OpenChanges;
use super::resources::{Kind, Owner};
use super::strays::Listing;
use super::terraform::{RECORD, Terraform};
use super::tool::Tool;
use super::{Paths, Purpose, in_words, ownership};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::local::folder_lock::FolderLock;
use crate::transport::ssh::key_pair;

/// More than any change writes: a line for each resource every ten seconds.
const RECORD_MAX: u64 = 16 << 20;

/// What costs money, and is looked at where nothing is in doubt as well.
const COSTLY: [Kind; 2] = [Kind::Machine, Kind::Disk];

/// Something to know, and what to do about it.
pub type Remark = (String, String);

/// What the last change has begun and nobody has told an end of; nothing where all has ended well.
/// Asks nobody.
#[must_use]
pub fn of_record(cluster: &Cluster) -> Option<Remark> {
    let record = Paths::of(cluster).terraform().join(RECORD);
    let doubt = match read(&record) {
        Ok(text) => begun(&text).in_doubt(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => format!(
            "all of it, because {} can't be read: {error}",
            record.display()
        ),
    };
    let text = format!(
        "the last change of the infrastructure is still being made, or did not end well; in doubt: {doubt}"
    );
    let advice = "`raftctl up` (or `raftctl down`) looks at Google for it, and goes on from there";
    (!doubt.is_empty()).then(|| (text, advice.into()))
}

fn read(record: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(record)?
        .take(RECORD_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn begun(record: &str) -> OpenChanges {
    let mut begun = OpenChanges::default();
    // A format that is not known was refused when it was written.
    let events = record
        .lines()
        .filter_map(|line| events::parse(line).ok().flatten());
    events.for_each(|event| begun.see(&event));
    begun
}

/// What the last change has left, as its record tells and as Google does, which may have what Terraform's
/// state does not know; with the look at Google, where it was asked. What could not be seen is told as well.
/// Where nothing was ever made from here, nobody is asked.
pub async fn remarks(cluster: &Cluster) -> (Vec<Remark>, Option<Listing>) {
    let of_record = of_record(cluster);
    let is_in_doubt = of_record.is_some();
    let mut remarks: Vec<Remark> = of_record.into_iter().collect();
    match strays(cluster, is_in_doubt).await {
        Ok((seen, look)) => {
            remarks.extend(seen);
            (remarks, look)
        }
        Err(error) => {
            remarks.push(not_compared(&error.to_string()));
            (remarks, None)
        }
    }
}

async fn strays(cluster: &Cluster, is_in_doubt: bool) -> Result<(Vec<Remark>, Option<Listing>)> {
    let paths = Paths::of(cluster);
    let public = paths.base.join(key_pair::PUBLIC_FILE);
    let key = match std::fs::read_to_string(&public) {
        Ok(key) => key,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Vec::new(), None));
        }
        Err(error) => return Err(Error::file("read", &public, &error)),
    };
    if let Some(holder) = FolderLock::holder(cluster)? {
        let text = format!(
            "what Google has is not compared with Terraform's state while {holder} is at work"
        );
        let remark = (text, "run this again when that is done".into());
        return Ok((vec![remark], None));
    }
    let is_all = is_in_doubt || cluster.gcp.state_bucket.is_some();
    let kinds = kinds(cluster, is_all, &touched(&paths.terraform().join(RECORD)));
    let gcloud = Gcloud::of(cluster);
    let (look, in_state) = tokio::join!(
        Listing::at(&gcloud, cluster, &kinds),
        in_state(cluster, &paths)
    );
    let remarks = judged(&look, &Owner::of(&cluster.name, &key), &in_state?);
    Ok((remarks, Some(look)))
}

/// What is looked for: nothing that is never made for such a cluster, which an account need not be allowed to
/// list. Where nothing is in doubt, what costs money.
fn kinds(cluster: &Cluster, is_all: bool, touched: &BTreeSet<String>) -> Vec<Kind> {
    let kinds = ownership::kinds(cluster, touched.iter().map(String::as_str)).into_iter();
    kinds
        .filter(|kind| is_all || COSTLY.contains(kind))
        .collect()
}

/// The types of what the last change has begun.
fn touched(record: &Path) -> BTreeSet<String> {
    let text = read(record).unwrap_or_default(); // Told by `of_record`.
    let events = text.lines();
    let events = events.filter_map(|line| events::parse(line).ok().flatten());
    let types = events.filter_map(|event| match event {
        Event::Started(resource, _) => Some(resource.resource_type),
        _ => None,
    });
    types.collect()
}

/// The paths of all that Terraform knows.
async fn in_state(cluster: &Cluster, paths: &Paths) -> Result<BTreeSet<String>> {
    let folder = paths.terraform();
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let tool = Tool::find().await?;
    let again = Purpose::Down.command();
    let terraform = Terraform::new(tool, &folder, &cluster.gcp, None, again);
    Ok(terraform.state_briefly().await?.ids())
}

fn judged(look: &Listing, owner: &Owner, in_state: &BTreeSet<String>) -> Vec<Remark> {
    let strays = look.strays(owner, in_state);
    let mut remarks = Vec::new();
    if !strays.is_empty() {
        remarks.push((
            format!(
                "at Google, this cluster's, and not in Terraform's state, so that it may cost money unseen: {}",
                in_words(strays.iter())
            ),
            "`raftctl up` takes in what cluster.yaml asks for; `raftctl down` deletes all of it".into(),
        ));
    }
    remarks.extend(look.unseen().map(|unseen| not_compared(&unseen)));
    remarks
}

fn not_compared(cause: &str) -> Remark {
    (
        format!(
            "whether Google has anything of this cluster that Terraform's state does not know could not be seen: {cause}"
        ),
        "run this again when that is mended".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::gcp::resources::{self, mark};

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNvbWV0aGluZyB0aGF0IGlzIG5vIHJlYWwga2V5IQ== x";

    fn cluster(folder: &Path) -> Cluster {
        let yaml = "name: demo\nprovider: gcp\nnodes: 3\ngcp: {project: my-project, zones: [us-central1-a]}\n";
        crate::cluster::parse(yaml, "x", folder.into(), &|_| None).unwrap()
    }

    // What was begun and has no end is in doubt, with the command that leads on; a record without such, and
    // none at all, are silent.
    #[test]
    fn a_record_tells_what_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path());
        assert_eq!(of_record(&cluster), None);
        let line = |kind: &str| {
            format!(
                r#"{{"type":"{kind}","hook":{{"resource":{{"addr":"google_compute_network.cluster[0]","resource_type":"google_compute_network","resource_key":0}},"action":"create"}}}}"#
            )
        };
        let record = Paths::of(&cluster).terraform().join(RECORD);
        std::fs::create_dir_all(record.parent().unwrap()).unwrap();
        std::fs::write(&record, line("apply_start") + "\nhalf a li").unwrap();
        let (text, advice) = of_record(&cluster).unwrap();
        assert!(text.ends_with("in doubt: create network"), "{text}");
        assert!(advice.starts_with("`raftctl up`"), "{advice}");
        let ended = [line("apply_start"), line("apply_complete")].join("\n");
        std::fs::write(&record, ended).unwrap();
        assert_eq!(of_record(&cluster), None);
    }

    // Whoever uses the network of a company is not asked for what only that may list; what a change has begun
    // is looked for whatever the settings say now.
    #[test]
    fn what_is_never_made_is_not_asked_for() {
        let yaml = "name: demo\nprovider: gcp\nnodes: 3\ngcp: {project: my-project, zones: [us-central1-a], \
                    network: corp, subnetwork: raft, firewall_rules: false}\n";
        let cluster = crate::cluster::parse(yaml, "x", ".".into(), &|_| None).unwrap();
        let none = BTreeSet::new();
        assert_eq!(kinds(&cluster, false, &none), COSTLY);
        let own = [Kind::Machine, Kind::Disk, Kind::Address];
        assert_eq!(kinds(&cluster, true, &none), own);
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD);
        let begun = r#"{"type":"apply_start","hook":{"resource":{"addr":"a","resource_type":"google_compute_firewall"},"action":"create"}}"#;
        std::fs::write(&record, begun).unwrap();
        let with_rules = [&own[..], &[Kind::Rule]].concat();
        assert_eq!(kinds(&cluster, true, &touched(&record)), with_rules);
        assert_eq!(touched(&folder.path().join("none")), none);
    }

    // Where nothing was ever made from here, nobody is asked: no gcloud runs.
    #[tokio::test]
    async fn nothing_made_is_nothing_to_look_for() {
        let folder = tempfile::tempdir().unwrap();
        let (remarks, look) = remarks(&cluster(folder.path())).await;
        assert_eq!(remarks, []);
        assert!(look.is_none());
    }

    // What is ours and in no state is named with what leads on; a look that failed is said beside it.
    #[test]
    fn strays_are_named() {
        let json = format!(
            r#"[{{"name":"raft-demo-n1-data","selfLink":"https://www.googleapis.com/compute/v1/projects/p/zones/z/disks/raft-demo-n1-data",
                 "labels":{{"raft-cluster":"demo","raft-owner":"{}"}}}}]"#,
            mark(KEY)
        );
        let look = Listing {
            resources: resources::read(Kind::Disk, &json, "demo").unwrap(),
            blind: vec![(Kind::Machine, Error::Cloud("Google answers 503".into()))],
            ..Listing::default()
        };
        let owner = Owner::of("demo", KEY);
        let remarks = judged(&look, &owner, &BTreeSet::new());
        assert_eq!(remarks.len(), 2);
        let (text, advice) = &remarks[0];
        assert!(text.ends_with("data disk raft-demo-n1-data (z)"), "{text}");
        assert!(advice.contains("`raftctl up`") && advice.contains("`raftctl down`"));
        assert!(remarks[1].0.ends_with("machine: Google answers 503"));
        let known = BTreeSet::from(["projects/p/zones/z/disks/raft-demo-n1-data".to_owned()]);
        assert_eq!(judged(&look, &owner, &known).len(), 1);
    }
}
