//! Hosts that make trouble: each time one message with the host, the cause and the next command,
//! nothing half-done, and the same command again once the trouble is over.

use harness::{Test, tests};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::cluster::RemoteCluster;
use crate::support::{PATIENCE, command, raftctl};
use rustix::process::{Pid, Signal, kill_process_group};
use testhosts::{HOSTS, Options, PLAIN, ROOT, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [HOSTS],
        a_dead_host_is_left_behind,
        a_changed_host_key_is_refused,
        logins_that_fail_say_why,
        the_operators_own_ssh_config_holds,
        a_name_leads_to_an_address_without_a_login,
        a_full_disk_changes_nothing,
        a_connection_cut_while_shipping_is_survived,
        two_operators_and_an_interrupt,
        without_root_a_packet_filter_is_refused,
        a_taken_port_is_told,
        a_binary_that_does_not_fit_is_refused
    )
}

/// How fast a slow line is: an upload takes long enough to do something in its middle.
const SLOW_KBIT: u32 = 12_000;

/// Starts raftctl and leaves it running, its standard error piped.
fn start(cluster: &RemoteCluster, arguments: &[&str]) -> Child {
    let mut raftctl = command(cluster.folder(), arguments);
    raftctl
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How a raftctl ended that was left running, and what it said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Waits until an upload to a host has begun.
fn wait_for_upload(cluster: &RemoteCluster, host: usize) {
    let started = Instant::now();
    let begun = "test -s /opt/raftkv/test/bin/releases/.incoming.*/raft-node";
    while !cluster.set.hosts[host].run(begun).status.success() {
        assert!(started.elapsed() < PATIENCE, "no upload begins");
    }
}

fn assert_nothing_left(cluster: &RemoteCluster, host: usize) {
    let started = Instant::now();
    let left = "ls -d /opt/raftkv/test/bin/releases/.incoming.*";
    while cluster.set.hosts[host].run(left).status.success() {
        assert!(started.elapsed() < PATIENCE, "a broken upload stays");
    }
}

// A dead host does not keep the others from coming up, and is named with its reason; when it is
// back, the same command brings it in.
fn a_dead_host_is_left_behind() {
    let mut cluster = RemoteCluster::new(3, ROOT);
    cluster.set.hosts[2].die();
    let up = cluster.raftctl(&["up"]).code(3);
    assert!(up.stderr.contains("node 3: 10.77."), "{up:?}");
    assert!(
        up.stderr.contains("Connection refused") && up.stderr.contains("try `ssh"),
        "{up:?}"
    );
    cluster.raftctl(&["set", "k", "v"]).ok();
    let status = cluster.raftctl(&["status"]).ok();
    assert!(status.stdout.contains("unreachable"), "{status:?}");
    cluster.set.revive(2);
    cluster.raftctl(&["up"]).ok();
    cluster.until(3, "role", "follower");
    // It dies and comes back as after a loss of power: the process is gone, its files are not.
    cluster.set.hosts[2].die();
    cluster.set.revive(2);
    cluster.until(3, "process", "stopped");
    cluster.raftctl(&["up"]).ok();
}

// A host whose key changed is not talked to; the message names the command that accepts the new
// key, and that command does.
fn a_changed_host_key_is_refused() {
    let mut cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.set.hosts[0].die();
    cluster.set.hosts[0].make_host_key();
    cluster.set.revive(0);
    let up = cluster
        .raftctl(&["up"])
        .code(3)
        .says("its host key is not the one that was seen before");
    let way_out = up
        .stderr
        .split("run `ssh-keygen")
        .nth(1)
        .expect("the way out is told");
    let way_out = format!("ssh-keygen{}", way_out.split('`').next().unwrap());
    let done = std::process::Command::new("sh")
        .args(["-c", &way_out])
        .output()
        .unwrap();
    assert!(done.status.success(), "{way_out}: {done:?}");
    cluster.raftctl(&["up"]).ok();
}

// A login that is refused, a name that is unknown, and a missing ssh are told apart.
fn logins_that_fail_say_why() {
    let cluster = RemoteCluster::new(1, ROOT);
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.write(elsewhere.path(), "nobody", "");
    let refused = raftctl(elsewhere.path(), &["up"]).code(10);
    assert!(
        refused.stderr.contains("Permission denied (publickey)"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("ssh.user") && refused.stderr.contains("try `ssh"));

    let unknown = testhosts::unknown_name();
    let yaml = format!("name: test\nprovider: ssh\nnodes: [{{id: 1, host: {unknown}}}]\n");
    std::fs::write(elsewhere.path().join("cluster.yaml"), yaml).unwrap();
    raftctl(elsewhere.path(), &["up"])
        .code(10)
        .says("Could not resolve hostname");

    let mut without_ssh = command(cluster.folder(), &["up"]);
    let output = without_ssh.env("PATH", elsewhere.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("ssh is not installed on this machine"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(10));
}

/// What operators have for all hosts, each of which would break a session that has it, or a connection.
const ANYTHING: &str = "\
  RemoteCommand tmux attach
  RequestTTY force
  LocalForward PORT:22 127.0.0.1:22
  RemoteForward 22 127.0.0.1:22
  DynamicForward PORT:22
  ExitOnForwardFailure yes
  CanonicalizeHostname always
  CanonicalizeFallbackLocal yes
  ControlMaster auto
  ControlPath /nowhere/%C
  PermitLocalCommand yes
  LocalCommand exit 1
  ForwardX11 yes
  ForwardX11Trusted yes
  Tunnel yes
  LogLevel QUIET
  VisualHostKey yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  SendEnv *
  SetEnv PATH=/nowhere
  Compression yes
  EscapeChar none
  StdinNull yes
  SessionType none
";

// Names, ports, users, keys and jump hosts of ~/.ssh/config work, and what else may be there is no
// obstacle; so does a login shell that
// prints on both outputs before it runs anything.
fn the_operators_own_ssh_config_holds() {
    let cluster = RemoteCluster::new(2, WITH_SUDO);
    let (near, far) = (&cluster.set.hosts[0], &cluster.set.hosts[1]);
    let noise = "echo Welcome; echo 'host.system=Nonsense'; printf careful >&2";
    far.must_run(&format!("echo \"{noise}\" | tee /home/operator/.bashrc"));
    far.must_run("/usr/sbin/sshd -f /etc/ssh/testhost_config -o PidFile=none -p 2200");
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    let config = format!(
        "Host far\n  HostName {}\n  Port 2200\n  User operator\n  ProxyJump near\n\
         Host near\n  HostName {}\n  User operator\nHost *\n  IdentityFile {}\n{}",
        far.address,
        near.address,
        cluster.set.key().display(),
        ANYTHING.replace("PORT", &near.address.to_string())
    );
    std::fs::write(home.path().join(".ssh/config"), config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let yaml = "name: test\nprovider: ssh\nnodes: [{id: 1, host: far}]\n";
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    let run = |arguments: &[&str]| {
        let (code, stdout, stderr) = with_home(home.path(), folder.path(), arguments);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        stdout
    };
    run(&["up"]);
    assert!(run(&["status"]).contains(&format!("{}:7500", far.address)));
    assert_eq!(
        run(&["exec", "1", "--", "id -un; hostname"]),
        "node 1: root\nnode 1: n2\n"
    );
    run(&["logs", "--all"]);
    let log = folder.path().join("raft-logs-test/logs_node_1/logs.txt");
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .starts_with("NO-OP 1\t")
    );
    run(&["down"]);
}

// Names that only ~/.ssh/config knows: where a host is dead, or was never reached from here, the
// nodes and whoever talks to them are told its address all the same, and nobody is restarted for it.
fn a_name_leads_to_an_address_without_a_login() {
    let mut cluster = RemoteCluster::new(3, ROOT);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".ssh")).unwrap();
    let mut config = format!("Host *\n  IdentityFile {}\n", cluster.set.key().display());
    let mut yaml = "name: test\nprovider: ssh\ntls: off\nnodes:\n".to_owned();
    for (host, id) in cluster.set.hosts.iter().zip(1..) {
        config.push_str(&format!("Host alias{id}\n  HostName {}\n", host.address));
        yaml.push_str(&format!("- {{id: {id}, host: alias{id}}}\n"));
    }
    std::fs::write(home.path().join(".ssh/config"), config).unwrap();
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for folder in [&first, &second] {
        std::fs::write(folder.path().join("cluster.yaml"), &yaml).unwrap();
    }
    let run = |folder: &tempfile::TempDir, wanted: i32, arguments: &[&str]| {
        let (code, stdout, stderr) = with_home(home.path(), folder.path(), arguments);
        assert_eq!(code, Some(wanted), "{stdout}{stderr}");
        stdout + &stderr
    };

    cluster.set.hosts[2].die();
    run(&first, 3, &["up"]);
    let arguments = cluster.set.hosts[0].must_run("cat /opt/raftkv/test/run/node_1.args");
    let third = cluster.set.hosts[2].address;
    assert!(
        arguments.contains(&format!("3,{third}:7400,{third}:7500")),
        "{arguments}"
    );
    run(&second, 0, &["set", "k", "v"]);
    assert!(!second.path().join(".raftctl/test/hosts.json").exists());
    let plan = run(&second, 0, &["plan"]);
    assert!(plan.contains("nothing to do"), "{plan}");
    let process = cluster.set.hosts[0].must_run("cat /opt/raftkv/test/run/node_1.pid");
    run(&second, 0, &["restart", "2"]);

    cluster.set.revive(2);
    run(&first, 0, &["up"]);
    let same = cluster.set.hosts[0].must_run("cat /opt/raftkv/test/run/node_1.pid");
    assert_eq!(process, same, "it was not restarted");
}

/// Runs raftctl as someone whose home is another: how it ended, and what it said. ssh itself looks
/// for the home where the user database says, not at $HOME.
fn with_home(home: &Path, folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let script = format!(
        "mkdir -p -m 700 /root/.ssh && mount --bind {}/.ssh /root/.ssh && exec \"$0\" \"$@\"",
        home.display()
    );
    let output = std::process::Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            &script,
            env!("CARGO_BIN_EXE_raftctl"),
        ])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), stdout, stderr)
}

