//! What pull queries read: the committed state of a query, as of one moment.
//!
//! Never touches a worker's memory: each partition is an overlay of committed changelog blocks over the keyed store behind, and a view
//! of it does not change. The subtle thing: the operators after the store (HAVING, the projection) run again on every read.
