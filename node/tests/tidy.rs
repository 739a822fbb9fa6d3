//! The house rules that a compiler does not know: what the pure modules may name, who may use
//! whom, how long a file may be.

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
    ("wal", &["command", "raft"]),
    ("engine", &["command", "kv", "raft", "wal"]),
    ("clock", &["raft"]),
    ("identity", &["raft"]),
    ("disk", &["engine", "wal"]),
    ("dump", &["command", "disk", "raft", "wal"]),
    ("convert", &["command", "raft"]),
    ("desk", &["command", "engine", "raft"]),
    (
        "peers",
        &["clock", "convert", "desk", "dump", "identity", "raft"],
    ),
    (
        "rpc",
        &[
            "clock", "command", "desk", "dump", "engine", "identity", "kv", "peers", "raft", "wal",
        ],
    ),
    ("flags", &["identity", "raft"]),
    (
        "server",
        &[
            "clock", "desk", "disk", "dump", "engine", "flags", "identity", "peers", "raft", "rpc",
            "wal",
        ],
    ),
];

/// Words that only these modules may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The clock asks the kernel which boot it counts from.
    ("std::fs", &["clock", "disk"]),
    ("rustix::time", &["clock"]),
    ("raftkv", &["convert", "peers", "rpc"]),
];

fn source_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What a module ships: without comments and without its tests.
fn shipped(path: &Path, text: &str) -> String {
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return String::new();
    }
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether the word stands in the code, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    let part_of_word = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// The modules of this crate that the code uses.
fn used(code: &str) -> Vec<String> {
    let paths = code.split("crate::").skip(1);
    let end = |char: char| !(char.is_alphanumeric() || char == '_');
    paths
        .map(|path| path.split(end).next().unwrap().to_owned())
        .collect()
}

/// The module of the crate that a file belongs to, and its code.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for path in source_files(&root) {
        let inner = path.strip_prefix(&root).unwrap();
        let first = inner.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "main" || module == "lib" {
            continue;
        }
        let code = shipped(&path, &fs::read_to_string(&path).unwrap());
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
            for other in used(&code) {
                let fine = other == module || allowed.contains(&&*other);
                assert!(fine, "{} uses {other}", path.display());
            }
            for (word, places) in ONLY_IN {
                let fine = places.contains(&&*module) || !names(&code, word);
                assert!(fine, "{} names {word}", path.display());
            }
        }
    }
    for (place, (module, allowed)) in LAYERS.iter().enumerate() {
        for other in *allowed {
            let above = LAYERS[..place].iter().any(|(name, _)| name == other);
            assert!(
                above,
                "LAYERS lets {module} use {other}, which is not below it"
            );
        }
    }
}

#[test]
fn files_are_short() {
    for path in source_files(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
    }
}

// The searches above find what they look for, and nothing else.
#[test]
fn the_searches_see() {
    let code = shipped(
        Path::new("a.rs"),
        "use crate::rpc::{A, b};\n// tokio in a comment\nlet brand = 1; // rand\nlet x = \
         crate::disk::C;\n#[cfg(test)]\nmod tests { use rand::Rng; }",
    );
    assert_eq!(used(&code), ["rpc", "disk"]);
    assert!(!names(&code, "rand") && !names(&code, "tokio"));
    assert!(names("use rand::Rng;", "rand") && names("std::time::Instant", "std::time"));
    assert_eq!(shipped(Path::new("tests.rs"), "use rand::Rng;"), "");
}
