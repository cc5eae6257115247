//! Whether a Snappy payload is the one that `snappy-1` gives, told without packing.
//!
//! The packer's search is gone through in step with the payload: where the payload has a literal, no
//! match may be found before its end; where it has a copy, just that one. So nothing is written, no
//! literal is compared, and of a match only its end is looked at: that its bytes are equal is known,
//! since the payload unpacks to them. What is told is what packing and comparing would tell, in two
//! thirds of the time.

use std::cell::RefCell;

/// Bytes that are packed by themselves: a copy never reaches back further.
const FRAGMENT_BYTES: usize = 1 << 16;

/// A fragment and what stands behind it: four bytes at any of its positions can be read.
type Fragment = [u8; FRAGMENT_BYTES + 4];

/// Positions that the table of a fragment has, at least and at most.
const TABLE_LEAST: usize = 1 << 8;
const TABLE_MOST: usize = 1 << 14;

/// Bytes at the end of a fragment where no match begins.
const MARGIN: usize = 15;

/// A match is at least so long.
const MATCH_LEAST: usize = 4;

/// Positions of a fragment by the hash of the four bytes that stand there.
type Table = [u16; TABLE_MOST];

thread_local! {
    /// The table, and room for the last fragment, behind which nothing can be read.
    static STATE: RefCell<(Box<Table>, Box<Fragment>)> =
        RefCell::new((Box::new([0; TABLE_MOST]), Box::new([0; FRAGMENT_BYTES + 4])));
}

/// Returns whether packing `unpacked` gives `payload`, of which is known that it unpacks to just that.
pub(super) fn gives(unpacked: &[u8], payload: &[u8]) -> bool {
    let mut rest = payload;
    let mut length = unpacked.len();
    // The length, seven bits a byte.
    loop {
        let more = if length < 0x80 { 0 } else { 0x80 };
        if rest.split_off_first() != Some(&(length as u8 | more)) {
            return false;
        }
        length >>= 7;
        if more == 0 {
            break;
        }
    }
    STATE.with_borrow_mut(|(table, last)| {
        let mut unpacked = unpacked;
        while !unpacked.is_empty() {
            let (bytes, behind) = unpacked.split_at(unpacked.len().min(FRAGMENT_BYTES));
            let fragment = unpacked.first_chunk().unwrap_or_else(|| {
                last[..bytes.len()].copy_from_slice(bytes);
                last
            });
            match after_fragment(fragment, bytes.len(), table, rest) {
                Some(after) => rest = after,
                None => return false,
            }
            unpacked = behind;
        }
        rest.is_empty()
    })
}

/// Returns what follows a fragment of `length` bytes in the payload; `None` when it is packed
/// otherwise.
fn after_fragment<'p>(
    bytes: &Fragment,
    length: usize,
    table: &mut Table,
    payload: &'p [u8],
) -> Option<&'p [u8]> {
    let limit = length.saturating_sub(MARGIN);
    if limit < 2 {
        return after_literal(payload, length);
    }
    let positions = length.next_power_of_two().clamp(TABLE_LEAST, TABLE_MOST);
    table[..positions].fill(0);
    let shift = 32 - positions.trailing_zeros();
    // Exchanges the position that four bytes were last seen at.
    let mut swap = |word: u32, at: usize| {
        let place = (word.wrapping_mul(0x1e35_a7bd) >> shift) as usize % TABLE_MOST;
        usize::from(std::mem::replace(&mut table[place], at as u16))
    };
    let mut rest = payload;
    let mut begin = 0;
    loop {
        let mut at = begin + 1;
        // A 32nd of what was looked at in vain is skipped.
        let mut looked = 32;
        let mut seen = loop {
            let step = looked >> 5;
            looked += step;
            if at + step > limit {
                return after_literal(rest, length - begin);
            }
            let word = word_at(bytes, at);
            let seen = swap(word, at);
            if word_at(bytes, seen) == word {
                break seen;
            }
            at += step;
        };
        rest = after_literal(rest, at - begin)?;
        loop {
            let offset = at - seen;
            let copied;
            (copied, rest) = after_match(rest, offset)?;
            at += copied;
            if at >= length {
                return (at == length).then_some(rest);
            }
            if bytes[at] == bytes[at - offset] {
                return None;
            }
            if at >= limit {
                return after_literal(rest, length - at);
            }
            swap(word_at(bytes, at - 1), at - 1);
            let word = word_at(bytes, at);
            seen = swap(word, at);
            if word_at(bytes, seen) != word {
                begin = at;
                break;
            }
        }
    }
}

fn word_at(bytes: &Fragment, at: usize) -> u32 {
    let at = at % FRAGMENT_BYTES;
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Returns what follows a literal of so many bytes; `None` when something else is there.
fn after_literal(payload: &[u8], length: usize) -> Option<&[u8]> {
    let more = length - 1;
    let (tag, rest) = payload.split_first()?;
    let rest = match more {
        0..60 if usize::from(*tag) == more << 2 => rest,
        60..256 if *tag == 60 << 2 && rest.first() == Some(&(more as u8)) => &rest[1..],
        256.. if *tag == 61 << 2 && rest.first_chunk() == Some(&(more as u16).to_le_bytes()) => {
            &rest[2..]
        }
        _ => return None,
    };
    rest.get(length..)
}

/// Returns the length of a match with what is `offset` bytes before, and what follows it; `None` when
/// something else is there, or it is written otherwise than the packer writes it.
fn after_match(payload: &[u8], offset: usize) -> Option<(usize, &[u8])> {
    let (mut length, mut rest) = after_copy(payload, offset)?;
    let mut last = length;
    // A long match is copies of 64 bytes, and one of 60 where less than four bytes would be left over.
    while last == 64 || last == 60 {
        let Some((more, behind)) = after_copy(rest, offset) else { break };
        if more < MATCH_LEAST || (last == 60 && !(5..8).contains(&more)) {
            return None;
        }
        length += more;
        rest = behind;
        last = if last == 60 { 0 } else { more };
    }
    (length >= MATCH_LEAST).then_some((length, rest))
}

/// Returns the length of a single copy from `offset` bytes before, in the shortest form, and what
/// follows it; `None` when something else is there.
fn after_copy(payload: &[u8], offset: usize) -> Option<(usize, &[u8])> {
    let tag = usize::from(*payload.first()?);
    match tag & 3 {
        1 => {
            let found = (tag >> 5) << 8 | usize::from(*payload.get(1)?);
            (found == offset).then_some((4 + (tag >> 2 & 7), &payload[2..]))
        }
        2 => {
            let low = payload.get(1..3)?.first_chunk()?;
            let length = 1 + (tag >> 2);
            let is_shortest = offset >= 2048 || length >= 12;
            (usize::from(u16::from_le_bytes(*low)) == offset && is_shortest)
                .then_some((length, &payload[3..]))
        }
        _ => None,
    }
}
