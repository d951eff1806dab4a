//! As much of HTTP/1.1 as static files for a browser need: one request a connection, no bodies in.
//!
//! Each connection has a thread. Their number is bounded, and each has deadlines, so that slow clients cost only themselves.
//! Connections are closed after their answer: a browser keeps half a dozen open otherwise, and opens some in advance.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest head of a request, in bytes.
const HEAD: u64 = 16 * 1024;
/// Bytes of a body that are written at once.
const CHUNK: usize = 64 * 1024;
/// Pause after a connection that could not be accepted: most often, files have run out.
const PAUSE: Duration = Duration::from_millis(20);
/// Age from which a connection that has not asked yet is closed before others.
const IDLE: Duration = Duration::from_secs(1);

/// How much of the server a client may take.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Connections at a time. A new one beyond that closes another: one that has long not asked, else the oldest.
    pub connections: usize,
    /// Time until the whole head of the request is there.
    pub head: Duration,
    /// Time for which the client may take nothing of the answer.
    pub stall: Duration,
    /// Bytes a second at which the client has to take the answer on the whole.
    pub rate: u64,
    /// Time until the client closes after the answer.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits { connections: 100, head: seconds(10), stall: seconds(20), rate: 16 * 1024, farewell: seconds(2) }
    }
}

/// The head of a request.
pub struct Request {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, whatever the case of its name; the first, where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = name.to_string();
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(&name)).map(|(_, value)| value.as_str())
    }
}

/// What goes back: a status, headers, and so many bytes of `body`.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub length: u64,
    pub body: Box<dyn Read>,
}

/// Answers all connections until the process is ended. A client that fails, a thread that panics and a connection that cannot
/// be accepted are nobody else's fault: the next one is welcome.
pub fn serve(listener: &TcpListener, limits: Limits, answer: impl Fn(&Request) -> Result<Answer> + Sync) {
    let open = Connections::default();
    std::thread::scope(|scope| {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                open.close_one();
                std::thread::sleep(PAUSE);
                continue;
            };
            let guest = Guest { open: &open, connection: open.admit(stream, limits.connections) };
            let answer = &answer;
            // Without a thread the closure is dropped, and the guest with it.
            let work = move || {
                let _ = converse(&guest.connection, limits, answer);
            };
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                open.close_one();
                std::thread::sleep(PAUSE);
            }
        }
    });
}

/// A connection, when it came, and whether its request has not come yet.
struct Connection {
    stream: TcpStream,
    since: Instant,
    asking: AtomicBool,
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Connections(Mutex<Vec<Arc<Connection>>>);

impl Connections {
    fn list(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, stream: TcpStream, most: usize) -> Arc<Connection> {
        while self.list().len() >= most.max(1) {
            self.close_one();
        }
        let connection = Arc::new(Connection { stream, since: Instant::now(), asking: AtomicBool::new(true) });
        self.list().push(connection.clone());
        connection
    }

    /// Closes the oldest connection that is idle, else the oldest. Its thread notices and ends.
    fn close_one(&self) {
        let mut list = self.list();
        let is_idle = |c: &Arc<Connection>| c.asking.load(Ordering::Relaxed) && c.since.elapsed() > IDLE;
        let victim = list.iter().position(is_idle).unwrap_or(0);
        if victim < list.len() {
            let _ = list.remove(victim).stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection under way: taken from the list when it ends, however it ends.
struct Guest<'a> {
    open: &'a Connections,
    connection: Arc<Connection>,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.open.list().retain(|other| !Arc::ptr_eq(other, &self.connection));
    }
}

/// A stream that fails once its deadline has passed, however busy it is, or when nothing moves for `stall`.
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
    stall: Duration,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a TcpStream, time: Duration, stall: Duration) -> Self {
        let now = Instant::now();
        // A time beyond the clock's end is a day, which is as good as none.
        Timed { stream, deadline: now.checked_add(time).unwrap_or(now + Duration::from_secs(86_400)), stall }
    }

