//! Entities of `/ksql`: an outcome as JSON, and the outcome again.
//!
//! One arm a kind of outcome, in both directions; the long ones are in `wire/describe`. The subtle thing: silent outcomes have no
//! entity, as ksqlDB has it, and what a client must do itself travels as `client_task`, which is ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::describe::{
    function_from_json, function_to_json, query_from_json, query_line_from_json, query_line_to_json, query_to_json,
    source_from_json, source_to_json,
};
use super::schema::{fields_from_json, fields_to_json, type_from_json, type_to_json};
use crate::diagnostic::Diagnostic;
use crate::engine::{
    ClientTask, Description, FunctionLine, Outcome, OutcomeKind, PropertyLine, SourceLine, Status, TopicLine,
};

/// A field's text; empty if it is not there.
pub(super) fn text(json: &Value, field: &str) -> String {
    json[field].as_str().unwrap_or("").to_owned()
}

/// A field's text, if it is there and not empty.
pub(super) fn some_text(json: &Value, field: &str) -> Option<String> {
    json[field].as_str().filter(|t| !t.is_empty()).map(str::to_owned)
}

/// The elements of an array field; none if it is not there.
pub(super) fn items<'j>(json: &'j Value, field: &str) -> impl Iterator<Item = &'j Value> + use<'j> {
    json[field].as_array().into_iter().flatten()
}

/// The entity of an outcome; `None` for silent ones and for rows.
pub fn to_json(outcome: &Outcome) -> Option<Value> {
    let (ty, body) = match &outcome.kind {
        OutcomeKind::Silent | OutcomeKind::Rows(_) => return None,
        OutcomeKind::Status(status) => ("currentStatus", status_to_json(status)),
        OutcomeKind::Warning(message) => ("warning_entity", json!({ "message": message })),
        OutcomeKind::Description(description) => description_to_json(description),
        OutcomeKind::Client(task) => ("client_task", task_to_json(task)),
    };
    let warnings: Vec<Value> = outcome.warnings.iter().map(|w| json!({ "message": w })).collect();
    let mut entity = Map::new();
    entity.insert("@type".into(), ty.into());
    entity.insert("statementText".into(), outcome.statement.clone().into());
    if let Value::Object(fields) = body {
        entity.extend(fields);
    }
    entity.insert("warnings".into(), warnings.into());
    Some(Value::Object(entity))
}

/// The outcome of an entity.
///
/// # Errors
/// A `@type` that [`to_json`] does not make, or a schema that does not read.
pub fn from_json(json: &Value) -> Result<Outcome, Diagnostic> {
    let kind = match json["@type"].as_str().unwrap_or("") {
        "currentStatus" => OutcomeKind::Status(status_from_json(json)),
        "warning_entity" => OutcomeKind::Warning(text(json, "message")),
        "client_task" => OutcomeKind::Client(task_from_json(json)?),
        other => OutcomeKind::Description(description_from_json(other, json)?),
    };
    let warnings = items(json, "warnings").map(|w| text(w, "message")).collect();
    Ok(Outcome { statement: text(json, "statementText"), kind, warnings })
}

fn status_to_json(status: &Status) -> Value {
    json!({
        "commandId": format!("{}/{}/{}", status.kind, status.entity, status.action),
        "commandStatus": { "status": "SUCCESS", "message": status.message, "queryId": status.query_id },
        "commandSequenceNumber": status.sequence,
    })
}

fn status_from_json(json: &Value) -> Status {
    let id = text(json, "commandId");
    let (kind, rest) = id.split_once('/').unwrap_or(("", &id));
    let (entity, action) = rest.rsplit_once('/').unwrap_or((rest, ""));
    Status {
        kind: kind.to_owned(),
        entity: entity.to_owned(),
        action: action.to_owned(),
        message: text(&json["commandStatus"], "message"),
        query_id: some_text(&json["commandStatus"], "queryId"),
        sequence: json["commandSequenceNumber"].as_i64().unwrap_or(-1),
    }
}

