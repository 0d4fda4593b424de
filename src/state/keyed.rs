//! placeholder
pub struct KeyedTable;
