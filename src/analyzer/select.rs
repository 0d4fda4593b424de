//! The SELECT list: stars expanded, names given, the key found among the columns.
//!
//! Binds nothing but what it lists; FROM, GROUP BY and PARTITION BY have shaped the relation before. The subtle thing is the key rule: the
//! projection of a persistent query must hold each part of the key exactly once, whatever its order and alias.

use datafusion::logical_expr::Expr as DfExpr;

use super::relation::{RelColumn, RelRole, Relation, column};
use super::{AnalysisContext, sql_text};
use crate::diagnostic::{Diagnostic, Span};
use crate::sql::ast::{Expr, ExprKind, SelectItem};
use crate::types::{Column, ColumnName, LogicalSchema, SqlType, pseudo};

/// A column of the result, bound.
#[derive(Clone, Debug)]
pub struct Selected {
    /// its name in the result
    pub name: String,
    /// its value over the relation's plan
    pub expr: DfExpr,
    /// its type
    pub ty: SqlType,
    /// where it was written
    pub span: Span,
    /// given with AS
    pub named: bool,
    /// given by a star
    pub starred: bool,
}

/// Which query the list belongs to; some rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOf {
    /// CREATE … AS, INSERT INTO
    Persistent,
    /// push and pull
    Transient,
}

/// An item before binding: an expression as written, or a column that a star stands for.
pub enum Item<'a> {
    /// as written
    Written {
        /// the expression
        expr: &'a Expr,
        /// its name in the result
        name: String,
        /// the name was given with AS
        named: bool,
    },
    /// a column of the relation, under this name
    Column {
        /// the column
        column: RelColumn,
        /// its name in the result
        name: String,
        /// where the star stands
        span: Span,
    },
    /// all fields of a struct
    Fields {
        /// the struct
        expr: &'a Expr,
    },
}

/// The names of the written items, in the order of the list, over what FROM gives; `None` for stars.
pub fn names(items: &[SelectItem], from: &Relation, namer: &mut Namer) -> Vec<Option<String>> {
    let name = |item: &SelectItem| match item {
        SelectItem::Expr { alias: Some(alias), .. } => Some(alias.as_str().to_owned()),
        SelectItem::Expr { expr, alias: None } => Some(namer.name_of(expr, from)),
        _ => None,
    };
    items.iter().map(name).collect()
}

/// The name under which the list has this very expression.
pub fn name_in_list(items: &[SelectItem], names: &[Option<String>], expr: &Expr) -> Option<String> {
    let position = items.iter().position(|item| matches!(item, SelectItem::Expr { expr: e, .. } if e == expr))?;
    names[position].clone()
}

/// Expands stars over the relation as it now is; `names` are those of [`names`].
///
/// # Errors
/// A star over a source that is not there.
pub fn expand<'a>(
    items: &'a [SelectItem],
    names: &[Option<String>],
    relation: &Relation,
) -> Result<Vec<Item<'a>>, Diagnostic> {
    let mut out = Vec::new();
    for (item, name) in items.iter().zip(names) {
        match item {
            SelectItem::Expr { expr, alias } => {
                let name = name.clone().unwrap_or_default();
                out.push(Item::Written { expr, name, named: alias.is_some() });
            }
            SelectItem::Star(loc) => star(relation, None, loc.0, &mut out),
            SelectItem::SourceStar(source) => {
                if !relation.sources.iter().any(|(alias, _)| alias == source.as_str()) {
                    return Err(Diagnostic::user(format!(
                        "'{}' is not a valid stream/table name or alias.",
                        source.as_str()
                    ))
                    .at(source.span()));
                }
                star(relation, Some(source.as_str()), source.span(), &mut out);
            }
            SelectItem::StructStar(expr) => out.push(Item::Fields { expr }),
        }
    }
    Ok(out)
}

