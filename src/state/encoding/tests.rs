//! Golden bytes, round trips, and order against Arrow's own row format.

use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int32Array,
    Int64Array, StringArray, StructArray, Time32MillisecondArray, TimestampMillisecondArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Field, TimeUnit, i256};
use arrow_row::{RowConverter, SortField};
use proptest::prelude::*;

use super::builder::{Builder, Cells, close_at};
use super::*;
use crate::types::{SqlField, SqlType, WindowBounds};

/// SplitMix64: enough chance for tests, and the same everywhere.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn push_random(chance: &mut Chance, out: &mut Builder, nullable: bool) {
    if nullable && chance.below(4) == 0 {
        out.push_null();
        return;
    }
    let number = |chance: &mut Chance| match chance.below(4) {
        0 => chance.below(5) as i64 - 2,
        1 => i64::MIN >> chance.below(63),
        2 => i64::MAX >> chance.below(63),
        _ => chance.next() as i64,
    };
    match &mut out.cells {
        Cells::Boolean(bits) => bits.append(chance.below(2) == 0),
        Cells::I32(values) => values.push(number(chance) as i32),
        Cells::I64(values) => values.push(number(chance)),
        Cells::I128(values) => values.push(i128::from(number(chance)) << chance.below(65)),
        Cells::I256(values) => {
            let high = number(chance) as i128;
            values.push(i256::from_parts(u128::from(chance.next()), if chance.below(2) == 0 { 0 } else { high }));
        }
        Cells::F64(values) => {
            let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 1.5, -1.5, f64::NAN];
            values.push(special[chance.below(8) as usize] * [1.0, 3.0][chance.below(2) as usize]);
        }
        Cells::Bytes { ends, data } => {
            for _ in 0..chance.below(5) {
                data.push([0, 1, b'a', b'b', 0x7f][chance.below(5) as usize]);
            }
            close_at(ends, data.len()).unwrap();
        }
        Cells::List { ends, items } => {
            (0..chance.below(4)).for_each(|_| push_random(chance, items, true));
            close_at(ends, items.len()).unwrap();
        }
        Cells::Struct(fields) => fields.iter_mut().for_each(|f| push_random(chance, f, true)),
        Cells::Map { ends, keys, values } => {
            for _ in 0..chance.below(4) {
                push_random(chance, keys, false);
                push_random(chance, values, true);
            }
            close_at(ends, keys.len()).unwrap();
        }
    }
    out.close();
}

/// A column of random cells, NULLs among them.
pub(crate) fn random_column(chance: &mut Chance, data_type: &DataType, rows: usize) -> ArrayRef {
    let mut builder = Builder::new(data_type, rows).unwrap();
    (0..rows).for_each(|_| push_random(chance, &mut builder, true));
    builder.finish().unwrap()
}

fn structure() -> SqlType {
    let field = |name: &str, ty| SqlField { name: name.into(), ty };
    SqlType::Struct(Arc::from([field("A", SqlType::Int), field("B", SqlType::Array(Box::new(SqlType::String)))]))
}

fn key_types() -> Vec<DataType> {
    let simple = [
        SqlType::Boolean,
        SqlType::Int,
        SqlType::BigInt,
        SqlType::Decimal(10, 2),
        SqlType::Decimal(60, 4),
        SqlType::Double,
        SqlType::String,
        SqlType::Bytes,
        SqlType::Time,
        SqlType::Date,
        SqlType::Timestamp,
        SqlType::Array(Box::new(SqlType::Array(Box::new(SqlType::BigInt)))),
        SqlType::Array(Box::new(structure())),
        structure(),
    ];
    simple.iter().map(SqlType::to_arrow).collect()
}

