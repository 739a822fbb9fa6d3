//! The page of `raftctl timeline` in a real browser: Chromium without a window.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::{Need, Test, program_is_missing, tests};
use serde_json::Value;

use crate::cluster::TestCluster;

static CHROMIUM: Need =
    Need::new(|| program_is_missing("chromium", "install the package chromium"));

pub fn tests() -> Vec<Test> {
    tests!([CHROMIUM], the_page_shows_what_the_records_say)
}

/// Where pictures stay that somebody may want to look at.
const PICTURES: &str = env!("CARGO_TARGET_TMPDIR");

/// Bars may be off by so many pixels: letters on the axis stand on whole ones.
const TOLERANCE_PIXELS: f64 = 2.0;

/// Appended to a copy of the page: says where things are after the page's own script has drawn them, then
/// goes closer with a button and a key as a person would, and says it again.
const MEASURE: &str = r#"<script>{
const box = (element) => { const box = element.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom]; };
const bars = () => [...document.querySelectorAll('#plot rect')].map((rect) => ({
  kind: rect.getAttribute('class'), box: box(rect), says: rect.dataset.says,
  file: rect.closest('a')?.getAttribute('href') ?? '' }));
const ticks = () => [...document.querySelectorAll('#axis text')].map((text) => {
  const [left, right] = box(text); return { text: text.textContent, x: (left + right) / 2 }; });
const measured = { whole: { bars: bars(), ticks: ticks() } };
document.querySelector('[data-zoom="0.5"]').click();
dispatchEvent(new KeyboardEvent('keydown', { key: '+' }));
measured.closer = { bars: bars(), ticks: ticks() };
const over = document.querySelector('#plot rect.lease');
const [left, right, top, bottom] = box(over);
over.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: (left + right) / 2, clientY: (top + bottom) / 2 }));
measured.tip = document.getElementById('tip').textContent;
const said = document.createElement('pre');
said.id = 'measured';
said.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(measured))));
document.body.append(said);
}</script>
"#;

/// Chromium on a page. What it has to say of it, as of errors in a script, is on its standard error.
fn chromium(page: &Path, arguments: &[&str]) -> Output {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--window-size=1280,1000",
            "--timeout=30000",
        ])
        .args([
            "--enable-logging=stderr",
            "--log-level=0",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(console.is_empty(), "{console:#?}");
    output
}

/// What [`MEASURE`] says.
fn measured(page: &Path) -> Value {
    let text = std::fs::read_to_string(page).unwrap();
    let copy = page.with_file_name("measured.html");
    std::fs::write(&copy, text.replace("</html>", &format!("{MEASURE}</html>"))).unwrap();
    let dom = chromium(&copy, &["--dump-dom"]);
    let dom = String::from_utf8(dom.stdout).unwrap();
    let (_, said) = dom.split_once("<pre id=\"measured\">").expect(&dom);
    let said = said.split('<').next().unwrap();
    serde_json::from_slice(&BASE64_STANDARD.decode(said).unwrap()).unwrap()
}

/// A bar on the screen.
#[derive(Debug)]
struct Bar {
    kind: String,
    says: String,
    file: String,
    left: f64,
    right: f64,
}

fn bars(view: &Value) -> Vec<Bar> {
    let bar = |bar: &Value| {
        let text = |name: &str| bar[name].as_str().unwrap_or_default().to_owned();
        Bar {
            kind: text("kind"),
            says: text("says"),
            file: text("file"),
            left: bar["box"][0].as_f64().unwrap(),
            right: bar["box"][1].as_f64().unwrap(),
        }
    };
    view["bars"].as_array().unwrap().iter().map(bar).collect()
}

/// From the time on the axis to the place on the screen: milliseconds of the day, and pixels.
struct Axis {
    first: (f64, f64),
    pixels_per_ms: f64,
}

impl Axis {
    fn of(view: &Value) -> Axis {
        let ticks: Vec<(f64, f64)> = view["ticks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tick| {
                (
                    ms_of_day(tick["text"].as_str().unwrap()),
                    tick["x"].as_f64().unwrap(),
                )
            })
            .collect();
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        assert!(ticks.len() >= 3, "{ticks:?}");
        let pixels_per_ms = (last.1 - first.1) / (last.0 - first.0);
        for (ms, x) in &ticks {
            let expected = first.1 + (ms - first.0) * pixels_per_ms;
            assert!((x - expected).abs() < 1.0, "{ticks:?}");
        }
        Axis {
            first,
            pixels_per_ms,
        }
    }

    fn ms(&self, x: f64) -> f64 {
        self.first.0 + (x - self.first.1) / self.pixels_per_ms
    }
}

/// `21:07:08` or `21:07:08.123`.
fn ms_of_day(text: &str) -> f64 {
    let parts: Vec<f64> = text.split(':').map(|part| part.parse().unwrap()).collect();
    ((parts[0] * 60.0 + parts[1]) * 60.0 + parts[2]) * 1000.0
}

