//! A set of seqs, kept as ranges: its size is the number of ranges, not the number of seqs.

use std::collections::BTreeMap;

use crate::domain::ids::Seq;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeqRanges {
    /// The first and the last seq of each range. Between two ranges, there is at least one seq that is in neither.
    ranges: BTreeMap<Seq, Seq>,
    seqs: u64,
}

impl SeqRanges {
    /// Adds the range from `first` to `last`, of which no seq may be in the set.
    pub fn insert(&mut self, first: Seq, last: Seq) {
        debug_assert!(first <= last && self.end_of(first).is_none() && self.end_of(last).is_none());
        self.seqs += last.since(first.previous());
        let last = self.ranges.remove(&last.next()).unwrap_or(last);
        match self.ranges.range_mut(..first).next_back() {
            Some((_, end)) if end.next() == first => *end = last,
            _ => {
                self.ranges.insert(first, last);
            }
        }
    }

    /// Returns the last seq of the range that contains `seq`, or `None` if no range does.
    pub fn end_of(&self, seq: Seq) -> Option<Seq> {
        self.ranges.range(..=seq).next_back().map(|(_, end)| *end).filter(|end| *end >= seq)
    }

    /// Returns where the first range after `seq` begins.
    pub fn next_start(&self, seq: Seq) -> Option<Seq> {
        self.ranges.range(seq.next()..).next().map(|(first, _)| *first)
    }

    /// Removes the range that begins at `first`. Returns its last seq.
    pub fn take(&mut self, first: Seq) -> Option<Seq> {
        let last = self.ranges.remove(&first)?;
        self.seqs -= last.since(first.previous());
        Some(last)
    }

    /// Removes one seq, if it is in the set.
    pub fn remove(&mut self, seq: Seq) {
        let Some((first, last)) = self.ranges.range(..=seq).next_back().map(|(first, last)| (*first, *last))
        else {
            return;
        };
        if last < seq {
            return;
        }
        self.take(first);
        if first < seq {
            self.insert(first, seq.previous());
        }
        if seq < last {
            self.insert(seq.next(), last);
        }
    }

    /// Returns the number of seqs.
    pub fn seqs(&self) -> u64 {
        self.seqs
    }

    /// Returns the number of seqs after `after`, up to and including `last`.
    pub fn within(&self, after: Seq, last: Seq) -> u64 {
        if last <= after {
            return 0;
        }
        let start = self.ranges.range(..=after).next_back().map_or(after, |(first, _)| *first);
        let overlap = |(first, end): (&Seq, &Seq)| (*end).min(last).since(first.previous().max(after));
        self.ranges.range(start..=last).map(overlap).sum()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the number of ranges.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_contain_the_same_as_a_plain_set(
            seqs in proptest::collection::vec(1i64..60, 0..60),
            removed in 1i64..60,
            taken in 1i64..60,
        ) {
            let (mut ranges, mut plain) = (SeqRanges::default(), BTreeSet::new());
            for seq in seqs {
                if plain.insert(seq) {
                    ranges.insert(Seq(seq), Seq(seq));
                }
            }
            ranges.remove(Seq(removed));
            plain.remove(&removed);
            if let Some(last) = ranges.take(Seq(taken)) {
                prop_assert!((taken..=last.0).all(|seq| plain.remove(&seq)));
                prop_assert!(!plain.contains(&(taken - 1)) && !plain.contains(&(last.0 + 1)));
            } else {
                prop_assert!(!plain.contains(&taken) || plain.contains(&(taken - 1)));
            }
            for (after, last) in [(removed, taken), (taken, removed), (0, taken), (removed, 99)] {
                let within = plain.iter().filter(|seq| after < **seq && **seq <= last).count();
                prop_assert_eq!(ranges.within(Seq(after), Seq(last)), within as u64);
            }
            for seq in 0..62 {
                let end = (seq..62).take_while(|seq| plain.contains(seq)).last();
                prop_assert_eq!(ranges.end_of(Seq(seq)), end.map(Seq));
            }
            let starts = plain.iter().filter(|seq| !plain.contains(&(**seq - 1))).count();
            prop_assert_eq!((ranges.seqs(), ranges.ranges()), (plain.len() as u64, starts));
        }
    }
}
