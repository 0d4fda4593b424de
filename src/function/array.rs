//! Functions on ARRAYs: sets, search, order, slices, series.
//!
//! Not constructors and subscripts (`elements`), not lambdas (`lambda`). The subtle thing: elements are never copied one by one; a kernel makes
//! a list of places, and one `take` builds the column.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, make_comparator};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::columns::{Ints, Lists, Longs, Strs, bools, prims, texts, wanted};
use super::deep::encode;
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::relation::utf16_cmp;
use super::text;
use super::udf::Call;
use crate::types::SqlType;

const CATEGORY: &str = "ARRAY";
type Out = Result<ColumnarValue, DataFusionError>;

/// A series longer than this fails its row.
const MAX_SERIES: usize = 10_000_000;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "ARRAY_CONCAT",
        CATEGORY,
        "The elements of both arrays.",
        &[Variation::new("(left ARRAY<T>, right ARRAY<T>) -> ARRAY<T>", array_concat)],
    ),
    Function::new(
        "ARRAY_CONTAINS",
        CATEGORY,
        "True if the value is an element of the array.",
        &[Variation::new("(array ARRAY<T>, val T) -> BOOLEAN", contains)],
    ),
    Function::new(
        "ARRAY_DISTINCT",
        CATEGORY,
        "Each element once, in order of its first place.",
        &[Variation::new("(input ARRAY<T>) -> ARRAY<T>", distinct)],
    ),
    Function::new(
        "ARRAY_EXCEPT",
        CATEGORY,
        "The distinct elements of the first array that are not in the second.",
        &[Variation::new("(left ARRAY<T>, right ARRAY<T>) -> ARRAY<T>", |c, f| {
            set_operation(c, f, SetOperation::Except)
        })],
    ),
    Function::new(
        "ARRAY_INTERSECT",
        CATEGORY,
        "The distinct elements that are in both arrays.",
        &[Variation::new("(left ARRAY<T>, right ARRAY<T>) -> ARRAY<T>", |c, f| {
            set_operation(c, f, SetOperation::Intersect)
        })],
    ),
    Function::new(
        "ARRAY_UNION",
        CATEGORY,
        "The distinct elements of both arrays.",
        &[Variation::new("(left ARRAY<T>, right ARRAY<T>) -> ARRAY<T>", |c, f| {
            set_operation(c, f, SetOperation::Union)
        })],
    ),
    Function::new(
        "ARRAY_JOIN",
        CATEGORY,
        "The elements as one text, with a delimiter between them.",
        &[
            Variation::new("(array ARRAY<T>) -> STRING", join).returning(joinable),
            Variation::new("(array ARRAY<T>, delimiter STRING) -> STRING", join).returning(joinable),
        ],
    ),
    Function::new(
        "ARRAY_LENGTH",
        CATEGORY,
        "The number of elements.",
        &[Variation::new("(array ARRAY<T>) -> INT", length)],
    ),
    Function::new(
        "ARRAY_MAX",
        CATEGORY,
        "The greatest element; NULLs are ignored.",
        &[Variation::new("(array ARRAY<T>) -> T", |c, f| extreme(c, f, Ordering::Greater))],
    ),
    Function::new(
        "ARRAY_MIN",
        CATEGORY,
        "The least element; NULLs are ignored.",
        &[Variation::new("(array ARRAY<T>) -> T", |c, f| extreme(c, f, Ordering::Less))],
    ),
    Function::new(
        "ARRAY_REMOVE",
        CATEGORY,
        "The array without the elements that equal the value.",
        &[Variation::new("(array ARRAY<T>, element T) -> ARRAY<T>", remove)],
    ),
    Function::new(
        "ARRAY_SORT",
        CATEGORY,
        "The elements in order, ASC or DESC, NULLs last.",
        &[
            Variation::new("(array ARRAY<T>) -> ARRAY<T>", sort),
            Variation::new("(array ARRAY<T>, direction STRING) -> ARRAY<T>", sort),
        ],
    ),
    Function::new(
        "GENERATE_SERIES",
        CATEGORY,
        "The whole numbers from one to another, both included.",
        &[
            Variation::new("(start INT, end INT) -> ARRAY<INT>", series),
            Variation::new("(start INT, end INT, step INT) -> ARRAY<INT>", series),
            Variation::new("(start BIGINT, end BIGINT) -> ARRAY<BIGINT>", series),
            Variation::new("(start BIGINT, end BIGINT, step INT) -> ARRAY<BIGINT>", series),
        ],
    ),
    Function::new(
        "SLICE",
        CATEGORY,
        "The elements from one place to another, counted from 1, both included.",
        &[Variation::new("(in ARRAY<T>, from INT, to INT) -> ARRAY<T>", slice)],
    ),
];

