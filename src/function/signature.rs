//! Signatures of functions: written as text in the tables of the families, read once into patterns over types.
//!
//! Not the choice among overloads (`resolve`). The subtle thing: a pattern is what DESCRIBE FUNCTION prints, so the text of the table is
//! the documentation.

use std::fmt;

use crate::types::SqlType;

/// A pattern over argument types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// exactly this type
    Exact(SqlType),
    /// a DECIMAL of any precision and scale
    Decimal,
    /// one type for all places of the same letter
    Generic(char),
    /// `ARRAY<p>`
    Array(Box<Pattern>),
    /// `MAP<k, v>`
    Map(Box<Pattern>, Box<Pattern>),
    /// `STRUCT<name p, …>`
    Struct(Vec<(String, Pattern)>),
    /// a unit of time
    Unit,
    /// `LAMBDA<p, …, result>`
    Lambda(Vec<Pattern>, Box<Pattern>),
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// its name, for documentation
    pub name: String,
    /// what it takes
    pub pattern: Pattern,
    /// true if any number of arguments may stand here; only the last one
    pub variadic: bool,
}

/// Parameters and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// in order
    pub parameters: Vec<Parameter>,
    /// the result
    pub result: Pattern,
}

impl Signature {
    /// Reads `(name TYPE, name TYPE...) -> TYPE`; `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        reader.expect("(")?;
        let mut parameters = Vec::new();
        while !reader.eat(")") {
            let name = reader.word()?.to_owned();
            let pattern = reader.pattern()?;
            let variadic = reader.eat("...");
            parameters.push(Parameter { name, pattern, variadic });
            reader.eat(",");
        }
        reader.expect("->")?;
        let result = reader.pattern()?;
        reader.rest.trim().is_empty().then_some(Self { parameters, result })
    }

    /// True if the last parameter takes any number of arguments.
    pub fn is_variadic(&self) -> bool {
        self.parameters.last().is_some_and(|p| p.variadic)
    }

    /// How many of its parameters name a generic type.
    pub fn generic_count(&self) -> usize {
        self.parameters.iter().filter(|p| p.pattern.has_generic()).count()
    }

    /// The pattern of the argument at that place, if there may be one.
    pub fn pattern_at(&self, index: usize) -> Option<&Pattern> {
        let last = self.parameters.last().filter(|p| p.variadic);
        self.parameters.get(index).or(last).map(|p| &p.pattern)
    }
}

impl Pattern {
    /// True if a generic type stands in it.
    pub fn has_generic(&self) -> bool {
        match self {
            Self::Generic(_) => true,
            Self::Array(item) => item.has_generic(),
            Self::Map(key, value) => key.has_generic() || value.has_generic(),
            Self::Struct(fields) => fields.iter().any(|(_, p)| p.has_generic()),
            Self::Lambda(params, result) => params.iter().any(Self::has_generic) || result.has_generic(),
            Self::Exact(_) | Self::Decimal | Self::Unit => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(SqlType::String) => f.write_str("VARCHAR"),
            Self::Exact(SqlType::Int) => f.write_str("INT"),
            Self::Exact(ty) => write!(f, "{ty}"),
            Self::Decimal => f.write_str("DECIMAL"),
            Self::Generic(letter) => write!(f, "{letter}"),
            Self::Array(item) => write!(f, "ARRAY<{item}>"),
            Self::Map(key, value) => write!(f, "MAP<{key}, {value}>"),
            Self::Struct(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, p)| format!("{name} {p}")).collect();
                write!(f, "STRUCT<{}>", fields.join(", "))
            }
            Self::Unit => f.write_str("INTERVALUNIT"),
            Self::Lambda(params, result) => {
                let params: Vec<_> = params.iter().map(ToString::to_string).collect();
                write!(f, "LAMBDA ({}) => {result}", params.join(", "))
            }
        }
    }
}

/// As DESCRIBE FUNCTION prints the parameters: `(str VARCHAR, pos INT)`.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, parameter) in self.parameters.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let more = if parameter.variadic { "[]" } else { "" };
            write!(f, "{comma}{} {}{more}", parameter.name, parameter.pattern)?;
        }
        Ok(())
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.eat(token).then_some(())
    }

    fn word(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        self.rest = &text[end..];
        (end > 0).then(|| &text[..end])
    }

    fn pattern(&mut self) -> Option<Pattern> {
        let word = self.word()?;
        Some(match word {
            "BOOLEAN" => Pattern::Exact(SqlType::Boolean),
            "INT" => Pattern::Exact(SqlType::Int),
            "BIGINT" => Pattern::Exact(SqlType::BigInt),
            "DOUBLE" => Pattern::Exact(SqlType::Double),
            "STRING" => Pattern::Exact(SqlType::String),
            "BYTES" => Pattern::Exact(SqlType::Bytes),
            "TIME" => Pattern::Exact(SqlType::Time),
            "DATE" => Pattern::Exact(SqlType::Date),
            "TIMESTAMP" => Pattern::Exact(SqlType::Timestamp),
            "DECIMAL" => Pattern::Decimal,
            "UNIT" => Pattern::Unit,
            "ARRAY" => {
                let [item] = <[Pattern; 1]>::try_from(self.patterns()?).ok()?;
                Pattern::Array(Box::new(item))
            }
            "MAP" => {
                let [key, value] = <[Pattern; 2]>::try_from(self.patterns()?).ok()?;
                Pattern::Map(Box::new(key), Box::new(value))
            }
            "LAMBDA" => {
                let mut patterns = self.patterns()?;
                let result = patterns.pop()?;
                Pattern::Lambda(patterns, Box::new(result))
            }
            "STRUCT" => Pattern::Struct(self.fields()?),
            letter if letter.len() == 1 => Pattern::Generic(letter.chars().next()?),
            _ => return None,
        })
    }

    fn patterns(&mut self) -> Option<Vec<Pattern>> {
        self.expect("<")?;
        let mut patterns = Vec::new();
        while !self.eat(">") {
            patterns.push(self.pattern()?);
            self.eat(",");
        }
        Some(patterns)
    }

    fn fields(&mut self) -> Option<Vec<(String, Pattern)>> {
        self.expect("<")?;
        let mut fields = Vec::new();
        while !self.eat(">") {
            let name = self.word()?.to_owned();
            fields.push((name, self.pattern()?));
            self.eat(",");
        }
        Some(fields)
    }
}
