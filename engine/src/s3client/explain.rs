//! What an error of a store means, and what to do about it.

use std::time::SystemTime;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::action::Action;
use super::failure::{Answer, Failure, PROXY_ASKS};
use crate::error::{Error, ErrorKind};

/// What the libraries say before what went wrong.
const IN_LIBRARY_WORDS: [&str; 3] =
    ["dispatch failure: ", "io error: ", "client error (Connect): "];

const NO_CREDENTIALS_IN_LIBRARY_WORDS: [&str; 5] = [
    "the credentials provider was not properly configured: ",
    "ProfileFile provider could not be built: ",
    "an error occurred while loading credentials: ",
    "dispatch failure: io error: ",
    "client error (Connect): ",
];

/// What a request was about, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `s3://bucket/prefix`, without a trailing `/`.
    pub(super) location: String,
    /// The bucket.
    pub(super) bucket: String,
    /// What every key begins with.
    pub(super) prefix: String,
    /// Where the store is: `https://host:port`.
    pub(super) store: String,
    /// The proxy that stands between.
    pub(super) proxy: Option<String>,
}

impl Place {
    /// The permission that `action` needs, and on what, as a policy names it.
    fn needed(&self, action: Action) -> String {
        let (bucket, prefix) = (&self.bucket, &self.prefix);
        match action.is_of_bucket() {
            true => format!("{} on arn:aws:s3:::{bucket}", action.permission()),
            false => format!("{} on arn:aws:s3:::{bucket}/{prefix}*", action.permission()),
        }
    }

    /// Makes the error for a request about `object` that will not be sent again.
    pub(super) fn explain(&self, action: Action, object: &str, failure: &Failure) -> Error {
        let object = match object {
            "" => self.location.clone(),
            object => format!("{}/{object}", self.location),
        };
        let (kind, what) = match failure {
            Failure::Answer(answer) => {
                let (kind, meaning) = self.meaning(action, answer);
                (kind, format!("{meaning}{}", said(answer)))
            }
            Failure::Lost(problem) if problem.contains("tunnel error") => (
                ErrorKind::Io,
                format!(
                    "the proxy of HTTPS_PROXY makes no connection to the store ({}); a store that is reached without it goes into NO_PROXY",
                    self.lost(problem)
                ),
            ),
            Failure::Lost(problem) => (ErrorKind::Io, self.lost(problem)),
            Failure::Untrusted(problem) => (ErrorKind::Io, untrusted(problem)),
            Failure::Credentials { problem, .. } => (ErrorKind::Invalid, no_credentials(problem)),
            Failure::Local(problem) => (ErrorKind::Invalid, problem.clone()),
            Failure::Stopped => (
                ErrorKind::Interrupted,
                "stopped by request; what was committed before is safe".to_owned(),
            ),
        };
        Error::new(kind, object, format!("cannot {}: {what}", action.verb()))
    }

    /// What it means that no whole answer came.
    fn lost(&self, problem: &str) -> String {
        let problem = IN_LIBRARY_WORDS
            .iter()
            .fold(problem, |rest, words| rest.strip_prefix(words).unwrap_or(rest));
        let mut text = format!("no whole answer of {}", self.store);
        if let Some(proxy) = &self.proxy {
            text.push_str(&format!(" through the proxy {proxy}"));
        }
        text.push_str(&format!(": {problem}"));
        if problem.contains("InvalidContentType") {
            text.push_str("; what listens there does not speak TLS: name the store with http://, or another port");
        }
        text
    }

