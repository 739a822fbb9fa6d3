//! From a history that is not linearizable to the few operations that show it.
//!
//! Leaving an operation out means: its outcome need not be explained any more, and if it is a
//! write, it may or may not take effect, as the others need it, from its call on until a write that
//! is not left out and was called after its return. So what is left over is a proof about the whole
//! history and not only about a part of it: leaving out the write whose value somebody read never
//! makes that read look impossible.

use crate::budget::{Exhausted, Meter};
use crate::counter_example::CounterExample;
use crate::history::Operation;
use crate::problem::{Problem, Role};
use crate::search::find_order;

/// Finds a smallest set of claims, in the sense that none of them can be left out.
///
/// `operations` are those of one key, and not linearizable. Where the budget ends first, the set is
/// the smallest so far.
pub(crate) fn shrink(operations: &[&Operation], meter: &mut Meter) -> CounterExample {
    let mut by_return: Vec<&Operation> = operations.to_vec();
    by_return.sort_by_key(|operation| (operation.return_us.unwrap_or(u64::MAX), operation.call_us));
    let claims = (0..by_return.len())
        .filter(|&index| by_return[index].outcome.is_answer())
        .collect();
    let mut shrinking = Shrinking {
        operations: by_return,
        claims,
        meter,
    };
    let is_minimal = shrinking.run().is_ok();
    let Shrinking {
        operations, claims, ..
    } = shrinking;
    CounterExample::new(&operations, &claims, is_minimal)
}

struct Shrinking<'h, 'm, 'b> {
    /// Sorted by return.
    operations: Vec<&'h Operation>,
    /// Positions of operations that together cannot be explained; ascending.
    claims: Vec<usize>,
    meter: &'m mut Meter<'b>,
}

impl Shrinking<'_, '_, '_> {
    fn run(&mut self) -> Result<(), Exhausted> {
        self.cut_the_end()?;
        // Ever smaller blocks, from the earliest on: most of a history is done before the
        // violation begins.
        let mut block = self.claims.len().div_ceil(2);
        loop {
            let removed = self.leave_out_blocks(block)?;
            if block > 1 {
                block = block.div_ceil(2);
            } else if !removed {
                return Ok(());
            }
        }
    }

    /// Finds the first answer that cannot be explained together with those before it, and forgets
    /// those after it.
    fn cut_the_end(&mut self) -> Result<(), Exhausted> {
        let (mut explained, mut unexplained) = (0, self.claims.len());
        while unexplained - explained > 1 {
            let middle = explained.midpoint(unexplained);
            if is_explained(&self.operations, &self.claims[..middle], self.meter)? {
                explained = middle;
            } else {
                unexplained = middle;
            }
        }
        self.claims.truncate(unexplained);
        Ok(())
    }

    /// Leaves out every block of claims that can be spared. Returns whether there was one.
    fn leave_out_blocks(&mut self, block: usize) -> Result<bool, Exhausted> {
        let mut removed = false;
        let mut start = 0;
        while start < self.claims.len() {
            let end = (start + block).min(self.claims.len());
            let rest = [&self.claims[..start], &self.claims[end..]].concat();
            if is_explained(&self.operations, &rest, self.meter)? {
                start = end;
            } else {
                self.claims = rest;
                removed = true;
            }
        }
        Ok(removed)
    }
}

fn is_explained(
    operations: &[&Operation],
    claims: &[usize],
    meter: &mut Meter,
) -> Result<bool, Exhausted> {
    let mut roles: Vec<(&Operation, Role)> = operations
        .iter()
        .map(|&operation| (operation, Role::Bystander))
        .collect();
    for &claim in claims {
        roles[claim].1 = Role::Claim;
    }
    Ok(find_order(&Problem::new(&roles), meter)?.is_some())
}
