//! `jurist agree` as somebody with another judge meets it: a file with two columns in, the figures of the Python libraries
//! out. No GPU is needed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{Done, finish, jurist, skip, succeed};
use crate::messages::Messages;
use serde_json::{Value, json};

/// A folder to write files in, and the program run there.
pub struct Ground(pub tempfile::TempDir);

impl Ground {
    pub fn new() -> Self {
        Ground(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    pub fn agree(&self, line: &str) -> Command {
        let mut command = jurist(&["agree"]);
        command.args(line.split_whitespace()).current_dir(self.0.path());
        command
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&succeed(self.agree(&format!("{line} --json"))).out).unwrap()
    }

    pub fn fails(&self, line: &str) -> Done {
        finish(self.agree(line))
    }
}

/// Every case of a reference file, as CSV and as JSON Lines: the same keys, the same figures, null for null. Returns how
/// many figures agreed.
fn check_reference(ground: &Ground, reference: &Value) -> usize {
    let mut agreed = 0;
    for (name, case) in reference["cases"].as_object().unwrap() {
        let rows = || case["human"].as_array().unwrap().iter().zip(case["judge"].as_array().unwrap());
        let cell = |x: &Value| if x.is_null() { String::new() } else { x.to_string() };
        let csv: String = rows().map(|(h, s)| format!("\"a, b\",{h},{}\n", cell(s))).collect();
        ground.write("case.csv", format!("text,people,model\n{csv}"));
        let lines: String = rows().map(|(h, s)| json!({"people": h, "text": "a\nb", "model": s}).to_string() + "\n").collect();
        ground.write("case.jsonl", lines);
        for file in ["case.csv", "case.jsonl"] {
            // A judge that never answers is a column that is nowhere in JSON Lines, and no case here.
            let found = ground.json(&format!("{file} --human people --judge model --resamples 20"));
            for (key, expected) in case["expect"].as_object().unwrap() {
                let value = found.get(key).unwrap_or_else(|| panic!("{file} of {name}: {key} is missing"));
                match (value.as_f64(), expected.as_f64()) {
                    (Some(a), Some(b)) => assert!((a - b).abs() < 1e-9, "{file} of {name}, {key}: {a}, expected {b}"),
                    (None, None) => assert!(found["undefined"][key].is_string(), "{file} of {name}, {key}: no reason"),
                    _ => panic!("{file} of {name}, {key}: {value}, expected {expected}"),
                }
                agreed += 1;
            }
        }
    }
    agreed
}

#[test]
fn figures_of_the_python_libraries() {
    let reference = serde_json::from_str(include_str!("../fixtures/agreement/seed7.json")).unwrap();
    assert_eq!(check_reference(&Ground::new(), &reference), 13 * 22 * 2);
}

/// The script that made the fixture, with other seeds; it needs Python with scipy, scikit-learn and krippendorff.
#[test]
fn figures_of_the_python_libraries_for_other_seeds() {
    let shared =
        std::env::var_os("JURIST_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let script = shared.join("reference/make_metrics_reference.py");
    if !script.exists() {
        skip(format!("{} does not exist; set JURIST_SHARED to the folder that holds reference/", script.display()));
        return;
    }
    let python = std::env::var_os("JURIST_PYTHON").unwrap_or_else(|| "python3".into());
    let ground = Ground::new();
    for seed in ["1", "2"] {
        let out = ground.0.path().join("reference.json");
        let made = Command::new(&python).arg(&script).arg(&out).args(["--seed", seed]).output();
        match made {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                let why = String::from_utf8_lossy(&done.stderr).lines().last().unwrap_or_default().to_string();
                skip(format!("the reference script does not run ({why}); JURIST_PYTHON may name another Python"));
                return;
            }
            Err(error) => {
                skip(format!("no Python ({error}); JURIST_PYTHON may name one"));
                return;
            }
        }
        let reference = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
        assert_eq!(check_reference(&ground, &reference), 13 * 22 * 2);
    }
}

/// Human 1 to 5 in turn; a near judge (off by at most half) and a far one (off by up to two), eight rows a prompt.
fn two_judges(rows: usize) -> String {
    let near = |k: usize| (k % 5) as f64 + 1.0 + [0.5, 0.0, -0.5, 0.25][k % 4];
    let far = |k: usize| (k % 5) as f64 + 1.0 + [2.0, -1.0, 0.0, -2.0, 1.0, 1.5, -1.5][k % 7];
    let row = |k: usize| format!("{},{},{},p{}\n", k % 5 + 1, near(k), far(k), k / 8);
    "human,near,far,prompt\n".to_string() + &(0..rows).map(row).collect::<String>()
}

#[test]
fn two_judges_row_by_row() {
    let ground = Ground::new();
    ground.write("a.csv", two_judges(400));
    ground.write("b.csv", two_judges(80));
    let line = "--human human --judge near --judge2 far --cluster prompt --resamples 2000";
    let found = ground.json(&format!("a.csv {line}"));
    assert_eq!(found["bootstrap"], json!({"resamples": 2000, "resamples_asked": 2000, "level": 0.95, "seed": 0, "clusters": 50}));
    let comparison = &found["comparison"];
    assert_eq!(comparison["n"], 400);
    for (key, better) in [("pearson", 1.0), ("kendall_tau_b", 1.0), ("kappa_quadratic", 1.0), ("rmse", -1.0), ("mae", -1.0)] {
        let difference = &comparison["differences"][key];
        let figure = |at: &str| difference[at].as_f64().unwrap();
        let expected = found[key].as_f64().unwrap() - found["judge2"][key].as_f64().unwrap();
        assert!((figure("estimate") - expected).abs() < 1e-12, "{key}: {difference}");
        assert!(figure("low") * better > 0.0 && figure("high") * better > 0.0, "{key} does not exclude 0: {difference}");
        assert!(difference["bca"]["low"].is_number(), "{key}: {difference}");
    }
    assert!(comparison["sign_flip"]["p"].as_f64().unwrap() < 1e-3, "{comparison}");
    assert!(comparison["pearson"]["williams"]["p"].as_f64().unwrap() < 1e-3, "{comparison}");
    // A judge against itself: no difference, and tests that say so instead of p = 0.
    assert_eq!(found, ground.json(&format!("a.csv {line}")), "the same command, other figures");
    let same = ground.json("a.csv --human human --judge near --judge2 near --resamples 50");
    assert_eq!(same["comparison"]["differences"]["pearson"]["high"], 0.0);
    assert!(same["comparison"]["sign_flip"].is_null() && same["comparison"]["undefined"]["sign_flip"].is_string());

    // Two data sets: Holm doubles the smaller p.
    let both = ground.json(&format!("a.csv b.csv {line}"));
    let p = |k: usize| both["data_sets"][k]["comparison"]["sign_flip"]["p"].as_f64().unwrap();
    let adjusted = both["holm"]["sign_flip"][if p(0) <= p(1) { 0 } else { 1 }].as_f64().unwrap();
    assert!((adjusted - 2.0 * p(0).min(p(1))).abs() < 1e-15, "{both}");
    let table = succeed(ground.agree(&format!("a.csv b.csv {line}"))).out;
    for part in ["near − far", "Williams t", "2000 resamples of 50 clusters of `prompt`", "p after Holm"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
}

#[test]
fn what_a_distribution_repeats_and_lengths_add() {
    let ground = Ground::new();
    let row = |k: usize| {
        let human = k % 5 + 1;
        let probs: Vec<f64> = (1..=5).map(|s| if s == human { 0.8 } else { 0.05 }).collect();
        json!({"score": human, "judge": {"expected": human as f64 * 0.9, "probs": probs, "mass": 0.5 + 0.005 * k as f64},
            "again": human, "response": "x".repeat(k * 13 % 29)})
        .to_string()
            + "\n"
    };
    ground.write("rows.jsonl", (0..100).map(row).collect::<String>());
    let found = ground.json(
        "rows.jsonl --human score --judge judge.expected --probs judge.probs --mass judge.mass --repeats again --length response --resamples 50",
    );
    let near =
        |key: &str, expected: f64| assert!((found[key].as_f64().unwrap() - expected).abs() < 1e-9, "{key}: {}", found[key]);
    near("nll", -(0.8_f64.ln()));
    near("brier", 0.04 + 4.0 * 0.0025);
    near("ece_top_label", 0.2);
    near("score_mass_mean", 0.7475);
    near("score_mass_p5", 0.5 + 0.005 * 4.95);
    assert!(found["rps"].is_number() && found["ece_ordinal"].is_number());
    // Judge and people order the rows alike, so nothing is left for the length to explain; it says so.
    assert!(found["length_bias"].is_null() && found["undefined"]["length_bias"].is_string());
    assert_eq!((&found["repeats"]["n"], &found["repeats"]["exact_repeat_agreement"]), (&json!(100), &json!(1.0)));
    assert_eq!(found["repeats"]["threshold"], 3.0);
    // 2.7 and 3: one row in five flips at the middle of the scale.
    assert_eq!(found["repeats"]["flip_rate"], 0.2);
}

#[test]
fn rows_that_cannot_be_compared_are_counted_or_named() {
    let ground = Ground::new();
    ground.write("a.csv", "h,j\n1,1\n,2\n3,\n4,4\n5,n/a\n2,2\n");
    let found = ground.json("a.csv --human h --judge j --resamples 50");
    assert_eq!((&found["n"], &found["n_unparsed"], &found["n_unlabelled"]), (&json!(3), &json!(2), &json!(1)));
    // Unparsed rows flatter a judge who is perfect where he answers; the midpoint variant does not.
    assert!((found["pearson"].as_f64().unwrap() - 1.0).abs() < 1e-12 && found["pearson_midpoint"].as_f64().unwrap() < 0.95);

    ground.write("bad.csv", "h,j\n1,1\n2,two\n3,4\n");
    ground.write("high.csv", "h,j\n1,1\n7,2\n");
    ground.write("empty.csv", "");
    let mut messages = Messages::new("agree").place(ground.0.path(), "[folder]");
    for (line, code) in [
        ("bad.csv --human h --judge j", 1),
        ("bad.csv --human h --judge x", 1),
        ("high.csv --human h --judge j", 1),
        ("none.csv --human h --judge j", 1),
        ("empty.csv --human h --judge j", 1),
        ("bad.csv --human h --judge j --level 2", 2),
        ("bad.csv --human h --judge j --scale 1..", 1),
    ] {
        let done = ground.fails(line);
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{line}: {}", done.err);
        messages.add(format!("jurist agree {line}"), &done.err);
    }
    messages.check();
    let done = succeed(ground.agree("bad.csv --human h --judge j --skip-bad --json"));
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&found["n"], &found["n_unparsed"]), (&json!(2), &json!(1)));
    assert!(done.err.contains("1 bad cell,"), "{}", done.err);
    assert!(found["spearman_p"].is_null() && found["undefined"]["spearman_p"].is_string());
    // A score off the scale is a bad one.
    ground.write("mixed.csv", "h,j\n1,1\n9,2\n3,4\n4,4\n");
    let found = ground.json("mixed.csv --human h --judge j --skip-bad --resamples 9");
    assert_eq!((&found["n"], &found["n_unlabelled"]), (&json!(3), &json!(1)));
    assert_eq!(ground.json("high.csv --human h --judge j --scale 1..7 --resamples 9")["n"], 2);
}

