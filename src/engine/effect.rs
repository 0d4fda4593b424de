//! What a statement would change, worked out without changing anything.
//!
//! A pure function of statement, catalog and what is known of topics: the dry run, the real run and the replay of the command log all
//! call it. The subtle thing: on replay topics are not looked at; their partition counts come from the command itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::analyzer::sink::BoundSink;
use crate::analyzer::source::BoundSource;
use crate::analyzer::{AnalysisContext, Settings, relation, sink, source};
use crate::catalog::{Catalog, PersistentQuery, QueryKind, Source};
use crate::diagnostic::{Diagnostic, Span};
use crate::function::Registry;
use crate::plan::nodes::{Shape, StreamNode, StreamOp};
use crate::plan::topology::Topology;
use crate::plan::{Lowering, lower};
use crate::sql::ast::{self, QueryTarget, Statement};
use crate::topic::{Cleanup, TopicSpec};
use crate::types::{QueryId, SourceName, SqlType, TopicName, backquoted};

use super::outcome::Status;
use super::upgrade;

/// A change of the catalog.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// add or replace
    PutSource(Source),
    /// take away
    DropSource(SourceName),
    /// add
    PutType(String, SqlType),
    /// take away
    DropType(String),
    /// add or replace
    PutQuery(PersistentQuery),
    /// take away
    DropQuery(QueryId),
}

/// A query to be started.
#[derive(Clone)]
pub struct Start {
    /// as declared
    pub query: PersistentQuery,
    /// how it runs
    pub topology: Arc<Topology>,
    /// its logical plan as text
    pub plan: String,
    /// it goes on where the query of that id stands (OR REPLACE)
    pub replaces: bool,
}

/// All that a statement changes.
#[derive(Default)]
pub struct Effect {
    /// in order
    pub changes: Vec<Change>,
    /// topics to be made first
    pub creates: Vec<TopicSpec>,
    /// a query to be started
    pub start: Option<Start>,
    /// queries to be stopped, state and internal topics deleted
    pub stops: Vec<QueryId>,
    /// queries to be paused (true) or resumed
    pub pauses: Vec<(QueryId, bool)>,
    /// topics to be deleted last
    pub deletes: Vec<TopicName>,
    /// what to tell
    pub status: Option<Status>,
    /// told in place of a status where nothing was to be done
    pub warning: Option<String>,
    /// told beside the status
    pub warnings: Vec<String>,
}

/// What is known of topics.
pub trait Topics {
    /// The topic of that name, if there is one.
    ///
    /// # Errors
    /// If the log cannot be asked.
    fn topic(&self, name: &TopicName) -> Result<Option<TopicSpec>, Diagnostic>;
}

/// What working out an effect needs.
pub struct EffectContext<'a> {
    /// the catalog as it stands before the statement
    pub catalog: &'a Catalog,
    /// functions
    pub registry: &'a Registry,
    /// session and server properties
    pub settings: &'a Settings,
    /// overridden properties, kept with persistent queries
    pub properties: &'a BTreeMap<String, String>,
    /// topics
    pub topics: &'a dyn Topics,
    /// the service's id
    pub service_id: &'a str,
}

impl EffectContext<'_> {
    fn analysis(&self) -> AnalysisContext<'_> {
        AnalysisContext { catalog: self.catalog, registry: self.registry, settings: self.settings }
    }

    /// The consumer group of a persistent query (semantics.md §12).
    pub fn group(&self, id: &str) -> String {
        group(self.service_id, id)
    }
}

/// The consumer group of a persistent query.
pub fn group(service_id: &str, id: &str) -> String {
    format!("{}query_{id}", group_prefix(service_id))
}

/// What the names of all groups and internal topics of a service begin with.
pub fn group_prefix(service_id: &str) -> String {
    format!("_confluent-ksql-{service_id}")
}

/// Applies a change to a catalog.
pub fn apply(catalog: &mut Catalog, change: &Change) {
    match change {
        Change::PutSource(source) => catalog.put_source(source.clone()),
        Change::DropSource(name) => {
            catalog.remove_source(name.as_str());
        }
        Change::PutType(name, ty) => catalog.put_type(name.clone(), ty.clone()),
        Change::DropType(name) => {
            catalog.remove_type(name);
        }
        Change::PutQuery(query) => catalog.put_query(query.clone()),
        Change::DropQuery(id) => {
            catalog.remove_query(id.as_str());
        }
    }
}

