//! The packers that servers write slots with: packed bytes to unpacked ones, and back to the very
//! same packed bytes. The door to snap and lz4.
//!
//! A slot is stored as what it holds (FORMAT.md 8) only where packing that again gives its payload
//! byte for byte. A packer is therefore part of the repository format: a library at an exact version
//! with exact parameters, under a number that never gets another meaning. Golden vectors hold it.

mod lz4_block;
mod snappy;
mod snappy_check;
mod snappy_newer;

use crate::columnstore::segment::{Packing, SLOT_BYTES_MAX, SLOT_HEAD_BYTES, SlotHead};
use crate::format::recipe;
use crate::format::segment::Damage;

/// The most bytes that a slot holds when unpacked: 4 MiB.
pub const UNPACKED_BYTES_MAX: usize = recipe::UNPACKED_BYTES_MAX as usize;

/// A way to pack that gives the same bytes forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packer {
    /// Snappy as crate snap 1.1.2 packs, in one piece: what libraries up to 1.1.10 give.
    SnappyV1,
    /// LZ4 as `LZ4_compress_default` of 1.10.0 packs (crates lz4 1.28.1, lz4-sys 1.11.1), one block.
    Lz4V1,
    /// Snappy as libraries from 1.2 on pack at level 1. By this program's own code.
    SnappyV2,
    /// The same by libraries that were built to use the processor's instruction for CRC32.
    SnappyV3,
}

impl Packer {
    /// Every packer, in the order of their numbers.
    pub const ALL: [Packer; 4] =
        [Packer::SnappyV1, Packer::Lz4V1, Packer::SnappyV2, Packer::SnappyV3];

    /// Returns the number that stands in recipes.
    pub fn number(self) -> u8 {
        match self {
            Packer::SnappyV1 => 1,
            Packer::Lz4V1 => 2,
            Packer::SnappyV2 => 3,
            Packer::SnappyV3 => 4,
        }
    }

    /// Returns the packer with a number; `None` for those that this program does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        Packer::ALL.into_iter().find(|packer| packer.number() == number)
    }

    /// Returns the name that stands in snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Packer::SnappyV1 => "snappy-1",
            Packer::Lz4V1 => "lz4-1",
            Packer::SnappyV2 => "snappy-2",
            Packer::SnappyV3 => "snappy-3",
        }
    }

    /// Returns the packer with a name; `None` for those that this program does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Packer::ALL.into_iter().find(|packer| packer.name() == name)
    }

    /// Returns what unpacks its payloads.
    pub fn packing(self) -> Packing {
        match self {
            Packer::SnappyV1 | Packer::SnappyV2 | Packer::SnappyV3 => Packing::Snappy,
            Packer::Lz4V1 => Packing::Lz4,
        }
    }

    /// Returns the packers of a packing, the most likely first: one of them may have written a
    /// payload, or none.
    pub fn all_of(packing: Packing) -> &'static [Packer] {
        match packing {
            Packing::Snappy => &[Packer::SnappyV1, Packer::SnappyV2, Packer::SnappyV3],
            Packing::Lz4 => &[Packer::Lz4V1],
        }
    }
}

/// Packs what slots hold. The seam where tests put a packer that lies.
pub trait Pack: Send + Sync {
    /// Makes `out` the payload that `packer` gives for `unpacked`. Returns whether it could: at most
    /// [`UNPACKED_BYTES_MAX`] bytes are packed. What `out` holds otherwise is of no meaning.
    fn pack(&self, packer: Packer, unpacked: &[u8], out: &mut Vec<u8>) -> bool;

    /// Returns whether [`Pack::pack`] makes just `payload`, which is known to unpack to `unpacked`.
    /// What `scratch` holds after is of no meaning.
    fn gives(
        &self,
        packer: Packer,
        unpacked: &[u8],
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> bool {
        self.pack(packer, unpacked, scratch) && scratch == payload
    }
}

/// The packers themselves. Each thread that uses them keeps some 5 MB of working memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packers;

impl Pack for Packers {
    fn pack(&self, packer: Packer, unpacked: &[u8], out: &mut Vec<u8>) -> bool {
        if unpacked.len() > UNPACKED_BYTES_MAX {
            return false;
        }
        match packer {
            Packer::SnappyV1 => snappy::pack(unpacked, out),
            Packer::Lz4V1 => lz4_block::pack(unpacked, out),
            Packer::SnappyV2 => snappy_newer::pack::<snappy_newer::Product>(unpacked, out),
            Packer::SnappyV3 => snappy_newer::pack::<snappy_newer::Crc>(unpacked, out),
        }
    }

    fn gives(
        &self,
        packer: Packer,
        unpacked: &[u8],
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> bool {
        match packer {
            Packer::SnappyV1 => {
                unpacked.len() <= UNPACKED_BYTES_MAX && snappy_check::gives(unpacked, payload)
            }
            _ => self.pack(packer, unpacked, scratch) && scratch == payload,
        }
    }
}

/// Gives `out` a length that was checked, and no more memory than that: growing by itself it would
/// double what another slot left it with.
fn resize(out: &mut Vec<u8>, length: usize) {
    out.reserve_exact(length.saturating_sub(out.len()));
    out.resize(length, 0);
}

/// Makes `out` what `payload` unpacks to: at most [`UNPACKED_BYTES_MAX`] bytes, which is also all the
/// memory it takes, whatever the payload says. A buffer that is handed in again is not cleared.
///
/// Fails with what does not hold; `out` is empty then.
pub fn unpack(packing: Packing, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let unpacked = if payload.len() as u64 > SLOT_BYTES_MAX {
        Err(format!("at most {SLOT_BYTES_MAX} bytes expected, found {}", payload.len()))
    } else {
        match packing {
            Packing::Snappy => snappy::unpack(payload, out),
            Packing::Lz4 => lz4_block::unpack(payload, out),
        }
    };
    match unpacked {
        Ok(length) => out.truncate(length),
        Err(_) => out.clear(),
    }
    unpacked.map(|_| ())
}

/// Makes `out` what a slot holds whose checksum was verified: a server cannot read one that does not
/// unpack to 1 byte to 4 MiB. `number` and `offset` say where it is, for the damage.
pub fn unpack_slot(
    slot: &[u8],
    number: u64,
    offset: u64,
    out: &mut Vec<u8>,
) -> Result<(), Box<Damage>> {
    out.clear();
    let unpacked = match SlotHead::decode(slot) {
        None => Err("it has no head".to_owned()),
        Some(head) => match (Packing::of_signature(head.signature), head.payload_end(slot.len())) {
            (Some(packing), Some(end)) => unpack(packing, &slot[SLOT_HEAD_BYTES..end], out),
            _ => Err("its head does not hold".to_owned()),
        },
    };
    let problem = match unpacked {
        Ok(()) if !out.is_empty() => return Ok(()),
        Ok(()) => "it is empty".to_owned(),
        Err(problem) => problem,
    };
    Err(Box::new(Damage {
        what: "payload".to_owned(),
        slot: Some(number),
        offset,
        expected: "1 byte to 4 MiB when unpacked".to_owned(),
        found: format!("it cannot be unpacked: {problem}"),
    }))
}

#[cfg(test)]
mod tests;
