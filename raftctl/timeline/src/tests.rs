//! A cluster of three on paper: its dumps are written here, on clocks that are apart.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::record::Ended;
use super::*;

/// 2026-01-01T00:00:00Z, milliseconds since 1970.
const START_MS: i64 = 1_767_225_600_000;
const LEASE_US: i64 = 2_000_000;

/// Three nodes' dumps as they grow.
#[derive(Default)]
struct Paper {
    dumps: BTreeMap<Node, String>,
    /// By how much each clock is ahead, milliseconds.
    ahead: BTreeMap<Node, i64>,
}

impl Paper {
    fn with_clocks(ahead: [(Node, i64); 3]) -> Paper {
        Paper {
            dumps: ahead
                .iter()
                .map(|(node, _)| (*node, String::new()))
                .collect(),
            ahead: ahead.into(),
        }
    }

    /// A line of one node, so many milliseconds after the start in truth.
    fn say(&mut self, node: Node, at_ms: i64, line: &str) {
        let ms = START_MS + at_ms + self.ahead[&node];
        let at = UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
        let at = humantime::format_rfc3339_micros(at);
        writeln!(self.dumps.get_mut(&node).unwrap(), "{at} {line}").unwrap();
    }

    /// A round of heartbeats that both others accept 1 ms later, and whose answers count in the next round.
    fn round(&mut self, leader: Node, term: u64, at_ms: i64, round: u64, left_us: i64) {
        let others: Vec<Node> = (1..=3).filter(|node| *node != leader).collect();
        let sequence = 1 + 2 * round;
        let acknowledged: Vec<String> = (0..)
            .zip(&others)
            .map(|(place, peer)| format!("{peer}:{}", (sequence + place).saturating_sub(2)))
            .collect();
        self.say(
            leader,
            at_ms,
            &format!(
                "Leader {leader} sending heartbeat & Renewing Lease\tterm={term} sequence={sequence} \
                 lease_us={left_us} acknowledged={}",
                acknowledged.join(",")
            ),
        );
        for (place, peer) in (0..).zip(others) {
            let sequence = sequence + place;
            self.say(
                peer,
                at_ms + 1,
                &format!(
                    "Node {peer} accepted AppendEntries RPC from {leader}.\tterm={term} entries=0 last_index=1 \
                     peer={leader} sequence={sequence} promise_us={LEASE_US}"
                ),
            );
        }
    }

    /// Node 1 leads term 1 and dies after a second; node 2 leads term 2, after a wait of so long.
    fn change_of_leader(&mut self, waits_ms: i64) {
        for node in 1..=3 {
            self.say(
                node,
                0,
                &format!(
                    "Node {node} started.\tpid=1 term=0 last_index=0 commit_index=0 run=a{node}"
                ),
            );
        }
        self.say(1, 10, "Node 1 became the leader for term 1.\tterm=1");
        for round in 0..10 {
            let left_us = if round == 0 { 0 } else { 1_870_000 };
            self.round(1, 1, 10 + 100 * round, round as u64, left_us);
        }
        self.say(
            1,
            115,
            "Node 1 (leader) committed the entry NO-OP to the state machine.\tterm=1 index=1",
        );
        // Both have promised until 2911, and node 1's lease ends at 2780.
        self.say(
            2,
            1000,
            "Node 2 election timer timed out, Starting election.\tterm=2",
        );
        self.say(
            3,
            1001,
            "Vote granted for Node 2 in term 2.\tcandidate=2 term=2 promise_us=1910000",
        );
        self.say(2, 1002, "Node 2 became the leader for term 2.\tterm=2");
        self.say(
            2,
            1002,
            &format!(
                "New Leader waiting for Old Leader Lease to timeout.\tterm=2 remaining_us={}",
                waits_ms * 1_000
            ),
        );
        self.round(2, 2, 1003, 0, 0);
        self.round(2, 2, 1103, 1, 1_870_000);
        let over = 1002 + waits_ms;
        self.say(
            2,
            over,
            "Node 2 has waited out every older lease.\tterm=2 deferred=1",
        );
        self.say(
            2,
            over,
            "Node 2 (leader) committed the entry NO-OP to the state machine.\tterm=2 index=2",
        );
    }

