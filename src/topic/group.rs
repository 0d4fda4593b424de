//! Who of a query's group has which partitions, and who would get them if others left.
//!
//! Asks nobody. The subtle thing: range assignment gives each member a run of every topic's partitions, in the order of the members, so who
//! takes over from whom follows from the members that are left; copies of state are kept where it says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::TopicPartition;
use crate::types::TopicName;

/// A node that has partitions of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// the member of the group that it is
    pub member: String,
    /// the URL under which others reach it; `None`: it does not say
    pub url: Option<String>,
    /// the partitions that it reads
    pub partitions: Vec<TopicPartition>,
}

impl Holder {
    /// Sorts the members of a group as range assignment has them: by what they were given, those without anything last.
    pub fn sort(holders: &mut [Self]) {
        let lowest = |holder: &Self| holder.partitions.iter().map(|at| at.partition).min().unwrap_or(i32::MAX);
        holders.sort_by(|a, b| (lowest(a), &a.member).cmp(&(lowest(b), &b.member)));
    }
}

/// Partitions that the member at place `at` of a sorted group does not have and would be given if up to `replicas` of the others left: of
/// these it should have copies. While the group makes up its mind nobody has any.
pub fn standbys(holders: &[Holder], at: usize, replicas: usize) -> Vec<TopicPartition> {
    let mut counts: BTreeMap<&TopicName, i32> = BTreeMap::new();
    for place in holders.iter().flat_map(|holder| &holder.partitions) {
        let count = counts.entry(&place.topic).or_default();
        *count = (*count).max(place.partition + 1);
    }
    let (before, behind) = (at, holders.len().saturating_sub(at + 1));
    let mut found = BTreeSet::new();
    for gone in 1..=replicas.min(before + behind) {
        // Only how many of them stand before it matters, not which.
        for gone_before in gone.saturating_sub(behind)..=gone.min(before) {
            for (topic, count) in &counts {
                let given = range(*count, holders.len() - gone, at - gone_before);
                found.extend(given.map(|partition| TopicPartition::new((*topic).clone(), partition)));
            }
        }
    }
    if let Some(holder) = holders.get(at) {
        holder.partitions.iter().for_each(|own| _ = found.remove(own));
    }
    found.into_iter().collect()
}

/// What range assignment gives the member at a place, of a topic with so many partitions.
fn range(partitions: i32, members: usize, at: usize) -> Range<i32> {
    let wide = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let (members, at) = (wide(members), wide(at));
    let (each, more) = (partitions / members, partitions % members);
    let start = each.saturating_mul(at).saturating_add(at.min(more));
    start..start.saturating_add(each + i32::from(at < more))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [(&str, i32); 2] = [("a", 7), ("b", 3)];

    fn group(members: &[usize]) -> Vec<Holder> {
        let holder = |(at, member): (usize, &usize)| {
            let places = TOPICS
                .iter()
                .flat_map(|(topic, count)| range(*count, members.len(), at).map(|p| TopicPartition::new(*topic, p)));
            Holder { member: format!("m{member}"), url: None, partitions: places.collect() }
        };
        members.iter().enumerate().map(holder).collect()
    }

    #[test]
    fn whoever_leaves_the_others_have_copies_of_what_they_are_given() {
        for members in 2..=5_usize {
            let all: Vec<usize> = (0..members).collect();
            let mut before = group(&all);
            before.reverse();
            Holder::sort(&mut before);
            assert_eq!(before, group(&all), "the order is that of the assignor");
            for gone in 1_u32..1 << members {
                let left: Vec<usize> = all.iter().copied().filter(|m| gone >> m & 1 == 0).collect();
                for (place, after) in left.iter().zip(group(&left)) {
                    let copies = standbys(&before, *place, gone.count_ones() as usize);
                    let own = &before[*place].partitions;
                    assert!(after.partitions.iter().all(|at| own.contains(at) || copies.contains(at)));
                    assert!(!own.iter().any(|at| copies.contains(at)), "what is its own needs no copy");
                }
            }
        }
    }

    #[test]
    fn of_two_each_has_copies_of_all_and_of_three_not() {
        assert_eq!(standbys(&group(&[0, 1]), 0, 1).len(), 4);
        assert_eq!(standbys(&group(&[0, 1, 2]), 0, 1), [TopicPartition::new("a", 3), TopicPartition::new("b", 1)]);
        assert_eq!(standbys(&group(&[0, 1, 2]), 0, 2).len(), 6);
        assert_eq!(standbys(&group(&[0, 1, 2]), 0, 0), []);
        assert_eq!(standbys(&group(&[0]), 0, 3), []);
    }
}
