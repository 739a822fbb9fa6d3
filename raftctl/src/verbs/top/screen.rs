//! The picture. Pure: the model in, cells out.
//!
//! A wide terminal has one row a node; a narrow one has two tables, so that nothing is left out at 80
//! columns. What does not fit in height are events.

use std::time::{Duration, SystemTime};

use raftkv::admin::{Role, StatusReply};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, Wrap};

use super::model::{Happened, Look, Model};
use crate::hosts::control::ProcessState;
use crate::ops::alarms::{Severity, lag};
use crate::ops::rates::Rates;
use crate::ops::status::{NodeStatus, Snapshot};

/// From so many columns on everything of a node fits into one row.
const WIDE: u16 = 132;

/// Cells of a countdown's bar.
const BAR_CELLS: u64 = 8;

/// Alarms that are shown; of more their number is.
const ALARMS_MAX: usize = 4;

const KEYS: &str = "↑↓ 1-9 node  k kill  p pause  r resume  c cut off  h heal  t transfer  q quit";

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let Some(look) = &model.look else {
        let text = format!("cluster {} ({}): looking", model.cluster, model.provider);
        return frame.render_widget(Paragraph::new(text), frame.area());
    };
    let area = frame.area();
    let is_wide = area.width >= WIDE;
    // A node is a row, and each table has a head.
    let rows = u16::try_from(look.snapshot.nodes.len() + 1).unwrap_or(u16::MAX);
    let tables = rows.saturating_mul(if is_wide { 1 } else { 2 });
    let alarms = alarm_lines(look);
    let alarm_rows = u16::try_from(alarms.len()).unwrap_or(u16::MAX);
    let [head, nodes, above, events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(tables),
        Constraint::Length(alarm_rows),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(head_line(model, look), head);
    if is_wide {
        let columns: Vec<&Column> = CONSENSUS.iter().chain(LOAD).chain(NOTE).collect();
        frame.render_widget(table(model, look, &columns), nodes);
    } else {
        let [consensus, load] = Layout::vertical([Constraint::Length(rows); 2]).areas(nodes);
        let columns: Vec<&Column> = CONSENSUS.iter().chain(NOTE).collect();
        frame.render_widget(table(model, look, &columns), consensus);
        let columns: Vec<&Column> = CONSENSUS.iter().take(1).chain(LOAD).collect();
        frame.render_widget(table(model, look, &columns), load);
    }
    frame.render_widget(Paragraph::new(alarms), above);
    frame.render_widget(Paragraph::new(event_lines(model, events.height)), events);
    let keys_style = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(KEYS).style(keys_style), keys);
    ask(frame, model);
}

fn head_line(model: &Model, look: &Look) -> Paragraph<'static> {
    let snapshot = &look.snapshot;
    let leader = match snapshot.leader {
        Some(id) => format!("node {id} leads"),
        None => "no leader".to_owned(),
    };
    let term = snapshot
        .term
        .map_or(String::new(), |term| format!(", term {term}"));
    let survives = snapshot.membership().and_then(|known| known.survives);
    let survives = survives.map_or(String::new(), |count| match count {
        0 => ", survives no failure".to_owned(),
        1 => ", survives 1 failure".to_owned(),
        count => format!(", survives {count} failures"),
    });
    let busy = match model.under_way {
        0 => "",
        _ => " … ",
    };
    let text = format!(
        "cluster {} ({}): {leader}{term}{survives}{busy}",
        model.cluster, model.provider
    );
    Paragraph::new(text).style(Style::new().add_modifier(Modifier::BOLD))
}

/// A column: its head, its width, and what stands in it.
struct Column {
    head: &'static str,
    width: u16,
    cell: fn(&Shown<'_>) -> String,
}

/// A node, with what its cells are made of.
struct Shown<'a> {
    node: &'a NodeStatus,
    reply: Option<&'a StatusReply>,
    snapshot: &'a Snapshot,
    rates: Rates,
}

const fn column(head: &'static str, width: u16, cell: fn(&Shown<'_>) -> String) -> Column {
    Column { head, width, cell }
}

