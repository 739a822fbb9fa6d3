//! Pictures of a cluster, and what keys do.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use raftkv::admin::{
    CutLink, DiskRoom, Figures, Member, Membership, OpenPromise, Role, StatusReply,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Act, Look, Model, Wish};
use super::screen;
use crate::admin::AdminError;
use crate::cluster::NodeId;
use crate::hosts::control::ProcessState;
use crate::ops::alarms;
use crate::ops::rates::Rates;
use crate::ops::status::{NodeStatus, Snapshot};

const AT: Duration = Duration::from_secs(1_800_000_000);

fn node(id: NodeId, reply: StatusReply) -> NodeStatus {
    NodeStatus {
        id,
        address: format!("127.0.0.1:750{id}"),
        process: Some(ProcessState::Running),
        host_error: None,
        is_filtered: false,
        reply: Ok(reply),
    }
}

fn follower(id: NodeId, leader: NodeId, term: u64) -> NodeStatus {
    let promise = OpenPromise {
        leader_id: leader,
        remaining_ms: 1950,
    };
    node(
        id,
        StatusReply {
            node_id: id,
            pid: id,
            role: Role::Follower.into(),
            term,
            leader_id: leader,
            commit_index: 90_000,
            applied_index: 89_996,
            lease_duration_ms: 2000,
            disk: Some(DiskRoom {
                free_bytes: 42 << 30,
                kept_bytes: 64 << 20,
                refuses_writes: false,
            }),
            figures: Some(Figures {
                resident_memory_bytes: 9_600_000,
                ..Figures::default()
            }),
            promises: if leader == 0 {
                Vec::new()
            } else {
                vec![promise]
            },
            ..StatusReply::default()
        },
    )
}

fn leader(id: NodeId, term: u64, survives: u64) -> NodeStatus {
    let member = |node_id| Member {
        node_id,
        voter: true,
        ..Member::default()
    };
    let mut node = follower(id, 0, term);
    let reply = node.reply.as_mut().unwrap();
    reply.set_role(Role::Leader);
    reply.applied_index = 90_000;
    reply.lease_remaining_ms = Some(1740);
    reply.survives_failures = Some(survives);
    reply.membership = Some(Membership {
        members: (1..=5).map(member).collect(),
        ..Membership::default()
    });
    node
}

fn silent(id: NodeId, process: Option<ProcessState>) -> NodeStatus {
    let mut node = follower(id, 0, 0);
    node.process = process;
    node.reply = Err(AdminError::Silent {
        address: node.address.clone(),
        cause: "Connection refused".into(),
    });
    node
}

fn look(leader: Option<NodeId>, nodes: Vec<NodeStatus>) -> Look {
    let terms = nodes
        .iter()
        .filter_map(|node| Some(node.reply.as_ref().ok()?.term));
    let snapshot = Snapshot {
        leader,
        term: terms.max(),
        nodes,
    };
    let busy = Rates {
        writes_per_second: Some(12_345.0),
        write_p99: Some(Duration::from_micros(1900)),
        reads_per_second: Some(800.0),
        read_p99: Some(Duration::from_micros(495)),
        fsync_p99: Some(Duration::from_millis(12)),
    };
    let rates: BTreeMap<NodeId, Rates> = leader.into_iter().map(|id| (id, busy)).collect();
    let alarms = alarms::of(&snapshot, &rates);
    Look {
        snapshot,
        rates,
        alarms,
    }
}

fn healthy() -> Look {
    let mut nodes: Vec<NodeStatus> = (1..=5).map(|id| follower(id, 2, 7)).collect();
    nodes[1] = leader(2, 7, 2);
    look(Some(2), nodes)
}

/// Node 2 was killed; node 4 has won the election and waits, node 5 has not heard of that yet.
fn election() -> Look {
    let mut nodes: Vec<NodeStatus> = (1..=5).map(|id| follower(id, 4, 8)).collect();
    nodes[1] = silent(2, Some(ProcessState::Stopped));
    nodes[3] = leader(4, 8, 1);
    let waiting = nodes[3].reply.as_mut().unwrap();
    (waiting.lease_remaining_ms, waiting.old_lease_remaining_ms) = (None, Some(1420));
    let standing = nodes[4].reply.as_mut().unwrap();
    standing.set_role(Role::Candidate);
    look(Some(4), nodes)
}

fn dead_majority() -> Look {
    let mut nodes: Vec<NodeStatus> = (1..=5).map(|id| follower(id, 0, 9)).collect();
    nodes[0] = silent(1, Some(ProcessState::Stopped));
    nodes[1] = silent(2, Some(ProcessState::Paused));
    nodes[2] = silent(3, None);
    nodes[2].host_error = Some("cannot reach n3.example: timed out".into());
    let cut = CutLink {
        peer_id: 5,
        remaining_ms: 59_000,
    };
    nodes[3].reply.as_mut().unwrap().cut_links = vec![cut];
    look(None, nodes)
}

fn model(looks: impl IntoIterator<Item = Look>) -> Model {
    let mut model = Model::new("demo", "local");
    for look in looks {
        model.look(look, SystemTime::UNIX_EPOCH + AT);
    }
    model
}

/// The picture as text; lines do not end in spaces.
fn picture(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, model)).unwrap();
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(width.into());
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| format!("{}\n", row.trim_end())).collect()
}

#[track_caller]
fn shows(picture: &str, lines: &[&str]) {
    for line in lines {
        let is_there = picture.lines().any(|shown| shown.starts_with(line));
        assert!(is_there, "{line:?} is not in\n{picture}");
    }
}

