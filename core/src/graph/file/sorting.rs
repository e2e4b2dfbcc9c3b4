//! Stable sorting with cancellation checks.

use std::cmp::Ordering;

use crate::graph::budget::Interrupt;

/// Elements that the standard library sorts at a time; about 5 ms.
const RUN: usize = 1 << 16;

/// Elements merged between two cancellation checks.
const ELEMENTS_PER_CHECK: usize = 1 << 16;

/// Sorts runs and merges them. A merge of two runs that are in order already is free. O(n log n),
/// with scratch memory for as many elements in `room`.
pub(crate) fn sort_interruptibly<T: Copy>(
    data: &mut [T],
    room: &mut [T],
    interrupt: &mut impl Interrupt,
    mut compare: impl FnMut(&T, &T) -> Ordering,
) {
    for run in data.chunks_mut(RUN) {
        interrupt.should_stop();
        if !run.is_sorted_by(|a, b| compare(a, b) != Ordering::Greater) {
            run.sort_by(&mut compare);
        }
    }
    let mut width = RUN;
    while width < data.len() {
        for pair in data.chunks_mut(2 * width) {
            if pair.len() > width {
                merge(pair, width, room, interrupt, &mut compare);
            }
        }
        width *= 2;
    }
}

/// Sorts like [`sort_interruptibly`] and allocates the scratch memory.
pub(crate) fn sort_with_room<T: Copy>(
    data: &mut [T],
    interrupt: &mut impl Interrupt,
    compare: impl FnMut(&T, &T) -> Ordering,
) {
    let mut room = Vec::new();
    room.reserve_exact(data.len());
    // Page faults of fresh memory take as long as the sort, so this loop checks for cancellation,
    // too.
    for run in data.chunks(RUN) {
        interrupt.should_stop();
        room.extend_from_slice(run);
    }
    sort_interruptibly(data, &mut room, interrupt, compare);
}

fn merge<T: Copy>(
    pair: &mut [T],
    middle: usize,
    room: &mut [T],
    interrupt: &mut impl Interrupt,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    if compare(&pair[middle - 1], &pair[middle]) != Ordering::Greater {
        return;
    }
    // The prefix that is in place already stays there.
    let first = pair[middle];
    let start = pair[..middle].partition_point(|element| compare(element, &first) != Ordering::Greater);
    let left = &mut room[..middle - start];
    left.copy_from_slice(&pair[start..middle]);
    let (mut from_left, mut from_right, mut to) = (0, middle, start);
    while from_left < left.len() && from_right < pair.len() {
        if to % ELEMENTS_PER_CHECK == 0 {
            interrupt.should_stop();
        }
        if compare(&left[from_left], &pair[from_right]) == Ordering::Greater {
            pair[to] = pair[from_right];
            from_right += 1;
        } else {
            pair[to] = left[from_left];
            from_left += 1;
        }
        to += 1;
    }
    let rest = left.len() - from_left;
    pair[to..to + rest].copy_from_slice(&left[from_left..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Uninterrupted;
    use proptest::prelude::*;

    #[test]
    fn long_inputs_are_sorted_stably() {
        let mut data: Vec<(u32, u32)> = (0_u32..300_000).map(|i| (i.wrapping_mul(2_654_435_761) >> 20, i)).collect();
        let mut expected = data.clone();
        expected.sort_by_key(|element| element.0);
        let mut room = vec![(0, 0); data.len()];
        sort_interruptibly(&mut data, &mut room, &mut Uninterrupted, |a, b| a.0.cmp(&b.0));
        assert!(data == expected);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(mut data in prop::collection::vec(0_u8..20, 0..200), cut in 1_usize..100) {
            let mut expected = data.clone();
            expected.sort_unstable();
            let mut room = vec![0; data.len()];
            if cut < data.len() {
                data[..cut].sort_unstable();
                data[cut..].sort_unstable();
                merge(&mut data, cut, &mut room, &mut Uninterrupted, &mut |a: &u8, b: &u8| a.cmp(b));
            } else {
                sort_interruptibly(&mut data, &mut room, &mut Uninterrupted, |a, b| a.cmp(b));
            }
            prop_assert_eq!(data, expected);
        }
    }
}
