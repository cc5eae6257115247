//! How far an operation has come: counters for JSON, a bar on a terminal.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use colvault_engine::progress::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What was done and what is to be done, in all.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    entries: AtomicU64,
    bytes: AtomicU64,
    entries_expected: AtomicU64,
    bytes_expected: AtomicU64,
    findings: AtomicU64,
    /// When it was last shown.
    shown: Mutex<Instant>,
}

/// Progress at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Entries done.
    pub entries: u64,
    /// Raw bytes done.
    pub bytes: u64,
    /// Entries to be done; 0 when that is not known.
    pub entries_expected: u64,
    /// Raw bytes to be done; 0 when that is not known.
    pub bytes_expected: u64,
    /// Findings so far.
    pub findings: u64,
}

impl Progress {
    /// Begins now, with nothing done.
    pub fn new() -> Self {
        Progress {
            started: Instant::now(),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entries_expected: AtomicU64::new(0),
            bytes_expected: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            shown: Mutex::new(Instant::now()),
        }
    }

    /// Counts what an event says.
    pub fn count(&self, event: &Event<'_>) {
        match event {
            Event::Done { entries, bytes } => {
                self.entries.fetch_add(*entries, Relaxed);
                self.bytes.fetch_add(*bytes, Relaxed);
            }
            Event::Expected { entries, bytes } => {
                self.entries_expected.store(*entries, Relaxed);
                self.bytes_expected.store(*bytes, Relaxed);
            }
            Event::Finding(_) => drop(self.findings.fetch_add(1, Relaxed)),
            _ => {}
        }
    }

    /// Whether `pause` has gone by since this last said so. Never waits for another thread.
    pub fn is_due(&self, pause: Duration) -> bool {
        let Ok(mut shown) = self.shown.try_lock() else { return false };
        let is_due = shown.elapsed() >= pause;
        if is_due {
            *shown = Instant::now();
        }
        is_due
    }

    /// Returns how far it has come.
    pub fn figures(&self) -> Figures {
        Figures {
            elapsed: self.started.elapsed(),
            entries: self.entries.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            entries_expected: self.entries_expected.load(Relaxed),
            bytes_expected: self.bytes_expected.load(Relaxed),
            findings: self.findings.load(Relaxed),
        }
    }
}

/// A bar on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    progress: Progress,
}

const STYLE_OPEN: &str = "{spinner} {msg:<16} {bytes} ({bytes_per_sec}), {prefix} {elapsed}";
const STYLE_KNOWN: &str =
    "{msg:<16} [{wide_bar:.}] {bytes} of {total_bytes} ({bytes_per_sec}), {prefix} eta {eta}";

impl Bar {
    /// Makes one that is drawn only if `is_wanted` and there is a terminal.
    pub fn new(is_wanted: bool) -> Self {
        let bar = ProgressBar::no_length();
        let is_shown = is_wanted && io::stderr().is_terminal();
        bar.set_draw_target(match is_shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        });
        bar.set_style(style(STYLE_OPEN));
        Bar { bar, progress: Progress::new() }
    }

    /// Shows what an event says.
    pub fn event(&self, event: &Event<'_>) {
        self.progress.count(event);
        if self.bar.is_hidden() {
            return;
        }
        match event {
            Event::Stage(name) => {
                self.bar.set_message((*name).to_owned());
                self.bar.enable_steady_tick(Duration::from_millis(200));
            }
            Event::Expected { bytes, .. } if *bytes > 0 => {
                self.bar.set_length(*bytes);
                self.bar.set_style(style(STYLE_KNOWN));
            }
            Event::Done { .. } if self.progress.is_due(Duration::from_millis(100)) => {
                let figures = self.progress.figures();
                self.bar.set_position(figures.bytes);
                let found = match figures.findings {
                    0 => String::new(),
                    number => format!("{number} findings,"),
                };
                self.bar.set_prefix(format!("{} entries, {found}", figures.entries));
            }
            _ => {}
        }
    }

    /// Runs `show` while the bar is out of the way.
    pub fn aside(&self, show: impl FnOnce()) {
        self.bar.suspend(show);
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_understood() {
        for template in [STYLE_OPEN, STYLE_KNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn events_add_up() {
        let progress = Progress::new();
        progress.count(&Event::Expected { entries: 3, bytes: 10 });
        progress.count(&Event::Done { entries: 1, bytes: 4 });
        progress.count(&Event::Done { entries: 0, bytes: 2 });
        let figures = progress.figures();
        assert_eq!((figures.entries, figures.bytes), (1, 6));
        assert_eq!((figures.entries_expected, figures.bytes_expected), (3, 10));
        assert!(!progress.is_due(Duration::from_secs(3600)));
        assert!(progress.is_due(Duration::ZERO));
    }
}
