//! Properties of estimates, and their coverage by simulation. The figures of ppi-python are compared in
//! `eval/few_labels_tests.rs`.

use super::*;
use crate::random::Stream;

/// Rows of a population: people's score around the judge's, which is too high by `bias` and noisy. Rows of one cluster share a
/// part of people's score and of the judge's. Labels are given by cluster.
struct Population {
    clusters: usize,
    size: usize,
    labelled: usize,
    bias: f64,
}

#[derive(Default)]
struct Drawn {
    human: Vec<Option<f64>>,
    judge: Vec<f64>,
    clusters: Vec<usize>,
}

impl Population {
    fn draw(&self, seed: u64, purpose: u64) -> Drawn {
        let mut stream = Stream::new(seed, purpose);
        let mut drawn = Drawn::default();
        for cluster in 0..self.clusters {
            let shared = if self.size > 1 { stream.normal() } else { 0.0 };
            for _ in 0..self.size {
                let human = 3.0 + 0.7 * shared + 0.7 * stream.normal();
                drawn.judge.push(human + self.bias + 0.3 * shared + 0.5 * stream.normal());
                drawn.human.push((cluster < self.labelled).then_some(human));
                drawn.clusters.push(cluster);
            }
        }
        drawn
    }
}

impl Drawn {
    fn rows(&self, clustered: bool) -> ScoredRows<'_> {
        ScoredRows { human: &self.human, judge: &self.judge, clusters: clustered.then_some(&self.clusters), weights: None }
    }
}

/// How often each interval contains `truth`, of `draws`: labels, judge, PPI, PPI++; and the mean widths.
fn coverage(draws: u64, truth: f64, estimate: impl Fn(u64) -> Estimates) -> ([f64; 4], [f64; 4]) {
    let (mut inside, mut widths) = ([0.0; 4], [0.0; 4]);
    for draw in 0..draws {
        let found = estimate(draw);
        for (k, figure) in [found.labels, found.judge, found.ppi, found.tuned].into_iter().enumerate() {
            let figure = figure.unwrap();
            inside[k] += f64::from(u8::from((figure.low..=figure.high).contains(&truth))) / draws as f64;
            widths[k] += (figure.high - figure.low) / draws as f64;
        }
    }
    (inside, widths)
}

#[test]
fn intervals_cover_and_are_narrower_than_labels_alone() {
    for (labelled, least) in [(10, 0.925), (30, 0.935), (100, 0.935)] {
        let population = Population { clusters: labelled + 400, size: 1, labelled, bias: 0.8 };
        let options = EstimateOptions::default();
        let ([labels, judge, ppi, tuned], widths) =
            coverage(1000, 3.0, |draw| mean(&population.draw(draw, labelled as u64).rows(false), &options).unwrap());
        assert!(labels > least && ppi > least && tuned > least, "{labelled}: {labels} {ppi} {tuned}");
        assert!(judge < 0.01, "{judge}");
        assert!(widths[3] < 0.9 * widths[0], "{labelled}: {widths:?}");
    }
}

/// Whole clusters are labelled, or one row of each. What is taken for independent rows covers too little.
#[test]
fn clusters_are_allowed_for() {
    let population = Population { clusters: 200, size: 8, labelled: 25, bias: 0.5 };
    let options = EstimateOptions::default();
    let draw = |draw: u64| population.draw(draw, 9);
    let ([labels, _, ppi, tuned], _) = coverage(600, 3.0, |k| mean(&draw(k).rows(true), &options).unwrap());
    assert!(labels > 0.92 && ppi > 0.92 && tuned > 0.92, "{labels} {ppi} {tuned}");
    let ([labels, _, _, apart], _) = coverage(600, 3.0, |k| mean(&draw(k).rows(false), &options).unwrap());
    assert!(labels < 0.8 && apart < 0.85, "{labels} {apart}");
    // One labelled row in each of 50 clusters, the others unlabelled.
    let sparse = |k: u64| {
        let mut drawn = Population { clusters: 50, labelled: 50, ..population }.draw(k, 10);
        (0..drawn.human.len()).filter(|row| row % 8 != 0).for_each(|row| drawn.human[row] = None);
        drawn
    };
    let ([labels, _, ppi, tuned], _) = coverage(600, 3.0, |k| mean(&sparse(k).rows(true), &options).unwrap());
    assert!(labels > 0.92 && ppi > 0.92 && tuned > 0.92, "{labels} {ppi} {tuned}");
}

