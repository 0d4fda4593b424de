//! What both sides of a foreign-key join must agree on: their columns, and those of the topics between them.
//!
//! Lowering makes it, the two operators read it. The subtle thing: the left row's task is named in the messages, by its partition, so that
//! answers find back whoever wrote the left topic and by whichever partitioner.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::Expr;

use super::topology::JoinKind;

/// A join of a left table, whose rows refer to rows of a right table by that one's primary key.
///
/// Its result has the left table's key, then the other columns of the left table, then all of the right one; the right ones are NULL where
/// there is no such row.
#[derive(Clone, Debug)]
pub struct ForeignKeySpec {
    /// INNER or LEFT
    pub kind: JoinKind,
    /// store of the left rows
    pub left_store: String,
    /// store of the right rows
    pub right_store: String,
    /// store of who refers to which right row, at the right rows' tasks
    pub subscription_store: String,
    /// columns of the left table, key columns first
    pub left: SchemaRef,
    /// how many of them are the key
    pub left_keys: usize,
    /// which of them is the number of the row's partition
    pub partition: usize,
    /// columns of the right table; the first one is the key
    pub right: SchemaRef,
    /// the reference, over the left columns
    pub foreign_key: Expr,
}

impl ForeignKeySpec {
    /// What left tasks tell right ones: the foreign key, the left key, the left row's partition and version, and what is to be done.
    pub fn subscription_schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new("$foreign_key", self.right.field(0).data_type().clone(), true)];
        fields.extend(self.left_key_fields());
        fields.push(Field::new("$partition", DataType::Int32, true));
        fields.push(Field::new("$version", DataType::Int64, true));
        fields.push(Field::new("$instruction", DataType::Int32, true));
        Arc::new(Schema::new(fields))
    }

    /// What right tasks answer: the left key, the left row's partition and version, the right row.
    pub fn answer_schema(&self) -> SchemaRef {
        let mut fields = self.left_key_fields();
        fields.push(Field::new("$partition", DataType::Int32, true));
        fields.push(Field::new("$version", DataType::Int64, true));
        fields.extend(self.right.fields().iter().map(|field| field.as_ref().clone()));
        Arc::new(Schema::new(fields))
    }

    /// Columns of the result.
    pub fn result_schema(&self) -> SchemaRef {
        let fields = self.left.fields().iter().chain(self.right.fields()).cloned();
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn left_key_fields(&self) -> Vec<Field> {
        self.left.fields().iter().take(self.left_keys).map(|field| field.as_ref().clone()).collect()
    }
}
