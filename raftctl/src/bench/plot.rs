//! Pictures of figures: lines or dots over an axis, as an SVG file that needs nothing else. Pure.
//!
//! It is light or dark as its reader has it, and readable in print without colours: each line has a dash and a mark
//! of its own. Deliberately absent: anything that moves.

use std::fmt::Write as _;

use serde::Deserialize;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Where the axes are.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 52.0;

/// Colours that differ for most eyes, on a light and on a dark ground, and the rest of the looks.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2024;--soft:#697077;--rule:#dde1e6;\
--c0:#0b62c4;--c1:#c2410c;--c2:#15803d;--c3:#9333ea;--c4:#0e7490;--c5:#a16207;--c6:#be185d;--c7:#4b5563}\
@media (prefers-color-scheme:dark){:root{--ground:#15181c;--ink:#e6e8eb;--soft:#9aa1a9;--rule:#333a42;\
--c0:#6cb0ff;--c1:#ff9a62;--c2:#5fd38a;--c3:#cf9bff;--c4:#56cde6;--c5:#e6bd50;--c6:#ff8cc0;--c7:#b4bcc6}}\
@media print{:root{--ground:#fff;--ink:#000;--soft:#444;--rule:#ccc;\
--c0:#0b4a94;--c1:#8f2f08;--c2:#0f5c2c;--c3:#6b21a8;--c4:#0a5263;--c5:#6f4405;--c6:#8a1144;--c7:#333}}\
svg{font:13px system-ui,sans-serif}text{fill:var(--ink)}.soft{fill:var(--soft)}.rule{stroke:var(--rule)}\
.ground{fill:var(--ground)}.line{fill:none;stroke-width:2;stroke-linejoin:round}.dot{stroke:none}";

/// Dashes, so that lines are told apart without colours.
const DASHES: [&str; 8] = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2"];

/// What an axis shows, and how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Axis {
    /// What it shows, with the unit.
    pub name: String,
    /// Each step is a multiple of the one before.
    pub is_logarithmic: bool,
    /// Marks that are given; none: round figures.
    pub ticks: Vec<(f64, String)>,
}

/// One series.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// By rising `x`.
    pub points: Vec<(f64, f64)>,
    /// Nothing between the points.
    pub is_dots: bool,
}

/// A picture.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plot {
    /// What it is of.
    pub title: String,
    /// Under what circumstances.
    pub note: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// An axis with its range, and the pixels that it has.
struct Scale {
    first: f64,
    last: f64,
    is_logarithmic: bool,
    from_pixel: f64,
    to_pixel: f64,
}

impl Scale {
    /// Of these values; a linear one begins at 0.
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Scale {
        let given = axis.ticks.iter().map(|(at, _)| *at);
        let is_shown = |value: &f64| value.is_finite() && (!axis.is_logarithmic || *value > 0.0);
        let all: Vec<f64> = values.chain(given).filter(is_shown).collect();
        let lowest = all.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (first, last) = match (all.is_empty(), axis.is_logarithmic) {
            (true, _) => (1.0, 10.0),
            (false, true) if axis.ticks.is_empty() => (
                1.0 / round_step(1.0 / lowest),
                round_step(highest.max(lowest * 1.5)),
            ),
            (false, true) => (lowest, highest.max(lowest * 1.5)),
            (false, false) => (lowest.min(0.0), highest.max(lowest.min(0.0) + 1e-9)),
        };
        let (from_pixel, to_pixel) = pixels;
        Scale {
            first,
            last,
            is_logarithmic: axis.is_logarithmic,
            from_pixel,
            to_pixel,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.is_logarithmic {
            true => (value.max(self.first) / self.first).ln() / (self.last / self.first).ln(),
            false => (value - self.first) / (self.last - self.first),
        };
        self.from_pixel + part * (self.to_pixel - self.from_pixel)
    }

    /// Round figures within the range.
    fn ticks(&self) -> Vec<(f64, String)> {
        let named = |at: f64| (at, figure(at));
        if !self.is_logarithmic {
            let step = round_step((self.last - self.first) / 5.0);
            let count = ((self.last - self.first) / step).floor() as u32;
            let first = (self.first / step).ceil() * step;
            return (0..=count)
                .map(|number| named(first + f64::from(number) * step))
                .collect();
        }
        let decades = (self.last / self.first).log10();
        let steps: &[f64] = if decades > 3.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let from = self.first.log10().floor() as i32;
        let to = self.last.log10().ceil() as i32;
        let all =
            (from..=to).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|at| *at >= self.first * 0.999 && *at <= self.last * 1.001)
            .map(named)
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = steps.iter().find(|step| *step * power >= least * 0.999_999);
    step.copied().unwrap_or(10.0) * power
}

/// A figure as it stands at an axis: 0.05, 2.5, 12,000.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() < 1.0 {
        let digits = (1.0 - value.abs().log10()).ceil().clamp(1.0, 9.0) as usize;
        let text = format!("{value:.digits$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    if value.fract().abs() > 1e-6 && value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The whole file.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || {
            self.lines
                .iter()
                .flat_map(|line| line.points.iter().copied())
        };
        let x = Scale::new(
            &self.x,
            points().map(|(x, _)| x),
            (LEFT + 8.0, WIDTH - RIGHT),
        );
        let y = Scale::new(
            &self.y,
            points().map(|(_, y)| y),
            (HEIGHT - BOTTOM, TOP + 6.0),
        );
        let title = escape(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
             <text x=\"16\" y=\"24\" font-weight=\"600\">{title}</text>\n\
             <text class=\"soft\" x=\"16\" y=\"42\" font-size=\"11\">{}</text>\n",
            escape(&self.note)
        );
        self.axes(&mut svg, &x, &y);
        for (number, line) in self.lines.iter().enumerate() {
            draw(&mut svg, line, number, &x, &y);
        }
        self.legend(&mut svg);
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let ticks = |axis: &Axis, scale: &Scale| match axis.ticks.is_empty() {
            true => scale.ticks(),
            false => axis.ticks.clone(),
        };
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (at, name) in ticks(&self.y, y) {
            let place = y.place(at);
            let _ = writeln!(
                svg,
                "<line class=\"rule\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
                 <text class=\"soft\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                place + 4.0,
                escape(&name)
            );
        }
        for (at, name) in ticks(&self.x, x) {
            let place = x.place(at);
            let _ = writeln!(
                svg,
                "<line class=\"rule\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                 <text class=\"soft\" x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 5.0,
                bottom + 20.0,
                escape(&name)
            );
        }
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text class=\"soft\" transform=\"rotate(-90)\" x=\"{}\" y=\"16\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escape(&self.x.name),
            -(TOP + bottom) / 2.0,
            escape(&self.y.name)
        );
    }

    /// One row above the picture.
    fn legend(&self, svg: &mut String) {
        let mut at = 16.0;
        for (number, line) in self.lines.iter().enumerate() {
            if !line.is_dots {
                let _ = write!(svg, "<path {} d=\"M{at:.0} 58h26\"/>", stroke(number));
            }
            svg.push_str(&mark(number, at + 13.0, 58.0));
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"62\" font-size=\"12\">{}</text>",
                at + 32.0,
                escape(&line.name)
            );
            // A letter is about so wide.
            at += 32.0 + 7.0 * line.name.chars().count() as f64 + 20.0;
        }
    }
}

