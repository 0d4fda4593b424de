//! Foreign-key joins: two tables, the left one joined by an expression that is not its key.
//!
//! Decides when a join is one, what the reference refuses of it (statements.md §8), and its key: that of the left table. The subtle thing:
//! the tables need not be co-partitioned, so nothing is said about partitions and key formats.

use arrow::datatypes::Schema;

use super::join::{Criteria, is_key, kind_of};
use super::relation::{RelRole, Relation, column, internal};
use super::select::Selected;
use crate::diagnostic::Diagnostic;
use crate::plan::nodes::{Shape, StreamNode, StreamOp, arrow_schema_of};
use crate::plan::topology::JoinKind;
use crate::sql::ast;
use crate::types::pseudo;

/// True if the join of two tables is by the right one's key, and not by the left one's.
pub fn applies(left: &Relation, right: &Relation, on: &Criteria) -> bool {
    left.is_table && right.is_table && is_key(right, &on.right) && !is_key(left, &on.left)
}

/// Checks that the SELECT list has the whole key of a foreign-key join.
///
/// # Errors
/// Names the columns that are missing.
pub fn check_keys(columns: &[Selected], relation: &Relation) -> Result<(), Diagnostic> {
    let missing: Vec<String> = relation
        .key
        .iter()
        .filter(|part| !columns.iter().any(|c| c.expr == column(&part.physical)))
        .map(|part| format!("`{}`", part.label))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let table = relation.sources.first().map_or("", |(_, source)| source.name.as_str());
    let s = if missing.len() > 1 { "s" } else { "" };
    let list = missing.join(", ");
    Err(Diagnostic::user(format!(
        "Primary key column{s} missing in projection. For foreign-key table-table joins, the projection must include all primary key \
         columns from the left input table (`{table}`). Missing column{s}: {list}."
    ))
    .help(format!("add {list} to the SELECT list")))
}

/// The join; [`applies`] says that it is one.
///
/// # Errors
/// What the reference refuses: later joins of several, windowed tables, RIGHT and FULL.
pub fn join(
    left: Relation,
    right: Relation,
    on: &Criteria,
    clause: &ast::Join,
    prefix: String,
) -> Result<Relation, Diagnostic> {
    let refuse = |text: String, help: &str| Err(Diagnostic::user(text).at(on.left_ast.span()).help(help));
    if left.is_join() {
        if left.key.len() > 1 {
            return Err(Diagnostic::user("JOINs are not supported with multiple key columns").at(clause.on.span()));
        }
        return refuse(
            format!(
                "Invalid join condition: foreign-key table-table joins are not supported as part of n-way joins. Got {} = {}.",
                super::sql_text(&on.left_ast),
                super::sql_text(&on.right_ast)
            ),
            "let the foreign-key join be the first, or make a table of the joins before it with CREATE TABLE … AS SELECT",
        );
    }
    if left.window.is_some() || right.window.is_some() {
        let text = "Foreign-key table-table joins are not supported on windowed tables.";
        return refuse(text.to_owned(), "join tables without a window");
    }
    let kind = kind_of(clause.kind);
    if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
        return refuse(
            format!("Invalid join type: {kind} OUTER JOIN on a foreign key is not supported"),
            "use INNER or LEFT JOIN; or join on the primary keys of both tables",
        );
    }
    let partition = left.columns.iter().find(|c| c.role == RelRole::Pseudo && c.name == pseudo::ROWPARTITION);
    let partition = partition.map(|c| c.physical.clone()).ok_or_else(|| internal("a table without ROWPARTITION"))?;
    let fields = [&left.plan, &right.plan].map(|plan| arrow_schema_of(plan).fields().to_vec()).concat();
    let shape = Shape { key_count: left.key.len(), is_table: true, window: None };
    let op = StreamOp::ForeignKeyJoin { kind, prefix, foreign_key: on.left.expr.clone(), partition };
    let plan = StreamNode::plan(op, vec![left.plan.clone(), right.plan.clone()], Schema::new(fields), shape)
        .map_err(internal)?;
    let mut columns = left.columns.clone();
    columns.extend(right.columns);
    let mut sources = left.sources.clone();
    sources.extend(right.sources);
    Ok(Relation { plan, columns, sources, foreign_key: true, ..left })
}