fn star<'a>(relation: &Relation, of: Option<&str>, span: Span, out: &mut Vec<Item<'a>>) {
    let is_join = relation.is_join();
    let mut push = |column: &RelColumn| {
        let name = if is_join && !column.qualifier.is_empty() {
            format!("{}_{}", column.qualifier, column.name)
        } else {
            column.name.clone()
        };
        out.push(Item::Column { column: column.clone(), name, span });
    };
    let shown = |c: &&RelColumn| of.is_none_or(|alias| c.qualifier == alias);
    let is_result_key = |c: &RelColumn| relation.key.iter().any(|k| k.physical == c.physical);
    // Key columns of the relation first (after PARTITION BY: the new ones), then window bounds, then values, old keys last.
    if !is_join {
        let keys = relation.key.iter().filter_map(|k| relation.by_physical(&k.physical));
        keys.filter(shown).for_each(&mut push);
        let rest =
            |role: RelRole| relation.columns.iter().filter(move |c| c.role == role && !is_result_key(c)).filter(shown);
        rest(RelRole::Bound).for_each(&mut push);
        rest(RelRole::Value).for_each(&mut push);
        rest(RelRole::Key).for_each(&mut push);
        return;
    }
    relation.columns.iter().filter(|c| c.role == RelRole::Synthetic).filter(shown).for_each(&mut push);
    if !relation.key.iter().all(|k| k.of_join) {
        // after PARTITION BY: of each source the values, then its pseudo columns, then its old keys; the new key goes first by itself
        for (alias, _) in &relation.sources {
            let own = || relation.columns.iter().filter(|c| c.qualifier == *alias).filter(shown);
            for role in [RelRole::Value, RelRole::Pseudo, RelRole::Bound, RelRole::Key] {
                own().filter(|c| c.role == role).for_each(&mut push);
            }
        }
        return;
    }
    for (alias, _) in &relation.sources {
        let own = || relation.columns.iter().filter(|c| c.qualifier == *alias).filter(shown);
        own().filter(|c| c.role == RelRole::Key).for_each(&mut push);
        own().filter(|c| c.role == RelRole::Bound).for_each(&mut push);
        own().filter(|c| c.role == RelRole::Value).for_each(&mut push);
    }
}

/// Gives names to columns that have none (statements.md §6.3).
#[derive(Debug)]
pub struct Namer {
    taken: Vec<String>,
    next: usize,
}

impl Namer {
    /// A namer that skips names of the relation's columns.
    pub fn new(relation: &Relation) -> Self {
        Self { taken: relation.columns.iter().map(|c| c.name.clone()).collect(), next: 0 }
    }