/// Two systems answer the same prompts. A prompt is as hard for one as for the other, so the difference is far more certain than
/// that of two sets of prompts.
#[test]
fn the_difference_of_two_systems() {
    let population = Population { clusters: 150, size: 1, labelled: 40, bias: 0.6 };
    let second = |k: u64| {
        let (first, mut stream) = (population.draw(k, 21), Stream::new(k, 22));
        let mut drawn = Drawn { clusters: first.clusters.clone(), ..Drawn::default() };
        for (row, judge) in first.judge.iter().enumerate() {
            let change = 0.4 + 0.3 * stream.normal();
            drawn.human.push(first.human[row].map(|score| score + change));
            drawn.judge.push(judge + change + 0.2 * stream.normal());
        }
        (first, drawn)
    };
    let options = EstimateOptions::default();
    let paired = |clustered: bool| {
        coverage(600, -0.4, |k| {
            let (first, second) = second(k);
            difference(&first.rows(clustered), &second.rows(clustered), &options).unwrap()
        })
    };
    let ([labels, _, ppi, tuned], narrow) = paired(true);
    assert!(labels > 0.92 && ppi > 0.92 && tuned > 0.92, "{labels} {ppi} {tuned}");
    let (_, wide) = paired(false);
    assert!(narrow[0] < 0.6 * wide[0], "{narrow:?} {wide:?}");
    // Independent systems.
    let independent = |k: u64| {
        let other = Population { clusters: 120, size: 1, labelled: 30, bias: -0.3 };
        difference(&population.draw(k, 31).rows(false), &other.draw(k, 32).rows(false), &options).unwrap()
    };
    let ([labels, judge, ppi, tuned], widths) = coverage(600, 0.0, independent);
    assert!(labels > 0.92 && ppi > 0.92 && tuned > 0.92 && judge < 0.05, "{labels} {judge} {ppi} {tuned}");
    assert!(widths[3] < 0.9 * widths[0]);
}

/// Rows with a score above 3 are labelled three times as often, and weigh a third.
#[test]
fn weights_undo_uneven_labels() {
    let population = Population { clusters: 900, size: 1, labelled: 900, bias: 0.5 };
    let uneven = |k: u64| {
        let (mut drawn, mut stream) = (population.draw(k, 41), Stream::new(k, 42));
        let mut weights = Vec::new();
        for row in 0..drawn.human.len() {
            let chance = if drawn.judge[row] > 3.5 { 0.3 } else { 0.1 };
            let labelled = stream.chance(chance);
            weights.push(if labelled { 1.0 / chance } else { 1.0 / (1.0 - chance) });
            drawn.human[row] = drawn.human[row].filter(|_| labelled);
        }
        (drawn, weights)
    };
    let options = EstimateOptions::default();
    let found = |weighted: bool| {
        coverage(600, 3.0, |k| {
            let (drawn, weights) = uneven(k);
            mean(&ScoredRows { weights: weighted.then_some(&weights), ..drawn.rows(false) }, &options).unwrap()
        })
        .0
    };
    let [labels, _, ppi, tuned] = found(true);
    assert!(labels > 0.92 && ppi > 0.92 && tuned > 0.92, "{labels} {ppi} {tuned}");
    assert!(found(false)[0] < 0.6);
}

