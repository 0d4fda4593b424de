//! Types of DDL and CAST.
//!
//! Resolves the dialect's own names and leaves others as names of custom types. The subtle thing: lengths in
//! parentheses are taken and dropped, as in `VARCHAR(20)`, but for DECIMAL, which needs its two.

use super::ast::{FieldDef, Ident, TypeKind, TypeName};
use super::keyword::is_reserved;
use super::lexer::TokenKind;
use super::parser::{Parser, Parsing};
use crate::diagnostic::Diagnostic;
use crate::types::SqlType;

/// The most digits that a DECIMAL may have.
const MAX_PRECISION: u64 = 76;

/// Names of types without parts.
const BUILTIN: [(&str, SqlType); 12] = [
    ("BIGINT", SqlType::BigInt),
    ("BOOLEAN", SqlType::Boolean),
    ("BYTES", SqlType::Bytes),
    ("DATE", SqlType::Date),
    ("DOUBLE", SqlType::Double),
    ("INT", SqlType::Int),
    ("INTEGER", SqlType::Int),
    ("STRING", SqlType::String),
    ("TIME", SqlType::Time),
    ("TIMESTAMP", SqlType::Timestamp),
    ("VARCHAR", SqlType::String),
    ("DECIMAL", SqlType::Decimal(1, 0)),
];

impl Parser<'_> {
    /// Any type.
    pub(super) fn type_name(&mut self) -> Parsing<TypeName> {
        self.nested(|p| {
            let start = p.start();
            let mut ty = p.plain_type()?;
            let mut arrays = 0;
            while p.at_word("ARRAY") {
                arrays += 1;
                if arrays > 8 {
                    return Err(p.too_deep(p.token().span));
                }
                p.advance();
                ty = TypeName::new(TypeKind::Array(Box::new(ty)), p.since(start));
            }
            Ok(ty)
        })
    }

    fn plain_type(&mut self) -> Parsing<TypeName> {
        let start = self.start();
        let bracket = self.ahead(1).is_symbol("<");
        let kind = if self.at_word("ARRAY") && bracket {
            self.array_type()?
        } else if self.at_word("MAP") && bracket {
            self.map_type()?
        } else if self.at_word("STRUCT") && (bracket || self.ahead(1).is_symbol("<>")) {
            self.struct_type()?
        } else {
            self.named_type()?
        };
        Ok(TypeName::new(kind, self.since(start)))
    }

    fn array_type(&mut self) -> Parsing<TypeKind> {
        self.expect("ARRAY")?;
        self.expect_symbol("<")?;
        let item = Box::new(self.type_name()?);
        self.expect_symbol(">")?;
        Ok(TypeKind::Array(item))
    }

    fn map_type(&mut self) -> Parsing<TypeKind> {
        self.expect("MAP")?;
        self.expect_symbol("<")?;
        let key = Box::new(self.type_name()?);
        self.expect_symbol(",")?;
        let value = Box::new(self.type_name()?);
        self.expect_symbol(">")?;
        Ok(TypeKind::Map(key, value))
    }

    fn struct_type(&mut self) -> Parsing<TypeKind> {
        self.expect("STRUCT")?;
        if self.accept_symbol("<>") {
            return Ok(TypeKind::Struct(Vec::new()));
        }
        self.expect_symbol("<")?;
        if self.accept_symbol(">") {
            return Ok(TypeKind::Struct(Vec::new()));
        }
        let fields = self.list(|p| {
            let name = p.name("the name of a field")?;
            Ok(FieldDef { name, ty: p.type_name()? })
        })?;
        self.expect_symbol(">")?;
        Ok(TypeKind::Struct(fields))
    }

    fn named_type(&mut self) -> Parsing<TypeKind> {
        let token = self.token();
        let name = if token.is_word("DECIMAL") && is_reserved(token.text) {
            let span = self.advance();
            Ident::new("DECIMAL", span)
        } else {
            self.name("a type")?
        };
        let lengths = if self.at_symbol("(") { self.parenthesized(Self::type_length)? } else { Vec::new() };
        match BUILTIN.iter().find(|(known, _)| *known == name.name) {
            Some((_, SqlType::Decimal(..))) => decimal(&name, &lengths).map(TypeKind::Builtin),
            Some((_, ty)) => Ok(TypeKind::Builtin(ty.clone())),
            None => Ok(TypeKind::Custom(name)),
        }
    }

    /// A whole number, or the word STRING, which is no length.
    fn type_length(&mut self) -> Parsing<Option<u64>> {
        if self.accept("STRING") {
            return Ok(None);
        }
        if self.token().kind != TokenKind::Number {
            return Err(self.expected("a whole number or STRING"));
        }
        self.count("the length of a type").map(|length| Some(length.count))
    }
}

fn decimal(name: &Ident, lengths: &[Option<u64>]) -> Parsing<SqlType> {
    let error = |message: String| Diagnostic::user(message).at(name.span()).help("write DECIMAL(precision, scale)");
    let [Some(precision), Some(scale)] = *lengths else {
        return Err(error("DECIMAL needs a precision and a scale".to_owned()));
    };
    if precision < 1 {
        return Err(error(format!("DECIMAL precision must be >= 1: DECIMAL({precision},{scale})")));
    }
    if scale > precision {
        return Err(error(format!("DECIMAL precision must be >= scale: DECIMAL({precision},{scale})")));
    }
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(p), Ok(s)) if precision <= MAX_PRECISION => Ok(SqlType::Decimal(p, s)),
        _ => Err(error(format!("DECIMAL precision must be <= {MAX_PRECISION}: DECIMAL({precision},{scale})"))),
    }
}
