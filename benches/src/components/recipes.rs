//! What a repository holds after some nights when slots are stored as what they unpack to.
//!
//! Each directory is a night, in order. Slots of compressed segment files are unpacked and cut in
//! blocks; each new block is stored through the engine's transforms. What it costs besides is counted:
//! a block's place in the pack's trailer and in an index object, and the recipe of every new slot with
//! its 36 bytes a block. Headers and tails of the files are chunks in every row.

use std::collections::HashSet;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};

use colvault_engine::chunker::Cutter;
use colvault_engine::columnstore::segment::{Packing, Segment, SlotHead, header_length};
use colvault_engine::compress::Compressor;
use colvault_engine::format::config::CutterParameters;
use colvault_engine::id::IdKey;
use colvault_engine::transform::Transform;

use super::processor_seconds;

/// Trailer and index object (FORMAT.md 4.1, 4.2).
const CHUNK_OVERHEAD: u64 = 40 + 40;

/// A block in a recipe, and what a recipe has besides: its chunk, its head, its place in a span list.
const RECIPE_BLOCK: u64 = 36;
const RECIPE: u64 = CHUNK_OVERHEAD + 12 + 36;

const SLOT_BYTES: usize = 4 << 20;

/// The block size of the tables that compare other things.
const BLOCK: usize = 64 << 10;

#[derive(Clone, Copy)]
enum Cut {
    Fixed(usize),
    Cdc(usize),
    /// Fixed, but in dictionaries of another size.
    Mixed(usize, usize),
}

#[derive(Clone, Copy)]
enum Choice {
    None,
    Shuffle,
    Delta,
    Sampled,
    /// The smallest of all for each block: what no sample can know.
    Best,
}

/// A new block of a slot.
struct Block<'a> {
    width: u64,
    chosen: Transform,
    bytes: &'a [u8],
}

#[derive(Default)]
struct Night {
    stored: u64,
    overhead: u64,
    blocks: u64,
}

