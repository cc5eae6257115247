//! Where content is cut into chunks. The door to fastcdc.
//!
//! Source: FORMAT.md 4.3; Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", TPDS 2020. Cut points are repository format.
//!
//! The seam for other cutters is [`Cutter::next`]: the pieces of a span, one after the other,
//! chosen by content alone.

use fastcdc::v2020::{Normalization, cut, select_masks};

use crate::format::config::CutterParameters;

/// One piece of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes to store as one chunk.
    Chunk(usize),
    /// A run of zeros.
    Zeros(usize),
}

impl Piece {
    /// Returns its length in raw bytes.
    pub fn length(self) -> usize {
        match self {
            Piece::Chunk(length) | Piece::Zeros(length) => length,
        }
    }
}

/// Cuts spans by FastCDC, and runs of zeros out of them.
#[derive(Clone, Debug)]
pub struct Cutter {
    min: usize,
    average: usize,
    max: usize,
    masks: (u64, u64),
}

/// The cutters of a repository: which one is used is chosen by content.
#[derive(Clone, Debug)]
pub struct Cutters {
    /// For everything that nothing is known of.
    pub plain: Cutter,
    /// For slots of segment files, each by itself.
    pub slots: Cutter,
}

impl Cutters {
    /// Makes the cutters; the parameters must have passed [`CutterParameters::validate`].
    pub fn new(parameters: &CutterParameters) -> Self {
        let slots = match &parameters.slots {
            None => parameters.clone(),
            Some(sizes) => CutterParameters {
                min_bytes: sizes.min_bytes,
                average_bytes: sizes.average_bytes,
                max_bytes: sizes.max_bytes,
                ..parameters.clone()
            },
        };
        Cutters { plain: Cutter::new(parameters), slots: Cutter::new(&slots) }
    }
}

impl Cutter {
    /// Makes a cutter; the parameters must have passed [`CutterParameters::validate`].
    pub fn new(parameters: &CutterParameters) -> Self {
        let level = match parameters.normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            _ => Normalization::Level3,
        };
        let average = parameters.average_bytes as usize;
        Cutter {
            min: parameters.min_bytes as usize,
            average,
            max: parameters.max_bytes as usize,
            masks: select_masks(average, level),
        }
    }

    /// Returns how many bytes [`Cutter::next`] wants to see unless the span ends before: the
    /// largest chunk.
    pub fn look_ahead(&self) -> usize {
        self.max
    }

    /// Returns the first piece of `bytes`, which must not be empty, and reach to the end of the
    /// span (`at_end`) or at least [`Cutter::look_ahead`] far.
    ///
    /// A run of zeros at least as long as the smallest chunk is a piece of its own, as far as
    /// `bytes` reaches; the caller joins it with the next one. `after_zeros` says that the piece
    /// before was such a run, which any further zeros continue: so what is cut does not depend on
    /// where windows end. Everything else is cut by FastCDC, from the first byte of the piece on.
    /// Cost: one pass.
    pub fn next(&self, bytes: &[u8], at_end: bool, after_zeros: bool) -> Piece {
        assert!(!bytes.is_empty() && (at_end || bytes.len() >= self.max), "window too small");
        let zeros = leading_zeros(bytes);
        if zeros >= self.min || zeros == bytes.len() || (after_zeros && zeros > 0) {
            return Piece::Zeros(zeros);
        }
        let (strict, loose) = self.masks;
        let (_, length) =
            cut(bytes, self.min, self.average, self.max, strict, loose, strict << 1, loose << 1);
        // The crate may return a cut at offset 0 only for empty input.
        Piece::Chunk(length.clamp(1, bytes.len()))
    }
}

/// Returns how many bytes at the front of `bytes` are zero. Cost: memory speed.
pub fn leading_zeros(bytes: &[u8]) -> usize {
    const BLOCK: usize = 512;
    let mut zeros = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(0, |all, byte| all | byte) != 0 {
            break;
        }
        zeros += BLOCK;
    }
    zeros + bytes[zeros..].iter().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_to_the_byte() {
        for length in [0, 1, 511, 512, 513, 4096, 70_001] {
            let mut bytes = vec![0; length];
            assert_eq!(leading_zeros(&bytes), length);
            bytes.extend([1, 0, 0]);
            assert_eq!(leading_zeros(&bytes), length);
        }
    }

    #[test]
    fn a_long_run_of_zeros_is_a_piece_and_a_short_one_is_not() {
        let cutter = Cutter::new(&CutterParameters::default());
        let mut bytes = vec![0; 16 << 10];
        bytes.push(1);
        assert_eq!(cutter.next(&bytes, true, false), Piece::Zeros(16 << 10));
        assert_eq!(cutter.next(&bytes[1..], true, false), Piece::Chunk(16 << 10));
        assert_eq!(cutter.next(&bytes[1..], true, true), Piece::Zeros((16 << 10) - 1));
        assert_eq!(cutter.next(&[0; 3], true, false), Piece::Zeros(3));
    }
}