    fn timeline(&self) -> Timeline {
        Timeline::read(&self.dumps, Machines::Several)
    }

    fn findings(&self) -> Vec<String> {
        let findings = self.timeline().check().findings;
        findings.into_iter().map(|finding| finding.what).collect()
    }
}

fn good() -> Paper {
    let mut paper = Paper::with_clocks([(1, 0), (2, 3_000), (3, -500)]);
    paper.change_of_leader(1_910);
    paper
}

// Clocks that are seconds apart are found out from the messages alone, as closely as these were under way.
#[test]
fn clocks_are_compared_by_messages() {
    let timeline = good().timeline();
    let reference = timeline.clocks.reference().unwrap();
    let apart =
        |one: Node, other: Node| timeline.clocks.ahead_us(other) - timeline.clocks.ahead_us(one);
    let unsure = timeline.clocks.unsure_us(2, 3).unwrap();
    assert!(unsure <= 200_000, "{unsure}");
    assert!((apart(1, 2) - 3_000_000).abs() <= unsure, "{}", apart(1, 2));
    assert!((apart(1, 3) + 500_000).abs() <= unsure, "{}", apart(1, 3));
    assert_eq!(timeline.clocks.unsure_us(reference, reference), Some(0));
}

// On one machine nothing is compared, and nothing is unsure: a lane is where its node wrote. A few messages alone,
// as those of a young cluster, would put lanes apart by half of the time between two heartbeats.
#[test]
fn one_machine_has_one_clock() {
    let mut paper = Paper::with_clocks([(1, 0), (2, 0), (3, 0)]);
    paper.say(1, 10, "Node 1 became the leader for term 1.\tterm=1");
    for (round, left_us) in [(0, 0), (1, 1_870_000)] {
        paper.round(1, 1, 10 + 100 * round as i64, round, left_us);
    }
    paper.say(2, 1002, "Node 2 became the leader for term 2.\tterm=2");
    let read = |machines| Timeline::read(&paper.dumps, machines);
    let elected = |timeline: &Timeline| {
        let of = |node: Node| timeline.records[&node].leaderships[0].span.from;
        of(2) - of(1)
    };
    let (compared, same) = (read(Machines::Several), read(Machines::One));
    assert_eq!(elected(&same), 992_000, "as they wrote it");
    assert!(
        (elected(&compared) - 992_000).abs() > 10_000,
        "{}",
        elected(&compared)
    );
    assert_eq!(same.clocks.unsure_us(2, 3), Some(0));
    let page = same.page("x", &BTreeMap::new());
    assert!(
        page.contains("one machine, one clock") && !page.contains("clock ±"),
        "{page}"
    );
    assert_eq!(same.check().findings, []);
}

// A leader that dies before its second heartbeat has had a lease all the same, and that is drawn to its end.
#[test]
fn a_short_life_has_a_lease() {
    let mut paper = Paper::with_clocks([(1, 0), (2, 0), (3, 0)]);
    paper.say(
        1,
        0,
        "Node 1 started.\tpid=1 term=0 last_index=0 commit_index=0 run=a1",
    );
    paper.say(1, 10, "Node 1 became the leader for term 1.\tterm=1");
    paper.round(1, 1, 10, 0, 0);
    paper.say(1, 12, "Leader 1 holds its lease.\tterm=1 lease_us=1868000");
    paper.say(
        1,
        30,
        "Node 1 (leader) committed the entry NO-OP to the state machine.\tterm=1 index=1",
    );
    let timeline = paper.timeline();
    let leading = &timeline.records[&1].leaderships[0];
    let [lease] = leading.leases[..] else {
        panic!("{leading:?}")
    };
    assert_eq!(lease.until - lease.from, 1_868_000);
    let outlives = |paper: &Paper| {
        let page = paper.timeline().page("x", &BTreeMap::new());
        page.contains("class=\"lease outlives\"")
    };
    assert!(
        !outlives(&paper),
        "it may well lead on where the record ends"
    );
    paper.say(
        2,
        1_100,
        "Node 2 election timer timed out, Starting election.\tterm=2",
    );
    assert!(outlives(&paper), "others went on, and it did not");
}