#[test]
fn clusters_of_one_row_and_even_weights_change_nothing() {
    let drawn = Population { clusters: 60, size: 1, labelled: 20, bias: 0.5 }.draw(1, 51);
    let plain = mean(&drawn.rows(false), &EstimateOptions::default()).unwrap();
    assert_eq!(mean(&drawn.rows(true), &EstimateOptions::default()).unwrap(), plain);
    let weights = vec![2.5; 60];
    let weighted = mean(&ScoredRows { weights: Some(&weights), ..drawn.rows(false) }, &EstimateOptions::default()).unwrap();
    let near = |a: &Estimate, b: &Estimate| (a.low - b.low).abs() + (a.high - b.high).abs() < 1e-12;
    assert!(near(weighted.tuned.as_ref().unwrap(), plain.tuned.as_ref().unwrap()));
    // Rows that weigh nothing are not there.
    let mut weights = vec![1.0; 60];
    (0..5).chain(50..60).for_each(|row| weights[row] = 0.0);
    let some = mean(&ScoredRows { weights: Some(&weights), ..drawn.rows(false) }, &EstimateOptions::default()).unwrap();
    assert_eq!((some.labelled, some.unlabelled), (vec![15], vec![30]));
    let gone = ScoredRows { human: &drawn.human[5..50], judge: &drawn.judge[5..50], clusters: None, weights: None };
    let gone = mean(&gone, &EstimateOptions::default()).unwrap();
    assert!((some.labels.unwrap().error - gone.labels.unwrap().error).abs() < 1e-12);
}

#[test]
fn weights_of_the_judge() {
    let drawn = Population { clusters: 400, size: 1, labelled: 40, bias: 0.5 }.draw(2, 61);
    let with = |weight| mean(&drawn.rows(false), &EstimateOptions { weight, ..EstimateOptions::default() }).unwrap();
    let (none, all, tuned) = (with(Some(0.0)), with(Some(1.0)), with(None));
    let near = |a: &Result<Estimate, Undefined>, b: &Result<Estimate, Undefined>| {
        let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
        assert!((a.value - b.value).abs() < 1e-12 && (a.error - b.error).abs() < 1e-12, "{a:?} {b:?}");
    };
    near(&none.tuned, &none.labels);
    near(&all.tuned, &all.ppi);
    let weight = tuned.weights[0].clone().unwrap();
    assert!(weight > 0.3 && weight < 0.95, "{weight}");
    assert!((tuned.worth.unwrap() - 40.0) > 10.0 && tuned.alike > 1e-4);
}

/// The judge gives all labelled rows one score and all others another: no chance explains that, and its weight is 0.
#[test]
fn labelled_rows_that_the_judge_tells_apart() {
    let human: Vec<Option<f64>> = (0..60_i32).map(|row| (row < 20).then_some(3.0 + f64::from(row % 3))).collect();
    let judge: Vec<f64> = (0..60_i32).map(|row| if row < 20 { 1.0 } else { 2.0 }).collect();
    let clusters: Vec<usize> = (0..60).map(|row| row / 2).collect();
    let rows = ScoredRows { human: &human, judge: &judge, clusters: Some(&clusters), weights: None };
    let found = mean(&rows, &EstimateOptions::default()).unwrap();
    assert_eq!((found.alike, &found.weights), (0.0, &vec![Ok(0.0)]));
    assert_eq!(found.tuned.unwrap().value, found.labels.unwrap().value);
    // Five labels differ from the others by chance more often than the normal distribution says.
    let drawn = |k| {
        mean(&Population { clusters: 400, size: 1, labelled: 5, bias: 0.5 }.draw(k, 81).rows(false), &EstimateOptions::default())
    };
    let told = (0..2000).filter(|&k| drawn(k).unwrap().alike < 0.001).count();
    assert!(told <= 12, "{told} of 2000");
}

#[test]
fn intervals_are_cut_to_the_scale() {
    let drawn = Population { clusters: 60, size: 1, labelled: 20, bias: 0.5 }.draw(4, 91);
    let with = |scale| mean(&drawn.rows(false), &EstimateOptions { scale: Some(scale), ..EstimateOptions::default() }).unwrap();
    let (whole, cut, none) = (with((0.0, 6.0)), with((0.0, 3.0)), with((5.0, 6.0)));
    assert_eq!(cut.labels.clone().unwrap().high, 3.0);
    assert_eq!(cut.labels.unwrap().low, whole.labels.clone().unwrap().low);
    assert_eq!((none.labels, none.tuned), (Err(Undefined::OutsideScale), Err(Undefined::OutsideScale)));
    assert_eq!(none.judge, whole.judge);
    let first = drawn.rows(false);
    let options = EstimateOptions { scale: Some((3.0, 3.1)), ..EstimateOptions::default() };
    let found = difference(&first, &first, &options).unwrap().ppi.unwrap();
    assert!((found.high - 0.1).abs() < 1e-12 && (found.low + 0.1).abs() < 1e-12, "{found:?}");
}

