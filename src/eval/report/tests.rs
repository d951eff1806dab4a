//! The page is well formed, holds what it was given, and nothing it was not.

use super::*;
use crate::eval::{Agreement, Grid, Undefined, baselines};
use crate::random::Stream;

fn rows(count: usize, noise: f64, stream: &mut Stream) -> Vec<(f64, f64)> {
    let row = |_| {
        let quality = 1.0 + 4.0 * stream.uniform();
        let human = (0..3).map(|_| (quality + 0.5 * stream.normal()).round().clamp(1.0, 5.0)).sum::<f64>() / 3.0;
        (human, (3.0 + 0.85 * (quality - 3.0) + noise * stream.normal()).clamp(1.0, 5.0))
    };
    (0..count).map(row).collect()
}

fn metric_row(name: &str, role: Role, scores: &[(f64, f64)]) -> MetricRow {
    let (human, judge): (Vec<f64>, Vec<Option<f64>>) = scores.iter().map(|&(h, s)| (h, Some(s))).unzip();
    let grid = Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let agreement = Agreement::measure(&human, &judge, &grid).unwrap();
    let mut row = MetricRow::new(name, role, &agreement);
    assert_eq!(row.figures.len(), MAIN_METRICS.len());
    if let (Role::Judge, Ok(r)) = (role, row.figures[0].value.clone()) {
        row.figures[0].interval = Some((r - 0.021, r + 0.019));
    }
    row
}

/// A report of invented numbers with everything in it.
fn sample() -> Report {
    let stream = &mut Stream::new(11, 0);
    let scores = rows(800, 0.45, stream);
    let group = |name: &str, noise: f64, stream: &mut Stream| {
        let judge = rows(400, noise, stream);
        let constant: Vec<_> = baselines::constant(&[3.0], 400).unwrap().into_iter().zip(&judge).map(|(c, r)| (r.0, c)).collect();
        let rows = vec![
            metric_row("judge, SFT", Role::Judge, &judge),
            metric_row("constant", Role::Baseline, &constant),
            metric_row("response length", Role::Baseline, &rows(400, 9.0, stream)),
            metric_row("word counts", Role::Baseline, &rows(400, 2.6, stream)),
            metric_row("150 annotators", Role::Ceiling, &rows(400, 0.05, stream)),
        ];
        MetricGroup { name: name.into(), rows }
    };
    let groups = [("test", 0.5), ("ood1", 0.55), ("ood2", 0.6), ("ood3", 1.3)].map(|(n, s)| group(n, s, stream)).to_vec();
    let loss = |k: u32| 0.55 + 2.6 * (-f64::from(k) / 90.0).exp();
    let train = (1..=600).map(|k| (f64::from(k), loss(k) + 0.09 * stream.normal())).collect();
    let validation: Vec<(f64, f64)> = (1..=12).map(|k| (f64::from(50 * k), loss(50 * k) + 0.05)).collect();
    let r = (1..=12).map(|k| (f64::from(50 * k), 0.83 - 0.75 * (-f64::from(k) / 3.5).exp())).collect();
    let curve = |name: &str, kind: &str, points| Curve { name: name.into(), kind: kind.into(), points };
    let fact = |name: &str, value: &str| (name.to_string(), value.to_string());
    let headline =
        |label: &str, value: &str, detail: &str| Headline { label: label.into(), value: value.into(), detail: detail.into() };
    let example = |prompt: &str, chain: &str, human, p: [f64; 5], decoded: &str| JudgedExample {
        prompt: prompt.into(),
        chain: chain.into(),
        human,
        expected: p.iter().zip(1..).map(|(p, k)| p * f64::from(k)).sum(),
        decoded: decoded.into(),
        probabilities: ["1", "2", "3", "4", "5"].map(String::from).into_iter().zip(p).collect(),
    };
    let (human, judge): (Vec<f64>, Vec<Option<f64>>) = scores.iter().map(|(h, s)| (h.round(), Some(*s))).unzip();
    let labelled = Agreement::measure(&human, &judge, &Grid::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap()).unwrap();
    let residuals: Vec<f64> = scores.iter().map(|(h, s)| s - h).collect();
    let lengths: Vec<usize> = (0..scores.len()).map(|k| k * 7 % 300).collect();
    let categories: Vec<String> = (0..scores.len()).map(|k| ["maths", "writing", "code"][k % 3].to_string()).collect();
    Report {
        title: "A judge from scratch, trained by SFT".into(),
        subtitle: "Invented numbers: 107,000 parameters, trained for 600 steps on 6,000 rows of the synthetic task.".into(),
        headlines: vec![
            headline("Pearson r, test", "0.92", "word counts 0.35, ceiling 0.95"),
            headline("RMSE", "0.54", "constant 1.29"),
            headline("bias", "−0.01", "judge minus people"),
            headline("rows", "800", "0 without a score"),
        ],
        facts: vec![
            fact("method", "sft"),
            fact("model", "llama, 2 layers of width 64"),
            fact("adapter", "llvmpipe (Vulkan, software)"),
            fact("seed", "0"),
            fact("steps", "600 of 64 rows"),
            fact("time", "1 min 52 s"),
        ],
        charts: Vec::new(),
        curves: vec![
            curve("training", "loss, nats per token", train),
            curve("validation", "loss, nats per token", validation),
            curve("validation", "Pearson r with people", r),
        ],
        scale: vec![1.0, 2.0, 3.0, 4.0, 5.0],
        confusion: labelled.table().cloned(),
        residuals: vec![
            Residuals::by_length(&lengths, &residuals, "words"),
            Residuals::by_category("category", &categories, &residuals),
        ],
        more: MetricTable::of_all(&[("expected score", &labelled, &[])]),
        worst: vec![example("Where it went <wrong>", "", Some(1.0), [0.0, 0.0, 0.1, 0.2, 0.7], "5")],
        scores,
        before: Vec::new(),
        metrics: MetricTable::new(groups),
        examples: vec![
            example(
                "rubric tone major structure minor clarity minor response wording strong , but wording sloppy , sections superb , attitude faulty , judge",
                "tone bad structure ok clarity bad",
                Some(5.0 / 3.0),
                [0.46, 0.41, 0.1, 0.025, 0.005],
                "1",
            ),
            example(
                "rubric depth plain safety major evidence plain response sources not weak , advice good , analysis solid , lunch awful , judge",
                "depth ok safety ok evidence ok",
                Some(5.0),
                [0.003, 0.012, 0.055, 0.23, 0.7],
                "5",
            ),
            example("Please judge <this> & \"that\".\n\nA second paragraph.", "", None, [0.1, 0.15, 0.4, 0.25, 0.1], "3"),
        ],
        notes: vec!["The judge is read by the mean of its distribution over the scores, not by the digit it writes.".into()],
    }
}

