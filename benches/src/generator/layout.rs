//! Where rows stand: extents, segment files, LBIDs. What a deployment is made of from night to
//! night; kept beside it as [`State`].

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::content::{Bounds, Tokens, strings_per_block};
use super::schema::{BLOCK, Kind};
use super::slot::{CHUNK, Codec};

/// Rows of an extent.
pub(super) const EXTENT_ROWS: u64 = 8 << 20;

/// Rows of a column's first extent until they are more: it is abbreviated.
pub(super) const INITIAL_ROWS: u64 = 256 << 10;

/// Blocks of a dictionary extent, and of a whole 8-byte column extent.
pub(super) const DICTIONARY_EXTENT_BLOCKS: u64 = 8192;

/// Blocks that a dictionary file claims before it grows past them.
const DICTIONARY_INITIAL_BLOCKS: u64 = 256;

/// Blocks of a chunk.
pub(super) const CHUNK_BLOCKS: u64 = (CHUNK / BLOCK) as u64;

/// Extents of a column in one segment file (ExtentsPerSegmentFile).
pub(super) const EXTENTS_PER_FILE: u64 = 2;

/// One extent, as the extent map has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub lbid: u64,
    /// In units of 1024 blocks.
    pub size: u32,
    pub file: FileId,
    pub block_offset: u64,
    pub low: i64,
    pub high: i64,
    /// How often the bounds changed.
    pub sequence: i32,
}

impl Extent {
    pub fn bounds(&self) -> Bounds {
        Bounds { low: self.low, high: self.high }
    }

    pub fn add_bounds(&mut self, bounds: Bounds, kind: Kind) {
        if kind.has_bounds() && bounds != Bounds::NONE {
            let mut both = self.bounds();
            both.add(bounds, kind.compares_bytes());
            (self.low, self.high) = (both.low, both.high);
            self.sequence += 1;
        }
    }
}

/// Which segment file of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileId {
    pub root: u16,
    pub partition: u32,
    pub segment: u16,
}

impl FileId {
    /// Returns the path of an object's segment file below the directory of the DB Roots
    /// (`we_convertor.cpp`).
    pub fn path(self, oid: u32) -> PathBuf {
        let [a, b, c, d] = oid.to_be_bytes();
        PathBuf::from(format!(
            "data{}/{a:03}.dir/{b:03}.dir/{c:03}.dir/{d:03}.dir/{:03}.dir/FILE{:03}.cdf",
            self.root, self.partition, self.segment
        ))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dictionary {
    pub oid: u32,
    /// Extents of every file, in the order of the files' blocks.
    pub extents: Vec<Extent>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Column {
    pub name: String,
    pub oid: u32,
    pub kind: Kind,
    /// By the rows they hold: extent n has rows from n * [`EXTENT_ROWS`] on.
    pub extents: Vec<Extent>,
    pub dictionary: Option<Dictionary>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub name: String,
    pub oid: u32,
    pub codec: Codec,
    /// Which of the DB Roots has its first extents.
    pub first_root: usize,
    /// Rows of each load, by position; between them stand empty values.
    pub loads: Vec<(u64, u64)>,
    pub columns: Vec<Column>,
}

/// The LBIDs and OIDs that are given out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub next_lbid: u64,
    pub next_oid: u32,
    /// First LBID and units of 1024 of what was dropped.
    pub freed: Vec<(u64, u32)>,
}

impl Numbers {
    pub fn oid(&mut self) -> u32 {
        self.next_oid += 1;
        self.next_oid - 1
    }

    fn lbids(&mut self, units: u32) -> u64 {
        let first = self.next_lbid;
        self.next_lbid += u64::from(units) << 10;
        first
    }
}

/// How extents go round the DB Roots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Roots {
    pub numbers: Vec<u16>,
    /// Segment files of a column in one partition (FilesPerColumnPartition).
    pub files_per_partition: u64,
}

impl Roots {
    pub fn new(numbers: Vec<u16>) -> Self {
        let count = numbers.len() as u64;
        Roots { files_per_partition: count * 4u64.div_ceil(count), numbers }
    }

    /// The one that has the system catalog and the BRM files.
    pub fn first(&self) -> u16 {
        self.numbers[0]
    }

    fn file(&self, extent: u64, first_root: usize) -> FileId {
        let per_partition = self.files_per_partition * EXTENTS_PER_FILE;
        let segment = extent % per_partition % self.files_per_partition;
        FileId {
            root: self.numbers[(first_root + segment as usize) % self.numbers.len()],
            partition: (extent / per_partition) as u32,
            segment: segment as u16,
        }
    }

