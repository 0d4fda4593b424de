//! Columns to JSON: a writer bound to each column, and one buffer that all rows of a batch are written to.
//!
//! Chooses no types: each Arrow type has one writer. The subtle thing: what comes before each value (brace or comma, name,
//! colon) is prepared once, when the encoder is made.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, ListArray,
    MapArray, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMillisecondType,
};

use super::string::{push_quoted, push_quoted_at};
use crate::format::byte_rows::ByteRows;
use crate::format::text::{push_base64, push_decimal128, push_decimal256, push_integer, push_java_double};
use crate::format::{DecodeFailure, Encoded, RecordEncoder, Side};
use crate::types::{Column, SqlType};

/// Bytes a row is taken for until the first batch has been written.
const FIRST_GUESS_ROW_BYTES: usize = 64;

/// Encodes rows as JSON payloads.
pub(super) struct JsonEncoder {
    plan: ObjectPlan,
    bare: bool,
    /// a lone key column that is NULL makes the whole key NULL
    null_is_absent: bool,
    /// average of the batch before
    row_bytes: usize,
}

impl JsonEncoder {
    pub(super) fn new(columns: &[Column], bare: bool, side: Side) -> Self {
        let plan = ObjectPlan::new(columns.iter().map(|column| (column.name.as_str(), &column.ty)));
        let null_is_absent = bare || (side == Side::Key && columns.len() == 1);
        Self { plan, bare, null_is_absent, row_bytes: FIRST_GUESS_ROW_BYTES }
    }
}

impl RecordEncoder for JsonEncoder {
    fn encode(&mut self, columns: &[ArrayRef], present: Option<&BooleanBuffer>, rows: usize) -> Encoded {
        let object = self.plan.bind(columns);
        let lone = if self.null_is_absent { columns.first() } else { None };
        let mut payloads = ByteRows::with_capacity(rows, rows * self.row_bytes);
        let mut failures = Vec::new();
        for row in 0..rows {
            if present.is_some_and(|p| !p.value(row)) || lone.is_some_and(|column| column.is_null(row)) {
                payloads.append_null();
                continue;
            }
            let written: Result<(), &str> = payloads.append_with(|out| {
                if self.bare {
                    object.values[0].write(row, out)
                } else {
                    object.write(row, out)
                }
                Ok(())
            });
            if let Err(reason) = written {
                failures.push(DecodeFailure { row, reason: reason.to_owned() });
            }
        }
        if let Some(bytes) = payloads.byte_len().checked_div(rows) {
            self.row_bytes = bytes.max(1) + 8;
        }
        Encoded { payloads: payloads.into_binary(), failures }
    }
}

/// The names of an object and what its values hold.
struct ObjectPlan {
    /// what stands before each value: `{"A":`, then `,"B":`
    leads: Vec<Lead>,
    values: Vec<ValuePlan>,
}

/// What stands before a value. Short ones, as most are, are copied with a fixed length and cut, which is one or two stores.
enum Lead {
    Short([u8; SHORT_LEAD], usize),
    Long(Vec<u8>),
}

const SHORT_LEAD: usize = 24;

impl Lead {
    fn new(text: Vec<u8>) -> Self {
        let mut short = [0; SHORT_LEAD];
        match short.get_mut(..text.len()) {
            Some(place) => place.copy_from_slice(&text),
            None => return Self::Long(text),
        }
        Self::Short(short, text.len())
    }

    #[inline(always)]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Short(text, len) => {
                let end = out.len() + len;
                out.extend_from_slice(text);
                out.truncate(end);
            }
            Self::Long(text) => out.extend_from_slice(text),
        }
    }
}

/// The names inside a value, ready to be written.
enum ValuePlan {
    Leaf,
    Inner(Box<ValuePlan>),
    Object(ObjectPlan),
}

impl ObjectPlan {
    fn new<'a>(fields: impl Iterator<Item = (&'a str, &'a SqlType)>) -> Self {
        let mut plan = Self { leads: Vec::new(), values: Vec::new() };
        for (name, ty) in fields {
            let mut lead = vec![if plan.leads.is_empty() { b'{' } else { b',' }];
            push_quoted(name.as_bytes(), &mut lead);
            lead.push(b':');
            plan.leads.push(Lead::new(lead));
            plan.values.push(ValuePlan::new(ty));
        }
        plan
    }

    fn bind<'a>(&'a self, columns: &'a [ArrayRef]) -> Object<'a> {
        debug_assert_eq!(columns.len(), self.values.len());
        Object { leads: &self.leads, values: self.values.iter().zip(columns).map(|(plan, c)| plan.bind(c)).collect() }
    }
}

impl ValuePlan {
    fn new(ty: &SqlType) -> Self {
        match ty {
            SqlType::Array(item) => Self::Inner(Box::new(Self::new(item))),
            SqlType::Map(_, value) => Self::Inner(Box::new(Self::new(value))),
            SqlType::Struct(fields) => Self::Object(ObjectPlan::new(fields.iter().map(|f| (f.name.as_str(), &f.ty)))),
            _ => Self::Leaf,
        }
    }

