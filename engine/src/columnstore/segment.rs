//! Segment files: the header, the table of slots, and the slots. The door to fastmurmur3.
//!
//! A compressed segment file is a header of two parts (4 KiB of facts, then a table of offsets),
//! slots, and perhaps a tail. Each slot holds up to 4 MiB of 8 KiB blocks, packed, behind nine bytes
//! that say how. An uncompressed file has no header; whether there is one is told by content, never
//! by name. Source: docs/COLUMNSTORE.md 1; ColumnStore `utils/compress/idbcompress.cpp`, 48 to 258.

pub use crate::format::recipe::SLOT_HEAD_BYTES;
use crate::format::segment::{CompressedFacts, Damage};

/// The first eight bytes of a header, as a number.
pub const MAGIC: u64 = 0xfdc1_19a3_84d0_778e;

/// Bytes of a block, the unit of everything in a segment file.
pub const BLOCK_BYTES: u64 = 8192;

/// Blocks that a slot holds when unpacked: 4 MiB.
pub const SLOT_BLOCKS: u64 = 512;

/// Bytes of the first part of a header; the table follows.
pub const FACTS_BYTES: usize = 4096;

/// The longest header this program believes in. Dictionaries were seen with 16 KiB.
pub const HEADER_BYTES_MAX: u64 = 1 << 20;

/// The longest slot this program believes in: a packer's worst case is below 5 MiB.
pub const SLOT_BYTES_MAX: u64 = 8 << 20;

/// The newest header version that is known.
pub const VERSION_MAX: u64 = 3;

/// Bytes of the first slot that tell how it is packed: its head, and the length that a payload of
/// Snappy begins with.
const FIRST_SLOT_BYTES: usize = SLOT_HEAD_BYTES + 4;

/// LBIDs that a header has room for.
const LBIDS_MAX: u64 = 48;
const LBIDS_AT: usize = 64;

/// How the payload of a slot is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Snappy, raw.
    Snappy,
    /// LZ4, one block without a frame.
    Lz4,
}

impl Packing {
    /// Returns the packing that the first byte of a slot stands for.
    pub fn of_signature(signature: u8) -> Option<Self> {
        match signature {
            0xfd => Some(Packing::Snappy),
            0xfc => Some(Packing::Lz4),
            _ => None,
        }
    }

    /// Returns the packing that a header's compression type stands for.
    pub fn of_type(compression: u64) -> Option<Self> {
        match compression {
            1 | 2 => Some(Packing::Snappy),
            3 => Some(Packing::Lz4),
            _ => None,
        }
    }

    /// Returns the first byte of slots packed like this.
    pub fn signature(self) -> u8 {
        match self {
            Packing::Snappy => 0xfd,
            Packing::Lz4 => 0xfc,
        }
    }

    /// Returns the packing that the first bytes of a payload look like; `None` when there are too few.
    ///
    /// Snappy begins with the unpacked length, seven bits a byte, low ones first; that of a slot is of
    /// whole blocks. No payload of LZ4 was seen that begins so. Source: google/snappy,
    /// `format_description.txt`, 1; docs/COLUMNSTORE.md 1.
    fn of_payload(payload: &[u8]) -> Option<Self> {
        let first = payload.first_chunk::<4>()?;
        let length = (0..4).map(|byte| u64::from(first[byte] & 0x7f) << (7 * byte));
        let bytes = first.iter().position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
        let length: u64 = length.take(bytes).sum();
        let is_of_blocks = length.is_multiple_of(BLOCK_BYTES)
            && (BLOCK_BYTES..=SLOT_BLOCKS * BLOCK_BYTES).contains(&length);
        Some(if is_of_blocks { Packing::Snappy } else { Packing::Lz4 })
    }

    /// Returns the name for people.
    fn title(self) -> &'static str {
        match self {
            Packing::Snappy => "Snappy",
            Packing::Lz4 => "LZ4",
        }
    }

    /// Returns the word used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Packing::Snappy => "snappy",
            Packing::Lz4 => "lz4",
        }
    }
}

