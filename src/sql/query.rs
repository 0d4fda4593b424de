//! Queries: SELECT with its clauses, joins, windows, and what may stand around a SELECT.
//!
//! Takes what the dialect can say and leaves it to the analyzer which of it a push, pull or persistent query may use. The
//! subtle thing: EMIT, PARTITION, ORDER, UNION and OFFSET may be names, so an alias without AS looks one token further.

use super::ast::{
    Cte, Emit, EmitClause, Expr, Interval, Join, JoinKind, Loc, OrderItem, Query, QueryBody, Relation, RelationKind,
    Select, SelectItem, Statement, WindowClause, WindowShape, Within,
};
use super::lexer::TokenKind;
use super::parser::{Parser, Parsing};
use crate::diagnostic::suggest;

/// The most SELECTs that one UNION may join; its tree is as deep.
const MAX_UNION_TERMS: usize = 64;

#[derive(Default)]
struct WindowOptions {
    retention: Option<Interval>,
    grace: Option<Interval>,
}

impl Parser<'_> {
    pub(super) fn query_statement(&mut self) -> Parsing<Statement> {
        self.query().map(Statement::Query)
    }

    /// A whole query.
    pub(super) fn query(&mut self) -> Parsing<Query> {
        self.nested(Self::whole_query)
    }

    fn whole_query(&mut self) -> Parsing<Query> {
        let start = self.start();
        let with = if self.accept("WITH") { self.list(Self::cte)? } else { Vec::new() };
        let body = self.query_body()?;
        let order_by = if self.accept_all(&["ORDER", "BY"]) { self.list(Self::order_item)? } else { Vec::new() };
        let emit = self.emit()?;
        let (mut limit, mut offset) = (None, None);
        loop {
            if limit.is_none() && self.accept("LIMIT") {
                limit = Some(self.count("LIMIT")?);
            } else if offset.is_none() && self.accept("OFFSET") {
                offset = Some(self.count("OFFSET")?);
            } else {
                break;
            }
        }
        if !(self.at_symbol(";") || self.at_symbol(")") || self.at_end()) {
            return Err(self.unexpected());
        }
        Ok(Query { with, body, order_by, emit, limit, offset, loc: Loc(self.since(start)) })
    }

    fn cte(&mut self) -> Parsing<Cte> {
        let name = self.source_name()?;
        self.expect("AS")?;
        self.expect_symbol("(")?;
        let query = self.query()?;
        self.expect_symbol(")")?;
        Ok(Cte { name, query })
    }

    fn query_body(&mut self) -> Parsing<QueryBody> {
        let mut body = self.query_term()?;
        for _ in 1..MAX_UNION_TERMS {
            if !self.at_union() {
                return Ok(body);
            }
            self.expect("UNION")?;
            let all = self.accept("ALL");
            let right = self.query_term()?;
            body = QueryBody::Union { left: Box::new(body), right: Box::new(right), all };
        }
        if self.at_union() { Err(self.too_deep(self.token().span)) } else { Ok(body) }
    }

    fn at_union(&self) -> bool {
        let next = self.ahead(1);
        self.at_word("UNION") && (next.is_word("ALL") || next.is_word("SELECT") || next.is_symbol("("))
    }

    fn query_term(&mut self) -> Parsing<QueryBody> {
        if self.accept_symbol("(") {
            let query = self.query()?;
            self.expect_symbol(")")?;
            return Ok(QueryBody::Query(Box::new(query)));
        }
        self.select().map(|select| QueryBody::Select(Box::new(select)))
    }

    fn select(&mut self) -> Parsing<Select> {
        let start = self.start();
        self.expect("SELECT")?;
        let distinct = if self.accept("DISTINCT") { Some(Loc(self.last_span())) } else { None };
        let items = self.list(Self::select_item)?;
        self.expect("FROM")?;
        let from = self.relation()?;
        let mut joins = Vec::new();
        while let Some(join) = self.join()? {
            joins.push(join);
        }
        let window = if self.accept("WINDOW") { Some(self.window()?) } else { None };
        let filter = if self.accept("WHERE") { Some(self.expression()?) } else { None };
        let group_by = if self.accept("GROUP") { self.key_list()? } else { Vec::new() };
        let partition_by = if self.accept_all(&["PARTITION", "BY"]) { self.key_items()? } else { Vec::new() };
        let having = if self.accept("HAVING") { Some(self.expression()?) } else { None };
        let loc = Loc(self.since(start));
        Ok(Select { distinct, items, from, joins, window, filter, group_by, partition_by, having, loc })
    }

    fn select_item(&mut self) -> Parsing<SelectItem> {
        if self.accept_symbol("*") {
            return Ok(SelectItem::Star(Loc(self.last_span())));
        }
        if self.ahead(1).is_symbol(".") && self.ahead(2).is_symbol("*") {
            let source = self.source_name()?;
            self.advance();
            self.advance();
            return Ok(SelectItem::SourceStar(source));
        }
        let expr = self.expression()?;
        if self.at_symbol("->") && self.ahead(1).is_symbol("*") {
            self.advance();
            self.advance();
            return Ok(SelectItem::StructStar(expr));
        }
        let alias = if self.accept("AS") { Some(self.name("an alias")?) } else { self.accept_name()? };
        Ok(SelectItem::Expr { expr, alias })
    }

    fn relation(&mut self) -> Parsing<Relation> {
        let start = self.start();
        let kind = if self.accept_symbol("(") {
            let query = self.query()?;
            self.expect_symbol(")")?;
            RelationKind::Subquery(Box::new(query))
        } else {
            RelationKind::Source(self.source_name()?)
        };
        let alias = if self.accept("AS") {
            Some(self.source_name()?)
        } else if self.at_clause() {
            None
        } else {
            self.accept_source_name()?
        };
        Ok(Relation { kind, alias, loc: Loc(self.since(start)) })
    }

    /// True if the next word could be an alias but begins a clause.
    fn at_clause(&self) -> bool {
        let next_is_number = self.ahead(1).kind == TokenKind::Number;
        let emits = suggest(self.ahead(1).text, ["CHANGES", "FINAL"]).is_some();
        self.at_word("EMIT") && emits
            || self.at_words(&["PARTITION", "BY"])
            || self.at_words(&["ORDER", "BY"])
            || self.at_union()
            || self.at_word("OFFSET") && next_is_number
    }

    fn join(&mut self) -> Parsing<Option<Join>> {
        let start = self.start();
        let outer = [("LEFT", JoinKind::Left), ("RIGHT", JoinKind::Right), ("FULL", JoinKind::Full)];
        let found = outer.into_iter().find(|(word, _)| self.accept(word));
        let kind = match found {
            Some((_, kind)) => {
                self.accept("OUTER");
                self.expect("JOIN")?;
                kind
            }
            None if self.accept("INNER") => {
                self.expect("JOIN")?;
                JoinKind::Inner
            }
            None if self.accept("JOIN") => JoinKind::Inner,
            None => return Ok(None),
        };
        let relation = self.relation()?;
        let within = self.within()?;
        self.expect("ON")?;
        let on = self.expression()?;
        Ok(Some(Join { kind, relation, within, on, loc: Loc(self.since(start)) }))
    }

    fn within(&mut self) -> Parsing<Option<Within>> {
        let start = self.start();
        if !self.accept("WITHIN") {
            return Ok(None);
        }
        let (before, after) = if self.accept_symbol("(") {
            let before = self.interval("WITHIN")?;
            self.expect_symbol(",")?;
            let after = self.interval("WITHIN")?;
            self.expect_symbol(")")?;
            (before, after)
        } else {
            let both = self.interval("WITHIN")?;
            (both, both)
        };
        let grace = if self.accept("GRACE") { Some(self.grace_period()?) } else { None };
        Ok(Some(Within { before, after, grace, loc: Loc(self.since(start)) }))
    }

    fn grace_period(&mut self) -> Parsing<Interval> {
        self.expect("PERIOD")?;
        self.interval("GRACE PERIOD")
    }

    /// `n unit`.
    pub(super) fn interval(&mut self, what: &str) -> Parsing<Interval> {
        let start = self.start();
        let count = self.count(what)?;
        let amount = i64::try_from(count.count).map_err(|_| self.expected(what))?;
        let unit = self.time_unit()?;
        Ok(Interval { amount, unit, loc: Loc(self.since(start)) })
    }

    /// What follows the word WINDOW.
    fn window(&mut self) -> Parsing<WindowClause> {
        let start = self.last_span().start;
        let named = !self.ahead(1).is_symbol("(");
        let name = if named { self.accept_name()? } else { None };
        let (shape, options) = if self.accept("TUMBLING") {
            self.expect_symbol("(")?;
            let size = self.window_size()?;
            (WindowShape::Tumbling { size }, self.window_options()?)
        } else if self.accept("HOPPING") {
            self.expect_symbol("(")?;
            let size = self.window_size()?;
            self.expect_symbol(",")?;
            self.expect_all(&["ADVANCE", "BY"])?;
            let advance = self.interval("ADVANCE BY")?;
            (WindowShape::Hopping { size, advance }, self.window_options()?)
        } else if self.accept("SESSION") {
            self.expect_symbol("(")?;
            let gap = self.interval("SESSION")?;
            (WindowShape::Session { gap }, self.window_options()?)
        } else {
            return Err(self.unexpected());
        };
        let loc = Loc(self.since(start));
        Ok(WindowClause { name, shape, retention: options.retention, grace: options.grace, loc })
    }

    fn window_size(&mut self) -> Parsing<Interval> {
        self.expect("SIZE")?;
        self.interval("SIZE")
    }

    /// `[, RETENTION n unit] [, GRACE PERIOD n unit] )`, in any order.
    fn window_options(&mut self) -> Parsing<WindowOptions> {
        let mut options = WindowOptions::default();
        while self.accept_symbol(",") {
            if options.retention.is_none() && self.accept("RETENTION") {
                options.retention = Some(self.interval("RETENTION")?);
            } else if options.grace.is_none() && self.accept("GRACE") {
                options.grace = Some(self.grace_period()?);
            } else {
                return Err(self.unexpected());
            }
        }
        self.expect_symbol(")")?;
        Ok(options)
    }

    fn key_list(&mut self) -> Parsing<Vec<Expr>> {
        self.expect("BY")?;
        self.key_items()
    }

    /// Expressions of GROUP BY and PARTITION BY; those in a pair of parentheses count one by one.
    fn key_items(&mut self) -> Parsing<Vec<Expr>> {
        let groups = self.list(|p| match p.tuple()? {
            Some(items) => Ok(items),
            None => p.expression().map(|item| vec![item]),
        })?;
        Ok(groups.into_iter().flatten().collect())
    }

    /// `(a, b, …)` with at least two, or nothing.
    fn tuple(&mut self) -> Parsing<Option<Vec<Expr>>> {
        let position = self.position();
        if !self.accept_symbol("(") {
            return Ok(None);
        }
        let first = self.expression()?;
        if !self.accept_symbol(",") {
            self.rewind(position);
            return Ok(None);
        }
        let mut items = vec![first];
        items.extend(self.list(Self::expression)?);
        self.expect_symbol(")")?;
        Ok(Some(items))
    }

    fn emit(&mut self) -> Parsing<Option<EmitClause>> {
        let start = self.start();
        if !self.accept("EMIT") {
            return Ok(None);
        }
        let emit = if self.accept("FINAL") {
            Emit::Final
        } else {
            self.expect("CHANGES")?;
            Emit::Changes
        };
        Ok(Some(EmitClause { emit, loc: Loc(self.since(start)) }))
    }

    fn order_item(&mut self) -> Parsing<OrderItem> {
        let expr = self.expression()?;
        let descending = self.accept("DESC");
        if !descending {
            self.accept("ASC");
        }
        let nulls_first = if self.accept("NULLS") {
            let first = self.accept("FIRST");
            if !first {
                self.expect("LAST")?;
            }
            Some(first)
        } else {
            None
        };
        Ok(OrderItem { expr, descending, nulls_first })
    }
}
