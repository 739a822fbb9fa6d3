//! Optional writes, and how a chain of them brings about a state that an operation needs.
//!
//! An optional write can always be put off until right before the operation that would not be
//! right without it: in between there are only reads, for a required write in between would undo
//! it. Hence only shortest chains are of interest: every write of a chain but the first is a
//! compare-and-set that needs the one before.

use std::collections::HashMap;

use crate::budget::{Exhausted, Meter};
use crate::memory::Used;
use crate::problem::{Need, Optional, State};

/// The longest chain that is followed. Beyond it the check ends undecided: a thousand writes of
/// unknown outcome that all built on one another are no workload, and the stack is finite.
const CHAIN_MAX: usize = 1000;

/// Optional writes with one and the same effect: any of them will do, so the one with the earliest
/// deadline is taken.
struct Group {
    need: Need,
    becomes: State,
    /// Positions in the list of optional writes, sorted by deadline, then by call.
    members: Vec<usize>,
    has_deadlines: bool,
}

/// What can lead to a state.
#[derive(Default)]
pub(crate) struct Chains {
    /// Positions in the list of optional writes, in the order in which they take effect.
    pub(crate) chains: Vec<Vec<usize>>,
    /// Whether longer chains may lead there as well.
    pub(crate) has_longer: bool,
    /// Whether more chains of this length were not looked for.
    pub(crate) is_cut: bool,
}

/// The optional writes of a problem, by their effect.
pub(crate) struct Makers<'p> {
    optional: &'p [Optional],
    /// Those whose result the fewest operations need come first.
    groups: Vec<Group>,
    /// Positions in `groups`.
    by_result: HashMap<State, Vec<usize>>,
}

/// Where chains are to begin.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) state: State,
    /// Writes called later cannot come next.
    pub(crate) first_return_us: u64,
    /// The latest call of a placed required write: writes that returned before it are too late.
    pub(crate) latest_write_call_us: u64,
    pub(crate) used: &'a Used,
    /// Where any change of the state will do, how many of the possible ones are looked for.
    pub(crate) breadth: usize,
}

impl<'p> Makers<'p> {
    /// `observers` tells how many operations need a state.
    pub(crate) fn new(optional: &'p [Optional], observers: &[u32]) -> Makers<'p> {
        let mut by_effect: HashMap<(Need, State), Vec<usize>> = HashMap::new();
        for (index, write) in optional.iter().enumerate() {
            let effect = (write.need, write.becomes);
            by_effect.entry(effect).or_default().push(index);
        }
        let group = |((need, becomes), mut members): ((Need, State), Vec<usize>)| {
            members.sort_by_key(|&index| (optional[index].return_us, optional[index].call_us));
            Group {
                need,
                becomes,
                has_deadlines: members
                    .iter()
                    .any(|&index| optional[index].return_us != u64::MAX),
                members,
            }
        };
        let mut groups: Vec<Group> = by_effect.into_iter().map(group).collect();
        // The first member makes the order the same in every run.
        groups.sort_by_key(|group| (observers[group.becomes as usize], group.members[0]));
        let mut by_result: HashMap<State, Vec<usize>> = HashMap::new();
        for (index, group) in groups.iter().enumerate() {
            by_result.entry(group.becomes).or_default().push(index);
        }
        Makers {
            optional,
            groups,
            by_result,
        }
    }

    /// The chains of this many unused writes that lead from a state that does not meet `need` to
    /// one that does.
    pub(crate) fn chains(
        &self,
        start: Start,
        need: Need,
        length: usize,
        meter: &mut Meter,
    ) -> Result<Chains, Exhausted> {
        let mut found = Chains::default();
        match need {
            Need::Anything => {}
            Need::Is(target) => {
                let mut ahead = vec![target];
                self.chains_to(
                    start,
                    &mut ahead,
                    &mut Vec::new(),
                    length,
                    &mut found,
                    meter,
                )?;
            }
            // Any change will do, and a longer chain would begin with a shorter one.
            Need::IsNot(_) => {
                for group in &self.groups {
                    meter.spend(1)?;
                    if !need.is_met_by(group.becomes) || !group.need.is_met_by(start.state) {
                        continue;
                    }
                    if found.chains.len() == start.breadth {
                        found.is_cut = true;
                        break;
                    }
                    let usable = self.first_usable(start, group, meter)?;
                    found.chains.extend(usable.map(|one| vec![one]));
                }
                // The best is tried last.
                found.chains.reverse();
            }
        }
        Ok(found)
    }

    /// Finds chains backwards. `ahead` are the states that follow, the nearest last: no chain
    /// repeats one. `tail` are the writes that lead through them, the nearest last.
    fn chains_to(
        &self,
        start: Start,
        ahead: &mut Vec<State>,
        tail: &mut Vec<usize>,
        length: usize,
        found: &mut Chains,
        meter: &mut Meter,
    ) -> Result<(), Exhausted> {
        if ahead.len() > CHAIN_MAX {
            return Err(Exhausted);
        }
        let target = ahead.last().copied();
        let groups = target.and_then(|target| self.by_result.get(&target));
        for &group in groups.into_iter().flatten() {
            let group = &self.groups[group];
            let is_first = group.need.is_met_by(start.state);
            if is_first && length > 1 {
                continue;
            }
            let Some(write) = self.first_usable(start, group, meter)? else {
                continue;
            };
            match group.need {
                _ if is_first => {
                    let chain = std::iter::once(write).chain(tail.iter().rev().copied());
                    found.chains.push(chain.collect());
                }
                Need::Is(before) if !ahead.contains(&before) => {
                    if length == 1 {
                        found.has_longer = true;
                        continue;
                    }
                    ahead.push(before);
                    tail.push(write);
                    self.chains_to(start, ahead, tail, length - 1, found, meter)?;
                    tail.pop();
                    ahead.pop();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn first_usable(
        &self,
        start: Start,
        group: &Group,
        meter: &mut Meter,
    ) -> Result<Option<usize>, Exhausted> {
        let is_gone = |&index: &usize| {
            let is_late = self.optional[index].return_us < start.latest_write_call_us;
            // Without deadlines they are used in their order.
            is_late || !group.has_deadlines && start.used.contains(index)
        };
        let first = group.members.partition_point(is_gone);
        for &index in &group.members[first..] {
            meter.spend(1)?;
            let is_called = self.optional[index].call_us <= start.first_return_us;
            if is_called && !start.used.contains(index) {
                return Ok(Some(index));
            }
            // Without deadlines the others are called later still.
            if !is_called && !group.has_deadlines {
                break;
            }
        }
        Ok(None)
    }
}
