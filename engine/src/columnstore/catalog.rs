//! The system catalog: which tables there are, their columns, and the object ids of both.
//!
//! ColumnStore keeps it in tables of its own, `calpontsys.systable` and `calpontsys.syscolumn`, whose
//! columns are never compressed: values of fixed width, one after the other. Names are tokens, which
//! say in which block of the column's dictionary the string is and which of its strings it is. Row n
//! of a table is value n of each of its columns. Source: docs/COLUMNSTORE.md 3.
//!
//! What cannot be read is counted and passed over: nothing here fails.

use std::collections::{BTreeMap, HashMap};

use crate::format::names::{Column, Table};
use crate::format::text::encode;

/// The bytes of a block.
pub const BLOCK_BYTES: usize = 8192;

/// Columns of `systable`: name and schema, each with its dictionary, and object id.
const TABLE_NAME: (u32, u32) = (1001, 2001);
const TABLE_SCHEMA: (u32, u32) = (1002, 2004);
const TABLE_OID: u32 = 1003;
/// Columns of `syscolumn`: schema, table and name, each with its dictionary, and the rest.
const COLUMN_SCHEMA: (u32, u32) = (1021, 2061);
const COLUMN_TABLE: (u32, u32) = (1022, 2064);
const COLUMN_NAME: (u32, u32) = (1023, 2067);
const COLUMN_OID: u32 = 1024;
const COLUMN_DICTIONARY: u32 = 1025;
const COLUMN_TYPE: u32 = 1028;
const COLUMN_LENGTH: u32 = 1029;
const COLUMN_POSITION: u32 = 1030;
const COLUMN_COMPRESSION: u32 = 1041;

/// The object ids whose extents a decoding needs: columns and dictionaries.
pub const NEEDED: [u32; 17] = [
    TABLE_NAME.0,
    TABLE_SCHEMA.0,
    TABLE_OID,
    COLUMN_SCHEMA.0,
    COLUMN_TABLE.0,
    COLUMN_NAME.0,
    COLUMN_OID,
    COLUMN_DICTIONARY,
    COLUMN_TYPE,
    COLUMN_LENGTH,
    COLUMN_POSITION,
    COLUMN_COMPRESSION,
    TABLE_NAME.1,
    TABLE_SCHEMA.1,
    COLUMN_SCHEMA.1,
    COLUMN_TABLE.1,
    COLUMN_NAME.1,
];

/// The first object id of dictionaries of the catalog.
const FIRST_DICTIONARY: u32 = 2000;

/// The schema of the catalog's own tables.
pub const CATALOG_SCHEMA: &str = "calpontsys";

/// What stands where there is no row, and where a row has no value, by width.
const EMPTY_4: u32 = 0x8000_0001;
const NULL_4: u32 = 0x8000_0000;
const EMPTY_8: u64 = u64::MAX;
const NULL_8: u64 = u64::MAX - 1;

/// Returns the table of the catalog's own that an object id below 3000 belongs to.
pub fn own_table(oid: u32) -> Option<&'static str> {
    match oid {
        1001..=1020 | 2001..=2060 => Some("systable"),
        1021..=1999 | 2061..=2999 => Some("syscolumn"),
        _ => None,
    }
}

/// Whether an object of the catalog is a dictionary.
pub fn is_dictionary(oid: u32) -> bool {
    oid >= FIRST_DICTIONARY
}

/// Where an extent of a column stands among those of the same column. The same place of another
/// column has the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// The segment.
    pub segment: u32,
    /// Which extent of its file it is, from 0.
    pub number: u32,
}

/// The bytes of an extent of the catalog.
#[derive(Clone, Debug)]
pub struct CatalogExtent {
    /// The column or dictionary it belongs to.
    pub oid: u32,
    /// Where it stands.
    pub place: Place,
    /// The logical block id of its first block.
    pub lbid: u64,
    /// Its blocks, as far as they are in use or there. A part of a block at the end is not looked at.
    pub bytes: Vec<u8>,
}

/// What a catalog says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Its tables, by schema and name; without those of the catalog itself.
    pub tables: Vec<Table>,
    /// Rows that make no sense or have a name that cannot be read: they are in no table above.
    pub unreadable_rows: u64,
}

