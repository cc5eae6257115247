//! The test suite of colvault: one binary, a module for each promise.
//!
//! Needs root: owners, devices, mounts and foreign users are part of what is promised. A test that
//! cannot have what it needs fails; none is skipped. Seeds are printed, and can be given again in
//! `COLVAULT_SEED`.

#[path = "../support/mod.rs"]
mod support;

mod backend_contract;
mod buckets;
mod cli;
mod concurrent;
mod crash;
mod cutting;
mod damage;
mod delta;
mod diff;
mod dump;
mod exits;
mod find;
mod format;
mod full_disk;
mod generated;
mod inspect;
mod json;
mod json_reports;
mod model;
mod names;
mod packers;
mod plan;
mod proof;
mod proof_damage;
mod real_nights;
mod recipes;
mod record;
mod record_tables;
mod regressions;
mod round_trip;
mod running;
mod s3;
mod s3_connections;
mod s3_faults;
mod s3_lock;
mod s3_requests;
mod s3_servers;
mod s3_words;
mod settings;
mod slots;
mod stats;
mod storing;
mod tidy;
mod unchanged;
mod vanishing;