/// True for statements that go through the command log.
pub fn is_logged(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateSource(_)
            | Statement::CreateAs(_)
            | Statement::InsertInto(_)
            | Statement::DropSource(_)
            | Statement::AlterSource(_)
            | Statement::CreateType { .. }
            | Statement::DropType { .. }
            | Statement::Terminate(_)
            | Statement::Pause(_)
            | Statement::Resume(_)
    )
}

/// What `statement` would change.
///
/// # Errors
/// Why it may not, with the place in `text`.
pub fn effect(statement: &Statement, text: &str, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    match statement {
        Statement::CreateSource(s) => create_source(s, text, ctx),
        Statement::CreateAs(s) => create_as(s, text, ctx),
        Statement::InsertInto(s) => {
            let bound = sink::insert_into(s, &ctx.analysis())?;
            persistent(bound, text, s.target.span(), None, ctx)
        }
        Statement::DropSource(s) => drop_source(s, ctx),
        Statement::AlterSource(s) => {
            let altered = source::alter(s, text, &ctx.analysis())?;
            let status = status(
                altered.kind.word(),
                altered.name.as_str(),
                "alter",
                format!("{} altered", altered.kind.title()),
            );
            Ok(Effect { changes: vec![Change::PutSource(altered)], status: Some(status), ..Effect::default() })
        }
        Statement::CreateType { if_not_exists, name, ty } => create_type(*if_not_exists, name, ty, ctx),
        Statement::DropType { if_exists, name } => drop_type(*if_exists, name, ctx),
        Statement::Terminate(target) => terminate(target, ctx),
        Statement::Pause(target) => pause(target, true, ctx),
        Statement::Resume(target) => pause(target, false, ctx),
        other => Err(Diagnostic::user(format!("{other} changes nothing that is logged"))),
    }
}

fn status(kind: &str, entity: &str, action: &str, message: impl Into<String>) -> Status {
    Status {
        kind: kind.into(),
        entity: backquoted(entity),
        action: action.into(),
        message: message.into(),
        query_id: None,
        sequence: -1,
    }
}

fn warned(warning: String) -> Effect {
    Effect { warning: Some(warning), ..Effect::default() }
}

/// Replicas of a topic that is not said to have so many: as many as that of the first source of the query, whose loss would cost as much.
fn inherited_replicas(reads: Option<&SourceName>, ctx: &EffectContext<'_>) -> Result<i16, Diagnostic> {
    let Some(source) = reads.and_then(|name| ctx.catalog.source(name.as_str())) else { return Ok(i16::MAX) };
    Ok(ctx.topics.topic(&source.topic)?.map_or(i16::MAX, |topic| topic.replicas))
}

/// Finds or plans the topic a source reads; gives its partitions. Without REPLICAS a new one has `inherited`, `i16::MAX` for what the brokers
/// give by default; `None` if it must be there already or PARTITIONS be given.
fn topic_for(
    source: &Source,
    with: &crate::analyzer::properties::WithClause,
    inherited: Option<i16>,
    ctx: &EffectContext<'_>,
    at: Span,
) -> Result<(i32, Option<TopicSpec>), Diagnostic> {
    let found = ctx.topics.topic(&source.topic)?;
    if let Some(topic) = found {
        let partitions = with.partitions.unwrap_or(topic.partitions);
        let replicas = with.replicas.filter(|r| *r > 0).unwrap_or(topic.replicas);
        if partitions != topic.partitions || replicas > topic.replicas {
            return Err(Diagnostic::user(format!(
                "A Kafka topic with the name '{}' already exists, with different partition/replica configuration than required. KSQL expects {partitions} partitions (topic has {}), and {replicas} replication factor (topic has {}).",
                source.topic, topic.partitions, topic.replicas
            ))
            .at(at)
            .help("leave PARTITIONS and REPLICAS out to take the topic as it is, or name another topic"));
        }
        return Ok((topic.partitions, None));
    }
    let Some(partitions) = with.partitions.or(inherited.map(|_| source.partitions.max(1))) else {
        return Err(Diagnostic::user(format!("Topic '{0}' does not exist. If you want to create a new topic for the stream/table please re-run the statement providing the required 'PARTITIONS' configuration in the WITH clause (and optionally 'REPLICAS').", source.topic))
            .at(at)
            .help("for example WITH (…, PARTITIONS = 1)"));
    };
    let cleanup = Cleanup { compact: source.is_table(), retention_ms: with.retention_ms, retention_bytes: None };
    let replicas = with.replicas.filter(|n| *n > 0).or(inherited).unwrap_or(i16::MAX);
    let spec = TopicSpec { name: source.topic.clone(), partitions, replicas, cleanup };
    Ok((partitions, Some(spec)))
}

