//! From the file to a [`Cluster`].

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::docker::DockerSettings;
use super::gcp::GcpSettings;
use super::limits::Limits;
use super::reader::{Report, Section};
use super::ssh::{self, SshSettings};
use super::timing::Timing;
use super::tls::CA_KEY;
use super::yaml::{self, Value};
use super::{BinarySource, Cluster, Metrics, NamedFile, Ports, Provider, Reads, Tls, nodes};
use crate::cluster::environment::Environment;
use crate::error::problem::Problems;
use crate::error::{Error, Result};

const KEYS: &[&str] = &[
    "name",
    "provider",
    "nodes",
    "timing",
    "lease",
    "reads",
    "inherited_reads",
    "proof_of_death",
    "fault_injection",
    "snapshot_log_kib",
    "format_max",
    "metrics",
    "tls",
    CA_KEY,
    "binary",
    "ports",
    "limits",
    "ssh",
    "docker",
    "gcp",
];

/// As `raft-node` has it.
const SNAPSHOT_LOG_KIB: u64 = 16 * 1024;
const SNAPSHOT_LOG_KIB_MAX: u64 = 1024 * 1024 * 1024;

/// What stands for whichever format the nodes read.
pub(crate) const FORMAT_NEWEST: &str = "newest";

const PORT_KEYS: &[&str] = &["peer", "client", "metrics", "listen"];

/// A file of more than this is not a cluster.yaml.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks a cluster's file; `-` is standard input.
///
/// # Errors
/// The file is not there, or wrong: all that is wrong with it.
pub fn load(path: &Path) -> Result<Cluster> {
    from_text(&read_text(path)?, path)
}

/// Reads a cluster's file; `-` is standard input.
///
/// # Errors
/// The file is not there, or far too large.
pub fn read_text(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        read_bounded(std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(read_bounded)
    };
    text.map_err(|error| unreadable(path, &error))
}

/// Checks the text of the cluster's file at `path`.
///
/// # Errors
/// All that is wrong with it.
pub fn from_text(text: &str, path: &Path) -> Result<Cluster> {
    let (name, directory) = if path == Path::new("-") {
        ("standard input".to_owned(), PathBuf::from("."))
    } else {
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = if parent == Path::new("") {
            Path::new(".")
        } else {
            parent
        };
        (path.display().to_string(), parent.to_owned())
    };
    let directory = std::path::absolute(&directory)
        .map_err(|error| Error::file("find the folder", &directory, &error))?;
    parse(text, &name, directory, &|variable| {
        std::env::var(variable).ok()
    })
    .map_err(Error::Cluster)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "; write one with `raftctl init`, or name it with -c FILE",
        _ => "",
    };
    Error::Usage(format!("cannot read {}: {error}{hint}", path.display()))
}

fn read_bounded(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    let count = from.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if count as u64 > FILE_BYTES_MAX {
        let message = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::other(message));
    }
    Ok(text)
}

/// Checks the text of a cluster's file.
///
/// # Errors
/// All that is wrong with it, in the order of its lines.
pub fn parse(
    text: &str,
    file: &str,
    directory: PathBuf,
    environment: Environment<'_>,
) -> Result<Cluster, Problems> {
    let mut report = Report::new(environment);
    let (tree, problems) = yaml::parse(text);
    report.problems = problems;
    let cluster = tree.and_then(|tree| read(&tree, directory, &mut report));
    report.problems.sort_by_key(|problem| problem.line);
    report.warnings.sort_by_key(|problem| problem.line);
    let all = |list| Problems {
        file: file.to_owned(),
        list,
    };
    match cluster {
        Some(mut cluster) if report.problems.is_empty() => {
            cluster.warnings = all(report.warnings);
            Ok(cluster)
        }
        _ => Err(all(report.problems)),
    }
}

fn read(tree: &Value, directory: PathBuf, report: &mut Report<'_>) -> Option<Cluster> {
    let file = Section::open(tree, "", KEYS, report)?;
    let name = cluster_name(&file, report);
    let provider = file.variant::<Provider>("provider", report);
    let wrong_provider = provider.is_none() && file.value("provider").is_some();
    let provider = provider.unwrap_or(Provider::Local);
    let reads = file.variant::<Reads>("reads", report);
    let (ports, listen) = read_ports(&file, report);
    let mut nodes = nodes::read(&file, (!wrong_provider).then_some(provider), report);
    if !wrong_provider {
        let line = file.line_of(if listen.is_some() { "ports" } else { "nodes" });
        nodes::listen_on(&mut nodes, listen, provider, line, report);
    }
    let metrics = file.variant::<Metrics>("metrics", report);
    let metrics = metrics.unwrap_or_default();
    // Ports that are wrong by themselves would only clash by accident.
    if let (false, Some(ports)) = (wrong_provider, ports) {
        let line = file.line_of("ports");
        nodes::check_ports(&nodes, provider, (ports, metrics), line, report);
    }
    let on_this_machine = matches!(provider, Provider::Local | Provider::Docker);
    let (ssh, docker, gcp) = provider_sections(&file, provider, report);
    let timing = Timing::read(&file, report);
    ssh.check(&nodes, file.line_of("ssh"), report);
    if provider == Provider::Gcp {
        gcp.check(
            &nodes,
            &timing,
            ssh.user.as_deref(),
            file.line_of("gcp"),
            report,
        );
    }
    let binary = read_binary(&file, &directory, report);
    let tls_ca = file.text(CA_KEY, report).map(|path| directory.join(path));
    Some(Cluster {
        name: name.unwrap_or_default(),
        provider,
        nodes,
        timing,
        reads: reads.unwrap_or_default(),
        inherited_reads: file.boolean("inherited_reads", report).unwrap_or(true),
        proof_of_death: file.boolean("proof_of_death", report).unwrap_or(true),
        // Whoever reaches the port of a node that allows it can cut the node off: harmless on
        // one machine, not in a network.
        fault_injection: file
            .boolean("fault_injection", report)
            .unwrap_or(on_this_machine),
        snapshot_log_kib: file
            .integer("snapshot_log_kib", 1..=SNAPSHOT_LOG_KIB_MAX, report)
            .unwrap_or(SNAPSHOT_LOG_KIB),
        format_max: read_format_max(&file, report),
        metrics,
        tls: read_tls(&file, provider, report),
        tls_line: file.value("tls").map(|_| file.line_of("tls")),
        named_files: named_files(&file, (provider, &ssh), &binary, &tls_ca, &directory),
        tls_ca,
        ports: ports.unwrap_or_default(),
        limits: match file.value("limits") {
            Some(value) => Limits::read(value, report),
            None => Limits::default(),
        },
        binary,
        ssh,
        docker,
        gcp,
        directory,
        warnings: Problems {
            file: String::new(),
            list: Vec::new(),
        },
    })
}

