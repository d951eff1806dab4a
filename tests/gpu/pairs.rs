//! Pairs: `jurist pair` says what `jurist score` says of each response, the server says the same, and a judge of pairs judges
//! both orders.

use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::cli::{Task, finish, lines, succeed};
use crate::http;
use crate::messages::Messages;
use crate::serve::Server;
use jurist::experiments::synthetic::{Split, SyntheticTask, TaskVersion};

/// Items of the synthetic task as instruction, response and score.
fn items(split: Split, n: usize) -> Vec<(String, String, f64)> {
    let items = SyntheticTask::new(TaskVersion::BASE, 5).items(split, n);
    let parts = |row: Value| {
        let prompt = row["prompt"].as_str().unwrap().trim_start_matches("rubric ").trim_end_matches(" judge").to_string();
        let (instruction, response) = prompt.split_once(" response ").unwrap();
        (instruction.to_string(), response.to_string(), row["score"].as_f64().unwrap())
    };
    items.iter().map(|item| parts(item.to_row())).collect()
}

/// Pairs of neighbours, the second response written for another rubric: the better one is the one with the higher score.
fn pairs() -> Vec<Value> {
    let items = items(Split::Test, 24);
    let pair = |pair: &[(String, String, f64)]| {
        let [(instruction, a, score_a), (_, b, score_b)] = pair else { unreachable!() };
        let preference = if score_a > score_b {
            "A"
        } else if score_a < score_b {
            "B"
        } else {
            "tie"
        };
        json!({"instruction": instruction, "response_a": a, "response_b": b, "preference": preference, "subset": "toy"})
    };
    items.chunks(2).map(pair).collect()
}

/// A folder with two judges: `alone/` reads one response, `both/` reads two. Neither is a good one.
pub fn ground() -> &'static Task {
    static GROUND: OnceLock<Task> = OnceLock::new();
    GROUND.get_or_init(|| {
        let task = Task::new(8, 4, false);
        task.write("alone.jinja", "rubric {{ instruction }} response {{ response }} judge");
        task.write("both.jinja", "rubric {{ instruction }} response {{ response_a }} response {{ response_b }} judge");
        let rows = items(Split::Train, 64);
        let row = |(instruction, response, score): &(String, String, f64)| {
            json!({"instruction": instruction, "response": response, "score": score}).to_string() + "\n"
        };
        task.write("train.jsonl", rows.iter().map(row).collect::<String>());
        let more =
            ["--per-device-train-batch-size", "8", "--save-steps", "0", "--learning-rate", "1e-2", "--num-train-epochs", "4"];
        succeed(task.train("alone", &[&more[..], &["--template", "alone.jinja"]].concat()));
        let row = |pair: &[(String, String, f64)]| {
            let [(instruction, a, score_a), (_, b, score_b)] = pair else { unreachable!() };
            let first = u8::from(score_a > score_b);
            json!({"instruction": instruction, "response_a": a, "response_b": b, "score": first}).to_string() + "\n"
        };
        task.write("both.jsonl", rows.chunks(2).map(row).collect::<String>());
        let both = ["--template", "both.jinja", "--scale", "1,2=1,0", "--train-file", "both.jsonl"];
        succeed(task.train("both", &[&more[..], &both].concat()));
        task.write("pairs.jsonl", pairs().iter().map(|row| row.to_string() + "\n").collect::<String>());
        task
    })
}

fn pair(model: &str, more: &[&str]) -> (Value, Vec<Value>) {
    let task = ground();
    let output = format!("{model}-{}.jsonl", more.len());
    let args = [&["pair", "--model", model, "--input", "pairs.jsonl", "--output", &output, "--json", "--resamples", "200"], more];
    let done = succeed(task.jurist(&args.concat()));
    (serde_json::from_str(&done.out).unwrap(), lines(&task.read(&output)))
}

