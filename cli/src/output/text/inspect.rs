//! Text of `inspect`: what one file says.

use colvault_engine::columnstore::brm::{BufferBlock, BufferFile, MapExtent, TableLock, Version};
use colvault_engine::columnstore::brm::{OidRange, command_name};
use colvault_engine::columnstore::segment::Packing;
use colvault_engine::columnstore::{ObjectClass, SegmentPath};
use colvault_engine::format::text::encode;
use colvault_engine::inspect::{
    BlockContents, Contents, Filler, SegmentContents, Slot, TablespaceContents, page_type_name,
};

use super::super::Inspected;
use super::super::table::{Align, each_line};
use super::Text;
use crate::output::inspect::{lock_state, slot_state, status_name};
use crate::units::{bytes, count, counted, local_time, utc_time};

impl Text {
    pub(super) fn show_inspected(&self, inspected: &Inspected<'_>) {
        self.bar.end();
        let report = inspected.report;
        let of = match inspected.named {
            Some(named) => format!(" of snapshot {}", named.id.short()),
            None => String::new(),
        };
        self.say(format!("{}{of}", inspected.path));
        let size = counted(report.size, "byte", "bytes");
        self.fact("kind", format!("{}, {size}", report.kind.title()));
        if let Some(column) = inspected.column {
            self.fact("name", column.told());
        }
        match &report.contents {
            Some(contents) => self.contents(contents),
            None => self.fact("content", "makes no sense"),
        }
        self.findings(inspected.findings);
    }

    fn contents(&self, contents: &Contents) {
        match contents {
            Contents::Segment(segment) => self.segment(segment),
            Contents::Blocks(blocks) => self.blocks(blocks),
            Contents::ExtentMap { version, total, extents, free } => {
                self.fact("version", version.to_string());
                let shown = extents.len() as u64;
                let of =
                    if shown < *total { format!(" of {}", count(*total)) } else { String::new() };
                self.fact("extents", format!("{}{of}", count(shown)));
                for range in free {
                    let end = range.lbid + (u64::from(range.units) << 10) - 1;
                    self.fact("free LBIDs", format!("{} to {end}", range.lbid));
                }
                self.extents(extents);
            }
            Contents::Versions(versions) => self.versions(versions),
            Contents::VersionBuffer { files, blocks } => self.version_buffer(files, blocks),
            Contents::Journal { records, commands } => {
                self.fact("changes", count(*records));
                if !commands.is_empty() {
                    self.rows(
                        [("Changes", Align::Right), ("Id", Align::Right), ("Command", Align::Left)],
                        commands.iter().map(|(command, number)| {
                            let name = command_name(*command).unwrap_or("not known");
                            [count(*number), command.to_string(), name.to_owned()]
                        }),
                    );
                }
            }
            Contents::Current(set) => self.fact("current set", set.prefix()),
            Contents::OidBitmap { taken, free, version_buffer_db_roots, asked } => match asked {
                Some((oid, is_taken)) => {
                    self.fact(&format!("OID {oid}"), if *is_taken { "in use" } else { "free" });
                }
                None => self.oid_bitmap(taken, free, version_buffer_db_roots),
            },
            Contents::Transactions(transactions) => {
                self.fact("last transaction", transactions.last.to_string());
                self.fact("catalog version", transactions.catalog_version.to_string());
                self.fact("system state", system_state(transactions.system_state));
            }
            Contents::TableLocks(locks) => self.locks(locks),
            Contents::Tablespace(space) => self.tablespace(space),
        }
    }

    fn fact(&self, name: &str, value: impl AsRef<str>) {
        self.say(format!("  {name:<16}  {}", value.as_ref()));
    }

    /// Writes a table whose rows are made as they are written: there may be millions.
    fn rows<const N: usize>(
        &self,
        columns: [(&str, Align); N],
        rows: impl Iterator<Item = [String; N]> + Clone,
    ) {
        self.say("");
        each_line(columns, rows, |line| self.out.line(line));
    }

    fn place(&self, place: Option<SegmentPath>) {
        let Some(place) = place else { return };
        let class = ObjectClass::of(place.oid).name();
        let SegmentPath { oid, partition, segment } = place;
        self.fact("object", format!("{oid} {class}, partition {partition}, segment {segment}"));
    }

