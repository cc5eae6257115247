//! Every setting there is: its key in the file, its variable, its option.

use clap::{Arg, Command};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text; a number that is more than digits, as `5%`, is one too.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
    /// Some texts; in the environment one a line.
    List,
    /// The steps of a reload procedure; only in the file.
    Steps,
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the file: `SECTION.NAME`, or `NAME` of what holds for every command.
    pub key: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The option's identifier; empty for what only a file can say.
    pub argument: &'static str,
    /// The commands that have the option; none means all.
    pub commands: &'static [&'static str],
    /// What holds when nobody says anything.
    pub unset: &'static str,
}

const ALL: &[&str] = &[];
const INIT: &[&str] = &["init"];
/// A plan is of a backup, so both have its settings.
const BACKUP: &[&str] = &["backup", "plan"];
const RESTORE: &[&str] = &["restore"];
/// What sorts more than memory holds.
const SORTING: &[&str] = &["stats", "diff", "find", "object-lock"];
const CHECK: &[&str] = &["check"];

/// Every setting, as `plan --show-settings` lists them.
pub const SETTINGS: [Setting; 61] = [
    setting("repository", Kind::Text, "repo", ALL, "none"),
    setting("cache_dir", Kind::Text, "cache_dir", ALL, "colvault in the user's cache directory"),
    setting("no_cache", Kind::Flag, "no_cache", ALL, "false"),
    setting("tmp_dir", Kind::Text, "tmp_dir", SORTING, "the cache directory"),
    setting("threads", Kind::Number, "threads", ALL, "one for each processor"),
    setting("s3.endpoint", Kind::Text, "s3_endpoint", ALL, "AWS"),
    setting("s3.region", Kind::Text, "s3_region", ALL, "as AWS_REGION or the profile says"),
    setting("s3.profile", Kind::Text, "s3_profile", ALL, "as AWS_PROFILE says"),
    setting("s3.role", Kind::Text, "s3_role", ALL, "none"),
    setting("s3.role_external_id", Kind::Text, "s3_role_external_id", ALL, "none"),
    setting("s3.addressing", Kind::Text, "s3_addressing", ALL, "auto"),
    setting("s3.ca_file", Kind::Text, "s3_ca_file", ALL, "none"),
    setting("s3.insecure_tls", Kind::Flag, "s3_insecure_tls", ALL, "false"),
    setting("s3.sse", Kind::Text, "s3_sse", ALL, "bucket"),
    setting("s3.kms_key", Kind::Text, "s3_kms_key", ALL, "the account's own"),
    setting("s3.customer_key_file", Kind::Text, "s3_customer_key_file", ALL, "none"),
    setting("s3.data_class", Kind::Text, "s3_data_class", ALL, "as the bucket does"),
    setting("s3.class", Kind::Text, "s3_class", ALL, "as the bucket does"),
    setting("s3.connections", Kind::Number, "s3_connections", ALL, "16"),
    setting("s3.connect_timeout", Kind::Number, "s3_connect_timeout", ALL, "10"),
    setting("s3.stall_timeout", Kind::Number, "s3_stall_timeout", ALL, "30"),
    setting("s3.attempts", Kind::Number, "s3_attempts", ALL, "12"),
    setting("s3.backoff_max", Kind::Number, "s3_backoff_max", ALL, "20"),
    setting("limit_upload", Kind::Number, "limit_upload", ALL, "0: no limit"),
    setting("limit_download", Kind::Number, "limit_download", ALL, "0: no limit"),
    setting("init.pack_size", Kind::Number, "pack_size", INIT, "64"),
    setting("init.chunk_size_min", Kind::Number, "chunk_size_min", INIT, "16"),
    setting("init.chunk_size_avg", Kind::Number, "chunk_size_avg", INIT, "64"),
    setting("init.chunk_size_max", Kind::Number, "chunk_size_max", INIT, "256"),
    setting(
        "init.encryption",
        Kind::Text,
        "encryption",
        INIT,
        "none; in a bucket it has to be said",
    ),
    setting("init.object_lock", Kind::Number, "object_lock", INIT, "none"),
    setting("init.object_lock_mode", Kind::Text, "object_lock_mode", INIT, "governance"),
    setting("init.slots", Kind::Text, "slots", INIT, "recipe"),
    setting("init.slot_block_size", Kind::Number, "slot_block_size", INIT, "64"),
    setting("backup.root", Kind::Text, "root", BACKUP, "none; / for plan"),
    setting("backup.paths", Kind::List, "paths", BACKUP, "none"),
    setting("backup.files_from", Kind::Text, "files_from", BACKUP, "none"),
    setting("backup.deployment", Kind::Text, "deployment", BACKUP, "as Columnstore.xml says"),
    setting("backup.unsafe_live", Kind::Flag, "unsafe_live", BACKUP, "false"),
    setting("backup.without_secrets", Kind::Flag, "without_secrets", BACKUP, "false"),
    setting("backup.exclude", Kind::List, "exclude", BACKUP, "nothing"),
    setting("backup.exclude_file", Kind::List, "exclude_file", BACKUP, "none"),
    setting("backup.one_file_system", Kind::Flag, "one_file_system", BACKUP, "false"),
    setting("backup.slots", Kind::Text, "slots", BACKUP, "as init said"),
    setting("backup.compression", Kind::Text, "compression", BACKUP, "default"),
    setting("backup.fail_on_corruption", Kind::Flag, "fail_on_corruption", &["backup"], "false"),
    setting("backup.tag", Kind::List, "tag", &["backup"], "none"),
    setting("backup.host", Kind::Text, "host", BACKUP, "this host's name"),
    setting("backup.ignore_ctime", Kind::Flag, "ignore_ctime", BACKUP, "false"),
    setting("backup.ignore_inode", Kind::Flag, "ignore_inode", BACKUP, "false"),
    setting("record.source", Kind::Text, "record", BACKUP, "columnstore"),
    setting("record.database", Kind::Text, "record_database", BACKUP, "none"),
    setting("record.data", Kind::List, "record_data", BACKUP, "none"),
    setting("record.tables", Kind::List, "record_tables", BACKUP, "all"),
    setting("record.reload", Kind::Steps, "", BACKUP, "none"),
    setting("restore.sparse", Kind::Flag, "sparse", RESTORE, "false"),
    setting("restore.numeric_ids", Kind::Flag, "numeric_ids", RESTORE, "false"),
    setting("restore.latest_good", Kind::Flag, "latest_good", RESTORE, "false"),
    setting("check.read_trailers", Kind::Flag, "read_trailers", CHECK, "false"),
    setting("check.read_data", Kind::Flag, "read_data", CHECK, "false"),
    setting("check.read_data_subset", Kind::Text, "read_data_subset", CHECK, "none"),
];

