//! Which keys may be in the store behind though they are not in memory: a Bloom filter that grows.
//!
//! Knows hashes, no keys, and forgets nothing. The subtle thing: its no is certain only if every key that ever left memory was added, so who
//! finds a filled store behind has no filter and must look.

/// Bits for each key: with [`PROBES`] of them set, about one in a hundred strange keys is taken for a known one.
const BITS_PER_KEY: usize = 12;
const PROBES: u32 = 6;
/// Keys of the first layer; the next two hold eight times as many as the one before, each further one as many as all before it.
const FIRST_KEYS: usize = 1 << 9;
const STEEP_LAYERS: usize = 2;
/// Bits of a block, which is a cache line: all bits of a key are in one.
const BLOCK_BITS: usize = 512;

/// Keys that were added, by their hashes.
#[derive(Default)]
pub(crate) struct KeyFilter {
    layers: Vec<Layer>,
    /// how many were added
    keys: usize,
}

struct Layer {
    blocks: Vec<Block>,
    /// so many keys may still be added
    room: usize,
}

#[derive(Clone, Default)]
#[repr(align(64))]
struct Block([u64; BLOCK_BITS / 64]);

impl KeyFilter {
    /// Adds a key.
    pub fn insert(&mut self, hash: u64) {
        if self.contains(hash) {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.room == 0) {
            let keys = self.keys.max(FIRST_KEYS << (3 * self.layers.len().min(STEEP_LAYERS)));
            let blocks = vec![Block::default(); (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS)];
            self.layers.push(Layer { blocks, room: keys });
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.room -= 1;
            self.keys += 1;
            let at = place(hash, layer.blocks.len());
            let block = &mut layer.blocks[at].0;
            bits(hash).for_each(|(word, bit)| block[word] |= bit);
        }
    }

    /// False if the key was not added.
    pub fn contains(&self, hash: u64) -> bool {
        let holds = |layer: &Layer| {
            let block = &layer.blocks[place(hash, layer.blocks.len())].0;
            bits(hash).all(|(word, bit)| block[word] & bit != 0)
        };
        // the last layer holds half of all
        self.layers.iter().rev().any(holds)
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.layers.iter().map(|layer| layer.blocks.capacity() * size_of::<Block>()).sum()
    }
}

/// The block of a hash, by its upper bits.
fn place(hash: u64, blocks: usize) -> usize {
    ((u128::from(hash) * blocks as u128) >> 64) as usize
}

/// The bits of a hash within its block: words and masks.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |n| {
        let bit = (mixed >> (9 * n)) as usize % BLOCK_BITS;
        (bit / 64, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        let x = (n ^ (n >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    #[test]
    fn it_knows_what_was_added_and_little_else() {
        let mut filter = KeyFilter::default();
        let keys = 200_000;
        assert!(!filter.contains(hash(0)));
        (0..keys).for_each(|n| filter.insert(hash(n)));
        assert!((0..keys).all(|n| filter.contains(hash(n))));
        let strangers = (keys..2 * keys).filter(|&n| filter.contains(hash(n))).count() as u64;
        assert!(strangers < keys / 10, "{strangers} of {keys} strange keys");
        assert!(filter.memory() < 2 * keys as usize * BITS_PER_KEY / 8, "{} bytes", filter.memory());
    }
}
