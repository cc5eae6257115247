//! Manifest entries, the chunks of entries and the lists of these chunks.
//!
//! Source: FORMAT.md 5.3 to 5.5. A manifest is ordered by path components: `a`, `a/b`, `a.b`.

use std::cmp::Ordering;

use super::extent::{Extent, put_extents, take_extents};
use super::segment::{Damage, SegmentFacts};
use super::text::encode;
use super::wire::{Decoded, Reader, put_signed, put_string, put_varint};
use crate::finding::{Finding, FindingKind};
use crate::id::ChunkId;

const CHUNK_TAG: [u8; 4] = *b"CVM1";
const LIST_TAG: [u8; 4] = *b"CVL1";

/// A point in time: seconds since 1970 and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What kind of thing an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file: its size and content; the extents add up to the size.
    File {
        /// Size in bytes.
        size: u64,
        /// Content in order.
        extents: Vec<Extent>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink {
        /// The target's bytes as stored in the link.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A socket: noted, never restored.
    Socket,
    /// A file that was there and could not be read at all; nothing of it is stored.
    Unreadable {
        /// The size it claimed to have.
        size: u64,
    },
}

impl Node {
    fn tag(&self) -> u8 {
        match self {
            Node::File { .. } => 1,
            Node::Directory => 2,
            Node::Symlink { .. } => 3,
            Node::Fifo => 4,
            Node::CharDevice { .. } => 5,
            Node::BlockDevice { .. } => 6,
            Node::Socket => 7,
            Node::Unreadable { .. } => 8,
        }
    }

    /// Returns the name used in JSON: restic's words where it has one.
    pub fn type_name(&self) -> &'static str {
        match self {
            Node::File { .. } => "file",
            Node::Directory => "dir",
            Node::Symlink { .. } => "symlink",
            Node::Fifo => "fifo",
            Node::CharDevice { .. } => "chardev",
            Node::BlockDevice { .. } => "dev",
            Node::Socket => "socket",
            Node::Unreadable { .. } => "unreadable",
        }
    }

    /// Returns what it is in words, with an article.
    pub fn noun(&self) -> &'static str {
        match self {
            Node::File { .. } => "a file",
            Node::Directory => "a directory",
            Node::Symlink { .. } => "a symbolic link",
            Node::Fifo => "a pipe",
            Node::CharDevice { .. } | Node::BlockDevice { .. } => "a device",
            Node::Socket => "a socket",
            Node::Unreadable { .. } => "a file that could not be read",
        }
    }
}

/// What tells whether a file changed since it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Time of the last change of content or attributes.
    pub ctime: Time,
    /// Inode number.
    pub inode: u64,
}

/// What was wrong with an entry when it was read; reuse from a parent inherits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFinding {
    /// 1 changed while read, 2 unreadable, 3 interrupted write, 4 link leaves the component,
    /// 5 damaged header, 6 damaged slot, 7 damaged page.
    pub code: u8,
    /// What was expected and found.
    pub detail: Vec<u8>,
}

/// What the finding that stands for the rest of an entry says behind their number.
const REST: &str = " more findings of this entry";

impl EntryFinding {
    /// Size or times changed while it was read.
    pub const CHANGED: u8 = 1;
    /// It, or a part of it, could not be read.
    pub const UNREADABLE: u8 = 2;
    /// It exists only during or after an interrupted write.
    pub const INTERRUPTED: u8 = 3;
    /// It is a link to something that is in no component.
    pub const LINK_LEAVES: u8 = 4;
    /// The header of a segment file does not hold.
    pub const DAMAGED_HEADER: u8 = 5;
    /// A slot of a segment file does not hold.
    pub const DAMAGED_SLOT: u8 = 6;
    /// A page of a tablespace does not hold.
    pub const DAMAGED_PAGE: u8 = 7;

    /// Returns the kind of finding that it is reported as.
    pub fn kind(&self) -> FindingKind {
        match self.code {
            Self::CHANGED => FindingKind::ChangedWhileRead,
            Self::INTERRUPTED => FindingKind::InterruptedWrite,
            Self::LINK_LEAVES => FindingKind::LinkLeavesComponent,
            Self::DAMAGED_HEADER => FindingKind::DamagedHeader,
            Self::DAMAGED_SLOT => FindingKind::DamagedSlot,
            Self::DAMAGED_PAGE => FindingKind::DamagedPage,
            _ => FindingKind::Unreadable,
        }
    }

    /// Returns the one that stands for so many more of an entry.
    pub fn rest(code: u8, more: u64) -> Self {
        EntryFinding { code, detail: format!("{more}{REST}").into_bytes() }
    }

