//! Sorting more records than memory holds: sorted runs in temporary files, merged as they are read.
//!
//! Records are arrays of bytes and are ordered by them, so numbers in a key stand big-endian. A
//! sorter holds at most [`SpillPlace::buffer_bytes`] of records; what is more goes to files that
//! have no name once they are open, so that nothing is left behind however the program ends. Few
//! records never touch a disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::id::{SessionId, random};

/// Records in memory of one sorter, in bytes, unless asked otherwise.
pub const BUFFER_BYTES_DEFAULT: usize = 48 << 20;

/// How many runs are read at once; more are merged to one first.
const RUNS_MAX: usize = 512;

/// Each run is read and written in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// Where sorted runs go that memory does not hold, and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillPlace {
    /// A directory for temporary files; made when something is written.
    pub directory: PathBuf,
    /// Bytes of records that one sorter keeps in memory.
    pub buffer_bytes: usize,
}

/// Takes records in any order.
pub(crate) struct Sorter<const N: usize> {
    place: SpillPlace,
    /// Equal records are one.
    is_distinct: bool,
    records_max: usize,
    buffer: Vec<[u8; N]>,
    runs: Vec<File>,
}

impl<const N: usize> Sorter<N> {
    /// Begins without records. Every record pushed comes out.
    pub fn new(place: &SpillPlace) -> Self {
        let records_max = (place.buffer_bytes / N).max(2);
        let place = place.clone();
        Sorter { place, is_distinct: false, records_max, buffer: Vec::new(), runs: Vec::new() }
    }

    /// The same, but equal records come out once.
    pub fn distinct(place: &SpillPlace) -> Self {
        Sorter { is_distinct: true, ..Sorter::new(place) }
    }

    /// Adds a record. Fails when a temporary file cannot be written.
    pub fn push(&mut self, record: [u8; N]) -> Result<()> {
        if self.buffer.len() >= self.records_max {
            self.sort();
            // A buffer that mostly repeated itself goes on being filled.
            if self.buffer.len() > self.records_max / 2 {
                self.spill()?;
            }
        }
        self.buffer.push(record);
        Ok(())
    }

    fn sort(&mut self) {
        self.buffer.sort_unstable();
        if self.is_distinct {
            self.buffer.dedup();
        }
    }

    fn spill(&mut self) -> Result<()> {
        let mut run = Run::create(&self.place)?;
        self.buffer.drain(..).try_for_each(|record| run.push(&record))?;
        self.runs.push(run.finish()?);
        if self.runs.len() >= RUNS_MAX {
            let sources = self.runs.drain(..).map(Source::<N>::file).collect::<Result<_>>()?;
            let mut merged = Sorted::begin(sources, self.is_distinct)?;
            let mut run = Run::create(&self.place)?;
            while let Some(record) = merged.next()? {
                run.push(&record)?;
            }
            self.runs.push(run.finish()?);
        }
        Ok(())
    }

    /// Returns the records in rising order.
    pub fn finish(mut self) -> Result<Sorted<N>> {
        self.sort();
        let mut sources: Vec<Source<N>> =
            self.runs.into_iter().map(Source::file).collect::<Result<_>>()?;
        sources.push(Source::Memory(self.buffer.into_iter()));
        Sorted::begin(sources, self.is_distinct)
    }
}

/// A run being written: a file without a name.
struct Run {
    out: BufWriter<File>,
    place: PathBuf,
}

impl Run {
    fn create(place: &SpillPlace) -> Result<Self> {
        let directory = &place.directory;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| Error::io(directory, "create the directory", error))?;
        let path = directory.join(format!("sort.{}", SessionId(random())));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io(&path, "create", error))?;
        std::fs::remove_file(&path).map_err(|error| Error::io(&path, "remove", error))?;
        Ok(Run { out: BufWriter::with_capacity(PIECE_BYTES, file), place: directory.clone() })
    }

    fn push<const N: usize>(&mut self, record: &[u8; N]) -> Result<()> {
        self.out.write_all(record).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(&self.place, "write a temporary file in", error)
    }

    fn finish(mut self) -> Result<File> {
        self.out.flush().map_err(|error| self.failed(error))?;
        let place = self.place;
        self.out
            .into_inner()
            .map_err(|error| Error::io(place, "write a temporary file in", error.into_error()))
    }
}

