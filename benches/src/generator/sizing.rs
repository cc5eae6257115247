//! How many rows, and how alike, make a wanted amount of data: packed samples of every column tell.

use std::io::{Error, ErrorKind, Result};
use std::num::NonZero;

use super::content::{Filling, Tokens, dictionary_block, strings_per_block};
use super::layout::{EXTENT_ROWS, INITIAL_ROWS};
use super::random::{Random, parts};
use super::rows::{fill_with, parallel};
use super::schema::{BLOCK, Kind};
use super::segment::header_bytes;
use super::slot::{CHUNK, Codec, Packer, SLOT_HEADER};

/// How often a value changes from row to row, tried ones; between them is interpolated.
const LEVELS: [f64; 10] = [0.01, 0.03, 0.06, 0.1, 0.17, 0.28, 0.42, 0.6, 0.8, 1.0];

const SAMPLE: usize = 512 << 10;

/// A table whose rows are to be counted.
pub(super) struct Wanted {
    pub columns: &'static [(&'static str, Kind)],
    pub codec: Codec,
    /// Share of the data; all add up to 1.
    pub weight: f64,
}

/// What was found.
pub(super) struct Sizes {
    /// Rows of each table.
    pub rows: Vec<u64>,
    /// Parts of 2^32: how often a value changes.
    pub change: u32,
}

/// Packed part of the raw bytes, by level; of values, of empty values, and of dictionary blocks.
struct Sample {
    kind: Kind,
    values: Vec<f64>,
    empty: f64,
    dictionary: Vec<f64>,
}

/// Stored and unpacked bytes.
#[derive(Clone, Copy, Default)]
struct Total {
    stored: f64,
    unpacked: f64,
}

/// Finds the rows of tables that store `bytes` and unpack to `ratio` times as much, or to as little
/// above it as they can.
///
/// Errors: a ratio that these tables cannot reach, with those that they can.
pub(super) fn find(
    tables: &[Wanted],
    bytes: u64,
    ratio: f64,
    seed: u64,
    threads: NonZero<usize>,
) -> Result<Sizes> {
    let mut columns: Vec<(usize, Kind, Codec)> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        columns.extend(table.columns.iter().map(|(_, kind)| (number, *kind, table.codec)));
    }
    let samples = parallel(threads, &columns, |(_, kind, codec)| sample(*kind, *codec, seed))?;
    let of_table = |number: usize| -> Vec<&Sample> {
        let own = columns.iter().zip(&samples).filter(|((table, ..), _)| *table == number);
        own.map(|(_, sample)| sample).collect()
    };
    let samples: Vec<Vec<&Sample>> = (0..tables.len()).map(of_table).collect();
    let at = |change: f64| -> (Vec<u64>, f64) {
        let mut total = Total::default();
        let rows = tables.iter().zip(&samples).map(|(table, samples)| {
            let rows = rows_for(samples, bytes as f64 * table.weight, change);
            let own = table_total(samples, rows, change);
            total.stored += own.stored;
            total.unpacked += own.unpacked;
            rows
        });
        let rows = rows.collect();
        (rows, total.unpacked / total.stored)
    };
    let (mut low, mut high) = (LEVELS[0], LEVELS[LEVELS.len() - 1]);
    let (most, least) = (at(low).1, at(high).1);
    if !(1.0..=most).contains(&ratio) {
        let problem =
            format!("--unpacked-ratio: expected 1 to {most:.2} for these tables, found {ratio}");
        return Err(Error::new(ErrorKind::InvalidInput, problem));
    }
    // Of little data much is empty values, which pack well: it gets as near as it can.
    let ratio = ratio.max(least);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if at(middle).1 > ratio { low = middle } else { high = middle }
    }
    Ok(Sizes { rows: at(high).0, change: parts(high) })
}

/// Returns the rows with which a table stores about `bytes`.
fn rows_for(samples: &[&Sample], bytes: f64, change: f64) -> u64 {
    let (mut low, mut high) = (1u64, 1u64 << 40);
    while low < high {
        let middle = low.midpoint(high);
        if table_total(samples, middle, change).stored < bytes {
            low = middle + 1
        } else {
            high = middle
        }
    }
    low
}

