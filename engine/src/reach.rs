//! What snapshots reach: every manifest and list read once, every reference sorted by chunk.
//!
//! Manifests are a graph: nights share most lists, chunks of entries and span lists. The walk goes
//! through it level by level. The references of one level are sorted by id, those to the same
//! object are joined, the object is read once, and what it names goes to the next level with the
//! joined label. So each object is read once, however many snapshots reach it, and memory holds
//! one object and the buffers of the sorters ([`crate::spill`]), never the graph.
//!
//! A label is two numbers, the first and the last snapshot that reach something, in the order of
//! time. Joining takes the lesser first and the greater last. That is enough for what is asked:
//! first and last are the same when only one snapshot reaches it, and the first one is the one
//! that brought it.

use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::format::manifest::Entry;
use crate::format::snapshot::Component;
use crate::id::ChunkId;
use crate::index::{IdPrefix, prefix_of};
use crate::manifest::MetaReader;
use crate::progress::{Cancel, Event, Observer};
use crate::repository::Repository;
use crate::snapshot::Named;
use crate::spill::{Sorted, Sorter, SpillPlace};

/// Which snapshots reach something, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The first that does.
    pub first: u32,
    /// The last that does.
    pub last: u32,
    /// Whether a snapshot that was asked for does.
    pub is_selected: bool,
    /// How many that were asked for do; for manifests only, content does not count them.
    pub times: u32,
}

impl Reached {
    /// Whether only one snapshot reaches it.
    pub fn is_exclusive(&self) -> bool {
        self.first == self.last
    }

    /// Adds what others reach.
    pub fn join(&mut self, other: &Reached) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.is_selected |= other.is_selected;
        self.times = self.times.saturating_add(other.times);
    }
}

/// A reference to a chunk from a group, once for each way of reaching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub prefix: IdPrefix,
    pub kind: ChunkKind,
    /// Whether it is a recipe, whose raw length is that of the packed slot.
    pub is_recipe: bool,
    pub group: u32,
    pub reached: Reached,
}

/// Bits of the last byte.
const SELECTED: u8 = 1;
const IS_RECIPE: u8 = 2;

/// The length of a reference as the sorter has it: prefix, kind, group, first, last, bits.
pub(crate) const REFERENCE_LEN: usize = 20 + 1 + 4 + 4 + 4 + 1;

impl Reference {
    fn encode(&self) -> [u8; REFERENCE_LEN] {
        let mut record = [0; REFERENCE_LEN];
        record[..20].copy_from_slice(&self.prefix);
        record[20] = self.kind.number();
        put(&mut record, 21, self.group);
        put(&mut record, 25, self.reached.first);
        put(&mut record, 29, self.reached.last);
        record[33] |= if self.reached.is_selected { SELECTED } else { 0 };
        record[33] |= if self.is_recipe { IS_RECIPE } else { 0 };
        record
    }

    /// Reads a reference from a sorter.
    pub fn decode(record: &[u8; REFERENCE_LEN]) -> Self {
        let mut prefix = [0; 20];
        prefix.copy_from_slice(&record[..20]);
        Reference {
            prefix,
            kind: if record[20] == 0 { ChunkKind::Data } else { ChunkKind::Meta },
            is_recipe: record[33] & IS_RECIPE != 0,
            group: take(record, 21),
            reached: Reached {
                first: take(record, 25),
                last: take(record, 29),
                is_selected: record[33] & SELECTED != 0,
                times: 0,
            },
        }
    }
}

