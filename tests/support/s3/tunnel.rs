//! The proxy of a site through which alone the world is reached: it makes tunnels (`CONNECT HOST:PORT`).
//! All of them end at one server, whatever host is asked for.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use colvault_benches::s3::Listening;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream as Stream;

/// More than any head of a request for a tunnel.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A proxy on a free port of loopback. Ends when it is dropped.
pub struct Tunnel {
    listening: Listening,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// Begins before the server at `HOST:PORT`, for everybody.
    pub fn to(server: &str) -> Tunnel {
        Tunnel::start(server, None)
    }

    /// For those that send this header alone.
    pub fn guarded(server: &str, header: &str) -> Tunnel {
        Tunnel::start(server, Some(header.to_lowercase()))
    }

    fn start(server: &str, wanted: Option<String>) -> Tunnel {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (server, noted) = (server.to_owned(), Arc::clone(&asked));
        let listening = Listening::start(move |client| {
            on_this_thread(client, async |client| {
                serve(client, &server, wanted.as_deref(), &noted).await
            })
        });
        Tunnel { listening, asked }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.listening.endpoint().replace("http://", "")
    }

    /// Returns the first lines of the requests so far, and forgets them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn serve(
    mut client: Stream,
    server: &str,
    wanted: Option<&str>,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let first = head.lines().next().unwrap_or_default();
    asked.lock().unwrap().push(first.to_owned());
    let is_let_in = wanted.is_none_or(|wanted| head.to_lowercase().contains(wanted));
    if !is_let_in {
        return client.write_all(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n").await;
    }
    if !first.starts_with("CONNECT ") {
        return client.write_all(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n").await;
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    join(client, server).await
}

/// Passes on between a client and the server at `HOST:PORT`, until both have ended.
pub(super) async fn join(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    server: &str,
) -> io::Result<()> {
    let mut server = Stream::connect(server).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Serves a connection in a runtime of its own.
pub(super) fn on_this_thread(
    client: TcpStream,
    serve: impl AsyncFnOnce(Stream) -> io::Result<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    client.set_nonblocking(true)?;
    runtime.block_on(async { serve(Stream::from_std(client)?).await })
}