fn table_total(samples: &[&Sample], rows: u64, change: f64) -> Total {
    let mut total = Total::default();
    for sample in samples {
        let width = sample.kind.width() as u64;
        // The first block of the narrowest column stays empty in all.
        let used = (rows + 4096) * width;
        let abbreviated = rows + 4096 <= INITIAL_ROWS;
        let chunk =
            if abbreviated { (INITIAL_ROWS * width).min(CHUNK as u64) } else { CHUNK as u64 };
        let packed = interpolate(&sample.values, change);
        let files = rows.div_ceil(2 * EXTENT_ROWS).max(1);
        add_slots(&mut total, used, chunk, packed, sample.empty);
        total.stored += (files * header_bytes(8) as u64) as f64;
        let strings = match sample.kind {
            Kind::Label { values, length } => Some((u64::from(values), length)),
            Kind::Text { length } => Some((rows, length)),
            _ => None,
        };
        if let Some((strings, length)) = strings {
            let used = strings.div_ceil(strings_per_block(length)) * BLOCK as u64;
            let packed = interpolate(&sample.dictionary, change);
            add_slots(&mut total, used, CHUNK as u64, packed, 0.052);
        }
    }
    total
}

fn add_slots(total: &mut Total, used: u64, chunk: u64, packed: f64, empty: f64) {
    let slots = used.div_ceil(chunk).max(1);
    let unpacked = (slots * chunk) as f64;
    let payload = used as f64 * packed + (unpacked - used as f64) * empty;
    total.unpacked += unpacked;
    // A slot is rounded up to a block and gets one more.
    total.stored += payload + (slots * (BLOCK as u64 * 3 / 2 + SLOT_HEADER as u64)) as f64;
}

fn interpolate(values: &[f64], change: f64) -> f64 {
    let above = LEVELS.iter().position(|level| *level >= change).unwrap_or(LEVELS.len() - 1);
    let below = above.saturating_sub(1);
    let width = LEVELS[above] - LEVELS[below];
    let part = if width > 0.0 { (change - LEVELS[below]) / width } else { 0.0 };
    values[below] + (values[above] - values[below]) * part
}

fn sample(kind: Kind, codec: Codec, seed: u64) -> Result<Sample> {
    let mut packer = Packer::new(codec);
    let mut raw = vec![0; SAMPLE];
    let mut packed = |raw: &[u8]| -> Result<f64> {
        Ok((packer.pack(raw)?.len() - SLOT_HEADER) as f64 / raw.len() as f64)
    };
    let width = kind.width();
    fill_with(&mut raw, &kind.empty()[..width]);
    let empty = packed(&raw)?;
    let rows = (SAMPLE / width) as u64;
    let length = match kind {
        Kind::Label { length, .. } | Kind::Text { length } => length,
        _ => 8,
    };
    let tokens = Tokens {
        extents: vec![400_000; 64],
        per_block: strings_per_block(length),
        shared: match kind {
            Kind::Label { values, .. } => Some(u64::from(values)),
            _ => None,
        },
        first: 1_000_000,
    };
    let (mut values, mut dictionary) = (Vec::new(), Vec::new());
    for level in LEVELS {
        let filling = Filling { kind, change: parts(level), tokens: Some(&tokens) };
        filling.fill(&mut raw, 5_000_000, 5_000_000..5_000_000 + rows, Random::of(&[seed]));
        values.push(packed(&raw)?);
        if kind.has_dictionary() {
            for (number, block) in raw.chunks_exact_mut(BLOCK).enumerate() {
                let stream = Random::of(&[seed, number as u64]);
                dictionary_block(block, length, u64::MAX, parts(level), stream);
            }
            dictionary.push(packed(&raw)?);
        }
    }
    Ok(Sample { kind, values, empty, dictionary })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::slot::slot_bytes;

    #[test]
    fn a_slot_is_longer_than_its_payload_by_one_to_two_blocks() {
        for packed in [1, 8191, 8192, 8193, 100_000] {
            let padding = slot_bytes(packed) - packed;
            assert!((BLOCK..2 * BLOCK).contains(&padding), "{packed}: {padding}");
        }
    }
}
