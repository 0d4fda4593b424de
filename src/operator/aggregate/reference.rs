//! What aggregates ought to give, worked out one row at a time from lists of values.
//!
//! Knows no batches, slots or stores. The subtle thing: everything is computed anew from all the values a group holds, so that nothing
//! incremental can be wrong in the same way.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use crate::types::{WindowKind, WindowSpec};

/// One row of the input stream.
#[derive(Clone, Debug)]
pub(super) struct In {
    pub(super) key: Option<i64>,
    pub(super) value: Option<i64>,
    pub(super) time: i64,
    pub(super) present: bool,
}

pub(super) type Group = (i64, (i64, i64));

/// One output row, without the key and bounds that stand in its columns, too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Out {
    pub(super) group: Group,
    pub(super) rowtime: i64,
    pub(super) offset: i64,
    pub(super) row: Option<Vec<ScalarValue>>,
    pub(super) old: Option<Vec<ScalarValue>>,
}

/// What a group took in: (arrival, value), in list order.
pub(super) type Held = Vec<(usize, Option<i64>)>;

pub(super) fn big(value: Option<i64>) -> ScalarValue {
    ScalarValue::Int64(value)
}

/// The values of a group whose last row handled had `carried`.
pub(super) fn row_of(held: &Held, carried: Option<i64>, table: bool) -> Vec<ScalarValue> {
    let values: Vec<_> = held.iter().map(|(_, value)| big(*value)).collect();
    let sum = held.iter().filter_map(|(_, value)| *value).sum();
    let list = ScalarValue::List(ScalarValue::new_list(&values, &DataType::Int64, true));
    let mut row = vec![big(carried), big(Some(held.len() as i64)), big(Some(sum)), list];
    if !table {
        let latest = held.iter().filter(|(_, value)| value.is_some()).max_by_key(|(arrival, _)| *arrival);
        row.push(big(latest.and_then(|(_, value)| *value)));
    }
    row
}

/// The slow reference: groups with what they hold, last row time, and last carried value.
#[derive(Default)]
pub(super) struct Reference {
    pub(super) groups: BTreeMap<Group, (Held, i64, Option<i64>)>,
    pub(super) stream_time: Option<i64>,
    pub(super) next_final: i64,
    pub(super) late: Vec<usize>,
    pub(super) out: Vec<Out>,
}

impl Reference {
    fn old(&self, group: &Group) -> Option<Vec<ScalarValue>> {
        self.groups.get(group).map(|(held, _, carried)| row_of(held, *carried, false))
    }

    fn put(&mut self, group: Group, offset: usize, row: &In, emit: bool) {
        let old = self.old(&group);
        let entry = self.groups.entry(group).or_insert((Vec::new(), i64::MIN, None));
        entry.0.push((offset, row.value));
        entry.1 = entry.1.max(row.time);
        entry.2 = row.value;
        let (rowtime, new) = (entry.1, row_of(&entry.0, entry.2, false));
        if emit {
            self.out.push(Out { group, rowtime, offset: offset as i64, row: Some(new), old });
        }
    }

    pub(super) fn row(&mut self, offset: usize, row: &In, window: Option<WindowSpec>, emit_final: bool) {
        let Some(key) = row.key.filter(|_| row.present) else { return };
        let Some(window) = window else { return self.put((key, (0, 0)), offset, row, true) };
        if let WindowKind::Session { gap_ms } = window.kind {
            return self.session(offset, row, key, window, gap_ms, emit_final);
        }
        let time = self.stream_time.map_or(row.time, |known| known.max(row.time));
        let advanced = self.stream_time != Some(time);
        self.stream_time = Some(time);
        if advanced && emit_final {
            self.finals(offset, window, time);
        }
        for start in window.starts_for(row.time) {
            let end = start + window.size_ms().expect("a time window");
            if end <= time - window.grace_ms {
                self.late.push(offset);
            } else {
                self.put((key, (start, end)), offset, row, !emit_final);
            }
        }
        self.groups.retain(|(_, (start, _)), _| *start >= time - window.retention_ms);
    }

    fn finals(&mut self, offset: usize, window: WindowSpec, time: i64) {
        let closed = |end: i64| end <= time - window.grace_ms;
        let mut due: Vec<_> =
            self.groups.iter().filter(|((_, (s, e)), _)| *s >= self.next_final && closed(*e)).collect();
        due.sort_by_key(|((key, (start, _)), _)| (*start, *key));
        for (group, (held, rowtime, carried)) in &due {
            if group.1.0 >= time - window.retention_ms {
                let row = Some(row_of(held, *carried, false));
                self.out.push(Out { group: **group, rowtime: *rowtime, offset: offset as i64, row, old: None });
            }
        }
        let last = due.last().map(|((_, (start, _)), _)| start + 1);
        self.next_final = self.next_final.max(last.unwrap_or(i64::MIN));
    }