/// Resamples of few rows, or of few clusters, spread too little: there is no interval, but the exact one of a share, and a gate
/// on one is not passed. The values are there.
#[test]
fn few_rows_have_no_intervals() {
    let ground = Ground::new();
    ground.write("three.csv", "h,j\n3,3\n4,3\n5,5\n");
    let found = ground.json("three.csv --human h --judge j");
    let reason = "an interval by resampling needs at least 10 rows, and there are 3: label 7 more";
    assert!(found["pearson"].as_f64().unwrap() > 0.8 && found["intervals"]["pearson"].is_null(), "{found}");
    assert_eq!((&found["intervals"]["undefined"]["pearson"], &found["bootstrap"]["undefined"]), (&json!(reason), &json!(reason)));
    // scipy.stats.binomtest(2, 3).proportion_ci()
    let exact = &found["intervals"]["exact_agreement"];
    assert!((exact["low"].as_f64().unwrap() - 0.0942993240502461).abs() < 1e-9 && exact["method"] == "exact", "{exact}");
    let done = finish(ground.agree("three.csv --human h --judge j --require ci_low(pearson)>=0.1,pearson>=0.5"));
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains(&format!("pearson has no interval: {reason}")), "{}", done.err);
    assert!(done.out.contains(&format!("no intervals but exact ones of shares: {reason}")), "{}", done.out);
    let pearson = done.out.lines().find(|line| line.starts_with("pearson ")).unwrap();
    assert_eq!(pearson.split_whitespace().collect::<Vec<_>>(), ["pearson", "0.866", "–"]);
    ground.write("prompts.csv", two_judges(72));
    let found = ground.json("prompts.csv --human human --judge near --cluster prompt");
    let reason = "an interval by resampling needs at least 10 clusters, and there are 9: label 1 more";
    assert_eq!(found["intervals"]["undefined"]["pearson"], reason);
}

