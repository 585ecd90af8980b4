//! Counts the traffic of one instance through one process of the router, from two sources: the line about each request that is
//! over, and now and then the process' own sums, which know what is under way. Lines are never lost when the process is killed;
//! sums know of a download before it is over. What was counted once never shrinks, and nothing is counted twice.

use std::ops::{Add, AddAssign};

use magrathea_core::usage::{Metric, Usage};
use serde::{Deserialize, Serialize};

/// Traffic, without its kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub requests: u64,
    pub received: u64,
    pub sent: u64,
}

impl Sums {
    fn combine(self, other: Sums, each: fn(u64, u64) -> u64) -> Sums {
        Sums {
            requests: each(self.requests, other.requests),
            received: each(self.received, other.received),
            sent: each(self.sent, other.sent),
        }
    }

    pub fn saturating_sub(self, other: Sums) -> Sums {
        self.combine(other, u64::saturating_sub)
    }

    pub fn max(self, other: Sums) -> Sums {
        self.combine(other, u64::max)
    }

    pub fn add_to(self, usage: &mut Usage) {
        usage.add(Metric::Requests, self.requests);
        usage.add(Metric::Received, self.received);
        usage.add(Metric::Sent, self.sent);
    }
}

impl Add for Sums {
    type Output = Sums;
    fn add(self, other: Sums) -> Sums {
        self.combine(other, u64::saturating_add)
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        *self = *self + other;
    }
}

/// What is known of an instance's traffic through a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// By the lines of requests that are over.
    over: Sums,
    /// What was under way when the process was asked last, without requests that are over since.
    under_way: Sums,
    counted: Sums,
}

impl Account {
    /// Takes in lines; `known` are those of requests that began before the process was asked last. Gives what is new.
    pub fn ended(&mut self, lines: Sums, known: Sums) -> Sums {
        self.over += lines;
        self.under_way = self.under_way.saturating_sub(known);
        self.settle()
    }

    /// Takes in the process' own sums. Gives what is new.
    pub fn told(&mut self, all: Sums) -> Sums {
        self.under_way = all.saturating_sub(self.over);
        self.settle()
    }

    fn settle(&mut self) -> Sums {
        let all = self.over + self.under_way;
        let new = all.saturating_sub(self.counted);
        self.counted = self.counted.max(all);
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(requests: u64, sent: u64) -> Sums {
        Sums { requests, received: 0, sent }
    }

    #[test]
    fn a_long_download_is_counted_as_it_flows_and_once() {
        let mut account = Account::default();
        assert_eq!(account.ended(sent(1, 10), Sums::default()), sent(1, 10));
        assert_eq!(account.told(sent(2, 510)), sent(1, 500));
        assert_eq!(account.told(sent(2, 910)), sent(0, 400));
        // It ends, and so does a request that nobody knew of.
        assert_eq!(account.ended(sent(2, 1107), sent(1, 1100)), sent(1, 207));
        assert_eq!(account.told(sent(3, 1117)), Sums::default());
    }

    #[test]
    fn what_was_under_way_when_the_process_was_killed_stays_counted() {
        let mut account = Account::default();
        account.told(sent(1, 5000));
        assert_eq!(account.ended(sent(3, 30), Sums::default()), sent(3, 30));
    }

    #[test]
    fn lines_that_were_lost_are_in_the_sums() {
        let mut account = Account::default();
        account.ended(sent(1, 10), Sums::default());
        assert_eq!(account.told(sent(4, 40)), sent(3, 30));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Flow(usize, u64),
        End(usize),
        /// The process is asked; its answer may be older than lines that were read.
        Ask,
        Read,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Begin),
            4 => (any::<usize>(), 1..1000_u64).prop_map(|(which, bytes)| Step::Flow(which, bytes)),
            2 => any::<usize>().prop_map(Step::End),
            1 => Just(Step::Ask),
            2 => Just(Step::Read),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn never_more_than_there_was_and_in_the_end_all_of_it(steps in steps()) {
            let (mut account, mut counted, mut truth) = (Account::default(), Sums::default(), Sums::default());
            let mut open: Vec<(bool, u64)> = Vec::new();
            let mut log: Vec<(bool, u64)> = Vec::new();
            let read = |account: &mut Account, log: &mut Vec<(bool, u64)>| {
                let mut new = Sums::default();
                for (known, bytes) in log.drain(..) {
                    new += account.ended(sent(1, bytes), if known { sent(1, bytes) } else { Sums::default() });
                }
                new
            };
            for step in steps {
                match step {
                    Step::Begin => {
                        open.push((false, 0));
                        truth.requests += 1;
                    }
                    Step::Flow(which, bytes) if !open.is_empty() => {
                        let which = which % open.len();
                        open[which].1 += bytes;
                        truth.sent += bytes;
                    }
                    Step::End(which) if !open.is_empty() => log.push(open.swap_remove(which % open.len())),
                    Step::Ask => {
                        counted += account.told(truth);
                        open.iter_mut().chain(&mut log).for_each(|(known, _)| *known = true);
                        prop_assert_eq!(counted, truth);
                    }
                    Step::Read => counted += read(&mut account, &mut log),
                    _ => {}
                }
                prop_assert!(counted.sent <= truth.sent && counted.requests <= truth.requests, "{:?} {:?}", counted, truth);
            }
            log.append(&mut open);
            counted += read(&mut account, &mut log);
            prop_assert_eq!(counted, truth);
        }
    }
}
