//! A random query of each operator kind over random sources, with the batch query that must give the same rows.
//!
//! The batch side sees each source as rows in order of arrival (`NAME_raw`) and as what it holds at the end (`NAME`: for a table the last row
//! of each key). The subtle thing: functions that see the order of rows are drawn only where all rows of a group keep one.

use super::draw::{Draw, Pair, Source, Type};

/// A query in both dialects, and what it reads.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: &'static str,
    pub partitions: i32,
    pub sources: Vec<Source>,
    pub statements: Vec<String>,
    pub oracle: String,
    /// the sink is a table: its last rows count
    pub is_table: bool,
    /// tables are read to their ends before the streams get rows
    pub tables_first: bool,
}

type Maker = fn(&mut Draw<'_>, &mut Case);

/// The kinds of queries.
pub const KINDS: &[(&str, Maker)] = &[
    ("filter and project a stream", project_stream),
    ("filter and project a table", project_table),
    ("aggregate", aggregate_stream),
    ("tumbling windows", tumbling),
    ("hopping windows", hopping),
    ("session windows", sessions),
    ("aggregate of a table", aggregate_table),
    ("aggregate of an aggregate", aggregate_aggregate),
    ("stream-table join", stream_table),
    ("stream-table join as of row time", stream_table_as_of),
    ("stream-table join of three", stream_two_tables),
    ("table-table join", table_table),
    ("stream-stream join", stream_stream),
    ("foreign-key join", foreign_key),
];

impl Case {
    pub fn draw(draw: &mut Draw<'_>) -> Self {
        let (kind, make) = *draw.one(KINDS);
        let mut case = Self {
            kind,
            partitions: *draw.one(&[1, 1, 2, 4]),
            sources: Vec::new(),
            statements: Vec::new(),
            oracle: String::new(),
            is_table: false,
            tables_first: false,
        };
        make(draw, &mut case);
        let declared = case.sources.iter().map(|s| s.statement(case.partitions));
        case.statements = declared.chain(std::mem::take(&mut case.statements)).collect();
        let views: Vec<String> = case.sources.iter().map(view).collect();
        case.oracle = format!("WITH {} {}", views.join(", "), case.oracle);
        case
    }

    fn sink(&mut self, is_table: bool, query: &str) {
        let kind = if is_table { "TABLE" } else { "STREAM" };
        self.is_table = is_table;
        self.statements.push(format!("CREATE {kind} o WITH (KAFKA_TOPIC='o', KEY_FORMAT='JSON') AS {query};"));
    }
}

fn view(source: &Source) -> String {
    let name = source.name;
    if !source.is_table {
        return format!("{name} AS (SELECT * FROM {name}_raw)");
    }
    format!(
        "{name} AS (SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY seq DESC) AS rn FROM {name}_raw) \
         WHERE rn = 1 AND NOT tomb)"
    )
}

const KEYS: &[Type] = &[Type::Text, Type::Int, Type::BigInt];

/// Expressions named `o0`, `o1`, … over the scope.
fn items(draw: &mut Draw<'_>, scope: &[(String, Type)]) -> Pair {
    let count = 1 + draw.below(4);
    let types = [Type::Int, Type::BigInt, Type::Double, Type::Decimal, Type::Text];
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for i in 0..count {
        let ty = *draw.one(&types);
        let mut expr = draw.expr(ty, scope, 3);
        // a key may stand in the list once only
        if expr.here.ends_with(".k") {
            expr.here = format!("AS_VALUE({})", expr.here);
        }
        here.push(format!("{} AS o{i}", expr.here));
        there.push(format!("{} AS o{i}", expr.there));
    }
    Pair { here: here.join(", "), there: there.join(", ") }
}

fn condition(draw: &mut Draw<'_>, scope: &[(String, Type)]) -> Pair {
    if draw.chance(0.4) { Pair { here: "1 = 1".into(), there: "TRUE".into() } } else { draw.predicate(scope, 2) }
}

fn project(draw: &mut Draw<'_>, case: &mut Case, is_table: bool) {
    let name = if is_table { "t" } else { "s" };
    let key = *draw.one(KEYS);
    let source = draw.source(name, is_table, key, 40, 1_000_000);
    let (list, filter) = (items(draw, &source.scope()), condition(draw, &source.scope()));
    case.sink(
        is_table,
        &format!("SELECT {name}.k, AS_VALUE({name}.k) AS kv, {} FROM {name} WHERE {}", list.here, filter.here),
    );
    case.oracle = format!("SELECT {name}.k AS kv, {} FROM {name} WHERE {}", list.there, filter.there);
    case.sources.push(source);
}

fn project_stream(draw: &mut Draw<'_>, case: &mut Case) {
    project(draw, case, false);
}

fn project_table(draw: &mut Draw<'_>, case: &mut Case) {
    project(draw, case, true);
}

/// How the functions of an aggregate may see their rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    Ordered,
    Unordered,
    Undone,
}

