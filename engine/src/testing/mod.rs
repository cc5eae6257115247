//! Backends that misbehave on purpose, and seeded trees. For tests only (feature `testing`).
//!
//! Every wrapper passes the contract of [`crate::backend::Backend`] while it is not told to
//! misbehave: `tests/suite/backend_contract.rs` runs them all.

mod crash;
mod faulty;
mod recording;
pub mod trees;

pub use crash::CrashBackend;
pub use faulty::{Fault, FaultyBackend};
pub use recording::{Call, RecordingBackend, Verb};

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
