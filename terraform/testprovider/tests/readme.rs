//! The README says what the module does: its tables, and the example beside it.

use crate::support::{TERRAFORM, Workspace, module};
use harness::{Test, tests};
use serde_json::Value as Json;

pub fn tests() -> Vec<Test> {
    let mut tests = tests!(
        [],
        the_table_of_variables_is_right,
        the_table_of_outputs_is_right,
        the_table_of_openings_is_right
    );
    tests.extend(tests!([TERRAFORM], the_example_is_accepted));
    tests
}

fn read(name: &str) -> String {
    std::fs::read_to_string(module().join(name)).unwrap()
}

/// The cells of each row of the table below a heading, without those of its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = read("README.md");
    let section = readme.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(|row| cells(row.trim_matches('|'))).collect()
}

/// The names of blocks of one kind, each with the text of its block.
fn blocks(text: &str, kind: &str) -> Vec<(String, String)> {
    let start = format!("{kind} \"");
    let blocks = text.split("\n}\n").filter_map(|block| {
        let (name, body) = block.trim_start().strip_prefix(&start)?.split_once('"')?;
        Some((name.to_owned(), body.to_owned()))
    });
    blocks.collect()
}

/// A default as the README writes it.
fn default(body: &str) -> String {
    let value = body
        .lines()
        .find_map(|line| line.trim().strip_prefix("default "));
    let value = value.map(|value| value.trim_start_matches(['=', ' ']));
    match value {
        None => "required".into(),
        Some("[]" | "{}" | "\"\"" | "null") => "none".into(),
        Some(value) => value.replace('"', "`"),
    }
}

// The table has every variable with its default, in the order of the file, and no other.
fn the_table_of_variables_is_right() {
    let written: Vec<_> = table("Variables")
        .into_iter()
        .map(|row| (row[0].replace('`', ""), row[1].clone()))
        .collect();
    let real: Vec<_> = blocks(&read("variables.tf"), "variable")
        .into_iter()
        .map(|(name, body)| (name, default(&body)))
        .collect();
    assert!(real.len() > 10, "{real:?}");
    assert_eq!(written, real);
}

// The same of outputs, with all that is in the one that raftctl reads.
fn the_table_of_outputs_is_right() {
    let rows = table("Outputs");
    let outputs = blocks(&read("outputs.tf"), "output");
    let real: Vec<_> = outputs
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let written: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, real);
    for line in outputs[0].1.lines().filter(|line| line.contains(" = ")) {
        let name = line.trim().split(' ').next().unwrap();
        if !["description", "value"].contains(&name) {
            let is_there = rows[0][1].contains(name);
            assert!(is_there, "README.md does not list {name}");
        }
    }
}

// The firewall table has a row for each rule of the module, and no other.
fn the_table_of_openings_is_right() {
    let section = read("README.md");
    let section = section.split("\n## What is open to whom\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let written = section.lines().filter_map(|line| {
        let (_, rule) = line.strip_prefix('|')?.rsplit_once("`raft-<cluster>-")?;
        Some(rule.split('`').next()?.to_owned())
    });
    let main = read("main.tf");
    let real = main.lines().filter_map(|line| {
        let rule = line.strip_prefix("resource \"google_compute_firewall\" \"")?;
        Some(rule.split('"').next()?.to_owned())
    });
    let sorted = |names: &mut dyn Iterator<Item = String>| {
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&mut { written }), sorted(&mut { real }));
}

// The example is accepted as it stands.
fn the_example_is_accepted() {
    let mut workspace = Workspace::new();
    workspace.variables = Json::Object(serde_json::Map::new());
    let example = module().canonicalize().unwrap().join("example.tfvars");
    let example = format!("-var-file={}", example.display());
    let plan = workspace.terraform(&["plan", "-no-color", &example]);
    assert_eq!(plan.code, 0, "{}", plan.text);
    assert!(
        plan.text
            .contains("Plan: 27 to add, 0 to change, 0 to destroy"),
        "{}",
        plan.text
    );
}
