//! Cut points are repository format: they are compared with another implementation, with a table
//! that is never edited, and with what a backup stores.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use colvault_engine::chunker::{Cutter, Piece};
use colvault_engine::format::config::CutterParameters;
use colvault_engine::format::extent::{Extent, SPAN_BYTES};
use colvault_engine::manifest::{ManifestReader, MetaReader};
use colvault_engine::progress::NullObserver;
use colvault_engine::testing::trees::{Random, mixed_bytes};

use crate::support::{Store, quick};

fn parameters(sizes: [u32; 3], normalization: u8) -> CutterParameters {
    let [min_bytes, average_bytes, max_bytes] = sizes;
    let parameters = CutterParameters {
        normalization,
        min_bytes,
        average_bytes,
        max_bytes,
        ..CutterParameters::default()
    };
    parameters.validate("parameters").unwrap();
    parameters
}

/// Cuts a slice as a whole; pieces as text.
fn pieces(parameters: &CutterParameters, mut bytes: &[u8]) -> Vec<String> {
    let cutter = Cutter::new(parameters);
    let mut found = Vec::new();
    let mut after_zeros = false;
    while !bytes.is_empty() {
        let piece = cutter.next(bytes, true, after_zeros);
        after_zeros = matches!(piece, Piece::Zeros(_));
        found.push(match piece {
            Piece::Chunk(length) => format!("C{length}"),
            Piece::Zeros(length) => format!("Z{length}"),
        });
        bytes = &bytes[piece.length()..];
    }
    found
}

fn other_implementation(parameters: &CutterParameters, bytes: &[u8]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/fastcdc2020.py");
    let CutterParameters { min_bytes, average_bytes, max_bytes, normalization, .. } = parameters;
    let mut child = Command::new("python3")
        .arg(script)
        .args([min_bytes, average_bytes, max_bytes].map(u32::to_string))
        .arg(normalization.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.replace(' ', "")).filter(|line| !line.is_empty()).collect()
}

/// Catches a new version of the crate, a wrong mask, level or size, or a rule for zeros that is not
/// what FORMAT.md says: the same bytes are cut by a program that shares nothing with ours.
#[test]
fn another_implementation_cuts_at_the_same_places() {
    let default = CutterParameters::default();
    assert_eq!(
        (default.min_bytes, default.average_bytes, default.max_bytes, default.normalization),
        (16 << 10, 64 << 10, 256 << 10, 1),
        "what FORMAT.md says"
    );
    let small = parameters([2 << 10, 8 << 10, 32 << 10], 2);
    let tiny = parameters([512, 4 << 10, 64 << 10], 0);
    let large = parameters([64 << 10, 128 << 10, 512 << 10], 1);
    for (parameters, seed, length) in
        [(&default, 1, 3 << 20), (&small, 2, 1 << 20), (&tiny, 3, 1 << 20), (&large, 4, 2_000_003)]
    {
        for bytes in [mixed_bytes(seed, length), Random::new(seed).bytes(length)] {
            let found = pieces(parameters, &bytes);
            assert_eq!(found, other_implementation(parameters, &bytes), "seed {seed}");
            assert!(found.len() >= 5, "{} pieces", found.len());
        }
    }
    for length in [1, 511, 16_383, 16_384, 16_385, 65_536, 262_143, 262_144, 262_145] {
        let mut bytes = Random::new(length as u64).bytes(length);
        assert_eq!(pieces(&default, &bytes), other_implementation(&default, &bytes), "{length}");
        bytes.fill(0);
        assert_eq!(pieces(&default, &bytes), [format!("Z{length}")]);
    }
}

/// Catches a change of both implementations at once, or of the bytes they are tried on.
#[test]
fn cut_points_are_those_of_the_table() {
    let table = include_str!("../fixtures/cut_points.txt");
    let mut rows = 0;
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<Vec<&str>> =
            row.split('|').map(|part| part.split_whitespace().collect()).collect();
        let number = |text: &str| text.parse::<u32>().unwrap();
        let [input, sizes, wanted] = &parts[..] else { panic!("three parts in {row}") };
        let length = number(input[1]) as usize;
        let mut bytes = Random::new(number(input[0]).into()).bytes(length);
        let from = length / 3;
        let zeros = (length - from).min(40_000);
        bytes[from..from + zeros].fill(0);
        let level = u8::try_from(number(sizes[3])).unwrap();
        let parameters = parameters([number(sizes[0]), number(sizes[1]), number(sizes[2])], level);
        assert_eq!(&pieces(&parameters, &bytes), wanted, "{input:?}");
        rows += 1;
    }
    assert_eq!(rows, 6);
}

/// Catches cut points that depend on how much was in memory when they were chosen: a file is read
/// in windows, and must be cut as if it were in memory as a whole, span by span.
#[test]
fn a_backup_cuts_as_if_the_span_were_in_memory() {
    let place = quick();
    let mut bytes = mixed_bytes(8, 5 << 20);
    // A run of zeros over the border of a window, and one over the border of two spans.
    bytes[(1 << 20) - 100_000..(1 << 20) + 150_000].fill(0);
    let first_span = usize::try_from(SPAN_BYTES).unwrap();
    let repeat = bytes.clone();
    while bytes.len() < first_span + (3 << 20) {
        bytes.extend_from_slice(&repeat);
    }
    bytes.truncate(first_span + (3 << 20));
    bytes[first_span - 50_000..first_span + 50_000].fill(0);
    fs::write(place.path().join("file"), &bytes).unwrap();
    let store = Store::memory();
    store.backup(place.path());
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let named = store.latest();
    let mut manifest = ManifestReader::new(&repository, &named.snapshot.components[0]);
    let mut meta = MetaReader::new(&repository);
    let mut stored = Vec::new();
    while let Some(entry) = manifest.next_entry().unwrap() {
        meta.extents(entry.extents(), &mut |offset, extent| {
            stored.push((offset, extent));
            Ok(())
        })
        .unwrap();
    }
    let mut wanted = Vec::new();
    for (number, span) in bytes.chunks(first_span).enumerate() {
        let mut offset = number * first_span;
        for piece in pieces(&repository.config().cutter, span) {
            let length: usize = piece[1..].parse().unwrap();
            let raw = &bytes[offset..offset + length];
            let extent = match &piece[..1] {
                "Z" => Extent::Zero { length: length as u64 },
                _ => Extent::Chunk {
                    id: repository.id_key().chunk_id(raw),
                    length: u32::try_from(length).unwrap(),
                },
            };
            wanted.push((offset as u64, extent));
            offset += length;
        }
    }
    assert!(stored.len() > 500);
    assert!(stored == wanted, "cut in windows as in memory");
}

/// Catches a cutter that loses its place: an insertion may change the chunks around it, no others.
#[test]
fn an_insertion_changes_only_what_is_around_it() {
    let place = quick();
    let path = place.path().join("file");
    let mut bytes = Random::new(3).bytes(8 << 20);
    fs::write(&path, &bytes).unwrap();
    let store = Store::memory();
    let first = store.backup(place.path()).snapshot.stats;
    assert!(first.data_chunks > 60);
    bytes.splice(3_000_000..3_000_000, *b"inserted");
    fs::write(&path, &bytes).unwrap();
    let second = store.backup(place.path()).snapshot.stats;
    assert!((1..=6).contains(&second.data_chunks), "{} chunks", second.data_chunks);
}
