//! A node's clock as a function of true time: piecewise linear, so that it is known in advance.
//! That makes a pause between taking a value and reading the clock exact: the reading is that of
//! the moment when the reader goes on.

use raft_node::raft::Micros;

const MILLION: i128 = 1_000_000;

/// From `true_us` on the clock runs at another rate, after a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bend {
    /// True time of the change, in microseconds.
    pub true_us: Micros,
    /// Parts per million by which the clock is fast; negative: slow.
    pub rate_ppm: i64,
    /// Microseconds by which it jumps.
    pub jump_us: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Clock {
    segments: Vec<Segment>,
    /// Added to what the segments show: changes when the machine is started anew.
    shift_us: i128,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    true_us: Micros,
    shown_us: i128,
    rate_ppm: i64,
}

impl Segment {
    fn at(&self, true_us: Micros) -> i128 {
        let elapsed = i128::from(true_us - self.true_us);
        self.shown_us + elapsed * (MILLION + i128::from(self.rate_ppm)) / MILLION
    }
}

impl Clock {
    /// Shows `offset_us` at true time 0 and then bends as told; the times of the bends rise.
    pub fn new(offset_us: Micros, bends: &[Bend]) -> Self {
        let mut segments = vec![Segment {
            true_us: 0,
            shown_us: i128::from(offset_us),
            rate_ppm: 0,
        }];
        for bend in bends {
            let before = segments.last().expect("there is a first segment");
            segments.push(Segment {
                true_us: bend.true_us,
                shown_us: before.at(bend.true_us) + i128::from(bend.jump_us),
                rate_ppm: bend.rate_ppm,
            });
        }
        Clock {
            segments,
            shift_us: 0,
        }
    }

    /// What it shows at a true time.
    pub fn at(&self, true_us: Micros) -> Micros {
        let after = self.segments.partition_point(|s| s.true_us <= true_us);
        let shown = self.segments[after - 1].at(true_us) + self.shift_us;
        Micros::try_from(shown.max(0)).expect("simulated time fits")
    }

    /// The first true time, not before `from_us`, at which it shows `shown_us` or more.
    pub fn true_time_of(&self, shown_us: Micros, from_us: Micros) -> Micros {
        let (mut low, mut high) = (from_us, from_us + 1);
        while self.at(high) < shown_us {
            high += high - low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle) < shown_us {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The machine starts anew at `true_us`: its clock then shows something else.
    pub fn restart(&mut self, true_us: Micros, shown_us: Micros) {
        self.shift_us += i128::from(shown_us) - i128::from(self.at(true_us));
    }
}

/// Goal: the inverse fits the clock, whatever its bends.
#[test]
fn a_clock_and_its_inverse_agree() {
    let bend = |true_us, rate_ppm| Bend {
        true_us,
        rate_ppm,
        jump_us: 0,
    };
    let bends = [bend(0, -50_000), bend(1_000, 5_000), bend(7_000, 0)];
    let mut clock = Clock::new(123, &bends);
    assert_eq!(clock.at(1_000), 123 + 950);
    for shown_us in 123..20_000 {
        let true_us = clock.true_time_of(shown_us, 0);
        assert!(clock.at(true_us) >= shown_us);
        assert!(true_us == 0 || clock.at(true_us - 1) < shown_us);
    }
    clock.restart(8_000, 5);
    assert_eq!((clock.at(8_000), clock.at(8_100)), (5, 105));
}