fn create_source(statement: &ast::CreateSource, text: &str, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    let BoundSource { mut source, with } = source::create(statement, text, &ctx.analysis())?;
    let at = statement.name.span();
    if let Some(existing) = ctx.catalog.source(source.name.as_str()) {
        if statement.if_not_exists {
            return Ok(warned(format!("{}.", crate::catalog::taken(source.kind, existing))));
        }
        check_replaceable(existing, &source).map_err(|e| e.at(at))?;
    }
    let (partitions, create) = topic_for(&source, &with, None, ctx, at)?;
    source.partitions = partitions;
    let status = status(source.kind.word(), source.name.as_str(), "create", format!("{} created", source.kind.title()));
    let mut effect = Effect { creates: create.into_iter().collect(), status: Some(status), ..Effect::default() };
    if source.read_only && source.is_table() {
        let start = source_table_query(&source, text, ctx)?;
        effect.changes.push(Change::PutQuery(start.query.clone()));
        effect.start = Some(start);
    }
    effect.changes.insert(0, Change::PutSource(source));
    Ok(effect)
}

fn lowering(id: &str, materialize: bool, ctx: &EffectContext<'_>) -> Lowering {
    Lowering { group: ctx.group(id), materialize, rules: ctx.settings.rules.clone() }
}

fn source_table_query(source: &Source, text: &str, ctx: &EffectContext<'_>) -> Result<Start, Diagnostic> {
    let id = QueryId::new(format!("CST_{}_{}", source.name, ctx.catalog.next_query_number()));
    let options = relation::ScanOptions { earliest: Some(true), default_earliest: true, qualified: false };
    let rows = relation::scan(source.name.as_str(), &Arc::new(source.clone()), options)?;
    let schema = source.schema.to_arrow().as_ref().clone();
    let exprs = source.schema.columns().iter().map(|c| relation::column(c.name.as_str())).collect();
    let shape = Shape { key_count: source.schema.key_count(), is_table: true, window: source.window };
    let plan =
        StreamNode::plan(StreamOp::Project { exprs }, vec![rows.plan], schema, shape).map_err(relation::internal)?;
    let topology = lower(&plan, &lowering(id.as_str(), true, ctx)).map_err(relation::internal)?;
    let query = PersistentQuery {
        id,
        kind: QueryKind::SourceTable,
        sink: source.name.clone(),
        sink_topic: source.topic.clone(),
        reads: BTreeSet::from([source.name.clone()]),
        text: text.to_owned(),
        properties: ctx.properties.clone(),
        paused: false,
    };
    let plan = plan.display_indent().to_string();
    Ok(Start { query, topology: Arc::new(topology), plan, replaces: false })
}

