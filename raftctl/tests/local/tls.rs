//! `tls` in cluster.yaml: certificates for everybody, made, renewed and changed by raftctl.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cluster::TestCluster;
use crate::support::{command, ended, raftctl};

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

impl TestCluster {
    fn certs(&self) -> Value {
        let shown = self.raftctl(&["certs", "show", "--output", "json"]);
        shown.ok().json()
    }

    fn term(&self) -> u64 {
        self.status()["term"].as_u64().unwrap()
    }
}

// One word, and everything that an operator does goes on as before, with certificates that nobody had to
// think of. Keys are where they were made, and nobody else's to read.
#[test]
fn one_word_switches_tls_on() {
    let cluster = TestCluster::with(3, "tls: on");
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(!plan.stdout.contains("PRIVATE"));
    let steps = [
        "1. make the authority that signs certificates (",
        "/.raftctl/test/tls/ca.key)\n",
        "2. give nodes 1, 2 and 3 certificates (none yet)\n",
        "3. start nodes 1, 2 and 3 (new cluster)\n",
    ];
    for step in steps {
        assert!(plan.stdout.contains(step), "{step}: {plan:?}");
    }
    assert!(!cluster.state("tls").exists() && !cluster.state("tls_node_1").exists());
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    let status = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        status.contains("\nTLS; the first certificate ends in 2"),
        "{status}"
    );
    for node in cluster.certs()["nodes"].as_array().unwrap() {
        let days = node["left_s"].as_u64().unwrap() / (24 * 3600);
        assert!((28..=30).contains(&days), "{node}");
    }
    for name in ["ca.key", "ca.pem", "trust.pem", "admin.pem"] {
        assert_eq!(mode(&cluster.state("tls").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&cluster.state("tls")), 0o700);
    for id in 1..=3 {
        let folder = cluster.state(&format!("tls_node_{id}"));
        assert_eq!(mode(&folder.join("node.key")), 0o600);
        assert_eq!(mode(&folder), 0o700);
    }
    cluster.raftctl(&["kill", "leader"]).ok();
    cluster.raftctl(&["set", "k", "w"]).ok();
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["transfer"]).ok();
    cluster.raftctl(&["restart", "all"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "w\n");
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(!doctor.stdout.contains("certificate"), "{doctor:?}");
    let chaos = [
        "scenario",
        "chaos",
        "--seed",
        "7",
        "--duration",
        "8s",
        "--clients",
        "4",
    ];
    cluster.raftctl(&chaos).ok();
    // All of it goes with the cluster.
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(!cluster.state("tls_node_1").exists());
    // Whoever has no certificate learns that from raftctl, too.
    cluster.raftctl(&["up"]).ok();
    std::fs::rename(cluster.state("tls"), cluster.path("aside")).unwrap();
    cluster
        .raftctl(&["get", "k", "--timeout", "2s"])
        .code(30)
        .says("the cluster speaks TLS, and");
    let refused = cluster.raftctl(&["restart", "1"]);
    refused
        .code(2)
        .says("copy .raftctl/<cluster>/tls/ from there");
}

/// A certificate that the cluster's authority signs for this key, that ends in so many seconds.
fn sign(cluster: &TestCluster, key: &str, uris: &[&str], dns: &[&str], ends_in: i64) -> String {
    let read = |name: &str| std::fs::read_to_string(cluster.state("tls").join(name)).unwrap();
    let issuer = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), issuer).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let uris = uris
        .iter()
        .map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()));
    let dns = dns
        .iter()
        .map(|name| rcgen::SanType::DnsName((*name).try_into().unwrap()));
    params.subject_alt_names = uris.chain(dns).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let day = 24 * 3600;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.as_secs() - 100 * day);
    let ends = now.as_secs().saturating_add_signed(ends_in);
    params.not_after = epoch + Duration::from_secs(ends);
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    params.signed_by(&key, &issuer).unwrap().pem()
}

