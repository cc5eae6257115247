//! What a repository holds after some nights, by how files are cut.
//!
//! Each directory is a night, in order. Files fall into groups by their content: compressed segment
//! files, InnoDB tablespaces, uncompressed segment files and version buffers, everything else. Each
//! way of cutting is tried on the groups it is for. What a chunk costs beside its bytes is counted:
//! its place in the pack's trailer and in an index object, its codec, and the span lists that name it.

use std::collections::HashSet;
use std::io::{Error, Write};
use std::path::{Path, PathBuf};

use colvault_engine::chunker::{Cutter, Piece};
use colvault_engine::columnstore::SegmentPath;
use colvault_engine::columnstore::page::Tablespace;
use colvault_engine::columnstore::segment::{Segment, SlotHead, header_length};
use colvault_engine::format::config::CutterParameters;
use colvault_engine::format::extent::{Extent, SPAN_BYTES, encode_list};
use colvault_engine::id::{ChunkId, IdKey};

/// Trailer and index object (FORMAT.md 4.1, 4.2), and the codec.
const CHUNK_OVERHEAD: u64 = 40 + 40 + 1;

/// Bytes of a chunk in the index cache of a host; not in the repository.
const CACHE_BYTES: f64 = 37.5;

/// Slots of a span.
const SPAN_SLOTS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Compressed,
    Tablespace,
    Uncompressed,
    Other,
}

/// Where cuts are forced, before FastCDC or fixed blocks cut what lies between.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Borders {
    /// Spans of 64 MiB.
    Spans,
    /// Header, slots, tail.
    Slots,
    /// Header, slots and in them the end of the payload, tail.
    Payloads,
}

#[derive(Clone, Copy)]
enum Within {
    Whole,
    Fixed(usize),
    Cdc(u32),
    /// FastCDC 64 KiB, in slots of at most so many bytes 16 KiB.
    BySlot(usize),
}

struct Way {
    name: &'static str,
    borders: Borders,
    within: Within,
    groups: &'static [Group],
}

const WAYS: [Way; 19] = {
    use Borders::*;
    use Group::*;
    use Within::*;
    const fn way(
        name: &'static str,
        borders: Borders,
        within: Within,
        groups: &'static [Group],
    ) -> Way {
        Way { name, borders, within, groups }
    }
    const ANY: &[Group] = &[Compressed, Tablespace, Uncompressed, Other];
    const SLOTTED: &[Group] = &[Compressed];
    const BLOCKED: &[Group] = &[Tablespace, Uncompressed];
    [
        way("fixed 4 MiB", Spans, Fixed(4 << 20), ANY),
        way("FastCDC 1 MiB", Spans, Cdc(1 << 20), ANY),
        way("FastCDC 64 KiB", Spans, Cdc(64 << 10), ANY),
        way("FastCDC 32 KiB", Spans, Cdc(32 << 10), ANY),
        way("FastCDC 16 KiB", Spans, Cdc(16 << 10), ANY),
        way("one chunk per slot", Slots, Whole, SLOTTED),
        way("slots, FastCDC 128 KiB", Slots, Cdc(128 << 10), SLOTTED),
        way("slots, FastCDC 64 KiB", Slots, Cdc(64 << 10), SLOTTED),
        way("payloads, FastCDC 64 KiB", Payloads, Cdc(64 << 10), SLOTTED),
        way("payloads, FastCDC 32 KiB", Payloads, Cdc(32 << 10), SLOTTED),
        way("payloads, FastCDC 16 KiB", Payloads, Cdc(16 << 10), SLOTTED),
        way("payloads, 64 KiB, 16 KiB up to 256 KiB", Payloads, BySlot(256 << 10), SLOTTED),
        way("payloads, 64 KiB, 16 KiB up to 512 KiB", Payloads, BySlot(512 << 10), SLOTTED),
        way("payloads, 64 KiB, 16 KiB up to 1 MiB", Payloads, BySlot(1 << 20), SLOTTED),
        way("fixed 128 KiB", Spans, Fixed(128 << 10), BLOCKED),
        way("fixed 64 KiB", Spans, Fixed(64 << 10), BLOCKED),
        way("fixed 32 KiB", Spans, Fixed(32 << 10), BLOCKED),
        way("fixed 16 KiB", Spans, Fixed(16 << 10), BLOCKED),
        way("fixed 8 KiB", Spans, Fixed(8 << 10), BLOCKED),
    ]
};

/// Chunks that are stored, and what they took.
#[derive(Default)]
struct Stored {
    known: HashSet<[u8; 32]>,
    chunks: u64,
    bytes: u64,
    overhead: u64,
}

/// Prints, for each group and way, what each night adds in MB.
pub fn run(nights: &[PathBuf], out: &mut impl Write) -> std::io::Result<()> {
    let groups = [
        (Group::Compressed, "compressed segment files"),
        (Group::Tablespace, "InnoDB tablespaces"),
        (Group::Uncompressed, "uncompressed segment files, version buffers"),
        (Group::Other, "other files"),
    ];
    let mut files: Vec<Vec<(PathBuf, Group)>> = Vec::new();
    for night in nights {
        let mut found = Vec::new();
        super::content::collect(night, &mut found)?;
        found.sort();
        let known = found.into_iter().map(|path| group_of(&path).map(|group| (path, group)));
        files.push(known.collect::<std::io::Result<_>>()?);
    }
    for (group, title) in groups {
        writeln!(out, "\n{title}: MB stored with zstd 1, overhead included\n")?;
        let head: String = (0..nights.len()).map(|night| format!(" night {night} |")).collect();
        writeln!(out, "| how it is cut |{head} all | of it overhead | chunks | cache MB |")?;
        writeln!(out, "|---|{}---|---|---|---|", "---|".repeat(nights.len()))?;
        for way in WAYS.iter().filter(|way| way.groups.contains(&group)) {
            let mut stored = Stored::default();
            let mut row = format!("| {} |", way.name);
            let mut before = 0;
            for night in &files {
                for (path, _) in night.iter().filter(|(_, found)| *found == group) {
                    store(&std::fs::read(path)?, way, &mut stored)?;
                }
                let all = stored.bytes + stored.overhead;
                row += &format!(" {:.2} |", (all - before) as f64 / 1e6);
                before = all;
            }
            let overhead = stored.overhead as f64 / 1e6;
            let cache = stored.chunks as f64 * CACHE_BYTES / 1e6;
            let all = before as f64 / 1e6;
            writeln!(out, "{row} {all:.2} | {overhead:.2} | {} | {cache:.2} |", stored.chunks)?;
        }
    }
    Ok(())
}

