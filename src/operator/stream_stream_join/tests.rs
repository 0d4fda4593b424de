//! Stream-stream joins against a list of rows, one row at a time.

use proptest::prelude::*;

use super::*;
use crate::operator::port::tests::{Disturb, Row, Shown, batch, columns, drive, random_rows, row, schema, show};
use crate::plan::topology::JoinWithin;
use crate::state::encoding::tests::Chance;
use crate::state::keyed::tests::MapStore;
use crate::types::WindowBounds;

fn within(before_ms: i64, after_ms: i64, grace: Option<i64>) -> JoinWithin {
    JoinWithin { before_ms, after_ms, grace_ms: grace.unwrap_or(86_400_000), holds_back: grace.is_some() }
}

fn spec(kind: JoinKind, within: JoinWithin) -> StreamJoinSpec {
    let (left, right) = (schema("L_"), schema("R_"));
    StreamJoinSpec { kind, store: "rows".into(), left, right, key_count: 1, windowed: false, sessions: false, within }
}

fn make(kind: JoinKind, within: JoinWithin) -> impl Fn() -> Box<dyn Operator> {
    move || Box::new(StreamStreamJoin::new(&spec(kind, within)).unwrap())
}

/// What `semantics.md` §5 says, word for word.
struct Reference<'a> {
    kind: JoinKind,
    within: JoinWithin,
    rows: &'a [Row],
    time: i64,
    own: [i64; 2],
    kept: [Vec<usize>; 2],
    held: Vec<(i64, usize, usize)>,
    out: Vec<Shown>,
}

impl Reference<'_> {
    fn run(kind: JoinKind, within: JoinWithin, rows: &[Row]) -> Vec<Shown> {
        let (time, own) = (i64::MIN, [i64::MIN; 2]);
        let mut it = Reference { kind, within, rows, time, own, kept: Default::default(), held: vec![], out: vec![] };
        (0..rows.len()).for_each(|i| it.row(i));
        it.out
    }

    fn outer(&self, side: usize) -> bool {
        self.kind == JoinKind::Full || self.kind == [JoinKind::Left, JoinKind::Right][side]
    }

    fn lookahead(&self, side: usize) -> i64 {
        [self.within.after_ms, self.within.before_ms][side]
    }

    fn emit(&mut self, by: usize, time: i64, sides: [Option<usize>; 2]) {
        let [left, right] = sides.map(|side| side.map(|i| &self.rows[i]));
        let key = left.or(right).and_then(|r| r.key.clone()).unwrap_or("–".into());
        let new = format!("{},{}", columns(left), columns(right));
        self.out.push(Shown { offset: by as i64, time, key, new, old: String::new(), header: self.rows[by].header });
    }

    fn alone(&mut self, by: usize, side: usize, i: usize) {
        let mut sides = [None; 2];
        sides[side] = Some(i);
        self.emit(by, self.rows[i].time, sides);
    }

    fn row(&mut self, i: usize) {
        let row = self.rows[i].clone();
        let (side, other) = (row.port, 1 - row.port);
        self.time = self.time.max(row.time);
        if row.value.is_none() {
            return;
        }
        if row.key.is_none() {
            if self.outer(side) {
                self.alone(i, side, i);
            }
            return;
        }
        if self.within.holds_back && row.time == self.time {
            self.close(i);
        }
        let (before, after) = (self.lookahead(other), self.lookahead(side));
        let retention = self.within.retention_ms();
        let mut partners: Vec<(i64, usize)> = Vec::new();
        for &p in &self.kept[other] {
            let partner = &self.rows[p];
            let near = row.time - before <= partner.time && partner.time <= row.time + after;
            if partner.key == row.key && near && partner.time >= self.own[other].saturating_sub(retention) {
                partners.push((partner.time, p));
            }
        }
        partners.sort_unstable();
        for &(time, p) in &partners {
            self.held.retain(|held| held.2 != p);
            let sides = if side == 0 { [Some(i), Some(p)] } else { [Some(p), Some(i)] };
            self.emit(i, time.max(row.time), sides);
        }
        if partners.is_empty() && self.outer(side) {
            if !self.within.holds_back || row.time + self.lookahead(side) < self.time {
                self.alone(i, side, i);
            } else {
                self.held.push((row.time, side, i));
            }
        }
        self.own[side] = self.own[side].max(row.time);
        if row.time >= self.own[side].saturating_sub(retention) {
            self.kept[side].push(i);
        }
    }

    fn close(&mut self, by: usize) {
        self.held.sort_unstable();
        for (time, side, i) in std::mem::take(&mut self.held) {
            if time + self.lookahead(side) + self.within.grace_ms < self.time {
                self.alone(by, side, i);
            } else {
                self.held.push((time, side, i));
            }
        }
    }
}

