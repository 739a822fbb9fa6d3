//! The house rules that a compiler does not know: which room may use which, what is done in one
//! place only, how long a file may be. A complaint says what to do instead.

use std::fs;
use std::path::Path;

#[path = "support/advice.rs"]
mod advice;

use harness::sources::{is_part_of_word, names, shipped, source_files};

/// The kinds of files that rules are about.
const EXTENSIONS: &[&str] = &["rs", "sh"];

/// Longest file, in lines.
const LINES_MAX: usize = 700;

/// The rooms of this crate, from the command line down. A room uses only those in rows below its
/// own: neither one of its own row nor one above.
const ROWS: &[&[&str]] = &[
    &["cli"],
    &["verbs", "scenario", "bench"],
    &["ops"],
    &["plan", "providers"],
    &["hosts"],
    &["transport"],
    &["local"],
    &["terminal"],
    &["admin", "workload"],
    &["cluster"],
    &["scripts"],
    &["error"],
    &["load", "timeline"],
    &["client", "text"],
];

/// Rooms that are crates of their own, beside `src/`: what is done at full speed, and optimized for that.
const CRATES: &[&str] = &["client", "load", "text", "timeline"];

/// Files that still use a room that does not stand below theirs, with that room. Each is to be struck.
const NOT_YET: &[(&str, &str)] = &[];

/// What only these files and folders may name, and what the others use instead.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "Command::new",
        &[
            "transport/",
            "providers/",
            "local/binary.rs",
            "verbs/hosts.rs",
            "bench/command.rs",
        ],
        "run a script through a Transport",
    ),
    ("print!", &["terminal/", "verbs/shell/"], "terminal::out"),
    ("println!", &["terminal/"], "terminal::out"),
    ("KvClient", &["client/", "load/"], "client::Client"),
    ("AdminClient", &["admin.rs"], "admin"),
    ("indicatif", &["terminal/"], "terminal::progress"),
    (
        "Progress::new",
        &[
            "cli/",
            "verbs/",
            "scenario/",
            "bench/",
            "terminal/",
            "local/folder_lock.rs",
            "providers/gcp/status.rs",
        ],
        "the Progress that the verb hands in",
    ),
    ("raftkv::raft", &[], "the services of clients and operators"),
];

/// Longer than [`LINES_MAX`]. Each is to be struck.
const LONG: &[&str] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that ships, by its path below `src/` or, of the rooms that are crates, below the room.
fn shipped_files() -> Vec<(String, String)> {
    let mut files = shipped_below(&root().join("src"), "");
    files.retain(|(inner, _)| inner != "lib.rs" && inner != "main.rs");
    for room in CRATES {
        let source = root().join(room).join("src");
        files.extend(shipped_below(&source, &format!("{room}/")));
    }
    files
}

fn shipped_below(source: &Path, room: &str) -> Vec<(String, String)> {
    let paths = source_files(source, EXTENSIONS).into_iter();
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let file = |path: std::path::PathBuf| {
        let inner = path.strip_prefix(source).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        (format!("{room}{inner}"), shipped(Path::new(inner), &text))
    };
    paths.map(file).collect()
}

/// The room that a file belongs to.
fn room(inner: &str) -> &str {
    inner.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The rooms that the code of a file names, its own included.
fn used(inner: &str, code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for other in CRATES {
        if code.contains(&format!("raftkv_{other}::")) {
            names.push((*other).to_owned());
        }
    }
    if CRATES.contains(&room(inner)) {
        return names;
    }
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_part_of_word) {
            names.extend(first_names(&code[at + "crate::".len()..]));
        }
    }
    // So many steps up lead out of the file's own room.
    let depth = inner.trim_end_matches("/mod.rs").split('/').count();
    let way_out = "super::".repeat(depth);
    for (at, _) in code.match_indices(&way_out) {
        if !code[..at].ends_with("super::") {
            names.extend(first_names(&code[at + way_out.len()..]));
        }
    }
    names.retain(|name| name.starts_with(|char: char| char.is_ascii_lowercase()));
    names
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|char| is_part_of_word(*char))
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut depth = 0;
    let mut names = vec![name(group.trim_start())];
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn row(room: &str) -> usize {
    let row = ROWS.iter().position(|row| row.contains(&room));
    row.unwrap_or_else(|| panic!("the room {room} has no place in ROWS of tests/tidy.rs"))
}

