//! Pairs: a judge's verdicts on two responses, compared with people's preferences and with itself when the order is swapped.
//!
//! A judge that scores each response alone has one verdict per pair. A judge that reads both at once has two, one per order, and
//! the verdict of the pair is that of their mean.

use serde_json::{Map, Value, json};

use super::figures::{Figure, Share, shares, without_intervals};
use super::intervals::{Bootstrap, Interval};
use super::position::{Winner, position_bias};
use super::table::{Cell, Table, fixed};
use super::{EvalError, Measured, Undefined};

/// One pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairRow {
    /// People's preference: above 1/2 for the first response, below for the second, 1/2 for a tie.
    pub human: Option<f64>,
    /// The judge's verdict; `None` where it has none.
    pub verdict: Option<Winner>,
    /// Probability that the first response is better, with half of the ties.
    pub first: Option<f64>,
    /// The verdicts in both orders, by position, of a judge that reads both responses at once.
    pub orders: Option<(Winner, Winner)>,
    /// The row's category, if rows have any.
    pub category: Option<String>,
}

/// The figures of pairs.
#[derive(Clone, Debug)]
pub struct PairEvaluation {
    /// All pairs, those with a verdict, and those with a preference of people besides.
    pub counts: [usize; 3],
    /// Verdicts for the first response, the second, and ties.
    pub verdicts: [usize; 3],
    /// The figures, with intervals.
    pub figures: Vec<Figure>,
    /// The number of compared pairs and the accuracy in each category, if there are several.
    pub categories: Vec<(String, usize, Figure)>,
    bootstrap: Value,
    cluster: Option<String>,
}

/// Figures of pairs, in the order of tables.
pub const PAIR_FIGURES: [&str; 8] =
    ["accuracy", "accuracy_decided", "three_way_accuracy", "tie_rate", "brier", "consistency", "first_wins", "position_p"];

/// Counts of pairs, and the share with a verdict.
pub const PAIR_COUNTS: [&str; 4] = ["n", "n_unparsed", "n_labelled", "coverage"];

/// The name of the accuracy in a category.
pub fn accuracy_in(category: &str) -> String {
    format!("accuracy({category})")
}

/// The preference as a verdict.
pub fn preferred(human: f64) -> Winner {
    match human {
        h if h > 0.5 => Winner::First,
        h if h < 0.5 => Winner::Second,
        _ => Winner::Tie,
    }
}

/// 1 where a verdict is people's, 1/2 for a tie of the judge, else 0; `None` where people see a tie.
fn credit(row: &PairRow) -> Option<f64> {
    match (preferred(row.human?), row.verdict?) {
        (Winner::Tie, _) => None,
        (_, Winner::Tie) => Some(0.5),
        (human, verdict) => Some(f64::from(u8::from(human == verdict))),
    }
}

