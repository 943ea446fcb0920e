//! Medians and how they are shown: a table for people, JSON for programs.

use crate::catalog::{Row, Target, Workload, DETAILS};
use std::fmt::Write;

/// The figures of one contender, one per round.
pub struct Figures {
    pub contender: &'static str,
    pub rounds: Vec<f64>,
}

impl Figures {
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        }
    }

    fn least(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.rounds.iter().copied().fold(0.0, f64::max)
    }
}

/// A row with its figures.
pub struct Result {
    pub workload: &'static Workload,
    pub row: &'static Row,
    /// One of those that every workload gives.
    pub detail: bool,
    /// Percent of the processors that others used meanwhile.
    pub others: f64,
    pub figures: Vec<Figures>,
}

impl Result {
    pub fn name(&self) -> String {
        if self.detail {
            format!("{}/{}", self.workload.name, self.row.name)
        } else {
            self.row.name.to_owned()
        }
    }

    fn of(&self, contender: &str) -> Option<&Figures> {
        let mut all = self.figures.iter();
        all.find(|figures| figures.contender == contender)
    }

    /// How many times as good as the other contender Duralog is.
    fn ratio(&self, other: &str) -> Option<f64> {
        let (ours, theirs) = (self.of("duralog")?.median(), self.of(other)?.median());
        let ratio = if self.row.greater_is_better {
            ours / theirs
        } else {
            theirs / ours
        };
        ratio.is_finite().then_some(ratio)
    }

    fn is_met(&self, target: Target) -> Option<bool> {
        Some(match target {
            Target::Times(times, other) => self.ratio(other)? >= times,
            Target::AtLeast(value) => self.of("duralog")?.median() >= value,
            Target::AtMost(value) => self.of("duralog")?.median() <= value,
        })
    }
}

