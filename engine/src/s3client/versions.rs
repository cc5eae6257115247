//! Versions of objects: what was deleted or replaced in a bucket that keeps them.

use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType};

use super::action::Action;
use super::customer_key;
use super::get::Read;
use super::list::{Cursor, PAGE, check_whole, decode};
use super::put::with_customer_key;
use super::request::{Asker, failed};
use crate::error::{ErrorKind, Result};

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

/// Whether a bucket keeps versions of its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// It does.
    #[default]
    Enabled,
    /// It did, and does not at present.
    Suspended,
    /// It never did.
    Never,
    /// The store does not say: why not.
    Unknown(String),
}

impl Versioning {
    /// The word for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Versioning::Enabled => "enabled",
            Versioning::Suspended => "suspended",
            Versioning::Never => "never",
            Versioning::Unknown(_) => "unknown",
        }
    }
}

/// A page of versions.
pub(super) struct VersionPage {
    /// Of each name, from the latest to the oldest; deletions after everything else.
    pub(super) versions: Vec<Version>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Cursor>,
}

impl Asker {
    /// Returns whether the bucket keeps versions, as far as the store says so to who asks.
    pub(super) async fn versioning(&self) -> Result<Versioning> {
        let outcome = self.ask(Action::GetVersioning, async |_| {
            let request = self.s3.get_bucket_versioning().bucket(&self.options.bucket);
            Box::pin(request.send()).await.map_err(failed)
        });
        match outcome.await.result {
            Ok(answer) => Ok(match answer.status {
                Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
                Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                None => Versioning::Never,
                Some(other) => Versioning::Unknown(format!("the store says {:?}", other.as_str())),
            }),
            // It is refused, or not answered as it should be: to know it is not needed.
            Err(failure) => {
                let is_answered = failure.answer().is_some();
                let error = self.error(Action::GetVersioning, "", &failure);
                match error.kind() {
                    ErrorKind::Unsupported => {}
                    ErrorKind::Io if is_answered => {}
                    _ => return Err(error),
                }
                Ok(Versioning::Unknown(error.problem().to_owned()))
            }
        }
    }

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

    /// Returns what a read of the objects made under a name asks for, from the first to the latest:
    /// deletions are none.
    pub(super) async fn versions_of(&self, name: &str) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(place) = cursor {
            let page = self.version_page(name, &place).await?;
            // Names are in order: the name itself comes before all that begin with it.
            let is_past = page.versions.iter().any(|version| version.name != name);
            let same = |version: &Version| version.name == name && !version.is_deletion;
            versions.extend(page.versions.into_iter().filter(same).map(|version| version.version));
            cursor = page.next.filter(|_| !is_past);
        }
        // Later in the listing is older; times have seconds only.
        versions.reverse();
        Ok(versions)
    }

    /// Returns all bytes of a version, or its length where that is more than `bytes_max`.
    pub(super) async fn get_version(
        &self,
        name: &str,
        version: &str,
        bytes_max: u64,
    ) -> Result<Read<Vec<u8>>> {
        self.get_whole(Action::GetVersion, name, Some(version), bytes_max).await
    }

    /// Returns the first bytes of a version, as many as there are up to `length`.
    pub(super) async fn head_of_version(
        &self,
        name: &str,
        version: &str,
        length: usize,
    ) -> Result<Vec<u8>> {
        let key = self.key(name);
        let outcome = self.ask(Action::GetVersion, async |pulse| {
            let request = self.s3.get_object().bucket(&self.options.bucket).key(&key);
            let request = request.version_id(version).range(format!("bytes=0-{}", length - 1));
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(failed)?;
            let there = answer.content_length.and_then(|bytes| u64::try_from(bytes).ok());
            // A store that gives more than was asked for is not believed.
            match there.filter(|bytes| *bytes <= length as u64) {
                Some(there) => self.receive(answer.body, there, pulse).await,
                None => Ok(Vec::new()),
            }
        });
        match outcome.await.result {
            Ok(bytes) => Ok(bytes),
            // It is empty.
            Err(failure) if failure.has_status(416) => Ok(Vec::new()),
            Err(failure) => Err(self.error(Action::GetVersion, name, &failure)),
        }
    }
}