// What is drawn is what was told: the lease to its true end, though its leader died; promises without a gap.
#[test]
fn leases_and_promises_are_read() {
    let timeline = good().timeline();
    let first = &timeline.records[&1];
    let [leading] = &first.leaderships[..] else {
        panic!("{:?}", first.leaderships)
    };
    let from = timeline.range().0;
    let [lease] = &leading.leases[..] else {
        panic!("{:?}", leading.leases)
    };
    let ms = |at: Micros| (at - from) / 1_000;
    let clock = timeline.clocks.ahead_us(1) / 1_000;
    assert_eq!(
        lease.until - lease.from,
        2_670_000,
        "from the second round on"
    );
    assert!((ms(lease.until) + clock - 2_780).abs() < 1_000);
    assert_eq!((leading.ended, leading.term), (Ended::Open, 1));
    let promised = &timeline.records[&3].promises;
    assert_eq!(promised.len(), 2);
    assert_eq!(promised[0].span.until - promised[0].span.from, 2_900_000);
    let wait = timeline.records[&2].leaderships[0].wait.unwrap();
    assert_eq!(
        (wait.remaining, wait.over.map(|over| over - wait.from)),
        (1_910_000, Some(1_910_000))
    );
}

// A cluster that keeps the lease is found to keep it, whatever its clocks say.
#[test]
fn a_kept_lease_is_no_contradiction() {
    let verdict = good().timeline().check();
    assert_eq!(verdict.findings, []);
    assert!(verdict.compared >= 3, "{}", verdict.compared);
}

/// Node 3 knew for certain that a run of node 1 had ended, and then the next leader, which does not wait on from
/// 1102 on. What is found.
fn waived(run: &str, leader_knows_at_ms: i64) -> Vec<String> {
    let mut paper = Paper::with_clocks([(1, 0), (2, 3_000), (3, -500)]);
    let known = |node: Node| {
        format!(
            "Node {node} knows for certain that a run of Node 1 has ended.\tterm=2 peer=1 run={run}"
        )
    };
    paper.say(3, 999, &known(3));
    paper.change_of_leader(100);
    paper.say(2, leader_knows_at_ms, &known(2));
    paper.say(
        2,
        leader_knows_at_ms,
        "Node 2 need not wait for an older lease: who held it has ended.\tterm=2 remaining_us=1810000",
    );
    paper.findings()
}

// A wait that ends because the leader's process had ended for certain is no contradiction; one that ends
// because of another run of that node is, and one that ends before that was known.
#[test]
fn a_wait_that_is_waived_for_a_reason_is_none() {
    assert_eq!(waived("a1", 1_100), Vec::<String>::new());
    let found = waived("b7", 1_100);
    assert!(
        found
            .iter()
            .any(|what| what.contains("before the lease of node 1")),
        "{found:?}"
    );
    let found = waived("a1", 1_500);
    assert!(
        found
            .iter()
            .any(|what| what.contains("before the promises ended")),
        "{found:?}"
    );
}

