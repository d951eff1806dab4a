//! Columns of scores: cells that hold one, for `agree` too, and the columns of `calibrate` and `estimate`: of people, of a judge,
//! and what groups and weighs rows.

use std::path::Path;

use super::repeated_rows::{ID, RowNames};
use super::{CliError, TerminalProgress};
use crate::data::{DataError, RowCells, WantedColumns, name_of, read_columns_within};
use crate::eval::clusters::ClusterNumbers;
use crate::judge::Scale;
use crate::progress::Progress;
use crate::words::count;

/// The columns to read.
pub struct Wanted<'a> {
    pub human: &'a str,
    pub judge: &'a str,
    pub cluster: Option<&'a str>,
    /// A column of texts: the kind of a row, or its system.
    pub group: Option<&'a str>,
    pub weight: Option<&'a str>,
    /// The names of rows, none of which may be there twice. `None`: those of a column `id`, if there is one.
    pub id: Option<&'a str>,
    /// The chance of being labelled, of which weights are made; instead of them.
    pub propensity: Option<&'a str>,
    /// People's scale.
    pub scale: &'a Scale,
    /// Leave out rows with an unusable cell.
    pub skip_bad: bool,
    pub max_decompressed: Option<u64>,
}

/// Rows that the judge has scored.
#[derive(Default)]
pub struct ScoreColumns {
    pub human: Vec<Option<f64>>,
    pub judge: Vec<f64>,
    pub clusters: Vec<usize>,
    pub groups: Vec<String>,
    pub weights: Vec<f64>,
    /// Rows that the judge has not scored, which are left out.
    pub unjudged: usize,
    /// Rows that were left out for an unusable cell.
    pub bad: usize,
    /// The rows' names.
    names: RowNames,
    /// The numbers of the clusters.
    numbers: ClusterNumbers,
}

/// What is read of one row.
struct Cells {
    human: Option<f64>,
    judge: Option<f64>,
    cluster: Option<String>,
    group: Option<String>,
    weight: Option<f64>,
}

