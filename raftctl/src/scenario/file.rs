//! Scenario files: those that are built in, and those at a path.

use std::collections::BTreeSet;
use std::path::Path;

use super::notation::{Nodes, Scenario, Step};
use crate::cluster::select;
use crate::error::problem::closest;
use crate::error::{Error, Result};

/// The six, by their number, and those that need a place for more nodes, without one.
const BUILT_IN: [(&str, &str); 8] = [
    ("startup", include_str!("../../scenarios/startup.yaml")),
    (
        "replication",
        include_str!("../../scenarios/replication.yaml"),
    ),
    (
        "follower-failure",
        include_str!("../../scenarios/follower-failure.yaml"),
    ),
    (
        "leader-failure",
        include_str!("../../scenarios/leader-failure.yaml"),
    ),
    (
        "lease-timeout",
        include_str!("../../scenarios/lease-timeout.yaml"),
    ),
    (
        "two-survivors",
        include_str!("../../scenarios/two-survivors.yaml"),
    ),
    (
        "grow-and-shrink",
        include_str!("../../scenarios/grow-and-shrink.yaml"),
    ),
    (
        "replace-the-lost",
        include_str!("../../scenarios/replace-the-lost.yaml"),
    ),
];

/// A file larger than this is none that a person wrote.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A scenario and the text it was read from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub scenario: Scenario,
    /// Where it is from: `startup.yaml`, or a path.
    pub source: String,
    /// How it is written.
    pub text: String,
}

/// All that are built in.
///
/// # Panics
/// If one of the built-in files can't be read, which a test rules out.
#[must_use]
pub fn built_in() -> Vec<Loaded> {
    let load = |(name, text): &(&str, &str)| {
        parse(text, &format!("{name}.yaml")).unwrap_or_else(|error| panic!("built in: {error}"))
    };
    BUILT_IN.iter().map(load).collect()
}

/// The scenarios that a word of the command line names: `all`, a name, a number, or a path.
///
/// # Errors
/// There is none of that name, or the file is wrong.
pub fn find(word: &str) -> Result<Vec<Loaded>> {
    let mut built_in = built_in();
    if word == "all" {
        // Others need more than every cluster has.
        built_in.retain(|loaded| loaded.scenario.number.is_some());
        return Ok(built_in);
    }
    let called = |loaded: &Loaded| {
        loaded.scenario.name == word
            || loaded
                .scenario
                .number
                .is_some_and(|number| number.to_string() == word)
    };
    if let Some(found) = built_in.into_iter().find(called) {
        return Ok(vec![found]);
    }
    let path = Path::new(word);
    if path.extension().is_some() || path.components().count() > 1 {
        return Ok(vec![load(path)?]);
    }
    let names = BUILT_IN.map(|(name, _)| name);
    let hint =
        closest(word, &names).map_or(String::new(), |near| format!("; did you mean {near}?"));
    Err(Error::Usage(format!(
        "there is no scenario {word:?}{hint}\n  there are {}, `all`, and the path of a file",
        names.join(", ")
    )))
}

fn load(path: &Path) -> Result<Loaded> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))?;
    parse(&text, &path.display().to_string())
}

/// Reads a scenario; `source` names it in messages.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(text: &str, source: &str) -> Result<Loaded> {
    let scenario: Scenario = serde_yaml::from_str(text).map_err(|error| wrong(&error, source))?;
    if scenario.steps.is_empty() {
        return Err(Error::Usage(format!("{source}: it has no steps")));
    }
    let mut given = BTreeSet::new();
    for step in &scenario.steps {
        let line = step.defined.line();
        check(&step.value, &mut given)
            .map_err(|problem| Error::Usage(format!("{source}:{line}: {problem}")))?;
    }
    Ok(Loaded {
        scenario,
        source: source.to_owned(),
        text: text.to_owned(),
    })
}

/// What is wrong, as `file:line:column: cause`, where editors look for it.
fn wrong(error: &serde_yaml::Error, source: &str) -> Error {
    let place = error.location().map_or(String::new(), |at| {
        format!("{}:{}:", at.line(), at.column())
    });
    let text = error
        .without_snippet()
        .render_with_formatter(&serde_yaml::UserMessageFormatter);
    // The place stands before the cause already.
    let cause = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(cause, _)| cause);
    Error::Usage(format!("{source}:{place} {cause}"))
}

