//! A function or operator bound to its argument types, as DataFusion sees it.
//!
//! Not the resolution of overloads (`resolve`). The subtle thing: under DataFusion's own evaluation a failing row is NULL without a
//! report; only a call on constants that fails is an error there, so that constant folding leaves it for [`super::eval`] to report.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use parking_lot::Mutex;

use super::eval::{Failures, Node, Reason};
use crate::types::SqlType;

/// The code of a function: one call for all rows.
pub type Kernel = fn(&Call<'_>, &mut Failures<'_>) -> Result<ColumnarValue, DataFusionError>;

/// What becomes of a row's failure in an expression around the failing node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorRule {
    /// the whole expression fails (operators)
    Propagate,
    /// this node is NULL and evaluation goes on (functions, CAST)
    Shield,
    /// each argument that fails is NULL and evaluation goes on (constructors)
    ShieldArguments,
}

/// A call as its kernel sees it.
pub struct Call<'a> {
    /// the values of the arguments, lambdas left out
    pub args: &'a [ColumnarValue],
    /// their types
    pub types: &'a [SqlType],
    /// type of the result
    pub result: &'a SqlType,
    /// rows to compute
    pub rows: usize,
    /// the lambdas among the arguments, in order
    pub lambdas: &'a [CompiledLambda],
    /// the columns that lambdas read besides their parameters
    pub captured: &'a [ColumnarValue],
    /// what is kept between calls
    pub memo: &'a Memo,
}

/// What a kernel made of a constant argument in an earlier batch (a compiled pattern), with that constant.
#[derive(Default)]
pub struct Memo(Mutex<Option<(String, Arc<dyn Any + Send + Sync>)>>);

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

/// Something compiled from a text argument: once if the argument is constant, else when the text changes.
pub struct Compiled<'a, T> {
    memo: &'a Memo,
    make: fn(&str) -> Result<T, Reason>,
    last: Option<(String, Result<Arc<T>, Reason>)>,
}

impl<T: Send + Sync + 'static> Compiled<'_, T> {
    /// What `text` compiles to.
    ///
    /// # Errors
    /// Why it does not compile.
    pub fn get(&mut self, text: &str) -> Result<&T, Reason> {
        if self.last.as_ref().is_none_or(|(last, _)| last != text) {
            let made = self.remembered(text).map_or_else(|| (self.make)(text).map(Arc::new), Ok);
            if let Ok(made) = &made {
                *self.memo.0.lock() = Some((text.to_owned(), made.clone()));
            }
            self.last = Some((text.to_owned(), made));
        }
        match &self.last {
            Some((_, Ok(made))) => Ok(made),
            Some((_, Err(reason))) => Err(reason.clone()),
            None => Err("nothing was compiled".into()),
        }
    }

    fn remembered(&self, text: &str) -> Option<Arc<T>> {
        let memo = self.memo.0.lock();
        let (key, made) = memo.as_ref()?;
        if key == text { made.clone().downcast::<T>().ok() } else { None }
    }
}

impl Call<'_> {
    /// A compiler of text arguments that remembers the last one.
    pub fn compiled<T>(&self, make: fn(&str) -> Result<T, Reason>) -> Compiled<'_, T> {
        Compiled { memo: self.memo, make, last: None }
    }

    /// The Arrow type of the result.
    pub fn result_type(&self) -> DataType {
        self.result.to_arrow()
    }
}

/// `params => body`, bound. Its columns are its parameters and the captured columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lambda {
    /// physical names of the parameters, with types
    pub params: Vec<(String, SqlType)>,
    /// the body
    pub body: Expr,
    /// type of the body
    pub ty: SqlType,
}

/// A lambda, compiled; its node reads a batch of [`Self::schema`].
#[derive(Clone, Debug)]
pub struct CompiledLambda {
    /// the body
    pub body: Arc<dyn Node>,
    /// columns: parameters, then captured columns
    pub schema: SchemaRef,
    /// type of the body
    pub ty: SqlType,
}

/// A function or operator bound to argument types.
#[derive(Clone)]
pub struct BoundFunction {
    /// upper-case name, or the operator's sign
    pub name: &'static str,
    /// its code
    pub kernel: Kernel,
    /// argument types, lambdas left out
    pub types: Vec<SqlType>,
    /// result type
    pub result: SqlType,
    /// what a failure does around it
    pub rule: ErrorRule,
    /// false if no row can fail
    pub fallible: bool,
    /// lambdas among the arguments, in order
    pub lambdas: Vec<Lambda>,
    /// the columns that lambdas read, by physical name, with types; passed after the arguments
    pub captured: Vec<(String, SqlType)>,
    signature: Signature,
}

