//! One user's view: properties, variables, and the execution of texts.
//!
//! Two passes over a text: first everything is worked out against copies (catalog, properties, variables), then it is carried out. The
//! subtle thing: SET and DEFINE take effect between the statements of one text, so each statement is cut, filled with variables and parsed
//! when its turn comes, in both passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::effect::{self, EffectContext, Topics};
use super::outcome::{ClientTask, Outcome, OutcomeKind, Rows, ScriptError};
use super::{Engine, insert, print, pull, push, settings, show};
use crate::analyzer::AnalysisContext;
use crate::catalog::Catalog;
use crate::config;
use crate::diagnostic::Diagnostic;
use crate::sql::ast::{Query, Statement};
use crate::sql::{self};
use crate::topic::TopicSpec;
use crate::types::TopicName;

/// A session: what SET and DEFINE said, and the engine behind it.
pub struct Session {
    engine: Engine,
    /// properties set in this session, by canonical name
    pub properties: BTreeMap<String, String>,
    /// variables, by name as defined; looked up in any case
    pub variables: BTreeMap<String, String>,
}

/// The state that a dry run changes instead of the real one.
struct Dry {
    catalog: Catalog,
    topics: BTreeMap<TopicName, Option<TopicSpec>>,
    properties: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

/// Topics of the log, with those that the dry run would have made or deleted.
struct DryTopics<'a> {
    engine: &'a Engine,
    planned: &'a BTreeMap<TopicName, Option<TopicSpec>>,
}

impl Topics for DryTopics<'_> {
    fn topic(&self, name: &TopicName) -> Result<Option<TopicSpec>, Diagnostic> {
        match self.planned.get(name) {
            Some(planned) => Ok(planned.clone()),
            // What is being deleted counts as gone; who makes it anew waits until it is.
            None if self.engine.inner.unfinished.lock().deletes(name) => Ok(None),
            None => Ok(self.engine.log().describe(name)?),
        }
    }
}