/// The child elements of a list's row.
fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize
}

/// Builds an ARRAY column of elements of `values`: `f` gives the places of a row's elements.
fn pick(
    call: &Call<'_>,
    values: &ArrayRef,
    failures: &mut Failures<'_>,
    mut f: impl FnMut(usize) -> Result<Option<Vec<u32>>, Reason>,
) -> Out {
    let (mut places, mut lengths, mut valid) =
        (Vec::new(), Vec::with_capacity(call.rows), Vec::with_capacity(call.rows));
    for row in 0..call.rows {
        let picked = wanted(failures, row, &mut f);
        valid.push(picked.is_some());
        let picked = picked.unwrap_or_default();
        lengths.push(picked.len());
        places.extend(picked);
    }
    let items = take(values, &UInt32Array::from(places), None)?;
    list_of(call.result, lengths, items, valid)
}

/// An ARRAY column out of lengths, elements and which rows are not NULL.
pub(super) fn list_of(ty: &SqlType, lengths: Vec<usize>, items: ArrayRef, valid: Vec<bool>) -> Out {
    let DataType::List(field) = ty.to_arrow() else {
        return Err(DataFusionError::Internal(format!("{ty} is no ARRAY")));
    };
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, nulls)?;
    Ok(ColumnarValue::Array(Arc::new(list)))
}

fn places(range: std::ops::Range<usize>) -> impl Iterator<Item = u32> {
    range.map(|i| i as u32)
}

/// The elements of two lists as one array, and the place in it where those of the second begin.
fn both(left: &Lists<'_>, right: &Lists<'_>) -> Result<(ArrayRef, usize), DataFusionError> {
    let (l, r) = (left.at(0).0.values(), right.at(0).0.values());
    Ok((concat(&[l.as_ref(), r.as_ref()])?, l.len()))
}

/// The range of a row's elements; `None` if the row is NULL.
fn elements(list: &Lists<'_>, row: usize) -> Option<std::ops::Range<usize>> {
    let (list, at) = list.at(row);
    list.is_valid(at).then(|| range(list, at))
}

fn shift(range: std::ops::Range<usize>, by: usize) -> std::ops::Range<usize> {
    range.start + by..range.end + by
}

fn array_concat(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (left, right) = (Lists::of(&call.args[0])?, Lists::of(&call.args[1])?);
    let (values, second) = both(&left, &right)?;
    pick(call, &values, failures, |row| {
        let (l, r) = (elements(&left, row), elements(&right, row).map(|r| shift(r, second)));
        Ok(match (l, r) {
            (None, None) => None,
            (l, r) => Some(l.into_iter().chain(r).flat_map(places).collect()),
        })
    })
}

fn key_of(array: &dyn Array, row: usize) -> Vec<u8> {
    let mut key = Vec::new();
    encode(array, row, &mut key);
    key
}

fn contains(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let (values, sought) = (lists.at(0).0.values(), call.args[1].to_array(call.rows)?);
    let mut key = Vec::new();
    Ok(bools(call.rows, failures, |row| {
        let Some(mut range) = elements(&lists, row) else { return Ok(Some(false)) };
        let wanted = key_of(sought.as_ref(), row);
        Ok(Some(range.any(|i| {
            key.clear();
            encode(values.as_ref(), i, &mut key);
            key == wanted
        })))
    }))
}

