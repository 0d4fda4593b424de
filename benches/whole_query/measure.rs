//! What a run costs: wall clock, CPU time of the process, its peak memory; and the line that says so.
//!
//! CPU time and memory come from `/proc`, so they are zero on other systems than Linux.

use std::fs;
use std::time::Instant;

/// The columns of [`Run::print`].
pub const HEAD: &str = "query        records      records/s   records/CPU s   rows out     peak MB   answer";

/// Ticks of `/proc/self/stat` a second: fixed in Linux's interface, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// A stopwatch for wall clock and CPU time.
pub struct Watch {
    start: Instant,
    cpu_s: f64,
}

/// What a stopwatch showed.
#[derive(Clone, Copy)]
pub struct Spent {
    /// wall clock
    pub wall_s: f64,
    /// CPU time of all threads
    pub cpu_s: f64,
}

impl Watch {
    /// Starts.
    pub fn start() -> Self {
        Self { start: Instant::now(), cpu_s: cpu_s() }
    }

    /// What passed since.
    pub fn spent(&self) -> Spent {
        Spent { wall_s: self.start.elapsed().as_secs_f64(), cpu_s: cpu_s() - self.cpu_s }
    }
}

/// One line of the table.
pub struct Run<'a> {
    /// what ran
    pub name: &'a str,
    /// records in
    pub records: i64,
    /// what it took
    pub spent: Spent,
    /// records out
    pub rows_out: i64,
    /// whether the answer is right
    pub answer: &'a str,
}

impl Run<'_> {
    /// Writes the line.
    pub fn print(&self) {
        let rate = |s: f64| grouped((self.records as f64 / s.max(0.001)) as i64);
        println!(
            "{:<12} {:>10} {:>12} {:>15} {:>10} {:>11}   {}",
            self.name,
            grouped(self.records),
            rate(self.spent.wall_s),
            rate(self.spent.cpu_s),
            grouped(self.rows_out),
            status_mb("VmHWM:"),
            self.answer
        );
    }
}

/// Digits in groups of three.
pub fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A value of `/proc/self/status`, in MB.
pub fn status_mb(name: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0) / 1024
}

fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}
