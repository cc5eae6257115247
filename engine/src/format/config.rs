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
    /// The size a pack is filled to, in bytes; the last chunk may exceed it.
    pub pack_bytes: u32,
    /// `none`; sealed repositories come as a feature.
    pub encryption: String,
    /// When it was created, RFC 3339, for people.
    pub created: String,
    /// The program that created it.
    pub program: String,
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
}

impl Default for CutterParameters {
    /// Source: the table in docs/ARCHITECTURE.md, measured on column data.
    fn default() -> Self {
        CutterParameters {
            algorithm: "fastcdc-2020".to_owned(),
            normalization: 1,
            min_bytes: 16 << 10,
            average_bytes: 64 << 10,
            max_bytes: 256 << 10,
        }
    }
}

impl CutterParameters {
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
        let sane = self.normalization <= 3
            && self.min_bytes >= 512
            && self.average_bytes.is_power_of_two()
            && self.max_bytes <= 4 << 20
            && sizes.is_sorted_by(|a, b| 2 * a <= *b)
            && sizes.iter().all(|size| size.is_multiple_of(2));
        if !sane {
            return Err(Error::new(
                ErrorKind::Invalid,
                object,
                format!(
                    "even chunk sizes from 512 bytes to 4 MiB expected, each at least twice the \
                     one before, the average a power of two, normalisation 0 to 3; found {} / {} \
                     / {} and {}",
                    self.min_bytes, self.average_bytes, self.max_bytes, self.normalization
                ),
            ));
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
