//! Numbers that look random and depend on a seed alone.
//!
//! SplitMix64 (Steele, Lea, Flood 2014), whose outputs are fixed for ever, which `rand` does not promise of its own generators. The subtle
//! thing: each event begins a sequence of its own, so that a change in one kind of event moves nothing in the others.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of numbers.
pub(super) struct Draw(u64);

impl Draw {
    /// The sequence of event `number`.
    pub fn new(seed: u64, number: u64) -> Self {
        Self(mixed(seed ^ mixed(number.wrapping_add(GOLDEN))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mixed(self.0)
    }

    /// A whole number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias is end / 2^64: nothing for made-up data.
        ((u128::from(self.next()) * u128::from(end.max(1))) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// True `times` times in `of`.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// So many small letters.
    pub fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // first outputs of the reference implementation for the state 1234567
        let mut draw = Draw(1_234_567);
        assert_eq!([draw.next(), draw.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn all_of_a_range_is_drawn_and_nothing_else() {
        let mut seen = [0; 7];
        (0..700).for_each(|i| seen[Draw::new(3, i).below(7) as usize] += 1);
        assert!(seen.iter().all(|n| (50..150).contains(n)), "{seen:?}");
    }
}
