//! The inputs of a task and the order of their rows: makes the next step.
//!
//! Reads no log and decodes nothing: the task fills it and says which inputs are at their known end. The subtle thing: a step ends where
//! the first input runs dry, because what comes next there may belong before the rows that are left elsewhere.

use arrow::buffer::ScalarBuffer;

use crate::operator::{Loss, Step};
use crate::topic::{Offset, Position};
use crate::types::ChangeBatch;

use super::rows;

/// What decides which input goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MergeOrder {
    /// lowest head row time, then the lower input
    RowTime,
    /// order of arrival in the log, where it knows one
    Arrival,
}

/// Decoded rows of one input.
#[derive(Debug)]
pub(super) struct InputRows {
    /// the rows, possibly none; `seq` is given by the group
    pub batch: ChangeBatch,
    /// order of arrival of each row, if known
    pub arrivals: Option<ScalarBuffer<i64>>,
    /// records that gave no row, ascending by offset
    pub losses: Vec<Loss>,
    /// where to read on after these rows
    pub next: Offset,
    /// rows of the first record that were consumed before (and are not in `batch`)
    pub skipped: u32,
}

#[derive(Debug)]
struct Queue {
    rows: Option<InputRows>,
    /// rows of `rows` that are consumed
    head: usize,
    /// next offset to read when `rows` is empty
    next: Offset,
    /// rows of the record at `next` that were consumed before this group was made
    consumed: u32,
}

/// One step of a task.
#[derive(Debug)]
pub(super) struct GroupStep {
    /// a batch for each input that has rows, with `seq` set
    pub batches: Step,
    /// rows in all batches
    pub rows: usize,
    /// order of arrival by `seq`, if known
    pub arrivals: Option<Vec<i64>>,
}

/// The queues of a task's inputs.
#[derive(Debug)]
pub(super) struct PartitionGroup {
    queues: Vec<Queue>,
    order: MergeOrder,
    /// losses of consumed records, with their input
    lost: Vec<(usize, Loss)>,
    /// 0, 1, 2, …: `seq` of a lone input
    count: ScalarBuffer<u32>,
}

impl PartitionGroup {
    /// A group whose inputs stand at these offsets.
    pub fn new(order: MergeOrder, next: impl IntoIterator<Item = Offset>) -> Self {
        let queues = next.into_iter().map(|next| Queue { rows: None, head: 0, next, consumed: 0 }).collect();
        Self { queues, order, lost: Vec::new(), count: ScalarBuffer::from(Vec::new()) }
    }

    /// Of the record that `input` stands at, so many rows are consumed.
    pub fn consumed_before(&mut self, input: usize, rows: u32) {
        self.queues[input].consumed = rows;
    }

    /// True if `input` has no rows left.
    pub fn is_dry(&self, input: usize) -> bool {
        self.queues[input].rows.is_none()
    }

