//! SQL types as JSON and as text, both ways: what headers and descriptions carry.
//!
//! Reads the text form that [`SqlType`] prints, and nothing more of SQL. The subtle thing: ksqlDB's JSON form of a MAP does not say its key
//! type, since that is STRING; ours says it where it is another.

use serde_json::{Map, Value, json};

use crate::diagnostic::Diagnostic;
use crate::engine::ResultColumn;
use crate::types::{Column, ColumnRole, LogicalSchema, SqlField, SqlType, backquoted};

/// `{"type", "fields", "memberSchema", "parameters"?}`.
pub fn type_to_json(ty: &SqlType) -> Value {
    let base = match ty {
        SqlType::Decimal(..) => "DECIMAL".to_owned(),
        SqlType::Array(_) => "ARRAY".to_owned(),
        SqlType::Map(..) => "MAP".to_owned(),
        SqlType::Struct(_) => "STRUCT".to_owned(),
        other => other.to_string(),
    };
    let mut json = json!({ "type": base, "fields": null, "memberSchema": null });
    match ty {
        SqlType::Decimal(precision, scale) => json["parameters"] = json!({ "precision": precision, "scale": scale }),
        SqlType::Array(item) => json["memberSchema"] = type_to_json(item),
        SqlType::Map(key, value) => {
            json["memberSchema"] = type_to_json(value);
            if **key != SqlType::String {
                json["keySchema"] = type_to_json(key);
            }
        }
        SqlType::Struct(fields) => {
            let field = |f: &SqlField| json!({ "name": f.name.as_str(), "schema": type_to_json(&f.ty) });
            json["fields"] = fields.iter().map(field).collect();
        }
        _ => {}
    }
    json
}

/// The inverse of [`type_to_json`].
///
/// # Errors
/// A shape that it does not make.
pub fn type_from_json(json: &Value) -> Result<SqlType, Diagnostic> {
    let member = || type_from_json(&json["memberSchema"]).map(Box::new);
    Ok(match json["type"].as_str().unwrap_or("") {
        "DECIMAL" => {
            let part = |name: &str| json["parameters"][name].as_u64().and_then(|n| u8::try_from(n).ok());
            match (part("precision"), part("scale")) {
                (Some(precision), Some(scale)) => SqlType::Decimal(precision, scale),
                _ => return Err(Diagnostic::user("a DECIMAL schema has no precision and scale")),
            }
        }
        "ARRAY" => SqlType::Array(member()?),
        "MAP" if json["keySchema"].is_object() => {
            SqlType::Map(Box::new(type_from_json(&json["keySchema"])?), member()?)
        }
        "MAP" => SqlType::Map(Box::new(SqlType::String), member()?),
        "STRUCT" => {
            let field = |f: &Value| {
                let name = f["name"].as_str().unwrap_or("").into();
                type_from_json(&f["schema"]).map(|ty| SqlField { name, ty })
            };
            let fields: Result<Vec<_>, _> = json["fields"].as_array().into_iter().flatten().map(field).collect();
            SqlType::Struct(fields?.into())
        }
        simple => parse_type(simple)?,
    })
}

/// The `fields` of a description: `[{"name", "schema", "type"?, "headerKey"?}]`.
pub fn fields_to_json(schema: &LogicalSchema) -> Value {
    let field = |column: &Column| {
        let mut json = Map::new();
        json.insert("name".into(), column.name.as_str().into());
        json.insert("schema".into(), type_to_json(&column.ty));
        match &column.role {
            ColumnRole::Key => _ = json.insert("type".into(), "KEY".into()),
            ColumnRole::Value => {}
            ColumnRole::Header(key) => {
                json.insert("type".into(), "HEADER".into());
                if let Some(key) = key {
                    json.insert("headerKey".into(), key.as_ref().into());
                }
            }
        }
        Value::Object(json)
    };
    schema.columns().iter().map(field).collect()
}

/// The inverse of [`fields_to_json`].
///
/// # Errors
/// A shape that it does not make.
pub fn fields_from_json(json: &Value) -> Result<LogicalSchema, Diagnostic> {
    let column = |json: &Value| {
        let role = match json["type"].as_str() {
            Some("KEY") => ColumnRole::Key,
            Some("HEADER") => ColumnRole::Header(json["headerKey"].as_str().map(Into::into)),
            _ => ColumnRole::Value,
        };
        let ty = type_from_json(&json["schema"])?;
        Ok(Column { name: json["name"].as_str().unwrap_or("").into(), ty, role })
    };
    let columns: Result<Vec<_>, Diagnostic> = json.as_array().into_iter().flatten().map(column).collect();
    columns.map(LogicalSchema::new)
}

