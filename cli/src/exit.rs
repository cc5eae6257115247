//! How the program ends: exit codes, which are API, and the hint for each kind of failure.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as Clap;
use colvault_engine::error::{Error, ErrorKind};

use crate::output::json::exit_error_line;

/// The exit codes as `--help` lists them.
pub const TABLE: &str = "\
Exit codes:
    0  done
    1  failed
    2  the command line was not understood
    3  finished, with findings
   10  there is no repository
   11  locked, or the session was revoked
   12  wrong password or key
   13  unsupported format, feature or storage
   20  the repository is damaged
  130  interrupted";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// Something failed.
    Failed = 1,
    /// The command line was not understood.
    Usage = 2,
    /// Finished, with findings.
    Findings = 3,
    /// There is no repository.
    NoRepository = 10,
    /// Somebody else holds what is needed.
    Locked = 11,
    /// A password or key that does not open the repository.
    WrongKey = 12,
    /// A format, feature or storage this program does not know.
    Unsupported = 13,
    /// Stored content is damaged.
    Damaged = 20,
    /// A signal asked to stop.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub struct Failure {
    reason: Reason,
    hint: Option<String>,
}

#[derive(Debug)]
enum Reason {
    Engine(Error),
    Usage(String),
}

impl Failure {
    /// Options that do not make sense together.
    pub fn usage(problem: impl Into<String>) -> Self {
        Failure { reason: Reason::Usage(problem.into()), hint: None }
    }

    /// Makes a failure of an error kind this program decides itself.
    pub fn new(kind: ErrorKind, object: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::new(kind, object, problem).into()
    }

    /// Says what to do, in place of the hint for the kind.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What failed, in one line.
    pub fn message(&self) -> String {
        match &self.reason {
            Reason::Engine(error) => error.to_string(),
            Reason::Usage(problem) => problem.clone(),
        }
    }

    /// How the program ends because of it.
    pub fn exit(&self) -> Exit {
        match &self.reason {
            Reason::Usage(_) => Exit::Usage,
            Reason::Engine(error) => consequence(error.kind()).0,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        let usual = match &self.reason {
            Reason::Usage(_) => Some("see --help"),
            Reason::Engine(error) => consequence(error.kind()).1,
        };
        self.hint.as_deref().or(usual)
    }
}

/// The exit code and the usual hint for each kind of failure.
fn consequence(kind: ErrorKind) -> (Exit, Option<&'static str>) {
    match kind {
        ErrorKind::NoRepository => {
            (Exit::NoRepository, Some("create one there: colvault -r REPOSITORY init"))
        }
        ErrorKind::Locked => (Exit::Locked, Some("run the command once more")),
        ErrorKind::WrongKey => {
            (Exit::WrongKey, Some("give the password the repository was sealed with"))
        }
        ErrorKind::Unsupported => (Exit::Unsupported, None),
        ErrorKind::Corrupt => (
            Exit::Damaged,
            Some("colvault check tells what else is damaged; what is intact can be restored"),
        ),
        ErrorKind::Interrupted => (
            Exit::Interrupted,
            Some(
                "run it again: a backup finds what it has stored, restore --delta finishes a restore",
            ),
        ),
        ErrorKind::DamagedSource => (
            Exit::Failed,
            Some(
                "mend it from an older snapshot or in the server, or leave --fail-on-corruption out: \
                 it is then stored as it is, and marked",
            ),
        ),
        ErrorKind::Full => (Exit::Failed, Some("make space and run the command once more")),
        ErrorKind::Invalid
        | ErrorKind::Refused
        | ErrorKind::Io
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists => (Exit::Failed, None),
        _ => (Exit::Failed, None),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { reason: Reason::Engine(error), hint: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Error::io("standard output", "write", error).into()
    }
}

/// Shows help, the version, or what was not understood of the command line.
pub fn not_understood(error: &clap::Error) -> Exit {
    let exit = match error.kind() {
        Clap::DisplayHelp | Clap::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    };
    // Nobody may be listening any more; there is nobody to tell.
    let _ = error.print();
    if exit == Exit::Usage && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let _ = writeln!(io::stderr().lock(), "{}", exit_error_line(exit, message, None));
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_end_with_the_codes_of_the_table() {
        for (kind, code) in [
            (ErrorKind::Io, 1),
            (ErrorKind::Refused, 1),
            (ErrorKind::DamagedSource, 1),
            (ErrorKind::NoRepository, 10),
            (ErrorKind::Locked, 11),
            (ErrorKind::WrongKey, 12),
            (ErrorKind::Unsupported, 13),
            (ErrorKind::Corrupt, 20),
            (ErrorKind::Interrupted, 130),
        ] {
            let failure = Failure::new(kind, "x", "y");
            assert_eq!(failure.exit().code(), code, "{kind:?}");
            assert!(TABLE.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))));
        }
        assert_eq!(Failure::usage("x").exit().code(), 2);
        assert_eq!(Failure::new(ErrorKind::Io, "x", "y").with_hint("z").hint(), Some("z"));
    }
}
