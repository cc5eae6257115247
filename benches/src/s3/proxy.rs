//! A proxy before any store: it passes requests on as they are, remembers them, and does to some what
//! networks and stores do.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Answer, BUFFER_BYTES, Framing, Head, Listening, header, lock, pass_body};

/// What is done to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store answers with an error; the request is not passed on.
    Error {
        /// 503, ...
        status: u16,
        /// `SlowDown`, ...
        code: &'static str,
        /// Headers that come with it.
        headers: Vec<(String, String)>,
    },
    /// The connection ends; the request is not passed on.
    Drop,
    /// The store has done what was asked, then the connection is reset: the answer is lost.
    Reset,
    /// Half of the body of the answer comes, then the connection ends.
    Truncate,
    /// One byte in the middle of the answer's body is another.
    Flip,
    /// No answer ever; the request is not passed on.
    Stall,
    /// No answer ever, though the store has done what was asked.
    StallAfter,
    /// Passed on after a while.
    Delay(Duration),
    /// Passed on without a header. What is signed then no longer fits: for stores that do not look.
    Without(&'static str),
    /// Passed on; the answer is from another time.
    Dated(String),
}

impl Fault {
    fn error(status: u16, code: &'static str) -> Fault {
        Fault::Error { status, code, headers: Vec::new() }
    }

    /// Throttled: `503 SlowDown`.
    pub fn slow_down() -> Fault {
        Fault::error(503, "SlowDown")
    }

    /// Throttled, with a word on when to come back.
    pub fn slow_down_for(seconds: u64) -> Fault {
        let headers = vec![("Retry-After".to_owned(), seconds.to_string())];
        Fault::Error { status: 503, code: "SlowDown", headers }
    }

    /// `500 InternalError`
    pub fn internal() -> Fault {
        Fault::error(500, "InternalError")
    }

    /// The request's time is too far from the store's, which is `date`.
    pub fn skewed(date: String) -> Fault {
        let headers = vec![("Date".to_owned(), date)];
        Fault::Error { status: 403, code: "RequestTimeTooSkewed", headers }
    }

    /// `403 AccessDenied`
    pub fn denied() -> Fault {
        Fault::error(403, "AccessDenied")
    }
}

type When = dyn Fn(&Seen) -> bool + Send;

/// Which requests a fault meets: those that match all it says, from a number on, so many.
pub struct Rule {
    fault: Fault,
    method: Option<&'static str>,
    path: String,
    query: String,
    when: Option<Box<When>>,
    after: usize,
    times: usize,
    matched: usize,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?} {}?{}", self.fault, self.method, self.path, self.query)
    }
}

impl Rule {
    /// Meets every request, unless more is said.
    pub fn new(fault: Fault) -> Rule {
        Rule {
            fault,
            method: None,
            path: String::new(),
            query: String::new(),
            when: None,
            after: 0,
            times: usize::MAX,
            matched: 0,
        }
    }

    /// Does this instead.
    pub fn fault(mut self, fault: Fault) -> Rule {
        self.fault = fault;
        self
    }

    /// Only those with this method.
    pub fn method(mut self, method: &'static str) -> Rule {
        self.method = Some(method);
        self
    }

    /// Only those whose path contains this text: `/packs/`, `/snapshots/`.
    pub fn path(mut self, text: &str) -> Rule {
        self.path = text.to_owned();
        self
    }

    /// Only those whose query contains this text: `list-type`, `uploads`.
    pub fn query(mut self, text: &str) -> Rule {
        self.query = text.to_owned();
        self
    }

    /// Only those of which this is so.
    pub fn when(mut self, when: impl Fn(&Seen) -> bool + Send + 'static) -> Rule {
        self.when = Some(Box::new(when));
        self
    }

    /// Lets so many of them pass first.
    pub fn after(mut self, requests: usize) -> Rule {
        self.after = requests;
        self
    }

    /// So many of them, and no more.
    pub fn times(mut self, requests: usize) -> Rule {
        self.times = requests;
        self
    }

    /// Whether it meets this request, which is counted.
    fn meets(&mut self, seen: &Seen) -> bool {
        let matches = self.method.is_none_or(|method| method == seen.method)
            && seen.path.contains(&self.path)
            && seen.query.contains(&self.query)
            && self.when.as_ref().is_none_or(|when| when(seen));
        if !matches {
            return false;
        }
        self.matched += 1;
        self.matched > self.after && self.matched - self.after <= self.times
    }
}

