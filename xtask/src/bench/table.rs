//! Medians and ratios, as a table for people and as numbers for programs.

use super::data::Kind;
use super::goals::{self, Medians, Place};
use super::measure::Sample;
use super::{Phase, Program, Settings, room};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Where and with what it was measured.
pub struct Head {
    pub machine: String,
    pub date: String,
    pub versions: String,
    pub store: String,
    pub runs_count: usize,
    pub quick: bool,
}

/// Everything that was measured.
pub struct Report {
    pub head: Head,
    pub programs: Vec<Program>,
    pub samples: Vec<Sample>,
}

/// One row: data, settings, phase.
type Row = (Kind, Settings, Phase);

impl Report {
    /// Prints the table, writes it beside the numbers.
    pub fn write(&self, json: &Path) -> Result<()> {
        let markdown = self.markdown();
        println!("\n{markdown}");
        if let Some(parent) = json.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        let numbers = serde_json::to_string_pretty(&self.json()).context("encode the numbers")?;
        std::fs::write(json, numbers).with_context(|| format!("write {}", json.display()))?;
        let table = json.with_extension("md");
        std::fs::write(&table, markdown).with_context(|| format!("write {}", table.display()))?;
        println!("bench: {} and {}", json.display(), table.display());
        Ok(())
    }

    fn rows(&self) -> BTreeMap<Row, BTreeMap<Program, Medians>> {
        let mut groups: BTreeMap<Row, BTreeMap<Program, Vec<&Sample>>> = BTreeMap::new();
        for sample in &self.samples {
            let row = (sample.data, sample.settings, sample.phase);
            groups.entry(row).or_default().entry(sample.program).or_default().push(sample);
        }
        let medians = |programs: BTreeMap<Program, Vec<&Sample>>| {
            programs.into_iter().map(|(program, samples)| (program, medians_of(&samples))).collect()
        };
        groups.into_iter().map(|(row, programs)| (row, medians(programs))).collect()
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let quick = if self.head.quick { " **Quick: it works; the numbers say little.**" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}, {}.\n{}.", self.head.machine, self.head.date, self.head.versions);
        let _ = writeln!(
            text,
            "Repository in a {}, all on tmpfs; medians of {} runs in turn.{quick}",
            self.head.store, self.head.runs_count
        );
        let _ = writeln!(text, "Each cell: perennial / kopia = ratio; below 1.00 perennial needs less.\n");
        let _ = writeln!(text, "| data | settings | phase | wall s | CPU s | peak MiB | repository MiB | S3 calls |");
        let _ = writeln!(text, "|---|---|---|---|---|---|---|---|");
        for ((data, settings, phase), medians) in self.rows() {
            let column = |value: fn(&Medians) -> Option<f64>, decimals: usize| {
                let of = |program| medians.get(&program).and_then(value);
                cell(of(Program::Perennial), of(Program::Kopia), decimals)
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                data.name(),
                settings.name(),
                phase.name(),
                column(|medians| Some(medians.wall_s), 2),
                column(|medians| Some(medians.cpu_s), 2),
                column(|medians| Some(medians.peak_mib), 0),
                column(|medians| Some(medians.repository_mib), 1),
                column(|medians| medians.s3_calls, 0),
            );
        }
        self.write_goals(&mut text);
        text
    }

    /// Which goals are missed; those of quick runs are not looked at.
    fn write_goals(&self, text: &mut String) {
        if self.head.quick || self.programs.len() < 2 {
            return;
        }
        let mut missed = Vec::new();
        for ((data, settings, phase), medians) in self.rows() {
            let (Some(ours), Some(kopias)) = (medians.get(&Program::Perennial), medians.get(&Program::Kopia)) else {
                continue;
            };
            let place = Place { data, settings, phase, is_bucket: ours.s3_calls.is_some() };
            let row = format!("{}, {}, {}", data.name(), settings.name(), phase.name());
            missed.extend(goals::missed(place, *ours, *kopias).into_iter().map(|what| format!("- {row}: {what}")));
        }
        let _ = match missed.is_empty() {
            true => writeln!(text, "\nAll goals are met."),
            false => writeln!(text, "\nGoals that are missed:\n\n{}", missed.join("\n")),
        };
    }