// A full disk leaves the host as it was, and says so; with more space the same command goes on.
fn a_full_disk_changes_nothing() {
    let options = Options {
        opt_kib: Some(30 << 10),
    };
    let cluster = RemoteCluster::with(1, ROOT, options);
    let up = cluster
        .raftctl(&["up"])
        .code(20)
        .says("No space left on device");
    assert!(up.stderr.contains("free some space there"), "{up:?}");
    assert_nothing_left(&cluster, 0);
    cluster.set.hosts[0].must_run("mount -o remount,size=1g /opt");
    cluster.raftctl(&["up"]).ok();
}

// A connection that breaks in the middle of an upload leaves that host behind, with nothing
// half-done there; the others come up, and the same command brings it in.
fn a_connection_cut_while_shipping_is_survived() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.set.hosts[1].slow_down(SLOW_KBIT);
    let up = start(&cluster, &["up"]);
    wait_for_upload(&cluster, 1);
    cluster.set.hosts[1].cut_sessions();
    let (code, stderr) = end(up);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("node 2: 10.77."), "{stderr}");
    assert_nothing_left(&cluster, 1);
    // A line that goes dead without a word is noticed as well.
    cluster.set.hosts[1].must_run("rm -rf /opt/raftkv/test/bin");
    let up = start(&cluster, &["up"]);
    wait_for_upload(&cluster, 1);
    cluster.set.hosts[1].plug(false);
    let (code, stderr) = end(up);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("node 2: 10.77."), "{stderr}");
    cluster.set.hosts[1].plug(true);
    // A slow host is no trouble: it takes its time.
    cluster.raftctl(&["up"]).ok();
    cluster.until(2, "role", "follower");
}

