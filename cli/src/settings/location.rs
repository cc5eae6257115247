//! Where a repository is: in a directory, or in a bucket.

use std::path::PathBuf;

use colvault_engine::error::ErrorKind;

use crate::exit::Failure;

/// What is expected where a repository is named.
const EXPECTED: &str =
    "a directory, s3://BUCKET[/PREFIX] or s3:https://HOST[:PORT]/BUCKET[/PREFIX]";

/// Characters of a prefix at most: the store takes keys of 1024 bytes, names of objects need some.
const PREFIX_BYTES_MAX: usize = 800;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this host.
    Directory(PathBuf),
    /// A bucket, or a part of one.
    Bucket(BucketLocation),
}

/// A bucket, or the part of it below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketLocation {
    /// The store, `http(s)://host[:port]`, where the location itself names it.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending in `/`.
    pub prefix: String,
}

impl Location {
    /// Reads what the user wrote. What is no bucket is a directory.
    ///
    /// Fails as usage for a bucket that makes no sense, with `Unsupported` for another scheme.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Ok(Location::Directory(text.into()));
        };
        let is_url = rest.starts_with("//");
        match scheme {
            "s3" => BucketLocation::parse(rest)
                .map(Location::Bucket)
                .map_err(|problem| misspelt(text, &problem)),
            _ if scheme.eq_ignore_ascii_case("s3") && (is_url || rest.starts_with("http")) => {
                Err(misspelt(text, "s3 is written in small letters"))
            }
            _ if is_url => Err(Failure::new(
                ErrorKind::Unsupported,
                concealed(text),
                format!("a directory or s3:// expected, found {scheme}://"),
            )),
            _ => Ok(Location::Directory(text.into())),
        }
    }

    /// Returns it as the user can write it again.
    pub fn shown(&self) -> String {
        match self {
            Location::Directory(path) => path.display().to_string(),
            Location::Bucket(BucketLocation { endpoint, bucket, prefix }) => {
                let prefix = match prefix.strip_suffix('/') {
                    Some(prefix) => format!("/{prefix}"),
                    None => String::new(),
                };
                match endpoint {
                    Some(endpoint) => format!("s3:{endpoint}/{bucket}{prefix}"),
                    None => format!("s3://{bucket}{prefix}"),
                }
            }
        }
    }
}

impl BucketLocation {
    /// Reads what stands behind `s3:`.
    fn parse(rest: &str) -> Result<Self, String> {
        let (endpoint, path) = match rest.strip_prefix("//") {
            Some(path) => (None, path),
            None => {
                let (scheme, behind) = rest.split_once("://").ok_or("no bucket is named")?;
                let (host, path) = behind.split_once('/').unwrap_or((behind, ""));
                (Some(endpoint(&format!("{scheme}://{host}"))?), path)
            }
        };
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        check_bucket(bucket)?;
        Ok(BucketLocation { endpoint, bucket: bucket.to_owned(), prefix: prefix_of(prefix)? })
    }
}

/// Reads `http(s)://host[:port]`, a slash behind it is dropped.
pub fn endpoint(text: &str) -> Result<String, String> {
    let problem =
        |found: &str| format!("http://HOST[:PORT] or https://HOST[:PORT] expected, found {found}");
    let (scheme, behind) = text.split_once("://").ok_or_else(|| problem("no such scheme"))?;
    if !["http", "https"].contains(&scheme) {
        return Err(problem(&format!("{scheme}://")));
    }
    if behind.contains('@') {
        return Err(
            "an endpoint holds no access keys: they come from the environment, a profile or the \
                    role of this host, as AWS's own programs find them"
                .to_owned(),
        );
    }
    let authority = behind.strip_suffix('/').unwrap_or(behind);
    let (host, port) = match authority.strip_prefix('[') {
        // An address with colons stands in brackets.
        Some(inner) => {
            let (address, port) =
                inner.split_once(']').ok_or_else(|| problem("an open bracket"))?;
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            (is_address, port.strip_prefix(':').or((!port.is_empty()).then_some("")))
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            (!host.is_empty() && host.chars().all(is_name), port)
        }
    };
    if !host || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(problem(&format!("{authority:?}")));
    }
    Ok(format!("{scheme}://{authority}"))
}

/// Fails for a name that no bucket can have.
fn check_bucket(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("no bucket is named".to_owned());
    }
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_sound = (3..=63).contains(&name.len())
        && name.chars().all(|c| is_letter(c) || c == '-' || c == '.')
        && name.starts_with(is_letter)
        && name.ends_with(is_letter)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    match is_sound {
        true => Ok(()),
        false => Err(format!(
            "the name of a bucket has 3 to 63 small letters, digits, dots and hyphens, found {name:?}"
        )),
    }
}

