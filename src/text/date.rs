//! The date that chat templates state.

use std::fmt;
use std::str::FromStr;

use chrono::format::{Fixed, Item, Numeric, StrftimeItems};
use chrono::{Datelike, Days, NaiveDate, NaiveTime};
use serde::{Deserialize, Serialize};

use super::{Result, TextError};

/// A day of the Gregorian calendar in the years 1 to 9999. Written as `2026-11-30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(NaiveDate);

impl Date {
    /// Parses "YYYY-MM-DD".
    ///
    /// # Errors
    /// Another form, or a day that does not exist in the calendar.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || TextError::Date { found: text.into() };
        let mut parts = text.split('-').map(|part| part.parse::<u32>().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())));
        let (Some(Some(year)), Some(Some(month)), Some(Some(day)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let year = i32::try_from(year).ok().filter(|year| (1..=9999).contains(year)).ok_or_else(bad)?;
        NaiveDate::from_ymd_opt(year, month, day).map(Date).ok_or_else(bad)
    }

    /// Today in UTC.
    pub fn today() -> Self {
        let days = Days::new(seconds_since_1970() / 86_400);
        Date(NaiveDate::default().checked_add_days(days).unwrap_or_default())
    }

    /// Formats the date as Python's `strftime` does. The time is midnight: a prompt that changes every minute could never be
    /// repeated.
    ///
    /// # Errors
    /// A directive that Python does not have.
    pub(super) fn format(self, format: &str) -> std::result::Result<String, String> {
        let mut items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
        if items.contains(&Item::Error) {
            return Err(format!("strftime_now: {format:?} has a directive that is not supported"));
        }
        // A time without a zone prints no zone, and Python counts microseconds.
        items.retain(|item| !prints_zone(item));
        for item in &mut items {
            if matches!(item, Item::Numeric(Numeric::Nanosecond, _)) {
                *item = Item::Literal("000000");
            }
        }
        use std::fmt::Write;
        let mut text = String::new();
        let midnight = self.0.and_time(NaiveTime::MIN);
        write!(text, "{}", midnight.format_with_items(items.iter()))
            .map_err(|_| format!("strftime_now: {format:?} has a directive that is not supported"))?;
        Ok(text)
    }
}

/// Whether an item prints a time zone: its name (`%Z`) or its offset (`%z` and its variants).
fn prints_zone(item: &Item<'_>) -> bool {
    let Item::Fixed(fixed) = item else { return false };
    matches!(
        fixed,
        Fixed::TimezoneName
            | Fixed::TimezoneOffset
            | Fixed::TimezoneOffsetColon
            | Fixed::TimezoneOffsetDoubleColon
            | Fixed::TimezoneOffsetTripleColon
            | Fixed::TimezoneOffsetColonZ
            | Fixed::TimezoneOffsetZ
    )
}

#[cfg(not(target_arch = "wasm32"))]
fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(target_arch = "wasm32")]
fn seconds_since_1970() -> u64 {
    (js_sys::Date::now() / 1000.0) as u64
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), self.0.month(), self.0.day())
    }
}

impl FromStr for Date {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self> {
        Date::parse(text)
    }
}

impl TryFrom<String> for Date {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self> {
        Date::parse(&text)
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.to_string()
    }
}
