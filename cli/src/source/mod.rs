//! What a backup is asked to take: a deployment, or some paths.

mod apart;
mod args;
mod deployment;
mod paths;
mod record;
mod storing;

use std::collections::BTreeMap;
use std::path::PathBuf;

use colvault_engine::backup::Group;
use colvault_engine::finding::Finding;
use colvault_engine::format::snapshot::{CredentialRecord, SystemOfRecord};
use colvault_engine::format::text::encode_path;
use colvault_engine::source::columnstore::Running;
use colvault_engine::source::{LeftOut, SourceTree};

use crate::exit::Failure;

pub use apart::refuse_own_directories;
pub use args::{PLAIN, SourceArgs};
pub use deployment::{Daemons, DeploymentOptions, deployment, describe};
pub use paths::{plain_paths, real_path};
pub use record::NOT_CONFIRMED;
pub use storing::SlotsAs;

/// What is to be backed up and what is known of it before the walk.
#[derive(Debug)]
pub struct Source {
    /// The components.
    pub trees: Vec<SourceTree>,
    /// What they are.
    pub group: Group,
    /// What was asked for.
    pub paths: Vec<PathBuf>,
    /// What is known to be left out.
    pub left_out: Vec<LeftOut>,
    /// Files that hold credentials.
    pub credentials: Vec<CredentialRecord>,
    /// Facts of the source.
    pub facts: BTreeMap<String, String>,
    /// What was done and seen so that the data belongs together.
    pub evidence: BTreeMap<String, String>,
    /// What is wrong before anything is read.
    pub findings: Vec<Finding>,
    /// What the user should know, as sentences.
    pub notes: Vec<String>,
    /// The processes that must not run while a deployment is read; `None` for plain paths, and
    /// when the user takes the risk.
    pub daemons: Option<Daemons>,
    /// The system of record; `None` for plain paths.
    pub record: Option<SystemOfRecord>,
    /// The tables of the object ids that are left out, where tables were chosen by name.
    pub record_table_of: BTreeMap<u32, String>,
    /// What only a deployment has; `None` for plain paths.
    pub deployment: Option<Surroundings>,
    /// Why a backup of it is refused.
    pub obstacles: Vec<Failure>,
}

impl Source {
    /// Returns what the user is told before a backup: the notes, and what exists but is in no
    /// component.
    pub fn told(&self) -> Vec<String> {
        let mut told = self.notes.clone();
        told.extend(self.left_out.iter().map(|left_out| {
            format!("{} is left out: {}", encode_path(&left_out.path), left_out.reason)
        }));
        told
    }
}

/// What is known of a deployment beside what is backed up.
#[derive(Debug)]
pub struct Surroundings {
    /// Its root directory on this host.
    pub root: PathBuf,
    /// Its daemons that run.
    pub running: Vec<Running>,
    /// Optional files that were looked for and are not there, as it names them.
    pub missing: Vec<PathBuf>,
    /// The bucket its column data is in, as a URL.
    pub bucket: Option<String>,
}
