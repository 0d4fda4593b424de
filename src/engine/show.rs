//! SHOW, DESCRIBE, EXPLAIN and ASSERT: what there is and how it is, as plain data.
//!
//! Changes nothing. The subtle thing: the status of a query is the runtime's own, never what the catalog would like it to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::{
    Description, FunctionDescription, FunctionLine, FunctionParameter, FunctionVariation, OffsetLine, PropertyLine,
    QueryDescription, QueryLine, SourceDescription, SourceLine, TopicLine,
};
use super::{Engine, Session, effect, pull, settings};
use crate::analyzer::{AnalysisContext, relation};
use crate::catalog::{Catalog, PersistentQuery, QueryKind, Source, SourceKind};
use crate::config::secret::{HIDDEN, is_secret};
use crate::config::{self, Editable, PROPERTIES, Scope};
use crate::diagnostic::Diagnostic;
use crate::plan::{Lowering, lower};
use crate::runtime::{QueryState, restoring};
use crate::sql::ast::{AssertTopic, Describe, ExplainTarget, Ident, Show, Statement};
use crate::topic::{Owner, TopicPartition};
use crate::types::{Column, LogicalSchema, TopicName};

/// Answers a statement that only looks.
///
/// # Errors
/// Names that are not there; statements that this release does not have.
pub fn describe(statement: &Statement, session: &Session) -> Result<Description, Diagnostic> {
    let engine = session.engine();
    match statement {
        Statement::Show(show) => list(*show, session),
        Statement::Describe(Describe::Source { name, extended }) => {
            let catalog = engine.catalog();
            let source = catalog.source(name.as_str()).ok_or_else(|| not_found(name, &catalog))?;
            Ok(Description::Source(Box::new(source_description(source, *extended, engine)?)))
        }
        Statement::Describe(Describe::All { kind, extended }) => {
            sources(crate::analyzer::source::kind_of(*kind), *extended, engine)
        }
        Statement::Describe(Describe::Function(name)) => function(name, engine),
        Statement::Describe(Describe::Connector(name)) => Err(no_connect(name.span())),
        Statement::CreateConnector(c) => Err(no_connect(c.name.span())),
        Statement::DropConnector { name, .. } => Err(no_connect(name.span())),
        Statement::Explain(target) => explain(target, session),
        Statement::AssertTopic(assert) => assert_topic(assert, engine),
        Statement::AssertSchema(_) => Err(Diagnostic::user(
            "KSQL is not configured to use a schema registry. To enable it, please set ksql.schema.registry.url",
        )),
        Statement::AlterSystem { name, .. } => Err(Diagnostic::user(format!(
            "Cannot alter system property '{}': properties of a running server do not change",
            name.as_str()
        ))
        .at(name.span())
        .help("use SET for this session, or start the server with --set")),
        Statement::AssertValues(_) | Statement::AssertSource(_) => {
            Err(Diagnostic::user("ASSERT VALUES, ASSERT STREAM and ASSERT TABLE are for test files")
                .help("run the file with riverrun test"))
        }
        other => Err(Diagnostic::user(format!("the statement cannot be executed here: {other}"))),
    }
}

fn no_connect(span: crate::diagnostic::Span) -> Diagnostic {
    Diagnostic::user("Kafka Connect is not configured, so there are no connectors")
        .at(span)
        .help("load files with COPY, or run Kafka Connect beside riverrun")
}

fn not_found(name: &Ident, catalog: &Catalog) -> Diagnostic {
    let error =
        Diagnostic::user(format!("Could not find STREAM/TABLE '{}' in the Metastore", name.as_str())).at(name.span());
    match crate::diagnostic::suggest(name.as_str(), catalog.sources().map(|s| s.name.as_str())) {
        Some(near) => error.help(format!("did you mean {near}?")),
        None => error.help("SHOW STREAMS and SHOW TABLES list what there is"),
    }
}