/// The schema of a result's header: `` `ID` STRING KEY, `COUNT` BIGINT``.
pub fn header_schema(columns: &[ResultColumn]) -> String {
    let column = |c: &ResultColumn| format!("{} {}{}", backquoted(&c.name), c.ty, if c.is_key { " KEY" } else { "" });
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// The inverse of [`header_schema`].
///
/// # Errors
/// A text that it does not make.
pub fn parse_header_schema(text: &str) -> Result<Vec<ResultColumn>, Diagnostic> {
    let mut reader = TypeReader { text, at: 0 };
    let mut columns = Vec::new();
    while !reader.at_end() {
        let name = reader.name()?;
        let ty = reader.sql_type()?;
        let is_key = reader.accept_word("KEY");
        columns.push(ResultColumn { name, ty, is_key });
        if !reader.accept(',') && !reader.at_end() {
            return Err(reader.unexpected());
        }
    }
    Ok(columns)
}

/// Reads a type as it prints: `ARRAY<STRUCT<`A` INTEGER>>`.
///
/// # Errors
/// A text that is not a type.
pub fn parse_type(text: &str) -> Result<SqlType, Diagnostic> {
    let mut reader = TypeReader { text, at: 0 };
    let ty = reader.sql_type()?;
    if reader.at_end() { Ok(ty) } else { Err(reader.unexpected()) }
}

/// Reads names and types from left to right.
struct TypeReader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> TypeReader<'t> {
    fn rest(&mut self) -> &'t str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn accept(&mut self, symbol: char) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len_utf8();
        }
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), Diagnostic> {
        if self.accept(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '@').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let before = self.at;
        let found = self.word().eq_ignore_ascii_case(word);
        if !found {
            self.at = before;
        }
        found
    }

    fn name(&mut self) -> Result<String, Diagnostic> {
        if !self.accept('`') {
            let word = self.word();
            return if word.is_empty() { Err(self.unexpected()) } else { Ok(word.to_owned()) };
        }
        let mut name = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find('`') else { return Err(self.unexpected()) };
            name.push_str(&rest[..end]);
            self.at += end + 1;
            if !self.text[self.at..].starts_with('`') {
                return Ok(name);
            }
            name.push('`');
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<u8, Diagnostic> {
        self.word().parse().map_err(|_| self.unexpected())
    }

    fn sql_type(&mut self) -> Result<SqlType, Diagnostic> {
        Ok(match self.word().to_ascii_uppercase().as_str() {
            "BOOLEAN" => SqlType::Boolean,
            "INTEGER" | "INT" => SqlType::Int,
            "BIGINT" => SqlType::BigInt,
            "DOUBLE" => SqlType::Double,
            "STRING" | "VARCHAR" => SqlType::String,
            "BYTES" => SqlType::Bytes,
            "TIME" => SqlType::Time,
            "DATE" => SqlType::Date,
            "TIMESTAMP" => SqlType::Timestamp,
            "DECIMAL" => {
                self.expect('(')?;
                let precision = self.number()?;
                self.expect(',')?;
                let scale = self.number()?;
                self.expect(')')?;
                SqlType::Decimal(precision, scale)
            }
            "ARRAY" => SqlType::Array(Box::new(self.inside(Self::sql_type)?)),
            "MAP" => {
                let (key, value) = self.inside(|r| {
                    let key = r.sql_type()?;
                    r.expect(',')?;
                    Ok((key, r.sql_type()?))
                })?;
                SqlType::Map(Box::new(key), Box::new(value))
            }
            "STRUCT" => SqlType::Struct(self.inside(Self::struct_fields)?.into()),
            _ => return Err(self.unexpected()),
        })
    }

    fn struct_fields(&mut self) -> Result<Vec<SqlField>, Diagnostic> {
        let mut fields = Vec::new();
        while !self.rest().starts_with('>') {
            let name = self.name()?;
            fields.push(SqlField { name: name.into(), ty: self.sql_type()? });
            if !self.accept(',') {
                break;
            }
        }
        Ok(fields)
    }

    fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Diagnostic>) -> Result<T, Diagnostic> {
        self.expect('<')?;
        let inner = read(self)?;
        self.expect('>')?;
        Ok(inner)
    }

    fn unexpected(&self) -> Diagnostic {
        Diagnostic::user(format!("'{}' is not a schema at position {}", self.text, self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Vec<SqlType> {
        let field = |name: &str, ty| SqlField { name: name.into(), ty };
        let s = SqlType::Struct([field("a`b", SqlType::Decimal(4, 2)), field("KEY", SqlType::Bytes)].into());
        let map = SqlType::Map(Box::new(SqlType::Int), Box::new(SqlType::Array(Box::new(s.clone()))));
        vec![SqlType::Int, SqlType::String, SqlType::Timestamp, s, map, SqlType::Struct([].into())]
    }

    #[test]
    fn types_survive_text_and_json() {
        for ty in types() {
            assert_eq!(parse_type(&ty.to_string()).unwrap(), ty);
            assert_eq!(type_from_json(&type_to_json(&ty)).unwrap(), ty);
        }
    }

    #[test]
    fn header_schemas_survive() {
        let columns: Vec<_> = types()
            .into_iter()
            .enumerate()
            .map(|(i, ty)| ResultColumn { name: format!("C `{i}"), ty, is_key: i % 2 == 0 })
            .collect();
        assert_eq!(parse_header_schema(&header_schema(&columns)).unwrap(), columns);
    }

    #[test]
    fn garbage_is_refused_with_its_place() {
        for bad in ["", "ARRAY<", "STRUCT<A>", "DECIMAL(1)", "INTEGER INTEGER", "`A"] {
            assert!(parse_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_keep_their_roles() {
        let schema = LogicalSchema::new([
            Column::key("K", SqlType::String),
            Column::value("V", SqlType::Int),
            Column { name: "H".into(), ty: SqlType::Bytes, role: ColumnRole::Header(Some("h".into())) },
        ]);
        assert_eq!(fields_from_json(&fields_to_json(&schema)).unwrap(), schema);
    }
}
