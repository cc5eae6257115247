//! InnoDB tablespaces: pages and their checksums. The door to crc32c.
//!
//! Since MariaDB 10.5 (`full_crc32`) the last four bytes of a page are the CRC-32C of all before
//! them. Older forms, and pages that are encrypted or compressed, are not judged here.
//! Source: docs/COLUMNSTORE.md 4; MariaDB `storage/innobase/include/fil0fil.h`, `fsp0types.h`.

use crate::format::segment::Damage;

/// Bytes of a tablespace's first page that tell what it is.
pub const HEAD_BYTES: usize = 64;

const PAGE_NUMBER_AT: usize = 4;
const PAGE_TYPE_AT: usize = 24;
const SPACE_AT: usize = 34;
const FSP_SPACE_AT: usize = 38;
const FSP_FLAGS_AT: usize = 54;
const FSP_HEADER_TYPE: u32 = 8;

/// In the flags of a tablespace: its pages have the checksum over everything.
const FULL_CRC32: u32 = 1 << 4;
/// In the type of a page: it is compressed.
const COMPRESSED: u32 = 1 << 15;

/// A tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Whether its pages have the checksum that is verified here.
    pub is_full_crc32: bool,
}

/// What a page came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Nothing but zeros: never written.
    Unused,
    /// Its checksum holds.
    Holds,
    /// Encrypted, compressed or of an older form; nothing can be said.
    NotVerifiable,
    /// Its checksum does not hold.
    Damaged(Damage),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_be_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok());
    field.map_or(0, |field| u32::from(u16::from_be_bytes(field)))
}

impl Tablespace {
    /// Recognises a tablespace by the first [`HEAD_BYTES`] of a file of `size` bytes. Its page number,
    /// or one of its two space ids, may be damaged.
    pub fn recognise(first: &[u8], size: u64) -> Option<Self> {
        if first.len() < HEAD_BYTES || u16_at(first, PAGE_TYPE_AT) != FSP_HEADER_TYPE {
            return None;
        }
        let flags = u32_at(first, FSP_FLAGS_AT);
        let is_full_crc32 = flags & FULL_CRC32 != 0;
        // Full CRC: four bits of the size. Before: four bits further up, zero for 16 KiB.
        let shift = if is_full_crc32 { flags & 15 } else { flags >> 6 & 15 };
        let shift = if shift == 0 && !is_full_crc32 { 5 } else { shift };
        if !(3..=7).contains(&shift) || flags >= 1 << 17 {
            return None;
        }
        let page_bytes = 512 << shift;
        let is_first = u32_at(first, PAGE_NUMBER_AT) == 0;
        let is_one_space = u32_at(first, SPACE_AT) == u32_at(first, FSP_SPACE_AT);
        ((is_first || is_one_space) && size >= page_bytes as u64)
            .then_some(Tablespace { page_bytes, is_full_crc32 })
    }

    /// Verifies a page, which must be whole; `number` says which, for the damage.
    /// Cost: one pass over the page.
    pub fn verify(&self, page: &[u8], number: u64) -> PageState {
        if page.iter().fold(0, |all, byte| all | byte) == 0 {
            return PageState::Unused;
        }
        if !self.is_full_crc32 || page.len() != self.page_bytes {
            return PageState::NotVerifiable;
        }
        let (content, stored) = page.split_at(page.len() - 4);
        let (stored, found) = (u32_at(stored, 0), crc32c::crc32c(content));
        // The first four bytes of an encrypted page are the version of its key.
        let is_plain = u32_at(page, 0) == 0 && u16_at(page, PAGE_TYPE_AT) & COMPRESSED == 0;
        match (stored == found, is_plain) {
            (true, _) => PageState::Holds,
            (false, false) => PageState::NotVerifiable,
            (false, true) => PageState::Damaged(Damage {
                what: "page checksum".into(),
                slot: Some(number),
                offset: number * self.page_bytes as u64,
                expected: format!("{stored:#010x}"),
                found: format!("{found:#010x}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first page of a tablespace of 16 KiB pages, with its checksum.
    fn page() -> Vec<u8> {
        let mut page = vec![0; 16 << 10];
        page[25] = 8;
        page[34..38].copy_from_slice(&[0, 0, 0, 9]);
        page[38..42].copy_from_slice(&[0, 0, 0, 9]);
        page[57] = 0x15;
        seal(&mut page);
        page
    }

    fn seal(page: &mut [u8]) {
        let (content, checksum) = page.split_last_chunk_mut::<4>().unwrap();
        *checksum = crc32c::crc32c(content).to_be_bytes();
    }

    #[test]
    fn tablespaces_are_recognised_with_one_field_damaged_and_other_files_are_not() {
        let whole = Tablespace { page_bytes: 16 << 10, is_full_crc32: true };
        let size = 6 * (16 << 10);
        assert_eq!(Tablespace::recognise(&page(), size), Some(whole));
        for at in [7, 37, 41] {
            let mut page = page();
            page[at] ^= 1;
            assert_eq!(Tablespace::recognise(&page, size), Some(whole), "byte {at}");
        }
        let mut old = page();
        old[57] = 0x21;
        let found = Tablespace::recognise(&old, size).unwrap();
        assert!(!found.is_full_crc32);
        assert_eq!(found.verify(&old, 0), PageState::NotVerifiable);
        for bytes in [&[0; 64][..], &[0xff; 64], &page()[..63], &[7; 64], b""] {
            assert_eq!(Tablespace::recognise(bytes, size), None);
        }
    }

    #[test]
    fn pages_hold_or_not_and_unknown_forms_are_not_called_damage() {
        let space = Tablespace { page_bytes: 16 << 10, is_full_crc32: true };
        assert_eq!(space.verify(&page(), 0), PageState::Holds);
        assert_eq!(space.verify(&[0; 16 << 10], 5), PageState::Unused);
        for at in [30, 8000, 16_383] {
            let mut page = page();
            page[at] ^= 4;
            let PageState::Damaged(damage) = space.verify(&page, 3) else { panic!("byte {at}") };
            assert_eq!((damage.slot, damage.offset), (Some(3), 3 * 16_384));
        }
        for at in [3, 24] {
            // The version of a key; the mark of a compressed page.
            let mut page = page();
            page[at] |= 0x80;
            assert_eq!(space.verify(&page, 3), PageState::NotVerifiable);
            seal(&mut page);
            assert_eq!(space.verify(&page, 3), PageState::Holds);
        }
    }
}
