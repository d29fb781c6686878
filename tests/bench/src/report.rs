//! What the benchmark prints: one line for each row, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Load;
use crate::machine::Limits;
use crate::process::Cpu;

/// What a figure counts, and which direction is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second: more is better.
    Rate,
    /// Milliseconds: fewer are better.
    Millis,
    /// Seconds: fewer are better.
    Seconds,
    /// MiB: fewer are better.
    Mebibytes,
    /// KiB: fewer are better.
    Kibibytes,
    /// Hundredths: fewer are better.
    Percent,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Rate => "/s",
            Unit::Millis => " ms",
            Unit::Seconds => " s",
            Unit::Mebibytes => " MiB",
            Unit::Kibibytes => " KiB",
            Unit::Percent => " %",
        }
    }

    fn text(self, figure: f64) -> String {
        let name = self.name();
        match figure {
            _ if figure >= 1000.0 => format!("{}{name}", grouped(figure.round() as u64)),
            _ if figure >= 100.0 => format!("{figure:.0}{name}"),
            _ if figure >= 10.0 => format!("{figure:.1}{name}"),
            _ => format!("{figure:.2}{name}"),
        }
    }

    /// Whether a figure is at least as good as another one.
    fn reaches(self, figure: f64, other: f64) -> bool {
        if self == Unit::Rate { figure >= other } else { figure <= other }
    }
}

/// Which limit of the machine a row is held against.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Flushes to disk a second.
    Syncs,
    /// Requests a second that an echo over TCP answers.
    Tcp,
    /// Datagrams a second that an echo over UDP answers.
    Udp,
    /// Bytes a second of one loopback connection; the row's own bytes a second are beside it.
    Stream(f64),
    /// Seconds that it takes to copy the same bytes into a file and to flush it.
    Copy(f64),
}

/// One row: what is wanted and what was reached.
pub(crate) struct Row {
    /// Short name, for choosing rows.
    pub(crate) id: &'static str,
    /// What is measured.
    pub(crate) work: &'static str,
    /// What the figures count.
    pub(crate) unit: Unit,
    /// Least that is acceptable, where there is such a figure.
    pub(crate) floor: Option<f64>,
    /// What is wanted, where there is such a figure.
    pub(crate) goal: Option<f64>,
    /// What was measured.
    pub(crate) reached: f64,
    /// Median latency.
    pub(crate) p50: Option<Duration>,
    /// Latency that one in a hundred exceeds.
    pub(crate) p99: Option<Duration>,
    /// Processor time, and the seconds in which it was used.
    pub(crate) cpu: Option<(Cpu, f64)>,
    /// The limit of the machine that this row is held against.
    pub(crate) beside: Option<Beside>,
    /// What etcd reached in the same minutes: its rate and its 99th percentile.
    pub(crate) etcd: Option<(f64, Duration)>,
    /// What else there is to know.
    pub(crate) note: String,
}

impl Row {
    /// A row that has no figures yet.
    pub(crate) fn new(id: &'static str, work: &'static str, unit: Unit) -> Row {
        Row {
            id,
            work,
            unit,
            floor: None,
            goal: None,
            reached: 0.0,
            p50: None,
            p99: None,
            cpu: None,
            beside: None,
            etcd: None,
            note: String::new(),
        }
    }

    /// Says what is wanted.
    pub(crate) fn wants(self, floor: f64, goal: f64) -> Row {
        Row { floor: Some(floor), goal: Some(goal), ..self }
    }

    /// Says what was reached.
    pub(crate) fn reached(self, figure: f64) -> Row {
        Row { reached: figure, ..self }
    }

    /// Says what was reached by putting on load.
    pub(crate) fn loaded(self, load: &Load) -> Row {
        let (p50, p99) = (Some(load.latency.quantile(0.5)), Some(load.latency.quantile(0.99)));
        Row { reached: load.rate(), p50, p99, cpu: Some((load.cpu, load.seconds)), ..self }
    }