fn distinct(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let values = lists.at(0).0.values();
    pick(call, values, failures, |row| {
        let mut seen = HashSet::new();
        Ok(elements(&lists, row)
            .map(|range| places(range).filter(|&i| seen.insert(key_of(values.as_ref(), i as usize))).collect()))
    })
}

#[derive(Clone, Copy)]
enum SetOperation {
    Except,
    Intersect,
    Union,
}

fn set_operation(call: &Call<'_>, failures: &mut Failures<'_>, operation: SetOperation) -> Out {
    let (left, right) = (Lists::of(&call.args[0])?, Lists::of(&call.args[1])?);
    let (values, second) = both(&left, &right)?;
    pick(call, &values, failures, |row| {
        let (Some(l), Some(r)) = (elements(&left, row), elements(&right, row)) else { return Ok(None) };
        let r = shift(r, second);
        let key = |i: u32| key_of(values.as_ref(), i as usize);
        let mut seen = HashSet::new();
        let others: HashSet<Vec<u8>> = match operation {
            SetOperation::Union => HashSet::new(),
            _ => places(r.clone()).map(key).collect(),
        };
        Ok(Some(match operation {
            SetOperation::Union => places(l).chain(places(r)).filter(|&i| seen.insert(key(i))).collect(),
            SetOperation::Except => places(l).filter(|&i| !others.contains(&key(i)) && seen.insert(key(i))).collect(),
            SetOperation::Intersect => places(l).filter(|&i| others.contains(&key(i)) && seen.insert(key(i))).collect(),
        }))
    })
}

fn joinable(types: &[SqlType]) -> Result<SqlType, String> {
    use SqlType as T;
    match types.first() {
        Some(T::Array(item))
            if matches!(**item, T::Boolean | T::Int | T::BigInt | T::Double | T::Decimal(..) | T::String) =>
        {
            Ok(T::String)
        }
        Some(other) => Err(format!("ARRAY_JOIN takes arrays of BOOLEAN, numbers or STRING, not {other}")),
        None => Err("ARRAY_JOIN needs an array".into()),
    }
}

fn join(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let delimiters = call.args.get(1).map(Strs::of).transpose()?;
    let values = lists.at(0).0.values();
    Ok(texts(call.rows, failures, |row, out| {
        let Some(range) = elements(&lists, row) else { return Ok(false) };
        let delimiter = delimiters.as_ref().map_or(",", |d| d.get(row).unwrap_or(""));
        for (n, i) in range.enumerate() {
            out.push_str(if n == 0 { "" } else { delimiter });
            text::print(values.as_ref(), i, out);
        }
        Ok(true)
    }))
}

fn length(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| Ok(elements(&lists, row).map(|range| range.len() as i32))))
}

/// Java's natural order of the elements.
fn natural_order(values: &ArrayRef) -> Result<Box<dyn Fn(usize, usize) -> Ordering + '_>, DataFusionError> {
    if values.data_type() == &DataType::Utf8 {
        let strings = values.as_string::<i32>();
        return Ok(Box::new(|i, j| utf16_cmp(strings.value(i), strings.value(j))));
    }
    Ok(make_comparator(values, values, SortOptions::default())?)
}

fn extreme(call: &Call<'_>, _: &mut Failures<'_>, wins: Ordering) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let values = lists.at(0).0.values();
    let order = natural_order(values)?;
    let best = |row| {
        let range = elements(&lists, row)?;
        let better = |best: usize, next: usize| if order(next, best) == wins { next } else { best };
        range.filter(|&i| values.is_valid(i)).reduce(better).map(|i| i as u32)
    };
    let best: UInt32Array = (0..call.rows).map(best).collect();
    Ok(ColumnarValue::Array(take(values, &best, None)?))
}

fn remove(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let (values, victims) = (lists.at(0).0.values(), call.args[1].to_array(call.rows)?);
    pick(call, values, failures, |row| {
        let victim = key_of(victims.as_ref(), row);
        let stays = |i: &u32| key_of(values.as_ref(), *i as usize) != victim;
        Ok(elements(&lists, row).map(|range| places(range).filter(stays).collect()))
    })
}

