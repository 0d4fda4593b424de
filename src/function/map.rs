//! Functions on MAPs: building, taking apart, uniting.
//!
//! The subtle thing: a key stays at the place of its first occurrence and takes the last value given for it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapBuilder, StringArray, StringBuilder, StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::array::list_of;
use super::cast::map_of;
use super::columns::{Bools, Lists, Maps, Strs, wanted};
use super::eval::Failures;
use super::registry::{Function, Variation};
use super::relation::utf16_cmp;
use super::udf::Call;

const CATEGORY: &str = "MAP";
type Out = Result<ColumnarValue, DataFusionError>;

macro_rules! entries_of {
    ($($ty:literal),+) => {
        &[$(Variation::new(
            concat!("(map MAP<STRING, ", $ty, ">, sorted BOOLEAN) -> ARRAY<STRUCT<K STRING, V ", $ty, ">>"),
            entries,
        )),+]
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "AS_MAP",
        CATEGORY,
        "A map of keys and values given as two arrays.",
        &[Variation::new("(keys ARRAY<STRING>, values ARRAY<T>) -> MAP<STRING, T>", as_map)],
    ),
    Function::new(
        "ENTRIES",
        CATEGORY,
        "The entries of a map as structs, by key if asked for.",
        entries_of!("INT", "BIGINT", "DOUBLE", "BOOLEAN", "STRING"),
    ),
    Function::new(
        "MAP_KEYS",
        CATEGORY,
        "The keys of a map.",
        &[Variation::new("(input MAP<STRING, T>) -> ARRAY<STRING>", |call, _| parts(call, 0))],
    ),
    Function::new(
        "MAP_UNION",
        CATEGORY,
        "The entries of both maps; those of the second win.",
        &[Variation::new("(map1 MAP<STRING, T>, map2 MAP<STRING, T>) -> MAP<STRING, T>", union)],
    ),
    Function::new(
        "MAP_VALUES",
        CATEGORY,
        "The values of a map.",
        &[Variation::new("(input MAP<STRING, T>) -> ARRAY<T>", |call, _| parts(call, 1))],
    ),
    Function::new(
        "SPLIT_TO_MAP",
        "STRING",
        "A text of entries, each a key and a value, as a map.",
        &[Variation::new(
            "(input STRING, entryDelimiter STRING, kvDelimiter STRING) -> MAP<STRING, STRING>",
            split_to_map,
        )],
    ),
];

/// Keys or values of a map as a list, sharing its buffers.
fn parts(call: &Call<'_>, column: usize) -> Out {
    let array = call.args[0].to_array(call.rows)?;
    let map = array.as_map();
    let DataType::List(field) = call.result_type() else {
        return Err(DataFusionError::Internal("the parts of a MAP are an ARRAY".into()));
    };
    let list =
        ListArray::try_new(field, map.offsets().clone(), map.entries().column(column).clone(), map.nulls().cloned())?;
    Ok(ColumnarValue::Array(Arc::new(list)))
}

/// The range of a row's entries; `None` if the row is NULL.
fn range(maps: &Maps<'_>, row: usize) -> Option<std::ops::Range<usize>> {
    let (map, at) = maps.at(row);
    map.is_valid(at).then(|| map.value_offsets()[at] as usize..map.value_offsets()[at + 1] as usize)
}

