//! Another store beside the cluster, asked through its own API.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Need, Test, program_is_missing, tests};

use crate::support::{PATIENCE, raftctl};

/// The other store.
static ETCD: Need = Need::new(|| {
    let server = program_is_missing("etcd", "install etcd-server");
    server.or_else(|| program_is_missing("etcdctl", "install etcd-client"))
});

pub fn tests() -> Vec<Test> {
    tests!(
        [ETCD],
        what_clients_of_etcd_notice_is_measured_alike,
        etcd_is_measured_in_turns
    )
}

/// One member of etcd, which ends with this value.
struct Etcd {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [client, peer] = [(); 2].map(|()| free_address());
        let urls = |address: &str| format!("http://{address}");
        let process = Command::new("etcd")
            .args(["--name", "a", "--log-level", "error", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &urls(&client)])
            .args(["--advertise-client-urls", &urls(&client)])
            .args(["--listen-peer-urls", &urls(&peer)])
            .args(["--initial-advertise-peer-urls", &urls(&peer)])
            .args(["--initial-cluster", &format!("a={}", urls(&peer))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Etcd {
            process,
            address: client,
            _folder: folder,
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nobody listens there at this moment.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

// The same clients ask etcd, and its version stands beside the figures; no key is left there. An address where nobody
// answers is told, and so is a store that nobody knows.
fn what_clients_of_etcd_notice_is_measured_alike() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.yaml"), "name: t\nnodes: 3\n").unwrap();
    let bench = |store: &str, command: &[&str]| {
        let words = ["bench", "during", "--in-flight", "4", "--against", store];
        let words = [&words[..], &["--output", "json", "--"], command].concat();
        raftctl(folder.path(), &words)
    };
    let etcd = Etcd::start();
    let store = format!("etcd={}", etcd.address);
    let begin = Instant::now();
    let report = loop {
        let ended = bench(&store, &["sleep", "0.5"]);
        if ended.code == 0 {
            break ended.json();
        }
        assert!(begin.elapsed() < PATIENCE, "{ended:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let version = report["cluster"].as_str().unwrap();
    assert!(version.starts_with("etcd 3."), "{report:#}");
    assert!(report["answered"].as_u64().unwrap() > 10, "{report:#}");
    assert_eq!(report["failed"], serde_json::json!({}), "{report:#}");
    assert_eq!(report["lease_ms"], serde_json::Value::Null);
    let gap = |kind: &str| report[kind]["worst_ms"].as_f64().unwrap();
    assert!(gap("read_gap") > 0.0 && gap("write_gap") > 0.0);
    let left = Command::new("etcdctl")
        .args(["--endpoints", &etcd.address, "get", "--prefix", "bench/"])
        .env("ETCDCTL_API", "3")
        .output()
        .unwrap();
    assert!(left.status.success(), "{left:?}");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    drop(etcd);
    bench(&store, &["true"])
        .code(2)
        .says("no member of etcd answers");
    bench("zookeeper=127.0.0.1:2181", &["true"])
        .code(2)
        .says("only other store");
}

/// Until etcd answers, as its first figures tell.
fn until_it_answers(folder: &std::path::Path, words: &[&str]) -> crate::support::Ended {
    let begin = Instant::now();
    loop {
        let ended = raftctl(folder, words);
        if !ended.stderr.contains("no member of etcd answers") {
            return ended;
        }
        assert!(begin.elapsed() < PATIENCE, "{ended:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// The same load goes to the cluster and to etcd in turns; medians and their ratio are told with the version of each and
// what its writes rest on, in a folder too. No key is left on either side.
fn etcd_is_measured_in_turns() {
    let folder = tempfile::tempdir().unwrap();
    // Node 1 has the port behind the one that is given.
    let port = || {
        free_address()
            .rsplit(':')
            .next()
            .unwrap()
            .parse::<u16>()
            .unwrap()
            - 1
    };
    let (peer, client) = (port(), port());
    let text = format!("name: t\nnodes: 1\nports: {{peer: {peer}, client: {client}}}\n");
    std::fs::write(folder.path().join("cluster.yaml"), text).unwrap();
    raftctl(folder.path(), &["up"]).ok();
    let etcd = Etcd::start();
    let store = format!("etcd={}", etcd.address);
    let short = [
        "--duration",
        "200ms",
        "--warm-up",
        "0s",
        "--keys",
        "20",
        "--rounds",
        "2",
    ];
    let words = [
        &["bench", "--against", &store, "--in-flight", "4"][..],
        &short,
    ]
    .concat();
    let words = [&words[..], &["--output", "json", "--report", "out"]].concat();
    let report = until_it_answers(folder.path(), &words).ok().json();
    let sides = report["sides"].as_array().unwrap();
    assert_eq!(sides.len(), 2, "{report:#}");
    for side in sides {
        for kind in ["reads", "writes"] {
            assert_eq!(
                side[kind]["each_per_second"].as_array().unwrap().len(),
                2,
                "{report:#}"
            );
        }
        let durability = side["durability"].as_str().unwrap();
        assert!(durability.contains("flushes at the leader"), "{report:#}");
    }
    assert!(
        sides[0]["store"].as_str().unwrap().starts_with("t 0."),
        "{report:#}"
    );
    assert!(
        sides[1]["store"].as_str().unwrap().starts_with("etcd 3."),
        "{report:#}"
    );
    assert!(report["ratio_of_reads"]["per_second"].as_f64().unwrap() > 0.0);
    assert!(folder.path().join("out/rates.svg").exists());
    let left = raftctl(folder.path(), &["list", "bench/", "-o", "json"])
        .ok()
        .json();
    assert_eq!(left["entries"].as_array().unwrap().len(), 0);
    raftctl(folder.path(), &["--yes", "down", "--purge"]).ok();
}