fn words(kind: JoinKind, within: JoinWithin, rows: &[Row]) -> Vec<String> {
    let mut ctx = StepContext::new();
    let out = drive(&make(kind, within), rows, &mut Chance(0), Disturb::Never, &mut ctx);
    out.into_iter().map(|s| format!("{} {} @{}", s.key, s.new, s.time)).collect()
}

#[test]
fn rows_within_the_time_meet_oldest_first() {
    let rows = [
        row(1, 40, "a", Some(1)),
        row(1, 20, "a", Some(2)),
        row(1, 20, "b", Some(3)),
        row(0, 30, "a", Some(4)),
        row(0, 51, "a", Some(5)),
        row(1, 52, "a", Some(6)),
    ];
    assert_eq!(
        words(JoinKind::Inner, within(10, 20, Some(100)), &rows),
        ["a a,4,s4,a,2,s2 @30", "a a,4,s4,a,1,s1 @40", "a a,5,s5,a,6,s6 @52"]
    );
}

#[test]
fn without_grace_a_row_is_given_alone_and_again_with_its_partner() {
    let rows = [row(0, 10, "a", Some(1)), row(1, 12, "a", Some(2)), row(1, 90, "b", Some(3))];
    assert_eq!(
        words(JoinKind::Full, within(5, 5, None), &rows),
        ["a a,1,s1,–,–,– @10", "a a,1,s1,a,2,s2 @12", "b –,–,–,b,3,s3 @90"]
    );
}

#[test]
fn with_grace_a_row_is_held_until_its_window_closes() {
    let rows = [
        row(0, 10, "a", Some(1)),
        row(0, 11, "b", Some(2)),
        row(1, 12, "a", Some(3)),
        row(1, 26, "x", Some(4)),
        row(1, 27, "x", Some(5)),
        row(1, 99, "x", None),
        row(1, 99, "x", Some(6)),
    ];
    assert_eq!(words(JoinKind::Left, within(5, 5, Some(10)), &rows), ["a a,1,s1,a,3,s3 @12", "b b,2,s2,–,–,– @11"]);
    assert_eq!(
        words(JoinKind::Full, within(5, 5, Some(10)), &rows)[1..],
        ["b b,2,s2,–,–,– @11", "x –,–,–,x,4,s4 @26", "x –,–,–,x,5,s5 @27"]
    );
}

#[test]
fn emissions_are_throttled_by_wall_clock_only_where_it_is_asked_for() {
    let rows =
        [row(0, 10, "a", Some(1)), row(0, 100, "b", Some(2)), row(0, 200, "c", Some(3)), row(0, 300, "d", Some(4))];
    let given = |interval: i64| {
        let mut ctx = StepContext { outer_emit_interval_ms: interval, wall_ms: 5, ..StepContext::new() };
        drive(&make(JoinKind::Left, within(1, 1, Some(0))), &rows, &mut Chance(1), Disturb::Crash, &mut ctx).len()
    };
    assert_eq!((given(0), given(1000)), (3, 1));
}

