//! A client that keeps its connection, and takes nothing for an answer that is not whole.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Seconds after which a refused client may come back.
    pub retry_after: Option<u64>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Lost {
    /// How an answer broke off; `None` where the server took nothing, or closed the connection before the first byte of one.
    pub torn: Option<String>,
}

const UNANSWERED: Lost = Lost { torn: None };

pub struct Client {
    address: String,
    key: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: &str, key: &str) -> Self {
        Client { address: address.into(), key: key.into(), stream: None }
    }

    /// The head of a request with a body of this length.
    pub fn head(&self, method: &str, target: &str, length: usize) -> String {
        let (host, key) = (&self.address, &self.key);
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n")
    }

    /// Asks, on the connection of the request before if that is still open.
    pub fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Result<Reply, Lost> {
        let kept = self.stream.is_some();
        match self.ask_once(method, target, body) {
            // A server may close a kept connection at any moment.
            Err(Lost { torn: None }) if kept => self.ask_once(method, target, body),
            reply => reply,
        }
    }

    pub fn judge(&mut self, body: &serde_json::Value) -> Result<Reply, Lost> {
        self.ask("POST", "/v1/judge", body.to_string().as_bytes())
    }

    fn ask_once(&mut self, method: &str, target: &str, body: &[u8]) -> Result<Reply, Lost> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(&self.address).map_err(|_| UNANSWERED)?),
        };
        let mut request = self.head(method, target, body.len()).into_bytes();
        request.extend_from_slice(body);
        // A server that refuses need not read everything; its answer is there all the same.
        let _ = stream.get_mut().write_all(&request);
        let (reply, keeps) = read(&mut stream)?;
        self.stream = keeps.then_some(stream);
        Ok(reply)
    }
}

pub fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The status of the answer on a connection; `None` where there is none.
pub fn status(stream: TcpStream) -> Option<u16> {
    Some(read(&mut BufReader::new(stream)).ok()?.0.status)
}

/// An answer, and whether the connection stays.
fn read(stream: &mut BufReader<TcpStream>) -> Result<(Reply, bool), Lost> {
    let torn = |what: &str, error: &io::Error| Lost { torn: Some(format!("{what}: {error}")) };
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head) {
            Ok(0) if head.is_empty() => return Err(UNANSWERED),
            Ok(0) => return Err(Lost { torn: Some(format!("a head that breaks off: {head}")) }),
            Ok(_) => {}
            Err(error) if head.is_empty() && error.kind() != ErrorKind::WouldBlock => return Err(UNANSWERED),
            Err(error) => return Err(torn("no head", &error)),
        }
    }
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = header("content-length").and_then(|length| length.parse().ok());
    let (Some(status), Some(length)) = (status, length) else {
        return Err(Lost { torn: Some(format!("a strange head: {head}")) });
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(|error| torn("a body that breaks off", &error))?;
    let keeps = !header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok((Reply { status, retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()), body }, keeps))
}
