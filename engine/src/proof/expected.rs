//! The segment files that an extent map asks for.

use std::ops::Range;

use crate::columnstore::SegmentPath;
use crate::columnstore::brm::ExtentMap;

/// What the proof needs of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub oid: u32,
    pub partition: u32,
    pub segment: u16,
    pub db_root: u16,
    pub block_offset: u32,
    pub hwm: u32,
    pub lbid: u64,
    pub width: u16,
    pub status: i16,
    /// Whether it is settled: its file was met, or why it is not there is known.
    pub is_settled: bool,
}

/// Extents in the order of their files; those of a file in its own order.
#[derive(Debug)]
pub(super) struct Expected {
    pub extents: Vec<Wanted>,
}

impl Wanted {
    fn key(&self) -> (u32, u32, u32, u32) {
        (self.oid, self.partition, self.segment.into(), self.db_root.into())
    }

    /// Whether two are of the same file.
    pub fn shares_file(&self, other: &Wanted) -> bool {
        self.key() == other.key()
    }

    /// Returns which file it is in.
    pub fn file(&self) -> SegmentPath {
        let Wanted { oid, partition, segment, .. } = *self;
        SegmentPath { oid, partition, segment: segment.into() }
    }
}

impl Expected {
    /// Takes the extents of a map.
    pub fn new(map: ExtentMap) -> Self {
        let wanted = map.extents.into_iter().map(|extent| Wanted {
            oid: extent.oid,
            partition: extent.partition,
            segment: extent.segment,
            db_root: extent.db_root,
            block_offset: extent.block_offset,
            hwm: extent.hwm,
            lbid: extent.lbid,
            width: extent.width,
            status: extent.status,
            is_settled: false,
        });
        let mut extents: Vec<Wanted> = wanted.collect();
        extents.sort_unstable_by_key(|extent| (extent.key(), extent.block_offset, extent.lbid));
        Expected { extents }
    }

    /// Returns the extents of a file on a DB Root; none if no extent names it.
    pub fn file(&self, path: &SegmentPath, db_root: u32) -> Range<usize> {
        let key = (path.oid, path.partition, path.segment, db_root);
        let start = self.extents.partition_point(|extent| extent.key() < key);
        let end = self.extents.partition_point(|extent| extent.key() <= key);
        start..end
    }

    /// Returns the extents that have this object id, partition and segment, on any DB Root.
    pub fn on_any_db_root(&self, path: &SegmentPath) -> Range<usize> {
        let key = (path.oid, path.partition, path.segment);
        let of = |extent: &Wanted| (extent.oid, extent.partition, u32::from(extent.segment));
        let start = self.extents.partition_point(|extent| of(extent) < key);
        let end = self.extents.partition_point(|extent| of(extent) <= key);
        start..end
    }

    /// Whether an object has extents, and whether one of its partitions has.
    pub fn has(&self, path: &SegmentPath) -> (bool, bool) {
        let after = |key: (u32, u32)| {
            self.extents.partition_point(|extent| (extent.oid, extent.partition) < key)
        };
        let at = |index: usize| self.extents.get(index).copied();
        let object = at(after((path.oid, 0))).is_some_and(|extent| extent.oid == path.oid);
        let partition = at(after((path.oid, path.partition)))
            .is_some_and(|extent| (extent.oid, extent.partition) == (path.oid, path.partition));
        (object, partition)
    }

    /// Settles the extents of a range.
    pub fn settle(&mut self, range: Range<usize>) {
        self.extents[range].iter_mut().for_each(|extent| extent.is_settled = true);
    }
}
