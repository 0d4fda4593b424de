//! Which overload a call means, and which casts its arguments need.
//!
//! Knows types, not expressions. The subtle thing: implicit casts are tried only when no overload takes the arguments as they are, and a
//! tie between the best overloads is an error, never a guess.

use std::collections::BTreeMap;

use super::registry::{Function, Variation};
use super::signature::{Pattern, Signature};
use crate::types::{SqlField, SqlType};

/// What stands at an argument's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// the NULL literal, which fits everything
    Null,
    /// an expression of this type
    Typed(SqlType),
    /// a unit of time
    Unit,
    /// a lambda with so many parameters
    Lambda(usize),
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Typed(ty) => write!(f, "{ty}"),
            Self::Unit => f.write_str("INTERVALUNIT"),
            Self::Lambda(_) => f.write_str("LAMBDA"),
        }
    }
}

/// The types that a call has given to generic letters.
pub type Bindings = BTreeMap<char, SqlType>;

/// An overload, chosen.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// the overload
    pub variation: &'static Variation,
    /// its signature
    pub signature: Signature,
    /// generic types known from the arguments (lambda results not yet)
    pub bindings: Bindings,
}

/// Why a call cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// what is wrong
    pub message: String,
    /// the calls that would be right
    pub help: String,
}

/// Chooses the overload of `function` for these arguments.
///
/// # Errors
/// If none takes them, or several do equally well.
pub fn resolve(function: &'static Function, args: &[Argument]) -> Result<Resolved, Unresolved> {
    for casts in [false, true] {
        let mut fits: Vec<Resolved> = Vec::new();
        for variation in function.variations {
            let signature = variation.parsed();
            if let Some(bindings) = matches(&signature, args, casts) {
                fits.push(Resolved { variation, signature, bindings });
            }
        }
        fits.sort_by_key(|r| rank(&r.signature));
        match fits.len() {
            0 => {}
            1 => return Ok(fits.remove(0)),
            _ if rank(&fits[0].signature) < rank(&fits[1].signature) => return Ok(fits.remove(0)),
            _ => return Err(ambiguous(function, args)),
        }
    }
    Err(refused(function, args))
}

/// Preferred ones are lower: not variadic, more parameters, fewer generic ones.
fn rank(signature: &Signature) -> (bool, std::cmp::Reverse<usize>, usize) {
    (signature.is_variadic(), std::cmp::Reverse(signature.parameters.len()), signature.generic_count())
}

