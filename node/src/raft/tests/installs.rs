//! Snapshots on their way: what a leader sends to whom, and what becomes of the log of who gets one.

use super::*;

const BYTES: u64 = 100_000;

fn snapshot(index: Index, term: Term) -> SnapshotId {
    SnapshotId {
        index,
        term,
        format: 2,
        hash: 7 + index as u32,
        bytes: BYTES,
    }
}

fn taken(index: Index, term: Term) -> Input {
    Input::SnapshotTaken {
        snapshot: snapshot(index, term),
        keep_bytes: 4 * 1024 * 1024,
    }
}

/// A log with entries of these terms behind a snapshot.
fn behind(snapshot: SnapshotId, terms: &[Term]) -> Recovered {
    let entries = (snapshot.index + 1..).zip(terms);
    Recovered {
        hard_state: HardState {
            term: terms.last().copied().unwrap_or(snapshot.term),
            voted_for: None,
        },
        snapshot: Some(snapshot),
        entries: entries.map(|(index, term)| entry(index, *term)).collect(),
        commit_index: snapshot.index,
        kept_promises: Some(Vec::new()),
        ..Recovered::default()
    }
}

/// The leader of three, of term 3, whose log begins behind a snapshot of entry 5.
fn purged_leader(terms: &[Term]) -> Raft {
    let mut raft = Raft::new(config(3), behind(snapshot(5, 2), terms), 0);
    raft.step(TIMEOUT, Input::Tick);
    let yes = Message::VoteReply {
        term: raft.term() + 1,
        granted: true,
        pre: true,
        promise_remaining_ms: None,
        owed: Default::default(),
    };
    receive(&mut raft, TIMEOUT, 2, yes);
    let term = raft.term();
    raft.step(TIMEOUT, Input::HardStatePersisted { term });
    vote(&mut raft, TIMEOUT, 2, Some(0));
    assert_eq!(raft.role(), Role::Leader);
    let index = raft.last_index();
    raft.step(TIMEOUT, Input::Persisted { index, term });
    raft
}

fn too_short(raft: &mut Raft, now: Micros, sequence: u64) -> Output {
    let message = Message::AppendReply {
        term: raft.term(),
        sequence,
        outcome: AppendOutcome::Rejected {
            conflict_index: 1,
            conflict_term: None,
        },
    };
    receive(raft, now, 2, message)
}

fn wanted(output: &Output) -> Vec<(NodeId, Index, u64)> {
    let wanted = output.chunks.iter();
    wanted
        .map(|c| (c.peer, c.snapshot.index, c.offset))
        .collect()
}

/// The disk has read what the leader asked for; the sequence of the piece that leaves.
fn read(raft: &mut Raft, now: Micros, asked: &Output) -> u64 {
    let ChunkWanted {
        peer,
        snapshot,
        offset,
        bytes,
    } = asked.chunks[0];
    let data = vec![b'x'; bytes].into();
    let output = raft.step(
        now,
        Input::Chunk {
            peer,
            snapshot,
            offset,
            data,
        },
    );
    match &output.messages[..] {
        [
            (
                2,
                Message::InstallSnapshot {
                    sequence, lease_ms, ..
                },
            ),
        ] => {
            assert_eq!(*lease_ms, LEASE / MS);
            *sequence
        }
        other => panic!("{other:?}"),
    }
}

fn answer(raft: &mut Raft, now: Micros, sequence: u64, index: Index, offset: u64) -> Output {
    let term = raft.term();
    let message = Message::InstallReply {
        term,
        sequence,
        index,
        offset,
    };
    receive(raft, now, 2, message)
}

