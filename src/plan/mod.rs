//! What shall run: the logical plan (DataFusion's, with our nodes), and the topology it is lowered to.
//!
//! Pure data and pure functions: no I/O, no threads. The walk of a query: the analyzer builds a `LogicalPlan` of [`nodes`]; [`rules`] make it
//! cheaper, [`lower()`] prunes columns, cuts it at repartitions and gives a [`topology::Topology`], which the runtime walks and EXPLAIN prints.

pub mod explain;
pub mod foreign_key;
pub mod lookup;
pub mod lower;
pub mod nodes;
pub mod read;
pub mod rules;
pub mod topology;

pub use lower::{Lowering, lower};
