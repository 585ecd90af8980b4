//! Whole numbers → quantities that have a price: the one place where an amount is rounded.
//!
//! A quantity has nine decimals. What is rounded is the running total of a month, so that parts of it, taken as the
//! differences of totals, add up to the whole whatever it is cut into.

use rust_decimal::Decimal;

use super::Meter;

const DECIMALS: u32 = 9;
const SCALE: u128 = 1_000_000_000;
/// Bytes in a GB.
const GB: u128 = 1_000_000_000;

/// How many units of a meter an amount is: bytes, byte-seconds, milliseconds, a number, or seconds of existence.
pub(super) fn quantity(meter: Meter, amount: u128, month_seconds: u64) -> Decimal {
    let month = u128::from(month_seconds.max(1));
    let unit = match meter {
        Meter::Base => month,
        Meter::Requests => 1_000_000,
        Meter::Sent | Meter::Received => GB,
        Meter::Disk | Meter::Database => GB * month,
        Meter::Cpu => 3_600_000,
        Meter::Memory => GB * 3_600,
    };
    let nano = divide(amount.saturating_mul(SCALE), unit);
    let nano = i128::try_from(nano).unwrap_or(i128::MAX);
    Decimal::try_from_i128_with_scale(nano, DECIMALS).unwrap_or(Decimal::MAX)
}

/// The same quantity in the unit that is measured.
pub(super) fn consumed(meter: Meter, quantity: Decimal, month_seconds: u64) -> Decimal {
    let factor = match meter {
        Meter::Requests => Decimal::from(1_000_000),
        Meter::Base | Meter::Disk | Meter::Database => Decimal::from(month_seconds) / Decimal::from(3_600),
        _ => Decimal::ONE,
    };
    quantity.saturating_mul(factor).round_dp(DECIMALS).normalize()
}

impl Meter {
    /// How many units are sold when this much was used in a month of so many seconds.
    pub fn quantity(self, amount: u128, month_seconds: u64) -> Decimal {
        quantity(self, amount, month_seconds)
    }
}

/// To the nearest; halves to the even one.
fn divide(amount: u128, by: u128) -> u128 {
    let (whole, rest) = (amount / by, amount % by);
    let up = match (rest.saturating_mul(2)).cmp(&by) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => whole % 2,
        std::cmp::Ordering::Greater => 1,
    };
    whole + up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_become_what_people_buy() {
        let month = 30 * 86_400;
        for (meter, amount, expect, measured) in [
            (Meter::Sent, 1_500_000_000, "1.500000000", "1.5"),
            (Meter::Received, 1, "0.000000001", "0.000000001"),
            (Meter::Requests, 2_500_001, "2.500001000", "2500001"),
            // Ten GB through half of the month.
            (Meter::Disk, 10 * GB * 15 * 86_400, "5.000000000", "3600"),
            (Meter::Database, GB * 86_400, "0.033333333", "23.99999976"),
            (Meter::Cpu, 5_400_000, "1.500000000", "1.5"),
            (Meter::Memory, 2 * GB * 3_600, "2.000000000", "2"),
            (Meter::Base, 86_400 * 15, "0.500000000", "360"),
        ] {
            let quantity = quantity(meter, amount, month);
            assert_eq!(quantity.to_string(), expect, "{meter}");
            assert_eq!(consumed(meter, quantity, month).to_string(), measured, "{meter}");
        }
    }

    #[test]
    fn halves_go_to_the_even() {
        assert_eq!([5, 15, 25, 14, 16].map(|n| divide(n, 10)), [0, 2, 2, 1, 2]);
    }
}
