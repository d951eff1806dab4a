//! `jurist serve` with a real judge: what it answers is what `jurist score` writes, alone and in company.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Task, ctrl_c, lines, path, succeed};
use crate::http::{self, Answer, connect, receive, send};
use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};

/// A folder with two trained judges: `plain/` writes no chain of thought, `thinker/` does; and rows for them.
fn ground() -> &'static Task {
    static GROUND: OnceLock<Task> = OnceLock::new();
    GROUND.get_or_init(|| {
        let task = Task::new(48, 6, true);
        let more =
            ["--num-train-epochs", "3", "--per-device-train-batch-size", "8", "--save-steps", "0", "--learning-rate", "1e-2"];
        succeed(task.train("thinker", &more));
        succeed(task.train("plain", &[&more[..], &["--chain-column", "none"]].concat()));
        let items = SyntheticTask::new(TaskVersion::BASE, 3).items(Split::Test, 64);
        task.write("rows.jsonl", items.iter().map(|i| i.to_row().to_string() + "\n").collect::<String>());
        task
    })
}

pub fn rows() -> Vec<Value> {
    lines(&ground().read("rows.jsonl"))
}

/// The object `judge` that `jurist score` writes for each row.
fn scored(model: &str, more: &[&str]) -> Vec<Value> {
    let args = [&["score", "--model", model, "--input", "rows.jsonl"], more].concat();
    let rows = lines(&succeed(ground().jurist(&args)).out);
    rows.into_iter().map(|row| row["judge"].clone()).collect()
}

