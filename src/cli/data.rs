//! `jurist data check`: what was recognised in a file, and what a model would learn from it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CliError, Context, DataArgs, DataCheckArgs, DataCommand, PartArgs, print};
use crate::bundle::Wanted;
use crate::data::{
    Bin, DataError, Dataset, Example, Labels, Layout, Percentiles, Reader, Repeated, View, histogram, percentiles, repeated,
    shared_with,
};
use crate::eval::table::{Cell, Table};
use crate::judge::{JudgeError, JudgePrompt, JudgeSettings, Scale, preview, tokenizer_at};
use crate::progress::Progress;
use crate::text::{SpecialTokens, Tokenizer, word_level};

/// Of more rows than this, the tokens of some are counted, evenly taken.
const MOST_TOKENISED: usize = 5000;
/// Bad rows that are shown.
const MOST_BAD: usize = 5;
/// Layouts that are shown.
const MOST_LAYOUTS: usize = 4;
/// Characters of the longest bar.
const BAR: usize = 40;
/// Characters of the row's text that are shown where there is no tokenizer.
const MOST_TEXT: usize = 1500;

/// Runs a subcommand of `data`.
pub fn run(args: &DataArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        DataCommand::Check(args) => check(args, context),
    }
}

fn check(args: &DataCheckArgs, context: &Context) -> Result<(), CliError> {
    if let Some(model) = &args.model {
        context.fetch(model, Wanted::Description, &mut context.progress())?;
    }
    let data = read(args, &args.file)?;
    let other = args.against.as_deref().map(|file| read(args, file)).transpose()?;
    let judge = Judging::of(args, &data, context)?;
    let survey = Survey::of(&data, other.as_ref(), &judge);
    if args.json {
        print(&(serde_json::to_string_pretty(&survey.to_json()).unwrap_or_default() + "\n"))?;
    } else {
        print(&survey.to_text())?;
    }
    match data.bad.len() {
        0 => Ok(()),
        _ if args.skip_bad => Ok(()),
        1 => Err(CliError::Failed(format!("{}: 1 row is bad", data.file))),
        bad => Err(CliError::Failed(format!("{}: {bad} rows are bad", data.file))),
    }
}

fn read(args: &DataCheckArgs, file: &Path) -> Result<Dataset, DataError> {
    let mut view = View { labels: Labels::Optional, chain_column: args.chain_column.clone(), ..View::default() };
    if let Some(column) = &args.label_column {
        (view.label_column, view.labels) = (column.clone(), Labels::Required);
    }
    let PartArgs { limit, shuffle_seed, max_decompressed } = args.part;
    let limit = limit.map(|n| n as usize);
    Reader { view, skip_bad: true, limit, shuffle_seed, max_decompressed }.read_path(file)
}

/// How rows would be judged.
struct Judging {
    tokenizer: Option<Tokenizer>,
    template: String,
    scale: Scale,
    prompt: JudgePrompt,
}

impl Judging {
    fn of(args: &DataCheckArgs, data: &Dataset, context: &Context) -> Result<Self, CliError> {
        let folder = args.model.as_deref().map(|model| context.open(model)).transpose()?;
        let stored = folder.as_ref().map(JudgeSettings::of_folder).transpose()?.flatten();
        let tokenizer = match (&folder, &args.tokenizer) {
            (Some(folder), _) => Some(folder.tokenizer().map_err(JudgeError::from)?),
            (None, Some(path)) => Some(tokenizer_at(path)?),
            (None, None) => None,
        };
        // Without a tokenizer rows are shown as text, of which any tokenizer serves.
        let unknown = SpecialTokens { unk: Some("<unk>".into()), ..SpecialTokens::default() };
        let words = word_level(&["rows"], &unknown).map_err(JudgeError::from)?;
        let known = tokenizer.as_ref().unwrap_or(&words);
        let mut settings = JudgeSettings::resolve(stored, &args.judge.overrides()?, known, &data.examples)?;
        settings.state_date(known)?.iter().for_each(|note| context.progress().note(note));
        let prompt = settings.prompt(known)?;
        Ok(Judging { tokenizer, template: settings.template, scale: settings.scale, prompt })
    }

