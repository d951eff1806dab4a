//! All finished cells as tables: Markdown for the repository, the same numbers for the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use super::cell::CellResult;
use super::comparison::Comparison;
use super::file_table::FileResults;
use super::metrics::{ChainSwap, SplitMetrics};
use super::protocol::{CellId, Group, Run, task_version};
use super::statistics::{Mean, Scores, paired_bootstrap};
use super::tasks::{VALIDATION, Way};
use super::{CompareError, file_error};
use crate::eval::baselines;
use crate::experiments::demo::TestSplit;
use crate::experiments::synthetic::{Item, Split, SyntheticTask, word_count_baseline};
use crate::files::{refuse_foreign, write_own};

/// The tables' file beside the cells.
const TABLES: &str = "README.md";

/// The beginning of the file. A README that begins differently is somebody else's.
const OPENING: &str = "# Results of the comparison\n\nMade by `jurist compare";

/// What the figures of synthetic tasks are, and those of tasks of files.
const OF_ITEMS: &str = "± is half of a 95 % t-interval over seeds; brackets are a 95 % bootstrap interval over seeds and rows, \
                        paired. OOD is the mean of the three sets out of domain; RMSE / width is the RMSE as a share of \
                        the scale's width.";
const OF_FILES: &str = "Figures are means over seeds; brackets are a 95 % bootstrap interval over rows, which are drawn in clusters \
                        where the protocol names some, the same for all methods. Floors (in italics) do not read and are fitted on \
                        the training rows. MAE, decoded r, entropy, forced and tokens are those of the first seed.";

/// The out-of-domain splits.
const OOD_SPLITS: [&str; 3] = ["ood1", "ood2", "ood3"];

/// The results of all finished cells, and what they are measured against.
pub struct Results<'a> {
    pub comparison: &'a Comparison,
    /// Cells by (task, method), in the order of seeds.
    cells: BTreeMap<(String, String), Vec<CellResult>>,
    tasks: BTreeMap<String, TaskBaselines>,
    /// The rows of main tables by (group, task). Their bootstraps take most of the time.
    rows: BTreeMap<(String, String), Vec<MethodRow>>,
}

/// What a task's judges are measured against.
struct TaskBaselines {
    /// Human scores of each test split, by its name.
    human: BTreeMap<&'static str, Vec<f64>>,
    /// Width of the scale.
    width: f64,
    /// Baselines and the ceiling: name, and metrics by split.
    baselines: Vec<(&'static str, BTreeMap<&'static str, SplitMetrics>)>,
}

/// One method on one task.
pub struct MethodRow {
    pub title: String,
    pub seeds: usize,
    /// Pearson on the test split, on each out-of-domain split, and their mean.
    pub pearson: Vec<Option<Mean>>,
    /// The reference minus this method; none for the reference itself.
    pub difference: Option<Difference>,
}

/// The reference minus another method.
pub struct Difference {
    /// Of Pearson, on the test split.
    pub test: Option<Mean>,
    /// Of Pearson, out of domain.
    pub ood: Option<Mean>,
    /// The bootstrap interval of `ood`.
    pub ood_interval: Option<(f64, f64)>,
    /// Of the RMSE, out of domain.
    pub ood_rmse: Option<Mean>,
}

impl<'a> Results<'a> {
    /// Reads the finished cells, and computes human scores, baselines and ceilings.
    ///
    /// # Errors
    /// Files that are not results of cells.
    pub fn read(comparison: &'a Comparison) -> Result<Self, CompareError> {
        let mut cells: BTreeMap<(String, String), Vec<CellResult>> = BTreeMap::new();
        let mut tasks = BTreeMap::new();
        for cell in comparison.protocol.cells()? {
            if let (Run::Seed(_), Some(result)) = (cell.run, comparison.read(&cell)?) {
                cells.entry((cell.task, cell.method)).or_default().push(result);
            }
        }
        for task in comparison.protocol.groups.iter().flat_map(|g| &g.tasks) {
            if !tasks.contains_key(task) && comparison.protocol.file_task(task).is_none() {
                tasks.insert(task.clone(), TaskBaselines::new(comparison, task)?);
            }
        }
        let mut results = Results { comparison, cells, tasks, rows: BTreeMap::new() };
        for group in &comparison.protocol.groups {
            for task in group.tasks.iter().filter(|task| results.tasks.contains_key(*task)) {
                let rows = results.measure(group, task)?;
                results.rows.insert((group.name.clone(), task.clone()), rows);
            }
        }
        Ok(results)
    }

