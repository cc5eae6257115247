//! Segment files: the header, slots behind it, and what happens to them (`we_chunkmanager.cpp`).

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::place::Place;
use super::schema::BLOCK;
use super::slot::{CHUNK, Packer, slot_bytes, unpack};

const MAGIC: u64 = 0xfdc1_19a3_84d0_778e;
const VERSION: u64 = 3;
const CONTROL: usize = 4096;
const POINTERS_AT: u64 = 4096;

/// The header of a segment file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    /// 2 Snappy, 3 LZ4; dictionaries packed with Snappy say 1.
    pub compression: u64,
    /// Control block and pointers.
    pub bytes: usize,
    pub blocks: u64,
    pub width: u64,
    pub data_type: u32,
    pub lbids: Vec<u64>,
    /// Where slots begin; the last is the end of the file.
    pub pointers: Vec<u64>,
}

/// Returns the header bytes of a file: dictionaries of long strings have room for more pointers
/// (`ChunkManager::calculateHeaderSize`).
pub(super) fn header_bytes(declared_width: usize) -> usize {
    let mut units = 1;
    if declared_width > 8 {
        let strings_in_block = (8180 / (declared_width as u64 + 2)).max(1);
        let blocks = (2u64 * (8 << 20)) / strings_in_block;
        let chunks = blocks.div_ceil((CHUNK / BLOCK) as u64);
        units = chunks.div_ceil(512);
        if units.is_multiple_of(2) {
            units += 1;
        }
    }
    CONTROL + 4096 * units as usize
}

impl Header {
    fn control(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CONTROL);
        let numbers =
            [MAGIC, VERSION, self.compression, self.bytes as u64, self.blocks, self.width];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(&self.data_type.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.lbids.len() as u64).to_le_bytes());
        self.lbids.iter().for_each(|lbid| out.extend_from_slice(&lbid.to_le_bytes()));
        out.resize(CONTROL, 0);
        out
    }

    fn pointer_section(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self.pointers.iter().flat_map(|at| at.to_le_bytes()).collect();
        out.resize(self.bytes - CONTROL, 0);
        out
    }

    /// Reads the pointers of a file that was made here.
    pub fn pointers(file: &File) -> Result<Vec<u64>> {
        let mut control = [0; 64];
        file.read_exact_at(&mut control, 0)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&control[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let bytes = number(24);
        if number(0) != MAGIC || !(8192..1 << 20).contains(&bytes) {
            return Err(Error::new(ErrorKind::InvalidData, "not a compressed segment file"));
        }
        let mut section = vec![0; bytes as usize - CONTROL];
        file.read_exact_at(&mut section, POINTERS_AT)?;
        let pointers = section.as_chunks().0.iter().map(|at| u64::from_le_bytes(*at));
        Ok(pointers.take_while(|at| *at != 0).collect())
    }

    /// Writes the slots from number `from` on and the header. `fill` gives a chunk its bytes; it gets
    /// what the chunk held before, if it was there, and is called in order.
    pub fn write(
        mut self,
        place: &Place,
        path: &Path,
        from: usize,
        chunks: usize,
        packer: &mut Packer,
        fill: &mut dyn FnMut(usize, &mut Vec<u8>) -> Result<()>,
    ) -> Result<u64> {
        let (file, old) = if from > 0 || path.exists() {
            let file = place.open(path)?;
            let old = Self::pointers(&file)?;
            (file, old)
        } else {
            (place.create(path, 0o644)?, vec![self.bytes as u64])
        };
        let from = from.min(old.len() - 1);
        self.pointers = old[..=from].to_vec();
        let mut raw = Vec::new();
        for number in from..chunks {
            let at = self.pointers[number];
            let old_bytes = old.get(number + 1).map_or(0, |next| (next - at) as usize);
            raw.clear();
            if old_bytes > 0 {
                let mut slot = vec![0; old_bytes];
                file.read_exact_at(&mut slot, at)?;
                raw = unpack(&slot)?;
            }
            fill(number, &mut raw)?;
            let packed = packer.pack(&raw)?;
            let bytes = slot_bytes(packed.len());
            if bytes > old_bytes {
                let mut slot = packed.to_vec();
                slot.resize(bytes, 0);
                file.write_all_at(&slot, at)?;
            } else {
                file.write_all_at(packed, at)?;
            }
            self.pointers.push(at + bytes.max(old_bytes) as u64);
        }
        // What did not change in the control block is not written either.
        let control = self.control();
        let mut old_control = vec![0; CONTROL];
        if from == 0 || file.read_exact_at(&mut old_control, 0).is_err() || old_control != control {
            file.write_all_at(&control, 0)?;
        }
        file.write_all_at(&self.pointer_section(), POINTERS_AT)?;
        place.done(&file, path)?;
        Ok(self.pointers[chunks])
    }
}

