//! From a bound DataFusion expression to our nodes; constants are folded here, unless they fail.
//!
//! Knows exactly the expressions that the binder makes and the optimizer's rules turn them into. The subtle thing: a constant call that
//! fails stays a call, since each row that reaches it must be reported.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList};
use datafusion::logical_expr::{Cast, ColumnarValue, Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::eval::{Evaluated, Failures, Frame, Node, either, null_where, without};
use super::logic::{AndNode, CaseNode, NotNode, NullTest, OrNode, TruthTest, TruthTestKind};
use super::relation::{BetweenNode, CompareNode, Comparison, InNode};
use super::udf::{BoundFunction, CompiledLambda, ErrorRule, Memo, to_scalar};

/// Compiles `expr`, whose columns are named as in `schema`.
///
/// # Errors
/// If a column is not there, or the expression is none that the binder makes.
pub fn compile(expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    Ok(match expr {
        Expr::Alias(alias) => compile(&alias.expr, schema)?,
        Expr::Column(column) => Arc::new(ColumnNode { index: schema.index_of(&column.name)? }),
        Expr::Literal(value, _) => Arc::new(LiteralNode { value: value.clone() }),
        Expr::ScalarFunction(call) => {
            let function = (call.func.inner().as_ref() as &dyn std::any::Any)
                .downcast_ref::<BoundFunction>()
                .ok_or_else(|| unknown(expr))?;
            call_node(function, compile_all(&call.args, schema)?)?
        }
        Expr::BinaryExpr(binary) => compile_binary(binary, expr, schema)?,
        Expr::Not(operand) => Arc::new(NotNode { operand: compile(operand, schema)? }),
        Expr::IsNull(operand) => Arc::new(NullTest { operand: compile(operand, schema)?, negated: false }),
        Expr::IsNotNull(operand) => Arc::new(NullTest { operand: compile(operand, schema)?, negated: true }),
        Expr::IsTrue(operand) => truth_test(operand, TruthTestKind::IsTrue, schema)?,
        Expr::IsNotTrue(operand) => truth_test(operand, TruthTestKind::IsNotTrue, schema)?,
        Expr::IsFalse(operand) => truth_test(operand, TruthTestKind::IsFalse, schema)?,
        Expr::IsNotFalse(operand) => truth_test(operand, TruthTestKind::IsNotFalse, schema)?,
        Expr::IsUnknown(operand) => Arc::new(NullTest { operand: compile(operand, schema)?, negated: false }),
        Expr::IsNotUnknown(operand) => Arc::new(NullTest { operand: compile(operand, schema)?, negated: true }),
        Expr::Between(between) => compile_between(between, schema)?,
        Expr::InList(list) => compile_in(list, schema)?,
        Expr::Case(case) => compile_case(case, schema)?,
        Expr::Cast(cast) => compile_widening(cast, expr, schema)?,
        other => return Err(unknown(other)),
    })
}

fn unknown(expr: &Expr) -> DataFusionError {
    DataFusionError::Internal(format!("no node for the expression {expr}"))
}

fn compile_all(exprs: &[Expr], schema: &SchemaRef) -> Result<Vec<Arc<dyn Node>>, DataFusionError> {
    exprs.iter().map(|e| compile(e, schema)).collect()
}

fn truth_test(operand: &Expr, kind: TruthTestKind, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    Ok(Arc::new(TruthTest { operand: compile(operand, schema)?, kind }))
}

fn compile_binary(binary: &BinaryExpr, expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    if matches!(binary.op, Operator::And | Operator::Or) {
        let mut operands = Vec::new();
        flatten(expr, binary.op, schema, &mut operands)?;
        return Ok(match binary.op {
            Operator::And => Arc::new(AndNode { operands }),
            _ => Arc::new(OrNode { operands }),
        });
    }
    let op = Comparison::of(binary.op).ok_or_else(|| unknown(expr))?;
    Ok(fold(CompareNode { op, left: compile(&binary.left, schema)?, right: compile(&binary.right, schema)? }))
}

/// The operands of a chain of ANDs or ORs, left to right.
fn flatten(
    expr: &Expr,
    op: Operator,
    schema: &SchemaRef,
    operands: &mut Vec<Arc<dyn Node>>,
) -> Result<(), DataFusionError> {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == op => {
            flatten(&binary.left, op, schema, operands)?;
            flatten(&binary.right, op, schema, operands)
        }
        other => {
            let operand = compile(other, schema)?;
            operands.push(if is_three_valued(other) {
                Arc::new(TruthTest { operand, kind: TruthTestKind::IsTrue })
            } else {
                operand
            });
            Ok(())
        }
    }
}