fn description_to_json(description: &Description) -> (&'static str, Value) {
    match description {
        Description::Streams(lines) => ("streams", json!({ "streams": source_lines(lines, "STREAM") })),
        Description::Tables(lines) => ("tables", json!({ "tables": source_lines(lines, "TABLE") })),
        Description::Source(source) => ("sourceDescription", json!({ "sourceDescription": source_to_json(source) })),
        Description::Sources(all) => {
            let all: Vec<_> = all.iter().map(source_to_json).collect();
            ("source_descriptions", json!({ "sourceDescriptions": all }))
        }
        Description::Queries(lines) => {
            ("queries", json!({ "queries": lines.iter().map(query_line_to_json).collect::<Vec<_>>() }))
        }
        Description::Query(query) => ("queryDescription", json!({ "queryDescription": query_to_json(query) })),
        Description::QueryDescriptions(all) => {
            let all: Vec<_> = all.iter().map(query_to_json).collect();
            ("query_descriptions", json!({ "queryDescriptions": all }))
        }
        Description::Topics { topics, extended } => topics_to_json(topics, *extended),
        Description::Properties(lines) => ("properties", properties_to_json(lines)),
        Description::Functions(lines) => {
            let line = |f: &FunctionLine| json!({ "name": f.name, "type": f.kind, "category": f.category });
            ("function_names", json!({ "functions": lines.iter().map(line).collect::<Vec<_>>() }))
        }
        Description::Function(function) => ("describe_function", function_to_json(function)),
        Description::Types(types) => {
            let types: Map<_, _> = types.iter().map(|(name, ty)| (name.clone(), type_to_json(ty))).collect();
            ("type_list", json!({ "types": types }))
        }
        Description::Variables(all) => {
            let all: Vec<_> = all.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
            ("variables", json!({ "variables": all }))
        }
        Description::Connectors(all) => {
            let line = |[name, ty, class, state]: &[String; 4]| json!({ "name": name, "type": ty, "className": class, "state": state });
            ("connector_list", json!({ "connectors": all.iter().map(line).collect::<Vec<_>>() }))
        }
        Description::AssertTopic { topic, exists } => ("assert_topic", json!({ "topicName": topic, "exists": exists })),
        Description::Terminated { query_id, was_terminated } => {
            ("terminate_query", json!({ "queryId": query_id, "wasTerminated": was_terminated }))
        }
    }
}

fn description_from_json(ty: &str, json: &Value) -> Result<Description, Diagnostic> {
    Ok(match ty {
        "streams" => Description::Streams(items(json, "streams").map(source_line_from_json).collect()),
        "tables" => Description::Tables(items(json, "tables").map(source_line_from_json).collect()),
        "sourceDescription" => Description::Source(Box::new(source_from_json(&json["sourceDescription"])?)),
        "source_descriptions" => {
            let all: Result<_, _> = items(json, "sourceDescriptions").map(source_from_json).collect();
            Description::Sources(all?)
        }
        "queries" => Description::Queries(items(json, "queries").map(query_line_from_json).collect()),
        "queryDescription" => Description::Query(Box::new(query_from_json(&json["queryDescription"])?)),
        "query_descriptions" => {
            let all: Result<_, _> = items(json, "queryDescriptions").map(query_from_json).collect();
            Description::QueryDescriptions(all?)
        }
        "kafka_topics" | "kafka_topics_extended" => Description::Topics {
            topics: items(json, "topics").map(topic_from_json).collect(),
            extended: ty == "kafka_topics_extended",
        },
        "properties" => Description::Properties(items(json, "properties").map(property_from_json).collect()),
        "function_names" => Description::Functions(items(json, "functions").map(function_line_from_json).collect()),
        "describe_function" => Description::Function(Box::new(function_from_json(json))),
        "type_list" => {
            let types = json["types"].as_object().into_iter().flatten();
            let types: Result<BTreeMap<_, _>, Diagnostic> =
                types.map(|(name, ty)| Ok((name.clone(), type_from_json(ty)?))).collect();
            Description::Types(types?)
        }
        "variables" => {
            Description::Variables(items(json, "variables").map(|v| (text(v, "name"), text(v, "value"))).collect())
        }
        "connector_list" => {
            let line = |c: &Value| ["name", "type", "className", "state"].map(|field| text(c, field));
            Description::Connectors(items(json, "connectors").map(line).collect())
        }
        "assert_topic" => Description::AssertTopic {
            topic: text(json, "topicName"),
            exists: json["exists"].as_bool().unwrap_or(true),
        },
        "terminate_query" => Description::Terminated {
            query_id: text(json, "queryId"),
            was_terminated: json["wasTerminated"].as_bool().unwrap_or(false),
        },
        other => return Err(Diagnostic::user(format!("the server sent an entity of the unknown type '{other}'"))),
    })
}

