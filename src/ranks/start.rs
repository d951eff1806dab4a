//! The ranks that this process was started as.

use super::{RankError, Ranks};

/// Variables in which launchers tell a process how many they start: OpenMPI's mpirun, MPICH's and Intel's, and those that speak
/// PMIx, as Slurm's srun.
const WORLD_SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"];
#[cfg(feature = "mpi")]
const PMIX_RANK: &str = "PMIX_RANK";

impl Ranks {
    /// The ranks that a launcher started, as the environment `env` tells; else one that works alone.
    ///
    /// # Errors
    /// Several processes, and a build without the cargo feature `mpi`; an MPI library that does not start.
    #[cfg(feature = "mpi")]
    pub fn started(env: &[(String, String)]) -> Result<Self, RankError> {
        let has_launcher = env.iter().any(|(name, _)| WORLD_SIZES.contains(&name.as_str()) || name == PMIX_RANK);
        if has_launcher { super::mpi::start() } else { Ok(Ranks::alone()) }
    }

    /// One rank that works alone: this build has no other.
    ///
    /// # Errors
    /// A launcher started several processes, as the environment `env` tells.
    #[cfg(not(feature = "mpi"))]
    pub fn started(env: &[(String, String)]) -> Result<Self, RankError> {
        let world = env.iter().find(|(name, size)| WORLD_SIZES.contains(&name.as_str()) && size != "1");
        world.map_or(Ok(Ranks::alone()), |(_, size)| Err(RankError::Unsupported(size.clone())))
    }
}
