//! The MariaDB server's option files: my.cnf and what it includes.
//!
//! Follows `mysys/my_default.c` of the server where it matters for paths: groups, includes,
//! comments, quotes and escapes, `-` and `_` alike, the last setting wins.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::rooted::{Root, read_optional};
use crate::error::{Error, ErrorKind, Result};

/// The files a server reads by itself, in this order.
pub(super) const MAIN_FILES: [&str; 2] = ["/etc/my.cnf", "/etc/mysql/my.cnf"];

/// As deep as the server follows includes.
const DEPTH_MAX: usize = 10;

/// More files than any deployment has; stops includes that multiply.
const FILES_MAX: usize = 1000;

/// One setting, where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The file as its includer names it.
    pub(super) file: PathBuf,
    pub(super) group: String,
    /// With `_` for `-`, without `loose_`.
    pub(super) name: String,
    /// Empty for a name without a value.
    pub(super) value: Vec<u8>,
}

/// All settings of all option files, in the order the server reads them.
#[derive(Debug, Default)]
pub(super) struct OptionFiles {
    pub(super) settings: Vec<Setting>,
    /// The files read, as their includers name them.
    pub(super) files: Vec<PathBuf>,
    /// Files and directories that are named, but not there.
    pub(super) missing: Vec<PathBuf>,
    pub(super) notes: Vec<String>,
}

impl OptionFiles {
    /// Reads the main option files below the root and everything they include.
    ///
    /// Errors: files that cannot be read, and [`ErrorKind::Invalid`] for more than 1000 of them.
    /// An include loop is cut and noted.
    pub(super) fn read(root: &Root) -> Result<OptionFiles> {
        let mut files = OptionFiles::default();
        for main in MAIN_FILES {
            files.read_file(root, Path::new(main), &mut Vec::new())?;
        }
        if files.files.is_empty() {
            files.missing = MAIN_FILES.iter().map(PathBuf::from).collect();
        } else {
            files
                .missing
                .retain(|missing| !MAIN_FILES.iter().any(|main| missing == Path::new(main)));
        }
        Ok(files)
    }

    /// Returns the value the server takes for an option; empty if it is given without a value.
    pub(super) fn server(&self, name: &str) -> Option<&[u8]> {
        let settings = self.settings.iter().rev();
        let mut server = settings.filter(|setting| is_server_group(&setting.group));
        server.find(|setting| setting.name == name).map(|setting| setting.value.as_slice())
    }

    /// Returns the value of [`OptionFiles::server`] as a path; `None` if it is empty.
    pub(super) fn server_path(&self, name: &str) -> Option<PathBuf> {
        let value = self.server(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(OsString::from_vec(value.to_vec())))
    }

    /// `chain` holds the files being read, from the main one on, as paths inside the root.
    fn read_file(&mut self, root: &Root, named: &Path, chain: &mut Vec<PathBuf>) -> Result<()> {
        let inside = root.follow(named)?.inside;
        if chain.contains(&inside) || chain.len() > DEPTH_MAX {
            let problem = if chain.len() > DEPTH_MAX { "too deeply" } else { "in a loop" };
            self.notes.push(format!("{}: included {problem}, not read again", named.display()));
            return Ok(());
        }
        let Some(bytes) = read_optional(&root.on_host(&inside))? else {
            self.missing.push(named.to_owned());
            return Ok(());
        };
        if self.files.len() == FILES_MAX {
            let problem = format!("expected at most {FILES_MAX} option files, found more");
            return Err(Error::new(ErrorKind::Invalid, named.display().to_string(), problem));
        }
        self.files.push(named.to_owned());
        chain.push(inside);
        let mut group = None;
        for line in bytes.split(|&byte| byte == b'\n') {
            match parse(line) {
                Line::Nothing => {}
                Line::Group(name) => group = Some(name),
                Line::Include(path) => self.read_file(root, &path, chain)?,
                Line::IncludeDirectory(path) => self.read_directory(root, &path, chain)?,
                Line::Setting { name, value } => {
                    let Some(group) = group.clone() else { continue };
                    self.settings.push(Setting { file: named.to_owned(), group, name, value });
                }
            }
        }
        chain.pop();
        Ok(())
    }

    fn read_directory(
        &mut self,
        root: &Root,
        named: &Path,
        chain: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let host = root.resolve(named)?;
        if !host.is_dir() {
            self.missing.push(named.to_owned());
            return Ok(());
        }
        let entries = fs::read_dir(&host).map_err(|error| Error::io(&host, "list", error))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| Error::io(&host, "list", error))?.file_name();
            if name.as_bytes().ends_with(b".cnf") && !root.resolve(&named.join(&name))?.is_dir() {
                names.push(name);
            }
        }
        names.sort();
        names.iter().try_for_each(|name| self.read_file(root, &named.join(name), chain))
    }
}

