//! Made-up records to try things with: orders, users, page views, clicks, and the auctions of Nexmark.
//!
//! A [`Generator`] draws one [`Event`] after the other; a [`RecordWriter`] puts those of one [`Outlet`] into the bytes of any format there is.
//! Knows no topics, no rates and no clock: the row time comes from outside. The subtle thing: an event depends on the seed, its number and
//! its time alone, never on how many are drawn at once, so the same seed and times are the same records in every release.

mod cell;
mod draw;
mod nexmark;
mod shop;
mod writer;

use crate::types::SqlType;

pub use cell::Cell;
use draw::Draw;
pub use writer::RecordWriter;

/// Which records are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quickstart {
    /// orders of items, each with an address
    Orders,
    /// users, who change where they live
    Users,
    /// pages that users look at
    Pageviews,
    /// requests to a web server
    Clickstream,
    /// people, auctions and bids, as the benchmark of that name has them
    Nexmark,
}

impl Quickstart {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Orders, Self::Users, Self::Pageviews, Self::Clickstream, Self::Nexmark];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Users => "users",
            Self::Pageviews => "pageviews",
            Self::Clickstream => "clickstream",
            Self::Nexmark => "nexmark",
        }
    }

    /// What it fills; an event names one of them by its place here.
    pub fn outlets(self) -> Vec<Outlet> {
        match self {
            Self::Orders => vec![shop::orders()],
            Self::Users => vec![shop::users()],
            Self::Pageviews => vec![shop::pageviews()],
            Self::Clickstream => vec![shop::clickstream()],
            Self::Nexmark => nexmark::outlets(),
        }
    }
}

/// A topic's worth of records: their columns, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// put behind the topic's name; empty where there is only one
    pub suffix: &'static str,
    /// the newest record of a key is what counts
    pub is_table: bool,
    /// the column that is the record's key, unless it is said otherwise
    pub key: &'static str,
    /// names, in lower case, and types
    pub columns: Vec<(&'static str, SqlType)>,
}

/// What a generator draws.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// which of [`Quickstart::outlets`]
    pub outlet: usize,
    /// a value for each of its columns
    pub cells: Vec<Cell>,
}

/// Draws events, one after the other.
#[derive(Clone, Debug)]
pub struct Generator {
    quickstart: Quickstart,
    seed: u64,
    number: u64,
}

impl Generator {
    /// The events of this seed from the first one on.
    pub fn new(quickstart: Quickstart, seed: u64) -> Self {
        Self { quickstart, seed, number: 0 }
    }

    /// The next event, at this row time in ms.
    pub fn draw(&mut self, time_ms: i64) -> Event {
        let number = self.number;
        self.number += 1;
        let mut draw = Draw::new(self.seed, number);
        let cells = match self.quickstart {
            Quickstart::Orders => shop::order(&mut draw, number, time_ms),
            Quickstart::Users => shop::user(&mut draw, time_ms),
            Quickstart::Pageviews => shop::pageview(&mut draw, time_ms),
            Quickstart::Clickstream => shop::click(&mut draw, time_ms),
            Quickstart::Nexmark => return nexmark::event(&mut draw, number, time_ms),
        };
        Event { outlet: 0, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_depend_on_seed_and_number_alone() {
        for quickstart in Quickstart::ALL {
            let drawn = |seed| {
                let mut generator = Generator::new(quickstart, seed);
                (0..200).map(|i| generator.draw(i)).collect::<Vec<_>>()
            };
            assert_eq!(drawn(7), drawn(7));
            assert_ne!(drawn(7), drawn(8), "{quickstart:?}");
        }
    }

    #[test]
    fn every_event_has_a_value_of_its_type_for_each_column() {
        for quickstart in Quickstart::ALL {
            let outlets = quickstart.outlets();
            let mut generator = Generator::new(quickstart, 1);
            let mut seen = vec![0; outlets.len()];
            for time in 0..500 {
                let event = generator.draw(1_700_000_000_000 + time);
                let columns = &outlets[event.outlet].columns;
                assert_eq!(event.cells.len(), columns.len(), "{quickstart:?}");
                for (cell, (name, ty)) in event.cells.iter().zip(columns) {
                    assert!(cell.is_of(ty), "{quickstart:?}: {name} is {cell:?}, not {ty}");
                }
                seen[event.outlet] += 1;
            }
            assert!(seen.iter().all(|n| *n > 0), "{quickstart:?}: {seen:?}");
            assert!(outlets.iter().all(|o| o.columns.iter().any(|(name, _)| *name == o.key)));
        }
    }
}
