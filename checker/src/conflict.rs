//! Contradictions that need no search.
//!
//! A value that was seen before any write of it was called came from nowhere.
//!
//! A value that only one write can have produced is there for one stretch of time. If one operation
//! that wrote or saw it returned before another was called that saw it, then the stretch covers the
//! time between the two (a forward zone of Gibbons and Korach 1997), and whatever lies within that
//! time must agree with the value. Where every write has a value of its own, this finds stale
//! reads, lost writes and repeated writes at once, however many clients are at work.

use crate::problem::{ABSENT, Need, Problem, Required, State, UNOBSERVED};

/// The time for which a state certainly lasts, and who says so.
#[derive(Clone, Copy, Default)]
struct Stretch {
    producers: usize,
    /// When a producer was first called.
    first_call_us: Option<u64>,
    /// The operation that returned first: the state began by then.
    first: Option<(u64, usize)>,
    /// The operation that was called last: the state had not ended before.
    last: Option<(u64, usize)>,
}

impl Stretch {
    fn add_producer(&mut self, call_us: u64) {
        self.producers += 1;
        let first_call_us = self.first_call_us.unwrap_or(call_us);
        self.first_call_us = Some(first_call_us.min(call_us));
    }

    fn add_witness(&mut self, required: &Required, index: usize) {
        let returned = (required.return_us, index);
        self.first = Some(self.first.map_or(returned, |first| first.min(returned)));
        let called = (required.call_us, index);
        self.last = Some(self.last.map_or(called, |last| last.max(called)));
    }
}

/// One to three required operations that cannot all be right, as positions in the list that the
/// problem was made from. `None` proves nothing.
pub(crate) fn find_conflict(problem: &Problem) -> Option<Vec<usize>> {
    let stretches = stretches(problem);
    if let Some(ghost) = find_ghost(problem, &stretches) {
        return Some(vec![ghost]);
    }
    let observed = (0..problem.state_count as State).filter(|&state| state != UNOBSERVED);
    for state in observed {
        let stretch = stretches[state as usize];
        // The state at the beginning has a producer before all operations.
        let (begin_us, first) = match (state, stretch.producers, stretch.first) {
            (ABSENT, 0, _) => (None, None),
            (ABSENT, ..) => continue,
            (_, 1, Some((begin_us, first))) => (Some(begin_us), Some(first)),
            _ => continue,
        };
        let Some((end_us, last)) = stretch.last else {
            continue;
        };
        let within = within(&problem.required, begin_us, end_us);
        if let Some(intruder) = within.into_iter().find(|one| !agrees(one, state)) {
            let mut sources = vec![intruder.source];
            sources.extend(first.map(|first| problem.required[first].source));
            sources.push(problem.required[last].source);
            sources.sort_unstable();
            sources.dedup();
            return Some(sources);
        }
    }
    None
}

/// An operation that needs a state before anything can have led to it.
fn find_ghost(problem: &Problem, stretches: &[Stretch]) -> Option<usize> {
    let is_ghost = |required: &&Required| match required.action.need {
        Need::Is(ABSENT) | Need::Anything | Need::IsNot(_) => false,
        Need::Is(state) => stretches[state as usize]
            .first_call_us
            .is_none_or(|call_us| call_us > required.return_us),
    };
    problem.required.iter().find(is_ghost).map(|one| one.source)
}

fn stretches(problem: &Problem) -> Vec<Stretch> {
    let mut stretches = vec![Stretch::default(); problem.state_count];
    for optional in &problem.optional {
        stretches[optional.becomes as usize].add_producer(optional.call_us);
    }
    for (index, required) in problem.required.iter().enumerate() {
        if let Some(state) = required.action.becomes {
            stretches[state as usize].add_producer(required.call_us);
            stretches[state as usize].add_witness(required, index);
        }
        if let Need::Is(state) = required.action.need {
            stretches[state as usize].add_witness(required, index);
        }
    }
    stretches
}

/// The operations that were called after `begin_us` and returned before `end_us`. Stretches of
/// different states do not overlap in a right history, so that looking at all of them takes one
/// pass.
fn within(
    required: &[Required],
    begin_us: Option<u64>,
    end_us: u64,
) -> impl IntoIterator<Item = &Required> {
    let start = required.partition_point(|one| begin_us.is_some_and(|time| one.return_us <= time));
    required[start..]
        .iter()
        .take_while(move |one| one.return_us < end_us)
        .filter(move |one| begin_us.is_none_or(|begin_us| one.call_us > begin_us))
}

/// Whether an operation can take place while the state lasts, without beginning or ending it.
fn agrees(required: &Required, state: State) -> bool {
    required.action.need.is_met_by(state) && required.action.becomes.is_none()
}