impl Session {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, properties: BTreeMap::new(), variables: BTreeMap::new() }
    }

    /// The engine behind the session.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Executes all statements of a text, each ended by `;`. Nothing is executed if one of them is wrong.
    ///
    /// # Errors
    /// What is wrong with which statement, and what was done before it.
    pub fn execute(&mut self, text: &str) -> Result<Vec<Outcome>, ScriptError> {
        let fail =
            |statement: Option<String>, diagnostic: Diagnostic| ScriptError { done: vec![], statement, diagnostic };
        let limit = self.engine.config().size(crate::config::STATEMENT_BYTES);
        sql::check_length(text, limit, crate::config::STATEMENT_BYTES).map_err(|e| fail(None, e))?;
        let raw = sql::split(text).map_err(|e| fail(None, e))?;
        let statements: Vec<(String, bool)> = raw.iter().map(|s| (s.text.to_owned(), s.terminated)).collect();
        if let Some((last, _)) = statements.iter().find(|(_, terminated)| !terminated) {
            let error = sql::parse_script(last)
                .err()
                .unwrap_or_else(|| Diagnostic::user("the statement does not end with ';'"));
            return Err(fail(Some(last.clone()), error.with_text(last)));
        }
        let before = self.engine.catalog();
        if let Err(error) = self.dry_run(&statements) {
            // What another node did a moment ago may be what makes it right.
            if self.engine.catch_up().is_err() || Arc::ptr_eq(&before, &self.engine.catalog()) {
                return Err(error);
            }
            self.dry_run(&statements)?;
        }
        let mut done = Vec::new();
        for (text, _) in &statements {
            match self.execute_one(text) {
                Ok(outcome) => done.push(outcome),
                Err((statement, diagnostic)) => {
                    return Err(ScriptError {
                        done,
                        diagnostic: diagnostic.with_text(&statement),
                        statement: Some(statement),
                    });
                }
            }
        }
        Ok(done)
    }

    /// Runs one SELECT or PRINT and gives its rows; the `;` may be missing.
    ///
    /// # Errors
    /// Everything [`Self::execute`] refuses, and statements that give no rows.
    pub fn query(&mut self, text: &str) -> Result<Rows, ScriptError> {
        let trimmed = text.trim();
        let terminated = if trimmed.ends_with(';') { trimmed.to_owned() } else { format!("{trimmed};") };
        let outcomes = self.execute(&terminated)?;
        let mut rows = None;
        for outcome in outcomes {
            if let OutcomeKind::Rows(found) = outcome.kind {
                rows = Some(*found);
            }
        }
        rows.ok_or_else(|| ScriptError {
            done: vec![],
            statement: Some(terminated),
            diagnostic: Diagnostic::user("the statement gives no rows").help("a query is a SELECT or PRINT"),
        })
    }

    fn dry_run(&self, statements: &[(String, bool)]) -> Result<(), ScriptError> {
        let mut dry = Dry {
            catalog: self.engine.catalog().as_ref().clone(),
            topics: BTreeMap::new(),
            properties: self.properties.clone(),
            variables: self.variables.clone(),
        };
        for (raw, _) in statements {
            let mut filled = raw.clone();
            let result = fill(raw, &dry.variables, &self.engine).and_then(|text| {
                filled = text;
                let statement = sql::parse_statement(&filled)?;
                self.check(&statement, &filled, &mut dry)
            });
            if let Err(diagnostic) = result {
                return Err(ScriptError {
                    done: vec![],
                    diagnostic: diagnostic.with_text(&filled),
                    statement: Some(filled),
                });
            }
        }
        Ok(())
    }

    /// Works one statement out against the copies.
    fn check(&self, statement: &Statement, text: &str, dry: &mut Dry) -> Result<(), Diagnostic> {
        let config = settings::merged(self.engine.config(), &dry.properties)?;
        let settings = settings::analysis(&config)?;
        let registry = self.engine.registry();
        match statement {
            Statement::Set { name, value } => {
                let name = config::check_session(name.as_str(), value.as_str()).map_err(|e| e.at(name.span()))?;
                dry.properties.insert(name.to_owned(), value.as_str().to_owned());
            }
            Statement::Unset { name } => {
                dry.properties.remove(config::canonical(name.as_str()).map_err(|e| e.at(name.span()))?);
            }
            Statement::Define { name, value } => {
                dry.variables.insert(name.as_str().to_owned(), value.as_str().to_owned());
            }
            Statement::Undefine { name } => {
                dry.variables.retain(|k, _| !k.eq_ignore_ascii_case(name.as_str()));
            }
            Statement::InsertValues(insert) => {
                let ctx = AnalysisContext { catalog: &dry.catalog, registry, settings: &settings };
                let source =
                    dry.catalog.expect_source(insert.target.as_str()).map_err(|e| e.at(insert.target.span()))?;
                insert::rows(insert, source, &ctx)?;
            }
            Statement::Query(query) => {
                let ctx = AnalysisContext { catalog: &dry.catalog, registry, settings: &settings };
                check_query(query, &ctx, &config)?;
            }
            logged if effect::is_logged(logged) => {
                let topics = DryTopics { engine: &self.engine, planned: &dry.topics };
                let ctx = EffectContext {
                    catalog: &dry.catalog,
                    registry,
                    settings: &settings,
                    properties: &dry.properties,
                    topics: &topics,
                    service_id: self.engine.service_id(),
                };
                let effect = effect::effect(logged, text, &ctx)?;
                for topic in effect.creates {
                    dry.topics.insert(topic.name.clone(), Some(topic));
                }
                for topic in effect.deletes {
                    dry.topics.insert(topic, None);
                }
                effect.changes.iter().for_each(|change| effect::apply(&mut dry.catalog, change));
            }
            _ => {}
        }
        Ok(())
    }

    fn execute_one(&mut self, raw: &str) -> Result<Outcome, (String, Diagnostic)> {
        let mut text = raw.to_owned();
        let result = fill(raw, &self.variables, &self.engine).and_then(|filled| {
            text = filled;
            let statement = sql::parse_statement(&text)?;
            self.carry_out(&statement, &text)
        });
        match result {
            Ok((kind, warnings)) => Ok(Outcome { statement: text, kind, warnings }),
            Err(error) => Err((text, error)),
        }
    }

    fn carry_out(&mut self, statement: &Statement, text: &str) -> Result<(OutcomeKind, Vec<String>), Diagnostic> {
        if effect::is_logged(statement) {
            let effect = self.engine.submit(statement, text, &self.properties)?;
            let kind = match (effect.warning, effect.status) {
                (Some(warning), _) => OutcomeKind::Warning(warning),
                (None, Some(status)) => OutcomeKind::Status(status),
                (None, None) => OutcomeKind::Silent,
            };
            return Ok((kind, effect.warnings));
        }
        let kind = match statement {
            Statement::Set { name, value } => {
                let name = config::check_session(name.as_str(), value.as_str()).map_err(|e| e.at(name.span()))?;
                self.properties.insert(name.to_owned(), value.as_str().to_owned());
                OutcomeKind::Silent
            }
            Statement::Unset { name } => {
                self.properties.remove(config::canonical(name.as_str())?);
                OutcomeKind::Silent
            }
            Statement::Define { name, value } => {
                self.variables.retain(|k, _| !k.eq_ignore_ascii_case(name.as_str()));
                self.variables.insert(name.as_str().to_owned(), value.as_str().to_owned());
                OutcomeKind::Silent
            }
            Statement::Undefine { name } => self.undefine(name.as_str()),
            Statement::InsertValues(insert) => self.insert(insert)?,
            Statement::Query(query) => OutcomeKind::Rows(Box::new(self.rows(query)?)),
            Statement::Print(print) => OutcomeKind::Rows(Box::new(print::rows(print, &self.engine)?)),
            Statement::CopyFrom(_) | Statement::CopyTo(_) | Statement::RunScript { .. } => {
                self.client_task(statement)?
            }
            other => OutcomeKind::Description(show::describe(other, self)?),
        };
        Ok((kind, vec![]))
    }

    fn undefine(&mut self, name: &str) -> OutcomeKind {
        let before = self.variables.len();
        self.variables.retain(|k, _| !k.eq_ignore_ascii_case(name));
        if self.variables.len() == before {
            return OutcomeKind::Warning(format!("Cannot undefine variable '{name}' which was never defined"));
        }
        OutcomeKind::Silent
    }

    fn insert(&self, statement: &crate::sql::ast::InsertValues) -> Result<OutcomeKind, Diagnostic> {
        let config = self.config()?;
        if !config.bool("ksql.insert.into.values.enabled") {
            return Err(Diagnostic::user(
                "The server has disabled INSERT INTO ... VALUES functionality (ksql.insert.into.values.enabled is false)",
            ));
        }
        let settings = settings::analysis(&config)?;
        let catalog = self.engine.catalog();
        let ctx = AnalysisContext { catalog: &catalog, registry: self.engine.registry(), settings: &settings };
        let source = catalog.expect_source(statement.target.as_str()).map_err(|e| e.at(statement.target.span()))?;
        let rows = insert::rows(statement, source, &ctx)?;
        self.engine.write(|| insert::append(source, &rows, self.engine.log()))?;
        Ok(OutcomeKind::Silent)
    }

    /// Properties of server and session together.
    ///
    /// # Errors
    /// None after the checks of SET.
    pub fn config(&self) -> Result<config::Config, Diagnostic> {
        settings::merged(self.engine.config(), &self.properties)
    }

    fn rows(&self, query: &Query) -> Result<Rows, Diagnostic> {
        let config = self.config()?;
        let settings = settings::analysis(&config)?;
        let catalog = self.engine.catalog();
        let ctx = AnalysisContext { catalog: &catalog, registry: self.engine.registry(), settings: &settings };
        match query.emit {
            Some(_) => push::rows(query, &ctx, &config, &self.engine),
            None => pull::rows(query, &ctx, &config, &self.engine),
        }
    }

    fn client_task(&self, statement: &Statement) -> Result<OutcomeKind, Diagnostic> {
        Ok(OutcomeKind::Client(match statement {
            Statement::CopyFrom(copy) => {
                let catalog = self.engine.catalog();
                let source = catalog.expect_source(copy.target.as_str()).map_err(|e| e.at(copy.target.span()))?;
                insert::check_target(source, copy.target.span())?;
                ClientTask::CopyFrom {
                    source: source.name.to_string(),
                    schema: source.schema.clone(),
                    path: copy.path.as_str().to_owned(),
                    format: copy_format(&copy.properties)?,
                }
            }
            Statement::CopyTo(copy) => ClientTask::CopyTo {
                query: format!("{};", copy.query),
                path: copy.path.as_str().to_owned(),
                format: copy_format(&copy.properties)?,
            },
            Statement::RunScript { path } => ClientTask::RunScript { path: path.as_str().to_owned() },
            other => return Err(Diagnostic::user(format!("{other} is not the client's"))),
        }))
    }
}

