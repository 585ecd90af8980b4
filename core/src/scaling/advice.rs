//! What is advised where the number of replicas is not the platform's to choose, from the hours that were seen.

use jiff::Timestamp;

use crate::manifest::MOST_REPLICAS;
use crate::units::count;

/// What was seen of an instance in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// When it began.
    pub hour: Timestamp,
    /// How many of its seconds were seen.
    pub seconds: u32,
    /// Requests in replicas, over all of these seconds.
    pub busy_sum: u64,
    /// The most in one second, those that waited among them.
    pub busy_max: u32,
    /// Seconds in which requests waited for others to end.
    pub waiting: u32,
    /// What the replicas answered at once.
    pub at_once: u32,
}

/// What there is now.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    pub replicas: u16,
    /// Requests that one replica answers at once.
    pub at_once: u32,
    /// Where the number follows the load: its most.
    pub most: Option<u16>,
    pub now: Timestamp,
}

/// How far back it is looked, in days.
const DAYS: i64 = 7;
/// What is less is no advice: most of a day must have been seen, in seconds.
const LEAST_SEEN: u64 = 20 * 3600;
const LEAST_DAYS: i64 = 86_400;
/// Visitors who waited for less are not worth a word, in seconds.
const LEAST_WAITING: u32 = 60;
/// How much of the replicas may have been in use at the worst moment, in percent, for fewer to do.
const ROOMY: u64 = 60;
/// How much of them should be in use at the worst moment.
const AIM: u64 = 80;

/// A sentence, where there is something to say.
pub fn advise(hours: &[Hour], situation: &Situation) -> Option<String> {
    let Situation { replicas, at_once, most, now } = *situation;
    let begin = now.as_second() - DAYS * 86_400;
    let hours: Vec<&Hour> = hours.iter().filter(|hour| hour.hour.as_second() >= begin).collect();
    let first = hours.iter().map(|hour| hour.hour.as_second()).min()?;
    let seen: u64 = hours.iter().map(|hour| u64::from(hour.seconds)).sum();
    if seen < LEAST_SEEN || now.as_second() - first < LEAST_DAYS || at_once == 0 {
        return None;
    }
    let days = count(((now.as_second() - first) / 86_400).clamp(1, DAYS).unsigned_abs(), "day");
    let room = at_once.saturating_mul(replicas.into());
    // What waited for fewer replicas than there are now has its answer; so has automatic scaling below its most.
    let largest = at_once.saturating_mul(most.unwrap_or(replicas).into());
    let short: Vec<_> = hours.iter().filter(|hour| hour.waiting > 0 && hour.at_once >= largest).collect();
    let waiting: u32 = short.iter().map(|hour| hour.waiting).sum();
    if waiting >= LEAST_WAITING {
        let worst = short.iter().max_by_key(|hour| (hour.waiting, hour.hour))?;
        let minutes = worst.hour.strftime("%Y-%m-%d %H:%M UTC");
        let needed = fitting(worst.busy_max, at_once, AIM).max(most.unwrap_or(replicas).saturating_add(1));
        let needed = needed.min(most.unwrap_or(replicas).saturating_mul(2)).min(MOST_REPLICAS);
        let what = match most {
            Some(_) => format!("replicas.max: {needed}"),
            None => format!("web={needed}"),
        };
        let spent = if waiting < 120 { format!("{waiting} s") } else { format!("{} min", waiting / 60) };
        return Some(format!(
            "requests waited for {spent} in {days}, most of it in the hour of {minutes}: {what}, or more memory"
        ));
    }
    let busiest = hours.iter().map(|hour| hour.busy_max).max()?;
    let enough = fitting(busiest, at_once, ROOMY);
    if most.is_none() && enough < replicas {
        let would = count(enough, "replica");
        return Some(format!(
            "at most {busiest} of {room} at once were in use in {days}: {would} would do for the load"
        ));
    }
    None
}

/// The fewest replicas of which so much is in use at most, in percent.
fn fitting(busy: u32, at_once: u32, percent: u64) -> u16 {
    let needed = (u64::from(busy) * 100).div_ceil(u64::from(at_once) * percent).max(1);
    u16::try_from(needed).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(number: i64, busy_max: u32, waiting: u32, at_once: u32) -> Vec<Hour> {
        let hour = |n: i64| Hour {
            hour: Timestamp::from_second(1_764_000_000 - n * 3600).unwrap(),
            seconds: 3590,
            busy_sum: 3590,
            busy_max,
            waiting,
            at_once,
        };
        (1..=number).map(hour).collect()
    }

    fn situation(replicas: u16, most: Option<u16>) -> Situation {
        Situation { replicas, at_once: 10, most, now: Timestamp::from_second(1_764_000_000).unwrap() }
    }

    #[test]
    fn advice_is_given_after_a_day_and_where_there_is_something_to_say() {
        for (number, busy, waiting, replicas, most, said) in [
            (23, 1, 0, 3, None, None),
            (48, 3, 0, 3, None, Some("at most 3 of 30 at once were in use in 2 days: 1 replica would do for the load")),
            (
                24 * 14,
                9,
                0,
                3,
                None,
                Some("at most 9 of 30 at once were in use in 7 days: 2 replicas would do for the load"),
            ),
            (48, 17, 0, 3, None, None),
            (48, 3, 0, 3, Some(3), None),
            (48, 12, 1, 1, None, None),
            (
                48,
                15,
                20,
                1,
                None,
                Some(
                    "requests waited for 16 min in 2 days, most of it in the hour of 2025-11-24 15:00 UTC: web=2, or more memory",
                ),
            ),
            (
                48,
                31,
                2,
                2,
                Some(1),
                Some(
                    "requests waited for 96 s in 2 days, most of it in the hour of 2025-11-24 15:00 UTC: replicas.max: 2, or more memory",
                ),
            ),
        ] {
            let at_once = u32::from(most.unwrap_or(replicas)) * 10;
            let advice = advise(&hours(number, busy, waiting, at_once), &situation(replicas, most));
            assert_eq!(advice.as_deref(), said, "{number} {busy} {waiting} {replicas} {most:?}");
        }
    }

    #[test]
    fn what_waited_for_fewer_replicas_has_its_answer() {
        assert_eq!(advise(&hours(48, 15, 60, 10), &situation(2, None)), None);
    }
}