// A wait that is too short shows in three ways: in the lease of the one before, in what the votes said,
// and, where the leader itself was in a hurry, in its own words.
#[test]
fn a_wait_that_is_too_short_is_found() {
    let mut paper = Paper::with_clocks([(1, 0), (2, 3_000), (3, -500)]);
    paper.change_of_leader(100);
    let found = paper.findings();
    assert!(
        found
            .iter()
            .any(|what| what.contains("before the lease of node 1 (term 1) was over")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|what| what.contains("before the promises ended that its votes reported")),
        "{found:?}"
    );
    let mut paper = good();
    let text = paper.dumps.get_mut(&2).unwrap();
    *text = text.replace("remaining_us=1910000", "remaining_us=2910000");
    let found = paper.findings();
    assert!(
        found[0].contains("before its wait for an older lease was over"),
        "{found:?}"
    );
}

// Two leaders of one term, and a lease that nobody promised.
#[test]
fn what_must_not_be_is_found() {
    let mut paper = good();
    paper.say(3, 1_500, "Node 3 became the leader for term 2.\tterm=2");
    let found = paper.findings();
    assert!(
        found
            .iter()
            .any(|what| what == "nodes 2 and 3 both led term 2"),
        "{found:?}"
    );

    let mut paper = good();
    for _ in 0..2 {
        // Of those of node 1 only the first two rounds came to the others.
        for node in [2, 3] {
            let text = paper.dumps.get_mut(&node).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let kept = lines.iter().filter(|line| {
                let of_first = line.contains("peer=1 ");
                !of_first || line.contains("sequence=1 ") || line.contains("sequence=2 ")
            });
            *text = kept.fold(String::new(), |text, line| text + line + "\n");
        }
        paper.say(1, 1_001, "1 Stepping down\tterm=2");
    }
    let text = paper.dumps.get_mut(&1).unwrap();
    *text = text
        .replace("lease_us=1870000", "lease_us=9870000")
        .replace("1 Stepping down", "Node 1 stopped.");
    let found = paper.findings();
    assert!(
        found
            .iter()
            .any(|what| what.contains("longer than a majority's promises")),
        "{found:?}"
    );
}

// Where clocks can't be compared, nothing is called right or wrong.
#[test]
fn what_is_not_known_is_said() {
    let mut paper = Paper::with_clocks([(1, 0), (2, 0), (3, 0)]);
    paper.change_of_leader(100);
    for text in paper.dumps.values_mut() {
        *text = text.replace(" sequence=", " older=");
    }
    let verdict = paper.timeline().check();
    assert_eq!(verdict.findings, []);
    assert!(
        verdict
            .unjudged
            .iter()
            .any(|what| what.contains("no messages between them")),
        "{:?}",
        verdict.unjudged
    );
}

// The page needs nothing else, holds what it is to show, and lets no sentence out of its quotes.
#[test]
fn the_page_stands_alone() {
    let mut paper = good();
    paper.say(1, 500, "Node 1 failed: <script>\"&'.\t");
    let files = (1..=3)
        .map(|node| (node, format!("logs_node_{node}/dump.txt")))
        .collect();
    let page = paper.timeline().page("lab <1>", &files);
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http"), "no address of anything outside");
    assert!(page.contains("<title>lab &lt;1&gt;</title>"));
    assert!(
        page.contains("Node 1 failed: &lt;script&gt;&quot;&amp;"),
        "quoted"
    );
    assert_eq!(page.matches("<script").count(), 1);
    for what in [
        "class=\"lease outlives\"",
        "class=\"wait\"",
        "class=\"promise\"",
        "logs_node_2/dump.txt#line=",
    ] {
        assert!(page.contains(what), "{what}");
    }
    assert!(page.contains("no contradiction"));
    let svg = paper.timeline().svg("lab");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    let trace: serde_json::Value = serde_json::from_str(&paper.timeline().perfetto()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["ph"] == "X" && event["tid"] == 2)
    );
}

/// Clients that began a second after the nodes, by whose clock the others are drawn.
fn clients() -> Clients {
    Clients {
        started_unix_us: START_MS * 1_000 + 1_000_000,
        length_us: 1_000_000,
        gaps: vec![
            Gap {
                asked: Asked::Reads,
                from_us: 100_000,
                until_us: 400_000,
            },
            Gap {
                asked: Asked::Writes,
                from_us: 100_000,
                until_us: 900_000,
            },
        ],
        claims: vec![Claim {
            call_us: 500_000,
            return_us: Some(600_000),
            says: "client 3 at key \"k\": get: \"<old>\"".into(),
        }],
    }
}

