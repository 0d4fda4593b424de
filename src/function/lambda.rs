//! TRANSFORM, FILTER, REDUCE: functions that take lambdas.
//!
//! The walk of a call: the elements of all wanted rows become the rows of one inner batch, beside them the columns that the lambda reads, taken by
//! the row each element is of; the body is evaluated once. REDUCE does so once for each position, over the rows that are that long. The subtle
//! thing: an element on which the body fails fails its row.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{interleave, take};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::array::list_of;
use super::cast::map_of;
use super::deep::encode;
use super::eval::{Evaluated, Failures, Frame};
use super::registry::{Function, Variation};
use super::udf::{Call, CompiledLambda};

const CATEGORY: &str = "LAMBDA";
type Out = Result<ColumnarValue, DataFusionError>;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "FILTER",
        CATEGORY,
        "The elements or entries for which the lambda is true.",
        &[
            Variation::new("(array ARRAY<T>, lambda LAMBDA<T, BOOLEAN>) -> ARRAY<T>", filter),
            Variation::new("(map MAP<K, V>, lambda LAMBDA<K, V, BOOLEAN>) -> MAP<K, V>", filter),
        ],
    ),
    Function::new(
        "REDUCE",
        CATEGORY,
        "What remains when the lambda folds each element or entry into a state.",
        &[
            Variation::new("(array ARRAY<T>, state S, lambda LAMBDA<S, T, S>) -> S", reduce),
            Variation::new("(map MAP<K, V>, state S, lambda LAMBDA<S, K, V, S>) -> S", reduce),
        ],
    ),
    Function::new(
        "TRANSFORM",
        CATEGORY,
        "Each element, or each key and value, as the lambda makes it.",
        &[
            Variation::new("(array ARRAY<T>, lambda LAMBDA<T, R>) -> ARRAY<R>", transform_array),
            Variation::new("(map MAP<K, V>, keys LAMBDA<K, V, R>, values LAMBDA<K, V, T>) -> MAP<R, T>", transform_map),
        ],
    ),
];

/// An ARRAY or MAP argument: its children and where each row's are.
struct Collection {
    array: ArrayRef,
    /// one for an ARRAY; keys and values for a MAP
    children: Vec<ArrayRef>,
}

/// The elements of the wanted rows that are not NULL.
struct Elements {
    /// place of each in the children
    places: UInt32Array,
    /// row of each
    parents: UInt32Array,
}

impl Collection {
    fn of(call: &Call<'_>) -> Result<Self, DataFusionError> {
        let array = call.args[0].to_array(call.rows)?;
        let children = match array.as_list_opt::<i32>() {
            Some(list) => vec![list.values().clone()],
            None => {
                let map = array
                    .as_map_opt()
                    .ok_or_else(|| DataFusionError::Internal(format!("a lambda over {}", array.data_type())))?;
                vec![map.keys().clone(), map.values().clone()]
            }
        };
        Ok(Self { array, children })
    }

    fn offsets(&self) -> &[i32] {
        match self.array.as_list_opt::<i32>() {
            Some(list) => list.value_offsets(),
            None => self.array.as_map().value_offsets(),
        }
    }

    fn range(&self, row: usize) -> std::ops::Range<u32> {
        self.offsets()[row] as u32..self.offsets()[row + 1] as u32
    }

    fn is_there(&self, row: usize, failures: &Failures<'_>) -> bool {
        self.array.is_valid(row) && failures.wants(row)
    }

    fn elements(&self, failures: &Failures<'_>) -> Elements {
        let (mut places, mut parents) = (Vec::new(), Vec::new());
        for row in (0..self.array.len()).filter(|&row| self.is_there(row, failures)) {
            for place in self.range(row) {
                places.push(place);
                parents.push(row as u32);
            }
        }
        Elements { places: places.into(), parents: parents.into() }
    }

    fn columns(&self, places: &UInt32Array) -> Result<Vec<ArrayRef>, DataFusionError> {
        self.children.iter().map(|child| Ok(take(child, places, None)?)).collect()
    }
}

/// The body's value for each element; `good` loses the rows of which an element fails.
fn apply(
    lambda: &CompiledLambda,
    mut columns: Vec<ArrayRef>,
    parents: &UInt32Array,
    call: &Call<'_>,
    failures: &mut Failures<'_>,
    good: &mut [bool],
) -> Result<ArrayRef, DataFusionError> {
    for captured in call.captured {
        columns.push(match captured {
            ColumnarValue::Array(array) => take(array, parents, None)?,
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(parents.len())?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(parents.len()));
    let batch = RecordBatch::try_new_with_options(lambda.schema.clone(), columns, &options)?;
    let frame = Frame::new(&batch);
    let Evaluated { value, failed } = lambda.body.eval(&frame, None)?;
    for (element, reason) in frame.into_reports() {
        let parent = parents.value(element as usize) as usize;
        let fails = failed.as_ref().is_some_and(|failed| failed.value(element as usize));
        if !fails {
            failures.report(parent, reason);
        } else if std::mem::replace(&mut good[parent], false) {
            failures.fail(parent, reason);
        }
    }
    value.into_array(parents.len())
}

fn lambda<'a>(call: &Call<'a>, index: usize) -> Result<&'a CompiledLambda, DataFusionError> {
    call.lambdas.get(index).ok_or_else(|| DataFusionError::Internal("a call lacks its lambda".into()))
}

/// Rows that have a value, and how many of their elements were kept.
fn shape(collection: &Collection, parents: &[u32], good: &[bool], failures: &Failures<'_>) -> (Vec<usize>, Vec<bool>) {
    let mut lengths = vec![0; good.len()];
    parents.iter().for_each(|&parent| lengths[parent as usize] += 1);
    let valid = (0..good.len()).map(|row| good[row] && collection.is_there(row, failures)).collect();
    (lengths, valid)
}

