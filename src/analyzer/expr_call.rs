//! Calls: overloads, casts of arguments, lambdas.
//!
//! Aggregate and table functions are the query analyzer's, which intercepts them; here they are out of place. The subtle thing: a lambda's body is
//! bound when the other arguments have settled its parameters' types, and what it reads of the row is passed to the function as extra arguments.

use std::collections::BTreeMap;

use datafusion::logical_expr::Expr;

use super::expr::{Binder, Typed, untyped_null};
use super::expr_coerce::coerce;
use crate::diagnostic::{Diagnostic, Span, suggest};
use crate::function::registry::{Function, FunctionKind};
use crate::function::resolve::{Argument, Resolved, Unresolved, accepts, resolve, target};
use crate::function::signature::Pattern;
use crate::function::udf::{BoundFunction, ErrorRule, Lambda};
use crate::sql::ast::{self, ExprKind, Ident};
use crate::types::SqlType;

impl Binder<'_> {
    pub(super) fn call(&mut self, name: &Ident, args: &[ast::Expr], whole: &ast::Expr) -> Result<Typed, Diagnostic> {
        match self.registry.kind(name.as_str()) {
            Some(FunctionKind::Scalar) => {}
            Some(FunctionKind::Aggregate) => return Err(out_of_place("Aggregate", name)),
            Some(FunctionKind::Table) => return Err(out_of_place("Table", name)),
            None => return Err(self.unknown_function(name)),
        }
        let function = self.registry.scalar(name.as_str()).ok_or_else(|| self.unknown_function(name))?;
        self.call_scalar(function, args.iter().collect(), whole.span())
    }

    /// `left || right`.
    pub(super) fn concatenation(
        &mut self,
        left: &ast::Expr,
        right: &ast::Expr,
        whole: &ast::Expr,
    ) -> Result<Typed, Diagnostic> {
        let concat = self.registry.scalar("CONCAT").ok_or_else(|| Diagnostic::user("|| needs the function CONCAT"))?;
        self.call_scalar(concat, vec![left, right], whole.span())
    }

    fn unknown_function(&self, name: &Ident) -> Diagnostic {
        let error =
            Diagnostic::user(format!("Can't find any functions with the name '{}'", name.as_str())).at(name.span());
        let known = self.registry.list();
        match suggest(name.as_str(), known.iter().map(|(name, _)| *name)) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help("SHOW FUNCTIONS lists those there are"),
        }
    }

    fn call_scalar(
        &mut self,
        function: &'static Function,
        args: Vec<&ast::Expr>,
        span: Span,
    ) -> Result<Typed, Diagnostic> {
        check_lambdas_last(function.name, &args)?;
        let mut plain: Vec<Option<Typed>> = Vec::with_capacity(args.len());
        let mut given = Vec::with_capacity(args.len());
        for arg in &args {
            let (typed, argument) = match &arg.kind {
                ExprKind::Lambda { params, .. } => (None, Argument::Lambda(params.len())),
                ExprKind::Unit(unit) => (Some(unit_literal(*unit)), Argument::Unit),
                _ => {
                    let typed = self.typed(arg)?;
                    let argument = typed.ty.clone().map_or(Argument::Null, Argument::Typed);
                    (Some(typed), argument)
                }
            };
            plain.push(typed);
            given.push(argument);
        }
        let resolved = resolve(function, &given)
            .map_err(|Unresolved { message, help }| Diagnostic::user(message).at(span).help(help))?;
        self.finish_call(function, resolved, args, plain, span)
    }

    /// Binds the lambdas, casts the other arguments, settles the result type.
    fn finish_call(
        &mut self,
        function: &'static Function,
        mut resolved: Resolved,
        args: Vec<&ast::Expr>,
        plain: Vec<Option<Typed>>,
        span: Span,
    ) -> Result<Typed, Diagnostic> {
        let mut lambdas = Vec::new();
        for (i, arg) in args.iter().enumerate() {
            if let (ExprKind::Lambda { params, body }, Some(pattern)) = (&arg.kind, resolved.signature.pattern_at(i)) {
                let pattern = pattern.clone();
                lambdas.push(self.lambda(params, body, &pattern, &mut resolved, span)?);
            }
        }
        let (mut types, mut exprs) = (Vec::new(), Vec::new());
        // a NULL among decimals is one of their types, not of the widest there is
        let decimal = plain.iter().flatten().find_map(|v| v.ty.clone().filter(|ty| matches!(ty, SqlType::Decimal(..))));
        for (i, value) in plain.into_iter().enumerate() {
            let (Some(value), Some(pattern)) = (value, resolved.signature.pattern_at(i)) else { continue };
            let ty = match target(pattern, value.ty.as_ref(), &resolved.bindings) {
                Ok(ty) => match (&ty, &value.ty, &decimal) {
                    (SqlType::Decimal(..), None, Some(decimal)) => decimal.clone(),
                    _ => ty,
                },
                // a NULL whose type nothing else hangs on
                Err(_) if matches!(pattern, Pattern::Generic(_)) && !resolved.signature.result.has_generic() => {
                    SqlType::String
                }
                Err(_) => return Err(untyped_null(args[i].span())),
            };
            exprs.push(coerce(value, &ty, ErrorRule::Shield));
            types.push(ty);
        }
        let result = match resolved.variation.result {
            Some(rule) => rule(&types).map_err(|message| Diagnostic::user(message).at(span))?,
            None => target(&resolved.signature.result, None, &resolved.bindings).map_err(|_| untyped_null(span))?,
        };
        let kernel = resolved.variation.kernel;
        let mut bound = BoundFunction::new(function.name, kernel, types, result.clone(), ErrorRule::Shield)
            .volatility(function.volatility);
        bound.captured = self.captured(&lambdas);
        bound.lambdas = lambdas;
        Ok(Typed::new(bound.call(exprs), result))
    }

    fn lambda(
        &mut self,
        params: &[Ident],
        body: &ast::Expr,
        pattern: &Pattern,
        resolved: &mut Resolved,
        span: Span,
    ) -> Result<Lambda, Diagnostic> {
        let Pattern::Lambda(inputs, output) = pattern else {
            return Err(Diagnostic::user("a lambda stands where none is taken").at(span));
        };
        let depth = self.params.len();
        let mut physical = Vec::with_capacity(params.len());
        for (param, input) in params.iter().zip(inputs) {
            self.check_param(param)?;
            let ty = target(input, None, &resolved.bindings).map_err(|_| untyped_null(span))?;
            let name = format!("{}=>{}", self.params.len(), param.as_str());
            self.params.push((param.as_str().to_owned(), name.clone(), ty.clone()));
            physical.push((name, ty));
        }
        let bound = self.bind(body);
        self.params.truncate(depth);
        let bound = bound?;
        if !accepts(output, &bound.ty, false, &mut resolved.bindings) {
            let wanted =
                target(output, None, &resolved.bindings).map_or_else(|_| output.to_string(), |ty| ty.to_string());
            let message = format!("The lambda must give {wanted}, but {body} is {}", bound.ty);
            return Err(Diagnostic::user(message).at(body.span()).help("use CAST in the lambda"));
        }
        Ok(Lambda { params: physical, body: bound.expr, ty: bound.ty })
    }

    fn check_param(&self, param: &Ident) -> Result<(), Diagnostic> {
        let name = param.as_str();
        if self.params.iter().any(|(other, ..)| other == name) {
            let message = format!("The lambda parameter '{name}' is that of a lambda around it");
            return Err(Diagnostic::user(message).at(param.span()).help("choose another name"));
        }
        if self.scope.has_name(name) {
            let message = format!("The lambda parameter '{name}' is the name of a column");
            return Err(Diagnostic::user(message).at(param.span()).help("choose another name"));
        }
        let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
        if !legal {
            return Err(Diagnostic::user(format!("'{name}' is no name for a lambda parameter")).at(param.span()));
        }
        Ok(())
    }

    /// The columns that the lambdas read besides their own parameters, each once.
    fn captured(&self, lambdas: &[Lambda]) -> Vec<(String, SqlType)> {
        let mut captured = BTreeMap::new();
        for lambda in lambdas {
            for column in lambda.body.column_refs() {
                let own = lambdas.iter().any(|l| l.params.iter().any(|(name, _)| name == &column.name));
                let outer = self.params.iter().find(|(_, physical, _)| physical == &column.name).map(|(.., ty)| ty);
                if let (false, Some(ty)) = (own, outer.or_else(|| self.seen.get(&column.name))) {
                    captured.insert(column.name.clone(), ty.clone());
                }
            }
        }
        captured.into_iter().collect()
    }
}

fn unit_literal(unit: ast::TimeUnit) -> Typed {
    let text = unit.to_string();
    Typed::new(Expr::Literal(datafusion::scalar::ScalarValue::Utf8(Some(text)), None), SqlType::String)
}

fn check_lambdas_last(name: &str, args: &[&ast::Expr]) -> Result<(), Diagnostic> {
    let is_lambda = |arg: &&&ast::Expr| matches!(arg.kind, ExprKind::Lambda { .. });
    let after = args.iter().skip_while(|arg| !is_lambda(arg)).find(|arg| !is_lambda(arg));
    match after {
        Some(arg) => {
            let message = format!("The lambdas of '{name}' must follow all its other arguments");
            Err(Diagnostic::user(message).at(arg.span()))
        }
        None => Ok(()),
    }
}

fn out_of_place(kind: &str, name: &Ident) -> Diagnostic {
    Diagnostic::user(format!("{kind} functions such as {} are not allowed here", name.as_str())).at(name.span())
}
