//! The thread that makes all calls of the MPI library: it sends, receives, tells of failures and listens to its neighbour, also
//! while the rank computes. It sleeps between two looks, longer where nothing is under way.
//!
//! ```text
//! data      messages, in pieces; one shorter than a piece is the last of its message
//! control   beat: this rank lives (every few seconds, to the next rank) | failed: why a rank fails | stopped: a rank was told
//! ```
//!
//! A rank that is gone is missed by the next one, which tells all others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::calls::{Transfer, World};
use crate::ranks::RankError;

/// Bytes of the largest message of the library: it counts them in 31 bits.
pub const PIECE: usize = 16 << 20;

const DATA: i32 = 1;
const CONTROL: i32 = 2;

const BEAT: u8 = 0;
const FAILED: u8 = 1;
const STOPPED: u8 = 2;

/// Time between two beats.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A rank that has not been heard for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(25);
/// A pause of this thread after which it may be that only it was stopped, and not its neighbour.
const OWN_PAUSE: Duration = Duration::from_secs(5);
/// How long a rank that fails waits for the others to stop: they may be writing a checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// How long the last messages of a rank that was told may take.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Looks that follow each other at once, before the thread begins to sleep between them.
const QUICK_LOOKS: u32 = 100;
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);
/// Between two looks while a message is awaited.
const LONGEST_SLEEP: Duration = Duration::from_millis(1);
/// Between two looks while nothing is.
const IDLE_SLEEP: Duration = Duration::from_millis(50);

/// What the rank asks of its courier.
pub enum Command {
    Send { to: usize, bytes: Vec<u8>, answer: Sender<Result<(), RankError>> },
    Receive { from: usize, answer: Sender<Result<Vec<u8>, RankError>> },
    Fail { message: String, answer: Sender<bool> },
    Leave { answer: Sender<Result<(), RankError>> },
}

/// A message that the rank waits for, and what has come of it.
struct Awaited {
    from: usize,
    bytes: Vec<u8>,
    transfer: Option<Transfer>,
    answer: Sender<Result<Vec<u8>, RankError>>,
}

pub struct Courier {
    world: World,
    commands: Receiver<Command>,
    outgoing: VecDeque<Transfer>,
    awaited: Option<Awaited>,
    /// A control message that is being received, and from whom.
    control: Option<(usize, Transfer)>,
    /// Why the work ends.
    failure: Option<RankError>,
    /// Ranks that failed or were told of a failure.
    stopped: Vec<bool>,
    /// The lowest rank that said why it fails.
    lowest_failed: Option<usize>,
    /// The caller of `fail`, and until when it waits for the others.
    failing: Option<(Sender<bool>, Instant)>,
    leaving: Option<Sender<Result<(), RankError>>>,
    beat_at: Instant,
    heard: Instant,
    looked: Instant,
}

impl Courier {
    pub fn new(world: World, commands: Receiver<Command>) -> Self {
        let (now, size) = (Instant::now(), world.size);
        Courier {
            world,
            commands,
            outgoing: VecDeque::new(),
            awaited: None,
            control: None,
            failure: None,
            stopped: vec![false; size],
            lowest_failed: None,
            failing: None,
            leaving: None,
            beat_at: now,
            heard: now,
            looked: now,
        }
    }

    /// Works until the rank leaves, or the process ends.
    pub fn run(mut self) {
        let mut looks = 0;
        loop {
            let worked = match self.look() {
                Ok(worked) => worked,
                Err(error) => {
                    self.give_up(error);
                    false
                }
            };
            looks = if worked { 0 } else { looks + 1 };
            self.answer_failing();
            if let Some(answer) = self.leaving.take_if(|_| self.outgoing.is_empty() || self.failure.is_some()) {
                match self.failure.clone() {
                    None => self.world.end(),
                    Some(_) => self.world.abandon(),
                }
                let _ = answer.send(self.failure.map_or(Ok(()), Err)); // the rank may have ended
                return;
            }
            match self.next_command(looks) {
                Ok(Some(command)) => {
                    looks = 0;
                    self.obey(command);
                }
                Ok(None) => {}
                // The rank has ended without leaving: the process is about to end.
                Err(()) => return self.world.abandon(),
            }
        }
    }

