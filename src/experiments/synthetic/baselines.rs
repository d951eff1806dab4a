//! A baseline that does not read the text in order: a linear model of word counts.

use super::{Item, ScoreScale, SyntheticTaskError, vocabulary};
use std::collections::HashMap;

/// Strength of the ridge penalty. Counts are of order one and there are thousands of rows, so it only matters for words whose
/// count never varies.
const RIDGE: f64 = 1.0;

/// Ridge regression of the score on how often each word occurs in the prompt, fitted on `train`: its scores for `test`.
///
/// # Errors
/// [`SyntheticTaskError::NoTrainingItems`] if `train` is empty.
pub fn word_count_baseline(train: &[Item], test: &[Item]) -> Result<Vec<f64>, SyntheticTaskError> {
    if train.is_empty() {
        return Err(SyntheticTaskError::NoTrainingItems);
    }
    // Prompts have no scores, so any scale has their words.
    let ids: HashMap<&str, usize> =
        vocabulary(ScoreScale::OneToFive).into_iter().enumerate().map(|(id, word)| (word, id)).collect();
    let counts: Vec<Vec<f64>> = train.iter().map(|item| word_counts(item, &ids)).collect();
    let scores: Vec<f64> = train.iter().map(|item| item.score).collect();
    let (means, mean_score) = (column_means(&counts), scores.iter().sum::<f64>() / scores.len() as f64);
    let weights = ridge(&counts, &means, &scores, mean_score);
    let predict = |item: &Item| {
        let row = word_counts(item, &ids);
        mean_score + (0..row.len()).map(|w| weights[w] * (row[w] - means[w])).sum::<f64>()
    };
    Ok(test.iter().map(predict).collect())
}

fn word_counts(item: &Item, ids: &HashMap<&str, usize>) -> Vec<f64> {
    let mut counts = vec![0.0; ids.len()];
    for word in item.prompt.split_whitespace() {
        if let Some(&id) = ids.get(word) {
            counts[id] += 1.0;
        }
    }
    counts
}

fn column_means(rows: &[Vec<f64>]) -> Vec<f64> {
    let width = rows[0].len();
    (0..width).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / rows.len() as f64).collect()
}

/// Solves (X'X + ridge I) w = X'y for centred X and y.
fn ridge(rows: &[Vec<f64>], means: &[f64], scores: &[f64], mean_score: f64) -> Vec<f64> {
    let width = means.len();
    let mut gram = vec![vec![0.0; width]; width];
    let mut right = vec![0.0; width];
    for (row, score) in rows.iter().zip(scores) {
        let centred: Vec<f64> = row.iter().zip(means).map(|(x, m)| x - m).collect();
        for i in 0..width {
            right[i] += centred[i] * (score - mean_score);
            for j in 0..=i {
                gram[i][j] += centred[i] * centred[j];
            }
        }
    }
    for (i, row) in gram.iter_mut().enumerate() {
        row[i] += RIDGE;
    }
    solve_cholesky(gram, right)
}

/// Solves A x = b for a symmetric positive definite A given by its lower triangle.
fn solve_cholesky(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            a[i][j] = if i == j { (a[i][i] - dot).sqrt() } else { (a[i][j] - dot) / a[j][j] };
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i][i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i][i];
    }
    b
}
