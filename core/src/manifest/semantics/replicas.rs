//! Bounds and windows of a number of replicas that follows the load.

use super::{Finding, Sections, error};
use crate::manifest::{Scaling, Window, WindowTime};
use crate::units::Percent;

/// Below it replicas would be added while nearly nothing is asked; above it, when it is too late.
const TARGETS: [Percent; 2] = [Percent(10), Percent(95)];

/// Most windows of one label.
const MOST_WINDOWS: usize = 64;

pub(super) fn check_replicas(sections: &Sections, findings: &mut Vec<Finding>) {
    let Some(scaling) = sections.app_layer.replicas.scaling() else { return };
    let at = |key| ["app_layer", "replicas", key];
    let Scaling { min, max, target, windows, .. } = scaling;
    if min > max {
        let message = format!("the fewest replicas, {min}, are more than the most, {max}");
        findings.push(error(&at("min"), message, "lower `min`, or raise `max`"));
    }
    let [least, most] = TARGETS;
    if *target < least || *target > most {
        let message = format!("{target} is not between {least} and {most}");
        findings.push(error(&at("target"), message, "70% is usual: it leaves room for what comes at once"));
    }
    if windows.len() > MOST_WINDOWS {
        findings.push(error(
            &at("windows"),
            format!("there are more than {MOST_WINDOWS}"),
            "leave out those of the past",
        ));
    }
    for (n, window) in windows.iter().enumerate() {
        check_window(n, window, *max, findings);
    }
}

fn check_window(n: usize, window: &Window, max: u16, findings: &mut Vec<Finding>) {
    let n = n.to_string();
    let at = |key| ["app_layer", "replicas", "windows", n.as_str(), key];
    if window.min > max {
        let message = format!("the window's {} replicas are more than the most, {max}", window.min);
        findings.push(error(&at("min"), message, "lower it, or raise `app_layer.replicas.max`"));
    }
    match (window.from, window.until) {
        (WindowTime::Daily(from), WindowTime::Daily(until)) if from == until => {
            let message = "the window ends when it begins".to_owned();
            findings.push(error(&at("until"), message, "for whole days write the days: `from: 2026-11-27T00:00`"));
        }
        (WindowTime::Dated(from), WindowTime::Dated(until)) if until <= from => {
            findings.push(error(&at("until"), "the window ends before it begins".to_owned(), "swap the two"));
        }
        (WindowTime::Daily(_), WindowTime::Dated(_)) | (WindowTime::Dated(_), WindowTime::Daily(_)) => {
            let message = "one of `from` and `until` has a day, the other has none".to_owned();
            findings.push(error(&at("until"), message, "write both with a day, or both without one"));
        }
        _ => {}
    }
    if !window.days.is_empty() && matches!(window.from, WindowTime::Dated(_)) {
        let message = "the window is of one day, which `from` says".to_owned();
        findings.push(error(&at("days"), message, "leave `days` out, or write a time without a day"));
    }
}
