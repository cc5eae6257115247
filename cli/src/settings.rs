//! What options and environment come to, once resolved and validated.

use std::env;
use std::path::{Path, PathBuf};

use colvault_engine::error::ErrorKind;

use crate::args::Globals;
use crate::exit::Failure;

/// Where indexes are cached when neither the user nor the environment says.
const CACHE_OF_THE_HOST: &str = "/var/cache/colvault";

/// What holds for every command.
#[derive(Clone, Debug)]
pub struct Settings {
    repository: Option<String>,
    /// Where the caches of all repositories are; `None` to keep indexes in memory.
    pub cache: Option<CacheDirectory>,
    /// Threads that work at once, at least one.
    pub threads: usize,
}

/// The directory of all caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDirectory {
    /// Where it is; it need not exist.
    pub path: PathBuf,
    /// Whether nobody asked for this place.
    pub is_default: bool,
}

impl Settings {
    /// Resolves the options of every command; the environment stands behind them already.
    pub fn resolve(globals: &Globals) -> Result<Settings, Failure> {
        let available = || std::thread::available_parallelism().map_or(1, |number| number.get());
        // Set to nothing in the environment is as good as not set.
        let asked = globals.cache_dir.as_ref().filter(|path| !path.is_empty()).map(Path::new);
        let cache = (!globals.no_cache).then(|| cache_directory(asked));
        Ok(Settings {
            repository: globals.repo.clone().filter(|text| !text.is_empty()),
            cache,
            threads: globals.threads.map_or_else(available, usize::from),
        })
    }

    /// Returns the directory the repository is in.
    ///
    /// Fails when none was given, and with `Unsupported` when it is no directory.
    pub fn repository(&self) -> Result<&Path, Failure> {
        let Some(text) = &self.repository else {
            return Err(Failure::usage("no repository was given")
                .with_hint("say where it is: -r DIRECTORY, or COLVAULT_REPOSITORY=DIRECTORY"));
        };
        let scheme = text.split_once(':').map(|(scheme, rest)| (scheme, rest.starts_with("//")));
        match scheme {
            Some(("s3", _)) => Err(Failure::new(
                ErrorKind::Unsupported,
                text,
                "repositories in S3 come with a later version",
            )
            .with_hint("use a directory")),
            Some((scheme, true)) => Err(Failure::new(
                ErrorKind::Unsupported,
                text,
                format!("a directory expected, found {scheme}://"),
            )),
            _ => Ok(Path::new(text)),
        }
    }
}

fn cache_directory(asked: Option<&Path>) -> CacheDirectory {
    if let Some(path) = asked {
        return CacheDirectory { path: path.to_owned(), is_default: false };
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let path = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| CACHE_OF_THE_HOST.into(), |cache| cache.join("colvault"));
    CacheDirectory { path, is_default: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(text: &str) -> Result<PathBuf, u8> {
        let settings = Settings { repository: Some(text.to_owned()), cache: None, threads: 1 };
        settings.repository().map(Path::to_owned).map_err(|failure| failure.exit().code())
    }

    #[test]
    fn only_directories_are_repositories_for_now() {
        assert_eq!(repository("back/up"), Ok("back/up".into()));
        assert_eq!(repository("/odd:name"), Ok("/odd:name".into()));
        for text in ["s3://bucket/prefix", "s3:https://host/bucket", "sftp://host/x"] {
            assert_eq!(repository(text), Err(13), "{text}");
        }
    }
}