fn sort(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let lists = Lists::of(&call.args[0])?;
    let directions = call.args.get(1).map(Strs::of).transpose()?;
    let values = lists.at(0).0.values();
    let order = natural_order(values)?;
    pick(call, values, failures, |row| {
        let direction = directions.as_ref().map_or(Some("ASC"), |d| d.get(row)).map(str::to_ascii_uppercase);
        let descending = match direction.as_deref() {
            Some("ASC" | "ASCENDING") => false,
            Some("DESC" | "DESCENDING") => true,
            _ => return Ok(None),
        };
        let Some(range) = elements(&lists, row) else { return Ok(None) };
        let (mut there, nulls): (Vec<u32>, Vec<u32>) = places(range).partition(|&i| values.is_valid(i as usize));
        there.sort_by(|&i, &j| {
            let ordering = order(i as usize, j as usize);
            if descending { ordering.reverse() } else { ordering }
        });
        there.extend(nulls);
        Ok(Some(there))
    })
}

fn slice(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (lists, from, to) = (Lists::of(&call.args[0])?, Ints::of(&call.args[1])?, Ints::of(&call.args[2])?);
    let values = lists.at(0).0.values();
    pick(call, values, failures, |row| {
        let Some(range) = elements(&lists, row) else { return Ok(None) };
        let length = range.len() as i64;
        let (from, to) = (from.get(row).map_or(1, i64::from), to.get(row).map_or(length, i64::from));
        if from < 1 || to > length || from - 1 > to {
            return Ok(None);
        }
        Ok(Some(places(range.start + from as usize - 1..range.start + to as usize).collect()))
    })
}

fn series(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let narrow = call.types[0] == SqlType::Int;
    let bound = |index: usize| -> Result<ColumnarValue, DataFusionError> {
        if narrow { Ok(call.args[index].cast_to(&DataType::Int64, None)?) } else { Ok(call.args[index].clone()) }
    };
    let (starts, ends) = (bound(0)?, bound(1)?);
    let (starts, ends) = (Longs::of(&starts)?, Longs::of(&ends)?);
    let steps = call.args.get(2).map(Ints::of).transpose()?;
    let mut items: Vec<i64> = Vec::new();
    let (mut lengths, mut valid) = (Vec::with_capacity(call.rows), Vec::with_capacity(call.rows));
    for row in 0..call.rows {
        let before = items.len();
        let mut fill = |row| {
            let (Some(start), Some(end)) = (starts.get(row), ends.get(row)) else {
                return Err("a bound of GENERATE_SERIES is NULL".into());
            };
            let step = match &steps {
                Some(steps) => steps.get(row).map(i64::from).ok_or("the step of GENERATE_SERIES is NULL")?,
                None if end >= start => 1,
                None => -1,
            };
            fill_series(start, end, step, &mut items).map(Some)
        };
        let filled = wanted(failures, row, &mut fill).is_some();
        valid.push(filled);
        lengths.push(items.len() - before);
    }
    let items: ArrayRef = if narrow {
        Arc::new(arrow::array::PrimitiveArray::<Int32Type>::from_iter_values(items.into_iter().map(|i| i as i32)))
    } else {
        Arc::new(arrow::array::PrimitiveArray::<Int64Type>::from_iter_values(items))
    };
    list_of(call.result, lengths, items, valid)
}

fn fill_series(start: i64, end: i64, step: i64, items: &mut Vec<i64>) -> Result<(), Reason> {
    if step == 0 || (end > start && step < 0) || (end < start && step > 0) {
        return Err(format!("the step {step} does not lead from {start} to {end}").into());
    }
    let count = usize::try_from((i128::from(end) - i128::from(start)) / i128::from(step) + 1).unwrap_or(usize::MAX);
    if count > MAX_SERIES {
        return Err(format!("a series of more than {MAX_SERIES} elements").into());
    }
    items.extend((0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(step))));
    Ok(())
}