    /// Returns how many findings it stands for.
    pub fn times(&self) -> u64 {
        let detail = std::str::from_utf8(&self.detail).ok();
        let more = detail.and_then(|detail| detail.strip_suffix(REST)?.parse().ok());
        more.unwrap_or(1)
    }

    /// Whether content does not hold, although it could be read.
    pub fn is_damage(&self) -> bool {
        [Self::DAMAGED_HEADER, Self::DAMAGED_SLOT, Self::DAMAGED_PAGE].contains(&self.code)
    }

    /// Returns the finding as it is reported, about the entry's path in a component.
    pub fn reported(&self, component: &str, object: String) -> Finding {
        let kind = self.kind();
        let Some(damage) = Damage::decode(&self.detail).filter(|_| self.is_damage()) else {
            return Finding::new(kind, object, encode(&self.detail));
        };
        let detail = damage.told(if kind == FindingKind::DamagedPage { "page" } else { "slot" });
        Finding { at: Some(damage.place(component)), ..Finding::new(kind, object, detail) }
    }
}

/// One path of a component with all that restore needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the component's base, without leading slash; empty for the base itself.
    pub path: Vec<u8>,
    /// What it is.
    pub node: Node,
    /// Permission bits with set-id and sticky bits: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Owner's numeric id.
    pub uid: u32,
    /// Group's numeric id.
    pub gid: u32,
    /// Owner's name; empty when the source host knew none.
    pub user: Vec<u8>,
    /// Group's name; empty when the source host knew none.
    pub group: Vec<u8>,
    /// Time of the last change of content.
    pub mtime: Time,
    /// What tells whether it changed.
    pub identity: Identity,
    /// Changed during or too shortly before the read: to be read again next time.
    pub racy: bool,
    /// Device number of the file's group of hard links; the inode is in the identity.
    pub hard_link: Option<u64>,
    /// Extended attributes, ACLs among them, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What was wrong when it was read.
    pub findings: Vec<EntryFinding>,
    /// What its header said, for a segment file; none in manifests made before that was kept.
    pub segment: Option<SegmentFacts>,
}

const RACY: u64 = 1;
const HARD_LINK: u64 = 2;
const XATTRS: u64 = 4;
const FINDINGS: u64 = 8;
const SEGMENT: u64 = 16;

impl Entry {
    /// Returns the size a reader of the source would see: a file's bytes, otherwise 0.
    pub fn size(&self) -> u64 {
        match self.node {
            Node::File { size, .. } | Node::Unreadable { size } => size,
            _ => 0,
        }
    }

    /// Returns a file's extents; nothing for other nodes.
    pub fn extents(&self) -> &[Extent] {
        match &self.node {
            Node::File { extents, .. } => extents,
            _ => &[],
        }
    }