    fn verdict(&self) -> &'static str {
        match (self.floor, self.goal) {
            (_, Some(goal)) if self.unit.reaches(self.reached, goal) => "goal",
            (Some(floor), _) if self.unit.reaches(self.reached, floor) => "floor",
            (Some(_), _) => "BELOW",
            (None, _) => "",
        }
    }

    /// What share of the machine's limit this is, in words.
    fn share(&self, limits: &Limits) -> String {
        let part = |figure: f64, limit: f64, of: &str| if limit > 0.0 { format!("{:.2} of {of}", figure / limit) } else { String::new() };
        match self.beside {
            Some(Beside::Syncs) => part(self.reached, limits.syncs, "syncs"),
            Some(Beside::Tcp) => part(self.reached, limits.tcp, "TCP echo"),
            Some(Beside::Udp) => part(self.reached, limits.udp, "UDP echo"),
            Some(Beside::Stream(bytes)) => part(bytes, limits.stream, "stream"),
            Some(Beside::Copy(seconds)) => format!("{:.1} times a copy", self.reached / seconds),
            None => String::new(),
        }
    }

    fn cells(&self, limits: &Limits) -> [String; 11] {
        let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| self.unit.text(figure));
        let cpu = self
            .cpu
            .map(|(cpu, seconds)| format!("{:.2} + {:.2} + {:.2}", cpu.server / seconds, cpu.generator / seconds, cpu.others() / seconds));
        let etcd = self.etcd.map(|(rate, p99)| format!("{} ({:.2}×; p99 {})", self.unit.text(rate), self.reached / rate, time(Some(p99))));
        [
            self.work.to_owned(),
            figure(self.floor),
            figure(self.goal),
            self.unit.text(self.reached),
            self.verdict().to_owned(),
            time(self.p50),
            time(self.p99),
            cpu.unwrap_or_default(),
            self.server_micros().map_or_else(String::new, |micros| format!("{micros:.1} µs")),
            self.share(limits),
            etcd.unwrap_or_default(),
        ]
    }

    /// Microseconds of the server's processor time that one operation took.
    fn server_micros(&self) -> Option<f64> {
        let (cpu, seconds) = self.cpu.filter(|_| self.unit == Unit::Rate)?;
        Some(cpu.server / seconds / self.reached * 1e6)
    }

    fn json(&self) -> Value {
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1000.0);
        json!({
            "id": self.id, "work": self.work, "unit": self.unit.name().trim(),
            "floor": self.floor, "goal": self.goal, "reached": self.reached, "verdict": self.verdict(),
            "p50_ms": millis(self.p50), "p99_ms": millis(self.p99),
            "cpu": self.cpu.map(|(cpu, seconds)| json!({
                "server_s": cpu.server, "generator_s": cpu.generator, "others_s": cpu.others(), "of_s": seconds,
            })),
            "server_us_per_operation": self.server_micros(),
            "etcd": self.etcd.map(|(rate, p99)| json!({"reached": rate, "p99_ms": millis(Some(p99))})),
            "note": self.note,
        })
    }
}

/// The whole report as a table.
pub(crate) fn table(rows: &[Row], limits: &Limits) -> String {
    let head =
        ["work", "floor", "goal", "reached", "", "p50", "p99", "CPUs: server + load + other", "server/op", "of the machine", "beside etcd"]
            .map(str::to_owned);
    let cells: Vec<[String; 11]> = std::iter::once(head).chain(rows.iter().map(|row| row.cells(limits))).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..11).map(width).collect();
    let mut out = String::new();
    for row in &cells {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    let Limits { syncs, tcp, udp, stream } = *limits;
    let rate = |figure| Unit::Rate.text(figure);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\nthe machine: {} fdatasync, {} TCP echo, {} UDP echo, {:.2} GB/s over one stream",
        rate(syncs),
        rate(tcp),
        rate(udp),
        stream / 1e9
    );
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        let _ = writeln!(out, "{}: {}", row.work, row.note);
    }
    out
}

/// The whole report for programs.
pub(crate) fn json(rows: &[Row], limits: &Limits) -> Value {
    json!({
        "machine": {"fdatasync_per_s": limits.syncs, "tcp_echo_per_s": limits.tcp, "udp_echo_per_s": limits.udp, "stream_bytes_per_s": limits.stream},
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}

fn time(time: Option<Duration>) -> String {
    let Some(time) = time else { return String::new() };
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.0} µs") } else { Unit::Millis.text(micros / 1000.0) }
}

/// A number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.char_indices().flat_map(|(at, digit)| comma(at).then_some(',').into_iter().chain([digit])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_know_which_direction_is_better() {
        let verdict = |unit, floor, goal, figure| Row::new("", "", unit).wants(floor, goal).reached(figure).verdict();
        assert_eq!(verdict(Unit::Rate, 10.0, 20.0, 25.0), "goal");
        assert_eq!(verdict(Unit::Rate, 10.0, 20.0, 10.0), "floor");
        assert_eq!(verdict(Unit::Rate, 10.0, 20.0, 9.0), "BELOW");
        assert_eq!(verdict(Unit::Millis, 100.0, 40.0, 39.0), "goal");
        assert_eq!(verdict(Unit::Millis, 100.0, 40.0, 99.0), "floor");
        assert_eq!(verdict(Unit::Millis, 100.0, 40.0, 101.0), "BELOW");
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(Unit::Rate.text(1_234_567.0), "1,234,567/s");
        assert_eq!(Unit::Millis.text(12.34), "12.3 ms");
        assert_eq!(time(Some(Duration::from_micros(850))), "850 µs");
    }
}