/// CREATE OR REPLACE of a declared source keeps what readers rely on (statements.md §12).
fn check_replaceable(old: &Source, new: &Source) -> Result<(), Diagnostic> {
    let differs = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
        Err(Diagnostic::user(format!(
            "Cannot upgrade data source: DataSource '{}' has {what} = {a} which is not upgradeable to {b}",
            old.name
        )))
    };
    if old.kind != new.kind {
        return differs("type", &old.kind.word(), &new.kind.word());
    }
    if old.read_only {
        return Err(Diagnostic::user(format!(
            "Cannot replace {} '{}': CREATE OR REPLACE is not supported on source {}s.",
            old.kind.word(),
            old.name,
            old.kind.word()
        )));
    }
    if old.topic != new.topic {
        return differs("topic", &old.topic, &new.topic);
    }
    let column = |s: &Source| s.timestamp.as_ref().map_or("none".to_owned(), |t| t.column.to_string());
    if old.timestamp != new.timestamp {
        return differs("timestamp column", &column(old), &column(new));
    }
    if old.key_format != new.key_format {
        return differs("key format", &old.key_format.format, &new.key_format.format);
    }
    if old.value_format != new.value_format {
        return differs("value format", &old.value_format.format, &new.value_format.format);
    }
    let (a, b) = (old.schema.columns(), new.schema.columns());
    let kept = a.len() <= b.len() && a.iter().zip(b).all(|(x, y)| x == y) && old.schema.keys() == new.schema.keys();
    if kept {
        return Ok(());
    }
    let changed: Vec<String> = a
        .iter()
        .enumerate()
        .filter(|(i, c)| b.get(*i) != Some(c))
        .map(|(_, c)| format!("{} {}", backquoted(c.name.as_str()), c.ty))
        .collect();
    Err(Diagnostic::user(format!(
        "Cannot upgrade data source: DataSource '{}' has schema = {} which is not upgradeable to {}. (The following columns are changed, missing or reordered: [{}])",
        old.name,
        old.schema,
        new.schema,
        changed.join(", ")
    )))
}

fn create_as(statement: &ast::CreateAs, text: &str, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    let bound = sink::create_as(statement, text, &ctx.analysis())?;
    if let Some(existing) = ctx.catalog.source(statement.name.as_str()).filter(|_| statement.if_not_exists) {
        return Ok(warned(format!("{}.", crate::catalog::taken(bound.sink.kind, existing))));
    }
    let replaced = ctx.catalog.source(statement.name.as_str()).cloned();
    persistent(bound, text, statement.name.span(), replaced.as_deref(), ctx)
}

fn persistent(
    bound: BoundSink,
    text: &str,
    at: Span,
    replaced: Option<&Source>,
    ctx: &EffectContext<'_>,
) -> Result<Effect, Diagnostic> {
    let BoundSink { plan, mut sink, kind, with, query } = bound;
    let mut creates = Vec::new();
    if kind != QueryKind::InsertInto {
        let replicas = inherited_replicas(query.reads.first(), ctx)?;
        let (partitions, create) = topic_for(&sink, &with, Some(replicas), ctx, at)?;
        sink.partitions = partitions;
        creates.extend(create);
    }
    let old = replaced.and_then(|r| r.created_by.as_ref()).and_then(|id| ctx.catalog.query(id.as_str()));
    let id = query_id(kind, &sink, &with, old.map(|q| &q.id), ctx).map_err(|e| e.at(at))?;
    let materialize = kind == QueryKind::CreateTableAs;
    let topology = lower(&plan, &lowering(id.as_str(), materialize, ctx)).map_err(relation::internal)?;
    if let Some(existing) = replaced {
        check_replaceable(existing, &sink).map_err(|e| e.at(at))?;
        if let Some(old) = old {
            upgrade::check(&topology_of(old, ctx)?, &topology).map_err(|e| e.at(at))?;
        }
    }
    sink.created_by = Some(id.clone());
    let reads: BTreeSet<_> = query.reads.iter().cloned().collect();
    let declared = PersistentQuery {
        id: id.clone(),
        kind,
        sink: sink.name.clone(),
        sink_topic: sink.topic.clone(),
        reads,
        text: text.to_owned(),
        properties: ctx.properties.clone(),
        paused: false,
    };
    let (word, entity) = (if sink.is_table() { "table" } else { "stream" }, sink.name.to_string());
    let action = if kind == QueryKind::InsertInto { "execute" } else { "create" };
    let mut status = status(word, &entity, action, format!("Created query with ID {id}"));
    status.query_id = Some(id.to_string());
    let mut changes = Vec::new();
    if kind != QueryKind::InsertInto {
        changes.push(Change::PutSource(sink));
    }
    changes.push(Change::PutQuery(declared.clone()));
    let start = Start {
        query: declared,
        topology: Arc::new(topology),
        plan: plan.display_indent().to_string(),
        replaces: old.is_some(),
    };
    Ok(Effect {
        changes,
        creates,
        start: Some(start),
        status: Some(status),
        warnings: query.warnings,
        ..Effect::default()
    })
}

