//! A figure by its name, with its interval: what tables, JSON and gates read.

use serde_json::{Map, Value, json};

use super::intervals::{Bootstrap, Interval};
use super::table::{Cell, fixed};
use super::{EvalError, Measured, Undefined};

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name, such as `pearson` or `recall(fail)`.
    pub name: String,
    /// Its value, or why it has none.
    pub value: Measured,
    /// Its interval; `None` for a figure that is not resampled.
    pub interval: Option<Result<Interval, Undefined>>,
}

impl Figure {
    /// A figure without an interval.
    pub fn plain(name: impl Into<String>, value: Measured) -> Self {
        Figure { name: name.into(), value, interval: None }
    }

    /// A figure with its interval.
    pub fn resampled(name: impl Into<String>, value: Measured, interval: Result<Interval, Undefined>) -> Self {
        Figure { name: name.into(), value, interval: Some(interval) }
    }

    /// The same figure under another name.
    pub fn named(self, name: impl Into<String>) -> Self {
        Figure { name: name.into(), ..self }
    }

    /// The same figure, its name after `prefix`.
    pub fn after(self, prefix: &str) -> Self {
        Figure { name: format!("{prefix}{}", self.name), ..self }
    }

    /// Adds value, interval and reasons to an object with `intervals` and `undefined`.
    pub fn put_into(&self, object: &mut Map<String, Value>) {
        object.insert(self.name.clone(), json!(self.value.as_ref().ok()));
        if let Err(reason) = &self.value {
            put(object, "undefined", &self.name, json!(reason.to_string()));
        }
        if let Some(interval) = &self.interval {
            put(object, "intervals", &self.name, json!(interval.as_ref().ok().map(Interval::to_json)));
        }
        if let (Ok(_), Some(Err(reason))) = (&self.value, &self.interval) {
            put(object, "intervals_undefined", &self.name, json!(reason.to_string()));
        }
    }

    /// What stands below its value on a page: the ends of its interval, or why there are none.
    pub fn detail(&self) -> String {
        match (&self.value, &self.interval) {
            (Err(reason), _) | (Ok(_), Some(Err(reason))) => reason.to_string(),
            (Ok(_), Some(Ok(interval))) => interval.ends().replace('-', "−"),
            (Ok(_), None) => String::new(),
        }
    }

    /// The cells of a table with its value and its interval.
    pub fn cells(&self) -> [Cell; 2] {
        cells(&self.value, self.interval.as_ref())
    }
}

/// The cells of a value and its interval: empty without one. That rows are too few for intervals is said once, below the table.
pub fn cells(value: &Measured, interval: Option<&Result<Interval, Undefined>>) -> [Cell; 2] {
    let ends = match (value, interval) {
        (Err(_), _) | (_, None) => Cell::from(""),
        (_, Some(Ok(interval))) => Cell::from(interval.ends()),
        (_, Some(Err(Undefined::TooFewUnits { .. }))) => Cell::from("–"),
        (_, Some(Err(reason))) => Cell::Missing(reason.to_string()),
    };
    [Cell::number(value, 3), ends]
}

/// A figure with the ends of its interval, where there is one.
pub fn with_ends(value: &Measured, interval: Option<&Result<Interval, Undefined>>) -> Cell {
    match (value, interval) {
        (Ok(x), Some(Ok(i))) => Cell::from(format!("{} [{}, {}]", fixed(*x, 3), fixed(i.low, 3), fixed(i.high, 3))),
        _ => Cell::number(value, 3),
    }
}

/// Why there are no intervals but exact ones of shares, by what [`Bootstrap::to_json`] says; `None` where there are.
pub fn without_intervals(bootstrap: &Value) -> Option<String> {
    let reason = bootstrap.get("undefined")?.as_str()?;
    Some(format!("no intervals but exact ones of shares: {reason}"))
}

/// Sets `object[at][name]`, where `at` is an object that may not exist yet.
fn put(object: &mut Map<String, Value>, at: &str, name: &str, value: Value) {
    if let Some(inner) = object.entry(at).or_insert_with(|| json!({})).as_object_mut() {
        inner.insert(name.into(), value);
    }
}

/// A share of rows: what each row adds to it, 0 to 1; `None` for a row that does not count.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// One entry per row.
    pub rows: Vec<Option<f64>>,
    /// Why it has no value where no row counts.
    pub without_rows: Undefined,
}

impl Share {
    fn of(&self, times: &[u32]) -> Measured {
        let (mut sum, mut n) = (0.0, 0_u64);
        for (value, times) in self.rows.iter().zip(times) {
            if let Some(value) = value {
                sum += value * f64::from(*times);
                n += u64::from(*times);
            }
        }
        if n == 0 { Err(self.without_rows.clone()) } else { Ok(sum / n as f64) }
    }

    /// Whether each row counts whole, half or not at all: a squared error is no such share.
    fn counts_rows(&self) -> bool {
        self.rows.iter().flatten().all(|value| [0.0, 0.5, 1.0].contains(value))
    }

    /// The rows that count.
    fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().enumerate().filter(|(_, value)| value.is_some()).map(|(row, _)| row)
    }
}

/// Shares of the same `rows` rows with their exact intervals; with clusters, where the bootstrap's are wider, with those.
///
/// # Errors
/// A level that is no share; clusters of another length.
pub fn shares(shares: &[Share], rows: usize, bootstrap: &Bootstrap) -> Result<Vec<Figure>, EvalError> {
    let measure = |times: &[u32]| shares.iter().map(|share| share.of(times)).collect::<Vec<Measured>>();
    let values = measure(&vec![1; rows]);
    let intervals = bootstrap.intervals_of(rows, &measure)?;
    let figure = |((share, value), interval): ((&Share, Measured), Result<Interval, Undefined>)| {
        let interval = match share.counts_rows() {
            true => bootstrap.of_share(&value, interval, share.counted()),
            false => interval,
        };
        Figure::resampled(share.name.clone(), value, interval)
    };
    Ok(shares.iter().zip(values).zip(intervals).map(figure).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_their_rows_and_say_what_they_lack() {
        let share = |name: &str, rows: &[Option<f64>]| Share {
            name: name.into(),
            rows: rows.to_vec(),
            without_rows: Undefined::NoPreference,
        };
        let rows = [Some(1.0), None, Some(0.5), Some(0.0)];
        let all = [share("mean", &rows), share("none", &[None; 4]), share("sure", &[Some(1.0), None, Some(1.0), None])];
        let found = shares(&all, 4, &Bootstrap { resamples: 200, ..Bootstrap::default() }).unwrap();
        assert_eq!((found[0].name.as_str(), &found[0].value), ("mean", &Ok(0.5)));
        assert_eq!((&found[1].value, &found[1].interval), (&Err(Undefined::NoPreference), &Some(Err(Undefined::NoPreference))));
        let sure = found[2].interval.clone().unwrap().unwrap();
        // Two of two: the exact interval begins at the square root of 0.025.
        assert!((sure.low - 0.025_f64.sqrt()).abs() < 1e-12 && sure.high == 1.0, "{sure:?}");
        let mut object = Map::new();
        found.iter().for_each(|figure| figure.put_into(&mut object));
        assert_eq!((&object["mean"], &object["none"]), (&json!(0.5), &Value::Null));
        assert_eq!(object["undefined"]["none"], "no row has a preference of people");
        assert_eq!(object["intervals"]["sure"]["method"], "exact");
    }
}
