//! Hosts of a test's own as Docker containers, with systemd as init: what the unit files are tried
//! on.
//!
//! Needed ([`CONTAINERS`]) are a Docker engine and, where no registry is in reach, root and the Debian
//! package `debootstrap`, with which the base image is made.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::{Need, program_is_missing};

/// What containers need.
pub static CONTAINERS: Need = Need::new(missing);

/// What the bundled Dockerfile and those of the tests begin with.
pub const BASE: &str = "debian:bookworm-slim";

/// systemd and an SSH server, and nothing that a container can't do.
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
RUN apt-get -o Acquire::Retries=5 update \
 && DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 install -y --no-install-recommends \
      systemd systemd-sysv dbus openssh-server sudo \
 && rm -rf /var/lib/apt/lists/* \
 && systemctl mask systemd-udevd systemd-journald-audit.socket getty.target console-getty
STOPSIGNAL SIGRTMIN+3
CMD [\"/sbin/init\"]
";
const IMAGE: &str = "raftctl-test-systemd:3";

/// How long a container may take to let someone log in.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// Some containers. They end with this value.
pub struct TestContainers {
    folder: tempfile::TempDir,
    network: String,
    /// The names of the containers.
    pub names: Vec<String>,
    /// Their addresses, in the same order.
    pub addresses: Vec<String>,
}

impl TestContainers {
    /// Starts `count` containers with systemd, for which nothing of [`CONTAINERS`] may be missing.
    pub fn start(count: usize) -> Self {
        sweep();
        {
            let _turn = turn();
            build(IMAGE, DOCKERFILE);
        }
        static SETS: AtomicUsize = AtomicUsize::new(1);
        let number = SETS.fetch_add(1, Ordering::Relaxed);
        let network = format!("raftctl-test-{}-{number}", std::process::id());
        docker(&["network", "create", "--label", "raftctl-test", &network]);
        let mut set = TestContainers {
            folder: tempfile::tempdir().unwrap(),
            network,
            names: Vec::new(),
            addresses: Vec::new(),
        };
        let key = set.key();
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let public = std::fs::read(key.with_extension("pub")).unwrap();
        for index in 1..=count {
            set.add(index, &public);
        }
        for address in &set.addresses {
            wait_until_up(address);
        }
        set
    }

    /// The private key that root of all containers lets in.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    fn add(&mut self, index: usize, public_key: &[u8]) {
        let name = format!("{}-{index}", self.network);
        let flags = "--detach --label raftctl-test --tmpfs /run --tmpfs /run/lock \
                     --volume /sys/fs/cgroup:/sys/fs/cgroup:ro";
        let mut words = vec!["run", "--name", &name, "--network", &self.network];
        words.extend(flags.split_whitespace());
        words.push(IMAGE);
        docker(&words);
        self.names.push(name.clone());
        let script = "mkdir -p -m 700 /root/.ssh && cat >/root/.ssh/authorized_keys";
        let mut let_in = Command::new("docker")
            .args(["exec", "-i", &name, "sh", "-c", script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let_in.stdin.take().unwrap().write_all(public_key).unwrap();
        assert!(let_in.wait().unwrap().success());
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        self.addresses
            .push(docker(&["inspect", "--format", format, &name]));
    }

    /// Boots a container anew, and waits until it lets someone log in at the same address.
    pub fn reboot(&self, index: usize) {
        docker(&["restart", "--time", "20", &self.names[index]]);
        wait_until_up(&self.addresses[index]);
    }

    /// Runs a script in a container.
    pub fn run(&self, index: usize, script: &str) -> Output {
        Command::new("docker")
            .args(["exec", &self.names[index], "sh", "-c", script])
            .output()
            .unwrap()
    }

    /// The same for a script that has to succeed; what it printed.
    #[track_caller]
    pub fn must_run(&self, index: usize, script: &str) -> String {
        let output = self.run(index, script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for TestContainers {
    fn drop(&mut self) {
        for name in &self.names {
            docker(&["rm", "--force", "--volumes", name]);
        }
        docker(&["network", "rm", &self.network]);
    }
}

/// Removes what test programs have left that were killed: the number in its name is that of a process
/// which is no more.
pub fn sweep() {
    let is_left = |name: &&str| {
        let rest = name.strip_prefix("raftctl-test").unwrap_or_default();
        let number = rest.trim_start_matches('-').split('-').next();
        let pid: Option<u32> = number.and_then(|number| number.parse().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    // Whoever else sweeps at the same time may have been first.
    let quietly = |words: &[&str]| {
        let _ = Command::new("docker").args(words).output();
    };
    let containers = docker(&["ps", "--all", "--format", "{{.Names}}"]);
    for name in containers.lines().filter(is_left) {
        quietly(&["rm", "--force", "--volumes", name]);
    }
    let networks = docker(&["network", "ls", "--format", "{{.Name}}"]);
    for name in networks.lines().filter(is_left) {
        quietly(&["network", "rm", name]);
    }
}

/// One test at a time makes images: whoever comes next finds them.
fn turn() -> MutexGuard<'static, ()> {
    static MAKING: Mutex<()> = Mutex::new(());
    // A test that failed has said so.
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is missing for containers. It brings about the base image, which the bundled Dockerfile begins
/// with as well.
fn missing() -> Option<String> {
    let absent = program_is_missing("docker", "install the package docker.io");
    absent.or_else(no_engine).or_else(no_base_image)
}

fn no_engine() -> Option<String> {
    let mut engine = Command::new("docker");
    engine.args(["version", "--format", "{{.Server.Version}}"]);
    let output = engine.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    (!output.status.success()).then_some(errors)
}

/// Gets the base image: from a registry, or made from Debian's packages.
fn no_base_image() -> Option<String> {
    let has = |words: &[&str]| {
        let output = Command::new("docker").args(words).output().unwrap();
        output.status.success()
    };
    if has(&["image", "inspect", BASE]) || has(&["pull", "--quiet", BASE]) {
        return None;
    }
    let remedy =
        format!("there is no image {BASE} and no registry; install the package debootstrap");
    if let Some(why) = program_is_missing("debootstrap", &remedy) {
        return Some(why);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", "bookworm"])
        .arg(folder.path());
    if !debootstrap
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
    {
        return Some("debootstrap can't make a base image".into());
    }
    let pack = format!(
        "tar -C {} -c . | docker import - {BASE}",
        folder.path().display()
    );
    let packed = Command::new("sh")
        .args(["-c", &pack])
        .stdout(Stdio::null())
        .status();
    (!packed.unwrap().success()).then(|| "the base image can't be imported".into())
}

/// Builds an image from the text of a Dockerfile.
fn build(image: &str, dockerfile: &str) {
    let mut building = Command::new("docker")
        .args(["build", "--quiet", "--tag", image, "-"])
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    building
        .stdin
        .take()
        .unwrap()
        .write_all(dockerfile.as_bytes())
        .unwrap();
    assert!(building.wait().unwrap().success(), "{image} can't be built");
}

/// Runs docker, which has to succeed; what it printed.
pub fn docker(words: &[&str]) -> String {
    let output = Command::new("docker").args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "docker {}: {errors}",
        words.join(" ")
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn wait_until_up(address: &str) {
    let give_up = Instant::now() + UP_WITHIN;
    let address = SocketAddr::new(address.parse().unwrap(), 22);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        assert!(Instant::now() < give_up, "{address} does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
}
