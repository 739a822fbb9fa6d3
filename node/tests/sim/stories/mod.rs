//! Targeted faults: one small story for each way in which leases and logs are known to go wrong.
//! Luck rarely meets the worst of them; here they are met on purpose.
//!
//! A story is told twice: as it is, when it must hold, and with one rule of the core broken, when
//! it must not. A story that does not come to its point fails too, so none can hold by accident.

pub mod damage;
pub mod elections;
pub mod formats;
pub mod leases;
pub mod logs;
pub mod members;
pub mod promises;
pub mod proofs;
pub mod quorum;
pub mod reads;
pub mod snapshots;
pub mod switch;
pub mod transfers;
pub mod votes;

use crate::client::Client;
use crate::clock::{Bend, Clock};
use crate::oracle::{Checked, Failure, broken};
use crate::plan::Plan;
use crate::runner::caught;
use crate::trace::Trace;
use crate::world::World;
use checker::{Kind, Outcome};
use raft_node::engine::{Answer, Consistency, LeaseRead, Query, ReadPath};
use raft_node::raft::{Micros, Mutation, NodeId};

/// A millisecond.
pub const MS: Micros = 1_000;
/// The story did not come to its point.
pub const ASTRAY: &str = "the story goes as told";
/// The only key that most stories need.
pub const KEY: &str = "k0";

/// Tells itself in the world that it makes; the mutation goes into the world's plan.
pub type Story = fn(Option<Mutation>) -> Checked;

/// Tells a story; a panic of the code under test is a failure like others.
pub fn tell(story: Story, mutation: Option<Mutation>) -> Result<(), Failure> {
    caught(|| story(mutation))
}

/// A quiet world whose elections are quick: well within a lease. With a leader that has a lease
/// and has set the key to "old".
pub fn world_with_leader(
    plan: Plan,
    mutation: Option<Mutation>,
) -> Result<(World, NodeId), Failure> {
    let plan = Plan { mutation, ..plan };
    let mut world = World::new(plan, Trace::Off);
    world.until("a first leader", 10_000, |world| {
        world.lease_holder().is_some()
    })?;
    let leader = world.lease_holder().expect("just waited for");
    world.set(leader, "old")?;
    world.run_ms(20)?;
    Ok((world, leader))
}

/// The plan of most stories.
pub fn three_nodes() -> Plan {
    Plan {
        election_timeout_us: 300 * MS..=400 * MS,
        ..Plan::quiet(3)
    }
}

/// Fails the story unless this holds.
pub fn expect(holds: bool, what: &str) -> Checked {
    match holds {
        true => Ok(()),
        false => broken(ASTRAY, format!("expected: {what}")),
    }
}

impl World {
    /// Lets time pass.
    pub fn run_ms(&mut self, ms: u64) -> Checked {
        self.run_to(self.now + ms * MS)
    }

    /// Lets time pass until this holds.
    pub fn until(&mut self, what: &str, max_ms: u64, holds: impl Fn(&World) -> bool) -> Checked {
        let deadline_us = self.now + max_ms * MS;
        while !holds(self) {
            expect(self.now < deadline_us, what)?;
            self.run_to(self.now + 100)?;
        }
        Ok(())
    }

    /// Lets time pass until this holds, as the rule says that it must.
    pub fn due(
        &mut self,
        rule: &'static str,
        max_ms: u64,
        holds: impl Fn(&World) -> bool,
    ) -> Checked {
        let waited = self.until(rule, max_ms, holds);
        waited.map_err(|failure| match failure.rule {
            ASTRAY => Failure { rule, ..failure },
            _ => failure,
        })
    }

