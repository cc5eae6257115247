//! From a recipe back to the packed slot.
//!
//! The blocks are packed again; that the result is the slot, byte for byte, is told by the recipe's
//! id. Should a packer ever give other bytes than it gave when the slot was stored, the slot is
//! written as another packing of the same content, which a server reads as well as the first, and
//! whoever asked is told. That it is the same content is told by the ids of the blocks.

mod parts;

use std::cell::RefCell;

use crate::columnstore::segment::{SLOT_BYTES_MAX, SLOT_HEAD_BYTES, checksum};
use crate::error::{Error, ErrorKind, Result};
use crate::format::extent::Extent;
use crate::format::recipe::{Recipe, UNPACKED_BYTES_MAX};
use crate::id::{ChunkId, IdKey};
use crate::packer::{Pack, Packer, unpack};
pub use parts::{Buffers, KeptPart, Part, SlotParts};

/// What came of following a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// The packed slot as it was.
    Same,
    /// A packed slot of the same length that holds the same, packed otherwise; the text says how.
    Otherwise(String),
}

/// What a thread keeps from slot to slot: fresh memory costs page faults.
#[derive(Default)]
struct Kept {
    payload: Vec<u8>,
    again: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
    static CONTENT: RefCell<Vec<u8>> = RefCell::default();
}

/// Fills `out` with the packed slot `id` that `recipe` makes. `fetch` fills a buffer with the verified
/// raw bytes of a chunk.
///
/// Fails with what `fetch` fails with, `Unsupported` for an unknown packer, and `Corrupt` when the
/// blocks are not what the slot holds or no packer gives a slot that fits. Cost: the blocks, one packing, one hash of the slot.
pub fn rebuild(
    id: ChunkId,
    recipe: &Recipe,
    key: &IdKey,
    packers: &dyn Pack,
    fetch: &mut dyn FnMut(ChunkId, &mut [u8]) -> Result<()>,
    out: &mut Vec<u8>,
) -> Result<Rebuilt> {
    known_packer(id, recipe.packer)?;
    let (unpacked_length, padding_length) = lengths(id, recipe)?;
    CONTENT.with_borrow_mut(|content| {
        resize(content, unpacked_length + padding_length);
        let (unpacked, padding) = content.split_at_mut(unpacked_length);
        fill(&recipe.blocks, unpacked, fetch)?;
        fill(&recipe.padding, padding, fetch)?;
        pack_again(id, recipe, key, packers, unpacked, padding, out)
    })
}

/// Fills `out` with the packed slot `id`, of which the unpacked bytes and the padding are there, as
/// long as `recipe` says.
///
/// Fails as [`rebuild`]. Cost: one packing, one hash of the slot.
pub fn pack_again(
    id: ChunkId,
    recipe: &Recipe,
    key: &IdKey,
    packers: &dyn Pack,
    unpacked: &[u8],
    padding: &[u8],
    out: &mut Vec<u8>,
) -> Result<Rebuilt> {
    let packer = known_packer(id, recipe.packer)?;
    let payload_length = recipe.payload_length as usize;
    let length = SLOT_HEAD_BYTES + payload_length + padding.len();
    resize(out, length);
    KEPT.with_borrow_mut(|Kept { payload, again }| {
        let packed = packers.pack(packer, unpacked, payload);
        if packed && payload.len() == payload_length {
            write_payload(packer, payload, out);
            out[SLOT_HEAD_BYTES + payload_length..].copy_from_slice(padding);
            if key.chunk_id(out) == id {
                return Ok(Rebuilt::Same);
            }
        }
        if !holds(recipe, unpacked, key) {
            let problem = "its blocks are not what the slot holds";
            return Err(Error::corrupt(format!("recipe {id}"), problem));
        }
        let others = Packer::all_of(packer.packing()).iter().filter(|other| **other != packer);
        for other in std::iter::once(&packer).chain(others) {
            let fits = packers.pack(*other, unpacked, payload)
                && payload.len() <= length - SLOT_HEAD_BYTES
                && unpack(packer.packing(), payload, again).is_ok()
                && again == unpacked;
            if fits {
                write_payload(*other, payload, out);
                out[SLOT_HEAD_BYTES + payload.len()..].fill(0);
                return Ok(Rebuilt::Otherwise(format!(
                    "{payload_length} bytes of payload were stored, the packer {} gives {} now; they \
                     hold the same",
                    other.name(),
                    payload.len()
                )));
            }
        }
        let problem = format!("no packer gives a slot that fits {length} bytes");
        Err(Error::corrupt(format!("recipe {id}"), problem))
    })
}

