//! Rows into a source's topic: INSERT … VALUES, and rows given as JSON objects.
//!
//! Encodes with the source's own formats and commits once for all rows of a statement. The subtle thing: a row whose values are all NULL is
//! not a tombstone; only an unwrapped single NULL is, because the format writes it so.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray};
use datafusion::scalar::ScalarValue;

use crate::analyzer::AnalysisContext;
use crate::analyzer::expr_constant::bind_constant;
use crate::catalog::Source;
use crate::diagnostic::{Diagnostic, Span};
use crate::format::{self, Format, Side};
use crate::sql::ast::InsertValues;
use crate::topic::partitioner::partition_for;
use crate::topic::{Append, Commit, Log, NO_TIMESTAMP, TopicPartition};
use crate::types::{Column, ColumnRole, SqlType, pseudo};

/// Values of one row by column index of the schema, and its row time.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// schema column index → value; absent: NULL
    pub values: BTreeMap<usize, ScalarValue>,
    /// ROWTIME, if given, in ms
    pub rowtime: Option<i64>,
}

/// Refuses targets that take no rows.
///
/// # Errors
/// Says why.
pub fn check_target(source: &Source, at: Span) -> Result<(), Diagnostic> {
    let refuse = |text: String| Err(Diagnostic::user(text).at(at));
    if source.read_only {
        return refuse(format!("Cannot insert values into read-only {}: {}", source.kind.word(), source.name));
    }
    if source.window.is_some() {
        return refuse(format!("Cannot insert values into windowed stream/table: {}", source.name));
    }
    if source.schema.headers().next().is_some() {
        return refuse(format!("Cannot insert into {} because it has header columns", source.name));
    }
    if source.topic.as_str().starts_with("_confluent") {
        return refuse(format!("Cannot insert values into read-only topic: {}", source.topic));
    }
    Ok(())
}

/// The rows of an INSERT … VALUES statement.
///
/// # Errors
/// Columns that are not there, values that do not fit, keys that miss.
pub fn rows(statement: &InsertValues, source: &Source, ctx: &AnalysisContext<'_>) -> Result<Vec<Row>, Diagnostic> {
    check_target(source, statement.target.span())?;
    let targets = targets(statement, source)?;
    let mut rows = Vec::new();
    for values in &statement.rows {
        if values.len() != targets.len() {
            let at = values.first().map_or(statement.target.span(), |v| v.span());
            return Err(Diagnostic::user(format!(
                "Expected a value for each column. Expected Columns: {}. Got {} values",
                names(&targets, source),
                values.len()
            ))
            .at(at));
        }
        let mut row = Row::default();
        for (target, value) in targets.iter().zip(values) {
            match target {
                Some(index) => {
                    let column = &source.schema.columns()[*index];
                    let custom = |name: &str| ctx.catalog.types().get(name).cloned();
                    let scalar = bind_constant(value, &column.ty, column.name.as_str(), ctx.registry, &custom)?;
                    row.values.insert(*index, scalar);
                }
                None => {
                    let scalar = bind_constant(value, &SqlType::BigInt, pseudo::ROWTIME, ctx.registry, &|_| None)?;
                    let ScalarValue::Int64(time) = scalar else { continue };
                    if time.is_some_and(|t| t < 0) {
                        return Err(Diagnostic::user("ROWTIME cannot be negative").at(value.span()));
                    }
                    row.rowtime = time;
                }
            }
        }
        check_key(&row, source).map_err(|e| e.at(statement.target.span()))?;
        rows.push(row);
    }
    Ok(rows)
}

/// Column indices in the order of the values; `None` is ROWTIME.
fn targets(statement: &InsertValues, source: &Source) -> Result<Vec<Option<usize>>, Diagnostic> {
    if statement.columns.is_empty() {
        return Ok((0..source.schema.columns().len()).map(Some).collect());
    }
    let mut out: Vec<Option<usize>> = Vec::new();
    for column in &statement.columns {
        let name = column.as_str();
        let target = match name {
            pseudo::ROWTIME => None,
            pseudo::ROWPARTITION | pseudo::ROWOFFSET => {
                return Err(
                    Diagnostic::user(format!("Inserting into column `{name}` is not allowed.")).at(column.span())
                );
            }
            _ => Some(source.schema.index_of(name).ok_or_else(|| {
                let error = Diagnostic::user(format!("Column name `{name}` does not exist.")).at(column.span());
                match crate::diagnostic::suggest(name, source.schema.columns().iter().map(|c| c.name.as_str())) {
                    Some(near) => error.help(format!("did you mean {near}?")),
                    None => error.help(format!("{} has the columns {}", source.name, source.schema)),
                }
            })?),
        };
        if out.contains(&target) {
            return Err(Diagnostic::user(format!("Column `{name}` is named twice")).at(column.span()));
        }
        out.push(target);
    }
    Ok(out)
}

