//! Outcomes without rows as text: messages, lists and descriptions, in the layout of ksqlDB's command line, or as JSON lines.
//!
//! Pure: text out, nothing printed. The subtle thing: as JSON a list is an object an element, a line each, like rows of a query are.

use std::fmt::Write as _;

use comfy_table::{ContentLineStyle, LineStyle, Table, TableStyle};
use serde_json::{Value, json};

use super::Output;
use crate::engine::{
    Description, FunctionDescription, FunctionLine, Outcome, OutcomeKind, QueryDescription, QueryLine,
    SourceDescription, SourceLine, TopicLine,
};
use crate::types::{Column, ColumnRole, LogicalSchema, SqlType};
use crate::wire::entity;
use crate::wire::value::timestamp_text;

const SOURCE_FOOTER: &str = "For runtime statistics and query details run: DESCRIBE <Stream,Table> EXTENDED;\n";
const QUERY_FOOTER: &str = "For detailed information on a Query run: EXPLAIN <Query ID>;\n";
const FUNCTION_FOOTER: &str = "For detailed information about a function, run: DESCRIBE FUNCTION <Function Name>;\n";
/// Bars between cells, rules below the head and the rows.
const LISTS: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction('|'))
    .header_separator(LineStyle::none().fill('-').junction('-'))
    .content_lines(ContentLineStyle::none().junction('|'))
    .bottom_border(LineStyle::none().fill('-').junction('-'));
/// Width of the labels of a description.
const LABEL: usize = 20;

/// What is shown of an outcome; nothing for silent ones.
pub fn outcome_text(outcome: &Outcome, output: Output) -> String {
    if output == Output::Json {
        return json_lines(outcome);
    }
    let body = match &outcome.kind {
        OutcomeKind::Silent | OutcomeKind::Rows(_) | OutcomeKind::Client(_) => String::new(),
        OutcomeKind::Status(status) => message_text(&status.message, output),
        OutcomeKind::Warning(message) => format!("WARNING: {message}\n"),
        OutcomeKind::Description(description) => description_text(description),
    };
    format!("{}{body}", warnings_text(&outcome.warnings, output))
}

/// A message in its table.
pub fn message_text(message: &str, output: Output) -> String {
    match output {
        Output::Table => table(&["Message"], vec![vec![message.to_owned()]]),
        Output::Json => format!("{}\n", json!({ "message": message })),
    }
}

/// Warnings, a line each.
pub fn warnings_text(warnings: &[String], output: Output) -> String {
    warnings
        .iter()
        .map(|warning| match output {
            Output::Table => format!("WARNING: {warning}\n"),
            Output::Json => format!("{}\n", json!({ "warning": warning })),
        })
        .collect()
}

fn json_lines(outcome: &Outcome) -> String {
    let Some(entity) = entity::to_json(outcome) else { return warnings_text(&outcome.warnings, Output::Json) };
    let list = match &outcome.kind {
        OutcomeKind::Description(Description::Streams(_)) => Some("streams"),
        OutcomeKind::Description(Description::Tables(_)) => Some("tables"),
        OutcomeKind::Description(Description::Queries(_)) => Some("queries"),
        OutcomeKind::Description(Description::Topics { .. }) => Some("topics"),
        OutcomeKind::Description(Description::Properties(_)) => Some("properties"),
        OutcomeKind::Description(Description::Functions(_)) => Some("functions"),
        OutcomeKind::Description(Description::Variables(_)) => Some("variables"),
        OutcomeKind::Description(Description::Connectors(_)) => Some("connectors"),
        _ => None,
    };
    match list.and_then(|field| entity[field].as_array()) {
        Some(elements) => {
            let lines: String = elements.iter().map(|element: &Value| format!("{element}\n")).collect();
            format!("{}{lines}", warnings_text(&outcome.warnings, Output::Json))
        }
        None => format!("{entity}\n"),
    }
}

/// A blank line, ` Name | Topic `, a rule, the rows, a rule.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(LISTS);
    table.set_header(head.to_vec());
    table.add_rows(rows);
    format!("\n{table}\n")
}