#[test]
fn two_scores_decide() {
    let task = ground();
    let (figures, judged) = pair("alone", &[]);
    // What `score` says of each response.
    let single = |side: &str| {
        let row = |row: &Value| json!({"instruction": row["instruction"], "response": row[side]}).to_string() + "\n";
        task.write("single.jsonl", pairs().iter().map(row).collect::<String>());
        let done = succeed(task.jurist(&["score", "--model", "alone", "--input", "single.jsonl"]));
        lines(&done.out).into_iter().map(|row| row["judge"].clone()).collect::<Vec<Value>>()
    };
    let (first, second) = (single("response_a"), single("response_b"));
    let number = |value: &Value| value.as_f64().unwrap();
    let mut right = 0.0;
    for ((row, pair), (a, b)) in pairs().iter().zip(&judged).zip(first.iter().zip(&second)) {
        assert_eq!(&pair["preference"], &row["preference"]);
        let found = &pair["pair"];
        assert!((number(&found["a"]["expected"]) - number(&a["expected"])).abs() < 1e-6);
        assert!((number(&found["difference"]) - (number(&a["expected"]) - number(&b["expected"]))).abs() < 1e-6);
        let (mut wins, mut ties) = (0.0, 0.0);
        for i in 1..=5 {
            for k in 1..=5 {
                let both = number(&a["probs"][i.to_string()]) * number(&b["probs"][k.to_string()]);
                wins += if i > k { both } else { 0.0 };
                ties += if i == k { both } else { 0.0 };
            }
        }
        assert!((number(&found["probs"]["a"]) - wins).abs() < 1e-6 && (number(&found["probs"]["tie"]) - ties).abs() < 1e-6);
        if row["preference"] != "tie" {
            right += if found["winner"] == row["preference"] {
                1.0
            } else if found["winner"] == "tie" {
                0.5
            } else {
                0.0
            };
        }
    }
    let compared = pairs().iter().filter(|row| row["preference"] != "tie").count() as f64;
    assert!((number(&figures["accuracy"]) - right / compared).abs() < 1e-12, "{figures}");
    assert_eq!((&figures["n"], &figures["n_labelled"]), (&json!(12), &json!(12)));
    assert!(figures["consistency"].is_null() && figures["undefined"]["consistency"].as_str().unwrap().contains("judged alone"));

    // The server judges them alike, and so are the layouts of others judged.
    let server = Server::serve(task, "alone", &[]);
    let answer = http::post(&server.address, "/v1/pair", &json!({ "rows": pairs() })).json();
    for (found, row) in answer["data"].as_array().unwrap().iter().zip(&judged) {
        crate::serve::same(&found["pair"]["a"], &row["pair"]["a"]);
        crate::serve::same(&found["pair"]["b"], &row["pair"]["b"]);
        assert_eq!(found["pair"]["winner"], row["pair"]["winner"]);
    }
    let bench = |row: &Value| {
        let (chosen, rejected) = (&row["response_a"], &row["response_b"]);
        json!({"prompt": row["instruction"], "chosen": chosen, "rejected": rejected, "subset": "toy", "id": 1}).to_string() + "\n"
    };
    task.write("bench.jsonl", pairs().iter().map(bench).collect::<String>());
    let done = succeed(task.jurist(&["pair", "--model", "alone", "--input", "bench.jsonl", "--output", "bench.out", "--json"]));
    let figures: Value = serde_json::from_str(&done.out).unwrap();
    let winners = judged.iter().filter(|row| row["pair"]["winner"] == "A").count();
    assert_eq!((&figures["verdicts"]["A"], &figures["n_labelled"]), (&json!(winners), &json!(12)));
    for (found, row) in lines(&task.read("bench.out")).iter().zip(&judged) {
        assert_eq!(found["pair"]["difference"], row["pair"]["difference"]);
    }
}

