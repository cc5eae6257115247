//! The block resolution manager's files: extent map, version buffer tables, OIDs, transactions.

use std::io::Result;

use super::catalog;
use super::layout::{DICTIONARY_EXTENT_BLOCKS, EXTENT_ROWS, FileId, State};
use super::place::Place;
use super::schema::BLOCK;

/// Version 5 of the extent map (`brm/extentmap.cpp`).
const EXTENT_MAP_MAGIC: u32 = 0x76f7_8b20;
const VBBM_MAGIC: u32 = 0x1fb5_8c7a;
const VSS_MAGIC: u32 = 0x7218_db12;

/// Ranges that the free list has room for at first.
const FREE_RANGES: usize = 50;

/// LBIDs there are, in units of 1024.
const LBID_UNITS: u64 = 1 << 26;

/// OIDs that the bitmap has room for.
const OIDS: u32 = 1 << 24;

/// Writes what save_brm and the daemons leave behind when nothing is going on.
pub(super) fn write(place: &Place, state: &State, is_first: bool) -> Result<()> {
    let directory = format!("data{}/systemFiles/dbrm", state.roots.first());
    let path = |name: &str| place.data(format!("{directory}/{name}"));
    if is_first {
        // Snapshot sets that were written while the catalog was made, and are not current.
        for set in ["A", "B"] {
            place.write(&path(&format!("BRM_saves{set}_em")), 0o644, &extent_map(state, false))?;
            place.write(&path(&format!("BRM_saves{set}_vbbm")), 0o644, &vbbm(&[]))?;
            place.write(&path(&format!("BRM_saves{set}_vss")), 0o644, &vss())?;
        }
    }
    place.write(&path("BRM_saves_em"), 0o644, &extent_map(state, true))?;
    place.write(&path("BRM_saves_vbbm"), 0o644, &vbbm(&state.version_buffer_blocks))?;
    place.write(&path("BRM_saves_vss"), 0o644, &vss())?;
    place.write(&path("BRM_saves_journal"), 0o644, b"")?;
    place.write(&path("BRM_saves_current"), 0o644, b"BRM_saves\n")?;
    let mut transaction = state.transaction.to_le_bytes().to_vec();
    transaction.extend_from_slice(&state.catalog_version.to_le_bytes());
    transaction.extend_from_slice(&0u32.to_le_bytes());
    place.write(&path("SMTxnID"), 0o644, &transaction)?;
    place.write(&path("tablelocks"), 0o644, &0u32.to_le_bytes())?;
    place.rewrite(&path("oidbitmap"), 0o664, &oid_bitmap(state), 4096)
}

/// One entry of the extent map.
struct Entry {
    lbid: u64,
    size: u32,
    oid: u32,
    block_offset: u32,
    hwm: u32,
    file: FileId,
    width: u16,
    sequence: i32,
    /// 0 invalid, 2 valid.
    valid: u8,
    low: i128,
    high: i128,
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.lbid.to_le_bytes());
        for number in [self.size, 0, self.oid, self.block_offset, self.hwm, self.file.partition] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.file.segment, self.file.root, self.width, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.resize(start + 48, 0);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.push(self.valid);
        out.resize(start + 64, 0);
        out.extend_from_slice(&self.low.to_le_bytes());
        out.extend_from_slice(&self.high.to_le_bytes());
    }
}

/// A value of 8 bytes in a field of 16: the upper half stays zero.
fn narrow(value: i64) -> i128 {
    i128::from(value as u64)
}

