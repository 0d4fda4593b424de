//! What conditions say about the keys of a table, so that a read looks up keys or ranges and need not scan.
//!
//! Knows no store: the runtime makes byte ranges of this. The subtle thing: a lookup only ever says too much. Conditions it does not understand
//! are passed over, and every condition is still evaluated on the rows that come.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::types::pseudo;

/// Alternatives that are told apart; past them a condition counts as not understood.
const MAX_ALTERNATIVES: usize = 1024;

/// Which rows of a store a read visits: those in one of the boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// the alternatives; none: no row can match
    pub boxes: Vec<KeyBox>,
}

/// Bounds on each key column and on the window; all hold.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyBox {
    /// one a key column
    pub columns: Vec<Bound>,
    /// start of the window
    pub start: Span<i64>,
    /// end of the window
    pub end: Span<i64>,
}

/// What is known of a key column.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// nothing
    Any,
    /// it is one of these values, which differ and are not NULL
    OneOf(Vec<ScalarValue>),
    /// it lies in a range
    Within(Span<ScalarValue>),
}

/// A range; each end with whether it belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<T> {
    /// lower end; `None`: open
    pub from: Option<(T, bool)>,
    /// upper end; `None`: open
    pub to: Option<(T, bool)>,
}

impl<T: PartialOrd + Clone> Span<T> {
    /// Everything.
    pub fn all() -> Self {
        Self { from: None, to: None }
    }

    /// True if nothing is bounded.
    pub fn is_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// True if `value` lies in it.
    pub fn contains(&self, value: &T) -> bool {
        self.from.as_ref().is_none_or(|(from, inclusive)| value > from || (*inclusive && value == from))
            && self.to.as_ref().is_none_or(|(to, inclusive)| value < to || (*inclusive && value == to))
    }

    fn and(self, other: Self) -> Self {
        let tighter = |a: Option<(T, bool)>, b: Option<(T, bool)>, is_lower: bool| match (a, b) {
            (Some(a), Some(b)) => Some(if a.0 == b.0 {
                (a.0, a.1 && b.1)
            } else if (a.0 > b.0) == is_lower {
                a
            } else {
                b
            }),
            (one, other) => one.or(other),
        };
        Self { from: tighter(self.from, other.from, true), to: tighter(self.to, other.to, false) }
    }

    /// The smallest range around both.
    fn hull(self, other: &Self) -> Self {
        let wider = |a: Option<(T, bool)>, b: &Option<(T, bool)>, is_lower: bool| match (a, b) {
            (Some(a), Some(b)) => Some(if a.0 == b.0 {
                (a.0, a.1 || b.1)
            } else if (a.0 < b.0) == is_lower {
                a
            } else {
                b.clone()
            }),
            _ => None,
        };
        Self { from: wider(self.from, &other.from, true), to: wider(self.to, &other.to, false) }
    }
}

/// The key of a table as conditions name it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyColumns {
    /// names and types, in the order of the key
    pub columns: Vec<(String, DataType)>,
    /// the key has a window
    pub windowed: bool,
}

impl Lookup {
    /// Every row.
    pub fn all(key: &KeyColumns) -> Self {
        Self { boxes: vec![KeyBox::all(key)] }
    }

    /// What conditions that all hold say; each an expression of the binder's over columns of the table.
    pub fn of<'a>(conditions: impl IntoIterator<Item = &'a Expr>, key: &KeyColumns) -> Self {
        let start = vec![KeyBox::all(key)];
        Self { boxes: conditions.into_iter().fold(start, |boxes, condition| both(boxes, boxes_of(condition, key))) }
    }

    /// True if it says anything at all.
    pub fn is_all(&self) -> bool {
        self.boxes.iter().any(KeyBox::is_all)
    }

    /// True if each alternative fixes every key column to single values.
    pub fn is_keys(&self) -> bool {
        self.boxes.iter().all(|b| b.columns.iter().all(|c| matches!(c, Bound::OneOf(_))))
    }

    /// True if all rows are of one key.
    pub fn is_one_key(&self) -> bool {
        let one = |column: &Bound| matches!(column, Bound::OneOf(values) if values.len() == 1);
        matches!(self.boxes.as_slice(), [only] if only.columns.iter().all(one))
    }

    /// True if some alternative bounds no key column, so that all keys are visited.
    pub fn is_scan(&self) -> bool {
        self.boxes.iter().any(|b| b.columns.first().is_none_or(|c| *c == Bound::Any))
    }

    /// Ranges that all window starts and all window ends lie in.
    pub fn window(&self) -> (Span<i64>, Span<i64>) {
        let hull = |of: fn(&KeyBox) -> &Span<i64>| {
            let mut spans = self.boxes.iter().map(of);
            let first = spans.next().cloned().unwrap_or_else(Span::all);
            spans.fold(first, Span::hull)
        };
        (hull(|b| &b.start), hull(|b| &b.end))
    }
}

