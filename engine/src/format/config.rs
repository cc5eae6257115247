//! The config of a repository and its features. Source: FORMAT.md 3.3 and 3.4.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::id::RepositoryId;

/// The body of `config`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The repository's id, the same as in the header.
    pub repository: RepositoryId,
    /// The key of chunk ids, 64 hexadecimal digits. It stands here because this repository is not
    /// sealed; a sealed one keeps it among its wrapped keys.
    pub id_key: String,
    /// How content is cut.
    pub cutter: CutterParameters,
    /// How slots of segment files are stored; as packed bytes in repositories made before there was
    /// another way.
    #[serde(default)]
    pub slots: SlotParameters,
    /// The size a pack is filled to, in bytes; the last chunk may exceed it.
    pub pack_bytes: u32,
    /// `none`; sealed repositories come as a feature.
    pub encryption: String,
    /// When it was created, RFC 3339, for people.
    pub created: String,
    /// The program that created it.
    pub program: String,
    /// What is known of the store it is in; of directories there is nothing to know.
    #[serde(default, skip_serializing_if = "StoreFacts::is_usual")]
    pub store: StoreFacts,
}

/// What is known of the store a repository is in, found or decided when it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFacts {
    /// Whether the store keeps an object when another of the same name is to be created.
    #[serde(default, skip_serializing_if = "CreateOnlyFact::is_kept")]
    pub create_only: CreateOnlyFact,
    /// Whether the store verifies the checksums that objects are sent with.
    #[serde(default, skip_serializing_if = "VerifiesFact::is_kept")]
    pub verifies: VerifiesFact,
    /// For how long objects are locked; `None` where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

impl StoreFacts {
    /// Whether it is what holds of every directory.
    fn is_usual(&self) -> bool {
        *self == StoreFacts::default()
    }
}

/// What a store does with a write that is to create and never to replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateOnlyFact {
    /// It keeps the object that is there.
    #[default]
    Kept,
    /// It replaces it: the client asks first whether there is one, which is no help against two
    /// that create it at once.
    Ignored,
}

impl CreateOnlyFact {
    fn is_kept(&self) -> bool {
        *self == CreateOnlyFact::Kept
    }

    /// Returns the word used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            CreateOnlyFact::Kept => "kept",
            CreateOnlyFact::Ignored => "ignored",
        }
    }
}

/// What a store does with the checksum that an object is sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifiesFact {
    /// It refuses bytes that do not have it.
    #[default]
    Kept,
    /// It takes any bytes: the client looks afterwards at what arrived.
    Ignored,
}

impl VerifiesFact {
    fn is_kept(&self) -> bool {
        *self == VerifiesFact::Kept
    }

    /// Returns the word used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            VerifiesFact::Kept => "kept",
            VerifiesFact::Ignored => "ignored",
        }
    }
}

/// How objects are locked against being deleted or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// Who may delete all the same.
    pub mode: ObjectLockMode,
    /// For how many days from its creation on.
    pub days: u32,
}

/// Who may delete a locked object all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectLockMode {
    /// Whoever has the permission `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

impl ObjectLockMode {
    /// Returns the word used in settings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ObjectLockMode::Governance => "governance",
            ObjectLockMode::Compliance => "compliance",
        }
    }
}

/// In which form slots of segment files are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotForm {
    /// As the bytes that the server packed, cut by content.
    #[default]
    Packed,
    /// Unpacked, in blocks, with a recipe that packs them again.
    Recipe,
}

impl SlotForm {
    /// Returns the word used in settings, reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            SlotForm::Packed => "packed",
            SlotForm::Recipe => "recipe",
        }
    }
}

/// How slots of segment files are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotParameters {
    /// The form, unless a backup asks for the other one.
    pub form: SlotForm,
    /// Unpacked bytes of a block of a recipe; the last one of a slot may be shorter.
    pub block_bytes: u32,
}

/// Unpacked bytes of a block. Measured: benches/results/2026-11-25-recipes.md.
pub const BLOCK_BYTES_DEFAULT: u32 = 64 << 10;

/// The same where a config does not say: format, whatever the default becomes (FORMAT.md 3.3).
const BLOCK_BYTES_UNSAID: u32 = 64 << 10;

impl Default for SlotParameters {
    fn default() -> Self {
        SlotParameters { form: SlotForm::Packed, block_bytes: BLOCK_BYTES_UNSAID }
    }
}

