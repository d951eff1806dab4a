//! `jurist data check`: what `jurist` reads in a file, and what a model would learn from it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CliError, Context, DataArgs, DataCheckArgs, DataCommand, PartArgs, print, print_json};
use crate::data::{Bin, ColumnOptions, Dataset, Labels, Layout, Percentiles, Reader, Repeated, Survey, most_complete};
use crate::eval::table::{Cell, Table};
use crate::hub::Wanted;
use crate::judge::{JudgeError, JudgeSettings, Length, RowView, Scale, tokenizer_at};
use crate::progress::Progress;
use crate::words::count;

/// Bad rows that are shown.
const MOST_BAD: usize = 5;
/// Layouts that are shown.
const MOST_LAYOUTS: usize = 4;
/// Characters of the longest bar.
const BAR: usize = 40;

/// Runs a subcommand of `data`.
pub fn run(args: &DataArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        DataCommand::Check(args) => check(args, context),
        DataCommand::Split(args) => super::split::run(args, context),
    }
}

fn check(args: &DataCheckArgs, context: &Context) -> Result<(), CliError> {
    if let Some(model) = &args.model {
        context.fetch(model, Wanted::Description, &mut context.progress())?;
    }
    let data = read(args, &args.file, context)?;
    let other = args.against.as_deref().map(|file| read(args, file, context)).transpose()?;
    let view = view(args, &data, context)?;
    let report = CheckReport::new(&data, other.as_ref(), &view);
    if args.json {
        print_json(&report.to_json())?;
    } else {
        print(&report.to_text())?;
    }
    // Training refuses both.
    let off_scale = format!("{} outside the scale", count(report.off_scale, "label"));
    let faults = [(data.bad.len(), count(data.bad.len(), "bad row")), (report.off_scale, off_scale)];
    let faults: Vec<String> = faults.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
    match faults.is_empty() || args.skip_bad {
        true => Ok(()),
        false => Err(CliError::Failed(format!("{}: {}", data.file, faults.join(", ")))),
    }
}

fn read(args: &DataCheckArgs, file: &Path, context: &Context) -> Result<Dataset, CliError> {
    let scale = args.judge.scale_of(args.model.as_deref(), context)?;
    let words = scale.map_or_else(Default::default, |scale| scale.label_words());
    let chain_column = args.chain_column.clone();
    let pairs = args.judge.compares(args.model.as_deref(), context);
    let mut columns = ColumnOptions { labels: Labels::Optional, chain_column, words, pairs, ..ColumnOptions::default() };
    if let Some(column) = &args.label_column {
        (columns.label_column, columns.labels) = (column.clone(), Labels::Required);
    }
    let PartArgs { limit, shuffle_seed, max_decompressed } = args.part;
    let limit = limit.map(|n| n as usize);
    Ok(Reader { columns, skip_bad: true, limit, shuffle_seed, max_decompressed }.read_path(file)?)
}

fn view(args: &DataCheckArgs, data: &Dataset, context: &Context) -> Result<RowView, CliError> {
    let folder = args.model.as_deref().map(|model| context.open(model)).transpose()?;
    let stored = folder.as_ref().map(JudgeSettings::of_folder).transpose()?.flatten();
    let tokenizer = match (&folder, &args.tokenizer) {
        (Some(folder), _) => Some(folder.tokenizer().map_err(JudgeError::from)?),
        (None, Some(path)) => Some(tokenizer_at(path)?),
        (None, None) => None,
    };
    Ok(RowView::new(stored, &args.judge.overrides()?, tokenizer, &data.examples, |note| context.progress().note(note))?)
}

/// Everything that the check reports about a file.
struct CheckReport<'a> {
    data: &'a Dataset,
    survey: Survey<'a>,
    template: &'a str,
    scale: &'a Scale,
    off_scale: usize,
    lengths: Vec<Length>,
    /// One row in so many was tokenised.
    tokenised_every: usize,
    /// The row that is shown, and how the model sees it or why it cannot.
    row: (String, Result<String, String>),
}

impl<'a> CheckReport<'a> {
    fn new(data: &'a Dataset, other: Option<&'a Dataset>, view: &'a RowView) -> Self {
        let survey = Survey::of(data, other);
        let (lengths, tokenised_every) = view.lengths(data);
        let row = most_complete(data).map_or((String::new(), Err("there is no row".into())), |e| {
            (e.row.location(), view.shown(e).map_err(|error| error.to_string()))
        });
        let (template, scale) = (view.settings().template.as_str(), &view.settings().scale);
        let off_scale = survey.labels.iter().filter(|label| scale.split(**label).is_err()).count();
        CheckReport { data, survey, template, scale, off_scale, lengths, tokenised_every, row }
    }

