//! Taking turns on OpenGL. wgpu holds a lock on a GL context for as long as a call takes, a long submission or a wait included,
//! and panics in every other thread that wants it for six seconds. So whatever calls wgpu, and whatever drops an object of a
//! device, first waits here, for as long as it takes.
//!
//! One lock serves all GL devices of the process: they share one display, and one GPU or one set of cores.

#[cfg(not(target_arch = "wasm32"))]
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

/// How threads share a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// One thread at a time.
    Taken,
    /// As they like: every interface but OpenGL, and dry runs.
    Free,
}

/// MemoryUsage while a thread has its turn. It may take another turn within.
#[cfg(not(target_arch = "wasm32"))]
pub(super) struct Turn {
    _lock: Option<ReentrantMutexGuard<'static, ()>>,
}

/// A page has one thread and no OpenGL.
#[cfg(target_arch = "wasm32")]
pub(super) struct Turn;

impl Turns {
    pub(super) fn of(backend: wgpu::Backend) -> Self {
        if backend == wgpu::Backend::Gl { Turns::Taken } else { Turns::Free }
    }

    /// Waits for this thread's turn.
    #[must_use]
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn wait(self) -> Turn {
        static LOCK: ReentrantMutex<()> = ReentrantMutex::new(());
        Turn { _lock: (self == Turns::Taken).then(|| LOCK.lock()) }
    }

    #[must_use]
    #[cfg(target_arch = "wasm32")]
    pub(super) fn wait(self) -> Turn {
        Turn
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn a_turn_excludes_other_threads_and_not_its_own() {
        let outer = Turns::Taken.wait();
        let inner = Turns::Taken.wait();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            drop(Turns::Free.wait());
            sender.send("free").unwrap();
            drop(Turns::Taken.wait());
            sender.send("taken").unwrap();
        });
        assert_eq!(receiver.recv().unwrap(), "free");
        drop(inner);
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "one thread at a time");
        drop(outer);
        assert_eq!(receiver.recv().unwrap(), "taken");
        other.join().unwrap();
    }
}
