//! One thread at a time on OpenGL. wgpu locks a GL context during each call, which may be a long submission or a wait, and
//! panics in every other thread that needs the context and waits for six seconds. So every call of wgpu, and every drop of an
//! object of a device, takes this lock first, which waits as long as necessary.
//!
//! One lock serves all GL devices of the process: they share one display, and one GPU or one set of cores.

#[cfg(not(target_arch = "wasm32"))]
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

/// Which threads may use a device at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    OneThread,
    /// Every interface except OpenGL, and dry runs.
    AnyThread,
}

/// The right to use a device, until dropped. A thread that holds it may take it again.
#[cfg(not(target_arch = "wasm32"))]
pub(super) struct DeviceLock {
    _lock: Option<ReentrantMutexGuard<'static, ()>>,
}

/// A page has one thread and no OpenGL.
#[cfg(target_arch = "wasm32")]
pub(super) struct DeviceLock;

impl Access {
    pub(super) fn of(backend: wgpu::Backend) -> Self {
        if backend == wgpu::Backend::Gl { Access::OneThread } else { Access::AnyThread }
    }

    /// Waits until this thread may use the device.
    #[must_use]
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn lock(self) -> DeviceLock {
        static LOCK: ReentrantMutex<()> = ReentrantMutex::new(());
        DeviceLock { _lock: (self == Access::OneThread).then(|| LOCK.lock()) }
    }

    #[must_use]
    #[cfg(target_arch = "wasm32")]
    pub(super) fn lock(self) -> DeviceLock {
        DeviceLock
    }
}

#[cfg(test)]
mod tests {
    use super::Access;

    #[test]
    fn the_lock_excludes_other_threads_and_not_its_own() {
        let outer = Access::OneThread.lock();
        let inner = Access::OneThread.lock();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            drop(Access::AnyThread.lock());
            sender.send("any thread").unwrap();
            drop(Access::OneThread.lock());
            sender.send("one thread").unwrap();
        });
        assert_eq!(receiver.recv().unwrap(), "any thread");
        drop(inner);
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "one thread at a time");
        drop(outer);
        assert_eq!(receiver.recv().unwrap(), "one thread");
        other.join().unwrap();
    }
}