#[test]
fn windows_are_part_of_the_key() {
    let spec = StreamJoinSpec { windowed: true, sessions: true, ..spec(JoinKind::Left, within(100, 100, Some(0))) };
    let mut join = StreamStreamJoin::new(&spec).unwrap();
    let mut ctx = StepContext::new();
    let windowed = |seq: u32, row: &Row, start: i64| {
        let mut batch = batch(&[(seq, 0, row)]).unwrap();
        batch.meta.window = Some(WindowBounds { start: vec![start].into(), end: vec![start + 10].into() });
        batch
    };
    let (left, near, far) = (row(0, 5, "a", Some(1)), row(1, 6, "a", Some(2)), row(0, 500, "b", Some(3)));
    let mut run = |step: Step| {
        let mut out = Vec::new();
        assert_eq!(join.process(step, &mut ctx, &mut out).unwrap(), Progress::Done);
        let rows = out.iter().flat_map(|b| show(b).into_iter().zip(b.meta.window.as_ref().unwrap().start.to_vec()));
        rows.map(|(shown, start)| format!("{} W{start}", shown.new)).collect::<Vec<_>>()
    };
    assert_eq!(run(vec![Some(windowed(0, &left, 0)), Some(windowed(1, &near, 10))]), [""; 0]);
    assert_eq!(run(vec![None, Some(windowed(0, &near, 0))]), ["a,1,s1,a,2,s2 W0"]);
    assert_eq!(run(vec![Some(windowed(0, &left, 20)), None]), [""; 0]);
    assert_eq!(run(vec![Some(windowed(0, &far, 500)), None]), ["a,1,s1,–,–,– W20"]);
}

#[test]
fn time_windows_meet_by_their_start_and_sessions_by_both_ends() {
    for sessions in [false, true] {
        let spec = StreamJoinSpec { windowed: true, sessions, ..spec(JoinKind::Inner, within(100, 100, Some(0))) };
        let mut join = StreamStreamJoin::new(&spec).unwrap();
        let (left, right) = (row(0, 5, "a", Some(1)), row(1, 6, "a", Some(2)));
        let windowed = |seq: u32, row: &Row, end: i64| {
            let mut batch = batch(&[(seq, 0, row)]).unwrap();
            batch.meta.window = Some(WindowBounds { start: vec![0].into(), end: vec![end].into() });
            Some(batch)
        };
        let (mut ctx, mut out) = (StepContext::new(), Vec::new());
        join.process(vec![windowed(0, &left, 10), windowed(1, &right, 20)], &mut ctx, &mut out).unwrap();
        let ends: Vec<i64> = out.iter().flat_map(|b| b.meta.window.as_ref().unwrap().end.to_vec()).collect();
        assert_eq!(ends, if sessions { vec![] } else { vec![10] });
    }
}

#[test]
fn losses_say_why() {
    let rows = [row(0, 1000, "a", Some(1)), row(0, 1, "a", Some(2)), row(0, 1000, "", Some(3)), row(1, 1, "a", None)];
    let mut ctx = StepContext::new();
    drive(&make(JoinKind::Inner, within(5, 5, Some(5))), &rows, &mut Chance(0), Disturb::Never, &mut ctx);
    let losses: Vec<_> = ctx.losses.iter().map(|l| (l.offset, l.kind)).collect();
    assert_eq!(losses, [(1, LossKind::Late), (2, LossKind::NullKey)]);
    assert!(ctx.losses[0].reason.contains("too late"), "{}", ctx.losses[0].reason);
}

/// Rows of many keys, `each` a key, one ms apart.
fn many(count: usize, keys: usize) -> Vec<Row> {
    (0..count).map(|i| row(i % 2, (i / 2) as i64, &format!("key-{}", i / 2 % keys), Some(i as i64))).collect()
}

fn feed(join: &mut StreamStreamJoin, rows: &[Row]) -> usize {
    let (mut ctx, mut out) = (StepContext::new(), Vec::new());
    let numbered: Vec<_> = rows.iter().enumerate().map(|(i, row)| (i as u32, i as i64, row)).collect();
    let port = |port| batch(&numbered.iter().filter(|r| r.2.port == port).copied().collect::<Vec<_>>());
    let mut progress = join.process(vec![port(0), port(1)], &mut ctx, &mut out).unwrap();
    while progress == Progress::More {
        progress = join.resume(&mut ctx, &mut out).unwrap();
    }
    out.iter().map(ChangeBatch::len).sum()
}

