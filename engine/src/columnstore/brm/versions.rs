//! The version substitution structure (`_vss`): blocks of which there is more than one version.
//!
//! Source: the server's brm/vss.cpp, 1241-1320, and brm/vss.h, 75-86.

use super::{Sensible, flag, lbid, refuse_negative};
use crate::format::wire::{Decoded, Reader};

const MAGIC: u32 = 0x7218_db12;
const ENTRY_BYTES: u64 = 24;

/// The versions of blocks, as they were saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// In the order of the file; none when nothing was written since the last clean start.
    pub entries: Vec<Version>,
}

/// One version of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The block.
    pub lbid: u64,
    /// The transaction that wrote it.
    pub version: i32,
    /// Whether it is in the version buffer, and no longer in the segment file.
    pub in_version_buffer: bool,
    /// Whether the transaction that wrote it had not ended.
    pub locked: bool,
}

impl Versions {
    /// Whether a file begins like one of these.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.first_chunk() == Some(&MAGIC.to_le_bytes())
    }

    /// Reads the file, which must be filled to the byte. One of no bytes at all is malformed: the
    /// server does not load it.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let expected = "the first word of a file of versions (vss)";
        let mut reader = Reader::new(bytes);
        if reader.u32(expected)? != MAGIC {
            return Err(Reader::new(bytes).malformed(expected));
        }
        let start = reader.clone();
        let count = reader.u32("a number of versions")?;
        if u64::from(count) * ENTRY_BYTES != reader.remaining() as u64 {
            return Err(start.malformed("a number of versions that fills the file"));
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            entries.push(Version {
                lbid: lbid(&mut reader)?,
                version: reader.u32("a version")?.cast_signed(),
                in_version_buffer: flag(&mut reader, "0 or 1 for being in the version buffer")?,
                locked: flag(&mut reader, "0 or 1 for being locked")?,
            });
            // Two bytes without meaning, the next of the same hash, four more without meaning.
            reader.bytes(10, "the end of a version")?;
        }
        reader.end("the end of the versions")?;
        Ok(Versions { entries })
    }
}

impl Sensible for Versions {
    /// No transaction is negative, and none has two versions of a block.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        let mut order: Vec<u32> = (0..).take(self.entries.len()).collect();
        let of = |number: u32| &self.entries[number as usize];
        for number in &order {
            refuse_negative(&format!("version {number}, transaction"), of(*number).version, found);
        }
        let key = |number: u32| (of(number).lbid, of(number).version);
        order.sort_unstable_by_key(|number| (key(*number), *number));
        for pair in order.windows(2).filter(|pair| key(pair[0]) == key(pair[1])) {
            let (lbid, version) = key(pair[1]);
            found(format!(
                "version {}: one version of LBID {lbid} by transaction {version} expected, found two",
                pair[1]
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_exact, hex};
    use super::*;
    use crate::format::wire::Malformed;

    const TWO: &str = "
        12db1872 02000000
        05dc030000000000 08000000 01 00 2020 ffffffff 00000000
        05dc030001000000 0c000000 00 01 a5a5 00000000 a5a5a5a5";

    #[test]
    fn versions_are_read_field_by_field() {
        let entries = [
            Version { lbid: 252_933, version: 8, in_version_buffer: true, locked: false },
            Version {
                lbid: (1 << 32) + 252_933,
                version: 12,
                in_version_buffer: false,
                locked: true,
            },
        ];
        assert_eq!(Versions::decode(&hex(TWO)).unwrap().entries, entries);
        assert_exact(&hex(TWO), Versions::decode);
        assert_exact(&hex("12db1872 00000000"), Versions::decode);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (at, bytes, expected) in [
            (0, "13", "the first word of a file of versions (vss)"),
            (4, "ffffffff", "a number of versions that fills the file"),
            (4, "01000000", "a number of versions that fills the file"),
            (8, "ffffffffffffffff", "an LBID that is not negative"),
            (20, "02", "0 or 1 for being in the version buffer"),
            (45, "80", "0 or 1 for being locked"),
        ] {
            let mut file = hex(TWO);
            let bytes = hex(bytes);
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(Versions::decode(&file), Err(Malformed { at, expected }));
        }
    }
}
