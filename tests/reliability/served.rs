//! `jurist serve` among clients that are slow, broken, hostile or too many, while others are served.
//!
//! Four clients ask without pause, and compare each judgement with the one that the row has alone. What is done to the server
//! meanwhile must not change, lose or tear any of their answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jurist::random::Stream;
use serde_json::{Value, json};

use crate::cli::{Task, lines, succeed};
use crate::client::{Client, Lost, connect, status};

const KEY: &str = "a-key-of-the-reliability-tests";
/// Clients that are served all the time.
const CLIENTS: usize = 4;
/// Time for which they are observed where a fault takes none itself.
const WHILE: Duration = Duration::from_secs(6);
/// Rows that may wait.
const QUEUE: usize = 128;
/// Growth of the memory that is none: of allocators and their threads.
const NOISE_KIB: u64 = 8 * 1024;

/// One line of the table.
struct Line {
    what: String,
    /// How often it was done.
    times: usize,
    /// What the others got meanwhile: answers, and their latencies in milliseconds.
    answers: usize,
    middle: f64,
    late: f64,
    /// Resident memory of the server afterwards, in KiB.
    resident: Option<u64>,
    broken: Vec<String>,
}

/// Two judges of a tiny task: one writes chains, one does not.
struct Ground {
    task: Task,
    rows: Vec<Value>,
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ground {
    fn new() -> Self {
        let task = Task::new(48, 32, true);
        let more =
            ["--num-train-epochs", "3", "--per-device-train-batch-size", "8", "--save-steps", "0", "--learning-rate", "1e-2"];
        succeed(task.train("thinker", &more));
        succeed(task.train("plain", &[&more[..], &["--chain-column", "none"]].concat()));
        task.write("keys.txt", format!("{KEY}\n"));
        let rows = lines(&task.read("dev.jsonl"));
        Ground { task, rows }
    }

    fn serve(&self, model: &str) -> Server {
        let queue = QUEUE.to_string();
        let flags = ["--api-key-file", "keys.txt", "--max-queue", &queue, "--port", "0", "--quiet"];
        let mut child = self.task.jurist(&[&["serve", "--model", model][..], &flags].concat()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        let mut server = Server { child, address };
        let begun = Instant::now();
        while server.client().ask("GET", "/health", b"").map_or(0, |reply| reply.status) != 200 {
            let runs = server.child.try_wait().unwrap().is_none();
            assert!(runs && begun.elapsed() < Duration::from_secs(120), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Server {
    fn client(&self) -> Client {
        Client::new(&self.address, KEY)
    }

    /// The judgement of each row, alone.
    fn alone(&self, rows: &[Value]) -> Vec<Value> {
        let mut client = self.client();
        let judge = |row| judgement(&client.judge(&json!({ "row": row })).unwrap().body).unwrap();
        rows.iter().map(judge).collect()
    }

    /// A figure of `/metrics`.
    fn metric(&self, name: &str) -> Option<usize> {
        let text = String::from_utf8(self.client().ask("GET", "/metrics", b"").ok()?.body).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
    }

    /// Rows that wait.
    fn waiting(&self) -> Option<usize> {
        self.metric("jurist_queue_rows")
    }

    /// Resident memory of the process in KiB; `None` where the system does not tell.
    fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

fn judgement(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(body).ok().map(|answer| answer["judge"].clone()).filter(Value::is_object)
}

/// The same chain and decoded score, and the expected score within 1e-6.
fn same(found: &Value, expected: &Value) -> bool {
    let gap = (found["expected"].as_f64().unwrap_or(f64::NAN) - expected["expected"].as_f64().unwrap_or(f64::NAN)).abs();
    gap < 1e-6 && ["decoded", "feedback", "error"].iter().all(|key| found[key] == expected[key])
}

/// What clients are told that ask without pause until `ends`; whatever is not the right answer is in `broken`.
struct Served<'a> {
    server: &'a Server,
    rows: &'a [Value],
    expected: &'a [Value],
    latencies: Mutex<Vec<f64>>,
    broken: Mutex<Vec<String>>,
    /// Whether a full queue is to be expected.
    crowded: bool,
    ends: AtomicBool,
}

impl Served<'_> {
    fn client(&self, number: usize) {
        let mut client = self.server.client();
        for n in (number * 7).. {
            let row = n % self.rows.len();
            let body = json!({ "row": self.rows[row] });
            let begun = Instant::now();
            let fault = loop {
                match client.judge(&body) {
                    Ok(reply) if reply.status == 200 => {
                        let judge = judgement(&reply.body).unwrap_or_default();
                        break (!same(&judge, &self.expected[row])).then(|| format!("row {row}: {judge}"));
                    }
                    // As clients do: after a while again.
                    Ok(reply) if reply.status == 429 && self.crowded && reply.retry_after.is_some() => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Ok(reply) => break Some(format!("{}: {}", reply.status, String::from_utf8_lossy(&reply.body))),
                    Err(lost) => break Some(format!("{lost:?}")),
                }
            };
            match fault {
                None => self.latencies.lock().unwrap().push(begun.elapsed().as_secs_f64() * 1e3),
                Some(fault) => self.broken.lock().unwrap().push(fault),
            }
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Does `fault` to the server while clients are served. It returns how often, and what was not as it should be.
fn during(
    ground: &Ground,
    (server, expected): (&Server, &[Value]),
    what: &str,
    crowded: bool,
    fault: impl FnOnce() -> (usize, Vec<String>),
) -> Line {
    let (rows, latencies, broken) = (&ground.rows[..], Mutex::default(), Mutex::default());
    let served = Served { server, rows, expected, latencies, broken, crowded, ends: AtomicBool::new(false) };
    let (times, mut broken) = std::thread::scope(|scope| {
        let served = &served;
        (0..CLIENTS).for_each(|n| drop(scope.spawn(move || served.client(n))));
        let done = fault();
        served.ends.store(true, Ordering::Relaxed);
        done
    });
    broken.extend(served.broken.into_inner().unwrap());
    let mut latencies = served.latencies.into_inner().unwrap();
    latencies.sort_by(f64::total_cmp);
    let share = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let resident = server.resident();
    Line { what: what.into(), times, answers: latencies.len(), middle: share(0.5), late: share(0.95), resident, broken }
}

/// 50 clients that send a byte now and then: of a head, of a body; and some that ask for a stream and do not read it.
fn slow(server: &Server) -> (usize, Vec<String>) {
    let client = server.client();
    let head = client.head("POST", "/v1/judge", 5000);
    let streamed = json!({"messages": [{"role": "user", "content": "good"}], "stream": true, "n": 64}).to_string();
    let mut streams = Vec::new();
    for n in 0..50 {
        let mut stream = connect(&server.address).unwrap();
        let begun = match n % 3 {
            0 => head[..20].to_string(),
            1 => format!("{head}{{"),
            _ => client.head("POST", "/v1/chat/completions", streamed.len()) + &streamed,
        };
        let _ = stream.write_all(begun.as_bytes());
        streams.push(stream);
    }
    let begun = Instant::now();
    while begun.elapsed() < WHILE {
        for (n, stream) in streams.iter_mut().enumerate().filter(|(n, _)| n % 3 < 2) {
            let _ = stream.write_all(if n % 3 == 0 { b"\t" } else { b" " });
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    (50, Vec::new())
}

/// 500 connections that say nothing.
fn idle(server: &Server) -> (usize, Vec<String>) {
    let streams: Vec<_> = (0..500).map(|_| connect(&server.address)).collect();
    let refused = streams.iter().filter(|stream| stream.is_err()).count();
    std::thread::sleep(WHILE);
    (500, (refused > 0).then(|| format!("{refused} connections were refused")).into_iter().collect())
}

/// Heads and bodies that end in the middle.
fn half(server: &Server, rows: &[Value], stream: &mut Stream) -> (usize, Vec<String>) {
    let body = json!({ "row": rows[0] }).to_string();
    let whole = server.client().head("POST", "/v1/judge", body.len()) + &body;
    let (begun, mut times) = (Instant::now(), 0);
    while begun.elapsed() < WHILE {
        times += 1;
        let cut = 1 + stream.below(whole.len() - 1);
        let mut half = connect(&server.address).unwrap();
        let _ = half.write_all(&whole.as_bytes()[..cut]);
        // Half of them wait for what the server says to that.
        if cut % 2 == 0 {
            let _ = half.shutdown(std::net::Shutdown::Write);
            let mut rest = Vec::new();
            let _ = half.read_to_end(&mut rest);
        }
    }
    (times, Vec::new())
}

/// Bodies of 10 MB: of a stated length, and in chunks.
fn large(server: &Server) -> (usize, Vec<String>) {
    let mut broken = Vec::new();
    let body = vec![b'x'; 10_000_000];
    let (begun, mut times) = (Instant::now(), 0);
    while begun.elapsed() < WHILE {
        times += 1;
        let mut stream = connect(&server.address).unwrap();
        let sent = match times % 2 {
            0 => {
                let head = server.client().head("POST", "/v1/judge", body.len());
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body))
            }
            _ => {
                let head =
                    server.client().head("POST", "/v1/judge", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
                let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&chunk))
            }
        };
        let found = status(stream);
        if found != Some(413) {
            broken.push(format!("a body of 10 MB: {found:?}, {sent:?}"));
        }
    }
    (times, broken)
}

/// Keys that are wrong, empty or very long.
fn wrong_keys(server: &Server, rows: &[Value]) -> (usize, Vec<String>) {
    let mut broken = Vec::new();
    let body = json!({ "row": rows[0] });
    let (begun, mut times) = (Instant::now(), 0);
    while begun.elapsed() < WHILE {
        times += 1;
        let key = match times % 4 {
            0 => String::new(),
            1 => "x".repeat(20_000),
            2 => KEY[..KEY.len() - 1].to_string(),
            _ => format!("{KEY}{times}"),
        };
        match Client::new(&server.address, &key).judge(&body) {
            Ok(reply) if reply.status == 401 => {}
            other => broken.push(format!("a wrong key: {other:?}")),
        }
    }
    (times, broken)
}

/// Clients that ask for much and go away at a random moment. Afterwards no row of theirs is left.
fn gone(server: &Server, rows: &[Value], stream: &mut Stream) -> (usize, Vec<String>) {
    let rows = json!({"rows": &rows[..4], "chains": 4, "temperature": 1}).to_string();
    let chat = json!({"messages": [{"role": "user", "content": "good"}], "stream": true, "n": 4}).to_string();
    for n in 0..400 {
        let (target, body) = if n % 2 == 0 { ("/v1/judge", &rows) } else { ("/v1/chat/completions", &chat) };
        let mut leaver = connect(&server.address).unwrap();
        let _ = leaver.write_all((server.client().head("POST", target, body.len()) + body).as_bytes());
        std::thread::sleep(Duration::from_micros(stream.below(60_000) as u64));
        drop(leaver);
    }
    let begun = Instant::now();
    let left = loop {
        match server.waiting() {
            Some(left) if left > CLIENTS && begun.elapsed() > Duration::from_secs(20) => break Some(format!("{left} rows wait")),
            Some(left) if left > CLIENTS => std::thread::sleep(Duration::from_millis(50)),
            Some(_) => break None,
            None => break Some("no metrics".into()),
        }
    };
    (400, left.into_iter().collect())
}

/// More rows than the queue takes: each request has its answer, or 429 and when to come back.
fn crowd(server: &Server, rows: &[Value]) -> (usize, Vec<String>) {
    let body = json!({ "rows": rows, "chains": 2, "temperature": 1 });
    let (asked, refused, broken) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = server.client();
                while begun.elapsed() < WHILE {
                    asked.fetch_add(1, Ordering::Relaxed);
                    match client.judge(&body) {
                        Ok(reply) if reply.status == 429 && reply.retry_after.is_some_and(|seconds| seconds >= 1) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        Ok(reply) if reply.status == 200 => {
                            let judged = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
                            if judged["data"].as_array().map(Vec::len) != Some(rows.len()) {
                                broken.lock().unwrap().push("an answer that lacks rows".into());
                            }
                        }
                        other => broken.lock().unwrap().push(format!("a full queue: {other:?}")),
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap();
    if refused.load(Ordering::Relaxed) == 0 {
        broken.push("the queue was never full".into());
    }
    (asked.into_inner(), broken)
}

/// TERM while clients ask: what was taken is answered whole, what comes later is refused, and the exit code is 0.
fn term(ground: &Ground, times: usize, stream: &mut Stream) -> Line {
    let (mut latencies, mut broken) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let mut server = ground.serve("thinker");
        let id = server.child.id().to_string();
        let body = json!({ "rows": &ground.rows[..8], "chains": 2, "temperature": 1 });
        let (times, faults) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = server.client();
                    loop {
                        let begun = Instant::now();
                        match client.judge(&body) {
                            Ok(reply) if reply.status == 200 => {
                                times.lock().unwrap().push(begun.elapsed().as_secs_f64() * 1e3);
                            }
                            Ok(reply) if reply.status == 429 => std::thread::sleep(Duration::from_millis(10)),
                            // It is ending.
                            Ok(reply) if reply.status == 503 => return,
                            Err(Lost { torn: None }) => return,
                            other => return faults.lock().unwrap().push(format!("TERM: {other:?}")),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300 + stream.below(700) as u64));
            assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        });
        latencies.extend(times.into_inner().unwrap());
        broken.extend(faults.into_inner().unwrap());
        let code = server.child.wait().unwrap().code();
        if code != Some(0) {
            broken.push(format!("TERM: exit code {code:?}"));
        }
    }
    latencies.sort_by(f64::total_cmp);
    let share = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let what = "TERM while 16 clients ask for 8 rows each".to_string();
    Line { what, times, answers: latencies.len(), middle: share(0.5), late: share(0.95), resident: None, broken }
}

/// The memory over so many requests of 16 clients, after a tenth of them. Prints it; returns what is wrong.
fn memory(ground: &Ground, requests: usize) -> Vec<String> {
    let server = ground.serve("plain");
    let Some(before) = server.resident() else {
        println!("\nmemory: skipped, the system does not tell it (/proc)");
        return Vec::new();
    };
    let expected = server.alone(&ground.rows);
    let (asked, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let begun = Instant::now();
    // The memory after each tenth.
    let marks: Vec<u64> = (1..=10)
        .map(|tenth| {
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        let mut client = server.client();
                        loop {
                            let n = asked.fetch_add(1, Ordering::Relaxed);
                            if n >= requests * tenth / 10 {
                                asked.fetch_sub(1, Ordering::Relaxed);
                                return;
                            }
                            let row = n % ground.rows.len();
                            match client.judge(&json!({ "row": ground.rows[row] })) {
                                Ok(reply) if judgement(&reply.body).is_some_and(|judge| same(&judge, &expected[row])) => {}
                                other => broken.lock().unwrap().push(format!("request {n}: {other:?}")),
                            }
                        }
                    });
                }
            });
            server.resident().unwrap_or_default()
        })
        .collect();
    let seconds = begun.elapsed().as_secs_f64();
    let mut broken = broken.into_inner().unwrap();
    let (first, last) = (marks[0], marks[9]);
    println!("\n| requests | seconds | RSS before | after a tenth | after all | highest |\n|---|---|---|---|---|---|");
    let highest = marks.iter().copied().max().unwrap_or_default();
    println!("| {requests} | {seconds:.0} | {} | {} | {} | {} |", mib(before), mib(first), mib(last), mib(highest));
    let counted = server.metric("jurist_requests_total{endpoint=\"/v1/judge\",status=\"200\"}");
    if counted != Some(requests + ground.rows.len()) {
        broken.push(format!("{requests} requests, of which the server counted {counted:?}"));
    }
    if last > first + NOISE_KIB {
        broken.push(format!("the memory grows: {marks:?} KiB after each tenth of {requests} requests"));
    }
    broken
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// Everything, with tables; what was broken.
pub fn all(requests: usize) -> Vec<String> {
    let ground = Ground::new();
    let mut stream = Stream::new(23, 1);
    let server = ground.serve("thinker");
    let expected = server.alone(&ground.rows);
    let (rows, of) = (&ground.rows[..], (&server, &expected[..]));
    let mut table = vec![during(&ground, of, "nothing", false, || {
        std::thread::sleep(WHILE);
        (0, Vec::new())
    })];
    table.push(during(&ground, of, "slow clients", false, || slow(&server)));
    table.push(during(&ground, of, "idle connections", false, || idle(&server)));
    table.push(during(&ground, of, "half requests", false, || half(&server, rows, &mut stream)));
    table.push(during(&ground, of, "bodies of 10 MB", false, || large(&server)));
    table.push(during(&ground, of, "wrong keys", false, || wrong_keys(&server, rows)));
    table.push(during(&ground, of, "clients that go at a random moment", true, || gone(&server, rows, &mut stream)));
    table.push(during(&ground, of, "16 clients with 32 rows each, a queue of 128", true, || crowd(&server, rows)));
    drop(server);
    table.push(term(&ground, 5, &mut stream));
    println!("\n| done to the server | times | answers to others meanwhile | p50 | p95 | RSS after it | broken |");
    println!("|---|---|---|---|---|---|---|");
    for Line { what, times, answers, middle, late, resident, broken } in &table {
        let resident = resident.map_or("–".into(), mib);
        println!("| {what} | {times} | {answers} | {middle:.0} ms | {late:.0} ms | {resident} | {} |", broken.len());
    }
    let mut broken: Vec<String> = table.into_iter().flat_map(|line| line.broken).collect();
    broken.extend(memory(&ground, requests));
    broken
}
