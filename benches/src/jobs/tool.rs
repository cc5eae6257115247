//! The tools: how each is told to do the same job.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Common, Outcome};

/// What stores on loopback are taken to be in.
const REGION: &str = "us-east-1";

/// A tool that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Tool {
    /// This project, as it is by default: slots as recipes.
    Colvault,
    /// The same with slots as packed bytes.
    ColvaultPacked,
    /// Encrypts always; zstd by its own default.
    Restic,
    /// Encrypts always; zstd by its own default.
    Rustic,
    /// Without encryption, zstd at its default level as the two above.
    Borg,
    /// The same with zstd level 1.
    BorgFast,
    /// `cp -a --reflink=never`: no repository, only the copy that a restore is compared with.
    Cp,
}

/// A tool with its repository, cache and source.
#[derive(Clone, Debug)]
pub struct Job {
    pub tool: Tool,
    program: PathBuf,
    pub repository: PathBuf,
    cache: PathBuf,
    source: PathBuf,
    /// Where the repository is, when not in the directory; that is then where the store keeps it.
    pub bucket: Option<Bucket>,
    archives: u32,
}

/// A bucket of a store on loopback. Each tool's repository is below its directory's name.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub name: String,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Colvault => "colvault",
            Tool::ColvaultPacked => "colvault packed",
            Tool::Restic => "restic",
            Tool::Rustic => "rustic",
            Tool::Borg => "borg",
            Tool::BorgFast => "borg zstd,1",
            Tool::Cp => "cp -a",
        }
    }

    fn program(self, common: &Common) -> PathBuf {
        match self {
            Tool::Colvault | Tool::ColvaultPacked => absolute(&common.colvault),
            Tool::Cp => "cp".into(),
            Tool::Borg | Tool::BorgFast => absolute(&common.peers).join("bin/borg"),
            Tool::Restic | Tool::Rustic => absolute(&common.peers).join("bin").join(self.name()),
        }
    }

    /// Whether it keeps backups.
    pub fn has_repository(self) -> bool {
        self != Tool::Cp
    }

    /// Whether it keeps backups in a bucket.
    pub fn has_bucket(self) -> bool {
        matches!(self, Tool::Colvault | Tool::ColvaultPacked | Tool::Restic | Tool::Rustic)
    }

    /// Whether it is one of the three that are compared with.
    pub fn is_peer(self) -> bool {
        matches!(self, Tool::Restic | Tool::Rustic | Tool::Borg)
    }

    /// Returns what the tool says of its version.
    pub fn version(self, common: &Common) -> Outcome<String> {
        let argument = if self == Tool::Restic { "version" } else { "--version" };
        let output = Command::new(self.program(common)).arg(argument).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Job {
    /// Prepares a tool to back up `source`; `repository` and `cache` are made by [`Job::init`].
    pub fn new(tool: Tool, common: &Common, repositories: &Path, source: &Path) -> Job {
        Job {
            tool,
            program: tool.program(common),
            repository: repositories.join(format!("{tool:?}").to_lowercase()),
            cache: absolute(&common.work).join("cache").join(format!("{tool:?}").to_lowercase()),
            source: absolute(source),
            bucket: None,
            archives: 0,
        }
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command.env("HOME", &self.cache).env("XDG_CACHE_HOME", &self.cache);
        let repository = &self.repository;
        match self.tool {
            Tool::Colvault | Tool::ColvaultPacked => {
                command.env("COLVAULT_REPOSITORY", repository);
                command.env("COLVAULT_CACHE_DIR", &self.cache);
            }
            Tool::Restic => {
                command.env("RESTIC_REPOSITORY", repository).env("RESTIC_PASSWORD", "bench");
                command.env("RESTIC_CACHE_DIR", &self.cache);
            }
            Tool::Rustic => {
                command.env("RUSTIC_REPOSITORY", repository).env("RUSTIC_PASSWORD", "bench");
                command.env("RUSTIC_CACHE_DIR", &self.cache).env("RUSTIC_NO_PROGRESS", "true");
            }
            Tool::Borg | Tool::BorgFast => {
                command.env("BORG_REPO", repository).env("BORG_BASE_DIR", &self.cache);
                command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
                command.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
            }
            Tool::Cp => {}
        }
        if let Some(bucket) = &self.bucket {
            self.put_in(bucket, &mut command);
        }
        command
    }

    /// Tells the tool that its repository is in a bucket.
    fn put_in(&self, bucket: &Bucket, command: &mut Command) {
        let prefix = self.repository.file_name().unwrap_or_default().to_string_lossy();
        let Bucket { endpoint, access_key, secret_key, name } = bucket;
        command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", secret_key);
        command.env("AWS_REGION", REGION).env("AWS_EC2_METADATA_DISABLED", "true");
        match self.tool {
            Tool::Colvault | Tool::ColvaultPacked => {
                command.env("COLVAULT_REPOSITORY", format!("s3://{name}/{prefix}"));
                command.env("COLVAULT_S3_ENDPOINT", endpoint);
            }
            Tool::Restic => {
                command.env("RESTIC_REPOSITORY", format!("s3:{endpoint}/{name}/{prefix}"));
            }
            Tool::Rustic => {
                command.env("RUSTIC_REPOSITORY", "opendal:s3");
                let options = [
                    ("BUCKET", name.as_str()),
                    ("ROOT", prefix.as_ref()),
                    ("ENDPOINT", endpoint),
                    ("REGION", REGION),
                ];
                for (option, value) in options {
                    command.env(format!("RUSTIC_REPO_OPT_{option}"), value);
                }
            }
            Tool::Borg | Tool::BorgFast | Tool::Cp => {}
        }
    }

    /// Makes a fresh repository and a fresh cache in place of what is there.
    pub fn init(&mut self) -> Outcome<()> {
        for directory in [&self.repository, &self.cache] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
            // A store makes its own.
            if self.bucket.is_none() || directory == &self.cache {
                fs::create_dir_all(directory)?;
            }
        }
        self.archives = 0;
        let arguments: &[&str] = match self.tool {
            Tool::Colvault | Tool::Restic | Tool::Rustic => &["init"],
            Tool::ColvaultPacked => &["init", "--slots", "packed"],
            Tool::Borg | Tool::BorgFast => &["init", "-e", "none"],
            Tool::Cp => return Ok(()),
        };
        let mut command = self.command(arguments);
        if self.bucket.is_some() && matches!(self.tool, Tool::Colvault | Tool::ColvaultPacked) {
            command.args(["--encryption", "none"]);
        }
        let output = command.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{} init: {said}", self.tool.name()).into());
        }
        Ok(())
    }

    /// Returns the command that backs the source up.
    pub fn backup(&mut self) -> Command {
        self.archives += 1;
        let source = self.source.as_os_str();
        match self.tool {
            Tool::Borg | Tool::BorgFast => {
                let archive = format!("::n{}", self.archives);
                let level = if self.tool == Tool::Borg { "zstd" } else { "zstd,1" };
                let mut command = self.command(&["create", "--compression", level, &archive, "."]);
                command.current_dir(&self.source);
                command
            }
            _ => self.command(&[OsStr::new("backup"), source]),
        }
    }

    /// Returns the command that restores the last backup into an empty directory, and where the
    /// source's copy then is.
    pub fn restore(&self, target: &Path) -> (Command, PathBuf) {
        let below = target.join(self.source.strip_prefix("/").unwrap_or(&self.source));
        match self.tool {
            Tool::Colvault | Tool::ColvaultPacked | Tool::Restic => {
                let arguments = ["restore", "latest", "--target"].map(OsStr::new);
                let mut command = self.command(&arguments);
                command.arg(target);
                (command, below)
            }
            Tool::Rustic => {
                let mut command = self.command(&["restore", "latest"]);
                command.arg(target);
                (command, below)
            }
            Tool::Borg | Tool::BorgFast => {
                let mut command = self.command(&["extract", &format!("::n{}", self.archives)]);
                command.current_dir(target);
                (command, target.to_owned())
            }
            Tool::Cp => {
                let mut command = self.command(&["-a", "--reflink=never"]);
                command.arg(self.source.join(".")).arg(target);
                (command, target.to_owned())
            }
        }
    }
}