/// Prints, for each block size, choice of transforms and level, what each night adds in MB.
pub fn run(nights: &[PathBuf], out: &mut impl Write) -> std::io::Result<()> {
    let head: String = (0..nights.len()).map(|night| format!(" night {night} |")).collect();
    let line = "---|".repeat(nights.len());
    writeln!(out, "\nblocks of slots, transforms chosen by sample, zstd 1: MB stored\n")?;
    writeln!(out, "| how it is cut |{head} all | of it overhead | blocks |")?;
    writeln!(out, "|---|{line}---|---|---|")?;
    let kib = |n: usize| n << 10;
    let fixed = [16, 32, 64, 128, 256, 512, 1024].map(|n| (format!("{n} KiB"), Cut::Fixed(kib(n))));
    let others = [
        ("FastCDC 32 KiB".to_owned(), Cut::Cdc(kib(32))),
        ("FastCDC 64 KiB".to_owned(), Cut::Cdc(kib(64))),
        ("columns 64, dictionaries 128 KiB".to_owned(), Cut::Mixed(kib(64), kib(128))),
        ("columns 128, dictionaries 64 KiB".to_owned(), Cut::Mixed(kib(128), kib(64))),
    ];
    for (name, cut) in fixed.into_iter().chain(others) {
        let mut compressor = Compressor::new();
        let mut stored = Vec::new();
        let all = walk(nights, cut, &mut |block| {
            stored.clear();
            compressor.store_typed(block.bytes, block.chosen, &mut stored)
        })?;
        let overhead: u64 = all.iter().map(|night| night.overhead).sum();
        let blocks: u64 = all.iter().map(|night| night.blocks).sum();
        let (cells, sum) = cells(&all);
        writeln!(out, "| {name} |{cells} {sum:.2} | {:.2} | {blocks} |", mb(overhead))?;
    }
    writeln!(out, "\nblocks of {} KiB, zstd 1: MB stored\n", BLOCK >> 10)?;
    writeln!(out, "| transform |{head} all |\n|---|{line}---|")?;
    for (name, choice) in [
        ("none", Choice::None),
        ("shuffle", Choice::Shuffle),
        ("delta", Choice::Delta),
        ("chosen by sample, slot by slot", Choice::Sampled),
        ("the best of them, block by block", Choice::Best),
    ] {
        let mut compressor = Compressor::new();
        let all =
            walk(nights, Cut::Fixed(BLOCK), &mut |block| store(block, choice, &mut compressor))?;
        let (cells, sum) = cells(&all);
        writeln!(out, "| {name} |{cells} {sum:.2} |")?;
    }
    let mut blocks = Vec::new();
    walk(nights, Cut::Fixed(BLOCK), &mut |block| {
        blocks.push((block.width, block.chosen, block.bytes.to_vec()));
        0
    })?;
    levels(&blocks, out)?;
    speeds(&blocks, out)?;
    choosing(nights, out)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn cells(nights: &[Night]) -> (String, f64) {
    let cost = |night: &Night| mb(night.stored + night.overhead);
    let cells = nights.iter().map(|night| format!(" {:.2} |", cost(night))).collect();
    (cells, nights.iter().map(cost).sum())
}

/// Returns the slot unpacked.
fn unpack(slot: &[u8]) -> Option<Vec<u8>> {
    let head = SlotHead::decode(slot)?;
    let payload = &slot[9..head.payload_end(slot.len())?];
    match Packing::of_signature(head.signature)? {
        Packing::Snappy => snap::raw::Decoder::new().decompress_vec(payload).ok(),
        Packing::Lz4 => {
            let mut bytes = vec![0; SLOT_BYTES];
            let length =
                lz4::block::decompress_to_buffer(payload, Some(SLOT_BYTES as i32), &mut bytes);
            bytes.truncate(length.ok()?);
            Some(bytes)
        }
    }
}

/// Calls `each` for every new slot of a file, and returns the length of its header and its tail.
fn slots(path: &Path, each: &mut dyn FnMut(u64, &[u8])) -> std::io::Result<Option<Vec<Vec<u8>>>> {
    let bytes = std::fs::read(path)?;
    let Some(length) = header_length(&bytes) else { return Ok(None) };
    let segment = Segment::decode(&bytes[..(length + 1).min(bytes.len())], bytes.len() as u64);
    for bounds in segment.bounds.windows(2) {
        each(segment.header.width, &bytes[bounds[0] as usize..bounds[1] as usize]);
    }
    let end = segment.bounds.last().map_or(length, |end| *end as usize);
    let besides = [&bytes[..length], &bytes[end..]].map(<[u8]>::to_vec);
    Ok(Some(besides.into_iter().filter(|piece| !piece.is_empty()).collect()))
}

/// Goes through the nights, and asks `store` how long each new block is when it is stored.
fn walk(
    nights: &[PathBuf],
    cut: Cut,
    store: &mut dyn FnMut(&Block<'_>) -> usize,
) -> std::io::Result<Vec<Night>> {
    let key = IdKey([7; 32]);
    let mut known = HashSet::new();
    let mut seen = HashSet::new();
    let mut chooser = Compressor::new();
    let mut plain = Compressor::new();
    let mut all = Vec::new();
    for directory in nights {
        let mut files = Vec::new();
        super::content::collect(directory, &mut files)?;
        files.sort();
        let mut night = Night::default();
        for path in &files {
            let besides = slots(path, &mut |width, slot| {
                if !seen.insert(key.chunk_id(slot).0) {
                    return;
                }
                let Some(unpacked) = unpack(slot) else { return };
                let chosen = chooser.choose(&unpacked, width);
                night.overhead += RECIPE;
                let mut rest = &unpacked[..];
                while !rest.is_empty() {
                    let bytes;
                    (bytes, rest) = rest.split_at(length(rest, width, cut));
                    night.overhead += RECIPE_BLOCK;
                    let zeros = bytes.iter().all(|byte| *byte == 0);
                    if !zeros && known.insert(key.chunk_id(bytes).0) {
                        night.stored += store(&Block { width, chosen, bytes }) as u64;
                        night.overhead += CHUNK_OVERHEAD;
                        night.blocks += 1;
                    }
                }
            })?;
            for piece in besides.into_iter().flatten() {
                if known.insert(key.chunk_id(&piece).0) {
                    night.stored += plain.store(&piece, &mut Vec::new()) as u64;
                    night.overhead += CHUNK_OVERHEAD;
                }
            }
        }
        all.push(night);
    }
    Ok(all)
}

fn length(rest: &[u8], width: u64, cut: Cut) -> usize {
    match cut {
        Cut::Fixed(size) => size.min(rest.len()),
        Cut::Mixed(columns, dictionaries) => {
            (if width == 0 { dictionaries } else { columns }).min(rest.len())
        }
        Cut::Cdc(average) => {
            let average = average as u32;
            let parameters = CutterParameters {
                min_bytes: average / 4,
                average_bytes: average,
                max_bytes: average * 4,
                ..CutterParameters::default()
            };
            Cutter::new(&parameters).next(rest, true, false).length()
        }
    }
}

fn store(block: &Block<'_>, choice: Choice, compressor: &mut Compressor) -> usize {
    let typed = |delta: bool| match (block.width, delta) {
        (0, _) => Transform::STRINGS,
        (width, false) => Transform::shuffle(width).unwrap_or(Transform::NONE),
        (width, true) => Transform::delta(width).unwrap_or(Transform::NONE),
    };
    let mut stored = |transform| compressor.store_typed(block.bytes, transform, &mut Vec::new());
    match choice {
        Choice::None => stored(Transform::NONE),
        Choice::Shuffle => stored(typed(false)),
        Choice::Delta => stored(typed(true)),
        Choice::Sampled => stored(block.chosen),
        Choice::Best => {
            let all = [Transform::NONE, typed(false), typed(true)];
            all.map(stored).into_iter().min().unwrap_or_default()
        }
    }
}

type Stored = (u64, Transform, Vec<u8>);

/// Prints what levels of zstd make of blocks, and how fast.
fn levels(blocks: &[Stored], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "\nblocks of {} KiB, chosen transforms, one core\n", BLOCK >> 10)?;
    writeln!(out, "| level | columns MB | MB/s | dictionaries MB | MB/s |\n|---|---|---|---|---|")?;
    for level in [-5, -1, 1, 2, 3, 5, 9, 12, 15, 19] {
        let mut row = format!("| {level} |");
        for dictionaries in [false, true] {
            let mut compressor = Compressor::with_level(level);
            let mut stored = Vec::new();
            let (mut sum, mut raw) = (0, 0);
            let begin = processor_seconds();
            for (_, chosen, bytes) in blocks.iter().filter(|block| (block.0 == 0) == dictionaries) {
                stored.clear();
                sum += compressor.store_typed(bytes, *chosen, &mut stored);
                raw += bytes.len();
            }
            let rate = raw as f64 / 1e6 / (processor_seconds() - begin);
            row += &format!(" {:.2} | {rate:.0} |", mb(sum as u64));
        }
        writeln!(out, "{row}")?;
    }
    Ok(())
}

/// Prints how fast every transform is applied and undone, in the processor's cache.
fn speeds(blocks: &[Stored], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "\nblocks of {} KiB, GB/s on one core\n", BLOCK >> 10)?;
    writeln!(out, "| transform | apply | undo |\n|---|---|---|")?;
    for transform in (0..=255).filter_map(Transform::from_byte) {
        let strings = transform == Transform::STRINGS;
        let some =
            blocks.iter().filter(|block| (block.0 == 0) == strings && block.2.len() == BLOCK);
        let some: Vec<_> = some.step_by(7).take(100).collect();
        let (mut stored, mut raw) = (Vec::new(), vec![0; BLOCK]);
        let (mut apply, mut undo) = (f64::MAX, f64::MAX);
        for _ in 0..5 {
            let mut times = [0.0; 2];
            for (_, _, bytes) in &some {
                let begin = processor_seconds();
                for _ in 0..10 {
                    transform.apply(black_box(bytes), &mut stored);
                }
                let middle = processor_seconds();
                for _ in 0..10 {
                    transform.undo(black_box(&stored), &mut raw);
                }
                times[0] += middle - begin;
                times[1] += processor_seconds() - middle;
            }
            apply = apply.min(times[0]);
            undo = undo.min(times[1]);
        }
        let rate = |time: f64| (some.len() * 10 * BLOCK) as f64 / 1e9 / time;
        writeln!(out, "| {:#04x} | {:.1} | {:.1} |", transform.byte(), rate(apply), rate(undo))?;
    }
    Ok(())
}

