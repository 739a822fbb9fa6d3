//! The record in the Trace Event Format (JSON), which Perfetto and other viewers of traces read: a process
//! for each node, a thread for leaderships, leases, promises and single happenings.

use serde_json::{Value, json};

use super::clients::{Asked, LANE_OF_CLIENTS};
use super::record::Span;
use super::{Micros, Node, Timeline};

/// The threads of a node.
const ROWS: [(u64, &str); 5] = [
    (1, "leads"),
    (2, "lease"),
    (3, "waits for an older lease"),
    (4, "promises"),
    (5, "happenings"),
];

/// The whole trace.
pub fn trace(timeline: &Timeline) -> String {
    let (first, _) = timeline.range();
    let mut events = Vec::new();
    for (node, record) in &timeline.records {
        events.push(name("process_name", *node, 0, &format!("node {node}")));
        for (row, title) in ROWS {
            events.push(name("thread_name", *node, row, title));
        }
        for leading in &record.leaderships {
            let term = format!("term {}", leading.term);
            events.push(stretch(*node, 1, &term, leading.span, first));
            for lease in &leading.leases {
                events.push(stretch(*node, 2, &term, *lease, first));
            }
            if let Some(wait) = leading.wait {
                let until = wait.over.unwrap_or(wait.from + wait.remaining);
                let span = Span {
                    from: wait.from,
                    until,
                };
                events.push(stretch(*node, 3, &term, span, first));
            }
        }
        for promise in &record.promises {
            let what = format!("to node {} in term {}", promise.leader, promise.term);
            events.push(stretch(*node, 4, &what, promise.span, first));
        }
        for moment in &record.moments {
            events.push(
                json!({"ph": "i", "s": "t", "pid": node, "tid": 5, "ts": moment.at - first,
                "name": moment.sentence}),
            );
        }
        for (at, index) in &record.commits {
            events.push(
                json!({"ph": "C", "pid": node, "ts": at - first, "name": "committed",
                "args": {"index": index}}),
            );
        }
    }
    if let Some(clients) = &timeline.clients {
        let node = LANE_OF_CLIENTS;
        events.push(name("process_name", node, 0, "clients"));
        for (row, title) in [
            (1, "no read answered"),
            (2, "no write answered"),
            (3, "not linearizable"),
        ] {
            events.push(name("thread_name", node, row, title));
        }
        for gap in &clients.gaps {
            let row = if gap.asked == Asked::Reads { 1 } else { 2 };
            let span = clients.stretch(gap.from_us, gap.until_us);
            events.push(stretch(node, row, "gap", span, first));
        }
        for claim in &clients.claims {
            let span = clients.stretch(claim.call_us, claim.return_us.unwrap_or(claim.call_us));
            events.push(stretch(node, 3, &claim.says, span, first));
        }
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}

fn name(what: &str, node: Node, row: u64, title: &str) -> Value {
    json!({"ph": "M", "pid": node, "tid": row, "name": what, "args": {"name": title}})
}

fn stretch(node: Node, row: u64, what: &str, span: Span, first: Micros) -> Value {
    json!({"ph": "X", "pid": node, "tid": row, "ts": span.from - first,
        "dur": span.until - span.from, "name": what})
}
