//! From a history that is not linearizable to the few operations that show it.
//!
//! Leaving an operation out means: its outcome need not be explained any more, and if it is a
//! write, it may or may not take effect, as the others need it, from its call on until a write that
//! is not left out and was called after its return. So what is left over is a proof about the whole
//! history and not only about a part of it: leaving out the write whose value somebody read never
//! makes that read look impossible.

use crate::budget::{Exhausted, Meter};
use crate::counter_example::CounterExample;
use crate::history::{Kind, Operation};
use crate::problem::{Problem, Role};
use crate::search::{Answer, find_order};

/// What an attempt to explain some of the claims may cost, beside its share for the size of the
/// history. Where it takes more, the attempt is given up: a few claims are easy or need not be
/// left out.
const ATTEMPT_STEPS: u64 = 200_000;

/// What an attempt may cost in addition for every operation that takes part.
const ATTEMPT_STEPS_PER_OPERATION: u64 = 100;

/// Operations that together cannot be explained.
pub(crate) struct Failure {
    /// Positions in the list of operations.
    pub(crate) claims: Vec<usize>,
    /// What it took to find out, in steps.
    pub(crate) steps: u64,
}

/// Looks for a set of claims that cannot be explained among those around the place where a search
/// for the whole got stuck: first among few, then among twice as many.
///
/// `by_return` are the positions of all claims, in the order of their returns. `None` proves
/// nothing. This often succeeds where the whole is too hard.
pub(crate) fn find_near(
    operations: &[&Operation],
    by_return: &[usize],
    stuck_at: usize,
    meter: &mut Meter,
) -> Option<Vec<usize>> {
    let mut radius = 2;
    while radius < by_return.len() && !meter.is_exhausted() {
        let start = stuck_at.saturating_sub(radius);
        let end = (stuck_at + radius).min(by_return.len());
        let claims = &by_return[start..end];
        if attempt(operations, claims, 0, meter) == Answer::Unexplained {
            return Some(claims.to_vec());
        }
        radius *= 2;
    }
    None
}

/// Finds a smallest set of claims, in the sense that none of them can be left out.
///
/// `operations` are all of one key. Where the budget ends first, the set is the smallest so far.
pub(crate) fn shrink(
    operations: &[&Operation],
    failure: Failure,
    meter: &mut Meter,
) -> CounterExample {
    let mut claims = failure.claims;
    claims.retain(|&claim| operations[claim].outcome.is_answer());
    claims.sort_by_key(|&claim| (operations[claim].return_us, operations[claim].call_us));
    let mut shrinking = Shrinking {
        operations: operations.to_vec(),
        attempt_steps: failure.steps.saturating_mul(2),
        gave_up: false,
        meter,
    };
    let claims = shrinking.minimise(claims);
    let is_minimal = !shrinking.gave_up;
    CounterExample::new(operations, &claims, is_minimal)
}

struct Shrinking<'h, 'm, 'b> {
    operations: Vec<&'h Operation>,
    /// What an attempt may cost in addition, where finding the failure was expensive.
    attempt_steps: u64,
    /// Whether an attempt was given up since this was last cleared.
    gave_up: bool,
    meter: &'m mut Meter<'b>,
}

impl Shrinking<'_, '_, '_> {
    /// `claims` are sorted by return, and cannot be explained.
    fn minimise(&mut self, claims: Vec<usize>) -> Vec<usize> {
        let claims = self.cut_the_end(claims);
        let mut claims = self.grow_from_the_end(claims);
        // Ever smaller blocks, single operations at last.
        let mut block = claims.len().div_ceil(2);
        loop {
            self.gave_up = false;
            let before = claims.len();
            claims = self.leave_out_blocks(claims, block);
            if block > 1 {
                block = block.div_ceil(2);
                continue;
            }
            // What was needed among more claims is needed among fewer; only what was too hard may
            // have become easy.
            let is_worth_another = self.gave_up && claims.len() < before;
            if !is_worth_another || self.meter.is_exhausted() {
                return claims;
            }
        }
    }

    /// Finds the first answer that cannot be explained together with those before it, and forgets
    /// those after it.
    fn cut_the_end(&mut self, mut claims: Vec<usize>) -> Vec<usize> {
        let (mut explained, mut unexplained) = (0, claims.len());
        while unexplained - explained > 1 {
            let middle = explained.midpoint(unexplained);
            if self.is_unexplained(&claims[..middle]) {
                unexplained = middle;
            } else {
                explained = middle;
            }
        }
        claims.truncate(unexplained);
        claims
    }

    /// Most of a history has nothing to do with its violation: tries the last few claims, then
    /// twice as many, until they cannot be explained.
    fn grow_from_the_end(&mut self, mut claims: Vec<usize>) -> Vec<usize> {
        let mut count = 2;
        while count < claims.len() {
            let start = claims.len() - count;
            if self.is_unexplained(&claims[start..]) {
                return claims.split_off(start);
            }
            count *= 2;
        }
        claims
    }

    /// Leaves out every block of claims that can be spared.
    fn leave_out_blocks(&mut self, mut claims: Vec<usize>, block: usize) -> Vec<usize> {
        let mut start = 0;
        while start < claims.len() && claims.len() > 1 {
            let end = (start + block).min(claims.len());
            let rest = [&claims[..start], &claims[end..]].concat();
            if self.is_unexplained(&rest) {
                claims = rest;
            } else {
                start = end;
            }
        }
        claims
    }

    /// Whether these claims were shown to be impossible. Where it takes too long, they were not.
    fn is_unexplained(&mut self, claims: &[usize]) -> bool {
        let answer = attempt(&self.operations, claims, self.attempt_steps, self.meter);
        self.gave_up |= answer == Answer::Undecided;
        answer == Answer::Unexplained
    }
}

/// Tries to explain these claims, and them alone. `more_steps` may be spent beyond what is usual.
fn attempt(
    operations: &[&Operation],
    claims: &[usize],
    more_steps: u64,
    meter: &mut Meter,
) -> Answer {
    let roles = roles(operations, claims);
    let size = roles.len() as u64;
    let steps = ATTEMPT_STEPS + ATTEMPT_STEPS_PER_OPERATION * size;
    meter.within(steps.saturating_add(more_steps), |meter| {
        match meter.spend(size) {
            Ok(()) => find_order(&Problem::new(&roles), meter).answer,
            Err(Exhausted) => Answer::Undecided,
        }
    })
}

/// The claims, and the bystanders that may explain them: writes called before the last return.
fn roles<'h>(operations: &[&'h Operation], claims: &[usize]) -> Vec<(&'h Operation, Role)> {
    let mut is_claim = vec![false; operations.len()];
    let mut last_return_us = 0;
    for &claim in claims {
        is_claim[claim] = true;
        last_return_us = last_return_us.max(operations[claim].return_us.unwrap_or(0));
    }
    let role = |(&operation, is_claim): (&&'h Operation, bool)| match operation.kind {
        _ if is_claim => Some((operation, Role::Claim)),
        Kind::Get => None,
        _ if operation.call_us > last_return_us => None,
        _ => Some((operation, Role::Bystander)),
    };
    operations.iter().zip(is_claim).filter_map(role).collect()
}
