//! From the tree of a statement to its meaning: names, types and functions settled.

pub mod expr;
#[cfg(test)]
mod expr_binding_tests;
mod expr_call;
mod expr_coerce;
mod expr_collection;
pub mod expr_constant;
#[cfg(test)]
mod expr_function_tests;
mod expr_operator;
#[cfg(test)]
mod expr_tests;
pub mod scope;
