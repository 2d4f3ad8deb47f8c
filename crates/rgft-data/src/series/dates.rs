//! Dates as text to microseconds since 1970-01-01 00:00 and back, in the proleptic Gregorian calendar. Times without
//! an offset are taken as they stand; those with one become UTC.
//!
//! Days of a civil date after Hinnant, "chrono-compatible low-level date algorithms".

/// The formats read, for messages.
pub(super) const FORMATS: &str =
    "YYYY-MM-DD, YYYY-MM-DD HH:MM[:SS] (or with T, Z, an offset), YYYY/MM/DD or DD.MM.YYYY";

/// Microseconds of a second, a minute, an hour, a day.
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// Microseconds of a date with or without time of day.
pub(super) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim())),
        None => (text, None),
    };
    let days = parse_date(date, time.is_none())?;
    Some(days * DAY + time.map_or(Some(0), parse_time)?)
}

fn parse_date(text: &str, may_be_month: bool) -> Option<i64> {
    let separator = text.chars().find(|c| matches!(c, '-' | '/' | '.'))?;
    let parts: Vec<&str> = text.split(separator).collect();
    let (year, month, day) = match parts[..] {
        [year, month, day] if year.len() == 4 => (year, month, day),
        [day, month, year] if separator == '.' && year.len() == 4 => (year, month, day),
        [year, month] if separator == '-' && year.len() == 4 && may_be_month => (year, month, "1"),
        _ => return None,
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| days_of(year, month, day))
}

fn parse_time(text: &str) -> Option<i64> {
    let (text, offset) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (text[..at].trim(), parse_offset(&text[at..])?),
        None => (text, 0),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    let micros = match fraction {
        "" => 0,
        digits if digits.len() <= 9 => number(&format!("{digits:0<9}"), 9)? / 1000,
        _ => return None,
    };
    (hour < 24 && minute < 60 && second < 60)
        .then_some(hour * HOUR + minute * MINUTE + second * SECOND + micros - offset)
}

/// `Z`, `+01`, `+0100` or `+01:00`.
fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return (text.len() == 1).then_some(0),
    };
    let digits = text[1..].replacen(':', "", 1);
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * HOUR + minutes * MINUTE))
}

/// One to `most` digits and nothing else.
fn number(text: &str, most: usize) -> Option<i64> {
    let plain = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days since 1970-01-01.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// How long a month is.
pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_of(next_year, next, 1) - days_of(year, month, 1)
}

/// `2018-06-26 20:00:00`, with its fraction where it has one; without the time of day where `date_only`.
pub(super) fn format(time: i64, date_only: bool) -> String {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let rest = time.rem_euclid(DAY);
    let date = format!("{year:04}-{month:02}-{day:02}");
    if date_only && rest == 0 {
        return date;
    }
    let (hour, minute, second) = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE / SECOND);
    let fraction = match rest % SECOND {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    format!("{date} {hour:02}:{minute:02}:{second:02}{fraction}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_common_formats() {
        let expected = Some(1_404_180_000 * SECOND);
        for text in [
            "2014-07-01 02:00:00",
            "2014-07-01T02:00",
            " 2014-07-01T02:00:00Z ",
            "2014-07-01T04:00:00+02:00",
            "2014-06-30 21:30:00.000 -0430",
            "2014/07/01 02:00",
            "01.07.2014 2:00",
            "1.7.2014 02:00:00",
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(parse("2014-07"), parse("2014-07-01"));
        assert_eq!(parse("1970-01-01T00:00:00.25"), Some(SECOND / 4));
        assert_eq!(format(parse("2000-02-29 23:59:59.5").unwrap(), true), "2000-02-29 23:59:59.500000");
        assert_eq!(format(parse("1969-12-31").unwrap(), true), "1969-12-31");
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "7",
            "0.7855",
            "2014.07",
            "-5",
            "2014-13-01",
            "2015-02-29",
            "2014-00-10",
            "07/01/2014",
            "2014-07-01 25:00",
            "2014-07-01 10",
            "2014-07-01 10:00:00+1:0:0",
            "2014-07-01 10:00:00Zulu",
            "2014-07-01T",
            "20140701",
            "2014-07-é1",
            "2014-07-01 10:00+é1a",
            "+2014-07-01",
            "2014-07-01-02",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_a_thousand_years_comes_back() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
            assert!(day <= days_in_month(year, month));
        }
    }
}
