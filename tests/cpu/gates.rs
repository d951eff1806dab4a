//! Gates of `agree` and `eval`: exit code 3, what is said, JUnit XML, the summary, and runs that are compared. No GPU is needed.

use serde_json::{Value, json};

use crate::agree::Ground;
use crate::cli::{finish, jurist, succeed};
use crate::messages::Messages;
use jurist::random::Stream;

/// Human scores of 1 to 5 and a judge with noise of its own: column `human`, `judge`, `name`, `group`.
fn rows(n: usize, seed: u64, shift: f64) -> String {
    let (mut items, mut noise) = (Stream::new(3, 3), Stream::new(seed, 4));
    let row = |k: usize| {
        let human = 1.0 + items.below(5) as f64;
        let judge = human + 0.5 * items.normal() + 0.3 * noise.normal() + shift;
        format!("{human},{judge},row {k},g{}\n", k / 2)
    };
    "human,judge,name,group\n".to_string() + &(0..n).map(row).collect::<String>()
}

#[test]
fn requirements_decide_the_exit_code() {
    let ground = Ground::new();
    ground.write("a.csv", rows(200, 1, 0.0));
    let line = "a.csv --human human --judge judge --resamples 500 --cluster group";
    let met = succeed(ground.agree(&format!("{line} --require pearson>=0.8,ci_low(spearman)>=0.7 --require n>=200")));
    assert!(met.out.contains("requirement") && met.out.contains("ci_low(spearman)>=0.7"), "{}", met.out);

    let failing = format!("{line} --require pearson>=0.99,rmse<5,ci_high(bias)<-1 --junit gate.xml --summary gate.md");
    let done = finish(ground.agree(&failing));
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.starts_with("error: 2 of 3 checks failed: pearson>=0.99: pearson is 0."), "{}", done.err);
    assert!(done.err.contains("; ci_high(bias)<-1: the upper end of bias is "), "{}", done.err);
    assert!(done.out.contains("not met"), "the figures are printed all the same: {}", done.out);
    let read = |name: &str| std::fs::read_to_string(ground.0.path().join(name)).unwrap();
    let xml = read("gate.xml");
    for part in [
        "<testsuites name=\"jurist agree\" tests=\"3\" failures=\"2\" errors=\"0\">",
        "<testsuite name=\"a.csv\" tests=\"3\" failures=\"2\" errors=\"0\" skipped=\"0\">",
        "<testcase classname=\"a.csv\" name=\"rmse&lt;5\"/>",
        "<testcase classname=\"a.csv\" name=\"pearson&gt;=0.99\">\n      <failure message=\"pearson is 0.",
    ] {
        assert!(xml.contains(part), "{part} in\n{xml}");
    }
    let summary = read("gate.md");
    assert!(summary.starts_with("### jurist agree: a.csv\n\n**failed** (2 of 3 checks)\n"), "{summary}");
    assert!(summary.contains("| `rmse<5` | passed |\n") && summary.contains("| pearson | 0."), "{summary}");

    let mut found: Value = serde_json::from_str(&finish(ground.agree(&format!("{failing} --json"))).out).unwrap();
    let gates = found["gates"].take();
    assert_eq!(gates["passes"], false);
    let passes: Vec<bool> = gates["requirements"].as_array().unwrap().iter().map(|r| r["passes"].as_bool().unwrap()).collect();
    assert_eq!(passes, [false, true, false]);
    assert!(gates["requirements"][0]["found"].is_number() && gates["requirements"][0]["reason"].is_string());

    // A GitHub step's summary is added to, whatever its path looks like.
    for variable in ["step.md".into(), ground.0.path().join("step.md")] {
        ground.write("step.md", "before\n");
        let mut command = ground.agree(&format!("{line} --require pearson>=0.5 --summary step.md"));
        command.env("GITHUB_STEP_SUMMARY", variable);
        succeed(command);
        let step = read("step.md");
        assert!(step.starts_with("before\n### jurist agree: a.csv\n\n**passed** (1 check)"), "{step}");
    }
}