fn list(show: Show, session: &Session) -> Result<Description, Diagnostic> {
    let engine = session.engine();
    Ok(match show {
        Show::Properties => properties(session),
        Show::Topics { all, extended } => topics(all, extended, engine)?,
        Show::Sources { kind, extended: true } => sources(crate::analyzer::source::kind_of(kind), true, engine)?,
        Show::Sources { kind, extended: false } => {
            let kind = crate::analyzer::source::kind_of(kind);
            let lines = engine.catalog().sources().filter(|s| s.kind == kind).map(|s| source_line(s)).collect();
            if kind == SourceKind::Stream { Description::Streams(lines) } else { Description::Tables(lines) }
        }
        Show::Functions => {
            let registry = engine.registry();
            let line = |(name, category): (&str, &str)| FunctionLine {
                name: name.into(),
                kind: registry.kind_word(name).into(),
                category: category.into(),
            };
            Description::Functions(registry.list().into_iter().map(line).collect())
        }
        Show::Connectors(_) | Show::ConnectorPlugins => Description::Connectors(vec![]),
        Show::Types => Description::Types(engine.catalog().types().clone()),
        Show::Variables => Description::Variables(session.variables.clone().into_iter().collect()),
        Show::Queries { extended } => queries(extended, engine)?,
    })
}

fn source_line(source: &Source) -> SourceLine {
    SourceLine {
        name: source.name.to_string(),
        topic: source.topic.to_string(),
        key_format: source.key_format.format.to_string(),
        value_format: source.value_format.format.to_string(),
        is_windowed: source.window.is_some(),
    }
}

fn sources(kind: SourceKind, extended: bool, engine: &Engine) -> Result<Description, Diagnostic> {
    let catalog = engine.catalog();
    let of_kind = catalog.sources().filter(|s| s.kind == kind);
    Ok(Description::Sources(of_kind.map(|s| source_description(s, extended, engine)).collect::<Result<_, _>>()?))
}

fn state_word(state: QueryState) -> String {
    state.to_string()
}

fn query_line(query: &PersistentQuery, engine: &Engine) -> QueryLine {
    let state = engine.runtime().status(&query.id).map_or_else(|| "ERROR".to_owned(), |s| state_word(s.state));
    QueryLine {
        id: query.id.to_string(),
        query_type: "PERSISTENT".into(),
        state,
        restoring: restoring(&engine.runtime().restored(&query.id)),
        sink: Some(query.sink.to_string()),
        sink_topic: Some(query.sink_topic.to_string()),
        text: query.text.clone(),
    }
}

fn source_description(source: &Arc<Source>, extended: bool, engine: &Engine) -> Result<SourceDescription, Diagnostic> {
    let catalog = engine.catalog();
    let spec = engine.log().describe(&source.topic)?;
    let reads: Vec<_> = catalog.readers(&source.name).cloned().collect();
    let writes: Vec<_> = catalog.writers(&source.name).cloned().collect();
    let mut description = SourceDescription {
        name: source.name.to_string(),
        is_table: source.is_table(),
        window_type: source.window.map(|w| w.name().to_owned()),
        schema: source.schema.clone(),
        timestamp: source.timestamp.as_ref().map(|t| t.column.to_string()),
        key_format: source.key_format.format.to_string(),
        value_format: source.value_format.format.to_string(),
        topic: source.topic.to_string(),
        partitions: spec.as_ref().map_or(source.partitions, |s| s.partitions),
        replication: spec.as_ref().map_or(1, |s| s.replicas),
        statement: source.statement.clone(),
        read_queries: reads.iter().map(|q| query_line(q, engine)).collect(),
        write_queries: writes.iter().map(|q| query_line(q, engine)).collect(),
        constraints: catalog.dependents(&source.name).iter().map(ToString::to_string).collect(),
        extended,
        statistics: String::new(),
        error_stats: String::new(),
        offsets: vec![],
    };
    if extended {
        let mut consumed = 0;
        for query in &writes {
            if let Some(status) = engine.runtime().status(&query.id) {
                consumed += status.rows_in;
                description
                    .statistics
                    .push_str(&format!("{}: consumed {} produced {} ", query.id, status.rows_in, status.rows_out));
                description.error_stats.extend(status.errors.iter().map(|e| format!("{}: {} ", query.id, e.message)));
            }
            description
                .error_stats
                .extend(engine.not_started(&query.id).iter().map(|e| format!("{}: {} ", query.id, e.message)));
            description.offsets.push(offsets(query, engine)?);
        }
        if consumed == 0 && description.statistics.is_empty() {
            description.statistics = "no query of this node writes it".to_owned();
        }
    }
    Ok(description)
}

