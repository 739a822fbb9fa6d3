//! What is said of a way to a host, and of the hosts, is true: each state is set up for real, the words
//! are looked for, what they advise is done as it stands there, and the same command then succeeds.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use harness::{Shared, Test, stories};
use testhosts::{HOSTS, ROOT};

use crate::cluster::RemoteCluster;
use crate::support::{PATIENCE, command, ended, raftctl, replace_file};

/// A host, and an operator whose home is a folder.
static OPERATOR: Shared<Operator> = Shared::new(Operator::new);
/// Three hosts with a cluster that is up.
static CLUSTER: Shared<RemoteCluster> = Shared::new(|| {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster
});

pub fn ends(program: harness::Program) -> harness::Program {
    program.ends(&OPERATOR).ends(&CLUSTER)
}

pub fn tests() -> Vec<Test> {
    let mut tests = stories!(
        [HOSTS],
        &OPERATOR,
        a_key_that_is_not_let_in,
        a_login_that_does_not_exist,
        a_key_with_a_passphrase,
        a_server_that_does_not_run,
        a_cable_that_is_out,
        a_name_that_means_nothing,
        a_configuration_that_others_may_write,
        a_configuration_that_is_wrong,
        a_shell_that_runs_nothing
    );
    tests.extend(stories!(
        [HOSTS],
        &CLUSTER,
        there_is_nothing_to_go_back_to,
        a_packet_filter_is_healed,
        an_interrupted_upgrade_goes_on,
        a_dead_host_comes_back,
        a_lock_of_another_is_waited_for,
        a_lock_that_is_left_over_ends,
        a_clock_that_is_off_is_set
    ));
    tests
}

/// The command in backticks that begins in this way.
#[track_caller]
pub fn quoted(text: &str, begins: &str) -> String {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let found = quoted.find(|command| command.starts_with(begins));
    found
        .unwrap_or_else(|| panic!("no `{begins}..` in {text}"))
        .to_owned()
}

