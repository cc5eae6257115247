//! Segment files with a header: its fields, every slot, the tail.

use super::{Filler, Inspection, SegmentContents, Slot, are_zeros};
use crate::columnstore::SegmentPath;
use crate::columnstore::segment::{
    Packing, SLOT_HEAD_BYTES, Segment, SlotHead, SlotState, checksum, verify_slot,
};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::FindingKind;
use crate::packer::unpack_slot;

impl Inspection<'_> {
    pub(super) fn segment(
        &mut self,
        place: Option<SegmentPath>,
        first: &[u8],
    ) -> Result<SegmentContents> {
        let size = self.file.size();
        let segment = Segment::read(first, size, |length| self.file.read(0, length))?;
        let segment = segment.unwrap_or_default();
        for fault in &segment.faults {
            self.damaged(FindingKind::DamagedHeader, fault);
        }
        let slots_total = segment.slots();
        if let Some(slot) = self.options.slot.filter(|slot| *slot >= slots_total) {
            let object = format!("slot {slot} of {}", self.object);
            let problem = match slots_total {
                0 => "a file with slots expected, found none".to_owned(),
                total => format!("a number below {total} expected"),
            };
            return Err(Error::new(ErrorKind::Invalid, object, problem));
        }
        let mut unpacked = Vec::new();
        let mut contents = SegmentContents {
            place,
            header: segment.header,
            slots_total,
            slots: Vec::new(),
            tail: None,
        };
        let bounds = segment.bounds.windows(2).zip(0..);
        for (bounds, number) in bounds {
            if self.options.slot.is_none_or(|wanted| wanted == number) {
                let slot = self.slot(number, bounds, segment.packing, &mut unpacked)?;
                contents.slots.push(slot);
            }
        }
        if let Some(end) = segment.bounds.last().filter(|end| **end < size) {
            contents.tail = Some(self.filler(*end, size)?);
        }
        Ok(contents)
    }

    fn slot(
        &mut self,
        number: u64,
        bounds: &[u64],
        packing: Option<Packing>,
        unpacked: &mut Vec<u8>,
    ) -> Result<Slot> {
        let (offset, length) = (bounds[0], bounds[1] - bounds[0]);
        let bytes = self.read(offset, length)?;
        let head = SlotHead::decode(&bytes);
        let head = head.unwrap_or(SlotHead { signature: 0, checksum: 0, length: 0 });
        let payload_end = head.payload_end(bytes.len());
        let state = verify_slot(&bytes, number, offset, packing);
        let computed = match &state {
            SlotState::Holds => Some(head.checksum),
            _ => payload_end.map(|end| checksum(&bytes[SLOT_HEAD_BYTES..end])),
        };
        let padding = payload_end.map(|end| Filler {
            bytes: (bytes.len() - end) as u64,
            is_zeros: are_zeros(&bytes[end..]),
        });
        let damage = match state {
            SlotState::Damaged(damage) => Some(damage),
            SlotState::Holds => {
                unpack_slot(&bytes, number, offset, unpacked).err().map(|damage| *damage)
            }
            SlotState::NotVerifiable => None,
        };
        if let Some(damage) = &damage {
            self.damaged(FindingKind::DamagedSlot, damage);
        }
        Ok(Slot {
            number,
            offset,
            length,
            signature: head.signature,
            payload: head.length,
            stored: head.checksum,
            computed,
            padding,
            damage,
        })
    }
}
