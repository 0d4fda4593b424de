//! Long entities as JSON, both ways: DESCRIBE, EXPLAIN, SHOW QUERIES, DESCRIBE FUNCTION.
//!
//! Field names are ksqlDB's; `losses` and `restoring` are ours. Fields of ksqlDB's that have no meaning here are sent empty, so that its clients read on.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::entity::{items, some_text, text};
use super::schema::{fields_from_json, fields_to_json};
use crate::diagnostic::Diagnostic;
use crate::engine::{
    FunctionDescription, FunctionParameter, FunctionVariation, OffsetLine, QueryDescription, QueryLine,
    SourceDescription,
};

type TopicOffsets = Vec<(String, Vec<OffsetLine>)>;

pub(super) fn query_line_to_json(line: &QueryLine) -> Value {
    let mut json = json!({
        "queryString": line.text,
        "sinks": line.sink.iter().collect::<Vec<_>>(),
        "sinkKafkaTopics": line.sink_topic.iter().collect::<Vec<_>>(),
        "id": line.id,
        "statusCount": { line.state.as_str(): 1 },
        "queryType": line.query_type,
        "state": line.state,
    });
    if let Some(restoring) = &line.restoring {
        json["restoring"] = restoring.as_str().into();
    }
    json
}

pub(super) fn query_line_from_json(json: &Value) -> QueryLine {
    QueryLine {
        id: text(json, "id"),
        query_type: text(json, "queryType"),
        state: text(json, "state"),
        restoring: some_text(json, "restoring"),
        sink: json["sinks"][0].as_str().map(str::to_owned),
        sink_topic: json["sinkKafkaTopics"][0].as_str().map(str::to_owned),
        text: text(json, "queryString"),
    }
}

pub(super) fn source_to_json(source: &SourceDescription) -> Value {
    json!({
        "name": source.name,
        "windowType": source.window_type,
        "readQueries": source.read_queries.iter().map(query_line_to_json).collect::<Vec<_>>(),
        "writeQueries": source.write_queries.iter().map(query_line_to_json).collect::<Vec<_>>(),
        "fields": fields_to_json(&source.schema),
        "type": if source.is_table { "TABLE" } else { "STREAM" },
        "timestamp": source.timestamp.as_deref().unwrap_or(""),
        "statistics": source.statistics,
        "errorStats": source.error_stats,
        "extended": source.extended,
        "keyFormat": source.key_format,
        "valueFormat": source.value_format,
        "topic": source.topic,
        "partitions": source.partitions,
        "replication": source.replication,
        "statement": source.statement,
        "queryOffsetSummaries": source.offsets.iter().map(group_to_json).collect::<Vec<_>>(),
        "sourceConstraints": source.constraints,
        "clusterStatistics": [],
        "clusterErrorStats": [],
    })
}