#[test]
fn a_full_page() {
    let html = sample().to_html().unwrap();
    for part in [
        "Agreement with people",
        "How the scores fall",
        "Does a score mean",
        "Learning",
        "Examples",
        "The run",
        "Worst disagreements",
        "Where they differ",
        "Labels of people and judge",
        "by category",
        "by length",
        "krippendorff interval",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(html.contains("Where it went &lt;wrong&gt;") && html.contains("to 299 words"));
    assert!(html.contains("Please judge &lt;this&gt; &amp; &quot;that&quot;."));
    assert!(html.contains("all judge scores are the same: Pearson r of constant"));
    for forbidden in ["<script", "http://", "https://", "NaN", "inf\"", "url("] {
        assert!(!html.contains(forbidden), "{forbidden} in the page");
    }
    // Pictures first, and the long table of agreement folded.
    let order = ["<h2>Scores", "<h2>Learning", "<h2>Examples", "<h2>Agreement with people", "<details class=\"card fold\">"];
    assert!(order.map(|part| html.find(part).unwrap()).is_sorted());
    // Every element that is opened is closed.
    for tag in ["svg", "table", "details", "figure", "section", "div", "dl", "li", "p", "text", "main", "title"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // To look at it: REPORT_SAMPLE=/tmp/report.html cargo test a_full_page
    if let Ok(path) = std::env::var("REPORT_SAMPLE") {
        std::fs::write(path, &html).unwrap();
    }
}

#[test]
fn an_empty_report_is_a_page_without_sections() {
    let html = Report { title: "</title><script>alert(1)</script>".into(), ..Report::default() }.to_html().unwrap();
    assert!(!html.contains("<section") && !html.contains("<script") && html.contains("<h1>&lt;&#x2f;title"), "{html}");
}

/// Texts of rows and names are shown as they are: they become no tags, no attributes and no part of the template.
#[test]
fn hostile_texts_stay_texts() {
    let hostile = "<script>alert(1)</script> \" onload=\"x' {{ style }} {% raw %} &amp; \u{0}\u{1b}";
    let shown =
        "&lt;script&gt;alert(1)&lt;&#x2f;script&gt; &quot; onload=&quot;x&#x27; {{ style }} {% raw %} &amp;amp; \u{FFFD}\u{FFFD}";
    let text = || hostile.to_string();
    let mut report = sample();
    (report.title, report.subtitle) = (text(), text());
    report.headlines[0] = Headline { label: text(), value: text(), detail: text() };
    report.facts[0] = (text(), text());
    report.notes = vec![text()];
    report.curves[0].name = text();
    report.curves[1].kind = text();
    report.residuals[1] = Residuals::by_category(&text(), &vec![text(); 3], &[0.5, 1.0, 2.0]);
    report.metrics.columns[0] = text();
    report.metrics.groups[0].name = text();
    report.metrics.groups[0].rows[0].name = text();
    report.worst[0] = JudgedExample {
        probabilities: vec![(text(), 0.5)],
        prompt: text(),
        chain: text(),
        decoded: text(),
        ..JudgedExample::default()
    };
    let html = report.to_html().unwrap();
    // Title, head and cells: 3 + 3 + 2 + 1, curves, residuals, metrics, an example.
    assert!(html.matches(shown).count() > 25, "{}", html.matches(shown).count());
    for forbidden in ["<script", "\" onload", "x' {{", "\u{0}", "\u{1b}"] {
        assert!(!html.contains(forbidden), "{forbidden:?} in the page");
    }
    assert_eq!(html.matches("alert(1)").count(), html.matches("&lt;script&gt;alert(1)").count());
}

#[test]
fn strange_numbers_do_not_break_the_page() {
    let mut report = sample();
    report.curves[0].points = vec![(1.0, f64::NAN), (2.0, f64::INFINITY), (3.0, 2.0), (4.0, 2.0)];
    report.curves[1].points = vec![(1.0, f64::NAN)];
    report.curves[2].points.clear();
    report.scores = vec![(3.0, f64::NAN), (3.0, 3.0)];
    report.examples[0].probabilities[0].1 = f64::NAN;
    report.examples[1].human = Some(f64::NAN);
    report.examples[2].probabilities.clear();
    report.metrics.groups.truncate(1);
    report.metrics.groups[0].rows.truncate(1);
    report.metrics.groups[0].rows[0].figures = vec![Err(Undefined::ConstantHuman).into()];
    let html = report.to_html().unwrap();
    assert!(!html.contains("=\"NaN") && !html.contains("=\"inf") && !html.contains("MNaN"));
    report.scale = vec![2.0, 2.0];
    assert!(!report.to_html().unwrap().contains("How the scores fall"));
}

#[test]
fn residuals_in_groups() {
    let by_length = Residuals::by_length(&[5, 5, 5, 9], &[1.0, 2.0, 3.0, -1.0], "words");
    let names: Vec<&str> = by_length.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["5 to 5 words", "9 to 9 words"]);
    assert_eq!((by_length.groups[0].mean, by_length.groups[0].n, by_length.groups[1].standard_error), (2.0, 3, None));
    let text = |x: &str| x.to_string();
    let by_category = Residuals::by_category("source", &[text("b"), text("a"), text("b")], &[1.0, 0.5, 3.0]);
    assert_eq!(by_category.groups[0], ResidualGroup { name: text("a"), n: 1, mean: 0.5, standard_error: None });
    assert_eq!(by_category.groups[1].standard_error, Some(1.0));
    assert!(Residuals::by_length(&[], &[], "words").groups.is_empty());
}
