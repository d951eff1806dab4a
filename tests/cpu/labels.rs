//! Labels that are words, in `agree` and `eval`: the figures of scikit-learn and krippendorff out of files. No GPU is needed.

use serde_json::{Value, json};

use crate::agree::Ground;
use crate::cli::{finish, jurist, succeed};

/// Every case of the reference, as words in CSV and in JSON Lines.
#[test]
fn figures_of_scikit_learn() {
    let ground = Ground::new();
    let reference: Value = serde_json::from_str(include_str!("../../src/eval/testdata/labels_reference.json")).unwrap();
    let mut agreed = 0;
    for (n, case) in reference["cases"].as_array().unwrap().iter().enumerate() {
        let words: Vec<&str> = case["labels"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let word = |at: &Value| words[at.as_u64().unwrap() as usize];
        let rows = || case["human"].as_array().unwrap().iter().zip(case["judge"].as_array().unwrap());
        let csv: String = rows().map(|(h, s)| format!("{},{}\n", word(h), word(s).to_uppercase())).collect();
        let lines: String = rows().map(|(h, s)| json!({"h": word(h), "j": word(s)}).to_string() + "\n").collect();
        ground.write("case.csv", format!("h,j\n{csv}"));
        ground.write("case.jsonl", lines);
        for file in ["case.csv", "case.jsonl"] {
            let found = ground.json(&format!("{file} --human h --judge j --scale {} --resamples 20", words.join(",")));
            for (key, expected) in case["expect"].as_object().unwrap() {
                match (found[key].as_f64(), expected.as_f64()) {
                    (Some(a), Some(b)) => assert!((a - b).abs() < 1e-9, "{file} of case {n}, {key}: {a}, expected {b}"),
                    (None, None) => assert!(found["undefined"][key].is_string(), "{file} of case {n}, {key}: no reason"),
                    _ => panic!("{file} of case {n}, {key}: {}, expected {expected}", found[key]),
                }
                agreed += 1;
            }
            let people = found["per_label"][words[0]]["people"].as_u64().unwrap() as usize;
            assert_eq!(people, rows().filter(|(h, _)| **h == json!(0)).count());
        }
    }
    assert!(agreed > 1000, "{agreed}");
}

#[test]
fn tables_gates_and_probabilities() {
    let ground = Ground::new();
    let row = |k: usize| {
        let human = !k.is_multiple_of(3);
        let p = if human != k.is_multiple_of(7) { 0.9 } else { 0.2 };
        json!({"h": human, "j": p >= 0.5, "p": p}).to_string() + "\n"
    };
    ground.write("rows.jsonl", (0..210).map(row).collect::<String>());
    let line = "rows.jsonl --human h --judge j --scale fail,pass --resamples 200";
    let table = succeed(ground.agree(line)).out;
    for part in ["recall(fail)", "balanced_accuracy", "h \\ j  fail  pass"] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    // The probability of the better label is a distribution over two.
    let found = ground.json(&format!("{line} --probs p"));
    assert_eq!(found["n_probabilities"], 210);
    let brier: f64 = (0..210)
        .map(|k| {
            let (human, p) = (if k % 3 == 0 { 0.0 } else { 1.0 }, if (k % 3 == 0) == (k % 7 == 0) { 0.9 } else { 0.2 });
            2.0 * (p - human) * (p - human)
        })
        .sum::<f64>()
        / 210.0;
    assert!((found["brier"].as_f64().unwrap() - brier).abs() < 1e-12, "{found}");
    let done = finish(ground.agree(&format!("{line} --require ci_low(recall(fail))>=0.95,accuracy>=0.5,precision(pass)>=0.5")));
    assert!(done.code == Some(3) && done.err.contains("1 of 3 checks failed: ci_low(recall(fail))>=0.95: "), "{}", done.err);
    let bad = finish(ground.agree("rows.jsonl --human h --judge j --scale bad,ok,good"));
    assert!(bad.code == Some(1) && bad.err.contains("write bad, ok, good or a number"), "{}", bad.err);
    let unlike = finish(ground.agree("rows.jsonl --human h --judge j --scale bad,good --probs h"));
    assert!(unlike.code == Some(1) && unlike.err.contains("is no list of probabilities of the 2 scores"), "{}", unlike.err);
}

/// One class alone: recall of it and nothing that looks like agreement.
#[test]
fn one_class_is_no_agreement() {
    let ground = Ground::new();
    ground.write("one.csv", "h,j\npass,pass\npass,pass\npass,fail\n");
    let found = ground.json("one.csv --human h --judge j --scale fail,pass --resamples 50");
    for key in ["pearson", "balanced_accuracy", "mcc", "recall(fail)"] {
        assert!(found[key].is_null() && found["undefined"][key].is_string(), "{key}: {found}");
    }
    assert_eq!(found["undefined"]["recall(fail)"], "people give this label to no row");
    let done = finish(ground.agree("one.csv --human h --judge j --scale fail,pass --require mcc>=0,recall(fail)>=0"));
    assert!(done.code == Some(3) && done.err.contains("mcc is undefined: all human scores are the same"), "{}", done.err);
}

#[test]
fn eval_reads_words_in_scored_rows() {
    let ground = Ground::new();
    let words = ["bad", "ok", "good"];
    let row = |k: usize| {
        let (human, decoded) = (k % 3, if k.is_multiple_of(5) { (k + 1) % 3 } else { k % 3 });
        let probs: serde_json::Map<String, Value> =
            words.iter().enumerate().map(|(at, word)| (word.to_string(), json!(if at == decoded { 0.8 } else { 0.1 }))).collect();
        let expected: f64 = (0..3).map(|at| at as f64 * probs[words[at]].as_f64().unwrap()).sum();
        let judge = json!({"expected": expected, "decoded": decoded, "probs": probs, "mass": 1.0});
        json!({"prompt": format!("p{k}"), "score": words[human], "judge": judge}).to_string() + "\n"
    };
    ground.write("scored.jsonl", (0..90).map(row).collect::<String>());
    let eval = |line: &str| {
        let mut command = jurist(&["eval", "scored.jsonl", "--resamples", "200"]);
        command.args(line.split_whitespace()).current_dir(ground.0.path());
        finish(command)
    };
    let done = eval("--scale bad,ok,good --json");
    let found: Value = serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.err));
    let decoded = &found["decoded score"];
    assert_eq!((&decoded["accuracy"], &decoded["per_label"]["ok"]["people"]), (&json!(0.8), &json!(30)));
    assert!(found["expected score"]["nll"].is_number() && found["expected score"]["per_label"].is_null(), "{found}");
    let text = eval("--scale bad,ok,good --require accuracy>=0.75,recall(good)>=0.5,ece_top_label<0.2");
    assert_eq!(text.code, Some(0), "{}", text.err);
    assert!(text.out.contains("decoded labels") && text.out.contains("people \\ judge"), "{}", text.out);
    // What the words stand for has to be said.
    let done = eval("");
    assert!(done.code == Some(1) && done.err.contains("the text \"bad\"; make it a finite number"), "{}", done.err);
}
