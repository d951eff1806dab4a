//! Ranks that an MPI launcher started: mpirun or srun, with OpenMPI, MPICH or another MPI library.

mod calls;
mod courier;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::{Link, RankError, Ranks};
use calls::World;
use courier::{Command, Courier};

/// Messages by way of a thread of their own: see [`courier`].
struct MpiLink {
    commands: Sender<Command>,
    courier: Mutex<Option<JoinHandle<()>>>,
}

/// The ranks of the MPI world.
///
/// # Errors
/// The library does not start.
pub fn start() -> Result<Ranks, RankError> {
    let (commands, received) = channel();
    let (answer, started) = channel();
    let run = move || match World::start() {
        Ok(world) => {
            let place = (world.rank, world.size, world.local_rank);
            if answer.send(Ok(place)).is_ok() {
                Courier::new(world, received).run();
            }
        }
        Err(error) => {
            let _ = answer.send(Err(error)); // nobody is left to hear it
        }
    };
    let courier = Builder::new().name("mpi".into()).spawn(run).map_err(|e| RankError::Mpi(e.to_string()))?;
    let (rank, size, local_rank) = started.recv().map_err(|_| ended())??;
    Ok(Ranks::linked(rank, size, local_rank, Arc::new(MpiLink { commands, courier: Mutex::new(Some(courier)) })))
}

/// The thread is there for as long as the link is not left.
fn ended() -> RankError {
    RankError::Mpi("the thread of messages has ended".into())
}

impl MpiLink {
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, RankError> {
        let (answer, answered): (Sender<T>, Receiver<T>) = channel();
        self.commands.send(command(answer)).map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())
    }
}

impl Link for MpiLink {
    fn send(&self, to: usize, bytes: Vec<u8>) -> Result<(), RankError> {
        self.ask(|answer| Command::Send { to, bytes, answer })?
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>, RankError> {
        self.ask(|answer| Command::Receive { from, answer })?
    }

    fn fail(&self, message: &str) -> bool {
        self.ask(|answer| Command::Fail { message: message.into(), answer }).unwrap_or(true)
    }

    fn leave(&self) -> Result<(), RankError> {
        let left = self.ask(|answer| Command::Leave { answer })?;
        if let Some(courier) = self.courier.lock().unwrap_or_else(PoisonError::into_inner).take() {
            courier.join().map_err(|_| ended())?;
        }
        left
    }
}
