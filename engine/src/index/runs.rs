//! Sorted runs of chunk places, in files of their own.
//!
//! A run is written once, in order, and never changed; runs of like size are merged into one and
//! then removed. Entries have a fixed length and ids are spread evenly, so between two fences an
//! entry is found where its id says it should be, in one small read, without a tree. The fences, every
//! [`FENCE_ENTRIES`]th entry's first 8 bytes, are held in memory: 3 MB for 400 million chunks.
//!
//! An entry has 36 bytes: 20 of the chunk id, pack ordinal with the kind in its lowest bit, offset,
//! stored and raw length. 160 bits of a keyed hash do not collide by accident, and restore
//! verifies all 256.
//!
//! `magic "cvrun001" | token, 16 bytes | entries, 8 bytes | zeros to 64 | entries | fences`. The token
//! is the one the database remembers for the run; a file that does not fit is no run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::filter::Token;
use rustix::fs::{Advice, fadvise};

use crate::format::ChunkKind;
use crate::id::{ChunkId, random};

/// How many bytes of the chunk id an entry keeps.
pub(super) const PREFIX_LEN: usize = 20;

const ENTRY_LEN: usize = PREFIX_LEN + 16;
const HEADER_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"cvrun001";

/// Bytes of a run that are written or read at once; merging needs one for each run.
const BUFFER_LEN: usize = 256 << 10;

/// Entries from one fence to the next.
const FENCE_ENTRIES: u64 = 1024;

/// Entries that one probe of a look-up reads. Of 1024 spread evenly, one is off by 16 at most as
/// often as not, and nearly always by less than 48.
const PROBE: u64 = 96;

/// After so many probes by interpolation, bisection: ids that are not spread evenly end too.
const INTERPOLATIONS_MAX: u32 = 6;

/// The part of a chunk id that is kept.
pub(super) type Prefix = [u8; PREFIX_LEN];

/// One chunk in one pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunEntry {
    pub prefix: Prefix,
    /// Pack ordinal, shifted by one, and the kind.
    pub pack: u32,
    pub offset: u32,
    pub stored_length: u32,
    pub raw_length: u32,
}

impl RunEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        for number in [self.pack, self.offset, self.stored_length, self.raw_length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let mut prefix = [0; PREFIX_LEN];
        prefix.copy_from_slice(&bytes[..PREFIX_LEN]);
        let number = |n: usize| {
            let at = PREFIX_LEN + 4 * n;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        RunEntry {
            prefix,
            pack: number(0),
            offset: number(1),
            stored_length: number(2),
            raw_length: number(3),
        }
    }

    /// Returns the pack's ordinal.
    pub fn ordinal(&self) -> u32 {
        self.pack >> 1
    }

    /// Returns the kind of its pack.
    pub fn kind(&self) -> ChunkKind {
        if self.pack & 1 == 0 { ChunkKind::Data } else { ChunkKind::Meta }
    }
}

/// Returns the number that holds a pack's ordinal and kind.
pub(super) fn pack_number(ordinal: u32, kind: ChunkKind) -> u32 {
    ordinal << 1 | u32::from(kind.number())
}

/// Returns the kept part of an id.
pub(super) fn prefix_of(id: ChunkId) -> Prefix {
    let mut prefix = [0; PREFIX_LEN];
    prefix.copy_from_slice(&id.0[..PREFIX_LEN]);
    prefix
}

/// Returns the number that a prefix begins with: it rises as prefixes do.
pub(super) fn leading_number(prefix: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&prefix[..8]);
    u64::from_be_bytes(bytes)
}

enum Storage {
    File(File),
    Memory(Vec<u8>),
}

/// A finished run.
pub(super) struct Run {
    storage: Storage,
    fences: Vec<u64>,
    pub entries: u64,
    pub token: Token,
    /// Whether the file is surely on the disk.
    pub synced: bool,
}

