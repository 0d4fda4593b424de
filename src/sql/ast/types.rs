//! Types as DDL and CAST write them.
//!
//! Not resolved: a name that is no type of the dialect stays a name, for the analyzer to look up among the custom types.

use super::{Ident, Loc};
use crate::diagnostic::Span;
use crate::types::SqlType;

/// A type as written.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl TypeName {
    /// A type at a place.
    pub fn new(kind: TypeKind, span: Span) -> Self {
        Self { kind, loc: Loc(span) }
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.loc.0
    }
}
