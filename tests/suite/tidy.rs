//! Rules of the house that the compiler does not know, checked on the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 900;

/// External crates and the only places that may name them, below `engine/src`.
const DOORS: [(&str, &[&str]); 33] = [
    ("aws_config", &["s3client/"]),
    ("aws_credential_types", &["s3client/"]),
    ("aws_sdk_s3", &["s3client/"]),
    ("aws_smithy_http_client", &["s3client/"]),
    ("aws_smithy_runtime_api", &["s3client/"]),
    ("aws_smithy_types", &["s3client/"]),
    ("aws_types", &["s3client/"]),
    ("blake3", &["id.rs"]),
    ("bytes", &["s3client/"]),
    ("crc32c", &["columnstore/page.rs", "s3client/"]),
    ("fastcdc", &["chunker.rs"]),
    ("fastmurmur3", &["columnstore/segment.rs"]),
    ("getrandom", &["id.rs"]),
    ("globset", &["pattern.rs"]),
    ("http_body", &["s3client/"]),
    ("hyper_rustls", &["s3client/"]),
    ("hyper_util", &["s3client/"]),
    ("ini", &["source/columnstore/"]),
    ("jiff", &["snapshot.rs"]),
    ("lz4", &["packer/"]),
    ("md5", &["s3client/"]),
    ("memmap2", &["mmap.rs"]),
    ("rayon", &["backup/", "restore/", "check/", "dump/", "pipeline.rs"]),
    ("redb", &["index/"]),
    ("roxmltree", &["source/columnstore/"]),
    ("rustls", &["s3client/"]),
    ("snap", &["packer/"]),
    ("tar", &["dump/archive.rs"]),
    ("tokio", &["s3client/"]),
    ("uzers", &["backup/names.rs", "restore/attributes.rs"]),
    ("zstd", &["compress.rs"]),
    ("proptest", &[]),
    ("tempfile", &[]),
];

/// Crates that any module may use: the operating system, and encoding of records. And lz4_sys, which
/// none does: it is there to be pinned.
const EVERYWHERE: [&str; 4] = ["lz4_sys", "rustix", "serde", "serde_json"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(below: &str) -> Vec<(String, String)> {
    let root = workspace().join(below);
    let files = colvault_engine::testing::trees::files_below(&root).unwrap();
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    })
    .collect()
}

/// Code without comments and without the tests at the end of a file, line by line.
fn code(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.split(" // ").next().unwrap_or(line)))
        .collect()
}

/// Returns the names of modules a file declares, in order.
fn modules(text: &str) -> Vec<String> {
    let declared = code(text).into_iter().filter_map(|(_, line)| {
        let line = line.trim().strip_suffix(';')?;
        let line = line.strip_prefix("pub ").unwrap_or(line);
        Some(line.strip_prefix("mod ")?.to_owned())
    });
    declared.collect()
}

/// Returns the words that follow `before` in a line: `crate::` gives the modules it names.
fn names_after<'a>(line: &'a str, before: &str) -> Vec<&'a str> {
    let word = |rest: &'a str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    };
    let starts_a_word = |at: usize| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == ':')
    };
    line.match_indices(before)
        .filter(|(at, _)| starts_a_word(*at))
        .map(|(at, _)| word(&line[at + before.len()..]))
        .collect()
}

fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

/// Catches a module that uses one listed after it: the house is read from the foundations up.
#[test]
fn modules_use_only_those_before_them() {
    let sources = sources("engine/src");
    let lib = &sources.iter().find(|(name, _)| name == "lib.rs").unwrap().1;
    let order = modules(lib);
    assert!(order.len() >= 20 && order[0] == "id", "{order:?}");
    let rank = |module: &str| order.iter().position(|name| name == module);
    let mut wrong = Vec::new();
    for (name, text) in &sources {
        let Some(own) = rank(name.split(['/', '.']).next().unwrap()) else { continue };
        for (line_number, line) in code(text) {
            for used in names_after(line, "crate::") {
                match rank(used) {
                    _ if line.contains("crate::{") => {
                        wrong.push(format!("{name}:{line_number}: one `use` for each module"));
                    }
                    Some(rank) if rank > own => {
                        wrong.push(format!("{name}:{line_number}: uses {used}, which comes later"));
                    }
                    _ => {}
                }
            }
        }
    }
    assert_none(wrong, "a module uses only modules before it in lib.rs");
}

