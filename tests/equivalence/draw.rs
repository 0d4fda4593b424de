//! Random schemas, rows and expressions, each expression in both dialects.
//!
//! The subtle thing: the two dialects disagree about NULL (a comparison with it is FALSE here, NULL there), so each expression is drawn once
//! and written twice. Numbers are multiples of a quarter and small, so that sums are exact in any order.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Int,
    BigInt,
    Double,
    Decimal,
    Text,
    Bool,
}

impl Type {
    /// Its name here.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Decimal => "DECIMAL(8, 2)",
            Self::Text => "STRING",
            Self::Bool => "BOOLEAN",
        }
    }

    /// Its name there.
    fn oracle_name(self) -> &'static str {
        match self {
            Self::Text => "VARCHAR",
            other => other.name(),
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Int(i64),
    Double(f64),
    Text(String),
    Bool(bool),
}

/// A row, or the deletion of a key.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: Cell,
    /// `None`: a tombstone
    pub cells: Option<Vec<Cell>>,
    pub at_ms: i64,
}

/// A source with its rows in order of arrival.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: &'static str,
    pub is_table: bool,
    pub key: Type,
    pub columns: Vec<(String, Type)>,
    pub rows: Vec<Row>,
}

impl Source {
    /// Its CREATE statement.
    pub fn statement(&self, partitions: i32) -> String {
        let (kind, key) = if self.is_table { ("TABLE", "PRIMARY KEY") } else { ("STREAM", "KEY") };
        let columns: Vec<String> = self.columns.iter().map(|(name, ty)| format!(", {name} {}", ty.name())).collect();
        format!(
            "CREATE {kind} {} (k {} {key}{}) WITH (KAFKA_TOPIC='{}', VALUE_FORMAT='JSON', PARTITIONS={partitions});",
            self.name,
            self.key.name(),
            columns.concat(),
            self.name
        )
    }

    /// Its columns as an expression may name them, the key among them.
    pub fn scope(&self) -> Vec<(String, Type)> {
        let key = [(format!("{}.k", self.name), self.key)];
        key.into_iter().chain(self.columns.iter().map(|(n, t)| (format!("{}.{n}", self.name), *t))).collect()
    }

    /// Names of its columns of a type.
    pub fn of_type(&self, ty: Type) -> Vec<String> {
        self.columns.iter().filter(|(_, t)| *t == ty).map(|(n, _)| n.clone()).collect()
    }
}

/// An expression, here and there.
#[derive(Clone, Debug)]
pub struct Pair {
    pub here: String,
    pub there: String,
}

impl Pair {
    pub fn same(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { here: text.clone(), there: text }
    }

    fn map(parts: &[Self], here: impl Fn(&[&str]) -> String, there: impl Fn(&[&str]) -> String) -> Self {
        let of_here: Vec<&str> = parts.iter().map(|p| p.here.as_str()).collect();
        let of_there: Vec<&str> = parts.iter().map(|p| p.there.as_str()).collect();
        Self { here: here(&of_here), there: there(&of_there) }
    }

    fn both(parts: &[Self], text: impl Fn(&[&str]) -> String) -> Self {
        Self::map(parts, &text, &text)
    }
}

/// The random numbers.
pub struct Draw<'a> {
    pub random: &'a mut StdRng,
}

const WORDS: &[&str] = &["", "a", "b", "ab", "ba b", " c ", "abc", "Zz"];