/// Goal: an empty follower of a leader whose log was cut, all of it or a part, gets the snapshot,
/// piece by piece, then the rest of the log. That it has it is believed only when it says so of its
/// log.
#[test]
fn a_follower_with_nothing_is_brought_up() {
    for terms in [&[][..], &[2, 2]] {
        let mut raft = purged_leader(terms);
        let last = raft.last_index();
        let mut now = TIMEOUT + MS;
        let mut asked = too_short(&mut raft, now, 1);
        assert_eq!(wanted(&asked), [(2, 5, 0)]);
        let mut offset = 0;
        while offset < BYTES {
            let sequence = read(&mut raft, now, &asked);
            assert_eq!(wanted(&raft.step(now, Input::Tick)), [], "one at a time");
            offset += asked.chunks[0].bytes as u64;
            now += MS;
            asked = answer(&mut raft, now, sequence, 5, offset);
        }
        assert_eq!(wanted(&asked), [], "all is there");
        let status = raft.status().peers[0];
        assert_eq!(status.match_index, 0, "transferred is not applied");
        let beat = raft.step(now + 100 * MS, Input::Tick);
        let to_2 = beat.messages.iter().find(|(to, _)| *to == 2);
        let Some((
            _,
            Message::Append {
                base_index,
                base_term,
                entries,
                sequence,
                ..
            },
        )) = to_2
        else {
            panic!("{to_2:?}");
        };
        assert_eq!((*base_index, *base_term, entries.len()), (5, 2, 0));
        let term = raft.term();
        let done = receive(&mut raft, now + 101 * MS, 2, accepted(term, *sequence, 5));
        assert_eq!(raft.status().peers[0].match_index, 5);
        assert!(!raft.is_installing(), "it has what was sent");
        let brought = match &done.messages[..] {
            [
                (
                    2,
                    Message::Append {
                        base_index: 5,
                        entries,
                        ..
                    },
                ),
            ] => entries.len() as u64,
            other => panic!("{other:?}"),
        };
        assert_eq!(5 + brought, last);
    }
}

/// Goal: while clients write, the next piece waits as long as the last one took, and no longer than what is long for
/// nobody; without them it follows at once.
#[test]
fn a_transfer_leaves_room_for_writes() {
    for (took, waits) in [(4 * MS, 4 * MS), (400 * MS, 20 * MS)] {
        let mut raft = purged_leader(&[]);
        let mut now = TIMEOUT + MS;
        let asked = too_short(&mut raft, now, 1);
        let mut sequence = read(&mut raft, now, &asked);
        let mut offset = asked.chunks[0].bytes as u64;
        raft.step(now, Input::Propose(vec![Arc::new(Command::NoOp)]));
        now += took;
        let answered = answer(&mut raft, now, sequence, 5, offset);
        assert_eq!(wanted(&answered), [], "somebody writes");
        assert!(raft.wake_at() <= now + waits);
        now += waits;
        assert_eq!(wanted(&raft.step(now - 1, Input::Tick)), [], "{took}");
        let asked = raft.step(now, Input::Tick);
        assert_eq!(wanted(&asked), [(2, 5, offset)]);
        sequence = read(&mut raft, now, &asked);
        offset += asked.chunks[0].bytes as u64;
        let answered = answer(&mut raft, now + took, sequence, 5, offset);
        let expected = if offset < BYTES {
            vec![(2, 5, offset)]
        } else {
            vec![]
        };
        assert_eq!(wanted(&answered), expected, "nobody writes");
    }
}

