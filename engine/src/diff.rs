//! Diff: what changed between two snapshots, and what the change takes.
//!
//! Manifests are read in step, in path order; chunks of entries that both have are passed over
//! unread, so that two nights are compared in the time of what changed. What is new in the
//! repository's sense, chunks that the first snapshot reaches nowhere, comes from a walk over both
//! (`reach`): all that is in memory is one chunk of entries a side and the buffers of the
//! sorters. A new chunk counts to the first changed file that has it, so that files add up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::columnstore::SegmentPath;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::format::manifest::{Entry, Node, compare_paths};
use crate::format::snapshot::{Component, Snapshot};
use crate::id::ChunkId;
use crate::index::prefix_of;
use crate::manifest::{ManifestReader, MetaReader};
use crate::progress::{Cancel, Event, Observer};
use crate::reach::{Reached, Reference, Root, Visitor, Walk, damage_kind, needed_by};
use crate::repository::Repository;
use crate::restore::Select;
use crate::snapshot::Named;
use crate::spill::{Sorted, Sorter, SpillPlace};
use crate::stats::{Amount, Chunks};

/// What to compare.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Which components and paths.
    pub select: Select,
    /// Where sorted references go that memory does not hold.
    pub spill: SpillPlace,
    /// To stop it.
    pub cancel: Cancel,
}

/// How a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot has it.
    Added,
    /// Only the first has it.
    Removed,
    /// It is another kind of thing.
    Type,
    /// A file's content, or where a link points.
    Content,
    /// Owner, mode, time or attributes; the content is the same.
    Metadata,
    /// Nothing: by size, times and inode the file is the one it was, and slots that one snapshot has
    /// as recipes the other has as packed bytes. Their content is not compared.
    Form,
}

impl Change {
    /// Returns the sign for it, as restic has them.
    pub fn sign(self) -> &'static str {
        match self {
            Change::Added => "+",
            Change::Removed => "-",
            Change::Type => "T",
            Change::Content => "M",
            Change::Metadata => "U",
            Change::Form => "F",
        }
    }
}

/// A path that changed.
#[derive(Clone, Debug)]
pub struct ChangedPath<'a> {
    /// Its component, of the second snapshot unless only the first has it.
    pub component: &'a Component,
    /// How it changed.
    pub change: Change,
    /// What it was.
    pub before: Option<&'a Entry>,
    /// What it is.
    pub after: Option<&'a Entry>,
    /// Chunks of its content that the first snapshot does not have, and no path before it.
    pub new: Amount,
}

impl ChangedPath<'_> {
    /// Returns the path relative to the component.
    pub fn path(&self) -> &[u8] {
        self.after.or(self.before).map_or(&[], |entry| &entry.path)
    }
}

/// Changes added up. Bytes are sizes of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files added.
    pub files_added: u64,
    /// Files removed.
    pub files_removed: u64,
    /// Files with other content, or that became or were something else.
    pub files_changed: u64,
    /// Paths of which only owner, mode, time or attributes changed.
    pub metadata_changed: u64,
    /// Files that did not change and of which slots are stored in another form. No other field counts
    /// them, and they are handed to nobody.
    pub stored_otherwise: u64,
    /// Sizes of all changed files in the first snapshot.
    pub bytes_before: u64,
    /// And in the second.
    pub bytes_after: u64,
    /// Content that the first snapshot does not have.
    pub new: Amount,
}

impl Tally {
    fn add(&mut self, changed: &ChangedPath<'_>) {
        if changed.change == Change::Form {
            self.stored_otherwise += 1;
            return;
        }
        let is_file = |entry: Option<&Entry>| {
            entry.is_some_and(|entry| matches!(entry.node, Node::File { .. }))
        };
        let some_file = u64::from(is_file(changed.before) || is_file(changed.after));
        match changed.change {
            Change::Added => self.files_added += some_file,
            Change::Removed => self.files_removed += some_file,
            Change::Type | Change::Content => self.files_changed += some_file,
            Change::Metadata => self.metadata_changed += 1,
            Change::Form => {}
        }
        if changed.change != Change::Metadata {
            self.bytes_before += changed.before.map_or(0, Entry::size);
            self.bytes_after += changed.after.map_or(0, Entry::size);
        }
        self.new.add(&changed.new);
    }
}