    fn to_text(&self) -> String {
        let (data, rows) = (self.data, self.data.examples.len());
        let mut text = format!("{}: {}; {}, {} bad\n", data.file, data.format, count(rows, "row"), data.bad.len());
        for error in data.bad.iter().take(MOST_BAD) {
            text += &format!("  {error}\n");
        }
        if data.bad.len() > MOST_BAD {
            text += &format!("  ... and {} more\n", data.bad.len() - MOST_BAD);
        }
        for (layout, rows) in self.survey.layouts.iter().take(MOST_LAYOUTS) {
            let parts: Vec<String> = layout.parts().map(|(part, column)| format!("{part} from `{column}`")).collect();
            let parts = if parts.is_empty() { "no known column".into() } else { parts.join(", ") };
            text += &format!("read: {parts} ({})\n", count(*rows, "row"));
        }
        if self.survey.layouts.len() > MOST_LAYOUTS {
            text += &format!("read: {}\n", count(self.survey.layouts.len() - MOST_LAYOUTS, "other layout"));
        }
        if !self.survey.other_columns.is_empty() {
            text += &format!("other columns, which a custom template can read: {}\n", self.survey.other_columns.join(", "));
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
        let [exactly, loosely] = &self.survey.same;
        text += &format!("\nrows that repeat an earlier one: {}\n", repeated_text(exactly));
        text += &format!("  ignoring case, punctuation and spaces: {}\n", repeated_text(loosely));
        if let Some((other, [exactly, loosely])) = &self.survey.against {
            text += &format!(
                "rows that are also in {} ({}): {}\n",
                other.file,
                count(other.examples.len(), "row"),
                repeated_text(exactly)
            );
            text += &format!("  ignoring case, punctuation and spaces: {}\n", repeated_text(loosely));
        }
        let (place, shown) = &self.row;
        match shown {
            Ok(shown) => text + &format!("\n{place} with the template {}:\n\n{shown}", self.template),
            Err(error) => text + &format!("\nno row can be shown with the template {}: {error}\n", self.template),
        }
    }

    fn labels_text(&self) -> String {
        let Some((mean, sd)) = self.survey.moments() else { return "\nno row has a label\n".into() };
        let mut text = String::from("\n");
        let name = |bin: &Bin| {
            let short = |x: f64| format!("{:.4}", x).trim_end_matches('0').trim_end_matches('.').to_string();
            if bin.from == bin.to { short(bin.from) } else { format!("{} to {}", short(bin.from), short(bin.to)) }
        };
        let most = self.survey.bins.iter().map(|bin| bin.rows).max().unwrap_or(1);
        let mut table = Table::new(["label", "rows", "share"]);
        for bin in &self.survey.bins {
            let share = format!("{:.1} %", 100.0 * bin.rows as f64 / self.survey.labels.len() as f64);
            table.row([Cell::from(name(bin)), Cell::from(bin.rows.to_string()), Cell::from(share)]);
        }
        let table = table.to_string();
        let mut lines = table.lines();
        lines.by_ref().take(2).for_each(|line| text += &format!("{line}\n"));
        for (line, bin) in lines.zip(&self.survey.bins) {
            text += &format!("{line}  {}\n", bar(bin.rows, most));
        }
        text += &format!("mean {mean:.3}, sd {sd:.3} (the RMSE of a judge that always says the mean)\n");
        let unlabelled = self.data.examples.len() - self.survey.labels.len();
        if unlabelled > 0 {
            text += &format!("{} without a label\n", count(unlabelled, "row"));
        }
        if self.off_scale > 0 {
            let (min, max) = (self.scale.min(), self.scale.max());
            text +=
                &format!("{} outside the scale {min} to {max}: give --scale as in training\n", count(self.off_scale, "label"));
        }
        if let (rows @ 1.., scores) = self.survey.annotated {
            text += &format!("{} with scores of several annotators, {scores} scores in total\n", count(rows, "row"));
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
        let pair =
            |[exactly, loosely]: &[Repeated; 2]| json!({ "exactly": repeated_json(exactly), "loosely": repeated_json(loosely) });
        let (mean, sd) = self.survey.moments().unzip();
        json!({
            "file": data.file,
            "format": data.format,
            "rows": data.examples.len(),
            "bad": data.bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "layouts": self.survey.layouts.iter().map(layout).collect::<Vec<_>>(),
            "other_columns": self.survey.other_columns,
            "labels": {
                "rows": self.survey.labels.len(), "mean": mean, "sd": sd, "off_scale": self.off_scale,
                "scale": [self.scale.min(), self.scale.max()], "histogram": self.survey.bins.iter().map(bin).collect::<Vec<_>>(),
            },
            "annotators": { "rows": self.survey.annotated.0, "scores": self.survey.annotated.1 },
            "lengths": self.lengths.iter().map(length).collect::<Vec<_>>(),
            "tokenised_every": self.tokenised_every,
            "repeated": pair(&self.survey.same),
            "against": self.survey.against.as_ref().map(|(other, shared)| {
                json!({ "file": other.file, "rows": other.examples.len(), "shared": pair(shared) })
            }),
            "template": self.template,
            "row": { "place": place, "shown": self.row.1.as_ref().ok(), "error": self.row.1.as_ref().err() },
        })
    }
}

fn repeated_text(repeated: &Repeated) -> String {
    let mut text = repeated.rows.to_string();
    if repeated.other_label > 0 {
        text += &format!(", {} of them with another label", repeated.other_label);
    }
    if let Some((a, b)) = &repeated.first {
        text += &format!(", the first {b} as {a}");
    }
    text
}

fn repeated_json(repeated: &Repeated) -> Value {
    json!({ "rows": repeated.rows, "other_label": repeated.other_label, "first": repeated.first })
}

/// A bar whose length is `rows` of `most`, to an eighth of a character.
fn bar(rows: usize, most: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (rows * BAR * 8).div_ceil(most.max(1));
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}