// While one operator ships over a slow line, another one can't change the cluster, and learns who
// does. Ctrl-C ends the first in the middle, the lock is free at once, and the same command goes
// on.
fn two_operators_and_an_interrupt() {
    let cluster = RemoteCluster::new(3, WITH_SUDO);
    cluster.set.hosts[0].slow_down(SLOW_KBIT / 4);
    let first = start(&cluster, &["up"]);
    wait_for_upload(&cluster, 0);
    let other = tempfile::tempdir().unwrap();
    cluster.write(other.path(), WITH_SUDO, "");
    let second = raftctl(other.path(), &["stop", "all"]).code(1);
    let holder = format!("`raftctl up`, process {}", first.id());
    assert!(
        second.stderr.contains("is being changed by") && second.stderr.contains(&holder),
        "{second:?}"
    );

    // As a terminal does it: to raftctl and to all that it has started.
    kill_process_group(Pid::from_child(&first), Signal::INT).unwrap();
    let (code, stderr) = end(first);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("interrupted; what was done stays done"),
        "{stderr}"
    );
    cluster.set.hosts[0].speed_up();
    let again = raftctl(other.path(), &["up"]).ok();
    assert!(again.took < PATIENCE, "{again:?}");
    assert_nothing_left(&cluster, 0);
}