impl Run {
    /// Opens a run that the database knows; none when the file is not that run.
    pub fn open(path: &Path, entries: u64, token: Token) -> Option<Run> {
        let file = File::open(path).ok()?;
        let mut found = [0; HEADER_LEN];
        file.read_exact_at(&mut found, 0).ok()?;
        let length = file.metadata().ok()?.len();
        let fences_at = HEADER_LEN as u64 + entries * ENTRY_LEN as u64;
        let fences_len = 8 * entries.div_ceil(FENCE_ENTRIES);
        if found != header(entries, token) || length != fences_at + fences_len {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(fences_len).ok()?];
        file.read_exact_at(&mut bytes, fences_at).ok()?;
        let fences = bytes.as_chunks().0.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        let run = Run { storage: Storage::File(file), fences, entries, token, synced: true };
        run.advise(Advice::Random);
        Some(run)
    }

    /// Look-ups want single pages, merging wants what follows.
    fn advise(&self, advice: Advice) {
        if let Storage::File(file) = &self.storage {
            // Advice only.
            let _ = fadvise(file, 0, None, advice);
        }
    }

    /// Makes the file durable.
    pub fn sync(&mut self) -> Result<()> {
        if let Storage::File(file) = &self.storage
            && !self.synced
        {
            file.sync_data()?;
        }
        self.synced = true;
        Ok(())
    }

    /// Reads the entries from `first` on that fill `out`.
    fn read(&self, first: u64, out: &mut [u8]) -> Result<()> {
        let at = HEADER_LEN as u64 + first * ENTRY_LEN as u64;
        match &self.storage {
            Storage::File(file) => file.read_exact_at(out, at),
            Storage::Memory(bytes) => {
                let at = at as usize;
                out.copy_from_slice(&bytes[at..at + out.len()]);
                Ok(())
            }
        }
    }

    /// Appends to `found` every entry of `prefix`.
    pub fn find(&self, prefix: &Prefix, found: &mut Vec<RunEntry>) -> Result<()> {
        let wanted = leading_number(prefix);
        // Entries before `low` are less than the prefix, those from `high` on are not.
        let before = self.fences.partition_point(|fence| *fence < wanted).saturating_sub(1);
        let after = self.fences.partition_point(|fence| *fence <= wanted);
        let mut low = before as u64 * FENCE_ENTRIES;
        let mut high = (after as u64 * FENCE_ENTRIES).min(self.entries);
        let mut low_number = self.fences.get(before).copied().unwrap_or(0);
        let mut high_number = self.fences.get(after).copied().unwrap_or(u64::MAX);
        let mut buffer = [0; PROBE as usize * ENTRY_LEN];
        let mut probes = 0;
        while low < high {
            let size = PROBE.min(high - low);
            let guess = if probes < INTERPOLATIONS_MAX {
                let part = u128::from(wanted.saturating_sub(low_number)) * u128::from(high - low);
                let whole = u128::from(high_number.saturating_sub(low_number)) + 1;
                low + u64::try_from(part / whole).unwrap_or(0)
            } else {
                low.midpoint(high)
            };
            let first = guess.saturating_sub(size / 2).clamp(low, high - size);
            let window = &mut buffer[..size as usize * ENTRY_LEN];
            self.read(first, window)?;
            let (entries, _) = window.as_chunks::<ENTRY_LEN>();
            let less = entries.partition_point(|entry| entry[..PREFIX_LEN] < prefix[..]);
            if less == entries.len() {
                (low, low_number) = (first + size, leading_number(&entries[less - 1]));
            } else if less == 0 && first > low {
                (high, high_number) = (first, leading_number(&entries[0]));
            } else {
                return self.collect(first + less as u64, &entries[less..], prefix, found);
            }
            probes += 1;
        }
        self.collect(low, &[], prefix, found)
    }

    /// Appends the entries of a prefix from number `at` on; the first ones have been read.
    fn collect(
        &self,
        at: u64,
        read: &[[u8; ENTRY_LEN]],
        prefix: &Prefix,
        found: &mut Vec<RunEntry>,
    ) -> Result<()> {
        let mut next = at;
        for entry in read {
            if entry[..PREFIX_LEN] != prefix[..] {
                return Ok(());
            }
            found.push(RunEntry::decode(entry));
            next += 1;
        }
        let mut entry = [0; ENTRY_LEN];
        while next < self.entries {
            self.read(next, &mut entry)?;
            if entry[..PREFIX_LEN] != prefix[..] {
                return Ok(());
            }
            found.push(RunEntry::decode(&entry));
            next += 1;
        }
        Ok(())
    }

