//! From a recipe back to the packed slot.
//!
//! The blocks are packed again; that the result is the slot, byte for byte, is told by the recipe's
//! id. Should a packer ever give other bytes than it gave when the slot was stored, the slot is
//! written as another packing of the same content, which a server reads as well as the first, and
//! whoever asked is told.

use std::cell::RefCell;

use crate::columnstore::segment::{SLOT_HEAD_BYTES, checksum};
use crate::error::{Error, ErrorKind, Result};
use crate::format::extent::Extent;
use crate::format::recipe::{Recipe, UNPACKED_BYTES_MAX};
use crate::id::{ChunkId, IdKey};
use crate::packer::{Pack, Packer, unpack};

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
    unpacked: Vec<u8>,
    payload: Vec<u8>,
    again: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Fills `out` with the packed slot `id` that `recipe` makes. `fetch` fills a buffer with the verified
/// raw bytes of a chunk.
///
/// Fails with what `fetch` fails with, `Unsupported` for an unknown packer, and `Corrupt` when no
/// packer gives a slot that fits. Cost: the blocks, one packing, one hash of the slot.
pub fn rebuild(
    id: ChunkId,
    recipe: &Recipe,
    key: &IdKey,
    packers: &dyn Pack,
    fetch: &mut dyn FnMut(ChunkId, &mut [u8]) -> Result<()>,
    out: &mut Vec<u8>,
) -> Result<Rebuilt> {
    let packer = known_packer(id, recipe.packer)?;
    let length = usize::try_from(recipe.slot_length()).unwrap_or(usize::MAX);
    let payload_length = recipe.payload_length as usize;
    KEPT.with_borrow_mut(|Kept { unpacked, payload, again }| {
        resize(unpacked, recipe.unpacked_length().min(UNPACKED_BYTES_MAX.into()) as usize);
        fill(&recipe.blocks, unpacked, fetch)?;
        resize(out, length);
        let packed = packers.pack(packer, unpacked, payload);
        if packed && payload.len() == payload_length {
            write_payload(packer, payload, out);
            fill(&recipe.padding, &mut out[SLOT_HEAD_BYTES + payload_length..], fetch)?;
            if key.chunk_id(out) == id {
                return Ok(Rebuilt::Same);
            }
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
