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

/// The text, without the middle of a long one: its beginning names the thing, its end says what to do.
pub fn shortened(text: &str) -> Cow<'_, str> {
    const BEGINNING: usize = 1300;
    const END: usize = 500;
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let length = text.chars().count();
    if length <= BEGINNING + END {
        return Cow::Borrowed(text);
    }
    let left_out = length - BEGINNING - END;
    Cow::Owned(format!("{} … ({left_out} characters left out) … {}", &text[..at(BEGINNING)], &text[at(length - END)..]))
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
    fn long_texts_lose_their_middle() {
        assert!(matches!(shortened("short"), Cow::Borrowed(_)));
        let long = format!("{}{}", "é".repeat(1300), "ü".repeat(100_000));
        let shown = shortened(&long);
        assert!(shown.starts_with("éé") && shown.ends_with("üü") && shown.contains("é … (99500 characters left out) … ü"));
    }

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