/// The first line of a node's dump.txt with these words: when, and its fields.
fn told(folder: &Path, id: u64, words: &str) -> Option<(f64, String)> {
    let path = folder.join(format!("logs_node_{id}/dump.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.contains(words))?;
    let (at, rest) = line.split_once(' ').unwrap();
    let at = humantime_ms(at);
    Some((at, rest.to_owned()))
}

/// `2026-01-01T21:07:08.123456Z`, as milliseconds of its day.
fn humantime_ms(at: &str) -> f64 {
    ms_of_day(at.split_once('T').unwrap().1.trim_end_matches('Z'))
}

#[track_caller]
fn near(what: &str, seen: f64, expected: f64, tolerance: f64) {
    assert!(
        (seen - expected).abs() <= tolerance,
        "{what}: {seen} and not {expected}"
    );
}

/// A field that is a number of microseconds, as milliseconds.
fn length_ms(line: &str, name: &str) -> Option<f64> {
    let (_, from) = line.split_once(&format!(" {name}="))?;
    let length: f64 = from.split(' ').next()?.parse().ok()?;
    Some(length / 1000.0)
}

/// When a leader had its first lease, and until when its last one was to last, as its dump.txt says.
fn lease(folder: &Path, id: u64) -> (f64, f64) {
    let path = folder.join(format!("logs_node_{id}/dump.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let told = text.lines().filter_map(|line| {
        let at = humantime_ms(line.split_once(' ')?.0);
        let left = length_ms(line, "lease_us").filter(|left| *left > 0.0)?;
        Some((at, at + left))
    });
    let told: Vec<(f64, f64)> = told.collect();
    let until = told.iter().map(|(_, until)| *until);
    (told[0].0, until.fold(0.0, f64::max))
}

/// The bars of both leaders' terms stand where their dump.txt say, in this view; and the first one's lease ends where it
/// said, though its process was gone by then.
fn bars_are_in_their_place(view: &Value, folder: &Path, leaders: [u64; 2]) {
    let (axis, bars) = (Axis::of(view), bars(view));
    let tolerance = TOLERANCE_PIXELS / axis.pixels_per_ms;
    for id in leaders {
        let (elected, line) = told(folder, id, "became the leader for term").unwrap();
        let (_, term) = line.split_once("term=").unwrap();
        let term = term.split(' ').next().unwrap();
        let says = format!("leads term {term};");
        let is_its = |bar: &&Bar| bar.kind == "leads" && bar.says.starts_with(&says);
        let leads = bars.iter().find(is_its);
        let leads = leads.unwrap_or_else(|| panic!("term {term}: {bars:#?}"));
        near("the election", axis.ms(leads.left), elected, tolerance);
        let line = format!("logs_node_{id}/dump.txt#line=");
        assert!(leads.file.starts_with(&line), "{leads:?}");
    }
    let mut outlives = bars.iter().filter(|bar| bar.kind == "lease outlives");
    let (Some(outlives), None) = (outlives.next(), outlives.next()) else {
        panic!("of one leader alone: {bars:#?}");
    };
    let (from, until) = lease(folder, leaders[0]);
    near("the lease", axis.ms(outlives.left), from, tolerance);
    near("its end", axis.ms(outlives.right), until, tolerance);
    // The wait of the second: from its line on, for as long as that says.
    let (from, line) = told(folder, leaders[1], "New Leader waiting").unwrap();
    let wait = bars.iter().find(|bar| bar.kind == "wait").unwrap();
    near("the wait", axis.ms(wait.left), from, tolerance);
    let remaining = length_ms(&line, "remaining_us").unwrap();
    let seen = axis.ms(wait.right) - axis.ms(wait.left);
    near("its length", seen, remaining, 2.0 * tolerance);
}

// A real page in a real browser: no error in its console, each bar where the records say, also after a
// person went closer, and a note at what the pointer is on. The picture stays in target/tmp.
fn the_page_shows_what_the_records_say() {
    let cluster = TestCluster::with(3, "proof_of_death: false\n");
    cluster.raftctl(&["up"]).ok();
    let first = cluster.leader(|_| true);
    cluster.raftctl(&["set", "a", "b"]).ok();
    // What a process told in its last few milliseconds is lost with it.
    let dump = cluster.state(&format!("logs_node_{first}/dump.txt"));
    cluster.eventually("the lease, in its dump.txt", |_| {
        std::fs::read_to_string(&dump).is_ok_and(|text| text.contains(" holds its lease.\t"))
    });
    cluster.raftctl(&["kill", &first.to_string()]).ok();
    let second = cluster.leader(|id| id != first);
    cluster.raftctl(&["set", "a", "c"]).ok();
    cluster.raftctl(&["timeline"]).ok();
    let folder = cluster.path("raft-logs-test");
    let page = folder.join("timeline.html");

    let measured = measured(&page);
    bars_are_in_their_place(&measured["whole"], &folder, [first, second]);
    bars_are_in_their_place(&measured["closer"], &folder, [first, second]);
    let closer = Axis::of(&measured["closer"]).pixels_per_ms;
    let whole = Axis::of(&measured["whole"]).pixels_per_ms;
    near(
        "closer by a button and a key",
        closer / whole,
        1.0 / (0.5 * 0.6),
        0.1,
    );
    let tip = measured["tip"].as_str().unwrap();
    assert!(tip.starts_with("lease of term "), "{tip}");

    let picture = PathBuf::from(PICTURES).join("timeline.png");
    let since = SystemTime::now() - Duration::from_secs(1);
    let argument = format!("--screenshot={}", picture.display());
    chromium(&page, &[&argument]);
    let kept = picture.metadata().unwrap();
    assert!(
        kept.modified().unwrap() > since && kept.len() > 20_000,
        "{kept:?}"
    );
}