impl SlotParameters {
    /// Fails with `Invalid` for a size that makes no sense.
    pub fn validate(&self, object: &str) -> Result<()> {
        if self.block_bytes.is_power_of_two() && (4096..=4 << 20).contains(&self.block_bytes) {
            return Ok(());
        }
        let problem = format!(
            "a power of two from 4096 to 4194304 bytes expected as block of slots, found {}",
            self.block_bytes
        );
        Err(Error::new(ErrorKind::Invalid, object, problem))
    }
}

/// Parameters of the cutter: format, since cut points decide what dedupes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutterParameters {
    /// `fastcdc-2020`.
    pub algorithm: String,
    /// Normalisation level: 0 to 3.
    pub normalization: u8,
    /// Smallest chunk, except the last of a span.
    pub min_bytes: u32,
    /// Average aimed at.
    pub average_bytes: u32,
    /// Largest chunk.
    pub max_bytes: u32,
    /// Sizes inside slots of segment files; those above where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<ChunkSizes>,
}

/// Sizes of chunks in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSizes {
    /// Smallest chunk, except the last of a slot.
    pub min_bytes: u32,
    /// Average aimed at.
    pub average_bytes: u32,
    /// Largest chunk.
    pub max_bytes: u32,
}

impl Default for CutterParameters {
    /// Source: the tables in docs/COLUMNSTORE.md 5, measured on real nights.
    fn default() -> Self {
        CutterParameters::new(16 << 10, 64 << 10, 256 << 10)
    }
}

impl CutterParameters {
    /// Returns parameters with these sizes in bytes, and half of them inside slots, where a change
    /// leaves more as it was.
    pub fn new(min_bytes: u32, average_bytes: u32, max_bytes: u32) -> Self {
        CutterParameters {
            algorithm: "fastcdc-2020".to_owned(),
            normalization: 1,
            min_bytes,
            average_bytes,
            max_bytes,
            slots: Some(ChunkSizes {
                min_bytes: min_bytes / 2,
                average_bytes: average_bytes / 2,
                max_bytes: max_bytes / 2,
            }),
        }
    }

    /// Fails with `Unsupported` for another algorithm, `Invalid` for sizes that make no sense.
    pub fn validate(&self, object: &str) -> Result<()> {
        if self.algorithm != "fastcdc-2020" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                object,
                format!("cutter \"fastcdc-2020\" expected, found {:?}", self.algorithm),
            ));
        }
        let sizes = [self.min_bytes, self.average_bytes, self.max_bytes];
        let slots = self.slots.as_ref().map(|s| [s.min_bytes, s.average_bytes, s.max_bytes]);
        for (place, sizes) in [("", Some(sizes)), (" in slots", slots)] {
            let Some(sizes) = sizes else { continue };
            let [min, average, max] = sizes;
            let sane = self.normalization <= 3
                && min >= 512
                && average.is_power_of_two()
                && max <= 4 << 20
                && sizes.is_sorted_by(|a, b| 2 * a <= *b)
                && sizes.iter().all(|size| size.is_multiple_of(2));
            if !sane {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    object,
                    format!(
                        "even chunk sizes from 512 bytes to 4 MiB expected, each at least twice \
                         the one before, the average a power of two, normalisation 0 to 3; found \
                         {min} / {average} / {max}{place} and {}",
                        self.normalization
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The body of `features/<name>`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRecord {
    /// The feature's name, the same as in the key.
    pub name: String,
    /// Its bit in headers.
    pub bit: u32,
}

/// Reads a JSON body of the named object.
pub fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8], object: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::corrupt(object, "the JSON body does not have the fields of the format")
            .caused_by(error)
    })
}

/// Returns the JSON body of a record.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("records serialise: they hold no maps with other keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_of_a_store_is_not_written_and_the_rest_is_read_back() {
        let lock = ObjectLock { mode: ObjectLockMode::Compliance, days: 30 };
        for (facts, text) in [
            (StoreFacts::default(), "{}"),
            (
                StoreFacts { create_only: CreateOnlyFact::Ignored, ..StoreFacts::default() },
                r#"{"create_only":"ignored"}"#,
            ),
            (
                StoreFacts { verifies: VerifiesFact::Ignored, ..StoreFacts::default() },
                r#"{"verifies":"ignored"}"#,
            ),
            (
                StoreFacts { object_lock: Some(lock), ..StoreFacts::default() },
                r#"{"object_lock":{"mode":"compliance","days":30}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&facts).unwrap(), text);
            assert_eq!(serde_json::from_str::<StoreFacts>(text).unwrap(), facts);
            assert_eq!(facts.is_usual(), text == "{}");
        }
        assert!(serde_json::from_str::<StoreFacts>(r#"{"create_only":"perhaps"}"#).is_err());
    }
}
