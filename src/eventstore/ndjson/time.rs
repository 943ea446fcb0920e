//! Times as texts: what ISO 8601 and RFC 3339 have in common, with an offset, because a time
//! without one is not known.

use std::fmt::Write as _;

const SECOND_NS: i128 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Nanoseconds since 1970-01-01 UTC of a text like `2010-10-02T09:20:39.266000+02:00`; `None` if it
/// is no time with an offset, or one that 64 bits don't hold.
pub(super) fn parse(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    one_of(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    one_of(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    one_of(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    one_of(&mut rest, b":")?;
    let second = number(&mut rest, 2)?;
    let fraction_ns = fraction(&mut rest)?;
    let offset = offset_seconds(&mut rest)?;
    let is_date = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day);
    if !rest.is_empty() || !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = hour * 3600 + minute * 60 + second;
    let seconds = days_since_1970(year, month, day) * DAY_SECONDS + of_day - offset;
    i64::try_from(i128::from(seconds) * SECOND_NS + i128::from(fraction_ns)).ok()
}

/// Exactly so many digits.
fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (now, later) = rest.split_at_checked(digits)?;
    let mut value = 0;
    for digit in now {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    *rest = later;
    Some(value)
}

fn one_of(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, later) = rest.split_first()?;
    if !allowed.contains(first) {
        return None;
    }
    *rest = later;
    Some(*first)
}

/// A point and one to nine digits, in nanoseconds; 0 if there is no point.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    if one_of(rest, b".").is_none() {
        return Some(0);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 9 {
        return None;
    }
    let mut value = number(rest, digits)?;
    for _ in digits..9 {
        value *= 10;
    }
    Some(value)
}

/// `Z`, or hours and minutes with a sign.
fn offset_seconds(rest: &mut &[u8]) -> Option<i64> {
    let sign = one_of(rest, b"Zz+-")?;
    if matches!(sign, b'Z' | b'z') {
        return Some(0);
    }
    let hours = number(rest, 2)?;
    let _ = one_of(rest, b":");
    let minutes = number(rest, 2)?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if sign == b'-' { -seconds } else { seconds })
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Counted in years that begin in March,
/// so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse: year, month, day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// A time in UTC, behind `out`: to the second, the microsecond or the nanosecond, as far as there
/// is something to say.
pub(super) fn write(out: &mut String, time_ns: i128) {
    let fraction_ns = time_ns.rem_euclid(SECOND_NS);
    // 128 bits of nanoseconds come from 64 bits, signed or not.
    let seconds = i64::try_from(time_ns.div_euclid(SECOND_NS)).unwrap_or(i64::MAX);
    let (year, month, day) = date_of(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    // Writing into a String can't fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let _ = match fraction_ns {
        0 => Ok(()),
        ns if ns % 1000 == 0 => write!(out, ".{:06}", ns / 1000),
        ns => write!(out, ".{ns:09}"),
    };
    out.push_str("+00:00");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(time_ns: i64) -> String {
        let mut out = String::new();
        write(&mut out, i128::from(time_ns));
        out
    }

    #[test]
    fn known_times_in_many_forms() {
        for (given, expected_ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01 00:00:00+0000", 0),
            ("1969-12-31T23:59:59.999999999+00:00", -1),
            (
                "2010-10-02T09:20:39.266000+02:00",
                1_286_004_039_266_000_000,
            ),
            ("2010-10-02T07:20:39.266-00:00", 1_286_004_039_266_000_000),
            ("2000-02-29T12:00:00.5+23:59", 951_739_260_500_000_000),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
        ] {
            assert_eq!(parse(given), Some(expected_ns), "{given}");
        }
    }

    #[test]
    fn what_is_no_time_with_an_offset_gives_none() {
        for given in [
            "",
            "soon",
            "2010-10-02",
            "2010-10-02T07:20:39",
            "2010-10-02T07:20:39.Z",
            "2010-10-02T07:20:39.1234567891Z",
            "2010-10-02T07:20:39+25:00",
            "2010-10-02T07:20:39+24:00",
            "2010-10-02T07:20:39+01:60",
            "2010-10-02T07:20:39+1:00",
            "2010-10-02T07:20:39ZZ",
            "2010-02-30T07:20:39Z",
            "1900-02-29T07:20:39Z",
            "2010-13-01T07:20:39Z",
            "2010-00-01T07:20:39Z",
            "2010-01-00T07:20:39Z",
            "2010-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59Z",
            "2262-04-11T23:47:16.854775808Z",
            "1677-09-21T00:12:43.145224191Z",
            "\u{662}010-10-02T07:20:39Z",
        ] {
            assert_eq!(parse(given), None, "{given}");
        }
    }

    #[test]
    fn a_time_that_is_written_is_read_as_the_same() {
        assert_eq!(text(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(text(-1000), "1969-12-31T23:59:59.999999+00:00");
        assert_eq!(text(1), "1970-01-01T00:00:00.000000001+00:00");
        assert_eq!(text(i64::MIN), "1677-09-21T00:12:43.145224192+00:00");
        let step = i64::MAX / 50_000;
        for index in -50_000..=50_000 {
            let unit = [1, 1000, 1_000_000, 1_000_000_000][usize::try_from(index & 3).unwrap()];
            let time_ns = step * index / unit * unit;
            assert_eq!(parse(&text(time_ns)), Some(time_ns), "{time_ns}");
        }
        // The next second is the next, through two leap years.
        let day_ns = 86_400_000_000_000;
        let days: Vec<String> = (10_000..12_000).map(|day| text(day * day_ns)).collect();
        assert!(days.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
