//! The extent map: which blocks of which file hold which stretch of which column.
//!
//! Source: the server's brm/extentmap.cpp, 70-74, 1544-1580 and 1841-1916, and brm/extentmap.h,
//! 111-177. Version 5 widened the smallest and the largest value to 16 bytes and put the smallest
//! first; version 4 has them the other way around. The server itself loads these two only.

use super::{Sensible, lbid, natural};
use crate::format::wire::{Decoded, Malformed, Reader};

/// LBIDs in one unit: the server hands them out, and counts them, by 1024.
pub const LBIDS_PER_UNIT: u64 = 1024;

/// The first word of version 1; later versions count up from it.
const MAGIC_V1: u32 = 0x76f7_8b1c;
const VERSIONS: u32 = 5;
const EXTENT_BYTES_V4: u64 = 64;
const EXTENT_BYTES_V5: u64 = 96;
const FREE_RANGE_BYTES: u64 = 16;

/// An extent map, as it was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentMap {
    /// Version of the layout: 4 or 5.
    pub version: u8,
    /// The extents, in the order of the file; at least one, as the server loads none without.
    pub extents: Vec<MapExtent>,
    /// LBIDs that no extent has. Slots of the list that are not in use count none. The server
    /// rebuilds the list when it loads the map.
    pub free: Vec<FreeRange>,
}

/// One extent of a column or of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapExtent {
    /// The first LBID; below 2^63.
    pub lbid: u64,
    /// How many LBIDs it has, in units of [`LBIDS_PER_UNIT`].
    pub units: u32,
    /// The column or dictionary.
    pub oid: u32,
    /// Where it begins in its segment file, in uncompressed blocks of 8 KiB.
    pub block_offset: u32,
    /// The last block in use, counted from the beginning of the segment file; only the last extent
    /// of a file says it, the others say 0.
    pub hwm: u32,
    /// The partition.
    pub partition: u32,
    /// The segment.
    pub segment: u16,
    /// The DB Root, from 1.
    pub db_root: u16,
    /// The width of the column in bytes; 0 for a dictionary.
    pub width: u16,
    /// 0 available, 1 being made, 2 out of service.
    pub status: i16,
    /// The smallest value, when `valid` is 2. Values of columns up to 8 bytes wide are read as
    /// signed, so large ones of an unsigned column are negative here.
    pub low: i128,
    /// The largest value, read alike.
    pub high: i128,
    /// Counts how often the smallest and largest values became void.
    pub sequence: i32,
    /// What the values are worth: 0 nothing, 1 they are being found out, 2 they hold.
    pub valid: u8,
}

impl MapExtent {
    /// Returns how many LBIDs, each of one block, it has.
    pub fn blocks(&self) -> u64 {
        u64::from(self.units) * LBIDS_PER_UNIT
    }

    /// Returns the LBID after its last one.
    pub fn end(&self) -> u64 {
        self.lbid + self.blocks()
    }
}

/// A range of LBIDs that no extent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeRange {
    /// The first LBID.
    pub lbid: u64,
    /// How many there are, in units of [`LBIDS_PER_UNIT`].
    pub units: u32,
}

impl ExtentMap {
    /// Returns the version that the first word of an extent map gives, 1 to 5; `None` when it is
    /// none of an extent map. Only versions 4 and 5 can be decoded.
    pub fn version(bytes: &[u8]) -> Option<u8> {
        let magic = u32::from_le_bytes(*bytes.first_chunk()?);
        let version = magic.checked_sub(MAGIC_V1 - 1)?;
        if (1..=VERSIONS).contains(&version) { u8::try_from(version).ok() } else { None }
    }

    /// Reads an extent map of version 4 or 5, which must fill `bytes` to the byte.
    ///
    /// An older version is named in the error.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let old = |expected| Err(Malformed { at: 0, expected });
        let version = match Self::version(bytes) {
            Some(version @ (4 | 5)) => version,
            Some(1) => return old("version 4 or 5 of the extent map, not the older version 1,"),
            Some(2) => return old("version 4 or 5 of the extent map, not the older version 2,"),
            Some(_) => return old("version 4 or 5 of the extent map, not the older version 3,"),
            None => return old("the first word of an extent map"),
        };
        let mut reader = Reader::new(bytes);
        reader.u32("the first word of an extent map")?;
        let start = reader.clone();
        let extents = natural(&mut reader, "a number of extents that is not negative")?;
        let ranges = natural(&mut reader, "a number of free ranges that is not negative")?;
        let extent_bytes = if version == 4 { EXTENT_BYTES_V4 } else { EXTENT_BYTES_V5 };
        let expected_bytes =
            u64::from(extents) * extent_bytes + u64::from(ranges) * FREE_RANGE_BYTES;
        if expected_bytes != reader.remaining() as u64 {
            return Err(start.malformed("numbers of extents and free ranges that fill the file"));
        }
        if extents == 0 {
            return Err(start.malformed("at least one extent"));
        }
        let mut map = ExtentMap {
            version,
            extents: Vec::with_capacity(extents as usize),
            free: Vec::with_capacity(ranges as usize),
        };
        for _ in 0..extents {
            map.extents.push(match version {
                4 => extent_v4(&mut reader)?,
                _ => extent_v5(&mut reader)?,
            });
        }
        for _ in 0..ranges {
            let range = FreeRange {
                lbid: lbid(&mut reader)?,
                units: reader.u32("a free range's number of LBIDs")?,
            };
            reader.bytes(4, "the end of a free range")?;
            map.free.push(range);
        }
        reader.end("the end of the extent map")?;
        Ok(map)
    }
}

