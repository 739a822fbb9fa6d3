//! The project's pages are true where a machine can tell: links lead somewhere, commands are
//! understood, and the tests that they name are there.

use std::path::{Path, PathBuf};

use super::help;

/// Lines of a shell that run programs of this project, in blocks that are marked as `sh`.
const SHELL: &str = "sh";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every Markdown page of the project, and its text.
fn pages() -> Vec<(PathBuf, String)> {
    fn add(pages: &mut Vec<(PathBuf, String)>, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // Of others, or made by a build.
            if name.starts_with('.') || name == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                add(pages, &path);
            } else if name.ends_with(".md") {
                let text = std::fs::read_to_string(&path).unwrap();
                pages.push((path, text));
            }
        }
    }
    let mut pages = Vec::new();
    add(&mut pages, root());
    pages
}

/// The lines of a page outside its blocks of code, and those within, each with the block's language.
fn lines(text: &str) -> Vec<(Option<String>, &str)> {
    let mut block: Option<String> = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if block.is_some() => block = None,
            Some(language) => block = Some(language.trim().to_owned()),
            None => lines.push((block.clone(), line)),
        }
    }
    lines
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

fn anchors(text: &str) -> Vec<String> {
    let outside = lines(text).into_iter().filter(|(block, _)| block.is_none());
    let headings = outside.filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line)).collect()
}

/// Where the links of a page lead, as they are written.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for (block, line) in lines(text) {
        if block.is_some() {
            continue;
        }
        for part in line.split("](").skip(1) {
            links.push(part.split(')').next().unwrap());
        }
    }
    links
}

/// The commands of a page: lines of its shell blocks, with those that a backslash goes on.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut open = String::new();
    for (block, line) in lines(text) {
        if block.as_deref() != Some(SHELL) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => commands.push(std::mem::take(&mut open) + line),
        }
    }
    commands
}

/// The words of a command of raftctl, as a shell would make them; empty where there is none. What
/// stands before it (another command and a pipe, or a path), behind it (a pipe, a file) and the
/// remark at the end are none.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut gap = 0;
    // Before the first word, any gap is indentation; later a wide one begins the remark.
    for letter in line.trim().chars() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                words.extend(word.take());
                gap += 1;
                continue;
            }
            (None, '>' | '<' | '#' | ';') => break,
            (None, '|' | '&') if words.first().is_some_and(|first| first == "raftctl") => break,
            (None, '|' | '&') => {
                word = None;
                words.clear();
            }
            _ if gap > 1 => break,
            _ => word.get_or_insert_default().push(letter),
        }
        gap = 0;
    }
    words.extend(word);
    match words.first().map(|first| first.rsplit('/').next().unwrap()) {
        Some("raftctl") => {
            words[0] = "raftctl".into();
            words
        }
        _ => Vec::new(),
    }
}

// What a shell would run of a line.
#[test]
fn words_are_what_a_shell_makes() {
    for (line, expected) in [
        ("  raftctl up          bring it up", vec!["raftctl", "up"]),
        (
            "raftctl partition \"1,2|3\" --for 30s",
            vec!["raftctl", "partition", "1,2|3", "--for", "30s"],
        ),
        (
            "cat cluster.yaml | raftctl check -c -",
            vec!["raftctl", "check", "-c", "-"],
        ),
        (
            "raftctl logs --merge | less",
            vec!["raftctl", "logs", "--merge"],
        ),
        (
            "cargo build --release && ./target/release/raftctl up",
            vec!["raftctl", "up"],
        ),
        (
            "raftctl get name1                # still there",
            vec!["raftctl", "get", "name1"],
        ),
        ("cargo test", vec![]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}

// A link within the project leads to a file that is there, and to a heading that is there.
#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let is_there = target.exists()
                && (heading.is_empty()
                    || std::fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).iter().any(|name| name == heading)));
            if !is_there {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 20, "{count} links were looked at");
}

// A command of raftctl on a page is one that this raftctl takes.
#[test]
fn commands_are_understood() {
    let mut count = 0;
    for (path, text) in pages() {
        for line in commands(&text) {
            let words = words(&line);
            if words.is_empty() {
                continue;
            }
            count += 1;
            let understood = help::command().try_get_matches_from(&words);
            assert!(
                understood.is_ok(),
                "{}: {line}: {understood:?}",
                path.display()
            );
        }
    }
    assert!(count > 10, "{count} commands were looked at");
}

// A test program that a page runs with cargo exists.
#[test]
fn test_programs_are_there() {
    let mut count = 0;
    for (path, text) in pages() {
        // Also those in running text and in tables.
        for part in text.split("cargo test ").skip(1) {
            let mut words = part.split(|letter: char| letter.is_whitespace() || letter == '`');
            let mut package = "";
            while let Some(word) = words.next() {
                match word {
                    "-p" => package = words.next().unwrap_or_default(),
                    "--test" => {
                        let name = words.next().unwrap_or_default();
                        let is_there = folders_of(package).iter().any(|folder| {
                            let tests = root().join(folder).join("tests");
                            tests.join(format!("{name}.rs")).exists()
                                || tests.join(name).join("main.rs").exists()
                        });
                        assert!(is_there, "{}: -p {package} --test {name}", path.display());
                        count += 1;
                    }
                    "" => break,
                    _ => {}
                }
            }
        }
    }
    assert!(count > 5, "{count} test programs were looked at");
}

// The page about leases names stories and broken rules that are there.
#[test]
fn the_page_about_leases_names_what_is_there() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (page, mutations) = (read("docs/leases.md"), read("node/tests/sim/mutations.rs"));
    let (mut stories, mut broken_rules) = (0, 0);
    for row in page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("](../node/"))
    {
        for name in row.split('`').skip(1).step_by(2) {
            match name.split_once("::") {
                Some((file, story)) => {
                    let file = read(&format!("node/tests/sim/stories/{file}.rs"));
                    assert!(file.contains(&format!("fn {story}(")), "no story {name}");
                    stories += 1;
                }
                None => {
                    let is_there = mutations.contains(&format!("    {name} => "));
                    assert!(is_there, "no mutation {name}");
                    broken_rules += 1;
                }
            }
        }
    }
    assert!(
        stories > 20 && broken_rules > 15,
        "{stories}, {broken_rules}"
    );
}

/// Where the tests of a package are; without one, of any that `cargo test` runs by itself.
fn folders_of(package: &str) -> &[&str] {
    match package {
        "" => &[".", "node", "raftctl", "checker"],
        "raft-node" => &["node"],
        "raftctl" => &["raftctl"],
        "checker" => &["checker"],
        "testprovider" => &["terraform/testprovider"],
        _ => &[],
    }
}