    /// True if no input has rows.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|q| q.rows.is_none())
    }

    /// The offset to read `input` from, once it is dry.
    pub fn next_offset(&self, input: usize) -> Offset {
        self.queues[input].next
    }

    /// Queues what was read of a dry input.
    pub fn push(&mut self, input: usize, mut rows: InputRows) {
        let queue = &mut self.queues[input];
        debug_assert!(queue.rows.is_none(), "an input is read only when it is dry");
        queue.next = rows.next;
        queue.head = 0;
        queue.consumed = 0;
        if rows.batch.is_empty() {
            self.lost.extend(rows.losses.into_iter().map(|loss| (input, loss)));
        } else {
            // the position is that of the first row, so what was lost before it is passed now
            let passed = rows.losses.partition_point(|l| l.offset < rows.batch.meta.offset[0]);
            self.lost.extend(rows.losses.drain(..passed).map(|loss| (input, loss)));
            queue.rows = Some(rows);
        }
    }

    /// Goes on at `next` in a dry input, where the log had no rows before it.
    pub fn skip_to(&mut self, input: usize, next: Offset) {
        debug_assert!(self.is_dry(input), "rows are not skipped");
        let queue = &mut self.queues[input];
        if queue.next < next {
            (queue.next, queue.consumed) = (next, 0);
        }
    }

    /// What is consumed of `input`.
    pub fn position(&self, input: usize) -> Position {
        let queue = &self.queues[input];
        let Some(rows) = &queue.rows else { return Position { offset: queue.next, consumed: queue.consumed } };
        let offsets = &rows.batch.meta.offset;
        let offset = offsets[queue.head];
        let before = offsets[..queue.head].iter().rev().take_while(|&&o| o == offset).count() as u32;
        let skipped = if offset == offsets[0] { rows.skipped } else { 0 };
        Position { offset, consumed: before + skipped }
    }

    /// Losses of records that are consumed now, with their input.
    pub fn take_losses(&mut self) -> Vec<(usize, Loss)> {
        std::mem::take(&mut self.lost)
    }

    /// The next step of at most `max_rows` rows; `None` if there are no rows. Every dry input must be at its known end.
    pub fn step(&mut self, max_rows: usize) -> Option<GroupStep> {
        let live: Vec<usize> = (0..self.queues.len()).filter(|&i| self.queues[i].rows.is_some()).collect();
        let mut batches: Step = (0..self.queues.len()).map(|_| None).collect();
        let (rows, arrivals) = match live.as_slice() {
            [] => return None,
            &[only] => {
                let rows = self.rows_left(only).min(max_rows.max(1));
                let arrivals = self.arrivals(only).map(|a| a[..rows].to_vec());
                let seq = self.counting(rows);
                batches[only] = Some(self.consume(only, rows, seq));
                (rows, arrivals)
            }
            several => {
                let (taken, arrivals) = self.merge(several, max_rows.max(1));
                let rows = taken.iter().map(Vec::len).sum();
                for (&input, seq) in several.iter().zip(taken) {
                    if !seq.is_empty() {
                        batches[input] = Some(self.consume(input, seq.len(), seq.into()));
                    }
                }
                (rows, arrivals)
            }
        };
        Some(GroupStep { batches, rows, arrivals })
    }

    fn rows_left(&self, input: usize) -> usize {
        let queue = &self.queues[input];
        queue.rows.as_ref().map_or(0, |r| r.batch.len() - queue.head)
    }

    fn arrivals(&self, input: usize) -> Option<&[i64]> {
        let queue = &self.queues[input];
        queue.rows.as_ref()?.arrivals.as_ref().map(|a| &a[queue.head..])
    }

    fn counting(&mut self, rows: usize) -> ScalarBuffer<u32> {
        if self.count.len() < rows {
            self.count = (0..rows.next_power_of_two() as u32).collect();
        }
        self.count.slice(0, rows)
    }

    /// The places that rows of the `live` inputs get, until one of them runs dry or `max_rows` are taken.
    fn merge(&self, live: &[usize], max_rows: usize) -> (Vec<Vec<u32>>, Option<Vec<i64>>) {
        let arrivals: Option<Vec<&[i64]>> = live.iter().map(|&i| self.arrivals(i)).collect();
        let by_arrival = self.order == MergeOrder::Arrival && arrivals.is_some();
        let keys: Vec<&[i64]> = live
            .iter()
            .enumerate()
            .map(|(n, &i)| match &arrivals {
                Some(arrivals) if by_arrival => arrivals[n],
                _ => {
                    let queue = &self.queues[i];
                    queue.rows.as_ref().map_or(&[][..], |r| &r.batch.meta.rowtime[queue.head..])
                }
            })
            .collect();
        let mut taken: Vec<Vec<u32>> = keys.iter().map(|k| Vec::with_capacity(k.len().min(max_rows))).collect();
        let mut arrived = arrivals.as_ref().map(|_| Vec::new());
        for seq in 0..max_rows as u32 {
            let mut best = 0;
            let mut best_key = keys[0][taken[0].len()];
            for n in 1..keys.len() {
                let key = keys[n][taken[n].len()];
                if key < best_key {
                    (best, best_key) = (n, key);
                }
            }
            if let (Some(arrived), Some(arrivals)) = (&mut arrived, &arrivals) {
                arrived.push(arrivals[best][taken[best].len()]);
            }
            taken[best].push(seq);
            if taken[best].len() == keys[best].len() {
                break;
            }
        }
        (taken, arrived)
    }

    /// Takes the next `len` rows of `input` and the losses before them.
    fn consume(&mut self, input: usize, len: usize, seq: ScalarBuffer<u32>) -> ChangeBatch {
        let queue = &mut self.queues[input];
        let rows = queue.rows.as_mut().expect("a step takes rows of inputs that have some");
        let end = queue.head + len;
        let mut batch = if end < rows.batch.len() {
            let reached = rows.batch.meta.offset[end];
            let passed = rows.losses.partition_point(|l| l.offset < reached);
            self.lost.extend(rows.losses.drain(..passed).map(|loss| (input, loss)));
            let batch = rows::slice(&rows.batch, queue.head, len);
            queue.head = end;
            batch
        } else {
            let rows = queue.rows.take().expect("checked above");
            self.lost.extend(rows.losses.into_iter().map(|loss| (input, loss)));
            let head = std::mem::take(&mut queue.head);
            if head == 0 { rows.batch } else { rows::slice(&rows.batch, head, len) }
        };
        batch.meta.seq = seq;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::LossKind;
    use crate::types::RowMeta;

    fn input(times: &[i64], offsets: &[i64]) -> InputRows {
        let n = times.len();
        InputRows {
            batch: ChangeBatch {
                columns: Vec::new(),
                present: None,
                old: None,
                meta: RowMeta {
                    rowtime: times.to_vec().into(),
                    seq: (0..n as u32).collect(),
                    offset: offsets.to_vec().into(),
                    window: None,
                    headers: None,
                    keyed: None,
                },
            },
            arrivals: None,
            losses: Vec::new(),
            next: offsets.last().map_or(0, |o| o + 1),
            skipped: 0,
        }
    }

    fn seqs(step: &GroupStep, input: usize) -> Vec<u32> {
        step.batches[input].as_ref().map_or(Vec::new(), |b| b.meta.seq.to_vec())
    }

    #[test]
    fn the_lowest_head_time_goes_first_and_ties_take_the_lower_input() {
        let mut group = PartitionGroup::new(MergeOrder::RowTime, [0, 0]);
        group.push(0, input(&[10, 5, 20], &[0, 1, 2]));
        group.push(1, input(&[7, 10, 11, 12], &[0, 1, 2, 3]));
        let step = group.step(100).unwrap();
        // 7, then 10 (tie: input 0), its 5, then 10 11 12 before 20: input 1 runs dry there
        assert_eq!((seqs(&step, 0), seqs(&step, 1)), (vec![1, 2], vec![0, 3, 4, 5]));
        assert!(group.is_dry(1) && !group.is_dry(0));
        assert_eq!(group.position(0), Position { offset: 2, consumed: 0 });
        assert_eq!(group.position(1), Position { offset: 4, consumed: 0 });
        assert_eq!(seqs(&group.step(100).unwrap(), 0), [0]);
        assert!(group.step(100).is_none());
    }

    #[test]
    fn arrival_beats_row_time_in_tests() {
        let mut group = PartitionGroup::new(MergeOrder::Arrival, [0, 0]);
        let (mut a, mut b) = (input(&[100, 200], &[0, 1]), input(&[1, 2], &[0, 1]));
        a.arrivals = Some(vec![0, 2].into());
        b.arrivals = Some(vec![1, 3].into());
        group.push(0, a);
        group.push(1, b);
        let step = group.step(100).unwrap();
        assert_eq!((seqs(&step, 0), seqs(&step, 1)), (vec![0, 2], vec![1]));
        assert_eq!(step.arrivals, Some(vec![0, 1, 2]));
    }

    #[test]
    fn positions_count_rows_within_a_record() {
        let mut group = PartitionGroup::new(MergeOrder::RowTime, [4]);
        let mut rows = input(&[1, 2, 3, 4, 5], &[4, 4, 4, 9, 9]);
        rows.skipped = 2;
        rows.next = 10;
        group.push(0, rows);
        assert_eq!(group.position(0), Position { offset: 4, consumed: 2 });
        group.step(2);
        assert_eq!(group.position(0), Position { offset: 4, consumed: 4 });
        group.step(1);
        assert_eq!(group.position(0), Position { offset: 9, consumed: 0 });
        group.step(1);
        assert_eq!(group.position(0), Position { offset: 9, consumed: 1 });
        group.step(1);
        assert_eq!(group.position(0), Position { offset: 10, consumed: 0 });
    }

    #[test]
    fn losses_are_told_when_the_position_passes_them() {
        let mut group = PartitionGroup::new(MergeOrder::RowTime, [0]);
        let mut rows = input(&[1, 2], &[1, 4]);
        let loss = |offset| Loss { offset, kind: LossKind::Undecodable, reason: String::new() };
        rows.losses = vec![loss(0), loss(2), loss(5)];
        group.push(0, rows);
        assert_eq!(group.position(0).offset, 1);
        assert_eq!(group.take_losses().iter().map(|(_, l)| l.offset).collect::<Vec<_>>(), [0]);
        group.step(1);
        assert_eq!(group.take_losses().iter().map(|(_, l)| l.offset).collect::<Vec<_>>(), [2]);
        group.step(1);
        assert_eq!(group.take_losses().iter().map(|(_, l)| l.offset).collect::<Vec<_>>(), [5]);
    }
}