    /// The rows of a group's main table; none for a task of files.
    pub fn rows(&self, group: &Group, task: &str) -> &[MethodRow] {
        self.rows.get(&(group.name.clone(), task.to_string())).map_or(&[], Vec::as_slice)
    }

    /// The finished cells of a group's method, those of the group's seeds.
    pub(super) fn cells(&self, group: &Group, task: &str, method: &str) -> Vec<&CellResult> {
        let seeds = self.comparison.protocol.seeds(group);
        let all = self.cells.get(&(task.to_string(), method.to_string()));
        all.into_iter().flatten().filter(|c| seeds.contains(&c.seed)).collect()
    }

    /// The mean of a metric over seeds: on one split, or averaged over several.
    fn mean(&self, cells: &[&CellResult], splits: &[&str], of: impl Fn(&SplitMetrics) -> Option<f64>) -> Option<Mean> {
        let per_seed: Vec<f64> = cells.iter().filter_map(|c| mean_over_splits(c, splits, &of)).collect();
        Mean::of(&per_seed)
    }

    /// `a - b` of a metric, paired by seed.
    fn difference(
        &self,
        (a, b): (&[&CellResult], &[&CellResult]),
        splits: &[&str],
        of: impl Fn(&SplitMetrics) -> Option<f64>,
    ) -> Option<Mean> {
        let pair = |c: &&CellResult| {
            Some(mean_over_splits(c, splits, &of)? - mean_over_splits(b.iter().find(|o| o.seed == c.seed)?, splits, &of)?)
        };
        Mean::of(&a.iter().filter_map(pair).collect::<Vec<f64>>())
    }

    fn bootstrap(&self, task: &str, (a, b): (&[&CellResult], &[&CellResult])) -> Option<(f64, f64)> {
        let human: Vec<Vec<f64>> = OOD_SPLITS.iter().map(|s| self.tasks[task].human[s].clone()).collect();
        let both: Vec<(&CellResult, &CellResult)> =
            a.iter().filter_map(|c| Some((*c, *b.iter().find(|o| o.seed == c.seed)?))).collect();
        let scores =
            |cell: &CellResult| OOD_SPLITS.iter().map(|s| cell.split(s).map(|s| s.scores.clone()).unwrap_or_default()).collect();
        let (a, b): (Scores, Scores) = both.iter().map(|(a, b)| (scores(a), scores(b))).unzip();
        if a.is_empty() { None } else { paired_bootstrap(&human, &a, &b) }
    }

    fn measure(&self, group: &Group, task: &str) -> Result<Vec<MethodRow>, CompareError> {
        let reference = self.cells(group, task, &group.reference);
        let mut rows = Vec::new();
        for name in &group.methods {
            let cells = self.cells(group, task, name);
            let mut pearson = vec![self.mean(&cells, &["test"], |f| f.pearson)];
            pearson.extend(OOD_SPLITS.iter().map(|set| self.mean(&cells, &[set], |f| f.pearson)));
            pearson.push(self.mean(&cells, &OOD_SPLITS, |f| f.pearson));
            let pair = (&reference[..], &cells[..]);
            let difference = (name != &group.reference).then(|| Difference {
                test: self.difference(pair, &["test"], |f| f.pearson),
                ood: self.difference(pair, &OOD_SPLITS, |f| f.pearson),
                ood_interval: self.bootstrap(task, pair),
                ood_rmse: self.difference(pair, &OOD_SPLITS, |f| f.rmse),
            });
            rows.push(MethodRow {
                title: self.comparison.protocol.method(name)?.title.clone(),
                seeds: cells.len(),
                pearson,
                difference,
            });
        }
        Ok(rows)
    }

