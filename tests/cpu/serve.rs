//! `jurist serve`: right files with right types, parts of them, and nothing else of the machine.

use std::io::{BufRead, BufReader};
use std::process::Child;

use crate::cli::{finish, jurist, path, write};
use crate::http::{self, Answer};

/// A running server, ended with the test.
struct Server {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("web");
        std::fs::create_dir_all(page.join("sub")).unwrap();
        for (name, text) in [
            ("index.html", "<title>page</title>"),
            ("worker.js", "0"),
            ("a b.css", "c"),
            ("x.wasm", "\0asm"),
            (".hidden", "no"),
            ("ten.bin", "0123456789"),
            ("sub/index.html", "sub"),
            ("../secret.txt", "secret"),
        ] {
            write(page.join(name), text);
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("secret.txt"), page.join("link.txt")).unwrap();
        let mut child = jurist(&["serve", "--dir", path(&page), "--port", "0", "-q"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        Server { child, address, _dir: dir }
    }

    fn ask(&self, method: &str, target: &str, headers: &str) -> Answer {
        http::ask(&self.address, method, target, headers, b"")
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }
}

#[test]
fn files_come_with_their_types_and_a_strict_policy() {
    let server = Server::start();
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?x=1", "text/html; charset=utf-8"),
        ("/worker.js", "text/javascript; charset=utf-8"),
        ("/a%20b.css", "text/css; charset=utf-8"),
        ("/x.wasm", "application/wasm"),
        ("/sub/", "text/html; charset=utf-8"),
    ] {
        let answer = server.get(target);
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(kind)), "{target}");
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self' 'wasm-unsafe-eval';"), "{policy}");
        assert!(!policy.contains("'unsafe-inline'") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    }
    let moved = server.get("/sub");
    assert_eq!((moved.status, moved.header("Location")), (308, Some("/sub/")));
    let head = server.ask("HEAD", "/ten.bin", "");
    assert_eq!((head.status, head.header("Content-Length"), head.body.len()), (200, Some("10"), 0));
    assert_eq!(server.ask("POST", "/", "Content-Length: 0\r\n").status, 405);
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let server = Server::start();
    for target in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%5csecret.txt",
        "/..\\secret.txt",
        "//../secret.txt",
        "/link.txt",
        "/.hidden",
        "/C:/secret.txt",
        "/%00",
        "/%zz",
        "/nothing",
        "/bundle/manifest.json",
        "secret.txt",
    ] {
        let answer = server.get(target);
        // Some of them are no targets at all.
        assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.text());
        assert!(!answer.text().contains("secret"), "{target}: {}", answer.text());
    }
    // "//host/" would lead to another server.
    assert_eq!(server.get("//sub").header("Location"), Some("/sub/"));
}

#[test]
fn a_download_can_go_on() {
    let server = Server::start();
    let whole = server.get("/ten.bin");
    let tag = whole.header("ETag").unwrap();
    assert_eq!((whole.body.as_slice(), whole.header("Accept-Ranges")), (b"0123456789".as_slice(), Some("bytes")));
    for (range, expected, place) in
        [("bytes=4-", "456789", "bytes 4-9/10"), ("bytes=2-3", "23", "bytes 2-3/10"), ("bytes=-1", "9", "bytes 9-9/10")]
    {
        let answer = server.ask("GET", "/ten.bin", &format!("Range: {range}\r\nIf-Range: {tag}\r\n"));
        assert_eq!((answer.status, answer.header("Content-Range")), (206, Some(place)));
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }
    // The file has changed since: from the beginning.
    let other = server.ask("GET", "/ten.bin", "Range: bytes=4-\r\nIf-Range: \"old\"\r\n");
    assert_eq!((other.status, other.body.len()), (200, 10));
    let beyond = server.ask("GET", "/ten.bin", "Range: bytes=10-\r\n");
    assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some("bytes */10")));
    let known = server.ask("GET", "/ten.bin", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[test]
fn a_folder_without_a_page_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let done = finish(jurist(&["serve", "--dir", path(dir.path()), "--port", "0"]));
    assert!(done.code == Some(1) && done.err.contains("no index.html"), "{done:?}");
    write(dir.path().join("index.html"), "");
    let done = finish(jurist(&["serve", "--dir", path(dir.path()), "--bundle", path(dir.path()), "--port", "0"]));
    assert!(done.code == Some(1) && done.err.contains("bundle"), "{done:?}");
}