/// Where a query stands in its topics.
fn offsets(query: &PersistentQuery, engine: &Engine) -> Result<(String, Vec<(String, Vec<OffsetLine>)>), Diagnostic> {
    let group = effect::group(engine.service_id(), query.id.as_str());
    let mut by_topic: BTreeMap<String, Vec<OffsetLine>> = BTreeMap::new();
    for (at, position) in engine.log().positions(&Owner::new(&group))? {
        let Ok(bounds) = engine.log().bounds(&at) else { continue };
        let line =
            OffsetLine { partition: at.partition, start: bounds.start, end: bounds.end, consumed: position.offset };
        by_topic.entry(at.topic.to_string()).or_default().push(line);
    }
    Ok((group, by_topic.into_iter().collect()))
}

fn queries(extended: bool, engine: &Engine) -> Result<Description, Diagnostic> {
    let catalog = engine.catalog();
    let shown = || catalog.queries().filter(|q| q.kind != QueryKind::SourceTable);
    if extended {
        return Ok(Description::QueryDescriptions(
            shown().map(|q| query_description(q, engine)).collect::<Result<_, _>>()?,
        ));
    }
    let mut lines: Vec<_> = shown().map(|q| query_line(q, engine)).collect();
    let transient = engine.inner.transient.lock();
    lines.extend(transient.list().map(|(id, text)| QueryLine {
        id: id.to_string(),
        query_type: "PUSH".into(),
        state: engine.runtime().status(id).map_or_else(|| "STOPPED".to_owned(), |s| state_word(s.state)),
        restoring: None,
        sink: None,
        sink_topic: None,
        text: text.clone(),
    }));
    Ok(Description::Queries(lines))
}

fn query_description(query: &PersistentQuery, engine: &Engine) -> Result<QueryDescription, Diagnostic> {
    let catalog = engine.catalog();
    let plans = engine.inner.plans.read();
    let start = plans.get(&query.id);
    let status = engine.runtime().status(&query.id);
    let sink = catalog.source(query.sink.as_str());
    let not_started = engine.not_started(&query.id);
    let errors = status
        .iter()
        .flat_map(|s| &s.errors)
        .chain(&not_started)
        .map(|e| (e.at_ms, format!("{:?}", e.class).to_uppercase(), e.message.clone()));
    Ok(QueryDescription {
        line: query_line(query, engine),
        schema: sink.map_or_else(LogicalSchema::default, |s| s.schema.clone()),
        window_type: sink.and_then(|s| s.window).map(|w| w.name().to_owned()),
        sources: query.reads.iter().map(ToString::to_string).collect(),
        plan: start.map_or_else(String::new, |s| s.plan.clone()),
        topology: start.map_or_else(String::new, |s| s.topology.describe()),
        properties: query.properties.clone(),
        errors: errors.collect(),
        losses: engine.runtime().losses(&query.id).into_iter().map(|(kind, n)| (kind.name().to_owned(), n)).collect(),
        consumer_group: Some(effect::group(engine.service_id(), query.id.as_str())),
    })
}

fn explain(target: &ExplainTarget, session: &Session) -> Result<Description, Diagnostic> {
    match target {
        ExplainTarget::Query(id) => {
            let engine = session.engine();
            let catalog = engine.catalog();
            let query = catalog.query(id.as_str()).ok_or_else(|| {
                Diagnostic::user(format!(
                    "Query with id:{} does not exist, use SHOW QUERIES to view the full set of queries.",
                    id.as_str()
                ))
                .at(id.span())
            })?;
            Ok(Description::Query(Box::new(query_description(query, engine)?)))
        }
        ExplainTarget::Statement(statement) => explain_statement(statement, session),
    }
}