impl PairEvaluation {
    /// Measures pairs. `cluster` is the name of the column whose groups `bootstrap` draws.
    ///
    /// # Errors
    /// A level that is no share; clusters of another length.
    pub fn measure(rows: &[PairRow], cluster: Option<String>, bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let share = |name: &str, without_rows: Undefined, of: &dyn Fn(&PairRow) -> Option<f64>| Share {
            name: name.into(),
            rows: rows.iter().map(of).collect(),
            without_rows,
        };
        let judged = |row: &PairRow| Some((row.human?, row.verdict?));
        let unlabelled = || match rows.iter().any(|row| judged(row).is_some()) {
            true => Undefined::AllTies,
            false => Undefined::NoPreference,
        };
        let order = || match rows.iter().any(|row| row.verdict.is_some()) {
            true => Undefined::OneOrder,
            false => Undefined::TooFewRows { found: 0, needed: 1 },
        };
        let of_orders = |given: Winner, swapped: Winner| f64::from(u8::from(given == swapped.swapped()));
        let mut all = vec![
            share("accuracy", unlabelled(), &credit),
            share("accuracy_decided", unlabelled(), &|row| credit(row).filter(|credit| *credit != 0.5)),
            share("three_way_accuracy", Undefined::NoPreference, &|row| {
                judged(row).map(|(human, verdict)| f64::from(u8::from(preferred(human) == verdict)))
            }),
            share("tie_rate", Undefined::TooFewRows { found: 0, needed: 1 }, &|row| {
                row.verdict.map(|verdict| f64::from(u8::from(verdict == Winner::Tie)))
            }),
            share("brier", Undefined::NoPreference, &|row| Some((row.first? - row.human?).powi(2))),
            share("consistency", order(), &|row| row.orders.map(|(given, swapped)| of_orders(given, swapped))),
        ];
        let categories = categories_of(rows);
        for category in &categories {
            all.push(share(category, unlabelled(), &|row| credit(row).filter(|_| row.category.as_ref() == Some(category))));
        }
        let mut figures = shares(&all, rows.len(), bootstrap)?;
        let of_categories = figures.split_off(all.len() - categories.len());
        let compared = |category: &String| {
            rows.iter().filter(|row| credit(row).is_some() && row.category.as_ref() == Some(category)).count()
        };
        figures.push(first_wins(rows, order(), bootstrap)?);
        let orders: Vec<(Winner, Winner)> = rows.iter().filter_map(|row| row.orders).collect();
        let p = if orders.is_empty() { Err(order()) } else { position_bias(&orders, &[]).p };
        figures.push(Figure::plain("position_p", p));
        let count = |verdict: Winner| rows.iter().filter(|row| row.verdict == Some(verdict)).count();
        Ok(PairEvaluation {
            counts: [
                rows.len(),
                rows.iter().filter(|row| row.verdict.is_some()).count(),
                rows.iter().filter(|row| judged(row).is_some()).count(),
            ],
            verdicts: [count(Winner::First), count(Winner::Second), count(Winner::Tie)],
            categories: categories.iter().zip(of_categories).map(|(name, f)| (name.clone(), compared(name), f)).collect(),
            figures,
            bootstrap: bootstrap.to_json(rows.len()),
            cluster,
        })
    }

    /// The figure called `name`.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// All figures, for gates: the counts, those of tables, and the accuracy in each category, as `accuracy(chat)`.
    pub fn gated(&self) -> Vec<Figure> {
        let [n, judged, labelled] = self.counts.map(|count| count as f64);
        let coverage = if n > 0.0 { Ok(judged / n) } else { Err(Undefined::TooFewRows { found: 0, needed: 1 }) };
        let counts = [Ok(n), Ok(n - judged), Ok(labelled), coverage];
        let counts = PAIR_COUNTS.iter().zip(counts).map(|(name, value)| Figure::plain(*name, value));
        let categories = self.categories.iter().map(|(name, _, figure)| figure.clone().named(accuracy_in(name)));
        counts.chain(self.figures.iter().cloned()).chain(categories).collect()
    }

    /// One sentence on how the intervals were made.
    pub fn how(&self) -> String {
        if let Some(reason) = without_intervals(&self.bootstrap) {
            return reason;
        }
        let unit = self.cluster.as_ref().map_or("pairs".to_string(), |column| {
            format!("the {} groups of `{column}`", self.bootstrap["clusters"].as_u64().unwrap_or_default())
        });
        format!("intervals: {} resamples of {unit}; exact ones for shares", self.bootstrap["resamples"])
    }

    /// A JSON object; undefined figures are null, with the reasons under `undefined`.
    pub fn to_json(&self) -> Value {
        let [n, judged, labelled] = self.counts;
        let [first, second, ties] = self.verdicts;
        let mut object = Map::from_iter([
            ("n".to_string(), json!(n)),
            ("n_unparsed".to_string(), json!(n - judged)),
            ("n_labelled".to_string(), json!(labelled)),
            ("verdicts".to_string(), json!({"A": first, "B": second, "tie": ties})),
        ]);
        self.figures.iter().for_each(|figure| figure.put_into(&mut object));
        if !self.categories.is_empty() {
            let category = |(name, n, figure): &(String, usize, Figure)| {
                let mut own = Map::from_iter([("n".to_string(), json!(n))]);
                figure.clone().named("accuracy").put_into(&mut own);
                (name.clone(), Value::Object(own))
            };
            object.insert("categories".into(), Value::Object(self.categories.iter().map(category).collect()));
        }
        object.insert("bootstrap".into(), self.bootstrap.clone());
        Value::Object(object)
    }