#[test]
fn expired_rows_leave_memory_and_the_store_behind() {
    let mut join = StreamStreamJoin::new(&spec(JoinKind::Left, within(10, 10, Some(1000)))).unwrap();
    let mut behind = Arc::new(MapStore::default());
    join.rows.attach(behind.clone());
    let mut most = 0;
    for rows in many(200_000, 50).chunks(2_000) {
        feed(&mut join, rows);
        join.rows.take_block().unwrap();
        most = most.max(join.rows.memory());
        behind = Arc::new(behind.written(join.rows.take_writes()));
        join.rows.attach(behind.clone());
        assert!(behind.entries.len() < 40, "{}", behind.entries.len());
    }
    assert!(most < 4 << 20, "{most}");
    // and of a restart nothing is left over either
    let mut again = StreamStreamJoin::new(&spec(JoinKind::Left, within(10, 10, Some(1000)))).unwrap();
    again.rows.attach(behind);
    again.rows.begin().unwrap();
    assert_eq!(again.rows.stream_time, 99_999);
    assert_eq!(feed(&mut again, &[row(1, 100_000, "key-49", Some(0))]), 1);
}

#[test]
fn columns_leave_memory_for_the_budget_and_come_back() {
    let mut join = StreamStreamJoin::new(&spec(JoinKind::Inner, within(1000, 1000, Some(1_000_000)))).unwrap();
    let mut behind = Arc::new(MapStore::default());
    join.rows.attach(behind.clone());
    for rows in many(100_000, 100_000).chunks(4_000) {
        assert_eq!(feed(&mut join, rows), 2_000);
    }
    join.rows.take_block().unwrap();
    let full = join.rows.evict(0);
    behind = Arc::new(behind.written(join.rows.take_writes()));
    join.rows.attach(behind);
    let least = join.rows.evict(0);
    assert!(least * 5 < full * 4, "{least} of {full}");
    let late: Vec<_> = (0..50_000).step_by(500).map(|i| row(0, i, &format!("key-{i}"), Some(i))).collect();
    assert_eq!(feed(&mut join, &late), 100);
}

#[test]
fn a_row_with_many_partners_is_paged() {
    let mut join = StreamStreamJoin::new(&spec(JoinKind::Full, within(1_000_000, 1_000_000, Some(0)))).unwrap();
    for i in 0..10 {
        let rows: Vec<_> = (0..10_000).map(|n| row(1, i * 10_000 + n, "hot", Some(n))).collect();
        assert_eq!(feed(&mut join, &rows), 0);
    }
    let (mut ctx, mut out, mut given) = (StepContext::new(), Vec::new(), 0);
    let hot = row(0, 7, "hot", Some(1));
    let mut progress = join.process(vec![batch(&[(0, 0, &hot)]), None], &mut ctx, &mut out).unwrap();
    loop {
        assert!(out.len() <= 1 && out.iter().all(|b| b.len() <= ctx.page_rows));
        given += out.drain(..).map(|b| b.len()).sum::<usize>();
        if progress == Progress::Done {
            break;
        }
        progress = join.resume(&mut ctx, &mut out).unwrap();
    }
    assert_eq!(given, 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn any_cut_gives_what_single_rows_give(seed: u64, kind in 0usize..4, holds: bool, disturb in 0usize..3) {
        let kind = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full][kind];
        let mut chance = Chance(seed);
        let mut ms = |most: u64| chance.below(most) as i64;
        let within = within(ms(300), ms(300), holds.then(|| ms(400)));
        // from no order at all to nearly in order
        let (drift, jump) = (ms(60), ms(4) == 0);
        let mut rows = random_rows(&mut chance, 150);
        for (i, row) in rows.iter_mut().enumerate() {
            row.time = row.time / (1 + drift / 10) + i as i64 * drift + if jump && i > 100 { 5_000 } else { 0 };
        }
        let disturb = [Disturb::Never, Disturb::Evict, Disturb::Crash][disturb];
        let mut ctx = StepContext::new();
        ctx.page_rows = 1 + chance.below(9) as usize;
        let out = drive(&make(kind, within), &rows, &mut chance, disturb, &mut ctx);
        prop_assert_eq!(out, Reference::run(kind, within, &rows));
    }
}
