use super::*;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::id::hash_stored;

const PACKINGS: [Packing; 2] = [Packing::Snappy, Packing::Lz4];

/// The column of FORMAT.md 8: bytes that compress in parts, by runs, rising numbers and noise.
fn column(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let rising = bytes.len() as u64 / 24;
        let word = match state >> 61 {
            0 => state,
            1..4 => rising,
            _ => 0x8000_0000_0000_0000,
        };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn packed(packer: Packer, unpacked: &[u8]) -> Vec<u8> {
    let mut out = b"what was there before".to_vec();
    assert!(Packers.pack(packer, unpacked, &mut out), "{}", packer.name());
    out
}

/// Catches a number or a name that two packers share, or that does not lead back to its packer, and
/// a packing that lists another packing's packers.
#[test]
fn numbers_and_names_are_one_to_one() {
    for packer in Packer::ALL {
        assert_eq!(Packer::from_number(packer.number()), Some(packer));
        assert_eq!(Packer::from_name(packer.name()), Some(packer));
        assert!(Packer::all_of(packer.packing()).contains(&packer));
    }
    for packing in PACKINGS {
        assert!(Packer::all_of(packing).iter().all(|packer| packer.packing() == packing));
    }
    let listed: usize = PACKINGS.iter().map(|packing| Packer::all_of(*packing).len()).sum();
    assert_eq!(listed, Packer::ALL.len());
    assert_eq!((Packer::from_number(0), Packer::from_number(255)), (None, None));
    assert_eq!(Packer::from_name("snappy"), None);
}

/// Catches a length at which packing and unpacking do not meet, and bytes that an earlier use left
/// in a buffer or in the packer.
#[test]
fn any_length_comes_back() {
    let whole = column(UNPACKED_BYTES_MAX);
    let mut out = Vec::new();
    for length in [0, 1, 7, 15, 16, 17, 8192, 65_535, 65_536, 65_537, 1 << 20, whole.len()] {
        for packer in Packer::ALL {
            for start in [0, whole.len() - length] {
                let unpacked = &whole[start..start + length];
                let payload = packed(packer, unpacked);
                unpack(packer.packing(), &payload, &mut out).unwrap();
                assert!(out == unpacked, "{} of {length}", packer.name());
                assert_eq!(packed(packer, unpacked), payload, "the same again");
            }
        }
    }
}

/// Catches a packer that takes more than a slot holds.
#[test]
fn more_than_a_slot_holds_is_not_packed() {
    let more = vec![7; UNPACKED_BYTES_MAX + 1];
    for packer in Packer::ALL {
        assert!(!Packers.pack(packer, &more, &mut Vec::new()), "{}", packer.name());
    }
}

/// Catches an unpacker that believes a length before it was checked, or fills more than a slot holds.
#[test]
fn what_does_not_fit_is_refused_in_bounded_memory() {
    let more = vec![7; UNPACKED_BYTES_MAX + 1];
    let snappy = snap::raw::Encoder::new().compress_vec(&more).unwrap();
    let lz4 = lz4::block::compress(&more, None, false).unwrap();
    let four_gib: [&[u8]; 3] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    let mut cases = vec![(Packing::Snappy, &snappy[..]), (Packing::Lz4, &lz4[..])];
    cases.extend(four_gib.map(|declared| (Packing::Snappy, declared)));
    for (packing, payload) in cases {
        let mut out = Vec::new();
        let error = unpack(packing, payload, &mut out).unwrap_err();
        assert!(error.contains("expected") || error.contains("snappy"), "{error}");
        assert!(out.is_empty() && out.capacity() <= UNPACKED_BYTES_MAX, "{}", out.capacity());
    }
    let huge = vec![0; SLOT_BYTES_MAX as usize + 1];
    for packing in PACKINGS {
        assert!(unpack(packing, &huge, &mut Vec::new()).unwrap_err().contains("8388609"));
    }
}

/// Catches a buffer that grows past a slot when it is used for a longer one: 4,179,071 declared, then
/// 4 MiB. Found by the fuzz target.
#[test]
fn a_buffer_used_again_does_not_double() {
    let mut out = Vec::new();
    for packing in PACKINGS {
        let _ = unpack(packing, &[0xff, 0x88, 0xff, 0x01, 0x0a], &mut out);
        assert!(out.capacity() <= UNPACKED_BYTES_MAX, "{}", out.capacity());
    }
}

/// Catches an unpacker that reads or writes outside its buffers, panics, or keeps bytes of another
/// slot: truncated payloads, lies about the length, flipped bits.
#[test]
fn hostile_payloads_end_in_an_error_or_in_bytes() {
    let unpacked = column(100_000);
    for packer in Packer::ALL {
        let payload = packed(packer, &unpacked);
        let mut out = vec![0x55; UNPACKED_BYTES_MAX];
        let mut refused = 0;
        let mut unpack_it = |payload: &[u8]| {
            let opened = unpack(packer.packing(), payload, &mut out);
            assert!(out.len() <= UNPACKED_BYTES_MAX && out.capacity() <= UNPACKED_BYTES_MAX);
            assert!(opened.is_ok() || out.is_empty());
            refused += u32::from(opened.is_err());
            opened.is_ok().then(|| out.clone())
        };
        for length in (0..200).chain((200..payload.len()).step_by(97)) {
            // An LZ4 block may end at many places; what it gives is then a beginning.
            let opened = unpack_it(&payload[..length]);
            assert!(
                opened.is_none_or(|out| out.len() < unpacked.len() && unpacked.starts_with(&out))
            );
        }
        for bit in (0..800).chain((800..8 * payload.len()).step_by(1009)) {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            unpack_it(&flipped);
        }
        assert!(refused > 100, "{}: {refused}", packer.name());
    }
    let payload = packed(Packer::SnappyV1, &unpacked);
    // 100,000 is a0 8d 06; any other length is a lie.
    assert_eq!(payload[..3], [0xa0, 0x8d, 0x06]);
    for lie in [[0x80, 0x80, 0x00], [0x9f, 0x8d, 0x06], [0xa1, 0x8d, 0x06], [0xff, 0xff, 0x7f]] {
        let mut lying = payload.clone();
        lying[..3].copy_from_slice(&lie);
        assert!(unpack(Packing::Snappy, &lying, &mut Vec::new()).is_err(), "{lie:?}");
    }
}

const FORMAT: &str = include_str!("../../../docs/FORMAT.md");

/// The bytes of a hex block of the document.
fn example(name: &str) -> Vec<u8> {
    let (_, rest) = FORMAT.split_once(&format!("```hex {name}\n")).expect("the document has it");
    let (lines, _) = rest.split_once("```").expect("a block ends");
    let digits = lines.lines().flat_map(|line| line[6..].split(' '));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
}

/// Catches a packer that gives other bytes than it ever did: a crate that was replaced, a C library
/// built otherwise. Its recipes could not be restored as they were.
#[test]
fn payloads_are_the_documented_ones() {
    let mut seen = Vec::new();
    for line in FORMAT.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, length, bytes, hash, _] = cells[..] else { continue };
        let (Some(packer), Ok(length)) = (Packer::from_name(name), length.parse()) else {
            continue;
        };
        let payload = packed(packer, &column(length));
        let (bytes, hash): (usize, _) = (bytes.parse().unwrap(), hash.trim_matches('`'));
        assert_eq!(payload.len(), bytes, "{line}");
        assert_eq!(blake3_hex(&payload), hash, "{line}");
        seen.push(packer);
    }
    for packer in Packer::ALL {
        let rows = seen.iter().filter(|row| **row == packer).count();
        assert_eq!(rows, 5, "rows of {}", packer.name());
        let row = format!("| {} | `{}` |", packer.number(), packer.name());
        assert!(FORMAT.contains(&row), "{row}");
        let block = match packer.packing() {
            Packing::Snappy => "packed-snappy",
            Packing::Lz4 => "packed-lz4",
        };
        assert_eq!(packed(packer, &column(96)), example(block), "{}", packer.name());
        let mut out = Vec::new();
        unpack(packer.packing(), &example(block), &mut out).unwrap();
        assert_eq!(out, column(96));
    }
}