/// A request that came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, PUT, ...
    pub method: String,
    /// The path as it came, encoded.
    pub path: String,
    /// What stands behind the question mark, encoded.
    pub query: String,
    /// The headers as they came.
    pub headers: Vec<(String, String)>,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the answer's body.
    pub received: u64,
    /// The status of the answer; `None` while there is none, and when none came.
    pub status: Option<u16>,
    /// What was done to it, but for delays.
    pub fault: Option<Fault>,
    /// When its head had come.
    pub begun: Instant,
    /// When its answer had been passed on.
    pub ended: Option<Instant>,
}

impl Seen {
    /// Returns the value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// First and last byte that a `Range` header asks for.
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }

    /// Method and what it is about: `GET packs`, `PUT snapshots`, `LIST leases`; keys without their
    /// names, below whatever prefix.
    pub fn class(&self) -> String {
        let spaces =
            ["packs", "index", "snapshots", "leases", "doomed", "features", "probes", "config"];
        let is_listing = self.query.contains("list-type");
        let within = if is_listing { self.query.replace("%2F", "/") } else { self.path.clone() };
        let is_in = |space: &&&str| {
            within.contains(&format!("/{space}/"))
                || within.contains(&format!("={space}/"))
                || within.ends_with(&format!("/{space}"))
        };
        let space = spaces.iter().find(is_in).copied().unwrap_or("?");
        let verb = if is_listing { "LIST" } else { self.method.as_str() };
        format!("{verb} {space}")
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Log>,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

/// The requests since the last `take`.
#[derive(Debug, Default)]
struct Log {
    /// How many were taken before.
    taken: usize,
    seen: Vec<Seen>,
}

/// A proxy on a free port of loopback. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    listening: Listening,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Begins before the server at `http://HOST:PORT`.
    pub fn before(endpoint: &str) -> Proxy {
        let upstream = endpoint.strip_prefix("http://").expect("a server without TLS").to_owned();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let listening = Listening::start(move |client| serve(&serving, &upstream, client));
        Proxy { listening, shared }
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.listening.endpoint()
    }

    /// Adds a rule. Of several that meet a request all delays are waited for and the first of the others
    /// is done; each counts for itself.
    pub fn add(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// From now on nothing is done to any request.
    pub fn clear(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Returns the requests since the last `take`, in the order in which they came, and forgets them. What
    /// comes of those that are under way stays unknown.
    pub fn take(&self) -> Vec<Seen> {
        let mut log = lock(&self.shared.seen);
        log.taken += log.seen.len();
        std::mem::take(&mut log.seen)
    }

    /// Returns the requests since the last `take`.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).seen.clone()
    }

    /// Returns to how many of them something was done.
    pub fn met(&self) -> usize {
        lock(&self.shared.seen).seen.iter().filter(|seen| seen.fault.is_some()).count()
    }

    /// Returns how many requests are under way.
    pub fn under_way(&self) -> usize {
        self.shared.at_once.load(Ordering::SeqCst)
    }

    /// Returns how many requests were under way at once at most.
    pub fn at_once_max(&self) -> usize {
        self.shared.at_once_max.load(Ordering::SeqCst)
    }
}

/// What is done to one request.
struct Judged {
    /// Its place among all that were ever seen.
    number: usize,
    delay: Duration,
    fault: Option<Fault>,
}

impl Shared {
    fn judge(&self, head: &Head) -> Judged {
        let (method, path, query) = head.request();
        let headers = head.headers.clone();
        let (sent, received, status, fault) = (0, 0, None, None);
        let (begun, ended) = (Instant::now(), None);
        let mut seen =
            Seen { method, path, query, headers, sent, received, status, fault, begun, ended };
        let mut delay = Duration::ZERO;
        for rule in lock(&self.rules).iter_mut() {
            match (rule.meets(&seen), &rule.fault) {
                (true, Fault::Delay(duration)) => delay += *duration,
                (true, other) if seen.fault.is_none() => seen.fault = Some(other.clone()),
                _ => {}
            }
        }
        let fault = seen.fault.clone();
        let mut log = lock(&self.seen);
        log.seen.push(seen);
        Judged { number: log.taken + log.seen.len() - 1, delay, fault }
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Seen)) {
        let mut log = lock(&self.seen);
        let place = number.checked_sub(log.taken);
        if let Some(seen) = place.and_then(|place| log.seen.get_mut(place)) {
            change(seen);
        }
    }

    fn enter(&self) {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves one connection of a client.
fn serve(shared: &Shared, upstream: &str, client: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, client.try_clone()?);
    while let Some(head) = Head::read(&mut reader)? {
        let judged = shared.judge(&head);
        shared.enter();
        let goes_on = one(shared, upstream, &client, &mut reader, head, &judged);
        shared.leave();
        if !goes_on? {
            break;
        }
    }
    Ok(())
}

/// Serves one request. Returns whether the connection goes on.
fn one(
    shared: &Shared,
    upstream: &str,
    mut client: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    mut head: Head,
    judged: &Judged,
) -> io::Result<bool> {
    if judged.fault == Some(Fault::Drop) {
        return Ok(false);
    }
    if head.header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    thread::sleep(judged.delay);
    let framing = head.request_framing()?;
    let (method, path, _) = head.request();
    match &judged.fault {
        Some(Fault::Error { status, code, headers }) => {
            let sent = pass_body(reader, &mut io::sink(), framing)?;
            let mut answer = Answer::new(*status, "application/xml", error_body(code, &path));
            answer.headers.extend(headers.clone());
            shared.note(judged.number, |seen| (seen.sent, seen.status) = (sent, Some(*status)));
            answer.write(&method, &mut client)?;
            return Ok(true);
        }
        Some(Fault::Stall) => return until_the_client_leaves(reader),
        Some(Fault::Without(name)) => head.remove(name),
        _ => {}
    }
    let mut server = TcpStream::connect(upstream)?;
    server.set_nodelay(true)?;
    head.write(&mut server)?;
    let sent = pass_body(reader, &mut server, framing)?;
    shared.note(judged.number, |seen| seen.sent = sent);
    let mut answers = BufReader::with_capacity(BUFFER_BYTES, server);
    let mut answer = final_answer(&mut answers)?;
    let status = answer.status()?;
    let framing = answer.answer_framing(&method)?;
    // Connections are a matter between neighbours.
    answer.remove("connection");
    answer.first = answer.first.replace("HTTP/1.0", "HTTP/1.1");
    if let Some(Fault::Dated(date)) = &judged.fault {
        answer.remove("date");
        answer.headers.push(("Date".to_owned(), date.clone()));
    }
    let passed = answer_back(&judged.fault, client, reader, &answer, &mut answers, framing)?;
    shared.note(judged.number, |seen| {
        seen.received = passed.unwrap_or(0);
        seen.status = passed.map(|_| status);
        seen.ended = Some(Instant::now());
    });
    Ok(passed.is_some() && framing != Framing::UntilClose)
}

/// Passes an answer on. Returns the bytes of its body; `None` when it did not come whole.
fn answer_back(
    fault: &Option<Fault>,
    mut client: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    answer: &Head,
    answers: &mut BufReader<TcpStream>,
    framing: Framing,
) -> io::Result<Option<u64>> {
    match fault {
        Some(Fault::Reset) => {
            pass_body(answers, &mut io::sink(), framing)?;
            rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
            Ok(None)
        }
        Some(Fault::StallAfter) => {
            pass_body(answers, &mut io::sink(), framing)?;
            until_the_client_leaves(reader).map(|_| None)
        }
        Some(Fault::Truncate) => {
            let mut body = Vec::new();
            pass_body(answers, &mut body, framing)?;
            answer.write(&mut client)?;
            client.write_all(&body[..body.len() / 2])?;
            Ok(None)
        }
        Some(Fault::Flip) => {
            let mut body = Vec::new();
            let bytes = pass_body(answers, &mut body, framing)?;
            let middle = body.len() / 2;
            if let Some(byte) = body.get_mut(middle) {
                *byte ^= 0x20;
            }
            answer.write(&mut client)?;
            client.write_all(&body)?;
            Ok(Some(bytes))
        }
        _ => {
            answer.write(&mut client)?;
            pass_body(answers, &mut client, framing).map(Some)
        }
    }
}

/// The next answer that is not only a word on the way.
fn final_answer(from: &mut BufReader<TcpStream>) -> io::Result<Head> {
    loop {
        let head = Head::read(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status()? >= 200 {
            return Ok(head);
        }
    }
}

fn until_the_client_leaves(reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
    io::copy(&mut reader.by_ref(), &mut io::sink())?;
    Ok(false)
}

fn error_body(code: &str, path: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>from the proxy</Message><Resource>{path}</Resource>\
         <RequestId>PROXY</RequestId></Error>"
    )
}