/// A row that is there twice counts twice: it is told, and refused where rows are named.
#[test]
fn rows_that_are_there_twice_are_told() {
    let ground = Ground::new();
    ground.write("twice.csv", "id,h,j\na,3,3\nb,4,3\na,3,3\n");
    let done = succeed(ground.agree("twice.csv --human h --judge j"));
    assert!(
        done.err.contains("1 row with the `id` of an earlier row (a in twice.csv:4, and in twice.csv:2): each counts"),
        "{}",
        done.err
    );
    let done = finish(ground.agree("twice.csv --human h --judge j --id id"));
    let told = "twice.csv:4: field `id`: the row a is there twice, first in twice.csv:2; leave one of the two out";
    assert!(done.code == Some(1) && done.err.contains(told), "{}", done.err);
    // An `id` of what rows share is no name.
    let done = succeed(ground.agree("twice.csv --human h --judge j --cluster id"));
    assert!(!done.err.contains("earlier row"), "{}", done.err);
}

/// Long files draw fewer resamples and say so.
#[test]
fn long_files_say_what_was_drawn() {
    let ground = Ground::new();
    ground.write("long.csv", two_judges(150_000));
    let line = "long.csv --human human --judge near";
    let table = succeed(ground.agree(line)).out;
    assert!(table.contains("666 resamples of rows, estimate ± z"), "{table}");
    let found = ground.json(line);
    assert_eq!((&found["bootstrap"]["resamples"], &found["bootstrap"]["resamples_asked"]), (&json!(666), &json!(10_000)));
    let interval = &found["intervals"]["pearson"];
    assert_eq!(interval["method"], "normal");
    assert!(interval["bca"].is_null() && interval["bca_undefined"].is_string());
}

