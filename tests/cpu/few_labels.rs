//! `jurist calibrate` and `jurist estimate` on columns, as somebody meets them who has a judge and few labels. No GPU is needed.

use std::process::Command;

use crate::cli::{finish, jurist, lines, succeed};
use crate::messages::Messages;
use jurist::random::Stream;
use serde_json::{Value, json};

/// A folder to write files in, and the program run there.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        Ground(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn jurist(&self, line: &str) -> Command {
        let mut command = jurist(&line.split_whitespace().collect::<Vec<_>>());
        command.current_dir(self.0.path());
        command
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&succeed(self.jurist(&format!("{line} --json"))).out).unwrap()
    }
}

/// Rows of two systems on the same prompts, `labelled` prompts with people's score. The judge is too generous by a point. System
/// b is better by about half a point.
fn answers(prompts: usize, labelled: usize, seed: u64) -> String {
    let mut stream = Stream::new(seed, 25);
    let mut text = "system,prompt,kind,people,judge\n".to_string();
    for prompt in 0..prompts {
        let hard = stream.normal();
        for (system, better) in [("a", 0.0), ("b", 0.5)] {
            let human = (2.6 + better + 0.8 * hard + 0.5 * stream.normal()).round().clamp(1.0, 5.0);
            let judge = (human + 1.0 + 0.5 * stream.normal()).clamp(1.0, 5.0);
            let people = if prompt < labelled { human.to_string() } else { String::new() };
            let kind = if prompt % 8 == 0 { "rare" } else { "usual" };
            text += &format!("{system},p{prompt},{kind},{people},{judge:.3}\n");
        }
    }
    text
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_calibration_is_fitted_kept_and_applied() {
    let ground = Ground::new();
    ground.write("rows.csv", answers(300, 200, 1));
    let line = "calibrate --input rows.csv --human people --judge judge";
    let done = succeed(ground.jurist(&format!("{line} --output kept.json")));
    for part in ["rows.csv: 400 labelled rows", "isotonic", ", taken", "bias, judge minus people", "interval: calibrated score ±"]
    {
        assert!(done.out.contains(part), "{part} is missing in\n{}", done.out);
    }
    assert!(
        done.err.contains("200 rows without people's score left out") && done.err.contains("kept in kept.json"),
        "{}",
        done.err
    );
    let found = ground.json(line);
    let held_out = &found["held_out"];
    assert!(number(&held_out["bias"]["judge"]) > 0.7 && number(&held_out["bias"]["calibrated"]).abs() < 0.2, "{held_out}");
    assert!(number(&held_out["rmse"]["calibrated"]) < 0.8 * number(&held_out["rmse"]["judge"]), "{held_out}");
    assert_eq!((&found["interval_units"], &found["interval_units_needed"]), (&json!(200), &json!(9)));
    let kept: Value = serde_json::from_str(&ground.read("kept.json")).unwrap();
    for key in ["map", "level", "half_width", "only_values", "rows"] {
        assert_eq!(kept[key], found["calibration"][key], "{key}");
    }
    // Applied: the rows as they were, with one column more. Nine of ten new rows are inside.
    ground.write("new.csv", answers(500, 500, 2));
    let applied = lines(&succeed(ground.jurist("calibrate --apply kept.json --input new.csv --judge judge")).out);
    let inside = |row: &&Value| {
        let people =
            number(&row["people"].as_str().and_then(|text| text.parse().ok()).map_or(row["people"].clone(), |x: f64| json!(x)));
        (number(&row["calibrated"]["low"])..=number(&row["calibrated"]["high"])).contains(&people)
    };
    let share = applied.iter().filter(inside).count() as f64 / applied.len() as f64;
    assert!(applied.len() == 1000 && share > 0.87 && share < 0.98, "{share}");
    assert_eq!(applied[0]["calibrated"]["level"], 0.9);
    // An earlier calibration is replaced, another file is not.
    succeed(ground.jurist(&format!("{line} --output kept.json --level 0.8")));
    ground.write("notes.json", "{\"mine\": 1}");
    let done = finish(ground.jurist(&format!("{line} --output notes.json")));
    assert!(done.code == Some(1) && done.err.contains("jurist did not write it") && done.out.is_empty(), "{}", done.err);
    assert_eq!(ground.read("notes.json"), "{\"mine\": 1}");
}

#[test]
fn clusters_and_kinds() {
    let ground = Ground::new();
    ground.write("rows.csv", answers(300, 200, 3));
    let line = "calibrate --input rows.csv --human people --judge judge --cluster prompt --group kind";
    let found = ground.json(line);
    assert_eq!((&found["unit"], &found["interval_units"]), (&json!("cluster"), &json!(100)));
    assert_eq!(found["calibration"]["rows"], json!({"map": 200, "interval": 200}));
    let groups = &found["group_interval_units"];
    assert_eq!(number(&groups["rare"]) + number(&groups["usual"]), 100.0);
    assert!(found["calibration"]["groups"]["half_widths"]["rare"].is_number(), "{found}");
    // A kind with few labels gets the whole scale, and is named.
    let done = succeed(ground.jurist(&format!("{line} --level 0.97 --output kept.json")));
    assert!(done.err.contains("groups with fewer than 33 clusters for it: rare ("), "{}", done.err);
    let lines = lines(&succeed(ground.jurist("calibrate --apply kept.json --input rows.csv --judge judge")).out);
    assert_eq!((&lines[0]["calibrated"]["low"], &lines[0]["calibrated"]["group"]), (&json!(1.0), &json!("rare")));
    assert!(lines[2]["calibrated"]["low"] != lines[2]["calibrated"]["high"] && lines[2]["calibrated"]["group"] == "usual");
    assert!(number(&lines[2]["calibrated"]["high"]) - number(&lines[2]["calibrated"]["low"]) < 4.0);
}

/// The judge's column may lie in another object, and its scores may be words.
#[test]
fn json_rows_and_words() {
    let ground = Ground::new();
    let words = ["bad", "ok", "good"];
    let row = |k: usize| json!({"judge": {"expected": words[k * 7 % 3]}, "people": words[(k * 7 + usize::from(k.is_multiple_of(4))) % 3]});
    ground.write("rows.jsonl", (0..60).map(|k| row(k).to_string() + "\n").collect::<String>());
    let line = "calibrate --input rows.jsonl --human people --judge judge.expected --scale bad,ok,good=0,1,2";
    succeed(ground.jurist(&format!("{line} --map affine --output kept.json")));
    let applied =
        succeed(ground.jurist("calibrate --apply kept.json --input rows.jsonl --judge judge.expected --column people_would"));
    let applied = lines(&applied.out);
    assert!(number(&applied[0]["people_would"]["score"]) < number(&applied[2]["people_would"]["score"]), "{}", applied[2]);
}

#[test]
fn estimates_of_one_system_and_two() {
    let ground = Ground::new();
    ground.write("rows.csv", answers(600, 60, 4));
    let truth = |system: &str| {
        let all = answers(600, 600, 4);
        let rows = all.lines().filter(|line| line.starts_with(&format!("{system},")));
        let scores: Vec<f64> = rows.map(|line| line.split(',').nth(3).unwrap().parse().unwrap()).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    let line = "estimate rows.csv --human people --judge judge --by system --cluster prompt";
    let found = ground.json(line);
    let (difference, systems) = (&found["difference"], &found["systems"]);
    let holds = |figure: &Value, truth: f64| number(&figure["low"]) < truth && truth < number(&figure["high"]);
    for (k, system) in ["a", "b"].iter().enumerate() {
        let found = &systems[k];
        assert_eq!(
            (&found["systems"], &found["labelled"], &found["unlabelled"]),
            (&json!([system]), &json!([60]), &json!([540]))
        );
        assert!(holds(&found["ppi_plus"], truth(system)) && !holds(&found["judge"], truth(system)), "{found}");
        let width = |name: &str| number(&found[name]["high"]) - number(&found[name]["low"]);
        assert!(width("ppi_plus") < width("labels") && number(&found["worth_labels"]) > 60.0, "{found}");
    }
    assert!(
        holds(&difference["ppi_plus"], truth("a") - truth("b")) && number(&difference["ppi_plus"]["high"]) < 0.0,
        "{difference}"
    );
    // The same from two files, and from a file of labels and one of the rest.
    let all = answers(600, 60, 4);
    let of = |keep: &dyn Fn(&str) -> bool| {
        let (head, rows) = all.split_once('\n').unwrap();
        format!("{head}\n{}", rows.lines().filter(|row| keep(row)).map(|row| row.to_string() + "\n").collect::<String>())
    };
    ground.write("a.csv", of(&|row| row.starts_with("a,")));
    ground.write("b.csv", of(&|row| row.starts_with("b,")));
    let versus = ground.json("estimate a.csv --versus b.csv --human people --judge judge --cluster prompt");
    let same = |a: &Value, b: &Value| assert!((number(a) - number(b)).abs() < 1e-12, "{a} {b}");
    same(&versus["difference"]["ppi_plus"]["low"], &difference["ppi_plus"]["low"]);
    ground.write("labels.csv", of(&|row| row.starts_with("a,") && !row.contains(",,")));
    ground.write("rest.csv", of(&|row| row.starts_with("a,") && row.contains(",,")));
    let parts = ground.json("estimate labels.csv rest.csv --human people --judge judge --cluster prompt");
    same(&parts["ppi_plus"]["low"], &systems[0]["ppi_plus"]["low"]);
    let table = succeed(ground.jurist(line)).out;
    for part in
        ["a minus b", "labels alone", "judge alone", "PPI++, judge's weight", "as precise as", "rows of one `prompt` being alike"]
    {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    // The chance of being labelled is as good as the weights that follow from it.
    let chance = |line: &str| {
        let mut cells = line.split(',');
        let (labelled, chance) = (cells.nth(3).is_some_and(|people| !people.is_empty()), 0.1);
        let weight = if labelled { 1.0 / chance } else { 1.0 / (1.0 - chance) };
        format!("{line},{}\n", if line.starts_with("system") { "w,chance".into() } else { format!("{weight},{chance}") })
    };
    ground.write("chances.csv", ground.read("a.csv").lines().map(chance).collect::<String>());
    let line = "estimate chances.csv --human people --judge judge";
    let (one, other) = (ground.json(&format!("{line} --weight w")), ground.json(&format!("{line} --propensity chance")));
    assert_eq!(one["ppi_plus"], other["ppi_plus"]);
    // Weights: those of all rows the same change nothing but the last digits.
    let weighted = |row: &str| format!("{row},{}\n", if row.starts_with("system") { "w" } else { "2.5" });
    ground.write("weighted.csv", ground.read("a.csv").lines().map(weighted).collect::<String>());
    let weighted = ground.json("estimate weighted.csv --human people --judge judge --weight w");
    let plain = ground.json("estimate a.csv --human people --judge judge");
    assert!((number(&weighted["ppi_plus"]["low"]) - number(&plain["ppi_plus"]["low"])).abs() < 1e-9);
}

#[test]
fn learning_curves_and_simulations_print_and_draw() {
    let ground = Ground::new();
    ground.write("rows.csv", answers(250, 250, 5));
    let done = succeed(
        ground.jurist("calibrate --input rows.csv --human people --judge judge --learning-curve 10,100 --draws 20 --plot a.svg"),
    );
    assert!(done.out.contains("20 draws of each number of labels") && done.out.contains(" of 20)"), "{}", done.out);
    let found = ground.json("calibrate --input rows.csv --human people --judge judge --learning-curve --draws 5");
    assert_eq!(
        found["points"].as_array().unwrap().iter().map(|point| point["labels"].clone()).collect::<Vec<_>>(),
        [10, 30, 100, 300]
    );
    let line = "estimate rows.csv --human people --judge judge --simulate 50 --draws 100";
    let done = succeed(ground.jurist(&format!("{line} --plot b.svg")));
    assert!(done.out.contains("100 draws each of 500 rows") && done.out.contains("judge alone"), "{}", done.out);
    let point = &ground.json(line)["points"][0];
    assert!(number(&point["ppi_plus"]["coverage"]) > 0.85 && number(&point["judge"]["coverage"]) < 0.1, "{point}");
    for image in ["a.svg", "b.svg"] {
        let image = ground.read(image);
        assert!(image.starts_with("<svg xmlns=") && image.contains("promised") && !image.contains("NaN"));
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let ground = Ground::new();
    ground.write("rows.csv", answers(40, 40, 6));
    ground.write("few.csv", answers(40, 2, 6));
    ground.write("flat.csv", "h,j\n".to_string() + &"3,4\n4,4\n".repeat(20));
    ground.write("same.csv", "h,j\n".to_string() + &"3,4\n3,2\n,2.5\n,3.5\n".repeat(20));
    ground.write("high.csv", "h,j\n1,1\n7,2\n");
    ground.write("bad.csv", "h,j,w\n1,1,1\n2,two,1\n3,3,-1\n");
    ground.write("none.csv", "h,j\n1,\n2,\n");
    ground.write("words.csv", "h,j\npass,4\n");
    ground.write("twice.csv", "id,h,j\na,3,4\nb,2,3\na,3,4\n");
    ground.write("once.csv", "id,h,j\na,3,4\nb,2,3\n");
    ground.write("again.csv", "id,h,j\nc,,4\nb,,3\n");
    // Many labelled clusters, and one unlabelled: how unlabelled ones differ is not seen.
    let alike =
        (0..60).map(|k| if k < 30 { format!("{},{},p{k}\n", k % 5 + 1, k % 3 + 2) } else { format!(",{},q\n", k % 4 + 1) });
    ground.write("alike.csv", "h,j,c\n".to_string() + &alike.collect::<String>());
    ground.write("other.json", "{}");
    ground.write(
        "broken.json",
        "{\"jurist_calibration\": 1, \"scale\": \"1..5\", \"map\": {\"kind\": \"identity\"}, \"level\": 9, \
        \"only_values\": true, \"half_width\": 1, \"rows\": {\"map\": 1, \"interval\": 1}}",
    );
    succeed(ground.jurist("calibrate --input rows.csv --human people --judge judge --output good.json"));
    // What the fit takes for empty, --apply does too.
    ground.write("empty.csv", "judge\n3\nNaN\n\nn/a\n");
    let applied = lines(&succeed(ground.jurist("calibrate --apply good.json --input empty.csv --judge judge")).out);
    assert!(applied[0]["calibrated"].is_object() && applied[1..].iter().all(|row| row["calibrated"].is_null()), "{applied:?}");
    let mut messages = Messages::new("few-labels").place(ground.0.path(), "[folder]");
    for (line, code) in [
        ("calibrate --input few.csv --human people --judge judge", 1),
        ("calibrate --input flat.csv --human h --judge j", 1),
        ("calibrate --input same.csv --human h --judge j", 1),
        ("calibrate --input high.csv --human h --judge j", 1),
        ("calibrate --input bad.csv --human h --judge j", 1),
        ("calibrate --input none.csv --human h --judge j", 1),
        ("calibrate --input words.csv --human h --judge j", 1),
        ("calibrate --input twice.csv --human h --judge j --id id", 1),
        ("calibrate --input rows.csv --human people --judge x", 1),
        ("calibrate --input rows.csv --human people --judge judge --level 90", 2),
        ("calibrate --input rows.csv --human people --judge judge --interval-share 1", 2),
        ("calibrate --input rows.csv --human people --judge judge --interval-share 0.99", 1),
        ("calibrate --input rows.csv --human people --judge judge --chains 3", 2),
        ("calibrate --input rows.csv --human people --judge judge --output rows.csv", 1),
        ("calibrate --input rows.csv --human people --judge judge --learning-curve 75", 1),
        ("calibrate --input rows.csv --human people --judge judge --map cubic", 2),
        ("calibrate --input rows.csv --human people --judge judge --plot a.svg", 2),
        ("calibrate --input rows.csv --human people --judge judge --draws 3", 2),
        ("calibrate --input rows.csv --human people --judge judge --column x", 2),
        ("calibrate --input rows.csv --human people --judge judge --learning-curve 6 --cluster prompt", 1),
        ("calibrate --input rows.csv --judge judge", 2),
        ("calibrate --apply other.json --input rows.csv --judge judge", 1),
        ("calibrate --apply broken.json --input rows.csv --judge judge", 1),
        ("calibrate --apply good.json --input rows.csv --judge x", 1),
        ("calibrate --model none --input rows.csv", 1),
        ("estimate few.csv --human people --judge judge", 1),
        ("estimate rows.csv --human people --judge judge", 1),
        ("estimate few.csv --human people --judge judge --by prompt", 1),
        ("estimate few.csv --human people --judge judge --by system", 1),
        ("estimate bad.csv --human h --judge j --weight w --skip-bad", 1),
        ("estimate high.csv --human h --judge j", 1),
        ("estimate few.csv ./few.csv --human people --judge judge", 2),
        ("estimate once.csv again.csv --human h --judge j --id id", 1),
        ("estimate alike.csv --human h --judge j --cluster c", 1),
        ("estimate few.csv --human people --judge judge --propensity judge", 1),
        ("estimate rows.csv --human people --judge judge --simulate 6 --cluster prompt", 1),
        ("estimate same.csv --human h --judge j --judge-weight 2", 2),
        ("estimate same.csv --human h --judge j --level 0", 2),
        ("estimate rows.csv --human people --judge judge --simulate 79", 1),
    ] {
        let done = finish(ground.jurist(line));
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{line}: {}", done.err);
        messages.add(format!("jurist {line}"), &done.err);
    }
    messages.check();
    // Weights that nobody has. A judge on another scale has its own mean, and PPI no interval within people's.
    let other =
        (0..60).map(|k| format!("{},{}\n", if k < 20 { (k % 3 + 3).to_string() } else { String::new() }, 0.1 * (k % 7) as f64));
    ground.write("scaled.csv", "h,j\n".to_string() + &other.collect::<String>());
    let found = ground.json("estimate scaled.csv --human h --judge j");
    assert!(number(&found["judge"]["high"]) < 1.0 && found["labels"]["low"].is_number(), "{found}");
    let far = (0..60).map(|k| match k {
        0..20 => format!("{},{}\n", k % 3 + 3, 0.1 * (k % 7) as f64),
        _ => format!(",{}\n", 9.0 + 0.1 * (k % 7) as f64),
    });
    ground.write("far.csv", "h,j\n".to_string() + &far.collect::<String>());
    let table = succeed(ground.jurist("estimate far.csv --human h --judge j")).out;
    assert!(
        table.contains("– the whole interval lies outside of the scale") && table.contains(": PPI, judge's weight 1"),
        "{table}"
    );
    // Figures that do not exist are null with the reason, and the others are there.
    let found = ground.json("estimate same.csv --human h --judge j");
    assert!(found["labels"].is_null() && found["undefined"]["ppi_plus"] == "all human scores are the same", "{found}");
    let table = succeed(ground.jurist("estimate same.csv --human h --judge j")).out;
    assert!(table.contains("– all human scores are the same"), "{table}");
    // Few labels, and an interval that is the whole scale.
    ground.write("ten.csv", answers(5, 5, 6));
    let done = succeed(ground.jurist("calibrate --input ten.csv --human people --judge judge"));
    assert!(
        done.err.contains("10 labelled rows cannot set an interval of level 0.9, so it is the whole scale: 9 are needed"),
        "{}",
        done.err
    );
    assert!(done.err.contains("18 in all") && done.out.contains("interval: the whole scale"), "{}\n{}", done.err, done.out);
    // Labels that were not drawn at random.
    let rows = (0..200).map(|k| {
        format!(
            "{},{}\n",
            if k < 40 { (k % 2 + 4).to_string() } else { String::new() },
            if k < 40 { 4.0 } else { 2.0 } + 0.01 * k as f64
        )
    });
    ground.write("picked.csv", "h,j\n".to_string() + &rows.collect::<String>());
    let done = succeed(ground.jurist("estimate picked.csv --human h --judge j"));
    assert!(done.err.contains("were not drawn at random from all, and no interval below holds"), "{}", done.err);
}
