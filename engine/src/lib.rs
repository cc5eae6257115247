//! The engine of colvault: content-addressed, deduplicating backups of MariaDB ColumnStore.
//!
//! Modules stand in the order of their dependencies: each uses only those before it. The map and
//! the invariants are in docs/ARCHITECTURE.md, every stored byte in docs/FORMAT.md.

pub mod id;

pub mod error;

pub mod finding;

pub mod progress;

pub mod pattern;

pub mod format;

pub mod columnstore;

pub mod packer;

pub mod transform;

pub mod compress;

pub mod chunker;

mod mmap;

pub mod traffic;

#[cfg(feature = "s3")]
pub mod s3client;

pub mod backend;

pub mod index;

pub mod pack;

pub mod ahead;

mod fetch;

pub mod repository;

#[cfg(feature = "s3")]
pub mod undelete;

pub mod recipe;

pub mod snapshot;

pub mod session;

pub mod manifest;

pub mod content;

pub mod source;

pub mod names;

pub mod proof;

pub mod pipeline;

pub mod backup;

pub mod plan;

pub mod restore;

pub mod check;

pub mod spill;

mod reach;

pub mod lock;

pub mod stats;

pub mod diff;

pub mod find;

pub mod dump;

pub mod inspect;

#[cfg(feature = "testing")]
pub mod testing;
