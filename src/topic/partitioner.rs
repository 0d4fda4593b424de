//! Which partition a key belongs to, as Kafka's default partitioner says.
//!
//! Must equal it bit for bit: co-partitioning with topics that others write depends on it. The subtle thing is that
//! Kafka's `toPositive` clears the sign bit and does not take the absolute value.

/// Kafka's seed.
const SEED: u32 = 0x9747_b28c;
/// Multiplier of murmur2.
const M: u32 = 0x5bd1_e995;
/// Shift of murmur2.
const R: u32 = 24;

/// The partition of `key` among `partitions` (≥ 1).
pub fn partition_for(key: &[u8], partitions: i32) -> i32 {
    debug_assert!(partitions >= 1, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The 32-bit murmur2 hash with Kafka's seed.
pub fn murmur2(key: &[u8]) -> i32 {
    let mut hash = SEED ^ (key.len() as u32);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafka() {
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key), hash, "{key:?}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit() {
        let positive = -973_932_308_i32 & 0x7fff_ffff;
        assert_eq!(partition_for(b"21", 7), positive % 7);
        for partitions in 1..50 {
            assert!((0..partitions).contains(&partition_for(b"foobar", partitions)));
        }
    }
}