    /// Returns the extents of a column in the file of one of them, of `count` there are.
    pub fn extents_beside(&self, extent: u64, count: u64) -> impl Iterator<Item = u64> {
        let per_partition = self.files_per_partition * EXTENTS_PER_FILE;
        let first = extent / per_partition * per_partition
            + extent % per_partition % self.files_per_partition;
        (0..EXTENTS_PER_FILE)
            .map(move |n| first + n * self.files_per_partition)
            .filter(move |extent| *extent < count)
    }
}

impl Table {
    /// Makes a table without rows; its columns get OIDs, then its dictionaries.
    pub fn new(
        name: String,
        codec: Codec,
        first_root: usize,
        columns: &[(&str, Kind)],
        numbers: &mut Numbers,
    ) -> Self {
        let oid = numbers.oid();
        let mut columns: Vec<Column> = columns
            .iter()
            .map(|(name, kind)| Column {
                name: (*name).to_owned(),
                oid: numbers.oid(),
                kind: *kind,
                extents: Vec::new(),
                dictionary: None,
            })
            .collect();
        for column in columns.iter_mut().filter(|column| column.kind.has_dictionary()) {
            column.dictionary = Some(Dictionary { oid: numbers.oid(), extents: Vec::new() });
        }
        Table { name, oid, codec, first_root, loads: Vec::new(), columns }
    }

    /// Rows of a block of the narrowest column: every load begins at a block of every column.
    fn load_step(&self) -> u64 {
        let narrowest = self.columns.iter().map(|column| column.kind.width()).min();
        (BLOCK / narrowest.unwrap_or(8)) as u64
    }

    /// Position after the last row.
    pub fn end(&self) -> u64 {
        self.loads.last().map_or(0, |(_, end)| *end)
    }