    /// The table: what a code means after an action.
    fn meaning(&self, action: Action, answer: &Answer) -> (ErrorKind, String) {
        use ErrorKind as K;
        let bucket = &self.bucket;
        let text = |kind: ErrorKind, text: &str| (kind, text.to_owned());
        match answer.code.as_str() {
            "NoSuchBucket" => (
                K::NoRepository,
                format!("there is no bucket {bucket}; create it first, or correct its name"),
            ),
            "InvalidBucketName" => (K::Invalid, format!("{bucket} is no name a bucket can have")),
            "InvalidAccessKeyId" => text(
                K::Invalid,
                "the store does not know the access key; check the credentials, and the endpoint they are for",
            ),
            "SignatureDoesNotMatch" => text(
                K::Invalid,
                "the secret key does not belong to the access key, or something between has changed the request",
            ),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken" => {
                text(
                    K::Invalid,
                    "the session token has expired or is not valid; get new credentials",
                )
            }
            "RequestTimeTooSkewed" => (K::Io, clocks(answer)),
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect" => (K::Invalid, self.elsewhere(answer)),
            "InvalidObjectState" => text(
                K::Io,
                "it lies in an archive; it must be restored there first (aws s3api restore-object), which takes hours",
            ),
            "NoSuchKey" | "NotFound" | "NoSuchVersion" | "NoSuchUpload" => {
                text(K::NotFound, "it is not there")
            }
            "PreconditionFailed" => text(K::AlreadyExists, "there is an object of that name"),
            "QuotaExceeded"
            | "XMinioStorageFull"
            | "XMinioAdminBucketQuotaExceeded"
            | "InsufficientStorage"
            | "InsufficientCapacity"
            | "NoSpaceLeft" => {
                text(K::Full, "the store has no space left, or the quota is used up")
            }
            "ObjectLocked" => text(K::Refused, "it is locked by retention"),
            "InvalidRequest"
                if answer.message.to_lowercase().replace(' ', "").contains("objectlock") =>
            {
                text(
                    K::Invalid,
                    "the bucket was made without object lock; it is switched on when a bucket is made",
                )
            }
            "InvalidStorageClass" => text(K::Invalid, "the store does not have this storage class"),
            "NotImplemented" | "MethodNotAllowed" => {
                text(K::Unsupported, "the store does not support this")
            }
            code if code.starts_with("KMS.") => (
                K::Invalid,
                format!(
                    "the key service refused the bucket's or the given key ({code}): it is disabled, deleted or unknown"
                ),
            ),
            "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "Forbidden"
            | "UnauthorizedAccess"
            | "AccessDeniedException" => self.denied(action, answer),
            _ => match answer.status {
                301 | 307 | 308 => (K::Invalid, self.elsewhere(answer)),
                // The time of requests was corrected by then, so that it need not be the clock.
                403 if answer.code.is_empty() && answer.clocks_differ() => {
                    let (kind, denied) = self.denied(action, answer);
                    (kind, format!("{denied}, or {}", clocks(answer)))
                }
                401 | 403 => self.denied(action, answer),
                404 => text(K::NotFound, "it is not there"),
                407 => text(K::Invalid, PROXY_ASKS),
                412 => text(K::AlreadyExists, "there is an object of that name"),
                405 | 501 => text(K::Unsupported, "the store does not support this"),
                507 => text(K::Full, "the store has no space left"),
                400 if answer.region.is_some() && action == Action::Head => {
                    (K::Invalid, self.elsewhere(answer))
                }
                400 if answer.code.is_empty() => text(
                    K::Invalid,
                    "the session token has expired, or the bucket is in another region",
                ),
                status => (K::Io, format!("the store answered with status {status}")),
            },
        }
    }

    fn denied(&self, action: Action, answer: &Answer) -> (ErrorKind, String) {
        let said = answer.message.to_lowercase();
        if said.contains("object lock") || said.contains("worm") {
            return (ErrorKind::Refused, "it is locked by retention".to_owned());
        }
        if said.contains("kms:") {
            let permission = match action {
                Action::Get | Action::GetVersion | Action::Head => "kms:Decrypt",
                _ => "kms:GenerateDataKey",
            };
            let text =
                format!("access denied by the key service; {permission} on the key is needed");
            return (ErrorKind::Io, text);
        }
        let mut text = format!("access denied; the permission {} is needed", self.needed(action));
        if matches!(action, Action::Get | Action::Head) {
            text.push_str(&format!(
                ", or it is not there: without {} the store does not tell which",
                self.needed(Action::List)
            ));
        }
        if matches!(action, Action::Delete | Action::DeleteVersion) {
            text.push_str(", unless it is locked by retention");
        }
        (ErrorKind::Io, text)
    }

    fn elsewhere(&self, answer: &Answer) -> String {
        match answer.region.as_deref().or_else(|| expected_region(&answer.message)) {
            Some(region) => {
                format!("the bucket is in the region {region}; say so with --s3-region {region}")
            }
            None => format!(
                "the bucket {} is in another region or behind another endpoint",
                self.bucket
            ),
        }
    }
}

