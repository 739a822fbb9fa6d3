//! `check`: is cluster.yaml right?

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{self, Cluster, NamedFile};
use crate::error::problem::{Problem, Problems};
use crate::error::{Error, Result};
use crate::providers::{self, Finding, Verdict};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;

/// Reads cluster.yaml and says what is wrong with it, or what it means. Where machines have to be
/// made, looks at what that needs, too.
///
/// # Errors
/// It is wrong, or the machines can't be made.
pub async fn run(path: &Path, options: &Options) -> Result<()> {
    let loaded = cluster::load(path).map(|mut cluster| {
        let reminder = cluster.clear_text_reminder();
        cluster.warnings.list.extend(reminder);
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
        let findings = findings(&cluster).await?;
        out::print(&findings_text(&findings))?;
        return verdict(&findings);
    }
    match loaded {
        Ok(cluster) => {
            let findings = findings(&cluster).await?;
            let verdict = verdict(&findings);
            out::json(&json!({
                "ok": verdict.is_ok(),
                "cluster": cluster.name,
                "problems": [],
                "warnings": problems(&cluster.warnings),
                "findings": findings_json(&findings),
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

/// What can be known before any machine is made; nothing where raftctl makes none.
async fn findings(cluster: &Cluster) -> Result<Vec<Finding>> {
    let _asking = Progress::new().begin("look at what machines need");
    providers::findings(cluster).await
}

/// Findings for people, a line each.
fn findings_text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "note",
            Verdict::Wrong => "WRONG",
        };
        format!("{mark:5} {}: {}\n", finding.subject, finding.text)
    };
    findings.iter().map(line).collect()
}

/// Findings for programs.
fn findings_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| json!({"subject": finding.subject, "ok": finding.verdict != Verdict::Wrong, "text": finding.text});
    findings.iter().map(one).collect()
}

/// Whether anything can be made.
fn verdict(findings: &[Finding]) -> Result<()> {
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Wrong)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let mut subjects: Vec<_> = wrong
        .iter()
        .map(|finding| finding.subject.as_str())
        .collect();
    // Several findings of one place stand together.
    subjects.dedup();
    Err(Error::Cloud(format!(
        "no machine can be made like this: see {} above, and run `raftctl check` again",
        subjects.join(", ")
    )))
}