/// A call; and what it is given there, where that is the column `at` of the rows of `of`: two of them may become the same constant, and the
/// oracle takes no two equal columns.
fn call(draw: &mut Draw<'_>, scope: &[(String, Type)], rows: Rows, (of, at): (&str, &str)) -> (Pair, String) {
    let number = *draw.one(&[Type::Int, Type::BigInt, Type::Double]);
    let any = *draw.one(&[Type::Int, Type::BigInt, Type::Double, Type::Decimal, Type::Text]);
    let most = match rows {
        Rows::Undone => 4,
        Rows::Unordered => 11,
        Rows::Ordered => 14,
    };
    let which = draw.below(most);
    let e = draw.expr(if matches!(which, 2 | 3 | 7..=9) { number } else { any }, scope, 1);
    let (here, there) = (&e.here, format!("{of}.{at}"));
    let mut given = e.there.clone();
    let pair = |h: String, t: String| Pair { here: h, there: t };
    let called = match which {
        0 => pair("COUNT(*)".into(), format!("COUNT({of}.seq)")),
        1 => pair(format!("COUNT({here})"), format!("COUNT({there})")),
        2 => pair(format!("SUM({here})"), format!("COALESCE(SUM({there}), 0)")),
        3 => pair(format!("AVG({here})"), format!("COALESCE(AVG({there}), 0)")),
        4 => pair(format!("MIN({here})"), format!("MIN({there})")),
        5 => pair(format!("MAX({here})"), format!("MAX({there})")),
        6 => pair(format!("COUNT_DISTINCT({here})"), format!("COUNT(DISTINCT {there})")),
        7 => pair(
            format!("TOPK({here}, 3)"),
            format!("array_slice(array_sort(array_agg({there}) FILTER (WHERE {there} IS NOT NULL), 'DESC'), 1, 3)"),
        ),
        8 => pair(
            format!("TOPKDISTINCT({here}, 2)"),
            format!(
                "array_slice(array_sort(array_agg(DISTINCT {there}) FILTER (WHERE {there} IS NOT NULL), 'DESC'), 1, 2)"
            ),
        ),
        9 => pair(format!("STDDEV_SAMPLE({here})"), format!("COALESCE(stddev_samp({there}), 0)")),
        10 => {
            let text = draw.expr(Type::Text, scope, 1);
            given = text.there;
            pair(
                format!("ARRAY_SORT(COLLECT_SET(COALESCE({}, 'q')))", text.here),
                format!("array_sort(array_agg(DISTINCT COALESCE({there}, 'q')))"),
            )
        }
        11 => pair(
            format!("LATEST_BY_OFFSET({here})"),
            format!("last_value({there} ORDER BY s.seq) FILTER (WHERE {there} IS NOT NULL)"),
        ),
        12 => pair(
            format!("EARLIEST_BY_OFFSET({here})"),
            format!("first_value({there} ORDER BY s.seq) FILTER (WHERE {there} IS NOT NULL)"),
        ),
        _ => pair(format!("COLLECT_LIST({here})"), format!("array_agg({there} ORDER BY s.seq)")),
    };
    (called, format!(", {given} AS {at}"))
}