const CONSENSUS: &[Column] = &[
    column("NODE", 4, |it| it.node.id.to_string()),
    column("ROLE", 9, role),
    column("TERM", 6, |it| told(it, |reply| reply.term.to_string())),
    column("LEASE", 14, lease),
    column("PROMISED", 12, promises),
    column("LAG", 6, |it| {
        told(it, |reply| lag(it.snapshot, reply).to_string())
    }),
];

const LOAD: &[Column] = &[
    column("SET/s", 7, |it| per_second(it.rates.writes_per_second)),
    column("p99", 6, |it| time(it.rates.write_p99)),
    column("GET/s", 7, |it| per_second(it.rates.reads_per_second)),
    column("p99", 6, |it| time(it.rates.read_p99)),
    column("FSYNC p99", 9, |it| time(it.rates.fsync_p99)),
    column("MEMORY", 7, memory),
    column("DISK FREE", 9, |it| {
        told(it, |reply| {
            reply.disk.map_or("-".into(), |disk| bytes(disk.free_bytes))
        })
    }),
];

/// As wide as what is left.
const NOTE: &[Column] = &[column("", 0, note)];

fn table<'a>(model: &Model, look: &'a Look, columns: &[&Column]) -> Table<'a> {
    let widths = columns.iter().map(|column| match column.width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    let head = Row::new(columns.iter().map(|column| column.head))
        .style(Style::new().add_modifier(Modifier::DIM));
    let rows = look.snapshot.nodes.iter().map(|node| {
        let shown = Shown {
            node,
            reply: node.reply.as_ref().ok(),
            snapshot: &look.snapshot,
            rates: look.rates.get(&node.id).copied().unwrap_or_default(),
        };
        let cells = columns
            .iter()
            .map(|column| Cell::new((column.cell)(&shown)));
        let is_selected = model.selected == Some(node.id);
        Row::new(cells.collect::<Vec<_>>()).style(style(node, is_selected))
    });
    Table::new(rows.collect::<Vec<_>>(), widths)
        .header(head)
        .column_spacing(1)
}

fn style(node: &NodeStatus, is_selected: bool) -> Style {
    let style = match node.reply.as_ref().map(StatusReply::role) {
        Ok(Role::Leader) => Style::new().fg(Color::Green).add_modifier(Modifier::BOLD),
        Ok(Role::Candidate) => Style::new().fg(Color::Yellow),
        Ok(Role::Follower | Role::Unspecified) => Style::new(),
        Err(_) => Style::new().fg(Color::Red),
    };
    match is_selected {
        true => style.add_modifier(Modifier::REVERSED),
        false => style,
    }
}

fn told(shown: &Shown<'_>, cell: impl Fn(&StatusReply) -> String) -> String {
    shown.reply.map_or("-".to_owned(), cell)
}

fn role(shown: &Shown<'_>) -> String {
    match (shown.reply, shown.node.process) {
        (Some(_), _) => shown.node.role().to_owned(),
        (None, Some(ProcessState::Stopped)) => "dead".to_owned(),
        (None, Some(ProcessState::Paused)) => "paused".to_owned(),
        (None, Some(ProcessState::Running) | None) => "silent".to_owned(),
    }
}

/// What is left of the own lease; of an older one, while it is waited for.
fn lease(shown: &Shown<'_>) -> String {
    told(shown, |reply| {
        match (reply.old_lease_remaining_ms, reply.lease_remaining_ms) {
            (Some(left), _) => format!("waits {}", seconds(left)),
            (None, Some(left)) => {
                format!("{} {}", bar(left, reply.lease_duration_ms), seconds(left))
            }
            (None, None) => "-".to_owned(),
        }
    })
}

/// A bar that gets shorter.
fn bar(left_ms: u64, whole_ms: u64) -> String {
    let eighths = (left_ms * BAR_CELLS * 8).checked_div(whole_ms).unwrap_or(0);
    let eighths = usize::try_from(eighths.min(BAR_CELLS * 8)).unwrap_or(0);
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    let bar = format!("{}{part}", "█".repeat(eighths / 8));
    format!("{bar:<8}")
}

