//! Words in files and messages: enums whose values are words in the config file, in the environment and in flags, and counts with
//! their noun.

/// A count with its noun for a message: `1 row`, `2 rows`. The noun takes a plain s.
pub fn count(n: impl Into<Count>, noun: &str) -> String {
    let Count(n) = n.into();
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// What [`count`] takes.
pub struct Count(u64);

impl From<u64> for Count {
    fn from(n: u64) -> Self {
        Count(n)
    }
}

impl From<usize> for Count {
    fn from(n: usize) -> Self {
        Count(n as u64)
    }
}

/// A word that means none of the values of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {}", expected.join(", "))]
pub struct UnknownWord {
    found: String,
    expected: &'static [&'static str],
}

impl UnknownWord {
    /// `found` where one of `expected` was wanted.
    pub(crate) fn new(found: &str, expected: &'static [&'static str]) -> Self {
        UnknownWord { found: found.into(), expected }
    }
}

/// Declares an enum with the word of each value. The words are listed once, here: serde, [`std::fmt::Display`],
/// [`std::str::FromStr`] and the table of settings read them.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`.")] $(#[$doc])* #[serde(rename = $word)] $value,)+
        }

        impl $name {
            /// All values, in the order in which messages list them.
            pub const ALL: &'static [$name] = &[$($name::$value,)+];
            /// Their words, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The word of this value.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$value => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            /// # Errors
            /// A word that means none of the values.
            fn from_str(word: &str) -> std::result::Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|value| value.word() == word);
                known.ok_or_else(|| $crate::words::UnknownWord::new(word, Self::WORDS))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::UnknownWord;

    words! {
        /// For the test.
        pub enum Colour {
            Red = "red",
            /// As the sky.
            Blue = "sky-blue",
        }
    }

    #[test]
    fn a_count_and_its_noun() {
        let found = [0_usize, 1, 2].map(|n| super::count(n, "bad row"));
        assert_eq!(found, ["0 bad rows", "1 bad row", "2 bad rows"]);
    }

    #[test]
    fn a_word_and_its_value() {
        for (value, word) in Colour::ALL.iter().zip(Colour::WORDS) {
            assert_eq!((value.to_string().as_str(), word.parse()), (*word, Ok(*value)));
            assert_eq!(serde_json::to_value(value).unwrap(), *word);
            assert_eq!(serde_json::from_value::<Colour>((*word).into()).unwrap(), *value);
        }
        let unknown: Result<Colour, UnknownWord> = "Red".parse();
        assert_eq!(unknown.unwrap_err().to_string(), "`Red` is none of red, sky-blue");
    }
}
