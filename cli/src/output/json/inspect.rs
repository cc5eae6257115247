//! Messages of `inspect`: a line for everything that a file lists, then a summary.
//!
//! Values of columns are text: they may have 128 bits.

use std::collections::BTreeMap;

use colvault_engine::columnstore::SegmentPath;
use colvault_engine::columnstore::brm::{
    BufferBlock, BufferFile, MapExtent, OidRange, TableLock, Transactions, Version, command_name,
};
use colvault_engine::columnstore::segment::Packing;
use colvault_engine::finding::FindingKind;
use colvault_engine::format::text::encode;
use colvault_engine::id::SessionId;
use colvault_engine::inspect::{Contents, Filler, Slot, page_type_name};
use serde::Serialize;

use super::super::{ColumnName, Inspected};
use super::{Json, encoded};
use crate::output::inspect::{lock_state, slot_state, status_name};
use crate::units::utc_time;

/// A message of this command.
#[derive(Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message<'a> {
    Slot(SlotLine),
    Extent(ExtentLine),
    FreeLbids { lbid: u64, blocks: u64 },
    Version(VersionLine),
    VersionBufferFile { number: u32, size_bytes: u64, next_byte: u64 },
    VersionBufferBlock { lbid: u64, transaction: i32, file: u32, block: u32 },
    JournalCommand { command: u8, name: Option<&'static str>, count: u64 },
    OidsTaken { first: u32, last: u32 },
    OidsFree { first: u32, last: u32 },
    TableLock(LockLine<'a>),
    PageType { page_type: u16, name: Option<&'static str>, pages: u64 },
    Summary(Box<Summary<'a>>),
}

#[derive(Debug, Serialize)]
struct SlotLine {
    number: u64,
    offset: u64,
    length: u64,
    packing: Option<&'static str>,
    signature: u8,
    payload_bytes: u32,
    checksum_stored: String,
    checksum_computed: Option<String>,
    padding_bytes: Option<u64>,
    padding_is_zeros: Option<bool>,
    state: &'static str,
}

impl From<&Slot> for SlotLine {
    fn from(slot: &Slot) -> Self {
        SlotLine {
            number: slot.number,
            offset: slot.offset,
            length: slot.length,
            packing: Packing::of_signature(slot.signature).map(Packing::name),
            signature: slot.signature,
            payload_bytes: slot.payload,
            checksum_stored: format!("{:08x}", slot.stored),
            checksum_computed: slot.computed.map(|computed| format!("{computed:08x}")),
            padding_bytes: slot.padding.map(|padding| padding.bytes),
            padding_is_zeros: slot.padding.map(|padding| padding.is_zeros),
            state: slot_state(slot),
        }
    }
}

#[derive(Debug, Serialize)]
struct ExtentLine {
    number: u64,
    oid: u32,
    db_root: u16,
    partition: u32,
    segment: u16,
    width: u16,
    lbid: u64,
    blocks: u64,
    block_offset: u32,
    hwm: u32,
    status: i16,
    status_name: Option<&'static str>,
    low: String,
    high: String,
    values: Option<&'static str>,
    sequence: i32,
}

impl ExtentLine {
    fn new(number: u64, extent: &MapExtent) -> Self {
        ExtentLine {
            number,
            oid: extent.oid,
            db_root: extent.db_root,
            partition: extent.partition,
            segment: extent.segment,
            width: extent.width,
            lbid: extent.lbid,
            blocks: extent.blocks(),
            block_offset: extent.block_offset,
            hwm: extent.hwm,
            status: extent.status,
            status_name: status_name(extent.status),
            low: extent.low.to_string(),
            high: extent.high.to_string(),
            values: match extent.valid {
                0 => Some("invalid"),
                1 => Some("updating"),
                2 => Some("valid"),
                _ => None,
            },
            sequence: extent.sequence,
        }
    }
}

#[derive(Debug, Serialize)]
struct VersionLine {
    lbid: u64,
    transaction: i32,
    in_version_buffer: bool,
    locked: bool,
}

#[derive(Debug, Serialize)]
struct LockLine<'a> {
    id: u64,
    table_oid: u32,
    owner: String,
    pid: u32,
    state: &'static str,
    session: i32,
    transaction: i32,
    created: String,
    db_roots: &'a [u32],
}

impl<'a> From<&'a TableLock> for LockLine<'a> {
    fn from(lock: &'a TableLock) -> Self {
        LockLine {
            id: lock.id,
            table_oid: lock.table,
            owner: encode(&lock.owner),
            pid: lock.pid,
            state: lock_state(lock),
            session: lock.session,
            transaction: lock.transaction,
            created: utc_time(lock.created, 0),
            db_roots: &lock.db_roots,
        }
    }
}

/// `summary`: which file, what it says as a whole, and what was found.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<SessionId>,
    #[serde(skip_serializing_if = "str::is_empty")]
    component: &'a str,
    path: &'a str,
    kind: &'static str,
    size: u64,
    /// The column it belongs to, where that is known.
    #[serde(flatten)]
    column: Option<&'a ColumnName>,
    contents: Option<Whole>,
    findings: &'a BTreeMap<FindingKind, u64>,
    num_findings: u64,
}

