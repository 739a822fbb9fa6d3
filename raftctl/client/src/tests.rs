//! The client against fake nodes: a story each.

use std::time::{Duration, Instant};

use raftkv::kv::ErrorReason;

use super::fake::{Fakes, Role, Seen};
use super::{Absence, Client, ClientError, Member, Read};

/// Time that no correct client needs in these tests.
const LONG: Duration = Duration::from_secs(20);

fn client(fakes: &Fakes) -> Client {
    Client::new(&fakes.members()).with_timeout(LONG)
}

/// A write reaches the leader through the hint of whoever is asked first, and the next one goes
/// there directly.
#[tokio::test]
async fn hints_lead_to_the_leader_and_are_remembered() {
    let follow = Role::Follow(Some(3));
    let fakes = Fakes::start(&[follow, follow, Role::Lead, follow, follow]).await;
    let mut client = client(&fakes);
    client.set("a", "1").await.unwrap();
    assert!(
        fakes.writes("a").len() <= 2,
        "one question, one hint: {:?}",
        fakes.seen()
    );
    client.set("b", "2").await.unwrap();
    assert_eq!(
        fakes
            .writes("b")
            .iter()
            .map(|(node, _)| *node)
            .collect::<Vec<_>>(),
        [3]
    );
    let reply = client.get("a", Read::Lease).await.unwrap();
    assert_eq!((reply.value.as_str(), reply.found), ("1", true));
}

/// The leader applies a write and is gone before it answers. The client sends the same request to
/// the next leader, where it applies no second time, and reports success.
#[tokio::test]
async fn a_resent_write_carries_the_same_request_id() {
    let fakes = Fakes::start(&[Role::Lead, Role::Follow(Some(1))]).await;
    let mut client = client(&fakes);
    client.set("warm", "up").await.unwrap();
    fakes.set_role(1, Role::ApplyThenFreeze);
    let switch = tokio::spawn({
        let fakes = fakes.clone();
        async move {
            while fakes.applied() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fakes.set_role(2, Role::Lead);
        }
    });
    let reply = client.set("k", "v").await.unwrap();
    switch.await.unwrap();
    let writes = fakes.writes("k");
    assert_eq!(writes.first().unwrap().0, 1);
    assert_eq!(writes.last().unwrap().0, 2);
    assert!(
        writes.iter().all(|(_, request)| *request == writes[0].1),
        "{writes:?}"
    );
    assert_eq!(
        (fakes.applied(), reply.applied_index),
        (2, 2),
        "applied once"
    );
    client.set("next", "v").await.unwrap();
    assert_eq!(fakes.writes("next")[0].1.sequence, writes[0].1.sequence + 1);
}

/// A paused leader answers nothing while its followers still name it. The client finds out by the
/// silence of the connection, and loses one attempt to it, not its whole time.
#[tokio::test]
async fn a_frozen_leader_costs_one_attempt() {
    let follow = Role::Follow(Some(1));
    let fakes = Fakes::start(&[Role::Lead, follow, follow]).await;
    let mut client = client(&fakes);
    client.set("warm", "up").await.unwrap();
    fakes.freeze(1);
    let started = Instant::now();
    let takes_over = tokio::spawn({
        let fakes = fakes.clone();
        async move {
            // The followers go on naming the frozen leader for a while after the first attempt.
            while fakes.writes("k").len() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fakes.set_role(2, Role::Lead);
            fakes.set_role(3, Role::Follow(Some(2)));
        }
    });
    client.set("k", "v").await.unwrap();
    takes_over.await.unwrap();
    let elapsed = started.elapsed();
    assert!(
        elapsed < Duration::from_secs(3),
        "a second attempt went to it: {elapsed:?}"
    );
}

/// A leader that holds a write back, as a new one does while an older lease may be alive, is not
/// taken for a hung one: the client waits for it and sends nothing twice.
#[tokio::test]
async fn a_patient_leader_is_waited_for() {
    let fakes = Fakes::start(&[Role::Lead, Role::Follow(Some(1))]).await;
    let mut client = client(&fakes);
    client.set("warm", "up").await.unwrap();
    fakes.set_role(1, Role::HoldBack(Duration::from_millis(2500)));
    client.set("k", "v").await.unwrap();
    assert_eq!(fakes.writes("k").len(), 1, "{:?}", fakes.seen());
}

