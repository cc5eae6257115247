//! The OID bitmap (`oidbitmap`): which object ids are in use.
//!
//! Source: the server's brm/oidserver.h, 117-119, and brm/oidserver.cpp, 210-268 and 351-371: a
//! free list, a bit for each of 2^24 OIDs, most significant first, and the DB Roots of the version
//! buffers. `save_brm` does not write it; the server that hands out OIDs does, in place.

use super::Sensible;
use crate::format::wire::{Decoded, Reader};

/// The largest OID there can be.
pub const OID_MAX: u32 = (1 << 24) - 1;

const FREE_ENTRIES: usize = 256;
const BITMAP_BYTES: usize = (OID_MAX as usize + 1) / 8;

/// Object ids in use, and the DB Roots of the version buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidBitmap {
    taken: Vec<u8>,
    /// The free list: where the server looks first for OIDs that are free. It need not name all.
    pub free: Vec<OidRange>,
    /// The DB Root of each version buffer, by its number.
    pub version_buffer_db_roots: Vec<u16>,
}

/// A range of object ids, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OidRange {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl OidBitmap {
    /// Reads the file, which must be filled to the byte: 2,099,202 bytes and two for each version
    /// buffer.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let mut free = Vec::new();
        for _ in 0..FREE_ENTRIES {
            let expected = "a range of free OIDs, or none (-1 and -1)";
            let start = reader.clone();
            match (reader.u32(expected)?, reader.u32(expected)?) {
                (u32::MAX, u32::MAX) => {}
                (first, last) if first <= last && last <= OID_MAX => {
                    free.push(OidRange { first, last });
                }
                _ => return Err(start.malformed(expected)),
            }
        }
        let taken = reader.bytes(BITMAP_BYTES, "a bit for each OID")?.to_vec();
        let count = reader.u16("the number of version buffers")?;
        let mut version_buffer_db_roots = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            version_buffer_db_roots.push(reader.u16("the DB Root of a version buffer")?);
        }
        reader.end("the end of the OID bitmap")?;
        Ok(OidBitmap { taken, free, version_buffer_db_roots })
    }

    /// Whether an object id is in use; those above [`OID_MAX`] never are.
    pub fn is_taken(&self, oid: u32) -> bool {
        let byte = self.taken.get(oid as usize / 8).copied().unwrap_or(0);
        byte & (0x80 >> (oid % 8)) != 0
    }

    /// Returns the ranges of object ids in use, in ascending order.
    pub fn taken(&self) -> impl Iterator<Item = OidRange> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.find(next, true)?;
            next = self.find(first, false).unwrap_or(OID_MAX + 1);
            Some(OidRange { first, last: next - 1 })
        })
    }

    /// Returns the first object id from `oid` on that is in use, or that is not.
    fn find(&self, mut oid: u32, is_taken: bool) -> Option<u32> {
        let uniform = if is_taken { 0 } else { 0xff };
        while oid <= OID_MAX {
            if oid.is_multiple_of(8) && self.taken.get(oid as usize / 8) == Some(&uniform) {
                oid += 8;
            } else if self.is_taken(oid) == is_taken {
                return Some(oid);
            } else {
                oid += 1;
            }
        }
        None
    }
}

impl Sensible for OidBitmap {
    /// What the free list has is not in use.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        for free in &self.free {
            if let Some(oid) = self.find(free.first, true).filter(|oid| *oid <= free.last) {
                found(format!(
                    "free list, OIDs {} to {}: none in use expected, found {oid}",
                    free.first, free.last
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::wire::Malformed;

    /// OIDs 0 to 9 and the last one are taken; two version buffers.
    fn file() -> Vec<u8> {
        let mut bytes = vec![0xff; 2048];
        bytes[0..8].copy_from_slice(&[0x0a, 0, 0, 0, 0xfe, 0xff, 0xff, 0]);
        bytes.resize(2_099_200, 0);
        bytes[2048] = 0xff;
        bytes[2049] = 0xc0;
        bytes[2_099_199] = 0x01;
        bytes.extend([2, 0, 1, 0, 4, 0]);
        bytes
    }

    #[test]
    fn bits_stand_most_significant_first() {
        let bitmap = OidBitmap::decode(&file()).unwrap();
        assert_eq!(bitmap.free, [OidRange { first: 10, last: OID_MAX - 1 }]);
        assert_eq!(bitmap.version_buffer_db_roots, [1, 4]);
        let taken: Vec<_> = bitmap.taken().map(|range| (range.first, range.last)).collect();
        assert_eq!(taken, [(0, 9), (OID_MAX, OID_MAX)]);
        let of = |oid| bitmap.is_taken(oid);
        assert_eq!([0, 9, 10, OID_MAX, OID_MAX + 1, u32::MAX].map(of), {
            [true, true, false, true, false, false]
        });
    }

    #[test]
    fn beginnings_of_the_file_and_longer_ones_are_refused() {
        let mut bytes = file();
        for cut in (0..2048).chain(2_099_190..bytes.len()) {
            assert!(OidBitmap::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        bytes.push(0);
        assert!(OidBitmap::decode(&bytes).is_err());
    }

    #[test]
    fn a_free_list_that_makes_no_sense_is_refused_with_its_place() {
        for entry in [
            [0x0a, 0, 0, 0, 9, 0, 0, 0],
            [0x0a, 0, 0, 0, 0, 0, 0, 1],
            [0xff, 0xff, 0xff, 0xff, 9, 0, 0, 0],
        ] {
            let mut bytes = file();
            bytes[16..24].copy_from_slice(&entry);
            let expected = "a range of free OIDs, or none (-1 and -1)";
            assert_eq!(OidBitmap::decode(&bytes), Err(Malformed { at: 16, expected }));
        }
    }
}
