//! All finished cells as tables: Markdown for the repository, the same numbers for the page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::cell::{Cell, CellPaths};
use super::figures::Figures;
use super::protocol::{Group, Run, version};
use super::statistics::{Mean, Scores, paired_bootstrap};
use super::{CompareError, file_error};
use crate::eval::floors;
use crate::experiments::demo::TestItems;
use crate::experiments::synthetic::{Item, Miniature, Split, word_count_floor};
use crate::files::{refuse_foreign, write_own};

/// The tables' file beside the cells.
const TABLES: &str = "README.md";

/// What the page begins with, and what tells it from a README of somebody else.
const OPENING: &str = "# Results of the comparison\n\nMade by `jurist compare";

/// The sets out of domain.
const OUTSIDE: [&str; 3] = ["ood1", "ood2", "ood3"];

/// Everything that is finished, and what it is measured against.
pub struct Results<'a> {
    pub place: &'a CellPaths,
    /// Cells by (task, method), in the order of seeds.
    cells: BTreeMap<(String, String), Vec<Cell>>,
    tasks: BTreeMap<String, Task>,
}

/// What a task's judges are measured against.
struct Task {
    /// People's scores of each test set, by its name.
    human: BTreeMap<&'static str, Vec<f64>>,
    /// Floors and the ceiling: name, and figures by set.
    marks: Vec<(&'static str, BTreeMap<&'static str, Figures>)>,
}

/// One method on one task.
pub struct Row {
    pub title: String,
    pub seeds: usize,
    /// Pearson on the test set, on each set out of domain, and their mean.
    pub pearson: Vec<Option<Mean>>,
    /// The difference of the reference to this method, out of domain.
    pub behind: Option<Behind>,
}

/// The reference minus another method: Pearson in and out of domain, RMSE out of domain.
pub struct Behind {
    pub test: Option<Mean>,
    pub outside: Option<Mean>,
    pub bootstrap: Option<(f64, f64)>,
    pub rmse: Option<Mean>,
}

impl<'a> Results<'a> {
    /// Reads what is finished, and makes people's scores, floors and ceilings anew.
    ///
    /// # Errors
    /// Files that are none of ours.
    pub fn read(place: &'a CellPaths) -> Result<Self, CompareError> {
        let mut cells: BTreeMap<(String, String), Vec<Cell>> = BTreeMap::new();
        let mut tasks = BTreeMap::new();
        for choice in place.protocol.cells()? {
            if let (Run::Seed(_), Some(cell)) = (choice.run, place.read(&choice)?) {
                cells.entry((choice.task, choice.method)).or_default().push(cell);
            }
        }
        for task in place.protocol.groups.iter().flat_map(|g| &g.tasks) {
            if !tasks.contains_key(task) {
                tasks.insert(task.clone(), Task::make(place, task)?);
            }
        }
        Ok(Results { place, cells, tasks })
    }

    /// The finished cells of a group's method, those of the group's seeds.
    fn cells(&self, group: &Group, task: &str, method: &str) -> Vec<&Cell> {
        let seeds = self.place.protocol.seeds(group);
        let all = self.cells.get(&(task.to_string(), method.to_string()));
        all.into_iter().flatten().filter(|c| seeds.contains(&c.seed)).collect()
    }

    /// A figure over seeds: of one set, or the mean over several.
    fn mean(&self, cells: &[&Cell], sets: &[&str], of: impl Fn(&Figures) -> Option<f64>) -> Option<Mean> {
        let per_seed: Vec<f64> = cells.iter().filter_map(|c| over(c, sets, &of)).collect();
        Mean::of(&per_seed)
    }

    /// `a - b` of a figure, paired by seed.
    fn difference(&self, (a, b): (&[&Cell], &[&Cell]), sets: &[&str], of: impl Fn(&Figures) -> Option<f64>) -> Option<Mean> {
        let pair = |c: &&Cell| Some(over(c, sets, &of)? - over(b.iter().find(|o| o.seed == c.seed)?, sets, &of)?);
        Mean::of(&a.iter().filter_map(pair).collect::<Vec<f64>>())
    }