/// Goal: after a broken connection, and after a restart of the follower, the transfer goes on where
/// the follower says; an answer to an earlier piece moves nothing; silence is asked again in time.
#[test]
fn a_transfer_goes_on_where_it_was() {
    let mut raft = purged_leader(&[]);
    let now = TIMEOUT + MS;
    let asked = too_short(&mut raft, now, 1);
    let first = read(&mut raft, now, &asked);
    assert_eq!(first, 3, "its own, behind those of the first appends");
    raft.step(now, Input::Disconnected { peer: 2 });
    let again = raft.step(
        now,
        Input::Connected {
            peer: 2,
            reads_format: 2,
        },
    );
    assert_eq!(wanted(&again), [], "where the logs meet is asked first");
    let again = too_short(&mut raft, now + MS, first + 2);
    assert_eq!(wanted(&again), [(2, 5, 0)]);
    let sequence = read(&mut raft, now, &again);
    assert_eq!(wanted(&answer(&mut raft, now, first, 5, 1_000)), [], "late");
    let next = answer(&mut raft, now, sequence, 5, 70_000);
    assert_eq!(wanted(&next), [(2, 5, 70_000)]);
    // The other follower keeps the leader in office.
    let (mut later, mut retried) = (now, Output::default());
    while retried.chunks.is_empty() {
        later += 10 * MS;
        assert_eq!(raft.role(), Role::Leader, "{later}");
        assert!(later < now + 2 * LEASE);
        retried = raft.step(later, Input::Tick);
        if retried.flush {
            raft.step(later, Input::Flushed { since_us: later });
        }
        for (peer, sequence) in sequences(&retried) {
            let reply = accepted(raft.term(), sequence, 0);
            if peer == 3 {
                receive(&mut raft, later, 3, reply);
            }
        }
    }
    assert!(later >= now + LEASE);
    assert_eq!(wanted(&retried), [(2, 5, 70_000)]);
}

/// A leader that the other follower keeps in office, with a heartbeat at each time. When it asked for pieces.
fn in_office(raft: &mut Raft, times: std::ops::Range<Micros>) -> Vec<Micros> {
    let mut asked = Vec::new();
    for now in times.step_by(100 * MS as usize) {
        let beat = raft.step(now, Input::Tick);
        asked.extend(beat.chunks.iter().map(|_| now));
        raft.step(now, Input::Flushed { since_us: now });
        for (peer, sequence) in sequences(&beat) {
            if peer == 3 {
                let reply = accepted(raft.term(), sequence, 0);
                receive(raft, now, 3, reply);
            }
        }
    }
    assert_eq!(raft.role(), Role::Leader);
    asked
}

/// Goal: a piece that the disk does not bring is asked for again a lease later.
#[test]
fn a_piece_is_asked_for_again_in_time() {
    let mut raft = purged_leader(&[]);
    let asked = too_short(&mut raft, TIMEOUT, 1);
    assert_eq!(wanted(&asked), [(2, 5, 0)]);
    let again = in_office(&mut raft, TIMEOUT + 100 * MS..TIMEOUT + 2 * LEASE);
    assert_eq!(again, [TIMEOUT + LEASE]);
}

/// Goal: what was read of another place than was asked for is not sent.
#[test]
fn only_what_was_asked_for_is_sent() {
    let mut raft = purged_leader(&[]);
    let asked = too_short(&mut raft, TIMEOUT, 1);
    let chunk = |offset| Input::Chunk {
        peer: 2,
        snapshot: snapshot(5, 2),
        offset,
        data: vec![b'x'; 9].into(),
    };
    assert_eq!(raft.step(TIMEOUT, chunk(9)).messages, []);
    let sequence = read(&mut raft, TIMEOUT, &asked);
    answer(&mut raft, TIMEOUT, sequence, 5, BYTES);
    let late = raft.step(TIMEOUT, chunk(asked.chunks[0].offset));
    assert_eq!(late.messages, [], "all is there");
}

/// Goal: as long as the entries that a follower lacks are let go, its transfer goes on, whatever else it holds;
/// where they are not, it gets them.
#[test]
fn a_transfer_goes_on_as_long_as_it_is_needed() {
    let mut raft = purged_leader(&[2, 2]);
    let asked = too_short(&mut raft, TIMEOUT, 1);
    let sequence = read(&mut raft, TIMEOUT, &asked);
    let reply = accepted(raft.term(), sequence, 4);
    let still = receive(&mut raft, TIMEOUT, 2, reply);
    assert_eq!(
        (wanted(&still), still.messages),
        (vec![], vec![]),
        "under way"
    );
    let mut raft = purged_leader(&[2, 2]);
    let asked = too_short(&mut raft, TIMEOUT, 1);
    let sequence = read(&mut raft, TIMEOUT, &asked);
    let message = Message::AppendReply {
        term: raft.term(),
        sequence: sequence + 1,
        outcome: AppendOutcome::Rejected {
            conflict_index: 7,
            conflict_term: None,
        },
    };
    let elsewhere = receive(&mut raft, TIMEOUT, 2, message);
    assert_eq!(wanted(&elsewhere), []);
    let [
        (
            2,
            Message::Append {
                base_index,
                entries,
                ..
            },
        ),
    ] = &elsewhere.messages[..]
    else {
        panic!("{elsewhere:?}");
    };
    assert_eq!((*base_index, entries.len()), (6, 2));
}

