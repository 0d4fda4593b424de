//! The words of the dialect: which are reserved, which only mean something in their place.
//!
//! Tables, no grammar. The subtle thing is [`MUST_QUOTE`]: words that may be names, but that some place would read
//! as a keyword, so names like them are always printed in backquotes.

/// Words that can be a name only in quotes; sorted.
pub const RESERVED: &[&str] = &[
    "ADVANCE",
    "ALL",
    "AND",
    "AS",
    "AT",
    "BEGINNING",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CATALOG",
    "CONNECTOR",
    "CONNECTORS",
    "CREATE",
    "DAYS",
    "DECIMAL",
    "DELETE",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "EXPORT",
    "EXTENDED",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "HOPPING",
    "HOURS",
    "IN",
    "INNER",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LIST",
    "LOAD",
    "MATERIALIZED",
    "MILLISECOND",
    "MILLISECONDS",
    "MINUTES",
    "MONTHS",
    "NAMESPACE",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "OUTER",
    "PAUSE",
    "PRINT",
    "PROPERTIES",
    "QUERIES",
    "QUERY",
    "RENAME",
    "RESUME",
    "RETENTION",
    "RIGHT",
    "RUN",
    "SAMPLE",
    "SCRIPT",
    "SECONDS",
    "SELECT",
    "SIZE",
    "STREAM",
    "STREAMS",
    "TABLE",
    "TERMINATE",
    "THEN",
    "TO",
    "TOPIC",
    "TOPICS",
    "TRUE",
    "TUMBLING",
    "UNSET",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
    "YEARS",
];

/// Words with a meaning in some place that are free to be names in others; sorted.
pub const NON_RESERVED: &[&str] = &[
    "ADD",
    "ALTER",
    "ANALYZE",
    "ARRAY",
    "ASC",
    "ASSERT",
    "BIGINT",
    "BOOLEAN",
    "BYTES",
    "CHANGES",
    "COLUMN",
    "COLUMNS",
    "COPY",
    "DATE",
    "DAY",
    "DEFINE",
    "DESC",
    "DOUBLE",
    "EMIT",
    "ESCAPE",
    "EXPLAIN",
    "FINAL",
    "FIRST",
    "FUNCTION",
    "FUNCTIONS",
    "GRACE",
    "HEADER",
    "HEADERS",
    "HOUR",
    "ID",
    "IF",
    "INT",
    "INTEGER",
    "INTERVAL",
    "KEY",
    "LAST",
    "MAP",
    "MINUTE",
    "MONTH",
    "NULLS",
    "OFFSET",
    "ORDER",
    "PARTITION",
    "PARTITIONS",
    "PERIOD",
    "PLUGINS",
    "PRIMARY",
    "REPLACE",
    "RESET",
    "SCHEMA",
    "SECOND",
    "SESSION",
    "SET",
    "SHOW",
    "SINK",
    "SOURCE",
    "STRING",
    "STRUCT",
    "SUBJECT",
    "SYSTEM",
    "TABLES",
    "TIME",
    "TIMEOUT",
    "TIMESTAMP",
    "TYPE",
    "TYPES",
    "UNDEFINE",
    "UNION",
    "VARCHAR",
    "VARIABLES",
    "YEAR",
    "ZONE",
];

/// Names that are printed in backquotes though they are not reserved: `ARRAY[1]`, `MAP(…)`, `DATEADD(DAY, …)`,
/// `DESCRIBE TABLES` and `DESCRIBE FUNCTION …` would mean something else.
pub(super) const MUST_QUOTE: &[&str] =
    &["ARRAY", "DAY", "FUNCTION", "HOUR", "MAP", "MINUTE", "SECOND", "STRUCT", "TABLES"];

/// True if `word`, in any case, can be a name only in quotes.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// All keywords, upper case: what a shell may complete.
pub fn completions() -> impl Iterator<Item = &'static str> {
    RESERVED.iter().chain(NON_RESERVED).copied()
}

/// `name` as an identifier that reads back as this very name, in backquotes where it must be.
pub fn quote(name: &str) -> String {
    if is_reserved(name) || MUST_QUOTE.contains(&name) {
        crate::types::backquoted(name)
    } else {
        crate::types::quote_if_needed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_apart() {
        for table in [RESERVED, NON_RESERVED, MUST_QUOTE] {
            assert!(table.is_sorted(), "{table:?}");
        }
        assert!(RESERVED.iter().all(|word| NON_RESERVED.binary_search(word).is_err()));
        assert!(MUST_QUOTE.iter().all(|word| NON_RESERVED.binary_search(word).is_ok()));
    }

    #[test]
    fn names_are_quoted_where_they_must() {
        assert_eq!(quote("ID"), "ID");
        assert_eq!(quote("id"), "`id`");
        assert_eq!(quote("SELECT"), "`SELECT`");
        assert_eq!(quote("DAY"), "`DAY`");
        assert_eq!(quote("1A"), "`1A`");
        assert_eq!(quote("a`b"), "`a``b`");
    }
}