/// Nobody leads, so nothing was sent anywhere it could have taken effect: that is what is said,
/// with each node's answer, and on time.
#[tokio::test]
async fn no_leader_means_nothing_was_done() {
    let fakes = Fakes::start(&[Role::Follow(None), Role::Follow(None)]).await;
    let mut client = Client::new(&fakes.members()).with_timeout(Duration::from_millis(400));
    let started = Instant::now();
    let error = client.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
    assert_eq!(error.exit_code(), 30);
    let text = error.to_string();
    assert!(text.contains("node 1") && text.contains("node 2"), "{text}");
    assert!(text.contains("knows none"), "{text}");
    let elapsed = started.elapsed();
    assert!(
        elapsed >= Duration::from_millis(400) && elapsed < Duration::from_secs(2),
        "{elapsed:?}"
    );
    let asked = fakes.writes("k").len();
    assert!(
        (3..=200).contains(&asked),
        "it backs off, and goes on asking: {asked}"
    );
}

/// A node takes the write and hangs. The client can't know, and must not call it a failure.
#[tokio::test]
async fn a_write_without_an_answer_has_an_unknown_outcome() {
    let fakes = Fakes::start(&[Role::ApplyThenHang]).await;
    let mut client = Client::new(&fakes.members()).with_timeout(Duration::from_secs(2));
    let error = client.set("k", "v").await.unwrap_err();
    assert!(
        matches!(error, ClientError::OutcomeUnknown { .. }),
        "{error:?}"
    );
    assert_eq!(error.exit_code(), 31);
    assert_eq!(
        fakes.value("k").as_deref(),
        Some("v"),
        "it had happened indeed"
    );
}

/// A read that gets no answer has changed nothing, whatever became of it.
#[tokio::test]
async fn a_read_is_never_unknown() {
    let fakes = Fakes::start(&[Role::Hang]).await;
    let mut client = Client::new(&fakes.members()).with_timeout(Duration::from_millis(300));
    let error = client.get("k", Read::Lease).await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
}

/// Hanging already while the session is opened means that the write was never sent.
#[tokio::test]
async fn a_session_that_never_opened_leaves_no_doubt() {
    let fakes = Fakes::start(&[Role::Hang]).await;
    let mut client = Client::new(&fakes.members()).with_timeout(Duration::from_millis(300));
    let error = client.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
    assert_eq!(fakes.writes("k"), []);
}

