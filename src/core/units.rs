//! Numbers as a person would write and read them.
use super::{Error, Result};

/// Parses `4.5GiB`, `800MB`, `123456`: binary units with an `i`, decimal ones without.
pub fn parse_size(text: &str) -> Result<u64> {
    let bad = || Error::usage(format!("`{text}` is not a size: write 4.5GiB, 800MB or 123456"));
    let text_trimmed = text.trim();
    let end = text_trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(bad);
    }
    let value: f64 = number.parse().map_err(|_| bad())?;
    let bytes = value * factor as f64;
    if bytes.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(bad()) }
}

/// Bytes in the unit a person would say, three significant digits: `6.1 GiB`, `648 MiB`, `256 B`.
pub fn size(bytes: u64) -> String {
    let (value, unit) = scaled(bytes);
    format!("{value} {unit}")
}

/// The same in a narrow column: `6.1G`, `648M`, `256`.
pub fn size_short(bytes: u64) -> String {
    let (value, unit) = scaled(bytes);
    match unit.chars().next() {
        Some('B') | None => value,
        Some(letter) => format!("{value}{letter}"),
    }
}

fn scaled(bytes: u64) -> (String, &'static str) {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would print as 1000 of the smaller unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    (if unit == 0 { format!("{bytes}") } else { three_digits(value) }, UNITS[unit])
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A count in the unit a person would say: `11.9 B`, `22.7 M`, `384`.
pub fn count(n: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)];
    for (unit, factor) in UNITS {
        if n as f64 >= factor * 0.9995 && n >= 1000 {
            return format!("{} {unit}", three_digits(n as f64 / factor));
        }
    }
    n.to_string()
}

/// An error as `2.31e-6`; zero as `0`.
pub fn error(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value.is_finite() {
        format!("{value:.2e}")
    } else {
        "—".into()
    }
}

/// A share with two significant digits: `0.51 %`, `12 %`, `0.0063 %`, `5.6e-6 %`; eight characters at most below 1000 %.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if !p.is_finite() {
        return "—".into();
    }
    if p == 0.0 {
        return "0 %".into();
    }
    if p.abs() < 1e-3 {
        return format!("{p:.1e} %");
    }
    let decimals = (1 - p.abs().log10().floor() as i32).max(0) as usize;
    format!("{p:.decimals$} %")
}

/// A duration as `0:08`, `12:34`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let s = if seconds.is_finite() { seconds.max(0.0).round().min(3.6e6) as u64 } else { 0 };
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}

/// A loss with the same width whatever its value, so that a plan knows the bytes of metadata: `1.234560e-06`.
///
/// What is below 1e-99 becomes zero; what is not finite or above 1e99 becomes the largest figure of that width.
pub fn fixed_width(value: f64) -> String {
    let v = value.abs();
    if !v.is_finite() || v >= 9.999_999_5e99 {
        return "9.999999e+99".into();
    }
    if v < 1e-99 {
        return "0.000000e+00".into();
    }
    let text = format!("{v:.6e}");
    match text.split_once('e').map(|(m, e)| (m.to_owned(), e.parse::<i32>().unwrap_or(0))) {
        Some((mantissa, exponent)) => {
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        None => "0.000000e+00".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read() {
        fn check(text: &str, bytes: Option<u64>) {
            assert_eq!(parse_size(text).ok(), bytes, "{text}");
        }
        check("123456", Some(123_456));
        check("800MB", Some(800_000_000));
        check("4.5GiB", Some(4_831_838_208));
        check("1gib", Some(1 << 30));
        check("256 MiB", Some(256 << 20));
        check("GiB", None);
        check("-1", None);
        check("4.5 apples", None);
        check("99999999999999TiB", None);
    }

    #[test]
    fn sizes_are_written() {
        fn check(bytes: u64, long: &str, short: &str) {
            assert_eq!((size(bytes).as_str(), size_short(bytes).as_str()), (long, short));
        }
        check(256, "256 B", "256");
        check(1023, "1.00 KiB", "1.00K");
        check(1536, "1.50 KiB", "1.50K");
        check(679_477_248, "648 MiB", "648M");
        check(u64::MAX, "16384 PiB", "16384P");
    }

    #[test]
    fn shares_have_two_digits() {
        fn check(share: f64, text: &str) {
            assert_eq!(percent(share), text);
        }
        check(0.0051, "0.51 %");
        check(0.125, "12 %");
        check(0.0000634, "0.0063 %");
        check(0.000_000_056, "5.6e-6 %");
        check(0.0, "0 %");
        check(f64::NAN, "—");
    }

    #[test]
    fn losses_have_one_width() {
        fn check(value: f64, text: &str) {
            assert_eq!(fixed_width(value), text);
        }
        check(1.23456e-6, "1.234560e-06");
        check(0.0, "0.000000e+00");
        check(9.999_999_9e-7, "1.000000e-06");
        check(12.5, "1.250000e+01");
        check(1e-300, "0.000000e+00");
        check(f64::INFINITY, "9.999999e+99");
    }

    proptest! {
        #[test]
        fn any_loss_has_that_width(value in any::<f64>()) {
            prop_assert_eq!(fixed_width(value).len(), 12);
            prop_assert!(serde_json::from_str::<f64>(&fixed_width(value)).is_ok());
        }
    }
}