    /// Baselines and ceiling of a task: name, and Pearson on the test split and out of domain.
    pub fn baselines(&self, task: &str) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
        let ood = |sets: &BTreeMap<&str, SplitMetrics>| {
            let each: Option<Vec<f64>> = OOD_SPLITS.iter().map(|s| sets[s].pearson).collect();
            each.map(|e| e.iter().sum::<f64>() / 3.0)
        };
        self.tasks[task].baselines.iter().map(|(name, sets)| (*name, sets["test"].pearson, ood(sets))).collect()
    }

    /// All groups as Markdown.
    ///
    /// # Errors
    /// Names in the protocol that it does not define.
    pub fn to_markdown(&self) -> Result<String, CompareError> {
        let protocol = &self.comparison.protocol;
        let all = protocol.cells()?;
        let done = all.iter().filter(|c| self.comparison.is_done(c)).count();
        let mut page = String::from(OPENING);
        let of_files = protocol.base.is_some();
        let _ = writeln!(
            page,
            " --config {}`; [PROTOCOL.md](PROTOCOL.md) says what was fixed before the first result. {done} of {} cells are \
             done. {}\n",
            protocol.file.display(),
            all.len(),
            if of_files { OF_FILES } else { OF_ITEMS }
        );
        if done < all.len() {
            let _ = writeln!(
                page,
                "**Not finished**: {} cells are still to be made; rows with fewer seeds say so.\n",
                all.len() - done
            );
        }
        self.write_learning_rates(&mut page)?;
        for group in &protocol.groups {
            for task in &group.tasks {
                let Some(files) = protocol.file_task(task) else {
                    let _ = writeln!(page, "## {}, {task}\n", group.title);
                    self.write_group(&mut page, group, task)?;
                    continue;
                };
                let _ = writeln!(page, "## {}, {}\n", group.title, files.title);
                match FileResults::new(self, group, files)? {
                    Some(results) => results.write(&mut page)?,
                    None => page.push_str("No cell is done yet.\n\n"),
                }
            }
        }
        Ok(page)
    }

    /// The validation Pearson by which learning rates were chosen.
    fn write_learning_rates(&self, page: &mut String) -> Result<(), CompareError> {
        page.push_str("## Learning rates\n\n| method | Pearson on validation at each rate |\n|---|---|\n");
        for method in &self.comparison.protocol.methods {
            let mut tried = Vec::new();
            let tasks: BTreeSet<&String> = self.comparison.protocol.groups.iter().flat_map(|g| &g.tasks).collect();
            let mut seen: Vec<CellId> = Vec::new();
            for cell in tasks.iter().flat_map(|task| self.comparison.protocol.tuning_cells(method, task)) {
                if seen.contains(&cell) {
                    continue;
                }
                if let (Some(result), Run::LearningRate(rate)) = (self.comparison.read(&cell)?, cell.run) {
                    let pearson = result.split(VALIDATION).and_then(|s| s.metrics.pearson);
                    let task = if self.comparison.protocol.base.is_some() { format!("{} ", cell.task) } else { String::new() };
                    tried.push(format!("{task}{rate:e}: {}", plain(pearson, 3)));
                }
                seen.push(cell);
            }
            if !tried.is_empty() {
                let _ = writeln!(page, "| {} | {} |", method.title, tried.join(", "));
            }
        }
        page.push('\n');
        Ok(())
    }

    fn write_group(&self, page: &mut String, group: &Group, task: &str) -> Result<(), CompareError> {
        let rows = self.rows(group, task);
        page.push_str(
            "| method | seeds | test r | OOD-1 r | OOD-2 r | OOD-3 r | OOD r | OOD rho | OOD tau-b | OOD RMSE | RMSE / width | OOD MAE |\n",
        );
        page.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        let width = self.tasks[task].width;
        for (name, sets) in &self.tasks[task].baselines {
            let ood = |of: &dyn Fn(&SplitMetrics) -> Option<f64>| {
                let each: Option<Vec<f64>> = OOD_SPLITS.iter().map(|s| of(&sets[s])).collect();
                plain(each.map(|e| e.iter().sum::<f64>() / 3.0), 3)
            };
            let r: Vec<String> = ["test", "ood1", "ood2", "ood3"].iter().map(|s| plain(sets[s].pearson, 3)).collect();
            let rest = [
                ood(&|f| f.pearson),
                ood(&|f| f.spearman),
                ood(&|f| f.kendall_tau_b),
                ood(&|f| f.rmse),
                ood(&|f| f.rmse.map(|rmse| rmse / width)),
                ood(&|f| f.mae),
            ];
            let _ = writeln!(page, "| *{name}* | | {} | {} |", r.join(" | "), rest.join(" | "));
        }
        for (row, name) in rows.iter().zip(&group.methods) {
            let cells = self.cells(group, task, name);
            let of = |f: &dyn Fn(&SplitMetrics) -> Option<f64>| self.mean(&cells, &OOD_SPLITS, f);
            let r: Vec<String> = row.pearson.iter().map(|m| with_interval(*m)).collect();
            let rmse = of(&|f| f.rmse);
            let rest = [of(&|f| f.spearman), of(&|f| f.kendall_tau_b), rmse, rmse.map(|m| m.per(width)), of(&|f| f.mae)];
            let rest = rest.map(with_interval);
            let _ = writeln!(page, "| {} | {} | {} | {} |", row.title, row.seeds, r.join(" | "), rest.join(" | "));
        }
        let reference = &self.comparison.protocol.method(&group.reference)?.title;
        let _ = writeln!(
            page,
            "\n**{reference} minus each**, paired by seed:\n\n| | test r | OOD r | OOD r, bootstrap | OOD RMSE | RMSE / width |\n\
             |---|---|---|---|---|---|"
        );
        for row in rows {
            let Some(difference) = &row.difference else { continue };
            let bootstrap =
                difference.ood_interval.map_or("–".into(), |(low, high)| format!("[{}, {}]", signed(low), signed(high)));
            let (test, ood, rmse) = (signed_bold(difference.test), signed_bold(difference.ood), signed_bold(difference.ood_rmse));
            let share = signed_bold(difference.ood_rmse.map(|m| m.per(width)));
            let _ = writeln!(page, "| {} | {test} | {ood} | {bootstrap} | {rmse} | {share} |", row.title);
        }
        page.push_str("\nHow scores spread on the test set, and what the chains are good for:\n\n");
        page.push_str("| method | fullest bin | entropy, bits | Wasserstein | decoded r | decoded RMSE | right verdicts | forced | moved by a swap | follows chain | follows prompt |\n");
        page.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        let people = {
            let human = &self.tasks[task].human["test"];
            SplitMetrics::of_scores(human, human, self.tasks[task].width)
        };
        let _ =
            writeln!(page, "| *people* | {} | {} | 0 | | | | | | | |", plain(people.modal_share, 3), plain(people.entropy, 2));
        for (row, name) in rows.iter().zip(&group.methods) {
            let cells = self.cells(group, task, name);
            let of = |f: &dyn Fn(&SplitMetrics) -> Option<f64>| short(self.mean(&cells, &["test"], f));
            let swap = |f: &dyn Fn(&ChainSwap) -> Option<f64>| {
                let values: Vec<f64> = cells.iter().filter_map(|c| f(c.chain_swap.as_ref()?)).collect();
                short(Mean::of(&values))
            };
            let metrics = [
                of(&|f| f.modal_share),
                of(&|f| f.entropy),
                of(&|f| f.wasserstein),
                of(&|f| f.decoded_pearson),
                of(&|f| f.decoded_rmse),
                of(&|f| f.verdicts),
                of(&|f| f.forced),
                swap(&|s| Some(s.moved)),
                swap(&|s| s.follows_chain),
                swap(&|s| s.follows_prompt),
            ];
            let _ = writeln!(page, "| {} | {} |", row.title, metrics.join(" | "));
        }
        page.push('\n');
        self.write_other_ways(page, group, task)
    }

    /// A table for each way of judging after the first: out of domain, paired by seed. The reference is judged in the same way,
    /// and in the first way, which is the one of the other tables.
    fn write_other_ways(&self, page: &mut String, group: &Group, task: &str) -> Result<(), CompareError> {
        let protocol = &self.comparison.protocol;
        let reference = self.cells(group, task, &group.reference);
        let title = &protocol.method(&group.reference)?.title;
        let Some((first, others)) = protocol.ways.split_first() else { return Ok(()) };
        for way in others {
            let of = |cell: &CellResult, way: &Way, of: &dyn Fn(&SplitMetrics) -> Option<f64>| -> Option<f64> {
                let each: Option<Vec<f64>> = OOD_SPLITS.iter().map(|set| of(&cell.judged(set, &way.name)?.metrics)).collect();
                each.map(|e| e.iter().sum::<f64>() / e.len() as f64)
            };
            let _ = writeln!(
                page,
                "Out of domain with {}; {title} judged so, and with {}:\n\n\
                 | method | r | {title} minus it | with {} | RMSE | {title} minus it | with {} |\n|---|---|---|---|---|---|---|",
                way.title, first.title, first.title, first.title
            );
            for name in &group.methods {
                let cells = self.cells(group, task, name);
                let columns = [|f: &SplitMetrics| f.pearson, |f: &SplitMetrics| f.rmse].map(|metric| {
                    let mean = Mean::of(&cells.iter().filter_map(|c| of(c, way, &metric)).collect::<Vec<f64>>());
                    let difference = |way_of_reference: &Way| {
                        let pair = |c: &&CellResult| {
                            let other = cells.iter().find(|o| o.seed == c.seed)?;
                            Some(of(c, way_of_reference, &metric)? - of(other, way, &metric)?)
                        };
                        signed_bold(Mean::of(&reference.iter().filter_map(pair).collect::<Vec<f64>>()))
                    };
                    let same = if *name == group.reference { String::new() } else { difference(way) };
                    format!("{} | {same} | {}", with_interval(mean), difference(first))
                });
                let _ = writeln!(page, "| {} | {} |", protocol.method(name)?.title, columns.join(" | "));
            }
            page.push('\n');
        }
        Ok(())
    }
}

