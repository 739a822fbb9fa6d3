//! Another list of nodes in a cluster.yaml that people wrote: only what stands for the nodes that come or go is
//! touched, and comments and layout stay.
//!
//! The text is edited, not the tree. Whoever calls reads the result again and compares it with what was wanted: so an
//! edit that went wrong is never written.

use super::yaml::{self, Kind, Value};
use super::{Node, NodeId};

const KEY: &str = "nodes:";

/// The text of a cluster.yaml with these nodes instead of those that it has; nothing where it is written in a
/// way that can't be edited here.
#[must_use]
pub fn with_nodes(text: &str, wanted: &[Node]) -> Option<String> {
    let (tree, problems) = yaml::parse(text);
    if !problems.is_empty() {
        return None;
    }
    let Kind::Map(entries) = tree?.kind else {
        return None;
    };
    let entry = entries.into_iter().find(|(key, _)| key.name == "nodes");
    let Some((key, value)) = entry else {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        return Some(format!("{text}{end}{}\n", line_of(wanted)));
    };
    let at = start_of_line(text, key.line)?;
    let after = text[at..].strip_prefix(KEY)?;
    let value_at = at + KEY.len() + (after.len() - after.trim_start_matches(' ').len());
    match &value.kind {
        Kind::Integer(_) => {
            let end = value_at
                + text[value_at..]
                    .find([' ', '\t', '#', '\n', '\r'])
                    .unwrap_or(text.len() - value_at);
            Some(format!(
                "{}{}{}",
                &text[..value_at],
                number_or_list(wanted),
                &text[end..]
            ))
        }
        Kind::List(items) if text[value_at..].starts_with('[') => {
            flow(text, value_at, &ids(items)?, wanted)
        }
        Kind::List(items) => block(text, items, wanted),
        _ => None,
    }
}

/// The nodes as one line, for people to write themselves.
#[must_use]
pub fn line_of(nodes: &[Node]) -> String {
    format!("{KEY} {}", number_or_list(nodes))
}

fn number_or_list(nodes: &[Node]) -> String {
    let is_numbered = (1..).zip(nodes).all(|(id, node)| {
        *node
            == Node {
                id,
                ..Node::default()
            }
    });
    if is_numbered {
        return nodes.len().to_string();
    }
    let items: Vec<String> = nodes.iter().map(item).collect();
    format!("[{}]", items.join(", "))
}

/// A node as a list has it: `{id: 4, host: n4.example}`.
fn item(node: &Node) -> String {
    let mut entries = vec![format!("id: {}", node.id)];
    let mut entry = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            entries.push(format!("{key}: {}", scalar(&value)));
        }
    };
    entry("host", node.host.clone());
    entry("ssh_port", node.ssh_port.map(|port| port.to_string()));
    entry("ssh_user", node.ssh_user.clone());
    entry("zone", node.zone.clone());
    entry("peer_address", node.peer_address.clone());
    entry("client_address", node.client_address.clone());
    entry("listen", node.listen.map(|address| address.to_string()));
    format!("{{{}}}", entries.join(", "))
}

