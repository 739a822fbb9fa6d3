//! `top`: the cluster as it lives, four times a second, and keys to disturb it.
//!
//! ```text
//! ops/watch   what is, as each node says it          screen   (model) -> picture. Pure
//! model       keys -> what is asked and wanted. Pure   events   (look, next look) -> what happened. Pure
//! act         what was confirmed, done
//! ```

mod act;
mod events;
mod model;
mod screen;

use std::time::SystemTime;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::ops::alarms;
use crate::ops::watch::{EVERY, Watcher};
use crate::terminal::out;
use crate::terminal::screen::{Input, Screen, inputs, is_there};
use model::{Look, Model, Wish};

/// Whether there is a terminal to show it on.
///
/// # Errors
/// There is none.
pub fn needs_terminal() -> Result<()> {
    match is_there() {
        true => Ok(()),
        false => Err(Error::Usage(
            "`raftctl top` draws on a terminal and hears keys from it, and here is none; \
             `raftctl status` prints the same once, for programs with --output json (over ssh, -t makes \
             a terminal)"
                .into(),
        )),
    }
}

/// Shows the cluster until somebody has seen enough.
///
/// # Errors
/// The terminal can't be used.
pub async fn run(context: &Context) -> Result<()> {
    needs_terminal()?;
    let mut interruptions = Interruptions::new();
    let watcher = Watcher::begin(context);
    let mut screen = Screen::take()?;
    let mut keys = inputs();
    let mut model = Model::new(&context.cluster.name, &context.cluster.provider.name());
    let mut acts = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = interruptions.next() => return Ok(()),
            _ = ticks.tick() => {
                if let Some(look) = look(&watcher) {
                    model.look(look, SystemTime::now());
                }
            }
            input = keys.recv() => match input {
                None => return Ok(()),
                Some(Input::Resized) => {}
                Some(Input::Key(key)) => match model.key(key) {
                    None => {}
                    Some(Wish::Leave) => return Ok(()),
                    Some(Wish::Act(act)) => drop(acts.spawn(act::act(context.clone(), act))),
                },
            },
            Some(done) = acts.join_next() => match done {
                Ok(text) => model.done(&text, SystemTime::now()),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
        for text in out::take_talk() {
            model.tell(&text, SystemTime::now());
        }
        screen.draw(|frame| screen::draw(frame, &model))?;
    }
}

fn look(watcher: &Watcher) -> Option<Look> {
    let (snapshot, rates) = (watcher.snapshot()?, watcher.rates());
    let alarms = alarms::of(&snapshot, &rates);
    Some(Look {
        snapshot,
        rates,
        alarms,
    })
}

#[cfg(test)]
mod tests;