/// A served judge, ended with the test.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start(model: &str, more: &[&str]) -> Self {
        Server::serve(ground(), model, more)
    }

    /// The server of a model in another folder.
    pub fn serve(task: &Task, model: &str, more: &[&str]) -> Self {
        let mut command = task.jurist(&[&["serve", "--model", model, "--port", "0", "-q"], more].concat());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        let mut server = Server { child, address };
        let start = Instant::now();
        while http::get(&server.address, "/health").status != 200 {
            assert!(
                server.child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120),
                "it does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    #[track_caller]
    pub fn judge(&self, body: &Value) -> Value {
        let answer = http::post(&self.address, "/v1/judge", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub fn chat(&self, body: &Value) -> Answer {
        http::post(&self.address, "/v1/chat/completions", body)
    }
}

/// The same chain, decoded score and phrase; the expected score and the distribution to 1e-6. Returns the largest gap.
#[track_caller]
pub fn same(found: &Value, expected: &Value) -> f64 {
    for key in ["decoded", "feedback", "forced", "error"] {
        assert_eq!(found[key], expected[key], "{key}: {found}\n{expected}");
    }
    let gap = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
    let probs = expected["probs"].as_object().unwrap().iter().map(|(text, p)| gap(&found["probs"][text], p));
    let worst = probs.fold(gap(&found["expected"], &expected["expected"]), f64::max);
    assert!(worst < 1e-6, "{worst:e}: {found}\n{expected}");
    worst
}

#[test]
fn answers_are_those_of_score() {
    for (model, options) in [
        ("plain", json!({})),
        ("thinker", json!({})),
        ("thinker", json!({"chains": 3, "temperature": 0.8, "seed": 11})),
        ("thinker", json!({"expectation": "full", "max_completion_length": 4})),
    ] {
        let server = Server::start(model, &[]);
        let flags: Vec<String> = options
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(k, v)| [format!("--{}", k.replace('_', "-")), v.to_string().replace('"', "")])
            .collect();
        let expected = scored(model, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        let mut body = json!({ "rows": rows() });
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let answer = server.judge(&body);
        let found = answer["data"].as_array().unwrap();
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(found, expected)| same(&found["judge"], expected)).fold(0.0, f64::max);
        println!("{model} {options}: at most {worst:.1e} from score");
    }
}

/// A row alone and among 63 others: the same chain and decoded score, the expected score within 1e-6.
#[test]
fn company_changes_no_answer() {
    let server = Server::start("thinker", &[]);
    let rows = rows();
    for options in [json!({}), json!({"temperature": 1, "seed": 5})] {
        let mut worst: f64 = 0.0;
        let ask = |row: &Value| {
            let mut body = json!({ "row": row });
            body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            server.judge(&body)["judge"].clone()
        };
        let together: Vec<Value> = std::thread::scope(|scope| {
            let asking: Vec<_> = rows.iter().map(|row| scope.spawn(|| ask(row))).collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (row, found) in rows.iter().zip(&together).step_by(9) {
            worst = worst.max(same(found, &ask(row)));
        }
        println!("{options}: at most {worst:.1e} between alone and in company");
    }
}

#[test]
fn chats_say_what_the_judge_says() {
    let server = Server::start("thinker", &[]);
    let row = &rows()[0];
    let judged = server.judge(row);
    let prompt = row["prompt"].as_str().unwrap();
    let chat = |more: Value| {
        let mut body = json!({"model": "judge", "messages": [{"role": "user", "content": prompt}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.chat(&body)
    };
    let answer = chat(json!({"logprobs": true, "top_logprobs": 20})).json();
    same(&answer["jurist"], &judged["judge"]);
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let chain = judged["judge"]["feedback"].as_str().unwrap();
    assert!(content.starts_with(chain) && content.ends_with(&judged["judge"]["decoded"].to_string()[..1]), "{content}");
    // Every token, and at the score the distribution that the expected score is of.
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.iter().map(|token| token["token"].as_str().unwrap()).collect::<String>(), content);
    let top = tokens.last().unwrap()["top_logprobs"].as_array().unwrap();
    assert_eq!(top.len(), 20);
    let mass = judged["judge"]["mass"].as_f64().unwrap();
    let least = top.last().unwrap()["logprob"].as_f64().unwrap().exp();
    for (text, p) in judged["judge"]["probs"].as_object().unwrap() {
        let of_all = p.as_f64().unwrap() * mass;
        match top.iter().find(|entry| entry["token"].as_str().unwrap().trim() == text) {
            Some(entry) => assert!((entry["logprob"].as_f64().unwrap().exp() - of_all).abs() < 1e-5, "{text}: {entry}, {of_all}"),
            None => assert!(of_all < least + 1e-5, "{text} has {of_all}, and is not among the 20 likeliest"),
        }
    }
    let descending = top.windows(2).all(|pair| pair[0]["logprob"].as_f64() >= pair[1]["logprob"].as_f64());
    assert!(descending && tokens.iter().all(|token| token["logprob"].as_f64().unwrap() <= 1e-6));
    // The same streamed, and as a completion.
    let streamed = chat(json!({"stream": true})).chunks();
    let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, content);
    let completion = http::post(&server.address, "/v1/completions", &json!({"prompt": prompt, "logprobs": 5})).json();
    assert_eq!(completion["choices"][0]["text"], content);
    same(&completion["jurist"], &judged["judge"]);
    // A limit is one of the chain.
    let short = chat(json!({"max_tokens": 4})).json();
    assert!(short["usage"]["completion_tokens"].as_u64().unwrap() <= 4, "{}", short["usage"]);
    let long = chat(json!({"messages": [{"role": "user", "content": "ok ".repeat(300)}]}));
    assert!(long.status == 400 && long.error().contains("too long"), "{}", long.text());
    // Sampled chains depend on the seed alone.
    let sampled = |seed: u64| chat(json!({"temperature": 1.0, "seed": seed, "n": 4})).json()["choices"].clone();
    let texts = |choices: &Value| choices.as_array().unwrap().iter().map(|c| c["message"]["content"].clone()).collect::<Vec<_>>();
    let (one, two) = (texts(&sampled(1)), texts(&sampled(2)));
    assert_eq!((one.len(), &one), (4, &texts(&sampled(1))));
    assert_ne!(one, two);
}

/// TERM: those that run are finished, and the exit code is 0.
#[test]
fn the_end_is_orderly() {
    let mut server = Server::start("thinker", &["--max-batch", "8"]);
    let running: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = connect(&server.address);
            let body = json!({ "rows": rows(), "chains": 16 }).to_string();
            send(&mut stream, &server.address, "POST", "/v1/judge", "", body.as_bytes());
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let signal = if ctrl_c() == "-INT" { "-INT" } else { "-TERM" };
    assert!(Command::new("kill").args([signal, &server.child.id().to_string()]).status().unwrap().success());
    for stream in running {
        let answer = receive(stream);
        assert_eq!((answer.status, answer.json()["data"].as_array().unwrap().len()), (200, 64));
    }
    let status = server.child.wait().unwrap();
    let mut err = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("taking no new requests"), "{err}");
}

#[test]
fn flags_that_are_not_safe_are_refused() {
    let task = ground();
    let keys = task.write("keys.txt", "short\n");
    for (more, code, says) in [
        (vec!["--host", "0.0.0.0"], 2, "give --api-key-file"),
        (vec!["--api-key-file", path(&keys)], 1, "a key of 5 characters"),
        (vec!["--api-key-file", "nowhere.txt"], 1, "cannot read the keys in nowhere.txt"),
        (vec!["--threshold", "9"], 2, "outside the scale's 1 to 5"),
        (vec!["--allow-origin", "tool.example"], 2, "is no origin"),
        (vec!["--adapter", "no such adapter"], 1, "no adapter matches"),
    ] {
        let done = crate::cli::finish(task.jurist(&[&["serve", "--model", "plain", "--port", "0", "-q"], &more[..]].concat()));
        assert!(done.code == Some(code) && done.err.contains(says), "{more:?}: {done:?}");
    }
    let done = crate::cli::finish(task.jurist(&["serve", "--model", "nowhere", "--port", "0"]));
    assert!(done.code == Some(1) && done.err.contains("nowhere"), "{done:?}");
}
