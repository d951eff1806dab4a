//! Requests of every kind at once: each gets the answer that it gets alone, and each its own.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{connect, receive, send};
use crate::serve::{Server, rows, same};

/// The options of request `n`: every temperature, seed, length, number of chains.
fn options(n: usize) -> Value {
    match n % 6 {
        0 => json!({}),
        1 => json!({"temperature": 1, "seed": n}),
        2 => json!({"temperature": 0.5, "seed": n, "top_p": 0.8}),
        3 => json!({"temperature": 1.5, "seed": n, "chains": 3}),
        4 => json!({"max_completion_length": 1 + n % 7}),
        _ => json!({"temperature": 0.9, "seed": 3, "expectation": "full"}),
    }
}

fn asked(row: &Value, options: &Value) -> Value {
    let mut body = json!({ "row": row });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    body
}

/// One row alone and among 63 others of other temperatures and seeds, which come at the same time: the same chain and decoded
/// score, the expected score within 1e-6; with `--batch-invariant` the same bytes.
#[test]
fn company_of_every_kind_changes_no_answer() {
    for (model, more) in
        [("thinker", &[][..]), ("plain", &[]), ("thinker", &["--batch-invariant"]), ("plain", &["--batch-invariant"])]
    {
        let server = Server::start(model, more);
        let rows = rows();
        let ask = |n: usize| {
            let answer = server.judge(&asked(&rows[n], &options(n)));
            (answer["judge"].clone(), answer["chains"].clone())
        };
        let together: Vec<(Value, Value)> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..rows.len()).map(|n| scope.spawn(move || ask(n))).collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut worst: f64 = 0.0;
        for (n, found) in together.iter().enumerate() {
            let alone = ask(n);
            worst = worst.max(same(&found.0, &alone.0));
            if !more.is_empty() {
                assert_eq!(found, &alone, "{model}: row {n}");
            }
        }
        println!("{model} {more:?}: at most {worst:.1e} between alone and in company");
    }
}

/// Rows that come while others run are answered before those, streams among them; a client that goes away frees its row, and
/// no answer is another's.
#[test]
fn rows_join_and_leave() {
    let server = Server::start("thinker", &["--max-batch", "4"]);
    let rows = rows();
    let expected: Vec<Value> = rows.iter().map(|row| server.judge(&asked(row, &json!({})))["judge"].clone()).collect();
    // Many chains, and nobody waits for them any more.
    let many = asked(&rows[0], &json!({"chains": 1024, "temperature": 1})).to_string();
    let start = Instant::now();
    for _ in 0..4 {
        let mut gone = connect(&server.address);
        send(&mut gone, &server.address, "POST", "/v1/judge", "", many.as_bytes());
        std::thread::sleep(Duration::from_millis(100));
    }
    same(&server.judge(&asked(&rows[0], &json!({})))["judge"], &expected[0]);
    let freed = start.elapsed();
    let start = Instant::now();
    let mut all = connect(&server.address);
    send(&mut all, &server.address, "POST", "/v1/judge", "", many.as_bytes());
    // While these run, short ones come and go.
    std::thread::sleep(Duration::from_millis(50));
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (n, row) in rows.iter().enumerate().take(12) {
            let (ended, server, expected) = (&ended, &server, &expected);
            scope.spawn(move || {
                if n % 3 == 2 {
                    let prompt = row["prompt"].as_str().unwrap();
                    let body = json!({"messages": [{"role": "user", "content": prompt}], "stream": true});
                    let chunks = server.chat(&body).chunks();
                    let last = chunks.iter().rev().find(|chunk| chunk["jurist"].is_object()).unwrap();
                    same(&last["jurist"], &expected[n]);
                } else {
                    same(&server.judge(&asked(row, &json!({})))["judge"], &expected[n]);
                }
                ended.lock().unwrap().push(start.elapsed());
            });
        }
    });
    let answer = receive(all);
    let whole = start.elapsed();
    assert_eq!((answer.status, answer.json()["chains"].as_array().unwrap().len()), (200, 1024));
    let last = ended.into_inner().unwrap().into_iter().max().unwrap();
    println!("abandoned rows were free after {freed:?}; 12 short rows took {last:?} beside 1,024 chains that took {whole:?}");
    assert!(freed < whole && last < whole, "{freed:?}, {last:?}, {whole:?}");
}