fn put(record: &mut [u8], at: usize, number: u32) {
    record[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

fn take(record: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

/// A snapshot to begin from; its number is its place among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a> {
    pub named: &'a Named,
    /// Whether it was asked for.
    pub is_selected: bool,
}

/// Says what counts as what.
pub(crate) trait Visitor {
    /// Returns the number of a component; its manifests are read once for all snapshots that have
    /// it under this number.
    fn component(&mut self, named: &Named, component: &Component) -> u32;

    /// Returns the group that the names of a snapshot's tables and columns count to.
    fn names_group(&mut self, named: &Named) -> u32;

    /// Returns the group that the manifests of a component count to.
    fn manifest_group(&mut self, component: u32) -> u32;

    /// Takes an entry, once for each manifest chunk it is in, and returns the group that its
    /// content counts to.
    fn entry(&mut self, component: u32, entry: &Entry, reached: &Reached) -> u32;
}

/// What a walk works with.
pub(crate) struct Walk<'a> {
    pub repository: &'a Repository,
    pub spill: &'a SpillPlace,
    pub cancel: &'a Cancel,
    pub observer: &'a dyn Observer,
    /// Whether lists and manifests that are not there are referred to all the same.
    pub refers_to_missing: bool,
    /// What could not be read. Everything below it is missing from what the walk returns.
    pub findings: Findings,
}

/// A list, a manifest chunk or a span list on its way to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    id: ChunkId,
    component: u32,
    group: u32,
    /// Raw bytes of content that a span list describes.
    length: u64,
    reached: Reached,
}

/// Stands for the component of a step to a recipe; span lists have 0.
const RECIPE: u32 = 1;

/// Id, component, group and length are the key.
const STEP_LEN: usize = 32 + 4 + 4 + 8 + 4 + 4 + 1 + 4;

impl Step {
    fn encode(&self) -> [u8; STEP_LEN] {
        let mut record = [0; STEP_LEN];
        record[..32].copy_from_slice(&self.id.0);
        put(&mut record, 32, self.component);
        put(&mut record, 36, self.group);
        record[40..48].copy_from_slice(&self.length.to_be_bytes());
        put(&mut record, 48, self.reached.first);
        put(&mut record, 52, self.reached.last);
        record[56] = self.reached.is_selected.into();
        put(&mut record, 57, self.reached.times);
        record
    }

    fn decode(record: &[u8; STEP_LEN]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(&record[..32]);
        Step {
            id: ChunkId(id),
            component: take(record, 32),
            group: take(record, 36),
            length: u64::from(take(record, 40)) << 32 | u64::from(take(record, 44)),
            reached: Reached {
                first: take(record, 48),
                last: take(record, 52),
                is_selected: record[56] != 0,
                times: take(record, 57),
            },
        }
    }

    fn is_same_but_for_label(&self, other: &Step) -> bool {
        (self.id, self.component, self.group, self.length)
            == (other.id, other.component, other.group, other.length)
    }
}

/// Returns the next step of a sorted level, joined with all that are the same.
fn next_step(level: &mut Sorted<STEP_LEN>) -> Result<Option<Step>> {
    let Some(record) = level.next()? else { return Ok(None) };
    let mut step = Step::decode(&record);
    while let Some(next) =
        level.peek()?.map(Step::decode).filter(|n| n.is_same_but_for_label(&step))
    {
        step.reached.join(&next.reached);
        level.next()?;
    }
    Ok(Some(step))
}

/// What was read last: steps of several groups to one object follow each other.
struct Last<T> {
    id: Option<(ChunkId, u64)>,
    read: Option<T>,
    is_there: bool,
}

impl<T> Last<T> {
    fn none() -> Self {
        Last { id: None, read: None, is_there: false }
    }
}

