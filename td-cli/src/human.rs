//! Sizes, ages and durations for people.

use std::time::Duration;

use jiff::Timestamp;
pub use magrathea_core::units::size;

/// How long ago, in one unit: `42s`, `5m`, `3h`, `12d`.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `0.31 s`, `4.2 s`, `2m 5s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 => format!("{seconds:.2} s"),
        1..100 => format!("{seconds:.1} s"),
        whole => format!("{}m {}s", whole / 60, whole % 60),
    }
}

/// How long ago something was last used: `5m`, or `never`.
pub fn last(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "never".to_owned(), |then| age(then, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (ago, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (200_000, "2d")] {
            assert_eq!(age(Timestamp::from_second(1_000_000 - ago).unwrap(), now), text);
        }
        assert_eq!(age(Timestamp::from_second(1_000_100).unwrap(), now), "0s");
    }

    #[test]
    fn durations() {
        for (ms, text) in [(5, "0.01 s"), (940, "0.94 s"), (1_440, "1.4 s"), (125_000, "2m 5s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
