//! Segment files, as the manifests name them, against the extents that ask for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::expected::{Expected, Wanted};
use super::rules::Rule;
use super::{DbRoot, Prover, repeated};
use crate::columnstore::brm::OidBitmap;
use crate::columnstore::segment::{BLOCK_BYTES, SLOT_BLOCKS, Segment, VERSION_MAX};
use crate::columnstore::{ObjectClass, SegmentPath};
use crate::error::Result;
use crate::finding::{Finding, FindingKind};
use crate::format::manifest::{Entry, EntryFinding, Node};
use crate::format::segment::{CompressedFacts, SegmentFacts};
use crate::format::text::decode_path;
use crate::source::columnstore::is_interrupted_write;

/// The header version that knows width and LBIDs, and is known itself.
const VERSION_WITH_LBIDS: u64 = VERSION_MAX;

/// How deep below a DB Root segment files are.
const SEGMENT_DEPTH: usize = 5;

/// How many object ids a finding names; the rest is counted.
const NAMED_MAX: usize = 5;

/// A segment file that no extent of its DB Root asks for, and one of another does.
struct Stray {
    path: SegmentPath,
    db_root: u32,
}

/// What is known of the DB Roots after their manifests were read.
#[derive(Default)]
struct Walked {
    strays: Vec<Stray>,
    /// Segment files by DB Root.
    held: BTreeMap<u32, u64>,
    /// DB Roots whose manifest cannot be read to its end.
    unread: BTreeSet<u32>,
    /// Headers that know neither width nor LBIDs.
    old_headers: u64,
    /// Headers of versions that are not known.
    new_headers: u64,
    /// Files stored by a version that verified no slots.
    unverified: u64,
}