impl Walk<'_> {
    /// Returns every reference from these snapshots to chunks of both kinds, in rising order.
    ///
    /// What cannot be read is a finding, and a chunk that cannot be had is not referred to. Fails
    /// when temporary files cannot be written.
    pub fn references(
        &mut self,
        roots: &[Root<'_>],
        visitor: &mut dyn Visitor,
    ) -> Result<Sorted<REFERENCE_LEN>> {
        let mut found = Sorter::distinct(self.spill);
        let lists = self.lists_of(roots, visitor, &mut found)?;
        let chunks = self.read_lists(lists, roots, visitor, &mut found)?;
        let mut spans = self.read_manifests(chunks, roots, visitor, &mut found)?;
        // Recipes come below the deepest list.
        for _ in 0..=LIST_DEPTH_MAX {
            spans = self.read_spans(spans, roots, &mut found)?;
        }
        while let Some(step) = next_step(&mut spans)? {
            let detail = format!("it nests too deep; {}", needed_by(roots, &step.reached));
            self.find(FindingKind::DamagedManifest, format!("span list {}", step.id), detail);
        }
        found.finish()
    }

    fn find(&mut self, kind: FindingKind, object: String, detail: String) {
        let finding = Finding::new(kind, object, detail);
        self.observer.event(Event::Finding(&finding));
        self.findings.push(finding);
    }

    fn lists_of(
        &self,
        roots: &[Root<'_>],
        visitor: &mut dyn Visitor,
        found: &mut Sorter<REFERENCE_LEN>,
    ) -> Result<Sorted<STEP_LEN>> {
        let mut lists = Sorter::new(self.spill);
        for (number, root) in roots.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let is_selected = root.is_selected;
            let reached =
                Reached { first: number, last: number, is_selected, times: is_selected.into() };
            for component in &root.named.snapshot.components {
                let component_number = visitor.component(root.named, component);
                for id in &component.manifest {
                    let (id, component) = (*id, component_number);
                    lists.push(Step { id, component, group: 0, length: 0, reached }.encode())?;
                }
            }
            // Names lead nowhere: they are referred to and not read.
            for id in &root.named.snapshot.names {
                let (prefix, kind) = (prefix_of(*id), ChunkKind::Meta);
                let group = visitor.names_group(root.named);
                let is_recipe = false;
                found.push(Reference { prefix, kind, is_recipe, group, reached }.encode())?;
            }
        }
        lists.finish()
    }

    /// Reads what a step leads to unless it was the last one read. A failure is found once.
    fn read<'l, T>(
        &mut self,
        last: &'l mut Last<T>,
        step: &Step,
        roots: &[Root<'_>],
        noun: &str,
        read: impl FnOnce() -> Result<T>,
    ) -> Result<&'l Last<T>> {
        self.cancel.check()?;
        if last.id != Some((step.id, step.length)) {
            last.id = Some((step.id, step.length));
            let outcome = read();
            self.observer.event(Event::Done { entries: 1, bytes: 0 });
            let is_missing = matches!(&outcome, Err(e) if e.kind() == ErrorKind::NotFound);
            last.is_there = !is_missing || self.refers_to_missing;
            last.read = match outcome {
                Ok(read) => Some(read),
                Err(error) => {
                    let kind = damage_kind(&error)?;
                    let detail = format!("{error}; {}", needed_by(roots, &step.reached));
                    self.find(kind, format!("{noun} {}", step.id), detail);
                    None
                }
            };
        }
        Ok(last)
    }

    fn read_lists(
        &mut self,
        mut lists: Sorted<STEP_LEN>,
        roots: &[Root<'_>],
        visitor: &mut dyn Visitor,
        found: &mut Sorter<REFERENCE_LEN>,
    ) -> Result<Sorted<STEP_LEN>> {
        let mut meta = MetaReader::new(self.repository);
        let mut chunks = Sorter::new(self.spill);
        let mut last = Last::none();
        while let Some(step) = next_step(&mut lists)? {
            let group = visitor.manifest_group(step.component);
            let read = self
                .read(&mut last, &step, roots, "manifest list", || meta.manifest_list(step.id))?;
            refer_to_meta(found, &step, group, false, read.is_there)?;
            for chunk in read.read.iter().flatten() {
                chunks.push(Step { id: chunk.id, ..step }.encode())?;
            }
        }
        chunks.finish()
    }

    fn read_manifests(
        &mut self,
        mut chunks: Sorted<STEP_LEN>,
        roots: &[Root<'_>],
        visitor: &mut dyn Visitor,
        found: &mut Sorter<REFERENCE_LEN>,
    ) -> Result<Sorted<STEP_LEN>> {
        let mut meta = MetaReader::new(self.repository);
        let mut spans = Sorter::distinct(self.spill);
        let mut last = Last::none();
        while let Some(step) = next_step(&mut chunks)? {
            let group = visitor.manifest_group(step.component);
            let read = self
                .read(&mut last, &step, roots, "manifest chunk", || meta.manifest_chunk(step.id))?;
            refer_to_meta(found, &step, group, false, read.is_there)?;
            for entry in read.read.iter().flatten() {
                let group = visitor.entry(step.component, entry, &step.reached);
                refer(found, &mut spans, &Step { group, ..step }, entry.extents())?;
            }
        }
        spans.finish()
    }

    /// Reads one level of span lists and returns those they name.
    fn read_spans(
        &mut self,
        mut spans: Sorted<STEP_LEN>,
        roots: &[Root<'_>],
        found: &mut Sorter<REFERENCE_LEN>,
    ) -> Result<Sorted<STEP_LEN>> {
        let mut meta = MetaReader::new(self.repository);
        let mut deeper = Sorter::distinct(self.spill);
        let mut last = Last::none();
        while let Some(step) = next_step(&mut spans)? {
            let is_recipe = step.component == RECIPE;
            let noun = if is_recipe { "recipe" } else { "span list" };
            let read = self.read(&mut last, &step, roots, noun, || match is_recipe {
                true => {
                    let length = u32::try_from(step.length).unwrap_or(u32::MAX);
                    Ok(meta.recipe(step.id, length)?.extents().copied().collect())
                }
                false => meta.list(step.id, step.length),
            })?;
            refer_to_meta(found, &step, step.group, is_recipe, read.is_there)?;
            if let Some(extents) = &read.read {
                refer(found, &mut deeper, &step, extents)?;
            }
        }
        deeper.finish()
    }
}

fn refer_to_meta(
    found: &mut Sorter<REFERENCE_LEN>,
    step: &Step,
    group: u32,
    is_recipe: bool,
    is_there: bool,
) -> Result<()> {
    if !is_there {
        return Ok(());
    }
    let (prefix, kind, reached) = (prefix_of(step.id), ChunkKind::Meta, step.reached);
    found.push(Reference { prefix, kind, is_recipe, group, reached }.encode())
}

fn refer(
    found: &mut Sorter<REFERENCE_LEN>,
    spans: &mut Sorter<STEP_LEN>,
    step: &Step,
    extents: &[Extent],
) -> Result<()> {
    for extent in extents {
        match *extent {
            Extent::Chunk { id, .. } | Extent::Slice { id, .. } => {
                let (prefix, kind, is_recipe) = (prefix_of(id), ChunkKind::Data, false);
                let (group, reached) = (step.group, step.reached);
                found.push(Reference { prefix, kind, is_recipe, group, reached }.encode())?;
            }
            Extent::List { id, length } => {
                // Content is told apart by group alone, and not counted.
                let reached = Reached { times: 0, ..step.reached };
                spans.push(Step { id, component: 0, length, reached, ..*step }.encode())?;
            }
            Extent::Recipe { id, length } => {
                let reached = Reached { times: 0, ..step.reached };
                let (component, length) = (RECIPE, length.into());
                spans.push(Step { id, component, length, reached, ..*step }.encode())?;
            }
            Extent::Zero { .. } | Extent::Hole { .. } | Extent::Lost { .. } => {}
        }
    }
    Ok(())
}

/// Says which snapshots need something that cannot be had.
pub(crate) fn needed_by(roots: &[Root<'_>], reached: &Reached) -> String {
    let name = |number: u32| {
        let root = usize::try_from(number).ok().and_then(|number| roots.get(number));
        root.map_or_else(|| number.to_string(), |root| root.named.id.short())
    };
    match reached.is_exclusive() {
        true => format!("snapshot {} needs it", name(reached.first)),
        false => {
            format!("snapshots from {} to {} need it", name(reached.first), name(reached.last))
        }
    }
}

/// Returns what kind of finding an error of reading stored objects is; passes others on.
pub(crate) fn damage_kind(error: &Error) -> Result<FindingKind> {
    match error.kind() {
        ErrorKind::NotFound => Ok(FindingKind::MissingChunk),
        ErrorKind::Corrupt => Ok(FindingKind::DamagedManifest),
        _ => Err(error.repeat()),
    }
}