impl KeyBox {
    fn all(key: &KeyColumns) -> Self {
        Self { columns: vec![Bound::Any; key.columns.len()], start: Span::all(), end: Span::all() }
    }

    fn is_all(&self) -> bool {
        self.columns.iter().all(|c| *c == Bound::Any) && self.start.is_all() && self.end.is_all()
    }

    /// Both; `None` if no key can be in both.
    fn and(&self, other: &Self) -> Option<Self> {
        let columns = self.columns.iter().zip(&other.columns).map(|(a, b)| a.and(b)).collect::<Option<_>>()?;
        let (start, end) = (self.start.clone().and(other.start.clone()), self.end.clone().and(other.end.clone()));
        Some(Self { columns, start, end })
    }
}

impl Bound {
    fn and(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Any, one) | (one, Self::Any) => one.clone(),
            (Self::OneOf(a), Self::OneOf(b)) => {
                let common: Vec<_> = a.iter().filter(|v| b.contains(v)).cloned().collect();
                if common.is_empty() {
                    return None;
                }
                Self::OneOf(common)
            }
            // the condition itself is still to come
            (Self::OneOf(values), _) | (_, Self::OneOf(values)) => Self::OneOf(values.clone()),
            (Self::Within(a), Self::Within(b)) => Self::Within(a.clone().and(b.clone())),
        })
    }
}

fn both(a: Vec<KeyBox>, b: Vec<KeyBox>) -> Vec<KeyBox> {
    if a.len().saturating_mul(b.len()) > MAX_ALTERNATIVES {
        return if a.len() < b.len() { a } else { b };
    }
    a.iter().flat_map(|one| b.iter().filter_map(|other| one.and(other))).collect()
}

/// What a condition says; of one that is not understood, a box of everything.
fn boxes_of(condition: &Expr, key: &KeyColumns) -> Vec<KeyBox> {
    let everything = || vec![KeyBox::all(key)];
    match condition {
        Expr::IsTrue(inner) => boxes_of(inner, key),
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And => both(boxes_of(&binary.left, key), boxes_of(&binary.right, key)),
            Operator::Or => {
                let mut boxes = boxes_of(&binary.left, key);
                boxes.extend(boxes_of(&binary.right, key));
                if boxes.len() > MAX_ALTERNATIVES { everything() } else { boxes }
            }
            op => comparison(&binary.left, op, &binary.right, key).unwrap_or_else(everything),
        },
        Expr::Between(between) if !between.negated => {
            let low = comparison(&between.expr, Operator::GtEq, &between.low, key).unwrap_or_else(everything);
            both(low, comparison(&between.expr, Operator::LtEq, &between.high, key).unwrap_or_else(everything))
        }
        Expr::InList(list) if !list.negated => {
            let each = list.list.iter().map(|item| comparison(&list.expr, Operator::Eq, item, key));
            let Some(each) = each.collect::<Option<Vec<_>>>() else { return everything() };
            one_of(each.into_iter().flatten().collect())
        }
        _ => everything(),
    }
}

/// Boxes that differ in the values of one column only, as one box.
fn one_of(boxes: Vec<KeyBox>) -> Vec<KeyBox> {
    let mut merged: Vec<KeyBox> = Vec::new();
    for next in boxes {
        let Some(last) = merged.last_mut() else {
            merged.push(next);
            continue;
        };
        let at = next.columns.iter().position(|c| *c != Bound::Any);
        match at.map(|i| (&mut last.columns[i], &next.columns[i])) {
            Some((Bound::OneOf(values), Bound::OneOf(more))) => {
                let new = more.iter().filter(|v| !values.contains(v)).cloned().collect::<Vec<_>>();
                values.extend(new);
            }
            // window bounds
            _ => merged.push(next),
        }
    }
    merged
}

fn comparison(left: &Expr, op: Operator, right: &Expr, key: &KeyColumns) -> Option<Vec<KeyBox>> {
    if let (Some(column), Expr::Literal(value, _)) = (key_column(left, key), right) {
        return compared(&column, op, value, key);
    }
    if let (Expr::Literal(value, _), Some(column)) = (left, key_column(right, key)) {
        return compared(&column, op.swap()?, value, key);
    }
    None
}

/// A key column, or a bound of the window, on one side of a comparison.
enum Side {
    Key(usize),
    Start,
    End,
}

