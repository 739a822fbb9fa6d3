//! Hosts of a test's own on this machine, each with an address, a file system and an SSH server.
//!
//! A host is a set of namespaces (network, mount, process, name) around one `sshd`:
//!
//! - addresses in `10.77.<number>.0/24` and `fd77:<number>::/64`, joined to the others and to this machine by a bridge;
//! - this machine's file system with a writable layer of its own above it, so that what is written
//!   on one host is seen on no other, and stays there while the host is dead;
//! - processes of its own, which end with it;
//! - the users [`ROOT`], [`WITH_SUDO`] and [`PLAIN`], who all let [`TestHosts::key`] in.
//!
//! It takes about a tenth of a second to make one. Needed ([`HOSTS`]) are root, Linux, and the Debian
//! packages `openssh-server`, `openssh-client`, `iproute2`, `sudo` and `nftables`.
//!
//! Deliberately absent: an init system, which [containers] have.

pub mod containers;

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Need, program_is_missing};

/// What hosts need.
pub static HOSTS: Need = Need::new(missing);

/// Logs in as root.
pub const ROOT: &str = "root";
/// May become root by `sudo`, without a password.
pub const WITH_SUDO: &str = "operator";
/// May not.
pub const PLAIN: &str = "plain";

/// How long a host may take to let someone log in.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// How many sets of hosts this machine has at a time at most.
const SETS_MAX: u8 = 40;
/// The writable layers of all hosts of a set live in memory, up to this.
const LAYERS: &str = "size=4g";

/// A name that no host has. Its label is too long to ask any server for.
pub fn unknown_name() -> String {
    format!("no-such-host-{}.invalid", "x".repeat(64))
}

/// How the hosts of a set are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Space for `/opt` on each host, in KiB; absent: as much as there is.
    pub opt_kib: Option<u64>,
}

/// Some hosts. They end with this value.
pub struct TestHosts {
    number: u8,
    folder: PathBuf,
    options: Options,
    /// The hosts, from the first.
    pub hosts: Vec<TestHost>,
    // The last to go: whoever locks the file next may use the number.
    _lock: File,
}

/// One host.
pub struct TestHost {
    /// What it calls itself.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// Where it is, too.
    pub address_v6: Ipv6Addr,
    namespace: String,
    folder: PathBuf,
    /// The namespace of the bridge, and the device there that leads to the host.
    switch: String,
    port: String,
    child: Option<Child>,
}

impl TestHosts {
    /// Makes `count` hosts, for which nothing of [`HOSTS`] may be missing.
    pub fn start(count: u8) -> Self {
        TestHosts::start_with(count, Options::default())
    }

    /// The same with options.
    pub fn start_with(count: u8, options: Options) -> Self {
        let (number, lock) = take_number();
        remove(number);
        let folder = PathBuf::from(format!("/tmp/raftctl-testhosts-{number}"));
        fs::create_dir_all(&folder).unwrap();
        must(
            "mount",
            &["-t", "tmpfs", "-o", LAYERS, "testhosts", path(&folder)],
        );
        let mut set = TestHosts {
            number,
            folder,
            options,
            hosts: Vec::new(),
            _lock: lock,
        };
        set.make_bridge();
        make_key(&set.key());
        for index in 1..=count {
            set.add(index);
        }
        for host in &set.hosts {
            host.wait_until_up();
        }
        set
    }