/// Calls named `o0`, `o1`, … over the rows of `of`, and the columns that these must have there beside their own.
fn calls(draw: &mut Draw<'_>, scope: &[(String, Type)], rows: Rows, of: &str) -> (Pair, String) {
    let (picked, given): (Vec<Pair>, Vec<String>) =
        (0..1 + draw.below(4)).map(|i| call(draw, scope, rows, (of, &format!("x{i}")))).unzip();
    let named = |of: fn(&Pair) -> &String| -> String {
        picked.iter().enumerate().map(|(i, p)| format!("{} AS o{i}", of(p))).collect::<Vec<_>>().join(", ")
    };
    (Pair { here: named(|p| &p.here), there: named(|p| &p.there) }, given.concat())
}

/// A window here, and there the rows of `base` with their `ws`.
struct Window {
    here: String,
    there: Box<dyn Fn(&str, &str) -> String>,
    size_ms: i64,
}

/// What a window does with time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// no row is late, all changes are given
    Open,
    /// rows are late after this grace in ms; one partition, so that there is one time
    Grace(i64),
    /// no row is late, and results are given when the input is idle
    Final,
}

impl Mode {
    fn draw(draw: &mut Draw<'_>, window: &Window, partitions: i32) -> Self {
        match draw.below(3) {
            0 => Self::Final,
            1 if window.size_ms > 0 && partitions == 1 => Self::Grace(*draw.one(&[0, 1000, 5000])),
            _ => Self::Open,
        }
    }

    fn clause(self, window: &str) -> String {
        match self {
            Self::Open => window.to_owned(),
            Self::Grace(grace_ms) => {
                window.replace("SECONDS)", &format!("SECONDS, GRACE PERIOD {grace_ms} MILLISECONDS)"))
            }
            Self::Final => window.replace("SECONDS)", "SECONDS, GRACE PERIOD 1 DAY)"),
        }
    }
}

/// An aggregate over `s` by its key or by columns.
fn aggregate(draw: &mut Draw<'_>, case: &mut Case, window: Option<&Window>) {
    let key = *draw.one(KEYS);
    let source = draw.source("s", false, key, 60, 1_000_000);
    let by: Vec<String> = if draw.chance(0.5) {
        vec!["s.k".into()]
    } else {
        let of = [source.of_type(Type::Text), source.of_type(Type::Int), source.of_type(Type::Bool)].concat();
        let first = draw.one(&of).clone();
        let second = draw.one(&of).clone();
        let both = draw.chance(0.3) && second != first;
        let all = if both { vec![first, second] } else { vec![first] };
        all.into_iter().map(|name| format!("s.{name}")).collect()
    };
    let is_session = window.is_some_and(|w| w.size_ms == 0);
    let ordered = !is_session && (by[0] == "s.k" || case.partitions == 1);
    let rows = if ordered { Rows::Ordered } else { Rows::Unordered };
    let ((list, given), filter) = (calls(draw, &source.scope(), rows, "s"), condition(draw, &source.scope()));
    // two names for one count, since the oracle takes no two equal columns
    let having = if draw.chance(0.3) { format!("HAVING COUNT(*) > {}", draw.below(3)) } else { String::new() };
    let having_there = having.replace("(*)", "(s.rt)");

    let mode = window.map_or(Mode::Open, |window| Mode::draw(draw, window, case.partitions));
    let keys = by.join(", ");
    let copies: Vec<String> = by.iter().enumerate().map(|(i, g)| format!("AS_VALUE({g}) AS g{i}")).collect();
    let groups: Vec<String> = by.iter().enumerate().map(|(i, g)| format!("{g} AS g{i}")).collect();
    let (bounds, window_here) = match window {
        Some(window) => (", WINDOWSTART AS ws, WINDOWEND AS we", mode.clause(&window.here)),
        None => ("", String::new()),
    };
    let emit = if mode == Mode::Final { "EMIT FINAL" } else { "" };
    case.sink(
        true,
        &format!(
            "SELECT {keys}, {}{bounds}, {} FROM s {window_here} WHERE {} GROUP BY {keys} {having} {emit}",
            copies.join(", "),
            list.here,
            filter.here
        ),
    );
    let present: Vec<String> = by.iter().map(|g| format!("{g} IS NOT NULL")).collect();
    // how far time is when a row comes
    let base = format!(
        "SELECT s.*, MAX(s.rt) OVER (ORDER BY s.seq ROWS UNBOUNDED PRECEDING) AS seen FROM s WHERE {} AND {}",
        filter.there,
        present.join(" AND ")
    );
    let in_time = match (mode, window) {
        (Mode::Grace(grace_ms), Some(window)) => format!("WHERE s.ws + {} + {grace_ms} > s.seen", window.size_ms),
        _ => String::new(),
    };
    let (from, bounds, more) = match window {
        None => (base, String::new(), String::new()),
        Some(window) if is_session => {
            ((window.there)(&base, &keys), ", min(s.rt) AS ws, max(s.rt) AS we".to_owned(), ", s.session".to_owned())
        }
        Some(window) => (
            (window.there)(&base, &keys),
            format!(", s.ws AS ws, s.ws + {} AS we", window.size_ms),
            ", s.ws".to_owned(),
        ),
    };
    case.oracle = format!(
        "SELECT {}{bounds}, {} FROM (SELECT s.*{given} FROM ({from}) s) s {in_time} GROUP BY {keys}{more} {having_there}",
        groups.join(", "),
        list.there
    );
    case.sources.push(source);
}

