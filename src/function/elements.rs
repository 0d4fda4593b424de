//! Collections as syntax: the constructors ARRAY, MAP and STRUCT, `x[i]`, `x['k']`, `x->f`.
//!
//! Not the functions on collections (`array`, `map`). The subtle thing: a key of a MAP is never NULL; a STRING key that is becomes the text `null`, as
//! ksqlDB's JSON shows it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, Scalar, StringArray, StructArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{interleave, nullif, take};
use arrow::datatypes::{DataType, Field};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr};

use super::cast::map_of;
use super::columns::{Lists, Longs, Maps, Strs};
use super::deep;
use super::eval::Failures;
use super::udf::{BoundFunction, Call, ErrorRule};
use crate::types::{SqlField, SqlType};

type Out = Result<ColumnarValue, DataFusionError>;

/// `ARRAY[items]`, all of type `item`.
pub fn array(item: SqlType, items: Vec<Expr>) -> Expr {
    let types = vec![item.clone(); items.len()];
    let result = SqlType::Array(Box::new(item));
    BoundFunction::new("ARRAY", array_kernel, types, result, ErrorRule::ShieldArguments).call(items)
}

/// `MAP(key := value, …)`; keys and values alternate in `entries`.
pub fn map(key: SqlType, value: SqlType, entries: Vec<Expr>) -> Expr {
    let types = (0..entries.len()).map(|i| if i % 2 == 0 { key.clone() } else { value.clone() }).collect();
    let result = SqlType::Map(Box::new(key), Box::new(value));
    BoundFunction::new("MAP", map_kernel, types, result, ErrorRule::ShieldArguments).call(entries)
}

/// `STRUCT(field := value, …)`.
pub fn structure(fields: Arc<[SqlField]>, values: Vec<Expr>) -> Expr {
    let types = fields.iter().map(|f| f.ty.clone()).collect();
    let result = SqlType::Struct(fields);
    BoundFunction::new("STRUCT", struct_kernel, types, result, ErrorRule::ShieldArguments).total().call(values)
}

/// `base[index]` of an ARRAY; the index is a BIGINT.
pub fn item(item: SqlType, base: Expr, index: Expr) -> Expr {
    let types = vec![SqlType::Array(Box::new(item.clone())), SqlType::BigInt];
    BoundFunction::new("ITEM", item_kernel, types, item, ErrorRule::Propagate).total().call(vec![base, index])
}

/// `base[key]` of a MAP.
pub fn entry(key: SqlType, value: SqlType, base: Expr, at: Expr) -> Expr {
    let types = vec![SqlType::Map(Box::new(key.clone()), Box::new(value.clone())), key];
    BoundFunction::new("ENTRY", entry_kernel, types, value, ErrorRule::Propagate).total().call(vec![base, at])
}

/// `base->field` of a STRUCT, the field given by its place.
pub fn field(structure: SqlType, index: usize, ty: SqlType, base: Expr) -> Expr {
    let index_type = SqlType::BigInt;
    let index = datafusion::logical_expr::lit(index as i64);
    BoundFunction::new("FIELD_OF", field_kernel, vec![structure, index_type], ty, ErrorRule::Shield)
        .total()
        .call(vec![base, index])
}

fn arrays(call: &Call<'_>) -> Result<Vec<ArrayRef>, DataFusionError> {
    call.args.iter().map(|arg| arg.to_array(call.rows)).collect()
}

fn even_offsets(rows: usize, step: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(std::iter::repeat_n(step, rows))
}

fn array_kernel(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let arrays = arrays(call)?;
    let sources: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    let places: Vec<_> = (0..call.rows).flat_map(|row| (0..sources.len()).map(move |arg| (arg, row))).collect();
    let values = interleave(&sources, &places)?;
    let field = Arc::new(Field::new("item", call.types[0].to_arrow(), true));
    let list = ListArray::try_new(field, even_offsets(call.rows, sources.len()), values, None)?;
    Ok(ColumnarValue::Array(Arc::new(list)))
}

