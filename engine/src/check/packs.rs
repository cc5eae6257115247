//! Reading packs: their trailers, or all of them; and with all of them, packing every slot again.
//!
//! A slot is packed while the pack is in memory in which most of it lies, so that of what a store sends
//! little is asked for twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::{CheckOptions, Checker, SeenSlot};
use crate::backend::{Key, is_unanswered};
use crate::compress::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind};
use crate::format::ChunkKind;
use crate::format::index::IndexedPack;
use crate::format::pack::{Place, with_offsets};
use crate::format::recipe::{CODEC_RECIPE, Recipe};
use crate::id::{ChunkId, PackId, hash_stored};
use crate::index::{KnownPack, Location};
use crate::pack::{self, PackBytes, PackRange, stretches};
use crate::progress::Event;
use crate::recipe::{Rebuilt, rebuild};
use crate::repository::Repository;

thread_local! {
    /// What a thread keeps from slot to slot: fresh memory costs page faults.
    static KEPT: RefCell<(Decompressor, Vec<u8>)> =
        RefCell::new((Decompressor::new(), Vec::new()));
}

impl Checker<'_> {
    fn pool(&self, threads: usize) -> Result<rayon::ThreadPool> {
        rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build().map_err(|error| {
            Error::new(ErrorKind::Io, "threads", "cannot be started").caused_by(error)
        })
    }

    /// Returns the slots that were seen by the pack in which most of them lies; those whose recipe cannot
    /// be read under none.
    fn slots_by_home(&mut self) -> Result<HashMap<Option<PackId>, Vec<SeenSlot>>> {
        let repository = self.repository;
        let slots = std::mem::take(&mut self.slots);
        let home = |slot: &SeenSlot| home(repository, slot);
        let homes: Vec<Option<PackId>> =
            self.pool(self.options.threads)?.install(|| slots.par_iter().map(home).collect());
        let mut by_home: HashMap<Option<PackId>, Vec<SeenSlot>> = HashMap::new();
        for (slot, home) in slots.into_iter().zip(homes) {
            by_home.entry(home).or_default().push(slot);
        }
        Ok(by_home)
    }

    /// Packs slots again, as a restore would, whose packs were not read.
    fn pack_slots(&mut self, mut slots: Vec<SeenSlot>) -> Result<()> {
        slots.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
        let bytes = slots.iter().map(|slot| u64::from(slot.length)).sum();
        self.observer.event(Event::Expected { entries: slots.len() as u64, bytes });
        let (repository, options, observer) = (self.repository, self.options, self.observer);
        let pack = |slot: &SeenSlot| {
            options.cancel.check()?;
            let recipe = repository.read_recipe(slot.id, slot.length);
            let finding = pack_slot(repository, options, slot, recipe, &AtHand::default())?;
            observer.event(Event::Done { entries: 1, bytes: slot.length.into() });
            Ok(finding)
        };
        let packed: Vec<Result<Option<Finding>>> =
            self.pool(options.threads)?.install(|| slots.par_iter().map(pack).collect());
        for finding in packed {
            self.report.slots_packed += 1;
            finding?.into_iter().for_each(|finding| self.push(finding));
        }
        Ok(())
    }

    pub(super) fn read_packs(&mut self, packs: &[KnownPack]) -> Result<()> {
        let share = self.options.read_data_percent.unwrap_or(0.0).clamp(0.0, 100.0);
        // A sample is at least one pack, spread evenly over them all from a random one on.
        let wanted = (packs.len() as f64 * share / 100.0).ceil() as usize;
        let start = usize::from(u16::from_le_bytes(crate::id::random()));
        let sample: HashSet<usize> =
            (0..wanted).map(|n| (start + n * packs.len() / wanted) % packs.len()).collect();
        let whole = |n: usize| sample.contains(&n);
        // Trailers are short, and whoever reads them from a store waits; of whole packs the next comes while
        // one is worked through.
        let threads = match self.repository.backend().reads_at_once() {
            Some(at_once) if wanted == 0 => at_once,
            Some(_) => self.options.threads * 2,
            None => self.options.threads,
        };
        let mut slots = if self.reads_all() { self.slots_by_home()? } else { HashMap::new() };
        let chosen: Vec<(&KnownPack, bool)> = packs
            .iter()
            .enumerate()
            .map(|(n, pack)| (pack, whole(n)))
            .filter(|(_, whole)| *whole || self.options.read_trailers)
            .collect();
        let bytes = chosen.iter().filter(|(_, whole)| *whole).map(|(pack, _)| pack.bytes).sum();
        self.observer.event(Event::Expected { entries: chosen.len() as u64, bytes });
        let (repository, options, observer) = (self.repository, self.options, self.observer);
        let read = |(pack, whole): &(&KnownPack, bool)| {
            options.cancel.check()?;
            let of_it = slots.get(&Some(pack.id)).map_or(&[][..], Vec::as_slice);
            let read = read_pack(repository, options, pack, *whole, of_it)?;
            observer.event(Event::Done { entries: 1, bytes: read.bytes });
            Ok(read)
        };
        let results: Vec<Result<PackRead>> =
            self.pool(threads)?.install(|| chosen.par_iter().map(read).collect());
        for (result, (pack, _)) in results.into_iter().zip(&chosen) {
            let read = result?;
            self.report.bytes_read += read.bytes;
            self.report.packs_read += u64::from(read.whole);
            if read.whole {
                let packed = slots.remove(&Some(pack.id)).unwrap_or_default();
                self.report.slots_packed += packed.len() as u64;
            }
            read.findings.into_iter().for_each(|finding| self.push(finding));
        }
        let left: Vec<SeenSlot> = slots.into_values().flatten().collect();
        if !left.is_empty() {
            observer.event(Event::Stage("packing slots"));
            self.pack_slots(left)?;
        }
        Ok(())
    }
}