fn source_lines(lines: &[SourceLine], ty: &str) -> Vec<Value> {
    let line = |s: &SourceLine| {
        json!({
            "type": ty,
            "name": s.name,
            "topic": s.topic,
            "keyFormat": s.key_format,
            "valueFormat": s.value_format,
            "isWindowed": s.is_windowed,
        })
    };
    lines.iter().map(line).collect()
}

fn source_line_from_json(json: &Value) -> SourceLine {
    SourceLine {
        name: text(json, "name"),
        topic: text(json, "topic"),
        key_format: text(json, "keyFormat"),
        value_format: text(json, "valueFormat"),
        is_windowed: json["isWindowed"].as_bool().unwrap_or(false),
    }
}

fn topics_to_json(topics: &[TopicLine], extended: bool) -> (&'static str, Value) {
    let topic = |t: &TopicLine| {
        let replicas = vec![t.replicas; usize::try_from(t.partitions).unwrap_or(0)];
        let mut json = json!({ "name": t.name, "replicaInfo": replicas });
        if extended {
            json["consumerCount"] = t.consumers.0.into();
            json["consumerGroupCount"] = t.consumers.1.into();
        }
        json
    };
    let ty = if extended { "kafka_topics_extended" } else { "kafka_topics" };
    (ty, json!({ "topics": topics.iter().map(topic).collect::<Vec<_>>() }))
}

fn topic_from_json(json: &Value) -> TopicLine {
    let replicas: Vec<i16> =
        items(json, "replicaInfo").filter_map(|r| r.as_i64()).filter_map(|r| r.try_into().ok()).collect();
    let count = |field: &str| json[field].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0);
    TopicLine {
        name: text(json, "name"),
        partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
        replicas: replicas.first().copied().unwrap_or(1),
        consumers: (count("consumerCount"), count("consumerGroupCount")),
    }
}

fn properties_to_json(lines: &[PropertyLine]) -> Value {
    let line = |p: &PropertyLine| json!({ "name": p.name, "scope": p.scope, "value": p.value, "editable": p.editable, "level": p.overridden_by });
    let names = |overridden: bool| -> Vec<&str> {
        lines.iter().filter(|p| p.overridden_by.is_empty() != overridden).map(|p| p.name.as_str()).collect()
    };
    json!({
        "properties": lines.iter().map(line).collect::<Vec<_>>(),
        "overwrittenProperties": names(true),
        "defaultProperties": names(false),
    })
}

fn property_from_json(json: &Value) -> PropertyLine {
    PropertyLine {
        name: text(json, "name"),
        scope: text(json, "scope"),
        overridden_by: text(json, "level"),
        value: text(json, "value"),
        editable: json["editable"].as_bool().unwrap_or(false),
    }
}

fn function_line_from_json(json: &Value) -> FunctionLine {
    FunctionLine { name: text(json, "name"), kind: text(json, "type"), category: text(json, "category") }
}

fn task_to_json(task: &ClientTask) -> Value {
    match task {
        ClientTask::RunScript { path } => json!({ "task": "run_script", "path": path }),
        ClientTask::CopyFrom { source, schema, path, format } => json!({
            "task": "copy_from",
            "source": source,
            "fields": fields_to_json(schema),
            "path": path,
            "format": format,
        }),
        ClientTask::CopyTo { query, path, format } => {
            json!({ "task": "copy_to", "query": query, "path": path, "format": format })
        }
    }
}

