//! JSON schemas: an answer that is valid by construction.
//!
//! The schema is compiled to a form before anything is judged. The property for the reasoning gets the chain of thought; a
//! number gets the expected score; an integer or an enum the most probable score; a boolean says whether the expected score
//! reaches the threshold. A number with `minimum` and `maximum` has the judge's scale mapped to that range. What a judge cannot
//! fill in (a second text, a second score, a pattern) is an error that says so, unless the property may be left out.

use serde_json::{Map, Value};

use super::form::{Piece, ScoreForm, Target, number};
use super::profiles::whole_scores;
use crate::judge::Scale;

/// Deepest schema.
const DEEPEST: usize = 16;
/// Most schemas that are looked at: references can name each other.
const MOST: usize = 2000;

/// Names of a text that gets the chain, where an object has several texts.
const REASONING: [&str; 16] = [
    "reasoning",
    "reason",
    "rationale",
    "explanation",
    "feedback",
    "analysis",
    "chain_of_thought",
    "thought",
    "thoughts",
    "thinking",
    "justification",
    "critique",
    "comment",
    "assessment",
    "evaluation",
    "evidence",
];
/// Names of the score, where an object has several numbers.
const SCORE: [&str; 10] =
    ["score", "rating", "grade", "value", "result", "verdict", "judgement", "judgment", "overall_score", "overall"];

/// Words that say yes and no.
const YES_NO: [(&str, &str); 11] = [
    ("yes", "no"),
    ("true", "false"),
    ("pass", "fail"),
    ("passed", "failed"),
    ("correct", "incorrect"),
    ("good", "bad"),
    ("c", "i"),
    ("y", "n"),
    ("positive", "negative"),
    ("accept", "reject"),
    ("relevant", "irrelevant"),
];

/// Keywords that say nothing about what is valid, or that are looked at below.
const KNOWN: [&str; 31] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "$ref",
    "$comment",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "nullable",
    "deprecated",
    "readOnly",
];

/// What a schema is filled in with.
#[derive(Clone, Copy, Debug)]
pub struct Filler<'a> {
    pub scale: &'a Scale,
    /// The range of a number that states none.
    pub target: Target,
}

/// The form of answers that are valid for `schema`.
///
/// # Errors
/// Why it cannot be met, with the path of the property.
pub fn compile(schema: &Value, filler: Filler<'_>) -> Result<Vec<Piece>, String> {
    let mut compiler = Compiler { root: schema, filler, looked_at: 0 };
    let mut used = Used::default();
    let resolved = compiler.resolve(schema, "the schema")?;
    let is_object = types(resolved).contains(&"object") || resolved.contains_key("properties");
    if !is_object {
        return Err("the schema's `type` is not object".into());
    }
    let mut pieces = Vec::new();
    compiler.object(resolved, "", 0, &mut used, &mut pieces)?;
    match used == Used::default() {
        true => {
            Err("the schema has no property for the score (a number, an integer, a boolean or an enum) or for the reasoning (a \
                     string) that a judge could fill in"
                .into())
        }
        false => Ok(merged(pieces)),
    }
}

/// What the schema has had so far: a judge has one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    chain: bool,
    score: bool,
    boolean: bool,
}

struct Compiler<'a> {
    root: &'a Value,
    filler: Filler<'a>,
    looked_at: usize,
}

/// What a property may get.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Text,
    Score,
    Boolean,
    Other,
}

