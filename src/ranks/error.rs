//! The errors of working in several ranks.

/// What ends the work of all ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// Another rank failed. It has told the user.
    #[error("rank {rank}: {message}")]
    Failed { rank: usize, message: String },

    /// Another rank is gone: its process was killed, its machine is off, or the network between is down.
    #[error("rank {rank} has not answered for {seconds} s: its process or its machine is gone; continue with --resume")]
    Gone { rank: usize, seconds: u64 },

    /// Something that must be the same on all ranks.
    #[error("{what} differs between the ranks: {found} on rank {rank}, and {first} on rank 0")]
    Differs { rank: usize, what: String, found: String, first: String },

    /// A message that does not hold the value it should.
    #[error("what rank {rank} sent cannot be read: {found}")]
    Unreadable { rank: usize, found: String },

    /// A value that cannot be a message.
    #[error("a value cannot be sent to other ranks: {0}")]
    Unsendable(String),

    /// An error of the MPI library.
    #[error("MPI: {0}")]
    Mpi(String),

    /// Started as one of several processes, in a build that knows no ranks.
    #[error("this build works alone, and {0} processes were started: build with --features mpi, or start one")]
    Unsupported(String),

    /// A message of a rank that works alone.
    #[error("there is no other rank")]
    Alone,
}

impl RankError {
    /// Whether another rank has told the user.
    pub fn is_told(&self) -> bool {
        matches!(self, RankError::Failed { .. })
    }
}
