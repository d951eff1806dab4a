//! Keys, hosts, limits, full queues, clients that go away, models that are lost, and the end.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, Setup, chat};
use crate::http::{self, connect, receive, send};
use jurist::serve::Limits;

const CHAT: &str = "/v1/chat/completions";

/// Waits until `holds`, for a while.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_key_is_asked_for_where_there_are_keys() {
    let server = Server::start(Setup { keys: Some("# keys\nsk-0123456789abcdef\n"), ..Setup::default() });
    let body = chat("good", &json!({})).to_string();
    let ask = |headers: &str, target: &str| {
        let (method, body) = if target == CHAT { ("POST", body.as_str()) } else { ("GET", "") };
        http::ask(&server.address, method, target, headers, body.as_bytes())
    };
    for target in [CHAT, "/v1/models", "/metrics"] {
        for headers in ["", "Authorization: Bearer sk-0123456789abcdeF\r\n", "Authorization: sk-0123456789abcdef\r\n"] {
            let refused = ask(headers, target);
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{target} {headers}");
            assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
        }
        assert_eq!(ask("Authorization: Bearer sk-0123456789abcdef\r\n", target).status, 200);
    }
    assert_eq!(ask("", "/health").status, 200);
}

#[test]
fn foreign_hosts_and_pages_are_refused() {
    let server = Server::start(Setup { origins: vec!["https://tool.example".into()], ..Setup::default() });
    let body = chat("good", &json!({})).to_string();
    let with_host = |host: &str| {
        let mut stream = connect(&server.address);
        send(&mut stream, host, "POST", CHAT, "", body.as_bytes());
        receive(stream)
    };
    assert_eq!((with_host("judge.example").status, with_host("evil.example").status), (200, 421));
    let origin = |origin: &str| http::ask(&server.address, "POST", CHAT, &format!("Origin: {origin}\r\n"), body.as_bytes());
    assert_eq!(origin(&format!("http://{}", server.address)).status, 200);
    for foreign in ["https://evil.example", "null", "https://tool.example.evil.example"] {
        let refused = origin(foreign);
        assert!(
            refused.status == 403 && refused.header("access-control-allow-origin").is_none(),
            "{foreign}: {}",
            refused.headers
        );
    }
    let named = origin("https://tool.example");
    assert_eq!((named.status, named.header("access-control-allow-origin")), (200, Some("https://tool.example")));
    let more = "Origin: https://tool.example\r\nAccess-Control-Request-Method: POST\r\n";
    let preflight = http::ask(&server.address, "OPTIONS", CHAT, more, b"");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (200, Some("https://tool.example")));
    // Without named origins there is no CORS at all.
    let closed = Server::start(Setup::default());
    let preflight = http::ask(&closed.address, "OPTIONS", CHAT, more, b"");
    assert!(preflight.status != 200 && preflight.header("access-control-allow-origin").is_none(), "{}", preflight.headers);
}

