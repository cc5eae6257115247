//! What the engine tells while it works. The engine prints nothing; whoever calls it observes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;

/// Something worth telling while an operation runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An operation begins a part of its work, as `dbroot/1` or `reading packs`.
    Stage(&'a str),
    /// What is to be done in all, as far as known: entries and raw bytes.
    Expected {
        /// Files and other entries.
        entries: u64,
        /// Raw bytes.
        bytes: u64,
    },
    /// Entries and raw bytes done since the last such event.
    Done {
        /// Files and other entries.
        entries: u64,
        /// Raw bytes.
        bytes: u64,
    },
    /// A finding, at the moment it is made.
    Finding(&'a Finding),
    /// Something the user should know that is not a finding.
    Warning(&'a str),
    /// A file some of whose slots could not be stored as recipes, for verbose output.
    KeptPacked {
        /// The file, as the source names it.
        object: &'a str,
        /// How many of its slots.
        slots: u64,
    },
    /// A path that a dry run would store or write, for verbose output.
    Would(&'a str),
    /// A path that a dry run would delete, for verbose output.
    WouldDelete(&'a str),
    /// A path that is deleted, for verbose output.
    Delete(&'a str),
}

/// Receives events, from any thread.
pub trait Observer: Send + Sync {
    /// Takes one event. Called often: it must return quickly and must not fail.
    fn event(&self, event: Event<'_>);
}

/// An observer that listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullObserver;

impl Observer for NullObserver {
    fn event(&self, _event: Event<'_>) {}
}

/// A request to stop, shared between whoever asks and whoever works.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks every operation that holds this to stop at the next safe place.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails with [`ErrorKind::Interrupted`] once a stop was asked for.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "operation",
                "stopped by request; what was committed before is safe",
            ));
        }
        Ok(())
    }
}