    /// The private key that all users of all hosts let in.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// The bridge has a namespace of its own, where no firewall of this machine (Docker's, say)
    /// drops what passes from host to host.
    fn make_bridge(&self) {
        let (number, switch) = (self.number, namespace(self.number, 0));
        let (inner, outer) = (format!("rkp{number}x0"), format!("rkv{number}x0"));
        let own = format!("10.77.{number}.1/24");
        must("ip", &["netns", "add", &switch]);
        let inside = |words: &[&str]| must("ip", &[&["-n", &switch], words].concat());
        inside(&["link", "add", "bridge", "type", "bridge"]);
        inside(&["link", "set", "bridge", "up"]);
        must(
            "ip",
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner,
            ],
        );
        must("ip", &["link", "set", &inner, "netns", &switch]);
        inside(&["link", "set", &inner, "master", "bridge", "up"]);
        must("ip", &["address", "add", &own, "dev", &outer]);
        let second = format!("{}/64", address_v6(number, 1));
        must("ip", &["address", "add", &second, "dev", &outer, "nodad"]);
        must("ip", &["link", "set", &outer, "up"]);
    }

    fn add(&mut self, index: u8) {
        let number = self.number;
        let host = TestHost {
            name: format!("n{index}"),
            address: IpAddr::V4(Ipv4Addr::new(10, 77, number, 10 + index)),
            address_v6: address_v6(number, 10 + u16::from(index)),
            namespace: namespace(number, index),
            folder: self.folder.join(format!("n{index}")),
            switch: namespace(number, 0),
            port: format!("rkv{number}x{index}"),
            child: None,
        };
        let (inner, outer) = (
            format!("rkp{number}x{index}"),
            format!("rkv{number}x{index}"),
        );
        let inside = |words: &[&str]| must("ip", &[&["-n", &host.namespace], words].concat());
        must("ip", &["netns", "add", &host.namespace]);
        must(
            "ip",
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner,
            ],
        );
        let switch = namespace(number, 0);
        must("ip", &["link", "set", &inner, "netns", &host.namespace]);
        must("ip", &["link", "set", &outer, "netns", &switch]);
        let plug = [
            "-n", &switch, "link", "set", &outer, "master", "bridge", "up",
        ];
        must("ip", &plug);
        inside(&["link", "set", "lo", "up"]);
        inside(&["link", "set", &inner, "name", "eth0"]);
        inside(&[
            "address",
            "add",
            &format!("{}/24", host.address),
            "dev",
            "eth0",
        ]);
        let second = format!("{}/64", host.address_v6);
        // Nobody else has it, so there is no need to wait until that is sure.
        inside(&["address", "add", &second, "dev", "eth0", "nodad"]);
        inside(&["link", "set", "eth0", "up"]);
        host.furnish(&fs::read_to_string(self.key().with_extension("pub")).unwrap());
        self.hosts.push(host);
        self.hosts.last_mut().unwrap().boot(&self.options);
    }

    /// Starts a host again that has died, with all that was written to it.
    pub fn revive(&mut self, index: usize) {
        let options = self.options.clone();
        self.hosts[index].boot(&options);
        self.hosts[index].wait_until_up();
    }
}

impl Drop for TestHosts {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            host.die();
        }
        remove(self.number);
    }
}

