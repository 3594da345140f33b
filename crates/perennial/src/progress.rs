//! What a person sees while a verb runs: a bar on a terminal, else a line now and then.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Counter, Meter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Shared;
use crate::output;

/// How often the bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(150);
/// How often a line is written where there is no terminal. A run that is over sooner writes none.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const BAR: &str = "{wide_bar:.cyan/black.bright}  {msg}  {binary_bytes_per_sec}  {eta} left";

/// Shows progress until it is dropped.
pub struct Progress {
    /// Dropped to end the thread.
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show what the counters say, unless nobody wants it.
    pub fn show(shared: &Shared, meter: &Arc<Meter>) -> Self {
        if shared.quiet || shared.no_progress {
            return Self { over: None, thread: None };
        }
        let (over, ended) = mpsc::channel();
        let meter = meter.clone();
        let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let watch = move || {
            let wait = |interval| ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout);
            if on_terminal { draw(&meter, wait) } else { write_lines(&meter, wait) }
        };
        // Without the thread the run goes on, unwatched.
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(watch).ok();
        Self { over: Some(over), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it is gone.
            let _ = thread.join();
        }
    }
}

fn draw(meter: &Arc<Meter>, wait: impl Fn(Duration) -> bool) {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(BAR).expect("the template is a constant"));
    while wait(BAR_INTERVAL) {
        let counts = Counts::read(meter);
        bar.set_length(counts.bytes_found.max(counts.bytes_done));
        bar.set_position(counts.bytes_done);
        bar.set_message(counts.text());
    }
    bar.finish_and_clear();
}

fn write_lines(meter: &Arc<Meter>, wait: impl Fn(Duration) -> bool) {
    let mut before = (Instant::now(), 0);
    while wait(LINE_INTERVAL) {
        let counts = Counts::read(meter);
        let now = (Instant::now(), counts.bytes_done);
        let rate = rate(now.0 - before.0, now.1.saturating_sub(before.1));
        before = now;
        output::say(&format!("{}, {}/s", counts.text(), output::bytes(rate)));
    }
}

/// Bytes per second.
fn rate(span: Duration, bytes: u64) -> u64 {
    (bytes as f64 / span.as_secs_f64().max(0.001)) as u64
}

struct Counts {
    files_done: u64,
    files_found: u64,
    bytes_done: u64,
    bytes_found: u64,
    errors: u64,
}

impl Counts {
    fn read(meter: &Meter) -> Self {
        Self {
            files_done: meter.get(Counter::FilesDone),
            files_found: meter.get(Counter::FilesFound),
            bytes_done: meter.get(Counter::BytesDone),
            bytes_found: meter.get(Counter::BytesFound),
            errors: meter.get(Counter::Errors),
        }
    }

    fn text(&self) -> String {
        let (done, found) = (output::count(self.files_done), output::count(self.files_found.max(self.files_done)));
        let (bytes, all) = (output::bytes(self.bytes_done), output::bytes(self.bytes_found.max(self.bytes_done)));
        let errors = match self.errors {
            0 => String::new(),
            count => format!(", {}", output::counted(count, "error", "errors")),
        };
        format!("{done} of {found} files, {bytes} of {all}{errors}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, rate};
    use std::time::Duration;

    #[test]
    fn a_line_says_how_far_it_is() {
        let mut counts = Counts { files_done: 3, files_found: 2000, bytes_done: 512, bytes_found: 1 << 20, errors: 0 };
        assert_eq!(counts.text(), "3 of 2 000 files, 512 B of 1.0 MiB");
        counts.errors = 1;
        assert_eq!(counts.text(), "3 of 2 000 files, 512 B of 1.0 MiB, 1 error");
        assert_eq!(rate(Duration::from_secs(2), 100), 50);
    }
}