    /// # Panics
    /// If the column is not of the type the encoder was made for: a bug of the caller.
    fn bind<'a>(&'a self, column: &'a ArrayRef) -> Values<'a> {
        use arrow::datatypes::DataType;
        let kind = match (column.data_type(), self) {
            (DataType::Boolean, _) => Kind::Boolean(column.as_boolean()),
            (DataType::Int32, _) => Kind::Int(column.as_primitive()),
            (DataType::Int64, _) => Kind::BigInt(column.as_primitive()),
            (DataType::Float64, _) => Kind::Double(column.as_primitive()),
            (DataType::Decimal128(_, s), _) => Kind::Decimal128(column.as_primitive(), *s as u8),
            (DataType::Decimal256(_, s), _) => Kind::Decimal256(column.as_primitive(), *s as u8),
            (DataType::Utf8, _) => Kind::String(column.as_string()),
            (DataType::Binary, _) => Kind::Bytes(column.as_binary()),
            (DataType::Time32(_), _) => Kind::Time(column.as_primitive()),
            (DataType::Date32, _) => Kind::Date(column.as_primitive()),
            (DataType::Timestamp(..), _) => Kind::Timestamp(column.as_primitive()),
            (DataType::List(_), Self::Inner(item)) => {
                let list: &ListArray = column.as_list();
                Kind::Array(list.offsets(), Box::new(item.bind(list.values())))
            }
            (DataType::Map(..), Self::Inner(value)) => {
                let map: &MapArray = column.as_map();
                Kind::Map(map.offsets(), map.keys().as_string(), Box::new(value.bind(map.values())))
            }
            (DataType::Struct(_), Self::Object(plan)) => Kind::Struct(plan.bind(column.as_struct().columns())),
            (other, _) => unreachable!("JSON cannot hold {other}, which the analysis has checked"),
        };
        Values { nulls: column.nulls(), kind }
    }
}

/// The columns of an object, bound for one batch.
struct Object<'a> {
    leads: &'a [Lead],
    values: Vec<Values<'a>>,
}

impl Object<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.values.is_empty() {
            out.push(b'{');
        }
        for (lead, values) in self.leads.iter().zip(&self.values) {
            lead.write(out);
            values.write(row, out);
        }
        out.push(b'}');
    }
}

/// One column, bound for one batch.
struct Values<'a> {
    nulls: Option<&'a NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Boolean(&'a BooleanArray),
    Int(&'a PrimitiveArray<Int32Type>),
    BigInt(&'a PrimitiveArray<Int64Type>),
    Double(&'a Float64Array),
    Decimal128(&'a Decimal128Array, u8),
    Decimal256(&'a Decimal256Array, u8),
    String(&'a StringArray),
    Bytes(&'a BinaryArray),
    Time(&'a PrimitiveArray<Time32MillisecondType>),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMillisecondType>),
    Array(&'a OffsetBuffer<i32>, Box<Values<'a>>),
    Map(&'a OffsetBuffer<i32>, &'a StringArray, Box<Values<'a>>),
    Struct(Object<'a>),
}

impl Values<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return out.extend_from_slice(b"null");
        }
        match &self.kind {
            Kind::Boolean(column) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            Kind::Int(column) => write_integer(column, row, out),
            Kind::BigInt(column) => write_integer(column, row, out),
            Kind::Time(column) => write_integer(column, row, out),
            Kind::Date(column) => write_integer(column, row, out),
            Kind::Timestamp(column) => write_integer(column, row, out),
            Kind::Double(column) => write_double(column.value(row), out),
            Kind::Decimal128(column, scale) => push_decimal128(column.value(row), *scale, out),
            Kind::Decimal256(column, scale) => push_decimal256(column.value(row), *scale, out),
            Kind::String(column) => write_string(column, row, out),
            Kind::Bytes(column) => {
                out.push(b'"');
                push_base64(column.value(row), out);
                out.push(b'"');
            }
            Kind::Array(offsets, items) => {
                out.push(b'[');
                for (i, item) in range(offsets, row).enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    items.write(item, out);
                }
                out.push(b']');
            }
            Kind::Map(offsets, keys, values) => {
                out.push(b'{');
                for (i, entry) in range(offsets, row).enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_string(keys, entry, out);
                    out.push(b':');
                    values.write(entry, out);
                }
                out.push(b'}');
            }
            Kind::Struct(object) => object.write(row, out),
        }
    }
}

fn range(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

#[inline(always)]
fn write_string(column: &StringArray, row: usize, out: &mut Vec<u8>) {
    let offsets = column.value_offsets();
    push_quoted_at(column.value_data(), offsets[row] as usize, offsets[row + 1] as usize, out);
}

#[inline(always)]
fn write_integer<T: ArrowPrimitiveType<Native: itoa::Integer + TryInto<u32>>>(
    column: &PrimitiveArray<T>,
    row: usize,
    out: &mut Vec<u8>,
) {
    push_integer(column.value(row), out);
}

/// JSON has no NaN and infinities: they are written as strings, which the decoder takes back.
fn write_double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        return push_java_double(value, out);
    }
    out.push(b'"');
    push_java_double(value, out);
    out.push(b'"');
}
