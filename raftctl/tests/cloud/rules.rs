//! A firewall rule that is narrowed is closed, as Google has it, or the end is no success.

use harness::{Test, tests};
use serde_json::json;

use crate::cloud::{Cloud, GCLOUD, TERRAFORM};
use crate::interrupted::yaml;

pub fn tests() -> Vec<Test> {
    tests!([TERRAFORM, GCLOUD], a_rule_is_looked_at_until_it_is_closed)
}

/// Shows a rule that is narrow as open as it was, the first time that somebody looks: Google's provider may leave
/// it so.
const OPEN_AT_FIRST: &str = r#"#!/bin/sh
case "$*" in *'firewall-rules list'*)
    "$(dirname "$0")/listing" "$@" >"$0.answer" || exit
    if grep -q 127.0.0.1/32 "$0.answer" && mkdir "$0.looked" 2>/dev/null; then
        sed -i 's|127.0.0.1/32|0.0.0.0/0|' "$0.answer"
    fi
    cat "$0.answer"
    exit
esac
exec "$(dirname "$0")/listing" "$@"
"#;

// Machines that were open to everybody are to be open to one range: raftctl asks Google what it lets in, says so
// while that is too much, and goes on when it is not; where Google does not say, nobody is told that all is well.
fn a_rule_is_looked_at_until_it_is_closed() {
    let narrow = yaml(1, "us-central1-a");
    let open = narrow.replace("127.0.0.1/32", "0.0.0.0/0");
    let cloud = Cloud::new(&open);
    cloud.list_quickly();
    let up = ["up", "--timeout", "1s"];
    let not_ready = "not ready after 1 s";
    cloud.raftctl(&up).code(10).says(not_ready);
    cloud.write(&narrow);
    cloud.order(&json!({"calls": [{"call": "firewalls.list", "http":
        {"code": 403, "reason": "forbidden", "message": "Required 'compute.firewalls.list' permission"}}]}));
    let blind = cloud.raftctl(&up).code(10);
    let blind = blind.says("what the firewall lets in could not be seen: run `raftctl up` again");
    assert!(!blind.stderr.contains(not_ready), "{}", blind.stderr);
    cloud.order(&json!({}));

    cloud.write(&open);
    cloud.raftctl(&up).code(10).says(not_ready);
    cloud.write(&narrow);
    let bin = cloud.folder.path().join("bin");
    std::fs::rename(bin.join("gcloud"), bin.join("listing")).unwrap();
    cloud.install("gcloud", OPEN_AT_FIRST);
    cloud
        .raftctl(&up)
        .code(10)
        .says("until Google's firewall rules are as asked for: firewall rule raft-demo-ssh lets in 0.0.0.0/0, and is to let in 127.0.0.1/32 alone")
        .says(not_ready);
    let rules = cloud.provider.google.of_type("google_compute_firewall");
    let ssh = rules.iter().find(|(id, _)| id.ends_with("/raft-demo-ssh"));
    assert_eq!(
        ssh.unwrap().1.state["source_ranges"],
        json!(["127.0.0.1/32"])
    );
    cloud.raftctl(&["down", "--yes"]).code(0);
}