fn row_types() -> Vec<DataType> {
    let mut types = key_types();
    types.push(SqlType::Map(Box::new(SqlType::String), Box::new(structure())).to_arrow());
    types.push(SqlType::Map(Box::new(SqlType::Int), Box::new(SqlType::Bytes)).to_arrow());
    types
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn key_hex(column: ArrayRef) -> Vec<String> {
    let rows = column.len();
    let codec = KeyCodec::new(&[column.data_type().clone()]).unwrap();
    codec.encode(&[column], rows).unwrap().iter().map(hex).collect()
}

fn row_hex(column: ArrayRef) -> Vec<String> {
    let times = vec![1; column.len()];
    let codec = RowCodec::new(&[column.data_type().clone()]).unwrap();
    let rows = codec.encode(&[column], &times).unwrap();
    let strip = |row: String| row.strip_prefix("010100000000000000").unwrap().to_owned();
    rows.iter().map(|row| strip(hex(row))).collect()
}

fn nested() -> ArrayRef {
    let codec = RowCodec::new(&[structure().to_arrow()]).unwrap();
    // {A: 1, B: ["x", NULL]}, NULL
    let rows = [vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 2, 2, 1, 1, b'x'], vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0]];
    codec.decode(rows.iter().map(|r| Some(r.as_slice()))).unwrap().columns.remove(0)
}

#[test]
fn key_bytes_of_version_1_stay() {
    let utc = |v: Vec<i64>| TimestampMillisecondArray::new(ScalarBuffer::from(v), None);
    let decimal = Decimal128Array::from(vec![-1]).with_precision_and_scale(4, 2).unwrap();
    let wide = Decimal256Array::from(vec![i256::from_i128(1)]).with_precision_and_scale(60, 2).unwrap();
    assert_eq!(key_hex(Arc::new(BooleanArray::from(vec![None, Some(false), Some(true)]))), ["00", "0100", "0101"]);
    assert_eq!(key_hex(Arc::new(Int32Array::from(vec![-1, 2]))), ["017fffffff", "0180000002"]);
    assert_eq!(key_hex(Arc::new(Date32Array::from(vec![3]))), ["0180000003"]);
    assert_eq!(key_hex(Arc::new(Time32MillisecondArray::from(vec![4]))), ["0180000004"]);
    assert_eq!(key_hex(Arc::new(Int64Array::from(vec![Some(-1), None]))), ["017fffffffffffffff", "00"]);
    assert_eq!(key_hex(Arc::new(Int64Array::from(vec![5]))), ["018000000000000005"]);
    assert_eq!(key_hex(Arc::new(utc(vec![6]))), ["018000000000000006"]);
    assert_eq!(key_hex(Arc::new(decimal)), ["017fffffffffffffffffffffffffffffff"]);
    assert_eq!(key_hex(Arc::new(wide)), [format!("0180{}01", "00".repeat(30))]);
    let floats = Float64Array::from(vec![1.5, -1.5, f64::NAN, -f64::NAN]);
    let nan = "01fff8000000000000";
    assert_eq!(key_hex(Arc::new(floats)), ["01bff8000000000000", "014007ffffffffffff", nan, nan]);
    let text = StringArray::from(vec![Some("a\0b"), Some(""), None]);
    assert_eq!(key_hex(Arc::new(text)), ["016100ff620000", "010000", "00"]);
    assert_eq!(key_hex(Arc::new(StringArray::from(vec!["ab"]))), ["0161620000"]);
    assert_eq!(key_hex(Arc::new(BinaryArray::from_vec(vec![b"\xff"]))), ["01ff0000"]);
    let inner = "0180000001".to_owned() + "01" + "0101780000" + "0100" + "00";
    assert_eq!(key_hex(nested()), [format!("01{inner}"), "00".into()]);
}

