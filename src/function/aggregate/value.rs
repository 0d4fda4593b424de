//! How the values of an argument are kept in states: natively, as text, as bytes, or as row encodings of nested types.
//!
//! In memory only: [`super::Accumulator::states`] turns all of it back into columns. The subtle thing: a kind also fixes equality and
//! order as the dialect has them: text by UTF-16 code units, doubles by their total order, bytes unsigned.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, ArrowNativeTypeOp, AsArray, BinaryArray, BufferBuilder, ListArray, NullBufferBuilder,
    StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Field, ToByteSlice};
use arrow_row::{RowConverter, Rows, SortField};

use crate::types::SqlType;

/// A way to keep values of one type.
pub(super) trait Kind: Clone + Send + 'static {
    /// an owned value, never NULL
    type Value: Clone + Send;
    /// a borrowed value
    type Ref<'a>: Copy;
    /// a typed view of an argument column
    type Column;
    /// a column being built
    type Builder: Send;

    /// Views an argument column.
    fn column(&self, array: &ArrayRef) -> Self::Column;
    /// The value of a row; `None` for NULL.
    fn get(column: &Self::Column, row: usize) -> Option<Self::Ref<'_>>;
    /// Borrows a value.
    fn view(value: &Self::Value) -> Self::Ref<'_>;
    /// Copies a value.
    fn own(value: Self::Ref<'_>) -> Self::Value;
    /// Overwrites a value, in its memory where it fits.
    fn assign(into: &mut Self::Value, value: Self::Ref<'_>);
    /// The dialect's order.
    fn compare(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering;
    /// A hash for tables in memory.
    fn hash(value: Self::Ref<'_>, state: &ahash::RandomState) -> u64;
    /// Bytes on the heap behind a value.
    fn heap(value: &Self::Value) -> usize;
    /// An empty column.
    fn builder(&self) -> Self::Builder;
    /// Appends to a column.
    fn push(builder: &mut Self::Builder, value: Option<Self::Ref<'_>>);
    /// Ends a column.
    fn finish(&self, builder: Self::Builder) -> ArrayRef;
    /// The SQL type of columns.
    fn ty(&self) -> &SqlType;
}

/// Calls `$body` with `$kind` bound to the kind that keeps values of `$ty`.
macro_rules! with_kind {
    ($ty:expr, $kind:ident => $body:expr) => {{
        use $crate::function::aggregate::value::{Blob, Encoded, Native, Text};
        use $crate::types::SqlType;
        let ty: &SqlType = $ty;
        match ty {
            SqlType::Int | SqlType::Time | SqlType::Date => {
                let $kind = Native::<i32>::new(ty);
                $body
            }
            SqlType::BigInt | SqlType::Timestamp => {
                let $kind = Native::<i64>::new(ty);
                $body
            }
            SqlType::Double => {
                let $kind = Native::<f64>::new(ty);
                $body
            }
            SqlType::Decimal(precision, _) if *precision <= 38 => {
                let $kind = Native::<i128>::new(ty);
                $body
            }
            SqlType::String => {
                let $kind = Text;
                $body
            }
            SqlType::Bytes => {
                let $kind = Blob;
                $body
            }
            other => {
                let $kind = Encoded::new(other);
                $body
            }
        }
    }};
}
pub(super) use with_kind;

/// A column of native values of that Arrow type.
pub(super) fn native_array<N: ArrowNativeType>(ty: &DataType, values: Vec<N>, nulls: Option<NullBuffer>) -> ArrayRef {
    let data = ArrayData::builder(ty.clone()).len(values.len()).add_buffer(Buffer::from_vec(values)).nulls(nulls);
    make_array(data.build().expect("a primitive type and a buffer of its native values"))
}

/// The native values of a primitive column.
pub(super) fn native_values<N: ArrowNativeType>(array: &ArrayRef) -> ScalarBuffer<N> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// The SQL type of a list of `item`.
pub(super) fn list_type(item: &SqlType) -> SqlType {
    SqlType::Array(Box::new(item.clone()))
}

/// A list column from its flattened elements and the end of each list.
pub(super) fn list_array(elements: ArrayRef, ends: Vec<i32>) -> ArrayRef {
    let field = Arc::new(Field::new("item", elements.data_type().clone(), true));
    Arc::new(ListArray::new(field, OffsetBuffer::new(ends.into()), elements, None))
}

/// Ends of lists under construction; lists of one column hold less than 2^31 elements (operators cut output into pages).
pub(super) fn push_end(ends: &mut Vec<i32>, len: usize) {
    let last = ends.last().copied().unwrap_or(0);
    ends.push(last + i32::try_from(len).expect("a list in memory has less than 2^31 elements"));
}

/// Lists of values, under construction.
pub(super) struct Lists<K: Kind> {
    elements: K::Builder,
    ends: Vec<i32>,
}

impl<K: Kind> Lists<K> {
    /// No lists.
    pub fn new(kind: &K) -> Self {
        Self { elements: kind.builder(), ends: vec![0] }
    }

    /// Appends a list.
    pub fn push<'a>(&mut self, list: impl Iterator<Item = Option<&'a K::Value>>)
    where
        K::Value: 'a,
    {
        let mut len = 0;
        for value in list {
            K::push(&mut self.elements, value.map(K::view));
            len += 1;
        }
        push_end(&mut self.ends, len);
    }

    /// The column.
    pub fn finish(self, kind: &K) -> ArrayRef {
        list_array(kind.finish(self.elements), self.ends)
    }
}

/// Row `row` of a list column, as positions in its elements.
pub(super) fn list_range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    if list.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

/// Values that are one machine word (or two): numbers, dates, times.
#[derive(Clone)]
pub(super) struct Native<N> {
    ty: SqlType,
    arrow: DataType,
    native: std::marker::PhantomData<N>,
}

impl<N> Native<N> {
    /// Keeps values of `ty`, whose Arrow type has native values `N`.
    pub fn new(ty: &SqlType) -> Self {
        Self { ty: ty.clone(), arrow: ty.to_arrow(), native: std::marker::PhantomData }
    }
}

/// Native values and which of them are NULL.
pub(super) struct NativeColumn<N: ArrowNativeType> {
    values: ScalarBuffer<N>,
    nulls: Option<NullBuffer>,
}

/// A native column under construction.
pub(super) struct NativeBuilder<N> {
    values: Vec<N>,
    nulls: NullBufferBuilder,
}

impl<N: ArrowNativeTypeOp + Send> Kind for Native<N>
where
    [N]: ToByteSlice,
{
    type Value = N;
    type Ref<'a> = N;
    type Column = NativeColumn<N>;
    type Builder = NativeBuilder<N>;

    fn column(&self, array: &ArrayRef) -> Self::Column {
        NativeColumn { values: native_values(array), nulls: array.nulls().cloned() }
    }

    #[inline]
    fn get(column: &Self::Column, row: usize) -> Option<N> {
        match &column.nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => Some(column.values[row]),
        }
    }

    fn view(value: &N) -> N {
        *value
    }

    fn own(value: N) -> N {
        value
    }

    fn assign(into: &mut N, value: N) {
        *into = value;
    }

    #[inline]
    fn compare(a: N, b: N) -> Ordering {
        a.compare(b)
    }

    fn hash(value: N, state: &ahash::RandomState) -> u64 {
        state.hash_one(std::slice::from_ref(&value).to_byte_slice())
    }

    fn heap(_: &N) -> usize {
        0
    }

    fn builder(&self) -> Self::Builder {
        NativeBuilder { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    fn push(builder: &mut Self::Builder, value: Option<N>) {
        builder.values.push(value.unwrap_or_default());
        builder.nulls.append(value.is_some());
    }

    fn finish(&self, mut builder: Self::Builder) -> ArrayRef {
        native_array(&self.arrow, builder.values, builder.nulls.finish())
    }

    fn ty(&self) -> &SqlType {
        &self.ty
    }
}

/// Variable-length values under construction.
pub(super) struct BytesBuilder {
    bytes: BufferBuilder<u8>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl BytesBuilder {
    fn new() -> Self {
        Self { bytes: BufferBuilder::new(0), ends: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    fn push(&mut self, value: Option<&[u8]>) {
        self.bytes.append_slice(value.unwrap_or_default());
        push_end(&mut self.ends, value.map_or(0, <[u8]>::len));
        self.nulls.append(value.is_some());
    }
}

/// Text, in the order of UTF-16 code units (as Java compares strings).
#[derive(Clone)]
pub(super) struct Text;

/// Orders UTF-8 text by its UTF-16 code units: as bytes, but that U+E000–U+FFFF come after supplementary characters.
pub(super) fn compare_utf16(a: &[u8], b: &[u8]) -> Ordering {
    let differing = a.iter().zip(b).position(|(x, y)| x != y);
    let Some(at) = differing else { return a.len().cmp(&b.len()) };
    let rank = |byte: u8| {
        if byte >= 0xF0 {
            0xEE
        } else if byte >= 0xEE {
            byte + 2
        } else {
            byte
        }
    };
    rank(a[at]).cmp(&rank(b[at])).then(a[at].cmp(&b[at]))
}

/// Bytes, compared unsigned.
#[derive(Clone)]
pub(super) struct Blob;

macro_rules! bytes_kind {
    ($kind:ident, $array:ty, $ty:expr, $column:expr, $value:expr, $compare:expr, $finish:expr) => {
        impl Kind for $kind {
            type Value = Vec<u8>;
            type Ref<'a> = &'a [u8];
            type Column = $array;
            type Builder = BytesBuilder;

            fn column(&self, array: &ArrayRef) -> Self::Column {
                $column(array)
            }

            fn get(column: &Self::Column, row: usize) -> Option<&[u8]> {
                if column.is_null(row) { None } else { Some($value(column, row)) }
            }

            fn view(value: &Vec<u8>) -> &[u8] {
                value
            }

            fn own(value: &[u8]) -> Vec<u8> {
                value.to_vec()
            }

            fn assign(into: &mut Vec<u8>, value: &[u8]) {
                into.clear();
                into.extend_from_slice(value);
            }

            fn compare(a: &[u8], b: &[u8]) -> Ordering {
                $compare(a, b)
            }

            fn hash(value: &[u8], state: &ahash::RandomState) -> u64 {
                state.hash_one(value)
            }

            fn heap(value: &Vec<u8>) -> usize {
                value.capacity()
            }

            fn builder(&self) -> BytesBuilder {
                BytesBuilder::new()
            }

            fn push(builder: &mut BytesBuilder, value: Option<&[u8]>) {
                builder.push(value);
            }

            fn finish(&self, mut builder: BytesBuilder) -> ArrayRef {
                let ends = OffsetBuffer::new(builder.ends.into());
                $finish(ends, builder.bytes.finish(), builder.nulls.finish())
            }

            fn ty(&self) -> &SqlType {
                &$ty
            }
        }
    };
}

bytes_kind!(
    Text,
    StringArray,
    SqlType::String,
    |array: &ArrayRef| array.as_string::<i32>().clone(),
    bytes_of_text,
    compare_utf16,
    |ends, bytes, nulls| Arc::new(StringArray::new(ends, bytes, nulls)) as ArrayRef
);

bytes_kind!(
    Blob,
    BinaryArray,
    SqlType::Bytes,
    |array: &ArrayRef| array.as_binary::<i32>().clone(),
    bytes_of_blob,
    |a: &[u8], b: &[u8]| a.cmp(b),
    |ends, bytes, nulls| Arc::new(BinaryArray::new(ends, bytes, nulls)) as ArrayRef
);

fn bytes_of_text(column: &StringArray, row: usize) -> &[u8] {
    column.value(row).as_bytes()
}

fn bytes_of_blob(column: &BinaryArray, row: usize) -> &[u8] {
    column.value(row)
}

/// Values of nested types (and BOOLEAN, and wide decimals) in Arrow's row encoding, whose bytes never leave memory.
#[derive(Clone)]
pub(super) struct Encoded {
    ty: SqlType,
    converter: Arc<RowConverter>,
    null_row: Arc<[u8]>,
}

impl Encoded {
    /// Keeps values of `ty`.
    pub fn new(ty: &SqlType) -> Self {
        let arrow = ty.to_arrow();
        let null = arrow::array::new_null_array(&arrow, 1);
        let converter = RowConverter::new(vec![SortField::new(arrow)]).expect("every SQL type has a row encoding");
        let null_row = converter.convert_columns(&[null]).expect("a column of the type").row(0).data().into();
        Self { ty: ty.clone(), converter: Arc::new(converter), null_row }
    }
}

/// Encoded rows and which of them are NULL.
pub(super) struct EncodedColumn {
    rows: Rows,
    nulls: Option<NullBuffer>,
}

impl EncodedColumn {
    /// The encoding of a row, NULL or not.
    pub fn row(&self, row: usize) -> &[u8] {
        self.rows.row_data(row)
    }
}

trait RowData {
    fn row_data(&self, row: usize) -> &[u8];
}

impl RowData for Rows {
    fn row_data(&self, row: usize) -> &[u8] {
        self.row(row).data()
    }
}

impl Encoded {
    /// Decodes rows, which may be encodings of NULL.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
        let parser = self.converter.parser();
        let rows: Vec<&[u8]> = rows.collect();
        let mut columns = self
            .converter
            .convert_rows(rows.iter().map(|bytes| parser.parse(bytes)))
            .expect("rows of this converter decode");
        columns.pop().expect("the converter has one column")
    }
}

impl Kind for Encoded {
    type Value = Vec<u8>;
    type Ref<'a> = &'a [u8];
    type Column = EncodedColumn;
    type Builder = BytesBuilder;

    fn column(&self, array: &ArrayRef) -> EncodedColumn {
        let rows = self.converter.convert_columns(std::slice::from_ref(array)).expect("a column of the type");
        EncodedColumn { rows, nulls: array.logical_nulls() }
    }

    fn get(column: &EncodedColumn, row: usize) -> Option<&[u8]> {
        match &column.nulls {
            Some(nulls) if nulls.is_null(row) => None,
            _ => Some(column.row(row)),
        }
    }

    fn view(value: &Vec<u8>) -> &[u8] {
        value
    }

    fn own(value: &[u8]) -> Vec<u8> {
        value.to_vec()
    }

    fn assign(into: &mut Vec<u8>, value: &[u8]) {
        into.clear();
        into.extend_from_slice(value);
    }

    fn compare(a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }

    fn hash(value: &[u8], state: &ahash::RandomState) -> u64 {
        state.hash_one(value)
    }

    fn heap(value: &Vec<u8>) -> usize {
        value.capacity()
    }

    fn builder(&self) -> BytesBuilder {
        BytesBuilder::new()
    }

    fn push(builder: &mut BytesBuilder, value: Option<&[u8]>) {
        builder.push(value);
    }

    fn finish(&self, mut builder: BytesBuilder) -> ArrayRef {
        let bytes = builder.bytes.finish();
        let nulls = builder.nulls.finish();
        self.decode(builder.ends.windows(2).enumerate().map(|(i, ends)| match &nulls {
            Some(nulls) if nulls.is_null(i) => &self.null_row[..],
            _ => &bytes[ends[0] as usize..ends[1] as usize],
        }))
    }

    fn ty(&self) -> &SqlType {
        &self.ty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_ordered_by_utf16_code_units(
            a in "[a-c\u{e000}-\u{e003}\u{ffff}\u{10000}-\u{10003}]{0,4}",
            b in "[a-c\u{e000}-\u{e003}\u{ffff}\u{10000}-\u{10003}]{0,4}",
        ) {
            let units = |s: &str| s.encode_utf16().collect::<Vec<_>>();
            prop_assert_eq!(compare_utf16(a.as_bytes(), b.as_bytes()), units(&a).cmp(&units(&b)));
        }
    }
}
