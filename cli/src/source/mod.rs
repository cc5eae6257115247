//! What a backup is asked to take: a deployment, or some paths.

mod apart;
mod deployment;
mod paths;

use std::collections::BTreeMap;
use std::path::PathBuf;

use colvault_engine::backup::Group;
use colvault_engine::finding::Finding;
use colvault_engine::format::snapshot::CredentialRecord;
use colvault_engine::source::{LeftOut, SourceTree};

pub use apart::refuse_own_directories;
pub use deployment::{Daemons, DeploymentOptions, deployment, describe};
pub use paths::{plain_paths, real_path};

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
}
