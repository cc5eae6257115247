//! The cutter: pieces cover the input, keep their limits, and do not depend on the window.
#![no_main]
use colvault_engine::chunker::{Cutter, Piece};
use colvault_engine::format::config::CutterParameters;
use libfuzzer_sys::fuzz_target;

fn pieces(cutter: &Cutter, bytes: &[u8], window: usize) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + window);
        let after_zeros = matches!(out.last(), Some(Piece::Zeros(_)));
        let piece = cutter.next(&bytes[at..end], end == bytes.len(), after_zeros);
        at += piece.length();
        match (out.last_mut(), piece) {
            (Some(Piece::Zeros(all)), Piece::Zeros(more)) => *all += more,
            _ => out.push(piece),
        }
    }
    assert_eq!(at, bytes.len());
    out
}

fuzz_target!(|input: (Vec<(u8, u16)>, &[u8])| {
    let parameters = CutterParameters {
        min_bytes: 512,
        average_bytes: 1024,
        max_bytes: 2048,
        ..CutterParameters::default()
    };
    let cutter = Cutter::new(&parameters);
    let mut bytes = input.1.to_vec();
    for (value, length) in input.0.iter().take(16) {
        bytes.extend(std::iter::repeat_n(*value, usize::from(*length)));
        bytes.extend(bytes.clone().iter().take(777).map(|byte| byte.wrapping_mul(31).wrapping_add(*value)));
    }
    let whole = pieces(&cutter, &bytes, usize::MAX / 2);
    for window in [2048, 2049, 5000] {
        assert_eq!(pieces(&cutter, &bytes, window), whole);
    }
    assert!(whole.iter().all(|piece| !matches!(piece, Piece::Chunk(length) if *length > 2048)));
});
