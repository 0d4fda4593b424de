//! Sessions with gaps, grace periods and retentions of all sizes, over times that crowd around the bounds.
//!
//! The comparison is that of [`super::check`]. The subtle thing: a session that expired can meet a row that is not late only if the
//! retention is less than the grace period and two gaps, so that is where most retentions lie.

use super::*;

/// A plan and the session it is for.
fn sessions() -> impl Strategy<Value = (Plan, WindowSpec)> {
    let windows = (1_i64..8, 0_i64..10, prop_oneof![3 => 0_i64..8, 1 => 8_i64..40]);
    let windows = windows.prop_map(|(gap_ms, grace_ms, beyond)| WindowSpec {
        kind: WindowKind::Session { gap_ms },
        grace_ms,
        retention_ms: gap_ms + grace_ms + beyond,
    });
    // how far time moves on with a row, and how far behind the row is
    let moves = prop_oneof![4 => 0_i64..4, 2 => 0_i64..12, 1 => 0_i64..60];
    let behind = prop_oneof![4 => Just(0_i64), 3 => 0_i64..8, 3 => 0_i64..30];
    let row = (0_i64..3, prop::option::weighted(0.9, -5_i64..5), moves, behind);
    let rows = prop::collection::vec(row, 1..60).prop_map(|rows| {
        let mut time = 30;
        let place = |(key, value, moves, behind): (i64, Option<i64>, i64, i64)| {
            time += moves;
            In { key: Some(key), value, time: (time - behind).max(0), present: true }
        };
        rows.into_iter().map(place).collect::<Vec<_>>()
    });
    let cuts = prop::collection::vec(1_usize..20, 1..6);
    let happenings = prop::collection::vec(0_u8..5, 1..10);
    let between_pages = prop::collection::vec(0_u8..5, 1..6);
    (rows, cuts, 1_usize..12, happenings, between_pages, windows).prop_map(
        |(rows, cuts, page_rows, happenings, between_pages, window)| {
            (Plan { rows, cuts, page_rows, happenings, between_pages }, window)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn sessions_of_all_sizes_equal_the_reference((plan, window) in sessions()) {
        check(&plan, Some(window), false)?;
        check_coalesced(&plan, Some(window))?;
    }

    #[test]
    fn final_sessions_of_all_sizes_equal_the_reference((plan, window) in sessions()) {
        check(&plan, Some(window), true)?;
    }

    #[test]
    fn cuts_do_not_matter_to_sessions((plan, window) in sessions(), emit_final in prop::bool::ANY) {
        let whole = Plan { cuts: vec![plan.rows.len()], page_rows: 8192, happenings: vec![0], ..plan.clone() };
        let mut runs = [plan, whole].map(|plan| {
            let mut rig = Rig::new(spec(Some(window), false, emit_final), plan.page_rows, false);
            let mut out = Vec::new();
            for (at, len, what) in steps(&plan) {
                out.extend(read(&rig.step(batch(&plan.rows[at..at + len], at)), true));
                rig.happen(what);
            }
            (out, rig.table(), late(&rig))
        });
        let [cut, whole] = &mut runs;
        prop_assert_eq!(cut, whole);
    }
}

fn rows(rows: &[(i64, i64)]) -> Vec<In> {
    rows.iter().map(|&(key, time)| In { key: Some(key), value: Some(time), time, present: true }).collect()
}

/// Gap 5, grace 2, retention 7: the least there is.
fn tight() -> WindowSpec {
    WindowSpec { kind: WindowKind::Session { gap_ms: 5 }, grace_ms: 2, retention_ms: 7 }
}

#[test]
fn a_session_that_expired_within_the_batch_is_not_merged_with() {
    // at stream time 20 the session [10, 12] is gone; the row of 14 is not late, but begins anew
    let plan = Plan {
        rows: rows(&[(1, 10), (1, 12), (2, 20), (1, 14)]),
        cuts: vec![4],
        page_rows: 100,
        happenings: vec![0],
        between_pages: vec![0],
    };
    check(&plan, Some(tight()), false).expect("as the reference");
    let mut rig = Rig::new(spec(Some(tight()), false, false), 100, false);
    let out = read(&rig.step(batch(&plan.rows, 0)), true);
    assert_eq!(out.last().map(|out| out.group), Some((1, (14, 14))));
}

#[test]
fn a_row_joins_the_sessions_on_both_sides_at_exactly_a_gap() {
    let mut rig = Rig::new(spec(Some(session(40)), false, false), 100, false);
    let out = read(&rig.step(batch(&rows(&[(1, 10), (1, 24), (1, 17), (1, 32)]), 0)), true);
    let told: Vec<_> = out.iter().map(|out| (out.group.1, out.row.is_some())).collect();
    let bridged = [((10, 10), false), ((24, 24), false), ((10, 24), true)];
    assert_eq!(told, [&[((10, 10), true), ((24, 24), true)][..], &bridged, &[((32, 32), true)]].concat());
    // the list of the bridged session is in the order of its parts, the row last
    assert_eq!(
        out[4].row.as_ref().expect("there")[3],
        row_of(&vec![(0, Some(10)), (1, Some(24)), (2, Some(17))], None, true)[3]
    );
}

#[test]
fn lateness_is_that_of_the_session_with_the_row() {
    // stream time 40, grace 10, gap 7: sessions that end before 23 are closed
    let mut rig = Rig::new(spec(Some(session(40)), false, false), 100, false);
    let all = rows(&[(1, 22), (1, 23), (2, 40), (1, 16), (3, 22), (3, 23)]);
    let groups: Vec<_> = read(&rig.step(batch(&all, 0)), true).into_iter().map(|out| out.group).collect();
    assert_eq!(groups[groups.len() - 2..], [(1, (16, 23)), (3, (23, 23))]);
    assert_eq!(late(&rig), [4], "the row of 22 alone is late, the one of 16 is not");
}