    fn segment(&self, segment: &SegmentContents) {
        let header = &segment.header;
        self.place(segment.place);
        self.fact("header", format!("version {}, {} bytes", header.version, header.header_bytes));
        let packing = Packing::of_type(header.compression).map_or("unknown", Packing::name);
        self.fact("compression", format!("{} {packing}", header.compression));
        self.fact("blocks", count(header.blocks));
        if header.version == 3 {
            self.fact(
                "column",
                match header.width {
                    0 => "dictionary".to_owned(),
                    width => {
                        format!("type {}, {}", header.data_type, counted(width, "byte", "bytes"))
                    }
                },
            );
            let lbids: Vec<String> = header.lbids.iter().map(u64::to_string).collect();
            self.fact("first LBIDs", lbids.join(" "));
        }
        let held = segment.slots.iter().filter(|slot| slot_state(slot) == "holds").count() as u64;
        let shown = segment.slots.len() as u64;
        let verified = match (segment.slots_total, shown) {
            (0, _) => "none".to_owned(),
            (total, shown) if shown < total => format!("{}; {} shown", count(total), count(shown)),
            (total, _) if held == total => format!("{}, all hold", count(total)),
            (total, _) => format!("{}, of which {} hold", count(total), count(held)),
        };
        self.fact("slots", verified);
        let tail = segment.tail.map_or("none".to_owned(), |tail| {
            format!("{} of {}", bytes(tail.bytes), filler(Some(tail)))
        });
        self.fact("tail", tail);
        if !segment.slots.is_empty() {
            self.slots(&segment.slots);
        }
    }

    fn slots(&self, slots: &[Slot]) {
        let columns = [
            ("Slot", Align::Right),
            ("Offset", Align::Right),
            ("Length", Align::Right),
            ("Payload", Align::Right),
            ("Stored", Align::Right),
            ("Computed", Align::Right),
            ("Padding", Align::Left),
        ];
        let row = |slot: &Slot| {
            [
                slot.number.to_string(),
                slot.offset.to_string(),
                slot.length.to_string(),
                slot.payload.to_string(),
                format!("{:08x}", slot.stored),
                slot.computed.map_or("-".to_owned(), |computed| format!("{computed:08x}")),
                format!(
                    "{}{}",
                    filler(slot.padding),
                    match slot_state(slot) {
                        "holds" => "",
                        "damaged" => "  damaged",
                        _ => "  not verifiable",
                    }
                ),
            ]
        };
        self.rows(columns, slots.iter().map(row));
    }

    fn blocks(&self, blocks: &BlockContents) {
        self.place(blocks.place);
        self.fact("blocks", count(blocks.blocks));
        self.fact("without rows", format!("{} filled with one value", count(blocks.uniform)));
        let last = blocks.last_varied.map_or("none".to_owned(), |block| block.to_string());
        self.fact("last with rows", last);
    }

    fn extents(&self, extents: &[(u64, MapExtent)]) {
        let columns = [
            ("OID", Align::Right),
            ("Root", Align::Right),
            ("Part", Align::Right),
            ("Seg", Align::Right),
            ("LBID", Align::Right),
            ("Blocks", Align::Right),
            ("Offset", Align::Right),
            ("HWM", Align::Right),
            ("Status", Align::Left),
        ];
        let row = |(_, extent): &(u64, MapExtent)| {
            [
                extent.oid.to_string(),
                extent.db_root.to_string(),
                extent.partition.to_string(),
                extent.segment.to_string(),
                extent.lbid.to_string(),
                extent.blocks().to_string(),
                extent.block_offset.to_string(),
                extent.hwm.to_string(),
                status_name(extent.status).map_or(extent.status.to_string(), str::to_owned),
            ]
        };
        if !extents.is_empty() {
            self.rows(columns, extents.iter().map(row));
        }
    }

    fn versions(&self, versions: &[Version]) {
        let of = |is: fn(&Version) -> bool| {
            count(versions.iter().filter(|version| is(version)).count() as u64)
        };
        self.fact("versions", count(versions.len() as u64));
        self.fact("in the buffer", of(|version| version.in_version_buffer));
        self.fact("locked", of(|version| version.locked));
        if versions.is_empty() {
            return;
        }
        let columns =
            [("LBID", Align::Right), ("Transaction", Align::Right), ("Where", Align::Left)];
        self.rows(
            columns,
            versions.iter().map(|version| {
                let place =
                    if version.in_version_buffer { "version buffer" } else { "segment file" };
                let locked = if version.locked { ", locked" } else { "" };
                [version.lbid.to_string(), version.version.to_string(), format!("{place}{locked}")]
            }),
        );
    }

