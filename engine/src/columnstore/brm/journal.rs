//! The journal (`_journal`): changes since the current set was saved.
//!
//! All sets share one. It is emptied when a set is saved, and a record is added for every change
//! that all nodes have confirmed. Source: the server's brm/slavecomm.cpp, 2090-2198; the numbers of
//! commands are those of brm/brmtypes.h, 443-538.

use std::collections::BTreeMap;

use crate::format::wire::{Decoded, Malformed};

/// Bytes before the command of a record: its length.
const LENGTH_BYTES: usize = 4;

/// The changes, counted; none when the current set is the whole truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// How many there are.
    pub records: u64,
    /// How many there are of each command, by its number; see [`command_name`].
    pub commands: BTreeMap<u8, u64>,
}

/// Reads a journal piece by piece, so that memory does not grow with it.
#[derive(Clone, Debug, Default)]
pub struct JournalReader {
    journal: Journal,
    /// Where the next piece begins, in bytes from the beginning.
    at: usize,
    /// The length of a record, as far as it was read.
    length: ([u8; LENGTH_BYTES], usize),
    /// Bytes of a record's command that are still to come, and where it begins.
    command: (usize, usize),
}

impl Journal {
    /// Reads the journal, which must end with a whole record. No bytes are no records.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = JournalReader::default();
        reader.read(bytes)?;
        reader.end()
    }
}

impl JournalReader {
    /// Reads the next piece.
    pub fn read(&mut self, mut bytes: &[u8]) -> Decoded<()> {
        while !bytes.is_empty() {
            let (left, begins) = self.command;
            let (length, known) = self.length;
            if left > 0 {
                if self.at == begins {
                    *self.journal.commands.entry(bytes[0]).or_default() += 1;
                    self.journal.records += 1;
                }
                let taken = left.min(bytes.len());
                self.command.0 -= taken;
                self.at += taken;
                bytes = &bytes[taken..];
                continue;
            }
            let mut length = length;
            length[known] = bytes[0];
            self.at += 1;
            bytes = &bytes[1..];
            self.length = (length, (known + 1) % LENGTH_BYTES);
            if known + 1 == LENGTH_BYTES {
                let length = u32::from_le_bytes(length) as usize;
                if length == 0 {
                    let at = self.at - LENGTH_BYTES;
                    return Err(Malformed { at, expected: "a record that is not empty" });
                }
                self.command = (length, self.at);
            }
        }
        Ok(())
    }

    /// Returns what was counted, when the last record was whole.
    pub fn end(self) -> Decoded<Journal> {
        match (self.command, self.length.1) {
            ((0, _), 0) => Ok(self.journal),
            ((0, _), known) => {
                Err(Malformed { at: self.at - known, expected: "the length of a record" })
            }
            ((_, at), _) => Err(Malformed { at, expected: "a whole record" }),
        }
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
    fn records_are_counted_by_their_command() {
        let commands = BTreeMap::from([(8, 2), (17, 1), (29, 1)]);
        let bytes = [hex(THREE), hex("02000000 08 00")].concat();
        let journal = Journal { records: 4, commands };
        assert_eq!(Journal::decode(&bytes).as_ref(), Ok(&journal));
        // In whatever pieces it comes.
        for length in 1..bytes.len() {
            let mut reader = JournalReader::default();
            bytes.chunks(length).for_each(|piece| reader.read(piece).unwrap());
            assert_eq!(reader.end().as_ref(), Ok(&journal), "pieces of {length}");
        }
        assert_eq!(command_name(29), Some("set high-water mark"));
        assert_eq!((command_name(2), command_name(20), command_name(255)), (None, None, None));
        assert_eq!(Journal::decode(b""), Ok(Journal::default()));
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
