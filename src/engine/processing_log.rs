//! The processing log as a stream: `KSQL_PROCESSING_LOG`, there from the start of every service.
//!
//! The runtime writes the records; this is only their declaration. The subtle thing: it stands in the catalog before the first command is
//! replayed and is in no command itself, so a release may add columns to it.

use crate::catalog::{Source, SourceKind};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::format::{Format, FormatSpec};
use crate::sql;
use crate::types::{Column, LogicalSchema, TopicName};

/// Name of the stream.
pub const STREAM: &str = "KSQL_PROCESSING_LOG";

/// The reference's columns (rest-and-cli.md §8.2), then where the lost row came from and why it was lost.
const COLUMNS: &str = "LOGGER VARCHAR, LEVEL VARCHAR, TIME BIGINT, MESSAGE STRUCT<\
    `type` INT, \
    `deserializationError` STRUCT<`target` VARCHAR, `errorMessage` VARCHAR, `recordB64` VARCHAR, `cause` ARRAY<VARCHAR>, `topic` VARCHAR>, \
    `recordProcessingError` STRUCT<`errorMessage` VARCHAR, `record` VARCHAR, `cause` ARRAY<VARCHAR>>, \
    `productionError` STRUCT<`errorMessage` VARCHAR>, \
    `serializationError` STRUCT<`target` VARCHAR, `errorMessage` VARCHAR, `record` VARCHAR, `cause` ARRAY<VARCHAR>, `topic` VARCHAR>, \
    `kafkaStreamsThreadError` STRUCT<`errorMessage` VARCHAR, `threadName` VARCHAR, `cause` ARRAY<VARCHAR>>>, \
    QUERY_ID VARCHAR, `TOPIC` VARCHAR, `PARTITION` INT, `OFFSET` BIGINT, REASON VARCHAR";

/// The name of the processing log's topic, as the properties have it.
pub fn topic_name(config: &Config, service_id: &str) -> TopicName {
    let given = config.text("ksql.logging.processing.topic.name").filter(|name| !name.is_empty());
    given.map_or_else(|| TopicName::new(format!("{service_id}ksql_processing_log")), TopicName::new)
}

/// The stream over the processing log's topic.
///
/// # Errors
/// A defect of ours: the columns do not parse.
pub fn source(topic: &TopicName) -> Result<Source, Diagnostic> {
    let defs = sql::parse_schema(COLUMNS)?;
    let columns = defs
        .iter()
        .map(|def| Ok(Column::value(def.name.as_str(), def.ty.resolve(&|_| None)?)))
        .collect::<Result<Vec<_>, Diagnostic>>()?;
    Ok(Source {
        name: STREAM.into(),
        kind: SourceKind::Stream,
        schema: LogicalSchema::new(columns),
        topic: topic.clone(),
        partitions: 1,
        key_format: FormatSpec::new(Format::Kafka),
        value_format: FormatSpec::new(Format::Json),
        window: None,
        timestamp: None,
        read_only: true,
        created_by: None,
        statement: format!(
            "CREATE SOURCE STREAM {STREAM} ({COLUMNS}) WITH (KAFKA_TOPIC='{topic}', VALUE_FORMAT='JSON');"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_columns_parse_and_print_back() {
        let source = source(&"log".into()).expect("our own columns");
        assert_eq!(source.schema.columns().len(), 9);
        sql::parse_statement(&source.statement).expect("our own statement");
    }
}