impl Sensible for ExtentMap {
    /// Fields have values that there are, no two extents share LBIDs, and those of a file follow each
    /// other without a gap from its first block on. Source: the server's brm/extentmap.cpp,
    /// `_createColumnExtentExactFile` and `_createDictStoreExtent`.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        let extents = &self.extents;
        let named = |number: u32| {
            let MapExtent { oid, .. } = extents[number as usize];
            format!("extent {number} (OID {oid})")
        };
        let mut order: Vec<u32> = (0..).take(extents.len()).collect();
        for number in &order {
            extents[*number as usize].faults(&named(*number), found);
        }
        let of = |number: &u32| &extents[*number as usize];
        order.sort_unstable_by_key(|number| (of(number).lbid, *number));
        for pair in order.windows(2) {
            let (first, second) = (of(&pair[0]), of(&pair[1]));
            if first.end() > second.lbid {
                found(format!(
                    "{}: LBIDs from {} on expected, found {}: {} has those before",
                    named(pair[1]),
                    first.end(),
                    second.lbid,
                    named(pair[0]),
                ));
            }
        }
        let file = |e: &MapExtent| (e.oid, e.db_root, e.partition, e.segment);
        order.sort_unstable_by_key(|number| (file(of(number)), of(number).block_offset, *number));
        for (at, number) in order.iter().enumerate() {
            let extent = of(number);
            let before = at.checked_sub(1).map(|at| order[at]);
            let before = before.filter(|before| file(of(before)) == file(extent));
            let expected = before.map_or(0, |before| {
                let before = of(&before);
                u64::from(before.block_offset) + before.blocks()
            });
            if u64::from(extent.block_offset) != expected {
                let why = match before {
                    Some(before) => format!("where extent {before} ends"),
                    None => "as the first of its file".to_owned(),
                };
                found(format!(
                    "{}: block {expected} of its file expected for the first of its own, {why}, found \
                     {}",
                    named(*number),
                    extent.block_offset
                ));
            }
        }
    }
}

impl MapExtent {
    fn faults(&self, name: &str, found: &mut dyn FnMut(String)) {
        let mut wrong = |what: &str, expected: &str, value: String| {
            found(format!("{name}, {what}: {expected} expected, found {value}"));
        };
        if self.units == 0 {
            wrong("LBIDs", "at least 1024", "none".into());
        }
        if ![0, 1, 2, 4, 8, 16].contains(&self.width) {
            wrong("column width", "0, 1, 2, 4, 8 or 16", self.width.to_string());
        }
        if self.db_root == 0 {
            wrong("DB Root", "1 or more", "0".into());
        }
        if !(0..=2).contains(&self.status) {
            wrong("status", "0 to 2", self.status.to_string());
        }
        if self.valid > 2 {
            wrong("worth of smallest and largest value", "0 to 2", self.valid.to_string());
        }
    }
}

/// Takes the first 40 bytes, which both versions share.
fn extent(reader: &mut Reader<'_>) -> Decoded<MapExtent> {
    let lbid = lbid(reader)?;
    let units = reader.u32("an extent's number of LBIDs")?;
    reader.bytes(4, "four bytes without meaning")?;
    Ok(MapExtent {
        lbid,
        units,
        oid: natural(reader, "an OID that is not negative")?,
        block_offset: reader.u32("an extent's block offset")?,
        hwm: reader.u32("a high-water mark")?,
        partition: reader.u32("a partition")?,
        segment: reader.u16("a segment")?,
        db_root: reader.u16("a DB Root")?,
        width: reader.u16("a column width")?,
        status: reader.u16("an extent's status")?.cast_signed(),
        low: 0,
        high: 0,
        sequence: 0,
        valid: 0,
    })
}

