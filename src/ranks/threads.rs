//! Ranks in threads of one process, for tests: a queue of messages for each pair of ranks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Link, RankError, Ranks};

/// What the ranks share.
#[derive(Default)]
struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Messages on their way, by sender and receiver.
    messages: HashMap<(usize, usize), VecDeque<Vec<u8>>>,
    /// Why each rank that failed did so.
    failures: Vec<(usize, String)>,
    /// Ranks that wait for nothing any more: they failed, were told of a failure, or have left.
    stopped: Vec<bool>,
}

struct ThreadLink {
    rank: usize,
    hub: Arc<Hub>,
}

/// `size` ranks, one for each thread.
pub fn ranks(size: usize) -> Vec<Ranks> {
    let hub = Arc::new(Hub::default());
    hub.lock().stopped = vec![false; size];
    (0..size).map(|rank| Ranks::linked(rank, size, rank, Arc::new(ThreadLink { rank, hub: hub.clone() }))).collect()
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadLink {
    /// The failure of another rank; then this one counts as stopped.
    fn check(&self, state: &mut State) -> Result<(), RankError> {
        let Some((rank, message)) = state.failures.iter().find(|(rank, _)| *rank != self.rank).cloned() else { return Ok(()) };
        state.stopped[self.rank] = true;
        self.hub.changed.notify_all();
        Err(RankError::Failed { rank, message })
    }
}

impl Drop for ThreadLink {
    /// A thread that panics counts as a rank that failed.
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.stopped[self.rank] = true;
        if std::thread::panicking() {
            state.failures.push((self.rank, "its thread panicked".into()));
        }
        self.hub.changed.notify_all();
    }
}

impl Link for ThreadLink {
    fn send(&self, to: usize, bytes: Vec<u8>) -> Result<(), RankError> {
        let mut state = self.hub.lock();
        self.check(&mut state)?;
        state.messages.entry((self.rank, to)).or_default().push_back(bytes);
        self.hub.changed.notify_all();
        Ok(())
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>, RankError> {
        let mut state = self.hub.lock();
        loop {
            // What came before a failure still counts.
            if let Some(message) = state.messages.get_mut(&(from, self.rank)).and_then(VecDeque::pop_front) {
                return Ok(message);
            }
            self.check(&mut state)?;
            state = self.hub.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fail(&self, message: &str) -> bool {
        let mut state = self.hub.lock();
        state.failures.push((self.rank, message.into()));
        state.stopped[self.rank] = true;
        self.hub.changed.notify_all();
        while !state.stopped.iter().all(|stopped| *stopped) {
            state = self.hub.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failures.iter().all(|(rank, _)| *rank >= self.rank)
    }

    fn leave(&self) -> Result<(), RankError> {
        let mut state = self.hub.lock();
        self.check(&mut state)?;
        state.stopped[self.rank] = true;
        self.hub.changed.notify_all();
        Ok(())
    }
}