/// Goal: a snapshot is on its way to a peer for one lease after the peer's last answer.
#[test]
fn a_silent_peer_is_sent_nothing() {
    let mut raft = purged_leader(&[]);
    assert!(!raft.is_installing());
    let begun = TIMEOUT + 500 * MS;
    let asked = too_short(&mut raft, begun, 1);
    let sequence = read(&mut raft, begun, &asked);
    answer(&mut raft, begun, sequence, 5, 1_000);
    in_office(&mut raft, begun..begun + LEASE);
    raft.step(begun + LEASE - 1, Input::Tick);
    assert!(raft.is_installing());
    raft.step(begun + LEASE, Input::Tick);
    assert_eq!((raft.role(), raft.is_installing()), (Role::Leader, false));
}

/// Goal: a snapshot that was found damaged is told of once and sent to nobody; what is said of another one
/// changes nothing.
#[test]
fn a_damaged_snapshot_is_sent_to_nobody() {
    let mut raft = purged_leader(&[]);
    let damaged = |of| Input::SnapshotDamaged { snapshot: of };
    let told = |output: &Output| {
        let is_told = |event: &Event| matches!(event, Event::SnapshotDamaged { .. });
        output.events.iter().any(is_told)
    };
    assert!(!told(&raft.step(TIMEOUT, damaged(snapshot(4, 2)))));
    assert!(!raft.status().snapshot_damaged);
    assert!(told(&raft.step(TIMEOUT, damaged(snapshot(5, 2)))));
    assert!(raft.status().snapshot_damaged);
    assert!(!told(&raft.step(TIMEOUT, damaged(snapshot(5, 2)))), "once");
    assert!(!told(&raft.step(TIMEOUT, damaged(snapshot(4, 2)))));
    assert_eq!(wanted(&too_short(&mut raft, TIMEOUT, 1)), []);
}

/// Goal: a newer snapshot takes the place of the one that is being sent.
#[test]
fn the_newest_snapshot_is_sent() {
    let mut raft = purged_leader(&[2, 2]);
    let asked = too_short(&mut raft, TIMEOUT, 1);
    let sequence = read(&mut raft, TIMEOUT, &asked);
    let (index, term) = (raft.last_index(), raft.term());
    raft.step(TIMEOUT, Input::Persisted { index, term });
    receive(&mut raft, TIMEOUT, 3, accepted(term, 1, index));
    assert_eq!(raft.commit_index(), index);
    raft.step(TIMEOUT, taken(index, term));
    assert_eq!(raft.base_index(), 5, "what is small stays for others");
    let same = SnapshotId {
        hash: 1,
        ..snapshot(index, term)
    };
    let keep_bytes = 0;
    let again = Input::SnapshotTaken {
        snapshot: same,
        keep_bytes,
    };
    raft.step(TIMEOUT, again);
    assert_eq!(raft.snapshot(), Some(snapshot(index, term)), "not newer");
    let next = answer(&mut raft, TIMEOUT, sequence, 5, 65_000);
    assert_eq!(wanted(&next), [(2, index, 0)]);
}

/// Goal: what a snapshot holds and nobody may need is handed out, so that its end holds nobody up; the rest stays.
#[test]
fn what_is_let_go_is_handed_out() {
    let recovered = Recovered {
        commit_index: 3,
        ..recovered(&[1, 1, 1])
    };
    let mut raft = Raft::new(config(3), recovered, 0);
    let keep_bytes = 0;
    let snapshot = snapshot(2, 1);
    let taken = Input::SnapshotTaken {
        snapshot,
        keep_bytes,
    };
    let output = raft.step(0, taken);
    let gone: Vec<_> = output.let_go.iter().map(|entry| entry.index).collect();
    assert_eq!(gone, [1, 2]);
    assert_eq!((raft.base_index(), raft.last_index()), (2, 3));
    assert_eq!(raft.entry(3).map(|entry| entry.index), Some(3));
}