    fn session(&mut self, offset: usize, row: &In, key: i64, window: WindowSpec, gap: i64, emit_final: bool) {
        let time = self.stream_time.map_or(row.time, |known| known.max(row.time));
        self.stream_time = Some(time);
        let close = time - window.grace_ms - gap;
        if emit_final {
            // a session that this row closes gives its result before the row may reopen it
            let mut due: Vec<_> =
                self.groups.iter().filter(|((_, (_, e)), (h, ..))| *e < close && h[0].0 != usize::MAX).collect();
            due.sort_by_key(|((key, (start, _)), _)| (*start, *key));
            let due: Vec<_> = due.into_iter().map(|(g, v)| (*g, v.clone())).collect();
            for (group, (held, rowtime, carried)) in due {
                let row = Some(row_of(&held, carried, false));
                if !self.out.iter().any(|out| out.group == group && out.row == row) {
                    self.out.push(Out { group, rowtime, offset: offset as i64, row, old: None });
                }
            }
        }
        let near = |(k, (start, end)): &Group| *k == key && *end >= row.time - gap && *start <= row.time + gap;
        let found: Vec<Group> = self.groups.keys().filter(|group| near(group)).copied().collect();
        let start = found.iter().map(|g| g.1.0).min().unwrap_or(row.time).min(row.time);
        let end = found.iter().map(|g| g.1.1).max().unwrap_or(row.time).max(row.time);
        if end < close {
            self.late.push(offset);
        } else {
            self.merge(offset, row, (key, (start, end)), &found, emit_final);
        }
        self.groups.retain(|(_, (_, end)), _| *end >= time - window.retention_ms);
    }

    fn merge(&mut self, offset: usize, row: &In, group: Group, found: &[Group], emit_final: bool) {
        let mut held = Vec::new();
        let single = group.1.0 == group.1.1;
        let single_old = if single { self.old(&group) } else { None };
        for old in found {
            let was = self.old(old);
            let (values, ..) = self.groups.remove(old).expect("it was found");
            held.extend(values);
            if !single && !emit_final {
                let rowtime = old.1.1;
                self.out.push(Out { group: *old, rowtime, offset: offset as i64, row: None, old: was });
            }
        }
        held.push((offset, row.value));
        let new = Some(row_of(&held, row.value, false));
        self.groups.insert(group, (held, group.1.1, row.value));
        if !emit_final {
            self.out.push(Out { group, rowtime: group.1.1, offset: offset as i64, row: new, old: single_old });
        }
    }
}

/// A change of a table row: primary key, grouping key, value; `None` deletes.
pub(super) type Change = (usize, Option<(Option<i64>, Option<i64>)>);

pub(super) fn reference_change(
    groups: &mut BTreeMap<i64, (Held, i64, Option<i64>)>,
    old: Option<(Option<i64>, Option<i64>)>,
    new: Option<(Option<i64>, Option<i64>)>,
    offset: usize,
    want: &mut Vec<Out>,
) {
    let halves = [(old, true), (new, false)];
    let halves = halves.into_iter().filter_map(|(row, undo)| Some((row?.0?, row?.1, undo)));
    let halves: Vec<_> = halves.collect();
    let same = halves.len() == 2 && halves[0].0 == halves[1].0;
    for (i, (key, value, undo)) in halves.iter().enumerate() {
        let before = groups.get(key).map(|(held, _, carried)| row_of(held, *carried, true));
        let entry = groups.entry(*key).or_insert((Vec::new(), i64::MIN, None));
        if *undo {
            let last = entry.0.iter().rposition(|(_, held)| held == value).expect("it was taken in");
            entry.0.remove(last);
        } else {
            entry.0.push((offset, *value));
        }
        (entry.1, entry.2) = (entry.1.max(offset as i64), *value);
        let (row, rowtime) = (Some(row_of(&entry.0, entry.2, true)), entry.1);
        let group = (*key, (0, 0));
        match want.last_mut() {
            Some(last) if same && i == 1 => (last.row, last.rowtime) = (row, rowtime),
            _ => want.push(Out { group, rowtime, offset: offset as i64, row, old: before }),
        }
    }
}