fn explain_statement(statement: &Statement, session: &Session) -> Result<Description, Diagnostic> {
    let engine = session.engine();
    let catalog = engine.catalog();
    let config = session.config()?;
    let settings = settings::analysis(&config)?;
    let ctx = AnalysisContext { catalog: &catalog, registry: engine.registry(), settings: &settings };
    let text = statement.to_string();
    let no_query = || {
        Diagnostic::user("The provided statement does not run a ksql query")
            .help("EXPLAIN takes a query id, a SELECT, a CREATE … AS SELECT or an INSERT INTO … SELECT")
    };
    if let Statement::Query(query) = statement
        && query.emit.is_none()
        && let Some(explained) = pull::explain(query, &ctx, &config)?
    {
        return Ok(Description::Query(Box::new(pull_description(text, explained, session))));
    }
    let (plan, schema, reads, sink, materialize) = match statement {
        Statement::Query(query) => {
            let bound =
                crate::analyzer::query::analyze(query, crate::analyzer::select::ListOf::Transient, "the query", &ctx)?;
            (bound.plan, bound.schema, bound.reads, None, false)
        }
        Statement::CreateAs(create) => {
            let bound = crate::analyzer::sink::create_as(create, &text, &ctx)?;
            let table = bound.sink.is_table();
            (bound.plan, bound.sink.schema.clone(), bound.query.reads, Some(bound.sink), table)
        }
        Statement::InsertInto(insert) => {
            let bound = crate::analyzer::sink::insert_into(insert, &ctx)?;
            (bound.plan, bound.sink.schema.clone(), bound.query.reads, Some(bound.sink), false)
        }
        _ => return Err(no_query()),
    };
    let group = effect::group(engine.service_id(), "<id>");
    let rules = settings.rules.clone();
    let optimized = rules.optimize(&plan).map_err(relation::internal)?;
    let topology = lower(&plan, &Lowering { group, materialize, rules }).map_err(relation::internal)?;
    Ok(Description::Query(Box::new(QueryDescription {
        line: QueryLine {
            id: String::new(),
            query_type: if sink.is_some() { "PERSISTENT" } else { "PUSH" }.into(),
            state: String::new(),
            restoring: None,
            sink: sink.as_ref().map(|s| s.name.to_string()),
            sink_topic: sink.as_ref().map(|s| s.topic.to_string()),
            text,
        },
        schema,
        window_type: None,
        sources: reads.iter().map(ToString::to_string).collect(),
        plan: optimized.display_indent().to_string(),
        topology: topology.describe(),
        properties: session.properties.clone(),
        errors: vec![],
        losses: vec![],
        consumer_group: None,
    })))
}

fn pull_description(text: String, explained: pull::Explained, session: &Session) -> QueryDescription {
    let columns = explained.bound.columns.iter().map(|c| Column::value(c.name.as_str(), c.ty.clone()));
    QueryDescription {
        line: QueryLine {
            id: String::new(),
            query_type: "PULL".into(),
            state: String::new(),
            restoring: None,
            sink: None,
            sink_topic: None,
            text,
        },
        schema: LogicalSchema::new(columns),
        window_type: None,
        sources: explained.bound.reads.iter().map(|source| source.name.to_string()).collect(),
        plan: explained.plan,
        topology: explained.reads,
        properties: session.properties.clone(),
        errors: vec![],
        losses: vec![],
        consumer_group: None,
    }
}