impl Draw<'_> {
    pub fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.random.random_bool(p)
    }

    pub fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        of.choose(self.random).expect("not empty")
    }

    /// A source of up to `most` rows from `from_ms` on; `rising`: their times only grow.
    pub fn source(&mut self, name: &'static str, is_table: bool, key: Type, most: usize, from_ms: i64) -> Source {
        let types = [Type::Int, Type::BigInt, Type::Double, Type::Decimal, Type::Text, Type::Bool];
        let mut columns: Vec<(String, Type)> =
            [Type::Int, Type::Text].iter().enumerate().map(|(i, ty)| (format!("c{i}"), *ty)).collect();
        for i in 2..2 + self.below(4) {
            columns.push((format!("c{i}"), *self.one(&types)));
        }
        let keys = 1 + self.below(8) as i64;
        let mut now_ms = from_ms;
        let mut rows = Vec::new();
        for _ in 0..self.below(most) + 1 {
            now_ms += self.random.random_range(0..4000);
            let late = if self.chance(0.2) { self.random.random_range(0..10_000) } else { 0 };
            let key = match (key, self.random.random_range(0..keys)) {
                (Type::Text, n) => Cell::Text(format!("key{n}")),
                (_, n) => Cell::Int(n - 2),
            };
            let deleted = is_table && self.chance(0.15);
            let cells = (!deleted).then(|| columns.iter().map(|(_, ty)| self.cell(*ty)).collect());
            rows.push(Row { key, cells, at_ms: (now_ms - late).max(from_ms) });
        }
        Source { name, is_table, key, columns, rows }
    }

    fn cell(&mut self, ty: Type) -> Cell {
        if self.chance(0.12) {
            return Cell::Null;
        }
        match ty {
            Type::Int | Type::BigInt => Cell::Int(self.random.random_range(-4..12)),
            Type::Double | Type::Decimal => Cell::Double(f64::from(self.random.random_range(-20..40)) / 4.0),
            Type::Text => Cell::Text((*self.one(WORDS)).to_owned()),
            Type::Bool => Cell::Bool(self.random.random_bool(0.5)),
        }
    }

    /// An expression of that type over the columns in scope.
    pub fn expr(&mut self, ty: Type, scope: &[(String, Type)], depth: usize) -> Pair {
        if ty == Type::Bool {
            return self.predicate(scope, depth);
        }
        let columns: Vec<&String> = scope.iter().filter(|(_, t)| *t == ty).map(|(n, _)| n).collect();
        if depth == 0 || self.chance(0.25) {
            return match columns.choose(self.random) {
                Some(name) => Pair::same((*name).clone()),
                None => self.literal(ty),
            };
        }
        match self.below(4) {
            0 => {
                let parts = [
                    self.predicate(scope, depth - 1),
                    self.expr(ty, scope, depth - 1),
                    self.expr(ty, scope, depth - 1),
                ];
                Pair::both(&parts, |p| format!("CASE WHEN {} THEN {} ELSE {} END", p[0], p[1], p[2]))
            }
            1 => {
                let parts = [self.expr(ty, scope, depth - 1), self.literal(ty)];
                Pair::both(&parts, |p| format!("COALESCE({}, {})", p[0], p[1]))
            }
            // whose sums have other types
            _ if ty == Type::Decimal => self.expr(ty, scope, 0),
            _ if ty == Type::Text => self.text(scope, depth - 1),
            _ => self.sum(ty, scope, depth - 1),
        }
    }

    fn literal(&mut self, ty: Type) -> Pair {
        let number = self.random.random_range(0..9);
        match ty {
            Type::Int => Pair { here: number.to_string(), there: format!("CAST({number} AS INT)") },
            Type::BigInt | Type::Double | Type::Decimal => Pair::same(format!("CAST({number} AS {})", ty.name())),
            Type::Text => Pair::same(format!("'{}'", self.one(WORDS))),
            Type::Bool => Pair::same("TRUE"),
        }
    }

    fn sum(&mut self, ty: Type, scope: &[(String, Type)], depth: usize) -> Pair {
        // arithmetic with NULL fails, which makes the whole expression NULL here
        let mut present = || {
            let parts = [self.expr(ty, scope, depth), self.literal(ty)];
            Pair::both(&parts, |p| format!("COALESCE({}, {})", p[0], p[1]))
        };
        let parts = [present(), present()];
        match self.below(4) {
            0 => Pair::both(&parts, |p| format!("({} + {})", p[0], p[1])),
            1 => Pair::both(&parts, |p| format!("({} - {})", p[0], p[1])),
            2 => Pair::both(&parts[..1], |p| format!("ABS({})", p[0])),
            _ if ty == Type::Double => {
                let whole = [self.expr(Type::Int, scope, depth)];
                Pair::both(&whole, |p| format!("CAST({} AS DOUBLE)", p[0]))
            }
            _ if ty == Type::Int => {
                let text = [self.expr(Type::Text, scope, depth)];
                Pair::map(&text, |p| format!("LEN({})", p[0]), |p| format!("CAST(character_length({}) AS INT)", p[0]))
            }
            _ => Pair::both(&parts[..1], |p| format!("({} * 3)", p[0])),
        }
    }

    fn text(&mut self, scope: &[(String, Type)], depth: usize) -> Pair {
        let part = [self.expr(Type::Text, scope, depth), self.expr(Type::Text, scope, depth)];
        match self.below(7) {
            0 => Pair::map(&part[..1], |p| format!("UCASE({})", p[0]), |p| format!("upper({})", p[0])),
            1 => Pair::map(&part[..1], |p| format!("LCASE({})", p[0]), |p| format!("lower({})", p[0])),
            2 => Pair::both(&part[..1], |p| format!("TRIM({})", p[0])),
            3 => Pair::both(&part[..1], |p| format!("REPLACE({}, 'b', 'xy')", p[0])),
            4 => {
                let from = 1 + self.below(3);
                Pair::map(
                    &part[..1],
                    |p| format!("SUBSTRING({}, {from})", p[0]),
                    |p| format!("substr({}, {from})", p[0]),
                )
            }
            5 => {
                let whole = [self.expr(Type::Int, scope, depth)];
                Pair::map(
                    &whole,
                    |p| format!("CAST({} AS STRING)", p[0]),
                    |p| format!("CAST({} AS {})", p[0], Type::Text.oracle_name()),
                )
            }
            _ => Pair::both(&part, |p| format!("CONCAT(COALESCE({}, '-'), COALESCE({}, '+'))", p[0], p[1])),
        }
    }

    /// A condition that is TRUE or FALSE, never NULL.
    pub fn predicate(&mut self, scope: &[(String, Type)], depth: usize) -> Pair {
        if depth > 0 && self.chance(0.4) {
            let parts = [self.predicate(scope, depth - 1), self.predicate(scope, depth - 1)];
            return match self.below(3) {
                0 => Pair::both(&parts, |p| format!("({} AND {})", p[0], p[1])),
                1 => Pair::both(&parts, |p| format!("({} OR {})", p[0], p[1])),
                _ => Pair::both(&parts[..1], |p| format!("(NOT {})", p[0])),
            };
        }
        let ty = *self.one(&[Type::Int, Type::BigInt, Type::Double, Type::Decimal, Type::Text]);
        let below = depth.saturating_sub(1);
        if self.chance(0.2) {
            let text = [self.expr(Type::Text, scope, below)];
            let which =
                *self.one(&["LIKE 'a%'", "LIKE '%b_'", "NOT LIKE '%b%'", "IN ('a', 'ab', '')", "NOT IN ('abc')"]);
            return Pair::both(&text, |p| format!("(COALESCE({}, 'abc') {which})", p[0]));
        }
        let parts = [self.expr(ty, scope, below), self.expr(ty, scope, below)];
        match self.below(5) {
            0 => Pair::both(&parts[..1], |p| format!("({} IS NULL)", p[0])),
            1 => Pair::both(&parts[..1], |p| format!("({} IS NOT NULL)", p[0])),
            n => {
                let op = *self.one(&["=", "<>", "<", "<=", ">", ">="]);
                let op = if n == 2 { "=" } else { op };
                Pair::map(
                    &parts,
                    |p| format!("({} {op} {})", p[0], p[1]),
                    |p| format!("(({} {op} {}) IS TRUE)", p[0], p[1]),
                )
            }
        }
    }
}