/// Settings of which one rules the other out: the one that was said closer to the command line
/// stands, the other is as if it were not set.
pub const EXCLUSIVE: [(&str, &str); 4] = [
    ("cache_dir", "no_cache"),
    ("backup.root", "backup.paths"),
    ("backup.root", "backup.files_from"),
    ("check.read_data", "check.read_data_subset"),
];

const fn setting(
    key: &'static str,
    kind: Kind,
    argument: &'static str,
    commands: &'static [&'static str],
    unset: &'static str,
) -> Setting {
    Setting { key, kind, argument, commands, unset }
}

impl Setting {
    /// Returns the name of its environment variable; `None` for what only a file can say.
    pub fn variable(&self) -> Option<String> {
        let name = self.key.replace('.', "_").to_uppercase();
        (self.kind != Kind::Steps).then(|| format!("COLVAULT_{name}"))
    }

    /// Whether a command has its option.
    pub fn is_option_of(&self, command: &str) -> bool {
        !self.argument.is_empty() && (self.commands.is_empty() || self.commands.contains(&command))
    }

    /// Returns the definition of its option in the whole command line.
    pub fn option<'a>(&self, root: &'a Command) -> Option<&'a Arg> {
        let command = match self.commands.first() {
            Some(name) => root.find_subcommand(name)?,
            None => root,
        };
        command.get_arguments().find(|argument| argument.get_id() == self.argument)
    }

    /// Returns the option as it is written; `None` for what only a file can say.
    pub fn written(&self, root: &Command) -> Option<String> {
        let option = self.option(root)?;
        Some(match option.get_long() {
            Some(long) => format!("--{long}"),
            None => option.get_value_names().map_or_else(String::new, |names| names[0].to_string()),
        })
    }
}

