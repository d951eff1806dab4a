//! Text of files and names on a terminal.

use std::borrow::Cow;

/// The text with everything that would steer a terminal written as `\u001b`: control characters but for the line's end and the
/// tab, and marks that turn the direction of writing. JSON and TOML read that form back as the same character.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            shown += &format!("\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn steers(c: char) -> bool {
    let breaks = matches!(c, '\n' | '\t');
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    (c.is_control() && !breaks) || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelt_out() {
        assert!(matches!(printable("a\tb\nnaïve 日本 👩‍👩‍👧"), Cow::Borrowed(_)));
        let cases = [
            ("\u{1b}[31mred", "\\u001b[31mred"),
            ("a\rb\u{8}\u{7f}\0", "a\\u000db\\u0008\\u007f\\u0000"),
            ("\u{9b}2J \u{202e}gpj", "\\u009b2J \\u202egpj"),
            ("\u{2066}x\u{2069}", "\\u2066x\\u2069"),
        ];
        for (text, shown) in cases {
            assert_eq!(printable(text), shown);
        }
    }
}
