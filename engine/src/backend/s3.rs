//! STUB
use super::{Backend, Key, Listed, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::s3client::{LockMode, S3Options};

/// Stub.
pub struct S3Backend(String);
/// Stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOnly {
    /// Stub.
    Kept,
    /// Stub.
    Ignored,
}
impl S3Backend {
    /// Stub.
    pub fn connect(options: &S3Options) -> Result<S3Backend> {
        Ok(S3Backend(format!("s3://{}/{}", options.bucket, options.prefix)))
    }
    /// Stub.
    pub fn probe_create_only(&self) -> Result<CreateOnly> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    /// Stub.
    pub fn set_create_only(&self, _: CreateOnly) {}
    /// Stub.
    pub fn set_lock(&self, _: Option<(LockMode, u32)>) {}
}
impl Backend for S3Backend {
    fn location(&self) -> String {
        self.0.clone()
    }
    fn put_new(&self, _: &Key, _: &[&[u8]]) -> Result<()> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    fn get(&self, _: &Key, _: u64) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    fn get_range(&self, _: &Key, _: u64, _: usize) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    fn list(&self, _: Space, _: &mut dyn FnMut(Listed)) -> Result<()> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    fn length(&self, _: &Key) -> Result<u64> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
    fn delete(&self, _: &Key) -> Result<()> {
        Err(Error::new(ErrorKind::Io, "x", "y"))
    }
}