// What clients saw stands beside the nodes, at its time: when nobody was answered, and the operations of a
// counter-example, pinned through all lanes when they were answered. The page opens on that time.
#[test]
fn what_clients_saw_is_drawn() {
    let timeline = good().timeline().with_clients(clients());
    let (first, _) = timeline.range();
    let ms = |at_ms: i64| (START_MS * 1_000 - first) / 1_000 + at_ms;
    let page = timeline.page("run", &BTreeMap::new());
    for (class, from, length) in [
        ("asked", 1_000, 1_000),
        ("gap", 1_100, 300),
        ("gap", 1_100, 800),
        ("claim", 1_500, 100),
    ] {
        let bar = format!("<rect class=\"{class}\" x=\"{}\"", ms(from));
        let width = format!(" width=\"{length}\"");
        let found = page
            .lines()
            .any(|line| line.contains(&bar) && line.contains(&width));
        assert!(found, "{class} at {from}\n{page}");
    }
    let pin = format!("<path class=\"finding\" d=\"M{} 0V", ms(1_600));
    assert!(page.contains(&pin), "{pin}");
    assert!(page.contains("get: &quot;&lt;old&gt;&quot;"));
    assert!(page.contains("no read was answered for 300 ms"));
    let opens = format!("data-opens=\"{} 1100\"", ms(950));
    assert!(page.contains(&opens), "{opens}");
    let trace: serde_json::Value = serde_json::from_str(&timeline.perfetto()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let gaps = events
        .iter()
        .filter(|event| event["name"] == "gap" && event["pid"] == 0);
    assert_eq!(gaps.count(), 2);
}

// Clients whose machine's clock is far away are left out, and the page opens on the nodes.
#[test]
fn clients_of_another_time_are_left_out() {
    let far = Clients {
        started_unix_us: 0,
        ..clients()
    };
    let timeline = good().timeline().with_clients(far);
    assert_eq!(timeline.opening(), timeline.range());
    let page = timeline.page("run", &BTreeMap::new());
    assert!(!page.contains("no read was answered"), "{page}");
}

// However long the record, the page stays small enough to open.
#[test]
fn a_page_has_a_bound() {
    let mut paper = Paper::with_clocks([(1, 0), (2, 0), (3, 0)]);
    for node in 1..=3 {
        for step in 0..30_000 {
            let at = step * 40;
            match step % 3 {
                0 => paper.say(node, at, &format!("Vote denied for Node 2 in term {step}.\tcandidate=2 term={step}")),
                1 => paper.say(
                    node,
                    at,
                    &format!("Node {node} (follower) committed the entry SET a b to the state machine.\tterm=1 index={step}"),
                ),
                _ => paper.say(
                    node,
                    at,
                    &format!(
                        "Node {node} accepted AppendEntries RPC from 2.\tterm={step} entries=1 last_index={step} \
                         peer=2 sequence={step} promise_us=1000"
                    ),
                ),
            }
        }
    }
    let page = paper.timeline().page("long", &BTreeMap::new());
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
}

// A torn end and a line that is none are no reason to show nothing; the latter is told.
#[test]
fn damage_is_told() {
    let mut paper = good();
    paper
        .dumps
        .get_mut(&3)
        .unwrap()
        .push_str("no event\n2026-01-01T00:00");
    let timeline = paper.timeline();
    assert_eq!(timeline.records[&3].unreadable, 1);
    assert!(
        timeline
            .check()
            .unjudged
            .iter()
            .any(|what| what.contains("node 3: 1 lines"))
    );
    assert!(Timeline::read(&BTreeMap::new(), Machines::Several).is_empty());
}