fn piece(term: Term, snapshot: SnapshotId, offset: u64, bytes: u64) -> Message {
    Message::InstallSnapshot {
        term,
        snapshot,
        offset,
        data: vec![b'x'; bytes as usize].into(),
        lease_ms: LEASE / MS,
        sequence: 1 + offset,
        incarnation: 0,
    }
}

fn have(output: &Output) -> u64 {
    match &output.messages_after_persist[..] {
        [(2, Message::InstallReply { offset, .. })] => *offset,
        other => panic!("{other:?}"),
    }
}

/// Goal: pieces are taken in their order and told; others move nothing. Each is promised a lease, as
/// an append is.
#[test]
fn pieces_come_in_order() {
    let mut raft = follower(3, &[1]);
    let of = snapshot(9, 2);
    for (offset, bytes, then) in [
        (10, 5, 0),
        (0, 60_000, 60_000),
        (0, 60_000, 60_000),
        (60_000, 60_000, 60_000),
        (60_000, 40_000, BYTES),
    ] {
        let output = receive(&mut raft, offset, 2, piece(3, of, offset, bytes));
        assert_eq!(have(&output), then);
    }
    assert_eq!(raft.promises(0).len(), 1);
    let another = receive(&mut raft, MS, 2, piece(3, snapshot(11, 2), 60_000, 5));
    assert_eq!(have(&another), 0, "another one begins at its beginning");
    raft.step(MS, Input::InstallFailed);
    let again = receive(&mut raft, MS, 2, piece(3, of, 0, 5));
    assert_eq!(have(&again), 5);
}

/// Goal: what follows the snapshot stays in the log only where the entry at its end is the very one;
/// an entry of another term there is not left in the way. What was durable of the log that was says
/// nothing of the new one.
#[test]
fn the_rest_stays_only_behind_the_same_entry() {
    for (terms, stays) in [
        (&[1, 1, 2, 2, 3][..], true),
        (&[1, 1, 1, 1, 1][..], false),
        (&[1, 1, 1][..], false),
        (&[][..], false),
    ] {
        let mut raft = follower(3, terms);
        receive(&mut raft, 0, 2, piece(4, snapshot(4, 2), 0, BYTES));
        let output = raft.step(0, installed(snapshot(4, 2)));
        assert_eq!(output.installed, Some(stays));
        assert_eq!(raft.counters.installs, 1);
        assert_eq!((raft.commit_index(), raft.base_index()), (4, 4));
        let last = if stays { 5 } else { 4 };
        assert_eq!(
            (raft.last_index(), raft.durable_index()),
            (last, if stays { 5 } else { 0 })
        );
        raft.step(0, Input::Persisted { index: 4, term: 2 });
        assert_eq!(raft.durable_index(), last);
        let next = receive(&mut raft, 0, 2, append(4, (4, 2), vec![entry(5, 4)], 5, 9));
        let reply = &next.messages_after_persist[0].1;
        assert_eq!(*reply, accepted(4, 9, 5));
        assert_eq!(raft.commit_index(), 5);
    }
}

/// Goal: a snapshot that brings nothing new changes nothing, nor does one that comes to an end when
/// the node no longer follows.
#[test]
fn a_snapshot_of_the_past_changes_nothing() {
    let mut raft = follower(3, &[1, 1, 1]);
    receive(&mut raft, 0, 2, append(2, (3, 1), vec![], 3, 1));
    let output = receive(&mut raft, 0, 2, piece(2, snapshot(3, 1), 0, BYTES));
    assert_eq!((have(&output), output.piece), (BYTES, None));
    let output = raft.step(0, installed(snapshot(3, 1)));
    assert_eq!((output.installed, raft.snapshot()), (None, None));

    let mut raft = follower(3, &[1]);
    receive(&mut raft, 0, 2, piece(2, snapshot(3, 1), 0, BYTES));
    raft.step(10 * LEASE, Input::Tick);
    assert_eq!(raft.role(), Role::Candidate);
    let output = raft.step(10 * LEASE, installed(snapshot(3, 1)));
    assert_eq!((output.installed, raft.last_index()), (None, 1));
}

