//! Foreign-key joins: a left table's rows refer to rows of a right table by that one's primary key.
//!
//! The two tables may lie in different partitions, so the join is a loop of two tasks. The left row's task ([`left`]) tells the right row's
//! task which right row it refers to; that one ([`right`]) keeps who refers to what (`subscriptions`) and answers, now and whenever the right
//! row changes; the left row's task joins the answer with its row. The subtle thing: an answer may be late. It carries the version of the left
//! row that asked, which is that record's offset, and is dropped if the left row has another version by now; what needs no right row
//! (tombstones, rows without reference) is given out at once, and not by way of the right task, lest it overtakes or is overtaken.
//!
//! Beyond the reference: a row of an INNER join whose reference becomes NULL takes its result away (the reference leaves the old one).

pub mod left;
pub mod right;
mod subscriptions;
#[cfg(test)]
mod tests;

/// What a left task wants of a right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Instruction {
    /// remember the left row, and answer even if there is no right row: there may be a result to be taken away
    AnswerAlways = 0,
    /// remember the left row, and answer if there is a right row
    AnswerIfPresent = 1,
    /// forget the left row
    Forget = 2,
}

impl Instruction {
    fn of(number: i32) -> Option<Self> {
        [Self::AnswerAlways, Self::AnswerIfPresent, Self::Forget].into_iter().find(|i| *i as i32 == number)
    }
}