/// One class, a constant judge, two files, two judges.
#[test]
fn an_undefined_figure_meets_no_requirement() {
    let ground = Ground::new();
    ground.write("constant.csv", "human,judge,other\n1,3,1\n2,3,2\n5,3,4\n");
    ground.write("perfect.csv", "human,judge,other\n1,1,1\n2,2,2\n5,5,5\n4,4,4\n");
    ground.write("twelve.csv", "human,judge,other\n".to_string() + &"1,1,1\n2,2,2\n5,5,5\n4,4,4\n".repeat(3));
    let fails = |line: &str| {
        let done = finish(ground.agree(&format!("{line} --human human --judge judge --resamples 100")));
        assert_eq!(done.code, Some(3), "{line}: {}", done.err);
        done.err
    };
    let constant = fails("constant.csv --require pearson>=-1");
    assert!(constant.contains("pearson is undefined: all judge scores are the same"), "{constant}");
    // Four right of four say little about other rows.
    let perfect = fails("perfect.csv --require ci_low(exact_agreement)>=0.9,ci_low(kappa_quadratic)>=0.9,kappa_quadratic>=0.9");
    assert!(perfect.contains("2 of 3 checks failed"), "{perfect}");
    assert!(perfect.contains("the lower end of exact_agreement is 0.397635"), "{perfect}");
    assert!(perfect.contains("kappa_quadratic has no interval: an interval by resampling needs at least 10 rows"), "{perfect}");
    let perfect = fails("twelve.csv --require ci_low(kappa_quadratic)>=0.9");
    assert!(perfect.contains("the interval of kappa_quadratic has no width (1 in every resample)"), "{perfect}");
    let both = fails("constant.csv perfect.csv --judge2 other --require judge2.pearson>=0.9,difference.mae<=0.1");
    assert!(both.contains("1 of 4 checks failed: constant.csv: difference.mae<=0.1: difference.mae is "), "{both}");
}

#[test]
fn runs_on_the_same_rows_are_compared() {
    let ground = Ground::new();
    ground.write("a.csv", rows(200, 1, 0.0));
    ground.write("again.csv", rows(200, 2, 0.0));
    ground.write("moved.csv", rows(200, 2, 0.4));
    ground.write("other.csv", rows(150, 1, 0.0));
    let line = |file: &str| format!("{file} --human human --judge judge --id name --resamples 1000");
    succeed(ground.agree(&format!("{} --record today.json", line("a.csv"))));
    let same = succeed(ground.agree(&format!("{} --against today.json", line("again.csv"))));
    assert!(same.out.contains("since the earlier run") && same.out.contains("200 rows in both runs"), "{}", same.out);
    assert!(!same.out.contains("alarm"), "{}", same.out);

    // The last digits of scores are another adapter's.
    let rounded = |row: &str| match row.rsplit_once(',').and_then(|(row, group)| Some((row.split_once(',')?, group))) {
        Some(((human, rest), group)) if row != "human,judge,name,group" => {
            let (judge, name) = rest.split_once(',').unwrap();
            format!("{human},{},{name},{group}\n", judge.parse::<f64>().unwrap() + 2e-7)
        }
        _ => row.to_string() + "\n",
    };
    ground.write("rounded.csv", rows(200, 1, 0.0).lines().map(rounded).collect::<String>());
    succeed(ground.agree(&format!("{} --against today.json", line("rounded.csv"))));

    let done = finish(ground.agree(&format!("{} --against today.json --junit drift.xml", line("moved.csv"))));
    assert!(done.code == Some(3) && done.err.contains("bias has risen beyond chance"), "{}", done.err);
    let xml = std::fs::read_to_string(ground.0.path().join("drift.xml")).unwrap();
    assert!(xml.contains("name=\"drift of bias\">\n      <failure message=\"bias has risen beyond chance\"/>"), "{xml}");
    let found: Value =
        serde_json::from_str(&finish(ground.agree(&format!("{} --against today.json --json", line("moved.csv")))).out).unwrap();
    let drift = &found["gates"]["drift"];
    assert_eq!((&drift["alarm"], &drift["n"], &drift["changes"]["pearson"]["alarm"]), (&json!(true), &json!(200), &json!(false)));
    // Paired, the shift of 0.4 is known far better than either bias: the rows are the same.
    let width = |interval: &Value| interval["high"].as_f64().unwrap() - interval["low"].as_f64().unwrap();
    assert!(width(&drift["changes"]["bias"]["difference"]) < width(&found["intervals"]["bias"]) * 1.3, "{found}");

    succeed(ground.agree(&format!("{} --json --record unused.json", line("a.csv"))));
    ground.write("figures.json", succeed(ground.agree(&format!("{} --json", line("a.csv")))).out);
    let mut messages = Messages::new("gates").place(ground.0.path(), "[folder]");
    for (line, code) in [
        (format!("{} --against today.json", line("other.csv")), 3),
        (format!("{} --against today.json --scale 0..5", line("a.csv")), 3),
        (format!("{} --against figures.json", line("a.csv")), 1),
        (format!("{} --against nowhere.json", line("a.csv")), 1),
        (format!("{} --against today.json --record today.json", line("a.csv")), 1),
        (format!("{} again.csv --against today.json", line("a.csv")), 2),
        (format!("{} --require pearsn>=0.8", line("a.csv")), 2),
        (format!("{} --require pearson", line("a.csv")), 2),
        (format!("{} --require pearson>=much", line("a.csv")), 2),
        (format!("{} --require ci_low(pearson_p)<1", line("a.csv")), 2),
        (format!("{} --require nll<1", line("a.csv")), 2),
        (format!("{} --require length_bias<1", line("a.csv")), 2),
        (format!("{} --require flip_rate<1", line("a.csv")), 2),
        (format!("{} --require accuracy>=0.5", line("a.csv")), 2),
        (format!("{} --require pearson>=0.1 --junit nowhere/gate.xml", line("a.csv")), 1),
        (format!("{} --require recall(pass)>=0.5", line("a.csv")), 2),
        (format!("{} --junit gate.xml", line("a.csv")), 2),
    ] {
        let done = ground.fails(&line);
        assert_eq!(done.code, Some(code), "{line}: {}", done.err);
        messages.add(format!("jurist agree {line}"), &done.err);
    }
    messages.check();
}

