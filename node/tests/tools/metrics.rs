//! The metrics as Prometheus itself takes them, and the rules and pictures in `monitoring/`.

use crate::cluster::{own_host, own_ports, within};
use crate::on_a_runtime;
use crate::scraping::{Metered, ask, status};
use harness::{Need, Test, program_is_missing, tests};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Bound on what Prometheus does at its next interval.
const SOON: Duration = Duration::from_secs(60);

static PROMETHEUS: Need = Need::new(|| {
    let install = "install the package prometheus";
    program_is_missing("prometheus", install).or_else(|| program_is_missing("promtool", install))
});

pub fn tests() -> Vec<Test> {
    [
        tests!(
            [PROMETHEUS],
            the_page_is_as_prometheus_wants_it,
            the_rules_fire_when_they_should,
            prometheus_reads_every_node,
        ),
        tests!([], what_is_drawn_exists),
    ]
    .concat()
}

fn monitoring(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("monitoring").join(file)
}

/// Fails unless promtool finds nothing to say against it.
fn promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).current_dir(monitoring(""));
    promtool.stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

// Names, types and help texts are as Prometheus' own tool asks for.
fn the_page_is_as_prometheus_wants_it() {
    on_a_runtime(async {
        let metered = Metered::start(1, &[]).await;
        promtool(&["check", "metrics"], &metered.page(1).await);
    });
}

// Each alert fires for its cause, and not before.
fn the_rules_fire_when_they_should() {
    promtool(&["check", "rules", "rules.yml"], "");
    promtool(&["test", "rules", "rules_test.yml"], "");
    let tested = std::fs::read_to_string(monitoring("rules_test.yml")).unwrap();
    let rules = std::fs::read_to_string(monitoring("rules.yml")).unwrap();
    for alert in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(
            tested.contains(&format!("alertname=\"{alert}\"")),
            "{alert} is not tested"
        );
    }
}

/// All words of a text that name a metric.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    let names = words.filter(|word| word.starts_with("raftkv_"));
    names.map(str::to_owned).collect()
}

// What the rules, the dashboard and the page about it name is what nodes tell; the page names all of it.
fn what_is_drawn_exists() {
    on_a_runtime(async {
        let metered = Metered::start(1, &[]).await;
        let page = metered.page(1).await;
        let told = named(&page);
        let families: BTreeSet<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .filter(|name| name.starts_with("raftkv_"))
            .map(str::to_owned)
            .collect();
        let root = monitoring("..");
        for file in [
            "monitoring/rules.yml",
            "monitoring/dashboard.json",
            "docs/monitoring.md",
        ] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let strange: Vec<_> = named(&text).difference(&told).cloned().collect();
            assert!(
                strange.is_empty(),
                "{file} names {strange:?}, which no node tells"
            );
        }
        let docs = std::fs::read_to_string(root.join("docs/monitoring.md")).unwrap();
        let missing: Vec<_> = families.difference(&named(&docs)).cloned().collect();
        assert!(missing.is_empty(), "docs/monitoring.md lacks {missing:?}");
        let dashboard = std::fs::read_to_string(monitoring("dashboard.json")).unwrap();
        let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
        assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    });
}

/// A running Prometheus, until it is dropped.
struct Prometheus {
    child: Child,
    address: String,
    _data: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    /// With the configuration in `monitoring/`, but for other targets and a shorter interval.
    fn start(targets: &[String]) -> Self {
        let config = std::fs::read_to_string(monitoring("prometheus.yml")).unwrap();
        let own: Vec<_> = targets.iter().map(|target| format!("{target:?}")).collect();
        let own = format!("- targets: [{}]", own.join(", "));
        let rules = format!("{:?}", monitoring("rules.yml"));
        let lines = config.lines().map(|line| match line.trim_start() {
            list if list.starts_with("- targets: ") => line.replace(list, &own),
            "- rules.yml" => line.replace("rules.yml", &rules),
            _ => line.replace("_interval: 10s", "_interval: 1s"),
        });
        let lines: Vec<_> = lines.collect();
        let data = TempDir::new().unwrap();
        let file = data.path().join("prometheus.yml");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let address = format!("{}:{}", own_host(), own_ports(1));
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        let storage = data.path().join("data");
        command.arg(format!("--storage.tsdb.path={}", storage.display()));
        command.arg(format!("--web.listen-address={address}"));
        let output = std::fs::File::create(data.path().join("output")).unwrap();
        command
            .stdin(Stdio::null())
            .stderr(output)
            .stdout(Stdio::null());
        Prometheus {
            child: command.spawn().unwrap(),
            address,
            _data: data,
        }
    }

    /// What its API answers; `None`: not yet.
    async fn api(&self, path: &str) -> Option<Value> {
        tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let (head, body) = ask(&self.address, &format!("GET /api/v1/{path}")).await;
        if status(&head) != "200" {
            return None;
        }
        let answer: Value = serde_json::from_str(&body).ok()?;
        Some(answer["data"].clone())
    }

    /// The values of an expression.
    async fn values(&self, expression: &str) -> Option<Vec<String>> {
        let data = self.api(&format!("query?query={expression}")).await?;
        let result = data["result"].as_array()?;
        let values = result
            .iter()
            .map(|it| it["value"][1].as_str().unwrap().to_owned());
        Some(values.collect())
    }
}

// A real Prometheus with the configuration that is shipped reads every node, sees one leader, and can
// evaluate every rule.
fn prometheus_reads_every_node() {
    on_a_runtime(async {
        let metered = Metered::start(3, &[]).await;
        let ids = metered.cluster.ids();
        let targets: Vec<_> = ids.iter().map(|id| metered.address(*id)).collect();
        let prometheus = Prometheus::start(&targets);
        within(SOON, "every node read", async || {
            let up = prometheus.values("sum(up)").await?;
            let leaders = prometheus.values("sum(raftkv_leader)").await?;
            (up == ["3"] && leaders == ["1"]).then_some(())
        })
        .await;
        let groups = within(SOON, "every rule evaluated", async || {
            let rules = prometheus.api("rules").await?;
            let rules = rules["groups"][0]["rules"].as_array()?.clone();
            let known = |rule: &Value| rule["health"] != "unknown";
            (!rules.is_empty() && rules.iter().all(known)).then_some(rules)
        })
        .await;
        for rule in groups {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
    });
}
