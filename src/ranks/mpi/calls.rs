//! The calls of the MPI library, with the buffers of what is under way. One thread makes all of them.

use std::ffi::c_int;
use std::mem::{MaybeUninit, forget, take};
use std::ops::Range;
use std::sync::Arc;

use mpi::Threading;
use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::Communicator;
use mpi::traits::AsRaw;

use crate::ranks::RankError;

/// The MPI world of this process.
pub struct World {
    universe: Universe,
    pub rank: usize,
    pub size: usize,
    pub local_rank: usize,
}

/// A message that was found, and not yet received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub from: usize,
    pub bytes: usize,
}

/// The buffer of a message under way.
enum Buffer {
    /// A part of what several messages are sent from.
    Sent {
        _bytes: Arc<Vec<u8>>,
    },
    Received(Vec<u8>),
}

/// A message under way.
pub struct Transfer {
    request: ffi::MPI_Request,
    buffer: Buffer,
    done: bool,
}

impl World {
    /// Starts the library. The thread that calls this makes all later calls.
    ///
    /// # Errors
    /// The library does not start.
    pub fn start() -> Result<Self, RankError> {
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = started.ok_or_else(|| RankError::Mpi("it was started before".into()))?;
        let world = universe.world();
        // SAFETY: the handle is that of the world; an error is then returned instead of ending the process.
        check(unsafe { ffi::MPI_Comm_set_errhandler(world.as_raw(), ffi::RSMPI_ERRORS_RETURN) })?;
        let local_rank = world.split_shared(world.rank()).rank() as usize;
        Ok(World { rank: world.rank() as usize, size: world.size() as usize, local_rank, universe })
    }

    /// Ends the library, together with all other ranks.
    pub fn end(self) {
        drop(self.universe);
    }

    /// Leaves the library as it is: another rank is gone, and would be waited for.
    pub fn abandon(self) {
        forget(self.universe);
    }

    /// Starts to send a range of `bytes`.
    ///
    /// # Errors
    /// Those of the library.
    pub fn send(&self, to: usize, tag: i32, bytes: &Arc<Vec<u8>>, range: Range<usize>) -> Result<Transfer, RankError> {
        let part = &bytes[range];
        let mut request = MaybeUninit::uninit();
        // SAFETY: the transfer keeps the bytes until the library has sent them.
        check(unsafe {
            ffi::MPI_Isend(
                part.as_ptr().cast(),
                part.len() as c_int,
                ffi::RSMPI_UINT8_T,
                to as c_int,
                tag,
                ffi::RSMPI_COMM_WORLD,
                request.as_mut_ptr(),
            )
        })?;
        // SAFETY: written by the successful call.
        let request = unsafe { request.assume_init() };
        Ok(Transfer { request, buffer: Buffer::Sent { _bytes: bytes.clone() }, done: false })
    }

    /// The next message of rank `from` (`None`: of any), if one has come.
    ///
    /// # Errors
    /// Those of the library.
    pub fn probe(&self, from: Option<usize>, tag: i32) -> Result<Option<Found>, RankError> {
        let (mut found, mut status, mut bytes) = (0, MaybeUninit::uninit(), 0);
        // SAFETY: constants of the library.
        let from = from.map_or(unsafe { ffi::RSMPI_ANY_SOURCE }, |from| from as c_int);
        // SAFETY: the library writes the flag, and the status where a message was found.
        check(unsafe { ffi::MPI_Iprobe(from, tag, ffi::RSMPI_COMM_WORLD, &mut found, status.as_mut_ptr()) })?;
        if found == 0 {
            return Ok(None);
        }
        // SAFETY: written, as a message was found.
        let status: ffi::MPI_Status = unsafe { status.assume_init() };
        // SAFETY: the status is that of a message.
        check(unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut bytes) })?;
        Ok(Some(Found { from: status.MPI_SOURCE as usize, bytes: bytes as usize }))
    }

    /// Starts to receive a message that [`World::probe`] found.
    ///
    /// # Errors
    /// Those of the library.
    pub fn receive(&self, found: Found, tag: i32) -> Result<Transfer, RankError> {
        let mut bytes = vec![0; found.bytes];
        let mut request = MaybeUninit::uninit();
        // SAFETY: the transfer keeps the bytes until the library has written them; they do not move with it.
        check(unsafe {
            ffi::MPI_Irecv(
                bytes.as_mut_ptr().cast(),
                bytes.len() as c_int,
                ffi::RSMPI_UINT8_T,
                found.from as c_int,
                tag,
                ffi::RSMPI_COMM_WORLD,
                request.as_mut_ptr(),
            )
        })?;
        // SAFETY: written by the successful call.
        let request = unsafe { request.assume_init() };
        Ok(Transfer { request, buffer: Buffer::Received(bytes), done: false })
    }
}

impl Transfer {
    /// Whether it is complete.
    ///
    /// # Errors
    /// Those of the library.
    pub fn is_done(&mut self) -> Result<bool, RankError> {
        if !self.done {
            let mut done = 0;
            // SAFETY: the request is active; it is not tested again once it is done.
            check(unsafe { ffi::MPI_Test(&mut self.request, &mut done, ffi::RSMPI_STATUS_IGNORE) })?;
            self.done = done != 0;
        }
        Ok(self.done)
    }

    /// What was received, once it is complete.
    pub fn into_bytes(mut self) -> Vec<u8> {
        match &mut self.buffer {
            Buffer::Received(bytes) if self.done => take(bytes),
            _ => Vec::new(),
        }
    }
}

impl Drop for Transfer {
    /// The library may still use the buffer of a message that is not complete.
    fn drop(&mut self) {
        if !self.done {
            match &mut self.buffer {
                Buffer::Sent { _bytes } => forget(_bytes.clone()),
                Buffer::Received(bytes) => forget(take(bytes)),
            }
        }
    }
}

/// The library's answer as an error, with its text.
fn check(code: c_int) -> Result<(), RankError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let (mut text, mut length) = ([0; ffi::MPI_MAX_ERROR_STRING as usize], 0);
    // SAFETY: the library writes at most as many characters as it says its longest text has.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut length) };
    let text: Vec<u8> = text.iter().take(length.max(0) as usize).map(|c| *c as u8).collect();
    Err(RankError::Mpi(String::from_utf8_lossy(&text).into_owned()))
}
