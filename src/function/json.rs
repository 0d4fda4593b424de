//! JSON in STRINGs: fields, arrays, objects, and any value as JSON.
//!
//! Not the JSON format of records (`format`). The subtle thing: numbers keep all their digits and print in plain notation.

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, MapBuilder, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use serde_json::Value;
use std::sync::Arc;

use super::columns::{Strs, bools, prims, string_lists, strings, texts, wanted};
use super::eval::{Failures, Reason};
use super::map::field_names;
use super::registry::{Function, Variation};
use super::udf::Call;
use super::{decimal, text};

const CATEGORY: &str = "JSON";
type Out = Result<ColumnarValue, DataFusionError>;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "EXTRACTJSONFIELD",
        CATEGORY,
        "The value at a path such as $.log.cloud[0] in a JSON text.",
        &[Variation::new("(input STRING, path STRING) -> STRING", extract)],
    ),
    Function::new(
        "IS_JSON_STRING",
        CATEGORY,
        "True if the text is JSON.",
        &[Variation::new("(input STRING) -> BOOLEAN", is_json)],
    ),
    Function::new(
        "JSON_ARRAY_CONTAINS",
        CATEGORY,
        "True if the JSON array holds the value.",
        &[Variation::new("(jsonArray STRING, val T) -> BOOLEAN", array_contains)],
    ),
    Function::new(
        "JSON_ARRAY_LENGTH",
        CATEGORY,
        "The number of elements of a JSON array.",
        &[Variation::new("(jsonArray STRING) -> INT", array_length)],
    ),
    Function::new(
        "JSON_CONCAT",
        CATEGORY,
        "Objects merged, or arrays and other values joined into one array.",
        &[Variation::new("(jsonStrings STRING...) -> STRING", json_concat)],
    ),
    Function::new(
        "JSON_ITEMS",
        CATEGORY,
        "The elements of a JSON array, each as JSON.",
        &[Variation::new("(jsonItems STRING) -> ARRAY<STRING>", items)],
    ),
    Function::new(
        "JSON_KEYS",
        CATEGORY,
        "The keys of a JSON object.",
        &[Variation::new("(input STRING) -> ARRAY<STRING>", keys)],
    ),
    Function::new(
        "JSON_RECORDS",
        CATEGORY,
        "The fields of a JSON object as a map of texts.",
        &[Variation::new("(input STRING) -> MAP<STRING, STRING>", records)],
    ),
    Function::new("TO_JSON_STRING", CATEGORY, "Any value as JSON.", &[Variation::new("(val T) -> STRING", to_json)]),
];

fn parse(text: &str) -> Result<Value, Reason> {
    serde_json::from_str(text).map_err(|error| format!("invalid JSON: {error}").into())
}

/// Appends the value as JSON.
fn print(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(number) => print_number(&number.to_string(), out),
        Value::String(text) => print_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                print(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                print_text(name, out);
                out.push(':');
                print(value, out);
            }
            out.push('}');
        }
    }
}

/// A number's text without exponent.
fn print_number(number: &str, out: &mut String) {
    let plain = number.contains(['e', 'E']).then(|| decimal::parse(number)).flatten();
    match plain {
        Some((value, scale)) if scale < 0 => {
            out.push_str(&decimal::print(value, 0));
            out.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        }
        Some((value, scale)) if scale <= 255 => out.push_str(&decimal::print(value, scale as u8)),
        _ => out.push_str(number),
    }
}

fn print_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// Texts unquoted, others as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            print(other, &mut out);
            out
        }
    }
}

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    /// `[x]`: an index on an array, a name on an object
    Bracket(String),
}

fn parse_path(path: &str) -> Result<Vec<Step>, Reason> {
    let wrong = || Reason::from(format!("invalid path '{path}': use $.name, [0], or [\"name\"]"));
    let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !(c.is_alphanumeric() || "_:@".contains(c))).unwrap_or(after.len());
            if end == 0 {
                return Err(wrong());
            }
            steps.push(Step::Name(after[..end].to_owned()));
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("[\"") {
            let (name, after) = quoted(after).ok_or_else(wrong)?;
            steps.push(Step::Bracket(name));
            rest = after.strip_prefix(']').ok_or_else(wrong)?;
        } else {
            let after = rest.strip_prefix('[').ok_or_else(wrong)?;
            let (name, after) = after.split_once(']').ok_or_else(wrong)?;
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(wrong());
            }
            steps.push(Step::Bracket(name.to_owned()));
            rest = after;
        }
    }
    Ok(steps)
}

/// A quoted name up to its closing quote, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, &text[at + 1..])),
            '\\' => name.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '"' | '\\'))?),
            c => name.push(c),
        }
    }
    None
}

fn follow<'v>(mut value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    for step in steps {
        let (Step::Name(name) | Step::Bracket(name)) = step;
        value = match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            other => other.get(name.as_str())?,
        };
    }
    Some(value)
}

fn extract(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, paths) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(parse_path);
    Ok(strings(call.rows, failures, |row| {
        let (Some(input), Some(path)) = (inputs.get(row), paths.get(row)) else { return Ok(None) };
        let steps = compiled.get(path)?;
        Ok(follow(&parse(input)?, steps).map(shown))
    }))
}

fn is_json(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(bools(call.rows, failures, |row| {
        Ok(Some(inputs.get(row).is_some_and(|input| serde_json::from_str::<serde::de::IgnoredAny>(input).is_ok())))
    }))
}