impl BoundFunction {
    /// A pure function of these types that may fail.
    pub fn new(name: &'static str, kernel: Kernel, types: Vec<SqlType>, result: SqlType, rule: ErrorRule) -> Self {
        let signature = Signature::new(TypeSignature::VariadicAny, Volatility::Immutable);
        Self { name, kernel, types, result, rule, fallible: true, lambdas: vec![], captured: vec![], signature }
    }

    /// The same with that volatility.
    #[must_use]
    pub fn volatility(mut self, volatility: Volatility) -> Self {
        self.signature.volatility = volatility;
        self
    }

    /// The same, for a function on which no row fails.
    #[must_use]
    pub fn total(mut self) -> Self {
        self.fallible = false;
        self
    }

    /// True if equal arguments always give equal results.
    pub fn is_immutable(&self) -> bool {
        self.signature.volatility == Volatility::Immutable
    }

    /// The call of this function on `args`.
    pub fn call(self, mut args: Vec<Expr>) -> Expr {
        let captured = self.captured.iter().map(|(name, _)| column(name));
        args.extend(captured);
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(self)), args))
    }

    /// Runs the kernel on evaluated arguments (captured columns last); constants in, a constant out.
    ///
    /// # Errors
    /// A defect of ours.
    pub fn run(
        &self,
        args: &[ColumnarValue],
        rows: usize,
        lambdas: &[CompiledLambda],
        memo: &Memo,
        failures: &mut Failures<'_>,
    ) -> Result<ColumnarValue, DataFusionError> {
        let (args, captured) = args.split_at(self.types.len().min(args.len()));
        let call = Call { args, types: &self.types, result: &self.result, rows, lambdas, captured, memo };
        (self.kernel)(&call, failures)
    }

    /// Compiles the lambdas.
    ///
    /// # Errors
    /// If a body names a column that is neither parameter nor captured: a defect of the binder.
    pub fn compile_lambdas(&self) -> Result<Vec<CompiledLambda>, DataFusionError> {
        self.lambdas
            .iter()
            .map(|lambda| {
                let fields = lambda.params.iter().chain(&self.captured);
                let fields = fields.map(|(name, ty)| Field::new(name, ty.to_arrow(), true)).collect::<Vec<_>>();
                let schema: SchemaRef = Arc::new(Schema::new(fields));
                let body = super::compile::compile(&lambda.body, &schema)?;
                Ok(CompiledLambda { body, schema, ty: lambda.ty.clone() })
            })
            .collect()
    }

    fn identity(&self) -> (&str, &[SqlType], &SqlType, ErrorRule, &[Lambda], &[(String, SqlType)]) {
        (self.name, &self.types, &self.result, self.rule, &self.lambdas, &self.captured)
    }
}

/// The column of that physical name.
pub fn column(name: &str) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(name))
}

impl PartialEq for BoundFunction {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for BoundFunction {}

impl Hash for BoundFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for BoundFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundFunction").field("name", &self.name).field("types", &self.types).finish_non_exhaustive()
    }
}

impl ScalarUDFImpl for BoundFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.result.to_arrow())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String, DataFusionError> {
        let mut shown: Vec<_> = args.iter().map(|a| a.schema_name().to_string()).collect();
        shown.extend(self.lambdas.iter().map(|lambda| format!("=> {}", lambda.body.schema_name())));
        Ok(match (self.name.starts_with(|c: char| c.is_alphabetic()), shown.as_slice()) {
            (false, [left, right]) => format!("({left} {} {right})", self.name),
            _ if self.name == "CAST" => format!("CAST({} AS {})", shown.join(", "), self.result),
            _ => format!("{}({})", self.name, shown.join(", ")),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let constant = !args.args.is_empty() && args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant && self.is_immutable() { 1 } else { args.number_rows };
        let lambdas = self.compile_lambdas()?;
        let mut failures = Failures::new(None);
        let value = self.run(&args.args, rows, &lambdas, &Memo::default(), &mut failures)?;
        match (constant, failures.rows()) {
            (true, [(_, reason), ..]) => Err(DataFusionError::Execution(reason.to_string())),
            (true, []) if rows == 1 => to_scalar(value),
            _ => Ok(value),
        }
    }
}

/// A one-row value as a constant.
pub(crate) fn to_scalar(value: ColumnarValue) -> Result<ColumnarValue, DataFusionError> {
    Ok(match value {
        ColumnarValue::Array(array) => {
            ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&array, 0)?)
        }
        scalar => scalar,
    })
}