fn description_text(description: &Description) -> String {
    match description {
        Description::Streams(lines) => source_table("Stream Name", lines),
        Description::Tables(lines) => source_table("Table Name", lines),
        Description::Source(source) => source_text(source),
        Description::Sources(all) => all.iter().map(source_text).collect(),
        Description::Queries(lines) => query_table(lines),
        Description::Query(query) => query_text(query),
        Description::QueryDescriptions(all) => all.iter().map(query_text).collect(),
        Description::Topics { topics, extended } => topic_table(topics, *extended),
        Description::Properties(lines) => {
            let row = |p: &crate::engine::PropertyLine| {
                vec![p.name.clone(), p.scope.clone(), p.overridden_by.clone(), p.value.clone()]
            };
            table(&["Property", "Scope", "Default override", "Effective Value"], lines.iter().map(row).collect())
        }
        Description::Functions(lines) => function_table(lines),
        Description::Function(function) => function_text(function),
        Description::Types(types) => {
            let row = |(name, ty): (&String, &SqlType)| vec![name.clone(), ty.to_string()];
            table(&["Type Name", "Schema"], types.iter().map(row).collect())
        }
        Description::Variables(all) => {
            let row = |(name, value): &(String, String)| vec![name.clone(), value.clone()];
            table(&["Variable Name", "Value"], all.iter().map(row).collect())
        }
        Description::Connectors(all) => {
            let row =
                |[name, ty, class, state]: &[String; 4]| vec![name.clone(), ty.clone(), class.clone(), state.clone()];
            table(&["Connector Name", "Type", "Class", "Status"], all.iter().map(row).collect())
        }
        Description::AssertTopic { topic, exists } => {
            let verb = if *exists { "exists" } else { "does not exist" };
            message_text(&format!("Topic {topic} {verb}."), Output::Table)
        }
        Description::Terminated { query_id, was_terminated } => {
            let verb = if *was_terminated { "was terminated" } else { "was not running" };
            message_text(&format!("Query {query_id} {verb}."), Output::Table)
        }
    }
}

fn source_table(name: &str, lines: &[SourceLine]) -> String {
    let row = |s: &SourceLine| {
        vec![s.name.clone(), s.topic.clone(), s.key_format.clone(), s.value_format.clone(), s.is_windowed.to_string()]
    };
    table(&[name, "Kafka Topic", "Key Format", "Value Format", "Windowed"], lines.iter().map(row).collect())
}

fn query_table(lines: &[QueryLine]) -> String {
    let row = |q: &QueryLine| {
        let mut status = if q.state.is_empty() { String::new() } else { format!("{}:1", q.state) };
        if let Some(restoring) = &q.restoring {
            status = format!("{status} ({restoring})");
        }
        let text = q.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sink = q.sink.clone().unwrap_or_default();
        vec![q.id.clone(), q.query_type.clone(), status, sink, q.sink_topic.clone().unwrap_or_default(), text]
    };
    let head = ["Query ID", "Query Type", "Status", "Sink Name", "Sink Kafka Topic", "Query String"];
    format!("{}{QUERY_FOOTER}", table(&head, lines.iter().map(row).collect()))
}

fn topic_table(topics: &[TopicLine], extended: bool) -> String {
    let mut head = vec!["Kafka Topic", "Partitions", "Partition Replicas"];
    if extended {
        head.extend(["Consumers", "ConsumerGroups"]);
    }
    let row = |t: &TopicLine| {
        let mut row = vec![t.name.clone(), t.partitions.to_string(), t.replicas.to_string()];
        if extended {
            row.extend([t.consumers.0.to_string(), t.consumers.1.to_string()]);
        }
        row
    };
    table(&head, topics.iter().map(row).collect())
}

fn function_table(lines: &[FunctionLine]) -> String {
    let mut sorted: Vec<&FunctionLine> = lines.iter().collect();
    sorted.sort_by_key(|f| (&f.category, &f.name));
    let rows = sorted.into_iter().map(|f| vec![f.name.clone(), f.category.clone()]).collect();
    format!("{}{FUNCTION_FOOTER}", table(&["Function Name", "Category"], rows))
}

