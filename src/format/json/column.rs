//! From where values stand in the text to one Arrow array: a decoder for each type, nested as the type is.
//!
//! Knows no records: `spans` are the values of one column, row by row, found by the caller. The subtle thing: a value that does
//! not fit its type becomes NULL plus a [`Fault`]; an array's or object's faults go up to the row that holds it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, Decimal128Array, Decimal256Array,
    NullBufferBuilder, PrimitiveArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};

use super::nested::{ArrayDecoder, MapDecoder, StructDecoder};
use super::scan::Span;
use super::string::unescape;
use super::value_text::push_value_text;
use crate::format::byte_rows::ByteRows;
use crate::format::number::{
    DecimalFault, parse_decimal128, parse_decimal256, parse_i64, parse_java_f64, parse_plain_f64, truncate_to_i64,
};
use crate::format::text::{decimal_misfit, parse_base64, time_of_day};
use crate::types::SqlType;

/// A value that could not be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// index of its span
    pub(super) index: usize,
    /// the way from the column to the value: `.FIELD`, `[2]`; empty for the value itself
    pub(super) path: String,
    /// why, without the path
    pub(super) reason: String,
}

/// Builds the array of one type.
pub(super) enum ColumnDecoder {
    Leaf(SqlType),
    Array(Box<ArrayDecoder>),
    Map(Box<MapDecoder>),
    Struct(Box<StructDecoder>),
}

impl ColumnDecoder {
    pub(super) fn new(ty: &SqlType) -> Self {
        match ty {
            SqlType::Array(item) => Self::Array(Box::new(ArrayDecoder::new(item))),
            SqlType::Map(_, value) => Self::Map(Box::new(MapDecoder::new(value))),
            SqlType::Struct(fields) => Self::Struct(Box::new(StructDecoder::new(fields))),
            leaf => Self::Leaf(leaf.clone()),
        }
    }

    /// The array of the values at `spans`; NULL where there is none or where `faults` has an entry. `bytes` is UTF-8 within
    /// the spans.
    pub(super) fn decode(&mut self, bytes: &[u8], spans: &[Span], faults: &mut Vec<Fault>) -> ArrayRef {
        match self {
            Self::Leaf(ty) => Leaves { bytes, spans, faults, ty }.decode(),
            Self::Array(array) => array.decode(bytes, spans, faults),
            Self::Map(map) => map.decode(bytes, spans, faults),
            Self::Struct(fields) => fields.decode(bytes, spans, faults),
        }
    }
}

/// Records that the value of `span` is of a type that cannot become `required`.
#[cold]
pub(super) fn mismatch(faults: &mut Vec<Fault>, index: usize, span: Span, bytes: &[u8], required: &str) {
    let reason = format!("Can't convert type. sourceType: {}, requiredType: {required}", node_type(span.of(bytes)));
    faults.push(Fault { index, path: String::new(), reason });
}

/// The reference's name for what kind of value a text is.
fn node_type(text: &[u8]) -> &'static str {
    match text[0] {
        b'"' => "TextNode",
        b't' | b'f' => "BooleanNode",
        b'{' => "ObjectNode",
        b'[' => "ArrayNode",
        _ => match parse_i64(text) {
            Some(value) if i32::try_from(value).is_ok() => "IntNode",
            Some(_) => "LongNode",
            None if text.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) => "DecimalNode",
            None => "BigIntegerNode",
        },
    }
}

/// A column of values without inner ones.
struct Leaves<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    faults: &'a mut Vec<Fault>,
    ty: &'a SqlType,
}

/// Why a leaf value was refused.
enum Refused {
    /// the wrong kind of value
    Kind,
    /// text that does not read as the type
    Text,
    /// said in full
    Because(String),
}

