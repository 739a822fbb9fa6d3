//! Fetches the files of nodes and reads them.

use std::collections::BTreeMap;

use super::outcome::Unmet;
use super::runner::Runner;
use crate::cluster::NodeId;
use crate::ops::all_or_partial;
use crate::ops::files::{DUMP, LOGS, NodeFile};
use crate::records::{self, DumpRecord, LogRecord, RecordError};

impl Runner<'_> {
    /// dump.txt of nodes, running or not. A node that has none yet has an empty one.
    pub(super) async fn dumps(
        &self,
        ids: &[NodeId],
    ) -> Result<BTreeMap<NodeId, Vec<DumpRecord>>, Unmet> {
        self.read(ids, DUMP, &[DUMP], records::parse_dump).await
    }

    /// logs.txt of nodes, running or not.
    pub(super) async fn logs(
        &self,
        ids: &[NodeId],
    ) -> Result<BTreeMap<NodeId, Vec<LogRecord>>, Unmet> {
        self.read(ids, LOGS, &[LOGS], records::parse_log).await
    }

    async fn read<T>(
        &self,
        ids: &[NodeId],
        file: NodeFile,
        files: &'static [NodeFile],
        parse: fn(&str) -> Result<Vec<T>, RecordError>,
    ) -> Result<BTreeMap<NodeId, Vec<T>>, Unmet> {
        let fetched = self.context.fetch(ids, files, &self.folder).await;
        let fetched = all_or_partial(fetched, &format!("fetched {}", file.name))?;
        let mut read = BTreeMap::new();
        for (id, paths) in fetched {
            let mut records = Vec::new();
            for path in paths {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Unmet::Failed(format!("cannot read {}: {error}", path.display()))
                })?;
                let parsed = parse(&text).map_err(|error| {
                    Unmet::expected(
                        format!("{} of node {id} in its format", file.name),
                        error.to_string(),
                    )
                })?;
                records.extend(parsed);
            }
            read.insert(id, records);
        }
        Ok(read)
    }
}