impl Prover<'_> {
    /// Goes through all DB Roots, and then looks for what was not met.
    pub(super) fn segments(
        &mut self,
        mut expected: Option<Expected>,
        bitmap: Option<&OidBitmap>,
    ) -> Result<()> {
        let mut walked = Walked::default();
        for number in 0..self.roots.len() {
            let DbRoot { number, component } = self.roots[number];
            let mut manifest = self.manifest(component);
            loop {
                self.cancel.check()?;
                match manifest.next_entry() {
                    Ok(None) => break,
                    Ok(Some(entry)) => {
                        let root = DbRoot { number, component };
                        self.entry(&root, &entry, expected.as_mut(), bitmap, &mut walked)?;
                    }
                    Err(error) => {
                        self.book.lacks(&format!("the manifest of {}", component.name), &error)?;
                        walked.unread.insert(number);
                        break;
                    }
                }
            }
        }
        if walked.old_headers > 0 {
            self.book.unchecked(format!(
                "{}: {} headers are of versions that know neither width nor LBIDs",
                Rule::HeaderAgrees.name(),
                walked.old_headers
            ));
        }
        if walked.new_headers > 0 {
            self.book.unchecked(format!(
                "{}: {} headers are of versions above {VERSION_MAX}, of which only the slots are known",
                Rule::HeaderAgrees.name(),
                walked.new_headers
            ));
        }
        if walked.unverified > 0 {
            self.book.unchecked(format!(
                "{}: {} segment files were stored by a version that verified no slots; a backup with \
                 --force reads them again",
                Rule::SlotsHold.name(),
                walked.unverified
            ));
        }
        let mut everything = expected.unwrap_or_else(|| Expected { extents: Vec::new() });
        self.strays(&mut everything, &walked, bitmap);
        self.missing_roots(&mut everything, &walked);
        self.missing_segments(&everything, &walked);
        Ok(())
    }

    fn entry(
        &mut self,
        root: &DbRoot<'_>,
        entry: &Entry,
        expected: Option<&mut Expected>,
        bitmap: Option<&OidBitmap>,
        walked: &mut Walked,
    ) -> Result<()> {
        self.leftover(root, entry);
        let Some(path) = segment_path(entry) else { return Ok(()) };
        self.segment_files += 1;
        *walked.held.entry(root.number).or_default() += 1;
        let is_file = matches!(entry.node, Node::File { .. });
        walked.unverified += u64::from(is_file && entry.segment.is_none());
        let is_whole = self.content_holds(root, entry);
        let Some(expected) = expected else { return Ok(()) };
        let range = expected.file(&path, root.number);
        if range.is_empty() {
            match expected.on_any_db_root(&path).is_empty() {
                true => self.without_extent(root, &path, expected, bitmap),
                false => walked.strays.push(Stray { path, db_root: root.number }),
            }
            return Ok(());
        }
        self.book.holds(Rule::SegmentHasExtent, 1);
        expected.settle(range.clone());
        let extents = &expected.extents[range];
        let count = extents.len() as u64;
        if !is_file && is_whole {
            let detail = format!("a regular file expected, found {}", entry.node.noun());
            self.fail(Rule::ExtentHasSegment, FindingKind::MissingSegment, root, entry, detail);
            return Ok(());
        }
        self.book.holds(Rule::ExtentHasSegment, count);
        if is_whole && let Some(facts) = self.facts(root, entry)? {
            self.compare(root, entry, path.oid, extents, &facts, walked);
        }
        Ok(())
    }

    fn fail(
        &mut self,
        rule: Rule,
        kind: FindingKind,
        root: &DbRoot<'_>,
        entry: &Entry,
        detail: String,
    ) {
        let object = root.component.recorded(&entry.path);
        self.book.fails(rule, 1, Finding::new(kind, object, detail));
    }

    /// What only an interrupted write leaves behind; a backup has found it already.
    fn leftover(&mut self, root: &DbRoot<'_>, entry: &Entry) {
        let found = entry.findings.iter().find(|finding| finding.code == EntryFinding::INTERRUPTED);
        match (found, is_interrupted_write(&root.component.name, &entry.path)) {
            (Some(finding), _) => {
                let finding = repeated(root.component, entry, finding);
                self.book.repeats(Rule::NoRollbackFile, 1, finding);
            }
            (None, Some(why)) => {
                let kind = FindingKind::InterruptedWrite;
                self.fail(Rule::NoRollbackFile, kind, root, entry, why.to_owned());
            }
            (None, None) => self.book.holds(Rule::NoRollbackFile, 1),
        }
    }

    /// Repeats what was found when a segment file was read; returns whether nothing was.
    fn content_holds(&mut self, root: &DbRoot<'_>, entry: &Entry) -> bool {
        let unread = self.repeated_unreadable(root.component, entry);
        match unread.clone() {
            Some(finding) => self.book.repeats(Rule::SegmentReadWhole, 1, finding),
            None => self.book.holds(Rule::SegmentReadWhole, 1),
        }
        let damaged = entry.findings.iter().filter(|finding| finding.is_damage());
        let mut times = 1;
        for finding in damaged {
            self.book.repeats(Rule::SlotsHold, times, repeated(root.component, entry, finding));
            times = 0;
        }
        if times == 1 {
            self.book.holds(Rule::SlotsHold, 1);
        }
        unread.is_none()
            && !entry.findings.iter().any(|finding| finding.code == EntryFinding::DAMAGED_HEADER)
    }

    /// Returns what the header of a segment file says; `None` when it does not hold.
    fn facts(&mut self, root: &DbRoot<'_>, entry: &Entry) -> Result<Option<SegmentFacts>> {
        match &entry.segment {
            Some(SegmentFacts::Damaged) => Ok(None),
            Some(facts) => Ok(Some(facts.clone())),
            None => self.facts_of_content(root, entry),
        }
    }

    /// Reads the header itself: an older backup kept nothing of it.
    fn facts_of_content(
        &mut self,
        root: &DbRoot<'_>,
        entry: &Entry,
    ) -> Result<Option<SegmentFacts>> {
        let mut read = |length| self.content.read(entry.extents(), 0, length);
        let segment =
            read(BLOCK_BYTES).and_then(|first| Segment::read(&first, entry.size(), &mut read));
        let segment = match segment {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(Some(SegmentFacts::Uncompressed)),
            Err(error) => {
                self.book.lacks(&root.component.recorded(&entry.path), &error)?;
                return Ok(None);
            }
        };
        for fault in &segment.faults {
            let kind = FindingKind::DamagedHeader;
            self.fail(Rule::SlotsHold, kind, root, entry, fault.told("slot"));
        }
        let facts = segment.compressed_facts().filter(|_| segment.faults.is_empty());
        Ok(facts.map(SegmentFacts::Compressed))
    }

    /// Compares a segment file with its extents.
    fn compare(
        &mut self,
        root: &DbRoot<'_>,
        entry: &Entry,
        oid: u32,
        extents: &[Wanted],
        facts: &SegmentFacts,
        walked: &mut Walked,
    ) {
        let compressed = match facts {
            SegmentFacts::Compressed(facts) => Some(facts),
            _ => None,
        };
        let packed = self.packed_column(oid);
        match (&packed, compressed) {
            (Some(column), None) => {
                let detail = format!(
                    "a header expected, as the system catalog says that {column} is compressed, found \
                     none: what the file held was overwritten"
                );
                let kind = FindingKind::MissingHeader;
                self.fail(Rule::CompressedHasHeader, kind, root, entry, detail);
                // Nothing tells how long it was.
                return;
            }
            (Some(_), Some(_)) => self.book.holds(Rule::CompressedHasHeader, 1),
            (None, _) => {}
        }
        let short = match compressed {
            Some(facts) => short_of(extents, facts),
            None => short_uncompressed(extents, entry.size()),
        };
        match short {
            Some(detail) => {
                let kind = FindingKind::ShortSegment;
                self.fail(Rule::SegmentLongEnough, kind, root, entry, detail);
            }
            None => self.book.holds(Rule::SegmentLongEnough, 1),
        }
        let Some(facts) = compressed else { return };
        if facts.version != VERSION_WITH_LBIDS {
            match facts.version > VERSION_MAX {
                true => walked.new_headers += 1,
                false => walked.old_headers += 1,
            }
            return;
        }
        match disagreement(extents, facts) {
            Some(detail) => {
                let kind = FindingKind::HeaderDisagrees;
                self.fail(Rule::HeaderAgrees, kind, root, entry, detail);
            }
            None => self.book.holds(Rule::HeaderAgrees, 1),
        }
    }

    /// Returns the name of the column that an object belongs to, by itself or as its dictionary, when the
    /// catalog says that its files are compressed.
    fn packed_column(&self, oid: u32) -> Option<String> {
        let (table, column) = self.names.as_ref()?.column(oid)?;
        (column.compression > 0).then(|| format!("{}.{}", table.full_name(), column.name))
    }

    /// Returns the name of the column that an object belongs to.
    fn column_of(&self, oid: u32) -> Option<String> {
        let (table, column) = self.names.as_ref()?.column(oid)?;
        let noun = if column.dictionary == Some(oid) { ", dictionary" } else { "" };
        Some(format!("{}.{}{noun}", table.full_name(), column.name))
    }

    /// Finds a segment file that no extent names, and says what it may be.
    fn without_extent(
        &mut self,
        root: &DbRoot<'_>,
        path: &SegmentPath,
        expected: &Expected,
        bitmap: Option<&OidBitmap>,
    ) {
        let oid = path.oid;
        let may_be = match expected.has(path) {
            _ if ObjectClass::of(oid) == ObjectClass::VersionBuffer => {
                "a file of the version buffer".to_owned()
            }
            (false, _) if bitmap.is_some_and(|bitmap| !bitmap.is_taken(oid)) => {
                format!("a file of a dropped table, as OID {oid} is free")
            }
            (false, _) => format!(
                "a file of a table being made or dropped, as OID {oid} is taken and has no extents"
            ),
            (true, false) => format!(
                "of a dropped partition, or left over from an interrupted load, as OID {oid} has no \
                 partition {}",
                path.partition
            ),
            (true, true) => "left over from an interrupted load".to_owned(),
        };
        let detail =
            format!("an extent expected for it, the extent map has none; it may be {may_be}");
        let object = root.component.recorded(path.below_db_root().as_bytes());
        let finding = Finding::new(FindingKind::SegmentWithoutExtent, object, detail);
        self.book.fails(Rule::SegmentHasExtent, 1, finding);
    }

    /// Files that stand on another DB Root than their extents say, each found once.
    fn strays(&mut self, expected: &mut Expected, walked: &Walked, bitmap: Option<&OidBitmap>) {
        for stray in &walked.strays {
            let mut candidates = expected.on_any_db_root(&stray.path);
            let Some(at) = candidates.find(|at| !expected.extents[*at].is_settled) else {
                let root = self.roots.iter().find(|root| root.number == stray.db_root);
                let Some(&DbRoot { number, component }) = root else { continue };
                self.without_extent(&DbRoot { number, component }, &stray.path, expected, bitmap);
                continue;
            };
            let right = u32::from(expected.extents[at].db_root);
            let range = expected.file(&stray.path, right);
            let detail = format!(
                "DB Root {right} expected, as its {} say, found on DB Root {}",
                extents(range.len()),
                stray.db_root
            );
            let object = self.path_on(stray.db_root, &stray.path.below_db_root());
            let finding = Finding::new(FindingKind::MisplacedSegment, object, detail);
            self.book.fails(Rule::ExtentHasSegment, range.len() as u64, finding);
            expected.settle(range);
        }
    }

    /// DB Roots that are configured or have extents, and are not there or hold nothing: one finding
    /// each, in place of one for every extent.
    fn missing_roots(&mut self, expected: &mut Expected, walked: &Walked) {
        let facts = self.snapshot.facts.iter();
        let configured: BTreeMap<u32, String> = facts
            .filter_map(|(name, path)| {
                Some((name.strip_prefix("dbroot_")?.parse().ok()?, path.clone()))
            })
            .collect();
        let mut wanted: BTreeMap<u32, (u64, u64)> =
            configured.keys().map(|number| (*number, (0, 0))).collect();
        let files = expected.extents.chunk_by(Wanted::shares_file);
        for file in files.filter(|file| !file[0].is_settled) {
            let (files, extents) = wanted.entry(file[0].db_root.into()).or_default();
            *files += 1;
            *extents += file.len() as u64;
        }
        // Those that have all they should are counted, too.
        for extent in &expected.extents {
            wanted.entry(extent.db_root.into()).or_default();
        }
        for (number, (files, count)) in wanted {
            let component = self.roots.iter().find(|root| root.number == number);
            let detail = match (component, configured.get(&number)) {
                (None, Some(path)) => format!(
                    "DB Root {number}, {path} in Columnstore.xml, expected in the snapshot, which has \
                     no such component; {} on it",
                    are(count)
                ),
                (None, None) if count > 0 => format!(
                    "DB Root {number} expected in the snapshot, which has no such component, nor has \
                     Columnstore.xml; {} on it",
                    are(count)
                ),
                (Some(root), _)
                    if files > 1
                        && !walked.held.contains_key(&number)
                        && !walked.unread.contains(&number) =>
                {
                    let why = self.excluded(&root.component.path);
                    format!(
                        "the segment files of DB Root {number} expected, found none; {} on it{why}",
                        are(count)
                    )
                }
                (Some(_), _) => {
                    self.book.holds(Rule::DbRootsComplete, 1);
                    continue;
                }
                // Extents that name it have their file elsewhere, and that was found.
                (None, None) => continue,
            };
            let finding =
                Finding::new(FindingKind::MissingDbRoot, format!("dbroot/{number}"), detail);
            // A DB Root that is configured is one whatever the journal has; extents may be gone with it.
            match component.is_none() && configured.contains_key(&number) {
                true => self.book.fails_for_good(Rule::DbRootsComplete, 1, finding),
                false => self.book.fails(Rule::DbRootsComplete, 1, finding),
            }
            let on_it = expected.extents.iter_mut().filter(|e| u32::from(e.db_root) == number);
            on_it.for_each(|extent| extent.is_settled = true);
        }
    }

    fn missing_segments(&mut self, expected: &Expected, walked: &Walked) {
        let files = expected.extents.chunk_by(Wanted::shares_file);
        for file in files.filter(|file| !file[0].is_settled) {
            let first = &file[0];
            let db_root = u32::from(first.db_root);
            if walked.unread.contains(&db_root) {
                continue;
            }
            let object = self.path_on(db_root, &first.file().below_db_root());
            let status = match first.status {
                1 => ", which is being made",
                2 => ", which is out of service and may be put back into it",
                _ => "",
            };
            let name =
                self.column_of(first.oid).map_or_else(String::new, |name| format!(" ({name})"));
            let detail = format!(
                "a segment file expected for {} of OID {}{name} from LBID {} on{status}, it is not there{}",
                extents(file.len()),
                first.oid,
                first.lbid,
                self.excluded(&object)
            );
            let finding = Finding::new(FindingKind::MissingSegment, object, detail);
            self.book.fails(Rule::ExtentHasSegment, file.len() as u64, finding);
        }
    }

    /// Compares the object ids of the extents with the bitmap; one finding for all of them.
    pub(super) fn object_ids(&mut self, expected: &Expected, bitmap: Option<&OidBitmap>) {
        let Some(bitmap) = bitmap else { return };
        let (mut checked, mut free) = (0, Vec::new());
        for object in expected.extents.chunk_by(|one, next| one.oid == next.oid) {
            checked += 1;
            if !bitmap.is_taken(object[0].oid) {
                free.push(object[0].oid);
            }
        }
        self.book.holds(Rule::OidTaken, checked - free.len() as u64);
        if free.is_empty() {
            return;
        }
        let named = free.iter().take(NAMED_MAX).map(u32::to_string).collect::<Vec<_>>().join(", ");
        let more = match free.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let detail = format!(
            "object ids with extents expected to be taken in the bitmap, found free: {named}{more}"
        );
        let finding = Finding::new(FindingKind::OidNotTaken, "oidbitmap", detail);
        self.book.fails(Rule::OidTaken, free.len() as u64, finding);
    }

    /// Settles the extents whose files were left to the system of record on purpose.
    pub(super) fn leave_to_the_record(&mut self, expected: &mut Expected) {
        let Some(record) = &self.snapshot.record else { return };
        let mut directories: HashMap<(u32, String), &str> = HashMap::new();
        for left_out in &record.left_out {
            let root = self.roots.iter().find(|root| root.component.name == left_out.component);
            let Some(root) = root else { continue };
            let base = decode_path(&root.component.path);
            let path = decode_path(&left_out.path);
            let Some(below) = path.strip_prefix(&base).ok().and_then(|path| path.to_str()) else {
                continue;
            };
            directories.insert((root.number, below.to_owned()), &left_out.component);
        }
        let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for file in expected.extents.chunk_by_mut(|one, next| one.shares_file(next)) {
            let path = file[0].file().below_db_root();
            let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
            let db_root = u32::from(file[0].db_root);
            let left = above.find_map(|above| directories.get(&(db_root, above.to_owned())));
            if let Some(label) = left {
                let (files, extents) = counts.entry(label).or_default();
                *files += 1;
                *extents += file.len() as u64;
                file.iter_mut().for_each(|extent| extent.is_settled = true);
            }
        }
        for (label, (files, count)) in counts {
            self.book.left_out(format!(
                "{label}: {} in {files} segment files, left to the system of record",
                extents(count as usize)
            ));
        }
    }

    /// Returns the path of a file on a DB Root as the deployment names it.
    fn path_on(&self, db_root: u32, below: &str) -> String {
        match self.roots.iter().find(|root| root.number == db_root) {
            Some(root) => root.component.recorded(below.as_bytes()),
            None => format!("dbroot/{db_root}: {below}"),
        }
    }
}