/// Catches an external crate named outside its door: replacing one must stay one file's work; and a
/// new dependency without a door.
#[test]
fn external_crates_are_named_behind_their_doors() {
    let manifest = fs::read_to_string(workspace().join("engine/Cargo.toml")).unwrap();
    let names: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| {
            let optional = line.strip_suffix(" = { workspace = true, optional = true }");
            line.strip_suffix(".workspace = true").or(optional)
        })
        .filter(|name| {
            !["description", "version", "edition", "rust-version", "license"].contains(name)
        })
        .map(|name| name.replace('-', "_").replace("rust_ini", "ini").replace("md_5", "md5"))
        .collect();
    assert!(names.contains("blake3"), "{names:?}");
    let doors: BTreeMap<&str, &[&str]> = DOORS.into_iter().collect();
    let unknown = names
        .iter()
        .filter(|name| !doors.contains_key(name.as_str()) && !EVERYWHERE.contains(&name.as_str()))
        .cloned()
        .collect();
    assert_none(unknown, "a dependency of the engine has a door here");
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (name, text) in sources("engine/src") {
        if name.ends_with("/tests.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            for (package, doors) in DOORS {
                let named = line.contains(&format!("{package}::"))
                    && names_after(line, package).contains(&"");
                if !named {
                    continue;
                }
                used.insert(package);
                if !doors.iter().any(|door| name.starts_with(door)) {
                    wrong.push(format!("{name}:{number}: {package}, whose door is {doors:?}"));
                }
            }
        }
    }
    assert_none(wrong, "an external crate is named only behind its door");
    let doors = DOORS.iter().filter(|(_, doors)| !doors.is_empty()).count();
    assert!(used.len() == doors, "every door is in use: {used:?}");
}

/// Catches files that have grown past what can be read.
#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for folder in ["engine", "cli", "tests", "benches", "fuzz"] {
        if !workspace().join(folder).exists() {
            continue;
        }
        for (name, text) in sources(folder) {
            let lines = text.lines().count();
            if lines > LINES_MAX && !name.starts_with("target/") {
                wrong.push(format!("{folder}/{name}: {lines} lines"));
            }
        }
    }
    assert_none(wrong, "a file has at most 900 lines");
}

/// Catches a test file that is never compiled, and a fixture that is never read.
#[test]
fn every_test_file_is_listed_and_every_fixture_read() {
    let suite = sources("tests/suite");
    let main = &suite.iter().find(|(name, _)| name == "main.rs").unwrap().1;
    let listed = modules(main);
    let files = suite.iter().map(|(name, _)| name.trim_end_matches(".rs").to_owned());
    let unlisted = files.filter(|name| name != "main" && !listed.contains(name)).collect();
    assert_none(unlisted, "a file of tests/suite is listed in main.rs");
    let support = sources("tests/support");
    let text: String = suite.iter().chain(&support).map(|(_, text)| text.as_str()).collect();
    let fixtures = workspace().join("tests/fixtures");
    let unread: Vec<String> = fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !text.contains(&format!("fixtures/{name}")))
        .collect();
    assert_none(unread, "a fixture is read by a test");
}

/// Catches an engine that talks to the terminal, and work that was left for later.
#[test]
fn the_engine_prints_nothing_and_nothing_is_left_undone() {
    let mut wrong = Vec::new();
    let printing =
        ["print", "println", "eprint", "eprintln", "dbg"].map(|name| format!("{name}!("));
    let undone = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let switched_off = concat!("#[", "ignore");
    for folder in ["engine/src", "cli/src", "tests", "benches"] {
        if !workspace().join(folder).exists() {
            continue;
        }
        for (name, text) in sources(folder) {
            for (number, line) in text.lines().enumerate() {
                let place = format!("{folder}/{name}:{}", number + 1);
                let is_comment = line.trim_start().starts_with("//");
                let prints = printing.iter().any(|word| line.contains(word));
                if folder == "engine/src" && prints && !is_comment {
                    wrong.push(format!("{place}: prints"));
                }
                if undone.iter().any(|word| line.contains(word)) || line.contains(switched_off) {
                    wrong.push(format!("{place}: left undone"));
                }
            }
        }
    }
    assert_none(wrong, "the engine prints nothing, and no work or test is left undone");
}

/// Catches a test that does not say which wrong program it would catch.
#[test]
fn every_test_says_what_it_catches() {
    let mut wrong = Vec::new();
    for (name, text) in sources("tests/suite") {
        let lines: Vec<&str> = text.lines().collect();
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
            let mut first = number;
            while first > 0 && lines[first - 1].starts_with("/// ") {
                first -= 1;
            }
            let said = lines[first..number].first().is_some_and(|line| {
                line.starts_with("/// Catches ") || line.starts_with("/// Not a test of its own")
            });
            if !said {
                wrong.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert_none(wrong, "a test's comment begins with what it catches");
}
