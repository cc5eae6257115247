//! Settings: every one can be said by flag, environment and file, in that order of precedence; and
//! each says where it comes from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::support::program::{Place, Ran, Transcript, write};
use crate::support::{deployment::Deployment, require_root};

/// A line of `plan --show-settings --json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    message_type: String,
    name: String,
    variable: Option<String>,
    value: Option<serde_json::Value>,
    unset: String,
    origin: Origin,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "layer", rename_all = "snake_case", deny_unknown_fields)]
enum Origin {
    Default,
    File { path: String, line: usize, key: String },
    Environment { name: String },
    Flag { name: String },
}

fn read(ran: &Ran) -> BTreeMap<String, Setting> {
    let line = |line: &str| -> Setting {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let settings: Vec<Setting> = ran.out.lines().map(line).collect();
    assert!(settings.iter().all(|s| s.message_type == "setting" && !s.unset.is_empty()));
    settings.into_iter().map(|setting| (setting.name.clone(), setting)).collect()
}

fn shown(mut command: Command) -> BTreeMap<String, Setting> {
    command.args(["plan", "--show-settings", "--json"]);
    read(&Ran::of("plan --show-settings", command.output().unwrap()).ended(0).silent())
}

/// Every setting but reload steps: what the file says (TOML), what the environment says, what they
/// come to, and the option of `plan` that goes before both, if it has one.
const TABLE: [(&str, &str, &str, &str, &str); 60] = [
    ("repository", "'/f'", "/e", "/e", "--repo=/flag"),
    ("cache_dir", "'/f'", "/e", "/e", "--cache-dir=/flag"),
    ("no_cache", "false", "true", "true", "--no-cache=false"),
    ("tmp_dir", "'/f'", "/e", "/e", ""),
    ("threads", "3", "4", "4", "--threads=5"),
    ("s3.endpoint", "'http://f'", "https://e:9000", "https://e:9000", "--s3-endpoint=http://flag"),
    ("s3.region", "'f'", "e", "e", "--s3-region=flag"),
    ("s3.profile", "'f'", "e", "e", "--s3-profile=flag"),
    ("s3.role", "'f'", "e", "e", "--s3-role=flag"),
    ("s3.role_external_id", "'f'", "e", "e", "--s3-role-external-id=flag"),
    ("s3.addressing", "'path'", "virtual", "virtual", "--s3-addressing=auto"),
    ("s3.ca_file", "'/f'", "/e", "/e", "--s3-ca-file=/flag"),
    ("s3.insecure_tls", "false", "true", "true", "--s3-insecure-tls=false"),
    ("s3.sse", "'s3'", "kms", "kms", "--s3-sse=bucket"),
    ("s3.kms_key", "'f'", "e", "e", "--s3-kms-key=flag"),
    ("s3.customer_key_file", "'/f'", "/e", "/e", "--s3-customer-key-file=/flag"),
    ("s3.data_class", "'F'", "E_1", "E_1", "--s3-data-class=FLAG"),
    ("s3.class", "'F'", "E_1", "E_1", "--s3-class=FLAG"),
    ("s3.connections", "3", "4", "4", "--s3-connections=5"),
    ("s3.connect_timeout", "3", "4", "4", "--s3-connect-timeout=5"),
    ("s3.stall_timeout", "3", "4", "4", "--s3-stall-timeout=5"),
    ("s3.attempts", "3", "4", "4", "--s3-attempts=5"),
    ("s3.backoff_max", "3", "4", "4", "--s3-backoff-max=5"),
    ("limit_upload", "3", "4", "4", "--limit-upload=5"),
    ("limit_download", "3", "4", "4", "--limit-download=5"),
    ("init.pack_size", "3", "4", "4", ""),
    ("init.chunk_size_min", "3", "4", "4", ""),
    ("init.chunk_size_avg", "3", "4", "4", ""),
    ("init.chunk_size_max", "3", "4", "4", ""),
    ("init.encryption", "'none'", "none", "none", ""),
    ("init.object_lock", "3", "4", "4", ""),
    ("init.object_lock_mode", "'governance'", "compliance", "compliance", ""),
    ("init.slots", "'packed'", "recipe", "recipe", ""),
    ("init.slot_block_size", "4", "8", "8", ""),
    ("backup.root", "'/f'", "/e", "/e", "--root=/flag"),
    ("backup.paths", "['/f', '/g']", "/e\n/x y", "/e|/x y", "/flag"),
    ("backup.files_from", "'/f'", "/e", "/e", "--files-from=/flag"),
    ("backup.deployment", "'f'", "e", "e", "--deployment=flag"),
    ("backup.unsafe_live", "false", "yes", "true", "--unsafe-live=no"),
    ("backup.without_secrets", "false", "1", "true", "--without-secrets=0"),
    ("backup.exclude", "['f', '{g,h}']", "e\n{x,y}", "e|{x,y}", "--exclude=flag"),
    ("backup.exclude_file", "['/f']", "/e", "/e", "--exclude-file=/flag"),
    ("backup.one_file_system", "false", "true", "true", "--one-file-system=false"),
    ("backup.tag", "['f', 'g']", "e,x\ny", "e,x|y", ""),
    ("backup.host", "'f'", "e", "e", "--host=flag"),
    ("backup.ignore_ctime", "true", "false", "false", "--ignore-ctime"),
    ("backup.ignore_inode", "true", "off", "false", "--ignore-inode"),
    ("backup.slots", "'packed'", "recipe", "recipe", "--slots=packed"),
    ("backup.compression", "'fast'", "max", "max", "--compression=default"),
    ("backup.fail_on_corruption", "false", "true", "true", ""),
    ("record.source", "'columnstore'", "database", "database", "--record=files"),
    ("record.database", "'f'", "e", "e", "--record-database=flag"),
    ("record.data", "['/f']", "/e\n/x", "/e|/x", "--record-data=/flag"),
    ("record.tables", "['f.*']", "e.x\ng.y", "e.x|g.y", "--record-tables=flag.x"),
    ("restore.sparse", "false", "true", "true", ""),
    ("restore.numeric_ids", "false", "true", "true", ""),
    ("restore.latest_good", "false", "true", "true", ""),
    ("check.read_trailers", "false", "true", "true", ""),
    ("check.read_data", "false", "true", "true", ""),
    ("check.read_data_subset", "'3%'", "4%", "4%", ""),
];

fn as_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(all) => {
            all.iter().map(|value| value.as_str().unwrap()).collect::<Vec<_>>().join("|")
        }
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Catches a setting that one of the layers cannot say, a layer that goes before the wrong one, and
/// an origin that is not where the value was said.
#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let place = Place::quick();
    let all = shown(place.program());
    let known: Vec<&str> = TABLE.iter().map(|row| row.0).chain(["record.reload"]).collect();
    let mut listed: Vec<&str> = all.keys().map(String::as_str).collect();
    listed.sort_by_key(|name| known.iter().position(|known| known == name));
    assert_eq!(listed, known, "every setting is tried here");
    for (name, in_file, in_environment, comes_to, flag) in TABLE {
        let setting = &all[name];
        assert_eq!((&setting.origin, &setting.value), (&Origin::Default, &None), "{name}");
        let variable = format!("COLVAULT_{}", name.replace('.', "_").to_uppercase());
        assert_eq!(setting.variable.as_ref(), Some(&variable));
        let file = place.path("settings.toml");
        // Not on the first line, and once more in a profile.
        write(&file, format!("# settings\n{name} = {in_file}\n[profiles.p]\n{name} = {in_file}\n"));
        let with_file = || {
            let mut command = place.program();
            command.arg("--config").arg(&file);
            command
        };
        let path = file.to_str().unwrap().to_owned();
        let of_file = &shown(with_file())[name];
        let at = |line, key: &str| Origin::File { path: path.clone(), line, key: key.to_owned() };
        assert_eq!(of_file.origin, at(2, name));
        let expected = in_file.replace(['\'', '[', ']'], "").replace(", ", "|");
        assert_eq!(as_text(of_file.value.as_ref().unwrap()), expected, "{name} in the file");
        let mut command = with_file();
        command.env("COLVAULT_PROFILE", "p");
        assert_eq!(shown(command)[name].origin, at(4, &format!("profiles.p.{name}")));

        let mut command = with_file();
        command.env(&variable, in_environment);
        let of_environment = &shown(command)[name];
        assert_eq!(of_environment.origin, Origin::Environment { name: variable.clone() });
        assert_eq!(as_text(of_environment.value.as_ref().unwrap()), comes_to, "{name}");
        // Set to nothing it is as if it was not set.
        let mut command = with_file();
        command.env(&variable, "");
        assert_eq!(shown(command)[name].origin, at(2, name), "{name} set to nothing");

        if flag.is_empty() {
            continue;
        }
        let mut command = with_file();
        command.env(&variable, in_environment).args(["plan", "--show-settings", "--json", flag]);
        let of_flag = &read(&Ran::of(flag, command.output().unwrap()).ended(0).silent())[name];
        let (option, value) = match flag.split_once('=') {
            Some((option, value)) => (option, value),
            None if flag.starts_with("--") => (flag, "true"),
            None => ("PATH", flag),
        };
        assert_eq!(of_flag.origin, Origin::Flag { name: option.to_owned() });
        let value = value.replace("no", "false").replace('0', "false");
        assert_eq!(as_text(of_flag.value.as_ref().unwrap()), value, "{flag}");
    }
}

