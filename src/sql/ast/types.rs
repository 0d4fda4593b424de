//! Types as DDL and CAST write them.
//!
//! Not resolved: a name that is no type of the dialect stays a name, for the analyzer to look up among the custom types.

use std::fmt;

use super::{Ident, Loc};
use crate::diagnostic::{Diagnostic, Span, suggest};
use crate::types::{SqlField, SqlType};

/// The dialect's own types: names without parts, then those with.
const NAMES: [&str; 15] = [
    "BIGINT",
    "BOOLEAN",
    "BYTES",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "INT",
    "INTEGER",
    "STRING",
    "TIME",
    "TIMESTAMP",
    "VARCHAR",
    "ARRAY",
    "MAP",
    "STRUCT",
];

/// A type as written.
#[derive(Clone, PartialEq, Eq)]
pub struct TypeName {
    /// which
    pub kind: TypeKind,
    /// where it stands
    pub loc: Loc,
}

/// Which type was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// a type without parts, and DECIMAL(p, s) with 1 ≤ p ≤ 76 and s ≤ p; never an ARRAY, MAP or STRUCT
    Builtin(SqlType),
    /// `ARRAY<t>` or `t ARRAY`
    Array(Box<TypeName>),
    /// `MAP<k, v>`
    Map(Box<TypeName>, Box<TypeName>),
    /// `STRUCT<name t, …>`; may be empty
    Struct(Vec<FieldDef>),
    /// the name of a custom type, if there is one
    Custom(Ident),
}

/// A field of a STRUCT type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDef {
    /// its name
    pub name: Ident,
    /// its type
    pub ty: TypeName,
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.kind, self.loc)
    }
}

impl TypeName {
    /// A type at a place.
    pub fn new(kind: TypeKind, span: Span) -> Self {
        Self { kind, loc: Loc(span) }
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }

    /// The type that is meant, with `custom` to look up names of custom types.
    ///
    /// # Errors
    /// A name that is no type, at its place.
    pub fn resolve(&self, custom: &dyn Fn(&str) -> Option<SqlType>) -> Result<SqlType, Diagnostic> {
        match &self.kind {
            TypeKind::Builtin(ty) => Ok(ty.clone()),
            TypeKind::Array(item) => Ok(SqlType::Array(Box::new(item.resolve(custom)?))),
            TypeKind::Map(key, value) => {
                Ok(SqlType::Map(Box::new(key.resolve(custom)?), Box::new(value.resolve(custom)?)))
            }
            TypeKind::Struct(fields) => {
                let field = |f: &FieldDef| Ok(SqlField { name: f.name.as_str().into(), ty: f.ty.resolve(custom)? });
                fields.iter().map(field).collect::<Result<_, _>>().map(SqlType::Struct)
            }
            TypeKind::Custom(name) => custom(name.as_str()).ok_or_else(|| unknown_type(name)),
        }
    }
}

fn unknown_type(name: &Ident) -> Diagnostic {
    let error = Diagnostic::user(format!("Cannot resolve unknown type: {}", name.name)).at(name.span());
    match suggest(name.as_str(), NAMES) {
        Some(known) => error.help(format!("did you mean '{known}'?")),
        None => error.help("use a type of the dialect, or make this one with CREATE TYPE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_schema;

    #[test]
    fn types_resolve_with_custom_names_at_any_depth() {
        let columns = parse_schema("a MAP<STRING, ARRAY<STRUCT<`b` id, c DECIMAL(4, 2)>>>").expect("is a schema");
        let ty = columns[0].ty.resolve(&|name| (name == "ID").then_some(SqlType::BigInt));
        let field = |name: &str, ty| SqlField { name: name.into(), ty };
        let fields = [field("b", SqlType::BigInt), field("C", SqlType::Decimal(4, 2))];
        let array = SqlType::Array(Box::new(SqlType::Struct(fields.into())));
        assert_eq!(ty, Ok(SqlType::Map(Box::new(SqlType::String), Box::new(array))));
    }

    #[test]
    fn an_unknown_type_is_named_at_its_place() {
        let columns = parse_schema("a ARRAY<BOOLAEN>").expect("is a schema");
        let error = columns[0].ty.resolve(&|_| None).expect_err("no such type");
        assert_eq!((error.message.as_str(), error.span), ("Cannot resolve unknown type: BOOLAEN", Span::new(8..15)));
        assert_eq!(error.help.as_deref(), Some("did you mean 'BOOLEAN'?"));
    }
}