/// Goal: appends that begin before what was let go are taken for what they are: known.
#[test]
fn what_was_let_go_is_known() {
    let mut raft = Raft::new(config(3), behind(snapshot(5, 2), &[2, 2]), 0);
    for (base, terms, matched) in [
        ((3, 1), &[2, 2, 2, 2, 3][..], 8),
        ((1, 1), &[1][..], 2),
        ((4, 2), &[2, 2][..], 6),
        ((5, 2), &[2, 2, 3][..], 8),
        ((2, 1), &[][..], 2),
    ] {
        let entries = (base.0 + 1..).zip(terms).map(|(i, term)| entry(i, *term));
        let message = append(3, base, entries.collect(), 0, 1);
        let output = receive(&mut raft, 0, 2, message);
        let reply = &output.messages_after_persist[0].1;
        assert_eq!(*reply, accepted(3, 1, matched), "{base:?}");
        assert!(output.contradiction.is_none());
    }
    assert_eq!((raft.last_index(), raft.commit_index()), (8, 5));
}

/// Goal: a node whose log was damaged votes again after a snapshot only if that reaches as far as
/// what it lost, or was made by a leader that was elected since.
#[test]
fn a_snapshot_heals_as_far_as_it_reaches() {
    for (of, heals) in [
        (snapshot(7, 2), false),
        (snapshot(8, 2), true),
        (snapshot(7, 3), true),
    ] {
        let damaged = Recovered {
            damaged_until: 8,
            damaged_term: 2,
            ..recovered(&[1, 2])
        };
        let mut raft = Raft::new(config(3), damaged, 0);
        receive(&mut raft, 0, 2, piece(4, of, 0, BYTES));
        raft.step(0, installed(of));
        let whole = raft.log_state() == LogState::Whole;
        assert_eq!(whole, heals, "{of:?}");
    }
}

/// Goal: what is in a snapshot leaves the memory, but for a little; and a log that is all gone goes
/// on where it was.
#[test]
fn the_log_keeps_a_little() {
    let mut raft = purged_leader(&[]);
    let term = raft.term();
    let value: Arc<str> = "x".repeat(1024 * 1024).into();
    let write = |_| {
        Arc::new(Command::Write(crate::command::Write {
            request: None,
            operation: crate::command::Operation::Set {
                key: "k".into(),
                value: Arc::clone(&value),
            },
        }))
    };
    raft.step(TIMEOUT, Input::Propose((0..10).map(write).collect()));
    let index = raft.last_index();
    raft.step(TIMEOUT, Input::Persisted { index, term });
    receive(&mut raft, TIMEOUT, 3, accepted(term, 1, index));
    assert_eq!(raft.commit_index(), index);
    raft.step(TIMEOUT, taken(index, term));
    assert_eq!(raft.base_index(), index - 4);
    assert_eq!(raft.entries(0, index).len(), 4);
}

/// Goal: a log that is small stays in memory, also where nothing was let go before.
#[test]
fn a_small_log_stays() {
    let (mut raft, elected) = leader(3, &[1]);
    let (peer, sequence) = sequences(&elected)[0];
    receive(&mut raft, TIMEOUT, peer, accepted(2, sequence, 2));
    raft.step(TIMEOUT, taken(2, 2));
    assert_eq!(
        (raft.snapshot(), raft.base_index()),
        (Some(snapshot(2, 2)), 0)
    );
    assert_eq!(raft.entries(0, 9).len(), 2);
}

/// All pieces of a snapshot are here, which names no configuration.
fn installed(snapshot: SnapshotId) -> Input {
    Input::Installed {
        snapshot,
        configuration: None,
    }
}
