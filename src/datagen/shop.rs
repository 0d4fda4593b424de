//! The quickstarts of one topic each: orders, users, page views, clicks.
//!
//! Columns are those that ksqlDB's own generator has, so that its tutorials work. The subtle thing: users of page views are the keys of
//! users, so that the two can be joined.

use std::sync::Arc;

use super::draw::Draw;
use super::{Cell, Outlet};
use crate::types::{SqlField, SqlType};

/// Users of page views, and keys of users.
const USERS: u64 = 9;
/// Pages that are looked at.
const PAGES: u64 = 99;
/// Regions that users live in.
const REGIONS: u64 = 9;
/// Items, cities and states of orders, and so many zip codes behind 10000.
const ITEMS: u64 = 999;
const PLACES: u64 = 99;
const ZIP_CODES: u64 = 90_000;
/// Users of the web server, and of its addresses.
const VISITORS: u64 = 40;
const ADDRESSES: u64 = 25;

const PATHS: [&str; 6] = [
    "/index.html",
    "/images/logo-small.png",
    "/images/track.png",
    "/site/login.html",
    "/site/user_status.html",
    "/docs/index.html",
];
const STATUSES: [(i32, u64); 6] = [(200, 80), (302, 6), (404, 6), (405, 2), (407, 2), (500, 4)];
const BYTES: [i64; 7] = [278, 1289, 2048, 4006, 4096, 8092, 14_096];
const REFERRERS: [&str; 3] = ["-", "https://www.example.com/", "https://search.example.org/?q=streams"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "curl/8.8.0",
];

pub(super) fn orders() -> Outlet {
    let field = |name: &str, ty| SqlField { name: name.into(), ty };
    let address: Arc<[SqlField]> =
        Arc::from([field("city", SqlType::String), field("state", SqlType::String), field("zipcode", SqlType::BigInt)]);
    Outlet {
        suffix: "",
        is_table: false,
        key: "orderid",
        columns: vec![
            ("ordertime", SqlType::BigInt),
            ("orderid", SqlType::Int),
            ("itemid", SqlType::String),
            ("orderunits", SqlType::Double),
            ("address", SqlType::Struct(address)),
        ],
    }
}

pub(super) fn order(draw: &mut Draw, number: u64, time_ms: i64) -> Vec<Cell> {
    let address = vec![
        Cell::text(format!("City_{}", 1 + draw.below(PLACES))),
        Cell::text(format!("State_{}", 1 + draw.below(PLACES))),
        Cell::BigInt(10_000 + draw.below(ZIP_CODES) as i64),
    ];
    vec![
        Cell::BigInt(time_ms),
        // Ids begin again after two thousand million orders.
        Cell::Int((number % (1 << 31)) as i32),
        Cell::text(format!("Item_{}", 1 + draw.below(ITEMS))),
        Cell::Double((draw.unit() * 10_000.0).round() / 1000.0),
        Cell::Row(address),
    ]
}

pub(super) fn users() -> Outlet {
    Outlet {
        suffix: "",
        is_table: true,
        key: "userid",
        columns: vec![
            ("registertime", SqlType::BigInt),
            ("userid", SqlType::String),
            ("regionid", SqlType::String),
            ("gender", SqlType::String),
        ],
    }
}

pub(super) fn user(draw: &mut Draw, time_ms: i64) -> Vec<Cell> {
    let userid = user_id(draw);
    let regionid = format!("Region_{}", 1 + draw.below(REGIONS));
    let gender = draw.pick(&["MALE", "FEMALE", "OTHER"]);
    vec![Cell::BigInt(time_ms), Cell::Text(userid), Cell::Text(regionid), Cell::text(gender)]
}

fn user_id(draw: &mut Draw) -> String {
    format!("User_{}", 1 + draw.below(USERS))
}

pub(super) fn pageviews() -> Outlet {
    let columns = vec![("viewtime", SqlType::BigInt), ("userid", SqlType::String), ("pageid", SqlType::String)];
    Outlet { suffix: "", is_table: false, key: "userid", columns }
}

pub(super) fn pageview(draw: &mut Draw, time_ms: i64) -> Vec<Cell> {
    let userid = user_id(draw);
    vec![Cell::BigInt(time_ms), Cell::Text(userid), Cell::text(format!("Page_{}", 10 + draw.below(PAGES)))]
}

pub(super) fn clickstream() -> Outlet {
    Outlet {
        suffix: "",
        is_table: false,
        key: "ip",
        columns: vec![
            ("ip", SqlType::String),
            ("userid", SqlType::Int),
            ("remote_user", SqlType::String),
            ("time", SqlType::String),
            ("_time", SqlType::BigInt),
            ("request", SqlType::String),
            ("status", SqlType::Int),
            ("bytes", SqlType::BigInt),
            ("referrer", SqlType::String),
            ("agent", SqlType::String),
        ],
    }
}

pub(super) fn click(draw: &mut Draw, time_ms: i64) -> Vec<Cell> {
    // 203.0.113.0/24 is for documentation (RFC 5737).
    let ip = format!("203.0.113.{}", 1 + draw.below(ADDRESSES));
    let userid = draw.below(VISITORS) as i32;
    let method = draw.pick(&["GET", "GET", "GET", "POST"]);
    let request = format!("{method} {} HTTP/1.1", draw.pick(&PATHS));
    let (mut share, mut status) = (draw.below(100), STATUSES[0].0);
    for (code, of_hundred) in STATUSES {
        status = code;
        if share < of_hundred {
            break;
        }
        share -= of_hundred;
    }
    vec![
        Cell::Text(ip),
        Cell::Int(userid),
        Cell::text("-"),
        Cell::Text(log_time(time_ms)),
        Cell::BigInt(time_ms),
        Cell::Text(request),
        Cell::Int(status),
        Cell::BigInt(draw.pick(&BYTES)),
        Cell::text(draw.pick(&REFERRERS)),
        Cell::text(draw.pick(&AGENTS)),
    ]
}

/// As web servers log it: `12/Mar/2026:08:15:30 +0000`.
fn log_time(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_statuses_are_a_hundred_and_times_are_as_in_a_log() {
        assert_eq!(STATUSES.iter().map(|(_, share)| share).sum::<u64>(), 100);
        assert_eq!(log_time(0), "01/Jan/1970:00:00:00 +0000");
    }
}
