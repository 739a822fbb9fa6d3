//! Fetches the files of nodes and reads them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::dumps::Dumps;
use super::outcome::Unmet;
use super::runner::{Mark, Runner};
use crate::cluster::NodeId;
use crate::cluster::outcomes::all_or_partial;
use crate::ops::files::{DUMP, LOGS, NodeFile};
use crate::text::records::{self, LogRecord, RecordError};

impl Runner<'_> {
    /// What dump.txt of nodes, running or not, tells since a mark.
    pub(super) async fn dumps(&self, ids: &[NodeId], mark: &Mark) -> Result<Dumps, Unmet> {
        self.dumps_from(ids, mark, Duration::ZERO).await
    }

    /// The dump records of nodes that were written since `before` the mark.
    pub(super) async fn dumps_from(
        &self,
        ids: &[NodeId],
        mark: &Mark,
        before: Duration,
    ) -> Result<Dumps, Unmet> {
        let read = |id: NodeId, text: &str| {
            let end = mark.dump_ends.get(&id);
            // A time before any clock's beginning: all of it.
            records::parse_dump(text, end.and_then(|end| end.checked_sub(before)))
        };
        self.read(ids, DUMP, &[DUMP], read).await
    }

    /// The time of the last line of each dump.txt; a node that has not written any is left out.
    pub(super) async fn dump_ends(
        &self,
        ids: &[NodeId],
    ) -> Result<BTreeMap<NodeId, SystemTime>, Unmet> {
        let last = |_: NodeId, text: &str| records::last_time(text);
        let ends = self.read(ids, DUMP, &[DUMP], last).await?;
        Ok(ends
            .into_iter()
            .filter_map(|(id, end)| Some((id, end?)))
            .collect())
    }

    /// The lines of logs.txt of nodes, running or not, that a scenario looks at: its own keys and
    /// every NO-OP.
    pub(super) async fn logs(
        &self,
        ids: &[NodeId],
    ) -> Result<BTreeMap<NodeId, Vec<LogRecord>>, Unmet> {
        let wanted = |line: &str| line.contains(&self.key_prefix) || line.starts_with("NO-OP ");
        let read = |_: NodeId, text: &str| records::parse_log(text, &wanted);
        self.read(ids, LOGS, &[LOGS], read).await
    }

    async fn read<T>(
        &self,
        ids: &[NodeId],
        file: NodeFile,
        files: &'static [NodeFile],
        parse: impl Fn(NodeId, &str) -> Result<T, RecordError>,
    ) -> Result<BTreeMap<NodeId, T>, Unmet> {
        let fetched = self.context.fetch(ids, files, &self.folder).await;
        let fetched = all_or_partial(fetched, &format!("fetched {}", file.name))?;
        let mut read = BTreeMap::new();
        for (id, paths) in fetched {
            // One file was asked for.
            for path in paths {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Unmet::Failed(format!("cannot read {}: {error}", path.display()))
                })?;
                let parsed = parse(id, &text).map_err(|error| {
                    let expected = format!("{} of node {id} in its format", file.name);
                    Unmet::expected(expected, error.to_string())
                })?;
                read.insert(id, parsed);
            }
        }
        Ok(read)
    }
}