/// How the query `old` runs: its text, planned again as it was.
fn topology_of(old: &PersistentQuery, ctx: &EffectContext<'_>) -> Result<Topology, Diagnostic> {
    let ast::Statement::CreateAs(mut statement) = crate::sql::parse_statement(&old.text)? else {
        return Err(relation::internal("a query with a sink is a CREATE AS"));
    };
    // its sink is there by now
    statement.or_replace = true;
    let bound = sink::create_as(&statement, &old.text, &ctx.analysis())?;
    let materialize = bound.kind == QueryKind::CreateTableAs;
    lower(&bound.plan, &lowering(old.id.as_str(), materialize, ctx)).map_err(relation::internal)
}

fn query_id(
    kind: QueryKind,
    sink: &Source,
    with: &crate::analyzer::properties::WithClause,
    old: Option<&QueryId>,
    ctx: &EffectContext<'_>,
) -> Result<QueryId, Diagnostic> {
    if let Some(id) = old {
        return Ok(id.clone());
    }
    if let Some(given) = &with.query_id {
        let id = given.to_uppercase();
        let word = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !word {
            return Err(Diagnostic::user(format!(
                "Query IDs may contain only alphanumeric characters and '_'. Got: '{id}'"
            )));
        }
        if let Some(prefix) = ["INSERTQUERY_", "CTAS_", "CSAS_", "CST_"].iter().find(|p| id.starts_with(**p)) {
            return Err(Diagnostic::user(format!(
                "Query IDs must not start with a reserved query ID prefix ({prefix}). Got: '{id}'"
            )));
        }
        if ctx.catalog.query(&id).is_some() {
            return Err(Diagnostic::user(format!("Query ID '{id}' already exists.")));
        }
        return Ok(id.into());
    }
    let n = ctx.catalog.next_query_number();
    Ok(QueryId::new(match kind {
        QueryKind::CreateStreamAs => format!("CSAS_{}_{n}", sink.name),
        QueryKind::CreateTableAs => format!("CTAS_{}_{n}", sink.name),
        QueryKind::SourceTable => format!("CST_{}_{n}", sink.name),
        QueryKind::InsertInto => format!("INSERTQUERY_{n}"),
    }))
}

fn drop_source(statement: &ast::DropSource, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    let (name, at) = (statement.name.as_str(), statement.name.span());
    let kind = source::kind_of(statement.kind);
    let Some(found) = ctx.catalog.source(name) else {
        if statement.if_exists {
            return Ok(warned(format!("{} {} does not exist.", kind.title(), backquoted(name))));
        }
        let error = Diagnostic::user(format!("{} {name} does not exist.", kind.title())).at(at);
        return Err(match crate::diagnostic::suggest(name, ctx.catalog.sources().map(|s| s.name.as_str())) {
            Some(near) => error.help(format!(
                "Did you mean {}? Hint: names are case-sensitive when quoted",
                crate::types::quote_if_needed(near)
            )),
            None => error,
        });
    };
    if found.kind != kind {
        let (is, said) = (found.kind.word().to_uppercase(), kind.word().to_uppercase());
        return Err(Diagnostic::user(format!("Incompatible data source type is {is}, but statement was DROP {said}"))
            .at(at)
            .help(format!("use DROP {is}")));
    }
    ctx.catalog.check_droppable(found).map_err(|e| e.at(at))?;
    let mut effect = Effect::default();
    if statement.delete_topic {
        if found.read_only {
            return Err(Diagnostic::user(format!("Cannot delete topic for read-only source: {name}")).at(at));
        }
        let others: Vec<_> = ctx
            .catalog
            .sources()
            .filter(|s| s.topic == found.topic && s.name != found.name)
            .map(|s| s.name.to_string())
            .collect();
        if !others.is_empty() {
            return Err(Diagnostic::user(format!(
                "Refusing to delete topic. Found other data sources ({}) using topic {}",
                others.join(", "),
                found.topic
            ))
            .at(at));
        }
        effect.deletes.push(found.topic.clone());
    }
    let own = ctx.catalog.queries().filter(|q| {
        Some(&q.id) == found.created_by.as_ref() || (q.kind == QueryKind::SourceTable && q.sink == found.name)
    });
    for query in own {
        effect.stops.push(query.id.clone());
        effect.changes.push(Change::DropQuery(query.id.clone()));
    }
    effect.changes.push(Change::DropSource(found.name.clone()));
    let message = format!("Source {} (topic: {}) was dropped.", backquoted(name), found.topic);
    effect.status = Some(status(found.kind.word(), name, "drop", message));
    Ok(effect)
}

