//! Versions of objects: what was deleted or replaced in a bucket that keeps them.

use aws_sdk_s3::types::EncodingType;

use super::action::Action;
use super::get::Read;
use super::list::{Cursor, PAGE, check_whole, decode};
use super::request::{Asker, failed};
use crate::error::{Error, ErrorKind, Result};

/// A version of an object, or the mark of its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name, without the prefix.
    pub name: String,
    /// What the store calls the version.
    pub version: String,
    /// Whether it is what a read without a version finds.
    pub is_latest: bool,
    /// Whether it only says that the object was deleted.
    pub is_deletion: bool,
}

/// A page of versions.
pub(super) struct VersionPage {
    /// Of each name, from the latest to the oldest; deletions after everything else.
    pub(super) versions: Vec<Version>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Cursor>,
}

impl Asker {
    /// Returns a page of the versions of objects whose names begin with `start`.
    pub(super) async fn version_page(&self, start: &str, cursor: &Cursor) -> Result<VersionPage> {
        let prefix = self.key(start);
        let outcome = self.ask(Action::ListVersions, async |_| {
            let request = self.s3.list_object_versions().bucket(&self.options.bucket);
            let request = request
                .prefix(&prefix)
                .max_keys(PAGE)
                .encoding_type(EncodingType::Url)
                .set_key_marker(cursor.key.clone())
                .set_version_id_marker(cursor.version.clone());
            let page = Box::pin(request.send()).await.map_err(failed)?;
            check_whole(page.is_truncated, None, 0)?;
            Ok(page)
        });
        let page = outcome.await.result;
        let page = page.map_err(|failure| self.error(Action::ListVersions, start, &failure))?;
        let is_encoded = page.encoding_type == Some(EncodingType::Url);
        let plain = |key: &str| if is_encoded { decode(key) } else { key.to_owned() };
        let version = |key: Option<&str>, id: Option<&str>, latest, is_deletion| {
            let key = plain(key?);
            key.strip_prefix(&prefix)?;
            Some(Version {
                name: key.strip_prefix(&self.options.prefix)?.to_owned(),
                version: id?.to_owned(),
                is_latest: latest == Some(true),
                is_deletion,
            })
        };
        let begins = |key: Option<&str>, id: Option<&str>| Some(format!("{} {}", id?, key?));
        let version_first = page.versions().first().map(|one| begins(one.key(), one.version_id()));
        let mark_first =
            page.delete_markers().first().map(|one| begins(one.key(), one.version_id()));
        let first = version_first.or(mark_first).flatten();
        let objects = page
            .versions()
            .iter()
            .filter_map(|found| version(found.key(), found.version_id(), found.is_latest(), false));
        let deletions = page
            .delete_markers()
            .iter()
            .filter_map(|found| version(found.key(), found.version_id(), found.is_latest(), true));
        let versions = objects.chain(deletions).collect();
        let next = match page.is_truncated {
            Some(true) => {
                let key = page.next_key_marker.as_deref().map(plain);
                let version = page.next_version_id_marker;
                let next = Cursor { key, version, ..Cursor::default() };
                Some(cursor.clone().advance(next, first, &self.place)?)
            }
            _ => None,
        };
        Ok(VersionPage { versions, next })
    }

    /// Deletes one version; of a deletion that undoes it.
    pub(super) async fn delete_version(&self, name: &str, version: &str) -> Result<()> {
        let key = self.key(name);
        let outcome = self.ask(Action::DeleteVersion, async |_| {
            let request = self.s3.delete_object().bucket(&self.options.bucket).key(&key);
            Box::pin(request.version_id(version).send()).await.map(drop).map_err(failed)
        });
        let done = outcome.await.result;
        done.map_err(|failure| self.error(Action::DeleteVersion, name, &failure))
    }

    /// Returns all bytes of the first object that was made under a name, or its length where that is
    /// more than `bytes_max`. Fails with `NotFound` when there is none.
    pub(super) async fn get_oldest(&self, name: &str, bytes_max: u64) -> Result<Read<Vec<u8>>> {
        let mut oldest: Option<Version> = None;
        let mut cursor = Some(Cursor::default());
        while let Some(place) = cursor {
            let page = self.version_page(name, &place).await?;
            let same = |version: &&Version| version.name == name && !version.is_deletion;
            // Later in the listing is older; times have seconds only.
            if let Some(last) = page.versions.iter().rfind(same) {
                oldest = Some(last.clone());
            }
            // Names are in order: the name itself comes before all that begin with it.
            let is_past = page.versions.iter().any(|version| version.name != name);
            cursor = page.next.filter(|_| !is_past);
        }
        let Some(oldest) = oldest else {
            let object = format!("{}/{name}", self.place.location);
            return Err(Error::new(ErrorKind::NotFound, object, "no version of it is there"));
        };
        self.get_whole(Action::GetVersion, name, Some(&oldest.version), bytes_max).await
    }
}
