//! What a file is by its content, and where its spans and parts begin: the choice of a cutter.
//!
//! Source: FORMAT.md 4.3. A name decides nothing about cutting; of an uncompressed segment file only
//! the name tells what it is, and it is cut like any other file.

use std::fs::File;
use std::ops::Range;

use super::span::{DAMAGED_HEADER, finding_of};
use crate::columnstore::SegmentPath;
use crate::columnstore::page::Tablespace;
use crate::columnstore::segment::{BLOCK_BYTES, FACTS_BYTES, Segment};
use crate::format::extent::{SPAN_BYTES, SPAN_SLOTS};
use crate::format::manifest::EntryFinding;
use crate::format::segment::SegmentFacts;
use crate::source::file::read_politely;

/// How a file is laid out.
#[derive(Debug)]
pub(super) enum Layout {
    /// Nothing is known of it.
    Plain,
    /// A compressed segment file with a table of slots that makes sense.
    Segment(Segment),
    /// An InnoDB tablespace.
    Tablespace(Tablespace),
}

/// What the beginning of a file told.
#[derive(Debug)]
pub(super) struct Recognised {
    pub layout: Layout,
    /// What the manifest keeps of a segment file.
    pub facts: Option<SegmentFacts>,
    /// What does not hold in a header.
    pub faults: Vec<EntryFinding>,
}

/// Looks at the beginning of a file of `size` bytes. What cannot be read is found out by whoever
/// reads it all. Cost: one small read, a second one where there is a header.
pub(super) fn recognise(file: &File, size: u64, path: &[u8]) -> Recognised {
    let by_name = SegmentPath::parse(path).map(|_| SegmentFacts::Uncompressed);
    let plain = Recognised { layout: Layout::Plain, facts: by_name, faults: Vec::new() };
    if size < FACTS_BYTES as u64 {
        return plain;
    }
    let read = |length: u64| {
        let mut bytes = vec![0; length.min(size) as usize];
        let read = read_politely(file, 0, &mut bytes).ok()?;
        bytes.truncate(read);
        Some(bytes)
    };
    let Some(first) = read(BLOCK_BYTES) else { return plain };
    let Ok(segment) = Segment::read(&first, size, |length| read(length).ok_or(())) else {
        return plain;
    };
    let Some(segment) = segment else {
        return match Tablespace::recognise(&first, size) {
            Some(tablespace) => Recognised { layout: Layout::Tablespace(tablespace), ..plain },
            None => plain,
        };
    };
    let faults = segment.faults.iter().map(|fault| finding_of(DAMAGED_HEADER, fault)).collect();
    match segment.compressed_facts() {
        Some(facts) => Recognised {
            layout: Layout::Segment(segment),
            facts: Some(SegmentFacts::Compressed(facts)),
            faults,
        },
        None => Recognised { layout: Layout::Plain, facts: Some(SegmentFacts::Damaged), faults },
    }
}

impl Layout {
    /// Returns the span that holds byte `offset` of a file of `size` bytes.
    ///
    /// Spans do not overlap, leave nothing out, and depend on nothing but content before them: aligned
    /// stretches of 64 MiB; in a segment file 16 slots each, the header with the first of them, and
    /// stretches of 64 MiB from the end of the last slot on.
    pub fn span_at(&self, offset: u64, size: u64) -> Range<u64> {
        let stretch = |from: u64| {
            let start = from + (offset - from) / SPAN_BYTES * SPAN_BYTES;
            start..(start + SPAN_BYTES).min(size)
        };
        let Layout::Segment(Segment { bounds, .. }) = self else { return stretch(0) };
        let slots = bounds.len() - 1;
        if offset >= bounds[slots] {
            return stretch(bounds[slots]);
        }
        let slot = bounds.partition_point(|bound| *bound <= offset).saturating_sub(1);
        let first = slot / SPAN_SLOTS * SPAN_SLOTS;
        let start = if first == 0 { 0 } else { bounds[first] };
        start..bounds[(first + SPAN_SLOTS).min(slots)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(layout: &Layout, size: u64) -> Vec<Range<u64>> {
        let mut spans = Vec::new();
        let mut at = 0;
        while at < size {
            let span = layout.span_at(at, size);
            assert!(span.start == at && span.end > at, "{span:?} at {at}");
            // Any byte of a span leads to it.
            for offset in [at, at + (span.end - at) / 2, span.end - 1] {
                assert_eq!(layout.span_at(offset, size), span);
            }
            at = span.end;
            spans.push(span);
        }
        assert_eq!(at, size);
        spans
    }

    #[test]
    fn spans_cover_a_file_once_whatever_its_layout() {
        let mib = 1 << 20;
        assert_eq!(spans(&Layout::Plain, 130 * mib).len(), 3);
        let segment = |slots: u64| {
            let bounds = (0..=slots).map(|slot| 8192 + slot * 2 * mib).collect();
            Layout::Segment(Segment { bounds, ..Segment::default() })
        };
        for (slots, tail, expected) in [
            (0, 0, vec![8192]),
            (0, 100, vec![]),
            (1, 0, vec![8192 + 2 * mib]),
            (16, 0, vec![8192 + 32 * mib]),
            (17, 5, vec![8192 + 32 * mib, 8192 + 34 * mib, 8192 + 34 * mib + 5]),
            (33, 65 * mib, vec![]),
        ] {
            let size = 8192 + slots * 2 * mib + tail;
            let ends: Vec<_> = spans(&segment(slots), size).iter().map(|span| span.end).collect();
            assert!(expected.is_empty() || ends == expected, "{slots} slots, {tail}: {ends:?}");
        }
        // A slot that grows moves no border of other spans' slots.
        let bounds = [8192, 3 * mib].into_iter().chain((2..=20).map(|slot| slot * 3 * mib));
        let grown = Layout::Segment(Segment { bounds: bounds.collect(), ..Segment::default() });
        assert_eq!(spans(&grown, 60 * mib).len(), 2);
    }
}
