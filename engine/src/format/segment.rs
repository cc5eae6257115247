//! What a backup keeps of a segment file beside its content: its header's facts, and damage.
//!
//! Source: FORMAT.md 5.3. The facts let a proof run over manifests alone; content stays the truth.

use serde::{Deserialize, Serialize};

use super::wire::{Decoded, Reader, put_varint};
use crate::finding::DamagedPlace;

/// What the header of a segment file said when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentFacts {
    /// No header: an uncompressed file.
    Uncompressed,
    /// A header that does not hold; the finding says what.
    Damaged,
    /// A header and a table of slots that make sense.
    Compressed(CompressedFacts),
}

/// The facts of a compressed segment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompressedFacts {
    /// Version of the header.
    pub version: u64,
    /// Compression type: 1 and 2 Snappy, 3 LZ4.
    pub compression: u64,
    /// Column width in bytes; 0 for a dictionary, and in headers older than version 3.
    pub width: u64,
    /// The server's number of the column's type.
    pub data_type: u64,
    /// Uncompressed blocks of 8 KiB that the header counts.
    pub blocks: u64,
    /// Slots in the table.
    pub slots: u64,
    /// Where the last slot ends, in bytes from the file's beginning.
    pub slots_end: u64,
    /// The first LBID of each extent; none in headers older than version 3.
    pub lbids: Vec<u64>,
}

impl SegmentFacts {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SegmentFacts::Uncompressed => out.push(0),
            SegmentFacts::Damaged => out.push(1),
            SegmentFacts::Compressed(facts) => {
                out.push(2);
                let numbers = [
                    facts.version,
                    facts.compression,
                    facts.width,
                    facts.data_type,
                    facts.blocks,
                    facts.slots,
                    facts.slots_end,
                    facts.lbids.len() as u64,
                ];
                numbers.iter().chain(&facts.lbids).for_each(|number| put_varint(out, *number));
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        match reader.u8("kind of segment facts")? {
            0 => Ok(SegmentFacts::Uncompressed),
            1 => Ok(SegmentFacts::Damaged),
            2 => {
                let mut facts = CompressedFacts {
                    version: reader.varint("header version")?,
                    compression: reader.varint("compression type")?,
                    width: reader.varint("column width")?,
                    data_type: reader.varint("data type")?,
                    blocks: reader.varint("blocks")?,
                    slots: reader.varint("slots")?,
                    slots_end: reader.varint("end of the slots")?,
                    lbids: Vec::new(),
                };
                let count = reader.count(1, "number of LBIDs")?;
                for _ in 0..count {
                    facts.lbids.push(reader.varint("LBID")?);
                }
                Ok(SegmentFacts::Compressed(facts))
            }
            _ => Err(reader.malformed("kind of segment facts 0 to 2")),
        }
    }
}

/// A damaged place of a file: the detail of a finding with code 5, 6 or 7, stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// What does not hold: `signature`, `length`, `checksum`, `payload`, or a field of a header.
    pub what: String,
    /// The number of the slot, or of the page; none for a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Damage {
    /// Returns the stored form.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Says where it is, what was expected and what was found; `numbered` is what has a number there.
    pub fn told(&self, numbered: &str) -> String {
        let place = self.slot.map_or_else(String::new, |number| format!("{numbered} {number} "));
        let Damage { what, offset, expected, found, .. } = self;
        format!("{place}at byte {offset}: {what}: {expected} expected, found {found}")
    }

    /// Returns the place for programs, in a file of a component.
    pub fn place(&self, component: &str) -> Box<DamagedPlace> {
        Box::new(DamagedPlace {
            component: component.to_owned(),
            slot: self.slot,
            offset: self.offset,
            expected: self.expected.clone(),
            found: self.found.clone(),
        })
    }

    /// Reads the stored form; `None` when it is none.
    pub fn decode(detail: &[u8]) -> Option<Self> {
        serde_json::from_slice(detail).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_and_no_truncation_passes() {
        let facts = CompressedFacts {
            version: 3,
            compression: 2,
            width: 8,
            data_type: 6,
            blocks: 8192,
            slots: 5,
            slots_end: 1 << 33,
            lbids: vec![234_496, 1 << 35],
        };
        let all =
            [SegmentFacts::Uncompressed, SegmentFacts::Damaged, SegmentFacts::Compressed(facts)];
        for facts in all {
            let mut raw = Vec::new();
            facts.encode(&mut raw);
            assert_eq!(SegmentFacts::decode(&mut Reader::new(&raw)).as_ref(), Ok(&facts));
            for cut in 0..raw.len() {
                assert!(SegmentFacts::decode(&mut Reader::new(&raw[..cut])).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn damage_comes_back() {
        let damage = Damage {
            what: "checksum".into(),
            slot: Some(3),
            offset: 212_992,
            expected: "0x1a2b3c4d".into(),
            found: "0x00000001".into(),
        };
        assert_eq!(Damage::decode(&damage.encode()), Some(damage));
        assert_eq!(Damage::decode(b"size 8, then 9"), None);
    }
}
