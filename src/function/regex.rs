//! Regular expressions.
//!
//! Patterns are Java's where the `regex` crate reads them alike; look-around, back references and possessive quantifiers, which need a backtracking
//! engine, fail with a reason. The subtle thing: a pattern that may match nothing splits as Java's `split` does, without an empty piece at the front.

use ::regex::{Captures, Regex};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::columns::{Ints, Strs, string_lists, strings};
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::udf::Call;

const CATEGORY: &str = "REGULAR EXPRESSION";
type Out = Result<ColumnarValue, DataFusionError>;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "REGEXP_EXTRACT",
        CATEGORY,
        "The first match of a pattern, or a group of it.",
        &[
            Variation::new("(pattern STRING, input STRING) -> STRING", extract),
            Variation::new("(pattern STRING, input STRING, group INT) -> STRING", extract),
        ],
    ),
    Function::new(
        "REGEXP_EXTRACT_ALL",
        CATEGORY,
        "All matches of a pattern, or a group of each.",
        &[
            Variation::new("(pattern STRING, input STRING) -> ARRAY<STRING>", extract_all),
            Variation::new("(pattern STRING, input STRING, group INT) -> ARRAY<STRING>", extract_all),
        ],
    ),
    Function::new(
        "REGEXP_REPLACE",
        CATEGORY,
        "The text with all matches replaced; $n stands for a group.",
        &[Variation::new("(input STRING, pattern STRING, replacement STRING) -> STRING", replace)],
    ),
    Function::new(
        "REGEXP_SPLIT_TO_ARRAY",
        CATEGORY,
        "The pieces between the matches of a pattern.",
        &[Variation::new("(input STRING, pattern STRING) -> ARRAY<STRING>", split)],
    ),
];

fn compile(pattern: &str) -> Result<Regex, Reason> {
    Regex::new(pattern).map_err(|error| format!("the pattern '{pattern}' cannot be used: {error}").into())
}

/// The row's group number, if the pattern has it.
fn group(groups: &Option<Ints<'_>>, row: usize, regex: &Regex) -> Option<usize> {
    let group = match groups {
        Some(groups) => groups.get(row)?,
        None => 0,
    };
    usize::try_from(group).ok().filter(|group| *group < regex.captures_len())
}

fn extract(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (patterns, inputs) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let groups = call.args.get(2).map(Ints::of).transpose()?;
    let mut compiled = call.compiled(compile);
    Ok(strings(call.rows, failures, |row| {
        let (Some(pattern), Some(input)) = (patterns.get(row), inputs.get(row)) else { return Ok(None) };
        let regex = compiled.get(pattern)?;
        let Some(group) = group(&groups, row, regex) else { return Ok(None) };
        Ok(regex.captures(input).and_then(|found| found.get(group)).map(|m| m.as_str()))
    }))
}

fn extract_all(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (patterns, inputs) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let groups = call.args.get(2).map(Ints::of).transpose()?;
    let mut compiled = call.compiled(compile);
    Ok(string_lists(call.rows, failures, |row, out| {
        let (Some(pattern), Some(input)) = (patterns.get(row), inputs.get(row)) else { return Ok(false) };
        let regex = compiled.get(pattern)?;
        let Some(group) = group(&groups, row, regex) else { return Ok(false) };
        out.extend(regex.captures_iter(input).map(|found| found.get(group).map(|m| m.as_str().to_owned())));
        Ok(true)
    }))
}

fn replace(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let replacements = Strs::of(&call.args[2])?;
    let mut compiled = call.compiled(compile);
    Ok(strings(call.rows, failures, |row| {
        let (Some(input), Some(pattern), Some(replacement)) =
            (inputs.get(row), patterns.get(row), replacements.get(row))
        else {
            return Ok(None);
        };
        let regex = compiled.get(pattern)?;
        let mut wrong = None;
        let replaced = regex
            .replace_all(input, |found: &Captures<'_>| {
                expand(found, replacement).unwrap_or_else(|reason| {
                    wrong = Some(reason);
                    String::new()
                })
            })
            .into_owned();
        wrong.map_or(Ok(Some(replaced)), Err)
    }))
}

/// Java's replacement text: `$n` and `${name}` are groups, a backslash quotes the next character.
fn expand(found: &Captures<'_>, replacement: &str) -> Result<String, Reason> {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().ok_or("the replacement ends with a backslash")?),
            '$' if chars.next_if_eq(&'{').is_some() => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                out.push_str(found.name(&name).map_or("", |m| m.as_str()));
            }
            '$' => {
                let first =
                    chars.next().and_then(|c| c.to_digit(10)).ok_or("the replacement has a $ without a group")?;
                let mut group = first as usize;
                // more digits belong to the group as long as there is one
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= found.len() {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                if group >= found.len() {
                    return Err(format!("the pattern has no group {group}").into());
                }
                out.push_str(found.get(group).map_or("", |m| m.as_str()));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn split(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(compile);
    Ok(string_lists(call.rows, failures, |row, out| {
        let (Some(input), Some(pattern)) = (inputs.get(row), patterns.get(row)) else { return Ok(false) };
        let regex = compiled.get(pattern)?;
        if regex.is_match("") {
            let mut start = 0;
            for found in regex.find_iter(input).filter(|m| m.end() > 0 && m.start() < input.len()) {
                out.push(Some(input[start..found.start()].to_owned()));
                start = found.end();
            }
            out.push(Some(input[start..].to_owned()));
        } else {
            out.extend(regex.split(input).map(|piece| Some(piece.to_owned())));
        }
        Ok(true)
    }))
}
