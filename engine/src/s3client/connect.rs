//! From options to a client of the SDK: endpoint, region, addressing, credentials.

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::os_shim_internal::{Env, Fs};
use aws_types::region::Region;
use aws_types::service_config::ServiceConfigKey;

use super::answers;
use super::credentials::{self, KeptCredentials};
use super::failure::chain;
use super::options::{Addressing, Patience, S3Options};
use super::tls;
use crate::error::{Error, ErrorKind, Result};

/// Where stores without regions are.
const REGION_OF_ENDPOINTS: Region = Region::from_static("us-east-1");

/// What a connection is made of. No request to the bucket was sent yet.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) s3: aws_sdk_s3::Client,
    /// Where the store is, for messages.
    pub(super) store: String,
    pub(super) credentials: KeptCredentials,
}

/// Resolves what the options, the environment and the profile say.
pub(super) async fn connect(options: &S3Options) -> Result<Connected> {
    check_options(options)?;
    let http = tls::checked(options)?;
    if let Some(profile) = &options.profile {
        check_profile(profile).await?;
    }
    let found = load(options, &http).await;
    let endpoint = endpoint(options, &found);
    let region = found.region().cloned().or(endpoint.is_some().then_some(REGION_OF_ENDPOINTS));
    let region = region.ok_or_else(|| {
        invalid(
            "region",
            "none is set; give --s3-region, set AWS_REGION, or `region` in the profile",
        )
    })?;
    let credentials = credentials::find(options, &found, &http, &region).await?;
    let has_tls = endpoint.as_deref().is_none_or(|endpoint| !endpoint.starts_with("http://"));
    let http = if options.insecure_tls && has_tls { tls::unchecked(options) } else { http };
    let at_aws = || format!("https://s3.{region}.amazonaws.com");
    let store = endpoint.clone().unwrap_or_else(at_aws);
    let mut config = aws_sdk_s3::config::Builder::from(&found)
        .region(region)
        .http_client(http)
        .credentials_provider(credentials.clone())
        // They are kept here, where the store's word that they have expired is heard.
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(&options.patience))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(answers::Watching)
        .app_name(AppName::new("colvault").expect("a plain word"))
        .force_path_style(is_path_style(options.addressing, &options.bucket, endpoint.as_deref()));
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(Connected { s3: aws_sdk_s3::Client::from_conf(config.build()), store, credentials })
}

fn invalid(object: &str, problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, object, problem)
}

fn check_options(options: &S3Options) -> Result<()> {
    if options.bucket.is_empty() {
        return Err(invalid("s3://", "the name of a bucket expected"));
    }
    if !options.prefix.is_empty() && !options.prefix.ends_with('/') {
        return Err(invalid(&options.prefix, "a prefix that ends in / expected"));
    }
    if let Some(endpoint) = &options.endpoint {
        let host = endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://"));
        if host.is_none_or(str::is_empty) {
            return Err(invalid(endpoint, "an endpoint like https://host:port expected"));
        }
    }
    Ok(())
}

/// Fails when a profile that was asked for by name is in no file: the SDK would go on without it.
pub(super) async fn check_profile(profile: &str) -> Result<()> {
    let named = Some(profile.to_owned().into());
    let (files, environment) = (Fs::real(), Env::real());
    let usual = Default::default();
    let profiles = aws_config::profile::load(&files, &environment, &usual, named).await;
    let profiles = profiles.map_err(|error| {
        invalid(&format!("profile {profile}"), "the files with profiles cannot be read")
            .caused_by(chain(&error))
    })?;
    match profiles.get_profile(profile) {
        Some(_) => Ok(()),
        None => Err(invalid(
            &format!("profile {profile}"),
            "it is neither in ~/.aws/config nor in ~/.aws/credentials",
        )),
    }
}

async fn load(options: &S3Options, http: &SharedHttpClient) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    let mut region = RegionProviderChain::first_try(options.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new());
    let mut of_profile = ProfileFileRegionProvider::builder();
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
        of_profile = of_profile.profile_name(profile);
    }
    region = region.or_else(of_profile.build());
    // Only a host at AWS can be asked where it is, and elsewhere that question takes long.
    region = match names_endpoint(options) {
        true => region.or_else(REGION_OF_ENDPOINTS),
        false => region.or_default_provider(),
    };
    loader.region(region).load().await
}

fn names_endpoint(options: &S3Options) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    options.endpoint.is_some() || is_set("AWS_ENDPOINT_URL_S3") || is_set("AWS_ENDPOINT_URL")
}

/// The endpoint of the options, or what environment and profile say of S3, or of everything.
fn endpoint(options: &S3Options, found: &SdkConfig) -> Option<String> {
    options.endpoint.clone().or_else(|| endpoint_of("S3", found))
}

/// What environment and profile say of a service's endpoint, or of everything.
pub(super) fn endpoint_of(service: &str, found: &SdkConfig) -> Option<String> {
    let of_service = || {
        let key = ServiceConfigKey::builder()
            .service_id(service)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .expect("all fields are set");
        found.service_config()?.load_config(key)
    };
    of_service().or_else(|| found.endpoint_url().map(str::to_owned))
}

/// The rule of [`Addressing::Auto`].
fn is_path_style(addressing: Addressing, bucket: &str, endpoint: Option<&str>) -> bool {
    match addressing {
        Addressing::Path => true,
        Addressing::Virtual => false,
        // An access point has a host name of its own.
        Addressing::Auto if bucket.starts_with("arn:") => false,
        // A certificate for `*.s3.amazonaws.com` does not hold for a name with one more dot.
        Addressing::Auto => endpoint.is_some() || bucket.contains('.'),
    }
}

/// The connector waits for connections alone; for everything else there is a pulse.
fn timeouts(patience: &Patience) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(patience.connect)
        .disable_read_timeout()
        .disable_operation_timeout()
        .disable_operation_attempt_timeout()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_named_in_the_path_where_there_may_be_no_host_for_them() {
        use Addressing::{Auto, Path, Virtual};
        for (addressing, bucket, endpoint, path) in [
            (Auto, "vault", None, false),
            (Auto, "db.vault", None, true),
            (Auto, "vault", Some("http://127.0.0.1:9000"), true),
            (Auto, "arn:aws:s3:eu-west-1:1:accesspoint/vault.x", None, false),
            (Path, "vault", None, true),
            (Virtual, "db.vault", Some("https://s3.example.org"), false),
        ] {
            assert_eq!(is_path_style(addressing, bucket, endpoint), path, "{bucket} {endpoint:?}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let good = S3Options { bucket: "vault".to_owned(), ..S3Options::default() };
        assert!(check_options(&good).is_ok());
        for bad in [
            S3Options::default(),
            S3Options { prefix: "db".to_owned(), ..good.clone() },
            S3Options { endpoint: Some("127.0.0.1:9000".to_owned()), ..good.clone() },
            S3Options { endpoint: Some("https://".to_owned()), ..good.clone() },
        ] {
            assert_eq!(check_options(&bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
