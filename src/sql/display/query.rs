//! Queries back to text.

use std::fmt::{self, Display, Formatter};

use super::super::ast::{
    Cte, Emit, Interval, Join, JoinKind, OrderItem, Query, QueryBody, Relation, RelationKind, RowCount, Select,
    SelectItem, WindowClause, WindowShape, Within,
};
use super::{List, word};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.with.is_empty() {
            write!(f, "WITH {} ", List(&self.with))?;
        }
        self.body.fmt(f)?;
        if !self.order_by.is_empty() {
            write!(f, " ORDER BY {}", List(&self.order_by))?;
        }
        if let Some(clause) = self.emit {
            write!(f, " EMIT {}", clause.emit)?;
        }
        if let Some(limit) = self.limit {
            write!(f, " LIMIT {limit}")?;
        }
        self.offset.map_or(Ok(()), |offset| write!(f, " OFFSET {offset}"))
    }
}

impl Display for Cte {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS ({})", self.name, self.query)
    }
}

impl Display for QueryBody {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(select) => select.fmt(f),
            Self::Query(query) => write!(f, "({query})"),
            Self::Union { left, right, all } => write!(f, "{left} UNION {}{right}", word(*all, "ALL ")),
        }
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let distinct = word(self.distinct.is_some(), "DISTINCT ");
        write!(f, "SELECT {distinct}{} FROM {}", List(&self.items), self.from)?;
        self.joins.iter().try_for_each(|join| write!(f, " {join}"))?;
        if let Some(window) = &self.window {
            write!(f, " {window}")?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " WHERE {filter}")?;
        }
        if !self.group_by.is_empty() {
            write!(f, " GROUP BY {}", List(&self.group_by))?;
        }
        if !self.partition_by.is_empty() {
            write!(f, " PARTITION BY {}", List(&self.partition_by))?;
        }
        self.having.as_ref().map_or(Ok(()), |having| write!(f, " HAVING {having}"))
    }
}

impl Display for SelectItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Star(_) => f.write_str("*"),
            Self::SourceStar(source) => write!(f, "{source}.*"),
            Self::StructStar(expr) => write!(f, "{}->*", super::expr::postfix(expr)),
            Self::Expr { expr, alias: None } => expr.fmt(f),
            Self::Expr { expr, alias: Some(alias) } => write!(f, "{expr} AS {alias}"),
        }
    }
}

impl Display for Relation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RelationKind::Source(name) => name.fmt(f)?,
            RelationKind::Subquery(query) => write!(f, "({query})")?,
        }
        self.alias.as_ref().map_or(Ok(()), |alias| write!(f, " AS {alias}"))
    }
}

impl Display for JoinKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inner => "INNER JOIN",
            Self::Left => "LEFT OUTER JOIN",
            Self::Right => "RIGHT OUTER JOIN",
            Self::Full => "FULL OUTER JOIN",
        })
    }
}

impl Display for Join {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.relation)?;
        if let Some(within) = &self.within {
            write!(f, " {within}")?;
        }
        write!(f, " ON {}", self.on)
    }
}

impl Display for Within {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.before == self.after {
            write!(f, "WITHIN {}", self.before)?;
        } else {
            write!(f, "WITHIN ({}, {})", self.before, self.after)?;
        }
        self.grace.map_or(Ok(()), |grace| write!(f, " GRACE PERIOD {grace}"))
    }
}

impl Display for WindowClause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("WINDOW ")?;
        if let Some(name) = &self.name {
            write!(f, "{name} ")?;
        }
        match &self.shape {
            WindowShape::Tumbling { size } => write!(f, "TUMBLING (SIZE {size}")?,
            WindowShape::Hopping { size, advance } => write!(f, "HOPPING (SIZE {size}, ADVANCE BY {advance}")?,
            WindowShape::Session { gap } => write!(f, "SESSION ({gap}")?,
        }
        if let Some(retention) = self.retention {
            write!(f, ", RETENTION {retention}")?;
        }
        if let Some(grace) = self.grace {
            write!(f, ", GRACE PERIOD {grace}")?;
        }
        f.write_str(")")
    }
}

impl Display for Emit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changes => "CHANGES",
            Self::Final => "FINAL",
        })
    }
}

impl Display for OrderItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, word(self.descending, " DESC"))?;
        match self.nulls_first {
            Some(true) => f.write_str(" NULLS FIRST"),
            Some(false) => f.write_str(" NULLS LAST"),
            None => Ok(()),
        }
    }
}

impl Display for RowCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.count.fmt(f)
    }
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.unit)
    }
}
