//! The programs and commands of docs/clients.md, as their reader would run them. They are made with
//! Debian's packages: see `packages` in .ci/run.

use crate::authority::write;
use crate::cluster::{Cluster, SOON};
use crate::on_a_runtime;
use crate::secured::CLUSTER;
use harness::{Need, Test, program_is_missing, tests};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

// It has a `main` of its own.
#[allow(dead_code)]
#[path = "../../../docs/clients/client.rs"]
mod rust_client;

// Likewise.
#[allow(dead_code)]
#[path = "../../../docs/clients/tls.rs"]
mod rust_tls;

const PYTHON: &str = "/usr/bin/python3";
const PYTHON_PLUGIN: &str = "/usr/bin/grpc_python_plugin";
/// Where Debian's packages have the sources of Go's libraries.
const GO_SOURCES: &str = "/usr/share/gocode";

fn package(name: &str) -> String {
    format!("install the package {name}")
}

static PYTHON_PACKAGES: Need = Need::new(|| {
    let plugin = Path::new(PYTHON_PLUGIN)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let absent = program_is_missing("python3", &package("python3"))
        .or_else(|| program_is_missing("protoc", &package("protobuf-compiler")))
        .or_else(|| program_is_missing(plugin, &package("protobuf-compiler-grpc")));
    absent.or_else(|| {
        let has_grpc = has(PYTHON, &["-c", "import grpc"]);
        (!has_grpc).then(|| format!("Python has no grpc; {}", package("python3-grpcio")))
    })
});

static GO_PACKAGES: Need = Need::new(|| {
    let absent = program_is_missing("go", &package("golang-go"))
        .or_else(|| program_is_missing("protoc", &package("protobuf-compiler")))
        .or_else(|| program_is_missing("protoc-gen-go", &package("protoc-gen-go-1-5")))
        .or_else(|| program_is_missing("protoc-gen-go-grpc", &package("protoc-gen-go-grpc")));
    absent.or_else(|| {
        let grpc = Path::new(GO_SOURCES).join("src/google.golang.org/grpc");
        let why = || format!("Go has no grpc; {}", package("golang-google-grpc-dev"));
        (!grpc.exists()).then(why)
    })
});

/// Debian has no package of it, so the gate can't ask for it.
static GRPCURL: Need =
    Need::new(|| program_is_missing("grpcurl", "see https://github.com/fullstorydev/grpcurl"))
        .optional();

pub fn tests() -> Vec<Test> {
    [
        tests!(
            [PYTHON_PACKAGES],
            the_client_in_python_runs,
            the_client_in_python_speaks_tls
        ),
        tests!([GO_PACKAGES], the_client_in_go_runs),
        tests!([], the_client_in_rust_runs, the_client_in_rust_speaks_tls),
        tests!(
            [GRPCURL],
            the_commands_of_grpcurl_run,
            the_commands_of_grpcurl_speak_tls
        ),
    ]
    .concat()
}

/// Whether a program is there, and answers this.
fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = silent.args(arguments).status();
    status.is_ok_and(|status| status.success())
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Makes the stubs of kv.proto; each argument names a kind and its folder.
fn protoc(arguments: &[String]) {
    let mut protoc = Command::new("protoc");
    protoc.current_dir(root()).arg("--proto_path=proto");
    succeed(protoc.args(arguments).arg("raftkv/v1/kv.proto"));
}

