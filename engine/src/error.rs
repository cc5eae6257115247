//! Errors: what failed, on which object, what was expected and what was found.
//!
//! The text is lower case, without a full stop and without advice; the program that shows it
//! adds the hint and chooses the exit code from [`ErrorKind`]. Findings of a check or of a
//! backup are not errors, see [`crate::finding`].

use std::fmt;
use std::path::Path;

/// The result of every fallible operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure an [`Error`] is; decides the exit code and the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a call.
    Io,
    /// The object or file is not there.
    NotFound,
    /// A create-only write met an object of that name.
    AlreadyExists,
    /// There is no space or quota left where the write was to go.
    Full,
    /// There is no repository at the given place.
    NoRepository,
    /// A format version, feature, codec or storage type this program does not know.
    Unsupported,
    /// Stored bytes that are not what the format demands.
    Corrupt,
    /// Options or configuration that make no sense.
    Invalid,
    /// An operation that would endanger data, refused.
    Refused,
    /// Content of the source does not hold, and the user asked not to store it then.
    DamagedSource,
    /// The session was revoked, or somebody else holds what is needed.
    Locked,
    /// A password or key that does not open the repository.
    WrongKey,
    /// The user or a signal asked to stop.
    Interrupted,
}

/// A failure of one operation on one named object.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    object: String,
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error about `object` (a path, key or name), saying what was expected and found.
    pub fn new(kind: ErrorKind, object: impl Into<String>, problem: impl Into<String>) -> Self {
        Error { kind, object: object.into(), problem: problem.into(), source: None }
    }

    /// Makes an error from a failed system call on `path`; `doing` is the verb, as "read".
    pub fn io(path: impl AsRef<Path>, doing: &str, cause: impl Into<std::io::Error>) -> Self {
        let cause = cause.into();
        use std::io::ErrorKind as Io;
        let kind = match cause.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        Error {
            kind,
            object: path.as_ref().display().to_string(),
            problem: format!("cannot {doing}"),
            source: Some(Box::new(cause)),
        }
    }

    /// Makes a [`ErrorKind::Corrupt`] error about stored bytes.
    pub fn corrupt(object: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, object, problem)
    }

    /// Adds the cause.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Returns the same error once more, its cause as text: several threads can report one failure.
    pub fn repeat(&self) -> Self {
        let problem = match &self.source {
            Some(source) => format!("{}: {source}", self.problem),
            None => self.problem.clone(),
        };
        Error { kind: self.kind, object: self.object.clone(), problem, source: None }
    }

    /// The class of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The object the operation failed on.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What was expected and found, without object and cause.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The error number of the operating system, if the cause was a system call.
    pub fn os_error(&self) -> Option<i32> {
        self.source.as_ref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