fn aggregate_stream(draw: &mut Draw<'_>, case: &mut Case) {
    aggregate(draw, case, None);
}

fn tumbling(draw: &mut Draw<'_>, case: &mut Case) {
    let window = Window {
        here: "WINDOW TUMBLING (SIZE 7 SECONDS)".into(),
        there: Box::new(|base, _| format!("SELECT s.*, s.rt - s.rt % 7000 AS ws FROM ({base}) s")),
        size_ms: 7000,
    };
    aggregate(draw, case, Some(&window));
}

fn hopping(draw: &mut Draw<'_>, case: &mut Case) {
    // windows that overlap in part, as often as they are long, not at all
    let (size, advance) = *draw.one(&[(10, 4), (10, 4), (9, 3), (7, 2), (5, 5), (12, 11)]);
    let hops = (0..(size + advance - 1) / advance).map(|n| format!("({n})")).collect::<Vec<_>>().join(", ");
    let (size_ms, advance_ms) = (1000 * size, 1000 * advance);
    let window = Window {
        here: format!("WINDOW HOPPING (SIZE {size} SECONDS, ADVANCE BY {advance} SECONDS)"),
        there: Box::new(move |base, _| {
            format!(
                "SELECT * FROM (SELECT s.*, (s.rt - s.rt % {advance_ms}) - hop.n * {advance_ms} AS ws \
                 FROM ({base}) s CROSS JOIN (VALUES {hops}) AS hop(n)) x WHERE x.rt < x.ws + {size_ms}"
            )
        }),
        size_ms,
    };
    aggregate(draw, case, Some(&window));
}

fn sessions(draw: &mut Draw<'_>, case: &mut Case) {
    let window = Window {
        here: "WINDOW SESSION (3 SECONDS)".into(),
        there: Box::new(|base, keys| {
            let of_x = keys.replace("s.", "x.");
            format!(
                "SELECT x.*, SUM(x.begins) OVER (PARTITION BY {of_x} ORDER BY x.rt, x.seq ROWS UNBOUNDED PRECEDING) AS session \
                 FROM (SELECT s.*, CASE WHEN s.rt - LAG(s.rt) OVER (PARTITION BY {keys} ORDER BY s.rt, s.seq) <= 3000 \
                 THEN 0 ELSE 1 END AS begins FROM ({base}) s) x"
            )
        }),
        size_ms: 0,
    };
    aggregate(draw, case, Some(&window));
}

