//! The beginning of a command line that reaches the same repository again, to be copied into a shell.

use super::value::{Origin, Value};
use crate::args::{Args, Globals};
use clap::CommandFactory;

/// Settings of buckets that another command does as well without.
const NOT_NEEDED: [&str; 5] =
    ["s3.connections", "s3.connect_timeout", "s3.stall_timeout", "s3.attempts", "s3.backoff_max"];

/// Returns the program's name and what the command line said of the repository and the way to it. What
/// environment and settings file say holds again without being repeated.
pub fn again(values: &[Value], globals: &Globals) -> String {
    let mut words = vec!["colvault".to_owned()];
    let mut add = |option: &str, value: &str| words.extend([option.to_owned(), quoted(value)]);
    if let Some(file) = &globals.config {
        add("--config", &file.to_string_lossy());
    }
    if let Some(profile) = &globals.profile {
        add("-P", profile);
    }
    let root = Args::command();
    for value in values.iter().filter(|value| is_needed(value)) {
        let option = value.setting.written(&root).unwrap_or_default();
        let option = if value.setting.key == "repository" { "-r" } else { &option };
        // Without passwords, should there be one.
        for text in value.shown().unwrap_or_default() {
            match value.setting.kind {
                super::Kind::Flag if text == "true" => words.push(option.to_owned()),
                super::Kind::Flag => words.push(format!("{option}={text}")),
                _ => words.extend([option.to_owned(), quoted(&text)]),
            }
        }
    }
    words.join(" ")
}

fn is_needed(value: &Value) -> bool {
    let key = value.setting.key;
    let is_of_the_way = key == "repository" || key.starts_with("s3.");
    let is_said_here = matches!(value.origin(), Origin::Flag { .. });
    is_said_here && is_of_the_way && !NOT_NEEDED.contains(&key)
}

/// Returns a word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::CommandLine;
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_change_them() {
        for (word, written) in [
            ("/srv/back-up_1", "/srv/back-up_1"),
            ("s3:http://127.0.0.1:9000/b/p", "s3:http://127.0.0.1:9000/b/p"),
            ("/my repository", "'/my repository'"),
            ("it's", "'it'\\''s'"),
            ("a$b", "'a$b'"),
            ("http://[::1]:9000", "'http://[::1]:9000'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), written);
        }
    }

    /// Catches a line that reaches another store or none when it is copied, and one that repeats what is of
    /// no use there.
    #[test]
    fn what_leads_to_the_repository_is_repeated() {
        for (line, expected) in [
            ("colvault init -r /a", "colvault -r /a"),
            (
                "colvault --s3-endpoint http://h:1 -r s3://bucket/p backup --s3-profile q --json --s3-attempts 3 \
                 --threads 2 --root /x --s3-insecure-tls",
                "colvault -r s3://bucket/p --s3-endpoint http://h:1 --s3-profile q --s3-insecure-tls",
            ),
            ("colvault check -r /a --config /dev/null", "colvault --config /dev/null -r /a"),
        ] {
            let line = CommandLine::parse(line.split_whitespace().map(OsString::from)).unwrap();
            let (_, settings) = line.resolve().unwrap();
            assert_eq!(settings.again, expected);
        }
    }
}
