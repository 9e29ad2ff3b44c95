//! Numbers as people read them at a glance, none wider than eleven characters.

/// A count: whole, with a comma between thousands, as long as that is short.
pub(super) fn count(n: u64) -> String {
    if n >= 1_000_000_000 {
        return scaled(n as f64);
    }
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in seven columns.
pub(super) fn short(n: u64) -> String {
    if n < 1_000_000 { count(n) } else { scaled(n as f64) }
}

/// Packets per second.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "0".into(),
        r if r < 9.95 => format!("{r:.1}"),
        r if r < 99_999.5 => count(r.round() as u64),
        r => scaled(r),
    }
}

/// Three digits and the prefix of a unit, by thousands.
pub(super) fn scaled(value: f64) -> String {
    // More than that is no figure.
    let mut value = value.clamp(0.0, 999e18);
    for prefix in ["", " k", " M", " G", " T", " P"] {
        if value < 999.5 || prefix == " P" {
            let decimals = match value {
                _ if prefix.is_empty() => 0,
                v if v < 9.995 => 2,
                v if v < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.decimals$}{prefix}");
        }
        value /= 1000.0;
    }
    String::new()
}

/// A time of some length, by its two largest units.
pub(super) fn time(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_as_long_as_they_are_short() {
        let shown = [0, 999, 1_000, 12_345_678, 999_999_999, 1_234_567_890, u64::MAX].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345,678", "999,999,999", "1.23 G", "18447 P"]);
    }

    #[test]
    fn rates_have_the_digits_that_matter() {
        let shown = [-1.0, 0.0, 0.25, 9.94, 9.96, 1_234.4, 99_999.4, 99_999.6, 1_234_567.0].map(rate);
        assert_eq!(shown, ["0", "0", "0.2", "9.9", "10", "1,234", "99,999", "100 k", "1.23 M"]);
    }

    #[test]
    fn prefixes_go_by_thousands() {
        let shown = [0.0, 999.4, 999.6, 9_994.0, 9_996.0, 99_960.0, 8.21e6, 40e9].map(scaled);
        assert_eq!(shown, ["0", "999", "1.00 k", "9.99 k", "10.0 k", "100 k", "8.21 M", "40.0 G"]);
    }

    #[test]
    fn times_have_two_units() {
        let shown = [0.9, 59.0, 61.0, 3_600.0, 11_520.0, 273_600.0].map(time);
        assert_eq!(shown, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "3 h 12 min", "3 d 4 h"]);
    }
}
