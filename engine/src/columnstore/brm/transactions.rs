//! The last transaction (`SMTxnID`).
//!
//! Source: the server's brm/sessionmanagerserver.cpp, 422-458. `save_brm` does not write it; the
//! session manager rewrites it with every new transaction, read-only or not.

use super::{Sensible, refuse_negative};
use crate::format::wire::{Decoded, Reader};

/// What the session manager keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// The last transaction that was begun.
    pub last: i32,
    /// The version of the system catalog: it counts the changes of tables.
    pub catalog_version: i32,
    /// Bits of the system's state. Of those there are, only bit 1, suspended by an operator, and
    /// bit 4, roll back, are saved.
    pub system_state: u32,
}

impl Transactions {
    /// Reads the file, which has 12 bytes.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let transactions = Transactions {
            last: reader.u32("the last transaction")?.cast_signed(),
            catalog_version: reader.u32("the version of the system catalog")?.cast_signed(),
            system_state: reader.u32("the system's state")?,
        };
        reader.end("the end after 12 bytes")?;
        Ok(transactions)
    }
}

impl Sensible for Transactions {
    /// Neither number is negative.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        refuse_negative("last transaction", self.last, found);
        refuse_negative("version of the system catalog", self.catalog_version, found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_exact, hex};
    use super::*;

    #[test]
    fn the_three_numbers_are_read() {
        let bytes = hex("0c000100 07000000 02000000");
        let read = Transactions { last: 65_548, catalog_version: 7, system_state: 2 };
        assert_eq!(Transactions::decode(&bytes), Ok(read));
        assert_exact(&bytes, Transactions::decode);
    }
}