fn extent_v4(reader: &mut Reader<'_>) -> Decoded<MapExtent> {
    let mut extent = extent(reader)?;
    extent.high = i128::from(reader.u64("a largest value")?.cast_signed());
    extent.low = i128::from(reader.u64("a smallest value")?.cast_signed());
    (extent.sequence, extent.valid) = sequence(reader)?;
    reader.bytes(3, "the end of an extent")?;
    Ok(extent)
}

fn extent_v5(reader: &mut Reader<'_>) -> Decoded<MapExtent> {
    let mut extent = extent(reader)?;
    reader.bytes(8, "eight bytes without meaning")?;
    (extent.sequence, extent.valid) = sequence(reader)?;
    reader.bytes(11, "eleven bytes without meaning")?;
    extent.low = wide_or_narrow(reader, extent.width, "a smallest value")?;
    extent.high = wide_or_narrow(reader, extent.width, "a largest value")?;
    Ok(extent)
}

fn sequence(reader: &mut Reader<'_>) -> Decoded<(i32, u8)> {
    let sequence = reader.u32("a sequence number")?.cast_signed();
    Ok((sequence, reader.u8("whether the values hold")?))
}

/// Takes a value of 16 bytes. For a column of up to 8 bytes it is a union of which only the first 8
/// are set; the rest is left over from what stood there before.
fn wide_or_narrow(reader: &mut Reader<'_>, width: u16, expected: &'static str) -> Decoded<i128> {
    let value = i128::from_le_bytes(reader.array(expected)?);
    if (1..=8).contains(&width) { Ok(i128::from(value as i64)) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_exact, hex};
    use super::*;

    /// Two extents and two free ranges of version 5.
    const V5: &str = "
        208bf776 02000000 02000000

        0020000000000000 08000000 a5a5a5a5 b80b0000 00000200 6a010000 02000000
        0300 0400 0800 0000 a5a5a5a5a5a5a5a5 15000000 02 a5a5a5a5a5a5a5a5a5a5a5
        feffffffffffffff 0000000000000000  ffffffffffffff7f 0000000000000000

        0000000001000000 04000000 00000000 b90b0000 00000000 00000000 00000000
        0000 0100 1000 0200 0000000000000000 ffffffff 00 0000000000000000000000
        ffffffffffffffffffffffffffffff7f  00000000000000000000000000000080

        0040000000000000 ffffff03 a5a5a5a5
        0000000000000000 00000000 00000000";

    /// One extent of version 4: the largest value stands before the smallest.
    const V4: &str = "
        1f8bf776 01000000 00000000
        0000010000000000 04000000 00000000 bc0b0000 00000000 05000000 01000000
        0200 0100 0400 0100 1000000000000000 f0ffffffffffffff 07000000 01 a5a5a5";

    fn extent() -> MapExtent {
        MapExtent {
            lbid: 8192,
            units: 8,
            oid: 3000,
            block_offset: 131_072,
            hwm: 362,
            partition: 2,
            segment: 3,
            db_root: 4,
            width: 8,
            status: 0,
            low: -2,
            high: i128::from(i64::MAX),
            sequence: 21,
            valid: 2,
        }
    }

    #[test]
    fn version_5_is_read_field_by_field() {
        let bytes = hex(V5);
        let map = ExtentMap::decode(&bytes).unwrap();
        let dictionary_like = MapExtent {
            lbid: 1 << 32,
            units: 4,
            oid: 3001,
            block_offset: 0,
            hwm: 0,
            partition: 0,
            segment: 0,
            db_root: 1,
            width: 16,
            status: 2,
            low: i128::MAX,
            high: i128::MIN,
            sequence: -1,
            valid: 0,
        };
        assert_eq!(map.version, 5);
        assert_eq!(map.extents, [extent(), dictionary_like]);
        let free = [(16384, 67_108_863), (0, 0)].map(|(lbid, units)| FreeRange { lbid, units });
        assert_eq!(map.free, free);
        assert_eq!((extent().blocks(), extent().end()), (8192, 16384));
        assert_exact(&bytes, ExtentMap::decode);
    }

    #[test]
    fn version_4_has_the_largest_value_first() {
        let bytes = hex(V4);
        let map = ExtentMap::decode(&bytes).unwrap();
        let read = MapExtent {
            lbid: 65536,
            units: 4,
            oid: 3004,
            block_offset: 0,
            hwm: 5,
            partition: 1,
            segment: 2,
            db_root: 1,
            width: 4,
            status: 1,
            low: -16,
            high: 16,
            sequence: 7,
            valid: 1,
        };
        assert_eq!((map.version, map.extents, map.free), (4, vec![read], vec![]));
        assert_exact(&bytes, ExtentMap::decode);
    }

    fn faults(map: &ExtentMap) -> Vec<String> {
        let mut faults = Vec::new();
        map.faults(&mut |fault| faults.push(fault));
        faults
    }

    /// Three extents of one file, out of order in every way that they may be.
    fn of_one_file() -> ExtentMap {
        let places = [(65_536, 16_384), (16_384, 0), (32_768, 8192)];
        let extents =
            places.map(|(lbid, block_offset)| MapExtent { lbid, block_offset, ..extent() });
        ExtentMap { version: 5, extents: extents.to_vec(), free: vec![] }
    }

    /// Catches a field, an LBID or a place in a file that cannot be and is taken as it is; and an order
    /// that the server does not keep and this program asks for.
    #[test]
    fn what_cannot_be_is_said_with_its_extent() {
        assert_eq!(faults(&of_one_file()), Vec::<String>::new());
        type Change = fn(&mut MapExtent);
        let cases: [(Change, &str); 10] = [
            (|e| e.units = 0, "extent 1 (OID 3000), LBIDs: at least 1024 expected, found none"),
            (
                |e| e.width = 24,
                "extent 1 (OID 3000), column width: 0, 1, 2, 4, 8 or 16 expected, found 24",
            ),
            (|e| e.status = 4, "extent 1 (OID 3000), status: 0 to 2 expected, found 4"),
            (|e| e.status = -1, "extent 1 (OID 3000), status: 0 to 2 expected, found -1"),
            (
                |e| e.valid = 3,
                "extent 1 (OID 3000), worth of smallest and largest value: 0 to 2 expected, found 3",
            ),
            (
                |e| e.lbid = 30_000,
                "extent 2 (OID 3000): LBIDs from 38192 on expected, found 32768: extent 1 (OID 3000) has \
                 those before",
            ),
            (
                |e| e.block_offset = 1,
                "extent 1 (OID 3000): block 0 of its file expected for the first of its own, as the first \
                 of its file, found 1",
            ),
            (
                |e| e.block_offset = 24_577,
                "extent 1 (OID 3000): block 24576 of its file expected for the first of its own, where \
                 extent 0 ends, found 24577",
            ),
            (
                |e| e.block_offset = 8192,
                "extent 2 (OID 3000): block 16384 of its file expected for the first of its own, where \
                 extent 1 ends, found 8192",
            ),
            (|e| e.db_root = 0, "extent 1 (OID 3000), DB Root: 1 or more expected, found 0"),
        ];
        for (change, says) in cases {
            let mut map = of_one_file();
            change(&mut map.extents[1]);
            let faults = faults(&map);
            assert!(faults.iter().any(|fault| fault == says), "{says}: {faults:#?}");
        }
        // Another file begins at its own first block.
        let mut map = of_one_file();
        map.extents[1].segment = 9;
        map.extents[2].block_offset = 0;
        map.extents[0].block_offset = 8192;
        assert_eq!(faults(&map), Vec::<String>::new());
    }

    #[test]
    fn older_versions_are_named_and_are_not_called_damage() {
        for (first, version) in [(0x1c, 1), (0x1d, 2), (0x1e, 3)] {
            let bytes = [first, 0x8b, 0xf7, 0x76, 1, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(ExtentMap::version(&bytes), Some(version));
            let error = ExtentMap::decode(&bytes).unwrap_err();
            assert!(error.to_string().contains(&format!("older version {version}")), "{error}");
        }
        for first in [0x1b, 0x21] {
            let bytes = [first, 0x8b, 0xf7, 0x76, 1, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(ExtentMap::version(&bytes), None);
            let error = ExtentMap::decode(&bytes).unwrap_err();
            assert_eq!(error, Malformed { at: 0, expected: "the first word of an extent map" });
        }
        assert_eq!(ExtentMap::version(b"\x20\x8b\xf7"), None);
    }

    #[test]
    fn counts_that_do_not_fill_the_file_are_refused_before_anything_is_allocated() {
        for counts in ["ffffff7f ffffff7f", "ffffffff 00000000", "03000000 02000000"] {
            let mut bytes = hex(V5);
            bytes[4..12].copy_from_slice(&hex(counts));
            assert_eq!(ExtentMap::decode(&bytes).map_err(|error| error.at), Err(4), "{counts}");
        }
        let none = ExtentMap::decode(&hex("208bf776 00000000 00000000")).unwrap_err();
        assert_eq!(none.expected, "at least one extent");
    }

    #[test]
    fn what_can_never_be_negative_is_refused_with_its_place() {
        for (at, expected) in [
            (12, "an LBID that is not negative"),
            (28, "an OID that is not negative"),
            (204, "an LBID that is not negative"),
        ] {
            let mut bytes = hex(V5);
            bytes[at..at + 8].fill(0xff);
            assert_eq!(ExtentMap::decode(&bytes), Err(Malformed { at, expected }));
        }
    }
}