// Without root, what needs it says why it can't be, in sudo's own words; the rest works.
fn without_root_a_packet_filter_is_refused() {
    let cluster = RemoteCluster::new(3, PLAIN);
    cluster.raftctl(&["up"]).ok();
    let cut = cluster.raftctl(&["partition", "1|2,3", "--packet-filter"]);
    assert_ne!(cut.code, 0);
    assert!(
        cut.stderr.contains("a packet filter needs root: sudo:"),
        "{cut:?}"
    );
    cluster
        .raftctl(&["partition", "1|2,3", "--for", "30s"])
        .ok();
    cluster.raftctl(&["heal"]).ok();
}

// A port that another program has is told with that program, before anything is changed.
fn a_taken_port_is_told() {
    let cluster = RemoteCluster::new(1, ROOT);
    cluster.set.hosts[0]
        .must_run("/usr/sbin/sshd -f /etc/ssh/testhost_config -o PidFile=none -p 7400");
    let up = cluster.raftctl(&["up"]).code(2);
    let told = format!(
        "{}: port 7400 of node 1 is in use by",
        cluster.set.hosts[0].address
    );
    assert!(up.stderr.contains(&told), "{up:?}");
    assert!(up.stderr.contains("/usr/sbin/sshd"), "{up:?}");
    assert!(
        !cluster.set.hosts[0]
            .run("ls /opt/raftkv/test/bin")
            .status
            .success()
    );
}

// A binary for another machine is refused before it is sent, one for another C library when it is
// tried: each time with the command that helps, and nothing is switched.
fn a_binary_that_does_not_fit_is_refused() {
    let cluster = RemoteCluster::new(1, ROOT);
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let own = std::fs::read(own).unwrap();
    cluster.configure("binary: ./raft-node");

    let mut foreign = own.clone();
    // The field of the ELF header that names the machine: AArch64, or RISC-V on such a machine.
    foreign[18] = if foreign[18] == 0xb7 { 0xf3 } else { 0xb7 };
    std::fs::write(cluster.path("raft-node"), foreign).unwrap();
    let up = cluster.raftctl(&["up"]).code(20).says("it is built for");
    assert!(
        up.stderr.contains("name it in cluster.yaml: binary: PATH"),
        "{up:?}"
    );

    let mut other = own.clone();
    let loader = b"/ld-linux";
    let at = other
        .windows(loader.len())
        .position(|part| part == loader)
        .unwrap();
    other[at + 1..at + 3].copy_from_slice(b"no");
    std::fs::write(cluster.path("raft-node"), other).unwrap();
    let up = cluster
        .raftctl(&["up"])
        .code(20)
        .says("raft-node does not run there");
    assert!(up.stderr.contains("its C library does not fit"), "{up:?}");
    assert_nothing_left(&cluster, 0);

    std::fs::write(cluster.path("raft-node"), own).unwrap();
    cluster.raftctl(&["up"]).ok();
}
