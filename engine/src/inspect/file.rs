//! The bytes of a file, wherever it is.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WHOLE_BYTES_MAX;
use crate::content::ContentReader;
use crate::dump::{file_at, shown};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Entry;
use crate::format::text::encode;
use crate::repository::Repository;
use crate::snapshot::Named;

/// A file whose parts can be read.
pub trait FileBytes {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads up to `length` bytes, at most 256 MiB, from byte `start` on: fewer at its end.
    fn read(&mut self, start: u64, length: u64) -> Result<Vec<u8>>;

    /// Its path in text form.
    fn shown(&self) -> &str;

    /// The component of a snapshot it is in; empty for a file of this host.
    fn component(&self) -> &str {
        ""
    }
}

/// A file of this host.
pub struct HostFile {
    file: File,
    size: u64,
    shown: String,
}

impl HostFile {
    /// Opens a file. Fails with `Invalid` for what is none: a directory, a pipe, a device.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata =
            std::fs::metadata(path).map_err(|error| Error::io(path, "examine", error))?;
        let shown = encode(path.as_os_str().as_bytes());
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a directory" } else { "something else" };
            let problem = format!("a file expected, found {found}");
            return Err(Error::new(ErrorKind::Invalid, shown, problem));
        }
        let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
        Ok(HostFile { file, size: metadata.len(), shown })
    }
}

impl FileBytes for HostFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, start: u64, length: u64) -> Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(start)).min(WHOLE_BYTES_MAX);
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let problem = format!("{} bytes expected, found less: it changed", self.size);
                Error::new(ErrorKind::Io, &*self.shown, problem)
            }
            _ => Error::io(&self.shown, "read", error),
        })?;
        Ok(bytes)
    }

    fn shown(&self) -> &str {
        &self.shown
    }
}

/// A file of a snapshot: what is read was verified, and nothing is restored.
pub struct StoredFile<'a> {
    reader: ContentReader<'a>,
    entry: Entry,
    shown: String,
    component: &'a str,
}

impl<'a> StoredFile<'a> {
    /// Finds a file by its path, as the source named it or, without a leading slash, from a
    /// component's base on; in the components given, or in all if none is. The repository's index
    /// must have been loaded.
    ///
    /// Fails with `NotFound` when there is none, with `Invalid` when it is no file or several
    /// components have one, and with `Corrupt` when the manifest cannot be read.
    pub fn open(
        repository: &'a Repository,
        named: &'a Named,
        components: &[String],
        path: &[u8],
    ) -> Result<Self> {
        let (component, entry) = file_at(repository, named, components, path)?;
        let shown = shown(component, &entry.path).to_string();
        let reader = ContentReader::new(repository);
        Ok(StoredFile { reader, entry, shown, component: &component.name })
    }
}

impl FileBytes for StoredFile<'_> {
    fn size(&self) -> u64 {
        self.entry.size()
    }

    fn read(&mut self, start: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = self.reader.read(self.entry.extents(), start, length.min(WHOLE_BYTES_MAX));
        bytes.map_err(|error| match error.kind() {
            // What of the content is missing or lost is said; whose it is was not known there.
            ErrorKind::NotFound | ErrorKind::Corrupt => {
                Error::corrupt(&*self.shown, format!("its content cannot be had: {error}"))
            }
            ErrorKind::Invalid => Error::new(ErrorKind::Invalid, &*self.shown, error.problem()),
            _ => error,
        })
    }

    fn shown(&self) -> &str {
        &self.shown
    }

    fn component(&self) -> &str {
        self.component
    }
}
