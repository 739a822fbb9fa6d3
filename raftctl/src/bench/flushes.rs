//! How often a leader has flushed its log: what a write rests on, as far as its store tells.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::etcd::Etcd;
use crate::ops::Context;

/// A page of figures is of some hundred kilobytes at most, and is there at once.
const PAGE_BYTES_MAX: u64 = 4 << 20;
const PAGE_TIME: Duration = Duration::from_secs(2);

/// The line of etcd's page that counts what it flushes before it answers.
const ETCD_FLUSHES: &str = "etcd_disk_wal_fsync_duration_seconds_count";

/// Whose flushes are counted.
#[derive(Clone)]
pub enum Counter<'a> {
    /// Those of the cluster.
    Own(&'a Context),
    /// Those of etcd.
    Etcd(Etcd),
    /// Nobody's: there is nothing on a disk.
    Nothing,
}

/// Flushes of a leader's log since its process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushes {
    /// Who leads: a node, or an address.
    pub leader: String,
    /// Which version it is, where it says so.
    pub version: Option<String>,
    /// How often it has flushed.
    pub count: u64,
}

impl Counter<'_> {
    /// As of now; none where nobody leads, or it does not tell.
    pub async fn look(&self) -> Option<Flushes> {
        match self {
            Counter::Own(context) => own(context).await,
            Counter::Etcd(etcd) => {
                let leader = etcd.clone().turn_to_leader().await?;
                let count = count_of(&page(&leader).await?)?;
                Some(Flushes {
                    leader,
                    version: None,
                    count,
                })
            }
            Counter::Nothing => None,
        }
    }
}

/// Flushes between two looks, if the same node led at both.
#[must_use]
pub fn between(before: Option<&Flushes>, after: Option<&Flushes>) -> Option<u64> {
    match (before, after) {
        (Some(from), Some(to)) if from.leader == to.leader => to.count.checked_sub(from.count),
        _ => None,
    }
}

async fn own(context: &Context) -> Option<Flushes> {
    let snapshot = context.status().await;
    let leader = snapshot.leader?;
    let reply = snapshot.node(leader)?.reply.as_ref().ok()?;
    Some(Flushes {
        leader: leader.to_string(),
        version: Some(reply.version.clone()),
        count: reply.counters?.fsyncs,
    })
}

/// The page of figures at an address; none where there is none.
async fn page(address: &str) -> Option<String> {
    let fetched = tokio::time::timeout(PAGE_TIME, async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = Vec::new();
        stream.take(PAGE_BYTES_MAX).read_to_end(&mut page).await?;
        std::io::Result::Ok(page)
    });
    let page = fetched.await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&page).into_owned())
}

/// The count on etcd's page.
fn count_of(page: &str) -> Option<u64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(ETCD_FLUSHES));
    let count: f64 = line?.trim().parse().ok()?;
    Some(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The line is found among others, also where its number is written with an exponent; none is no zero.
    #[test]
    fn the_count_of_etcd_is_read() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n\
                    etcd_disk_wal_fsync_duration_seconds_sum 3.5\n\
                    etcd_disk_wal_fsync_duration_seconds_count 1.25e+06\n";
        assert_eq!(count_of(page), Some(1_250_000));
        assert_eq!(count_of("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }

    // Flushes of two leaders can't be subtracted.
    #[test]
    fn only_flushes_of_one_leader_count() {
        let flushes = |leader: &str, count| Flushes {
            leader: leader.into(),
            version: None,
            count,
        };
        let (first, later) = (flushes("1", 5), flushes("1", 12));
        assert_eq!(between(Some(&first), Some(&later)), Some(7));
        assert_eq!(between(Some(&later), Some(&first)), None, "started again");
        assert_eq!(between(Some(&first), Some(&flushes("2", 12))), None);
        assert_eq!(between(None, Some(&later)), None);
    }
}
