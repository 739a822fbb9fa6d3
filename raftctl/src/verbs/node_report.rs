//! What a verb did with one node after the other: a line each as it is done, or one piece for
//! programs at the end.

use serde_json::{Value, json};

use crate::cluster::NodeId;
use crate::error::Result;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;

/// Says what was done with nodes, as it is done; for programs in one piece at the end.
pub struct NodeReport<'a> {
    options: &'a Options,
    nodes: Vec<Value>,
}

impl<'a> NodeReport<'a> {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(options: &'a Options) -> Self {
        NodeReport {
            options,
            nodes: Vec::new(),
        }
    }

    /// Something was done with a node.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn node(&mut self, id: NodeId, done: &str) -> Result<()> {
        self.worded(id, done, &format!("node {id} {done}"))
    }

    /// Something was done with a node, which is told to people in other words.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn worded(&mut self, id: NodeId, done: &str, text: &str) -> Result<()> {
        self.nodes.push(json!({ "id": id, "done": done }));
        match self.options.output {
            Output::Text => out::line(text),
            Output::Json => Ok(()),
        }
    }

    /// All is done that will be.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn end(self) -> Result<()> {
        match self.options.output {
            Output::Text => Ok(()),
            Output::Json => out::json(&json!({ "nodes": self.nodes })),
        }
    }
}
