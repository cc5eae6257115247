//! The journal (`_journal`): changes since the current set was saved.
//!
//! All sets share one. It is emptied when a set is saved, and a record is added for every change
//! that all nodes have confirmed. Source: the server's brm/slavecomm.cpp, 2090-2198; the numbers of
//! commands are those of brm/brmtypes.h, 443-538.

use crate::format::wire::{Decoded, Reader};

/// The changes, in their order; none when the current set is the whole truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// One for each change.
    pub records: Vec<JournalRecord>,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Where its command begins in the journal, in bytes.
    pub offset: u64,
    /// How long the command is, its number included, in bytes; never zero.
    pub length: u32,
    /// The command's number; see [`command_name`].
    pub command: u8,
}

impl Journal {
    /// Reads the journal, which must end with a whole record. No bytes are no records.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let mut records = Vec::new();
        while reader.remaining() > 0 {
            let start = reader.clone();
            let length = reader.u32("the length of a record")?;
            let offset = (bytes.len() - reader.remaining()) as u64;
            let command = reader.bytes(length as usize, "a whole record")?;
            let Some(command) = command.first().copied() else {
                return Err(start.malformed("a record that is not empty"));
            };
            records.push(JournalRecord { offset, length, command });
        }
        Ok(Journal { records })
    }
}

/// Returns the server's name of a command that changes the BRM; `None` for a number that is not
/// known, or is of a command that is never in a journal.
pub fn command_name(command: u8) -> Option<&'static str> {
    Some(match command {
        1 => "delete OID",
        3 => "write version buffer entry",
        4 => "begin version buffer copy",
        5 => "end version buffer copy",
        6 => "roll back, first kind",
        7 => "roll back, second kind",
        8 => "commit",
        17 => "clear",
        18 => "mark extent invalid",
        19 => "mark many extents invalid",
        21 => "set smallest and largest value",
        24 => "delete empty column extents",
        25 => "delete empty dictionary extents",
        26 => "set many smallest and largest values",
        28 => "create dictionary extent",
        29 => "set high-water mark",
        30 => "delete OIDs",
        32 => "merge many smallest and largest values",
        33 => "delete partition",
        34 => "mark partition for deletion",
        35 => "restore partition",
        36 => "create column extent on a DB Root",
        37 => "set many high-water marks",
        38 => "roll back column extents",
        39 => "roll back dictionary extents",
        40 => "set many high-water marks and values",
        41 => "mark all partitions for deletion",
        42 => "create column extent in a file",
        43 => "delete DB Root",
        44 => "create extents of many columns",
        90 => "lock LBID ranges",
        91 => "release LBID ranges",
        100 => "move extents to another DB Root",
        102 => "write many version buffer entries",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;
    use crate::format::wire::Malformed;

    const THREE: &str = "
        05000000 08 0c000000
        01000000 11
        0d000000 1d b80b0000 00000000 0000 ffff";

    #[test]
    fn records_give_their_length_and_their_command() {
        let records = Journal::decode(&hex(THREE)).unwrap().records;
        let of = |record: &JournalRecord| (record.offset, record.length, record.command);
        assert_eq!(
            records.iter().map(of).collect::<Vec<_>>(),
            [(4, 5, 8), (13, 1, 17), (18, 13, 29)]
        );
        assert_eq!(command_name(29), Some("set high-water mark"));
        assert_eq!((command_name(2), command_name(20), command_name(255)), (None, None, None));
        assert_eq!(Journal::decode(b"").unwrap().records, []);
    }

    #[test]
    fn a_journal_ends_with_a_whole_record() {
        let bytes = hex(THREE);
        for cut in 1..bytes.len() {
            let at_an_end = [9, 14].contains(&cut);
            assert_eq!(Journal::decode(&bytes[..cut]).is_ok(), at_an_end, "{cut}");
        }
        let empty = hex("01000000 08 00000000 01000000 08");
        let expected = "a record that is not empty";
        assert_eq!(Journal::decode(&empty), Err(Malformed { at: 5, expected }));
        let huge = hex("ffffffff 08");
        assert_eq!(Journal::decode(&huge), Err(Malformed { at: 4, expected: "a whole record" }));
    }
}
