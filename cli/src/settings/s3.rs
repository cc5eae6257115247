//! How a repository in a bucket is reached. Buckets that are backed up have settings of their own.
//!
//! Access keys are no settings: they come from where AWS's own programs find them.

#[cfg(feature = "s3")]
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::ValueEnum;
#[cfg(feature = "s3")]
use colvault_engine::s3client::{
    Addressing, Patience, Role, S3Options, ServerSideEncryption as Encryption,
};

use super::location;
#[cfg(feature = "s3")]
use super::location::BucketLocation;
#[cfg(feature = "s3")]
use crate::exit::Failure;

/// What their options stand below in the help.
pub const HEADING: &str = "Repositories in S3 buckets (docs/S3.md)";

/// Options of repositories in buckets.
#[derive(Clone, Debug, Default, clap::Args)]
#[cfg_attr(not(feature = "s3"), allow(dead_code))]
#[command(next_help_heading = HEADING)]
pub struct S3Args {
    /// The store, where it is not AWS: http(s)://HOST, with :PORT where it needs one
    #[arg(long, global = true, value_name = "URL", hide_short_help = true,
          value_parser = location::endpoint)]
    s3_endpoint: Option<String>,

    /// The region of the bucket; otherwise that of AWS_REGION or the profile, us-east-1 with an endpoint
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true, value_parser = name)]
    s3_region: Option<String>,

    /// The profile of ~/.aws/config and ~/.aws/credentials; otherwise that of AWS_PROFILE
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true, value_parser = name)]
    s3_profile: Option<String>,

    /// A role to take on, by its ARN
    #[arg(long, global = true, value_name = "ARN", hide_short_help = true, value_parser = name)]
    s3_role: Option<String>,

    /// What the role's owner asks for besides
    #[arg(long, global = true, value_name = "ID", hide_short_help = true, value_parser = name)]
    s3_role_external_id: Option<String>,

    /// Where requests name the bucket
    #[arg(long, global = true, value_name = "HOW", hide_short_help = true)]
    s3_addressing: Option<AddressingAs>,

    /// A file of certificates (PEM) to trust beside those of this host
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    s3_ca_file: Option<PathBuf>,

    /// Take any certificate: whoever is between can read and change everything
    #[arg(long, global = true, hide_short_help = true)]
    s3_insecure_tls: bool,

    /// Encryption by the store
    #[arg(long, global = true, value_name = "HOW", hide_short_help = true)]
    s3_sse: Option<EncryptionAs>,

    /// The key for --s3-sse kms; otherwise the account's own
    #[arg(long, global = true, value_name = "KEY", hide_short_help = true, value_parser = name)]
    s3_kms_key: Option<String>,

    /// The file of the key for --s3-sse customer: 32 bytes, or 64 hexadecimal digits
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    s3_customer_key_file: Option<PathBuf>,

    /// The storage class of new packs of data, which only restores and deep checks read
    #[arg(long, global = true, value_name = "CLASS", hide_short_help = true, value_parser = class)]
    s3_data_class: Option<String>,

    /// The storage class of all other new objects
    #[arg(long, global = true, value_name = "CLASS", hide_short_help = true, value_parser = class)]
    s3_class: Option<String>,

    /// Requests under way at once; by default 16
    #[arg(long, global = true, value_name = "N", hide_short_help = true,
          value_parser = whole::<1024>)]
    s3_connections: Option<u16>,

    /// KiB a second that are sent at most; 0 for no limit
    #[arg(long, global = true, value_name = "KIB", hide_short_help = true,
          value_parser = kib_a_second)]
    limit_upload: Option<u32>,

    /// KiB a second that are received at most; 0 for no limit
    #[arg(long, global = true, value_name = "KIB", hide_short_help = true,
          value_parser = kib_a_second)]
    limit_download: Option<u32>,

    /// Seconds that a connection may take
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true,
          value_parser = whole::<3600>)]
    s3_connect_timeout: Option<u16>,

    /// Seconds that a request may stand still before it is sent again
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true,
          value_parser = whole::<3600>)]
    s3_stall_timeout: Option<u16>,

    /// How often a request is sent at most
    #[arg(long, global = true, value_name = "N", hide_short_help = true,
          value_parser = whole::<1000>)]
    s3_attempts: Option<u16>,

    /// Seconds between two attempts at most
    #[arg(long, global = true, value_name = "SECONDS", hide_short_help = true,
          value_parser = whole::<3600>)]
    s3_backoff_max: Option<u16>,
}

