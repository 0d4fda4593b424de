//! Text to tree and back: statements, queries, expressions and types of the dialect.

pub mod ast;
