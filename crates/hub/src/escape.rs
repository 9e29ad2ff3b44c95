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

/// Characters that change the direction of what follows, or are invisible.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_new_lines_cannot_get_through() {
        assert_eq!(escaped("a\x1b[2Jb\r\nc\u{202e}", 100), "a\\u{1b}[2Jb\\r\\nc\\u{202e}");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(escaped("abcdef", 3), "abc…");
    }
}
