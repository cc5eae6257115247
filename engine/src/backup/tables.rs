//! Names of tables and columns: read back from the catalog that was just stored, and kept with the
//! snapshot.

use crate::compress::Compression;
use crate::error::Result;
use crate::format::ChunkKind;
use crate::format::snapshot::Snapshot;
use crate::id::SessionId;
use crate::manifest::MetaStore;
use crate::names::{Names, is_unreadable};
use crate::pipeline::{StoreOptions, store_chunks};
use crate::progress::{Event, Observer};
use crate::repository::Repository;

/// Names of a snapshot's facts: why it has no names, and how many rows of the catalog have none.
const NAMES_FACT: &str = "names_unread";
const ROWS_FACT: &str = "catalog_rows_unread";

/// Adds the names to a snapshot that is about to be committed and whose content is durable. Chunks that
/// are known are not stored again, and nothing is written when all are.
///
/// A catalog that cannot be read is a fact of the snapshot, which restores without it.
pub(super) fn name(
    repository: &Repository,
    session: SessionId,
    snapshot: &mut Snapshot,
    observer: &dyn Observer,
) -> Result<()> {
    let names = match Names::load(repository, snapshot) {
        Ok(Some(names)) => names,
        Ok(None) => return Ok(()),
        Err(error) if is_unreadable(&error) => {
            // What is wrong with the files is for the proof of the snapshot to say.
            snapshot.facts.insert(NAMES_FACT.to_owned(), error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if names.unreadable_rows > 0 {
        let rows = names.unreadable_rows.to_string();
        observer.event(Event::Warning(&format!(
            "{rows} rows of the system catalog cannot be read: what belongs to them may have no name"
        )));
        snapshot.facts.insert(ROWS_FACT.to_owned(), rows);
    }
    let chunks = names.encode();
    let key = repository.id_key();
    snapshot.names = chunks.iter().map(|raw| key.chunk_id(raw)).collect();
    let mut is_known = true;
    for id in &snapshot.names {
        is_known = is_known && repository.index().find(*id, ChunkKind::Meta)?.is_some();
    }
    if is_known {
        return Ok(());
    }
    let options = StoreOptions { dry_run: false, lanes: 1, compression: Compression::Default };
    let ((), stored) = store_chunks(repository, session, options, observer, |store| {
        chunks.iter().try_for_each(|raw| store.store_meta(raw).map(drop))
    })?;
    let stats = &mut snapshot.stats;
    stats.meta_chunks += stored.meta_chunks;
    stats.data_added += stored.added_raw;
    stats.data_added_packed += stored.added_stored;
    stats.packs += stored.packs;
    stats.indexes += stored.indexes;
    Ok(())
}
