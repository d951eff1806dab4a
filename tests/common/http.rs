//! A client that sends requests exactly as they are written, as no browser would.

#![allow(dead_code)] // each test binary uses a part

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines();
        lines.find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.headers, self.text()))
    }

    /// The message of an error.
    #[track_caller]
    pub fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_string()
    }

    /// The events of a stream.
    pub fn events(&self) -> Vec<String> {
        self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: ").map(String::from)).collect()
    }

    /// The chunks of a stream that ended as it should.
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{}", self.text());
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

/// A connection to a server of this machine.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends a request with these headers (lines that end in CR LF) and this body.
pub fn ask(address: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = connect(address);
    send(&mut stream, address, method, target, headers, body);
    receive(stream)
}

/// Sends a request, and leaves the connection.
pub fn send(stream: &mut TcpStream, host: &str, method: &str, target: &str, headers: &str, body: &[u8]) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n");
    // The server may have answered and closed before it had everything.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// The answer, up to the end of the connection.
#[track_caller]
pub fn receive(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no answer: {ended:?} {:?}", String::from_utf8_lossy(&bytes)));
    let headers = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    let answer = Answer { status, headers, body: bytes[split + 4..].to_vec() };
    match answer.header("transfer-encoding") {
        Some("chunked") => Answer { body: joined(&answer.body), ..answer },
        _ => answer,
    }
}

/// The chunks of a body that came in chunks, as far as they are whole.
fn joined(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap_or_default(), 16).unwrap_or(0);
        let rest = &bytes[end + 2..];
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        body.extend_from_slice(&rest[..size]);
        bytes = &rest[size + 2..];
    }
    body
}

/// Asks with a JSON body.
pub fn post(address: &str, target: &str, body: &Value) -> Answer {
    ask(address, "POST", target, "Content-Type: application/json\r\n", body.to_string().as_bytes())
}

pub fn get(address: &str, target: &str) -> Answer {
    ask(address, "GET", target, "", b"")
}
