//! The hosts that the tests of remote verbs run on are what they promise to be.

use harness::{Test, tests};
use std::process::Command;

use testhosts::{HOSTS, PLAIN, ROOT, TestHosts, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!([HOSTS], hosts_are_apart_and_let_their_users_in)
}

// Every user gets in by the key, files of one host are on no other, and what was written survives
// the death of a host while its processes do not.
fn hosts_are_apart_and_let_their_users_in() {
    let mut set = TestHosts::start(2);
    for user in [ROOT, WITH_SUDO, PLAIN] {
        let output = Command::new("ssh")
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "BatchMode=yes", "-F", "/dev/null", "-i"])
            .arg(set.key())
            .args([
                "-l",
                user,
                &set.hosts[0].address.to_string(),
                "whoami; hostname",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, format!("{user}\nn1\n"), "{output:?}");
    }
    set.hosts[0].must_run("echo here >/opt/mark; sleep 1000 >/dev/null 2>&1 &");
    assert_eq!(
        set.hosts[0].must_run("cat /opt/mark; ps ax | grep -c '[s]leep 1000'"),
        "here\n1"
    );
    assert!(!set.hosts[1].run("cat /opt/mark").status.success());
    set.hosts[0].die();
    set.revive(0);
    assert_eq!(
        set.hosts[0].must_run("cat /opt/mark; ps ax | grep -c '[s]leep 1000' || :"),
        "here\n0"
    );
}