    /// Calls `each` for every entry, in order.
    pub fn for_each(&self, each: &mut dyn FnMut(RunEntry) -> Result<()>) -> Result<()> {
        self.advise(Advice::Sequential);
        let mut reader = Reader::new(self);
        while let Some(entry) = reader.next()? {
            each(entry)?;
        }
        self.advise(Advice::Random);
        Ok(())
    }
}

fn header(entries: u64, token: Token) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..24].copy_from_slice(&token);
    header[24..32].copy_from_slice(&entries.to_le_bytes());
    header
}

/// Writes one run from entries in rising order.
pub(super) struct RunWriter {
    storage: Storage,
    buffer: Vec<u8>,
    fences: Vec<u64>,
    written: u64,
    entries: u64,
}

impl RunWriter {
    /// Begins a run in a file, or in memory without one. What is there under the name is replaced.
    pub fn new(path: Option<&Path>) -> Result<RunWriter> {
        let storage = match path {
            Some(path) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true).mode(0o600);
                Storage::File(options.open(path)?)
            }
            None => Storage::Memory(Vec::new()),
        };
        let buffer = vec![0; HEADER_LEN];
        Ok(RunWriter { storage, buffer, fences: Vec::new(), written: 0, entries: 0 })
    }

    pub fn push(&mut self, entry: &RunEntry) -> Result<()> {
        if self.entries.is_multiple_of(FENCE_ENTRIES) {
            self.fences.push(leading_number(&entry.prefix));
        }
        entry.encode(&mut self.buffer);
        self.entries += 1;
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.storage {
            Storage::File(file) => file.write_all_at(&self.buffer, self.written)?,
            Storage::Memory(bytes) => bytes.extend_from_slice(&self.buffer),
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Finishes the run. The header comes last: a file that was cut off is no run.
    pub fn finish(mut self) -> Result<Run> {
        self.fences.iter().for_each(|fence| self.buffer.extend_from_slice(&fence.to_le_bytes()));
        self.flush()?;
        let token = random();
        let header = header(self.entries, token);
        match &mut self.storage {
            Storage::File(file) => file.write_all_at(&header, 0)?,
            Storage::Memory(bytes) => bytes[..HEADER_LEN].copy_from_slice(&header),
        }
        let RunWriter { storage, fences, entries, .. } = self;
        let run = Run { storage, fences, entries, token, synced: false };
        run.advise(Advice::Random);
        Ok(run)
    }
}

/// Reads a run from its beginning to its end.
struct Reader<'a> {
    run: &'a Run,
    buffer: Vec<u8>,
    at: usize,
    /// Entries that have not been read into the buffer.
    left: u64,
}

impl<'a> Reader<'a> {
    fn new(run: &'a Run) -> Self {
        Reader { run, buffer: Vec::new(), at: 0, left: run.entries }
    }

    fn next(&mut self) -> Result<Option<RunEntry>> {
        if self.at == self.buffer.len() {
            let count = self.left.min((BUFFER_LEN / ENTRY_LEN) as u64);
            self.buffer.resize(count as usize * ENTRY_LEN, 0);
            self.run.read(self.run.entries - self.left, &mut self.buffer)?;
            self.left -= count;
            self.at = 0;
        }
        let entry = self.buffer[self.at..].first_chunk().map(RunEntry::decode);
        self.at += ENTRY_LEN.min(self.buffer.len() - self.at);
        Ok(entry)
    }
}