fn scalar(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

/// The ids of a list, in its order.
fn ids(items: &[Value]) -> Option<Vec<NodeId>> {
    let id = |item: &Value| {
        let Kind::Map(entries) = &item.kind else {
            return None;
        };
        let (_, value) = entries.iter().find(|(key, _)| key.name == "id")?;
        match value.kind {
            Kind::Integer(id) => NodeId::try_from(id).ok(),
            _ => None,
        }
    };
    items.iter().map(id).collect()
}

fn start_of_line(text: &str, line: u64) -> Option<usize> {
    let before = usize::try_from(line.checked_sub(1)?).ok()?;
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    starts.into_iter().nth(before)
}

/// A list in brackets, which begins at `from`.
fn flow(text: &str, from: usize, present: &[NodeId], wanted: &[Node]) -> Option<String> {
    let (parts, to) = parts(&text[from..])?;
    if parts.len() != present.len() {
        return None;
    }
    let is_wanted = |id: &NodeId| wanted.iter().any(|node| node.id == *id);
    let kept = present.iter().zip(&parts).filter(|(id, _)| is_wanted(id));
    let mut items: Vec<String> = kept.map(|(_, part)| (*part).to_owned()).collect();
    if let Some(first) = items.first_mut() {
        *first = first.trim_start_matches(' ').to_owned();
    }
    let new = wanted.iter().filter(|node| !present.contains(&node.id));
    let separator = if items.is_empty() { "" } else { " " };
    items.extend(new.map(|node| format!("{separator}{}", item(node))));
    Some(format!(
        "{}[{}]{}",
        &text[..from],
        items.join(","),
        &text[from + to..]
    ))
}

/// What stands between the brackets and commas of a list, and where it ends.
fn parts(text: &str) -> Option<(Vec<&str>, usize)> {
    let (mut depth, mut quote, mut begin) = (0, None, 1);
    let mut parts = Vec::new();
    for (at, char) in text.char_indices() {
        match (quote, char) {
            (Some(open), char) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(char),
            (None, '#') => return None, // A comment may hold anything.
            (None, '[' | '{') => depth += 1,
            (None, ',') if depth == 1 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            (None, ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    if !text[begin..at].trim().is_empty() {
                        parts.push(&text[begin..at]);
                    }
                    return Some((parts, at + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// A list with a line or several for each node.
fn block(text: &str, items: &[Value], wanted: &[Node]) -> Option<String> {
    let present = ids(items)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let starts: Vec<usize> = items
        .iter()
        .map(|item| usize::try_from(item.line.checked_sub(1)?).ok())
        .collect::<Option<_>>()?;
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let first = *lines.get(*starts.first()?)?;
    let dash = indent(first);
    let is_item = |at: &usize| {
        let line = lines.get(*at).copied().unwrap_or_default();
        indent(line) == dash && line[dash..].starts_with("- ")
    };
    if !starts.iter().all(is_item) {
        return None;
    }
    // What is deeper than the dash belongs to the item.
    let end = |start: usize| {
        let belongs = |line: &&&str| !line.trim().is_empty() && indent(line) > dash;
        start + 1 + lines[start + 1..].iter().take_while(belongs).count()
    };
    let last = end(*starts.last()?);
    let is_gone = |line: usize| {
        let mut spans = present.iter().zip(&starts);
        spans.any(|(id, start)| {
            (*start..end(*start)).contains(&line) && !wanted.iter().any(|node| node.id == *id)
        })
    };
    let mut edited = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at == last {
            add_items(&mut edited, dash, &present, wanted);
        }
        if !is_gone(at) {
            edited.push_str(line);
        }
    }
    if last == lines.len() {
        add_items(&mut edited, dash, &present, wanted);
    }
    Some(edited)
}

fn add_items(edited: &mut String, dash: usize, present: &[NodeId], wanted: &[Node]) {
    if !edited.ends_with('\n') {
        edited.push('\n');
    }
    for node in wanted.iter().filter(|node| !present.contains(&node.id)) {
        edited.push_str(&format!("{}- {}\n", " ".repeat(dash), item(node)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: NodeId) -> Node {
        Node {
            id,
            ..Node::default()
        }
    }

    fn on(id: NodeId, host: &str) -> Node {
        Node {
            host: Some(host.into()),
            ..node(id)
        }
    }

    fn edited(text: &str, wanted: &[Node]) -> String {
        let edited = with_nodes(text, wanted).unwrap_or_else(|| panic!("{text}"));
        let (tree, problems) = yaml::parse(&edited);
        assert!(problems.is_empty() && tree.is_some(), "{edited}");
        edited
    }

    // A number stays one as long as it can, with its comment.
    #[test]
    fn a_number_is_counted_on_or_becomes_a_list() {
        let text = "name: x\nnodes: 3   # how many\ntiming: lan\n";
        assert_eq!(
            edited(text, &[1, 2, 3, 4].map(node)),
            "name: x\nnodes: 4   # how many\ntiming: lan\n"
        );
        assert_eq!(
            edited(text, &[1, 3, 4].map(node)),
            "name: x\nnodes: [{id: 1}, {id: 3}, {id: 4}]   # how many\ntiming: lan\n"
        );
        assert_eq!(edited("name: x", &[node(1)]), "name: x\nnodes: 1\n");
        assert_eq!(edited("nodes: 3", &[node(1)]), "nodes: 1");
    }

    // In brackets, on one line or several.
    #[test]
    fn a_list_in_brackets_keeps_its_layout() {
        let text = "nodes: [{id: 1, host: \"a,b\"}, {id: 2}, {id: 3}] # ours\nname: x\n";
        assert_eq!(
            edited(text, &[node(2), node(3), on(7, "n7.example")]),
            "nodes: [{id: 2}, {id: 3}, {id: 7, host: n7.example}] # ours\nname: x\n"
        );
        let text = "nodes: [\n  {id: 1},\n  {id: 2},\n]\n";
        let without = edited(text, &[node(1), node(4)]);
        assert!(without.starts_with("nodes: [\n  {id: 1}"), "{without}");
        assert_eq!(with_nodes("nodes: [ # why\n {id: 1}]\n", &[node(2)]), None);
    }

    // A line or several a node: what belongs to a node goes with it, and nothing else does.
    #[test]
    fn a_list_of_lines_keeps_its_comments() {
        let text = "nodes:          # by rack\n  # the first rack\n  - {id: 1, host: a}   # old\n  - id: 2\n    \
                    host: b\n    # its disk is slow\n  # the second rack\n  - {id: 3, host: c}\n\ntiming: lan\n";
        assert_eq!(
            edited(text, &[on(1, "a"), on(3, "c"), on(4, "fd00::4")]),
            "nodes:          # by rack\n  # the first rack\n  - {id: 1, host: a}   # old\n  # the second \
             rack\n  - {id: 3, host: c}\n  - {id: 4, host: \"fd00::4\"}\n\ntiming: lan\n"
        );
        assert_eq!(
            edited("nodes:\n- {id: 1}\n- {id: 2}", &[node(2), node(3)]),
            "nodes:\n- {id: 2}\n- {id: 3}\n"
        );
    }

    // What is not simply a number or a list is for a person to change.
    #[test]
    fn what_can_t_be_edited_is_left_alone() {
        assert_eq!(with_nodes("nodes: \"${N}\"\n", &[node(1)]), None);
        assert_eq!(with_nodes("nodes: &all [{id: 1}]\n", &[node(2)]), None);
        assert_eq!(with_nodes("{name: x, nodes: 3}\n", &[node(2)]), None);
        let nodes = [node(1), on(6, "h6")];
        assert_eq!(line_of(&nodes), "nodes: [{id: 1}, {id: 6, host: h6}]");
    }
}
