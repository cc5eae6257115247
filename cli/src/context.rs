//! What every command works with: settings, output, the request to stop, the open repository.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use colvault_engine::finding::{Finding, Findings};
use colvault_engine::index::CachePlace;
use colvault_engine::progress::{Cancel, Event, Observer};
use colvault_engine::repository::Repository;
use colvault_engine::snapshot::{self, Listing};

use crate::exit::Failure;
use crate::output::{Next, Output};
use crate::settings::Settings;
use crate::store::Store;

/// What every command works with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Resolved options.
    pub settings: &'a Settings,
    /// Where everything is shown.
    pub output: &'a dyn Output,
    /// The request to stop.
    pub cancel: &'a Cancel,
}

impl Context<'_> {
    /// Opens the repository. Its index is not loaded yet.
    pub fn open_repository(&self) -> Result<Repository, Failure> {
        self.open(false)
    }

    /// Opens the repository for whoever begins a session with it first of all.
    pub fn open_for_session(&self) -> Result<Repository, Failure> {
        self.open(true)
    }

    fn open(&self, begins_session: bool) -> Result<Repository, Failure> {
        let store = Store::open(&self.settings.repository()?, self.settings, self.cancel)?;
        let place = |id| match &self.settings.cache {
            Some(cache) => CachePlace::Directory(cache.path.join(format!("{id}"))),
            None => CachePlace::Memory,
        };
        let repository = match begins_session {
            true => Repository::open_for_session(store.backend(), place),
            false => Repository::open(store.backend(), place),
        };
        let repository = repository.map_err(|error| store.explain(error))?;
        store.apply(&repository.config().store);
        Ok(repository)
    }

    /// Opens the repository and loads its index; what that meets goes to the watch.
    pub fn open_to_read(&self, watch: &Watch<'_>) -> Result<(Repository, Listing), Failure> {
        let repository = self.open_repository()?;
        repository.load_index(watch)?;
        let listing = snapshot::list(&repository)?;
        watch.add(&listing.findings);
        Ok((repository, listing))
    }

    /// Returns what lines on what to do next are made of.
    pub fn next(&self) -> Next<'_> {
        Next { again: &self.settings.again, is_bucket: self.settings.is_bucket() }
    }

    /// Returns device, inode and name of the directories that no backup may take in.
    pub fn forbidden(&self) -> Result<Vec<(u64, u64, String)>, Failure> {
        let mut places = Vec::new();
        if self.settings.has_repository() {
            places.extend(self.settings.directory()?.map(|path| (path, "the repository")));
        }
        places.extend(self.settings.cache.iter().map(|cache| (cache.path.clone(), "the cache")));
        let identity = |(path, what): (PathBuf, &str)| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino(), what.to_owned()))
        };
        Ok(places.into_iter().filter_map(identity).collect())
    }
}

/// Hands events on to the output and keeps the findings among them.
pub struct Watch<'a> {
    output: &'a dyn Output,
    /// What was found so far.
    findings: Mutex<Findings>,
}

impl<'a> Watch<'a> {
    /// Begins with nothing found.
    pub fn new(output: &'a dyn Output) -> Self {
        Watch { output, findings: Mutex::default() }
    }

    /// Takes findings of a report, but for those that were events before.
    pub fn add(&self, reported: &Findings) {
        let known = self.findings();
        for finding in reported.listed.iter().filter(|finding| !known.listed.contains(finding)) {
            if known.count(finding.kind) < reported.count(finding.kind) {
                self.find(finding);
            }
        }
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in &reported.counts {
            let counted = findings.counts.entry(*kind).or_default();
            *counted = (*counted).max(*count);
        }
    }

    /// Returns what was found so far.
    pub fn findings(&self) -> Findings {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, finding: &Finding) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding.clone());
        self.output.event(Event::Finding(finding));
    }
}

impl Observer for Watch<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Finding(finding) => self.find(finding),
            other => self.output.event(other),
        }
    }
}