#[test]
fn row_bytes_of_version_1_stay() {
    let decimals = Decimal128Array::from(vec![0, -1, 127, 128, -129]).with_precision_and_scale(4, 2).unwrap();
    let wide = Decimal256Array::from(vec![i256::from_i128(-300)]).with_precision_and_scale(60, 2).unwrap();
    assert_eq!(row_hex(Arc::new(BooleanArray::from(vec![None, Some(true)]))), ["00", "0101"]);
    assert_eq!(
        row_hex(Arc::new(Int32Array::from(vec![0, -1, 64, i32::MIN]))),
        ["0100", "0101", "018001", "01ffffffff0f"]
    );
    assert_eq!(row_hex(Arc::new(Int64Array::from(vec![i64::MIN]))), ["01ffffffffffffffffff01"]);
    assert_eq!(row_hex(Arc::new(Date32Array::from(vec![1]))), ["0102"]);
    assert_eq!(row_hex(Arc::new(Time32MillisecondArray::from(vec![1]))), ["0102"]);
    assert_eq!(row_hex(Arc::new(TimestampMillisecondArray::from(vec![-2]))), ["0103"]);
    assert_eq!(row_hex(Arc::new(decimals)), ["010100", "0101ff", "01017f", "01020080", "0102ff7f"]);
    assert_eq!(row_hex(Arc::new(wide)), ["0102fed4"]);
    assert_eq!(row_hex(Arc::new(Float64Array::from(vec![1.5]))), ["01000000000000f83f"]);
    assert_eq!(row_hex(Arc::new(StringArray::from(vec!["", "é"]))), ["0100", "0102c3a9"]);
    assert_eq!(row_hex(Arc::new(BinaryArray::from_vec(vec![b"\0"]))), ["010100"]);
    assert_eq!(row_hex(nested()), ["010302020101 78".replace(' ', ""), "00".into()]);
    let map = SqlType::Map(Box::new(SqlType::String), Box::new(SqlType::Int)).to_arrow();
    let mut builder = Builder::new(&map, 1).unwrap();
    let Cells::Map { ends, keys, values } = &mut builder.cells else { panic!("a map has map cells") };
    for key in [b"k", b"l"] {
        let Cells::Bytes { ends, data } = &mut keys.cells else { panic!("text has bytes") };
        data.extend_from_slice(key);
        close_at(ends, data.len()).unwrap();
        keys.close();
    }
    values.push_null();
    let Cells::I32(numbers) = &mut values.cells else { panic!("INT has i32") };
    numbers.push(7);
    values.close();
    close_at(ends, 2).unwrap();
    builder.close();
    assert_eq!(row_hex(builder.finish().unwrap()), ["0102016b016c020e"]);
}

#[test]
fn rows_without_columns_are_a_row_time() {
    let codec = RowCodec::new(&[]).unwrap();
    let rows = codec.encode(&[], &[-1, 2]).unwrap();
    assert_eq!(hex(rows.row(0)), "01ffffffffffffffff");
    assert_eq!(RowCodec::rowtime(rows.row(1)).unwrap(), 2);
    let back = codec.decode([Some(rows.row(0)), None]).unwrap();
    assert_eq!(back.rowtime.as_ref(), [-1, 0]);
    assert_eq!(back.present.unwrap().iter().collect::<Vec<_>>(), [true, false]);
}

#[test]
fn windowed_keys_sort_by_key_then_start_then_end() {
    let codec = KeyCodec::new(&[DataType::Utf8]).unwrap();
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a", "ab"]));
    let windows =
        WindowBounds { start: ScalarBuffer::from(vec![-5, 10, 10, 0]), end: ScalarBuffer::from(vec![0, 20, 21, 1]) };
    let keys = codec.encode_windowed(from_ref(&column), 4, Some(&windows)).unwrap();
    assert!(keys.iter().is_sorted());
    assert_eq!(hex(keys.row(3)), "0161620000 8000000000000000 8000000000000001".replace(' ', ""));
    assert_eq!(codec.decode_windowed(keys.iter()).unwrap(), (vec![column], windows));
    assert!(split_window(&[0; 15]).is_err());
}

#[test]
fn a_row_lacks_a_key_if_all_key_columns_are_null() {
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![None, None, Some("x")]));
    assert_eq!(null_keys(&[a.clone(), b], 3).unwrap().set_indices().collect::<Vec<_>>(), [1]);
    assert_eq!(null_keys(from_ref(&a), 3).unwrap().set_indices().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(null_keys(&[a, Arc::new(Int32Array::from(vec![1, 2, 3]))], 3), None);
    assert_eq!(null_keys(&[], 3), None);
}

#[test]
fn maps_and_foreign_types_are_refused() {
    let map = SqlType::Map(Box::new(SqlType::String), Box::new(SqlType::Int)).to_arrow();
    let list = DataType::List(Arc::new(Field::new("item", map.clone(), true)));
    assert!(KeyCodec::new(from_ref(&map)).is_err() && KeyCodec::new(&[list]).is_err() && RowCodec::new(&[map]).is_ok());
    assert!(RowCodec::new(&[DataType::Timestamp(TimeUnit::Nanosecond, None)]).is_err());
    let codec = RowCodec::new(&[DataType::Int32]).unwrap();
    assert!(codec.encode(&[Arc::new(Int64Array::from(vec![1]))], &[0]).is_err());
    assert!(codec.encode(&[Arc::new(Int32Array::from(vec![1]))], &[0, 1]).is_err());
}