    /// The nodes but this one.
    pub fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.ids().filter(|other| *other != id).collect()
    }

    /// Nothing passes between this node and its peers; clients still reach it.
    pub fn isolate(&mut self, id: NodeId) {
        for other in self.others(id) {
            self.network.cut(id, other);
            self.network.cut(other, id);
        }
    }

    /// A new client asks this node, once, and waits.
    pub fn ask(&mut self, id: NodeId, kind: Kind) -> usize {
        self.ask_with(id, kind, Consistency::Lease)
    }

    /// The same, for reads of any kind.
    pub fn ask_with(&mut self, id: NodeId, kind: Kind, consistency: Consistency) -> usize {
        let number = self.clients.len();
        let mut client = Client::new(number as u64, None, id);
        client.begin(kind, KEY.into(), consistency, true, self.now);
        self.clients.push(client);
        self.attempt(number, id);
        number
    }

    /// From now on the clock of this node stands almost still.
    pub fn stop_clock(&mut self, id: NodeId) {
        let true_us = self.now;
        let at_zero_us = self.machine(id).clock.at(true_us) - true_us;
        let still = Bend {
            true_us,
            rate_ppm: -999_000,
            jump_us: 0,
        };
        self.machine(id).clock = Clock::new(at_zero_us, &[still]);
    }

    /// What a client was told, if its call is over.
    pub fn outcome(&self, client: usize) -> Option<&Outcome> {
        self.clients[client].last.as_ref()
    }

    /// Sets the key through this node, and waits for the acknowledgement.
    pub fn set(&mut self, id: NodeId, value: &str) -> Checked {
        let value = value.into();
        let client = self.ask(id, Kind::Set { value });
        let written = Some(&Outcome::Written);
        self.until("an acknowledged set", 10_000, |world| {
            world.outcome(client) == written
        })
    }

    /// Reads the key at this node now, under its lease; a read that is answered goes into the
    /// history.
    pub fn read(&mut self, id: NodeId) -> Option<(Option<String>, ReadPath)> {
        let machine = &self.machines[id as usize - 1];
        let query = Query::Get { key: KEY.into() };
        let clock = || machine.clock.at(self.now);
        let read = machine.running.as_ref()?.view.lease_read(&query, clock);
        let LeaseRead::Done {
            answer: Answer::Value(value),
            path,
            ..
        } = read
        else {
            return None;
        };
        let value = value.map(|value| value.to_string());
        self.remember_read(value.clone(), self.now);
        Some((value, path))
    }

    /// Puts a read into the history that was called at `call_us` and is answered now.
    pub fn remember_read(&mut self, value: Option<String>, call_us: Micros) {
        let operation = checker::Operation {
            client: 0,
            call_us,
            return_us: Some(self.now),
            key: KEY.into(),
            kind: Kind::Get,
            outcome: Outcome::Read(value),
        };
        self.history.push(operation).expect("a read with an answer");
    }

    /// Waits until another node than this one leads.
    pub fn next_leader(&mut self, old: NodeId, max_ms: u64) -> Result<NodeId, Failure> {
        let other = |world: &World| world.leader().filter(|leader| *leader != old);
        self.until("a next leader", max_ms, |world| other(world).is_some())?;
        Ok(other(self).expect("just waited for"))
    }
}

/// One test a story, so that a failure names it.
macro_rules! told {
    ($($place:ident: $($story:ident)*;)*) => {
        $($(#[test]
        fn $story() {
            if crate::runner::replayed_seed().is_none() {
                tell($place::$story, None).unwrap_or_else(|failure| panic!("{failure}"));
            }
        })*)*
    };
}

told! {
    damage: any_byte_of_any_file changed_metadata changed_promises refilled_but_not_told last_newline;
    formats: older_version_among_the_voters version_taken_back;
    leases: isolated_leader restarted_followers shorter_lease_after_a_crash stopped_followers two_old_leaders late_acknowledgements
        slow_leader_clock narrow_wire vote_of_the_leader stalled_disk idle_stalled_disk disk_taken_away
        only_disk_taken_away only_disk_taken_away_and_a_crash paused_leader;
    reads: read_before_own_commit key_in_limbo inherited_read nobody_acknowledges_the_new_leader
        reader_held_up_between_value_and_clock;
    quorum: read_of_a_minority read_and_earlier_heartbeats;
    promises: rejected_append;
    proofs: killed_leader all_killed all_started_at_once two_runs_in_a_row broken_connection start_elsewhere
        name_on_disk name_on_disk_in_time restored_copy proof_of_another_run proof_for_nobody another_old_leader;
    transfers: stale_read_after_transfer handed_over_and_over late_word_to_take_over lease_given_up_for_good
        frozen_follower;
    elections: equal_timeouts returning_node;
    snapshots: empty_follower conflict_at_the_last_entry two_in_a_row second_while_the_first_waits log_cut_to_its_end
        no_room_for_a_snapshot no_room_for_what_is_received pieces_that_come_late restart_behind_a_cut
        connection_that_breaks slow_link promise_by_pieces damage_beyond_the_snapshot
        resend_after_an_install writes_during_a_snapshot leader_with_a_damaged_snapshot
        state_goes_astray;
    switch: crash_at_every_write_of_the_switch replaced_while_it_is_copied received_during_the_switch;
    members: grow_and_shrink leader_that_leaves learners_alone new_voters_alone change_on_change
        change_before_own_commit members_that_are_cut voter_that_lags voter_that_is_silent id_used_again
        two_operators leader_that_would_go_back members_in_a_snapshot vote_for_a_stranger back_from_the_dead
        way_back;
    votes: candidate_that_dies voter_that_dies;
    logs: all_die_after_the_acknowledgement resend_across_a_change_of_leader figure_8 damaged_voter
        flushed_but_replaced accepted_damage power_loss_leaves_holes;
}

/// # The judges see a reader that looks at the clock before it takes the value.
#[test]
fn the_order_of_a_read_matters() {
    let result = caught(leases::reader_that_looks_at_the_clock_first);
    let rule = result.expect_err("a stale read passes").rule;
    assert_eq!(rule, "histories are linearizable");
}

/// # The judges see what a clock far beyond the bound does to lease reads: at once, and also from
/// the clients' history alone.
#[test]
fn a_clock_beyond_the_bound_is_seen() {
    let seen = |leases| caught(|| leases::clock_beyond_the_bound(leases)).map_err(|f| f.rule);
    assert_eq!(seen(true), Err("no commit while an older lease lives"));
    assert_eq!(seen(false), Err("histories are linearizable"));
}