/// Catches settings that are shown and not used: each layer's repository, exclusions, tags and flags
/// have to reach the backup; and a setting that rules out what was said closer to the user.
#[test]
fn settings_of_every_layer_reach_the_command() {
    let place = Place::quick();
    for name in ["a.txt", "b.tmp", "c.bak"] {
        write(place.path("source").join(name), name);
    }
    Deployment::small(place.path("live"));
    let file = place.path("settings.toml");
    write(
        &file,
        place.unfolded(
            "repository = '@/repository'\nno_cache = true\n[backup]\nroot = '@/live'\n\
             exclude = ['*.tmp']\ntag = ['nightly', 'file']\nhost = 'db1'\n\
             [profiles.other]\nrepository = '@/other'\n[profiles.other.backup]\n\
             paths = ['@/source']\n[check]\nread_data = true\n",
        ),
    );
    let run = |code: i32, environment: &[(&str, &str)], line: &str| {
        let mut command = place.command(line);
        command.env("COLVAULT_CONFIG", &file).envs(environment.iter().copied());
        Ran::of(line, command.output().unwrap()).ended(code)
    };
    run(0, &[], "init");
    run(0, &[], "init --profile other");
    assert!(place.path("repository/config").exists() && place.path("other/config").exists());
    // The deployment of the file; its own exclusions do not matter here.
    let backed_up = run(0, &[], "backup").silent().out;
    assert!(backed_up.contains("deployment shop on db1"), "{backed_up}");
    assert!(!place.path("cache/colvault").exists(), "no_cache of the file");
    // Paths on the command line go before the root in the file, and keep the other settings.
    let line = place.unfolded("backup @/source --json");
    let json = run(0, &[], &line).silent().out;
    assert!(json.contains("\"total_files_processed\":2"), "{json}");
    let snapshots = run(0, &[], "snapshots --json").out;
    assert!(snapshots.contains("\"tags\":[\"nightly\",\"file\"]"), "{snapshots}");
    let excluded = [("COLVAULT_BACKUP_EXCLUDE", "*.bak\n*.txt")];
    assert!(run(0, &excluded, &line).out.contains("\"total_files_processed\":1"));
    let flag = format!("{line} --exclude nothing");
    assert!(run(0, &excluded, &flag).out.contains("\"total_files_processed\":3"));
    // The paths of a profile go before the root of everybody; in one place both make no sense.
    assert!(run(0, &[], "backup -P other").out.contains(&place.unfolded("@/source on db1")));
    let both = [("COLVAULT_BACKUP_PATHS", "/x"), ("COLVAULT_BACKUP_ROOT", "/y")];
    run(1, &both, "backup").complains("only one of backup.root and backup.paths expected");
    let other = [("COLVAULT_BACKUP_PATHS", "/nowhere"), ("COLVAULT_PROFILE", "other")];
    run(1, &other, "backup").complains("/nowhere: cannot examine");
    // A cache that is named on the command line goes before no_cache of the file.
    run(0, &[], &place.unfolded("backup --cache-dir @/mine"));
    assert!(place.path("mine").exists());
    // And check reads all data as the file says, or a part as the command line says.
    assert!(run(0, &[], "check -P other").out.contains("read and verified "));
    assert!(
        run(0, &[], "check -P other --read-data-subset 50%").out.contains("read and verified ")
    );
    assert!(run(0, &[], "check -P other --read-data=false").out.contains("was not read"));
    // A flag that is off, however it is spelt, does not rule out what it would rule out.
    for off in ["0", "no", "Off", "false", "F", "n"] {
        let layers =
            [("COLVAULT_CHECK_READ_DATA", off), ("COLVAULT_CHECK_READ_DATA_SUBSET", "50%")];
        assert!(run(0, &layers, "check").out.contains("read and verified "), "{off}");
    }
    // A misspelt variable is told.
    let typo = [("COLVAULT_REPOSITRY", "/x")];
    run(0, &typo, "snapshots").complains(
        "warning: environment variable COLVAULT_REPOSITRY is no setting; the nearest there is: \
         COLVAULT_REPOSITORY",
    );
}

