//! As much of HTTP/1.1 as static files for a browser need: one request a connection, no bodies in.
//!
//! A fixed number of threads accept and answer, each by itself. Connections are closed after their answer, since a browser
//! keeps half a dozen open and opens some in advance: kept ones would hold threads that others wait for.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// Connections that are answered at a time.
const THREADS: usize = 32;
/// Longest head of a request, in bytes.
const HEAD: u64 = 16 * 1024;
/// How long a client may say nothing, and how long it may not take what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The head of a request.
pub struct Request {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What goes back: a status, headers, and so many bytes of `body`.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub length: u64,
    pub body: Box<dyn Read>,
}

/// Answers all connections until the process is ended.
pub fn serve(listener: &TcpListener, answer: impl Fn(&Request) -> Result<Answer> + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    // A client that has gone away is nobody's fault, and the next one is welcome.
                    let _ = listener.accept().and_then(|(stream, _)| converse(&stream, &answer));
                }
            });
        }
    });
}

fn converse(stream: &TcpStream, answer: &impl Fn(&Request) -> Result<Answer>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut input = BufReader::new(stream.take(HEAD));
    let request = read(&mut input)?;
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
    let mut output = stream;
    output.write_all((head + "\r\n").as_bytes())?;
    if request.is_none_or(|request| request.method != "HEAD") {
        std::io::copy(&mut answer.body.take(answer.length), &mut output)?;
    }
    // The client reads the end before the connection goes: what it still sends must not cut the answer off.
    stream.shutdown(Shutdown::Write)?;
    std::io::copy(&mut input, &mut std::io::sink())?;
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
}
