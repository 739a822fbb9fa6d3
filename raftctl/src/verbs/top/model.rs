//! What is shown, and what keys change of that. Pure: time comes in with what is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::act::FAULT_LENGTH;
use super::events;
use crate::cluster::NodeId;
use crate::ops::alarms::Alarm;
use crate::ops::rates::Rates;
use crate::ops::status::{NodeStatus, Snapshot};

/// Events that are kept; more than any terminal shows.
const EVENTS_MAX: usize = 200;

/// What one look at the cluster gave.
#[derive(Debug, Clone)]
pub struct Look {
    /// What is.
    pub snapshot: Snapshot,
    /// How much each node does.
    pub rates: BTreeMap<NodeId, Rates>,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
}

/// What a key can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill(NodeId),
    /// SIGSTOP, for a while.
    Pause(NodeId),
    /// SIGCONT.
    Resume(NodeId),
    /// No message to or from the others, for a while.
    CutOff(NodeId),
    /// Every cut ends.
    Heal,
    /// The lead goes there.
    Transfer(NodeId),
}

impl Act {
    /// As it is asked, and told where it fails.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Act::Kill(id) => format!("kill node {id}"),
            Act::Pause(id) => format!("pause node {id}"),
            Act::Resume(id) => format!("let node {id} go on"),
            Act::CutOff(id) => format!("cut node {id} off"),
            Act::Heal => "heal all links".to_owned(),
            Act::Transfer(id) => format!("hand the lead over to node {id}"),
        }
    }

    /// What it means for the cluster.
    #[must_use]
    pub fn consequence(self) -> String {
        let length = humantime::format_duration(FAULT_LENGTH);
        match self {
            Act::Kill(_) => "It stays dead until somebody starts it.".to_owned(),
            Act::Pause(_) => format!("It goes on after {length}, or with r."),
            Act::Resume(_) => "If it is paused.".to_owned(),
            Act::CutOff(_) => format!("It is healed after {length}, or with h."),
            Act::Heal => "Every cut that raftctl made ends.".to_owned(),
            Act::Transfer(_) => "No request fails.".to_owned(),
        }
    }
}

/// What a person wants of whoever shows this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The end.
    Leave,
    /// It was confirmed.
    Act(Act),
}

/// What happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// By this machine's clock.
    pub at: SystemTime,
    /// In words.
    pub text: String,
}

/// All that is shown.
#[derive(Debug, Clone)]
pub struct Model {
    /// The cluster's name.
    pub cluster: String,
    /// Its provider.
    pub provider: String,
    /// The last look; `None` before the first.
    pub look: Option<Look>,
    /// The node that keys are about.
    pub selected: Option<NodeId>,
    /// What is to be confirmed.
    pub asked: Option<Act>,
    /// What is being done.
    pub under_way: usize,
    /// What happened, the newest last.
    pub events: VecDeque<Happened>,
}

impl Model {
    /// Before the first look.
    #[must_use]
    pub fn new(cluster: &str, provider: &str) -> Self {
        Model {
            cluster: cluster.to_owned(),
            provider: provider.to_owned(),
            look: None,
            selected: None,
            asked: None,
            under_way: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes in a look, and what has changed since the one before.
    pub fn look(&mut self, look: Look, at: SystemTime) {
        if let Some(before) = &self.look {
            for text in events::between(before, &look) {
                self.tell(&text, at);
            }
        }
        let nodes = &look.snapshot.nodes;
        let is_there = |id: NodeId| nodes.iter().any(|node| node.id == id);
        if !self.selected.is_some_and(is_there) {
            self.selected = nodes.first().map(|node| node.id);
        }
        self.look = Some(look);
    }

    /// Something happened.
    pub fn tell(&mut self, text: &str, at: SystemTime) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        // One line each: what more there is to say, the verbs say.
        let text = text.lines().collect::<Vec<_>>().join(" ");
        self.events.push_back(Happened { at, text });
    }

    /// What was wanted is over.
    pub fn done(&mut self, text: &str, at: SystemTime) {
        self.under_way = self.under_way.saturating_sub(1);
        self.tell(text, at);
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Leave);
        }
        if let Some(act) = self.asked.take() {
            // Whatever is no clear yes is a no.
            let is_yes = key.code == KeyCode::Char('y');
            self.under_way += usize::from(is_yes);
            return is_yes.then_some(Wish::Act(act));
        }
        let on_node = |act: fn(NodeId) -> Act| self.selected.map(act);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Wish::Leave),
            KeyCode::Up => self.select(-1),
            KeyCode::Down | KeyCode::Tab => self.select(1),
            KeyCode::Char(digit @ '1'..='9') => self.select_id(digit),
            KeyCode::Char('k') => self.asked = on_node(Act::Kill),
            KeyCode::Char('p') => self.asked = on_node(Act::Pause),
            KeyCode::Char('r') => self.asked = on_node(Act::Resume),
            KeyCode::Char('c') => self.asked = on_node(Act::CutOff),
            KeyCode::Char('t') => self.asked = on_node(Act::Transfer),
            KeyCode::Char('h') => self.asked = Some(Act::Heal),
            _ => {}
        }
        None
    }

    fn nodes(&self) -> &[NodeStatus] {
        self.look.as_ref().map_or(&[], |look| &look.snapshot.nodes)
    }

    /// The next node, or the one before; from the last one on to the first.
    fn select(&mut self, step: isize) {
        let nodes = self.nodes();
        let at = nodes.iter().position(|node| Some(node.id) == self.selected);
        let count = nodes.len().cast_signed();
        if let Some(at) = at.filter(|_| count > 0) {
            let next = (at.cast_signed() + step).rem_euclid(count);
            self.selected = nodes.get(next.cast_unsigned()).map(|node| node.id);
        }
    }

    fn select_id(&mut self, digit: char) {
        let id = digit.to_digit(10).map(NodeId::from);
        if self.nodes().iter().any(|node| Some(node.id) == id) {
            self.selected = id;
        }
    }
}