    fn bootstrap(&self, task: &str, (a, b): (&[&Cell], &[&Cell])) -> Option<(f64, f64)> {
        let human: Vec<Vec<f64>> = OUTSIDE.iter().map(|s| self.tasks[task].human[s].clone()).collect();
        let both: Vec<(&Cell, &Cell)> = a.iter().filter_map(|c| Some((*c, *b.iter().find(|o| o.seed == c.seed)?))).collect();
        let scores = |cell: &Cell| OUTSIDE.iter().map(|s| cell.set(s).map(|s| s.scores.clone()).unwrap_or_default()).collect();
        let (a, b): (Scores, Scores) = both.iter().map(|(a, b)| (scores(a), scores(b))).unzip();
        if a.is_empty() { None } else { paired_bootstrap(&human, &a, &b) }
    }

    /// The rows of a group's main table.
    pub fn rows(&self, group: &Group, task: &str) -> Result<Vec<Row>, CompareError> {
        let reference = self.cells(group, task, &group.reference);
        let mut rows = Vec::new();
        for name in &group.methods {
            let cells = self.cells(group, task, name);
            let mut pearson = vec![self.mean(&cells, &["test"], |f| f.pearson)];
            pearson.extend(OUTSIDE.iter().map(|set| self.mean(&cells, &[set], |f| f.pearson)));
            pearson.push(self.mean(&cells, &OUTSIDE, |f| f.pearson));
            let pair = (&reference[..], &cells[..]);
            let behind = (name != &group.reference).then(|| Behind {
                test: self.difference(pair, &["test"], |f| f.pearson),
                outside: self.difference(pair, &OUTSIDE, |f| f.pearson),
                bootstrap: self.bootstrap(task, pair),
                rmse: self.difference(pair, &OUTSIDE, |f| f.rmse),
            });
            rows.push(Row { title: self.place.protocol.method(name)?.title.clone(), seeds: cells.len(), pearson, behind });
        }
        Ok(rows)
    }