/// A port where nobody listens was never sent anything either, and the next node is asked at once.
#[tokio::test]
async fn a_dead_node_costs_nothing_and_leaves_no_doubt() {
    let fakes = Fakes::start(&[Role::Lead]).await;
    let mut members = fakes.members();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    members.push(Member { id: 2, address });
    let mut took = Vec::new();
    for _ in 0..4 {
        let mut client = Client::new(&members).with_timeout(LONG);
        let started = Instant::now();
        client.set("k", "v").await.unwrap();
        took.push(started.elapsed());
    }
    // A machine that is busy with other things slows down some.
    let least = took.iter().min().copied().unwrap_or_default();
    assert!(least < Duration::from_millis(500), "{took:?}");
    let mut client = Client::new(&members[1..]).with_timeout(Duration::from_secs(2));
    let error = client.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

/// An idle client's session may expire. Its next write was never sent before, so it goes out under
/// a new session without anybody noticing.
#[tokio::test]
async fn an_expired_session_is_replaced_where_there_is_no_doubt() {
    let fakes = Fakes::start(&[Role::Lead]).await;
    let mut client = client(&fakes);
    client.set("warm", "up").await.unwrap();
    fakes.set_role(1, Role::Refuse(ErrorReason::SessionExpired));
    let recovers = tokio::spawn({
        let fakes = fakes.clone();
        async move {
            while fakes.writes("k").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fakes.set_role(1, Role::Lead);
        }
    });
    client.set("k", "v").await.unwrap();
    recovers.await.unwrap();
    let writes = fakes.writes("k");
    let (first, last) = (writes.first().unwrap().1, writes.last().unwrap().1);
    assert_ne!(first.client_id, last.client_id);
    assert_eq!(fakes.applied(), 2);
}

/// Refused for good after an attempt that may have arrived: nobody can tell any more what became of
/// that one. With a new session the write could happen twice.
#[tokio::test]
async fn a_final_refusal_after_doubt_is_an_unknown_outcome() {
    for reason in [ErrorReason::SessionExpired, ErrorReason::Invalid] {
        let fakes = Fakes::start(&[Role::ApplyThenRefuse(reason)]).await;
        let error = client(&fakes).set("k", "v").await.unwrap_err();
        assert!(
            matches!(error, ClientError::OutcomeUnknown { .. }),
            "{reason:?}: {error:?}"
        );
        assert_eq!((error.exit_code(), fakes.applied()), (31, 1));
    }
}

/// A stranger at the address of one node keeps nobody from the others, even where they name that
/// node as leader; only when all are strangers, or that node alone is meant, is it an error.
#[tokio::test]
async fn a_stranger_is_taken_for_a_dead_node() {
    let fakes = Fakes::start(&[Role::Stranger, Role::Lead, Role::Follow(Some(1))]).await;
    for _ in 0..4 {
        let mut client = client(&fakes);
        client.set("k", "v").await.unwrap();
        client.forget_leader();
        assert_eq!(client.get("k", Read::Lease).await.unwrap().value, "v");
    }
    fakes.set_role(2, Role::Stranger);
    let mut hurried = Client::new(&fakes.members()).with_timeout(Duration::from_millis(300));
    let error = hurried.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error:?}");
    fakes.set_role(3, Role::Stranger);
    let error = client(&fakes).set("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), ("denied", 20));
    fakes.set_role(2, Role::Lead);
    let error = client(&fakes).get("k", Read::Stale(Some(1))).await;
    assert_eq!(error.unwrap_err().kind(), "denied");
}

/// What the node calls invalid is not sent again.
#[tokio::test]
async fn invalid_is_final() {
    let fakes = Fakes::start(&[Role::Refuse(ErrorReason::Invalid)]).await;
    let error = client(&fakes).set("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), ("invalid", 2));
    assert_eq!(fakes.writes("k").len(), 1);
}

/// What no node would take is not sent at all.
#[tokio::test]
async fn limits_are_checked_before_sending() {
    let fakes = Fakes::start(&[Role::Lead]).await;
    let mut client = client(&fakes);
    let large = "v".repeat(raftkv::VALUE_BYTES_MAX + 1);
    let error = client.set("k", &large).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("1048577 bytes"), "{error}");
    let error = client.get(&large, Read::Lease).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(fakes.seen(), []);
    client.set("k", &large[1..]).await.unwrap();
}

/// A stale read of one node asks that node and no other, whoever leads.
#[tokio::test]
async fn a_stale_read_asks_the_named_node_only() {
    let fakes = Fakes::start(&[Role::Lead, Role::Follow(Some(1)), Role::Hang]).await;
    client(&fakes).set("k", "v").await.unwrap();
    let mut client = Client::new(&fakes.members()).with_timeout(Duration::from_millis(300));
    assert_eq!(
        client.get("k", Read::Stale(Some(2))).await.unwrap().value,
        "v"
    );
    assert_eq!(fakes.seen().last().unwrap(), &(2, Seen::Read("k".into())));
    let error = client.get("k", Read::Stale(Some(3))).await.unwrap_err();
    assert!(
        matches!(error, ClientError::NodeSilent { node: 3, .. }),
        "{error:?}"
    );
    let error = client.get("k", Read::Stale(Some(9))).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there is no node 9; the nodes are 1, 2, 3"),
        "{error}"
    );
}

