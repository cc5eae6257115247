//! Standard output, whoever reads it and for as long as they do.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Standard output behind a lock. Lines are buffered; what cannot be written is remembered.
pub struct Stream {
    /// The buffered output and what went wrong with it.
    state: Mutex<State>,
}

struct State {
    out: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Stream {
    /// Uses standard output.
    pub fn stdout() -> Self {
        Stream { state: Mutex::new(State { out: BufWriter::new(io::stdout()), failed: None }) }
    }

    /// Writes a line. After a failure nothing more is written.
    pub fn line(&self, text: &str) {
        self.attempt(|out| writeln!(out, "{text}"));
    }

    /// Hands on what is buffered.
    pub fn flush(&self) {
        self.attempt(Write::flush);
    }

    /// Whether whoever read the output has gone.
    pub fn is_closed(&self) -> bool {
        is_broken_pipe(self.state().failed.as_ref())
    }

    /// Hands on what is buffered. Fails with what went wrong, unless the reader has gone.
    pub fn finish(&self) -> io::Result<()> {
        self.flush();
        let mut state = self.state();
        match state.failed.take() {
            Some(error) if !is_broken_pipe(Some(&error)) => Err(error),
            failed => {
                state.failed = failed;
                Ok(())
            }
        }
    }

    fn attempt(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) {
        let mut state = self.state();
        if state.failed.is_none() {
            state.failed = write(&mut state.out).err();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_broken_pipe(error: Option<&io::Error>) -> bool {
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