fn create_type(
    if_not_exists: bool,
    name: &ast::Ident,
    ty: &ast::TypeName,
    ctx: &EffectContext<'_>,
) -> Result<Effect, Diagnostic> {
    let ty = ty.resolve(&|custom| ctx.catalog.types().get(custom).cloned())?;
    if ctx.catalog.types().contains_key(name.as_str()) {
        let text = format!(
            "Cannot register custom type '{}' since it is already registered with type: {}",
            name.as_str(),
            ctx.catalog.types()[name.as_str()]
        );
        return if if_not_exists {
            Ok(warned(text))
        } else {
            Err(Diagnostic::user(text).at(name.span()).help("DROP TYPE it first"))
        };
    }
    let message = format!("Registered custom type with name '{}' and SQL type {ty}", name.as_str());
    let status = status("type", name.as_str(), "create", message);
    Ok(Effect {
        changes: vec![Change::PutType(name.as_str().to_owned(), ty)],
        status: Some(status),
        ..Effect::default()
    })
}

fn drop_type(if_exists: bool, name: &ast::Ident, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    if !ctx.catalog.types().contains_key(name.as_str()) {
        let text = format!("Type '{}' does not exist", name.as_str());
        return if if_exists {
            Ok(warned(text))
        } else {
            Err(Diagnostic::user(text).at(name.span()).help("SHOW TYPES lists what there is"))
        };
    }
    let status = status("type", name.as_str(), "drop", format!("Dropped type '{}'", name.as_str()));
    Ok(Effect { changes: vec![Change::DropType(name.as_str().to_owned())], status: Some(status), ..Effect::default() })
}

/// The persistent queries a target names.
fn targets(target: &QueryTarget, verb: &str, ctx: &EffectContext<'_>) -> Result<Vec<Arc<PersistentQuery>>, Diagnostic> {
    let QueryTarget::Id(id) = target else {
        return Ok(ctx.catalog.queries().filter(|q| q.kind != QueryKind::SourceTable).cloned().collect());
    };
    let Some(query) = ctx.catalog.query(id.as_str()) else {
        let error = Diagnostic::user(format!("Unknown queryId: {}", id.as_str())).at(id.span());
        return Err(match crate::diagnostic::suggest(id.as_str(), ctx.catalog.queries().map(|q| q.id.as_str())) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error.help("SHOW QUERIES lists what runs"),
        });
    };
    if query.kind == QueryKind::SourceTable {
        return Err(Diagnostic::user(format!(
            "Cannot {verb} query '{}': it keeps a source table, and goes with it",
            query.id
        ))
        .at(id.span())
        .help("DROP TABLE the source table instead"));
    }
    Ok(vec![query.clone()])
}

fn terminate(target: &QueryTarget, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    let mut effect = Effect::default();
    for query in targets(target, "terminate", ctx)? {
        effect.stops.push(query.id.clone());
        effect.changes.push(Change::DropQuery(query.id.clone()));
        if let Some(sink) = ctx.catalog.source(query.sink.as_str()).filter(|s| s.created_by.as_ref() == Some(&query.id))
        {
            let mut sink = sink.as_ref().clone();
            sink.created_by = None;
            effect.changes.push(Change::PutSource(sink));
        }
    }
    effect.status = Some(status("terminate", &target_name(target), "execute", "Query terminated."));
    Ok(effect)
}

fn pause(target: &QueryTarget, paused: bool, ctx: &EffectContext<'_>) -> Result<Effect, Diagnostic> {
    let verb = if paused { "pause" } else { "resume" };
    let mut effect = Effect::default();
    for query in targets(target, verb, ctx)? {
        let mut changed = query.as_ref().clone();
        changed.paused = paused;
        effect.pauses.push((query.id.clone(), paused));
        effect.changes.push(Change::PutQuery(changed));
    }
    let message = if paused { "Query paused." } else { "Query resumed." };
    effect.status = Some(status(verb, &target_name(target), "execute", message));
    Ok(effect)
}

fn target_name(target: &QueryTarget) -> String {
    match target {
        QueryTarget::All => "ALL".to_owned(),
        QueryTarget::Id(id) => id.as_str().to_owned(),
    }
}
