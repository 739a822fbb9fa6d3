//! The picture as one HTML file that needs nothing else, or as an SVG file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::check::length;
use super::record::Leadership;
use super::shapes::{self, COMMITS, LANE, Lane, Mark, Stretch};
use super::{Micros, Node, Timeline, Verdict};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Width of the picture, and where the lanes begin and end in it.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 132.0;
const RIGHT: f64 = 30.0;
/// Above the lanes stands the time.
const TOP: f64 = 30.0;
/// Between two marks of the time, milliseconds: the first that leaves ten or fewer.
const STEPS_MS: [f64; 18] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 3e5, 18e5,
    36e5,
];
/// Leaderships in the table.
const ROWS_MAX: usize = 200;

/// Files of nodes, seen from the page.
type Files = BTreeMap<Node, String>;

/// The whole page.
pub fn html(timeline: &Timeline, title: &str, files: &Files) -> String {
    let verdict = timeline.check();
    let title = escape(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    page += &introduction(timeline);
    page += "<nav><button data-zoom=\"0.5\">closer</button> <button data-zoom=\"2\">farther</button> \
             <button data-zoom=\"0\">all</button> <span class=\"hint\">wheel: closer or farther · drag: \
             along · keys: + − 0 ← →</span></nav>\n<div id=\"frame\">\n";
    page += &picture(timeline, &verdict, Some(files));
    page += "</div>\n<div id=\"tip\" role=\"status\"></div>\n<h2>What it shows</h2>\n";
    page += LEGEND;
    page += &told_findings(&verdict);
    page += &leaderships(timeline);
    let _ = write!(page, "<script>\n{SCRIPT}</script>\n</html>\n");
    page
}

/// The picture alone, with its style, so that it can stand in another page.
pub fn svg_file(timeline: &Timeline, title: &str) -> String {
    let picture = picture(timeline, &timeline.check(), None);
    let head = format!(
        "<title>{}</title>\n<style>\n{STYLE}</style>\n",
        escape(title)
    );
    let ground = "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--ground)\"/>\n";
    let Some((opening, rest)) = picture.split_once('\n') else {
        return picture;
    };
    format!("{opening}\n{head}{ground}{rest}")
}

fn introduction(timeline: &Timeline) -> String {
    let (first, last) = timeline.range();
    let lines: usize = timeline.records.values().map(|record| record.lines).sum();
    let mut text = format!(
        "<p class=\"soft\">{} nodes · {lines} lines of dump.txt · {} from {} UTC on",
        timeline.records.len(),
        length(last - first),
        clock(first, true),
    );
    if let Some(reference) = timeline.clocks.reference() {
        let _ = write!(text, " · times are those of node {reference}");
    }
    if timeline.clocks.is_one() {
        text += " · one machine, one clock";
    }
    text + "</p>\n"
}

/// The SVG element, at its full range; the script goes on from there.
fn picture(timeline: &Timeline, verdict: &Verdict, files: Option<&Files>) -> String {
    let (first, last) = timeline.range();
    let (opens, closes) = timeline.opening();
    let lanes = shapes::lanes(timeline);
    let height = LANE * lanes.len() as f64;
    let (whole, width) = (TOP + height + 8.0, WIDTH - LEFT - RIGHT);
    let draw = Draw {
        first,
        length_ms: (last - first) as f64 / 1e3,
        files,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {whole}\" role=\"img\" \
         aria-label=\"A lane for each node: leaders, leases, promises\">\n{HATCH}"
    );
    for (place, lane) in lanes.iter().enumerate() {
        let y = TOP + LANE * place as f64;
        let _ = writeln!(
            svg,
            "<rect class=\"band\" x=\"0\" y=\"{y}\" width=\"{WIDTH}\" height=\"{}\"/>\
             <text x=\"12\" y=\"{}\" font-weight=\"600\">{}</text>",
            LANE - 4.0,
            y + 36.0,
            lane.title
        );
        for (row, note) in lane.notes.iter().enumerate() {
            let y = y + 53.0 + 14.0 * row as f64;
            let _ = writeln!(
                svg,
                "<text class=\"soft\" x=\"12\" y=\"{y}\">{}</text>",
                escape(note)
            );
        }
    }
    svg += &draw.axis(height, width);
    let _ = writeln!(
        svg,
        "<svg id=\"plot\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {} {height}\" preserveAspectRatio=\"none\" data-start=\"{}\" data-opens=\"{} {}\">",
        number(draw.length_ms),
        first / 1_000,
        number(draw.ms(opens)),
        number((closes - opens) as f64 / 1e3),
    );
    for (place, lane) in lanes.iter().enumerate() {
        draw.lane(&mut svg, lane, LANE * place as f64);
    }
    for finding in &verdict.findings {
        let x = number(draw.ms(finding.at_us));
        let says = draw.says(&finding.what);
        let _ = writeln!(
            svg,
            "<path class=\"finding\" d=\"M{x} 0V{height}\"{says}</path>"
        );
    }
    for claim in timeline.clients.iter().flat_map(|clients| &clients.claims) {
        // Answered in vain: at that moment the clients knew something that can't be.
        let at = timeline
            .clients
            .as_ref()
            .map_or(0, |clients| clients.started_unix_us);
        let x = number(draw.ms(at + claim.return_us.unwrap_or(claim.call_us)));
        let says = draw.says(&format!("not linearizable: {}", claim.says));
        let _ = writeln!(
            svg,
            "<path class=\"finding\" d=\"M{x} 0V{height}\"{says}</path>"
        );
    }
    svg += "</svg>\n<g id=\"labels\">\n";
    for (place, lane) in lanes.iter().enumerate() {
        draw.labels(&mut svg, lane, TOP + LANE * place as f64, width);
    }
    svg + "</g>\n</svg>\n"
}

/// What every shape needs to be put in its place.
struct Draw<'a> {
    first: Micros,
    length_ms: f64,
    files: Option<&'a Files>,
}

