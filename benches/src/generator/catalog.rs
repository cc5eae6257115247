//! The system catalog, `calpontsys`: SYSTABLE and SYSCOLUMN in uncompressed files.

use std::collections::BTreeMap;
use std::io::Result;

use super::content::empty_block;
use super::layout::{FileId, State, Table};
use super::place::Place;
use super::schema::{BLOCK, Kind};

/// Rows of a file of the catalog.
const ROWS: usize = 256 << 10;

/// Bytes of a dictionary file of the catalog.
const DICTIONARY_BYTES: usize = 2 << 20;

/// Database of every generated table.
pub(super) const SCHEMA: &str = "dw";

/// The LBID after the catalog's extents.
pub(super) const LBIDS: u64 = 234_496;

/// What stands in a column of the catalog.
#[derive(Clone, Copy)]
enum Field {
    Schema,
    Table,
    Column,
    ObjectId,
    DictionaryId,
    /// A DATE; of SYSTABLE the creation.
    Date,
    NullDate,
    NullInt,
    NullToken,
    ListId,
    DataType,
    Length,
    Position,
    Nullable,
    Scale,
    Precision,
    AutoIncrement,
    Zero,
    Compression,
    NextValue,
}

/// Columns by OID, with their dictionaries: those below 1021 are SYSTABLE's.
const COLUMNS: [(u32, Field, u32); 33] = [
    (1001, Field::Table, 2001),
    (1002, Field::Schema, 2004),
    (1003, Field::ObjectId, 0),
    (1004, Field::Date, 0),
    (1005, Field::NullDate, 0),
    (1006, Field::NullInt, 0),
    (1007, Field::NullInt, 0),
    (1008, Field::NullInt, 0),
    (1009, Field::NullInt, 0),
    (1010, Field::NullInt, 0),
    (1011, Field::Zero, 0),
    (1021, Field::Schema, 2061),
    (1022, Field::Table, 2064),
    (1023, Field::Column, 2067),
    (1024, Field::ObjectId, 0),
    (1025, Field::DictionaryId, 0),
    (1026, Field::ListId, 0),
    (1027, Field::NullInt, 0),
    (1028, Field::DataType, 0),
    (1029, Field::Length, 0),
    (1030, Field::Position, 0),
    (1031, Field::NullDate, 0),
    (1032, Field::NullToken, 2070),
    (1033, Field::Nullable, 0),
    (1034, Field::Scale, 0),
    (1035, Field::Precision, 0),
    (1036, Field::AutoIncrement, 0),
    (1037, Field::NullInt, 0),
    (1038, Field::NullInt, 0),
    (1039, Field::NullToken, 2073),
    (1040, Field::NullToken, 2076),
    (1041, Field::Compression, 0),
    (1042, Field::NextValue, 0),
];

impl Field {
    fn width(self) -> usize {
        match self {
            Field::Schema | Field::Table | Field::Column | Field::NullToken | Field::NextValue => 8,
            Field::AutoIncrement => 1,
            _ => 4,
        }
    }

    fn empty(self) -> u64 {
        match self {
            Field::NullDate
            | Field::Date
            | Field::Schema
            | Field::Table
            | Field::Column
            | Field::NullToken
            | Field::NextValue
            | Field::AutoIncrement => u64::MAX,
            _ => 0x8000_0001,
        }
    }
}

/// A column or dictionary of the catalog, for the extent map.
pub(super) struct Object {
    pub oid: u32,
    /// Bytes of a value, 0 for a dictionary.
    pub width: u16,
    pub lbid: u64,
    pub hwm: u32,
}

impl Object {
    /// Units of 1024 LBIDs.
    pub fn size(&self) -> u32 {
        if self.width == 0 { 8 } else { u32::from(self.width) }
    }
}

/// Returns the objects of the catalog in the order of their LBIDs.
pub(super) fn objects(tables: &[Table]) -> Vec<Object> {
    let columns = tables.iter().map(|table| table.columns.len()).sum();
    let mut objects = Vec::new();
    let mut lbid = 0;
    for (oid, field, dictionary) in COLUMNS {
        let rows = if oid < 1021 { tables.len() } else { columns };
        let hwm = (rows.max(1) - 1) * field.width() / BLOCK;
        let width = field.width() as u16;
        objects.push(Object { oid, width, lbid, hwm: hwm as u32 });
        lbid += (field.width() as u64) << 10;
        if dictionary != 0 {
            let hwm = Strings::of(tables, oid, field).blocks.len().max(1) - 1;
            objects.push(Object { oid: dictionary, width: 0, lbid, hwm: hwm as u32 });
            lbid += 8192;
        }
    }
    assert_eq!(lbid, LBIDS, "the catalog has as many LBIDs as that of a server");
    objects
}

/// The strings of one dictionary, in blocks, and the token of each row.
#[derive(Default)]
struct Strings {
    blocks: Vec<Vec<u8>>,
    tokens: Vec<u64>,
    /// A string stands once, however many rows have it.
    known: BTreeMap<Vec<u8>, u64>,
    place: usize,
    end: usize,
}

