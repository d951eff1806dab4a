//! `jurist serve` towards slow, strange and hostile clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::cli::{finish, jurist, path, write};

/// A running server of a page, ended with the test.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("index.html"), "<title>page</title>");
        let mut command = jurist(&["serve", "--dir", path(dir.path()), "--port", "0", "-q"]);
        let mut child = command.args(flags).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().trim_end_matches('/').rsplit_once(':').unwrap().1.parse().unwrap();
        Server { child, port, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Status and body of the answer to a request for the page with these headers; `PORT` in them is the server's.
    fn ask(&self, version: &str, headers: &str) -> (u16, String) {
        let mut stream = self.connect();
        let headers = headers.replace("PORT", &self.port.to_string());
        write!(stream, "GET / HTTP/{version}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }
}

#[test]
fn slow_clients_keep_nobody_waiting() {
    let server = Server::start(&[]);
    // More than the server holds at a time: some say nothing, some have begun a head.
    let mut slow: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
    for stream in slow.iter_mut().step_by(2) {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    }
    for _ in 0..4 {
        let start = Instant::now();
        assert_eq!(server.ask("1.1", "Host: localhost\r\n").0, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        for stream in &mut slow {
            let _ = stream.write_all(b"a"); // a byte now and then, as a slow client
        }
    }
}

#[test]
fn only_hosts_allowed_by_name_are_answered() {
    let own = ["localhost", "localhost:PORT", "LocalHost.:PORT", "127.0.0.1:PORT", "127.0.0.1", "[::1]:PORT", "[::1]"];
    let foreign =
        ["evil.example", "evil.example:PORT", "localhost:1", "127.0.0.1.evil.example:PORT", "192.0.2.7:PORT", "judge.example"];
    let servers = [
        (&[] as &[&str], &own as &[&str], &foreign as &[&str]),
        (
            &["--allow-host", "judge.example", "--allow-host", "proxy.example:8443"],
            &["judge.example", "judge.example:PORT", "proxy.example:8443", "localhost"],
            &foreign[..5],
        ),
        (
            &["--host", "0.0.0.0"],
            &["192.0.2.7:PORT", "192.0.2.7", "localhost:PORT", "0.0.0.0:PORT"],
            &["evil.example:PORT", "judge.example", "192.0.2.7:1"],
        ),
    ];
    for (flags, answered, refused) in servers {
        let server = Server::start(flags);
        for host in answered {
            assert_eq!(server.ask("1.1", &format!("Host: {host}\r\n")).0, 200, "{flags:?} {host}");
        }
        for host in refused {
            let (status, body) = server.ask("1.1", &format!("Host: {host}\r\n"));
            assert!(status == 421 && body.contains("--allow-host"), "{flags:?} {host}: {status} {body}");
            assert!(!body.contains("<title>"), "{body}");
        }
    }
}

#[test]
fn a_request_names_one_host() {
    let server = Server::start(&[]);
    for headers in ["", "Host: \r\n", "Host: localhost\r\nHost: evil.example\r\n", "Host: a b\r\n", "Host: http://localhost\r\n"]
    {
        for version in ["1.1", "1.0"] {
            let (status, body) = server.ask(version, headers);
            assert!(status == 400 && body.contains("Host header"), "{headers:?}: {status} {body}");
        }
    }
    // The target of a proxy's request is no way around it.
    let mut stream = server.connect();
    write!(stream, "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
}

#[test]
fn a_host_that_is_none_is_refused_at_the_start() {
    for name in ["http://judge.example", "*", "judge.example/", "a b", ""] {
        let done = finish(jurist(&["serve", "--allow-host", name]));
        assert!(done.code == Some(2) && done.err.contains("expected one such as judge.example"), "{name}: {done:?}");
    }
}
