//! Exact shares of amounts.

use crate::graph::types::U256;

/// Returns `amount * part / whole`, rounded down, or zero if `whole` is zero. `part` is at most
/// `whole`.
pub(super) fn share(amount: U256, part: U256, whole: U256) -> U256 {
    if part >= whole {
        return if whole == U256::ZERO { U256::ZERO } else { amount };
    }
    match amount.checked_mul(part) {
        Some(product) => product / whole,
        None => wide_share(amount, part, whole),
    }
}

/// Computes [`share`] by long multiplication and division of 512 bits, for amounts beyond those of
/// real coins.
fn wide_share(amount: U256, part: U256, whole: U256) -> U256 {
    // The quotient is built by Horner's rule over the bits of `amount`: quotient * whole + rest =
    // part * bits so far.
    let (mut quotient, mut rest) = (U256::ZERO, U256::ZERO);
    for bit in (0..256_u32).rev() {
        // Adds `rest` once more, and `part` if the bit is set. Both are less than `whole`.
        let mut carried = U256::ZERO;
        let mut sum = rest;
        let mut add = |more: U256| {
            if sum >= whole - more {
                sum -= whole - more;
                carried += U256::ONE;
            } else {
                sum += more;
            }
        };
        add(rest);
        if (amount >> bit) & U256::ONE == U256::ONE {
            add(part);
        }
        rest = sum;
        quotient = (quotient << 1) + carried;
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_beyond_256_bits_are_exact() {
        let most = U256::MAX;
        assert_eq!(share(most, most - U256::ONE, most), most - U256::ONE);
        assert_eq!(share(most, U256::ONE, U256::new(2)), most / U256::new(2));
        assert_eq!(share(most, U256::ZERO, most), U256::ZERO);
        assert_eq!(share(most, most, most), most);
        assert_eq!(share(most, U256::ONE, U256::ZERO), U256::ZERO);
    }

    proptest! {
        #[test]
        fn wide_share_agrees_with_share(amount: u128, part in 1..u128::MAX, more: u128) {
            let whole = U256::new(part) + U256::new(more) + U256::ONE;
            let (amount, part) = (U256::new(amount), U256::new(part));
            prop_assert_eq!(wide_share(amount, part, whole), share(amount, part, whole));
        }

        #[test]
        fn shares_do_not_depend_on_the_scale(amount: u64, part: u64, more: u64) {
            let whole = U256::from(part) + U256::from(more) + U256::ONE;
            let plain = share(U256::from(amount), U256::from(part), whole);
            let scaled = share(U256::from(amount), U256::from(part) << 180, whole << 180);
            prop_assert_eq!(plain, scaled);
        }
    }
}