/// Returns how many bytes are packed, and how many follow the payload.
///
/// Fails with `Corrupt` for a slot longer than any that is stored, before memory is taken for it.
fn lengths(id: ChunkId, recipe: &Recipe) -> Result<(usize, usize)> {
    let (unpacked, slot) = (recipe.unpacked_length(), recipe.slot_length());
    if unpacked > UNPACKED_BYTES_MAX.into() || slot > SLOT_BYTES_MAX {
        let problem = format!(
            "at most {UNPACKED_BYTES_MAX} bytes packed to {SLOT_BYTES_MAX} expected, found \
             {unpacked} packed to {slot}"
        );
        return Err(Error::corrupt(format!("recipe {id}"), problem));
    }
    let padding = slot - SLOT_HEAD_BYTES as u64 - u64::from(recipe.payload_length);
    Ok((unpacked as usize, padding as usize))
}

/// Fails with `Unsupported` when a snapshot needs a packer that this program does not know: asked
/// before any of its content is written.
pub fn refuse_unknown_packers(object: &str, packers: &[String]) -> Result<()> {
    match packers.iter().find(|name| Packer::from_name(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("it needs the slot packer {name:?}, which this program lacks");
            Err(Error::new(ErrorKind::Unsupported, object, problem))
        }
    }
}

/// Returns the packer of a recipe.
///
/// Fails with `Unsupported` for one that this program does not know.
pub fn known_packer(id: ChunkId, number: u8) -> Result<Packer> {
    Packer::from_number(number).ok_or_else(|| {
        let problem = format!("a slot packer this program knows expected, found number {number}");
        Error::new(ErrorKind::Unsupported, format!("recipe {id}"), problem)
    })
}

fn resize(buffer: &mut Vec<u8>, length: usize) {
    buffer.truncate(length);
    buffer.resize(length, 0);
}

/// Returns whether unpacked bytes, as long as the recipe says, are those of its blocks, one after the
/// other: each was verified when it was read, but not where it was put.
fn holds(recipe: &Recipe, unpacked: &[u8], key: &IdKey) -> bool {
    let mut rest = unpacked;
    recipe.blocks.iter().all(|extent| {
        let (block, behind) = rest.split_at((extent.length() as usize).min(rest.len()));
        rest = behind;
        match extent {
            Extent::Chunk { id, .. } => key.chunk_id(block) == *id,
            _ => block.iter().all(|byte| *byte == 0),
        }
    })
}

/// Writes head and payload of a slot.
fn write_payload(packer: Packer, payload: &[u8], slot: &mut [u8]) {
    let length = u32::try_from(payload.len()).expect("a payload is shorter than its slot");
    slot[0] = packer.packing().signature();
    slot[1..5].copy_from_slice(&checksum(payload).to_le_bytes());
    slot[5..9].copy_from_slice(&length.to_le_bytes());
    slot[SLOT_HEAD_BYTES..][..payload.len()].copy_from_slice(payload);
}

/// Fills a buffer with what extents stand for: chunks and zeros.
fn fill(
    extents: &[Extent],
    out: &mut [u8],
    fetch: &mut dyn FnMut(ChunkId, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let mut rest = out;
    for extent in extents {
        let length = usize::try_from(extent.length()).unwrap_or(usize::MAX).min(rest.len());
        let (part, behind) = rest.split_at_mut(length);
        match extent {
            Extent::Chunk { id, .. } => fetch(*id, part)?,
            _ => part.fill(0),
        }
        rest = behind;
    }
    Ok(())
}
