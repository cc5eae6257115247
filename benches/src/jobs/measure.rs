//! Running a command and learning what it took.
//!
//! A command runs below a process of its own, so that the operating system's figures for finished
//! children (`getrusage`) are those of this command alone, its own children included.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What a command took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds from start to end, with the wait until everything was on the disk.
    pub wall: f64,
    /// Of these, seconds of that wait.
    pub sync: f64,
    /// Seconds of all cores, in the program and in the kernel.
    pub cpu: f64,
    /// The most memory its largest process had, in KiB.
    pub peak_kib: u64,
}

/// Runs the command and writes what it took to `result`.
pub fn run_measured(result: &Path, command: &[OsString]) -> Outcome<()> {
    let (program, arguments) = command.split_first().ok_or("no command was given")?;
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).status()?;
    let wall = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{}: {status}", program.display()).into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let usage = Usage {
        wall,
        sync: 0.0,
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_kib: u64::try_from(usage.max_rss())?,
    };
    Ok(serde_json::to_writer(File::create(result)?, &usage)?)
}

/// Runs a prepared command to its end and then waits until what it wrote below `written` is on
/// the disk.
pub fn measure(command: &Command, log: &Path, written: &Path) -> Outcome<Usage> {
    let result = log.with_extension("usage");
    let output = File::options().create(true).append(true).open(log)?;
    let mut measured = Command::new(std::env::current_exe()?);
    measured.arg("measured").arg(&result).arg("--").arg(command.get_program());
    measured.args(command.get_args()).stdin(Stdio::null());
    measured.stdout(output.try_clone()?).stderr(output);
    if let Some(directory) = command.get_current_dir() {
        measured.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        measured.env(name, value.unwrap_or_default());
    }
    let status = measured.status()?;
    if !status.success() {
        let text = std::fs::read_to_string(log)?;
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        return Err(format!("{command:?}: {status}\n  {tail}").into());
    }
    let mut usage: Usage = serde_json::from_reader(File::open(&result)?)?;
    usage.sync = sync(written)?;
    usage.wall += usage.sync;
    Ok(usage)
}

/// Waits until everything on the file system of `path` is on the disk; returns the seconds.
pub fn sync(path: &Path) -> Outcome<f64> {
    let begun = Instant::now();
    rustix::fs::syncfs(File::open(path)?)?;
    Ok(begun.elapsed().as_secs_f64())
}