impl<'a> Compiler<'a> {
    /// A schema behind its references.
    fn resolve(&mut self, schema: &'a Value, place: &str) -> Result<&'a Map<String, Value>, String> {
        let mut schema = schema;
        loop {
            self.looked_at += 1;
            if self.looked_at > MOST {
                return Err(format!("{place}: the schema refers to itself, or is too large"));
            }
            let Some(object) = schema.as_object() else { return Err(format!("{place} is {schema}; expected an object")) };
            if let Some(reference) = object.get("$ref") {
                let found = reference.as_str().and_then(|text| text.strip_prefix('#')).and_then(|path| self.root.pointer(path));
                schema = found.ok_or_else(|| format!("{place}: `$ref` {reference} is not in the schema"))?;
                continue;
            }
            match object.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                None => return Ok(object),
                Some([only]) if !object.contains_key("type") => schema = only,
                Some(_) => return Err(format!("{place}: `allOf` of several schemas is not supported")),
            }
        }
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        place: &str,
        depth: usize,
        used: &mut Used,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), String> {
        check_keywords(schema, place)?;
        if depth > DEEPEST {
            return Err(format!("{place}: the schema is more than {DEEPEST} objects deep"));
        }
        let properties: Vec<(&'a String, &'a Value)> = match schema.get("properties") {
            None => Vec::new(),
            Some(Value::Object(properties)) => properties.iter().collect(),
            Some(_) => return Err(format!("{}: `properties` is no object", at(place))),
        };
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        if let Some(absent) = required.iter().find(|name| !properties.iter().any(|(known, _)| known == *name)) {
            return Err(format!("{}: `{absent}` is required and is no property", at(place)));
        }
        let mut roles = Vec::new();
        for (_, property) in &properties {
            roles.push(self.role(property, place)?);
        }
        let chosen = |role: Role, known: &[&str]| {
            let of_role: Vec<usize> = (0..properties.len()).filter(|k| roles[*k] == role).collect();
            let by_name = known.iter().find_map(|name| of_role.iter().find(|k| properties[**k].0.eq_ignore_ascii_case(name)));
            let must = of_role.iter().find(|k| required.contains(&properties[**k].0.as_str()));
            by_name.or(must).or(of_role.first()).copied()
        };
        let favourites = [chosen(Role::Text, &REASONING), chosen(Role::Score, &SCORE), chosen(Role::Boolean, &SCORE)];
        let mut first = true;
        pieces.push(Piece::Text("{".into()));
        for (k, (name, property)) in properties.iter().enumerate() {
            let place = if place.is_empty() { name.to_string() } else { format!("{place}.{name}") };
            let role = self.role(property, &place)?;
            let favourite = role == Role::Other || favourites.contains(&Some(k));
            let before = *used;
            let mut value = Vec::new();
            let filled = match favourite {
                true => self.value(property, &place, depth + 1, used, &mut value),
                false => Err(format!("`{place}`: a judge has one {}, and another property has it", one(role))),
            };
            let filled = filled.or_else(|reason| if self.may_be_null(property) { nothing(&mut value) } else { Err(reason) });
            match filled {
                Ok(()) => {
                    let comma = if first { "" } else { ", " };
                    pieces.push(Piece::Text(format!("{comma}{}: ", Value::from(name.as_str()))));
                    pieces.append(&mut value);
                    first = false;
                }
                // It may be left out.
                Err(_) if !required.contains(&name.as_str()) => *used = before,
                Err(reason) => return Err(reason),
            }
        }
        pieces.push(Piece::Text("}".into()));
        Ok(())
    }

    /// What a property may get.
    fn role(&mut self, schema: &'a Value, place: &str) -> Result<Role, String> {
        let object = self.resolve(schema, place)?;
        if let Some(options) = alternatives(object) {
            let mut role = Role::Other;
            for option in options {
                let of_option = self.role(option, place)?;
                if role == Role::Other {
                    role = of_option;
                }
            }
            return Ok(role);
        }
        let kinds = types(object);
        Ok(match () {
            () if object.contains_key("const") => Role::Other,
            () if object.contains_key("enum") => Role::Score,
            () if kinds.contains(&"number") || kinds.contains(&"integer") => Role::Score,
            () if kinds.contains(&"boolean") => Role::Boolean,
            () if kinds.contains(&"string") => Role::Text,
            () => Role::Other,
        })
    }

    fn may_be_null(&mut self, schema: &'a Value) -> bool {
        let Ok(object) = self.resolve(schema, "") else { return false };
        let nullable = object.get("nullable").and_then(Value::as_bool).unwrap_or_default();
        let in_enum = object.get("enum").and_then(Value::as_array).is_none_or(|list| list.contains(&Value::Null));
        let alternative = alternatives(object).is_some_and(|options| options.iter().any(is_null));
        alternative || ((nullable || types(object).contains(&"null")) && in_enum && !object.contains_key("const"))
    }

