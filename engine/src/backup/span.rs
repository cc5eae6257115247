//! Reading, cutting and verifying one span of a file.
//!
//! Bytes are cut as they come, in windows; slots of segment files are read whole, cut by themselves
//! and verified while they are at hand. A slot or page that the parent has in the same place, in a file
//! with which nothing was wrong, was verified then and is not verified again.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;

use super::content::{Damages, Reading};
use super::layout::Layout;
use super::parent::Former;
use super::slots::{Guess, PackedSlot, Stored};
use crate::chunker::{Cutter, Piece};
use crate::columnstore::page::{PageState, Tablespace};
use crate::columnstore::segment::{Packing, Segment, SlotState, verify_slot};
use crate::error::Result;
use crate::format::ChunkKind;
use crate::format::extent::Extent;
use crate::format::manifest::EntryFinding;
use crate::format::segment::Damage;
use crate::format::snapshot::{RecipeStats, Verified};
use crate::manifest::store_list;
use crate::pipeline::Added;
use crate::progress::Event;
use crate::source::file::{next_data, read_politely};

/// Finding codes of manifest entries for damage (FORMAT.md 5.3).
pub(super) const DAMAGED_HEADER: u8 = EntryFinding::DAMAGED_HEADER;
pub(super) const DAMAGED_SLOT: u8 = EntryFinding::DAMAGED_SLOT;
pub(super) const DAMAGED_PAGE: u8 = EntryFinding::DAMAGED_PAGE;

/// Returns the finding of a damaged place.
pub(super) fn finding_of(code: u8, damage: &Damage) -> EntryFinding {
    EntryFinding { code, detail: damage.encode() }
}

/// Bytes read at once: fits the second-level cache, and one read call costs little beside it.
const WINDOW_BYTES: usize = 1 << 20;

/// Where a read has failed, reading is tried again in pieces of this size: one bad sector loses
/// little.
const CAREFUL_BYTES: usize = 4096;

/// Tablespaces are cut in blocks of a page, or of so many bytes where pages are smaller.
const PAGES_BYTES_MIN: usize = 16 << 10;

/// What one span gave.
#[derive(Default)]
pub(super) struct Span {
    pub extents: Vec<Extent>,
    /// Bytes read from the source.
    pub read: u64,
    /// The file ended before the span did.
    pub short: bool,
    /// Stretches that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Slots and pages that do not hold.
    pub damage: Damages,
    pub verified: Verified,
    pub recipes: RecipeStats,
}

/// A stretch of a file that could not be read.
pub(super) struct Unreadable {
    start: u64,
    length: u64,
    error: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { start, length, error } = self;
        write!(f, "{length} bytes from byte {start} cannot be read: {error}")
    }
}

impl Span {
    fn lose(&mut self, start: u64, length: u64, error: io::Error) {
        self.push_run(Extent::Lost { length });
        match self.unreadable.last_mut() {
            Some(last) if last.start + last.length == start => last.length += length,
            _ => self.unreadable.push(Unreadable { start, length, error }),
        }
    }

    pub fn length(&self) -> u64 {
        self.extents.iter().map(Extent::length).sum()
    }

    /// Returns the span with its extents as one list, unless it is one extent anyway.
    pub fn into_list(mut self, reading: &Reading<'_>) -> Result<Self> {
        if self.extents.len() > 1 {
            self.extents = vec![store_list(reading.store, &self.extents)?];
        }
        Ok(self)
    }

    fn slot_is(&mut self, state: SlotState) {
        match state {
            SlotState::Holds => self.verified.slots_verified += 1,
            SlotState::NotVerifiable => self.verified.slots_not_verifiable += 1,
            SlotState::Damaged(damage) => self.damage.push(finding_of(DAMAGED_SLOT, &damage)),
        }
    }

    fn push_run(&mut self, run: Extent) {
        match (self.extents.last_mut(), run) {
            (Some(Extent::Zero { length }), Extent::Zero { length: more })
            | (Some(Extent::Hole { length }), Extent::Hole { length: more })
            | (Some(Extent::Lost { length }), Extent::Lost { length: more }) => *length += more,
            _ => self.extents.push(run),
        }
    }

