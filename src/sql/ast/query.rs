//! Queries as written: SELECT with its clauses, and what may stand around it.
//!
//! Holds more than a streaming query may use: ORDER BY, UNION, WITH and subqueries are for pull queries, and the analyzer
//! decides. [`Query::as_select`] is the ordinary shape, with none of those.

use super::{Expr, Ident, Loc};
use crate::diagnostic::Span;

/// A whole query: `[WITH …] body [ORDER BY …] [EMIT …] [LIMIT n] [OFFSET n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// named subqueries, in order
    pub with: Vec<Cte>,
    /// one SELECT, or several in a UNION
    pub body: QueryBody,
    /// in order
    pub order_by: Vec<OrderItem>,
    /// EMIT; none makes a pull query, or means CHANGES in a persistent one
    pub emit: Option<EmitClause>,
    /// LIMIT
    pub limit: Option<RowCount>,
    /// OFFSET
    pub offset: Option<RowCount>,
    /// the whole query
    pub loc: Loc,
}

impl Query {
    /// The SELECT, if there is no more to it than EMIT and LIMIT: no WITH, UNION, ORDER BY or OFFSET.
    pub fn as_select(&self) -> Option<&Select> {
        match &self.body {
            QueryBody::Select(select) if self.with.is_empty() && self.order_by.is_empty() && self.offset.is_none() => {
                Some(select)
            }
            _ => None,
        }
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}

/// `name AS (query)` of a WITH.
#[derive(Clone, Debug, PartialEq)]
pub struct Cte {
    /// the name for the query's rows
    pub name: Ident,
    /// the query
    pub query: Query,
}

/// What a query takes its rows from.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryBody {
    /// one SELECT
    Select(Box<Select>),
    /// a query in parentheses
    Query(Box<Query>),
    /// `left UNION [ALL] right`
    Union {
        /// left side
        left: Box<QueryBody>,
        /// right side; never a UNION itself
        right: Box<QueryBody>,
        /// keep duplicates
        all: bool,
    },
}

/// `SELECT items FROM relation joins [WINDOW …] [WHERE …] [GROUP BY …] [PARTITION BY …] [HAVING …]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// DISTINCT, and where it stands
    pub distinct: Option<Loc>,
    /// at least one
    pub items: Vec<SelectItem>,
    /// the left-most source
    pub from: Relation,
    /// in order
    pub joins: Vec<Join>,
    /// WINDOW
    pub window: Option<WindowClause>,
    /// WHERE
    pub filter: Option<Expr>,
    /// GROUP BY; `(a, b)` is the same as `a, b`
    pub group_by: Vec<Expr>,
    /// PARTITION BY; `(a, b)` is the same as `a, b`
    pub partition_by: Vec<Expr>,
    /// HAVING
    pub having: Option<Expr>,
    /// from SELECT to the end of the last clause
    pub loc: Loc,
}

/// One item of a SELECT list.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectItem {
    /// `*`
    Star(Loc),
    /// `source.*`
    SourceStar(Ident),
    /// `struct->*`
    StructStar(Expr),
    /// `expr [[AS] alias]`
    Expr {
        /// the expression
        expr: Expr,
        /// its name in the result
        alias: Option<Ident>,
    },
}

/// A source of a FROM.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// what it is
    pub kind: RelationKind,
    /// its name in this query, if another
    pub alias: Option<Ident>,
    /// with the alias
    pub loc: Loc,
}

impl Relation {
    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}

/// What a FROM reads.
#[derive(Clone, Debug, PartialEq)]
pub enum RelationKind {
    /// a stream or table, or a name of the WITH
    Source(Ident),
    /// `(query)`
    Subquery(Box<Query>),
}

/// `[INNER] JOIN relation [WITHIN …] ON condition` and its outer kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// which
    pub kind: JoinKind,
    /// the right side
    pub relation: Relation,
    /// WITHIN
    pub within: Option<Within>,
    /// ON
    pub on: Expr,
    /// the whole join
    pub loc: Loc,
}

/// Which rows without a partner survive a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// none
    Inner,
    /// those of the left side
    Left,
    /// those of the right side
    Right,
    /// those of both
    Full,
}

/// `WITHIN n unit` or `WITHIN (before, after)`, then `[GRACE PERIOD n unit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    /// how much older the right row may be
    pub before: Interval,
    /// how much newer the right row may be
    pub after: Interval,
    /// GRACE PERIOD
    pub grace: Option<Interval>,
    /// the whole clause
    pub loc: Loc,
}

/// `WINDOW [name] shape (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowClause {
    /// its name, which has no effect
    pub name: Option<Ident>,
    /// which kind, with its sizes
    pub shape: WindowShape,
    /// RETENTION
    pub retention: Option<Interval>,
    /// GRACE PERIOD
    pub grace: Option<Interval>,
    /// the whole clause
    pub loc: Loc,
}

/// A kind of window with its sizes, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowShape {
    /// TUMBLING
    Tumbling {
        /// SIZE
        size: Interval,
    },
    /// HOPPING
    Hopping {
        /// SIZE
        size: Interval,
        /// ADVANCE BY
        advance: Interval,
    },
    /// SESSION
    Session {
        /// the longest pause inside a session
        gap: Interval,
    },
}

/// EMIT and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitClause {
    /// which
    pub emit: Emit,
    /// where it stands
    pub loc: Loc,
}

/// When a query gives a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Emit {
    /// at each change
    Changes,
    /// when a window closes
    Final,
}

/// One expression of an ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderItem {
    /// what to order by
    pub expr: Expr,
    /// DESC
    pub descending: bool,
    /// NULLS FIRST (true) or LAST (false), if given
    pub nulls_first: Option<bool>,
}

/// A count that was written: LIMIT, OFFSET, INTERVAL, the id of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCount {
    /// the number, at most 2⁶³−1
    pub count: u64,
    /// where it stands
    pub loc: Loc,
}

/// `n unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// how many; 0 ≤ amount
    pub amount: i64,
    /// of what
    pub unit: TimeUnit,
    /// where it stands
    pub loc: Loc,
}

impl Interval {
    /// The same in milliseconds; `None` if that passes 64 bits.
    pub fn millis(self) -> Option<i64> {
        self.amount.checked_mul(self.unit.millis())
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// 24 hours
    Days,
    /// 60 minutes
    Hours,
    /// 60 seconds
    Minutes,
    /// 1000 milliseconds
    Seconds,
    /// a millisecond
    Milliseconds,
}

impl TimeUnit {
    /// All units, longest first.
    pub const ALL: [Self; 5] = [Self::Days, Self::Hours, Self::Minutes, Self::Seconds, Self::Milliseconds];

    /// How many milliseconds it has.
    pub fn millis(self) -> i64 {
        match self {
            Self::Days => 86_400_000,
            Self::Hours => 3_600_000,
            Self::Minutes => 60_000,
            Self::Seconds => 1000,
            Self::Milliseconds => 1,
        }
    }

    /// Its keyword in the plural.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Days => "DAYS",
            Self::Hours => "HOURS",
            Self::Minutes => "MINUTES",
            Self::Seconds => "SECONDS",
            Self::Milliseconds => "MILLISECONDS",
        }
    }

    /// The unit of a keyword, singular or plural, in any case.
    pub fn from_keyword(word: &str) -> Option<Self> {
        let word = word.to_ascii_uppercase();
        let same = |unit: &Self| word == unit.keyword() || unit.keyword().strip_suffix('S') == Some(&word);
        Self::ALL.into_iter().find(|unit| same(unit))
    }
}
