//! The house rules that a compiler does not know: what the pure modules may name, who may use
//! whom, how long a file may be.

use harness::sources::{names, shipped, source_files};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LINES_MAX: usize = 700;

/// Words that stand for time, luck, files, network or threads: they enter the pure modules as
/// values, or not at all.
const IMPURE: &[&str] = &[
    "std::time",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "thread::sleep",
    "tokio",
    "tonic",
    "rand",
    "rustix",
    "raftkv",
];

const PURE: &[&str] = &["command", "raft", "kv", "wal", "engine"];

/// Modules, each with those it may use: it never uses one that stands below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("command", &[]),
    ("raft", &["command"]),
    ("kv", &["command", "raft"]),
    ("wal", &["command", "kv", "raft"]),
    ("engine", &["command", "kv", "raft", "wal"]),
    ("clock", &["raft"]),
    ("identity", &["raft"]),
    ("access", &["identity", "raft"]),
    ("roster", &["command", "identity", "raft"]),
    ("space", &[]),
    ("guests", &["access", "raft"]),
    ("metrics", &["clock", "guests", "identity", "raft", "space"]),
    (
        "disk",
        &["command", "engine", "kv", "metrics", "raft", "space", "wal"],
    ),
    ("dump", &["command", "disk", "raft", "wal"]),
    ("tls", &["access", "dump", "guests", "metrics", "raft"]),
    ("convert", &["command", "raft"]),
    ("desk", &["command", "engine", "raft"]),
    (
        "peers",
        &[
            "clock", "command", "convert", "desk", "dump", "engine", "guests", "identity", "kv",
            "raft", "roster", "space", "tls",
        ],
    ),
    (
        "witness",
        &["access", "disk", "dump", "identity", "peers", "raft", "tls"],
    ),
    (
        "rpc",
        &[
            "access", "clock", "command", "desk", "dump", "engine", "guests", "identity", "kv",
            "metrics", "peers", "raft", "roster", "space", "tls", "wal",
        ],
    ),
    ("flags", &["command", "identity", "raft", "tls"]),
    (
        "server",
        &[
            "access", "clock", "command", "desk", "disk", "dump", "engine", "flags", "identity",
            "metrics", "peers", "raft", "roster", "rpc", "space", "tls", "wal", "witness",
        ],
    ),
    (
        "tools",
        &["access", "command", "disk", "identity", "tls", "wal"],
    ),
    ("process", &["flags", "server", "tools", "witness"]),
];

/// The files of the consensus core in the same way: what a node keeps stands at the bottom, the one
/// entry on top, each role and each rule of its own in between.
const CORE_LAYERS: &[(&str, &[&str])] = &[
    ("contradiction", &[]),
    ("run", &[]),
    ("event", &["contradiction"]),
    ("lease", &["run"]),
    ("log", &[]),
    ("snapshot", &[]),
    ("message", &[]),
    ("random", &[]),
    ("window", &[]),
    ("progress", &["window"]),
    ("hashes", &[]),
    (
        "state",
        &["hashes", "lease", "log", "progress", "random", "run"],
    ),
    ("status", &["state"]),
    ("damage", &["state", "status"]),
    ("leader_lease", &["lease", "state"]),
    ("proof", &["lease", "run", "state"]),
    ("members", &["progress", "state"]),
    ("quorum_read", &["state"]),
    ("replication", &["log", "progress", "state"]),
    ("agreement", &["hashes", "state"]),
    ("install", &["progress", "state"]),
    ("transfer", &["state"]),
    ("format", &["state"]),
    ("follower", &["state"]),
    ("leader", &["hashes", "lease", "progress", "state"]),
    ("election", &["lease", "state"]),
    ("step", &["state"]),
];

/// Words that only these modules may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The clock asks the kernel which boot it counts from, the metrics how much memory the process has.
    ("std::fs", &["clock", "disk", "metrics", "tls"]),
    ("rustix::time", &["clock"]),
    // For the flags: limits that operators are told, too. Names in certificates begin with it.
    (
        "raftkv",
        &["access", "convert", "flags", "metrics", "peers", "rpc"],
    ),
];

/// The first names of the paths in the code that begin in this way: `crate::` or `super::`.
fn used(code: &str, root: &str) -> Vec<String> {
    let paths = code.split(root).skip(1);
    let end = |char: char| !(char.is_alphanumeric() || char == '_');
    paths
        .map(|path| path.split(end).next().unwrap().to_owned())
        .collect()
}

/// The module of the crate that a file belongs to, and its code.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for path in source_files(&root, &["rs"]) {
        let inner = path.strip_prefix(&root).unwrap();
        let first = inner.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "main" || module == "lib" {
            continue;
        }
        let code = shipped(inner, &fs::read_to_string(&path).unwrap());
        modules.entry(module).or_default().push((path, code));
    }
    modules
}

// Time, luck, network and disk enter the pure modules as values: that is what lets a simulator
// run the very code that ships.
#[test]
fn pure_modules_are_pure() {
    let modules = modules();
    for module in PURE {
        for (path, code) in &modules[*module] {
            for word in IMPURE {
                assert!(!names(code, word), "{} names {word}", path.display());
            }
        }
    }
}

// Dependencies have one direction, and each impure thing has one place.
#[test]
fn layers_point_down() {
    for (module, files) in modules() {
        let allowed = LAYERS.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
        for (path, code) in files {
            for other in used(&code, "crate::") {
                let fine = other == module || allowed.contains(&&*other);
                assert!(fine, "{} uses {other}", path.display());
            }
            for (word, places) in ONLY_IN {
                let fine = places.contains(&&*module) || !names(&code, word);
                assert!(fine, "{} names {word}", path.display());
            }
        }
    }
    assert_downward(LAYERS);
}

/// A list of layers lets each use only what stands above it in the list.
fn assert_downward(layers: &[(&str, &[&str])]) {
    for (place, (module, allowed)) in layers.iter().enumerate() {
        for other in *allowed {
            let above = layers[..place].iter().any(|(name, _)| name == other);
            assert!(above, "{module} may use {other}, which is not below it");
        }
    }
}

// Within the core the data stands below the roles, and the roles below the one entry: whoever reads
// a role needs to know what a node keeps, and no other role's insides.
#[test]
fn the_core_points_down() {
    for (path, code) in &modules()["raft"] {
        let file = path.file_stem().unwrap().to_str().unwrap();
        if file == "mod" || code.is_empty() {
            continue;
        }
        let allowed = CORE_LAYERS.iter().find(|(name, _)| *name == file);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{file} has no place in CORE_LAYERS"));
        for other in used(code, "super::") {
            // What is not a file is a name of the core's own surface.
            let is_file = CORE_LAYERS.iter().any(|(name, _)| *name == other);
            let fine = !is_file || allowed.contains(&&*other);
            assert!(fine, "raft/{file}.rs uses {other}");
        }
    }
    assert_downward(CORE_LAYERS);
}

#[test]
fn files_are_short() {
    for path in source_files(Path::new(env!("CARGO_MANIFEST_DIR")), &["rs"]) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
    }
}

// The search above finds what it looks for, and nothing else.
#[test]
fn the_search_sees() {
    let code = shipped(
        Path::new("a.rs"),
        "use crate::rpc::{A, b};\n// crate::kv in a comment\nlet x = crate::disk::C;",
    );
    assert_eq!(used(&code, "crate::"), ["rpc", "disk"]);
    assert_eq!(used("use super::log::Log;", "super::"), ["log"]);
}