/// Returns a prefix with one slash between its parts and one at its end.
fn prefix_of(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let is_odd = |c: char| c.is_control() || "?#%\\".contains(c);
    if let Some(odd) = text.chars().find(|c| is_odd(*c)) {
        return Err(format!("a prefix has no {odd:?} in it"));
    }
    if let Some(part) = parts.iter().find(|part| [".", ".."].contains(*part)) {
        return Err(format!("a prefix has no part {part:?}"));
    }
    if text.len() > PREFIX_BYTES_MAX {
        return Err(format!("a prefix has at most {PREFIX_BYTES_MAX} bytes, found {}", text.len()));
    }
    Ok(parts.iter().map(|part| format!("{part}/")).collect())
}

fn misspelt(text: &str, problem: &str) -> Failure {
    Failure::usage(format!("{}: {problem}", concealed(text)))
        .with_hint(format!("a repository is {EXPECTED}"))
}

/// Somebody may have written keys into it.
fn concealed(text: &str) -> String {
    super::value::concealed(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, (u8, String)> {
        match Location::parse(text) {
            Ok(Location::Directory(path)) => Ok(format!("directory {}", path.display())),
            Ok(Location::Bucket(BucketLocation { endpoint, bucket, prefix })) => {
                Ok(format!("{} {bucket} {prefix}", endpoint.unwrap_or("-".into())))
            }
            Err(failure) => Err((failure.exit().code(), failure.message())),
        }
    }

    #[test]
    fn buckets_and_directories_are_told_apart_and_made_regular() {
        for (text, expected) in [
            ("back/up", "directory back/up"),
            ("/odd:name", "directory /odd:name"),
            ("./s3:x", "directory ./s3:x"),
            ("S3:x", "directory S3:x"),
            ("s3://bucket", "- bucket "),
            ("s3://bucket/", "- bucket "),
            ("s3://my.bucket-1/a", "- my.bucket-1 a/"),
            ("s3://bucket//a///b c/", "- bucket a/b c/"),
            ("s3:http://127.0.0.1:9000/bucket/x", "http://127.0.0.1:9000 bucket x/"),
            ("s3:https://s3.example.com/bucket", "https://s3.example.com bucket "),
            ("s3:http://[::1]:9000/bucket", "http://[::1]:9000 bucket "),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_location_is_told() {
        for (text, code, part) in [
            ("s3:", 2, "no bucket is named"),
            ("s3://", 2, "no bucket is named"),
            ("s3:///prefix", 2, "no bucket is named"),
            ("s3:/x", 2, "no bucket is named"),
            ("s3:bucket/x", 2, "no bucket is named"),
            ("s3://Bad_Bucket", 2, "found \"Bad_Bucket\""),
            ("s3://ab", 2, "3 to 63"),
            ("s3://-ab", 2, "3 to 63"),
            ("s3://a..b", 2, "3 to 63"),
            ("s3://192.168.0.1", 2, "3 to 63"),
            ("s3://bucket/a/../b", 2, "no part \"..\""),
            ("s3://bucket/a?versionId=1", 2, "no '?'"),
            ("s3://bucket/a\nb", 2, "no '\\n'"),
            ("S3://bucket", 2, "small letters"),
            ("S3:https://h/bucket", 2, "small letters"),
            ("s3:ftp://host/bucket", 2, "found ftp://"),
            ("s3:http://host", 2, "no bucket is named"),
            ("s3:http:///bucket", 2, "expected, found \"\""),
            ("s3:http://host:port/bucket", 2, "expected, found \"host:port\""),
            ("s3:http://host:0/bucket", 2, "expected, found"),
            ("s3:http://[::1]9/bucket", 2, "expected, found"),
            ("s3:https://AKIA:secret@host/bucket", 2, "no access keys"),
            ("sftp://host/x", 13, "found sftp://"),
        ] {
            let (found, message) = parsed(text).expect_err(text);
            assert_eq!(found, code, "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        let long = format!("s3://bucket/{}", "x".repeat(900));
        assert!(parsed(&long).unwrap_err().1.contains("at most 800"));
    }

    #[test]
    fn what_is_shown_can_be_written_again() {
        for text in [
            "/back/up",
            "s3://bucket",
            "s3://bucket/a/b",
            "s3:http://h:9000/bucket",
            "s3:https://h/bucket/a",
        ] {
            assert_eq!(Location::parse(text).unwrap().shown(), text);
        }
    }
}
