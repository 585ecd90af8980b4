//! The laws of the decision: within its bounds, settled by a load that stays, one change per rest, nothing from silence.

use proptest::prelude::*;

use super::*;

fn bounds(min: u16, max: u16) -> Bounds {
    Bounds { min, max, window: None }
}

/// Follows a load second by second, as a gateway does that looks every five seconds; gives when it changed to what.
fn follow(
    (min, max): (u16, u16),
    target: u8,
    at_once: u32,
    start: u16,
    seconds: i64,
    busy: impl Fn(i64, u16) -> Option<u32>,
) -> Vec<(i64, u16)> {
    let pace = Pace::default();
    let (mut current, mut changed, mut samples, mut changes) = (start, None, Vec::new(), Vec::new());
    for now in 0..seconds {
        samples.extend(busy(now, current).map(|busy| Sample { at: now, busy }));
        if now % 5 != 0 {
            continue;
        }
        let from = samples.len().saturating_sub(400);
        let load = Load { current, at_once, samples: &samples[from..], changed, now };
        if let Some(change) = decide(&bounds(min, max), Percent(target), &pace, &load) {
            assert!((min..=max).contains(&change.to) && change.to != current, "{change:?}");
            current = change.to;
            changed = Some(now);
            changes.push((now, current));
        }
    }
    changes
}

fn range() -> impl Strategy<Value = (u16, u16)> {
    (1u16..12, 0u16..20).prop_map(|(min, more)| (min, min + more))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_load_that_stays_settles_it(
        (min, max) in range(), start in 1u16..40, target in 10u8..=95, at_once in 1u32..64, busy in 0u32..800,
    ) {
        let start = start.clamp(min, max);
        let changes = follow((min, max), target, at_once, start, 6_000, |_, _| Some(busy));
        // Once it has turned or stood still it stays: it goes only up, or only down.
        let way: Vec<u16> = std::iter::once(start).chain(changes.iter().map(|(_, to)| *to)).collect();
        let rises = way.windows(2).all(|pair| pair[0] < pair[1]);
        let falls = way.windows(2).all(|pair| pair[0] > pair[1]);
        prop_assert!(rises || falls, "{way:?}");
        let last = changes.last().map_or(0, |(at, _)| *at);
        prop_assert!(last < 5_500, "still changing: {changes:?}");
        let end = way[way.len() - 1];
        let room = u64::from(at_once) * u64::from(end) * u64::from(target);
        prop_assert!(end == max || u64::from(busy) * 100 <= room, "{busy} at {end}");
    }

    #[test]
    fn it_changes_once_per_rest_whatever_happens(
        (min, max) in range(), target in 10u8..=95, at_once in 1u32..64,
        loads in proptest::collection::vec(proptest::option::weighted(0.9, 0u32..500), 20..60), span in 1i64..90,
    ) {
        let load = |now: i64, _| loads[(now / span) as usize % loads.len()];
        let changes = follow((min, max), target, at_once, min, 3_000, load);
        let rest = seconds(Pace::default().rest);
        prop_assert!(changes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= rest), "{changes:?}");
    }

    #[test]
    fn a_load_around_the_threshold_makes_it_go_up_and_stay(
        at_once in 5u32..64, current in 1u16..8, swing in 1u32..6, span in 1i64..120,
    ) {
        // Around 70 % of what the present number answers at once.
        let middle = at_once * u32::from(current) * 70 / 100;
        let load = |now: i64, _| Some(if now / span % 2 == 0 { middle + swing } else { middle.saturating_sub(swing) });
        let changes = follow((1, 32), 70, at_once, current, 2_500, load);
        let ups: Vec<u16> = changes.iter().map(|(_, to)| *to).collect();
        prop_assert!(ups.iter().all(|to| *to > current), "{changes:?}");
        prop_assert!(ups.is_sorted(), "it came back: {changes:?}");
    }

    #[test]
    fn silence_lets_nothing_go(start in 2u16..20, at_once in 1u32..64, from in 0i64..500) {
        let quiet = |now: i64, _| (now >= from && now % 3 != 0).then_some(0);
        prop_assert_eq!(follow((1, 20), 70, at_once, start, 2_000, quiet), []);
        prop_assert_eq!(follow((1, 20), 70, at_once, start, 2_000, |_, _| None), []);
    }
}

#[test]
fn it_says_why() {
    let say = |busy: &dyn Fn(i64) -> u32, current: u16, bounds: Bounds| {
        let samples: Vec<_> = (0..400).map(|at| Sample { at, busy: busy(at) }).collect();
        let load = Load { current, at_once: 10, samples: &samples, changed: None, now: 400 };
        decide(&bounds, Percent(70), &Pace::default(), &load).map(|change| format!("{} {}", change.to, change.why))
    };
    for (busy, current, said) in [
        (24, 3, Some("4 80 % of 30 at once in use for 30s")),
        (45, 3, Some("6 all 30 at once are in use, and 15 more wait")),
        (400, 5, Some("8 all 50 at once are in use, and 350 more wait")),
        (400, 8, None),
        (20, 3, None),
        (12, 3, None),
        (11, 3, Some("2 at most 11 of 30 at once in use for 5m")),
        (0, 8, Some("6 at most 0 of 80 at once in use for 5m")),
        (0, 1, None),
    ] {
        assert_eq!(say(&|_| busy, current, bounds(1, 8)).as_deref(), said, "{busy} at {current}");
    }
    // A burst that is over is remembered for as long as going down takes.
    assert_eq!(say(&|at| if (200..210).contains(&at) { 25 } else { 0 }, 3, bounds(1, 8)), None);
    assert_eq!(
        say(&|at| if (50..60).contains(&at) { 25 } else { 0 }, 2, bounds(1, 8)).map(|said| said.len() > 1),
        Some(true)
    );
    assert_eq!(say(&|_| 0, 1, bounds(2, 8)).as_deref(), Some("2 magrathea.yml wants at least 2"));
    assert_eq!(say(&|_| 90, 9, bounds(2, 8)).as_deref(), Some("8 magrathea.yml allows at most 8"));
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let window = Some(Occurrence { from: at(0), until: at(3600), min: 4 });
    let said = say(&|_| 0, 2, Bounds { min: 4, max: 8, window });
    assert_eq!(said.as_deref(), Some("4 a window wants at least 4 until 1970-01-01T01:00:00Z"));
}
