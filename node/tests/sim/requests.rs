//! How clients and nodes talk in the world. Clients reach every running node, also one that is
//! cut off from its peers: that is the worst case for a lease.

use crate::client::Told;
use crate::world::{Event, World};
use checker::{Kind, Outcome};
use raft_node::engine::{Answer, Consistency, Input, LeaseRead, Query, ReadPath};
use raft_node::raft::{Index, Micros, NodeId};

const MS: Micros = 1_000;

impl World {
    pub(crate) fn on_think(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        if client.stopped || client.call.is_some() {
            return;
        }
        let value_bytes = self.plan.value_bytes;
        client.begin_any(&self.keys, value_bytes, now, &mut self.client_random);
        let believed = client.believed;
        self.attempt(number, believed);
    }

    /// Idle clients ask this node now, so that what befalls it next finds reads on their way.
    pub(crate) fn begin_reads(&mut self, id: NodeId) {
        let now = self.now;
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            let trusts = client.plan.is_some_and(|plan| plan.quorum_percent < 100);
            if client.call.is_some() || client.stopped || !trusts {
                continue;
            }
            let key = self.keys[number % self.keys.len()].clone();
            client.begin(Kind::Get, key, Consistency::Lease, false, now);
            self.attempt(number, id);
        }
    }

    /// Sends the call in hand to a node.
    pub(crate) fn attempt(&mut self, number: usize, target: NodeId) {
        let target = match self.clients[number].plan {
            Some(_) => self.process_for_client(number, target),
            None => target, // A story means just this process.
        };
        let client = &mut self.clients[number];
        let attempt = client.attempt(target);
        let again = client
            .call
            .as_ref()
            .is_some_and(|call| call.maybe && call.kind != Kind::Get);
        self.coverage.count("writes sent again", u64::from(again));
        let way_us = self.client_random.within(50..=500);
        let request = Event::Request {
            client: number,
            attempt,
        };
        self.schedule(way_us, request);
        if let Some(plan) = self.clients[number].plan {
            let impatient = Event::Impatient {
                client: number,
                attempt,
            };
            self.schedule(plan.patience_us, impatient);
        }
    }

    pub(crate) fn on_request(&mut self, number: usize, attempt: u64) {
        let client = &mut self.clients[number];
        let token = client.token(attempt);
        let call = client
            .call
            .as_mut()
            .filter(|call| call.attempt == attempt && !call.arrived);
        let Some(call) = call else {
            return; // Taken in already, or given up before it came to anything.
        };
        let (id, request) = (call.target, call.request());
        let lease = call.kind == Kind::Get && call.consistency == Consistency::Lease;
        self.trace
            .say(self.now, || format!("c{number} -> n{id} {request:?}"));
        let Some(running) = &self.machines[id as usize - 1].running else {
            return self.answer(number, attempt, Told::Refused(None)); // No connection.
        };
        if running.pause.is_some() {
            return; // It waits in the socket; the end of the pause takes it out.
        }
        call.arrived = true;
        if lease {
            return self.read_under_lease(number, attempt, None);
        }
        self.hand(id, Input::Request { token, request });
    }

    /// What waited in the sockets of a paused node.
    pub(crate) fn resume_requests(&mut self, id: NodeId) {
        for number in 0..self.clients.len() {
            let call = self.clients[number].call.as_ref();
            let waits = call.filter(|call| call.target == id && !call.arrived);
            if let Some(attempt) = waits.map(|call| call.attempt) {
                // An attempt still on its way arrives a little early.
                self.on_request(number, attempt);
            }
        }
    }

    /// The reads on their way to a node that is about to be paused: the value is taken now, the
    /// clock is read when the node goes on.
    pub(crate) fn read_in_flight(&mut self, id: NodeId, until_us: Micros) {
        for number in 0..self.clients.len() {
            let Some(call) = &mut self.clients[number].call else {
                continue;
            };
            let lease = call.kind == Kind::Get && call.consistency == Consistency::Lease;
            if lease && call.target == id && !call.arrived && call.attempt > 0 {
                call.arrived = true;
                let attempt = call.attempt;
                self.coverage.count("reads caught by a pause", 1);
                self.read_under_lease(number, attempt, Some(until_us));
            }
        }
    }

    /// A thread of the node takes the value, is perhaps held up, and then reads the clock.
    pub(crate) fn read_under_lease(
        &mut self,
        number: usize,
        attempt: u64,
        until_us: Option<Micros>,
    ) {
        let now = self.now;
        let clock_us = until_us.unwrap_or_else(|| now + self.reader_delay_us());
        let client = &self.clients[number];
        let token = client.token(attempt);
        let Some(call) = client.call.as_ref().filter(|call| call.attempt == attempt) else {
            return;
        };
        let machine = &self.machines[call.target as usize - 1];
        let Some(running) = &machine.running else {
            return;
        };
        let query = Query::Get {
            key: call.key.as_str().into(),
        };
        let read = running
            .view
            .lease_read(&query, || machine.clock.at(clock_us));
        let (id, request) = (call.target, call.request());
        self.trace
            .say(now, || format!("n{id} reads for c{number}: {read:?}"));
        let told = match read {
            LeaseRead::Done {
                answer: Answer::Value(value),
                applied_index,
                path,
            } => {
                let what = match path {
                    ReadPath::Inherited => "inherited reads",
                    _ => "lease reads",
                };
                self.coverage.count(what, 1);
                let value = value.map(|value| value.to_string());
                Told::Done(Outcome::Read(value), applied_index)
            }
            LeaseRead::Done { answer, .. } => panic!("a get was answered with {answer:?}"),
            LeaseRead::NotLeader { leader } => Told::Refused(leader),
            LeaseRead::Wait => {
                self.coverage.count("reads that waited", 1);
                self.hand(id, Input::Request { token, request });
                return;
            }
        };
        self.answer_after(number, attempt, told, clock_us - now);
    }

    fn reader_delay_us(&mut self) -> Micros {
        match self.client_random.below(100) {
            0..90 => self.client_random.within(1..=20),
            90..98 => self.client_random.within(20..=5 * MS),
            _ => self.client_random.within(5 * MS..=2_500 * MS),
        }
    }

    pub(crate) fn answer(&mut self, client: usize, attempt: u64, told: Told) {
        self.answer_after(client, attempt, told, 0);
    }

    fn answer_after(&mut self, client: usize, attempt: u64, told: Told, after_us: Micros) {
        let way_us = after_us + self.client_random.within(50..=500);
        let answer = Event::Answer {
            client,
            attempt,
            told,
        };
        self.schedule(way_us, answer);
    }

    /// The calls that were at a node that died: mostly the connection says so.
    pub(crate) fn forget_calls(&mut self, id: NodeId) {
        for number in 0..self.clients.len() {
            let call = self.clients[number].call.as_ref();
            let lost = call.filter(|call| call.target == id && call.arrived);
            if let Some(attempt) = lost.map(|call| call.attempt) {
                self.answer(number, attempt, Told::Unknown);
            }
        }
    }

    pub(crate) fn on_answer(&mut self, number: usize, attempt: u64, told: Told) {
        let nodes = self.plan.nodes as u64;
        let guess = self.client_random.within(1..=nodes);
        let client = &mut self.clients[number];
        let Some(call) = client.call.as_mut().filter(|call| call.attempt == attempt) else {
            return; // Too late: the client asks elsewhere.
        };
        self.trace
            .say(self.now, || format!("c{number} is told {told:?}"));
        match told {
            Told::Done(outcome, index) => return self.finish_call(number, outcome, index),
            Told::Expired => {
                self.coverage.count("sessions expired", 1);
                return self.finish_call(number, Outcome::Unknown, 0);
            }
            Told::Refused(leader) => client.believed = leader.unwrap_or(guess),
            Told::Unknown => {
                call.maybe = true;
                client.believed = guess;
            }
        }
        self.try_again(number, attempt);
    }

    pub(crate) fn on_impatient(&mut self, number: usize, attempt: u64) {
        let guess = self.client_random.within(1..=self.plan.nodes as u64);
        let client = &mut self.clients[number];
        let token = client.token(attempt);
        let Some(call) = client.call.as_mut().filter(|call| call.attempt == attempt) else {
            return;
        };
        call.maybe = true; // It may still be on its way.
        let target = call.target;
        client.believed = guess;
        self.hand(target, Input::Abandoned { token });
        self.try_again(number, attempt);
    }

    fn try_again(&mut self, number: usize, attempt: u64) {
        let client = &mut self.clients[number];
        let (now, planned) = (self.now, client.plan.is_some());
        let Some(call) = &mut client.call else {
            return;
        };
        if !call.may_resend() || now >= call.give_up_us || !planned {
            let outcome = call.outcome_without_answer();
            return self.finish_call(number, outcome, 0);
        }
        call.arrived = true; // Nobody waits for this attempt any more.
        let back_off_us = self.client_random.within(5 * MS..=100 * MS);
        let again = Event::Again {
            client: number,
            attempt,
        };
        self.schedule(back_off_us, again);
    }

    pub(crate) fn on_again(&mut self, number: usize, attempt: u64) {
        let client = &self.clients[number];
        let current = client
            .call
            .as_ref()
            .is_some_and(|call| call.attempt == attempt);
        if current {
            let believed = client.believed;
            self.attempt(number, believed);
        }
    }

    fn finish_call(&mut self, number: usize, outcome: Outcome, index: Index) {
        let now = self.now;
        if outcome == Outcome::Unknown {
            self.coverage.count("unknown outcomes", 1);
        }
        let client = &mut self.clients[number];
        let lease = client
            .call
            .as_ref()
            .is_some_and(|c| c.consistency == Consistency::Lease);
        let Some(operation) = client.finish(outcome, index, now) else {
            return;
        };
        if operation.call_us >= self.plan.calm_us && operation.outcome.is_answer() {
            match operation.kind {
                Kind::Get => self.calm_answers.1 += u64::from(lease),
                _ => self.calm_answers.0 += 1,
            }
        }
        let pushed = self.history.push(operation);
        pushed.expect("the client writes down what can be");
        if let Some(plan) = self.clients[number].plan {
            let think_us = self.client_random.within(1..=plan.think_us);
            self.schedule(think_us, Event::Think { client: number });
        }
    }

    /// At the end of a run: what is not answered yet may still take effect.
    pub(crate) fn finish_open_call(&mut self, number: usize) {
        if self.clients[number].call.is_some() {
            self.clients[number].stopped = true;
            self.finish_call(number, Outcome::Unknown, 0);
        }
    }
}