    fn json(&self) -> Value {
        let samples: Vec<Value> = self.samples.iter().map(sample_json).collect();
        let medians: Vec<Value> = self
            .rows()
            .into_iter()
            .flat_map(|(row, programs)| programs.into_iter().map(move |found| (row, found)))
            .map(|((data, settings, phase), (program, medians))| {
                json!({
                    "data": data.name(), "settings": settings.name(), "phase": phase.name(), "program": program.name(),
                    "wallSeconds": medians.wall_s, "cpuSeconds": medians.cpu_s, "peakMiB": medians.peak_mib,
                    "repositoryMiB": medians.repository_mib, "s3Calls": medians.s3_calls,
                })
            })
            .collect();
        json!({
            "machine": self.head.machine, "date": self.head.date, "versions": self.head.versions, "store": self.head.store,
            "quick": self.head.quick, "runs": self.head.runs_count,
            "programs": self.programs.iter().map(|program| program.name()).collect::<Vec<_>>(),
            "medians": medians, "samples": samples,
        })
    }
}

fn medians_of(samples: &[&Sample]) -> Medians {
    let median_of = |value: fn(&Sample) -> f64| median(samples.iter().map(|sample| value(sample)).collect());
    let calls: Option<Vec<f64>> =
        samples.iter().map(|sample| sample.s3_calls_count.map(|count| count as f64)).collect();
    Medians {
        wall_s: median_of(|sample| sample.measured.wall.as_secs_f64()),
        cpu_s: median_of(|sample| sample.measured.cpu.as_secs_f64()),
        peak_mib: median_of(|sample| mebibytes(sample.measured.peak_bytes)),
        repository_mib: median_of(|sample| mebibytes(sample.repository_bytes)),
        s3_calls: calls.map(median),
    }
}

fn sample_json(sample: &Sample) -> Value {
    json!({
        "data": sample.data.name(), "settings": sample.settings.name(), "phase": sample.phase.name(),
        "program": sample.program.name(), "run": sample.run,
        "wallSeconds": sample.measured.wall.as_secs_f64(), "cpuSeconds": sample.measured.cpu.as_secs_f64(),
        "peakBytes": sample.measured.peak_bytes, "repositoryBytes": sample.repository_bytes,
        "s3Calls": sample.s3_calls_count,
    })
}

fn cell(ours: Option<f64>, kopias: Option<f64>, decimals: usize) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"));
    match (ours, kopias) {
        (None, None) => "–".to_owned(),
        (Some(our), Some(kopia)) if kopia > 0.0 => {
            format!("{} / {} = {:.2}", number(ours), number(kopias), our / kopia)
        }
        _ => format!("{} / {}", number(ours), number(kopias)),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Processor, cores, kernel and memory.
pub fn machine() -> Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    let cores_count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's version")?;
    let memory = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let memory_gib = room::memory_line_kib(&memory, "MemTotal:").unwrap_or(0) as f64 / f64::from(1 << 20);
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    Ok(format!("{model}, {cores_count} cores, Linux {}, {memory_gib:.0} GiB", kernel.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::measure::Measured;
    use super::*;
    use std::time::Duration;

    fn sample(program: Program, run: usize, wall_ms: u64) -> Sample {
        Sample {
            data: Kind::Small,
            settings: Settings::Default,
            phase: Phase::First,
            program,
            run,
            measured: Measured {
                wall: Duration::from_millis(wall_ms),
                cpu: Duration::from_secs(1),
                peak_bytes: 1 << 20,
            },
            repository_bytes: 3 << 20,
            s3_calls_count: None,
        }
    }

    #[test]
    fn a_row_shows_medians_and_their_ratio() {
        let samples = vec![
            sample(Program::Perennial, 1, 900),
            sample(Program::Kopia, 1, 2000),
            sample(Program::Perennial, 2, 1000),
            sample(Program::Perennial, 3, 5000),
        ];
        let head = Head {
            machine: "m".into(),
            date: "d".into(),
            versions: "v".into(),
            store: "directory".into(),
            runs_count: 3,
            quick: false,
        };
        let report = Report { head, programs: vec![Program::Perennial, Program::Kopia], samples };
        let markdown = report.markdown();
        let row = "| small files | no compression | first backup | 1.00 / 2.00 = 0.50 | 1.00 / 1.00 = 1.00 | \
                   1 / 1 = 1.00 | 3.0 / 3.0 = 1.00 | – |";
        assert!(markdown.contains(row), "{markdown}");
        let missed =
            "Goals that are missed:\n\n- small files, no compression, first backup: processor time 1.00 instead";
        assert!(markdown.contains(missed), "{markdown}");
        assert_eq!(report.json()["samples"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
