//! Expressions as written, names folded, nothing resolved.
//!
//! AND and OR take any number of operands, so that long conditions stay flat. The subtle thing is the height: a tree is
//! made with [`Expr::new`], which knows how deep it has become, and the parser refuses those deeper than
//! [`Expr::MAX_HEIGHT`]; so everything that walks one may recurse.

use std::fmt;

use super::{Ident, Loc, Text, TimeUnit, TypeName};
use crate::diagnostic::Span;

/// An expression and its place.
#[derive(Clone, PartialEq)]
pub struct Expr {
    /// what it is
    pub kind: ExprKind,
    /// where it stands
    pub loc: Loc,
    height: u16,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// a constant
    Literal(Literal),
    /// `c` or `src.c`; a lambda parameter looks like `c`
    Column(ColumnRef),
    /// NOT, sign
    Unary {
        /// which
        op: UnaryOp,
        /// of what
        operand: Box<Expr>,
    },
    /// arithmetic, `||`, comparison
    Binary {
        /// which
        op: BinaryOp,
        /// left operand
        left: Box<Expr>,
        /// right operand
        right: Box<Expr>,
    },
    /// two or more operands joined by AND, in order
    And(Vec<Expr>),
    /// two or more operands joined by OR, in order
    Or(Vec<Expr>),
    /// `IS [NOT] NULL`
    IsNull {
        /// of what
        operand: Box<Expr>,
        /// IS NOT NULL
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`
    IsDistinctFrom {
        /// left operand
        left: Box<Expr>,
        /// right operand
        right: Box<Expr>,
        /// IS NOT DISTINCT FROM
        negated: bool,
    },
    /// `[NOT] BETWEEN low AND high`
    Between {
        /// of what
        operand: Box<Expr>,
        /// lower bound, inclusive
        low: Box<Expr>,
        /// upper bound, inclusive
        high: Box<Expr>,
        /// NOT BETWEEN
        negated: bool,
    },
    /// `[NOT] IN (…)`
    In {
        /// of what
        operand: Box<Expr>,
        /// at least one
        list: Vec<Expr>,
        /// NOT IN
        negated: bool,
    },
    /// `[NOT] LIKE pattern [ESCAPE 'c']`
    Like {
        /// of what
        operand: Box<Expr>,
        /// the pattern
        pattern: Box<Expr>,
        /// the escape character
        escape: Option<char>,
        /// NOT LIKE
        negated: bool,
    },
    /// `CASE [operand] WHEN … THEN … [ELSE …] END`
    Case {
        /// present in the simple form, which the analyzer refuses
        operand: Option<Box<Expr>>,
        /// at least one
        whens: Vec<When>,
        /// ELSE
        otherwise: Option<Box<Expr>>,
    },
    /// `CAST(e AS type)`
    Cast {
        /// of what
        operand: Box<Expr>,
        /// to what
        to: TypeName,
    },
    /// `name(args)`
    Call {
        /// the function, folded
        name: Ident,
        /// `name(*)`; there are no arguments then
        star: bool,
        /// lambdas and units of time may stand among them
        args: Vec<Expr>,
    },
    /// `x => body` or `(x, y) => body`; only among the arguments of a call
    Lambda {
        /// at least one
        params: Vec<Ident>,
        /// over columns, these parameters and those of lambdas around
        body: Box<Expr>,
    },
    /// a unit of time; only among the arguments of a call
    Unit(TimeUnit),
    /// `base[index]`
    Subscript {
        /// an array or map
        base: Box<Expr>,
        /// position or key
        index: Box<Expr>,
    },
    /// `base->field`
    Field {
        /// a struct
        base: Box<Expr>,
        /// the field
        field: Ident,
    },
    /// `ARRAY[…]`
    Array(Vec<Expr>),
    /// `MAP(k := v, …)`
    Map(Vec<(Expr, Expr)>),
    /// `STRUCT(f := e, …)`
    Struct(Vec<(Ident, Expr)>),
    /// `operand AT TIME ZONE 'zone'`
    AtTimeZone {
        /// of what
        operand: Box<Expr>,
        /// the zone's name
        zone: Text,
    },
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// NULL
    Null,
    /// TRUE, FALSE
    Boolean(bool),
    /// `'text'`
    String(String),
    /// a number, with its sign if that was written before it
    Number(Number),
}

/// A numeric constant as written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number {
    /// its text, with a leading `-` if negative; a decimal may begin or end with its point
    pub text: String,
    /// which type it has
    pub kind: NumberKind,
}

/// The type that a numeric constant has by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberKind {
    /// digits that fit 32 bits
    Int,
    /// digits that fit 64 bits
    BigInt,
    /// with a point, or `DECIMAL '…'`
    Decimal,
    /// with an exponent; finite
    Double,
}

/// `name` or `qualifier.name`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ColumnRef {
    /// a source or its alias
    pub qualifier: Option<Ident>,
    /// the column
    pub name: Ident,
}

/// One WHEN of a CASE.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// when this
    pub condition: Expr,
    /// then that
    pub result: Expr,
}

/// An operator before its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// NOT
    Not,
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `||`
    Concat,
    /// `=`
    Eq,
    /// `<>` or `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

impl BinaryOp {
    /// True for `=`, `<>`, `<`, `<=`, `>`, `>=`.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::NotEq | Self::Lt | Self::LtEq | Self::Gt | Self::GtEq)
    }

    /// True for `+`, `-`, `*`, `/`, `%`.
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Modulo)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.kind, self.loc)
    }
}