/// The name of a type as DESCRIBE shows it: STRING is VARCHAR(STRING).
fn shown_type(ty: &SqlType) -> String {
    match ty {
        SqlType::String => "VARCHAR(STRING)".to_owned(),
        SqlType::Array(item) => format!("ARRAY<{}>", shown_type(item)),
        SqlType::Map(key, value) => {
            format!("MAP<{}, {}>", shown_type(key).replace("VARCHAR(STRING)", "STRING"), shown_type(value))
        }
        SqlType::Struct(fields) => {
            let field = |f: &crate::types::SqlField| format!("{} {}", f.name, shown_type(&f.ty));
            format!("STRUCT<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn field_table(schema: &LogicalSchema, is_table: bool, window_type: Option<&str>) -> String {
    let row = |column: &Column| {
        let role = match (&column.role, is_table, window_type) {
            (ColumnRole::Key, _, Some(window)) => format!(" (key) (Window type: {window})"),
            (ColumnRole::Key, true, None) => " (primary key)".to_owned(),
            (ColumnRole::Key, false, None) => " (key)".to_owned(),
            (ColumnRole::Header(None), ..) => " (headers)".to_owned(),
            (ColumnRole::Header(Some(key)), ..) => format!(" (header('{key}'))"),
            (ColumnRole::Value, ..) => String::new(),
        };
        vec![column.name.to_string(), format!("{}{role}", shown_type(&column.ty))]
    };
    let text = table(&["Field", "Type"], schema.columns().iter().map(row).collect());
    text.trim_start_matches('\n').to_owned()
}

fn label(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:LABEL$} : {value}");
}

fn source_text(source: &SourceDescription) -> String {
    let mut out = String::from("\n");
    let window = source.window_type.as_deref();
    label(&mut out, "Name", &source.name);
    if !source.extended {
        out.push_str(&field_table(&source.schema, source.is_table, window));
        out.push_str(SOURCE_FOOTER);
        return out;
    }
    label(&mut out, "Type", if source.is_table { "TABLE" } else { "STREAM" });
    label(&mut out, "Timestamp field", source.timestamp.as_deref().unwrap_or("Not set - using <ROWTIME>"));
    label(&mut out, "Key format", &source.key_format);
    label(&mut out, "Value format", &source.value_format);
    let topic = format!("{} (partitions: {}, replication: {})", source.topic, source.partitions, source.replication);
    label(&mut out, "Kafka topic", &topic);
    label(&mut out, "Statement", &source.statement);
    out.push('\n');
    out.push_str(&field_table(&source.schema, source.is_table, window));
    if !source.constraints.is_empty() {
        out.push_str("\nSources that have a DROP constraint on this source\n");
        source.constraints.iter().for_each(|name| out.push_str(&format!("{name}\n")));
    }
    for (title, queries) in [("read from", &source.read_queries), ("write to", &source.write_queries)] {
        if !queries.is_empty() {
            let kind = if source.is_table { "TABLE" } else { "STREAM" };
            out.push_str(&format!("\nQueries that {title} this {kind}\n-----------------------------------\n"));
            queries.iter().for_each(|q| out.push_str(&format!("{} ({}) : {}\n", q.id, q.state, q.text)));
        }
    }
    out.push_str(&format!(
        "\nLocal runtime statistics\n------------------------\n{}\n{}\n",
        source.statistics, source.error_stats
    ));
    out.push_str(&offsets_text(source));
    out
}

fn offsets_text(source: &SourceDescription) -> String {
    let mut out = String::new();
    for (group, topics) in &source.offsets {
        out.push_str(&format!("\nConsumer Group       : {group}\n"));
        for (topic, offsets) in topics {
            let row = |o: &crate::engine::OffsetLine| {
                [i64::from(o.partition), o.start, o.end, o.consumed, o.end - o.consumed].map(|n| n.to_string()).to_vec()
            };
            out.push_str(&format!("Kafka topic          : {topic}"));
            let head = ["Partition", "Start Offset", "End Offset", "Offset", "Lag"];
            out.push_str(&table(&head, offsets.iter().map(row).collect()));
        }
    }
    out
}

fn query_text(query: &QueryDescription) -> String {
    let mut out = String::from("\n");
    label(&mut out, "ID", &query.line.id);
    label(&mut out, "Query Type", &query.line.query_type);
    label(&mut out, "SQL", &query.line.text);
    if !query.line.state.is_empty() {
        label(&mut out, "Host Query Status", &query.line.state);
    }
    if !query.schema.columns().is_empty() {
        out.push('\n');
        out.push_str(&field_table(&query.schema, false, query.window_type.as_deref()));
    }
    if !query.sources.is_empty() {
        out.push_str("\nSources that this query reads from: \n-----------------------------------\n");
        query.sources.iter().for_each(|name| out.push_str(&format!("{name}\n")));
    }
    if let Some(sink) = &query.line.sink {
        out.push_str(&format!("\nSinks that this query writes to: \n-----------------------------------\n{sink}\n"));
    }
    out.push_str(&format!("\nExecution plan\n--------------\n{}\n", query.plan.trim_end()));
    out.push_str(&format!("\nProcessing topology\n-------------------\n{}\n", query.topology.trim_end()));
    if !query.properties.is_empty() {
        let rows = query.properties.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
        out.push_str(&format!("\nOverridden Properties{}", table(&["Property", "Value"], rows)));
    }
    if !query.losses.is_empty() {
        let rows = query.losses.iter().map(|(kind, count)| vec![kind.clone(), count.to_string()]).collect();
        out.push_str(&format!("\nLost records{}", table(&["Reason", "Records"], rows)));
    }
    if !query.errors.is_empty() {
        let row = |(time, class, message): &(i64, String, String)| {
            vec![timestamp_text(*time), class.clone(), message.clone()]
        };
        let rows = query.errors.iter().map(row).collect();
        out.push_str(&format!("\nErrors{}", table(&["Time", "Type", "Message"], rows)));
    }
    out
}

fn function_text(function: &FunctionDescription) -> String {
    let mut out = String::from("\n");
    label(&mut out, "Name", &function.name);
    label(&mut out, "Overview", &function.description);
    label(&mut out, "Type", &function.kind);
    label(&mut out, "Variations", "");
    for variation in &function.variations {
        let parameter =
            |p: &crate::engine::FunctionParameter| format!("{} {}{}", p.name, p.ty, if p.variadic { "[]" } else { "" });
        let parameters = variation.parameters.iter().map(parameter).collect::<Vec<_>>().join(", ");
        out.push_str(&format!("\n\tVariation   : {}({parameters})\n", function.name));
        out.push_str(&format!("\tReturns     : {}\n\tDescription : {}\n", variation.returns, variation.description));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Status;

    fn outcome(kind: OutcomeKind) -> Outcome {
        Outcome { statement: "S;".into(), kind, warnings: vec![] }
    }

    fn line(name: &str, topic: &str) -> SourceLine {
        SourceLine {
            name: name.into(),
            topic: topic.into(),
            key_format: "KAFKA".into(),
            value_format: "JSON".into(),
            is_windowed: false,
        }
    }

    #[test]
    fn lists_are_laid_out_as_ksqldbs() {
        let streams = Description::Streams(vec![line("S", "a"), line("LONGER_NAME", "b")]);
        let want = concat!(
            "\n",
            " Stream Name | Kafka Topic | Key Format | Value Format | Windowed \n",
            "------------------------------------------------------------------\n",
            " S           | a           | KAFKA      | JSON         | false    \n",
            " LONGER_NAME | b           | KAFKA      | JSON         | false    \n",
            "------------------------------------------------------------------\n",
        );
        assert_eq!(outcome_text(&outcome(OutcomeKind::Description(streams.clone())), Output::Table), want);
        let json = outcome_text(&outcome(OutcomeKind::Description(streams)), Output::Json);
        assert_eq!(json.lines().count(), 2);
        assert!(json.starts_with(r#"{"type":"STREAM","name":"S","topic":"a","#));
    }

    #[test]
    fn messages_have_their_table() {
        let status = Status {
            kind: "stream".into(),
            entity: "`S`".into(),
            action: "create".into(),
            message: "Stream created".into(),
            query_id: None,
            sequence: 0,
        };
        let text = outcome_text(&outcome(OutcomeKind::Status(status)), Output::Table);
        assert_eq!(text, "\n Message        \n----------------\n Stream created \n----------------\n");
    }

    #[test]
    fn descriptions_show_types_and_roles() {
        let schema = LogicalSchema::new([
            Column::key("K", SqlType::String),
            Column::value("A", SqlType::Array(Box::new(SqlType::String))),
        ]);
        let text = field_table(&schema, true, None);
        assert!(text.contains(" K     | VARCHAR(STRING) (primary key) \n"), "{text}");
        assert!(text.contains(" A     | ARRAY<VARCHAR(STRING)>        \n"), "{text}");
    }
}
