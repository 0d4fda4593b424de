//! Writes behind in the order of their keys, which the storage takes faster.
//!
//! Only sorts. The subtle thing: keys of one store begin alike (a type's tag, a name's `order-`), so what all share is passed over, and the next
//! sixteen bytes as one number decide nearly always; comparing the keys where they lie would wait for memory at every step.

use crate::topic::KeyedWrites;

/// Bytes of a key that are compared as a number.
const NUMBER_BYTES: usize = size_of::<u128>();

/// Sorts writes by key; of equal keys, the last one stays last.
pub fn sort_writes(writes: &mut KeyedWrites) {
    let Some((first, _)) = writes.first() else { return };
    let mut shared: &[u8] = first;
    for (key, _) in writes.iter().filter(|(key, _)| !key.starts_with(shared)) {
        shared = &shared[..alike(shared, key)];
    }
    let shared = shared.len();
    let mut places: Vec<(u128, usize)> =
        writes.iter().enumerate().map(|(place, (key, _))| (number(&key[shared..]), place)).collect();
    places.sort_unstable_by(|(a, a_place), (b, b_place)| {
        let keys = || writes[*a_place].0[shared..].cmp(&writes[*b_place].0[shared..]);
        a.cmp(b).then_with(keys).then(a_place.cmp(b_place))
    });
    let mut taken = std::mem::take(writes);
    writes.extend(places.into_iter().map(|(_, place)| std::mem::take(&mut taken[place])));
}

/// How many bytes `a` and `b` begin with alike.
fn alike(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first bytes as a number that sorts as they do; a key that has fewer comes with zeros for the rest, and may then equal a longer one.
fn number(key: &[u8]) -> u128 {
    if let Some(whole) = key.first_chunk::<NUMBER_BYTES>() {
        return u128::from_be_bytes(*whole);
    }
    let mut bytes = [0; NUMBER_BYTES];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_order_of_a_stable_sort(
            prefix in prop::collection::vec(0u8..3, 0..12),
            keys in prop::collection::vec(prop::collection::vec(0u8..3, 0..22), 0..60),
        ) {
            let write = |(n, key): (usize, &Vec<u8>)| {
                (Bytes::from([prefix.as_slice(), key].concat()), Some(Bytes::from(n.to_string())))
            };
            let mut writes: KeyedWrites = keys.iter().enumerate().map(write).collect();
            let mut expected = writes.clone();
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            sort_writes(&mut writes);
            prop_assert_eq!(writes, expected);
        }
    }
}