impl Wanted<'_> {
    /// Adds the rows of a file.
    ///
    /// # Errors
    /// A file that cannot be read, a column that is absent, and unless they are skipped unusable cells, each with its place.
    pub fn read(&self, file: &Path, into: &mut ScoreColumns) -> Result<(), CliError> {
        let mut names = vec![self.human, self.judge];
        let mut places = [None; 3];
        for (at, name) in places.iter_mut().zip([self.cluster, self.group, self.weight.or(self.propensity)]) {
            if let Some(name) = name {
                *at = Some(names.len());
                names.push(name);
            }
        }
        let (required, id) = (names.len(), names.len());
        names.push(self.id.unwrap_or(ID));
        // Rows of one cluster may have its name.
        let is_cluster = self.cluster == Some(names[id]);
        let wanted = WantedColumns { names: &names, required: required + usize::from(self.id.is_some()) };
        read_columns_within(file, wanted, self.max_decompressed, &mut |cells| {
            match self.cells(cells, places) {
                Err(_) if self.skip_bad => into.bad += 1,
                Err(error) => return Err(error),
                Ok(row) => {
                    if !is_cluster {
                        into.names.take(cells, id, row.group.as_deref().unwrap_or_default(), self.id.is_some())?;
                    }
                    into.push(row);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The usable cells of a row.
    fn cells(&self, cells: &RowCells, [cluster, group, weight]: [Option<usize>; 3]) -> Result<Cells, DataError> {
        let human = human_at(cells, 0, self.scale)?;
        let text = |at: Option<usize>, what: &str| {
            let name = |at: usize| {
                let text = cells.text(at).map(|text| text.into_owned());
                text.ok_or_else(|| cells.fault(at, format!("no {what}"), &format!("name the {what} of every row")))
            };
            at.map(name).transpose()
        };
        let weight = weight.map(|at| match cells.number(at)? {
            chance if self.propensity.is_some() => match chance.filter(|chance| *chance > 0.0 && *chance < 1.0) {
                Some(chance) => Ok(1.0 / if human.is_some() { chance } else { 1.0 - chance }),
                None => {
                    let found = chance.map_or("no chance of being labelled".into(), |chance| format!("the chance {chance}"));
                    Err(cells.fault(at, found, "give every row a number above 0 and below 1"))
                }
            },
            Some(weight) if weight >= 0.0 => Ok(weight),
            Some(weight) => Err(cells.fault(at, format!("the weight {weight} is below 0"), "give a number of at least 0")),
            None => Err(cells.fault(at, "no weight".into(), "give every row a weight, a number of at least 0")),
        });
        Ok(Cells {
            human,
            judge: score_at(cells, 1, self.scale)?,
            cluster: text(cluster, "cluster")?,
            group: text(group, "group")?,
            weight: weight.transpose()?,
        })
    }
}

/// The score in a cell, a number or a word of the scale; `None` if the cell is empty.
///
/// # Errors
/// What else is in it, with what to write.
pub fn score_at(cells: &RowCells, column: usize, scale: &Scale) -> Result<Option<f64>, DataError> {
    cells.score(column, &|word| scale.value_of(word)).map_err(|error| match error {
        DataError::Field { file, position, field, found, .. } => {
            let known = match scale.words() {
                Some(_) => format!("write {} or a number, or ", scale.texts().join(", ")),
                None => "say what words stand for, as in --scale bad,ok,good=0,1,2, or ".into(),
            };
            let fix = format!("{known}leave it empty where there is no score");
            DataError::Field { file, position, field, found, fix }
        }
        other => other,
    })
}

/// As [`score_at`], of people, who give scores within their scale.
///
/// # Errors
/// As [`score_at`]; a score outside of the scale.
pub fn human_at(cells: &RowCells, column: usize, scale: &Scale) -> Result<Option<f64>, DataError> {
    let (min, max) = (scale.min(), scale.max());
    match score_at(cells, column, scale)? {
        Some(human) if !(min..=max).contains(&human) => {
            let found = format!("the human score {human} is outside the scale {min} to {max}");
            Err(cells.fault(column, found, "give the right --scale, or leave such rows out with --skip-bad"))
        }
        human => Ok(human),
    }
}

impl ScoreColumns {
    fn push(&mut self, row: Cells) {
        let Some(judge) = row.judge else {
            self.unjudged += 1;
            return;
        };
        self.human.push(row.human);
        self.judge.push(judge);
        if let Some(name) = row.cluster {
            self.clusters.push(self.numbers.number(&name));
        }
        self.groups.extend(row.group);
        self.weights.extend(row.weight);
    }

    /// Says how many rows were left out, and fails where none is left, or with `strict` where the judge has no score of one.
    pub fn check(&self, file: &Path, strict: bool, progress: &mut TerminalProgress) -> Result<(), CliError> {
        let name = name_of(file);
        if self.bad > 0 {
            progress.warn(&format!("{name}: {} left out", count(self.bad, "bad row")));
        }
        self.names.warn(progress);
        if self.judge.is_empty() && self.unjudged > 0 {
            let rows = count(self.unjudged, "row");
            return Err(CliError::Failed(format!("{name}: the judge has no score in any of {rows}; is it the right column?")));
        }
        super::outcome::require_judged(self.unjudged, self.judge.len() + self.unjudged, strict, None)?;
        if self.unjudged > 0 {
            let rows = count(self.unjudged, "row");
            progress.warn(&format!("{name}: {rows} without a score of the judge left out: figures are of the other rows"));
        }
        match self.judge.is_empty() {
            true => Err(CliError::Failed(format!("{name}: no usable row is left"))),
            false => Ok(()),
        }
    }

    /// Nothing yet, for the rows of another system: clusters of one name get one number.
    pub fn beside(&self) -> ScoreColumns {
        ScoreColumns { numbers: self.numbers.clone(), ..ScoreColumns::default() }
    }

    /// The clusters of the rows, where they were read.
    pub fn clusters(&self) -> Option<&[usize]> {
        (!self.clusters.is_empty()).then_some(&self.clusters[..])
    }

    /// The rows of which `keep` says so; clusters keep their numbers.
    pub fn filtered(&self, keep: impl Fn(usize) -> bool) -> ScoreColumns {
        let rows: Vec<usize> = (0..self.judge.len()).filter(|&row| keep(row)).collect();
        ScoreColumns {
            human: pick(&self.human, &rows),
            judge: pick(&self.judge, &rows),
            clusters: pick(&self.clusters, &rows),
            groups: pick(&self.groups, &rows),
            weights: pick(&self.weights, &rows),
            ..ScoreColumns::default()
        }
    }
}

/// The cells of these rows; none of a column that was not read.
fn pick<T: Clone>(column: &[T], rows: &[usize]) -> Vec<T> {
    if column.is_empty() { Vec::new() } else { rows.iter().map(|&row| column[row].clone()).collect() }
}
