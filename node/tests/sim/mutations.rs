//! Breaks one rule of the core at a time and shows that somebody notices: the story that is about
//! the rule, and mostly also luck.

use crate::oracle::Failure;
use crate::plan::{Plan, Suite};
use crate::runner::{replayed_seed, run, run_seeds, tell};
use crate::stories::{self, ASTRAY, Story};
use crate::trace::Trace;
use raft_node::raft::Mutation;

/// The story that is about each rule. A new mutation does not compile before it has one.
macro_rules! stories_about {
    ($($mutation:ident => $story:path;)*) => {
        fn story_about(mutation: Mutation) -> Story {
            match mutation {
                $(Mutation::$mutation => $story,)*
            }
        }

        const ALL: &[Mutation] = &[$(Mutation::$mutation),*];
    };
}

stories_about! {
    NoWait => stories::leases::isolated_leader;
    NoDeferral => stories::leases::isolated_leader;
    NoLimboGuard => stories::reads::key_in_limbo;
    NoDriftFactor => stories::leases::slow_leader_clock;
    LeaseFromAck => stories::leases::late_acknowledgements;
    PromiseForgottenOnRestart => stories::leases::restarted_followers;
    FormerLeaseForgotten => stories::leases::shorter_lease_after_a_crash;
    OneSlotPromise => stories::leases::two_old_leaders;
    LateAckCredited => stories::leases::late_acknowledgements;
    ReadBeforeOwnCommit => stories::reads::read_before_own_commit;
    VoteKeepsLease => stories::leases::vote_of_the_leader;
    ResendAppliedTwice => stories::logs::resend_across_a_change_of_leader;
    AckBeforeFsync => stories::logs::all_die_after_the_acknowledgement;
    CommitOfOlderTerm => stories::logs::figure_8;
    TransferKeepsLease => stories::transfers::stale_read_after_transfer;
    StalledDiskKeepsLease => stories::leases::stalled_disk;
    DamagedNodeVotes => stories::logs::damaged_voter;
    PromiseOnlyOnAccept => stories::promises::rejected_append;
    InheritedReadWithoutLease => stories::reads::nobody_acknowledges_the_new_leader;
    QuorumReadOfMinority => stories::quorum::read_of_a_minority;
    QuorumReadByEarlierAck => stories::quorum::read_and_earlier_heartbeats;
    OwnVoteBeforeFsync => stories::votes::candidate_that_dies;
    VoteBeforeFsync => stories::votes::voter_that_dies;
    PersistedOfAnyTerm => stories::logs::flushed_but_replaced;
    TransferRegainsLease => stories::transfers::lease_given_up_for_good;
    OwnAcknowledgementDatedNow => stories::leases::disk_taken_away;
    InstallKeepsConflict => stories::snapshots::conflict_at_the_last_entry;
    PurgedLogSendsNothing => stories::snapshots::log_cut_to_its_end;
    BaseTermForgotten => stories::snapshots::log_cut_to_its_end;
    LostSnapshotBlocksNext => stories::snapshots::no_room_for_a_snapshot;
    CutBeforeDurable => stories::snapshots::no_room_for_a_snapshot;
    CopyBeforeCommit => stories::switch::replaced_while_it_is_copied;
    NextSnapshotDuringTheSwitch => stories::switch::received_during_the_switch;
    InstalledBeforeDurable => stories::snapshots::no_room_for_what_is_received;
    OlderSnapshotInstalled => stories::snapshots::pieces_that_come_late;
    CutForgetsItsBase => stories::snapshots::restart_behind_a_cut;
    ChainBeginsAnew => stories::snapshots::restart_behind_a_cut;
    InstallReportedOnTransfer => stories::snapshots::two_in_a_row;
    SecondSnapshotBesideTheFirst => stories::snapshots::second_while_the_first_waits;
    InstallStartsOver => stories::snapshots::connection_that_breaks;
    PiecesIgnoreWindow => stories::snapshots::slow_link;
    InstallPromisesNothing => stories::snapshots::promise_by_pieces;
    SnapshotHealsAnyDamage => stories::snapshots::damage_beyond_the_snapshot;
    SnapshotWithoutSessions => stories::snapshots::resend_after_an_install;
    FuzzySnapshot => stories::snapshots::writes_during_a_snapshot;
    AcceptedDamageStandsAtOnce => stories::logs::accepted_damage;
    StateGoesAstray => stories::snapshots::state_goes_astray;
    FormatRaisedUnasked => stories::formats::older_version_among_the_voters;
    MembersBeforeOwnCommit => stories::members::change_before_own_commit;
    ChangeOnTopOfChange => stories::members::change_on_change;
    NoJointConsensus => stories::members::new_voters_alone;
    MembersFromCommit => stories::members::way_back;
    MembersStayWhenCut => stories::members::members_that_are_cut;
    LearnerCounts => stories::members::learners_alone;
    JointByNewAlone => stories::members::new_voters_alone;
    VoterBeforeCaughtUp => stories::members::voter_that_lags;
    VoterBeforeLease => stories::members::voter_that_is_silent;
    LeaderRemovesItself => stories::members::leader_that_leaves;
    IdsUsedAgain => stories::members::id_used_again;
    MembersOfAnyBase => stories::members::two_operators;
    AnyLeaderGoesBack => stories::members::leader_that_would_go_back;
    SnapshotWithoutMembers => stories::members::members_in_a_snapshot;
    StrangersGetNoVote => stories::members::vote_for_a_stranger;
    BrokenConnectionProves => stories::proofs::broken_connection;
    StartElsewhereProves => stories::proofs::start_elsewhere;
    NamesBelievedElsewhere => stories::proofs::restored_copy;
    NamesNotOnDisk => stories::proofs::name_on_disk;
    NamesOnDiskLate => stories::proofs::name_on_disk_in_time;
    EndWaivesNode => stories::proofs::proof_of_another_run;
    EndWaivesUnknown => stories::proofs::proof_for_nobody;
}