/// Whether all names that a step uses were given before; remembers those that it gives.
fn check(step: &Step, given: &mut BTreeSet<String>) -> Result<(), String> {
    for nodes in nodes_of(step) {
        for word in nodes.words() {
            if !given.contains(word) && !is_selector(word) {
                return Err(format!(
                    "no step before gives nodes the name {word:?}, and it is no selector"
                ));
            }
        }
    }
    if let Some(mark) = mark_of(step)
        && !given.contains(&mark_key(mark))
    {
        return Err(format!("no step before marks {mark:?}"));
    }
    match step {
        Step::WaitForLeader(step) => step.name.iter().try_for_each(|name| give(name, given)),
        Step::Choose(step) => give(&step.name, given),
        Step::Add(guest) => give(&guest.name, given),
        Step::Replace(step) => give(&step.name, given),
        Step::Mark(name) => {
            given.insert(mark_key(name));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn give(name: &str, given: &mut BTreeSet<String>) -> Result<(), String> {
    if is_selector(name) || name.contains(',') || name.is_empty() {
        return Err(format!(
            "{name:?} can't be a name: it is a selector, or part of one"
        ));
    }
    given.insert(name.to_owned());
    Ok(())
}

/// Marks live beside the names of nodes, and a comma can't be in one of those.
fn mark_key(name: &str) -> String {
    format!("mark,{name}")
}

fn is_selector(word: &str) -> bool {
    // Which nodes there are is seen when it runs; here it is only about the notation.
    const IDS: [u64; 99] = {
        let mut ids = [0; 99];
        let mut at = 0;
        while at < ids.len() {
            ids[at] = at as u64 + 1;
            at += 1;
        }
        ids
    };
    select::select(word, &IDS, Some(1)).is_ok()
}

fn nodes_of(step: &Step) -> Vec<&Nodes> {
    match step {
        Step::WaitForLeader(step) => step.not.iter().collect(),
        Step::Choose(step) => std::iter::once(&step.from).chain(&step.except).collect(),
        Step::Kill(nodes)
        | Step::Stop(nodes)
        | Step::Start(nodes)
        | Step::Pause(nodes)
        | Step::Resume(nodes)
        | Step::Remove(nodes)
        | Step::Transfer(nodes)
        | Step::Heal(nodes) => vec![nodes],
        Step::Replace(step) => vec![&step.node],
        Step::ExpectMembers(step) => vec![&step.voters],
        Step::Partition(step) => step.groups.iter().collect(),
        Step::Set(ask) | Step::Get(ask) => ask.to.iter().collect(),
        Step::ExpectRole(step) => vec![&step.nodes],
        Step::ExpectLog(step) => vec![&step.nodes],
        Step::ExpectState(step) => vec![&step.nodes],
        Step::ExpectCounters(step) => vec![&step.nodes],
        Step::ExpectDump(step) => vec![&step.nodes],
        Step::ExpectLeaseExpiry(step) => vec![&step.leader],
        Step::Add(_) | Step::Mark(_) | Step::ExpectOneLeader(_) | Step::ExpectNoLeader(_) => {
            vec![]
        }
    }
}

fn mark_of(step: &Step) -> Option<&str> {
    match step {
        Step::ExpectNoLeader(step) => Some(&step.since),
        Step::ExpectCounters(step) => Some(&step.since),
        Step::ExpectDump(step) => Some(&step.since),
        Step::ExpectLeaseExpiry(step) => Some(&step.since),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(steps: &str) -> String {
        let text = format!("scenario: s\ntitle: t\nnodes: 5\nsteps:\n{steps}");
        parse(&text, "s.yaml").unwrap_err().to_string()
    }

    /// The six are there, in the order of their numbers, and can be read; the others have none.
    #[test]
    fn the_six_are_built_in() {
        for (number, loaded) in (0..).zip(built_in()) {
            assert_eq!(
                loaded.scenario.number,
                Some(number).filter(|number| *number < 6)
            );
            assert_eq!(loaded.source, format!("{}.yaml", loaded.scenario.name));
            assert_eq!(loaded.scenario.nodes, 5);
        }
        assert_eq!(find("all").unwrap().len(), 6);
        assert_eq!(find("4").unwrap()[0].scenario.name, "lease-timeout");
        assert_eq!(find("startup").unwrap()[0].scenario.number, Some(0));
    }

    /// The page about scenarios and the help name every step that there is, and the page's example
    /// can be read.
    #[test]
    fn the_page_and_the_help_know_the_steps() {
        let help = include_str!("mod.rs");
        let page = include_str!("../../../docs/scenarios.md");
        let (_, example) = page.split_once("```yaml\n").unwrap();
        let example = example.split("```").next().unwrap();
        let read = parse(example, "docs/scenarios.md").unwrap().scenario;
        assert!(read.steps.len() > 5, "{read:?}");
        // Who writes a step that is none is told all that there are.
        let told = error("- no_such_step: all\n");
        let (_, steps) = told.split_once("no_such_step").unwrap();
        let names = |letter: char| !(letter.is_ascii_lowercase() || letter == '_');
        let steps = steps
            .split(names)
            .filter(|name| name.contains('_') || *name == "heal");
        let steps: Vec<&str> = steps.collect();
        assert!(steps.len() > 8, "{told}");
        for step in steps {
            assert!(
                page.contains(&format!("`{step}")),
                "{step} is not in the page"
            );
            assert!(
                help.contains(&format!(" {step}")),
                "{step} is not in the help"
            );
        }
    }

    /// A word that is no scenario gets the nearest one.
    #[test]
    fn a_mistyped_name_gets_a_hint() {
        let error = find("leader-failur").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("did you mean leader-failure?"),
            "{error}"
        );
        let error = find("missing.yaml").unwrap_err().to_string();
        assert!(error.contains("cannot read missing.yaml"), "{error}");
    }

    /// A list that was left empty is told as one: nobody meant a scenario that does nothing. The words are
    /// for whoever writes scenarios, not for Rust programmers.
    #[test]
    fn an_empty_list_of_steps_is_told() {
        for text in [
            "scenario: s\ntitle: t\nnodes: 5\nsteps:\n",
            "scenario: s\ntitle: t\nnodes: 5\nsteps: ~\n",
            "scenario: s\ntitle: t\nnodes: 5\nsteps: []\n",
        ] {
            let error = parse(text, "s.yaml").unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert_eq!(error.to_string(), "s.yaml: it has no steps", "{text:?}");
        }
    }

    /// Every mistake in a file is told with its line.
    #[test]
    fn mistakes_have_their_line() {
        for (steps, line, text) in [
            (
                "- kill: leader\n- explode: all\n",
                "s.yaml:6:3: ",
                "explode",
            ),
            ("- set: {values: {a: b}, with: 5s}\n", "s.yaml:5:", "with"),
            (
                "- kill: leader\n- kill: victims\n",
                "s.yaml:6:",
                "\"victims\"",
            ),
            (
                "- choose: {as: leader, from: all}\n",
                "s.yaml:5:",
                "can't be a name",
            ),
            (
                "- expect_counters: {nodes: all, since: before, read_rounds: 0}\n",
                "s.yaml:5:",
                "no step before marks \"before\"",
            ),
            (
                "- set: {values: {a: b}, within: soon}\n",
                "s.yaml:5:",
                "is no time",
            ),
            (
                "- get: {values: {a: b}, fails: badly}\n",
                "s.yaml:5:",
                "badly",
            ),
        ] {
            let error = error(steps);
            assert!(
                error.contains(line) && error.contains(text),
                "{steps}gave {error}"
            );
        }
    }

    /// Names that were given before may be used alone and in lists.
    #[test]
    fn given_names_may_be_used() {
        let text = "scenario: s\ntitle: t\nnodes: 3\nsteps:\n- wait_for_leader: {as: chief}\n\
                    - choose: {as: victim, from: followers, except: chief, count: 1}\n\
                    - kill: chief, victim\n- mark: here\n\
                    - expect_no_leader: {for: 2 elections, since: here}\n";
        assert_eq!(parse(text, "s.yaml").unwrap().scenario.steps.len(), 5);
    }
}