/// Returns what the path of an entry says, when it is one of a segment file where these are.
fn segment_path(entry: &Entry) -> Option<SegmentPath> {
    let depth = entry.path.iter().filter(|byte| **byte == b'/').count();
    let is_file =
        matches!(entry.node, Node::File { .. } | Node::Unreadable { .. } | Node::Symlink { .. });
    if depth != SEGMENT_DEPTH || !is_file { None } else { SegmentPath::parse(&entry.path) }
}

/// The last block in use, from the beginning of the file: the last extent says it, the others zero.
fn high_water_mark(extents: &[Wanted]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.hwm)).max().unwrap_or(0)
}

/// Says how a compressed file does not reach its high-water mark.
fn short_of(extents: &[Wanted], facts: &CompressedFacts) -> Option<String> {
    let hwm = high_water_mark(extents);
    let in_slots = facts.slots.saturating_mul(SLOT_BLOCKS);
    if hwm >= in_slots {
        let slots = facts.slots;
        return Some(format!(
            "block {hwm}, the high-water mark, expected in it, found {slots} slots of {SLOT_BLOCKS} \
             blocks"
        ));
    }
    let are_blocks_known = facts.version <= VERSION_MAX;
    (are_blocks_known && hwm >= facts.blocks).then(|| {
        format!(
            "block {hwm}, the high-water mark, expected in it, its header counts {} blocks",
            facts.blocks
        )
    })
}