    /// Returns the part of the path after the last slash.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.node.tag());
        put_string(out, &self.path);
        put_varint(out, self.mode.into());
        put_varint(out, self.uid.into());
        put_varint(out, self.gid.into());
        put_string(out, &self.user);
        put_string(out, &self.group);
        put_time(out, self.mtime);
        put_time(out, self.identity.ctime);
        put_varint(out, self.identity.inode);
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        put_varint(
            out,
            flag(self.racy, RACY)
                | flag(self.hard_link.is_some(), HARD_LINK)
                | flag(!self.xattrs.is_empty(), XATTRS)
                | flag(!self.findings.is_empty(), FINDINGS)
                | flag(self.segment.is_some(), SEGMENT),
        );
        if let Some(device) = self.hard_link {
            put_varint(out, device);
        }
        if !self.xattrs.is_empty() {
            put_varint(out, self.xattrs.len() as u64);
            for (name, value) in &self.xattrs {
                put_string(out, name);
                put_string(out, value);
            }
        }
        if !self.findings.is_empty() {
            put_varint(out, self.findings.len() as u64);
            for finding in &self.findings {
                out.push(finding.code);
                put_string(out, &finding.detail);
            }
        }
        if let Some(segment) = &self.segment {
            segment.encode(out);
        }
        match &self.node {
            Node::File { size, extents } => {
                put_varint(out, *size);
                put_extents(out, extents);
            }
            Node::Symlink { target } => put_string(out, target),
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                put_varint(out, (*major).into());
                put_varint(out, (*minor).into());
            }
            Node::Unreadable { size } => put_varint(out, *size),
            Node::Directory | Node::Fifo | Node::Socket => {}
        }
    }

    /// Reads one entry.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        let start = reader.clone();
        let tag = reader.u8("entry type")?;
        let path = reader.string("path")?;
        if !is_plain_path(path) {
            return Err(start.malformed("relative path without empty, \".\" or \"..\" parts"));
        }
        let mode = reader.varint_u32("mode")?;
        let uid = reader.varint_u32("user id")?;
        let gid = reader.varint_u32("group id")?;
        let user = reader.string("user name")?.to_vec();
        let group = reader.string("group name")?.to_vec();
        let mtime = take_time(reader)?;
        let ctime = take_time(reader)?;
        let inode = reader.varint("inode")?;
        let flags = reader.varint("flags")?;
        if flags & !(RACY | HARD_LINK | XATTRS | FINDINGS | SEGMENT) != 0 {
            return Err(start.malformed("known entry flags"));
        }
        let hard_link = if flags & HARD_LINK != 0 { Some(reader.varint("device")?) } else { None };
        let mut xattrs = Vec::new();
        if flags & XATTRS != 0 {
            for _ in 0..reader.count(2, "number of attributes")? {
                let name = reader.string("attribute name")?.to_vec();
                xattrs.push((name, reader.string("attribute value")?.to_vec()));
            }
        }
        let mut findings = Vec::new();
        if flags & FINDINGS != 0 {
            for _ in 0..reader.count(2, "number of findings")? {
                let code = reader.u8("finding code")?;
                findings.push(EntryFinding { code, detail: reader.string("detail")?.to_vec() });
            }
        }
        let segment = if flags & SEGMENT != 0 { Some(SegmentFacts::decode(reader)?) } else { None };
        let node = take_node(reader, tag)?;
        Ok(Entry {
            path: path.to_vec(),
            node,
            mode,
            uid,
            gid,
            user,
            group,
            mtime,
            identity: Identity { ctime, inode },
            racy: flags & RACY != 0,
            hard_link,
            xattrs,
            findings,
            segment,
        })
    }
}

fn take_node(reader: &mut Reader<'_>, tag: u8) -> Decoded<Node> {
    Ok(match tag {
        1 => {
            let size = reader.varint("size")?;
            Node::File { size, extents: take_extents(reader, size)? }
        }
        2 => Node::Directory,
        3 => Node::Symlink { target: reader.string("link target")?.to_vec() },
        4 => Node::Fifo,
        5 => Node::CharDevice {
            major: reader.varint_u32("major")?,
            minor: reader.varint_u32("minor")?,
        },
        6 => Node::BlockDevice {
            major: reader.varint_u32("major")?,
            minor: reader.varint_u32("minor")?,
        },
        7 => Node::Socket,
        8 => Node::Unreadable { size: reader.varint("size")? },
        _ => return Err(reader.malformed("entry type 1 to 8")),
    })
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    put_signed(out, time.seconds);
    put_varint(out, time.nanoseconds.into());
}

fn take_time(reader: &mut Reader<'_>) -> Decoded<Time> {
    let seconds = reader.signed("seconds")?;
    let nanoseconds = reader.varint_u32("nanoseconds")?;
    if nanoseconds >= 1_000_000_000 {
        return Err(reader.malformed("nanoseconds below 10^9"));
    }
    Ok(Time { seconds, nanoseconds })
}

/// Whether a path is empty or a sequence of ordinary names: a manifest, even a forged one, cannot
/// make restore leave its target.
pub fn is_plain_path(path: &[u8]) -> bool {
    path.is_empty()
        || (!path.contains(&0)
            && path
                .split(|byte| *byte == b'/')
                .all(|part| !part.is_empty() && part != b"." && part != b".."))
}

/// Compares paths by their components, each by its bytes: `a/b` before `a.b`.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    // The slash sorts before every other byte of a name.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Returns the bytes a manifest chunk starts with, to which entries are appended.
pub fn begin_chunk() -> Vec<u8> {
    CHUNK_TAG.to_vec()
}