/// Rows as `jurist score` writes them; `shift` moves the judge.
fn scored(n: usize, shift: f64) -> String {
    let mut stream = Stream::new(9, 9);
    let row = |k: usize| {
        let human = 1 + stream.below(5);
        let expected = (human as f64 + 0.4 * stream.normal() + shift).clamp(1.0, 5.0);
        let probs: Vec<(String, f64)> = (1..=5).map(|s| (s.to_string(), (-(f64::from(s) - expected).powi(2)).exp())).collect();
        let sum: f64 = probs.iter().map(|(_, p)| p).sum();
        let probs: serde_json::Map<String, Value> = probs.into_iter().map(|(text, p)| (text, json!(p / sum))).collect();
        let judge = json!({"expected": expected, "decoded": expected.round(), "probs": probs, "mass": 0.99});
        json!({"prompt": format!("question {k}"), "score": human, "judge": judge}).to_string() + "\n"
    };
    (0..n).map(row).collect()
}

#[test]
fn eval_has_the_same_gates() {
    let ground = Ground::new();
    ground.write("scored.jsonl", scored(120, 0.0));
    ground.write("moved.jsonl", scored(120, -0.3));
    ground.write("other.jsonl", scored(120, 0.0).replacen("question 7\"", "question seven\"", 1));
    let eval = |line: &str| {
        let mut command = jurist(&["eval"]);
        command.args(line.split_whitespace()).args(["--resamples", "500"]).current_dir(ground.0.path());
        finish(command)
    };
    let done = eval("scored.jsonl --require pearson>=0.8,decoded.exact_agreement>=0.3,nll<2 --record today.json");
    assert_eq!(done.code, Some(0), "{}", done.err);
    let record: Value = serde_json::from_str(&std::fs::read_to_string(ground.0.path().join("today.json")).unwrap()).unwrap();
    assert_eq!((&record["jurist_record"], record["rows"].as_array().unwrap().len()), (&json!(1), 120));
    let done = eval("scored.jsonl --against today.json --json");
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.code, &found["gates"]["passes"]), (Some(0), &json!(true)), "{}", done.err);
    let done = eval("moved.jsonl --against today.json --require spearman>=0.5");
    assert!(done.code == Some(3) && done.err.contains("bias has fallen beyond chance"), "{}", done.err);
    let done = eval("other.jsonl --against today.json");
    assert!(done.code == Some(3) && done.err.contains("labelled row 8 is "), "{}", done.err);
    // Calibrated scores have figures of their own, where they are in the rows.
    let done = eval("scored.jsonl --require calibrated.rmse<=1");
    assert!(done.code == Some(3) && done.err.contains("calibrated.rmse was not measured here"), "{}", done.err);
    let calibrated = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let expected = row["judge"]["expected"].as_f64().unwrap();
        let (low, high) = ((expected - 1.0).max(1.0), (expected + 1.0).min(5.0));
        row["judge"]["calibrated"] = json!({"score": (expected + 0.5).min(5.0), "low": low, "high": high, "level": 0.9});
        row.to_string() + "\n"
    };
    ground.write("calibrated.jsonl", scored(120, 0.0).lines().map(calibrated).collect::<String>());
    let required = "calibrated.bias>=0.3,ci_low(calibrated.interval_coverage)>=0.9,calibrated.interval_width<2.1";
    let done = eval(&format!("calibrated.jsonl --require {required} --report page.html"));
    assert!(
        done.code == Some(0) && done.out.contains("calibrated score") && done.out.contains("interval_coverage"),
        "{}",
        done.err
    );
    let page = std::fs::read_to_string(ground.0.path().join("page.html")).unwrap();
    assert!(page.contains("calibrated score") && page.contains("interval coverage"));
    let found: Value = serde_json::from_str(&eval("calibrated.jsonl --json").out).unwrap();
    let (raw, own) = (&found["expected score"], &found["calibrated score"]);
    assert!(own["bias"].as_f64().unwrap() > raw["bias"].as_f64().unwrap() + 0.3, "{own}");
    assert!(own["intervals"]["interval_coverage"]["low"].is_number() && raw.get("interval_coverage").is_none(), "{own}");
    let done = eval("scored.jsonl --require decoded.pearsn>=0.5");
    assert!(done.code == Some(2) && done.err.contains("did you mean `decoded.pearson`?"), "{}", done.err);
}