/// The facts of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Version, 1 to 3; only 3 knows width, type and LBIDs.
    pub version: u64,
    /// Compression type: 1 and 2 Snappy, 3 LZ4.
    pub compression: u64,
    /// Bytes of both parts of the header, as it says.
    pub header_bytes: u64,
    /// Uncompressed blocks of the file's extents, as far as they are initialised.
    pub blocks: u64,
    /// Column width in bytes; 0 for a dictionary.
    pub width: u64,
    /// The server's number of the column's type.
    pub data_type: u32,
    /// The first LBID of each extent, in the order of the file.
    pub lbids: Vec<u64>,
}

/// A header as it was read, what does not hold in it, and the slots as far as they make sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The facts.
    pub header: Header,
    /// Borders of the slots in bytes from the file's beginning, strictly rising: the first slot
    /// begins where the header ends, and slot `i` is `bounds[i]..bounds[i + 1]`. Empty when the table
    /// makes no sense; one border is a file without slots.
    pub bounds: Vec<u64>,
    /// How slots are packed: as the header says, or, when it is at fault there, as the first slot
    /// does. `None` for a way that is not known here.
    pub packing: Option<Packing>,
    /// What does not hold.
    pub faults: Vec<Damage>,
}

/// The head of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHead {
    /// How the payload is packed: 0xfd or 0xfc.
    pub signature: u8,
    /// Checksum of the payload.
    pub checksum: u32,
    /// Bytes of the payload.
    pub length: u32,
}

/// What a slot came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Signature, length and checksum hold.
    Holds,
    /// Packed in a way that is not known here; nothing can be said.
    NotVerifiable,
    /// It does not hold.
    Damaged(Damage),
}

