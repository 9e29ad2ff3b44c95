//! Text that came from outside, made safe for terminals and logs.

use std::fmt::Write;

/// `text` with everything that could steer a terminal or forge a log line written as an escape;
/// cut after about `most` characters.
pub fn escaped(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for (count, character) in text.chars().enumerate() {
        if count >= most {
            shown.push('…');
            break;
        }
        match character {
            c if c.is_control() || is_reordering(c) => {
                let _ = write!(shown, "{}", c.escape_default());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A JSON text with everything that could steer a terminal written as JSON's own escape: the same value.
pub fn escaped_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        // These stand only inside strings: JSON has no others outside, but white space.
        if (character.is_control() && !matches!(character, '\n' | '\t' | '\r')) || is_reordering(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Characters that change the direction of what follows, or are invisible.
fn is_reordering(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_new_lines_cannot_get_through() {
        assert_eq!(escaped("\u{61c}\u{ad}\u{2060}", 100), "\\u{61c}\\u{ad}\\u{2060}");
        assert_eq!(escaped("a\x1b[2Jb\r\nc\u{202e}", 100), "a\\u{1b}[2Jb\\r\\nc\\u{202e}");
    }

    #[test]
    fn json_says_the_same_and_steers_nothing() {
        let json = "{\"a\": \"\u{9b}2J\u{7f}\u{202e}ü\\n\"\n}";
        assert_eq!(escaped_json(json), "{\"a\": \"\\u009b2J\\u007f\\u202eü\\n\"\n}");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(escaped("abcdef", 3), "abc…");
    }
}
