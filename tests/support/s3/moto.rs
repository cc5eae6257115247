//! moto: a made-up AWS with versions, object locks and roles. A process for all tests of a run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ask;

/// The server. It ends with this process: then its standard input ends.
pub struct Moto {
    endpoint: String,
    _child: Child,
}

/// What a bucket is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Plain,
    /// Every version of an object is kept.
    Versioned,
    /// And may be locked.
    Lockable,
}

impl Moto {
    /// Returns the server of this run; it starts with the first call.
    pub fn server() -> &'static Moto {
        static MOTO: OnceLock<Moto> = OnceLock::new();
        MOTO.get_or_init(Moto::start)
    }

    fn start() -> Moto {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let packages = workspace.join("target/moto");
        assert!(packages.exists(), "{}: tests/run.sh installs it", packages.display());
        let mut child = Command::new("python3")
            .arg(workspace.join("tests/support/s3/moto_server.py"))
            .env("PYTHONPATH", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 runs");
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://"), "moto says where it is, not {endpoint:?}");
        Moto { endpoint: endpoint.trim().to_owned(), _child: child }
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Makes a bucket of a name that no other test has.
    pub fn bucket(&self, made: Made) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let lock = match made {
            Made::Lockable => "x-amz-bucket-object-lock-enabled: true\r\n",
            _ => "",
        };
        let (status, answer) = ask(&self.endpoint, "PUT", &format!("/{name}"), lock, "");
        assert_eq!(status, 200, "{answer}");
        if made == Made::Versioned {
            let body = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Status>Enabled</Status></VersioningConfiguration>";
            let target = format!("/{name}?versioning");
            let (status, answer) = ask(&self.endpoint, "PUT", &target, "", body);
            assert_eq!(status, 200, "{answer}");
        }
        name
    }
}