// A healthy cluster on a wide terminal: a row a node, the lease counting down, what the leader does.
#[test]
fn a_healthy_cluster() {
    let shown = picture(&model([healthy()]), 140, 30);
    shows(
        &shown,
        &[
            "cluster demo (local): node 2 leads, term 7, survives 2 failures",
            "NODE ROLE      TERM   LEASE          PROMISED     LAG    SET/s   p99    GET/s   p99    FSYNC p99 MEMORY  DISK FREE",
            "1    follower  7      -              node 2 1.9 s 4      -       -      -       -      -         9.1 MiB 42 GiB",
            "2    leader    7      ██████▉  1.7 s -            0      12.3 k  1.9ms  800     0.5ms  12ms      9.1 MiB 42 GiB",
        ],
    );
    assert!(!shown.contains("Raftkv"), "no alarm:\n{shown}");
}

// The same at 80 columns and 24 lines: nothing is left out, in two tables.
#[test]
fn a_narrow_terminal() {
    let shown = picture(&model([healthy()]), 80, 24);
    shows(
        &shown,
        &[
            "NODE ROLE      TERM   LEASE          PROMISED     LAG",
            "2    leader    7      ██████▉  1.7 s -            0",
            "NODE SET/s   p99    GET/s   p99    FSYNC p99 MEMORY  DISK FREE",
            "2    12.3 k  1.9ms  800     0.5ms  12ms      9.1 MiB 42 GiB",
            "↑↓ 1-9 node  k kill  p pause  r resume  c cut off  h heal  t transfer  q quit",
        ],
    );
    assert_eq!(shown.lines().count(), 24);
}

// An election: who is dead, who stands, who waits for the older lease and how long; told as it comes.
#[test]
fn an_election() {
    let shown = picture(&model([healthy(), election()]), 140, 30);
    shows(
        &shown,
        &[
            "cluster demo (local): node 4 leads, term 8, survives 1 failure",
            "2    dead      -      -",
            "4    leader    8      waits 1.4 s",
            "5    candidate 8      -",
            "RaftkvNoLease the leader, node 4, has no lease",
            "RaftkvNodeDown node 2 does not answer",
            "08:00:00.000 node 4 leads, term 8",
            "08:00:00.000 node 2 does not run",
            "08:00:00.000 node 4 waits 1420 ms for the lease before its own",
            "08:00:00.000 node 5 stands for election, term 8",
        ],
    );
    let back = picture(&model([election(), healthy()]), 140, 30);
    shows(
        &back,
        &[
            "08:00:00.000 node 2 answers",
            "08:00:00.000 RaftkvNoLease is over",
        ],
    );
}

// A dead majority: what is known of each node and why, and that nobody serves.
#[test]
fn a_dead_majority() {
    let shown = picture(&model([healthy(), dead_majority()]), 80, 30);
    shows(
        &shown,
        &[
            "cluster demo (local): no leader, term 9",
            "1    dead      -",
            "2    paused    -",
            "3    silent    -      -              -            -      its host: cannot reach",
            "4    follower  9      -              -            4      cut off from 5, 59 s",
            "RaftkvNoLease the cluster has no leader",
            "08:00:00.000 nobody leads",
            "08:00:00.000 node 4 is cut off from node 5",
        ],
    );
}

// On a terminal that is far too small nothing breaks.
#[test]
fn no_terminal_is_too_small() {
    let mut model = model([healthy(), dead_majority()]);
    model.asked = Some(Act::Heal);
    for (width, height) in [(1, 1), (10, 2), (20, 5), (300, 100)] {
        picture(&model, width, height);
    }
    picture(&Model::new("demo", "local"), 80, 24);
}

fn press(model: &mut Model, code: KeyCode) -> Option<Wish> {
    model.key(KeyEvent::new(code, KeyModifiers::NONE))
}

// Nothing is done before it was confirmed, with one key that means yes; every other one means no.
#[test]
fn a_confirmation() {
    let mut model = model([healthy()]);
    press(&mut model, KeyCode::Char('3'));
    assert_eq!(press(&mut model, KeyCode::Char('k')), None);
    let shown = picture(&model, 80, 24);
    for line in [
        "Kill node 3?",
        "It stays dead until somebody starts it.",
        "y: yes   any other key: no",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    for no in ['n', 'q', 'k'] {
        assert_eq!(press(&mut model, KeyCode::Char(no)), None);
        assert_eq!(model.asked, None);
        press(&mut model, KeyCode::Char('k'));
    }
    let confirmed = press(&mut model, KeyCode::Char('y'));
    assert_eq!(confirmed, Some(Wish::Act(Act::Kill(3))));
    assert_eq!((model.asked, model.under_way), (None, 1));
}

// Each key asks for its own, about the node that is selected; selection goes round.
#[test]
fn keys_ask_for_their_own() {
    let mut model = model([healthy()]);
    let asked = |model: &mut Model, key| {
        press(model, KeyCode::Char(key));
        model.asked.take()
    };
    assert_eq!(asked(&mut model, 'p'), Some(Act::Pause(1)));
    press(&mut model, KeyCode::Up);
    assert_eq!(asked(&mut model, 'c'), Some(Act::CutOff(5)));
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Down);
    assert_eq!(asked(&mut model, 't'), Some(Act::Transfer(2)));
    assert_eq!(asked(&mut model, 'r'), Some(Act::Resume(2)));
    assert_eq!(asked(&mut model, 'h'), Some(Act::Heal));
    assert_eq!(asked(&mut model, 'x'), None);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.key(interrupt), Some(Wish::Leave));
    assert_eq!(press(&mut model, KeyCode::Char('q')), Some(Wish::Leave));
}