#[test]
fn what_has_no_estimate_is_told() {
    let drawn = Population { clusters: 60, size: 1, labelled: 20, bias: 0.5 }.draw(3, 71);
    let options = EstimateOptions::default();
    let message = |rows: ScoredRows, options: &EstimateOptions| mean(&rows, options).unwrap_err().to_string();
    let rows = drawn.rows(false);
    let (few, all) = (Population { clusters: 60, size: 1, labelled: 4, bias: 0.5 }, vec![Some(1.0); 60]);
    let few = few.draw(3, 71);
    let weights = |change: fn(usize) -> f64| (0..60).map(change).collect::<Vec<f64>>();
    let [negative, none, unlabelled] =
        [weights(|row| row as f64 - 3.0), weights(|_| 0.0), weights(|row| f64::from(u8::from(row < 20)))];
    for (found, part) in [
        (message(few.rows(false), &options), "there are 4 rows with a human score; an estimate needs at least 5: label 1 more"),
        (message(ScoredRows { clusters: Some(&[0; 60]), ..rows }, &options), "there is 1 cluster with a human score"),
        (
            message(ScoredRows { human: &all, ..rows }, &options),
            "there are 0 rows without a human score: an estimate is of rows that people did not score, and needs at least 5",
        ),
        (message(ScoredRows { weights: Some(&negative), ..rows }, &options), "row 0 of the weight column is -3"),
        (message(ScoredRows { weights: Some(&none), ..rows }, &options), "the weights of the labelled rows sum to 0"),
        (message(ScoredRows { weights: Some(&unlabelled), ..rows }, &options), "the weights of the unlabelled rows sum to 0"),
        (message(ScoredRows { judge: &drawn.judge[1..], ..rows }, &options), "the judge column has 59"),
        (message(rows, &EstimateOptions { level: 95.0, ..options }), "the confidence level is 95"),
        (message(rows, &EstimateOptions { weight: Some(1.5), ..options }), "the weight of the judge is 1.5"),
    ] {
        assert!(found.contains(part), "{found}\nexpected {part}");
    }
    // A constant judge adds nothing: the labels stand alone.
    let found = mean(&ScoredRows { judge: &[3.0; 60], ..rows }, &options).unwrap();
    assert!(found.labels.is_ok());
    assert_eq!((found.ppi, found.tuned.clone()), (Err(Undefined::ConstantJudge), found.tuned));
    assert_eq!((found.judge, found.weights), (Err(Undefined::NoVariance), vec![Err(Undefined::ConstantJudge)]));
    // Labels that are all the same, and a judge that always errs by the same: no interval from what did not vary.
    let same: Vec<Option<f64>> = (0..60).map(|row| (row < 20).then_some(4.0)).collect();
    let found = mean(&ScoredRows { human: &same, ..rows }, &options).unwrap();
    assert_eq!((found.labels, found.tuned), (Err(Undefined::ConstantHuman), Err(Undefined::ConstantHuman)));
    let right: Vec<Option<f64>> = (0..60).map(|row| (row < 20).then_some(drawn.judge[row])).collect();
    let found = mean(&ScoredRows { human: &right, ..rows }, &options).unwrap();
    assert!(found.labels.is_ok());
    assert_eq!((found.ppi, found.tuned), (Err(Undefined::NoErrors), Err(Undefined::NoErrors)));
    // Labelled rows that are unlike the others.
    let mut order: Vec<f64> = drawn.judge.clone();
    order.sort_by(f64::total_cmp);
    let first: Vec<Option<f64>> = (0..60).map(|row| (row < 20).then_some(order[row] - 0.1 * (row % 3) as f64)).collect();
    assert!(mean(&ScoredRows { human: &first, judge: &order, ..rows }, &options).unwrap().alike < 1e-6);
}