/// An interrupted command keeps its pairs, and the same command with `--resume` writes the same bytes; gates and the page.
#[test]
fn pairs_are_resumed_required_and_shown() {
    let task = ground();
    let many: String = (0..40).flat_map(|_| pairs()).map(|row| row.to_string() + "\n").collect();
    task.write("many.jsonl", many);
    let judge = |output: &str, more: &[&str]| {
        let args =
            ["pair", "--model", "both", "--input", "many.jsonl", "--output", output, "--batch-size", "4", "--resamples", "100"];
        task.jurist(&[&args[..], more].concat())
    };
    let whole = succeed(judge("at-once.jsonl", &[]));
    let mut child = judge("stopped.jsonl", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let written = || std::fs::metadata(task.at("stopped.jsonl.part")).is_ok_and(|part| part.len() > 0);
    assert!(crate::resume::wait_until(&mut child, written), "it ended before it was interrupted");
    crate::resume::interrupt(&child);
    let done = crate::cli::Done::from(child.wait_with_output().unwrap());
    assert!(done.code == Some(130) && done.err.contains("are kept in stopped.jsonl"), "{:?} {}", done.code, done.err);
    let refused = finish(judge("stopped.jsonl", &[]));
    assert!(refused.code == Some(1) && refused.err.contains("continue with --resume"), "{}", refused.err);
    let other = finish(judge("stopped.jsonl", &["--resume", "--pair-column", "verdict"]));
    assert!(
        other.code == Some(1) && other.err.contains("no row that jurist pair wrote, with an object `verdict`"),
        "{}",
        other.err
    );
    let resumed = succeed(judge("stopped.jsonl", &["--resume"]));
    assert_eq!((task.read("stopped.jsonl"), resumed.out), (task.read("at-once.jsonl"), whole.out));

    // Gates on pairs, and a page.
    let pair = |more: &[&str]| {
        let args = ["pair", "--model", "both", "--input", "many.jsonl", "--resamples", "100", "--category", "subset"];
        finish(task.jurist(&[&args[..], more].concat()))
    };
    let done = pair(&[
        "--require",
        "n>=480,consistency>=0,accuracy>=1.1",
        "--junit",
        "pairs.xml",
        "--report",
        "pairs.html",
        "--record",
        "pairs.json",
    ]);
    assert!(done.code == Some(3) && done.err.contains("1 of 3 checks failed: accuracy>=1.1: accuracy is "), "{}", done.err);
    assert!(task.read("pairs.xml").contains("jurist pair\" tests=\"3\" failures=\"1\""));
    let page = task.read("pairs.html");
    assert!(page.contains("Does the order decide?") && page.contains("same winner in both orders"));
    let same = pair(&["--against", "pairs.json"]);
    assert!(same.code == Some(0) && same.out.contains("480 rows in both runs"), "{}", same.err);
    let unknown = pair(&["--require", "accuracy(chat)>=0.5"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("no figure is called `accuracy(chat)`"), "{}", unknown.err);
}

#[test]
fn both_orders_are_judged_and_averaged() {
    let task = ground();
    let (figures, judged) = pair("both", &[]);
    let number = |value: &Value| value.as_f64().unwrap();
    let (mut consistent, mut first, mut second) = (0.0, 0.0, 0.0);
    for row in &judged {
        let found = &row["pair"];
        // `1` says that the response read first is better: A in the given order, B in the other.
        let (given, swapped) = (&found["given"]["probs"], &found["swapped"]["probs"]);
        assert!((number(&found["probs"]["a"]) - (number(&given["1"]) + number(&swapped["2"])) / 2.0).abs() < 1e-12, "{found}");
        let orders: Vec<&str> = found["orders"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(found["consistent"], json!(orders[0] == orders[1]));
        consistent += f64::from(u8::from(orders[0] == orders[1]));
        first += f64::from(u8::from(orders[0] == "A") + u8::from(orders[1] == "B"));
        second += f64::from(u8::from(orders[0] == "B") + u8::from(orders[1] == "A"));
    }
    assert!((number(&figures["consistency"]) - consistent / 12.0).abs() < 1e-12, "{figures}");
    assert!((number(&figures["first_wins"]) - (first / (first + second) - 0.5)).abs() < 1e-12, "{figures}");
    assert!(figures["position_p"].is_number() && figures["intervals"]["consistency"]["low"].is_number(), "{figures}");
    let server = Server::serve(task, "both", &[]);
    let answer = http::post(&server.address, "/v1/pair", &pairs()[3]).json();
    assert_eq!((&answer["how"]["responses"], &answer["pair"]["winner"]), (&json!("together"), &judged[3]["pair"]["winner"]));
    crate::serve::same(&answer["pair"]["swapped"], &judged[3]["pair"]["swapped"]);
}

/// The built-in template, trained on rows whose layout says which response is better.
#[test]
fn a_judge_of_pairs_is_trained_on_chosen_and_rejected() {
    let task = Task::new(8, 4, false);
    let row = |pair: &[(String, String, f64)]| {
        let [(instruction, a, _), (_, b, _)] = pair else { unreachable!() };
        json!({"prompt": instruction, "chosen": a, "rejected": b}).to_string() + "\n"
    };
    task.write("train.jsonl", items(Split::Train, 16).chunks(2).map(row).collect::<String>());
    // The words A and B are not among the tokenizer's.
    let template = ["--template", "pair", "--scale", "1,2=1,0", "--max-steps", "2", "--save-steps", "0"];
    succeed(task.train("judge", &template));
    let check: Value = serde_json::from_str(
        &succeed(task.jurist(&["data", "check", "train.jsonl", "--template", "pair", "--scale", "1,2=1,0", "--json"])).out,
    )
    .unwrap();
    let labels = &check["labels"]["histogram"];
    assert_eq!(labels.as_array().unwrap().len(), 2, "the better response is first in some rows only: {labels}");
    // The trained judge's own template says that labels are preferences.
    let own = succeed(task.jurist(&["data", "check", "train.jsonl", "--model", "judge", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&own.out).unwrap()["labels"]["histogram"], *labels);
    succeed(task.jurist(&["eval", "--model", "judge", "--input", "train.jsonl", "--resamples", "100"]));
    let settings: Value = serde_json::from_str(&task.read("judge/judge.json")).unwrap();
    assert_eq!((&settings["template"], &settings["scale"]), (&json!("pair"), &json!("1,2=1,0")));
    let done = succeed(task.jurist(&["pair", "--model", "judge", "--input", "train.jsonl", "--resamples", "100"]));
    assert!(
        done.err.contains("both responses are judged together") && done.out.contains("first_wins"),
        "{}{}",
        done.out,
        done.err
    );
}

/// A judge of pairs is trained from one that grades from 1 to 5, and the reverse: each has the scale and phrase of its template,
/// and not those of its start.
#[test]
fn judges_of_pairs_and_of_grades_start_from_each_other() {
    let task = Task::new(8, 4, false);
    let rows = items(Split::Train, 16);
    let grade = |(instruction, response, score): &(String, String, f64)| {
        json!({"instruction": instruction, "response": response, "score": score}).to_string() + "\n"
    };
    task.write("grades.jsonl", rows.iter().map(grade).collect::<String>());
    let pair = |pair: &[(String, String, f64)]| {
        let [(instruction, a, _), (_, b, _)] = pair else { unreachable!() };
        json!({"prompt": instruction, "chosen": a, "rejected": b}).to_string() + "\n"
    };
    task.write("pairs.jsonl", rows.chunks(2).map(pair).collect::<String>());
    let mut config = crate::cli::tiny_config();
    (config["vocab_size"], config["max_position_embeddings"]) = (json!(300), json!(2048));
    task.write("config.json", config.to_string());
    let train = |output: &str, from: &[&str], rows: &str, template: &str| {
        let args = ["train", "--train-file", rows, "--template", template, "--output-dir", output, "--max-steps", "2"];
        succeed(task.jurist(&[&args[..], from, &["--save-steps", "0", "--per-device-train-batch-size", "2"]].concat()));
        let settings: Value = serde_json::from_str(&task.read(&format!("{output}/judge.json"))).unwrap();
        (settings["template"].clone(), settings["scale"].clone())
    };
    train("start", &["--init", "config.json", "--vocab-size", "300"], "grades.jsonl", "judge");
    assert_eq!(train("compares", &["--model-name-or-path", "start"], "pairs.jsonl", "pair"), (json!("pair"), json!("A,B=1,0")));
    assert_eq!(
        train("grades", &["--model-name-or-path", "compares"], "grades.jsonl", "judge"),
        (json!("judge"), json!("1,2,3,4,5=1,2,3,4,5"))
    );
    // Without the flag, the start's template does not fit the rows.
    let refused = |start: &str, rows: &str| {
        let args = ["train", "--train-file", rows, "--model-name-or-path", start, "--output-dir", "none", "--max-steps", "1"];
        let done = finish(task.jurist(&args));
        assert_eq!(done.code, Some(1), "{}", done.err);
        done.err
    };
    let grades = refused("compares", "grades.jsonl");
    assert!(grades.contains("the row has no pair of responses") && grades.contains("use the template `judge`"), "{grades}");
    let pairs = refused("start", "pairs.jsonl");
    assert!(pairs.contains("compare its two responses with --template pair"), "{pairs}");
}

/// The built-in template, trained on chosen and rejected responses about some subjects, prefers the better response about others,
/// in whichever order. A coin would have an accuracy of one half.
#[test]
fn a_judge_of_pairs_prefers_the_better_response() {
    const SUBJECTS: [&str; 10] =
        ["facts", "figures", "dates", "wording", "syntax", "analysis", "detail", "manner", "layout", "order"];
    const PRAISE: [&str; 4] = ["good", "strong", "excellent", "solid"];
    const BLAME: [&str; 4] = ["weak", "poor", "wrong", "awful"];
    let pairs = |subjects: &[&str]| -> Vec<[String; 3]> {
        let of = |subject: &str, k: usize| {
            [subject.to_string(), format!("{subject} {}", PRAISE[k % 4]), format!("{subject} {}", BLAME[k / 4])]
        };
        (0..16).flat_map(|k| subjects.iter().map(move |subject| of(subject, k))).collect()
    };
    let task = Task::new(8, 4, false);
    let row =
        |[asked, better, worse]: &[String; 3]| json!({"prompt": asked, "chosen": better, "rejected": worse}).to_string() + "\n";
    task.write("train.jsonl", pairs(&SUBJECTS[..8]).iter().map(row).collect::<String>());
    let held_out = pairs(&SUBJECTS[8..]);
    let row = |(k, [asked, better, worse]): (usize, &[String; 3])| {
        let (a, b, preference) = if k % 2 == 0 { (better, worse, "A") } else { (worse, better, "B") };
        json!({"instruction": asked, "response_a": a, "response_b": b, "preference": preference}).to_string() + "\n"
    };
    task.write("held-out.jsonl", held_out.iter().enumerate().map(row).collect::<String>());
    let settings = ["--template", "pair", "--scale", "1,2=1,0", "--save-steps", "0", "--learning-rate", "1e-2"];
    let steps = ["--per-device-train-batch-size", "16", "--max-steps", "72"];
    succeed(task.train("judge", &[&settings[..], &steps].concat()));
    // Exit code 3 if it is not met.
    let require = ["--require", "ci_low(accuracy)>=0.6", "--resamples", "500", "--json"];
    let done = succeed(task.jurist(&[&["pair", "--model", "judge", "--input", "held-out.jsonl"], &require[..]].concat()));
    let figures: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&figures["n_labelled"], &figures["gates"]["passes"]), (&json!(32), &json!(true)), "{figures}");
}

#[test]
fn pairs_that_cannot_be_judged_say_why() {
    let task = ground();
    task.write("none.jsonl", "{\"instruction\":\"tone\",\"response\":\"voice good\"}\n");
    task.write("had.jsonl", json!({"instruction": "i", "response_a": "a", "response_b": "b", "pair": 1}).to_string());
    task.write("whole.jsonl", "{\"instruction\":\"tone\",\"response_a\":\"voice\",\"response_b\":\"voice\",\"preference\":2}\n");
    task.write("long.jsonl", json!({"instruction": "ok ".repeat(200), "response_a": "a", "response_b": "b"}).to_string());
    task.write("blind.jinja", "rubric {{ instruction }} judge");
    task.write("four.jsonl", json!({"prompt": "tone", "chosen": ["a"], "rejected": ["b", "c", "d"]}).to_string());
    let named = json!({"id": 7, "instruction": "tone", "response_a": "voice good", "response_b": "voice"}).to_string() + "\n";
    task.write("twice.jsonl", named.repeat(2));
    let mut messages = Messages::new("pairs").place(task.dir.path(), "[folder]");
    for (input, more, code) in [
        ("none.jsonl", "", 1),
        ("had.jsonl", "", 1),
        ("whole.jsonl", "", 1),
        ("long.jsonl", "", 1),
        ("four.jsonl", "", 1),
        ("twice.jsonl", "", 1),
        ("pairs.jsonl", "--given-chains", 2),
        ("pairs.jsonl", "--label-column verdict", 2),
        ("pairs.jsonl", "--template blind.jinja", 1),
        ("pairs.jsonl", "--report nowhere/page.html", 1),
        ("pairs.jsonl", "--require pearson>=0.5", 2),
        ("pairs.jsonl", "--cluster topic", 1),
        ("pairs.jsonl", "--output pairs.jsonl", 1),
    ] {
        let mut command = task.jurist(&["pair", "--model", "alone", "--input", input, "-q"]);
        command.args(more.split_whitespace());
        let done = finish(command);
        assert_eq!(done.code, Some(code), "{input} {more}: {}", done.err);
        messages.add(format!("jurist pair --input {input} {more}").trim_end(), &done.err);
    }
    messages.check();
}
