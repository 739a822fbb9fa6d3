//! Versions side by side: a cluster is upgraded node by node, and taken back.
//!
//! The older version is a real one, built from this repository's history with cargo into a folder of
//! its own below target/, once (see `harness`). Without git and that commit the stories are left out, loudly.

use crate::cluster::{BINARY, Cluster, eventually};
use std::path::Path;

/// Goes over to the newest format as soon as it may.
const EAGER: &str = "--raise-format-from=1";

/// Options of which it knows nothing.
const LATER: [&str; 2] = ["--raise-format-from", "--snapshot-log-kib"];

/// The older version's binary.
async fn older() -> Option<&'static Path> {
    let built = tokio::task::spawn_blocking(|| harness::older(BINARY));
    built.await.unwrap()
}

impl Cluster {
    fn spawn_older(&mut self, id: u64, binary: &Path) {
        let arguments = self.arguments(id);
        let is_later = |it: &String| LATER.iter().any(|later| it.starts_with(later));
        let older: Vec<String> = arguments.into_iter().filter(|it| !is_later(it)).collect();
        self.spawn_binary(id, binary, &older);
    }

    async fn write(&self, key: &str) {
        self.set(None, key, "v").await;
    }

    /// Waits until all nodes say that this format is in force.
    async fn format_in_force(&self, format: u64) {
        for id in self.ids() {
            eventually("the format", async || {
                let status = self.status(id).await?;
                (status.format == format).then_some(())
            })
            .await;
        }
    }
}

// While one node runs the older version nothing is written that it does not read, so the others can be
// taken back to it; once all run the newer one, the cluster goes over by itself.
#[tokio::test]
#[ignore = "builds an older version first: run by .ci/run, or with `-- --include-ignored`"]
async fn the_way_back_is_open_until_all_nodes_are_upgraded() {
    let Some(older) = older().await else {
        return;
    };
    let mut cluster = Cluster::new(3, &[EAGER]);
    for id in cluster.ids() {
        cluster.spawn_older(id, older);
    }
    cluster.write("old").await;
    for id in [1, 2] {
        cluster.terminate(id).await;
        cluster.spawn(id);
        cluster.write(&format!("upgraded-{id}")).await;
    }
    for id in [1, 2] {
        assert_eq!(cluster.told(id).await.format, 1);
        cluster.terminate(id).await;
        assert!(!cluster.text(id, "logs.txt").contains("FORMAT"));
        assert!(cluster.text(id, "metadata.txt").starts_with("currentTerm "));
        cluster.spawn_older(id, older);
        cluster.write(&format!("taken-back-{id}")).await;
    }
    for id in cluster.ids() {
        cluster.terminate(id).await;
        cluster.spawn(id);
        cluster.write(&format!("again-{id}")).await;
    }
    cluster.format_in_force(3).await;
    for id in cluster.ids() {
        let named = cluster.text(id, "logs.txt");
        let named = named.lines().filter(|line| line.starts_with("FORMAT 3 "));
        assert_eq!(named.count(), 1, "node {id}");
    }
    for key in ["old", "upgraded-2", "taken-back-1", "again-3"] {
        assert!(cluster.get(key).await.is_some(), "{key}");
    }
}

// After that the older version refuses the node's files by the format's name and touches none of what
// they say; in an empty directory it is refused by the others, by name too.
#[tokio::test]
#[ignore = "builds an older version first: run by .ci/run, or with `-- --include-ignored`"]
async fn an_older_version_refuses_a_newer_format() {
    let Some(older) = older().await else {
        return;
    };
    let mut cluster = Cluster::start(3, &[EAGER]).await;
    cluster.write("k").await;
    cluster.format_in_force(3).await;
    cluster.kill(3);
    let names = ["logs.txt", "metadata.txt", "mark.txt"];
    let before = names.map(|name| cluster.text(3, name));
    cluster.spawn_older(3, older);
    assert!(!cluster.ended(3).await.success());
    let told = cluster.stderr(3);
    assert!(
        told.contains("format 3 (run the version that wrote it)"),
        "{told}"
    );
    assert_eq!(names.map(|name| cluster.text(3, name)), before);

    let directory = cluster.data_dir(3);
    let aside = directory.with_extension("aside");
    std::fs::rename(&directory, &aside).unwrap();
    cluster.spawn_older(3, older);
    eventually("a refusal by name", async || {
        let told = cluster.stderr(3);
        told.contains("gone over to format 3").then_some(())
    })
    .await;
    cluster.kill(3);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    cluster.spawn(3);
    cluster.format_in_force(3).await;
    cluster.write("after").await;
}

// A log that was long before the upgrade is no reason to go over to another format: only what comes
// after it is. So the way back does not end with the upgrade of the last node; and one that was taken
// begins it anew.
#[tokio::test]
#[ignore = "builds an older version first: run by .ci/run, or with `-- --include-ignored`"]
async fn only_what_is_written_after_an_upgrade_counts() {
    let Some(older) = older().await else {
        return;
    };
    let mut cluster = Cluster::new(3, &["--snapshot-log-kib=8"]);
    for id in cluster.ids() {
        cluster.spawn_older(id, older);
    }
    let value = "x".repeat(1000);
    let write = async |cluster: &Cluster, count: u32| {
        for number in 0..count {
            cluster.set(None, &format!("k{}", number % 4), &value).await;
        }
    };
    write(&cluster, 12).await;
    for round in 0..2 {
        for id in cluster.ids() {
            cluster.terminate(id).await;
            cluster.spawn(id);
            cluster.write(&format!("upgraded-{round}-{id}")).await;
        }
        write(&cluster, 4).await;
        let leader = cluster.leader().await;
        let status = cluster.told(leader).await;
        let left = status.format_due_bytes.expect("it is still to come");
        assert!(
            status.format == 1 && (1..8 * 1024).contains(&left),
            "{status:?}"
        );
        if round == 0 {
            for id in cluster.ids() {
                cluster.terminate(id).await;
                cluster.spawn_older(id, older);
                cluster.write(&format!("taken-back-{id}")).await;
            }
        }
    }
    write(&cluster, 12).await;
    cluster.format_in_force(3).await;
}