/// Reads a catalog from the extents of [`NEEDED`], in any order. Never fails: rows of extents that are
/// missing count as unreadable. Cost: one look at each value.
pub fn decode(extents: &[CatalogExtent]) -> Catalog {
    let files = Files::of(extents);
    let mut catalog = Catalog::default();
    let mut tables: BTreeMap<(String, String), Table> = BTreeMap::new();
    for place in files.places(TABLE_OID) {
        for row in 0..files.rows(TABLE_OID, place) {
            let Some(oid) = files.number(TABLE_OID, place, row) else { continue };
            let schema = files.text(TABLE_SCHEMA, place, row);
            let name = files.text(TABLE_NAME, place, row);
            let (Some(schema), Some(name)) = (schema, name) else {
                catalog.unreadable_rows += 1;
                continue;
            };
            tables.entry((schema.clone(), name.clone())).or_insert(Table {
                schema,
                name,
                oid,
                columns: Vec::new(),
            });
        }
    }
    for place in files.places(COLUMN_OID) {
        for row in 0..files.rows(COLUMN_OID, place) {
            let Some(oid) = files.number(COLUMN_OID, place, row) else { continue };
            let schema = files.text(COLUMN_SCHEMA, place, row);
            let table = files.text(COLUMN_TABLE, place, row);
            let column = files.column(oid, place, row);
            let (Some(schema), Some(table), Some(column)) = (schema, table, column) else {
                catalog.unreadable_rows += 1;
                continue;
            };
            let key = (schema.clone(), table.clone());
            let of_no_row = Table { schema, name: table, oid: 0, columns: Vec::new() };
            tables.entry(key).or_insert(of_no_row).columns.push(column);
        }
    }
    catalog.tables = tables.into_values().collect();
    catalog.tables.retain(|table| table.schema != CATALOG_SCHEMA);
    for table in &mut catalog.tables {
        table.columns.sort_by_key(|column| (column.position, column.oid));
    }
    catalog
}

/// The extents, by object and by place.
struct Files<'a> {
    columns: HashMap<u32, BTreeMap<Place, &'a [u8]>>,
    /// The extents of each dictionary, by the logical block id of the first block.
    dictionaries: HashMap<u32, BTreeMap<u64, &'a [u8]>>,
}

impl<'a> Files<'a> {
    fn of(extents: &'a [CatalogExtent]) -> Self {
        let mut files = Files { columns: HashMap::new(), dictionaries: HashMap::new() };
        for extent in extents {
            let bytes = extent.bytes.as_slice();
            match is_dictionary(extent.oid) {
                true => {
                    files.dictionaries.entry(extent.oid).or_default().insert(extent.lbid, bytes);
                }
                false => {
                    files.columns.entry(extent.oid).or_default().insert(extent.place, bytes);
                }
            }
        }
        files
    }

    fn places(&self, oid: u32) -> Vec<Place> {
        self.columns.get(&oid).map(|extents| extents.keys().copied().collect()).unwrap_or_default()
    }

    fn rows(&self, oid: u32, place: Place) -> usize {
        self.values(oid, place).map_or(0, |bytes| bytes.len() / 4)
    }

    fn values(&self, oid: u32, place: Place) -> Option<&'a [u8]> {
        self.columns.get(&oid)?.get(&place).copied()
    }

    /// Returns a number that is there: neither without a row nor without a value.
    fn number(&self, oid: u32, place: Place, row: usize) -> Option<u32> {
        let (values, _) = self.values(oid, place)?.as_chunks::<4>();
        let value = u32::from_le_bytes(*values.get(row)?);
        Some(value).filter(|value| ![EMPTY_4, NULL_4].contains(value))
    }

    /// Returns the string of a row, in text form.
    fn text(&self, (oid, dictionary): (u32, u32), place: Place, row: usize) -> Option<String> {
        let (values, _) = self.values(oid, place)?.as_chunks::<8>();
        let token = u64::from_le_bytes(*values.get(row)?);
        if [EMPTY_8, NULL_8].contains(&token) {
            return None;
        }
        let token = Token::of(token);
        let (first, bytes) =
            self.dictionaries.get(&dictionary)?.range(..=token.lbid).next_back()?;
        let block = usize::try_from(token.lbid - first).ok()?;
        let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
        let text = token.string_in(blocks.get(block)?)?;
        (!text.is_empty()).then(|| encode(text))
    }

    fn column(&self, oid: u32, place: Place, row: usize) -> Option<Column> {
        let or_zero = |column| self.number(column, place, row).unwrap_or(0);
        Some(Column {
            oid,
            dictionary: Some(or_zero(COLUMN_DICTIONARY)).filter(|oid| *oid != 0),
            name: self.text(COLUMN_NAME, place, row)?,
            data_type: or_zero(COLUMN_TYPE),
            length: or_zero(COLUMN_LENGTH),
            position: or_zero(COLUMN_POSITION),
            compression: or_zero(COLUMN_COMPRESSION),
        })
    }
}

