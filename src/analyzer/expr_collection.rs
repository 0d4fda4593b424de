//! ARRAY, MAP and STRUCT: constructors, subscripts, fields.

use super::expr::{Binder, Typed, untyped_null};
use super::expr_coerce::{coerce, common_list};
use crate::diagnostic::{Diagnostic, Span, suggest};
use crate::function::elements;
use crate::function::udf::ErrorRule;
use crate::sql::ast::{self, Ident};
use crate::types::{SqlField, SqlType};

impl Binder<'_> {
    pub(super) fn array(&mut self, items: &[ast::Expr], span: Span) -> Result<Typed, Diagnostic> {
        if items.is_empty() {
            return Err(
                Diagnostic::user("Array constructor cannot be empty. Please supply at least one element").at(span)
            );
        }
        let all_null = || all_null("an array", "elements", span);
        let (item, items) = self.common(items.iter())?.ok_or_else(all_null)?;
        let ty = SqlType::Array(Box::new(item.clone()));
        Ok(Typed::new(elements::array(item, items), ty))
    }

    pub(super) fn map(&mut self, entries: &[(ast::Expr, ast::Expr)], span: Span) -> Result<Typed, Diagnostic> {
        if entries.is_empty() {
            return Err(
                Diagnostic::user("Map constructor cannot be empty. Please supply at least one key value pair").at(span)
            );
        }
        let (key, keys) =
            self.common(entries.iter().map(|(k, _)| k))?.ok_or_else(|| all_null("a map", "keys", span))?;
        let (value, values) =
            self.common(entries.iter().map(|(_, v)| v))?.ok_or_else(|| all_null("a map", "values", span))?;
        let ty = SqlType::Map(Box::new(key.clone()), Box::new(value.clone()));
        let entries = keys.into_iter().zip(values).flat_map(|(k, v)| [k, v]).collect();
        Ok(Typed::new(elements::map(key, value, entries), ty))
    }

    fn common<'e>(
        &mut self,
        items: impl Iterator<Item = &'e ast::Expr>,
    ) -> Result<Option<(SqlType, Vec<datafusion::logical_expr::Expr>)>, Diagnostic> {
        let items = items.map(|item| Ok((item, self.typed(item)?))).collect::<Result<Vec<_>, Diagnostic>>()?;
        common_list(items)
    }

    pub(super) fn structure(&mut self, fields: &[(Ident, ast::Expr)]) -> Result<Typed, Diagnostic> {
        let (mut types, mut values): (Vec<SqlField>, Vec<_>) = (Vec::new(), Vec::new());
        for (name, value) in fields {
            if types.iter().any(|f| f.name.as_str() == name.as_str()) {
                let message = format!("Duplicate field names found in STRUCT: '{}'", name.as_str());
                return Err(Diagnostic::user(message).at(name.span()));
            }
            let bound = self.typed(value)?;
            let ty = bound.ty.ok_or_else(|| untyped_null(value.span()))?;
            types.push(SqlField { name: name.as_str().into(), ty });
            values.push(bound.expr);
        }
        let types: std::sync::Arc<[SqlField]> = types.into();
        Ok(Typed::new(elements::structure(types.clone(), values), SqlType::Struct(types)))
    }

    pub(super) fn subscript(&mut self, base: &ast::Expr, index: &ast::Expr) -> Result<Typed, Diagnostic> {
        let (bound, at) = (self.typed(base)?, self.typed(index)?);
        match (bound.ty, &at.ty) {
            (Some(SqlType::Array(item)), Some(SqlType::Int | SqlType::BigInt) | None) => {
                let index = coerce(at, &SqlType::BigInt, ErrorRule::Propagate);
                Ok(Typed::new(elements::item((*item).clone(), bound.expr, index), *item))
            }
            (Some(SqlType::Map(key, value)), given) => {
                let fits = given.as_ref().is_none_or(|g| *g == *key || crate::function::resolve::widens(g, &key));
                if !fits {
                    let message = format!("The keys of {base} are {key}, but {index} is {}", at.type_name());
                    return Err(Diagnostic::user(message).at(index.span()).help("use CAST"));
                }
                let at = coerce(at, &key, ErrorRule::Propagate);
                Ok(Typed::new(elements::entry(*key, (*value).clone(), bound.expr, at), *value))
            }
            (Some(SqlType::Array(_)), _) => {
                let message = format!("The index of an array must be an INTEGER, but {index} is {}", at.type_name());
                Err(Diagnostic::user(message).at(index.span()))
            }
            (ty, _) => {
                let ty = ty.map_or_else(|| "null".to_owned(), |ty| ty.to_string());
                let message = format!("A subscript needs an ARRAY or a MAP, but {base} is {ty}");
                Err(Diagnostic::user(message).at(base.span()).help("read a field of a STRUCT with ->"))
            }
        }
    }

    pub(super) fn field(&mut self, base: &ast::Expr, field: &Ident) -> Result<Typed, Diagnostic> {
        let bound = self.typed(base)?;
        let Some(SqlType::Struct(fields)) = &bound.ty else {
            let message = format!("-> needs a STRUCT, but {base} is {}", bound.type_name());
            return Err(Diagnostic::user(message).at(base.span()));
        };
        let Some(index) = fields.iter().position(|f| f.name.as_str() == field.as_str()) else {
            let message = format!("Could not find field '{}' in {base}: {}", field.as_str(), bound.type_name());
            let error = Diagnostic::user(message).at(field.span());
            return Err(match suggest(field.as_str(), fields.iter().map(|f| f.name.as_str())) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error,
            });
        };
        let (structure, ty) = (SqlType::Struct(fields.clone()), fields[index].ty.clone());
        Ok(Typed::new(elements::field(structure, index, ty.clone(), bound.expr), ty))
    }
}

fn all_null(what: &str, parts: &str, span: Span) -> Diagnostic {
    Diagnostic::user(format!("Cannot construct {what} with all NULL {parts}"))
        .at(span)
        .help("cast a NULL to the type that is meant: CAST(NULL AS …)")
}