/// # Each broken rule is caught by its story, by a rule of the oracle and not because the story
/// went astray.
#[test]
fn stories_catch_each_broken_rule() {
    if replayed_seed().is_some() {
        return;
    }
    let mut missed = Vec::new();
    for mutation in ALL {
        match stories::tell(story_about(*mutation), Some(*mutation)) {
            Err(Failure { rule, detail }) if rule != ASTRAY => {
                tell(&format!("{mutation:?}: {rule}: {detail}"));
            }
            other => missed.push((mutation, other)),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// How many seeds luck has for each broken rule.
const SEEDS: u64 = 4_000;
/// What luck alone can't be asked for: several unlikely things in a row. The stories are.
const LEFT_TO_STORIES: &[Mutation] = &[
    Mutation::AnyLeaderGoesBack,
    Mutation::ChangeOnTopOfChange,
    Mutation::IdsUsedAgain,
    Mutation::LeaderRemovesItself,
    Mutation::MembersOfAnyBase,
    Mutation::StrangersGetNoVote,
    Mutation::VoterBeforeCaughtUp,
    Mutation::VoterBeforeLease,
    Mutation::FormatRaisedUnasked,
    Mutation::StateGoesAstray,
    Mutation::AcceptedDamageStandsAtOnce,
    Mutation::CommitOfOlderTerm,
    Mutation::CopyBeforeCommit,
    Mutation::DamagedNodeVotes,
    Mutation::FormerLeaseForgotten,
    Mutation::InstallKeepsConflict,
    Mutation::InstallPromisesNothing,
    Mutation::InstallStartsOver,
    Mutation::LostSnapshotBlocksNext,
    Mutation::NextSnapshotDuringTheSwitch,
    Mutation::OneSlotPromise,
    Mutation::OwnVoteBeforeFsync,
    Mutation::PersistedOfAnyTerm,
    Mutation::PiecesIgnoreWindow,
    Mutation::PromiseOnlyOnAccept,
    Mutation::PurgedLogSendsNothing,
    Mutation::QuorumReadByEarlierAck,
    Mutation::QuorumReadOfMinority,
    Mutation::SecondSnapshotBesideTheFirst,
    Mutation::SnapshotHealsAnyDamage,
    Mutation::VoteBeforeFsync,
    Mutation::OwnAcknowledgementDatedNow,
    Mutation::VoteKeepsLease,
    Mutation::EndWaivesNode,
    Mutation::EndWaivesUnknown,
    Mutation::NamesBelievedElsewhere,
    Mutation::NamesNotOnDisk,
    Mutation::NamesOnDiskLate,
    Mutation::StartElsewhereProves,
];

/// Only where members change do these break anything.
const OF_MEMBERS: &[Mutation] = &[
    Mutation::JointByNewAlone,
    Mutation::LearnerCounts,
    Mutation::MembersBeforeOwnCommit,
    Mutation::MembersFromCommit,
    Mutation::MembersStayWhenCut,
    Mutation::NoJointConsensus,
    Mutation::SnapshotWithoutMembers,
];

/// # Most broken rules are also caught by random seeds, so the seeds look where it matters.
#[test]
fn seeds_catch_most_broken_rules() {
    if replayed_seed().is_some() {
        return;
    }
    let mut missed = Vec::new();
    for mutation in ALL
        .iter()
        .filter(|mutation| !LEFT_TO_STORIES.contains(mutation))
    {
        let run_one = |seed| {
            let plan = Plan {
                mutation: Some(*mutation),
                ..Plan::from_seed(seed)
            };
            run(&plan, Trace::Off)
        };
        let suites = match OF_MEMBERS.contains(mutation) {
            true => [Suite::Members].as_slice(),
            false => &[Suite::Streams, Suite::Datagrams],
        };
        let mut suites = suites.iter().map(|suite| suite.first_seed());
        let found = suites.find_map(|first| run_seeds(first, first + SEEDS, run_one).failed);
        match found {
            Some((seed, failure)) => tell(&format!("{mutation:?}: seed {seed}: {}", failure.rule)),
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// # No flag of the node reaches a mutation: outside the code that obeys them nobody names one.
#[test]
fn no_flag_reaches_a_mutation() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let obey = ["raft", "engine", "kv"];
    let mut folders = vec![std::path::PathBuf::from(source)];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            if path.is_dir() && !obey.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && name.ends_with(".rs") {
                read += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.replace("mutation: None", "");
                assert!(
                    !text.to_lowercase().contains("mutation"),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(read > 5, "only {read} files found");
}