/// What a file says as a whole.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Whole {
    Segment(Box<SegmentWhole>),
    Blocks { object: Option<Object>, blocks: u64, blocks_uniform: u64, last_varied: Option<u64> },
    ExtentMap { version: u8, extents: u64, extents_shown: u64 },
    Versions { versions: u64, in_version_buffer: u64, locked: u64 },
    VersionBuffer { files: u64, blocks: u64 },
    Journal { records: u64 },
    Current { set: &'static str },
    OidBitmap { taken: u64, version_buffer_db_roots: Vec<u16>, asked: Option<Asked> },
    Transactions { last: i32, catalog_version: i32, system_state: u32 },
    TableLocks { locks: u64 },
    Tablespace(TablespaceWhole),
}

#[derive(Debug, Serialize)]
struct Object {
    oid: u32,
    partition: u32,
    segment: u32,
}

impl From<SegmentPath> for Object {
    fn from(place: SegmentPath) -> Self {
        Object { oid: place.oid, partition: place.partition, segment: place.segment }
    }
}

#[derive(Debug, Serialize)]
struct Asked {
    oid: u32,
    is_taken: bool,
}

#[derive(Debug, Serialize)]
struct SegmentWhole {
    object: Option<Object>,
    version: u64,
    compression: u64,
    packing: Option<&'static str>,
    header_bytes: u64,
    blocks: u64,
    width: u64,
    data_type: u32,
    lbids: Vec<u64>,
    slots: u64,
    slots_shown: u64,
    tail_bytes: u64,
    tail_is_zeros: Option<bool>,
}

#[derive(Debug, Serialize)]
struct TablespaceWhole {
    page_bytes: u64,
    is_full_crc32: bool,
    pages: u64,
    unused: u64,
    hold: u64,
    damaged: u64,
    not_verifiable: u64,
}

impl Json {
    pub(super) fn show_inspected(&self, inspected: &Inspected<'_>) {
        let report = inspected.report;
        if let Some(contents) = &report.contents {
            self.items(contents);
        }
        self.line(&Message::Summary(Box::new(Summary {
            snapshot_id: inspected.named.map(|named| named.id),
            component: inspected.component,
            column: inspected.column,
            path: inspected.path,
            kind: report.kind.name(),
            size: report.size,
            contents: report.contents.as_ref().map(whole),
            findings: &inspected.findings.counts,
            num_findings: inspected.findings.total(),
        })));
    }

    fn line(&self, message: &Message<'_>) {
        // Not flushed line by line: there may be millions.
        self.out.line(&encoded(message));
    }

