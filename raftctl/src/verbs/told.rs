//! What a verb did with one node after the other: a line each as it is done, or one piece for
//! programs at the end.

use serde_json::{Value, json};

use crate::cli::{Options, Output};
use crate::cluster::NodeId;
use crate::error::Result;
use crate::out;

/// Says what was done with nodes, as it is done; for programs in one piece at the end.
pub struct Told<'a> {
    options: &'a Options,
    nodes: Vec<Value>,
}

impl<'a> Told<'a> {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(options: &'a Options) -> Self {
        Told {
            options,
            nodes: Vec::new(),
        }
    }

    /// Something was done with a node.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn node(&mut self, id: NodeId, done: &str) -> Result<()> {
        self.nodes.push(json!({ "id": id, "done": done }));
        match self.options.output {
            Output::Text => out::line(&format!("node {id} {done}")),
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
