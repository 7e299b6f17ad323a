//! A capture time as people and JSON write it.
//!
//! Purpose: one spelling of a time for summaries, tables and tags: `2026-11-24T02:57:36.123456+00:00`.
//! Invariants: every `i64` has a text of 32 characters (35 with nanoseconds); the text never depends
//! on the machine's zone.
//! Non-goals: parsing what people type (see `cli::when`), leap seconds (the epoch has none).
//! Sources: RFC 3339 §5.6; the proleptic Gregorian calendar in 400-year cycles from 1 March.

use super::time::NS_PER_S;

const SECONDS_PER_DAY: i64 = 86_400;
const DAYS_PER_CYCLE: i64 = 146_097;

/// The time `ns` nanoseconds after the epoch in UTC, to the microsecond (rounded down).
#[must_use]
pub fn format_utc(ns: i64) -> String {
    let seconds = ns.div_euclid(NS_PER_S);
    let micros = ns.rem_euclid(NS_PER_S) / 1_000;
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

/// As [`format_utc`], to the nanosecond: 35 characters, for what is signed.
#[must_use]
pub fn format_utc_ns(ns: i64) -> String {
    let text = format_utc(ns);
    let time = text.strip_suffix("+00:00").unwrap_or(&text);
    format!("{time}{:03}+00:00", ns.rem_euclid(1_000))
}

/// The time that [`format_utc_ns`] wrote; `None` for any other spelling, even of the same time.
#[must_use]
pub fn parse_utc_ns(text: &str) -> Option<i64> {
    let ns = parse_ns(text)?;
    (format_utc_ns(ns) == text).then_some(ns)
}

/// The time that `text` names in any spelling of RFC 3339.
#[must_use]
pub fn parse_ns(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// Year, month (1–12) and day (1–31) of the `days`-th day after 1970-01-01.
///
/// Counted from 1 March of year 0, a leap day is the last of its year, so months have fixed starts:
/// the `m`-th month from March begins on day `(153 m + 2) / 5`.
const fn civil(days: i64) -> (i64, i64, i64) {
    let from_march = days + 719_468;
    let cycle = from_march.div_euclid(DAYS_PER_CYCLE);
    let of_cycle = from_march.rem_euclid(DAYS_PER_CYCLE);
    let year =
        (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / (DAYS_PER_CYCLE - 1)) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let in_new_year = month >= 10;
    (cycle * 400 + year + in_new_year as i64, if in_new_year { month - 9 } else { month + 3 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_spelled_as_rfc_3339_has_them() {
        assert_eq!(format_utc(0), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(format_utc(-1), "1969-12-31T23:59:59.999999+00:00");
        assert_eq!(format_utc(951_782_399_999_999_999), "2000-02-28T23:59:59.999999+00:00");
        assert_eq!(format_utc(1_795_489_056_123_456_789), "2026-11-24T02:57:36.123456+00:00");
    }

    #[test]
    fn nanoseconds_are_read_as_they_are_written_and_in_no_other_spelling() {
        let text = format_utc_ns(1_795_489_056_123_456_789);
        assert_eq!(text, "2026-11-24T02:57:36.123456789+00:00");
        for ns in [0, -1, 1, 999, i64::MIN, i64::MAX, 1_795_489_056_123_456_789] {
            assert_eq!(parse_utc_ns(&format_utc_ns(ns)), Some(ns));
        }
        for other in ["2026-11-24T02:57:36.123456789Z", "2026-11-24T02:57:36+00:00", "", "9", " "] {
            assert_eq!(parse_utc_ns(other), None, "{other}");
        }
        assert_eq!(parse_utc_ns("9999-01-01T00:00:00.000000000+00:00"), None);
    }

    #[test]
    fn every_fifth_day_of_the_range_and_its_ends_agree_with_jiff() {
        let step = 5 * SECONDS_PER_DAY * NS_PER_S + 1_234_567_891;
        let mut ns = i64::MIN;
        loop {
            let expected = jiff::Timestamp::from_nanosecond(i128::from(ns))
                .expect("in range")
                .to_zoned_datetime(jiff::tz::TimeZone::UTC)
                // Rounded down: a cut to microseconds by `%6f` truncates towards the second.
                .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
                .to_string();
            assert_eq!(format_utc(ns), expected);
            match ns.checked_add(step) {
                Some(next) => ns = next,
                None if ns == i64::MAX => break,
                None => ns = i64::MAX,
            }
        }
    }
}
