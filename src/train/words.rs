//! Enums whose values are words: in the config file, in the environment, in flags and in what is written.

/// Declares an enum with the word of each value. The words are listed once, here: serde, [`std::fmt::Display`] and the table of
/// settings read them.
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

            /// The value of this word.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}