    /// Stores a piece. Returns whether its chunk is new; `None` for zeros, which have none.
    fn store(&mut self, bytes: &[u8], piece: Piece, reading: &Reading<'_>) -> Result<Option<bool>> {
        match piece {
            Piece::Zeros(length) => {
                self.push_run(Extent::Zero { length: length as u64 });
                Ok(None)
            }
            Piece::Chunk(length) => {
                let Added { id, is_new } = reading.store.add(ChunkKind::Data, bytes)?;
                let length = u32::try_from(length).expect("a chunk is below 4 GiB");
                self.extents.push(Extent::Chunk { id, length });
                Ok(Some(is_new))
            }
        }
    }
}

/// One slot of a segment file.
struct Slot {
    number: u64,
    range: Range<u64>,
    /// What its file's slots are packed by.
    packing: Option<Packing>,
    /// Bytes of a column's values; 0 for a dictionary.
    width: u64,
}

/// Reads the spans of one file.
pub(super) struct SpanReader<'a> {
    pub file: &'a File,
    pub is_sparse: bool,
    pub layout: &'a Layout,
    /// What the parent has in this span.
    pub former: &'a Former,
    pub reading: &'a Reading<'a>,
}

/// How a stretch is cut.
#[derive(Clone, Copy)]
enum Way<'a> {
    Content(&'a Cutter),
    Pages(Tablespace),
}

impl Way<'_> {
    /// Returns how many bytes [`Way::next`] wants to see unless the stretch ends before.
    fn look_ahead(self) -> usize {
        match self {
            Way::Content(cutter) => cutter.look_ahead(),
            Way::Pages(_) => self.block_bytes(),
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Way::Content(_) => 0,
            Way::Pages(tablespace) => tablespace.page_bytes.max(PAGES_BYTES_MIN),
        }
    }

    /// Returns the first piece of what begins at byte `offset` of the file.
    fn next(self, bytes: &[u8], offset: u64, at_end: bool, after_zeros: bool) -> Piece {
        match self {
            Way::Content(cutter) => cutter.next(bytes, at_end, after_zeros),
            Way::Pages(_) => {
                let block = self.block_bytes();
                let length = (block - (offset % block as u64) as usize).min(bytes.len());
                let is_zero = bytes[..length].iter().fold(0, |all, byte| all | byte) == 0;
                if is_zero { Piece::Zeros(length) } else { Piece::Chunk(length) }
            }
        }
    }
}