/// The FORMAT of a COPY: JSON unless told otherwise.
fn copy_format(properties: &[crate::sql::ast::Property]) -> Result<String, Diagnostic> {
    use crate::sql::ast::Literal;
    let mut format = "JSON".to_owned();
    for property in properties {
        let name = property.name.as_str().to_uppercase();
        match (&*name, &property.value) {
            ("FORMAT", Literal::String(text)) if ["JSON", "DELIMITED"].contains(&&*text.to_uppercase()) => {
                format = text.to_uppercase()
            }
            ("FORMAT", _) => {
                return Err(Diagnostic::user("FORMAT of COPY must be 'JSON' or 'DELIMITED'").at(property.value_loc.0));
            }
            _ => {
                return Err(Diagnostic::user(format!("COPY has no property {name}"))
                    .at(property.name.span())
                    .help("it has FORMAT"));
            }
        }
    }
    Ok(format)
}

/// Puts variables into a statement, unless substitution is off.
fn fill(text: &str, variables: &BTreeMap<String, String>, engine: &Engine) -> Result<String, Diagnostic> {
    if !text.contains("${") || !engine.config().bool("ksql.variable.substitution.enable") {
        return Ok(text.to_owned());
    }
    let lookup = |name: &str| variables.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    sql::substitute(text, &lookup)
}

fn check_query(query: &Query, ctx: &AnalysisContext<'_>, config: &config::Config) -> Result<(), Diagnostic> {
    match query.emit {
        Some(_) => push::check(query, ctx),
        None => pull::check(query, ctx, config),
    }
}
