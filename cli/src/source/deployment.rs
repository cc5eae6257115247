//! A ColumnStore deployment as a source, and the processes that must not write to it meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use colvault_engine::backup::Group;
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::snapshot::CredentialRecord;
use colvault_engine::format::text::encode_path;
use colvault_engine::pattern::escaped;
use colvault_engine::source::columnstore::{
    Credential, Deployment, Root, Running, Topology, discover, running_daemons,
};
use colvault_engine::source::{LeaveOut, SourceTree};

use super::record::{self, RecordSettings};
use super::{Source, Surroundings};
use crate::exit::Failure;

/// Why a file of `--without-secrets` is not in the snapshot.
const WITHOUT_SECRETS: &str = "holds credentials (--without-secrets)";

/// Which deployment, and how.
#[derive(Clone, Copy, Debug)]
pub struct DeploymentOptions<'a> {
    /// The directory that stands for `/` of the deployment.
    pub root: &'a Path,
    /// Its name, in place of the one its configuration gives it.
    pub name: Option<&'a str>,
    /// Read it although its daemons run.
    pub is_unsafe_live: bool,
    /// Leave out files that hold credentials.
    pub is_without_secrets: bool,
    /// Where its column data has its origin.
    pub record: &'a RecordSettings,
}

/// The processes that write to some directories.
#[derive(Clone, Debug)]
pub struct Daemons {
    /// The root of the deployment.
    root: PathBuf,
    /// Its data directories on this host.
    directories: Vec<PathBuf>,
}

impl Daemons {
    /// Watches processes with this root, or with something open in these directories.
    pub fn of(root: impl Into<PathBuf>, directories: Vec<PathBuf>) -> Self {
        Daemons { root: root.into(), directories }
    }

    /// Returns those that are alive.
    pub fn running(&self) -> Result<Vec<Running>, Failure> {
        Ok(running_daemons(&self.root, &self.directories)?)
    }

    /// Returns a finding when there are any, although there were none before.
    pub fn started_meanwhile(&self) -> Result<Vec<Finding>, Error> {
        let running = running_daemons(&self.root, &self.directories)?;
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let detail = format!("started during the backup: {}", describe(&running));
        let object = self.root.display().to_string();
        Ok(vec![Finding::new(FindingKind::NotFrozen, object, detail)])
    }
}

/// Makes a source of the deployment below a root.
///
/// What makes a backup of it be refused is in its obstacles: `Unsupported` for one that keeps its
/// data in a bucket, `Refused` when its daemons run, what is wrong with its system of record.
pub fn deployment(options: &DeploymentOptions<'_>) -> Result<Source, Failure> {
    let mut found = discover(options.root).map_err(|error| not_discovered(options.root, error))?;
    let root = found.root.display().to_string();
    let mut obstacles = Vec::new();
    if found.topology == Topology::ObjectStorage {
        let problem = "this deployment keeps its data in object storage, or its Storage Manager \
                       is on; that comes with a later version";
        obstacles.push(Failure::new(ErrorKind::Unsupported, root.clone(), problem));
    }
    let data = found.trees.iter().filter(|tree| tree.component != "config");
    let daemons = Daemons::of(&found.root, data.map(|tree| tree.base.clone()).collect());
    let running = daemons.running()?;
    if !running.is_empty() && !options.is_unsafe_live {
        let problem = format!("its daemons are running: {}", describe(&running));
        obstacles.push(
            Failure::new(ErrorKind::Refused, root.clone(), problem)
                .with_hint("stop them first, or take an inconsistent snapshot with --unsafe-live"),
        );
    }
    let (record, record_table_of) = match record::apply(options.record, &mut found) {
        Ok(applied) => (Some(applied.record), applied.table_of),
        Err(failure) => {
            obstacles.push(failure);
            (None, BTreeMap::new())
        }
    };
    let credentials = credential_records(&found, !options.is_without_secrets);
    if options.is_without_secrets {
        leave_out_secrets(&mut found)?;
    }
    Ok(Source {
        group: Group::Deployment {
            name: options.name.map_or_else(|| found.name.clone(), str::to_owned),
            topology: match found.topology {
                Topology::SharedLocal => "shared-local".to_owned(),
                Topology::ObjectStorage => "object-storage".to_owned(),
            },
        },
        paths: recorded_paths(&found.trees),
        evidence: evidence(&running),
        findings: not_frozen(&root, &running)
            .filter(|_| options.is_unsafe_live)
            .into_iter()
            .collect(),
        notes: found.notes.clone(),
        daemons: running.is_empty().then_some(daemons),
        record,
        record_table_of,
        deployment: Some(Surroundings {
            root: found.root.clone(),
            bucket: bucket(&found),
            missing: found.missing_optional,
            running,
        }),
        obstacles,
        trees: found.trees,
        left_out: found.left_out,
        credentials,
        facts: found.facts,
    })
}

/// Returns the bucket of a deployment that keeps its column data in one.
fn bucket(found: &Deployment) -> Option<String> {
    let bucket = found.facts.get("s3_bucket")?;
    Some(match found.facts.get("s3_prefix") {
        Some(prefix) => format!("s3://{bucket}/{prefix}"),
        None => format!("s3://{bucket}"),
    })
}

