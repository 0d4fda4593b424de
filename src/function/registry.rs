//! The table of functions: names, categories, overloads and words about them, for resolution and for SHOW and DESCRIBE.
//!
//! Holds no code but pointers to kernels. The subtle thing: a name belongs to exactly one kind, scalar, aggregate or table.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use datafusion::logical_expr::Volatility;

use super::signature::Signature;
use super::udf::Kernel;
use super::{FAMILIES, table};
use crate::types::SqlType;

/// Result types that a pattern cannot say, from the argument types.
pub type ResultRule = fn(&[SqlType]) -> Result<SqlType, String>;

/// An overload of a scalar function.
#[derive(Debug)]
pub struct Variation {
    /// as [`Signature::parse`] reads it
    pub signature: &'static str,
    /// what this overload does, where that is more than the function's description
    pub doc: &'static str,
    /// its code
    pub kernel: Kernel,
    /// the result type, where the signature's is only a sketch
    pub result: Option<ResultRule>,
}

impl Variation {
    /// An overload whose result type is the signature's.
    pub const fn new(signature: &'static str, kernel: Kernel) -> Self {
        Self { signature, doc: "", kernel, result: None }
    }

    /// The same with words.
    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// The same with a rule for the result type.
    #[must_use]
    pub const fn returning(mut self, rule: ResultRule) -> Self {
        self.result = Some(rule);
        self
    }

    /// The signature, read.
    pub fn parsed(&self) -> Signature {
        Signature::parse(self.signature).expect("the signatures of the tables parse, as a test checks")
    }
}

/// A scalar function.
#[derive(Debug)]
pub struct Function {
    /// upper case
    pub name: &'static str,
    /// as SHOW FUNCTIONS groups it
    pub category: &'static str,
    /// one sentence
    pub description: &'static str,
    /// at least one
    pub variations: &'static [Variation],
    /// Volatile for those that read clocks or dice
    pub volatility: Volatility,
}

impl Function {
    /// A function of its arguments alone.
    pub const fn new(
        name: &'static str,
        category: &'static str,
        description: &'static str,
        variations: &'static [Variation],
    ) -> Self {
        Self { name, category, description, variations, volatility: Volatility::Immutable }
    }

    /// The same, whose result differs from call to call.
    #[must_use]
    pub const fn volatile(mut self) -> Self {
        self.volatility = Volatility::Volatile;
        self
    }
}

/// Which kind of function a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    /// a value for each row
    Scalar,
    /// a value for each group
    Aggregate,
    /// rows for each row
    Table,
}

/// A function that is not scalar, as SHOW and DESCRIBE know it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// upper case
    pub name: &'static str,
    /// one sentence
    pub description: &'static str,
    /// as [`Signature::parse`] reads them
    pub signatures: &'static [&'static str],
}

/// What DESCRIBE FUNCTION tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionDoc {
    /// upper case
    pub name: &'static str,
    /// as SHOW FUNCTIONS groups it
    pub category: &'static str,
    /// which kind
    pub kind: FunctionKind,
    /// one sentence
    pub description: &'static str,
    /// parameters, result type, words
    pub variations: Vec<(Signature, &'static str)>,
}

/// All functions, by name.
#[derive(Debug)]
pub struct Registry {
    scalars: BTreeMap<&'static str, &'static Function>,
}

/// Who wrote the built-in functions, as DESCRIBE FUNCTION shows.
pub const AUTHOR: &str = "riverrun";