/// Calls `each` for the entries of several runs in one rising order, without repetitions.
pub(super) fn merge(runs: &[&Run], each: &mut dyn FnMut(&RunEntry) -> Result<()>) -> Result<()> {
    // Merged runs are not read again.
    runs.iter().for_each(|run| run.advise(Advice::Sequential));
    let mut readers: Vec<Reader<'_>> = runs.iter().map(|run| Reader::new(run)).collect();
    let mut heads = BinaryHeap::with_capacity(readers.len());
    for (number, reader) in readers.iter_mut().enumerate() {
        heads.extend(reader.next()?.map(|entry| Reverse((entry, number))));
    }
    let mut last = None;
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((entry, number)) = *head;
        match readers[number].next()? {
            Some(next) => *head = Reverse((next, number)),
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        if last != Some(entry) {
            each(&entry)?;
            last = Some(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdKey;

    fn entry(prefix: Prefix, pack: u32) -> RunEntry {
        RunEntry { prefix, pack, offset: 80, stored_length: 9, raw_length: 8 }
    }

    fn run(mut entries: Vec<RunEntry>) -> Run {
        entries.sort_unstable();
        let mut writer = RunWriter::new(None).unwrap();
        entries.iter().for_each(|entry| writer.push(entry).unwrap());
        writer.finish().unwrap()
    }

    fn spread(number: u32) -> Prefix {
        prefix_of(IdKey([3; 32]).chunk_id(&number.to_le_bytes()))
    }

    fn uneven(number: u32) -> Prefix {
        let mut prefix = [0; PREFIX_LEN];
        prefix[16..].copy_from_slice(&number.to_be_bytes());
        prefix
    }

    /// Catches a search that stops short of an entry, or that goes on for ever.
    #[test]
    fn every_entry_is_found_and_no_other() {
        for make in [spread, uneven] {
            for count in [0, 1, 95, 96, 97, 300, 20_000] {
                // Even numbers are there, and every hundredth in three packs.
                let mut entries = Vec::new();
                for number in 0..count {
                    let packs = if number % 100 == 0 { 3 } else { 1 };
                    entries.extend((0..packs).map(|pack| entry(make(2 * number), pack)));
                }
                let run = run(entries);
                for number in 0..count {
                    let mut found = Vec::new();
                    run.find(&make(2 * number), &mut found).unwrap();
                    let packs = if number % 100 == 0 { 3 } else { 1 };
                    assert_eq!(found.len(), packs, "{number} of {count}");
                    assert!(found.iter().all(|entry| entry.prefix == make(2 * number)));
                    found.clear();
                    run.find(&make(2 * number + 1), &mut found).unwrap();
                    assert_eq!(found, [], "{number} of {count}");
                }
            }
        }
    }

    /// Catches a chunk of which more copies are there than one probe reads.
    #[test]
    fn all_copies_of_one_chunk_are_found() {
        let copies: Vec<RunEntry> = (0..3000).map(|pack| entry(spread(1), pack)).collect();
        let mut entries = copies.clone();
        entries.extend((2..500).map(|number| entry(spread(number), 0)));
        let mut found = Vec::new();
        run(entries).find(&spread(1), &mut found).unwrap();
        assert_eq!(found, copies);
    }

    #[test]
    fn merging_keeps_the_order_and_drops_repetitions() {
        let all: Vec<RunEntry> = (0..5000).map(|n| entry(spread(n), 0)).collect();
        let runs: Vec<Run> = (0..7)
            .map(|part| {
                all.iter().copied().enumerate().filter(move |(n, _)| n % 7 == part || n % 10 == 0)
            })
            .map(|entries| run(entries.map(|(_, entry)| entry).collect()))
            .collect();
        let mut merged = Vec::new();
        merge(&runs.iter().collect::<Vec<_>>(), &mut |entry| {
            merged.push(*entry);
            Ok(())
        })
        .unwrap();
        let mut expected = all;
        expected.sort_unstable();
        assert_eq!(merged, expected);
    }

    /// Catches a file that is taken for a run it is not: cut off, of another run, without an end.
    #[test]
    fn a_file_opens_only_as_the_run_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let mut writer = RunWriter::new(Some(&path)).unwrap();
        for number in 0..10 {
            writer.push(&entry(uneven(number), 0)).unwrap();
        }
        let run = writer.finish().unwrap();
        assert!(Run::open(&path, 10, run.token).is_some());
        assert!(Run::open(&path, 9, run.token).is_none());
        assert!(Run::open(&path, 10, [0; 16]).is_none());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(300).unwrap();
        assert!(Run::open(&path, 10, run.token).is_none());
        assert!(Run::open(&directory.path().join("none"), 10, run.token).is_none());
    }
}
