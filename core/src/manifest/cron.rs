//! Checks of crontab(5) schedules: five fields of numbers, names, ranges, lists and steps.

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names for the values from `least` on.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: MONTHS },
    Field { name: "weekday", least: 0, most: 7, names: DAYS },
];

/// Checks a schedule such as `*/5 * * * *`; the error completes a sentence that starts with the key.
pub(crate) fn check_schedule(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("wants five fields separated by blanks, not {text:?}"));
    }
    for (field, part) in FIELDS.iter().zip(parts) {
        if !part.split(',').all(|item| field.accepts(item)) {
            return Err(format!("has no valid {}: {part:?} is not within {}-{}", field.name, field.least, field.most));
        }
    }
    Ok(())
}

impl Field {
    fn accepts(&self, item: &str) -> bool {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let step_is_good = step.is_none_or(|s| s.parse().is_ok_and(|n: u32| (1..=self.most).contains(&n)));
        let range_is_good = match range.split_once('-') {
            Some((low, high)) => matches!((self.value(low), self.value(high)), (Some(l), Some(h)) if l <= h),
            None => range == "*" || (step.is_none() && self.value(range).is_some()),
        };
        step_is_good && range_is_good
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = || text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        named.map(|(_, n)| n).or_else(number).filter(|n| (self.least..=self.most).contains(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_checked_field_by_field() {
        for good in ["* * * * *", "*/5 * * * *", "0 3 * * mon-fri", "0,30 8-18/2 1 JAN,jul 7", "5 4 * * sun"] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "+1 * * * *",
            "1,, * * * *",
            "@daily",
            "5/2 * * * *",
            "- * * * *",
        ] {
            assert!(check_schedule(bad).is_err(), "{bad}");
        }
    }
}