// What has ended, or ends soon, is told with the command that ends that, and `up` needs no telling.
// raftctl's own certificate it makes by itself.
#[test]
fn ended_certificates_are_renewed_as_it_is_told() {
    let cluster = TestCluster::with(1, "tls: on");
    let get = || cluster.raftctl(&["get", "k", "--timeout", "2s"]);
    get().code(30).says("`raftctl up` makes it");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    let own = cluster.state("tls/admin.pem");
    let pem = std::fs::read_to_string(&own).unwrap();
    let key = pem
        .split_inclusive("-----END PRIVATE KEY-----\n")
        .next()
        .unwrap();
    let ended = sign(&cluster, key, &["raftkv://test/role/admin"], &[], -60);
    let put_ended = || std::fs::write(&own, format!("{key}{ended}")).unwrap();
    put_ended();
    get().ok();
    put_ended();
    let authority = cluster.state("tls/ca.key");
    std::fs::rename(&authority, cluster.path("ca.key")).unwrap();
    get().code(30).says("this certificate has ended");
    std::fs::rename(cluster.path("ca.key"), &authority).unwrap();
    get().ok();

    let node = cluster.state("tls_node_1");
    let key = std::fs::read_to_string(node.join("node.key")).unwrap();
    let dns = ["1.test.raftkv", "test.raftkv", "localhost"];
    let id = cluster.status()["cluster_ids"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let uri = format!("raftkv://{id}/node/1");
    let put = |ends_in| {
        let signed = sign(&cluster, &key, &[&uri], &dns, ends_in);
        std::fs::write(node.join("node.pem"), signed).unwrap();
    };
    let short = || {
        put(5 * 24 * 3600 + 600);
        cluster.eventually("a certificate that ends soon", |_| {
            let status = cluster.raftctl(&["status"]).ok().stdout;
            status.contains("its certificate ends in 5 days (`raftctl certs renew`)")
        });
    };
    short();
    let doctor = cluster.raftctl(&["doctor"]).stdout;
    assert!(
        doctor.contains("its certificate ends in 5 days"),
        "{doctor}"
    );
    cluster.raftctl(&["certs", "renew"]).ok();
    assert!(
        !cluster
            .raftctl(&["status"])
            .ok()
            .stdout
            .contains("ends in 5 days")
    );
    short();
    let plan = cluster.raftctl(&["plan"]).ok().stdout;
    let step = "1. give node 1 a certificate (it ends in 5 days)\n";
    assert!(plan.contains(step) && !plan.contains("start"), "{plan}");
    cluster
        .raftctl(&["up"])
        .ok()
        .says("give node 1 a certificate (it ends in 5 days)");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    put(4);
    cluster.eventually("an end", |_| {
        let got = get();
        let told = "the node's certificate has ended; `raftctl certs renew` makes another";
        got.code == 30 && got.stderr.contains(told)
    });
    cluster.raftctl(&["certs", "renew"]).ok();
    cluster.eventually("the new one", |_| get().code == 0);
    // What does not fit is not taken, and said.
    std::fs::write(node.join("node.pem"), "nonsense").unwrap();
    cluster.eventually("a word of it", |_| {
        let status = cluster.raftctl(&["status"]).ok().stdout;
        status.contains("its new certificate is not in use")
    });
    cluster.raftctl(&["up"]).ok();
    assert!(
        !cluster
            .raftctl(&["status"])
            .ok()
            .stdout
            .contains("not in use")
    );
}

// Under load certificates are renewed, and the authority is changed: no operation fails, and nobody stands
// for election.
#[test]
fn certificates_change_under_load() {
    let cluster = TestCluster::with(3, "tls: on");
    cluster.raftctl(&["up"]).ok();
    let leader = cluster.leader(|_| true);
    let term = cluster.term();
    let load = [
        "bench",
        "--clients",
        "4",
        "--duration",
        "25s",
        "--output",
        "json",
    ];
    let load = command(cluster.folder(), &load);
    let load = thread::spawn(move || ended(load));
    cluster.raftctl(&["certs", "renew"]).ok();
    cluster.raftctl(&["certs", "renew", "2"]).ok();
    let before = std::fs::read(cluster.state("tls/ca.pem")).unwrap();
    cluster
        .raftctl(&["certs", "rotate"])
        .ok()
        .says("certs rotate --finish");
    let after = std::fs::read(cluster.state("tls/ca.pem")).unwrap();
    assert_ne!(before, after);
    let remark = "`raftctl certs rotate --finish` ends the trust in the one before";
    cluster.raftctl(&["plan"]).ok().says(remark);
    let done = load.join().unwrap().ok().json();
    let errors = done["errors"].as_object().unwrap();
    assert!(errors.is_empty(), "{done:#}");
    cluster.raftctl(&["certs", "rotate", "--finish"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    let key = cluster.state("tls/ca.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = cluster.raftctl(&["certs", "renew"]);
    open.code(2).says("may be read by others (mode 644)");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let again = cluster.raftctl(&["certs", "rotate", "--finish"]);
    again.code(2).says("nothing to finish");
    assert_eq!((cluster.leader(|_| true), cluster.term()), (leader, term));
    for id in 1..=3 {
        let trusted = std::fs::read(cluster.state(&format!("tls_node_{id}/ca.pem"))).unwrap();
        assert_eq!(trusted, after);
    }
}

// A cluster that runs goes over to TLS one node at a time, while a client writes all the while, and back
// again.
#[test]
fn a_running_cluster_goes_over_and_back() {
    let cluster = TestCluster::up(3);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let value = format!("{count}");
                raftctl(cluster.folder(), &["set", "k", &value]).ok();
                count += 1;
            }
            count
        });
        for word in ["both", "on", "both", "off"] {
            cluster.configure(&format!("tls: {word}"));
            let plan = cluster.raftctl(&["plan"]).ok().stdout;
            assert_eq!(plan.matches("restart node").count(), 3, "{word}: {plan}");
            assert!(!plan.contains("stop"), "{word}: {plan}");
            cluster.raftctl(&["up"]).ok();
            let clear_too = cluster.node(1)["tls"]["clear_too"].as_bool();
            let expected = match word {
                "both" => Some(true),
                "on" => Some(false),
                _ => None,
            };
            assert_eq!(clear_too, expected, "{word}");
        }
        over.store(true, Ordering::Relaxed);
        assert!(writing.join().unwrap() > 10);
    });
}

