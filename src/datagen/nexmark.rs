//! Nexmark: people who open auctions and bid, in the proportions of the benchmark (1 person, 3 auctions, 46 bids of 50 events).
//!
//! After Apache Beam's generator: half of the bids go to a hot auction, three quarters come from a hot bidder, and three quarters of the
//! auctions are a hot seller's. The subtle thing: ids follow from the number of the event, so a bid refers to an auction and a person
//! that were made before it, without anything being kept.

use super::draw::Draw;
use super::{Cell, Event, Outlet};
use crate::types::SqlType;

const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;
/// Events of which so many are persons and auctions; the rest are bids.
const ROUND: u64 = 50;
/// First ids, which are not zero so that they stand out.
const FIRST_PERSON: u64 = 1000;
const FIRST_AUCTION: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// One of so many is hot.
const HOT_AUCTION: u64 = 100;
const HOT_PERSON: u64 = 100;
/// Of the cold ones, so many of the newest are referred to.
const OPEN_AUCTIONS: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1000;
/// An auction lasts so long at most, in ms.
const LONGEST_MS: u64 = 60_000;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Redmond", "WA"),
    ("Seattle", "WA"),
    ("Kent", "WA"),
    ("Cheyenne", "WY"),
];
const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

pub(super) fn outlets() -> Vec<Outlet> {
    let text = |name| (name, SqlType::String);
    let number = |name| (name, SqlType::BigInt);
    let time = |name| (name, SqlType::Timestamp);
    vec![
        Outlet {
            suffix: "_person",
            is_table: true,
            key: "id",
            columns: vec![
                number("id"),
                text("name"),
                text("emailaddress"),
                text("creditcard"),
                text("city"),
                text("state"),
                time("datetime"),
            ],
        },
        Outlet {
            suffix: "_auction",
            is_table: true,
            key: "id",
            columns: vec![
                number("id"),
                text("itemname"),
                text("description"),
                number("initialbid"),
                number("reserve"),
                time("datetime"),
                time("expires"),
                number("seller"),
                number("category"),
            ],
        },
        Outlet {
            suffix: "_bid",
            is_table: false,
            key: "auction",
            columns: vec![
                number("auction"),
                number("bidder"),
                number("price"),
                text("channel"),
                text("url"),
                time("datetime"),
            ],
        },
    ]
}

pub(super) fn event(draw: &mut Draw, number: u64, time_ms: i64) -> Event {
    let (round, place) = (number / ROUND, number % ROUND);
    if place < PERSONS {
        return Event { outlet: 0, cells: person(draw, round, time_ms) };
    }
    if place < PERSONS + AUCTIONS {
        return Event { outlet: 1, cells: auction(draw, round * AUCTIONS + place - PERSONS, round, time_ms) };
    }
    Event { outlet: 2, cells: bid(draw, round * AUCTIONS + AUCTIONS - 1, round, time_ms) }
}

fn id(number: u64) -> Cell {
    Cell::BigInt(number as i64)
}

fn person(draw: &mut Draw, number: u64, time_ms: i64) -> Vec<Cell> {
    let (first, last) = (draw.pick(&FIRST_NAMES), draw.pick(&LAST_NAMES));
    let (city, state) = draw.pick(&CITIES);
    let email = format!("{}@{}.example", draw.letters(7), draw.letters(5));
    let card: Vec<String> = (0..4).map(|_| format!("{:04}", draw.below(10_000))).collect();
    vec![
        id(FIRST_PERSON + number),
        Cell::Text(format!("{first} {last}")),
        Cell::Text(email),
        Cell::Text(card.join(" ")),
        Cell::text(city),
        Cell::text(state),
        Cell::Timestamp(time_ms),
    ]
}

/// The auction of that number; `newest` is the number of the newest person.
fn auction(draw: &mut Draw, number: u64, newest: u64, time_ms: i64) -> Vec<Cell> {
    let initial = price(draw);
    let reserve = initial + price(draw);
    let lasts = 1 + draw.below(LONGEST_MS);
    let seller = if draw.chance(3, 4) {
        newest / HOT_PERSON * HOT_PERSON
    } else {
        newest - draw.below(ACTIVE_PEOPLE.min(newest + 1))
    };
    vec![
        id(FIRST_AUCTION + number),
        Cell::Text(draw.letters(10)),
        Cell::Text(format!("{} {}", draw.letters(12), draw.letters(20))),
        id(initial),
        id(reserve),
        Cell::Timestamp(time_ms),
        Cell::Timestamp(time_ms.saturating_add(lasts as i64)),
        id(FIRST_PERSON + seller),
        id(FIRST_CATEGORY + draw.below(CATEGORIES)),
    ]
}

/// A bid when `newest` is the number of the newest auction and `person` that of the newest person.
fn bid(draw: &mut Draw, newest: u64, person: u64, time_ms: i64) -> Vec<Cell> {
    let auction = if draw.chance(1, 2) {
        newest / HOT_AUCTION * HOT_AUCTION
    } else {
        newest - draw.below(OPEN_AUCTIONS.min(newest + 1))
    };
    let bidder = if draw.chance(3, 4) {
        (person / HOT_PERSON * HOT_PERSON + 1).min(person)
    } else {
        person - draw.below(ACTIVE_PEOPLE.min(person + 1))
    };
    let channel = draw.pick(&CHANNELS);
    let parts: Vec<String> = (0..3).map(|_| draw.letters(5)).collect();
    vec![
        id(FIRST_AUCTION + auction),
        id(FIRST_PERSON + bidder),
        id(price(draw)),
        Cell::text(channel),
        Cell::Text(format!("https://www.nexmark.example/{}/item.htm?query=1", parts.join("/"))),
        Cell::Timestamp(time_ms),
    ]
}

/// From 100 to 100 million, as many in each power of ten.
fn price(draw: &mut Draw) -> u64 {
    (10_f64.powf(draw.unit() * 6.0) * 100.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big(cell: &Cell) -> u64 {
        match cell {
            Cell::BigInt(n) => *n as u64,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn proportions_are_the_benchmarks_and_nothing_is_referred_to_before_it_is_there() {
        let mut counts = [0; 3];
        let (mut people, mut auctions) = (0, 0);
        for number in 0..10_000 {
            let Event { outlet, cells } = event(&mut Draw::new(1, number), number, 0);
            counts[outlet] += 1;
            match outlet {
                0 => {
                    assert_eq!(big(&cells[0]), FIRST_PERSON + people);
                    people += 1;
                }
                1 => {
                    assert_eq!(big(&cells[0]), FIRST_AUCTION + auctions);
                    assert!((FIRST_PERSON..FIRST_PERSON + people).contains(&big(&cells[7])));
                    auctions += 1;
                }
                _ => {
                    assert!((FIRST_AUCTION..FIRST_AUCTION + auctions).contains(&big(&cells[0])));
                    assert!((FIRST_PERSON..FIRST_PERSON + people).contains(&big(&cells[1])));
                }
            }
        }
        assert_eq!(counts, [200, 600, 9200]);
    }
}