    fn wait(&self) -> Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::from(ErrorKind::TimedOut)) } else { Ok(Some(left.min(self.stall))) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        self.stream.set_read_timeout(self.wait()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.set_write_timeout(self.wait()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn converse(connection: &Connection, limits: Limits, answer: &impl Fn(&Request) -> Result<Answer>) -> Result<()> {
    let stream = &connection.stream;
    let request = read(&mut BufReader::new(Timed::new(stream, limits.head, limits.head).take(HEAD)))?;
    connection.asking.store(false, Ordering::Relaxed);
    let answer = match &request {
        Some(request) => answer(request)?,
        None => Answer { status: 400, headers: Vec::new(), length: 0, body: Box::new(std::io::empty()) },
    };
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        reason(answer.status),
        answer.length
    );
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let time = limits.stall + Duration::from_secs(answer.length / limits.rate.max(1));
    let mut output = Timed::new(stream, time, limits.stall);
    output.write_all((head + "\r\n").as_bytes())?;
    if request.is_none_or(|request| request.method != "HEAD") {
        std::io::copy(&mut BufReader::with_capacity(CHUNK, answer.body.take(answer.length)), &mut output)?;
    }
    // The client reads the end before the connection goes: what it still sends must not cut the answer off.
    stream.shutdown(Shutdown::Write)?;
    std::io::copy(&mut Timed::new(stream, limits.farewell, limits.farewell).take(HEAD), &mut std::io::sink())?;
    Ok(())
}

/// The head of a request; `None` where it is none.
fn read(input: &mut impl BufRead) -> Result<Option<Request>> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else { return Ok(None) };
    if !version.starts_with("HTTP/1.") {
        return Ok(None);
    }
    let (method, target) = (method.to_string(), target.to_string());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None); // it ended, or grew too long, before its empty line
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(Request { method, target, headers }));
        }
        let Some((name, value)) = line.split_once(':') else { return Ok(None) };
        headers.push((name.to_string(), value.trim().to_string()));
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        421 => "Misdirected Request",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_or_refused() {
        let read = |text: &str| read(&mut text.as_bytes()).unwrap();
        let request = read("GET /a?b HTTP/1.1\r\nHost: x\r\nRANGE:  bytes=0-1 \r\n\r\nrest").unwrap();
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b"));
        assert_eq!((request.header("range"), request.header("If-Range")), (Some("bytes=0-1"), None));
        for text in ["", "GET", "GET /", "GET / FTP/1\r\n\r\n", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }

    /// A server in a thread, its address.
    fn started(limits: Limits, answer: impl Fn(&Request) -> Result<Answer> + Send + Sync + 'static) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, limits, answer));
        address
    }

    fn hello(request: &Request) -> Result<Answer> {
        assert_ne!(request.target, "/panic", "a defect of the server");
        let length = if request.target == "/long" { 64 << 20 } else { 5 };
        Ok(Answer { status: 200, headers: Vec::new(), length, body: Box::new(std::io::repeat(b'x')) })
    }

    fn get(address: std::net::SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    /// Seconds until the server has closed a connection on which `drip` is sent again and again.
    fn closed_after(address: std::net::SocketAddr, first: &str, drip: &str) -> f64 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let gone = match stream.write_all(drip.as_bytes()).and_then(|()| stream.read(&mut [0; 64])) {
                Ok(read) => read == 0,
                Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
            if gone {
                break;
            }
        }
        start.elapsed().as_secs_f64()
    }

    #[test]
    fn slow_clients_cost_only_themselves() {
        let short = Duration::from_millis(400);
        let address = started(Limits { connections: 20, head: short, stall: short, rate: 1 << 30, farewell: short }, hello);
        // More than there is room for: some say nothing, some send half a head, some take nothing of their answer.
        let starts = ["", "GET / HTTP/1.1\r\nA: b", "GET /long HTTP/1.1\r\n\r\n"];
        let slow: Vec<TcpStream> = (0..60)
            .map(|n| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(starts[n % 3].as_bytes()).unwrap();
                stream
            })
            .collect();
        let start = Instant::now();
        for _ in 0..5 {
            assert!(get(address, "/").ends_with("\r\n\r\nxxxxx"));
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        drop(slow);
        // Each byte is in time, the whole is not: a head, what comes behind a request, an answer that is taken in sips.
        for (first, drip) in [("GET / HTTP/1.1\r\n", "A"), ("GET / HTTP/1.1\r\n", "A: b\r\n"), ("", "")] {
            let seconds = closed_after(address, first, drip);
            assert!((0.2..3.0).contains(&seconds), "{first:?} {drip:?}: {seconds} s");
        }
        assert!(closed_after(address, "GET /long HTTP/1.1\r\n\r\n", "") < 5.0);
    }

    #[test]
    fn a_panic_ends_one_connection() {
        let address = started(Limits { connections: 2, ..Limits::default() }, hello);
        for _ in 0..5 {
            assert_eq!(get(address, "/panic"), "");
        }
        assert!(get(address, "/").ends_with("xxxxx"));
    }
}
