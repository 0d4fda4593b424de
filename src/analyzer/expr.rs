//! The binder: an expression of the tree, with the columns in reach, becomes a typed DataFusion expression.
//!
//! [`Binder::bind`] walks the tree once; operators are in `expr_operator`, calls in `expr_call`, collections in `expr_collection`, coercion in
//! `expr_coerce`. All of ksqlDB's typing rules live here and nowhere later: what comes out has every cast explicit. The subtle thing: a NULL
//! literal has no type until its place gives it one ([`Typed::ty`] is then `None`).

use std::collections::HashMap;

use arrow::datatypes::i256;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

use super::scope::Scope;
use crate::diagnostic::{Diagnostic, Span};
use crate::function::decimal;
use crate::function::registry::Registry;
use crate::function::udf::column;
use crate::sql::ast::{self, ExprKind, Literal, Number, NumberKind};
use crate::types::SqlType;

/// A bound expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// over physical columns
    pub expr: Expr,
    /// its type
    pub ty: SqlType,
}

/// Is asked first about every node; an answer replaces the binding of that node (aggregate calls, grouping expressions).
pub type Intercept<'a> = dyn FnMut(&ast::Expr) -> Option<Result<Bound, Diagnostic>> + 'a;

/// A bound expression whose type may still be open.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub expr: Expr,
    /// `None`: the NULL literal
    pub ty: Option<SqlType>,
}

impl Typed {
    pub(super) fn new(expr: Expr, ty: SqlType) -> Self {
        Self { expr, ty: Some(ty) }
    }

    /// The type as messages name it.
    pub(super) fn type_name(&self) -> String {
        self.ty.as_ref().map_or_else(|| "null".to_owned(), ToString::to_string)
    }
}

/// Binds an expression over `scope` with the built-in or other functions; no custom types, no interception.
///
/// # Errors
/// What is wrong with it, at its place.
pub fn bind(expr: &ast::Expr, scope: &Scope, registry: &Registry) -> Result<Bound, Diagnostic> {
    Binder::new(scope, registry).bind(expr)
}

/// `expr` of a type as a wider one.
pub fn widen(expr: Expr, from: &SqlType, to: &SqlType) -> Expr {
    super::expr_coerce::coerce(Typed::new(expr, from.clone()), to, crate::function::udf::ErrorRule::Propagate)
}

/// Binds expressions over one scope.
pub struct Binder<'a> {
    pub(super) scope: &'a Scope,
    pub(super) registry: &'a Registry,
    custom: &'a dyn Fn(&str) -> Option<SqlType>,
    intercept: Option<&'a mut Intercept<'a>>,
    /// parameters of the lambdas around, outermost first: name, physical name, type
    pub(super) params: Vec<(String, String, SqlType)>,
    /// types of the physical columns that were bound
    pub(super) seen: HashMap<String, SqlType>,
}

impl<'a> Binder<'a> {
    /// A binder without custom types and interception.
    pub fn new(scope: &'a Scope, registry: &'a Registry) -> Self {
        Self { scope, registry, custom: &|_| None, intercept: None, params: Vec::new(), seen: HashMap::new() }
    }

    /// The same, with custom types by folded name.
    #[must_use]
    pub fn custom_types(mut self, custom: &'a dyn Fn(&str) -> Option<SqlType>) -> Self {
        self.custom = custom;
        self
    }

    /// The same, asking `intercept` first about every node.
    #[must_use]
    pub fn intercept(mut self, intercept: &'a mut Intercept<'a>) -> Self {
        self.intercept = Some(intercept);
        self
    }

    /// Binds an expression.
    ///
    /// # Errors
    /// What is wrong with it, at its place.
    pub fn bind(&mut self, expr: &ast::Expr) -> Result<Bound, Diagnostic> {
        let Typed { expr: bound, ty } = self.typed(expr)?;
        let ty = ty.ok_or_else(|| untyped_null(expr.span()))?;
        Ok(Bound { expr: bound, ty })
    }

    /// Binds an expression that must be BOOLEAN, for the clause of that name.
    ///
    /// # Errors
    /// As [`Self::bind`], and if it has another type.
    pub fn bind_predicate(&mut self, expr: &ast::Expr, clause: &str) -> Result<Expr, Diagnostic> {
        let bound = self.typed(expr)?;
        if bound.ty == Some(SqlType::Boolean) {
            return Ok(bound.expr);
        }
        let message = format!(
            "Type error in {clause} expression: Should evaluate to boolean but is {expr} ({}) instead",
            bound.type_name()
        );
        Err(Diagnostic::user(message).at(expr.span()).help("use a comparison"))
    }

    /// The type that a type name means.
    pub(super) fn sql_type(&self, name: &ast::TypeName) -> Result<SqlType, Diagnostic> {
        name.resolve(self.custom)
    }

    pub(super) fn typed(&mut self, expr: &ast::Expr) -> Result<Typed, Diagnostic> {
        if let Some(intercept) = self.intercept.as_mut()
            && let Some(answer) = intercept(expr)
        {
            let Bound { expr, ty } = answer?;
            if let Expr::Column(column) = &expr {
                self.seen.insert(column.name.clone(), ty.clone());
            }
            return Ok(Typed::new(expr, ty));
        }
        self.node(expr)
    }