fn group_of(path: &Path) -> std::io::Result<Group> {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let mut first = Vec::new();
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.take(8192).read_to_end(&mut first)?;
    let name = path.as_os_str().as_bytes();
    Ok(if header_length(&first).is_some() {
        Group::Compressed
    } else if Tablespace::recognise(&first, size).is_some() {
        Group::Tablespace
    } else if SegmentPath::parse(name).is_some() || name.ends_with(b"versionbuffer.cdf") {
        Group::Uncompressed
    } else {
        Group::Other
    })
}

/// Returns where pieces must end, in spans.
fn borders(bytes: &[u8], way: &Way) -> Vec<Vec<usize>> {
    let spans = || {
        let ends = (0..bytes.len()).step_by(SPAN_BYTES as usize);
        ends.map(|start| vec![(start + SPAN_BYTES as usize).min(bytes.len())]).collect()
    };
    let Some(length) = header_length(bytes).filter(|_| way.borders != Borders::Spans) else {
        return spans();
    };
    let head = &bytes[..(length + 1).min(bytes.len())];
    let segment = Segment::decode(head, bytes.len() as u64);
    if segment.bounds.is_empty() {
        return spans();
    }
    let slots: Vec<_> = segment.bounds.windows(2).map(|w| (w[0] as usize, w[1] as usize)).collect();
    let mut all: Vec<Vec<usize>> = slots
        .chunks(SPAN_SLOTS)
        .map(|span| {
            let mut ends = Vec::new();
            for (start, end) in span {
                let payload = SlotHead::decode(&bytes[*start..*end])
                    .and_then(|head| head.payload_end(end - start));
                ends.extend(
                    payload.filter(|_| way.borders == Borders::Payloads).map(|p| start + p),
                );
                ends.push(*end);
            }
            ends
        })
        .collect();
    match all.first_mut() {
        Some(first) => first.insert(0, length),
        None => all.push(vec![length]),
    }
    if all.last().and_then(|span| span.last()).is_some_and(|end| *end < bytes.len()) {
        all.push(vec![bytes.len()]);
    }
    all
}

fn store(bytes: &[u8], way: &Way, stored: &mut Stored) -> std::io::Result<()> {
    let cutter = |average| {
        Cutter::new(&CutterParameters {
            min_bytes: average / 4,
            average_bytes: average,
            max_bytes: average * 4,
            ..CutterParameters::default()
        })
    };
    let key = IdKey([7; 32]);
    let mut at = 0;
    for span in borders(bytes, way) {
        let mut extents = Vec::new();
        for end in span {
            let mut after_zeros = false;
            let cutter = match way.within {
                Within::Cdc(average) => Some(cutter(average)),
                Within::BySlot(limit) if end - at <= limit => Some(cutter(16 << 10)),
                Within::BySlot(_) => Some(cutter(64 << 10)),
                _ => None,
            };
            while at < end {
                let rest = &bytes[at..end];
                let piece = match (way.within, &cutter) {
                    (_, Some(cutter)) => cutter.next(rest, true, after_zeros),
                    (Within::Fixed(size), _) => fixed(rest, size),
                    _ => fixed(rest, rest.len()),
                };
                after_zeros = matches!(piece, Piece::Zeros(_));
                let length = piece.length();
                extents.push(match piece {
                    Piece::Zeros(length) => Extent::Zero { length: length as u64 },
                    Piece::Chunk(length) => {
                        let id = key.chunk_id(&rest[..length]);
                        if stored.known.insert(id.0) {
                            add(&rest[..length], CHUNK_OVERHEAD, stored)?;
                        }
                        Extent::Chunk { id, length: length as u32 }
                    }
                });
                at += length;
            }
        }
        let list = encode_list(&extents);
        let ChunkId(id) = key.chunk_id(&list);
        if extents.len() > 1 && stored.known.insert(id) {
            let before = stored.bytes;
            add(&list, CHUNK_OVERHEAD, stored)?;
            stored.overhead += stored.bytes - before;
            stored.bytes = before;
        }
    }
    Ok(())
}

fn fixed(bytes: &[u8], size: usize) -> Piece {
    let length = size.min(bytes.len());
    match bytes[..length].iter().all(|byte| *byte == 0) {
        true => Piece::Zeros(length),
        false => Piece::Chunk(length),
    }
}

fn add(raw: &[u8], overhead: u64, stored: &mut Stored) -> std::io::Result<()> {
    let packed = zstd::bulk::compress(raw, 1).map_err(Error::other)?.len();
    // As the engine does: raw where compressing gains less than three per cent.
    let kept = if packed * 100 < raw.len() * 97 { packed } else { raw.len() };
    stored.bytes += kept as u64;
    stored.overhead += overhead;
    stored.chunks += 1;
    Ok(())
}
