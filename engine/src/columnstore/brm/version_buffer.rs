//! The version buffer's block map (`_vbbm`): where old versions of blocks are kept.
//!
//! Source: the server's brm/vbbm.cpp, 941-948 and 1056-1133.

use std::collections::HashSet;

use super::{Sensible, lbid, natural, refuse_negative};
use crate::format::wire::{Decoded, Reader};

const MAGIC: u32 = 0x1fb5_8c7a;
const FILE_BYTES: u64 = 24;
const BLOCK_BYTES: u64 = 24;

/// The files of the version buffer and the blocks in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionBuffer {
    /// The files, in the order of the file; the OID bitmap says which is on which DB Root.
    pub files: Vec<BufferFile>,
    /// The blocks.
    pub blocks: Vec<BufferBlock>,
}

/// A file of the version buffer: `versionbuffer.cdf` of one DB Root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFile {
    /// Its number, from 0.
    pub oid: u32,
    /// How large it may become, in bytes; on the disk it is as large as it ever was.
    pub size: u64,
    /// Where the next block is written, in bytes.
    pub next: u64,
}

/// An old version of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBlock {
    /// The block it is a version of.
    pub lbid: u64,
    /// The transaction that wrote that version.
    pub version: i32,
    /// The file of the version buffer.
    pub oid: u32,
    /// The place in that file, in blocks of 8 KiB.
    pub block: u32,
}

impl VersionBuffer {
    /// Whether a file begins like one of these.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.first_chunk() == Some(&MAGIC.to_le_bytes())
    }

    /// Reads the file, which must be filled to the byte. One of no bytes at all is malformed: the
    /// server does not load it.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let expected = "the first word of the version buffer's block map (vbbm)";
        let mut reader = Reader::new(bytes);
        if reader.u32(expected)? != MAGIC {
            return Err(Reader::new(bytes).malformed(expected));
        }
        let start = reader.clone();
        let blocks = natural(&mut reader, "a number of blocks that is not negative")?;
        let files = natural(&mut reader, "a number of files that is not negative")?;
        let expected_bytes = u64::from(blocks) * BLOCK_BYTES + u64::from(files) * FILE_BYTES;
        if expected_bytes != reader.remaining() as u64 {
            return Err(start.malformed("numbers of blocks and files that fill the file"));
        }
        let mut buffer = VersionBuffer {
            files: Vec::with_capacity(files as usize),
            blocks: Vec::with_capacity(blocks as usize),
        };
        for _ in 0..files {
            let oid = natural(&mut reader, "a number of a version buffer that is not negative")?;
            reader.bytes(4, "four bytes without meaning")?;
            buffer.files.push(BufferFile {
                oid,
                size: reader.u64("the size of a version buffer")?,
                next: reader.u64("the next place in a version buffer")?,
            });
        }
        for _ in 0..blocks {
            buffer.blocks.push(BufferBlock {
                lbid: lbid(&mut reader)?,
                version: reader.u32("a version")?.cast_signed(),
                oid: natural(&mut reader, "a number of a version buffer that is not negative")?,
                block: reader.u32("a place in a version buffer")?,
            });
            reader.bytes(4, "the next of the same hash")?;
        }
        reader.end("the end of the block map")?;
        Ok(buffer)
    }
}

impl Sensible for VersionBuffer {
    /// No transaction is negative, blocks are in files that are listed, and the next place of a file is
    /// within it.
    fn faults(&self, found: &mut dyn FnMut(String)) {
        let files: HashSet<u32> = self.files.iter().map(|file| file.oid).collect();
        for (number, block) in self.blocks.iter().enumerate() {
            refuse_negative(&format!("block {number}, transaction"), block.version, found);
            if !files.contains(&block.oid) {
                let oid = block.oid;
                found(format!("block {number}: one of the files listed expected, found {oid}"));
            }
        }
        for file in self.files.iter().filter(|file| file.next > file.size) {
            found(format!(
                "file {}: a next place within its {} bytes expected, found {}",
                file.oid, file.size, file.next
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_exact, hex};
    use super::*;
    use crate::format::wire::Malformed;

    const ONE_FILE: &str = "
        7a8cb51f 02000000 01000000
        00000000 ffffffff 0000004000000000 0040340000000000
        05dc030000000000 00000000 00000000 00000000 ffffffff
        07dc030000000000 0c000000 01000000 02000000 00000000";

    #[test]
    fn files_come_before_blocks_though_they_are_counted_after_them() {
        let buffer = VersionBuffer::decode(&hex(ONE_FILE)).unwrap();
        assert_eq!(buffer.files, [BufferFile { oid: 0, size: 1 << 30, next: 3_424_256 }]);
        let blocks = [
            BufferBlock { lbid: 252_933, version: 0, oid: 0, block: 0 },
            BufferBlock { lbid: 252_935, version: 12, oid: 1, block: 2 },
        ];
        assert_eq!(buffer.blocks, blocks);
        assert_exact(&hex(ONE_FILE), VersionBuffer::decode);
        assert_exact(&hex("7a8cb51f 00000000 00000000"), VersionBuffer::decode);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let counts = "numbers of blocks and files that fill the file";
        for (at, bytes, expected) in [
            (0, "7b", "the first word of the version buffer's block map (vbbm)"),
            (4, "ffffff7f", counts),
            (4, "01000000", counts),
            (8, "ffffffff", "a number of files that is not negative"),
            (12, "ffffffff", "a number of a version buffer that is not negative"),
            (36, "ffffffffffffffff", "an LBID that is not negative"),
        ] {
            let mut file = hex(ONE_FILE);
            let bytes = hex(bytes);
            file[at..at + bytes.len()].copy_from_slice(&bytes);
            assert_eq!(VersionBuffer::decode(&file), Err(Malformed { at, expected }));
        }
    }
}