    fn value(
        &mut self,
        schema: &'a Value,
        place: &str,
        depth: usize,
        used: &mut Used,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), String> {
        let object = self.resolve(schema, place)?;
        check_keywords(object, place)?;
        if let Some(options) = alternatives(object) {
            return self.one_of(object, options, place, depth, used, pieces);
        }
        if let Some(value) = object.get("const") {
            pieces.push(Piece::Text(value.to_string()));
            return Ok(());
        }
        if let Some(options) = object.get("enum") {
            let form = self.choice(options, object, place)?;
            return take(&mut used.score, Piece::Score(form), place, "score", pieces);
        }
        let kinds = types(object);
        let kind = kinds.iter().find(|kind| **kind != "null").copied();
        match kind {
            Some("number") => {
                let target = self.range(object, place)?;
                take(&mut used.score, Piece::Score(ScoreForm::Expected(target)), place, "score", pieces)
            }
            Some("integer") => {
                let form = self.whole(object, place)?;
                take(&mut used.score, Piece::Score(form), place, "score", pieces)
            }
            Some("boolean") => {
                let form = ScoreForm::Threshold { yes: "true".into(), no: "false".into() };
                take(&mut used.boolean, Piece::Score(form), place, "yes-or-no answer", pieces)
            }
            Some("string") => {
                if count(object, "minLength") > 0 {
                    return Err(format!("`{place}`: a chain of thought may be empty, so `minLength` cannot be promised"));
                }
                let most = object.get("maxLength").and_then(Value::as_u64).map(|most| most as usize);
                pieces.push(Piece::Text("\"".into()));
                take(&mut used.chain, Piece::Chain { quoted: true, most }, place, "text", pieces)?;
                pieces.push(Piece::Text("\"".into()));
                Ok(())
            }
            Some("array") if count(object, "minItems") == 0 => {
                pieces.push(Piece::Text("[]".into()));
                Ok(())
            }
            Some("array") => Err(format!("`{place}`: a judge has no list to fill `minItems` with")),
            Some("object") => self.object(object, place, depth, used, pieces),
            Some(other) => Err(format!("`{place}`: the type {other:?} is unknown")),
            None if object.contains_key("properties") => self.object(object, place, depth, used, pieces),
            None if kinds.contains(&"null") => nothing(pieces),
            None => Err(format!("`{place}`: the schema states no `type`")),
        }
    }

    /// The first of several schemas that can be met; null last.
    fn one_of(
        &mut self,
        object: &'a Map<String, Value>,
        options: &'a [Value],
        place: &str,
        depth: usize,
        used: &mut Used,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), String> {
        let others: Vec<&Value> = options.iter().filter(|option| !is_null(option)).collect();
        if object.contains_key("oneOf") && others.len() > 1 {
            return Err(format!("`{place}`: `oneOf` of several schemas is not supported; use `anyOf`"));
        }
        let mut reason = format!("`{place}`: no schema to choose from");
        for option in others {
            let (before, length) = (*used, pieces.len());
            match self.value(option, place, depth, used, pieces) {
                Ok(()) => return Ok(()),
                Err(found) => reason = found,
            }
            *used = before;
            pieces.truncate(length);
        }
        if options.iter().any(is_null) { nothing(pieces) } else { Err(reason) }
    }

    /// The range of a number: what it states, else the profile's, else the scale's own.
    fn range(&self, object: &Map<String, Value>, place: &str) -> Result<Target, String> {
        let bound = |name: &str| object.get(name).and_then(Value::as_f64);
        let (scale, wanted) = (self.filler.scale, self.filler.target);
        let ends = (wanted.of(scale.min(), scale), wanted.of(scale.max(), scale));
        match (bound("minimum"), bound("maximum")) {
            (Some(low), Some(high)) if low < high => Ok(Target(Some((low, high)))),
            (Some(low), Some(high)) => Err(format!("`{place}`: `minimum` {low} is not below `maximum` {high}")),
            (low, high) if low.is_none_or(|low| low <= ends.0) && high.is_none_or(|high| ends.1 <= high) => Ok(wanted),
            _ => {
                let (low, high) = (number(ends.0), number(ends.1));
                Err(format!("`{place}`: scores are {low} to {high}; state both `minimum` and `maximum` to have them mapped"))
            }
        }
    }

    fn whole(&self, object: &Map<String, Value>, place: &str) -> Result<ScoreForm, String> {
        let target = self.range(object, place)?;
        let ScoreForm::Decoded { options, target } = whole_scores(self.filler.scale, target) else {
            return Err(format!("`{place}`: no whole scores"));
        };
        let bound = |name: &str| object.get(name).and_then(Value::as_f64);
        let within = |value: f64| bound("minimum").is_none_or(|low| low <= value) && bound("maximum").is_none_or(|h| value <= h);
        let options: Vec<(String, f64)> = options.into_iter().filter(|(_, value)| within(*value)).collect();
        match options.is_empty() {
            true => Err(format!("`{place}`: there is no integer in its range")),
            false => Ok(ScoreForm::Decoded { options, target }),
        }
    }