fn map_kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let arrays = arrays(call)?;
    let keys = arrays.iter().step_by(2).map(null_as_text).collect::<Result<Vec<_>, _>>()?;
    let values: Vec<&ArrayRef> = arrays.iter().skip(1).step_by(2).collect();
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(call.rows));
    let mut good = vec![true; call.rows];
    for (row, good) in good.iter_mut().enumerate() {
        if keys.iter().any(|k| k.is_null(row)) {
            failures.fail(row, "a key of a MAP is NULL");
            *good = false;
            lengths.push(0);
            continue;
        }
        let start = places.len();
        for (arg, key) in keys.iter().enumerate() {
            // the last value of a key wins, at the place of its first
            let earlier = (0..arg).find(|&other| deep::equal(keys[other].as_ref(), row, key.as_ref(), row));
            match earlier.and_then(|other| places[start..].iter_mut().find(|(first, _, _)| *first == other)) {
                Some((_, last, _)) => *last = arg,
                None => places.push((arg, arg, row)),
            }
        }
        lengths.push(places.len() - start);
    }
    let key_places: Vec<_> = places.iter().map(|(first, _, row)| (*first, *row)).collect();
    let value_places: Vec<_> = places.iter().map(|(_, last, row)| (*last, *row)).collect();
    let keys = interleave(&keys.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>(), &key_places)?;
    let values = interleave(&values.iter().map(|v| v.as_ref()).collect::<Vec<&dyn Array>>(), &value_places)?;
    let nulls = good.contains(&false).then(|| BooleanBuffer::from(good).into());
    let map = map_of(call.result, OffsetBuffer::from_lengths(lengths), keys, values, nulls)?;
    Ok(ColumnarValue::Array(map))
}

fn null_as_text(keys: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
    if keys.null_count() == 0 || keys.data_type() != &DataType::Utf8 {
        return Ok(keys.clone());
    }
    let there =
        BooleanArray::new(keys.nulls().map_or_else(|| BooleanBuffer::new_set(keys.len()), |n| n.inner().clone()), None);
    Ok(zip(&there, keys, &Scalar::new(StringArray::from(vec!["null"])))?)
}

fn struct_kernel(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let DataType::Struct(fields) = call.result_type() else {
        return Err(DataFusionError::Internal("STRUCT gives a STRUCT".into()));
    };
    let columns = StructArray::try_new_with_length(fields, arrays(call)?, None, call.rows)?;
    Ok(ColumnarValue::Array(Arc::new(columns)))
}

fn item_kernel(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let (lists, indices) = (Lists::of(&call.args[0])?, Longs::of(&call.args[1])?);
    let place = |row: usize| {
        let (list, at) = lists.at(row);
        let index = indices.get(row).filter(|_| list.is_valid(at))?;
        let (start, end) = (i64::from(list.value_offsets()[at]), i64::from(list.value_offsets()[at + 1]));
        let place = match index {
            ..0 => end + index,
            0 => return None,
            _ => start + index - 1,
        };
        (start..end).contains(&place).then_some(place as u32)
    };
    let places: UInt32Array = (0..call.rows).map(place).collect();
    Ok(ColumnarValue::Array(take(lists.at(0).0.values(), &places, None)?))
}

fn entry_kernel(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let maps = Maps::of(&call.args[0])?;
    let range = |row: usize| {
        let (map, at) = maps.at(row);
        let offsets = map.value_offsets();
        map.is_valid(at).then(|| offsets[at] as usize..offsets[at + 1] as usize)
    };
    let keys = maps.at(0).0.keys();
    let places: UInt32Array = if call.types[1] == SqlType::String {
        let (keys, wanted) = (keys.as_string::<i32>(), Strs::of(&call.args[1])?);
        let place = |row| wanted.get(row).zip(range(row)).and_then(|(key, mut at)| at.find(|&i| keys.value(i) == key));
        (0..call.rows).map(|row| place(row).map(|i| i as u32)).collect()
    } else {
        let wanted = call.args[1].to_array(call.rows)?;
        let place = |row: usize| {
            let mut at = range(row).filter(|_| wanted.is_valid(row))?;
            at.find(|&i| deep::equal(keys.as_ref(), i, wanted.as_ref(), row))
        };
        (0..call.rows).map(|row| place(row).map(|i| i as u32)).collect()
    };
    Ok(ColumnarValue::Array(take(maps.at(0).0.values(), &places, None)?))
}

fn field_kernel(call: &Call<'_>, _: &mut Failures<'_>) -> Out {
    let base = call.args[0].to_array(call.rows)?;
    let base = base.as_struct();
    let index = Longs::of(&call.args[1])?.get(0).and_then(|i| usize::try_from(i).ok());
    let column = index
        .and_then(|index| base.columns().get(index))
        .ok_or_else(|| DataFusionError::Internal("a field that the STRUCT does not have".into()))?;
    Ok(ColumnarValue::Array(match base.nulls() {
        Some(nulls) => nullif(column, &BooleanArray::new(!nulls.inner(), None))?,
        None => column.clone(),
    }))
}
