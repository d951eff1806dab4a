//! Settings whose values are words, if no other module has a type for them.

use serde::{Deserialize, Serialize};

use crate::judge::Choice;
use crate::ops::weight_dtype::WeightDtype;

words! {
    /// The values of policy-gradient settings that are not given.
    #[derive(Default)]
    pub enum Preset {
        /// The exact gradient of the objective.
        #[default]
        Exact = "exact",
        /// The stabilised estimator of the paper.
        Paper = "paper",
        /// The released scripts.
        ReleasedCode = "released-code",
    }
}

words! {
    /// Whether prompts are wrapped in the model's chat template.
    pub enum Chat {
        /// If the model has one.
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
    /// The order in which the gradients of a step's batches are added.
    #[derive(Default)]
    pub enum GradientSum {
        /// One binary tree, whoever computes them: the bytes are those of one process on any number of ranks. The tree needs room.
        #[default]
        Tree = "tree",
        /// Each rank adds its own as they come.
        Running = "running",
    }
}

words! {
    /// The dtype in which gradients travel between ranks.
    #[derive(Default)]
    pub enum GradientTransfer {
        #[default]
        F32 = "f32",
        /// Half the bytes. What arrives is rounded, so the result depends on the number of ranks.
        Bf16 = "bf16",
    }
}

words! {
    /// Programs that a run writes its log for, beside `metrics.jsonl`.
    #[derive(Default)]
    pub enum ReportTo {
        #[default]
        None = "none",
        /// TensorBoard's event files.
        Tensorboard = "tensorboard",
    }
}

words! {
    /// The metric that decides which checkpoint is the best.
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
    /// True if larger is better.
    pub fn greater_is_better(self) -> bool {
        match self {
            BestMetric::Pearson | BestMetric::Spearman | BestMetric::Kendall => true,
            BestMetric::Loss | BestMetric::Rmse | BestMetric::Mae => false,
        }
    }
}

/// The column with the rows' chains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ChainColumn {
    /// `auto`: a column with one of the known names.
    #[default]
    Auto,
    /// `none`: the chains are ignored.
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

    /// The `WORDS` of these types are those that serde reads and writes.
    #[test]
    fn words_are_what_serde_reads() {
        fn check<T: Serialize + for<'a> Deserialize<'a>>(words: &[&str]) {
            for word in words {
                let value: T = serde_json::from_value((*word).into()).unwrap_or_else(|e| panic!("{word}: {e}"));
                assert_eq!(serde_json::to_value(value).unwrap(), *word);
            }
            assert!(serde_json::from_value::<T>("nonsense".into()).is_err());
        }
        check::<Expectation>(Expectation::WORDS);
        check::<ScoreReads>(ScoreReads::WORDS);
        check::<SaveDtype>(SaveDtype::WORDS);
        check::<WeightPolicy>(WeightPolicy::WORDS);
        check::<Chat>(Chat::WORDS);
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