/// The column that an expression is, perhaps as a BIGINT.
fn key_column(expr: &Expr, key: &KeyColumns) -> Option<Side> {
    let inner = match expr {
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Int64 => cast.expr.as_ref(),
        other => other,
    };
    let Expr::Column(column) = inner else { return None };
    if let Some(i) = key.columns.iter().position(|(name, _)| *name == column.name) {
        return (inner == expr || key.columns[i].1 == DataType::Int32).then_some(Side::Key(i));
    }
    match column.name.as_str() {
        pseudo::WINDOWSTART if key.windowed && inner == expr => Some(Side::Start),
        pseudo::WINDOWEND if key.windowed && inner == expr => Some(Side::End),
        _ => None,
    }
}

fn compared(side: &Side, op: Operator, value: &ScalarValue, key: &KeyColumns) -> Option<Vec<KeyBox>> {
    let known = matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    if !known {
        return None;
    }
    if value.is_null() {
        return Some(vec![]);
    }
    let mut found = KeyBox::all(key);
    match side {
        Side::Start | Side::End => {
            let ScalarValue::Int64(Some(ms)) = value else { return None };
            let span = span_of(op, *ms);
            *if matches!(side, Side::Start) { &mut found.start } else { &mut found.end } = span;
        }
        Side::Key(i) => {
            let data_type = &key.columns[*i].1;
            let bound = match (data_type, value) {
                (DataType::Int32, ScalarValue::Int64(Some(wide))) => narrow(op, *wide),
                _ if *data_type == value.data_type() => bound_of(op, value, data_type),
                _ => return None,
            };
            match bound {
                Some(bound) => found.columns[*i] = bound,
                None => return Some(vec![]),
            }
        }
    }
    Some(vec![found])
}

fn span_of<T: Clone>(op: Operator, value: T) -> Span<T> {
    match op {
        Operator::Eq => Span { from: Some((value.clone(), true)), to: Some((value, true)) },
        Operator::Lt => Span { from: None, to: Some((value, false)) },
        Operator::LtEq => Span { from: None, to: Some((value, true)) },
        Operator::Gt => Span { from: Some((value, false)), to: None },
        _ => Span { from: Some((value, true)), to: None },
    }
}

/// `Any` for types whose key bytes do not sort, or compare, as their values do.
fn bound_of(op: Operator, value: &ScalarValue, data_type: &DataType) -> Option<Bound> {
    use DataType as D;
    let sorts = matches!(
        data_type,
        D::Int32 | D::Int64 | D::Date32 | D::Time32(_) | D::Timestamp(..) | D::Decimal128(..) | D::Utf8 | D::Binary
    );
    Some(match op {
        Operator::Eq if sorts || matches!(data_type, D::Boolean | D::Decimal256(..)) => {
            Bound::OneOf(vec![value.clone()])
        }
        Operator::Eq => Bound::Any,
        _ if sorts => Bound::Within(span_of(op, value.clone())),
        _ => Bound::Any,
    })
}

/// An INT column compared with a BIGINT; `None` if no INT can match.
fn narrow(op: Operator, wide: i64) -> Option<Bound> {
    let value = i32::try_from(wide).ok().map(|v| ScalarValue::Int32(Some(v)));
    let everything_fits = match op {
        Operator::Lt | Operator::LtEq => wide > i64::from(i32::MAX),
        Operator::Gt | Operator::GtEq => wide < i64::from(i32::MIN),
        _ => false,
    };
    match value {
        Some(value) => bound_of(op, &value, &DataType::Int32),
        None if everything_fits => Some(Bound::Any),
        None => None,
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.boxes.is_empty() {
            return f.write_str("nothing");
        }
        for (i, one) in self.boxes.iter().enumerate() {
            if i > 0 {
                f.write_str(" or ")?;
            }
            write!(f, "{one}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KeyBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (i, column) in self.columns.iter().enumerate() {
            match column {
                Bound::Any => {}
                Bound::OneOf(values) => {
                    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                    parts.push(format!("key {} in ({})", i + 1, values.join(", ")));
                }
                Bound::Within(span) => parts.push(format!("key {} in {span}", i + 1)),
            }
        }
        for (name, span) in [(pseudo::WINDOWSTART, &self.start), (pseudo::WINDOWEND, &self.end)] {
            if !span.is_all() {
                parts.push(format!("{name} in {span}"));
            }
        }
        if parts.is_empty() { f.write_str("all") } else { f.write_str(&parts.join(" and ")) }
    }
}

impl<T: fmt::Display> fmt::Display for Span<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some((from, inclusive)) => write!(f, "{}{from}", if *inclusive { "[" } else { "(" })?,
            None => f.write_str("(-∞")?,
        }
        f.write_str(", ")?;
        match &self.to {
            Some((to, inclusive)) => write!(f, "{to}{}", if *inclusive { "]" } else { ")" }),
            None => f.write_str("∞)"),
        }
    }
}
