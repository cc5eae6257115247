//! One client for S3: for repositories in buckets, and for buckets that are backed up.

mod options;

pub use options::{
    Addressing, CONNECTIONS_DEFAULT, LockMode, Patience, Role, S3Options, ServerSideEncryption,
};