/// What a change of slots did to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patched {
    pub slots: u64,
    /// A slot no longer fitted, and the file was written anew.
    pub rewritten: bool,
}

/// Changes chunks where they stand: a slot that fits is packed into its place, and what is left of
/// the former payload stays behind it; when one does not fit, the whole file is written anew and
/// later slots shift.
pub(super) fn patch(
    place: &Place,
    path: &Path,
    chunks: &[usize],
    packer: &mut Packer,
    change: &mut dyn FnMut(usize, &mut [u8]),
) -> Result<Patched> {
    let file = place.open(path)?;
    let pointers = Header::pointers(&file)?;
    let mut patched = Patched::default();
    let mut outgrown = None;
    for (done, number) in chunks.iter().enumerate() {
        let (at, bytes) = slot_place(&pointers, *number)?;
        let mut slot = vec![0; bytes];
        file.read_exact_at(&mut slot, at)?;
        let mut raw = unpack(&slot)?;
        change(*number, &mut raw);
        let packed = packer.pack(&raw)?;
        patched.slots += 1;
        if packed.len() > bytes {
            outgrown = Some((done, packed.to_vec()));
            break;
        }
        file.write_all_at(packed, at)?;
    }
    place.done(&file, path)?;
    let Some((done, first)) = outgrown else { return Ok(patched) };
    // From here on every slot is copied to a new file; those still to be changed on the way.
    let mut name = path.to_owned().into_os_string();
    name.push(".rlc");
    let new_path = Path::new(&name);
    let new = place.create(new_path, 0o644)?;
    let mut header = vec![0; pointers[0] as usize];
    file.read_exact_at(&mut header, 0)?;
    let mut at = pointers[0];
    let mut new_pointers = vec![at];
    for number in 0..pointers.len() - 1 {
        let (old_at, bytes) = slot_place(&pointers, number)?;
        let mut slot = vec![0; bytes];
        file.read_exact_at(&mut slot, old_at)?;
        if number == chunks[done] {
            grow(&mut slot, &first);
        } else if chunks[done + 1..].contains(&number) {
            let mut raw = unpack(&slot)?;
            change(number, &mut raw);
            patched.slots += 1;
            grow(&mut slot, packer.pack(&raw)?);
        }
        new.write_all_at(&slot, at)?;
        at += slot.len() as u64;
        new_pointers.push(at);
    }
    for (number, pointer) in new_pointers.iter().enumerate() {
        let to = CONTROL + 8 * number;
        header[to..to + 8].copy_from_slice(&pointer.to_le_bytes());
    }
    new.write_all_at(&header, 0)?;
    place.done(&new, path)?;
    place.swap(new_path, path)?;
    patched.rewritten = true;
    Ok(patched)
}

fn slot_place(pointers: &[u64], number: usize) -> Result<(u64, usize)> {
    match (pointers.get(number), pointers.get(number + 1)) {
        (Some(at), Some(next)) => Ok((*at, (next - at) as usize)),
        _ => Err(Error::new(ErrorKind::InvalidData, format!("no slot {number} in the file"))),
    }
}

/// Puts packed bytes into a slot; a slot that is too short is made anew, with its padding.
fn grow(slot: &mut Vec<u8>, packed: &[u8]) {
    if packed.len() > slot.len() {
        slot.clear();
        slot.extend_from_slice(packed);
        slot.resize(slot_bytes(packed.len()), 0);
    } else {
        slot[..packed.len()].copy_from_slice(packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As seen in files of a server.
    #[test]
    fn headers_of_dictionaries_have_room_for_long_strings() {
        let seen = [(25, 8192), (44, 8192), (79, 8192), (200, 16384), (400, 24576)];
        for (width, bytes) in seen {
            assert_eq!(header_bytes(width), bytes, "{width}");
        }
    }
}