/// True for a topic that is shown with ALL only: one that matches a pattern of `ksql.hidden.topics`, where `.*` stands for anything.
fn is_hidden(name: &TopicName, patterns: &str) -> bool {
    patterns.split(',').map(str::trim).any(|pattern| matches(pattern, name.as_str()))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once(".*") {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

fn topics(all: bool, extended: bool, engine: &Engine) -> Result<Description, Diagnostic> {
    let mut groups: BTreeMap<TopicName, usize> = BTreeMap::new();
    if extended {
        for owner in engine.log().owners()? {
            let mut seen: Vec<TopicName> =
                engine.log().positions(&owner)?.into_keys().map(|at: TopicPartition| at.topic).collect();
            seen.dedup();
            for topic in seen {
                *groups.entry(topic).or_default() += 1;
            }
        }
    }
    let line = |spec: crate::topic::TopicSpec| {
        let n = groups.get(&spec.name).copied().unwrap_or(0);
        TopicLine {
            name: spec.name.to_string(),
            partitions: spec.partitions,
            replicas: spec.replicas,
            consumers: (n, n),
        }
    };
    let hidden = engine.config().text(config::HIDDEN_TOPICS).unwrap_or_default();
    let shown = engine.log().topics()?.into_iter().filter(|t| all || !is_hidden(&t.name, hidden));
    let topics = shown.map(line).collect();
    Ok(Description::Topics { topics, extended })
}

fn properties(session: &Session) -> Description {
    let server = session.engine().config();
    let line = |name: &str, scope: Scope, default: Option<&str>, editable: bool| {
        let (overridden_by, value) = match (session.properties.get(name), server.shown(name)) {
            (Some(value), _) => ("SESSION", value.as_str()),
            (None, Some(value)) => ("SERVER", value),
            (None, None) => ("", default.unwrap_or_default()),
        };
        let hidden = is_secret(name) || name.starts_with("ksql.functions.");
        PropertyLine {
            name: name.to_owned(),
            scope: scope.name().to_owned(),
            overridden_by: overridden_by.to_owned(),
            value: if hidden { HIDDEN } else { value }.to_owned(),
            editable,
        }
    };
    let known = PROPERTIES.iter().map(|p| line(p.name, p.scope, p.default, p.editable == Editable::Session));
    // What was set for Kafka's clients, the registry and the like.
    let passed_on = server.overrides().keys().filter(|name| config::property(name).is_none());
    let passed_on = passed_on.map(|name| {
        let scope = if name.starts_with("ksql.") { Scope::Ksql } else { Scope::Streams };
        line(name, scope, None, false)
    });
    Description::Properties(known.chain(passed_on).collect())
}

fn function(name: &Ident, engine: &Engine) -> Result<Description, Diagnostic> {
    let registry = engine.registry();
    let doc = registry.describe(name.as_str()).ok_or_else(|| {
        let error =
            Diagnostic::user(format!("Can't find any functions with the name '{}'", name.as_str())).at(name.span());
        match crate::diagnostic::suggest(name.as_str(), registry.list().into_iter().map(|(n, _)| n)) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error.help("SHOW FUNCTIONS lists what there is"),
        }
    })?;
    let variations = doc.variations.iter().map(|(signature, words)| FunctionVariation {
        parameters: signature
            .parameters
            .iter()
            .map(|p| FunctionParameter { name: p.name.clone(), ty: p.pattern.to_string(), variadic: p.variadic })
            .collect(),
        returns: signature.result.to_string(),
        description: (*words).to_owned(),
    });
    Ok(Description::Function(Box::new(FunctionDescription {
        name: doc.name.to_owned(),
        kind: registry.kind_word(doc.name).to_owned(),
        description: doc.description.to_owned(),
        variations: variations.collect(),
    })))
}

fn assert_topic(assert: &AssertTopic, engine: &Engine) -> Result<Description, Diagnostic> {
    use crate::sql::ast::Literal;
    let name = TopicName::new(assert.topic.as_str());
    let mut wanted: Vec<(String, i64)> = Vec::new();
    for property in &assert.properties {
        let key = property.name.as_str().to_uppercase();
        let number = match &property.value {
            Literal::Number(n) => n.text.parse().ok(),
            Literal::String(s) => s.parse().ok(),
            _ => None,
        };
        match (key.as_str(), number) {
            ("PARTITIONS" | "REPLICAS", Some(n)) => wanted.push((key.to_lowercase(), n)),
            _ => {
                return Err(Diagnostic::user(format!(
                    "Cannot assert unknown topic property: {}",
                    property.name.as_str()
                ))
                .at(property.name.span()));
            }
        }
    }
    let default = engine.config().int("ksql.assert.topic.default.timeout.ms").unwrap_or(1000);
    let timeout = assert.timeout.and_then(|t| t.millis()).unwrap_or(default).max(0);
    let deadline = Instant::now() + Duration::from_millis(timeout as u64);
    loop {
        let failure = match (engine.log().describe(&name)?, assert.exists) {
            (None, true) => Some(format!("Topic {name} does not exist")),
            (Some(_), false) => Some(format!("Topic {name} exists")),
            (None, false) => None,
            (Some(spec), true) => wanted.iter().find_map(|(key, n)| {
                let got = if key == "partitions" { i64::from(spec.partitions) } else { i64::from(spec.replicas) };
                (got != *n).then(|| {
                    format!("Mismatched configuration for topic {name}: For config {key}, expected {n} got {got}")
                })
            }),
        };
        let Some(failure) = failure else {
            return Ok(Description::AssertTopic { topic: name.to_string(), exists: assert.exists });
        };
        if Instant::now() >= deadline {
            return Err(Diagnostic::user(failure).at(assert.topic.span()));
        }
        std::thread::park_timeout(Duration::from_millis(100).min(deadline - Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_topics_are_those_of_the_patterns() {
        let patterns = config::property(config::HIDDEN_TOPICS).and_then(|p| p.default).unwrap();
        let hidden = |name: &str| is_hidden(&TopicName::new(name), patterns);
        for name in ["_confluent-ksql-default__command_topic", "__consumer_offsets", "_schemas", "connect-status"] {
            assert!(hidden(name), "{name}");
        }
        for name in ["orders", "_mine", "my_confluent", "_schemas2", "default_ksql_processing_log"] {
            assert!(!hidden(name), "{name}");
        }
        assert!(matches("a.*b.*", "axxbyy") && !matches("a.*b", "axxbyy") && matches(".*", "é"));
    }
}
