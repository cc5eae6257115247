//! Files of blocks without a header: uncompressed segment files and the version buffer.

use super::{BlockContents, Inspection, READ_BYTES};
use crate::columnstore::SegmentPath;
use crate::columnstore::segment::BLOCK_BYTES;
use crate::error::Result;
use crate::finding::{Finding, FindingKind};

/// The widest value of a column: a block without rows repeats one of at most so many bytes.
const VALUE_BYTES_MAX: usize = 16;

impl Inspection<'_> {
    pub(super) fn blocks(&mut self, place: Option<SegmentPath>) -> Result<BlockContents> {
        let size = self.file.size();
        let mut contents = BlockContents { place, ..BlockContents::default() };
        let whole = size - size % BLOCK_BYTES;
        let mut at = 0;
        while at < whole {
            let bytes = self.read(at, READ_BYTES.min(whole - at))?;
            at += bytes.len() as u64;
            for block in bytes.chunks(BLOCK_BYTES as usize) {
                match is_uniform(block) {
                    true => contents.uniform += 1,
                    false => contents.last_varied = Some(contents.blocks),
                }
                contents.blocks += 1;
            }
        }
        if whole < size {
            let detail = format!(
                "whole blocks of {BLOCK_BYTES} bytes expected, found {} bytes behind block {}",
                size - whole,
                contents.blocks
            );
            self.find(Finding::new(FindingKind::ShortSegment, &*self.object, detail));
        }
        Ok(contents)
    }
}

/// Whether a block repeats one value from beginning to end.
fn is_uniform(block: &[u8]) -> bool {
    // Widths are powers of two, so what repeats at any of them repeats at the widest.
    let value = &block[..VALUE_BYTES_MAX.min(block.len())];
    block.chunks_exact(VALUE_BYTES_MAX).all(|other| other == value)
}
