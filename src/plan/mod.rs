//! What shall run: the logical plan (DataFusion's, with our nodes), and the topology it is lowered to.

pub mod topology;
