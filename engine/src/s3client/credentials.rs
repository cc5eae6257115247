//! Who asks: the chain of places credentials come from, and a role on top.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_config::SdkConfig;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::region::Region;
use tokio::sync::Mutex;

use super::connect::{check_profile, endpoint_of};
use super::explain::no_credentials;
use super::failure::chain;
use super::options::S3Options;
use crate::error::{Error, ErrorKind, Result};

/// Halves of a pair of keys.
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// Credentials are asked for again so long before they end.
const EARLY: Duration = Duration::from_secs(300);
/// While the old ones still hold, no more often than this.
const EAGER: Duration = Duration::from_secs(30);
/// The longest that is waited for credentials: a process or a service gives them.
const LOAD: Duration = Duration::from_secs(60);

/// Credentials that are asked for once, and again before they end or when the store says they have.
///
/// The SDK has such a cache too, but none that can be told that the store no longer takes what it
/// keeps.
#[derive(Clone, Debug)]
pub(super) struct KeptCredentials {
    source: SharedCredentialsProvider,
    kept: Arc<Mutex<Option<Kept>>>,
    /// Those in whose name the source asks, if it takes a role on.
    base: Option<Box<KeptCredentials>>,
}

#[derive(Debug)]
struct Kept {
    credentials: Credentials,
    given: Instant,
    asked: Instant,
}

impl KeptCredentials {
    fn new(source: SharedCredentialsProvider) -> Self {
        KeptCredentials { source, kept: Arc::default(), base: None }
    }

    /// Returns the credentials, asking for them when there are none or they are about to end.
    pub(super) async fn get(&self) -> std::result::Result<Credentials, CredentialsError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept {
            let left = |expiry: SystemTime| expiry.duration_since(SystemTime::now());
            let left = kept.credentials.expiry().map(|expiry| left(expiry).unwrap_or_default());
            let just_asked = kept.asked.elapsed() < EAGER;
            if left.is_none_or(|left| left > EARLY || (just_asked && !left.is_zero())) {
                return Ok(kept.credentials.clone());
            }
        }
        let asked = tokio::time::timeout(LOAD, self.source.provide_credentials()).await;
        match (
            asked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD))),
            &mut *kept,
        ) {
            (Ok(credentials), kept) => {
                let now = Instant::now();
                *kept = Some(Kept { credentials: credentials.clone(), given: now, asked: now });
                Ok(credentials)
            }
            // The old ones may hold for some minutes, and the next request asks again.
            (Err(_), Some(kept))
                if kept.credentials.expiry().is_none_or(|end| end > SystemTime::now()) =>
            {
                kept.asked = Instant::now();
                Ok(kept.credentials.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Forgets what was kept at `used`, and in whose name it was asked for: the store does not take it any
    /// more. Of many requests that are refused at once, the first lets new ones be asked for.
    pub(super) async fn forget(&self, used: Instant) {
        for credentials in [Some(self), self.base.as_deref()].into_iter().flatten() {
            let mut kept = credentials.kept.lock().await;
            if kept.as_ref().is_some_and(|kept| kept.given <= used) {
                *kept = None;
            }
        }
    }
}

impl ProvideCredentials for KeptCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

/// Returns who asks, by the SDK's chain, `--profile` before the environment, and the role on top.
///
/// Fails with `Invalid` where nobody is found, or the role is not given.
pub(super) async fn find(
    options: &S3Options,
    found: &SdkConfig,
    http: &SharedHttpClient,
    region: &Region,
) -> Result<KeptCredentials> {
    let usual = found.credentials_provider().expect("the loader sets the usual chain");
    let base = match &options.profile {
        None => KeptCredentials::new(usual),
        // Who names a profile means it, whatever the environment says. A profile that only has
        // settings leaves the credentials to the rest of the chain.
        Some(profile) => {
            let config = ProviderConfig::default()
                .with_http_client(http.clone())
                .with_region(Some(region.clone()));
            let named = ProfileFileCredentialsProvider::builder()
                .configure(&config)
                .profile_name(profile)
                .build();
            let chain = CredentialsProviderChain::first_try("profile", named);
            KeptCredentials::new(SharedCredentialsProvider::new(chain.or_else("usual", usual)))
        }
    };
    if let Err(error) = base.get().await {
        return Err(missing(options, &sts(found, region), &error).await);
    }
    let Some(role) = &options.role else { return Ok(base) };
    let mut taken = AssumeRoleProvider::builder(&role.arn)
        .configure(found)
        .region(region.clone())
        .session_name(format!("colvault-{}", std::process::id()));
    if let Some(external) = &role.external_id {
        taken = taken.external_id(external);
    }
    let taken = taken.build_from_provider(base.clone()).await;
    let taken = KeptCredentials::new(SharedCredentialsProvider::new(taken));
    let taken = KeptCredentials { base: Some(Box::new(base)), ..taken };
    match taken.get().await {
        Ok(_) => Ok(taken),
        Err(error) => Err(not_taken(&role.arn, &sts(found, region), &error)),
    }
}

/// Says which keys are missing where nobody is found to ask as.
async fn missing(options: &S3Options, sts: &str, error: &CredentialsError) -> Error {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let problem = match (said(KEY_ID), said(SECRET)) {
        (Some(_), None) => format!("{KEY_ID} is set and {SECRET} is not: keys come in pairs"),
        (None, Some(_)) => format!("{SECRET} is set and {KEY_ID} is not: keys come in pairs"),
        _ => {
            // The SDK goes on without a profile that is not there.
            if let (None, Some(profile)) = (&options.profile, said("AWS_PROFILE"))
                && let Err(error) = check_profile(&profile).await
            {
                return error;
            }
            let found = chain(error);
            // Whose role it is stands in a profile, or a variable.
            let asked = match found.contains("dispatch failure") {
                true => format!(" (roles are asked for at {sts})"),
                false => String::new(),
            };
            no_credentials(&found) + &asked
        }
    };
    let location = format!("s3://{}/{}", options.bucket, options.prefix);
    Error::new(ErrorKind::Invalid, location.trim_end_matches('/'), problem)
}

/// Says why a role cannot be taken on, and who was asked.
fn not_taken(arn: &str, sts: &str, error: &CredentialsError) -> Error {
    let problem = format!(
        "it cannot be taken on at {sts}; the permission sts:AssumeRole is needed, and that the role trusts who asks ({}); a store of one's own \
         is asked with AWS_ENDPOINT_URL_STS",
        chain(error)
    );
    Error::new(ErrorKind::Invalid, format!("role {arn}"), problem)
}

/// Who gives roles away.
fn sts(found: &SdkConfig, region: &Region) -> String {
    endpoint_of("STS", found).unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"))
}