/// Runs a program that sets a key and reads it, with a leader and just after its death: it finds the
/// leader, whichever node that is, its calls wait while there is none, and none fails.
async fn survives_its_leader(run: impl AsyncFn(&[String]) -> String) {
    let mut cluster = Cluster::start(3, &[]).await;
    for round in 0..2 {
        if round == 1 {
            let leader = cluster.leader().await;
            cluster.kill(leader);
        }
        let ids = cluster.ids().into_iter();
        let nodes: Vec<String> = ids.map(|id| cluster.client_address(id)).collect();
        let began = Instant::now();
        assert_eq!(run(&nodes).await, "Jaggu", "round {round}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

/// What a program of ours printed on its one line.
fn printed(command: &mut Command) -> String {
    let output = succeed(command);
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

fn the_client_in_python_runs() {
    on_a_runtime(async {
        let folder = TempDir::new().unwrap();
        let to = folder.path().display();
        protoc(&[
            format!("--python_out={to}"),
            format!("--grpc_python_out={to}"),
            format!("--plugin=protoc-gen-grpc_python={PYTHON_PLUGIN}"),
        ]);
        survives_its_leader(async |nodes| {
            let mut python = Command::new(PYTHON);
            // The program's own folder comes first on Python's path: the stubs are elsewhere.
            python.env("PYTHONPATH", folder.path());
            let program = root().join("docs/clients/client.py");
            printed(python.arg(program).args(nodes))
        })
        .await;
    });
}

/// A cluster with TLS, and a certificate of bob's as `raftctl certs issue` writes it.
async fn with_certificate(role: &str) -> (Cluster, TempDir) {
    let cluster = Cluster::start_secured(3, &[]).await;
    cluster.set(None, "name1", "Jaggu").await;
    let folder = TempDir::new().unwrap();
    let authority = &cluster.secured.as_ref().unwrap().authority;
    let bob = authority.role(CLUSTER, "bob", role);
    write(&folder.path().join("ca.pem"), &authority.pem, 0o600);
    write(&folder.path().join("bob.pem"), &bob.certificate, 0o600);
    write(&folder.path().join("bob.key"), &bob.key, 0o600);
    (cluster, folder)
}

fn the_client_in_python_speaks_tls() {
    on_a_runtime(async {
        let (cluster, certificates) = with_certificate("writer").await;
        let stubs = TempDir::new().unwrap();
        let to = stubs.path().display();
        protoc(&[
            format!("--python_out={to}"),
            format!("--grpc_python_out={to}"),
            format!("--plugin=protoc-gen-grpc_python={PYTHON_PLUGIN}"),
        ]);
        let ids = cluster.ids().into_iter();
        let nodes: Vec<String> = ids.map(|id| cluster.client_address(id)).collect();
        let mut python = Command::new(PYTHON);
        python
            .env("PYTHONPATH", stubs.path())
            .env("RAFTKV_CERTIFICATE", certificates.path().join("bob"))
            .env("RAFTKV_SERVER_NAME", format!("{CLUSTER}.raftkv"))
            .arg(root().join("docs/clients/client.py"));
        assert_eq!(printed(python.args(nodes)), "Jaggu");
    });
}

fn the_client_in_rust_speaks_tls() {
    on_a_runtime(async {
        let (cluster, certificates) = with_certificate("reader?prefix=name").await;
        let name = format!("{CLUSTER}.raftkv");
        let bob = certificates.path().join("bob");
        let connector = rust_tls::Connector::new(&name, &bob).unwrap();
        let address = cluster.client_address(cluster.leader().await);
        let get = async |key| rust_tls::get(connector.channel(&address).unwrap(), key).await;
        assert_eq!(get("name1").await.unwrap(), "Jaggu");
        let refused = get("other").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let elsewhere = rust_tls::Connector::new("other.raftkv", &bob).unwrap();
        let refused = rust_tls::get(elsewhere.channel(&address).unwrap(), "name1").await;
        assert!(refused.unwrap_err().details().is_empty());
    });
}

// The page's commands, with the test's addresses and certificates.
fn the_commands_of_grpcurl_speak_tls() {
    on_a_runtime(async {
        let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
        let lines = grpcurl_lines(&page);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (cluster, certificates) = with_certificate("reader?prefix=name").await;
        let address = cluster.client_address(cluster.leader().await);
        for line in lines {
            let line = line
                .replace("127.0.0.1:7501", &address)
                .replace("demo.raftkv", &format!("{CLUSTER}.raftkv"));
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", &line]).current_dir(certificates.path());
            let told = String::from_utf8(succeed(output).stdout).unwrap();
            assert!(
                told.contains("raftkv.v1.Kv") || told.contains("Jaggu"),
                "{line}: {told}"
            );
        }
    });
}

/// The program in Go, made from Debian's sources: nothing is fetched.
fn go_client(folder: &Path) -> PathBuf {
    let to = folder.join("src");
    std::fs::create_dir(&to).unwrap();
    protoc(&[
        format!("--go_out={}", to.display()),
        format!("--go-grpc_out={}", to.display()),
    ]);
    let program = folder.join("client");
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off");
    go.env("GOPATH", format!("{}:{GO_SOURCES}", folder.display()));
    go.args(["build", "-o"]).arg(&program);
    succeed(go.arg(root().join("docs/clients/client.go")));
    program
}

fn the_client_in_go_runs() {
    on_a_runtime(async {
        let folder = TempDir::new().unwrap();
        let program = go_client(folder.path());
        survives_its_leader(async |nodes| {
            // Debian's grpc-go is so old that it sends again only where it is told so.
            printed(
                Command::new(&program)
                    .env("GRPC_GO_RETRY", "on")
                    .args(nodes),
            )
        })
        .await;
    });
}

fn the_client_in_rust_runs() {
    on_a_runtime(async {
        survives_its_leader(async |nodes| rust_client::run(nodes.to_vec()).await.unwrap()).await;
    });
}

/// The commands of grpcurl in a page, one line each.
fn grpcurl_lines(page: &str) -> Vec<&str> {
    let lines = page.lines().filter(|line| line.starts_with("grpcurl "));
    lines.collect()
}

// What the page says of its commands: the leader answers each, a follower only the stale read.
fn the_commands_of_grpcurl_run() {
    on_a_runtime(async {
        let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
        let lines = grpcurl_lines(&page);
        assert!(lines.len() > 3, "{lines:?}");
        let cluster = Cluster::start(3, &[]).await;
        cluster.set(None, "name1", "Jaggu").await;
        let leader = cluster.leader().await;
        let follower = cluster.others(leader)[0];
        cluster.caught_up(&cluster.ids()).await;
        for line in lines {
            for id in [leader, follower] {
                // Where the page has the addresses of its own cluster, this has those of the test.
                let line = line.replace("127.0.0.1:7501", &cluster.client_address(id));
                let output = Command::new("sh").args(["-c", &line]).output().unwrap();
                let told = [output.stdout, output.stderr].concat();
                let told = String::from_utf8_lossy(&told).into_owned();
                let expected = match (line.split_whitespace().last().unwrap(), id == leader) {
                    ("list", _) => "raftkv.v1.Kv",
                    ("grpc.health.v1.Health/Check", true) => "\"SERVING\"",
                    ("grpc.health.v1.Health/Check", false) => "NOT_SERVING",
                    (_, true) => "Jaggu",
                    _ if line.contains("STALE") => "Jaggu",
                    ("raftkv.v1.Classic/ServeClient", false) => "LeaderID",
                    (_, false) => "NOT_LEADER",
                };
                assert!(told.contains(expected), "{line}: {told}");
            }
        }
    });
}