/// Gathers a MAP column: places of keys and of values, row by row.
#[derive(Default)]
struct Gathered {
    keys: Vec<u32>,
    values: Vec<Option<u32>>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl Gathered {
    fn push(&mut self, row: Option<Vec<(u32, Option<u32>)>>) {
        self.valid.push(row.is_some());
        let row = row.unwrap_or_default();
        self.lengths.push(row.len());
        for (key, value) in row {
            self.keys.push(key);
            self.values.push(value);
        }
    }

    fn finish(self, call: &Call<'_>, keys: &ArrayRef, values: &ArrayRef) -> Out {
        let keys = take(keys, &UInt32Array::from(self.keys), None)?;
        let values = take(values, &UInt32Array::from(self.values), None)?;
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        let map = map_of(call.result, OffsetBuffer::from_lengths(self.lengths), keys, values, nulls)?;
        Ok(ColumnarValue::Array(map))
    }
}

/// The entries, each key once with its last value.
fn unique(entries: impl Iterator<Item = (u32, Option<u32>)>, keys: &StringArray) -> Vec<(u32, Option<u32>)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut kept: Vec<(u32, Option<u32>)> = Vec::new();
    for (key, value) in entries {
        match places.get(keys.value(key as usize)) {
            Some(&at) => kept[at].1 = value,
            None => {
                places.insert(keys.value(key as usize), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

fn as_map(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (keys, values) = (Lists::of(&call.args[0])?, Lists::of(&call.args[1])?);
    let (all_keys, all_values) = (keys.at(0).0.values(), values.at(0).0.values());
    let texts = all_keys.as_string::<i32>();
    let range = |lists: &Lists<'_>, row| {
        let (list, at) = lists.at(row);
        list.is_valid(at).then(|| list.value_offsets()[at] as u32..list.value_offsets()[at + 1] as u32)
    };
    let mut gathered = Gathered::default();
    for row in 0..call.rows {
        let mut entries = |row| {
            let (Some(keys), Some(values)) = (range(&keys, row), range(&values, row)) else { return Ok(None) };
            if keys.clone().any(|key| texts.is_null(key as usize)) {
                return Err("a key of a MAP is NULL".into());
            }
            let entries = keys.enumerate().map(|(n, key)| (key, values.clone().nth(n)));
            Ok(Some(unique(entries, texts)))
        };
        gathered.push(wanted(failures, row, &mut entries));
    }
    gathered.finish(call, all_keys, all_values)
}

fn union(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let (left, right) = (Maps::of(&call.args[0])?, Maps::of(&call.args[1])?);
    let (l, r) = (left.at(0).0, right.at(0).0);
    let second = l.keys().len();
    let keys = concat(&[l.keys().as_ref(), r.keys().as_ref()])?;
    let values = concat(&[l.values().as_ref(), r.values().as_ref()])?;
    let texts = keys.as_string::<i32>();
    let mut gathered = Gathered::default();
    for row in 0..call.rows {
        let (a, b) = (range(&left, row), range(&right, row).map(|r| r.start + second..r.end + second));
        let there = a.is_some() || b.is_some();
        let entries = a.into_iter().chain(b).flatten().map(|i| (i as u32, Some(i as u32)));
        gathered.push(there.then(|| unique(entries, texts)));
    }
    gathered.finish(call, &keys, &values)
}

fn entries(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (maps, sorted) = (Maps::of(&call.args[0])?, Bools::of(&call.args[1])?);
    let map = maps.at(0).0;
    let keys = map.keys().as_string::<i32>();
    let (mut places, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..call.rows {
        let mut order = |row| {
            let sorted = sorted.get(row).ok_or("ENTRIES' second argument is NULL")?;
            let Some(range) = range(&maps, row) else { return Ok(None) };
            let mut order: Vec<u32> = range.map(|i| i as u32).collect();
            if sorted {
                order.sort_by(|&a, &b| utf16_cmp(keys.value(a as usize), keys.value(b as usize)));
            }
            Ok(Some(order))
        };
        let order = wanted(failures, row, &mut order);
        valid.push(order.is_some());
        lengths.push(order.as_ref().map_or(0, Vec::len));
        places.extend(order.unwrap_or_default());
    }
    let places = UInt32Array::from(places);
    let columns = vec![take(map.keys(), &places, None)?, take(map.values(), &places, None)?];
    let DataType::List(item) = call.result_type() else {
        return Err(DataFusionError::Internal("ENTRIES gives an ARRAY".into()));
    };
    let DataType::Struct(fields) = item.data_type().clone() else {
        return Err(DataFusionError::Internal("ENTRIES gives STRUCTs".into()));
    };
    let items = StructArray::try_new_with_length(fields, columns, None, places.len())?;
    list_of(call.result, lengths, Arc::new(items), valid)
}

fn split_to_map(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, outer, inner) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?, Strs::of(&call.args[2])?);
    let mut builder = MapBuilder::new(Some(field_names()), StringBuilder::new(), StringBuilder::new());
    for row in 0..call.rows {
        let mut split = |row| {
            let (Some(input), Some(outer), Some(inner)) = (inputs.get(row), outer.get(row), inner.get(row)) else {
                return Ok(None);
            };
            if outer.is_empty() || inner.is_empty() || outer == inner {
                return Ok(None);
            }
            let mut entries: Vec<(&str, &str)> = Vec::new();
            for (key, rest) in input.split(outer).filter_map(|entry| entry.split_once(inner)) {
                let value = rest.split(inner).next().unwrap_or(rest);
                match entries.iter_mut().find(|(k, _)| *k == key) {
                    Some(entry) => entry.1 = value,
                    None => entries.push((key, value)),
                }
            }
            Ok(Some(entries))
        };
        let entries = wanted(failures, row, &mut split);
        for (key, value) in entries.iter().flatten() {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(entries.is_some())?;
    }
    Ok(ColumnarValue::Array(Arc::new(builder.finish())))
}

/// The names of a MAP's parts, as `SqlType::to_arrow` gives them.
pub(super) fn field_names() -> arrow::array::MapFieldNames {
    arrow::array::MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }
}
