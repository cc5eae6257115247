//! Which object ids belong to which column: the names of a snapshot. Source: FORMAT.md 6.4.
//!
//! Tables stand whole and in order of their names, and chunks of them end where names alone say, so
//! that an unchanged catalog is unchanged chunks, and a new table changes one of them.

use super::wire::{Decoded, Reader, put_string, put_varint};
use crate::id::boundary_hash;

const TAG: [u8; 4] = *b"CVN1";

/// A chunk ends before a table when it has at least so many bytes and the table's name is one of
/// [`BOUNDARY_TABLES`]...
const CHUNK_BYTES_MIN: usize = 64 << 10;
const BOUNDARY_TABLES: u64 = 16;
/// ...and in any case when it has so many.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The fewest bytes that a table and a column take: lengths and numbers of one byte each.
const TABLE_BYTES_MIN: usize = 4;
const COLUMN_BYTES_MIN: usize = 7;

/// A table of the system catalog. Names are in text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The database it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its object id; it has no files of its own. 0 when it could not be read.
    pub oid: u32,
    /// Its columns, by position.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its object id: that of its segment files.
    pub oid: u32,
    /// The object id of its dictionary, if it has one.
    pub dictionary: Option<u32>,
    /// Its name, in text form.
    pub name: String,
    /// ColumnStore's number of its type.
    pub data_type: u32,
    /// Its declared length in bytes.
    pub length: u32,
    /// Its place in the table, from 0.
    pub position: u32,
    /// How its files are packed: 0 not, 1 and 2 Snappy, 3 LZ4.
    pub compression: u32,
}

impl Table {
    /// Returns the name as users write it: `schema.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Returns the object ids of its columns and dictionaries.
    pub fn oids(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().flat_map(|column| [Some(column.oid), column.dictionary]).flatten()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self.schema.as_bytes());
        put_string(out, self.name.as_bytes());
        put_varint(out, self.oid.into());
        put_varint(out, self.columns.len() as u64);
        for column in &self.columns {
            put_varint(out, column.oid.into());
            put_varint(out, column.dictionary.unwrap_or(0).into());
            put_string(out, column.name.as_bytes());
            for number in [column.data_type, column.length, column.position, column.compression] {
                put_varint(out, number.into());
            }
        }
    }
}

/// Returns the chunks of some tables, which stand in order of schema and name. Empty for none.
pub fn encode(tables: &[Table]) -> Vec<Vec<u8>> {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    for table in tables {
        let ends = chunks.last().is_none_or(|chunk| {
            let boundary =
                || boundary_hash(table.full_name().as_bytes()).is_multiple_of(BOUNDARY_TABLES);
            chunk.len() >= CHUNK_BYTES_MAX || (chunk.len() >= CHUNK_BYTES_MIN && boundary())
        });
        if ends {
            chunks.push(TAG.to_vec());
        }
        if let Some(chunk) = chunks.last_mut() {
            table.encode(chunk);
        }
    }
    chunks
}

/// Reads the tables of a chunk.
pub fn decode(raw: &[u8]) -> Decoded<Vec<Table>> {
    let mut reader = Reader::new(raw);
    if reader.array::<4>("names")? != TAG {
        return Err(Reader::new(raw).malformed("names tag \"CVN1\""));
    }
    let mut tables = Vec::new();
    while reader.remaining() >= TABLE_BYTES_MIN {
        let schema = text(&mut reader, "name of a schema")?;
        let name = text(&mut reader, "name of a table")?;
        let oid = reader.varint_u32("object id of a table")?;
        let count = reader.count(COLUMN_BYTES_MIN, "number of columns")?;
        let columns = (0..count).map(|_| column(&mut reader)).collect::<Decoded<_>>()?;
        tables.push(Table { schema, name, oid, columns });
    }
    reader.end("end of the names")?;
    Ok(tables)
}

fn column(reader: &mut Reader<'_>) -> Decoded<Column> {
    let oid = reader.varint_u32("object id of a column")?;
    let dictionary = reader.varint_u32("object id of a dictionary")?;
    Ok(Column {
        oid,
        dictionary: Some(dictionary).filter(|oid| *oid != 0),
        name: text(reader, "name of a column")?,
        data_type: reader.varint_u32("data type")?,
        length: reader.varint_u32("length of a column")?,
        position: reader.varint_u32("position of a column")?,
        compression: reader.varint_u32("compression type")?,
    })
}

fn text(reader: &mut Reader<'_>, expected: &'static str) -> Decoded<String> {
    let start = reader.clone();
    let bytes = reader.string(expected)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| start.malformed(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(number: u32, columns: u32) -> Table {
        let column = |n: u32| Column {
            oid: 3000 + n,
            dictionary: n.is_multiple_of(2).then_some(9000 + n),
            name: format!("column_{n}"),
            data_type: n,
            length: 8,
            position: n,
            compression: 2,
        };
        Table {
            schema: "dw".into(),
            name: format!("table_{number:05}"),
            oid: 3000,
            columns: (0..columns).map(column).collect(),
        }
    }

    #[test]
    fn a_new_table_changes_one_chunk_of_many() {
        let mut tables: Vec<Table> = (0..4000).map(|number| table(number, 20)).collect();
        let before = encode(&tables);
        assert!(before.len() > 10, "{}", before.len());
        let longest = before.iter().map(Vec::len).max();
        assert!(longest.is_some_and(|length| length < CHUNK_BYTES_MAX + 1024), "{longest:?}");
        let back: Vec<Table> = before.iter().flat_map(|chunk| decode(chunk).unwrap()).collect();
        assert_eq!(back, tables);
        tables.remove(1000);
        let after = encode(&tables);
        let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!((1..=2).contains(&new), "{new} of {}", after.len());
        assert_eq!(encode(&[]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn every_truncation_and_trailing_byte_is_refused() {
        let chunk = encode(&[table(1, 3)]).remove(0);
        for length in 0..chunk.len() {
            // Nothing but the tag is a chunk without tables.
            assert_eq!(decode(&chunk[..length]).is_ok(), length == 4, "{length}");
        }
        let longer = [&chunk[..], &[0]].concat();
        assert!(decode(&longer).is_err());
        let mut claims = chunk[..4].to_vec();
        claims.extend([1, b'a', 1, b'b', 1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode(&claims).is_err(), "a count is checked before anything is allocated");
    }
}