/// Prints what choosing costs beside compressing slots that are at least half full.
fn choosing(nights: &[PathBuf], out: &mut impl Write) -> std::io::Result<()> {
    let mut compressor = Compressor::new();
    let (mut choosing, mut storing, mut bytes) = (0.0, 0.0, 0);
    let mut files = Vec::new();
    super::content::collect(&nights[0], &mut files)?;
    for path in files {
        slots(&path, &mut |width, slot| {
            let Some(unpacked) = unpack(slot) else { return };
            let step = (width as usize).max(1);
            let empty =
                |block: &&[u8]| block.len() <= step || block[step..] == block[..block.len() - step];
            if unpacked.chunks(BLOCK).filter(empty).count() * 2 > unpacked.len() / BLOCK {
                return;
            }
            let begin = processor_seconds();
            let chosen = compressor.choose(&unpacked, width);
            let middle = processor_seconds();
            let mut stored = Vec::new();
            for block in unpacked.chunks(BLOCK) {
                stored.clear();
                compressor.store_typed(block, chosen, &mut stored);
            }
            choosing += middle - begin;
            storing += processor_seconds() - middle;
            bytes += unpacked.len();
        })?;
    }
    writeln!(
        out,
        "\n{:.0} MB that slots of night 0, at least half full, unpack to: {storing:.3} s to store, {choosing:.3} s to choose",
        mb(bytes as u64)
    )
}
