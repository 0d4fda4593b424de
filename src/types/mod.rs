//! The words everyone speaks: names, SQL types, schemas, windows, change batches.
//!
//! Knows Arrow and nothing else of the crate: no I/O, no SQL text, no catalog. The subtle thing is the rule of
//! case, which lives here once: an unquoted identifier is folded to upper case ([`fold`]), a quoted one is kept,
//! and a name prints quoted only where it would not survive being read again.

pub mod change;
pub mod schema;
pub mod window;

use std::fmt;
use std::sync::Arc;

pub use change::{ChangeBatch, OldRows, RowMeta};
pub use schema::{Column, ColumnRole, LogicalSchema, SqlField, SqlType};
pub use window::{WindowBounds, WindowKind, WindowSpec};

/// Folds an identifier as KSQL does: unquoted text becomes upper case, quoted text is kept.
pub fn fold(text: &str, quoted: bool) -> String {
    if quoted { text.to_owned() } else { text.to_uppercase() }
}

/// Writes `name` as an identifier that reads back to the same name: bare when it is a valid upper-case
/// identifier, else in backquotes (doubled inside).
pub fn quote_if_needed(name: &str) -> String {
    let mut chars = name.chars();
    let first_ok = chars.next().is_some_and(|c| c.is_ascii_uppercase() || c == '_');
    let rest_ok = chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' || c == '@');
    if first_ok && rest_ok { name.to_owned() } else { backquoted(name) }
}

/// `name` in backquotes, inner backquotes doubled.
pub fn backquoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; folding is the caller's business ([`fold`]).
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The bare text, unquoted.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a stream or table, folded.
    SourceName
);
name_type!(
    /// The name of a column, folded.
    ColumnName
);
name_type!(
    /// The name of a topic; case is always kept.
    TopicName
);
name_type!(
    /// The id of a query, such as `CTAS_T_3`.
    QueryId
);

/// Pseudo columns of every source, never part of `*` (but for window bounds of windowed sources).
pub mod pseudo {
    /// The row time in ms since the epoch, BIGINT.
    pub const ROWTIME: &str = "ROWTIME";
    /// The partition a record came from, INTEGER.
    pub const ROWPARTITION: &str = "ROWPARTITION";
    /// The offset a record came from, BIGINT.
    pub const ROWOFFSET: &str = "ROWOFFSET";
    /// Inclusive start of the row's window in ms, BIGINT.
    pub const WINDOWSTART: &str = "WINDOWSTART";
    /// End of the row's window in ms (exclusive for time windows, inclusive for sessions), BIGINT.
    pub const WINDOWEND: &str = "WINDOWEND";
    /// All five.
    pub const ALL: [&str; 5] = [ROWTIME, ROWPARTITION, ROWOFFSET, WINDOWSTART, WINDOWEND];

    /// True for a reserved pseudo or window-bound column name.
    pub fn is_pseudo(name: &str) -> bool {
        ALL.contains(&name)
    }
}
