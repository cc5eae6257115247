//! This very program, run as a user would run it, its JSON lines read.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::progress::Cancel;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exit::Exit;

/// How often it is looked whether the program has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// How long it may take to stop when asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to run this program.
#[derive(Debug)]
pub struct Program<'a> {
    executable: PathBuf,
    /// The directory of repository, cache and logs.
    directory: PathBuf,
    threads: usize,
    cancel: &'a Cancel,
}

/// Whether a variable is a setting of this program.
fn is_a_setting(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"COLVAULT_")
}

/// What came of a run.
#[derive(Debug)]
pub struct Done<T> {
    /// Its result.
    pub result: T,
    /// How long the process took, start and end included.
    pub elapsed: Duration,
    /// Its findings and warnings.
    pub complaints: Vec<String>,
}

impl<'a> Program<'a> {
    /// Will run with a repository and a cache in `directory`, and leave its output there.
    pub fn new(directory: &Path, threads: usize, cancel: &'a Cancel) -> Result<Program<'a>> {
        let executable = env::current_exe()
            .map_err(|error| Error::io("this program", "find the file of", error))?;
        let logs = directory.join("logs");
        fs::create_dir(&logs).map_err(|error| Error::io(&logs, "create", error))?;
        Ok(Program { executable, directory: directory.to_owned(), threads, cancel })
    }

    /// Returns where the repository is.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// Runs a command and returns its message of one type. `name` is that of the logs.
    ///
    /// Fails if it does not end with success or with findings.
    pub fn run<T: DeserializeOwned>(
        &self,
        name: &str,
        message_type: &str,
        arguments: &[&OsStr],
    ) -> Result<Done<T>> {
        let [out, err] =
            ["json", "err"].map(|end| self.directory.join(format!("logs/{name}.{end}")));
        let create =
            |path: &Path| File::create(path).map_err(|error| Error::io(path, "create", error));
        let started = Instant::now();
        let child = Command::new(&self.executable)
            // Settings of this host are none of a demonstration.
            .env_clear()
            .args([
                "--config",
                "/dev/null",
                "--json",
                "--quiet",
                "--threads",
                &self.threads.to_string(),
            ])
            .arg("--repo")
            .arg(self.repository())
            .arg("--cache-dir")
            .arg(self.directory.join("cache"))
            .args(arguments)
            .envs(env::vars_os().filter(|(name, _)| !is_a_setting(name)))
            .stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&err)?)
            .spawn()
            .map_err(|error| Error::io(&self.executable, "start", error))?;
        let status = self.wait(child)?;
        let elapsed = started.elapsed();
        self.cancel.check()?;
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|error| Error::io(path, "read", error));
        let code = status.code();
        if ![Exit::Done, Exit::Findings].iter().any(|exit| code == Some(exit.code().into())) {
            return Err(failed(name, status, &read(&err)?));
        }
        let messages = Messages::of(name, &read(&out)?)?;
        Ok(Done {
            result: messages.one(name, message_type)?,
            elapsed,
            complaints: messages.complaints(),
        })
    }

    /// Waits for the end of a process; asks it to stop when this one is asked to.
    fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let failed = |error| Error::io(&self.executable, "wait for", error);
        let mut asked_to_stop: Option<Instant> = None;
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(status);
            }
            match asked_to_stop {
                None if self.cancel.check().is_err() => {
                    // It may have ended just now, or have been asked by the terminal already.
                    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                    asked_to_stop = Some(Instant::now());
                }
                Some(asked) if asked.elapsed() > PATIENCE => child.kill().map_err(failed)?,
                _ => {}
            }
            sleep(PAUSE);
        }
    }
}

/// Says how a run failed: with the last line of its standard error.
fn failed(name: &str, status: ExitStatus, err: &str) -> Error {
    let last = err.lines().last().unwrap_or("nothing");
    let message = serde_json::from_str::<Value>(last).ok().and_then(|line| text(&line, "message"));
    let kind = match status.code() {
        Some(11) => ErrorKind::Locked,
        Some(13) => ErrorKind::Unsupported,
        Some(20) => ErrorKind::Corrupt,
        Some(130) => ErrorKind::Interrupted,
        _ => ErrorKind::Io,
    };
    let said = message.unwrap_or_else(|| last.to_owned());
    Error::new(kind, format!("colvault ({name})"), format!("ended with {status} and said: {said}"))
}

/// The messages of a run.
struct Messages(Vec<Value>);

impl Messages {
    fn of(name: &str, out: &str) -> Result<Messages> {
        let lines: std::result::Result<_, _> = out.lines().map(serde_json::from_str).collect();
        lines.map(Messages).map_err(|error| unexpected(name, "lines of JSON").caused_by(error))
    }

    fn one<T: DeserializeOwned>(&self, name: &str, message_type: &str) -> Result<T> {
        let wanted = |line: &&Value| text(line, "message_type").as_deref() == Some(message_type);
        let expected = format!("a message of type {message_type:?}");
        let line = self.0.iter().rfind(wanted).ok_or_else(|| unexpected(name, &expected))?;
        T::deserialize(line).map_err(|error| unexpected(name, &expected).caused_by(error))
    }

    fn complaints(&self) -> Vec<String> {
        let complaint = |line: &Value| match text(line, "message_type")?.as_str() {
            "warning" => text(line, "message"),
            "finding" => {
                let part = |name| text(line, name).unwrap_or_default();
                Some(format!("{}: {}: {}", part("kind"), part("object"), part("detail")))
            }
            _ => None,
        };
        self.0.iter().filter_map(complaint).collect()
    }
}

fn text(line: &Value, name: &str) -> Option<String> {
    Some(line.get(name)?.as_str()?.to_owned())
}

fn unexpected(name: &str, expected: &str) -> Error {
    let problem = format!("{expected} expected, found something else in what it wrote");
    Error::new(ErrorKind::Invalid, format!("colvault ({name})"), problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::os::unix::process::ExitStatusExt;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Summary {
        files: u64,
    }

    #[test]
    fn the_last_message_of_a_type_and_all_complaints_are_found() {
        let out = r#"{"message_type":"summary","files":1}
{"message_type":"finding","kind":"vanished","object":"/x","detail":"gone"}
{"message_type":"warning","message":"careful"}
{"message_type":"summary","files":2,"more":[]}"#;
        let messages = Messages::of("x", out).unwrap();
        assert_eq!(messages.one::<Summary>("x", "summary").unwrap(), Summary { files: 2 });
        assert_eq!(messages.complaints(), ["vanished: /x: gone", "careful"]);
        assert!(messages.one::<Summary>("x", "initialized").is_err());
        assert!(messages.one::<Summary>("x", "warning").is_err());
        assert!(Messages::of("x", "no JSON").is_err());
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let err = "something\n{\"message_type\":\"exit_error\",\"message\":\"disk on fire\"}\n";
        let error = failed("backup", ExitStatus::from_raw(20 << 8), err);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.problem().ends_with("said: disk on fire"), "{error}");
        let error = failed("backup", ExitStatus::from_raw(9), "");
        assert!(error.problem().contains("signal"), "{error}");
    }
}
