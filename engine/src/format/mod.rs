//! The stored bytes of every object: pure encoders and decoders, no I/O.
//!
//! Implements FORMAT.md. Bytes from outside never panic: a decoder returns [`wire::Malformed`] or
//! an [`Error`] that names the object. Encoders and decoders of one object stand side by side.

pub mod config;
pub mod extent;
pub mod index;
pub mod manifest;
pub mod names;
pub mod pack;
pub mod recipe;
pub mod segment;
pub mod session;
pub mod snapshot;
pub mod text;
pub mod wire;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{RepositoryId, SessionId, hash_stored, random};
use wire::{Decoded, Reader};

/// The format version this program writes and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;

/// The length of an object's header in bytes.
pub const HEADER_LEN: usize = 80;

/// The length of the checksum that ends every record.
pub const CHECKSUM_LEN: usize = 32;

/// The largest record this program is willing to read into memory: 256 MiB.
pub const RECORD_BYTES_MAX: u64 = 256 << 20;

const MAGIC: [u8; 8] = *b"colvault";

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum ObjectKind {
    /// `config`
    Config = 1,
    /// `features/<name>`
    Feature = 2,
    /// A pack of data chunks.
    DataPack = 3,
    /// A pack of manifests, span lists and recipes.
    MetaPack = 4,
    /// `index/<id>`
    Index = 5,
    /// `snapshots/<session>`
    Snapshot = 6,
    /// A tombstone under the name of a snapshot: the session was revoked.
    Tombstone = 7,
    /// `leases/<session>`
    Lease = 8,
    /// `doomed/<id>`
    Doomed = 9,
}

impl ObjectKind {
    fn from_number(number: u16) -> Option<Self> {
        use ObjectKind::*;
        [Config, Feature, DataPack, MetaPack, Index, Snapshot, Tombstone, Lease, Doomed]
            .into_iter()
            .find(|kind| *kind as u16 == number)
    }

    /// Returns the word for it in messages.
    pub fn noun(self) -> &'static str {
        match self {
            ObjectKind::Config => "config",
            ObjectKind::Feature => "feature",
            ObjectKind::DataPack => "data pack",
            ObjectKind::MetaPack => "meta pack",
            ObjectKind::Index => "index",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Tombstone => "tombstone",
            ObjectKind::Lease => "lease",
            ObjectKind::Doomed => "doomed",
        }
    }
}

/// Which of the two kinds of packs a chunk lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkKind {
    /// Content of files.
    Data,
    /// Manifests, span lists, recipes.
    Meta,
}

impl ChunkKind {
    /// Returns the kind of the packs that hold such chunks.
    pub fn pack(self) -> ObjectKind {
        match self {
            ChunkKind::Data => ObjectKind::DataPack,
            ChunkKind::Meta => ObjectKind::MetaPack,
        }
    }

    /// Returns the byte that stands for it in index objects.
    pub fn number(self) -> u8 {
        match self {
            ChunkKind::Data => 0,
            ChunkKind::Meta => 1,
        }
    }

    /// Reads the byte of an index object.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(ChunkKind::Data),
            1 => Some(ChunkKind::Meta),
            _ => None,
        }
    }
}

/// A feature that a reader has to know; its bit stands in the header of every object that uses it,
/// and its name as an object under `features/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name under `features/`.
    pub name: &'static str,
    /// The bit in the header.
    pub bit: u32,
}

/// Chunks compressed by zstd (codec 1).
pub const FEATURE_ZSTD: Feature = Feature { name: "codec-zstd", bit: 0 };

/// Entries of manifests may carry facts of segment files.
pub const FEATURE_SEGMENTS: Feature = Feature { name: "segment-facts", bit: 1 };

/// Slots may be stored as recipes (codec 2), chunks through a transform (codec 3).
pub const FEATURE_RECIPES: Feature = Feature { name: "slot-recipes", bit: 2 };

/// Every feature this program knows, and those a new repository is created with. A backup adds what
/// an older repository lacks.
pub const KNOWN_FEATURES: [Feature; 3] = [FEATURE_ZSTD, FEATURE_SEGMENTS, FEATURE_RECIPES];

/// Returns the header bits of a set of features.
pub fn feature_bits(features: &[Feature]) -> u64 {
    features.iter().fold(0, |bits, feature| bits | 1 << feature.bit)
}

/// The first 80 bytes of every object (FORMAT.md 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Random bytes, so that no two objects are ever equal.
    pub nonce: [u8; 16],
    /// What the object is.
    pub kind: ObjectKind,
    /// Bits of the features a reader has to know.
    pub features: u64,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The session that wrote it.
    pub session: SessionId,
}

impl Header {
    /// Makes a header with fresh random bytes.
    pub fn new(
        kind: ObjectKind,
        features: u64,
        repository: RepositoryId,
        session: SessionId,
    ) -> Self {
        Header { nonce: random(), kind, features, repository, session }
    }

