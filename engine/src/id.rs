//! Names of things: one type for each, so that none can stand where another belongs.
//!
//! The door to BLAKE3. Source: FORMAT.md 1 and 2.

use std::fmt;
use std::str::FromStr;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The number of bytes of such an id.
            pub const LEN: usize = $bytes;

            /// Returns the first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Reads the full lower-case hexadecimal form; nothing else is an id.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let mut bytes = [0; $bytes];
                decode_hex(text, &mut bytes).ok_or(NotAnId { digits: 2 * $bytes })?;
                Ok($name(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// Names a chunk: BLAKE3 of its raw bytes, keyed with the repository's id key.
    ChunkId,
    32
);
id_type!(
    /// Names a pack: BLAKE3 of its stored bytes.
    PackId,
    32
);
id_type!(
    /// Names an index object: BLAKE3 of its stored bytes.
    IndexId,
    32
);
id_type!(
    /// Names a session and the snapshot it commits: random.
    SessionId,
    16
);
id_type!(
    /// Names a repository: random.
    RepositoryId,
    16
);

/// A text that is not the hexadecimal form of an id.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnId {
    digits: usize,
}

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an id: {} lower-case hexadecimal digits expected", self.digits)
    }
}

impl std::error::Error for NotAnId {}

fn decode_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(())
}

/// The key of a repository's chunk ids: 32 random bytes, drawn at `init`.
///
/// Ids are always keyed, encrypted repository or not: without the key nobody can tell from an id
/// whether a repository holds a known text.
#[derive(Clone, PartialEq, Eq)]
pub struct IdKey(pub [u8; 32]);

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(..)")
    }
}

impl IdKey {
    /// Returns the id of a chunk with these raw bytes. Cost: one pass.
    pub fn chunk_id(&self, raw: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0, raw).as_bytes())
    }
}

/// Returns BLAKE3 of stored bytes, unkeyed, so that any program can check an object's name.
pub fn hash_stored(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Returns a number that depends on `bytes` alone; decides manifest boundaries (FORMAT.md 5.3).
pub fn boundary_hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Fills an array with random bytes from the operating system.
///
/// # Panics
/// When the operating system has no random source; nothing safe could be written then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways_and_nothing_else_is_an_id() {
        let id = SessionId(*b"\x00\x01\x7f\x80\xff\x10abcdefghij");
        assert_eq!(id.to_string(), "00017f80ff106162636465666768696a");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in
            ["", "00", "00017F80ff106162636465666768696a", "zz017f80ff106162636465666768696a"]
        {
            assert!(wrong.parse::<SessionId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn chunk_ids_are_keyed_blake3() {
        // b3sum --keyed of the empty input with a key of 32 zero bytes.
        let id = IdKey([0; 32]).chunk_id(b"");
        assert_eq!(
            id.to_string(),
            "a7f91ced0533c12cd59706f2dc38c2a8c39c007ae89ab6492698778c8684c483"
        );
        assert_ne!(id, IdKey([1; 32]).chunk_id(b""));
    }
}
