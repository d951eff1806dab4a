//! The figures and the outcome of gates as Markdown, as the summary of a GitHub step shows it.

use super::Checked;
use crate::eval::figures::Figure;
use crate::eval::gates::short;
use crate::words::count;

/// Figures that are shown in any case.
const SHOWN: [&str; 14] = [
    "n",
    "coverage",
    "pearson",
    "spearman",
    "rmse",
    "bias",
    "kappa_quadratic",
    "accuracy",
    "kappa_unweighted",
    "tie_rate",
    "consistency",
    "first_wins",
    "calibrated.rmse",
    "calibrated.interval_coverage",
];

/// The document.
pub fn markdown(command: &str, checked: &[Checked]) -> String {
    checked.iter().map(|file| of_file(command, file)).collect()
}

fn of_file(command: &str, file: &Checked) -> String {
    let mut text = format!("### jurist {command}: {}\n\n", cell(&file.name));
    let checks = file.checks();
    if !checks.is_empty() {
        let failed = checks.iter().filter(|(_, failure)| failure.is_some()).count();
        text += &match failed {
            0 => format!("**passed** ({})\n\n| check | |\n|---|---|\n", count(checks.len(), "check")),
            failed => format!("**failed** ({failed} of {})\n\n| check | |\n|---|---|\n", count(checks.len(), "check")),
        };
        for (check, failure) in &checks {
            let outcome = failure.as_ref().map_or("passed".into(), |failure| format!("**failed**: {}", cell(failure)));
            text += &format!("| `{}` | {outcome} |\n", code(check));
        }
        text.push('\n');
    }
    text += "| figure | value | interval |\n|---|---|---|\n";
    let is_shown = |figure: &&Figure| SHOWN.contains(&figure.name.as_str()) || figure.name.starts_with("recall(");
    for figure in file.figures.iter().filter(is_shown) {
        let value =
            figure.value.as_ref().map_or_else(|reason| format!("– ({reason})"), |value| short((value * 1000.0).round() / 1000.0));
        let interval = match &figure.interval {
            Some(Ok(interval)) => interval.ends(),
            _ => String::new(),
        };
        text += &format!("| {} | {} | {interval} |\n", cell(&figure.name), cell(&value));
    }
    text + "\n"
}

/// A text in a cell of a table: on one line, without what ends the cell or is HTML.
fn cell(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// A text between backquotes in a cell: nothing but these and the cell's end means anything there.
fn code(text: &str) -> String {
    text.replace('`', "'").replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Undefined;
    use crate::eval::gates::Outcome;

    #[test]
    fn checks_and_figures_are_tables() {
        let outcome = |requirement: &str, failure: Option<&str>| Outcome {
            requirement: requirement.into(),
            found: None,
            failure: failure.map(String::from),
        };
        let file = Checked {
            name: "a|b.csv".into(),
            figures: vec![Figure::plain("pearson", Ok(0.81234)), Figure::plain("rmse", Err(Undefined::ConstantJudge))],
            outcomes: vec![outcome("pearson>=0.8", None), outcome("rmse<1", Some("rmse is undefined"))],
            drift: None,
            record: None,
        };
        let text = markdown("agree", &[file]);
        for part in [
            "### jurist agree: a\\|b.csv\n",
            "**failed** (1 of 2 checks)",
            "| `pearson>=0.8` | passed |",
            "| `rmse<1` | **failed**: rmse is undefined |",
            "| pearson | 0.812 |  |",
            "| rmse | – (all judge scores are the same) |  |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
