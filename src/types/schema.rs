//! SQL types and logical schemas, and how they stand in Arrow.
//!
//! Not a parser of type text (`sql`) and not a codec (`format`). The subtle thing: every column is nullable, and
//! one SQL type has exactly one Arrow type ([`SqlType::to_arrow`]), so a batch can be checked against its schema.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::{ColumnName, backquoted, quote_if_needed};

/// Largest DECIMAL precision that is stored: 76 digits (Decimal256).
pub const MAX_DECIMAL_PRECISION: u8 = 76;

/// A type of the KSQL dialect. Every value of every type may be NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SqlType {
    /// true or false
    Boolean,
    /// 32-bit signed
    Int,
    /// 64-bit signed
    BigInt,
    /// exact decimal; 1 ≤ precision ≤ 76, 0 ≤ scale ≤ precision
    Decimal(u8, u8),
    /// IEEE 754 64-bit
    Double,
    /// UTF-8 text
    String,
    /// bytes
    Bytes,
    /// ms of the day
    Time,
    /// days since the epoch
    Date,
    /// ms since the epoch, UTC
    Timestamp,
    /// list with nullable elements
    Array(Box<SqlType>),
    /// map; keys are never NULL
    Map(Box<SqlType>, Box<SqlType>),
    /// ordered named fields
    Struct(Arc<[SqlField]>),
}

/// A field of a STRUCT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqlField {
    /// folded name
    pub name: ColumnName,
    /// its type
    pub ty: SqlType,
}

impl SqlType {
    /// INT, BIGINT, DECIMAL or DOUBLE.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Int | Self::BigInt | Self::Decimal(..) | Self::Double)
    }

    /// The one Arrow type that holds this type.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Decimal(p, s) if *p <= 38 => DataType::Decimal128(*p, *s as i8),
            Self::Decimal(p, s) => DataType::Decimal256(*p, *s as i8),
            Self::Double => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Time => DataType::Time32(TimeUnit::Millisecond),
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
            Self::Array(item) => DataType::List(Arc::new(Field::new("item", item.to_arrow(), true))),
            Self::Map(key, value) => {
                let entries = Fields::from(vec![
                    Field::new("key", key.to_arrow(), false),
                    Field::new("value", value.to_arrow(), true),
                ]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
            Self::Struct(fields) => {
                DataType::Struct(fields.iter().map(|f| Field::new(f.name.as_str(), f.ty.to_arrow(), true)).collect())
            }
        }
    }

    /// The SQL type an Arrow type of ours stands for; `None` for Arrow types that no SQL type maps to.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int32 => Self::Int,
            DataType::Int64 => Self::BigInt,
            DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => Self::Decimal(*p, u8::try_from(*s).ok()?),
            DataType::Float64 => Self::Double,
            DataType::Utf8 => Self::String,
            DataType::Binary => Self::Bytes,
            DataType::Time32(TimeUnit::Millisecond) => Self::Time,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Millisecond, None) => Self::Timestamp,
            DataType::List(item) => Self::Array(Box::new(Self::from_arrow(item.data_type())?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let [key, value] = fields.as_ref() else { return None };
                Self::Map(Box::new(Self::from_arrow(key.data_type())?), Box::new(Self::from_arrow(value.data_type())?))
            }
            DataType::Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|f| Some(SqlField { name: f.name().as_str().into(), ty: Self::from_arrow(f.data_type())? }))
                    .collect::<Option<Arc<[_]>>>()?,
            ),
            _ => return None,
        })
    }

    /// True if a MAP occurs anywhere inside (such types cannot be keys).
    pub fn contains_map(&self) -> bool {
        match self {
            Self::Map(..) => true,
            Self::Array(item) => item.contains_map(),
            Self::Struct(fields) => fields.iter().any(|f| f.ty.contains_map()),
            _ => false,
        }
    }
}

/// As schemas and errors print types: `` STRUCT<`A` INTEGER> ``, `DECIMAL(4, 2)`, `STRING`.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Int => f.write_str("INTEGER"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            Self::Double => f.write_str("DOUBLE"),
            Self::String => f.write_str("STRING"),
            Self::Bytes => f.write_str("BYTES"),
            Self::Time => f.write_str("TIME"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::Array(item) => write!(f, "ARRAY<{item}>"),
            Self::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            Self::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{} {}", backquoted(field.name.as_str()), field.ty)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// What a column is in its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnRole {
    /// part of the record key (KEY of a stream, PRIMARY KEY of a table)
    Key,
    /// part of the record value
    Value,
    /// filled from record headers: all of them (`None`) or the last one of that key
    Header(Option<Arc<str>>),
}

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// folded name
    pub name: ColumnName,
    /// its type
    pub ty: SqlType,
    /// key, value or header
    pub role: ColumnRole,
}

impl Column {
    /// A key column.
    pub fn key(name: impl Into<ColumnName>, ty: SqlType) -> Self {
        Self { name: name.into(), ty, role: ColumnRole::Key }
    }

    /// A value column.
    pub fn value(name: impl Into<ColumnName>, ty: SqlType) -> Self {
        Self { name: name.into(), ty, role: ColumnRole::Value }
    }
}

/// The columns of a source or of a query's result: key columns first, then the others as declared. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct LogicalSchema {
    columns: Arc<[Column]>,
}

impl LogicalSchema {
    /// Puts key columns first and keeps the order otherwise (KSQL stores keys first whatever the SELECT order).
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let (mut keys, rest): (Vec<_>, Vec<_>) = columns.into_iter().partition(|c| c.role == ColumnRole::Key);
        keys.extend(rest);
        Self { columns: keys.into() }
    }

    /// All columns, keys first.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many key columns there are; they are the first ones.
    pub fn key_count(&self) -> usize {
        self.columns.iter().take_while(|c| c.role == ColumnRole::Key).count()
    }

    /// The key columns.
    pub fn keys(&self) -> &[Column] {
        &self.columns[..self.key_count()]
    }

    /// The columns stored in the record value, in order.
    pub fn values(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| c.role == ColumnRole::Value)
    }

    /// The header columns.
    pub fn headers(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| matches!(c.role, ColumnRole::Header(_)))
    }

    /// The column of that (folded) name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.as_str() == name)
    }

    /// Its index in [`Self::columns`].
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.as_str() == name)
    }

    /// The Arrow schema of [`Self::columns`], all nullable.
    pub fn to_arrow(&self) -> SchemaRef {
        arrow_schema(&self.columns)
    }
}

/// The Arrow schema of these columns, all nullable.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|c| Field::new(c.name.as_str(), c.ty.to_arrow(), true)).collect::<Vec<_>>(),
    ))
}

/// As ksqlDB prints schemas: `` `ID` INTEGER KEY, `V` STRING ``.
impl fmt::Display for LogicalSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, column) in self.columns.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", backquoted(column.name.as_str()), column.ty)?;
            match &column.role {
                ColumnRole::Key => f.write_str(" KEY")?,
                ColumnRole::Value => {}
                ColumnRole::Header(None) => f.write_str(" HEADERS")?,
                ColumnRole::Header(Some(key)) => write!(f, " HEADER('{key}')")?,
            }
        }
        Ok(())
    }
}

/// A type as DDL text that parses back to it: names quoted where needed only.
pub fn ddl_type(ty: &SqlType) -> String {
    match ty {
        SqlType::Array(item) => format!("ARRAY<{}>", ddl_type(item)),
        SqlType::Map(key, value) => format!("MAP<{}, {}>", ddl_type(key), ddl_type(value)),
        SqlType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{} {}", quote_if_needed(f.name.as_str()), ddl_type(&f.ty))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}
