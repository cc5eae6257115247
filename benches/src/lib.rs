//! What the benches share: a generator of deployments, to measure on as much data as wanted.

pub mod generator;