/// Whether an option file by itself sets `name` to something, in whatever group.
pub(super) fn sets(bytes: &[u8], name: &str) -> bool {
    bytes.split(|&byte| byte == b'\n').any(|line| match parse(line) {
        Line::Setting { name: found, value } => found == name && !value.is_empty(),
        _ => false,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Group(String),
    Include(PathBuf),
    IncludeDirectory(PathBuf),
    Setting { name: String, value: Vec<u8> },
}

fn parse(line: &[u8]) -> Line {
    let line = line.trim_ascii();
    match line.first() {
        None | Some(b'#' | b';') => Line::Nothing,
        Some(b'[') => {
            let end = line.iter().position(|&byte| byte == b']').unwrap_or(line.len());
            Line::Group(text(line[1..end].trim_ascii()))
        }
        Some(b'!') => directive(line),
        Some(_) => setting(line),
    }
}

fn directive(line: &[u8]) -> Line {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let path = line[end..].trim_ascii();
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    match &line[..end] {
        _ if path.as_os_str().is_empty() => Line::Nothing,
        b"!include" => Line::Include(path),
        b"!includedir" => Line::IncludeDirectory(path),
        _ => Line::Nothing,
    }
}

fn setting(line: &[u8]) -> Line {
    let line = without_comment(line);
    let equals = line.iter().position(|&byte| byte == b'=');
    let (name, value) = match equals {
        Some(at) => (&line[..at], line[at + 1..].trim_ascii()),
        None => (line, &b""[..]),
    };
    let name = text(name.trim_ascii()).replace('-', "_");
    let name = name.strip_prefix("loose_").map(str::to_owned).unwrap_or(name);
    Line::Setting { name, value: unescaped(unquoted(value)) }
}

/// Cuts a `#` comment at the end of a line; not one within quotes.
fn without_comment(line: &[u8]) -> &[u8] {
    let mut quote = None;
    let mut escaped = false;
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'\'' | b'"' if !escaped && quote.is_none() => quote = Some(byte),
            b'\'' | b'"' if !escaped && quote == Some(byte) => quote = None,
            b'#' if quote.is_none() => return &line[..at],
            _ => {}
        }
        escaped = quote.is_some() && byte == b'\\' && !escaped;
    }
    line
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}

fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => plain.push(b'\n'),
            Some(b't') => plain.push(b'\t'),
            Some(b'r') => plain.push(b'\r'),
            Some(b'b') => plain.push(8),
            Some(b's') => plain.push(b' '),
            Some(same @ (b'\\' | b'"' | b'\'')) => plain.push(same),
            Some(other) => plain.extend([b'\\', other]),
            None => plain.push(b'\\'),
        }
    }
    plain
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether the server reads the group: by its name, or by its name and a version.
fn is_server_group(group: &str) -> bool {
    let names = ["mysqld", "mariadbd", "mariadb", "server", "galera"];
    let name = match group.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => name,
        _ => group,
    };
    names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root_with(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        for (path, content) in files {
            let path = root.host().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        (directory, root)
    }

    fn server(files: &[(&str, &[u8])], name: &str) -> Option<String> {
        let (_directory, root) = root_with(files);
        let options = OptionFiles::read(&root).unwrap();
        options.server(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn of_line(line: &str) -> Option<String> {
        server(&[("etc/my.cnf", format!("[mysqld]\n{line}\n").as_bytes())], "datadir")
    }

    #[test]
    fn values_are_read_as_the_server_reads_them() {
        for (line, value) in [
            ("datadir=/a", "/a"),
            ("  datadir = /a  ", "/a"),
            ("datadir=/a # moved", "/a"),
            ("datadir=\"/a #1\" # moved", "/a #1"),
            ("datadir='/a b'", "/a b"),
            ("datadir=/a\\sb\\\\c\\d", "/a b\\c\\d"),
            ("datadir=/a;b", "/a;b"),
            ("datadir=/a=b", "/a=b"),
            ("datadir", ""),
            ("loose-datadir=/a", "/a"),
            ("datadir=/a\ndatadir=/b\n#datadir=/c\n;datadir=/d", "/b"),
            ("datadir=/a\r\nport=1", "/a"),
            ("datadir=\"", "\""),
        ] {
            assert_eq!(of_line(line).as_deref(), Some(value), "{line}");
        }
    }

    #[test]
    fn dash_and_underscore_are_the_same() {
        let file: (&str, &[u8]) = ("etc/my.cnf", b"[mysqld]\ninnodb-undo_directory=/undo\n");
        assert_eq!(server(&[file], "innodb_undo_directory").as_deref(), Some("/undo"));
    }

    #[test]
    fn only_groups_of_the_server_count() {
        for (group, counts) in [
            ("mysqld", true),
            ("mariadbd", true),
            ("mariadb", true),
            ("server", true),
            ("mysqld-10.11", true),
            ("mariadb-10.6", true),
            ("client", false),
            ("mariadb-backup", false),
            ("mariadb-client", false),
            ("mysqld_safe", false),
            ("mysqldump", false),
        ] {
            let content = format!("datadir=/0\n[{group}]\ndatadir=/a\n");
            let found = server(&[("etc/my.cnf", content.as_bytes())], "datadir");
            assert_eq!(found.is_some(), counts, "{group}");
        }
    }

    #[test]
    fn included_directories_are_read_in_order_and_only_their_cnf_files() {
        let files: [(&str, &[u8]); 6] = [
            ("etc/mysql/my.cnf", b"!includedir /etc/mysql/conf.d/\n[mysqld]\nport=1\n"),
            ("etc/mysql/conf.d/50-server.cnf", b"[mysqld]\ndatadir=/later\n"),
            ("etc/mysql/conf.d/10-first.cnf", b"[mysqld]\ndatadir=/first\n"),
            ("etc/mysql/conf.d/90-last.cnf.rpmsave", b"[mysqld]\ndatadir=/wrong\n"),
            ("etc/mysql/conf.d/99-sub.cnf/a.cnf", b"[mysqld]\ndatadir=/wrong\n"),
            ("etc/my.cnf", b"[mysqld]\ndatadir=/before\n"),
        ];
        assert_eq!(server(&files, "datadir").as_deref(), Some("/later"));
    }

    #[test]
    fn an_included_file_has_its_own_groups() {
        let files: [(&str, &[u8]); 2] = [
            ("etc/my.cnf", b"[mysqld]\n!include /opt/extra\ndatadir=/a\n"),
            ("opt/extra", b"datadir=/ungrouped\n[client]\npassword=x\n"),
        ];
        assert_eq!(server(&files, "datadir").as_deref(), Some("/a"));
    }

    #[test]
    fn includes_follow_links_inside_the_root() {
        let (_directory, root) = root_with(&[
            ("etc/mysql/mariadb.cnf", b"[mysqld]\ndatadir=/linked\n"),
            ("etc/alternatives/README", b""),
        ]);
        symlink("/etc/mysql/mariadb.cnf", root.host().join("etc/alternatives/my.cnf")).unwrap();
        symlink("/etc/alternatives/my.cnf", root.host().join("etc/mysql/my.cnf")).unwrap();
        let options = OptionFiles::read(&root).unwrap();
        assert_eq!(options.server("datadir"), Some(&b"/linked"[..]));
        assert_eq!(options.files, [PathBuf::from("/etc/mysql/my.cnf")]);
    }

    #[test]
    fn an_include_loop_is_cut_and_noted() {
        let (_directory, root) = root_with(&[
            ("etc/my.cnf", b"!includedir /etc/my.cnf.d\n[mysqld]\ndatadir=/a\n"),
            ("etc/my.cnf.d/a.cnf", b"!include /etc/my.cnf\n!include /etc/my.cnf.d/a.cnf\n"),
        ]);
        let options = OptionFiles::read(&root).unwrap();
        assert_eq!(options.server("datadir"), Some(&b"/a"[..]));
        assert_eq!(options.notes.len(), 2);
        assert!(options.notes[0].contains("/etc/my.cnf: included in a loop"));
    }

    #[test]
    fn includes_end_at_the_depth_the_server_ends() {
        let contents: Vec<_> = (0..20)
            .map(|n| (format!("etc/{n}.cnf"), format!("!include /etc/{}.cnf\n", n + 1)))
            .collect();
        let mut files: Vec<(&str, &[u8])> =
            contents.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
        files.push(("etc/my.cnf", b"!include /etc/0.cnf\n"));
        let (_directory, root) = root_with(&files);
        let options = OptionFiles::read(&root).unwrap();
        assert_eq!(options.files.len(), DEPTH_MAX + 1);
        assert!(options.notes[0].contains("too deeply"), "{:?}", options.notes);
    }

    #[test]
    fn includes_that_multiply_are_an_error() {
        let contents: Vec<_> =
            (0..12).map(|n| (format!("etc/d/{n}.cnf"), "!includedir /etc/d\n")).collect();
        let mut files: Vec<(&str, &[u8])> =
            contents.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
        files.push(("etc/my.cnf", b"!includedir /etc/d\n"));
        let (_directory, root) = root_with(&files);
        let error = OptionFiles::read(&root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("1000 option files"), "{error}");
    }

    #[test]
    fn what_is_missing_is_listed() {
        let (_directory, root) = root_with(&[("etc/my.cnf", b"!include /a.cnf\n!includedir /d\n")]);
        let options = OptionFiles::read(&root).unwrap();
        assert_eq!(options.missing, [PathBuf::from("/a.cnf"), PathBuf::from("/d")]);
        let (_directory, root) = root_with(&[]);
        let options = OptionFiles::read(&root).unwrap();
        assert_eq!(options.missing.len(), 2, "{:?}", options.missing);
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let (_directory, root) = root_with(&[("etc/my.cnf", b"[mysqld]\ndatadir=/\xfcbung\n")]);
        let datadir = OptionFiles::read(&root).unwrap().server_path("datadir").unwrap();
        assert_eq!(datadir.as_os_str().as_bytes(), b"/\xfcbung");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for first in 0..=255u8 {
            for second in [b'[', b']', b'=', b'\\', b'"', b'\'', b'!', b'#', b' ', 0xff] {
                parse(&[first]);
                parse(&[first, second]);
                parse(&[b'a', b'=', first, second]);
                parse(&[b'!', first, second, first]);
            }
        }
    }
}
