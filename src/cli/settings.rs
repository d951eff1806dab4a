//! Flags for every training setting, made from the settings' own table, so that the two can never disagree.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use serde_json::Value;

use crate::train::TrainConfig;
use crate::train::config::{KEYS, Key, Kind, Layers, Raw, SettingError, SettingSource};

/// The training settings given as flags: (key, value), unchecked.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(Vec<(&'static str, String)>);

/// `--learning-rate` for `learning_rate`; clap wants names that live as long as the program.
static FLAG_NAMES: LazyLock<Vec<String>> = LazyLock::new(|| KEYS.iter().map(|key| key.name.replace('_', "-")).collect());

/// Settings that are flags of `train` (`adapter` and `base` are flags of the whole program).
fn flags() -> impl Iterator<Item = (&'static Key, &'static str)> {
    KEYS.iter().zip(FLAG_NAMES.iter().map(String::as_str)).filter(|(key, _)| !["adapter", "base"].contains(&key.name))
}

impl SettingFlags {
    /// Lays the flags over the other layers.
    pub fn put_into(&self, layers: &mut Layers) -> Result<(), SettingError> {
        self.0.iter().try_for_each(|(name, value)| {
            layers.put(name, &Raw::Bare(value.clone()), SettingSource::Flag(format!("--{}", name.replace('_', "-"))))
        })
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |(key, _): (&'static Key, _)| Some((key.name, matches.get_one::<String>(key.name)?.clone()));
        Ok(SettingFlags(flags().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let defaults = serde_json::to_value(TrainConfig::default()).unwrap_or_default();
        flags().fold(command, |command, (key, flag)| command.arg(argument(key, flag, &defaults[key.name])))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(key: &'static Key, flag: &'static str, default: &Value) -> Arg {
    let mut help = key.help().to_string();
    if let Kind::OneOf(words) = key.kind
        && words.len() > 1
    {
        help += &format!(" ({})", words.join(", "));
    }
    match default {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => help += &format!(" [default: {text}]"),
        other => help += &format!(" [default: {other}]"),
    }
    let argument = Arg::new(key.name).long(flag).value_name(value_name(key.kind)).help(help).help_heading(key.group);
    let argument = argument.action(ArgAction::Set).allow_negative_numbers(true);
    // "-1..1" is a scale, and "- score: " a phrase.
    let argument = argument.allow_hyphen_values(["scale", "phrase"].contains(&key.name));
    // TRL's own spelling, and the short words that everybody tries first.
    let argument = if flag == key.name { argument } else { argument.alias(key.name) };
    let argument = match key.name {
        "resume_from_checkpoint" => argument.visible_alias("resume"),
        "model_name_or_path" => argument.visible_alias("model"),
        _ => argument,
    };
    if key.kind.is_switch() { argument.num_args(0..=1).default_missing_value("true") } else { argument }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Path => "PATH",
        Kind::OneOf(_) => "WORD",
        Kind::Flag => "BOOL",
        Kind::FlagOrPath => "BOOL|PATH",
        Kind::Int { .. } | Kind::IntOrUnset => "N",
        Kind::Number(_) => "X",
    }
}