/// What a string column holds in place of a string.
/// Source: ColumnStore `writeengine/shared/we_type.h`, `struct Token`.
struct Token {
    /// Which string of the block, from 1.
    string: usize,
    /// The block the string begins in.
    lbid: u64,
    /// How many blocks the string goes on in.
    further_blocks: u64,
}

impl Token {
    fn of(value: u64) -> Self {
        Token {
            string: usize::from((value & 0x3ff) as u16),
            lbid: value >> 10 & ((1 << 36) - 1),
            further_blocks: value >> 46,
        }
    }

    /// Returns the string in its block: a header of 10 bytes (free bytes, next block), the offset of
    /// the block's end, then an offset for each string, which lie from the end of the block to its
    /// front. `None` when there is no such string, or it goes on in another block: names never do.
    fn string_in<'a>(&self, block: &'a [u8; BLOCK_BYTES]) -> Option<&'a [u8]> {
        let offset = |number: usize| {
            let at = 10 + 2 * number;
            Some(u16::from_le_bytes([*block.get(at)?, *block.get(at + 1)?]))
        };
        let offsets_end = 10 + 2 * (self.string + 1);
        if self.string == 0 || self.further_blocks != 0 {
            return None;
        }
        // No end mark may stand before the string's own offset.
        for number in 1..=self.string {
            if offset(number)? == u16::MAX {
                return None;
            }
        }
        let (start, end) = (offset(self.string)?, offset(self.string - 1)?);
        block
            .get(usize::from(start)..usize::from(end))
            .filter(|_| usize::from(start) >= offsets_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Place = Place { partition: 0, segment: 0, number: 0 };

    /// A block of a dictionary as a server writes it: strings from its end, offsets from its front.
    fn block(strings: &[&[u8]]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[10..12].copy_from_slice(&[0x00, 0x20]);
        let mut end = BLOCK_BYTES;
        for (number, string) in strings.iter().enumerate() {
            let start = end - string.len();
            block[start..end].copy_from_slice(string);
            block[12 + 2 * number..][..2].copy_from_slice(&(start as u16).to_le_bytes());
            end = start;
        }
        block[12 + 2 * strings.len()..][..2].copy_from_slice(&[0xff, 0xff]);
        block
    }

    fn column(oid: u32, place: Place, bytes: Vec<u8>) -> CatalogExtent {
        CatalogExtent { oid, place, lbid: 0, bytes }
    }

    fn numbers(oid: u32, values: &[u32]) -> CatalogExtent {
        column(oid, FIRST, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn tokens(oid: u32, values: &[u64]) -> CatalogExtent {
        column(oid, FIRST, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn dictionary(oid: u32, lbid: u64, strings: &[&[u8]]) -> CatalogExtent {
        CatalogExtent { oid, place: FIRST, lbid, bytes: block(strings) }
    }

    /// Block 0x2000 (8192), string 1 is `0x800001`: the tokens of a real catalog.
    const T: u64 = 0x80_0000;

    /// Two tables, `dw.a` and `dw.b\xff`, a deleted row between them.
    fn sample() -> Vec<CatalogExtent> {
        vec![
            tokens(1001, &[T + 1, u64::MAX, T + 2]),
            dictionary(2001, 8192, &[b"a", b"b\xff"]),
            tokens(1002, &[T + 1, u64::MAX, T + 1]),
            dictionary(2004, 8192, &[b"dw"]),
            numbers(1003, &[3000, 0x8000_0001, 3010]),
            tokens(1021, &[T + 1, T + 1, u64::MAX, T + 1]),
            dictionary(2061, 8192, &[b"dw"]),
            tokens(1022, &[T + 2, T + 1, u64::MAX, T + 1]),
            dictionary(2064, 8192, &[b"a", b"b\xff"]),
            tokens(1023, &[T + 1, T + 3, u64::MAX, T + 2]),
            dictionary(2067, 8192, &[b"x", b"y", b"z%"]),
            numbers(1024, &[3011, 3002, 0x8000_0001, 3001]),
            numbers(1025, &[3012, 0x8000_0000, 0x8000_0001, 0x8000_0000]),
            numbers(1028, &[12, 9, 0x8000_0001, 6]),
            numbers(1029, &[40, 8, 0x8000_0001, 4]),
            numbers(1030, &[0, 1, 0x8000_0001, 0]),
            numbers(1041, &[3, 2, 0x8000_0001, 2]),
        ]
    }

    fn names(catalog: &Catalog) -> Vec<String> {
        let of_table = |table: &Table| {
            let columns: Vec<_> =
                table.columns.iter().map(|c| format!("{} {}", c.oid, c.name)).collect();
            format!("{} {}: {}", table.oid, table.full_name(), columns.join(", "))
        };
        catalog.tables.iter().map(of_table).collect()
    }

    #[test]
    fn rows_of_all_columns_are_brought_together() {
        let catalog = decode(&sample());
        assert_eq!(names(&catalog), ["3000 dw.a: 3001 y, 3002 z%25", "3010 dw.b%FF: 3011 x"]);
        assert_eq!(catalog.unreadable_rows, 0);
        let [a, b] = &catalog.tables[..] else { panic!("two tables") };
        let expected = Column {
            oid: 3011,
            dictionary: Some(3012),
            name: "x".into(),
            data_type: 12,
            length: 40,
            position: 0,
            compression: 3,
        };
        assert_eq!(b.columns, [expected]);
        assert_eq!(a.columns[1].dictionary, None);
    }

    #[test]
    fn rows_of_a_second_file_are_those_at_the_same_place() {
        let mut extents = sample();
        let second = Place { segment: 1, ..FIRST };
        // Other columns come in another order; the dictionary goes on in a second extent.
        let of_second = |oid, bytes: &[u8]| column(oid, second, bytes.to_vec());
        extents.insert(0, of_second(1024, &3020u32.to_le_bytes()));
        extents.push(of_second(1023, &(20_000u64 << 10 | 1).to_le_bytes()));
        extents.push(of_second(1022, &(T + 1).to_le_bytes()));
        extents.insert(0, of_second(1021, &(T + 1).to_le_bytes()));
        extents.push(dictionary(2067, 20_000, &[b"late"]));
        extents.push(of_second(1030, &7u32.to_le_bytes()));
        let catalog = decode(&extents);
        assert_eq!(names(&catalog)[0], "3000 dw.a: 3001 y, 3002 z%25, 3020 late");
        assert_eq!(catalog.unreadable_rows, 0);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_nothing_else_is_lost() {
        // Each makes one row of a column unreadable: no such string, string 0, no such block, a
        // string of several blocks, no string at all.
        for token in [T + 4, T, T + (1 << 10) + 1, 7, T + 3 + (1 << 46), u64::MAX - 1] {
            let mut extents = sample();
            extents[9] = tokens(1023, &[T + 1, token, u64::MAX, T + 2]);
            let catalog = decode(&extents);
            assert_eq!(names(&catalog)[0], "3000 dw.a: 3001 y", "{token:#x}");
            assert_eq!(catalog.unreadable_rows, 1, "{token:#x}");
        }
        // A table without a row in systable has its columns all the same.
        let without: Vec<_> = sample().into_iter().filter(|e| e.oid != 1003).collect();
        assert_eq!(names(&decode(&without))[1], "0 dw.b%FF: 3011 x");
        // Without an extent of names no column has one; without one of types they are 0.
        let without = |oid| -> Catalog {
            decode(&sample().into_iter().filter(|e| e.oid != oid).collect::<Vec<_>>())
        };
        assert_eq!(without(2067).unreadable_rows, 3);
        assert_eq!(without(1028).tables[0].columns[0].data_type, 0);
        assert_eq!(decode(&[]), Catalog::default());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for length in (0..40).chain([8191, 8192]) {
            for byte in [0, 0xff, 0x7f, 0x20] {
                let mut extents = sample();
                for extent in &mut extents {
                    extent.bytes.truncate(length);
                    if is_dictionary(extent.oid) {
                        extent.bytes.iter_mut().skip(10).for_each(|b| *b = byte);
                    }
                }
                decode(&extents);
            }
        }
    }
}
