//! Another opinion on cron: minute by minute, with another implementation of time zones. Slow, and simple
//! enough to be right.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// One field: which values, and how it is written.
#[derive(Debug, Clone)]
pub struct Field {
    pub text: String,
    values: Vec<i8>,
}

impl Field {
    fn has(&self, value: i8) -> bool {
        self.is_any() || self.values.contains(&value)
    }

    fn is_any(&self) -> bool {
        self.text == "*"
    }
}

/// An expression of five fields.
#[derive(Debug, Clone)]
pub struct Expression {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Expression {
    pub fn text(&self) -> String {
        let fields = [
            &self.minute,
            &self.hour,
            &self.day,
            &self.month,
            &self.weekday,
        ];
        fields.map(|field| field.text.as_str()).join(" ")
    }

    /// One that fires often enough to be found within some months.
    pub fn any(random: &mut StdRng) -> Expression {
        Expression {
            minute: field(random, 0, 59, [1, 5, 3, 2]),
            hour: field(random, 0, 23, [2, 5, 2, 2]),
            day: field(random, 1, 28, [8, 1, 1, 0]),
            month: field(random, 1, 12, [12, 0, 1, 0]),
            weekday: field(random, 0, 6, [8, 1, 1, 0]),
        }
    }

    /// Whether it names one time of the day alone.
    fn is_fixed(&self) -> bool {
        let one = |field: &Field| field.values.len() == 1 && field.text.parse::<i8>().is_ok();
        one(&self.minute) && one(&self.hour)
    }

    fn names(&self, local: DateTime) -> bool {
        let weekday = local.weekday().to_sunday_zero_offset();
        let (day, week) = (self.day.has(local.day()), self.weekday.has(weekday));
        // Both restricted: either will do.
        let is_day = match (self.day.is_any(), self.weekday.is_any()) {
            (false, false) => day || week,
            _ => day && week,
        };
        self.minute.has(local.minute())
            && self.hour.has(local.hour())
            && self.month.has(local.month())
            && is_day
    }

    /// The first time after `after`, in milliseconds, within so many days.
    pub fn next(&self, zone: &TimeZone, after: i64, days: i64) -> Option<i64> {
        let minute = 60_000;
        let mut millis = after.div_euclid(minute) * minute + minute;
        while millis < after + days * 24 * 60 * minute {
            if self.fires(zone, millis) {
                return Some(millis);
            }
            millis += minute;
        }
        None
    }

    fn fires(&self, zone: &TimeZone, millis: i64) -> bool {
        let now = Timestamp::from_millisecond(millis).expect("a time");
        let local = zone.to_datetime(now);
        if self.names(local) {
            // One time a day: the first of two that look alike.
            let again = match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Fold { before, .. } => zone.to_offset(now) != before,
                _ => false,
            };
            if !(self.is_fixed() && again) {
                return true;
            }
        }
        if !self.is_fixed() {
            return false;
        }
        // The first moment after a gap makes up for what the gap has left out.
        let last = zone.to_datetime(now - SignedDuration::from_secs(60));
        let mut left_out = last + SignedDuration::from_secs(60);
        while left_out < local {
            if self.names(left_out) {
                return true;
            }
            left_out += SignedDuration::from_secs(60);
        }
        false
    }
}

/// `*`, one value, some values, or every so many, as often as the weights say.
fn field(random: &mut StdRng, least: i8, most: i8, weights: [u32; 4]) -> Field {
    let mut draw = random.random_range(0..weights.iter().sum());
    let kind = weights.iter().position(|weight| {
        let is_it = draw < *weight;
        draw = draw.saturating_sub(*weight);
        is_it
    });
    let all = (least..=most).collect();
    match kind {
        Some(1) => {
            let value = random.random_range(least..=most);
            Field {
                text: value.to_string(),
                values: vec![value],
            }
        }
        Some(2) => {
            let first = random.random_range(least..most);
            let last = random.random_range(first + 1..=most);
            let more = random.random_range(least..=most);
            let mut values: Vec<i8> = (first..=last).collect();
            values.push(more);
            Field {
                text: format!("{first}-{last},{more}"),
                values,
            }
        }
        Some(3) => {
            let step = random.random_range(2..=15_i8);
            Field {
                text: format!("*/{step}"),
                values: (least..=most).step_by(step as usize).collect(),
            }
        }
        _ => Field {
            text: "*".to_owned(),
            values: all,
        },
    }
}
