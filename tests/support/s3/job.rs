//! The program with a repository in a bucket.

use std::path::PathBuf;
use std::process::Command;

use super::super::program::{Place, Ran, Started};
use super::{Bucket, location, with_keys};

/// A place where the program runs, and the name of its repository.
pub struct Job {
    pub place: Place,
    pub repository: String,
    /// Whether the keys of the store are in the environment.
    pub has_keys: bool,
    /// More of the environment.
    pub environment: Vec<(String, String)>,
}

impl Job {
    /// With the repository in a bucket on a store in this process, through the proxy.
    pub fn with(bucket: &Bucket) -> Job {
        Job::at(&bucket.location())
    }

    /// With the repository in a bucket on another store.
    pub fn on(endpoint: &str, bucket: &str) -> Job {
        Job::at(&location(endpoint, bucket))
    }

    fn at(repository: &str) -> Job {
        let repository = repository.to_owned();
        Job { place: Place::quick(), repository, has_keys: true, environment: Vec::new() }
    }

    /// Sets a variable of the environment; `@` stands for the place.
    pub fn set(self, name: &str, value: &str) -> Job {
        let value = self.place.unfolded(value);
        self.set_as_is(name, &value)
    }

    /// Sets a variable of the environment.
    pub fn set_as_is(mut self, name: &str, value: &str) -> Job {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes the keys of the store out of the environment: they are to be found elsewhere.
    pub fn without_keys(mut self) -> Job {
        self.has_keys = false;
        self
    }

    fn line(&self, line: &str) -> String {
        format!("{line} --repo {}", self.repository)
    }

    /// Returns the command of a line, with the repository and the keys of the store.
    pub fn command(&self, line: &str) -> Command {
        let mut command = self.place.command(&self.line(line));
        with_keys(&mut command);
        if !self.has_keys {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command of a line to its end.
    pub fn run(&self, line: &str) -> Ran {
        let output = self.command(line).output().expect("the program can be started");
        Ran::of(&self.line(line), output)
    }

    /// Runs the command of a line, which has to end with this code.
    pub fn expect(&self, code: i32, line: &str) -> Ran {
        self.run(line).ended(code)
    }

    /// Starts the command of a line.
    pub fn start(&self, line: &str) -> Started {
        Started::of(&self.line(line), self.command(line))
    }

    /// Makes the repository, of small packs.
    pub fn init(&self) -> Ran {
        self.expect(0, "init --encryption none --pack-size 1")
    }

    /// Makes it, and backs `@/source` up.
    pub fn init_and_back_up(&self) {
        self.init();
        self.expect(0, "backup @/source --host h").silent();
    }

    /// The directory in which a restore to `@/TARGET` puts `@/source`.
    pub fn restored(&self, target: &str) -> PathBuf {
        self.place.path(target).join(self.place.path("source").strip_prefix("/").unwrap())
    }
}

/// The number of a name in the `summary` of a run with `--json`; with `name.part`, of a part within.
pub fn figure(ran: &Ran, name: &str) -> u64 {
    let line = ran.out.lines().find(|line| line.contains("\"message_type\":\"summary\""));
    let summary: serde_json::Value = serde_json::from_str(line.expect("a summary")).unwrap();
    let found = name.split('.').fold(&summary, |value, part| &value[part]);
    found.as_u64().unwrap_or_else(|| panic!("{name} in {summary}"))
}