    /// One of the values of an enum.
    fn choice(&self, options: &Value, object: &Map<String, Value>, place: &str) -> Result<ScoreForm, String> {
        let scale = self.filler.scale;
        let allowed = types(object);
        let fits = |value: &&Value| {
            !value.is_null()
                && (allowed.is_empty()
                    || allowed.iter().any(|kind| kind_of(value) == *kind || (*kind == "number" && value.is_number())))
        };
        let options: Vec<&Value> = options.as_array().into_iter().flatten().filter(fits).collect();
        let fail = |why: &str| Err(format!("`{place}`: the values of the enum {why}"));
        if options.is_empty() {
            return fail("are none that can be chosen");
        }
        let number_in =
            |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok().filter(|n: &f64| n.is_finite()));
        let mut numbers: Vec<(String, f64)> =
            options.iter().filter_map(|value| Some((value.to_string(), number_in(value)?))).collect();
        if numbers.len() == options.len() {
            numbers.sort_by(|a, b| a.1.total_cmp(&b.1));
            numbers.dedup_by(|a, b| a.1 == b.1);
            let own = scale.values().iter().all(|value| numbers.iter().any(|(_, option)| option == value));
            let ends = (numbers[0].1, numbers[numbers.len() - 1].1);
            return Ok(ScoreForm::Decoded { options: numbers, target: if own { Target(None) } else { Target(Some(ends)) } });
        }
        let words: Vec<String> =
            options.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_lowercase)).collect();
        let value_of = |(value, word): (&&Value, &String)| {
            let text = scale.texts().iter().position(|text| text.to_lowercase() == *word)?;
            Some((value.to_string(), scale.values()[text]))
        };
        let mut of_scale: Vec<(String, f64)> = options.iter().zip(&words).filter_map(value_of).collect();
        if of_scale.len() == scale.len() {
            of_scale.sort_by(|a, b| a.1.total_cmp(&b.1));
            return Ok(ScoreForm::Decoded { options: of_scale, target: Target(None) });
        }
        let word = |wanted: &str| words.iter().position(|word| word == wanted).map(|k| options[k].to_string());
        let pair = YES_NO.iter().find_map(|(yes, no)| Some((word(yes)?, word(no)?))).filter(|_| options.len() == 2);
        match pair {
            Some((yes, no)) => Ok(ScoreForm::Threshold { yes, no }),
            None => fail("are no numbers, no scores of the judge's scale, and no pair such as yes and no"),
        }
    }
}

/// Takes the one thing of this kind that a judge has.
fn take(taken: &mut bool, piece: Piece, place: &str, kind: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    if std::mem::replace(taken, true) {
        return Err(format!("`{place}`: a judge has one {kind}, and another property has it"));
    }
    pieces.push(piece);
    Ok(())
}

fn nothing(pieces: &mut Vec<Piece>) -> Result<(), String> {
    pieces.clear();
    pieces.push(Piece::Text("null".into()));
    Ok(())
}

fn one(role: Role) -> &'static str {
    match role {
        Role::Text => "text",
        Role::Boolean => "yes-or-no answer",
        Role::Score | Role::Other => "score",
    }
}

fn at(place: &str) -> String {
    if place.is_empty() { "the schema".into() } else { format!("`{place}`") }
}

fn check_keywords(object: &Map<String, Value>, place: &str) -> Result<(), String> {
    // Formats of numbers say how they are held, not which are valid.
    let harmless = |name: &str| {
        KNOWN.contains(&name)
            || name == "strict"
            || (name == "format" && !types(object).contains(&"string"))
            || name.starts_with("x-")
    };
    match object.keys().find(|name| !harmless(name)) {
        None => Ok(()),
        Some(name) => Err(format!("{}: the keyword `{name}` is not supported", at(place))),
    }
}

/// The types that a schema allows.
fn types(object: &Map<String, Value>) -> Vec<&str> {
    match object.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn alternatives(object: &Map<String, Value>) -> Option<&[Value]> {
    object.get("anyOf").or_else(|| object.get("oneOf"))?.as_array().map(Vec::as_slice)
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn count(object: &Map<String, Value>, name: &str) -> u64 {
    object.get(name).map_or(0, |value| value.as_u64().unwrap_or(1))
}

/// Neighbouring texts as one.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => *before += &text,
            (_, piece) => all.push(piece),
        }
    }
    all
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