impl Draw<'_> {
    fn ms(&self, at: Micros) -> f64 {
        (at - self.first) as f64 / 1e3
    }

    /// The end of a start tag, with what a pointer over the shape shows: a page's script shows it, a picture
    /// alone leaves it to whoever shows the picture.
    fn says(&self, text: &str) -> String {
        match self.files {
            Some(_) => format!(" data-says=\"{}\">", escape(text)),
            None => format!("><title>{}</title>", escape(text)),
        }
    }

    /// Around a shape: a link to its line. A fragment `line=` is that of RFC 5147.
    fn linked(&self, node: Node, line: Option<usize>, shape: &str) -> String {
        let file = self.files.and_then(|files| files.get(&node));
        match (file, line) {
            (Some(file), Some(line)) => {
                format!("<a href=\"{}#line={line}\">{shape}</a>", escape(file))
            }
            _ => shape.to_owned(),
        }
    }

    fn axis(&self, height: f64, width: f64) -> String {
        let mut axis = "<g id=\"axis\">\n".to_owned();
        let step = STEPS_MS.iter().find(|step| self.length_ms / **step <= 10.0);
        let step = step.copied().unwrap_or(self.length_ms / 10.0);
        let start_ms = self.first as f64 / 1e3;
        // Whole steps of the clock, not of the record.
        let mut at_ms = (start_ms / step).ceil() * step - start_ms;
        while at_ms <= self.length_ms {
            let x = LEFT + width * at_ms / self.length_ms;
            let told = clock(self.first + (at_ms * 1e3).round() as Micros, step < 1_000.0);
            let _ = writeln!(
                axis,
                "<line class=\"rule\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"24\" y2=\"{}\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"18\" text-anchor=\"middle\">{told}</text>",
                TOP + height,
            );
            at_ms += step;
        }
        axis + "</g>\n"
    }

    fn lane(&self, svg: &mut String, lane: &Lane, y: f64) {
        for stretch in &lane.stretches {
            self.stretch(svg, lane.node, stretch, y);
        }
        self.commits(svg, lane, y);
        for mark in &lane.marks {
            self.mark(svg, lane.node, mark, y);
        }
    }

    fn stretch(&self, svg: &mut String, node: Node, stretch: &Stretch, y: f64) {
        let (top, bottom) = stretch.row;
        let hue = stretch.term.map_or(String::new(), |term| {
            format!(" style=\"--hue:{}\"", hue(term))
        });
        let rect = format!(
            "<rect class=\"{}\"{hue} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}</rect>",
            stretch.class,
            number(self.ms(stretch.from)),
            y + top,
            number((stretch.until - stretch.from) as f64 / 1e3),
            bottom - top,
            self.says(&stretch.says),
        );
        svg.push_str(&self.linked(node, stretch.line, &rect));
        svg.push('\n');
    }

    fn mark(&self, svg: &mut String, node: Node, mark: &Mark, y: f64) {
        let (top, bottom) = shapes::MARKS;
        let path = format!(
            "<path class=\"mark {}\" d=\"M{} {}V{}\"{}</path>",
            mark.class,
            number(self.ms(mark.at)),
            y + top,
            y + bottom,
            self.says(&mark.says),
        );
        svg.push_str(&self.linked(node, Some(mark.line), &path));
        svg.push('\n');
    }

    fn commits(&self, svg: &mut String, lane: &Lane, y: f64) {
        if lane.commits.is_empty() {
            return;
        }
        let (top, bottom) = COMMITS;
        let mut points = String::new();
        for (at, part) in &lane.commits {
            let height = y + bottom - (bottom - top) * part;
            let _ = write!(points, "{},{height:.1} ", number(self.ms(*at)));
        }
        let says = self.says("entries committed");
        let _ = writeln!(
            svg,
            "<polyline class=\"commits\" points=\"{}\"{says}</polyline>",
            points.trim_end()
        );
    }

    fn labels(&self, svg: &mut String, lane: &Lane, y: f64, width: f64) {
        for stretch in &lane.stretches {
            let Some(label) = &stretch.label else {
                continue;
            };
            let (from, until) = (self.ms(stretch.from), self.ms(stretch.until));
            let place = |ms: f64| LEFT + ms / self.length_ms * width;
            let hidden = match place(until) - place(from) > 44.0 {
                true => "",
                false => " style=\"display:none\"",
            };
            let _ = writeln!(
                svg,
                "<text class=\"label\"{hidden} x=\"{:.1}\" y=\"{}\" data-from=\"{}\" data-until=\"{}\">{}</text>",
                place(from) + 6.0,
                y + 36.0,
                number(from),
                number(until),
                escape(label)
            );
        }
    }
}