pub(super) fn source_from_json(json: &Value) -> Result<SourceDescription, Diagnostic> {
    Ok(SourceDescription {
        name: text(json, "name"),
        is_table: json["type"] == "TABLE",
        window_type: some_text(json, "windowType"),
        schema: fields_from_json(&json["fields"])?,
        timestamp: some_text(json, "timestamp"),
        key_format: text(json, "keyFormat"),
        value_format: text(json, "valueFormat"),
        topic: text(json, "topic"),
        partitions: json["partitions"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or(0),
        replication: json["replication"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or(0),
        statement: text(json, "statement"),
        read_queries: items(json, "readQueries").map(query_line_from_json).collect(),
        write_queries: items(json, "writeQueries").map(query_line_from_json).collect(),
        constraints: texts(json, "sourceConstraints"),
        extended: json["extended"].as_bool().unwrap_or(false),
        statistics: text(json, "statistics"),
        error_stats: text(json, "errorStats"),
        offsets: items(json, "queryOffsetSummaries").map(group_from_json).collect(),
    })
}

fn texts(json: &Value, field: &str) -> Vec<String> {
    items(json, field).filter_map(|t| t.as_str()).map(str::to_owned).collect()
}

fn group_to_json((group, topics): &(String, TopicOffsets)) -> Value {
    let offset = |o: &OffsetLine| {
        json!({
            "partition": o.partition,
            "logStartOffset": o.start,
            "logEndOffset": o.end,
            "consumerOffset": o.consumed,
        })
    };
    let topic = |(name, offsets): &(String, Vec<OffsetLine>)| json!({ "kafkaTopic": name, "offsets": offsets.iter().map(offset).collect::<Vec<_>>() });
    json!({ "groupId": group, "topicSummaries": topics.iter().map(topic).collect::<Vec<_>>() })
}

fn group_from_json(json: &Value) -> (String, TopicOffsets) {
    let offset = |o: &Value| OffsetLine {
        partition: o["partition"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or(0),
        start: o["logStartOffset"].as_i64().unwrap_or(0),
        end: o["logEndOffset"].as_i64().unwrap_or(0),
        consumed: o["consumerOffset"].as_i64().unwrap_or(0),
    };
    let topic = |t: &Value| (text(t, "kafkaTopic"), items(t, "offsets").map(offset).collect());
    (text(json, "groupId"), items(json, "topicSummaries").map(topic).collect())
}

pub(super) fn query_to_json(query: &QueryDescription) -> Value {
    let error = |(time, class, message): &(i64, String, String)| json!({ "timestamp": time, "errorMessage": message, "type": class });
    let losses: Map<_, _> = query.losses.iter().map(|(kind, count)| (kind.clone(), (*count).into())).collect();
    let running = !query.line.state.is_empty();
    let hosts = if running { json!({ "local": query.line.state }) } else { json!({}) };
    json!({
        "id": query.line.id,
        "statementText": query.line.text,
        "windowType": query.window_type,
        "fields": fields_to_json(&query.schema),
        "sources": query.sources,
        "sinks": query.line.sink.iter().collect::<Vec<_>>(),
        "sinkKafkaTopics": query.line.sink_topic.iter().collect::<Vec<_>>(),
        "topology": query.topology,
        "executionPlan": query.plan,
        "overriddenProperties": query.properties,
        "ksqlHostQueryStatus": hosts,
        "queryType": query.line.query_type,
        "queryErrors": query.errors.iter().map(error).collect::<Vec<_>>(),
        "losses": losses,
        "tasksMetadata": [],
        "consumerGroupId": query.consumer_group,
        "state": query.line.state,
        "restoring": query.line.restoring,
    })
}

pub(super) fn query_from_json(json: &Value) -> Result<QueryDescription, Diagnostic> {
    let line = QueryLine { text: text(json, "statementText"), ..query_line_from_json(json) };
    let error = |e: &Value| (e["timestamp"].as_i64().unwrap_or(0), text(e, "type"), text(e, "errorMessage"));
    let properties: BTreeMap<String, String> = json["overriddenProperties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    let losses = json["losses"].as_object().into_iter().flatten();
    Ok(QueryDescription {
        line,
        schema: fields_from_json(&json["fields"])?,
        window_type: some_text(json, "windowType"),
        sources: texts(json, "sources"),
        plan: text(json, "executionPlan"),
        topology: text(json, "topology"),
        properties,
        errors: items(json, "queryErrors").map(error).collect(),
        losses: losses.map(|(kind, count)| (kind.clone(), count.as_u64().unwrap_or(0))).collect(),
        consumer_group: some_text(json, "consumerGroupId"),
    })
}

pub(super) fn function_to_json(function: &FunctionDescription) -> Value {
    let argument =
        |p: &FunctionParameter| json!({ "name": p.name, "type": p.ty, "description": "", "isVariadic": p.variadic });
    let variation = |v: &FunctionVariation| {
        json!({
            "arguments": v.parameters.iter().map(argument).collect::<Vec<_>>(),
            "returnType": v.returns,
            "description": v.description,
        })
    };
    json!({
        "name": function.name,
        "description": function.description,
        "author": "",
        "version": "",
        "path": "internal",
        "type": function.kind,
        "functions": function.variations.iter().map(variation).collect::<Vec<_>>(),
    })
}

pub(super) fn function_from_json(json: &Value) -> FunctionDescription {
    let parameter = |p: &Value| FunctionParameter {
        name: text(p, "name"),
        ty: text(p, "type"),
        variadic: p["isVariadic"].as_bool().unwrap_or(false),
    };
    let variation = |v: &Value| FunctionVariation {
        parameters: items(v, "arguments").map(parameter).collect(),
        returns: text(v, "returnType"),
        description: text(v, "description"),
    };
    FunctionDescription {
        name: text(json, "name"),
        kind: text(json, "type"),
        description: text(json, "description"),
        variations: items(json, "functions").map(variation).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Column, LogicalSchema, SqlType};

    fn line() -> QueryLine {
        QueryLine {
            id: "CTAS_T_1".into(),
            query_type: "PERSISTENT".into(),
            state: "RESTORING".into(),
            restoring: Some("5 % of 1 stores".into()),
            sink: Some("T".into()),
            sink_topic: Some("t".into()),
            text: "CREATE TABLE T AS …;".into(),
        }
    }

    #[test]
    fn sources_survive() {
        let offset = OffsetLine { partition: 1, start: 2, end: 30, consumed: 29 };
        let source = SourceDescription {
            name: "T".into(),
            is_table: true,
            window_type: Some("TUMBLING".into()),
            schema: LogicalSchema::new([Column::key("K", SqlType::Int), Column::value("N", SqlType::BigInt)]),
            timestamp: None,
            key_format: "KAFKA".into(),
            value_format: "JSON".into(),
            topic: "t".into(),
            partitions: 4,
            replication: 1,
            statement: "CREATE …;".into(),
            read_queries: vec![],
            write_queries: vec![line()],
            constraints: vec!["U".into()],
            extended: true,
            statistics: "total-messages: 1".into(),
            error_stats: String::new(),
            offsets: vec![("g".into(), vec![("t".into(), vec![offset])])],
        };
        assert_eq!(source_from_json(&source_to_json(&source)).unwrap(), source);
    }

    #[test]
    fn queries_survive() {
        let query = QueryDescription {
            line: line(),
            schema: LogicalSchema::new([Column::value("N", SqlType::BigInt)]),
            window_type: None,
            sources: vec!["S".into()],
            plan: "Project".into(),
            topology: "sub-topology 0".into(),
            properties: BTreeMap::from([("auto.offset.reset".into(), "earliest".into())]),
            errors: vec![(5, "QUERY".into(), "why".into())],
            losses: vec![("late".into(), 3)],
            consumer_group: Some("g".into()),
        };
        assert_eq!(query_from_json(&query_to_json(&query)).unwrap(), query);
    }

    #[test]
    fn functions_survive() {
        let function = FunctionDescription {
            name: "CONCAT".into(),
            kind: "SCALAR".into(),
            description: "joins".into(),
            variations: vec![FunctionVariation {
                parameters: vec![FunctionParameter { name: "a".into(), ty: "VARCHAR".into(), variadic: true }],
                returns: "VARCHAR".into(),
                description: "all".into(),
            }],
        };
        assert_eq!(function_from_json(&function_to_json(&function)), function);
    }
}
