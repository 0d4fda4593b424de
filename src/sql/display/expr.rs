//! Expressions and constants back to text.

use std::fmt::{self, Display, Formatter};

use super::super::ast::{BinaryOp, ColumnRef, Expr, ExprKind, Literal, Number, NumberKind, TimeUnit, UnaryOp};
use super::{List, Quoted, word};

/// How tightly a node binds, loosest first; an operand that binds looser than its place needs brackets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Lambda,
    Or,
    And,
    Not,
    Predicate,
    Concat,
    Sum,
    Product,
    Sign,
    Zone,
    Postfix,
}

fn level(kind: &ExprKind) -> Level {
    match kind {
        ExprKind::Lambda { .. } => Level::Lambda,
        ExprKind::Or(_) => Level::Or,
        ExprKind::And(_) => Level::And,
        ExprKind::Unary { op: UnaryOp::Not, .. } => Level::Not,
        ExprKind::Unary { .. } => Level::Sign,
        ExprKind::Binary { op, .. } => binary_level(*op),
        ExprKind::IsNull { .. }
        | ExprKind::IsDistinctFrom { .. }
        | ExprKind::Between { .. }
        | ExprKind::In { .. }
        | ExprKind::Like { .. } => Level::Predicate,
        ExprKind::AtTimeZone { .. } => Level::Zone,
        _ => Level::Postfix,
    }
}

fn binary_level(op: BinaryOp) -> Level {
    match op {
        BinaryOp::Concat => Level::Concat,
        BinaryOp::Add | BinaryOp::Subtract => Level::Sum,
        BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => Level::Product,
        _ => Level::Predicate,
    }
}

/// The level right of an operator that groups to the left, or around one that does not chain.
fn tighter(level: Level) -> Level {
    match level {
        Level::Predicate => Level::Concat,
        Level::Concat => Level::Sum,
        Level::Sum => Level::Product,
        _ => Level::Sign,
    }
}

/// An operand, in brackets if it binds looser than its place.
struct At<'a>(&'a Expr, Level);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(expr, place) = *self;
        if level(&expr.kind) < place { write!(f, "({expr})") } else { expr.fmt(f) }
    }
}

/// What may stand before `->`.
pub(super) fn postfix(expr: &Expr) -> impl Display {
    At(expr, Level::Postfix)
}

/// An operand after a sign, in brackets where its first character would join the sign.
struct Signed<'a>(&'a Expr);

impl Display for Signed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = At(self.0, Level::Sign).to_string();
        let joins = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
        if joins { write!(f, "({text})") } else { f.write_str(&text) }
    }
}

/// Operands of AND or OR. One of the same kind was in brackets when it was read.
fn join(f: &mut Formatter<'_>, terms: &[Expr], operator: &str, place: Level) -> fmt::Result {
    for (i, term) in terms.iter().enumerate() {
        if i > 0 {
            f.write_str(operator)?;
        }
        At(term, place).fmt(f)?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Column(column) => column.fmt(f),
            ExprKind::Unary { op: UnaryOp::Not, operand } => write!(f, "NOT {}", At(operand, Level::Not)),
            ExprKind::Unary { op: UnaryOp::Minus, operand } => write!(f, "-{}", Signed(operand)),
            ExprKind::Unary { op: UnaryOp::Plus, operand } => write!(f, "+{}", Signed(operand)),
            ExprKind::Binary { op, left, right } => {
                let own = binary_level(*op);
                let left_place = if own == Level::Predicate { tighter(own) } else { own };
                write!(f, "{} {op} {}", At(left, left_place), At(right, tighter(own)))
            }
            ExprKind::And(terms) => join(f, terms, " AND ", Level::Not),
            ExprKind::Or(terms) => join(f, terms, " OR ", Level::And),
            ExprKind::Case { operand, whens, otherwise } => {
                f.write_str("CASE")?;
                operand.iter().try_for_each(|operand| write!(f, " {operand}"))?;
                whens.iter().try_for_each(|w| write!(f, " WHEN {} THEN {}", w.condition, w.result))?;
                otherwise.iter().try_for_each(|otherwise| write!(f, " ELSE {otherwise}"))?;
                f.write_str(" END")
            }
            ExprKind::Cast { operand, to } => write!(f, "CAST({operand} AS {to})"),
            ExprKind::Call { name, star: true, .. } => write!(f, "{name}(*)"),
            ExprKind::Call { name, args, .. } => write!(f, "{name}({})", List(args)),
            ExprKind::Lambda { params, body } => match params.as_slice() {
                [one] => write!(f, "{one} => {body}"),
                many => write!(f, "({}) => {body}", List(many)),
            },
            ExprKind::Unit(unit) => unit.fmt(f),
            ExprKind::Subscript { base, index } => write!(f, "{}[{index}]", At(base, Level::Postfix)),
            ExprKind::Field { base, field } => write!(f, "{}->{field}", At(base, Level::Postfix)),
            ExprKind::Array(items) => write!(f, "ARRAY[{}]", List(items)),
            ExprKind::Map(entries) => assignments(f, "MAP", entries),
            ExprKind::Struct(fields) => assignments(f, "STRUCT", fields),
            ExprKind::AtTimeZone { operand, zone } => write!(f, "{} AT TIME ZONE {zone}", At(operand, Level::Zone)),
            ExprKind::IsNull { .. }
            | ExprKind::IsDistinctFrom { .. }
            | ExprKind::Between { .. }
            | ExprKind::In { .. }
            | ExprKind::Like { .. } => predicate(f, &self.kind),
        }
    }
}

fn predicate(f: &mut Formatter<'_>, kind: &ExprKind) -> fmt::Result {
    let side = |expr| At(expr, Level::Concat);
    match kind {
        ExprKind::IsNull { operand, negated } => write!(f, "{} IS {}NULL", side(operand), word(*negated, "NOT ")),
        ExprKind::IsDistinctFrom { left, right, negated } => {
            write!(f, "{} IS {}DISTINCT FROM {}", side(left), word(*negated, "NOT "), side(right))
        }
        ExprKind::Between { operand, low, high, negated } => {
            let not = word(*negated, "NOT ");
            write!(f, "{} {not}BETWEEN {} AND {}", side(operand), side(low), side(high))
        }
        ExprKind::In { operand, list, negated } => {
            write!(f, "{} {}IN ({})", side(operand), word(*negated, "NOT "), List(list))
        }
        ExprKind::Like { operand, pattern, escape, negated } => {
            write!(f, "{} {}LIKE {}", side(operand), word(*negated, "NOT "), side(pattern))?;
            let mut buffer = [0; 4];
            escape.map_or(Ok(()), |c| write!(f, " ESCAPE {}", Quoted(c.encode_utf8(&mut buffer))))
        }
        _ => Ok(()),
    }
}

fn assignments<L: Display>(f: &mut Formatter<'_>, name: &str, pairs: &[(L, Expr)]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (i, (left, right)) in pairs.iter().enumerate() {
        write!(f, "{}{left} := {right}", word(i > 0, ", "))?;
    }
    f.write_str(")")
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean(true) => f.write_str("TRUE"),
            Self::Boolean(false) => f.write_str("FALSE"),
            Self::String(text) => Quoted(text).fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let looks_whole = self.kind == NumberKind::Decimal && !self.text.contains('.');
        if looks_whole { write!(f, "DECIMAL {}", Quoted(&self.text)) } else { f.write_str(&self.text) }
    }
}

impl Display for ColumnRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.qualifier {
            Some(qualifier) => write!(f, "{qualifier}.{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Concat => "||",
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        })
    }
}

impl Display for TimeUnit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword())
    }
}