/// True for a comparison that the optimizer has laid bare by taking a BETWEEN or IN apart: below the binder's IS TRUE its NULL is false and
/// fails nobody.
fn is_three_valued(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => Comparison::of(binary.op).is_some(),
        Expr::Between(_) | Expr::InList(_) | Expr::Literal(ScalarValue::Boolean(None), _) => true,
        _ => false,
    }
}

fn compile_between(between: &Between, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    let node: Arc<dyn Node> = Arc::new(BetweenNode {
        operand: compile(&between.expr, schema)?,
        low: compile(&between.low, schema)?,
        high: compile(&between.high, schema)?,
    });
    Ok(if between.negated { Arc::new(NotNode { operand: node }) } else { node })
}

fn compile_in(list: &InList, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    let node: Arc<dyn Node> = Arc::new(InNode::new(compile(&list.expr, schema)?, compile_all(&list.list, schema)?)?);
    Ok(if list.negated { Arc::new(NotNode { operand: node }) } else { node })
}

fn compile_case(case: &Case, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    if case.expr.is_some() {
        return Err(DataFusionError::Internal("a simple CASE came through the binder".into()));
    }
    let whens = case
        .when_then_expr
        .iter()
        .map(|(when, then)| Ok((compile(when, schema)?, compile(then, schema)?)))
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    let otherwise = case.else_expr.as_ref().map(|e| compile(e, schema)).transpose()?;
    Ok(Arc::new(CaseNode { whens, otherwise }))
}

/// Casts that cannot fail; all others are our CAST function.
fn compile_widening(cast: &Cast, expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn Node>, DataFusionError> {
    let to = cast.field.data_type().clone();
    match to {
        DataType::Int64 | DataType::Float64 => Ok(fold(WidenNode { operand: compile(&cast.expr, schema)?, to })),
        _ => Err(unknown(expr)),
    }
}

/// The node, or its value if that is the same for all rows and nobody fails.
fn fold(node: impl Node + 'static) -> Arc<dyn Node> {
    match folded(&node) {
        Some(value) => Arc::new(LiteralNode { value }),
        None => Arc::new(node),
    }
}

fn folded(node: &dyn Node) -> Option<ScalarValue> {
    if !node.is_pure_constant() {
        return None;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).ok()?;
    let frame = Frame::new(&batch);
    let Evaluated { value, failed } = node.eval(&frame, None).ok()?;
    let ColumnarValue::Scalar(value) = to_scalar(value).ok()? else { return None };
    (failed.is_none() && frame.into_reports().is_empty()).then_some(value)
}

fn call_node(function: &BoundFunction, args: Vec<Arc<dyn Node>>) -> Result<Arc<dyn Node>, DataFusionError> {
    let lambdas = function.compile_lambdas()?;
    Ok(fold(CallNode { function: function.clone(), args, lambdas, memo: Memo::default() }))
}

/// A column of the frame.
#[derive(Debug)]
struct ColumnNode {
    index: usize,
}

impl Node for ColumnNode {
    fn eval(&self, frame: &Frame<'_>, _: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        Ok(Evaluated::ok(ColumnarValue::Array(frame.column(self.index).clone())))
    }

    fn can_fail(&self) -> bool {
        false
    }
}

/// A constant.
#[derive(Debug)]
pub(super) struct LiteralNode {
    /// it
    pub value: ScalarValue,
}

impl Node for LiteralNode {
    fn eval(&self, _: &Frame<'_>, _: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        Ok(Evaluated::ok(ColumnarValue::Scalar(self.value.clone())))
    }

    fn can_fail(&self) -> bool {
        false
    }

    fn constant(&self) -> Option<&ScalarValue> {
        Some(&self.value)
    }
}

/// INT or BIGINT to BIGINT or DOUBLE.
#[derive(Debug)]
struct WidenNode {
    operand: Arc<dyn Node>,
    to: DataType,
}

impl Node for WidenNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let Evaluated { value, failed } = self.operand.eval(frame, wanted)?;
        let value = match value {
            ColumnarValue::Array(array) => ColumnarValue::Array(arrow::compute::cast(&array, &self.to)?),
            ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.cast_to(&self.to)?),
        };
        Ok(Evaluated { value, failed })
    }

    fn can_fail(&self) -> bool {
        self.operand.can_fail()
    }

    fn is_pure_constant(&self) -> bool {
        self.operand.constant().is_some()
    }
}