/// Reads the entries of a manifest chunk, in strictly rising order.
pub fn decode_chunk(raw: &[u8]) -> Decoded<Vec<Entry>> {
    let mut reader = Reader::new(raw);
    if reader.array::<4>("manifest chunk")? != CHUNK_TAG {
        return Err(Reader::new(raw).malformed("manifest chunk tag \"CVM1\""));
    }
    let mut entries: Vec<Entry> = Vec::new();
    while reader.remaining() > 0 {
        let entry = Entry::decode(&mut reader)?;
        if entries.last().is_some_and(|last| compare_paths(&last.path, &entry.path).is_ge()) {
            return Err(reader.malformed("entries in rising order of path"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Where a manifest chunk stands in its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// The manifest chunk's id.
    pub id: ChunkId,
    /// How many entries it holds.
    pub entries: u64,
    /// The path of its first entry.
    pub first_path: Vec<u8>,
}

/// Returns the raw bytes of a manifest list.
pub fn encode_list(chunks: &[ChunkRef]) -> Vec<u8> {
    let mut out = LIST_TAG.to_vec();
    put_varint(&mut out, chunks.len() as u64);
    for chunk in chunks {
        out.extend_from_slice(&chunk.id.0);
        put_varint(&mut out, chunk.entries);
        put_string(&mut out, &chunk.first_path);
    }
    out
}

/// Reads a manifest list.
pub fn decode_list(raw: &[u8]) -> Decoded<Vec<ChunkRef>> {
    let mut reader = Reader::new(raw);
    if reader.array::<4>("manifest list")? != LIST_TAG {
        return Err(Reader::new(raw).malformed("manifest list tag \"CVL1\""));
    }
    let count = reader.count(34, "number of manifest chunks")?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId(reader.array("manifest chunk id")?);
        let entries = reader.varint("number of entries")?;
        let first_path = reader.string("first path")?.to_vec();
        chunks.push(ChunkRef { id, entries, first_path });
    }
    reader.end("end of the manifest list")?;
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn entry(path: &[u8], node: Node) -> Entry {
        Entry {
            path: path.to_vec(),
            node,
            mode: 0o1755,
            uid: 999,
            gid: 995,
            user: b"mysql".to_vec(),
            group: b"mysql".to_vec(),
            mtime: Time { seconds: -5, nanoseconds: 999_999_999 },
            identity: Identity { ctime: Time { seconds: 1 << 33, nanoseconds: 1 }, inode: 7 },
            racy: false,
            hard_link: None,
            xattrs: Vec::new(),
            findings: Vec::new(),
            segment: None,
        }
    }

    fn entries() -> Vec<Entry> {
        let id = ChunkId([1; 32]);
        let mut file = entry(
            b"a/\xff",
            Node::File { size: 9, extents: vec![Extent::Chunk { id, length: 9 }] },
        );
        file.racy = true;
        file.hard_link = Some(66);
        file.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![2, 0, 0, 0])];
        file.findings = vec![EntryFinding { code: 1, detail: b"size 8, then 9".to_vec() }];
        vec![
            entry(b"", Node::Directory),
            entry(b"a", Node::Directory),
            file,
            entry(b"a.b", Node::Symlink { target: b"../x".to_vec() }),
            entry(b"b", Node::Fifo),
            entry(b"c", Node::CharDevice { major: 1, minor: 3 }),
            entry(b"d", Node::BlockDevice { major: 8, minor: 0 }),
            entry(b"e", Node::Socket),
            entry(b"f", Node::Unreadable { size: 12 }),
        ]
    }

    #[test]
    fn every_node_comes_back_and_no_truncation_passes_for_the_whole() {
        let entries = entries();
        let mut raw = begin_chunk();
        let mut ends = vec![raw.len()];
        for entry in &entries {
            entry.encode(&mut raw);
            ends.push(raw.len());
        }
        assert_eq!(decode_chunk(&raw).as_ref(), Ok(&entries));
        for cut in (0..raw.len()).filter(|cut| !ends.contains(cut)) {
            assert!(decode_chunk(&raw[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn entries_out_of_order_and_paths_that_leave_the_target_are_refused() {
        let encode = |paths: &[&[u8]]| {
            let mut raw = begin_chunk();
            paths.iter().for_each(|path| entry(path, Node::Fifo).encode(&mut raw));
            raw
        };
        assert!(decode_chunk(&encode(&[b"a", b"a/b", b"a.b"])).is_ok());
        for wrong in [
            &[&b"a.b"[..], b"a/b"][..],
            &[b"a", b"a"],
            &[b"/etc"],
            &[b"a/../b"],
            &[b"a//b"],
            &[b"a/"],
            &[b"."],
            &[b"a\0b"],
        ] {
            assert!(decode_chunk(&encode(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lists_come_back() {
        let chunks = vec![
            ChunkRef { id: ChunkId([1; 32]), entries: 512, first_path: Vec::new() },
            ChunkRef { id: ChunkId([2; 32]), entries: 1, first_path: b"x/y".to_vec() },
        ];
        let raw = encode_list(&chunks);
        assert_eq!(decode_list(&raw), Ok(chunks));
        for cut in 0..raw.len() {
            assert!(decode_list(&raw[..cut]).is_err(), "cut at {cut}");
        }
    }
}
