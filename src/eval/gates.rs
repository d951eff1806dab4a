//! Gates: requirements on figures, such as `pearson>=0.8` or `ci_low(recall(fail))>=0.9`. A figure that is undefined, or that has
//! no interval where one is asked for, does not meet any requirement.

use super::Undefined;
use super::figures::Figure;

/// What a requirement compares with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The figure.
    Value,
    /// The lower end of its interval.
    Low,
    /// The upper end.
    High,
}

/// How it compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AtLeast,
    Above,
    AtMost,
    Below,
}

/// The operators, the longer of two that begin alike first.
const ORDERS: [(&str, Order); 4] = [(">=", Order::AtLeast), ("<=", Order::AtMost), (">", Order::Above), ("<", Order::Below)];

/// A requirement.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// As it was written, without spaces around it.
    pub text: String,
    /// The figure's name.
    pub figure: String,
    /// What is compared.
    pub compared: Compared,
    order: Order,
    bound: f64,
}

/// What became of a requirement.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The requirement as it was written.
    pub requirement: String,
    /// What was compared with the bound, if it exists.
    pub found: Option<f64>,
    /// Why the requirement is not met; `None` if it is.
    pub failure: Option<String>,
}

/// The requirements of a list with commas.
///
/// # Errors
/// What cannot be read of it, with what to write.
pub fn parse(list: &str) -> Result<Vec<Requirement>, String> {
    split(list).into_iter().filter(|text| !text.is_empty()).map(one).collect()
}

/// Splits at the commas outside of brackets.
fn split(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[start..].trim());
    parts
}

fn one(text: &str) -> Result<Requirement, String> {
    const EXAMPLE: &str = "write a figure, >=, >, <= or <, and a number, as in pearson>=0.8 or ci_low(spearman)>=0.7";
    let found = text.find(['<', '>']).and_then(|at| {
        let (operator, order) = ORDERS.into_iter().find(|(operator, _)| text[at..].starts_with(operator))?;
        Some((text[..at].trim(), order, text[at + operator.len()..].trim()))
    });
    let Some((figure, order, number)) = found else { return Err(format!("`{text}` compares nothing; {EXAMPLE}")) };
    let Some(bound) = number.parse::<f64>().ok().filter(|bound| bound.is_finite()) else {
        return Err(format!("`{text}`: `{number}` is no number; {EXAMPLE}"));
    };
    let inside = |name: &str| Some(figure.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.trim().to_string());
    let (figure, compared) = match (inside("ci_low"), inside("ci_high")) {
        (Some(figure), _) => (figure, Compared::Low),
        (_, Some(figure)) => (figure, Compared::High),
        _ => (figure.to_string(), Compared::Value),
    };
    if figure.is_empty() {
        return Err(format!("`{text}` names no figure; {EXAMPLE}"));
    }
    Ok(Requirement { text: text.into(), figure, compared, order, bound })
}

impl Requirement {
    /// Whether these figures meet it.
    pub fn check(&self, figures: &[Figure]) -> Outcome {
        let outcome = |found: Option<f64>, failure: Option<String>| Outcome { requirement: self.text.clone(), found, failure };
        match self.compared_value(figures) {
            Err(reason) => outcome(None, Some(reason)),
            Ok(found) if self.holds(found) => outcome(Some(found), None),
            Ok(found) => {
                let what = match self.compared {
                    Compared::Value => self.figure.clone(),
                    Compared::Low => format!("the lower end of {}", self.figure),
                    Compared::High => format!("the upper end of {}", self.figure),
                };
                outcome(Some(found), Some(format!("{what} is {}", short(found))))
            }
        }
    }

    fn holds(&self, found: f64) -> bool {
        match self.order {
            Order::AtLeast => found >= self.bound,
            Order::Above => found > self.bound,
            Order::AtMost => found <= self.bound,
            Order::Below => found < self.bound,
        }
    }

    fn compared_value(&self, figures: &[Figure]) -> Result<f64, String> {
        let Some(figure) = figures.iter().find(|figure| figure.name == self.figure) else {
            return Err(format!("{} was not measured here", self.figure));
        };
        let undefined = |reason: &Undefined| format!("{} is undefined: {reason}", self.figure);
        if self.compared == Compared::Value {
            return figure.value.clone().map_err(|reason| undefined(&reason));
        }
        match &figure.interval {
            None => Err(format!("{} has no interval; require the figure itself", self.figure)),
            Some(Err(reason)) => Err(match &figure.value {
                Err(reason) => undefined(reason),
                Ok(_) => format!("{} has no interval: {reason}", self.figure),
            }),
            Some(Ok(interval)) if interval.low == interval.high => Err(format!(
                "the interval of {} has no width ({} in every resample), which says nothing about other rows",
                self.figure,
                short(interval.low)
            )),
            Some(Ok(interval)) if self.compared == Compared::Low => Ok(interval.low),
            Some(Ok(interval)) => Ok(interval.high),
        }
    }
}

/// A number with at most six decimals.
pub fn short(x: f64) -> String {
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::intervals::{Interval, IntervalMethod};

    fn figure(name: &str, value: f64, (low, high): (f64, f64)) -> Figure {
        let method = IntervalMethod::Percentile;
        let interval = Interval { estimate: value, low, high, method, bca: Err(Undefined::OneSided), redrawn: 0 };
        Figure::resampled(name, Ok(value), Ok(interval))
    }

    #[test]
    fn requirements_are_met_or_say_why_not() {
        let figures = [
            figure("pearson", 0.81, (0.74, 0.87)),
            figure("recall(a, b)", 1.0, (1.0, 1.0)),
            Figure::plain("nll", Ok(0.4)),
            Figure::plain("spearman", Err(Undefined::ConstantJudge)),
        ];
        for (text, failure) in [
            ("pearson>=0.8", None),
            (" pearson > 0.8 ", None),
            ("pearson>=0.81", None),
            ("pearson<=0.5", Some("pearson is 0.81")),
            ("ci_low(pearson)>=0.74", None),
            ("ci_low(pearson)>0.74", Some("the lower end of pearson is 0.74")),
            ("ci_high( pearson )<0.8", Some("the upper end of pearson is 0.87")),
            ("recall(a, b)>=1", None),
            ("ci_low(recall(a, b))>=0.5", Some("has no width (1 in every resample)")),
            ("ci_low(nll)<1", Some("nll has no interval")),
            ("spearman>=-1", Some("spearman is undefined: all judge scores are the same")),
            ("brier<1", Some("brier was not measured here")),
        ] {
            let requirements = parse(text).unwrap();
            assert_eq!(requirements.len(), 1, "{text}");
            let found = requirements[0].check(&figures).failure;
            match failure {
                None => assert_eq!(found, None, "{text}"),
                Some(part) => assert!(found.as_ref().is_some_and(|f| f.contains(part)), "{text}: {found:?}"),
            }
        }
        let several = parse("pearson>=0.8,ci_low(recall(a, b))>=0.7, n > 3").unwrap();
        assert_eq!(several.iter().map(|r| r.figure.as_str()).collect::<Vec<_>>(), ["pearson", "recall(a, b)", "n"]);
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for (text, part) in [
            ("pearson", "`pearson` compares nothing"),
            ("pearson=0.8", "compares nothing"),
            ("pearson>=high", "`high` is no number"),
            ("pearson>=nan", "`nan` is no number"),
            (">=0.8", "names no figure"),
            ("ci_low()>=0.8", "names no figure"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(part), "{text}: {found}");
        }
    }
}
