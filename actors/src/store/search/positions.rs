//! Sets of positions within a block, and their stored form.

use super::BLOCK;
use crate::domain::numbers::saturate;

const WORDS: usize = BLOCK / 64;
/// The length of the stored form as a bitmap. A list that would be as long is stored as a bitmap.
const BITMAP_BYTES: usize = BLOCK / 8;

/// A set of positions within a block: numbers below [`BLOCK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions([u64; WORDS]);

impl Positions {
    /// No position.
    pub const NONE: Self = Self([0; WORDS]);

    /// Reads a stored set. Returns `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut positions = Self::NONE;
        if bytes.len() == BITMAP_BYTES {
            for (word, bytes) in positions.0.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().ok()?);
            }
            return Some(positions);
        }
        let (mut rest, mut next) = (bytes, 0);
        while !rest.is_empty() {
            let position = usize::try_from(read_number(&mut rest)?).ok()?.checked_add(next)?;
            *positions.0.get_mut(position / 64)? |= 1 << (position % 64);
            next = position + 1;
        }
        Some(positions)
    }

    /// Adds all positions of the other set.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Keeps only positions that are in the other set, too.
    pub fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    /// Returns whether the set contains this position.
    pub fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// Returns the positions, the last one first.
    pub fn descending(&self) -> impl Iterator<Item = usize> {
        (0..BLOCK).rev().filter(|position| self.contains(*position))
    }
}

/// Returns the stored form of these positions, which are in ascending order and different: the difference of each to
/// the one before, or a bitmap if that is shorter.
pub fn encode(positions: &[u16]) -> Vec<u8> {
    let mut list = Vec::with_capacity(positions.len());
    let mut next = 0;
    for position in positions {
        write_number(&mut list, u64::from(position - next));
        next = position + 1;
    }
    if list.len() < BITMAP_BYTES {
        return list;
    }
    let mut bitmap = vec![0; BITMAP_BYTES];
    for position in positions {
        bitmap[usize::from(position / 8)] |= 1 << (position % 8);
    }
    bitmap
}

/// The position of an event within its block, and its `occurred_at` in microseconds since 1970.
pub type TimeAt = (usize, i64);

/// Returns the stored form of these times, which are in ascending order of their positions.
pub fn encode_times(times: &[TimeAt]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(times.len() * 5);
    let (mut next, mut before) = (0, 0);
    for (position, at) in times {
        write_number(&mut bytes, saturate(position - next));
        let difference = at.wrapping_sub(before);
        // The sign goes into the last bit, so that small differences are short.
        write_number(&mut bytes, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        (next, before) = (position + 1, *at);
    }
    bytes
}

/// Reads stored times. Returns `None` if they are damaged.
pub fn decode_times(bytes: &[u8]) -> Option<Vec<TimeAt>> {
    let (mut rest, mut next, mut before) = (bytes, 0, 0_i64);
    let mut times = Vec::new();
    while !rest.is_empty() {
        let position = usize::try_from(read_number(&mut rest)?).ok()?.checked_add(next)?;
        if position >= BLOCK {
            return None;
        }
        let difference = read_number(&mut rest)?;
        let difference = (difference >> 1).cast_signed() ^ -(difference & 1).cast_signed();
        (next, before) = (position + 1, before.wrapping_add(difference));
        times.push((position, before));
    }
    Some(times)
}

/// Appends a number, seven bits a byte, the lowest first.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;

    proptest! {
        #[test]
        fn a_stored_set_is_read_back(positions in btree_set(0..128_u16, 0..128)) {
            let positions: Vec<u16> = positions.into_iter().collect();
            let bytes = encode(&positions);
            prop_assert!(bytes.len() <= BITMAP_BYTES);
            let read = Positions::decode(&bytes).unwrap();
            let expected: Vec<_> = positions.into_iter().rev().map(usize::from).collect();
            prop_assert_eq!(read.descending().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn stored_times_are_read_back(positions in btree_set(0..BLOCK, 0..50), times in vec(any::<i64>(), 50)) {
            let times: Vec<TimeAt> = positions.into_iter().zip(times).collect();
            prop_assert_eq!(decode_times(&encode_times(&times)), Some(times));
        }

        #[test]
        fn damaged_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _positions = Positions::decode(&bytes);
            let _times = decode_times(&bytes);
        }
    }

    #[test]
    fn usual_sets_and_times_are_short() {
        assert_eq!(encode(&[3]), [3]);
        assert_eq!(encode(&[3, 4, 9]), [3, 0, 4]);
        assert_eq!(encode(&(0..40).collect::<Vec<_>>()).len(), BITMAP_BYTES);
        let times = [(0, 1_780_000_000_000_000), (1, 1_780_000_060_000_000), (2, 1_780_000_000_000_000)];
        assert_eq!(encode_times(&times).len(), (1 + 8) + 2 * (1 + 4), "a minute takes four bytes");
    }

    #[test]
    fn sets_are_joined_and_intersected() {
        let of = |positions: &[u16]| Positions::decode(&encode(positions)).unwrap();
        let mut set = of(&[1, 5]);
        set.add(&of(&[7]));
        set.keep(&of(&[5, 7, 9]));
        assert_eq!(set.descending().collect::<Vec<_>>(), [7, 5]);
        assert!(set.contains(5) && !set.contains(1));
    }
}
