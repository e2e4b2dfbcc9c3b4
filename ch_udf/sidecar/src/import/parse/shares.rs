//! Splits the outputs of a transaction among its inputs, exactly to the smallest unit.

/// Returns the matrix `share[i][j]` with row sums `inputs` and column sums `outputs`, whose sums
/// are equal: each cell is its proportional share rounded down, and what rounding left goes to the
/// cells with the largest remainders, the first ones where remainders are equal. `None` if the sums
/// differ or a product exceeds `u128`. Time and memory are O(inputs · outputs · log).
pub(crate) fn shares(inputs: &[u128], outputs: &[u128]) -> Option<Vec<Vec<u128>>> {
    let sum = |amounts: &[u128]| amounts.iter().try_fold(0_u128, |sum, amount| sum.checked_add(*amount));
    let total = sum(inputs)?;
    if total != sum(outputs)? {
        return None;
    }
    let mut matrix = vec![vec![0; outputs.len()]; inputs.len()];
    if total == 0 {
        return Some(matrix);
    }
    let (mut row_rest, mut column_rest) = (inputs.to_vec(), outputs.to_vec());
    let mut remainders = Vec::with_capacity(inputs.len() * outputs.len());
    for (i, input) in inputs.iter().enumerate() {
        for (j, output) in outputs.iter().enumerate() {
            let product = input.checked_mul(*output)?;
            let share = product / total;
            matrix[i][j] = share;
            row_rest[i] -= share;
            column_rest[j] -= share;
            remainders.push((std::cmp::Reverse(product % total), i, j));
        }
    }
    remainders.sort_unstable();
    for (_, i, j) in &remainders {
        if row_rest[*i] > 0 && column_rest[*j] > 0 {
            matrix[*i][*j] += 1;
            row_rest[*i] -= 1;
            column_rest[*j] -= 1;
        }
    }
    // One unit a cell may not be enough where few cells are left.
    for (_, i, j) in &remainders {
        let rest = row_rest[*i].min(column_rest[*j]);
        matrix[*i][*j] += rest;
        row_rest[*i] -= rest;
        column_rest[*j] -= rest;
    }
    Some(matrix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_proportional_and_remainders_go_to_the_largest() {
        assert_eq!(shares(&[600, 300], &[500, 400]), Some(vec![vec![333, 267], vec![167, 133]]));
        assert_eq!(shares(&[1, 1, 1], &[2, 1]), Some(vec![vec![1, 0], vec![1, 0], vec![0, 1]]));
        assert_eq!(shares(&[5], &[4]), None);
        assert_eq!(shares(&[], &[]), Some(vec![]));
        assert_eq!(shares(&[u128::MAX], &[u128::MAX]), None);
    }

    proptest! {
        #[test]
        fn rows_and_columns_add_up(
            inputs in prop::collection::vec(0_u128..1_000_000_000_000, 1..12),
            cuts in prop::collection::vec(0_u128..1_000_000_000_000, 0..12),
        ) {
            let total: u128 = inputs.iter().sum();
            let mut rest = total;
            let mut outputs: Vec<u128> = cuts.iter().map(|cut| { let part = *cut.min(&rest); rest -= part; part }).collect();
            outputs.push(rest);
            let matrix = shares(&inputs, &outputs).unwrap();
            for (i, input) in inputs.iter().enumerate() {
                prop_assert_eq!(matrix[i].iter().sum::<u128>(), *input);
                for (j, output) in outputs.iter().enumerate() {
                    // Never further from the share than the units that rounding left.
                    let cells = (inputs.len() * outputs.len()) as u128;
                    let exact = (input * output).checked_div(total).unwrap_or_default();
                    prop_assert!(matrix[i][j] >= exact && matrix[i][j] <= exact + cells);
                }
            }
            for (j, output) in outputs.iter().enumerate() {
                prop_assert_eq!(matrix.iter().map(|row| row[j]).sum::<u128>(), *output);
            }
        }
    }
}