impl SpanReader<'_> {
    /// Reads one span, which is one by [`Layout::span_at`].
    pub fn read(&self, range: Range<u64>) -> Result<Span> {
        let cutters = self.reading.cutters;
        let mut span = Span::default();
        match self.layout {
            Layout::Plain => self.stretch(range, Way::Content(&cutters.plain), &mut span)?,
            Layout::Tablespace(tablespace) => {
                self.stretch(range, Way::Pages(*tablespace), &mut span)?;
            }
            Layout::Segment(segment) => self.parts(range, segment, &mut span)?,
        }
        Ok(span)
    }

    /// Reads the header, slots or tail of a segment file that lie in a span.
    fn parts(&self, range: Range<u64>, segment: &Segment, span: &mut Span) -> Result<()> {
        let Segment { bounds, header, packing, .. } = segment;
        let mut guess = Guess::default();
        let plain = Way::Content(&self.reading.cutters.plain);
        if range.start == 0 {
            self.stretch(0..bounds[0], plain, span)?;
        }
        let first = bounds.partition_point(|bound| *bound < range.start);
        for (number, slot) in bounds.windows(2).enumerate().skip(first) {
            if span.short || slot[1] > range.end {
                return Ok(());
            }
            let slot = Slot {
                number: number as u64,
                range: slot[0]..slot[1],
                packing: *packing,
                width: header.width,
            };
            self.slot(&slot, &mut guess, span)?;
        }
        let slots_end = bounds[bounds.len() - 1];
        if range.start >= slots_end && range.end > slots_end && !span.short {
            self.stretch(range, plain, span)?;
        }
        Ok(())
    }

    /// Reads, cuts and verifies one slot.
    fn slot(&self, place: &Slot, guess: &mut Guess, span: &mut Span) -> Result<()> {
        thread_local! {
            static SLOT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        self.reading.cancel.check()?;
        SLOT.with_borrow_mut(|buffer| {
            let Slot { number, range, packing, width } = place;
            let verify = |slot: &[u8]| verify_slot(slot, *number, range.start, *packing);
            let mut state = None;
            let length = (range.end - range.start) as usize;
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let slot = &mut buffer[..length];
            let cutter = &self.reading.cutters.slots;
            let is_known = if self.is_whole(range) && self.fill(slot, range.start, span) {
                if let Some(recipes) = &self.reading.recipes {
                    let verified = &mut || {
                        let found = verify(slot);
                        let holds = found == SlotState::Holds;
                        state = Some(found);
                        holds
                    };
                    let packed = PackedSlot { bytes: slot, number: *number, offset: range.start };
                    match recipes.store(packed, *packing, *width, self.former, guess, verified)? {
                        Stored::Known { id, length } => {
                            span.extents.push(Extent::Recipe { id, length });
                            // Only what holds becomes a recipe.
                            span.recipes.slots_recipe_known += 1;
                            span.verified.slots_known += 1;
                            return Ok(());
                        }
                        Stored::New { id, length, stats } => {
                            span.extents.push(Extent::Recipe { id, length });
                            span.recipes.add(&stats);
                            span.verified.slots_verified += 1;
                            return Ok(());
                        }
                        Stored::Not(stats) => span.recipes.add(&stats),
                        Stored::Damaged(stats, damage) => {
                            span.recipes.add(&stats);
                            state = Some(SlotState::Damaged(*damage));
                        }
                    }
                }
                let first = span.extents.len();
                let mut is_known = true;
                let mut after_zeros = false;
                let mut rest = &*slot;
                while !rest.is_empty() {
                    let piece = cutter.next(rest, true, after_zeros);
                    after_zeros = matches!(piece, Piece::Zeros(_));
                    let (bytes, behind) = rest.split_at(piece.length());
                    is_known &= span.store(bytes, piece, self.reading)? != Some(true);
                    rest = behind;
                }
                is_known && self.former.vouches_for(range.start, &span.extents[first..])
            } else {
                // With holes in it, or bytes that cannot be read: as any other stretch.
                span.recipes.slots_not_whole += u64::from(self.reading.recipes.is_some());
                let lost = span.unreadable.len();
                self.stretch(range.clone(), Way::Content(cutter), span)?;
                if span.short || span.unreadable.len() > lost || !self.reread(slot, range.start) {
                    return Ok(());
                }
                false
            };
            // A parent that unpacked nothing did not see all that can be wrong.
            if is_known && !matches!(state, Some(SlotState::Damaged(_))) {
                span.verified.slots_known += 1;
                return Ok(());
            }
            span.slot_is(state.unwrap_or_else(|| verify(slot)));
            Ok(())
        })
    }

    /// Whether a stretch has no holes. A file that takes less space than it is long may have none: some
    /// file systems compress.
    fn is_whole(&self, range: &Range<u64>) -> bool {
        let Range { start, end } = *range;
        !self.is_sparse || next_data(self.file, start, end) == Some((start, end))
    }

    /// Fills a buffer from byte `start` on; false when that is not possible.
    fn fill(&self, buffer: &mut [u8], start: u64, span: &mut Span) -> bool {
        if !self.reread(buffer, start) {
            return false;
        }
        let bytes = buffer.len() as u64;
        span.read += bytes;
        self.reading.observer.event(Event::Done { entries: 0, bytes });
        true
    }

    fn reread(&self, buffer: &mut [u8], start: u64) -> bool {
        let mut at = start;
        buffer.chunks_mut(WINDOW_BYTES).all(|piece| {
            let read = read_politely(self.file, at, piece);
            at += piece.len() as u64;
            read.is_ok_and(|read| read == piece.len())
        })
    }

    /// Reads and cuts a stretch; where the file system knows of holes, they stay holes.
    fn stretch(&self, range: Range<u64>, way: Way<'_>, span: &mut Span) -> Result<()> {
        let Range { start, end } = range;
        let mut at = start;
        while at < end && !span.short {
            self.reading.cancel.check()?;
            let (data, data_end) = if self.is_sparse {
                next_data(self.file, at, end).unwrap_or((end, end))
            } else {
                (at, end)
            };
            if data > at {
                span.push_run(Extent::Hole { length: data - at });
            }
            if data_end > data {
                self.data(data, data_end, way, span)?;
            }
            at = data_end;
        }
        Ok(())
    }

    /// Cuts `start..end`, which is data as far as the file system says.
    fn data(&self, start: u64, end: u64, way: Way<'_>, span: &mut Span) -> Result<()> {
        thread_local! {
            static WINDOW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let reading = self.reading;
        WINDOW.with_borrow_mut(|window| {
            window.resize(WINDOW_BYTES + way.look_ahead(), 0);
            // window[from..to] is what was read and not yet cut; `offset` is where reading goes on.
            let (mut from, mut to, mut offset) = (0, 0, start);
            let mut after_zeros = false;
            // Up to here it is read in small pieces, because a large one has failed.
            let mut careful_until = start;
            loop {
                if to - from < way.look_ahead() && offset < end && !span.short {
                    window.copy_within(from..to, 0);
                    (from, to) = (0, to - from);
                    let mut room = (window.len() - to)
                        .min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                    if offset < careful_until {
                        room = room.min(CAREFUL_BYTES);
                    }
                    match read_politely(self.file, offset, &mut window[to..to + room]) {
                        Ok(read) => {
                            span.short = read < room;
                            span.read += read as u64;
                            reading.observer.event(Event::Done { entries: 0, bytes: read as u64 });
                            to += read;
                            offset += read as u64;
                        }
                        Err(_) if room > CAREFUL_BYTES => careful_until = offset + room as u64,
                        Err(error) => {
                            // What came before is cut as it is; the stretch is lost.
                            while from < to {
                                let left = &window[from..to];
                                from += self.piece(left, offset, true, &mut false, way, span)?;
                            }
                            (from, to) = (0, 0);
                            span.lose(offset, room as u64, error);
                            offset += room as u64;
                            after_zeros = false;
                            reading.cancel.check()?;
                        }
                    }
                    if offset < careful_until {
                        continue;
                    }
                }
                if from == to {
                    if offset >= end || span.short {
                        return Ok(());
                    }
                    continue;
                }
                let at_end = offset >= end || span.short;
                from +=
                    self.piece(&window[from..to], offset, at_end, &mut after_zeros, way, span)?;
            }
        })
    }

    /// Stores the first piece of bytes that end at byte `end` of the file; returns its length.
    fn piece(
        &self,
        bytes: &[u8],
        end: u64,
        at_end: bool,
        after_zeros: &mut bool,
        way: Way<'_>,
        span: &mut Span,
    ) -> Result<usize> {
        let offset = end - bytes.len() as u64;
        let piece = way.next(bytes, offset, at_end, *after_zeros);
        *after_zeros = matches!(piece, Piece::Zeros(_));
        let bytes = &bytes[..piece.length()];
        let is_new = span.store(bytes, piece, self.reading)?;
        if let (Way::Pages(tablespace), Some(is_new)) = (way, is_new) {
            let stored = span.extents.last().copied();
            let is_known =
                !is_new && stored.is_some_and(|block| self.former.vouches_for(offset, &[block]));
            self.pages(tablespace, bytes, offset, is_known, span);
        }
        Ok(piece.length())
    }

    /// Verifies the whole pages of a block at byte `offset`.
    fn pages(
        &self,
        tablespace: Tablespace,
        block: &[u8],
        offset: u64,
        is_known: bool,
        span: &mut Span,
    ) {
        let page_bytes = tablespace.page_bytes;
        if !offset.is_multiple_of(page_bytes as u64) {
            return;
        }
        for (number, page) in (offset / page_bytes as u64..).zip(block.chunks_exact(page_bytes)) {
            if is_known {
                span.verified.pages_known += 1;
                continue;
            }
            match tablespace.verify(page, number) {
                PageState::Unused => {}
                PageState::Holds => span.verified.pages_verified += 1,
                PageState::NotVerifiable => span.verified.pages_not_verifiable += 1,
                PageState::Damaged(damage) => span.damage.push(finding_of(DAMAGED_PAGE, &damage)),
            }
        }
    }
}