fn names(targets: &[Option<usize>], source: &Source) -> String {
    let name =
        |t: &Option<usize>| t.map_or(pseudo::ROWTIME.to_owned(), |i| source.schema.columns()[i].name.to_string());
    targets.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Rows of tables need all parts of their key.
///
/// # Errors
/// Names the missing parts.
pub fn check_key(row: &Row, source: &Source) -> Result<(), Diagnostic> {
    if !source.is_table() {
        return Ok(());
    }
    let missing = |i: &usize| row.values.get(i).is_none_or(ScalarValue::is_null);
    let absent: Vec<_> =
        (0..source.schema.key_count()).filter(missing).map(|i| source.schema.columns()[i].name.to_string()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::user(format!("Value for primary key column(s) {} is required for tables", absent.join(", "))))
}

/// Encodes and appends rows, all or none.
///
/// # Errors
/// A value the format cannot write; what the log says.
pub fn append(source: &Source, rows: &[Row], log: &Arc<dyn Log>) -> Result<(), Diagnostic> {
    let columns = source.schema.columns();
    let arrays = columns.iter().enumerate().map(|(i, c)| array(rows, i, c)).collect::<Result<Vec<_>, _>>()?;
    let times: Vec<i64> = rows.iter().map(|r| r.rowtime.unwrap_or(NO_TIMESTAMP)).collect();
    append_columns(source, &arrays, &times, log)
}

/// Encodes and appends rows given as columns of the source's schema, with their row times in ms; all or none.
///
/// # Errors
/// A value the format cannot write; what the log says.
pub fn append_columns(
    source: &Source,
    arrays: &[ArrayRef],
    times: &[i64],
    log: &Arc<dyn Log>,
) -> Result<(), Diagnostic> {
    let columns = source.schema.columns();
    let side = |role: &ColumnRole| -> (Vec<Column>, Vec<ArrayRef>) {
        let pairs = columns.iter().zip(arrays).filter(|(c, _)| c.role == *role);
        pairs.map(|(c, a)| (c.clone(), a.clone())).unzip()
    };
    let (key_columns, key_arrays) = side(&ColumnRole::Key);
    let (value_columns, value_arrays) = side(&ColumnRole::Value);
    let keys = if key_columns.is_empty() || source.key_format.format == Format::None {
        BinaryArray::new_null(times.len())
    } else {
        encode(&source.key_format, Side::Key, &key_columns, &key_arrays)?
    };
    let values = encode(&source.value_format, Side::Value, &value_columns, &value_arrays)?;
    log.commit(Commit { outputs: spread(source, times, &keys, &values, log)?, ..Commit::default() })?;
    Ok(())
}

fn array(rows: &[Row], index: usize, column: &Column) -> Result<ArrayRef, Diagnostic> {
    let null = || ScalarValue::try_from(&column.ty.to_arrow());
    let scalars = rows
        .iter()
        .map(|r| r.values.get(&index).cloned().map_or_else(null, Ok))
        .collect::<Result<Vec<_>, _>>()
        .map_err(crate::analyzer::relation::internal)?;
    ScalarValue::iter_to_array(scalars).map_err(crate::analyzer::relation::internal)
}

fn encode(
    spec: &format::FormatSpec,
    side: Side,
    columns: &[Column],
    arrays: &[ArrayRef],
) -> Result<BinaryArray, Diagnostic> {
    let mut encoder = format::encoder(spec, side, columns)?;
    let rows = arrays.first().map_or(0, |a| a.len());
    super::encoded(encoder.encode(arrays, None, rows))
        .map_err(|reason| Diagnostic::user(format!("row cannot be written as {}: {reason}", spec.format)))
}

/// Groups rows by their partition, in order.
fn spread(
    source: &Source,
    times: &[i64],
    keys: &BinaryArray,
    values: &BinaryArray,
    log: &Arc<dyn Log>,
) -> Result<Vec<Append>, Diagnostic> {
    let partitions = log.describe(&source.topic)?.map_or(source.partitions, |t| t.partitions).max(1);
    let mut by_partition: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for row in 0..keys.len() {
        // Rows without key go round.
        let partition = if keys.is_null(row) {
            (row as i32).rem_euclid(partitions)
        } else {
            partition_for(keys.value(row), partitions)
        };
        by_partition.entry(partition).or_default().push(row);
    }
    let pick = |from: &BinaryArray, rows: &[usize]| {
        rows.iter().map(|&i| (!from.is_null(i)).then(|| from.value(i))).collect::<BinaryArray>()
    };
    Ok(by_partition
        .into_iter()
        .map(|(partition, rows)| Append {
            to: TopicPartition { topic: source.topic.clone(), partition },
            timestamps: rows.iter().map(|&i| times[i]).collect(),
            keys: pick(keys, &rows),
            values: pick(values, &rows),
            headers: None,
        })
        .collect())
}
