//! What is built into this project: licences, sources and duplicates, as `deny.toml` allows them.
//!
//! `cargo deny`, which the gate runs, reads the same file, and knows of advisories too; this looks at what Cargo tells
//! of the dependencies by itself, for whoever does not have it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The packages of the dependency graph on Linux, of all features that are in use.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The quoted texts of a list in `deny.toml`, the first in each of its lines: `key = [` .. `]`.
fn allowed(section: &str, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let section = text.split(&format!("[{section}]\n")).nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let list = section.split(&format!("\n{key} = [")).nth(1);
    let list = list.unwrap_or_else(|| panic!("no {key} in {section}"));
    let lines = list.split("\n]").next().unwrap().lines();
    lines
        .filter_map(|line| Some(line.split('"').nth(1)?.to_owned()))
        .collect()
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

fn name(package: &Value) -> String {
    format!("{}@{}", text(package, "name"), text(package, "version"))
}

/// An expression of licences (SPDX; older crates write `/` for OR): which it needs, each a choice of sets.
fn choices(expression: &str) -> Vec<BTreeSet<String>> {
    let spaced = expression.replace('/', " OR ");
    let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> Vec<BTreeSet<String>> {
    let mut all = each(words);
    while words.next_if_eq(&"OR").is_some() {
        all.extend(each(words));
    }
    all
}

fn each(words: &mut Words<'_>) -> Vec<BTreeSet<String>> {
    let mut together = one(words);
    while words.next_if_eq(&"AND").is_some() {
        let others = one(words);
        let join = |own: &BTreeSet<String>| {
            let own = own.clone();
            let joined = others
                .iter()
                .map(move |other| own.union(other).cloned().collect());
            joined.collect::<Vec<_>>()
        };
        together = together.iter().flat_map(join).collect();
    }
    together
}

fn one(words: &mut Words<'_>) -> Vec<BTreeSet<String>> {
    match words.next() {
        Some("(") => {
            let inner = any(words);
            assert_eq!(words.next(), Some(")"));
            inner
        }
        Some(licence) => {
            let mut licence = licence.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                licence = format!("{licence} WITH {}", words.next().unwrap());
            }
            vec![BTreeSet::from([licence])]
        }
        None => vec![BTreeSet::from(["no licence".to_owned()])],
    }
}

// Everything may be given on under a licence that is allowed, and none is allowed that nothing needs.
#[test]
fn licences_are_allowed() {
    let allowed: BTreeSet<String> = allowed("licenses", "allow").into_iter().collect();
    let mut needed = BTreeSet::new();
    for package in packages() {
        let choices = choices(text(&package, "license"));
        let fits = choices.iter().filter(|choice| choice.is_subset(&allowed));
        let fits: Vec<_> = fits.collect();
        assert!(
            !fits.is_empty(),
            "{}: {}",
            name(&package),
            text(&package, "license")
        );
        let mut in_each = fits[0].clone();
        in_each.retain(|licence| fits.iter().all(|choice| choice.contains(licence)));
        needed.extend(in_each);
    }
    assert_eq!(needed, allowed, "strike from deny.toml what nothing needs");
}

// Everything comes from crates.io, or lies here.
#[test]
fn sources_are_known() {
    let registries = allowed_line("sources", "allow-registry");
    assert_eq!(registries.len(), 1);
    for package in packages() {
        let is_known = match package["source"].as_str() {
            Some(source) => source.strip_prefix("registry+") == Some(&*registries[0]),
            None => Path::new(text(&package, "manifest_path")).starts_with(root()),
        };
        assert!(is_known, "{}: {}", name(&package), package["source"]);
    }
}

/// The same of a list in one line.
fn allowed_line(section: &str, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let section = text.split(&format!("[{section}]\n")).nth(1).unwrap();
    let line = section
        .lines()
        .find(|line| line.starts_with(&format!("{key} = [")));
    let quoted = line.unwrap().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

// One version of each crate, but for those that are named; and none is named that there is one of.
#[test]
fn duplicates_are_named() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages() {
        let of = versions
            .entry(text(&package, "name").to_owned())
            .or_default();
        of.push(name(&package));
    }
    let named = allowed("bans", "skip");
    let several = versions.values().filter(|versions| versions.len() > 1);
    let mut missing = named.clone();
    for versions in several {
        let unnamed = versions.iter().filter(|version| !named.contains(version));
        assert_eq!(
            unnamed.count(),
            1,
            "name all but one of {versions:?} in deny.toml, with the reason"
        );
        missing.retain(|named| !versions.contains(named));
    }
    assert_eq!(missing, Vec::<String>::new(), "strike them from deny.toml");
}

// What an expression needs is understood, in the new notation and in the old one.
#[test]
fn expressions_are_understood() {
    let choices = |text| {
        let choices = choices(text).into_iter();
        let together = |choice: BTreeSet<String>| choice.into_iter().collect::<Vec<_>>().join("+");
        choices.map(together).collect::<Vec<_>>()
    };
    assert_eq!(choices("MIT/Apache-2.0"), ["MIT", "Apache-2.0"]);
    assert_eq!(choices("(MIT OR Zlib) AND ISC"), ["ISC+MIT", "ISC+Zlib"]);
    assert_eq!(
        choices("Apache-2.0 WITH LLVM-exception OR MIT"),
        ["Apache-2.0 WITH LLVM-exception", "MIT"]
    );
    assert_eq!(choices(""), ["no licence"]);
}