    /// The tables and remarks for the terminal.
    pub fn to_text(&self) -> String {
        let percent = 100.0 * self.bootstrap["level"].as_f64().unwrap_or_default();
        let interval = format!("{} % interval", fixed(percent, 1).trim_end_matches(".0"));
        let mut table = Table::new(["pairs", "value", &interval]);
        for figure in &self.figures {
            table.row([Cell::from(figure.name.as_str())].into_iter().chain(figure.cells()));
        }
        let mut text = table.to_string();
        if !self.categories.is_empty() {
            let mut table = Table::new(["accuracy in", "value", &interval, "pairs"]);
            for (name, n, figure) in &self.categories {
                let counted = [Cell::from(n.to_string())];
                table.row([Cell::from(name.as_str())].into_iter().chain(figure.cells()).chain(counted));
            }
            text += &format!("\n{table}");
        }
        let ([n, judged, labelled], [first, second, ties]) = (self.counts, self.verdicts);
        text + &format!(
            "n {n}, without a verdict {}, compared with people {labelled}; A {first}, B {second}, ties {ties}\n{}\n",
            n - judged,
            self.how()
        )
    }
}

/// The categories of the rows in the order of their names; none if all rows have the same.
fn categories_of(rows: &[PairRow]) -> Vec<String> {
    distinct(rows.iter().filter_map(|row| row.category.as_ref()))
}

/// The names in their order; none if all are the same.
pub fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = names.collect();
    if names.len() < 2 { Vec::new() } else { names.into_iter().cloned().collect() }
}