fn blake3_hex(bytes: &[u8]) -> String {
    hash_stored(&[bytes]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as they stand in columns and beside them: words again and again, noise, and earlier bytes
/// again from any distance.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..3_u8, any::<u64>(), 1..400_usize);
    vec(piece, 0..400).prop_map(|pieces| {
        let mut bytes = Vec::new();
        for (kind, number, length) in pieces {
            let mut state = number | 1;
            for at in 0..length {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let far = number as usize % 70_000 + 1;
                bytes.push(match kind {
                    0 => number.to_le_bytes()[at % (1 << (number % 4))],
                    1 => state as u8,
                    _ => bytes.len().checked_sub(far).map_or(7, |earlier| bytes[earlier]),
                });
            }
        }
        bytes
    })
}

/// A Snappy payload element by element: tag with what belongs to it, the bytes of a literal.
fn elements(payload: &[u8]) -> Vec<Vec<u8>> {
    let head = payload.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let mut elements = vec![payload[..head].to_vec()];
    let mut rest = &payload[head..];
    while let Some(tag) = rest.first() {
        let length = match (tag & 3, tag >> 2) {
            (0, 60) => 3 + usize::from(rest[1]),
            (0, 61) => 4 + usize::from(u16::from_le_bytes([rest[1], rest[2]])),
            (0, more) => 2 + usize::from(more),
            (kind, _) => 1 + usize::from(kind),
        };
        elements.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    elements
}

/// The same content written otherwise: a literal or a copy parted in two, a longer form, or other
/// bytes that may or may not unpack to the same.
fn otherwise(payload: &[u8], how: u8, at: usize, number: usize) -> Vec<u8> {
    let mut elements = elements(payload);
    let count = elements.len();
    let element = &mut elements[at % count];
    let short = element[0] >> 2;
    // The first is the length, and no element.
    let how = if at.is_multiple_of(count) { 4 } else { how };
    match (how, element[0] & 3) {
        (0, 0) if (1..60).contains(&short) => {
            let first = number as u8 % short;
            element[0] = first << 2;
            element.insert(2 + usize::from(first), (short - first - 1) << 2);
        }
        (1, 1) => {
            let (length, high) = (4 + (short & 7), element[0] >> 5);
            *element = vec![(length - 1) << 2 | 2, element[1], high];
        }
        (2, 2) if short > 0 => {
            let first = number as u8 % short;
            let [_, low, high] = element[..] else { unreachable!("a copy of three bytes") };
            *element = vec![first << 2 | 2, low, high, (short - first - 1) << 2 | 2, low, high];
        }
        (3, 2) => {
            element[0] |= 1;
            element.extend([0, 0]);
        }
        _ => {
            let place = number % element.len();
            element[place] ^= 1 << (number % 8);
        }
    }
    elements.concat()
}

/// Catches a quick answer that is not what packing says: on all real payloads it is true.
#[test]
fn what_a_packer_gives_is_told_as_packing_tells_it() {
    let whole = column(300_000);
    let mut differ = 0;
    for length in [1, 14, 15, 16, 17, 18, 64, 300, 65_535, 65_536, 65_540, 65_552, 65_553, 300_000]
    {
        let unpacked = &whole[..length];
        for packer in Packer::ALL {
            for other in Packer::all_of(packer.packing()) {
                let payload = packed(*other, unpacked);
                let is_same = packed(packer, unpacked) == payload;
                let told = Packers.gives(packer, unpacked, &payload, &mut Vec::new());
                assert_eq!(
                    told,
                    is_same,
                    "{} of {} bytes by {}",
                    packer.name(),
                    length,
                    other.name()
                );
                differ += u32::from(!is_same);
            }
        }
    }
    assert!(differ > 10, "{differ}");
    assert!(!Packers.gives(
        Packer::SnappyV1,
        &vec![0; UNPACKED_BYTES_MAX + 1],
        &[],
        &mut Vec::new()
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Catches a payload of the same content, packed otherwise, that is taken for what the packer gives,
    /// and one that it gives and that is not known again.
    #[test]
    fn the_same_content_packed_otherwise_is_seen(
        unpacked in pieces(),
        (how, at, number) in (0..5_u8, any::<usize>(), any::<usize>()),
    ) {
        let payload = packed(Packer::SnappyV1, &unpacked);
        prop_assert!(Packers.gives(Packer::SnappyV1, &unpacked, &payload, &mut Vec::new()));
        let other = otherwise(&payload, how, at, number);
        let mut out = Vec::new();
        if other != payload && unpack(Packing::Snappy, &other, &mut out).is_ok() && out == unpacked {
            prop_assert!(!Packers.gives(Packer::SnappyV1, &unpacked, &other, &mut Vec::new()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Catches content that does not come back from a packer.
    #[test]
    fn what_was_packed_comes_back(unpacked in pieces()) {
        let mut out = Vec::new();
        for packer in Packer::ALL {
            let payload = packed(packer, &unpacked);
            prop_assert!(unpack(packer.packing(), &payload, &mut out).is_ok());
            prop_assert!(out == unpacked, "{}", packer.name());
        }
    }

    /// Catches any bytes on which unpacking panics or gives more than a slot holds.
    #[test]
    fn any_bytes_are_unpacked_or_refused(payload in vec(any::<u8>(), 0..2000)) {
        let mut out = Vec::new();
        for packing in PACKINGS {
            let opened = unpack(packing, &payload, &mut out);
            prop_assert!(out.capacity() <= UNPACKED_BYTES_MAX && (opened.is_ok() || out.is_empty()));
        }
    }
}
