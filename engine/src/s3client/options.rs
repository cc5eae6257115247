//! What a connection to a bucket is made with. Nothing here knows the SDK.

use std::path::PathBuf;
use std::time::Duration;

/// How the bucket is named in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the host's name at AWS; in the path where an endpoint is given, since on-premise stores
    /// seldom have a host name for every bucket, and where the bucket's name has a dot under TLS.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    Virtual,
}

/// Encryption by the store, asked for with every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// What the bucket does by itself.
    #[default]
    Bucket,
    /// SSE-S3: keys of the store.
    S3,
    /// SSE-KMS: a key of the key service; without one, the account's default key.
    Kms(Option<String>),
    /// SSE-C: a key of 32 bytes that goes with each request and that the store does not keep. Read from a
    /// file: as 32 bytes, or 64 hexadecimal digits.
    Customer(PathBuf),
}

/// A role to take on before anything is asked, in the name of the credentials of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What its owner asks for besides.
    pub external_id: Option<String>,
}

/// How long and how often is waited for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte of an answer, and for the store to take the next of a request.
    pub stalled: Duration,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The longest wait between two of them, before jitter.
    pub backoff_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
            attempts: 12,
            backoff_max: Duration::from_secs(20),
        }
    }
}

/// What a connection to a bucket is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; empty, or ending in `/`.
    pub prefix: String,
    /// `http(s)://host[:port]` of another store than AWS.
    pub endpoint: Option<String>,
    /// The region; otherwise that of environment or profile, `us-east-1` where an endpoint is given.
    pub region: Option<String>,
    /// The profile of `~/.aws/config` and `~/.aws/credentials`; otherwise `AWS_PROFILE`, or `default`.
    pub profile: Option<String>,
    /// A role to take on.
    pub role: Option<Role>,
    /// How the bucket is named.
    pub addressing: Addressing,
    /// A file of certificates (PEM) to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate: whoever is between can read and change everything.
    pub insecure_tls: bool,
    /// Encryption by the store.
    pub encryption: ServerSideEncryption,
    /// The storage class of data packs, which only restores and deep checks read: `STANDARD_IA`, ...
    pub data_class: Option<String>,
    /// The storage class of everything else.
    pub class: Option<String>,
    /// Requests under way at once; 0 stands for [`CONNECTIONS_DEFAULT`].
    pub connections: usize,
    /// Bytes a second that are sent at most.
    pub upload_limit: Option<u64>,
    /// Bytes a second that are received at most.
    pub download_limit: Option<u64>,
    /// How long and how often is waited.
    pub patience: Patience,
}

/// Requests under way at once, unless said otherwise.
pub const CONNECTIONS_DEFAULT: usize = 16;