    /// A row as the model sees it.
    fn shown(&self, example: &Example) -> Result<String, JudgeError> {
        let recognised = example.record.prompt.is_some() || example.record.grading.is_some();
        if !recognised && ["plain", "judge"].contains(&self.template.as_str()) {
            return Err(JudgeError::Row {
                place: example.row.place(),
                found: "no column is known as a prompt or as an instruction with its response".into(),
                fix: "write a Jinja template over the row's columns and name it with --template".into(),
            });
        }
        let text = self.prompt.text(example)?;
        let Some(tokenizer) = &self.tokenizer else {
            let cut = text.char_indices().nth(MOST_TEXT).map(|(at, _)| at);
            let rest = cut.map_or(0, |at| text[at..].chars().count());
            let more = if rest > 0 { format!("... ({rest} characters more)") } else { String::new() };
            return Ok(format!("{}{more}\n", &text[..cut.unwrap_or(text.len())]));
        };
        let tokens = self.prompt.score_tokens(tokenizer)?;
        let sequence = self.prompt.sequence(example, &tokens, tokenizer, false)?;
        let share = |(score, weight): &(usize, f64)| format!("{} ({weight:.3})", self.scale.texts()[*score]);
        let target: Vec<String> = sequence.split.weights.iter().map(share).collect();
        Ok(format!("{}target of the score: {}\n", preview(&sequence, tokenizer), target.join(", ")))
    }
}

/// The columns of the first rows that are no known part.
fn columns_aside<'a>(data: &'a Dataset, layouts: &[(&Layout, usize)]) -> Vec<&'a str> {
    let columns = || layouts.iter().flat_map(|(layout, _)| layout.parts().map(|(_, column)| column));
    let described = columns().any(|column| column == "orig_criteria");
    let offered = data.examples.iter().flat_map(|e| e.record.offered.keys().map(String::as_str));
    let mut known: HashSet<&str> =
        columns().flat_map(|column| [column, column.split('.').next().unwrap_or(column)]).chain(offered).collect();
    let names = data.examples.iter().take(100).flat_map(|e| e.row.fields.keys().map(String::as_str));
    let description = |name: &str| described && name.starts_with("orig_score") && name.ends_with("_description");
    names.filter(|name| !description(name) && known.insert(name)).collect()
}

