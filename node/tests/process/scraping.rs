//! A cluster whose nodes tell their metrics, and whoever reads them.

use crate::cluster::{Cluster, own_host, own_ports, within};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bound on every wait here.
const SOON: Duration = Duration::from_secs(60);

/// Series by name and labels, as they stand on the page.
pub type Figures = BTreeMap<String, f64>;

pub struct Metered {
    pub cluster: Cluster,
    first_port: u16,
}

impl Metered {
    /// `count` nodes, running, with a leader that has a lease.
    pub async fn start(count: usize, flags: &[&str]) -> Self {
        Metered::start_all(Cluster::new(count, flags)).await
    }

    /// The same, with TLS.
    pub async fn start_secured(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Cluster::new(count, flags);
        cluster.secure();
        Metered::start_all(cluster).await
    }

    async fn start_all(cluster: Cluster) -> Self {
        let count = cluster.ids().len();
        let mut metered = Metered {
            cluster,
            first_port: own_ports(count as u16),
        };
        for id in metered.cluster.ids() {
            metered.spawn(id);
        }
        metered.cluster.leader().await;
        metered
    }

    /// Starts a node; does not wait for it.
    pub fn spawn(&mut self, id: u64) {
        let mut arguments = self.cluster.arguments(id);
        arguments.push(format!("--metrics-listen={}", self.address(id)));
        self.cluster.spawn_with(id, &arguments);
    }

    /// Where a node's metrics are.
    pub fn address(&self, id: u64) -> String {
        format!("{}:{}", own_host(), self.first_port + id as u16 - 1)
    }

    /// What a node answers at `/metrics`.
    pub async fn page(&self, id: u64) -> String {
        let (head, body) = ask(&self.address(id), "GET /metrics").await;
        assert_eq!(status(&head), "200", "{head}");
        body
    }

    pub async fn figures(&self, id: u64) -> Figures {
        let page = self.page(id).await;
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| line.rsplit_once(' ').unwrap());
        series
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// Waits until the figures of a node are as they should be.
    pub async fn until(&self, id: u64, what: &str, is_so: impl Fn(&Figures) -> bool) -> Figures {
        within(SOON, what, async || {
            let figures = self.figures(id).await;
            is_so(&figures).then_some(figures)
        })
        .await
    }
}

/// The number with which an answer begins.
pub fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// The head and the body of the answer to a request, which is given without its version: the old one, after
/// whose answers every server closes.
pub async fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