/// A call of one of our functions or operators.
#[derive(Debug)]
struct CallNode {
    function: BoundFunction,
    args: Vec<Arc<dyn Node>>,
    lambdas: Vec<CompiledLambda>,
    memo: Memo,
}

impl CallNode {
    /// The arguments, and the rows on which one of them failed (never with [`ErrorRule::ShieldArguments`]).
    fn arguments(
        &self,
        frame: &Frame<'_>,
        wanted: Option<&BooleanBuffer>,
    ) -> Result<(Vec<ColumnarValue>, Option<BooleanBuffer>), DataFusionError> {
        let mut values = Vec::with_capacity(self.args.len());
        let mut failed: Option<BooleanBuffer> = None;
        for arg in &self.args {
            let needed = failed.as_ref().map(|f| without(wanted, f));
            let e = arg.eval(frame, needed.as_ref().or(wanted))?;
            match e.failed {
                Some(mask) if self.function.rule == ErrorRule::ShieldArguments => {
                    values.push(null_where(e.value, frame.rows(), &mask)?);
                }
                mask => {
                    values.push(e.value);
                    failed = either(failed, mask);
                }
            }
        }
        Ok((values, failed))
    }

    /// Runs the kernel; a call on constants once for all rows.
    fn run(
        &self,
        frame: &Frame<'_>,
        values: &[ColumnarValue],
        wanted: Option<&BooleanBuffer>,
    ) -> Result<Evaluated, DataFusionError> {
        let constant = !values.is_empty() && values.iter().all(|v| matches!(v, ColumnarValue::Scalar(_)));
        if !(constant && self.function.is_immutable()) {
            let mut failures = Failures::new(wanted);
            let value = self.function.run(values, frame.rows(), &self.lambdas, &self.memo, &mut failures)?;
            return Ok(Evaluated { value, failed: frame.note(failures) });
        }
        let mut failures = Failures::new(None);
        let value = to_scalar(self.function.run(values, 1, &self.lambdas, &self.memo, &mut failures)?)?;
        let all = || wanted.cloned().unwrap_or_else(|| BooleanBuffer::new_set(frame.rows()));
        failures.notes().iter().for_each(|(_, reason)| frame.fail_all(&all(), reason));
        let failed = failures.rows().first().map(|(_, reason)| {
            frame.fail_all(&all(), reason);
            all()
        });
        Ok(Evaluated { value, failed })
    }
}

impl Node for CallNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let (values, failed) = self.arguments(frame, wanted)?;
        let needed = failed.as_ref().map(|f| without(wanted, f));
        let own = self.run(frame, &values, needed.as_ref().or(wanted))?;
        match (self.function.rule, failed) {
            (ErrorRule::Propagate, failed) => Ok(Evaluated { value: own.value, failed: either(failed, own.failed) }),
            (_, Some(failed)) => Ok(Evaluated::ok(null_where(own.value, frame.rows(), &failed)?)),
            (_, None) => Ok(Evaluated::ok(own.value)),
        }
    }

    fn can_fail(&self) -> bool {
        self.function.fallible || !self.lambdas.is_empty() || self.args.iter().any(|a| a.can_fail())
    }

    fn is_pure_constant(&self) -> bool {
        self.function.is_immutable() && !self.args.is_empty() && self.args.iter().all(|a| a.constant().is_some())
    }
}
