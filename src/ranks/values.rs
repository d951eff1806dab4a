//! Values as messages, in JSON: every number keeps its bits.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{RankError, Ranks};

/// A value as a message.
///
/// # Errors
/// A value that JSON does not have.
pub fn to_message(value: &impl Serialize) -> Result<Vec<u8>, RankError> {
    serde_json::to_vec(value).map_err(|e| RankError::Unsendable(e.to_string()))
}

/// The value of a message of rank `rank`.
///
/// # Errors
/// It holds something else.
pub fn from_message<T: DeserializeOwned>(rank: usize, message: &[u8]) -> Result<T, RankError> {
    serde_json::from_slice(message).map_err(|e| RankError::Unreadable { rank, found: e.to_string() })
}

impl Ranks {
    /// The value that rank 0 gives. What the others give is ignored.
    ///
    /// # Errors
    /// A rank has failed; a value that is no message.
    pub fn broadcast_value<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T, RankError> {
        match (self.size(), self.is_first()) {
            (1, _) => Ok(own),
            (_, true) => self.broadcast(to_message(&own)?).map(|_| own),
            (_, false) => from_message(0, &self.broadcast(Vec::new())?),
        }
    }

    /// The value that every rank gives, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Ranks::broadcast_value`].
    pub fn all_gather_values<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>, RankError> {
        if self.size() == 1 {
            return Ok(vec![own]);
        }
        let all = self.all_gather(to_message(&own)?)?;
        all.iter().enumerate().map(|(rank, message)| from_message(rank, message)).collect()
    }
}
