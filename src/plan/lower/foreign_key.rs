//! Foreign-key joins as two sub-topologies with two internal topics between them.
//!
//! The right one takes what left tasks tell, the left one goes on with the query. The subtle thing: neither topic is a repartition: what is
//! told is partitioned as the right table is, answers go back to the very task that asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{Builder, Built, LowerError, Wish, routing_format, to_column};
use crate::format::{Format, FormatSpec};
use crate::plan::foreign_key::ForeignKeySpec;
use crate::plan::nodes::{StreamNode, StreamOp};
use crate::plan::topology::{InputSpec, InternalTopic, OperatorSpec, Port};
use crate::types::Column;

impl Builder<'_> {
    /// Builds both sides; what comes out is the left one.
    pub(super) fn foreign_key_join(&mut self, node: &StreamNode, wish: &Wish) -> Result<Built, LowerError> {
        let StreamOp::ForeignKeyJoin { kind, prefix, foreign_key, partition } = &node.op else {
            return Err("a foreign-key join".into());
        };
        let mut columns = wish.columns.clone();
        columns.extend(foreign_key.column_refs().into_iter().map(|column| column.name.clone()));
        columns.insert(partition.clone());
        let mut left = self.build(&node.inputs[0], &plain(columns))?;
        let right = self.build(&node.inputs[1], &plain(wish.columns.clone()))?;
        let spec = Arc::new(ForeignKeySpec {
            kind: *kind,
            left_store: format!("{prefix}KafkaTopic_Left-Reduce"),
            right_store: format!("{prefix}KafkaTopic_Right-Reduce"),
            subscription_store: format!("{prefix}ForeignKeyJoin-Subscriptions"),
            left_keys: left.key_count,
            partition: left.schema.index_of(partition).map_err(|e| e.to_string())?,
            left: left.schema.clone(),
            right: right.schema.clone(),
            foreign_key: foreign_key.clone(),
        });
        let (told, answers) = (spec.subscription_schema(), spec.answer_schema());
        let right_key = key_format_of(&right.sub.inputs);
        let registration = self.internal_topic(
            &format!("{prefix}ForeignKeyJoin-registration"),
            right.sub.partitions,
            &told,
            1,
            right_key,
        )?;
        let response = format!("{prefix}ForeignKeyJoin-response");
        let json = FormatSpec::new(Format::Json);
        let response = self.internal_topic(&response, left.sub.partitions, &answers, spec.left_keys, json)?;
        self.subs.push(right_side(right, &spec, registration, response, told.clone()).sub);

        let left_port = left.port;
        left.sub.inputs.push(InputSpec::Repartition { topic: response, schema: answers });
        let answers_port = Port::Input(left.sub.inputs.len() - 1);
        let schema = spec.result_schema();
        left.push(
            OperatorSpec::ForeignKeyLeft(spec.clone()),
            vec![left_port, answers_port],
            schema.clone(),
            spec.left_keys,
        );
        let Port::Node(join) = left.port else { return Err("a join that is no node".into()) };
        let tell = OperatorSpec::Repartition { topic: registration, drop_null_keys: false, drop_absent: false };
        left.push(tell, vec![Port::Side(join)], told, 1);
        (left.port, left.schema, left.key_count) = (Port::Node(join), schema.clone(), spec.left_keys);
        left.is_table = true;
        if wish.keep || wish.old {
            let store = format!("{prefix}Join-Materialize");
            let op = OperatorSpec::Upsert { store, emit_old: wish.old, keep: wish.keep };
            left.push(op, vec![Port::Node(join)], schema, spec.left_keys);
        }
        Ok(left)
    }

    fn internal_topic(
        &mut self,
        role: &str,
        partitions: i32,
        schema: &SchemaRef,
        key_count: usize,
        key_format: FormatSpec,
    ) -> Result<usize, LowerError> {
        let columns: Vec<Column> = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, field)| to_column(field, i < key_count))
            .collect::<Result<_, _>>()?;
        let key_format = routing_format(&key_format, &columns[..key_count]);
        let name = format!("{}-{role}", self.options.group).into();
        self.internal.push(InternalTopic { name, partitions, schema: columns, key_count, key_format });
        Ok(self.internal.len() - 1)
    }
}

fn plain(columns: BTreeSet<String>) -> Wish {
    Wish { columns, old: false, keep: false }
}

fn right_side(
    mut right: Built,
    spec: &Arc<ForeignKeySpec>,
    registration: usize,
    response: usize,
    told: SchemaRef,
) -> Built {
    let table = right.port;
    right.sub.inputs.push(InputSpec::Repartition { topic: registration, schema: told });
    let told = Port::Input(right.sub.inputs.len() - 1);
    let answers = spec.answer_schema();
    right.push(OperatorSpec::ForeignKeyRight(spec.clone()), vec![told, table], answers.clone(), spec.left_keys);
    let answer = OperatorSpec::Answer { topic: response, partition: spec.left_keys };
    right.push(answer, vec![right.port], answers, spec.left_keys);
    right
}

/// The key format of the first source among the inputs, by which its records are partitioned.
fn key_format_of(inputs: &[InputSpec]) -> FormatSpec {
    let format = inputs.iter().find_map(|input| match input {
        InputSpec::Source(source) => Some(source.key_format.clone()),
        InputSpec::Repartition { .. } => None,
    });
    format.unwrap_or_else(|| FormatSpec::new(Format::Json))
}