    fn version_buffer(&self, files: &[BufferFile], blocks: &[BufferBlock]) {
        for file in files {
            let value = format!("{}, the next block at byte {}", bytes(file.size), file.next);
            self.fact(&format!("file {}", file.oid), value);
        }
        self.fact("blocks", count(blocks.len() as u64));
        if blocks.is_empty() {
            return;
        }
        let columns = ["LBID", "Transaction", "File", "Block"].map(|name| (name, Align::Right));
        self.rows(
            columns,
            blocks.iter().map(|block| {
                [
                    block.lbid.to_string(),
                    block.version.to_string(),
                    block.oid.to_string(),
                    block.block.to_string(),
                ]
            }),
        );
    }

    fn oid_bitmap(&self, taken: &[OidRange], free: &[OidRange], db_roots: &[u16]) {
        let number: u64 = taken.iter().map(|range| u64::from(range.last - range.first) + 1).sum();
        self.fact("OIDs in use", count(number));
        for range in free {
            self.fact("free list", format!("{} to {}", range.first, range.last));
        }
        for (number, db_root) in db_roots.iter().enumerate() {
            self.fact(&format!("version buffer {number}"), format!("on DB Root {db_root}"));
        }
        if !taken.is_empty() {
            let columns = ["From", "To"].map(|name| (name, Align::Right));
            let row = |range: &OidRange| [range.first.to_string(), range.last.to_string()];
            self.rows(columns, taken.iter().map(row));
        }
    }

    fn locks(&self, locks: &[TableLock]) {
        self.fact("locks", count(locks.len() as u64));
        for lock in locks {
            let roots: Vec<String> = lock.db_roots.iter().map(u32::to_string).collect();
            self.say("");
            self.fact("lock", format!("{} of table {}", lock.id, lock.table));
            self.fact("owner", format!("{}, process {}", encode(&lock.owner), lock.pid));
            self.fact("state", lock_state(lock));
            self.fact("since", local_time(&utc_time(lock.created, 0)));
            self.fact("session", lock.session.to_string());
            self.fact("transaction", lock.transaction.to_string());
            self.fact("DB Roots", roots.join(" "));
        }
    }

    fn tablespace(&self, space: &TablespaceContents) {
        let pages = format!("{} of {}", count(space.pages), bytes(space.page_bytes));
        self.fact("pages", pages);
        self.fact("never written", count(space.unused));
        self.fact("checksums hold", count(space.hold));
        self.fact("damaged", count(space.damaged));
        let why = match (space.not_verifiable, space.is_full_crc32) {
            (0, _) => "",
            (_, true) => ", encrypted or compressed",
            (_, false) => ", with checksums of an older form",
        };
        self.fact("not verifiable", format!("{}{why}", count(space.not_verifiable)));
        if !space.types.is_empty() {
            let columns = [("Pages", Align::Right), ("Type", Align::Right), ("Holds", Align::Left)];
            self.rows(
                columns,
                space.types.iter().map(|(number, pages)| {
                    let name = page_type_name(*number).unwrap_or("not known");
                    [count(*pages), number.to_string(), name.to_owned()]
                }),
            );
        }
    }
}

/// What bytes without meaning are.
fn filler(filler: Option<Filler>) -> &'static str {
    match filler {
        None => "-",
        Some(Filler { bytes: 0, .. }) => "none",
        Some(Filler { is_zeros: true, .. }) => "zeros",
        Some(_) => "stale",
    }
}

/// The bits of the system's state that are saved.
fn system_state(state: u32) -> String {
    let known = [(1, "suspended"), (4, "roll back")];
    let mut words: Vec<String> = known
        .iter()
        .filter(|(bit, _)| state & (1 << bit) != 0)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    let others = known.iter().fold(state, |rest, (bit, _)| rest & !(1 << bit));
    if others != 0 {
        words.push(format!("unknown bits {others:#x}"));
    }
    if words.is_empty() { "nothing of note".to_owned() } else { words.join(", ") }
}