/// Says how an uncompressed file does not reach its high-water mark, or ends inside a block.
fn short_uncompressed(extents: &[Wanted], size: u64) -> Option<String> {
    let least = (high_water_mark(extents) + 1) * BLOCK_BYTES;
    if size < least {
        let problem = format!("at least {least} bytes expected up to its high-water mark");
        return Some(format!("{problem}, found {size}"));
    }
    (!size.is_multiple_of(BLOCK_BYTES))
        .then(|| format!("whole blocks of {BLOCK_BYTES} bytes expected, found {size} bytes"))
}

/// Says how a header and the extents of its file disagree.
fn disagreement(extents: &[Wanted], facts: &CompressedFacts) -> Option<String> {
    if let Some(extent) = extents.iter().find(|extent| u64::from(extent.width) != facts.width) {
        let (expected, found) = (extent.width, facts.width);
        return Some(format!(
            "column width {expected} expected, as in the extent map, its header says {found}"
        ));
    }
    // A place of the list that was never written, before one that was, says nothing.
    let mut said = facts.lbids.iter().enumerate().filter(|(_, lbid)| **lbid != 0);
    let mut starts = extents.iter().map(|extent| extent.lbid);
    let wrong = said.find(|(_, lbid)| !starts.any(|start| start == **lbid));
    wrong.map(|(number, lbid)| {
        let starts: Vec<u64> = extents.iter().map(|extent| extent.lbid).collect();
        format!(
            "some of LBIDs {starts:?} expected, which its extents begin with, in their order, its header \
             says {:?}: {lbid}, number {number}, is not among those left",
            facts.lbids
        )
    })
}

fn extents(count: usize) -> String {
    if count == 1 { "1 extent".to_owned() } else { format!("{count} extents") }
}

fn are(count: u64) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", extents(count as usize))
}
