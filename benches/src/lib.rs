//! What the benches share: a generator of deployments, to measure on as much data as wanted, and stores
//! on loopback to measure against.

pub mod counted;
pub mod generator;
#[cfg(feature = "s3")]
pub mod s3;