fn task_from_json(json: &Value) -> Result<ClientTask, Diagnostic> {
    let path = text(json, "path");
    Ok(match json["task"].as_str().unwrap_or("") {
        "copy_from" => ClientTask::CopyFrom {
            source: text(json, "source"),
            schema: fields_from_json(&json["fields"])?,
            path,
            format: text(json, "format"),
        },
        "copy_to" => ClientTask::CopyTo { query: text(json, "query"), path, format: text(json, "format") },
        _ => ClientTask::RunScript { path },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Column, LogicalSchema, SqlType};

    fn survives(kind: OutcomeKind) -> Value {
        let outcome = Outcome { statement: "S;".into(), kind, warnings: vec!["w".into()] };
        let json = to_json(&outcome).unwrap();
        let again = to_json(&from_json(&json).unwrap()).unwrap();
        assert_eq!(again, json);
        json
    }

    #[test]
    fn every_kind_of_description_survives() {
        let line = SourceLine {
            name: "S".into(),
            topic: "t".into(),
            key_format: "KAFKA".into(),
            value_format: "JSON".into(),
            is_windowed: true,
        };
        let topic = TopicLine { name: "t".into(), partitions: 2, replicas: 1, consumers: (3, 1) };
        let property = PropertyLine {
            name: "a".into(),
            scope: "KSQL".into(),
            overridden_by: "SESSION".into(),
            value: "1".into(),
            editable: true,
        };
        let function = FunctionLine { name: "ABS".into(), kind: "SCALAR".into(), category: "MATHEMATICAL".into() };
        let all = [
            Description::Streams(vec![line.clone()]),
            Description::Tables(vec![line]),
            Description::Topics { topics: vec![topic.clone()], extended: true },
            Description::Topics { topics: vec![topic], extended: false },
            Description::Properties(vec![property]),
            Description::Functions(vec![function]),
            Description::Types(BTreeMap::from([("T".into(), SqlType::Decimal(4, 2))])),
            Description::Variables(vec![("a".into(), "1".into())]),
            Description::Connectors(vec![["a".into(), "SOURCE".into(), "c".into(), "RUNNING".into()]]),
            Description::AssertTopic { topic: "t".into(), exists: false },
            Description::Terminated { query_id: "q".into(), was_terminated: true },
        ];
        for description in all {
            survives(OutcomeKind::Description(description));
        }
    }

    #[test]
    fn statuses_have_ksqldbs_shape() {
        let json = survives(OutcomeKind::Status(Status {
            kind: "stream".into(),
            entity: "`a/b`".into(),
            action: "create".into(),
            message: "Stream created".into(),
            query_id: None,
            sequence: 7,
        }));
        assert_eq!(json["@type"], "currentStatus");
        assert_eq!(json["commandId"], "stream/`a/b`/create");
        assert_eq!(json["commandStatus"]["status"], "SUCCESS");
        assert_eq!(json["warnings"][0]["message"], "w");
    }

    #[test]
    fn client_tasks_and_warnings_survive() {
        let schema = LogicalSchema::new([Column::key("K", SqlType::String), Column::value("V", SqlType::Int)]);
        survives(OutcomeKind::Client(ClientTask::CopyFrom {
            source: "S".into(),
            schema,
            path: "f".into(),
            format: "JSON".into(),
        }));
        survives(OutcomeKind::Client(ClientTask::CopyTo {
            query: "SELECT 1".into(),
            path: "f".into(),
            format: "DELIMITED".into(),
        }));
        survives(OutcomeKind::Warning("is there already".into()));
    }

    #[test]
    fn silence_has_no_entity() {
        let outcome = Outcome { statement: "SET".into(), kind: OutcomeKind::Silent, warnings: vec![] };
        assert!(to_json(&outcome).is_none());
    }
}
