//! Times as people type them for `--from` and `--to`.
//!
//! Purpose: `2026-11-24T02:57:36+00:00`, `2026-11-23`, `-2h`, `yesterday` to nanoseconds of the epoch.
//! Invariants: a date without a zone is UTC, as everything that callspan prints; the same text and
//! the same `now` give the same time.
//! Non-goals: printing (see `base::rfc3339`) and local time zones.
//! Sources: RFC 3339.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

/// Reads a time. `now`: what relative times count from.
///
/// # Errors
/// One sentence that names the forms there are.
pub fn parse(text: &str, now: Timestamp) -> Result<i64, String> {
    let found = relative(text, now)
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| in_utc(text.parse::<DateTime>().ok()?));
    found.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).ok_or_else(|| {
        format!(
            "`{text}` is no time; give RFC 3339 (2026-11-24T02:57:36+00:00), a day (2026-11-23), \
             -2h, -30m, -3d, today, yesterday or now"
        )
    })
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    time.to_zoned_datetime(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let midnight = || now.to_zoned_datetime(TimeZone::UTC).start_of_day().ok();
    match text {
        "now" => Some(now),
        "today" => midnight().as_ref().map(ZonedDateTime::timestamp),
        "yesterday" => midnight()?.yesterday().ok().map(|day| day.timestamp()),
        _ => {
            let amount = text.strip_prefix('-').unwrap_or(text);
            let unit = amount.chars().last()?;
            let count: i64 = amount.strip_suffix(unit)?.parse().ok().filter(|count| *count >= 0)?;
            let seconds_each = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3_600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return None,
            };
            now.checked_sub(SignedDuration::from_secs(count.checked_mul(seconds_each)?)).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rfc3339::format_utc;

    fn read(text: &str) -> Result<String, String> {
        let now = "2026-11-24T02:57:36.5Z".parse().expect("a time");
        parse(text, now).map(format_utc)
    }

    #[test]
    fn every_form_of_the_contract_is_understood() {
        for (text, time) in [
            ("2026-11-24T02:57:36.123456+00:00", "2026-11-24T02:57:36.123456+00:00"),
            ("2026-11-24T02:57:36.123456789Z", "2026-11-24T02:57:36.123456+00:00"),
            ("2026-11-24T04:57:36+02:00", "2026-11-24T02:57:36.000000+00:00"),
            ("2026-11-23", "2026-11-23T00:00:00.000000+00:00"),
            ("2026-11-23T10:30", "2026-11-23T10:30:00.000000+00:00"),
            ("2026-11-23 10:30:15", "2026-11-23T10:30:15.000000+00:00"),
            ("-2h", "2026-11-24T00:57:36.500000+00:00"),
            ("30m", "2026-11-24T02:27:36.500000+00:00"),
            ("-3d", "2026-11-21T02:57:36.500000+00:00"),
            ("now", "2026-11-24T02:57:36.500000+00:00"),
            ("today", "2026-11-24T00:00:00.000000+00:00"),
            ("yesterday", "2026-11-23T00:00:00.000000+00:00"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(time), "{text}");
        }
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_forms() {
        for text in
            ["", "-", "h", "-2y", "--2h", "tomorrow", "2026-13-01", "2026-02-30", "-99999999999d"]
        {
            let message = read(text).expect_err(text);
            assert!(message.contains("yesterday"), "{message}");
        }
    }
}