    /// Floors and ceiling of a task: name and Pearson on the test set and out of domain.
    pub fn marks(&self, task: &str) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
        let outside = |sets: &BTreeMap<&str, Figures>| {
            let each: Option<Vec<f64>> = OUTSIDE.iter().map(|s| sets[s].pearson).collect();
            each.map(|e| e.iter().sum::<f64>() / 3.0)
        };
        self.tasks[task].marks.iter().map(|(name, sets)| (*name, sets["test"].pearson, outside(sets))).collect()
    }

    /// All groups as Markdown.
    ///
    /// # Errors
    /// Names of the protocol that lead nowhere.
    pub fn to_markdown(&self) -> Result<String, CompareError> {
        let protocol = &self.place.protocol;
        let all = protocol.cells()?;
        let done = all.iter().filter(|c| self.place.is_done(c)).count();
        let mut page = String::from(OPENING);
        let _ = writeln!(
            page,
            " --config results/protocol.toml`; [PROTOCOL.md](PROTOCOL.md) says what was fixed before the \
             first result. {} of {} cells are done. ± is half of a 95 % t-interval over seeds; brackets are a 95 % bootstrap \
             interval over seeds and rows, paired. OOD is the mean of the three sets out of domain.\n",
            done,
            all.len()
        );
        if done < all.len() {
            let _ = writeln!(
                page,
                "**Not finished**: {} cells are still to be made; rows with fewer seeds say so.\n",
                all.len() - done
            );
        }
        self.rates(&mut page)?;
        for group in &protocol.groups {
            for task in &group.tasks {
                let _ = writeln!(page, "## {}, {task}\n", group.title);
                self.group(&mut page, group, task)?;
            }
        }
        Ok(page)
    }

    /// Which learning rates were chosen, and from what.
    fn rates(&self, page: &mut String) -> Result<(), CompareError> {
        page.push_str("## Learning rates\n\n| method | Pearson on validation at each rate |\n|---|---|\n");
        for method in &self.place.protocol.methods {
            let mut tried = Vec::new();
            for choice in self.place.protocol.tuning(method) {
                if let (Some(cell), Run::Rate(rate)) = (self.place.read(&choice)?, choice.run) {
                    let pearson = cell.set(Split::Validation.name()).and_then(|s| s.figures.pearson);
                    tried.push(format!("{rate:e}: {}", plain(pearson, 3)));
                }
            }
            if !tried.is_empty() {
                let _ = writeln!(page, "| {} | {} |", method.title, tried.join(", "));
            }
        }
        page.push('\n');
        Ok(())
    }

    fn group(&self, page: &mut String, group: &Group, task: &str) -> Result<(), CompareError> {
        let rows = self.rows(group, task)?;
        page.push_str(
            "| method | seeds | test r | OOD-1 r | OOD-2 r | OOD-3 r | OOD r | OOD rho | OOD tau-b | OOD RMSE | OOD MAE |\n",
        );
        page.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        for (name, sets) in &self.tasks[task].marks {
            let outside = |of: &dyn Fn(&Figures) -> Option<f64>| {
                let each: Option<Vec<f64>> = OUTSIDE.iter().map(|s| of(&sets[s])).collect();
                plain(each.map(|e| e.iter().sum::<f64>() / 3.0), 3)
            };
            let r: Vec<String> = ["test", "ood1", "ood2", "ood3"].iter().map(|s| plain(sets[s].pearson, 3)).collect();
            let rest = [
                outside(&|f| f.pearson),
                outside(&|f| f.spearman),
                outside(&|f| f.kendall_tau_b),
                outside(&|f| f.rmse),
                outside(&|f| f.mae),
            ];
            let _ = writeln!(page, "| *{name}* | | {} | {} |", r.join(" | "), rest.join(" | "));
        }
        for (row, name) in rows.iter().zip(&group.methods) {
            let cells = self.cells(group, task, name);
            let of = |f: &dyn Fn(&Figures) -> Option<f64>| with_half(self.mean(&cells, &OUTSIDE, f));
            let r: Vec<String> = row.pearson.iter().map(|m| with_half(*m)).collect();
            let rest = [of(&|f| f.spearman), of(&|f| f.kendall_tau_b), of(&|f| f.rmse), of(&|f| f.mae)];
            let _ = writeln!(page, "| {} | {} | {} | {} |", row.title, row.seeds, r.join(" | "), rest.join(" | "));
        }
        let reference = &self.place.protocol.method(&group.reference)?.title;
        let _ = writeln!(
            page,
            "\n**{reference} minus each**, paired by seed:\n\n| | test r | OOD r | OOD r, bootstrap | OOD RMSE |\n|---|---|---|---|---|"
        );
        for row in &rows {
            let Some(behind) = &row.behind else { continue };
            let bootstrap = behind.bootstrap.map_or("–".into(), |(low, high)| format!("[{}, {}]", signed(low), signed(high)));
            let (test, outside, rmse) = (difference(behind.test), difference(behind.outside), difference(behind.rmse));
            let _ = writeln!(page, "| {} | {test} | {outside} | {bootstrap} | {rmse} |", row.title);
        }
        page.push_str("\nHow scores spread on the test set, and what the chains are good for:\n\n");
        page.push_str("| method | fullest bin | entropy, bits | Wasserstein | decoded r | decoded RMSE | right verdicts | forced | moved by a swap | follows chain | follows prompt |\n");
        page.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
        let people = Figures::of_scores(&self.tasks[task].human["test"], &self.tasks[task].human["test"]);
        let _ =
            writeln!(page, "| *people* | {} | {} | 0 | | | | | | | |", plain(people.modal_share, 3), plain(people.entropy, 2));
        for (row, name) in rows.iter().zip(&group.methods) {
            let cells = self.cells(group, task, name);
            let of = |f: &dyn Fn(&Figures) -> Option<f64>| short(self.mean(&cells, &["test"], f));
            let swap = |f: &dyn Fn(&super::figures::ChainSwap) -> Option<f64>| {
                let values: Vec<f64> = cells.iter().filter_map(|c| f(c.chain_swap.as_ref()?)).collect();
                short(Mean::of(&values))
            };
            let figures = [
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
            let _ = writeln!(page, "| {} | {} |", row.title, figures.join(" | "));
        }
        page.push('\n');
        Ok(())
    }
}