    fn node(&mut self, expr: &ast::Expr) -> Result<Typed, Diagnostic> {
        let span = expr.span();
        match &expr.kind {
            ExprKind::Literal(literal) => bind_literal(literal, span),
            ExprKind::Column(column) => self.column(column),
            ExprKind::Unary { op, operand } => self.unary(*op, operand, expr),
            ExprKind::Binary { op, left, right } if op.is_arithmetic() => self.arithmetic(*op, left, right, expr),
            ExprKind::Binary { op, left, right } if op.is_comparison() => self.comparison(*op, left, right),
            ExprKind::Binary { left, right, .. } => self.concatenation(left, right, expr),
            ExprKind::And(operands) => self.connective(operands, Expr::and),
            ExprKind::Or(operands) => self.connective(operands, Expr::or),
            ExprKind::IsNull { operand, negated } => self.null_test(operand, *negated),
            ExprKind::IsDistinctFrom { left, right, negated } => self.distinct(left, right, *negated),
            ExprKind::Between { operand, low, high, negated } => self.between(operand, low, high, *negated),
            ExprKind::In { operand, list, negated } => self.in_list(operand, list, *negated),
            ExprKind::Like { operand, pattern, escape, negated } => self.like(operand, pattern, *escape, *negated),
            ExprKind::Case { operand: Some(_), .. } => Err(simple_case(span)),
            ExprKind::Case { operand: None, whens, otherwise } => self.case(whens, otherwise.as_deref(), span),
            ExprKind::Cast { operand, to } => self.cast(operand, to),
            ExprKind::Call { name, args, .. } => self.call(name, args, expr),
            ExprKind::Subscript { base, index } => self.subscript(base, index),
            ExprKind::Field { base, field } => self.field(base, field),
            ExprKind::Array(items) => self.array(items, span),
            ExprKind::Map(entries) => self.map(entries, span),
            ExprKind::Struct(fields) => self.structure(fields),
            ExprKind::Lambda { .. } => {
                Err(Diagnostic::user("a lambda may only be an argument of a function such as TRANSFORM").at(span))
            }
            ExprKind::Unit(unit) => {
                let message =
                    format!("the unit of time {unit} may only be an argument of a function such as TIMESTAMPADD");
                Err(Diagnostic::user(message).at(span))
            }
            ExprKind::AtTimeZone { .. } => Err(Diagnostic::user("AT TIME ZONE is not implemented")
                .at(span)
                .help("use CONVERT_TZ(timestamp, 'from zone', 'to zone')")),
        }
    }

    fn column(&mut self, reference: &ast::ColumnRef) -> Result<Typed, Diagnostic> {
        if reference.qualifier.is_none()
            && let Some((_, physical, ty)) = self.params.iter().rev().find(|(n, ..)| n == reference.name.as_str())
        {
            return Ok(Typed::new(column(physical), ty.clone()));
        }
        let found = self.scope.resolve(reference)?;
        self.seen.insert(found.physical.clone(), found.ty.clone());
        Ok(Typed::new(column(&found.physical), found.ty.clone()))
    }
}

fn simple_case(span: Span) -> Diagnostic {
    Diagnostic::user("CASE with an operand (CASE x WHEN …) is not supported")
        .at(span)
        .help("compare in each condition: CASE WHEN x = … THEN …")
}

pub(super) fn untyped_null(span: Span) -> Diagnostic {
    Diagnostic::user(
        "Can't infer a type of null. Please explicitly cast it to a required type, e.g. CAST(null AS VARCHAR)",
    )
    .at(span)
}

/// A literal, with the type that its text has.
pub(super) fn bind_literal(literal: &Literal, span: Span) -> Result<Typed, Diagnostic> {
    let value = |value: ScalarValue| Expr::Literal(value, None);
    Ok(match literal {
        Literal::Null => Typed { expr: value(ScalarValue::Null), ty: None },
        Literal::Boolean(b) => Typed::new(value(ScalarValue::Boolean(Some(*b))), SqlType::Boolean),
        Literal::String(text) => Typed::new(value(ScalarValue::Utf8(Some(text.clone()))), SqlType::String),
        Literal::Number(number) => {
            let (constant, ty) = number_value(number)
                .ok_or_else(|| Diagnostic::user(format!("Invalid numeric literal: {}", number.text)).at(span))?;
            Typed::new(value(constant), ty)
        }
    })
}

/// The value and type of a number as written; `None` if no type holds it.
fn number_value(number: &Number) -> Option<(ScalarValue, SqlType)> {
    let text = number.text.as_str();
    Some(match number.kind {
        NumberKind::Int => (ScalarValue::Int32(Some(text.parse().ok()?)), SqlType::Int),
        NumberKind::BigInt => (ScalarValue::Int64(Some(text.parse().ok()?)), SqlType::BigInt),
        NumberKind::Double => {
            let double: f64 = text.parse().ok()?;
            (ScalarValue::Float64(Some(double).filter(|d| d.is_finite())), SqlType::Double)
        }
        NumberKind::Decimal => {
            let (unscaled, scale) = decimal::parse(text)?;
            let unscaled = if scale < 0 { decimal::grow(unscaled, u8::try_from(-scale).ok()?)? } else { unscaled };
            let scale = u8::try_from(scale.max(0)).ok()?;
            let precision = digits(unscaled).max(scale + 1);
            if precision > crate::types::schema::MAX_DECIMAL_PRECISION {
                return None;
            }
            (decimal_scalar(unscaled, precision, scale), SqlType::Decimal(precision, scale))
        }
    })
}

/// How many digits the value has, at least 1.
pub(super) fn digits(value: i256) -> u8 {
    value.wrapping_abs().to_string().len() as u8
}

/// A DECIMAL constant.
pub(super) fn decimal_scalar(unscaled: i256, precision: u8, scale: u8) -> ScalarValue {
    match unscaled.to_i128().filter(|_| precision <= 38) {
        Some(narrow) => ScalarValue::Decimal128(Some(narrow), precision, scale as i8),
        None => ScalarValue::Decimal256(Some(unscaled), precision, scale as i8),
    }
}