fn told_findings(verdict: &Verdict) -> String {
    let mut text = "<h2>Checked</h2>\n".to_owned();
    let compared = verdict.compared;
    if verdict.findings.is_empty() {
        let _ = writeln!(text, "<p>{compared} comparisons, no contradiction.</p>");
    } else {
        let _ = writeln!(
            text,
            "<p>{compared} comparisons. These must not be:</p><ul class=\"wrong\">"
        );
        for finding in &verdict.findings {
            let at = clock(finding.at_us, true);
            let _ = writeln!(text, "<li>{at} {}</li>", escape(&finding.what));
        }
        text += "</ul>\n";
    }
    if !verdict.unjudged.is_empty() {
        text += "<p>Could not be judged:</p><ul>\n";
        for what in &verdict.unjudged {
            let _ = writeln!(text, "<li>{}</li>", escape(what));
        }
        text += "</ul>\n";
    }
    text
}

fn leaderships(timeline: &Timeline) -> String {
    let mut all: Vec<(Node, &Leadership)> = Vec::new();
    for (node, record) in &timeline.records {
        all.extend(record.leaderships.iter().map(|leading| (*node, leading)));
    }
    all.sort_by_key(|(_, leading)| (leading.term, leading.span.from));
    let mut table = "<h2>Leaders</h2>\n<table><tr><th>term<th>node<th>elected<th>led for<th>waited for an older \
                     lease<th>held a lease until<th>how it ended\n"
        .to_owned();
    for (node, leading) in all.iter().take(ROWS_MAX) {
        let waited = leading.wait.map_or("–".to_owned(), |wait| {
            let over = wait.over.unwrap_or(wait.from + wait.remaining);
            length(over - wait.from)
        });
        let lease = leading.leases.last();
        let held = lease.map_or("–".to_owned(), |lease| clock(lease.until, true));
        let _ = writeln!(
            table,
            "<tr><td><span class=\"swatch\" style=\"--hue:{}\"></span>{}<td>{node}<td>{}<td>{}<td>{waited}\
             <td>{held}<td>{}",
            hue(leading.term),
            leading.term,
            clock(leading.span.from, true),
            length(leading.span.until - leading.span.from),
            shapes::ended(leading.ended),
        );
    }
    table += "</table>\n";
    if all.len() > ROWS_MAX {
        let _ = writeln!(
            table,
            "<p class=\"soft\">and {} more</p>",
            all.len() - ROWS_MAX
        );
    }
    table
}