/// Returns where the components are, as the deployment names it: without `--root`.
fn recorded_paths(trees: &[SourceTree]) -> Vec<PathBuf> {
    let of = |tree: &SourceTree| -> Vec<PathBuf> {
        // Joined with the empty path a directory would end in a slash.
        tree.select.iter().map(|below| tree.recorded.join(below).components().collect()).collect()
    };
    trees.iter().flat_map(of).collect()
}

/// Says what `--root` means where there is no deployment at all. One that lacks a part is told what.
fn not_discovered(root: &Path, error: Error) -> Failure {
    let is_absent = error.kind() == ErrorKind::NotFound
        && !root.join("etc/columnstore/Columnstore.xml").exists();
    let failure = Failure::from(error);
    if !is_absent {
        return failure;
    }
    failure.with_hint(
        "--root is the directory that stands for / of a deployment; PATH... backs up \
                       files and directories as they are",
    )
}

/// Names each daemon, its process and how it is known to belong to the deployment.
pub fn describe(running: &[Running]) -> String {
    let one = |running: &Running| match running.pid {
        Some(pid) => format!("{} (pid {pid}: {})", running.name, running.evidence),
        None => format!("{} ({})", running.name, running.evidence),
    };
    running.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn evidence(running: &[Running]) -> BTreeMap<String, String> {
    let (freeze, daemons) = match running {
        [] => ("offline", "none running".to_owned()),
        some => ("none", describe(some)),
    };
    BTreeMap::from([("freeze".into(), freeze.into()), ("daemons".into(), daemons)])
}

fn not_frozen(root: &str, running: &[Running]) -> Option<Finding> {
    let detail = || format!("read while these were running: {}", describe(running));
    (!running.is_empty()).then(|| Finding::new(FindingKind::NotFrozen, root, detail()))
}

fn credential_records(found: &Deployment, stored: bool) -> Vec<CredentialRecord> {
    let record = |credential: &Credential| CredentialRecord {
        path: encode_path(&credential.path),
        what: credential.kind.clone(),
        stored,
    };
    found.credentials.iter().map(record).collect()
}

/// Adds a rule for each file with credentials to every component it may be met in: `.secrets` is
/// in `config` and, in some deployments, below the data directory too.
fn leave_out_secrets(found: &mut Deployment) -> Result<(), Failure> {
    let root = Root::open(&found.root)?;
    for credential in &found.credentials {
        // What the deployment's name for the file leads to, links followed.
        let host = root.resolve(&credential.path)?;
        let mut is_left_out = false;
        for tree in &mut found.trees {
            let Some(glob) = exact_glob(tree, &host) else { continue };
            is_left_out |= tree.component == credential.component;
            tree.leave_out.push(LeaveOut { glob, reason: WITHOUT_SECRETS.to_owned() });
        }
        if !is_left_out {
            return Err(Failure::new(
                ErrorKind::Refused,
                encode_path(&credential.path),
                format!("it holds a {} and cannot be left out by its name", credential.kind),
            ));
        }
    }
    Ok(())
}

/// Returns a glob that matches exactly one path of a tree; `None` if it is not in there or not
/// UTF-8.
fn exact_glob(tree: &SourceTree, host: &Path) -> Option<String> {
    let path = host.strip_prefix(&tree.base).ok()?.to_str()?;
    Some(format!("/{}", escaped(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use colvault_engine::pattern::Patterns;

    #[test]
    fn an_exact_glob_matches_its_path_and_no_other() {
        let tree = SourceTree {
            component: "config".into(),
            base: "/host/etc".into(),
            recorded: "/etc".into(),
            select: vec![PathBuf::new()],
            leave_out: Vec::new(),
        };
        for name in ["my.cnf", "a/b*c", "q[x]!{y,z}?", r"back\slash"] {
            let glob = exact_glob(&tree, &Path::new("/host/etc").join(name)).unwrap();
            let patterns = Patterns::new([glob.as_str()]).unwrap();
            assert!(patterns.covers(name.as_bytes()), "{glob}");
            assert!(!patterns.covers(b"a/bXc") && !patterns.covers(b"below/my.cnf"), "{glob}");
        }
        assert_eq!(exact_glob(&tree, Path::new("/elsewhere/x")), None);
    }

    #[test]
    fn running_daemons_are_named_and_make_a_finding() {
        let server = Running { pid: Some(7), name: "mariadbd".into(), evidence: "x".into() };
        let hidden = Running { pid: None, name: "PrimProc".into(), evidence: "y".into() };
        let running = [server, hidden];
        assert_eq!(describe(&running), "mariadbd (pid 7: x), PrimProc (y)");
        assert_eq!(evidence(&running)["freeze"], "none");
        assert_eq!(evidence(&[])["freeze"], "offline");
        assert_eq!(evidence(&[])["daemons"], "none running");
        assert!(not_frozen("/", &[]).is_none());
        assert_eq!(not_frozen("/", &running).unwrap().kind, FindingKind::NotFrozen);
    }
}
