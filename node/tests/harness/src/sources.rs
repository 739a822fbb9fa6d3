//! The sources of a crate as text, for the tests of house rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

/// All files below a folder whose names end in one of these ways, in order.
#[must_use]
pub fn source_files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            found.extend(source_files(&path, extensions));
        } else if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What a file ships: its text without comments and without its tests. `inner` is its path below the sources.
#[must_use]
pub fn shipped(inner: &Path, text: &str) -> String {
    let mut parts = inner.components();
    let name = parts.next_back();
    let is_tests = |part: std::path::Component<'_>| part.as_os_str() == "tests";
    if name.is_some_and(|name| name.as_os_str() == "tests.rs") || parts.any(is_tests) {
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

/// Whether a letter can be a part of a name.
#[must_use]
pub fn is_part_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether a word stands in the code, not as a part of a longer one.
#[must_use]
pub fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let goes_on = word.ends_with(is_part_of_word) && after.is_some_and(is_part_of_word);
        !before.is_some_and(is_part_of_word) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Comments and tests are no part of what ships, and only a whole word is a name.
    #[test]
    fn the_searches_see() {
        let text = "use std::fs;\n// tokio in a comment\nlet brand = 1; // rand\n\
                    #[cfg(test)]\nmod tests { use rand::Rng; }";
        let code = shipped(Path::new("a/b.rs"), text);
        assert!(names(&code, "std::fs") && !names(&code, "rand") && !names(&code, "tokio"));
        assert!(names("println!()", "println!") && !names("eprintln!()", "println!"));
        assert!(names("Command::new(\"sh\")", "Command::new"));
        assert!(!names("Command::newer", "Command::new"));
        for tests in ["tests.rs", "a/tests.rs", "raft/tests/reads.rs"] {
            assert_eq!(shipped(Path::new(tests), text), "");
        }
    }
}
