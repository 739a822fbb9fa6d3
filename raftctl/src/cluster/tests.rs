//! cluster.yaml, right and wrong.

use super::timing::Timing;
use super::*;
use crate::error::problem::Problems;

fn parse_text(text: &str) -> Result<Cluster, Problems> {
    let environment = |name: &str| (name == "COUNT").then(|| "3".to_owned());
    parse(text, "cluster.yaml", "/somewhere".into(), &environment)
}

fn right(text: &str) -> Cluster {
    parse_text(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(text: &str) -> String {
    parse_text(text).expect_err("it is wrong").to_string()
}

// A name is enough: all else has a default, and the default is what the manual says.
#[test]
fn a_name_is_enough() {
    let cluster = right("name: demo\n");
    assert_eq!(cluster.provider, Provider::Local);
    assert_eq!(cluster.ids(), [1, 2, 3, 4, 5]);
    assert_eq!(cluster.majority(), 3);
    assert_eq!(cluster.timing, Timing::LAN);
    assert_eq!((cluster.ports.peer, cluster.ports.client), (7400, 7500));
    assert!(cluster.fault_injection && cluster.inherited_reads && cluster.proof_of_death);
    assert_eq!(
        (cluster.snapshot_log_kib, cluster.format_max),
        (16384, None)
    );
    assert_eq!(cluster.binary, BinarySource::Auto);
    assert_eq!(
        cluster.state_dir(),
        PathBuf::from("/somewhere/.raftctl/demo")
    );
    assert!(cluster.warnings.list.is_empty());
}

// The file that comes with the project is right, as it is and with what it offers in comments.
#[test]
fn the_shipped_file_is_right() {
    let text = include_str!("../../../cluster.yaml");
    let cluster = right(text);
    assert_eq!(
        (cluster.provider, cluster.nodes.len()),
        (Provider::Local, 5)
    );
    // Comments that hold a setting, and no example of a second form of the same key.
    let is_setting = |line: &str| {
        [
            "# reads:",
            "# inherited_reads:",
            "# proof_of_death:",
            "# fault_injection:",
            "# snapshot_log_kib:",
            "# format_max:",
            "# metrics:",
            "# binary:",
            "# ports:",
            "# limits:",
            "#   hosts:",
            "#   uploads:",
            "#   connect:",
            "#   step:",
            "#   total:",
            "# ssh:",
            "# docker:",
            "# gcp:",
            "#   project:",
            "#   zones:",
            "#   machine_type:",
            "#   lifetime:",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut offered = String::new();
    let mut settings = 0;
    for line in text.lines() {
        settings += usize::from(is_setting(line));
        offered.push_str(if is_setting(line) { &line[2..] } else { line });
        offered.push('\n');
    }
    assert_eq!(settings, 22, "{text}");
    right(&offered);
}

// A format is held by its number, or not at all.
#[test]
fn a_format_is_held_by_its_number() {
    let held = |text: &str| right(&format!("name: demo\nformat_max: {text}\n")).format_max;
    assert_eq!((held("1"), held("newest")), (Some(1), None));
    let problem = wrong("name: demo\nformat_max: 0\n");
    assert!(
        problem.contains("format_max is 0; it must be 1 to"),
        "{problem}"
    );
}

// Everything that is wrong is said at once, each with its line, and with what to do.
#[test]
fn every_error_is_said_at_once() {
    let text = "\
nmae: demo
provider: locl
timing:
  preset: lam
  election_timeout_ms: [1000]
  heartbeat_ms: fast
  lease: 11s
nodes:
  - {id: 1}
  - {id: 1, hots: x}
  - {id: two}
  - 5
  - {host: n5}
reads: leese
inherited_reads: maybe
ports: {peer: 70000}
limits: {hosts: 0, step: 3}
ssh: {user: [a], port: 0}
binary: [x]
reads: stale
";
    let expected = "\
cluster.yaml:1: the cluster has no name; 1 to 32 of a-z, 0-9 and -, beginning with a letter, as in name: demo
cluster.yaml:1: unknown key nmae; did you mean name?
cluster.yaml:2: provider can't be \"locl\"; did you mean local?
cluster.yaml:4: timing.preset can't be \"lam\"; did you mean lan?
cluster.yaml:5: timing.election_timeout_ms has 1 values; write [min, max], as in [1000, 2000]
cluster.yaml:6: timing.heartbeat_ms is the text \"fast\"; write a whole number from 10 to 10000
cluster.yaml:7: timing.lease is 11s; it must be 2s to 10s
cluster.yaml:10: node 1 is there twice; the first is at line 9
cluster.yaml:10: unknown key nodes[].hots; did you mean host?
cluster.yaml:11: nodes[].id is the text \"two\"; write a whole number from 1 to 9999
cluster.yaml:12: nodes[] is the number 5; write keys and values; keys are id, host, ssh_port, ssh_user, zone, peer_address, client_address, listen
cluster.yaml:13: a node has no id; write id: 1, 2, ...
cluster.yaml:14: reads can't be \"leese\"; did you mean lease?
cluster.yaml:15: inherited_reads is the text \"maybe\"; write true or false
cluster.yaml:16: ports.peer is 70000; it must be 1 to 65535
cluster.yaml:17: limits.hosts is 0; it must be 1 to 256
cluster.yaml:17: limits.step is the number 3; write a length of time, as in 500ms, 2s or 12h
cluster.yaml:18: ssh.port is 0; it must be 1 to 65535
cluster.yaml:18: ssh.user is a list; write text
cluster.yaml:19: binary is a list; write text
cluster.yaml:20: the key reads is there twice; keep one of them";
    let mut found: Vec<String> = wrong(text).lines().map(str::to_owned).collect();
    let line = |text: &String| {
        text.split(':')
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0u64)
    };
    found.sort_by_key(|text| (line(text), text.clone()));
    assert_eq!(found.join("\n"), expected);
}

// A lease is 2 to 10 seconds, wherever it is written.
#[test]
fn a_lease_outside_its_bounds_is_refused() {
    for lease in ["2s", "10s", "2500ms"] {
        right(&format!("name: a\nlease: {lease}\n"));
    }
    for lease in ["1s", "11s", "1999ms", "10001ms", "0s"] {
        let text = wrong(&format!("name: a\nlease: {lease}\n"));
        assert!(
            text.ends_with("it must be 2s to 10s") && text.contains(":2: "),
            "{text}"
        );
        let text = wrong(&format!("name: a\ntiming: {{lease: {lease}}}\n"));
        assert!(text.ends_with("it must be 2s to 10s"), "{text}");
    }
    assert!(wrong("name: a\ntiming: {lease_ms: 1000}\n").contains("2000 to 10000"));
    let text = wrong("name: a\ntiming: {lease: 3s, lease_ms: 3000}\n");
    assert!(text.contains("the lease is given twice"), "{text}");
    let text = wrong("name: a\nlease: 3s\ntiming: {lease: 3s}\n");
    assert!(text.contains("given here and in timing"), "{text}");
}

// Presets can be taken as they are, or changed in parts; parts have to fit each other.
#[test]
fn timing_is_a_preset_or_ones_own() {
    assert_eq!(right("name: a\ntiming: wan\n").timing, Timing::WAN);
    let timing = right("name: a\nlease: 4s\ntiming: {preset: wan, heartbeat_ms: 500}\n").timing;
    let expected = Timing {
        lease_ms: 4000,
        heartbeat_ms: 500,
        ..Timing::WAN
    };
    assert_eq!(timing, expected);
    let text = wrong("name: a\ntiming: {heartbeat_ms: 900}\n");
    assert!(
        text.contains("too slow for an election timeout from 1000 ms"),
        "{text}"
    );
    assert!(text.contains("too slow for a lease of 2000 ms"), "{text}");
    let text = wrong("name: a\ntiming: {election_timeout_ms: [1000, 1100]}\n");
    assert!(text.contains("too close together"), "{text}");
}

// Nodes have to fit the provider.
#[test]
fn nodes_fit_the_provider() {
    let text = wrong("name: a\nprovider: ssh\nnodes: 3\n");
    assert!(text.contains("can't know the hosts"), "{text}");
    let text =
        wrong("name: a\nprovider: ssh\nnodes: [{id: 1, host: x}, {id: 2, host: x}, {id: 3}]\n");
    assert!(
        text.contains("nodes 1 and 2 are on the same host x"),
        "{text}"
    );
    assert!(text.contains("node 3 has no host"), "{text}");
    let text = wrong("name: a\nnodes: [{id: 1, host: far.example}]\n");
    assert!(
        text.contains("provider local runs on this machine"),
        "{text}"
    );
    let text = wrong("name: a\nprovider: docker\nnodes: [{id: 1, host: far.example}]\n");
    assert!(text.contains("provider docker makes the hosts"), "{text}");
    let text = wrong("name: a\nports: {peer: 7400, client: 7402}\n");
    assert!(
        text.contains("the peer port of node 3 is 7403, and so is the client port of node 1"),
        "{text}"
    );
    let text = wrong("name: a\nports: {client: 65533}\n");
    assert!(
        text.contains("the client port of node 3 would be 65536"),
        "{text}"
    );
    let text = wrong("name: a\nnodes: []\n");
    assert!(text.contains("there are no nodes"), "{text}");
}

// An even number is allowed, and a warning.
#[test]
fn an_even_number_of_nodes_is_a_warning() {
    let cluster = right("name: a\nnodes: 4\n");
    let warning = cluster.warnings.to_string();
    assert_eq!(
        warning,
        "cluster.yaml:2: 4 nodes survive no more failures than 3 do; an odd number is better"
    );
}

// Variables stand for numbers, too; one that is not set is an error only where it is in use.
#[test]
fn variables_come_from_the_environment() {
    assert_eq!(right("name: a\nnodes: \"${COUNT}\"\n").nodes.len(), 3);
    assert_eq!(right("name: a\nnodes: \"${NONE:-1}\"\n").nodes.len(), 1);
    assert_eq!(right("name: \"a-${COUNT}\"\n").name, "a-3");
    let text = wrong("name: a\nnodes: \"${NONE}\"\n");
    assert!(
        text.contains(":2: the environment variable NONE is not set"),
        "{text}"
    );
    right("name: a\ngcp: {project: \"${NONE}\"}\n");
    let text = wrong("name: a\nprovider: gcp\ngcp: {project: \"${NONE}\"}\n");
    assert!(text.contains("NONE is not set"), "{text}");
    // Text that only looks like a number is none.
    assert!(wrong("name: a\nnodes: \"3\"\n").contains("nodes is the text"));
}

// A name becomes part of folders and host names.
#[test]
fn names_are_narrow() {
    for name in [
        "A",
        "1a",
        "a_b",
        "a/b",
        "a-",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\"\"",
    ] {
        let text = wrong(&format!("name: {name}\n"));
        assert!(text.contains("the name can't be"), "{name}: {text}");
    }
}

// What becomes an argument of ssh or docker is no option of theirs, is not split, and means nothing
// to a shell; each is told with its line, and with nothing that only follows from it.
#[test]
fn names_that_other_programs_get_are_plain() {
    let nodes = |node: &str| format!("name: a\nprovider: ssh\nnodes:\n  - {{id: 1, {node}}}\n");
    let wrong_ones = [
        (nodes("host: \"-oProxyCommand=touch /tmp/x\""), 4, "host"),
        (nodes("host: \"a b\""), 4, "host"),
        (nodes("host: \"a\\nb\""), 4, "host"),
        (nodes("host: \"x@-oA\""), 4, "host"),
        (nodes("host: \"`id`\""), 4, "host"),
        (nodes("host: \"\""), 4, "host"),
        (nodes("host: a, ssh_user: -l"), 4, "ssh_user"),
        (nodes("host: a, peer_address: \"-x:1\""), 4, "peer_address"),
        (
            nodes("host: a, client_address: \"a b:1\""),
            4,
            "client_address",
        ),
        (nodes("host: a") + "ssh: {user: -x}\n", 5, "ssh.user"),
        (
            nodes("host: a") + "ssh: {jump: \"b,-oX=y\"}\n",
            5,
            "ssh.jump",
        ),
        (
            "name: a\nprovider: docker\ndocker: {image: --privileged}\n".into(),
            3,
            "docker.image",
        ),
    ];
    for (text, line, key) in wrong_ones {
        let found = wrong(&text);
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(
            found.starts_with(&format!("cluster.yaml:{line}: ")),
            "{found}"
        );
        assert!(found.contains(&format!("{key} can't be ")), "{found}");
        assert!(found.contains("; write a plain name"), "{found}");
    }
    for host in [
        "n1.example",
        "10.0.0.1",
        "\"[fd77::1]\"",
        "\"fe80::1%eth0\"",
        "under_score",
    ] {
        right(&nodes(&format!("host: {host}, ssh_user: a.b-c")));
    }
    right(&(nodes("host: a") + "ssh: {user: \"DOM\\\\ann\", jump: \"u@b:22,c\"}\n"));
}

// A port that is wrong by itself clashes with no other.
#[test]
fn a_wrong_port_is_told_once() {
    let text = wrong("name: a\nports: {peer: 80000, client: 7402}\n");
    assert_eq!(
        text,
        "cluster.yaml:2: ports.peer is 80000; it must be 1 to 65535"
    );
}

// Files that are named are known with their lines, those that are in use only.
#[test]
fn named_files_are_known() {
    let text = "name: a\nprovider: ssh\nnodes: [{id: 1, host: x}]\nbinary: some/raft-node\n\
                ssh:\n  identity_file: keys/id\n";
    let cluster = right(text);
    let files = cluster.named_files.iter();
    let files: Vec<_> = files
        .map(|file| (file.key, file.line, file.path.to_str().unwrap()))
        .collect();
    assert_eq!(
        files,
        [
            ("binary", 4, "/somewhere/some/raft-node"),
            ("ssh.identity_file", 6, "/somewhere/keys/id")
        ]
    );
    assert!(
        right("name: a\nssh: {identity_file: x}\n")
            .named_files
            .is_empty()
    );
}

// Nodes listen on both families unless a file says where; whoever is on the host reaches them there.
#[test]
fn nodes_listen_where_the_file_says() {
    let text = |more: &str| {
        format!(
            "name: a\nprovider: ssh\n{more}\nnodes: [{{id: 1, host: x, listen: 10.0.0.1}}, {{id: 2, \
             host: w}}, {{id: 3, host: z, listen: \"[fd00::1]\"}}]\n"
        )
    };
    let listening = |more: &str| {
        let nodes = right(&text(more)).nodes;
        let both = nodes
            .iter()
            .map(|node| (node.listens_on(7), node.reached_on_its_host(8)));
        both.collect::<Vec<_>>()
    };
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    let (first, third) = (
        pair("10.0.0.1:7", "10.0.0.1:8"),
        pair("[fd00::1]:7", "[fd00::1]:8"),
    );
    assert_eq!(
        listening(""),
        [first.clone(), pair("[::]:7", "localhost:8"), third.clone()]
    );
    assert_eq!(
        listening("ports: {listen: 0.0.0.0}"),
        [first, pair("0.0.0.0:7", "localhost:8"), third]
    );
    assert_eq!(
        wrong("name: a\nprovider: docker\nports: {listen: eth0}\n"),
        "cluster.yaml:3: ports.listen is \"eth0\"; write an address of the host, as in 10.0.0.1 or \
         \"fd00::1\", or 0.0.0.0 for all of IPv4"
    );
    assert!(wrong("name: a\nports: {listen: 0.0.0.0}\n").contains("provider local decides itself"));
}
