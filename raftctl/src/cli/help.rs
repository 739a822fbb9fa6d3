//! The help pages: one page for each verb, the same for `-h` and `--help`, and the main page with the
//! verbs in groups.
//!
//! clap has no groups of verbs, so the main page's list is made here from one table. Everything else
//! is clap's: words and examples stand beside the flags they are about.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::verb::CommandLine;

/// The verbs by what they are for, in the order in which a newcomer meets them.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "A cluster",
        &[
            "init", "check", "plan", "up", "upgrade", "extend", "certs", "down",
        ],
    ),
    ("Members", &["add", "remove", "replace"]),
    (
        "Look",
        &["status", "top", "doctor", "logs", "timeline", "ssh", "exec"],
    ),
    (
        "Nodes and faults",
        &[
            "kill",
            "restart",
            "stop",
            "start",
            "pause",
            "resume",
            "transfer",
            "partition",
            "heal",
        ],
    ),
    ("Backups", &["backup", "restore", "recover", "snapshot"]),
    ("Keys", &["set", "get", "del", "cas", "list", "shell"]),
    ("Trials", &["scenario", "bench"]),
    ("Your shell", &["completions"]),
];

/// What a verb's page shows, in this order. What its description says after its first sentence
/// comes before the usage.
const VERB_PAGE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}
";

/// The command line with its help pages laid out.
#[must_use]
pub fn command() -> Command {
    let command = paged(CommandLine::command());
    let page = format!(
        "{{about-with-newline}}\n{{before-help}}{{usage-heading}} {{usage}}\n\n{}\
         Global options:\n{{options}}{{after-help}}\n",
        verbs(&command)
    );
    command.help_template(page).disable_help_subcommand(false)
}

/// Gives a verb and all below it one page each. clap spreads the page of `--help` over three times
/// the lines as soon as anything has a longer text there than for `-h`.
fn paged(command: Command) -> Command {
    let details = details(&command);
    let command = command
        .help_template(VERB_PAGE)
        .disable_help_subcommand(true)
        .long_about(None::<&str>)
        .mut_subcommands(paged);
    match details {
        Some(details) => command.before_help(details),
        None => command,
    }
}

/// What the long description says after the short one.
fn details(command: &Command) -> Option<String> {
    let about = command.get_about()?.to_string();
    let long = command.get_long_about()?.to_string();
    let rest = long.strip_prefix(&about)?.trim_start_matches('.').trim();
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// The list of the main page.
fn verbs(command: &Command) -> String {
    let mut list = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(list, "{group}:");
        for name in *names {
            let verb = command.find_subcommand(name);
            let about = verb
                .and_then(Command::get_about)
                .expect("the table names verbs");
            let _ = writeln!(list, "  {name:<12} {about}");
        }
        list.push('\n');
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::documents;

    /// What a user gets who asks for help after these words.
    fn page(words: &[String], flag: &str, width: usize) -> String {
        let line = words.iter().map(String::as_str).chain([flag]);
        let asked = command().term_width(width).try_get_matches_from(line);
        let answer = asked.expect_err("help ends the run");
        assert_eq!(answer.kind(), ErrorKind::DisplayHelp, "{words:?}: {answer}");
        answer.to_string()
    }

    /// The words that lead to every page.
    fn lines() -> Vec<Vec<String>> {
        fn add(lines: &mut Vec<Vec<String>>, words: &[String], command: &Command) {
            lines.push(words.to_vec());
            for verb in command.get_subcommands() {
                let words = [words, &[verb.get_name().to_owned()]].concat();
                add(lines, &words, verb);
            }
        }
        let mut lines = Vec::new();
        add(&mut lines, &["raftctl".to_owned()], &CommandLine::command());
        assert!(lines.len() > 30, "{lines:?}");
        lines
    }

    /// Every page in a terminal of this width, with the words that lead to it.
    fn pages(width: usize) -> Vec<(String, String)> {
        let page = |words: Vec<String>| (words.join(" "), page(&words, "--help", width));
        lines().into_iter().map(page).collect()
    }

    // The table holds every verb once, and no other.
    #[test]
    fn every_verb_is_in_a_group() {
        let command = CommandLine::command();
        let there: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let told = GROUPS.iter().flat_map(|(_, names)| names.iter().copied());
        let told: Vec<&str> = told.collect();
        let (unique, there): (BTreeSet<_>, BTreeSet<_>) =
            (told.iter().copied().collect(), there.into_iter().collect());
        assert_eq!(unique, there);
        assert_eq!(unique.len(), told.len(), "a verb stands twice: {told:?}");
    }

    // No line is longer than the terminal, where what a terminal breaks would not line up.
    #[test]
    fn no_page_is_wider_than_the_terminal() {
        for width in [80, 100] {
            for (words, page) in pages(width) {
                let wide = page.lines().find(|line| line.chars().count() > width);
                assert_eq!(wide, None, "{words} at {width} columns");
            }
        }
    }

    // Every page has examples, and what an example says is understood.
    #[test]
    fn every_page_has_examples_that_are_understood() {
        for (words, page) in pages(80) {
            let section = page.split_once("\nExamples:\n");
            let section = section.or_else(|| page.split_once("\nExample:\n"));
            let (_, examples) = section.unwrap_or_else(|| panic!("{words} has no examples"));
            let mut count = 0;
            for line in examples.lines().filter(|line| !line.is_empty()) {
                let example = documents::words(line);
                assert_eq!(
                    example.first().map(String::as_str),
                    Some("raftctl"),
                    "{words}: {line}"
                );
                let understood = command().try_get_matches_from(&example);
                assert!(understood.is_ok(), "{words}: {line}: {understood:?}");
                count += 1;
            }
            assert!(count > 0, "{words} has no examples");
        }
    }

    /// The options that a part of a page lists.
    fn options(part: &str) -> Vec<&str> {
        let is_option = |line: &&str| line.starts_with("  -") || line.starts_with("      --");
        let lines = part.lines().filter(is_option);
        let names =
            lines.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
        names.collect()
    }

    // What every verb takes stands apart from what only this one takes.
    #[test]
    fn global_options_stand_apart() {
        const GLOBAL: [&str; 6] = [
            "--config",
            "--output",
            "--timeout",
            "--lock-wait",
            "--yes",
            "--help",
        ];
        for (words, page) in pages(80) {
            let (own, global) = page.split_once("\nGlobal options:\n").expect(&words);
            let global = options(global.split("\n\n").next().unwrap());
            assert!(global.starts_with(&GLOBAL), "{words}: {global:?}");
            let own = options(own);
            assert!(
                !own.iter().any(|option| GLOBAL.contains(option)),
                "{words}: {own:?}"
            );
        }
    }

    // Short and long help are one page: nobody has to know that there are two.
    #[test]
    fn there_is_one_page_a_verb() {
        for words in lines() {
            let pages = ["-h", "--help"].map(|flag| page(&words, flag, 80));
            assert_eq!(pages[0], pages[1], "{words:?}");
        }
    }
}