    /// Returns the 80 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(self.kind as u16).to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.repository.0);
        out.extend_from_slice(&self.session.0);
        out.extend_from_slice(&[0; 8]);
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the header of the named object.
    ///
    /// Fails with `Corrupt` when these are not the bytes of an object, and with `Unsupported` on
    /// another format version, an unknown kind or an unknown required feature.
    pub fn decode(bytes: &[u8], object: &str) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let raw = RawHeader::decode(&mut reader).map_err(|error| error.in_object(object))?;
        let unsupported = |what: String| Error::new(ErrorKind::Unsupported, object, what);
        if raw.version != FORMAT_VERSION {
            return Err(unsupported(format!(
                "format version {FORMAT_VERSION} expected, found {}",
                raw.version
            )));
        }
        let kind = ObjectKind::from_number(raw.kind)
            .ok_or_else(|| unsupported(format!("object kind {} is not known", raw.kind)))?;
        let unknown = raw.features & !feature_bits(&KNOWN_FEATURES);
        if unknown != 0 {
            let bit = unknown.trailing_zeros();
            return Err(unsupported(format!("requires feature number {bit}, which is not known")));
        }
        Ok(Header {
            nonce: raw.nonce,
            kind,
            features: raw.features,
            repository: raw.repository,
            session: raw.session,
        })
    }
}

struct RawHeader {
    nonce: [u8; 16],
    kind: u16,
    version: u16,
    features: u64,
    repository: RepositoryId,
    session: SessionId,
}

impl RawHeader {
    fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        let nonce = reader.array("16 random bytes")?;
        if reader.clone().array::<8>("magic")? != MAGIC {
            return Err(reader.malformed("magic \"colvault\""));
        }
        reader.bytes(MAGIC.len(), "magic")?;
        let kind = reader.u16("object kind")?;
        let version = reader.u16("format version")?;
        reader.bytes(4, "reserved bytes")?;
        let features = reader.u64("feature bits")?;
        let repository = RepositoryId(reader.array("repository id")?);
        let session = SessionId(reader.array("session id")?);
        reader.bytes(8, "reserved bytes")?;
        Ok(RawHeader { nonce, kind, version, features, repository, session })
    }
}

/// Returns the stored bytes of a record: header, body, BLAKE3 of both.
///
/// Every object that is not a pack is a record. Source: FORMAT.md 3.2.
pub fn seal_record(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + body.len() + CHECKSUM_LEN);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(body);
    let checksum = hash_stored(&[&out]);
    out.extend_from_slice(&checksum);
    out
}

/// Opens a record: returns header and body.
///
/// Fails with `Corrupt` when the record is truncated or its checksum does not hold; with
/// `Unsupported` as [`Header::decode`]. The checksum is verified first, whatever the version: a
/// flipped bit in a header must not pass for a record of another program.
pub fn open_record<'a>(bytes: &'a [u8], object: &str) -> Result<(Header, &'a [u8])> {
    let (content, checksum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .filter(|(content, _)| content.len() >= HEADER_LEN)
        .ok_or_else(|| {
            let least = HEADER_LEN + CHECKSUM_LEN;
            Error::corrupt(
                object,
                format!("at least {least} bytes expected, found {}", bytes.len()),
            )
        })?;
    if hash_stored(&[content]) != *checksum {
        return Err(Error::corrupt(object, "checksum does not hold: the record is damaged"));
    }
    let header = Header::decode(bytes, object)?;
    Ok((header, content.get(HEADER_LEN..).unwrap_or_default()))
}

/// Opens a record that must be of one kind and, when known, belong to one repository.
pub fn open_record_of<'a>(
    bytes: &'a [u8],
    object: &str,
    kind: ObjectKind,
    repository: Option<RepositoryId>,
) -> Result<(Header, &'a [u8])> {
    let (header, body) = open_record(bytes, object)?;
    expect_header(&header, object, kind, repository)?;
    Ok((header, body))
}

/// Fails with `Corrupt` when a header is not of the kind and repository expected.
pub fn expect_header(
    header: &Header,
    object: &str,
    kind: ObjectKind,
    repository: Option<RepositoryId>,
) -> Result<()> {
    if header.kind != kind {
        let found = header.kind.noun();
        return Err(Error::corrupt(object, format!("{} expected, found {found}", kind.noun())));
    }
    if let Some(expected) = repository.filter(|id| *id != header.repository) {
        let found = header.repository;
        return Err(Error::corrupt(
            object,
            format!("object of repository {expected} expected, found one of {found}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::new(ObjectKind::Lease, 1, RepositoryId([7; 16]), SessionId([9; 16]))
    }

    #[test]
    fn a_record_comes_back() {
        let header = header();
        let bytes = seal_record(&header, b"body");
        let (found, body) = open_record(&bytes, "leases/x").unwrap();
        assert_eq!((found, body), (header, &b"body"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = seal_record(&header(), b"some body");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(open_record(&damaged, "x").is_err(), "byte {at} bit {bit}");
            }
            assert!(open_record(&bytes[..at], "x").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_unknown_feature_is_named_and_not_called_damage() {
        let mut header = header();
        header.features = 1 << 17;
        let error = open_record(&seal_record(&header, b""), "packs/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature number 17"), "{error}");
    }
}
