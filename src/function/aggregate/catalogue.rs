//! The table of aggregate functions: names, words and variations, for SHOW and DESCRIBE FUNCTION and for messages.
//!
//! Text only; what a call means is decided in `resolve.rs`, and a test holds the two together.

/// An aggregate function as users read about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateDoc {
    /// upper-case name
    pub name: &'static str,
    /// what it does
    pub doc: &'static str,
    /// its variations, `NAME(arguments) -> result`
    pub variations: &'static [&'static str],
}

/// All aggregate functions, by name.
pub const AGGREGATES: &[AggregateDoc] = &[
    AggregateDoc {
        name: "ATTR",
        doc: "The value of the group if all its rows have the same (NULL counts as a value), else NULL.",
        variations: &["ATTR(value T) -> T"],
    },
    AggregateDoc {
        name: "AVG",
        doc: "The mean of the values that are not NULL; 0.0 if there are none.",
        variations: &["AVG(value INT) -> DOUBLE", "AVG(value BIGINT) -> DOUBLE", "AVG(value DOUBLE) -> DOUBLE"],
    },
    AggregateDoc {
        name: "COLLECT_LIST",
        doc: "All values, NULLs included, in order of arrival, at most ksql.functions.collect_list.limit of them.",
        variations: &["COLLECT_LIST(value T) -> ARRAY<T>"],
    },
    AggregateDoc {
        name: "COLLECT_SET",
        doc: "The distinct values, NULL included, in order of first arrival, at most ksql.functions.collect_set.limit of them.",
        variations: &["COLLECT_SET(value T) -> ARRAY<T>"],
    },
    AggregateDoc {
        name: "CORRELATION",
        doc: "Pearson's correlation of two columns, over the rows where neither is NULL; NaN for fewer than two such rows.",
        variations: &[
            "CORRELATION(x INT, y INT) -> DOUBLE",
            "CORRELATION(x BIGINT, y BIGINT) -> DOUBLE",
            "CORRELATION(x DOUBLE, y DOUBLE) -> DOUBLE",
        ],
    },
    AggregateDoc {
        name: "COUNT",
        doc: "The number of rows whose value is not NULL; COUNT(*): of all rows.",
        variations: &["COUNT(*) -> BIGINT", "COUNT(value T) -> BIGINT"],
    },
    AggregateDoc {
        name: "COUNT_DISTINCT",
        doc: "About how many distinct values that are not NULL there are (HyperLogLog, standard error about 0.8 %).",
        variations: &["COUNT_DISTINCT(value T) -> BIGINT"],
    },
    AggregateDoc {
        name: "EARLIEST_BY_OFFSET",
        doc: "The first value (or the first n) in order of arrival; NULLs are ignored unless ignoreNulls is false.",
        variations: &[
            "EARLIEST_BY_OFFSET(value T) -> T",
            "EARLIEST_BY_OFFSET(value T, ignoreNulls BOOLEAN literal) -> T",
            "EARLIEST_BY_OFFSET(value T, n INT literal) -> ARRAY<T>",
            "EARLIEST_BY_OFFSET(value T, n INT literal, ignoreNulls BOOLEAN literal) -> ARRAY<T>",
        ],
    },
    AggregateDoc {
        name: "HISTOGRAM",
        doc: "How often each text came, for the first 1000 distinct ones.",
        variations: &["HISTOGRAM(value STRING) -> MAP<STRING, BIGINT>"],
    },
    AggregateDoc {
        name: "LATEST_BY_OFFSET",
        doc: "The last value (or the last n, oldest first) in order of arrival; NULLs are ignored unless ignoreNulls is false.",
        variations: &[
            "LATEST_BY_OFFSET(value T) -> T",
            "LATEST_BY_OFFSET(value T, ignoreNulls BOOLEAN literal) -> T",
            "LATEST_BY_OFFSET(value T, n INT literal) -> ARRAY<T>",
            "LATEST_BY_OFFSET(value T, n INT literal, ignoreNulls BOOLEAN literal) -> ARRAY<T>",
        ],
    },
    AggregateDoc {
        name: "MAX",
        doc: "The greatest value that is not NULL.",
        variations: &["MAX(value T) -> T, T one of INT, BIGINT, DOUBLE, DECIMAL, STRING, BYTES, DATE, TIME, TIMESTAMP"],
    },
    AggregateDoc {
        name: "MIN",
        doc: "The least value that is not NULL.",
        variations: &["MIN(value T) -> T, T one of INT, BIGINT, DOUBLE, DECIMAL, STRING, BYTES, DATE, TIME, TIMESTAMP"],
    },
    AggregateDoc {
        name: "STDDEV_SAMP",
        doc: "The sample variance of the values that are not NULL. Deprecated: use STDDEV_SAMPLE for the standard deviation.",
        variations: &[
            "STDDEV_SAMP(value INT) -> DOUBLE",
            "STDDEV_SAMP(value BIGINT) -> DOUBLE",
            "STDDEV_SAMP(value DOUBLE) -> DOUBLE",
        ],
    },
    AggregateDoc {
        name: "STDDEV_SAMPLE",
        doc: "The sample standard deviation of the values that are not NULL; 0.0 for fewer than two.",
        variations: &[
            "STDDEV_SAMPLE(value INT) -> DOUBLE",
            "STDDEV_SAMPLE(value BIGINT) -> DOUBLE",
            "STDDEV_SAMPLE(value DOUBLE) -> DOUBLE",
        ],
    },
    AggregateDoc {
        name: "SUM",
        doc: "The sum of the values that are not NULL. INT and BIGINT wrap around; a DECIMAL that overflows stops the query.",
        variations: &[
            "SUM(value INT) -> INT",
            "SUM(value BIGINT) -> BIGINT",
            "SUM(value DOUBLE) -> DOUBLE",
            "SUM(value DECIMAL(p, s)) -> DECIMAL(p, s)",
        ],
    },
    AggregateDoc {
        name: "SUM_LIST",
        doc: "The sum of all elements of all lists; NULL lists and elements are ignored.",
        variations: &[
            "SUM_LIST(value ARRAY<INT>) -> INT",
            "SUM_LIST(value ARRAY<BIGINT>) -> BIGINT",
            "SUM_LIST(value ARRAY<DOUBLE>) -> DOUBLE",
        ],
    },
    AggregateDoc {
        name: "TOPK",
        doc: "The k greatest values, descending; with more columns: structs of the value and those columns.",
        variations: &[
            "TOPK(value T, k INT literal) -> ARRAY<T>, T one of INT, BIGINT, DOUBLE, STRING",
            "TOPK(value T, column C0, ..., k INT literal) -> ARRAY<STRUCT<`sort_col` T, `col0` C0, ...>>",
        ],
    },
    AggregateDoc {
        name: "TOPKDISTINCT",
        doc: "The k greatest distinct values, descending.",
        variations: &["TOPKDISTINCT(value T, k INT literal) -> ARRAY<T>, \
             T one of INT, BIGINT, DOUBLE, DECIMAL, STRING, BYTES, DATE, TIME, TIMESTAMP"],
    },
];

/// The row of that (upper-case) name.
pub fn aggregate_doc(name: &str) -> Option<&'static AggregateDoc> {
    AGGREGATES.iter().find(|row| row.name == name)
}
