//! Snappy as versions from 1.2 on pack, at their level 1: the same matches are looked for in the same
//! places as in earlier versions, but in a table of twice as many positions, so that other ones are
//! found. Libraries built for processors with an instruction for CRC32 find other ones again.
//!
//! No crate gives both, and the one that wraps the C++ library brings its runtime into every build.
//! The format and the rule when to skip are Snappy's; tests hold the bytes against the library's.

use std::cell::RefCell;

/// Bytes that are packed by themselves: a copy never reaches back further.
const FRAGMENT_BYTES: usize = 1 << 16;

/// Positions that the table of a fragment has, at least and at most.
const TABLE_LEAST: usize = 1 << 8;
const TABLE_MOST: usize = 1 << 15;

/// Bytes at the end of a fragment where no match begins.
const MARGIN: usize = 15;

/// Positions of a fragment by the hash of the four bytes that stand there.
type Table = [u16; TABLE_MOST];

thread_local! {
    static TABLE: RefCell<Box<Table>> = RefCell::new(Box::new([0; TABLE_MOST]));
}

/// Where the four bytes `word` stand in a table of `positions`, a power of two.
pub(super) trait Place {
    fn of(word: u32, positions: usize) -> usize;
}

/// By multiplication, as any processor does.
pub(super) struct Product;

/// By CRC32 with Castagnoli's polynomial, as processors with an instruction for it do.
pub(super) struct Crc;

impl Place for Product {
    fn of(word: u32, positions: usize) -> usize {
        (word.wrapping_mul(0x1e35_a7bd) >> 17) as usize & (positions - 1)
    }
}

impl Place for Crc {
    fn of(word: u32, positions: usize) -> usize {
        // The table has two bytes a position, and the hash is an offset in bytes: its lowest bit is
        // not used. It is the CRC of the word, begun with the mask of the offset.
        let [a, b, c, d] = (word ^ (2 * (positions as u32 - 1))).to_le_bytes();
        let crc = CRC[0][a as usize] ^ CRC[1][b as usize] ^ CRC[2][c as usize] ^ CRC[3][d as usize];
        (crc >> 1) as usize & (positions - 1)
    }
}

/// What each byte of a word adds to the lower half of its CRC.
static CRC: [[u16; 256]; 4] = crc_table();

const fn crc_table() -> [[u16; 256]; 4] {
    let mut table = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 4 {
        let mut value = 0;
        while value < 256 {
            let mut crc = (value as u32) << (8 * byte);
            let mut bit = 0;
            while bit < 32 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[byte][value] = crc as u16;
            value += 1;
        }
        byte += 1;
    }
    table
}

/// Makes `out` the payload of `unpacked`; it always can.
pub(super) fn pack<P: Place>(unpacked: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    // Room for the worst case, so that nothing grows while packing.
    out.reserve(32 + unpacked.len() + unpacked.len() / 6);
    let mut length = unpacked.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    TABLE.with_borrow_mut(|table| {
        for fragment in unpacked.chunks(FRAGMENT_BYTES) {
            pack_fragment::<P>(fragment, table, out);
        }
    });
    true
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn pack_fragment<P: Place>(bytes: &[u8], table: &mut Table, out: &mut Vec<u8>) {
    let positions = bytes.len().next_power_of_two().clamp(TABLE_LEAST, TABLE_MOST);
    table[..positions].fill(0);
    let rest = copies::<P>(bytes, positions, table, out);
    if rest < bytes.len() {
        literal(&bytes[rest..], out);
    }
}

/// Packs until no match can begin any more, and returns where that is.
fn copies<P: Place>(bytes: &[u8], positions: usize, table: &mut Table, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    let Some(limit) = bytes.len().checked_sub(MARGIN) else { return at };
    // Exchanges the position that four bytes were last seen at.
    let mut swap = |word: u32, at: usize| {
        let place = &mut table[P::of(word, positions) % TABLE_MOST];
        usize::from(std::mem::replace(place, at as u16))
    };
    loop {
        let begin = at;
        at += 1;
        // A 32nd of what was looked at in vain is skipped.
        let mut looked = 32;
        let mut seen = loop {
            let step = looked >> 5;
            looked += step;
            if at + step > limit {
                return begin;
            }
            let word = word_at(bytes, at);
            let seen = swap(word, at);
            if word_at(bytes, seen) == word {
                break seen;
            }
            at += step;
        };
        literal(&bytes[begin..at], out);
        loop {
            let length = 4 + common(&bytes[seen + 4..], &bytes[at + 4..]);
            copy(at - seen, length, out);
            at += length;
            if at >= limit {
                return at;
            }
            swap(word_at(bytes, at - 1), at - 1);
            let word = word_at(bytes, at);
            seen = swap(word, at);
            if word_at(bytes, seen) != word {
                break;
            }
        }
    }
}

/// Returns how many bytes `later`, the shorter one, begins with that `earlier` begins with, too.
fn common(earlier: &[u8], later: &[u8]) -> usize {
    let (earlier_words, _) = earlier.as_chunks::<8>();
    let (later_words, _) = later.as_chunks::<8>();
    let mut length = 0;
    for (earlier, later) in earlier_words.iter().zip(later_words) {
        let differ = u64::from_le_bytes(*earlier) ^ u64::from_le_bytes(*later);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let rest = earlier[length..].iter().zip(&later[length..]);
    length + rest.take_while(|(earlier, later)| earlier == later).count()
}

/// Appends a literal: bytes as they are, 65,536 at most.
fn literal(bytes: &[u8], out: &mut Vec<u8>) {
    let length = bytes.len() - 1;
    match length {
        0..60 => out.push((length << 2) as u8),
        60..256 => out.extend_from_slice(&[60 << 2, length as u8]),
        _ => out.extend_from_slice(&[61 << 2, length as u8, (length >> 8) as u8]),
    }
    out.extend_from_slice(bytes);
}

/// Appends copies of `length` bytes, four at least, from `offset` bytes before: 64 at once, such that
/// four remain for the last.
fn copy(offset: usize, mut length: usize, out: &mut Vec<u8>) {
    while length >= 68 {
        copy_once(offset, 64, out);
        length -= 64;
    }
    if length > 64 {
        copy_once(offset, 60, out);
        length -= 60;
    }
    copy_once(offset, length, out);
}

fn copy_once(offset: usize, length: usize, out: &mut Vec<u8>) {
    if length < 12 && offset < 2048 {
        let tag = 1 | (length - 4) << 2 | (offset >> 8) << 5;
        out.extend_from_slice(&[tag as u8, offset as u8]);
    } else {
        let tag = 2 | (length - 1) << 2;
        out.extend_from_slice(&[tag as u8, offset as u8, (offset >> 8) as u8]);
    }
}