/// All that is told about a file.
struct Survey<'a> {
    data: &'a Dataset,
    /// Each layout with how many rows have it, the commonest first.
    layouts: Vec<(&'a Layout, usize)>,
    /// Columns that are no known part.
    aside: Vec<&'a str>,
    template: &'a str,
    scale: &'a Scale,
    labels: Vec<f64>,
    off_scale: usize,
    bins: Vec<Bin>,
    /// Rows with the scores of several annotators, and how many scores that are.
    annotated: (usize, usize),
    /// What was measured, in which unit.
    lengths: Vec<(&'static str, &'static str, Percentiles)>,
    /// Every so many rows were tokenised.
    tokenised_every: usize,
    same: [Repeated; 2],
    against: Option<(&'a Dataset, [Repeated; 2])>,
    /// The row that is shown, and how the model sees it or why it cannot.
    row: (String, Result<String, String>),
}

impl<'a> Survey<'a> {
    fn of(data: &'a Dataset, other: Option<&'a Dataset>, judge: &'a Judging) -> Self {
        let mut counted: BTreeMap<&Layout, usize> = BTreeMap::new();
        data.examples.iter().for_each(|e| *counted.entry(&e.record.layout).or_default() += 1);
        let mut layouts: Vec<(&Layout, usize)> = counted.into_iter().collect();
        layouts.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let aside = columns_aside(data, &layouts);
        let labels: Vec<f64> = data.examples.iter().filter_map(|e| e.record.score).collect();
        let several = data.examples.iter().filter(|e| e.record.annotations().len() > 1);
        let annotated = several.fold((0, 0), |(rows, scores), e| (rows + 1, scores + e.record.annotations().len()));
        let (lengths, tokenised_every) = lengths(data, judge);
        // A row with a label and a chain shows most.
        let fullness = |e: &&Example| (e.record.score.is_some(), e.record.chain.is_some());
        let best = data.examples.iter().map(|e| fullness(&e)).max();
        let row = data.examples.iter().find(|e| Some(fullness(e)) == best);
        let row = row.map_or((String::new(), Err("there is no row".into())), |e| {
            (e.row.place(), judge.shown(e).map_err(|error| error.to_string()))
        });
        Survey {
            data,
            layouts,
            aside,
            template: &judge.template,
            scale: &judge.scale,
            off_scale: labels.iter().filter(|label| judge.scale.split(**label).is_err()).count(),
            bins: histogram(&labels),
            labels,
            annotated,
            lengths,
            tokenised_every,
            same: [false, true].map(|loosely| repeated(data, loosely)),
            against: other.map(|other| (other, [false, true].map(|loosely| shared_with(data, other, loosely)))),
            row,
        }
    }

    /// Mean and standard deviation of the labels.
    fn moments(&self) -> Option<(f64, f64)> {
        let n = self.labels.len() as f64;
        let mean = self.labels.iter().sum::<f64>() / n;
        let variance = self.labels.iter().map(|label| (label - mean).powi(2)).sum::<f64>() / n;
        (!self.labels.is_empty()).then(|| (mean, variance.sqrt()))
    }

    fn to_text(&self) -> String {
        let (data, rows) = (self.data, self.data.examples.len());
        let mut text = format!("{}: {}; {rows} rows, {} bad\n", data.file, data.format, data.bad.len());
        for error in data.bad.iter().take(MOST_BAD) {
            text += &format!("  {error}\n");
        }
        if data.bad.len() > MOST_BAD {
            text += &format!("  ... and {} more\n", data.bad.len() - MOST_BAD);
        }
        for (layout, count) in self.layouts.iter().take(MOST_LAYOUTS) {
            let parts: Vec<String> = layout.parts().map(|(part, column)| format!("{part} from `{column}`")).collect();
            let parts = if parts.is_empty() { "nothing that is recognised".into() } else { parts.join(", ") };
            text += &format!("read: {parts} ({count} rows)\n");
        }
        if self.layouts.len() > MOST_LAYOUTS {
            text += &format!("read: {} other layouts\n", self.layouts.len() - MOST_LAYOUTS);
        }
        if !self.aside.is_empty() {
            text += &format!("other columns, which a template of your own may read: {}\n", self.aside.join(", "));
        }
        text += &self.labels_text();
        let mut table = Table::new(["length", "unit", "rows", "min", "50 %", "90 %", "99 %", "max"]);
        for (what, unit, p) in &self.lengths {
            let figures = [p.n, p.min, p.p50, p.p90, p.p99, p.max].map(|n| Cell::from(n.to_string()));
            table.row([Cell::from(*what), Cell::from(*unit)].into_iter().chain(figures));
        }
        if !self.lengths.is_empty() {
            text += &format!("\n{table}");
        }
        if self.tokenised_every > 1 {
            text += &format!("tokens: of one row in {}\n", self.tokenised_every);
        }
        let [exactly, loosely] = &self.same;
        text += &format!("\nrows that repeat an earlier one: {}\n", told(exactly));
        text += &format!("  without case, punctuation and spaces: {}\n", told(loosely));
        if let Some((other, [exactly, loosely])) = &self.against {
            text += &format!("rows that also stand in {} ({} rows): {}\n", other.file, other.examples.len(), told(exactly));
            text += &format!("  without case, punctuation and spaces: {}\n", told(loosely));
        }
        let (place, shown) = &self.row;
        match shown {
            Ok(shown) => text + &format!("\n{place} with the template {}:\n\n{shown}", self.template),
            Err(error) => text + &format!("\nno row can be shown with the template {}: {error}\n", self.template),
        }
    }

    fn labels_text(&self) -> String {
        let Some((mean, sd)) = self.moments() else { return "\nno row has a label\n".into() };
        let mut text = String::from("\n");
        let name = |bin: &Bin| {
            let short = |x: f64| format!("{:.4}", x).trim_end_matches('0').trim_end_matches('.').to_string();
            if bin.from == bin.to { short(bin.from) } else { format!("{} to {}", short(bin.from), short(bin.to)) }
        };
        let most = self.bins.iter().map(|bin| bin.rows).max().unwrap_or(1);
        let mut table = Table::new(["label", "rows", "share"]);
        for bin in &self.bins {
            let share = format!("{:.1} %", 100.0 * bin.rows as f64 / self.labels.len() as f64);
            table.row([Cell::from(name(bin)), Cell::from(bin.rows.to_string()), Cell::from(share)]);
        }
        let table = table.to_string();
        let mut lines = table.lines();
        lines.by_ref().take(2).for_each(|line| text += &format!("{line}\n"));
        for (line, bin) in lines.zip(&self.bins) {
            text += &format!("{line}  {}\n", bar(bin.rows, most));
        }
        text += &format!("mean {mean:.3}, sd {sd:.3} (the RMSE of a judge that always says the mean)\n");
        let unlabelled = self.data.examples.len() - self.labels.len();
        if unlabelled > 0 {
            text += &format!("{unlabelled} rows have no label\n");
        }
        if self.off_scale > 0 {
            let (min, max) = (self.scale.min(), self.scale.max());
            text += &format!("{} labels are outside the scale {min} to {max}: give --scale as in training\n", self.off_scale);
        }
        if let (rows @ 1.., scores) = self.annotated {
            text += &format!("{rows} rows carry the scores of several annotators, {scores} scores in all\n");
        }
        text
    }

    fn to_json(&self) -> Value {
        let (data, place) = (self.data, &self.row.0);
        let layout = |(layout, rows): &(&Layout, usize)| {
            let parts: Map<String, Value> = layout.parts().map(|(part, column)| (part.into(), column.into())).collect();
            json!({ "rows": rows, "columns": parts })
        };
        let bin = |bin: &Bin| json!({ "from": bin.from, "to": bin.to, "rows": bin.rows });
        let length = |(what, unit, p): &(&str, &str, Percentiles)| json!({ "of": what, "unit": unit, "rows": p.n, "min": p.min, "p50": p.p50, "p90": p.p90, "p99": p.p99, "max": p.max });
        let pair = |[exactly, loosely]: &[Repeated; 2]| json!({ "exactly": found(exactly), "loosely": found(loosely) });
        let (mean, sd) = self.moments().unzip();
        json!({
            "file": data.file,
            "format": data.format,
            "rows": data.examples.len(),
            "bad": data.bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "layouts": self.layouts.iter().map(layout).collect::<Vec<_>>(),
            "other_columns": self.aside,
            "labels": {
                "rows": self.labels.len(), "mean": mean, "sd": sd, "off_scale": self.off_scale,
                "scale": [self.scale.min(), self.scale.max()], "histogram": self.bins.iter().map(bin).collect::<Vec<_>>(),
            },
            "annotators": { "rows": self.annotated.0, "scores": self.annotated.1 },
            "lengths": self.lengths.iter().map(length).collect::<Vec<_>>(),
            "tokenised_every": self.tokenised_every,
            "repeated": pair(&self.same),
            "against": self.against.as_ref().map(|(other, shared)| {
                json!({ "file": other.file, "rows": other.examples.len(), "shared": pair(shared) })
            }),
            "template": self.template,
            "row": { "place": place, "shown": self.row.1.as_ref().ok(), "error": self.row.1.as_ref().err() },
        })
    }
}

/// Lengths of what the model reads, in characters and, with a tokenizer, in tokens; and of how many rows one was tokenised.
fn lengths(data: &Dataset, judge: &Judging) -> (Vec<(&'static str, &'static str, Percentiles)>, usize) {
    let characters = |texts: Vec<Option<usize>>| percentiles(texts.into_iter().flatten().collect());
    let rows = || data.examples.iter();
    let count = |text: &str| text.chars().count();
    let mut found = vec![
        ("prompt", "characters", characters(rows().map(|e| judge.prompt.text(e).ok().map(|t| count(&t))).collect())),
        ("response", "characters", characters(rows().map(|e| e.record.grading.as_ref().map(|g| count(&g.response))).collect())),
        ("chain", "characters", characters(rows().map(|e| e.record.chain.as_deref().map(count)).collect())),
    ];
    let mut every = 1;
    if let Some(tokenizer) = &judge.tokenizer {
        every = data.examples.len().div_ceil(MOST_TOKENISED).max(1);
        let sampled = || data.examples.iter().step_by(every);
        let prompts = sampled().map(|e| judge.prompt.prompt_ids(e, tokenizer).ok().map(|ids| ids.len())).collect();
        let chain = |e: &Example| {
            let (ids, _) = judge.prompt.chain_ids(e.record.chain.as_deref()?, true, tokenizer).ok()?;
            Some(ids.len())
        };
        found.push(("prompt", "tokens", characters(prompts)));
        found.push(("chain", "tokens", characters(sampled().map(chain).collect())));
    }
    (found.into_iter().filter_map(|(what, unit, p)| Some((what, unit, p?))).collect(), every)
}

fn told(repeated: &Repeated) -> String {
    let mut text = repeated.rows.to_string();
    if repeated.other_label > 0 {
        text += &format!(", {} of them with another label", repeated.other_label);
    }
    if let Some((a, b)) = &repeated.first {
        text += &format!(", the first {b} as {a}");
    }
    text
}

fn found(repeated: &Repeated) -> Value {
    json!({ "rows": repeated.rows, "other_label": repeated.other_label, "first": repeated.first })
}

/// A bar whose length is `rows` of `most`, to an eighth of a character.
fn bar(rows: usize, most: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (rows * BAR * 8).div_ceil(most.max(1));
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}
