//! `check`: is cluster.yaml right?

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Options, Output};
use crate::cluster::problem::{Problem, Problems};
use crate::cluster::{self, Cluster, NamedFile};
use crate::error::{Error, Result};
use crate::out;
use crate::verbs::gcp;

/// Reads cluster.yaml and says what is wrong with it, or what it means. Where machines have to be
/// made, looks at what that needs, too.
///
/// # Errors
/// It is wrong, or the machines can't be made.
pub async fn run(path: &Path, options: &Options) -> Result<()> {
    let loaded = cluster::load(path).map(|mut cluster| {
        let missing = cluster.named_files.iter().filter(|file| !file.is_there());
        cluster
            .warnings
            .list
            .extend(missing.map(NamedFile::missing));
        cluster.warnings.list.sort_by_key(|problem| problem.line);
        cluster
    });
    if options.output == Output::Text {
        let cluster = loaded?;
        if !cluster.warnings.list.is_empty() {
            eprintln!("{}", cluster.warnings);
        }
        out::line(&summary(&cluster))?;
        let findings = gcp::findings(&cluster).await?;
        out::print(&gcp::findings_text(&findings))?;
        return gcp::verdict(&findings);
    }
    match loaded {
        Ok(cluster) => {
            let findings = gcp::findings(&cluster).await?;
            let verdict = gcp::verdict(&findings);
            out::json(&json!({
                "ok": verdict.is_ok(),
                "cluster": cluster.name,
                "problems": [],
                "warnings": problems(&cluster.warnings),
                "findings": gcp::findings_json(&findings),
            }))?;
            verdict
        }
        Err(Error::Cluster(wrong)) => {
            out::json(&json!({
                "ok": false,
                "cluster": null,
                "problems": problems(&wrong),
                "warnings": [],
            }))?;
            Err(Error::Cluster(wrong))
        }
        Err(other) => Err(other),
    }
}

fn problems(of: &Problems) -> Vec<Value> {
    let one = |problem: &Problem| {
        json!({
            "file": of.file,
            "line": problem.line,
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    of.list.iter().map(one).collect()
}

fn summary(cluster: &Cluster) -> String {
    let timing = &cluster.timing;
    format!(
        "right: cluster {}, provider {}, {} nodes, election timeout {}-{} ms, heartbeat {} ms, \
         lease {} ms",
        cluster.name,
        cluster.provider.name(),
        cluster.nodes.len(),
        timing.election_timeout_min_ms,
        timing.election_timeout_max_ms,
        timing.heartbeat_ms,
        timing.lease_ms
    )
}