/// The files of this machine that are in use.
fn named_files(
    file: &Section<'_>,
    (provider, ssh): (Provider, &SshSettings),
    binary: &BinarySource,
    tls_ca: &Option<PathBuf>,
    directory: &Path,
) -> Vec<NamedFile> {
    let mut named = Vec::new();
    if let BinarySource::Path(path) = binary {
        named.push(NamedFile {
            key: "binary",
            line: file.line_of("binary"),
            path: path.clone(),
        });
    }
    if let Some(path) = tls_ca {
        named.push(NamedFile {
            key: CA_KEY,
            line: file.line_of(CA_KEY),
            path: path.clone(),
        });
    }
    // Where raftctl makes the hosts it makes the keys, too.
    if let (Provider::Ssh, Some(path)) = (provider, ssh.identity_path(directory)) {
        named.push(NamedFile {
            key: ssh::IDENTITY_KEY,
            line: ssh.identity_line,
            path,
        });
    }
    named
}

/// The sections of the providers. One that is not in use is checked all the same, but a variable
/// that is not set is no problem there.
fn provider_sections(
    file: &Section<'_>,
    provider: Provider,
    report: &mut Report<'_>,
) -> (SshSettings, DockerSettings, GcpSettings) {
    report.unset_is_a_problem = provider != Provider::Local;
    let ssh = file
        .value("ssh")
        .map(|value| SshSettings::read(value, report));
    report.unset_is_a_problem = provider == Provider::Docker;
    let docker = file
        .value("docker")
        .map(|value| DockerSettings::read(value, report));
    report.unset_is_a_problem = provider == Provider::Gcp;
    let gcp = file
        .value("gcp")
        .map(|value| GcpSettings::read(value, report));
    report.unset_is_a_problem = true;
    (
        ssh.unwrap_or_default(),
        docker.unwrap_or_default(),
        gcp.unwrap_or_default(),
    )
}

/// The name becomes part of folders, host names and cloud resources, hence the narrow alphabet.
fn cluster_name(file: &Section<'_>, report: &mut Report<'_>) -> Option<String> {
    const HINT: &str = "1 to 32 of a-z, 0-9 and -, beginning with a letter, as in name: demo";
    if file.value("name").is_none() {
        report.problem(file.line_of("name"), "the cluster has no name", HINT);
        return None;
    }
    let name = file.text("name", report)?;
    let is_right = name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_right {
        report.problem(
            file.line_of("name"),
            format!("the name can't be {name:?}"),
            HINT,
        );
        return None;
    }
    Some(name)
}

/// The ports, `None` where what is written is wrong, which is reported here; and the address at which
/// all nodes are to listen, if one is given.
fn read_ports(file: &Section<'_>, report: &mut Report<'_>) -> (Option<Ports>, Option<IpAddr>) {
    let defaults = Ports::default();
    let Some(value) = file.value("ports") else {
        return (Some(defaults), None);
    };
    let Some(section) = Section::open(value, "ports.", PORT_KEYS, report) else {
        return (None, None);
    };
    let listen = nodes::listen(&section, report);
    let mut port = |key, default| match section.value(key) {
        Some(_) => section.port(key, report),
        None => Some(default),
    };
    // All are read before any is missed: every problem is told.
    let (peer, client) = (port("peer", defaults.peer), port("client", defaults.client));
    let metrics = port("metrics", defaults.metrics);
    let all = peer.zip(client).zip(metrics);
    let ports = all.map(|((peer, client), metrics)| Ports {
        peer,
        client,
        metrics,
    });
    (ports, listen)
}

/// The newest format that the cluster may go over to: a number, or `newest`.
fn read_format_max(file: &Section<'_>, report: &mut Report<'_>) -> Option<u64> {
    match &file.value("format_max")?.kind {
        yaml::Kind::Text(text) if text == FORMAT_NEWEST => None,
        _ => file.integer("format_max", 1..=9999, report),
    }
}

/// `on` and `off` are truth values in YAML.
fn read_tls(file: &Section<'_>, provider: Provider, report: &mut Report<'_>) -> Tls {
    match file.value("tls").map(|value| &value.kind) {
        Some(yaml::Kind::Bool(true)) => Tls::On,
        Some(yaml::Kind::Bool(false)) => Tls::Off,
        _ => {
            let said = file.variant("tls", report);
            said.unwrap_or_else(|| Tls::default_of(provider))
        }
    }
}

fn read_binary(file: &Section<'_>, directory: &Path, report: &mut Report<'_>) -> BinarySource {
    match file.text("binary", report).as_deref() {
        None | Some("auto") => BinarySource::Auto,
        Some(path) => BinarySource::Path(directory.join(path)),
    }
}