/// The looks of a line.
fn stroke(number: usize) -> String {
    let colour = number % 8;
    format!(
        "class=\"line\" style=\"stroke:var(--c{colour})\" stroke-dasharray=\"{}\"",
        DASHES[colour]
    )
}

/// A point: round, square, upright or lying, so that it is told apart without colours.
fn mark(number: usize, x: f64, y: f64) -> String {
    let colour = number % 8;
    let path = match number % 4 {
        0 => format!(
            "M{:.1} {y:.1}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0",
            x - 3.5
        ),
        1 => format!("M{:.1} {:.1}h6v6h-6z", x - 3.0, y - 3.0),
        2 => format!("M{x:.1} {:.1}l4 7h-8z", y - 4.0),
        _ => format!("M{x:.1} {:.1}l4 4l-4 4l-4 -4z", y - 4.0),
    };
    format!("<path class=\"dot\" style=\"fill:var(--c{colour})\" d=\"{path}\"/>")
}

/// More points than this would hide the line.
const MARKS_MAX: usize = 30;

fn draw(svg: &mut String, line: &Line, number: usize, x: &Scale, y: &Scale) {
    let places: Vec<(f64, f64)> = line
        .points
        .iter()
        .map(|(at, value)| (x.place(*at), y.place(*value)))
        .collect();
    if !line.is_dots && !places.is_empty() {
        let mut path = String::new();
        for (position, (x, y)) in places.iter().enumerate() {
            let _ = write!(
                path,
                "{}{x:.1} {y:.1}",
                if position == 0 { 'M' } else { 'L' }
            );
        }
        let _ = writeln!(svg, "<path {} d=\"{path}\"/>", stroke(number));
    }
    if line.is_dots || places.len() <= MARKS_MAX {
        for ((x, y), (at, value)) in places.iter().zip(&line.points) {
            let says = format!("{}: {} at {}", line.name, figure(*value), figure(*at));
            let _ = writeln!(
                svg,
                "<g><title>{}</title>{}</g>",
                escape(&says),
                mark(number, *x, *y)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(is_logarithmic: bool) -> Plot {
        Plot {
            title: "a < b".into(),
            y: Axis {
                name: "ms".into(),
                is_logarithmic,
                ..Axis::default()
            },
            lines: vec![
                Line {
                    name: "one".into(),
                    points: vec![(1.0, 0.5), (2.0, 50.0), (3.0, 5_000.0)],
                    is_dots: false,
                },
                Line {
                    name: "two".into(),
                    points: vec![(1.0, 3.0)],
                    is_dots: true,
                },
            ],
            ..Plot::default()
        }
    }

    // Marks are round and within the range, on either kind of axis, and figures are told as people write them.
    #[test]
    fn marks_are_round() {
        let names = |is_logarithmic| {
            let plot = plot(is_logarithmic);
            let values = plot.lines[0].points.iter().map(|(_, y)| *y);
            let ticks = Scale::new(&plot.y, values, (0.0, 1.0)).ticks();
            ticks.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(false),
            ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]
        );
        assert_eq!(
            names(true),
            ["1", "10", "100", "1,000"],
            "of an axis that begins at 0.5 and ends at 5,000"
        );
        assert_eq!(
            [0.05, 2.5, 0.001, 1e6].map(figure),
            ["0.05", "2.5", "0.001", "1,000,000"]
        );
        assert_eq!([0.3, 1.0, 1.1, 7.0].map(round_step), [0.5, 1.0, 2.0, 10.0]);
    }

    // The ends of a range are the ends of the axis; equal steps of a logarithmic one are equal factors.
    #[test]
    fn values_have_their_place() {
        let values = [1.0, 100.0].into_iter();
        let axis = Axis {
            is_logarithmic: true,
            ..Axis::default()
        };
        let wider = Scale::new(&axis, [1.3, 70.0].into_iter(), (0.0, 200.0));
        assert!((wider.first - 1.0).abs() < 1e-9 && (wider.last - 100.0).abs() < 1e-9);
        let scale = Scale::new(&axis, values, (0.0, 200.0));
        for (value, place) in [(1.0, 0.0), (10.0, 100.0), (100.0, 200.0), (0.0, 0.0)] {
            assert!((scale.place(value) - place).abs() < 1e-6, "{value}");
        }
    }

    // It stands by itself: looks for light, dark and print, no address but that of its notation, and no name breaks it.
    #[test]
    fn a_picture_needs_nothing_else() {
        let svg = plot(true).svg();
        for part in [
            "prefers-color-scheme:dark",
            "@media print",
            "a &lt; b",
            "stroke-dasharray",
            "</svg>",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("http").count(), 1);
        assert!(!svg.contains("<script") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(!Plot::default().svg().contains("NaN"), "of nothing");
    }
}