impl fmt::Debug for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(qualifier) = &self.qualifier {
            write!(f, "{qualifier:?}.")?;
        }
        write!(f, "{:?}", self.name)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.text)
    }
}

impl Expr {
    /// The deepest tree that the parser makes, in nodes from the root to a leaf.
    pub const MAX_HEIGHT: usize = 128;

    /// An expression at a place.
    pub fn new(kind: ExprKind, span: Span) -> Self {
        let mut below = 0;
        kind.for_each_child(&mut |child| below = below.max(child.height));
        Self { kind, loc: Loc(span), height: below.saturating_add(1) }
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }

    /// Nodes on the longest way from here to a leaf; 1 for a leaf.
    pub fn height(&self) -> usize {
        usize::from(self.height)
    }

    /// Calls `visit` on this node and all below, parents first, left to right.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        self.kind.for_each_child(&mut |child| child.walk(visit));
    }

    /// The column, if it is one.
    pub fn as_column(&self) -> Option<&ColumnRef> {
        match &self.kind {
            ExprKind::Column(column) => Some(column),
            _ => None,
        }
    }

    /// The constant, if it is one.
    pub fn as_literal(&self) -> Option<&Literal> {
        match &self.kind {
            ExprKind::Literal(literal) => Some(literal),
            _ => None,
        }
    }
}

impl ExprKind {
    /// Calls `visit` on each direct child, left to right.
    pub fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Literal(_) | Self::Column(_) | Self::Unit(_) => {}
            Self::Unary { operand, .. }
            | Self::IsNull { operand, .. }
            | Self::Cast { operand, .. }
            | Self::AtTimeZone { operand, .. } => visit(operand),
            Self::Lambda { body, .. } => visit(body),
            Self::Field { base, .. } => visit(base),
            Self::Binary { left, right, .. } | Self::IsDistinctFrom { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Self::Subscript { base, index } => {
                visit(base);
                visit(index);
            }
            Self::Like { operand, pattern, .. } => {
                visit(operand);
                visit(pattern);
            }
            Self::Between { operand, low, high, .. } => {
                visit(operand);
                visit(low);
                visit(high);
            }
            Self::In { operand, list, .. } => {
                visit(operand);
                list.iter().for_each(visit);
            }
            Self::Case { operand, whens, otherwise } => {
                operand.iter().for_each(|e| visit(e));
                for when in whens {
                    visit(&when.condition);
                    visit(&when.result);
                }
                otherwise.iter().for_each(|e| visit(e));
            }
            Self::And(list) | Self::Or(list) | Self::Array(list) | Self::Call { args: list, .. } => {
                list.iter().for_each(visit);
            }
            Self::Map(entries) => {
                for (key, value) in entries {
                    visit(key);
                    visit(value);
                }
            }
            Self::Struct(fields) => fields.iter().for_each(|(_, e)| visit(e)),
        }
    }
}