impl Task {
    fn make(place: &CellPaths, task: &str) -> Result<Self, CompareError> {
        let miniature = Miniature::new(version(task).map_err(CompareError::Cell)?, place.protocol.data_seed);
        let sizes = place.protocol.sizes();
        let train = miniature.items(Split::Train, sizes.train);
        let people = |items: &[Item]| items.iter().map(|i| i.score).collect::<Vec<f64>>();
        let lengths = |items: &[Item]| items.iter().map(Item::response_length).collect::<Vec<usize>>();
        let train_scores = people(&train);
        let line = floors::fit_length(&lengths(&train), &train_scores)?;
        let mean = train_scores.iter().sum::<f64>() / train.len().max(1) as f64;
        let mut human = BTreeMap::new();
        let mut marks: Vec<(&'static str, BTreeMap<&'static str, Figures>)> =
            ["constant", "response length", "word counts", "150 annotators (ceiling)"].map(|n| (n, BTreeMap::new())).into();
        for split in Split::TESTS {
            let test = TestItems::make(&miniature, split, sizes)?;
            let labels = people(&test.items);
            let constant = vec![mean; labels.len()];
            let length = line.as_ref().map_or_else(|_| constant.clone(), |l| l.predict_lengths(&lengths(&test.items)));
            let words = word_count_floor(&train, &test.items).map_err(|e| CompareError::Cell(e.to_string()))?;
            for (mark, scores) in marks.iter_mut().zip([constant, length, words, test.ceiling]) {
                mark.1.insert(split.name(), Figures::of_scores(&labels, &scores));
            }
            human.insert(split.name(), labels);
        }
        Ok(Task { human, marks })
    }
}

/// The mean of a figure over sets of one cell.
fn over(cell: &Cell, sets: &[&str], of: &impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
    let each: Option<Vec<f64>> = sets.iter().map(|name| of(&cell.set(name)?.figures)).collect();
    each.map(|e| e.iter().sum::<f64>() / e.len() as f64)
}

fn plain(x: Option<f64>, digits: usize) -> String {
    x.map_or("–".into(), |x| format!("{x:.digits$}"))
}

fn short(mean: Option<Mean>) -> String {
    plain(mean.map(|m| m.mean), 3)
}

fn signed(x: f64) -> String {
    format!("{x:+.3}")
}

fn with_half(mean: Option<Mean>) -> String {
    mean.map_or("–".into(), |m| match m.half {
        Some(half) => format!("{:.3} ± {half:.3}", m.mean),
        None => format!("{:.3}", m.mean),
    })
}

/// A difference; bold where its interval excludes zero.
fn difference(mean: Option<Mean>) -> String {
    let Some(m) = mean else { return "–".into() };
    let text = m.half.map_or(signed(m.mean), |half| format!("{} ± {half:.3}", signed(m.mean)));
    if m.excludes_zero() { format!("**{text}**") } else { text }
}

/// Refuses a folder for results in which somebody else's file has the name of the tables or of the page: asked before hours of
/// work.
///
/// # Errors
/// As said.
pub fn refuse_foreign_pages(place: &CellPaths) -> Result<(), CompareError> {
    refuse_foreign(&place.results.join(TABLES), |there| there.starts_with(OPENING))?;
    super::page::refuse_foreign_page(place)
}

/// Writes the tables of what is finished beside the cells; returns the file.
///
/// # Errors
/// As [`Results::to_markdown`]; a folder that cannot be written to.
pub fn write_tables(results: &Results) -> Result<PathBuf, CompareError> {
    let dir = &results.place.results;
    std::fs::create_dir_all(dir).map_err(file_error("create", dir))?;
    let path = dir.join(TABLES);
    write_own(&path, results.to_markdown()?.as_bytes(), |there| there.starts_with(OPENING))?;
    Ok(path)
}
