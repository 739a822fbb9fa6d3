//! Makes a failing plan smaller: without faults, clients and disturbances that it does not take.

use crate::plan::Plan;
use crate::runner::run;
use crate::trace::Trace;

/// Runs that may be spent.
const RUNS_MAX: u32 = 500;

/// The smallest plan found that still breaks the same rule.
pub fn shrink(plan: Plan, rule: &'static str) -> Plan {
    let mut shrinker = Shrinker {
        plan,
        rule,
        runs: 0,
    };
    shrinker.drop_faults();
    shrinker.drop_clients();
    shrinker.simplify();
    shrinker.drop_faults();
    shrinker.plan
}

struct Shrinker {
    plan: Plan,
    rule: &'static str,
    runs: u32,
}

impl Shrinker {
    /// Keeps the changed plan if it fails as before.
    fn keep(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        if self.runs == RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let mut plan = self.plan.clone();
        change(&mut plan);
        let same = run(&plan, Trace::Off)
            .failure
            .is_some_and(|failure| failure.rule == self.rule);
        if same {
            self.plan = plan;
        }
        same
    }

    /// Halves first, then smaller and smaller pieces (Zeller's ddmin, without its complements).
    fn drop_faults(&mut self) {
        let mut size = self.plan.faults.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.plan.faults.len() {
                let end = (at + size).min(self.plan.faults.len());
                let dropped = self.keep(|plan| drop(plan.faults.drain(at..end)));
                at += if dropped { 0 } else { size };
            }
            size /= 2;
        }
    }

    fn drop_clients(&mut self) {
        let mut at = 0;
        while at < self.plan.clients.len() && self.plan.clients.len() > 1 {
            let dropped = self.keep(|plan| {
                plan.clients.remove(at);
            });
            at += usize::from(!dropped);
        }
    }

    fn simplify(&mut self) {
        self.keep(|plan| plan.network.slow_percent = 0);
        self.keep(|plan| plan.network.loss_percent = 0);
        self.keep(|plan| plan.network.duplicate_percent = 0);
        self.keep(|plan| plan.network.delay_us = 500..=500);
        self.keep(|plan| plan.flush_us = 500..=500);
        self.keep(|plan| plan.snapshot_log_bytes = None);
        self.keep(|plan| plan.keys = 1);
        for at in 0..self.plan.clocks.len() {
            self.keep(|plan| plan.clocks[at].1.clear());
        }
    }
}
