//! Sorted runs of chunk places inside redb.
//!
//! A run is written once, in order, as blocks of [`BLOCK_ENTRIES`] entries; the key of a block is
//! the run's number and the id prefix of its first entry. A look-up reads one block of each run.
//! Runs of like size are merged, so that their number grows with the logarithm of the chunks.
//!
//! An entry has 36 bytes: 20 of the chunk id, pack ordinal with the kind in its lowest bit, offset,
//! stored and raw length. 160 bits of a keyed hash do not collide by accident, and restore
//! verifies all 256.

use redb::{ReadableTable, TableDefinition};

use crate::format::ChunkKind;
use crate::id::ChunkId;

/// Blocks by run number (4 bytes, big-endian) and id prefix (20 bytes).
pub(super) const BLOCKS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("blocks");

/// How many bytes of the chunk id an entry keeps.
pub(super) const PREFIX_LEN: usize = 20;

const ENTRY_LEN: usize = PREFIX_LEN + 16;

/// Entries of one block: with its key it fills one 4 KiB page of redb.
const BLOCK_ENTRIES: usize = 110;

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

fn block_key(run: u32, prefix: &Prefix) -> [u8; 4 + PREFIX_LEN] {
    let mut key = [0; 4 + PREFIX_LEN];
    key[..4].copy_from_slice(&run.to_be_bytes());
    key[4..].copy_from_slice(prefix);
    key
}

/// Writes one run from entries in rising order of prefix.
pub(super) struct RunWriter<'table, 'txn> {
    table: &'table mut redb::Table<'txn, &'static [u8], &'static [u8]>,
    run: u32,
    first: Prefix,
    block: Vec<u8>,
    /// Entries written so far.
    pub entries: u64,
}

impl<'table, 'txn> RunWriter<'table, 'txn> {
    pub fn new(
        table: &'table mut redb::Table<'txn, &'static [u8], &'static [u8]>,
        run: u32,
    ) -> Self {
        RunWriter { table, run, first: [0; PREFIX_LEN], block: Vec::new(), entries: 0 }
    }

    pub fn push(&mut self, entry: &RunEntry) -> Result<(), redb::Error> {
        // Entries of one id stay in one block, so that a look-up finds all of them.
        let full = self.block.len() >= BLOCK_ENTRIES * ENTRY_LEN;
        let last =
            self.block.len().checked_sub(ENTRY_LEN).map(|at| &self.block[at..at + PREFIX_LEN]);
        if full && last != Some(&entry.prefix[..]) {
            self.flush()?;
        }
        if self.block.is_empty() {
            self.first = entry.prefix;
        }
        entry.encode(&mut self.block);
        self.entries += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), redb::Error> {
        if !self.block.is_empty() {
            let key = block_key(self.run, &self.first);
            self.table.insert(&key[..], &self.block[..])?;
            self.block.clear();
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<u64, redb::Error> {
        self.flush()?;
        Ok(self.entries)
    }
}

/// Appends to `found` every entry of `prefix` in a run.
pub(super) fn find_in_run(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    run: u32,
    prefix: &Prefix,
    found: &mut Vec<RunEntry>,
) -> Result<(), redb::Error> {
    let low = run.to_be_bytes();
    let key = block_key(run, prefix);
    let Some(block) = table.range::<&[u8]>(&low[..]..=&key[..])?.next_back() else {
        return Ok(());
    };
    let (_, block) = block?;
    let (entries, _) = block.value().as_chunks::<ENTRY_LEN>();
    let start = entries.partition_point(|entry| entry[..PREFIX_LEN] < prefix[..]);
    let same = entries[start..].iter().take_while(|entry| entry[..PREFIX_LEN] == prefix[..]);
    found.extend(same.map(RunEntry::decode));
    Ok(())
}

/// Calls `each` for every entry of a run, in order.
pub(super) fn read_run(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    run: u32,
    each: &mut dyn FnMut(RunEntry) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    for block in run_range(table, run)? {
        let (_, block) = block?;
        for entry in block.value().as_chunks::<ENTRY_LEN>().0 {
            each(RunEntry::decode(entry))?;
        }
    }
    Ok(())
}

fn run_range<'a>(
    table: &'a impl ReadableTable<&'static [u8], &'static [u8]>,
    run: u32,
) -> Result<redb::Range<'a, &'static [u8], &'static [u8]>, redb::Error> {
    let (low, high) = (run.to_be_bytes(), (run + 1).to_be_bytes());
    Ok(table.range::<&[u8]>(&low[..]..&high[..])?)
}

/// Calls `each` for the entries of several runs in one rising order, without repetitions.
pub(super) fn merge_runs(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    runs: &[u32],
    each: &mut dyn FnMut(&RunEntry) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    struct Head<'a> {
        range: redb::Range<'a, &'static [u8], &'static [u8]>,
        block: Vec<RunEntry>,
        at: usize,
    }
    impl Head<'_> {
        fn peek(&mut self) -> Result<Option<RunEntry>, redb::Error> {
            if self.at == self.block.len() {
                let Some(block) = self.range.next() else { return Ok(None) };
                let (_, block) = block?;
                self.block.clear();
                self.block.extend(block.value().as_chunks().0.iter().map(RunEntry::decode));
                self.at = 0;
            }
            Ok(self.block.get(self.at).copied())
        }
    }
    let mut heads = Vec::with_capacity(runs.len());
    for run in runs {
        heads.push(Head { range: run_range(table, *run)?, block: Vec::new(), at: 0 });
    }
    let mut last = None;
    loop {
        let mut least: Option<(RunEntry, usize)> = None;
        for (n, head) in heads.iter_mut().enumerate() {
            if let Some(entry) = head.peek()?
                && least.is_none_or(|(best, _)| entry < best)
            {
                least = Some((entry, n));
            }
        }
        let Some((entry, n)) = least else { return Ok(()) };
        heads[n].at += 1;
        if last != Some(entry) {
            each(&entry)?;
            last = Some(entry);
        }
    }
}