/// Returns a setting by its key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::CommandFactory;

    /// Options that are no settings, and why.
    const NOT_KEPT: [(&str, &[&str]); 17] = [
        // How this one run speaks, and where settings are read from.
        ("", &["json", "quiet", "verbose", "config", "profile"]),
        // What this one run does.
        ("backup", &["force", "dry_run", "apply_record"]),
        ("plan", &["force", "show_settings"]),
        ("snapshots", &["ids", "host", "tag", "latest"]),
        ("inspect", &["file", "snapshot", "slot", "oid", "component", "host", "tag"]),
        ("ls", &["snapshot", "paths", "component", "table", "long", "recursive", "host", "tag"]),
        (
            "restore",
            &[
                "snapshot",
                "target",
                "map",
                "component",
                "path",
                "table",
                "include",
                "exclude",
                "delta",
                "dry_run",
                "host",
                "tag",
            ],
        ),
        ("stats", &["snapshots", "by", "sort", "limit", "host", "tag", "latest"]),
        ("diff", &["before", "after", "metadata", "component", "host", "tag"]),
        (
            "find",
            &[
                "patterns",
                "long",
                "count",
                "size_min",
                "size_max",
                "oldest",
                "newest",
                "oid",
                "table",
                "chunk",
                "pack",
                "component",
                "snapshot",
                "host",
                "tag",
            ],
        ),
        ("dump", &["snapshot", "path", "component", "archive", "output", "force", "host", "tag"]),
        ("check", &["columnstore", "host", "tag"]),
        ("init", &[]),
        ("object-lock", &["dry_run"]),
        ("repair", &[]),
        ("demo", &["keep"]),
        ("help", &[]),
    ];

    #[test]
    fn every_option_is_a_setting_or_is_known_not_to_be_one() {
        let root = Args::command();
        let mut commands = vec![("", &root)];
        commands.extend(root.get_subcommands().map(|command| (command.get_name(), command)));
        for (name, command) in commands {
            let (_, not_kept) = NOT_KEPT.iter().find(|(known, _)| *known == name).expect(name);
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let is_setting = SETTINGS.iter().any(|setting| {
                    setting.argument == id
                        && match name {
                            "" => setting.commands.is_empty(),
                            name => setting.commands.contains(&name),
                        }
                });
                let is_not_kept = not_kept.contains(&id) || ["help", "version"].contains(&id);
                assert!(is_setting != is_not_kept, "{name} --{id}: a setting, or in NOT_KEPT");
            }
        }
    }

    #[test]
    fn every_setting_has_an_option_of_its_kind() {
        let root = Args::command();
        for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::Steps) {
            let option = setting.option(&root).unwrap_or_else(|| panic!("{}", setting.key));
            let takes_many = matches!(option.get_action(), clap::ArgAction::Append);
            assert_eq!(takes_many, setting.kind == Kind::List, "{}", setting.key);
            let is_flag = matches!(option.get_action(), clap::ArgAction::SetTrue);
            assert_eq!(is_flag, setting.kind == Kind::Flag, "{}", setting.key);
            // What the option's help shows is what holds.
            for default in option.get_default_values().iter().filter(|_| !is_flag) {
                assert_eq!(default.to_str(), Some(setting.unset), "{}", setting.key);
            }
        }
        for (one, other) in EXCLUSIVE {
            assert!(find(one).is_some() && find(other).is_some(), "{one}, {other}");
        }
        let variable = |key| find(key).unwrap().variable();
        assert_eq!(variable("repository").as_deref(), Some("COLVAULT_REPOSITORY"));
        assert_eq!(variable("backup.exclude").as_deref(), Some("COLVAULT_BACKUP_EXCLUDE"));
        assert_eq!(variable("record.reload"), None);
    }
}