    /// `KSQL_COL_n`, the next free one.
    pub fn generate(&mut self) -> String {
        loop {
            let name = format!("KSQL_COL_{}", self.next);
            self.next += 1;
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// The name of a struct field: itself, or with a number where it is taken.
    pub fn field(&mut self, field: &str) -> String {
        let name = std::iter::once(field.to_owned())
            .chain((1..).map(|i| format!("{field}_{i}")))
            .find(|n| !self.taken.contains(n))
            .unwrap_or_default();
        self.taken.push(name.clone());
        name
    }

    /// The name an expression gets without an alias.
    pub fn name_of(&mut self, expr: &Expr, relation: &Relation) -> String {
        match &expr.kind {
            ExprKind::Column(reference) => {
                let name = reference.name.as_str();
                let clash = relation.is_join() && relation.sources_with(name) > 1;
                match relation.scope().resolve(reference) {
                    Ok(found) if clash => match relation.by_physical(&found.physical) {
                        Some(c) if !c.qualifier.is_empty() => format!("{}_{name}", c.qualifier),
                        _ => name.to_owned(),
                    },
                    _ => name.to_owned(),
                }
            }
            ExprKind::Field { field, .. } => self.field(field.as_str()),
            _ => self.generate(),
        }
    }
}

/// Checks names: no duplicates, no reserved ones.
///
/// # Errors
/// Names the column.
pub fn check_names(columns: &[Selected], of: ListOf) -> Result<(), Diagnostic> {
    for (i, c) in columns.iter().enumerate() {
        if pseudo::is_pseudo(&c.name) && !c.starred && (c.named || of == ListOf::Persistent) {
            let text = if c.named {
                format!("`{}` is a reserved column name.", c.name)
            } else {
                format!("Reserved column name in select: `{}`. Please remove or alias the column.", c.name)
            };
            return Err(Diagnostic::user(text)
                .at(c.span)
                .help(format!("give it another name, such as {} AS MY_{}", c.name, c.name)));
        }
        if columns[..i].iter().any(|other| other.name == c.name) {
            return Err(Diagnostic::user(format!(
                "The projection contains more than one column with the name `{0}`: Duplicate column names: {0}",
                c.name
            ))
            .at(c.span)
            .help("give one of them another name with AS"));
        }
    }
    Ok(())
}

/// Splits the selected columns into the key of the result and its values.
///
/// # Errors
/// A key part that is missing, or there more than once; no value columns.
pub fn split_key(
    mut columns: Vec<Selected>,
    relation: &Relation,
    built: &KeyOrigin,
    sink: &str,
) -> Result<(Vec<Selected>, Vec<Selected>), Diagnostic> {
    let mut keys = Vec::new();
    if *built == KeyOrigin::ForeignKey {
        super::foreign_key::check_keys(&columns, relation)?;
    }
    for part in &relation.key {
        let stands =
            |c: &Selected| c.expr == column(&part.physical) || part.equivalents.iter().any(|e| c.expr == column(e));
        // of several columns that equal the key, the one of the left-most source is the key
        let rank = |c: &Selected| part.equivalents.iter().position(|e| c.expr == column(e)).map_or(0, |rank| rank + 1);
        let mut found: Vec<usize> = columns.iter().enumerate().filter(|(_, c)| stands(c)).map(|(i, _)| i).collect();
        found.sort_by_key(|&i| rank(&columns[i]));
        let Some(&first) = found.first() else {
            return Err(missing_key(relation, built, sink));
        };
        let twice = found.iter().skip(1).find(|&&i| columns[i].expr == columns[first].expr);
        if let Some(&second) = twice {
            let (a, b) = (&columns[first].name, &columns[second].name);
            let text = match built {
                KeyOrigin::GroupBy => format!("The projection contains a key column more than once: `{a}` and `{b}`."),
                _ => format!(
                    "The projection contains a key column (`{}`) more than once, aliased as: {a} and {b}.",
                    part.label
                ),
            };
            return Err(Diagnostic::user(text).at(columns[second].span).help(format!(
                "each key column must be in the projection once; use AS_VALUE to copy it into the value, for example AS_VALUE({}) AS {b}",
                part.label
            )));
        }
        let mut key = columns.remove(first);
        key.expr = column(&part.physical);
        keys.push(key);
    }
    if columns.is_empty() {
        return Err(Diagnostic::user("The projection contains no value columns.")
            .help("select a value too; AS_VALUE(key) copies a key column into the value"));
    }
    Ok((keys, columns))
}

/// What made the key of a relation; error texts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// the source's own
    Source,
    /// JOIN
    Join,
    /// JOIN on a foreign key
    ForeignKey,
    /// PARTITION BY
    PartitionBy,
    /// GROUP BY
    GroupBy,
}

fn missing_key(relation: &Relation, built: &KeyOrigin, sink: &str) -> Diagnostic {
    let parts: Vec<&str> = relation.key.iter().map(|k| k.label.as_str()).collect();
    let list = parts.join(" and ");
    let what = match built {
        KeyOrigin::Source => format!("key column{} {list}", if parts.len() > 1 { "s" } else { "" }),
        KeyOrigin::Join | KeyOrigin::ForeignKey => format!("join expression {list}"),
        KeyOrigin::PartitionBy => format!("partitioning expression{} {list}", if parts.len() > 1 { "s" } else { "" }),
        KeyOrigin::GroupBy => format!("grouping expression{} {list}", if parts.len() > 1 { "s" } else { "" }),
    };
    let mut text = format!(
        "Key missing from projection (ie, SELECT). The query used to build `{sink}` must include the {what} in its projection (eg, SELECT {}...).",
        parts.first().map_or("", |p| p.split(" or ").next().unwrap_or(p))
    );
    if relation.key.iter().any(|k| k.synthetic) {
        text.push_str(&format!(
            " {} was added as a synthetic key column because the join criteria did not match any source column. This expression must be included in the projection and may be aliased.",
            list
        ));
    }
    Diagnostic::user(text)
}

/// The schema of keys and values.
pub fn schema(keys: &[Selected], values: &[Selected]) -> LogicalSchema {
    let keys = keys.iter().map(|c| Column::key(ColumnName::new(&c.name), c.ty.clone()));
    let values = values.iter().map(|c| Column::value(ColumnName::new(&c.name), c.ty.clone()));
    LogicalSchema::new(keys.chain(values))
}

/// Refuses a clause that is not BOOLEAN.
///
/// # Errors
/// Names clause and type.
pub fn expect_boolean(clause: &str, expr: &Expr, ty: &SqlType, _: &AnalysisContext<'_>) -> Result<(), Diagnostic> {
    if *ty == SqlType::Boolean {
        return Ok(());
    }
    Err(Diagnostic::user(format!(
        "Type error in {clause} expression: Should evaluate to boolean but is {} ({ty}) instead.",
        sql_text(expr)
    ))
    .at(expr.span()))
}