fn transform_array(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let collection = Collection::of(call)?;
    let elements = collection.elements(failures);
    let mut good = vec![true; call.rows];
    let columns = collection.columns(&elements.places)?;
    let items = apply(lambda(call, 0)?, columns, &elements.parents, call, failures, &mut good)?;
    let (lengths, valid) = shape(&collection, elements.parents.values(), &good, failures);
    list_of(call.result, lengths, items, valid)
}

fn transform_map(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let collection = Collection::of(call)?;
    let elements = collection.elements(failures);
    let mut good = vec![true; call.rows];
    let columns = collection.columns(&elements.places)?;
    let keys = apply(lambda(call, 0)?, columns.clone(), &elements.parents, call, failures, &mut good)?;
    let values = apply(lambda(call, 1)?, columns, &elements.parents, call, failures, &mut good)?;
    let mut seen: HashSet<(u32, Vec<u8>)> = HashSet::new();
    for (element, &parent) in elements.parents.values().iter().enumerate() {
        let row = parent as usize;
        let mut key = Vec::new();
        encode(keys.as_ref(), element, &mut key);
        let reason = if keys.is_null(element) {
            "TRANSFORM gives a key that is NULL"
        } else if values.is_null(element) {
            "TRANSFORM gives a value that is NULL"
        } else if !seen.insert((parent, key)) {
            "TRANSFORM gives the same key twice"
        } else {
            continue;
        };
        if std::mem::replace(&mut good[row], false) {
            failures.fail(row, reason);
        }
    }
    let kept: UInt32Array = (0..elements.parents.len() as u32)
        .filter(|&e| good[elements.parents.value(e as usize) as usize])
        .collect::<Vec<_>>()
        .into();
    let parents = take(&elements.parents, &kept, None)?;
    let parents = parents.as_primitive::<arrow::datatypes::UInt32Type>();
    let (lengths, valid) = shape(&collection, parents.values(), &good, failures);
    let (keys, values) = (take(&keys, &kept, None)?, take(&values, &kept, None)?);
    map_column(call, lengths, keys, values, valid)
}

fn map_column(call: &Call<'_>, lengths: Vec<usize>, keys: ArrayRef, values: ArrayRef, valid: Vec<bool>) -> Out {
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(ColumnarValue::Array(map_of(call.result, OffsetBuffer::from_lengths(lengths), keys, values, nulls)?))
}

fn filter(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let collection = Collection::of(call)?;
    let elements = collection.elements(failures);
    let mut good = vec![true; call.rows];
    let columns = collection.columns(&elements.places)?;
    let kept = apply(lambda(call, 0)?, columns, &elements.parents, call, failures, &mut good)?;
    let kept: &BooleanArray = kept.as_boolean();
    let (mut places, mut parents) = (Vec::new(), Vec::new());
    for (element, &parent) in elements.parents.values().iter().enumerate() {
        if kept.is_null(element) && std::mem::replace(&mut good[parent as usize], false) {
            failures.fail(parent as usize, "the lambda of FILTER gives NULL");
        }
        if kept.is_valid(element) && kept.value(element) {
            places.push(elements.places.value(element));
            parents.push(parent);
        }
    }
    let (lengths, valid) = shape(&collection, &parents, &good, failures);
    let mut columns = collection.columns(&UInt32Array::from(places))?;
    match (columns.pop(), columns.pop()) {
        (Some(values), Some(keys)) => map_column(call, lengths, keys, values, valid),
        (Some(items), None) => list_of(call.result, lengths, items, valid),
        _ => Err(DataFusionError::Internal("a collection without children".into())),
    }
}

fn reduce(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let collection = Collection::of(call)?;
    let initial = call.args[1].to_array(call.rows)?;
    let mut good = vec![true; call.rows];
    // the last state of each row: which of `states`, and where in it
    let mut last: Vec<(usize, usize)> = (0..call.rows).map(|row| (0, row)).collect();
    let mut states = vec![initial.clone()];
    let mut open: Vec<usize> =
        (0..call.rows).filter(|&row| collection.is_there(row, failures) && initial.is_valid(row)).collect();
    for position in 0.. {
        open.retain(|&row| good[row] && collection.range(row).len() > position);
        if open.is_empty() {
            break;
        }
        let sources: Vec<&dyn Array> = states.iter().map(AsRef::as_ref).collect();
        let current = interleave(&sources, &open.iter().map(|&row| last[row]).collect::<Vec<_>>())?;
        let places: UInt32Array =
            open.iter().map(|&row| collection.range(row).start + position as u32).collect::<Vec<_>>().into();
        let parents: UInt32Array = open.iter().map(|&row| row as u32).collect::<Vec<_>>().into();
        let mut columns = vec![current];
        columns.extend(collection.columns(&places)?);
        let next = apply(lambda(call, 0)?, columns, &parents, call, failures, &mut good)?;
        if states.len() > 1 && open.len() == last.iter().filter(|(state, _)| *state == states.len() - 1).count() {
            states.pop();
        }
        states.push(next);
        open.iter().enumerate().for_each(|(at, &row)| last[row] = (states.len() - 1, at));
    }
    let sources: Vec<&dyn Array> = states.iter().map(AsRef::as_ref).collect();
    let reduced = interleave(&sources, &last)?;
    let failed = BooleanArray::from(good.iter().map(|good| !good).collect::<Vec<_>>());
    Ok(ColumnarValue::Array(arrow::compute::nullif(&reduced, &failed)?))
}