/// Catches a mistake in the file or the environment that is passed over, is blamed on another place,
/// or ends with another code than 1, or 2 for a value that no option takes; and a file that somebody else can write.
#[test]
fn mistakes_are_told_with_their_place() {
    require_root("another owner");
    let place = Place::quick();
    let mut told = Transcript::new(&place);
    let with = |told: &mut Transcript<'_>, code: i32, content: &str| {
        write(place.path("settings.toml"), content);
        told.title(&content.replace('\n', " | "));
        told.run(code, "--config @/settings.toml snapshots")
    };
    let run = |told: &mut Transcript<'_>, content: &str| with(told, 1, content);
    run(&mut told, "reposiroty = '/x'");
    run(&mut told, "\n[backup]\nexlude = ['*.tmp']");
    // As the option would.
    with(&mut told, 2, "threads = 0");
    run(&mut told, "threads = 'four'");
    run(&mut told, "repository = '/x");
    run(&mut told, "[profiles.a]\nthreads = 1\n[profiles.b]\nthread = 1");
    run(&mut told, "[[record.reload]]\ntable = 'dw.orders'");
    told.run(1, "--config @/absent.toml snapshots");
    write(place.path("settings.toml"), "threads = 2\n[profiles.a]\n");
    told.run(1, "--config @/settings.toml --profile erp snapshots");
    let mut command = place.command("-r @/x --profile erp snapshots");
    command.env_remove("COLVAULT_CONFIG");
    Ran::of("--profile erp snapshots", command.output().unwrap()).ended(1).complains("\"erp\"");
    let mut command = place.command("snapshots");
    command.env("COLVAULT_THREADS", "many");
    told.add(&Ran::of("COLVAULT_THREADS=many snapshots", command.output().unwrap()).ended(2));
    let file = place.path("settings.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    told.run(1, "--config @/settings.toml snapshots");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&file, Some(65534), None).unwrap();
    told.run(1, "--config @/settings.toml snapshots");
    chown(&file, Some(0), Some(65534)).unwrap();
    place.expect(2, "--config @/settings.toml snapshots").complains("no repository was given");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    told.run(1, "--config @/settings.toml snapshots");
    chown(&file, Some(0), Some(0)).unwrap();
    place.expect(2, "--config @/settings.toml snapshots").complains("no repository was given");
    told.title("a password, readable by all");
    let secret = "[[record.reload]]\ntable = 'dw.t'\nfrom = 'mysql://etl:s3cr3t@erp/dw'\n\
                  command = 'mariadb --password=s3cr3t | cpimport dw t'\n";
    write(&file, secret);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = told.run(0, "--config @/settings.toml plan --show-settings");
    let json = place.expect(0, "--config @/settings.toml plan --show-settings --json");
    for text in [shown.out, shown.err, json.out, json.err] {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
    told.compare("settings.txt");
}

/// Catches a list of settings in the documentation that has gone stale: names, variables, options
/// and what holds when nothing is said stand there as the program knows them.
#[test]
fn the_documentation_lists_every_setting() {
    let place = Place::quick();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SETTINGS.md");
    let document = fs::read_to_string(&path).unwrap();
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let told = place.expect(0, "plan --show-settings --json").silent();
    let expected: Vec<String> = told
        .out
        .lines()
        .map(|line| {
            let setting: Setting = serde_json::from_str(line).unwrap();
            let variable = setting.variable.map_or("-".to_owned(), |name| format!("`{name}`"));
            format!("| `{}` | {variable} | {} |", setting.name, setting.unset)
        })
        .collect();
    let mut listed = rows.iter().map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (row, format!("{} | {} | {} |", cells[0], cells[1], cells[2]))
    });
    for wanted in &expected {
        let found = listed.next().unwrap_or_else(|| panic!("{wanted} in docs/SETTINGS.md"));
        assert_eq!(&found.1, wanted, "docs/SETTINGS.md: {}", found.0);
    }
    assert_eq!(listed.next(), None, "no more settings than there are");
    // Options stand behind, with the dashes the help has.
    let help = ["init", "plan", "backup", "restore", "check", "stats"]
        .map(|command| place.expect(0, &format!("{command} --help")).out)
        .concat();
    // Those of buckets stand in the program's own help alone.
    let help = help + &place.expect(0, "--help").out;
    for row in &rows {
        let option = row.split(" | ").nth(3).unwrap().trim_end_matches(" |").trim_matches('`');
        let is_known = option == "-" || option == "PATH..." || help.contains(option);
        assert!(is_known, "{option} of {row}");
    }
}