/// Where requests name the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddressingAs {
    /// In the host's name at AWS, in the path with an endpoint, and where it has a dot under TLS
    Auto,
    /// In the path: ENDPOINT/BUCKET/KEY
    Path,
    /// In the host's name: BUCKET.ENDPOINT/KEY
    Virtual,
}

/// Encryption by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncryptionAs {
    /// As the bucket does it by itself
    Bucket,
    /// With keys of the store
    S3,
    /// With a key of the key service
    Kms,
    /// With a key of --s3-customer-key-file, which the store does not keep
    Customer,
}

/// Reads a number that is at least one.
fn whole<const MAX: u16>(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX).contains(number));
    number.ok_or_else(|| format!("a whole number from 1 to {MAX} expected"))
}

/// Reads a limit.
fn kib_a_second(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a whole number of KiB a second expected, 0 for no limit".to_owned())
}

/// Reads something that goes into a header or a name.
fn name(text: &str) -> Result<String, String> {
    let is_sound = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    is_sound.then(|| text.to_owned()).ok_or_else(|| "letters without blanks expected".to_owned())
}

/// Reads a storage class. Stores have classes of their own; those known to give nothing back at once
/// are refused.
fn class(text: &str) -> Result<String, String> {
    let is_sound = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_-".contains(c);
    if text.is_empty() || !text.chars().all(is_sound) {
        return Err("a class in capitals such as STANDARD_IA expected".to_owned());
    }
    match text {
        "GLACIER" | "DEEP_ARCHIVE" => {
            Err("a class that gives objects back at once expected: these come \
                                           back after hours, when somebody asked for each"
                .to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// The storage classes of new objects; `None` where the bucket decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageClasses<'a> {
    /// Of packs of data.
    pub data: Option<&'a str>,
    /// Of everything else.
    pub other: Option<&'a str>,
}

impl S3Args {
    /// Whether the store is given a key that it does not keep.
    pub fn has_customer_key(&self) -> bool {
        self.s3_sse == Some(EncryptionAs::Customer)
    }

    /// Returns the storage classes of new objects.
    pub fn classes(&self) -> StorageClasses<'_> {
        let (data, other) = (self.s3_data_class.as_deref(), self.s3_class.as_deref());
        StorageClasses { data: data.or(other), other }
    }
}

#[cfg(feature = "s3")]
impl S3Args {
    /// Returns how a bucket is reached.
    ///
    /// Fails as usage for options that do not make sense together.
    pub fn options(&self, at: &BucketLocation) -> Result<S3Options, Failure> {
        let patience = Patience::default();
        let seconds = |asked: Option<u16>, usual| {
            asked.map_or(usual, |seconds| std::time::Duration::from_secs(seconds.into()))
        };
        let limit = |kib: Option<u32>| kib.filter(|kib| *kib > 0).map(|kib| u64::from(kib) << 10);
        Ok(S3Options {
            bucket: at.bucket.clone(),
            prefix: at.prefix.clone(),
            endpoint: self.endpoint(at)?,
            region: self.s3_region.clone(),
            profile: self.s3_profile.clone(),
            role: self.role()?,
            addressing: match self.s3_addressing {
                None | Some(AddressingAs::Auto) => Addressing::Auto,
                Some(AddressingAs::Path) => Addressing::Path,
                Some(AddressingAs::Virtual) => Addressing::Virtual,
            },
            ca_file: self.s3_ca_file.clone(),
            insecure_tls: self.s3_insecure_tls,
            encryption: self.encryption()?,
            data_class: self.s3_data_class.clone(),
            class: self.s3_class.clone(),
            connections: self.s3_connections.unwrap_or(0).into(),
            upload_limit: limit(self.limit_upload),
            download_limit: limit(self.limit_download),
            patience: Patience {
                connect: seconds(self.s3_connect_timeout, patience.connect),
                stalled: seconds(self.s3_stall_timeout, patience.stalled),
                attempts: self.s3_attempts.map_or(patience.attempts, u32::from),
                backoff_max: seconds(self.s3_backoff_max, patience.backoff_max),
            },
        })
    }

    fn endpoint(&self, at: &BucketLocation) -> Result<Option<String>, Failure> {
        match (&at.endpoint, &self.s3_endpoint) {
            (Some(one), Some(other)) if one != other => Err(Failure::usage(format!(
                "only one endpoint expected, found {one} in the repository's name and {other} in s3.endpoint"
            ))
            .with_hint("leave one out: s3://BUCKET/PREFIX takes that of s3.endpoint")),
            (one, other) => Ok(one.clone().or_else(|| other.clone())),
        }
    }

    fn role(&self) -> Result<Option<Role>, Failure> {
        let external_id = self.s3_role_external_id.clone();
        match (&self.s3_role, external_id) {
            (Some(arn), external_id) => Ok(Some(Role { arn: arn.clone(), external_id })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(needs("s3.role_external_id", "a role in s3.role")),
        }
    }

    fn encryption(&self) -> Result<Encryption, Failure> {
        let how = self.s3_sse.unwrap_or(EncryptionAs::Bucket);
        if self.s3_kms_key.is_some() && how != EncryptionAs::Kms {
            return Err(needs("s3.kms_key", "kms in s3.sse"));
        }
        if self.s3_customer_key_file.is_some() && how != EncryptionAs::Customer {
            return Err(needs("s3.customer_key_file", "customer in s3.sse"));
        }
        Ok(match how {
            EncryptionAs::Bucket => Encryption::Bucket,
            EncryptionAs::S3 => Encryption::S3,
            EncryptionAs::Kms => Encryption::Kms(self.s3_kms_key.clone()),
            EncryptionAs::Customer => match &self.s3_customer_key_file {
                Some(file) => Encryption::Customer(file.clone()),
                None => return Err(needs("customer in s3.sse", "a file in s3.customer_key_file")),
            },
        })
    }

    /// Returns what the user should know at each run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.s3_insecure_tls {
            warnings.push(
                "certificates of the store are not verified (s3.insecure_tls): whoever is between can read \
                 and change everything; s3.ca_file makes a certificate of one's own good"
                    .to_owned(),
            );
        }
        let key = self.s3_customer_key_file.as_ref();
        let mode = key.and_then(|path| std::fs::metadata(path).ok()).map(|found| found.mode());
        if let (Some(path), Some(mode)) = (key, mode.filter(|mode| mode & 0o044 != 0)) {
            let (path, mode) = (path.display(), mode & 0o7777);
            warnings
                .push(format!("others can read the key in {path} (mode {mode:04o}): chmod 600 it"));
        }
        warnings
    }
}

#[cfg(feature = "s3")]
fn needs(setting: &str, other: &str) -> Failure {
    Failure::usage(format!("{setting} needs {other}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_do_not_give_back_at_once_are_refused() {
        for good in ["STANDARD", "STANDARD_IA", "GLACIER_IR", "ONEZONE_IA", "INTELLIGENT_TIERING"] {
            assert_eq!(class(good).as_deref(), Ok(good));
        }
        for bad in ["", "standard_ia", "GLACIER", "DEEP_ARCHIVE", "A B"] {
            assert!(class(bad).is_err(), "{bad}");
        }
        assert!(name("arn:aws:iam::1:role/x").is_ok());
        assert!(name("").is_err() && name("a b").is_err() && name("a\nb").is_err());
    }

    #[cfg(feature = "s3")]
    fn bucket(endpoint: Option<&str>) -> BucketLocation {
        BucketLocation {
            endpoint: endpoint.map(str::to_owned),
            bucket: "b-1".into(),
            prefix: "p/".into(),
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn settings_become_the_options_of_the_client() {
        use std::time::Duration;
        let usual = S3Args::default().options(&bucket(None)).unwrap();
        let expected =
            S3Options { bucket: "b-1".into(), prefix: "p/".into(), ..S3Options::default() };
        assert_eq!(usual, expected);
        let all = S3Args {
            s3_endpoint: Some("http://h:1".into()),
            s3_region: Some("r".into()),
            s3_profile: Some("q".into()),
            s3_role: Some("arn".into()),
            s3_role_external_id: Some("x".into()),
            s3_addressing: Some(AddressingAs::Virtual),
            s3_ca_file: Some("/ca".into()),
            s3_insecure_tls: true,
            s3_sse: Some(EncryptionAs::Kms),
            s3_kms_key: Some("k".into()),
            s3_customer_key_file: None,
            s3_data_class: Some("STANDARD_IA".into()),
            s3_class: Some("STANDARD".into()),
            s3_connections: Some(3),
            limit_upload: Some(4),
            limit_download: Some(0),
            s3_connect_timeout: Some(5),
            s3_stall_timeout: Some(6),
            s3_attempts: Some(7),
            s3_backoff_max: Some(8),
        };
        let expected = S3Options {
            bucket: "b-1".into(),
            prefix: "p/".into(),
            endpoint: Some("http://h:1".into()),
            region: Some("r".into()),
            profile: Some("q".into()),
            role: Some(Role { arn: "arn".into(), external_id: Some("x".into()) }),
            addressing: Addressing::Virtual,
            ca_file: Some("/ca".into()),
            insecure_tls: true,
            encryption: Encryption::Kms(Some("k".into())),
            data_class: Some("STANDARD_IA".into()),
            class: Some("STANDARD".into()),
            connections: 3,
            upload_limit: Some(4096),
            download_limit: None,
            patience: Patience {
                connect: Duration::from_secs(5),
                stalled: Duration::from_secs(6),
                attempts: 7,
                backoff_max: Duration::from_secs(8),
            },
        };
        assert_eq!(all.options(&bucket(None)).unwrap(), expected);
        assert_eq!(all.options(&bucket(Some("http://h:1"))).unwrap(), expected);
        assert_eq!(all.warnings().len(), 1);
        assert!(S3Args::default().warnings().is_empty());
    }

    #[cfg(feature = "s3")]
    #[test]
    fn settings_that_do_not_go_together_are_usage_errors() {
        let key = || Some("k".to_owned());
        let file = || Some(PathBuf::from("/k"));
        for (args, endpoint, part) in [
            (S3Args { s3_kms_key: key(), ..S3Args::default() }, None, "s3.kms_key needs"),
            (S3Args { s3_role_external_id: key(), ..S3Args::default() }, None, "needs a role"),
            (
                S3Args { s3_customer_key_file: file(), ..S3Args::default() },
                None,
                "s3.customer_key_file needs",
            ),
            (
                S3Args { s3_sse: Some(EncryptionAs::Customer), ..S3Args::default() },
                None,
                "needs a file in s3.customer_key_file",
            ),
            (
                S3Args { s3_endpoint: Some("http://h".into()), ..S3Args::default() },
                Some("http://i"),
                "only one endpoint expected",
            ),
        ] {
            let failure = args.options(&bucket(endpoint)).expect_err(part);
            assert_eq!(failure.exit().code(), 2);
            assert!(failure.message().contains(part), "{}", failure.message());
        }
    }
}
