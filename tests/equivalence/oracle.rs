//! DataFusion's answer over the rows of a case, as text.
//!
//! Knows nothing of the engine under test. The subtle thing: of DataFusion's optimizer only the simplification runs. With all rules a
//! filter over both sides of an outer join can keep a row that it must drop (seed 1539: `COALESCE(t.k, 8) - COALESCE(t.k, 7) = 0` over a
//! RIGHT JOIN that did not match). Of the physical plan's rules the push-down of projections does not run: it fails on some joins (seed 518).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::draw::{Cell, Source, Type};
use super::query::Case;

/// Names and types of the answer's columns, and its rows as text, sorted.
pub struct Answer {
    pub columns: Vec<(String, DataType)>,
    pub rows: Vec<String>,
}

pub struct Oracle {
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl Oracle {
    pub fn new() -> Self {
        // one context serves all cases: making one costs more than most queries
        let mut physical = PhysicalOptimizer::default().rules;
        physical.retain(|rule| rule.name() != "ProjectionPushdown");
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_physical_optimizer_rules(physical)
            .with_config(SessionConfig::new().with_target_partitions(1))
            .with_optimizer_rules(vec![Arc::new(SimplifyExpressions::new())])
            .build();
        let context = SessionContext::new_with_state(state);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { context, runtime }
    }

    /// The answer of the case's batch query.
    pub fn answer(&self, case: &Case) -> Result<Answer, String> {
        for source in &case.sources {
            let name = format!("{}_raw", source.name);
            self.context.deregister_table(&name).map_err(|e| e.to_string())?;
            self.context.register_batch(&name, batch(source)).map_err(|e| e.to_string())?;
        }
        self.runtime.block_on(self.collect(&case.oracle)).map_err(|e| format!("the oracle refuses: {e}"))
    }

    async fn collect(&self, sql: &str) -> datafusion::error::Result<Answer> {
        let frame = self.context.sql(sql).await?;
        let schema = frame.schema().as_arrow().clone();
        let columns: Vec<(String, DataType)> =
            schema.fields().iter().map(|f| (f.name().to_uppercase(), plain(f.data_type()))).collect();
        let mut rows = Vec::new();
        for batch in frame.collect().await? {
            let arrays: Vec<ArrayRef> = batch
                .columns()
                .iter()
                .zip(&columns)
                .map(|(array, (_, ty))| cast(array, ty))
                .collect::<Result<_, _>>()?;
            let row = |row| arrays.iter().map(|a| cell(a, row)).collect::<Vec<_>>().join(" | ");
            rows.extend((0..batch.num_rows()).map(row));
        }
        rows.sort();
        Ok(Answer { columns, rows })
    }
}

/// One type for all widths.
fn plain(ty: &DataType) -> DataType {
    match ty {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        ty if ty.is_integer() => DataType::Int64,
        ty if ty.is_floating() || ty.is_decimal() => DataType::Float64,
        DataType::List(item) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(plain(item.data_type())).with_nullable(true)))
        }
        other => other.clone(),
    }
}

fn double(value: f64) -> String {
    let text = format!("{value:.6}");
    if text == "-0.000000" { "0.000000".to_owned() } else { text }
}

fn cell(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return if matches!(array.data_type(), DataType::List(_)) { "[]".to_owned() } else { "null".to_owned() };
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Null => "null".to_owned(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let texts: Vec<String> = (0..items.len()).map(|i| cell(&items, i)).collect();
            format!("[{}]", texts.join(", "))
        }
        other => panic!("the oracle answers with {other}"),
    }
}

/// A row of the sink as the oracle's columns show it.
pub fn render_json(value: &serde_json::Value, columns: &[(String, DataType)]) -> String {
    let texts: Vec<String> = columns.iter().map(|(name, ty)| json_cell(&value[name.as_str()], ty)).collect();
    texts.join(" | ")
}

fn json_cell(value: &serde_json::Value, ty: &DataType) -> String {
    match (value, ty) {
        (serde_json::Value::Null, DataType::List(_)) => "[]".to_owned(),
        (serde_json::Value::Null, _) => "null".to_owned(),
        (serde_json::Value::Array(items), DataType::List(item)) => {
            let texts: Vec<String> = items.iter().map(|v| json_cell(v, item.data_type())).collect();
            format!("[{}]", texts.join(", "))
        }
        (serde_json::Value::String(text), _) => format!("{text:?}"),
        (number, DataType::Float64) => number.as_f64().map_or_else(|| format!("{number}, which is no double"), double),
        (other, _) => other.to_string(),
    }
}

/// The rows in order of arrival: `k`, the columns, `rt`, `seq`, `tomb`.
fn batch(source: &Source) -> RecordBatch {
    let cells = |column: usize| -> Vec<Cell> {
        source.rows.iter().map(|r| r.cells.as_ref().map_or(Cell::Null, |cells| cells[column].clone())).collect()
    };
    let keys: Vec<Cell> = source.rows.iter().map(|r| r.key.clone()).collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![("k".to_owned(), column(source.key, &keys))];
    for (i, (name, ty)) in source.columns.iter().enumerate() {
        columns.push((name.clone(), column(*ty, &cells(i))));
    }
    let times: Int64Array = source.rows.iter().map(|r| Some(r.at_ms)).collect();
    columns.push(("rt".to_owned(), Arc::new(times)));
    columns.push(("seq".to_owned(), Arc::new((0..source.rows.len() as i64).map(Some).collect::<Int64Array>())));
    let deleted: BooleanArray = source.rows.iter().map(|r| Some(r.cells.is_none())).collect();
    columns.push(("tomb".to_owned(), Arc::new(deleted)));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns are as long as the rows")
}

fn column(ty: Type, cells: &[Cell]) -> ArrayRef {
    let int = |cell: &Cell| if let Cell::Int(n) = cell { Some(*n) } else { None };
    match ty {
        Type::Int => Arc::new(cells.iter().map(|c| int(c).map(|n| n as i32)).collect::<Int32Array>()),
        Type::BigInt => Arc::new(cells.iter().map(int).collect::<Int64Array>()),
        Type::Double => {
            let double = |cell: &Cell| if let Cell::Double(d) = cell { Some(*d) } else { None };
            Arc::new(cells.iter().map(double).collect::<Float64Array>())
        }
        Type::Decimal => {
            let cents = |cell: &Cell| if let Cell::Double(d) = cell { Some((d * 100.0) as i128) } else { None };
            let array: Decimal128Array = cells.iter().map(cents).collect();
            Arc::new(array.with_precision_and_scale(8, 2).expect("it fits"))
        }
        Type::Text => {
            let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None };
            Arc::new(cells.iter().map(text).collect::<StringArray>())
        }
        Type::Bool => {
            let truth = |cell: &Cell| if let Cell::Bool(b) = cell { Some(*b) } else { None };
            Arc::new(cells.iter().map(truth).collect::<BooleanArray>())
        }
    }
}
