//! Lengths of time as they are written on the command line and in files.

use std::time::Duration;

/// What is right, for messages.
const RIGHT: &str = "write a number and its unit, as in 500ms, 30s or 2m";

/// Reads a length of time. A number always has its unit, zero included: what `5` would mean is
/// anybody's guess.
///
/// # Errors
/// It is none; the message says what would be right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_number {
        return Err(format!("it has no unit: {RIGHT} (did you mean {text}s?)"));
    }
    humantime::parse_duration(text).map_err(|_| format!("it is no length of time: {RIGHT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A number without a unit is refused whatever the number, and the message has one with a unit.
    #[test]
    fn a_length_has_its_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for number in ["0", "5", "1.5"] {
            let error = parse(number).unwrap_err();
            assert!(
                error.contains(&format!("did you mean {number}s?")),
                "{error}"
            );
        }
        for wrong in ["", "soon", "5 parsecs", "-3s"] {
            assert!(
                parse(wrong).unwrap_err().contains("500ms, 30s or 2m"),
                "{wrong}"
            );
        }
    }
}