fn entries(state: &State, with_tables: bool) -> Vec<Entry> {
    let catalog_file = FileId { root: state.roots.first(), partition: 0, segment: 0 };
    let mut entries: Vec<Entry> = catalog::objects(&state.tables)
        .iter()
        .map(|object| Entry {
            lbid: object.lbid,
            size: object.size(),
            oid: object.oid,
            block_offset: 0,
            hwm: if with_tables { object.hwm } else { 0 },
            file: catalog_file,
            width: object.width,
            sequence: 0,
            valid: 0,
            low: if object.width == 0 { i128::MAX } else { narrow(i64::MAX) },
            high: if object.width == 0 { i128::MIN } else { narrow(i64::MIN) },
        })
        .collect();
    for table in state.tables.iter().filter(|_| with_tables) {
        let files = table.files(&state.roots);
        let hwm = |oid: u32, file: FileId, block_offset: u64, blocks: u64| {
            // Only the last extent of a file has a mark; it counts from the file's first block.
            let file = files.iter().find(|found| found.oid == oid && found.file == file);
            let last = file.map_or(0, |found| found.used_blocks - 1);
            let is_last = (block_offset..block_offset + blocks).contains(&last);
            if is_last { last as u32 } else { 0 }
        };
        for column in &table.columns {
            let width = column.kind.width();
            for extent in &column.extents {
                let blocks = EXTENT_ROWS * width as u64 / BLOCK as u64;
                entries.push(Entry {
                    lbid: extent.lbid,
                    size: extent.size,
                    oid: column.oid,
                    block_offset: extent.block_offset as u32,
                    hwm: hwm(column.oid, extent.file, extent.block_offset, blocks),
                    file: extent.file,
                    width: width as u16,
                    sequence: extent.sequence,
                    valid: 2,
                    low: narrow(extent.low),
                    high: narrow(extent.high),
                });
            }
            for (oid, extent) in column
                .dictionary
                .iter()
                .flat_map(|dictionary| dictionary.extents.iter().map(|e| (dictionary.oid, e)))
            {
                let offset = extent.block_offset;
                entries.push(Entry {
                    lbid: extent.lbid,
                    size: extent.size,
                    oid,
                    block_offset: offset as u32,
                    hwm: hwm(oid, extent.file, offset, DICTIONARY_EXTENT_BLOCKS),
                    file: extent.file,
                    width: 0,
                    sequence: 0,
                    valid: 0,
                    low: i128::MAX,
                    high: i128::MIN,
                });
            }
        }
    }
    entries.sort_by_key(|entry| entry.lbid);
    entries
}

fn extent_map(state: &State, with_tables: bool) -> Vec<u8> {
    let entries = entries(state, with_tables);
    let next = match with_tables {
        true => state.numbers.next_lbid,
        false => entries.last().map_or(0, |last| last.lbid + (u64::from(last.size) << 10)),
    };
    let mut free = vec![(next, (LBID_UNITS - (next >> 10)) as u32)];
    let freed: &[_] = if with_tables { &state.numbers.freed } else { &[] };
    free.resize((FREE_RANGES - 1).saturating_sub(freed.len()).max(1), (0, 0));
    free.extend_from_slice(freed);
    free.resize(free.len().max(FREE_RANGES), (0, 0));
    let mut out = EXTENT_MAP_MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&(free.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| entry.encode(&mut out));
    for (start, size) in free {
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// No versions of blocks, and the version buffer files with where each goes on.
fn vbbm(blocks: &[u64]) -> Vec<u8> {
    let mut out = VBBM_MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    for (number, blocks) in blocks.iter().enumerate() {
        out.extend_from_slice(&(number as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(1u64 << 30).to_le_bytes());
        out.extend_from_slice(&(blocks * BLOCK as u64).to_le_bytes());
    }
    out
}

fn vss() -> Vec<u8> {
    let mut out = VSS_MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&0u32.to_le_bytes());
    out
}

/// The free list, a bit for each OID in use, and the DB Root of each version buffer.
fn oid_bitmap(state: &State) -> Vec<u8> {
    let next = state.numbers.next_oid;
    let mut out = Vec::with_capacity(2048 + OIDS as usize / 8 + 16);
    for range in 0..256 {
        let (begin, end) = if range == 0 { (next as i32, OIDS as i32 - 1) } else { (-1, -1) };
        out.extend_from_slice(&begin.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
    }
    let mut bitmap = vec![0u8; OIDS as usize / 8];
    for oid in 0..next as usize {
        bitmap[oid / 8] |= 0x80 >> (oid % 8);
    }
    out.extend_from_slice(&bitmap);
    out.extend_from_slice(&(state.roots.numbers.len() as u16).to_le_bytes());
    for root in &state.roots.numbers {
        out.extend_from_slice(&root.to_le_bytes());
    }
    out
}
