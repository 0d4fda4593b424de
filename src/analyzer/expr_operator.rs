//! Operators: arithmetic, comparison, BETWEEN, IN, LIKE, CASE, CAST, connectives.
//!
//! The subtle things: a comparison is `(a = b) IS TRUE`, so a NULL side makes it FALSE and NOT of it TRUE; a string literal beside ROWTIME,
//! WINDOWSTART or WINDOWEND is a point in time.

use datafusion::logical_expr::expr::{Case, InList};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::expr::{Binder, Typed, untyped_null};
use super::expr_coerce::{coerce, common_list, join_types, null_of, wider_number};
use crate::diagnostic::{Diagnostic, Span};
use crate::function::arithmetic::{Arithmetic, negate};
use crate::function::udf::ErrorRule;
use crate::function::{calendar, cast, decimal, like};
use crate::sql::ast::{self, BinaryOp, ExprKind, Literal, UnaryOp};
use crate::types::{SqlType, pseudo};

impl Binder<'_> {
    pub(super) fn unary(&mut self, op: UnaryOp, operand: &ast::Expr, whole: &ast::Expr) -> Result<Typed, Diagnostic> {
        let bound = self.typed(operand)?;
        if op == UnaryOp::Not {
            return Ok(Typed::new(Expr::Not(Box::new(boolean(bound, operand, "NOT")?)), SqlType::Boolean));
        }
        match bound.ty {
            Some(ty) if ty.is_numeric() => Ok(match op {
                UnaryOp::Minus => Typed::new(negate(ty.clone()).call(vec![bound.expr]), ty),
                _ => Typed::new(bound.expr, ty),
            }),
            _ => {
                let message = format!(
                    "Error processing expression: {whole}. A sign is not supported before {}",
                    bound.type_name()
                );
                Err(Diagnostic::user(message).at(whole.span()).help("a sign needs a number"))
            }
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        op: BinaryOp,
        left: &ast::Expr,
        right: &ast::Expr,
        whole: &ast::Expr,
    ) -> Result<Typed, Diagnostic> {
        let op = match op {
            BinaryOp::Add => Arithmetic::Add,
            BinaryOp::Subtract => Arithmetic::Subtract,
            BinaryOp::Multiply => Arithmetic::Multiply,
            BinaryOp::Divide => Arithmetic::Divide,
            _ => Arithmetic::Modulo,
        };
        let (l, r) = (self.typed(left)?, self.typed(right)?);
        let refused = || arithmetic_refused(&l, &r, whole);
        let (Some(lt), Some(rt)) = (&l.ty, &r.ty) else { return Err(refused()) };
        if let (Arithmetic::Add, SqlType::String, SqlType::String) = (op, lt, rt) {
            let function = op.function(SqlType::String, SqlType::String, SqlType::String);
            return Ok(Typed::new(function.call(vec![l.expr, r.expr]), SqlType::String));
        }
        let wide = wider_number(lt, rt).ok_or_else(refused)?;
        if let (SqlType::Decimal(..), Some(a), Some(b)) = (&wide, decimal::natural_type(lt), decimal::natural_type(rt))
        {
            let result = decimal::result_type(op, a, b);
            let function = op.function(lt.clone(), rt.clone(), result.clone());
            return Ok(Typed::new(function.call(vec![l.expr, r.expr]), result));
        }
        let args = vec![coerce(l, &wide, ErrorRule::Propagate), coerce(r, &wide, ErrorRule::Propagate)];
        Ok(Typed::new(op.function(wide.clone(), wide.clone(), wide.clone()).call(args), wide))
    }

    pub(super) fn comparison(
        &mut self,
        op: BinaryOp,
        left: &ast::Expr,
        right: &ast::Expr,
    ) -> Result<Typed, Diagnostic> {
        let (op, name) = match op {
            BinaryOp::Eq => (Operator::Eq, "EQUAL"),
            BinaryOp::NotEq => (Operator::NotEq, "NOT_EQUAL"),
            BinaryOp::Lt => (Operator::Lt, "LESS_THAN"),
            BinaryOp::LtEq => (Operator::LtEq, "LESS_THAN_OR_EQUAL"),
            BinaryOp::Gt => (Operator::Gt, "GREATER_THAN"),
            _ => (Operator::GtEq, "GREATER_THAN_OR_EQUAL"),
        };
        let (l, r) = self.compared(left, right)?;
        let ordered = !matches!(op, Operator::Eq | Operator::NotEq);
        let (l, r, _) = comparable(l, r, left, right, name, ordered)?;
        Ok(holds(compare(op, l, r)))
    }

    pub(super) fn distinct(&mut self, left: &ast::Expr, right: &ast::Expr, negated: bool) -> Result<Typed, Diagnostic> {
        let (l, r) = self.compared(left, right)?;
        let name = if negated { "IS_NOT_DISTINCT_FROM" } else { "IS_DISTINCT_FROM" };
        let (l, r, _) = comparable(l, r, left, right, name, false)?;
        let op = if negated { Operator::IsNotDistinctFrom } else { Operator::IsDistinctFrom };
        Ok(Typed::new(compare(op, l, r), SqlType::Boolean))
    }

    /// Both sides, a string literal beside a pseudo time column being that time.
    fn compared(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<(Typed, Typed), Diagnostic> {
        let (l, r) = (self.typed(left)?, self.typed(right)?);
        if is_time_column(left) {
            return Ok((l, as_point_in_time(r, right)?));
        }
        if is_time_column(right) {
            return Ok((as_point_in_time(l, left)?, r));
        }
        Ok((l, r))
    }

    pub(super) fn between(
        &mut self,
        operand: &ast::Expr,
        low: &ast::Expr,
        high: &ast::Expr,
        negated: bool,
    ) -> Result<Typed, Diagnostic> {
        let (value, from) = self.compared(operand, low)?;
        let (_, to) = self.compared(operand, high)?;
        let (v1, from, low_type) = comparable(value.clone(), from, operand, low, "GREATER_THAN_OR_EQUAL", true)?;
        let (v2, to, high_type) = comparable(value, to, operand, high, "LESS_THAN_OR_EQUAL", true)?;
        let within = if low_type == high_type {
            holds(Expr::Between(Between::new(Box::new(v1), false, Box::new(from), Box::new(to)))).expr
        } else {
            holds(compare(Operator::GtEq, v1, from)).expr.and(holds(compare(Operator::LtEq, v2, to)).expr)
        };
        Ok(Typed::new(negate_if(negated, within), SqlType::Boolean))
    }

    pub(super) fn in_list(
        &mut self,
        operand: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
    ) -> Result<Typed, Diagnostic> {
        let mut items = vec![(operand, self.typed(operand)?)];
        for item in list {
            items.push((item, self.typed(item)?));
        }
        let Some((_, mut exprs)) = common_list(items)? else { return Err(untyped_null(operand.span())) };
        let list = exprs.split_off(1);
        let Some(value) = exprs.pop() else { return Err(untyped_null(operand.span())) };
        let within = holds(Expr::InList(InList::new(Box::new(value), list, false))).expr;
        Ok(Typed::new(negate_if(negated, within), SqlType::Boolean))
    }

    pub(super) fn like(
        &mut self,
        operand: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<char>,
        negated: bool,
    ) -> Result<Typed, Diagnostic> {
        let mut text = |side: &ast::Expr| {
            let bound = self.typed(side)?;
            match bound.ty {
                Some(SqlType::String) => Ok(bound.expr),
                _ => {
                    let message = format!("LIKE compares strings, but {side} is {}", bound.type_name());
                    Err(Diagnostic::user(message).at(side.span()).help("use CAST(… AS STRING)"))
                }
            }
        };
        let (value, pattern) = (text(operand)?, text(pattern)?);
        Ok(Typed::new(negate_if(negated, like::like(value, pattern, escape)), SqlType::Boolean))
    }

    pub(super) fn case(
        &mut self,
        whens: &[ast::When],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Result<Typed, Diagnostic> {
        let mut branches = Vec::with_capacity(whens.len());
        let mut common: Option<SqlType> = None;
        for when in whens {
            let condition = self.typed(&when.condition)?;
            let condition = boolean(condition, &when.condition, "WHEN")?;
            let result = self.typed(&when.result)?;
            same_branch(&mut common, &result, &when.result)?;
            branches.push((condition, result));
        }
        let rest = otherwise.map(|e| self.typed(e)).transpose()?;
        if let (Some(rest), Some(ast)) = (&rest, otherwise) {
            same_branch(&mut common, rest, ast)?;
        }
        let ty = common.ok_or_else(|| {
            Diagnostic::user("Invalid Case expression. All case branches have NULL type")
                .at(span)
                .help("cast one of them: CAST(NULL AS STRING)")
        })?;
        let branch = |value: Typed| Box::new(coerce(value, &ty, ErrorRule::Propagate));
        let when_then_expr = branches.into_iter().map(|(when, then)| (Box::new(when), branch(then))).collect();
        let else_expr = Some(rest.map_or_else(|| Box::new(null_of(&ty)), branch));
        Ok(Typed::new(Expr::Case(Case { expr: None, when_then_expr, else_expr }), ty))
    }

    pub(super) fn cast(&mut self, operand: &ast::Expr, to: &ast::TypeName) -> Result<Typed, Diagnostic> {
        let value = self.typed(operand)?;
        let to_type = self.sql_type(to)?;
        if let Some(from) = value.ty.as_ref().filter(|from| !cast::is_supported(from, &to_type)) {
            let message = format!("Cast of {from} to {to_type} is not supported");
            return Err(Diagnostic::user(message).at(operand.span().union(to.span())));
        }
        Ok(Typed::new(coerce(value, &to_type, ErrorRule::Shield), to_type))
    }

    pub(super) fn connective(
        &mut self,
        operands: &[ast::Expr],
        join: fn(Expr, Expr) -> Expr,
    ) -> Result<Typed, Diagnostic> {
        let mut joined: Option<Expr> = None;
        for operand in operands {
            let next = self.typed(operand)?;
            let next = boolean(next, operand, "AND and OR")?;
            joined = Some(match joined {
                Some(joined) => join(joined, next),
                None => next,
            });
        }
        Ok(Typed::new(joined.unwrap_or_else(|| null_of(&SqlType::Boolean)), SqlType::Boolean))
    }

    pub(super) fn null_test(&mut self, operand: &ast::Expr, negated: bool) -> Result<Typed, Diagnostic> {
        let value = self.typed(operand)?;
        let operand = Box::new(value.expr);
        let test = if negated { Expr::IsNotNull(operand) } else { Expr::IsNull(operand) };
        Ok(Typed::new(test, SqlType::Boolean))
    }
}

/// `test IS TRUE`: NULL is FALSE.
fn holds(test: Expr) -> Typed {
    Typed::new(Expr::IsTrue(Box::new(test)), SqlType::Boolean)
}

fn negate_if(negated: bool, test: Expr) -> Expr {
    if negated { Expr::Not(Box::new(test)) } else { test }
}

fn compare(op: Operator, left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn boolean(value: Typed, ast: &ast::Expr, place: &str) -> Result<Expr, Diagnostic> {
    match value.ty {
        Some(SqlType::Boolean) => Ok(value.expr),
        _ => {
            let message = format!("{place} needs BOOLEAN operands, but {ast} is {}", value.type_name());
            Err(Diagnostic::user(message).at(ast.span()).help("use a comparison"))
        }
    }
}

fn same_branch(common: &mut Option<SqlType>, branch: &Typed, ast: &ast::Expr) -> Result<(), Diagnostic> {
    match (&common, &branch.ty) {
        (_, None) => Ok(()),
        (None, Some(ty)) => {
            *common = Some(ty.clone());
            Ok(())
        }
        (Some(common), Some(ty)) if common == ty => Ok(()),
        (Some(common), Some(ty)) => {
            let message = format!(
                "Invalid Case expression. Type for all 'THEN' and 'ELSE' clauses should be the same: {ast} has type {ty}, \
                 those before it {common}"
            );
            Err(Diagnostic::user(message).at(ast.span()).help(format!("use CAST({ast} AS {common})")))
        }
    }
}

fn arithmetic_refused(left: &Typed, right: &Typed, whole: &ast::Expr) -> Diagnostic {
    let message = format!(
        "Error processing expression: ({whole}). Arithmetic on types {} and {} are not supported",
        left.type_name(),
        right.type_name()
    );
    Diagnostic::user(message).at(whole.span()).help("use CAST to make both sides numbers")
}

/// True for ROWTIME, WINDOWSTART and WINDOWEND.
fn is_time_column(expr: &ast::Expr) -> bool {
    expr.as_column()
        .is_some_and(|c| [pseudo::ROWTIME, pseudo::WINDOWSTART, pseudo::WINDOWEND].contains(&c.name.as_str()))
}

/// A string literal as ms since the epoch; everything else as it is.
fn as_point_in_time(value: Typed, ast: &ast::Expr) -> Result<Typed, Diagnostic> {
    let ExprKind::Literal(Literal::String(text)) = &ast.kind else { return Ok(value) };
    let ms = calendar::parse_timestamp(text.trim()).ok_or_else(|| {
        Diagnostic::user(format!("Failed to parse timestamp '{text}'"))
            .at(ast.span())
            .help("use yyyy-MM-ddTHH:mm:ss.SSS, or a beginning of it, with +HHmm or Z behind it for a zone")
    })?;
    Ok(Typed::new(Expr::Literal(ScalarValue::Int64(Some(ms)), None), SqlType::BigInt))
}

/// Both sides at the type in which they are compared.
fn comparable(
    left: Typed,
    right: Typed,
    left_ast: &ast::Expr,
    right_ast: &ast::Expr,
    op: &str,
    ordered: bool,
) -> Result<(Expr, Expr, SqlType), Diagnostic> {
    let span = left_ast.span().union(right_ast.span());
    let (Some(lt), Some(rt)) = (&left.ty, &right.ty) else {
        let message = format!("Comparison with NULL not supported: {left_ast} {op} {right_ast}");
        return Err(Diagnostic::user(message).at(span).help("Use 'IS NULL' or 'IS NOT NULL'"));
    };
    let common = comparison_type(lt, rt).filter(|ty| !ordered || has_order(ty));
    let Some(common) = common else {
        let message = format!("Cannot compare {left_ast} ({lt}) to {right_ast} ({rt}) with {op}");
        return Err(Diagnostic::user(message).at(span).help("use CAST to make both sides the same type"));
    };
    let l = coerce(left, &common, ErrorRule::Propagate);
    let r = coerce(right, &common, ErrorRule::Propagate);
    Ok((l, r, common))
}

fn has_order(ty: &SqlType) -> bool {
    !matches!(ty, SqlType::Boolean | SqlType::Array(_) | SqlType::Map(..) | SqlType::Struct(_))
}

/// The type in which two types are compared, if they may be. DOUBLE beside DECIMAL compares as doubles.
fn comparison_type(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType as T;
    match (left, right) {
        (T::String, time @ (T::Time | T::Date | T::Timestamp)) => Some(time.clone()),
        (time @ (T::Time | T::Date | T::Timestamp), T::String) => Some(time.clone()),
        (T::Date, T::Timestamp) | (T::Timestamp, T::Date) => Some(T::Timestamp),
        _ => join_types(left, right),
    }
}