impl Leaves<'_> {
    fn decode(self) -> ArrayRef {
        match *self.ty {
            SqlType::Boolean => self.booleans(),
            SqlType::Int => self.integers::<Int32Type>(|value| i32::try_from(value).map_err(|_| out_of_range(value))),
            SqlType::BigInt => self.integers::<Int64Type>(Ok),
            SqlType::Timestamp => self.integers::<TimestampMillisecondType>(Ok),
            SqlType::Date => self.integers::<Date32Type>(|value| i32::try_from(value).map_err(|_| out_of_range(value))),
            SqlType::Time => self.integers::<Time32MillisecondType>(|ms| time_of_day(ms).map_err(Refused::Because)),
            SqlType::Double => Arc::new(self.primitives::<Float64Type>(double)),
            SqlType::Decimal(p, s) if p <= 38 => {
                let column = self.primitives::<Decimal128Type>(|token| {
                    let text = number_text(token)?;
                    parse_decimal128(&text, p, s).map_err(|fault| decimal_fault(fault, &text, p, s))
                });
                let column: Decimal128Array = column.with_data_type(DataType::Decimal128(p, s as i8));
                Arc::new(column)
            }
            SqlType::Decimal(p, s) => {
                let column = self.primitives::<Decimal256Type>(|token| {
                    let text = number_text(token)?;
                    parse_decimal256(&text, p, s).map_err(|fault| decimal_fault(fault, &text, p, s))
                });
                let column: Decimal256Array = column.with_data_type(DataType::Decimal256(p, s as i8));
                Arc::new(column)
            }
            SqlType::Bytes => self.binaries(),
            _ => self.strings(),
        }
    }

    fn refuse(&mut self, index: usize, refused: Refused) {
        let required = match self.ty {
            SqlType::Decimal(..) => "DECIMAL".to_owned(),
            ty => ty.to_string(),
        };
        let reason = match refused {
            Refused::Kind => return mismatch(self.faults, index, self.spans[index], self.bytes, &required),
            Refused::Text => format!("Can't coerce string to type. targetType: {required}"),
            Refused::Because(reason) => reason,
        };
        self.faults.push(Fault { index, path: String::new(), reason });
    }

    fn booleans(mut self) -> ArrayRef {
        let mut values = BooleanBufferBuilder::new(self.spans.len());
        let mut nulls = NullBufferBuilder::new(self.spans.len());
        for (i, span) in self.spans.iter().enumerate() {
            let value = match span {
                span if span.is_null() => None,
                span => match span.of(self.bytes)[0] {
                    b't' => Some(true),
                    b'f' => Some(false),
                    _ => {
                        self.refuse(i, Refused::Kind);
                        None
                    }
                },
            };
            values.append(value == Some(true));
            nulls.append(value.is_some());
        }
        Arc::new(BooleanArray::new(values.finish(), nulls.finish()))
    }

    fn integers<T: ArrowPrimitiveType>(self, narrow: impl Fn(i64) -> Result<T::Native, Refused>) -> ArrayRef {
        Arc::new(self.primitives::<T>(|token| narrow(integer(token)?)))
    }

    #[inline(always)]
    fn primitives<T: ArrowPrimitiveType>(
        mut self,
        parse: impl Fn(Token<'_>) -> Result<T::Native, Refused>,
    ) -> PrimitiveArray<T> {
        let mut values: Vec<T::Native> = Vec::with_capacity(self.spans.len());
        let mut nulls = NullBufferBuilder::new(self.spans.len());
        for (i, &span) in self.spans.iter().enumerate() {
            if span.is_null() {
                values.push(T::Native::default());
                nulls.append_null();
                continue;
            }
            match parse(Token { text: span.of(self.bytes), escaped: span.is_escaped() }) {
                Ok(value) => {
                    values.push(value);
                    nulls.append_non_null();
                }
                Err(refused) => {
                    values.push(T::Native::default());
                    nulls.append_null();
                    self.refuse(i, refused);
                }
            }
        }
        PrimitiveArray::new(ScalarBuffer::from(values), nulls.finish())
    }

    fn strings(mut self) -> ArrayRef {
        let mut texts = byte_rows(self.spans);
        for (i, &span) in self.spans.iter().enumerate() {
            if span.is_null() {
                texts.append_null();
                continue;
            }
            let token = span.of(self.bytes);
            if token[0] == b'"' && !span.is_escaped() {
                texts.append(&token[1..token.len() - 1]);
            } else if let Err(reason) = texts.append_with(|out| push_value_text(self.bytes, span, out)) {
                self.refuse(i, Refused::Because(reason.to_owned()));
            }
        }
        Arc::new(texts.into_strings())
    }

    fn binaries(mut self) -> ArrayRef {
        let mut texts = byte_rows(self.spans);
        for (i, &span) in self.spans.iter().enumerate() {
            if span.is_null() {
                texts.append_null();
                continue;
            }
            let token = Token { text: span.of(self.bytes), escaped: span.is_escaped() };
            let decoded = match token.string() {
                Some(Ok(text)) => parse_base64(&text).ok_or(Refused::Text),
                Some(Err(refused)) => Err(refused),
                None => Err(Refused::Kind),
            };
            match decoded {
                Ok(decoded) => texts.append(&decoded),
                Err(refused) => {
                    texts.append_null();
                    self.refuse(i, refused);
                }
            }
        }
        Arc::new(texts.into_binary())
    }
}