/// Three digits, of a number that is shown divided by `scale`.
fn digits(value: f64, scale: f64) -> String {
    let value = value / scale;
    match value.abs() {
        v if v >= 99.95 || v == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn scale_of(value: f64) -> (f64, &'static str) {
    match value {
        v if v >= 999_500.0 => (1e6, " M"),
        v if v >= 9_999.5 => (1e3, " k"),
        _ => (1.0, ""),
    }
}

fn number(value: f64) -> String {
    let (scale, letter) = scale_of(value);
    format!("{}{letter}", digits(value, scale))
}

/// Median and, in brackets, the least and the most.
fn spread(figures: &Figures) -> String {
    let median = figures.median();
    let (scale, letter) = scale_of(median);
    let show = |value| digits(value, scale);
    format!(
        "{}{letter} ({}..{})",
        show(median),
        show(figures.least()),
        show(figures.most())
    )
}

fn target(target: Target) -> String {
    match target {
        Target::Times(times, other) => format!("{times} x {other}"),
        Target::AtLeast(value) => format!("at least {}", number(value)),
        Target::AtMost(value) => format!("at most {}", number(value)),
    }
}

const COLUMNS: [&str; 4] = ["raw", "duralog", "ndjson", "sqlite"];

fn line(text: &mut String, cells: &[String], widths: &[usize]) {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(out, "{cell:<width$}  ");
    }
    text.push_str(out.trim_end());
    text.push('\n');
}

fn lay_out(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        let cells = rows.iter().filter_map(|row: &Vec<String>| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        line(&mut text, row, &widths);
    }
    text
}

fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// For people.
pub fn table(results: &[Result], about: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in about {
        let _ = writeln!(text, "{name}: {value}");
    }
    let mut rows = vec![cells([
        "row",
        "unit",
        "raw limit",
        "Duralog",
        "NDJSON + fsync",
        "SQLite",
        "x raw",
        "x SQLite",
        "others",
        "to reach",
    ])];
    for result in results.iter().filter(|result| !result.detail) {
        let mut row = vec![result.name(), result.row.unit.to_owned()];
        let show = |name: &str| result.of(name).map_or("-".to_owned(), spread);
        row.extend(COLUMNS.map(show));
        for other in ["raw", "sqlite"] {
            let ratio = result.ratio(other);
            row.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        row.push(format!("{:.0}%", result.others));
        let targets = result.row.targets.iter().map(|&one| {
            let verdict = match result.is_met(one) {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            };
            format!("{}: {verdict}", target(one))
        });
        row.push(targets.collect::<Vec<_>>().join("; "));
        rows.push(row);
        let others = result.figures.iter();
        for other in others.filter(|figures| !COLUMNS.contains(&figures.contender)) {
            let name = format!("  beside {}", other.contender);
            let figure = spread(other);
            let ratio = result.ratio(other.contender);
            let ratio = ratio.map_or(String::new(), |ratio| {
                format!("Duralog is {ratio:.2} x this")
            });
            rows.push(vec![name, String::new(), figure, ratio]);
        }
    }
    text.push('\n');
    text.push_str(&lay_out(&rows));

    let mut rows = vec![cells([
        "detail",
        "unit",
        "raw limit",
        "Duralog",
        "NDJSON + fsync",
        "SQLite",
        "others",
    ])];
    for result in results.iter().filter(|result| result.detail) {
        let mut row = vec![result.name(), result.row.unit.to_owned()];
        let show = |figures: &Figures| number(figures.median());
        row.extend(COLUMNS.map(|name| result.of(name).map_or("-".to_owned(), show)));
        let others = result.figures.iter();
        let others = others.filter(|figures| !COLUMNS.contains(&figures.contender));
        let others = others.map(|figures| format!("{} {}", figures.contender, show(figures)));
        row.push(others.collect::<Vec<_>>().join(", "));
        rows.push(row);
    }
    if rows.len() > 1 {
        text.push('\n');
        text.push_str(&lay_out(&rows));
    }
    text
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if (letter as u32) < 0x20 => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn value(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or("null".to_owned(), |value| value.to_string())
}

/// For programs. README.md describes the fields.
pub fn json(results: &[Result], about: &[(&str, String)]) -> String {
    let mut text = String::from("{\n  \"format\": 1,\n");
    for (name, value) in about {
        let _ = writeln!(text, "  {}: {},", quoted(name), quoted(value));
    }
    text.push_str("  \"rows\": [\n");
    let rows = results.iter().map(|result| {
        let figures = result.figures.iter().map(|figures| {
            let rounds: Vec<String> = figures.rounds.iter().map(|&r| value(Some(r))).collect();
            format!(
                "{}: {{\"median\": {}, \"min\": {}, \"max\": {}, \"rounds\": [{}]}}",
                quoted(figures.contender),
                value(Some(figures.median())),
                value(Some(figures.least())),
                value(Some(figures.most())),
                rounds.join(", ")
            )
        });
        let targets = result.row.targets.iter().map(|&one| {
            let met = result.is_met(one);
            let met = met.map_or("null".to_owned(), |met| met.to_string());
            let target = quoted(&target(one));
            format!("{{\"target\": {target}, \"met\": {met}}}")
        });
        let better = if result.row.greater_is_better {
            "greater"
        } else {
            "less"
        };
        format!(
            "    {{\"row\": {}, \"workload\": {}, \"what\": {}, \"unit\": {}, \"better\": \"{better}\", \
             \"detail\": {}, \"others_percent\": {:.1}, \"times_raw\": {}, \"times_sqlite\": {}, \"targets\": [{}], \
             \"contenders\": {{{}}}}}",
            quoted(&result.name()),
            quoted(result.workload.name),
            quoted(result.workload.what),
            quoted(result.row.unit),
            result.detail,
            result.others,
            value(result.ratio("raw")),
            value(result.ratio("sqlite")),
            targets.collect::<Vec<_>>().join(", "),
            figures.collect::<Vec<_>>().join(", ")
        )
    });
    text.push_str(&rows.collect::<Vec<_>>().join(",\n"));
    text.push_str("\n  ]\n}\n");
    text
}

/// A contender, and the names and numbers that its processes gave, round by round.
pub type OfContender = (&'static str, Vec<Vec<(String, f64)>>);

/// The rows of a workload, from what its processes measured, and what others did meanwhile.
pub fn results_of(
    workload: &'static Workload,
    measured: &[OfContender],
    others: f64,
) -> Vec<Result> {
    let rows = workload.rows.iter().map(|row| (row, false));
    let details = DETAILS.iter().filter(|detail| {
        let mut rows = workload.rows.iter();
        !rows.any(|row| row.key == detail.key)
    });
    let rows = rows.chain(details.map(|row| (row, true)));
    let results = rows.map(|(row, detail)| {
        let figures = measured.iter().filter_map(|(contender, rounds)| {
            let of_key = |round: &Vec<(String, f64)>| {
                let mut values = round.iter();
                values.find(|(name, _)| name == row.key).map(|(_, v)| *v)
            };
            let rounds: Vec<f64> = rounds.iter().filter_map(of_key).collect();
            (!rounds.is_empty()).then_some(Figures { contender, rounds })
        });
        Result {
            workload,
            row,
            detail,
            others,
            figures: figures.collect(),
        }
    });
    results
        .filter(|result| !result.figures.is_empty())
        .collect()
}
