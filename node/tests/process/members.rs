//! Who is let in: clusters of the same name, copied directories, and a node that runs twice.

use crate::cluster::{Cluster, eventually};
use std::fs;

const ONE: &str = "--cluster-id=000000000000000000000000000000a1";
const OTHER: &str = "--cluster-id=000000000000000000000000000000b2";

impl Cluster {
    /// Waits until a node says that this peer refuses it, in these words.
    async fn refused_by(&self, id: u64, peer: u64, words: &str) {
        eventually(words, async || {
            let status = self.status(id).await?;
            let mut peers = status.unreachable_peers.into_iter();
            let refused = peers.find(|it| it.peer_id == peer && it.reason == "rejected")?;
            refused.text.contains(words).then_some(())
        })
        .await;
    }
}

// The cluster's id is kept with the node's files. A node that was started for another cluster of the
// same name refuses those files, and on files of its own it is refused by the others and refuses them.
#[tokio::test]
async fn a_cluster_of_the_same_name_is_refused_by_its_id() {
    let mut cluster = Cluster::start(3, &[ONE]).await;
    let status = cluster.told(3).await;
    assert!(ONE.ends_with(&status.cluster_id) && !status.cluster_id.is_empty());
    assert_eq!(status.directory_id.len(), 32);
    cluster.kill(3);
    let arguments = cluster.arguments(3);
    let without: Vec<String> = arguments.iter().filter(|it| *it != ONE).cloned().collect();
    let mut other = without.clone();
    other.push(OTHER.into());
    cluster.spawn_with(3, &other);
    assert_eq!(cluster.ended(3).await.code(), Some(3));
    let told = cluster.stderr(3);
    assert!(
        told.contains("the id 000000000000000000000000000000a1"),
        "{told}"
    );

    let directory = cluster.data_dir(3);
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside).unwrap();
    cluster.spawn_with(3, &other);
    let words = "another cluster that is called 'test'";
    cluster.refused_by(3, 1, words).await;
    cluster.refused_by(1, 3, words).await;
    cluster.kill(3);

    // Given once, it need not be given again.
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    cluster.spawn_with(3, &without);
    eventually("node 3 follows", async || {
        let again = cluster.status(3).await?;
        let same = (again.cluster_id, again.directory_id);
        let leads = again.leader_id != 0;
        (leads && same == (status.cluster_id.clone(), status.directory_id.clone())).then_some(())
    })
    .await;
}

// A member that was made anew has a directory of its own and is let in; one that was started on a copy
// of another's files is not, by any node.
#[tokio::test]
async fn a_copied_directory_is_refused() {
    let mut cluster = Cluster::start(3, &[]).await;
    cluster.kill(2);
    cluster.kill(3);
    fs::remove_dir_all(cluster.data_dir(3)).unwrap();
    cluster.spawn(3);
    let anew = eventually("node 3 follows", async || {
        let status = cluster.status(3).await?;
        (status.leader_id != 0).then_some(status.directory_id)
    })
    .await;
    assert_ne!(cluster.told(1).await.directory_id, anew);

    fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    fs::create_dir(cluster.data_dir(2)).unwrap();
    for name in ["logs.txt", "metadata.txt"] {
        let to = cluster.data_dir(2).join(name);
        fs::copy(cluster.data_dir(1).join(name), to).unwrap();
    }
    cluster.spawn(2);
    cluster.refused_by(2, 1, "a copy of that of node 1").await;
    cluster.refused_by(2, 3, "a copy of that of node 1").await;
}

// A directory that was purged, and comes back when the one that took its place is down, is refused by all who
// have seen that one, also after they were started again; its successor is not.
#[tokio::test]
async fn a_directory_with_a_successor_is_refused() {
    let mut cluster = Cluster::start(3, &[]).await;
    let directory = cluster.data_dir(3);
    let (former, successor) = (directory.with_extension("a"), directory.with_extension("b"));
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    cluster.caught_up(&[leader, 3]).await;
    cluster.kill(3);
    fs::rename(&directory, &former).unwrap();
    cluster.spawn(3);
    let leader = cluster.leader().await;
    cluster.caught_up(&[leader, 3]).await;
    cluster.kill(3);
    fs::rename(&directory, &successor).unwrap();

    fs::rename(&former, &directory).unwrap();
    cluster.spawn(3);
    let words = "node 3 has had another directory since this one";
    cluster.refused_by(3, 1, words).await;
    cluster.refused_by(3, 2, words).await;
    cluster.terminate(1).await;
    cluster.spawn(1);
    cluster.refused_by(3, 1, words).await;
    cluster.kill(3);

    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&successor, &directory).unwrap();
    cluster.spawn(3);
    let leader = cluster.leader().await;
    cluster.caught_up(&[leader, 3]).await;
}

// A node that runs twice, here on an empty directory beside its own, is not let in a second time while
// the first runs; once that one is gone, it is.
#[tokio::test]
async fn a_node_that_runs_twice_is_let_in_once() {
    let mut cluster = Cluster::start(3, &[]).await;
    let mut twin = Cluster::new(3, &[]);
    let own = |argument: &String| argument.starts_with("--node=");
    let mut arguments: Vec<String> = twin
        .arguments(3)
        .into_iter()
        .filter(|it| !own(it))
        .collect();
    arguments.extend(cluster.arguments(3).into_iter().filter(own));
    twin.spawn_with(3, &arguments);
    twin.refused_by(3, 1, "another process is connected as node 3")
        .await;
    cluster.kill(3);
    eventually("the other is let in", async || {
        let status = twin.status(3).await?;
        let refused = status
            .unreachable_peers
            .iter()
            .any(|it| it.reason == "rejected");
        (!refused).then_some(())
    })
    .await;
}