#[test]
fn damaged_bytes_are_errors_not_panics() {
    let mut chance = Chance(7);
    let types = row_types();
    let columns: Vec<_> = types.iter().map(|t| random_column(&mut chance, t, 30)).collect();
    let rows = RowCodec::new(&types).unwrap();
    let keys = KeyCodec::new(&key_types()).unwrap();
    let encoded = rows.encode(&columns, &[0; 30]).unwrap();
    let encoded_keys = keys.encode(&columns[..key_types().len()], 30).unwrap();
    for i in 0..30 {
        for len in 0..encoded.row(i).len() {
            assert!(rows.decode([Some(&encoded.row(i)[..len])]).is_err());
        }
        for len in 0..encoded_keys.row(i).len() {
            assert!(keys.decode([&encoded_keys.row(i)[..len]]).is_err());
        }
        for _ in 0..200 {
            let mut bad = encoded.row(i).to_vec();
            let at = chance.below(bad.len() as u64) as usize;
            bad[at] = chance.next() as u8;
            let _ = rows.decode([Some(bad.as_slice())]);
        }
    }
}

#[test]
fn struct_columns_with_null_parents_keep_their_children() {
    let names: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let fields = vec![Field::new("A", DataType::Int32, true)];
    let column = StructArray::new(fields.into(), vec![names], Some(vec![false, true].into()));
    let column: ArrayRef = Arc::new(column);
    assert_eq!(row_hex(column.clone()), ["00", "010104"]);
    assert_eq!(key_hex(column), ["00", "010180000002"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_round_trip(seed: u64, rows in 0usize..40, skip in 0usize..5) {
        let mut chance = Chance(seed);
        let types: Vec<_> = row_types().into_iter().filter(|_| chance.below(3) != 0).collect();
        let columns: Vec<_> =
            types.iter().map(|t| random_column(&mut chance, t, rows + skip).slice(skip, rows)).collect();
        let times: Vec<i64> = (0..rows).map(|_| chance.next() as i64).collect();
        let codec = RowCodec::new(&types).unwrap();
        let encoded = codec.encode(&columns, &times).unwrap();
        let back = codec.decode(encoded.iter().map(Some)).unwrap();
        prop_assert_eq!(&back.columns, &columns);
        prop_assert_eq!(back.rowtime.as_ref(), times.as_slice());
        prop_assert!(back.present.is_none());
        prop_assert_eq!(codec.encode(&back.columns, &times).unwrap(), encoded);
    }

    #[test]
    fn keys_round_trip_and_sort_as_rows_do(seed: u64, rows in 0usize..30, skip in 0usize..5) {
        let mut chance = Chance(seed);
        let types: Vec<_> = key_types().into_iter().filter(|_| chance.below(5) == 0).collect();
        let columns: Vec<_> =
            types.iter().map(|t| random_column(&mut chance, t, rows + skip).slice(skip, rows)).collect();
        let codec = KeyCodec::new(&types).unwrap();
        let keys = codec.encode(&columns, rows).unwrap();
        prop_assert_eq!(&codec.decode(keys.iter()).unwrap(), &columns);
        if types.is_empty() {
            return Ok(());
        }
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect()).unwrap();
        let reference = converter.convert_columns(&columns).unwrap();
        for i in 0..rows {
            for j in 0..rows {
                let expected = reference.row(i).cmp(&reference.row(j));
                prop_assert_eq!(keys.row(i).cmp(keys.row(j)), expected, "{:?}", (i, j));
            }
        }
    }

    #[test]
    fn one_text_or_number_goes_the_fast_way_to_the_same_bytes(seed: u64, rows in 1usize..40) {
        let mut chance = Chance(seed);
        for data_type in [DataType::Utf8, DataType::Int64] {
            let column = random_column(&mut chance, &data_type, rows);
            let valid = arrow::compute::filter(&column, &arrow::compute::is_not_null(&column).unwrap()).unwrap();
            let one = KeyCodec::new(from_ref(&data_type)).unwrap().encode(from_ref(&valid), valid.len()).unwrap();
            let two = KeyCodec::new(&[data_type.clone(), data_type]).unwrap();
            let two = two.encode(&[valid.clone(), valid.clone()], valid.len()).unwrap();
            for i in 0..valid.len() {
                prop_assert_eq!([one.row(i), one.row(i)].concat(), two.row(i));
            }
        }
    }
}