/// Returns the checksum of a slot's payload: MurmurHash3 x64 128 with seed 0, the low 32 bits of its
/// first half. Source: ColumnStore `utils/common/hasher.h`; `idbcompress.cpp`, 141.
pub fn checksum(payload: &[u8]) -> u32 {
    fastmurmur3::murmur3_x64_128(payload, 0) as u32
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

/// Whether a length of a header is one: whole blocks, of which the table has an odd number of halves.
fn is_header_length(length: u64) -> bool {
    (BLOCK_BYTES..=HEADER_BYTES_MAX).contains(&length) && length.is_multiple_of(BLOCK_BYTES)
}

/// Returns how many bytes of a file belong to its header, when its first 8 KiB (or all it has) are
/// those of a compressed segment file: 8 KiB to 1 MiB. A magic number that does not hold is
/// recognised by what stands around it; `None` means that the file is none.
pub fn header_length(first: &[u8]) -> Option<usize> {
    if first.len() < FACTS_BYTES {
        return None;
    }
    let length = u64_at(first, 24);
    let begins_the_table = u64_at(first, FACTS_BYTES);
    if u64_at(first, 0) == MAGIC {
        // A length that makes no sense is a fault; the table may still be found.
        let sane = [length, begins_the_table].into_iter().find(|length| is_header_length(*length));
        return Some(sane.unwrap_or(BLOCK_BYTES) as usize);
    }
    let around = is_header_length(length)
        && begins_the_table == length
        && (1..=VERSION_MAX).contains(&u64_at(first, 8))
        && Packing::of_type(u64_at(first, 16)).is_some();
    around.then_some(length as usize)
}

impl Segment {
    /// Reads the header of a file of `size` bytes whose first 8 KiB (or all it has) are `first`; `read`
    /// returns so many bytes from its beginning, or fewer where it ends. `None` when it has no header.
    pub fn read<E>(
        first: &[u8],
        size: u64,
        read: impl FnOnce(u64) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Self>, E> {
        let Some(length) = header_length(first) else { return Ok(None) };
        // The first slot tells how it is packed, which the header must agree with.
        Ok(Some(Segment::decode(&read((length + FIRST_SLOT_BYTES) as u64)?, size)))
    }

    /// Reads a header: `bytes` are those of [`header_length`], and as much of the first slot as there
    /// is; `size` is the file's. Never fails: what does not hold is a fault.
    pub fn decode(bytes: &[u8], size: u64) -> Self {
        let mut segment = Segment::default();
        segment.facts(bytes);
        segment.bounds = segment.table(bytes, size).unwrap_or_else(|fault| {
            segment.faults.push(*fault);
            Vec::new()
        });
        segment.packing = Packing::of_type(segment.header.compression);
        segment.first_slot(bytes);
        segment
    }

    fn facts(&mut self, bytes: &[u8]) {
        let mut fault = |what: &str, at: usize, expected: &str, found: String| {
            self.faults.push(Damage {
                what: what.into(),
                slot: None,
                offset: at as u64,
                expected: expected.into(),
                found,
            });
        };
        let magic = u64_at(bytes, 0);
        if magic != MAGIC {
            fault("magic", 0, &format!("{MAGIC:#018x}"), format!("{magic:#018x}"));
        }
        let header = &mut self.header;
        header.version = u64_at(bytes, 8);
        header.compression = u64_at(bytes, 16);
        header.header_bytes = u64_at(bytes, 24);
        header.blocks = u64_at(bytes, 32);
        if header.version == 0 {
            fault("version", 8, "1 to 3", "0".into());
        }
        if !is_header_length(header.header_bytes) {
            let found = header.header_bytes.to_string();
            fault("header length", 24, "a multiple of 8192 up to 1048576", found);
        }
        if header.version != VERSION_MAX {
            // What follows is not in older headers, and unknown in newer ones.
            return;
        }
        header.width = u64_at(bytes, 40);
        header.data_type = u32_at(bytes, 48);
        if ![0, 1, 2, 4, 8, 16].contains(&header.width) {
            fault("column width", 40, "0, 1, 2, 4, 8 or 16", header.width.to_string());
        }
        let count = u64_at(bytes, 56);
        if count > LBIDS_MAX {
            fault("number of LBIDs", 56, "at most 48", count.to_string());
            return;
        }
        header.lbids =
            (0..count as usize).map(|number| u64_at(bytes, LBIDS_AT + 8 * number)).collect();
        let rest = LBIDS_AT + 8 * count as usize..FACTS_BYTES;
        for range in [52..56, rest] {
            let wrong = range.clone().find(|at| bytes.get(*at).is_some_and(|byte| *byte != 0));
            if let Some(at) = wrong {
                fault("unused part of the header", at, "zeros", format!("{:#04x}", bytes[at]));
            }
        }
    }

    /// Returns the borders of the slots.
    fn table(&self, bytes: &[u8], size: u64) -> Result<Vec<u64>, Box<Damage>> {
        let fault = |number: usize, expected: String, found: String| {
            Box::new(Damage {
                what: format!("slot pointer {number}"),
                slot: None,
                offset: (FACTS_BYTES + 8 * number) as u64,
                expected,
                found,
            })
        };
        let length = self.header.header_bytes;
        if !is_header_length(length) {
            // A fault already; without it nobody knows where the table ends.
            return Ok(Vec::new());
        }
        let table = bytes.get(FACTS_BYTES..length as usize).ok_or_else(|| {
            fault(
                0,
                format!("a header of {length} bytes"),
                format!("a file of {size}, which is shorter"),
            )
        })?;
        let mut bounds: Vec<u64> = Vec::new();
        let (words, _) = table.as_chunks::<8>();
        for (number, word) in words.iter().enumerate() {
            let pointer = u64::from_le_bytes(*word);
            let ended = bounds.len() < number;
            if ended && pointer != 0 {
                let found = format!("{pointer} behind the end of the table");
                return Err(fault(number, "0".into(), found));
            }
            if ended || (pointer == 0 && number > 0) {
                continue;
            }
            let wrong = |expected: String| Err(fault(number, expected, pointer.to_string()));
            let Some(last) = bounds.last() else {
                if pointer != length {
                    return wrong(format!("{length}, the end of the header"));
                }
                bounds.push(pointer);
                continue;
            };
            if pointer <= *last || pointer - last > SLOT_BYTES_MAX {
                return wrong(format!("{} to {}", last + 1, last + SLOT_BYTES_MAX));
            }
            if !pointer.is_multiple_of(BLOCK_BYTES) {
                return wrong("a multiple of 8192".into());
            }
            if pointer > size {
                let found = format!("one of {size}, which ends before its slots do");
                return Err(fault(number, format!("a file of at least {pointer} bytes"), found));
            }
            bounds.push(pointer);
        }
        Ok(bounds)
    }

    /// Compares the compression type with the first slot. When its signature is another one, the
    /// payload decides which of the two is wrong: the signature is then found with its slot.
    fn first_slot(&mut self, bytes: &[u8]) {
        let Some(first) = self.bounds.first().filter(|_| self.bounds.len() > 1) else { return };
        let slot = bytes.get(*first as usize..).unwrap_or_default();
        let Some(found) = slot.first().copied().and_then(Packing::of_signature) else { return };
        let said = self.packing;
        let payload = slot.get(SLOT_HEAD_BYTES..).unwrap_or_default();
        if said == Some(found) || (said.is_some() && Packing::of_payload(payload) == said) {
            return;
        }
        self.packing = Some(found);
        let name = said.map_or("unknown", Packing::name);
        self.faults.push(Damage {
            what: "compression type".into(),
            slot: None,
            offset: 16,
            expected: format!("one of {}, as the first slot", found.name()),
            found: format!("{} ({name})", self.header.compression),
        });
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> u64 {
        self.bounds.len().saturating_sub(1) as u64
    }

    /// Returns what a manifest keeps; `None` when the table makes no sense.
    pub fn compressed_facts(&self) -> Option<CompressedFacts> {
        let header = &self.header;
        Some(CompressedFacts {
            version: header.version,
            compression: header.compression,
            width: header.width,
            data_type: header.data_type.into(),
            blocks: header.blocks,
            slots: self.slots(),
            slots_end: *self.bounds.last()?,
            lbids: header.lbids.clone(),
        })
    }
}

impl SlotHead {
    /// Reads the head of a slot; `None` when it is shorter than one.
    pub fn decode(slot: &[u8]) -> Option<Self> {
        slot.get(..SLOT_HEAD_BYTES).map(|head| SlotHead {
            signature: head[0],
            checksum: u32_at(head, 1),
            length: u32_at(head, 5),
        })
    }

    /// Returns where the payload of a slot of `length` bytes ends; `None` when it does not fit.
    pub fn payload_end(&self, length: usize) -> Option<usize> {
        let end = SLOT_HEAD_BYTES + self.length as usize;
        (self.length > 0 && end <= length).then_some(end)
    }
}

/// Verifies a slot: its signature, its length and its checksum. `number` and `offset` say where it
/// is, for the damage; `packing` is how the slots of its file are packed, and the only signature that
/// the server accepts; without it, any that is known holds. Cost: one pass over the payload.
pub fn verify_slot(slot: &[u8], number: u64, offset: u64, packing: Option<Packing>) -> SlotState {
    let damaged = |what: &str, expected: String, found: String| {
        let (what, slot) = (what.to_owned(), Some(number));
        SlotState::Damaged(Damage { what, slot, offset, expected, found })
    };
    let Some(head) = SlotHead::decode(slot) else {
        let expected = format!("at least {SLOT_HEAD_BYTES} bytes");
        return damaged("length", expected, format!("{} bytes", slot.len()));
    };
    match packing {
        None if Packing::of_signature(head.signature).is_none() => return SlotState::NotVerifiable,
        Some(packing) if packing.signature() != head.signature => {
            let expected = format!("{:#04x} ({})", packing.signature(), packing.title());
            return damaged("signature", expected, format!("{:#04x}", head.signature));
        }
        _ => {}
    }
    let Some(end) = head.payload_end(slot.len()) else {
        let expected = format!("1 to {} bytes of payload", slot.len() - SLOT_HEAD_BYTES);
        return damaged("length", expected, format!("{} bytes", head.length));
    };
    let found = checksum(&slot[SLOT_HEAD_BYTES..end]);
    match found == head.checksum {
        true => SlotState::Holds,
        false => damaged("checksum", format!("{:#010x}", head.checksum), format!("{found:#010x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with three slots of 16, 8 and 24 KiB, and the beginning of the first.
    fn file() -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        let mut put = |at: usize, number: u64| {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        };
        put(0, 0xfdc1_19a3_84d0_778e);
        [3, 2, 8192, 8192, 8, 6, 2, 234_496, 300_032]
            .into_iter()
            .enumerate()
            .for_each(|(number, field)| put(8 + 8 * number, field));
        [8192, 24_576, 32_768, 57_344]
            .into_iter()
            .enumerate()
            .for_each(|(number, pointer)| put(4096 + 8 * number, pointer));
        // The head of the first slot, and 4 MiB as Snappy says it.
        bytes.extend([0xfd, 0, 0, 0, 0, 9, 0, 0, 0, 0x80, 0x80, 0x80, 0x02]);
        bytes
    }

    fn faults(bytes: &[u8], size: u64) -> Vec<(String, u64)> {
        let faults = Segment::decode(bytes, size).faults;
        faults.into_iter().map(|fault| (fault.what, fault.offset)).collect()
    }

    #[test]
    fn a_header_gives_its_facts_and_slots() {
        let bytes = file();
        assert_eq!(header_length(&bytes), Some(8192));
        let segment = Segment::decode(&bytes, 60_000);
        assert_eq!(segment.faults, []);
        assert_eq!(segment.bounds, [8192, 24_576, 32_768, 57_344]);
        assert_eq!(segment.slots(), 3);
        assert_eq!(
            segment.header,
            Header {
                version: 3,
                compression: 2,
                header_bytes: 8192,
                blocks: 8192,
                width: 8,
                data_type: 6,
                lbids: vec![234_496, 300_032],
            }
        );
        let facts = segment.compressed_facts().unwrap();
        assert_eq!((facts.slots, facts.slots_end), (3, 57_344));
    }

    #[test]
    fn what_does_not_hold_in_a_header_is_named_with_its_place() {
        for (at, bit, what, offset) in [
            (0, 0, "magic", 0),
            (24, 7, "header length", 24),
            (40, 0, "column width", 40),
            (56, 6, "number of LBIDs", 56),
            (53, 0, "unused part of the header", 53),
            (4000, 3, "unused part of the header", 4000),
            (16, 0, "compression type", 16),
            (4096, 5, "slot pointer 0", 4096),
            (4104, 0, "slot pointer 1", 4104),
            (4114, 0, "slot pointer 2", 4112),
            (4123, 0, "slot pointer 3", 4120),
            (4200, 0, "slot pointer 13", 4200),
        ] {
            let mut bytes = file();
            bytes[at] ^= 1 << bit;
            assert!(header_length(&bytes).is_some(), "bit {bit} of byte {at}");
            let found = faults(&bytes, 60_000);
            assert_eq!(found.first(), Some(&(what.to_owned(), offset)), "bit {bit} of byte {at}");
        }
        assert_eq!(faults(&file(), 57_343), [("slot pointer 3".to_owned(), 4120)]);
        assert!(Segment::decode(&file(), 57_343).bounds.is_empty());
    }

    /// Catches a header that is blamed for the signature of a slot, and a slot for the header's type.
    #[test]
    fn type_and_first_slot_disagree_and_the_payload_says_which_is_wrong() {
        let fault = ("compression type".to_owned(), 16);
        let lz4 = [0xf0, 0x80, 0x80, 0x01];
        for (compression, signature, payload, wrong, packing) in [
            (2, 0xfd, [0x80, 0x80, 0x80, 0x02], false, Packing::Snappy),
            (3, 0xfc, lz4, false, Packing::Lz4),
            (3, 0xfd, [0x80, 0x80, 0x20, 0x04], true, Packing::Snappy),
            (2, 0xfc, [0x80, 0x80, 0x80, 0x01], false, Packing::Snappy),
            (1, 0xfc, lz4, true, Packing::Lz4),
            (3, 0xfd, lz4, false, Packing::Lz4),
            (0, 0xfc, lz4, true, Packing::Lz4),
            // Another length than that of blocks, or of more than a slot holds, is none of Snappy.
            (3, 0xfd, [0x81, 0x80, 0x80, 0x01], false, Packing::Lz4),
            (3, 0xfd, [0x80, 0xc0, 0x80, 0x02], false, Packing::Lz4),
        ] {
            let mut bytes = file();
            bytes[16] = compression;
            bytes[8192] = signature;
            bytes[8201..].copy_from_slice(&payload);
            let expected = Vec::from_iter(wrong.then(|| fault.clone()));
            let context = format!("{compression}, {signature:#x}, {payload:x?}");
            assert_eq!(faults(&bytes, 60_000), expected, "{context}");
            assert_eq!(Segment::decode(&bytes, 60_000).packing, Some(packing), "{context}");
        }
        // Without a payload to ask, the first slot is believed.
        let mut bytes = file();
        bytes[16] = 3;
        assert_eq!(faults(&bytes[..8193], 60_000), [fault]);
        bytes[16] = 9;
        bytes[8192] = 0x77;
        let segment = Segment::decode(&bytes, 60_000);
        assert_eq!((segment.faults, segment.packing), (vec![], None));
    }

    #[test]
    fn versions_before_the_third_have_no_lbids_and_later_ones_are_left_alone() {
        for version in [1, 2, 4] {
            let mut bytes = file();
            bytes[8] = version;
            let segment = Segment::decode(&bytes, 60_000);
            assert_eq!((segment.faults, segment.header.lbids), (vec![], vec![]));
            assert_eq!(segment.bounds.len(), 4);
        }
    }

    #[test]
    fn other_files_have_no_header() {
        for bytes in [&[][..], &[0; 8192], &[0xfe; 8192], &file()[..4095]] {
            assert_eq!(header_length(bytes), None);
        }
        // Nothing shorter than it says it is passes, whatever is cut off.
        for length in [4096, 5000, 8191] {
            assert!(!faults(&file()[..length], length as u64).is_empty(), "{length} bytes");
        }
    }

    #[test]
    fn slots_are_verified_by_signature_length_and_checksum() {
        // "hello", whose MurmurHash3 x64 128 is cbd8a7b341bd9b025b1e906a48ae1d19.
        let mut slot = vec![0xfd, 0x02, 0x9b, 0xbd, 0x41, 5, 0, 0, 0];
        slot.extend_from_slice(b"hello");
        slot.resize(64, 0);
        assert_eq!(verify_slot(&slot, 1, 8192, Some(Packing::Snappy)), SlotState::Holds);
        let damage = |at: usize, bit: u8| {
            let mut slot = slot.clone();
            slot[at] ^= 1 << bit;
            match verify_slot(&slot, 1, 8192, Some(Packing::Snappy)) {
                SlotState::Damaged(damage) => {
                    assert_eq!((damage.slot, damage.offset), (Some(1), 8192));
                    damage.what
                }
                other => panic!("byte {at}: {other:?}"),
            }
        };
        // The other signature there is, and one that there is not.
        assert_eq!((damage(0, 0), damage(0, 1)), ("signature".into(), "signature".into()));
        assert_eq!(damage(1, 0), "checksum");
        assert_eq!(damage(5, 7), "length");
        assert_eq!(damage(8, 7), "length");
        assert_eq!(damage(13, 7), "checksum");
        // Padding may hold anything: what was there before.
        slot[20] = 7;
        assert_eq!(verify_slot(&slot, 1, 8192, Some(Packing::Snappy)), SlotState::Holds);
        // Of a packing that is not known, a signature that is known says enough.
        assert_eq!(verify_slot(&slot, 1, 8192, None), SlotState::Holds);
        slot[0] = 1;
        assert_eq!(verify_slot(&slot, 1, 8192, None), SlotState::NotVerifiable);
        for length in 0..9 {
            assert!(matches!(verify_slot(&slot[..length], 0, 0, None), SlotState::Damaged(_)));
        }
    }
}