impl Strings {
    fn of(tables: &[Table], oid: u32, field: Field) -> Strings {
        let mut strings = Strings::default();
        for table in tables {
            match field {
                Field::NullToken => {}
                _ if oid < 1021 => strings.push(name(field, table, 0)),
                _ => (0..table.columns.len()).for_each(|n| strings.push(name(field, table, n))),
            }
        }
        strings
    }

    fn push(&mut self, text: &str) {
        let text = text.as_bytes();
        if let Some(token) = self.known.get(text) {
            self.tokens.push(*token);
            return;
        }
        let full = self.blocks.is_empty()
            || self.end < 16 + 2 * self.place + text.len()
            || self.place == 1000;
        if full {
            let mut block = vec![0; BLOCK];
            empty_block(&mut block);
            self.blocks.push(block);
            (self.place, self.end) = (0, BLOCK);
        }
        let Some(block) = self.blocks.last_mut() else { return };
        let start = self.end - text.len();
        block[start..self.end].copy_from_slice(text);
        let at = 12 + 2 * self.place;
        block[at..at + 2].copy_from_slice(&(start as u16).to_le_bytes());
        block[at + 2..at + 4].fill(0xff);
        let free = (start - at - 4) as u16;
        block[..2].copy_from_slice(&free.to_le_bytes());
        (self.place, self.end) = (self.place + 1, start);
        // The block's LBID is added by who knows it.
        let token = (self.blocks.len() as u64 - 1) << 10 | self.place as u64;
        self.known.insert(text.to_vec(), token);
        self.tokens.push(token);
    }
}

fn name(field: Field, table: &Table, column: usize) -> &str {
    match field {
        Field::Schema => SCHEMA,
        Field::Table => &table.name,
        _ => &table.columns[column].name,
    }
}

/// Writes every file of the catalog. Files that hold the same are only touched.
pub(super) fn write(place: &Place, state: &State) -> Result<()> {
    let objects = objects(&state.tables);
    let file = FileId { root: state.roots.first(), partition: 0, segment: 0 };
    for (oid, field, dictionary) in COLUMNS {
        let mut tokens = Vec::new();
        if dictionary != 0 {
            let strings = Strings::of(&state.tables, oid, field);
            let mut bytes = vec![0; DICTIONARY_BYTES];
            for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
                match strings.blocks.get(number) {
                    Some(strings) => block.copy_from_slice(strings),
                    None => empty_block(block),
                }
            }
            place.rewrite(&place.data(file.path(dictionary)), 0o644, &bytes, BLOCK)?;
            let lbid = objects.iter().find(|object| object.oid == dictionary).map(|o| o.lbid);
            tokens = strings.tokens;
            tokens.iter_mut().for_each(|token| *token += lbid.unwrap_or_default() << 10);
        }
        let width = field.width();
        let empty = &field.empty().to_le_bytes()[..width];
        let mut bytes = empty.repeat(ROWS);
        let rows = state.tables.iter().flat_map(|table| {
            let rows = if oid < 1021 { 1 } else { table.columns.len() };
            (0..rows).map(move |row| (table, row))
        });
        for (number, (table, row)) in rows.enumerate() {
            let value = match tokens.get(number) {
                Some(token) => *token,
                None => value(oid, field, table, row),
            };
            bytes[number * width..][..width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        place.rewrite(&place.data(file.path(oid)), 0o644, &bytes, BLOCK)?;
    }
    Ok(())
}

const NULL_INT: u64 = 0x8000_0000;

fn value(oid: u32, field: Field, table: &Table, column: usize) -> u64 {
    let of_table = oid < 1021;
    let own = &table.columns[column];
    match field {
        Field::ObjectId if of_table => u64::from(table.oid),
        Field::ObjectId => u64::from(own.oid),
        Field::DictionaryId => own.dictionary.as_ref().map_or(NULL_INT, |d| u64::from(d.oid)),
        Field::Date => 2026 << 16 | 1 << 12 | 1 << 6 | 0x3e,
        Field::NullDate => 0xffff_fffe,
        Field::NullToken => u64::MAX - 1,
        Field::DataType => u64::from(own.kind.data_type()),
        Field::Length => own.kind.declared_width() as u64,
        Field::Position => column as u64,
        Field::Nullable | Field::NextValue => 1,
        Field::Scale => u64::from(matches!(own.kind, Kind::Amount { .. })) * 2,
        Field::Precision => match own.kind {
            Kind::Amount { width: 4, .. } => 9,
            Kind::Amount { .. } => 18,
            _ => 10,
        },
        Field::AutoIncrement => u64::from(b'n'),
        Field::Zero => 0,
        Field::Compression => table.codec.number(),
        Field::ListId | Field::NullInt => NULL_INT,
        Field::Schema | Field::Table | Field::Column => 0,
    }
}