/// What is wrong with the store's certificate, by the words of the TLS library.
fn untrusted(problem: &str) -> String {
    let (wrong, remedy) = match problem {
        _ if problem.contains("CaUsedAsEndEntity") => (
            "the store shows the certificate of an authority as its own",
            "let that authority issue one for the store",
        ),
        _ if problem.contains("not valid for name") => (
            "the store's certificate is for another host",
            "name the store as its certificate does (--s3-endpoint), or have one issued for this name",
        ),
        _ if problem.contains("certificate expired") => (
            "the store's certificate has expired",
            "have it renewed, or set the clock of this host if that is wrong",
        ),
        _ if problem.contains("not valid yet") => (
            "the store's certificate is not valid yet",
            "set the clock of this host if that is wrong",
        ),
        _ => (
            "the store's certificate is not trusted",
            "give the authority that issued it with --s3-ca-file",
        ),
    };
    format!("{wrong} ({problem}); {remedy}")
}

/// What is missing where there are no credentials.
pub(super) fn no_credentials(problem: &str) -> String {
    // The SDK's name of what it was built without.
    if problem.contains("sso") {
        return "single sign-on is not supported; make keys of it with aws configure export-credentials, for the environment or as the \
                credential_process of a profile"
            .to_owned();
    }
    // It then lists all places, each with how it has nothing.
    if problem.contains("no credentials found in chain")
        || problem.contains("no providers in chain")
    {
        return "no credentials: access keys are looked for in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the profile of AWS_PROFILE or \
                default in ~/.aws/config and ~/.aws/credentials, in a web identity, and with the role of this container or instance, and none \
                are there; docs/S3.md 3"
            .to_owned();
    }
    let problem = NO_CREDENTIALS_IN_LIBRARY_WORDS
        .iter()
        .fold(problem, |rest, words| rest.strip_prefix(words).unwrap_or(rest));
    format!("no credentials: {problem}; docs/S3.md 3 says where they come from")
}

/// Finds the region in words like "the region 'us-east-1' is wrong; expecting 'eu-west-1'".
fn expected_region(message: &str) -> Option<&str> {
    let rest = message.split_once("expecting '")?.1;
    let region = rest.split_once('\'')?.0;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (!region.is_empty() && region.chars().all(plain)).then_some(region)
}

fn clocks(answer: &Answer) -> String {
    let show = |time: SystemTime| {
        let shown = DateTime::from(time).fmt(DateTimeFormat::HttpDate);
        shown.unwrap_or_else(|_| "an unknown time".to_owned())
    };
    let here = show(SystemTime::now());
    match answer.date {
        Some(there) => format!(
            "the clocks are too far apart: it is {here} here and {} there; set the clock",
            show(there)
        ),
        None => format!("the clocks are too far apart: it is {here} here; set the clock"),
    }
}

