//! A real packet filter that cuts a node off: a table of nftables, on hosts where raftctl is root.
//!
//! It drops, in both directions, what is exchanged with some peers at the ports for nodes, and
//! nothing else. It takes itself away when its time is over, by a timer on the host.

use std::time::Duration;

use super::control::run;
use super::inventory::Host;
use crate::cluster::NodeId;
use crate::error::Result;
use crate::scripts::shell::{END, call};
use crate::transport::Request;

const FILTER: &str = include_str!("../scripts/packet_filter.sh");

/// The table of a node's filter. nftables knows letters, digits and underscores.
#[must_use]
pub fn table(cluster: &str, id: NodeId) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!(
        "raftkv_{}_{id}",
        cluster.chars().map(plain).collect::<String>()
    )
}

fn script(call: &str) -> String {
    format!("set -u\nexport LC_ALL=C\n{FILTER}{call}\necho {END}\n")
}

/// Cuts a node that listens at `own_port` off from `peers`, a host and port each, for `length`. An
/// earlier filter of the same table is replaced.
///
/// # Errors
/// The host can't be reached, raftctl is not root there, or there is no nftables.
pub async fn cut(
    host: &Host,
    table: &str,
    own_port: u16,
    peers: &[(String, u16)],
    length: Duration,
    deadline: Duration,
) -> Result<()> {
    let mark = format!("until_{:016x}", rand::random::<u64>());
    let (seconds, port) = (length.as_secs_f64().to_string(), own_port.to_string());
    let peers: Vec<String> = peers
        .iter()
        .map(|(name, port)| format!("{name},{port}"))
        .collect();
    let fixed = [table, &mark, &seconds, &port];
    let script = script(&call(
        "filter",
        fixed.into_iter().chain(peers.iter().map(String::as_str)),
    ));
    let answer = run(host, Request::new("set a packet filter", &script, deadline)).await?;
    answer.one("host", "filtered").map(drop)
}

/// Takes a filter away; whether there was one.
///
/// # Errors
/// The host can't be reached, or the filter can't be taken away.
pub async fn heal(host: &Host, table: &str, deadline: Duration) -> Result<bool> {
    let script = script(&call("unfilter", [table]));
    let answer = run(
        host,
        Request::new("take the packet filter away", &script, deadline),
    )
    .await?;
    Ok(answer.one("host", "healed")? == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cluster's name may hold what a table's can't.
    #[test]
    fn tables_have_plain_names() {
        assert_eq!(table("my-demo.2", 3), "raftkv_my_demo_2_3");
    }

    // A filter is set for all peers, or none is: one that can't be resolved would get no rule.
    #[test]
    fn a_peer_that_cannot_be_resolved_is_told() {
        let said = |peers: &[&str]| {
            let fixed = ["t", "m", "0", "7400"];
            let call = call("filter", fixed.iter().chain(peers).copied());
            // Everything but the kernel's part is real.
            let fakes = "id() { echo 0; }\nnft() { [ \"$*\" = '-f -' ] && cat; }\n";
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("{fakes}{}", script(&call))])
                .output()
                .unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (
                output.status.code(),
                text(output.stdout),
                text(output.stderr),
            )
        };
        let (status, rules, _) = said(&["10.0.0.2,7401", "fd00::3,7402"]);
        assert_eq!(status, Some(0), "{rules}");
        for rule in [
            "ip saddr 10.0.0.2 tcp dport 7400 drop",
            "ip saddr 10.0.0.2 tcp sport 7401 drop",
            "ip6 daddr fd00::3 tcp dport 7402 drop",
            "host.filtered=yes",
        ] {
            assert!(rules.contains(rule), "{rule} is not in {rules}");
        }
        let (status, rules, why) = said(&["10.0.0.2,7401", "nowhere.invalid,7402"]);
        assert_eq!((status, &*rules), (Some(1), ""));
        assert!(why.contains("cannot resolve nowhere.invalid"), "{why}");
    }

    // The script is one that a POSIX shell can read.
    #[test]
    fn shells_read_the_script() {
        let script = script(&call("filter", ["t", "m", "1.5", "7400", "n 2,7400"]));
        let parsed = std::process::Command::new("sh")
            .args(["-n", "-c", &script])
            .status();
        assert!(parsed.unwrap().success());
    }
}