#[test]
fn requests_are_bounded() {
    let limits =
        Limits { body: Duration::from_secs(2), head: Duration::from_millis(500), body_bytes: 4096, rows: 3, ..Limits::default() };
    let server = Server::start(Setup { limits, ..Setup::default() });
    let large = server.chat(&"good ".repeat(2000), &json!({}));
    assert!(large.status == 413 && large.error().contains("more than 4096 bytes"), "{}", large.text());
    let rows: Vec<Value> = (0..4).map(|_| json!({"rubric": "tone", "response": "good"})).collect();
    let many = server.post("/v1/judge", &json!(rows));
    assert!(many.status == 400 && many.error().contains("send at most 3"), "{}", many.text());
    // Ten megabytes in chunks of no stated length.
    let mut stream = connect(&server.address);
    write!(stream, "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..160 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&bytes));
    // Half a body, half a head: closed in time.
    let start = Instant::now();
    let mut half = connect(&server.address);
    write!(half, "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{\"mess").unwrap();
    assert_eq!(receive(half).status, 408);
    let mut half = connect(&server.address);
    write!(half, "POST {CHAT} HTTP/1.1\r\nHost: loc").unwrap();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    let mut wide = connect(&server.address);
    let _ = write!(wide, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut rest = Vec::new();
    let _ = wide.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    for (method, target, status) in
        [("GET", CHAT, 405), ("POST", "/v1/nothing", 404), ("POST", "/v1/models", 405), ("GET", "/page", 404)]
    {
        assert_eq!(http::ask(&server.address, method, target, "", b"").status, status, "{method} {target}");
    }
    assert_eq!(server.chat("good", &json!({})).status, 200);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let limits = Limits { answer: Duration::from_millis(150), ..Limits::default() };
    let server = Server::start(Setup { limits, ..Setup::default() });
    let late = server.chat("slow", &json!({"n": 16}));
    assert!(late.status == 504 && late.error().contains("was not judged within"), "{}", late.text());
    until("the row is given up", || server.seen.abandoned.load(Ordering::Relaxed) == 1);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = Server::start(Setup { queue: 2, batch: 1, ..Setup::default() });
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = connect(&server.address);
            send(&mut stream, &server.address, "POST", CHAT, "", chat("slow slow", &json!({"n": 4})).to_string().as_bytes());
            std::thread::sleep(Duration::from_millis(150));
            stream
        })
        .collect();
    let refused = server.chat("good", &json!({}));
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("queue_full")), "{}", refused.text());
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // Those that wait are served.
    for stream in busy {
        assert_eq!(receive(stream).status, 200);
    }
    assert_eq!(server.chat("good", &json!({})).status, 200);
    let many: Vec<Value> = (0..3).map(|_| json!({"rubric": "tone", "response": "good"})).collect();
    let refused = server.post("/v1/judge", &json!(many));
    assert!(refused.status == 400 && refused.error().contains("at most 2"), "{}", refused.text());
}

#[test]
fn a_client_that_goes_frees_its_row() {
    let server = Server::start(Setup { batch: 1, ..Setup::default() });
    for stream in [false, true] {
        let before = server.seen.abandoned.load(Ordering::Relaxed);
        let mut gone = connect(&server.address);
        let body = chat("slow", &json!({"n": 64, "stream": stream})).to_string();
        send(&mut gone, &server.address, "POST", CHAT, "", body.as_bytes());
        // One that still waits leaves the queue.
        let mut waiting = connect(&server.address);
        send(&mut waiting, &server.address, "POST", CHAT, "", body.as_bytes());
        std::thread::sleep(Duration::from_millis(250));
        drop((gone, waiting));
        let start = Instant::now();
        assert_eq!(server.chat("good", &json!({})).status, 200);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(server.seen.abandoned.load(Ordering::Relaxed) > before);
    }
}