fn list(args: &[Argument]) -> String {
    args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn alternatives(function: &Function) -> String {
    let calls: Vec<_> = function.variations.iter().map(|v| format!("{}({})", function.name, v.parsed())).collect();
    format!("valid alternatives are: {}", calls.join("; "))
}

fn ambiguous(function: &Function, args: &[Argument]) -> Unresolved {
    Unresolved {
        message: format!(
            "Function '{}' cannot be resolved due to ambiguous method parameters ({})",
            function.name,
            list(args)
        ),
        help: format!("use CAST to choose one; {}", alternatives(function)),
    }
}

fn refused(function: &Function, args: &[Argument]) -> Unresolved {
    Unresolved {
        message: format!("Function '{}' does not accept parameters ({})", function.name, list(args)),
        help: alternatives(function),
    }
}

fn matches(signature: &Signature, args: &[Argument], casts: bool) -> Option<Bindings> {
    let least = signature.parameters.len() - usize::from(signature.is_variadic());
    if args.len() < least || (args.len() > signature.parameters.len() && !signature.is_variadic()) {
        return None;
    }
    let mut bindings = Bindings::new();
    for (i, arg) in args.iter().enumerate() {
        let fits = match (signature.pattern_at(i)?, arg) {
            (Pattern::Lambda(params, _), Argument::Lambda(arity)) => params.len() == *arity,
            (Pattern::Lambda(..), _) | (_, Argument::Lambda(_)) => false,
            (Pattern::Unit, arg) => arg == &Argument::Unit,
            (_, Argument::Unit) => false,
            (_, Argument::Null) => true,
            (pattern, Argument::Typed(ty)) => accepts(pattern, ty, casts, &mut bindings),
        };
        if !fits {
            return None;
        }
    }
    Some(bindings)
}

/// True if the pattern takes the type; binds its generic letters.
pub fn accepts(pattern: &Pattern, ty: &SqlType, casts: bool, bindings: &mut Bindings) -> bool {
    match (pattern, ty) {
        (Pattern::Generic(letter), ty) => match bindings.get(letter) {
            Some(bound) => bound == ty || (casts && widens(ty, bound)),
            None => {
                bindings.insert(*letter, ty.clone());
                true
            }
        },
        (Pattern::Exact(want), ty) => want == ty || (casts && widens(ty, want)),
        (Pattern::Decimal, SqlType::Decimal(..)) => true,
        (Pattern::Decimal, SqlType::Int | SqlType::BigInt) => casts,
        (Pattern::Array(item), SqlType::Array(ty)) => accepts(item, ty, casts, bindings),
        (Pattern::Map(key, value), SqlType::Map(k, v)) => {
            accepts(key, k, casts, bindings) && accepts(value, v, casts, bindings)
        }
        (Pattern::Struct(want), SqlType::Struct(have)) => {
            want.len() == have.len()
                && want.iter().zip(have.iter()).all(|((name, pattern), field)| {
                    field.name.as_str() == name && accepts(pattern, &field.ty, false, bindings)
                })
        }
        _ => false,
    }
}

/// True if an argument may be cast to a parameter's type without being asked to.
pub fn widens(from: &SqlType, to: &SqlType) -> bool {
    use SqlType as T;
    match (from, to) {
        (T::Int, T::BigInt | T::Decimal(..) | T::Double) => true,
        (T::BigInt, T::Decimal(..) | T::Double) | (T::Decimal(..), T::Double) => true,
        (T::String, T::Time | T::Date | T::Timestamp | T::Bytes) => true,
        (T::Array(a), T::Array(b)) => a == b || widens(a, b),
        (T::Map(k, v), T::Map(l, w)) => (k == l || widens(k, l)) && (v == w || widens(v, w)),
        _ => false,
    }
}

/// The type that the pattern stands for, for an argument of type `given` (`None`: the NULL literal or a result).
///
/// # Errors
/// The generic letter that no argument has bound.
pub fn target(pattern: &Pattern, given: Option<&SqlType>, bindings: &Bindings) -> Result<SqlType, char> {
    Ok(match pattern {
        Pattern::Exact(ty) => ty.clone(),
        Pattern::Generic(letter) => bindings.get(letter).cloned().ok_or(*letter)?,
        Pattern::Decimal => match given {
            Some(SqlType::Int) => SqlType::Decimal(10, 0),
            Some(SqlType::BigInt) => SqlType::Decimal(19, 0),
            Some(ty) => ty.clone(),
            None => SqlType::Decimal(38, 0),
        },
        Pattern::Array(item) => {
            let given = match given {
                Some(SqlType::Array(given)) => Some(given.as_ref()),
                _ => None,
            };
            SqlType::Array(Box::new(target(item, given, bindings)?))
        }
        Pattern::Map(key, value) => {
            let (k, v) = match given {
                Some(SqlType::Map(k, v)) => (Some(k.as_ref()), Some(v.as_ref())),
                _ => (None, None),
            };
            SqlType::Map(Box::new(target(key, k, bindings)?), Box::new(target(value, v, bindings)?))
        }
        Pattern::Struct(fields) => SqlType::Struct(
            fields
                .iter()
                .map(|(name, p)| Ok(SqlField { name: name.as_str().into(), ty: target(p, None, bindings)? }))
                .collect::<Result<_, char>>()?,
        ),
        Pattern::Unit => SqlType::String,
        Pattern::Lambda(_, result) => target(result, None, bindings)?,
    })
}