/// What one snapshot has and the other has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneSided {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Chunks.
    pub chunks: Chunks,
}

impl OneSided {
    fn count(&mut self, entry: &Entry) {
        match entry.node {
            Node::File { .. } | Node::Unreadable { .. } => self.files += 1,
            Node::Directory => self.directories += 1,
            _ => self.others += 1,
        }
    }
}

/// What changed in all.
#[derive(Clone, Debug, Default)]
pub struct DiffReport {
    /// By component, in order of names; those without changes too.
    pub components: BTreeMap<String, Tally>,
    /// By column object, of those that changed.
    pub columns: BTreeMap<u32, Tally>,
    /// Everything.
    pub total: Tally,
    /// What only the second snapshot has.
    pub added: OneSided,
    /// What only the first has.
    pub removed: OneSided,
    /// What could not be read: with any, the comparison is incomplete.
    pub findings: Findings,
}

/// Compares two snapshots and hands on every path that changed, in order of components and paths.
///
/// A part of a manifest that cannot be read is a finding, and its paths are not compared. Fails
/// when temporary files cannot be written, or when `each` does.
pub fn diff(
    repository: &Repository,
    before: &Named,
    after: &Named,
    options: &DiffOptions,
    observer: &dyn Observer,
    each: &mut dyn FnMut(&ChangedPath<'_>) -> Result<()>,
) -> Result<DiffReport> {
    let mut report = DiffReport::default();
    let pairs = Pairs { repository, options, before: &before.snapshot, after: &after.snapshot };
    observer.event(Event::Stage("changes"));
    let mut content = Sorter::new(&options.spill);
    let mut meta = MetaReader::new(repository);
    let mut number: u64 = 0;
    let mut findings = Findings::default();
    pairs.changes(&mut findings, &mut |_, change, before, after| {
        if let (Change::Added | Change::Type | Change::Content, Some(after)) = (change, after) {
            let before = before.map_or(&[][..], Entry::extents);
            // What cannot be read is found by the walk below.
            let _ = other_chunks(&mut meta, before, after.extents(), LIST_DEPTH_MAX, &mut |id| {
                let mut record = [0; CONTENT_LEN];
                record[..20].copy_from_slice(&prefix_of(id));
                record[20..].copy_from_slice(&number.to_be_bytes());
                content.push(record)
            })?;
        }
        number += 1;
        Ok(())
    })?;
    observer.event(Event::Stage("chunks"));
    let walk = Walk {
        repository,
        spill: &options.spill,
        cancel: &options.cancel,
        observer,
        refers_to_missing: false,
        findings: Findings::default(),
    };
    let mut new = pairs.new_chunks(walk, [before, after], content.finish()?, &mut report)?;
    // What the walk could not read the comparison could not either: it names all of it once.
    if report.findings.is_empty() {
        report.findings = findings;
    }
    for component in before.snapshot.components.iter().chain(&after.snapshot.components) {
        if options.select.takes_component(&component.name) {
            report.components.entry(component.name.clone()).or_default();
        }
    }
    number = 0;
    pairs.changes(&mut Findings::default(), &mut |component, change, before, after| {
        let new = take_new(&mut new, number)?;
        number += 1;
        let changed = ChangedPath { component, change, before, after, new };
        report.total.add(&changed);
        report.components.entry(component.name.clone()).or_default().add(&changed);
        if let Some(segment) = SegmentPath::parse(changed.path()) {
            report.columns.entry(segment.oid).or_default().add(&changed);
        }
        match change {
            Change::Added => after.iter().for_each(|entry| report.added.count(entry)),
            Change::Removed => before.iter().for_each(|entry| report.removed.count(entry)),
            Change::Form => return Ok(()),
            _ => {}
        }
        each(&changed)
    })?;
    Ok(report)
}

/// A chunk of a changed file: the beginning of its id and the number of the change.
const CONTENT_LEN: usize = 20 + 8;
/// A new chunk: the number of the change it counts to, raw and stored length.
const NEW_LEN: usize = 8 + 4 + 4;

/// Returns the new chunks of one change, which come in order.
fn take_new(new: &mut Sorted<NEW_LEN>, number: u64) -> Result<Amount> {
    let mut amount = Amount::default();
    while let Some(record) = new.peek()?.copied().filter(|r| r[..8] == number.to_be_bytes()) {
        new.next()?;
        let take = |at: usize| {
            u32::from_be_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
        };
        amount.add(&chunk_amount(take(8), take(12)));
    }
    Ok(amount)
}

fn chunk_amount(raw_length: u32, stored_length: u32) -> Amount {
    Amount {
        chunks: 1,
        compressed: u64::from(stored_length <= raw_length),
        raw_bytes: raw_length.into(),
        stored_bytes: stored_length.into(),
    }
}

/// Calls `each` for every chunk of a file that its former content does not have at the same place.
/// Lists that are the same are passed over unread. What cannot be read is left out and returned.
fn other_chunks(
    meta: &mut MetaReader<'_>,
    before: &[Extent],
    after: &[Extent],
    depth: usize,
    each: &mut dyn FnMut(ChunkId) -> Result<()>,
) -> Result<Option<Error>> {
    let mut places = HashMap::new();
    let mut offset = 0;
    for extent in before {
        places.insert(offset, *extent);
        offset += extent.length();
    }
    let mut failure = None;
    offset = 0;
    for extent in after {
        let former = places.get(&offset);
        offset += extent.length();
        if former == Some(extent) {
            continue;
        }
        match *extent {
            Extent::Chunk { id, .. } | Extent::Slice { id, .. } => each(id)?,
            Extent::List { id, length } if depth > 0 => {
                let former = match former {
                    Some(Extent::List { id, length }) => {
                        meta.list(*id, *length).unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                match meta.list(id, length) {
                    Ok(listed) => {
                        let below = other_chunks(meta, &former, &listed, depth - 1, each)?;
                        failure = failure.or(below);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            Extent::Recipe { id, length } => {
                let former: HashSet<ChunkId> = match former {
                    Some(Extent::Recipe { id, length }) => {
                        meta.recipe(*id, *length).map(|r| r.chunks().collect()).unwrap_or_default()
                    }
                    _ => HashSet::new(),
                };
                match meta.recipe(id, length) {
                    Ok(recipe) => {
                        let others = recipe.chunks().filter(|chunk| !former.contains(chunk));
                        for chunk in others {
                            each(chunk)?;
                        }
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            _ => {}
        }
    }
    Ok(failure)
}

type EachChange<'e> =
    dyn FnMut(&Component, Change, Option<&Entry>, Option<&Entry>) -> Result<()> + 'e;

/// The two snapshots.
struct Pairs<'a> {
    repository: &'a Repository,
    options: &'a DiffOptions,
    before: &'a Snapshot,
    after: &'a Snapshot,
}

/// One side of a comparison.
struct Side<'a> {
    manifest: Option<ManifestReader<'a>>,
    component: Option<&'a Component>,
    /// Something before the next path could not be read.
    has_gap: bool,
}

impl<'a> Side<'a> {
    fn of(repository: &'a Repository, snapshot: &'a Snapshot, name: &str) -> Self {
        let component = snapshot.components.iter().find(|component| component.name == name);
        let manifest = component.map(|component| ManifestReader::new(repository, component));
        Side { manifest, component, has_gap: false }
    }

    /// Does something until it succeeds or the end is reached; failures leave a gap.
    fn attempt<T>(
        &mut self,
        findings: &mut Findings,
        act: impl Fn(&mut ManifestReader<'a>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let Some(manifest) = &mut self.manifest else { return Ok(None) };
        loop {
            match act(manifest) {
                Err(error) => {
                    let kind = damage_kind(&error)?;
                    let name = self.component.map_or("", |component| &component.name);
                    let object = format!("component {name}");
                    findings.push(Finding::new(kind, object, error.to_string()));
                    self.has_gap = true;
                }
                done => return done,
            }
        }
    }

    /// Returns the path that comes next.
    fn path(&mut self, findings: &mut Findings) -> Result<Option<Vec<u8>>> {
        self.attempt(findings, |manifest| Ok(manifest.peek_path()?.map(<[u8]>::to_vec)))
    }

    /// Between two chunks of entries, returns the next one.
    fn next_chunk(&mut self, findings: &mut Findings) -> Result<Option<ChunkId>> {
        self.attempt(findings, |manifest| Ok(manifest.next_chunk()?.map(|next| next.id)))
    }

    fn skip_chunk(&mut self) {
        self.manifest.iter_mut().for_each(ManifestReader::skip_chunk);
        self.has_gap = false;
    }

    fn is_open(&self) -> bool {
        self.manifest.as_ref().is_some_and(ManifestReader::is_open)
    }

    /// Reads the chunk that comes next; one that cannot be read leaves a gap.
    fn open(&mut self, findings: &mut Findings) -> Result<()> {
        self.attempt(findings, |manifest| manifest.open_chunk().map(Some)).map(drop)
    }

    /// Takes the next entry, which has been read. There is no gap behind it.
    fn take(&mut self) -> Result<Option<Entry>> {
        self.has_gap = false;
        self.manifest.as_mut().map_or(Ok(None), ManifestReader::next_entry)
    }
}

impl Pairs<'_> {
    /// Calls `each` for every path that differs, in order.
    fn changes(&self, findings: &mut Findings, each: &mut EachChange<'_>) -> Result<()> {
        let components = self.before.components.iter().chain(&self.after.components);
        let mut names: Vec<&str> = components.map(|component| component.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.options.select.takes_component(name));
        for name in names {
            let mut before = Side::of(self.repository, self.before, name);
            let mut after = Side::of(self.repository, self.after, name);
            while self.step(&mut before, &mut after, findings, each)? {
                self.options.cancel.check()?;
            }
        }
        Ok(())
    }

    /// Compares the next path; false when there is none.
    fn step<'s>(
        &self,
        before: &mut Side<'s>,
        after: &mut Side<'s>,
        findings: &mut Findings,
        each: &mut EachChange<'_>,
    ) -> Result<bool> {
        let next = (before.next_chunk(findings)?, after.next_chunk(findings)?);
        // Paths are the same, too: the one before both was.
        if next.0.is_some() && next.0 == next.1 {
            before.skip_chunk();
            after.skip_chunk();
            return Ok(true);
        }
        let order = match (before.path(findings)?, after.path(findings)?) {
            (None, None) => return Ok(false),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => compare_paths(&one, &other),
        };
        // What cannot be read changes what comes next: all is looked at anew.
        for (side, other) in [(&mut *before, Ordering::Greater), (&mut *after, Ordering::Less)] {
            if order != other && !side.is_open() {
                side.open(findings)?;
                return Ok(true);
            }
        }
        let (is_lacking_before, is_lacking_after) = (before.has_gap, after.has_gap);
        let one = if order == Ordering::Greater { None } else { before.take()? };
        let other = if order == Ordering::Less { None } else { after.take()? };
        let change = match (&one, &other) {
            (Some(one), Some(other)) => match compare(one, other) {
                Some(Change::Content) if is_same_but_form(self.repository, one, other) => {
                    Some(Change::Form)
                }
                change => change,
            },
            // It may be in what could not be read of the other side.
            (Some(_), None) => (!is_lacking_after).then_some(Change::Removed),
            (None, Some(_)) => (!is_lacking_before).then_some(Change::Added),
            (None, None) => None,
        };
        let component = if other.is_some() { after.component } else { before.component };
        let entry = other.as_ref().or(one.as_ref());
        if let (Some(change), Some(component), Some(entry)) = (change, component, entry)
            && self.options.select.takes(component, &entry.path)
        {
            each(component, change, one.as_ref(), other.as_ref())?;
        }
        Ok(true)
    }

    /// Walks over both snapshots, counts what only one of them has, and returns what is new in the
    /// changed files, by the number of the change.
    fn new_chunks(
        &self,
        mut walk: Walk<'_>,
        named: [&Named; 2],
        mut content: Sorted<CONTENT_LEN>,
        report: &mut DiffReport,
    ) -> Result<Sorted<NEW_LEN>> {
        let roots = named.map(|named| Root { named, is_selected: true });
        let mut selected = Selected { select: &self.options.select, components: Vec::new() };
        let mut references = walk.references(&roots, &mut selected)?;
        let mut new = Sorter::new(&self.options.spill);
        while let Some(record) = references.next()? {
            self.options.cancel.check()?;
            let first = Reference::decode(&record);
            let mut reached = first.reached;
            let mut is_asked_for = first.group == IS_ASKED_FOR;
            let is_same = |next: &Reference| (next.prefix, next.kind) == (first.prefix, first.kind);
            while let Some(next) = references.peek()?.map(Reference::decode).filter(is_same) {
                references.next()?;
                reached.join(&next.reached);
                is_asked_for |= next.group == IS_ASKED_FOR;
            }
            if !reached.is_exclusive() || !is_asked_for {
                continue;
            }
            let Some(place) = self.repository.index().find_by_prefix(first.prefix, first.kind)?
            else {
                let id: String = first.prefix.iter().map(|byte| format!("{byte:02x}")).collect();
                let detail = format!("no index object names it; {}", needed_by(&roots, &reached));
                let object = format!("chunk {id}...");
                walk.findings.push(Finding::new(FindingKind::MissingChunk, object, detail));
                continue;
            };
            let mut amount = chunk_amount(place.raw_length, place.stored_length);
            if first.is_recipe {
                // As in `stats`: a recipe is as long raw as stored.
                amount = Amount { compressed: 0, raw_bytes: amount.stored_bytes, ..amount };
            }
            let side = if reached.first == 0 { &mut report.removed } else { &mut report.added };
            side.chunks.of_mut(first.kind).add(&amount);
            if reached.first == 0 || first.kind == ChunkKind::Meta {
                continue;
            }
            // The first change that has it comes first.
            while content.peek()?.is_some_and(|record| record[..20] < first.prefix[..]) {
                content.next()?;
            }
            if let Some(change) = content.peek()?.filter(|record| record[..20] == first.prefix[..])
            {
                let mut record = [0; NEW_LEN];
                record[..8].copy_from_slice(&change[20..]);
                record[8..12].copy_from_slice(&place.raw_length.to_be_bytes());
                record[12..].copy_from_slice(&place.stored_length.to_be_bytes());
                new.push(record)?;
            }
        }
        report.findings = walk.findings;
        new.finish()
    }
}

/// The group of what was asked for; everything else is in the other.
const IS_ASKED_FOR: u32 = 1;

/// Groups content by whether it was asked for; manifests are when everything is.
struct Selected<'a> {
    select: &'a Select,
    components: Vec<Component>,
}

impl Visitor for Selected<'_> {
    fn component(&mut self, _named: &Named, component: &Component) -> u32 {
        let same =
            |known: &Component| (&known.name, &known.path) == (&component.name, &component.path);
        let number = self.components.iter().position(same).unwrap_or_else(|| {
            self.components.push(Component { manifest: Vec::new(), ..component.clone() });
            self.components.len() - 1
        });
        u32::try_from(number).expect("a few components")
    }

    fn names_group(&mut self, _named: &Named) -> u32 {
        u32::from(self.select.is_everything())
    }

    fn manifest_group(&mut self, component: u32) -> u32 {
        let name = &self.components[component as usize].name;
        let is_whole = self.select.takes_component(name) && self.select.takes_whole_components();
        u32::from(is_whole)
    }

    fn entry(&mut self, component: u32, entry: &Entry, _reached: &Reached) -> u32 {
        let component = &self.components[component as usize];
        let is_taken = self.select.takes_component(&component.name)
            && self.select.takes(component, &entry.path);
        u32::from(is_taken)
    }
}

/// Returns how an entry changed; `None` when a restore would make the same of both. Inode and ctime
/// are not restored.
fn compare(before: &Entry, after: &Entry) -> Option<Change> {
    if std::mem::discriminant(&before.node) != std::mem::discriminant(&after.node) {
        return Some(Change::Type);
    }
    if before.node != after.node {
        return Some(Change::Content);
    }
    (attributes(before) != attributes(after)).then_some(Change::Metadata)
}

/// Attributes that are restored.
fn attributes(entry: &Entry) -> impl PartialEq + '_ {
    let owner = (entry.uid, entry.gid, &entry.user, &entry.group);
    (entry.mode, owner, entry.mtime, &entry.xattrs, entry.hard_link.is_some())
}

/// Whether a file is by everything else what it was, and differs in nothing but the form in which its
/// slots are stored. What cannot be read differs.
fn is_same_but_form(repository: &Repository, before: &Entry, after: &Entry) -> bool {
    let facts = |entry: &Entry| (entry.size(), entry.mtime, entry.identity);
    facts(before) == facts(after)
        && attributes(before) == attributes(after)
        && Extents::of(repository, before)
            .differ_in_form(&mut Extents::of(repository, after))
            .unwrap_or(false)
}

/// The extents of a file in order, lists opened where they have to be.
struct Extents<'a> {
    meta: MetaReader<'a>,
    /// Of the file and of the lists opened, the rest of each; the next one is last.
    open: Vec<Vec<Extent>>,
}

impl<'a> Extents<'a> {
    fn of(repository: &'a Repository, entry: &Entry) -> Self {
        let extents = entry.extents().iter().rev().copied().collect();
        Extents { meta: MetaReader::new(repository), open: vec![extents] }
    }

    fn peek(&mut self) -> Option<Extent> {
        while self.open.last().is_some_and(Vec::is_empty) {
            self.open.pop();
        }
        self.open.last()?.last().copied()
    }

    fn pop(&mut self) {
        self.open.last_mut().and_then(Vec::pop);
    }

    /// Puts the extents of a list in its place.
    fn open(&mut self, id: ChunkId, length: u64) -> Result<()> {
        self.pop();
        if self.open.len() > LIST_DEPTH_MAX {
            return Err(Error::corrupt(format!("span list {id}"), "lists nest too deep"));
        }
        let mut listed = self.meta.list(id, length)?;
        listed.reverse();
        self.open.push(listed);
        Ok(())
    }

    /// Passes over so many bytes; false when they are not of packed bytes and zeros, or end within a
    /// chunk.
    fn pass_packed(&mut self, mut length: u64) -> Result<bool> {
        while length > 0 {
            match self.peek() {
                Some(Extent::List { id, length }) => self.open(id, length)?,
                Some(Extent::Zero { length: zeros }) => {
                    let passed = zeros.min(length);
                    self.pass_zeros(zeros, passed);
                    length -= passed;
                }
                Some(chunk @ (Extent::Chunk { .. } | Extent::Slice { .. }))
                    if chunk.length() <= length =>
                {
                    self.pop();
                    length -= chunk.length();
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Passes over some of the zeros that come next.
    fn pass_zeros(&mut self, zeros: u64, passed: u64) {
        self.pop();
        if passed < zeros
            && let Some(rest) = self.open.last_mut()
        {
            rest.push(Extent::Zero { length: zeros - passed });
        }
    }

    /// Whether all is the same but slots that are a recipe on one side, of which there are some.
    fn differ_in_form(&mut self, other: &mut Self) -> Result<bool> {
        let mut differ = false;
        loop {
            match (self.peek(), other.peek()) {
                (None, None) => return Ok(differ),
                (Some(one), Some(two)) if one == two => {
                    self.pop();
                    other.pop();
                }
                (Some(Extent::List { id, length }), _) => self.open(id, length)?,
                (_, Some(Extent::List { id, length })) => other.open(id, length)?,
                (Some(Extent::Zero { length: one }), Some(Extent::Zero { length: two })) => {
                    self.pass_zeros(one, one.min(two));
                    other.pass_zeros(two, one.min(two));
                }
                (Some(Extent::Recipe { length, .. }), Some(_)) => {
                    self.pop();
                    differ = true;
                    if !other.pass_packed(length.into())? {
                        return Ok(false);
                    }
                }
                (Some(_), Some(Extent::Recipe { length, .. })) => {
                    other.pop();
                    differ = true;
                    if !self.pass_packed(length.into())? {
                        return Ok(false);
                    }
                }
                _ => return Ok(false),
            }
        }
    }
}