/// The uses that do not point down: the file, and the room that it uses.
fn uses_that_do_not_point_down() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (inner, code) in shipped_files() {
        let own = room(&inner);
        for other in used(&inner, &code) {
            if other != own && row(&other) <= row(own) {
                found.push((inner.clone(), other));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

// Dependencies have one direction: what a room needs stands below it.
#[test]
fn rooms_use_what_stands_below_them() {
    let found = uses_that_do_not_point_down();
    let new = found
        .iter()
        .filter(|(file, other)| !NOT_YET.contains(&(file, other)));
    let new: Vec<String> = new
        .map(|(file, other)| format!("src/{file} uses {other}, which does not stand below it"))
        .collect();
    assert!(
        new.is_empty(),
        "{}\ncarry what both need further down, or hand it in as a value; the order is ROWS of \
         tests/tidy.rs",
        new.join("\n")
    );
    for (file, other) in NOT_YET {
        let is_found = found.contains(&((*file).to_owned(), (*other).to_owned()));
        assert!(is_found, "strike {file} and {other} from NOT_YET");
    }
}

// What has one place is done there.
#[test]
fn each_thing_has_its_place() {
    for (inner, code) in shipped_files() {
        for (word, places, instead) in ONLY_IN {
            let is_there = places.iter().any(|place| inner.starts_with(place));
            assert!(
                is_there || !names(&code, word),
                "src/{inner} names {word}, which only {places:?} may; use instead: {instead}"
            );
        }
    }
}

#[test]
fn files_are_short() {
    let crates = CRATES.iter().copied();
    let folders = crates.chain(["src", "tests"]);
    let folders: Vec<_> = folders.map(|folder| root().join(folder)).collect();
    for path in folders
        .iter()
        .flat_map(|folder| source_files(folder, EXTENSIONS))
    {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let inner = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let is_listed = LONG.contains(&inner);
        assert!(
            is_listed || lines <= LINES_MAX,
            "{inner} has {lines} lines: split it by what belongs together"
        );
        assert!(
            !is_listed || lines > LINES_MAX,
            "{inner} has {lines} lines by now: strike it from LONG"
        );
    }
}

// The searches above find what they look for, and nothing else.
#[test]
fn the_searches_see() {
    let code = shipped(
        Path::new("a/b.rs"),
        "use crate::ops::{A, b};\n// crate::cli in a comment\nlet x = crate::text::C;\nuse \
         crate::{bench, hosts::{x, y}};\nuse super::c;\nuse super::super::run;\n#[cfg(test)]\nmod \
         tests { use crate::verbs; }",
    );
    assert_eq!(
        used("a/b.rs", &code),
        ["ops", "text", "bench", "hosts", "run"]
    );
    assert_eq!(used("a.rs", "use super::cli; use super::Inner;"), ["cli"]);
    assert_eq!(used("a/mod.rs", "use super::cli;"), ["cli"]);
    assert_eq!(
        used("timeline/a.rs", "use crate::a; use raftkv_text::b;"),
        ["text"]
    );
    assert_eq!((room("a.rs"), room("a/b.rs")), ("a", "a"));
    let files = shipped_files();
    for file in [
        "cli/mod.rs",
        "client/lib.rs",
        "load/worker.rs",
        "text/words.rs",
    ] {
        assert!(files.iter().any(|(inner, _)| inner == file), "{file}");
    }
}