    /// Waits for a command, as long as nothing needs another look.
    fn next_command(&self, looks: u32) -> Result<Option<Command>, ()> {
        let busy = self.awaited.is_some() || !self.outgoing.is_empty() || self.control.is_some() || self.failing.is_some();
        let sleep = match looks.checked_sub(QUICK_LOOKS) {
            _ if !busy => IDLE_SLEEP,
            None => Duration::ZERO,
            Some(looks) => LONGEST_SLEEP.min(SHORTEST_SLEEP * 2u32.pow(looks.min(8))),
        };
        match self.commands.recv_timeout(sleep) {
            Ok(command) => Ok(Some(command)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn obey(&mut self, command: Command) {
        // The rank may have ended and hear no answer.
        match command {
            Command::Send { to, bytes, answer } => {
                let sent = self.told().and_then(|()| self.send(to, DATA, bytes));
                let _ = answer.send(sent);
            }
            Command::Receive { from, answer } => {
                self.awaited = Some(Awaited { from, bytes: Vec::new(), transfer: None, answer });
            }
            Command::Fail { message, answer } => {
                let rank = self.world.rank;
                if !self.stopped[rank] {
                    self.tell_all(rank, &message);
                }
                self.failure.get_or_insert(RankError::Failed { rank, message });
                self.failing = Some((answer, Instant::now() + STOP_WITHIN));
            }
            Command::Leave { answer } => self.leaving = Some(answer),
        }
    }

    /// One look at all that is under way; true if something moved.
    fn look(&mut self) -> Result<bool, RankError> {
        let now = Instant::now();
        if now - self.looked > OWN_PAUSE {
            self.heard = now;
        }
        self.looked = now;
        let mut worked = self.look_for_control()?;
        worked |= self.beat(now)?;
        let under_way = self.outgoing.len();
        let mut rest = VecDeque::new();
        for mut transfer in std::mem::take(&mut self.outgoing) {
            if !transfer.is_done()? {
                rest.push_back(transfer);
            }
        }
        self.outgoing = rest;
        worked |= self.outgoing.len() < under_way;
        worked |= self.look_for_data()?;
        Ok(worked)
    }

    /// Lets a rank that fails end, once all others have stopped.
    fn answer_failing(&mut self) {
        let (now, all_stopped) = (Instant::now(), self.stopped.iter().all(|stopped| *stopped));
        if let Some((answer, _)) = self.failing.take_if(|(_, until)| all_stopped || now > *until) {
            let _ = answer.send(self.lowest_failed.is_none_or(|lowest| lowest >= self.world.rank));
        }
    }

    fn look_for_data(&mut self) -> Result<bool, RankError> {
        let Some(mut awaited) = self.awaited.take() else { return Ok(false) };
        let mut worked = false;
        if awaited.transfer.is_none() {
            let found = self.world.probe(Some(awaited.from), DATA);
            let started = found.and_then(|found| found.map(|found| self.world.receive(found, DATA)).transpose());
            match started {
                Ok(transfer) => awaited.transfer = transfer,
                Err(error) => {
                    self.awaited = Some(awaited);
                    return Err(error);
                }
            }
            worked = awaited.transfer.is_some();
        }
        let done = awaited.transfer.as_mut().map(Transfer::is_done).transpose();
        match done {
            Ok(Some(true)) => {
                let piece = awaited.transfer.take().map(Transfer::into_bytes).unwrap_or_default();
                let is_last = piece.len() < PIECE;
                if awaited.bytes.is_empty() {
                    awaited.bytes = piece;
                } else {
                    awaited.bytes.extend(piece);
                }
                if is_last {
                    let _ = awaited.answer.send(Ok(awaited.bytes));
                } else {
                    self.awaited = Some(awaited);
                }
                Ok(true)
            }
            // What came before a failure still counts.
            Ok(_) if self.failure.is_some() && !worked => {
                let _ = awaited.answer.send(self.told().map(|()| Vec::new()));
                Ok(true)
            }
            Ok(_) => {
                self.awaited = Some(awaited);
                Ok(worked)
            }
            Err(error) => {
                self.awaited = Some(awaited);
                Err(error)
            }
        }
    }

    fn look_for_control(&mut self) -> Result<bool, RankError> {
        if self.control.is_none() {
            let Some(found) = self.world.probe(None, CONTROL)? else { return Ok(false) };
            self.control = Some((found.from, self.world.receive(found, CONTROL)?));
        }
        let Some((from, mut transfer)) = self.control.take() else { return Ok(false) };
        if !transfer.is_done()? {
            self.control = Some((from, transfer));
            return Ok(false);
        }
        let bytes = transfer.into_bytes();
        match bytes.split_first() {
            Some((&BEAT, _)) => self.heard = Instant::now(),
            Some((&STOPPED, _)) => self.stopped[from] = true,
            Some((&FAILED, rest)) => {
                let (rank, message) = rest.split_first_chunk().unwrap_or((&[0; 4], rest));
                let (rank, message) = (u32::from_le_bytes(*rank) as usize, String::from_utf8_lossy(message).into_owned());
                self.stopped[from] = true;
                if let Some(gone) = self.stopped.get_mut(rank) {
                    *gone = true;
                }
                self.lowest_failed = Some(self.lowest_failed.map_or(from, |lowest| lowest.min(from)));
                self.failure.get_or_insert(RankError::Failed { rank, message });
            }
            _ => {}
        }
        Ok(true)
    }

    /// Tells the next rank that this one lives, and misses the one before.
    fn beat(&mut self, now: Instant) -> Result<bool, RankError> {
        let size = self.world.size;
        if size == 1 || self.failure.is_some() || self.leaving.is_some() {
            return Ok(false);
        }
        let before = (self.world.rank + size - 1) % size;
        if now - self.heard > GONE_AFTER {
            return Err(RankError::Gone { rank: before, seconds: GONE_AFTER.as_secs() });
        }
        if now < self.beat_at {
            return Ok(false);
        }
        self.beat_at = now + BEAT_EVERY;
        self.send((self.world.rank + 1) % size, CONTROL, vec![BEAT])?;
        Ok(false)
    }

    /// The failure of another rank. The others learn that this one has been told.
    fn told(&mut self) -> Result<(), RankError> {
        let Some(failure) = self.failure.clone() else { return Ok(()) };
        if failure.is_told() && !self.stopped[self.world.rank] {
            self.stopped[self.world.rank] = true;
            self.tell(&[STOPPED]);
            let until = Instant::now() + FLUSH_WITHIN;
            while Instant::now() < until && self.outgoing.iter_mut().any(|transfer| !transfer.is_done().unwrap_or(true)) {
                std::thread::sleep(LONGEST_SLEEP);
            }
        }
        Err(failure)
    }

    /// The work ends by an error that this rank found.
    fn give_up(&mut self, error: RankError) {
        match &error {
            // What fails after a failure is a consequence, as a message to a rank that has ended.
            _ if self.failure.is_some() => self.outgoing.clear(),
            RankError::Gone { rank, seconds } => {
                self.stopped[*rank] = true;
                self.tell_all(*rank, &format!("not heard of for {seconds} s"));
            }
            error => self.tell_all(self.world.rank, &error.to_string()),
        }
        self.failure.get_or_insert(error);
        if let Some(awaited) = self.awaited.take() {
            let _ = awaited.answer.send(self.told().map(|()| Vec::new()));
        }
    }

    /// Tells all other ranks why `rank` fails.
    fn tell_all(&mut self, rank: usize, message: &str) {
        self.stopped[self.world.rank] = true;
        let message: String = message.chars().take(PIECE / 8).collect();
        self.tell(&[&[FAILED], &(rank as u32).to_le_bytes()[..], message.as_bytes()].concat());
    }

    /// Sends a control message to all other ranks. Those that cannot be reached are gone.
    fn tell(&mut self, message: &[u8]) {
        let own = self.world.rank;
        for rank in (0..self.world.size).filter(|rank| *rank != own) {
            if self.send(rank, CONTROL, message.to_vec()).is_err() {
                self.stopped[rank] = true;
            }
        }
    }

    fn send(&mut self, to: usize, tag: i32, bytes: Vec<u8>) -> Result<(), RankError> {
        let (bytes, mut start) = (Arc::new(bytes), 0);
        loop {
            let end = bytes.len().min(start + PIECE);
            self.outgoing.push_back(self.world.send(to, tag, &bytes, start..end)?);
            if end - start < PIECE {
                return Ok(());
            }
            start = end;
        }
    }
}