/// To whom a lease is promised, and for how long; the one that ends last stands for all.
fn promises(shown: &Shown<'_>) -> String {
    let forgotten =
        |reply: &StatusReply| reply.forgotten_promises_remaining_ms.map(|left| (0, left));
    let last = |reply: &StatusReply| {
        let open = reply
            .promises
            .iter()
            .map(|it| (it.leader_id, it.remaining_ms));
        open.max_by_key(|it| it.1).or_else(|| forgotten(reply))
    };
    told(shown, |reply| match last(reply) {
        Some((0, left)) => format!("anyone {}", seconds(left)),
        Some((id, left)) => format!("node {id} {}", seconds(left)),
        None => "-".to_owned(),
    })
}

fn memory(shown: &Shown<'_>) -> String {
    let figures = shown.reply.and_then(|reply| reply.figures.as_ref());
    let known = figures
        .map(|it| it.resident_memory_bytes)
        .filter(|bytes| *bytes > 0);
    known.map_or("-".to_owned(), bytes)
}

/// What is not as it should be with the node, in few words: alarms say more.
fn note(shown: &Shown<'_>) -> String {
    if let Some(error) = &shown.node.host_error {
        return format!("its host: {}", error.lines().next().unwrap_or_default());
    }
    let Some(reply) = shown.reply else {
        return String::new();
    };
    let cut: Vec<String> = reply
        .cut_links
        .iter()
        .map(|cut| cut.peer_id.to_string())
        .collect();
    if !cut.is_empty() {
        let left = reply
            .cut_links
            .iter()
            .map(|cut| cut.remaining_ms)
            .max()
            .unwrap_or(0);
        return format!("cut off from {}, {} s", cut.join(" "), left / 1000);
    }
    if shown.node.is_filtered {
        return "cut off by a packet filter".to_owned();
    }
    let silent: Vec<String> = reply
        .unreachable_peers
        .iter()
        .map(|it| it.peer_id.to_string())
        .collect();
    match silent.is_empty() {
        true => String::new(),
        false => format!("can't reach {}", silent.join(" ")),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate < 10_000.0 => format!("{rate:.0}"),
        Some(rate) => format!("{:.1} k", rate / 1000.0),
        None => "-".to_owned(),
    }
}

fn time(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10 => format!("{mib}.{} MiB", (bytes >> 10) % 1024 * 10 / 1024),
        mib @ 10..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

fn alarm_lines(look: &Look) -> Vec<Line<'static>> {
    let alarms = &look.alarms;
    let shown = match alarms.len() {
        count if count > ALARMS_MAX => ALARMS_MAX - 1,
        count => count,
    };
    let mut lines: Vec<Line> = alarms[..shown]
        .iter()
        .map(|alarm| {
            let color = match alarm.rule.severity() {
                Severity::Page => Color::Red,
                Severity::Ticket => Color::Yellow,
            };
            let name = Span::styled(
                alarm.rule.name(),
                Style::new().fg(color).add_modifier(Modifier::BOLD),
            );
            Line::from(vec![
                name,
                format!(" {}; {}", alarm.text, alarm.rule.advice()).into(),
            ])
        })
        .collect();
    if shown < alarms.len() {
        lines.push(format!("and {} more", alarms.len() - shown).into());
    }
    lines
}

/// As many of the last events as there is room for, the newest below.
fn event_lines(model: &Model, rows: u16) -> Vec<Line<'static>> {
    let first = model.events.len().saturating_sub(rows.into());
    let line = |event: &Happened| Line::from(format!("{} {}", clock(event.at), event.text));
    model.events.range(first..).map(line).collect()
}

/// The time of day, in UTC as in dump.txt.
fn clock(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_millis(at).to_string();
    text.get(11..23).unwrap_or_default().to_owned()
}

/// The question, over everything else.
fn ask(frame: &mut Frame<'_>, model: &Model) {
    let Some(act) = model.asked else { return };
    let lines = vec![
        Line::from(format!("{}?", capital(&act.words()))),
        Line::from(act.consequence()),
        Line::from("y: yes   any other key: no"),
    ];
    let area = middle(frame.area(), 46, 5);
    frame.render_widget(Clear, area);
    let block = Block::bordered().border_style(Style::new().fg(Color::Yellow));
    let text = Paragraph::new(lines).block(block);
    let text = text.alignment(Alignment::Center).wrap(Wrap { trim: true });
    frame.render_widget(text, area);
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn middle(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}