// A client's certificate is written for one reader, says what it is for, and replaces nothing.
#[test]
fn certificates_are_made_for_clients() {
    let cluster = TestCluster::with(1, "tls: on");
    cluster.raftctl(&["up"]).ok();
    let issue = [
        "certs", "issue", "--role", "reader", "--prefix", "app/", "bob",
    ];
    let issued = cluster.raftctl(&issue).ok();
    assert_eq!(issued.stdout, "./bob.key\n./bob.pem\n./ca.pem\n");
    issued.says("test.raftkv");
    assert_eq!(mode(&cluster.path("bob.key")), 0o600);
    let trusted = std::fs::read(cluster.state("tls/trust.pem")).unwrap();
    assert_eq!(std::fs::read(cluster.path("ca.pem")).unwrap(), trusted);
    cluster.raftctl(&issue).code(2).says("is there already");
    for (arguments, words) in [
        (
            &["--role", "admin", "--prefix", "app/", "al"][..],
            "for readers and writers",
        ),
        (&["--role", "reader", "--valid", "2years", "al"], "400days"),
        (&["--role", "root", "al"], "root"),
        (&["--role", "reader", "../al"], "letters, digits"),
    ] {
        let all = [&["certs", "issue"], arguments].concat();
        cluster.raftctl(&all).code(2).says(words);
    }
    let clear = TestCluster::new(1);
    clear
        .raftctl(&["certs", "show"])
        .code(2)
        .says("`tls: both`");
}

/// Signs a request as an authority of somebody else would: with the names that it asks for.
fn sign_request(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, request: &str) -> String {
    let mut request = rcgen::CertificateSigningRequestParams::from_pem(request).unwrap();
    request.params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    request.params.not_before = epoch + Duration::from_secs(now.as_secs() - 3600);
    request.params.not_after = epoch + Duration::from_secs(now.as_secs() + 100 * 24 * 3600);
    request.signed_by(issuer).unwrap().pem()
}