/// How often the response that is read first wins, among the verdicts that are no ties, minus 1/2.
fn first_wins(rows: &[PairRow], without: Undefined, bootstrap: &Bootstrap) -> Result<Figure, EvalError> {
    let both = |row: &PairRow, verdict: Winner| {
        row.orders.map_or(0.0, |(given, swapped)| f64::from(u8::from(given == verdict) + u8::from(swapped == verdict)))
    };
    let wins: Vec<[f64; 2]> = rows.iter().map(|row| [both(row, Winner::First), both(row, Winner::Second)]).collect();
    let has_orders = rows.iter().any(|row| row.orders.is_some());
    let measure = |times: &[u32]| -> Vec<Measured> {
        let sum = |at: usize| wins.iter().zip(times).map(|(wins, times)| wins[at] * f64::from(*times)).sum::<f64>();
        let (first, second) = (sum(0), sum(1));
        let undefined = if has_orders { Undefined::AllTies } else { without.clone() };
        vec![if first + second == 0.0 { Err(undefined) } else { Ok(first / (first + second)) }]
    };
    // As a share, whose interval is exact at its ends.
    let decided = || (0..rows.len()).filter(|row| wins[*row] != [0.0; 2]);
    let around_half = |i: Interval| Interval {
        estimate: i.estimate - 0.5,
        low: i.low - 0.5,
        high: i.high - 0.5,
        bca: i.bca.map(|(low, high)| (low - 0.5, high - 0.5)),
        ..i
    };
    let value = measure(&vec![1; rows.len()]).pop().unwrap_or(Err(Undefined::NotCompared));
    let interval = bootstrap.intervals_of(rows.len(), &measure)?.pop().unwrap_or(Err(Undefined::NotCompared));
    let interval = bootstrap.of_share(&value, interval, decided()).map(around_half);
    Ok(Figure::resampled("first_wins", value.map(|share| share - 0.5), interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Winner::{First, Second, Tie};

    fn bootstrap() -> Bootstrap<'static> {
        Bootstrap { resamples: 400, ..Bootstrap::default() }
    }

    fn row(human: f64, verdict: Winner, first: f64) -> PairRow {
        PairRow { human: Some(human), verdict: Some(verdict), first: Some(first), ..PairRow::default() }
    }

    #[test]
    fn ties_count_half_and_orders_are_compared() {
        let mut rows =
            vec![row(1.0, First, 0.9), row(0.0, First, 0.6), row(0.0, Tie, 0.5), row(0.5, Tie, 0.5), PairRow::default()];
        let found = PairEvaluation::measure(&rows, None, &bootstrap()).unwrap();
        let value = |found: &PairEvaluation, name: &str| found.figures.iter().find(|f| f.name == name).unwrap().value.clone();
        assert_eq!(value(&found, "accuracy"), Ok(0.5));
        assert_eq!(value(&found, "accuracy_decided"), Ok(0.5));
        assert_eq!(value(&found, "three_way_accuracy"), Ok(0.5));
        assert_eq!(value(&found, "tie_rate"), Ok(0.5));
        assert!((value(&found, "brier").unwrap() - (0.01 + 0.36 + 0.25) / 4.0).abs() < 1e-15);
        for name in ["consistency", "first_wins", "position_p"] {
            assert_eq!(value(&found, name), Err(Undefined::OneOrder), "{name}");
        }
        assert_eq!((found.counts, found.verdicts), ([5, 4, 4], [2, 0, 2]));
        let names: Vec<&str> = found.figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, PAIR_FIGURES);

        for (row, orders) in rows.iter_mut().zip([(First, Second), (First, First), (First, First), (Tie, Tie)]) {
            row.orders = Some(orders);
        }
        let found = PairEvaluation::measure(&rows, None, &bootstrap()).unwrap();
        assert_eq!(value(&found, "consistency"), Ok(0.5));
        // First wins 1 + 2 + 2 of 6 verdicts that are no ties.
        assert!((value(&found, "first_wins").unwrap() - (5.0 / 6.0 - 0.5)).abs() < 1e-15);
        assert_eq!(value(&found, "position_p"), Ok(0.5));
        let interval = found.figures[6].interval.clone().unwrap().unwrap();
        assert!(interval.low < interval.estimate && interval.estimate < 0.5 + 1e-12, "{interval:?}");
        // A judge that prefers the first response in three pairs of three: no certainty that it does so always.
        rows.iter_mut().for_each(|row| row.orders = Some((First, First)));
        let found = PairEvaluation::measure(&rows[..3], None, &bootstrap()).unwrap();
        let interval = found.figures[6].interval.clone().unwrap().unwrap();
        assert!((interval.low - (0.025_f64.cbrt() - 0.5)).abs() < 1e-12 && interval.high == 0.5, "{interval:?}");
    }

    #[test]
    fn what_cannot_be_measured_says_why() {
        let unlabelled = [PairRow { human: None, ..row(0.0, First, 0.7) }, PairRow { human: None, ..row(0.0, Tie, 0.5) }];
        let found = PairEvaluation::measure(&unlabelled, None, &bootstrap()).unwrap();
        let json = found.to_json();
        assert_eq!(json["undefined"]["accuracy"], "no row has a preference of people");
        assert_eq!((&json["accuracy"], &json["tie_rate"]), (&Value::Null, &json!(0.5)));
        let ties = PairEvaluation::measure(&[row(0.5, First, 0.7), row(0.5, Tie, 0.5)], None, &bootstrap()).unwrap();
        assert_eq!(ties.figures[0].value, Err(Undefined::AllTies));
        let all = PairEvaluation::measure(&[row(1.0, First, 0.7), row(0.0, Second, 0.2)], None, &bootstrap()).unwrap();
        // Two right of two are no certainty.
        assert!(all.figures[0].interval.clone().unwrap().unwrap().low < 0.2);
        assert!(all.to_text().contains("1.000  0.158 to 1.000"), "{}", all.to_text());
    }

    #[test]
    fn categories_have_their_own_accuracy() {
        let with = |category: &str, row: PairRow| PairRow { category: Some(category.into()), ..row };
        let rows = [with("chat", row(1.0, First, 0.9)), with("code", row(1.0, Second, 0.4)), with("code", row(1.0, Tie, 0.5))];
        let found = PairEvaluation::measure(&rows, Some("prompt".into()), &bootstrap()).unwrap();
        let categories: Vec<(&str, usize, f64)> =
            found.categories.iter().map(|(name, n, figure)| (name.as_str(), *n, figure.value.clone().unwrap())).collect();
        assert_eq!(categories, [("chat", 1, 1.0), ("code", 2, 0.25)]);
        assert_eq!(found.to_json()["categories"]["code"]["n"], 2);
        let one = PairEvaluation::measure(&rows[1..], None, &bootstrap()).unwrap();
        assert!(one.categories.is_empty());
    }
}