impl TestHost {
    /// Writes what differs from this machine: users, keys, the SSH server's own configuration.
    fn furnish(&self, public_key: &str) {
        let upper = self.folder.join("upper");
        for folder in [
            "root",
            "work",
            "upper/etc/ssh",
            "upper/etc/sudoers.d",
            "upper/home",
        ] {
            fs::create_dir_all(self.folder.join(folder)).unwrap();
        }
        let mut passwd = fs::read_to_string("/etc/passwd").unwrap();
        let mut shadow = fs::read_to_string("/etc/shadow").unwrap();
        let mut group = fs::read_to_string("/etc/group").unwrap();
        for (user, id) in [(WITH_SUDO, 6001), (PLAIN, 6002)] {
            passwd.push_str(&format!("{user}:x:{id}:{id}::/home/{user}:/bin/bash\n"));
            shadow.push_str(&format!("{user}:*:19000:0:99999:7:::\n"));
            group.push_str(&format!("{user}:x:{id}:\n"));
            let home = upper.join("home").join(user);
            let_in(&home, public_key, id);
        }
        let_in(&upper.join("root"), public_key, 0);
        fs::set_permissions(upper.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
        write(&upper.join("etc/passwd"), &passwd, 0o644);
        write(&upper.join("etc/shadow"), &shadow, 0o640);
        write(&upper.join("etc/group"), &group, 0o644);
        let sudoers = format!("{WITH_SUDO} ALL=(ALL) NOPASSWD: ALL\n");
        write(&upper.join("etc/sudoers.d/testhost"), &sudoers, 0o440);
        let hosts = format!("127.0.0.1 localhost {}\n", self.name);
        write(&upper.join("etc/hosts"), &hosts, 0o644);
        write(&upper.join("etc/ssh/testhost_config"), SSHD_CONFIG, 0o600);
        self.make_host_key();
    }

    /// Gives the host another key, as when its machine was replaced. Only while it is dead: its
    /// file system must not be written to from outside while it is in use.
    pub fn make_host_key(&self) {
        assert!(self.child.is_none(), "{} lives", self.name);
        let key = self.folder.join("upper/etc/ssh/testhost_key");
        // Absent at first.
        let _ = fs::remove_file(&key);
        let _ = fs::remove_file(key.with_extension("pub"));
        make_key(&key);
    }

    fn boot(&mut self, options: &Options) {
        let folder = path(&self.folder);
        let opt = options.opt_kib.map_or(String::new(), |kib| {
            format!("mount -t tmpfs -o size={kib}k,mode=755 tmpfs opt")
        });
        let script = format!(
            "set -e
             # What the host was before it died may still be on its way out.
             for try in 1 2 3 4 5 6 7 8 9; do
               ! mount -t overlay overlay \
                 -o lowerdir=/,upperdir={folder}/upper,workdir={folder}/work {folder}/root || break
               sleep 0.1
             done
             cd {folder}/root
             mount -t proc proc proc
             mount --rbind /dev dev
             mount -t tmpfs tmpfs run
             mkdir run/sshd run/lock
             mount -t tmpfs -o mode=1777 tmpfs tmp
             {opt}
             hostname {}
             exec chroot . /usr/sbin/sshd -D -e -f /etc/ssh/testhost_config",
            self.name
        );
        let log = File::create(self.folder.join("sshd.log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork"])
            .args(["--mount-proc", "--kill-child", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until the SSH server answers.
    pub fn wait_until_up(&self) {
        let give_up = Instant::now() + UP_WITHIN;
        let address = SocketAddr::new(self.address, 22);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let log = fs::read_to_string(self.folder.join("sshd.log")).unwrap_or_default();
            assert!(
                Instant::now() < give_up,
                "{} does not come up:\n{log}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Cuts the power: every process is gone at once.
    pub fn die(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its own child, the host's first process, goes with it, and the others with that.
            child.kill().unwrap();
            child.wait().unwrap();
            let give_up = Instant::now() + UP_WITHIN;
            while !pids(&self.namespace).is_empty() {
                assert!(Instant::now() < give_up, "{} does not die", self.name);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Pulls the network cable, or puts it back.
    pub fn plug(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        must("ip", &["-n", &self.namespace, "link", "set", "eth0", state]);
    }

    /// Makes the host's line slow, in both directions.
    pub fn slow_down(&self, kbit_per_second: u32) {
        let rate = format!("{kbit_per_second}kbit");
        let limit = [
            "root", "tbf", "rate", &rate, "burst", "16kb", "latency", "2s",
        ];
        for (namespace, device) in self.ends() {
            let end = ["-n", &namespace, "qdisc", "add", "dev", &device];
            must("tc", &[&end[..], &limit].concat());
        }
    }

    /// Gives the line its speed back.
    pub fn speed_up(&self) {
        for (namespace, device) in self.ends() {
            must(
                "tc",
                &["-n", &namespace, "qdisc", "del", "dev", &device, "root"],
            );
        }
    }

    /// Both ends of the host's line: each limits what goes out there.
    fn ends(&self) -> [(String, String); 2] {
        [
            (self.namespace.clone(), "eth0".into()),
            (self.switch.clone(), self.port.clone()),
        ]
    }

    /// Ends every SSH session of the host, as when its line is cut.
    pub fn cut_sessions(&self) {
        // One may end by itself just then.
        let end = "[ $p = 1 ] || kill -9 $p 2>/dev/null || [ ! -e /proc/$p ]";
        self.must_run(&format!("for p in $(ps -C sshd -o pid=); do {end}; done"));
    }

    /// What the host's SSH server has said since it was booted.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("sshd.log")).unwrap()
    }

    /// Changes the configuration of the host's SSH server: what is said first counts. Connections that are
    /// open keep what they had.
    pub fn configure_sshd(&self, lines: &str) {
        let write = "cd /etc/ssh; { echo \"$LINES\"; echo \"$REST\"; } >testhost_config";
        self.must_run(&format!("LINES='{lines}' REST='{SSHD_CONFIG}'; {write}"));
        self.restart_sshd();
    }

    /// Has the host's SSH server read its configuration and keys again. The one that is on its way out still takes
    /// connections for a moment: it is gone when this returns.
    pub fn restart_sshd(&self) {
        let listens = || self.log().matches("Server listening on").count();
        let before = listens();
        let give_up = Instant::now() + UP_WITHIN;
        self.must_run("kill -HUP 1");
        while listens() <= before {
            assert!(
                Instant::now() < give_up,
                "{} does not come back:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.wait_until_up();
    }

    /// Runs a script on the host as root, past the SSH server.
    pub fn run(&self, script: &str) -> Output {
        let first = self.first_process().to_string();
        Command::new("nsenter")
            .args([
                "-t", &first, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "sh", "-c", script,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same for a script that has to succeed; what it printed, without the last line's end.
    pub fn must_run(&self, script: &str) -> String {
        let output = self.run(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}: {errors}", self.name);
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// The outer number of the host's first process.
    fn first_process(&self) -> u32 {
        let outer = self.child.as_ref().expect("the host lives").id();
        let is_child = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.split(' ').nth(1) == Some(&outer.to_string())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut children = pids.filter(is_child);
        children.next().expect("unshare has one child")
    }
}

const SSHD_CONFIG: &str = "\
Port 22
HostKey /etc/ssh/testhost_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
";

fn missing() -> Option<String> {
    let programs = [
        ("sshd", "openssh-server"),
        ("ssh", "openssh-client"),
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("sudo", "sudo"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
    ];
    let mut programs = programs.iter();
    let absent = programs.find_map(|(program, package)| {
        program_is_missing(program, &format!("install the package {package}"))
    });
    let is_root = || rustix::process::geteuid().is_root();
    absent.or_else(|| (!is_root()).then(|| "hosts in namespaces need root".into()))
}

/// A number of the set's own, and the lock that says so, also to other processes.
fn take_number() -> (u8, File) {
    for number in 1..=SETS_MAX {
        let file = File::create(format!("/tmp/raftctl-testhosts-{number}.lock")).unwrap();
        if file.try_lock().is_ok() {
            return (number, file);
        }
    }
    panic!("{SETS_MAX} sets of test hosts are in use");
}

/// Removes all that a set of this number has left, however it ended.
fn remove(number: u8) {
    for index in 0..=u8::MAX {
        let namespace = namespace(number, index);
        if !Path::new("/run/netns").join(&namespace).exists() {
            break;
        }
        for pid in pids(&namespace) {
            // It may have ended by itself meanwhile.
            let _ = Command::new("kill")
                .args(["-9", &pid])
                .stderr(Stdio::null())
                .status();
        }
        must("ip", &["netns", "delete", &namespace]);
    }
    let quietly = |program: &str, words: &[&str]| {
        // Nothing to remove is what is wanted.
        let _ = Command::new(program)
            .args(words)
            .stderr(Stdio::null())
            .status();
    };
    quietly("ip", &["link", "delete", &format!("rkv{number}x0")]);
    let folder = format!("/tmp/raftctl-testhosts-{number}");
    quietly("umount", &["-l", &folder]);
    quietly("rmdir", &[&folder]);
}

fn pids(namespace: &str) -> Vec<String> {
    let pids = Command::new("ip")
        .args(["netns", "pids", namespace])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&pids.stdout);
    text.split_whitespace().map(str::to_owned).collect()
}

fn address_v6(number: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, u16::from(number), 0, 0, 0, 0, 0, host)
}

fn namespace(number: u8, index: u8) -> String {
    format!("raftctl-test-{number}-{index}")
}

/// Makes a home that lets a key in.
fn let_in(home: &Path, public_key: &str, id: u32) {
    let folder = home.join(".ssh");
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("authorized_keys"), public_key, 0o600);
    for path in [home, &folder, &folder.join("authorized_keys")] {
        chown(path, Some(id), Some(id)).unwrap();
    }
}

fn make_key(file: &Path) {
    must(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "testhosts",
            "-f",
            path(file),
        ],
    );
}

fn write(file: &Path, text: &str, mode: u32) {
    let mut opened = File::create(file).unwrap();
    opened.write_all(text.as_bytes()).unwrap();
    opened
        .set_permissions(fs::Permissions::from_mode(mode))
        .unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

fn must(program: &str, words: &[&str]) {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {errors}",
        words.join(" ")
    );
}