/// Where the hosts say that no node runs, nobody is waited for: the operation fails at once, with what
/// to do. Where they don't know, or one answers, it goes on to the end of its time.
#[tokio::test]
async fn a_cluster_that_is_down_is_not_waited_for() {
    let nobody = [1, 2].map(|id| Member {
        id,
        // Port 1 of this machine: nobody listens there.
        address: "127.0.0.1:1".into(),
    });
    let down = |certain: bool| Absence::new(move || std::future::ready(certain));
    let mut client = Client::new(&nobody)
        .with_timeout(LONG)
        .with_absence(down(true));
    let began = Instant::now();
    let error = client.set("k", "v").await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyRuns { .. }), "{error}");
    assert!(error.to_string().contains("raftctl up"), "{error}");
    assert!(began.elapsed() < LONG / 2);

    let short = Duration::from_millis(300);
    let mut client = Client::new(&nobody)
        .with_timeout(short)
        .with_absence(down(false));
    let error = client.get("k", Read::Lease).await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error}");

    let fakes = Fakes::start(&[Role::Follow(None)]).await;
    let mut client = Client::new(&fakes.members())
        .with_timeout(short)
        .with_absence(down(true));
    let error = client.get("k", Read::Lease).await.unwrap_err();
    assert!(matches!(error, ClientError::NoLeader { .. }), "{error}");
}

/// Accepts every connection; speaks HTTP/2 and takes a request, or not even that; then closes it.
async fn closing(takes_requests: bool) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if !takes_requests {
                continue;
            }
            tokio::spawn(async move {
                const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
                const DATA: u8 = 0;
                stream.write_all(&SETTINGS).await?;
                stream.read_exact(&mut [0; 24]).await?; // the preface
                let mut head = [0; 9];
                loop {
                    stream.read_exact(&mut head).await?;
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut body = vec![0; length as usize];
                    stream.read_exact(&mut body).await?;
                    if head[3] == DATA {
                        return std::io::Result::Ok(());
                    }
                }
            });
        }
    });
    address
}

/// A client that has a session, and is then led to a node at `address`, which is all that is left.
async fn set_at(address: String) -> ClientError {
    let fakes = Fakes::start(&[Role::Lead]).await;
    let mut members = fakes.members();
    members.push(Member { id: 2, address });
    let mut client = Client::new(&members).with_timeout(LONG);
    client.set("warm", "up").await.unwrap();
    fakes.set_role(1, Role::Follow(Some(2)));
    let mut client = client.with_timeout(Duration::from_secs(1));
    client.set("k", "v").await.unwrap_err()
}

/// ssh, and whatever else forwards connections, accepts them before it knows whether anybody is
/// there. What ends before the other side has spoken has delivered nothing, so nothing was done; what
/// ends after that may have been.
#[tokio::test]
async fn what_nobody_has_heard_was_not_done() {
    let nobody = set_at(closing(false).await).await;
    assert_eq!(
        (nobody.kind(), nobody.exit_code()),
        ("no_leader", 30),
        "{nobody}"
    );
    let somebody = set_at(closing(true).await).await;
    assert_eq!(
        (somebody.kind(), somebody.exit_code()),
        ("outcome_unknown", 31),
        "{somebody}"
    );
}

/// A client goes on when every node that it was given is gone: with an answer, or with a refusal, it heard of the
/// nodes that came after them.
#[tokio::test]
async fn a_client_outlives_every_node_that_it_knew() {
    let gone = Role::Refuse(ErrorReason::Stopping);
    let fakes = Fakes::start(&[Role::Lead, Role::Follow(None), Role::Lead, Role::Lead]).await;
    let given: Vec<Member> = fakes.members().into_iter().take(2).collect();
    let mut client = Client::new(&given).with_timeout(LONG);
    fakes.set_role(3, Role::Follow(None));
    fakes.set_role(4, Role::Follow(None));
    client.get("k", Read::Lease).await.unwrap();
    fakes.tell_members(7, &[2, 3]);
    client.get("k", Read::Lease).await.unwrap();
    assert_eq!(client.route.configuration(), 7);
    for (lead, left) in [(3, 1), (3, 2)] {
        fakes.set_role(lead, Role::Lead);
        fakes.set_role(left, gone);
        client.get("k", Read::Lease).await.unwrap();
        assert_eq!(client.leader(), Some(lead));
    }
    // Whom a refusal tells of.
    fakes.tell_members(9, &[4]);
    fakes.set_role(4, Role::Lead);
    fakes.set_role(3, Role::Refuse(ErrorReason::NotReady));
    client.get("k", Read::Lease).await.unwrap();
    assert_eq!(client.leader(), Some(4));
}
