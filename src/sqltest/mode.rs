//! How records are cut into batches, and whether the engine is torn down between them.
//!
//! A result never depends on it: that is what the modes are for. The subtle thing: random cuts are drawn from a seed and the case's name, so
//! that a failure comes again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How many reads are drawn before their sizes come again.
const READS_DRAWN: usize = 61;

/// Largest random batch; cases have few records.
const LARGEST_RANDOM: u64 = 5;

/// Largest page in restarts.
const LARGEST_PAGE: u64 = 3;

/// How inputs are cut into batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// one record at a time, its results before the next
    #[default]
    One,
    /// everything at once
    Whole,
    /// reads of random sizes
    Random,
}

/// How cases are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    /// how inputs are cut
    pub batching: Batching,
    /// throw the query's state away after each page and restore it from the last commit
    pub restart: bool,
    /// the Kafka cluster they run on; `None`: a log in memory
    pub brokers: Option<Arc<str>>,
}

impl Mode {
    /// Rows of a page: few where the query is restarted between pages, so that there are some; `None`: the product's.
    pub(super) fn page_rows(&self, seed: u64) -> Option<usize> {
        self.restart.then_some((seed % LARGEST_PAGE) as usize + 1)
    }
}

impl Batching {
    /// Sizes of successive reads; `None`: as the product reads.
    pub(super) fn read_sizes(self, seed: u64) -> Option<Arc<[usize]>> {
        match self {
            Self::One => Some(Arc::from([1])),
            Self::Whole => None,
            Self::Random => {
                let mut state = seed | 1;
                let sizes = (0..READS_DRAWN).map(|_| {
                    // xorshift64
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state % LARGEST_RANDOM) as usize + 1
                });
                Some(sizes.collect())
            }
        }
    }
}

/// The seed of a case.
pub(super) fn seed_of(name: &str, seed: u64) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (name, seed).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_sizes_vary_and_come_again() {
        let sizes = |name| Batching::Random.read_sizes(seed_of(name, 1)).expect("drawn");
        assert_eq!(sizes("a"), sizes("a"));
        assert_ne!(sizes("a"), sizes("b"));
        assert!((1..=5).all(|n| sizes("a").contains(&n)));
    }
}
