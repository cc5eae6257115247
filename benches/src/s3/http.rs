//! As much of HTTP/1.1 as a proxy and a made-up store need: heads of messages, bodies passed on as they
//! are framed, and a listener that ends with its owner.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// More than any head a client or a store sends.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// More than any request of these tests and benches that is held in memory whole.
const BODY_BYTES_MAX: u64 = 256 << 20;

/// What of a body is passed on at once: small pieces would cost more than the store does.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The head of a message: its first line, and its headers as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub first: String,
    pub headers: Vec<(String, String)>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// Reads a head; `None` when the connection ends before one.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut from = from.take(HEAD_BYTES_MAX);
        let Some(first) = read_line(&mut from)? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut from)?.ok_or_else(|| malformed("a head that ends early"))?;
            if line.is_empty() {
                return Ok(Some(Head { first, headers }));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("no header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Returns the value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    }

    /// Writes it as it is.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        to.write_all(text.as_bytes())?;
        to.flush()
    }

    fn word(&self, number: usize) -> &str {
        self.first.split(' ').nth(number).unwrap_or_default()
    }

    /// Method, path and query of a request.
    pub fn request(&self) -> (String, String, String) {
        let (path, query) = self.word(1).split_once('?').unwrap_or((self.word(1), ""));
        (self.word(0).to_owned(), path.to_owned(), query.to_owned())
    }

    /// The status of an answer.
    pub fn status(&self) -> io::Result<u16> {
        self.word(1).parse().map_err(|_| malformed("an answer without a status"))
    }

    fn length(&self) -> io::Result<Option<u64>> {
        let length = self.header("content-length");
        length.map(|text| text.parse().map_err(|_| malformed("a length"))).transpose()
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    /// How the body of this request is framed.
    pub fn request_framing(&self) -> io::Result<Framing> {
        if self.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(Framing::Length(self.length()?.unwrap_or(0)))
    }

    /// How the body of this answer to a request with a method is framed.
    pub fn answer_framing(&self, method: &str) -> io::Result<Framing> {
        if method == "HEAD" || matches!(self.status()?, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if self.is_chunked() {
            return Ok(Framing::Chunked);
        }
        Ok(self.length()?.map_or(Framing::UntilClose, Framing::Length))
    }
}

pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Reads a line; `None` at the end of the connection.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with('\n') {
        return Err(malformed("a line that ends early, or is too long"));
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(Some(line))
}

/// Copies exactly so many bytes, in pieces as large as the reader's buffer.
fn copy_exactly(from: &mut impl BufRead, to: &mut impl Write, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = from.fill_buf()?;
        let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&piece[..length])?;
        from.consume(length);
        left -= length as u64;
    }
    Ok(())
}

/// Passes a body on as it is framed; returns the bytes of its content.
pub(super) fn pass_body(
    from: &mut impl BufRead,
    to: &mut impl Write,
    framing: Framing,
) -> io::Result<u64> {
    match framing {
        Framing::Length(bytes) => copy_exactly(from, to, bytes).map(|()| bytes),
        Framing::UntilClose => io::copy(from, to),
        Framing::Chunked => {
            let mut content = 0;
            loop {
                let line = read_line(&mut from.take(HEAD_BYTES_MAX))?
                    .ok_or_else(|| malformed("a body that ends early"))?;
                to.write_all(format!("{line}\r\n").as_bytes())?;
                let digits = line.split(';').next().unwrap_or_default();
                let bytes = u64::from_str_radix(digits.trim(), 16)
                    .map_err(|_| malformed("the size of a chunk"))?;
                if bytes == 0 {
                    break;
                }
                copy_exactly(from, to, bytes + 2)?;
                content += bytes;
            }
            // What stands behind the last chunk: trailers, and an empty line.
            loop {
                let line = read_line(&mut from.take(HEAD_BYTES_MAX))?
                    .ok_or_else(|| malformed("trailers that end early"))?;
                to.write_all(format!("{line}\r\n").as_bytes())?;
                if line.is_empty() {
                    break;
                }
            }
            Ok(content)
        }
    }
}

/// Accepts connections on a free port of 127.0.0.1, each served by a thread of its own. Ends with
/// everything under way when it is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    has_ended: AtomicBool,
    /// The connections that live.
    live: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Listening {
    /// Begins to accept.
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Listening {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting, &Arc::new(serve)));
        Listening { address, shared, acceptor: Some(acceptor) }
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn accept<S>(listener: &TcpListener, shared: &Arc<Shared>, serve: &Arc<S>)
where
    S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.has_ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let Ok(kept) = stream.try_clone() else { continue };
        lock(&shared.live).insert(number, kept);
        let (shared, serve) = (Arc::clone(shared), Arc::clone(serve));
        thread::spawn(move || {
            // A connection that breaks is its client's matter.
            let _ = serve(stream);
            if let Some(stream) = lock(&shared.live).remove(&number) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in lock(&self.shared.live).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET, PUT, ...
    pub method: String,
    /// The path as it came, encoded.
    pub path: String,
    /// What stands behind the question mark, encoded.
    pub query: String,
    /// The headers as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// Returns the value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200, ...
    pub status: u16,
    /// Headers but the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Makes one with a body of a type.
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Answer { status, headers, body: body.into() }
    }

    pub(super) fn write(&self, method: &str, to: &mut impl Write) -> io::Result<()> {
        let mut headers = self.headers.clone();
        headers.push(("Content-Length".to_owned(), self.body.len().to_string()));
        let head = Head { first: format!("HTTP/1.1 {} Answer", self.status), headers };
        head.write(to)?;
        if method != "HEAD" {
            to.write_all(&self.body)?;
        }
        to.flush()
    }
}

/// Serves answers that a function makes up.
pub fn answering(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Listening {
    Listening::start(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(head) = Head::read(&mut reader)? {
            let (method, path, query) = head.request();
            let mut body = Vec::new();
            if head.header("expect").is_some() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let framing = head.request_framing()?;
            match framing {
                Framing::Length(bytes) if bytes <= BODY_BYTES_MAX => {
                    pass_body(&mut reader, &mut body, framing)?
                }
                _ => return Err(malformed("a request of unknown length")),
            };
            let asked = Asked { method, path, query, headers: head.headers, body };
            answer(&asked).write(&asked.method, &mut stream)?;
        }
        Ok(())
    })
}