/// Returns the pack in which most of a slot lies.
fn home(repository: &Repository, slot: &SeenSlot) -> Option<PackId> {
    let recipe = repository.read_recipe(slot.id, slot.length).ok()?;
    let find = |chunk| repository.index().find(chunk, ChunkKind::Data).ok().flatten();
    pack::home(recipe.chunks().map(find).collect::<Option<Vec<Location>>>()?)
}

/// Stored chunks that are at hand: of a pack, and pieces of others.
#[derive(Default)]
struct AtHand<'p> {
    pack: Option<&'p PackBytes>,
    others: HashMap<ChunkId, (Location, Arc<PackBytes>)>,
}

impl<'p> AtHand<'p> {
    /// Has at hand what recipes need of whose slots most lies in a pack: of a store, what lies elsewhere is asked
    /// for here, neighbours at once. What cannot be had is missed later.
    fn for_recipes(
        repository: &Repository,
        bytes: &'p PackBytes,
        recipes: &[Result<Recipe>],
    ) -> Result<Self> {
        let mut at_hand = AtHand { pack: Some(bytes), others: HashMap::new() };
        let backend = repository.backend();
        if backend.reads_at_once().is_none() {
            return Ok(at_hand);
        }
        let mut wanted: BTreeMap<(PackId, u32), (ChunkId, Location)> = BTreeMap::new();
        for chunk in recipes.iter().flatten().flat_map(Recipe::chunks) {
            let location = repository.index().find(chunk, ChunkKind::Data)?;
            if let Some(location) = location.filter(|location| bytes.get(location).is_none()) {
                wanted.insert((location.pack, location.offset), (chunk, location));
            }
        }
        for stretch in stretches(wanted.into_values().collect(), |(_, location)| location) {
            let place = PackRange::of(&stretch, |(_, location)| location);
            let read = place.and_then(|place| PackBytes::read(backend, &place).ok());
            let Some(read) = read.map(Arc::new) else { continue };
            let at_hand_now = |(chunk, location)| (chunk, (location, Arc::clone(&read)));
            at_hand.others.extend(stretch.into_iter().map(at_hand_now));
        }
        Ok(at_hand)
    }

    /// Opens a chunk. Returns whether it is at hand, and sound.
    fn open(
        &self,
        repository: &Repository,
        chunk: ChunkId,
        decompressor: &mut Decompressor,
        raw: &mut [u8],
    ) -> Result<bool> {
        let mut open = |location: &Location, bytes: &PackBytes| {
            location.raw_length as usize == raw.len()
                && bytes.get(location).is_some_and(|stored| {
                    repository.open_chunk_into(chunk, stored, location, decompressor, raw).is_ok()
                })
        };
        if let Some((location, bytes)) = self.others.get(&chunk) {
            return Ok(open(location, bytes));
        }
        let Some(bytes) = self.pack else { return Ok(false) };
        let locations = repository.index().locations(chunk, ChunkKind::Data)?;
        let here = locations.iter().find(|location| bytes.get(location).is_some());
        Ok(here.is_some_and(|location| open(location, bytes)))
    }
}

/// Packs a slot again, with what is at hand; returns what is wrong with it.
fn pack_slot(
    repository: &Repository,
    options: &CheckOptions,
    slot: &SeenSlot,
    recipe: Result<Recipe>,
    at_hand: &AtHand<'_>,
) -> Result<Option<Finding>> {
    let SeenSlot { id, length, path } = slot;
    let packed = recipe.and_then(|recipe| {
        KEPT.with_borrow_mut(|(decompressor, out)| {
            let fetch = &mut |chunk, raw: &mut [u8]| {
                if at_hand.open(repository, chunk, decompressor, raw)? {
                    return Ok(());
                }
                repository.read_chunk_into(chunk, ChunkKind::Data, decompressor, raw)
            };
            rebuild(*id, &recipe, repository.id_key(), options.packers, fetch, out)
        })
    });
    let (kind, detail) = match packed {
        Ok(Rebuilt::Same) => return Ok(None),
        Ok(Rebuilt::Otherwise(how)) => {
            (FindingKind::SlotPackedOtherwise, format!("slot {id} is packed otherwise: {how}"))
        }
        Err(error) => {
            let kind = repository.loss_kind(&error)?;
            (kind, format!("slot {id} of {length} bytes cannot be made: {error}"))
        }
    };
    Ok(Some(Finding::new(kind, &**path, detail)))
}