impl Registry {
    /// The built-in functions.
    pub fn builtin() -> &'static Self {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| Self { scalars: FAMILIES.iter().copied().flatten().map(|f| (f.name, f)).collect() })
    }

    /// The scalar function of that folded name.
    pub fn scalar(&self, name: &str) -> Option<&'static Function> {
        self.scalars.get(name).copied()
    }

    /// Which kind of function the folded name is, if it is one.
    pub fn kind(&self, name: &str) -> Option<FunctionKind> {
        if self.scalars.contains_key(name) {
            Some(FunctionKind::Scalar)
        } else if AGGREGATES.iter().any(|f| f.name == name) {
            Some(FunctionKind::Aggregate)
        } else if table::FUNCTIONS.iter().any(|f| f.name == name) {
            Some(FunctionKind::Table)
        } else {
            None
        }
    }

    /// True for the folded name of an aggregate function.
    pub fn is_aggregate(&self, name: &str) -> bool {
        self.kind(name) == Some(FunctionKind::Aggregate)
    }

    /// True for the folded name of a table function.
    pub fn is_table_function(&self, name: &str) -> bool {
        self.kind(name) == Some(FunctionKind::Table)
    }

    /// SCALAR, AGGREGATE or TABLE.
    pub fn kind_word(&self, name: &str) -> &'static str {
        match self.kind(name) {
            Some(FunctionKind::Aggregate) => "AGGREGATE",
            Some(FunctionKind::Table) => "TABLE",
            _ => "SCALAR",
        }
    }

    /// Names and categories of all functions, by name.
    pub fn list(&self) -> Vec<(&'static str, &'static str)> {
        let mut all: Vec<_> = self.scalars.values().map(|f| (f.name, f.category)).collect();
        all.extend(AGGREGATES.iter().map(|f| (f.name, "AGGREGATE")));
        all.extend(table::FUNCTIONS.iter().map(|f| (f.name, "TABLE")));
        all.sort_unstable();
        all
    }

    /// What there is to say about the function of that folded name.
    pub fn describe(&self, name: &str) -> Option<FunctionDoc> {
        if let Some(f) = self.scalar(name) {
            let variations = f.variations.iter().map(|v| (v.parsed(), v.doc)).collect();
            let (category, kind) = (f.category, FunctionKind::Scalar);
            return Some(FunctionDoc { name: f.name, category, kind, description: f.description, variations });
        }
        let (category, kind, f) = match self.kind(name)? {
            FunctionKind::Table => ("TABLE", FunctionKind::Table, table::FUNCTIONS.iter().find(|f| f.name == name)?),
            _ => ("AGGREGATE", FunctionKind::Aggregate, AGGREGATES.iter().find(|f| f.name == name)?),
        };
        let variations = f.signatures.iter().filter_map(|s| Some((Signature::parse(s)?, ""))).collect();
        Some(FunctionDoc { name: f.name, category, kind, description: f.description, variations })
    }
}

macro_rules! listed {
    ($($name:literal, $description:literal, [$($signature:literal),+ $(,)?];)+) => {
        &[$(Listed { name: $name, description: $description, signatures: &[$($signature),+] }),+]
    };
}

/// The aggregate functions, whose code is in `function::aggregate`.
pub const AGGREGATES: &[Listed] = listed! {
    "ATTR", "The value that all rows of the group share, else NULL.", ["(col T) -> T"];
    "AVG", "The mean of the values.", ["(val INT) -> DOUBLE", "(val BIGINT) -> DOUBLE", "(val DOUBLE) -> DOUBLE"];
    "COLLECT_LIST", "All values of the group, in order.", ["(val T) -> ARRAY<T>"];
    "COLLECT_SET", "The distinct values of the group, in order of arrival.", ["(val T) -> ARRAY<T>"];
    "CORRELATION", "The Pearson correlation of two columns.",
        ["(x INT, y INT) -> DOUBLE", "(x BIGINT, y BIGINT) -> DOUBLE", "(x DOUBLE, y DOUBLE) -> DOUBLE"];
    "COUNT", "The number of rows, or of values that are not NULL.", ["(val T) -> BIGINT", "() -> BIGINT"];
    "COUNT_DISTINCT", "About how many distinct values there are.", ["(val T) -> BIGINT"];
    "EARLIEST_BY_OFFSET", "The first value, or the first n values, of the group.",
        ["(val T) -> T", "(val T, ignoreNulls BOOLEAN) -> T", "(val T, n INT) -> ARRAY<T>",
         "(val T, n INT, ignoreNulls BOOLEAN) -> ARRAY<T>"];
    "HISTOGRAM", "How often each value occurs.", ["(val STRING) -> MAP<STRING, BIGINT>"];
    "LATEST_BY_OFFSET", "The last value, or the last n values, of the group.",
        ["(val T) -> T", "(val T, ignoreNulls BOOLEAN) -> T", "(val T, n INT) -> ARRAY<T>",
         "(val T, n INT, ignoreNulls BOOLEAN) -> ARRAY<T>"];
    "MAX", "The greatest value.", ["(val T) -> T"];
    "MIN", "The least value.", ["(val T) -> T"];
    "STDDEV_SAMP", "The sample variance (kept for its name; use STDDEV_SAMPLE).",
        ["(val INT) -> DOUBLE", "(val BIGINT) -> DOUBLE", "(val DOUBLE) -> DOUBLE"];
    "STDDEV_SAMPLE", "The sample standard deviation.",
        ["(val INT) -> DOUBLE", "(val BIGINT) -> DOUBLE", "(val DOUBLE) -> DOUBLE"];
    "SUM", "The sum of the values.",
        ["(val INT) -> INT", "(val BIGINT) -> BIGINT", "(val DOUBLE) -> DOUBLE", "(val DECIMAL) -> DECIMAL"];
    "SUM_LIST", "The sum of all elements of the arrays.",
        ["(val ARRAY<INT>) -> INT", "(val ARRAY<BIGINT>) -> BIGINT", "(val ARRAY<DOUBLE>) -> DOUBLE"];
    "TOPK", "The k greatest values, descending.", ["(val T, k INT) -> ARRAY<T>"];
    "TOPKDISTINCT", "The k greatest distinct values, descending.", ["(val T, k INT) -> ARRAY<T>"];
};