/// Neighbouring terms get colours that are far apart (steps of the golden angle).
fn hue(term: u64) -> u64 {
    (term * 137 + 210) % 360
}

/// Time of the day, UTC.
fn clock(at: Micros, with_ms: bool) -> String {
    let since = Duration::from_micros(u64::try_from(at).unwrap_or(0));
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
    let end = if with_ms { 23 } else { 19 };
    text.get(11..end).unwrap_or(&text).to_owned()
}

/// As short as it can be written with a tenth of a millisecond.
fn number(ms: f64) -> String {
    let text = format!("{ms:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // What XML has no way to write.
            char if char.is_control() && char != '\n' => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}

const HATCH: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
                     patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#fff\" \
                     fill-opacity=\".55\"/><rect width=\"2\" height=\"6\" fill=\"#222\" fill-opacity=\".7\"/>\
                     </pattern></defs>\n";

/// For somebody who has never seen a lease.
const LEGEND: &str = "<ul id=\"legend\">\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"leads\" style=\"--hue:210\" x=\"1\" y=\"2\" width=\"32\" height=\"12\"/></svg>\
leads: elected by a majority. A colour is a term.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"lease\" style=\"--hue:210\" y=\"2\" width=\"34\" height=\"12\"/></svg>\
lease: until its end the leader answers reads from its own memory. Paler: its process has ended, its lease not.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"promise\" style=\"--hue:210\" y=\"3\" width=\"34\" height=\"10\"/></svg>\
promise: this node helps no other leader unheard. A lease rests on the promises of a majority and ends before \
they do.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"wait\" style=\"--hue:210\" y=\"2\" width=\"34\" height=\"12\"/></svg>\
wait: the new leader commits nothing while an older lease may be alive.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><path class=\"commits\" d=\"M0 14L12 10L22 9L34 2\"/></svg>\
entries committed: the higher, the more.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"silent\" width=\"34\" height=\"16\"/></svg>\
no process, or nothing recorded.</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"cut\" y=\"4\" width=\"34\" height=\"8\"/></svg>links cut on request</li>\n\
<li><svg viewBox=\"0 0 34 16\"><rect class=\"gap\" x=\"1\" y=\"3\" width=\"15\" height=\"10\"/><rect class=\"claim\" \
x=\"19\" y=\"3\" width=\"14\" height=\"10\"/></svg>clients: nobody was answered (reads above, writes below) · what no \
order explains</li>\n\
<li><svg viewBox=\"0 0 34 16\"><path class=\"mark election\" d=\"M4 1V15\"/><path class=\"mark elected\" d=\"M12 1V15\"/>\
<path class=\"mark granted\" d=\"M20 1V15\"/><path class=\"mark denied\" d=\"M28 1V15\"/></svg>\
stands for election · elected · votes for · votes against</li>\n\
<li><svg viewBox=\"0 0 34 16\"><path class=\"mark started\" d=\"M4 1V15\"/><path class=\"mark ended\" d=\"M12 1V15\"/>\
<path class=\"mark down\" d=\"M20 1V15\"/><path class=\"mark snapshot\" d=\"M28 1V15\"/></svg>\
process starts · ends · leader gives up, waits or hands over · snapshot</li>\n\
<li><svg viewBox=\"0 0 34 16\"><path class=\"mark fault\" d=\"M4 1V15\"/><path class=\"mark trouble\" d=\"M12 1V15\"/>\
<path class=\"mark lost\" d=\"M20 1V15\"/></svg>a fault on request · trouble · lines left out</li>\n</ul>\n";