fn aggregate_table(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let source = draw.source("t", true, key, 60, 1_000_000);
    let of = [source.of_type(Type::Text), source.of_type(Type::Int)].concat();
    let by = draw.one(&of).clone();
    let ((list, given), filter) = (calls(draw, &source.scope(), Rows::Undone, "t"), condition(draw, &source.scope()));
    // groups that became empty stay, with their zeros
    case.sink(
        true,
        &format!(
            "SELECT t.{by}, AS_VALUE(t.{by}) AS g0, {} FROM t WHERE {} GROUP BY t.{by} HAVING COUNT(*) > 0",
            list.here, filter.here
        ),
    );
    case.oracle = format!(
        "SELECT t.{by} AS g0, {} FROM (SELECT t.*{given} FROM t) t WHERE {} AND t.{by} IS NOT NULL GROUP BY t.{by}",
        list.there, filter.there
    );
    case.sources.push(source);
}

fn aggregate_aggregate(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let source = draw.source("s", false, key, 60, 1_000_000);
    let filter = condition(draw, &source.scope());
    case.statements.push(format!(
        "CREATE TABLE m WITH (KAFKA_TOPIC='m') AS SELECT s.k, COUNT(*) AS n, SUM(s.c0) AS x FROM s WHERE {} GROUP BY s.k;",
        filter.here
    ));
    case.sink(true, "SELECT n, AS_VALUE(n) AS g0, COUNT(*) AS o0, SUM(x) AS o1 FROM m GROUP BY n HAVING COUNT(*) > 0");
    case.oracle = format!(
        "SELECT m.n AS g0, COUNT(*) AS o0, COALESCE(SUM(m.x), 0) AS o1 FROM (SELECT s.k, COUNT(*) AS n, \
         COALESCE(SUM(s.c0), 0) AS x FROM s WHERE {} GROUP BY s.k) m GROUP BY m.n",
        filter.there
    );
    case.sources.push(source);
}