struct PackRead {
    bytes: u64,
    whole: bool,
    findings: Vec<Finding>,
}

/// Reads a pack's trailer, or all of it, and verifies what was read, and the slots that lie in it.
fn read_pack(
    repository: &Repository,
    options: &CheckOptions,
    pack: &KnownPack,
    whole: bool,
    slots: &[SeenSlot],
) -> Result<PackRead> {
    let key = Key::Pack(pack.id);
    let object = key.to_string();
    let mut read = PackRead { bytes: 0, whole, findings: Vec::new() };
    let outcome = match whole {
        true => read_whole(repository, pack, &mut read).and_then(|bytes| {
            let recipe = |slot: &SeenSlot| repository.read_recipe(slot.id, slot.length);
            let recipes: Vec<Result<Recipe>> = slots.iter().map(recipe).collect();
            let at_hand = AtHand::for_recipes(repository, &bytes, &recipes)?;
            for (slot, recipe) in slots.iter().zip(recipes) {
                options.cancel.check()?;
                read.findings.extend(pack_slot(repository, options, slot, recipe, &at_hand)?);
            }
            Ok(())
        }),
        false => read_trailer(repository, pack, &mut read).map(drop),
    };
    let is_read = outcome.is_ok();
    match outcome {
        Ok(()) => {}
        Err(error) if is_unanswered(repository.backend(), &error) => return Err(error),
        // What stands behind the error was not verified.
        Err(error) => match error.kind() {
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io | ErrorKind::Unsupported => {
                read.findings.push(Finding::new(
                    FindingKind::DamagedObject,
                    object,
                    error.repeat().problem().to_owned(),
                ));
            }
            _ => return Err(error),
        },
    }
    if whole && !is_read {
        (read.whole, read.bytes) = (false, 0);
    }
    Ok(read)
}

fn read_trailer(
    repository: &Repository,
    pack: &KnownPack,
    read: &mut PackRead,
) -> Result<Vec<Place>> {
    let found = pack::read_trailer(repository.backend(), pack.id, pack.bytes, repository.id())?;
    read.bytes += pack::trailer_bytes(found.places.len());
    same_as_index(repository, pack, found, read)
}

/// Returns the places of a pack's trailer, which should be those of the index.
fn same_as_index(
    repository: &Repository,
    pack: &KnownPack,
    found: IndexedPack,
    read: &mut PackRead,
) -> Result<Vec<Place>> {
    let object = Key::Pack(pack.id).to_string();
    if found.kind != pack.kind {
        return Err(Error::corrupt(
            object,
            format!("a {} expected, as the index says", pack.kind.pack().noun()),
        ));
    }
    compare_with_index(repository, pack, &found.places, &object, read)?;
    Ok(found.places)
}

/// Every chunk of a trailer is in the index, at this place.
fn compare_with_index(
    repository: &Repository,
    pack: &KnownPack,
    places: &[Place],
    object: &str,
    read: &mut PackRead,
) -> Result<()> {
    for (offset, place) in with_offsets(places) {
        let wanted = Location {
            pack: pack.id,
            offset,
            stored_length: place.stored_length,
            raw_length: place.raw_length,
        };
        if !repository.index().locations(place.id, pack.kind)?.contains(&wanted) {
            read.findings.push(Finding::new(
                FindingKind::DamagedObject,
                object,
                format!("the index does not name chunk {} at byte {offset} of it", place.id),
            ));
        }
    }
    Ok(())
}

/// Reads all of a pack, verifies its chunks and returns its bytes.
fn read_whole(repository: &Repository, pack: &KnownPack, read: &mut PackRead) -> Result<PackBytes> {
    let key = Key::Pack(pack.id);
    let bytes = repository.backend().get(&key, pack.bytes)?;
    if hash_stored(&[&bytes]) != pack.id.0 {
        read.findings.push(Finding::new(
            FindingKind::DamagedObject,
            key.to_string(),
            "the pack's bytes do not hash to its name",
        ));
    }
    let found = pack::trailer_of(&bytes, pack.id, repository.id())?;
    let places = same_as_index(repository, pack, found, read)?;
    read.bytes = pack.bytes;
    let mut decompressor = Decompressor::new();
    for (offset, place) in with_offsets(&places) {
        let at = offset as usize;
        let end = at + place.stored_length as usize;
        let location = Location {
            pack: pack.id,
            offset,
            stored_length: place.stored_length,
            raw_length: place.raw_length,
        };
        let stored = bytes.get(at..end).unwrap_or_default();
        let opened = match (pack.kind, stored.first()) {
            (ChunkKind::Meta, Some(&CODEC_RECIPE)) => {
                repository.open_recipe(place.id, stored, &location).map(drop)
            }
            _ => repository.open_chunk(place.id, stored, &location, &mut decompressor).map(drop),
        };
        match opened {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                read.findings.push(Finding::new(
                    FindingKind::DamagedChunk,
                    error.object().to_owned(),
                    error.problem().to_owned(),
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(PackBytes::new(pack.id, 0, bytes))
}
