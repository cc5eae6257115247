//! The files in which the block resolution manager (BRM) keeps what it knows between two starts.
//!
//! Four of them are one image: the extent map (`_em`), the versions of blocks (`_vss`), where the
//! version buffer keeps old versions (`_vbbm`), and the journal of changes since. Sets of the first
//! three are saved in turn under different names; `_current` names the one that counts. Three more
//! are written on their own: OIDs in use, the last transaction, table locks.
//!
//! All numbers are little-endian: the server writes its structures as they lie in memory. Bytes
//! between fields are undefined and differ from save to save, so files are compared by what they
//! say, never byte by byte. Source: docs/COLUMNSTORE.md 2.

mod current;
mod extent_map;
mod journal;
mod oid_bitmap;
mod table_locks;
mod transactions;
mod version_buffer;
mod versions;

pub use current::CurrentSet;
pub use extent_map::{ExtentMap, FreeRange, LBIDS_PER_UNIT, MapExtent};
pub use journal::{Journal, JournalReader, command_name};
pub use oid_bitmap::{OID_MAX, OidBitmap, OidRange};
pub use table_locks::{LockState, TableLock, TableLocks};
pub use transactions::Transactions;
pub use version_buffer::{BufferBlock, BufferFile, VersionBuffer};
pub use versions::{Version, Versions};

use crate::format::wire::{Decoded, Reader};

/// What a file of the BRM says, which may be what cannot be, though every field can be read.
pub trait Sensible {
    /// Hands over what cannot be, one by one: the place, what is expected and what is found. Bytes
    /// alone decide; what other files say does not. Most files say nothing that could be asked.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        let _ = found;
    }
}

impl Sensible for CurrentSet {}

impl Sensible for TableLocks {}

/// Says that a number which must not be negative is.
fn refuse_negative(what: &str, number: i32, found: &mut dyn FnMut(String)) {
    if number < 0 {
        found(format!("{what}: none below zero expected, found {number}"));
    }
}

/// Takes a signed 32-bit number that is not negative.
fn natural(reader: &mut Reader<'_>, expected: &'static str) -> Decoded<u32> {
    let start = reader.clone();
    let value = reader.u32(expected)?;
    if value.cast_signed() < 0 { Err(start.malformed(expected)) } else { Ok(value) }
}

/// Takes an LBID: a signed 64-bit number that is not negative.
fn lbid(reader: &mut Reader<'_>) -> Decoded<u64> {
    let expected = "an LBID that is not negative";
    let start = reader.clone();
    let value = reader.u64(expected)?;
    if value.cast_signed() < 0 { Err(start.malformed(expected)) } else { Ok(value) }
}

/// Takes a C++ `bool`.
fn flag(reader: &mut Reader<'_>, expected: &'static str) -> Decoded<bool> {
    let start = reader.clone();
    match reader.u8(expected)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(start.malformed(expected)),
    }
}

#[cfg(test)]
mod testing {
    use crate::format::wire::Decoded;

    /// Returns the bytes that are written as hexadecimal digits, with blanks between them.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Every beginning of a valid file is an error, and so is one more byte.
    pub fn assert_exact<T: std::fmt::Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Decoded<T>) {
        assert!(decode(bytes).is_ok(), "{:?}", decode(bytes));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "passes when cut at byte {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode(&longer).is_err(), "passes with one more byte");
    }
}