impl TaskBaselines {
    fn new(comparison: &Comparison, task: &str) -> Result<Self, CompareError> {
        let version = task_version(task).map_err(CompareError::Cell)?;
        let width = version.scale.width();
        let synthetic = SyntheticTask::new(version, comparison.protocol.data_seed);
        let sizes = comparison.protocol.sizes();
        let train = synthetic.items(Split::Train, sizes.train);
        let human_scores = |items: &[Item]| items.iter().map(|i| i.score).collect::<Vec<f64>>();
        let lengths = |items: &[Item]| items.iter().map(Item::response_length).collect::<Vec<usize>>();
        let train_scores = human_scores(&train);
        let line = baselines::fit_length(&lengths(&train), &train_scores)?;
        let mean = train_scores.iter().sum::<f64>() / train.len().max(1) as f64;
        let mut human = BTreeMap::new();
        let mut baselines: Vec<(&'static str, BTreeMap<&'static str, SplitMetrics>)> =
            ["constant", "response length", "word counts", "150 annotators (ceiling)"].map(|n| (n, BTreeMap::new())).into();
        for split in Split::TESTS {
            let test = TestSplit::make(&synthetic, split, sizes)?;
            let labels = human_scores(&test.items);
            let constant = vec![mean; labels.len()];
            let length = line.as_ref().map_or_else(|_| constant.clone(), |l| l.predict_lengths(&lengths(&test.items)));
            let words = word_count_baseline(&train, &test.items).map_err(|e| CompareError::Cell(e.to_string()))?;
            for (baseline, scores) in baselines.iter_mut().zip([constant, length, words, test.ceiling]) {
                baseline.1.insert(split.name(), SplitMetrics::of_scores(&labels, &scores, width));
            }
            human.insert(split.name(), labels);
        }
        Ok(TaskBaselines { human, width, baselines })
    }
}

