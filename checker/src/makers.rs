//! Optional writes, and how a chain of them brings about a state that an operation needs.
//!
//! A write of unknown outcome has no deadline, so it can always be put off until right before the
//! operation that would not be right without it. Hence only shortest chains are of interest: every
//! write of a chain but the first is a compare-and-set that needs the one before.

use std::collections::HashMap;

use crate::budget::{Exhausted, Meter};
use crate::memory::Spent;
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
}

/// The optional writes of a problem, by their effect.
pub(crate) struct Makers<'p> {
    optional: &'p [Optional],
    groups: Vec<Group>,
    /// Positions in `groups`.
    by_result: HashMap<State, Vec<usize>>,
}

/// What holds while chains for one operation are looked for.
struct Quest<'a, 'm, 'b> {
    from: State,
    last_call_us: u64,
    spent: &'a Spent,
    meter: &'m mut Meter<'b>,
}

impl<'p> Makers<'p> {
    pub(crate) fn new(optional: &'p [Optional]) -> Makers<'p> {
        let mut by_effect: HashMap<(Need, State), usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut by_result: HashMap<State, Vec<usize>> = HashMap::new();
        for (index, write) in optional.iter().enumerate() {
            let group = *by_effect
                .entry((write.need, write.becomes))
                .or_insert_with(|| {
                    by_result
                        .entry(write.becomes)
                        .or_default()
                        .push(groups.len());
                    groups.push(Group {
                        need: write.need,
                        becomes: write.becomes,
                        members: Vec::new(),
                    });
                    groups.len() - 1
                });
            groups[group].members.push(index);
        }
        for group in &mut groups {
            group
                .members
                .sort_by_key(|&index| (optional[index].return_us, optional[index].call_us));
        }
        Makers {
            optional,
            groups,
            by_result,
        }
    }

    /// All chains of unused writes, called no later than `last_call_us`, that lead from `state` to
    /// one that meets `need`. `state` itself does not meet it.
    pub(crate) fn chains(
        &self,
        state: State,
        need: Need,
        last_call_us: u64,
        spent: &Spent,
        meter: &mut Meter,
    ) -> Result<Vec<Vec<usize>>, Exhausted> {
        let mut quest = Quest {
            from: state,
            last_call_us,
            spent,
            meter,
        };
        match need {
            Need::Anything => Ok(Vec::new()),
            Need::Is(target) => self.chains_to(target, &mut vec![target], &mut quest),
            // Any change will do, and a longer chain would begin with a shorter one.
            Need::IsNot(_) => {
                let mut chains = Vec::new();
                for group in &self.groups {
                    quest.meter.spend(1)?;
                    if need.is_met_by(group.becomes) && group.need.is_met_by(state) {
                        chains.extend(self.first_usable(group, &mut quest)?.map(|one| vec![one]));
                    }
                }
                Ok(chains)
            }
        }
    }

    /// Chains that end in `target`; `ahead` are the states that follow, which no chain repeats.
    fn chains_to(
        &self,
        target: State,
        ahead: &mut Vec<State>,
        quest: &mut Quest,
    ) -> Result<Vec<Vec<usize>>, Exhausted> {
        if ahead.len() > CHAIN_MAX {
            return Err(Exhausted);
        }
        let mut chains = Vec::new();
        let groups = self.by_result.get(&target).map_or(&[][..], Vec::as_slice);
        for &group in groups {
            let group = &self.groups[group];
            let Some(last) = self.first_usable(group, quest)? else {
                continue;
            };
            match group.need {
                need if need.is_met_by(quest.from) => chains.push(vec![last]),
                Need::Is(before) if !ahead.contains(&before) => {
                    ahead.push(before);
                    for mut chain in self.chains_to(before, ahead, quest)? {
                        chain.push(last);
                        chains.push(chain);
                    }
                    ahead.pop();
                }
                _ => {}
            }
        }
        Ok(chains)
    }

    fn first_usable(&self, group: &Group, quest: &mut Quest) -> Result<Option<usize>, Exhausted> {
        let in_time = group
            .members
            .partition_point(|&index| self.optional[index].return_us < quest.spent.latest_call_us);
        for &index in &group.members[in_time..] {
            quest.meter.spend(1)?;
            let is_used = quest.spent.used[index / 64] & (1 << (index % 64)) != 0;
            if !is_used && self.optional[index].call_us <= quest.last_call_us {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}