    fn items(&self, contents: &Contents) {
        match contents {
            Contents::Segment(segment) => {
                segment.slots.iter().for_each(|slot| self.line(&Message::Slot(slot.into())));
            }
            Contents::ExtentMap { extents, free, .. } => {
                for (number, extent) in extents {
                    self.line(&Message::Extent(ExtentLine::new(*number, extent)));
                }
                for range in free {
                    let blocks = u64::from(range.units) << 10;
                    self.line(&Message::FreeLbids { lbid: range.lbid, blocks });
                }
            }
            Contents::Versions(versions) => {
                for Version { lbid, version, in_version_buffer, locked } in versions {
                    self.line(&Message::Version(VersionLine {
                        lbid: *lbid,
                        transaction: *version,
                        in_version_buffer: *in_version_buffer,
                        locked: *locked,
                    }));
                }
            }
            Contents::VersionBuffer { files, blocks } => self.version_buffer(files, blocks),
            Contents::Journal { commands, .. } => {
                for (command, count) in commands {
                    let (command, count) = (*command, *count);
                    let name = command_name(command);
                    self.line(&Message::JournalCommand { command, name, count });
                }
            }
            Contents::OidBitmap { taken, free, asked: None, .. } => {
                for OidRange { first, last } in taken.iter().copied() {
                    self.line(&Message::OidsTaken { first, last });
                }
                for OidRange { first, last } in free.iter().copied() {
                    self.line(&Message::OidsFree { first, last });
                }
            }
            Contents::TableLocks(locks) => {
                locks.iter().for_each(|lock| self.line(&Message::TableLock(lock.into())));
            }
            Contents::Tablespace(space) => {
                for (page_type, pages) in &space.types {
                    let (page_type, pages) = (*page_type, *pages);
                    let name = page_type_name(page_type);
                    self.line(&Message::PageType { page_type, name, pages });
                }
            }
            Contents::Blocks(_)
            | Contents::Current(_)
            | Contents::OidBitmap { .. }
            | Contents::Transactions(_) => {}
        }
    }

    fn version_buffer(&self, files: &[BufferFile], blocks: &[BufferBlock]) {
        for file in files {
            self.line(&Message::VersionBufferFile {
                number: file.oid,
                size_bytes: file.size,
                next_byte: file.next,
            });
        }
        for block in blocks {
            self.line(&Message::VersionBufferBlock {
                lbid: block.lbid,
                transaction: block.version,
                file: block.oid,
                block: block.block,
            });
        }
    }
}

fn whole(contents: &Contents) -> Whole {
    match contents {
        Contents::Segment(segment) => {
            let header = &segment.header;
            Whole::Segment(Box::new(SegmentWhole {
                object: segment.place.map(Object::from),
                version: header.version,
                compression: header.compression,
                packing: Packing::of_type(header.compression).map(Packing::name),
                header_bytes: header.header_bytes,
                blocks: header.blocks,
                width: header.width,
                data_type: header.data_type,
                lbids: header.lbids.clone(),
                slots: segment.slots_total,
                slots_shown: segment.slots.len() as u64,
                tail_bytes: segment.tail.map_or(0, |tail: Filler| tail.bytes),
                tail_is_zeros: segment.tail.map(|tail| tail.is_zeros),
            }))
        }
        Contents::Blocks(blocks) => Whole::Blocks {
            object: blocks.place.map(Object::from),
            blocks: blocks.blocks,
            blocks_uniform: blocks.uniform,
            last_varied: blocks.last_varied,
        },
        Contents::ExtentMap { version, total, extents, .. } => Whole::ExtentMap {
            version: *version,
            extents: *total,
            extents_shown: extents.len() as u64,
        },
        Contents::Versions(versions) => {
            let of = |is: fn(&Version) -> bool| versions.iter().filter(|v| is(v)).count() as u64;
            Whole::Versions {
                versions: versions.len() as u64,
                in_version_buffer: of(|version| version.in_version_buffer),
                locked: of(|version| version.locked),
            }
        }
        Contents::VersionBuffer { files, blocks } => {
            Whole::VersionBuffer { files: files.len() as u64, blocks: blocks.len() as u64 }
        }
        Contents::Journal { records, .. } => Whole::Journal { records: *records },
        Contents::Current(set) => Whole::Current { set: set.prefix() },
        Contents::OidBitmap { taken, version_buffer_db_roots, asked, .. } => Whole::OidBitmap {
            taken: taken.iter().map(|range| u64::from(range.last - range.first) + 1).sum(),
            version_buffer_db_roots: version_buffer_db_roots.clone(),
            asked: asked.map(|(oid, is_taken)| Asked { oid, is_taken }),
        },
        Contents::Transactions(Transactions { last, catalog_version, system_state }) => {
            Whole::Transactions {
                last: *last,
                catalog_version: *catalog_version,
                system_state: *system_state,
            }
        }
        Contents::TableLocks(locks) => Whole::TableLocks { locks: locks.len() as u64 },
        Contents::Tablespace(space) => Whole::Tablespace(TablespaceWhole {
            page_bytes: space.page_bytes,
            is_full_crc32: space.is_full_crc32,
            pages: space.pages,
            unused: space.unused,
            hold: space.hold,
            damaged: space.damaged,
            not_verifiable: space.not_verifiable,
        }),
    }
}
