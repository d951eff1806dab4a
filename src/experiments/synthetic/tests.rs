//! The task against its expected statistics. With 800 items per split, a correlation near .9 has a sampling error of .01, one
//! near .3 of .03.

use super::*;
use std::collections::{HashMap, HashSet};

const ITEMS: usize = 800;

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 { x.iter().zip(y).map(|(p, q)| (p - mx) * (q - my)).sum() };
    product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
}

fn rmse(a: &[f64], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

fn scores(items: &[Item]) -> Vec<f64> {
    items.iter().map(|i| i.score).collect()
}

/// The first annotator's score and the mean of the others': over many items their correlation is what one person reaches.
fn one_against_rest(item: &Item) -> (f64, f64) {
    let (first, rest) = item.labels.split_first().unwrap();
    (f64::from(*first), rest.iter().map(|&l| f64::from(l)).sum::<f64>() / rest.len() as f64)
}

/// Statistics of one test split: ceiling r, ceiling RMSE, one annotator r, word counts r, length r, constant RMSE.
fn statistics(task: &SyntheticTask, train: &[Item], split: Split) -> [f64; 6] {
    let items = task.items(split, ITEMS);
    let human = scores(&items);
    let ceiling: Vec<f64> = (0..ITEMS).map(|n| task.ceiling(split, n)).collect();
    let (one, rest): (Vec<f64>, Vec<f64>) = items.iter().map(one_against_rest).unzip();
    let counts = word_count_baseline(train, &items).unwrap();
    let length: Vec<f64> = items.iter().map(|i| (i.response_length() as f64).ln()).collect();
    let constant = vec![scores(train).iter().sum::<f64>() / train.len() as f64; ITEMS];
    [
        pearson(&human, &ceiling),
        rmse(&human, &ceiling),
        pearson(&one, &rest),
        pearson(&human, &counts),
        pearson(&human, &length),
        rmse(&human, &constant),
    ]
}

fn check(version: TaskVersion, expected: [[Option<f64>; 6]; 4]) {
    let task = SyntheticTask::new(version, 0);
    let train = task.items(Split::Train, 8000);
    // Sampling error of 800 items, in the order of `statistics`: about two standard errors of a difference.
    let tolerance = [0.02, 0.04, 0.04, 0.09, 0.11, 0.08];
    for (split, want) in Split::TESTS.into_iter().zip(expected) {
        let found = statistics(&task, &train, split);
        println!(
            "{version:?} {:6} ceiling r {:.3} RMSE {:.3}, one annotator {:.2}, word counts {:.2}, length {:.2}, constant RMSE {:.3}",
            split.name(),
            found[0],
            found[1],
            found[2],
            found[3],
            found[4],
            found[5]
        );
        for ((found, want), tolerance) in found.into_iter().zip(want).zip(tolerance) {
            if let Some(want) = want {
                assert!((found - want).abs() < tolerance, "{version:?} {}: {found:.3}, expected {want}", split.name());
            }
        }
    }
}

#[test]
fn base_version_has_the_expected_statistics() {
    check(
        TaskVersion::BASE,
        [
            [0.947, 0.417, 0.79, 0.35, 0.08, 1.295].map(Some),
            [0.948, 0.397, 0.80, 0.49, 0.08, 1.242].map(Some),
            [0.957, 0.353, 0.84, 0.57, 0.20, 1.218].map(Some),
            [0.952, 0.403, 0.81, 0.30, 0.09, 1.320].map(Some),
        ],
    );
}

#[test]
fn hard_version_has_the_expected_statistics() {
    let row = |ceiling, counts, length| [Some(ceiling), None, None, Some(counts), Some(length), None];
    check(TaskVersion::HARD, [row(0.952, 0.27, 0.08), row(0.955, 0.40, 0.15), row(0.950, 0.35, 0.11), row(0.945, 0.20, 0.13)]);
}

#[test]
fn training_labels_are_flat() {
    let items = SyntheticTask::new(TaskVersion::BASE, 0).items(Split::Train, 20_000);
    for (label, percent) in (1..=5).zip([21.0, 18.0, 21.0, 19.0, 21.0]) {
        let share = 100.0 * items.iter().filter(|i| i.labels[0] == label).count() as f64 / items.len() as f64;
        println!("label {label}: {share:.1} %");
        assert!((share - percent).abs() < 2.0, "label {label}: {share:.1} %, expected {percent} %");
    }
    let accuracy = items.iter().map(|i| verdicts_right(&i.chain, i)).sum::<f64>() / items.len() as f64;
    println!("teacher verdicts right: {accuracy:.3}");
    assert!((accuracy - 0.861).abs() < 0.01, "{accuracy}");
}

#[test]
fn prompts_have_the_expected_lengths() {
    let mean_length = |version, split| {
        let items = SyntheticTask::new(version, 0).items(split, 2000);
        items.iter().map(|i| i.prompt.split(' ').count() + 1).sum::<usize>() as f64 / items.len() as f64
    };
    for (version, lengths) in [(TaskVersion::BASE, [24.0, 31.0, 40.0, 34.0]), (TaskVersion::HARD, [28.0, 38.0, 50.0, 38.0])] {
        for (split, expected) in Split::TESTS.into_iter().zip(lengths) {
            let found = mean_length(version, split);
            println!("{version:?} {}: {found:.1}", split.name());
            assert!((found - expected).abs() < 1.5, "{version:?} {}: {found:.1}, expected {expected}", split.name());
        }
    }
}

#[test]
fn every_word_is_in_the_vocabulary_and_rows_are_complete() {
    for version in ["E", "H", "Q", "L", "H10", "E100"].map(|name| name.parse::<TaskVersion>().unwrap()) {
        let words: HashSet<&str> = vocabulary(version.scale).into_iter().collect();
        for split in Split::ALL {
            for item in SyntheticTask::new(version, 3).items(split, 100) {
                assert!(item.prompt.split(' ').chain(item.chain.split(' ')).all(|w| words.contains(w)));
                assert!(item.prompt.starts_with("rubric ") && item.prompt.ends_with(" judge"));
                assert_eq!(item.labels.len(), if split == Split::Train { 1 } else { 3 });
                assert_eq!(verdicts_right(&item.true_chain(), &item), 1.0);
                assert!(item.true_chain().split(' ').count() <= version.chain_limit(), "{}", item.true_chain());
                let row = item.to_row();
                let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
                assert_eq!(keys, ["id", "prompt", "chain", "score", "quality", "verdicts", "labels", "split"]);
            }
        }
    }
}

/// Reading the prompt by rules gives the true verdict of every criterion that it mentions.
#[test]
fn prompts_say_what_is_true() {
    let criterion_of: HashMap<&str, &str> =
        words::TOPICS.iter().zip(words::CRITERIA).flat_map(|(topics, c)| topics.iter().map(move |t| (*t, c))).collect();
    for version in [TaskVersion::BASE, TaskVersion::HARD] {
        for item in SyntheticTask::new(version, 1).items(Split::Test, 300) {
            let response = item.prompt.split_once(" response ").unwrap().1;
            let mut read: HashMap<&str, bool> = HashMap::new();
            for segment in response.trim_end_matches("judge").split(',') {
                let words: Vec<&str> = segment.split_whitespace().filter(|w| *w != "but").collect();
                if let (Some(topic), Some(quality)) = (words.first(), words.last())
                    && let Some(criterion) = criterion_of.get(topic)
                {
                    read.insert(criterion, words::PRAISE.contains(quality) != words.contains(&"not"));
                }
            }
            for v in &item.verdicts {
                assert_eq!(read.get(v.criterion).copied().unwrap_or(false), v.met, "{}", item.prompt);
            }
        }
    }
}

/// The quoting version differs from the hard one only in the chains, and only by what they quote.
#[test]
fn a_quoting_teacher_says_what_a_short_one_says() {
    let (short, quoting) = (SyntheticTask::new(TaskVersion::HARD, 4), SyntheticTask::new(TaskVersion::QUOTING, 4));
    let mut lengths = [0, 0];
    for split in Split::ALL {
        for (h, q) in short.items(split, 200).iter().zip(quoting.items(split, 200)) {
            assert_eq!((&h.prompt, &h.labels, &h.verdicts), (&q.prompt, &q.labels, &q.verdicts));
            assert_eq!(verdicts_right(&h.chain, h), verdicts_right(&q.chain, &q), "{} | {}", h.chain, q.chain);
            let response = h.prompt.split_once(" response").unwrap().1;
            for quote in q.quotes.as_ref().unwrap() {
                assert!(quote == "not here" || response.contains(&format!(" {quote} ,")), "{quote} | {response}");
                assert!(q.chain.contains(quote.as_str()));
            }
            let verdicts: Vec<&str> = q.chain.split(' ').filter(|w| is_criterion(w) || matches!(*w, "ok" | "bad")).collect();
            assert_eq!(verdicts.join(" "), h.chain);
            lengths = [lengths[0] + h.chain.split(' ').count(), lengths[1] + q.chain.split(' ').count()];
        }
    }
    let times = lengths[1] as f64 / lengths[0] as f64;
    println!("chains are {times:.2} times as long");
    assert!((3.0..4.0).contains(&times), "{times}");
}

/// A finer scale changes the scores alone: the same prompts, chains and readings, with less lost by rounding.
#[test]
fn finer_scales_score_the_same_items() {
    let version = |name: &str| SyntheticTask::new(name.parse().unwrap(), 6);
    for grammar in ["E", "H"] {
        let coarse = version(grammar).items(Split::Test, ITEMS);
        let mut shares = vec![pearson(&scores(&coarse), &coarse.iter().map(|i| i.quality).collect::<Vec<_>>())];
        for (name, low, step) in [("10", 1, 1), ("100", 0, 5)] {
            let fine = version(&format!("{grammar}{name}")).items(Split::Test, ITEMS);
            for (c, f) in coarse.iter().zip(&fine) {
                assert_eq!((&c.prompt, &c.chain, &c.verdicts), (&f.prompt, &f.chain, &f.verdicts));
                assert!(f.labels.iter().all(|label| (label - low) % step == 0));
            }
            let different: HashSet<u8> = fine.iter().flat_map(|i| i.labels.clone()).collect();
            assert_eq!(different.len(), if name == "10" { 10 } else { 21 });
            let with_coarse = pearson(&scores(&coarse), &scores(&fine));
            assert!(with_coarse > 0.98, "{grammar}{name}: {with_coarse}");
            shares.push(pearson(&scores(&fine), &fine.iter().map(|i| i.quality).collect::<Vec<_>>()));
        }
        println!("{grammar}: correlation of label and quality on 1..5, 1..10, 0..100: {shares:.3?}");
        assert!(shares[2] > shares[0], "{shares:?}");
    }
}

#[test]
fn training_with_all_lengths_has_chains_as_long_as_those_of_long_rubrics() {
    let task = SyntheticTask::new("L".parse().unwrap(), 7);
    let train = task.items(Split::Train, 5000);
    for length in 3..=7 {
        let share = train.iter().filter(|i| i.verdicts.len() == length).count() as f64 / train.len() as f64;
        assert!((share - 0.2).abs() < 0.03, "{length} criteria: {share}");
    }
    let together = |item: &Item| ["accuracy", "clarity"].iter().all(|c| item.verdicts.iter().any(|v| v.criterion == *c));
    assert!(!train.iter().any(together));
    assert!(task.items(Split::Ood1, 300).iter().all(together));
    assert!(task.items(Split::Ood2, 300).iter().all(|i| i.verdicts.len() >= 6));
}

#[test]
fn items_do_not_depend_on_each_other() {
    let task = SyntheticTask::new(TaskVersion::HARD, 42);
    assert_eq!(task.item(Split::Ood2, 7), task.items(Split::Ood2, 20)[7]);
    assert_ne!(task.item(Split::Test, 7).prompt, task.item(Split::Validation, 7).prompt);
    assert_ne!(task.item(Split::Test, 7).prompt, SyntheticTask::new(TaskVersion::HARD, 43).item(Split::Test, 7).prompt);
    // The exact words of one item: a change of the task shows here.
    println!("{}", task.item(Split::Test, 0).to_row());
}

#[test]
fn names_are_read_back() {
    for split in Split::ALL {
        assert_eq!(split.name().parse::<Split>().unwrap(), split);
    }
    assert_eq!("h".parse::<TaskVersion>().unwrap(), TaskVersion::HARD);
    let message = "x".parse::<TaskVersion>().unwrap_err().to_string();
    assert!(message.contains("\"x\"") && message.contains("expected"), "{message}");
    assert!(word_count_baseline(&[], &[]).is_err());
}

#[test]
fn verdicts_in_chains_are_checked() {
    let item = SyntheticTask::new(TaskVersion::BASE, 5).item(Split::Test, 1);
    assert_eq!(verdicts_right("", &item), 0.0);
    let first = &item.verdicts[0];
    let wrong = if first.met { "bad" } else { "ok" };
    let corrected = format!("{} {wrong} {}", first.criterion, item.true_chain());
    assert_eq!(verdicts_right(&corrected, &item), 1.0);
    let apart = item.true_chain().replacen(' ', " major ", 1);
    assert!(verdicts_right(&apart, &item) < 1.0, "only a quoting chain puts words before its verdict");

    let item = SyntheticTask::new(TaskVersion::QUOTING, 5).item(Split::Test, 1);
    let without = |word: &str, times: usize| item.true_chain().replacen(&format!(" {word}"), "", times);
    let first = verdict_word(item.verdicts[0].met);
    let unfinished = without(first, 1);
    let judged = item.verdicts.len() - 1;
    assert_eq!(verdicts_right(&unfinished, &item), judged as f64 / item.verdicts.len() as f64, "{unfinished}");
}