#[test]
fn slow_clients_keep_nobody_waiting() {
    let limits = Limits { connections: 40, head: Duration::from_secs(2), ..Limits::default() };
    let server = Server::start(Setup { limits, ..Setup::default() });
    let mut slow: Vec<_> = (0..120).map(|_| connect(&server.address)).collect();
    for (n, stream) in slow.iter_mut().enumerate() {
        let begun = match n % 3 {
            0 => String::new(),
            1 => "GET / HTTP/1.1\r\nHost: localhost\r\nX: ".into(),
            _ => format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{{"),
        };
        let _ = stream.write_all(begun.as_bytes());
    }
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..8 {
        let start = Instant::now();
        assert_eq!(server.chat("good", &json!({})).status, 200);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        for stream in &mut slow {
            let _ = stream.write_all(b"a");
        }
    }
}

/// A fault of a batch is its own; after a fault of the model it is loaded anew, once.
#[test]
fn a_model_that_is_lost_is_loaded_anew() {
    let server = Server::start(Setup::default());
    let failed = server.chat("fail", &json!({}));
    assert!(failed.status == 503 && failed.error().contains("no memory"), "{}", failed.text());
    assert_eq!(server.seen.loads.load(Ordering::Relaxed), 1);
    for word in ["lose", "panic"] {
        let lost = server.chat(word, &json!({}));
        assert_eq!((lost.status, lost.header("retry-after")), (503, Some("1")), "{}", lost.text());
        until("it is ready again", || server.get("/health").status == 200);
        assert_eq!(server.chat("good", &json!({})).status, 200);
    }
    assert_eq!(server.seen.loads.load(Ordering::Relaxed), 3);
    assert!(server.get("/metrics").text().contains("jurist_model_faults_total 2"), "{}", server.get("/metrics").text());
    server.seen.broken.store(true, Ordering::Relaxed);
    assert_eq!(server.chat("lose", &json!({})).status, 503);
    until("it is lost", || server.get("/health").json()["status"] == "lost");
    let refused = server.chat("good", &json!({}));
    assert!(refused.status == 503 && refused.error().contains("restart the server"), "{}", refused.text());
}

#[test]
fn a_model_that_is_lost_twice_stays_lost() {
    let server = Server::start(Setup { batch: 1, ..Setup::default() });
    assert_eq!(server.chat("lose", &json!({})).status, 503);
    until("it is ready again", || server.get("/health").status == 200);
    assert_eq!(server.chat("lose", &json!({})).status, 503);
    until("it is lost", || server.get("/health").json()["status"] == "lost");
    assert_eq!(server.seen.loads.load(Ordering::Relaxed), 2);
}

#[test]
fn loading_is_told() {
    let server = Server::start_loading(Setup { loading: Duration::from_millis(400), ..Setup::default() });
    let early = server.get("/health");
    assert_eq!((early.status, early.json()["status"].as_str()), (503, Some("loading")));
    let refused = server.chat("good", &json!({}));
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("loading")));
    until("it is loaded", || server.get("/health").json()["status"] == "ready");
    assert_eq!(server.chat("good", &json!({})).status, 200);
}

/// Asked to end: no new requests, those that run and wait are finished.
#[test]
fn the_end_waits_for_those_that_run() {
    let server = Server::start(Setup { batch: 1, ..Setup::default() });
    let mut idle = connect(&server.address);
    let running: Vec<_> = (0..3)
        .map(|n| {
            let mut stream = connect(&server.address);
            let body = chat("good slow", &json!({"n": 3, "stream": n == 0})).to_string();
            send(&mut stream, &server.address, "POST", CHAT, "", body.as_bytes());
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let address = server.address.clone();
    let ended = std::thread::spawn(move || server.end());
    std::thread::sleep(Duration::from_millis(200));
    assert!(std::net::TcpStream::connect(&address).is_err() || !ended.is_finished());
    for stream in running {
        let answer = receive(stream);
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("stop"), "{}", answer.text());
    }
    ended.join().unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn what_comes_together_is_judged_together() {
    let server = Server::start(Setup { batch: 8, ..Setup::default() });
    let alone: Value = server.chat("good good", &json!({})).json()["choices"].clone();
    let rows: Vec<Value> = (0..20).map(|n| json!({"rubric": "tone", "response": "good ".repeat(n % 3)})).collect();
    let all = server.post("/v1/judge", &json!({ "rows": rows })).json();
    assert_eq!(server.seen.batch.load(Ordering::Relaxed), 8);
    for (n, row) in all["data"].as_array().unwrap().iter().enumerate() {
        assert_eq!(row["judge"]["decoded"].as_f64(), Some((n % 3 + 1) as f64));
    }
    let together: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12)
            .map(|n| {
                let server = &server;
                scope.spawn(move || (n, server.chat(&"good ".repeat(n % 3 + 1), &json!({})).json()["choices"].clone()))
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (n, choices) in together {
        assert_eq!((n % 3 == 1).then_some(&choices), (n % 3 == 1).then_some(&alone));
        assert_eq!(choices[0]["jurist"]["decoded"].as_f64(), Some((n % 3 + 2) as f64));
    }
    let metrics = server.get("/metrics").text();
    for line in [
        "jurist_requests_total{endpoint=\"/v1/judge\",status=\"200\"} 1",
        "jurist_queue_rows 0",
        "jurist_batch_rows_count",
        "jurist_tokens_total{kind=\"prompt\"}",
        "jurist_request_duration_seconds_bucket",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