/// The rows of `fixtures/data/verdicts.parquet`, which pyarrow 26 wrote in row groups of 50 (zstd; `human` an int8, `far` a
/// float, `judge` a struct with nulls, `by` a map): as objects, without what is null there.
fn verdicts() -> Vec<Value> {
    let row = |k: usize| {
        let human = (k % 5 + 1) as f64;
        let near = human + [0.5, 0.0, -0.5, 0.25][k % 4];
        let far = human + [2.0, -1.0, 0.0, -2.0, 1.0, 1.5, -1.5][k % 7];
        let probs: Vec<f64> = (1..=5).map(|s| if s as f64 == human { 0.8 } else { 0.05 }).collect();
        let mut row =
            json!({"id": format!("r{k}"), "human": human, "far": far, "by": {"far": far}, "prompt": format!("p{}", k / 8)});
        if k % 11 != 10 {
            row["judge"] = json!({"why": "line\n".repeat(k % 3), "expected": near, "probs": probs});
        }
        row
    };
    (0..120).map(row).collect()
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes.as_ref()).unwrap();
    packed.finish().unwrap()
}

/// Another judge's rows may lie in any kind of file, packed or not; what they say is the same.
#[test]
fn the_same_figures_from_every_kind_of_file() {
    let ground = Ground::new();
    let cell =
        |row: &Value, at: &str| row.pointer(at).map_or(String::new(), |v| format!("\"{}\"", v.to_string().trim_matches('"')));
    let line = |row: &Value| ["/human", "/judge/expected", "/far", "/prompt"].map(|at| cell(row, at)).join(",") + "\n";
    let rows = verdicts();
    let csv = "human,judge.expected,far,prompt\n".to_string() + &rows.iter().map(line).collect::<String>();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let mut files = vec![
        ("rows.csv", csv.clone().into_bytes()),
        ("rows.csv.gz", gzip(csv)),
        ("rows.jsonl", lines.clone().into_bytes()),
        ("rows.jsonl.gz", gzip(lines)),
        // The program zstd made it (-12): several kinds of blocks, and a checksum.
        ("rows.jsonl.zst", include_bytes!("../fixtures/data/verdicts.jsonl.zst").to_vec()),
        ("flat.json", json!(rows).to_string().into_bytes()),
        ("rows.json", serde_json::to_vec_pretty(&rows).unwrap()),
        ("rows.json.gz", gzip(serde_json::to_vec_pretty(&rows).unwrap())),
    ];
    let parquet = include_bytes!("../fixtures/data/verdicts.parquet");
    if cfg!(feature = "parquet") {
        files.extend([("rows.parquet", parquet.to_vec()), ("rows.parquet.gz", gzip(parquet))]);
    } else {
        println!("without Parquet; run `cargo test --release --features parquet agree::`");
        ground.write("rows.parquet", parquet);
        let done = ground.fails("rows.parquet --human human --judge far");
        assert!(
            done.code == Some(1) && done.err.contains("build it with `cargo install --path . --features parquet`"),
            "{}",
            done.err
        );
    }
    ground.write("cut.jsonl.zst", &include_bytes!("../fixtures/data/verdicts.jsonl.zst")[..1000]);
    let done = ground.fails("cut.jsonl.zst --human human --judge far");
    assert!(done.code == Some(1) && done.err.contains("cut.jsonl.zst: damaged zstd archive ("), "{}", done.err);
    let mut found = Vec::new();
    for (name, bytes) in files {
        ground.write(name, bytes);
        let flags = "--human human --judge judge.expected --judge2 far --cluster prompt --resamples 50";
        let mut figures = ground.json(&format!("{name} {flags}"));
        figures["file"] = Value::Null;
        found.push((name, figures));
    }
    assert_eq!(
        (&found[0].1["n"], &found[0].1["n_unparsed"], &found[0].1["bootstrap"]["clusters"]),
        (&json!(110), &json!(10), &json!(15))
    );
    for (name, figures) in &found {
        assert_eq!(figures, &found[0].1, "{name} differs from {}", found[0].0);
    }
}