    pub fn rows(&self) -> u64 {
        self.loads.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds a load of rows, with the extents it needs. The first block of a table stays empty, and
    /// a load begins with a block of its own, as cpimport does.
    pub fn load(&mut self, rows: u64, roots: &Roots, numbers: &mut Numbers) {
        let step = self.load_step();
        let start = self.end().next_multiple_of(step).max(step);
        self.loads.push((start, start + rows));
        self.make_extents(roots, numbers);
    }

    fn make_extents(&mut self, roots: &Roots, numbers: &mut Numbers) {
        let count = self.end().div_ceil(EXTENT_ROWS).max(1);
        for extent in 0..count {
            let file = roots.file(extent, self.first_root);
            let blocks: Vec<Option<u64>> = (0..self.columns.len())
                .map(|n| self.dictionary_blocks(&self.columns[n], extent, roots))
                .collect();
            for (column, blocks) in self.columns.iter_mut().zip(blocks) {
                let width = column.kind.width() as u64;
                let units = width as u32;
                if column.extents.len() as u64 <= extent {
                    let place = roots.extents_beside(extent, extent + 1).count() as u64 - 1;
                    column.extents.push(Extent {
                        lbid: numbers.lbids(units),
                        size: units,
                        file,
                        block_offset: place * (width << 10),
                        low: Bounds::NONE.low,
                        high: Bounds::NONE.high,
                        sequence: 0,
                    });
                }
                let (Some(dictionary), Some(blocks)) = (&mut column.dictionary, blocks) else {
                    continue;
                };
                let have = dictionary.extents.iter().filter(|other| other.file == file).count();
                for number in have as u64..blocks.div_ceil(DICTIONARY_EXTENT_BLOCKS).max(1) {
                    dictionary.extents.push(Extent {
                        lbid: numbers.lbids(8),
                        size: 8,
                        file,
                        block_offset: number * DICTIONARY_EXTENT_BLOCKS,
                        low: 0,
                        high: 0,
                        sequence: 0,
                    });
                }
            }
        }
    }

    /// Returns the rows of loads that stand in `rows`, by position, with each load's first row.
    pub fn loaded(&self, rows: Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> {
        self.loads
            .iter()
            .map(move |(start, end)| (*start, (*start).max(rows.start)..(*end).min(rows.end)))
            .filter(|(_, rows)| rows.start < rows.end)
    }

    fn count(&self, rows: Range<u64>) -> u64 {
        self.loaded(rows).map(|(_, rows)| rows.end - rows.start).sum()
    }

    /// Returns how many rows before `row` stand in the segment file of its extent.
    fn rows_before(&self, row: u64, roots: &Roots) -> u64 {
        let extent = row / EXTENT_ROWS;
        let whole: u64 = roots
            .extents_beside(extent, extent)
            .map(|other| self.count(other * EXTENT_ROWS..(other + 1) * EXTENT_ROWS))
            .sum();
        whole + self.count(extent * EXTENT_ROWS..row)
    }

    /// Returns how many strings the dictionary file beside an extent's file holds.
    pub fn strings(&self, kind: Kind, extent: u64, roots: &Roots) -> Option<u64> {
        match kind {
            Kind::Label { values, .. } => Some(u64::from(values)),
            Kind::Text { .. } => {
                let count = self.end().div_ceil(EXTENT_ROWS).max(1);
                let extents = roots.extents_beside(extent, count);
                Some(extents.map(|n| self.count(n * EXTENT_ROWS..(n + 1) * EXTENT_ROWS)).sum())
            }
            _ => None,
        }
    }

    fn dictionary_blocks(&self, column: &Column, extent: u64, roots: &Roots) -> Option<u64> {
        let strings = self.strings(column.kind, extent, roots)?;
        Some(strings.div_ceil(column.strings_per_block()).max(1))
    }

    /// Returns where the strings of a load's rows from `row` on stand.
    pub fn tokens(&self, column: &Column, row: u64, roots: &Roots) -> Option<Tokens> {
        let dictionary = column.dictionary.as_ref()?;
        let file = column.extents[(row / EXTENT_ROWS) as usize].file;
        let shared = match column.kind {
            Kind::Label { values, .. } => Some(u64::from(values)),
            _ => None,
        };
        Some(Tokens {
            extents: dictionary.in_file(file).map(|extent| extent.lbid).collect(),
            per_block: column.strings_per_block(),
            first: if shared.is_some() { 0 } else { self.rows_before(row, roots) },
            shared,
        })
    }

    /// Returns every segment file of the table, as columns and dictionaries see it.
    pub fn files(&self, roots: &Roots) -> Vec<SegmentFile> {
        let mut files = Vec::new();
        for (number, column) in self.columns.iter().enumerate() {
            let count = column.extents.len() as u64;
            for (extent, own) in column.extents.iter().enumerate() {
                let extent = extent as u64;
                if own.block_offset != 0 {
                    continue;
                }
                let extents: Vec<u64> = roots.extents_beside(extent, count).collect();
                files.push(self.column_file(number, own.file, extents));
                if let Some(dictionary) = &column.dictionary {
                    files.push(self.dictionary_file(number, dictionary, extent, own.file, roots));
                }
            }
        }
        files
    }

    fn column_file(&self, number: usize, file: FileId, extents: Vec<u64>) -> SegmentFile {
        let column = &self.columns[number];
        let width = column.kind.width() as u64;
        let end = self.end();
        let last = extents[extents.len() - 1];
        let abbreviated = last == 0 && end <= INITIAL_ROWS;
        let rows = end.saturating_sub(last * EXTENT_ROWS).min(EXTENT_ROWS);
        let before = (extents.len() as u64 - 1) * EXTENT_ROWS;
        let bytes = (before + rows) * width;
        SegmentFile {
            column: number,
            is_dictionary: false,
            oid: column.oid,
            file,
            lbids: extents.iter().map(|n| column.extents[*n as usize].lbid).collect(),
            blocks: match abbreviated {
                true => INITIAL_ROWS * width / BLOCK as u64,
                false => extents.len() as u64 * EXTENT_ROWS * width / BLOCK as u64,
            },
            chunks: bytes.div_ceil(CHUNK as u64).max(1) as usize,
            chunk_bytes: if abbreviated {
                (INITIAL_ROWS * width).min(CHUNK as u64) as usize
            } else {
                CHUNK
            },
            used_blocks: bytes.div_ceil(BLOCK as u64).max(1),
            extents,
        }
    }

    fn dictionary_file(
        &self,
        number: usize,
        dictionary: &Dictionary,
        extent: u64,
        file: FileId,
        roots: &Roots,
    ) -> SegmentFile {
        let column = &self.columns[number];
        let used = self.dictionary_blocks(column, extent, roots).unwrap_or(1);
        let lbids: Vec<u64> = dictionary.in_file(file).map(|extent| extent.lbid).collect();
        let is_first = extent == 0 && used <= DICTIONARY_INITIAL_BLOCKS;
        SegmentFile {
            column: number,
            is_dictionary: true,
            oid: dictionary.oid,
            file,
            blocks: match is_first {
                true => DICTIONARY_INITIAL_BLOCKS,
                false => lbids.len() as u64 * DICTIONARY_EXTENT_BLOCKS,
            },
            lbids,
            extents: vec![extent],
            chunks: used.div_ceil(CHUNK_BLOCKS) as usize,
            chunk_bytes: CHUNK,
            used_blocks: used,
        }
    }
}

impl Column {
    pub fn strings_per_block(&self) -> u64 {
        match self.kind {
            Kind::Label { length, .. } | Kind::Text { length } => strings_per_block(length),
            _ => 1,
        }
    }
}

impl Dictionary {
    pub fn in_file(&self, file: FileId) -> impl Iterator<Item = &Extent> {
        self.extents.iter().filter(move |extent| extent.file == file)
    }
}

/// One segment file as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SegmentFile {
    /// Number of the column in its table.
    pub column: usize,
    pub is_dictionary: bool,
    pub oid: u32,
    pub file: FileId,
    pub lbids: Vec<u64>,
    /// Extents of the column whose rows are in it; of a dictionary, the first of them.
    pub extents: Vec<u64>,
    /// The block count of the header.
    pub blocks: u64,
    pub chunks: usize,
    /// Bytes that its chunks unpack to.
    pub chunk_bytes: usize,
    /// Blocks up to the last that holds something.
    pub used_blocks: u64,
}

/// Everything that the next night has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Of the program's options.
    pub seed: u64,
    pub night: u32,
    pub roots: Roots,
    /// Parts of 2^32: how often a value differs from the one before.
    pub change: u32,
    pub numbers: Numbers,
    pub transaction: u32,
    pub catalog_version: u32,
    pub tables: Vec<Table>,
    /// How many tables were ever made.
    pub tables_made: u32,
    /// Bytes of the InnoDB files.
    pub datadir_bytes: u64,
    /// Blocks in each version buffer.
    pub version_buffer_blocks: Vec<u64>,
}
