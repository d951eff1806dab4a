//! Settings that are one of a few words, where no other room has a type for them.

use serde::{Deserialize, Serialize};

use crate::judge::Choice;
use crate::ops::weight_dtype::WeightDtype;

words! {
    /// Where the policy-gradient settings come from that are not given.
    #[derive(Default)]
    pub enum Preset {
        /// The gradient of the objective itself.
        #[default]
        Exact = "exact",
        /// The stabilised estimator of the paper.
        Paper = "paper",
        /// The scripts as released.
        ReleasedCode = "released-code",
    }
}

words! {
    /// Whether prompts are wrapped in the model's chat template.
    pub enum Chat {
        /// Where the model has one.
        Auto = "auto",
        Always = "always",
        Never = "never",
    }
}

impl From<Chat> for Choice<bool> {
    fn from(chat: Chat) -> Self {
        match chat {
            Chat::Auto => Choice::Auto,
            Chat::Always => Choice::Is(true),
            Chat::Never => Choice::Is(false),
        }
    }
}

words! {
    /// The number format of saved weights, as `config.json` names it.
    pub enum SaveDtype {
        Float32 = "float32",
        Bfloat16 = "bfloat16",
        Float16 = "float16",
    }
}

impl From<SaveDtype> for WeightDtype {
    fn from(dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::Float32 => WeightDtype::F32,
            SaveDtype::Bfloat16 => WeightDtype::Bf16,
            SaveDtype::Float16 => WeightDtype::F16,
        }
    }
}

words! {
    /// The number by which checkpoints are compared.
    #[derive(Default)]
    pub enum BestMetric {
        #[default]
        Loss = "loss",
        Pearson = "pearson",
        Spearman = "spearman",
        Kendall = "kendall",
        Rmse = "rmse",
        Mae = "mae",
    }
}

impl BestMetric {
    /// True when a larger one is better.
    pub fn greater_is_better(self) -> bool {
        match self {
            BestMetric::Pearson | BestMetric::Spearman | BestMetric::Kendall => true,
            BestMetric::Loss | BestMetric::Rmse | BestMetric::Mae => false,
        }
    }
}

/// Where the chains of the rows are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ChainColumn {
    /// `auto`: in a column of one of the known names.
    #[default]
    Auto,
    /// `none`: they are ignored.
    Ignored,
    /// In the column of this name.
    Named(String),
}

impl From<String> for ChainColumn {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => ChainColumn::Auto,
            "none" => ChainColumn::Ignored,
            _ => ChainColumn::Named(text),
        }
    }
}

impl From<ChainColumn> for String {
    fn from(column: ChainColumn) -> Self {
        match column {
            ChainColumn::Auto => "auto".into(),
            ChainColumn::Ignored => "none".into(),
            ChainColumn::Named(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{CHAT_WORDS, Expectation, ScoreReads};
    use crate::model::weight_policy::WeightPolicy;

    /// The words of other rooms' types are those that serde reads and writes.
    #[test]
    fn words_are_what_serde_reads() {
        fn held<T: Serialize + for<'a> Deserialize<'a>>(words: &[&str]) {
            for word in words {
                let value: T = serde_json::from_value((*word).into()).unwrap_or_else(|e| panic!("{word}: {e}"));
                assert_eq!(serde_json::to_value(value).unwrap(), *word);
            }
            assert!(serde_json::from_value::<T>("nonsense".into()).is_err());
        }
        held::<Expectation>(Expectation::WORDS);
        held::<ScoreReads>(ScoreReads::WORDS);
        held::<SaveDtype>(SaveDtype::WORDS);
        held::<WeightPolicy>(WeightPolicy::WORDS);
        held::<Chat>(Chat::WORDS);
        assert_eq!(Chat::WORDS, CHAT_WORDS);
        let choices = Chat::ALL.iter().map(|chat| Some(Choice::from(*chat)));
        assert!(choices.eq(CHAT_WORDS.map(Choice::<bool>::named)));
    }

    #[test]
    fn a_column_may_have_any_name() {
        for (text, column) in
            [("auto", ChainColumn::Auto), ("none", ChainColumn::Ignored), ("None", ChainColumn::Named("None".into()))]
        {
            assert_eq!(ChainColumn::from(text.to_string()), column);
            assert_eq!(String::from(column), text);
        }
    }
}
