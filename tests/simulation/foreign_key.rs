//! What times the rows of a foreign-key join may have in the end.
//!
//! A result that the left row caused has the later of both rows' times, one that the right row caused has that one's. Which of them came
//! last to the right row's task is for no order to say, since what left tasks tell it comes over a topic: so the final row may have
//! either time. The subtle thing: that makes a difference only where the right row is the older one, and everything else is exact.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, Input};
use super::world::{Place, Record};

/// The last record of each key of `topic` that was not lost: its time, and its G if it has a row.
fn last_of<'a>(case: &'a Case, topic: &str, lost: &BTreeSet<Place>) -> BTreeMap<&'a str, (i64, Option<Option<i64>>)> {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for input in case.inputs.iter().filter(|input| input.topic == topic) {
        let end = ends.entry(input.partition).or_default();
        let place = (input.topic.to_owned(), input.partition, *end);
        *end += 1;
        if let Some(key) = input.key.as_deref().filter(|_| !lost.contains(&place)) {
            last.insert(key, (input.at_ms, row(input)));
        }
    }
    last
}

fn row(input: &Input) -> Option<Option<i64>> {
    let json: serde_json::Value = serde_json::from_str(input.value.as_ref()?).ok()?;
    Some(json.get("G").and_then(serde_json::Value::as_i64))
}

/// By key of the left table `t`: the times that its row may have in a join of `t.g` with the number in the keys of `t2`.
pub fn legal_times<'a>(case: &'a Case, lost: &BTreeSet<Place>) -> BTreeMap<&'a str, BTreeSet<i64>> {
    let rights = last_of(case, "t2", lost);
    let times = |(left_ms, row): (i64, Option<Option<i64>>)| {
        let right = row.flatten().and_then(|g| rights.get(&*format!("k{g}")));
        match right {
            None => BTreeSet::from([left_ms]),
            Some(&(right_ms, Some(_))) => BTreeSet::from([left_ms.max(right_ms), right_ms]),
            Some(&(right_ms, None)) => BTreeSet::from([left_ms, right_ms]),
        }
    };
    last_of(case, "t", lost).into_iter().map(|(key, last)| (key, times(last))).collect()
}

/// Fails for the first row whose time is none of the legal ones.
pub fn check_times(place: &str, rows: &[Record], legal: &BTreeMap<&str, BTreeSet<i64>>) -> Result<(), String> {
    for (key, value, time) in rows {
        let times = key.as_deref().and_then(|key| legal.get(key));
        if !times.is_some_and(|times| times.contains(time)) {
            return Err(format!(
                "{place}: the row of {key:?}, {value:?}, has the time {time}, but only {times:?} are legal"
            ));
        }
    }
    Ok(())
}