/// Lists, maps and texts of structs, rows by their numbers, and what is left of a file that was damaged.
#[cfg(feature = "parquet")]
#[test]
fn parquet() {
    let ground = Ground::new();
    let parquet = include_bytes!("../fixtures/data/verdicts.parquet");
    ground.write("rows.parquet", parquet);
    ground.write("rows.jsonl", verdicts().iter().map(|row| format!("{row}\n")).collect::<String>());
    let flags = "--human human --judge judge.expected --probs judge.probs --length judge.why --repeats by.far,far --resamples 50";
    let [mut a, mut b] = ["rows.parquet", "rows.jsonl"].map(|file| ground.json(&format!("{file} {flags}")));
    (a["file"], b["file"]) = (Value::Null, Value::Null);
    assert_eq!(a, b);
    assert!(a["length_bias"].is_number() && a["nll"].is_number() && a["repeats"]["n"] == 120, "{a}");

    ground.write("cut.parquet", &parquet[..parquet.len() / 2]);
    let mut page = parquet.to_vec();
    page[4..160].fill(0xee);
    ground.write("page.parquet", page);
    for (line, part) in [
        ("rows.parquet --human human --judge gpt", "no column `gpt`; it has id, human, judge, far, by, prompt"),
        ("rows.parquet --human human --judge judge.score", "no column `judge.score`; it has id, human"),
        ("rows.parquet --human human --judge far.score", "no column `far.score`"),
        ("rows.parquet --human human --judge prompt", "rows.parquet, row 1: field `prompt`: expected a number, found p0"),
        (
            "rows.parquet --human human --judge far --scale 1..4",
            "rows.parquet, row 5: field `human`: the human score 5 is outside",
        ),
        ("cut.parquet --human human --judge far", "cut.parquet: damaged Parquet file"),
        ("page.parquet --human id --judge far", "page.parquet: damaged Parquet file"),
    ] {
        let done = ground.fails(line);
        assert!(done.code == Some(1) && done.err.contains(part) && done.out.is_empty(), "{line}: {}", done.err);
    }
    // What is not asked for is not read: the damaged pages are those of `id`.
    assert_eq!(ground.json("page.parquet --human human --judge far --resamples 9")["n"], 120);
}