fn stream_table(draw: &mut Draw<'_>, case: &mut Case) {
    case.tables_first = true;
    let key = *draw.one(KEYS);
    let (s, t) = (draw.source("s", false, key, 40, 2_000_000), draw.source("t", true, key, 20, 1_000_000));
    let scope = [s.scope(), t.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let join = *draw.one(&["JOIN", "LEFT JOIN"]);
    let from = format!("FROM s {join} t ON s.k = t.k");
    case.sink(false, &format!("SELECT s.k, AS_VALUE(s.k) AS kv, {} {from} WHERE {}", list.here, filter.here));
    case.oracle = format!("SELECT s.k AS kv, {} {from} WHERE {}", list.there, filter.there);
    case.sources = vec![s, t];
}

fn stream_table_as_of(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let (mut s, mut t) = (draw.source("s", false, key, 40, 1_000_000), draw.source("t", true, key, 40, 1_000_000));
    for source in [&mut s, &mut t] {
        let mut highest = 0;
        for row in &mut source.rows {
            highest = row.at_ms.max(highest);
            row.at_ms = highest;
        }
    }
    let scope = [s.scope(), t.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let left = draw.chance(0.5);
    let join = if left { "LEFT JOIN" } else { "JOIN" };
    let present = if left { "TRUE" } else { "t.seq IS NOT NULL" };
    case.sink(
        false,
        &format!("SELECT s.k, AS_VALUE(s.k) AS kv, {} FROM s {join} t ON s.k = t.k WHERE {}", list.here, filter.here),
    );
    case.oracle = format!(
        "SELECT s.k AS kv, {} FROM s \
         LEFT JOIN (SELECT s.seq AS s_seq, MAX(r.seq) AS t_seq FROM s JOIN t_raw r ON r.k = s.k AND r.rt < s.rt GROUP BY s.seq) j \
         ON j.s_seq = s.seq \
         LEFT JOIN (SELECT * FROM t_raw WHERE NOT tomb) t ON t.seq = j.t_seq WHERE {present} AND {}",
        list.there, filter.there
    );
    case.sources = vec![s, t];
}

fn stream_two_tables(draw: &mut Draw<'_>, case: &mut Case) {
    case.tables_first = true;
    let key = *draw.one(KEYS);
    let s = draw.source("s", false, key, 40, 2_000_000);
    let (t, u) = (draw.source("t", true, key, 20, 1_000_000), draw.source("u", true, key, 20, 1_000_000));
    let scope = [s.scope(), t.scope(), u.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let (one, two) = (*draw.one(&["JOIN", "LEFT JOIN"]), *draw.one(&["JOIN", "LEFT JOIN"]));
    let from = format!("FROM s {one} t ON s.k = t.k {two} u ON s.k = u.k");
    case.sink(false, &format!("SELECT s.k, AS_VALUE(s.k) AS kv, {} {from} WHERE {}", list.here, filter.here));
    case.oracle = format!("SELECT s.k AS kv, {} {from} WHERE {}", list.there, filter.there);
    case.sources = vec![s, t, u];
}

fn table_table(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let (t, u) = (draw.source("t", true, key, 30, 1_000_000), draw.source("u", true, key, 30, 1_000_000));
    let scope = [t.scope(), u.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let join = *draw.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL OUTER JOIN"]);
    let key = match join {
        "FULL OUTER JOIN" => "ROWKEY",
        "RIGHT JOIN" => "u.k",
        _ => "t.k",
    };
    let from = format!("FROM t {join} u ON t.k = u.k");
    case.sink(
        true,
        &format!("SELECT {key}, AS_VALUE(t.k) AS tk, AS_VALUE(u.k) AS uk, {} {from} WHERE {}", list.here, filter.here),
    );
    case.oracle = format!("SELECT t.k AS tk, u.k AS uk, {} {from} WHERE {}", list.there, filter.there);
    case.sources = vec![t, u];
}

fn stream_stream(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let (s, r) = (draw.source("s", false, key, 30, 1_000_000), draw.source("r", false, key, 30, 1_000_000));
    let scope = [s.scope(), r.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let (within, before, after) = *draw.one(&[("5 SECONDS", 5000, 5000), ("(2 SECONDS, 8 SECONDS)", 2000, 8000)]);
    let join = *draw.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL OUTER JOIN"]);
    let key = match join {
        "FULL OUTER JOIN" => "ROWKEY",
        "RIGHT JOIN" => "r.k",
        _ => "s.k",
    };
    // no row is late; those without partner come when the input is idle
    case.sink(
        false,
        &format!(
            "SELECT {key}, AS_VALUE(s.k) AS sk, AS_VALUE(r.k) AS rk, {} \
             FROM s {join} r WITHIN {within} GRACE PERIOD 1 DAY ON s.k = r.k WHERE {}",
            list.here, filter.here
        ),
    );
    case.oracle = format!(
        "SELECT s.k AS sk, r.k AS rk, {} \
         FROM s {join} r ON s.k = r.k AND r.rt >= s.rt - {before} AND r.rt <= s.rt + {after} WHERE {}",
        list.there, filter.there
    );
    case.sources = vec![s, r];
}

fn foreign_key(draw: &mut Draw<'_>, case: &mut Case) {
    let key = *draw.one(KEYS);
    let (t, r) = (draw.source("t", true, key, 40, 1_000_000), draw.source("r", true, Type::Int, 30, 1_000_000));
    let scope = [t.scope(), r.scope()].concat();
    let (list, filter) = (items(draw, &scope), condition(draw, &scope));
    let from = format!("FROM t {} r ON t.c0 = r.k", draw.one(&["JOIN", "LEFT JOIN"]));
    case.sink(true, &format!("SELECT t.k, AS_VALUE(t.k) AS kv, {} {from} WHERE {}", list.here, filter.here));
    case.oracle = format!("SELECT t.k AS kv, {} {from} WHERE {}", list.there, filter.there);
    case.sources = vec![t, r];
}