/// One sorted run as it is read.
enum Source<const N: usize> {
    Memory(std::vec::IntoIter<[u8; N]>),
    File(BufReader<File>),
}

impl<const N: usize> Source<N> {
    fn file(mut file: File) -> Result<Self> {
        file.seek(SeekFrom::Start(0)).map_err(failed_to_read)?;
        Ok(Source::File(BufReader::with_capacity(PIECE_BYTES, file)))
    }

    fn next(&mut self) -> Result<Option<[u8; N]>> {
        match self {
            Source::Memory(records) => Ok(records.next()),
            Source::File(file) => {
                let mut record = [0; N];
                match file.read_exact(&mut record) {
                    Ok(()) => Ok(Some(record)),
                    // Runs are made of whole records.
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(failed_to_read(error)),
                }
            }
        }
    }
}

fn failed_to_read(error: std::io::Error) -> Error {
    Error::io("temporary file", "read", error)
}

/// Records in rising order.
pub(crate) struct Sorted<const N: usize> {
    sources: Vec<Source<N>>,
    heads: BinaryHeap<Reverse<([u8; N], usize)>>,
    is_distinct: bool,
    peeked: Option<[u8; N]>,
}

impl<const N: usize> Sorted<N> {
    fn begin(mut sources: Vec<Source<N>>, is_distinct: bool) -> Result<Self> {
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (number, source) in sources.iter_mut().enumerate() {
            heads.extend(source.next()?.map(|record| Reverse((record, number))));
        }
        Ok(Sorted { sources, heads, is_distinct, peeked: None })
    }

    /// Returns the next record and takes it.
    pub fn next(&mut self) -> Result<Option<[u8; N]>> {
        match self.peeked.take() {
            Some(record) => Ok(Some(record)),
            None => self.merge(),
        }
    }

    /// Returns the next record and leaves it there.
    pub fn peek(&mut self) -> Result<Option<&[u8; N]>> {
        if self.peeked.is_none() {
            self.peeked = self.merge()?;
        }
        Ok(self.peeked.as_ref())
    }

    fn merge(&mut self) -> Result<Option<[u8; N]>> {
        let Some(least) = self.take_head()? else { return Ok(None) };
        while self.is_distinct && self.heads.peek().is_some_and(|head| head.0.0 == least) {
            self.take_head()?;
        }
        Ok(Some(least))
    }

    fn take_head(&mut self) -> Result<Option<[u8; N]>> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let Reverse((record, number)) = *head;
        match self.sources[number].next()? {
            Some(next) => *head = Reverse((next, number)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(records: &[u32], buffer_bytes: usize, is_distinct: bool) -> Vec<u32> {
        let directory = tempfile::tempdir().unwrap();
        let place = SpillPlace { directory: directory.path().join("a/b"), buffer_bytes };
        let mut sorter =
            if is_distinct { Sorter::<4>::distinct(&place) } else { Sorter::<4>::new(&place) };
        for record in records {
            sorter.push(record.to_be_bytes()).unwrap();
        }
        let mut sorted = sorter.finish().unwrap();
        let mut found = Vec::new();
        while let Some(peeked) = sorted.peek().unwrap().copied() {
            assert_eq!(sorted.next().unwrap(), Some(peeked));
            found.push(u32::from_be_bytes(peeked));
        }
        let left = std::fs::read_dir(directory.path().join("a/b"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "no file has a name");
        found
    }

    #[test]
    fn records_come_out_in_order_however_many_runs_they_filled() {
        let records: Vec<u32> = (0..5000u32).map(|n| n.wrapping_mul(2_654_435_761) % 997).collect();
        let mut expected = records.clone();
        expected.sort_unstable();
        // Two records a run make more runs than are read at once.
        for buffer_bytes in [8, 64, 4096, 1 << 20] {
            assert_eq!(sorted(&records, buffer_bytes, false), expected, "{buffer_bytes}");
        }
        expected.dedup();
        for buffer_bytes in [8, 64, 4096, 1 << 20] {
            assert_eq!(sorted(&records, buffer_bytes, true), expected, "{buffer_bytes}");
        }
        assert!(sorted(&[], 8, true).is_empty());
    }
}