/// What the store said, for who runs it.
fn said(answer: &Answer) -> String {
    let mut text = String::new();
    for (part, name) in [(&answer.code, ""), (&answer.message, "")] {
        if !part.is_empty() {
            text.push_str(if text.is_empty() { " (" } else { ": " });
            text.push_str(name);
            text.push_str(part.trim_end_matches('.'));
        }
    }
    if let Some(id) = &answer.request_id {
        text.push_str(if text.is_empty() { " (" } else { ", " });
        text.push_str(&format!("request {id}"));
    }
    if !text.is_empty() {
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            location: "s3://vault/db".to_owned(),
            bucket: "vault".to_owned(),
            prefix: "db/".to_owned(),
            store: "https://store:9000".to_owned(),
            proxy: None,
        }
    }

    fn explained(action: Action, answer: Answer) -> (ErrorKind, String) {
        let error = place().explain(action, "config", &Failure::Answer(Box::new(answer)));
        (error.kind(), error.to_string())
    }

    #[test]
    fn each_code_has_a_kind_and_says_what_to_do() {
        use ErrorKind as K;
        for (action, status, code, message, kind, says) in [
            (
                Action::Put,
                403,
                "AccessDenied",
                "",
                K::Io,
                "s3:PutObject on arn:aws:s3:::vault/db/*",
            ),
            (
                Action::List,
                403,
                "AccessDenied",
                "",
                K::Io,
                "s3:ListBucket on arn:aws:s3:::vault is",
            ),
            (Action::Head, 403, "", "", K::Io, "or it is not there: without s3:ListBucket"),
            (
                Action::Put,
                403,
                "AccessDenied",
                "User is not authorized to perform: kms:GenerateDataKey on",
                K::Io,
                "kms:GenerateDataKey on the key",
            ),
            (
                Action::Get,
                403,
                "AccessDenied",
                "not authorized to perform: kms:Decrypt",
                K::Io,
                "kms:Decrypt on the key",
            ),
            (
                Action::Delete,
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
                K::Refused,
                "locked by retention",
            ),
            (Action::PutRetention, 403, "AccessDenied", "", K::Io, "s3:PutObjectRetention"),
            (Action::Get, 404, "NoSuchBucket", "", K::NoRepository, "there is no bucket vault"),
            (Action::Get, 404, "NoSuchKey", "", K::NotFound, "not there"),
            (Action::Head, 404, "", "", K::NotFound, "not there"),
            (Action::Put, 412, "PreconditionFailed", "", K::AlreadyExists, "of that name"),
            (Action::Put, 507, "XMinioStorageFull", "", K::Full, "no space"),
            (Action::Put, 403, "QuotaExceeded", "", K::Full, "quota"),
            (Action::Get, 403, "InvalidObjectState", "", K::Io, "restored there first"),
            (Action::Put, 400, "KMS.DisabledException", "", K::Invalid, "KMS.DisabledException"),
            (
                Action::List,
                400,
                "AuthorizationHeaderMalformed",
                "the region 'us-east-1' is wrong; expecting 'eu-west-1'",
                K::Invalid,
                "--s3-region eu-west-1",
            ),
            (Action::List, 407, "", "", K::Invalid, "USER:PASSWORD@HOST"),
            (Action::Put, 501, "NotImplemented", "", K::Unsupported, "does not support"),
            (
                Action::Put,
                418,
                "Teapot",
                "short and stout",
                K::Io,
                "status 418 (Teapot: short and stout)",
            ),
        ] {
            let answer = Answer {
                status,
                code: code.to_owned(),
                message: message.to_owned(),
                ..Answer::default()
            };
            let (found, text) = explained(action, answer);
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(says), "{text}");
            assert!(text.starts_with("s3://vault/db/config: cannot "), "{text}");
        }
    }

    /// Catches a store that is not named where it is not reached.
    #[test]
    fn a_store_that_is_not_reached_is_named() {
        let words =
            "dispatch failure: io error: client error (Connect): tcp connect error: refused";
        let lost = |place: Place, words: &str| {
            place.explain(Action::Get, "config", &Failure::Lost(words.to_owned())).to_string()
        };
        assert_eq!(
            lost(place(), words),
            "s3://vault/db/config: cannot read: no whole answer of https://store:9000: tcp connect error: refused"
        );
        let proxy = Some("http://proxy:3128".to_owned());
        let text = lost(Place { proxy, ..place() }, words);
        assert!(
            text.contains("https://store:9000 through the proxy http://proxy:3128: tcp"),
            "{text}"
        );
        let text = lost(place(), "received corrupt message of type InvalidContentType");
        assert!(text.contains("does not speak TLS: name the store with http://"), "{text}");
    }

    #[test]
    fn the_right_region_and_both_clocks_are_named() {
        let region = Some("ap-south-1".to_owned());
        let answer = Answer { status: 301, region, ..Answer::default() };
        assert!(explained(Action::Head, answer).1.contains("--s3-region ap-south-1"));
        let answer = Answer {
            status: 403,
            code: "RequestTimeTooSkewed".to_owned(),
            date: Some(SystemTime::UNIX_EPOCH),
            ..Answer::default()
        };
        let text = explained(Action::Put, answer.clone()).1;
        assert!(text.contains("here and Thu, 01 Jan 1970 00:00:00 GMT there"), "{text}");
        let text = explained(Action::Head, Answer { code: String::new(), ..answer }).1;
        assert!(text.contains("s3:GetObject") && text.contains("clocks"), "{text}");
    }
}
