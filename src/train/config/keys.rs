//! An entry of the table of settings: a key's name, what it may hold, and what it is for. The config file, the environment, the
//! flags, `--help` and the error messages are all made from these; [`super::settings`] lists them.

use std::fmt;

use serde_json::Value;

use super::KEYS;

/// One setting of a training run.
#[derive(Debug)]
pub struct Key {
    /// Name in the config file; `JURIST_<NAME>` in the environment; `--<name>` with hyphens as a flag.
    pub name: &'static str,
    /// Heading under which `--help` lists it.
    pub group: &'static str,
    pub kind: Kind,
    /// Its documentation, as it stands there.
    pub doc: &'static str,
}

impl Key {
    /// What `--help` says of it.
    pub fn help(&self) -> &'static str {
        let text = self.doc.trim();
        text.strip_suffix('.').unwrap_or(text)
    }
}

/// What a setting may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A file or folder.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    Flag,
    /// `true`, or a file or folder.
    FlagOrPath,
    /// An integer of at least `min`.
    Int {
        min: i64,
        max: i64,
    },
    /// `max_steps`: an integer of at least 1, or -1 for "not set" as in transformers.
    IntOrUnset,
    /// A finite number in the interval.
    Number(Interval),
}

/// An interval of numbers whose ends may be left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub min: f64,
    pub max: f64,
    pub min_allowed: bool,
    pub max_allowed: bool,
}

impl Interval {
    pub(super) const fn closed(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: true, max_allowed: true }
    }

    pub(super) const fn above(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: false, max_allowed: true }
    }

    pub(super) const fn half_open(min: f64, max: f64) -> Self {
        Interval { min, max, min_allowed: true, max_allowed: false }
    }

    fn holds(&self, x: f64) -> bool {
        let low = if self.min_allowed { x >= self.min } else { x > self.min };
        let high = if self.max_allowed { x <= self.max } else { x < self.max };
        low && high && x.is_finite()
    }
}

/// A setting's value as somebody wrote it, before it is checked.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Text without a type: a flag or an environment variable.
    Bare(String),
    /// A string of the config file.
    Quoted(String),
    Flag(bool),
    Int(i64),
    Number(f64),
    /// A table, an array, or a date, as it is to be shown.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Raw::Bare(text) => write!(f, "{text}"),
            Raw::Quoted(text) => write!(f, "{text:?}"),
            Raw::Flag(flag) => write!(f, "{flag}"),
            Raw::Int(n) => write!(f, "{n}"),
            Raw::Number(x) => write!(f, "{x}"),
            Raw::Other(shown) => write!(f, "{shown}"),
        }
    }
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Bare(text) | Raw::Quoted(text) if !text.trim().is_empty() => Some(text),
            _ => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Raw::Flag(flag) => Some(*flag),
            Raw::Bare(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn whole(&self) -> Option<i64> {
        match self {
            Raw::Int(n) => Some(*n),
            Raw::Bare(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Raw::Number(x) => Some(*x),
            Raw::Int(n) => Some(*n as f64),
            Raw::Bare(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }
}

impl Kind {
    /// The value in the type of this setting, or `None` when `raw` is not one that it may hold.
    pub fn read(&self, raw: &Raw) -> Option<Value> {
        match self {
            // A bare number is a text too: `adapter = 0`.
            Kind::Text if matches!(raw, Raw::Int(_)) => Some(Value::from(raw.to_string())),
            Kind::Text | Kind::Path => raw.text().map(Value::from),
            Kind::OneOf(words) => raw.text().filter(|text| words.contains(text)).map(Value::from),
            Kind::Flag => raw.flag().map(Value::from),
            Kind::FlagOrPath => raw.flag().map(Value::from).or_else(|| raw.text().map(Value::from)),
            Kind::Int { min, max } => raw.whole().filter(|n| (*min..=*max).contains(n)).map(Value::from),
            Kind::IntOrUnset => raw.whole().filter(|n| *n == -1 || *n >= 1).map(Value::from),
            Kind::Number(interval) => raw.number().filter(|x| interval.holds(*x)).map(Value::from),
        }
    }

    /// True when a flag may stand without a value (`--skip-bad` for `--skip-bad true`).
    pub fn is_switch(&self) -> bool {
        matches!(self, Kind::Flag | Kind::FlagOrPath)
    }
}

/// What is allowed, as the end of "expected ...".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Kind::Text => write!(f, "a text that is not empty"),
            Kind::Path => write!(f, "the path of a file or folder"),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Flag => write!(f, "true or false"),
            Kind::FlagOrPath => write!(f, "true, false, or the path of a checkpoint"),
            Kind::Int { min, max: i64::MAX } => write!(f, "a whole number of at least {min}"),
            Kind::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::IntOrUnset => write!(f, "a whole number of at least 1, or -1 to go by num_train_epochs"),
            Kind::Number(i) => {
                let low = if i.min_allowed { "at least" } else { "above" };
                let high = if i.max_allowed { "at most" } else { "below" };
                write!(f, "a number {low} {} and {high} {}", i.min, i.max)
            }
        }
    }
}

/// For what has no largest value.
pub(super) const fn whole(min: i64) -> Kind {
    Kind::Int { min, max: i64::MAX }
}

/// Optimiser steps on the same chains.
pub(in crate::train) const MOST_ITERATIONS: i64 = 64;

/// For what is a `u32` on the GPU and in packed batches.
pub(super) const fn count(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

/// The table's entry for `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