/// Runs a command as it is told, which has to succeed.
#[track_caller]
pub fn by_hand(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

struct Operator {
    cluster: RemoteCluster,
    home: tempfile::TempDir,
}

/// Asks for nothing but a login.
const ASK: [&str; 4] = ["exec", "1", "--", "hostname"];

impl Operator {
    fn new() -> Self {
        let operator = Operator {
            cluster: RemoteCluster::new(1, ROOT),
            home: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(operator.file("")).unwrap();
        operator
    }

    /// A file of the operator's folder for ssh.
    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(".ssh").join(name)
    }

    /// Runs a command of the shell as this operator: whether it succeeded, and what it said. ssh looks for
    /// the home where the user database says, not at $HOME.
    fn run(&self, command: &str) -> (bool, String) {
        let script = format!(
            "mkdir -p -m 700 /root/.ssh && mount --bind {} /root/.ssh && {command}",
            self.file("").display()
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .current_dir(self.cluster.folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn ask(&self) -> (bool, String) {
        self.run(&format!(
            "{} {}",
            env!("CARGO_BIN_EXE_raftctl"),
            ASK.join(" ")
        ))
    }

    /// Asks in a state that has just been brought about: what is told of it. The command to try by hand
    /// fails there, too.
    #[track_caller]
    fn told(&self, words: &[&str]) -> String {
        self.cluster.set.hosts[0].cut_sessions();
        self.fails(words)
    }

    /// The same where no connection is left.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let (succeeded, said) = self.ask();
        assert!(!succeeded, "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
        let (succeeded, by_hand) = self.run(&self.try_it(&said));
        assert!(!succeeded, "{by_hand}");
        said
    }

    /// What is said to be tried, with a command for the host.
    #[track_caller]
    fn try_it(&self, said: &str) -> String {
        let by_hand = quoted(said, "ssh -F ");
        format!("{} true", by_hand.trim_end_matches(" true"))
    }

    /// After what was told has been heeded, the same succeeds, for raftctl and by hand.
    #[track_caller]
    fn is_well(&self, said: &str) {
        let (succeeded, now) = self.ask();
        assert!(succeeded && now.contains("node 1: n1"), "{said}\n{now}");
        let (succeeded, by_hand) = self.run(&self.try_it(said));
        assert!(succeeded, "{by_hand}");
    }
}

fn a_key_that_is_not_let_in(operator: &mut Operator) {
    let host = &operator.cluster.set.hosts[0];
    host.must_run("mv /root/.ssh/authorized_keys /root/kept");
    let said = operator.told(&["Permission denied (publickey)", "~/.ssh/authorized_keys"]);
    host.must_run("mv /root/kept /root/.ssh/authorized_keys");
    operator.is_well(&said);
}

fn a_login_that_does_not_exist(operator: &mut Operator) {
    let cluster = &operator.cluster;
    cluster.write(cluster.folder(), "nobody", "");
    operator.told(&["Permission denied (publickey)", "`ssh.user`"]);
    cluster.configure("");
    let (succeeded, now) = operator.ask();
    assert!(succeeded, "{now}");
}

// The agent is started and given the key by the two commands that are told.
fn a_key_with_a_passphrase(operator: &mut Operator) {
    let key = operator.cluster.set.key();
    let pass = |from: &str, to: &str| {
        by_hand(&format!(
            "ssh-keygen -q -p -P '{from}' -N '{to}' -f {}",
            key.display()
        ));
    };
    pass("", "secret");
    let said = operator.told(&["has a passphrase"]);
    let (start, add) = (quoted(&said, "eval "), quoted(&said, "ssh-add "));
    let asked = operator.file("askpass");
    std::fs::write(&asked, "#!/bin/sh\necho secret\n").unwrap();
    by_hand(&format!("chmod 755 {}", asked.display()));
    let raftctl = format!("{} {}", env!("CARGO_BIN_EXE_raftctl"), ASK.join(" "));
    let (succeeded, now) = operator.run(&format!(
        "{start} && SSH_ASKPASS=/root/.ssh/askpass SSH_ASKPASS_REQUIRE=force {add} && {raftctl}; \
         code=$?; ssh-agent -k >/dev/null; exit $code"
    ));
    pass("secret", "");
    assert!(succeeded && now.contains("node 1: n1"), "{said}\n{now}");
}

fn a_server_that_does_not_run(operator: &mut Operator) {
    operator.cluster.set.hosts[0].die();
    let said = operator.fails(&["Connection refused", "is its SSH server running"]);
    operator.cluster.set.revive(0);
    operator.is_well(&said);
}

fn a_cable_that_is_out(operator: &mut Operator) {
    let cluster = &operator.cluster;
    cluster.configure("limits: {connect: 3s}");
    cluster.set.hosts[0].cut_sessions();
    cluster.set.hosts[0].plug(false);
    let said = operator.fails(&["is it switched on"]);
    cluster.set.hosts[0].plug(true);
    cluster.configure("");
    operator.is_well(&said);
}

// Each of the two ways out: the name in ~/.ssh/config, and another one in cluster.yaml.
fn a_name_that_means_nothing(operator: &mut Operator) {
    let (cluster, unknown) = (&operator.cluster, testhosts::unknown_name());
    let address = cluster.set.hosts[0].address;
    let yaml = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let wrong = yaml.replace(&address.to_string(), &unknown);
    replace_file(cluster.path("cluster.yaml"), wrong);
    let said = operator.fails(&[
        "Could not resolve hostname",
        "add the name to ~/.ssh/config",
    ]);
    let name = format!("Host {unknown}\n  HostName {address}\n");
    std::fs::write(operator.file("config"), name).unwrap();
    operator.is_well(&said);
    std::fs::remove_file(operator.file("config")).unwrap();
    assert!(said.contains("correct `host`"), "{said}");
    cluster.configure("");
    let (succeeded, now) = operator.ask();
    assert!(succeeded, "{now}");
}

fn a_configuration_that_others_may_write(operator: &mut Operator) {
    let config = operator.file("config");
    std::fs::write(&config, "Host nowhere\n  User nobody\n").unwrap();
    by_hand(&format!("chmod 666 {}", config.display()));
    let said = operator.told(&["Bad owner or permissions on /root/.ssh/config"]);
    by_hand(&format!("{} {}", quoted(&said, "chmod "), config.display()));
    operator.is_well(&said);
    std::fs::remove_file(config).unwrap();
}

fn a_configuration_that_is_wrong(operator: &mut Operator) {
    std::fs::write(operator.file("config"), "Nonsense yes\n").unwrap();
    let said = operator.told(&["nonsense", "correct ~/.ssh/config"]);
    std::fs::remove_file(operator.file("config")).unwrap();
    operator.is_well(&said);
}

fn a_shell_that_runs_nothing(operator: &mut Operator) {
    let host = &operator.cluster.set.hosts[0];
    host.must_run("sed -i '/^root:/s,/bin/[a-z]*$,/bin/false,' /etc/passwd");
    let said = operator.told(&["its login shell runs no commands"]);
    host.must_run(&quoted(&said, "usermod "));
    operator.cluster.set.hosts[0].cut_sessions();
    operator.is_well(&said);
}

/// The line of `doctor` that says this, and the command of raftctl that it names, which is run.
#[track_caller]
fn heed(cluster: &RemoteCluster, finding: &str, advice: &str) {
    let doctor = cluster.raftctl(&["doctor"]);
    let line = doctor.stdout.lines().find(|line| line.contains(finding));
    let line = line.unwrap_or_else(|| panic!("{finding:?} is not in {doctor:?}"));
    let command = quoted(line, advice);
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    cluster.raftctl(&words).ok();
    cluster.leader(|_| true);
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(!doctor.stdout.contains(finding), "{command}: {doctor:?}");
}

// A cluster with its first release has no way back, and what is said to go forward does.
fn there_is_nothing_to_go_back_to(cluster: &mut RemoteCluster) {
    let refused = cluster.raftctl(&["upgrade", "--rollback"]);
    assert_ne!(refused.code, 0);
    let told = refused.says("no host has a release from before").stderr;
    let command = quoted(&told, "raftctl upgrade");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    cluster.raftctl(&words).ok();
    cluster.leader(|_| true);
}

fn a_packet_filter_is_healed(cluster: &mut RemoteCluster) {
    let cut = ["partition", "1|2,3", "--packet-filter", "--for", "5m"];
    cluster.raftctl(&cut).ok();
    heed(
        cluster,
        "a packet filter of raftctl cuts off",
        "raftctl heal",
    );
}

// The hosts have a release that one of the nodes does not run yet, as after an end between the two.
fn an_interrupted_upgrade_goes_on(cluster: &mut RemoteCluster) {
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut other = std::fs::read(own).unwrap();
    other.extend(b"another");
    std::fs::write(cluster.path("raft-node"), other).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(
        elsewhere.path(),
        ROOT,
        &format!("binary: {}", cluster.path("raft-node").display()),
    );
    raftctl(elsewhere.path(), &["upgrade"]).ok();
    cluster.configure("binary: ./raft-node");
    // Node 3 goes on with the release of before, which its host still has.
    cluster.raftctl(&["stop", "3"]).ok();
    let host = &cluster.set.hosts[2];
    let releases = "cd /opt/raftkv/test/bin";
    let new = host.must_run(&format!("{releases} && readlink current"));
    host.must_run(&format!(
        "{releases} && ln -sfn $(readlink previous) current"
    ));
    cluster.raftctl(&["start", "3"]).ok();
    host.must_run(&format!("{releases} && ln -sfn {new} current"));
    heed(cluster, "node 3 runs another release", "raftctl upgrade");
    cluster.configure("");
    cluster.raftctl(&["upgrade"]).ok();
}

// A host that does not answer is told with ssh's words; once it is back, what is told of its node leads on.
fn a_dead_host_comes_back(cluster: &mut RemoteCluster) {
    cluster.set.hosts[1].die();
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(doctor.stdout.contains("Connection refused"), "{doctor:?}");
    assert!(
        doctor.stdout.contains("is its SSH server running"),
        "{doctor:?}"
    );
    cluster.set.revive(1);
    heed(cluster, "node 2 ", "raftctl start 2");
    let doctor = cluster.raftctl(&["doctor"]).ok();
    assert_eq!(doctor.stdout, "all is well\n");
}

/// Another operator's raftctl, in a folder of its own, frozen while it holds the lock of all hosts.
struct Another {
    raftctl: Child,
    _folder: tempfile::TempDir,
}

impl Another {
    fn freezes_with_the_lock(cluster: &RemoteCluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        cluster.share(folder.path(), ROOT, "");
        let mut restart = command(folder.path(), &["restart", "all"]);
        restart.stdout(Stdio::null()).stderr(Stdio::null());
        let another = Another {
            raftctl: restart.spawn().unwrap(),
            _folder: folder,
        };
        let are_locked = || {
            let mut hosts = cluster.set.hosts.iter();
            hosts.all(|host| host.run("test -e /opt/raftkv/test/lock").status.success())
        };
        let started = Instant::now();
        while !are_locked() {
            assert!(started.elapsed() < PATIENCE, "it takes no lock");
        }
        another.signal("STOP");
        assert!(are_locked(), "it was done already");
        another
    }

    fn signal(&self, name: &str) {
        by_hand(&format!("kill -{name} {}", self.raftctl.id()));
    }

    /// It comes to its end, and succeeds.
    fn goes_on(mut self) {
        self.signal("CONT");
        assert!(self.raftctl.wait().unwrap().success());
    }

    /// It ends as a machine does that loses its power: nothing is given back.
    fn dies(mut self) {
        self.signal("KILL");
        self.raftctl.wait().unwrap();
    }
}

/// What `doctor` says of the lock, and what a verb is told that comes upon it: how it goes on with what
/// it was told.
fn told_of_the_lock(cluster: &RemoteCluster) -> Command {
    let doctor = cluster.raftctl(&["doctor"]);
    let line = doctor
        .stdout
        .lines()
        .find(|line| line.contains("is locked"));
    let line = line.unwrap_or_else(|| panic!("no lock is told: {doctor:?}"));
    assert!(line.contains("`raftctl restart`"), "{line}");
    assert!(line.contains("wait until that is done"), "{line}");
    let seconds = line.split("the lock ends by itself in ").nth(1);
    let seconds: u64 = seconds.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{line}");
    let refused = cluster
        .raftctl(&["start", "all", "--lock-wait", "0s"])
        .code(1);
    let told = &refused.stderr;
    assert!(told.contains("`raftctl restart`"), "{told}");
    let option = told
        .split('(')
        .find(|part| part.starts_with("--lock-wait "));
    let option = option.unwrap_or_else(|| panic!("no option is named in {told}"));
    let option: Vec<&str> = option.split(' ').take(2).collect();
    command(cluster.folder(), &[&["start", "all"], &option[..]].concat())
}

// Whoever comes upon another operator is told who that is, and with the option that is named it goes on
// when the other one is done.
fn a_lock_of_another_is_waited_for(cluster: &mut RemoteCluster) {
    let another = Another::freezes_with_the_lock(cluster);
    let mut again = told_of_the_lock(cluster);
    again.stdout(Stdio::null()).stderr(Stdio::piped());
    let again = again.spawn().unwrap();
    another.goes_on();
    let again = again.wait_with_output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(!doctor.stdout.contains("is locked"), "{doctor:?}");
}

// The lock of a raftctl that is gone ends by itself when it is said to, and the option that is named
// waits for that. Here most of its minute is taken away.
fn a_lock_that_is_left_over_ends(cluster: &mut RemoteCluster) {
    Another::freezes_with_the_lock(cluster).dies();
    let again = told_of_the_lock(cluster);
    for host in &cluster.set.hosts {
        let file = "/opt/raftkv/test/lock";
        host.must_run(&format!(
            "sed -i \"s/^until=.*/until=$(($(date +%s) + 3))/\" {file}"
        ));
    }
    ended(again).ok();
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(!doctor.stdout.contains("is locked"), "{doctor:?}");
}

// A host whose clock is off is told with what sets it. This machine has one clock for all of its hosts, so
// it is what the host's programs say of it that is off.
fn a_clock_that_is_off_is_set(cluster: &mut RemoteCluster) {
    let host = &cluster.set.hosts[2];
    host.must_run(
        "mv /usr/bin/date /usr/bin/date.right && cat >/usr/bin/date <<'END' && chmod 755 /usr/bin/date
#!/bin/sh
case $1 in +%s%3N) echo $(($(date.right +%s%3N) - 90000)) ;; *) exec date.right \"$@\" ;; esac
END",
    );
    host.must_run(
        "cat >/usr/local/bin/timedatectl <<'END' && chmod 755 /usr/local/bin/timedatectl
#!/bin/sh
[ \"$*\" = 'set-ntp true' ] && mv /usr/bin/date.right /usr/bin/date
END",
    );
    let told = "the clock of node 3 is ";
    let doctor = cluster.raftctl(&["doctor"]).ok();
    let line = doctor.stdout.lines().find(|line| line.contains(told));
    let line = line.unwrap_or_else(|| panic!("{told:?} is not in {doctor:?}"));
    assert!(line.contains(" ms behind this machine's"), "{line}");
    host.must_run(&quoted(line, "timedatectl "));
    let doctor = cluster.raftctl(&["doctor"]).ok();
    assert!(!doctor.stdout.contains(told), "{doctor:?}");
    host.must_run("rm /usr/local/bin/timedatectl");
}