fn array_contains(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, sought) = (Strs::of(&call.args[0])?, call.args[1].to_array(call.rows)?);
    Ok(bools(call.rows, failures, |row| {
        let found = match inputs.get(row).and_then(|input| serde_json::from_str(input).ok()) {
            Some(Value::Array(items)) => items.iter().any(|item| is_value(item, sought.as_ref(), row)),
            _ => false,
        };
        Ok(Some(found))
    }))
}

/// True if the JSON value is the row's value, of the same kind.
fn is_value(item: &Value, sought: &dyn Array, row: usize) -> bool {
    if sought.is_null(row) {
        return item.is_null();
    }
    let any = sought.as_any();
    if let (Value::Number(number), Some(ints)) = (item, any.downcast_ref::<Int32Array>()) {
        return number.to_string().parse() == Ok(i64::from(ints.value(row)));
    }
    if let (Value::Number(number), Some(longs)) = (item, any.downcast_ref::<Int64Array>()) {
        return number.to_string().parse() == Ok(longs.value(row));
    }
    if let (Value::Number(number), Some(doubles)) = (item, any.downcast_ref::<Float64Array>()) {
        let number = number.to_string();
        return number.contains(['.', 'e', 'E']) && number.parse() == Ok(doubles.value(row));
    }
    match (item, any.downcast_ref::<StringArray>(), any.downcast_ref::<BooleanArray>()) {
        (Value::String(item), Some(texts), _) => item == texts.value(row),
        (Value::Bool(item), _, Some(bools)) => *item == bools.value(row),
        _ => false,
    }
}

fn array_length(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| {
        let Some(input) = inputs.get(row) else { return Ok(None) };
        Ok(parse(input)?.as_array().map(|items| items.len() as i32))
    }))
}

fn json_concat(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = call.args.iter().map(Strs::of).collect::<Result<Vec<_>, _>>()?;
    Ok(texts(call.rows, failures, |row, out| {
        let mut values = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let Some(input) = input.get(row) else { return Ok(false) };
            values.push(parse(input)?);
        }
        if values.is_empty() {
            return Ok(false);
        }
        let joined = if values.iter().all(Value::is_object) {
            let fields =
                values.into_iter().filter_map(|v| if let Value::Object(fields) = v { Some(fields) } else { None });
            Value::Object(fields.flatten().collect())
        } else {
            let items = values.into_iter().flat_map(|v| if let Value::Array(items) = v { items } else { vec![v] });
            Value::Array(items.collect())
        };
        print(&joined, out);
        Ok(true)
    }))
}

fn items(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(string_lists(call.rows, failures, |row, out| {
        let Some(input) = inputs.get(row) else { return Ok(false) };
        let Value::Array(items) = parse(input)? else { return Err("the JSON is no array".into()) };
        out.extend(items.iter().map(|item| {
            let mut text = String::new();
            print(item, &mut text);
            Some(text)
        }));
        Ok(true)
    }))
}

fn keys(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(string_lists(call.rows, failures, |row, out| {
        let Some(input) = inputs.get(row) else { return Ok(false) };
        let Value::Object(fields) = parse(input)? else { return Ok(false) };
        out.extend(fields.keys().map(|key| Some(key.clone())));
        Ok(true)
    }))
}

fn records(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    let mut builder = MapBuilder::new(Some(field_names()), StringBuilder::new(), StringBuilder::new());
    for row in 0..call.rows {
        let mut read = |row| {
            let Some(input) = inputs.get(row) else { return Ok(None) };
            Ok(if let Value::Object(fields) = parse(input)? { Some(fields) } else { None })
        };
        let fields = wanted(failures, row, &mut read);
        for (name, value) in fields.iter().flatten() {
            builder.keys().append_value(name);
            builder.values().append_value(shown(value));
        }
        builder.append(fields.is_some())?;
    }
    Ok(ColumnarValue::Array(Arc::new(builder.finish())))
}

fn to_json(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = call.args[0].to_array(call.rows)?;
    Ok(texts(call.rows, failures, |row, out| {
        print_value(values.as_ref(), row, out);
        Ok(true)
    }))
}

/// Appends the value at `row` as JSON; keys of STRUCTs and MAPs in alphabetical order.
fn print_value(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match array.data_type() {
        DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            text::print(array, row, out);
        }
        DataType::Float64 => {
            let value = array.as_primitive::<arrow::datatypes::Float64Type>().value(row);
            let mut plain = String::new();
            text::print_double(value, &mut plain);
            if value.is_finite() { out.push_str(&plain) } else { print_text(&plain, out) }
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                out.push_str(if i == 0 { "" } else { "," });
                print_value(items.as_ref(), i, out);
            }
            out.push(']');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut keys: Vec<(String, usize)> = (0..entries.len())
                .map(|i| {
                    let mut key = String::new();
                    text::print(entries.column(0).as_ref(), i, &mut key);
                    (key, i)
                })
                .collect();
            keys.sort();
            let values = entries.column(1);
            print_fields(keys.iter().map(|(key, i)| (key.as_str(), values.as_ref(), *i)), out);
        }
        DataType::Struct(_) => {
            let fields = array.as_struct();
            let mut columns: Vec<_> = fields.column_names().into_iter().zip(fields.columns()).collect();
            columns.sort_by_key(|(name, _)| *name);
            print_fields(columns.into_iter().map(|(name, column)| (name, column.as_ref(), row)), out);
        }
        _ => {
            let mut plain = String::new();
            text::print(array, row, &mut plain);
            print_text(&plain, out);
        }
    }
}

fn print_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a dyn Array, usize)>, out: &mut String) {
    out.push('{');
    for (n, (name, values, row)) in fields.enumerate() {
        out.push_str(if n == 0 { "" } else { "," });
        print_text(name, out);
        out.push(':');
        print_value(values, row, out);
    }
    out.push('}');
}