/// Room for the text of these values.
fn byte_rows(spans: &[Span]) -> ByteRows {
    let bytes = spans.iter().filter(|span| !span.is_null()).map(|span| span.end() - span.start()).sum();
    ByteRows::with_capacity(spans.len(), bytes)
}

/// The text of one value that is not `null`.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a [u8],
    escaped: bool,
}

impl<'a> Token<'a> {
    /// The text of a string, escapes undone; `None` if it is no string.
    fn string(self) -> Option<Result<Cow<'a, [u8]>, Refused>> {
        let inner = self.text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if !self.escaped {
            return Some(Ok(Cow::Borrowed(inner)));
        }
        let mut unescaped = Vec::with_capacity(inner.len());
        let undone = unescape(inner, &mut unescaped);
        Some(undone.map(|()| Cow::Owned(unescaped)).map_err(|reason| Refused::Because(reason.to_owned())))
    }

    fn is_number(self) -> bool {
        matches!(self.text[0], b'-' | b'0'..=b'9')
    }
}

#[inline(always)]
fn integer(token: Token<'_>) -> Result<i64, Refused> {
    if let (b'0'..=b'9' | b'-', Some(value)) = (token.text[0], parse_i64(token.text)) {
        return Ok(value);
    }
    integer_otherwise(token)
}

/// Numbers with a fraction or exponent are cut; texts must be whole numbers.
#[cold]
fn integer_otherwise(token: Token<'_>) -> Result<i64, Refused> {
    if token.is_number() {
        return truncate_to_i64(token.text).ok_or_else(|| out_of_range(String::from_utf8_lossy(token.text)));
    }
    let text = token.string().ok_or(Refused::Kind)??;
    parse_i64(&text).ok_or(Refused::Text)
}

#[inline(always)]
fn double(token: Token<'_>) -> Result<f64, Refused> {
    if token.is_number() {
        return parse_plain_f64(token.text).ok_or(Refused::Text);
    }
    let text = token.string().ok_or(Refused::Kind)??;
    parse_java_f64(&text).ok_or(Refused::Text)
}

/// The text of a number or of a string that should hold one.
fn number_text(token: Token<'_>) -> Result<Cow<'_, [u8]>, Refused> {
    if token.is_number() { Ok(Cow::Borrowed(token.text)) } else { token.string().ok_or(Refused::Kind)? }
}

#[cold]
fn decimal_fault(fault: DecimalFault, text: &[u8], precision: u8, scale: u8) -> Refused {
    match fault {
        DecimalFault::NotANumber => Refused::Text,
        DecimalFault::DoesNotFit => Refused::Because(decimal_misfit(text, precision, scale)),
    }
}

#[cold]
fn out_of_range(value: impl std::fmt::Display) -> Refused {
    Refused::Because(format!("Number out of range: {value}"))
}