/// The mean of a metric over splits of one cell.
fn mean_over_splits(cell: &CellResult, splits: &[&str], of: &impl Fn(&SplitMetrics) -> Option<f64>) -> Option<f64> {
    let each: Option<Vec<f64>> = splits.iter().map(|name| of(&cell.split(name)?.metrics)).collect();
    each.map(|e| e.iter().sum::<f64>() / e.len() as f64)
}

pub(super) fn plain(x: Option<f64>, digits: usize) -> String {
    x.map_or("–".into(), |x| format!("{x:.digits$}"))
}

fn short(mean: Option<Mean>) -> String {
    plain(mean.map(|m| m.mean), 3)
}

fn signed(x: f64) -> String {
    format!("{x:+.3}")
}

fn with_interval(mean: Option<Mean>) -> String {
    mean.map_or("–".into(), |m| match m.half {
        Some(half) => format!("{:.3} ± {half:.3}", m.mean),
        None => format!("{:.3}", m.mean),
    })
}

/// A difference; bold where its interval excludes zero.
fn signed_bold(mean: Option<Mean>) -> String {
    let Some(m) = mean else { return "–".into() };
    let text = m.half.map_or(signed(m.mean), |half| format!("{} ± {half:.3}", signed(m.mean)));
    if m.excludes_zero() { format!("**{text}**") } else { text }
}

/// Refuses a results folder in which a file that `compare` did not write has the name of the tables or of the page. Asked before
/// hours of work.
///
/// # Errors
/// As said.
pub fn refuse_foreign_pages(comparison: &Comparison) -> Result<(), CompareError> {
    refuse_foreign(&comparison.results.join(TABLES), |there| there.starts_with(OPENING))?;
    super::page::refuse_foreign_page(comparison)
}

/// Writes the tables of the finished cells beside them; returns the file.
///
/// # Errors
/// As [`Results::to_markdown`]; a folder that cannot be written to.
pub fn write_tables(results: &Results) -> Result<PathBuf, CompareError> {
    let dir = &results.comparison.results;
    std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
    let path = dir.join(TABLES);
    write_own(&path, results.to_markdown()?.as_bytes(), |there| there.starts_with(OPENING))?;
    Ok(path)
}
