//! From the tree of a statement to its meaning: names, types and functions settled.

pub mod expr;
mod expr_call;
mod expr_coerce;
mod expr_collection;
pub mod expr_constant;
mod expr_operator;
#[cfg(test)]
mod expr_tests;
pub mod scope;