/// An authority that raftctl has no key of: its certificate, and what signs.
fn somebody(name: &str) -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, rcgen::Issuer::new(params, key))
}

// An authority outside gets requests as files, and gives certificates as files; no key leaves its place, and what
// is wrong is not taken. Then everything goes on as with one of raftctl's own; and it can be changed.
#[test]
fn an_authority_outside_signs() {
    let cluster = TestCluster::with(1, "tls: on\ntls_ca: company.pem");
    let (pem, company) = somebody("company");
    // Not every tool ends the last line.
    let pem = pem.trim_end().to_owned();
    cluster.raftctl(&["check"]).ok().says("tls_ca names");
    std::fs::write(cluster.path("company.pem"), "nothing").unwrap();
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("holds no certificate");
    std::fs::write(cluster.path("company.pem"), &pem).unwrap();
    let plan = cluster.raftctl(&["plan"]).ok().stdout;
    assert!(
        plan.contains("1. give node 1 a certificate (none yet)"),
        "{plan}"
    );
    let asked = |name: &str| {
        let path = cluster.state("tls/requests").join(format!("{name}.csr"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let put = |name: &str, signed: &str| {
        std::fs::write(
            cluster.state("tls/signed").join(format!("{name}.pem")),
            signed.trim_end(),
        )
        .unwrap();
    };
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("tls/requests/raftctl.csr; put what it signs");
    put("raftctl", &sign_request(&company, &asked("raftctl")));
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("tls/requests/node_1.csr; put what it signs");
    let (_, stranger) = somebody("stranger");
    put("node_1", &sign_request(&stranger, &asked("node_1")));
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("what lies there is of no use: it has ended, or is of another authority");
    put("node_1", &sign_request(&company, &asked("raftctl")));
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("it is of another key");
    put("node_1", &sign_request(&company, &asked("node_1")));
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    assert!(!cluster.state("tls/ca.key").exists());
    cluster
        .raftctl(&["certs", "rotate"])
        .code(2)
        .says("`raftctl up`");
    // A client's key is made here, and its certificate is somebody else's matter, too.
    let issue = ["certs", "issue", "--role", "reader", "bob"];
    let issued = cluster.raftctl(&issue).ok();
    assert_eq!(issued.stdout, "./bob.key\n./bob.csr\n./ca.pem\n");
    let request = std::fs::read_to_string(cluster.path("bob.csr")).unwrap();
    std::fs::write(cluster.path("bob.pem"), sign_request(&company, &request)).unwrap();
    cluster.raftctl(&["certs", "use", "bob.pem"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["set", "k", "w"]).code(1).says("writer");
    // The next authority, as it is told: both are trusted, everything is signed anew, the first one goes.
    std::fs::remove_file(cluster.state("tls/admin.pem")).unwrap();
    let (next, other) = somebody("next");
    std::fs::write(cluster.path("company.pem"), format!("{pem}\n{next}")).unwrap();
    let plan = cluster.raftctl(&["plan"]).ok().stdout;
    assert!(
        plan.contains("give node 1 a certificate (whom to trust has changed)"),
        "{plan}"
    );
    cluster.raftctl(&["up"]).ok();
    put("node_1", &sign_request(&other, &asked("node_1")));
    put("raftctl", &sign_request(&other, &asked("raftctl")));
    cluster.raftctl(&["certs", "renew"]).ok();
    std::fs::remove_file(cluster.state("tls/admin.pem")).unwrap();
    std::fs::write(cluster.path("company.pem"), &next).unwrap();
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

/// Each node is replaced while clients read and write: they learn of the new ones, speak TLS with them, too, and
/// nothing fails; their keys are removed in the end by those who are there then.
fn clients_outlive_every_node(cluster: &TestCluster) {
    let raftctl = env!("CARGO_BIN_EXE_raftctl");
    let replace = format!("for id in 2 3 4 5; do {raftctl} replace $id || exit 1; done");
    let bench = ["bench", "during", "--in-flight", "8", "--output", "json"];
    let command = ["--", "sh", "-c", &replace];
    let report = cluster.raftctl(&[&bench[..], &command].concat()).ok();
    assert_eq!(report.json()["failed"], serde_json::json!({}), "{report:?}");
    let left = ["list", "bench/", "--output", "json"];
    let left = cluster.raftctl(&left).ok().json();
    assert_eq!(left["entries"].as_array().map(Vec::len), Some(0), "{left}");
}

// Nodes that come to a cluster with TLS get their certificates before they are started, and the plan says so; whoever
// has them goes with them.
#[test]
fn members_come_and_go_with_certificates() {
    let cluster = TestCluster::with_room_and(3, "tls: on");
    cluster.raftctl(&["set", "k", "v"]).ok();
    let dry = cluster.raftctl(&["add", "--dry-run"]).ok().stdout;
    let steps = "1. give node 4 a certificate (none yet)\n  2. start node 4 (new: to join";
    assert!(dry.contains(steps), "{dry}");
    cluster.raftctl(&["add"]).ok();
    cluster.raftctl(&["replace", "1"]).ok();
    let ids: Vec<u64> = cluster.certs()["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["left_s"].as_u64().is_some_and(|left| left > 0))
        .map(|node| node["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [2, 3, 4, 5]);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    clients_outlive_every_node(&cluster);
    cluster.raftctl(&["remove", "6"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    // In a folder without the authority nobody comes, and no other authority is made for it.
    std::fs::rename(cluster.state("tls/ca.key"), cluster.path("ca.key")).unwrap();
    cluster
        .raftctl(&["add"])
        .code(2)
        .says("certificates are made where the cluster was brought up first");
    assert!(!cluster.state("tls/ca.key").exists());
    std::fs::rename(cluster.path("ca.key"), cluster.state("tls/ca.key")).unwrap();
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// A certificate that was issued elsewhere is taken over whole, or not at all.
#[test]
fn an_issued_certificate_is_judged_before_it_is_used() {
    let cluster = TestCluster::with(1, "tls: on");
    cluster.raftctl(&["up"]).ok();
    cluster
        .raftctl(&["certs", "issue", "--role", "admin", "al"])
        .ok();
    let usage = || cluster.raftctl(&["certs", "use", "al.pem"]);
    usage()
        .code(2)
        .says("this folder has the cluster's authority");
    std::fs::rename(cluster.state("tls"), cluster.path("aside")).unwrap();
    cluster
        .raftctl(&["restart", "1"])
        .code(2)
        .says("`raftctl certs use`");
    usage().ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["restart", "1"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster
        .raftctl(&["certs", "renew"])
        .code(2)
        .says("certificates are made where the cluster was brought up first");
    // Another authority does not take the place of the cluster's unnoticed.
    let other = TestCluster::with(1, "tls: on");
    other.raftctl(&["up"]).ok();
    std::fs::rename(cluster.state("tls"), cluster.path("used")).unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .args([other.state("tls"), cluster.state("tls")])
        .status();
    assert!(copied.unwrap().success());
    for verb in [&["up"][..], &["plan"], &["restart", "1"]] {
        cluster
            .raftctl(verb)
            .code(2)
            .says("the nodes trust another authority than this folder's");
    }
    std::fs::remove_dir_all(cluster.state("tls")).unwrap();
    std::fs::rename(cluster.path("used"), cluster.state("tls")).unwrap();
    let own = std::fs::read(cluster.state("tls/admin.pem")).unwrap();
    let (key, pem) = (cluster.path("al.key"), cluster.path("al.pem"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    usage().code(2).says("may be read by others (mode 640)");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let good = std::fs::read(&key).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&key, other).unwrap();
    usage()
        .code(2)
        .says("the key is not that of the certificate");
    std::fs::write(&key, good).unwrap();
    std::fs::copy(cluster.state("tls_node_1/node.pem"), &pem).unwrap();
    usage()
        .code(2)
        .says("the key is not that of the certificate");
    std::fs::write(&pem, somebody("x").0).unwrap();
    usage().code(2).says("of no use with the ca.pem beside it");
    assert_eq!(std::fs::read(cluster.state("tls/admin.pem")).unwrap(), own);
}
